"""A made-up desk as a session says it: statuses, and the row that a session keeps of itself."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from candlewick.json_text import plain
from candlewick.monitoring.events import STAGES, Stage, State
from candlewick.monitoring.rows import SessionRow
from candlewick.monitoring.status import RiskStatus, SessionStatus, StageStatus, SymbolStatus

NOW = datetime(2026, 1, 31, 12, 30, 42, tzinfo=UTC)
HEARTBEAT_AT = NOW - timedelta(seconds=2)
STARTED_AT = NOW - timedelta(minutes=42)


def stages(failing: Stage | None = None, error: str | None = None, failures: int = 2) -> tuple[StageStatus, ...]:
    """All four, of which one may fail."""
    return tuple(
        StageStatus(
            stage=stage,
            state="RECOVERING" if stage == failing else "RUNNING",
            failures=failures if stage == failing else 0,
            restarts=failures - 1 if stage == failing else 0,
            error=error if stage == failing else None,
        )
        for stage in STAGES
    )


def symbol(name: str = "BTC/USDT", **changes: object) -> SymbolStatus:
    """A symbol that runs, flat, whose last bar closed 42 s ago; ``changes`` are its other fields."""
    fields: dict[str, object] = {
        "symbol": name,
        "account": f"desk.{name.replace('/', '-')}",
        "state": "RUNNING",
        "stages": stages(),
        "quarantined": False,
        "paused_by": None,
        "regime": "trend",
        "last_bar_at": datetime(2026, 1, 31, 12, 29, tzinfo=UTC),
        "processed_at": NOW - timedelta(seconds=41),
        "bars": 42,
        "signal": None,
        "signal_at": None,
        "signal_verdict": None,
        "position": Decimal(0),
        "entry_price": None,
        "last_price": Decimal("75780.10"),
        "stop_loss": None,
        "unrealized_pnl": Decimal(0),
        "equity": Decimal(1000),
        "errors": 0,
        "restarts": 0,
        "last_error": None,
    }
    return SymbolStatus.model_validate(fields | changes)


def desk(*symbols: SymbolStatus, **changes: object) -> SessionStatus:
    """A session that runs ``symbols``; ``changes`` are its other fields."""
    fields: dict[str, object] = {
        "session_id": "session-20260131T114842-1f2e3d4c",
        "name": "desk",
        "market": "binance",
        "timeframe": "1m",
        "strategy": "sma_cross",
        "quote": "USDT",
        "state": "RUNNING",
        "process": "trader-1 4711 1234567",
        "flow_run_id": None,
        "started_at": STARTED_AT,
        "ends_at": STARTED_AT + timedelta(hours=1),
        "heartbeat_at": HEARTBEAT_AT,
        "heartbeat_s": 5.0,
        "clock_at": HEARTBEAT_AT,
        "uptime_s": 2520.0,
        "symbols": symbols,
        "risk": (),
        "equity": Decimal("10123.456"),
        "initial_cash": Decimal(10000),
        "day_pnl": Decimal("23.4"),
        "drawdown_share": Decimal("0.0042"),
        "open_positions": sum(bool(one.position) for one in symbols),
        "gross_exposure": Decimal("4200"),
        "net_exposure": Decimal("-1200.5"),
        "bars": sum(one.bars for one in symbols),
        "signals": 40,
        "rejections": 3,
        "orders": 37,
        "fills": 36,
        "errors": sum(one.errors for one in symbols),
        "restarts": sum(one.restarts for one in symbols),
        "lag_p50_s": 0.21,
        "lag_p99_s": 0.84,
        "bus_events": 1234,
        "bus_failures": 0,
        "bus_connected": None,
        "store_connected": True,
        "outbox_waiting": {},
        "memory_mb": 312.4,
        "notices": (),
    }
    return SessionStatus.model_validate(fields | changes)


def troubled_symbols() -> tuple[SymbolStatus, ...]:
    """One of each kind, what is well first."""
    return (
        symbol("BTC/USDT", position=Decimal("0.01234500"), unrealized_pnl=Decimal("12.345"), signal="BUY", signal_verdict="ok"),
        symbol("ETH/USDT", regime="range", signal="SELL", signal_verdict="rejected: cooldown"),
        symbol(
            "SOL/USDT", state="PAUSED", paused_by="alice: earnings today", position=Decimal("-120.5"), unrealized_pnl=Decimal(-8)
        ),
        symbol("XAU/USD", state="PAUSED", paused_by="market closed until 2026-02-01 23:00 UTC", regime="high_volatility"),
        symbol("AAPL", state="PAUSED", paused_by="market closed until 2026-02-01 23:00 UTC", regime="unknown"),
        symbol(
            "DOGE/USDT",
            state="RECOVERING",
            stages=stages("data", "MarketUnavailable: binance answered 502 three times"),
            errors=3,
            restarts=1,
            last_bar_at=datetime(2026, 1, 31, 12, 20, tzinfo=UTC),
        ),
        symbol(
            "1000PEPE/USDT:USDT",
            state="ERROR",
            quarantined=True,
            stages=stages("strategy", "StrategyFailed: sma_cross raised ZeroDivisionError: division by zero", 4),
            errors=12,
            restarts=6,
            last_bar_at=None,
        ),
    )


BROKEN_AT = NOW - timedelta(minutes=3)
RISK = (
    RiskStatus(rule="daily_loss_share", limit="2%", value="0.31%", breached_at=None, action="block_entries", lift="next_day"),
    RiskStatus(rule="max_drawdown_share", limit="10%", value="11.20%", breached_at=BROKEN_AT, action="flatten", lift="manual"),
    RiskStatus(
        rule="max_symbol_share",
        limit="0.5 of equity",
        value="0.41 of equity (1000PEPE/USDT:USDT)",
        breached_at=None,
        action="block_entries",
        lift="when_below",
    ),
    RiskStatus(rule="kill_switch", limit="off", value="off", breached_at=None, action="flatten", lift="manual"),
)


def troubled_desk(**changes: object) -> SessionStatus:
    """One symbol of each kind, limits of which one is broken, and a notice."""
    fields: dict[str, object] = {
        "risk": RISK,
        "bus_connected": False,
        "outbox_waiting": {"redis": 7, "prefect": 0},
        "notices": ("DOGE/USDT: gap of 3 bars",),
    }
    return desk(*troubled_symbols(), **(fields | changes))


def wide_desk(count: int = 200) -> SessionStatus:
    """Many symbols, of which every fiftieth is in quarantine."""
    return desk(
        *(
            symbol(
                f"COIN{number}/USDT",
                quarantined=number % 50 == 49,
                last_error="x" * 500 if number % 50 == 49 else None,
                position=Decimal(number % 3),
            )
            for number in range(count)
        )
    )


def session_row(status: SessionStatus, state: State | None = None, **changes: object) -> SessionRow:
    """The row that the session keeps of itself at that status."""
    document = plain(status)
    assert isinstance(document, dict)
    row = SessionRow(
        session_id=status.session_id,
        name=status.name,
        market=status.market,
        timeframe=status.timeframe,
        state=state or status.state,
        process=status.process,
        flow_run_id=None,
        started_at=status.started_at,
        ends_at=status.ends_at,
        heartbeat_at=status.heartbeat_at,
        ended_at=None,
        reason=None,
        document=document,
    )
    return replace(row, **changes)  # type: ignore[arg-type]
