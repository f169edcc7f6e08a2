"""What is in the lake, looked over: a series beside what else the lake has of the same market and symbol.

A long series is read in parts of MOST_ROWS rows, each with some bars of its neighbours, so that memory does not grow with it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import polars as pl

from candlewick.candles import Series, opened_at_ms
from candlewick.errors import LakeDamaged
from candlewick.lake import Lake
from candlewick.lake_keys import AnySeries, as_data_series, folder_key, table_of
from candlewick.market_data.coverage import Coverage, Span
from candlewick.market_data.gold import is_made_of
from candlewick.market_data.kinds import DataSeries
from candlewick.partitions import damaged_partitions, partition_span
from candlewick.quality.checks import check_series
from candlewick.quality.kinds_checks import check_kind
from candlewick.quality.limits import CheckContext, CheckLimits
from candlewick.timeframes import DAY_MS, timeframe_ms
from candlewick.validation import Finding

MOST_ROWS = 250_000
"""Rows of one part, of the finest timeframe that is looked at: half a year of minutes."""
AROUND_BARS = 300
"""Bars on either side of a part that its own bars are judged by."""
_EVENTS_PART_MS = 31 * DAY_MS


@dataclass(frozen=True, slots=True)
class _Part:
    """Times [since, until) that findings are told of: those that end in it."""

    since_ms: int
    until_ms: int
    is_first: bool
    is_last: bool

    def holds(self, finding: Finding) -> bool:
        return (self.is_first or finding.span_end_ms > self.since_ms) and (self.is_last or finding.span_end_ms <= self.until_ms)


@dataclass(frozen=True, slots=True)
class _Look:
    """What a series is looked at with; see ``inspect_series``. ``damaged``: times of files that cannot be read."""

    now_ms: int | None
    others: Mapping[str, Series]
    since_ms: int | None
    damaged: Coverage


def inspect_series(
    lake: Lake,
    series: AnySeries,
    now_ms: int | None,
    others: Mapping[str, Series] | None = None,
    since_ms: int | None = None,
) -> tuple[Finding, ...]:
    """Findings about a series of any kind as the lake has it, in the order of their spans; none where it has nothing.

    ``now_ms`` is the market's clock (None: nothing is stale); ``others`` are series of the same instrument elsewhere, by name.
    With ``since_ms`` candles are only looked at as far as findings end after it: what a sync has added is judged by some bars
    before it, and costs no more than itself. A file that cannot be read is a finding (`damaged_file`), and the rest is looked
    at. Raises LakeError.
    """
    data, look = as_data_series(series), _Look(now_ms, others or {}, since_ms, Coverage())
    try:
        found = _inspect(lake, data, lake.span(data), look)
    except LakeDamaged as error:
        damaged = _damaged_spans(lake, data)
        if not damaged.spans:
            raise
        covered = (*lake.coverage(data).spans, *damaged.spans)
        span = min(one.since_ms for one in covered), max(one.until_ms for one in covered) - 1
        found = [*_damaged(error, damaged, covered), *_inspect(lake, data, span, replace(look, damaged=damaged))]
    return tuple(sorted(dict.fromkeys(found), key=lambda one: (one.span_start_ms, one.span_end_ms, one.kind, one.evidence)))


def _inspect(lake: Lake, data: DataSeries, span: tuple[int, int] | None, look: _Look) -> list[Finding]:
    if span is None:
        return []
    if data.kind == "ohlcv":
        return _inspect_candles(lake, data.candles, span, look)
    return _inspect_kind(lake, data, span, look.damaged)


def _damaged_spans(lake: Lake, series: DataSeries) -> Coverage:
    """The times of the files that cannot be read."""
    names = lake.read_in(folder_key(series), lambda held: damaged_partitions(held, table_of(series)))
    return Coverage.of(partition_span(name) for name in names)


def _damaged(error: LakeDamaged, damaged: Coverage, covered: Sequence[Span]) -> list[Finding]:
    """One finding a run of files, as far as the series reaches."""
    first, last = min(one.since_ms for one in covered), max(one.until_ms for one in covered)
    return [
        Finding("damaged_file", "error", max(one.since_ms, first), min(one.until_ms, last), str(error)) for one in damaged.spans
    ]


def _read(lake: Lake, series: DataSeries, since_ms: int, until_ms: int, damaged: Coverage) -> pl.DataFrame:
    """The rows of a span but for those in damaged files."""
    if not damaged.spans:
        return lake.read_rows(series, since_ms, until_ms)
    # A span that ends where the next file begins opens that file, too: it ends one millisecond before.
    parts = [lake.read_rows(series, one.since_ms, one.until_ms - 1) for one in damaged.missing(Span(since_ms, until_ms))]
    return pl.concat([pl.DataFrame(schema=dict(table_of(series).schema)), *parts])


def _parts(span: tuple[int, int], step_ms: int, wanted_ms: int | None) -> Iterator[_Part]:
    """The span cut at multiples of the step, so that a series that grows is cut at the same places; from ``wanted_ms`` on."""
    first_ms, last_ms = span
    since = max(first_ms, min(wanted_ms or first_ms, last_ms))
    while since <= last_ms:
        until = (since // step_ms + 1) * step_ms
        yield _Part(since, until, since == first_ms, until > last_ms)
        since = until


def _inspect_candles(lake: Lake, series: Series, span: tuple[int, int], look: _Look) -> list[Finding]:
    coarser, finer = _relatives(lake, series)
    around_ms = max([AROUND_BARS * timeframe_ms(series.timeframe), *(2 * timeframe_ms(one.timeframe) for one in coarser)])
    finest = min([series, *finer], key=lambda one: timeframe_ms(one.timeframe))
    coverage = lake.coverage(series)
    for one in look.damaged.spans:  # What a damaged file held is neither an outage nor silence.
        coverage = coverage.without(one)
    findings: list[Finding] = []
    before: pl.DataFrame | None = None
    for part in _parts(span, MOST_ROWS * timeframe_ms(finest.timeframe), look.since_ms):
        start, end = part.since_ms - around_ms, part.until_ms + around_ms
        bars = _read(lake, DataSeries.of_candles(series), start, end, look.damaged)
        if bars.is_empty():
            continue  # A hole longer than the part ends in a later one, where the bars before it are kept for it.
        if before is not None and opened_at_ms(before)[-1] < opened_at_ms(bars)[0]:
            bars = pl.concat([before, bars])
        start = min(start, int(opened_at_ms(bars)[0]))  # What lies beside a hole longer than a part is looked at, too.
        context = CheckContext(
            series=series,
            now_ms=look.now_ms if part.is_last else None,
            coverage=coverage,
            coarser={one.timeframe: frame for one in coarser if (frame := _beside(lake, one, start, end)) is not None},
            finer={one.timeframe: frame for one in finer if (frame := _beside(lake, one, start, end)) is not None},
            others={name: frame for name, one in look.others.items() if (frame := _beside(lake, one, start, end)) is not None},
            limits=CheckLimits(),
        )
        told = [finding for finding in check_series(bars, context) if part.holds(finding)]
        findings += [finding for finding in told if not _is_in(finding, look.damaged)]
        before = bars[-AROUND_BARS:]
    return findings


def _is_in(finding: Finding, damaged: Coverage) -> bool:
    """Whether it is about the bars that a damaged file held."""
    return finding.kind == "gap_not_downloaded" and damaged.covers(Span(finding.span_start_ms, finding.span_end_ms))


def _relatives(lake: Lake, series: Series) -> tuple[list[Series], list[Series]]:
    """The lake's series of the same market and symbol that are coarser, and the coarsest of those that are finer, if any."""
    same = [one for one in lake.all_series() if (one.market, one.symbol) == (series.market, series.symbol)]
    coarser = [one for one in same if is_made_of(one.timeframe, series.timeframe)]
    finer = [one for one in same if is_made_of(series.timeframe, one.timeframe)]
    return coarser, sorted(finer, key=lambda one: timeframe_ms(one.timeframe))[-1:]


def _beside(lake: Lake, series: Series, since_ms: int, until_ms: int) -> pl.DataFrame | None:
    """Candles to compare with; None where there are none, and where a file is damaged, which their own inspection says."""
    try:
        frame = lake.read(series, since_ms, until_ms)
    except LakeDamaged:
        return None
    return frame if frame.height else None


def _inspect_kind(lake: Lake, series: DataSeries, span: tuple[int, int], damaged: Coverage) -> list[Finding]:
    """Trades are read by the month, other kinds as a whole: they have some rows a day."""
    coverage = lake.coverage(series)
    for one in damaged.spans:
        coverage = coverage.without(one)
    step_ms = _EVENTS_PART_MS if series.kind == "trades" else span[1] - span[0] + 1
    findings: list[Finding] = []
    start = span[0]
    while start <= span[1]:
        rows = _read(lake, series, start, start + step_ms, damaged)
        findings += [one for one in check_kind(rows, series, coverage) if not _is_in(one, damaged)]
        start += step_ms
    return findings
