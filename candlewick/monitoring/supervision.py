"""What becomes of a stage that failed: it is restarted, then its symbol, then the symbol is given up. Other symbols never notice.

Times come in as arguments, UTC and aware: this machine's, the same that the moves of the state machines carry. Nothing here
waits or restarts; it says what is to be restarted, and when. For one thread.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from candlewick.monitoring.events import STAGES, Stage

Action = Literal["restart_stage", "restart_symbol", "quarantine"]
_MOST_DOUBLINGS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What is to be done about a failure of ``stage``; `restart_symbol` and `quarantine` mean all stages of ``symbol``.

    ``due_at``: not before then; None for a quarantine, which a person ends. ``stage_failures`` counts the stage's failures in a
    row, this one included; ``symbol_restarts`` the symbol's restarts since its last complete bar, this one included.
    """

    symbol: str
    stage: Stage
    action: Action
    due_at: datetime | None
    stage_failures: int
    symbol_restarts: int


@dataclass(slots=True)
class _Record:
    """One symbol's. ``waits``: backoffs since the last complete bar; ``good``: stages that succeeded since the last failure."""

    failures: dict[Stage, int] = field(default_factory=dict)
    restarts: int = 0
    waits: int = 0
    good: set[Stage] = field(default_factory=set)
    waiting: dict[Stage, Verdict] = field(default_factory=dict)
    waiting_symbol: Verdict | None = None
    given_up: Verdict | None = None


class Supervisor:
    """Counts failures and says what follows.

    A stage that fails is restarted after a pause. It is restarted ``restarts`` times in a row; the next failure restarts its
    symbol, all four stages begin anew, and so do their counts. A symbol is restarted ``restarts`` times without a complete bar in
    between; what would be the next time quarantines it, until `forget`. A bar is complete when all four stages have succeeded
    since the symbol's last failure.

    The pause is ``base_s``, twice that, and so on up to ``max_s`` (seconds), and begins anew only after a complete bar: through
    all restarts of a symbol it never gets shorter, so that an exchange that is away for minutes does not use them all up. There
    is no chance in it: the same failures give the same times.

    A failure of what is quarantined, or waits for its restart anyway, changes nothing: the answer is the verdict that stands.
    """

    def __init__(self, restarts: int, base_s: float, max_s: float) -> None:
        """``restarts`` 0: the first failure quarantines the symbol."""
        self._restarts = restarts
        self._base_s = base_s
        self._max_s = max_s
        self._records: dict[str, _Record] = {}
        self._stage_restarts: dict[tuple[str, Stage], int] = {}
        self._symbol_restarts: dict[str, int] = {}

    def failed(self, symbol: str, stage: Stage, at: datetime) -> Verdict:
        """A stage of a symbol has failed at ``at``; a restart that follows is waited for with `due`."""
        record = self._records.setdefault(symbol, _Record())
        standing = record.given_up or record.waiting_symbol or record.waiting.get(stage)
        if standing is not None:
            return standing
        record.good.clear()
        failures = record.failures.get(stage, 0) + 1
        record.failures[stage] = failures
        if failures <= self._restarts:
            verdict = self._verdict(record, symbol, stage, "restart_stage", self._later(record, at))
            record.waiting[stage] = verdict
            return verdict
        if record.restarts < self._restarts:
            record.restarts += 1
            verdict = self._verdict(record, symbol, stage, "restart_symbol", self._later(record, at))
            record.waiting_symbol = verdict
        else:
            verdict = self._verdict(record, symbol, stage, "quarantine", None)
            record.given_up = verdict
        record.failures.clear()
        record.waiting.clear()
        return verdict

    def succeeded(self, symbol: str, stage: Stage) -> None:
        """A stage of a symbol has done its part of a bar. A restart that waits takes place all the same."""
        record = self._records.get(symbol)
        if record is None:
            return
        record.failures.pop(stage, None)
        record.good.add(stage)
        if len(record.good) == len(STAGES):
            record.restarts = record.waits = 0

    def due(self, at: datetime) -> list[Verdict]:
        """The restarts whose time has come, earliest first; each is told once, and counts from then on as made."""
        found: list[Verdict] = []
        for record in self._records.values():
            if record.waiting_symbol is not None and _is_due(record.waiting_symbol, at):
                found.append(record.waiting_symbol)
                record.waiting_symbol = None
            for stage in [stage for stage, verdict in record.waiting.items() if _is_due(verdict, at)]:
                found.append(record.waiting.pop(stage))
        for verdict in found:
            self._count(verdict)
        return sorted(found, key=lambda verdict: verdict.due_at or at)

    def forget(self, symbol: str) -> None:
        """Begin anew with a symbol, as an operator's restart does: no failures, no restarts that wait, no quarantine."""
        self._records.pop(symbol, None)

    def is_quarantined(self, symbol: str) -> bool:
        """Whether the symbol was given up."""
        record = self._records.get(symbol)
        return record is not None and record.given_up is not None

    def stage_failures(self, symbol: str, stage: Stage) -> int:
        """Failures of the stage since it last succeeded or its symbol was restarted."""
        record = self._records.get(symbol)
        return 0 if record is None else record.failures.get(stage, 0)

    def stage_restarts(self, symbol: str, stage: Stage) -> int:
        """Restarts of the stage by itself in this session, whatever became of them."""
        return self._stage_restarts.get((symbol, stage), 0)

    def symbol_restarts(self, symbol: str) -> int:
        """Restarts of the symbol as a whole in this session, whatever became of them."""
        return self._symbol_restarts.get(symbol, 0)

    def _later(self, record: _Record, at: datetime) -> datetime:
        pause_s = min(self._max_s, self._base_s * 2.0 ** min(record.waits, _MOST_DOUBLINGS))
        record.waits += 1
        return at + timedelta(seconds=pause_s)

    def _verdict(self, record: _Record, symbol: str, stage: Stage, action: Action, due_at: datetime | None) -> Verdict:
        return Verdict(
            symbol=symbol,
            stage=stage,
            action=action,
            due_at=due_at,
            stage_failures=record.failures[stage],
            symbol_restarts=record.restarts,
        )

    def _count(self, restarted: Verdict) -> None:
        if restarted.action == "restart_symbol":
            self._symbol_restarts[restarted.symbol] = self.symbol_restarts(restarted.symbol) + 1
        else:
            key = (restarted.symbol, restarted.stage)
            self._stage_restarts[key] = self._stage_restarts.get(key, 0) + 1


def _is_due(verdict: Verdict, at: datetime) -> bool:
    return verdict.due_at is not None and verdict.due_at <= at
