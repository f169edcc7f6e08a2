"""Bootstrap bands and reordered trades, against enumeration, hand arithmetic and slow loops."""

import json
import math
from itertools import pairwise, permutations, product
from statistics import fmean, stdev

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from candlewick import resampling
from candlewick.errors import UsageError
from candlewick.metrics import Measure
from candlewick.moments import FloatArray
from candlewick.resampling import OrderRisk, bootstrap_equity, resample_trades, shuffle_trades


def number(figure: Measure) -> float:
    assert figure.value is not None, figure.reason
    return float(figure.value)


def curve(periods: int = 200, seed: int = 0) -> FloatArray:
    returns = np.random.default_rng(seed).normal(0.001, 0.02, periods)
    grown: FloatArray = 1_000 * np.cumprod(np.concatenate(([1.0], 1 + returns)))
    return grown


def slow_fall(growth: list[float]) -> float:
    peak, deepest = 1.0, 0.0
    for value in growth:
        peak = max(peak, value)
        deepest = max(deepest, (peak - value) / peak)
    return min(deepest, 1.0)


def slow_growth(results: list[float], compounding: bool) -> list[float]:
    level, growth = 1.0, []
    for result in results:
        if level > 0:
            level = max(0.0, level * (1 + result) if compounding else level + result)
        growth.append(level)
    return growth


# ------------------------------------------------------------------------------------------------- bootstrap


@pytest.mark.parametrize("mean_block", [1.0, 6.0])
def test_bands_are_the_quantiles_of_curves_walked_slowly(mean_block: float) -> None:
    equity, draws = curve(60), 50
    answer = bootstrap_equity(equity, periods_per_year=365, seed=3, draws=draws, mean_block=mean_block)
    returns = [later / earlier - 1 for earlier, later in pairwise(equity.tolist())]
    (indices,) = resampling._stationary_indices(60, mean_block, draws, 3)
    rows = [[returns[place] for place in row] for row in indices.tolist()]
    curves = [slow_growth(row, compounding=True) for row in rows]
    for name, quantile in (("p05", 0.05), ("p50", 0.5), ("p95", 0.95)):
        for place in (1, 30, 60):
            expected = 1_000 * float(np.quantile([growth[place - 1] for growth in curves], quantile))
            assert answer.bands[name][place] == pytest.approx(expected, rel=1e-12)
        sharpes = [fmean(row) / stdev(row) * math.sqrt(365) for row in rows]
        assert number(answer.sharpe.quantiles[name]) == pytest.approx(float(np.quantile(sharpes, quantile)), rel=1e-9)
        falls = [slow_fall(growth) for growth in curves]
        assert number(answer.max_drawdown.quantiles[name]) == pytest.approx(float(np.quantile(falls, quantile)), rel=1e-9)
        finals = [growth[-1] - 1 for growth in curves]
        assert number(answer.final_return.quantiles[name]) == pytest.approx(float(np.quantile(finals, quantile)), abs=1e-12)
    assert answer.places == tuple(range(61))
    assert {band[0] for band in answer.bands.values()} == {1_000.0}
    assert number(answer.final_return.observed) == pytest.approx(equity[-1] / 1_000 - 1, rel=1e-12)
    assert number(answer.sharpe.observed) == pytest.approx(fmean(returns) / stdev(returns) * math.sqrt(365), rel=1e-9)
    assert number(answer.max_drawdown.observed) == pytest.approx(slow_fall((equity[1:] / 1_000).tolist()), rel=1e-9)


def test_one_endless_block_only_turns_the_years_around() -> None:
    equity = curve(50)
    answer = bootstrap_equity(equity, periods_per_year=365, seed=1, mean_block=1e18)
    finals = {round(number(figure), 12) for figure in answer.final_return.quantiles.values()}
    assert finals == {round(equity[-1] / equity[0] - 1, 12)}
    (rows,) = resampling._stationary_indices(50, 1e18, 20, 1)
    assert {tuple(row) for row in (rows - rows[:, :1]) % 50} == {tuple(range(50))}


