"""The tools of one run of backfill or sync: where things are kept, how is collected, how far it is."""

import secrets
import time
from datetime import UTC, datetime
from typing import Literal

from candlewick.announcing import announce
from candlewick.lake_opening import open_lake
from candlewick.market_data.progress import Progress
from candlewick.market_data.wanted import CollectOptions
from candlewick.settings import load_settings
from candlewick.store.data_runs import DataStore
from candlewick.store.database import Database
from candlewick.store.quality import QualityStore
from tasks.collecting import ProgressArtifact
from tasks.ingest import Keeping


class Collection:
    """One run. Opens nothing: the lake and the store are made by the first write."""

    def __init__(self, kind: Literal["backfill", "sync"], options: CollectOptions) -> None:
        self.settings = load_settings()
        self.kind = kind
        self.options = options
        self.started_at = datetime.now(UTC)
        run_id = f"{kind}-{self.started_at:%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"
        database = Database(self.settings.store.url, self.settings.store.lock_timeout_s)
        self.keeping = Keeping(open_lake(self.settings.lake), DataStore(database), QualityStore(database), run_id)
        self.progress = Progress(time.monotonic())
        self.artifact = ProgressArtifact(kind)
        self.notices: list[str] = []

    async def tell(self) -> None:
        """Say how far it is, on the terminal and in Prefect."""
        announce(f"collecting: {self.progress.text(time.monotonic())}")
        await self.artifact.update(self.progress.share)
