"""`files:DIR`: perpetuals and their funding; a contract is never taken for spot, nor the other way round."""

import asyncio
import shutil
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from candlewick.errors import AmbiguousCandles, InvalidFunding, SettingsError, UnknownSymbol, UsageError
from candlewick.funding import HOUR_MS, funding_at_ms, require_funding
from candlewick.instruments import Instrument
from candlewick.market.files import MAPPING_NAME, FilesMarket
from candlewick.timeframes import parse_utc
from tests.shared_data import SHARED

DATA = SHARED / "data"
needs_shared = pytest.mark.skipif(not DATA.exists(), reason="../shared is not there")
START_MS = parse_utc("2024-01-01")
NOW_MS = parse_utc("2027-01-01")
SOLANA = "SOL/USDT:USDT"


def candles(folder: Path, name: str) -> None:
    time = [START_MS + n * HOUR_MS for n in range(48)]
    price = {column: [100.0 + n for n in range(48)] for column in ("open", "high", "low", "close", "volume")}
    pl.DataFrame({"ts": time} | price).write_parquet(folder / name)


def rates(folder: Path, name: str, column: str = "funding_rate", time: str = "ts") -> None:
    frame = pl.DataFrame({time: [START_MS + n * 8 * HOUR_MS + n for n in range(6)], column: [n / 1e4 for n in range(6)]})
    frame.write_csv(folder / name) if name.endswith(".csv") else frame.write_parquet(folder / name)


def market(folder: Path, exchange: str | None = None) -> FilesMarket:
    return FilesMarket(str(folder), exchange, NOW_MS)


def funding(
    folder: Path, symbol: str = SOLANA, since_ms: int = 0, until_ms: int = NOW_MS, exchange: str | None = None
) -> pl.DataFrame:
    return asyncio.run(market(folder, exchange).funding(symbol, since_ms, until_ms))


def instrument(folder: Path, symbol: str) -> Instrument:
    return asyncio.run(market(folder).instruments((symbol,)))[symbol]


def mapping(folder: Path, text: str) -> None:
    (folder / MAPPING_NAME).write_text(text, encoding="utf-8")


@needs_shared
@pytest.mark.parametrize(("symbol", "timeframe", "first"), [(SOLANA, "5m", "2025-04-07"), ("XRP/USDT:USDT", "", "2020-01-06")])
def test_real_funding_beside_real_candles_is_complete(tmp_path: Path, symbol: str, timeframe: str, first: str):
    name = symbol.replace("/", "").partition(":")[0]
    shutil.copy(DATA / "derivatives" / f"binanceusdm_{name}_funding_8h.parquet", tmp_path)
    if timeframe:
        shutil.copy(DATA / "candles" / f"binanceusdm_{name}_{timeframe}.parquet", tmp_path)
    else:
        candles(tmp_path, f"binanceusdm_{name}_1h.parquet")
    since_ms, until_ms = parse_utc(first) + 8 * HOUR_MS, parse_utc("2026-05-06")
    whole = funding(tmp_path, symbol, since_ms, until_ms)
    assert require_funding(symbol, whole, since_ms, until_ms, 8).height == (until_ms - since_ms) // (8 * HOUR_MS)
    assert (funding_at_ms(whole) % (8 * HOUR_MS) == 0).all()
    assert instrument(tmp_path, symbol).kind == "perpetual"


@needs_shared
def test_freqtrades_funding_file_is_read_as_it_is_and_its_rate_is_the_open(tmp_path: Path):
    source = DATA / "known_answers" / "freqtrade_futures_XRP_USDT_USDT-8h-funding_rate.feather"
    for name in ("XRP_USDT_USDT-8h-funding_rate.feather", "binanceusdm_XRP_USDT_USDT-8h-funding_rate.feather"):
        folder = tmp_path / name.partition(".")[0]
        folder.mkdir()
        shutil.copy(source, folder / name)
        candles(folder, "binanceusdm_XRPUSDT_1h.parquet")
        read = funding(folder, "XRP/USDT:USDT")
        assert read["rate"].to_list() == pl.read_ipc(source)["open"].to_list()
        assert read["noted_at"].dt.millisecond().max() == 19
        assert require_funding("XRP", read, parse_utc("2021-11-18"), parse_utc("2021-12-18T08:00"), 8).height == 91


