"""Deflated Sharpe ratios and the probability of overfitting, against the papers' own numbers and slow computations."""

import json
import math
from itertools import combinations
from statistics import NormalDist, fmean, pvariance, stdev

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from candlewick import overfitting
from candlewick.errors import UsageError
from candlewick.metrics import Measure
from candlewick.moments import FloatArray, FloatMatrix, moments
from candlewick.overfitting import (
    backtest_overfitting,
    deflated_sharpe,
    expected_max_sharpe,
    independent_trials,
    minimum_track_record,
    probabilistic_sharpe,
    trial_sharpes_of,
)


def number(figure: Measure) -> float:
    assert figure.value is not None, figure.reason
    return float(figure.value)


def normal_returns(sets: int, periods: int, seed: int = 0) -> FloatMatrix:
    drawn: FloatMatrix = np.random.default_rng(seed).normal(0.0005, 0.01, (sets, periods))
    return drawn


# ------------------------------------------------------------------------------------------------- Sharpe ratios


@pytest.mark.parametrize(
    ("trials", "skewness", "kurtosis", "probability"), [(100, -3, 10, 0.9004), (46, -3, 10, 0.9505), (88, 0, 3, 0.9505)]
)
def test_the_example_of_the_deflated_sharpe_papers_authors(
    trials: int, skewness: float, kurtosis: float, probability: float
) -> None:
    """An annual Sharpe ratio of 2.5 over 1,250 days of 250 a year; the trials' annual Sharpe ratios have a variance of 1/2."""
    luck = number(expected_max_sharpe(trials, 0.5 / 250))
    deflated = probabilistic_sharpe(2.5 / math.sqrt(250), 1_250, skewness=skewness, kurtosis=kurtosis, benchmark=luck)
    assert round(number(deflated), 4) == probability
    if trials == 100:
        assert round(luck, 4) == 0.1132


@pytest.mark.parametrize(("skewness", "kurtosis", "probability"), [(0, 3, 0.982), (-2.448, 10.164, 0.913)])
def test_the_example_of_the_probabilistic_sharpe_papers_authors(skewness: float, kurtosis: float, probability: float) -> None:
    """Two years of months with a monthly Sharpe ratio of 0.458."""
    assert round(number(probabilistic_sharpe(0.458, 24, skewness=skewness, kurtosis=kurtosis)), 3) == probability


@pytest.mark.parametrize(
    ("periods_per_year", "skewness", "kurtosis", "years"),
    [(252, 0, 3, 2.73), (52, 0, 3, 2.83), (12, 0, 3, 3.24), (12, -0.72, 5.78, 4.99)],
)
def test_the_track_records_of_the_same_paper(periods_per_year: int, skewness: float, kurtosis: float, years: float) -> None:
    """An annual Sharpe ratio of 2 against a benchmark of 1, at 95 %."""
    year = math.sqrt(periods_per_year)
    needed = minimum_track_record(2 / year, skewness=skewness, kurtosis=kurtosis, benchmark=1 / year)
    assert round(number(needed) / periods_per_year, 2) == years


@given(st.floats(-0.5, 0.5), st.floats(-0.5, 0.5), st.floats(-2, 2), st.floats(0, 10))
@settings(deadline=None)
def test_a_track_record_of_the_minimum_length_has_just_the_confidence_asked_for(
    sharpe: float, benchmark: float, skewness: float, extra: float
) -> None:
    kurtosis = skewness**2 + 1.5 + extra
    needed = minimum_track_record(sharpe, skewness=skewness, kurtosis=kurtosis, benchmark=benchmark, confidence=0.9)
    if sharpe <= benchmark:
        assert needed.value is None
    elif needed.value is not None and number(needed) < 1e12:
        variance = 1 - skewness * sharpe + (kurtosis - 1) / 4 * sharpe**2
        statistic = (sharpe - benchmark) * math.sqrt(number(needed) - 1) / math.sqrt(variance)
        assert NormalDist().cdf(statistic) == pytest.approx(0.9, abs=1e-9)


