"""A desk that is driven bar by bar in this process: the session's own steps, real store and lake, and a market in memory.

Prefect's tasks are called as plain functions, nothing is sent, and the market's clock stands where a test puts it.
"""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import ClassVar

import numpy as np
import polars as pl
import pytest
import yaml
from prefect.tasks import Task

from candlewick.account import Scalar
from candlewick.candles import CANDLE_SCHEMA, CandlePage, FormingBar, MarketClock, Series
from candlewick.engine.bars import Beside
from candlewick.errors import MarketUnavailable
from candlewick.funding import FUNDING_SCHEMA
from candlewick.instruments import Instrument
from candlewick.json_text import Json
from candlewick.monitoring.events import Event
from candlewick.monitoring.request import SessionOptions, read_session_request
from candlewick.monitoring.rows import Command, Control
from candlewick.parity import parity_lines, prove_parity
from candlewick.store.database import Database
from candlewick.store.ledger import Ledger
from candlewick.store.queries import account_rows
from candlewick.store.sessions import SessionStore
from candlewick.store.tables import TABLES
from candlewick.strategies.contract import Strategy
from candlewick.timeframes import MINUTE_MS
from flows import monitor_opening, monitor_ticks
from flows.monitor_opening import as_known, open_desk, prepare, take_turn
from flows.monitor_session import Session
from flows.monitor_ticks import tick
from tasks.market import MarketAccess

ANCHOR = datetime(2026, 1, 14, 12, tzinfo=UTC)
ANCHOR_MS = round(ANCHOR.timestamp() * 1000)
FUNDING_MS = 8 * 3_600_000
BTC, ETH = "BTC/USDT", "ETH/USDT"
BTC_ACCOUNT, ETH_ACCOUNT = "desk.BTC-USDT", "desk.ETH-USDT"
COMPARED = ("signals", "orders", "fills", "postings", "equity", "interventions")
QUIET: Mapping[str, Mapping[str, Json]] = {
    "paper": {"since": ANCHOR.isoformat(), "cash": 100_000},
    "monitoring": {
        "timeframe": "1m",
        "poll_interval_s": 3600,
        "clock_interval_s": 3600,
        "heartbeat_s": 3600,
        "stale_after_bars": None,
        "restart_base_s": 0.001,
        "restart_max_s": 0.001,
        "flush_bars": 7,
    },
    "rules": {"max_drawdown_share": None, "daily_loss_limit_share": None, "cooldown_bars": 0},
}
# What a bar's volume makes the strategy `Coded` say at its close.
BUY, SELL, EXIT = 101.0, 102.0, 103.0
_CODES = {BUY: "BUY", SELL: "SELL", EXIT: "EXIT"}


class Coded(Strategy):
    """Decides by the candles' volumes, so that a test says what is decided at which bar; fails at volumes in `poison`."""

    poison: ClassVar[set[float]] = set()
    stop_loss_bps: float | None = None

    def signals(self, candles: pl.DataFrame) -> pl.DataFrame:
        """One row a candle."""
        if candles.height and float(candles["volume"][-1]) in self.poison:
            raise ValueError("poisoned bar")
        return candles.select(
            pl.col("volume").replace_strict(_CODES, default="HOLD", return_dtype=pl.String()).alias("action"),
            pl.lit(self.stop_loss_bps, pl.Float64).alias("stop_loss_bps"),
        )


CODED = "tests.desk_play:Coded"


def bars(closes: list[float], codes: Mapping[int, float] | None = None, first: int = 0) -> pl.DataFrame:
    """Candles of 1m with these closes, each opening where the one before has closed; ``codes``: volume by place."""
    opens = [closes[0], *closes[:-1]]
    volumes = [(codes or {}).get(place, 500.0) for place in range(len(closes))]
    return pl.DataFrame(
        {
            "opened_at": [ANCHOR_MS + (first + place) * MINUTE_MS for place in range(len(closes))],
            "open": opens,
            "high": [max(pair) for pair in zip(opens, closes, strict=True)],
            "low": [min(pair) for pair in zip(opens, closes, strict=True)],
            "close": closes,
            "volume": volumes,
        },
        schema={**CANDLE_SCHEMA, "opened_at": pl.Int64},
    ).with_columns(pl.col("opened_at").cast(CANDLE_SCHEMA["opened_at"]))


def walk(seed: int, length: int) -> pl.DataFrame:
    """A random walk from 100."""
    steps = np.random.default_rng(seed).normal(0, 0.004, length)
    return bars([round(float(close), 2) for close in 100 * np.exp(np.cumsum(steps))])


