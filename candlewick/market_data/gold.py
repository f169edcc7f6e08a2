"""Gold: coarser candles made of finer ones (1m to 5m, 15m, 1h, 4h, 1d, 1w, the month `1M`), as the exchange makes its own.

A bar's open is the first one's inside of it, its close the last one's, high and low are the extremes, and its volume is the
sum. Days and shorter begin at multiples of their length since 1970 (UTC), weeks on Monday, months on the first.

Volumes are decimals: `0.1 + 0.2` has to be `0.3`, and a sum of 1,440 floats drifts in the last digits. So each bar's volumes
are added as integers of the finest decimal (8 at the most, fewer where the sum is large), which is exact, and divided once:
the float nearest to the true sum, which is the exchange's own to the last digit. Volumes that are no such decimals (a quote
volume over a price) are added by ``math.fsum``, which rounds once. Both depend on the bar alone, never on the frame around it.

A bar is only made where all of its span was asked for and answered (``Coverage``), so a bar that is still open, or whose candles
were not all downloaded, is not made up. Where the market was silent in a part of such a span the bar is of what traded, and
where it was silent throughout there is no bar. A flat bar without volume only repeats an older price, so it gives its coarse bar
none, unless that has nothing else (Binance's bars of 2023-03-24 12:00: 1h flat at 28,080.00, and 4h opening with the first trade,
28,079.99).
"""

import math

import numpy as np
import numpy.typing as npt
import polars as pl

from candlewick.candles import CANDLE_SCHEMA, empty_candles, opened_at_ms
from candlewick.errors import UsageError
from candlewick.market_data.coverage import Coverage, Span
from candlewick.timeframes import DAY_MS, floor_to_bar, timeframe_ms

MONTH = "1M"
"""The calendar month. Only here: exchanges have it, strategies and the lake's files do not."""

Times = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.float64]

_MOST_DECIMALS = 8
# Below this a volume times a power of ten is off by less than half a unit, and sums of such are exact as floats too.
_EXACT_BELOW = 2.0**50


def length_of(timeframe: str) -> int:
    """To compare timeframes by: milliseconds, of a month those of its shortest. Raises UsageError."""
    return 28 * DAY_MS if timeframe == MONTH else timeframe_ms(timeframe)


def is_made_of(coarse: str, fine: str) -> bool:
    """Whether each bar of ``coarse`` is a whole number of bars of ``fine``. Raises UsageError for what is no timeframe.

    >>> is_made_of("4h", "1h"), is_made_of("4h", "3h"), is_made_of("1w", "1d"), is_made_of("1M", "1d"), is_made_of("1M", "1w")
    (True, False, True, True, False)
    """
    if length_of(fine) >= length_of(coarse) or fine == MONTH:
        return False
    if coarse == MONTH:
        return DAY_MS % timeframe_ms(fine) == 0
    start_ms = floor_to_bar(0, coarse)
    return timeframe_ms(coarse) % timeframe_ms(fine) == 0 and floor_to_bar(start_ms, fine) == start_ms


def bar_opens(times_ms: Times, timeframe: str) -> Times:
    """Open times (ms) of the bars that contain ``times_ms``; both int64, shape (n,)."""
    if timeframe == MONTH:
        return times_ms.view("datetime64[ms]").astype("datetime64[M]").astype("datetime64[ms]").view(np.int64)
    length_ms, start_ms = timeframe_ms(timeframe), floor_to_bar(0, timeframe)
    opens: Times = (times_ms - start_ms) // length_ms * length_ms + start_ms
    return opens


def bar_ends(opens_ms: Times, timeframe: str) -> Times:
    """Where bars with these open times (ms) end: where the next ones begin."""
    if timeframe == MONTH:
        months = opens_ms.view("datetime64[ms]").astype("datetime64[M]") + np.timedelta64(1, "M")
        return months.astype("datetime64[ms]").view(np.int64)
    return opens_ms + timeframe_ms(timeframe)


def open_of(time_ms: int, timeframe: str) -> int:
    """Open time of the bar that contains ``time_ms``. Like ``floor_to_bar``, and knows months."""
    return int(bar_opens(np.array([time_ms], np.int64), timeframe)[0])


def open_from(time_ms: int, timeframe: str) -> int:
    """Open time of the first bar that opens at ``time_ms`` or later."""
    opened_ms = open_of(time_ms, timeframe)
    return opened_ms if opened_ms == time_ms else int(bar_ends(np.array([opened_ms], np.int64), timeframe)[0])


