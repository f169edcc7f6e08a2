"""What Binance's spot and USD-M exchanges have in common: their candles and aggregate trades."""

import json
from collections.abc import Mapping
from decimal import Decimal

from aiohttp import web

from tests.emulator.candle_book import CandleBook
from tests.emulator.front import CandleQuestion, Front
from tests.emulator.klines import INTERVAL_MS
from tests.emulator.trade_book import BookedTrade, TradeBook

_HOUR_MS = 3_600_000
_MAX_TRADES, _DEFAULT_TRADES = 1000, 500


async def refuse(front: Front, request: web.Request, code: int, message: str) -> web.StreamResponse:
    """Send one of Binance's error bodies."""
    return await front.refuse(request, 400, json.dumps({"code": code, "msg": message}))


def number(request: web.Request, name: str) -> int | None:
    """A whole number of the query."""
    return int(request.query[name]) if name in request.query else None


async def send_klines(
    front: Front, request: web.Request, book: CandleBook, symbols: frozenset[str], default_limit: int, most: int
) -> web.StreamResponse:
    """Candles, or the error that Binance has for the question."""
    for name in ("symbol", "interval"):
        if name not in request.query:
            text = f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed."
            return await refuse(front, request, -1102, text)
    symbol, interval = request.query["symbol"], request.query["interval"]
    if interval not in INTERVAL_MS:
        return await refuse(front, request, -1120, "Invalid interval.")
    if symbol not in symbols:
        return await refuse(front, request, -1121, "Invalid symbol.")
    start_ms, end_ms = number(request, "startTime"), number(request, "endTime")
    limit = min(number(request, "limit") or default_limit, most)
    columns, seen_ms = book.window(symbol, interval, start_ms, end_ms, limit, front.clock_ms())
    question = CandleQuestion(
        symbol,
        interval,
        columns,
        start_ms,
        end_ms,
        limit,
        render=lambda rows: json.dumps(rows, separators=(",", ":")),
        quick=True,
        seen_ms=seen_ms,
    )
    return await front.answer_candles(request, question)


async def send_best_prices(
    front: Front, request: web.Request, spreads: Mapping[str, str | None], known: tuple[str, ...]
) -> web.StreamResponse:
    """Best bid and ask of one symbol, of several, or of all; around 100. One that is not known spoils the whole question."""
    one, several = request.query.get("symbol"), request.query.get("symbols")
    asked = (one,) if one is not None else known if several is None else tuple(json.loads(several))
    if not set(asked) <= set(known):
        return await refuse(front, request, -1121, "Invalid symbol.")
    rows = [_best_prices(symbol, spreads.get(symbol, "0.02")) for symbol in asked]
    return await front.answer(request, json.dumps(rows if one is None else rows[0]))


def _best_prices(symbol: str, spread: str | None) -> dict[str, str]:
    half = None if spread is None else Decimal(spread) / 2
    bid, ask = ("0", "0") if half is None else (100 - half, 100 + half)
    amount = "0.00000000" if half is None else "1.00000000"
    return {"symbol": symbol, "bidPrice": f"{bid}", "bidQty": amount, "askPrice": f"{ask}", "askQty": amount}


async def send_trades(front: Front, request: web.Request, book: TradeBook) -> web.StreamResponse:
    """Aggregate trades from a number on, or of at most an hour, the oldest first."""
    start_ms, end_ms, from_id = (number(request, name) for name in ("startTime", "endTime", "fromId"))
    symbol, limit = request.query.get("symbol", ""), min(number(request, "limit") or _DEFAULT_TRADES, _MAX_TRADES)
    if symbol not in book.symbols:
        return await refuse(front, request, -1121, "Invalid symbol.")
    if from_id is not None and (start_ms is not None or end_ms is not None):
        return await refuse(front, request, -1128, "Combination of optional parameters invalid.")
    if start_ms is not None and end_ms is not None and end_ms - start_ms > _HOUR_MS:
        return await refuse(front, request, -1127, "More than 1 hours between startTime and endTime.")
    now_ms = front.clock_ms()
    if from_id is not None:
        trades = book.after_number(symbol, from_id, limit, now_ms)
    else:
        trades = book.within(symbol, start_ms, now_ms if end_ms is None else min(now_ms, end_ms), limit)
    return await front.answer(request, json.dumps([_aggregate(trade) for trade in trades]))


def _aggregate(trade: BookedTrade) -> dict[str, int | str | bool]:
    return {
        "a": trade.number,
        "p": trade.price,
        "q": trade.amount,
        "f": trade.number,
        "l": trade.number,
        "T": trade.time_ms,
        "m": trade.is_buyer_maker,
        "M": True,
    }
