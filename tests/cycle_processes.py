"""Cycles run in processes of their own (fixture `cycles`), and what a ledger holds apart from bookkeeping."""

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from candlewick.store.database import Database
from candlewick.store.ledger import Ledger
from candlewick.store.queries import EXPORTED
from candlewick.store.tables import TABLES

ROOT = Path(__file__).resolve().parents[1]
BARE_ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "CANDLEWICK_"))}


@dataclass(frozen=True, slots=True)
class Cycle:
    """One cycle to run. ``options`` are the flow's parameters; ``kill`` is [site, occurrence, delay_us].

    ``largest_file_bytes`` above 0: no file of the cycle may grow beyond that. ``flow`` may be
    ``backfill`` or ``sync`` instead of a cycle.
    """

    directory: Path
    options: Mapping[str, Any]
    kill: tuple[str, int, int] | None = None
    trace: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)
    largest_file_bytes: int = 0
    flow: str = "paper_trading"


@dataclass(frozen=True, slots=True)
class Outcome:
    """``code`` 0 or minus a signal; ``status`` None where the process did not come to its end; ``sites`` by `file:line`."""

    code: int
    status: str | None
    said: str
    sites: Mapping[str, int]


class CycleProcesses:
    """The program tests/crash_child.py, as long as the tests of a module need it."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._folder = folder
        self._numbers = itertools.count()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash_child"],
            cwd=ROOT,
            env=BARE_ENVIRONMENT | {"HOME": str(folder), "PREFECT_LOGGING_LEVEL": "CRITICAL", "DO_NOT_TRACK": "1"} | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def run(self, *cycles: Cycle) -> list[Outcome]:
        """Run the cycles, all at once, and wait for all of them."""
        asked = [self._asked(cycle) for cycle in cycles]
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        codes = json.loads(self._process.stdout.readline())
        return [_outcome(code, Path(one["answer"])) for code, one in zip(codes, asked, strict=True)]

    def finish(self, cycle: Cycle) -> Outcome:
        """Run one cycle that has to come to a good end."""
        (outcome,) = self.run(cycle)
        assert (outcome.code, outcome.status) == (0, "success"), outcome.said
        return outcome

    def _asked(self, cycle: Cycle) -> dict[str, Any]:
        cycle.directory.mkdir(parents=True, exist_ok=True)
        return {
            "directory": str(cycle.directory),
            "options": dict(cycle.options),
            "kill": cycle.kill,
            "trace": cycle.trace,
            "environment": dict(cycle.environment),
            "largest_file_bytes": cycle.largest_file_bytes,
            "flow": cycle.flow,
            "answer": str(self._folder / f"answer-{next(self._numbers)}.json"),
        }

    def end(self) -> None:
        """Let the program come to its end."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)


def _outcome(code: int, answer: Path) -> Outcome:
    if not answer.exists():
        return Outcome(code, None, "", {})
    told = json.loads(answer.read_text(encoding="utf-8"))
    return Outcome(code, told["status"], told.get("trace") or told["said"], told["sites"])


@pytest.fixture(scope="session")
def cycles(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CycleProcesses]:
    """Cycles without a Prefect server; the program is started once for all tests of a process."""
    no_server = {"PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false"}  # nor a temporary one, in case something asks for it
    processes = CycleProcesses(tmp_path_factory.mktemp("cycles"), no_server)
    yield processes
    processes.end()


@pytest.fixture(scope="session")
def server_cycles(tmp_path_factory: pytest.TempPathFactory, prefect_server: str) -> Iterator[CycleProcesses]:
    """Cycles on a real Prefect server."""
    folder = tmp_path_factory.mktemp("server-cycles")
    processes = CycleProcesses(folder, {"PREFECT_API_URL": prefect_server, "PREFECT_HOME": str(folder / "prefect")})
    yield processes
    processes.end()


def ledger_in(directory: Path) -> Ledger:
    """The ledger of a working directory."""
    return Ledger(Database(str(directory / "data" / "ledger.duckdb"), 60))


def content(directory: Path, account: str) -> dict[str, pl.DataFrame]:
    """All an account's rows by table, without the columns and the table that tell of runs; and the findings on candles.

    Of the checkpoint the version is left out (it counts the runs), and the opens that a cycle happened to see.
    """
    ledger = ledger_in(directory)
    ledger.check(account)
    rows = ledger.export_rows(account)
    kept = {name: rows[name].select(list(TABLES[name].content)) for name in EXPORTED if name != "runs"}
    loaded = ledger.load_account(account)
    assert loaded is not None
    assert loaded.checkpoint is not None
    saved = loaded.checkpoint
    last = {symbol: told["last_bar_ms"] for symbol, told in saved.seen.items()}  # type: ignore[index,call-overload]
    assert saved.state is not None
    state = json.dumps([saved.state.to_document(), last, dict(saved.candle_digests), saved.watermark_ms])
    kept["checkpoints"] = pl.DataFrame({"state": [state]})
    with ledger.database.read() as connection:
        columns = ", ".join(TABLES["quality"].content)
        query = f"SELECT {columns} FROM quality ORDER BY finding_id"
        kept["quality"] = pl.DataFrame(connection.sql(query).to_arrow_table())
    return kept


def assert_same(found: Mapping[str, pl.DataFrame], wanted: Mapping[str, pl.DataFrame], without: Sequence[str] = ()) -> None:
    """The same rows in every table; the first one that differs is shown."""
    assert found.keys() == wanted.keys()
    for name, rows in wanted.items():
        if name in without or found[name].equals(rows):
            continue
        pairs = itertools.zip_longest(found[name].to_dicts(), rows.to_dicts())
        first = next((pair for pair in pairs if pair[0] != pair[1]), (None, None))
        pytest.fail(f"{name}: {found[name].height} rows, wanted {rows.height}; found {first[0]}, wanted {first[1]}")
