"""The bus inside a session's process: it joins the stages of every symbol's pipeline, in one order that all of them see."""

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar, cast

from candlewick.monitoring.events import Event

E = TypeVar("E", bound=Event)
FAILURES_KEPT = 50
"""Failures that a bus remembers. An exception holds the frames it came through, so they are few: memory stays flat."""


@dataclass(frozen=True, slots=True)
class HandlerFailure:
    """A handler raised ``error`` over ``event``. ``handler_name`` is the name it was subscribed with."""

    event: Event
    handler_name: str
    error: Exception


@dataclass(slots=True, eq=False)
class _Subscription:
    kind: type[Event]
    handle: Callable[[Event], None]
    name: str
    active: bool = True


class EventBus:
    """Delivers events to handlers: at once, in order, and one handler's failure is nobody else's.

    Order: an event reaches its handlers in the order they subscribed in. What handlers publish meanwhile waits in a queue (there
    is no recursion) and follows after the current event has reached all of its handlers. So every handler sees the same order,
    which is that of publication.

    Synchronous (the default): when `publish` returns, every handler has run, of the event and of all events that followed from
    it. Only inside a handler `publish` returns at once: its event waits for its turn. Queued: `publish` puts the event into the
    the queue, which has no limit (see `lag`), and `drain` delivers.

    Threads: two locks. A short one makes publications one sequence: the queue, the history and the count change together. A long,
    re-entrant one lets one thread at a time deliver, so handlers of two threads never mix. A thread that publishes while another
    delivers waits, and its event is mostly delivered by the other; a queued bus makes it wait for the short lock only. A handler
    must therefore not wait for another thread that publishes. Reading (`history`, `lag`, the counts) never waits for handlers.

    Isolated is `Exception`. KeyboardInterrupt and SystemExit leave `publish` at once: the current event's other handlers do not
    get it, and events behind it stay in the queue for the next `publish` or `drain`.
    """

    def __init__(self, history: int = 1000, queued: bool = False) -> None:
        """``history``: how many of the newest events are remembered."""
        self._queued = queued
        self._waiting: deque[Event] = deque()
        self._history: deque[Event] = deque(maxlen=history)
        self._failed: deque[HandlerFailure] = deque(maxlen=FAILURES_KEPT)
        self._subscriptions: list[_Subscription] = []
        self._routes: dict[type[Event], tuple[_Subscription, ...]] = {}
        self._failure_callbacks: list[Callable[[HandlerFailure], None]] = []
        self._short = threading.Lock()
        self._turn = threading.RLock()
        self._delivering = False
        self._published = 0
        self._failures = 0

    def subscribe(self, kind: type[E], handler: Callable[[E], None], name: str) -> Callable[[], None]:
        """Give ``handler`` every event of ``kind`` and of its subclasses, so `Event` is everything. Returns what unsubscribes it.

        A handler that is unsubscribed gets nothing any more, not even the event that is being delivered. One that subscribes
        during a delivery begins with the next event. ``name`` is what its failures are told by.
        """
        # A route leads events of `kind` here and no others: the narrower parameter is safe, which types cannot say.
        subscription = _Subscription(kind, cast("Callable[[Event], None]", handler), name)
        with self._short:
            self._subscriptions.append(subscription)
            self._routes.clear()

        def unsubscribe() -> None:
            with self._short:
                if subscription.active:
                    subscription.active = False
                    self._subscriptions.remove(subscription)
                    self._routes.clear()

        return unsubscribe

    def on_failure(self, callback: Callable[[HandlerFailure], None]) -> None:
        """Have ``callback`` told of every failure, right after it and before the event's next handler.

        It may publish, but not without end: what it publishes over the failure of a handler must not fail that handler again for
        ever. A callback that raises is a failure too, which is kept and counted, and which callbacks are not told of.
        """
        self._failure_callbacks.append(callback)

    def publish(self, event: Event) -> None:
        """Tell everybody who subscribed to its kind. Handlers' exceptions are isolated, see the class."""
        with self._short:
            self._waiting.append(event)
            self._history.append(event)
            self._published += 1
        if not self._queued:
            self.drain()

    def drain(self) -> None:
        """Deliver what waits, and what follows from it, until nothing does. Inside a handler: nothing, it is being done."""
        with self._turn:
            if self._delivering:
                return
            self._delivering = True
            try:
                while self._waiting:
                    self._deliver(self._waiting.popleft())
            finally:
                self._delivering = False

    @property
    def history(self) -> tuple[Event, ...]:
        """The newest events published, oldest first."""
        with self._short:
            return tuple(self._history)

    @property
    def published(self) -> int:
        """Events published so far."""
        return self._published

    @property
    def failures(self) -> int:
        """Failures of handlers (and of failure callbacks) so far."""
        return self._failures

    @property
    def last_failures(self) -> tuple[HandlerFailure, ...]:
        """The newest failures, oldest first, FAILURES_KEPT at the most."""
        with self._short:
            return tuple(self._failed)

    @property
    def lag(self) -> int:
        """Events published whose delivery has not begun."""
        return len(self._waiting)

    def _deliver(self, event: Event) -> None:
        route = self._routes.get(type(event))
        for subscription in self._route(type(event)) if route is None else route:
            if not subscription.active:
                continue
            try:
                subscription.handle(event)
            except Exception as error:  # noqa: BLE001 - a handler is anybody's code; the failure is kept, counted and told
                self._fail(HandlerFailure(event, subscription.name, error))

    def _route(self, kind: type[Event]) -> tuple[_Subscription, ...]:
        with self._short:
            route = tuple(one for one in self._subscriptions if issubclass(kind, one.kind))
            self._routes[kind] = route
        return route

    def _fail(self, failure: HandlerFailure) -> None:
        self._keep(failure)
        for callback in tuple(self._failure_callbacks):
            try:
                callback(failure)
            except Exception as error:  # noqa: BLE001 - as above; callbacks are not told of each other, that could go on for ever
                self._keep(HandlerFailure(failure.event, f"on_failure of {failure.handler_name}", error))

    def _keep(self, failure: HandlerFailure) -> None:
        with self._short:
            self._failed.append(failure)
            self._failures += 1
