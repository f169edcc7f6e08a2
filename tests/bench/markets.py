"""Made-up markets for the bench: seeded random walks in whole ticks, kept as Parquet so that every process reads the same."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

YEAR_MINUTES, YEAR_HOURS, SYMBOLS = 525_600, 8_760, 50
MINUTE_MS, HOUR_MS = 60_000, 3_600_000
START_MS = 1_735_689_600_000  # 2025-01-01
# The tick is 1 and prices begin at 10,000 ticks: equal averages are frequent, and exact in every engine.
FIRST_PRICE = 10_000
MINUTE_VOLATILITY = 0.0008  # 58 % a year; BTC/USDT and ETH/USDT have 45 to 80 %
COLUMNS = ("open", "high", "low", "close")
Floats = np.ndarray[tuple[int], np.dtype[np.float64]]


@dataclass(frozen=True, slots=True)
class Market:
    """One symbol's candles, float64 of whole ticks, shape (bars,); ``opened_at`` in milliseconds."""

    opened_at: np.ndarray[tuple[int], np.dtype[np.int64]]
    open: Floats
    high: Floats
    low: Floats
    close: Floats

    @property
    def volume(self) -> Floats:
        """Nobody asks for it, but engines want the column."""
        return np.full(self.close.size, 1_000.0)


def make_walk(bars: int, volatility: float, seed: int) -> pl.DataFrame:
    """A bar opens a tick or so beside the last close; its extremes come from a walk of 8 steps inside it."""
    random = np.random.default_rng(seed)
    steps = random.standard_normal((bars, 8)) * (volatility / np.sqrt(8.0))
    inside = np.cumsum(steps, axis=1)
    ends = np.cumsum(inside[:, -1])
    closes = np.rint(FIRST_PRICE * np.exp(ends))
    opens = np.concatenate(([FIRST_PRICE], closes[:-1])) + random.integers(-1, 2, bars)
    path = np.rint(opens[:, None] * np.exp(inside))
    return pl.DataFrame(
        {
            "open": opens,
            "high": np.maximum.reduce([path.max(axis=1), opens, closes]),
            "low": np.minimum.reduce([path.min(axis=1), opens, closes]),
            "close": closes,
        }
    )


def prepare(folder: Path) -> None:
    """The files that `minutes` and `hours` read."""
    for years in (1, 5):
        frame = make_walk(years * YEAR_MINUTES, MINUTE_VOLATILITY, seed=years)
        _write(frame, MINUTE_MS, folder / f"minutes-{years}.parquet")
    for number in range(SYMBOLS):
        frame = make_walk(YEAR_HOURS, MINUTE_VOLATILITY * np.sqrt(60), seed=100 + number)
        _write(frame, HOUR_MS, folder / f"hours-{number}.parquet")


def minutes(folder: Path, years: int = 1) -> Market:
    """525,600 bars a year."""
    return _read(folder / f"minutes-{years}.parquet")


def hours(folder: Path) -> list[Market]:
    """50 symbols of 8,760 bars."""
    return [_read(folder / f"hours-{number}.parquet") for number in range(SYMBOLS)]


def parameter_sets(count: int = 1_000) -> list[tuple[int, int]]:
    """(fast, slow) windows of a grid of 25 by 40, evenly thinned to ``count``."""
    grid = [(fast, slow) for fast in range(5, 55, 2) for slow in range(60, 260, 5)]
    return grid[:: len(grid) // count]


def _write(frame: pl.DataFrame, length_ms: int, path: Path) -> None:
    times = START_MS + np.arange(frame.height, dtype=np.int64) * length_ms
    frame.insert_column(0, pl.Series("opened_at", times)).write_parquet(path)


def _read(path: Path) -> Market:
    frame = pl.read_parquet(path)
    return Market(frame["opened_at"].to_numpy(), *(frame[name].to_numpy() for name in COLUMNS))
