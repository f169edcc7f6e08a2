"""Signals of one symbol, computed over the whole window and kept by what they were computed from."""

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any, TypedDict

import polars as pl
from prefect import task
from prefect.context import TaskRunContext

from candlewick.account import TermsVersion
from candlewick.signal_files import save_signals, signal_key
from candlewick.strategies.catalog import load_strategy, strategy_code_version
from candlewick.strategies.contract import HOLD, complete_signals


class SignalsFile(TypedDict):
    """JSON-ready reference to signals on disk. ``decisions`` counts the rows that are not HOLD."""

    path: str
    decisions: int


class Window:
    """One symbol's candles with their digest. Not a dataclass: Prefect would search a task's dataclass arguments for futures."""

    def __init__(self, symbol: str, candles: pl.DataFrame, digest: str) -> None:
        self.symbol = symbol
        self.candles = candles
        self.digest = digest


def window_key(window: Window, terms: TermsVersion) -> str:
    """The signals' name: candle digest, strategy, parameters and code version."""
    code = strategy_code_version(load_strategy(terms.strategy, terms.parameters))
    return signal_key(window.digest, terms.strategy, terms.parameters, code)


def _cache_key(_context: TaskRunContext, arguments: dict[str, Any]) -> str:
    return f"signals-1/{arguments['folder']}/{window_key(arguments['window'], arguments['terms'])}"


@task(
    name="compute-signals",
    task_run_name="signals {window.symbol}",
    cache_key_fn=_cache_key,
    cache_expiration=timedelta(days=1),
    persist_result=True,
    result_serializer="json",
    timeout_seconds=600,
)
async def compute_signals(window: Window, terms: TermsVersion, folder: Path) -> SignalsFile:
    """Decide every bar of the window. Raises UnknownStrategy, StrategyFailed."""
    strategy = load_strategy(terms.strategy, terms.parameters)
    signals = await asyncio.to_thread(complete_signals, strategy, window.candles)
    path = save_signals(folder, window_key(window, terms), signals)
    return SignalsFile(path=str(path), decisions=signals.filter(pl.col("action") != HOLD).height)
