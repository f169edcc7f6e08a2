"""The ledger's file: transactions, migrations, and a clear error for everything that can be wrong with it."""

import os
import resource
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pytest

from candlewick.errors import InvariantViolated, LedgerBusy, LedgerTooNew, LedgerUnreadable, LedgerUnwritable, SettingsError
from candlewick.store.database import Database, ledger_path
from candlewick.store.lock import fair_lock
from candlewick.store.migrations import MIGRATIONS, Migration

PATIENCE_S = 60
ADD_EVENT = "INSERT INTO events VALUES ('demo', {}, now(), 'note', NULL, '{{}}', 'r', now())"
ADD_MANY = """INSERT INTO events
    SELECT 'demo', range + 100, now(), 'note', NULL, '"' || md5(range::VARCHAR) || '"', 'r', now() FROM range({})"""
KEPT = Migration(1, "one", ("CREATE TABLE kept (a INTEGER)",))


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return Database(str(tmp_path / "data" / "ledger.duckdb"), lock_timeout_s=30)


def add_event(database: Database, sequence: int) -> None:
    with database.write() as connection:
        connection.execute(ADD_EVENT.format(sequence))


def add_many(database: Database, rows: int) -> None:
    with database.write() as connection:
        connection.execute(ADD_MANY.format(rows))


def add_event_and_fail(database: Database, sequence: int) -> None:
    with database.write() as connection:
        connection.execute(ADD_EVENT.format(sequence))
        raise ZeroDivisionError


def sequences(database: Database) -> list[int]:
    with database.read() as connection:
        return [row[0] for row in connection.execute("SELECT sequence FROM events ORDER BY 1").fetchall()]


def run_child(database: Database, script: str) -> subprocess.Popen[str]:
    head = "import os, sys, duckdb\nfrom candlewick.store.database import Database\ndatabase = Database(sys.argv[1], 30)\n"
    code = head + textwrap.dedent(script)
    return subprocess.Popen(
        [sys.executable, "-c", code, str(database.path)], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


def end(child: subprocess.Popen[str]) -> None:
    child.kill()
    child.communicate()


def test_the_first_write_creates_folder_ledger_and_every_table(database: Database) -> None:
    assert not database.exists()
    with database.write() as connection:
        tables = {row[0] for row in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()}
    wanted = "accounts runs signals orders fills postings positions equity events checkpoints schema_migrations terms quality"
    wanted += " backtests backtest_trades backtest_fills backtest_equity backtest_sets backtest_windows strategy_checks"
    wanted += " data_chunks data_runs data_series"
    wanted += " sessions transitions controls outbox alerts interventions desk_risk pending_candles"
    assert tables == set(wanted.split())
    assert database.exists()
    assert sorted(path.name for path in database.path.parent.iterdir()) == [
        "ledger.duckdb",
        "ledger.duckdb.lock",
        "ledger.duckdb.lock.queue",
    ]


def test_reading_a_ledger_that_is_not_there_creates_nothing(database: Database) -> None:
    with pytest.raises(LedgerUnreadable, match="no such file"), database.read():
        pytest.fail("read something")
    assert not database.path.parent.exists()


def test_a_transaction_is_kept_whole_or_not_at_all(database: Database) -> None:
    add_event(database, 1)
    with pytest.raises(ZeroDivisionError):
        add_event_and_fail(database, 2)
    assert sequences(database) == [1]


def test_reading_changes_nothing(database: Database) -> None:
    add_event(database, 1)
    before = database.path.read_bytes()
    with pytest.raises(duckdb.Error), database.read() as connection:
        connection.execute(ADD_EVENT.format(2))
    assert database.path.read_bytes() == before


def test_times_are_in_utc_wherever_the_machine_is(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    with database.write() as connection:
        assert connection.execute("SELECT current_setting('TimeZone')").fetchone() == ("UTC",)
        connection.execute("INSERT INTO events VALUES ('demo', 1, '2026-01-02 03:00:00', 'note', NULL, '{}', 'r', now())")
        assert connection.execute('SELECT epoch_ms("at") FROM events').fetchone() == (1767322800000,)


def test_a_broken_constraint_is_an_invariant_and_writes_nothing(database: Database) -> None:
    add_event(database, 1)
    with pytest.raises(InvariantViolated, match="Nothing was written"):
        add_event(database, 1)
    assert sequences(database) == [1]


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("/srv/ledger.duckdb", "/srv/ledger.duckdb"),
        ("file:///srv/my%20ledger.duckdb", "/srv/my ledger.duckdb"),
        ("FILE:/srv/ledger.duckdb", "/srv/ledger.duckdb"),
        ("~/ledger.duckdb", str(Path.home() / "ledger.duckdb")),
        ("data/ledger.duckdb", str(Path.cwd() / "data/ledger.duckdb")),
    ],
)
def test_a_url_is_a_path_or_a_file_url(url: str, path: str) -> None:
    assert ledger_path(url) == Path(path)


