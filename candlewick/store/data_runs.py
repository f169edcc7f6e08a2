"""The bookkeeping of market data: runs, finished chunks and what is known of every series, beside the accounts.

A write transaction costs some 35 ms whatever is in it, so everything here takes batches.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime

import polars as pl

from candlewick.errors import InvariantViolated, UnknownRun, UsageError
from candlewick.market_data.repairing import Acted
from candlewick.market_data.rows import (
    DATA_RUN_ROW,
    DATA_SERIES_ROW,
    SERIES_KEY,
    AnySeries,
    DataChunk,
    DataRun,
    chunk_rows,
    data_run_row,
    series_rows,
)
from candlewick.rows import NUMBER, TEXT, TIME
from candlewick.store.database import Connection, Database
from candlewick.store.processes import is_alive, this_process
from candlewick.store.tables import TABLES, Table, quoted
from candlewick.store.writing import append, change, checked, put, stage_checked

_RUNS, _CHUNKS = TABLES["data_runs"], TABLES["data_chunks"]
_OVER = "old.status <> 'running'"
_TOLD_AGAIN = tuple(name for name in _RUNS.mutable if name not in ("process", "completed_at"))
_CHUNK_TYPES = {**_CHUNKS.content, "run_id": TEXT}
SERIES_STATE_SCHEMA: Mapping[str, pl.DataType] = {
    **DATA_SERIES_ROW,
    **dict.fromkeys(("open_findings", "open_errors", "open_warnings", "gaps", "chunks"), NUMBER),
    "last_fetched_at": TIME,
}
_STATES = f"""
    WITH found AS (
        SELECT {", ".join(SERIES_KEY)}, count(*) FILTER (state = 'open') AS open_findings,
            count(*) FILTER (state = 'open' AND severity = 'error') AS open_errors,
            count(*) FILTER (state = 'open' AND severity = 'warning') AS open_warnings,
            count(*) FILTER (kind LIKE 'gap%' AND state <> 'repaired'
                AND NOT (kind = 'gap' AND state = 'explained' AND settled_at IS NOT NULL AND starts_with(explanation, 'gap_')))
                AS gaps
        FROM quality GROUP BY ALL),
    fetched AS (
        SELECT {", ".join(SERIES_KEY)}, count(*) AS chunks, max(fetched_at) AS last_fetched_at FROM data_chunks GROUP BY ALL)
    SELECT {", ".join(SERIES_KEY)}, last_synced_at, last_validated_at, verdict,
        coalesce(open_findings, 0) AS open_findings, coalesce(open_errors, 0) AS open_errors,
        coalesce(open_warnings, 0) AS open_warnings, coalesce(gaps, 0) AS gaps, coalesce(chunks, 0) AS chunks, last_fetched_at
    FROM data_series FULL JOIN found USING ({", ".join(SERIES_KEY)}) FULL JOIN fetched USING ({", ".join(SERIES_KEY)})
    ORDER BY {", ".join(SERIES_KEY)}"""


class DataStore:
    """Runs, chunks and series in one database. Holds no connection; every method is one transaction."""

    def __init__(self, database: Database) -> None:
        """``database`` is the ledger's file; it need not exist yet."""
        self.database = database

    def begin(self, run: DataRun) -> None:
        """Write that the run has begun, done by this process. Raises InvariantViolated where the id is taken."""
        row = checked(_RUNS, data_run_row(replace(run, status="running", process=this_process())))
        with self.database.write() as connection:
            if connection.execute("SELECT 1 FROM data_runs WHERE run_id = ?", [run.run_id]).fetchall():
                raise InvariantViolated(f"run {run.run_id}: that id is taken. Nothing was written; begin under another")
            append(connection, _RUNS, stage_checked(connection, _RUNS, row))

    def finish(self, run: DataRun) -> None:
        """The run as it ended; ``status`` says how. To say the same again, later, is a no-op.

        Raises InvariantViolated, UnknownRun, UsageError where the status is still "running".
        """
        if run.status == "running":
            raise UsageError(f"run {run.run_id} cannot end as running: success, partial, failure or interrupted")
        row = checked(_RUNS, data_run_row(replace(run, process=None)))
        with self.database.write() as connection:
            if not connection.execute("SELECT 1 FROM data_runs WHERE run_id = ?", [run.run_id]).fetchall():
                raise UnknownRun(f"there is no run {run.run_id!r} of market data")
            stage_checked(connection, _RUNS, row)
            change(connection, _RUNS, _RUNS.mutable, _OVER, _TOLD_AGAIN)

    def runs(self, limit: int = 20) -> tuple[DataRun, ...]:
        """The newest runs, newest first. One that never ended and whose process is dead is shown as interrupted."""
        if not self.database.exists():
            return ()
        with self.database.read() as connection:
            frame = _read(connection, _RUNS, DATA_RUN_ROW, "TRUE", {}, f"started_at DESC, run_id DESC LIMIT {limit:d}")
        return tuple(_shown(DataRun(**row)) for row in frame.iter_rows(named=True))

    def add_chunks(self, run_id: str, chunks: Iterable[DataChunk]) -> int:
        """Keep finished chunks of many series; the number of rows. A chunk that was fetched again replaces its row."""
        rows = checked(_CHUNKS, chunk_rows(chunks)).with_columns(pl.lit(run_id, TEXT).alias("run_id"))
        if rows.is_empty():
            return 0
        with self.database.write() as connection:
            stage_checked(connection, _CHUNKS, rows)
            put(connection, _CHUNKS)
        return rows.height

    def chunks(self, series: AnySeries | Iterable[AnySeries] | None = None, run_id: str | None = None) -> pl.DataFrame:
        """Finished chunks, all columns of `data_chunks`, by series and time; no rows where there is no ledger."""
        if not self.database.exists():
            return pl.DataFrame(schema=_CHUNK_TYPES)
        terms, values = ["TRUE"], dict[str, object]()
        if run_id is not None:
            terms, values = [*terms, "run_id = $run_id"], {"run_id": run_id}
        with self.database.read() as connection:
            if series is not None:
                connection.register("asked", series_rows(series).to_arrow())
                terms.append(f"({', '.join(SERIES_KEY)}) IN (SELECT {', '.join(SERIES_KEY)} FROM asked)")
            return _read(connection, _CHUNKS, _CHUNK_TYPES, " AND ".join(terms), values, ", ".join(map(quoted, _CHUNKS.order)))

    def fetched_since_sync(self, series: AnySeries) -> int | None:
        """From when on chunks were fetched after the series was last complete, in milliseconds UTC; None where none was.

        They are the work of a run that died before its end, and of the one that goes on.
        """
        if not self.database.exists():
            return None
        query = f"""SELECT epoch_ms(min(since_at)) FROM data_chunks chunk
            JOIN asked USING ({", ".join(SERIES_KEY)}) LEFT JOIN data_series known USING ({", ".join(SERIES_KEY)})
            WHERE known.last_synced_at IS NULL OR chunk.fetched_at > known.last_synced_at"""
        with self.database.read() as connection:
            connection.register("asked", series_rows(series).to_arrow())
            (first_ms,) = connection.execute(query).fetchall()[0]
        return None if first_ms is None else int(first_ms)

    def synced(self, series: AnySeries | Iterable[AnySeries], at: datetime) -> None:
        """Series that are complete up to the market's newest closed bar, as of ``at`` (this machine's time)."""
        self._note(series, {"last_synced_at": pl.lit(at).cast(TIME)})

    def validated(self, series: AnySeries | Iterable[AnySeries], at: datetime, verdict: str) -> None:
        """Series that were checked at ``at``, with what came out."""
        self._note(series, {"last_validated_at": pl.lit(at).cast(TIME), "verdict": pl.lit(verdict, TEXT)})

    def series_states(self) -> pl.DataFrame:
        """One row a series that anything is known of, in SERIES_STATE_SCHEMA; no rows where there is no ledger.

        ``gaps`` counts those that are there still, whether explained or not, each once.
        """
        if not self.database.exists():
            return pl.DataFrame(schema=dict(SERIES_STATE_SCHEMA))
        with self.database.read() as connection:
            frame = pl.DataFrame(connection.sql(_STATES).to_arrow_table())
        return frame.with_columns(pl.col(name).cast(kind) for name, kind in SERIES_STATE_SCHEMA.items())

    def acted(self, market: str, symbol: str, timeframe: str) -> tuple[Acted, ...]:
        """Accounts that have decided on bars of a series, by name; ``market`` is what the account was opened with."""
        if not self.database.exists():
            return ()
        query = """SELECT account, epoch_ms(anchor_at), epoch_ms(watermark_at) FROM accounts JOIN checkpoints USING (account)
            WHERE market = ? AND timeframe = ? AND list_contains(symbols::VARCHAR[], ?) AND watermark_at IS NOT NULL
            ORDER BY account"""
        with self.database.read() as connection:
            rows = connection.execute(query, [market, timeframe, symbol]).fetchall()
        return tuple(Acted(str(account), int(anchor_ms), int(watermark_ms)) for account, anchor_ms, watermark_ms in rows)

    def _note(self, series: AnySeries | Iterable[AnySeries], columns: Mapping[str, pl.Expr]) -> None:
        rows = series_rows(series).with_columns(expression.alias(name) for name, expression in columns.items())
        if rows.is_empty():
            return
        names, keys = ", ".join(rows.columns), ", ".join(SERIES_KEY)
        changes = ", ".join(f"{name} = excluded.{name}" for name in columns)
        with self.database.write() as connection:
            connection.register("noted", rows.to_arrow())
            connection.execute(
                f"INSERT INTO data_series ({names}) SELECT {names} FROM noted ON CONFLICT ({keys}) DO UPDATE SET {changes}"
            )


def _read(
    connection: Connection, table: Table, types: Mapping[str, pl.DataType], where: str, values: Mapping[str, object], order: str
) -> pl.DataFrame:
    columns = ", ".join(map(quoted, types))
    query = f"SELECT {columns} FROM {table.name} WHERE {where} ORDER BY {order}"
    frame = pl.DataFrame(connection.sql(query, params=dict(values)).to_arrow_table())
    return frame.with_columns(pl.col(name).cast(kind) for name, kind in types.items())


def _shown(run: DataRun) -> DataRun:
    """A run that never ended and whose process is dead was interrupted."""
    if run.status != "running" or is_alive(run.process, run.started_at, datetime.now(UTC)):
        return run
    return replace(run, status="interrupted", error=f"its process ended without a word ({run.process or 'unknown'})")
