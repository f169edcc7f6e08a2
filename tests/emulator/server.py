"""An exchange on loopback that speaks Binance's public REST, from a thread of the test or as a process of its own: spot here,
USD-M futures in futures.py; and Kraken's and Coinbase's, which share its clock, its faults and its log.

Python: ``with Emulator(CandleBook.from_folder(folder)) as exchange: exchange.misbehave(Fault("http", status=429))``.
HTTP: GET /_control (state), GET /_control/requests, POST /_control with any of ``now_ms`` (null: real time), ``clock_offset_ms``,
``show_forming``, ``spreads``, ``accelerate`` (``factor``, ``start_ms``, ``until_ms``), ``weights`` (``limit``, ``window_s``,
``ban_s``, ``patience``; begins a new count), ``faults`` (a list, appended), ``forgive`` (the faults so far, done first),
``clear`` (faults, log, weights, spreads and clock, done first).
"""

import asyncio
import copy
import json
import math
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from aiohttp import web

from candlewick.market.budget_file import budget_folder
from tests.emulator.candle_book import CandleBook
from tests.emulator.coinbase import CoinbaseDesk, CoinbaseRoutes
from tests.emulator.exchange_info import complete_exchange_info, load_exchange_info
from tests.emulator.faults import BODY_403_HTML, CANDLE_KINDS, Fault, http_answer, spoil, target_row
from tests.emulator.front import CandleQuestion
from tests.emulator.futures import FuturesDesk, FuturesRoutes
from tests.emulator.klines import INTERVAL_MS, klines_at, klines_text, page_bounds
from tests.emulator.kraken import KrakenDesk, KrakenRoutes
from tests.emulator.spot import send_best_prices, send_klines, send_trades
from tests.emulator.trade_book import TradeBook
from tests.emulator.weights import Weights, weight_of

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_LOG_LIMIT = 200_000
_MAX_LIMIT = 1000
_DEFAULT_LIMIT = 500
_FEW_ROWS = 20  # of which a page is made faster row by row


@dataclass(frozen=True, slots=True)
class LoggedRequest:
    """One request as it came, at this machine's time, and the fault it met."""

    time_ms: int
    path: str
    params: dict[str, str]
    fault: str | None


@dataclass(frozen=True, slots=True)
class Pace:
    """A clock that showed ``start_ms`` when it was ``began_s`` (seconds since 1970) and runs ``factor`` times as fast as ours.

    At ``until_ms`` it stands still; None: never.
    """

    factor: float
    start_ms: int
    began_s: float
    until_ms: int | None = None

    def clock_ms(self, now_s: float) -> int:
        """What it shows when it is ``now_s``."""
        shown_ms = self.start_ms + round((now_s - self.began_s) * 1000 * self.factor)
        return shown_ms if self.until_ms is None else min(shown_ms, self.until_ms)

    def at_s(self, clock_ms: float) -> float:
        """When it shows ``clock_ms``, in our seconds since 1970."""
        return self.began_s + (clock_ms - self.start_ms) / 1000 / self.factor


