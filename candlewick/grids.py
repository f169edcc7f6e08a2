"""Parameter grids: every combination of the values given, in a fixed order, validated only when it is its turn.

Nothing here lists the combinations to count them, so a grid of a billion sets by mistake is refused in no time.
"""

import hashlib
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product

from pydantic import ValidationError

from candlewick.errors import GridTooLarge, UsageError
from candlewick.json_text import Json, plain
from candlewick.parameter_ranges import GivenValue, Value, read_parameters, write_value
from candlewick.strategies.contract import Strategy
from candlewick.strategies.parameters import explain_refusal
from candlewick.timeframes import format_duration

CONFIRM_ABOVE = 100_000
"""Sets up to which a grid is computed without being asked twice."""
_KEY_DIGITS = 24
_NUMBER = re.compile(r"-?\d+(\.\d+)?(e[+-]?\d+)?")


@dataclass(frozen=True, slots=True)
class GridSet:
    """One valid combination. ``index`` is its place in the grid, ``strategy`` holds these values and the others' defaults."""

    index: int
    values: Mapping[str, Value]
    strategy: Strategy


@dataclass(frozen=True, slots=True)
class SkippedSet:
    """One combination that the strategy refuses, such as a fast average that is slower than the slow one."""

    index: int
    values: Mapping[str, Value]
    reason: str

    def to_document(self) -> dict[str, Json]:
        """As JSON."""
        return {"index": self.index, "values": plain(self.values), "reason": self.reason}


@dataclass(frozen=True, slots=True)
class GridChunk:
    """``count`` consecutive combinations from ``first`` on: those that can be computed, and those that are skipped."""

    first: int
    count: int
    sets: tuple[GridSet, ...]
    skipped: tuple[SkippedSet, ...]


@dataclass(frozen=True, slots=True)
class SkippedTally:
    """How many combinations were skipped, by the kind of reason (its numbers left out), and the first few of them."""

    count: int
    by_reason: Mapping[str, int]
    examples: tuple[SkippedSet, ...]

    def to_document(self) -> dict[str, Json]:
        """As JSON."""
        examples: list[Json] = [example.to_document() for example in self.examples]
        return {"count": self.count, "by_reason": plain(self.by_reason), "examples": examples}


@dataclass(frozen=True, slots=True)
class ParameterGrid:
    """The values of every parameter given, in the order given. Parameters that are not named keep their defaults.

    The sets are numbered from 0; the last name varies fastest.
    """

    strategy: type[Strategy]
    names: tuple[str, ...]
    values: tuple[tuple[Value, ...], ...]

    @property
    def count(self) -> int:
        """Combinations, the invalid ones included: the product of the numbers of values."""
        return math.prod(len(values) for values in self.values)

    @property
    def varied(self) -> tuple[str, ...]:
        """Names of the parameters with more than one value."""
        return tuple(name for name, values in zip(self.names, self.values, strict=True) if len(values) > 1)

    @property
    def grid_key(self) -> str:
        """24 hex digits that change with the strategy's class, the names, their order and the values; not with its code."""
        parts = [f"{self.strategy.__module__}:{self.strategy.__qualname__}", self.names, self.values]
        return hashlib.sha256(json.dumps(parts, allow_nan=False).encode()).hexdigest()[:_KEY_DIGITS]

    def set_at(self, index: int) -> dict[str, Value]:
        """The combination number ``index``. Raises UsageError outside of 0 to count - 1."""
        return {name: self.values[axis][place] for axis, (name, place) in enumerate(self.places_at(index).items())}

    def places_at(self, index: int) -> dict[str, int]:
        """Where each parameter's value stands among its values in the combination number ``index``. Raises as `set_at`."""
        if not 0 <= index < self.count:
            raise UsageError(f"set {index} does not exist; the grid has the sets 0 to {self.count - 1}")
        places = {}
        for name, values in zip(reversed(self.names), reversed(self.values), strict=True):
            index, places[name] = divmod(index, len(values))
        return dict(reversed(places.items()))

    def neighbours(self, index: int) -> tuple[int, ...]:
        """The combinations one step away along one parameter, ascending; those at an edge of the grid have fewer."""
        places, stride, found = self.places_at(index), 1, []
        for name, values in zip(reversed(self.names), reversed(self.values), strict=True):
            found += [index - stride] if places[name] > 0 else []
            found += [index + stride] if places[name] < len(values) - 1 else []
            stride *= len(values)
        return tuple(sorted(found))

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[dict[str, Value]]:
        """Every combination in order, valid or not, one at a time."""
        return (dict(zip(self.names, values, strict=True)) for values in product(*self.values))

    def to_document(self) -> dict[str, Json]:
        """As JSON: the values by name, the count and the key."""
        values: Json = {name: plain(values) for name, values in zip(self.names, self.values, strict=True)}
        return {"values": values, "count": self.count, "grid_key": self.grid_key}


