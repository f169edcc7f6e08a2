"""What a session writes: one transaction a tick for all its accounts, its heartbeat, and bars from the store to the lake."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import polars as pl

from candlewick.account import terms_rows
from candlewick.candles import CANDLE_SCHEMA, opened_at_ms
from candlewick.errors import InvariantViolated, LakeError, LedgerError, StaleCycle
from candlewick.json_text import Json
from candlewick.monitoring.deciding import Outcome, Proposal
from candlewick.monitoring.desk import SESSION, Desk
from candlewick.monitoring.desk_risk import breached_event, lifted_event, new_breaches, new_lifts, remembered, take_on
from candlewick.monitoring.events import (
    STAGES,
    DataStale,
    Event,
    OrderPlaced,
    TradeExecuted,
    bar_id,
    document,
)
from candlewick.monitoring.ledger_events import ledger_events
from candlewick.monitoring.outbox import outbox_events, risk_event
from candlewick.monitoring.rows import OutboxEvent, SessionRow
from candlewick.monitoring.signal_rules import history_bars
from candlewick.monitoring.watched import Watched
from candlewick.store.ledger import CycleWrite
from candlewick.store.session_writing import SessionWrite
from candlewick.validation import finding_rows
from flows.monitor_opening import reload
from flows.monitor_session import Session, Unwritten, new_run_prefix
from tasks.ledger import cycle_write
from tasks.monitoring import Commit, commit_bars, keep_bars

_LOG = logging.getLogger("candlewick.monitor")
_FLUSHED_A_TICK = 4


async def commit_outcome(session: Session, outcome: Outcome) -> None:
    """Write what was decided. What is wrong with one account is its own failure; a store that is away is asked again."""
    moving = [one for one in outcome.proposals if one.decided.advanced.bars or one.decided.advanced.opened is not None]
    try:
        await _commit(session, outcome, moving, outcome.proposals)
    except (StaleCycle, InvariantViolated) as error:
        _LOG.warning("the accounts are written one by one: %s", error)
        for one in outcome.proposals:
            await _commit_alone(session, outcome, one, one in moving)
    except LedgerError as error:
        store_failed(session, error)


async def _commit_alone(session: Session, outcome: Outcome, one: Proposal, moves: bool) -> None:
    try:
        await _commit(session, outcome, [one] if moves else [], [one])
    except (StaleCycle, InvariantViolated) as error:
        for symbol in one.book.symbols:
            session.desk.stage_failed(symbol, "execution", error)
        if isinstance(error, StaleCycle):
            await reload(session, one.book.symbols[0])
    except LedgerError as error:
        store_failed(session, error)


async def _commit(session: Session, outcome: Outcome, moving: Sequence[Proposal], proposals: Sequence[Proposal]) -> None:
    """One transaction for these books and whatever else waits to be written; then it is told of."""
    desk = session.desk
    cycles, outside, events = _rows_of(session, moving)
    risk = [breached_event(desk, breach) for breach in new_breaches(desk, outcome)]
    lifted = [lifted_event(desk, breach, f"lifted as set: {breach.lift}", SESSION) for breach in new_lifts(desk, outcome)]
    outside += [risk_event(session.name, event, 1) for event in risk]
    outside += [risk_event(session.name, event, 1) for event in lifted]
    write = SessionWrite(
        name=session.name,
        at=datetime.now(UTC),
        cycles=cycles,
        interventions=[found for one in moving for found in one.interventions if _is_processed(one, found.opened_at_ms)],
        outbox=outside,
        candles=_fresh_rows(desk, proposals),
        risk=remembered(desk, outcome.assessment.state),
    )
    await _write(session, write, as_task=True)
    _committed(session, outcome, moving, proposals)
    for event in (*take_on(desk, outcome), *events):
        desk.bus.publish(event)
    _count(desk, events)


def _rows_of(session: Session, moving: Sequence[Proposal]) -> tuple[list[CycleWrite], list[OutboxEvent], list[Event]]:
    """The books' cycles, what the outside is told of them, and what the inside is."""
    desk, at = session.desk, datetime.now(UTC)
    prefix, cycles, outside, events = new_run_prefix(at), list[CycleWrite](), list[OutboxEvent](), list[Event]()
    for number, one in enumerate(moving, 1):
        account, created = one.decided.start.account, one.decided.start.created
        record = session.record(f"{prefix}-{number}", at, one.funded.waiting)
        told = [desk.watched[symbol] for symbol in one.book.symbols if desk.watched[symbol].findings]
        quality = pl.concat([finding_rows(found.series, tuple(found.findings), at) for found in told]) if told else pl.DataFrame()
        terms = pl.DataFrame() if created or not one.book.changed_terms else terms_rows(account, one.book.changed_terms)
        cycles.append(cycle_write(one.decided, record, quality, terms))
        outside += outbox_events(session.name, session.session_id, one.decided, _correlations(one), 1)
        events += ledger_events(one.decided, session.session_id, one.interventions)
    return cycles, outside, events


