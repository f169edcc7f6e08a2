"""The steps of a validation: both sources completed in the lake, compared, what was found kept, shown and published."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
from prefect import task
from prefect.artifacts import acreate_markdown_artifact, acreate_table_artifact
from prefect.cache_policies import NO_CACHE

from candlewick.lake import Lake
from candlewick.market_data.coverage import Coverage, Span
from candlewick.market_data.kinds import DataSeries
from candlewick.market_data.rows import SERIES_KEY, AnySeries, keyed
from candlewick.quality.checks import check_series
from candlewick.quality.comparison import Source, SourceComparison, compare_sources
from candlewick.quality.inspect import inspect_series
from candlewick.quality.limits import CheckContext
from candlewick.quality.request import Comparing
from candlewick.quality.settling import found_no_longer
from candlewick.quality.verdict import disagreement_findings, judge
from candlewick.reports.validation_text import disagreement_rows, inspected_rows, inspection_sentence, validation_markdown
from candlewick.reports.validation_view import InspectedSeries, ValidationView
from candlewick.store.data_runs import DataStore
from candlewick.store.quality import CLASSIFIED_GAPS, QualityStore
from candlewick.validation import Finding, finding_rows
from tasks.reports import artifact_key

MAX_ARTIFACT_ROWS = 500


class ValidationStores:
    """Where the data and what is known about them are kept."""

    def __init__(self, lake: Lake, quality: QualityStore, data: DataStore) -> None:
        self.lake = lake
        self.quality = quality
        self.data = data


@dataclass(frozen=True, slots=True)
class Recorded:
    """What the quality table took: rows written or changed, and rows that are settled because they are found no longer."""

    written: int
    settled: int


@task(
    name="compare-sources",
    task_run_name="compare {sources[0].label} with {sources[1].label}",
    cache_policy=NO_CACHE,
    timeout_seconds=900,
)
async def compare_in_lake(
    lake: Lake, sources: tuple[Source, Source], span: Span, asked: Comparing, notices: Sequence[str], command: str
) -> ValidationView:
    """Read both series from the lake, compare and judge them. Raises LakeError."""
    return await asyncio.to_thread(_compare, lake, sources, span, asked, notices, command)


def _compare(
    lake: Lake, sources: tuple[Source, Source], span: Span, asked: Comparing, notices: Sequence[str], command: str
) -> ValidationView:
    ours, other = (lake.read(source.series, span.since_ms, span.until_ms) for source in sources)
    comparison = compare_sources(ours, other, *sources, asked.limits)
    judgement = judge(comparison, asked.limits)
    found = disagreement_findings(comparison, judgement)
    if judgement.verdict != "unusable":
        found += told_by_other(ours, other, comparison, lake.coverage(sources[0].series))
    return ValidationView(comparison=comparison, judgement=judgement, findings=found, notices=tuple(notices), command=command)


def told_by_other(
    ours: pl.DataFrame, other: pl.DataFrame, comparison: SourceComparison, coverage: Coverage
) -> tuple[Finding, ...]:
    """What the other source tells about ours beside disagreements: why bars are missing, and prices that cannot be."""
    label, series = comparison.other.label, comparison.ours.series
    findings = check_series(ours, CheckContext(series=series, coverage=coverage, others={label: other}))
    return tuple(finding for finding in findings if label in finding.evidence)


@task(name="record-validation", task_run_name="record the findings", cache_policy=NO_CACHE, timeout_seconds=300)
async def record_comparison(stores: ValidationStores, view: ValidationView) -> Recorded:
    """Keep what was found about our series and the verdict; disagreements of before that are found no longer are settled.

    Raises LedgerError.
    """
    return await asyncio.to_thread(_record, stores, view, datetime.now(UTC))


def _record(stores: ValidationStores, view: ValidationView, at: datetime) -> Recorded:
    found = view.comparison
    series, findings = found.ours.series, _news(stores, view)
    written = stores.quality.record(series, findings, at)
    settled = 0
    if found.span is not None and view.judgement.verdict != "unusable":
        gone = _found_no_longer(stores, view, finding_rows(series, findings, at)["finding_id"])
        settled = stores.quality.settle(gone, "repaired", f"found no longer when compared with {found.other.label}", at)
    stores.data.validated(series, at, view.judgement.verdict)
    return Recorded(written, settled)


def _news(stores: ValidationStores, view: ValidationView) -> tuple[Finding, ...]:
    """The findings, without holes that are known for the same already: somebody else may have told why."""
    if not any(finding.kind.startswith("gap") for finding in view.findings):
        return view.findings
    known = stores.quality.findings(view.comparison.ours.series, kinds=CLASSIFIED_GAPS)
    spans = known.select("kind", pl.col("span_start").dt.epoch("ms"), pl.col("span_end").dt.epoch("ms")).rows()
    there = set(spans)
    return tuple(one for one in view.findings if (one.kind, one.span_start_ms, one.span_end_ms) not in there)


def _found_no_longer(stores: ValidationStores, view: ValidationView, told: pl.Series) -> list[str]:
    """Ids of open disagreements with the same source that lie within the span and were not told again."""
    found = view.comparison
    assert found.span is not None, "sources that do not meet say nothing about earlier findings"
    # The evidence names the source: ``disagreement_text`` and ``disagreement_findings``.
    names = [pl.col("evidence").str.contains(f" {found.other.label}{end}", literal=True) for end in (",", ":")]
    known = stores.quality.open_within(found.ours.series, found.span).filter(
        pl.col("kind") == "disagreement",
        pl.col("span_start").dt.epoch("ms") >= found.span.since_ms,
        pl.col("span_end").dt.epoch("ms") <= found.span.until_ms,
        pl.any_horizontal(names),
        ~pl.col("finding_id").is_in(told.to_list()),
    )
    return known["finding_id"].to_list()


@task(name="write-validation", task_run_name="report", cache_policy=NO_CACHE, timeout_seconds=300)
def write_validation(view: ValidationView, directory: Path) -> Path:
    """The validation's self-contained HTML report. Raises CandlewickError where it cannot be written."""
    from candlewick.reports.validation import write_validation_report  # plotly

    return write_validation_report(view, directory)


