"""A session's steps that ask a market: many symbols in one task run, and what one of them does is no other's matter."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

import polars as pl
from prefect import task
from prefect.cache_policies import NO_CACHE

from candlewick.candles import FormingBar, RawPage, Series
from candlewick.errors import CandlewickError
from candlewick.findings import note_findings
from candlewick.lake import Lake
from candlewick.market_data.coverage import Span
from candlewick.monitoring.deciding import Outcome
from candlewick.monitoring.desk import Desk
from candlewick.monitoring.rows import OutboxEvent
from candlewick.store.session_writing import SessionWrite
from candlewick.store.sessions import SessionStore
from candlewick.timeframes import floor_to_bar, timeframe_ms
from candlewick.validation import ValidatedCandles
from candlewick.windows import FetchPlan, plan_fetch, remember_covered
from tasks.candles import confirm_gaps, fetch_candles, keep_pages, revised_candles
from tasks.market import MarketAccess

_LOG = logging.getLogger("candlewick.monitor")
_AT_ONCE = 16
# Bars wait for spreads, and are there already.
_SPREADS_S = 30
_NAMED = 3
# More than so many missing bars go into the lake at once; fewer wait in the store until there are enough of them.
_BACKLOG_BARS = 500


@dataclass(frozen=True, slots=True)
class Ask:
    """Bars of one series that open at ``since_ms`` or later; ``known_ms`` is the last bar before that, where there is one."""

    series: Series
    since_ms: int
    known_ms: int | None


@dataclass(frozen=True, slots=True)
class Heard:
    """What a market answered: validated bars, the forming bar and the pages; or why not. ``spread_bps``: right after its bars."""

    symbol: str
    checked: ValidatedCandles | None
    forming: FormingBar | None
    pages: tuple[RawPage, ...]
    error: CandlewickError | TimeoutError | None
    spread_bps: Decimal | None = None


class Asks:
    """Series to ask for, and whether bid-ask spreads are wanted, too.

    Not a dataclass: Prefect would search a task's dataclass arguments for futures.
    """

    def __init__(self, asks: Sequence[Ask], now_ms: int, wants_spreads: bool = False) -> None:
        self.asks = asks
        self.now_ms = now_ms
        self.wants_spreads = wants_spreads
        first = ", ".join(ask.series.symbol for ask in asks[:_NAMED])
        self.title = first if len(asks) <= _NAMED else f"{first} and {len(asks) - _NAMED} more"


@task(name="fetch-bars", task_run_name="new bars of {asks.title}", cache_policy=NO_CACHE, timeout_seconds=120)
async def fetch_bars(access: MarketAccess, asks: Asks) -> list[Heard]:
    """New bars of many series, in the order asked. A series that fails is an answer with its error."""
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(ask: Ask) -> Heard:
        async with gate:
            plan = FetchPlan(ask.series, ask.since_ms, asks.now_ms, None, ask.known_ms)
            try:
                page = await access.market.fetch(ask.series.symbol, ask.series.timeframe, ask.since_ms, asks.now_ms)
                checked, pages = await confirm_gaps(access, plan, page, ask.known_ms)
            except (CandlewickError, TimeoutError) as error:
                return Heard(ask.series.symbol, None, None, (), error)
            return Heard(ask.series.symbol, checked, page.forming, pages, None)

    heard = await asyncio.gather(*(one(ask) for ask in asks.asks))
    return await _with_spreads(access, heard) if asks.wants_spreads else heard


async def _with_spreads(access: MarketAccess, heard: list[Heard]) -> list[Heard]:
    """Spreads of the series that have new bars. One that is not known is no failure of its bars: the rule `spread` rejects."""
    symbols = tuple(one.symbol for one in heard if one.checked is not None and one.checked.candles.height)
    if not symbols:
        return heard
    try:
        async with asyncio.timeout(_SPREADS_S):
            spreads = await access.market.spreads_bps(symbols)
    except (CandlewickError, TimeoutError) as error:
        why = str(error) or f"no answer within {_SPREADS_S} s"
        _LOG.warning("the spreads of %d symbols are not known, and entries at this bar are rejected: %s", len(symbols), why)
        return heard
    return [replace(one, spread_bps=spreads.get(one.symbol)) for one in heard]


class Windows:
    """Series whose windows are wanted from ``anchors`` (ms, by symbol) on. Not a dataclass, see ``Asks``."""

    def __init__(self, series: Sequence[Series], anchors: dict[str, int], now_ms: int) -> None:
        self.series = series
        self.anchors = anchors
        self.now_ms = now_ms
        self.title = Asks([Ask(one, 0, None) for one in series], now_ms).title


@dataclass(frozen=True, slots=True)
class Opened:
    """A window; its last ``pending`` rows are in the store and not in the lake."""

    window: pl.DataFrame
    pending: int


@task(name="open-windows", task_run_name="windows of {windows.title}", cache_policy=NO_CACHE, timeout_seconds=3600)
async def open_windows(
    access: MarketAccess, lake: Lake, windows: Windows, unkept: Mapping[Series, pl.DataFrame]
) -> dict[str, Opened | CandlewickError | TimeoutError]:
    """Candles from the anchors on by symbol: the lake's, completed where many bars are missing, and those it does not have yet.

    ``unkept``: bars that accounts have acted on and only the store has (CANDLE_SCHEMA). A symbol that fails is an error.
    """
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(series: Series) -> Opened | CandlewickError | TimeoutError:
        async with gate:
            try:
                return await _window(access, lake, series, windows.anchors[series.symbol], windows.now_ms, unkept.get(series))
            except (CandlewickError, TimeoutError) as error:
                return error

    found = await asyncio.gather(*(one(series) for series in windows.series))
    return {series.symbol: opened for series, opened in zip(windows.series, found, strict=True)}


async def _window(
    access: MarketAccess, lake: Lake, series: Series, anchor_ms: int, now_ms: int, unkept: pl.DataFrame | None
) -> Opened:
    closed_ms = floor_to_bar(now_ms, series.timeframe)
    if not access.offline:
        source = access.market.fingerprint(series.symbol, series.timeframe)
        plan = await asyncio.to_thread(plan_fetch, lake, series, anchor_ms, now_ms, source)
        kept_ms = plan.since_ms if unkept is None or not unkept.height else max(plan.since_ms, _last_ms(unkept))
        if source is not None or closed_ms - kept_ms > _BACKLOG_BARS * timeframe_ms(series.timeframe):
            if unkept is not None and unkept.height:
                await asyncio.to_thread(keep_bars, lake, series, unkept, ())
                plan = await asyncio.to_thread(plan_fetch, lake, series, anchor_ms, now_ms, source)
            await fetch_candles.fn(access, plan, lake)
    window = await asyncio.to_thread(lake.read, series, anchor_ms, closed_ms)
    if unkept is None:
        return Opened(window, 0)
    beyond = unkept.filter(pl.col("opened_at").dt.epoch("ms") > (_last_ms(window) if window.height else anchor_ms - 1))
    return Opened(pl.concat([window, beyond.select(window.columns)]), beyond.height)


def _last_ms(candles: pl.DataFrame) -> int:
    return int(candles["opened_at"].dt.epoch("ms")[-1])


def keep_bars(lake: Lake, series: Series, candles: pl.DataFrame, pages: tuple[RawPage, ...]) -> None:
    """Put bars that the store kept so far into the lake, with the answers they were read from. Raises LakeError."""
    first_ms, last_ms = (int(candles["opened_at"].dt.epoch("ms")[row]) for row in (0, -1))
    fetched_at = keep_pages(lake, series, Span(first_ms, last_ms + 1), pages)
    report = lake.append(series, candles, series.market, fetched_at)
    note_findings(lake, series, revised_candles(report))
    remember_covered(lake, FetchPlan(series, first_ms, last_ms + 1), candles)


class Decisions:
    """What is to be decided by ``decide_bars``. Not a dataclass, see ``Asks``."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        fresh = [one.symbol for one in desk.watched.values() if one.fresh]
        self.title = f"{len(fresh)} symbols" if len(fresh) > _NAMED else ", ".join(fresh)


@task(name="decide-bars", task_run_name="decide {decisions.title}", cache_policy=NO_CACHE, timeout_seconds=1800)
async def decide_bars(decisions: Decisions) -> Outcome:
    """Indicators, strategy, rules, execution and global risk for every fresh bar; in a thread, since it computes."""

    def work() -> Outcome:
        decisions.desk.run_stages()
        return decisions.desk.decide()

    return await asyncio.to_thread(work)


@task(name="commit-bars", task_run_name="commit {write.name}", cache_policy=NO_CACHE, timeout_seconds=300)
async def commit_bars(store: SessionStore, write: "Commit") -> tuple[OutboxEvent, ...]:
    """One transaction for all accounts; what is new in the outbox. Raises StaleCycle, InvariantViolated, LedgerError."""
    return await asyncio.to_thread(store.commit, write.write)


class Commit:
    """What is written by ``commit_bars``. Not a dataclass, see ``Asks``."""

    def __init__(self, write: SessionWrite) -> None:
        self.write = write
        self.name = f"{len(write.cycles)} accounts of {write.name}"
