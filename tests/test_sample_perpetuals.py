"""Perpetuals of the market `sample`: their price follows the spot price, their funding follows from the premium."""

import asyncio
from decimal import Decimal

import polars as pl
import pytest

from candlewick.candles import candle_digest
from candlewick.errors import UnknownSymbol, UsageError
from candlewick.funding import FUNDING_SCHEMA, HOUR_MS, funding_digest, require_funding
from candlewick.market.sample import SampleMarket
from candlewick.timeframes import DAY_MS, parse_utc

NOW_MS = parse_utc("2026-10-01")
BITCOIN = "BTC/USDT:USDT"
GOLDEN_CANDLES, GOLDEN_FUNDING = "a6642c2e75a5d887", "6c9060aa9b57ef1c"


def funding(symbol: str, since_ms: int, until_ms: int) -> pl.DataFrame:
    return asyncio.run(SampleMarket(NOW_MS).funding(symbol, since_ms, until_ms))


def candles(symbol: str, timeframe: str, since_ms: int, until_ms: int) -> pl.DataFrame:
    return asyncio.run(SampleMarket(NOW_MS).fetch(symbol, timeframe, since_ms, until_ms)).candles


def test_the_perpetuals_of_version_1_never_change():
    since_ms, until_ms = parse_utc("2026-07-01"), parse_utc("2026-09-29")
    assert candle_digest(candles(BITCOIN, "4h", since_ms, until_ms)).startswith(GOLDEN_CANDLES)
    assert funding_digest(funding(BITCOIN, since_ms, until_ms)).startswith(GOLDEN_FUNDING)


def test_a_perpetual_has_margin_terms_and_lower_fees_and_the_spot_symbol_has_none():
    rules = asyncio.run(SampleMarket(NOW_MS).instruments((BITCOIN, "BTC/USDT")))
    perpetual, spot = rules[BITCOIN], rules["BTC/USDT"]
    assert (perpetual.kind, perpetual.max_leverage, perpetual.maintenance_margin_share) == ("perpetual", 20, Decimal("0.01"))
    assert (perpetual.maker_fee_bps, perpetual.taker_fee_bps, perpetual.funding_interval_h) == (2, 5, 8)
    assert (spot.kind, spot.max_leverage, spot.taker_fee_bps) == ("spot", 1, 10)
    assert (perpetual.base, perpetual.quote, perpetual.price_tick) == (spot.base, spot.quote, spot.price_tick)


@pytest.mark.parametrize("symbol", [BITCOIN, "S042/USDT:USDT"])
def test_a_perpetual_stays_within_a_fifth_of_a_percent_of_its_spot_price(symbol: str):
    since_ms = NOW_MS - 60 * DAY_MS
    both = candles(symbol, "1m", since_ms, NOW_MS).join(
        candles(symbol.partition(":")[0], "1m", since_ms, NOW_MS), on="opened_at", suffix="_spot"
    )
    premium = both["close"] / both["close_spot"] - 1
    tick = float(asyncio.run(SampleMarket(NOW_MS).instruments((symbol,)))[symbol].price_tick) / both["close"].min()
    assert both.height > 60 * 1440 * 0.9
    assert 0 < premium.abs().max() < 0.002 + tick
    assert premium.std() > 0


def test_a_span_of_funding_asked_for_in_two_parts_is_the_span_asked_for_at_once():
    since_ms, until_ms = NOW_MS - 900 * DAY_MS, NOW_MS
    whole = funding(BITCOIN, since_ms, until_ms)
    for cut_ms in (NOW_MS - 5 * HOUR_MS, NOW_MS - 8 * HOUR_MS, NOW_MS - 400 * DAY_MS - 1):
        assert pl.concat([funding(BITCOIN, since_ms, cut_ms), funding(BITCOIN, cut_ms, until_ms)]).equals(whole)
    assert whole.schema == dict(FUNDING_SCHEMA)
    assert require_funding(BITCOIN, whole, since_ms, until_ms, 8).height == 2700


def test_funding_is_binances_formula_of_the_premium_that_the_prices_show():
    since_ms = NOW_MS - 90 * DAY_MS
    minutes = candles(BITCOIN, "1m", since_ms, NOW_MS).join(
        candles("BTC/USDT", "1m", since_ms, NOW_MS), on="opened_at", suffix="_spot"
    )
    shown = (
        minutes.group_by_dynamic("opened_at", every="8h", closed="left")
        .agg((pl.col("open") / pl.col("open_spot") - 1).mean().alias("premium"), pl.len())
        .with_columns((pl.col("opened_at") + pl.duration(hours=8)).cast(pl.Datetime("us", "UTC")).alias("funding_at"))
        .filter(pl.col("len") == 480)
    )
    both = funding(BITCOIN, since_ms, NOW_MS).join(shown, on="funding_at")
    formula = pl.col("premium") + (0.0001 - pl.col("premium")).clip(-0.0005, 0.0005)
    assert both.height > 200
    assert both.select((formula - pl.col("rate")).abs().max()).item() < 2e-6  # ln(1 + p) is not p
    assert both["rate"].n_unique() > 20


def test_funding_of_a_spot_or_unknown_symbol_is_refused():
    with pytest.raises(UsageError, match="BTC/USDT is a spot symbol and has no funding; its perpetual is BTC/USDT:USDT"):
        funding("BTC/USDT", 0, NOW_MS)
    with pytest.raises(UnknownSymbol, match="the perpetual of each is NAME/USDT:USDT"):
        funding("BTC/USDT:BTC", 0, NOW_MS)


def test_no_span_has_no_payments():
    assert funding(BITCOIN, NOW_MS + 1, NOW_MS + 2).is_empty()
    assert funding(BITCOIN, NOW_MS, NOW_MS).is_empty()
