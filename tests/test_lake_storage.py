"""The lake's promises hold wherever it is: in a local folder and in an S3-compatible object store."""

import asyncio
import io
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from candlewick import lake as lake_module
from candlewick.bronze import MOST_SMALL_FILES, PAGE_SCHEMA
from candlewick.candles import FormingBar, RawPage, Series
from candlewick.errors import LakeDamaged, LakeError, LakeTooNew, LakeUnavailable, SettingsError
from candlewick.footers import SeriesOverview
from candlewick.lake import Lake, compact_pages
from candlewick.lake_keys import folder_key
from candlewick.lake_opening import open_lake
from candlewick.market.sample import SampleMarket
from candlewick.market_data.coverage import Coverage, Span
from candlewick.market_data.kinds import DataSeries
from candlewick.market_data.schemas import OPEN_INTEREST_SCHEMA, TRADES_SCHEMA
from candlewick.settings import LakeSettings
from candlewick.storage import s3
from candlewick.storage.contract import Held
from candlewick.timeframes import DAY_MS, parse_utc
from candlewick.windows import plan_fetch
from tasks.candles import fetch_candles
from tasks.market import MarketAccess
from tests.object_store import lake_at, lake_settings, s3_server, strange_server
from tests.test_lake import DAILY, FETCHED, HOURLY, START_MS, candles

HOUR_MS = 3_600_000
TRADES = DataSeries("binance", "BTC/USDT", "trades")
INTEREST = DataSeries("binance", "BTC/USDT:USDT", "open_interest", "1h")
NewLake = Callable[[], Lake]


@pytest.fixture(scope="module")
def object_store() -> Iterator[str]:
    with s3_server() as endpoint:
        yield endpoint


@pytest.fixture(params=["local", "s3"])
def open_again(request: pytest.FixtureRequest, tmp_path: Path) -> NewLake:
    """Opens one and the same lake, as another process would."""
    if request.param == "local":
        return lambda: Lake(str(tmp_path / "lake"))
    endpoint = request.getfixturevalue("object_store")
    return lambda: lake_at(endpoint, tmp_path.name)


@pytest.fixture
def lake(open_again: NewLake) -> Lake:
    return open_again()


def hours(first: int, count: int) -> Span:
    return Span(START_MS + first * HOUR_MS, START_MS + (first + count) * HOUR_MS)


def harm(lake: Lake, series: Series, name: str, content: bytes) -> None:
    lake.write_in(folder_key(series), lambda held: held.write(name, content))


def names(lake: Lake, series: Series | DataSeries) -> list[str]:
    return lake.read_in(folder_key(series), lambda held: [name for name in held.names() if name != ".lock"])


def contents(lake: Lake, series: Series) -> dict[str, bytes | None]:
    return lake.read_in(folder_key(series), lambda held: {name: held.read(name) for name in held.names() if name != ".lock"})


def trades(first: int, count: int) -> pl.DataFrame:
    """Four trades at once every eight seconds, whose ids grow in length."""
    number = np.arange(first, first + count, dtype=np.int64)
    return pl.DataFrame(
        {
            "traded_at": START_MS + number // 4 * 8000,
            "trade_id": [str(one) for one in number],
            "price": 100.0 + number,
            "amount": 0.5,
            "side": pl.Series([("buy", "sell", None)[one % 3] for one in number], dtype=pl.String()),
        },
        schema=dict(TRADES_SCHEMA),
    )


def pages(first: int, count: int, minute: int = 0) -> list[RawPage]:
    return [
        RawPage(f"/klines?page={one}", datetime(2026, 1, 2, 3, minute, one % 60, tzinfo=UTC), 200, f"[[{one}]]")
        for one in range(first, first + count)
    ]


def test_a_chunk_is_read_back_with_its_coverage_by_whoever_opens_the_lake(lake: Lake, open_again: NewLake):
    report = lake.put_chunk(HOURLY, candles(0, 1500), hours(-10, 1510), "binance", FETCHED)
    assert (report.added, report.unchanged) == (1500, 0)
    other = open_again()
    assert other.read(HOURLY).equals(candles(0, 1500))
    assert other.read(HOURLY, START_MS + 700 * HOUR_MS, START_MS + 900 * HOUR_MS).equals(candles(700, 200))
    assert other.coverage(HOURLY) == Coverage((hours(-10, 1510),))
    assert names(other, HOURLY) == [".coverage", "2025-11.parquet", "2025-12.parquet", "2026-01.parquet"]


