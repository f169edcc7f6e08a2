"""The external bus: Redis Streams, and the sender that brings the outbox to every sink, at least once and in order."""

import json
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr

from blocks.event_bus_prefect import PrefectEvents
from candlewick.errors import EventBusUnavailable, SettingsError
from candlewick.json_text import iso_utc
from candlewick.monitoring.rows import OutboxEvent, Sink

_LOG = logging.getLogger(__name__)
_BATCH = {"redis": 500, "prefect": 50}
_BACKOFF_S = (0.2, 10.0)
_CHECK_S = 5.0

Send = Callable[[Sequence[OutboxEvent]], tuple[str, ...]]


class RedisStream:
    """A Redis stream that events are added to. One connection, made when it is needed and made again after a failure."""

    def __init__(self, url: SecretStr, stream: str, max_length: int, timeout_s: float) -> None:
        """``max_length``: about how many events the stream keeps. Raises SettingsError for an address that is none."""
        from redis import ConnectionPool
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        self.stream = stream
        self.max_length = max_length
        self._url = url
        retry = Retry(NoBackoff(), 0)  # the sender tries again, and counts
        try:
            self._pool: ConnectionPool = ConnectionPool.from_url(
                url.get_secret_value(), socket_timeout=timeout_s, socket_connect_timeout=timeout_s, retry=retry
            )
        except ValueError:
            raise SettingsError(
                "events.redis_url is no Redis address: write redis://HOST:PORT/DATABASE, or rediss:// for TLS"
            ) from None

    @property
    def address(self) -> str:
        """Where the stream is, without user and password."""
        parts = urlsplit(self._url.get_secret_value())
        return f"{parts.scheme}://{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}{parts.path}"

    def send(self, events: Sequence[OutboxEvent]) -> tuple[str, ...]:
        """Add events in one pipeline. Answers the ids that Redis confirmed: all, or the first ones when it died meanwhile.

        Raises EventBusUnavailable when Redis confirmed none. What was sent and not confirmed may be in the stream nevertheless;
        it is sent again, and a reader drops it by its event_id.
        """
        head = ("XADD", self.stream, "MAXLEN", "~", str(self.max_length), "*")
        commands = [(*head, *_fields(event)) for event in events]
        answered, error = self._ask(commands)
        if error is not None and not answered:
            raise EventBusUnavailable(f"Redis at {self.address} took no event: {self._said(error)}") from None
        return tuple(event.event_id for event in events[:answered])

    def check(self) -> None:
        """Raises EventBusUnavailable when Redis does not answer."""
        _, error = self._ask([("PING",)])
        if error is not None:
            raise EventBusUnavailable(f"Redis at {self.address} does not answer: {self._said(error)}") from None

    def close(self) -> None:
        """Let go of the connection."""
        self._pool.disconnect()

    def _ask(self, commands: Sequence[tuple[str, ...]]) -> tuple[int, Exception | None]:
        """Send all commands at once, then read answer by answer: how many came, and what ended it early."""
        from redis.exceptions import RedisError

        answered = 0
        connection: Any = None
        try:
            connection = self._pool.get_connection()
            connection.send_packed_command(connection.pack_commands(commands))
            for _ in commands:
                connection.read_response()
                answered += 1
        except (RedisError, OSError) as error:
            if connection is not None:
                connection.disconnect()  # answers of this pipeline may still be under way
            return answered, error
        finally:
            if connection is not None:
                self._pool.release(connection)
        return answered, None

    def _said(self, error: Exception) -> str:
        password = urlsplit(self._url.get_secret_value()).password
        text = f"{type(error).__name__}: {error}"
        return text.replace(password, "***") if password else text


def _fields(event: OutboxEvent) -> list[str]:
    """Names and values of a stream entry, all text; what an event has not is empty."""
    told = {
        "event_id": event.event_id,
        "kind": event.kind,
        "name": event.name,
        "sequence": str(event.sequence),
        "account": event.account or "",
        "symbol": event.symbol or "",
        "at": iso_utc(event.at),
        "correlation_id": event.correlation_id,
        "causation_id": event.causation_id or "",
        "session_id": event.session_id,
        "document": json.dumps(dict(event.document), ensure_ascii=False),
    }
    return [part for pair in told.items() for part in pair]


