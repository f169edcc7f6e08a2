"""What else could have happened: bootstrap bands for an equity curve, and the same trades in another order.

Everything is drawn from numpy's seeded generator (PCG64), so the same inputs and seed give the same answer, whatever the memory
it is computed in. Quantiles are named p05, p25, p50, p75, p95. Undefined figures are None with a reason.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from candlewick.errors import UsageError
from candlewick.json_text import Json, plain
from candlewick.metrics import Measure, measure
from candlewick.moments import (
    QUANTILES,
    STEADY,
    FloatArray,
    FloatMatrix,
    IntArray,
    moments,
    quantile_measures,
    require_finite,
    share,
)

DEFAULT_DRAWS = 1_000
MOST_DRAWS = 100_000
MAX_BAND_POINTS = 500
_BAND_CELLS = 5_000_000  # draws × places kept for the quantiles: 40 MB
_OUT_OF_RANGE = "equity grows beyond the range of numbers"
DRAWDOWN_LIMITS = (0.1, 0.2, 0.3, 0.5)
_CELLS_AT_ONCE = 500_000  # draws × periods held in memory at a time: 4 MB an array

Runs = np.ndarray[tuple[int, int], np.dtype[np.int64]]


@dataclass(frozen=True, slots=True)
class Distribution:
    """One figure over all draws. ``observed`` is that of what really happened; ``drawn`` draws had a defined figure."""

    observed: Measure
    quantiles: Mapping[str, Measure]
    drawn: int


# ------------------------------------------------------------------------------------------------- bootstrap


@dataclass(frozen=True, slots=True)
class EquityBands:
    """Confidence bands of an equity curve.

    ``places`` are the indices of the equity values that the bands speak of (at most 500, fewer for more than 10,000 draws), and
    ``bands`` the equity's quantiles there, by name, in quote currency. The three distributions are of the last value's return on
    the first (a share of 1), of the annualised Sharpe ratio and of the maximum drawdown (a share of 1). Where the bands cannot be
    computed they are empty, and ``reason`` says why.
    """

    draws: int
    seed: int
    mean_block: float
    places: tuple[int, ...]
    bands: Mapping[str, tuple[float, ...]]
    final_return: Distribution
    sharpe: Distribution
    max_drawdown: Distribution
    reason: str | None

    def to_document(self) -> dict[str, Json]:
        """As JSON."""
        return _document(self)


def bootstrap_equity(
    equity: FloatArray,
    *,
    periods_per_year: float,
    seed: int,
    draws: int = DEFAULT_DRAWS,
    mean_block: float | None = None,
) -> EquityBands:
    """Bands of the curves that the same returns, in blocks of random length, would have made.

    The stationary bootstrap of Politis & Romano (1994), Journal of the American Statistical Association 89(428): a block begins
    at a random period, goes on with probability 1 - 1 / ``mean_block`` (past the end: from the start), and so keeps some of the
    returns' dependence. ``mean_block`` in periods defaults to the cube root of their number, the order the authors find best.

    ``equity`` has shape (n,), one value a period, in quote currency, all above 0; pass daily values rather than minutes, a draw
    costs as many steps as there are values. Raises UsageError for values that are not finite and for a senseless number of draws
    or block length.
    """
    _refuse_senseless_draws(draws)
    require_finite(equity, "equity")
    periods = equity.size - 1
    block = float(max(1, round(max(0, periods) ** (1 / 3)))) if mean_block is None else float(mean_block)
    if not (math.isfinite(block) and block >= 1):
        raise UsageError(f"mean block is {block:g} periods; it must be 1 or more")
    reason = _no_bands(equity)
    if reason is not None:
        return _without_bands(Measure(None, reason), draws, seed, block)
    returns = equity[1:] / equity[:-1] - 1
    points = min(MAX_BAND_POINTS, periods + 1, max(2, _BAND_CELLS // draws))
    places = np.unique(np.linspace(0, periods, points).astype(np.int64))
    seen, finals, sharpes, falls = _bootstrap(returns, places, block, draws, seed)
    if not (np.isfinite(seen).all() and np.isfinite(falls).all() and np.isfinite(seen.max() * equity[0])):
        return _without_bands(Measure(None, _OUT_OF_RANGE), draws, seed, block)
    levels = np.quantile(seen, list(QUANTILES.values()), axis=0) * equity[0]
    year, observed = math.sqrt(periods_per_year), moments(returns).sharpe
    sharpe = Measure(None, "equity did not move") if observed is None else measure(observed * year)
    curve: FloatMatrix = (equity[1:] / equity[0]).reshape(1, -1)
    return EquityBands(
        draws=draws,
        seed=seed,
        mean_block=block,
        places=tuple(places.tolist()),
        bands={name: tuple(level.tolist()) for name, level in zip(QUANTILES, levels, strict=True)},
        final_return=_distribution(measure(float(curve[0, -1]) - 1), finals - 1),
        sharpe=_distribution(sharpe, sharpes * year),
        max_drawdown=_distribution(measure(float(_falls(curve)[0])), falls),
        reason=None,
    )


def _without_bands(missing: Measure, draws: int, seed: int, block: float) -> EquityBands:
    nothing = Distribution(missing, {}, 0)
    return EquityBands(draws, seed, block, (), {}, nothing, nothing, nothing, missing.reason)


def _no_bands(equity: FloatArray) -> str | None:
    if equity.ndim != 1 or equity.size < 3:
        return f"there are {equity.size} equity values; a resampling needs three"
    if float(equity.min()) <= 0:
        return "equity fell to zero"
    return None


def _bootstrap(
    returns: FloatArray, places: IntArray, mean_block: float, draws: int, seed: int
) -> tuple[FloatMatrix, FloatArray, FloatArray, FloatArray]:
    """Growth at ``places`` (draws, places), last growth, Sharpe ratio a period (NaN: none) and deepest fall, (draws,) each."""
    seen = np.empty((draws, places.size))
    finals, sharpes, falls = (np.empty(draws) for _ in range(3))
    first = 0
    for indices in _stationary_indices(returns.size, mean_block, draws, seed):
        part = slice(first, first + indices.shape[0])
        drawn = returns[indices]
        with np.errstate(over="ignore"):  # what is infinite is undefined, and said to be so
            growth: FloatMatrix = np.cumprod(1 + drawn, axis=1, dtype=np.float64)
            sharpes[part] = _row_sharpes(drawn)
        seen[part] = np.where(places > 0, growth[:, places - 1], 1.0)
        finals[part] = growth[:, -1]
        falls[part] = _falls(growth)
        first = part.stop
    return seen, finals, sharpes, falls


def _stationary_indices(periods: int, mean_block: float, draws: int, seed: int) -> Iterator[Runs]:
    """Places of the returns for each draw, some draws at a time, shape (draws of this time, periods).

    Starts and lengths come from generators of their own, each read in the order of the draws, so that the number of draws at a
    time does not change them.
    """
    beginnings, lengths = (np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(2))
    steps = np.arange(periods)
    at_once = max(1, _CELLS_AT_ONCE // periods)
    for first in range(0, draws, at_once):
        shape = (min(at_once, draws - first), periods)
        starts = (beginnings.random(shape) * periods).astype(np.int64)
        begins = lengths.random(shape) * mean_block < 1
        began = np.maximum.accumulate(np.where(begins, steps, 0), axis=1)  # the first place always begins
        indices: Runs = (np.take_along_axis(starts, began, axis=1) + steps - began) % periods
        yield indices


def _row_sharpes(returns: FloatMatrix) -> FloatArray:
    """Mean over sample deviation of every row; NaN where a row does not vary."""
    deviation = returns.std(axis=1, ddof=1)
    flat = deviation <= STEADY * np.abs(returns).max(axis=1)
    ratios: FloatArray = np.where(flat, np.nan, returns.mean(axis=1) / np.where(flat, 1.0, deviation))
    return ratios


# ------------------------------------------------------------------------------------------------- order of the trades


@dataclass(frozen=True, slots=True)
class OrderRisk:
    """What another order (or another choice) of the same trades would have done.

    ``max_drawdown`` is a share of 1 of the equity's peak, 1 at the most. ``longest_under_water`` counts consecutive trades after
    which equity was below an earlier peak, ``under_water_share`` all such trades over all trades. ``deeper_than``: the
    probability of a drawdown worse than the limit, by the limit as text. ``as_deep_probability`` is that of one at least as deep
    as really happened. ``loss_probability`` is that of ending below the initial cash, and ``ruin_probability`` that of losing all
    of it on the way, after which nothing is traded.
    """

    draws: int
    seed: int
    trades: int
    with_replacement: bool
    max_drawdown: Distribution
    longest_under_water: Distribution
    under_water_share: Distribution
    final_return: Distribution
    deeper_than: Mapping[str, Measure]
    as_deep_probability: Measure
    loss_probability: Measure
    ruin_probability: Measure

    def to_document(self) -> dict[str, Json]:
        """As JSON."""
        return _document(self)


def shuffle_trades(
    pnl: FloatArray,
    initial_cash: float,
    *,
    seed: int,
    draws: int = DEFAULT_DRAWS,
    compounding: bool = True,
    limits: Sequence[float] = DRAWDOWN_LIMITS,
) -> OrderRisk:
    """The same trades in random orders: every draw that is not ruined ends with the same equity, on another way.

    ``pnl`` has shape (trades,), in the order in which the trades closed, in quote currency, after costs. ``compounding`` takes
    each trade's result as a share of the equity before it (for sizes that follow equity), so that its amount changes with its
    place; otherwise the amounts are shuffled (for sizes that are fixed). Drawdowns between a trade's entry and exit are not seen.

    Raises UsageError for values that are not finite, cash that is not above 0, a senseless number of draws, or a limit outside
    of 0 to 1.
    """
    return _reorder(pnl, initial_cash, seed, draws, compounding, tuple(limits), with_replacement=False)


def resample_trades(
    pnl: FloatArray,
    initial_cash: float,
    *,
    seed: int,
    draws: int = DEFAULT_DRAWS,
    compounding: bool = True,
    limits: Sequence[float] = DRAWDOWN_LIMITS,
) -> OrderRisk:
    """As many trades drawn with replacement: some happen twice and some never, so the final equity differs too.

    Arguments and errors as of `shuffle_trades`. Trades are taken to be independent of each other.
    """
    return _reorder(pnl, initial_cash, seed, draws, compounding, tuple(limits), with_replacement=True)


def _reorder(
    pnl: FloatArray,
    initial_cash: float,
    seed: int,
    draws: int,
    compounding: bool,
    limits: tuple[float, ...],
    *,
    with_replacement: bool,
) -> OrderRisk:
    _refuse_senseless_draws(draws)
    _refuse_senseless_trades(pnl, initial_cash, limits)
    results, reason = _results(pnl, initial_cash, compounding)
    if reason is not None:
        return _without_order(Measure(None, reason), seed, draws, pnl.size, with_replacement, limits)
    grow = _compounded if compounding else _added
    happened = _Walk.of(grow(results[None, :]))
    walked = _walk(results, grow, draws, seed, with_replacement)
    if not np.isfinite(walked.falls + walked.finals).all():
        return _without_order(Measure(None, _OUT_OF_RANGE), seed, draws, pnl.size, with_replacement, limits)
    falls = walked.falls
    return OrderRisk(
        draws=draws,
        seed=seed,
        trades=pnl.size,
        with_replacement=with_replacement,
        max_drawdown=_distribution(measure(float(happened.falls[0])), falls),
        longest_under_water=_distribution(measure(float(happened.longest[0])), walked.longest),
        under_water_share=_distribution(measure(float(happened.shares[0])), walked.shares),
        final_return=_distribution(measure(float(happened.finals[0]) - 1), walked.finals - 1),
        deeper_than={f"{limit:g}": _probability(falls > limit) for limit in limits},
        as_deep_probability=_probability(falls >= happened.falls[0] * (1 - 1e-12)),  # the same fall, rounded otherwise
        loss_probability=_probability(walked.finals < 1 - 1e-12),
        ruin_probability=_probability(falls >= 1),
    )


def _refuse_senseless_trades(pnl: FloatArray, initial_cash: float, limits: tuple[float, ...]) -> None:
    require_finite(pnl, "trade results")
    if not (math.isfinite(initial_cash) and initial_cash > 0):
        raise UsageError(f"initial cash is {initial_cash:g}; it must be above 0")
    for limit in limits:
        if not 0 <= limit < 1:
            raise UsageError(f"drawdown limit is {limit:g}; it must be a share from 0 to below 1, such as 0.2")


def _refuse_senseless_draws(draws: int) -> None:
    if not 1 <= draws <= MOST_DRAWS:
        raise UsageError(f"draws is {draws}; it must be 1 to {MOST_DRAWS:,}")


def _results(pnl: FloatArray, initial_cash: float, compounding: bool) -> tuple[FloatArray, str | None]:
    """Each trade's result as a share of the equity before it, or of the initial cash; or why there is none."""
    if pnl.size < 2:
        return pnl, f"there are {pnl.size} closed trades; an order needs two"
    if not compounding:
        return pnl / initial_cash, None
    before = initial_cash + np.concatenate(([0.0], np.cumsum(pnl)[:-1]))
    broke = np.flatnonzero(before <= 0)
    if broke.size:
        return pnl, f"equity was not above zero before trade {int(broke[0]) + 1}, so its share of it is undefined"
    return pnl / before, None


