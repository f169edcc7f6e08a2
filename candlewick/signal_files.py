"""Signals on disk: the decisions of one strategy over one window of candles, named by what they were computed from.

Only rows that decide something are kept: a year of hourly candles leaves a few kilobytes.
"""

import hashlib
import io
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import polars as pl

from candlewick.account import Scalar
from candlewick.files import naming_what_failed
from candlewick.strategies.contract import HOLD, SIGNAL_SCHEMA

_KEPT_S = 2 * 86_400
_LAST_BYTES = b"PAR1"


def signal_key(candle_digest: str, strategy: str, parameters: Mapping[str, Scalar | None], code: str) -> str:
    """Name of the signals of a strategy's code and parameters over candles of that digest: 40 hex digits."""
    document = json.dumps([candle_digest, strategy, dict(parameters), code], sort_keys=True)
    return hashlib.sha256(document.encode()).hexdigest()[:40]


def signal_file(folder: Path, key: str) -> Path:
    """Where the signals called ``key`` are kept."""
    return folder / f"{key}.parquet"


def is_kept(path: Path) -> bool:
    """Whether the signals are there, whole; a file that is asked for is not pruned for another two days. Raises LakeError."""
    with naming_what_failed(path, "read"):
        try:
            with path.open("rb") as file:
                whole = file.seek(0, os.SEEK_END) > len(_LAST_BYTES) and _ends_well(file)
            os.utime(path)
        except FileNotFoundError:
            return False
    return whole


def _ends_well(file: BinaryIO) -> bool:
    """A file that a power cut left short or empty does not end as Parquet files do: it is computed again."""
    file.seek(-len(_LAST_BYTES), os.SEEK_END)
    return file.read() == _LAST_BYTES


def save_signals(path: Path, signals: pl.DataFrame) -> None:
    """Write completed signals; the file appears whole or not at all. Raises LakeError."""
    buffer = io.BytesIO()
    signals.filter(pl.col("action") != HOLD).write_parquet(buffer)
    partial = path.with_suffix(f".{os.getpid()}")
    with naming_what_failed(path, "written"):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("wb") as file:
                file.write(buffer.getbuffer())
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        except OSError:
            partial.unlink(missing_ok=True)  # a full disk needs the space back
            raise


def load_signals(path: Path, candles: pl.DataFrame) -> pl.DataFrame:
    """One row per candle in SIGNAL_SCHEMA, HOLD where the file has none. Raises LakeError."""
    with naming_what_failed(path, "read"):
        content = path.read_bytes()
    decided = pl.read_parquet(content, schema=dict(SIGNAL_SCHEMA))
    frame = candles.select("opened_at").join(decided, on="opened_at", how="left", maintain_order="left")
    return frame.with_columns(pl.col("action").fill_null(HOLD)).select(list(SIGNAL_SCHEMA))


def prune_signals(folder: Path) -> int:
    """Remove files that nobody has written or read for two days; how many. Raises LakeError."""
    if not folder.is_dir():
        return 0
    oldest_s = time.time() - _KEPT_S
    with naming_what_failed(folder, "cleared"):
        old = [path for path in folder.iterdir() if (_changed_s(path) or oldest_s) < oldest_s]
        for path in old:
            path.unlink(missing_ok=True)
    return len(old)


def _changed_s(path: Path) -> float | None:
    """When the file was last changed; None when it is gone, renamed or removed by another cycle meanwhile."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return None
