"""Chaos around a monitored desk: whatever dies or lies, the ledger is the undisturbed one and the outside heard all of it.

`make chaos` strikes for longer and harder; CANDLEWICK_CHAOS_SEED chooses the blows, CANDLEWICK_CHAOS_MINUTES how long the market
lasts.
"""

import os
import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.chaos_play import BLOWS, Chaos, Gate, OwnServer
from tests.emulator.live_book import MINUTE_MS, LiveBook, live_symbols, unified
from tests.emulator.server import Emulator
from tests.monitor_play import (
    NAME,
    Desk,
    broken_invariants,
    disagreements,
    first_in_order,
    holes,
    streamed,
    told_wrongly,
    unlike_a_backtest,
)
from tests.redis_server import RedisServer, redis_server
from tests.serve_fixture import wait_for

SEED = int(os.environ.get("CANDLEWICK_CHAOS_SEED", "1"))
MINUTES = int(os.environ.get("CANDLEWICK_CHAOS_MINUTES", "6"))
SHORT = MINUTES < 20
FACTOR = 30 if SHORT else 12
SYMBOLS = live_symbols(4 if SHORT else 10)
HISTORY_MS = 60 * MINUTE_MS
LIMIT_S = 120.0
STRATEGY = ("--strategy", "tests.chaos_strategy:Stumbling", "--param", "fast=2", "--param", "slow=5")


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    folder = tmp_path / "redis"
    folder.mkdir()
    with redis_server(folder) as server:
        yield server


def desk_at(directory: Path, exchange: Emulator, start_ms: int, prefect_url: str, redis_url: str | None) -> Desk:
    settings = {"monitoring": {"restarts": 20 if SHORT else 4}, "events": {"prefect": False, "redis_url": redis_url}}
    symbols = tuple(unified(symbol) for symbol in SYMBOLS)
    return Desk(directory, exchange.url, symbols, start_ms - HISTORY_MS, prefect_url, settings, STRATEGY)


def server_for(prefect_server: str, folder: Path) -> Gate | OwnServer:
    """The tests' own server behind a gate; in a longer market one that can really be killed, which takes its time to start."""
    if SHORT:
        return Gate(prefect_server)
    server = OwnServer(folder / "prefect-server")
    server.start()
    return server


def blows(chosen: random.Random) -> list[str]:
    """Every kind at least once, a kill twice; more of them in a longer market."""
    found = ["kill_session", *BLOWS] if SHORT else ["kill_session", "kill_session", *BLOWS] * (MINUTES // 10)
    chosen.shuffle(found)
    return found


def notice_what_is_wrong(desk: Desk, undisturbed: Desk, entries: list[dict[str, str]], last_ms: int) -> None:
    """The checks of this page see one row that is missing, changed, or told and not there."""
    account = next(iter(desk.accounts.values()))
    fill = next(one for one in entries if one["kind"] == "fill")
    others = [one for one in entries if one["event_id"] != fill["event_id"]]
    assert told_wrongly(desk, others) == [f"never told: fill {fill['event_id']}"]
    invented = told_wrongly(desk, [*entries, fill | {"event_id": "fill-0"}])
    assert invented == ["told, but rolled back: fill fill-0"]
    with desk.ledger.database.write() as connection:
        connection.execute("UPDATE fills SET price = price + 1 WHERE account = ? AND sequence < 50", [account])
        dropped = datetime.fromtimestamp(last_ms / 1000 - 1_200, UTC)
        connection.execute('DELETE FROM equity WHERE account = ? AND "at" = ?', [account, dropped])
    assert any("price is" in line for line in disagreements(desk, undisturbed, last_ms))
    assert len(holes(desk, last_ms)) == 1
    assert any("price is" in line for line in unlike_a_backtest(desk, [account]))


def restart_quarantined(desk: Desk) -> None:
    """What an operator does for symbols that the session gave up."""
    for one in desk.status().get("symbols", ()):
        if one["quarantined"]:
            desk.ask("restart", "--symbol", one["symbol"], "--reason", "chaos", "--wait", "0")


def come_through(desk: Desk, last_ms: int) -> None:
    """Wait until the desk has every bar and Redis every event, whatever has to be started or restarted for that."""

    ends = []

    def through() -> bool:
        if desk.process is None or desk.process.poll() is not None:
            ends.append(desk.said() if desk.process else "")
            assert len(ends) < 4, f"sessions end by themselves: {ends}"
            desk.start()
        restart_quarantined(desk)
        return desk.has_reached(last_ms) and not desk.store.undelivered(NAME, "redis")

    wait_for(through, LIMIT_S, lambda: f"{desk.watermarks()}, {len(desk.store.undelivered(NAME, 'redis'))} wait; {desk.said()}")


@pytest.mark.xdist_group("prefect_server")
def test_whatever_dies_or_lies_the_ledger_is_the_undisturbed_one_and_the_outside_heard_all_of_it(
    prefect_server: str, redis: RedisServer, tmp_path: Path
) -> None:
    chosen, start_ms = random.Random(SEED), round(time.time() * 1000) // MINUTE_MS * MINUTE_MS
    end_ms, last_ms = start_ms + MINUTES * MINUTE_MS, start_ms + (MINUTES - 1) * MINUTE_MS
    book = LiveBook(SYMBOLS, origin_ms=start_ms)
    with Emulator(book) as exchange, Emulator(book) as calm:
        calm.now_ms = end_ms + MINUTE_MS // 2
        server = server_for(prefect_server, tmp_path)
        desk = desk_at(tmp_path / "disturbed", exchange, start_ms, server.url, redis.url.get_secret_value())
        undisturbed = desk_at(tmp_path / "undisturbed", calm, start_ms, prefect_server, None)
        chaos = Chaos(desk, exchange, redis, server.kill, server.start, chosen, 1.0 if SHORT else 3.0)
        try:
            undisturbed.start()
            exchange.accelerate(FACTOR, start_ms)
            desk.start()
            planned = blows(chosen)
            for number, blow in enumerate(planned):
                strike_ms = start_ms + number * MINUTES * MINUTE_MS // len(planned)
                wait_for(lambda at=strike_ms: exchange.clock_ms() >= at, LIMIT_S, lambda: "the clock stands")  # type: ignore[misc]
                chaos.strike(blow)
            wait_for(lambda: exchange.clock_ms() >= end_ms, LIMIT_S, lambda: "the clock stands")
            exchange.forgive()
            exchange.accelerate(1, exchange.clock_ms())
            come_through(desk, last_ms)
            undisturbed.wait_until(last_ms, LIMIT_S)
            assert desk.stop() == 0, desk.said()
            assert desk.store.undelivered(NAME, "redis") == ()
            entries = streamed(redis.client, "candlewick:events")
        finally:
            desk.kill()
            undisturbed.kill()
            server.kill()
    left = [row.session_id for row in desk.store.sessions(NAME, 100) if row.ended_at is None]
    assert left == [], "a session that died is not told of as ended"
    assert broken_invariants(desk) == []
    assert holes(desk, last_ms) == [], chaos.told
    assert disagreements(desk, undisturbed, last_ms) == [], chaos.told
    assert unlike_a_backtest(desk, desk.accounts.values()) == [], chaos.told
    assert told_wrongly(desk, entries) == [], chaos.told
    assert first_in_order(entries)
    assert sum(one["kind"] == "fill" for one in entries) > 10 * len(SYMBOLS), "the desk trades"
    assert desk.sessions > chaos.told.count("kill_session")
    assert not list((desk.directory / "stumbles").glob("*")), "the strategy stumbled wherever it was told to"
    notice_what_is_wrong(desk, undisturbed, entries, last_ms)
