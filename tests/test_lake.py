"""The candle lake: nothing lost, nothing overwritten, whole or not at all."""

import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from candlewick import partitions
from candlewick.candles import CANDLE_SCHEMA, Series
from candlewick.errors import LakeError, SettingsError
from candlewick.lake import LAKE_SCHEMA, Lake
from candlewick.lake_keys import folder_key
from candlewick.market_data.coverage import Span
from candlewick.storage import local
from candlewick.timeframes import DAY_MS, parse_utc, timeframe_ms

HOURLY = Series("binance", "BTC/USDT", "1h")
DAILY = Series("binance", "BTC/USDT", "1d")
START_MS = parse_utc("2025-11-20")
FETCHED = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
REPOSITORY = Path(__file__).resolve().parents[1]


def candles(first: int, count: int, timeframe: str = "1h", shift: float = 0.0) -> pl.DataFrame:
    """`count` bars from bar number `first` after START_MS; the content is a function of the time and of `shift`."""
    times = START_MS + np.arange(first, first + count, dtype=np.int64) * timeframe_ms(timeframe)
    price = 100.0 + times // 60_000 % 9973 + shift
    return pl.DataFrame(
        {"opened_at": times, "open": price, "high": price + 2, "low": price - 1, "close": price + 1, "volume": price / 7},
        schema=dict(CANDLE_SCHEMA),
    )


def files(lake: Lake, series: Series) -> list[str]:
    return sorted(path.name for path in lake.folder(series).iterdir() if not path.name.startswith("."))


def test_what_was_appended_is_read_back_and_lies_in_monthly_files(tmp_path: Path):
    lake = Lake(str(tmp_path / "lake"))
    report = lake.append(HOURLY, candles(0, 1500), "binance", FETCHED)
    assert (report.added, report.unchanged, report.conflicting.height) == (1500, 0, 0)
    assert lake.read(HOURLY).equals(candles(0, 1500))
    assert files(lake, HOURLY) == ["2025-11.parquet", "2025-12.parquet", "2026-01.parquet"]
    folder = tmp_path / "lake/silver/exchange=binance/symbol=BTC-USDT/timeframe=1h"
    stored = pl.read_parquet(folder / "2025-12.parquet", hive_partitioning=False)
    assert stored.schema == dict(LAKE_SCHEMA)
    assert set(stored["source"]) == {"binance"}
    assert set(stored["fetched_at"]) == {FETCHED}


def test_daily_and_weekly_candles_lie_in_yearly_files(tmp_path: Path):
    lake = Lake(str(tmp_path))
    lake.append(DAILY, candles(0, 100, "1d"), "binance", FETCHED)
    assert files(lake, DAILY) == ["2025.parquet", "2026.parquet"]
    assert lake.read(DAILY, START_MS + 50 * DAY_MS, START_MS + 60 * DAY_MS).equals(candles(50, 10, "1d"))


def test_appending_again_changes_no_file(tmp_path: Path):
    lake = Lake(str(tmp_path))
    lake.append(HOURLY, candles(0, 1500), "binance", FETCHED)
    before = {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in lake.folder(HOURLY).iterdir()}
    report = lake.append(HOURLY, candles(0, 1500), "somebody else", FETCHED)
    assert (report.added, report.unchanged) == (0, 1500)
    assert {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in lake.folder(HOURLY).iterdir()} == before


def test_only_the_files_of_the_new_bars_are_rewritten(tmp_path: Path):
    lake = Lake(str(tmp_path))
    lake.append(HOURLY, candles(0, 1500), "binance", FETCHED)
    inodes = {path.name: path.stat().st_ino for path in lake.folder(HOURLY).iterdir()}
    lake.append(HOURLY, candles(1400, 110), "binance", FETCHED)
    changed = {path.name for path in lake.folder(HOURLY).iterdir() if inodes[path.name] != path.stat().st_ino}
    assert changed == {"2026-01.parquet"}