def test_the_expected_maximum_is_near_that_of_many_draws_of_normal_numbers() -> None:
    drawn = np.random.default_rng(7).normal(0, 0.3, (20_000, 50)).max(axis=1)
    assert number(expected_max_sharpe(50, 0.09)) == pytest.approx(float(drawn.mean()), rel=0.02)


def test_one_trial_has_no_luck_and_more_trials_have_more() -> None:
    expected = [number(expected_max_sharpe(trials, 1.0)) for trials in (1, 1.2, 2, 3, 10, 1_000, 10**9)]
    assert expected[:2] == [0, 0]
    assert expected == sorted(expected)
    assert number(expected_max_sharpe(100, 0.0)) == 0


@pytest.mark.parametrize(("trials", "variance"), [(0.5, 1.0), (3, -1.0), (math.nan, 1.0), (3, math.inf)])
def test_an_impossible_number_of_trials_is_refused(trials: float, variance: float) -> None:
    with pytest.raises(UsageError, match="trials must be 1 or more and variance 0 or more"):
        expected_max_sharpe(trials, variance)


def test_numpys_numbers_are_numbers() -> None:
    assert expected_max_sharpe(np.float64(10), np.float64(0.5)) == expected_max_sharpe(10, 0.5)
    ours = probabilistic_sharpe(np.float64(0.1), 50, skewness=np.float64(0), kurtosis=np.float64(3))
    assert ours == probabilistic_sharpe(0.1, 50, skewness=0, kurtosis=3)


def test_undefined_probabilities_say_why() -> None:
    assert probabilistic_sharpe(0.1, 1, skewness=0, kurtosis=3).reason == "there are 1 returns; a Sharpe ratio needs two"
    assert "not above 0" in str(probabilistic_sharpe(1.0, 9, skewness=1.0, kurtosis=1.0).reason)
    assert "no track record is long enough" in str(minimum_track_record(0.1, skewness=0, kurtosis=3, benchmark=0.1).reason)
    with pytest.raises(UsageError, match="confidence is 1"):
        minimum_track_record(0.1, skewness=0, kurtosis=3, confidence=1.0)


def test_moments_are_those_of_the_textbook() -> None:
    values = np.array([1.0, 2.0, 2.0, 7.0])
    # mean 3; deviations -2, -1, -1, 4: squares sum to 22, cubes to 54, fourth powers to 274
    sample = moments(values)
    assert (sample.mean, sample.deviation) == (3.0, pytest.approx(math.sqrt(22 / 3), rel=1e-15))
    assert sample.skewness == pytest.approx((54 / 4) / (22 / 4) ** 1.5, rel=1e-14)
    assert sample.kurtosis == pytest.approx((274 / 4) / (22 / 4) ** 2, rel=1e-14)
    assert sample.sharpe == pytest.approx(3 / math.sqrt(22 / 3), rel=1e-15)


@pytest.mark.parametrize("level", [0.0, 0.1, -1e-9, 1e300])
def test_values_that_do_not_vary_have_no_sharpe_ratio(level: float) -> None:
    assert moments(np.full(7, level)).sharpe is None


def test_moments_of_the_smallest_returns_do_not_vanish() -> None:
    tiny = moments(np.array([1.0, 2.0, 2.0, 7.0]) * 1e-120)
    assert tiny.kurtosis == pytest.approx((274 / 4) / (22 / 4) ** 2, rel=1e-12)


def test_moments_refuse_what_is_not_a_sample() -> None:
    with pytest.raises(UsageError, match="moments need two values"):
        moments(np.array([1.0]))
    with pytest.raises(UsageError, match=r"returns must be finite numbers; returns\[1\] is nan"):
        moments(np.array([1.0, math.nan]))


