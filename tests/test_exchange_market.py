"""A ccxt exchange as a market: the real client over HTTP against the emulator."""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import TypeVar

import polars as pl
import pytest

from blocks.exchange import Exchange, open_exchange
from blocks.exchange_client import read_klines, replace_host
from blocks.exchange_instruments import DECIMAL_PLACES, SIGNIFICANT_DIGITS, TICK_SIZE, exact, instrument_of
from blocks.exchange_market import ExchangeMarket
from candlewick.candles import CANDLE_SCHEMA, CandlePage, MarketClock, candle_digest, opened_at_ms
from candlewick.errors import MarketUnavailable, RateLimited, UnknownSymbol, UsageError
from candlewick.timeframes import parse_utc
from tests.emulator.faults import Fault
from tests.emulator.server import Emulator
from tests.emulator_fixture import HOUR_MS, START_MS, exchange_block
from tests.shared_data import SHARED

Answer = TypeVar("Answer")
LAST_OPEN_MS = START_MS + 2_499 * HOUR_MS
SINCE_MS = LAST_OPEN_MS - 20 * HOUR_MS


def ask(block: Exchange, question: Callable[[ExchangeMarket], Awaitable[Answer]]) -> Answer:
    async def run() -> Answer:
        async with open_exchange(block) as market:
            return await question(market)

    return asyncio.run(run())


def fetch(exchange: Emulator, symbol: str, timeframe: str, since_ms: int, now_ms: int, **settings: object) -> CandlePage:
    return ask(exchange_block(exchange, **settings), lambda market: market.fetch(symbol, timeframe, since_ms, now_ms))


def fetch_last_day(exchange: Emulator, **settings: object) -> CandlePage:
    return fetch(exchange, "BTC/USDT", "1h", SINCE_MS, exchange.clock_ms(), **settings)


def real_candles(name: str, since_ms: int, until_ms: int) -> pl.DataFrame:
    frame = pl.read_parquet(SHARED / "data" / "candles" / name).rename({"ts": "opened_at"}).select(list(CANDLE_SCHEMA))
    opened_at = pl.col("opened_at").dt.epoch("ms")
    return frame.filter(opened_at.is_between(since_ms, until_ms, closed="left"))


def closes(page: CandlePage) -> list[float]:
    return page.candles["close"].to_list()


# -- candles


def test_a_year_of_real_candles_arrives_unchanged_over_several_pages(real_exchange):
    since_ms, now_ms = parse_utc("2022-06-01"), parse_utc("2023-06-01")
    page = fetch(real_exchange, "BTC/USDT", "1h", since_ms, now_ms)
    expected = real_candles("binance_BTCUSDT_1h.parquet", since_ms, now_ms)
    assert dict(page.candles.schema) == dict(CANDLE_SCHEMA)
    assert candle_digest(page.candles) == candle_digest(expected)
    assert len(real_exchange.requests("/klines")) == math.ceil(expected.height / 1000)


def test_paging_crosses_the_real_outage_of_2018_and_invents_nothing(real_exchange):
    # Binance was down from 2018-02-08 00:00 to 2018-02-09 09:00 UTC.
    since_ms, now_ms = parse_utc("2018-01-01"), parse_utc("2018-12-01")
    page = fetch(real_exchange, "ETH/USDT", "4h", since_ms, now_ms)
    expected = real_candles("binance_ETHUSDT_4h.parquet", since_ms, now_ms)
    gaps_ms = opened_at_ms(expected)[1:] - opened_at_ms(expected)[:-1]
    assert gaps_ms.max() > 4 * HOUR_MS
    assert candle_digest(page.candles) == candle_digest(expected)


