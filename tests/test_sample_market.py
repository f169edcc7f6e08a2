"""The market `sample`: the same for everybody, at every time, in any chunks."""

import asyncio

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from candlewick.candles import CANDLE_SCHEMA, CandlePage, candle_digest, opened_at_ms
from candlewick.errors import UnknownSymbol, UsageError
from candlewick.market.sample import CATALOGUE, SampleMarket
from candlewick.timeframes import DAY_MS, MINUTE_MS, floor_to_bar, parse_utc, timeframe_ms

NOW_MS = parse_utc("2026-10-01T10:03:20")
GOLDEN_4H = ["528d14dc0b057405", "254ba6362899fcaa", "9919d222dca1fdd6", "58775bb85180d4c7"]
GOLDEN_FIRST_BAR = (44097.91, 44333.17, 43677.05, 44239.02, 171.37027)
SYMBOLS = ("BTC/USDT", "ETH/USDT", "SOL/USDT", "S042/USDT")


def fetch(symbol: str, timeframe: str, since_ms: int, now_ms: int = NOW_MS) -> CandlePage:
    return asyncio.run(SampleMarket(now_ms).fetch(symbol, timeframe, since_ms, now_ms))


def candles(symbol: str, timeframe: str, days: int, now_ms: int = NOW_MS) -> pl.DataFrame:
    return fetch(symbol, timeframe, now_ms - days * DAY_MS, now_ms).candles


@settings(max_examples=30, deadline=None)
@given(
    symbol=st.sampled_from(SYMBOLS),
    timeframe=st.sampled_from(["1m", "5m", "1h", "4h", "1d"]),
    start=st.integers(parse_utc("1960-01-01"), parse_utc("2100-01-01")),
    bars=st.integers(1, 60),
    cut=st.integers(0, 60),
)
def test_a_span_asked_for_in_two_chunks_is_the_span_asked_for_at_once(
    symbol: str, timeframe: str, start: int, bars: int, cut: int
):
    length_ms = timeframe_ms(timeframe)
    start = floor_to_bar(start, timeframe)
    middle, end = start + min(cut, bars) * length_ms, start + bars * length_ms
    whole = fetch(symbol, timeframe, start, end).candles
    parts = pl.concat([fetch(symbol, timeframe, start, middle).candles, fetch(symbol, timeframe, middle, end).candles])
    assert candle_digest(parts) == candle_digest(whole)


def test_a_span_longer_than_the_inner_chunk_is_its_days_in_a_row():
    whole = candles("BTC/USDT", "1h", 400)
    start = floor_to_bar(NOW_MS - 200 * DAY_MS, "1h")
    later = fetch("BTC/USDT", "1h", start).candles
    assert whole.filter(pl.col("opened_at").dt.epoch("ms") >= start).equals(later)


def test_the_market_of_version_1_never_changes():
    # Lakes keep these candles: whoever changes the generator must raise SAMPLE_VERSION, which renames the lake's series.
    frames = [fetch(symbol, "4h", parse_utc("2026-07-01"), parse_utc("2026-09-29")).candles for symbol in SYMBOLS]
    assert [candle_digest(frame)[:16] for frame in frames] == GOLDEN_4H
    first = frames[0].row(0)
    assert first[1:] == GOLDEN_FIRST_BAR
    assert SampleMarket(NOW_MS).series("BTC/USDT", "4h").market == "sample"


@pytest.mark.parametrize("symbol", SYMBOLS)
@pytest.mark.parametrize("timeframe", ["1m", "15m", "4h", "1w"])
def test_bars_are_consistent_positive_on_the_tick_grid_and_sorted(symbol: str, timeframe: str):
    frame = candles(symbol, timeframe, 30 if timeframe == "1m" else 400)
    assert frame.schema == dict(CANDLE_SCHEMA)
    assert frame["opened_at"].is_sorted()
    assert frame["opened_at"].is_unique().all()
    assert frame.filter(pl.col("low") <= 0, pl.col("volume") <= 0).is_empty()
    assert frame.filter(pl.col("high") < pl.max_horizontal("open", "close", "low")).is_empty()
    assert frame.filter(pl.col("low") > pl.min_horizontal("open", "close", "high")).is_empty()
    tick = asyncio.run(SampleMarket(NOW_MS).instruments((symbol,)))[symbol].price_tick
    for column in ("open", "high", "low", "close"):
        assert (frame[column] == frame[column].round(-int(tick.as_tuple().exponent))).all()


@pytest.mark.parametrize("timeframe", ["5m", "1h", "4h", "1d", "1w"])
def test_a_coarser_bar_is_the_aggregation_of_its_minutes(timeframe: str):
    start = floor_to_bar(NOW_MS - 40 * DAY_MS, "1w")
    end = start + 35 * DAY_MS
    minutes = fetch("ETH/USDT", "1m", start, end).candles
    length_ms, offset_ms = timeframe_ms(timeframe), start
    bar = (pl.col("opened_at").dt.epoch("ms") - offset_ms) // length_ms
    expected = minutes.group_by(bar.alias("bar"), maintain_order=True).agg(
        pl.col("open").first(), pl.col("high").max(), pl.col("low").min(), pl.col("close").last(), pl.col("volume").sum().round(4)
    )
    actual = fetch("ETH/USDT", timeframe, start, end).candles
    assert (opened_at_ms(actual) == (expected["bar"] * length_ms + offset_ms).to_numpy()).all()
    assert actual.drop("opened_at").equals(expected.drop("bar"))


def test_weekly_bars_open_on_mondays():
    assert set(candles("BTC/USDT", "1w", 100)["opened_at"].dt.weekday()) == {1}


