"""What the live page shows of a desk, read in one short transaction: the latest session and its status, positions, new rows of
equity, and what happened last. Nothing is written: an older ledger is not migrated, it just has no sessions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import polars as pl

from candlewick.candles import Series
from candlewick.monitoring import row_frames
from candlewick.monitoring.interventions import Intervention
from candlewick.monitoring.liveness import read_status
from candlewick.monitoring.row_frames import rows_of
from candlewick.monitoring.rows import AlertRow, Control, OutboxEvent, SessionRow, Transition
from candlewick.monitoring.status import SessionStatus
from candlewick.rows import FILL_ROW, POSITION_ROW, Schema
from candlewick.store.database import Connection, Database
from candlewick.store.session_queries import LAST_SIGN_OF_LIFE
from candlewick.store.tables import quoted

EQUITY_BARS = 1500
"""Bars of the newest equity that the page draws."""
_LAST_SESSIONS = 3
_LATEST = 80
_LATEST_OUTBOX = 240
_FILLS = 500

EquityFrom = Mapping[str, datetime]
"""By account, the time after which rows of its equity are new to the reader."""
Values = Mapping[str, str | datetime | Sequence[str]]
_OF_LAST_SESSIONS = f"""session_id IN (
    SELECT session_id FROM sessions WHERE name = $name ORDER BY started_at DESC LIMIT {_LAST_SESSIONS})"""
_INTERVENTIONS = f"interventions WHERE {_OF_LAST_SESSIONS} ORDER BY opened_at DESC LIMIT {_LATEST}"
_UNUSUAL = "('PAUSED', 'ERROR', 'RECOVERING')"
# The orderly start of two hundred symbols is no news.
_TELLING_MOVES = f"""transitions WHERE {_OF_LAST_SESSIONS}
    AND (subject = 'session' OR "after" IN {_UNUSUAL} OR "before" IN {_UNUSUAL})
    ORDER BY "at" DESC, sequence DESC LIMIT {_LATEST}"""


@dataclass(frozen=True, slots=True)
class DeskView:
    """``desks``: names of all desks that ever had a session. ``session`` None: this one had none; then all else is empty.
    ``session``: the one that gave a sign of life last. ``status``: what it says, or
    the one before it as long as it has said nothing.

    ``positions`` in POSITION_ROW; ``equity``: account, at, equity (float, quote currency), new rows only, by time; ``baseline``:
    equity by account before the first of them, given at the first look of a session's accounts. The others are newest first.
    """

    desks: tuple[str, ...] = ()
    session: SessionRow | None = None
    status: SessionStatus | None = None
    positions: pl.DataFrame = field(default_factory=pl.DataFrame)
    equity: pl.DataFrame = field(default_factory=pl.DataFrame)
    baseline: Mapping[str, float] = field(default_factory=dict)
    outbox: tuple[OutboxEvent, ...] = ()
    transitions: tuple[Transition, ...] = ()
    alerts: tuple[AlertRow, ...] = ()
    interventions: tuple[Intervention, ...] = ()
    controls: tuple[Control, ...] = ()


@dataclass(frozen=True, slots=True)
class SymbolDeals:
    """``pending``: bars that the lake does not have yet, CANDLE_SCHEMA; ``fills`` in FILL_ROW, by sequence; ``position``: the
    open one in POSITION_ROW, or no row."""

    pending: pl.DataFrame
    fills: pl.DataFrame
    position: pl.DataFrame


def look_at_desk(database: Database, name: str, equity_from: EquityFrom, oldest: datetime | None) -> DeskView:
    """The desk now. ``equity_from`` holds the accounts of which the reader has rows already; of others it gets those after
    ``oldest`` (None: none). Raises what `Database.read` raises, StatusUnreadable."""
    if not database.exists():
        return DeskView()
    with database.read(migrating=False) as connection:
        if not _has_sessions(connection):
            return DeskView()
        desks = tuple(str(row[0]) for row in connection.execute("SELECT DISTINCT name FROM sessions ORDER BY name").fetchall())
        named = {"name": name}
        newest = f"sessions WHERE name = $name ORDER BY {LAST_SIGN_OF_LIFE} LIMIT 2"
        found = rows_of(SessionRow, _frame(connection, row_frames.SESSION_ROW, newest, named))
        if not found:
            return DeskView(desks)
        # The next session says nothing of the desk until it has taken over; what the one before it says still holds.
        status = next((told for told in map(read_status, found) if told is not None), None)
        accounts = sorted({one.account for one in status.symbols}) if status else []
        new = [account for account in accounts if account not in equity_from]
        outbox = f"outbox WHERE name = $name ORDER BY sequence DESC LIMIT {_LATEST_OUTBOX}"
        alerts = f"alerts WHERE name = $name ORDER BY raised_at DESC LIMIT {_LATEST}"
        controls = f"controls WHERE name = $name ORDER BY requested_at DESC LIMIT {_LATEST}"
        return DeskView(
            desks=desks,
            session=found[0],
            status=status,
            positions=_frame(
                connection, POSITION_ROW, "positions WHERE account IN (SELECT unnest($accounts))", {"accounts": accounts}
            ),
            equity=_equity(connection, accounts, equity_from, oldest),
            baseline=_baseline(connection, new, oldest),
            outbox=rows_of(OutboxEvent, _frame(connection, row_frames.OUTBOX_ROW, outbox, named)),
            alerts=rows_of(AlertRow, _frame(connection, row_frames.ALERT_ROW, alerts, named)),
            controls=rows_of(Control, _frame(connection, row_frames.CONTROL_ROW, controls, named)),
            transitions=rows_of(Transition, _frame(connection, row_frames.TRANSITION_ROW, _TELLING_MOVES, named)),
            interventions=row_frames.interventions_of(_frame(connection, row_frames.INTERVENTION_ROW, _INTERVENTIONS, named)),
        )


def look_at_symbol(database: Database, series: Series, account: str, since: datetime) -> SymbolDeals:
    """What the store has of one symbol's chart: bars, fills after ``since``, and the position. Raises as `Database.read`."""
    named: Values = {"market": series.market, "symbol": series.symbol, "timeframe": series.timeframe}
    own: Values = {"account": account, "symbol": series.symbol}
    bars = "pending_candles WHERE market = $market AND symbol = $symbol AND timeframe = $timeframe ORDER BY opened_at"
    of_account = "WHERE account = $account AND symbol = $symbol"
    deals = f"fills {of_account} AND bar_opened_at >= $since ORDER BY sequence DESC LIMIT {_FILLS}"
    with database.read(migrating=False) as connection:
        pending = _frame(connection, row_frames.PENDING_CANDLE_ROW, bars, named)
        fills = _frame(connection, FILL_ROW, deals, {**own, "since": since})
        position = _frame(connection, POSITION_ROW, f"positions {of_account}", own)
    return SymbolDeals(row_frames.pending_candles_of(pending), fills.sort("sequence"), position)