def test_a_bar_with_other_content_is_kept_as_it_was_and_reported(tmp_path: Path):
    lake = Lake(str(tmp_path))
    lake.append(HOURLY, candles(0, 10), "binance", FETCHED)
    offered = pl.concat([candles(5, 2), candles(7, 2, shift=0.5), candles(9, 3)])
    report = lake.append(HOURLY, offered, "binance", FETCHED)
    assert (report.added, report.unchanged) == (2, 3)
    assert report.conflicting["opened_at"].to_list() == candles(7, 2)["opened_at"].to_list()
    assert (report.conflicting["open_offered"] - report.conflicting["open"]).to_list() == [0.5, 0.5]
    assert lake.read(HOURLY).equals(candles(0, 12))


@settings(max_examples=25, deadline=None)
@given(
    spans=st.lists(st.tuples(st.integers(0, 90), st.integers(0, 40)), min_size=1, max_size=6),
    since=st.integers(-5, 130),
    until=st.integers(-5, 130),
)
def test_any_appends_in_any_order_hold_every_bar_once_and_any_window_reads_its_bars(
    tmp_path_factory: pytest.TempPathFactory, spans: list[tuple[int, int]], since: int, until: int
):
    lake = Lake(str(tmp_path_factory.mktemp("lake")))
    for first, count in spans:
        lake.append(DAILY, candles(first, count, "1d"), "binance", FETCHED)
    held = sorted({bar for first, count in spans for bar in range(first, first + count)})
    expected = pl.concat([candles(0, 0, "1d"), *(candles(bar, 1, "1d") for bar in held)])
    assert lake.read(DAILY).equals(expected)
    span = (START_MS + held[0] * DAY_MS, START_MS + held[-1] * DAY_MS) if held else None
    assert lake.span(DAILY) == span
    window = lake.read(DAILY, START_MS + since * DAY_MS, START_MS + until * DAY_MS)
    wanted = pl.Series([since <= bar < until for bar in held], dtype=pl.Boolean)
    assert window.equals(expected.filter(wanted))


def test_a_series_that_was_never_written_is_empty_and_reading_makes_no_folder(tmp_path: Path):
    lake = Lake(str(tmp_path / "nowhere"))
    assert lake.read(HOURLY).schema == dict(CANDLE_SCHEMA)
    assert lake.read(HOURLY).is_empty()
    assert lake.span(HOURLY) is None
    assert lake.fingerprint(HOURLY) is None
    assert not (tmp_path / "nowhere").exists()


def test_an_empty_page_adds_nothing(tmp_path: Path):
    lake = Lake(str(tmp_path))
    assert lake.append(HOURLY, candles(0, 0), "binance", FETCHED).added == 0
    assert lake.span(HOURLY) is None


def test_symbols_never_share_a_folder():
    symbols = ["BTC/USDT", "BTC-USDT", "BTC/USDT:USDT", "BTC%2FUSDT", "BTC_USDT", "../BTC/USDT", "BTC/US-DT"]
    folders = {Lake("lake").folder(Series("binance", symbol, "1h")) for symbol in symbols}
    assert len(folders) == len(symbols)
    assert {len(folder.parts) for folder in folders} == {5}


def test_replace_makes_the_candles_all_there_is_and_keeps_files_that_agree(tmp_path: Path):
    lake = Lake(str(tmp_path))
    lake.append(HOURLY, candles(0, 1500), "files", FETCHED)
    lake.set_fingerprint(HOURLY, "before")
    inode = (lake.folder(HOURLY) / "2025-11.parquet").stat().st_ino
    changed = pl.concat([candles(0, 600), candles(600, 20, shift=1.0)])
    lake.replace(HOURLY, changed, "files", FETCHED)
    assert lake.read(HOURLY).equals(changed)
    assert files(lake, HOURLY) == ["2025-11.parquet", "2025-12.parquet"]
    assert (lake.folder(HOURLY) / "2025-11.parquet").stat().st_ino == inode
    assert lake.fingerprint(HOURLY) is None, "until the caller says what it is made of now"
    lake.set_fingerprint(HOURLY, "after")
    assert Lake(str(tmp_path)).fingerprint(HOURLY) == "after"


