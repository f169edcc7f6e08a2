"""Repair on the lake and the quality table: what a market told again is written, and every finding is judged by what is there.

The order makes it crash-only: what is to be replaced is noted with its finding, then the lake changes, then coverage, and the
findings are settled last. A second run finds the lake as it should be, and the old values in the note.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import polars as pl

from candlewick.candles import RawPage, Series, empty_candles, opened_at_ms
from candlewick.errors import LakeDamaged
from candlewick.findings import drop_noted, noted_findings
from candlewick.lake import Lake
from candlewick.market_data.coverage import Coverage, Span
from candlewick.market_data.repairing import (
    DAMAGED,
    REPLACING,
    Acted,
    Difference,
    OpenFinding,
    Outcome,
    RepairPlan,
    RepairRequest,
    WitnessAnswer,
    accounts_text,
    acted_on,
    compare_bars,
    held_back,
    joined,
    judge_finding,
    on_grid,
    open_findings,
    pieces,
    replacement_text,
    too_long,
    without_acted,
)
from candlewick.market_data.rows import FindingState
from candlewick.store.quality import QualityStore
from candlewick.timeframes import floor_to_bar, timeframe_ms, utc
from candlewick.validation import Finding


@dataclass(frozen=True, slots=True)
class SeriesRepair:
    """What became of the findings of one series, and how many bars that added and replaced."""

    outcomes: tuple[Outcome, ...]
    added: int = 0
    replaced: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """What the market tells of a span now; ``refused``: bars that cannot be trusted this time either, and are left out."""

    span: Span
    candles: pl.DataFrame
    pages: tuple[RawPage, ...]
    refused: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """All that is known before anything is written.

    ``witnesses`` by finding; ``accounts`` have decided on bars of the series, which are replaced with ``force`` alone;
    ``restored``: spans whose bars the lake lost with damaged files, whose names are ``set_aside``.
    """

    plan: RepairPlan
    answers: tuple[Answer, ...]
    witnesses: Mapping[str, WitnessAnswer]
    accounts: tuple[Acted, ...]
    force: bool = False
    restored: tuple[Span, ...] = ()
    set_aside: tuple[str, ...] = ()

    @property
    def told(self) -> pl.DataFrame:
        """The bars of all answers in CANDLE_SCHEMA."""
        return told_bars(self.answers)


@dataclass(frozen=True, slots=True, eq=False)
class Written:
    """What the lake was given, and what was held back because an account has decided on it."""

    free: Difference
    held: Difference


def take_open(lake: Lake, quality: QualityStore, request: RepairRequest, at: datetime, *, write: bool) -> tuple[OpenFinding, ...]:
    """The open findings that are meant, those that are noted beside the candles included.

    These are taken into the table first where something may be written. Raises LakeError, LedgerError.
    """
    series = [one for one in lake.all_series() if request.wants(one)]
    noted = noted_findings(lake, series, at)
    if noted.rows.is_empty():
        return request.chosen(open_findings(quality.findings(state="open")))
    if write:
        quality.record_rows(noted.rows, at)
        drop_noted(lake, noted)
        return request.chosen(open_findings(quality.findings(state="open")))
    told = quality.findings()
    fresh = noted.rows.join(told, on="finding_id", how="anti")
    return request.chosen([*open_findings(told), *open_findings(fresh)])


def told_bars(answers: Sequence[Answer]) -> pl.DataFrame:
    """The bars of the answers, each once, by time."""
    return pl.concat([empty_candles(), *(answer.candles for answer in answers)]).sort("opened_at")


def set_aside_damaged(lake: Lake, plan: RepairPlan) -> tuple[tuple[Span, ...], tuple[str, ...]]:
    """Damaged files are renamed: the spans that the lake lost with them, and the names. None where no file is damaged."""
    try:
        lake.overview(plan.series)
        lake.span(plan.series)
        damaged = plan.is_damaged
    except LakeDamaged:
        damaged = True
    if not damaged:
        return (), ()
    before = lake.coverage(plan.series)
    names = lake.set_aside(plan.series)
    after = lake.coverage(plan.series)
    return tuple(lost for span in before.spans for lost in after.missing(span)), names


def requests_of(spans: Sequence[Span], series: Series, now_ms: int) -> list[Span]:
    """The closed part of the spans, in requests of bounded length."""
    end_ms = floor_to_bar(now_ms, series.timeframe)
    closed = [Span(span.since_ms, min(span.until_ms, end_ms)) for span in spans if span.since_ms < end_ms]
    return [piece for span in closed for piece in pieces(span, series.timeframe)]


def longest_missing(lake: Lake, finding: OpenFinding, told: pl.DataFrame, answered: Coverage) -> Span | None:
    """The longest run of bars of the finding's span that neither the lake has nor the market tells."""
    span, length_ms = on_grid(finding.span, finding.series.timeframe), timeframe_ms(finding.series.timeframe)
    frames = lake.read(finding.series, span.since_ms, span.until_ms), told.filter(within(span))
    there = {time for frame in frames for time in opened_at_ms(frame).tolist()}
    absent = [
        Span(time, time + length_ms)
        for time in range(span.since_ms, span.until_ms, length_ms)
        if time not in there and answered.covers(Span(time, time + length_ms))
    ]
    return max(joined(absent, 0), key=lambda run: run.length_ms, default=None)


