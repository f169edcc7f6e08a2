"""The ledger's tables as data: keys, columns, which columns are bookkeeping, and the order rows are read in.

Content columns come from candlewick/rows.py; a test holds both against what the migrations really create.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from candlewick import backtest_rows, rows
from candlewick.market_data import rows as data_rows
from candlewick.monitoring import row_frames

# Columns that hold JSON text.
JSON_COLUMNS = frozenset(
    {"symbols", "parameters", "rules", "instruments", "candle_digests", "durations_s", "notices", "document", "seen", "state"}
    | {"grid", "funding_digests", "figures", "statistics", "exit_legs", "exit_reasons", "fill_ids", "in_sample", "out_of_sample"}
)


@dataclass(frozen=True, slots=True)
class Table:
    """``bookkeeping`` columns say when and by which run a row was written; they are never compared.

    ``mutable`` columns may change while the row is open (orders, findings); all others are fixed once written.
    ``optional`` columns may be left out of the rows that are written, and are null then. ``derived`` columns are computed as a
    row is inserted, by SQL about the row `new`.
    """

    name: str
    key: tuple[str, ...]
    content: rows.Schema
    bookkeeping: tuple[str, ...] = ()
    mutable: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    order: tuple[str, ...] = ()
    derived: Mapping[str, str] = field(default_factory=dict)

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns, content first."""
        return (*self.content, *self.bookkeeping)

    @property
    def fixed(self) -> tuple[str, ...]:
        """Columns that never change and must be equal when an id comes again."""
        return tuple(column for column in self.content if column not in self.key and column not in self.mutable)


# The id of the bar that a story began with: candlewick/monitoring/events.py, `bar_id`.
_BAR_ID = """(SELECT a.market || ':' || new.symbol || ':' || a.timeframe || ':' || strftime(new.bar_opened_at, '%Y-%m-%dT%H:%MZ')
    FROM accounts a WHERE a.account = new.account)"""
_ID_OF_SIGNAL = "(SELECT s.correlation_id FROM signals s WHERE s.signal_id = new.signal_id)"
_ID_OF_ORDER = "(SELECT o.correlation_id FROM orders o WHERE o.client_order_id = new.client_order_id)"

