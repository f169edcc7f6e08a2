"""Signals on disk: the decisions of one strategy over one window of candles, named by what they were computed from.

Only rows that decide something are kept: a year of hourly candles leaves a few kilobytes.
"""

import hashlib
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path

import polars as pl

from candlewick.account import Scalar
from candlewick.strategies.contract import HOLD, SIGNAL_SCHEMA

_KEPT_S = 2 * 86_400


def signal_key(candle_digest: str, strategy: str, parameters: Mapping[str, Scalar | None], code: str) -> str:
    """Name of the signals of a strategy's code and parameters over candles of that digest: 40 hex digits."""
    document = json.dumps([candle_digest, strategy, dict(parameters), code], sort_keys=True)
    return hashlib.sha256(document.encode()).hexdigest()[:40]


def signal_file(folder: Path, key: str) -> Path:
    """Where the signals called ``key`` are kept."""
    return folder / f"{key}.parquet"


def is_kept(path: Path) -> bool:
    """Whether the signals are there; a file that is asked for is not pruned for another two days."""
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    return True


def save_signals(path: Path, signals: pl.DataFrame) -> None:
    """Write completed signals; the file appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}")
    signals.filter(pl.col("action") != HOLD).write_parquet(partial)
    partial.replace(path)


def load_signals(path: Path, candles: pl.DataFrame) -> pl.DataFrame:
    """One row per candle in SIGNAL_SCHEMA, HOLD where the file has none. Raises OSError when the file is gone."""
    decided = pl.read_parquet(path.read_bytes(), schema=dict(SIGNAL_SCHEMA))
    frame = candles.select("opened_at").join(decided, on="opened_at", how="left", maintain_order="left")
    return frame.with_columns(pl.col("action").fill_null(HOLD)).select(list(SIGNAL_SCHEMA))


def prune_signals(folder: Path) -> int:
    """Remove files that nobody has written or read for two days; how many."""
    if not folder.is_dir():
        return 0
    old = [path for path in folder.iterdir() if time.time() - path.stat().st_mtime > _KEPT_S]
    for path in old:
        path.unlink(missing_ok=True)
    return len(old)