def test_the_bar_that_contains_now_is_shown_as_forming_and_not_as_closed(real_exchange):
    now_ms = parse_utc("2024-03-01T10:20")
    real_exchange.now_ms = now_ms
    page = fetch(real_exchange, "SOL/USDT", "1h", now_ms - 100 * HOUR_MS, now_ms)
    bar = real_candles("binance_SOLUSDT_1h.parquet", parse_utc("2024-03-01T10:00"), parse_utc("2024-03-01T11:00"))
    assert opened_at_ms(page.candles)[-1] == parse_utc("2024-03-01T09:00")
    assert page.forming is not None
    assert (page.forming.opened_at_ms, page.forming.open) == (parse_utc("2024-03-01T10:00"), bar["open"][0])


def test_before_its_first_trade_a_bar_has_no_open_although_binance_shows_one(real_exchange):
    now_ms = parse_utc("2024-03-01T10:00")
    real_exchange.now_ms = now_ms
    page = fetch(real_exchange, "SOL/USDT", "1h", now_ms - 5 * HOUR_MS, now_ms)
    assert page.candles.height == 5
    assert page.forming is None


def test_a_historical_request_sees_no_candle_after_its_now(real_exchange):
    now_ms = parse_utc("2024-03-01T10:20")
    page = fetch(real_exchange, "SOL/USDT", "1h", now_ms - 3 * HOUR_MS, now_ms)
    assert opened_at_ms(page.candles)[-1] == parse_utc("2024-03-01T09:00")
    assert page.forming is not None
    assert page.forming.opened_at_ms == parse_utc("2024-03-01T10:00")


def test_one_new_bar_costs_one_small_request(made_up_exchange):
    page = fetch(made_up_exchange, "BTC/USDT", "1h", LAST_OPEN_MS - HOUR_MS, made_up_exchange.clock_ms())
    (request,) = made_up_exchange.requests("/klines")
    assert page.candles.height == 1
    assert int(request.params["limit"]) < 5


def test_a_market_that_does_not_show_forming_bars_gives_the_closed_ones(made_up_exchange):
    made_up_exchange.show_forming = False
    page = fetch_last_day(made_up_exchange)
    assert page.candles.height == 20
    assert page.forming is None


def test_several_symbols_at_once_share_one_list_of_markets(made_up_exchange):
    async def both(market: ExchangeMarket) -> list[CandlePage]:
        now_ms = made_up_exchange.clock_ms()
        return await asyncio.gather(*(market.fetch(s, "1h", SINCE_MS, now_ms) for s in ("BTC/USDT", "ETH/USDT")))

    bitcoin, ether = ask(exchange_block(made_up_exchange), both)
    assert closes(bitcoin)[0] - closes(ether)[0] == 38_000
    assert len(made_up_exchange.requests("/exchangeInfo")) == 1


def test_a_symbol_given_up_while_markets_load_does_not_take_the_others_along(made_up_exchange):
    made_up_exchange.misbehave(Fault("hang", path="/exchangeInfo"))

    async def give_one_up(market: ExchangeMarket) -> CandlePage:
        now_ms = made_up_exchange.clock_ms()
        first, second = (asyncio.create_task(market.fetch(s, "1h", SINCE_MS, now_ms)) for s in ("BTC/USDT", "ETH/USDT"))
        while not made_up_exchange.requests("/exchangeInfo"):
            await asyncio.sleep(0.01)
        first.cancel()
        return await second

    assert ask(exchange_block(made_up_exchange), give_one_up).candles.height == 20


def test_a_request_without_candles_yet_is_an_empty_page(real_exchange):
    page = fetch(real_exchange, "SOL/USDT", "4h", parse_utc("2019-01-01"), parse_utc("2019-01-10"))
    assert page.candles.height == 0
    assert dict(page.candles.schema) == dict(CANDLE_SCHEMA)


# -- misbehaviour: answers