def _append_slice(root: str, part: int) -> None:
    lake = Lake(root)
    for step in range(20):
        lake.append(HOURLY, candles(40 * step + part * 20, 20), f"writer {part}", FETCHED)


def test_two_processes_that_append_to_one_series_at_once_lose_nothing(tmp_path: Path):
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_append_slice, args=(str(tmp_path), part)) for part in (0, 1)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(timeout=60)
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert Lake(str(tmp_path)).read(HOURLY).equals(candles(0, 800))


def _content(root: Path) -> dict[str, bytes]:
    """Every file of silver by its path, the locks left out."""
    files = [path for path in sorted((root / "silver").rglob("*")) if path.is_file() and path.name != ".lock"]
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def _put_chunks(root: str, bounds: list[tuple[int, int]], series: Series = HOURLY) -> None:
    lake, length_ms = Lake(root), timeframe_ms(series.timeframe)
    for first, end in bounds:
        span = Span(START_MS + first * length_ms, START_MS + end * length_ms)
        lake.put_chunk(series, candles(first, end - first, series.timeframe), span, "binance", FETCHED)


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_chunks_of_any_size_in_any_order_and_any_number_of_times_end_in_the_same_bytes(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
):
    """Whatever was killed and begun again, in whatever pieces: silver and coverage hold no trace of it."""
    borders = sorted(data.draw(st.sets(st.integers(1, 399), max_size=5)) | {0, 400})
    chunks = list(pairwise(borders))
    again = data.draw(st.lists(st.sampled_from(chunks), max_size=3))
    across = data.draw(st.lists(st.tuples(st.integers(0, 199), st.integers(200, 400)), max_size=2))
    whole, pieces = tmp_path_factory.mktemp("whole"), tmp_path_factory.mktemp("pieces")
    _put_chunks(str(whole), [(0, 400)], DAILY)
    _put_chunks(str(pieces), data.draw(st.permutations(chunks + again + across)), DAILY)
    assert _content(pieces) == _content(whole)
    assert len(_content(whole)) == 3


def test_a_month_of_minutes_in_pieces_is_the_same_file_as_in_one(tmp_path: Path):
    """Large frames are written in the pieces they are held in, unless they are joined first."""
    minutes, end = Series("binance", "BTC/USDT", "1m"), 10 * 24 * 60
    _put_chunks(str(tmp_path / "whole"), [(0, end)], minutes)
    _put_chunks(str(tmp_path / "pieces"), [(0, 1000), (1000, end)], minutes)
    assert _content(tmp_path / "pieces") == _content(tmp_path / "whole")


def test_two_processes_that_put_the_same_series_at_once_end_in_the_same_bytes(tmp_path: Path):
    chunks = [(first, first + 50) for first in range(0, 1000, 50)]
    context = multiprocessing.get_context("spawn")
    root = str(tmp_path / "both")
    writers = [context.Process(target=_put_chunks, args=(root, order)) for order in (chunks, chunks[::-1])]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(timeout=60)
    assert [writer.exitcode for writer in writers] == [0, 0]
    _put_chunks(str(tmp_path / "one"), [(0, 1000)])
    assert _content(tmp_path / "both") == _content(tmp_path / "one")


_ENDLESS_WRITER = """
import sys
from tests.test_lake import FETCHED, HOURLY, candles
from candlewick.lake import Lake
lake = Lake(sys.argv[1])
print("writing", flush=True)
for bar in range(0, 100_000, 100):
    lake.append(HOURLY, candles(bar, 100), "binance", FETCHED)
"""


