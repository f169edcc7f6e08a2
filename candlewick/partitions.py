"""Tables in partitions: what candles, funding, open interest and trades share in the lake.

A table's rows lie in Parquet files of a year, a month or a day (`2026.parquet`, `2026-01.parquet`, `2026-01-31.parquet`),
sorted by time, each key once. The bytes of a file are a function of its rows, whatever the order and the pieces in which
they came. All functions here work on a folder that is held for one operation (storage/contract.py).
"""

import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from candlewick.errors import LakeDamaged
from candlewick.market_data.coverage import Span
from candlewick.storage.contract import Held
from candlewick.timeframes import utc

Period = Literal["year", "month", "day"]

KEPT_COLUMNS: Mapping[str, pl.DataType] = {"source": pl.String(), "fetched_at": pl.Datetime("us", "UTC")}

_FORMATS: Mapping[Period, str] = {"year": "%Y.parquet", "month": "%Y-%m.parquet", "day": "%Y-%m-%d.parquet"}
_BORDERS: Mapping[Period, str] = {"year": "1y", "month": "1mo", "day": "1d"}
_PARTITION = re.compile(r"(\d{4})(?:-(\d\d))?(?:-(\d\d))?\.parquet")
_LAST_MS = 253_402_300_799_999  # The year 9999 ends.


@dataclass(frozen=True, slots=True)
class Table:
    """How rows of one kind are kept: ``schema`` as offered and read, ``time`` the column they are sorted by, ``keys`` what
    tells two rows apart (``time`` the first), ``compared`` the columns in which a row that is told again may differ."""

    name: str
    schema: Mapping[str, pl.DataType]
    time: str
    keys: tuple[str, ...]
    compared: tuple[str, ...]
    period: Period

    @property
    def kept_schema(self) -> Mapping[str, pl.DataType]:
        """Columns of the files: the schema's, who said so, and when."""
        return {**self.schema, **KEPT_COLUMNS}

    @property
    def conflict_schema(self) -> Mapping[str, pl.DataType]:
        """Columns of a report's conflicts: keys, what is kept, and the same as offered (`open_offered`, …)."""
        both = {name: self.schema[name] for name in (*self.keys, *self.compared)}
        return both | {f"{name}_offered": self.schema[name] for name in self.compared}


@dataclass(frozen=True, slots=True)
class AppendReport:
    """What became of the rows offered.

    ``conflicting`` has the keys (of candles ``opened_at``), the values as kept, and as offered (`open_offered`, …).
    """

    added: int
    unchanged: int
    conflicting: pl.DataFrame


def partition_name(time_ms: int, period: Period) -> str:
    """The file that a time is in. Names of one period sort by time."""
    return utc(min(max(0, time_ms), _LAST_MS)).strftime(_FORMATS[period])


def partition_span(name: str) -> Span:
    """The times that a file of that name is for."""
    found = _PARTITION.fullmatch(name)
    assert found is not None, f"{name} is no partition"
    year, month, day = (None if part is None else int(part) for part in found.groups())
    start = datetime(year or 1970, month or 1, day or 1, tzinfo=UTC)
    if day is not None:
        end_ms = round(start.timestamp() * 1000) + 86_400_000
    else:
        following = (start.year + 1, 1) if month is None or month == 12 else (start.year, month + 1)
        end_ms = round(datetime(*following, 1, tzinfo=UTC).timestamp() * 1000)
    return Span(round(start.timestamp() * 1000), end_ms)


def partition_names(held: Held) -> list[str]:
    """The partitions that are there, in order of time."""
    return [name for name in held.names() if _PARTITION.fullmatch(name)]


def times_ms(rows: pl.DataFrame, table: Table) -> npt.NDArray[np.int64]:
    """The rows' times in milliseconds, shape (rows,), without copying where the column holds milliseconds already."""
    times = rows[table.time]
    return times.to_numpy().view(np.int64) if table.schema[table.time] == pl.Datetime("ms", "UTC") else _cast_times(times)


def _cast_times(times: pl.Series) -> npt.NDArray[np.int64]:
    return times.dt.epoch("ms").to_numpy()


def in_order(rows: pl.DataFrame, table: Table) -> pl.DataFrame:
    """The rows by time; those of one time by key, a shorter text before a longer one, so that numbers are in their order."""
    if len(table.keys) == 1:
        return rows.sort(table.time)
    others = [key for name in table.keys[1:] for key in (pl.col(name).str.len_bytes(), pl.col(name))]
    return rows.sort(pl.col(table.time), *others)