def _compounded(results: FloatMatrix) -> FloatMatrix:
    """Equity over initial cash after each trade, (draws, trades); what is lost is lost."""
    with np.errstate(over="ignore"):  # what is infinite is undefined, and said to be so
        grown: FloatMatrix = np.cumprod(np.maximum(1 + results, 0.0), axis=1, dtype=np.float64)
    return grown


def _added(results: FloatMatrix) -> FloatMatrix:
    """As `_compounded`, with every trade's share taken of the initial cash."""
    summed: FloatMatrix = np.cumsum(results, axis=1) + 1.0
    grown: FloatMatrix = np.where(np.minimum.accumulate(summed, axis=1) <= 0, 0.0, summed)
    return grown


@dataclass(frozen=True, slots=True)
class _Walk:
    """Figures of some ways through the trades, (draws,) each."""

    falls: FloatArray
    longest: FloatArray
    shares: FloatArray
    finals: FloatArray

    @staticmethod
    def of(growth: FloatMatrix) -> "_Walk":
        """From equity over initial cash, (draws, trades)."""
        below = growth < _peaks(growth) * (1 - 1e-12)  # back at the peak but for rounding is not under water
        steps = np.arange(growth.shape[1])
        dry = np.maximum.accumulate(np.where(below, -1, steps), axis=1)
        longest = np.max(np.where(below, steps - dry, 0), axis=1).astype(np.float64)
        return _Walk(_falls(growth), longest, below.mean(axis=1), growth[:, -1].copy())