@pytest.mark.parametrize("status", [429, 418])
def test_a_rate_limit_carries_the_pause_the_exchange_asks_for(made_up_exchange, status):
    made_up_exchange.misbehave(Fault("http", status=status, retry_after_s=17, path="/klines"))
    with pytest.raises(RateLimited, match=rf"^binance BTC/USDT 1h: asked for a pause for 17 s \(HTTP {status}\)$") as caught:
        fetch_last_day(made_up_exchange)
    assert caught.value.retry_after_s == 17
    assert len(made_up_exchange.requests("/klines")) == 1


def test_a_ban_without_a_header_is_read_from_its_text(made_up_exchange):
    made_up_exchange.now_ms = None
    made_up_exchange.misbehave(Fault("http", status=418, path="/klines"))
    with pytest.raises(RateLimited) as caught:
        fetch_last_day(made_up_exchange)
    assert caught.value.retry_after_s is not None
    assert 60 < caught.value.retry_after_s <= 121


def test_a_rate_limit_that_does_not_say_how_long_says_so(made_up_exchange):
    made_up_exchange.misbehave(Fault("http", status=429))
    with pytest.raises(RateLimited, match="binance markets: asked for a pause without saying how long") as caught:
        fetch_last_day(made_up_exchange)
    assert caught.value.retry_after_s is None


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Fault("http", status=503), r"answered HTTP 503 Service Unavailable with an HTML page \(503 Bad answer\), not JSON"),
        (Fault("http", status=502, body=""), "answered HTTP 502 Bad Gateway with an empty body, not JSON"),
        (Fault("http", status=500, body='{"code":-1001,"msg":"Internal error."}'), r"answered with an error \(.*-1001|Internal"),
        (
            Fault("http", status=451, body='{"code":0,"msg":"Service unavailable from a restricted location"}'),
            "restricted location",
        ),
        (Fault("html"), r"answered HTTP 403 Forbidden with an HTML page \(ERROR: The request could not be satisfied\), not JSON"),
        (Fault("html", status=200), "answered HTTP 200 OK with an HTML page"),
        (Fault("truncate"), r"answered HTTP 200 OK with broken JSON \(\d+ characters, cut short or garbled\)"),
        (Fault("shape"), "answered with a row that is no candle"),
        (Fault("shape", body='[["x"]]'), "answered with a row that is no candle"),
        (Fault("shape", body='["a","b"]'), "not understood|no candle"),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{value.kind}-{value.status}",
)
def test_an_answer_that_is_no_candles_is_named_shortly(made_up_exchange, fault, expected):
    fault = Fault(fault.kind, path="/klines", status=fault.status, body=fault.body)
    made_up_exchange.misbehave(fault)
    with pytest.raises(MarketUnavailable, match=expected) as caught:
        fetch_last_day(made_up_exchange)
    text = str(caught.value)
    assert text.startswith("binance BTC/USDT 1h: ")
    assert len(text) < 300
    assert "http://" not in text
    assert fetch_last_day(made_up_exchange).candles.height == 20


def test_an_exchange_that_does_not_answer_is_given_up_after_the_timeout(made_up_exchange):
    made_up_exchange.misbehave(Fault("hang", path="/klines"))
    with pytest.raises(MarketUnavailable, match=r"^binance BTC/USDT 1h: no answer within 0.3 s$"):
        fetch_last_day(made_up_exchange, timeout_s=0.3)


def test_a_dropped_connection_is_named(made_up_exchange):
    # The HTTP client itself asks a dropped GET once more.
    made_up_exchange.misbehave(Fault("drop", path="/klines", count=2))
    with pytest.raises(MarketUnavailable, match=r"^binance BTC/USDT 1h: the connection was dropped"):
        fetch_last_day(made_up_exchange)


def test_an_exchange_that_cannot_be_reached_is_named():
    block = Exchange(api_url="http://127.0.0.1:1", rate_limit=False)
    with pytest.raises(MarketUnavailable, match=r"^binance markets: the exchange cannot be reached \(ClientConnector"):
        ask(block, lambda market: market.fetch("BTC/USDT", "1h", 0, HOUR_MS))