def _correlations(one: Proposal) -> Callable[[str, int], str]:
    account = one.decided.start.account

    def correlation(symbol: str, opened_ms: int) -> str:
        return bar_id(account.market, symbol, account.timeframe, opened_ms)

    return correlation


def _is_processed(one: Proposal, opened_ms: int) -> bool:
    before_ms, after_ms = one.decided.start.state.watermark_ms, one.decided.advanced.state.watermark_ms
    return after_ms is not None and opened_ms <= after_ms and (before_ms is None or opened_ms > before_ms)


def _fresh_rows(desk: Desk, proposals: Sequence[Proposal]) -> pl.DataFrame:
    """Bars that the lake does not have, and that the accounts act on now."""
    watched = [desk.watched[symbol] for one in proposals for symbol in one.book.symbols]
    frames = [_with_series(one, one.unkept_fresh()) for one in watched]
    return pl.concat(frames) if frames else pl.DataFrame()


def _with_series(one: Watched, rows: pl.DataFrame) -> pl.DataFrame:
    series = one.series
    named = {"market": series.market, "symbol": series.symbol, "timeframe": series.timeframe}
    return rows.select(*(pl.lit(value).alias(name) for name, value in named.items()), *CANDLE_SCHEMA)


def _committed(session: Session, outcome: Outcome, moving: Sequence[Proposal], proposals: Sequence[Proposal]) -> None:
    """The desk goes on from what is in the store now."""
    desk, at, lags = session.desk, datetime.now(UTC), list[float]()
    for one in moving:
        one.book.committed(one.decided, one.interventions, history_bars(desk.rules.signals))
        for symbol in one.book.symbols:
            desk.watched[symbol].findings = []
    for symbol in (symbol for one in proposals for symbol in one.book.symbols):
        watched, book = desk.watched[symbol], desk.book_of(symbol)
        closed_ms = 0 if watched.last_ms is None else watched.last_ms + watched.length_ms
        if closed_ms > session.opened_ms and watched.fresh:  # what had closed before the session began says nothing of it
            lags.append((session.clock.now_ms - closed_ms) / 1000)
        watched.committed(at, book.start.state.watermark_ms, is_cut=outcome.is_cut)
        for stage in STAGES:
            desk.stage_succeeded(symbol, stage)
    session.lags_s.extend(lags)
    session.metrics.committed(lags)


def _count(desk: Desk, events: Sequence[Event]) -> None:
    desk.counts.orders += sum(isinstance(event, OrderPlaced) for event in events)
    desk.counts.fills += sum(isinstance(event, TradeExecuted) for event in events)


