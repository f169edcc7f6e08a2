"""The request budget: what is granted in any stretch of time, who waits for whom, and that it is one for all processes."""

import asyncio
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from blocks.exchange import Exchange, open_exchange
from blocks.exchange_budget import published_weight
from candlewick.candles import MarketClock
from candlewick.errors import RateLimited
from candlewick.market.budget import (
    LONGEST_PAUSE_S,
    RECOVERY_S,
    SAME_REFUSAL_S,
    SECOND_US,
    SLOWEST,
    BudgetState,
    BudgetTerms,
    hold,
    refuse,
    take,
    terms_of,
)
from candlewick.market.budget_file import SharedBudget, budget_folder, budget_name
from tests.emulator.faults import Fault
from tests.emulator.server import Emulator
from tests.emulator_fixture import HOUR_MS, exchange_block

ROOT = Path(__file__).resolve().parents[1]
NOW_US = 1_800_000_000 * SECOND_US
BINANCE = terms_of(50.0, 60.0, None)  # 1,200 units of cost a minute
KRAKEN = terms_of(1000.0, 10.0, None)  # 10 units in ten seconds
OWN_RATE = terms_of(50.0, 60.0, 8.0)

arrivals = st.lists(
    st.tuples(
        st.integers(0, 3 * SECOND_US), st.sampled_from([0.2, 0.4, 1.0, 4.0, 10.0]), st.sampled_from([BINANCE, KRAKEN, OWN_RATE])
    ),
    min_size=1,
    max_size=60,
)


def grants(requests: list[tuple[int, float, BudgetTerms]], state: BudgetState | None = None) -> list[tuple[int, int]]:
    """When each request is sent and what of the line it takes (µs), for requests that come ``after`` one another."""
    state, now_us, granted = state or BudgetState(), NOW_US, []
    for after_us, cost, terms in requests:
        now_us += after_us
        state, wait_us = take(state, cost, terms, now_us)
        granted.append((now_us + wait_us, terms.charge_us(cost)))
    return granted


# -- the arithmetic


@given(arrivals)
def test_in_no_stretch_of_time_is_more_granted_than_the_burst_and_the_rate_times_the_stretch(requests):
    granted = grants(requests)
    burst_us = max(max(terms.burst_us for _, _, terms in requests), max(charge_us for _, charge_us in granted))
    for first in range(len(granted)):
        taken_us = 0
        for last in range(first, len(granted)):
            taken_us += granted[last][1]
            assert taken_us <= granted[last][0] - granted[first][0] + burst_us


@pytest.mark.parametrize(
    ("terms", "cost", "window_s", "published"),
    [(BINANCE, 2.0, 60, 1200), (BINANCE, 1.0, 60, 1200), (BINANCE, 10.0, 60, 1200), (KRAKEN, 1.0, 10, 10)],
)
def test_a_window_never_gets_more_than_the_exchange_publishes_for_it(terms, cost, window_s, published):
    greedy = [at_us for at_us, _ in grants([(0, cost, terms)] * (2 * round(published / cost)))]
    for first_us in greedy:
        sent = sum(cost for at_us in greedy if first_us <= at_us < first_us + window_s * SECOND_US)
        assert sent <= published * (1 + 1e-9)
    in_the_first = sum(cost for at_us in greedy if at_us < NOW_US + window_s * SECOND_US)
    assert in_the_first >= 0.99 * published, "the budget is there to be used"


@given(arrivals)
def test_requests_are_sent_in_the_order_in_which_they_asked(requests):
    times = [at_us for at_us, _ in grants(requests)]
    assert all(earlier <= later for earlier, later in pairwise(times))