@task(name="publish-validation", task_run_name="publish the validation", cache_policy=NO_CACHE, timeout_seconds=120)
async def publish_validation(view: ValidationView, report: Path) -> None:
    """Summary and table in the Prefect UI; keys are `validation-<series>` and `validation-<series>-findings`."""
    found = view.comparison
    key = f"validation-{artifact_key(f'{found.ours.label} {found.ours.series.timeframe}')}"
    what = f"Last validation: {view.title}"
    await acreate_markdown_artifact(validation_markdown(view, report), key=key, description=what)
    rows = disagreement_rows(view)
    if rows:
        await acreate_table_artifact(rows, key=f"{key}-findings", description=what)


@task(name="inspect-series", task_run_name="look over {series[0]} and the next", cache_policy=NO_CACHE, timeout_seconds=3600)
async def inspect_in_lake(stores: ValidationStores, series: tuple[DataSeries, ...], now_ms: int) -> tuple[InspectedSeries, ...]:
    """Look over series as they stand in the lake; findings and verdicts are kept in one go. Raises LakeError, LedgerError."""
    return await asyncio.to_thread(_inspect, stores, series, now_ms, datetime.now(UTC))


def _inspect(stores: ValidationStores, series: Sequence[DataSeries], now_ms: int, at: datetime) -> tuple[InspectedSeries, ...]:
    found: dict[AnySeries, tuple[Finding, ...]] = {one: tuple(inspect_series(stores.lake, one, now_ms)) for one in series}
    stores.quality.record_all(found, at)
    known = stores.quality.findings(series, state="open").partition_by(*SERIES_KEY, as_dict=True)
    gone = [
        gone_id
        for one, told in found.items()
        if (mine := known.get(tuple(getattr(keyed(one), name) for name in SERIES_KEY))) is not None
        for gone_id in found_no_longer(mine, finding_rows(keyed(one), told, at)["finding_id"])
    ]
    stores.quality.settle(gone, "repaired", "found no longer when the series was looked over", at)
    looked = tuple(InspectedSeries.of(one, found[one]) for one in series)
    for verdict in dict.fromkeys(one.verdict for one in looked):
        stores.data.validated([one.series for one in looked if one.verdict == verdict], at, verdict)
    return looked


@task(name="publish-inspection", task_run_name="publish the result", cache_policy=NO_CACHE, timeout_seconds=120)
async def publish_inspection(series: tuple[InspectedSeries, ...]) -> None:
    """A table in the Prefect UI with the key `validation-lake`."""
    rows = inspected_rows(series)[:MAX_ARTIFACT_ROWS]
    await acreate_table_artifact(rows, key="validation-lake", description=inspection_sentence(series))
