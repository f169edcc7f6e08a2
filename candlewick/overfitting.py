"""Was it skill or the best of many tries? Deflated Sharpe ratio, and probability of backtest overfitting.

Sharpe ratios are per period (not annualised) unless a name says otherwise, at a risk-free rate of 0. Undefined figures are None
with a reason.
"""

import math
from dataclasses import dataclass, replace
from itertools import combinations
from statistics import NormalDist

import numpy as np

from candlewick.errors import UsageError
from candlewick.json_text import Json, plain
from candlewick.metrics import Measure, measure
from candlewick.moments import FloatArray, FloatMatrix, IntArray, moments, quantile_measures, require_finite, share

EULER_MASCHERONI = 0.5772156649015329
DEFAULT_BLOCKS, MOST_BLOCKS = 16, 20
MAX_SETS = 1_000
"""Sets that the cross-validation looks at; of more, so many are drawn by seed."""
MAX_POINTS = 500
_CELLS_AT_ONCE = 200_000  # combinations × sets held in memory at a time: 1.6 MB an array
_FLAT = 1e-12
_NORMAL = NormalDist()
_SMALL_VARIANCE = "the Sharpe ratio's own variance is not above 0 with this skewness and kurtosis"

# ------------------------------------------------------------------------------------------------- Sharpe ratios


def probabilistic_sharpe(sharpe: float, periods: int, *, skewness: float, kurtosis: float, benchmark: float = 0.0) -> Measure:
    """Probability that the true Sharpe ratio is above ``benchmark``, from an estimate over ``periods`` returns.

    Φ((SR - SR*) √(n - 1) / √(1 - γ₃ SR + (γ₄ - 1)/4 SR²)), with γ₄ = 3 for normal returns: Bailey & López de Prado (2012), "The
    Sharpe Ratio Efficient Frontier", Journal of Risk 15(2), equation 9.
    """
    if periods < 2:
        return Measure(None, f"there are {periods} returns; a Sharpe ratio needs two")
    variance = _sharpe_variance(sharpe, skewness, kurtosis)
    if variance <= 0:
        return Measure(None, _SMALL_VARIANCE)
    return measure(_NORMAL.cdf((sharpe - benchmark) * math.sqrt(periods - 1) / math.sqrt(variance)))


def minimum_track_record(
    sharpe: float, *, skewness: float, kurtosis: float, benchmark: float = 0.0, confidence: float = 0.95
) -> Measure:
    """Returns needed until the Sharpe ratio is above ``benchmark`` with that confidence, if it stays as it is.

    1 + (1 - γ₃ SR + (γ₄ - 1)/4 SR²) (Z / (SR - SR*))²: Bailey & López de Prado (2012), as above, equation 13. Not rounded.
    """
    if not 0.5 < confidence < 1:
        raise UsageError(f"confidence is {confidence}; it must be above 0.5 and below 1")
    variance = _sharpe_variance(sharpe, skewness, kurtosis)
    if variance <= 0:
        return Measure(None, _SMALL_VARIANCE)
    if sharpe <= benchmark:
        return Measure(None, "the Sharpe ratio is not above the benchmark, so no track record is long enough")
    ratio = _NORMAL.inv_cdf(confidence) / (sharpe - benchmark)
    return measure(1 + variance * ratio * ratio)  # a power would raise where a product is infinite, which is undefined


def expected_max_sharpe(trials: float, variance: float) -> Measure:
    """The highest Sharpe ratio to expect of ``trials`` independent tries without any skill.

    √V ((1 - γ) Φ⁻¹(1 - 1/N) + γ Φ⁻¹(1 - 1/(N e))), γ = 0.5772…: Bailey & López de Prado (2014), "The Deflated Sharpe Ratio",
    Journal of Portfolio Management 40(5), equation 1. ``variance`` is that of the trials' Sharpe ratios. One trial expects 0; an
    approximation for few trials, so between 1 and 2 it is kept from falling below 0.
    """
    if trials < 1 or variance < 0 or not math.isfinite(trials) or not math.isfinite(variance):
        raise UsageError(f"trials is {trials} and variance {variance}; trials must be 1 or more and variance 0 or more")
    if trials == 1:
        return measure(0.0)
    first, second = -_NORMAL.inv_cdf(1 / trials), -_NORMAL.inv_cdf(1 / (trials * math.e))
    return measure(max(0.0, math.sqrt(variance) * ((1 - EULER_MASCHERONI) * first + EULER_MASCHERONI * second)))


