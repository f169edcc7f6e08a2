"""`files:DIR`: the user's own candles; what can be read in two ways is refused, never guessed."""

import asyncio
import gzip
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from candlewick.candles import CANDLE_SCHEMA, CandlePage
from candlewick.errors import AmbiguousCandles, CandlewickError, InvalidCandles, SettingsError, UnknownSymbol, UsageError
from candlewick.market.files import MAPPING_NAME, FilesMarket
from candlewick.timeframes import parse_utc
from candlewick.validation import ValidatedCandles, validate_candles

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
needs_shared = pytest.mark.skipif(not DATA.exists(), reason="../shared is not there")
START = datetime(2024, 1, 1, tzinfo=UTC)
NOW_MS = parse_utc("2024-02-01")


def hours(count: int = 24) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "opened_at": [START + timedelta(hours=n) for n in range(count)],
            "open": [100.0 + n for n in range(count)],
            "high": [102.5 + n for n in range(count)],
            "low": [99.25 + n for n in range(count)],
            "close": [101.0 + n for n in range(count)],
            "volume": [5.0 + n for n in range(count)],
        },
        schema=dict(CANDLE_SCHEMA),
    )


def fetch(
    folder: Path,
    symbol: str = "BTC/USDT",
    timeframe: str = "1h",
    exchange: str | None = None,
    mapping: Path | None = None,
    now_ms: int = NOW_MS,
) -> CandlePage:
    return asyncio.run(FilesMarket(str(folder), exchange, now_ms, mapping).fetch(symbol, timeframe, 0, now_ms))


def write_mapping(folder: Path, text: str) -> Path:
    path = folder / MAPPING_NAME
    path.write_text(text)
    return path


def _csv_gz(frame: pl.DataFrame, path: Path) -> None:
    path.write_bytes(gzip.compress(frame.write_csv().encode()))


WRITERS: dict[str, Callable[[pl.DataFrame, Path], object]] = {
    "binance_BTCUSDT_1h.parquet": lambda frame, path: frame.write_parquet(path),
    "binance_BTC-USDT_1h.feather": lambda frame, path: frame.write_ipc(path, compression="lz4"),
    "binance_BTC_USDT_1h.arrow": lambda frame, path: frame.write_ipc(path),
    "Binance_btcusdt_1h_2024.csv": lambda frame, path: frame.write_csv(path),
    "binance_BTCUSDT_1h.csv.gz": _csv_gz,
}


@pytest.mark.parametrize("name", WRITERS)
def test_parquet_feather_and_csv_answer_alike(tmp_path: Path, name: str):
    WRITERS[name](hours(), tmp_path / name)
    assert fetch(tmp_path).candles.equals(hours())
    assert fetch(tmp_path, exchange="BINANCE").candles.equals(hours())


def _epoch(factor: float) -> pl.Expr:
    return (pl.col("opened_at").dt.epoch("ms") * factor).cast(pl.Float64 if factor < 1 else pl.Int64)


TIMES: dict[str, pl.Expr] = {
    "seconds": pl.col("opened_at").dt.epoch("s"),
    "seconds with decimals": _epoch(0.001),
    "milliseconds": _epoch(1),
    "microseconds": _epoch(1_000),
    "nanoseconds": _epoch(1_000_000),
    "naive datetimes": pl.col("opened_at").dt.replace_time_zone(None).cast(pl.Datetime("ns")),
    "datetimes of New York": pl.col("opened_at").dt.convert_time_zone("America/New_York"),
    "ISO text": pl.col("opened_at").dt.strftime("%Y-%m-%dT%H:%M:%S"),
    "ISO text with Z": pl.col("opened_at").dt.strftime("%Y-%m-%dT%H:%M:%SZ"),
    "ISO text with an offset": pl.col("opened_at").dt.convert_time_zone("Asia/Tokyo").dt.strftime("%Y-%m-%d %H:%M:%S%:z"),
    "ISO text without seconds": pl.col("opened_at").dt.strftime("%Y-%m-%d %H:%M"),
}


@pytest.mark.parametrize("form", TIMES)
@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_times_are_understood_in_every_unit_and_as_iso_text(tmp_path: Path, form: str, suffix: str):
    frame = hours().with_columns(TIMES[form].alias("opened_at"))
    path = tmp_path / f"binance_BTCUSDT_1h.{suffix}"
    frame.write_csv(path) if suffix == "csv" else frame.write_parquet(path)
    assert fetch(tmp_path).candles.equals(hours())


