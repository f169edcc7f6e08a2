"""Funding in the lake: beside a symbol's candles, one Parquet file per year.

    <url>/silver/exchange=binanceusdm/symbol=SOL-USDT%3AUSDT/kind=funding_rate/2026.parquet

Columns are those of FUNDING_SCHEMA plus ``source`` and ``fetched_at``; ``noted_at`` is what the exchange said. Files are
written, and writers queue, as for candles (lake.py).
"""

import io
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl

from candlewick.candles import Series
from candlewick.errors import LakeError
from candlewick.funding import FUNDING_SCHEMA, HOUR_MS, empty_funding, funding_at_ms, funding_holes, within
from candlewick.lake import Lake, reading, sync_folder, write_whole, writing
from candlewick.timeframes import DAY_MS, format_utc, utc
from candlewick.validation import Finding

FUNDING_LAKE_SCHEMA: Mapping[str, pl.DataType] = {**FUNDING_SCHEMA, "source": pl.String(), "fetched_at": pl.Datetime("us", "UTC")}

# Payments before a span say when those inside of it are due. No exchange lets more than a day pass between two.
LOOK_BACK_MS = 2 * DAY_MS

# A source that is copied is copied whole: its fingerprint says nothing of how much of it was.
_END_OF_TIME_MS = 253_402_300_800_000
_PARTITION = re.compile(r"\d{4}\.parquet")
_FINGERPRINT = ".fingerprint"


@dataclass(frozen=True, slots=True)
class FundingPlan:
    """What to ask a market for: payments with ``since_ms <= funding_at < until_ms``. ``series`` says market and symbol.

    ``source`` is the market's fingerprint of a source that can change as a whole: then the lake's copy is replaced by it.
    """

    series: Series
    since_ms: int
    until_ms: int
    source: str | None = None


@dataclass(frozen=True, slots=True)
class FundingReport:
    """What became of the payments offered. ``conflicting`` has ``funding_at``, ``rate`` as kept and ``rate_offered``."""

    added: int
    conflicting: pl.DataFrame


def plan_funding(
    lake: Lake, series: Series, since_ms: int, until_ms: int, interval_h: int, source: str | None
) -> FundingPlan | None:
    """What the lake lacks of a span, from its first hole on; None where it lacks nothing. Raises LakeError.

    A source that can change as a whole is asked for everything when its fingerprint is another than the lake remembers.
    """
    if source is not None:
        return None if funding_fingerprint(lake, series) == source else FundingPlan(series, 0, _END_OF_TIME_MS, source)
    holes = funding_holes(read_funding(lake, series, since_ms - LOOK_BACK_MS, until_ms), since_ms, until_ms, interval_h)
    if not holes:
        return None
    start_ms = holes[0].since_ms
    # From before the hole: a market that knows the payment there says by it what is due next.
    return FundingPlan(series, start_ms - LOOK_BACK_MS if start_ms <= since_ms else start_ms - interval_h * HOUR_MS, until_ms)


def append_funding(lake: Lake, series: Series, funding: pl.DataFrame, source: str, fetched_at: datetime) -> FundingReport:
    """Add the payments that are new; one that is known stays as it is, and another rate for it is reported.

    ``funding`` in FUNDING_SCHEMA, normalised. Doing it twice changes nothing. Raises LakeError.
    """
    _assert_funding(funding)
    added, conflicts = 0, [_conflicts(empty_funding(), empty_funding())]
    if funding.height:
        with writing(_folder(lake, series)) as folder:
            for name, offered in _by_year(funding):
                kept = _read([folder / name]) if (folder / name).exists() else pl.DataFrame(schema=dict(FUNDING_LAKE_SCHEMA))
                new = offered.join(kept, on="funding_at", how="anti", maintain_order="left")
                conflicts.append(_conflicts(kept, offered))
                added += new.height
                if new.height:
                    _write(folder / name, pl.concat([kept, _with_source(new, source, fetched_at)]).sort("funding_at"))
    return FundingReport(added, pl.concat(conflicts))


def replace_funding(
    lake: Lake, series: Series, funding: pl.DataFrame, source: str, fingerprint: str, fetched_at: datetime
) -> None:
    """Make ``funding`` all there is, and remember the fingerprint of where it came from. Raises LakeError."""
    _assert_funding(funding)
    with writing(_folder(lake, series)) as folder:
        (folder / _FINGERPRINT).unlink(missing_ok=True)
        wanted = dict(_by_year(funding))
        for name, offered in wanted.items():
            if not (folder / name).exists() or not _read([folder / name]).select(offered.columns).equals(offered):
                _write(folder / name, _with_source(offered, source, fetched_at))
        for name in set(_names(folder)) - wanted.keys():
            (folder / name).unlink()
        write_whole(folder / _FINGERPRINT, fingerprint.encode())
        sync_folder(folder)


