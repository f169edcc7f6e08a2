"""What the report's charts draw: bars and curves thinned to what a page can hold, stops and targets while they stood."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import pairwise

import numpy as np
import polars as pl

from candlewick.candles import PRICE_COLUMNS
from candlewick.reports.numbers import money_decimals
from candlewick.reports.view import AccountView
from candlewick.timeframes import timeframe_ms

MAX_BARS = 120_000
"""Bars in one report over all symbols (about 6 MB); beyond, neighbouring bars are merged into one."""
MIN_BARS_PER_SYMBOL = 500
MAX_EQUITY_POINTS = 4_000
_MAX_PRICE_DECIMALS = 10
_MAX_PRICE_DIGITS = 9
PROTECTIVE_LEGS = ("stop", "target_1", "target_2")
_SIGNAL_COLUMNS = {"stop": "stop_loss", "target_1": "take_profit_1", "target_2": "take_profit_2"}

Int64 = np.ndarray[tuple[int], np.dtype[np.int64]]


@dataclass(frozen=True, slots=True)
class Level:
    """A stop or target of a trade while it stood; ``leg`` is one of PROTECTIVE_LEGS."""

    leg: str
    price: Decimal
    since: datetime
    until: datetime


def ms(at: datetime) -> int:
    """Milliseconds since 1970, UTC."""
    return round(at.timestamp() * 1000)


def price_decimals(candles: pl.DataFrame) -> int:
    """Decimal places the prices are quoted in: the fewest that hold them all, at least 2, at most 9 significant digits."""
    if candles.is_empty():
        return 2
    prices = candles.select(PRICE_COLUMNS).to_numpy().astype(np.float64).ravel()
    most = max(2, min(_MAX_PRICE_DECIMALS, _MAX_PRICE_DIGITS - 1 - int(np.floor(np.log10(prices.max())))))
    for decimals in range(2, most):
        scaled = prices * 10.0**decimals
        if np.all(np.abs(scaled - np.round(scaled)) < 1e-4):
            return decimals
    return most


def merge_bars(candles: pl.DataFrame, factor: int) -> pl.DataFrame:
    """Each ``factor`` neighbouring rows as one bar: first open, highest high, lowest low, last close."""
    if factor == 1:
        return candles
    groups = candles.with_columns((pl.int_range(pl.len()) // factor).alias("group")).group_by("group", maintain_order=True)
    first, last = pl.col("opened_at", "open").first(), pl.col("close").last()
    return groups.agg(first, pl.col("high").max(), pl.col("low").min(), last, pl.col("volume").sum()).drop("group")


def merge_factor(bars: int, symbols: int) -> int:
    """How many bars become one so that ``symbols`` charts of ``bars`` bars keep within MAX_BARS."""
    room = max(MIN_BARS_PER_SYMBOL, MAX_BARS // max(1, symbols))
    return -(-bars // room) or 1


def end_of(view: AccountView) -> datetime:
    """Close of the last bar the account has seen; the watermark is that bar's open."""
    return (view.watermark_at or view.anchor_at) + timedelta(milliseconds=timeframe_ms(view.timeframe))


def _with_first_stop(levels: list[Level], entry_price: Decimal, first: Decimal | None) -> list[Level]:
    """The ledger keeps a stop's last price. One that moved to the entry after the first target stood lower before."""
    stop = next((level for level in levels if level.leg == "stop" and level.price == entry_price), None)
    moved_at = next((level.until for level in levels if level.leg == "target_1"), None)
    if stop is None or moved_at is None or not stop.since < moved_at <= stop.until:
        return levels
    before = [Level("stop", first, stop.since, moved_at)] if first is not None else []
    others = [level for level in levels if level is not stop]
    return [*before, Level("stop", stop.price, moved_at, stop.until), *others]


def _stood(leg: str, prices: list[Decimal], times: list[datetime], since: datetime, until: datetime) -> list[Level]:
    """A stop that moved at ``times``, as one level a price; ``prices`` are one more than the times."""
    edges = [since, *(min(max(since, at), until) for at in times), until]
    return [Level(leg, price, a, b) for price, a, b in zip(prices, edges[:-1], edges[1:], strict=True) if a < b or not times]