def _has_sessions(connection: Connection) -> bool:
    return bool(connection.execute("SELECT 1 FROM duckdb_tables() WHERE table_name = 'sessions'").fetchall())


def _frame(connection: Connection, schema: Schema, rest: str, values: Values) -> pl.DataFrame:
    """Rows in a schema; ``rest`` of the query: the table, which of its rows, in which order."""
    columns = ", ".join(quoted(name) for name in schema)
    found = pl.DataFrame(connection.sql(f"SELECT {columns} FROM {rest}", params=values).to_arrow_table())
    return found.with_columns(pl.col(name).cast(kind) for name, kind in schema.items())


def _equity(connection: Connection, accounts: Sequence[str], equity_from: EquityFrom, oldest: datetime | None) -> pl.DataFrame:
    if oldest is None or not accounts:
        return pl.DataFrame()
    since = [equity_from.get(account, oldest) for account in accounts]
    rows = connection.sql(
        """SELECT account, "at", equity::DOUBLE AS equity
            FROM equity JOIN (SELECT unnest($accounts) AS account, unnest($since) AS since) USING (account)
            WHERE "at" > since AND "at" > $oldest ORDER BY "at", account""",
        params={"accounts": accounts, "since": since, "oldest": min(since)},
    )
    return pl.DataFrame(rows.to_arrow_table())


def _baseline(connection: Connection, accounts: Sequence[str], oldest: datetime | None) -> dict[str, float]:
    if oldest is None or not accounts:
        return {}
    rows = connection.execute(
        """SELECT account, coalesce(e.equity, a.initial_cash)::DOUBLE FROM accounts a
            LEFT JOIN (SELECT account, arg_max(equity, "at") AS equity FROM equity WHERE "at" <= $oldest GROUP BY account) e
            USING (account) WHERE account IN (SELECT unnest($accounts))""",
        {"accounts": accounts, "oldest": oldest},
    ).fetchall()
    return {str(account): float(equity) for account, equity in rows}
