"""A user's own file: what is found in it, what is made of it, and what nobody may guess."""

import gzip
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from candlewick.candles import Series
from candlewick.errors import AmbiguousImport, CandlewickError, InvalidCandles, SettingsError
from candlewick.lake import Lake
from candlewick.market_data.coverage import Coverage, Span
from candlewick.market_data.importing_schema import read_import_schema
from candlewick.market_data.kinds import DataSeries
from candlewick.timeframes import parse_utc
from tests.imported_files import HOURS, NOW_MS, hours, imported, kinds, said, unix, with_times, write

OPENED = pl.col("opened_at")
TOLD = {
    "s": unix() // 1000,
    "s.0": (unix() / 1000).cast(pl.String()),
    "ms": unix(),
    "us": unix(1000),
    "ns": unix(1_000_000),
    "iso": OPENED.dt.strftime("%Y-%m-%d %H:%M:%S"),
    "iso-T": OPENED.dt.strftime("%Y-%m-%dT%H:%M:%SZ"),
    "zone": (OPENED.dt.convert_time_zone("Asia/Kolkata")).dt.strftime("%Y-%m-%d %H:%M:%S%z"),
    "slash": OPENED.dt.strftime("%Y/%m/%d %H:%M"),
    "am-pm": OPENED.dt.strftime("%Y-%m-%d %I-%p"),
    "day-first": OPENED.dt.strftime("%d.%m.%Y %H:%M"),
    "month-first": OPENED.dt.strftime("%m/%d/%Y %I:%M %p"),
}


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    form=st.sampled_from(sorted(TOLD)),
    delimiter=st.sampled_from([",", ";", "\t", "|"]),
    newest_first=st.booleans(),
    above=st.sampled_from([[], ["https://www.example.com"], ["exported by hand", "on a Sunday"]]),
    packed=st.booleans(),
    bars=st.integers(400, 500),
)
def test_candles_are_the_same_however_a_file_tells_them(
    tmp_path: Path, form: str, delimiter: str, newest_first: bool, above: list[str], packed: bool, bars: int
) -> None:
    told = with_times(hours(bars), TOLD[form])
    text = "\n".join([*above, (told.reverse() if newest_first else told).write_csv(separator=delimiter)])
    path = tmp_path / ("mine.csv.gz" if packed else "mine.csv")
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    lake = Lake(str(tmp_path / f"lake-{form}-{ord(delimiter)}-{newest_first}-{len(above)}-{packed}-{bars}"))
    report = imported(path, lake)
    assert lake.read(HOURS).equals(hours(bars))
    assert ("newest first" in said(report, "order")) == newest_first


@pytest.mark.parametrize("suffix", ["parquet", "feather", "arrow"])
def test_files_of_columns_are_read_like_texts(tmp_path: Path, lake: Lake, suffix: str) -> None:
    path = tmp_path / f"mine.{suffix}"
    frame = hours().rename({"opened_at": "ts"})
    frame.write_parquet(path) if suffix == "parquet" else frame.write_ipc(path, compression="lz4")
    assert imported(path, lake).added == 48
    assert lake.read(HOURS).equals(hours())


def test_an_import_covers_the_files_span_and_says_where_its_candles_come_from(tmp_path: Path, lake: Lake) -> None:
    with_hole = hours().filter(pl.int_range(pl.len()) != 10)
    report = imported(write(tmp_path / "mine.csv", with_times(with_hole, unix())), lake)
    assert lake.coverage(HOURS) == Coverage((Span(parse_utc("2024-01-01"), parse_utc("2024-01-03")),))
    assert "candles missing: 1 [1]" in said(report, "gaps")
    assert report.source == f"import:mine.csv#{report.digest[:8]}"
    (page,) = lake.pages(HOURS).iter_rows(named=True)
    assert page["body"] == (tmp_path / "mine.csv").read_text()
    (part,) = lake.folder(HOURS).glob("*.parquet")
    assert pl.read_parquet(part)["source"].unique().to_list() == [report.source]


def test_importing_again_changes_no_byte(tmp_path: Path, lake: Lake) -> None:
    path = write(tmp_path / "mine.csv", with_times(hours(), unix()))
    imported(path, lake)

    def bytes_of_all() -> dict[str, bytes]:
        return {str(file): file.read_bytes() for file in sorted((tmp_path / "lake").rglob("*")) if file.is_file()}

    before = bytes_of_all()
    assert imported(path, lake).added == 0
    assert bytes_of_all() == before