def test_an_empty_answer_covers_its_span_and_a_second_word_is_reported(lake: Lake):
    lake.put_chunk(HOURLY, candles(0, 0), hours(-50, 50), "binance", FETCHED)
    lake.put_chunk(HOURLY, candles(0, 10), hours(0, 10), "binance", FETCHED)
    report = lake.put_chunk(HOURLY, pl.concat([candles(8, 1, shift=0.5), candles(9, 3)]), hours(8, 4), "binance", FETCHED)
    assert (report.added, report.unchanged, report.conflicting.height) == (2, 1, 1)
    assert lake.read(HOURLY).equals(candles(0, 12))
    assert lake.coverage(HOURLY).spans == (hours(-50, 62),)


def test_a_kill_between_rows_and_coverage_leaves_the_span_to_be_asked_for_again(
    lake: Lake, open_again: NewLake, monkeypatch: pytest.MonkeyPatch
):
    class Killed(BaseException):
        pass

    def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(lake_module, "_set_coverage", die)
        with pytest.raises(Killed):
            lake.put_chunk(HOURLY, candles(0, 100), hours(0, 100), "binance", FETCHED)
    again = open_again()
    assert again.read(HOURLY).equals(candles(0, 100))
    assert again.coverage(HOURLY) == Coverage()
    assert again.put_chunk(HOURLY, candles(0, 100), hours(0, 100), "binance", FETCHED).unchanged == 100
    assert again.coverage(HOURLY).covers(hours(0, 100))


def test_what_is_uncovered_is_missing_and_its_bars_stay(lake: Lake):
    lake.put_chunk(HOURLY, candles(0, 100), hours(0, 100), "binance", FETCHED)
    lake.uncover(HOURLY, hours(40, 10))
    assert lake.coverage(HOURLY).missing(hours(0, 100)) == (hours(40, 10),)
    assert lake.read(HOURLY).height == 100
    lake.cover(HOURLY, hours(45, 5))
    assert lake.coverage(HOURLY).missing(hours(0, 100)) == (hours(40, 5),)


def test_a_lake_of_before_coverage_is_covered_from_where_it_was_asked_to_its_last_bar(lake: Lake):
    lake.append(HOURLY, candles(0, 100), "binance", FETCHED)
    assert lake.coverage(HOURLY) == Coverage(), "nobody said what was asked for"
    lake.set_fingerprint(HOURLY, str(START_MS - 5 * HOUR_MS))
    assert lake.coverage(HOURLY).spans == (hours(-5, 105),)
    lake.put_chunk(HOURLY, candles(200, 1), hours(200, 1), "binance", FETCHED)
    assert lake.coverage(HOURLY).spans == (hours(-5, 105), hours(200, 1))


def test_amended_bars_take_the_place_of_others_and_the_former_ones_are_answered(lake: Lake):
    lake.append(HOURLY, candles(0, 1000), "binance", FETCHED)
    offered = pl.concat([candles(240, 5), candles(245, 40, shift=1.0), candles(1000, 3)])
    before = lake.amend(HOURLY, offered, "repair", FETCHED)
    assert before.equals(candles(245, 40)), "those that agree are not answered; two months are concerned"
    assert lake.read(HOURLY).equals(pl.concat([candles(0, 245), candles(245, 40, shift=1.0), candles(285, 718)]))
    assert lake.amend(HOURLY, offered, "repair", FETCHED).is_empty()


