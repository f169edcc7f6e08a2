"""The run store: backtests, sweeps and walk-forwards beside the accounts, in the same file and behind the same queue.

A run has two transactions of its own, its beginning and its end, and one for every chunk of sets that is done. Rows are made
and checked before the queue is joined, so that a paper cycle waits for the insert alone. A run that never ended, because its
process died, is shown as interrupted: what it had written is kept.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from difflib import get_close_matches

import polars as pl

from candlewick.backtest_rows import (
    BacktestRun,
    KeptCheck,
    RunKind,
    RunStatus,
    check_row,
    equity_rows,
    fill_rows,
    parameters_key,
    read_check,
    read_run,
    read_trades,
    run_row,
    set_rows,
    trade_rows,
    window_rows,
)
from candlewick.errors import AmbiguousRun, InvariantViolated, RunActive, UnknownRun, UsageError
from candlewick.json_text import Json
from candlewick.store.database import Connection, Database
from candlewick.store.processes import is_alive, this_process
from candlewick.store.tables import TABLES, quoted
from candlewick.store.writing import append, change, checked, put, stage_checked

_PARTS = ("backtest_trades", "backtest_fills", "backtest_equity", "backtest_sets", "backtest_windows")
_RUNS = TABLES["backtests"]
_OVER = "old.status IN ('success', 'failure')"
# `sets_done` counts the rows of backtest_sets; nobody else may say it.
_ENDING = tuple(name for name in _RUNS.mutable if name != "sets_done")
# A run that is over is told again by the repetition of its last task, only later.
_TOLD_AGAIN = tuple(name for name in _ENDING if name not in ("completed_at", "durations_s", "process", "report"))
_NEAREST = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The rows a run ends with; None: none. Columns as in candlewick/backtest_rows.py without ``run_id``.

    ``trades``: TRADE_SCHEMA. ``fills`` and ``equity``: the journal's, the latter with ``benchmark`` where there is one.
    ``sets`` and ``windows`` hold JSON text in their figures and parameters.
    """

    trades: pl.DataFrame | None = None
    fills: pl.DataFrame | None = None
    equity: pl.DataFrame | None = None
    sets: pl.DataFrame | None = None
    windows: pl.DataFrame | None = None

    def rows(self, run_id: str) -> dict[str, pl.DataFrame]:
        """Checked rows by table. Raises InvariantViolated for wrong columns or types."""
        made = {
            "backtest_trades": None if self.trades is None else trade_rows(run_id, self.trades),
            "backtest_fills": None if self.fills is None else fill_rows(run_id, self.fills),
            "backtest_equity": None if self.equity is None else equity_rows(run_id, self.equity),
            "backtest_sets": None if self.sets is None else set_rows(run_id, self.sets),
            "backtest_windows": None if self.windows is None else window_rows(run_id, self.windows),
        }
        return {table: checked(TABLES[table], frame) for table, frame in made.items() if frame is not None and frame.height}