def write_answers(lake: Lake, quality: QualityStore, asked: Asked, now_ms: int) -> Written:
    """The answers into the lake: what is to be replaced is noted with its finding first, coverage comes last.

    Doing it again changes nothing. Raises LakeError, LedgerError.
    """
    plan = asked.plan
    kept = [lake.read(plan.series, answer.span.since_ms, answer.span.until_ms) for answer in asked.answers]
    difference = compare_bars(pl.concat([empty_candles(), *kept]), asked.told)
    free, held = without_acted(difference, () if asked.force else asked.accounts, asked.restored)
    parts = {finding.finding_id: free.within(on_grid(finding.span, plan.series.timeframe)) for finding in plan.findings}
    intents: dict[str, tuple[FindingState, str]] = {
        finding_id: ("open", f"{REPLACING}{replacement_text(part)}") for finding_id, part in parts.items() if part.changed.height
    }
    quality.settle_all(intents, datetime.now(UTC))
    for answer in asked.answers:
        lake.put_pages(plan.series, answer.span, answer.pages)
    if free.to_write.height:
        lake.amend(plan.series, free.to_write, plan.series.market, utc(now_ms))
    for answer in asked.answers:
        if (covered := _covered(answer, plan.series, now_ms)) is not None:
            lake.cover(plan.series, covered)
    return Written(free, held)


def _covered(answer: Answer, series: Series, now_ms: int) -> Span | None:
    """What was answered. The newest bars may be late: those are asked for again by the next sync."""
    length_ms = timeframe_ms(series.timeframe)
    if answer.span.until_ms + length_ms <= now_ms:
        return answer.span
    if answer.candles.is_empty():
        return None
    return Span(answer.span.since_ms, int(opened_at_ms(answer.candles)[-1]) + length_ms)


def judge_all(lake: Lake, asked: Asked, written: Written, now_ms: int) -> SeriesRepair:
    """What became of every finding, by what the lake holds now. Raises LakeError."""
    outcomes = tuple(_outcome(lake, asked, written, finding, now_ms) for finding in asked.plan.findings)
    return SeriesRepair(outcomes, written.free.added.height, written.free.changed.height)


def _outcome(lake: Lake, asked: Asked, written: Written, finding: OpenFinding, now_ms: int) -> Outcome:
    series, span = finding.series, on_grid(finding.span, finding.series.timeframe)
    free, held = written.free.within(span), written.held.within(span)
    closed_ms = max(span.since_ms, min(span.until_ms, floor_to_bar(now_ms, series.timeframe)))
    there = lake.read(series, span.since_ms, closed_ms).height
    missing = max(0, (closed_ms - span.since_ms) // timeframe_ms(series.timeframe) - there)
    if finding.kind == DAMAGED:
        names = ", ".join(f"{name}.damaged" for name in asked.set_aside)
        aside = f"set aside as {names}; " if names else ""
        return Outcome(finding, "repaired", f"{aside}{written.free.added.height:,} bars were fetched again")
    if finding in asked.plan.too_long:
        return too_long(finding, missing)
    refused = [
        bar.evidence
        for answer in asked.answers
        for bar in answer.refused
        if bar.span_start_ms < span.until_ms and bar.span_end_ms > span.since_ms
    ]
    if refused:
        return Outcome(finding, "open", f"the market's answer cannot be trusted this time either: {refused[0]}")
    if held.to_write.height:
        return held_back(finding, held, asked.accounts)
    outcome = judge_finding(finding, free, missing, asked.witnesses.get(finding.finding_id), datetime.now(UTC))
    acted = acted_on(free, asked.accounts) if asked.force else ()
    if not acted:
        return outcome
    return replace(outcome, explanation=f"{outcome.explanation}; {accounts_text(acted)} and will refuse it (HistoryChanged)")


def within(span: Span) -> pl.Expr:
    """Whether a bar opens within the span."""
    return pl.col("opened_at").dt.epoch("ms").is_between(span.since_ms, span.until_ms - 1)
