"""How much there is of a series, from the ends of its Parquet files: no row is read."""

from dataclasses import dataclass

import polars as pl

from candlewick.errors import LakeDamaged
from candlewick.partitions import Table, partition_names
from candlewick.storage.contract import Held

# Larger than the footers of this lake's files; one that is larger is read again.
_FOOTER_BYTES = 8192
_TRAILER_BYTES = 8


@dataclass(frozen=True, slots=True)
class SeriesOverview:
    """``rows`` in ``files`` of ``bytes`` together; times of the first and the last row in milliseconds UTC, None without rows."""

    rows: int
    first_ms: int | None
    last_ms: int | None
    files: int
    bytes: int


@dataclass(frozen=True, slots=True)
class _Footer:
    rows: int
    first: int
    last: int


def overview_of(held: Held, table: Table) -> SeriesOverview:
    """The overview of a folder. Raises LakeDamaged naming the file."""
    names = partition_names(held)
    if not names:
        return SeriesOverview(0, None, None, 0, 0)
    ends = held.ends(names, _FOOTER_BYTES)
    footers = [_footer(held, name, end, table) for name, end in zip(names, ends, strict=True)]
    per_ms = 1000 if table.schema[table.time] == pl.Datetime("us", "UTC") else 1
    size = sum(held.size(name) for name in names)
    first_ms, last_ms = footers[0].first // per_ms, footers[-1].last // per_ms
    return SeriesOverview(sum(footer.rows for footer in footers), first_ms, last_ms, len(names), size)


def _footer(held: Held, name: str, end: bytes, table: Table) -> _Footer:
    import pyarrow as pa
    import pyarrow.parquet as pq

    length = int.from_bytes(end[-_TRAILER_BYTES:-4], "little") + _TRAILER_BYTES
    if end[-4:] == b"PAR1" and len(end) < length <= held.size(name):
        (end,) = held.ends([name], length)
    try:
        metadata = pq.read_metadata(pa.BufferReader(end))
        column = metadata.schema.names.index(table.time)
        first = metadata.row_group(0).column(column).statistics
        last = metadata.row_group(metadata.num_row_groups - 1).column(column).statistics
        return _Footer(metadata.num_rows, int(first.min_raw), int(last.max_raw))
    except (pa.ArrowException, ValueError, AttributeError, IndexError, OSError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise LakeDamaged(f"{held.address}/{name} is damaged ({reason}): set it aside and collect it again") from error
