"""Kraken's public REST: whatever is asked, its newest 720 candles at the most, with the one that is forming."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime

from aiohttp import web

from tests.emulator.candle_book import CandleBook
from tests.emulator.front import CandleQuestion, Front
from tests.emulator.klines import INTERVAL_MS, Kline
from tests.emulator.trade_book import TradeBook

_KEPT, _MOST_TRADES = 720, 1000
_INTERVALS = {str(INTERVAL_MS[name] // 60_000): name for name in ("1m", "5m", "15m", "30m", "1h", "4h", "1d", "1w")}
_ASSETS = {"XXBT": "XBT", "XETH": "ETH", "ZUSD": "USD", "ZEUR": "EUR"}


class KrakenDesk:
    """``book`` and ``trades`` by Kraken's own names, such as XXBTZUSD; pairs of _ASSETS alone. ``inactive`` ones are delisted.

    ``depth``: order books, as the Depth answer has them; where there is none, both sides are empty.
    """

    def __init__(self) -> None:
        self.book = CandleBook()
        self.trades = TradeBook()
        self.inactive: set[str] = set()
        self.depth: dict[str, dict[str, list[list[str | int]]]] = {}

    def pairs(self) -> dict[str, dict[str, object]]:
        """The AssetPairs result."""
        return {name: self._pair(name) for name in sorted({*self.book.symbols, *self.trades.symbols})}

    def _pair(self, name: str) -> dict[str, object]:
        base, quote = name[:4], name[4:]
        return {
            "altname": _ASSETS[base] + _ASSETS[quote],
            "wsname": f"{_ASSETS[base]}/{_ASSETS[quote]}",
            "aclass_base": "currency",
            "base": base,
            "aclass_quote": "currency",
            "quote": quote,
            "lot": "unit",
            "pair_decimals": 1,
            "lot_decimals": 8,
            "lot_multiplier": 1,
            "leverage_buy": [],
            "leverage_sell": [],
            "fees": [[0, 0.4]],
            "fees_maker": [[0, 0.25]],
            "fee_volume_currency": "ZUSD",
            "ordermin": "0.00005",
            "costmin": "0.5",
            "tick_size": "0.1",
            "status": "cancel_only" if name in self.inactive else "online",
        }


class KrakenRoutes:
    """The HTTP side. Errors come with status 200, as Kraken sends them."""

    def __init__(self, desk: KrakenDesk, front: Front) -> None:
        self._desk, self._front = desk, front

    def add_to(self, app: web.Application) -> None:
        """The addresses."""
        app.router.add_get("/0/public/Time", self._time)
        app.router.add_get("/0/public/Assets", self._assets)
        app.router.add_get("/0/public/AssetPairs", self._pairs)
        app.router.add_get("/0/public/OHLC", self._candles)
        app.router.add_get("/0/public/Trades", self._trades)
        app.router.add_get("/0/public/Depth", self._depth)

    async def _time(self, request: web.Request) -> web.StreamResponse:
        seconds = self._front.clock_ms() // 1000
        told = {"unixtime": seconds, "rfc1123": datetime.fromtimestamp(seconds, UTC).strftime("%a, %d %b %y %H:%M:%S +0000")}
        return await self._front.answer(request, _result(told))

    async def _assets(self, request: web.Request) -> web.StreamResponse:
        assets = {
            name: {"aclass": "currency", "altname": other, "decimals": 10, "display_decimals": 5, "status": "enabled"}
            for name, other in _ASSETS.items()
        }
        return await self._front.answer(request, _result(assets))

    async def _pairs(self, request: web.Request) -> web.StreamResponse:
        return await self._front.answer(request, _result(self._desk.pairs()))

    async def _candles(self, request: web.Request) -> web.StreamResponse:
        pair, interval = request.query.get("pair", ""), _INTERVALS.get(request.query.get("interval", "1"))
        if pair not in self._desk.book.symbols:
            return await self._refuse(request, "EQuery:Unknown asset pair")
        if interval is None:
            return await self._refuse(request, "EGeneral:Invalid arguments")
        since_ms = int(request.query.get("since", 0)) * 1000
        question = CandleQuestion(
            pair,
            interval,
            self._desk.book.columns(pair, interval),
            None,
            None,
            _KEPT,
            render=lambda rows: _result({pair: _after(rows, since_ms), "last": _last_s(rows)}),
            empty=_result({pair: [], "last": 0}),
        )
        return await self._front.answer_candles(request, question)

    async def _trades(self, request: web.Request) -> web.StreamResponse:
        pair, count = request.query.get("pair", ""), min(int(request.query.get("count", _MOST_TRADES)), _MOST_TRADES)
        if pair not in self._desk.trades.symbols:
            return await self._refuse(request, "EQuery:Unknown asset pair")
        start_ms = int(request.query.get("since", 0)) // 1_000_000 + 1
        trades = self._desk.trades.within(pair, start_ms, self._front.clock_ms(), count)
        rows = [[t.price, t.amount, t.time_ms / 1000, "s" if t.is_buyer_maker else "b", "l", "", t.number] for t in trades]
        last = str((trades[-1].time_ms if trades else start_ms) * 1_000_000)
        return await self._front.answer(request, _result({pair: rows, "last": last}), pair, _result({pair: [], "last": last}))

    async def _depth(self, request: web.Request) -> web.StreamResponse:
        pair = request.query.get("pair", "")
        if pair not in self._desk.pairs():
            return await self._refuse(request, "EQuery:Unknown asset pair")
        return await self._front.answer(request, _result({pair: self._desk.depth.get(pair, {"bids": [], "asks": []})}), pair)

    async def _refuse(self, request: web.Request, error: str) -> web.StreamResponse:
        return await self._front.refuse(request, 200, json.dumps({"error": [error]}))


def _after(rows: list[Kline], since_ms: int) -> list[list[int | str]]:
    """Those opened after ``since_ms``; the last one always."""
    told = [row for number, row in enumerate(rows) if int(row[0]) > since_ms or number == len(rows) - 1]
    return [[int(row[0]) // 1000, *row[1:5], row[4], row[5], row[8]] for row in told]


def _last_s(rows: Iterable[Kline]) -> int:
    times = [int(row[0]) // 1000 for row in rows]
    return times[-2] if len(times) > 1 else 0


def _result(result: object) -> str:
    return json.dumps({"error": [], "result": result}, separators=(",", ":"))
