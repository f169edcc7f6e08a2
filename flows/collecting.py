"""What backfill and sync share: every wanted series is made complete, in chunks, several side by side, with its progress told."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Literal

from prefect.client.schemas.objects import State
from prefect.context import SyncClientContext
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from candlewick.announcing import announce
from candlewick.code_version import code_version
from candlewick.errors import CandlewickError, UsageError
from candlewick.logs import bind_correlation_id
from candlewick.market_data.rows import DataRun
from candlewick.market_data.wanted import Collected, CollectReport, Wanted
from candlewick.timeframes import utc
from flows.collecting_series import SeriesDownload
from flows.collection import Collection
from flows.command import ending
from tasks.collecting import publish_collected
from tasks.market import MarketAccess, open_market, read_clock
from tasks.patience import patient


async def collect_all(collection: Collection, wanted: Sequence[Wanted]) -> State[CollectReport]:
    """Complete the lake for every wanted series; one that fails does not stop the others.

    The flow's final state, which carries a CollectReport. Raises UsageError where no series makes sense, LedgerError, LakeError.
    """
    keeping, began = collection.keeping, time.monotonic()
    run = _begun(collection, wanted)
    with SyncClientContext.get_or_create(), bind_correlation_id(keeping.run_id):
        await asyncio.to_thread(keeping.data.begin, run)
        try:
            done = await _collect_markets(collection, wanted)
        except BaseException as error:
            await asyncio.to_thread(keeping.data.finish, replace(run, status="failure", error=str(error), completed_at=_now()))
            raise
        report = CollectReport(keeping.run_id, collection.kind, done, time.monotonic() - began, tuple(collection.notices))
        await asyncio.to_thread(keeping.data.finish, _ended(run, report))
        await collection.tell()
        await publish_collected(report)
    return _final_state(report)


async def _collect_markets(collection: Collection, wanted: Sequence[Wanted]) -> tuple[Collected, ...]:
    """Market after market, so that each has its whole request budget; the answers in the order asked for."""
    done: dict[Wanted, Collected] = {}
    for market in dict.fromkeys(one.market for one in wanted):
        mine = [one for one in wanted if one.market == market]
        try:
            answers = await _collect_market(collection, market, mine)
        except UsageError as error:
            if len({one.market for one in wanted}) == 1:
                raise
            answers = [Collected(str(one), "failed", error=str(error)) for one in mine]
        except CandlewickError as error:
            answers = [Collected(str(one), "failed", error=str(error)) for one in mine]
        done |= dict(zip(mine, answers, strict=True))
    return tuple(done[one] for one in wanted)


async def _collect_market(collection: Collection, market: str, wanted: Sequence[Wanted]) -> list[Collected]:
    """The series of one market, a few side by side. Raises UsageError where all of them are wrong."""
    announce(f"opening {market}")
    access = await open_market(market, collection.settings, None)
    gate = asyncio.Semaphore(collection.options.side_by_side)
    try:
        clock = await patient(read_clock, access)(access, None)

        async def one(series: Wanted) -> Collected | UsageError:
            async with gate:
                return await _collected(collection, access, series, clock.now_ms)

        answers = await asyncio.gather(*map(one, wanted))
    finally:
        await access.market.close()
    wrong = [answer for answer in answers if isinstance(answer, UsageError)]
    if len(wrong) == len(answers):
        raise wrong[0]
    return [
        Collected(str(series), "failed", error=str(answer)) if isinstance(answer, UsageError) else answer
        for series, answer in zip(wanted, answers, strict=True)
    ]


async def _collected(collection: Collection, access: MarketAccess, wanted: Wanted, now_ms: int) -> Collected | UsageError:
    try:
        answer = await SeriesDownload(collection, access, wanted, now_ms).complete()
    except UsageError as error:
        return error
    except (CandlewickError, TimeoutError) as error:
        return Collected(str(wanted), "failed", error=str(error) or type(error).__name__)
    return answer


def _begun(collection: Collection, wanted: Sequence[Wanted]) -> DataRun:
    markets = {one.market for one in wanted}
    return DataRun(
        run_id=collection.keeping.run_id,
        kind=collection.kind,
        code_version=code_version(),
        started_at=collection.started_at,
        market=markets.pop() if len(markets) == 1 else None,
        series=len(wanted),
        since_at=utc(min(one.since_ms for one in wanted)),
        flow_run_id=flow_run.id,
    )


def _ended(run: DataRun, report: CollectReport) -> DataRun:
    failed = report.failed
    status: Literal["success", "partial", "failure"] = "success" if not failed else "partial"
    return replace(
        run,
        status="failure" if len(failed) == len(report.series) else status,
        error="; ".join(f"{one.series}: {one.error}" for one in failed) or None,
        rows_added=report.rows,
        findings=sum(one.findings for one in report.series),
        completed_at=_now(),
    )


def _final_state(report: CollectReport) -> State[CollectReport]:
    said = f"{report.rows:,} rows added to {len(report.series)} series"
    if report.failed:
        return ending(Failed(message=f"{len(report.failed)} of {len(report.series)} series failed; {said}", data=report))
    return ending(Completed(message=said, data=report))


def _now() -> datetime:
    return datetime.now(UTC)
