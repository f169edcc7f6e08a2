"""Walk-forward: train windows choose the parameters, the test windows after them count (Pardo 2008, chapter 11).

Pure planning and judging: which spans, how steady the choices, how much of the promised return arrived.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from candlewick.errors import UsageError
from candlewick.grids import ParameterGrid
from candlewick.json_text import Json, plain
from candlewick.metrics import DAYS_PER_YEAR, MIN_ANNUALISED_DAYS, Measure, measure
from candlewick.moments import mean_of, share
from candlewick.parameter_ranges import Value
from candlewick.timeframes import DAY_MS, floor_to_bar, format_duration, format_utc, timeframe_ms

MAX_WINDOWS = 10_000
_ONE_WINDOW = "there is one window only, so nothing could change"


@dataclass(frozen=True, slots=True)
class Span:
    """Bars that open from ``since_ms`` on and before ``until_ms``."""

    since_ms: int
    until_ms: int

    @property
    def duration_ms(self) -> int:
        """Length."""
        return self.until_ms - self.since_ms


@dataclass(frozen=True, slots=True)
class Window:
    """One step: choose on ``train``, count on ``test``, which begins where ``train`` ends.

    ``warmup_ms`` of candles before either span are read for the indicators and never traded on.
    """

    number: int
    train: Span
    test: Span
    warmup_ms: int

    @property
    def train_candles(self) -> Span:
        """The candles that a run over the train span needs."""
        return Span(self.train.since_ms - self.warmup_ms, self.train.until_ms)

    @property
    def test_candles(self) -> Span:
        """The candles that a run over the test span needs; all before the test span are known by then."""
        return Span(self.test.since_ms - self.warmup_ms, self.test.until_ms)

    def to_document(self) -> dict[str, Json]:
        """As JSON, times in milliseconds."""
        return {"number": self.number, "train": plain(self.train), "test": plain(self.test), "warmup_ms": self.warmup_ms}


def plan_windows(
    since_ms: int,
    until_ms: int,
    *,
    train_ms: int,
    test_ms: int,
    timeframe: str,
    step_ms: int | None = None,
    anchored: bool = False,
    warmup_bars: int = 0,
) -> tuple[Window, ...]:
    """Windows over the whole bars of [since, until), oldest first, numbered from 1.

    The first train span begins ``warmup_bars`` bars after ``since_ms``. Test spans follow each other without overlap, and without
    a hole unless ``step_ms`` (default: ``test_ms``) is longer than a test. The train span moves along with a fixed length, or,
    ``anchored``, always begins at the first bar and grows. What remains after the last full test span is not tested.

    Raises UsageError: a span too short for one window (saying what is needed), a length that is not a whole number of bars, a
    step below the test, a negative warm-up, or more than MAX_WINDOWS windows.
    """
    bar_ms, step_ms = timeframe_ms(timeframe), test_ms if step_ms is None else step_ms
    for name, length_ms in (("train", train_ms), ("test", test_ms), ("step", step_ms)):
        _refuse_broken_length(name, length_ms, timeframe)
    if step_ms < test_ms:
        raise UsageError(
            f"step {format_duration(step_ms)} is shorter than test {format_duration(test_ms)}: bars would be counted twice; "
            f"use a step of {format_duration(test_ms)} or more"
        )
    if warmup_bars < 0:
        raise UsageError(f"warm-up is {warmup_bars} bars; it must be 0 or more")
    first_ms, end_ms = floor_to_bar(since_ms + bar_ms - 1, timeframe), floor_to_bar(until_ms, timeframe)
    warmup_ms = warmup_bars * bar_ms
    needed_ms = warmup_ms + train_ms + test_ms
    if end_ms - first_ms < needed_ms:
        warmup = f" and {warmup_bars} bars of warm-up ({format_duration(warmup_ms)})" if warmup_bars else ""
        given = f"{format_utc(since_ms)} to {format_utc(until_ms)} has {format_duration(max(0, end_ms - first_ms))}"
        raise UsageError(
            f"train {format_duration(train_ms)} and test {format_duration(test_ms)}{warmup} need {format_duration(needed_ms)} of "
            f"{timeframe} candles; {given}"
        )
    count = (end_ms - first_ms - needed_ms) // step_ms + 1
    if count > MAX_WINDOWS:
        raise UsageError(f"these lengths make {count:,} windows; {MAX_WINDOWS:,} are the most: use a longer test or step")
    begin_ms = first_ms + warmup_ms
    return tuple(_window(number, begin_ms, train_ms, test_ms, step_ms, anchored, warmup_ms) for number in range(1, count + 1))


def _window(number: int, begin_ms: int, train_ms: int, test_ms: int, step_ms: int, anchored: bool, warmup_ms: int) -> Window:
    split_ms = begin_ms + train_ms + (number - 1) * step_ms
    train = Span(begin_ms if anchored else split_ms - train_ms, split_ms)
    return Window(number, train, Span(split_ms, split_ms + test_ms), warmup_ms)


def _refuse_broken_length(name: str, length_ms: int, timeframe: str) -> None:
    bar_ms = timeframe_ms(timeframe)
    if length_ms <= 0:
        raise UsageError(f"{name} is {format_duration(length_ms)}; it must be at least one {timeframe} candle")
    if length_ms % bar_ms:
        below_ms = length_ms // bar_ms * bar_ms
        near = " or ".join(format_duration(near_ms) for near_ms in (below_ms, below_ms + bar_ms) if near_ms)
        raise UsageError(f"{name} {format_duration(length_ms)} is not a whole number of {timeframe} candles; use {near}")


# ------------------------------------------------------------------------------------------------- stability


@dataclass(frozen=True, slots=True)
class ParameterStability:
    """How one parameter's choice moved from window to window.

    ``changed_share``: windows, from the second on, whose choice differs from the one before. ``neighbour_share``: those that
    stayed or moved to a value next to it in the grid. ``coefficient_of_variation``: sample deviation over the absolute mean.
    """

    name: str
    distinct: int
    lowest: Measure
    highest: Measure
    mean: Measure
    coefficient_of_variation: Measure
    changed_share: Measure
    neighbour_share: Measure


@dataclass(frozen=True, slots=True)
class Stability:
    """How the choice as a whole moved; ``neighbour_share`` counts windows in which no parameter moved by more than one value."""

    windows: int
    changed_share: Measure
    neighbour_share: Measure
    parameters: tuple[ParameterStability, ...]

    def to_document(self) -> dict[str, Json]:
        """As JSON."""
        return {
            "windows": self.windows,
            "changed_share": plain(self.changed_share),
            "neighbour_share": plain(self.neighbour_share),
            "parameters": plain(self.parameters),
        }


def parameter_stability(choices: Sequence[Mapping[str, Value]], grid: ParameterGrid | None = None) -> Stability:
    """How steady the windows' chosen parameters are, in the order of the windows.

    Every choice has the same names. Neighbours are judged by the order of the values in ``grid`` and are undefined without one.
    Raises UsageError when the names differ, or a choice is not in the grid.
    """
    names = tuple(choices[0]) if choices else ()
    for number, choice in enumerate(choices, start=1):
        if set(choice) != set(names):
            raise UsageError(f"window {number} chose {', '.join(choice)}; window 1 chose {', '.join(names)}")
    steps = {name: list(_steps(name, [choice[name] for choice in choices], grid)) for name in names}
    pairs = max(0, len(choices) - 1)
    changed = sum(any(steps[name][place] != 0 for name in names) for place in range(pairs))
    known = [[steps[name][place] for name in names] for place in range(pairs)]
    near = sum(all(step is not None and step <= 1 for step in row) for row in known)
    return Stability(
        windows=len(choices),
        changed_share=share(changed, pairs, _ONE_WINDOW),
        neighbour_share=_neighbour_share(near, pairs, grid),
        parameters=tuple(_one_stability(name, [choice[name] for choice in choices], steps[name], grid) for name in names),
    )


def _steps(name: str, chosen: Sequence[Value], grid: ParameterGrid | None) -> Iterator[int | None]:
    """Places in the grid between each choice and the next: 0 for no change, None for a change without a grid."""
    places: Mapping[tuple[type, Value], int] = {}
    if grid is not None:
        if name not in grid.names:
            raise UsageError(f"the grid has no parameter {name!r}; it has {', '.join(grid.names)}")
        places = {(type(value), value): place for place, value in enumerate(grid.values[grid.names.index(name)])}
        missing = [value for value in chosen if (type(value), value) not in places]
        if missing:
            raise UsageError(f"{name} = {missing[0]!r} was chosen; it is not one of the grid's values")
    for before, after in pairwise(chosen):
        if (type(before), before) == (type(after), after):
            yield 0
        else:
            yield abs(places[type(after), after] - places[type(before), before]) if places else None


def _neighbour_share(near: int, pairs: int, grid: ParameterGrid | None) -> Measure:
    return Measure(None, "without a grid no value has a neighbour") if grid is None else share(near, pairs, _ONE_WINDOW)


def _one_stability(
    name: str, chosen: Sequence[Value], steps: Sequence[int | None], grid: ParameterGrid | None
) -> ParameterStability:
    numbers = [float(value) for value in chosen if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(numbers) < len(chosen):
        numbers = []
    reason = f"{name} is not a number in every window"
    near = sum(step is not None and step <= 1 for step in steps)
    return ParameterStability(
        name=name,
        distinct=len({(type(value), value) for value in chosen}),
        lowest=measure(min(numbers)) if numbers else Measure(None, reason),
        highest=measure(max(numbers)) if numbers else Measure(None, reason),
        mean=mean_of(numbers, reason),
        coefficient_of_variation=_coefficient_of_variation(numbers, reason),
        changed_share=share(sum(step != 0 for step in steps), len(steps), _ONE_WINDOW),
        neighbour_share=_neighbour_share(near, len(steps), grid),
    )


def _coefficient_of_variation(numbers: Sequence[float], reason: str) -> Measure:
    if len(numbers) < 2:
        return Measure(None, _ONE_WINDOW if numbers else reason)
    mean = math.fsum(numbers) / len(numbers)
    if mean == 0:
        return Measure(None, "the mean is 0")
    variance = math.fsum((number - mean) ** 2 for number in numbers) / (len(numbers) - 1)
    return measure(math.sqrt(variance) / abs(mean))


@dataclass(frozen=True, slots=True)
class Plateau:
    """What one step away from the chosen set would have scored: a peak that stands alone was luck rather than a rule.

    ``neighbours`` have a score; ``ratio`` is their mean over the chosen set's score, near 1 on a plateau.
    """

    score: Measure
    neighbours: int
    mean: Measure
    lowest: Measure
    ratio: Measure

    def to_document(self) -> dict[str, Json]:
        """As JSON."""
        return {
            "score": plain(self.score),
            "neighbours": self.neighbours,
            "mean": plain(self.mean),
            "lowest": plain(self.lowest),
            "ratio": plain(self.ratio),
        }


def plateau(grid: ParameterGrid, index: int, scores: Mapping[int, float]) -> Plateau:
    """The chosen set ``index`` among its neighbours; ``scores`` by set number, without skipped sets and undefined scores."""
    reason = "no neighbour of the chosen set has a score"
    near = [scores[neighbour] for neighbour in grid.neighbours(index) if neighbour in scores]
    if index not in scores:
        missing = Measure(None, "the chosen set has no score")
        return Plateau(missing, len(near), mean_of(near, reason), measure(min(near)) if near else Measure(None, reason), missing)
    chosen = scores[index]
    if not near:
        ratio = Measure(None, reason)
    elif chosen <= 0:
        ratio = Measure(None, "the chosen set's score is not above 0")
    else:
        ratio = measure(math.fsum(near) / len(near) / chosen)
    return Plateau(
        measure(chosen), len(near), mean_of(near, reason), measure(min(near)) if near else Measure(None, reason), ratio
    )


# ------------------------------------------------------------------------------------------------- efficiency


@dataclass(frozen=True, slots=True)
class WindowReturns:
    """What one window promised and gave: returns as shares of 1 over spans in milliseconds."""

    train_return: float
    train_ms: int
    test_return: float
    test_ms: int


@dataclass(frozen=True, slots=True)
class Efficiency:
    """``efficiency`` is the annualised return of the test windows over that of the train windows.

    1: all that was promised arrived; below 0: the tests lost money. ``profitable_share`` of the test windows gained.
    """

    windows: int
    train_annualised: Measure
    test_annualised: Measure
    efficiency: Measure
    profitable_share: Measure

    def to_document(self) -> dict[str, Json]:
        """As JSON."""
        return {
            "windows": self.windows,
            "train_annualised": plain(self.train_annualised),
            "test_annualised": plain(self.test_annualised),
            "efficiency": plain(self.efficiency),
            "profitable_share": plain(self.profitable_share),
        }


def walk_forward_efficiency(windows: Sequence[WindowReturns]) -> Efficiency:
    """Walk-forward efficiency (Pardo 2008, *The Evaluation and Optimization of Trading Strategies*, 2nd edition, chapter 11).

    Pardo divides average annual profits; here both sides compound, so that windows of different lengths weigh by their time:
    exp(sum of log(1 + return) × 365 days / sum of spans) - 1. Undefined below 30 days, for a loss of everything, and for train
    windows that did not gain.
    """
    train = _annualised([(window.train_return, window.train_ms) for window in windows], "train")
    test = _annualised([(window.test_return, window.test_ms) for window in windows], "test")
    if train.value is None or test.value is None:
        efficiency = Measure(None, train.reason if train.value is None else test.reason)
    elif train.value <= 0:
        efficiency = Measure(None, "the train windows did not gain, so there is no promise to compare with")
    else:
        efficiency = measure(float(test.value) / float(train.value))
    profitable = sum(window.test_return > 0 for window in windows)
    return Efficiency(len(windows), train, test, efficiency, share(profitable, len(windows), "there is no window"))


def _annualised(returns: Sequence[tuple[float, int]], name: str) -> Measure:
    if not returns:
        return Measure(None, "there is no window")
    days = sum(span_ms for _, span_ms in returns) / DAY_MS
    if any(not math.isfinite(value) for value, _ in returns):
        return Measure(None, f"a {name} window's return is undefined")
    if any(value <= -1 for value, _ in returns):
        return Measure(None, f"a {name} window lost everything")
    if days < MIN_ANNUALISED_DAYS:
        return Measure(None, f"the {name} windows' {days:.0f} days are below {MIN_ANNUALISED_DAYS}")
    exponent = math.fsum(math.log1p(value) for value, _ in returns) * DAYS_PER_YEAR / days
    return measure(math.expm1(exponent)) if exponent < 700 else Measure(None, "the figure is beyond the range of numbers")