def test_damaged_files_are_set_aside_and_their_span_is_asked_for_again(lake: Lake):
    lake.put_chunk(HOURLY, candles(0, 1500), hours(0, 1500), "binance", FETCHED)
    harm(lake, HOURLY, "2025-12.parquet", b"hello" * 100)
    with pytest.raises(LakeDamaged, match=r"2025-12\.parquet is damaged"):
        lake.read(HOURLY)
    with pytest.raises(LakeDamaged, match=r"2025-12\.parquet is damaged"):
        lake.overview(HOURLY)
    assert lake.set_aside(HOURLY) == ("2025-12.parquet",)
    december = Span(parse_utc("2025-12-01"), parse_utc("2026-01-01"))
    assert lake.coverage(HOURLY).missing(hours(0, 1500)) == (december,)
    assert "2025-12.parquet.damaged" in names(lake, HOURLY)
    assert lake.set_aside(HOURLY) == ()
    lake.put_chunk(HOURLY, candles(0, 1500), december, "binance", FETCHED)
    assert lake.read(HOURLY).equals(candles(0, 1500))


def test_a_file_of_other_columns_or_other_times_and_a_damaged_coverage_are_set_aside(lake: Lake):
    lake.put_chunk(HOURLY, candles(0, 1500), hours(0, 1500), "binance", FETCHED)
    january = lake.read_in(folder_key(HOURLY), lambda held: held.read("2026-01.parquet"))
    assert january is not None
    foreign = io.BytesIO()
    pl.DataFrame({"opened_at": [1], "close": ["x"]}).write_parquet(foreign)
    harm(lake, HOURLY, "2025-11.parquet", foreign.getvalue())
    harm(lake, HOURLY, "2026-02.parquet", january)
    harm(lake, HOURLY, ".coverage", b"[[1,")
    with pytest.raises(LakeError, match=r"\.coverage is damaged"):
        lake.coverage(HOURLY)
    assert set(lake.set_aside(HOURLY)) == {"2025-11.parquet", "2026-02.parquet", ".coverage"}
    assert lake.coverage(HOURLY) == Coverage(), "nothing is known of what was asked for"
    assert lake.read(HOURLY).equals(candles(264, 1500 - 264))


def test_trades_lie_in_files_of_a_day_in_the_order_of_their_ids(lake: Lake):
    rows = trades(0, 60_000)
    lake.append_rows(TRADES, rows[::2], None, "binance", FETCHED)
    report = lake.append_rows(TRADES, rows.sample(fraction=1, shuffle=True, seed=1), hours(0, 40), "binance", FETCHED)
    assert (report.added, report.unchanged, report.conflicting.height) == (30_000, 30_000, 0)
    assert lake.read_rows(TRADES).equals(rows), "9 before 10, whatever came first"
    assert names(lake, TRADES) == [".coverage", "2025-11-20.parquet", "2025-11-21.parquet"]
    some = lake.read_rows(TRADES, START_MS + 8000, START_MS + 24_000)
    assert some["trade_id"].to_list() == ["4", "5", "6", "7", "8", "9", "10", "11"]
    changed = trades(4, 2).with_columns(side=pl.Series([None, "buy"], dtype=pl.String()))
    assert lake.append_rows(TRADES, changed, None, "binance", FETCHED).conflicting.height == 2
    with pytest.raises(AssertionError, match="not unique"):
        lake.append_rows(TRADES, pl.concat([trades(0, 1), trades(0, 1)]), None, "binance", FETCHED)


def test_what_there_is_is_listed_and_summed_up_without_reading_rows(lake: Lake):
    interest = candles(0, 30).select(
        "opened_at", open_interest=pl.col("volume"), open_interest_value=pl.lit(None, dtype=pl.Float64())
    )
    assert interest.schema == OPEN_INTEREST_SCHEMA
    assert (lake.all_series(), lake.overview(HOURLY)) == ((), SeriesOverview(0, None, None, 0, 0))
    odd = Series("files-1f", "US-D/T_X:Y", "1h")
    lake.append(DAILY, candles(0, 100, "1d"), "binance", FETCHED)
    lake.append(odd, candles(0, 1), "binance", FETCHED)
    lake.append(HOURLY, candles(0, 1500), "binance", FETCHED)
    lake.append_rows(INTEREST, interest, None, "binance", FETCHED)
    lake.append_rows(TRADES, trades(0, 5), None, "binance", FETCHED)
    lake.put_pages(HOURLY, hours(0, 1), pages(0, 1))
    assert lake.all_series() == (HOURLY, DAILY, odd)
    assert set(lake.all_data_series()) == {*map(DataSeries.of_candles, lake.all_series()), INTEREST, TRADES}
    hourly, traded = lake.overview(HOURLY), lake.overview(TRADES)
    assert (hourly.rows, hourly.first_ms, hourly.last_ms, hourly.files) == (1500, START_MS, START_MS + 1499 * HOUR_MS, 3)
    assert hourly.bytes > 1500 * 8
    assert (traded.rows, traded.first_ms, traded.last_ms) == (5, START_MS, START_MS + 8000)
    assert lake.read_rows(INTEREST).equals(interest)
    assert lake.overview(INTEREST).last_ms == START_MS + 29 * HOUR_MS


