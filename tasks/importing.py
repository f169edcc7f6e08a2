"""A user's own files: judged, put into the lake, remembered in the store."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from candlewick.announcing import announce
from candlewick.lake import Lake
from candlewick.market_data.coverage import Span
from candlewick.market_data.importing_lake import import_file
from candlewick.market_data.importing_report import ImportReport, Note
from candlewick.market_data.importing_schema import ImportRequest
from candlewick.market_data.kinds import DataSeries
from candlewick.market_data.rows import DataRun
from candlewick.market_data.trade_candles import keep_candles_of_trades
from candlewick.quality.inspect import inspect_series
from candlewick.store.data_runs import DataStore
from candlewick.store.quality import QualityStore
from candlewick.timeframes import floor_to_bar, timeframe_ms
from candlewick.validation import Finding


@task(name="import-file", task_run_name="import {path.name}", cache_policy=NO_CACHE, timeout_seconds=7200)
async def import_one_file(path: Path, request: ImportRequest, lake: Lake | None) -> ImportReport:
    """Judge one file as a whole, then put it into the lake; with no lake nothing is written.

    Raises AmbiguousImport, InvalidCandles, InvalidFunding, MarketUnavailable, LakeError.
    """
    announce(f"reading {path.name}")
    return await asyncio.to_thread(import_file, path, request, lake)


@task(name="make-candles", task_run_name="candles of {report.file}", cache_policy=NO_CACHE, timeout_seconds=7200)
async def make_candles(report: ImportReport, timeframes: tuple[str, ...], lake: Lake) -> ImportReport:
    """Make candles of the trades just imported, the bars at both ends of the file included. Raises InvalidCandles, LakeError."""
    made = {}
    for timeframe in timeframes:
        announce(f"making candles: {timeframe} of {report.file}")
        whole = Span(
            floor_to_bar(report.first_ms, timeframe), floor_to_bar(report.end_ms - 1, timeframe) + timeframe_ms(timeframe)
        )
        made[timeframe] = await asyncio.to_thread(keep_candles_of_trades, lake, report.series, timeframe, whole)
    return replace(report, made=made)


@task(name="check-import", task_run_name="check {report.series}", cache_policy=NO_CACHE, timeout_seconds=7200)
async def check_import(report: ImportReport, lake: Lake) -> ImportReport:
    """Look over what the lake has of the series now, as `validate` does; the report with what was found. Raises LakeError."""
    announce(f"checking {report.series}")
    found = await asyncio.to_thread(inspect_series, lake, report.series, None)
    counts = Counter(finding.kind for finding in found)
    notes = [Note("checks", f"{kind} ({count:,})", "recorded") for kind, count in counts.most_common()]
    return replace(
        report, notes=(*report.notes, *(notes or [Note("checks", "nothing remarkable")])), findings=(*report.findings, *found)
    )


@task(name="record-import", task_run_name="record the import", cache_policy=NO_CACHE, timeout_seconds=600)
async def record_import(
    data: DataStore, quality: QualityStore, run: DataRun, findings: Mapping[DataSeries, tuple[Finding, ...]], at: datetime
) -> int:
    """Write the findings and the run; the number of findings that were new. Raises LedgerError."""
    written = await asyncio.to_thread(quality.record_all, dict(findings), at)
    await asyncio.to_thread(data.begin, run)
    await asyncio.to_thread(data.finish, replace(run, findings=written, completed_at=at))
    return written