def independent_trials(returns: FloatMatrix) -> Measure:
    """How many independent tries these sets are worth: ρ + (1 - ρ) M, with ρ the mean correlation of the M sets' returns.

    Bailey & López de Prado (2014), as above, appendix A.3. ``returns`` has shape (sets, periods); sets whose returns do not vary
    correlate with nothing and are left out. A mean correlation below 0 counts as 0.
    """
    require_finite(returns, "returns")
    apart = returns - returns.mean(axis=1, keepdims=True)
    norm = np.sqrt(np.sum(apart * apart, axis=1))
    varied = norm > _FLAT * np.sqrt(returns.shape[1]) * np.max(np.abs(returns), axis=1, initial=0.0)
    sets = int(varied.sum())
    if sets < 2:
        return Measure(None, f"the returns of {sets} sets vary; a correlation needs two")
    summed = (apart[varied] / norm[varied, None]).sum(axis=0)
    correlation = (float(np.sum(summed * summed)) - sets) / (sets * (sets - 1))
    correlation = min(1.0, max(0.0, correlation))
    return measure(correlation + (1 - correlation) * sets)


@dataclass(frozen=True, slots=True)
class DeflatedSharpe:
    """The chosen set's Sharpe ratio against what luck alone gives the best of so many trials.

    ``deflated`` is the probability that the true Sharpe ratio is above ``expected_max``, ``probabilistic`` that it is above 0;
    ``minimum_track_record`` in periods, against ``expected_max``. ``trials`` is the number that was deflated by.
    """

    periods: int
    trials: float
    skewness: Measure
    kurtosis: Measure
    sharpe: Measure
    sharpe_annualised: Measure
    trial_variance: Measure
    expected_max: Measure
    expected_max_annualised: Measure
    probabilistic: Measure
    deflated: Measure
    minimum_track_record: Measure

    def to_document(self) -> dict[str, Json]:
        """As JSON."""
        document = plain(self)
        assert isinstance(document, dict)
        return document


def deflated_sharpe(
    returns: FloatArray, trial_sharpes: FloatArray, *, periods_per_year: float, trials: float | None = None
) -> DeflatedSharpe:
    """Deflated Sharpe ratio (Bailey & López de Prado 2014, as above, equation 2) of the set that was chosen.

    ``returns``, shape (periods,), are the chosen set's; ``trial_sharpes`` those of every set that was tried, the chosen one
    included and undefined ones left out. ``trials`` (default: their number) may say how many of them were independent.
    Raises UsageError for fewer than two returns, values that are not finite, or no trial.
    """
    require_finite(trial_sharpes, "trial Sharpe ratios")
    tried = float(trial_sharpes.size) if trials is None else trials
    if trial_sharpes.size == 0 or tried < 1:
        raise UsageError(f"a Sharpe ratio is deflated by 1 trial or more; there are {tried:g}")
    sample, year = moments(returns), math.sqrt(periods_per_year)
    variance = float(np.var(trial_sharpes, ddof=1)) if trial_sharpes.size > 1 else 0.0
    luck = expected_max_sharpe(tried, variance)
    threshold = float(luck.value or 0)
    flat = Measure(None, "the chosen set's returns did not vary")
    answer = DeflatedSharpe(
        periods=sample.count,
        trials=tried,
        skewness=flat,
        kurtosis=flat,
        sharpe=flat,
        sharpe_annualised=flat,
        trial_variance=measure(variance),
        expected_max=luck,
        expected_max_annualised=measure(threshold * year),
        probabilistic=flat,
        deflated=flat,
        minimum_track_record=flat,
    )
    if sample.sharpe is None:
        return answer
    skewness, kurtosis, sharpe = sample.skewness, sample.kurtosis, sample.sharpe
    return replace(
        answer,
        skewness=measure(skewness),
        kurtosis=measure(kurtosis),
        sharpe=measure(sharpe),
        sharpe_annualised=measure(sharpe * year),
        probabilistic=probabilistic_sharpe(sharpe, sample.count, skewness=skewness, kurtosis=kurtosis),
        deflated=probabilistic_sharpe(sharpe, sample.count, skewness=skewness, kurtosis=kurtosis, benchmark=threshold),
        minimum_track_record=minimum_track_record(sharpe, skewness=skewness, kurtosis=kurtosis, benchmark=threshold),
    )


def trial_sharpes_of(returns: FloatMatrix) -> FloatArray:
    """The Sharpe ratio of every row (set) whose returns vary, for `deflated_sharpe`. ``returns`` has shape (sets, periods)."""
    return np.array([sharpe for row in returns if (sharpe := moments(row).sharpe) is not None], dtype=np.float64)


def _sharpe_variance(sharpe: float, skewness: float, kurtosis: float) -> float:
    """n - 1 times the variance of an estimated Sharpe ratio (Mertens 2002)."""
    return 1 - skewness * sharpe + (kurtosis - 1) / 4 * sharpe * sharpe