class Backtests:
    """The runs in one database. Holds no connection; every method is one transaction.

    Where a ``run_id`` is asked for, the beginning of one will do where only one run has it: UnknownRun, AmbiguousRun.
    """

    def __init__(self, database: Database) -> None:
        """``database`` is the ledger's file; it need not exist yet."""
        self.database = database

    def begin(self, run: BacktestRun) -> None:
        """Write that the run has begun, computed by this process. Raises InvariantViolated where the id is taken."""
        row = checked(_RUNS, run_row(replace(run, status="running", sets_done=0, process=this_process())))
        with self.database.write() as connection:
            taken = connection.execute("SELECT 1 FROM backtests WHERE run_id = ?", [run.run_id]).fetchall()
            if taken:
                raise InvariantViolated(f"backtest {run.run_id}: that id is taken. Nothing was written; resume it instead")
            append(connection, _RUNS, stage_checked(connection, _RUNS, row))

    def resume(self, run_id: str) -> BacktestRun:
        """This process goes on with a run that was interrupted or failed. Raises RunActive, UsageError where it succeeded."""
        with self.database.write() as connection:
            run = _found(connection, run_id)
            _refuse_active(run)
            if run.status == "success":
                raise UsageError(f"run {run.run_id} is complete since {run.completed_at}: there is nothing to resume")
            resumed = replace(run, status="running", error=None, completed_at=None, process=this_process())
            stage_checked(connection, _RUNS, run_row(resumed))
            put(connection, _RUNS)
        return resumed

    def add_sets(self, run_id: str, sets: pl.DataFrame) -> int:
        """Keep sets that are done (number, parameters, objective, figures, chunk); the number that were not there yet.

        A set that comes again with the same content is a no-op. Raises InvariantViolated where the content differs, UnknownRun.
        """
        table = TABLES["backtest_sets"]
        rows = checked(table, set_rows(run_id, sets)) if sets.height else None
        with self.database.write() as connection:
            _refuse_unknown(connection, run_id)
            return 0 if rows is None else _add_sets(connection, run_id, rows)

    def finish(self, run: BacktestRun, outcome: Outcome | None = None) -> None:
        """The run as it ended, and its rows, whole or not at all; ``status`` says how.

        What was fixed at the beginning must be the same. A run that succeeded or failed stays as it is; to say so again, later,
        is a no-op. Raises InvariantViolated, UnknownRun, UsageError where the status is still "running".
        """
        if run.status == "running":
            raise UsageError(f"run {run.run_id} cannot end as running: success, failure or interrupted")
        row = checked(_RUNS, run_row(replace(run, process=None)))
        rows = (outcome or Outcome()).rows(run.run_id)
        with self.database.write() as connection:
            _refuse_unknown(connection, run.run_id)
            stage_checked(connection, _RUNS, row)
            change(connection, _RUNS, _ENDING, _OVER, _TOLD_AGAIN)
            for name, frame in rows.items():
                if name == "backtest_sets":
                    _add_sets(connection, run.run_id, frame)
                else:
                    append(connection, TABLES[name], stage_checked(connection, TABLES[name], frame))

    def find(self, run_id: str) -> BacktestRun:
        """The run. Raises UnknownRun naming those that are spelled nearly so, AmbiguousRun."""
        with self._known(run_id) as connection:
            return _found(connection, run_id)

    def latest(self, kind: RunKind | None = None, status: RunStatus | None = None) -> BacktestRun | None:
        """The run that began last, whoever asked for it; None where there is none."""
        over = status in ("success", "failure")
        where = "TRUE" if status is None else "status = $status" if over else "status IN ('running', 'interrupted')"
        values = {"status": str(status)} if over else {}
        runs = self._select(where, values, kind=kind, strategy=None, limit=1 if over or status is None else None)
        return next((run for run in runs if status in (None, run.status)), None)

    def list_runs(
        self, kind: RunKind | None = None, strategy: str | None = None, limit: int | None = None, parent: str | None = None
    ) -> tuple[BacktestRun, ...]:
        """Runs, newest first: those that somebody asked for, or those that run ``parent`` (its whole id) is made of."""
        where = "parent_run_id IS NULL" if parent is None else "parent_run_id = $parent"
        return self._select(where, {} if parent is None else {"parent": parent}, kind=kind, strategy=strategy, limit=limit)

    def trades(self, run_id: str) -> pl.DataFrame:
        """The run's trades: TRADE_SCHEMA, in the order they were written."""
        return read_trades(self._rows("backtest_trades", run_id))

    def fills(self, run_id: str) -> pl.DataFrame:
        """The run's fills by their sequence."""
        return self._rows("backtest_fills", run_id)

    def equity(self, run_id: str) -> pl.DataFrame:
        """The run's equity: at, equity, cash, position_value, drawdown_share, open_positions, benchmark."""
        return self._rows("backtest_equity", run_id)

    def sets(self, run_id: str) -> pl.DataFrame:
        """The run's sets by their number: number, parameters, objective, figures, chunk (JSON as text)."""
        return self._rows("backtest_sets", run_id)

    def windows(self, run_id: str) -> pl.DataFrame:
        """The run's windows by their number (JSON as text)."""
        return self._rows("backtest_windows", run_id)

    def delete(self, run_id: str) -> tuple[BacktestRun, ...]:
        """Delete the run, its rows and the runs it is made of; what was deleted. Raises RunActive while one is computed."""
        with self.database.write() as connection:
            runs = _with_parts(connection, _whole_id(connection, run_id))
            for run in runs:
                _refuse_active(run)
            _delete(connection, runs)
        return runs

    def prune(self, keep: int) -> tuple[BacktestRun, ...]:
        """Delete all but the newest ``keep`` runs (those they are made of not counted) and those still computed; the deleted.

        Raises UsageError for a negative ``keep``.
        """
        if keep < 0:
            raise UsageError(f"cannot keep {keep} runs: 0 is the least")
        if not self.database.exists():
            return ()
        with self.database.write() as connection:
            query = "SELECT run_id FROM backtests WHERE parent_run_id IS NULL ORDER BY started_at DESC, run_id DESC OFFSET ?"
            families = [_with_parts(connection, str(row[0])) for row in connection.execute(query, [keep]).fetchall()]
            gone = tuple(run for family in families if not any(_is_active(run) for run in family) for run in family)
            _delete(connection, gone)
        return gone

    def keep_check(self, check: KeptCheck) -> None:
        """Remember what the check said; an earlier answer for the same strategy, parameters and code is replaced."""
        table = TABLES["strategy_checks"]
        row = checked(table, check_row(check))
        with self.database.write() as connection:
            stage_checked(connection, table, row)
            put(connection, table)

    def find_check(
        self, strategy: str, parameters: Mapping[str, Json], code_version: str, strategy_version: str
    ) -> KeptCheck | None:
        """What the check said of exactly this; None where it was not checked."""
        if not self.database.exists():
            return None
        keys = {"strategy": strategy, "parameters": parameters_key(parameters)}
        keys |= {"code_version": code_version, "strategy_version": strategy_version}
        where = " AND ".join(f"{name} = ${name}" for name in keys)
        with self.database.read() as connection:
            rows = _read(connection, "strategy_checks", where, keys)
        return read_check(rows.to_dicts()[0]) if rows.height else None

    def _select(
        self, where: str, values: Mapping[str, str], *, kind: RunKind | None, strategy: str | None, limit: int | None = None
    ) -> tuple[BacktestRun, ...]:
        if not self.database.exists():
            return ()
        asked = {name: value for name, value in (("kind", kind), ("strategy", strategy)) if value is not None}
        conditions = " AND ".join([where, *(f"{name} = ${name}" for name in asked)])
        with self.database.read() as connection:
            return _select(connection, conditions, {**values, **asked}, limit)

    @contextmanager
    def _known(self, run_id: str) -> Iterator[Connection]:
        if not self.database.exists():
            raise UnknownRun(f"there is no run {run_id!r}: {self.database.path} does not exist yet")
        with self.database.read() as connection:
            yield connection

    def _rows(self, table: str, run_id: str) -> pl.DataFrame:
        with self._known(run_id) as connection:
            whole_id = _whole_id(connection, run_id)
            return _read(connection, table, "run_id = $run_id", {"run_id": whole_id}).drop("run_id")


