"""Cycles in processes that can be killed at a chosen place: a program that imports everything once and forks for every cycle.

`python -m tests.crash_child` reads one request a line (JSON: a list of cycles to run at once) and answers each with one line, how
the processes ended. With PREFECT_API_URL a cycle is the flow `paper_trading` on that server. Without, it is the flow's body with
its tasks called directly, in a fraction of the time, so that many places can be tried. `backfill` and `sync` can be killed, too.

The killer is Python's tracing, so that production code needs no hook: it counts the executions of every line of flows/,
tasks/ and candlewick/ in all threads. At the chosen one the process gets SIGKILL, at once or some microseconds later,
wherever it then is: inside DuckDB's COMMIT, or between a write and its fsync.
"""

import json
import os
import resource
import signal
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
_TRACED = tuple(f"{ROOT / folder}{os.sep}" for folder in ("flows", "tasks", "candlewick"))


class Tracer:
    """Counts executed lines by `file:line`; ends the process at ``kill``: [site, occurrence, delay in microseconds]."""

    def __init__(self, kill: list[Any] | None) -> None:
        self.counts: Counter[str] = Counter()
        self._kill = kill
        self._delayed_end = executioner() if kill and kill[2] else None

    def install(self) -> None:
        """From now on, in this thread and all that begin later."""
        threading.settrace(self.call)
        sys.settrace(self.call)

    def call(self, frame: FrameType, _event: str, _argument: object) -> Any:
        """The trace function of a call: lines are traced in this project's code only."""
        return self.line if frame.f_code.co_filename.startswith(_TRACED) else None

    def line(self, frame: FrameType, event: str, _argument: object) -> Any:
        """The trace function of a line."""
        if event == "line":
            site = f"{frame.f_code.co_filename.removeprefix(str(ROOT) + os.sep)}:{frame.f_lineno}"
            self.counts[site] += 1
            if self._kill is not None and [site, self.counts[site]] == self._kill[:2]:
                self._end(self._kill[2])
        return self.line

    def _end(self, delay_us: int) -> None:
        if self._delayed_end is None:
            os.kill(os.getpid(), signal.SIGKILL)
        else:
            self._delayed_end(delay_us)


def executioner() -> Callable[[int], None]:
    """How this process can end itself after some microseconds, by SIGKILL from another process, whatever runs then.

    The other process is forked now, before there are files whose locks it would share.
    """
    victim = os.pidfd_open(os.getpid())
    receiver, sender = os.pipe()
    if os.fork() == 0:
        os.close(sender)
        told = os.read(receiver, 16)
        if told:
            time.sleep(int(told) / 1e6)
            signal.pidfd_send_signal(victim, signal.SIGKILL)
        os._exit(0)
    os.close(victim)
    os.close(receiver)
    return lambda delay_us: os.write(sender, str(delay_us).encode()) and None


class DirectTask:
    """A task without Prefect: the same function, no retries, no cache."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return self._function(*arguments, **named)

    def with_options(self, **_options: Any) -> "DirectTask":
        """Options are Prefect's."""
        return self


class NoClient:
    """Stands for the connection to a server that is not there."""

    @staticmethod
    def get_or_create() -> AbstractContextManager[None]:
        """Nothing to connect to."""
        return nullcontext()


def call_tasks_directly() -> None:
    """Replace the tasks that a cycle's steps call, and leave out what only a Prefect server can take."""
    from prefect.tasks import Task

    import flows.collecting
    import flows.collecting_series
    import flows.cycle
    import flows.cycle_ending
    import flows.paper_trading
    import tasks.ingest_kinds

    async def publish_nothing(*_: object) -> None: ...

    for module in (flows.cycle, flows.cycle_ending, flows.collecting, flows.collecting_series, tasks.ingest_kinds):
        for name, value in list(vars(module).items()):
            if isinstance(value, Task):
                setattr(module, name, DirectTask(value.fn))
    flows.paper_trading.SyncClientContext = NoClient  # type: ignore[assignment,misc]
    flows.collecting.SyncClientContext = NoClient  # type: ignore[assignment,misc]
    flows.cycle_ending.publish_artifacts = publish_nothing  # type: ignore[assignment]
    flows.collecting.publish_collected = publish_nothing  # type: ignore[assignment]
    flows.cycle_ending.emit_cycle_events = lambda *_: None