def test_daily_candles_may_be_dated_by_the_day(tmp_path: Path):
    daily = hours(5).with_columns(
        opened_at=pl.datetime_range(START, START + timedelta(days=4), "1d", eager=True).cast(CANDLE_SCHEMA["opened_at"])
    )
    daily.with_columns(pl.col("opened_at").dt.date()).write_parquet(tmp_path / "x_BTCUSDT_1d.parquet")
    daily.with_columns(pl.col("opened_at").dt.date()).write_csv(tmp_path / "y_BTCUSDT_1d.csv")
    assert fetch(tmp_path, timeframe="1d", exchange="x").candles.equals(daily)
    assert fetch(tmp_path, timeframe="1d", exchange="y").candles.equals(daily)


@pytest.mark.parametrize("name", ["ts", "timestamp", "Time", "DATE", "open_time", "Open Time", "opened_at", "unix"])
def test_columns_are_recognised_whatever_their_case(tmp_path: Path, name: str):
    upper = {column: column.capitalize() for column in hours().columns[1:]}
    hours().rename({"opened_at": name, **upper}).with_columns(pl.lit(7).alias("trades")).write_csv(tmp_path / "a_BTCUSDT_1h.csv")
    assert fetch(tmp_path).candles.equals(hours())


def _spoiled(column: str, text: str) -> pl.DataFrame:
    row = pl.int_range(pl.len()) == 7
    return hours().with_columns(pl.when(row).then(pl.lit(text)).otherwise(pl.col(column).cast(pl.String)).alias(column))


@pytest.mark.parametrize(
    ("frame", "error", "says"),
    [
        (hours().drop("volume", "low"), InvalidCandles, r"no column for low, volume; it has \['opened_at'"),
        (hours().with_columns(pl.col("opened_at").alias("ts")), AmbiguousCandles, r"columns \['opened_at', 'ts'\] for opened_at"),
        (hours().with_columns(pl.col("open").alias("Open")), AmbiguousCandles, r"columns \['open', 'Open'\] for open"),
        (hours().with_columns(pl.col("volume").alias("Volume BTC")), AmbiguousCandles, r"\['volume', 'Volume BTC'\] for volume"),
        (
            hours().with_columns(
                opened_at=pl.when(pl.int_range(pl.len()) < 4).then(_epoch(1)).otherwise(pl.col("opened_at").dt.epoch("s"))
            ),
            InvalidCandles,
            r"mixes units: 20 rows look like s, 4 rows look like ms",
        ),
        (_spoiled("opened_at", "2024-01-01 07-AM"), InvalidCandles, r"1 of 24 times are not ISO 8601 .*'2024-01-01 07-AM'"),
        (_spoiled("opened_at", "1704092400000"), InvalidCandles, r"has 1 numbers and 23 texts"),
        (
            hours().with_columns(opened_at=pl.int_range(pl.len())),
            InvalidCandles,
            r"times such as 0, which are no s, ms, us or ns",
        ),
        (_spoiled("close", "n/a"), InvalidCandles, r"column 'close' has 'n/a' in 1 rows"),
        (_spoiled("opened_at", ""), InvalidCandles, r"'opened_at' has .* 1 rows|1 of 24 times"),
        (hours().head(0), InvalidCandles, r"has no rows"),
    ],
)
def test_what_cannot_be_read_in_one_way_is_refused_naming_the_file(
    tmp_path: Path, frame: pl.DataFrame, error: type[CandlewickError], says: str
):
    frame.write_csv(tmp_path / "kraken_BTCUSDT_1h.csv")
    with pytest.raises(error, match=says) as caught:
        fetch(tmp_path)
    assert "kraken_BTCUSDT_1h.csv" in str(caught.value)


@pytest.mark.parametrize("suffix", ["parquet", "feather", "csv"])
def test_a_file_that_is_not_what_its_name_says_is_named(tmp_path: Path, suffix: str):
    (tmp_path / f"a_BTCUSDT_1h.{suffix}").write_bytes(b"\x00\xff not, a\ntable, of, any kind" * 9)
    with pytest.raises(InvalidCandles, match=rf"a_BTCUSDT_1h\.{suffix}"):
        fetch(tmp_path)


