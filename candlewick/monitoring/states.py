"""In which state a session, its symbols and their stages are, and which moves between states there are.

    CREATED → STARTING → RUNNING ⇄ PAUSED → STOPPING → STOPPED
    ERROR → RECOVERING → RUNNING, or PAUSED

What starts, runs, is paused or recovers can fail (ERROR). Everything that is not STOPPED can be stopped, and nothing leaves
STOPPED. What is STOPPING only stops: a failure on the way must not lead back to RUNNING.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Literal

from candlewick.errors import IllegalTransition, UnknownSymbol
from candlewick.monitoring.events import STAGES, Stage, State, StateChanged, event_id
from candlewick.monitoring.rows import Transition

Subject = Literal["session", "symbol", "stage"]

MOVES: Mapping[State, frozenset[State]] = {
    "CREATED": frozenset({"STARTING", "STOPPING"}),
    "STARTING": frozenset({"RUNNING", "ERROR", "STOPPING"}),
    "RUNNING": frozenset({"PAUSED", "ERROR", "STOPPING"}),
    "PAUSED": frozenset({"RUNNING", "ERROR", "STOPPING"}),
    "ERROR": frozenset({"RECOVERING", "STOPPING"}),
    "RECOVERING": frozenset({"RUNNING", "PAUSED", "ERROR", "STOPPING"}),
    "STOPPING": frozenset({"STOPPED"}),
    "STOPPED": frozenset(),
}
"""State -> where it can go from there."""


class Machine:
    """The state of one subject: the session, a symbol (``symbol``), or a stage of a symbol (``symbol`` and ``stage``)."""

    def __init__(self, book: "StateBook", subject: Subject, symbol: str | None, stage: Stage | None, at: datetime) -> None:
        self._book = book
        self._state: State = "CREATED"
        self._since = at
        self._was_paused = False
        self.subject: Subject = subject
        self.symbol = symbol
        self.stage = stage

    @property
    def state(self) -> State:
        """Where it is now."""
        return self._state

    @property
    def since(self) -> datetime:
        """When it came there, UTC and aware."""
        return self._since

    @property
    def was_paused(self) -> bool:
        """Whether PAUSED, not RUNNING, was the last of the two: a recovery then leads back to PAUSED."""
        return self._was_paused

    def move(
        self,
        to: State,
        reason: str,
        actor: str,
        at: datetime,
        *,
        correlation_id: str | None = None,
        causation_id: str | None = None,
    ) -> Transition | None:
        """Go to state ``to``; None, and nothing happens, where it is there already. Raises IllegalTransition.

        ``reason`` is a sentence for people, ``actor`` who wanted it (a person's name, or the part of the session that did).
        ``correlation_id`` is the bar that led to it; where none did, the session's id. ``causation_id``: the event that did.
        """
        if to == self._state:
            return None
        if to not in MOVES[self._state]:
            allowed = ", ".join(sorted(MOVES[self._state])) or "nowhere: start another session"
            raise IllegalTransition(f"{self}: {self._state} does not go to {to} ({reason}, {actor}); it goes to {allowed}")
        before, self._state, self._since = self._state, to, at
        if to in ("RUNNING", "PAUSED"):
            self._was_paused = to == "PAUSED"
        return self._book.record(self, before, reason, actor, correlation_id, causation_id)

    def recover(self, reason: str, actor: str, at: datetime) -> Transition | None:
        """From RECOVERING back to where it was before it failed: PAUSED or RUNNING. Raises IllegalTransition."""
        return self.move("PAUSED" if self._was_paused else "RUNNING", reason, actor, at)

    def __str__(self) -> str:
        return " ".join(part for part in ("session" if self.subject == "session" else self.symbol, self.stage) if part)


class StateBook:
    """All state machines of one session, and the transitions that are not yet in the store.

    Not for several threads: a session moves its machines in one. ``at`` is when the session was created, UTC and aware;
    ``on_change`` is told of every move as a `StateChanged`, after the machine has moved.
    """

    def __init__(
        self, session_id: str, symbols: Sequence[str], at: datetime, on_change: Callable[[StateChanged], None] | None = None
    ) -> None:
        self._session_id = session_id
        self._on_change = on_change
        self._moves = 0
        self._pending: list[Transition] = []
        self._session = Machine(self, "session", None, None, at)
        self._symbols = {symbol: Machine(self, "symbol", symbol, None, at) for symbol in symbols}
        self._stages = {(symbol, stage): Machine(self, "stage", symbol, stage, at) for symbol in symbols for stage in STAGES}

    @property
    def session(self) -> Machine:
        """The session's own machine."""
        return self._session

    @property
    def symbols(self) -> Mapping[str, Machine]:
        """The machines of the symbols, in the session's order."""
        return self._symbols

    def symbol(self, symbol: str) -> Machine:
        """A symbol's machine. Raises UnknownSymbol."""
        return self._symbols[self._known(symbol)]

    def stage(self, symbol: str, stage: Stage) -> Machine:
        """The machine of a stage of a symbol. Raises UnknownSymbol."""
        return self._stages[self._known(symbol), stage]

    def machines(self) -> Iterator[Machine]:
        """All of them: the session's, then every symbol's with its stages after it."""
        yield self._session
        for symbol, machine in self._symbols.items():
            yield machine
            yield from (self._stages[symbol, stage] for stage in STAGES)

    def take_transitions(self) -> list[Transition]:
        """The moves since they were last taken, in order; whoever takes them writes them to the store."""
        taken, self._pending = self._pending, []
        return taken

    def give_back(self, transitions: Iterable[Transition]) -> None:
        """Return what was taken and could not be written, so that the next commit writes it: every move is a row."""
        self._pending[:0] = transitions

    def record(
        self,
        machine: Machine,
        before: State,
        reason: str,
        actor: str,
        correlation_id: str | None,
        causation_id: str | None,
    ) -> Transition:
        """Note a move that ``machine`` has made, and tell ``on_change``. For `Machine.move`; `sequence` counts 1, 2, 3, ..."""
        self._moves += 1
        transition = Transition(
            session_id=self._session_id,
            sequence=self._moves,
            subject=machine.subject,
            symbol=machine.symbol,
            stage=machine.stage,
            before=before,
            after=machine.state,
            reason=reason,
            actor=actor,
            at=machine.since,
        )
        self._pending.append(transition)
        if self._on_change is not None:
            self._on_change(_state_changed(transition, correlation_id, causation_id))
        return transition

    def _known(self, symbol: str) -> str:
        if symbol not in self._symbols:
            raise UnknownSymbol(f"session {self._session_id} does not watch {symbol!r}; it watches {', '.join(self._symbols)}")
        return symbol


def _state_changed(transition: Transition, correlation_id: str | None, causation_id: str | None) -> StateChanged:
    return StateChanged(
        event_id=event_id(StateChanged.kind, transition.session_id, transition.sequence),
        correlation_id=correlation_id or transition.session_id,
        causation_id=causation_id,
        at=transition.at,
        session_id=transition.session_id,
        symbol=transition.symbol,
        subject=transition.subject,
        stage=transition.stage,
        before=transition.before,
        after=transition.after,
        reason=transition.reason,
        actor=transition.actor,
    )
