"""Reading what sessions and the live page need that is more than the rows of one table."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import polars as pl

from candlewick.json_text import Json
from candlewick.rows import AMOUNT, NUMBER, TIME
from candlewick.store.database import Connection
from candlewick.store.tables import TABLES, quoted

EQUITY_SUM_SCHEMA: Mapping[str, pl.DataType] = {
    "at": TIME,
    **dict.fromkeys(("equity", "cash", "position_value"), AMOUNT),
    "open_positions": NUMBER,
}
# The sum of what each account was last worth is the running sum of what each one changed by: no row an account and time.
_EQUITY = """
    WITH these AS (SELECT account, initial_cash FROM accounts WHERE account IN (SELECT unnest($accounts::VARCHAR[]))),
    before AS (
        SELECT account, max("at") AS last_at FROM equity SEMI JOIN these USING (account) WHERE "at" < $since GROUP BY account),
    changed AS (
        SELECT "at",
            equity - lag(equity, 1, initial_cash) OVER one AS equity,
            cash - lag(cash, 1, initial_cash) OVER one AS cash,
            position_value - lag(position_value, 1, 0) OVER one AS position_value,
            open_positions - lag(open_positions, 1, 0) OVER one AS open_positions
        FROM equity JOIN these USING (account) LEFT JOIN before USING (account)
        WHERE "at" >= coalesce(before.last_at, $since) WINDOW one AS (PARTITION BY account ORDER BY "at")),
    summed AS (
        SELECT "at", sum(equity) AS equity, sum(cash) AS cash, sum(position_value) AS position_value,
            sum(open_positions) AS open_positions
        FROM changed GROUP BY "at"),
    base AS (SELECT coalesce(sum(initial_cash), 0) AS cash FROM these)
    SELECT "at", base.cash + sum(summed.equity) OVER so_far AS equity, base.cash + sum(summed.cash) OVER so_far AS cash,
        sum(summed.position_value) OVER so_far AS position_value, sum(summed.open_positions) OVER so_far AS open_positions
    FROM summed, base WINDOW so_far AS (ORDER BY "at") ORDER BY "at" """


_EVER = datetime(1970, 1, 1, tzinfo=UTC)


def equity_of(connection: Connection, accounts: Sequence[str], since: datetime | None) -> pl.DataFrame:
    """See `SessionStore.equity`."""
    frame = pl.DataFrame(connection.sql(_EQUITY, params={"accounts": list(accounts), "since": since or _EVER}).to_arrow_table())
    frame = frame.select(pl.col(name).cast(kind) for name, kind in EQUITY_SUM_SCHEMA.items())
    return frame if since is None else frame.filter(pl.col("at") >= since)


def risk_of(connection: Connection, name: str) -> Mapping[str, Json] | None:
    """See `SessionStore.risk`."""
    found = connection.execute("SELECT document::VARCHAR FROM desk_risk WHERE name = ?", [name]).fetchall()
    document: dict[str, Json] | None = json.loads(found[0][0]) if found else None
    return document


LAST_SIGN_OF_LIFE = "coalesce(ended_at, heartbeat_at) DESC, started_at DESC, session_id DESC"
"""Order of sessions: one that works comes before those that stood aside for it, although they started later."""


def successor_of(connection: Connection, name: str, session_id: str) -> pl.DataFrame:
    """Sessions of a desk that started after another and are in state STARTING, oldest first; content columns of `sessions`."""
    content = TABLES["sessions"].content
    query = f"""SELECT {", ".join(map(quoted, content))} FROM sessions
        WHERE name = $name AND state = 'STARTING' AND session_id <> $id
            AND started_at >= coalesce((SELECT started_at FROM sessions WHERE session_id = $id), started_at)
        ORDER BY started_at, session_id"""
    frame = pl.DataFrame(connection.sql(query, params={"name": name, "id": session_id}).to_arrow_table())
    return frame.with_columns(pl.col(column).cast(kind) for column, kind in content.items())
