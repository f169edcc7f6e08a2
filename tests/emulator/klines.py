"""Binance's kline rows as of a moment: closed candles, and the forming one with what has happened so far."""

import json

import numpy as np
import polars as pl

from tests.emulator.candle_book import Columns

Kline = list[int | str]
INTERVAL_MS = {
    **{f"{n}m": n * 60_000 for n in (1, 3, 5, 15, 30)},
    **{f"{n}h": n * 3_600_000 for n in (1, 2, 4, 6, 8, 12)},
    **{f"{n}d": n * 86_400_000 for n in (1, 3)},
    "1w": 604_800_000,
}
_SCALE = 10**8
# Eight decimals of a larger number do not fit a float.
_LARGEST_EXACT = 2**53 / _SCALE


def page_bounds(
    columns: Columns, interval: str, start_ms: int | None, end_ms: int | None, limit: int, now_ms: int, show_forming: bool
) -> tuple[int, int]:
    """First and last (exclusive) row of at most ``limit`` opened in [start, end]: the first after a start, the last without."""
    opened_at_ms, _ = columns
    length_ms = INTERVAL_MS[interval]
    visible = int(np.searchsorted(opened_at_ms, now_ms if show_forming else now_ms - length_ms, side="right"))
    first = 0 if start_ms is None else int(np.searchsorted(opened_at_ms, start_ms, side="left"))
    last = visible if end_ms is None else min(visible, int(np.searchsorted(opened_at_ms, end_ms, side="right")))
    if start_ms is None:
        first = max(first, last - limit)
    return first, max(first, min(last, first + limit))


def klines_at(
    columns: Columns, interval: str, start_ms: int | None, end_ms: int | None, limit: int, now_ms: int, show_forming: bool
) -> list[Kline]:
    """The rows of ``page_bounds``, the forming one as it is at ``now_ms``."""
    opened_at_ms, values = columns
    first, last = page_bounds(columns, interval, start_ms, end_ms, limit, now_ms, show_forming)
    length_ms = INTERVAL_MS[interval]
    rows = [_kline(*row, length_ms) for row in zip(opened_at_ms[first:last].tolist(), values[first:last].tolist(), strict=True)]
    if rows and opened_at_ms[last - 1] + length_ms > now_ms:
        so_far = _so_far(columns, last - 1, length_ms, now_ms)
        rows[-1] = _kline(int(opened_at_ms[last - 1]), so_far, length_ms)
    return rows


def klines_text(columns: Columns, interval: str, first: int, last: int) -> str:
    """The JSON of rows ``first`` to ``last``, all of them closed, as ``klines_at`` has them: a page of 1,000 in a millisecond."""
    opened_at_ms, values = columns[0][first:last], columns[1][first:last]
    length_ms = INTERVAL_MS[interval]
    if last == first or values.max() >= _LARGEST_EXACT:
        rows = [_kline(*row, length_ms) for row in zip(opened_at_ms.tolist(), values.tolist(), strict=True)]
        return json.dumps(rows, separators=(",", ":"))
    quote = values[:, 4] * (values[:, 0] + values[:, 3]) / 2
    frame = pl.DataFrame({str(n): np.rint(values[:, n] * _SCALE).astype(np.int64) for n in range(5)})
    frame = frame.with_columns(time=opened_at_ms, quote=quote, traded=(values[:, 4] > 0).astype(np.int8))
    texts = [
        pl.format('"{}.{}"', pl.col(str(n)) // _SCALE, (pl.col(str(n)) % _SCALE).cast(pl.String).str.zfill(8)) for n in range(5)
    ]
    row = pl.format(
        '[{},{},{},{},{},{},{},"{}",{},"{}","{}","0"]',
        "time",
        *texts,
        pl.col("time") + length_ms - 1,
        pl.col("quote").round(8),
        "traded",
        (pl.col("4") / (2 * _SCALE)).round(8),
        (pl.col("quote") / 2).round(8),
    )
    return "[" + ",".join(frame.select(row.alias("row"))["row"].to_list()) + "]"


def _so_far(columns: Columns, index: int, length_ms: int, now_ms: int) -> list[float]:
    opened_at_ms, values = columns
    open_, high, low, close, volume = values[index].tolist()
    share = (now_ms - int(opened_at_ms[index])) / length_ms
    if share == 0:
        # Before the first trade Binance shows the previous close as open, high, low and close.
        before = float(values[index - 1][3]) if index else open_
        return [before, before, before, before, 0.0]
    now = open_ + (close - open_) * share
    return [
        open_,
        max(open_, now, open_ + (high - open_) * share),
        min(open_, now, open_ + (low - open_) * share),
        now,
        volume * share,
    ]


def _kline(opened_at_ms: int, values: list[float], length_ms: int) -> Kline:
    open_, _, _, close, volume = values
    quote = volume * (open_ + close) / 2  # not in the data; nothing of this project reads it
    texts = [f"{value:.8f}" for value in (*values, quote, volume / 2, quote / 2)]
    closed_at_ms = opened_at_ms + length_ms - 1
    return [opened_at_ms, *texts[:5], closed_at_ms, texts[5], 1 if volume else 0, texts[6], texts[7], "0"]
