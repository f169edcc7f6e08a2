"""What the report's charts draw, as a compact document: whole numbers, differences instead of values.

The page's script (assets/report.js) is the reader of this document; the two change together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import pairwise

import numpy as np
import polars as pl

from candlewick.candles import PRICE_COLUMNS, empty_candles, opened_at_ms
from candlewick.reports.numbers import decimals_of, format_price, format_quantity, money_decimals
from candlewick.reports.view import AccountView
from candlewick.timeframes import timeframe_ms

MAX_BARS = 250_000
"""Bars in one report over all symbols (about 5 MB); beyond, neighbouring bars are merged into one."""
MIN_BARS_PER_SYMBOL = 500
MAX_EQUITY_POINTS = 4_000
DRAWDOWN_SCALE = 100_000
_MAX_PRICE_DECIMALS = 10
_MAX_PRICE_DIGITS = 9
PROTECTIVE_LEGS = ("stop", "target_1", "target_2")
_SIGNAL_COLUMNS = {"stop": "stop_loss", "target_1": "take_profit_1", "target_2": "take_profit_2"}

Int64 = np.ndarray[tuple[int], np.dtype[np.int64]]
Document = Mapping[str, "Value"]
Value = str | int | Sequence["Value"] | Document


@dataclass(frozen=True, slots=True)
class Level:
    """A stop or target of a trade while it stood; ``leg`` is one of PROTECTIVE_LEGS."""

    leg: str
    price: Decimal
    since: datetime
    until: datetime


def _ms(at: datetime) -> int:
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


def _steps(times: Int64, step: int) -> dict[str, Value]:
    """Times as the first one and the exceptions to a regular step: pairs of row and difference."""
    if not len(times):
        return {"first": 0, "step": step, "jumps": []}
    differences = np.diff(times)
    rows = np.flatnonzero(differences != step)
    return {"first": int(times[0]), "step": step, "jumps": [[int(row) + 1, int(differences[row])] for row in rows]}


def _bars_document(candles: pl.DataFrame, decimals: int, step: int) -> dict[str, Value]:
    """Close as difference to the close before, open to that same close, wicks as lengths: small numbers, short text."""
    scaled = np.rint(candles.select(PRICE_COLUMNS).to_numpy().astype(np.float64) * 10.0**decimals).astype(np.int64)
    opens, highs, lows, closes = scaled.reshape(-1, 4).T
    before = np.concatenate([[0], closes[:-1]]) if len(closes) else closes
    return {
        "time": _steps(opened_at_ms(candles), step),
        "open": (opens - before).tolist(),
        "close": (closes - before).tolist(),
        "up": (highs - np.maximum(opens, closes)).tolist(),
        "down": (np.minimum(opens, closes) - lows).tolist(),
    }


def _end(view: AccountView) -> datetime:
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


def trade_levels(view: AccountView, trades: pl.DataFrame) -> list[list[Level]]:
    """Stops and targets of each trade (a row of ``pair_trades``): from its orders, else its signal, else its position."""
    if trades.is_empty():
        return []
    signals = {row["signal_id"]: row for row in view.signals.iter_rows(named=True)}
    positions = {row["symbol"]: row for row in view.positions.iter_rows(named=True)}
    signal_of: dict[str, str] = {}
    standing: dict[str, list[tuple[str, Decimal, datetime, datetime | None]]] = {}
    columns = ("client_order_id", "signal_id", "leg", "status", "price", "decided_at", "closed_at")
    for order, signal, leg, status, price, decided, ended in view.orders.select(columns).iter_rows():
        signal_of[order] = signal
        if leg in PROTECTIVE_LEGS and price is not None and status != "refused":
            standing.setdefault(signal, []).append((leg, price, decided, ended))
    levels: list[list[Level]] = []
    for trade in trades.iter_rows(named=True):
        opened, is_open = trade["opened_at"], trade["closed_at"] is None
        closed = max(_end(view), opened) if is_open else trade["closed_at"]
        signal = signals.get(signal_of.get(trade["entry_order"], ""))
        # The position knows where a stop stands now; an order still open may carry the price it was placed with.
        source = positions.get(trade["symbol"]) if is_open else signal
        orders = standing.get(signal_of.get(trade["entry_order"], ""), [])
        found = [
            Level(leg, price, max(opened, since), min(closed, max(opened, until or closed)))
            for leg, price, since, until in orders
            if until is not None or not is_open
        ]
        known = {level.leg for level in found if not is_open or level.leg != "stop"}
        for leg, column in _SIGNAL_COLUMNS.items():
            if source is not None and leg not in known and source[column] is not None:
                found.append(Level(leg, source[column], opened, closed))
        first = signal["stop_loss"] if signal is not None else None
        levels.append(_with_first_stop(found, trade["entry_price"], first) if len(trade["exit_legs"]) else found)
    return levels


def _fill_documents(fills: pl.DataFrame, decimals: int) -> list[Value]:
    """Per fill: time, price, leg, and the line that the reader sees."""
    documents: list[Value] = []
    for row in fills.iter_rows(named=True):
        price = format_price(row["price"], max(decimals, min(8, decimals_of(row["price"]))))
        deal = f"{row['leg'].replace('_', ' ')}: {row['side'].lower()} {format_quantity(row['quantity'])} at {price}"
        documents.append([_ms(row["bar_opened_at"]), float_text(row["price"]), row["leg"], f"{deal}, {row['reason']}"])
    return documents


def float_text(value: Decimal) -> str:
    """A decimal as JSON text without trailing zeros."""
    return format(value.normalize(), "f")


def symbol_document(
    view: AccountView, symbol: str, trades: pl.DataFrame, levels: Sequence[Sequence[Level]], factor: int
) -> Document:
    """One symbol's chart. ``trades`` are the symbol's own, ``levels`` runs parallel to their rows."""
    candles = view.candles[symbol] if symbol in view.candles else empty_candles()
    decimals = price_decimals(candles)
    end = _end(view)
    spans = trades.select("opened_at", "entry_price", pl.col("closed_at").fill_null(pl.lit(end))).iter_rows()
    return {
        "symbol": symbol,
        "decimals": decimals,
        "merged": factor,
        "bars": _bars_document(merge_bars(candles, factor), decimals, timeframe_ms(view.timeframe) * factor),
        "fills": _fill_documents(view.fills.filter(pl.col("symbol") == symbol).sort("sequence"), decimals),
        "trades": [[_ms(opened), float_text(price), _ms(closed or opened)] for opened, price, closed in spans],
        "levels": [[x.leg, float_text(x.price), _ms(x.since), _ms(x.until)] for own in levels for x in own],
    }


def _kept_points(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> Int64:
    """Rows to draw of a long curve: in each of equal buckets the lowest, the highest and the last."""
    if len(values) <= MAX_EQUITY_POINTS:
        return np.arange(len(values), dtype=np.int64)
    edges = np.linspace(0, len(values), MAX_EQUITY_POINTS // 3 + 1).astype(np.int64)
    kept = {0}
    for low, high in pairwise(edges):
        kept |= {int(low + np.argmin(values[low:high])), int(low + np.argmax(values[low:high])), int(high - 1)}
    return np.array(sorted(kept), dtype=np.int64)


def equity_document(view: AccountView) -> Document:
    """The equity curve and the drawdown below its running peak (the initial cash is the first peak)."""
    decimals = money_decimals(view.quote)
    values = view.equity["equity"].cast(pl.Float64).to_numpy()
    peaks = np.maximum(np.maximum.accumulate(values), float(view.initial_cash)) if len(values) else values
    kept = _kept_points(values)
    times = view.equity["at"].dt.epoch("ms").to_numpy()[kept]
    scaled = np.rint(values[kept] * 10**decimals).astype(np.int64)
    return {
        "time": _steps(times, timeframe_ms(view.timeframe)),
        "decimals": decimals,
        "initial": float_text(view.initial_cash),
        "value": np.diff(scaled, prepend=0).tolist(),
        "drawdown": np.rint((1 - values[kept] / peaks[kept]) * DRAWDOWN_SCALE).astype(np.int64).tolist(),
    }


def chart_document(view: AccountView, trades: pl.DataFrame) -> Document:
    """Everything the page's script draws. ``trades`` is ``pair_trades`` of the view's fills."""
    levels = trade_levels(view, trades)
    longest = max((frame.height for frame in view.candles.values()), default=0)
    factor = merge_factor(longest, len(view.symbols))
    symbols: list[Value] = []
    for symbol in view.symbols:
        own = trades["symbol"] == symbol
        own_levels = [levels[row] for row in own.arg_true().to_list()]
        symbols.append(symbol_document(view, symbol, trades.filter(own), own_levels, factor))
    return {
        "quote": view.quote,
        "timeframe": view.timeframe,
        "drawdownScale": DRAWDOWN_SCALE,
        "equity": equity_document(view),
        "symbols": symbols,
    }
