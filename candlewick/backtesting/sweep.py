"""Many parameter sets over the same candles: laid out once, signals from shared columns, running sums only.

Memory does not grow with bars × sets: each set leaves its figures and one equity a day. Sets run side by side in threads, because
compiled code lets other threads run; a set's figures do not depend on which sets it is run with.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import polars as pl

from candlewick.backtesting.simulation import Simulation, simulate
from candlewick.engine.bars import LaidOut
from candlewick.engine.decisions import Said
from candlewick.engine.grids import Integers
from candlewick.figures import Figures
from candlewick.strategies.contract import Shared, Strategy, complete_signals


@dataclass(frozen=True, slots=True)
class SetResult:
    """What one parameter set came to. ``day_equity`` int64 (days,): units of 1e-8, the last of each UTC day that has bars."""

    figures: Figures
    day_equity: Integers


class Sweeper:
    """Candles that are laid out, and what all sets of one strategy share."""

    def __init__(self, laid: LaidOut, strategy: type[Strategy]) -> None:
        self._laid = laid
        self._shared: dict[str, Shared] = {symbol: strategy.shared(frame) for symbol, frame in laid.candles.items()}

    def simulate(self, strategy: Strategy) -> Simulation:
        """One set, without events and curve. Raises what the strategy and the engine raise."""
        said = {symbol: self._said(strategy, symbol, frame) for symbol, frame in self._laid.candles.items()}
        return simulate(self._laid, self._laid.with_decisions(said), "none", keeps_events=False)

    def result(self, strategy: Strategy) -> SetResult:
        """The figures of one set."""
        simulation = self.simulate(strategy)
        return SetResult(simulation.figures(), simulation.day_equity)

    def results(self, strategies: Iterable[Strategy], threads: int | None = None) -> Iterator[SetResult]:
        """The figures of each set, in their order; ``threads`` at once (none: as many as the machine has processors)."""
        workers = threads or os.cpu_count() or 1
        if workers == 1:
            yield from map(self.result, strategies)
            return
        with ThreadPoolExecutor(workers) as pool:
            yield from pool.map(self.result, strategies)

    def _said(self, strategy: Strategy, symbol: str, candles: pl.DataFrame) -> Said:
        actions = strategy.actions(candles, self._shared[symbol])
        return complete_signals(strategy, candles) if actions is None else actions


def objective_of(figures: Mapping[str, object], name: str) -> float | None:
    """A figure as the number that a search compares; None where it is not defined."""
    value = getattr(figures[name], "value", None)
    return None if value is None else float(value)
