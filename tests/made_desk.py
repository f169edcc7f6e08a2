"""A made-up desk in a real store: an account a symbol that buys and sells in turn, and a session that says it trades them."""

import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import polars as pl

from candlewick.candles import CANDLE_SCHEMA, Series
from candlewick.json_text import Json, plain
from candlewick.lake import Lake
from candlewick.monitoring.books import account_name
from candlewick.monitoring.events import Severity, State
from candlewick.monitoring.interventions import Intervention
from candlewick.monitoring.row_frames import pending_rows
from candlewick.monitoring.rows import AlertRow, Control, OutboxEvent, SessionRow, Transition
from candlewick.monitoring.status import SessionStatus, SymbolStatus
from candlewick.store.database import Database
from candlewick.store.ledger import CycleWrite
from candlewick.store.processes import this_process
from candlewick.store.session_writing import SessionWrite
from candlewick.store.sessions import SessionStore
from candlewick.timeframes import utc
from tests.ledger_rows import ANCHOR_MS, HOUR_MS, Trader
from tests.session_samples import desk as status_of_desk
from tests.session_samples import symbol as status_of_symbol

DESK, SESSION, MARKET, TIMEFRAME = "desk", "desk-1", "sample", "1h"
IN_LAKE = 90
"""Bars of each symbol that are in the lake; the later ones only the store has."""
DEAD_PROCESS = f"{socket.gethostname()} 4194000 1"
"""A process of this machine that there is not: pids end below."""


@dataclass(slots=True)
class MadeDesk:
    """``status`` is what the session said last: change it with ``beat``. ``traders`` by symbol."""

    directory: Path
    traders: dict[str, Trader]
    status: SessionStatus
    process: str
    ended_at: datetime | None = None
    reason: str | None = None
    moves: int = 0
    told: int = 0

    @property
    def database(self) -> Database:
        """The store under ``directory``."""
        return Database(str(self.directory / "ledger.duckdb"))

    @property
    def lake(self) -> Lake:
        """The lake under ``directory``."""
        return Lake(str(self.directory / "lake"))

    @property
    def at(self) -> datetime:
        """The market's time: the close of the last bar."""
        return utc(ANCHOR_MS + max(trader.bar for trader in self.traders.values()) * HOUR_MS)

    def beat(self, write: SessionWrite | None = None, **changes: object) -> None:
        """A heartbeat, with these fields of the status changed and with what else ``write`` has."""
        self.status = SessionStatus.model_validate(dict(self.status) | {"heartbeat_at": datetime.now(UTC)} | changes)
        given = write or self.writing()
        row = self.row()
        fields = {name: getattr(given, name) for name in SessionWrite.__slots__} | {"session": row}
        SessionStore(self.database).commit(SessionWrite(**fields))

    def change_symbol(self, symbol: str, **changes: object) -> None:
        """A heartbeat with these fields of one symbol changed."""
        self.beat(symbols=tuple(one.model_copy(update=changes) if one.symbol == symbol else one for one in self.status.symbols))

    def trade(self, symbol: str, bars: int) -> None:
        """The next bars of a symbol, committed with the candles that only the store has, and the heartbeat that tells it."""
        trader = self.traders[symbol]
        first = trader.bar
        cycle = protected(trader.cycle(bars))
        series = Series(MARKET, symbol, TIMEFRAME)
        frame = candles(first, bars)
        self.beat(
            self.writing(cycles=(cycle,), candles=pending_rows([(series, frame)])),
            symbols=tuple(told_of(one, self.traders) for one in [status.symbol for status in self.status.symbols]),
            equity=sum((trader.cash for trader in self.traders.values()), Decimal(0)),
        )

    def writing(self, **rows: object) -> SessionWrite:
        """A commit of these rows."""
        return SessionWrite(name=DESK, at=datetime.now(UTC), **rows)  # type: ignore[arg-type]

    def row(self) -> SessionRow:
        """The session's row."""
        document = plain(self.status)
        assert isinstance(document, dict)
        return SessionRow(
            session_id=SESSION,
            name=DESK,
            market=MARKET,
            timeframe=TIMEFRAME,
            state=self.status.state,
            process=self.process,
            flow_run_id=None,
            started_at=self.status.started_at,
            ends_at=self.status.ends_at,
            heartbeat_at=self.status.heartbeat_at,
            ended_at=self.ended_at,
            reason=self.reason,
            document=document,
        )

    def move(self, before: State, after: State, reason: str, symbol: str) -> Transition:
        """The next move of a symbol's states."""
        self.moves += 1
        return Transition(
            session_id=SESSION,
            sequence=self.moves,
            subject="symbol",
            symbol=symbol,
            stage=None,
            before=before,
            after=after,
            reason=reason,
            actor="supervisor",
            at=self.at,
        )

    def event(self, kind: str, symbol: str | None, document: Mapping[str, Json]) -> OutboxEvent:
        """The next event of the outbox."""
        self.told += 1
        return OutboxEvent(
            event_id=f"{kind}-{self.told}",
            name=DESK,
            sequence=self.told,
            kind=kind,
            account=None,
            symbol=symbol,
            at=self.at,
            correlation_id="made",
            causation_id=None,
            session_id=SESSION,
            document=document,
        )

    def alert(self, severity: Severity, title: str, body: str) -> AlertRow:
        """An alert that was sent."""
        return AlertRow(
            alert_id=title,
            name=DESK,
            session_id=SESSION,
            severity=severity,
            title=title,
            body=body,
            key=title,
            raised_at=self.at,
            state="sent",
            sent_at=self.at,
            repeats=0,
            error=None,
        )

    def rejection(self, symbol: str, rule: str, reason: str) -> Intervention:
        """An entry at the last bar that a rule was against."""
        return Intervention(
            account=account_name(DESK, symbol),
            symbol=symbol,
            opened_at_ms=round(self.at.timestamp() * 1000) - HOUR_MS,
            action="BUY",
            replacement="HOLD",
            rule=rule,
            limit="5",
            value="2",
            reason=reason,
            session_id=SESSION,
            correlation_id="made",
        )

    def ask(self, symbol: str, reason: str) -> None:
        """A command to pause a symbol, by somebody."""
        asked = Control(
            control_id=f"pause-{symbol}",
            name=DESK,
            command="pause",
            symbol=symbol,
            argument=None,
            reason=reason,
            requested_by="kim@trader-1",
            requested_at=self.at,
        )
        SessionStore(self.database).ask(asked)


