"""`make serve`: a Prefect server, a work pool, a worker and all deployments on this machine, until Ctrl-C.

    python -m deployments.serve        # in the folder of the checkout; settings: serve.port, serve.work_pool, ...

Exit codes: 0 after Ctrl-C or SIGTERM, 1 when it cannot start or a process of it dies (another serve of this checkout
that already runs is one such reason), 2 for wrong settings.
"""

import argparse
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import NoReturn

import httpx
from rich.console import Console
from rich.table import Table

from candlewick.errors import CandlewickError, UsageError
from candlewick.serving import Serving, serving_file, write_serving
from candlewick.settings import ServeSettings, load_settings
from deployments.dataset_plans import TAG, plan_datasets
from deployments.prefect_environment import api_url, prefect_environment, prefect_home, ui_url
from deployments.prefect_yaml import PlannedDeployment, planned_deployments
from deployments.processes import Child, ProcessId, adopt_orphans, descendants, end, start_child
from deployments.serve_state import NamedProcess, ServeError, clear_leftovers, only_one, remember, state_directory
from deployments.server_api import DeploymentState, ServerApi

WORKER_NAME = "make-serve"
START_LIMIT_S = 180.0
FLOW_RUN_MOMENT_S = 10.0
SERVER_MOMENT_S = 8.0
_POLL_S = 0.25


class Stopped(Exception):
    """Ctrl-C or SIGTERM came while serve was starting."""


@dataclass(slots=True)
class Stop:
    """How often we were asked to stop: once is a request, twice is haste."""

    console: Console
    requests: int = 0

    def listen(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._count)

    def _count(self, number: int, frame: FrameType | None) -> None:
        self.requests += 1
        if number == signal.SIGHUP:
            self.console.quiet = True  # the terminal is gone: writing to it would fail


@dataclass(slots=True)
class Serve:
    """One run of `make serve`: its processes in the order of their start."""

    directory: Path
    settings: ServeSettings
    console: Console
    stop: Stop
    datasets: tuple[str, ...] = ()
    """Names of the datasets' deployments."""
    children: list[Child] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)

    def start(self, name: str, *command: str) -> Child:
        child = start_child(name, command, self.environment, self.directory, state_directory(self.directory) / f"{name}.log")
        self.children.append(child)
        remember(self.directory, [NamedProcess(one.name, one.identity.pid, one.identity.started) for one in self.children])
        return child

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        """Raises Stopped, or ServeError when a process dies or the time is up."""
        deadline = time.monotonic() + START_LIMIT_S
        while not condition():
            self.check()
            if time.monotonic() > deadline:
                raise ServeError(f"{what}: not after {START_LIMIT_S:g} s; see the logs in {state_directory(self.directory)}")
            time.sleep(_POLL_S)
        self.check()

    def check(self) -> None:
        if self.stop.requests:
            raise Stopped
        for child in self.children:
            code = child.process.poll()
            if code is not None:
                raise ServeError(_died(child, code))

    def run_to_end(self, name: str, *command: str) -> None:
        """A command that ends by itself. Raises ServeError when it fails, with its last words."""
        child = self.start(name, *command)
        others = [one for one in self.children if one is not child]
        while (code := child.process.poll()) is None:
            if self.stop.requests:
                raise Stopped
            for other in others:
                if (other_code := other.process.poll()) is not None:
                    raise ServeError(_died(other, other_code))
            time.sleep(_POLL_S)
        self.children.remove(child)
        if code != 0:
            raise ServeError(_died(child, code))


def _died(child: Child, code: int) -> str:
    cause = f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
    lines = child.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-12:]
    return f"{child.name} ended ({cause}); its log is {child.log}" + "".join(f"\n    {line}" for line in lines)


@dataclass(slots=True)
class Step:
    """Shows what is being waited for, and how long it took. Used as a context manager."""

    console: Console
    text: str
    began: float = 0.0

    def __enter__(self) -> "Step":
        self.began = time.monotonic()
        self.console.print(f"  {self.text} ...", end="" if self.console.is_terminal else "\n", highlight=False)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        took_s = time.monotonic() - self.began
        if kind is None:
            self.console.print(
                f"  done in {took_s:.1f} s" if not self.console.is_terminal else f" {took_s:.1f} s", highlight=False
            )
        elif self.console.is_terminal:
            self.console.print()


