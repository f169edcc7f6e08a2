"""The emulator's live candles and its accelerated clock, which sessions are tried against."""

import subprocess
import sys

import numpy as np
import pytest

from tests.emulator.faults import Fault
from tests.emulator.live_book import MINUTE_MS, TICK, LiveBook, live_symbols, unified
from tests.emulator.server import Emulator, Pace
from tests.test_emulator import get

NOON_MS = 1_767_268_800_000
SYMBOLS = live_symbols(20)


@pytest.fixture
def live_exchange() -> Emulator:
    with Emulator(LiveBook(SYMBOLS)) as emulator:
        emulator.now_ms = NOON_MS
        yield emulator


def klines(exchange: Emulator, query: str, symbol: str = "BTCUSDT") -> list[list[str | int]]:
    status, rows = get(f"{exchange.url}/api/v3/klines?symbol={symbol}&interval=1m&{query}")
    assert status == 200, rows
    assert isinstance(rows, list)
    return rows


def test_a_bar_says_the_same_whenever_and_whoever_is_asked():
    one, other = LiveBook(SYMBOLS), LiveBook(SYMBOLS)
    first = NOON_MS // MINUTE_MS
    whole = one.rows("BTCUSDT", first, first + 2_999)
    pieces = [other.rows("BTCUSDT", first + at, first + at + 99) for at in reversed(range(0, 3_000, 100))]
    assert np.array_equal(whole[1], np.concatenate([piece[1] for piece in reversed(pieces)]))
    assert np.diff(whole[0]).tolist() == [MINUTE_MS] * 2_999
    later = LiveBook(SYMBOLS, origin_ms=77 * MINUTE_MS)
    assert np.array_equal(whole[1], later.rows("BTCUSDT", first + 77, first + 77 + 2_999)[1])
    assert not np.array_equal(whole[1], one.rows("ETHUSDT", first, first + 2_999)[1])


def test_the_bars_are_ones_that_a_market_could_have():
    book, first = LiveBook(SYMBOLS), NOON_MS // MINUTE_MS
    for symbol in SYMBOLS:
        values = book.rows(symbol, first, first + 5_000)[1]
        open_, high, low, close, volume = values.T
        assert (low <= np.minimum(open_, close)).all()
        assert (high >= np.maximum(open_, close)).all()
        assert low.min() > 0
        assert volume.min() >= 0
        assert np.abs(values[:, :4] / TICK - np.round(values[:, :4] / TICK)).max() < 1e-4
        returns_bps = np.diff(np.log(close)) * 1e4
        assert 3 < returns_bps.std() < 30
        assert (open_[1:] != close[:-1]).mean() > 0.5


def test_a_bar_is_there_when_the_clock_closes_it_and_its_successor_forms(live_exchange: Emulator):
    since = NOON_MS - 2 * MINUTE_MS
    live_exchange.now_ms = NOON_MS - 1
    before = klines(live_exchange, f"startTime={since}&limit=10")
    live_exchange.now_ms = NOON_MS + 20_000
    after = klines(live_exchange, f"startTime={since}&limit=10")
    assert [row[0] for row in before] == [since, since + MINUTE_MS]
    assert [row[0] for row in after] == [since, since + MINUTE_MS, NOON_MS]
    assert before[0] == after[0]
    assert before[1][1] == after[1][1]
    assert before[1][4] != after[1][4], "the bar was still forming"


def test_the_newest_candles_come_without_a_start_and_a_page_is_no_longer_than_asked(live_exchange: Emulator):
    assert [row[0] for row in klines(live_exchange, "limit=2")] == [NOON_MS - MINUTE_MS, NOON_MS]
    assert len(klines(live_exchange, f"startTime={NOON_MS - 5_000 * MINUTE_MS}&limit=1000")) == 1_000
    page = klines(live_exchange, f"startTime={NOON_MS - 50 * MINUTE_MS}&endTime={NOON_MS - 40 * MINUTE_MS}")
    assert [row[0] for row in page] == [NOON_MS - n * MINUTE_MS for n in range(50, 39, -1)]
    assert klines(live_exchange, f"startTime={NOON_MS + MINUTE_MS}") == []