def test_an_exchange_that_lists_no_markets_is_unavailable(made_up_exchange):
    made_up_exchange.misbehave(Fault("shape", path="/exchangeInfo"))
    with pytest.raises(MarketUnavailable, match="binance markets: the exchange listed none"):
        fetch_last_day(made_up_exchange)


def test_a_page_that_repeats_is_an_error_and_not_an_endless_loop(made_up_exchange):
    made_up_exchange.misbehave(Fault("repeat", count=None, skip=1))
    with pytest.raises(MarketUnavailable, match=r"repeated 1000 old ones \(2024-01-01 00:00 to 2024-02-11 15:00\)"):
        fetch(made_up_exchange, "BTC/USDT", "1h", START_MS, made_up_exchange.clock_ms())
    assert len(made_up_exchange.requests("/klines")) == 2


def test_an_exchange_that_answers_with_nothing_for_ever_is_asked_a_bounded_number_of_times(made_up_exchange):
    made_up_exchange.misbehave(Fault("empty", path="/klines", count=None))
    page = fetch(made_up_exchange, "BTC/USDT", "1h", START_MS, made_up_exchange.clock_ms())
    assert page.candles.height == 0
    assert len(made_up_exchange.requests("/klines")) == 2


def test_one_symbols_fault_leaves_the_other_alone(made_up_exchange):
    made_up_exchange.misbehave(Fault("http", status=500, symbol="ETHUSDT"))
    assert fetch_last_day(made_up_exchange).candles.height == 20
    with pytest.raises(MarketUnavailable, match=r"^binance ETH/USDT 1h"):
        fetch(made_up_exchange, "ETH/USDT", "1h", SINCE_MS, made_up_exchange.clock_ms())


def test_while_a_pause_lasts_nothing_is_sent_for_any_symbol(made_up_exchange):
    made_up_exchange.misbehave(Fault("http", status=429, retry_after_s=60, path="/klines"))

    async def ask_two() -> RateLimited:
        now_ms = made_up_exchange.clock_ms()
        async with open_exchange(exchange_block(made_up_exchange)) as market:
            with pytest.raises(RateLimited, match=r"BTC/USDT 1h: asked for a pause for 60 s \(HTTP 429\)"):
                await market.fetch("BTC/USDT", "1h", SINCE_MS, now_ms)
            with pytest.raises(
                RateLimited, match=r"ETH/USDT 1h: asked for a pause, of which \d+ s are left, and was not asked again"
            ) as caught:
                await market.fetch("ETH/USDT", "1h", SINCE_MS, now_ms)
        return caught.value

    left_s = asyncio.run(ask_two()).retry_after_s
    assert left_s is not None
    assert 0 < left_s <= 60
    assert len(made_up_exchange.requests("/klines")) == 1


# -- misbehaviour: candles are handed on as received, judging them is the validation's part


def test_a_duplicate_candle_is_handed_on(made_up_exchange):
    made_up_exchange.misbehave(Fault("duplicate", opened_at_ms=SINCE_MS + HOUR_MS))
    times = opened_at_ms(fetch_last_day(made_up_exchange).candles).tolist()
    assert times[:4] == [SINCE_MS, SINCE_MS + HOUR_MS, SINCE_MS + HOUR_MS, SINCE_MS + 2 * HOUR_MS]
    assert len(times) == 21


def test_a_missing_candle_is_not_invented(made_up_exchange):
    made_up_exchange.misbehave(Fault("missing", opened_at_ms=SINCE_MS + HOUR_MS))
    times = opened_at_ms(fetch_last_day(made_up_exchange).candles).tolist()
    assert SINCE_MS + HOUR_MS not in times
    assert len(times) == 19


