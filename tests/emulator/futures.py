"""Binance USD-M's public REST beside the spot exchange's: perpetuals, their candles and their funding."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import polars as pl
from aiohttp import web

from tests.emulator.candle_book import CandleBook
from tests.emulator.exchange_info import symbol_entry
from tests.emulator.front import Front
from tests.emulator.klines import INTERVAL_MS
from tests.emulator.spot import refuse, send_best_prices, send_klines, send_trades
from tests.emulator.trade_book import TradeBook

_MAX_FUNDING_LIMIT, _DEFAULT_FUNDING_LIMIT = 1000, 100
_MAX_LIMIT, _DEFAULT_LIMIT = 1500, 500
_MAX_OPEN_INTEREST, _DEFAULT_OPEN_INTEREST = 500, 30
_OPEN_INTEREST_REACH_MS = 30 * 86_400_000
_PERIODS = ("5m", "15m", "30m", "1h", "2h", "4h", "6h", "12h", "1d")

Payment = tuple[int, str]
"""The exchange's time stamp in milliseconds, and the rate as text."""


class FuturesDesk:
    """What the futures exchange knows: ``book`` has the candles, ``funding`` the payments by symbol in order of time."""

    def __init__(self) -> None:
        self.book = CandleBook()
        self.trades = TradeBook()
        self.funding: dict[str, list[Payment]] = {}
        self.open_interest: dict[str, dict[int, tuple[str, str]]] = {}
        self.inverse: set[str] = set()
        self.contract_types: dict[str, str] = {}
        self.brackets: dict[str, tuple[int, float]] = {}
        self.spreads: dict[str, str | None] = {}

    def add_funding_file(self, symbol: str, path: Path) -> None:
        """Serve this file's payments (columns ts, funding_rate)."""
        rows = pl.read_parquet(path).select(pl.col("ts").dt.epoch("ms"), "funding_rate").rows()
        self.add_funding(symbol, ((time, f"{rate:.8f}") for time, rate in rows))

    def add_funding(self, symbol: str, payments: Iterable[Payment]) -> None:
        """Serve these payments in the place of those that were there."""
        self.funding[symbol] = sorted(payments)

    def add_open_interest(self, symbol: str, rows: Iterable[tuple[int, str, str]]) -> None:
        """Serve these readings (time in ms, amount, value) in the place of those that were there."""
        self.open_interest[symbol] = {time: (amount, value) for time, amount, value in sorted(rows)}

    def interest(
        self, symbol: str, period_ms: int, start_ms: int | None, end_ms: int | None, limit: int, now_ms: int
    ) -> list[dict[str, Any]]:
        """The last ``limit`` readings of [start, end] on the period's grid, of those that are kept; the oldest first."""
        first_ms = max(start_ms or 0, now_ms - _OPEN_INTEREST_REACH_MS)
        last_ms = now_ms if end_ms is None else min(now_ms, end_ms)
        readings = self.open_interest.get(symbol, {})
        told = [time for time in readings if time % period_ms == 0 and first_ms <= time <= last_ms][-limit:]
        names = ("symbol", "sumOpenInterest", "sumOpenInterestValue", "timestamp")
        return [dict(zip(names, (symbol, *readings[time], time), strict=True)) for time in told]

    def exchange_info(self, now_ms: int) -> dict[str, Any]:
        """The exchangeInfo body: a perpetual for every symbol with candles or funding."""
        symbols = sorted({*self.book.symbols, *self.funding, *self.open_interest, *self.trades.symbols})
        return {"timezone": "UTC", "serverTime": now_ms, "rateLimits": [], "symbols": [self._entry(symbol) for symbol in symbols]}

    def payments(self, symbol: str, start_ms: int | None, end_ms: int | None, limit: int, now_ms: int) -> list[dict[str, Any]]:
        """At most ``limit`` payments noted in [start, end]: the first ones after a start, the last ones without."""
        last_ms = now_ms if end_ms is None else min(now_ms, end_ms)
        rows = [row for row in self.funding.get(symbol, []) if (start_ms or 0) <= row[0] <= last_ms]
        rows = rows[:limit] if start_ms is not None else rows[-limit:]
        return [{"symbol": symbol, "fundingTime": time, "fundingRate": rate, "markPrice": ""} for time, rate in rows]

    def _entry(self, symbol: str) -> dict[str, Any]:
        entry = symbol_entry(symbol, tick="0.0100", step="0.01", min_notional="5")
        kind = self.contract_types.get(symbol, "PERPETUAL")
        settled_in = entry["baseAsset"] if symbol in self.inverse else entry["quoteAsset"]
        expiry = 4_133_404_800_000 if kind == "PERPETUAL" else 1_900_000_000_000
        filters = [*entry["filters"][:2], {"filterType": "MIN_NOTIONAL", "notional": "5"}]
        return entry | {
            "pair": symbol,
            "contractType": kind,
            "deliveryDate": expiry,
            "marginAsset": settled_in,
            "pricePrecision": 2,
            "quantityPrecision": 2,
            "filters": filters,
        }


