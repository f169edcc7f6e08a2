"""Desks whose sessions run as processes, against an exchange with an accelerated clock: started, killed, followed by the next,
and then asked what their ledger holds.

Everything here is what any user can do from outside: commands, settings in candlewick.yaml, the ledger, the Redis stream.
"""

import asyncio
import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
import yaml

from candlewick.comparing import Difference, compare_rows
from candlewick.json_text import Json
from candlewick.monitoring.books import account_names
from candlewick.monitoring.rows import OutboxEvent
from candlewick.settings import load_settings
from candlewick.store.database import Database
from candlewick.store.ledger import Ledger
from candlewick.store.sessions import SessionStore
from candlewick.store.tables import TABLES
from tests.emulator.live_book import MINUTE_MS
from tests.serve_fixture import CHECKOUT, wait_for

if TYPE_CHECKING:
    from redis import Redis

NAME = "desk"
# What bars have done to the ledger: the column with the time, and whether that is a bar's close (of the others it is its open).
COMPARED = {
    "signals": ("decided_at", True),
    "fills": ("bar_opened_at", False),
    "postings": ("market_at", False),
    "equity": ("at", True),
}
_MOST_EVENTS = 10_000_000


@dataclass(slots=True)
class Desk:
    """A working directory with a candlewick.yaml, and at most one session at a time that this program started.

    ``since_ms``: the first bar of its accounts. ``settings`` are laid over those of ``base_settings``, section by section;
    ``options`` follow `start` on the command line.
    """

    directory: Path
    exchange_url: str
    symbols: tuple[str, ...]
    since_ms: int
    prefect_url: str
    settings: Mapping[str, Mapping[str, Json]] = field(default_factory=dict)
    options: tuple[str, ...] = ("--strategy", "sma_cross", "--param", "fast=3", "--param", "slow=8")
    process: subprocess.Popen[bytes] | None = None
    sessions: int = 0

    def __post_init__(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        document = {section: dict(keys) for section, keys in base_settings(self.exchange_url).items()}
        for section, keys in self.settings.items():
            document[section] = document.get(section, {}) | dict(keys)
        (self.directory / "candlewick.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")

    @property
    def accounts(self) -> dict[str, str]:
        """Accounts by symbol."""
        return account_names(NAME, self.symbols)

    @property
    def ledger(self) -> Ledger:
        """The ledger in the working directory."""
        return Ledger(Database(str(self.directory / "data" / "ledger.duckdb"), 60))

    @property
    def store(self) -> SessionStore:
        """What sessions keep beside it."""
        return SessionStore(self.ledger.database)

    def environment(self) -> dict[str, str]:
        """Nothing about Prefect or Candlewick from whoever runs the tests, but the server."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "CANDLEWICK_"))}
        return kept | {
            "PREFECT_API_URL": self.prefect_url,
            "PREFECT_HOME": str(self.directory / "prefect"),
            "PREFECT_LOGGING_LEVEL": "ERROR",
            "DO_NOT_TRACK": "1",
            "PYTHONPATH": os.pathsep.join([str(CHECKOUT), str(self.directory)]),
        }

    def start(self, duration: str = "6h") -> subprocess.Popen[bytes]:
        """`python -m flows.monitoring start`; what it says goes to session-N.log."""
        self.sessions += 1
        command = [sys.executable, "-m", "flows.monitoring", "start", "--account", NAME, "--market", "binance"]
        command += ["--symbols", ",".join(self.symbols), "--timeframe", "1m", "--duration", duration]
        command += ["--since", f"{datetime.fromtimestamp(self.since_ms / 1000, UTC):%Y-%m-%dT%H:%M}", *self.options]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, cwd=self.directory, env=self.environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        return self.process

    @property
    def log(self) -> Path:
        """What the newest session says."""
        return self.directory / f"session-{self.sessions}.log"

    def said(self) -> str:
        """The end of it."""
        return self.log.read_text(encoding="utf-8", errors="replace")[-4_000:]

    def kill(self) -> None:
        """`kill -9` of the session and whatever it started."""
        if self.process is not None:
            if self.process.poll() is None:
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def ask(self, *command: str) -> tuple[int, str]:
        """Another command of `flows.monitoring`, from another process: its exit code, and what it prints."""
        done = subprocess.run(
            [sys.executable, "-m", "flows.monitoring", *command, "--account", NAME], cwd=self.directory, env=self.environment(),
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout or done.stderr

    def stop(self, limit_s: float = 60) -> int:
        """Ask the session to stop, and see it end: its exit code."""
        assert self.process is not None, "no session runs"
        self.ask("stop", "--wait", "0")
        code = self.process.wait(limit_s)
        self.process = None
        return code

    def status(self) -> dict[str, Any]:
        """What the session said of itself last, read from the store as `status --json` does."""
        row = self.store.latest(NAME)
        return {} if row is None else dict(row.document)

    def watermarks(self) -> dict[str, int]:
        """Open time of the last bar of each account, in ms."""
        listed = self.ledger.list_accounts()
        if listed.is_empty():
            return {}
        known = listed.filter(pl.col("watermark_at").is_not_null())
        return dict(zip(known["account"], known["watermark_at"].dt.epoch("ms"), strict=True))

    def has_reached(self, opened_ms: int) -> bool:
        """Whether every account has processed the bar that opened then."""
        found = self.watermarks()
        return all(found.get(account, -1) >= opened_ms for account in self.accounts.values())

    def wait_until(self, opened_ms: int, limit_s: float) -> None:
        """Wait until it has. A session that ends meanwhile fails the test."""

        def done() -> bool:
            assert self.process is None or self.process.poll() is None, f"the session ended: {self.said()}"
            return self.has_reached(opened_ms)

        wait_for(done, limit_s, lambda: f"accounts at {self.watermarks()}, wanted {opened_ms}; {self.said()}")

    def rows(self, account: str, until_ms: int) -> dict[str, pl.DataFrame]:
        """The account's rows by table as far as they follow from bars that opened by ``until_ms``; content columns only."""
        found = self.ledger.export_rows(account)
        ends = pl.lit(until_ms + MINUTE_MS).cast(pl.Datetime("ms", "UTC"))
        rows = {}
        for name, (column, is_at_close) in COMPARED.items():
            kept = pl.col(column) <= ends if is_at_close else pl.col(column) < ends
            rows[name] = found[name].select(list(TABLES[name].content)).filter(kept)
        return rows


def base_settings(exchange_url: str) -> dict[str, dict[str, Json]]:
    """Settings of a desk that is quick, and whose decisions depend on its bars alone, not on when they are seen."""
    return {
        "exchanges": {
            "binance": {
                "api_url": exchange_url,
                "rate_limit": False,
                "timeout_s": 3,
                "max_attempts": 3,
                "retry_base_s": 0.05,
                "retry_max_s": 0.2,
                "max_clock_skew_s": 3600,
            }
        },
        "paper": {"cash": 100_000},
        "monitoring": {
            "poll_interval_s": 0.1,
            "clock_interval_s": 0.1,
            "heartbeat_s": 1,
            "stale_after_bars": None,
            "restarts": 20,
            "restart_base_s": 0.1,
            "restart_max_s": 0.5,
            "flush_bars": 5,
        },
        "events": {"prefect": False},
    }


# What the ledger has to say


def disagreements(found: Desk, wanted: Desk, until_ms: int) -> list[str]:
    """Where the ledger of one desk is not that of another, up to the bar that opened at ``until_ms``."""
    told: list[Difference] = []
    for account in found.accounts.values():
        ours, theirs = found.rows(account, until_ms), wanted.rows(account, until_ms)
        told += itertools.chain.from_iterable(compare_rows(TABLES[name], ours[name], theirs[name]).first for name in COMPARED)
    return [str(one) for one in told]


def holes(desk: Desk, until_ms: int) -> list[str]:
    """Accounts that lack the equity of a bar, or have it twice: every bar is processed once."""
    wanted = [closed + MINUTE_MS for closed in range(desk.since_ms, until_ms + 1, MINUTE_MS)]
    found = []
    for account in desk.accounts.values():
        times = desk.rows(account, until_ms)["equity"]["at"].dt.epoch("ms").to_list()
        if times != wanted:
            missing, more = sorted(set(wanted) - set(times)), len(times) - len(set(times))
            found.append(f"{account}: {len(times)} bars of {len(wanted)}, {more} twice, missing {missing[:5]}")
    return found


def unlike_a_backtest(desk: Desk, accounts: Iterable[str]) -> list[str]:
    """Where accounts are not what one backtest makes of the same bars, as `flows.backtesting parity` finds."""
    from prefect.tasks import Task

    from candlewick.parity import parity_lines
    from tasks.parity import prove_account

    settings = load_settings(environment={}, directory=desk.directory)
    data = desk.directory / "data"
    kept = {
        "store": settings.store.model_copy(update={"url": str(data / "ledger.duckdb")}),
        "lake": settings.lake.model_copy(update={"url": str(data / "lake")}),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Task, "__call__", lambda task, *arguments, **named: task.fn(*arguments, **named))
        reports = [asyncio.run(prove_account(settings.model_copy(update=kept), account)) for account in accounts]
    return [f"{report.account}: {line}" for report in reports for line in parity_lines(report)]


def broken_invariants(desk: Desk) -> list[str]:
    """Accounts whose books do not add up."""
    found = []
    for account in desk.accounts.values():
        try:
            desk.ledger.check(account)
        except Exception as error:  # noqa: BLE001 - told to the test
            found.append(f"{account}: {error}")
    return found


# What the outside was told


def streamed(client: "Redis", stream: str) -> list[dict[str, str]]:
    """Every entry of the Redis stream, oldest first."""
    return [fields for _, fields in client.xrange(stream)]


def told_wrongly(desk: Desk, entries: Sequence[Mapping[str, str]]) -> list[str]:
    """Events that the stream lacks, or has and the outbox has not; fills that were not told, and told ones that are not there."""
    kept: tuple[OutboxEvent, ...] = desk.store.events(NAME, 0, _MOST_EVENTS)
    in_store, in_stream = {one.event_id for one in kept}, {one["event_id"] for one in entries}
    found = [f"never told: {one.kind} {one.event_id}" for one in kept if one.event_id not in in_stream]
    found += [f"told, but rolled back: {one['kind']} {one['event_id']}" for one in entries if one["event_id"] not in in_store]
    if [one.sequence for one in kept] != list(range(1, len(kept) + 1)):
        found.append("the outbox has a hole, or a number twice")
    told_fills = sorted(str(one.document["fill_id"]) for one in kept if one.kind == "fill")
    fills = sorted(id_ for account in desk.accounts.values() for id_ in desk.ledger.export_rows(account)["fills"]["fill_id"])
    found += [f"fill that was not told: {one}" for one in sorted(set(fills) - set(told_fills))]
    found += [f"told fill that is not there: {one}" for one in sorted(set(told_fills) - set(fills))]
    if len(told_fills) != len(set(told_fills)):
        found.append("the outbox has a fill twice")
    return found


def first_in_order(entries: Sequence[Mapping[str, str]]) -> bool:
    """Whether the events, repeats left out, came in the order in which they happened."""
    first = dict[str, int]()
    for one in entries:
        first.setdefault(one["event_id"], int(one["sequence"]))
    return list(first.values()) == sorted(first.values())


def as_json(text: str) -> Any:
    """A command's answer."""
    return json.loads(text)