def test_the_lake_keeps_what_it_has_where_a_second_file_says_otherwise(tmp_path: Path, lake: Lake) -> None:
    imported(write(tmp_path / "first.csv", with_times(hours(), unix())), lake)
    other = hours().with_columns(pl.when(pl.int_range(pl.len()) == 47).then(20099.0).otherwise("close").alias("close"))
    other = other.with_columns(pl.max_horizontal("high", "close").alias("high"))
    report = imported(write(tmp_path / "second.csv", with_times(other, unix())), lake)
    assert (report.added, kinds(report)) == (0, {"revised"})
    assert lake.read(HOURS).equals(hours())


def test_a_dry_run_judges_and_writes_nothing(tmp_path: Path) -> None:
    report = imported(write(tmp_path / "mine.csv", with_times(hours(), unix())), None)
    assert (report.kept, report.added, report.dry_run) == (48, 0, True)
    assert [file.name for file in tmp_path.iterdir()] == ["mine.csv"]


def test_a_dump_without_a_header_is_known_by_its_columns(tmp_path: Path, lake: Lake) -> None:
    dump = hours().select(
        unix(1000).alias("a"), *("open", "high", "low", "close", "volume"), (unix(1000) + 3_599_999_999).alias("b"),
        (pl.col("close") * pl.col("volume")).alias("c"), *(pl.lit(number).alias(f"d{number}") for number in range(4)),
    )  # fmt: skip
    report = imported(write(tmp_path / "BTCUSDT-1h-2025-01.csv", dump, header=False), lake)
    assert lake.read(HOURS).equals(hours())
    assert "microseconds" in said(report, "time")
    assert "quote over base is the price in 48 rows" in said(report, "volume")
    strange = dump.select("a", "open", "high", "low", "close")
    with pytest.raises(AmbiguousImport, match="no header and 5 columns, called column_1 to column_5"):
        imported(write(tmp_path / "five.csv", strange, header=False), lake)


def test_date_and_time_in_two_columns_belong_together(tmp_path: Path, lake: Lake) -> None:
    split = hours().select(
        OPENED.dt.strftime("%Y.%m.%d").alias("<DATE>"), OPENED.dt.strftime("%H:%M:%S").alias("<TIME>"),
        *(pl.col(name).alias(f"<{name.upper()}>") for name in ("open", "high", "low", "close")), pl.col("volume").alias("<VOL>"),
    )  # fmt: skip
    imported(write(tmp_path / "mine.csv", split, "\t"), lake)
    assert lake.read(HOURS).equals(hours())


def test_numbers_with_a_decimal_comma_are_read_when_that_is_said(tmp_path: Path, lake: Lake) -> None:
    comma = with_times(hours(), unix()).with_columns(
        pl.col(name).cast(pl.String()).str.replace(".", ",", literal=True) for name in ("open", "high", "low", "close", "volume")
    )
    path = write(tmp_path / "mine.csv", comma, ";")
    assert "'open' holds what is no number in 48 rows" in refused(path)
    imported(path, lake, {"decimal": ","})
    assert lake.read(HOURS).equals(hours())


def test_an_index_without_a_name_is_the_time_and_a_column_that_is_none_is_not_used(tmp_path: Path, lake: Lake) -> None:
    index = with_times(hours(), OPENED.dt.strftime("%Y-%m-%d %H:%M:%S"), name="")
    imported(write(tmp_path / "index.csv", index), lake)
    assert lake.read(HOURS).equals(hours())
    weekdays = with_times(hours(), unix()).with_columns(pl.lit("Monday").alias("day"))
    report = imported(write(tmp_path / "days.csv", weekdays), lake)
    assert "'day' is no time [None] not used" in said(report, "time")