def check_offered(rows: pl.DataFrame, table: Table) -> pl.DataFrame:
    """The rows in order. What was not validated before it came here is a bug."""
    assert rows.schema == table.schema, f"the lake takes validated {table.name}, not {rows.schema}"
    assert not any(rows[key].null_count() for key in table.keys), f"{table.name} without {' or '.join(table.keys)}"
    if len(table.keys) > 1:
        assert not rows.select(pl.struct(table.keys).is_duplicated().any()).item(), f"{table.name} are not unique"
        return in_order(rows, table)
    assert (np.diff(times_ms(rows, table)) > 0).all(), f"{table.name} are not sorted and unique"
    return rows


def add_rows(held: Held, offered: pl.DataFrame, table: Table, source: str, fetched_at: datetime | None) -> AppendReport:
    """Add the rows that are new; one that is there already stays as it is: with other content it is reported."""
    added, unchanged, conflicts = 0, 0, [pl.DataFrame(schema=dict(table.conflict_schema))]
    there = partition_names(held)
    for name, part in _outwards(_cut(offered, table), there):
        kept = read_partitions(held, [name], table, table.kept_schema) if name in there else None
        new, known = (part, None) if kept is None else _split(kept, part, table)
        if kept is not None and known is not None:
            conflicts.append(_conflicts(kept, known, table))
            unchanged += known.height - conflicts[-1].height
        added += new.height
        if new.height:
            write_partition(held, name, _merge(kept, _with_source(new, source, fetched_at), table))
    return AppendReport(added, unchanged, pl.concat(conflicts))


def replace_rows(held: Held, wanted: pl.DataFrame, table: Table, source: str, fetched_at: datetime | None) -> None:
    """Make these rows all there is. Files that agree stay untouched."""
    parts, there = _cut(wanted, table), partition_names(held)
    for name, part in parts:
        if name not in there or not read_partitions(held, [name], table, table.schema).equals(part):
            write_partition(held, name, _with_source(part, source, fetched_at))
    for name in set(there) - {name for name, _ in parts}:
        held.remove(name)


def amend_rows(
    held: Held, offered: pl.DataFrame, table: Table, source: str, fetched_at: datetime | None, before: list[pl.DataFrame]
) -> None:
    """Put rows in the place of those with the same key, and add the others. ``before`` gets the rows that change, as they were,
    ahead of each file's change: an operation that runs again does not find them any more."""
    there = partition_names(held)
    for name, part in _outwards(_cut(offered, table), there):
        kept = read_partitions(held, [name], table, table.kept_schema) if name in there else None
        new, known = (part, None) if kept is None else _split(kept, part, table)
        if kept is not None and known is not None:
            changed = _conflicts(kept, known, table)
            before.append(kept.join(changed, on=table.keys, how="semi", maintain_order="left").select(list(table.schema)))
            kept = kept.join(changed, on=table.keys, how="anti", maintain_order="left")
            new = pl.concat([new, known.join(changed, on=table.keys, how="semi", maintain_order="left")])
        if new.height:
            write_partition(held, name, _merge(kept, _with_source(in_order(new, table), source, fetched_at), table))


def read_rows(held: Held, table: Table, since_ms: int | None, until_ms: int | None) -> pl.DataFrame:
    """Rows with ``since_ms <= time < until_ms`` in the table's schema, sorted. Raises LakeDamaged."""
    first = "" if since_ms is None else partition_name(since_ms, table.period)
    last = "~" if until_ms is None else partition_name(until_ms, table.period)
    names = [name for name in partition_names(held) if first <= name <= last]
    if not names:
        return pl.DataFrame(schema=dict(table.schema))
    rows = read_partitions(held, names, table, table.schema)
    times = times_ms(rows, table)
    start = 0 if since_ms is None else int(times.searchsorted(since_ms))
    end = rows.height if until_ms is None else int(times.searchsorted(until_ms))
    return rows[start : max(start, end)]


def row_span(held: Held, table: Table) -> tuple[int, int] | None:
    """Times of the first and the last row, from two files at most; None where there is none. Raises LakeDamaged."""
    names = partition_names(held)
    if not names:
        return None
    ends = names[:1] if len(names) == 1 else [names[0], names[-1]]
    times = times_ms(read_partitions(held, ends, table, (table.time,)), table)
    return int(times[0]), int(times[-1])


def damaged_partitions(held: Held, table: Table) -> list[str]:
    """Files that cannot be read, have other columns, or hold rows of other times than their name says."""
    damaged: list[str] = []
    for name in partition_names(held):
        try:
            times = times_ms(read_partitions(held, [name], table, table.kept_schema), table)
        except LakeDamaged:
            damaged.append(name)
            continue
        if partition_name(int(times[0]), table.period) != name or partition_name(int(times[-1]), table.period) != name:
            damaged.append(name)
    return damaged