def test_candles_out_of_order_keep_the_order_they_came_in(made_up_exchange):
    made_up_exchange.misbehave(Fault("out_of_order", opened_at_ms=SINCE_MS + HOUR_MS))
    times = opened_at_ms(fetch_last_day(made_up_exchange).candles).tolist()
    assert times[:3] == [SINCE_MS + HOUR_MS, SINCE_MS, SINCE_MS + 2 * HOUR_MS]
    assert len(times) == 20


def test_the_forming_bar_is_found_when_it_does_not_come_last(made_up_exchange):
    made_up_exchange.misbehave(Fault("out_of_order", opened_at_ms=LAST_OPEN_MS))
    page = fetch_last_day(made_up_exchange)
    assert page.candles.height == 20
    assert page.forming is not None
    assert page.forming.opened_at_ms == LAST_OPEN_MS


@pytest.mark.parametrize(
    ("kind", "field", "expected"),
    [("nan", "close", math.nan), ("negative", "low", -42_479.0), ("zero_volume", "volume", 0.0), ("nan", "volume", math.nan)],
)
def test_a_spoilt_value_is_handed_on_as_it_came(made_up_exchange, kind, field, expected):
    made_up_exchange.misbehave(Fault(kind, opened_at_ms=SINCE_MS + HOUR_MS, field=field))
    value = fetch_last_day(made_up_exchange).candles[field][1]
    assert value == expected or (math.isnan(value) and math.isnan(expected))


def test_an_unclosed_last_candle_never_counts_as_closed(made_up_exchange):
    made_up_exchange.show_forming = False
    made_up_exchange.misbehave(Fault("unclosed"))
    page = fetch_last_day(made_up_exchange)
    assert opened_at_ms(page.candles)[-1] == LAST_OPEN_MS - HOUR_MS
    assert page.forming is not None
    assert page.forming.open == 40_000 + 2_499


# -- the clock


@pytest.mark.parametrize("offset_ms", [10_000, -10_000, 0])
def test_a_clock_ten_seconds_off_is_measured(made_up_exchange, offset_ms):
    made_up_exchange.now_ms, made_up_exchange.clock_offset_ms = None, offset_ms
    clock: MarketClock = ask(exchange_block(made_up_exchange), lambda market: market.clock())
    assert abs(clock.skew_ms - offset_ms) < 5_000


def test_the_exchanges_time_is_what_it_says(made_up_exchange):
    clock = ask(exchange_block(made_up_exchange), lambda market: market.clock())
    assert clock.now_ms == made_up_exchange.clock_ms()


def test_an_exchange_without_a_clock_is_read_by_this_machines():
    market = open_exchange(Exchange(exchange_id="bitstamp"))
    market._client.has["fetchTime"] = False
    untimed = ExchangeMarket(market._client, "bitstamp", 1.0)
    assert not untimed.has_clock
    assert asyncio.run(untimed.clock()).skew_ms == 0


# -- the rules


def test_bitcoins_trading_rules_are_binances_own_exact_decimals(real_exchange):
    rules = ask(exchange_block(real_exchange), lambda market: market.instruments(("BTC/USDT", "SOL/USDT")))
    bitcoin = rules["BTC/USDT"]
    assert (bitcoin.base, bitcoin.quote, bitcoin.quote_decimals) == ("BTC", "USDT", 8)
    assert str(bitcoin.price_tick) == "0.01"
    assert str(bitcoin.quantity_step) == "0.00001"
    assert str(bitcoin.min_quantity) == "0.00001"
    assert bitcoin.min_notional == Decimal(5)
    assert bitcoin.maker_fee_bps == bitcoin.taker_fee_bps == Decimal(10)
    assert str(rules["SOL/USDT"].quantity_step) == "0.001"


def test_an_unknown_symbol_is_refused_with_near_ones(real_exchange):
    with pytest.raises(UnknownSymbol, match=r"binance does not trade 'BTCUSDT': did you mean BTC/USDT"):
        ask(exchange_block(real_exchange), lambda market: market.instruments(("BTCUSDT",)))
    with pytest.raises(UnknownSymbol, match=r"does not trade 'XYZZY/QQ': it trades 14 symbols, written like BTC/USDT"):
        fetch(real_exchange, "XYZZY/QQ", "1h", 0, HOUR_MS)


