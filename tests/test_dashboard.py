"""The live page: what it says of a desk, as JSON and in a real browser; it reads the store, seldom, and writes nothing."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import duckdb
import httpx
import pytest
from fastapi import FastAPI

from candlewick.errors import PortInUse
from candlewick.monitoring.status import RiskStatus
from candlewick.store.database import Database
from candlewick.store.migrations import MIGRATIONS
from candlewick.store.session_writing import SessionWrite
from candlewick.store.sessions import SessionStore
from deployments.dashboard.__main__ import listen
from deployments.dashboard.app import create_app
from deployments.dashboard.bars import CandleReader
from deployments.dashboard.reading import DeskReader
from deployments.dashboard.server import PageServer
from deployments.dashboard.watch import Watch
from tests.browser import CHROMIUM
from tests.devtools import Tab, open_browser
from tests.made_desk import DEAD_PROCESS, DESK, MadeDesk, make_desk

SYMBOLS = ("BTC/USDT", "ETH/USDT", "SOL/USDT")
EVIL = "<img src=x onerror=\"document.body.dataset.hurt='yes'\"><b>EVIL</b>/USDT"
POLL_S = 0.1
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")


@pytest.fixture
def desk(tmp_path: Path) -> MadeDesk:
    return make_desk(tmp_path, SYMBOLS)


def watch_of(directory: Path, lock_timeout_s: float = 0.2) -> Watch:
    from candlewick.lake import Lake

    database = Database(str(directory / "ledger.duckdb"), lock_timeout_s)
    return Watch(DeskReader(database, DESK), CandleReader(database, Lake(str(directory / "lake"))), POLL_S)


def ask(app: FastAPI, *paths: str, host: str = "127.0.0.1") -> list[httpx.Response]:
    """What the app answers, one path after the other."""

    async def answers() -> list[httpx.Response]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=f"http://{host}") as client:
            return [await client.get(path) for path in paths]

    return asyncio.run(answers())


def state_of(directory: Path) -> dict[str, dict[str, object]]:
    (answer,) = ask(create_app(watch_of(directory)), "/api/state")
    assert answer.status_code == 200
    found: dict[str, dict[str, object]] = answer.json()
    return found


# ------------------------------------------------------------------------------------------------ what is said


def test_the_state_tells_the_session_its_positions_and_the_desks_equity(desk: MadeDesk) -> None:
    state = state_of(desk.directory)
    session = state["session"]
    assert (state["condition"]["word"], state["condition"]["is_alive"]) == ("running", True)
    assert (session["name"], session["healthy_symbols"], len(session["symbols"])) == (DESK, 3, 3)  # type: ignore[arg-type]
    held = [(one["symbol"], one["quantity"], one["unrealized_pnl"]) for one in state["positions"]]
    assert held == [(symbol, "0.5", "0.00000000") for symbol in SYMBOLS]
    worth = sum(trader.cash + 50 for trader in desk.traders.values())
    assert state["equity"]["at"][-1] == desk.at.timestamp() * 1000  # type: ignore[index]
    assert state["equity"]["equity"][-1] == float(worth)  # type: ignore[index]


def test_equity_is_the_sum_of_what_each_account_was_worth_last(desk: MadeDesk) -> None:
    """Also of those that are behind, and also when the rows came in several looks."""
    reader = watch_of(desk.directory).desk
    before = reader.read()["equity"]
    desk.trade("BTC/USDT", 3)
    curve = reader.read()["equity"]
    assert isinstance(before, dict)
    assert isinstance(curve, dict)
    assert len(curve["at"]) == len(before["at"]) + 3  # type: ignore[arg-type]
    worth = sum(trader.cash + sum(trader.held.values()) * 100 for trader in desk.traders.values())
    assert curve["equity"][-1] == float(worth)  # type: ignore[index]
    assert curve == state_of(desk.directory)["equity"]


def test_what_happened_is_told_newest_first_with_who_and_why(desk: MadeDesk) -> None:
    desk.ask("SOL/USDT", "listing news")
    fill = {"leg": "stop", "side": "sell", "quantity": "0.5", "price": "97.4", "realized_pnl": "-1.35", "reason": "touched"}
    breach = {"rule": "daily_loss_share", "limit": "0.02", "value": "0.03", "action": "block_entries"}
    told = (("order.placed", "BTC/USDT", {}), ("fill", "BTC/USDT", fill), ("risk.breached", None, breach))
    moves = (("CREATED", "STARTING", "start"), ("RUNNING", "ERROR", "no bars"))
    desk.beat(
        desk.writing(
            outbox=[desk.event(*one) for one in told],
            transitions=[desk.move(*one, "ETH/USDT") for one in moves],
            alerts=[desk.alert("critical", "ETH/USDT fails", "Look at its log.")],
            cycles=[desk.traders["SOL/USDT"].cycle(1)],
            interventions=[desk.rejection("SOL/USDT", "cooldown", "too early")],
        )
    )  # fmt: skip
    feed = state_of(desk.directory)["feed"]
    assert isinstance(feed, list)
    assert [one["at"] for one in feed] == sorted((one["at"] for one in feed), reverse=True)
    seen = {(one["symbol"], one["text"], one["tone"]) for one in feed}
    assert seen == {
        ("BTC/USDT", "stop: sell 0.5 at 97.4, result -1.35 (touched)", "loss"),
        (None, "risk limit daily loss share broken: 0.03 is beyond 0.02, block entries", "loss"),
        ("ETH/USDT", "symbol running → error (no bars), by supervisor", "loss"),
        (None, "alert: ETH/USDT fails. Look at its log.", "loss"),
        ("SOL/USDT", "BUY rejected by cooldown (2 against 5) (too early)", "warn"),
        ("SOL/USDT", "pause asked for by kim@trader-1 (listing news)", "info"),
    }


def test_candles_are_those_of_the_lake_and_of_the_store_with_the_deals_on_them(desk: MadeDesk) -> None:
    (answer,) = ask(create_app(watch_of(desk.directory)), "/api/candles?symbol=BTC/USDT")
    chart = answer.json()
    assert chart["message"] is None
    assert len(chart["bars"]["at"]) == desk.traders["BTC/USDT"].bar == 101
    assert all(
        later - earlier == chart["timeframe_ms"]
        for earlier, later in zip(chart["bars"]["at"], chart["bars"]["at"][1:], strict=False)
    )
    assert [fill["leg"] for fill in chart["fills"][:3]] == ["entry", "exit", "entry"]
    assert len(chart["fills"]) == 101
    assert chart["position"]["side"] == "long"


def test_a_symbol_that_the_session_does_not_watch_is_not_found(desk: MadeDesk) -> None:
    app = create_app(watch_of(desk.directory))
    missing, page, script, secret = ask(app, "/api/candles?symbol=NO/USDT", "/", "/static/plotly.min.js", "/static/..%2fapp.py")
    assert (missing.status_code, page.status_code, script.status_code, secret.status_code) == (404, 200, 200, 404)
    assert "NO/USDT" in missing.json()["error"]


def test_candles_of_files_that_are_gone_are_waited_for(desk: MadeDesk) -> None:
    desk.beat(market=f"files:{desk.directory / 'gone'}")
    (answer,) = ask(create_app(watch_of(desk.directory)), "/api/candles?symbol=BTC/USDT")
    assert answer.status_code == 200
    assert "is not a folder" in answer.json()["message"]


def test_only_this_machines_name_is_answered_and_pages_may_load_nothing_from_elsewhere(desk: MadeDesk) -> None:
    app = create_app(watch_of(desk.directory))
    (strange,) = ask(app, "/api/state", host="evil.example")
    (page,) = ask(app, "/")
    assert strange.status_code == 400
    assert "default-src 'none'" in page.headers["content-security-policy"]


# ------------------------------------------------------------------------------------------------ before, and after the end


def test_before_the_first_session_the_page_says_how_to_start_one(tmp_path: Path) -> None:
    state = state_of(tmp_path)
    assert state["session"] is None
    assert state["condition"]["word"] == "none"
    assert "`python -m flows.monitoring start --account desk`" in str(state["condition"]["text"])
    assert list(tmp_path.iterdir()) == [], "looking made a file"


def test_another_desks_sessions_are_named(desk: MadeDesk) -> None:
    reader = DeskReader(desk.database, "night")
    condition = reader.read()["condition"]
    assert isinstance(condition, dict)
    assert condition["word"] == "none"
    assert "Other desks had some: desk" in str(condition["text"])


def test_a_session_whose_process_is_gone_has_crashed(tmp_path: Path) -> None:
    make_desk(tmp_path, SYMBOLS, process=DEAD_PROCESS)
    condition = state_of(tmp_path)["condition"]
    assert (condition["word"], condition["is_alive"]) == ("crashed", False)
    assert "is gone" in str(condition["text"])


def test_a_session_that_ended_says_when_and_why(desk: MadeDesk) -> None:
    desk.ended_at, desk.reason = datetime.now(UTC), "stopped by kim"
    desk.beat(state="STOPPED")
    condition = state_of(desk.directory)["condition"]
    assert condition["word"] == "ended"
    assert "stopped by kim" in str(condition["text"])


def test_while_the_next_session_starts_the_desk_stays_in_sight(desk: MadeDesk) -> None:
    waiting = replace(desk.row(), session_id="desk-2", state="STARTING", started_at=datetime.now(UTC), document={})
    SessionStore(desk.database).commit(SessionWrite(name=DESK, at=datetime.now(UTC), session=waiting))
    state = state_of(desk.directory)
    assert (state["condition"]["word"], state["condition"]["is_alive"]) == ("starting", True)
    assert state["session"]["session_id"] == "desk-1"
    assert len(state["positions"]) == 3


# ------------------------------------------------------------------------------------------------ the store


def test_looking_changes_nothing_in_the_store(desk: MadeDesk) -> None:
    before = {
        path: path.read_bytes() for path in desk.directory.rglob("*") if path.is_file() and path.suffix in (".duckdb", ".parquet")
    }
    ask(create_app(watch_of(desk.directory)), "/", "/api/state", "/api/candles?symbol=BTC/USDT", "/healthz")
    assert {path: path.read_bytes() for path in before} == before
    assert not (desk.directory / "ledger.duckdb.wal").exists()


def test_an_older_ledger_is_not_migrated_and_has_no_session(tmp_path: Path) -> None:
    with Database(str(tmp_path / "ledger.duckdb"), migrations=MIGRATIONS[:4]).write():
        pass
    before = (tmp_path / "ledger.duckdb").read_bytes()
    assert state_of(tmp_path)["condition"]["word"] == "none"
    assert (tmp_path / "ledger.duckdb").read_bytes() == before


def test_while_another_program_holds_the_store_the_page_waits_with_what_it_knew(desk: MadeDesk) -> None:
    reader = watch_of(desk.directory, lock_timeout_s=0.1).desk
    reader.read()
    desk.beat(equity=Decimal(12345))
    with desk.database.write():
        waiting = reader.read()
        (chart,) = ask(create_app(Watch(reader, CandleReader(reader.database, desk.lake))), "/api/candles?symbol=BTC/USDT")
    again = reader.read()
    assert waiting["store"] == {
        "reachable": False,
        "title": "Waiting for the store",
        "message": "Another program holds it; this page asks again until it lets go, and shows what it knew last.",
    }
    assert isinstance(waiting["session"], dict)
    assert waiting["session"]["equity"] != "12345"
    assert chart.status_code == 200
    assert "Waiting for the candles" in chart.json()["message"]
    assert isinstance(again["store"], dict)
    assert again["store"]["reachable"] is True
    assert isinstance(again["session"], dict)
    assert again["session"]["equity"] == "12345"


def test_a_store_that_was_held_at_the_first_look_is_waited_for(desk: MadeDesk) -> None:
    reader = watch_of(desk.directory, lock_timeout_s=0.1).desk
    with desk.database.write():
        first = reader.read()
    assert isinstance(first["condition"], dict)
    assert first["condition"]["word"] == "waiting"
    assert reader.read()["session"] is not None


def test_a_store_that_has_not_changed_is_not_opened_again(desk: MadeDesk) -> None:
    reader = watch_of(desk.directory).desk
    reader.read()
    with duckdb.connect(str(desk.database.path), read_only=True):
        pass
    view = reader.view
    reader.read()
    assert reader.view is view
    desk.beat()
    reader.read()
    assert reader.view is not view


async def watched(watch: Watch, browsers: int, changes: MadeDesk) -> list[list[dict[str, object]]]:
    """What each of several browsers is told: the state at once, and a change."""

    async def browser() -> list[dict[str, object]]:
        told = []
        stream = watch.stream()
        async for text in stream:
            assert text.startswith("event: state"), "it heard nothing although something happened"
            told.append(json.loads(text.partition("data: ")[2]))
            if len(told) == 2:
                break
        await stream.aclose()  # type: ignore[attr-defined]
        return told

    tasks = [asyncio.create_task(browser()) for _ in range(browsers)]
    while watch.watchers < browsers or not watch.document:
        await asyncio.sleep(0.01)
    await asyncio.to_thread(changes.beat, equity=Decimal(4321))
    told = await asyncio.wait_for(asyncio.gather(*tasks), 30)
    looks = watch.looks
    await asyncio.sleep(5 * watch.poll_s)
    assert watch.looks <= looks + 1, "it looks although nobody watches"
    return told


def test_many_browsers_cost_one_reader_and_none_costs_nothing(desk: MadeDesk) -> None:
    watch = watch_of(desk.directory, lock_timeout_s=30)
    told = asyncio.run(watched(watch, 20, desk))
    assert all(first["session"]["equity"] != "4321" == second["session"]["equity"] for first, second in told)  # type: ignore[index]
    assert watch.watchers == 0


def test_twenty_who_ask_at_once_are_answered_from_one_look(desk: MadeDesk) -> None:
    async def asked(watch: Watch) -> int:
        await asyncio.gather(*(watch.state() for _ in range(20)), *(watch.chart("BTC/USDT") for _ in range(20)))
        return watch.looks

    watch = watch_of(desk.directory)
    watch.poll_s = 60
    assert asyncio.run(asked(watch)) == 1


def test_a_port_that_is_taken_is_said(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(PortInUse, match=r"monitoring\.dashboard_port: port \d+ of 127\.0\.0\.1 is taken"):
            listen(taken.getsockname()[1])


def test_the_command_serves_until_it_is_asked_to_end_although_somebody_watches(desk: MadeDesk) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    named = {"STORE__URL": desk.database.path, "LAKE__URL": desk.lake.url, "MONITORING__DASHBOARD_PORT": port}
    environment = os.environ | {f"CANDLEWICK_{name}": str(value) for name, value in named.items()}
    command = [sys.executable, "-m", "deployments.dashboard"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert f"http://127.0.0.1:{port}" in process.stdout.readline()
        with httpx.stream("GET", f"http://127.0.0.1:{port}/api/stream", trust_env=False, timeout=30) as stream:
            lines = stream.iter_lines()  # let go of, it would close the connection
            assert next(lines) == "event: state"
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=30) == 0
        assert process.stderr.read() == ""


# ------------------------------------------------------------------------------------------------ in a browser


@contextmanager
def served(directory: Path) -> Iterator[str]:
    """The page's address while it is served as `make dashboard` does, on a port that is free."""
    listening = listen(0)
    server = PageServer(watch_of(directory, 30))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
    finally:
        server.should_exit = True
        thread.join(timeout=30)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with open_browser(tmp_path_factory.mktemp("chromium")) as tab:
        yield tab


