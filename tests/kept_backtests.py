"""Backtests made quickly: the flow's own steps, with Prefect's tasks called as plain functions and nothing published.

Everything else is real: market, lake, check, engine, store and report, under the settings of the environment.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

import pytest
from prefect.tasks import Task

from candlewick.account import Scalar
from candlewick.backtest_request import BacktestOptions, read_backtest
from candlewick.backtesting.inputs import Inputs
from candlewick.store.backtests import Backtests
from candlewick.store.database import Database
from flows.backtest_context import BacktestContext, prepare
from flows.backtest_run import BacktestResult, run


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory with nothing configured but where things are kept."""
    monkeypatch.chdir(tmp_path)
    for name, value in {"STORE__URL": "ledger.duckdb", "LAKE__URL": "lake", "REPORTS__DIRECTORY": "reports"}.items():
        monkeypatch.setenv(f"CANDLEWICK_{name}", str(tmp_path / value))
    return tmp_path


def store_of(folder: Path) -> Backtests:
    """The run store of the folder."""
    return Backtests(Database(str(folder / "ledger.duckdb")))


@contextmanager
def plain_tasks() -> Iterator[None]:
    """Tasks are plain functions meanwhile; what would be published is left out."""

    async def nothing() -> None:
        return None

    def call(task: Task, *arguments: object, **named: object) -> object:  # type: ignore[type-arg]
        return nothing() if task.name.startswith("publish") else task.fn(*arguments, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Task, "__call__", call)
        yield


def options(
    *,
    market: str = "sample",
    symbols: tuple[str, ...] = ("BTC/USDT", "ETH/USDT"),
    timeframe: str = "4h",
    strategy: str = "sma_cross",
    parameters: dict[str, Scalar] | None = None,
    since: str | None = "2026-03-01",
    until: str | None = "2026-06-01",
    rules: dict[str, Scalar] | None = None,
    detail: str | None = None,
    cash: Decimal | None = None,
    allow_peeking: bool = False,
) -> BacktestOptions:
    """What a user asks for; the defaults trade a lot in few bars."""
    return BacktestOptions(
        market=market, symbols=symbols, timeframe=timeframe, strategy=strategy, parameters=parameters, since=since, until=until,
        rules=rules, detail=detail, cash=cash, allow_peeking=allow_peeking,
    )  # fmt: skip


def kept(asked: BacktestOptions) -> BacktestResult:
    """One whole run. Raises what the flow raises."""

    async def whole() -> BacktestResult:
        request = read_backtest(asked)
        chosen = request.strategy()
        context = BacktestContext(request)
        try:
            state = await run(context, chosen)
        finally:
            await context.close()
        answer = state.data
        assert isinstance(answer, BacktestResult)
        return answer

    with plain_tasks():
        return asyncio.run(whole())


def inputs_of(asked: BacktestOptions) -> Inputs:
    """The inputs alone."""

    async def read() -> Inputs:
        context = BacktestContext(read_backtest(asked))
        try:
            return await prepare(context)
        finally:
            await context.close()

    with plain_tasks():
        return asyncio.run(read())
