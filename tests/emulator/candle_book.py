"""The emulator's candles: numpy columns by (Binance symbol, interval), from the real files or made for one test."""

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import polars as pl

_FILE = re.compile(r"binance_([A-Z0-9]+)_(\d+[mhdw])\.parquet")
_COLUMNS = ("open", "high", "low", "close", "volume")

Columns = tuple[np.ndarray, np.ndarray]
"""Open times, int64 milliseconds, shape (rows,); open, high, low, close, volume, float64, shape (rows, 5)."""


class CandleBook:
    """Files are read when they are first asked for; ``add`` replaces what a file has."""

    def __init__(self) -> None:
        self._files: dict[tuple[str, str], Path] = {}
        self._columns: dict[tuple[str, str], Columns] = {}

    @staticmethod
    def from_folder(folder: Path) -> "CandleBook":
        """``binance_BTCUSDT_1h.parquet`` and the like; names with more parts (``_2017-2024``) are left out."""
        book = CandleBook()
        for path in sorted(folder.glob("binance_*.parquet")):
            if found := _FILE.fullmatch(path.name):
                book._files[found.group(1), found.group(2)] = path
        return book

    def add_file(self, symbol: str, interval: str, path: Path) -> None:
        """Serve this file's candles (columns ts, open, high, low, close, volume)."""
        self._columns.pop((symbol, interval), None)
        self._files[symbol, interval] = path

    def add(self, symbol: str, interval: str, rows: Iterable[tuple[int, float, float, float, float, float]]) -> None:
        """Serve made-up candles: (open time in ms, open, high, low, close, volume), sorted by time."""
        table = np.array(list(rows), dtype=np.float64).reshape(-1, 6)
        self._columns[symbol, interval] = table[:, 0].astype(np.int64), table[:, 1:].copy()

    @property
    def symbols(self) -> tuple[str, ...]:
        """Binance symbols that have candles in any interval."""
        return tuple(sorted({symbol for symbol, _ in (*self._files, *self._columns)}))

    def columns(self, symbol: str, interval: str) -> Columns:
        """Candles of one symbol and interval; empty columns where there are none."""
        key = (symbol, interval)
        if key not in self._columns:
            self._columns[key] = _read(self._files[key]) if key in self._files else (np.empty(0, np.int64), np.empty((0, 5)))
        return self._columns[key]

    def window(
        self, symbol: str, interval: str, _start_ms: int | None, _end_ms: int | None, _limit: int, now_ms: int
    ) -> tuple[Columns, int]:
        """Candles among which are those that a question is about, and the moment as of which they are told: here all, and now."""
        return self.columns(symbol, interval), now_ms


def _read(path: Path) -> Columns:
    frame = pl.read_parquet(path)
    opened_at_ms = frame["ts"].dt.epoch("ms").to_numpy()
    return opened_at_ms, np.ascontiguousarray(frame.select(_COLUMNS).to_numpy())