def read_partitions(held: Held, names: Sequence[str], table: Table, columns: Iterable[str]) -> pl.DataFrame:
    """The files' rows in the order of the files. Raises LakeDamaged naming the file."""
    wanted = list(columns)
    try:
        rows = pl.read_parquet(held.sources(names), columns=wanted, glob=False, hive_partitioning=False)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        if len(names) > 1:
            return pl.concat([read_partitions(held, [name], table, wanted) for name in names])
        raise LakeDamaged(_damage(held, names[0], table, f"is damaged ({str(error).splitlines()[0]})")) from error
    schema = table.kept_schema
    if any(rows.schema[name] != schema[name] for name in wanted) or rows.is_empty():
        raise LakeDamaged(
            _damage(held, names[0], table, f"has {rows.height} rows of {rows.schema}, not the lake's {dict(schema)}")
        )
    steps = np.diff(times_ms(rows, table))
    if not ((steps > 0) if len(table.keys) == 1 else (steps >= 0)).all():
        raise LakeDamaged(_damage(held, ", ".join(names), table, "are not in order: a file was renamed or is damaged"))
    return rows


def _damage(held: Held, names: str, table: Table, what: str) -> str:
    return (
        f"{held.address}/{names} {what}: `python -m flows.market_data repair` sets such files aside, "
        f"and their {table.name} are collected again"
    )


def write_partition(held: Held, name: str, rows: pl.DataFrame) -> None:
    """Write a whole file. Equal rows give equal bytes: what pieces they came in shows in the bytes else."""
    buffer = io.BytesIO()
    rows.rechunk().write_parquet(buffer, compression="lz4", statistics=True)
    held.write(name, buffer.getbuffer())


def _cut(rows: pl.DataFrame, table: Table) -> list[tuple[str, pl.DataFrame]]:
    """The frame cut at the files' borders, in order."""
    if rows.is_empty():
        return []
    times = times_ms(rows, table)
    first, last = (partition_name(int(time_ms), table.period) for time_ms in (times[0], times[-1]))
    if first == last:
        return [(first, rows)]
    border = pl.col(table.time).dt.truncate(_BORDERS[table.period])
    parts = rows.with_columns(border.alias("border")).partition_by("border", maintain_order=True, include_key=False)
    return [(partition_name(int(times_ms(part, table)[0]), table.period), part) for part in parts]


def _outwards(parts: list[tuple[str, pl.DataFrame]], there: list[str]) -> list[tuple[str, pl.DataFrame]]:
    """Later ones forwards, then earlier ones backwards, so that a crash in between leaves no hole before what is there."""
    first = there[0] if there else ""
    return [part for part in parts if part[0] >= first] + [part for part in reversed(parts) if part[0] < first]


def _with_source(rows: pl.DataFrame, source: str, fetched_at: datetime | None) -> pl.DataFrame:
    return rows.with_columns(
        pl.lit(source, dtype=pl.String()).alias("source"), pl.lit(fetched_at).cast(KEPT_COLUMNS["fetched_at"]).alias("fetched_at")
    )


def _split(kept: pl.DataFrame, offered: pl.DataFrame, table: Table) -> tuple[pl.DataFrame, pl.DataFrame | None]:
    """The offered rows that are new, and those whose key is known; None where, as nearly always, all are later."""
    if times_ms(offered, table)[0] > times_ms(kept, table)[-1]:
        return offered, None
    return offered.join(kept, on=table.keys, how="anti", maintain_order="left"), offered.join(
        kept, on=table.keys, how="semi", maintain_order="left"
    )


def _merge(kept: pl.DataFrame | None, new: pl.DataFrame, table: Table) -> pl.DataFrame:
    if kept is None or kept.is_empty():
        return new
    both = pl.concat([kept, new])
    return both if times_ms(new, table)[0] > times_ms(kept, table)[-1] else in_order(both, table)


def _conflicts(kept: pl.DataFrame, offered: pl.DataFrame, table: Table) -> pl.DataFrame:
    both = kept.select(table.keys + table.compared).join(
        offered.select(table.keys + table.compared), on=table.keys, suffix="_offered", maintain_order="right"
    )
    differs = pl.any_horizontal([pl.col(name).ne_missing(pl.col(f"{name}_offered")) for name in table.compared])
    return both.filter(differs).select(list(table.conflict_schema))