def run(serve: Serve) -> NoReturn:
    """Start everything, say so, and watch until asked to stop. Raises ServeError, Stopped."""
    planned = planned_deployments(serve.directory)
    _check_work_pools(planned, serve.settings)
    for left in clear_leftovers(serve.directory):
        serve.console.print(f"  ended {left.name} (process {left.pid}), left behind by a serve that was killed", highlight=False)
    _check_port(serve.settings.port)
    serve.environment = prefect_environment(serve.directory, serve.settings.port)
    prefect_home(serve.directory).mkdir(parents=True, exist_ok=True)
    api = ServerApi(api_url(serve.settings.port), serve.environment.get("PREFECT_SERVER_API_AUTH_STRING"))
    states = _start(serve, api, [*(one.name for one in planned), *serve.datasets])
    now = datetime.now(UTC)
    port = serve.settings.port
    write_serving(serve.directory, Serving(api_url(port), ui_url(port), os.getpid(), now.isoformat(timespec="seconds")))
    _announce(serve, states)
    while True:
        serve.check()
        time.sleep(_POLL_S)


def _start(serve: Serve, api: ServerApi, names: Sequence[str]) -> list[DeploymentState]:
    prefect = [sys.executable, "-m", "prefect"]
    pool = serve.settings.work_pool
    with Step(serve.console, f"Prefect server on 127.0.0.1:{serve.settings.port}"):
        serve.start("server", *prefect, "server", "start", "--host", "127.0.0.1", "--port", str(serve.settings.port))
        serve.wait_until(api.is_healthy, "the Prefect server's health")
    with Step(serve.console, f"work pool {pool}, blocks"):
        serve.run_to_end("register", sys.executable, "-m", "deployments.register")
    abandoned = api.crash_abandoned_runs(pool)
    if abandoned:
        serve.console.print(f"  {abandoned} flow run(s) that an earlier stop left unfinished are marked crashed", highlight=False)
    began = datetime.now(UTC)
    limit = str(serve.settings.worker_limit)
    with Step(serve.console, "deployments of prefect.yaml"):
        serve.start(
            "worker", *prefect, "worker", "start", "--pool", pool, "--type", "process", "--name", WORKER_NAME, "--limit", limit
        )
        serve.run_to_end("deploy", *prefect, "--no-prompt", "deploy", "--all")
    if serve.datasets or api.has_deployments(TAG):
        with Step(serve.console, "deployments of the datasets"):
            serve.run_to_end("datasets", sys.executable, "-m", "deployments.datasets", "apply")
    with Step(serve.console, "automations"):
        serve.run_to_end("automations", sys.executable, "-m", "deployments.automations")
    if not serve.settings.schedules:
        for state in api.deployments(names):
            api.pause_schedules(state)
    with Step(serve.console, "worker online, deployments ready, next runs scheduled"):
        serve.wait_until(lambda: api.worker_is_online(pool, WORKER_NAME, began), f"the worker in work pool {pool}")
        serve.wait_until(lambda: _are_ready(api.deployments(names), names), "the deployments' readiness")
    return api.deployments(names)


def _are_ready(states: Sequence[DeploymentState], names: Sequence[str]) -> bool:
    # A schedule can look active and yet create no runs: a next run is the proof.
    return len(states) == len(names) and all(
        state.is_ready and (state.next_run_at is not None or not state.is_scheduled) for state in states
    )


def _announce(serve: Serve, states: Sequence[DeploymentState]) -> None:
    table = Table("deployment", "schedule", "next run (UTC)", box=None, pad_edge=False)
    for state in states:
        next_run = "paused" if state.next_run_at is None else state.next_run_at.strftime("%Y-%m-%d %H:%M")
        table.add_row(state.full_name, state.schedule, next_run)
    serve.console.print()
    serve.console.print(table)
    if not serve.settings.schedules:
        serve.console.print(
            "Schedules are paused because serve.schedules is off; the UI can start single ones.", highlight=False, soft_wrap=True
        )
    example = next((state for state in states if state.name == "paper-4h"), states[0]).full_name
    prefect = Path(sys.executable).parent / "prefect"
    if prefect.is_relative_to(serve.directory):
        prefect = prefect.relative_to(serve.directory)
    lines = (
        "",
        f"Prefect is at {ui_url(serve.settings.port)}",
        f"Run one now:  PREFECT_API_URL={api_url(serve.settings.port)} {prefect} deployment run {example}",
        f"Logs: {state_directory(serve.directory).relative_to(serve.directory)}   Database: {prefect_home(serve.directory)}",
        "Ctrl-C stops all of it.",
    )
    for line in lines:
        serve.console.print(line, highlight=False, soft_wrap=True, markup=False)


