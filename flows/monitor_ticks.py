"""What a session does over and over: commands, the clock, new bars, decisions, one commit, and its heartbeat."""

import asyncio
import logging
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from candlewick.advancing import common_watermark
from candlewick.errors import CandlewickError, LedgerError
from candlewick.monitoring.watched import windows_of
from flows.monitor_commits import beat, commit_outcome, flush_some, stale_event, store_failed
from flows.monitor_controls import obey
from flows.monitor_opening import reload
from flows.monitor_session import Session
from tasks.funding import complete_known_funding
from tasks.market import open_market, read_clock
from tasks.monitoring import Ask, Asks, Decisions, Heard, decide_bars, fetch_bars
from tasks.status_artifact import publish_status

_LOG = logging.getLogger("candlewick.monitor")
_ARTIFACT_S = 30.0
_LEAST_SLEEP_S = 0.02
_MISSED_SLEEP_S = 0.25
# So many answers without a new bar are late; after that the bar is not coming, or the market is away.
_SOON = 6


async def watch(session: Session) -> str:
    """Tick until the session is over; why it is."""
    while True:
        started_s = time.monotonic()
        await tick(session)
        reason = is_over(session)
        if reason is not None:
            return reason
        session.metrics.cycle(time.monotonic() - started_s)
        await asyncio.sleep(_until_next(session))


def is_over(session: Session) -> str | None:
    """Why the session ends now: a command, its time, or the next session that waits. None while it goes on."""
    if session.stop_reason is not None:
        return f"stopped by {session.stop_reason[1]}: {session.stop_reason[0]}"
    over_s = (datetime.now(UTC) - session.ends_at).total_seconds()
    if over_s < 0:
        return None
    if session.successor is not None:
        return f"handed over to {session.successor.session_id}"
    patience_s = session.settings.monitoring.handover_s if session.is_scheduled else 0.0
    return "its time is over" if over_s >= patience_s else None


async def tick(session: Session) -> None:
    """Look at everything once. What one symbol does is no other's matter; a store that does not answer is asked again.

    Bars that have just closed come first: commands, the clock and the lake wait until they are committed.
    """
    desk = session.desk
    desk.now, desk.clock_ms = datetime.now(UTC), session.clock.now_ms
    await _ask_for_bars(session)
    decided = desk.has_work()
    if decided:
        await _decide_and_commit(session)
    await _listen(session)
    await _ask_clock(session)
    desk.now, desk.clock_ms = datetime.now(UTC), session.clock.now_ms
    desk.keep_hours()
    session.unwritten.outbox += [stale_event(session, event) for event in desk.look_for_stale()]
    for symbol in desk.restarts_due():
        if desk.states.symbol(symbol).state == "RECOVERING":
            await reload(session, symbol)
    if session.unwritten or (not decided and time.monotonic() - session.beat_s >= session.settings.monitoring.heartbeat_s):
        await beat(session)
    session.alerts.look(session.sender)
    await flush_some(session)
    show_in_prefect(session)


async def _ask_for_bars(session: Session) -> None:
    """Ask for what has closed since, of all symbols that may be asked for."""
    desk = session.desk
    due = desk.due()
    if due:
        asks = [Ask(one.series, one.next_ms(desk.book_of(one.symbol).start.account.anchor_ms), one.last_ms) for one in due]
        wants_spreads = desk.rules.is_live and desk.rules.signals.max_spread_bps is not None
        _take_in(session, await fetch_bars(session.access, Asks(asks, desk.clock_ms, wants_spreads)))


def show_in_prefect(session: Session) -> None:
    """Refresh the status artifact in the background, so that a Prefect server that is away delays no bar."""
    if session.showing is not None and not session.showing.done():
        return
    if session.showing is not None:
        session.artifact_id = _artifact_of(session, session.showing)
        session.showing = None
    if time.monotonic() - session.shown_s >= _ARTIFACT_S:
        session.shown_s = time.monotonic()
        session.showing = asyncio.create_task(publish_status(session.status(), session.artifact_id))