def parse_grid(strategy: type[Strategy], given: Mapping[str, GivenValue]) -> ParameterGrid:
    """The grid of what was given for each parameter: ``{"fast": "5:50:5", "slow": "20,50", "trend_only": "true,false"}``.

    Raises UsageError naming parameter, value and what it must be: unknown name, other type, out of the field's bounds, a value
    twice, a range of numbers without a step. Combinations are not looked at; see `require_confirmed` and `require_valid`.
    """
    parameters = read_parameters(strategy, given)
    return ParameterGrid(strategy, tuple(one.name for one in parameters), tuple(one.values() for one in parameters))


def require_confirmed(
    grid: ParameterGrid, *, confirmed: bool, expected_s: float | None = None, limit: int = CONFIRM_ABOVE
) -> None:
    """Raises GridTooLarge for more than ``limit`` sets unless ``confirmed``; ``expected_s`` is the caller's guess of the time."""
    if grid.count <= limit or confirmed:
        return
    sizes = " × ".join(f"{len(values):,} {name}" for name, values in zip(grid.names, grid.values, strict=True))
    takes = "" if expected_s is None else f", about {_rough_duration(expected_s)}"
    raise GridTooLarge(
        f"the grid has {grid.count:,} parameter sets ({sizes}){takes}; more than {limit:,} need a confirmation: "
        "add --yes, or use fewer values or larger steps"
    )


def require_valid(grid: ParameterGrid) -> None:
    """Raises UsageError when no combination at all is valid, with the first reason. Stops at the first valid one."""
    first: SkippedSet | None = None
    for index, values in enumerate(grid):
        judged = judge(grid.strategy, index, values)
        if isinstance(judged, GridSet):
            return
        first = first or judged
    if first is not None:
        raise UsageError(f"none of the grid's {grid.count:,} parameter sets is valid; the first: {first.reason}")


def judge(strategy: type[Strategy], index: int, values: Mapping[str, Value]) -> GridSet | SkippedSet:
    """The combination as a strategy, or why the strategy refuses it. ``values`` are typed already, as grids and searches do."""
    try:
        return GridSet(index, values, strategy.model_validate(values))
    except ValidationError as refusal:
        return SkippedSet(index, values, _reason(strategy, refusal))


def chunk(grid: ParameterGrid, first: int, size: int) -> GridChunk:
    """The combinations ``first`` to ``first + size - 1``, as far as there are any, validated. The same in every process."""
    last = min(first + size, grid.count)
    judged = [judge(grid.strategy, index, grid.set_at(index)) for index in range(first, last)]
    sets = tuple(one for one in judged if isinstance(one, GridSet))
    return GridChunk(first, len(judged), sets, tuple(one for one in judged if isinstance(one, SkippedSet)))


def chunks(grid: ParameterGrid, size: int) -> Iterator[GridChunk]:
    """The whole grid in order, ``size`` combinations at a time, each chunk made when it is asked for. Raises UsageError."""
    if size < 1:
        raise UsageError(f"a chunk of {size} sets is not possible; the size must be 1 or more")
    return (chunk(grid, first, size) for first in range(0, grid.count, size))


def chunk_key(grid: ParameterGrid, first: int, size: int) -> str:
    """24 hex digits that name one chunk of one grid."""
    return hashlib.sha256(f"{grid.grid_key}\0{first}\0{size}".encode()).hexdigest()[:_KEY_DIGITS]


def tally_skipped(skipped: Iterable[SkippedSet], examples: int = 5) -> SkippedTally:
    """Counts skipped sets one at a time, so that they need not be kept; only the first ``examples`` are."""
    count, by_reason, first = 0, dict[str, int](), list[SkippedSet]()
    for one in skipped:
        count += 1
        kind = _NUMBER.sub("…", one.reason)
        by_reason[kind] = by_reason.get(kind, 0) + 1
        if len(first) < examples:
            first.append(one)
    return SkippedTally(count, by_reason, tuple(first))


def write_set(values: Mapping[str, Value]) -> str:
    """`fast=10 slow=50`: a combination as it would be written on a command line."""
    return " ".join(f"{name}={write_value(value)}" for name, value in values.items())


def _reason(strategy: type[Strategy], refusal: ValidationError) -> str:
    """As `explain_refusal`, without describing the strategy anew for each of many sets that break a rule of its own."""
    details = refusal.errors(include_url=False)
    said = [str(detail["ctx"]["error"]) for detail in details if detail["type"] == "value_error" and not detail["loc"]]
    return "; ".join(said) if len(said) == len(details) else explain_refusal(strategy, refusal)


def _rough_duration(seconds: float) -> str:
    return format_duration(math.ceil(seconds / 60) * 60_000) if seconds >= 60 else f"{math.ceil(seconds)} s"
