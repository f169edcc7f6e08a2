"""The catalogue of events, made of their classes: the page docs/events.md.

`python -m candlewick.monitoring.catalogue > docs/events.md` writes the page; a test keeps it true to the code.
"""

import inspect
from collections.abc import Iterator
from dataclasses import fields
from datetime import datetime
from decimal import Decimal
from types import NoneType
from typing import Literal, get_args, get_origin

from candlewick.monitoring import events
from candlewick.monitoring.events import Event, Regime, Stage, State
from candlewick.monitoring.outbox import EXTERNAL_KINDS
from candlewick.monitoring.rows import OutboxEvent

_WORDS = {datetime: "time", Decimal: "decimal", str: "text", int: "integer", float: "number"}
_CHOICES = {"stage": Stage, "state": State, "regime": Regime}

_HEAD = """# Events

Written by `python -m candlewick.monitoring.catalogue > docs/events.md`; do not edit by hand. How events travel, and how to follow
one bar through all of them, is in [monitoring.md](monitoring.md#events).

As JSON, times are ISO 8601 in UTC and decimals are text, so that no digit is lost. Prices, notionals, fees, budgets and results
are in quote currency, quantities in base currency. A field that is not known is null ("or none").
"""


def event_classes() -> list[type[Event]]:
    """Every event of a session, in the order of events.py; Event itself, which is never published, left out."""
    found = [one for one in vars(events).values() if isinstance(one, type) and issubclass(one, Event)]
    return [one for one in found if one is not Event]


def events_markdown() -> str:
    """The page: the events inside a session with their fields, then those that other programs are told."""
    return _HEAD + "\n".join(("", *_inside(), "", *_outside(), ""))


def _inside() -> Iterator[str]:
    common = [field.name for field in fields(Event)]
    yield "## Inside a session"
    yield ""
    yield _one_line((inspect.getdoc(events) or "").partition("\n\n")[2])
    yield ""
    yield "Fields of all of them:"
    yield ""
    yield from _field_rows(Event)
    yield ""
    yield f"Here {_one_line(inspect.getdoc(Event))}"
    yield ""
    yield "| kind | class | what it says | fields of its own |"
    yield "|---|---|---|---|"
    for one in event_classes():
        own = [f"`{field.name}`: {_words(field.type)}" for field in fields(one) if field.name not in common]
        yield f"| `{one.kind}` | {one.__name__} | {_one_line(inspect.getdoc(one))} | {'; '.join(own)} |"
    yield ""
    for name, choice in _CHOICES.items():
        yield f"- A {name} is one of {_values(choice)}."


def _outside() -> Iterator[str]:
    yield "## For other programs"
    yield ""
    yield _one_line(inspect.getdoc(OutboxEvent)).partition(" `kind`: ")[0]
    yield ""
    yield from _field_rows(OutboxEvent)
    yield ""
    yield "| kind | what it says |"
    yield "|---|---|"
    for kind, meaning in EXTERNAL_KINDS.items():
        yield f"| `{kind}` | {meaning} |"


def _field_rows(kind: type[Event] | type[OutboxEvent]) -> Iterator[str]:
    yield "| field | type |"
    yield "|---|---|"
    for field in fields(kind):
        yield f"| `{field.name}` | {_words(field.type)} |"


def _one_line(text: str | None) -> str:
    """A docstring in one line, with code as Markdown writes it."""
    return " ".join((text or "").split()).replace("``", "`")


def _words(annotation: object) -> str:
    """A field's type as a reader of the JSON meets it, such as `decimal or none`."""
    named = next((name for name, choice in _CHOICES.items() if annotation == choice), None)
    if named is not None:
        return named
    if get_origin(annotation) is Literal:
        return _values(annotation)
    parts = [part for part in get_args(annotation) if part is not NoneType]
    if NoneType in get_args(annotation):
        return " or ".join([*map(_words, parts), "none"])
    return _WORDS.get(annotation, "object") if isinstance(annotation, type) else "object"


def _values(choice: object) -> str:
    *most, last = (f"`{value}`" for value in get_args(choice))
    return f"{', '.join(most)} or {last}"


if __name__ == "__main__":
    print(events_markdown(), end="")
