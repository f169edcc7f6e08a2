"""Funding for a span: fetched into the lake once, read from it afterwards, and refused where a payment stays unknown."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from candlewick.candles import CANDLE_SCHEMA, Series
from candlewick.errors import FundingMissing, LakeError, MarketUnavailable
from candlewick.findings import noted_findings
from candlewick.funding import HOUR_MS, funding_at_ms, funding_digest, normalise_funding
from candlewick.funding_lake import (
    FUNDING_LAKE_SCHEMA,
    append_funding,
    funding_fingerprint,
    funding_series,
    plan_funding,
    read_funding,
    replace_funding,
)
from candlewick.instruments import Instrument
from candlewick.lake import Lake
from candlewick.market.files import FilesMarket
from candlewick.market.sample import SampleMarket
from candlewick.timeframes import DAY_MS, parse_utc
from tests.emulator.candle_book import CandleBook
from tests.emulator.faults import Fault
from tests.emulator.server import Emulator
from tests.emulator_fixture import START_MS, exchange_block, made_up_candles

BITCOIN = "BTC/USDT:USDT"
# Tasks are run here without a flow.
pytestmark = pytest.mark.filterwarnings("ignore:Logger 'prefect")
SERIES = Series("binanceusdm", BITCOIN, "1h")
FETCHED = datetime(2026, 1, 2, tzinfo=UTC)
INTERVAL_MS = 8 * HOUR_MS


def payments(first: int, count: int, shift: float = 0.0) -> pl.DataFrame:
    times = [START_MS + n * INTERVAL_MS for n in range(first, first + count)]
    raw = pl.DataFrame({"noted_at": [t + 3 for t in times], "rate": [t % 977 / 1e6 + shift for t in times]})
    return normalise_funding(raw.with_columns(pl.col("noted_at").cast(pl.Datetime("ms", "UTC"))), "made up")


def files(lake: Lake) -> dict[str, bytes]:
    folder = lake.folder(funding_series(SERIES))
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.parquet"))}


# -- the lake


def test_funding_lies_beside_the_candles_in_yearly_files_and_is_read_back(tmp_path: Path):
    lake = Lake(str(tmp_path))
    assert append_funding(lake, SERIES, payments(0, 1200), "binanceusdm", FETCHED).added == 1200
    folder = tmp_path / "silver/exchange=binanceusdm/symbol=BTC-USDT%3AUSDT/kind=funding_rate"
    assert sorted(path.name for path in folder.glob("*.parquet")) == ["2024.parquet", "2025.parquet"]
    assert pl.read_parquet(folder / "2025.parquet", hive_partitioning=False).schema == dict(FUNDING_LAKE_SCHEMA)
    assert read_funding(lake, SERIES, 0, parse_utc("2030-01-01")).equals(payments(0, 1200))
    part = read_funding(lake, SERIES, START_MS + INTERVAL_MS, START_MS + 3 * INTERVAL_MS)
    assert part.equals(payments(1, 2))
    assert read_funding(lake, Series("binanceusdm", "ETH/USDT:USDT", "1h"), 0, START_MS).is_empty()


def test_the_same_payments_in_any_order_of_appends_are_the_same_bytes(tmp_path: Path):
    one, other = Lake(str(tmp_path / "one")), Lake(str(tmp_path / "other"))
    append_funding(one, SERIES, payments(0, 1200), "binanceusdm", FETCHED)
    for first, count in ((600, 600), (0, 700), (0, 1200)):
        append_funding(other, SERIES, payments(first, count), "binanceusdm", FETCHED)
    assert files(one) == files(other)


def test_a_payment_told_differently_later_keeps_its_first_rate_and_is_reported(tmp_path: Path):
    lake = Lake(str(tmp_path))
    append_funding(lake, SERIES, payments(0, 10), "binanceusdm", FETCHED)
    report = append_funding(lake, SERIES, payments(9, 2, shift=1e-3), "binanceusdm", FETCHED)
    assert (report.added, report.conflicting.height) == (1, 1)
    kept, offered = report.conflicting.row(0)[1:]
    assert offered == pytest.approx(kept + 1e-3)
    assert read_funding(lake, SERIES, 0, START_MS + 10 * INTERVAL_MS).equals(payments(0, 10))


def test_a_source_that_changed_replaces_all_there_was(tmp_path: Path):
    lake = Lake(str(tmp_path))
    replace_funding(lake, SERIES, payments(0, 1500), "files", "first", FETCHED)
    untouched = files(lake)["2024.parquet"]
    replace_funding(lake, SERIES, payments(0, 1098), "files", "second", datetime(2027, 1, 1, tzinfo=UTC))
    assert funding_fingerprint(lake, SERIES) == "second"
    assert files(lake) == {"2024.parquet": untouched}


def test_a_damaged_file_is_named(tmp_path: Path):
    lake = Lake(str(tmp_path))
    append_funding(lake, SERIES, payments(0, 5), "binanceusdm", FETCHED)
    path = lake.folder(funding_series(SERIES)) / "2024.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(LakeError, match=r"2024\.parquet is damaged"):
        read_funding(lake, SERIES, 0, START_MS + DAY_MS)


def test_only_what_the_lake_lacks_is_asked_for(tmp_path: Path):
    lake = Lake(str(tmp_path))
    until_ms = START_MS + 9 * INTERVAL_MS + 1
    first = plan_funding(lake, SERIES, START_MS, until_ms, 8, None)
    assert first is not None
    assert first.since_ms < START_MS
    append_funding(lake, SERIES, payments(0, 8), "binanceusdm", FETCHED)
    rest = plan_funding(lake, SERIES, START_MS, until_ms, 8, None)
    assert rest is not None
    assert START_MS + 6 * INTERVAL_MS <= rest.since_ms <= START_MS + 8 * INTERVAL_MS
    append_funding(lake, SERIES, payments(8, 2), "binanceusdm", FETCHED)
    assert plan_funding(lake, SERIES, START_MS, until_ms, 8, None) is None


# -- from a market, as a task


@pytest.fixture
def futures() -> Iterator[Emulator]:
    with Emulator(CandleBook()) as emulator:
        emulator.futures.book.add("BTCUSDT", "1h", made_up_candles(40_000.0, 500))
        emulator.futures.add_funding("BTCUSDT", [(START_MS + n * INTERVAL_MS + 5, f"{n / 1e6:.8f}") for n in range(60)])
        emulator.now_ms = START_MS + 60 * INTERVAL_MS
        yield emulator


def complete(exchange: Emulator, lake: Lake, since_ms: int, until_ms: int, forming_open: bool = False) -> dict[str, pl.DataFrame]:
    from blocks.exchange import open_exchange
    from tasks.funding import complete_funding
    from tasks.market import MarketAccess

    block = exchange_block(
        exchange, exchange_id="binanceusdm", timeout_s=1.0, max_attempts=3, retry_base_s=0.01, retry_max_s=0.02
    )

    async def run() -> dict[str, pl.DataFrame]:
        async with open_exchange(block) as market:
            instruments = await market.instruments((BITCOIN,))
            series = {BITCOIN: market.series(BITCOIN, "1h")}
            return await complete_funding(
                MarketAccess(market, block), lake, instruments, series, since_ms, until_ms, forming_open
            )

    return asyncio.run(run())


def test_funding_is_fetched_once_and_then_only_what_has_become_due(tmp_path: Path, futures: Emulator, prefect_server: str):
    lake = Lake(str(tmp_path))
    middle_ms, end_ms = START_MS + 40 * INTERVAL_MS, START_MS + 50 * INTERVAL_MS
    first = complete(futures, lake, START_MS, middle_ms)[BITCOIN]
    assert first["rate"].to_list() == [n / 1e6 for n in range(40)]
    asked = len(futures.requests("/fundingRate"))
    assert funding_digest(complete(futures, lake, START_MS, middle_ms)[BITCOIN]) == funding_digest(first)
    assert len(futures.requests("/fundingRate")) == asked
    assert complete(futures, lake, START_MS, end_ms)[BITCOIN].height == 50
    assert int(futures.requests("/fundingRate")[asked].params["startTime"]) > START_MS + 37 * INTERVAL_MS


def test_faults_are_outwaited_and_leave_nothing_out(tmp_path: Path, futures: Emulator, prefect_server: str):
    futures.misbehave(
        Fault("http", status=500, path="/fundingRate"), Fault("http", status=429, retry_after_s=0, path="/fundingRate")
    )
    answer = complete(futures, Lake(str(tmp_path)), START_MS, START_MS + 30 * INTERVAL_MS)
    assert answer[BITCOIN].height == 30


def test_a_market_that_does_not_answer_is_named_after_all_attempts(tmp_path: Path, futures: Emulator, prefect_server: str):
    futures.misbehave(Fault("http", status=500, path="/fundingRate", count=None))
    with pytest.raises(MarketUnavailable, match="binanceusdm BTC/USDT:USDT funding: answered HTTP 500"):
        complete(futures, Lake(str(tmp_path)), START_MS, START_MS + 30 * INTERVAL_MS)
    assert len(futures.requests("/fundingRate")) == 3


def test_a_payment_that_the_exchange_lost_is_missing_until_it_tells_it(tmp_path: Path, futures: Emulator, prefect_server: str):
    lake, known = Lake(str(tmp_path)), futures.futures.funding["BTCUSDT"]
    futures.futures.add_funding("BTCUSDT", [payment for n, payment in enumerate(known) if n != 20])
    with pytest.raises(FundingMissing, match=r"BTC/USDT:USDT: 1 funding payments between 2024-01-07 08:00 and 2024-01-08 00:00"):
        complete(futures, lake, START_MS, START_MS + 40 * INTERVAL_MS)
    futures.futures.add_funding("BTCUSDT", known)
    assert complete(futures, lake, START_MS, START_MS + 40 * INTERVAL_MS)[BITCOIN].height == 40


def test_a_payment_due_at_the_forming_bars_open_is_asked_for_where_that_open_is_acted_on(
    tmp_path: Path, futures: Emulator, prefect_server: str
):
    lake = Lake(str(tmp_path))
    bars = pl.DataFrame(made_up_candles(40_000.0, 16), schema=dict(CANDLE_SCHEMA), orient="row")
    lake.append(SERIES, bars, "binanceusdm", FETCHED)
    now_ms = START_MS + 2 * INTERVAL_MS + 5_000
    assert funding_at_ms(complete(futures, lake, START_MS, now_ms)[BITCOIN]).tolist() == [START_MS, START_MS + INTERVAL_MS]
    assert complete(futures, lake, START_MS, now_ms, forming_open=True)[BITCOIN].height == 3


def test_a_rate_revised_by_the_exchange_is_a_finding_beside_the_candles(tmp_path: Path, futures: Emulator, prefect_server: str):
    lake = Lake(str(tmp_path))
    complete(futures, lake, START_MS, START_MS + 20 * INTERVAL_MS)
    changed = [(t, "0.01000000" if n == 19 else r) for n, (t, r) in enumerate(futures.futures.funding["BTCUSDT"])]
    futures.futures.add_funding("BTCUSDT", changed)
    answer = complete(futures, lake, START_MS, START_MS + 25 * INTERVAL_MS)[BITCOIN]
    assert answer["rate"][19] == 19 / 1e6
    rows = noted_findings(lake, [SERIES], FETCHED).rows
    assert rows["kind"].to_list() == ["revised_funding"]
    assert rows["evidence"][0].endswith("rate 1.9e-05 kept, 0.01 offered")


def test_spot_symbols_need_no_funding_and_perpetuals_of_the_sample_have_theirs(tmp_path: Path, prefect_server: str):
    from tasks.funding import complete_funding
    from tasks.market import MarketAccess

    market = SampleMarket(START_MS)
    symbols = ("BTC/USDT", BITCOIN, "ETH/USDT:USDT")
    span = START_MS - 30 * DAY_MS, START_MS

    async def run() -> dict[str, pl.DataFrame]:
        instruments = await market.instruments(symbols)
        series = {symbol: market.series(symbol, "1h") for symbol in symbols}
        return await complete_funding(MarketAccess(market), Lake(str(tmp_path)), instruments, series, *span)

    answer = asyncio.run(run())
    assert {symbol: frame.height for symbol, frame in answer.items()} == {BITCOIN: 90, "ETH/USDT:USDT": 90}


def test_a_changed_funding_file_is_read_again_and_a_listing_asks_for_nothing_before_it(tmp_path: Path, prefect_server: str):
    from tasks.funding import complete_funding
    from tasks.market import MarketAccess

    folder, lake = tmp_path / "files", Lake(str(tmp_path / "lake"))
    folder.mkdir()
    bars = pl.DataFrame(
        made_up_candles(40_000.0, 200), schema=["opened_at", "open", "high", "low", "close", "volume"], orient="row"
    )
    bars = bars.with_columns(pl.col("opened_at").cast(pl.Datetime("ms", "UTC")))
    bars.write_parquet(folder / "binanceusdm_BTCUSDT_1h.parquet")

    def told(first: int, count: int) -> None:
        frame = payments(first, count).select(pl.col("noted_at").alias("ts"), pl.col("rate").alias("funding_rate"))
        frame.write_parquet(folder / "binanceusdm_BTCUSDT_funding_8h.parquet")

    def ask(until_ms: int = START_MS + 900 * HOUR_MS) -> pl.DataFrame:
        market = FilesMarket(str(folder), None, until_ms)
        series = market.series(BITCOIN, "1h")
        lake.append(series, bars, "files", FETCHED)

        async def run() -> dict[str, pl.DataFrame]:
            instruments: dict[str, Instrument] = await market.instruments((BITCOIN,))
            span = START_MS - 900 * HOUR_MS, until_ms
            return await complete_funding(MarketAccess(market), lake, instruments, {BITCOIN: series}, *span)

        return asyncio.run(run())[BITCOIN]

    told(0, 20)
    with pytest.raises(FundingMissing, match="BTC/USDT:USDT: 5 funding payments between 2024-01-07 08:00 and 2024-01-09 08:00"):
        ask()
    told(0, 30)
    for payments_due in (7, 24):
        answer = ask(START_MS + payments_due * INTERVAL_MS + 1)
        assert funding_at_ms(answer).tolist() == [START_MS + n * INTERVAL_MS for n in range(payments_due + 1)]
