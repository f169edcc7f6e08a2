"""A walk-forward as reports draw it, and as the run store keeps it."""

from dataclasses import fields, replace

from candlewick.backtest_rows import BacktestRun
from candlewick.backtesting.believing import Belief
from candlewick.backtesting.objectives import Objective
from candlewick.backtesting.search_table import SearchTable
from candlewick.backtesting.summary import run_facts
from candlewick.backtesting.walking import (
    Choice,
    Walked,
    kept_windows,
    stability_frame,
    window_frame,
    window_returns,
)
from candlewick.grids import ParameterGrid
from candlewick.reports.backtest_view import RunFacts, WalkForwardView
from candlewick.reports.numbers import format_count, format_ratio, format_share
from candlewick.store.backtests import Outcome
from candlewick.walk_forward import Efficiency, Stability, parameter_stability, walk_forward_efficiency


def choose(table: SearchTable, objective: Objective) -> Choice | None:
    """The best set of a train window, the first of equal ones; None where no set's objective is defined. Raises LakeError."""
    scores = table.scores(objective.name)
    best = objective.best(scores)
    score = None if best is None else scores[best]
    return None if best is None or score is None else Choice(table.values(best), score, table.measures(best))


def judge_walk(walked: Walked, grid: ParameterGrid) -> tuple[Stability, Efficiency]:
    """How steady the choices were and how much of the promised return arrived."""
    chosen = [dict(one.choice.values) for one in walked.windows if one.choice is not None]
    return parameter_stability(chosen, grid), walk_forward_efficiency(window_returns(walked))


def walk_forward_view(
    run: BacktestRun, walked: Walked, grid: ParameterGrid, objective: Objective, belief: Belief, check: str, command: str
) -> WalkForwardView:
    """The walk-forward; ``run`` with its notices, ``belief`` in the sets over the whole span."""
    facts, varied = run_facts(run, check, command), grid.varied or grid.names
    stability, efficiency = judge_walk(walked, grid)
    return WalkForwardView(
        **{field.name: getattr(facts, field.name) for field in fields(RunFacts)},
        grid=varied,
        objective=objective.name,
        windows=window_frame(walked, varied, objective),
        equity=walked.equity.select("at", "equity", "drawdown_share", "benchmark"),
        figures=walked.figures,
        stability=stability_frame([one for one in stability.parameters if one.name in varied]),
        efficiency=efficiency.efficiency,
        texts=(*_texts(walked, stability), *_belief_texts(belief)),
    )


def _texts(walked: Walked, stability: Stability) -> list[str]:
    idle = sum(one.test is None for one in walked.windows)
    texts = [
        "Each test window starts flat with the equity that the one before ended with; a position that is open at its end counts "
        "at the last close, without the costs of leaving it.",
    ]
    if idle:
        texts.append(f"{format_count(idle, 'window')} stayed in cash: nothing was chosen, or there was nothing to test on.")
    if stability.neighbour_share.value is not None:
        texts.append(
            f"From window to window the choice stayed, or moved to a neighbour in the grid, in "
            f"{format_share(stability.neighbour_share.value)} of the steps."
        )
    return texts


def _belief_texts(belief: Belief) -> tuple[str, ...]:
    deflated, threshold, overfit = belief.deflated_sharpe, belief.sharpe_threshold, belief.overfit_probability
    first = (
        f"All sets over the whole span: the best is above luck (a Sharpe ratio of {format_ratio(threshold.value)}) with "
        f"probability {format_share(deflated.value)}"
        if deflated.value is not None
        else f"All sets over the whole span: no deflated Sharpe ratio ({deflated.reason})"
    )
    second = (
        f"; the probability of backtest overfitting is {format_share(overfit.value)}."
        if overfit.value is not None
        else f"; no probability of overfitting ({overfit.reason})."
    )
    return (first + second, *belief.texts())


def concluded_walk(run: BacktestRun, walked: Walked, grid: ParameterGrid, belief: Belief) -> tuple[BacktestRun, Outcome]:
    """The run with its out-of-sample figures, and its rows; the status is the caller's to set."""
    stability, efficiency = judge_walk(walked, grid)
    statistics = {
        **belief.to_document(),
        "stability": stability.to_document(),
        "efficiency": efficiency.to_document(),
    }
    ended = replace(run, figures=dict(walked.figures), statistics=statistics)
    return ended, Outcome(windows=kept_windows(walked), equity=walked.equity)
