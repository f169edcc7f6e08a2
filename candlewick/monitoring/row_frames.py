"""Rows of the tables of monitored sessions as frames, and back as values.

Column names and types as in candlewick/store/migrations.py, without bookkeeping. Of the values of candlewick/monitoring/rows.py
a document becomes JSON text; of an intervention ``limit`` and ``value`` are the columns `rule_limit` and `rule_value`.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import fields
from datetime import datetime
from typing import TypeVar

import polars as pl

from candlewick.candles import CANDLE_SCHEMA, Series
from candlewick.json_text import to_json
from candlewick.monitoring.interventions import Intervention
from candlewick.monitoring.rows import AlertRow, Control, OutboxEvent, SessionRow, Transition
from candlewick.rows import NUMBER, TEXT, TIME, Schema

SESSION_ROW: Schema = {
    **dict.fromkeys(("session_id", "name", "market", "timeframe", "state", "process", "flow_run_id"), TEXT),
    **dict.fromkeys(("started_at", "ends_at", "heartbeat_at", "ended_at"), TIME),
    **dict.fromkeys(("reason", "document"), TEXT),
}
TRANSITION_ROW: Schema = {
    "session_id": TEXT,
    "sequence": NUMBER,
    **dict.fromkeys(("subject", "symbol", "stage", "before", "after", "reason", "actor"), TEXT),
    "at": TIME,
}
CONTROL_ROW: Schema = {
    **dict.fromkeys(("control_id", "name", "command", "symbol", "argument", "reason", "requested_by"), TEXT),
    "requested_at": TIME,
    "session_id": TEXT,
    "applied_at": TIME,
    "outcome": TEXT,
}
OUTBOX_ROW: Schema = {
    "event_id": TEXT,
    "name": TEXT,
    "sequence": NUMBER,
    **dict.fromkeys(("kind", "account", "symbol"), TEXT),
    "at": TIME,
    **dict.fromkeys(("correlation_id", "causation_id", "session_id", "document"), TEXT),
}
ALERT_ROW: Schema = {
    **dict.fromkeys(("alert_id", "name", "session_id", "severity", "title", "body", "key"), TEXT),
    "raised_at": TIME,
    "state": TEXT,
    "sent_at": TIME,
    "repeats": NUMBER,
    "error": TEXT,
}
INTERVENTION_ROW: Schema = {
    **dict.fromkeys(("account", "symbol"), TEXT),
    "opened_at": TIME,
    **dict.fromkeys(("action", "replacement", "rule", "rule_limit", "rule_value", "reason", "session_id"), TEXT),
    "correlation_id": TEXT,
}
DESK_RISK_ROW: Schema = {"name": TEXT, "document": TEXT, "updated_at": TIME}
PENDING_KEY = ("market", "symbol", "timeframe", "opened_at")
PENDING_CANDLE_ROW: Schema = {
    **dict.fromkeys(("market", "symbol", "timeframe"), TEXT),
    "opened_at": TIME,
    **dict.fromkeys(("open", "high", "low", "close", "volume"), pl.Float64()),
}

Row = TypeVar("Row", SessionRow, Transition, Control, OutboxEvent, AlertRow)


def rows_frame(rows: Sequence[SessionRow | Transition | Control | OutboxEvent | AlertRow], schema: Schema) -> pl.DataFrame:
    """The values as rows of one of the schemas above, whose names are those of their fields."""
    cells: dict[str, list[object]] = {name: [getattr(row, name) for row in rows] for name in schema}
    if "document" in cells:
        cells["document"] = [to_json(document) for document in cells["document"]]
    return pl.DataFrame(cells, schema=dict(schema))


def rows_of(kind: type[Row], frame: pl.DataFrame) -> tuple[Row, ...]:
    """The rows of a frame as values; columns that are no field of theirs are left out."""
    names = [field.name for field in fields(kind)]
    found = []
    for cells in frame.select(names).iter_rows(named=True):
        if "document" in cells:
            cells["document"] = json.loads(cells["document"])
        found.append(kind(**cells))
    return tuple(found)


def intervention_rows(interventions: Sequence[Intervention]) -> pl.DataFrame:
    """Interventions as INTERVENTION_ROW."""
    named = {"rule_limit": "limit", "rule_value": "value"}
    cells: dict[str, list[object]] = {
        name: [getattr(one, named.get(name, name)) for one in interventions] for name in INTERVENTION_ROW if name != "opened_at"
    }
    opened = pl.Series("opened_at", [one.opened_at_ms for one in interventions], dtype=pl.Int64)
    frame = pl.DataFrame(cells, schema={name: kind for name, kind in INTERVENTION_ROW.items() if name != "opened_at"})
    return frame.with_columns(opened.cast(pl.Datetime("ms", "UTC")).cast(TIME)).select(list(INTERVENTION_ROW))


def interventions_of(frame: pl.DataFrame) -> tuple[Intervention, ...]:
    """Rows of the table `interventions` as values, in their order."""
    told = frame.select(list(INTERVENTION_ROW)).with_columns(pl.col("opened_at").dt.epoch("ms").alias("opened_at_ms"))
    told = told.rename({"rule_limit": "limit", "rule_value": "value"}).drop("opened_at")
    return tuple(Intervention(**cells) for cells in told.iter_rows(named=True))


def risk_row(name: str, document: object, updated_at: datetime) -> pl.DataFrame:
    """A desk's risk document as a row of `desk_risk`."""
    return pl.DataFrame({"name": [name], "document": [to_json(document)], "updated_at": [updated_at]}, schema=dict(DESK_RISK_ROW))


def pending_rows(candles: Iterable[tuple[Series, pl.DataFrame]]) -> pl.DataFrame:
    """Bars (CANDLE_SCHEMA) of several series as PENDING_CANDLE_ROW."""
    parts = [
        frame.select(
            *(pl.lit(getattr(series, name), TEXT).alias(name) for name in ("market", "symbol", "timeframe")),
            *(pl.col(name).cast(PENDING_CANDLE_ROW[name]) for name in CANDLE_SCHEMA),
        )
        for series, frame in candles
    ]
    return pl.concat(parts) if parts else pl.DataFrame(schema=dict(PENDING_CANDLE_ROW))


def pending_candles_of(frame: pl.DataFrame) -> pl.DataFrame:
    """Rows of `pending_candles` of one series as candles, CANDLE_SCHEMA."""
    return frame.select(pl.col(name).cast(kind) for name, kind in CANDLE_SCHEMA.items())