@pytest.mark.parametrize(
    "url", ["postgresql://host/db", "s3://bucket/ledger", "postgres:dbname=x", ":memory:", "", "  ", "file://"]
)
def test_other_urls_are_refused_naming_what_is_supported(url: str) -> None:
    with pytest.raises(SettingsError, match="file://"):
        Database(url)


def test_a_ledger_held_by_another_program_is_named_with_its_process(database: Database) -> None:
    add_event(database, 1)
    other = run_child(database, "c = duckdb.connect(sys.argv[1]); print('open', flush=True); sys.stdin.readline()")
    try:
        assert other.stdout.readline() == "open\n"
        impatient = Database(str(database.path), lock_timeout_s=0.3)
        for attempt in (impatient.write, impatient.read):
            with pytest.raises(LedgerBusy, match=rf"process {other.pid} .*waited 0\.\d s"), attempt():
                pytest.fail("two programs at once")
    finally:
        end(other)
    assert sequences(database) == [1]


def test_a_ledger_that_another_program_lets_go_in_time_is_read(database: Database) -> None:
    add_event(database, 1)
    script = (
        "c = duckdb.connect(sys.argv[1]); print('open', flush=True); sys.stdin.readline(); c.close(); print('gone', flush=True)"
    )
    other = run_child(database, script)
    try:
        assert other.stdout.readline() == "open\n"
        other.stdin.write("\n")
        other.stdin.flush()
        assert sequences(database) == [1]
    finally:
        end(other)


def test_a_queue_that_is_too_long_ends_in_ledger_busy(database: Database) -> None:
    add_event(database, 1)
    impatient = Database(str(database.path), lock_timeout_s=0.1)
    with (
        fair_lock(database.path.with_name("ledger.duckdb.lock"), PATIENCE_S),
        pytest.raises(LedgerBusy, match=rf"process {os.getpid()} \(this process\)"),
        impatient.read(),
    ):
        pytest.fail("two at once")


