"""Search spaces: the same texts as a grid's, as ranges to suggest from. The search itself is made elsewhere."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal

from candlewick.errors import UsageError
from candlewick.json_text import Json, plain
from candlewick.parameter_ranges import GivenValue, NumberRange, ParameterText, Value, read_parameters
from candlewick.strategies.contract import Strategy

_KEY_DIGITS = 24


@dataclass(frozen=True, slots=True)
class IntDimension:
    """Whole numbers from ``low`` to ``high`` by ``step``, ends included: optuna's suggest_int. ``high`` is on a step."""

    name: str
    low: int
    high: int
    step: int

    @property
    def count(self) -> int | None:
        """How many values there are."""
        return (self.high - self.low) // self.step + 1

    def read(self, suggested: Value) -> Value:
        """What was suggested, as the parameter's value."""
        return int(suggested) if isinstance(suggested, int | float) else suggested


@dataclass(frozen=True, slots=True)
class FloatDimension:
    """Numbers from ``low`` to ``high``, ends included: optuna's suggest_float. ``step`` is None for any number between them."""

    name: str
    low: float
    high: float
    step: float | None

    @property
    def count(self) -> int | None:
        """How many values there are; None for a continuous range."""
        return None if self.step is None else round((self.high - self.low) / self.step) + 1

    def read(self, suggested: Value) -> Value:
        """What was suggested, as the parameter's value: the decimal that its step means, 0.3 and not 0.30000000000000004."""
        if self.step is None or not isinstance(suggested, int | float):
            return suggested
        low, step = Decimal(repr(self.low)), Decimal(repr(self.step))
        place = ((Decimal(repr(float(suggested))) - low) / step).to_integral_value(ROUND_HALF_EVEN)
        return float(low + place * step)


@dataclass(frozen=True, slots=True)
class ChoiceDimension:
    """One of ``choices``: optuna's suggest_categorical. A single choice is a parameter that is held fixed."""

    name: str
    choices: tuple[Value, ...]

    @property
    def count(self) -> int | None:
        """How many values there are."""
        return len(self.choices)

    def read(self, suggested: Value) -> Value:
        """What was suggested is the parameter's value."""
        return suggested


Dimension = IntDimension | FloatDimension | ChoiceDimension


@dataclass(frozen=True, slots=True)
class SearchSpace:
    """What may be suggested for each parameter, in the order given; the others keep their defaults."""

    strategy: type[Strategy]
    dimensions: tuple[Dimension, ...]

    @property
    def count(self) -> int | None:
        """Combinations, the invalid ones included; None where a range is continuous."""
        counts = [dimension.count for dimension in self.dimensions]
        return None if None in counts else math.prod(count for count in counts if count is not None)

    @property
    def space_key(self) -> str:
        """24 hex digits that change with the strategy's class, the names, their order and the ranges; not with its code."""
        parts = [f"{self.strategy.__module__}:{self.strategy.__qualname__}", plain(self.dimensions)]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:_KEY_DIGITS]

    def read(self, suggested: Mapping[str, Value]) -> dict[str, Value]:
        """Suggested values by name as the parameters' values, in the space's order. Raises UsageError when one is missing."""
        missing = [dimension.name for dimension in self.dimensions if dimension.name not in suggested]
        if missing:
            raise UsageError(f"nothing was suggested for {', '.join(missing)}")
        return {dimension.name: dimension.read(suggested[dimension.name]) for dimension in self.dimensions}

    def to_document(self) -> dict[str, Json]:
        """As JSON: the ranges by name, the count and the key."""
        ranges: Json = {dimension.name: plain(dimension) for dimension in self.dimensions}
        return {"dimensions": ranges, "count": self.count, "space_key": self.space_key}


def parse_search_space(strategy: type[Strategy], given: Mapping[str, GivenValue]) -> SearchSpace:
    """The space of what was given for each parameter. Raises UsageError as `candlewick.grids.parse_grid` does.

    ``5:50:5`` is suggested by its step, ``5:50`` by 1 for whole numbers and continuously for others, and everything else
    (lists, true and false, text, lists with ranges in them) as choices.
    """
    return SearchSpace(strategy, tuple(_dimension(parameter) for parameter in read_parameters(strategy, given)))


def _dimension(parameter: ParameterText) -> Dimension:
    only = parameter.items[0] if len(parameter.items) == 1 else None
    if not isinstance(only, NumberRange):
        return ChoiceDimension(parameter.name, parameter.values())
    if only.low == only.last:
        return ChoiceDimension(parameter.name, (only.typed(only.low),))
    if only.whole:
        return IntDimension(parameter.name, int(only.low), int(only.last), int(only.step or 1))
    step = None if only.step is None else float(only.step)
    return FloatDimension(parameter.name, float(only.low), float(only.last), step)
