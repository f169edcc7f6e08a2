"""The warm-up, measured: after how many bars it no longer matters where a history starts."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from candlewick.signal_differences import agree_from
from candlewick.strategies.contract import HOLD, Strategy, complete_signals

_STARTS = 8
_MOST_BARS = 20_000
_LATE_SHARE = 0.9


@dataclass(frozen=True, slots=True)
class Warmup:
    """``measured`` bars, None where the answers still differ near the end of the ``within_bars`` that were compared."""

    measured: int | None
    within_bars: int


def measure_warmup(strategy: Strategy, candles: pl.DataFrame, signals: pl.DataFrame) -> Warmup:
    """Compare ``signals`` of the whole history with those of histories that start later; the slowest to agree counts.

    The starts lie in the first half: eight evenly, and up to eight whose first bar after the declared warm-up acts in the whole
    history, where a warm-up that is too short would show. Compared are the same number of bars from each start, at most 20,000,
    up to a relative 1e-9 (an average that smooths never forgets entirely). Decisions are sparse, so this is a lower bound: the
    true warm-up may end where no decision shows it. An error that the strategy raises on a later start is raised.
    """
    half = candles.height // 2
    even = np.linspace(half / _STARTS, half, _STARTS).astype(np.int64)
    acting = (signals["action"] != HOLD).arg_true().to_numpy().astype(np.int64)
    first = acting - strategy.warmup
    first = first[(first >= 1) & (first <= half)]
    near = first[np.linspace(0, first.size - 1, min(_STARTS, first.size)).astype(np.int64)] if first.size else first
    within = min(candles.height - half, _MOST_BARS)
    slowest = 0
    for start in np.union1d(even, near).tolist():
        late = complete_signals(strategy, candles.slice(start, within))
        slowest = max(slowest, agree_from(signals.slice(start, within), late))
    return Warmup(None if slowest > _LATE_SHARE * within else slowest, within)