def test_a_bar_opens_where_the_last_one_closed_except_after_shocks_and_outages():
    frame = candles("BTC/USDT", "1m", 90).with_columns(
        jump=(pl.col("open") / pl.col("close").shift(1) - 1).abs(), step=pl.col("opened_at").diff().dt.total_milliseconds()
    )
    apart = frame.filter(pl.col("jump") > 0.001)
    assert 0 < apart.filter(pl.col("step") == MINUTE_MS).height < 40, "shocks are rare, and there are some"
    assert frame.filter(pl.col("jump") == 0).height > 0.99 * frame.height


def test_ninety_days_have_trends_ranges_and_outages():
    for symbol in SYMBOLS[:3]:
        frame = candles(symbol, "4h", 90)
        swing = frame["high"].max() / frame["low"].min()
        assert 1.15 < swing < 4
    minutes = candles("BTC/USDT", "1m", 90)
    missing = 90 * 1440 - minutes.height
    assert 0 < missing < 0.05 * 90 * 1440
    # An outage of the exchange takes whole 4h bars from all symbols at once.
    absent = [
        set(range(0, 400 * 6)) - set((opened_at_ms(candles(s, "4h", 400)) // (4 * 60 * MINUTE_MS) % (400 * 6)).tolist())
        for s in SYMBOLS
    ]
    assert absent[0]
    assert set.intersection(*absent)


def test_prices_stay_plausible_for_a_century():
    for year in range(1990, 2090, 10):
        start = parse_utc(f"{year}-01-01")
        frame = fetch("BTC/USDT", "1d", start, start + 60 * DAY_MS).candles
        assert frame["low"].min() > 8_000
        assert frame["high"].max() < 250_000


def test_symbols_move_together_but_not_the_same():
    returns = [candles(s, "4h", 300).select("opened_at", pl.col("close").log().diff().alias(s)) for s in ("BTC/USDT", "ETH/USDT")]
    both = returns[0].join(returns[1], on="opened_at").drop_nulls()
    assert 0.2 < both.select(pl.corr("BTC/USDT", "ETH/USDT")).item() < 0.98


@settings(max_examples=40, deadline=None)
@given(
    symbol=st.sampled_from(SYMBOLS),
    timeframe=st.sampled_from(["1m", "1h", "4h", "1d"]),
    now_ms=st.integers(NOW_MS - 400 * DAY_MS, NOW_MS),
)
def test_the_forming_bar_shows_the_open_that_it_will_have_when_closed(symbol: str, timeframe: str, now_ms: int):
    length_ms = timeframe_ms(timeframe)
    page = fetch(symbol, timeframe, now_ms - 10 * length_ms, now_ms)
    assert all(opened + length_ms <= now_ms for opened in opened_at_ms(page.candles))
    opened_ms = floor_to_bar(now_ms, timeframe)
    later = fetch(symbol, timeframe, opened_ms, opened_ms + length_ms).candles
    if page.forming is not None:
        assert page.forming.opened_at_ms == opened_ms < now_ms
        assert later["open"][0] == page.forming.open


def test_no_bar_forms_at_the_very_moment_of_its_open():
    on_the_hour = parse_utc("2026-10-01T10:00")
    assert fetch("BTC/USDT", "1h", on_the_hour - DAY_MS, on_the_hour).forming is None
    assert fetch("BTC/USDT", "1h", on_the_hour - DAY_MS, on_the_hour + 1).forming is not None


def test_nothing_is_answered_for_a_span_that_has_not_closed_yet():
    page = fetch("BTC/USDT", "4h", NOW_MS + DAY_MS)
    assert page.candles.is_empty()
    assert page.candles.schema == dict(CANDLE_SCHEMA)


@pytest.mark.parametrize("symbol", ["BTC/EUR", "btc/usdt", "BTCUSDT", "BTC/USDT:BTC", "/USDT", "WAYTOOLONGNAME/USDT"])
def test_a_symbol_that_sample_does_not_trade_is_refused_with_those_it_has(symbol: str):
    with pytest.raises(UnknownSymbol, match=r"BTC/USDT, ETH/USDT"):
        fetch(symbol, "1h", NOW_MS - DAY_MS)
    with pytest.raises(UnknownSymbol):
        asyncio.run(SampleMarket(NOW_MS).instruments((symbol,)))


def test_a_timeframe_that_does_not_exist_is_refused():
    with pytest.raises(UsageError, match="4 h"):
        fetch("BTC/USDT", "4 h", NOW_MS)


def test_a_hundred_made_up_symbols_have_rules_and_differ():
    symbols = tuple(f"S{number:03d}/USDT" for number in range(100))
    rules = asyncio.run(SampleMarket(NOW_MS).instruments(symbols))
    closes = {fetch(symbol, "1d", NOW_MS - 2 * DAY_MS).candles["close"][0] for symbol in symbols}
    assert len(closes) == 100
    for symbol in (*symbols, *(f"{base}/USDT" for base in CATALOGUE)):
        rule = rules.get(symbol) or asyncio.run(SampleMarket(NOW_MS).instruments((symbol,)))[symbol]
        assert rule.min_notional == 5
        assert rule.taker_fee_bps == rule.maker_fee_bps == 10
        price = fetch(symbol, "1d", NOW_MS - 2 * DAY_MS).candles["close"][0]
        assert float(rule.price_tick) < price / 500
        assert float(rule.quantity_step) * price < 5


def test_the_clock_is_the_one_it_was_given_and_has_no_skew():
    clock = asyncio.run(SampleMarket(NOW_MS).clock())
    assert (clock.now_ms, clock.skew_ms) == (NOW_MS, 0)
