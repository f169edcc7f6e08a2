"""Bronze: what a market answered, as it came, beside where and when; one small Parquet file a chunk.

A file is named `<since>-<until>-<first 8 digits of a digest of the bodies>.parquet` (milliseconds UTC), so a chunk that is
fetched again after a kill, and answered alike, is the same file. Many small files become one a month, `2026-01.parquet`, by
the beginning of their spans. Times here are those of this machine's clock, so two lakes differ in them.
"""

import hashlib
import io
import re
from collections.abc import Iterable, Mapping, Sequence

import polars as pl

from candlewick.candles import RawPage
from candlewick.errors import LakeDamaged
from candlewick.market_data.coverage import Span
from candlewick.partitions import partition_name
from candlewick.storage.contract import Held

PAGE_SCHEMA: Mapping[str, pl.DataType] = {
    "request": pl.String(),
    "fetched_at": pl.Datetime("us", "UTC"),
    "status": pl.Int64(),
    "digest": pl.String(),
    "body": pl.String(),
}
"""``request``: path and query, no host and no credentials. ``digest``: SHA-256 of the body in hex."""

MOST_SMALL_FILES = 64

_CHUNK = re.compile(r"(?P<since>\d+)-\d+-[0-9a-f]{8}\.parquet")
_MONTH = re.compile(r"\d{4}-\d\d\.parquet")


def put_pages(held: Held, span: Span, pages: Sequence[RawPage]) -> None:
    """Write the answers of one chunk."""
    digests = [page.digest for page in pages]  # each reads a whole body
    together = hashlib.sha256("".join(digests).encode()).hexdigest()
    frame = pl.DataFrame(
        {
            "request": [page.request for page in pages],
            "fetched_at": [page.fetched_at for page in pages],
            "status": [page.status for page in pages],
            "digest": digests,
            "body": [page.body for page in pages],
        },
        schema=dict(PAGE_SCHEMA),
    )
    _write(held, f"{span.since_ms}-{span.until_ms}-{together[:8]}.parquet", frame)


def read_pages(held: Held) -> pl.DataFrame:
    """All answers in PAGE_SCHEMA, the oldest first. Raises LakeDamaged naming the file."""
    names = [name for name in held.names() if _CHUNK.fullmatch(name) or _MONTH.fullmatch(name)]
    return _together(_read(held, name) for name in names) if names else pl.DataFrame(schema=dict(PAGE_SCHEMA))


def are_many(held: Held) -> bool:
    """Whether there are more small files than MOST_SMALL_FILES."""
    return len(_small(held)) > MOST_SMALL_FILES


def compact(held: Held) -> int:
    """Make one file a month of the small ones; how many went. A month's file is written before its small ones go, and an answer
    that is in both after a kill in between is told once."""
    months: dict[str, list[str]] = {}
    for name, since_ms in _small(held).items():
        months.setdefault(partition_name(since_ms, "month"), []).append(name)
    there = set(held.names())
    for month, names in months.items():
        _write(held, month, _together(_read(held, name) for name in [*({month} & there), *names]))
        for name in names:
            held.remove(name)
    return sum(map(len, months.values()))


def _small(held: Held) -> dict[str, int]:
    """Small files with the beginning of their span."""
    found = ((name, _CHUNK.fullmatch(name)) for name in held.names())
    return {name: int(match["since"]) for name, match in found if match is not None}


def _together(frames: Iterable[pl.DataFrame]) -> pl.DataFrame:
    return pl.concat(frames).unique(maintain_order=True).sort("fetched_at", maintain_order=True)


def _read(held: Held, name: str) -> pl.DataFrame:
    where = f"{held.address}/{name}"
    try:
        frame = pl.read_parquet(held.sources([name]), glob=False, hive_partitioning=False)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise LakeDamaged(f"{where} is damaged ({str(error).splitlines()[0]}): remove it; candles do not hang on it") from error
    if frame.schema != PAGE_SCHEMA:
        raise LakeDamaged(f"{where} has {frame.schema}, not {dict(PAGE_SCHEMA)}: remove it; candles do not hang on it")
    return frame


def _write(held: Held, name: str, frame: pl.DataFrame) -> None:
    buffer = io.BytesIO()
    frame.write_parquet(buffer, compression="zstd", compression_level=1, statistics=False)
    held.write(name, buffer.getbuffer())
