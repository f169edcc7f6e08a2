"""Backtesting: how would this have done, and can it be believed. The commands; each flow is in a file of its own.

python -m flows.backtesting --help
"""
# ruff: noqa: E402

from candlewick.command_environment import prepare_command

prepare_command(__name__)

import os
from typing import Annotated

from cyclopts import Parameter

from candlewick.backtest_rows import BacktestRun, RunKind
from candlewick.cli import FAILURE, SUCCESS, JsonFlag, command_app, main, python_command
from candlewick.json_text import to_json
from candlewick.preloading import preload_engine
from candlewick.reports.measures import figure_value
from candlewick.settings import load_settings
from candlewick.store.queries import refuse_unknown
from candlewick.tables import Row, print_rows
from flows.backtest_check import CUTS
from flows.backtest_options import Asked, find_run, open_store, read_parameters
from flows.backtest_run import BacktestResult
from flows.backtest_search import add_search_commands
from flows.command import result_of, run_announced, run_flow

app = command_app(
    "python -m flows.backtesting",
    "Backtest strategies with the engine of the paper account, search their parameters, and check what to believe.\n\n"
    "What is not given comes from the environment (CANDLEWICK_PAPER__...), candlewick.yaml, or the defaults. Runs are kept "
    "beside the accounts, in data/ledger.duckdb or CANDLEWICK_STORE__URL.",
)

RunId = Annotated[str, Parameter(help="Id of a run, the beginning of one, or `latest`.")]
_LIST_COLUMNS = {
    "run_id": "Run", "kind": "Kind", "status": "Status", "strategy": "Strategy", "symbols": "Symbols", "timeframe": "Timeframe",
    "return": "Return", "sharpe": "Sharpe", "trades": "Trades",
}  # fmt: skip
_PARITY_COLUMNS = {"table": "Compared", "account": "Account", "backtest": "Backtest", "verdict": "Verdict"}


@app.command(name="run")
def run_command(asked: Asked | None = None, *, json: JsonFlag = False) -> int:
    """Backtest one strategy: figures, trades, a report, and a run that is kept."""
    from flows.backtest_run import backtest

    given = (asked or Asked()).parameters()
    read_parameters(given).strategy()
    preload_engine()
    result = run_flow(result_of(backtest(**given, return_state=True)))
    _show_run(result, json)
    return FAILURE if result.view is None else SUCCESS


def _show_run(result: BacktestResult, as_json: bool) -> None:
    if as_json:
        print(to_json(result.run, indent=2))
        return
    if result.view is None:
        print(f"FAILED  run {result.run.run_id}: {result.run.error}")
        return
    from rich.console import Console

    from candlewick.reports.backtest_text import render_backtest

    Console().print(render_backtest(result.view, result.report))
    print(f"\n  run {result.run.run_id}: `{python_command()} -m flows.backtesting show latest` shows it again")


@app.command(name="compare")
def compare_command(*runs: RunId, json: JsonFlag = False) -> int:
    """Runs side by side: figures, what differs, and the trades they share."""
    from flows.backtest_compare import compare_backtests

    store = open_store(load_settings())
    named = [find_run(store, run).run_id for run in runs]
    compared = run_flow(result_of(compare_backtests(named, return_state=True)))
    if json:
        print(to_json({"report": compared.report, "figures": compared.view.figures, "notices": compared.view.notices}, indent=2))
        return SUCCESS
    from rich.console import Console

    from candlewick.reports.backtest_text import render_comparison

    Console().print(render_comparison(compared.view, compared.report))
    return SUCCESS


