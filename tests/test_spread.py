"""Bid-ask spreads: the arithmetic, and the real ccxt client asking emulated exchanges for best prices."""

import asyncio
from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocks.exchange import Exchange, open_exchange
from blocks.exchange_market import ExchangeMarket
from candlewick.candles import Series
from candlewick.errors import MarketUnavailable, RateLimited, UnknownSymbol
from candlewick.market.sample import SampleMarket
from candlewick.market.spread import spread_bps
from tasks.market import MarketAccess
from tasks.monitoring import Ask, Asks, Heard, fetch_bars
from tests.emulator.candle_book import CandleBook
from tests.emulator.faults import Fault
from tests.emulator.server import Emulator
from tests.emulator_fixture import HOUR_MS, START_MS, exchange_block, made_up_candles

Answer = TypeVar("Answer")
BEST_PRICES = "/ticker/bookTicker"


def ask(block: Exchange, question: Callable[[ExchangeMarket], Awaitable[Answer]]) -> Answer:
    async def run() -> Answer:
        async with open_exchange(block) as market:
            return await question(market)

    return asyncio.run(run())


def spreads(exchange: Emulator, *symbols: str, exchange_id: str = "binance") -> dict[str, Decimal]:
    return ask(exchange_block(exchange, exchange_id=exchange_id), lambda market: market.spreads_bps(symbols))


# -- the arithmetic


def test_a_spread_is_the_ask_less_the_bid_over_their_middle() -> None:
    assert spread_bps(Decimal("99.95"), Decimal("100.05")) == 10
    assert spread_bps(Decimal("0.00001234"), Decimal("0.00001236")) == Decimal("16.1944")
    assert spread_bps(Decimal(100), Decimal(100)) == 0


@pytest.mark.parametrize(
    ("bid", "ask_"), [(None, Decimal(1)), (Decimal(1), None), (Decimal(0), Decimal(0)), (Decimal(2), Decimal(1))]
)
def test_a_book_without_two_sides_that_meet_has_no_spread(bid: Decimal | None, ask_: Decimal | None) -> None:
    assert spread_bps(bid, ask_) is None


PRICES = st.decimals(Decimal("0.00000001"), Decimal(100_000), places=8)


@given(PRICES, PRICES)
def test_rounding_never_makes_a_spread_look_narrower(one: Decimal, other: Decimal) -> None:
    bid, ask_ = sorted((one, other))
    told = spread_bps(bid, ask_)
    assert told is not None
    exceeds = told * (bid + ask_) - (ask_ - bid) * 20_000
    assert 0 <= exceeds <= Decimal("0.0001") * (bid + ask_)


# -- asked for


def test_the_spreads_of_all_symbols_cost_one_question(made_up_exchange: Emulator) -> None:
    made_up_exchange.spreads = {"BTCUSDT": "0.1", "ETHUSDT": "0.25"}
    assert spreads(made_up_exchange, "BTC/USDT", "ETH/USDT") == {"BTC/USDT": 10, "ETH/USDT": 25}
    (request,) = made_up_exchange.requests(BEST_PRICES)
    assert request.params == {"symbols": '["BTCUSDT","ETHUSDT"]'}


def test_more_than_a_hundred_symbols_are_asked_for_in_parts(made_up_exchange: Emulator) -> None:
    names = [f"S{number:03d}" for number in range(120)]
    for name in names:
        made_up_exchange.book.add(f"{name}USDT", "1h", made_up_candles(10.0, 1))
    assert spreads(made_up_exchange, *(f"{name}/USDT" for name in names)).keys() == {f"{name}/USDT" for name in names}
    assert len(made_up_exchange.requests(BEST_PRICES)) == 2


def test_a_symbol_that_nobody_bids_for_has_no_spread(made_up_exchange: Emulator) -> None:
    made_up_exchange.spreads = {"BTCUSDT": None}
    assert spreads(made_up_exchange, "BTC/USDT", "ETH/USDT") == {"ETH/USDT": 2}


def test_questions_for_spreads_come_out_of_the_shared_budget(made_up_exchange: Emulator) -> None:
    made_up_exchange.misbehave(Fault("http", path=BEST_PRICES, status=429, retry_after_s=7))
    with pytest.raises(RateLimited, match="binance best prices of 1 symbols: asked for a pause for 7 s") as refused:
        spreads(made_up_exchange, "BTC/USDT")
    assert refused.value.retry_after_s == 7
    with pytest.raises(RateLimited, match="was not asked again"):
        spreads(made_up_exchange, "BTC/USDT")
    assert len(made_up_exchange.requests(BEST_PRICES)) == 1


