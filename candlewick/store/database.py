"""The ledger's file: where it is, who may open it now, and transactions on it. The only door to DuckDB.

A connection lives for one transaction. The fair queue stands before the open, for readers too: DuckDB lets nobody read
while one process writes, and a refused open is slow.

What a kill leaves behind: a transaction is written to the write-ahead log (`<ledger>.wal`) and flushed to disk by COMMIT. A
process killed before that leaves nothing of its transaction; killed after it, everything: the next open replays the log.
A new ledger is built under another name and renamed, so that a ledger's file is never half created.
"""

import os
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import quote, unquote

import duckdb

from candlewick.errors import LedgerTooNew, SettingsError
from candlewick.store.failures import held_by_another, named_failure, refused_by_system, unreadable, unwritable
from candlewick.store.lock import fair_lock
from candlewick.store.migrations import MIGRATIONS, Migration

Connection = duckdb.DuckDBPyConnection

_SCHEME = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]+):")
_CONFIG: dict[str, str | bool | int | float | list[str]] = {
    # Transactions are many small statements: a second thread costs more than it brings, and symbols want the other cores.
    "threads": 1,
    "memory_limit": "384MB",
    # Everything needed is linked in; nothing may be fetched while trading.
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
}
_RETRY_S = 0.1
_HEADER_BYTES = 3 * 4096
_RECORD_TABLE = """CREATE TABLE IF NOT EXISTS schema_migrations (
    version INTEGER PRIMARY KEY, name VARCHAR NOT NULL, applied_at TIMESTAMPTZ NOT NULL)"""


def ledger_path(url: str) -> Path:
    """The file a ``url`` means: a path, or ``file://`` and a path. Raises SettingsError for anything else."""
    found = _SCHEME.match(url)
    if not url.strip() or url.startswith(":") or (found and found["scheme"].lower() != "file"):
        what = f"{found['scheme']}: is not supported" if found else "is no file"
        raise SettingsError(
            f"store.url {url!r}: {what}; supported are a path (data/ledger.duckdb) and file:// (file:///srv/ledger.duckdb)"
        )
    text = unquote(re.sub(r"^[Ff][Ii][Ll][Ee]:(//)?", "", url)) if found else url
    if not text:
        raise SettingsError(f"store.url {url!r} names no file; write for example file:///srv/ledger.duckdb")
    return Path(text).expanduser().absolute()


