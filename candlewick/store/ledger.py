"""The ledger: one transaction a cycle in, whole accounts out.

`commit_cycle` is the only way an account changes. It takes the rows of one cycle, proves that nothing which was written
before becomes something else, checks the invariants, and commits everything or nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from candlewick.errors import InvariantViolated, StaleCycle
from candlewick.reports.view import AccountView
from candlewick.store import queries
from candlewick.store.database import Connection, Database
from candlewick.store.failures import unwritable
from candlewick.store.invariants import check_account, check_written
from candlewick.store.lock import HeldLock, Holder, try_lock
from candlewick.store.quality import append_findings
from candlewick.store.queries import JsonValue, LoadedAccount
from candlewick.store.tables import TABLES
from candlewick.store.writing import advance_orders, append, put, replace_positions, stage

_APPENDED = ("accounts", "terms", "runs", "signals", "fills", "postings", "equity", "events")


def _no_rows() -> pl.DataFrame:
    return pl.DataFrame()


@dataclass(frozen=True, slots=True)
class CycleWrite:
    """All rows of one cycle. Frames have the content columns of candlewick/rows.py, bookkeeping is added here.

    ``expected_version`` is the version of the checkpoint that was loaded, None for an account without one; ``checkpoint``
    is one row with the next version (the first is 1). ``positions`` is the account's complete new set. ``account_row`` and
    ``terms`` are needed when they are new. A frame without columns is a frame without rows.
    """

    account: str
    expected_version: int | None
    run_id: str
    recorded_at: datetime
    checkpoint: pl.DataFrame
    positions: pl.DataFrame
    runs: pl.DataFrame = field(default_factory=_no_rows)
    account_row: pl.DataFrame = field(default_factory=_no_rows)
    terms: pl.DataFrame = field(default_factory=_no_rows)
    signals: pl.DataFrame = field(default_factory=_no_rows)
    orders: pl.DataFrame = field(default_factory=_no_rows)
    fills: pl.DataFrame = field(default_factory=_no_rows)
    postings: pl.DataFrame = field(default_factory=_no_rows)
    equity: pl.DataFrame = field(default_factory=_no_rows)
    events: pl.DataFrame = field(default_factory=_no_rows)
    quality: pl.DataFrame = field(default_factory=_no_rows)

    def frames(self) -> dict[str, pl.DataFrame]:
        """Frames by table."""
        named = {"accounts": self.account_row, "checkpoints": self.checkpoint, "positions": self.positions, "orders": self.orders}
        return named | {
            "terms": self.terms,
            "runs": self.runs,
            "signals": self.signals,
            "fills": self.fills,
            "postings": self.postings,
            "equity": self.equity,
            "events": self.events,
            "quality": self.quality,
        }


@dataclass(frozen=True, slots=True)
class CommitReport:
    """``written``: rows inserted or changed by table (rows that were there already are not counted); ``version``: checkpoint."""

    written: Mapping[str, int]
    version: int


class Ledger:
    """Accounts and runs in one database. Holds no connection; every method is one transaction."""

    def __init__(self, database: Database) -> None:
        """``database`` is the ledger's file; it need not exist yet."""
        self.database = database

    def commit_cycle(self, write: CycleWrite) -> CommitReport:
        """Write one cycle, whole or not at all.

        Raises StaleCycle when another cycle committed first, InvariantViolated, and what `Database.write` raises.
        """
        frames = write.frames()
        _refuse_foreign_rows(write.account, frames)
        with self.database.write() as connection:
            staged = {
                name: stage(connection, TABLES[name], frame, write.run_id, write.recorded_at) for name, frame in frames.items()
            }
            version = _refuse_stale(connection, write, staged["checkpoints"])
            written = {name: append(connection, TABLES[name], staged[name]) for name in _APPENDED}
            written["orders"] = advance_orders(connection, staged["orders"])
            written["positions"] = replace_positions(connection, write.account, staged["positions"])
            written["quality"] = append_findings(connection, staged["quality"])
            put(connection, TABLES["checkpoints"])
            check_written(connection, write.account, write.run_id, written)
        return CommitReport(written, version)

    def amend(self, account: str, terms: pl.DataFrame, expected_version: int, run_id: str, recorded_at: datetime) -> None:
        """Append a version of the terms. The checkpoint moves on by one, so that a cycle that began before is stale.

        Raises StaleCycle when a cycle committed since the account was loaded, InvariantViolated.
        """
        _refuse_foreign_rows(account, {"terms": terms})
        with self.database.write() as connection:
            table = TABLES["terms"]
            append(connection, table, stage(connection, table, terms, run_id, recorded_at))
            moved = connection.execute(
                "UPDATE checkpoints SET version = version + 1 WHERE account = ? AND version = ?", [account, expected_version]
            ).fetchall()
            if moved[0][0] != 1:
                raise StaleCycle(f"account {account}: a cycle committed meanwhile. Nothing was amended; try again")

    def record_run(self, runs: pl.DataFrame) -> None:
        """Write rows of `runs` and nothing else: a cycle that failed leaves this trace."""
        with self.database.write() as connection:
            table = TABLES["runs"]
            append(connection, table, stage(connection, table, runs, "", datetime.now(UTC)))

    def record_findings(self, quality: pl.DataFrame, recorded_at: datetime) -> int:
        """Write rows of `quality`; of a known finding only what became of it may change. The number of rows written."""
        with self.database.write() as connection:
            return append_findings(connection, stage(connection, TABLES["quality"], quality, "", recorded_at))

    def check(self, account: str) -> None:
        """Check all invariants over every row of the account. Raises InvariantViolated, UnknownAccount."""
        with queries.known_account(self.database, account) as connection:
            check_account(connection, account)

    def try_account_lock(self, account: str) -> HeldLock | Holder:
        """The right to run a cycle of the account, or who has it. Never waits. Raises LedgerUnwritable."""
        try:
            return try_lock(self.database.account_lock_path(account))
        except OSError as error:
            raise unwritable(self.database.path, str(error)) from error

    def load_account(self, account: str) -> LoadedAccount | None:
        """The account, its terms, its checkpoint and open orders; None where there is no such account."""
        return queries.load_account(self.database, account)

    def list_accounts(self) -> pl.DataFrame:
        """One row an account, by name (columns: see `queries.list_accounts`); no rows where there is no ledger."""
        return queries.list_accounts(self.database)

    def view(self, account: str, candles: Mapping[str, pl.DataFrame]) -> AccountView:
        """What the reports draw, read in one transaction. Raises UnknownAccount."""
        return queries.view(self.database, account, candles)

    def export_rows(self, account: str) -> dict[str, pl.DataFrame]:
        """All rows of the account by table (`queries.EXPORTED`), in a stable order. Raises UnknownAccount."""
        return queries.export_rows(self.database, account)

    def export_document(self, account: str) -> dict[str, JsonValue]:
        """``export_rows`` JSON-ready: decimals as trimmed strings, times as ISO 8601 with Z, JSON columns as values."""
        return queries.export_document(self.database, account)

    def export_parquet(self, account: str, directory: Path) -> dict[str, Path]:
        """``export_rows`` as one Parquet file a table; the files by table. Raises UnknownAccount, OSError."""
        return queries.export_parquet(self.database, account, directory)