@pytest.mark.parametrize(
    ("name", "column", "time"),
    [
        ("binanceusdm_SOLUSDT_funding_8h.parquet", "funding_rate", "ts"),
        ("binanceusdm_SOL-USDT_funding.csv", "rate", "opened_at"),
        ("binanceusdm_SOL_USDT_USDT_funding_rate_8h_2024.csv", "last_funding_rate", "calc_time"),
        ("binanceusdm_solusdt_funding_8h.csv", "fundingRate", "fundingTime"),
    ],
)
def test_funding_files_are_recognised_by_their_names_and_columns(tmp_path: Path, name: str, column: str, time: str):
    candles(tmp_path, "binanceusdm_SOLUSDT_1h.parquet")
    rates(tmp_path, name, column, time)
    read = funding(tmp_path, since_ms=START_MS + 8 * HOUR_MS, until_ms=START_MS + 24 * HOUR_MS)
    assert read["rate"].to_list() == [1e-4, 2e-4]
    assert funding_at_ms(read).tolist() == [START_MS + 8 * HOUR_MS, START_MS + 16 * HOUR_MS]


def test_a_perpetuals_file_is_never_taken_for_the_spot_symbol(tmp_path: Path):
    candles(tmp_path, "binanceusdm_SOLUSDT_1h.parquet")
    with pytest.raises(
        UnknownSymbol, match=r"binanceusdm trades contracts: ask for SOL/USDT:USDT, or say what it is in candlewick"
    ):
        instrument(tmp_path, "SOL/USDT")
    candles(tmp_path, "binance_SOLUSDT_4h.parquet")
    assert instrument(tmp_path, "SOL/USDT").kind == "spot"
    assert instrument(tmp_path, SOLANA).kind == "perpetual"
    with pytest.raises(UnknownSymbol, match="has SOL/USDT in 4h, not in 1h"):
        asyncio.run(market(tmp_path).fetch("SOL/USDT", "1h", 0, NOW_MS))


def test_a_spot_file_is_never_taken_for_the_perpetual(tmp_path: Path):
    candles(tmp_path, "binance_SOLUSDT_1h.parquet")
    with pytest.raises(UnknownSymbol, match=r"has no SOL/USDT:USDT; there is SOLUSDT \(binance\)"):
        instrument(tmp_path, SOLANA)


def test_an_exchange_of_several_kinds_of_contracts_needs_a_declaration(tmp_path: Path):
    candles(tmp_path, "krakenfutures_SOLUSDT_1h.parquet")
    with pytest.raises(UnknownSymbol, match=r"krakenfutures trades contracts: say what it is"):
        instrument(tmp_path, "SOL/USDT")
    mapping(
        tmp_path,
        "instruments:\n  SOL/USDT: {kind: perpetual, max_leverage: 5, maintenance_margin_share: 0.02, funding_interval_h: 4}\n",
    )
    declared = instrument(tmp_path, "SOL/USDT")
    assert (declared.kind, declared.max_leverage, declared.funding_interval_h) == ("perpetual", Decimal(5), 4)
    assert declared.maintenance_margin_share == Decimal("0.02")


@pytest.mark.parametrize("symbol", ["SOL/USDT:SOL", "SOL/USD:BTC"])
def test_inverse_and_quanto_contracts_are_refused(tmp_path: Path, symbol: str):
    candles(tmp_path, "binanceusdm_SOLUSDT_1h.parquet")
    with pytest.raises(UsageError, match="linear perpetuals, which are settled in their quote currency"):
        instrument(tmp_path, symbol)


def test_a_dated_contract_is_refused(tmp_path: Path):
    with pytest.raises(UsageError, match="SOL/USDT:USDT-250328 is a dated contract"):
        instrument(tmp_path, "SOL/USDT:USDT-250328")


def test_terms_that_are_not_declared_are_the_documented_ones(tmp_path: Path):
    candles(tmp_path, "binanceusdm_SOLUSDT_1h.parquet")
    given = instrument(tmp_path, SOLANA)
    assert (given.base, given.quote, given.funding_interval_h) == ("SOL", "USDT", 8)
    assert (given.max_leverage, given.maintenance_margin_share) == (Decimal(20), Decimal("0.01"))


