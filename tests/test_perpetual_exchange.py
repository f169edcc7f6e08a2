"""Linear perpetuals of a ccxt exchange: ccxt's binanceusdm over HTTP against the emulator."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from decimal import Decimal
from typing import TypeVar

import polars as pl
import pytest

from blocks.exchange import Exchange, open_exchange
from blocks.exchange_market import ExchangeMarket
from candlewick.errors import InvalidFunding, MarketUnavailable, RateLimited, UnknownSymbol, UsageError
from candlewick.funding import FUNDING_SCHEMA, HOUR_MS, funding_at_ms, require_funding
from candlewick.market.funding_paging import FundingWalk, parse_funding_rows
from candlewick.timeframes import parse_utc
from tests.emulator.candle_book import CandleBook
from tests.emulator.faults import Fault
from tests.emulator.server import Emulator
from tests.emulator_fixture import START_MS, exchange_block, made_up_candles
from tests.shared_data import SHARED

Answer = TypeVar("Answer")
BITCOIN = "BTC/USDT:USDT"
DERIVATIVES = SHARED / "data" / "derivatives"


@pytest.fixture
def futures() -> Iterator[Emulator]:
    """BTCUSDT with 100 hourly candles and 2,500 payments every 8 hours, each some milliseconds late; the clock after the last."""
    with Emulator(CandleBook()) as emulator:
        emulator.futures.book.add("BTCUSDT", "1h", made_up_candles(40_000.0, 100))
        emulator.futures.add_funding("BTCUSDT", payments(2_500))
        emulator.now_ms = START_MS + 2_500 * 8 * HOUR_MS
        yield emulator


def payments(count: int) -> list[tuple[int, str]]:
    return [(START_MS + n * 8 * HOUR_MS + n % 17, f"{(n % 200 - 100) / 1e6:.8f}") for n in range(count)]


def ask(exchange: Emulator, question: Callable[[ExchangeMarket], Awaitable[Answer]], **settings: object) -> Answer:
    async def run() -> Answer:
        async with open_exchange(block(exchange, **settings)) as market:
            return await question(market)

    return asyncio.run(run())


def block(exchange: Emulator, **settings: object) -> Exchange:
    return exchange_block(exchange, **({"exchange_id": "binanceusdm"} | settings))


def funding(exchange: Emulator, since_ms: int, until_ms: int, symbol: str = BITCOIN, **settings: object) -> pl.DataFrame:
    return ask(exchange, lambda market: market.funding(symbol, since_ms, until_ms), **settings)


def test_years_of_funding_arrive_over_several_pages_and_none_is_missing(futures: Emulator):
    until_ms = START_MS + 2_500 * 8 * HOUR_MS
    answer = funding(futures, START_MS, until_ms)
    assert answer.schema == dict(FUNDING_SCHEMA)
    assert answer["rate"].to_list() == [float(rate) for _, rate in payments(2_500)]
    assert answer["noted_at"].dt.epoch("ms").to_list() == [time for time, _ in payments(2_500)]
    assert require_funding(BITCOIN, answer, START_MS, until_ms, 8).height == 2_500
    asked = futures.requests("/fundingRate")
    assert [request.params["limit"] for request in asked] == ["1000"] * len(asked)
    assert 3 <= len(asked) <= 4


def test_real_funding_arrives_as_it_was_collected():
    path = DERIVATIVES / "binanceusdm_SOLUSDT_funding_8h.parquet"
    if not path.is_file():
        pytest.skip(f"the real funding {path.name} is not beside this checkout")
    real = pl.read_parquet(path)
    with Emulator(CandleBook()) as exchange:
        exchange.futures.add_funding_file("SOLUSDT", path)
        answer = funding(exchange, parse_utc("2025-02-01"), parse_utc("2026-06-01"), "SOL/USDT:USDT")
    assert answer["noted_at"].to_list() == real["ts"].to_list()
    assert answer["rate"].to_list() == real["funding_rate"].to_list()


def test_a_payment_noted_before_its_hour_belongs_to_the_span_from_that_hour_on(futures: Emulator):
    futures.futures.add_funding("BTCUSDT", [(START_MS - 9, "0.0001"), (START_MS + 8 * HOUR_MS - 9, "0.0002")])
    assert funding_at_ms(funding(futures, START_MS, START_MS + 8 * HOUR_MS)).tolist() == [START_MS]


def test_candles_of_a_perpetual_come_from_the_futures_exchange(futures: Emulator):
    page = ask(futures, lambda market: market.fetch(BITCOIN, "1h", START_MS, START_MS + 50 * HOUR_MS))
    assert page.candles.height == 50
    assert futures.requests("/fapi/v1/klines")
    assert futures.requests("/api/v3") == []
    clock = ask(futures, lambda market: market.clock())
    assert clock.now_ms == futures.clock_ms()


def test_without_credentials_a_perpetual_has_the_documented_terms(futures: Emulator):
    bitcoin = ask(futures, lambda market: market.instruments((BITCOIN,)))[BITCOIN]
    assert (bitcoin.kind, bitcoin.base, bitcoin.quote, bitcoin.funding_interval_h) == ("perpetual", "BTC", "USDT", 8)
    assert (bitcoin.max_leverage, bitcoin.maintenance_margin_share) == (Decimal(20), Decimal("0.01"))
    assert (str(bitcoin.price_tick), str(bitcoin.quantity_step), bitcoin.min_notional) == ("0.01", "0.01", Decimal(5))
    assert (bitcoin.maker_fee_bps, bitcoin.taker_fee_bps) == (Decimal(2), Decimal(5))
    assert futures.requests("/leverageBracket") == []


def test_with_credentials_the_first_leverage_tier_is_the_exchanges_own(futures: Emulator):
    futures.futures.brackets["BTCUSDT"] = (125, 0.004)
    keys = {"api_key": "key", "api_secret": "secret"}
    bitcoin = ask(futures, lambda market: market.instruments((BITCOIN,)), **keys)[BITCOIN]
    assert (bitcoin.max_leverage, bitcoin.maintenance_margin_share) == (Decimal(125), Decimal("0.004"))


def test_inverse_and_dated_contracts_are_refused_by_name(futures: Emulator):
    desk = futures.futures
    desk.add_funding("ETHUSDT", [])
    desk.add_funding("SOLUSDT", [])
    desk.inverse.add("ETHUSDT")
    desk.contract_types["SOLUSDT"] = "CURRENT_QUARTER"
    with pytest.raises(UsageError, match=r"ETH/USDT:ETH is an inverse or quanto contract, settled in ETH and quoted in USDT"):
        ask(futures, lambda market: market.instruments(("ETH/USDT:ETH",)))
    with pytest.raises(UsageError, match="ETH/USDT:ETH is no linear perpetual and has no funding"):
        funding(futures, START_MS, START_MS + HOUR_MS, "ETH/USDT:ETH")
    with pytest.raises(UsageError, match=r"SOL/USDT:USDT-300317 is a dated contract"):
        ask(futures, lambda market: market.instruments(("SOL/USDT:USDT-300317",)))


def test_a_spot_exchange_asked_for_a_perpetual_says_where_they_are(made_up_exchange: Emulator):
    with pytest.raises(UnknownSymbol, match=r"binance does not trade 'BTC/USDT:USDT': .* ccxt's binanceusdm trades Binance's"):
        ask(made_up_exchange, lambda market: market.instruments((BITCOIN,)), exchange_id="binance")


@pytest.mark.parametrize(
    ("fault", "error", "words"),
    [
        (Fault("http", status=500, path="/fundingRate"), MarketUnavailable, "500"),
        (Fault("http", status=429, retry_after_s=7, path="/fundingRate"), RateLimited, "asked for a pause for 7 s"),
        (Fault("html", path="/fundingRate"), MarketUnavailable, "an HTML page"),
        (Fault("drop", count=2, path="/fundingRate"), MarketUnavailable, "the connection was dropped"),
        (Fault("truncate", path="/fundingRate"), MarketUnavailable, "broken JSON"),
        (Fault("shape", path="/fundingRate"), MarketUnavailable, "BTC/USDT:USDT funding"),
        (Fault("hang", path="/fundingRate"), MarketUnavailable, r"no answer within 0\.5 s"),
    ],
    ids=lambda value: value.kind if isinstance(value, Fault) else None,
)
def test_an_answer_that_fails_has_a_name_and_the_next_one_is_complete(
    futures: Emulator, fault: Fault, error: type[Exception], words: str
):
    futures.misbehave(fault)
    with pytest.raises(error, match=words):
        funding(futures, START_MS, START_MS + 80 * HOUR_MS, timeout_s=0.5)
    futures.forget_pauses()
    assert funding(futures, START_MS, START_MS + 80 * HOUR_MS).height == 10


def test_a_rate_that_is_no_number_is_refused(futures: Emulator):
    futures.futures.add_funding("BTCUSDT", [(START_MS, "")])
    with pytest.raises(InvalidFunding, match=r"binanceusdm BTC/USDT:USDT: the funding rate at 2024-01-01 00:00 is nan"):
        funding(futures, START_MS, START_MS + HOUR_MS)


def test_an_exchange_that_repeats_old_payments_ends_the_walk():
    walk = FundingWalk(START_MS, START_MS + 80 * HOUR_MS)
    walk.take([(START_MS, 1e-4)])
    assert not walk.done
    walk.take([(START_MS, 1e-4)])
    assert walk.done
    assert walk.funding().height == 1


@pytest.mark.parametrize(
    "answer", ["text", {"a": 1}, [1], [{"timestamp": None, "fundingRate": 0.1}], [{"timestamp": 5, "fundingRate": "x"}]]
)
def test_what_is_no_list_of_rates_is_refused(answer: object):
    with pytest.raises(MarketUnavailable, match=r"funding rate"):
        parse_funding_rows(answer)
