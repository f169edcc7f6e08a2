"""How a session begins: its turn, its market, its books and windows."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from candlewick.account import TermsVersion
from candlewick.amending import exchange_changes
from candlewick.announcing import announce
from candlewick.candles import opened_at_ms
from candlewick.cycle import Start, new_start
from candlewick.errors import AccountBusy
from candlewick.instruments import Instrument
from candlewick.monitoring.books import Book, with_terms
from candlewick.monitoring.desk import Desk, DeskRules, start_all
from candlewick.monitoring.desk_risk import remember
from candlewick.monitoring.event_log import log_events
from candlewick.monitoring.from_settings import regime_rules, signal_rules, trading_hours
from candlewick.monitoring.request import SessionRequest, as_desk_is, book_requests
from candlewick.monitoring.risk_settings import risk_rules
from candlewick.monitoring.rows import SessionRow, Sink
from candlewick.monitoring.signal_rules import history_bars
from candlewick.monitoring.watched import Watched
from candlewick.paper_request import PaperRequest, apply_fees, check_options, open_account
from candlewick.rebuilding import REBUILT
from candlewick.store.database import Database
from candlewick.store.ledger import Ledger
from candlewick.store.lock import HeldLock, Holder
from candlewick.store.processes import is_alive
from candlewick.store.session_writing import SessionWrite
from candlewick.strategy_gate import refuse_peeking
from flows.monitor_session import Session
from tasks.ledger import start_of
from tasks.market import open_market, read_clock, read_instruments
from tasks.monitoring import Opened, Windows, open_windows
from tasks.patience import patient
from tasks.rebuilding import rebuild_state

_OUTBOX_KEPT = timedelta(days=7)
_LOOKED_AT = 20


async def take_turn(session: Session) -> str | None:
    """Wait until the desk is free; why not, where another session has it and is not about to end.

    The next session is there before the last one ends: it says so in the store, and the last one lets go of the desk.
    """
    await _say_starting(session)
    patience_s = session.settings.monitoring.handover_s
    while isinstance(lock := session.ledger.try_account_lock(f"{session.name} session"), Holder):
        running = await asyncio.to_thread(running_session, session)
        left_s = 0.0 if running is None else (running.ends_at - datetime.now(UTC)).total_seconds()
        if left_s > patience_s or (datetime.now(UTC) - session.started_at).total_seconds() > 2 * patience_s + 1:
            who = "another process" if running is None else f"session {running.session_id}, until {running.ends_at:%H:%M:%S} UTC,"
            return f"{who} watches desk {session.name} ({lock})"
        announce(f"waiting for desk {session.name}: its session ends in {max(0, left_s):.0f} s")
        await asyncio.sleep(session.settings.monitoring.poll_interval_s)
        await _say_starting(session)
    session.locks.append(lock)
    return None


async def _say_starting(session: Session) -> None:
    write = SessionWrite(name=session.name, at=datetime.now(UTC), session=session.row("STARTING", {}))
    await asyncio.to_thread(session.store.commit, write)


def running_session(session: Session) -> SessionRow | None:
    """The session of this desk that is not this one and has not ended."""
    rows = session.store.seen_last(session.name, 5)
    others = (row for row in rows if row.session_id != session.session_id and row.ended_at is None)
    return next((row for row in others if row.state != "STARTING"), None)


def dead_sessions(session: Session) -> list[SessionRow]:
    """Sessions of this desk whose process died before it could say that they ended."""
    now = datetime.now(UTC)
    rows = session.store.seen_last(session.name, _LOOKED_AT)
    others = [row for row in rows if row.session_id != session.session_id and row.ended_at is None]
    return [row for row in others if not is_alive(row.process, row.heartbeat_at, now)]


async def as_known(request: SessionRequest) -> SessionRequest:
    """The request with what the desk's own accounts say where no option does. Raises UsageError."""
    store = request.paper.settings.store
    ledger = Ledger(Database(store.url, store.lock_timeout_s))
    return as_desk_is(request, await asyncio.to_thread(ledger.list_accounts))