def test_shares_may_be_declared_as_held_on_margin_and_have_no_funding(tmp_path: Path):
    candles(tmp_path, "nasdaq_GOOGUSD_1h.parquet")
    mapping(tmp_path, "instruments:\n  GOOG/USD: {kind: margin, max_leverage: 2}\n")
    assert (instrument(tmp_path, "GOOG/USD").kind, instrument(tmp_path, "GOOG/USD").max_leverage) == ("margin", Decimal(2))
    with pytest.raises(UsageError, match="GOOG/USD is no perpetual and has no funding"):
        funding(tmp_path, "GOOG/USD")


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("SOL/USDT:USDT: {kind: spot}", "is written as a perpetual and declared as spot"),
        ("SOL/USDT: {max_leverage: 3}", "SOL/USDT is spot and has max_leverage 3"),
        ("SOL/USDT: {kind: inverse}", "instruments.SOL/USDT.kind"),
        ("SOL/USDT: {kind: perpetual, funding_interval_h: 0}", "instruments.SOL/USDT.funding_interval_h"),
        ("SOL/USDT: {kind: perpetual, maintenance_margin_share: 1}", "maintenance_margin_share"),
    ],
)
def test_declarations_that_contradict_are_refused(tmp_path: Path, entry: str, words: str):
    candles(tmp_path, "binance_SOLUSDT_1h.parquet")
    candles(tmp_path, "binanceusdm_SOLUSDT_1h.parquet")
    mapping(tmp_path, f"instruments:\n  {entry}\n")
    with pytest.raises(SettingsError, match=words):
        instrument(tmp_path, SOLANA if ":USDT" in entry else "SOL/USDT")


def test_funding_that_is_not_there_is_unknown_and_not_zero(tmp_path: Path):
    candles(tmp_path, "binanceusdm_SOLUSDT_1h.parquet")
    with pytest.raises(
        UnknownSymbol, match=r"has no funding of SOL/USDT:USDT, and an unknown rate is not a rate of zero: .*SOLUSDT_funding_8h"
    ):
        funding(tmp_path)
    rates(tmp_path, "bybit_SOLUSDT_funding_8h.parquet")
    with pytest.raises(UnknownSymbol, match="has no funding of SOL/USDT:USDT"):
        funding(tmp_path)


def test_two_files_with_the_funding_of_one_symbol_are_refused_unless_the_mapping_chooses(tmp_path: Path):
    candles(tmp_path, "binanceusdm_SOLUSDT_1h.parquet")
    rates(tmp_path, "binanceusdm_SOLUSDT_funding_8h.parquet")
    rates(tmp_path, "binanceusdm_SOLUSDT_funding_8h.csv")
    with pytest.raises(AmbiguousCandles, match="the funding of SOL/USDT:USDT is answered by 2 files"):
        funding(tmp_path)
    mapping(tmp_path, "files:\n  - file: binanceusdm_SOLUSDT_funding_8h.csv\n")
    assert funding(tmp_path).height == 6
    assert market(tmp_path).funding_fingerprint(SOLANA).startswith("binanceusdm_SOLUSDT_funding_8h.csv ")


def test_the_mapping_names_a_funding_file_elsewhere_and_its_columns(tmp_path: Path):
    folder, other = tmp_path / "candles", tmp_path / "other"
    folder.mkdir()
    other.mkdir()
    candles(folder, "binanceusdm_SOLUSDT_1h.parquet")
    rates(other, "mine.csv", "share", "paid")
    entry = "{file: ../other/mine.csv, content: funding, symbol: SOL/USDT:USDT, columns: {opened_at: paid, rate: share}}"
    mapping(folder, f"files:\n  - {entry}\n")
    assert funding(folder).height == 6


def test_a_funding_file_without_a_rate_names_the_columns_that_it_has(tmp_path: Path):
    candles(tmp_path, "binanceusdm_SOLUSDT_1h.parquet")
    rates(tmp_path, "binanceusdm_SOLUSDT_funding_8h.parquet", "premium")
    with pytest.raises(InvalidFunding, match=r"no column for rate; it has \['ts', 'premium'\]"):
        funding(tmp_path)


def test_a_funding_file_that_changed_has_another_fingerprint(tmp_path: Path):
    candles(tmp_path, "binanceusdm_SOLUSDT_1h.parquet")
    rates(tmp_path, "binanceusdm_SOLUSDT_funding_8h.csv")
    before = market(tmp_path).funding_fingerprint(SOLANA)
    with (tmp_path / "binanceusdm_SOLUSDT_funding_8h.csv").open("a") as file:
        file.write(f"{START_MS + 48 * HOUR_MS},0.0001\n")
    assert market(tmp_path).funding_fingerprint(SOLANA) != before