@dataclass(slots=True)
class _Lane:
    """What waits for one sink, oldest first. Everything is touched under ``changed``.

    ``accepted``: sequence of the newest event that was taken in, ``newest``: of the newest one offered; ``missing_from``: of the
    first one that found no room.
    """

    sink: Sink
    send: Send
    check: Callable[[], None] | None
    limit: int
    backoff_s: tuple[float, float]
    changed: threading.Condition = field(default_factory=threading.Condition)
    queue: deque[OutboxEvent] = field(default_factory=deque)
    accepted: int = 0
    newest: int = 0
    missing_from: int | None = None
    delivered: list[str] = field(default_factory=list)
    connected: bool | None = None
    failures: int = 0
    down_at_s: float | None = None
    error: str | None = None
    closing: bool = False

    def take_in(self, events: Iterable[OutboxEvent]) -> None:
        """Queue what is new, as far as there is room. A number that was left out is missing: sequences have no holes."""
        with self.changed:
            for event in events:
                self.newest = max(self.newest, event.sequence)
                if event.sequence <= self.accepted or self.missing_from is not None:
                    continue
                if len(self.queue) >= self.limit or (self.accepted and event.sequence > self.accepted + 1):
                    self.missing_from = self.accepted + 1
                    continue
                self.queue.append(event)
                self.accepted = event.sequence
            self.changed.notify_all()

    def take_in_again(self, events: Sequence[OutboxEvent]) -> None:
        """Queue what was read from the store: what it leaves out is delivered. Without events, nothing is missing."""
        with self.changed:
            self.missing_from = None
            for event in events:
                if self.missing_from is None:
                    self.accepted = max(self.accepted, event.sequence - 1)
                    self.take_in([event])
            if not events:
                self.accepted = self.newest
            if self.missing_from is None and self.accepted < self.newest:
                self.missing_from = self.accepted + 1

    def waiting(self) -> int:
        """How many events the sink has not confirmed, those that found no room included."""
        with self.changed:
            return len(self.queue) + (self.newest - self.missing_from + 1 if self.missing_from is not None else 0)

    def work(self) -> None:
        """The thread: send what waits until it is told to close. A sink that is down is tried again, less and less often."""
        while True:
            with self.changed:
                self.changed.wait_for(lambda: bool(self.queue) or self.closing, self._idle_s())
                batch = [self.queue[at] for at in range(min(len(self.queue), _BATCH[self.sink]))]
                if self.closing and not batch:
                    return
            done = self._try(batch)
            with self.changed:
                if not done and self.closing:
                    return
                if not done:
                    first_s, last_s = self.backoff_s
                    pause_s = min(first_s * 2.0 ** min(self.failures - 1, 30), last_s)
                    self.changed.wait_for(lambda: self.closing, pause_s)

    def _idle_s(self) -> float | None:
        """How long nothing has to happen before the sink is asked whether it is there; at once at the beginning."""
        if self.check is None:
            return None
        return 0 if self.connected is None else _CHECK_S

    def _try(self, batch: Sequence[OutboxEvent]) -> bool:
        """One call of the sink, or a look whether it is there. False when it is not."""
        error: Exception | None = None
        confirmed: tuple[str, ...] = ()
        try:
            if batch:
                confirmed = self.send(batch)
            elif self.check is not None:
                self.check()
        except EventBusUnavailable as down:
            error = down
        except Exception as unexpected:  # noqa: BLE001  a thread that died of it would stop the outbox for good
            _LOG.exception("the %s sink failed in a way that is not foreseen; its events wait and are tried again", self.sink)
            error = unexpected
        with self.changed:
            for _ in confirmed:
                self.queue.popleft()
            self.delivered += confirmed
            self._note(error)
            self.changed.notify_all()
        return error is None

    def _note(self, error: Exception | None) -> None:
        if error is None:
            if self.failures:
                _LOG.info("%s takes events again, after %d failures", self.sink, self.failures)
            self.connected, self.failures, self.down_at_s, self.error = True, 0, None, None
            return
        if not self.failures:
            _LOG.warning("%s; events wait in the outbox and are sent later", error)
            self.down_at_s = time.monotonic()
        self.connected, self.error = False, str(error)
        self.failures += 1