def krakens_bitcoin(**changes: object) -> dict[str, object]:
    """As ccxt describes Kraken's BTC/USD, in either precision mode."""
    market: dict[str, object] = {"symbol": "BTC/USD", "base": "BTC", "quote": "USD", "maker": 0.0025, "taker": 0.004}
    return (
        market
        | {"precision": {"price": 0.1, "amount": 1e-08}, "limits": {"amount": {"min": 5e-05}, "cost": {"min": 0.5}}}
        | changes
    )


def test_precision_as_tick_sizes_and_as_decimal_places_give_the_same_rules():
    ticks = instrument_of(krakens_bitcoin(), {"USD": {"precision": 0.0001}}, TICK_SIZE)
    places = instrument_of(krakens_bitcoin(precision={"price": 1, "amount": 8}), {"USD": {"precision": 4}}, DECIMAL_PLACES)
    assert ticks == places
    document = ticks.to_document()
    assert [document[name] for name in ("price_tick", "quantity_step", "min_quantity")] == ["0.1", "0.00000001", "0.00005"]
    assert (ticks.maker_fee_bps, ticks.taker_fee_bps, ticks.quote_decimals) == (Decimal(25), Decimal(40), 4)


def test_a_tick_above_one_stays_whole_in_both_modes():
    assert instrument_of(krakens_bitcoin(precision={"price": -1, "amount": 0}), {}, DECIMAL_PLACES).price_tick == Decimal(10)
    assert str(instrument_of(krakens_bitcoin(precision={"price": 10.0, "amount": 1}), {}, TICK_SIZE).price_tick) == "10"


@pytest.mark.parametrize(
    ("market", "mode", "expected"),
    [
        (krakens_bitcoin(), SIGNIFICANT_DIGITS, "significant digits"),
        (krakens_bitcoin(precision={"price": None, "amount": 1}), TICK_SIZE, "publishes no price tick"),
        (krakens_bitcoin(precision={"price": 1, "amount": 0}), TICK_SIZE, "quantity step is 0, it must be positive"),
        (krakens_bitcoin(contractSize=100.0), TICK_SIZE, "contract of 100 BTC: candlewick trades spot symbols"),
        (
            krakens_bitcoin(swap=True, linear=False, inverse=True, settle="BTC"),
            TICK_SIZE,
            "inverse or quanto contract, settled in BTC",
        ),
        (krakens_bitcoin(swap=True, linear=False, inverse=False, settle="ETH"), TICK_SIZE, "settled in ETH and quoted in USD"),
        (krakens_bitcoin(future=True, linear=True), TICK_SIZE, "dated contract"),
    ],
)
def test_rules_that_cannot_be_kept_are_refused(market, mode, expected):
    with pytest.raises(UsageError, match=expected):
        instrument_of(market, {}, mode)


def test_decimals_carry_no_binary_noise():
    assert exact(1e-08) == Decimal("0.00000001")
    assert exact(0.1 + 0.2) == Decimal("0.30000000000000004")
    assert str(exact(100000.0)) == "100000"


# -- opening


def test_an_unknown_exchange_is_refused_with_near_ones():
    with pytest.raises(UsageError, match=r"exchange 'binanse' is unknown: did you mean binance"):
        open_exchange(Exchange(exchange_id="binanse"))


def test_a_timeframe_that_is_not_offered_is_refused_with_those_that_are(made_up_exchange):
    with pytest.raises(UsageError, match=r"binance offers no candles of 7m: it offers 1s, 1m, 3m"):
        fetch(made_up_exchange, "BTC/USDT", "7m", 0, HOUR_MS)
    assert made_up_exchange.requests() == []