_ALL = (
    Table("accounts", ("account",), rows.ACCOUNT_ROW, ("recorded_at",), order=("account",)),
    Table("terms", ("account", "version"), rows.TERMS_ROW, ("run_id", "recorded_at"), order=("version",)),
    Table("runs", ("run_id",), rows.RUN_ROW, order=("started_at", "run_id")),
    Table(
        "signals",
        ("signal_id",),
        rows.SIGNAL_ROW,
        ("run_id", "correlation_id"),
        order=("decided_at", "symbol", "signal_id"),
        derived={"correlation_id": _BAR_ID},
    ),
    Table(
        "orders",
        ("client_order_id",),
        rows.ORDER_ROW,
        ("run_id", "correlation_id"),
        mutable=(
            "quantity",
            "price",
            "status",
            "closed_at",
            "rule",
            "rule_limit",
            "rule_value",
            "reason",
            "filled_quantity",
            "fills",
        ),
        order=("sequence", "client_order_id"),
        derived={"correlation_id": _ID_OF_SIGNAL},
    ),
    Table(
        "fills",
        ("fill_id",),
        rows.FILL_ROW,
        ("run_id", "posted_at", "correlation_id"),
        order=("sequence", "fill_id"),
        derived={"correlation_id": _ID_OF_ORDER},
    ),
    Table(
        "postings",
        ("posting_id",),
        rows.POSTING_ROW,
        ("run_id", "posted_at"),
        order=("market_at", "transaction_id", "posting_id"),
    ),
    Table("positions", ("account", "symbol"), rows.POSITION_ROW, order=("symbol",)),
    Table(
        "equity",
        ("account", "at"),
        {
            "account": rows.TEXT,
            "at": rows.TIME,
            **dict.fromkeys(("equity", "cash", "position_value", "drawdown_share"), rows.AMOUNT),
            "open_positions": rows.TERMS_ROW["version"],
        },
        order=("at",),
    ),
    Table("events", ("account", "sequence"), rows.EVENT_ROW, ("run_id", "recorded_at"), order=("sequence",)),
    Table("checkpoints", ("account",), rows.CHECKPOINT_ROW, ("run_id", "recorded_at"), order=("account",)),
    Table(
        "quality",
        ("finding_id",),
        data_rows.QUALITY_ROW,
        ("recorded_at", "settled_at"),
        mutable=("severity", "state", "explanation"),
        optional=("explanation",),
        order=("span_start", "finding_id"),
    ),
)
# Known only when a run is over, or not before its candles were read; all else is fixed as the run begins.
_OF_THE_INPUTS = ("instruments", "since_at", "until_at", "bars", "sets", "candle_digests", "funding_digests", "check_verdict")
_OF_THE_END = ("status", "error", "figures", "statistics", "notices", "durations_s", "report", "process", "completed_at")
_OF_BACKTESTS = (
    Table(
        "backtests",
        ("run_id",),
        backtest_rows.BACKTEST_ROW,
        mutable=(*_OF_THE_INPUTS, *_OF_THE_END, "sets_done"),
        order=("started_at", "run_id"),
    ),
    Table("backtest_trades", ("run_id", "number"), backtest_rows.BACKTEST_TRADE_ROW, order=("number",)),
    Table("backtest_fills", ("run_id", "sequence"), backtest_rows.BACKTEST_FILL_ROW, order=("sequence",)),
    Table("backtest_equity", ("run_id", "at"), backtest_rows.BACKTEST_EQUITY_ROW, order=("at",)),
    Table("backtest_sets", ("run_id", "number"), backtest_rows.BACKTEST_SET_ROW, order=("number",)),
    Table("backtest_windows", ("run_id", "number"), backtest_rows.BACKTEST_WINDOW_ROW, order=("number",)),
    Table(
        "strategy_checks",
        ("strategy", "parameters", "code_version", "strategy_version"),
        backtest_rows.STRATEGY_CHECK_ROW,
        mutable=("market", "timeframe", "verdict", "document", "checked_at"),
        order=("checked_at",),
    ),
)
_OF_MARKET_DATA = (
    Table(
        "data_chunks",
        data_rows.CHUNK_KEY,
        data_rows.DATA_CHUNK_ROW,
        ("run_id",),
        order=data_rows.CHUNK_KEY,
    ),
    Table(
        "data_runs",
        ("run_id",),
        data_rows.DATA_RUN_ROW,
        mutable=("series", "since_at", "until_at", "rows_added", "findings", "status", "error", "process", "completed_at"),
        order=("started_at", "run_id"),
    ),
    Table(
        "data_series",
        data_rows.SERIES_KEY,
        data_rows.DATA_SERIES_ROW,
        mutable=("last_synced_at", "last_validated_at", "verdict"),
        order=data_rows.SERIES_KEY,
    ),
)
_OF_SESSIONS = (
    Table(
        "sessions",
        ("session_id",),
        row_frames.SESSION_ROW,
        mutable=("state", "flow_run_id", "ends_at", "heartbeat_at", "ended_at", "reason", "document"),
        order=("started_at", "session_id"),
    ),
    Table("transitions", ("session_id", "sequence"), row_frames.TRANSITION_ROW, order=("session_id", "sequence")),
    Table(
        "controls",
        ("control_id",),
        row_frames.CONTROL_ROW,
        mutable=("session_id", "applied_at", "outcome"),
        order=("requested_at", "control_id"),
    ),
    Table("outbox", ("event_id",), row_frames.OUTBOX_ROW, ("redis_at", "prefect_at"), order=("name", "sequence")),
    Table(
        "alerts",
        ("alert_id",),
        row_frames.ALERT_ROW,
        mutable=("state", "sent_at", "repeats", "error"),
        order=("raised_at", "alert_id"),
    ),
    Table(
        "interventions",
        ("account", "symbol", "opened_at"),
        row_frames.INTERVENTION_ROW,
        ("run_id", "recorded_at"),
        order=("opened_at", "symbol"),
    ),
    Table("desk_risk", ("name",), row_frames.DESK_RISK_ROW, mutable=("document", "updated_at"), order=("name",)),
    Table(
        "pending_candles",
        row_frames.PENDING_KEY,
        row_frames.PENDING_CANDLE_ROW,
        order=row_frames.PENDING_KEY,
    ),
)

TABLES: Mapping[str, Table] = MappingProxyType(
    {table.name: table for table in (*_ALL, *_OF_BACKTESTS, *_OF_MARKET_DATA, *_OF_SESSIONS)}
)


def quoted(column: str) -> str:
    """A column's name in SQL; `at` is a keyword of DuckDB."""
    return f'"{column}"'
