"""Whether one of two sources is shifted in time: a typical defect is a time zone, or the close time taken for the open time."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Floats = np.ndarray[tuple[int], np.dtype[np.float64]]
Int64 = np.ndarray[tuple[int], np.dtype[np.int64]]

NEAR_BARS = 5
_HOUR_MS = 3_600_000
_MOST_HOURS = 24
_FEWEST_RETURNS = 20
# A bad print is two enormous returns; beyond this many median absolute returns a return counts as that many.
_CLIP = 15.0


@dataclass(frozen=True, slots=True)
class Lag:
    """``best_bars``: by how many bars the other source is late (above 0) or early (below 0) when the returns fit best.

    ``tried`` has each shift with the correlation of returns there, ``unshifted`` is that of no shift.
    """

    best_bars: int
    best: float
    unshifted: float
    tried: tuple[tuple[int, float], ...]


def shifts(length_ms: int) -> tuple[int, ...]:
    """The shifts that are tried, in bars: up to NEAR_BARS, and every whole hour up to a day.

    >>> shifts(86_400_000)
    (-5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5)
    """
    hours = {hour * _HOUR_MS // length_ms for hour in range(1, _MOST_HOURS + 1) if hour * _HOUR_MS % length_ms == 0}
    near = set(range(1, NEAR_BARS + 1))
    later = sorted(near | hours)
    return (*(-bars for bars in reversed(later)), 0, *later)


def find_lag(times: Int64, closes: Floats, other_times: Int64, other_closes: Floats, length_ms: int) -> Lag | None:
    """The shift at which the returns of closes correlate most; None where there are too few returns to say.

    Times are int64 milliseconds, sorted, on one grid. Returns stand beside each other where both have two bars in a row; their
    mean is taken for 0, and extreme ones are clipped, so that one bad print does not hide a shift.
    """
    if not len(times) or not len(other_times):
        return None
    first_ms = min(int(times[0]), int(other_times[0]))
    bars = (max(int(times[-1]), int(other_times[-1])) - first_ms) // length_ms + 1
    ours = _returns((times - first_ms) // length_ms, closes, bars)
    other = _returns((other_times - first_ms) // length_ms, other_closes, bars)
    tried = tuple((bars, value) for bars in shifts(length_ms) if (value := _correlation(ours, other, bars)) is not None)
    unshifted = dict(tried).get(0)
    if unshifted is None:
        return None
    best_bars, best = _best(tried)
    return Lag(best_bars, best, unshifted, tried)


def _best(tried: Sequence[tuple[int, float]]) -> tuple[int, float]:
    """The highest correlation; of equal ones that of the smallest shift."""
    return max(tried, key=lambda one: (one[1], -abs(one[0])))


@dataclass(frozen=True, slots=True)
class _Returns:
    """Log returns on the whole grid, 0 where a bar or the one before it is missing; their squares; 1.0 where they are known."""

    values: Floats
    squares: Floats
    known: Floats


def _returns(places: Int64, closes: Floats, bars: int) -> _Returns:
    found, known = np.zeros(bars), np.zeros(bars)
    follows = np.diff(places) == 1
    rows, moves = places[1:][follows], np.diff(np.log(closes))[follows]
    middle = float(np.median(np.abs(moves))) if len(moves) else 0.0
    found[rows] = np.clip(moves, -_CLIP * middle, _CLIP * middle) if middle > 0 else moves
    known[rows] = 1.0
    return _Returns(found, found * found, known)


def _correlation(ours: _Returns, other: _Returns, bars: int) -> float | None:
    """Of ours with the other's ``bars`` later; None where too few stand beside each other, or nothing moves."""
    size = len(ours.values) - abs(bars)
    one, two = slice(max(0, -bars), max(0, -bars) + size), slice(max(0, bars), max(0, bars) + size)
    if size < _FEWEST_RETURNS or np.dot(ours.known[one], other.known[two]) < _FEWEST_RETURNS:
        return None
    sizes = np.dot(ours.squares[one], other.known[two]) * np.dot(ours.known[one], other.squares[two])
    return float(np.dot(ours.values[one], other.values[two]) / np.sqrt(sizes)) if sizes > 0 else None