def test_a_writer_that_is_killed_at_any_moment_leaves_a_readable_lake_without_holes(tmp_path: Path):
    held = 0
    for delay_s in (0.0, 0.011, 0.037, 0.083):
        writer = subprocess.Popen([sys.executable, "-c", _ENDLESS_WRITER, str(tmp_path)], stdout=subprocess.PIPE, cwd=REPOSITORY)
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(delay_s)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        kept = Lake(str(tmp_path)).read(HOURLY)
        assert kept.height >= held
        assert kept.equals(candles(0, kept.height))
        held = kept.height
    lake = Lake(str(tmp_path))
    lake.append(HOURLY, candles(held, 1), "binance", FETCHED)
    assert lake.read(HOURLY).equals(candles(0, held + 1))
    assert not list(lake.folder(HOURLY).glob("*.tmp"))


_SUICIDAL_WRITER = """
import builtins, io, os, signal, sys
from tests.test_lake import FETCHED, HOURLY, candles
from candlewick import files as files_module
from candlewick.lake import Lake
die = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
class HalfAFile(io.FileIO):
    def write(self, content):
        super().write(bytes(content)[: len(content) // 2])
        die()
match sys.argv[2]:
    case "write": files_module.open = HalfAFile
    case moment: setattr(os, moment, die)
Lake(sys.argv[1]).append(HOURLY, candles(100, 100), "binance", FETCHED)
"""


@pytest.mark.parametrize("moment", ["write", "fsync", "replace"])
def test_a_writer_that_dies_before_its_rename_has_changed_nothing(tmp_path: Path, moment: str):
    lake = Lake(str(tmp_path))
    lake.append(HOURLY, candles(0, 100), "binance", FETCHED)
    writer = subprocess.run([sys.executable, "-c", _SUICIDAL_WRITER, str(tmp_path), moment], cwd=REPOSITORY, check=False)
    assert writer.returncode == -signal.SIGKILL
    assert list(lake.folder(HOURLY).glob("*.tmp")), "it died in the middle"
    assert lake.read(HOURLY).equals(candles(0, 100))
    lake.append(HOURLY, candles(100, 100), "binance", FETCHED)
    assert lake.read(HOURLY).equals(candles(0, 200))
    assert not list(lake.folder(HOURLY).glob("*.tmp"))


def test_what_a_dead_writer_left_is_cleaned_and_never_read(tmp_path: Path):
    lake = Lake(str(tmp_path))
    lake.append(HOURLY, candles(0, 10), "binance", FETCHED)
    leftover = lake.folder(HOURLY) / "2025-11.parquet.tmp"
    leftover.write_bytes(b"half a file")
    assert lake.read(HOURLY).equals(candles(0, 10))
    lake.append(HOURLY, candles(10, 1), "binance", FETCHED)
    assert not leftover.exists()


def test_a_crash_while_older_months_are_filled_in_leaves_no_hole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    lake = Lake(str(tmp_path))
    lake.append(HOURLY, candles(3000, 100), "binance", FETCHED)
    written: list[str] = []
    whole = partitions.write_partition
    monkeypatch.setattr(partitions, "write_partition", lambda held, name, rows: (written.append(name), whole(held, name, rows)))
    lake.append(HOURLY, candles(0, 4000), "binance", FETCHED)
    assert written == ["2026-03.parquet", "2026-04.parquet", "2026-05.parquet"] + [
        f"{month}.parquet" for month in ("2026-02", "2026-01", "2025-12", "2025-11")
    ]


def test_a_series_held_by_another_program_is_named_after_the_time_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    lake = Lake(str(tmp_path))
    lake.append(HOURLY, candles(0, 10), "binance", FETCHED)
    monkeypatch.setattr(local, "LOCK_TIMEOUT_S", 0.05)
    with pytest.raises(LakeError, match=r"\.lock has been held by another process"):
        lake.write_in(folder_key(HOURLY), lambda _held: Lake(str(tmp_path)).append(HOURLY, candles(10, 1), "binance", FETCHED))


