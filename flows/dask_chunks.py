"""Chunks on other processes of this machine, through prefect-dask. Imported only where it is asked for: Dask takes a second."""

import asyncio
import logging
import os
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from prefect.server.api.server import SubprocessASGIServer
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect_dask.task_runners import DaskTaskRunner, PrefectDaskFuture

from candlewick.backtesting.chunks import Chunk, ChunkDone
from candlewick.backtesting.set_runner import SetRunner
from tasks.chunks import compute_sets_elsewhere

_AHEAD = 3
"""Chunks that wait for each process: enough that none stands idle, few enough that they are no memory."""


async def spread_over_processes(
    runner: SetRunner, chunks: Iterable[Chunk], folder: Path
) -> AsyncGenerator[tuple[Chunk, ChunkDone], None]:
    """Every chunk in order, computed by as many processes as there are processors. Raises what computing raises."""
    processes = os.cpu_count() or 1
    logging.getLogger("distributed").setLevel(logging.ERROR)
    cluster: dict[str, int | bool | str] = {
        "n_workers": processes,
        "threads_per_worker": 1,
        "processes": True,
        "dashboard_address": "127.0.0.1:0",
    }
    cluster["silence_logs"] = logging.ERROR
    with reachable_server(), DaskTaskRunner(cluster_kwargs=cluster) as dask:
        waiting = deque[tuple[Chunk, PrefectDaskFuture[ChunkDone]]]()
        for chunk in chunks:
            parameters = {"runner": runner, "chunk": chunk, "folder": folder}
            waiting.append((chunk, dask.submit(compute_sets_elsewhere, parameters)))
            if len(waiting) > _AHEAD * processes:
                yield await _next(waiting)
        while waiting:
            yield await _next(waiting)


async def _next(waiting: deque[tuple[Chunk, PrefectDaskFuture[ChunkDone]]]) -> tuple[Chunk, ChunkDone]:
    chunk, future = waiting.popleft()
    return chunk, await asyncio.to_thread(future.result)


@contextmanager
def reachable_server() -> Iterator[None]:
    """Tell other processes where this one's temporary server is; otherwise each would start one of its own."""
    if PREFECT_API_URL.value():
        yield
        return
    with temporary_settings({PREFECT_API_URL: SubprocessASGIServer().api_url}):
        yield
