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
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt
import polars as pl

from candlewick.candles import CANDLE_SCHEMA, Series, empty_candles, opened_at_ms
from candlewick.errors import UsageError
from candlewick.lake import Lake
from candlewick.lake_keys import folder_key, series_of, table_of
from candlewick.market_data.coverage import Coverage, Span
from candlewick.partitions import AppendReport
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


# ------------------------------------------------------------------------------------------------- out of the lake

_BARS_AT_ONCE = 200_000
"""Fine bars read at a time: some 10 MB, so that a span of any length stays small."""


@dataclass(frozen=True, slots=True)
class GoldSource:
    """What candles of ``asked`` are made of in ``span``: the series ``stored``, which is ``asked`` itself where the lake has it.

    ``span`` begins and ends with bars of ``asked``; None where it holds not one. ``coverage`` is what of it the lake knows.
    """

    asked: Series
    stored: Series
    span: Span | None
    coverage: Coverage

    @property
    def is_resampled(self) -> bool:
        """Whether the bars are made of finer ones."""
        return self.asked != self.stored

    @property
    def missing(self) -> tuple[Span, ...]:
        """What of the span is not in the lake, in order of time: never asked for, or never answered."""
        return () if self.span is None else self.coverage.missing(self.span)

    @property
    def missing_ms(self) -> float:
        """How much is missing in milliseconds, to choose between sources; without end where there is not one bar."""
        return math.inf if self.span is None else sum(hole.length_ms for hole in self.missing)


def find_source(lake: Lake, asked: Series, since_ms: int | None, until_ms: int | None) -> GoldSource | None:
    """What to make candles of ``asked`` of, that open in [since_ms, until_ms); None where the lake has nothing that fits.

    The series itself and every stored one whose bars it is made of are looked at, the coarsest first: the first that covers all
    of the span is taken, else the one that lacks the least of it. An end that is None is that of the series looked at.
    Raises UsageError for an unknown timeframe, LakeError.
    """
    length_of(asked.timeframe)
    best = None if asked.timeframe == MONTH or ends_of(lake, asked) is None else _source(lake, asked, asked, since_ms, until_ms)
    if best is not None and not best.missing_ms:
        return best
    for stored in _finer_series(lake, asked):
        source = _source(lake, asked, stored, since_ms, until_ms)
        if best is None or source.missing_ms < best.missing_ms:
            best = source
        if not best.missing_ms:
            break
    return best


def read_parts(lake: Lake, source: GoldSource) -> Iterator[pl.DataFrame]:
    """The candles of a source in order of time, some at a time, in CANDLE_SCHEMA; no empty frames. Raises LakeError."""
    for part in _cut(source.span, source.asked.timeframe, source.stored.timeframe):
        candles = lake.read(source.stored, part.since_ms, part.until_ms)
        if source.is_resampled:
            candles = resample_candles(candles, source.stored.timeframe, source.asked.timeframe, source.coverage)
        if candles.height:
            yield candles


def read_source(lake: Lake, source: GoldSource) -> pl.DataFrame:
    """All candles of a source in CANDLE_SCHEMA. Raises LakeError."""
    if source.span is not None and not source.is_resampled:
        return lake.read(source.stored, source.span.since_ms, source.span.until_ms)
    return pl.concat([empty_candles(), *read_parts(lake, source)])


def read_gold(
    lake: Lake, asked: Series, since_ms: int | None = None, until_ms: int | None = None
) -> tuple[pl.DataFrame, GoldSource | None]:
    """Candles of ``asked`` with ``since_ms <= opened_at < until_ms`` in CANDLE_SCHEMA, and what they were made of.

    Raises as ``find_source`` does.
    """
    source = find_source(lake, asked, since_ms, until_ms)
    return (empty_candles() if source is None else read_source(lake, source)), source