async def prepare(session: Session) -> None:
    """What takes long and needs no turn: the market is opened, the engine compiled, so that a hand-over takes a moment."""
    announce(f"opening market {session.settings.paper.market}")
    session.access = await open_market(session.settings.paper.market, session.settings, None)
    await asyncio.to_thread(_compile)


def _compile() -> None:
    """Importing compiled code takes longer than many a bar."""
    import candlewick.engine.folding
    import candlewick.monitoring.regime_fold  # noqa: F401


async def open_desk(session: Session) -> None:
    """Load or open every account, bring every window up to date, and start the desk."""
    requests = book_requests(session.request, await asyncio.to_thread(_existing, session))
    time_now = await patient(read_clock, session.access)(session.access, None)
    session.clock.heard(time_now.now_ms)
    symbols = tuple(dict.fromkeys(symbol for one in requests.values() for symbol in one.settings.paper.symbols))
    loaded = await asyncio.to_thread(session.ledger.load_accounts, tuple(requests))
    starts = {name: start_of(found) for name, found in loaded.items()}
    symbols = tuple(dict.fromkeys((*[s for start in starts.values() for s in start.account.symbols], *symbols)))
    _lock_accounts(session, tuple(requests))
    instruments = apply_fees(await patient(read_instruments, session.access)(session.access, symbols), session.settings)
    books = {}
    for name, request in requests.items():
        books[name] = await _open_book(session, request, starts.get(name), instruments)
    now = datetime.now(UTC)
    watched = _watch(session, books)
    session.desk = Desk(session.session_id, session.name, _rules(session, tuple(watched)), books, watched, now)
    session.desk.clock_ms = session.opened_ms = session.clock.now_ms
    session.metrics.attach(session.desk.bus)
    session.alerts.attach(session.desk)
    log_events(session.desk.bus)
    session.desk.states.session.move("STARTING", "the session starts", "session", now)
    remember(session.desk, await asyncio.to_thread(session.store.risk, session.name))
    session.sequence = await asyncio.to_thread(session.store.last_sequence, session.name) + 1
    await _look_back(session)
    await load_windows(session, tuple(session.desk.watched))


async def _look_back(session: Session) -> None:
    """What sessions before this one have left: alerts, a death, and external events that are old and delivered."""
    session.alerts.remember(await asyncio.to_thread(session.store.alerts, session.name))
    for row in await asyncio.to_thread(dead_sessions, session):
        if row.state != "STARTING":
            session.alerts.crashed(row)
        at = datetime.now(UTC)
        ended = replace(row, state="ERROR", ended_at=at, reason=f"its process died; {session.session_id} went on")
        await asyncio.to_thread(session.store.commit, SessionWrite(name=session.name, at=at, session=ended))
    events = session.settings.events
    used: dict[Sink, bool] = {"redis": events.redis_url is not None, "prefect": events.prefect}
    sinks = tuple(sink for sink, is_used in used.items() if is_used)
    await asyncio.to_thread(session.store.prune, session.name, datetime.now(UTC) - _OUTBOX_KEPT, sinks)


def _existing(session: Session) -> frozenset[str]:
    return frozenset(session.ledger.list_accounts()["account"].to_list())


def _lock_accounts(session: Session, names: tuple[str, ...]) -> None:
    """No paper cycle may move an account while the session does. Raises AccountBusy."""
    for name in names:
        lock = session.ledger.try_account_lock(name)
        if not isinstance(lock, HeldLock):
            raise AccountBusy(f"account {name} is being moved by {lock}; start the session when that is done")
        session.locks.append(lock)


