"""What the backtests' charts draw: candles and curves thinned to what a page can hold, and the trades beside them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import polars as pl

from candlewick.candles import PRICE_COLUMNS, opened_at_ms
from candlewick.reports.backtest_view import BacktestView
from candlewick.reports.charts import kept_points, ms, price_decimals
from candlewick.reports.figures import Document, Value
from candlewick.reports.measures import as_decimal
from candlewick.reports.numbers import money_decimals
from candlewick.timeframes import timeframe_ms

MAX_CHART_BARS = 1_500
"""Candles in one symbol's chart of the whole span; beyond, neighbouring ones become one."""
MAX_REPORT_BARS = 24_000
"""The same over all symbols, about 1 MB."""
MIN_CHART_BARS = 60
MAX_WINDOW_BARS = 300
WINDOWS_A_SIDE = 8
"""Largest gains, and as many largest losses, that are drawn in the run's own candles."""
MAX_TRADES = 10_000
MAX_REASON_TEXT = 700_000
"""Characters of reasons in one report; beyond, the oldest trades have none."""
_MAX_REASON = 160
_MAX_BAND_POINTS = 400
_MINUTE = 60_000
# Steps a reader knows, in minutes; a chart's candles are the shortest that are few enough.
_STEPS = (1, 2, 3, 5, 10, 15, 30, 60, 120, 180, 240, 360, 480, 720, 1440, 2880, 4320, 7200, 10080, 20160, 40320, 80640, 161280)


def step_text(step_ms: int) -> str:
    """``6h``, ``1d``, ``90s``."""
    for unit_ms, unit in ((86_400_000, "d"), (3_600_000, "h"), (_MINUTE, "m")):
        if step_ms % unit_ms == 0:
            return f"{step_ms // unit_ms}{unit}"
    return f"{step_ms // 1000}s"


