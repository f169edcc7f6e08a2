"""The commands that search: `sweep`, `optimize` and `walk-forward` of `python -m flows.backtesting`."""

from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, Parameter

from candlewick.cli import FAILURE, SUCCESS, JsonFlag, python_command
from candlewick.json_text import to_json
from flows.backtest_options import Asked, read_parameters
from flows.command import result_of, run_flow

if TYPE_CHECKING:
    from flows.search_steps import SearchResult

ObjectiveName = Annotated[str, Parameter(help="The figure that sets are compared by, such as sharpe, calmar or max_drawdown.")]


def add_search_commands(app: App) -> None:
    """Give ``app`` the commands of this module."""
    app.command(sweep_command, name="sweep")
    app.command(optimize_command, name="optimize")
    app.command(walk_forward_command, name="walk-forward")


def sweep_command(
    asked: Asked | None = None,
    *,
    objective: ObjectiveName = "sharpe",
    top: Annotated[int, Parameter(help="Best sets to show.")] = 20,
    yes: Annotated[bool, Parameter(help="Compute a grid of more than 100,000 sets.")] = False,
    runner: Annotated[Literal["threads", "dask"], Parameter(help="Threads of one process, or processes by Dask.")] = "threads",
    chunk: Annotated[int | None, Parameter(help="Sets in a chunk, which a crash loses. [about two seconds of work]")] = None,
    json: JsonFlag = False,
) -> int:
    """Every combination of a grid: --param fast=5:50:5 --param slow=20,50,100.

    Finished chunks are kept: after Ctrl-C or a crash the same command goes on with those that are missing.
    """
    from flows.sweep import read_sweep, sweep

    given = (asked or Asked()).parameters()
    read_sweep(read_parameters(given), objective, top, yes, runner, chunk)
    searching = sweep(**given, objective=objective, top=top, yes=yes, runner=runner, chunk=chunk, return_state=True)
    return _show(run_flow(result_of(searching)), json)


def optimize_command(
    asked: Asked | None = None,
    *,
    objective: ObjectiveName = "sharpe",
    trials: Annotated[int, Parameter(help="Sets to try; more of them later go on from here.")] = 200,
    top: Annotated[int, Parameter(help="Best sets to show.")] = 20,
    json: JsonFlag = False,
) -> int:
    """Let optuna look for good parameters: --param fast=5:50 --param stop_loss_bps=50:500.

    Seeded, so the same command tries the same sets; trials are kept, and after Ctrl-C it goes on with those that are missing.
    """
    from flows.optimize import optimize, read_optimize

    given = (asked or Asked()).parameters()
    read_optimize(read_parameters(given), objective, trials, top)
    searching = optimize(**given, objective=objective, trials=trials, top=top, return_state=True)
    return _show(run_flow(result_of(searching)), json)


def walk_forward_command(
    asked: Asked | None = None,
    *,
    train: Annotated[str, Parameter(help="Length of a train window, such as 180d or 26w.")] = "180d",
    test: Annotated[str, Parameter(help="Length of the test window after it.")] = "30d",
    step: Annotated[str | None, Parameter(help="From one test to the next. [as long as a test]")] = None,
    anchored: Annotated[bool, Parameter(help="All train windows begin at the first bar and grow.")] = False,
    objective: ObjectiveName = "sharpe",
    yes: Annotated[bool, Parameter(help="Compute a grid of more than 100,000 sets.")] = False,
    json: JsonFlag = False,
) -> int:
    """Choose a grid's best set on each train window and count what it does on the test window after it."""
    from flows.walk_forward import read_walk, walk_forward

    given = (asked or Asked()).parameters()
    read_walk(read_parameters(given), objective, train, test, step, anchored, yes)
    walking = walk_forward(
        **given, objective=objective, train=train, test=test, step=step, anchored=anchored, yes=yes, return_state=True
    )
    return _show(run_flow(result_of(walking)), json)


def _show(result: "SearchResult", as_json: bool) -> int:
    from candlewick.backtesting.search_views import search_document
    from candlewick.reports.backtest_text import render_sweep, render_walk_forward
    from candlewick.reports.backtest_view import SweepView

    if as_json:
        print(to_json(search_document(result.run, result.view), indent=2))
    elif result.view is None:
        print(f"FAILED  run {result.run.run_id}: {result.run.error}")
    else:
        from rich.console import Console

        view = result.view
        shown = render_sweep(view, result.report) if isinstance(view, SweepView) else render_walk_forward(view, result.report)
        Console().print(shown)
        print(f"\n  run {result.run.run_id}: `{python_command()} -m flows.backtesting show latest` shows it again")
    return FAILURE if result.view is None else SUCCESS
