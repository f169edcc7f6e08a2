"""Coinbase's public REST, both Advanced Trade's and Exchange's: windows of time, newest candle first, both ends included."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime

from aiohttp import web

from tests.emulator.candle_book import CandleBook
from tests.emulator.front import CandleQuestion, Front
from tests.emulator.klines import Kline

_GRANULARITIES = {
    "ONE_MINUTE": "1m",
    "FIVE_MINUTE": "5m",
    "FIFTEEN_MINUTE": "15m",
    "THIRTY_MINUTE": "30m",
    "ONE_HOUR": "1h",
    "TWO_HOUR": "2h",
    "SIX_HOUR": "6h",
    "ONE_DAY": "1d",
}
_SECONDS = {"60": "1m", "300": "5m", "900": "15m", "3600": "1h", "21600": "6h", "86400": "1d"}
_LENGTH_S = {"1m": 60, "5m": 300, "15m": 900, "30m": 1800, "1h": 3600, "2h": 7200, "6h": 21600, "1d": 86400}
_ADVANCED_BUCKETS, _EXCHANGE_BUCKETS = 350, 300


class CoinbaseDesk:
    """``book`` by Coinbase's own names, such as BTC-USD. ``inactive`` ones are delisted."""

    def __init__(self) -> None:
        self.book = CandleBook()
        self.inactive: set[str] = set()


class CoinbaseRoutes:
    """The HTTP side."""

    def __init__(self, desk: CoinbaseDesk, front: Front) -> None:
        self._desk, self._front = desk, front

    def add_to(self, app: web.Application) -> None:
        """The addresses of both."""
        products = "/api/v3/brokerage/market/products"
        app.router.add_get("/v2/time", self._advanced_time)
        app.router.add_get(products, self._advanced_products)
        app.router.add_get(products + "/{product}/candles", self._advanced_candles)
        app.router.add_get("/time", self._time)
        app.router.add_get("/currencies", self._currencies)
        app.router.add_get("/products", self._products)
        app.router.add_get("/products/{product}/candles", self._candles)

    async def _advanced_time(self, request: web.Request) -> web.StreamResponse:
        return await self._front.answer(request, json.dumps({"data": self._now()}))

    async def _time(self, request: web.Request) -> web.StreamResponse:
        return await self._front.answer(request, json.dumps(self._now()))

    def _now(self) -> dict[str, object]:
        now_s = self._front.clock_ms() / 1000
        return {"iso": datetime.fromtimestamp(now_s, UTC).isoformat(), "epoch": now_s}

    async def _currencies(self, request: web.Request) -> web.StreamResponse:
        names = sorted({part for symbol in self._desk.book.symbols for part in symbol.split("-")})
        coins = [{"id": one, "name": one, "max_precision": "0.00000001", "status": "online", "details": {}} for one in names]
        return await self._front.answer(request, json.dumps(coins))

    async def _advanced_products(self, request: web.Request) -> web.StreamResponse:
        spot = request.query.get("product_type") in (None, "SPOT")
        products = [self._advanced_product(symbol) for symbol in self._desk.book.symbols] if spot else []
        return await self._front.answer(request, json.dumps({"products": products, "num_products": len(products)}))

    def _advanced_product(self, symbol: str) -> Mapping[str, object]:
        base, quote = symbol.split("-")
        return {
            "product_id": symbol,
            "base_currency_id": base,
            "quote_currency_id": quote,
            "product_type": "SPOT",
            "trading_disabled": symbol in self._desk.inactive,
            "base_increment": "0.00000001",
            "quote_increment": "0.01",
            "price_increment": "0.01",
            "base_min_size": "0.00000001",
            "base_max_size": "3400",
            "quote_min_size": "1",
            "quote_max_size": "150000000",
            "alias_to": [],
        }

    async def _products(self, request: web.Request) -> web.StreamResponse:
        products = [
            {
                "id": symbol,
                "base_currency": symbol.split("-")[0],
                "quote_currency": symbol.split("-")[1],
                "base_increment": "0.00000001",
                "quote_increment": "0.01",
                "min_market_funds": "1",
                "margin_enabled": False,
                "status": "delisted" if symbol in self._desk.inactive else "online",
            }
            for symbol in self._desk.book.symbols
        ]
        return await self._front.answer(request, json.dumps(products))

    async def _advanced_candles(self, request: web.Request) -> web.StreamResponse:
        product, interval = request.match_info["product"], _GRANULARITIES.get(request.query.get("granularity", ""))
        if product not in self._desk.book.symbols:
            return await self._front.refuse(request, 404, '{"error":"NOT_FOUND","error_details":"valid product_id is required"}')
        if interval is None:
            return await self._front.refuse(request, 400, '{"error":"INVALID_ARGUMENT","error_details":"granularity"}')
        start_s, end_s = int(request.query["start"]), int(request.query["end"])
        if (end_s - start_s) // _LENGTH_S[interval] + 1 > _ADVANCED_BUCKETS:
            text = "start and end argument is invalid - number of candles requested should be less than 350 "
            return await self._front.refuse(request, 400, json.dumps({"error": "INVALID_ARGUMENT", "error_details": text}))
        return await self._front.answer_candles(
            request,
            self._question(product, interval, start_s, end_s, _ADVANCED_BUCKETS, advanced=True),
        )

    async def _candles(self, request: web.Request) -> web.StreamResponse:
        product, interval = request.match_info["product"], _SECONDS.get(request.query.get("granularity", ""))
        if product not in self._desk.book.symbols:
            return await self._front.refuse(request, 404, '{"message":"NotFound"}')
        if interval is None:
            return await self._front.refuse(request, 400, '{"message":"Unsupported granularity"}')
        start_s, end_s = (round(datetime.fromisoformat(request.query[name]).timestamp()) for name in ("start", "end"))
        if (end_s - start_s) // _LENGTH_S[interval] + 1 > _EXCHANGE_BUCKETS:
            text = "granularity too small for the requested time range. Count of aggregations requested exceeds 300"
            return await self._front.refuse(request, 400, json.dumps({"message": text}))
        return await self._front.answer_candles(
            request,
            self._question(product, interval, start_s, end_s, _EXCHANGE_BUCKETS, advanced=False),
        )

    def _question(self, product: str, interval: str, start_s: int, end_s: int, limit: int, *, advanced: bool) -> CandleQuestion:
        columns = self._desk.book.columns(product, interval)
        render, empty = (_advanced_body, '{"candles":[]}') if advanced else (_body, "[]")
        return CandleQuestion(product, interval, columns, start_s * 1000, end_s * 1000, limit, render, empty)


def _advanced_body(rows: list[Kline]) -> str:
    names = ("start", "open", "high", "low", "close", "volume")
    candles = [dict(zip(names, (str(int(row[0]) // 1000), *row[1:6]), strict=True)) for row in reversed(rows)]
    return json.dumps({"candles": candles}, separators=(",", ":"))


def _body(rows: list[Kline]) -> str:
    told = [[int(row[0]) // 1000, *(float(row[n]) for n in (3, 2, 1, 4, 5))] for row in reversed(rows)]
    return json.dumps(told, separators=(",", ":")).replace("NaN", "null")