# ------------------------------------------------------------------------------------------------- cross-validation


@dataclass(frozen=True, slots=True)
class BacktestOverfitting:
    """What became of the set that looked best, over all ways to split the time in two halves.

    ``probability``: share of the splits in which the best in sample was no better than the median out of sample (logit at most
    0). ``loss_probability``: share in which its Sharpe ratio out of sample was below 0. ``logit_quantiles`` by name (p05 … p95),
    ``logit_edges`` and ``logit_counts`` a histogram. ``slope``, ``intercept`` and ``r_squared`` are of the line of its Sharpe
    ratio out of sample over in sample: a slope below 0 says that looking better meant being worse. ``points`` are at most
    500 of these pairs (in sample, out of sample), evenly spaced over the splits. ``sets_used`` of ``sets`` were looked at.
    """

    probability: Measure
    loss_probability: Measure
    sets: int
    sets_used: int
    periods: int
    blocks: int
    splits: int
    logit_quantiles: dict[str, Measure]
    logit_edges: tuple[float, ...]
    logit_counts: tuple[int, ...]
    slope: Measure
    intercept: Measure
    r_squared: Measure
    points: tuple[tuple[float, float], ...]

    def to_document(self) -> dict[str, Json]:
        """As JSON."""
        document = plain(self)
        assert isinstance(document, dict)
        return document


def backtest_overfitting(
    returns: FloatMatrix, *, blocks: int = DEFAULT_BLOCKS, max_sets: int = MAX_SETS, seed: int = 0
) -> BacktestOverfitting:
    """Probability of backtest overfitting by combinatorially symmetric cross-validation.

    Bailey, Borwein, López de Prado & Zhu (2015), "The Probability of Backtest Overfitting", Journal of Computational Finance
    20(4): the time is cut into ``blocks`` consecutive blocks; each choice of half of them is in sample and the others out of
    sample. The set with the highest Sharpe ratio in sample is ranked among all sets out of sample; its relative rank
    ω = rank / (N + 1) makes the logit ln(ω / (1 - ω)). Ties share their mean rank. A set that did not trade in a half has Sharpe
    ratio 0 there.

    ``returns`` has shape (sets, periods), one row a parameter set, the same periods for all. Periods that the blocks do not
    divide are spread over them, so blocks differ by one period at the most (the paper cuts them equal). Of more than
    ``max_sets`` sets that many are drawn without replacement by ``seed``: the probability then speaks of a search among so
    many. Memory: 2^(blocks/2) × sets and a few million cells, whatever the number of splits. Raises UsageError for an odd or
    impossible number of blocks and for values that are not finite.
    """
    sets, periods = returns.shape
    if blocks % 2 or not 2 <= blocks <= MOST_BLOCKS:
        raise UsageError(f"blocks is {blocks}; it must be an even number from 2 to {MOST_BLOCKS}")
    if max_sets < 2:
        raise UsageError(f"max_sets is {max_sets}; it must be 2 or more")
    used = returns if sets <= max_sets else returns[np.sort(np.random.default_rng(seed).choice(sets, max_sets, replace=False))]
    require_finite(used, "returns")
    reason = _undefined(used, blocks)
    if reason is not None:
        return _without_answer(Measure(None, reason), sets, used.shape, blocks)
    inside, outside, relative_rank = _splits(np.ascontiguousarray(used, dtype=np.float64), blocks)
    logits = np.log(relative_rank / (1 - relative_rank))
    counts, edges = np.histogram(logits, bins=40)
    slope, intercept, r_squared = _line(inside, outside)
    shown = np.unique(np.linspace(0, logits.size - 1, min(MAX_POINTS, logits.size)).astype(np.int64))
    return BacktestOverfitting(
        probability=share(int((relative_rank <= 0.5).sum()), logits.size, "there is no split"),
        loss_probability=share(int((outside < 0).sum()), logits.size, "there is no split"),
        sets=sets,
        sets_used=used.shape[0],
        periods=periods,
        blocks=blocks,
        splits=logits.size,
        logit_quantiles=quantile_measures(logits),
        logit_edges=tuple(edges.tolist()),
        logit_counts=tuple(counts.tolist()),
        slope=slope,
        intercept=intercept,
        r_squared=r_squared,
        points=tuple(zip(inside[shown].tolist(), outside[shown].tolist(), strict=True)),
    )


def _undefined(returns: FloatMatrix, blocks: int) -> str | None:
    sets, periods = returns.shape
    if sets < 2:
        return f"there is {sets} parameter set; a choice needs two"
    if periods < 2 * blocks:
        return f"{periods} periods are too few for {blocks} blocks of two or more"
    if bool(np.all(returns == returns[0])):
        return "all parameter sets have the same returns, so there was nothing to choose"
    return None


