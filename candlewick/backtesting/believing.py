"""How much of a search's best result luck explains, from the days' equities of its sets."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from candlewick.engine.grids import Integers
from candlewick.errors import UsageError
from candlewick.json_text import Json, plain
from candlewick.metrics import DAYS_PER_YEAR, Measure
from candlewick.moments import FloatArray, FloatMatrix
from candlewick.overfitting import MAX_SETS, BacktestOverfitting, DeflatedSharpe, backtest_overfitting, deflated_sharpe

DayEquities = Callable[[Sequence[int]], Sequence[Integers]]
"""The days' equities of the sets at these places, each int64 (days,)."""


@dataclass(frozen=True, slots=True)
class Belief:
    """Deflated Sharpe ratio of the set that was chosen, and probability that choosing so overfits; each with its reason."""

    deflated: DeflatedSharpe | Measure
    overfitting: BacktestOverfitting | Measure

    @property
    def deflated_sharpe(self) -> Measure:
        """Probability that the chosen set's true Sharpe ratio is above what luck gives."""
        return self.deflated.deflated if isinstance(self.deflated, DeflatedSharpe) else self.deflated

    @property
    def sharpe_threshold(self) -> Measure:
        """The annualised Sharpe ratio that the best of so many sets reaches by luck alone."""
        return self.deflated.expected_max_annualised if isinstance(self.deflated, DeflatedSharpe) else self.deflated

    @property
    def overfit_probability(self) -> Measure:
        """Share of the ways to split the time in which the best in one half is below the median in the other."""
        return self.overfitting.probability if isinstance(self.overfitting, BacktestOverfitting) else self.overfitting

    def to_document(self) -> dict[str, Json]:
        """As JSON."""
        return {"deflated_sharpe": plain(self.deflated), "overfitting": plain(self.overfitting)}

    def texts(self) -> tuple[str, ...]:
        """What the figures are and where they come from."""
        told = [
            "Deflated Sharpe ratio: Bailey & López de Prado (2014), Journal of Portfolio Management 40(5). It takes every set "
            "for a try of its own; sets that resemble each other are fewer, so it errs on the careful side."
        ]
        if isinstance(self.overfitting, BacktestOverfitting) and self.overfitting.splits:
            one = self.overfitting
            told.append(
                f"Probability of backtest overfitting: Bailey, Borwein, López de Prado & Zhu (2015), Journal of Computational "
                f"Finance 20(4), over {one.splits:,} splits of {one.periods:,} daily returns, {one.sets_used:,} of {one.sets:,} "
                "sets."
            )
        return tuple(told)


def judge_search(sharpes: Sequence[float | None], chosen: int | None, day_equities: DayEquities, seed: int = 0) -> Belief:
    """Judge a search by its sets' annualised Sharpe ratios (None: undefined) and the place of the ``chosen`` set.

    Only the chosen set's days and those of at most MAX_SETS sets, drawn by ``seed``, are asked for.
    """
    return Belief(_deflated(sharpes, chosen, day_equities), _overfitting(len(sharpes), day_equities, seed))


def _deflated(sharpes: Sequence[float | None], chosen: int | None, day_equities: DayEquities) -> DeflatedSharpe | Measure:
    if chosen is None:
        return Measure(None, "no set was chosen")
    returns = _returns(day_equities([chosen])[0])
    tried = np.array([one for one in sharpes if one is not None], dtype=np.float64) / np.sqrt(DAYS_PER_YEAR)
    if not tried.size:
        return Measure(None, "no set has a defined Sharpe ratio")
    if returns is None or returns.size < 2:
        return Measure(None, "the chosen set has fewer than two daily returns, or its equity fell to zero")
    return deflated_sharpe(returns, tried, periods_per_year=DAYS_PER_YEAR)


def _overfitting(sets: int, day_equities: DayEquities, seed: int) -> BacktestOverfitting | Measure:
    drawn = range(sets)
    if sets > MAX_SETS:
        drawn_places = np.sort(np.random.default_rng(seed).choice(sets, MAX_SETS, replace=False))
        drawn = drawn_places.tolist()
    rows = [returns for days in day_equities(drawn) if (returns := _returns(days)) is not None]
    if len(rows) < 2:
        return Measure(None, f"{len(rows)} of the sets kept their equity above zero; a choice needs two")
    matrix: FloatMatrix = np.stack(rows)
    try:
        return replace(backtest_overfitting(matrix), sets=sets)
    except UsageError as impossible:
        return Measure(None, str(impossible))


def _returns(day_equity: Integers) -> FloatArray | None:
    """Daily returns; None where the equity was not above zero on every day."""
    if not day_equity.size or int(day_equity.min()) <= 0:
        return None
    values = day_equity.astype(np.float64)
    return values[1:] / values[:-1] - 1.0
