"""Chunks of parameter sets, as steps of a flow. Imports neither the store nor a market: other processes import this, too.

The cache of a chunk is its file, whose name says all that it was computed from; Prefect's own would know less.
"""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from prefect import task
from prefect.cache_policies import NO_CACHE

from candlewick.backtesting.chunks import Chunk, ChunkDone
from candlewick.backtesting.set_runner import SetRunner

if TYPE_CHECKING:
    from candlewick.backtesting.trials import Trials
    from candlewick.backtesting.walking import Walked


class Chunks:
    """Chunks that are made when they are asked for. Not a list: Prefect would look into each for futures."""

    def __init__(self, make: Callable[[], Iterator[Chunk]]) -> None:
        self.made = make


@task(name="compute-sets", task_run_name="sets {chunk.title}", cache_policy=NO_CACHE, persist_result=False)
async def compute_sets(runner: SetRunner, chunk: Chunk, folder: Path, threads: int | None) -> ChunkDone:
    """One chunk, in this process; a chunk that has begun is finished and kept even when the flow is stopped meanwhile.

    Raises StrategyFailed, UnknownStrategy, EngineOverflow, LakeError.
    """
    return await asyncio.to_thread(chunk.finish, runner, folder, threads)


@task(name="compute-sets", task_run_name="sets {chunk.title}", cache_policy=NO_CACHE, persist_result=False)
def compute_sets_elsewhere(runner: SetRunner, chunk: Chunk, folder: Path) -> ChunkDone:
    """One chunk, in whatever process this is asked for; it reads the candles that were shipped."""
    return chunk.finish(runner, folder, 1)


@task(name="compute-trials", task_run_name="trials {first} to {last}", cache_policy=NO_CACHE, persist_result=False)
async def compute_trials(trials: "Trials", runner: SetRunner, folder: Path, first: int, last: int) -> ChunkDone:
    """Some trials of an optimisation, as ``compute_sets``; the study goes on in ``trials``."""
    return await asyncio.to_thread(trials.finish, runner, folder, first, last - first + 1)


@task(name="train-window", task_run_name="train window {number}", cache_policy=NO_CACHE, persist_result=False)
async def train_window(runner: SetRunner, chunks: Chunks, folder: Path, number: int) -> list[ChunkDone]:
    """All sets over one train window, chunk by chunk, as ``compute_sets``."""
    return [await asyncio.to_thread(chunk.finish, runner, folder, None) for chunk in chunks.made()]


@task(name="test-windows", task_run_name="test {windows} windows", cache_policy=NO_CACHE, persist_result=False)
async def play_test_windows(walk: Callable[[], "Walked"], windows: int) -> "Walked":
    """Every chosen set on its test window, one after the other: each begins with the equity that the one before left."""
    return await asyncio.to_thread(walk)