def stale_event(session: Session, event: DataStale) -> OutboxEvent:
    """Stale data as the outside hears of it: an automation may act on it."""
    inside = ("kind", "event_id", "correlation_id", "causation_id", "at", "session_id", "symbol")
    told: dict[str, Json] = {key: value for key, value in document(event).items() if key not in inside}
    return OutboxEvent(
        event_id=event.event_id, name=session.name, sequence=1, kind=event.kind,
        account=session.desk.watched[str(event.symbol)].account, symbol=event.symbol, at=event.at,
        correlation_id=event.correlation_id, causation_id=event.causation_id, session_id=session.session_id, document=told,
    )  # fmt: skip


async def beat(session: Session) -> None:
    """Write the session's status, and whatever else waits."""
    try:
        await _write(session, SessionWrite(name=session.name, at=datetime.now(UTC)))
    except LedgerError as error:
        store_failed(session, error)


async def _write(session: Session, write: SessionWrite, *, as_task: bool = False) -> None:
    """Add what waits, number the outbox, commit, and hand the events on. What could not be written waits for the next time."""
    waiting, desk = session.unwritten, session.desk
    if session.sender is not None:
        for sink, ids in session.sender.take_delivered().items():
            waiting.delivered.setdefault(sink, []).extend(ids)
    transitions = desk.states.take_transitions()
    outbox = numbered(session.sequence, [*waiting.outbox, *write.outbox])
    whole = replace(
        write,
        outbox=outbox,
        transitions=transitions,
        applied=tuple(waiting.applied),
        delivered={sink: tuple(ids) for sink, ids in waiting.delivered.items()},
        flushed=tuple(waiting.flushed),
        alerts=session.alerts.take_rows(),
        session=_due_row(session),
        risk=write.risk or remembered(desk, desk.risk),
    )
    try:
        if as_task:
            new = await commit_bars(session.store, Commit(whole))
        else:
            new = await asyncio.to_thread(session.store.commit, whole)
    except BaseException:
        desk.states.give_back(transitions)
        session.alerts.give_back(whole.alerts)
        raise
    session.sequence += len(new)
    session.unwritten = Unwritten()
    session.store_connected = True
    if whole.session is not None:
        session.beat_s = time.monotonic()
    if session.sender is not None:
        session.sender.offer(new)


def numbered(first: int, events: Sequence[OutboxEvent]) -> list[OutboxEvent]:
    """Events with the next numbers of the desk's outbox."""
    return [replace(event, sequence=first + place) for place, event in enumerate(events)]


def _due_row(session: Session) -> SessionRow | None:
    """The session's row, if it is time for a heartbeat."""
    if time.monotonic() - session.beat_s < session.settings.monitoring.heartbeat_s:
        return None
    status = session.status()
    session.metrics.observe(status)
    session.last_document = status.model_dump(mode="json")
    ended_at, reason = session.ended or (None, None)
    return session.row(session.desk.states.session.state, session.last_document, ended_at, reason)


def store_failed(session: Session, error: LedgerError) -> None:
    """The store refused or did not answer: nothing is lost, all of it is tried again with the next tick."""
    session.store_connected = False
    session.alerts.store_refused(str(error))
    session.notice(f"the store does not take what happens; it is tried again: {error}")


async def flush_some(session: Session, least_bars: int | None = None, most: int = _FLUSHED_A_TICK) -> int:
    """Bring bars of a few symbols from the store to the lake, those with the most first; how many symbols had enough.

    ``least_bars``: from how many on; None: as the settings say. A lake that refuses is asked again later.
    """
    least = session.settings.monitoring.flush_bars if least_bars is None else least_bars
    full = sorted(
        (one for one in session.desk.watched.values() if one.pending - one.fresh >= least), key=lambda one: -one.pending
    )
    for one in full[:most]:
        rows = one.to_keep()
        try:
            await asyncio.to_thread(keep_bars, session.lake, one.series, rows, tuple(one.unkept))
        except (LakeError, OSError) as error:
            session.notice(f"the lake does not take the candles of {one.symbol}; the store keeps them: {error}")
            return len(full)
        one.pending -= rows.height
        one.unkept = []
        session.unwritten.flushed.append((one.series, int(opened_at_ms(rows)[-1])))
    return len(full)