@needs_browser
def test_the_page_shows_the_desk_and_a_change_comes_without_reloading(browser: Tab, desk: MadeDesk) -> None:
    broken = RiskStatus(
        rule="max_positions",
        limit="2 open positions",
        value="3 open positions",
        breached_at=desk.at,
        action="block_entries",
        lift="when_below",
    )
    desk.beat(risk=(broken,))
    with served(desk.directory) as address:
        browser.open(address, 1400)
        browser.wait_for("document.querySelector('#candle-chart .main-svg') && document.querySelector('#equity-chart .main-svg')")
        browser.ask("window.isTheSamePage = true")
        header = browser.text(".top")
        assert all(text in header for text in ("desk", "running", "3 / 3", "page live", "store connected"))
        assert browser.ask("[...document.querySelectorAll('#symbols button')].map((one) => one.textContent)") == list(SYMBOLS)
        assert "3 / 2" in browser.text("#risk")
        assert "BTC/USDT long 0.5" in browser.text("#positions")
        assert browser.ask("document.querySelector('#candle-chart').data.map((one) => one.name)") == [
            "candles", "entry price", "stop price", "buy", "exit",
        ]  # fmt: skip

        desk.change_symbol("SOL/USDT", state="ERROR", quarantined=True, last_error="it is broken")
        browser.wait_for("document.querySelector('#symbols tr').innerText.includes('quarantined')")
        assert "SOL/USDT" in browser.text("#symbols tr"), "what needs a person comes first"
        assert "2 / 3" in browser.text("#health")
        desk.trade("BTC/USDT", 1)
        browser.wait_for("!document.querySelector('#positions').innerText.includes('BTC/USDT')")
        browser.wait_for("document.querySelector('#candles-note').innerText.includes('102 bars')")
        assert browser.ask("window.isTheSamePage") is True
    assert browser.console == []


