"""The ledger: one transaction a cycle in, whole accounts out.

`write_cycles` is the only way an account changes. It takes the rows of one cycle of one account or of many, proves that nothing
which was written before becomes something else, checks the invariants, and all of it is committed or nothing. Every statement is
about all accounts at once: a transaction of 200 accounts has as many as one of a single account.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl

from candlewick.errors import InvariantViolated, StaleCycle
from candlewick.reports.view import AccountView
from candlewick.rows import TEXT, TIME
from candlewick.store import queries
from candlewick.store.database import Connection, Database
from candlewick.store.failures import unwritable
from candlewick.store.invariants import check_account, check_written
from candlewick.store.lock import HeldLock, Holder, try_lock
from candlewick.store.quality import append_findings
from candlewick.store.queries import JsonValue, LoadedAccount
from candlewick.store.tables import TABLES, Table
from candlewick.store.writing import advance_orders, append, booked, checked, put, replace_positions, stage, stage_checked

# In this order: an order's correlation id is its signal's, a fill's that of its order.
_BEFORE_ORDERS = ("accounts", "terms", "runs", "signals")
_AFTER_ORDERS = ("fills", "postings", "equity", "events")
_WRITTEN = (*_BEFORE_ORDERS, "orders", *_AFTER_ORDERS, "positions", "quality", "checkpoints")
Frames = Mapping[str, pl.DataFrame]


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
        frames = joined_frames((write,))
        with self.database.write() as connection:
            written = write_cycles(connection, (write,), frames)
        return CommitReport(written, (write.expected_version or 0) + 1)

    def amend(self, account: str, terms: pl.DataFrame, expected_version: int, run_id: str, recorded_at: datetime) -> None:
        """Append a version of the terms. The checkpoint moves on by one, so that a cycle that began before is stale.

        Raises StaleCycle when a cycle committed since the account was loaded, InvariantViolated.
        """
        _refuse_foreign_rows("terms", terms, pl.Series([account] * terms.height, dtype=TEXT))
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

    def load_accounts(self, accounts: Iterable[str]) -> Mapping[str, LoadedAccount]:
        """Those of the accounts that there are, by name, read in one transaction."""
        return queries.load_accounts(self.database, accounts)

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


def joined_frames(writes: Sequence[CycleWrite]) -> dict[str, pl.DataFrame]:
    """The rows of all writes by table, checked and with their bookkeeping: what `write_cycles` stages.

    To be done before the transaction, which others wait for. Raises InvariantViolated.
    """
    names = [write.account for write in writes]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise InvariantViolated(f"account {twice}: two cycles of it in one commit. Nothing was written")
    by_write = [(write, write.frames()) for write in writes]
    return {name: _joined(TABLES[name], [(write, frames[name]) for write, frames in by_write]) for name in _WRITTEN}


def _joined(table: Table, parts: Sequence[tuple[CycleWrite, pl.DataFrame]]) -> pl.DataFrame:
    """Rows of one table of all writes; frames of the same columns are joined first, so that each step is done once."""
    groups: dict[tuple[str, ...], list[tuple[CycleWrite, pl.DataFrame]]] = {}
    for write, frame in parts:
        if frame.width:
            groups.setdefault(tuple(frame.columns), []).append((write, frame))
    frames = []
    for group in groups.values():
        try:
            frame = pl.concat([frame for _, frame in group], how="vertical_relaxed", rechunk=True)
        except pl.exceptions.PolarsError as error:
            raise InvariantViolated(f"rows for {table.name}: {error}") from error
        owners = np.repeat(np.arange(len(group)), [frame.height for _, frame in group])
        accounts = pl.Series([write.account for write, _ in group], dtype=TEXT).gather(owners)
        _refuse_foreign_rows(table.name, frame, accounts)
        run_ids = pl.Series([write.run_id for write, _ in group], dtype=TEXT).gather(owners)
        recorded_at = pl.Series([write.recorded_at for write, _ in group], dtype=TIME).gather(owners)
        frames.append(checked(table, booked(table, frame, run_ids, recorded_at)))
    if len(frames) == 1:
        return frames[0]
    nothing = checked(table, pl.DataFrame())
    return checked(table, pl.concat([booked(table, nothing, pl.lit("", TEXT), pl.lit(None, TIME)), *frames], how="diagonal"))


def write_cycles(connection: Connection, writes: Sequence[CycleWrite], frames: Frames) -> dict[str, int]:
    """Write cycles of different accounts within a transaction; the rows inserted or changed by table, of all accounts.

    ``frames`` as `joined_frames` made them. Raises StaleCycle and InvariantViolated naming the account.
    """
    staged = {name: stage_checked(connection, TABLES[name], frames[name]) for name in _WRITTEN}
    _refuse_stale(connection, writes, frames["checkpoints"])
    written = {name: append(connection, TABLES[name], staged[name]) for name in _BEFORE_ORDERS}
    written["orders"] = advance_orders(connection, staged["orders"])
    written |= {name: append(connection, TABLES[name], staged[name]) for name in _AFTER_ORDERS}
    written["positions"] = replace_positions(connection, staged["positions"])
    written["quality"] = append_findings(connection, staged["quality"])
    put(connection, TABLES["checkpoints"])
    check_written(connection, {write.account: write.run_id for write in writes}, written)
    return written


def _refuse_foreign_rows(table: str, frame: pl.DataFrame, accounts: pl.Series) -> None:
    """A write touches one account; anything else would escape its invariants. ``accounts``: whose write each row is of."""
    if "account" not in frame.columns:
        return
    foreign = frame["account"].ne_missing(accounts)
    if foreign.any():
        row = int(foreign.arg_max() or 0)
        raise InvariantViolated(f"{table}: a row of account {frame['account'][row]} in a commit of account {accounts[row]}")


def _refuse_stale(connection: Connection, writes: Sequence[CycleWrite], checkpoints: pl.DataFrame) -> None:
    """Every account is where its cycle began, and moves on by one version. Raises StaleCycle, InvariantViolated."""
    query = "SELECT account, version FROM checkpoints WHERE account IN (SELECT unnest($accounts::VARCHAR[]))"
    found: dict[str, int] = dict(connection.execute(query, {"accounts": [write.account for write in writes]}).fetchall())
    offered: dict[str, list[tuple[int, datetime | None]]] = {}
    for account, version, watermark_at in checkpoints.select("account", "version", "watermark_at").iter_rows():
        offered.setdefault(account, []).append((version, watermark_at))
    for write in writes:
        version, rows = found.get(write.account), offered.get(write.account, [])
        if version != write.expected_version:
            raise StaleCycle(
                f"account {write.account}: another cycle committed first (checkpoint {version or 'none'}, "
                f"this cycle started from {write.expected_version or 'none'}). Nothing was written; run it again"
            )
        if len(rows) != 1 or rows[0][0] != (version or 0) + 1:
            raise InvariantViolated(
                f"account {write.account}: the new checkpoint must be one row of version {(version or 0) + 1}, got {rows}"
            )
    back = connection.execute(
        """SELECT account, old.watermark_at, new.watermark_at FROM checkpoints old JOIN new_checkpoints new USING (account)
           WHERE old.watermark_at > new.watermark_at OR (old.watermark_at IS NOT NULL AND new.watermark_at IS NULL)
           ORDER BY account LIMIT 1"""
    ).fetchall()
    if back:
        raise InvariantViolated(
            f"account {back[0][0]}: invariant 'the watermark never moves back' is broken: "
            f"it is at {back[0][1]} and would become {back[0][2]}. Nothing was written"
        )
