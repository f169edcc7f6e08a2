"""The exchange emulator itself: it says what Binance says, and its remote control works."""

import json
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.emulator.klines import klines_at, klines_text, page_bounds
from tests.emulator.server import Emulator
from tests.emulator_fixture import HOUR_MS, START_MS
from tests.shared_data import SHARED


def get(url: str, body: object = None) -> tuple[int, object]:
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data=data), timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_prices_and_times_are_those_that_binance_sent(real_exchange: Emulator):
    wire = json.loads((SHARED / "data" / "wire" / "binance_klines_BTCUSDT_1h_2023-03-01.json").read_text())
    query = f"symbol=BTCUSDT&interval=1h&startTime={wire[0][0]}&endTime={wire[-1][0]}&limit=1000"
    status, rows = get(f"{real_exchange.url}/api/v3/klines?{query}")
    assert status == 200
    assert isinstance(rows, list)
    # The close time differs in one row only: Binance closed the bar of an outage early.
    assert [row[:6] for row in rows] == [row[:6] for row in wire]
    assert sum(row[6] != real[6] for row, real in zip(rows, wire, strict=True)) <= 1
    assert [type(value) for value in rows[0]] == [type(value) for value in wire[0]]


def test_without_a_start_the_latest_candles_come(made_up_exchange: Emulator):
    _, rows = get(f"{made_up_exchange.url}/api/v3/klines?symbol=BTCUSDT&interval=1h&limit=2")
    assert isinstance(rows, list)
    assert [row[0] for row in rows] == [START_MS + 2_498 * HOUR_MS, START_MS + 2_499 * HOUR_MS]


@pytest.mark.parametrize(
    ("query", "code"),
    [("interval=1h", -1102), ("symbol=BTCUSDT&interval=7h", -1120), ("symbol=NOPEUSDT&interval=1h", -1121)],
)
def test_a_wrong_request_gets_binances_error(made_up_exchange: Emulator, query: str, code: int):
    status, body = get(f"{made_up_exchange.url}/api/v3/klines?{query}")
    assert status == 400
    assert isinstance(body, dict)
    assert body["code"] == code


def test_the_remote_control_sets_clock_and_faults_and_reads_the_log(made_up_exchange: Emulator):
    url = made_up_exchange.url
    fault = {"kind": "http", "status": 429, "path": "/time"}
    assert get(f"{url}/_control", {"clear": True, "now_ms": 5_000, "clock_offset_ms": 7, "faults": [fault]})[0] == 200
    assert get(f"{url}/api/v3/time")[0] == 429
    assert get(f"{url}/api/v3/time") == (200, {"serverTime": 5_007})
    _, log = get(f"{url}/_control/requests")
    assert isinstance(log, list)
    assert [(entry["path"], entry["fault"]) for entry in log] == [("/api/v3/time", "http"), ("/api/v3/time", None)]


def test_the_remote_control_refuses_what_it_does_not_know(made_up_exchange: Emulator):
    assert get(f"{made_up_exchange.url}/_control", {"faults": [{"kind": "nonsense"}]})[0] == 400
    assert get(f"{made_up_exchange.url}/_control", {"nonsense": 1})[0] == 400


def header(url: str, name: str) -> tuple[int, str | None]:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.headers.get(name)
    except urllib.error.HTTPError as error:
        return error.code, error.headers.get(name)


def test_the_weight_that_was_used_is_told_with_every_answer(made_up_exchange: Emulator):
    get(f"{made_up_exchange.url}/_control", {"weights": {"window_s": 3600}})
    klines, candles = "/api/v3/klines?symbol=BTCUSDT&interval=1h&limit=1000", "/fapi/v1/klines?symbol=BTCUSDT&interval=1h"
    addresses = (klines, klines, "/api/v3/time", f"{candles}&limit=1000", f"{candles}&limit=1500", candles, "/time")
    told = [header(made_up_exchange.url + path, "x-mbx-used-weight-1m")[1] for path in addresses]
    assert told == ["2", "4", "5", "10", "20", "25", None]


def test_too_much_weight_is_answered_with_a_pause_and_asking_on_with_a_ban(made_up_exchange: Emulator):
    url = f"{made_up_exchange.url}/api/v3/klines?symbol=BTCUSDT&interval=1h&limit=5"
    get(f"{made_up_exchange.url}/_control", {"weights": {"limit": 5, "window_s": 3600, "ban_s": 7, "patience": 1}})
    assert [header(url, "Retry-After") for _ in range(2)] == [(200, None), (200, None)]
    status, pause = header(url, "Retry-After")
    assert (status, pause is not None and 0 < int(pause) <= 3600) == (429, True)
    assert header(url, "Retry-After") == (418, "7")
    assert header(url, "Retry-After") == (418, "7")
    assert (made_up_exchange.weights.most_used, made_up_exchange.weights.refused, made_up_exchange.weights.banned) == (4, 1, 2)
    assert [r.fault for r in made_up_exchange.requests()] == [None, None, "weight-429", "weight-418", "weight-418"]


def test_a_page_looks_the_same_whether_it_is_made_quickly_or_row_by_row(made_up_exchange: Emulator):
    columns, now_ms = made_up_exchange.book.columns("BTCUSDT", "1h"), START_MS + 5_000 * HOUR_MS
    slow = klines_at(columns, "1h", START_MS, None, 1000, now_ms, True)
    quick = json.loads(klines_text(columns, "1h", *page_bounds(columns, "1h", START_MS, None, 1000, now_ms, True)))
    assert [row[:7] for row in quick] == [row[:7] for row in slow]
    assert [[type(value) for value in row] for row in quick] == [[type(value) for value in row] for row in slow]


@pytest.mark.skipif(not (SHARED / "data").is_dir(), reason="the real market data (../shared/data) is not here")
def test_it_runs_as_a_process_of_its_own():
    command = [sys.executable, "-m", "tests.emulator", "--data", str(SHARED / "data"), "--now-ms", "1700000000000"]
    root = Path(__file__).resolve().parents[1]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            assert get(f"{url}/api/v3/time") == (200, {"serverTime": 1_700_000_000_000})
        finally:
            process.terminate()