@needs_browser
def test_a_click_on_a_symbol_draws_its_candles(browser: Tab, desk: MadeDesk) -> None:
    with served(desk.directory) as address:
        browser.open(address, 1400)
        browser.wait_for("document.querySelector('#candle-chart .main-svg')")
        assert browser.ask("document.querySelector('#picker').value") == "BTC/USDT"
        browser.ask("document.querySelectorAll('#symbols button')[1].click()")
        browser.wait_for("document.querySelector('#candles-note').innerText.startsWith('ETH/USDT, 1h, 101 bars')")
        assert browser.ask("document.querySelector('#symbols tr.chosen button').getAttribute('aria-pressed')") == "true"


@needs_browser
@pytest.mark.parametrize("is_dark", [False, True], ids=["light", "dark"])
def test_a_phone_shows_all_without_scrolling_sideways_and_with_room_for_fingers(
    browser: Tab, desk: MadeDesk, is_dark: bool
) -> None:
    long = "1000000000000PEPEANDMANYMORELETTERSTHANFIT/USDT:USDT"
    broken = desk.status.symbols[0].model_copy(
        update={"symbol": long, "quarantined": True, "state": "ERROR", "last_error": "e" * 200}
    )
    desk.beat(symbols=(*desk.status.symbols, broken), notices=("n" * 300,))
    with served(desk.directory) as address:
        browser.open(address, 390, 844, is_phone=True, is_dark=is_dark)
        browser.wait_for("document.querySelector('#candle-chart .main-svg') || document.querySelector('#no-candles').innerText")
        assert browser.ask("innerWidth") == 390
        assert browser.ask("document.documentElement.scrollWidth") == 390
        seen = "body *:not(thead, thead *)"  # the cards have their own labels
        sides = f"[...document.querySelectorAll('{seen}')].map((one) => one.getBoundingClientRect()).filter((one) => one.width)"
        assert browser.ask(f"Math.max(...{sides}.map((one) => one.right))") <= 390  # type: ignore[operator]
        assert browser.ask("getComputedStyle(document.querySelector('#symbols tr')).display") == "grid", "a card, not a row"
        fingers = "[...document.querySelectorAll('main input, main select, main button.plain, #symbols tr')]"
        heights = browser.ask(f"{fingers}.map((one) => one.getBoundingClientRect().height).filter((height) => height)")
        assert min(heights) >= 40  # type: ignore[call-overload]
        background = browser.ask("getComputedStyle(document.body).backgroundColor")
        assert background == ("rgb(15, 19, 23)" if is_dark else "rgb(246, 245, 241)")