def trade_levels(view: AccountView, trades: pl.DataFrame) -> list[list[Level]]:
    """Stops and targets of each trade (a row of ``pair_trades``): from its orders, else its signal, else its position."""
    if trades.is_empty():
        return []
    signals = {row["signal_id"]: row for row in view.signals.iter_rows(named=True)}
    positions = {row["symbol"]: row for row in view.positions.iter_rows(named=True)}
    signal_of: dict[str, str] = {}
    standing: dict[str, list[tuple[str, list[Decimal], list[datetime], datetime, datetime | None]]] = {}
    moves = {str(key[0]): rows for key, rows in view.stop_moves.group_by("client_order_id", maintain_order=True)}
    columns = ("client_order_id", "signal_id", "leg", "status", "price", "decided_at", "closed_at")
    for order, signal, leg, status, price, decided, ended in view.orders.select(columns).iter_rows():
        signal_of[order] = signal
        if leg in PROTECTIVE_LEGS and price is not None and status != "refused":
            own = moves.get(order)
            prices = [price] if own is None else [own["reference_price"][0], *own["price"]]
            times = [] if own is None else own["at"].to_list()
            standing.setdefault(signal, []).append((leg, prices, times, decided, ended))
    levels: list[list[Level]] = []
    for trade in trades.iter_rows(named=True):
        opened, is_open = trade["opened_at"], trade["closed_at"] is None
        closed = max(end_of(view), opened) if is_open else trade["closed_at"]
        signal = signals.get(signal_of.get(trade["entry_order"], ""))
        # The position knows where a stop stands now; an order still open may carry the price it was placed with.
        source = positions.get(trade["symbol"]) if is_open else signal
        orders = standing.get(signal_of.get(trade["entry_order"], ""), [])
        found = [
            level
            for leg, prices, times, since, until in orders
            if until is not None or not is_open or times
            for level in _stood(leg, prices, times, max(opened, since), min(closed, max(opened, until or closed)))
        ]
        moved = {leg for leg, _, times, _, _ in orders if times}
        known = {level.leg for level in found if not is_open or level.leg != "stop"} | moved
        for leg, column in _SIGNAL_COLUMNS.items():
            if source is not None and leg not in known and source[column] is not None:
                found.append(Level(leg, source[column], opened, closed))
        first = signal["stop_loss"] if signal is not None else None
        guessed = len(trade["exit_legs"]) and not moved
        levels.append(_with_first_stop(found, trade["entry_price"], first) if guessed else found)
    return levels


def kept_points(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> Int64:
    """Rows to draw of a long curve: in each of equal buckets the lowest, the highest and the last."""
    if len(values) <= MAX_EQUITY_POINTS:
        return np.arange(len(values), dtype=np.int64)
    edges = np.linspace(0, len(values), MAX_EQUITY_POINTS // 3 + 1).astype(np.int64)
    kept = {0}
    for low, high in pairwise(edges):
        kept |= {int(low + np.argmin(values[low:high])), int(low + np.argmax(values[low:high])), int(high - 1)}
    return np.array(sorted(kept), dtype=np.int64)


def equity_curve(view: AccountView) -> pl.DataFrame:
    """Columns ``at`` (ms), ``equity`` and ``drawdown`` (a share of the running peak; the initial cash is the first peak)."""
    values = view.equity["equity"].cast(pl.Float64).to_numpy()
    peaks = np.maximum(np.maximum.accumulate(values), float(view.initial_cash)) if len(values) else values
    kept = kept_points(values)
    return pl.DataFrame(
        {
            "at": view.equity["at"].dt.epoch("ms").to_numpy()[kept],
            "equity": np.round(values[kept], money_decimals(view.quote)),
            "drawdown": np.round(1 - values[kept] / peaks[kept], 5),
        }
    )