def make_desk(directory: Path, symbols: Sequence[str], bars: int = 101, process: str | None = None) -> MadeDesk:
    """A desk whose accounts have traded ``bars`` hours, and whose session has just said so."""
    traders = {symbol: Trader(account_name(DESK, symbol), (symbol,)) for symbol in symbols}
    cycles = [protected(trader.cycle(bars)) for trader in traders.values()]
    statuses = [told_of(symbol, traders) for symbol in symbols]
    now = datetime.now(UTC)
    equity = sum((trader.cash for trader in traders.values()), Decimal(0))
    status = status_of_desk(
        *statuses,
        session_id=SESSION,
        market=MARKET,
        timeframe=TIMEFRAME,
        started_at=now - timedelta(minutes=12),
        ends_at=now + timedelta(minutes=48),
        heartbeat_at=now,
        clock_at=utc(ANCHOR_MS + bars * HOUR_MS) + timedelta(seconds=7),
        initial_cash=Decimal(10_000) * len(symbols),
        equity=equity,
    )
    made = MadeDesk(directory, traders, status, process or this_process())
    series = [Series(MARKET, symbol, TIMEFRAME) for symbol in symbols]
    for one in series:
        made.lake.append(one, candles(0, IN_LAKE), "made", None)
    made.beat(made.writing(cycles=cycles, candles=pending_rows([(one, candles(IN_LAKE, bars - IN_LAKE)) for one in series])))
    return made


def protected(cycle: CycleWrite) -> CycleWrite:
    """The same cycle; what it holds is long, with a stop."""
    with_stop = cycle.positions.with_columns(
        pl.lit("long").alias("side"), pl.lit(Decimal("97.5")).cast(pl.Decimal(38, 18)).alias("stop_loss")
    )
    return replace(cycle, positions=with_stop)


def told_of(symbol: str, traders: Mapping[str, Trader]) -> SymbolStatus:
    """What the session says of a symbol whose account is the trader's."""
    trader = traders[symbol]
    held = trader.held.get(symbol, Decimal(0))
    hundred = Decimal(100) if held else None
    return status_of_symbol(
        symbol,
        account=trader.account,
        bars=trader.bar,
        last_bar_at=utc(ANCHOR_MS + (trader.bar - 1) * HOUR_MS),
        position=held,
        entry_price=hundred,
        last_price=Decimal(100),
        equity=trader.cash,
        regime="trend",
    )


def candles(first: int, bars: int) -> pl.DataFrame:
    """Hours of a wave around 103."""
    at = np.arange(first, first + bars)
    opens, closes = 103 + 3 * np.sin(at / 7), 103 + 3 * np.sin((at + 1) / 7)
    columns = {
        "opened_at": pl.Series(ANCHOR_MS + at * HOUR_MS).cast(pl.Datetime("ms", "UTC")),
        "open": opens.round(2),
        "high": (np.maximum(opens, closes) + 0.6).round(2),
        "low": (np.minimum(opens, closes) - 0.6).round(2),
        "close": closes.round(2),
        "volume": np.full(bars, 10.0),
    }
    return pl.DataFrame(columns, schema=dict(CANDLE_SCHEMA))