@needs_browser
def test_text_from_outside_is_shown_as_text(browser: Tab, desk: MadeDesk) -> None:
    texts = dict.fromkeys(("symbol", "account", "paused_by", "signal", "signal_verdict", "last_error"), EVIL)
    evil = desk.status.symbols[0].model_copy(update={**texts, "state": "PAUSED"})
    limit = RiskStatus(rule=EVIL, limit=EVIL, value=EVIL, breached_at=desk.at, action=EVIL, lift=EVIL)
    fill = {"leg": EVIL, "side": EVIL, "quantity": EVIL, "price": EVIL, "realized_pnl": None, "reason": EVIL}
    write = desk.writing(outbox=[desk.event("fill", EVIL, fill)], alerts=[desk.alert("critical", EVIL, EVIL)])
    desk.beat(write, symbols=(*desk.status.symbols, evil), risk=(limit,), notices=(EVIL,), strategy=EVIL, quote=EVIL)
    with served(desk.directory) as address:
        browser.open(address, 1400)
        browser.wait_for("document.querySelector('#equity-chart .main-svg')")
        browser.ask("[...document.querySelectorAll('#symbols button')].find((one) => one.textContent.includes('EVIL')).click()")
        browser.wait_for("document.querySelector('#candles-note').innerText.includes('EVIL')")
        for place in ("#symbols", "#risk", "#feed", "#banners", "#about", "#picker"):
            assert "<b>EVIL</b>" in str(browser.ask(f"document.querySelector('{place}').textContent")), place
        assert browser.ask("document.querySelectorAll('main b b, b > b, img, main img').length") == 0
        assert browser.ask("[...document.querySelectorAll('b')].filter((one) => one.textContent === 'EVIL').length") == 0
        assert browser.ask("document.body.dataset.hurt") is None