def test_two_files_for_one_request_are_refused_with_their_names_until_one_is_chosen(tmp_path: Path):
    hours(10).write_parquet(tmp_path / "binance_BTCUSDT_1h.parquet")
    hours(20).write_parquet(tmp_path / "kraken_BTCUSDT_1h.parquet")
    with pytest.raises(
        AmbiguousCandles, match=r"binance_BTCUSDT_1h.parquet, kraken_BTCUSDT_1h.parquet; choose with #binance or #kraken"
    ):
        fetch(tmp_path)
    assert fetch(tmp_path, exchange="kraken").candles.height == 20
    hours(15).write_parquet(tmp_path / "kraken_BTCUSDT_1h_older.parquet")
    with pytest.raises(
        AmbiguousCandles, match=r"kraken_BTCUSDT_1h.parquet, kraken_BTCUSDT_1h_older.parquet; choose with candlewick-files"
    ):
        fetch(tmp_path, exchange="kraken")
    write_mapping(tmp_path, "files: [{file: kraken_BTCUSDT_1h_older.parquet}]")
    assert fetch(tmp_path, exchange="kraken").candles.height == 15


def test_what_is_not_there_is_refused_naming_what_is(tmp_path: Path):
    hours().write_parquet(tmp_path / "binance_BTCUSDT_1h.parquet")
    with pytest.raises(UnknownSymbol, match=r"no ETH/USDT; there is BTCUSDT \(binance\)"):
        fetch(tmp_path, "ETH/USDT")
    with pytest.raises(UnknownSymbol, match=r"BTC/USDT in 1h, not in 4h"):
        fetch(tmp_path, timeframe="4h")
    with pytest.raises(UnknownSymbol, match=r"#kraken has no BTC/USDT; there is BTCUSDT \(binance\)"):
        fetch(tmp_path, exchange="kraken")
    with pytest.raises(UnknownSymbol, match="write BASE/QUOTE"):
        fetch(tmp_path, "BTCUSDT")
    with pytest.raises(UsageError, match="not a folder"):
        fetch(tmp_path / "nowhere")


def test_a_mapping_names_files_columns_units_and_rules(tmp_path: Path):
    odd = hours().select(
        pl.col("opened_at").dt.strftime("%d.%m.%Y %I-%p").alias("when"),
        pl.col("open").alias("first"),
        "high",
        "low",
        "close",
        pl.col("volume").alias("amount"),
    )
    (tmp_path / "my-export.csv").write_text("exported by hand\n" + odd.write_csv())
    write_mapping(
        tmp_path,
        """
        files:
          - {file: my-export.csv, exchange: kraken, symbol: BTC/USDT, timeframe: 1h, skip_rows: 1, time_format: "%d.%m.%Y %I-%p",
             columns: {opened_at: when, open: first, volume: amount}}
        instruments:
          BTC/USDT: {price_tick: 0.5, quantity_step: 0.001, min_notional: 5, taker_fee_bps: 26}
        """,
    )
    assert fetch(tmp_path).candles.equals(hours())
    rule = asyncio.run(FilesMarket(str(tmp_path), "kraken", NOW_MS).instruments(("BTC/USDT",)))["BTC/USDT"]
    assert (rule.price_tick, rule.quantity_step, rule.min_notional, rule.taker_fee_bps) == (
        Decimal("0.5"),
        Decimal("0.001"),
        5,
        26,
    )
    assert (rule.base, rule.quote, rule.maker_fee_bps) == ("BTC", "USDT", 10)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("files: [{file: a.csv, tiemframe: 1h}]", r"files\.0\.tiemframe"),
        ("files: [{file: absent.csv, symbol: A/B, timeframe: 1h}]", "'absent.csv' is not a file"),
        ("files: [{file: a.csv}]", "does not say symbol and timeframe"),
        ("files: [{file: a.csv, columns: {price: x}}]", r"files\.0\.columns"),
        ("instruments: {BTC/USDT: {price_tick: -1}}", "greater than 0"),
        ("files: [", "not YAML"),
    ],
)
def test_a_mapping_that_cannot_be_used_is_refused(tmp_path: Path, text: str, says: str):
    hours().write_csv(tmp_path / "a.csv")
    write_mapping(tmp_path, text)
    with pytest.raises(SettingsError, match=says):
        FilesMarket(str(tmp_path), None, NOW_MS)


