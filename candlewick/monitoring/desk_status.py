"""A desk's status: what `status`, the artifact, the metrics and the live page show."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from candlewick.amounts import from_units
from candlewick.engine.layout import CASH_DECIMALS
from candlewick.engine.terms import price_decimals
from candlewick.monitoring.books import Book, held_quantities
from candlewick.monitoring.desk import Desk
from candlewick.monitoring.events import STAGES
from candlewick.monitoring.exposure import exposure_of
from candlewick.monitoring.risk import status as risk_status
from candlewick.monitoring.status import SessionStatus, StageStatus, SymbolStatus
from candlewick.monitoring.watched import Watched
from candlewick.timeframes import utc

_NOTHING = Decimal(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionFacts:
    """What a status says that the desk does not know; as in SessionStatus."""

    process: str
    flow_run_id: str | None
    started_at: datetime
    ends_at: datetime
    heartbeat_s: float
    lags_s: Sequence[float]
    bus_connected: bool | None
    store_connected: bool
    outbox_waiting: Mapping[str, int]
    memory_mb: float
    notices: tuple[str, ...]


def session_status(desk: Desk, facts: SessionFacts) -> SessionStatus:
    """The whole session at this moment."""
    books, standing = list(desk.books.values()), desk.execution.standing()
    account = books[0].start.account
    exposure = exposure_of(standing, desk.rules.risk.groups)
    equity = sum((book.equity for book in standing), _NOTHING)
    peak, day_start = desk.risk.peak_equity or equity, desk.risk.day_start_equity or equity
    lags = sorted(facts.lags_s)
    return SessionStatus(
        session_id=desk.session_id, name=desk.name, market=account.market, timeframe=account.timeframe,
        strategy=account.current.strategy, quote=account.quote, state=desk.states.session.state, process=facts.process,
        flow_run_id=facts.flow_run_id, started_at=facts.started_at, ends_at=facts.ends_at, heartbeat_at=desk.now,
        heartbeat_s=facts.heartbeat_s, clock_at=utc(desk.clock_ms) if desk.clock_ms else None,
        uptime_s=round((desk.now - facts.started_at).total_seconds(), 1),
        symbols=tuple(_symbol_status(desk, one) for one in desk.watched.values()),
        risk=risk_status(desk.risk, desk.rules.risk, standing), equity=equity,
        initial_cash=sum((book.start.account.initial_cash for book in books), _NOTHING), day_pnl=equity - day_start,
        drawdown_share=max(_NOTHING, (peak - equity) / peak).quantize(Decimal("0.00000001")) if peak > 0 else _NOTHING,
        open_positions=exposure.open_positions, gross_exposure=exposure.gross, net_exposure=exposure.net, bars=desk.counts.bars,
        signals=desk.counts.signals, rejections=desk.counts.rejections, orders=desk.counts.orders, fills=desk.counts.fills,
        errors=desk.counts.errors, restarts=sum(_restarts(desk, symbol) for symbol in desk.watched),
        lag_p50_s=quantile(lags, 0.5), lag_p99_s=quantile(lags, 0.99), bus_events=desk.bus.published,
        bus_failures=desk.bus.failures, bus_connected=facts.bus_connected, store_connected=facts.store_connected,
        outbox_waiting=dict(facts.outbox_waiting), memory_mb=round(facts.memory_mb, 1), notices=facts.notices,
    )  # fmt: skip


def quantile(ordered: Sequence[float], share: float) -> float | None:
    """The smallest value that at least ``share`` of them do not exceed; None of none. ``ordered`` ascending."""
    if not ordered:
        return None
    return round(ordered[min(len(ordered) - 1, max(0, -int(-share * len(ordered) // 1) - 1))], 4)


def _restarts(desk: Desk, symbol: str) -> int:
    return desk.supervisor.symbol_restarts(symbol) + sum(desk.supervisor.stage_restarts(symbol, stage) for stage in STAGES)


def _symbol_status(desk: Desk, one: Watched) -> SymbolStatus:
    book = desk.book_of(one.symbol)
    place = book.symbols.index(one.symbol)
    record = book.start.state.positions[place]
    held = held_quantities(book.start).get(one.symbol, _NOTHING)
    decimals = price_decimals(book.start.account.current.instruments[place])
    entry = from_units(int(record["entry_price"]), decimals) if held else None
    last = Decimal(repr(float(one.window["close"][-1]))) if one.window.height else None
    return SymbolStatus(
        symbol=one.symbol, account=book.name, state=desk.states.symbol(one.symbol).state,
        stages=tuple(
            StageStatus(
                stage=stage, state=desk.states.stage(one.symbol, stage).state,
                failures=desk.supervisor.stage_failures(one.symbol, stage),
                restarts=desk.supervisor.stage_restarts(one.symbol, stage), error=None,
            )
            for stage in STAGES
        ),
        quarantined=desk.supervisor.is_quarantined(one.symbol), paused_by=one.paused_by, regime=one.regime,
        last_bar_at=_watermark(book), processed_at=one.processed_at, bars=one.bars, signal=one.signal, signal_at=one.signal_at,
        signal_verdict=one.signal_verdict, position=held, entry_price=entry, last_price=last,
        stop_loss=from_units(int(record["stop"]), decimals) if held and int(record["stop"]) > 0 else None,
        unrealized_pnl=(last - entry) * held if held and entry is not None and last is not None else _NOTHING,
        equity=_equity(book), errors=one.errors, restarts=_restarts(desk, one.symbol), last_error=one.last_error,
    )  # fmt: skip


def _watermark(book: Book) -> datetime | None:
    watermark_ms = book.start.state.watermark_ms
    return None if watermark_ms is None else utc(watermark_ms)


def _equity(book: Book) -> Decimal:
    return from_units(int(book.start.state.account["equity"][0]), CASH_DECIMALS)
