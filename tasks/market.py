"""Reach the market: choose it by name, configure it, read its clock and its instruments."""

import asyncio
import time
from dataclasses import dataclass

from prefect import task
from prefect.cache_policies import NO_CACHE

from blocks.exchange import Exchange, open_exchange
from candlewick.candles import Market, MarketClock, Series
from candlewick.errors import ClockSkew
from candlewick.instruments import Instrument
from candlewick.lake_opening import open_lake
from candlewick.market.files import FilesMarket
from candlewick.market.lake_market import LakeMarket
from candlewick.market.sample import SampleMarket
from candlewick.settings import Settings

FILES = "files:"
LAKE = "lake:"


class MarketAccess:
    """A market and how patiently to use it; ``asked`` holds the series that this cycle asked it for (and not Prefect's cache).

    ``offline``: the lake is the market, so that nobody is asked for what it lacks, and nothing is noted as asked for.

    Not a dataclass: Prefect would search a task's dataclass arguments for futures.
    """

    def __init__(self, market: Market, block: Exchange | None = None) -> None:
        self.market = market
        self.offline = isinstance(market, LakeMarket)
        self.max_attempts = block.max_attempts if block else 1
        self.retry_base_s = block.retry_base_s if block else 0.0
        self.retry_max_s = block.retry_max_s if block else 0.0
        self.max_skew_ms = block.max_clock_skew_s * 1000 if block else None
        self.asked: set[Series] = set()


@dataclass(frozen=True, slots=True)
class MarketTime:
    """``now_ms``: the time by which bars are judged closed, never after ``--until``."""

    now_ms: int
    skew_ms: int | None


async def open_market(name: str, settings: Settings, until_ms: int | None) -> MarketAccess:
    """`sample`, `files:DIR` (`files:DIR#EXCHANGE`), `lake:NAME` or a ccxt exchange id. Raises UsageError naming what there is."""
    now_ms = round(time.time() * 1000) if until_ms is None else until_ms
    if name == "sample":
        return MarketAccess(SampleMarket(now_ms))
    if name.startswith(FILES):
        return MarketAccess(FilesMarket.from_name(name, now_ms))
    if name.startswith(LAKE):
        return MarketAccess(await asyncio.to_thread(LakeMarket, name, open_lake(settings.lake), now_ms))
    block = await load_exchange(name, settings)
    return MarketAccess(open_exchange(block), block)


async def load_exchange(exchange_id: str, settings: Settings) -> Exchange:
    """The exchange's block: fields that settings name come from there, others from the block saved on the Prefect server."""
    chosen = settings.exchange(exchange_id).model_dump(exclude_unset=True)
    try:
        saved = await Exchange.aload(exchange_id.replace("_", "-"), validate=False)
    except ValueError:  # Prefect's answer for a block that nobody has saved
        return Exchange(**{**settings.exchange(exchange_id).model_dump(), "exchange_id": exchange_id})
    return Exchange(**{**{name: getattr(saved, name) for name in Exchange.model_fields}, **chosen, "exchange_id": exchange_id})


@task(name="read-clock", task_run_name="read the clock", cache_policy=NO_CACHE, timeout_seconds=60)
async def read_clock(access: MarketAccess, until_ms: int | None) -> MarketTime:
    """The market's time, capped at ``until_ms``. Raises ClockSkew when this machine's clock is off by more than the limit."""
    clock: MarketClock = await access.market.clock()
    if access.max_skew_ms is not None and abs(clock.skew_ms) > access.max_skew_ms:
        raise ClockSkew(
            f"{access.market.name}: the exchange's clock is {clock.skew_ms / 1000:+.1f} s off this machine's; "
            f"the limit is {access.max_skew_ms / 1000:g} s. Set this machine's clock (NTP), then run again. Nothing was traded"
        )
    now_ms = clock.now_ms if until_ms is None else min(until_ms, clock.now_ms)
    return MarketTime(now_ms, clock.skew_ms if access.max_skew_ms is not None else None)


@task(name="read-instruments", task_run_name="read the trading rules", cache_policy=NO_CACHE, timeout_seconds=120)
async def read_instruments(access: MarketAccess, symbols: tuple[str, ...]) -> dict[str, Instrument]:
    """Trading rules by symbol. Raises UnknownSymbol."""
    return await access.market.instruments(symbols)
