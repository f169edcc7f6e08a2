"""Open interest, trades and funding of exchanges: the real ccxt clients over HTTP against the emulator, and the walks alone."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blocks.exchange import open_exchange
from blocks.exchange_answers import collecting_answers
from blocks.exchange_market import ExchangeMarket
from candlewick.candles import RawPage
from candlewick.errors import CandlesNotKept, MarketUnavailable, UsageError
from candlewick.market.funding_paging import FundingRow, FundingWalk
from candlewick.market.trades_paging import TradeWalk, parse_trades
from candlewick.market_data.schemas import OPEN_INTEREST_SCHEMA, TRADES_SCHEMA
from candlewick.timeframes import DAY_MS
from tests.emulator.candle_book import CandleBook
from tests.emulator.faults import Fault
from tests.emulator.server import Emulator
from tests.emulator_fixture import HOUR_MS, START_MS, exchange_block, made_up_candles

Answer = TypeVar("Answer")
PERPETUAL = "BTC/USDT:USDT"
READINGS, TRADES = 1_100, 2_700
NOW_MS = START_MS + READINGS * HOUR_MS
FIVE_MINUTES_MS = 300_000


@pytest.fixture(scope="module")
def server() -> Iterator[Emulator]:
    with Emulator(CandleBook()) as emulator:
        desk = emulator.futures
        desk.add_open_interest(
            "BTCUSDT", [(START_MS + n * FIVE_MINUTES_MS, f"{n}.5", f"{n * 7}.25") for n in range(READINGS * 12)]
        )
        desk.trades.add("BTCUSDT", deals(), first_number=501)
        emulator.trades.add("BTCUSDT", deals(), first_number=99_000)
        emulator.kraken.trades.add("XXBTZUSD", deals())
        emulator.coinbase.book.add("BTC-USD", "1h", made_up_candles(40_000.0, 3))
        yield emulator


@pytest.fixture
def exchange(server: Emulator) -> Emulator:
    server.clear()
    server.now_ms = NOW_MS
    return server


def deals() -> list[tuple[int, str, str, bool]]:
    """2,700 trades: five every second, of the same millisecond, and a pause of five hours after the first 1,200."""
    times = [START_MS + n // 5 * 1_000 + (5 * HOUR_MS if n >= 1_200 else 0) for n in range(TRADES)]
    return [(time, f"{40_000 + n}.5", f"0.{n + 1:05d}", n % 3 == 0) for n, time in enumerate(times)]


LAST_TRADE_MS = deals()[-1][0]


def ask(exchange: Emulator, exchange_id: str, question: Callable[[ExchangeMarket], Awaitable[Answer]]) -> Answer:
    async def run() -> Answer:
        async with open_exchange(exchange_block(exchange, exchange_id=exchange_id)) as market:
            return await question(market)

    return asyncio.run(run())


def open_interest(exchange: Emulator, since_ms: int, until_ms: int, timeframe: str = "1h") -> pl.DataFrame:
    return ask(exchange, "binanceusdm", lambda market: market.open_interest(PERPETUAL, timeframe, since_ms, until_ms))


# -- open interest


@pytest.mark.parametrize(("since", "count"), [(400, 500), (400, 501), (407, 1), (400, 700)])
def test_open_interest_arrives_over_several_pages_and_no_reading_is_missing(exchange: Emulator, since: int, count: int):
    first_ms = START_MS + since * HOUR_MS
    told = open_interest(exchange, first_ms, first_ms + count * HOUR_MS)
    kept = min(count, READINGS - since + 1)
    assert told.schema == dict(OPEN_INTEREST_SCHEMA)
    assert told["opened_at"].dt.epoch("ms").to_list() == [first_ms + n * HOUR_MS for n in range(kept) if since + n < READINGS]
    assert told["open_interest"].to_list()[0] == since * 12 + 0.5
    assert told["open_interest_value"].to_list()[0] == since * 12 * 7 + 0.25


def test_open_interest_of_five_minutes_is_asked_for_500_readings_at_a_time(exchange: Emulator):
    told = open_interest(exchange, NOW_MS - 2 * DAY_MS, NOW_MS, "5m")
    assert told.height == 576
    assert [r.params["limit"] for r in exchange.requests("/openInterestHist")] == ["500", "76"]


def test_open_interest_older_than_thirty_days_is_refused_with_the_day_it_begins(exchange: Emulator):
    with pytest.raises(
        CandlesNotKept, match=r"binanceusdm BTC/USDT:USDT open interest 1h: the exchange keeps the newest 30d"
    ) as caught:
        open_interest(exchange, START_MS, NOW_MS)
    told = open_interest(exchange, caught.value.first_ms, NOW_MS)
    assert told["opened_at"].dt.epoch("ms").to_list() == list(range(caught.value.first_ms, NOW_MS, HOUR_MS))
    assert told.height >= 30 * 24 - 2


@pytest.mark.parametrize(
    ("exchange_id", "symbol", "words"),
    [
        ("binance", "BTC/USDT", "BTC/USDT is no contract and has no open interest"),
        ("kraken", "BTC/USD", "kraken offers no history of open interest"),
        ("coinbase", "BTC/USD", "coinbase offers no history of open interest"),
    ],
)
def test_where_there_is_no_open_interest_it_is_said(exchange: Emulator, exchange_id: str, symbol: str, words: str):
    with pytest.raises(UsageError, match=words):
        ask(exchange, exchange_id, lambda market: market.open_interest(symbol, "1h", START_MS, NOW_MS))


# -- trades


@pytest.mark.parametrize(
    ("exchange_id", "symbol", "first"),
    [("binance", "BTC/USDT", 99_000), ("binanceusdm", PERPETUAL, 501), ("kraken", "BTC/USD", 1)],
)
@pytest.mark.parametrize(
    ("since_s", "until_s"),
    [(0, 100_000), (13, 14), (13, 18_000 + 400), (240, 18_240), (240, 18_300), (7, 18_241), (30_000, 40_000)],
)
def test_every_trade_of_a_span_comes_once(
    exchange: Emulator, exchange_id: str, symbol: str, first: int, since_s: int, until_s: int
):
    since_ms, until_ms = START_MS + since_s * 1_000, START_MS + until_s * 1_000
    told = ask(exchange, exchange_id, lambda market: market.trades(symbol, since_ms, until_ms))
    expected = [(first + n, *deal) for n, deal in enumerate(deals()) if since_ms <= deal[0] < until_ms]
    assert told.schema == dict(TRADES_SCHEMA)
    assert told["trade_id"].to_list() == [str(deal[0]) for deal in expected]
    assert told["traded_at"].dt.epoch("ms").to_list() == [deal[1] for deal in expected]
    assert told["price"].to_list() == [float(deal[2]) for deal in expected]
    assert told["amount"].to_list() == [float(deal[3]) for deal in expected]
    assert told["side"].to_list() == ["sell" if deal[4] else "buy" for deal in expected]


def test_the_answers_about_trades_are_those_alone(exchange: Emulator):
    async def collect(market: ExchangeMarket) -> list[RawPage]:
        with collecting_answers() as pages:
            await market.trades("BTC/USDT", START_MS, LAST_TRADE_MS)
        return pages

    pages = ask(exchange, "binance", collect)
    assert [page.request.partition("?")[0] for page in pages] == ["/api/v3/aggTrades"] * 3
    assert "fromId=100000" in pages[1].request
    assert "Time=" not in pages[1].request


@pytest.mark.parametrize("skip", [0, 1, 2])
@pytest.mark.parametrize("kind", ["http", "truncate", "shape", "empty", "drop"])
@pytest.mark.parametrize(
    ("exchange_id", "symbol", "path"), [("binance", "BTC/USDT", "/aggTrades"), ("kraken", "BTC/USD", "/Trades")]
)
def test_a_fault_among_the_trades_is_named_or_made_good(
    exchange: Emulator, exchange_id: str, symbol: str, path: str, kind: str, skip: int
):
    exchange.misbehave(Fault(kind, path=path, skip=skip, count=2 if kind == "drop" else 1))

    async def told(market: ExchangeMarket) -> int | str:
        try:
            return (await market.trades(symbol, START_MS, LAST_TRADE_MS + 1)).height
        except MarketUnavailable as error:
            return str(error).partition(" trades: ")[0]

    assert ask(exchange, exchange_id, told) in (TRADES, f"{exchange_id} {symbol}")
    assert not exchange.faults[0].count


def test_an_exchange_that_tells_its_newest_trades_only_is_refused(exchange: Emulator):
    with pytest.raises(
        UsageError, match=r"coinbase: past trades cannot be collected from it.*from binance, binanceusdm, binanceus"
    ):
        ask(exchange, "coinbase", lambda market: market.trades("BTC/USD", START_MS, NOW_MS))


def test_more_trades_at_one_moment_than_a_page_holds_are_refused():
    at_once = parse_trades([{"timestamp": START_MS, "id": str(n), "price": 1.0, "amount": 1.0, "side": None} for n in range(5)])
    walk = TradeWalk(START_MS, NOW_MS, page_limit=5, has_ids=False)
    walk.take(at_once)
    with pytest.raises(MarketUnavailable, match=r"from 2024-01-01 00:00 UTC on and repeated 5 old ones"):
        walk.take(at_once)


def test_a_page_that_ends_among_the_last_trades_of_one_moment_loses_none_of_them():
    told = [{"timestamp": START_MS + n // 2, "id": str(n), "price": 1.0, "amount": 1.0, "side": "buy"} for n in range(6)]
    walk, asked = TradeWalk(START_MS, NOW_MS, page_limit=5, has_ids=False), 0
    while not walk.done and asked < 10:
        walk.take(parse_trades([row for row in told if START_MS + int(row["id"]) // 2 >= walk.cursor_ms][:5]))
        asked += 1
    assert walk.trades()["trade_id"].to_list() == ["0", "1", "2", "3", "4", "5"]
    assert asked == 3


def test_numbered_trades_that_repeat_are_refused():
    page = parse_trades([{"timestamp": START_MS, "id": str(n), "price": 1.0, "amount": 1.0, "side": "buy"} for n in range(5)])
    walk = TradeWalk(START_MS, NOW_MS, page_limit=5, has_ids=True)
    walk.take(page)
    assert walk.from_id == 5
    with pytest.raises(MarketUnavailable, match=r"from number 5 on and repeated 5 old ones"):
        walk.take(page)


@pytest.mark.parametrize(
    "raw", ["text", {"a": 1}, [1], [{"timestamp": 5, "id": None, "price": 1, "amount": 1}], [{"timestamp": 5}]]
)
def test_what_is_no_list_of_trades_is_refused(raw: object):
    with pytest.raises(MarketUnavailable, match=r"trade"):
        parse_trades(raw)


# -- funding that is listed newest first


def payments(count: int) -> list[FundingRow]:
    return [(START_MS + n * 8 * HOUR_MS + n % 7, n / 1e6) for n in range(count)]


def walk_funding(walk: FundingWalk, answer: Callable[[int, int | None], list[FundingRow]]) -> list[int]:
    for _ in range(300):
        if walk.done:
            return sorted({time for time, _ in walk.rows})
        walk.take(answer(walk.cursor_ms, walk.ask_until_ms))
    raise AssertionError("the walk does not end")


@settings(deadline=None)
@given(st.integers(0, 90), st.integers(0, 100), st.integers(3, 40))
def test_funding_that_comes_newest_first_is_walked_backwards(first, since, page_limit):
    known = payments(100)[first:]
    since_ms, until_ms = START_MS + since * 8 * HOUR_MS, START_MS + 110 * 8 * HOUR_MS

    def newest_first(cursor_ms: int, until: int | None) -> list[FundingRow]:
        return [row for row in known if cursor_ms <= row[0] <= (until or NOW_MS * 2)][-page_limit:][::-1]

    expected = [time for time, _ in known if since_ms <= time]
    assert walk_funding(FundingWalk(since_ms, until_ms, page_limit), newest_first) == expected


@settings(deadline=None)
@given(st.integers(0, 90), st.integers(3, 40))
def test_funding_from_a_time_on_needs_no_way_back_whatever_its_listing(first, page_limit):
    known = payments(100)[first:]

    def onwards(cursor_ms: int, until: int | None) -> list[FundingRow]:
        return [row for row in known if cursor_ms <= row[0] <= (until or NOW_MS * 2)][:page_limit]

    for is_onwards in (True, False):
        walk = FundingWalk(START_MS, START_MS + 110 * 8 * HOUR_MS, page_limit, is_onwards)
        assert walk_funding(walk, onwards) == [time for time, _ in known]


def test_an_exchange_that_tells_its_newest_payments_only_is_refused():
    walk = FundingWalk(START_MS, START_MS + 110 * 8 * HOUR_MS, 30)
    with pytest.raises(UsageError, match=r"tells only its newest 30 payments, from 2024-01-24 08:00 UTC on: start later"):
        walk_funding(walk, lambda _cursor, _until: payments(100)[-30:])
    young = FundingWalk(START_MS - 50 * DAY_MS, START_MS + 110 * 8 * HOUR_MS, 30)
    assert len(walk_funding(young, lambda _cursor, _until: payments(20))) == 20