@pytest.mark.parametrize("damage", ["empty", "truncated", "other"])
def test_a_damaged_file_is_named_and_not_overwritten(tmp_path: Path, damage: str):
    lake = Lake(str(tmp_path))
    lake.append(HOURLY, candles(0, 1500), "binance", FETCHED)
    path = lake.folder(HOURLY) / "2025-12.parquet"
    content = path.read_bytes()
    path.write_bytes({"empty": b"", "truncated": content[: len(content) // 2], "other": b"hello" * 100}[damage])
    harmed = path.read_bytes()
    for act in (lambda: lake.read(HOURLY), lambda: lake.append(HOURLY, candles(400, 10), "binance", FETCHED)):
        with pytest.raises(LakeError, match=r"2025-12\.parquet is damaged .* sets such files aside"):
            act()
    assert path.read_bytes() == harmed
    assert lake.read(HOURLY, until_ms=parse_utc("2025-12-01") - 1).height == 11 * 24 - 1 + 1


def test_a_parquet_file_that_is_no_lake_file_is_refused(tmp_path: Path):
    lake = Lake(str(tmp_path))
    lake.append(HOURLY, candles(0, 10), "binance", FETCHED)
    path = lake.folder(HOURLY) / "2025-11.parquet"
    pl.DataFrame({"a": [1]}).write_parquet(path)
    with pytest.raises(LakeError, match=r"2025-11\.parquet"):
        lake.read(HOURLY)
    candles(0, 10).reverse().with_columns(pl.lit("x").alias("source"), pl.lit(FETCHED).alias("fetched_at")).write_parquet(path)
    with pytest.raises(LakeError, match=r"2025-11\.parquet are not in order"):
        lake.read(HOURLY)


def test_a_disk_without_space_is_a_clear_error_and_what_was_there_stays(tmp_path: Path):
    lake = Lake(str(tmp_path))
    lake.append(HOURLY, candles(0, 100), "binance", FETCHED)
    # A limit on the size of files is the full disk that needs no root: a real refused write, half-way through the file.
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))
    try:
        with pytest.raises(LakeError, match=r"2025-11\.parquet cannot be written: no space left"):
            lake.append(HOURLY, candles(100, 100), "binance", FETCHED)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert lake.read(HOURLY).equals(candles(0, 100))
    assert files(lake, HOURLY) == ["2025-11.parquet"]
    assert lake.append(HOURLY, candles(100, 100), "binance", FETCHED).added == 100


@contextmanager
def _as_somebody_without_rights() -> Iterator[None]:
    """Root may write everywhere, so a test that runs as root steps down for a moment."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def test_a_read_only_folder_is_a_clear_error_and_still_readable():
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        lake = Lake(folder)
        lake.append(HOURLY, candles(0, 100), "binance", FETCHED)
        for path in lake.folder(HOURLY), lake.folder(HOURLY) / ".lock":
            path.chmod(0o555)
        with _as_somebody_without_rights():
            with pytest.raises(LakeError, match="must be writable"):
                lake.append(HOURLY, candles(100, 1), "binance", FETCHED)
            assert lake.read(HOURLY).equals(candles(0, 100))
        lake.folder(HOURLY).chmod(0o755)


def test_a_lake_below_a_file_is_a_clear_error(tmp_path: Path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(LakeError, match="Not a directory"):
        Lake(str(tmp_path / "file/lake")).append(HOURLY, candles(0, 1), "binance", FETCHED)


def test_candles_that_were_not_validated_are_a_bug():
    for frame in (candles(0, 3).reverse(), pl.concat([candles(0, 1), candles(0, 1)]), candles(0, 3).drop("volume")):
        with pytest.raises(AssertionError):
            Lake("nowhere").append(HOURLY, frame, "binance", FETCHED)


def test_the_address_is_a_path_or_a_local_file_url():
    assert Lake("data/lake").folder(HOURLY).is_relative_to("data/lake")
    assert Lake("file:///srv/my%20lake").scratch == Path("/srv/my lake")
    for url in ("s3://bucket/lake", "https://example.com/lake", "file://host/lake", ""):
        with pytest.raises(SettingsError, match="use a folder's path"):
            Lake(url)