async def _open_book(session: Session, request: PaperRequest, start: Start | None, instruments: Mapping[str, Instrument]) -> Book:
    """One account as it goes on, or new in memory: its first commit opens it. Raises AccountMismatch, StrategyPeeks."""
    if start is None:
        account = open_account(request, instruments, session.clock.now_ms)
        _refuse_peeking(session, account.current)
        return Book(new_start(account))
    if start.is_outdated:
        state = await rebuild_state(session.ledger, session.settings, start.account.name)
        session.notice(REBUILT)
        start = replace(start, state=state, is_outdated=False)
    check_options(request, start.account)
    _refuse_peeking(session, start.account.current)
    changed, notices = exchange_changes(start.account, start.state, instruments)
    for text in notices:
        session.notice(f"{start.account.name}: {text}")
    return with_terms(_book(session, start), changed)


def _book(session: Session, start: Start) -> Book:
    """A book as the ledger has it, with what its signals' rules look back on."""
    book = Book(start)
    book.remember(start.interventions, history_bars(signal_rules(session.settings.signals, session.settings.regimes)))
    return book


def _refuse_peeking(session: Session, terms: TermsVersion) -> None:
    notice = refuse_peeking(session.ledger.database, terms, allow=session.request.paper.options.allow_peeking)
    if notice is not None:
        session.notice(notice)


def _rules(session: Session, symbols: Sequence[str]) -> DeskRules:
    settings = session.settings
    monitoring = settings.monitoring
    return DeskRules(
        regimes=regime_rules(settings.regimes, settings.paper.timeframe),
        signals=signal_rules(settings.signals, settings.regimes),
        risk=risk_rules(settings.desk_risk, symbols),
        hours=trading_hours(settings.signals),
        restarts=monitoring.restarts,
        restart_base_s=monitoring.restart_base_s,
        restart_max_s=monitoring.restart_max_s,
        stale_after_bars=monitoring.stale_after_bars,
        is_live=session.access.max_skew_ms is not None,  # an exchange: others have no spreads to be asked for
    )


def _watch(session: Session, books: Mapping[str, Book]) -> dict[str, Watched]:
    market = session.access.market
    return {
        symbol: Watched(symbol, book.name, market.series(symbol, book.start.account.timeframe))
        for book in books.values()
        for symbol in book.symbols
    }


async def load_windows(session: Session, symbols: tuple[str, ...]) -> None:
    """Windows of these symbols, from the lake and the store; one that cannot be had is a failure of its data stage."""
    desk = session.desk
    announce(f"loading the candles of {len(symbols)} symbols")
    series = [desk.watched[symbol].series for symbol in symbols]
    unkept = await asyncio.to_thread(session.store.all_pending, series)
    anchors = {symbol: desk.book_of(symbol).start.account.anchor_ms for symbol in symbols}
    opened = await open_windows(session.access, session.lake, Windows(series, anchors, session.clock.now_ms), unkept)
    start_all(desk, symbols)
    for symbol in symbols:
        found = opened[symbol]
        if isinstance(found, Opened):
            take_window(session, symbol, found)
        else:
            desk.stage_failed(symbol, "data", found)


def take_window(session: Session, symbol: str, opened: Opened) -> None:
    """A symbol begins, or begins anew, with this window; bars after its account's watermark are fresh."""
    one, book = session.desk.watched[symbol], session.desk.book_of(symbol)
    watermark_ms = book.start.state.watermark_ms
    one.window, one.pending, one.ready, one.signals, one.rejections = opened.window, opened.pending, False, {}, []
    times = opened_at_ms(opened.window)
    one.fresh = len(times) - (0 if watermark_ms is None else int(times.searchsorted(watermark_ms, side="right")))
    one.forming, one.spread_bps = None, None


async def reload(session: Session, symbol: str) -> None:
    """A symbol is restarted: its account as the ledger has it, its window from the lake and the store."""
    name = session.desk.watched[symbol].account
    loaded = (await asyncio.to_thread(session.ledger.load_accounts, (name,))).get(name)
    if loaded is not None:
        session.desk.replace_book(_book(session, start_of(loaded)))
    await load_windows(session, session.desk.books[name].symbols)
    for one in session.desk.books[name].symbols:
        if not session.desk.watched[one].fresh and one not in session.desk.waiting:
            session.desk.is_back(one)
