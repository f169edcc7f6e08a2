"""What the statistics of returns share: array types, moments, and distributions as measures."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from candlewick.errors import UsageError
from candlewick.metrics import Measure, measure

FloatArray = np.ndarray[tuple[int], np.dtype[np.float64]]
FloatMatrix = np.ndarray[tuple[int, int], np.dtype[np.float64]]
IntArray = np.ndarray[tuple[int], np.dtype[np.int64]]

QUANTILES = {"p05": 0.05, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p95": 0.95}
"""What distributions are summed up by, by the names that reports use."""

STEADY = 1e-13
"""A deviation below this share of the largest value is rounding: the values did not vary."""


@dataclass(frozen=True, slots=True)
class Moments:
    """Of a sample: ``deviation`` has n - 1 below it, ``skewness`` and ``kurtosis`` (3 for normal returns) have n.

    The last two are 0 and 3 where the values did not vary; ``deviation`` is 0 then.
    """

    count: int
    mean: float
    deviation: float
    skewness: float
    kurtosis: float

    @property
    def sharpe(self) -> float | None:
        """Mean over deviation, a period, at a risk-free rate of 0; None where the values did not vary."""
        return self.mean / self.deviation if self.deviation > 0 else None


def moments(values: FloatArray) -> Moments:
    """Moments of values of shape (n,). Raises UsageError for fewer than two, and for NaN or infinite ones."""
    if values.ndim != 1 or values.size < 2:
        raise UsageError(f"moments need two values or more in one row; the array has shape {values.shape}")
    require_finite(values, "returns")
    mean = math.fsum(values) / values.size
    apart = values - mean
    if float(np.max(np.abs(apart))) <= STEADY * float(np.max(np.abs(values))):
        return Moments(values.size, mean, 0.0, 0.0, 3.0)
    scaled = apart / float(np.max(np.abs(apart)))  # so that no power of a small return underflows
    second, third, fourth = (float(np.mean(scaled**power)) for power in (2, 3, 4))
    deviation = float(np.max(np.abs(apart))) * math.sqrt(second * values.size / (values.size - 1))
    return Moments(values.size, mean, deviation, third / second**1.5, fourth / second**2)


def require_finite(values: FloatArray | FloatMatrix, what: str) -> None:
    """Raises UsageError naming the first place where ``values`` are NaN or infinite."""
    bad = np.argwhere(~np.isfinite(values))
    if bad.size:
        place = tuple(int(axis) for axis in bad[0])
        raise UsageError(f"{what} must be finite numbers; {what}[{', '.join(map(str, place))}] is {values[place]}")


def share(part: int, whole: int, reason: str) -> Measure:
    """``part`` over ``whole``, undefined for ``reason`` when the whole is nothing."""
    return measure(part / whole) if whole else Measure(None, reason)


def mean_of(values: Sequence[float], reason: str) -> Measure:
    """The arithmetic mean, undefined for ``reason`` when there are no values."""
    return measure(math.fsum(values) / len(values)) if values else Measure(None, reason)


def quantile_measures(values: FloatArray) -> dict[str, Measure]:
    """QUANTILES of values of shape (n,), interpolated linearly (numpy's default, Hyndman & Fan's type 7)."""
    return {
        name: measure(float(value)) for name, value in zip(QUANTILES, np.quantile(values, list(QUANTILES.values())), strict=True)
    }
