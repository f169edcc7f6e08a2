"""`lake:NAME`: what the lake has of a market, and nothing else: imported files, or any market that was collected, offline.

Its clock stands at the close of the newest candle (or now, where that is earlier), so that a run ends with the data. Trading
rules come from the `instruments` of a `candlewick-files.yaml` in the working directory, as those of `files:DIR` do; where it says
nothing, the tick is the finest decimal of the symbol's prices, the step 1e-8, there is no minimum, and fees are 10 bps.
"""

import asyncio
from decimal import Decimal
from pathlib import Path
from typing import NoReturn

import polars as pl

from candlewick.candles import PRICE_COLUMNS, CandlePage, MarketClock, Series
from candlewick.errors import MarketUnavailable, UnknownSymbol, UsageError
from candlewick.instruments import Instrument
from candlewick.lake import Lake
from candlewick.market.candle_files import decimals_of
from candlewick.market.declared import declared_entry, declared_instrument, declared_kind
from candlewick.market.files_mapping import MAPPING_NAME, read_mapping
from candlewick.market.perpetual_terms import refuse_other_contracts
from candlewick.timeframes import timeframe_ms

PREFIX = "lake:"
# Prices that a tick is taken from where nothing says it.
_TICK_BARS = 100_000


class LakeMarket:
    """Implements ``candlewick.candles.Market``. ``now_ms`` is this machine's clock, or until when is asked.

    Raises UsageError where the lake has no candles of the market, naming those it has.
    """

    def __init__(self, name: str, lake: Lake, now_ms: int, mapping: Path | None = None) -> None:
        self.name = name
        self._market = name.removeprefix(PREFIX)
        self._lake = lake
        self._now_ms = now_ms
        self._mapping = read_mapping(mapping or Path(MAPPING_NAME), required=mapping is not None)
        every = lake.all_series()
        self._series = tuple(series for series in every if series.market == self._market)
        if not self._series:
            there = ", ".join(sorted({series.market for series in every}))
            raise UsageError(f"market {name!r}: the lake at {lake.url} has no candles of it; it has {there or 'none at all'}")

    async def clock(self) -> MarketClock:
        """The close of the newest candle of any of its series; never after now."""
        ends_ms = await asyncio.to_thread(lambda: [self._end_ms(series) for series in self._series])
        return MarketClock(min(self._now_ms, max(ends_ms)))

    async def instruments(self, symbols: tuple[str, ...]) -> dict[str, Instrument]:
        """Trading rules by symbol. Raises UnknownSymbol, SettingsError, LakeError."""
        return {symbol: await asyncio.to_thread(self._instrument, symbol) for symbol in symbols}

    def series(self, symbol: str, timeframe: str) -> Series:
        """The lake's own key."""
        return Series(self._market, symbol, timeframe)

    def fingerprint(self, symbol: str, timeframe: str) -> str | None:
        """None: there is no source beside the lake."""
        return None

    async def fetch(self, symbol: str, timeframe: str, since_ms: int, now_ms: int) -> CandlePage:
        """Raises MarketUnavailable: what the lake has is read from it, and what it lacks nobody is asked for."""
        self._refuse(f"{symbol} {timeframe}")

    async def funding(self, symbol: str, since_ms: int, until_ms: int) -> pl.DataFrame:
        """Raises MarketUnavailable, as ``fetch``."""
        self._refuse(f"the funding of {symbol}")

    def funding_fingerprint(self, symbol: str) -> str | None:
        """None, as ``fingerprint``."""
        return None

    async def spreads_bps(self, symbols: tuple[str, ...]) -> dict[str, Decimal]:
        """None is known: the lake holds candles."""
        return {}

    async def close(self) -> None:
        """Nothing to let go of."""

    def _refuse(self, subject: str) -> NoReturn:
        raise MarketUnavailable(
            f"{self.name} is what the lake has, and nobody is asked for {subject}: collect more under the market's own name, "
            "or import it"
        )

    def _end_ms(self, series: Series) -> int:
        there = self._lake.span(series)
        return 0 if there is None else there[1] + timeframe_ms(series.timeframe)

    def _instrument(self, symbol: str) -> Instrument:
        refuse_other_contracts(symbol)
        mine = sorted((one for one in self._series if one.symbol == symbol), key=lambda one: timeframe_ms(one.timeframe))
        if not mine:
            there = ", ".join(sorted({series.symbol for series in self._series}))
            raise UnknownSymbol(f"{self.name} has no {symbol}; it has {there}")
        given, kind = declared_entry(self._mapping, symbol), declared_kind(self._mapping, symbol)
        tick = given.price_tick
        if tick is None:
            end_ms = self._end_ms(mine[0])
            bars = self._lake.read(mine[0], end_ms - _TICK_BARS * timeframe_ms(mine[0].timeframe), end_ms)
            tick = Decimal(1).scaleb(-decimals_of(pl.concat([bars[name].alias("price") for name in PRICE_COLUMNS])))
        return declared_instrument(symbol, kind, given, tick)