def damage(path: Path, kind: str) -> bytes:
    """Damages the ledger's file and returns what it holds now."""
    content = path.read_bytes()
    broken = {
        "empty": b"",
        "text": b"account,cash\ndemo,100\n" * 400,
        "head only": content[:5000],
        "half": content[: len(content) // 2],
        "zeroed": bytes(len(content)),
    }[kind]
    path.write_bytes(broken)
    return broken


@pytest.mark.parametrize("kind", ["empty", "text", "head only", "half", "zeroed"])
def test_a_damaged_ledger_is_refused_and_left_as_it_is(database: Database, kind: str) -> None:
    add_many(database, 5000)
    broken = damage(database.path, kind)
    for attempt in (database.read, database.write):
        with pytest.raises(LedgerUnreadable, match="left as it is"), attempt() as connection:
            connection.execute("SELECT 1")
    assert database.path.read_bytes() == broken


def test_a_ledger_cut_short_anywhere_is_refused_or_complete(database: Database) -> None:
    add_many(database, 20_000)
    add_event(database, 1)
    everything, content = sequences(database), database.path.read_bytes()
    refused = 0
    for missing in (1, 100_000, 262_144, 300_000, 600_000, len(content) - 12_288):
        database.path.write_bytes(content[:-missing])
        try:
            assert sequences(database) == everything
        except LedgerUnreadable:
            refused += 1
    assert refused >= 3


def test_a_corrupt_block_is_noticed_when_it_is_read(database: Database) -> None:
    add_many(database, 200_000)
    content = bytearray(database.path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 600_000] = b"\x01" * 600_000
    database.path.write_bytes(content)
    with pytest.raises(LedgerUnreadable), database.read() as connection:
        connection.execute(
            'SELECT sum(length(document)), count(DISTINCT sequence), max("at"), max(recorded_at) FROM events'
        ).fetchall()
    assert database.path.read_bytes() == content


def test_a_truncated_ledger_with_a_log_is_refused_before_the_log_is_replayed(database: Database, tmp_path: Path) -> None:
    add_many(database, 5000)
    child = run_child(
        database,
        """
        with database.write() as connection:
            connection.execute("INSERT INTO events VALUES ('demo', 9, now(), 'note', NULL, '{}', 'r', now())")
            connection.execute("COMMIT")
            os.kill(os.getpid(), 9)
        """,
    )
    assert child.wait(PATIENCE_S) == -9
    end(child)
    log = database.path.with_name("ledger.duckdb.wal")
    assert log.stat().st_size > 0
    broken, logged = damage(database.path, "half"), log.read_bytes()
    with pytest.raises(LedgerUnreadable, match="truncated"):
        add_event(database, 10)
    assert (database.path.read_bytes(), log.read_bytes()) == (broken, logged)


def test_a_log_without_its_ledger_is_not_applied_to_a_new_one(database: Database) -> None:
    add_event(database, 1)
    database.path.rename(database.path.with_name("ledger.duckdb.wal"))
    with pytest.raises(LedgerUnreadable, match="write-ahead log"):
        add_event(database, 2)


def test_a_database_of_something_else_is_refused(database: Database) -> None:
    database.path.parent.mkdir()
    with duckdb.connect(str(database.path)) as connection:
        connection.execute("CREATE TABLE customers (a INTEGER)")
    for attempt in (database.read, database.write):
        with pytest.raises(LedgerUnreadable, match="customers"), attempt():
            pytest.fail("opened")


@contextmanager
def as_ordinary_user(*paths: Path) -> Iterator[None]:
    """Root may write anywhere; become somebody who may not, with ``paths`` read-only."""
    modes = [path.stat().st_mode for path in paths]
    for path in paths:
        path.chmod(path.stat().st_mode & ~0o222)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        for path, mode in zip(paths, modes, strict=True):
            path.chmod(mode)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder every user may reach (pytest's own are private to the user that runs it)."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def test_a_read_only_folder_can_be_read_but_not_written(open_folder: Path) -> None:
    database = Database(str(open_folder / "ledger.duckdb"))
    add_event(database, 1)
    database.path.chmod(0o644)
    with as_ordinary_user(open_folder, database.path):
        assert sequences(database) == [1]
        with pytest.raises(LedgerUnwritable, match="Permission denied"):
            add_event(database, 2)
        with pytest.raises(LedgerUnwritable, match="Permission denied"):
            add_event(Database(str(open_folder / "new" / "ledger.duckdb")), 1)
    assert sequences(database) == [1]


def test_a_read_only_file_in_a_writable_folder_is_refused(open_folder: Path) -> None:
    database = Database(str(open_folder / "ledger.duckdb"))
    add_event(database, 1)
    open_folder.chmod(0o777)
    for path in (database.path.with_name("ledger.duckdb.lock"), database.path.with_name("ledger.duckdb.lock.queue")):
        path.chmod(0o777)
    with as_ordinary_user(database.path), pytest.raises(LedgerUnwritable, match="Permission denied"):
        add_event(database, 2)
    assert sequences(database) == [1]


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    with pytest.raises(LedgerUnwritable):
        add_event(Database(str(tmp_path / "data" / "ledger.duckdb")), 1)


@contextmanager
def no_file_beyond(size_bytes: int) -> Iterator[None]:
    """The kernel refuses to let any file grow beyond this, as it does on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_fills_up_loses_nothing_that_was_committed(database: Database) -> None:
    add_event(database, 1)
    with no_file_beyond(database.path.stat().st_size), pytest.raises(LedgerUnwritable, match="Nothing of this transaction"):
        add_many(database, 100_000)
    assert sequences(database) == [1]
    add_event(database, 2)
    assert sequences(database) == [1, 2]


def test_a_full_disk_leaves_no_half_made_ledger(database: Database) -> None:
    with no_file_beyond(100_000), pytest.raises(LedgerUnwritable):
        add_event(database, 1)
    assert not database.exists()
    add_event(database, 1)
    assert sequences(database) == [1]


def test_a_ledger_of_a_newer_version_is_refused_with_both_versions(database: Database) -> None:
    add_event(database, 1)
    newer = Migration(len(MIGRATIONS) + 1, "the future", ("CREATE TABLE later (a INTEGER)",))
    with Database(str(database.path), migrations=(*MIGRATIONS, newer)).write():
        pass
    before = database.path.read_bytes()
    for attempt in (database.read, database.write):
        with pytest.raises(LedgerTooNew, match=rf"version {newer.version}, this Candlewick knows {len(MIGRATIONS)}"), attempt():
            pytest.fail("opened")
    assert database.path.read_bytes() == before


@pytest.mark.parametrize("door", ["read", "write"])
def test_an_older_ledger_is_migrated_by_whoever_opens_it_first(tmp_path: Path, door: str) -> None:
    url = str(tmp_path / "ledger.duckdb")
    with Database(url, migrations=(KEPT,)).write() as connection:
        connection.execute("INSERT INTO kept VALUES (7)")
    later = (KEPT, Migration(2, "two", ("ALTER TABLE kept ADD COLUMN b INTEGER", "UPDATE kept SET b = a * 2")))
    database = Database(url, migrations=later)
    with database.read() if door == "read" else database.write() as connection:
        assert connection.execute("SELECT a, b FROM kept").fetchall() == [(7, 14)]
        record = connection.execute(
            "SELECT version, name, applied_at <= now() FROM schema_migrations ORDER BY version"
        ).fetchall()
    assert record == [(1, "one", True), (2, "two", True)]


def test_a_migration_that_fails_leaves_the_ledger_at_the_version_before(tmp_path: Path) -> None:
    url = str(tmp_path / "ledger.duckdb")
    with Database(url, migrations=(KEPT,)).write() as connection:
        connection.execute("INSERT INTO kept VALUES (7)")
    wrong = Migration(2, "wrong", ("ALTER TABLE kept ADD COLUMN b INTEGER", "UPDATE kept SET nothing = 1"))
    with pytest.raises(duckdb.Error), Database(url, migrations=(KEPT, wrong)).write():
        pytest.fail("migrated")
    with Database(url, migrations=(KEPT,)).read() as connection:
        assert connection.execute("SELECT * FROM kept").fetchall() == [(7,)]


def test_migrations_are_numbered_from_one_without_holes_and_named_once() -> None:
    assert [migration.version for migration in MIGRATIONS] == list(range(1, len(MIGRATIONS) + 1))
    assert len({migration.name for migration in MIGRATIONS}) == len(MIGRATIONS)


def test_processes_that_create_the_ledger_at_once_all_find_it(database: Database) -> None:
    script = """
    with database.write() as connection:
        connection.execute(f"INSERT INTO events VALUES ('demo', {os.getpid()}, now(), 'note', NULL, '{{}}', 'r', now())")
    """
    children = [run_child(database, script) for _ in range(4)]
    assert [child.wait(PATIENCE_S) for child in children] == [0] * 4
    for child in children:
        end(child)
    assert sequences(database) == sorted(child.pid for child in children)


@pytest.mark.parametrize(
    ("moment", "kept"),
    [("before COMMIT", [1, 3]), ("after COMMIT", [1, 2, 3]), ("after closing", [1, 2, 3])],
)
def test_kill_9_keeps_a_transaction_whole_or_not_at_all(database: Database, moment: str, kept: list[int]) -> None:
    add_event(database, 1)
    script = f"""
    def die(now):
        if now == {moment!r}:
            os.kill(os.getpid(), 9)
    with database.write() as connection:
        connection.execute("INSERT INTO events VALUES ('demo', 2, now(), 'note', NULL, '{{}}', 'r', now())")
        die("before COMMIT")
        if {moment!r} == "after COMMIT":
            connection.execute("COMMIT")
            die("after COMMIT")
    die("after closing")
    """
    child = run_child(database, script)
    assert child.wait(PATIENCE_S) == -9
    end(child)
    add_event(database, 3)
    assert sequences(database) == kept


def test_kill_9_while_the_ledger_is_being_created_leaves_none_and_the_next_start_creates_it(database: Database) -> None:
    script = """
    from candlewick.store.migrations import Migration
    slow = Migration(1, "slow", ("CREATE TABLE kept (a INTEGER)", "SELECT count(*) FROM range(100000000000)"))
    print("start", flush=True)
    with Database(sys.argv[1], 30, migrations=(slow,)).write():
        pass
    """
    child = run_child(database, script)
    fresh = database.path.with_name("ledger.duckdb.new")
    while not fresh.exists():
        assert child.poll() is None
    end(child)
    assert not database.exists()
    add_event(database, 1)
    assert sequences(database) == [1]
    assert not fresh.exists()
