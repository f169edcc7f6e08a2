"""python -m tests.soak: sessions of 200 and of 20 symbols for an hour and a third of market time, and whether their bounds hold.

The exchange is the emulator, in a process of its own, with a clock that runs --factor times as fast as ours; Prefect's server is
a real one. All bounds are in seconds of ours. Exit code 1 where a bound does not hold.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.table import Table

from deployments.processes import ProcessId, end
from tests.emulator.live_book import MINUTE_MS, live_symbols, unified
from tests.emulator.server import Pace
from tests.monitor_play import Desk
from tests.prefect_server import api_client, start_server
from tests.serve_fixture import CHECKOUT
from tests.soak.measuring import Line, bars_line, latencies, latency_lines, process_lines, task_lines
from tests.soak.watching import Observer

HISTORY_MS = 120 * MINUTE_MS
_START_LIMIT_S = 120.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Soak, print a table a part, and say whether all bounds held."""
    options = _options(arguments)
    console = Console(width=None if sys.stdout.isatty() else 150)
    folder = Path(tempfile.mkdtemp(prefix="candlewick-soak-"))
    held = True
    try:
        with prefect_server(folder / "server") as url:
            for symbols, minutes, bound_s, share in (
                (options.symbols, options.minutes, 10.0, 1.0),
                (options.few, options.few_minutes, 1.0, 0.99),
            ):
                if not symbols or not minutes:
                    continue
                lines = soak(folder / f"desk-{symbols}", url, symbols, minutes, options.factor, bound_s, share)
                show(console, f"{symbols} symbols, 1m, {minutes} minutes of the market, {options.factor:g} times as fast", lines)
                held &= all(line.holds is not False for line in lines)
    finally:
        if not options.keep:
            shutil.rmtree(folder, ignore_errors=True)
    console.print("all bounds hold" if held else "[bold red]a bound does not hold")
    return 0 if held else 1


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.soak", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--factor", type=float, default=8.0, help="how many times as fast as ours the market's clock runs [8]")
    parser.add_argument("--symbols", type=int, default=200, help="symbols of the first part; 0: leave it out [200]")
    parser.add_argument("--minutes", type=int, default=60, help="minutes of the market of the first part [60]")
    parser.add_argument("--few", type=int, default=20, help="symbols of the second part; 0: leave it out [20]")
    parser.add_argument("--few-minutes", type=int, default=20, help="minutes of the market of the second part [20]")
    parser.add_argument("--keep", action="store_true", help="keep the working directories")
    return parser.parse_args(arguments)


def soak(
    directory: Path, prefect_url: str, symbols: int, minutes: int, factor: float, bound_s: float, share: float
) -> list[Line]:
    """One part: a session that trades ``symbols`` for ``minutes`` of the market after it has caught up with its history."""
    names = live_symbols(symbols)
    # Within what the clocks may differ by, both at the beginning and at the end.
    start_ms = round(time.time() * 1000 - minutes * MINUTE_MS / 2 * (1 - 1 / factor)) // MINUTE_MS * MINUTE_MS
    with live_exchange(symbols, start_ms) as exchange_url:
        # In real time as a user has it; under a faster clock what would be seen once a second is to be seen more often.
        faster = {} if factor == 1 else {"poll_interval_s": 0.1, "clock_interval_s": 0.1, "heartbeat_s": 2}
        settings = {"monitoring": {"poll_interval_s": 1, "clock_interval_s": 10, "heartbeat_s": 5} | faster}
        desk = Desk(directory, exchange_url, tuple(map(unified, names)), start_ms - HISTORY_MS, prefect_url, settings)
        tasks_before = _count(prefect_url, "task_runs")
        process = desk.start()
        with Observer(process.pid, directory / "data" / "ledger.duckdb") as observer:
            try:
                desk.wait_until(start_ms - MINUTE_MS, _START_LIMIT_S)
                pace = accelerate(exchange_url, factor)
                first_ms = -(-pace.start_ms // MINUTE_MS) * MINUTE_MS
                last_ms = first_ms + (minutes - 1) * MINUTE_MS
                time.sleep(max(0.0, pace.at_s(last_ms + MINUTE_MS) - time.time()))
                desk.wait_until(last_ms, 60 + 10 * bound_s)
                time.sleep(6)  # for its last heartbeat
                status = desk.status()
            finally:
                code = desk.stop() if process.poll() is None else process.returncode
    found = latencies(desk, pace, observer, first_ms, last_ms)
    own = [(name, status.get(key)) for name, key in (("p50", "lag_p50_s"), ("p99", "lag_p99_s"))]
    return [
        *bars_line(desk, last_ms),
        *latency_lines(found, _bound_text(bound_s, share), found.at(share) < bound_s, own),
        *process_lines(observer, pace, first_ms, last_ms),
        *task_lines(_count(prefect_url, "task_runs") - tasks_before, 1, minutes, symbols),
        Line("errors and restarts that it tells", f"{status['errors']} and {status['restarts']}", "none", status["errors"] == 0),
        Line("exit code of the session", str(code), "0", code == 0),
    ]


def _bound_text(bound_s: float, share: float) -> str:
    return f"every bar < {bound_s:g} s" if share == 1 else f"p{share * 100:g} < {bound_s:g} s"


def show(console: Console, title: str, lines: Sequence[Line]) -> None:
    """A part's figures as a table."""
    table = Table("Measured", "Value", "Bound", "", title=title, title_justify="left")
    for line in lines:
        verdict = "" if line.holds is None else "[green]holds" if line.holds else "[bold red]DOES NOT HOLD"
        table.add_row(line.what, line.value, line.bound, verdict)
    console.print(table)


@contextmanager
def prefect_server(folder: Path) -> Iterator[str]:
    """A Prefect server on loopback, and its API's address."""
    folder.mkdir(parents=True)
    url = start_server(folder)
    server = json.loads((folder / "server.json").read_text(encoding="utf-8"))
    try:
        yield url
    finally:
        end([ProcessId(server["pid"], server["started"])], signal.SIGTERM, 8.0)


@contextmanager
def live_exchange(symbols: int, start_ms: int) -> Iterator[str]:
    """The emulator as a process, and its address."""
    command = [sys.executable, "-m", "tests.emulator", "--live", str(symbols), "--start-ms", str(start_ms)]
    with subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True, env=dict(os.environ)) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def control(exchange_url: str, command: dict[str, object]) -> dict[str, object]:
    """Tell the emulator something; its state afterwards."""
    request = urllib.request.Request(f"{exchange_url}/_control", data=json.dumps(command).encode())
    with urllib.request.urlopen(request, timeout=10) as answer:
        return dict(json.load(answer))


def accelerate(exchange_url: str, factor: float) -> Pace:
    """Let the exchange's clock run ``factor`` times as fast from what it shows now on."""
    now_ms = control(exchange_url, {})["clock_ms"]
    pace = control(exchange_url, {"accelerate": {"factor": factor, "start_ms": now_ms}})["pace"]
    assert isinstance(pace, dict)
    return Pace(**pace)


def _count(prefect_url: str, what: str) -> int:
    with api_client(prefect_url) as client:
        return int(client.post(f"/{what}/count", json={}).raise_for_status().json())


if __name__ == "__main__":
    raise SystemExit(main())
