"""What the settings models allow, as data: every key, its field, its bounds in words, and the nearest key to a wrong one."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from types import UnionType
from typing import Annotated, Literal, Union, get_args, get_origin

import annotated_types as bounds
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

Path = tuple[str, ...]
ANY = "*"
"""Stands in a key for a name the user chooses, such as an exchange id."""


@dataclass(frozen=True, slots=True)
class Allowed:
    """Annotation of a field whose allowed values no bound can say."""

    words: str


@dataclass(frozen=True, slots=True)
class Leaf:
    """One setting. ``kinds`` are the types its value may have; ``constraints`` its bounds; ``optional``: none is allowed."""

    path: Path
    field: FieldInfo
    kinds: tuple[type, ...]
    choices: tuple[str, ...]
    constraints: tuple[object, ...]
    optional: bool

    @property
    def key(self) -> str:
        """The dotted key."""
        return ".".join(self.path)

    @property
    def secret(self) -> bool:
        """Whether the value must never be shown."""
        return SecretStr in self.kinds

    @property
    def is_mapping(self) -> bool:
        """Whether the setting holds values by names that the user chooses."""
        return Mapping in self.kinds

    @property
    def required(self) -> bool:
        """Whether somebody has to say something, wherever its section is used."""
        return self.field.is_required()

    @property
    def example(self) -> object:
        """A value that makes sense: the default where nothing else is given."""
        return self.field.examples[0] if self.field.examples else self.default

    @property
    def default(self) -> object:
        """The value where nobody says anything."""
        value: object = self.field.get_default(call_default_factory=True, validated_data={})
        return value


class Schema:
    """All settings of a model, by path."""

    def __init__(self, model: type[BaseModel]) -> None:
        self.leaves: dict[Path, Leaf] = {leaf.path: leaf for leaf in _leaves(model, ())}
        self.sections: dict[str, type[BaseModel]] = {
            name: section
            for name, field in model.model_fields.items()
            if (section := _nested_model(_unfold(field.annotation)[0]))
        }

    def find(self, path: Path) -> Leaf | None:
        """The setting at a path: itself, or the mapping it is a member of. None: there is no such setting."""
        generic = (path[0], ANY, *path[2:]) if (path[0], ANY) in {known[:2] for known in self.leaves} and len(path) > 1 else path
        if (leaf := self.leaves.get(generic)) is not None:
            return leaf
        parent = self.leaves.get(generic[:-1])
        return parent if parent is not None and parent.is_mapping else None

    def is_section(self, path: Path) -> bool:
        """Whether settings lie below this path."""
        return any(
            len(known) > len(path) and all(a in (ANY, b) for a, b in zip(known, path, strict=False)) for known in self.leaves
        )

    def nearest(self, path: Path) -> Path | None:
        """The setting that was probably meant by an unknown path."""
        chosen = path[1] if len(path) > 2 else "NAME"
        known = {tuple(chosen if part == ANY else part for part in leaf) for leaf in self.leaves}
        by_key = {".".join(leaf): leaf for leaf in sorted(known)}
        same_name = [leaf for leaf in by_key.values() if leaf[-1] == path[-1]]
        close = difflib.get_close_matches(".".join(path), by_key, n=1, cutoff=0.75)
        return by_key[close[0]] if close else same_name[0] if len(same_name) == 1 else None


def allowed(leaf: Leaf) -> str:
    """The allowed values in words: `a number above 0 up to 1, or none`."""
    own = next((item.words for item in leaf.constraints if isinstance(item, Allowed)), None)
    return (own or _by_kind(leaf)) + (", or none" if leaf.optional else "")


def _by_kind(leaf: Leaf) -> str:
    if leaf.choices:
        return "one of " + ", ".join(leaf.choices)
    if bool in leaf.kinds:
        return "true or false"
    if int in leaf.kinds:
        return "a whole number" + _range_words(leaf.constraints)
    if float in leaf.kinds or Decimal in leaf.kinds:
        return "a number" + _range_words(leaf.constraints)
    return "text, not empty" if any(isinstance(item, bounds.MinLen) for item in leaf.constraints) else "text"


def _range_words(constraints: Sequence[object]) -> str:
    words = ""
    for item in constraints:
        if isinstance(item, bounds.Gt):
            words += f" above {_plain(item.gt)}"
        elif isinstance(item, bounds.Ge):
            words += f" from {_plain(item.ge)}"
        elif isinstance(item, bounds.Le):
            words += f" up to {_plain(item.le)}"
    return words


def _plain(bound: object) -> str:
    return format(bound, "f") if isinstance(bound, Decimal) else str(bound)


def _leaves(model: type[BaseModel], path: Path) -> Iterator[Leaf]:
    for name, field in model.model_fields.items():
        here = (*path, field.alias or name)
        members, choices, constraints, optional = _unfold(field.annotation)
        nested = _nested_model(members)
        if nested is not None:
            yield from _leaves(nested, (*here, ANY) if Mapping in members else here)
        else:
            yield Leaf(here, field, members, choices, (*field.metadata, *constraints), optional)


def _nested_model(members: Sequence[type]) -> type[BaseModel] | None:
    return next((member for member in members if issubclass(member, BaseModel)), None)


def _unfold(annotation: object) -> tuple[tuple[type, ...], tuple[str, ...], tuple[object, ...], bool]:
    """Types, choices and constraints of an annotation, and whether None is among them."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return (str,), tuple(map(str, arguments)), (), False
    if origin is Annotated:
        kinds, choices, constraints, optional = _unfold(arguments[0])
        nested = [item for extra in arguments[1:] for item in (extra.metadata if isinstance(extra, FieldInfo) else [extra])]
        return kinds, choices, (*nested, *constraints), optional
    if origin in (Union, UnionType):
        parts = [_unfold(argument) for argument in arguments if argument is not type(None)]
        kinds = tuple(kind for part in parts for kind in part[0])
        rules = tuple(item for part in parts for item in part[2])
        return kinds, tuple(choice for part in parts for choice in part[1]), rules, type(None) in arguments
    if origin is tuple:
        return (tuple,), (), (), False
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return (Mapping, *_unfold(arguments[1])[0]), (), (), False
    return ((annotation,) if isinstance(annotation, type) else ()), (), (), False
