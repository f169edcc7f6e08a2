"""`make bench`: measure, print against the bounds, exit 1 where one is exceeded.

`--write` puts it into docs/benchmarks.md; `--only=paper`, `--only=backtests` and `--only=data` measure one part (and do not
write).
"""

import json
import os
import platform
import signal
import socket
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

from candlewick.serving import answers
from tests.bench import data, download, race
from tests.bench.bounds import Bound, Measurements, held_against

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "benchmarks.md"
PARTS = ("paper", "backtests", "data")


BOUNDS = (
    Bound(
        "cycle_of_100",
        "cycle_s",
        "cycle of 100 symbols, one new bar each, candles at hand: flow start to committed ledger",
        5.0,
        "s",
    ),
    Bound("cycle_of_100", "outside_prefect_s", "the same with tasks as plain functions: the part outside Prefect", 1.0, "s"),
    Bound("cycle_of_100", "with_fetch_s", "the same when it must fetch and store the 100 bars first", None, "s"),
    Bound("catch_up", "engine_and_ledger_s", "catch-up of a year of 1h bars, 10 symbols: engine and ledger", 1.0, "s"),
    Bound("catch_up", "engine_s", "of which the engine", None, "s"),
    Bound("catch_up", "rows_s", "of which making rows", None, "s"),
    Bound("catch_up", "commit_s", "of which the transaction", None, "s"),
    Bound("catch_up", "fills", "fills of that year", None, ""),
    Bound("task_runs", "task_runs_1_bar", "task runs of a cycle of 1 bar, 3 symbols", None, ""),
    Bound("task_runs", "task_runs_2000_bars", "task runs of a cycle of 2,000 bars, 3 symbols", None, ""),
    Bound(
        "flow_overhead",
        "added_s",
        "a backtest of a year of minutes as a command, report and store included, less an empty flow's run",
        1.5,
        "s",
    ),
    Bound("flow_overhead", "empty_s", "of which an empty flow's run would be", None, "s"),
    Bound("cycle_of_100", "peak_mb", "peak memory, 100 symbols", 600.0, "MB"),
    Bound("catch_up", "peak_mb", "peak memory, a year of 10 symbols", 600.0, "MB"),
    Bound("task_runs", "peak_mb", "peak memory, 3 symbols through the flow", 600.0, "MB"),
)


def main() -> int:
    """Run every measurement in a fresh process: the paper cycles against one Prefect server, the race of backtests without."""
    only = next((word.partition("=")[2] for word in sys.argv[1:] if word.startswith("--only=")), "")
    if only not in ("", *PARTS):
        raise SystemExit(f"--only is one of {', '.join(PARTS)}; it was {only!r}")
    tables, wrong = [], []
    if only in ("", "paper"):
        table, exceeded = report(measure_paper())
        tables += ["## Paper trading", "", *table, ""]
        wrong += exceeded
    if only in ("", "data"):
        measured = measure_data()
        asked = [bound for bound in download.BOUNDS if bound.figure in measured["download"]]  # freqtrade may not be here
        table, exceeded = held_against([*asked, *data.BOUNDS], measured)
        tables += ["## Market data", "", *table, ""]
        wrong += exceeded
    if only in ("", "backtests"):
        table, exceeded = race.report(race_backtests())
        tables += ["## Backtests", "", *table, ""]
        wrong += exceeded
    print("\n".join(tables))
    print("\n".join(f"EXCEEDED: {text}" for text in wrong))
    if "--write" in sys.argv and not only:
        write(tables)
    return 1 if wrong else 0


def measure_paper() -> Measurements:
    """The paper cycles, and a backtest through its flow."""
    with tempfile.TemporaryDirectory(prefix="candlewick-bench-") as home, tempfile.TemporaryDirectory() as folder:
        environment = {
            **os.environ, "PREFECT_HOME": home, "DO_NOT_TRACK": "1", "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_LOGGING_LEVEL": "CRITICAL", "PYTHONPATH": str(ROOT),
        }  # fmt: skip
        server, environment["PREFECT_API_URL"] = start_server(environment)
        try:
            names = dict.fromkeys(bound.measurement for bound in BOUNDS)
            commands = {name: ["tests.bench.paper", name] for name in names} | {
                "flow_overhead": ["tests.bench.flow_overhead", folder]
            }
            return {name: measure(name, commands[name], environment) for name in names}
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait(30)


def measure_data() -> Measurements:
    """The lake, its status, its checks and its exports; no server is needed."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    names = dict.fromkeys(bound.measurement for bound in data.BOUNDS)
    with tempfile.TemporaryDirectory(prefix="candlewick-download-") as folder:
        downloaded = {"download": measure("download", ["tests.bench.download", folder], environment)}
    return downloaded | {name: measure(name, ["tests.bench.data", name], environment) for name in names}


def race_backtests() -> race.Measured:
    """The race, on markets made for it."""
    with tempfile.TemporaryDirectory(prefix="candlewick-race-") as folder:
        return race.run({**os.environ, "PYTHONPATH": str(ROOT)}, Path(folder))


def start_server(environment: dict[str, str]) -> tuple[subprocess.Popen[bytes], str]:
    """A Prefect server on a free loopback port; its process and its API's address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "prefect", "server", "start", "--port", str(port)]
    server = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    url = f"http://127.0.0.1:{port}/api"
    for _ in range(600):
        if answers(url):
            return server, url
        time.sleep(0.2)
    os.killpg(server.pid, signal.SIGKILL)
    raise SystemExit("Prefect's server did not start within two minutes")


def measure(name: str, command: list[str], environment: dict[str, str]) -> dict[str, float]:
    """One measurement in a process of its own."""
    print(f"· measuring {name} …", file=sys.stderr, flush=True)
    done = subprocess.run(
        [sys.executable, "-m", *command],
        env=environment,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        timeout=1200,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"measurement {name} failed: see above")
    figures: dict[str, float] = json.loads(done.stdout.decode().strip().splitlines()[-1])
    return figures


def report(measured: Measurements) -> tuple[list[str], list[str]]:
    """The table's lines, and the texts of the bounds that are exceeded."""
    table, exceeded = held_against(BOUNDS, measured)
    runs = measured["task_runs"]
    if runs["task_runs_1_bar"] != runs["task_runs_2000_bars"]:
        exceeded.append("task runs per cycle grow with bars")
    return table, exceeded


def write(tables: list[str]) -> None:
    """docs/benchmarks.md with the machine and the versions."""
    ours = ", ".join(f"{name} {version(name)}" for name in ("prefect", "duckdb", "polars", "numba", "numpy"))
    theirs = ", ".join(f"{name} {version(name)}" for name in ("raptorbt", "vectorbt", "backtesting"))
    head = [
        "# Benchmarks",
        "",
        f"Written by `make bench BENCH=--write`: medians of {race.ROUNDS} runs, each measurement in a fresh process. Backtests",
        "take turns: one run of each engine, then the next of each, on the same made-up candles; trades and final equities",
        "are compared first. *Bound* is a hand-written loop that fuses exactly this strategy with exactly these fills",
        "(`tests/bench/references.py`); beyond *reach* `make bench` fails, *wish* is what is aimed at next.",
        f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()}; {ours}; beside {theirs}.",
        "",
    ]
    DOCUMENT.write_text("\n".join([*head, *tables]), encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