def _add_sets(connection: Connection, run_id: str, rows: pl.DataFrame) -> int:
    table = TABLES["backtest_sets"]
    added = append(connection, table, stage_checked(connection, table, rows))
    if added:
        connection.execute("UPDATE backtests SET sets_done = sets_done + ? WHERE run_id = ?", [added, run_id])
    return added


def _select(connection: Connection, where: str, values: Mapping[str, str], limit: int | None = None) -> tuple[BacktestRun, ...]:
    """Runs as they are shown, newest first."""
    rows = _read(connection, "backtests", where, values, order="started_at DESC, run_id DESC", limit=limit)
    return tuple(_shown(read_run(row)) for row in rows.iter_rows(named=True))


def _read(
    connection: Connection, table: str, where: str, values: Mapping[str, str], order: str = "", limit: int | None = None
) -> pl.DataFrame:
    """Rows with the types of the table's content, in its order where no other is named."""
    content = TABLES[table].content
    columns, by = ", ".join(map(quoted, content)), order or ", ".join(map(quoted, TABLES[table].order))
    query = f"SELECT {columns} FROM {table} WHERE {where} ORDER BY {by}" + ("" if limit is None else f" LIMIT {limit:d}")
    frame = pl.DataFrame(connection.sql(query, params=dict(values)).to_arrow_table())
    return frame.with_columns(pl.col(name).cast(kind) for name, kind in content.items())


