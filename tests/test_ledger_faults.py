"""What stands in a cycle's way is named and nothing is lost: without it the next cycle leaves an undisturbed ledger."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import duckdb
import polars as pl
import pytest

from candlewick.market.sample import SampleMarket
from candlewick.timeframes import parse_utc
from tests.cycle_processes import BARE_ENVIRONMENT, ROOT, Cycle, CycleProcesses, Outcome, assert_same, content, ledger_in

Rows = dict[str, pl.DataFrame]
FIRST, SECOND = "2024-02-01 10:20", "2024-02-03 20:05"
ACCOUNT = {
    "account": "demo",
    "market": "sample",
    "symbols": ["BTC/USDT", "ETH/USDT"],
    "timeframe": "1h",
    "strategy": "sma_cross",
    "parameters": {"fast": 3, "slow": 8},
    "since": "2024-01-12",
}
IMPATIENT = {"CANDLEWICK_STORE__LOCK_TIMEOUT_S": "1"}


def cycle(directory: Path, until: str, largest_file_bytes: int = 0) -> Cycle:
    return Cycle(directory, {**ACCOUNT, "until": until}, environment=IMPATIENT, largest_file_bytes=largest_file_bytes)


@pytest.fixture(scope="module")
def undisturbed(cycles: CycleProcesses, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Rows, Rows]:
    """A directory after the first cycle, the ledger's rows then, and those after the second."""
    directory = tmp_path_factory.mktemp("undisturbed")
    cycles.finish(cycle(directory / "after first", FIRST))
    shutil.copytree(directory / "after first", directory / "after second")
    cycles.finish(cycle(directory / "after second", SECOND))
    first, second = (content(directory / name, "demo") for name in ("after first", "after second"))
    assert second["fills"].height > first["fills"].height
    return directory / "after first", first, second


@pytest.fixture
def directory(undisturbed: tuple[Path, Rows, Rows], tmp_path: Path) -> Path:
    """A working directory of its own, after the first cycle."""
    shutil.copytree(undisturbed[0], tmp_path, dirs_exist_ok=True)
    return tmp_path


@contextmanager
def held_by_another_program(directory: Path) -> Iterator[None]:
    script = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", script, str(directory / "data" / "ledger.duckdb")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == b"held\n"
        yield
        program.kill()


@contextmanager
def written_by_a_newer_version(directory: Path) -> Iterator[None]:
    path = str(directory / "data" / "ledger.duckdb")
    with duckdb.connect(path) as connection:
        connection.execute("INSERT INTO schema_migrations VALUES (99, 'of later days', now())")
    yield
    with duckdb.connect(path) as connection:
        connection.execute("DELETE FROM schema_migrations WHERE version = 99")


