"""A grid cut into chunks, by a few sets that are timed first."""

import asyncio
import os
from collections.abc import Iterator
from itertools import islice

from candlewick.announcing import announce
from candlewick.backtesting.chunks import Chunk, measure_pace
from candlewick.backtesting.search_plans import ChunkPlan, load_plan, plan_file, save_plan
from candlewick.backtesting.set_runner import SetRunner
from candlewick.grids import GridSet, ParameterGrid, chunks, judge
from flows.backtest_context import BacktestContext
from flows.search_steps import search_folder

_MEASURED = 64
_LOOKED_AT = 100_000


def first_set(grid: ParameterGrid) -> GridSet:
    """The grid's first valid combination; there is one."""
    return next(one for index, values in enumerate(grid) if isinstance(one := judge(grid.strategy, index, values), GridSet))


async def measured_plan(context: BacktestContext, grid: ParameterGrid, runner: SetRunner) -> ChunkPlan:
    """How a grid over the runner's window was cut before, or is cut from now on. Raises what computing raises, LakeError."""
    path = plan_file(search_folder(context), runner.key, grid.to_document())
    kept = load_plan(path, os.cpu_count() or 1)
    if kept is not None:
        return kept
    announce("compiling where it is needed, then timing a few sets")
    judged = (judge(grid.strategy, index, values) for index, values in islice(enumerate(grid), _LOOKED_AT))
    sets = list(islice((one for one in judged if isinstance(one, GridSet)), _MEASURED)) or [first_set(grid)]
    with context.stopwatch.step("measure"):
        pace = await asyncio.to_thread(measure_pace, runner, sets, os.cpu_count() or 1)
    plan = ChunkPlan(pace.chunk_size(), pace)
    save_plan(path, plan)
    return plan


def grid_chunks(grid: ParameterGrid, size: int) -> Iterator[Chunk]:
    """The grid in order, each chunk made when it is asked for."""
    for number, one in enumerate(chunks(grid, size)):
        yield Chunk(number, sorted((*one.sets, *one.skipped), key=lambda judged: judged.index))
