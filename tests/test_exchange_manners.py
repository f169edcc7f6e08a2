"""What exchanges do with a question, each in its own way: the real ccxt clients over HTTP against the emulator."""

import asyncio
import contextlib
import math
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

import pytest

from blocks.exchange import open_exchange
from blocks.exchange_answers import collecting_answers, keep_answer, request_of
from blocks.exchange_market import ExchangeMarket
from candlewick.candles import CandlePage, opened_at_ms
from candlewick.errors import CandlesNotKept, MarketUnavailable, UnknownSymbol, UsageError
from candlewick.instruments import Instrument
from candlewick.timeframes import DAY_MS
from tests.emulator.candle_book import CandleBook
from tests.emulator.faults import Fault
from tests.emulator.server import Emulator
from tests.emulator_fixture import HOUR_MS, START_MS, exchange_block, made_up_candles

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


@dataclass(frozen=True, slots=True)
class Exchange:
    """One exchange of the emulator: ccxt's id, its own name of the symbol, the address of candles, and a page's rows."""

    exchange_id: str
    symbol: str
    unified: str
    path: str
    page: int


BINANCE = Exchange("binance", "BTCUSDT", "BTC/USDT", "/api/v3/klines", 1000)
PERPETUALS = Exchange("binanceusdm", "BTCUSDT", "BTC/USDT:USDT", "/fapi/v1/klines", 1000)
COINBASE = Exchange("coinbase", "BTC-USD", "BTC/USD", "/candles", 300)
COINBASE_EXCHANGE = Exchange("coinbaseexchange", "BTC-USD", "BTC/USD", "/candles", 300)
KRAKEN = Exchange("kraken", "XXBTZUSD", "BTC/USD", "/0/public/OHLC", 720)
PAGING = (BINANCE, PERPETUALS, COINBASE, COINBASE_EXCHANGE)
ALL = (*PAGING, KRAKEN)
UNLIKE = (BINANCE, COINBASE, KRAKEN)
BARS = 2_500
NOW_MS = START_MS + (BARS - 1) * HOUR_MS + HOUR_MS // 2


@pytest.fixture(scope="module")
def server() -> Iterator[Emulator]:
    """2,500 hourly candles at every exchange, the clock half an hour into the last of them. Use ``exchanges``."""
    with Emulator(CandleBook()) as emulator:
        fill(emulator, made_up_candles(40_000.0, BARS))
        yield emulator


@pytest.fixture
def exchanges(server: Emulator) -> Emulator:
    server.clear()
    server.now_ms = NOW_MS
    return server


def books(emulator: Emulator) -> dict[str, CandleBook]:
    coinbase = emulator.coinbase.book
    return {
        "binance": emulator.book,
        "binanceusdm": emulator.futures.book,
        "coinbase": coinbase,
        "coinbaseexchange": coinbase,
        "kraken": emulator.kraken.book,
    }


def fill(emulator: Emulator, rows: list[tuple[int, float, float, float, float, float]], interval: str = "1h") -> None:
    for one in ALL:
        books(emulator)[one.exchange_id].add(one.symbol, interval, rows)


def fetch(emulator: Emulator, one: Exchange, since: int, until: int, **settings: object) -> CandlePage:
    """Candles number ``since`` to ``until`` (exclusive)."""
    span = (START_MS + since * HOUR_MS, START_MS + until * HOUR_MS)
    return ask(emulator, lambda market: market.fetch(one.unified, "1h", *span), exchange_id=one.exchange_id, **settings)