def test_rules_are_inferred_where_nothing_says_them(tmp_path: Path):
    hours().write_parquet(tmp_path / "x_BTCUSDT_1h.parquet")
    tiny = hours().with_columns(pl.col("open", "high", "low", "close") * 5.33e-7)
    tiny.write_parquet(tmp_path / "x_ADABTC_1h.parquet")
    rules = asyncio.run(FilesMarket(str(tmp_path), None, NOW_MS).instruments(("BTC/USDT", "ADA/BTC")))
    assert rules["BTC/USDT"].price_tick == Decimal("0.01"), "99.25 has two decimals"
    assert rules["ADA/BTC"].price_tick == Decimal("1e-8")
    assert (rules["BTC/USDT"].quantity_step, rules["BTC/USDT"].min_notional) == (Decimal("1e-8"), 0)


def test_the_files_are_replayed_by_the_clock(tmp_path: Path):
    hours(24).write_parquet(tmp_path / "x_BTCUSDT_1h.parquet")
    page = fetch(tmp_path, now_ms=parse_utc("2024-01-01T10:00"))
    assert page.candles.equals(hours(10))
    assert page.forming is None, "at the very moment of its open nothing has traded"
    page = fetch(tmp_path, now_ms=parse_utc("2024-01-01T10:59"))
    assert page.candles.equals(hours(10))
    assert page.forming is not None
    assert (page.forming.opened_at_ms, page.forming.open) == (parse_utc("2024-01-01T10:00"), 110.0)
    assert fetch(tmp_path).forming is None
    market = FilesMarket(str(tmp_path), None, NOW_MS)
    late = asyncio.run(market.fetch("BTC/USDT", "1h", parse_utc("2024-01-01T20:00"), NOW_MS))
    assert late.candles.equals(hours(24)[20:])
    assert asyncio.run(market.clock()).now_ms == NOW_MS


def test_a_changed_file_or_mapping_changes_the_fingerprint(tmp_path: Path):
    path = tmp_path / "x_BTCUSDT_1h.parquet"
    hours(24).write_parquet(path)

    def fingerprint() -> str:
        return FilesMarket(str(tmp_path), None, NOW_MS).fingerprint("BTC/USDT", "1h")

    seen = [fingerprint()]
    assert fingerprint() == seen[0]
    hours(23).write_parquet(path)
    seen.append(fingerprint())
    os.utime(path, ns=(0, 0))
    seen.append(fingerprint())
    write_mapping(tmp_path, "files: [{file: x_BTCUSDT_1h.parquet, columns: {volume: open}}]")
    seen.append(fingerprint())
    assert len(set(seen)) == 4


