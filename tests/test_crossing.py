"""Crosses of averages found in integers, against fractions and against the sign of each bar."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from candlewick import crossing, indicators
from tests.shared_data import real_candles

TICKS = st.lists(st.integers(1, 400), min_size=1, max_size=60) | st.lists(st.integers(1, 6), min_size=8, max_size=60)


def sweep_rows(units: np.ndarray, fast: int, slow: int) -> list[tuple[int, int]]:
    rows = np.full(max(0, units.size - slow) + 1, -7, dtype=np.int64)
    sides = np.full(rows.size, -7, dtype=np.int8)
    count = crossing.sma_cross_rows(crossing.prefix_sums(units), fast, slow, rows[:-1], sides[:-1])
    assert (rows[count:] == -7).all()
    return list(zip(rows[:count].tolist(), sides[:count].tolist(), strict=True))


def single_rows(closes: np.ndarray, fast: int, slow: int) -> list[tuple[int, int]]:
    rows, sides, exact = crossing.sma_crosses(closes, fast, slow)
    assert exact
    return list(zip(rows.tolist(), sides.tolist(), strict=True))


def slow_rows(ticks: list[int], fast: int, slow: int) -> list[tuple[int, int]]:
    """The definition, in fractions: the sign differs from the last that was not 0."""
    crosses, last = [], 0
    for bar in range(slow - 1, len(ticks)):
        difference = Fraction(sum(ticks[bar + 1 - fast : bar + 1]), fast) - Fraction(sum(ticks[bar + 1 - slow : bar + 1]), slow)
        sign = (difference > 0) - (difference < 0)
        if sign and last and sign != last:
            crosses.append((bar, sign))
        last = sign or last
    return crosses


@given(ticks=TICKS, decimals=st.integers(0, 8), fast=st.integers(1, 8), more=st.integers(1, 9))
@example(ticks=[3, 2, 2, 1], decimals=0, fast=1, more=1)
@example(ticks=[3, 2, 2, 3], decimals=0, fast=1, more=1)
@settings(deadline=None, max_examples=300)
def test_crosses_are_those_of_exact_fractions(ticks: list[int], decimals: int, fast: int, more: int) -> None:
    expected = slow_rows(ticks, fast, fast + more)
    assert sweep_rows(np.array(ticks, dtype=np.int64), fast, fast + more) == expected
    assert single_rows(np.array([tick / 10**decimals for tick in ticks]), fast, fast + more) == expected


@pytest.mark.parametrize(("fast", "slow"), [(1, 2), (5, 20), (10, 30), (50, 200), (997, 2_000)])
@pytest.mark.parametrize("market", ["binance_BTCUSDT_1m", "binanceusdm_XLMUSDT_1m"])
def test_both_ways_find_the_crosses_that_the_signs_show_on_real_candles(market: str, fast: int, slow: int) -> None:
    closes = np.array(real_candles(market)["close"], dtype=np.float64)[:60_000]
    units = np.rint(closes * 1e8).astype(np.int64)
    assert crossing.fits(int(units.min()), int(units.max()), fast, slow)
    signs = indicators.sma_cross_sign(closes, fast, slow).astype(np.int8)
    turned = crossing.turns(signs)
    rows = np.flatnonzero(turned)
    assert rows.size > 10
    expected = list(zip(rows.tolist(), turned[rows].tolist(), strict=True))
    assert sweep_rows(units, fast, slow) == expected
    assert single_rows(closes, fast, slow) == expected


def test_ties_are_met_on_real_candles() -> None:
    closes = np.array(real_candles("binanceusdm_XLMUSDT_1m")["close"], dtype=np.float64)[:60_000]
    assert (indicators.sma_cross_sign(closes, 5, 20)[19:] == 0).sum() > 20


def test_sums_and_products_may_wrap_as_long_as_the_difference_fits() -> None:
    ticks = [tick + 2**60 for tick in (10, 9, 12, 12, 3, 3, 20, 1, 1, 30)]
    assert crossing.fits(min(ticks), max(ticks), 3, 7)
    assert sweep_rows(np.array(ticks, dtype=np.int64), 1, 3) == slow_rows(ticks, 1, 3)
    assert sweep_rows(np.array(ticks, dtype=np.int64), 2, 5) == slow_rows(ticks, 2, 5) != []


@pytest.mark.parametrize("bars", [4_096, 4_097, 4_103, 8_192])
def test_blocks_join_without_losing_or_doubling_a_cross(bars: int) -> None:
    ticks = np.random.default_rng(bars).integers(1, 50, bars + 2)
    assert sweep_rows(ticks, 1, 3) == slow_rows(ticks.tolist(), 1, 3)


def test_a_price_that_leaves_the_grid_is_left_to_the_signs() -> None:
    closes = np.array([1e-8] * 4 + [1e7] * 4 + [1.0] * 4)
    rows, sides, exact = crossing.sma_crosses(closes, 1, 2)
    assert (rows.size, sides.size, exact) == (0, 0, False)
    rows, sides, exact = crossing.sma_crosses(np.linspace(1.0, 99.0, 3_000), 1_999, 2_000)
    assert (rows.size, sides.size, exact) == (0, 0, False)


@pytest.mark.parametrize("bars", [0, 1, 2, 3])
def test_a_history_shorter_than_the_slow_average_crosses_nowhere(bars: int) -> None:
    closes = np.arange(1.0, bars + 1.0)
    assert single_rows(closes, 2, 4) == sweep_rows(closes.astype(np.int64), 2, 4) == []


def test_a_turn_is_a_sign_other_than_the_last_that_was_not_zero() -> None:
    signs = np.array([0, 0, -1, 0, -1, 1, 0, 1, -1, 0, 1], dtype=np.int8)
    assert crossing.turns(signs).tolist() == [0, 0, 0, 0, 0, 1, 0, 0, -1, 0, 1]
