"""A desk while it is watched: its books and symbols, who is well, who is paused, and what happened since the last commit.

Knows no clock, no network and no store: the session (flows/monitor*.py) brings the market's answers and the time, and writes what
comes of them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from candlewick.monitoring.books import Book
from candlewick.monitoring.bus import EventBus, HandlerFailure
from candlewick.monitoring.calendars import TradingHours
from candlewick.monitoring.deciding import Execution, Outcome
from candlewick.monitoring.events import (
    STAGES,
    DataFetchFailed,
    DataStale,
    Event,
    SignalGenerated,
    SignalRejected,
    Stage,
    StageFailed,
    event_id,
)
from candlewick.monitoring.pipeline import Stages
from candlewick.monitoring.regimes import RegimeRules
from candlewick.monitoring.risk_state import RiskRules, RiskState
from candlewick.monitoring.signal_rules import Context, Pause, SignalRules
from candlewick.monitoring.states import Machine, StateBook
from candlewick.monitoring.supervision import Supervisor
from candlewick.monitoring.watched import PauseCause, Watched
from candlewick.timeframes import format_utc, utc

SESSION = "session"
"""Who moves a state machine where nobody asked for it."""
_CLOSED_MISSES = 8
"""Answers without the last bar after which a closed market is not asked for it any more: about half a minute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeskRules:
    """What the settings say of a session, without the settings."""

    regimes: RegimeRules
    signals: SignalRules
    risk: RiskRules
    hours: TradingHours
    restarts: int
    restart_base_s: float
    restart_max_s: float
    stale_after_bars: int | None
    is_live: bool


@dataclass(slots=True)
class Counts:
    """Of this session."""

    bars: int = 0
    signals: int = 0
    rejections: int = 0
    orders: int = 0
    fills: int = 0
    errors: int = 0


