"""Writing rows in bulk: append-only with proof, orders that advance, sets that are replaced. Never a row at a time."""

from datetime import datetime
from decimal import Decimal

import polars as pl

from candlewick.amounts import plain
from candlewick.errors import InvariantViolated
from candlewick.rows import TEXT, TIME
from candlewick.store.database import Connection
from candlewick.store.tables import TABLES, Table, quoted

OPEN = "open"


def stage(connection: Connection, table: Table, frame: pl.DataFrame, run_id: str, recorded_at: datetime) -> int:
    """Make ``frame`` readable in SQL as `new_<table>`; the number of rows.

    Columns as for ``checked``; bookkeeping is added where the frame does not bring it. Raises InvariantViolated as it does.
    """
    frame = checked(table, frame)
    return stage_checked(connection, table, booked(table, frame, pl.lit(run_id, TEXT), pl.lit(recorded_at).cast(TIME)))


def booked(table: Table, frame: pl.DataFrame, run_id: pl.Expr | pl.Series, recorded_at: pl.Expr | pl.Series) -> pl.DataFrame:
    """The frame with the bookkeeping that it does not bring: of one run, or of a run a row."""
    never = pl.lit(None, TIME)
    values = {"run_id": run_id, "recorded_at": recorded_at, "posted_at": recorded_at, "settled_at": never}
    values |= {"redis_at": never, "prefect_at": never}
    missing = [name for name in table.bookkeeping if name not in frame.columns and name not in table.derived]
    return frame.with_columns(values[name].alias(name) for name in missing)


def stage_checked(connection: Connection, table: Table, frame: pl.DataFrame) -> int:
    """``stage`` for a frame that went through ``checked`` before, which may be long before the transaction."""
    connection.register(f"new_{table.name}", frame.to_arrow())
    return frame.height


