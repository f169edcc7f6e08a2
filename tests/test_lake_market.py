"""`lake:NAME`: the lake as a market. It tells what the lake has, asks nobody, and leaves no trace."""

import asyncio
from decimal import Decimal
from pathlib import Path

import pytest

from candlewick.candles import Series
from candlewick.errors import MarketUnavailable, UnknownSymbol, UsageError
from candlewick.lake import Lake
from candlewick.market.lake_market import LakeMarket
from candlewick.market_data.coverage import Span
from candlewick.timeframes import DAY_MS, parse_utc, utc
from tests.imported_files import HOURS, NOW_MS, hours
from tests.kept_backtests import folder, kept, options

__all__ = ["folder"]

END_MS = parse_utc("2024-01-03")


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    lake = Lake(str(tmp_path / "lake"))
    lake.put_chunk(HOURS, hours(), Span(END_MS - 2 * DAY_MS, END_MS), "test", utc(END_MS))
    lake.put_chunk(Series("mine", "ETH/USDT:USDT", "1h"), hours(5), Span(END_MS - 2 * DAY_MS, END_MS), "test", utc(END_MS))
    lake.put_chunk(Series("other", "BTC/USDT", "1h"), hours(400), Span(END_MS, END_MS + 1), "test", utc(END_MS))
    return lake


def test_its_clock_stands_at_the_close_of_its_newest_candle_and_never_after_now(lake: Lake) -> None:
    assert asyncio.run(LakeMarket("lake:mine", lake, NOW_MS).clock()).now_ms == END_MS
    assert asyncio.run(LakeMarket("lake:mine", lake, END_MS - DAY_MS).clock()).now_ms == END_MS - DAY_MS


def test_its_rules_are_the_mappings_or_those_that_the_prices_show(lake: Lake, tmp_path: Path) -> None:
    market = LakeMarket("lake:mine", lake, NOW_MS)
    rules = asyncio.run(market.instruments(("BTC/USDT", "ETH/USDT:USDT")))
    assert (rules["BTC/USDT"].price_tick, rules["BTC/USDT"].kind, rules["BTC/USDT"].taker_fee_bps) == (
        Decimal("0.01"),
        "spot",
        10,
    )
    assert (rules["ETH/USDT:USDT"].kind, rules["ETH/USDT:USDT"].max_leverage) == ("perpetual", 20)
    mapping = tmp_path / "rules.yaml"
    mapping.write_text("instruments: {BTC/USDT: {price_tick: 0.5, min_notional: 5, taker_fee_bps: 26}}")
    said = asyncio.run(LakeMarket("lake:mine", lake, NOW_MS, mapping).instruments(("BTC/USDT",)))["BTC/USDT"]
    assert (said.price_tick, said.min_notional, said.taker_fee_bps) == (Decimal("0.5"), 5, 26)


def test_what_the_lake_lacks_nobody_is_asked_for(lake: Lake) -> None:
    market = LakeMarket("lake:mine", lake, NOW_MS)
    with pytest.raises(MarketUnavailable, match="lake:mine is what the lake has, and nobody is asked for BTC/USDT 1h"):
        asyncio.run(market.fetch("BTC/USDT", "1h", 0, NOW_MS))
    with pytest.raises(MarketUnavailable, match="the funding of ETH/USDT:USDT"):
        asyncio.run(market.funding("ETH/USDT:USDT", 0, NOW_MS))
    assert market.series("BTC/USDT", "1h") == HOURS


def test_what_it_does_not_have_is_refused_naming_what_there_is(lake: Lake) -> None:
    with pytest.raises(UsageError, match="has no candles of it; it has mine, other"):
        LakeMarket("lake:nope", lake, NOW_MS)
    with pytest.raises(UnknownSymbol, match="lake:mine has no XRP/USDT; it has BTC/USDT, ETH/USDT:USDT"):
        asyncio.run(LakeMarket("lake:mine", lake, NOW_MS).instruments(("XRP/USDT",)))


def test_a_backtest_on_it_plays_all_of_it_and_leaves_the_lake_as_it_was(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANDLEWICK_PAPER__HISTORY_DAYS", "2")
    lake = Lake(str(folder / "lake"))
    lake.put_chunk(HOURS, hours(400), Span(END_MS - 2 * DAY_MS, END_MS + 14 * DAY_MS + 1), "test", utc(END_MS))

    def files() -> dict[str, bytes]:
        return {str(file): file.read_bytes() for file in sorted((folder / "lake" / "silver").rglob("*")) if file.is_file()}

    before = files()
    asked = options(market="lake:mine", symbols=("BTC/USDT",), timeframe="1h", parameters={"fast": 3}, since=None, until=None)
    done = kept(asked)
    assert (done.run.status, done.run.bars) == ("success", 400)
    wider = options(
        market="lake:mine", symbols=("BTC/USDT",), timeframe="1h", parameters={"fast": 3}, since="2020-01-01", until=None
    )
    assert kept(wider).run.bars == 400
    assert files() == before, "nothing was fetched, and nothing was noted as asked for"