def _shown(run: BacktestRun) -> BacktestRun:
    """A run that never ended and whose process is dead was interrupted."""
    if run.status != "running" or _is_active(run):
        return run
    return replace(run, status="interrupted", error=f"its process ended without a word ({run.process or 'unknown'})")


def _is_active(run: BacktestRun) -> bool:
    return run.status == "running" and is_alive(run.process, run.started_at, datetime.now(UTC))


def _refuse_active(run: BacktestRun) -> None:
    if _is_active(run):
        raise RunActive(f"run {run.run_id} is still computed by process {run.process}, since {run.started_at:%Y-%m-%d %H:%M} UTC")


def _refuse_unknown(connection: Connection, run_id: str) -> None:
    if not connection.execute("SELECT 1 FROM backtests WHERE run_id = ?", [run_id]).fetchall():
        raise _unknown(connection, run_id)


def _found(connection: Connection, run_id: str) -> BacktestRun:
    return _select(connection, "run_id = $run_id", {"run_id": _whole_id(connection, run_id)})[0]


def _whole_id(connection: Connection, run_id: str) -> str:
    """The id that is ``run_id``, or the only one that begins with it."""
    query = "SELECT run_id FROM backtests WHERE starts_with(run_id, ?) ORDER BY run_id = ? DESC, started_at DESC, run_id"
    ids = [str(row[0]) for row in connection.execute(query, [run_id, run_id]).fetchall()] if run_id else []
    if not ids:
        raise _unknown(connection, run_id)
    if ids[0] != run_id and len(ids) > 1:
        named = ", ".join(ids[:_NEAREST]) + (", ..." if len(ids) > _NEAREST else "")
        raise AmbiguousRun(f"{run_id!r} is the beginning of {len(ids)} runs: {named}. Write more of the id")
    return ids[0]


def _unknown(connection: Connection, run_id: str) -> UnknownRun:
    rows = connection.execute("SELECT run_id FROM backtests ORDER BY started_at DESC, run_id").fetchall()
    ids = [str(row[0]) for row in rows]
    near = get_close_matches(run_id, ids, n=_NEAREST, cutoff=0.5) or ids[:_NEAREST]
    known = f"nearest are: {', '.join(near)}" if near else "there is none yet"
    return UnknownRun(f"there is no run {run_id!r}; {known}")


def _with_parts(connection: Connection, run_id: str) -> tuple[BacktestRun, ...]:
    """The run and all those it is made of, at any depth."""
    query = """WITH RECURSIVE family AS (
            SELECT run_id FROM backtests WHERE run_id = $run_id
            UNION SELECT b.run_id FROM backtests b JOIN family f ON b.parent_run_id = f.run_id)
        SELECT run_id FROM family"""
    return _select(connection, f"run_id IN ({query})", {"run_id": run_id})


def _delete(connection: Connection, runs: tuple[BacktestRun, ...]) -> None:
    if not runs:
        return
    connection.register("gone", pl.DataFrame({"run_id": [run.run_id for run in runs]}).to_arrow())
    for table in (*_PARTS, "backtests"):
        connection.execute(f"DELETE FROM {table} WHERE run_id IN (SELECT run_id FROM gone)")
