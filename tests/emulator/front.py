"""What an exchange's desk needs of the emulator that it stands in: the clock, and to answer through the faults."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from aiohttp import web

from tests.emulator.candle_book import Columns
from tests.emulator.klines import Kline


@dataclass(frozen=True, slots=True)
class CandleQuestion:
    """Which candles a request is about: at most ``limit`` opened in [start, end], the first after a start, the last without.

    ``render`` makes a body of rows as Binance has them, ``empty`` is one without rows; ``quick`` says that the body is Binance's.
    ``seen_ms``: the moment as of which they are told, None for the exchange's clock.
    """

    symbol: str
    interval: str
    columns: Columns
    start_ms: int | None
    end_ms: int | None
    limit: int
    render: Callable[[list[Kline]], str]
    empty: str = "[]"
    quick: bool = False
    seen_ms: int | None = None


class Front(Protocol):
    """The emulator, as its desks see it."""

    def clock_ms(self) -> int:
        """The exchange's time."""

    async def answer(self, request: web.Request, body: str, symbol: str | None = None, empty: str = "[]") -> web.StreamResponse:
        """Send a body, or meet a fault. ``symbol`` is the exchange's own name, ``empty`` what an empty answer looks like."""

    async def answer_candles(self, request: web.Request, question: CandleQuestion) -> web.StreamResponse:
        """Send candles, or meet a fault."""

    async def refuse(self, request: web.Request, status: int, body: str) -> web.StreamResponse:
        """Send an error body."""