def test_a_deflated_sharpe_ratio_is_put_together_from_returns_and_trials() -> None:
    returns = normal_returns(40, 500)
    sharpes = trial_sharpes_of(returns)
    assert sharpes.tolist() == pytest.approx([fmean(row) / stdev(row) for row in returns.tolist()], rel=1e-12)
    chosen = returns[int(np.argmax(sharpes))]
    answer = deflated_sharpe(chosen, sharpes, periods_per_year=365)
    row = chosen.tolist()
    sharpe, mean = fmean(row) / stdev(row), fmean(row)
    skewness = fmean((value - mean) ** 3 for value in row) / pvariance(row) ** 1.5
    kurtosis = fmean((value - mean) ** 4 for value in row) / pvariance(row) ** 2
    assert number(answer.skewness) == pytest.approx(skewness, rel=1e-9)
    assert number(answer.kurtosis) == pytest.approx(kurtosis, rel=1e-9)
    assert number(answer.sharpe_annualised) == pytest.approx(sharpe * math.sqrt(365), rel=1e-12)
    assert number(answer.trial_variance) == pytest.approx(stdev(sharpes.tolist()) ** 2, rel=1e-12)
    normal, gamma = NormalDist(), 0.5772156649015329
    luck = stdev(sharpes.tolist()) * ((1 - gamma) * normal.inv_cdf(1 - 1 / 40) + gamma * normal.inv_cdf(1 - 1 / (40 * math.e)))
    assert number(answer.expected_max) == pytest.approx(luck, rel=1e-9)
    statistic = (sharpe - luck) * math.sqrt(499) / math.sqrt(1 - skewness * sharpe + (kurtosis - 1) / 4 * sharpe**2)
    assert number(answer.deflated) == pytest.approx(normal.cdf(statistic), rel=1e-9)
    assert number(answer.deflated) < number(answer.probabilistic)
    assert number(answer.minimum_track_record) > 1
    assert json.loads(json.dumps(answer.to_document()))["periods"] == 500
    fewer = deflated_sharpe(chosen, sharpes, periods_per_year=365, trials=5)
    assert number(fewer.deflated) > number(answer.deflated)


def test_a_set_that_was_the_only_one_tried_is_deflated_by_nothing() -> None:
    row = normal_returns(1, 100)[0]
    answer = deflated_sharpe(row, trial_sharpes_of(row[None, :]), periods_per_year=365)
    assert answer.deflated == answer.probabilistic


def test_a_set_that_never_moved_has_no_deflated_sharpe_ratio() -> None:
    answer = deflated_sharpe(np.zeros(50), np.array([0.1, 0.2]), periods_per_year=365)
    assert answer.deflated == Measure(None, "the chosen set's returns did not vary")
    assert number(answer.expected_max) > 0
    with pytest.raises(UsageError, match="1 trial or more; there are 0"):
        deflated_sharpe(np.zeros(50), np.array([]), periods_per_year=365)


def test_independent_trials_follow_the_mean_correlation() -> None:
    returns = normal_returns(6, 400)
    returns[3] = returns[2] * 2 + 0.1
    correlations = np.corrcoef(returns)[np.triu_indices(6, 1)]
    mean = float(correlations.mean())
    assert mean > 0
    assert number(independent_trials(returns)) == pytest.approx(mean + (1 - mean) * 6, rel=1e-12)
    same: FloatMatrix = np.tile(returns[0], (5, 1))
    assert number(independent_trials(same)) == pytest.approx(1, rel=1e-12)
    assert number(independent_trials(np.vstack([returns, np.full(400, 0.1)]))) == pytest.approx(mean + (1 - mean) * 6, rel=1e-12)
    assert independent_trials(returns[:1]).reason == "the returns of 1 sets vary; a correlation needs two"


# ------------------------------------------------------------------------------------------------- cross-validation


