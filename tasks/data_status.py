"""What the lake has: looked up, and published."""

import asyncio
import time
from datetime import UTC, datetime

from prefect import task
from prefect.artifacts import acreate_table_artifact
from prefect.cache_policies import NO_CACHE

from candlewick.lake_opening import open_lake
from candlewick.market_data.status import Chosen, SeriesStatus, lake_status
from candlewick.reports.data_status import STATUS_COLUMNS, status_row, totals_line
from candlewick.settings import Settings
from candlewick.store.data_runs import DataStore
from candlewick.store.database import Database
from candlewick.store.quality import QualityStore

_MOST_ROWS = 500


@task(name="look-at-lake", cache_policy=NO_CACHE)
async def look_at_lake(settings: Settings, chosen: Chosen) -> tuple[SeriesStatus, ...]:
    """The status of every chosen series. Raises LakeError, LedgerError."""
    database = Database(settings.store.url, settings.store.lock_timeout_s)
    now_ms = round(time.time() * 1000)
    return await asyncio.to_thread(
        lake_status, open_lake(settings.lake), DataStore(database), QualityStore(database), settings, now_ms, chosen
    )


@task(name="publish-status", cache_policy=NO_CACHE)
async def publish_status(series: tuple[SeriesStatus, ...]) -> None:
    """The status as an artifact with the key `data-status`, what is wrong first."""
    shown = sorted(series, key=lambda one: not one.is_wrong)[:_MOST_ROWS]
    rows = [{STATUS_COLUMNS[key]: str(value) for key, value in status_row(one).items()} for one in shown]
    left = f"; {len(series) - len(shown)} more are left out here" if len(shown) < len(series) else ""
    told = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC: {totals_line(series)}{left}"
    await acreate_table_artifact(rows, key="data-status", description=told)