def _artifact_of(session: Session, shown: "asyncio.Task[UUID]") -> UUID | None:
    problem = shown.exception()
    if problem is None:
        return shown.result()
    _LOG.info("the status artifact of %s could not be refreshed: %s", session.session_id, problem)
    return session.artifact_id


async def _listen(session: Session) -> None:
    """Commands of people, and whether the next session is there; as often as the settings say."""
    if time.monotonic() - session.polled_s < session.settings.monitoring.poll_interval_s:
        return
    session.polled_s = time.monotonic()
    try:
        poll = await asyncio.to_thread(session.store.poll, session.name, session.session_id)
    except LedgerError as error:
        store_failed(session, error)
        return
    session.successor = poll.successor
    await _offer_again(session)
    done = {control.control_id for control in session.unwritten.applied}
    for control in poll.controls:
        if control.control_id not in done:
            await obey(session, control)


async def _offer_again(session: Session) -> None:
    """Events that a sink lacks: an earlier session had not sent them, or there was no room for them. The store has them."""
    if session.sender is None:
        return
    for sink in session.sender.behind():
        session.sender.offer_again(sink, await asyncio.to_thread(session.store.undelivered, session.name, sink))


async def _ask_clock(session: Session) -> None:
    if session.clock.age_s < session.settings.monitoring.clock_interval_s:
        return
    try:
        if session.access.max_skew_ms is None:  # no exchange: it has the clock of this machine, of when it was opened
            session.access = await open_market(session.access.market.name, session.settings, None)
        time_now = await read_clock.fn(session.access, None)
    except (CandlewickError, TimeoutError) as error:
        session.desk.market_answers = False
        session.notice(f"{session.access.market.name} does not tell its time: {error}")
        return
    session.desk.market_answers = True
    session.clock.heard(time_now.now_ms)


def _take_in(session: Session, heard: Sequence[Heard]) -> None:
    """Put what the market answered into the windows. Where nobody got an answer the market is away: no symbol is to blame."""
    desk = session.desk
    failed = [one for one in heard if one.error is not None]
    is_outage = len(failed) == len(heard) and (len(heard) > 1 or not desk.market_answers)
    for one in heard:
        watched = desk.watched[one.symbol]
        watched.asked_ms = desk.clock_ms
        if one.error is not None:
            desk.data_failed(one.symbol, one.error, is_outage=is_outage)
        elif one.checked is not None:
            added = watched.add(one.checked.candles, one.pages, one.forming)
            if added:
                watched.findings += one.checked.findings
                watched.spread_bps = one.spread_bps
            desk.data_came(one.symbol, added)


async def _decide_and_commit(session: Session) -> None:
    desk = session.desk
    for book in desk.books.values():
        if book.has_perpetuals and any(desk.watched[symbol].fresh for symbol in book.symbols):
            await _fund(session, book.name)
    await commit_outcome(session, await decide_bars(Decisions(desk)))


async def _fund(session: Session, name: str) -> None:
    """The funding of a book's perpetuals, as far as it is known. What is missing is its symbols' failure."""
    desk, book = session.desk, session.desk.books[name]
    windows = windows_of(book.symbols, desk.watched)
    last_ms = common_watermark(windows)
    if last_ms is None:
        return
    series = {symbol: desk.watched[symbol].series for symbol in book.symbols}
    try:
        desk.execution.funded[name] = await complete_known_funding(
            session.access, session.lake, book.instruments, series, windows, last_ms
        )
    except (CandlewickError, TimeoutError) as error:
        for symbol in book.symbols:
            desk.stage_failed(symbol, "data", error)


def _until_next(session: Session) -> float:
    """Seconds to sleep: until the next bar closes, or until the next look at the store."""
    desk = session.desk
    now_ms = session.clock.now_ms
    closes_ms = (now_ms // desk.length_ms + 1) * desk.length_ms
    poll_s = session.settings.monitoring.poll_interval_s
    if session.store_connected and desk.has_work():  # execution stopped at a bar, and goes on with the next one
        return _LEAST_SLEEP_S
    if any(0 < one.misses <= _SOON for one in desk.watched.values()):
        poll_s = min(poll_s, _MISSED_SLEEP_S)
    return max(_LEAST_SLEEP_S, min(poll_s, (closes_ms - now_ms) / 1000))