def test_an_import_that_was_killed_ends_like_one_that_was_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("candlewick.market_data.importing_lake._ROWS_AT_ONCE", 8000)
    path = write(tmp_path / "mine.csv", with_times(hours(24 * 800), unix()))

    def silver(lake: Lake) -> dict[str, bytes]:
        return {file.name: file.read_bytes() for file in sorted(lake.folder(HOURS).iterdir())}

    whole, broken = Lake(str(tmp_path / "whole")), Lake(str(tmp_path / "broken"))
    imported(path, whole)

    def killed(*given: object) -> object:
        monkeypatch.undo()
        raise KeyboardInterrupt

    append = Lake.append_rows
    calls = iter([append, killed])
    monkeypatch.setattr(Lake, "append_rows", lambda *given: next(calls)(*given))
    with pytest.raises(KeyboardInterrupt):
        imported(path, broken)
    assert 0 < broken.overview(HOURS).rows < 24 * 800
    assert imported(path, broken).added < 24 * 800
    assert silver(broken) == silver(whole)
    assert broken.pages(HOURS)["digest"].to_list() == whole.pages(HOURS)["digest"].to_list()


def test_units_may_change_from_row_to_row_and_that_is_said(tmp_path: Path, lake: Lake) -> None:
    row = pl.int_range(pl.len())
    mixed = pl.when(row < 20).then(unix() // 1000).when(row < 30).then(unix()).otherwise(unix(1000))
    report = imported(write(tmp_path / "mine.csv", with_times(hours(), mixed)), lake)
    assert lake.read(HOURS).equals(hours())
    assert said(report, "time").startswith("'time': 20 rows in unix seconds, 18 in unix microseconds, 10 in unix milliseconds")
    assert kinds(report) == {"mixed_units"}


def refused(path: Path, error: type[CandlewickError] = AmbiguousImport, **how: object) -> str:
    """The text of the refusal."""
    with pytest.raises(error) as caught:
        imported(path, None, **how)  # type: ignore[arg-type]
    return str(caught.value)


def test_a_date_whose_day_may_be_its_month_is_refused_until_the_user_says_which(tmp_path: Path, lake: Lake) -> None:
    days = hours(24 * 12)[::24]
    path = write(tmp_path / "days.csv", with_times(days, OPENED.dt.strftime("%d/%m/%Y")))
    text = refused(path, timeframe="1d")
    assert "12 dates in 'time' may be day-first or month-first" in text
    assert "line 3: 02/01/2024," in text
    imported(path, lake, {"day_first": True}, timeframe="1d")
    assert lake.read(Series("mine", "BTC/USDT", "1d"))["opened_at"].to_list() == days["opened_at"].to_list()
    row = pl.int_range(pl.len())
    both = pl.when(row % 2 == 0).then(OPENED.dt.strftime("%d/%m/%Y %H:%M")).otherwise(OPENED.dt.strftime("%m/%d/%Y %H:%M"))
    assert "both orders" in refused(write(tmp_path / "both.csv", with_times(hours(400), both)))


def test_a_number_that_is_no_time_is_refused_until_its_form_is_said(tmp_path: Path, lake: Lake) -> None:
    path = write(tmp_path / "days.csv", with_times(hours(96)[::24], OPENED.dt.strftime("%Y%m%d")))
    text = refused(path, timeframe="1d")
    assert "'time' has no time that can be read in one way in 4 rows" in text
    assert "line 2: 20240101," in text
    assert imported(path, lake, {"time_format": "%Y%m%d"}, timeframe="1d").added == 4


def test_clocks_of_another_zone_are_refused_where_they_leave_the_grid_and_read_where_they_are_named(
    tmp_path: Path, lake: Lake
) -> None:
    india = OPENED.dt.convert_time_zone("Asia/Kolkata").dt.strftime("%Y-%m-%d %H:%M")
    path = write(tmp_path / "mine.csv", with_times(hours(), india))
    text = refused(path)
    assert "48 of 48 rows do not open on the 1h grid in UTC" in text
    assert "timezone" in text
    imported(path, lake, {"timezone": "Asia/Kolkata"})
    assert lake.read(HOURS).equals(hours())


def test_an_hour_that_a_zones_clocks_show_twice_is_refused(tmp_path: Path) -> None:
    autumn = hours().with_columns(OPENED + (parse_utc("2024-10-26") - parse_utc("2024-01-01")) * pl.duration(milliseconds=1))
    berlin = OPENED.dt.convert_time_zone("Europe/Berlin").dt.strftime("%Y-%m-%d %H:%M")
    path = write(tmp_path / "mine.csv", with_times(autumn, berlin))
    assert "'time' has no time that can be read in one way in 2 rows" in refused(path, schema={"timezone": "Europe/Berlin"})


def test_two_columns_of_times_must_agree(tmp_path: Path, lake: Lake) -> None:
    iso = OPENED.dt.strftime("%Y-%m-%d %H:%M")
    both = hours().select(unix().alias("unix"), iso.alias("date"), "open", "high", "low", "close", "volume")
    assert "'date' agrees with 'unix' [48]" in said(imported(write(tmp_path / "mine.csv", both), lake), "time")
    wrong = both.with_columns(
        pl.when(pl.int_range(pl.len()) == 7).then(pl.lit("2024-01-01 08:00")).otherwise("date").alias("date")
    )
    text = refused(write(tmp_path / "wrong.csv", wrong))
    assert "'date' and 'unix' tell different times in 1 of 48 rows" in text
    assert "line 9: " in text
    assert imported(write(tmp_path / "wrong.csv", wrong), lake, {"columns": {"opened_at": "unix"}}).kept == 48
    local = both.with_columns(hours().select(OPENED.dt.offset_by("5h").dt.strftime("%Y-%m-%d %H:%M").alias("date")))
    assert "5h off 'unix': clocks of another zone" in said(imported(write(tmp_path / "local.csv", local), lake), "time")


def test_what_is_asked_for_must_be_what_the_file_has(tmp_path: Path, lake: Lake) -> None:
    path = write(tmp_path / "mine.csv", with_times(hours(), unix()))
    assert "all rows are 1h or a multiple of it apart, and 15m was asked for\n  ask for --timeframe 1h" in refused(
        path, timeframe="15m"
    )
    assert "36 of 48 rows do not open on the 4h grid" in refused(path, timeframe="4h")
    assert "most rows are 1h apart: ask for --timeframe 1h" in refused(path, timeframe="4h")
    named = hours().select(unix().alias("time"), pl.lit("ETHUSDT").alias("symbol"), "open", "high", "low", "close", "volume")
    assert "the file is of ETHUSDT (48 rows), and BTC/USDT was asked for" in refused(write(tmp_path / "eth.csv", named))
    both = pl.concat([named, named.with_columns(pl.lit("BTC-USDT").alias("symbol"), pl.col("close") + 1.0)])
    report = imported(write(tmp_path / "both.csv", both), lake)
    assert "BTC/USDT, and ETHUSDT (48 rows) [48] left out" in said(report, "symbol")
    assert lake.read(HOURS)["close"].to_list() == (hours()["close"] + 1).to_list()


def test_rows_in_the_future_are_refused(tmp_path: Path) -> None:
    late = hours().with_columns(OPENED + pl.duration(days=5000))
    assert "times in the future in 48 rows" in refused(write(tmp_path / "mine.csv", with_times(late, unix())))


def test_a_candle_that_has_not_closed_is_left_out(tmp_path: Path, lake: Lake) -> None:
    forming = hours().with_columns(OPENED + pl.duration(milliseconds=NOW_MS - parse_utc("2024-01-03") + 1_800_000))
    aligned = forming.with_columns(OPENED.dt.truncate("1h"))
    report = imported(write(tmp_path / "mine.csv", with_times(aligned, unix())), lake)
    assert report.kept == 48
    later = aligned.with_columns(OPENED + pl.duration(hours=1))
    report = imported(write(tmp_path / "later.csv", with_times(later, unix())), Lake(str(tmp_path / "other")))
    assert (report.kept, said(report, "last row")) == (47, "candles that have not closed yet [1] left out")


def test_values_that_cannot_be_true_are_refused_or_left_out_as_gaps(tmp_path: Path, lake: Lake) -> None:
    row = pl.int_range(pl.len())
    broken = hours().with_columns(
        pl.when(row == 3).then(0.0).otherwise("open").alias("open"),
        pl.when(row == 5).then(float("nan")).otherwise("close").alias("close"),
        pl.when(row == 7).then(1.0).otherwise("high").alias("high"),
        pl.when(row == 9).then(None).otherwise("volume").alias("volume"),
    )
    path = write(tmp_path / "mine.csv", with_times(broken, unix()))
    text = refused(path, InvalidCandles)
    assert "values that cannot be true in 4 of 48 rows" in text
    assert all(f"line {line}: " in text for line in (5, 7, 9, 11))
    report = imported(path, lake, drop_broken=True)
    assert (report.kept, kinds(report)) == (44, {"refused"})
    assert lake.read(HOURS).equals(hours().filter(~row.is_in([3, 5, 7, 9])))


def test_a_cell_that_is_no_number_is_refused_with_its_line(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.csv", with_times(hours(), unix()))
    path.write_text(path.read_text().replace("20002.25", '"20,002.25"', 1))
    text = refused(path)
    assert "'close' holds what is no number in 1 row:" in text
    assert "line 3: " in text


def test_different_candles_for_one_time_are_shown_and_settled_by_the_user(tmp_path: Path) -> None:
    again = hours()[10:12].with_columns(pl.col("close") + 1.5)
    path = write(tmp_path / "mine.csv", with_times(pl.concat([hours(), again]), unix()))
    text = refused(path)
    assert (
        "2 times are there with different candles (2 with different prices), such as 2024-01-01 10:00 UTC in the lines 12, 50"
        in text
    )
    assert "line 12: 1704103200000,20010.25,20020.5,20000.0,20011.25" in text
    assert "line 50: 1704103200000,20010.25,20020.5,20000.0,20012.75" in text
    for resolve, closes in (("first", [20011.25, 20012.25]), ("last", [20012.75, 20013.75]), ("drop", [])):
        lake = Lake(str(tmp_path / resolve))
        report = imported(path, lake, resolve=resolve)  # type: ignore[arg-type]
        kept = lake.read(HOURS, parse_utc("2024-01-01T10:00"), parse_utc("2024-01-01T12:00"))
        assert kept["close"].to_list() == closes
        assert kinds(report) == {"resolved_duplicate", "out_of_order"}


def test_rows_that_repeat_a_candle_or_round_its_volume_are_dropped_and_the_exact_one_is_kept(tmp_path: Path, lake: Lake) -> None:
    exact = hours().with_columns(pl.col("volume") + 0.123456)
    rounded = exact[20:30].with_columns(pl.col("volume").round(2))
    path = write(tmp_path / "mine.csv", with_times(pl.concat([rounded, exact, exact[40:]]), unix()))
    report = imported(path, lake)
    assert lake.read(HOURS).equals(exact)
    assert "10 of them with a rounded volume [18]" in said(report, "duplicates")
    assert kinds(report) == {"duplicate", "out_of_order"}


def test_a_cut_last_line_is_left_out_and_any_other_torn_line_is_refused(tmp_path: Path, lake: Lake) -> None:
    whole = with_times(hours(), unix()).write_csv()
    path = tmp_path / "mine.csv"
    path.write_text(whole.rstrip("\n")[:-30])
    report = imported(path, lake)
    assert (report.kept, said(report, "last row")) == (47, "the last line is cut off [1] left out")
    lines = whole.splitlines()
    path.write_text(
        "\n".join([*lines[:10], "", "1704070800000,1,2", *lines[10:20], lines[20].replace("1704", "noon", 1), *lines[21:]])
    )
    text = refused(path)
    assert "lines with another number of cells than the header: 1\n    line 12: 1704070800000,1,2" in text
    assert "    line 23: noon135600000," in text, "what comes after torn and empty lines keeps its number"


def volumes(candles: pl.DataFrame) -> pl.DataFrame:
    """The candles with both volumes, as files of CryptoDataDownload name them."""
    quote = (pl.col("volume") * pl.col("close")).alias("Volume USDT")
    return candles.select(unix().alias("unix"), "open", "high", "low", "close", pl.col("volume").alias("Volume BTC"), quote)


def swapped(told: pl.DataFrame, where: pl.Expr) -> pl.DataFrame:
    """Base and quote volume in each other's column in some rows."""
    base, quote = pl.col("Volume BTC"), pl.col("Volume USDT")
    return told.with_columns(
        pl.when(where).then(quote).otherwise(base).alias("Volume BTC"),
        pl.when(where).then(base).otherwise(quote).alias("Volume USDT"),
    )


def test_swapped_volumes_are_proved_by_the_price_and_swapped_back(tmp_path: Path, lake: Lake) -> None:
    row = pl.int_range(pl.len())
    quiet = hours().with_columns(pl.when(row.is_in([3, 40])).then(0.0).otherwise("volume").alias("volume"))
    path = write(tmp_path / "mine.csv", swapped(volumes(quiet), (row < 20) | (row == 30)))
    report = imported(path, lake)
    assert lake.read(HOURS).equals(quiet)
    assert "swapped in 20 rows, proved by the price" in said(report, "volume")
    assert kinds(report) == {"swapped_volume"}


def test_volumes_that_prove_nothing_are_refused_or_read_as_said(tmp_path: Path, lake: Lake) -> None:
    row = pl.int_range(pl.len())
    halved = volumes(hours()).with_columns(pl.when(row == 5).then(pl.col("Volume USDT") * 1e6).otherwise("Volume USDT"))
    text = refused(write(tmp_path / "false.csv", halved))
    assert "contradict the price in 1 row" in text
    assert "line 7: " in text
    assert imported(tmp_path / "false.csv", lake, {"volume": "base"}).kept == 48
    near_one = [pl.col(name) / 20000 for name in ("open", "high", "low", "close")]
    stable = swapped(volumes(hours().with_columns(near_one)), row < 20)
    silent = imported(write(tmp_path / "stable.csv", stable), None)
    assert "no row's price tells them apart" in said(silent, "volume")
    border = swapped(volumes(hours()), row < 20).with_columns(
        pl.when(row == 20).then(0.0).otherwise("Volume USDT").alias("Volume USDT")
    )
    text = refused(write(tmp_path / "border.csv", border))
    assert "between swapped and unswapped volumes 1 row cannot be told" in text


def test_the_schema_settles_which_volume_is_which(tmp_path: Path) -> None:
    row = pl.int_range(pl.len())
    path = write(tmp_path / "mine.csv", swapped(volumes(hours()), row < 24))
    for schema in ({"volume": {"swapped_before": "2024-01-02"}}, {}):
        lake = Lake(str(tmp_path / f"lake-{len(schema)}"))
        imported(path, lake, schema)
        assert lake.read(HOURS).equals(hours())
    path = write(tmp_path / "turned.csv", swapped(volumes(hours()), row >= 0))
    imported(path, lake, {"volume": "quote"}, source="turned")
    assert lake.read(HOURS).equals(hours())
    alone = volumes(hours()).drop("Volume BTC").rename({"Volume USDT": "volume"})
    other = Lake(str(tmp_path / "lake-quote"))
    report = imported(write(tmp_path / "alone.csv", alone), other, {"volume": "quote"})
    assert "divided by the bar's mean price" in said(report, "volume")
    assert (other.read(HOURS)["volume"] / hours()["volume"] - 1).abs().max() < 1e-3  # type: ignore[operator]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("columns: {opend: x}", "opend"),
        ("time_unit: minutes", "time_unit"),
        ("timezone: Mars/Base", "no time zone"),
        ("volume: {swapped_before: soon}", "swapped_before"),
        ("skip_rows: -1", "skip_rows"),
        ("columns: [", "not YAML"),
    ],
)
def test_a_schema_that_cannot_be_used_is_refused(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "schema.yaml").write_text(text)
    with pytest.raises(SettingsError, match=says):
        read_import_schema(tmp_path / "schema.yaml")


@pytest.mark.parametrize("name", ["mine.csv", "mine.csv.gz", "mine.parquet", "mine.feather"])
def test_a_file_that_is_no_table_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\x00\xff not, a\ntable, of, any kind" * 9)
    with pytest.raises(CandlewickError, match=rf"^{name}"):
        imported(tmp_path / name, None)
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(CandlewickError, match=name):
        imported(tmp_path / name, None)


def test_funding_is_imported_with_its_own_time_stamps(tmp_path: Path, lake: Lake) -> None:
    due = hours(48)[::8].select((unix() + 17).alias("calc_time"), (pl.col("volume") * 1e-5).alias("last_funding_rate"))
    path = write(tmp_path / "funding.csv", due)
    report = imported(path, lake, symbol="BTC/USDT:USDT", timeframe="", kind="funding_rate")
    assert (report.kept, report.added) == (6, 6)
    assert "milliseconds off the hour [6]" in said(report, "time")
    series = DataSeries("mine", "BTC/USDT:USDT", "funding_rate")
    assert lake.overview(series).rows == 6
    assert imported(path, lake, symbol="BTC/USDT:USDT", timeframe="", kind="funding_rate").added == 0