def prepare() -> None:
    """Do once what every cycle would do: imports, machine code. Nothing of polars is called, its threads die in a fork."""
    from decimal import Decimal

    import ccxt.async_support  # noqa: F401 - imported when an exchange is opened
    import numpy as np
    import pyarrow.compute  # noqa: F401 - imported when a frame is first converted

    import candlewick.reports.html  # noqa: F401 - imported inside functions
    import flows.data_backfill
    import flows.data_sync
    import flows.paper_trading  # noqa: F401
    from candlewick.code_version import code_version
    from candlewick.engine.bars import EngineInput
    from candlewick.engine.grids import column_units
    from candlewick.engine.layout import DECISION, FUNDING, Market
    from candlewick.engine.run import advance, advance_open
    from candlewick.engine.state import open_state
    from candlewick.engine.terms import Terms
    from candlewick.indicators import atr, sma_cross_sign
    from candlewick.instruments import Instrument
    from candlewick.rules import Rules

    code_version()
    ones, small = np.ones(5), Decimal("0.001")
    atr(ones, ones, ones, 2)
    sma_cross_sign(ones, 2, 3)
    terms = Terms("1h", Decimal(100), (Instrument("A/B", "A", "B", small, small, small, Decimal(5)),), Rules())
    one, none, rows = np.zeros((1, 1), np.int64), np.zeros(0, np.int64), np.zeros(1, np.int64)
    market = Market(rows, np.ones((1, 1, 4), np.int64), one[:0], np.zeros((0, 0, 2), np.int64), none, none, none)
    nothing = np.zeros(0, DECISION), np.zeros(0, FUNDING)
    advance(open_state(Decimal(100), 1), terms, EngineInput(market, *nothing, rows + 1))
    column_units(ones, 8, "A/B")
    advance_open(open_state(Decimal(100), 1), terms, 0, np.zeros(1, np.int64))


def _on_a_server() -> bool:
    return "PREFECT_API_URL" in os.environ


def run_cycle(options: dict[str, Any]) -> dict[str, Any]:
    """One cycle in this process: its status and what it says."""
    from flows.paper_trading import paper_trading

    result = _result_of(paper_trading, options)
    if isinstance(result, dict):
        return result
    return {"status": result.status, "said": "; ".join([result.error or "", *(result.data.notices if result.data else [])])}


def run_backfill(options: dict[str, Any]) -> dict[str, Any]:
    """One backfill in this process: whether every series is complete, and what it did."""
    from flows.data_backfill import backfill

    return _collected(_result_of(backfill, options))


def run_sync(options: dict[str, Any]) -> dict[str, Any]:
    """One sync in this process."""
    from flows.data_sync import sync

    return _collected(_result_of(sync, options))


def _collected(result: Any) -> dict[str, Any]:
    from candlewick.reports.collected import collected_lines

    if isinstance(result, dict):
        return result
    return {"status": "failure" if result.failed else "success", "said": "\n".join(collected_lines(result))}


def _result_of(flow: Any, options: dict[str, Any]) -> Any:
    """What the flow's final state carries; where it raised, what is said of that."""
    import asyncio

    async def result() -> Any:
        if _on_a_server():
            return await (await flow(**options, return_state=True)).aresult(raise_on_failure=False)
        return (await flow.fn(**options)).data

    try:
        return asyncio.run(result())
    except Exception as error:  # noqa: BLE001 - told to the test, which decides
        return {"status": "raised", "said": f"{type(error).__name__}: {error}", "trace": traceback.format_exc()}


FLOWS = {"paper_trading": run_cycle, "backfill": run_backfill, "sync": run_sync}


def _child(cycle: dict[str, Any]) -> None:
    os.chdir(cycle["directory"])
    os.environ.update(cycle["environment"])
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    if cycle["largest_file_bytes"]:  # a full disk that needs no rights: writes beyond it are really refused
        resource.setrlimit(resource.RLIMIT_FSIZE, (cycle["largest_file_bytes"], unlimited[1]))
    tracer = Tracer(cycle["kill"])
    if cycle["kill"] or cycle["trace"]:
        tracer.install()
    answer = FLOWS[cycle["flow"]](cycle["options"])
    sys.settrace(None)
    resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    Path(cycle["answer"]).write_text(json.dumps(answer | {"sites": tracer.counts}), encoding="utf-8")


def _fork(cycle: dict[str, Any]) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        _child(cycle)
    except BaseException:  # noqa: BLE001 - a forked child must never return into the loop of its parent
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def serve() -> None:
    """Answer every line of standard input with exit codes: 0, or minus the number of the signal that ended the process."""
    prepare()
    if not _on_a_server():
        call_tasks_directly()
    print("ready", flush=True)
    for line in sys.stdin:
        pids = [_fork(cycle) for cycle in json.loads(line)]
        print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]), flush=True)


if __name__ == "__main__":
    serve()
