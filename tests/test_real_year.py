"""A year of real hourly candles of three symbols, traded through the flow in many cycles.

`make year` (CANDLEWICK_TEST_YEAR=daily) trades it in 365 daily cycles a strategy, `make test` in cycles of fifteen days and five
hours, so that they end at every hour of the day.
"""

import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from candlewick.results import CycleResult
from candlewick.rules import Rules
from tests.emulator.server import Emulator
from tests.emulator_fixture import HOUR_MS
from tests.paper_flow import SYMBOLS, Workplace, differences, folded, real_opens, real_windows, task_runs, trade

DAILY = os.environ.get("CANDLEWICK_TEST_YEAR") == "daily"
STEP = timedelta(days=1) if DAILY else timedelta(days=15, hours=5)
FIRST, LAST = datetime(2025, 4, 30, tzinfo=UTC), datetime(2026, 4, 30, tzinfo=UTC)
# Minutes after the hour: at a close, when no open is to be had yet, soon after it, and late in the bar.
MINUTES = (0, 1, 30, 59)
STRATEGIES = ("sma_cross", "fibonacci_golden_zone")


@dataclass(frozen=True, slots=True)
class Year:
    """One strategy's year, in cycles; the place holds the account `cycles` and, in a second lake and ledger, `at-once`."""

    place: Workplace
    once: Workplace
    results: tuple[CycleResult, ...]
    moments: tuple[datetime, ...]
    requests: tuple[int, ...]


def moments() -> tuple[datetime, ...]:
    count = -(-(LAST - FIRST) // STEP)
    wanted = [min(FIRST + STEP * number, LAST) for number in range(1, count + 1)]
    return tuple(moment + timedelta(minutes=MINUTES[number % len(MINUTES)]) for number, moment in enumerate(wanted, start=1))


@pytest.fixture(scope="module")
def traded() -> dict[str, Year]:
    """The years that were traded already, by strategy."""
    return {}


@pytest.fixture(params=STRATEGIES)
def year(
    request: pytest.FixtureRequest,
    traded: dict[str, Year],
    tmp_path_factory: pytest.TempPathFactory,
    real_exchange_server: Emulator,
    prefect_server: str,
) -> Year:
    strategy = str(request.param)
    if strategy not in traded:
        places = [Workplace(tmp_path_factory.mktemp(name)) for name in ("cycles", "at-once")]
        traded[strategy] = trade_year(strategy, real_exchange_server, *places)
    return traded[strategy]


def trade_year(strategy: str, exchange: Emulator, place: Workplace, once: Workplace) -> Year:
    exchange.clear()
    options = {
        "account": "year", "market": "binance", "symbols": list(SYMBOLS), "timeframe": "1h", "strategy": strategy,
        "since": f"{FIRST:%Y-%m-%d}",
    }  # fmt: skip
    results, requests = [], []
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("CANDLEWICK_TEST_YEAR", raising=False)  # settings refuse variables that begin as theirs do and are none
        patch.setenv("CANDLEWICK_EXCHANGES__BINANCE__API_URL", exchange.url)
        patch.setenv("CANDLEWICK_EXCHANGES__BINANCE__RATE_LIMIT", "false")
        for where, moment in [*((place, moment) for moment in moments()), (once, moments()[-1])]:
            for name, value in where.settings().items():
                patch.setenv(name, value)
            before = len(exchange.requests())
            results.append(trade(**options, until=f"{moment:%Y-%m-%dT%H:%M}"))
            requests.append(len(exchange.requests()) - before)
            assert (results[-1].status, results[-1].error) == ("success", None), f"the cycle at {moment}"
    return Year(place, once, tuple(results), moments(), tuple(requests))


def test_the_year_in_cycles_is_the_year_at_once_row_for_row(year: Year) -> None:
    cycles, once = (where.ledger.export_rows("year") for where in (year.place, year.once))
    assert differences(cycles, once) == []
    assert cycles["runs"].height == len(year.moments)
    assert once["runs"].height == 1


def test_the_year_is_what_the_pure_engine_makes_of_the_files(year: Year) -> None:
    loaded = year.place.ledger.load_account("year")
    assert loaded is not None
    last_ms = round(LAST.timestamp() * 1000)
    rows = folded(loaded.account, real_windows(loaded.account.anchor_ms, last_ms - HOUR_MS), real_opens(last_ms))
    assert differences(year.place.ledger.export_rows("year"), rows) == []


def test_the_books_of_the_year_hold_and_every_bar_has_its_equity(year: Year) -> None:
    year.place.ledger.check("year")
    rows = year.place.ledger.export_rows("year")
    assert rows["equity"].height == (LAST - FIRST) // timedelta(hours=1)
    assert rows["fills"].height > 50
    cash, value = (rows["equity"][name] for name in ("cash", "position_value"))
    assert (cash + value == rows["equity"]["equity"]).all()
    assert sum(result.data.bars for result in year.results[:-1] if result.data) == rows["equity"].height


def test_every_fill_is_inside_its_bar_and_slips_against_the_trader_only(year: Year) -> None:
    fills = year.place.ledger.export_rows("year")["fills"]
    first_ms, last_ms = round(FIRST.timestamp() * 1000), round(LAST.timestamp() * 1000)
    bars = pl.concat(
        frame.with_columns(
            pl.lit(symbol).alias("symbol"), pl.col("opened_at").cast(pl.Datetime("us", "UTC")).alias("bar_opened_at")
        )
        for symbol, frame in real_windows(first_ms, last_ms).items()
    )
    found = fills.join(bars.select("symbol", "bar_opened_at", "low", "high"), on=["symbol", "bar_opened_at"])
    assert found.height == fills.height
    reference, price = pl.col("reference_price").cast(pl.Float64), pl.col("price").cast(pl.Float64)
    outside = found.filter((reference < pl.col("low")) | (reference > pl.col("high")))
    assert outside.is_empty(), outside
    slipped = (price / reference - 1) * pl.when(pl.col("side") == "buy").then(1).otherwise(-1)
    tick = 0.01 / reference
    wrong = found.filter((slipped < -1e-12) | (slipped > float(Rules().slippage_bps) / 10_000 + tick))
    assert wrong.is_empty(), wrong


def test_a_cycle_asks_the_exchange_as_often_at_the_end_of_the_year_as_at_its_beginning(year: Year) -> None:
    cycles, once = year.requests[:-1], year.requests[-1]
    assert set(cycles) == {2 + len(SYMBOLS)}, "clock, rules, and one page a symbol"
    pages = -(-((LAST - FIRST) // timedelta(hours=1)) // 1000)
    assert once == 2 + len(SYMBOLS) * pages


def test_a_cycle_has_as_many_task_runs_for_a_year_as_for_a_few_days(year: Year, prefect_server: str) -> None:
    chosen = (year.results[0], year.results[len(year.results) // 2], year.results[-1])
    first, middle, last = (task_runs(prefect_server, result) for result in chosen)
    assert first == middle == last