class Database:
    """One ledger file. Holds no connection, so it may be shared by threads and survives a fork."""

    def __init__(self, url: str, lock_timeout_s: float = 30.0, migrations: tuple[Migration, ...] = MIGRATIONS) -> None:
        """``lock_timeout_s`` bounds the wait for this project's queue and for other programs together. Raises SettingsError."""
        self.path = ledger_path(url)
        self.lock_timeout_s = lock_timeout_s
        self._migrations = migrations

    def exists(self) -> bool:
        """Whether there is a ledger; one that nothing was ever written to does not exist."""
        return self.path.exists()

    def account_lock_path(self, account: str) -> Path:
        """Where "one cycle per account" is locked (`try_lock`)."""
        return self.path.with_name(self.path.name + ".locks") / f"{quote(account, safe='')}.lock"

    @contextmanager
    def read(self, *, migrating: bool = True) -> Iterator[Connection]:
        """A read-only connection for the length of the block. Creates no file; an older schema is migrated first.

        ``migrating`` False writes nothing whatever the schema is: for one who only watches, and can do without a table.
        Raises LedgerBusy, LedgerUnreadable (also where no ledger exists), LedgerTooNew, LedgerUnwritable (migration only).
        """
        started = time.monotonic()
        with self._turn(writing=False), self._named_failures(started):
            if not self.exists():
                raise unreadable(self.path, "there is no such file")
            connection = self._connect(started, read_only=True)
            try:
                if self._pending(connection) and migrating:
                    connection.close()
                    connection = self._connect(started, read_only=False)
                    self._migrate(connection)
                connection.execute("BEGIN")
                yield connection
            finally:
                connection.close()

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction: COMMIT at the end of the block, ROLLBACK on any exception. Creates the ledger and its folder.

        Raises LedgerBusy, LedgerUnreadable, LedgerUnwritable, LedgerTooNew, InvariantViolated (a constraint of a table).
        """
        started = time.monotonic()
        with self._turn(writing=True), self._named_failures(started):
            self._create_if_missing(started)
            self._refuse_damage_before_replay(started)
            connection = self._connect(started, read_only=False)
            try:
                self._migrate(connection)
                with _transaction(connection):
                    yield connection
            finally:
                connection.close()

    @contextmanager
    def _turn(self, *, writing: bool) -> Iterator[None]:
        lock = self.path.with_name(self.path.name + ".lock")
        with ExitStack() as stack:
            try:
                if writing:
                    self.path.parent.mkdir(parents=True, exist_ok=True)
                stack.enter_context(fair_lock(lock, self.lock_timeout_s))
            except OSError as error:
                if not refused_by_system(error):
                    raise
                if writing:
                    raise unwritable(self.path, str(error)) from error
                # Where nothing can be written a reader cannot queue, and has no writer to wait for; DuckDB's lock still guards.
            yield

    @contextmanager
    def _named_failures(self, started: float) -> Iterator[None]:
        try:
            yield
        except duckdb.Error as error:
            named = named_failure(error, self.path, time.monotonic() - started)
            if named is None:
                raise
            raise named from error

    def _connect(self, started: float, *, read_only: bool, path: Path | None = None) -> Connection:
        """Opens, waiting for other programs (the duckdb command line, a notebook) as long as the time-out allows."""
        while True:
            try:
                connection = duckdb.connect(str(path or self.path), read_only=read_only, config=_CONFIG)
                break
            except duckdb.Error as error:
                if not held_by_another(error) or time.monotonic() - started >= self.lock_timeout_s:
                    raise
            time.sleep(_RETRY_S)
        connection.execute("SET TimeZone = 'UTC'")
        return connection

    def _create_if_missing(self, started: float) -> None:
        log = self.path.with_name(self.path.name + ".wal")
        if self.exists():
            return
        if log.exists():
            raise unreadable(self.path, f"the file is gone but its write-ahead log {log.name} is there")
        fresh = self.path.with_name(self.path.name + ".new")
        for leftover in (fresh, fresh.with_name(fresh.name + ".wal")):
            leftover.unlink(missing_ok=True)
        connection = self._connect(started, read_only=False, path=fresh)
        try:
            self._migrate(connection)
            # Closing would checkpoint too, but says nothing when the disk is full; then the tables were only in the log.
            connection.execute("CHECKPOINT")
        finally:
            connection.close()
        fresh.rename(self.path)
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _refuse_damage_before_replay(self, started: float) -> None:
        """A log left by a killed process is replayed by the next writable open; look at the file before that touches it."""
        if self.path.with_name(self.path.name + ".wal").exists():
            connection = self._connect(started, read_only=True)
            try:
                self._version(connection)
            finally:
                connection.close()

    def _version(self, connection: Connection) -> int:
        """Schema version, 0 for a database without tables. Raises LedgerUnreadable, LedgerTooNew."""
        _refuse_truncated(connection, self.path)
        try:
            row = connection.execute("SELECT coalesce(max(version), 0) FROM schema_migrations").fetchall()[0]
        except duckdb.CatalogException:
            tables = [str(row[0]) for row in connection.execute("SELECT table_name FROM duckdb_tables() ORDER BY 1").fetchall()]
            if tables:
                raise unreadable(self.path, f"it is a DuckDB database of something else (tables {tables[:5]})") from None
            return 0
        version, newest = int(row[0]), len(self._migrations)
        if version > newest:
            raise LedgerTooNew(
                f"ledger {self.path} has schema version {version}, this Candlewick knows {newest}: "
                "upgrade Candlewick, or set another store.url"
            )
        return version

    def _pending(self, connection: Connection) -> bool:
        return self._version(connection) < len(self._migrations)

    def _migrate(self, connection: Connection) -> None:
        for migration in self._migrations[self._version(connection) :]:
            with _transaction(connection):
                connection.execute(_RECORD_TABLE)
                for statement in migration.statements:
                    connection.execute(statement)
                connection.execute("INSERT INTO schema_migrations VALUES (?, ?, now())", [migration.version, migration.name])


@contextmanager
def _transaction(connection: Connection) -> Iterator[None]:
    connection.execute("BEGIN")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException as error:
        try:
            connection.execute("ROLLBACK")
        except duckdb.Error as refused:
            # A failed COMMIT has rolled back by itself, and closing the connection ends any transaction.
            error.add_note(f"rollback: {refused}")
        raise


def _refuse_truncated(connection: Connection, path: Path) -> None:
    """DuckDB opens a file whose tail is missing, and fails only when it needs that part: too late for a transaction.

    A file may be shorter than its header counts, because free blocks at its end need not be there. Only then is it worth
    the few milliseconds to ask each table for its last block.
    """
    total_blocks, block_bytes = connection.execute("SELECT total_blocks, block_size FROM pragma_database_size()").fetchall()[0]
    if not path.exists():
        return  # being created, under another name
    size = path.stat().st_size
    if size >= _HEADER_BYTES + total_blocks * block_bytes:
        return
    tables = [row[0] for row in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()]
    blocks = [f"SELECT block_id FROM pragma_storage_info('{table}')" for table in tables]
    query = " UNION ALL ".join(["SELECT block_id FROM pragma_metadata_info()", *blocks])
    (last,) = connection.execute(f"SELECT coalesce(max(block_id), -1) FROM ({query})").fetchall()[0]
    needed = _HEADER_BYTES + (last + 1) * block_bytes
    if size < needed:
        raise unreadable(path, f"it is truncated: {size} bytes of at least {needed}")