@dataclass
class MadeMarket:
    """``candles`` by symbol, shown as far as they have closed by ``now_ms``. ``away``: symbols that get no answer;
    ``rubbish``: those whose answer cannot be. ``kind`` of the instruments.
    """

    candles: dict[str, pl.DataFrame]
    now_ms: int = ANCHOR_MS
    away: set[str] = field(default_factory=set)
    rubbish: set[str] = field(default_factory=set)
    shows_forming: bool = True
    funding_late_ms: int = 0
    kind: str = "spot"
    name: str = "sample"

    async def clock(self) -> MarketClock:
        """The time a test has put it to."""
        return MarketClock(self.now_ms)

    async def instruments(self, symbols: tuple[str, ...]) -> dict[str, Instrument]:
        """The same rules for all."""
        tick, step = Decimal("0.01"), Decimal("0.0001")
        return {
            symbol: Instrument(symbol, symbol.split("/")[0], "USDT", tick, step, kind=self.kind)  # type: ignore[arg-type]
            for symbol in symbols
        }

    def series(self, symbol: str, timeframe: str) -> Series:
        """As any market's."""
        return Series(self.name, symbol, timeframe)

    def fingerprint(self, symbol: str, timeframe: str) -> str | None:
        """It only grows."""
        return None

    async def fetch(self, symbol: str, timeframe: str, since_ms: int, now_ms: int) -> CandlePage:
        """Closed candles, and the open of the forming one."""
        if symbol in self.away:
            raise MarketUnavailable(f"{symbol}: no answer")
        time = pl.col("opened_at").dt.epoch("ms")
        known = self.candles[symbol].filter(time >= since_ms)
        closed = known.filter(time + MINUTE_MS <= now_ms)
        if symbol in self.rubbish:
            closed = closed.with_columns(high=pl.col("low") - 1)
        forming = known.filter((time <= now_ms) & (time + MINUTE_MS > now_ms))
        shown = FormingBar(int(forming["opened_at"].dt.epoch("ms")[0]), float(forming["open"][0])) if forming.height else None
        return CandlePage(closed, shown if self.shows_forming else None)

    async def funding(self, symbol: str, since_ms: int, until_ms: int) -> pl.DataFrame:
        """0.05 % every 8 hours from 00:00 UTC on, told once it is due and not ``funding_late_ms`` later."""
        first, last = -(-since_ms // FUNDING_MS), -(-min(until_ms, self.now_ms - self.funding_late_ms) // FUNDING_MS)
        due_ms = [number * FUNDING_MS for number in range(first, last)]
        rows = {"funding_at": [at * 1000 for at in due_ms], "rate": [0.0005] * len(due_ms), "noted_at": due_ms}
        return pl.DataFrame(rows, {"funding_at": pl.Int64, "rate": pl.Float64, "noted_at": pl.Int64}).cast(dict(FUNDING_SCHEMA))  # type: ignore[arg-type]

    def funding_fingerprint(self, symbol: str) -> str | None:
        """It only grows."""
        return None

    async def close(self) -> None:
        """Nothing is open."""


@dataclass
class Played:
    """A desk under ``directory`` and its session, if one is open. ``events``: what the sessions' buses have told."""

    directory: Path
    market: MadeMarket
    options: SessionOptions
    runner: asyncio.Runner
    session: Session = field(init=False)
    events: list[Event] = field(default_factory=list)

    @property
    def ledger(self) -> Ledger:
        """The desk's ledger."""
        return Ledger(Database(str(self.directory / "data" / "ledger.duckdb")))

    @property
    def store(self) -> SessionStore:
        """What sessions keep beside it."""
        return SessionStore(self.ledger.database)

    def open(self) -> Session:
        """A session takes its turn and opens the desk."""

        async def opened() -> None:
            await prepare(self.session)
            assert await take_turn(self.session) is None
            self.session.clock.heard(self.market.now_ms)
            await open_desk(self.session)

        self.session = Session(self.runner.run(as_known(read_session_request(self.options))))
        self.session.shown_s = float("inf")
        self.runner.run(opened())
        self.session.desk.bus.subscribe(Event, self.events.append, "test")
        return self.session

    def kill(self) -> None:
        """The session is gone at once, with all that it has not committed."""
        self.session.release()

    def reopen(self) -> Session:
        """It dies, and the next one takes over."""
        self.kill()
        return self.open()

    def to(self, bar: int, ticks: int = 1) -> None:
        """The market's clock goes to half a second after the close of this bar (0 is the first one), and the session looks."""
        self.market.now_ms = ANCHOR_MS + (bar + 1) * MINUTE_MS + 500
        for _ in range(ticks):
            self.tick()

    def tick(self) -> None:
        """One look, and those that follow from it at once."""
        self.session.clock.heard(self.market.now_ms)
        self.runner.run(tick(self.session))
        while self.session.store_connected and self.session.desk.has_work():
            self.runner.run(tick(self.session))

    def ask(self, command: Command, symbol: str | None = None, argument: str | None = None, reason: str = "a test") -> str:
        """A command is left in the store, and the session takes it; what it says."""
        number = len(self.store.controls(self.session.name, 1000))
        control = Control(
            control_id=f"control-{number}", name=self.session.name, command=command, symbol=symbol, argument=argument,
            reason=reason, requested_by="kim", requested_at=datetime.now(UTC),
        )  # fmt: skip
        self.store.ask(control)
        self.session.polled_s = float("-inf")
        self.tick()
        return str(self.store.controls(self.session.name, 1)[0].outcome)

    def heard(self, *kinds: type[Event]) -> list[Event]:
        """Events of these kinds, in their order."""
        return [event for event in self.events if isinstance(event, kinds)]

    def rows(self, account: str) -> dict[str, pl.DataFrame]:
        """The account's rows by table."""
        return self.ledger.export_rows(account)

    def unlike_a_backtest(self) -> list[str]:
        """Where accounts are not what one backtest makes of the same bars and interventions."""
        found = []
        for book in self.session.desk.books.values():
            until = pl.col("opened_at").dt.epoch("ms") <= (book.start.state.watermark_ms or 0)
            candles = {symbol: self.market.candles[symbol].filter(until) for symbol in book.symbols}
            last_ms = self.market.now_ms
            paid = {s: self.runner.run(self.market.funding(s, ANCHOR_MS, last_ms)) for s in book.symbols if book.has_perpetuals}
            report = prove_parity(account_rows(self.ledger.database, book.name), candles, Beside(funding=paid))
            found += [f"{book.name}: {line}" for line in parity_lines(report)]
        return found


@contextmanager
def playing(
    directory: Path,
    candles: Mapping[str, pl.DataFrame],
    settings: Mapping[str, Mapping[str, Json]] | None = None,
    strategy: str = CODED,
    parameters: Mapping[str, Scalar] | None = None,
    kind: str = "spot",
) -> Iterator[Played]:
    """A desk in ``directory``, its settings laid over QUIET section by section, with its first session open at the anchor."""
    document = {section: dict(keys) for section, keys in QUIET.items()}
    for section, keys in (settings or {}).items():
        document[section] = document.get(section, {}) | dict(keys)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "candlewick.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    market = MadeMarket(dict(candles), kind=kind)
    access = MarketAccess(market)

    async def open_made(name: str, settings: object, until_ms: int | None) -> MarketAccess:
        return access

    options = SessionOptions(symbols=tuple(candles), strategy=strategy, parameters=parameters)
    with pytest.MonkeyPatch.context() as patch, asyncio.Runner() as runner:
        patch.chdir(directory)
        patch.setattr(Task, "__call__", lambda task, *arguments, **named: task.fn(*arguments, **named))
        for module in (monitor_opening, monitor_ticks):
            patch.setattr(module, "open_market", open_made)
        played = Played(directory, market, options, runner)
        market.now_ms = ANCHOR_MS + 500
        played.open()
        try:
            yield played
        finally:
            played.kill()


# What the ledger has to say


def content(desk: Played, account: str) -> dict[str, pl.DataFrame]:
    """What bars have done to an account: rows without who wrote them, and when."""
    rows = desk.rows(account)
    return {name: rows[name].select(column for column in TABLES[name].content if column != "session_id") for name in COMPARED}


def differing(one: dict[str, pl.DataFrame], other: dict[str, pl.DataFrame]) -> list[str]:
    """Tables that are not the same in both."""
    return [name for name in COMPARED if not one[name].equals(other[name])]


def rejections(desk: Played, account: str) -> list[tuple[int, str, str, str]]:
    """Bar, what was decided, what counts, and the rule, of an account's interventions."""
    kept = desk.store.interventions(account)
    return [((one.opened_at_ms - ANCHOR_MS) // MINUTE_MS, one.action, one.replacement, one.rule) for one in kept]


def entered_bars(desk: Played, account: str) -> list[int]:
    """Bars at whose close an entry was decided."""
    orders = desk.rows(account)["orders"].filter((pl.col("leg") == "entry") & (pl.col("status") != "refused"))
    return [round(at.timestamp() * 1000 - ANCHOR_MS) // MINUTE_MS - 1 for at in orders["decided_at"]]