def test_answers_are_kept_as_they_came_and_many_small_files_become_one_a_month(lake: Lake):
    assert lake.pages(HOURLY).schema == PAGE_SCHEMA
    lake.put_pages(HOURLY, hours(0, 2), pages(0, 2))
    lake.put_pages(HOURLY, hours(0, 2), pages(0, 2, minute=9))
    kept = lake.pages(HOURLY)
    assert kept.height == 2, "the same chunk again is the same file"
    assert kept["body"].to_list() == ["[[0]]", "[[1]]"]
    assert kept["fetched_at"].to_list() == [page.fetched_at for page in pages(0, 2, minute=9)], "as it came last"
    assert compact_pages(lake, HOURLY) == 0
    for number in range(2, MOST_SMALL_FILES + 2):
        lake.put_pages(HOURLY, hours(10 * number, 1), pages(number, 1))
    before = lake.pages(HOURLY)
    assert compact_pages(lake, HOURLY) == MOST_SMALL_FILES + 1
    assert lake.pages(HOURLY).equals(before)
    files = lake.read_in(folder_key(HOURLY, "bronze"), lambda held: [name for name in held.names() if name[0] != "."])
    assert files == ["2025-11.parquet", "2025-12.parquet"]
    lake.put_pages(HOURLY, hours(20, 1), pages(2, 1))
    assert lake.pages(HOURLY).equals(before), "an answer that is in two files is told once"


def test_a_lake_of_a_newer_version_is_neither_read_nor_written(lake: Lake, open_again: NewLake):
    lake.append(HOURLY, candles(0, 10), "binance", FETCHED)
    lake.storage.writing("", lambda held: held.write("lake.json", b'{"version": 2}'))
    before = names(lake, HOURLY)
    newer = open_again()
    acts: tuple[Callable[[], object], ...] = (
        lambda: newer.read(HOURLY),
        lambda: newer.put_chunk(HOURLY, candles(10, 5), hours(10, 5), "binance", FETCHED),
        lambda: newer.put_note(HOURLY, "x"),
        lambda: newer.all_series(),
    )
    for act in acts:
        with pytest.raises(LakeTooNew, match=r"lake\.json says version 2; .* up to version 1: update"):
            act()
    assert names(lake, HOURLY) == before
    lake.storage.writing("", lambda held: held.write("lake.json", b"{}"))
    with pytest.raises(LakeDamaged, match=r"lake\.json is damaged"):
        open_again().read(HOURLY)


def test_what_is_kept_beside_a_series_is_kept(lake: Lake, open_again: NewLake):
    assert (lake.forming(HOURLY), lake.notes(HOURLY), lake.fingerprint(HOURLY)) == (None, {}, None)
    lake.set_forming(HOURLY, FormingBar(START_MS, 0.1))
    lake.set_forming(HOURLY, FormingBar(START_MS, 0.3))
    lake.put_note(HOURLY, "one")
    lake.put_note(HOURLY, "one")
    lake.put_note(HOURLY, "two")
    other = open_again()
    assert other.forming(HOURLY) == FormingBar(START_MS, 0.3)
    assert sorted(other.notes(HOURLY).values()) == ["one", "two"]
    other.drop_notes(HOURLY, [*other.notes(HOURLY), "gone.note"])
    assert lake.notes(HOURLY) == {}
    lake.append(HOURLY, candles(0, 1500), "files", FETCHED)
    lake.set_fingerprint(HOURLY, "before")
    lake.replace(HOURLY, candles(0, 600), "files", FETCHED)
    assert (other.fingerprint(HOURLY), other.read(HOURLY).height) == (None, 600)


