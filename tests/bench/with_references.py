"""The bound: R1 for one run, R2 and R1 for sweeps."""

import numpy as np

from tests.bench import references
from tests.bench.contender import FAST, SLOW, Figures
from tests.bench.markets import Market

VERSION = "by hand"
_scratch: dict[int, tuple[np.ndarray, np.ndarray]] = {}


def table(market: Market) -> Market:
    """Columns are what it takes."""
    return market


def single(market: Market, brackets: bool) -> Figures:
    """R1."""
    bars, prices = _room(market.close.size)
    if brackets:
        answer = references.r1_brackets(market.open, market.high, market.low, market.close, FAST, SLOW, bars, prices)
    else:
        answer = references.r1(market.open, market.close, FAST, SLOW, bars, prices)
    return _figures(*answer)


def symbols(markets: list[Market]) -> list[Figures]:
    """R1, symbol by symbol, each with cash of its own."""
    return [single(market, brackets=False) for market in markets]


def sweep(market: Market, sets: list[tuple[int, int]]) -> list[Figures]:
    """R2 on all cores."""
    sums = references.prefix_sums(market.close)
    return [_figures(*row) for row in references.r2_sweep(market.open, market.close, sums, np.array(sets))]


def scalar_sweep(market: Market, sets: list[tuple[int, int]]) -> list[Figures]:
    """R1 on all cores."""
    return [_figures(*row) for row in references.r1_sweep(market.open, market.close, np.array(sets))]


def _figures(equity: float, drawdown: float, trades: float) -> Figures:
    return Figures(int(trades), float(equity), float(drawdown))


def _room(bars: int) -> tuple[np.ndarray, np.ndarray]:
    if bars not in _scratch:
        _scratch[bars] = np.empty(bars, dtype=np.int64), np.empty(bars)
    return _scratch[bars]