@pytest.mark.parametrize("mean_block", [1.0, 4.0, 25.0])
def test_blocks_are_as_long_as_asked_for_on_average_and_begin_anywhere(mean_block: float) -> None:
    (rows,) = resampling._stationary_indices(200, mean_block, 1_000, 5)
    goes_on = (rows[:, 1:] == (rows[:, :-1] + 1) % 200).mean()
    assert goes_on == pytest.approx(1 - 1 / mean_block + 1 / mean_block / 200, abs=0.005)
    counts = np.bincount(rows.ravel(), minlength=200)
    assert counts.min() > 0.7 * counts.mean()


def test_the_default_block_is_the_cube_root_of_the_periods() -> None:
    assert bootstrap_equity(curve(1_000), periods_per_year=365, seed=1, draws=5).mean_block == 10


def test_a_curve_that_grows_evenly_has_bands_on_the_curve_and_no_sharpe_ratio() -> None:
    equity: FloatArray = 100 * 2.0 ** np.arange(8)
    answer = bootstrap_equity(equity, periods_per_year=365, seed=1, draws=20)
    assert all(band == tuple(equity.tolist()) for band in answer.bands.values())
    assert answer.sharpe.observed == Measure(None, "equity did not move")
    assert (answer.sharpe.drawn, answer.sharpe.quantiles) == (0, {})


@given(st.integers(0, 1_000), st.integers(2, 80), st.floats(1, 20))
@settings(deadline=None, max_examples=40)
def test_bands_are_ordered_finite_and_the_same_for_the_same_seed(seed: int, periods: int, mean_block: float) -> None:
    equity = curve(periods, seed)
    answer = bootstrap_equity(equity, periods_per_year=365, seed=seed, draws=30, mean_block=mean_block)
    assert bootstrap_equity(equity, periods_per_year=365, seed=seed, draws=30, mean_block=mean_block) == answer
    bands = [answer.bands[name] for name in ("p05", "p25", "p50", "p75", "p95")]
    for lower, upper in pairwise(bands):
        assert all(low <= high for low, high in zip(lower, upper, strict=True))
    assert all(math.isfinite(level) for band in bands for level in band)
    falls = [number(figure) for figure in answer.max_drawdown.quantiles.values()]
    assert falls == sorted(falls)
    assert 0 <= falls[0] <= falls[-1] < 1
    assert json.loads(json.dumps(answer.to_document()))["draws"] == 30


def test_another_seed_draws_other_curves() -> None:
    first, second = (bootstrap_equity(curve(), periods_per_year=365, seed=seed, draws=30) for seed in (1, 2))
    assert first.bands != second.bands


def test_memory_does_not_change_what_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    def answers() -> tuple[object, ...]:
        results = np.random.default_rng(1).normal(5, 50, 40)
        return (
            bootstrap_equity(curve(), periods_per_year=365, seed=9, draws=50),
            shuffle_trades(results, 1_000, seed=9, draws=50),
            resample_trades(results, 1_000, seed=9, draws=50),
        )

    whole = answers()
    monkeypatch.setattr(resampling, "_CELLS_AT_ONCE", 410)
    assert answers() == whole
    monkeypatch.setattr(resampling, "_CELLS_AT_ONCE", 1)
    assert answers() == whole


def test_a_long_curve_has_its_bands_thinned_with_both_ends_kept() -> None:
    answer = bootstrap_equity(curve(3_000), periods_per_year=365, seed=1, draws=5)
    assert len(answer.places) == resampling.MAX_BAND_POINTS == len(answer.bands["p05"])
    assert (answer.places[0], answer.places[-1]) == (0, 3_000)


def test_many_draws_have_fewer_places_so_that_memory_stays_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resampling, "_BAND_CELLS", 100)
    answer = bootstrap_equity(curve(300), periods_per_year=365, seed=1, draws=20)
    assert answer.places == (0, 75, 150, 225, 300)


@pytest.mark.parametrize(
    ("equity", "reason"),
    [
        ([], "there are 0 equity values; a resampling needs three"),
        ([1_000.0, 1_001.0], "there are 2 equity values; a resampling needs three"),
        ([1_000.0, 0.0, 1_000.0], "equity fell to zero"),
        ([1_000.0, -5.0, 1_000.0], "equity fell to zero"),
        ([1e-300, 1.0, 1e300], "equity grows beyond the range of numbers"),
    ],
)
def test_where_bands_mean_nothing_they_are_empty_with_a_reason(equity: list[float], reason: str) -> None:
    answer = bootstrap_equity(np.array(equity), periods_per_year=365, seed=1, draws=50)
    assert (answer.bands, answer.reason) == ({}, reason)
    assert answer.max_drawdown.observed == Measure(None, reason)
    assert json.loads(json.dumps(answer.to_document()))["reason"] == reason