@contextmanager
def truncated(directory: Path) -> Iterator[None]:
    path = directory / "data" / "ledger.duckdb"
    whole = path.read_bytes()
    os.truncate(path, len(whole) // 2)
    yield
    assert path.read_bytes() == whole[: len(whole) // 2], "a damaged ledger is left as it is"
    path.write_bytes(whole)


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Nobody may write below the folder. Permissions do not stop root, a mount does."""
    if os.geteuid() != 0:
        modes = {path: path.stat().st_mode for path in (folder, *folder.rglob("*"))}
        for path, mode in modes.items():
            path.chmod(mode & ~0o222)
        yield
        for path, mode in modes.items():
            path.chmod(mode)
        return
    mount("--bind", str(folder), str(folder))
    try:
        mount("-o", "remount,bind,ro", str(folder))
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def mount(*arguments: str) -> None:
    try:
        subprocess.run(["mount", *arguments], check=True, capture_output=True)
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        pytest.skip(f"root may not mount here: {error}")


def read_only_data(directory: Path) -> AbstractContextManager[None]:
    return read_only(directory / "data")


def read_only_lake(directory: Path) -> AbstractContextManager[None]:
    return read_only(directory / "data" / "lake")


def read_only_signals(directory: Path) -> AbstractContextManager[None]:
    return read_only(directory / "data" / "lake" / "signals")


@pytest.mark.parametrize(
    ("obstacle", "named"),
    [
        (held_by_another_program, "is held by process"),
        (written_by_a_newer_version, "has schema version 99"),
        (truncated, "cannot be read: it is truncated"),
        (read_only_data, "LedgerUnwritable: ledger"),
        (read_only_lake, ".lock cannot be written"),
        (read_only_signals, "cannot be written"),
    ],
)
def test_an_obstacle_is_named_and_gone_it_leaves_no_trace(
    cycles: CycleProcesses,
    undisturbed: tuple[Path, Rows, Rows],
    directory: Path,
    obstacle: Callable[[Path], AbstractContextManager[None]],
    named: str,
) -> None:
    _, first, second = undisturbed
    with obstacle(directory):
        (outcome,) = cycles.run(cycle(directory, SECOND))
        assert outcome.code == 0
        assert outcome.status in ("failure", "raised")
        assert named in outcome.said
    assert_same(content(directory, "demo"), first, without=["quality"])
    cycles.finish(cycle(directory, SECOND))
    assert_same(content(directory, "demo"), second)


def test_a_failed_cycle_leaves_a_row_that_says_why(cycles: CycleProcesses, directory: Path) -> None:
    with read_only_lake(directory):
        cycles.run(cycle(directory, SECOND))
    run = ledger_in(directory).export_rows("demo")["runs"].to_dicts()[-1]
    assert run["status"] == "failure"
    assert "cannot be written: Read-only file system" in run["error"]


def test_a_report_that_cannot_be_written_makes_the_cycle_partial_and_spares_the_ledger(
    cycles: CycleProcesses, undisturbed: tuple[Path, Rows, Rows], directory: Path
) -> None:
    shutil.rmtree(directory / "data" / "reports")
    (directory / "data" / "reports").write_text("in the way")
    (outcome,) = cycles.run(cycle(directory, SECOND))
    assert outcome.status == "partial"
    assert "demo.html cannot be written" in outcome.said
    assert_same(content(directory, "demo"), undisturbed[2])


@pytest.mark.parametrize("largest_file_bytes", [100, 3_000, 20_000, 100_000, 400_000])
def test_files_that_cannot_grow_stop_a_cycle_where_it_is_and_lose_nothing(
    cycles: CycleProcesses, undisturbed: tuple[Path, Rows, Rows], directory: Path, largest_file_bytes: int
) -> None:
    (outcome,) = cycles.run(cycle(directory, SECOND, largest_file_bytes))
    assert_stopped_by_a_full_disk(outcome)
    assert_first_or_second(content(directory, "demo"), undisturbed)
    cycles.finish(cycle(directory, SECOND))
    assert_same(content(directory, "demo"), undisturbed[2])


def test_a_disk_that_is_full_at_any_moment_loses_nothing(
    cycles: CycleProcesses, undisturbed: tuple[Path, Rows, Rows], tmp_path: Path
) -> None:
    if os.geteuid() != 0:
        pytest.skip("a small disk needs root, who may mount one")
    directory = tmp_path / "disk"
    directory.mkdir()
    mount("-t", "tmpfs", "-o", "size=32m", "tmpfs", str(directory))
    try:
        shutil.copytree(undisturbed[0], directory, dirs_exist_ok=True)
        stopped = []
        for room_kib in (0, 4, 16, 32, 64, 128, 512):
            with little_room(directory, room_kib * 1024):
                (outcome,) = cycles.run(cycle(directory, SECOND))
                assert_stopped_by_a_full_disk(outcome)
                stopped.append(outcome.status)
            assert_first_or_second(content(directory, "demo"), undisturbed)
        assert {"failure", "partial"} <= set(stopped)
        cycles.finish(cycle(directory, SECOND))
        assert_same(content(directory, "demo"), undisturbed[2])
    finally:
        subprocess.run(["umount", str(directory)], check=True)


def test_an_account_is_opened_on_a_full_disk_or_not_at_all(
    cycles: CycleProcesses, undisturbed: tuple[Path, Rows, Rows], tmp_path: Path
) -> None:
    for largest_file_bytes in (100, 10_000, 60_000, 200_000, 1_000_000):
        (outcome,) = cycles.run(cycle(tmp_path, FIRST, largest_file_bytes))
        assert_stopped_by_a_full_disk(outcome)
        ledger = ledger_in(tmp_path)
        if ledger.load_account("demo") is not None:
            assert_same(content(tmp_path, "demo"), undisturbed[1])
    cycles.finish(cycle(tmp_path, FIRST))
    assert_same(content(tmp_path, "demo"), undisturbed[1])


@contextmanager
def little_room(directory: Path, room_bytes: int) -> Iterator[None]:
    filler = directory / "filler"
    free = shutil.disk_usage(directory).free
    filler.write_bytes(b"\0" * max(0, free - room_bytes))
    yield
    filler.unlink()


def assert_stopped_by_a_full_disk(outcome: Outcome) -> None:
    """A cycle that found no room said so by name; one for which there was enough may have succeeded."""
    assert outcome.code == 0
    assert outcome.status in ("success", "partial", "failure") or "LedgerUnwritable" in outcome.said, outcome.said
    if outcome.status != "success":
        assert "cannot be written" in outcome.said, outcome.said


def assert_first_or_second(found: Rows, undisturbed: tuple[Path, Rows, Rows]) -> None:
    """All of the second cycle, or nothing of it."""
    _, first, second = undisturbed
    rows = second if found["equity"].height > first["equity"].height else first
    assert_same(found, rows, without=["quality"])


@pytest.mark.parametrize("trouble", ["missing", "broken"])
def test_an_account_waits_for_a_symbol_that_cannot_be_fetched_and_catches_up(
    cycles: CycleProcesses, tmp_path: Path, trouble: str
) -> None:
    moments = [FIRST, "2024-02-02 14:40", SECOND]
    for directory in (tmp_path / "undisturbed", tmp_path / "waiting"):
        for number, until in enumerate(moments):
            write_candle_files(directory / "candles", until)
            one = Cycle(directory, {**ACCOUNT, "market": "files:candles", "until": until})
            file = directory / "candles" / "sample_ETHUSDT_1h.csv"
            if directory.name == "undisturbed" or number != 1:
                cycles.finish(one)
                continue
            before = content(directory, "demo")
            if trouble == "missing":
                file.unlink()
            else:
                file.write_text(file.read_text(encoding="utf-8") + "2024-02-02 13:00:00,1,2,NaN,1,1\n", encoding="utf-8")
            (outcome,) = cycles.run(one)
            assert outcome.status == "partial", outcome.said
            assert "ETH/USDT" in outcome.said
            assert_same(content(directory, "demo"), before, without=["quality", "checkpoints"])
            runs = ledger_in(directory).export_rows("demo")["runs"].to_dicts()
            assert (runs[-1]["status"], runs[-1]["bars"]) == ("partial", 0)
            seen = ledger_in(directory).load_account("demo").checkpoint.seen  # type: ignore[union-attr]
            assert seen["BTC/USDT"]["last_bar_ms"] == parse_utc("2024-02-02 13:00"), "the others' candles are kept"  # type: ignore
    # The files' folder is part of a finding's id.
    assert_same(content(tmp_path / "waiting", "demo"), content(tmp_path / "undisturbed", "demo"), without=["quality"])


def write_candle_files(folder: Path, until: str) -> None:
    """The sample market's candles as a user's files, up to the bar that is forming."""
    import asyncio

    folder.mkdir(parents=True, exist_ok=True)
    now_ms = parse_utc(until)
    for symbol in ("BTC/USDT", "ETH/USDT"):
        page = asyncio.run(SampleMarket(now_ms).fetch(symbol, "1h", parse_utc("2024-01-12"), now_ms))
        text = page.candles.write_csv(datetime_format="%Y-%m-%d %H:%M:%S")
        (folder / f"sample_{symbol.replace('/', '')}_1h.csv").write_text(text, encoding="utf-8")


@pytest.mark.xdist_group("prefect_server")
@pytest.mark.parametrize(
    ("obstacle", "named"),
    [(held_by_another_program, "is held by process"), (read_only_data, "cannot be written: ")],
)
def test_the_command_names_the_obstacle_and_ends_with_exit_code_1(
    prefect_server: str,
    directory: Path,
    obstacle: Callable[[Path], AbstractContextManager[None]],
    named: str,
) -> None:
    environment = (
        BARE_ENVIRONMENT | IMPATIENT | {"PREFECT_API_URL": prefect_server, "HOME": str(directory), "PYTHONPATH": str(ROOT)}
    )
    with obstacle(directory):
        command = [sys.executable, "-m", "flows.paper_trading", "--until", SECOND]
        ended = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True)
    assert ended.returncode == 1, ended.stderr
    said = " ".join((ended.stdout + ended.stderr).split())
    assert named in said
    assert "Traceback" not in said
