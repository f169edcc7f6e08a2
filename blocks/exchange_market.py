"""A ccxt exchange as a market: its clock, its rules and its candles over HTTP. It asks once; the retry belongs to the task."""

import asyncio
import difflib
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from typing import Any, TypeVar

import polars as pl

from blocks.exchange_answers import collecting_answers
from blocks.exchange_budget import sent_at_ms
from blocks.exchange_client import raise_named
from blocks.exchange_instruments import exact, instrument_of
from blocks.exchange_manners import collecting_trades, manners_of, page_manners, reach_of, trade_question
from candlewick.candles import CandlePage, MarketClock, RawPage, Series
from candlewick.errors import CandlesNotKept, CandlewickError, MarketUnavailable, UnknownSymbol, UsageError
from candlewick.funding import normalise_funding, within
from candlewick.instruments import Instrument
from candlewick.market.funding_paging import FundingWalk, parse_funding_rows
from candlewick.market.open_interest_paging import open_interest_frame, parse_open_interest
from candlewick.market.paging import PageManners, PageWalk, parse_rows
from candlewick.market.spread import spread_bps
from candlewick.market.trades_paging import TradeWalk, parse_trades
from candlewick.timeframes import DAY_MS, floor_to_bar, format_duration, format_utc, timeframe_ms

Answer = TypeVar("Answer")

# The skew is known to half a round trip; the first one also opens the connection and is often slow.
_SLOW_ROUND_TRIP_MS = 500
# Ends are inclusive, and some exchanges know whole seconds only: the last one of a window is one before its end.
_SECOND_MS = 1000
# The address of a question stays well below what servers take (8 kB); Binance documents no limit of its own.
_SYMBOLS_A_QUESTION = 100


