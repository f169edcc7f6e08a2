"""What a session keeps in the store beside the ledger, as values. Tables and columns: migration 5."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from candlewick.json_text import Json
from candlewick.monitoring.events import Severity, Stage, State

Command = Literal["pause", "resume", "stop", "restart", "kill", "lift"]
Sink = Literal["redis", "prefect"]
AlertState = Literal["waiting", "sent", "failed", "repeated", "quiet"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRow:
    """One run of `monitor`. ``name`` is the desk's name (`--account`): sessions of one name follow one another, one at a time.

    ``process`` as `candlewick.store.processes` names it. ``document`` is the status (status.py) as of ``heartbeat_at``.
    """

    session_id: str
    name: str
    market: str
    timeframe: str
    state: State
    process: str
    flow_run_id: str | None
    started_at: datetime
    ends_at: datetime
    heartbeat_at: datetime
    ended_at: datetime | None
    reason: str | None
    document: Mapping[str, Json]


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """One move of a state machine. ``subject_name``: the session's name, the symbol, or the symbol and the stage (``stage``)."""

    session_id: str
    sequence: int
    subject: Literal["session", "symbol", "stage"]
    symbol: str | None
    stage: Stage | None
    before: State
    after: State
    reason: str
    actor: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """A command to a session, asked for by ``requested_by`` on any machine that reaches the store.

    ``argument`` is the rule of a `lift`. ``outcome`` is what the session did with it, None until it has.
    """

    control_id: str
    name: str
    command: Command
    symbol: str | None
    argument: str | None
    reason: str | None
    requested_by: str
    requested_at: datetime
    session_id: str | None = None
    applied_at: datetime | None = None
    outcome: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxEvent:
    """What the outside is told once the ledger has it: written in the same transaction, sent afterwards, at least once.

    ``sequence`` counts within ``name`` (the desk) from 1 without holes; ``event_id`` is a function of what happened, so a reader
    may drop repeats by it. ``kind``: order.placed, order.changed, fill, position.opened, position.modified, position.closed,
    stop.hit, risk.breached, risk.lifted.
    """

    event_id: str
    name: str
    sequence: int
    kind: str
    account: str | None
    symbol: str | None
    at: datetime
    correlation_id: str
    causation_id: str | None
    session_id: str
    document: Mapping[str, Json]


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertRow:
    """An alert and what became of it. ``key`` is what repeats are told by; ``repeats`` counts those that were held back."""

    alert_id: str
    name: str
    session_id: str | None
    severity: Severity
    title: str
    body: str
    key: str
    raised_at: datetime
    state: AlertState
    sent_at: datetime | None
    repeats: int
    error: str | None