def chart_step_ms(span_ms: int, bar_ms: int, most: int) -> int:
    """Length of a drawn candle: the bar's own where ``most`` of them hold the span, else the next familiar multiple of it."""
    if span_ms <= most * bar_ms:
        return bar_ms
    for minutes in _STEPS:
        step = minutes * _MINUTE
        if step % bar_ms == 0 and span_ms <= most * step:
            return step
    return -(-span_ms // (most * bar_ms)) * bar_ms


def merged_candles(candles: pl.DataFrame, step_ms: int, bar_ms: int) -> pl.DataFrame:
    """Candles of ``step_ms``: first open, highest high, lowest low, last close of each step since 1970. Gaps stay gaps."""
    if step_ms == bar_ms:
        return candles
    at = (pl.col("opened_at").dt.epoch("ms") // step_ms * step_ms).cast(pl.Datetime("ms", "UTC")).alias("opened_at")
    first, last = pl.col("open").first(), pl.col("close").last()
    steps = candles.with_columns(at).group_by("opened_at", maintain_order=True)
    return steps.agg(first, pl.col("high").max(), pl.col("low").min(), last, pl.col("volume").sum())


def candle_document(candles: pl.DataFrame, step_ms: int, decimals: int) -> Document:
    """Candles as the page's script reads them: ``x`` counts steps since ``start`` (ms)."""
    times = opened_at_ms(candles)
    start = int(times[0]) if len(times) else 0
    prices: dict[str, Value] = {name: np.round(candles[name].to_numpy(), decimals).tolist() for name in PRICE_COLUMNS}
    return {"start": start, "step": step_ms, "x": ((times - start) / step_ms).round(3).tolist(), **prices}


@dataclass(frozen=True, slots=True)
class Window:
    """A trade (a row of the view's trades) drawn with its surroundings."""

    row: int
    symbol: str
    since_at: datetime
    until_at: datetime
    step_ms: int


def trade_windows(view: BacktestView) -> list[Window]:
    """Windows around the largest gains and the largest losses, in candles of the run where MAX_WINDOW_BARS hold the trade."""
    bar_ms = timeframe_ms(view.timeframe)
    closed = view.trades.with_row_index("row").filter(pl.col("pnl").is_not_null() & pl.col("closed_at").is_not_null())
    best = closed.filter(pl.col("pnl") > 0).sort("pnl", descending=True, maintain_order=True).head(WINDOWS_A_SIDE)
    worst = closed.filter(pl.col("pnl") < 0).sort("pnl", maintain_order=True).head(WINDOWS_A_SIDE)
    found = []
    for row, symbol, opened, ended in pl.concat([best, worst]).select("row", "symbol", "opened_at", "closed_at").iter_rows():
        if symbol not in view.candles:
            continue
        around = max((ended - opened) * 0.35, timedelta(milliseconds=25 * bar_ms))
        since, until = opened - around, ended + around
        found.append(Window(row, symbol, since, until, chart_step_ms(ms(until) - ms(since), bar_ms, MAX_WINDOW_BARS)))
    return found


def symbol_documents(view: BacktestView) -> list[Value]:
    """Per symbol, its candles over the whole span and the windows around its largest trades."""
    bar_ms, windows = timeframe_ms(view.timeframe), trade_windows(view)
    most = max(MIN_CHART_BARS, min(MAX_CHART_BARS, MAX_REPORT_BARS // max(1, len(view.symbols))))
    found: list[Value] = []
    for symbol in view.symbols:
        candles = view.candles.get(symbol)
        if candles is None or candles.is_empty():
            found.append({"symbol": symbol, "decimals": 2, "chart": None, "windows": []})
            continue
        decimals, times = price_decimals(candles), opened_at_ms(candles)
        step = chart_step_ms(int(times[-1]) - int(times[0]) + bar_ms, bar_ms, most)
        own: list[Value] = []
        for window in (one for one in windows if one.symbol == symbol):
            part = candles.filter(pl.col("opened_at").is_between(window.since_at, window.until_at))
            drawn = candle_document(merged_candles(part, window.step_ms, bar_ms), window.step_ms, decimals)
            own.append({"row": window.row, "text": step_text(window.step_ms), **drawn})
        whole = {"text": step_text(step), **candle_document(merged_candles(candles, step, bar_ms), step, decimals)}
        found.append({"symbol": symbol, "decimals": decimals, "chart": whole, "windows": own})
    return found


def equity_rows(equity: pl.DataFrame) -> pl.DataFrame:
    """The rows to draw of an equity frame as floats: at (ms), equity, drawdown (below 0), benchmark. Extremes are kept."""
    benchmark = pl.col("benchmark") if "benchmark" in equity.columns else pl.lit(None)
    whole = equity.select(
        pl.col("at").dt.epoch("ms"),
        pl.col("equity").cast(pl.Float64),
        (0 - pl.col("drawdown_share").cast(pl.Float64)).round(5).alias("drawdown"),
        benchmark.cast(pl.Float64).alias("benchmark"),
    )
    if whole.is_empty():
        return whole
    kept = kept_points(whole["equity"].to_numpy())
    deepest = whole["drawdown"].arg_min()
    rows = np.union1d(kept, [deepest]) if deepest is not None else kept
    drawn: pl.DataFrame = whole[rows.tolist()]
    return drawn


def band_rows(bands: pl.DataFrame, decimals: int) -> Mapping[str, list[float]]:
    """Every so many rows of the bootstrap bands, first and last included: at (ms) and the quantiles."""
    rows = np.unique(np.linspace(0, bands.height - 1, min(bands.height, _MAX_BAND_POINTS)).round().astype(np.int64))
    thin = bands[rows.tolist()]
    quantiles = ("p05", "p25", "p50", "p75", "p95")
    return {"at": thin["at"].dt.epoch("ms").to_list()} | {
        name: thin[name].cast(pl.Float64).round(decimals).to_list() for name in quantiles
    }


# ------------------------------------------------------------------------------------------------- trades


class _Texts:
    """Texts of many rows, each kept once, newest first until MAX_REASON_TEXT characters are used."""

    def __init__(self) -> None:
        self.texts: list[str] = [""]
        self._places: dict[str, int] = {"": 0}
        self._room = MAX_REASON_TEXT

    def place(self, text: str) -> int:
        """Where ``text`` stands; 0 (empty) where there is no room left."""
        short = text if len(text) <= _MAX_REASON else text[: _MAX_REASON - 1] + "…"
        if short not in self._places and len(short) <= self._room:
            self._room -= len(short)
            self._places[short] = len(self.texts)
            self.texts.append(short)
        return self._places.get(short, 0)


def exit_text(legs: Sequence[str], reasons: Sequence[str]) -> str:
    """Every exit with its reason: ``target 1: price reached 104 | stop: …``."""
    parts = [
        f"{leg.replace('_', ' ')}: {reason}" if reason else leg.replace("_", " ")
        for leg, reason in zip(legs, reasons, strict=False)
    ]
    return " | ".join(dict.fromkeys(parts))


def listed_trades(view: BacktestView) -> pl.DataFrame:
    """The trades a report holds, newest first, with their ``row`` in the view: the newest, and all that have a window."""
    trades = view.trades.with_row_index("row").reverse()
    if trades.height <= MAX_TRADES:
        return trades
    shown = [window.row for window in trade_windows(view)]
    return trades.filter((pl.int_range(pl.len()) < MAX_TRADES) | pl.col("row").is_in(shown))


def _floats(trades: pl.DataFrame, name: str, decimals: int) -> list[Value]:
    """A column as rounded JSON numbers, half-even on the decimal."""
    found: list[Value] = []
    for value in trades[name]:
        number = as_decimal(value)
        found.append(None if number is None else round(float(round(number, decimals)), decimals))
    return found


def trade_document(view: BacktestView, trades: pl.DataFrame) -> Document:
    """The trades' columns as the page's script reads them; times are seconds, ``symbol`` counts in the account's order."""
    money, texts = money_decimals(view.quote), _Texts()
    places = {symbol: number for number, symbol in enumerate(view.symbols)}
    exits = [
        texts.place(exit_text(legs or (), reasons or ()))
        for legs, reasons in trades.select("exit_legs", "exit_reasons").iter_rows()
    ]
    entries = [texts.place(reason or "") for reason in trades["entry_reason"]]
    legs = [
        texts.place(" + ".join(leg.replace("_", " ") for leg in dict.fromkeys(own or ())))
        for own in trades["exit_legs"].to_list()
    ]
    seconds = {name: trades[name].dt.epoch("s").to_list() for name in ("opened_at", "closed_at")}
    return {
        "row": trades["row"].to_list(),
        "symbol": [places.get(symbol, 0) for symbol in trades["symbol"]],
        "side": [1 if side == "short" else 0 for side in trades["side"]],
        **seconds,
        **{name: _floats(trades, name, 10) for name in ("quantity", "entry_price", "exit_price")},
        **{name: _floats(trades, name, money) for name in ("fees", "funding", "pnl")},
        "return_share": _floats(trades, "return_share", 6),
        "legs": legs,
        "entry_reason": entries,
        "exit_reason": exits,
        "texts": texts.texts,
    }
