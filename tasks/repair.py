"""Repair of one series: the market is asked again, its answer goes into the lake, and the findings are settled, in that order."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from prefect import task
from prefect.artifacts import acreate_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.context import FlowRunContext, TaskRunContext

from blocks.exchange_market import ExchangeMarket
from candlewick.candles import Series
from candlewick.errors import InvalidCandles, UsageError
from candlewick.lake import Lake
from candlewick.market_data.coverage import Coverage, Span
from candlewick.market_data.mending import (
    Answer,
    Asked,
    SeriesRepair,
    judge_all,
    longest_missing,
    requests_of,
    set_aside_damaged,
    told_bars,
    within,
    write_answers,
)
from candlewick.market_data.refusing import refuse_rows
from candlewick.market_data.repair_report import COLUMNS, RepairReport, outcome_rows, repair_sentence
from candlewick.market_data.repairing import (
    DAMAGED,
    MISSING_KINDS,
    RepairPlan,
    WitnessAnswer,
    joined,
    on_grid,
    whole_bars,
    witness_answer,
    witness_timeframe,
)
from candlewick.store.data_runs import DataStore
from candlewick.store.quality import QualityStore
from candlewick.tables import cell_text
from candlewick.validation import validate_candles
from tasks.market import MarketAccess

_MOST_WITNESSES = 50
"""How many gaps of a series another timeframe is asked about; of more, the first ones."""


class Repairing:
    """Where a run of repair works, and how. Not a dataclass: Prefect would search a task's for futures."""

    def __init__(self, lake: Lake, data: DataStore, quality: QualityStore, *, force: bool) -> None:
        self.lake = lake
        self.data = data
        self.quality = quality
        self.force = force


@task(
    name="repair-series",
    task_run_name="repair {plan.series.symbol} {plan.series.timeframe}",
    cache_policy=NO_CACHE,
    timeout_seconds=3600,
)
async def repair_series(access: MarketAccess, repairing: Repairing, plan: RepairPlan, now_ms: int) -> SeriesRepair:
    """Ask for the spans of a series again, put right what the market tells otherwise, and settle its findings.

    Everything is asked before anything is written. Raises MarketUnavailable, RateLimited, UnknownSymbol, UsageError, LakeError,
    LedgerError.
    """
    lake, series = repairing.lake, plan.series
    lost, names = await asyncio.to_thread(set_aside_damaged, lake, plan)
    spans = requests_of(joined([*plan.spans, *lost], 0), series, now_ms)
    answers = tuple([await _ask(access, series, span) for span in spans])
    witnesses = await _witnesses(access, lake, plan, answers)
    accounts = repairing.data.acted(access.market.name, series.symbol, series.timeframe)
    restored = [on_grid(finding.span, series.timeframe) for finding in plan.findings if finding.kind == DAMAGED]
    asked = Asked(plan, answers, witnesses, accounts, repairing.force, (*lost, *restored), names)
    written = await asyncio.to_thread(write_answers, lake, repairing.quality, asked, now_ms)
    done = await asyncio.to_thread(judge_all, lake, asked, written, now_ms)
    settled = {one.finding.finding_id: (one.state, one.explanation) for one in done.outcomes}
    await asyncio.to_thread(repairing.quality.settle_all, settled, datetime.now(UTC))
    return done


@task(name="publish-repair", task_run_name="publish what was repaired", cache_policy=NO_CACHE, timeout_seconds=120)
async def publish_repair(report: RepairReport) -> None:
    """A table in the Prefect UI; its key is `<run id>-findings`."""
    if FlowRunContext.get() is not None:
        rows = [{title: cell_text(row[key]) for key, title in COLUMNS.items()} for row in outcome_rows(report)]
        await acreate_table_artifact(rows, key=f"{report.run_id.lower()}-findings", description=repair_sentence(report))


async def _ask(access: MarketAccess, series: Series, span: Span) -> Answer:
    """The bars of a span as the market tells them now; at the last attempt those of them that can be trusted."""
    page = await access.market.fetch(series.symbol, series.timeframe, span.since_ms, span.until_ms)
    inside = page.candles.filter(within(span))
    try:
        return Answer(span, validate_candles(inside, series, span.until_ms).candles, page.pages)
    except InvalidCandles:
        if _attempt() < access.max_attempts:
            raise
        trusted, refused = refuse_rows(inside, series)
        return Answer(span, validate_candles(trusted, series, span.until_ms).candles, page.pages, refused)


def _attempt() -> int:
    context = TaskRunContext.get()
    return 1 if context is None else max(1, context.task_run.run_count)


async def _witnesses(access: MarketAccess, lake: Lake, plan: RepairPlan, answers: Sequence[Answer]) -> dict[str, WitnessAnswer]:
    """What another timeframe of the market says of the bars that are missing nevertheless, by finding."""
    market = access.market
    offered = market.offered_timeframes() if isinstance(market, ExchangeMarket) else ()
    told: dict[str, WitnessAnswer] = {}
    bars, answered = told_bars(answers), Coverage.of(answer.span for answer in answers)
    for finding in plan.findings:
        if finding.kind not in MISSING_KINDS or finding.kind in ("refused", "stale") or len(told) >= _MOST_WITNESSES:
            continue
        missing = longest_missing(lake, finding, bars, answered)
        timeframe = None if missing is None else witness_timeframe(plan.series.timeframe, offered, missing)
        span = None if missing is None or timeframe is None else whole_bars(missing, timeframe)
        if timeframe is None or span is None:
            continue
        try:
            page = await market.fetch(plan.series.symbol, timeframe, span.since_ms, span.until_ms)
            candles = validate_candles(page.candles, replace(plan.series, timeframe=timeframe), span.until_ms).candles
        except (UsageError, InvalidCandles):  # not kept for so long, or as wrong: it tells nothing
            continue
        told[finding.finding_id] = witness_answer(timeframe, candles)
    return told