def test_a_slow_exchange_shows_a_bar_late_and_its_successor_not_before():
    with Emulator(LiveBook(SYMBOLS, delay_ms=3_000)) as exchange:
        exchange.now_ms = NOON_MS + 2_999
        early = klines(exchange, f"startTime={NOON_MS - 2 * MINUTE_MS}")
        exchange.now_ms = NOON_MS + 3_000
        late = klines(exchange, f"startTime={NOON_MS - 2 * MINUTE_MS}")
    assert [row[0] for row in early] == [NOON_MS - 2 * MINUTE_MS]
    assert [row[0] for row in late] == [NOON_MS - 2 * MINUTE_MS, NOON_MS - MINUTE_MS, NOON_MS]


def test_every_symbol_is_listed_under_the_name_that_ccxt_makes_of_it(live_exchange: Emulator):
    _, info = get(f"{live_exchange.url}/api/v3/exchangeInfo")
    assert isinstance(info, dict)
    assert tuple(sorted(SYMBOLS)) == tuple(entry["symbol"] for entry in info["symbols"])
    first, last = (next(one for one in info["symbols"] if one["symbol"] == name) for name in (SYMBOLS[0], SYMBOLS[-1]))
    assert [unified(SYMBOLS[0]), unified(SYMBOLS[-1])] == ["BTC/USDT", "SYM019/USDT"]
    assert [f"{one['baseAsset']}/{one['quoteAsset']}" for one in (first, last)] == ["BTC/USDT", "SYM019/USDT"]


def test_an_accelerated_clock_tells_when_on_ours_it_shows_a_time():
    pace = Pace(factor=60, start_ms=NOON_MS, began_s=1_000.0)
    assert pace.clock_ms(1_001.0) == NOON_MS + MINUTE_MS
    assert pace.at_s(NOON_MS + MINUTE_MS) == 1_001.0
    assert Pace(60, NOON_MS, 1_000.0, NOON_MS + 5).clock_ms(2_000.0) == NOON_MS + 5


def test_the_clock_is_accelerated_and_faults_are_forgiven_by_remote_control(live_exchange: Emulator):
    url = live_exchange.url
    faults = [Fault("http", count=None, status=429, path="/klines", symbol="ETHUSDT").to_document()]
    status, state = get(f"{url}/_control", {"accelerate": {"factor": 1_000, "start_ms": NOON_MS}, "faults": faults})
    assert status == 200
    assert isinstance(state, dict)
    assert state["pace"]["factor"] == 1_000
    assert state["clock_ms"] >= NOON_MS
    _, first = get(f"{url}/api/v3/time")
    _, second = get(f"{url}/api/v3/time")
    assert first["serverTime"] < second["serverTime"]  # type: ignore[index]
    assert get(f"{url}/api/v3/ping")[0] == 200
    assert klines(live_exchange, "limit=1")
    assert get(f"{url}/api/v3/klines?symbol=ETHUSDT&interval=1m")[0] == 429
    assert len(get(f"{url}/_control", {"forgive": True})[1]["faults"]) == 0  # type: ignore[index]
    assert klines(live_exchange, "limit=1", "ETHUSDT")
    assert get(f"{url}/_control", {"accelerate": {"speed": 1}})[0] == 400


def test_rubbish_strikes_the_row_that_it_is_meant_for_and_no_other_symbol(live_exchange: Emulator):
    query = f"startTime={NOON_MS - 2 * MINUTE_MS}"
    good = klines(live_exchange, query)
    live_exchange.misbehave(Fault("crossed", symbol="BTCUSDT", row=0), Fault("negative", symbol="BTCUSDT", row=-2))
    bad = klines(live_exchange, query)
    assert float(bad[0][2]) < float(bad[0][3])
    assert float(bad[1][4]) < 0
    assert bad[2] == good[2]
    assert klines(live_exchange, query, "ETHUSDT")
    assert klines(live_exchange, query) == good


def test_it_runs_as_a_process_of_its_own():
    command = [sys.executable, "-m", "tests.emulator", "--live", "3", "--factor", "100", "--start-ms", str(NOON_MS)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        _, state = get(f"{url}/_control")
        assert state["clock_ms"] >= NOON_MS  # type: ignore[index]
        assert state["pace"]["factor"] == 100  # type: ignore[index]
        process.terminate()