def test_folder_and_exchange_make_the_name_in_the_lake(tmp_path: Path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").symlink_to("a")
    names = [
        FilesMarket(str(tmp_path / d), e, NOW_MS).series("BTC/USDT", "1h").market
        for d, e in (("a", None), ("b", None), ("a", "kraken"))
    ]
    assert names[0] == names[1] != names[2]
    assert names[0].startswith("files-")
    assert len(names[0]) == len("files-") + 8


def test_the_market_is_made_from_what_the_user_wrote(tmp_path: Path):
    hours(3).write_parquet(tmp_path / "kraken_BTCUSDT_1h.parquet")
    hours(4).write_parquet(tmp_path / "binance_BTCUSDT_1h.parquet")
    market = FilesMarket.from_name(f"files:{tmp_path}#kraken", NOW_MS)
    assert market.name == f"files:{tmp_path}#kraken"
    assert asyncio.run(market.fetch("BTC/USDT", "1h", 0, NOW_MS)).candles.height == 3
    (tmp_path / "odd#name").mkdir()
    assert FilesMarket.from_name(f"files:{tmp_path}/odd#name", NOW_MS).name.endswith("odd#name")
    for name in ("files:", f"files:{tmp_path}#", "file:x", "files:#kraken"):
        with pytest.raises(UsageError):
            FilesMarket.from_name(name, NOW_MS)


def real(folder: str, symbol: str, timeframe: str, exchange: str | None = None, mapping: Path | None = None) -> ValidatedCandles:
    now_ms = parse_utc("2026-11-01")
    market = FilesMarket(str(DATA / folder), exchange, now_ms, mapping)
    page = asyncio.run(market.fetch(symbol, timeframe, 0, now_ms))
    return validate_candles(page.candles, market.series(symbol, timeframe), now_ms)


@needs_shared
@pytest.mark.parametrize(
    ("symbol", "timeframe", "exchange", "rows", "gaps"),
    [
        ("ETH/USDT", "4h", "binance", 19052, 8),
        ("BTC-USDT", "1m", "binance", 130708, 0),
        ("XLM/USDT:USDT", "1m", None, 48105, 0),
        ("BTC/USD", "1d", "bitfinex", 1910, 0),
    ],
)
def test_real_files_are_read_as_they_were_counted(symbol: str, timeframe: str, exchange: str | None, rows: int, gaps: int):
    answer = real("candles", symbol.replace("-", "/"), timeframe, exchange)
    assert answer.candles.height == rows
    assert sum(finding.kind == "gap" for finding in answer.findings) == gaps
    market = FilesMarket(str(DATA / "candles"), exchange, NOW_MS)
    ticks = {"BTC/USDT": "0.01", "ETH/USDT": "0.01"}
    if symbol in ticks:
        assert asyncio.run(market.instruments((symbol,)))[symbol].price_tick == Decimal(ticks[symbol])


@needs_shared
def test_two_real_collections_of_one_market_are_ambiguous_until_the_mapping_chooses(tmp_path: Path):
    with pytest.raises(AmbiguousCandles, match=r"binance_BTCUSDT_1h\.parquet, binance_BTCUSDT_1h_2017-2024\.parquet"):
        real("candles", "BTC/USDT", "1h", "binance")
    with pytest.raises(AmbiguousCandles, match=r"#binance or #cdd-binance"):
        real("candles", "BTC/USDT", "1d")
    mapping = write_mapping(tmp_path, "files: [{file: binance_BTCUSDT_1h_2017-2024.parquet}]")
    assert real("candles", "BTC/USDT", "1h", "binance", mapping).candles.height == 58419


REPAIRABLE = """
files:
  - {file: binance_BTCUSDT_1h_mixed_units_and_duplicates.csv, columns: {opened_at: %s}}
  - {file: gemini_BTCUSD_1d_broken.csv, skip_rows: 1, columns: {opened_at: %s}}
  - {file: coinbase_BTCUSD_1h_out_of_order.csv, time_format: "%%Y-%%m-%%d %%I-%%p", columns: {volume: volume_btc}}
  - {file: bitstamp_BTCUSD_1h_swapped_volume.csv, columns: {opened_at: %s}}
  - {file: ADA_BTC_5m_gappy.feather, exchange: binance, symbol: ADA/BTC, timeframe: 5m}
"""


@needs_shared
@pytest.mark.parametrize(
    ("symbol", "timeframe", "exchange", "time", "says"),
    [
        ("BTC/USDT", "1h", "binance", None, r"\['unix', 'date'\] for opened_at"),
        ("BTC/USDT", "1h", "binance", "unix", r"mixes units: 28,584 rows look like s, 7,478 rows look like ms"),
        ("BTC/USDT", "1h", "binance", "date", r"28584 of 36062 times are not ISO 8601 in one form"),
        ("BTC/USD", "1d", "gemini", None, r"skip_rows"),
        ("BTC/USD", "1d", "gemini", "unix", r"806 rows look like s, 2,336 rows look like ms"),
        ("BTC/USD", "1d", "gemini", "date", r"2811 of 3142 bars do not open on the 1d grid"),
        ("BTC/USD", "1h", "coinbase", None, r"\['volume_btc', 'volume'\] for volume"),
        ("BTC/USD", "1h", "bitstamp", None, r"\['unix', 'date'\] for opened_at"),
        ("BTC/USD", "1h", "bitstamp", "unix", r"contradict the price in 20,143 of 30,355 rows.*swapped"),
        ("BTC/USD", "1h", None, None, r"answered by 2 files"),
        ("ADA/BTC", "5m", None, None, r"there is BTC \(ADA\).*candlewick-files.yaml"),
    ],
)
def test_a_real_defect_is_a_clear_refusal(
    tmp_path: Path, symbol: str, timeframe: str, exchange: str | None, time: str | None, says: str
):
    mapping = write_mapping(tmp_path, REPAIRABLE % (time, time, time)) if time else None
    with pytest.raises(CandlewickError, match=says):
        real("defects", symbol, timeframe, exchange, mapping)


@needs_shared
def test_a_real_defect_that_can_be_repaired_is_repaired_and_said(tmp_path: Path):
    mapping = write_mapping(tmp_path, REPAIRABLE % ("unix", "unix", "unix"))
    answer = real("defects", "BTC/USD", "1h", "coinbase", mapping)
    assert answer.candles["opened_at"].is_sorted()
    assert {"out_of_order", "zero_volume", "repeated_candle"} <= {finding.kind for finding in answer.findings}
    gappy = real("defects", "ADA/BTC", "5m", None, mapping)
    assert {finding.kind for finding in gappy.findings} == {"gap"}