class Emulator:
    """The exchange. Its attributes may be set from any thread while it runs.

    ``now_ms`` fixes its clock (None: real time, or as ``accelerate`` says); ``clock_offset_ms`` is added to it; ``show_forming``
    is how Binance does it. ``spreads``: ask less bid of a symbol (``BTCUSDT``) around 100, as text; 0.02 where it is not there,
    None: nobody bids or asks.
    """

    def __init__(self, book: CandleBook, exchange_info: Path | None = None, port: int = 0) -> None:
        self.book = book
        self.trades = TradeBook()
        self.futures = FuturesDesk()
        self.kraken = KrakenDesk()
        self.coinbase = CoinbaseDesk()
        self.weights = Weights()
        self.now_ms: int | None = None
        self.pace: Pace | None = None
        self.clock_offset_ms = 0
        self.show_forming = True
        self.spreads: dict[str, str | None] = {}
        self.faults: list[Fault] = []
        self._requests: deque[LoggedRequest] = deque(maxlen=_LOG_LIMIT)
        self._first_info = load_exchange_info(exchange_info)
        self._info = self._first_info
        self._delisted: tuple[str, ...] = ()
        self._last_page: dict[tuple[str, str | None, str | None], str] = {}
        self._port = port
        self._lock = threading.Lock()
        self._ready = threading.Event()
        self._failure: BaseException | None = None

    # -- from the test

    @property
    def url(self) -> str:
        """Base address, without a trailing slash."""
        return f"http://127.0.0.1:{self._port}"

    def is_ready(self) -> bool:
        """Whether it listens."""
        return self._ready.is_set()

    def clock_ms(self) -> int:
        """The exchange's time."""
        if self.now_ms is not None:
            return self.now_ms + self.clock_offset_ms
        now_s = time.time()
        return (round(now_s * 1000) if self.pace is None else self.pace.clock_ms(now_s)) + self.clock_offset_ms

    def accelerate(self, factor: float, start_ms: int, until_ms: int | None = None) -> None:
        """Let the clock run ``factor`` times as fast from now on, beginning at ``start_ms``; at ``until_ms`` it stands."""
        self.now_ms, self.pace = None, Pace(factor, start_ms, time.time(), until_ms)

    def forgive(self) -> None:
        """Forget the faults; all else stays."""
        with self._lock:
            self.faults.clear()

    def misbehave(self, *faults: Fault) -> None:
        """Queue faults; a request meets the first that matches it."""
        with self._lock:
            self.faults.extend(faults)

    def requests(self, path: str = "/api/", symbol: str | None = None) -> list[LoggedRequest]:
        """What was asked so far, oldest first."""
        return [r for r in list(self._requests) if path in r.path and symbol in (None, r.params.get("symbol"))]

    def change_rules(self, symbol: str, **filters: dict[str, str]) -> None:
        """Replace fields of a symbol's filters in exchangeInfo: ``PRICE_FILTER={"tickSize": "5.0"}``."""
        info = copy.deepcopy(self._info)
        entry = next(entry for entry in info["symbols"] if entry["symbol"] == symbol)
        for changed in entry["filters"]:
            changed.update(filters.get(changed["filterType"], {}))
        self._info = info

    def delist(self, symbol: str) -> None:
        """Leave a symbol out of exchangeInfo; klines of it are refused like those of any unknown one."""
        self._info = self._info | {"symbols": [entry for entry in self._info["symbols"] if entry["symbol"] != symbol]}
        self._delisted = (*self._delisted, symbol)

    def halt(self, symbol: str) -> None:
        """Stop trading a symbol: exchangeInfo and klines keep it."""
        info = self._exchange_info()
        entries = [entry | ({"status": "BREAK"} if entry["symbol"] == symbol else {}) for entry in info["symbols"]]
        self._info = self._info | {"symbols": entries}

    def clear(self) -> None:
        """Forget faults, changed rules and requests; back to real time."""
        self._info, self._delisted = self._first_info, ()
        self.forgive()
        self._requests.clear()
        self._last_page.clear()
        self.now_ms, self.pace, self.clock_offset_ms, self.show_forming = None, None, 0, True
        self.weights, self.spreads = Weights(), {}
        self.forget_pauses()

    def forget_pauses(self) -> None:
        """Let those who asked forget what they know of this exchange's limits, and the pauses they were told."""
        for budget in budget_folder().glob(f"*@127.0.0.1_{self._port}"):
            budget.unlink(missing_ok=True)

    def __enter__(self) -> "Emulator":
        self._thread = threading.Thread(target=self._run, name="exchange-emulator", daemon=True)
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            raise self._failure
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self.forget_pauses()

    def _run(self) -> None:
        try:
            asyncio.run(self.serve())
        except OSError as error:
            self._failure = error
            self._ready.set()

    async def serve(self) -> None:
        """Serve until stopped (or cancelled)."""
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        runner = web.AppRunner(self._app(), shutdown_timeout=0.1, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self._port)
        await site.start()
        self._port = runner.addresses[0][1]
        self.forget_pauses()  # of an emulator that had this port before
        self._ready.set()
        try:
            await self._stop.wait()
        finally:
            await runner.cleanup()

    # -- over HTTP

    def _app(self) -> web.Application:
        app = web.Application(middlewares=[self._weigh])
        app.router.add_get("/api/v3/ping", self._ping)
        app.router.add_get("/api/v3/time", self._time)
        app.router.add_get("/api/v3/exchangeInfo", self._exchange_info_answer)
        app.router.add_get("/api/v3/klines", self._klines)
        app.router.add_get("/api/v3/aggTrades", self._trades)
        app.router.add_get("/api/v3/ticker/bookTicker", self._best_prices)
        FuturesRoutes(self.futures, self).add_to(app)
        KrakenRoutes(self.kraken, self).add_to(app)
        CoinbaseRoutes(self.coinbase, self).add_to(app)
        app.router.add_get("/_control", self._state)
        app.router.add_get("/_control/requests", self._logged)
        app.router.add_post("/_control", self._control)
        return app

    async def _ping(self, request: web.Request) -> web.StreamResponse:
        return await self.answer(request, "{}")

    async def _time(self, request: web.Request) -> web.StreamResponse:
        return await self.answer(request, json.dumps({"serverTime": self.clock_ms()}))

    async def _exchange_info_answer(self, request: web.Request) -> web.StreamResponse:
        info = self._exchange_info() | {"serverTime": self.clock_ms()}
        return await self.answer(request, json.dumps(info))

    def _exchange_info(self) -> dict[str, Any]:
        listed = tuple(s for s in {*self.book.symbols, *self.trades.symbols} if s not in self._delisted)
        return complete_exchange_info(self._info, tuple(sorted(listed)))

    async def _best_prices(self, request: web.Request) -> web.StreamResponse:
        known = tuple(entry["symbol"] for entry in self._exchange_info()["symbols"])
        return await send_best_prices(self, request, self.spreads, known)

    async def _klines(self, request: web.Request) -> web.StreamResponse:
        known = {entry["symbol"] for entry in self._info["symbols"]}.union(self.book.symbols).difference(self._delisted)
        return await send_klines(self, request, self.book, frozenset(known), _DEFAULT_LIMIT, _MAX_LIMIT)

    async def _trades(self, request: web.Request) -> web.StreamResponse:
        return await send_trades(self, request, self.trades)

    async def answer_candles(self, request: web.Request, question: CandleQuestion) -> web.StreamResponse:
        """Send candles, or meet a fault."""
        q, now_ms = question, self.clock_ms() if question.seen_ms is None else question.seen_ms
        faults, met = self._candle_faults(request.path, q.symbol), []
        if q.quick and not faults:
            first, last = page_bounds(q.columns, q.interval, q.start_ms, q.end_ms, q.limit, now_ms, self.show_forming)
            if first + _FEW_ROWS < last and q.columns[0][last - 1] + INTERVAL_MS[q.interval] <= now_ms:
                return await self._answer(request, klines_text(q.columns, q.interval, first, last), q.symbol, page=q.interval)
        rows = klines_at(q.columns, q.interval, q.start_ms, q.end_ms, q.limit, now_ms, self.show_forming)
        for fault in faults:
            if fault.kind == "unclosed":
                late = klines_at(q.columns, q.interval, q.start_ms, None, q.limit, now_ms, True)
                rows = late if fault.use_up() else rows
            elif (at := target_row(fault, rows)) is not None and fault.use_up():
                rows = spoil(fault, rows, at)
            met.append(fault.kind)
        return await self._answer(request, q.render(rows), q.symbol, q.empty, q.interval, "+".join(met) or None)

    def _candle_faults(self, path: str, symbol: str) -> list[Fault]:
        with self._lock:
            return [fault for fault in self.faults if fault.kind in CANDLE_KINDS and fault.matches(path, symbol)]

    def _answer_fault(self, path: str, symbol: str | None) -> Fault | None:
        with self._lock:
            for fault in self.faults:
                if fault.kind not in CANDLE_KINDS and fault.matches(path, symbol) and fault.use_up():
                    return fault
        return None

    async def refuse(self, request: web.Request, status: int, body: str) -> web.StreamResponse:
        """Send an error body."""
        self._log(request, None)
        return web.Response(status=status, text=body, content_type="application/json")

    def _log(self, request: web.Request, fault: str | None) -> None:
        self._requests.append(LoggedRequest(round(time.time() * 1000), request.path, dict(request.query), fault))

    async def answer(self, request: web.Request, body: str, symbol: str | None = None, empty: str = "[]") -> web.StreamResponse:
        """Send a body, or meet a fault. ``symbol`` is the exchange's own name, ``empty`` what an empty answer looks like."""
        return await self._answer(request, body, symbol or request.query.get("symbol"), empty)

    async def _answer(
        self,
        request: web.Request,
        body: str,
        symbol: str | None,
        empty: str = "[]",
        page: str | None = None,
        spoilt: str | None = None,
    ) -> web.StreamResponse:
        fault = self._answer_fault(request.path, symbol)
        self._log(request, fault.kind if fault else spoilt)
        key = (request.path, symbol, page)
        if fault is None:
            if page is not None:
                self._last_page[key] = body
            return _json(body)
        match fault.kind:
            case "http":
                status, headers, text = http_answer(fault, self.clock_ms())
                kind = "application/json" if text.startswith("{") else "text/html"
                return web.Response(status=status, headers=headers, text=text, content_type=kind)
            case "html":
                return web.Response(status=fault.status or 403, text=BODY_403_HTML, content_type="text/html")
            case "hang":
                await asyncio.sleep(fault.seconds)
                return _json(body)
            case "drop":
                assert request.transport is not None
                request.transport.abort()
                return web.Response()
            case "truncate":
                return _json(body[: len(body) * 2 // 3])
            case "shape":
                return _json(fault.body or '{"unexpected":true}')
            case "repeat":
                return _json(self._last_page.get(key, body))
        return _json(empty)

    @web.middleware
    async def _weigh(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Count the weight of a request to Binance; refuse it where too much was used."""
        weight = weight_of(request.path, int(request.query.get("limit", _DEFAULT_LIMIT)), "symbol" in request.query)
        if weight is None:
            return await handler(request)
        used, status, wait_s = self.weights.use(weight)
        if status == 200:
            response = await handler(request)
        else:
            self._log(request, f"weight-{status}")
            fault = Fault("http", status=status, retry_after_s=math.ceil(wait_s))
            _, headers, text = http_answer(fault, self.clock_ms())
            response = web.Response(status=status, headers=headers, text=text, content_type="application/json")
        response.headers["x-mbx-used-weight-1m"] = str(used)
        return response

    # -- remote control

    async def _state(self, _request: web.Request) -> web.StreamResponse:
        state: dict[str, object] = {
            "now_ms": self.now_ms,
            "clock_offset_ms": self.clock_offset_ms,
            "show_forming": self.show_forming,
            "spreads": self.spreads,
        }
        state["weights"] = asdict(self.weights)
        state["pace"] = None if self.pace is None else asdict(self.pace)
        return web.json_response(state | {"clock_ms": self.clock_ms(), "faults": [fault.to_document() for fault in self.faults]})

    async def _logged(self, _request: web.Request) -> web.StreamResponse:
        names = ("time_ms", "path", "params", "fault")
        return web.json_response([{name: getattr(r, name) for name in names} for r in self.requests()])

    async def _control(self, request: web.Request) -> web.StreamResponse:
        command: dict[str, Any] = await request.json()
        unknown = command.keys() - {
            "now_ms", "clock_offset_ms", "show_forming", "accelerate", "faults", "forgive", "clear", "weights", "spreads"
        }  # fmt: skip
        try:
            pace = Pace(**command.pop("accelerate"), began_s=time.time()) if "accelerate" in command else None
            faults = [Fault(**fault) for fault in command.pop("faults", [])]
            weights = Weights(**command.pop("weights")) if "weights" in command else None
        except (TypeError, ValueError) as error:
            return web.json_response({"error": str(error)}, status=400)
        if unknown:
            return web.json_response({"error": f"unknown: {', '.join(sorted(unknown))}"}, status=400)
        if command.pop("clear", False):
            self.clear()
        if command.pop("forgive", False):
            self.forgive()
        if pace is not None:
            self.now_ms, self.pace = None, pace
        self.weights = weights or self.weights
        for name, value in command.items():
            setattr(self, name, value)
        self.misbehave(*faults)
        return await self._state(request)


def _json(body: str) -> web.Response:
    return web.Response(text=body, content_type="application/json")