@pytest.mark.parametrize(
    "api_url", ["localhost:80", "ftp://host", "http://", "http://a b", "http://host:99999", "http://u:p@host", ""]
)
def test_an_address_that_is_none_is_refused(api_url):
    with pytest.raises(UsageError, match="api_url"):
        open_exchange(Exchange(api_url=api_url))


def test_an_exchange_without_a_sandbox_is_refused():
    with pytest.raises(UsageError, match="'kraken' has no sandbox"):
        open_exchange(Exchange(exchange_id="kraken", sandbox=True))


def test_a_sandboxs_candles_are_kept_apart(made_up_exchange):
    market = open_exchange(exchange_block(made_up_exchange, sandbox=True))
    assert market.series("BTC/USDT", "1h").market == "binance-sandbox"
    assert open_exchange(exchange_block(made_up_exchange)).series("BTC/USDT", "1h").market == "binance"


def test_another_host_keeps_every_path():
    urls = {
        "public": "https://api.{hostname}/api/v3",
        "ws": {"public": "wss://stream.x"},
        "deep": {"v1": "http://h:1/v1"},
        "x": None,
    }
    assert replace_host(urls, "http://127.0.0.1:9/proxy") == {
        "public": "http://127.0.0.1:9/proxy/api/v3",
        "ws": {"public": "wss://stream.x"},
        "deep": {"v1": "http://127.0.0.1:9/proxy/v1"},
        "x": None,
    }


def test_credentials_show_in_no_repr_no_log_and_no_error(made_up_exchange, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    for name in ("ccxt", "ccxt.async_support.base.exchange", "ccxt.base.exchange"):
        logging.getLogger(name).setLevel(logging.DEBUG)
    secrets = {"api_key": "KEY-4711", "api_secret": "SECRET-4712", "api_password": "WORD-4713"}
    block = exchange_block(made_up_exchange, **secrets)
    made_up_exchange.misbehave(Fault("http", status=500, path="/klines"))
    market = open_exchange(block)

    async def fail() -> MarketUnavailable:
        async with market:
            with pytest.raises(MarketUnavailable) as caught:
                await market.fetch("BTC/USDT", "1h", SINCE_MS, made_up_exchange.clock_ms())
            return caught.value

    error = asyncio.run(fail())
    assert error.__suppress_context__
    shown = f"{block!r}{block}{block.model_dump_json()}{market!r}{error!r}{caplog.text}{''.join(capfd.readouterr())}"
    assert "471" not in shown
    assert made_up_exchange.requests()
    assert all(request.path.startswith("/api/v3/") for request in made_up_exchange.requests())


def test_closing_leaves_no_connection_behind(made_up_exchange, caplog, recwarn):
    fetch_last_day(made_up_exchange)
    assert "release all resources" not in caplog.text
    assert not [warning for warning in recwarn if issubclass(warning.category, ResourceWarning)]


def test_rows_of_binance_are_read_at_once_as_ccxt_reads_them_one_by_one() -> None:
    import ccxt

    exchange = ccxt.binance()
    tail = [1591478579999, "0.5", 40, "10.9", "0.2", "0"]
    rows = [
        [1591478520000 + i * 60_000, f"0.0250{i:04d}", "9007199254740993.1", "1e-08", "NaN", f"{22.19 + i / 3:.8f}", *tail]
        for i in range(100)
    ]
    expected = [exchange.parse_ohlcv(row) for row in rows]
    assert repr(read_klines(rows)) == repr([[float(row[0]), *row[1:]] for row in expected])
    for strange in (
        [*rows[0][:5], None, *tail],
        [*rows[0][:5], "", *tail],
        [*rows[0][:5], 22.19, *tail],
        rows[0][:6],
        {"a": 1},
        None,
    ):
        assert read_klines([*rows, strange]) is None, strange
    assert read_klines([]) == []