class Desk:
    """``books`` by account, ``watched`` by symbol. ``now`` is this machine's time, ``clock_ms`` the market's."""

    def __init__(
        self,
        session_id: str,
        name: str,
        rules: DeskRules,
        books: Mapping[str, Book],
        watched: Mapping[str, Watched],
        now: datetime,
    ) -> None:
        self.session_id = session_id
        self.name = name
        self.rules = rules
        self.books = dict(books)
        self.watched = dict(watched)
        self.bus = EventBus()
        self.states = StateBook(session_id, list(watched), now, self.bus.publish)
        self.supervisor = Supervisor(rules.restarts, rules.restart_base_s, rules.restart_max_s)
        self.stages = Stages(
            self.bus, session_id, self.watched, _by_symbol(self.books), rules.regimes, rules.signals, self.context
        )
        self.execution = Execution(session_id, self.books, self.watched, rules.risk)
        self.risk = RiskState()
        self.pauses: list[Pause] = []
        self.counts = Counts()
        self.waiting: set[str] = set()
        self.clock_ms = 0
        self.now = now
        self.market_answers = True
        self.bus.on_failure(self._on_handler_failure)
        self.bus.subscribe(SignalGenerated, self._count_signal, "counts")
        self.bus.subscribe(SignalRejected, self._count_rejection, "counts")

    @property
    def length_ms(self) -> int:
        """Length of a bar in ms."""
        return next(iter(self.watched.values())).length_ms

    # -- what the stages have to know

    def context(self) -> Context:
        """What signals are judged by at this moment, except what became of earlier ones."""
        return Context(now_ms=self.clock_ms, is_live=self.rules.is_live, hours=self.rules.hours, pauses=tuple(self.pauses))

    def book_of(self, symbol: str) -> Book:
        """The book that trades a symbol."""
        return self.books[self.watched[symbol].account]

    def replace_book(self, book: Book) -> None:
        """A book as the ledger has it now, in place of the one of its name."""
        self.books[book.name] = book
        self.stages.books = _by_symbol(self.books)
        self.execution.books = self.books

    # -- data

    def due(self) -> list[Watched]:
        """Symbols whose next bar has closed by the market's clock, and that nothing keeps from being asked for."""
        return [one for one in self.watched.values() if self._may_ask(one) and self._is_due(one)]

    def _may_ask(self, one: Watched) -> bool:
        # The last bar of a day closes with the market; one that did not trade is not asked for all night.
        has_asked = "market_closed" in one.paused and one.misses >= _CLOSED_MISSES
        return self._is_well(one.symbol) and not has_asked and (not one.fresh or one.ready)

    def _is_well(self, symbol: str) -> bool:
        """Whether nothing has failed that a restart has yet to mend."""
        return symbol not in self.waiting and not self.supervisor.is_quarantined(symbol)

    def _may_have_closed(self, one: Watched) -> bool:
        """Whether a bar that may have traded has closed since the last one."""
        next_ms, until_ms = one.next_ms(self.book_of(one.symbol).start.account.anchor_ms), self.clock_ms - one.length_ms
        hours = self.rules.hours
        if next_ms > until_ms or hours.calendar(one.symbol) is None:
            return next_ms <= until_ms
        return hours.expected_bars(one.symbol, one.series.timeframe, next_ms, until_ms + 1).size > 0

    def _is_due(self, one: Watched) -> bool:
        # A market that shows no bar yet is asked again soon at first, then less often, but at least four times a bar.
        pause_ms = min(250 * 2 ** min(one.misses, 6), one.length_ms // 4) if one.misses else 0
        return self.clock_ms >= one.asked_ms + pause_ms and self._may_have_closed(one)

    def data_came(self, symbol: str, added: int) -> None:
        """A market has answered for a symbol, with so many new bars."""
        one = self.watched[symbol]
        one.attempts = 0
        one.misses = 0 if added else one.misses + 1
        self.stage_succeeded(symbol, "data")
        if added:
            self.counts.bars += added
            self.resume(symbol, "stale", "a new bar has come", SESSION)

    def data_failed(self, symbol: str, error: Exception, *, is_outage: bool) -> None:
        """A symbol's bars did not come. ``is_outage``: nobody's did, which is no symbol's fault and is not counted against it."""
        one = self.watched[symbol]
        one.attempts += 1
        text = str(error) or type(error).__name__
        self.bus.publish(
            DataFetchFailed(
                event_id=event_id(DataFetchFailed.kind, self.session_id, symbol, one.attempts, self.clock_ms),
                correlation_id=self.session_id, causation_id=None, at=utc(self.clock_ms), session_id=self.session_id,
                symbol=symbol, error=text, attempt=one.attempts,
            )
        )  # fmt: skip
        if is_outage:
            one.misses += 1
            one.errors += 1
            one.last_error = text
            self.counts.errors += 1
            return
        self.stage_failed(symbol, "data", error)

    def look_for_stale(self) -> list[DataStale]:
        """Pause symbols without a new bar for too long although their market is open; the events of those that are new."""
        limit_bars = self.rules.stale_after_bars
        found = []
        for one in self.watched.values():
            last_ms = one.last_ms
            if limit_bars is None or last_ms is None or one.paused.keys() & {"stale", "market_closed"}:
                continue
            if self.clock_ms - (last_ms + one.length_ms) <= limit_bars * one.length_ms:
                continue
            timeframe, until_ms = one.series.timeframe, self.clock_ms - one.length_ms + 1
            missing = self.rules.hours.expected_bars(one.symbol, timeframe, last_ms + one.length_ms, until_ms).size
            if missing < limit_bars:
                continue
            found.append(
                DataStale(
                    event_id=event_id(DataStale.kind, one.series.market, one.symbol, one.series.timeframe, last_ms),
                    correlation_id=self.stages.correlation(one, last_ms), causation_id=None, at=utc(self.clock_ms),
                    session_id=self.session_id, symbol=one.symbol, age_s=missing * one.length_ms / 1000,
                    limit_s=limit_bars * one.length_ms / 1000,
                )
            )  # fmt: skip
            self.pause(one.symbol, "stale", f"no bar since {format_utc(last_ms)} UTC", SESSION)
            self.bus.publish(found[-1])
        return found

    def keep_hours(self) -> None:
        """Pause symbols whose market is closed, and let them go on when it opens."""
        for one in self.watched.values():
            if self.rules.hours.is_open(one.symbol, self.clock_ms):
                self.resume(one.symbol, "market_closed", "the market is open", SESSION)
            elif "market_closed" not in one.paused:
                opens_ms = self.rules.hours.next_open_ms(one.symbol, self.clock_ms)
                until = "" if opens_ms is None else f" until {format_utc(opens_ms)} UTC"
                self.pause(one.symbol, "market_closed", f"the market is closed{until}", SESSION)

    # -- stages

    def run_stages(self) -> None:
        """Indicators and strategy of every symbol whose fresh bars they have not seen."""
        for one in self.watched.values():
            if self._has_stages_to_run(one):
                self.bus.publish(self.stages.new_candle(one))
            elif one.is_cut and one.ready:
                self.stages.judge_again(one)

    def _has_stages_to_run(self, one: Watched) -> bool:
        return one.fresh > 0 and not one.ready and self._is_well(one.symbol)

    def has_work(self) -> bool:
        """Whether a stage of any symbol, or execution, has something to do now."""
        return any(self._has_stages_to_run(one) for one in self.watched.values()) or bool(self.ready_books())

    def ready_books(self) -> list[Book]:
        """Books that have something to decide. A shared book waits for a symbol whose stages have not seen its fresh bars."""
        return [
            book
            for book in self.books.values()
            if any(self.watched[symbol].fresh for symbol in book.symbols)
            and all(self._has_decided(self.watched[symbol]) for symbol in book.symbols)
        ]

    def _has_decided(self, one: Watched) -> bool:
        return self._is_well(one.symbol) and bool(one.signals) and (one.ready or not one.fresh)

    def decide(self) -> Outcome:
        """Execution of all that is ready. What fails is the execution stage's failure of the book's symbols."""
        outcome = self.execution.decide(self.ready_books(), self.risk, self.clock_ms)
        for name, error in outcome.failed.items():
            for symbol in self.books[name].symbols:
                self.stage_failed(symbol, "execution", error, self._last_bar(symbol))
        return outcome

    def _last_bar(self, symbol: str) -> Event | None:
        """The event of a symbol's newest bar."""
        one = self.watched[symbol]
        return None if one.last_ms is None else self.stages.new_candle(one)

    def stage_succeeded(self, symbol: str, stage: Stage) -> None:
        """A stage has done its part; one that was recovering runs again."""
        self.supervisor.succeeded(symbol, stage)
        machine, symbol_machine = self.states.stage(symbol, stage), self.states.symbol(symbol)
        if machine.state == "RECOVERING":
            machine.recover("it succeeded", SESSION, self.now)
        whole = all(self.states.stage(symbol, one).state in ("RUNNING", "PAUSED") for one in STAGES)
        if symbol_machine.state == "RECOVERING" and whole:
            paused = self.watched[symbol].paused_by
            symbol_machine.move("PAUSED" if paused else "RUNNING", paused or "all stages run again", SESSION, self.now)

    def is_back(self, symbol: str) -> None:
        """A symbol was loaded anew and has nothing to do: it runs, but only a complete bar gives it its restarts back."""
        for machine in (*(self.states.stage(symbol, stage) for stage in STAGES), self.states.symbol(symbol)):
            if machine.state == "RECOVERING":
                paused = self.watched[symbol].paused_by if machine.stage is None else None
                machine.move("PAUSED" if paused else "RUNNING", paused or "it was loaded anew", SESSION, self.now)

    def stage_failed(self, symbol: str, stage: Stage, error: Exception, cause: Event | None = None) -> None:
        """A stage has failed: count it, move the machines, and let the supervisor say what follows.

        ``cause``: the event over which it failed; None where no bar led to it.
        """
        one = self.watched[symbol]
        text = str(error) or type(error).__name__
        one.errors += 1
        one.last_error = f"{stage}: {text}"
        self.counts.errors += 1
        before = self.supervisor.is_quarantined(symbol)
        verdict = self.supervisor.failed(symbol, stage, self.now)
        self.waiting.add(symbol)
        failed = StageFailed(
            event_id=event_id(StageFailed.kind, self.session_id, symbol, stage, self.counts.errors),
            correlation_id=cause.correlation_id if cause else self.session_id, causation_id=cause.event_id if cause else None,
            at=utc(self.clock_ms), session_id=self.session_id, symbol=symbol, stage=stage, error=text,
        )  # fmt: skip
        self.bus.publish(failed)
        self._to_error(self.states.stage(symbol, stage), text, cause=failed)
        if verdict.action == "restart_stage" or before:
            return
        gave_up = verdict.action == "quarantine"
        why = "given up: it failed after every restart" if gave_up else f"{stage} failed after its restarts"
        self._to_error(self.states.symbol(symbol), f"{why}: {text}", cause=failed)

    def restarts_due(self) -> list[str]:
        """Let what is due recover; the symbols that have to be loaded anew, which ``reloaded`` ends."""
        reload = []
        for verdict in self.supervisor.due(self.now):
            self.waiting.discard(verdict.symbol)
            if verdict.action == "restart_stage":
                self._to_recovering(self.states.stage(verdict.symbol, verdict.stage), "restarted")
                continue
            self._symbol_recovers(verdict.symbol, "the symbol is restarted")
            reload.append(verdict.symbol)
        return reload

    def restart(self, symbol: str, reason: str, actor: str) -> None:
        """A person restarts a symbol: a quarantine ends, all counts begin anew; it has to be loaded anew."""
        self.supervisor.forget(symbol)
        self.waiting.discard(symbol)
        self._to_error(self.states.symbol(symbol), reason, actor)
        self._symbol_recovers(symbol, reason, actor)

    def _symbol_recovers(self, symbol: str, reason: str, actor: str = SESSION) -> None:
        self._to_recovering(self.states.symbol(symbol), reason, actor)
        for stage in STAGES:
            machine = self.states.stage(symbol, stage)
            self._to_error(machine, reason, actor)
            self._to_recovering(machine, reason, actor)

    def _to_error(self, machine: Machine, reason: str, actor: str = SESSION, cause: Event | None = None) -> None:
        if machine.state in ("STARTING", "RUNNING", "PAUSED", "RECOVERING"):
            correlation_id, causation_id = (cause.correlation_id, cause.event_id) if cause else (None, None)
            machine.move("ERROR", reason, actor, self.now, correlation_id=correlation_id, causation_id=causation_id)

    def _to_recovering(self, machine: Machine, reason: str, actor: str = SESSION) -> None:
        if machine.state == "ERROR":
            machine.move("RECOVERING", reason, actor, self.now)

    def _count_signal(self, _event: SignalGenerated) -> None:
        self.counts.signals += 1

    def _count_rejection(self, _event: SignalRejected) -> None:
        self.counts.rejections += 1

    def _on_handler_failure(self, failure: HandlerFailure) -> None:
        stage = next((one for one in STAGES if one == failure.handler_name), None)
        if stage is None or failure.event.symbol is None:
            self.counts.errors += 1
            return
        self.stage_failed(failure.event.symbol, stage, failure.error, failure.event)

    # -- pauses

    def pause(self, symbol: str, cause: PauseCause, reason: str, actor: str) -> bool:
        """From now on no entry of a symbol is let through; its bars, stops and exits go on. False where that was so already."""
        one = self.watched[symbol]
        if cause in one.paused:
            return False
        one.paused[cause] = reason
        if cause != "market_closed":
            self.pauses.append(Pause(symbol=symbol, since_ms=self.clock_ms, until_ms=None, reason=reason))
        machine = self.states.symbol(symbol)
        if machine.state == "RUNNING":
            machine.move("PAUSED", reason, actor, self.now)
        return True

    def resume(self, symbol: str, cause: PauseCause, reason: str, actor: str) -> bool:
        """A pause is over; the symbol runs again where no other one is left. False where there was none of this cause."""
        one = self.watched[symbol]
        said = one.paused.pop(cause, None)
        if said is None:
            return False
        self.pauses = [
            replace(pause, until_ms=self.clock_ms)
            if pause.symbol == symbol and pause.until_ms is None and pause.reason == said
            else pause
            for pause in self.pauses
            if self._still_counts(pause)
        ]
        machine = self.states.symbol(symbol)
        if machine.state == "PAUSED" and not one.paused:
            machine.move("RUNNING", reason, actor, self.now)
        return True

    def _still_counts(self, pause: Pause) -> bool:
        """Whether a bar that is not processed yet may have closed in it."""
        if pause.until_ms is None or pause.symbol is None:
            return True
        watermark_ms, length_ms = self.book_of(pause.symbol).start.state.watermark_ms, self.watched[pause.symbol].length_ms
        return watermark_ms is None or pause.until_ms > watermark_ms + 2 * length_ms


def _by_symbol(books: Mapping[str, Book]) -> dict[str, Book]:
    return {symbol: book for book in books.values() for symbol in book.symbols}


def start_all(desk: Desk, symbols: Iterable[str]) -> None:
    """The session and these symbols run: their books and windows are there."""
    for symbol in symbols:
        for machine in (*(desk.states.stage(symbol, stage) for stage in STAGES), desk.states.symbol(symbol)):
            if machine.state == "CREATED":
                machine.move("STARTING", "the session starts", SESSION, desk.now)
            if machine.state == "STARTING":
                machine.move("RUNNING", "its book and its window are there", SESSION, desk.now)
        paused = desk.watched[symbol].paused_by
        if paused is not None and desk.states.symbol(symbol).state == "RUNNING":
            desk.states.symbol(symbol).move("PAUSED", paused, SESSION, desk.now)
    if desk.states.session.state == "STARTING":
        desk.states.session.move("RUNNING", f"{len(desk.watched)} symbols are watched", SESSION, desk.now)


def stop_all(desk: Desk, reason: str, actor: str) -> None:
    """Everything stops, whatever state it is in."""
    for machine in desk.states.machines():
        if machine.state != "STOPPED":
            machine.move("STOPPING", reason, actor, desk.now)
            machine.move("STOPPED", reason, actor, desk.now)
