"""One cycle of an account: its tools, and what its steps hand on to each other."""

import logging
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from prefect.runtime import flow_run

from candlewick.account import TermsVersion
from candlewick.candles import FormingBar, Series
from candlewick.code_version import code_version
from candlewick.cycle import RunRecord, Start
from candlewick.findings import NotedFindings
from candlewick.funded import Funded
from candlewick.lake_opening import open_lake
from candlewick.logs import bind_correlation_id
from candlewick.paper_request import PaperRequest
from candlewick.results import CycleData, CycleMetadata, CycleResult, Status
from candlewick.stopwatch import Stopwatch
from candlewick.store.database import Database
from candlewick.store.ledger import Ledger
from candlewick.store.lock import HeldLock, Holder
from tasks.market import MarketAccess

_LOG = logging.getLogger("candlewick.cycle")


@dataclass(frozen=True, slots=True)
class Fetched:
    """What fetching brought: forming bars, funding and failures by symbol, findings noted beside the candles."""

    now_ms: int
    series: Mapping[str, Series]
    forming: Mapping[str, FormingBar | None]
    failures: Mapping[str, str]
    findings: NotedFindings
    funded: Funded = field(default_factory=Funded)

    @property
    def failure_text(self) -> str | None:
        """Which symbols' candles or funding could not be fetched and why, None where all could."""
        texts = [failure_text_of(failures) for failures in (self.failures, self.funded.failures) if failures]
        return "; ".join(texts) or None


def failure_text_of(failures: Mapping[str, str]) -> str:
    """Which symbols failed and why."""
    return "; ".join(why if symbol in why else f"{symbol}: {why}" for symbol, why in failures.items())


@dataclass(frozen=True, slots=True)
class Begun:
    """The account as this cycle finds it, the market's time, and terms that the exchange has changed since."""

    start: Start
    now_ms: int
    changed_terms: tuple[TermsVersion, ...]


class Cycle:
    """The tools of one cycle: where things are kept, who it is, how long its steps took, what is to be said at its end."""

    def __init__(self, request: PaperRequest) -> None:
        settings = request.settings
        self.request = request
        self.settings = settings
        self.ledger = Ledger(Database(settings.store.url, settings.store.lock_timeout_s))
        self.lake = open_lake(settings.lake)
        self.stopwatch = Stopwatch()
        self.started_at = datetime.now(UTC)
        self.run_id = f"run-{self.started_at:%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"
        self.correlation_id = self.run_id.removeprefix("run-")
        self.flow_run_id: str | None = flow_run.id
        self.notices: list[str] = []
        self.access: MarketAccess | None = None
        self.skew_ms: int | None = None

    @contextmanager
    def turn(self) -> Iterator[HeldLock | Holder | None]:
        """The right to move the account, or who has it; a dry run needs none. Raises LedgerUnwritable."""
        if self.request.options.dry_run:
            yield None
            return
        turn = self.ledger.try_account_lock(self.request.account)
        try:
            with bind_correlation_id(self.correlation_id):
                yield turn
        finally:
            if isinstance(turn, HeldLock):
                turn.release()

    async def close(self) -> None:
        """Let go of the market's connections."""
        if self.access is not None:
            await self.access.market.close()

    def record(self, status: Status, error: str | None = None) -> RunRecord:
        """This run's bookkeeping, as of now."""
        return RunRecord(
            self.run_id, self.flow_run_id, self.correlation_id, self.started_at, datetime.now(UTC), status, error,
            tuple(self.notices), dict(self.stopwatch.durations_s),
        )  # fmt: skip

    def result(self, status: Status, data: CycleData | None, error: str | None, digests: Mapping[str, str]) -> CycleResult:
        """The standard result, as of now."""
        metadata = CycleMetadata(
            run_id=self.run_id,
            flow_run_id=self.flow_run_id,
            correlation_id=self.correlation_id,
            started_at=self.started_at,
            completed_at=datetime.now(UTC),
            durations_s=dict(self.stopwatch.durations_s),
            code_version=code_version(),
            candle_digests=dict(digests),
            clock_skew_ms=self.skew_ms,
        )
        outcome = {"account": self.request.account, "run_id": self.run_id, "status": status}
        _LOG.info("cycle of account %s: %s", self.request.account, f"{status}, {error}" if error else status, extra=outcome)
        return CycleResult(status=status, data=data, error=error, metadata=metadata)
