"""Reading a parameter's text: one value, a list, a range. Grids and search spaces are both made of this.

``10`` is a value, ``5,10,20`` a list, ``5:50:5`` every fifth whole number from 5 to 50 (50 included because a step lands on it),
and ``5:50`` a step of 1 for whole numbers and no step at all for other numbers. Items may be mixed: ``5:20:5,50``. Numbers are
decimals until the end, so that ``0.1:0.5:0.1`` is 0.1, 0.2, 0.3, 0.4, 0.5 and not 0.30000000000000004.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal, InvalidOperation
from difflib import get_close_matches
from fractions import Fraction

from pydantic import ValidationError

from candlewick.errors import UsageError
from candlewick.strategies.contract import Strategy
from candlewick.strategies.parameters import ParameterDescription, Scalar, describe_parameters

Value = Scalar | None
GivenValue = Scalar | Sequence[Scalar] | None
"""A parameter as a user gives it: text in the forms above, a plain value, or a list of either."""

MAX_VALUES = 1_000_000
"""The most values of one parameter: a step left out or mistyped by digits, rather than a plan."""
_MAX_DIGITS = 18  # before and after the decimal point; keeps range arithmetic exact and quick
_EXACT = Context(prec=80)
_JUDGEMENTS = ("value_error", "assertion_error")
_STATED_BOUNDS = ("greater_than", "greater_than_equal", "less_than", "less_than_equal", "literal_error")
_WHOLE, _NUMBER, _FLAG, _TEXT = "integer", "number", "boolean", "string"


@dataclass(frozen=True, slots=True)
class NumberRange:
    """Numbers from ``low`` to ``high`` by ``step``, both ends included where a step lands on them.

    ``step`` is None for a continuous range. ``whole`` says that the values are ints, otherwise they are floats.
    """

    low: Decimal
    high: Decimal
    step: Decimal | None
    whole: bool

    @property
    def count(self) -> int:
        """How many values there are; 0 for a continuous range."""
        return 0 if self.step is None else (Fraction(self.high) - Fraction(self.low)) // Fraction(self.step) + 1

    @property
    def last(self) -> Decimal:
        """The highest value that a step lands on."""
        return self.high if self.step is None else _EXACT.add(self.low, _EXACT.multiply(self.count - 1, self.step))

    def typed(self, number: Decimal) -> int | float:
        """A value of the range as the parameter's type."""
        return int(number) if self.whole else float(number)

    def values(self) -> Iterator[int | float]:
        """Every value, ascending. Empty for a continuous range."""
        step = self.step if self.step is not None else Decimal(0)
        for place in range(self.count):
            yield self.typed(_EXACT.add(self.low, _EXACT.multiply(place, step)))


@dataclass(frozen=True, slots=True)
class ParameterText:
    """What was given for one parameter: ranges and single values, in the order written."""

    name: str
    requirement: str
    items: tuple[NumberRange | Value, ...]

    @property
    def count(self) -> int:
        """How many values the items make, without listing them."""
        return sum(item.count if isinstance(item, NumberRange) else 1 for item in self.items)

    def values(self) -> tuple[Value, ...]:
        """All values in the order written. Raises UsageError: a range without a step, one value twice, too many values."""
        if self.count > MAX_VALUES:
            raise UsageError(f"parameter {self.name} has {self.count:,} values; it may have {MAX_VALUES:,}: use a larger step")
        values: list[Value] = []
        for item in self.items:
            if not isinstance(item, NumberRange):
                values.append(item)
            elif item.step is None:
                raise UsageError(
                    f"parameter {self.name}: {item.low}:{item.high} has no step; write {item.low}:{item.high}:STEP, "
                    f"where it must be {self.requirement}"
                )
            else:
                values.extend(item.values())
        seen: set[tuple[type, Value]] = set()
        for value in values:
            if (type(value), value) in seen:
                raise UsageError(f"parameter {self.name}: {write_value(value)} is given twice")
            seen.add((type(value), value))
        return tuple(values)


def read_parameters(strategy: type[Strategy], given: Mapping[str, GivenValue]) -> tuple[ParameterText, ...]:
    """Every given parameter, in the order given, typed by the strategy's fields.

    Listed values and the ends of ranges are held against the field's own bounds at once; combinations are not looked at. Raises
    UsageError naming the parameter, the value and what it must be, and UnknownStrategy as `describe_parameters` does.
    """
    descriptions = {description.name: description for description in describe_parameters(strategy)}
    shapes = _field_shapes(strategy)
    parameters = []
    for name, value in given.items():
        if name not in descriptions:
            raise _unknown(strategy, name, descriptions)
        parameters.append(_read_parameter(descriptions[name], shapes[name], value))
        _refuse_out_of_bounds(strategy, parameters[-1])
    return tuple(parameters)


