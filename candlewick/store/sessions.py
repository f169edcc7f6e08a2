"""Monitored sessions in the store: one transaction a tick in, what status, commands and the outside need out.

A tick of a session is one `commit`: the cycles of all its accounts, what was done to their signals, what the outside is to be
told, and the session's own rows. All of it is there afterwards, or nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl

from candlewick.candles import CANDLE_SCHEMA, Series
from candlewick.json_text import Json
from candlewick.monitoring.interventions import Intervention
from candlewick.monitoring.row_frames import CONTROL_ROW, Row, interventions_of, pending_candles_of, rows_frame, rows_of
from candlewick.monitoring.rows import AlertRow, Control, OutboxEvent, SessionRow, Sink, Transition
from candlewick.rows import POSITION_ROW
from candlewick.store.database import Connection, Database
from candlewick.store.processes import is_alive
from candlewick.store.session_queries import EQUITY_SUM_SCHEMA, LAST_SIGN_OF_LIFE, equity_of, risk_of, successor_of
from candlewick.store.session_writing import SessionWrite, prune_outbox, session_frames, write_session
from candlewick.store.tables import TABLES, quoted
from candlewick.store.writing import append, stage_checked

_WAITING = "name = $name AND applied_at IS NULL"


@dataclass(frozen=True, slots=True)
class Poll:
    """What a session asks the store every second: commands to it, and whether the next session of its name is there."""

    controls: tuple[Control, ...]
    successor: SessionRow | None


class SessionStore:
    """Sessions in one database. Holds no connection; every method is one transaction.

    Reads answer nothing where there is no ledger. All raise LedgerError.
    """

    def __init__(self, database: Database) -> None:
        """``database`` is the ledger's file; it need not exist yet."""
        self.database = database

    def commit(self, write: SessionWrite) -> tuple[OutboxEvent, ...]:
        """Write one tick, whole or not at all. The events that are new in the outbox, with their numbers there, in order.

        Raises StaleCycle and InvariantViolated naming the account; InvariantViolated also where a row that is there would get
        other content, an intervention is of no bar that this commit processes, an event's id is another happening's, or a
        control was applied before.
        """
        frames = session_frames(write)
        with self.database.write() as connection:
            return tuple(write_session(connection, write, frames))

    def ask(self, control: Control) -> None:
        """Leave a command for the session. The same id with the same content is a no-op, with other content InvariantViolated."""
        table = TABLES["controls"]
        with self.database.write() as connection:
            append(connection, table, stage_checked(connection, table, rows_frame((control,), CONTROL_ROW)))

    def prune(self, name: str, before: datetime, sinks: Sequence[Sink] = ("redis", "prefect")) -> int:
        """Delete events of the outbox that happened before ``before`` and that all of ``sinks`` have; how many.

        From the oldest on, up to the first that a sink has not; the last event stays, since the next one's number follows it.
        """
        with self.database.write() as connection:
            return prune_outbox(connection, name, before, sinks)

    def session(self, session_id: str) -> SessionRow | None:
        """One session."""
        return next(iter(self._rows(SessionRow, "session_id = $id", {"id": session_id}, "started_at")), None)

    def sessions(self, name: str | None = None, limit: int = 20) -> tuple[SessionRow, ...]:
        """The newest sessions, newest first; of one desk where ``name`` is given."""
        where = "TRUE" if name is None else "name = $name"
        values = {} if name is None else {"name": name}
        return self._rows(SessionRow, where, values, f"started_at DESC, session_id DESC LIMIT {limit:d}")

    def seen_last(self, name: str, limit: int) -> tuple[SessionRow, ...]:
        """The sessions of a desk that gave a sign of life last, the last one first."""
        return self._rows(SessionRow, "name = $name", {"name": name}, f"{LAST_SIGN_OF_LIFE} LIMIT {limit:d}")

    def latest(self, name: str) -> SessionRow | None:
        """The session of this name that started last, whether it still runs or not."""
        return next(iter(self.sessions(name, 1)), None)

    def poll(self, name: str, session_id: str) -> Poll:
        """Commands that wait, oldest first, and the session of this name that has started after this one and lives, STARTING."""
        if not self.database.exists():
            return Poll((), None)
        with self.database.read() as connection:
            controls = _read(
                connection, Control, "name = $name AND applied_at IS NULL", {"name": name}, "requested_at, control_id"
            )
            waiting = successor_of(connection, name, session_id)
        now = datetime.now(UTC)
        alive = [one for one in rows_of(SessionRow, waiting) if is_alive(one.process, one.heartbeat_at, now)]
        return Poll(controls, alive[0] if alive else None)

    def pending_controls(self, name: str) -> tuple[Control, ...]:
        """Commands that no session has taken yet, oldest first."""
        return self._rows(Control, _WAITING, {"name": name}, "requested_at, control_id")

    def controls(self, name: str, limit: int = 50) -> tuple[Control, ...]:
        """The newest commands, newest first, taken or not."""
        return self._rows(Control, "name = $name", {"name": name}, f"requested_at DESC, control_id DESC LIMIT {limit:d}")

    def interventions(self, account: str) -> tuple[Intervention, ...]:
        """What sessions did to the signals of an account, by bar and symbol."""
        if not self.database.exists():
            return ()
        with self.database.read() as connection:
            return interventions_of(
                _frame(connection, "interventions", "account = $account", {"account": account}, "opened_at, symbol")
            )

    def risk(self, name: str) -> Mapping[str, Json] | None:
        """The desk's risk document as it was last written; None where there is none."""
        if not self.database.exists():
            return None
        with self.database.read() as connection:
            return risk_of(connection, name)

    def undelivered(self, name: str, sink: Sink, limit: int = 1000) -> tuple[OutboxEvent, ...]:
        """Events that a sink has not confirmed, in their order."""
        return self._rows(OutboxEvent, f"name = $name AND {sink}_at IS NULL", {"name": name}, f"sequence LIMIT {limit:d}")

    def last_sequence(self, name: str) -> int:
        """Number of the last event in the outbox of a desk, 0 before the first."""
        if not self.database.exists():
            return 0
        with self.database.read() as connection:
            query = "SELECT coalesce(max(sequence), 0) FROM outbox WHERE name = ?"
            return int(connection.execute(query, [name]).fetchall()[0][0])

    def events(self, name: str, since_sequence: int = 0, limit: int = 200) -> tuple[OutboxEvent, ...]:
        """Events of the outbox after a number, in their order."""
        where, values = "name = $name AND sequence > $since", {"name": name, "since": since_sequence}
        return self._rows(OutboxEvent, where, values, f"sequence LIMIT {limit:d}")

    def transitions(self, session_id: str) -> tuple[Transition, ...]:
        """Every move of a session's state machines, in their order."""
        return self._rows(Transition, "session_id = $id", {"id": session_id}, "sequence")

    def alerts(self, name: str, limit: int = 50) -> tuple[AlertRow, ...]:
        """The newest alerts, newest first."""
        return self._rows(AlertRow, "name = $name", {"name": name}, f"raised_at DESC, alert_id DESC LIMIT {limit:d}")

    def pending_candles(self, series: Series) -> pl.DataFrame:
        """Bars of a series that accounts have acted on and the lake does not have, CANDLE_SCHEMA, by time."""
        return self.all_pending((series,)).get(series, pl.DataFrame(schema=dict(CANDLE_SCHEMA)))

    def all_pending(self, series: Iterable[Series] | None = None) -> Mapping[Series, pl.DataFrame]:
        """The same of every series that has any, or of those of ``series`` that have."""
        if not self.database.exists():
            return {}
        with self.database.read() as connection:
            frame = _frame(connection, "pending_candles", "TRUE", {}, "market, symbol, timeframe, opened_at")
        keys = ("market", "symbol", "timeframe")
        found = {Series(*map(str, key)): pending_candles_of(part) for key, part in frame.group_by(keys, maintain_order=True)}
        wanted = None if series is None else set(series)
        return {one: candles for one, candles in found.items() if wanted is None or one in wanted}

    def equity(self, accounts: Iterable[str], since: datetime | None = None) -> pl.DataFrame:
        """What accounts are worth together: at, equity, cash, position_value (AMOUNT), open_positions; one row a bar's close.

        An account counts with its last row before, and with its first deposit before its first row. Rows at or after ``since``.
        """
        if not self.database.exists():
            return pl.DataFrame(schema=dict(EQUITY_SUM_SCHEMA))
        with self.database.read() as connection:
            return equity_of(connection, tuple(accounts), since)

    def open_positions(self, accounts: Iterable[str]) -> pl.DataFrame:
        """Open positions of accounts, POSITION_ROW, by account and symbol."""
        if not self.database.exists():
            return pl.DataFrame(schema=dict(POSITION_ROW))
        with self.database.read() as connection:
            where, values = "account IN (SELECT unnest($accounts::VARCHAR[]))", {"accounts": list(accounts)}
            return _frame(connection, "positions", where, values, "account, symbol")

    def _rows(self, kind: type[Row], where: str, values: Mapping[str, object], order: str) -> tuple[Row, ...]:
        if not self.database.exists():
            return ()
        with self.database.read() as connection:
            return _read(connection, kind, where, values, order)


_TABLE_OF: Mapping[type, str] = {
    SessionRow: "sessions",
    Transition: "transitions",
    Control: "controls",
    OutboxEvent: "outbox",
    AlertRow: "alerts",
}


def _read(connection: Connection, kind: type[Row], where: str, values: Mapping[str, object], order: str) -> tuple[Row, ...]:
    return rows_of(kind, _frame(connection, _TABLE_OF[kind], where, values, order))


def _frame(connection: Connection, table: str, where: str, values: Mapping[str, object], order: str) -> pl.DataFrame:
    """Content columns of rows, typed."""
    content = TABLES[table].content
    query = f"SELECT {', '.join(map(quoted, content))} FROM {table} WHERE {where} ORDER BY {order}"
    frame = pl.DataFrame(connection.sql(query, params=dict(values)).to_arrow_table())
    return frame.with_columns(pl.col(name).cast(kind) for name, kind in content.items())