def read_funding(lake: Lake, series: Series, since_ms: int, until_ms: int) -> pl.DataFrame:
    """Payments with ``since_ms <= funding_at < until_ms`` in FUNDING_SCHEMA, sorted; no rows where there are none.

    Of ``series`` market and symbol count, not the timeframe. Raises LakeError.
    """
    first, last = _name(since_ms), _name(until_ms)
    with reading(_folder(lake, series)) as folder:
        paths = [folder / name for name in _names(folder) if first <= name <= last]
        funding = _read(paths).select(list(FUNDING_SCHEMA)) if paths else empty_funding()
    return within(funding, since_ms, until_ms)


def funding_fingerprint(lake: Lake, series: Series) -> str | None:
    """What ``replace_funding`` said last; None where nothing was said, or it did not come to its end."""
    with reading(_folder(lake, series)) as folder:
        path = folder / _FINGERPRINT
        return path.read_text(encoding="utf-8") if path.exists() else None


def revised_funding(report: FundingReport) -> list[Finding]:
    """Payments that the market now tells differently than before. The lake keeps the first word: accounts have acted on it."""
    times = funding_at_ms(report.conflicting).tolist()
    rows = report.conflicting.iter_rows(named=True)
    return [
        Finding(
            "revised_funding",
            "warning",
            time,
            time + 1,
            f"funding {format_utc(time)}: rate {row['rate']} kept, {row['rate_offered']} offered",
        )
        for time, row in zip(times, rows, strict=True)
    ]


def _folder(lake: Lake, series: Series) -> Path:
    return lake.symbol_folder(series) / "kind=funding_rate"


def _name(time_ms: int) -> str:
    return utc(max(0, time_ms)).strftime("%Y.parquet")


def _names(folder: Path) -> list[str]:
    return sorted(name for name in os.listdir(folder) if _PARTITION.fullmatch(name)) if folder.is_dir() else []


def _by_year(funding: pl.DataFrame) -> list[tuple[str, pl.DataFrame]]:
    parts = funding.group_by(pl.col("funding_at").dt.year().alias("year"), maintain_order=True)
    return [(f"{key[0]:04d}.parquet", part.select(list(FUNDING_SCHEMA))) for key, part in parts]


def _assert_funding(funding: pl.DataFrame) -> None:
    assert funding.schema == FUNDING_SCHEMA, f"the lake takes normalised funding, not {funding.schema}"
    assert (np.diff(funding_at_ms(funding)) > 0).all(), "funding is not sorted and unique"


def _with_source(funding: pl.DataFrame, source: str, fetched_at: datetime) -> pl.DataFrame:
    return funding.with_columns(
        pl.lit(source, dtype=pl.String()).alias("source"),
        pl.lit(fetched_at).cast(FUNDING_LAKE_SCHEMA["fetched_at"]).alias("fetched_at"),
    )


def _conflicts(kept: pl.DataFrame, offered: pl.DataFrame) -> pl.DataFrame:
    both = kept.select("funding_at", "rate").join(
        offered.select("funding_at", "rate"), on="funding_at", suffix="_offered", maintain_order="right"
    )
    return both.filter(pl.col("rate") != pl.col("rate_offered")).select("funding_at", "rate", "rate_offered")


def _read(paths: list[Path]) -> pl.DataFrame:
    """The files' rows in the order of the files. Raises LakeError naming the file that is damaged."""
    frames = [_read_one(path) for path in paths]
    if not (np.diff(np.concatenate([funding_at_ms(frame) for frame in frames])) > 0).all():
        raise LakeError(f"{paths[0].parent}: funding is not in order: a file was renamed or is damaged; move it away")
    return pl.concat(frames)


def _read_one(path: Path) -> pl.DataFrame:
    try:
        frame = pl.read_parquet(path, glob=False, hive_partitioning=False)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        reason = str(error).splitlines()[0]
        raise LakeError(f"{path} is damaged ({reason}): move it away, and its funding is collected again") from error
    if frame.schema != FUNDING_LAKE_SCHEMA:
        raise LakeError(f"{path} has {frame.schema}, not the lake's {dict(FUNDING_LAKE_SCHEMA)}: move it away")
    return frame


def _write(path: Path, frame: pl.DataFrame) -> None:
    buffer = io.BytesIO()
    frame.write_parquet(buffer, compression="lz4", statistics=True)
    write_whole(path, buffer.getbuffer())
    sync_folder(path.parent)