class FuturesRoutes:
    """The HTTP side."""

    def __init__(self, desk: FuturesDesk, front: Front) -> None:
        self._desk, self._front = desk, front

    def add_to(self, app: web.Application) -> None:
        """The addresses."""
        app.router.add_get("/fapi/v1/ping", self._ping)
        app.router.add_get("/fapi/v1/time", self._time)
        app.router.add_get("/fapi/v1/exchangeInfo", self._info)
        app.router.add_get("/fapi/v1/klines", self._klines)
        app.router.add_get("/fapi/v1/aggTrades", self._trades)
        app.router.add_get("/fapi/v1/ticker/bookTicker", self._best_prices)
        app.router.add_get("/fapi/v1/fundingRate", self._funding_rate)
        app.router.add_get("/fapi/v1/leverageBracket", self._leverage_bracket)
        app.router.add_get("/futures/data/openInterestHist", self._open_interest)

    async def _ping(self, request: web.Request) -> web.StreamResponse:
        return await self._front.answer(request, "{}")

    async def _time(self, request: web.Request) -> web.StreamResponse:
        return await self._front.answer(request, json.dumps({"serverTime": self._front.clock_ms()}))

    async def _info(self, request: web.Request) -> web.StreamResponse:
        return await self._front.answer(request, json.dumps(self._desk.exchange_info(self._front.clock_ms())))

    async def _klines(self, request: web.Request) -> web.StreamResponse:
        book = self._desk.book
        return await send_klines(self._front, request, book, frozenset(book.symbols), _DEFAULT_LIMIT, _MAX_LIMIT)

    async def _trades(self, request: web.Request) -> web.StreamResponse:
        return await send_trades(self._front, request, self._desk.trades)

    async def _best_prices(self, request: web.Request) -> web.StreamResponse:
        return await send_best_prices(self._front, request, self._desk.spreads, self._desk.book.symbols)

    async def _funding_rate(self, request: web.Request) -> web.StreamResponse:
        start, end, limit = _span(request, _DEFAULT_FUNDING_LIMIT, _MAX_FUNDING_LIMIT)
        rows = self._desk.payments(request.query.get("symbol", ""), start, end, limit, self._front.clock_ms())
        return await self._front.answer(request, json.dumps(rows))

    async def _open_interest(self, request: web.Request) -> web.StreamResponse:
        start, end, limit = _span(request, _DEFAULT_OPEN_INTEREST, _MAX_OPEN_INTEREST)
        now_ms, period = self._front.clock_ms(), request.query.get("period", "")
        if period not in _PERIODS:
            return await refuse(self._front, request, -1130, "Data sent for parameter 'period' is not valid.")
        if start is not None and start < now_ms - _OPEN_INTEREST_REACH_MS:
            return await refuse(self._front, request, -1130, "parameter 'startTime' is invalid.")
        rows = self._desk.interest(request.query.get("symbol", ""), INTERVAL_MS[period], start, end, limit, now_ms)
        return await self._front.answer(request, json.dumps(rows))

    async def _leverage_bracket(self, request: web.Request) -> web.StreamResponse:
        if "X-MBX-APIKEY" not in request.headers or "signature" not in request.query:
            return await refuse(self._front, request, -2014, "API-key format invalid.")
        brackets = [
            {"symbol": symbol, "brackets": [_bracket(1, 0, leverage, share), _bracket(2, 50_000, leverage // 2, 2 * share)]}
            for symbol, (leverage, share) in self._desk.brackets.items()
        ]
        return await self._front.answer(request, json.dumps(brackets))


def _span(request: web.Request, default: int, most: int) -> tuple[int | None, int | None, int]:
    start, end = (int(request.query[name]) if name in request.query else None for name in ("startTime", "endTime"))
    return start, end, min(int(request.query.get("limit", default)), most)


def _bracket(number: int, floor: int, leverage: int, share: float) -> dict[str, float]:
    return {
        "bracket": number,
        "initialLeverage": leverage,
        "notionalFloor": floor,
        "notionalCap": floor + 50_000,
        "maintMarginRatio": share,
        "cum": 0.0,
    }