def _without_answer(missing: Measure, sets: int, used: tuple[int, ...], blocks: int) -> BacktestOverfitting:
    return BacktestOverfitting(
        probability=missing,
        loss_probability=missing,
        sets=sets,
        sets_used=used[0],
        periods=used[1],
        blocks=blocks,
        splits=0,
        logit_quantiles={},
        logit_edges=(),
        logit_counts=(),
        slope=missing,
        intercept=missing,
        r_squared=missing,
        points=(),
    )


def _splits(returns: FloatMatrix, blocks: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Of each split: the best set's Sharpe ratio in sample, out of sample, and its relative rank out of sample.

    A half's sums are two rows added: every subset of the first half of the blocks and of the second is summed once. Each set goes
    through the same additions in the same order, so that equal sets tie exactly (a matrix product would not promise that).
    """
    halves, means = _HalfSums.both(returns, blocks)
    masks = np.array([sum(1 << block for block in chosen) for chosen in combinations(range(blocks), blocks // 2)])
    everything = (1 << blocks) - 1
    sets, at_once = returns.shape[0], max(1, _CELLS_AT_ONCE // returns.shape[0])
    inside, outside, ranks = (np.empty(masks.size) for _ in range(3))
    for first in range(0, masks.size, at_once):
        part = slice(first, min(first + at_once, masks.size))
        train = _sharpes(halves, means, masks[part])
        best = np.argmax(train, axis=1)
        rows = np.arange(best.size)
        inside[part] = train[rows, best]
        test = _sharpes(halves, means, everything ^ masks[part])
        outside[part] = test[rows, best]
        chosen = outside[part][:, None]
        ranks[part] = np.sum(test < chosen, axis=1) + (np.sum(test == chosen, axis=1) + 1) / 2
    return inside, outside, ranks / (sets + 1)


@dataclass(frozen=True, slots=True)
class _HalfSums:
    """Sums over every subset of one half of the blocks, by bit mask: counts (subsets,), the others (subsets, sets)."""

    counts: FloatArray
    sums: FloatMatrix
    squares: FloatMatrix

    @staticmethod
    def both(returns: FloatMatrix, blocks: int) -> "tuple[tuple[_HalfSums, _HalfSums], FloatArray]":
        """The first and the second half of the blocks, and each set's mean, which was taken off before squaring."""
        means = returns.mean(axis=1)
        starts = np.arange(blocks) * returns.shape[1] // blocks
        apart = returns - means[:, None]
        sums = np.add.reduceat(apart, starts, axis=1).T
        squares = np.add.reduceat(apart * apart, starts, axis=1).T
        counts = np.diff(np.append(starts, returns.shape[1])).astype(np.float64)
        middle = blocks // 2
        first, second = (
            _HalfSums(_subset_sums(counts[part, None])[:, 0], _subset_sums(sums[part]), _subset_sums(squares[part]))
            for part in (slice(0, middle), slice(middle, blocks))
        )
        return (first, second), means


def _subset_sums(rows: FloatMatrix) -> FloatMatrix:
    """Shape (2^n, columns): row m is the sum of those rows whose bits are set in m."""
    summed = np.zeros((1, rows.shape[1]))
    for row in rows:
        summed = np.concatenate((summed, summed + row))
    return summed


def _sharpes(halves: tuple[_HalfSums, _HalfSums], means: FloatArray, masks: IntArray) -> FloatMatrix:
    """Sharpe ratio of every set over the blocks of each mask, shape (masks, sets); 0 where the returns do not vary."""
    first, second = halves
    bits = first.counts.size.bit_length() - 1
    low, high = masks & (first.counts.size - 1), masks >> bits
    count = (first.counts[low] + second.counts[high])[:, None]
    summed = first.sums[low] + second.sums[high]
    squared = first.squares[low] + second.squares[high]
    varied = squared - summed * summed / count
    flat = varied <= _FLAT * squared
    deviation = np.sqrt(np.where(flat, 1.0, varied) / (count - 1))
    sharpes: FloatMatrix = np.where(flat, 0.0, (means + summed / count) / deviation)
    return sharpes


def _line(across: FloatArray, up: FloatArray) -> tuple[Measure, Measure, Measure]:
    """Least squares: slope, intercept, share of the variance that the line explains."""
    apart, above = across - across.mean(), up - up.mean()
    spread, height = float(np.sum(apart * apart)), float(np.sum(above * above))
    if spread == 0 or height == 0:
        missing = Measure(None, "the best set's Sharpe ratio was the same in every split")
        return missing, missing, missing
    slope = float(np.sum(apart * above)) / spread
    return measure(slope), measure(float(up.mean()) - slope * float(across.mean())), measure(slope**2 * spread / height)