def numbers(page: CandlePage) -> list[int]:
    return ((opened_at_ms(page.candles) - START_MS) // HOUR_MS).tolist()


@pytest.mark.parametrize("one", PAGING, ids=lambda one: one.exchange_id)
@pytest.mark.parametrize(
    ("since", "bars"), [(17, "page-1"), (0, "page"), (3, "page+1"), (299, "2*page"), (1, "2*page+1"), (5, "1")]
)
def test_no_bar_is_lost_or_doubled_at_a_pages_border_and_no_request_is_made_in_vain(
    exchanges: Emulator, one: Exchange, since: int, bars: str
):
    count = {"page-1": one.page - 1, "page": one.page, "page+1": one.page + 1, "2*page": 2 * one.page}.get(bars)
    count = count or (2 * one.page + 1 if bars == "2*page+1" else 1)
    page = fetch(exchanges, one, since, since + count)
    assert numbers(page) == list(range(since, since + count))
    assert page.candles["close"].to_list() == [40_001.0 + n for n in range(since, since + count)]
    assert page.forming is None
    assert len(page.pages) == len(exchanges.requests(one.path)) == math.ceil(count / one.page)


@pytest.mark.parametrize("one", ALL, ids=lambda one: one.exchange_id)
def test_the_newest_bars_come_with_the_forming_one(exchanges: Emulator, one: Exchange):
    span = (START_MS + (BARS - 400) * HOUR_MS, exchanges.clock_ms())
    page = ask(exchanges, lambda market: market.fetch(one.unified, "1h", *span), exchange_id=one.exchange_id)
    assert numbers(page) == list(range(BARS - 400, BARS - 1))
    assert page.forming is not None
    assert page.forming.opened_at_ms == START_MS + (BARS - 1) * HOUR_MS
    assert len(page.pages) == (2 if one.page == 300 else 1)


@pytest.mark.parametrize("one", ALL, ids=lambda one: one.exchange_id)
def test_the_exchanges_clock_and_rules_are_read(exchanges: Emulator, one: Exchange):
    async def both(market: ExchangeMarket) -> tuple[int, dict[str, Instrument]]:
        return (await market.clock()).now_ms, await market.instruments((one.unified,))

    now_ms, rules = ask(exchanges, both, exchange_id=one.exchange_id)
    assert 0 <= exchanges.clock_ms() - now_ms < 1000
    assert rules[one.unified].base == "BTC"
    assert rules[one.unified].price_tick > 0


def test_coinbase_is_asked_for_windows_of_three_hundred_buckets(exchanges: Emulator):
    fetch(exchanges, COINBASE, 0, 301)
    spans = [(int(r.params["start"]), int(r.params["end"])) for r in exchanges.requests("/candles")]
    hour_s, start_s = HOUR_MS // 1000, START_MS // 1000
    assert spans == [(start_s, start_s + 300 * hour_s - 1), (start_s + 300 * hour_s, start_s + 301 * hour_s - 1)]


@pytest.mark.parametrize("one", ALL, ids=lambda one: one.exchange_id)
def test_a_span_may_begin_and_end_inside_of_a_bar(exchanges: Emulator, one: Exchange):
    span = (START_MS + 1_850 * HOUR_MS - 1_000, START_MS + 2_452 * HOUR_MS + 1_000)
    page = ask(exchanges, lambda market: market.fetch(one.unified, "1h", *span), exchange_id=one.exchange_id)
    assert numbers(page) == list(range(1_850, 2_452))


# -- holes, heads and ends


@pytest.fixture
def holey() -> Iterator[Emulator]:
    """Listed at bar 700, an outage of 800 bars from bar 720 on, trading to bar 1,999 and nothing after; hours, and their days."""
    hours = [row for n, row in enumerate(made_up_candles(40_000.0, 2_000)) if n >= 700 and not 720 <= n < 1_520]
    days = sorted({row[0] // DAY_MS * DAY_MS for row in hours})
    with Emulator(CandleBook()) as emulator:
        fill(emulator, hours)
        fill(emulator, [(day, 1.0, 2.0, 0.5, 1.5, 10.0) for day in days], "1d")
        emulator.now_ms = START_MS + 4_000 * HOUR_MS
        yield emulator


@pytest.mark.parametrize("one", PAGING, ids=lambda one: one.exchange_id)
def test_a_span_with_a_head_an_outage_and_an_end_brings_what_there_is(holey: Emulator, one: Exchange):
    page = fetch(holey, one, 13, 2_913)
    assert numbers(page) == [*range(700, 720), *range(1_520, 2_000)]


@pytest.mark.parametrize("one", PAGING, ids=lambda one: one.exchange_id)
@pytest.mark.parametrize(("since", "until", "expected"), [(0, 4_000, 700), (705, 4_000, 705), (722, 4_000, 1_520), (0, 701, 700)])
def test_the_first_candle_is_found(holey: Emulator, one: Exchange, since: int, until: int, expected: int):
    span = (START_MS + since * HOUR_MS, START_MS + until * HOUR_MS)
    found = ask(holey, lambda market: market.listing(one.unified, "1h", *span), exchange_id=one.exchange_id)
    assert found == START_MS + expected * HOUR_MS


@pytest.mark.parametrize("one", PAGING, ids=lambda one: one.exchange_id)
@pytest.mark.parametrize(("since", "until"), [(0, 700), (725, 1_500), (2_000, 4_000), (0, 0)])
def test_where_there_is_no_candle_none_is_found(holey: Emulator, one: Exchange, since: int, until: int):
    span = (START_MS + since * HOUR_MS, START_MS + until * HOUR_MS)
    assert ask(holey, lambda market: market.listing(one.unified, "1h", *span), exchange_id=one.exchange_id) is None


def test_a_listing_after_ten_empty_years_costs_few_requests(holey: Emulator):
    since_ms, until_ms = START_MS - 3_650 * DAY_MS, START_MS + 4_000 * HOUR_MS
    for one, most in ((BINANCE, 2), (COINBASE, 56)):
        found = ask(holey, lambda m, o=one: m.listing(o.unified, "1h", since_ms, until_ms), exchange_id=one.exchange_id)
        assert found == START_MS + 700 * HOUR_MS
        assert len(holey.requests(one.path)) <= most


def test_an_answer_that_is_out_of_date_does_not_hide_the_candles_before_it():
    book = CandleBook()
    book.add("BTCUSDT", "1h", made_up_candles(40_000.0, 3_000))
    with Emulator(book) as exchange:

        async def find(market: ExchangeMarket) -> int | None:
            await market.fetch("BTC/USDT", "1h", START_MS + 720 * HOUR_MS, START_MS + 1_720 * HOUR_MS)
            exchange.misbehave(Fault("repeat", path="/klines"))
            return await market.listing("BTC/USDT", "1h", START_MS, START_MS + 2_900 * HOUR_MS)

        with pytest.raises(MarketUnavailable, match="two different first candles"):
            ask(exchange, find, exchange_id="binance")


def test_an_outage_or_a_hiccup_is_not_taken_for_the_time_before_the_listing(holey: Emulator):
    holey.misbehave(Fault("empty", path="/candles", skip=0))
    span = (START_MS - 500 * DAY_MS, START_MS + 4_000 * HOUR_MS)
    found = ask(holey, lambda market: market.listing("BTC/USD", "1h", *span), exchange_id="coinbase")
    assert found == START_MS + 700 * HOUR_MS


def test_a_halted_symbol_still_tells_its_past(holey: Emulator):
    holey.halt("BTCUSDT")
    holey.kraken.inactive.add("XXBTZUSD")
    holey.coinbase.inactive.add("BTC-USD")
    for one in (BINANCE, COINBASE, COINBASE_EXCHANGE):
        assert numbers(fetch(holey, one, 1_900, 3_000)) == list(range(1_900, 2_000))
    for one in (BINANCE, COINBASE, COINBASE_EXCHANGE, KRAKEN):
        assert not ask(holey, lambda market, o=one: market.is_trading(o.unified), exchange_id=one.exchange_id)
        assert ask(holey, lambda market, o=one: market.instruments((o.unified,)), exchange_id=one.exchange_id)
    assert ask(holey, lambda market: market.is_trading("BTC/USDT:USDT"), exchange_id="binanceusdm")


def test_a_symbol_that_was_renamed_is_refused_with_near_ones(exchanges: Emulator):
    with pytest.raises(UnknownSymbol, match=r"kraken does not trade 'XBT/USD': did you mean BTC/USD"):
        ask(exchanges, lambda market: market.listing("XBT/USD", "1h", START_MS, NOW_MS), exchange_id="kraken")


# -- Kraken keeps its newest candles only


def test_kraken_gives_its_newest_719_closed_candles_in_one_request(exchanges: Emulator):
    page = fetch(exchanges, KRAKEN, BARS - 720, BARS - 1)
    assert numbers(page) == list(range(BARS - 720, BARS - 1))
    assert len(page.pages) == 1
    assert numbers(fetch(exchanges, KRAKEN, BARS - 500, BARS - 300)) == list(range(BARS - 500, BARS - 300))


@pytest.mark.parametrize(("since", "until"), [(BARS - 721, BARS - 1), (0, 700), (0, BARS)])
def test_older_candles_than_kraken_keeps_are_refused_and_not_taken_for_a_gap(exchanges: Emulator, since: int, until: int):
    with pytest.raises(
        CandlesNotKept, match=r"kraken BTC/USD 1h: .* keeps only the newest 720 candles of 1h, from 2024-"
    ) as caught:
        fetch(exchanges, KRAKEN, since, until)
    assert "start later, use a longer timeframe, or collect trades" in str(caught.value)
    assert caught.value.first_ms == START_MS + (BARS - 720) * HOUR_MS
    span = (START_MS + since * HOUR_MS, START_MS + until * HOUR_MS)
    with pytest.raises(CandlesNotKept):
        ask(exchanges, lambda market: market.listing("BTC/USD", "1h", *span), exchange_id="kraken")


def test_a_young_market_of_kraken_is_not_refused(exchanges: Emulator):
    exchanges.now_ms = START_MS + 300 * HOUR_MS + 5
    assert numbers(fetch(exchanges, KRAKEN, -1_000, 300)) == list(range(300))


def test_reach_and_timeframes_are_told(exchanges: Emulator):
    async def told(market: ExchangeMarket) -> tuple[int | None, tuple[str, ...]]:
        return market.reach("1h"), market.offered_timeframes()

    assert ask(exchanges, told, exchange_id="kraken") == (720, ("1m", "5m", "15m", "30m", "1h", "4h", "1d", "1w", "2w"))
    assert ask(exchanges, told, exchange_id="coinbase") == (None, ("1m", "5m", "15m", "30m", "1h", "2h", "6h", "1d"))
    reach, binances = ask(exchanges, told, exchange_id="binance")
    assert (reach, binances[0], binances[-1]) == (None, "1m", "1w")
    with pytest.raises(UsageError, match="kraken offers no candles of 2h"):
        ask(exchanges, lambda market: asyncio.to_thread(market.reach, "2h"), exchange_id="kraken")


# -- every fault, at every page


FAULTS = (
    Fault("http", status=503),
    Fault("http", status=429, retry_after_s=0),
    Fault("html"),
    Fault("hang"),
    Fault("drop", count=2),
    Fault("truncate"),
    Fault("empty"),
    Fault("repeat"),
    Fault("shape"),
    Fault("shape", body='{"error":["EService:Unavailable"]}'),
)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.kind}-{fault.status or fault.body or 0}")
@pytest.mark.parametrize("one", UNLIKE, ids=lambda one: one.exchange_id)
def test_a_fault_at_any_page_is_named_or_made_good_and_never_becomes_a_hole(exchanges: Emulator, one: Exchange, fault: Fault):
    bars = 700 if one is KRAKEN else 2 * one.page + 30
    since = BARS - 1 - bars

    async def walk_again(market: ExchangeMarket) -> None:
        await market.instruments((one.unified,))
        pages = math.ceil(bars / one.page)
        for page in range(pages) if fault.kind != "hang" else [pages // 2]:
            exchanges.faults.clear()
            exchanges.misbehave(replace(fault, path=one.path, skip=page))
            span = (START_MS + since * HOUR_MS, START_MS + (BARS - 1) * HOUR_MS)
            with contextlib.suppress(MarketUnavailable):
                assert numbers(await market.fetch(one.unified, "1h", *span)) == list(range(since, BARS - 1))
            assert not any(left.count for left in exchanges.faults)
            assert numbers(await market.fetch(one.unified, "1h", *span)) == list(range(since, BARS - 1))

    ask(exchanges, walk_again, exchange_id=one.exchange_id, timeout_s=1.0 if fault.kind == "hang" else 10.0)


@pytest.mark.parametrize("one", ALL, ids=lambda one: one.exchange_id)
def test_answers_of_another_form_are_never_believed_to_be_empty(exchanges: Emulator, one: Exchange):
    for body in ('{"unexpected":true}', '{"error":[],"result":{}}', '{"message":"maintenance"}'):
        exchanges.faults.clear()
        exchanges.misbehave(Fault("shape", count=None, path=one.path, body=body))
        with pytest.raises(MarketUnavailable, match=rf"^{one.exchange_id} {one.unified} 1h: "):
            fetch(exchanges, one, 2_000, 2_400)


@pytest.mark.parametrize("kind", ["duplicate", "missing", "out_of_order", "nan", "negative", "zero_volume"])
@pytest.mark.parametrize("one", UNLIKE, ids=lambda one: one.exchange_id)
def test_a_spoilt_candle_is_handed_on_wherever_it_is(exchanges: Emulator, one: Exchange, kind: str):
    bars = 700 if one is KRAKEN else 2 * one.page + 30
    since = BARS - 1 - bars
    span = (START_MS + since * HOUR_MS, START_MS + (BARS - 1) * HOUR_MS)

    async def fetch_spoilt(market: ExchangeMarket) -> None:
        clean = (await market.fetch(one.unified, "1h", *span)).candles
        for at in (1, bars // 2, bars - 2):
            exchanges.misbehave(Fault(kind, path=one.path, opened_at_ms=START_MS + (since + at) * HOUR_MS))
            page = await market.fetch(one.unified, "1h", *span)
            assert not exchanges.faults[-1].count
            told = numbers(page)
            assert not page.candles.equals(clean)
            assert len(told) == bars + {"duplicate": 1, "missing": -1}.get(kind, 0)
            assert set(told) == {n for n in range(since, BARS - 1) if kind != "missing" or n != since + at}
            assert (told != sorted(told)) == (kind == "out_of_order")

    ask(exchanges, fetch_spoilt, exchange_id=one.exchange_id)