def resample_candles(
    candles: pl.DataFrame, from_timeframe: str, to_timeframe: str, coverage: Coverage | None = None
) -> pl.DataFrame:
    """Coarser bars of ``candles``, both validated and in CANDLE_SCHEMA; those alone whose span lies within ``coverage``.

    Without a coverage the candles are taken for all there was from the first open to the last close. Raises UsageError
    where bars of ``to_timeframe`` are not made of whole bars of ``from_timeframe``.
    """
    refuse_unmade(to_timeframe, from_timeframe)
    if candles.is_empty():
        return empty_candles()
    times = opened_at_ms(candles)
    if coverage is None:
        coverage = Coverage((Span(int(times[0]), int(times[-1]) + timeframe_ms(from_timeframe)),))
    keys = bar_opens(times, to_timeframe)
    wanted = is_covered(keys, bar_ends(keys, to_timeframe), coverage) & _says_a_price(candles, keys)
    if not wanted.all():
        candles, keys = candles.filter(pl.Series(wanted)), keys[wanted]
    if candles.is_empty():
        return empty_candles()
    starts = _starts(keys)
    lasts = np.append(starts[1:], keys.size) - 1
    column = {name: candles[name].to_numpy() for name in CANDLE_SCHEMA if name != "opened_at"}
    return pl.DataFrame(
        {
            "opened_at": pl.Series(keys[starts]).cast(CANDLE_SCHEMA["opened_at"]),
            "open": column["open"][starts],
            "high": np.maximum.reduceat(column["high"], starts),
            "low": np.minimum.reduceat(column["low"], starts),
            "close": column["close"][lasts],
            "volume": sum_decimals(column["volume"], starts),
        },
        schema=dict(CANDLE_SCHEMA),
    )


def _starts(keys: Times) -> Times:
    """Where each run of equal keys begins."""
    return np.flatnonzero(np.diff(keys, prepend=keys[0] - 1)).astype(np.int64)


def _says_a_price(candles: pl.DataFrame, keys: Times) -> npt.NDArray[np.bool_]:
    """Whether a fine bar traded, or stands in a coarse bar in which none did."""
    traded = candles.select((pl.col("volume") > 0) | (pl.col("high") > pl.col("low"))).to_series().to_numpy()
    if traded.all():
        return traded
    starts = _starts(keys)
    silent = ~np.logical_or.reduceat(traded, starts)
    told: npt.NDArray[np.bool_] = traded | np.repeat(silent, np.diff(np.append(starts, keys.size)))
    return told


def refuse_unmade(coarse: str, fine: str) -> None:
    """Raises UsageError where bars of ``coarse`` are not made of whole bars of ``fine``."""
    if not is_made_of(coarse, fine):
        raise UsageError(f"bars of {coarse} are not made of whole bars of {fine}: choose a finer timeframe that divides it")


def is_covered(opens_ms: Times, ends_ms: Times, coverage: Coverage) -> npt.NDArray[np.bool_]:
    """Whether each span [open, end) lies within one span of the coverage; shape (n,)."""
    if not coverage.spans:
        return np.zeros(opens_ms.size, np.bool_)
    since = np.array([span.since_ms for span in coverage.spans], np.int64)
    until = np.array([span.until_ms for span in coverage.spans], np.int64)
    place = np.searchsorted(since, opens_ms, side="right") - 1
    covered: npt.NDArray[np.bool_] = (place >= 0) & (until[np.maximum(place, 0)] >= ends_ms)
    return covered


def sum_decimals(values: Numbers, starts: Times) -> Numbers:
    """Sums of ``values`` from each start to the next; see this module's text on how they are exact. ``values`` >= 0, finite.

    >>> sum_decimals(np.array([0.1, 0.2, 0.3, 0.7]), np.array([0, 3])).tolist()
    [0.6, 0.7]
    """
    rough = np.add.reduceat(values, starts)
    room = np.floor(np.log10(_EXACT_BELOW / np.maximum(rough, 1.0)))
    scales = 10.0 ** np.clip(room, 0, _MOST_DECIMALS)
    scale = np.repeat(scales, np.diff(np.append(starts, values.size)))
    whole = np.rint(values * scale)
    exact = np.logical_and.reduceat(whole / scale == values, starts) & (rough < _EXACT_BELOW)
    sums: Numbers = np.add.reduceat(whole, starts) / scales
    ends = np.append(starts[1:], values.size)
    for bar in np.flatnonzero(~exact).tolist():
        sums[bar] = math.fsum(values[starts[bar] : ends[bar]].tolist())
    return sums