class OutboxSender:
    """Brings committed events to Redis and Prefect, each in a thread of its own: a sink that is down delays nobody.

    Nothing is offered before its commit, and nothing counts as delivered before the sink confirmed it: so every event of the
    ledger goes out, once or more, and no event of an action that was rolled back.

    ``last_sequence``: number of the last event that is in the outbox already; what of it was not delivered is asked for by
    ``behind``, at the start and whenever more waits than ``limit`` events a sink. Restart and overflow are one path.
    """

    def __init__(
        self,
        redis: RedisStream | None,
        prefect: PrefectEvents | None,
        *,
        last_sequence: int = 0,
        limit: int = 10_000,
        backoff_s: tuple[float, float] = _BACKOFF_S,
    ) -> None:
        self._redis, self._prefect = redis, prefect
        self._lanes: dict[Sink, _Lane] = {}
        if redis is not None:
            self._lanes["redis"] = _Lane("redis", redis.send, redis.check, limit, backoff_s)
        if prefect is not None:
            self._lanes["prefect"] = _Lane("prefect", prefect.send, None, limit, backoff_s)
        for lane in self._lanes.values():
            lane.newest = last_sequence
            lane.missing_from = 1 if last_sequence else None
        self._threads = [
            threading.Thread(target=lane.work, name=f"outbox-{lane.sink}", daemon=True) for lane in self._lanes.values()
        ]
        for thread in self._threads:
            thread.start()

    @property
    def sinks(self) -> tuple[Sink, ...]:
        """Where events go."""
        return tuple(self._lanes)

    def offer(self, events: Sequence[OutboxEvent], sink: Sink | None = None) -> None:
        """Events that are committed, in the order of their sequence, for one sink or for all. Never waits.

        Those with a sequence that was offered before are known and left out.
        """
        for name, lane in self._lanes.items():
            if sink in (None, name):
                lane.take_in(events)

    def behind(self) -> Mapping[Sink, int]:
        """Sinks that lack events of the outbox and have room for them, with the sequence of the first one.

        Read from the store what the sink has not got from there on, and call ``offer_again``; until this is empty.
        """
        found: dict[Sink, int] = {}
        for sink, lane in self._lanes.items():
            with lane.changed:
                if lane.missing_from is not None and len(lane.queue) <= lane.limit // 2:
                    found[sink] = lane.missing_from
        return found

    def offer_again(self, sink: Sink, events: Sequence[OutboxEvent]) -> None:
        """What the store has as undelivered to a sink, in order: all of it from ``behind()[sink]`` on, or the first part."""
        self._lanes[sink].take_in_again(events)

    def take_delivered(self) -> Mapping[Sink, tuple[str, ...]]:
        """Ids that were confirmed since this was last asked; mark them in the next commit. Sinks without any are left out."""
        found: dict[Sink, tuple[str, ...]] = {}
        for sink, lane in self._lanes.items():
            with lane.changed:
                if lane.delivered:
                    found[sink] = tuple(lane.delivered)
                    lane.delivered.clear()
        return found

    @property
    def connected(self) -> bool | None:
        """Whether Redis answered last time (it is asked every few seconds); None where none is set, or before the first try."""
        lane = self._lanes.get("redis")
        return None if lane is None else lane.connected

    @property
    def waiting(self) -> Mapping[Sink, int]:
        """Events that are not confirmed yet."""
        return {sink: lane.waiting() for sink, lane in self._lanes.items()}

    @property
    def down_s(self) -> Mapping[Sink, float]:
        """Sinks that do not answer, and for how long, in seconds."""
        now = time.monotonic()
        return {sink: now - lane.down_at_s for sink, lane in self._lanes.items() if lane.down_at_s is not None}

    @property
    def errors(self) -> Mapping[Sink, str]:
        """What the sinks that do not answer said last; without secrets."""
        return {sink: lane.error for sink, lane in self._lanes.items() if lane.error is not None}

    def close(self, timeout_s: float) -> None:
        """Send what waits, as long as the sinks take it and ``timeout_s`` is not over; the rest stays in the store's outbox."""
        until_s = time.monotonic() + timeout_s
        for lane in self._lanes.values():
            with lane.changed:
                lane.closing = True
                lane.changed.notify_all()
        for thread in self._threads:
            thread.join(max(0.0, until_s - time.monotonic()))
        if self._redis is not None:
            self._redis.close()
        if self._prefect is not None:
            self._prefect.close()
