"""What a collecting run shows and looks over: its progress and result in Prefect, and a series judged when it is complete."""

import asyncio
import time
from datetime import UTC, datetime
from uuid import UUID

from prefect import task
from prefect.artifacts import (
    acreate_markdown_artifact,
    acreate_progress_artifact,
    acreate_table_artifact,
    aupdate_progress_artifact,
)
from prefect.cache_policies import NO_CACHE
from prefect.context import FlowRunContext

from candlewick.market_data.kinds import DataSeries
from candlewick.market_data.wanted import CollectReport
from candlewick.quality.inspect import inspect_series
from candlewick.quality.settling import found_no_longer
from candlewick.reports.collected import collected_lines, collected_rows
from candlewick.validation import finding_rows
from tasks.ingest import Keeping

_UPDATE_S = 2.0


class ProgressArtifact:
    """A bar in the Prefect UI that is moved on every two seconds at most. Outside of a flow run it does nothing."""

    def __init__(self, kind: str) -> None:
        self._key = f"market-data-{kind}-progress"
        self._id: UUID | None = None
        self._updated_s = 0.0
        self._lock = asyncio.Lock()

    async def update(self, share: float) -> None:
        """Show how far it is; ``share`` from 0 to 1."""
        if FlowRunContext.get() is None:
            return
        async with self._lock:
            if self._id is not None and share < 1 and time.monotonic() - self._updated_s < _UPDATE_S:
                return
            percent = round(100 * share, 1)
            if self._id is None:
                made = await acreate_progress_artifact(percent, key=self._key, description="Part of the wanted span that is done")
                self._id = made if isinstance(made, UUID) else UUID(str(made))
            else:
                await aupdate_progress_artifact(self._id, percent)
            self._updated_s = time.monotonic()


@task(name="look-over", task_run_name="look over {series}", cache_policy=NO_CACHE, timeout_seconds=900)
async def look_over(keeping: Keeping, series: DataSeries, now_ms: int, since_ms: int | None) -> int:
    """Judge a series as it stands in the lake, from ``since_ms`` on (None: all of it). Rows of findings written.

    What was found is kept, and what was open and is no longer found is settled.
    """
    async with keeping.looking:
        return await asyncio.to_thread(_look_over, keeping, series, now_ms, since_ms)


def _look_over(keeping: Keeping, series: DataSeries, now_ms: int, since_ms: int | None) -> int:
    findings, at = inspect_series(keeping.lake, series, now_ms, since_ms=since_ms), datetime.now(UTC)
    written = keeping.quality.record(series, findings, at)
    known = keeping.quality.findings(series, state="open")
    gone = found_no_longer(known, finding_rows(series.candles, findings, at)["finding_id"], since_ms)
    return written + keeping.quality.settle(gone, "repaired", "found no longer after more was collected", at)


@task(name="publish-collected", task_run_name="publish the result", cache_policy=NO_CACHE, timeout_seconds=120)
async def publish_collected(report: CollectReport) -> None:
    """Table and text in the Prefect UI; keys are `market-data-<backfill or sync>-series` and `-summary`."""
    key = f"market-data-{report.kind}"
    text = "\n".join(collected_lines(report))
    await acreate_table_artifact(collected_rows(report), key=f"{key}-series", description=f"What {report.kind} did")
    await acreate_markdown_artifact(f"```\n{text}\n```", key=f"{key}-summary", description=f"What {report.kind} did")
