"""One session's tools and what it has to bring into its next commit: the desk, the store, the market's clock, the outside."""

import asyncio
import logging
import resource
import secrets
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

from prefect.runtime import deployment, flow_run

from blocks.event_bus import OutboxSender, RedisStream
from blocks.event_bus_prefect import open_prefect_events
from candlewick.candles import Series
from candlewick.cycle import RunRecord
from candlewick.json_text import Json
from candlewick.lake_opening import open_lake
from candlewick.monitoring.desk import Desk
from candlewick.monitoring.desk_status import SessionFacts, session_status
from candlewick.monitoring.events import State
from candlewick.monitoring.metrics import SessionMetrics
from candlewick.monitoring.request import SessionRequest, new_session_id
from candlewick.monitoring.rows import Control, OutboxEvent, SessionRow, Sink, Transition
from candlewick.monitoring.status import SessionStatus
from candlewick.store.database import Database
from candlewick.store.ledger import Ledger
from candlewick.store.lock import HeldLock
from candlewick.store.processes import this_process
from candlewick.store.sessions import SessionStore
from flows.monitor_alerts import Alerts
from tasks.market import MarketAccess

_LOG = logging.getLogger("candlewick.monitor")
_LAGS_KEPT = 10_000
_NOTICES_KEPT = 20


@dataclass(slots=True)
class Unwritten:
    """What the next commit takes along."""

    transitions: list[Transition] = field(default_factory=list)
    outbox: list[OutboxEvent] = field(default_factory=list)
    applied: list[Control] = field(default_factory=list)
    delivered: dict[Sink, list[str]] = field(default_factory=dict)
    flushed: list[tuple[Series, int]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.transitions or self.outbox or self.applied or self.flushed)


class Session:
    """Everything a session holds. ``desk`` is there once its books are open; ``access`` once the market is."""

    desk: Desk
    access: MarketAccess

    def __init__(self, request: SessionRequest) -> None:
        settings = request.paper.settings
        self.request = request
        self.settings = settings
        self.name = request.desk
        self.ledger = Ledger(Database(settings.store.url, settings.store.lock_timeout_s))
        self.store = SessionStore(self.ledger.database)
        self.lake = open_lake(settings.lake)
        self.started_at = datetime.now(UTC)
        self.ends_at = self.started_at + timedelta(milliseconds=request.duration_ms)
        self.session_id = new_session_id(request.desk, self.started_at)
        self.flow_run_id: str | None = flow_run.id
        self.is_scheduled = deployment.id is not None
        self.metrics = SessionMetrics(request.desk, settings.paper.market, settings.paper.timeframe)
        self.stop_metrics: Callable[[], None] = lambda: None
        self.locks: list[HeldLock] = []
        self.unwritten = Unwritten()
        self.sequence = 1
        self.lags_s: deque[float] = deque(maxlen=_LAGS_KEPT)
        self.notices: deque[str] = deque(maxlen=_NOTICES_KEPT)
        self.store_connected = True
        self.sender: OutboxSender | None = None
        self.alerts = Alerts(self.name, self.session_id, settings)
        self.clock = Clock()
        self.opened_ms = 0
        self.polled_s = self.beat_s = float("-inf")
        self.shown_s = float("-inf")
        self.showing: asyncio.Task[UUID] | None = None
        self.artifact_id: UUID | None = None
        self.last_document: Mapping[str, Json] = {}
        self.ended: tuple[datetime, str] | None = None
        self.stop_reason: tuple[str, str] | None = None
        self.successor: SessionRow | None = None

    def open_outside(self) -> None:
        """Begin to send events and to show metrics where the settings say. Raises UsageError for a port that is taken."""
        port = self.settings.monitoring.metrics_port
        if port is not None:
            self.stop_metrics = self.metrics.serve(port)
        events = self.settings.events
        redis = (
            None
            if events.redis_url is None
            else RedisStream(events.redis_url, events.stream, events.max_length, events.timeout_s)
        )
        prefect = open_prefect_events(events.timeout_s, self.flow_run_id) if events.prefect else None
        self.sender = OutboxSender(redis, prefect, last_sequence=self.sequence - 1)

    def notice(self, text: str) -> None:
        """Say something that no state machine says: in the log, and in the status."""
        if text not in self.notices:
            _LOG.warning(text, extra={"session_id": self.session_id})
            self.notices.append(text)

    def status(self) -> SessionStatus:
        """As of now."""
        sender = self.sender
        facts = SessionFacts(
            process=this_process(), flow_run_id=self.flow_run_id, started_at=self.started_at, ends_at=self.ends_at,
            heartbeat_s=self.settings.monitoring.heartbeat_s, lags_s=self.lags_s,
            bus_connected=None if sender is None else sender.connected, store_connected=self.store_connected,
            outbox_waiting={} if sender is None else {str(sink): count for sink, count in sender.waiting.items()},
            memory_mb=memory_mb(), notices=tuple(self.notices),
        )  # fmt: skip
        return session_status(self.desk, facts)

    def row(
        self, state: State, document: Mapping[str, Json], ended_at: datetime | None = None, reason: str | None = None
    ) -> SessionRow:
        """The session's row as of now."""
        paper = self.settings.paper
        return SessionRow(
            session_id=self.session_id, name=self.name, market=paper.market, timeframe=paper.timeframe, state=state,
            process=this_process(), flow_run_id=self.flow_run_id, started_at=self.started_at, ends_at=self.ends_at,
            heartbeat_at=datetime.now(UTC), ended_at=ended_at, reason=reason, document=document,
        )  # fmt: skip

    def record(self, run_id: str, started_at: datetime, notices: tuple[str, ...]) -> RunRecord:
        """The bookkeeping of one account's part of a tick."""
        return RunRecord(run_id, self.flow_run_id, self.session_id, started_at, datetime.now(UTC), "success", None, notices, {})

    def show_soon(self) -> None:
        """The next commit writes the status, whether a heartbeat is due or not."""
        self.beat_s = float("-inf")

    def end_with(self, reason: str) -> None:
        """The next row that is written says that the session has ended, and it is written at once."""
        self.ended, self.beat_s = (datetime.now(UTC), reason), float("-inf")

    async def let_go(self) -> None:
        """Close the market and the metrics, and let the next session have the desk."""
        self.stop_metrics()
        if hasattr(self, "access"):
            await self.access.market.close()
        self.release()

    def release(self) -> None:
        """Let the next session have the desk and its accounts."""
        for lock in self.locks:
            lock.release()
        self.locks.clear()


class Clock:
    """The market's time between two answers of the market: the last one, and what has passed on this machine since."""

    def __init__(self) -> None:
        self._now_ms = 0
        self._heard_s = float("-inf")

    def heard(self, now_ms: int) -> None:
        """The market has told its time."""
        self._now_ms, self._heard_s = now_ms, time.monotonic()

    @property
    def age_s(self) -> float:
        """Since the market told its time last."""
        return time.monotonic() - self._heard_s

    @property
    def now_ms(self) -> int:
        """The market's time now."""
        return self._now_ms + round(self.age_s * 1000) if self._now_ms else 0


def new_run_prefix(at: datetime) -> str:
    """The beginning of the run ids of one tick."""
    return f"run-{at:%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"


def memory_mb() -> float:
    """Resident memory of this process now, in MB; the most there was, where the system does not tell."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * resource.getpagesize() / 1e6
    except OSError:
        scale = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / 1e6
