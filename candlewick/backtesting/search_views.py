"""Searches as reports draw them."""

from collections.abc import Mapping
from dataclasses import fields, replace

import polars as pl

from candlewick.backtest_rows import BacktestRun
from candlewick.backtesting.believing import Belief
from candlewick.backtesting.objectives import Objective
from candlewick.backtesting.search_table import SearchTable
from candlewick.backtesting.summary import run_facts
from candlewick.json_text import Json, plain
from candlewick.parameter_ranges import Value
from candlewick.reports.backtest_view import RunFacts, SweepView, WalkForwardView
from candlewick.reports.sweep_figures import ranked


def sweep_view(
    run: BacktestRun, table: SearchTable, objective: Objective, top: int, belief: Belief, check: str, command: str
) -> SweepView:
    """A sweep or an optimisation; ``run`` with its notices."""
    frame = table.frame()
    varied = varying(frame, table.names)
    facts = run_facts(run, check, command)
    return SweepView(
        **{field.name: getattr(facts, field.name) for field in fields(RunFacts)},
        grid=varied,
        results=frame.drop("number"),
        objective=objective.name,
        top=top,
        lower_is_better=objective.lower_is_better,
        skipped=table.skipped().by_reason,
        deflated_sharpe=belief.deflated_sharpe,
        sharpe_threshold=belief.sharpe_threshold,
        overfit_probability=belief.overfit_probability,
        texts=belief.texts(),
    )


def varying(frame: pl.DataFrame, names: tuple[str, ...]) -> tuple[str, ...]:
    """Parameters that take more than one value; all of them where there is one set only."""
    return tuple(name for name in names if frame[name].n_unique() > 1) or names


def fixed_parameters(document: Mapping[str, Json], varied: tuple[str, ...]) -> dict[str, Json]:
    """A strategy's parameters without those that a search varies."""
    return {name: value for name, value in document.items() if name not in varied}


def concluded_search(run: BacktestRun, table: SearchTable, best: int | None, belief: Belief) -> BacktestRun:
    """The run with the best set's figures and what luck says of them; the status is the caller's to set."""
    chosen: Mapping[str, Value] | None = None if best is None else table.values(best)
    statistics: dict[str, Json] = {
        **belief.to_document(),
        "best": None if chosen is None else dict(chosen),
        "skipped": table.skipped().to_document(),
    }
    return replace(run, figures={} if best is None else table.measures(best), statistics=statistics)


def search_document(run: BacktestRun, view: SweepView | WalkForwardView | None) -> dict[str, Json]:
    """A search for ``--json``: the run as the store has it, and its best sets or its windows."""
    document = plain(run)
    assert isinstance(document, dict)
    if isinstance(view, SweepView):
        document["top"] = plain(ranked(view).head(view.top).to_dicts())
        document["skipped"] = plain(view.skipped)
    elif isinstance(view, WalkForwardView):
        document["windows"] = plain(view.windows.to_dicts())
        document["efficiency"] = plain(view.efficiency)
    return document