def _walk(
    results: FloatArray, grow: Callable[[FloatMatrix], FloatMatrix], draws: int, seed: int, with_replacement: bool
) -> _Walk:
    """All draws, some at a time; one generator is read in the order of the draws, so the number at a time changes nothing."""
    generator = np.random.default_rng(seed)
    at_once = max(1, _CELLS_AT_ONCE // results.size)
    parts = []
    for first in range(0, draws, at_once):
        shape = (min(at_once, draws - first), results.size)
        keys = generator.random(shape)
        order: Runs = (keys * results.size).astype(np.int64)
        if not with_replacement:
            order = np.argsort(keys, axis=1, kind="stable").astype(np.int64, copy=False)
        parts.append(_Walk.of(grow(results[order])))
    return _Walk(
        np.concatenate([part.falls for part in parts]),
        np.concatenate([part.longest for part in parts]),
        np.concatenate([part.shares for part in parts]),
        np.concatenate([part.finals for part in parts]),
    )


def _without_order(
    missing: Measure, seed: int, draws: int, trades: int, with_replacement: bool, limits: tuple[float, ...]
) -> OrderRisk:
    nothing = Distribution(missing, {}, 0)
    deeper = {f"{limit:g}": missing for limit in limits}
    return OrderRisk(
        draws=draws,
        seed=seed,
        trades=trades,
        with_replacement=with_replacement,
        max_drawdown=nothing,
        longest_under_water=nothing,
        under_water_share=nothing,
        final_return=nothing,
        deeper_than=deeper,
        as_deep_probability=missing,
        loss_probability=missing,
        ruin_probability=missing,
    )


# ------------------------------------------------------------------------------------------------- shared


def _peaks(growth: FloatMatrix) -> FloatMatrix:
    """The highest growth so far, the start (1) included; same shape."""
    return np.maximum(np.maximum.accumulate(growth, axis=1), 1.0)


def _falls(growth: FloatMatrix) -> FloatArray:
    """The deepest fall below the highest growth before it, as a share of it, 1 at the most; shape (rows,)."""
    peaks = _peaks(growth)
    with np.errstate(invalid="ignore"):
        falls: FloatArray = np.minimum(np.max((peaks - growth) / peaks, axis=1), 1.0)
    return falls


def _distribution(observed: Measure, values: FloatArray) -> Distribution:
    finite = values[np.isfinite(values)]
    return Distribution(observed, quantile_measures(finite) if finite.size else {}, finite.size)


def _probability(happened: "np.ndarray[tuple[int], np.dtype[np.bool_]]") -> Measure:
    return share(int(happened.sum()), happened.size, "there is no draw")


def _document(answer: EquityBands | OrderRisk) -> dict[str, Json]:
    document = plain(answer)
    assert isinstance(document, dict)
    return document
