"""Signals of many symbols, computed over their whole windows and kept by what they were computed from."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import polars as pl
from prefect import task
from prefect.cache_policies import NO_CACHE

from candlewick.account import TermsVersion
from candlewick.signal_files import is_kept, save_signals, signal_file, signal_key
from candlewick.strategies.catalog import load_strategy, strategy_code_version
from candlewick.strategies.contract import complete_signals

_NAMED = 3


class Window:
    """One symbol's candles with their digest. Not a dataclass: Prefect would search a task's dataclass arguments for futures."""

    def __init__(self, symbol: str, candles: pl.DataFrame, digest: str) -> None:
        self.symbol = symbol
        self.candles = candles
        self.digest = digest


class Batch:
    """Windows that one task decides."""

    def __init__(self, windows: Sequence[Window]) -> None:
        self.windows = windows
        first = ", ".join(window.symbol for window in windows[:_NAMED])
        self.title = first if len(windows) <= _NAMED else f"{first} and {len(windows) - _NAMED} more"


@task(name="compute-signals", task_run_name="signals {batch.title}", cache_policy=NO_CACHE, timeout_seconds=1800)
async def compute_signals(batch: Batch, terms: TermsVersion, folder: Path) -> dict[str, Path]:
    """Decide every bar of every window that is not decided yet; files by symbol. Raises UnknownStrategy, StrategyFailed.

    One task for a batch of symbols, since a task run costs more than the signals of a symbol. The cache is the folder itself: its
    files are named by everything they were computed from.
    """
    strategy = load_strategy(terms.strategy, terms.parameters)
    code = strategy_code_version(strategy)
    keys = {window.symbol: signal_key(window.digest, terms.strategy, terms.parameters, code) for window in batch.windows}
    paths = {symbol: signal_file(folder, key) for symbol, key in keys.items()}
    for window in batch.windows:
        if not is_kept(paths[window.symbol]):
            signals = await asyncio.to_thread(complete_signals, strategy, window.candles)
            save_signals(paths[window.symbol], signals)
    return paths
