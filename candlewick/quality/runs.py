"""Runs of neighbouring bars, which make one finding together, and what is looked up in them."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from candlewick.timeframes import DAY_MS
from candlewick.validation import Finding, Severity

Times = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

MOST_RUNS = 1_000
"""More runs of one kind are told by the day: a market that trades every other minute would fill the table with them."""


@dataclass(frozen=True, slots=True)
class Run:
    """``bars`` bars from ``start_ms`` (the first one's open) to ``end_ms`` (the last one's close). ``first`` is the place of
    the first one in the array that the run was made of."""

    start_ms: int
    end_ms: int
    bars: int
    first: int


def runs_of(times_ms: Times, length_ms: int, apart_bars: int = 1) -> list[Run]:
    """Runs of bars by their open times, sorted: unbroken ones, or such that open at most ``apart_bars`` apart.

    Those of a day are one where there are more than MOST_RUNS.
    """
    if times_ms.size == 0:
        return []
    breaks = np.diff(times_ms) > apart_bars * length_ms
    if np.count_nonzero(breaks) >= MOST_RUNS:
        breaks = np.diff(times_ms // DAY_MS) > 0
    starts = np.concatenate(([0], np.flatnonzero(breaks) + 1))
    ends = np.append(starts[1:], times_ms.size)
    return [
        Run(int(times_ms[start]), int(times_ms[end - 1]) + length_ms, int(end - start), int(start))
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True)
    ]


def run_findings(
    kind: str, severity: Severity, times_ms: Times, length_ms: int, evidence: Callable[[Run], str], apart_bars: int = 1
) -> list[Finding]:
    """One finding a run of these bars."""
    runs = runs_of(times_ms, length_ms, apart_bars)
    return [Finding(kind, severity, run.start_ms, run.end_ms, evidence(run)) for run in runs]


def count_within(times_ms: Times, since_ms: Times, until_ms: Times) -> Times:
    """How many of the sorted ``times_ms`` lie in each [since, until); int64, shape of ``since_ms``."""
    counts: Times = np.searchsorted(times_ms, until_ms) - np.searchsorted(times_ms, since_ms)
    return counts


def places_of(times_ms: Times, known_ms: Times) -> tuple[Times, Bools]:
    """Where each of ``times_ms`` is in the sorted ``known_ms`` (any place where it is not), and whether it is there."""
    if known_ms.size == 0:
        return np.zeros(times_ms.size, np.int64), np.zeros(times_ms.size, np.bool_)
    places: Times = np.minimum(np.searchsorted(known_ms, times_ms), known_ms.size - 1)
    return places, known_ms[places] == times_ms


def plural(count: int, noun: str = "bar") -> str:
    """`1 bar`, `2 bars`.

    >>> plural(1), plural(2_811)
    ('1 bar', '2811 bars')
    """
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
