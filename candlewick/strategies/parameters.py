"""A strategy's parameters in plain words: what they are, and why a value was refused."""

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from pydantic import PydanticUserError, ValidationError
from pydantic.fields import FieldInfo
from pydantic.json_schema import JsonSchemaValue

from candlewick.errors import UnknownStrategy
from candlewick.strategies.contract import Strategy

Scalar = str | int | float | bool

_KINDS = {"integer": "a whole number", "number": "a number", "boolean": "true or false", "string": "text"}
_BOUNDS = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}


@dataclass(frozen=True, slots=True)
class ParameterDescription:
    """One parameter. ``kind`` is what a value must be, in words; ``bounds`` its limits ("at least 1 and at most 2000") or ""."""

    name: str
    kind: str
    bounds: str
    default: Scalar | None
    required: bool
    nullable: bool
    description: str

    @property
    def requirement(self) -> str:
        """Kind and bounds as one phrase."""
        return f"{self.kind}, {self.bounds}" if self.bounds else self.kind


def describe_parameters(strategy: type[Strategy]) -> tuple[ParameterDescription, ...]:
    """The strategy's parameters, in the order of its fields. Raises UnknownStrategy for a type that cannot be written down."""
    try:
        schemas = strategy.model_json_schema(by_alias=False)["properties"] if strategy.model_fields else {}
    except PydanticUserError as problem:
        raise UnknownStrategy(
            f"strategy {strategy.__qualname__}: parameters must be numbers, text or true/false: {problem.message}"
        ) from None
    return tuple(_describe(name, field, schemas[name]) for name, field in strategy.model_fields.items())


def read_texts(strategy: type[Strategy], parameters: Mapping[str, Scalar | None]) -> dict[str, Scalar | None]:
    """The parameters as pydantic should see them: the text ``none`` as None where that is allowed, true and false as text.

    The latter because pydantic would take True for the number 1.
    """
    nullable = {description.name for description in describe_parameters(strategy) if description.nullable}
    values = {name: str(value).lower() if isinstance(value, bool) else value for name, value in parameters.items()}
    absent = {name for name in nullable & values.keys() if str(values[name]).strip().lower() in ("none", "")}
    return {name: None if name in absent else value for name, value in values.items()}


def explain_refusal(strategy: type[Strategy], refusal: ValidationError) -> str:
    """Every refused parameter with its value and what it must be."""
    descriptions = {description.name: description for description in describe_parameters(strategy)}
    texts: dict[str, None] = {}
    for error in refusal.errors(include_url=False):
        name = str(error["loc"][0]) if error["loc"] else ""
        if error["type"] == "extra_forbidden":
            near = get_close_matches(name, descriptions, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}? " if near else ""
            text = f"it has no parameter {name!r}; {hint}it has {', '.join(descriptions) or 'none'}"
        elif error["type"] == "missing":
            text = f"parameter {name} ({descriptions[name].requirement}) must be given"
        elif error["type"] in ("value_error", "assertion_error"):
            said = str(error.get("ctx", {}).get("error", error["msg"]))
            text = f"{name} is {error['input']!r}: {said}" if name else said
        else:
            text = f"{name} is {error['input']!r}; it must be {descriptions[name].requirement}"
        texts[text] = None
    return "; ".join(texts)


def _describe(name: str, field: FieldInfo, schema: JsonSchemaValue) -> ParameterDescription:
    options = schema.get("anyOf", [schema])
    shapes = [option for option in options if option.get("type") != "null"]
    nullable = len(shapes) < len(options)
    return ParameterDescription(
        name=name,
        kind=" or ".join(_kind(shape) for shape in shapes) + (" or none" if nullable else ""),
        bounds=" and ".join(f"{words} {shape[key]:g}" for shape in shapes for key, words in _BOUNDS.items() if key in shape),
        default=None if field.is_required() else schema.get("default"),
        required=field.is_required(),
        nullable=nullable,
        description=" ".join((field.description or "").split()),
    )


def _kind(shape: Mapping[str, object]) -> str:
    choices = shape.get("enum", [shape["const"]] if "const" in shape else None)
    if isinstance(choices, list):
        return "one of " + ", ".join(str(choice) for choice in choices)
    return _KINDS.get(str(shape.get("type")), str(shape.get("type", "a value")))