@needs_browser
def test_the_page_tells_a_crash_and_greets_the_next_session(browser: Tab, tmp_path: Path) -> None:
    with served(tmp_path) as address:
        browser.open(address, 390, 844, is_phone=True)
        browser.wait_for("document.querySelector('#banners').innerText.includes('flows.monitoring start --account desk')")
        make_desk(tmp_path, SYMBOLS, process=DEAD_PROCESS)
        browser.wait_for("document.body.dataset.condition === 'crashed'")
        assert "The session has crashed" in browser.text("#banners")
        assert "python -m flows.monitoring start" in browser.text("#banners code")
        assert "as of the last heartbeat" in browser.text("#symbols-note")
        assert browser.ask("document.querySelectorAll('#symbols .pill.good').length") == 0, (
            "nothing of it is shown as running well"
        )
        assert browser.ask("document.documentElement.scrollWidth") == 390


@needs_browser
def test_the_page_finds_back_to_a_server_that_was_away(browser: Tab, desk: MadeDesk) -> None:
    with served(desk.directory) as address:
        browser.open(address, 800)
        browser.wait_for("document.body.dataset.drawn")
    browser.wait_for("document.querySelector('#page-link').innerText === 'page reconnecting'")
    assert browser.text("#condition") == "running", "what was known stays"