@pytest.mark.parametrize(
    ("draws", "mean_block", "said"),
    [(0, None, "draws is 0; it must be 1 to 100,000"), (10**9, None, "draws is 1000000000"), (5, 0.5, "mean block is 0.5")],
)
def test_senseless_requests_are_refused(draws: int, mean_block: float | None, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        bootstrap_equity(curve(), periods_per_year=365, seed=1, draws=draws, mean_block=mean_block)


def test_equity_that_is_no_number_is_refused() -> None:
    with pytest.raises(UsageError, match=r"equity must be finite numbers; equity\[2\] is nan"):
        bootstrap_equity(np.array([1.0, 2.0, math.nan]), periods_per_year=365, seed=1)


# ------------------------------------------------------------------------------------------------- order of the trades

WON_AND_LOST = (400.0, -300.0, 250.0, -200.0, -100.0)


def is_median(drawn: Measure, exact: list[float]) -> bool:
    """Between the neighbouring quantiles: where the median falls between two values, draws may give either."""
    return np.quantile(exact, 0.47) - 1e-9 <= number(drawn) <= np.quantile(exact, 0.53) + 1e-9


def check_against_all(answer: OrderRisk, results: list[float], orders: list[tuple[int, ...]], compounding: bool) -> None:
    """Probabilities and medians over draws are near those over all orders."""
    walks = [slow_growth([results[place] for place in order], compounding) for order in orders]
    falls = [slow_fall(growth) for growth in walks]
    for limit, probability in answer.deeper_than.items():
        assert number(probability) == pytest.approx(fmean(fall > float(limit) for fall in falls), abs=0.02)
    assert is_median(answer.max_drawdown.quantiles["p50"], falls)
    assert number(answer.loss_probability) == pytest.approx(fmean(growth[-1] < 1 - 1e-12 for growth in walks), abs=0.02)
    assert number(answer.ruin_probability) == pytest.approx(fmean(fall >= 1 for fall in falls), abs=0.02)
    under = [fmean(level < max(1.0, *growth[: place + 1]) - 1e-12 for place, level in enumerate(growth)) for growth in walks]
    assert is_median(answer.under_water_share.quantiles["p50"], under)


@pytest.mark.parametrize("compounding", [True, False])
@pytest.mark.parametrize("cash", [1_000.0, 500.0])
def test_shuffled_and_resampled_trades_are_near_all_their_orders_enumerated(compounding: bool, cash: float) -> None:
    pnl = np.array(WON_AND_LOST)
    before = [cash + sum(WON_AND_LOST[:place]) for place in range(5)]
    results = [value / (before[place] if compounding else cash) for place, value in enumerate(WON_AND_LOST)]
    limits = (0.15, 0.35, 0.55, 0.75)
    shuffled = shuffle_trades(pnl, cash, seed=4, draws=20_000, compounding=compounding, limits=limits)
    check_against_all(shuffled, results, list(permutations(range(5))), compounding)
    resampled = resample_trades(pnl, cash, seed=4, draws=20_000, compounding=compounding, limits=limits)
    check_against_all(resampled, results, list(product(range(5), repeat=5)), compounding)


def test_what_happened_is_the_trades_in_their_own_order() -> None:
    # 1000, 1400, 1100, 1350, 1150, 1050: the peak 1400 falls to 1050, a quarter; four trades in a row are under water.
    answer = shuffle_trades(np.array(WON_AND_LOST), 1_000, seed=1, draws=100)
    assert number(answer.max_drawdown.observed) == pytest.approx(0.25, rel=1e-12)
    assert number(answer.longest_under_water.observed) == 4
    assert number(answer.under_water_share.observed) == 0.8
    assert number(answer.final_return.observed) == pytest.approx(0.05, rel=1e-12)
    fixed = shuffle_trades(np.array(WON_AND_LOST), 1_000, seed=1, draws=100, compounding=False)
    assert number(fixed.max_drawdown.observed) == pytest.approx(0.25, rel=1e-12)


def test_time_under_water_is_the_longest_stretch_and_not_the_sum() -> None:
    answer = shuffle_trades(np.array([-10.0, 20.0, -10.0, -10.0, 15.0, 30.0]), 1_000, seed=1, draws=1, compounding=False)
    assert number(answer.longest_under_water.observed) == 3
    assert number(answer.under_water_share.observed) == pytest.approx(4 / 6)


@given(st.lists(st.floats(-90, 200), min_size=2, max_size=30), st.booleans(), st.integers(0, 99))
@settings(deadline=None, max_examples=60)
def test_every_order_of_the_same_trades_ends_with_the_same_equity(pnl: list[float], compounding: bool, seed: int) -> None:
    cash = 100.0 * len(pnl)
    answer = shuffle_trades(np.array(pnl), cash, seed=seed, draws=40, compounding=compounding)
    if answer.final_return.observed.value is None or number(answer.ruin_probability) > 0:
        return
    happened = number(answer.final_return.observed)
    assert happened == pytest.approx(sum(pnl) / cash, abs=1e-9)
    assert [number(figure) for figure in answer.final_return.quantiles.values()] == pytest.approx([happened] * 5, abs=1e-9)
    assert shuffle_trades(np.array(pnl), cash, seed=seed, draws=40, compounding=compounding) == answer
    assert json.loads(json.dumps(answer.to_document()))["trades"] == len(pnl)


def test_trades_that_all_win_are_never_under_water() -> None:
    answer = shuffle_trades(np.array([1.0, 2.0, 3.0]), 10, seed=1, draws=100)
    assert number(answer.max_drawdown.quantiles["p95"]) == 0
    assert number(answer.longest_under_water.quantiles["p95"]) == 0
    assert [number(figure) for figure in answer.deeper_than.values()] == [0, 0, 0, 0]
    assert number(answer.as_deep_probability) == 1


def test_equal_trades_are_the_same_in_every_order() -> None:
    answer = shuffle_trades(np.array([-10.0, -10.0, -10.0]), 100, seed=1, draws=50, compounding=False)
    assert number(answer.as_deep_probability) == 1
    assert number(answer.loss_probability) == 1
    assert number(answer.max_drawdown.quantiles["p05"]) == pytest.approx(0.3)
    assert number(answer.longest_under_water.observed) == 3


def test_a_ruined_account_does_not_trade_on() -> None:
    answer = resample_trades(np.array([-100.0, 500.0]), 90, seed=1, draws=4_000, compounding=False)
    # Ruined: lost first (1/2). Otherwise it won first and cannot lose 590 any more.
    assert number(answer.ruin_probability) == pytest.approx(0.5, abs=0.03)
    assert number(answer.final_return.quantiles["p05"]) == -1
    assert answer.ruin_probability == answer.loss_probability


@pytest.mark.parametrize(
    ("pnl", "reason"),
    [
        ([], "there are 0 closed trades; an order needs two"),
        ([5.0], "there are 1 closed trades; an order needs two"),
        ([-100.0, 50.0], "equity was not above zero before trade 2, so its share of it is undefined"),
        ([1e200, 1e300], "equity grows beyond the range of numbers"),
    ],
)
def test_an_order_that_means_nothing_is_undefined_with_a_reason(pnl: list[float], reason: str) -> None:
    answer = resample_trades(np.array(pnl), 100, seed=1, draws=20)
    missing = Measure(None, reason)
    assert (answer.max_drawdown.observed, answer.ruin_probability) == (missing, missing)
    assert answer.deeper_than == dict.fromkeys(("0.1", "0.2", "0.3", "0.5"), missing)


@pytest.mark.parametrize(
    ("pnl", "cash", "limits", "said"),
    [
        ([1.0, math.inf], 100, (0.1,), r"trade results\[1\] is inf"),
        ([1.0, 2.0], 0, (0.1,), "initial cash is 0; it must be above 0"),
        ([1.0, 2.0], 100, (20.0,), "drawdown limit is 20; it must be a share from 0 to below 1, such as 0.2"),
    ],
)
def test_senseless_trades_are_refused(pnl: list[float], cash: float, limits: tuple[float, ...], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        shuffle_trades(np.array(pnl), cash, seed=1, limits=limits)
