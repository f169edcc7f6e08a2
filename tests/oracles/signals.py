"""Entries and exits that every engine is given alike, so that only the fills can differ. Never both at one bar."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
import talib

Flags = np.ndarray[tuple[int], np.dtype[np.bool_]]


@dataclass(frozen=True, slots=True)
class Signals:
    """Decisions at the bars' closes, bool, shape (bars,)."""

    entries: Flags
    exits: Flags


def sma_cross(candles: pl.DataFrame) -> Signals:
    """SMA(10) crosses SMA(50). Sums are taken in integers: floats would call equal averages crosses at random."""
    units = np.rint(candles["close"].to_numpy() * 1e8).astype(np.int64)
    sums = np.concatenate(([0], np.cumsum(units)))
    fast, slow = 10, 50
    spread = np.full(units.size, 0, dtype=np.int64)
    spread[slow - 1 :] = np.sign((sums[slow:] - sums[slow - fast : -fast]) * (slow // fast) - (sums[slow:] - sums[:-slow]))
    return _crosses(spread.astype(np.float64))


def rsi_reversion(candles: pl.DataFrame) -> Signals:
    """In where RSI(14) falls below 30, out where it rises above 55."""
    rsi = talib.RSI(candles["close"].to_numpy().astype(np.float64), 14)
    return Signals(_begins(rsi < 30.0), _begins(rsi > 55.0))


def donchian_breakout(candles: pl.DataFrame) -> Signals:
    """In while the close is above the highest high of the 20 bars before, out while below the lowest low of the 10 before."""
    bounds = candles.select(
        above=(pl.col("close") > pl.col("high").rolling_max(20).shift(1)).fill_null(False),
        below=(pl.col("close") < pl.col("low").rolling_min(10).shift(1)).fill_null(False),
    )
    return Signals(bounds["above"].to_numpy(), bounds["below"].to_numpy())


def macd(candles: pl.DataFrame) -> Signals:
    """MACD(12, 26) crosses its signal line(9)."""
    return _crosses(np.nan_to_num(talib.MACD(candles["close"].to_numpy().astype(np.float64), 12, 26, 9)[2]))


def _crosses(spread: np.ndarray[tuple[int], np.dtype[np.float64]]) -> Signals:
    return Signals(_begins(spread > 0.0), _begins(spread < 0.0))


def _begins(state: Flags) -> Flags:
    return state & ~np.concatenate(([True], state[:-1]))


STRATEGIES: Mapping[str, Callable[[pl.DataFrame], Signals]] = {
    "sma_cross": sma_cross,
    "rsi_reversion": rsi_reversion,
    "donchian_breakout": donchian_breakout,
    "macd": macd,
}