def test_an_own_rate_is_evenly_spaced():
    times = [at_us for at_us, _ in grants([(0, 1.0, OWN_RATE)] * 5)]
    assert [later - earlier for earlier, later in pairwise(times)] == [SECOND_US // 8] * 4


def test_the_stricter_of_an_own_rate_and_the_exchanges_holds():
    assert terms_of(1000.0, 10.0, 50.0).charge_us(1.0) == KRAKEN.charge_us(1.0)
    assert terms_of(50.0, 60.0, 2.0).charge_us(0.4) == SECOND_US // 2


def test_a_refusal_halves_the_pace_once_for_all_that_were_under_way_and_it_recovers_evenly():
    state = refuse(BudgetState(), 0.0, BINANCE, NOW_US)
    for later_us in range(0, SAME_REFUSAL_S * SECOND_US, SECOND_US):
        state = refuse(state, 0.0, BINANCE, NOW_US + later_us)
    assert state.pace_at(NOW_US) == 0.5
    quarter_us = RECOVERY_S * SECOND_US // 4
    assert [state.pace_at(NOW_US + n * quarter_us) for n in (0, 1, 2, 3)] == [0.5, 0.75, 1.0, 1.0]
    again = refuse(state, 0.0, BINANCE, NOW_US + quarter_us)
    assert again.pace_at(NOW_US + quarter_us) == 0.375


def test_a_slower_pace_makes_everybody_wait_longer():
    slow = refuse(BudgetState(), 0.0, KRAKEN, NOW_US)
    times = [at_us for at_us, _ in grants([(0, 1.0, KRAKEN)] * 3, slow)]
    assert all(later - earlier == 2 * KRAKEN.charge_us(1.0) for earlier, later in pairwise(times))


@given(st.integers(1, 40), st.floats(0, 60))
def test_the_pace_never_stops(refusals, pause_s):
    state, now_us = BudgetState(), NOW_US
    for _ in range(refusals):
        state = refuse(state, pause_s, BINANCE, now_us)
        now_us = max(state.paused_until_us, now_us) + (SAME_REFUSAL_S + 1) * SECOND_US
    assert SLOWEST <= state.pace <= 1.0


def test_after_a_pause_the_requests_are_spaced_from_the_first_on():
    paused = refuse(BudgetState(), 30.0, BINANCE, NOW_US)
    assert take(paused, 1.0, BINANCE, NOW_US + SECOND_US)[1] == 0, "what is not going to be sent does not wait"
    assert paused.pause_left_us(NOW_US + 10 * SECOND_US) == 20 * SECOND_US
    times = [at_us for at_us, _ in grants([(30 * SECOND_US, 1.0, BINANCE)] + [(0, 1.0, BINANCE)] * 9, paused)]
    assert all(later - earlier == 2 * BINANCE.charge_us(1.0) for earlier, later in pairwise(times))


def test_a_pause_without_end_is_believed_for_three_days():
    assert refuse(BudgetState(), 1e9, BINANCE, NOW_US).pause_left_us(NOW_US) == LONGEST_PAUSE_S * SECOND_US


def test_while_others_have_used_up_the_minute_nothing_is_granted_before_the_next():
    state = hold(BudgetState(), NOW_US + 20 * SECOND_US, NOW_US)
    assert take(state, 1.0, BINANCE, NOW_US)[1] == 20 * SECOND_US


@given(arrivals, st.integers(1, 10**12))
def test_nobody_waits_for_a_clock_that_was_set_back(requests, back_us):
    state = BudgetState()
    for after_us, cost, terms in requests:
        state, _ = take(state, cost, terms, NOW_US + after_us)
    punctual, punctual_us = take(state, 1.0, BINANCE, state.seen_us)
    moved, moved_us = take(state, 1.0, BINANCE, state.seen_us - back_us)
    assert moved_us == punctual_us
    assert moved.taken_until_us == punctual.taken_until_us - back_us


# -- the file


@pytest.mark.parametrize(
    "damage", [b"", b"\0" * 68, b"budget 1", b"x" * 4000, os.urandom(68)], ids=["empty", "zeros", "torn", "foreign", "noise"]
)
def test_a_damaged_budget_is_a_fresh_one(tmp_path, damage):
    SharedBudget("binance", tmp_path).refuse(60.0, BINANCE)
    assert SharedBudget("binance", tmp_path).pause_left_s() > 0
    (tmp_path / "binance").write_bytes(damage)
    assert SharedBudget("binance", tmp_path).pause_left_s() == 0
    SharedBudget("binance", tmp_path).refuse(60.0, BINANCE)
    assert SharedBudget("binance", tmp_path).pause_left_s() > 0


def test_every_bit_that_flips_is_noticed(tmp_path):
    SharedBudget("binance", tmp_path).refuse(60.0, BINANCE)
    good = (tmp_path / "binance").read_bytes()
    for position in range(len(good)):
        (tmp_path / "binance").write_bytes(good[:position] + bytes([good[position] ^ 4]) + good[position + 1 :])
        assert SharedBudget("binance", tmp_path).pause_left_s() == 0


def test_a_folder_that_cannot_be_used_is_told_once_and_the_process_keeps_a_budget_of_its_own(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    with caplog.at_level(logging.WARNING):
        budget = SharedBudget("binance", tmp_path / "file" / "budgets")
        waits_s = [budget.take(1.0, KRAKEN) for _ in range(3)]
    assert waits_s[0] == 0
    assert waits_s[1] > 0
    assert caplog.text.count("is not shared with other processes") == 1


def test_a_budget_that_is_removed_while_in_use_begins_afresh(tmp_path):
    budget = SharedBudget("binance", tmp_path / "budgets")
    assert [budget.take(1.0, KRAKEN) > 0 for _ in range(2)] == [False, True]
    (tmp_path / "budgets" / "binance").unlink()
    (tmp_path / "budgets").rmdir()
    assert budget.take(1.0, KRAKEN) == 0


def test_the_budgets_are_this_users_alone_and_unused_ones_go(tmp_path):
    folder = tmp_path / "candlewick" / "budgets"
    SharedBudget("old", folder).take(1.0, KRAKEN)
    SharedBudget("young", folder).take(1.0, KRAKEN)
    assert (folder.stat().st_mode & 0o777, (folder / "old").stat().st_mode & 0o777) == (0o700, 0o600)
    a_week_ago_s = time.time() - 8 * 86_400
    os.utime(folder / "old", (a_week_ago_s, a_week_ago_s))
    SharedBudget("new", folder).take(1.0, KRAKEN)
    assert sorted(path.name for path in folder.iterdir()) == ["new", "young"]


def test_exchanges_addresses_and_test_networks_have_budgets_of_their_own():
    names = {
        budget_name(*key)
        for key in (
            ("binance", "", False),
            ("binance", "", True),
            ("kraken", "", False),
            ("binance", "h:1", False),
            ("binance", "h:2", False),
        )
    }
    assert len(names) == 5


# -- processes


class LimitedExchange:
    """Tells the time to at most ``limit`` requests in any second, answers 429 beyond, and bans (418) who goes on asking."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.statuses: list[int] = []
        self.times_s: list[float] = []
        self.used_weight = "1"
        self._ready = threading.Event()

    def __enter__(self) -> "LimitedExchange":
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_error: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        (budget_folder() / self.budget_name).unlink(missing_ok=True)

    @property
    def budget_name(self) -> str:
        return budget_name("binance", self.url.removeprefix("http://"), False)

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        app = web.Application()
        app.router.add_get("/api/v3/time", self._time)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        (budget_folder() / self.budget_name).unlink(missing_ok=True)
        self._ready.set()
        await self._stop.wait()
        await runner.cleanup()

    async def _time(self, _request: web.Request) -> web.Response:
        now_s = time.monotonic()
        in_this_second = sum(1 for at_s in self.times_s if at_s > now_s - 1)
        self.times_s.append(now_s)
        refused = in_this_second >= self.limit
        self.statuses.append((418 if 429 in self.statuses else 429) if refused else 200)
        headers = {"Retry-After": "1"} if refused else {}
        limits = [{"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 1000}]
        body = {"serverTime": round(time.time() * 1000), "rateLimits": limits}
        return web.json_response(body, status=self.statuses[-1], headers=headers | {"X-MBX-USED-WEIGHT-1M": self.used_weight})


@pytest.fixture
def exchange() -> Iterator[LimitedExchange]:
    with LimitedExchange(limit=80) as server:
        yield server


def child(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.budget_processes", *arguments]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command, cwd=ROOT, text=True, **pipes)


def test_three_processes_together_never_exceed_the_limit_and_none_is_refused(exchange):
    # Forty a second are their budget. Were it a budget for each, 120 would come in the first second.
    children = [child(exchange.url, "40", "40") for _ in range(3)]
    for one in children:
        assert one.stdout is not None
        assert one.stdout.readline() == "ready\n"
    for one in children:
        assert one.stdin is not None
        one.stdin.write("go\n")
        one.stdin.flush()
    answered = [one.communicate(timeout=120)[0] for one in children]
    assert answered == ["40\n"] * 3
    assert set(exchange.statuses) == {200}


def test_a_process_that_is_killed_while_it_holds_the_budget_frees_it(exchange):
    holder = child("--hold", exchange.budget_name)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    other = SharedBudget(exchange.budget_name)
    with pytest.raises(TimeoutError), other._locked():
        pass
    assert other.take(1.0, KRAKEN) == 0, "who is kept from it has a budget of his own"
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with other._locked():
        pass


def test_a_pause_that_one_process_was_told_holds_the_others(made_up_exchange: Emulator):
    made_up_exchange.misbehave(Fault("http", status=429, retry_after_s=60, path="/time"))
    told = child(made_up_exchange.url, "1", "50").communicate("go\n", timeout=120)[0]
    assert told == "ready\nasked for a pause for 60 s (HTTP 429)\n"

    async def ask(**settings: object) -> None:
        async with open_exchange(exchange_block(made_up_exchange, **settings)) as market:
            await market.fetch("BTC/USDT", "1h", made_up_exchange.clock_ms() - HOUR_MS, made_up_exchange.clock_ms())

    for settings in ({"rate_limit": False}, {"rate_limit": True}):
        with pytest.raises(RateLimited, match=r"asked for a pause, of which .* and was not asked again") as caught:
            asyncio.run(ask(**settings))
        assert 0 < (caught.value.retry_after_s or 0) <= 60
    assert [request.path for request in made_up_exchange.requests()] == ["/api/v3/time"]


def test_weight_that_other_programs_used_up_holds_the_budget_until_the_minute_ends(exchange):
    async def ask() -> None:
        async with open_exchange(Exchange(exchange_id="binance", api_url=exchange.url)) as market:
            await market.clock()

    exchange.used_weight = "969"
    asyncio.run(ask())
    assert SharedBudget(exchange.budget_name).take(0.0, BINANCE) == 0
    exchange.used_weight = "970"
    asyncio.run(ask())
    assert 0 < SharedBudget(exchange.budget_name).take(0.0, BINANCE) <= 60


def test_the_wait_for_the_budget_is_not_taken_for_a_wrong_clock(exchange):
    async def ask() -> list[MarketClock]:
        async with open_exchange(Exchange(exchange_id="binance", api_url=exchange.url, requests_per_s=0.7)) as market:
            return [await market.clock() for _ in range(2)]

    assert [abs(clock.skew_ms) < 400 for clock in asyncio.run(ask())] == [True, True]


def test_the_weight_of_a_minute_is_read_from_exchange_info():
    of_a_minute = {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 6000}
    raw = {"rateLimitType": "RAW_REQUESTS", "interval": "MINUTE", "intervalNum": 5, "limit": 61000}
    assert published_weight({"rateLimits": [raw, of_a_minute]}) == 6000
    assert [published_weight(parsed) for parsed in ({"rateLimits": [raw]}, {}, [], None)] == [None] * 4


def test_an_own_rate_holds_where_the_exchanges_is_switched_off(exchange):
    market = open_exchange(Exchange(exchange_id="binance", api_url=exchange.url, rate_limit=False, requests_per_s=0.5))

    async def ask() -> None:
        async with market:
            await market.clock()

    asyncio.run(ask())
    assert 1 < SharedBudget(exchange.budget_name).take(0.0, OWN_RATE) <= 2


def test_without_a_rate_limit_nothing_is_awaited(exchange):
    exchange.limit = 10_000
    market = open_exchange(Exchange(exchange_id="binance", api_url=exchange.url, rate_limit=False))

    async def ask() -> None:
        async with market:
            await asyncio.gather(*(market.clock() for _ in range(20)))

    asyncio.run(ask())
    assert SharedBudget(exchange.budget_name).take(0.0, KRAKEN) == 0
    assert not market._client.enableRateLimit
