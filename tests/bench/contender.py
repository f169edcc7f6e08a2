"""What a contender of the race answers: each engine is a module with these functions, `own`, `with_raptorbt`, ...

`table(market)` is the candles as the engine's users have them at hand, a frame or columns, and is not timed. On such tables
`single(table, brackets)` and `symbols(tables)` run SMA(10) across SMA(50) with fills and metrics, and `sweep(table, sets)` many
(fast, slow). What an engine must do once (compile, import) it does in the warm-up run, which is not timed either; what it must do
for every run (its own layout of the candles, averages, crosses, fills, metrics) is timed.
"""

from dataclasses import dataclass

import numpy as np

FAST, SLOW = 10, 50
FEE, CASH = 0.001, 1e7
STOP, TARGET = 0.02, 0.04


@dataclass(frozen=True, slots=True)
class Figures:
    """Closed trades, final equity marked to the last close, and the largest drawdown as a share of 1 (negative)."""

    trades: int
    final_equity: float
    max_drawdown: float


def cross_flags(fast: np.ndarray, slow: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Entries and exits, bool, for engines that want them. Equal averages keep the side that was; NaN has none."""
    side = np.where(fast > slow, 1, np.where(fast < slow, -1, 0)).astype(np.int8)
    rows = np.flatnonzero(side)
    turns = rows[1:][side[rows[1:]] != side[rows[:-1]]]
    entries, exits = np.zeros(side.size, dtype=bool), np.zeros(side.size, dtype=bool)
    entries[turns[side[turns] > 0]] = True
    exits[turns[side[turns] < 0]] = True
    return entries, exits