class ExchangeMarket:
    """Implements ``candlewick.candles.Market`` on a ccxt async client, for one event loop (its connections belong to it).

    ``has_clock`` is False where the exchange tells no time: then this machine's clock is used and the skew is 0.
    Opened by ``blocks.exchange.open_exchange``; close it, or use it as ``async with``.
    """

    def __init__(self, client: Any, market: str, timeout_s: float) -> None:
        self.name: str = client.id
        self.has_clock = bool(client.has.get("fetchTime"))
        self._client = client
        self._market = market
        self._timeout_s = timeout_s
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
        await self._prepare(symbol)
        walk = PageWalk(timeframe, since_ms, now_ms, page_manners(self._client, symbol, timeframe))
        subject = f"{self.name} {symbol} {timeframe}"
        with collecting_answers() as pages:
            while not walk.done:
                await self._take_page(walk, subject, symbol, pages)
        return replace(walk.page(), pages=tuple(pages))

    async def funding(self, symbol: str, since_ms: int, until_ms: int) -> pl.DataFrame:
        """A linear perpetual's payments with ``since_ms <= funding_at < until_ms`` in FUNDING_SCHEMA.

        Raises UnknownSymbol, UsageError (no linear perpetual, no history offered), InvalidFunding, MarketUnavailable and
        RateLimited.
        """
        await self._prepare(symbol, "fetchFundingRateHistory", "funding history")
        market = self._client.markets[symbol]
        if not (market.get("swap") and market.get("linear")):
            raise UsageError(f"{self.name}: {symbol} is no linear perpetual and has no funding")
        manners, subject = manners_of(self.name), f"{self.name} {symbol} funding"
        walk = FundingWalk(since_ms, until_ms, manners.funding_limit, manners.funding_is_onwards)
        while not walk.done:
            await self._take_funding(walk, subject, symbol)
        return within(normalise_funding(walk.funding(), f"{self.name} {symbol}"), since_ms, until_ms)

    async def open_interest(self, symbol: str, timeframe: str, since_ms: int, until_ms: int) -> pl.DataFrame:
        """A contract's open interest noted at ``since_ms <= opened_at < until_ms``, in OPEN_INTEREST_SCHEMA, as received.

        Raises UnknownSymbol, UsageError (no contract, not offered), CandlesNotKept (the exchange keeps it for some days only),
        MarketUnavailable and RateLimited.
        """
        await self._prepare(symbol, "fetchOpenInterestHistory", "history of open interest")
        if not self._client.markets[symbol].get("contract"):
            raise UsageError(f"{self.name}: {symbol} is no contract and has no open interest")
        subject, manners = f"{self.name} {symbol} open interest {timeframe}", manners_of(self.name)
        if manners.open_interest_reach_ms is not None:
            await self._check_open_interest_kept(subject, timeframe, since_ms, manners.open_interest_reach_ms)
        end_ms = floor_to_bar(until_ms - 1, timeframe) + timeframe_ms(timeframe)
        walk = PageWalk(timeframe, since_ms, end_ms, PageManners(manners.open_interest_limit, manners.open_interest_answers))
        while not walk.done:
            await self._take_open_interest(walk, subject, symbol)
        return open_interest_frame(walk.table(), since_ms, until_ms)

    async def trades(self, symbol: str, since_ms: int, until_ms: int) -> pl.DataFrame:
        """Trades with ``since_ms <= traded_at < until_ms`` in TRADES_SCHEMA, each once, by time and then by id.

        Raises UnknownSymbol, UsageError (past trades not offered), MarketUnavailable and RateLimited.
        """
        await self._prepare(symbol, "fetchTrades", "trades")
        manners, subject = manners_of(self.name), f"{self.name} {symbol} trades"
        if manners.trades is None:
            raise UsageError(
                f"{self.name}: past trades cannot be collected from it: it tells its newest ones only, or how it pages older "
                f"ones is not known here. Trades are collected from {', '.join(collecting_trades())}"
            )
        walk = TradeWalk(since_ms, until_ms, manners.trade_limit, manners.trades == "numbered", manners.trade_window_ms)
        while not walk.done:
            raw = await self._ask(subject, lambda: self._client.fetch_trades(symbol, *trade_question(walk, manners)))
            with self._named(subject):
                walk.take(parse_trades(raw))
        return walk.trades()

    async def listing(self, symbol: str, timeframe: str, since_ms: int, until_ms: int) -> int | None:
        """Open time of the first candle closed within the span, None where there is none.

        It is found, not guessed: an exchange that answers from a time on is asked twice, and both answers must agree. One that
        answers windows of time is asked
        for its longest bars first, window after window from ``since_ms`` on, each empty one twice: three hundred days without one
        trade are no outage, and no window is skipped as a bisection would skip some. The bars of the first day that traded, or of
        the last one, which is not closed, are then asked for in the timeframe itself.
        Raises like ``fetch``: an exchange that keeps its newest candles only cannot tell (CandlesNotKept).
        """
        self._check_timeframe(timeframe)
        await self._prepare(symbol, "fetchOHLCV", "candles")
        start_ms, coarse = since_ms, self._longest_timeframe()
        if manners_of(self.name).answers == "window" and timeframe_ms(coarse) > timeframe_ms(timeframe):
            day_ms = await self._first_candle(symbol, coarse, floor_to_bar(since_ms, coarse), until_ms)
            start_ms = max(since_ms, floor_to_bar(until_ms, coarse) if day_ms is None else day_ms)
        return await self._first_candle(symbol, timeframe, start_ms, until_ms)

    def offered_timeframes(self) -> tuple[str, ...]:
        """Timeframes of the exchange's candles that have a fixed length (so not `1M`), shortest first; seconds are left out."""
        return tuple(sorted((one for one in self._client.timeframes or {} if one[-1] in "mhdw"), key=timeframe_ms))

    def reach(self, timeframe: str) -> int | None:
        """How many newest candles of a timeframe the exchange keeps, with the forming one; None where it keeps all."""
        self._check_timeframe(timeframe)
        return reach_of(self.name)

    async def is_trading(self, symbol: str) -> bool:
        """Whether the exchange trades the symbol now; False for one it knows and has delisted or halted. Raises UnknownSymbol."""
        await self._prepare(symbol)
        return self._client.markets[symbol].get("active") is not False

    def funding_fingerprint(self, symbol: str) -> str | None:
        """None: an exchange's payments are fetched once and kept."""
        return None

    async def spreads_bps(self, symbols: tuple[str, ...]) -> dict[str, Decimal]:
        """Bid-ask spreads of now by symbol, in basis points; a symbol with an empty side of its book is left out.

        One question for up to a hundred symbols where the exchange tells best prices so, else an order book for each.
        Raises UnknownSymbol, UsageError (no order books offered), MarketUnavailable and RateLimited.
        """
        for symbol in symbols:
            await self._prepare(symbol, "fetchOrderBook", "order books")
        if manners_of(self.name).best_prices == "together":
            parts = [symbols[first : first + _SYMBOLS_A_QUESTION] for first in range(0, len(symbols), _SYMBOLS_A_QUESTION)]
            spreads = [one for part in parts for one in await self._spreads_together(part)]
        else:
            spreads = [(symbol, await self._spread_of_book(symbol)) for symbol in symbols]
        return {symbol: spread for symbol, spread in spreads if spread is not None}

    async def close(self) -> None:
        """Close the connections. A closed market may be used again; it reconnects."""
        await self._client.close()

    async def _spreads_together(self, symbols: tuple[str, ...]) -> list[tuple[str, Decimal | None]]:
        async def read() -> list[tuple[str, Decimal | None]]:
            told = await self._client.fetch_bids_asks(list(symbols))
            best = [(symbol, told.get(symbol) or {}) for symbol in symbols]
            return [(symbol, spread_bps(_price(one.get("bid")), _price(one.get("ask")))) for symbol, one in best]

        return await self._ask(f"{self.name} best prices of {len(symbols)} symbols", read)

    async def _spread_of_book(self, symbol: str) -> Decimal | None:
        """From the best level of each side. No number of levels is asked for: which ones are allowed differs by exchange."""

        async def read() -> Decimal | None:
            book = await self._client.fetch_order_book(symbol)
            bid, ask = (book[side][0][0] if book[side] else None for side in ("bids", "asks"))
            return spread_bps(_price(bid), _price(ask))

        return await self._ask(f"{self.name} {symbol} order book", read)

    async def _take_page(self, walk: PageWalk, subject: str, symbol: str, pages: list[RawPage]) -> None:
        manners = manners_of(self.name)
        end = {"until": walk.window_end_ms - _SECOND_MS} if manners.names_end else {}
        raw = await self._ask(subject, lambda: self._client.fetch_ohlcv(symbol, walk.timeframe, *walk.question, end))
        with self._named(subject):
            if not raw and pages and manners.empty_page not in pages[-1].body:
                # ccxt makes no candles of a body without them, and a span without candles would be believed.
                raise MarketUnavailable(
                    f"answered without candles, in another form than an empty answer ({len(pages[-1].body)} B)"
                )
            walk.take(parse_rows(raw))

    async def _take_funding(self, walk: FundingWalk, subject: str, symbol: str) -> None:
        end = {} if walk.ask_until_ms is None else {"until": walk.ask_until_ms}
        question = (walk.cursor_ms, walk.page_limit, end)
        raw = await self._ask(subject, lambda: self._client.fetch_funding_rate_history(symbol, *question))
        with self._named(subject):
            walk.take(parse_funding_rows(raw))

    async def _take_open_interest(self, walk: PageWalk, subject: str, symbol: str) -> None:
        # ccxt's own end is a reading too many for a page; which of them is left out then, no exchange says.
        end = {"until": walk.window_end_ms - _SECOND_MS}
        question = (walk.timeframe, *walk.question, end)
        raw = await self._ask(subject, lambda: self._client.fetch_open_interest_history(symbol, *question))
        with self._named(subject):
            walk.take(parse_open_interest(raw))

    async def _first_candle(self, symbol: str, timeframe: str, since_ms: int, until_ms: int) -> int | None:
        """The first candle as two answers tell it: an answer that is out of date would hide all candles before it for good."""
        first_ms = await self._walk_to_first(symbol, timeframe, since_ms, until_ms)
        if first_ms == since_ms:
            return first_ms
        again_ms = await self._walk_to_first(symbol, timeframe, since_ms, until_ms)
        if again_ms != first_ms:
            told = " and ".join("none" if one is None else format_utc(one) for one in (first_ms, again_ms))
            raise MarketUnavailable(f"{self.name} {symbol} {timeframe}: told two different first candles, {told}")
        return first_ms

    async def _walk_to_first(self, symbol: str, timeframe: str, since_ms: int, until_ms: int) -> int | None:
        """By walking until a closed candle is there. The last one may not be closed at ``until_ms``, and is then not there."""
        walk = PageWalk(timeframe, since_ms, floor_to_bar(until_ms, timeframe), page_manners(self._client, symbol, timeframe))
        with collecting_answers() as pages:
            while walk.first_ms is None and not walk.done:
                await self._take_page(walk, f"{self.name} {symbol} {timeframe}", symbol, pages)
        return walk.first_ms

    def _longest_timeframe(self) -> str:
        """Of a day at most: weeks begin on another day at every exchange."""
        return max((one for one in self.offered_timeframes() if timeframe_ms(one) <= DAY_MS), key=timeframe_ms)

    async def _check_open_interest_kept(self, subject: str, timeframe: str, since_ms: int, reach_ms: int) -> None:
        length_ms = timeframe_ms(timeframe)
        first_ms = floor_to_bar((await self.clock()).now_ms - reach_ms, timeframe) + 2 * length_ms
        if since_ms < first_ms - length_ms:
            raise CandlesNotKept(
                f"{subject}: the exchange keeps the newest {format_duration(reach_ms)} only, and was asked for "
                f"{format_utc(since_ms)} UTC: start at {format_utc(first_ms)} UTC or later",
                first_ms,
            )

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
        server_ms = await self._ask(f"{self.name} clock", self._client.fetch_time)
        received_ms = time.time() * 1000
        sent_ms = sent_at_ms.get()  # once it had waited for the budget
        if not isinstance(server_ms, int):
            raise_named(TypeError(f"its time is {server_ms!r}"), f"{self.name} clock", self._timeout_s)
        skew_ms = round(server_ms - (sent_ms + received_ms) / 2)
        # The exchange's own reading, a little old: no bar counts as closed before the exchange itself said so.
        return MarketClock(server_ms, skew_ms), round(received_ms - sent_ms)

    async def _prepare(self, symbol: str, ability: str = "fetchOHLCV", what: str = "candles") -> None:
        """Raises UsageError where ccxt has no such ability of the exchange, UnknownSymbol, MarketUnavailable, RateLimited."""
        if self._client.has.get(ability) is not True:
            raise UsageError(f"{self.name} offers no {what}")
        await self._load_markets()
        self._check_symbol(symbol)

    async def _load_markets(self) -> None:
        # ccxt shares one load among all who wait, and one waiter's cancellation with them; a lock does not. The list of markets
        # is no answer about the series that is asked for: whoever collects those does not get it.
        async with self._loading:
            with collecting_answers():
                await self._load_markets_once()

    async def _load_markets_once(self) -> None:
        if not self._client.markets:
            await self._ask(f"{self.name} markets", self._client.load_markets)
        if not self._client.markets:
            raise MarketUnavailable(f"{self.name} markets: the exchange listed none")

    async def _ask(self, subject: str, call: Callable[[], Awaitable[Answer]]) -> Answer:
        try:
            return await call()
        except Exception as error:  # noqa: BLE001  ccxt's parsers raise anything over an answer of another shape; all get a name
            raise_named(error, subject, self._timeout_s)

    @contextmanager
    def _named(self, subject: str) -> Iterator[None]:
        """What a walk finds wrong with an answer is told with the subject."""
        try:
            yield
        except CandlewickError as error:
            raise_named(error, subject, self._timeout_s)

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


def _price(told: float | None) -> Decimal | None:
    """A price as the exchange wrote it; None where it told none."""
    return None if told is None else exact(told)