def slow_overfitting(returns: FloatMatrix, blocks: int) -> tuple[list[float], list[float], list[float]]:
    """Relative ranks, Sharpe ratios in and out of sample: straight from the paper's steps, over whole lists."""
    sets, periods = returns.shape
    bounds = [block * periods // blocks for block in range(blocks + 1)]
    ranks, inside, outside = [], [], []
    for chosen in combinations(range(blocks), blocks // 2):
        train, test = list[float](), list[float]()
        for row in returns.tolist():
            halves: tuple[list[float], list[float]] = ([], [])
            for block in range(blocks):
                halves[block not in chosen].extend(row[bounds[block] : bounds[block + 1]])
            for half, sharpes in zip(halves, (train, test), strict=True):
                spread = stdev(half)
                sharpes.append(fmean(half) / spread if spread > 1e-12 else 0.0)
        best = train.index(max(train))
        below = sum(value < test[best] for value in test)
        equal = sum(value == test[best] for value in test)
        ranks.append((below + (equal + 1) / 2) / (sets + 1))
        inside.append(train[best])
        outside.append(test[best])
    return ranks, inside, outside


@pytest.mark.parametrize(("sets", "periods", "blocks"), [(2, 12, 2), (7, 61, 6), (20, 100, 8), (5, 83, 4)])
@pytest.mark.parametrize("seed", [0, 1])
def test_overfitting_is_that_of_the_papers_steps_taken_slowly(sets: int, periods: int, blocks: int, seed: int) -> None:
    returns = normal_returns(sets, periods, seed)
    returns[0, : periods // 2] = 0  # a set that does not trade in the first half
    ranks, inside, outside = slow_overfitting(returns, blocks)
    answer = backtest_overfitting(returns, blocks=blocks)
    assert answer.splits == len(ranks) == math.comb(blocks, blocks // 2)
    assert number(answer.probability) == sum(rank <= 0.5 for rank in ranks) / len(ranks)
    assert number(answer.loss_probability) == sum(value < 0 for value in outside) / len(outside)
    logits = [math.log(rank / (1 - rank)) for rank in ranks]
    assert number(answer.logit_quantiles["p25"]) == pytest.approx(float(np.quantile(logits, 0.25)), rel=1e-12)
    assert sum(answer.logit_counts) == len(ranks)
    assert [point[0] for point in answer.points] == pytest.approx(inside, rel=1e-9)
    assert [point[1] for point in answer.points] == pytest.approx(outside, rel=1e-9)
    if len(set(inside)) > 1:
        slope, intercept = np.polyfit(inside, outside, 1)
        assert number(answer.slope) == pytest.approx(float(slope), rel=1e-6)
        assert number(answer.intercept) == pytest.approx(float(intercept), rel=1e-6)
        assert number(answer.r_squared) == pytest.approx(float(np.corrcoef(inside, outside)[0, 1]) ** 2, rel=1e-6)


def test_three_sets_and_two_blocks_by_hand() -> None:
    # Every block has the deviation √2; the means are 2, 1, 0 in the first block and -2, 0, 1 in the second.
    returns = np.array([[1.0, 3.0, -3.0, -1.0], [0.0, 2.0, -1.0, 1.0], [-1.0, 1.0, 0.0, 2.0]])
    answer = backtest_overfitting(returns, blocks=2)
    # The best of each block is the worst of the other: rank 1 of 3, ω = 1/4, logit ln(1/3).
    assert number(answer.probability) == 1
    assert number(answer.logit_quantiles["p50"]) == pytest.approx(math.log(1 / 3), rel=1e-15)
    root = math.sqrt(2)
    assert answer.points == (pytest.approx((2 / root, -2 / root)), pytest.approx((1 / root, 0)))
    assert number(answer.loss_probability) == 0.5


def test_one_set_that_is_truly_better_is_not_overfitted() -> None:
    returns = normal_returns(50, 400)
    returns[17] += 0.02
    answer = backtest_overfitting(returns)
    assert (number(answer.probability), number(answer.loss_probability)) == (0, 0)
    assert answer.splits == 12_870
    assert len(answer.points) == overfitting.MAX_POINTS


def test_sets_that_all_end_where_they_began_are_overfitted_for_sure() -> None:
    """What one half gains, the other half loses, so the best in sample is the worst out of sample."""
    returns = normal_returns(50, 160)
    returns -= returns.mean(axis=1, keepdims=True)
    answer = backtest_overfitting(returns, blocks=8)
    assert number(answer.probability) > 0.9
    assert number(answer.slope) < -0.5


def test_noise_is_neither() -> None:
    probabilities = [number(backtest_overfitting(normal_returns(30, 240, seed), blocks=8).probability) for seed in range(40)]
    assert 0.4 < fmean(probabilities) < 0.6


@given(st.integers(0, 10_000), st.integers(2, 12), st.integers(16, 60))
@settings(deadline=None, max_examples=30)
def test_the_answer_does_not_depend_on_the_order_of_sets_scale_or_memory(seed: int, sets: int, periods: int) -> None:
    returns = normal_returns(sets, periods, seed)
    answer = backtest_overfitting(returns, blocks=8)
    order = np.random.default_rng(seed).permutation(sets)
    assert backtest_overfitting(returns[order], blocks=8).probability == answer.probability
    assert backtest_overfitting(returns * 4, blocks=8).probability == answer.probability
    twin = backtest_overfitting(np.asfortranarray(returns), blocks=8)
    assert twin == answer


def test_a_small_memory_gives_the_same_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    returns = normal_returns(30, 100)
    answer = backtest_overfitting(returns, blocks=10)
    monkeypatch.setattr(overfitting, "_CELLS_AT_ONCE", 7)
    assert backtest_overfitting(returns, blocks=10) == answer


def test_sets_with_the_same_returns_tie_exactly_and_share_their_rank() -> None:
    pair = normal_returns(2, 64, seed=3)
    returns: FloatMatrix = np.repeat(pair, [3, 2], axis=0)
    answer = backtest_overfitting(returns, blocks=4)
    # Either the three equal sets win (ranks 1 to 3 or 3 to 5 shared: 2 or 4), or the two (1.5 or 4.5), of 5 + 1.
    possible = {2 / 6, 4 / 6, 1.5 / 6, 4.5 / 6}
    ranks, _, _ = slow_overfitting(returns, 4)
    assert set(ranks) <= possible
    assert number(answer.probability) == sum(rank <= 0.5 for rank in ranks) / len(ranks)


def test_of_too_many_sets_a_sample_is_drawn_by_seed() -> None:
    returns = normal_returns(60, 64)
    first = backtest_overfitting(returns, blocks=4, max_sets=20, seed=5)
    assert (first.sets, first.sets_used) == (60, 20)
    assert backtest_overfitting(returns, blocks=4, max_sets=20, seed=5) == first
    assert backtest_overfitting(returns, blocks=4, max_sets=20, seed=6) != first
    drawn = np.sort(np.random.default_rng(5).choice(60, 20, replace=False))
    assert backtest_overfitting(returns[drawn], blocks=4).points == first.points


@pytest.mark.parametrize(
    ("returns", "reason"),
    [
        (np.ones((1, 100)), "there is 1 parameter set; a choice needs two"),
        (np.ones((3, 31)), "31 periods are too few for 16 blocks of two or more"),
        (np.tile(np.arange(64.0), (3, 1)), "all parameter sets have the same returns, so there was nothing to choose"),
    ],
)
def test_where_nothing_was_chosen_the_probability_is_undefined(returns: FloatMatrix, reason: str) -> None:
    answer = backtest_overfitting(returns)
    assert answer.probability == Measure(None, reason)
    assert json.loads(json.dumps(answer.to_document()))["slope"] == {"value": None, "reason": reason}


@pytest.mark.parametrize("blocks", [0, 1, 7, 22, -2])
def test_an_impossible_number_of_blocks_is_refused(blocks: int) -> None:
    with pytest.raises(UsageError, match=f"blocks is {blocks}; it must be an even number from 2 to 20"):
        backtest_overfitting(normal_returns(3, 100), blocks=blocks)


def test_returns_that_are_no_numbers_are_refused_with_their_place() -> None:
    returns = normal_returns(3, 100)
    returns[1, 4] = math.inf
    with pytest.raises(UsageError, match=r"returns must be finite numbers; returns\[1, 4\] is inf"):
        backtest_overfitting(returns)


def test_sets_that_never_traded_beside_others_count_as_a_sharpe_ratio_of_zero() -> None:
    returns = np.vstack([normal_returns(3, 64) - 0.02, np.zeros((1, 64))])
    answer = backtest_overfitting(returns, blocks=4)
    assert number(answer.probability) == 0
    assert set(answer.points) == {(0.0, 0.0)}
    assert answer.slope.reason == "the best set's Sharpe ratio was the same in every split"


def test_a_document_is_json() -> None:
    row: FloatArray = np.arange(64.0)
    answer = backtest_overfitting(np.vstack([row, row[::-1]]), blocks=4)
    assert json.loads(json.dumps(answer.to_document()))["splits"] == 6