def test_two_writers_of_one_series_at_once_lose_and_double_nothing(open_again: NewLake):
    """Threads here; processes in tests/test_lake.py. On an object store the slower one runs again."""
    added: list[int] = []

    def write(part: int) -> None:
        lake = open_again()
        for step in range(10):
            first = 40 * step + 15 * part  # 30 bars each, half of them also the other's
            added.append(lake.put_chunk(HOURLY, candles(first, 30), hours(first, 30), "binance", FETCHED).added)

    writers = [threading.Thread(target=write, args=(part,)) for part in (0, 1)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    lake = open_again()
    assert len(added) == 20
    assert sum(added) == 405
    assert lake.read(HOURLY).equals(candles(0, 405))
    assert lake.coverage(HOURLY).spans == (hours(0, 405),)


def test_an_operation_that_was_overtaken_runs_again_on_what_is_there_then(object_store: str, tmp_path: Path):
    one, other = lake_at(object_store, tmp_path.name), lake_at(object_store, tmp_path.name)
    seen: list[bytes | None] = []

    def add(held: Held) -> None:
        before = held.read("list") or b""
        seen.append(before)
        if len(seen) < 3:
            other.write_in("folder", lambda held: held.write("list", b"other " * len(seen)))
        held.write("list", before + b"mine")

    one.write_in("folder", add)
    assert seen == [b"", b"other ", b"other other "]
    assert other.read_in("folder", lambda held: held.read("list")) == b"other other mine"


def test_a_reader_sees_only_what_its_listing_named(object_store: str, tmp_path: Path):
    one, other = lake_at(object_store, tmp_path.name), lake_at(object_store, tmp_path.name)
    for name in ("a", "b"):
        other.write_in("folder", lambda held, name=name: held.write(name, b"1"))
    seen: list[list[str]] = []

    def read_all(held: Held) -> bytes:
        seen.append(held.names())
        if len(seen) == 1:
            other.write_in("folder", lambda held: held.write("b", b"2"))
        return b"".join(held.read(name) or b"" for name in ("a", "b"))

    assert one.read_in("folder", read_all) == b"12"
    assert len(seen) == 2


def test_a_writer_that_is_overtaken_for_ever_says_so(object_store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(s3, "MOST_ATTEMPTS", 3)
    one, other = lake_at(object_store, tmp_path.name), lake_at(object_store, tmp_path.name)

    def add(held: Held) -> None:
        number = int(held.read("count") or 0)
        other.write_in("folder", lambda held: held.write("count", str(number + 1).encode()))
        held.write("count", b"0")

    with pytest.raises(LakeError, match="others wrote there first, 3 times in a row"):
        one.write_in("folder", add)


def test_an_object_store_that_is_away_slow_or_overloaded_is_named_without_credentials(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(s3, "MOST_RETRIES", 1)
    with (
        strange_server(503, "<Error><Code>SlowDown</Code></Error>") as (busy, requests),
        strange_server(200, "", 0.6) as (slow, _),
    ):
        for endpoint, timeout_s in ((busy, 5), (slow, 0.2), ("http://127.0.0.1:1", 1)):
            lake = open_lake(lake_settings(endpoint, timeout_s=timeout_s))
            with pytest.raises(LakeUnavailable, match=f"object store at {endpoint} did not serve it in 2 attempts") as told:
                lake.put_chunk(HOURLY, candles(0, 3), hours(0, 3), "binance", FETCHED)
            assert "loopback-" not in f"{told.value}{lake.url}{lake!r}"
        assert len(requests) == 2


def test_a_store_that_denies_access_and_a_bucket_that_is_not_there_are_named(object_store: str):
    denial = pytest.raises(LakeError, match=r"denies access: check lake\.access_key_id")
    with strange_server(403, "<Error><Code>AccessDenied</Code></Error>") as (closed, _), denial:
        open_lake(lake_settings(closed)).read(HOURLY)
    nowhere = open_lake(lake_settings(object_store, "s3://nowhere/desk"))
    acts: tuple[Callable[[], object], ...] = (
        lambda: nowhere.read(HOURLY),
        lambda: nowhere.append(HOURLY, candles(0, 1), "binance", FETCHED),
        lambda: nowhere.all_series(),
    )
    for act in acts:
        with pytest.raises(LakeError, match="has no bucket 'nowhere'"):
            act()


def test_the_address_of_a_lake_is_a_bucket_or_a_folder():
    for url in ("s3://", "s3:///desk", "s3://key:secret@bucket/desk", "s3://bucket/desk?x=1"):
        with pytest.raises(SettingsError, match="write s3://bucket/prefix"):
            open_lake(LakeSettings(url=url))
    lake = open_lake(lake_settings("http://127.0.0.1:1"))
    assert (lake.url, lake.scratch) == ("s3://lake/desk at http://127.0.0.1:1", Path("data/lake"))
    assert open_lake(LakeSettings(url="somewhere")).scratch == Path("somewhere")


_ENDLESS_WRITER = """
import sys
from candlewick.market_data.coverage import Span
from tests.object_store import lake_at
from tests.test_lake import FETCHED, HOURLY, START_MS, candles
lake = lake_at(sys.argv[1], sys.argv[2])
for first in range(0, 100_000, 100):
    span = Span(START_MS + first * 3_600_000, START_MS + (first + 100) * 3_600_000)
    lake.put_chunk(HOURLY, candles(first, 100), span, "x", FETCHED)
    print("put", flush=True)
"""


def test_a_writer_to_an_object_store_that_is_killed_leaves_only_what_is_whole(object_store: str, tmp_path: Path):
    command = [sys.executable, "-c", _ENDLESS_WRITER, object_store, tmp_path.name]
    writer = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).resolve().parents[1])
    assert writer.stdout is not None
    for _ in range(5):
        assert writer.stdout.readline() == b"put\n"
    writer.kill()
    writer.wait()
    writer.stdout.close()
    lake, whole = lake_at(object_store, tmp_path.name), lake_at(object_store, f"{tmp_path.name}-whole")
    kept, covered = lake.read(HOURLY).height, lake.coverage(HOURLY).spans[0]
    assert lake.read(HOURLY).equals(candles(0, kept))
    assert covered.until_ms <= START_MS + kept * HOUR_MS, "coverage never speaks of bars that are not there"
    for first in range(0, 2000, 100):
        lake.put_chunk(HOURLY, candles(first, 100), hours(first, 100), "x", FETCHED)
    whole.put_chunk(HOURLY, candles(0, 2000), hours(0, 2000), "x", FETCHED)
    assert contents(lake, HOURLY) == contents(whole, HOURLY)


def test_a_cycle_completes_a_series_wherever_the_lake_is(lake: Lake, open_again: NewLake):
    now_ms = parse_utc("2026-03-01T12:30")
    market, series = SampleMarket(now_ms), Series("sample", "BTC/USDT", "4h")
    plan = plan_fetch(lake, series, parse_utc("2026-02-01"), now_ms, None)
    fetched = asyncio.run(fetch_candles.fn(MarketAccess(market), plan, lake))
    assert fetched["added"] == lake.read(series).height > 150
    later = open_again()
    assert plan_fetch(later, series, parse_utc("2026-02-01"), now_ms, None).is_complete
    forming = later.forming(series)
    assert forming is not None
    assert fetched["forming"] == [forming.opened_at_ms, forming.open]


def test_what_the_settings_leave_open_comes_from_the_usual_variables(object_store: str, monkeypatch: pytest.MonkeyPatch):
    given = {"ENDPOINT_URL": object_store, "ACCESS_KEY_ID": "loopback-key", "SECRET_ACCESS_KEY": "loopback-secret"}
    for name, value in given.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    lake = open_lake(LakeSettings(url="s3://lake/variables"))
    lake.append(HOURLY, candles(0, 3), "binance", FETCHED)
    assert lake_at(object_store, "variables").read(HOURLY).height == 3


def test_daily_series_of_an_object_store_are_read_by_the_year(object_store: str, tmp_path: Path):
    lake = lake_at(object_store, tmp_path.name)
    lake.append(DAILY, candles(0, 100, "1d"), "binance", FETCHED)
    assert lake.read(DAILY, START_MS + 50 * DAY_MS).equals(candles(50, 50, "1d"))
