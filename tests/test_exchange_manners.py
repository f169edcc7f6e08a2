"""What exchanges do with a question, each in its own way: the real ccxt clients over HTTP against the emulator."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest

from blocks.exchange import open_exchange
from blocks.exchange_answers import collecting_answers, keep_answer, request_of
from blocks.exchange_market import ExchangeMarket
from candlewick.candles import CandlePage, opened_at_ms
from tests.emulator.server import Emulator
from tests.emulator_fixture import HOUR_MS, START_MS, exchange_block

Answer = TypeVar("Answer")


def ask(exchange: Emulator, question: Callable[[ExchangeMarket], Awaitable[Answer]], **settings: object) -> Answer:
    async def run() -> Answer:
        async with open_exchange(exchange_block(exchange, **settings)) as market:
            return await question(market)

    return asyncio.run(run())


# -- answers as they came


def test_every_answer_is_kept_as_it_came(made_up_exchange: Emulator):
    page = ask(made_up_exchange, lambda market: market.fetch("BTC/USDT", "1h", START_MS, START_MS + 1_500 * HOUR_MS))
    assert [one.status for one in page.pages] == [200, 200]
    assert [one.request for one in page.pages] == [
        f"/api/v3/klines?interval=1h&limit=1000&symbol=BTCUSDT&startTime={START_MS}",
        f"/api/v3/klines?interval=1h&limit=500&symbol=BTCUSDT&startTime={START_MS + 1_000 * HOUR_MS}",
    ]
    assert page.pages[0].body.startswith(f'[[{START_MS},"40000.00000000"')
    assert page.pages[0].fetched_at <= page.pages[1].fetched_at
    assert opened_at_ms(page.candles).tolist() == [START_MS + i * HOUR_MS for i in range(1_500)]


def test_answers_to_questions_asked_at_once_do_not_mix(made_up_exchange: Emulator):
    async def both(market: ExchangeMarket) -> list[CandlePage]:
        questions = [(symbol, START_MS + shift * HOUR_MS) for shift in range(5) for symbol in ("BTC/USDT", "ETH/USDT")]
        now_ms = made_up_exchange.clock_ms()
        return await asyncio.gather(*(market.fetch(symbol, "1h", since_ms, now_ms) for symbol, since_ms in questions))

    pages = ask(made_up_exchange, both)
    for number, page in enumerate(pages):
        assert len(page.pages) == 3
        symbol, first_ms = ("BTCUSDT", "ETHUSDT")[number % 2], START_MS + number // 2 * HOUR_MS
        assert all(f"symbol={symbol}&" in one.request for one in page.pages)
        assert page.pages[0].request.endswith(f"startTime={first_ms}")
        assert opened_at_ms(page.candles)[0] == first_ms


def test_neither_host_nor_key_nor_signature_are_kept():
    with collecting_answers() as pages:
        keep_answer("https://user:word@host:1/v1/x?timestamp=5&apiKey=4711&Signature=ab&symbol=A%2FB", 200, "[]")
    keep_answer("https://host/outside", 200, "[]")
    assert [one.request for one in pages] == ["/v1/x?timestamp=5&symbol=A%2FB"]
    assert request_of("https://host/v1") == "/v1"


# -- page borders


@pytest.mark.parametrize(("bars", "questions"), [(999, 1), (1000, 1), (1001, 2), (2000, 2), (1, 1)])
def test_a_past_span_costs_as_many_requests_as_it_has_pages(made_up_exchange: Emulator, bars: int, questions: int):
    since_ms = START_MS + 17 * HOUR_MS
    page = ask(made_up_exchange, lambda market: market.fetch("BTC/USDT", "1h", since_ms, since_ms + bars * HOUR_MS))
    assert opened_at_ms(page.candles).tolist() == [since_ms + i * HOUR_MS for i in range(bars)]
    assert page.forming is None
    assert len(made_up_exchange.requests("/klines")) == questions
