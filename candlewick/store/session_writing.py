"""The writing half of a session's commit: rows checked before the transaction, and the statements within it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import polars as pl

from candlewick.candles import Series
from candlewick.errors import InvariantViolated
from candlewick.json_text import Json
from candlewick.monitoring import row_frames
from candlewick.monitoring.interventions import Intervention
from candlewick.monitoring.row_frames import intervention_rows, risk_row, rows_frame
from candlewick.monitoring.rows import AlertRow, Control, OutboxEvent, SessionRow, Sink, Transition
from candlewick.rows import NUMBER, TEXT, TIME
from candlewick.store.database import Connection
from candlewick.store.ledger import CycleWrite, Frames, joined_frames, write_cycles
from candlewick.store.tables import TABLES, quoted
from candlewick.store.writing import append, booked, change, checked, put, refuse_other_content, stage_checked

_OF_SESSIONS = (
    "interventions",
    "outbox",
    "transitions",
    "alerts",
    "sessions",
    "controls",
    "desk_risk",
    "pending_candles",
)


def _no_candles() -> pl.DataFrame:
    return pl.DataFrame()


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionWrite:
    """What one tick of the desk ``name`` writes. ``at`` is this machine's time: of deliveries, and in bookkeeping.

    ``outbox``: the store numbers what was not told before, in the order of ``sequence``; what was, by its id, is left out.
    ``interventions`` are of accounts that have a cycle in ``cycles``, at bars that this cycle processes. ``delivered``: ids of
    outbox events that a sink has confirmed. ``applied``: controls with session_id, applied_at and outcome. ``session`` and
    ``alerts`` are inserted, or replace what may change of the row that is there. ``risk``: the desk's risk document.
    ``candles``: bars acted on that the lake does not have yet, columns market, symbol, timeframe and those of CANDLE_SCHEMA; a
    frame without columns has no rows. ``flushed``: series and the open time (ms) of the last bar that the lake has now.
    """

    name: str
    at: datetime
    cycles: Sequence[CycleWrite] = ()
    interventions: Sequence[Intervention] = ()
    outbox: Sequence[OutboxEvent] = ()
    delivered: Mapping[Sink, Sequence[str]] = field(default_factory=dict)
    transitions: Sequence[Transition] = ()
    alerts: Sequence[AlertRow] = ()
    applied: Sequence[Control] = ()
    session: SessionRow | None = None
    risk: Mapping[str, Json] | None = None
    candles: pl.DataFrame = field(default_factory=_no_candles)
    flushed: Sequence[tuple[Series, int]] = ()


def session_frames(write: SessionWrite) -> dict[str, pl.DataFrame]:
    """The rows of a tick by table, checked and with their bookkeeping; to be done before the transaction, which others wait for.

    Tables without rows are left out. Raises InvariantViolated.
    """
    run_ids = {cycle.account: cycle.run_id for cycle in write.cycles}
    stranger = next((one.account for one in write.interventions if one.account not in run_ids), None)
    if stranger is not None:
        raise InvariantViolated(
            f"account {stranger}: an intervention without a cycle of the account in the same commit. Nothing was written"
        )
    frames = {
        "interventions": intervention_rows(write.interventions),
        "outbox": rows_frame(_each_once(write.outbox), row_frames.OUTBOX_ROW),
        "transitions": rows_frame(write.transitions, row_frames.TRANSITION_ROW),
        "alerts": rows_frame(write.alerts, row_frames.ALERT_ROW),
        "sessions": rows_frame((write.session,) if write.session else (), row_frames.SESSION_ROW),
        "controls": rows_frame(write.applied, row_frames.CONTROL_ROW),
        "desk_risk": pl.DataFrame() if write.risk is None else risk_row(write.name, write.risk, write.at),
        "pending_candles": write.candles,
    }
    runs = pl.Series([run_ids[one.account] for one in write.interventions], dtype=TEXT)
    at = pl.lit(write.at).cast(TIME)
    own = {
        name: checked(TABLES[name], booked(TABLES[name], frame, runs if name == "interventions" else pl.lit("", TEXT), at))
        for name, frame in frames.items()
        if frame.height
    }
    return own | (joined_frames(write.cycles) if write.cycles else {})


def write_session(connection: Connection, write: SessionWrite, frames: Frames) -> list[OutboxEvent]:
    """Write a tick within a transaction; ``frames`` as `session_frames` made them. The events of the outbox that are new."""
    staged = {name: stage_checked(connection, TABLES[name], frames[name]) for name in _OF_SESSIONS if name in frames}
    before = _watermarks(connection) if "interventions" in staged else {}
    if write.cycles:
        write_cycles(connection, write.cycles, frames)
    if "interventions" in staged:
        _refuse_unprocessed(connection, before)
    numbers = _append_outbox(connection) if "outbox" in staged else {}
    for name in ("interventions", "transitions", "pending_candles"):
        append(connection, TABLES[name], staged.get(name, 0))
    for name in ("sessions", "alerts"):
        if name in staged:
            refuse_other_content(connection, TABLES[name], TABLES[name].fixed, "TRUE")
            put(connection, TABLES[name])
    if "desk_risk" in staged:
        put(connection, TABLES["desk_risk"])
    if "controls" in staged:
        _apply_controls(connection)
    _mark_delivered(connection, write.delivered, write.at)
    _drop_flushed(connection, write.flushed)
    return [replace(event, sequence=numbers[event.event_id]) for event in _each_once(write.outbox) if event.event_id in numbers]


def _each_once(events: Sequence[OutboxEvent]) -> list[OutboxEvent]:
    """In the order of their numbers; of several with one id the first."""
    kept: dict[str, OutboxEvent] = {}
    for event in sorted(events, key=lambda one: one.sequence):
        kept.setdefault(event.event_id, event)
    return list(kept.values())


def prune_outbox(connection: Connection, name: str, before: datetime, sinks: Sequence[Sink]) -> int:
    """See `SessionStore.prune`."""
    waiting = " OR ".join(f"{sink}_at IS NULL" for sink in sinks) or "FALSE"
    query = f"""DELETE FROM outbox WHERE name = $name AND sequence < (
        SELECT coalesce(min(sequence) FILTER ("at" >= $before OR {waiting}), max(sequence)) FROM outbox WHERE name = $name)"""
    return int(connection.execute(query, {"name": name, "before": before}).fetchall()[0][0])


def _watermarks(connection: Connection) -> dict[str, datetime | None]:
    """Of the accounts with interventions, before their cycles."""
    query = "SELECT account, watermark_at FROM checkpoints WHERE account IN (SELECT account FROM new_interventions)"
    return dict(connection.execute(query).fetchall())


def _refuse_unprocessed(connection: Connection, before: Mapping[str, datetime | None]) -> None:
    """Every new intervention is of a bar that this commit processes: an audit would not come to what was done otherwise."""
    known = pl.DataFrame(
        {"account": list(before), "watermark_at": list(before.values())}, {"account": TEXT, "watermark_at": TIME}
    )
    connection.register("watermarks_before", known.to_arrow())
    found = connection.execute(
        """SELECT new.account, new.symbol, new.opened_at, old.watermark_at, now.watermark_at
        FROM new_interventions new LEFT JOIN watermarks_before old USING (account) JOIN checkpoints now USING (account)
        ANTI JOIN interventions kept USING (account, symbol, opened_at)
        WHERE now.watermark_at IS NULL OR new.opened_at > now.watermark_at OR new.opened_at <= old.watermark_at
        ORDER BY ALL LIMIT 1"""
    ).fetchall()
    if found:
        account, symbol, opened_at, old, now = found[0]
        raise InvariantViolated(
            f"account {account}: the intervention at the bar {symbol} {opened_at:%Y-%m-%d %H:%M} is of no bar that this cycle "
            f"processes (after {_shown(old)}, to {_shown(now)}). Nothing was written"
        )


def _shown(at: datetime | None) -> str:
    return "nothing" if at is None else f"{at:%Y-%m-%d %H:%M}"


def _append_outbox(connection: Connection) -> dict[str, int]:
    """Insert the events that were not told before, with the next numbers of their desk; the numbers by event_id.

    Raises InvariantViolated for an id that is another happening's.
    """
    table = TABLES["outbox"]
    refuse_other_content(connection, table, ("name", "kind", "account", "symbol"), "TRUE")
    names = ", ".join(map(quoted, table.columns))
    rows = connection.execute(
        f"""INSERT INTO outbox ({names}) SELECT {names} FROM (
            SELECT new.* REPLACE (coalesce(last, 0) + row_number() OVER (PARTITION BY name ORDER BY sequence) AS sequence)
            FROM new_outbox new ANTI JOIN outbox USING (event_id)
            LEFT JOIN (SELECT name, max(sequence) AS last FROM outbox GROUP BY name) USING (name))
        RETURNING event_id, sequence"""
    ).fetchall()
    return {str(event_id): int(sequence) for event_id, sequence in rows}


def _apply_controls(connection: Connection) -> None:
    """A command is taken once. Raises InvariantViolated for one that was taken before otherwise, or that there is not."""
    table = TABLES["controls"]
    unknown = connection.execute(
        "SELECT control_id FROM new_controls ANTI JOIN controls USING (control_id) ORDER BY 1 LIMIT 1"
    ).fetchall()
    if unknown:
        raise InvariantViolated(f"there is no control {unknown[0][0]}; it cannot have been applied. Nothing was written")
    change(connection, table, table.mutable, "old.applied_at IS NOT NULL", table.mutable)


def _mark_delivered(connection: Connection, delivered: Mapping[Sink, Sequence[str]], at: datetime) -> None:
    for sink, event_ids in delivered.items():
        if event_ids:
            connection.register("delivered", pl.DataFrame({"event_id": list(event_ids)}, {"event_id": TEXT}).to_arrow())
            connection.execute(
                f"UPDATE outbox SET {sink}_at = $at WHERE {sink}_at IS NULL AND event_id IN (SELECT event_id FROM delivered)",
                {"at": at},
            )


def _drop_flushed(connection: Connection, flushed: Sequence[tuple[Series, int]]) -> None:
    if not flushed:
        return
    cells = [(series.market, series.symbol, series.timeframe, last_ms) for series, last_ms in flushed]
    columns = {"market": TEXT, "symbol": TEXT, "timeframe": TEXT, "last_ms": NUMBER}
    connection.register("flushed", pl.DataFrame(cells, schema=columns, orient="row").to_arrow())
    connection.execute(
        """DELETE FROM pending_candles old USING flushed WHERE old.market = flushed.market AND old.symbol = flushed.symbol
            AND old.timeframe = flushed.timeframe AND epoch_ms(old.opened_at) <= flushed.last_ms"""
    )