def write_value(value: Value) -> str:
    """A value as it would be written on a command line."""
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _field_shapes(strategy: type[Strategy]) -> dict[str, tuple[str, ...]]:
    """JSON's names of the types that each field takes; a type that is written elsewhere in the schema (an enum) is text."""
    schemas = strategy.model_json_schema(by_alias=False).get("properties", {})
    return {
        name: tuple(str(option.get("type", _TEXT)) for option in schema.get("anyOf", [schema]))
        for name, schema in schemas.items()
    }


def _read_parameter(description: ParameterDescription, shapes: tuple[str, ...], given: GivenValue) -> ParameterText:
    if isinstance(given, str):
        pieces = [piece.strip() for piece in given.split(",")]
    elif isinstance(given, Sequence):
        pieces = [piece.strip() if isinstance(piece, str) else write_value(piece) for piece in given]
    else:
        pieces = [write_value(given)]
    numeric = _WHOLE in shapes or _NUMBER in shapes
    items: list[NumberRange | Value] = []
    for piece in pieces:
        if numeric and ":" in piece:
            items.append(_read_range(description, piece, whole=_NUMBER not in shapes))
        else:
            items.append(_read_value(description, shapes, piece))
    if not items:
        raise UsageError(f"parameter {description.name} has no value; it must be {description.requirement}")
    return ParameterText(description.name, description.requirement, tuple(items))


def _read_range(description: ParameterDescription, text: str, *, whole: bool) -> NumberRange:
    wanted = (
        f"it must be {description.requirement}, and a range is LOW:HIGH:STEP, such as {'5:50:5' if whole else '0.5:2.0:0.25'}"
    )
    parts = [_decimal(part) for part in text.split(":")]
    if len(parts) not in (2, 3) or any(part is None or (whole and part != part.to_integral_value()) for part in parts):
        raise UsageError(f"parameter {description.name}: {text!r} is not understood; {wanted}")
    low, high, *steps = [part for part in parts if part is not None]
    step = steps[0] if steps else Decimal(1) if whole else None
    if low > high:
        raise UsageError(f"parameter {description.name}: {text!r} begins above its end ({low} is more than {high}); {wanted}")
    if step is not None and step <= 0:
        raise UsageError(f"parameter {description.name}: {text!r} has the step {step}; a step must be above 0")
    return NumberRange(low, high, step, whole)


def _read_value(description: ParameterDescription, shapes: tuple[str, ...], text: str) -> Value:
    if description.nullable and text.lower() in ("none", ""):
        return None
    number = _decimal(text)
    if number is not None and _WHOLE in shapes and number == number.to_integral_value():
        return int(number)
    if number is not None and _NUMBER in shapes:
        return float(number)
    if _FLAG in shapes and text.lower() in ("true", "false"):
        return text.lower() == "true"
    if _TEXT in shapes and text:
        return text
    raise UsageError(f"parameter {description.name} is {text!r}; it must be {description.requirement}")


def _decimal(text: str) -> Decimal | None:
    """A finite number of reasonable size, or None."""
    try:
        number = Decimal(text.strip())
    except InvalidOperation:
        return None
    exponent = number.as_tuple().exponent
    if not isinstance(exponent, int) or exponent < -_MAX_DIGITS or number.adjusted() >= _MAX_DIGITS:
        return None
    return number


def _refuse_out_of_bounds(strategy: type[Strategy], parameter: ParameterText) -> None:
    for item in parameter.items:
        ends = (item,) if not isinstance(item, NumberRange) else tuple(map(item.typed, (item.low, item.last)))
        for value in ends:
            complaint = _complaint(strategy, parameter.name, value)
            if complaint is not None:
                must = f"it must be {parameter.requirement}{complaint}"
                raise UsageError(f"parameter {parameter.name} is {write_value(value)}; {must}")


def _complaint(strategy: type[Strategy], name: str, value: Value) -> str | None:
    """None where the field ``name`` takes ``value``; else what the requirement leaves unsaid, which may be nothing.

    A validator's own judgement is left to the combinations: it may look at the other fields, which are at their defaults here.
    """
    try:
        strategy.model_validate({name: value})
    except ValidationError as refusal:
        for detail in refusal.errors(include_url=False):
            if detail["loc"][:1] == (name,) and detail["type"] not in _JUDGEMENTS:
                return "" if detail["type"] in _STATED_BOUNDS else f" ({detail['msg']})"
    return None


def _unknown(strategy: type[Strategy], name: str, known: Iterable[str]) -> UsageError:
    near = get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}? " if near else ""
    return UsageError(f"{strategy.__qualname__} has no parameter {name!r}; {hint}it has {', '.join(known) or 'none'}")