def resample_into_lake(lake: Lake, finer: Series, timeframe: str, span: Span, resampled_at: datetime) -> AppendReport:
    """Keep coarser candles made of ``finer`` as a series of their own, for exchanges that do not offer the timeframe.

    Their source is `resampled:1m`. Bars are made, and counted as covered, where the finer ones cover their whole span and the
    lake does not cover them yet. ``resampled_at`` is the market's clock of the run. Doing it twice changes nothing.
    Raises UsageError, LakeError.
    """
    if timeframe == MONTH:
        raise UsageError(f"the lake keeps no {MONTH}: months are made when they are read or exported")
    refuse_unmade(timeframe, finer.timeframe)
    asked = Series(finer.market, finer.symbol, timeframe)
    covered = known_coverage(lake, finer, span)
    known = lake.coverage(asked)
    reports = [AppendReport(0, 0, pl.DataFrame(schema=dict(table_of(asked).conflict_schema)))]
    for whole in _whole_bars(Coverage.of(hole for one in covered.spans for hole in known.missing(one)), span, timeframe):
        for part in _cut(whole, timeframe, finer.timeframe):
            made = resample_candles(lake.read(finer, part.since_ms, part.until_ms), finer.timeframe, timeframe, Coverage((part,)))
            reports.append(lake.put_chunk(asked, made, part, f"resampled:{finer.timeframe}", resampled_at))
    added, unchanged = sum(one.added for one in reports), sum(one.unchanged for one in reports)
    return AppendReport(added, unchanged, pl.concat([one.conflicting for one in reports]))


def known_coverage(lake: Lake, series: Series, wanted: Span) -> Coverage:
    """What is known of ``wanted``: the times that the lake says were answered, and those of bars that came before it said so."""
    coverage = lake.coverage(series)
    length_ms = timeframe_ms(series.timeframe)
    for hole in coverage.missing(wanted):
        times = opened_at_ms(lake.read(series, hole.since_ms, hole.until_ms))
        runs = np.split(times, np.flatnonzero(np.diff(times) != length_ms) + 1) if times.size else []
        coverage = Coverage.of([*coverage.spans, *(Span(int(run[0]), int(run[-1]) + length_ms) for run in runs)])
    return coverage


def ends_of(lake: Lake, series: Series) -> Span | None:
    """From the first to the last time that the lake knows something of; None where it knows nothing."""
    told, bars = lake.coverage(series).spans, lake.span(series)
    ends = [] if not told else [Span(told[0].since_ms, told[-1].until_ms)]
    ends += [] if bars is None else [Span(bars[0], bars[1] + timeframe_ms(series.timeframe))]
    return Span(min(one.since_ms for one in ends), max(one.until_ms for one in ends)) if ends else None


def _finer_series(lake: Lake, asked: Series) -> list[Series]:
    """The stored series that candles of ``asked`` can be made of, the coarsest first."""
    folder = folder_key(Series(asked.market, asked.symbol, "1d")).rpartition("/")[0]
    stored = (series_of(one) for one in lake.storage.folders(folder))
    fits = [
        one.candles for one in stored if one is not None and one.kind == "ohlcv" and is_made_of(asked.timeframe, one.timeframe)
    ]
    return sorted(fits, key=lambda one: length_of(one.timeframe), reverse=True)


def _source(lake: Lake, asked: Series, stored: Series, since_ms: int | None, until_ms: int | None) -> GoldSource:
    ends = ends_of(lake, stored)
    if ends is None and (since_ms is None or until_ms is None):
        return GoldSource(asked, stored, None, Coverage())
    first_ms = open_from(ends.since_ms if since_ms is None and ends is not None else since_ms or 0, asked.timeframe)
    if until_ms is None and ends is not None:
        end_ms = open_of(ends.until_ms, asked.timeframe)  # The bar that is open there is not made yet.
    else:
        end_ms = open_from(until_ms or 0, asked.timeframe)
    if first_ms >= end_ms:
        return GoldSource(asked, stored, None, Coverage())
    span = Span(first_ms, end_ms)
    return GoldSource(asked, stored, span, known_coverage(lake, stored, span))


def _whole_bars(coverage: Coverage, span: Span, timeframe: str) -> Iterator[Span]:
    """The covered parts of a span, cut to whole bars."""
    for one in coverage.spans:
        first_ms = open_from(max(one.since_ms, span.since_ms), timeframe)
        end_ms = open_of(min(one.until_ms, span.until_ms), timeframe)
        if first_ms < end_ms:
            yield Span(first_ms, end_ms)


def _cut(span: Span | None, timeframe: str, stored: str) -> Iterator[Span]:
    """A span in parts of whole bars of ``timeframe``, each of some 200,000 bars of ``stored`` at the most."""
    since_ms = None if span is None else span.since_ms
    while span is not None and since_ms is not None and since_ms < span.until_ms:
        until_ms = min(open_from(since_ms + _BARS_AT_ONCE * timeframe_ms(stored), timeframe), span.until_ms)
        yield Span(since_ms, until_ms)
        since_ms = until_ms
