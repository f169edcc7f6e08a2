"""Series of the lake as files."""

import asyncio

from prefect import task
from prefect.cache_policies import NO_CACHE

from candlewick.lake import Lake
from candlewick.market_data.exporting import Exported, ExportRequest, export_series


@task(name="export-series", task_run_name="export {request.symbol} {request.timeframe}", cache_policy=NO_CACHE)
async def write_export(lake: Lake, request: ExportRequest) -> Exported:
    """Write one series to its file, whole or not at all. Raises MissingData, UsageError, LakeError."""
    return await asyncio.to_thread(export_series, lake, request)
