"""What is in the lake, looked over: a series beside what else the lake has of the same market and symbol.

A long series is read in parts of MOST_ROWS rows, each with some bars of its neighbours, so that memory does not grow with it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import polars as pl

from candlewick.candles import Series, opened_at_ms
from candlewick.errors import LakeDamaged
from candlewick.lake import Lake
from candlewick.lake_keys import AnySeries, as_data_series
from candlewick.market_data.coverage import Coverage
from candlewick.market_data.gold import is_made_of
from candlewick.market_data.kinds import DataSeries
from candlewick.quality.checks import check_series
from candlewick.quality.kinds_checks import check_kind
from candlewick.quality.limits import CheckContext, CheckLimits
from candlewick.timeframes import DAY_MS, timeframe_ms
from candlewick.validation import Finding

MOST_ROWS = 600_000
"""Rows of one part, of the finest timeframe that is looked at: more than a year of minutes."""
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


def inspect_series(
    lake: Lake, series: AnySeries, now_ms: int | None, others: Mapping[str, Series] | None = None
) -> tuple[Finding, ...]:
    """Findings about a series of any kind as the lake has it, in the order of their spans; none where it has nothing.

    ``now_ms`` is the market's clock (None: nothing is stale); ``others`` are series of the same instrument elsewhere, by name. A
    file that cannot be read is a finding (`damaged_file`), and the rest is looked at. Raises LakeError.
    """
    data = as_data_series(series)
    try:
        span = lake.span(data)
    except LakeDamaged as error:
        return (_damaged(error, lake.coverage(data)),)
    if span is None:
        return ()
    found = (
        _inspect_candles(lake, data.candles, span, now_ms, others or {})
        if data.kind == "ohlcv"
        else _inspect_kind(lake, data, span)
    )
    return tuple(sorted(dict.fromkeys(found), key=lambda one: (one.span_start_ms, one.span_end_ms, one.kind, one.evidence)))


def _damaged(error: LakeDamaged, coverage: Coverage) -> Finding:
    start, end = (coverage.spans[0].since_ms, coverage.spans[-1].until_ms) if coverage.spans else (0, 1)
    return Finding("damaged_file", "error", start, end, str(error))


def _parts(first_ms: int, last_ms: int, step_ms: int) -> Iterator[_Part]:
    """The span cut at multiples of the step, so that a series that grows is cut at the same places."""
    since = first_ms // step_ms * step_ms
    while since <= last_ms:
        yield _Part(since, since + step_ms, since <= first_ms, since + step_ms > last_ms)
        since += step_ms


def _inspect_candles(
    lake: Lake, series: Series, span: tuple[int, int], now_ms: int | None, others: Mapping[str, Series]
) -> list[Finding]:
    coarser, finer = _relatives(lake, series)
    around_ms = max([AROUND_BARS * timeframe_ms(series.timeframe), *(2 * timeframe_ms(one.timeframe) for one in coarser)])
    finest = min([series, *finer], key=lambda one: timeframe_ms(one.timeframe))
    coverage = lake.coverage(series)
    findings: list[Finding] = []
    before: pl.DataFrame | None = None
    for part in _parts(*span, MOST_ROWS * timeframe_ms(finest.timeframe)):
        start, end = part.since_ms - around_ms, part.until_ms + around_ms
        try:
            bars = lake.read(series, start, end)
        except LakeDamaged as error:
            findings.append(Finding("damaged_file", "error", max(part.since_ms, span[0]), part.until_ms, str(error)))
            continue
        if bars.is_empty():
            continue  # A hole longer than the part ends in a later one, where the bars before it are kept for it.
        if before is not None and opened_at_ms(before)[-1] < opened_at_ms(bars)[0]:
            bars = pl.concat([before, bars])
        context = CheckContext(
            series=series,
            now_ms=now_ms if part.is_last else None,
            coverage=coverage,
            coarser={one.timeframe: frame for one in coarser if (frame := _beside(lake, one, start, end)) is not None},
            finer={one.timeframe: frame for one in finer if (frame := _beside(lake, one, start, end)) is not None},
            others={name: frame for name, one in others.items() if (frame := _beside(lake, one, start, end)) is not None},
            limits=CheckLimits(),
        )
        findings += [finding for finding in check_series(bars, context) if part.holds(finding)]
        before = bars[-AROUND_BARS:]
    return findings


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


def _inspect_kind(lake: Lake, series: DataSeries, span: tuple[int, int]) -> list[Finding]:
    """Trades are read by the month, other kinds as a whole: they have some rows a day."""
    coverage = lake.coverage(series)
    step_ms = _EVENTS_PART_MS if series.kind == "trades" else span[1] - span[0] + 1
    findings: list[Finding] = []
    start = span[0]
    while start <= span[1]:
        try:
            rows = lake.read_rows(series, start, start + step_ms)
            findings += check_kind(rows, series, coverage)
        except LakeDamaged as error:
            findings.append(Finding("damaged_file", "error", start, min(start + step_ms, span[1] + 1), str(error)))
        start += step_ms
    return findings