@app.command(name="check")
def check_command(
    asked: Asked | None = None,
    *,
    cuts: Annotated[int, Parameter(help="Other histories to decide again on; the measure of all work.")] = CUTS,
    json: JsonFlag = False,
) -> int:
    """Look for look-ahead: does any decision change when later candles are added, removed or changed? 1 when one does."""
    from flows.backtest_check import check_look_ahead

    given = (asked or Asked()).parameters()
    read_parameters(given).strategy()
    checking = check_look_ahead(
        strategy=given["strategy"], parameters=given["parameters"], market=given["market"], symbols=given["symbols"],
        timeframe=given["timeframe"], since=given["since"], until=given["until"], cuts=cuts, seed=given["seed"],
        return_state=True,
    )  # fmt: skip
    report = run_flow(result_of(checking))
    if json:
        print(to_json(report.to_document(), indent=2))
    else:
        from rich.console import Console

        from candlewick.reports.check_text import render_check

        Console().print(render_check(report))
    return SUCCESS if report.verdict == "passed" else FAILURE


@app.command(name="parity")
def parity_command(account: Annotated[str, Parameter(help="Name of a paper account.")], /, *, json: JsonFlag = False) -> int:
    """Replay an account's whole life as one backtest and compare it with the ledger; 1 when anything differs.

    Where a Prefect server is known (`make serve`, PREFECT_API_URL) this is a run of the flow `parity` there; without one it is
    done here, without the wait for a temporary server.
    """
    from candlewick.parity import parity_document, parity_lines, parity_rows, parity_verdict

    settings = load_settings()
    refuse_unknown(open_store(settings).database, account)
    if os.environ.get("PREFECT_API_URL"):
        from flows.backtest_parity import show_parity

        report = run_flow(result_of(show_parity(account, return_state=True)))
    else:
        from tasks.parity import prove_account

        report = run_announced(prove_account.fn(settings, account), f"playing account {account} as one backtest")
    if json:
        print(to_json(parity_document(report), indent=2))
    else:
        print(parity_verdict(report))
        print_rows(parity_rows(report), _PARITY_COLUMNS, json=False)
        for line in parity_lines(report):
            print(line)
    return FAILURE if report.differences else SUCCESS


@app.command(name="list")
def list_command(
    *,
    kind: Annotated[RunKind | None, Parameter(help="Only runs of this kind. [all]")] = None,
    limit: Annotated[int, Parameter(help="Most runs to show, the newest first.")] = 20,
    json: JsonFlag = False,
) -> int:
    """The runs that are kept, newest first."""
    runs = open_store(load_settings()).list_runs(kind, limit=limit)
    rows = [_plain_row(run) if json else _readable_row(run) for run in runs]
    print_rows(rows, _LIST_COLUMNS, json, empty="There is no run yet: `python -m flows.backtesting run` makes one.")
    return SUCCESS


def _plain_row(run: BacktestRun) -> Row:
    figures = {name: measure.value for name, measure in run.figures.items()}
    return {
        "run_id": run.run_id, "kind": run.kind, "status": run.status, "strategy": run.strategy, "symbols": list(run.symbols),
        "timeframe": run.timeframe, "started_at": run.started_at, "figures": figures,
    }  # fmt: skip


def _readable_row(run: BacktestRun) -> Row:
    def text(name: str) -> str:
        return figure_value(name, run.figures[name].value, run.quote) if name in run.figures else ""

    return {
        "run_id": run.run_id, "kind": run.kind, "status": run.status, "strategy": run.strategy,
        "symbols": ", ".join(run.symbols), "timeframe": run.timeframe,
        "return": text("total_return"), "sharpe": text("sharpe"), "trades": text("trades"),
    }  # fmt: skip


@app.command(name="show")
def show_command(run: RunId = "latest", /, *, json: JsonFlag = False) -> int:
    """One kept run: what it was given, its figures, its newest trades, and where its report is."""
    store = open_store(load_settings())
    found = find_run(store, run)
    if json:
        print(to_json(found, indent=2))
        return SUCCESS
    from rich.console import Console

    from candlewick.backtesting.summary import kept_view
    from candlewick.reports.backtest_text import render_backtest

    if found.status != "success" or found.kind != "run":
        print(f"run {found.run_id}: {found.kind}, {found.status}" + (f" ({found.error})" if found.error else ""))
    Console().print(render_backtest(kept_view(found, store.equity(found.run_id), store.trades(found.run_id)), found.report))
    return SUCCESS


add_search_commands(app)

if __name__ == "__main__":
    main(app)