def checked(table: Table, frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with the types of the table's content, each row once. Columns in any order; none at all means no rows.

    Optional columns that are left out are null.

    Raises InvariantViolated for wrong columns or types, and for one id with two contents in the frame.
    """
    content = dict(table.content)
    if frame.width == 0:
        frame = pl.DataFrame(schema=content)
    frame = frame.with_columns(pl.lit(None).alias(column) for column in table.optional if column not in frame.columns)
    unknown, missing = sorted(set(frame.columns) - set(table.columns)), sorted(set(content) - set(frame.columns))
    if unknown or missing:
        raise InvariantViolated(f"rows for {table.name}: unknown columns {unknown}, missing columns {missing}")
    try:
        frame = frame.with_columns(pl.col(column).cast(kind) for column, kind in content.items())
    except pl.exceptions.PolarsError as error:
        raise InvariantViolated(f"rows for {table.name}: {error}") from error
    if frame.select(pl.struct(table.key).is_duplicated().any()).item():
        frame = _without_repeats(table, frame)
    return frame


def _without_repeats(table: Table, frame: pl.DataFrame) -> pl.DataFrame:
    frame = frame.unique(subset=list(table.content), maintain_order=True)
    twice = frame.filter(pl.struct(table.key).is_duplicated())
    if twice.height:
        first = twice.filter(pl.struct(table.key) == pl.struct(table.key).first()).to_dicts()
        column = next(name for name in table.content if first[0][name] != first[1][name])
        raise InvariantViolated(_two_contents(table, first[0], column, first[0][column], first[1][column]))
    return frame


def append(connection: Connection, table: Table, staged: int) -> int:
    """Insert the staged rows that are not there yet; the number inserted.

    The same id with the same content is a no-op. Raises InvariantViolated where the content differs.
    """
    if not staged:
        return 0
    inserted = _insert_missing(connection, table)
    if inserted < staged:
        refuse_other_content(connection, table, table.fixed, "TRUE")
    return inserted


def advance_orders(connection: Connection, staged: int) -> int:
    """Insert new orders, and advance those that are still open. The number of rows written.

    Raises InvariantViolated when an order's identity changes, or anything of an order that is no longer open.
    """
    table = TABLES["orders"]
    if not staged:
        return 0
    inserted = _insert_missing(connection, table)
    if inserted == staged:
        return inserted
    refuse_other_content(connection, table, table.fixed, "TRUE")
    refuse_other_content(connection, table, table.mutable, f"old.status <> '{OPEN}'")
    return inserted + _update(connection, table, table.mutable)


def change(connection: Connection, table: Table, columns: tuple[str, ...], settled: str, compared: tuple[str, ...]) -> int:
    """Change ``columns`` of rows that are there to those of the staged ones; the number of rows changed.

    Rows for which ``settled`` (SQL about `old`) holds stay as they are. Raises InvariantViolated when a fixed column would
    change, or one of ``compared`` of a settled row.
    """
    refuse_other_content(connection, table, table.fixed, "TRUE")
    refuse_other_content(connection, table, compared, settled)
    return _update(connection, table, columns, f"NOT ({settled})")


def replace_positions(connection: Connection, staged: int) -> int:
    """The staged rows become the positions of the accounts in `new_checkpoints`, all others of these go. The number staged."""
    connection.execute(
        """DELETE FROM positions old WHERE account IN (SELECT account FROM new_checkpoints)
            AND NOT EXISTS (SELECT 1 FROM new_positions new WHERE new.account = old.account AND new.symbol = old.symbol)"""
    )
    if staged:
        put(connection, TABLES["positions"])
    return staged


def put(connection: Connection, table: Table) -> None:
    """The staged rows replace those of the same key."""
    names = ", ".join(quoted(column) for column in table.columns)
    changes = ", ".join(f"{quoted(name)} = excluded.{quoted(name)}" for name in table.columns if name not in table.key)
    keys = ", ".join(quoted(key) for key in table.key)
    connection.execute(
        f"INSERT INTO {table.name} ({names}) SELECT {names} FROM new_{table.name} ON CONFLICT ({keys}) DO UPDATE SET {changes}"
    )


def refuse_other_content(connection: Connection, table: Table, columns: tuple[str, ...], where: str) -> None:
    """Raises InvariantViolated naming table, id, column and both values of the first staged row that differs in ``columns``."""
    on = " AND ".join(f"old.{quoted(key)} = new.{quoted(key)}" for key in table.key)
    differs = " OR ".join(f"old.{quoted(column)} IS DISTINCT FROM new.{quoted(column)}" for column in columns)
    shown = ", ".join(f"{side}.{quoted(column)} AS {side}_{column}" for side in ("old", "new") for column in table.content)
    keys = ", ".join(f"new.{quoted(key)}" for key in table.key)
    query = f"""SELECT {shown} FROM {table.name} old JOIN new_{table.name} new ON {on}
        WHERE ({where}) AND ({differs}) ORDER BY {keys} LIMIT 1"""
    found = pl.DataFrame(connection.sql(query).to_arrow_table())
    if found.height:
        row = found.to_dicts()[0]
        column = next(name for name in columns if row[f"old_{name}"] != row[f"new_{name}"])
        keyed = {key: row[f"new_{key}"] for key in table.key}
        raise InvariantViolated(_two_contents(table, keyed, column, row[f"old_{column}"], row[f"new_{column}"]))


def _insert_missing(connection: Connection, table: Table) -> int:
    names = ", ".join(quoted(column) for column in table.columns)
    cells = ", ".join(table.derived.get(column, f"new.{quoted(column)}") for column in table.columns)
    query = f"INSERT INTO {table.name} ({names}) SELECT {cells} FROM new_{table.name} new ON CONFLICT DO NOTHING"
    return int(connection.execute(query).fetchall()[0][0])


def _update(connection: Connection, table: Table, columns: tuple[str, ...], where: str = "TRUE") -> int:
    changes = ", ".join(f"{quoted(column)} = new.{quoted(column)}" for column in columns)
    on = " AND ".join(f"old.{quoted(key)} = new.{quoted(key)}" for key in table.key)
    differs = " OR ".join(f"old.{quoted(column)} IS DISTINCT FROM new.{quoted(column)}" for column in columns)
    query = f"UPDATE {table.name} old SET {changes} FROM new_{table.name} new WHERE {on} AND ({differs}) AND ({where})"
    return int(connection.execute(query).fetchall()[0][0])


def _two_contents(table: Table, row: dict[str, object], column: str, old: object, new: object) -> str:
    key = " ".join(_text(row[name]) for name in table.key)
    return (
        f"{table.name} {key}: {column} is {_text(old)} and would become {_text(new)}; "
        "the same id may not have other content. Nothing was written"
    )


def _text(value: object) -> str:
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    return plain(value) if isinstance(value, Decimal) else str(value)