def _refuse_foreign_rows(account: str, frames: Mapping[str, pl.DataFrame]) -> None:
    """One commit touches one account; anything else would escape its invariants."""
    for table, frame in frames.items():
        if "account" in frame.columns and frame["account"].ne_missing(account).any():
            other = frame["account"].filter(frame["account"].ne_missing(account))[0]
            raise InvariantViolated(f"{table}: a row of account {other} in a commit of account {account}")


def _refuse_stale(connection: Connection, write: CycleWrite, staged: int) -> int:
    """The new checkpoint's version. Raises StaleCycle, InvariantViolated."""
    found = connection.execute("SELECT version FROM checkpoints WHERE account = ?", [write.account]).fetchall()
    version = int(found[0][0]) if found else None
    if version != write.expected_version:
        raise StaleCycle(
            f"account {write.account}: another cycle committed first (checkpoint {version or 'none'}, "
            f"this cycle started from {write.expected_version or 'none'}). Nothing was written; run it again"
        )
    rows = connection.execute("SELECT version, watermark_at FROM new_checkpoints").fetchall()
    if staged != 1 or rows[0][0] != (version or 0) + 1:
        raise InvariantViolated(
            f"account {write.account}: the new checkpoint must be one row of version {(version or 0) + 1}, got {rows}"
        )
    back = connection.execute(
        """SELECT old.watermark_at, new.watermark_at FROM checkpoints old JOIN new_checkpoints new USING (account)
           WHERE old.watermark_at > new.watermark_at OR (old.watermark_at IS NOT NULL AND new.watermark_at IS NULL)"""
    ).fetchall()
    if back:
        raise InvariantViolated(
            f"account {write.account}: invariant 'the watermark never moves back' is broken: "
            f"it is at {back[0][0]} and would become {back[0][1]}. Nothing was written"
        )
    return (version or 0) + 1