def test_a_spread_that_cannot_be_had_has_a_name(made_up_exchange: Emulator) -> None:
    with pytest.raises(UnknownSymbol, match="did you mean BTC/USDT"):
        spreads(made_up_exchange, "BTX/USDT")
    made_up_exchange.misbehave(Fault("html", path=BEST_PRICES))
    with pytest.raises(MarketUnavailable, match=r"best prices of 1 symbols: answered HTTP 403 .*HTML"):
        spreads(made_up_exchange, "BTC/USDT")


def test_perpetuals_tell_their_own_spreads(made_up_exchange: Emulator) -> None:
    for symbol in ("BTCUSDT", "ETHUSDT"):
        made_up_exchange.futures.book.add(symbol, "1h", made_up_candles(10.0, 1))
    made_up_exchange.futures.spreads = {"BTCUSDT": "0.5"}
    both = spreads(made_up_exchange, "BTC/USDT:USDT", "ETH/USDT:USDT", exchange_id="binanceusdm")
    assert both == {"BTC/USDT:USDT": 50, "ETH/USDT:USDT": 2}


def test_where_best_prices_do_not_come_together_the_order_book_is_asked_for(made_up_exchange: Emulator) -> None:
    kraken = made_up_exchange.kraken
    kraken.book = CandleBook()
    for pair in ("XXBTZUSD", "XETHZUSD"):
        kraken.book.add(pair, "1h", made_up_candles(10.0, 1))
    kraken.depth = {"XXBTZUSD": {"bids": [["99.9", "1", 0], ["99.8", "1", 0]], "asks": [["100.1", "1", 0], ["101", "1", 0]]}}
    assert spreads(made_up_exchange, "BTC/USD", "ETH/USD", exchange_id="kraken") == {"BTC/USD": 20}
    assert len(made_up_exchange.requests("/0/public/Depth")) == 2


# -- with the bars of a session


def hear(exchange: Emulator, since_ms: dict[str, int], wants_spreads: bool) -> list[Heard]:
    asks = [Ask(Series("binance", symbol, "1h"), opened_ms, opened_ms - HOUR_MS) for symbol, opened_ms in since_ms.items()]

    async def run() -> list[Heard]:
        async with open_exchange(exchange_block(exchange)) as market:
            access = MarketAccess(market)
            return await fetch_bars.fn(access, Asks(asks, exchange.clock_ms(), wants_spreads))

    return asyncio.run(run())


LAST_MS = START_MS + 2_498 * HOUR_MS


def test_only_symbols_with_new_bars_are_asked_for_their_spread(made_up_exchange: Emulator) -> None:
    heard = hear(made_up_exchange, {"BTC/USDT": LAST_MS, "ETH/USDT": LAST_MS + HOUR_MS}, wants_spreads=True)
    assert [(one.symbol, one.spread_bps) for one in heard] == [("BTC/USDT", 2), ("ETH/USDT", None)]
    assert [request.params for request in made_up_exchange.requests(BEST_PRICES)] == [{"symbols": '["BTCUSDT"]'}]


def test_where_no_limit_is_set_nobody_is_asked_for_spreads(made_up_exchange: Emulator) -> None:
    (heard,) = hear(made_up_exchange, {"BTC/USDT": LAST_MS}, wants_spreads=False)
    assert heard.spread_bps is None
    assert made_up_exchange.requests(BEST_PRICES) == []


def test_bars_come_although_spreads_do_not(made_up_exchange: Emulator, caplog: pytest.LogCaptureFixture) -> None:
    made_up_exchange.misbehave(Fault("http", path=BEST_PRICES, status=503))
    (heard,) = hear(made_up_exchange, {"BTC/USDT": LAST_MS}, wants_spreads=True)
    assert heard.checked is not None
    assert (heard.checked.candles.height, heard.error, heard.spread_bps) == (1, None, None)
    assert "entries at this bar are rejected: binance best prices of 1 symbols" in caplog.text


def test_markets_without_an_order_book_know_no_spread(tmp_path: Path) -> None:
    assert asyncio.run(SampleMarket(START_MS).spreads_bps(("BTC/USDT",))) == {}
