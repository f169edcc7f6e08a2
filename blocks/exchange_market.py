"""A ccxt exchange as a market: its clock, its rules and its candles over HTTP. It asks once; the retry belongs to the task."""

import asyncio
import difflib
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, TypeVar

import polars as pl

from blocks.exchange_answers import collecting_answers
from blocks.exchange_client import raise_named
from blocks.exchange_instruments import instrument_of
from blocks.exchange_manners import manners_of, page_manners
from candlewick.candles import CandlePage, MarketClock, Series
from candlewick.errors import CandlewickError, MarketUnavailable, UnknownSymbol, UsageError
from candlewick.funding import normalise_funding, within
from candlewick.instruments import Instrument
from candlewick.market.funding_paging import FundingWalk, parse_funding_rows
from candlewick.market.paging import PageWalk, parse_rows
from candlewick.timeframes import timeframe_ms

Answer = TypeVar("Answer")

# The skew is known to half a round trip; the first one also opens the connection and is often slow.
_SLOW_ROUND_TRIP_MS = 500


class ExchangeMarket:
    """Implements ``candlewick.candles.Market`` on a ccxt async client, for one event loop (its connections belong to it).

    ``has_clock`` is False where the exchange tells no time: then this machine's clock is used and the skew is 0.
    Opened by ``blocks.exchange.open_exchange``; close it, or use it as ``async with``.
    """

    def __init__(self, client: Any, market: str, timeout_s: float, requests_per_s: float | None = None) -> None:
        self.name: str = client.id
        self.has_clock = bool(client.has.get("fetchTime"))
        self._client = client
        self._market = market
        self._timeout_s = timeout_s
        self._interval_s = 1 / requests_per_s if requests_per_s else 0.0
        self._next_request_at_s = 0.0
        self._loading = asyncio.Lock()

    def __repr__(self) -> str:
        return f"ExchangeMarket({self._market})"

    async def __aenter__(self) -> "ExchangeMarket":
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.close()

    async def clock(self) -> MarketClock:
        """The exchange's time and its skew against the middle of the round trip. Raises MarketUnavailable (RateLimited)."""
        if not self.has_clock:
            return MarketClock(round(time.time() * 1000), 0)
        clock, round_trip_ms = await self._measure_clock()
        if round_trip_ms > _SLOW_ROUND_TRIP_MS:
            again, again_ms = await self._measure_clock()
            return again if again_ms < round_trip_ms else clock
        return clock

    async def instruments(self, symbols: tuple[str, ...]) -> dict[str, Instrument]:
        """Trading rules by symbol, from the exchange's list of markets; of perpetuals with the leverage tiers, which most
        exchanges tell to those with an API key. Raises UnknownSymbol, UsageError, MarketUnavailable."""
        await self._load_markets()
        client = self._client
        for symbol in symbols:
            self._check_symbol(symbol)
        tiers = await self._leverage_tiers([symbol for symbol in symbols if client.markets[symbol].get("swap")])
        currencies, mode = client.currencies or {}, client.precisionMode
        return {s: instrument_of(client.markets[s], currencies, mode, tiers.get(s) or ()) for s in symbols}

    def series(self, symbol: str, timeframe: str) -> Series:
        """The lake's key; a sandbox's candles are kept apart from the real ones (``binance-sandbox``)."""
        return Series(self._market, symbol, timeframe)

    def fingerprint(self, symbol: str, timeframe: str) -> str | None:
        """None: an exchange's closed candles are fetched once and kept."""
        return None

    async def fetch(self, symbol: str, timeframe: str, since_ms: int, now_ms: int) -> CandlePage:
        """Closed candles from ``since_ms`` on, as received, with the answers themselves; the forming bar once it has traded.

        ``now_ms`` may be any past moment, such as the end of a chunk; on a bar's border no forming bar is asked for.
        Raises UnknownSymbol, UsageError (timeframe not offered), CandlesNotKept, MarketUnavailable and RateLimited.
        """
        self._check_timeframe(timeframe)
        await self._load_markets()
        self._check_symbol(symbol)
        walk = PageWalk(timeframe, since_ms, now_ms, page_manners(self._client, symbol, timeframe))
        subject = f"{self.name} {symbol} {timeframe}"
        with collecting_answers() as pages:
            while not walk.done:
                await self._take_page(walk, subject, symbol)
        return replace(walk.page(), pages=tuple(pages))

    async def funding(self, symbol: str, since_ms: int, until_ms: int) -> pl.DataFrame:
        """A linear perpetual's payments with ``since_ms <= funding_at < until_ms`` in FUNDING_SCHEMA.

        Raises UnknownSymbol, UsageError (no linear perpetual, no history offered), InvalidFunding, MarketUnavailable and
        RateLimited.
        """
        await self._load_markets()
        self._check_symbol(symbol)
        market = self._client.markets[symbol]
        if not (market.get("swap") and market.get("linear")):
            raise UsageError(f"{self.name}: {symbol} is no linear perpetual and has no funding")
        if self._client.has.get("fetchFundingRateHistory") is not True:
            raise UsageError(f"{self.name} offers no funding history")
        walk, subject = FundingWalk(since_ms, until_ms), f"{self.name} {symbol} funding"
        while not walk.done:
            await self._take_funding(walk, subject, symbol)
        return within(normalise_funding(walk.funding(), f"{self.name} {symbol}"), since_ms, until_ms)

    def funding_fingerprint(self, symbol: str) -> str | None:
        """None: an exchange's payments are fetched once and kept."""
        return None

    async def close(self) -> None:
        """Close the connections. A closed market may be used again; it reconnects."""
        await self._client.close()

    async def _take_page(self, walk: PageWalk, subject: str, symbol: str) -> None:
        end = {"until": walk.window_end_ms - walk.length_ms} if manners_of(self.name).inclusive_until else {}
        raw = await self._ask(subject, lambda: self._client.fetch_ohlcv(symbol, walk.timeframe, walk.cursor_ms, walk.limit, end))
        try:
            walk.take(parse_rows(raw))
        except CandlewickError as error:
            raise_named(error, subject, self._timeout_s)

    async def _take_funding(self, walk: FundingWalk, subject: str, symbol: str) -> None:
        limit = manners_of(self.name).funding_limit
        raw = await self._ask(subject, lambda: self._client.fetch_funding_rate_history(symbol, walk.cursor_ms, limit))
        try:
            walk.take(parse_funding_rows(raw))
        except CandlewickError as error:
            raise_named(error, subject, self._timeout_s)

    async def _leverage_tiers(self, symbols: list[str]) -> dict[str, list[dict[str, Any]]]:
        """By symbol, lowest tier first; none where the exchange tells them only with credentials and there are none."""
        client, subject = self._client, f"{self.name} leverage tiers"
        if not symbols or not client.check_required_credentials(False):
            return {}
        if client.has.get("fetchLeverageTiers") is True:
            return dict(await self._ask(subject, lambda: client.fetch_leverage_tiers(symbols)))
        if client.has.get("fetchMarketLeverageTiers") is True:
            return {s: await self._ask(subject, lambda s=s: client.fetch_market_leverage_tiers(s)) for s in symbols}  # type: ignore[misc]
        return {}

    async def _measure_clock(self) -> tuple[MarketClock, int]:
        sent_ms = time.time() * 1000
        server_ms = await self._ask(f"{self.name} clock", self._client.fetch_time)
        received_ms = time.time() * 1000
        if not isinstance(server_ms, int):
            raise_named(TypeError(f"its time is {server_ms!r}"), f"{self.name} clock", self._timeout_s)
        skew_ms = round(server_ms - (sent_ms + received_ms) / 2)
        # The exchange's own reading, a little old: no bar counts as closed before the exchange itself said so.
        return MarketClock(server_ms, skew_ms), round(received_ms - sent_ms)

    async def _load_markets(self) -> None:
        # ccxt shares one load among all who wait, and one waiter's cancellation with them; a lock does not.
        async with self._loading:
            if not self._client.markets:
                await self._ask(f"{self.name} markets", self._client.load_markets)
        if not self._client.markets:
            raise MarketUnavailable(f"{self.name} markets: the exchange listed none")

    async def _ask(self, subject: str, call: Callable[[], Awaitable[Answer]]) -> Answer:
        await self._pace()
        try:
            return await call()
        except Exception as error:  # noqa: BLE001  ccxt's parsers raise anything over an answer of another shape; all get a name
            raise_named(error, subject, self._timeout_s)

    async def _pace(self) -> None:
        if self._interval_s == 0:
            return
        now_s = asyncio.get_running_loop().time()
        at_s = max(now_s, self._next_request_at_s)
        self._next_request_at_s = at_s + self._interval_s
        await asyncio.sleep(at_s - now_s)

    def _check_timeframe(self, timeframe: str) -> None:
        timeframe_ms(timeframe)
        offered = self._client.timeframes
        if offered and timeframe not in offered:
            raise UsageError(f"{self.name} offers no candles of {timeframe}: it offers {', '.join(offered)}")

    def _check_symbol(self, symbol: str) -> None:
        markets: dict[str, Any] = self._client.markets
        if symbol in markets:
            return
        if ":" in symbol and not any(":" in known for known in markets):
            elsewhere = "; ccxt's binanceusdm trades Binance's linear perpetuals" if self.name == "binance" else ""
            raise UnknownSymbol(f"{self.name} does not trade {symbol!r}: it is asked for spot symbols alone{elsewhere}")
        near = difflib.get_close_matches(symbol.upper(), list(markets), n=3, cutoff=0.6)
        hint = f"did you mean {' or '.join(near)}?" if near else f"it trades {len(markets)} symbols, written like BTC/USDT"
        raise UnknownSymbol(f"{self.name} does not trade {symbol!r}: {hint}")