def _check_work_pools(planned: Sequence[PlannedDeployment], settings: ServeSettings) -> None:
    for one in planned:
        if one.work_pool != settings.work_pool:
            raise UsageError(
                f"deployment {one.name} in prefect.yaml uses work pool {one.work_pool!r}, but the worker serves"
                f" {settings.work_pool!r} (serve.work_pool): its runs would wait for ever. Make the two the same"
            )


def _check_port(port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as problem:
            raise ServeError(
                f"port {port} on 127.0.0.1 cannot be used ({problem.strerror}): stop the program that has it, or choose another"
                f" with CANDLEWICK_SERVE__PORT={port + 1 if port < 65535 else port - 1} (serve.port in candlewick.yaml)"
            ) from problem


def stop_all(serve: Serve) -> None:
    """End the worker (it lets its flow runs go first), then the rest, then the server, which the others talk to until then."""
    serving_file(serve.directory).unlink(missing_ok=True)
    server = [child for child in serve.children if child.name == "server"]
    others = [child for child in serve.children if child.name != "server"]
    _stop_flow_runs(serve)
    # Only now the worker: it kills without a word what still runs below it.
    end([child.identity for child in others], signal.SIGINT, _moment(serve, SERVER_MOMENT_S))
    end([child.identity for child in server], signal.SIGTERM, _moment(serve, SERVER_MOMENT_S))
    # What lost its parent on the way.
    end(descendants(os.getpid()), signal.SIGTERM, 2.0)
    for child in serve.children:
        child.process.wait()
    remember(serve.directory, [])


def _moment(serve: Serve, moment_s: float) -> float:
    return 0.0 if serve.stop.requests > 1 else moment_s


def _stop_flow_runs(serve: Serve) -> None:
    """Let running flow runs end by themselves for a moment, then ask them to: they report that they crashed.

    They are whatever runs below this process and is no child of it, or was adopted because its worker died.
    """
    children = {child.identity.pid for child in serve.children}

    def flow_runs() -> list[ProcessId]:
        return [one for one in descendants(os.getpid()) if one.pid not in children]

    if not flow_runs():
        return
    serve.console.print(f"  giving running flow runs {FLOW_RUN_MOMENT_S:g} s to end (Ctrl-C again: none)", highlight=False)
    deadline = time.monotonic() + FLOW_RUN_MOMENT_S
    while flow_runs() and time.monotonic() < deadline and serve.stop.requests < 2:
        time.sleep(_POLL_S)
    end(flow_runs(), signal.SIGTERM, _moment(serve, SERVER_MOMENT_S))


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until asked to stop; returns the exit code."""
    argparse.ArgumentParser(
        prog="python -m deployments.serve", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args(arguments)
    console = Console()
    directory = Path.cwd()
    try:
        settings = load_settings(directory=directory)
        datasets = tuple(one.name for one in plan_datasets(settings))
        serve = Serve(directory, settings.serve, console, Stop(console), datasets)
        serve.stop.listen()
        with only_one(directory):
            return _run_and_stop(serve)
    except CandlewickError as problem:
        return _say_error(problem)


def _say_error(problem: CandlewickError) -> int:
    Console(stderr=True).print(str(problem), highlight=False, markup=False, soft_wrap=True)
    return problem.exit_code


def _run_and_stop(serve: Serve) -> int:
    adopt_orphans()
    began = time.monotonic()
    serve.console.print("Starting Candlewick's Prefect (10-60 s):", highlight=False)
    try:
        run(serve)
    except Stopped:
        began = time.monotonic()
        serve.console.print("Stopping ...", highlight=False)
        return 0
    except httpx.HTTPError as problem:
        return _say_error(ServeError(f"the Prefect server did not answer: {problem!r}; see {state_directory(serve.directory)}"))
    except OSError as problem:
        return _say_error(ServeError(f"{problem.strerror}: {problem.filename or state_directory(serve.directory)}"))
    except CandlewickError as problem:
        return _say_error(problem)
    finally:
        stop_all(serve)
        serve.console.print(f"Stopped in {time.monotonic() - began:.1f} s.", highlight=False)


if __name__ == "__main__":
    raise SystemExit(main())
