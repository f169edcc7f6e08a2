"""Merging the sources of settings and validating the result: one line for every problem, and no secret in any."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from candlewick.errors import SettingsError
from candlewick.settings_layers import Entry, KeyPath, environment_name
from candlewick.settings_schema import Leaf, Schema, allowed

Model = TypeVar("Model", bound=BaseModel)
_STRATEGY, _PARAMETERS = ("paper", "strategy"), ("paper", "parameters")
_NONE_WORDS = ("none", "null")
_URL_PASSWORD = re.compile(r"(?P<before>://[^/@\s:]*:)[^/@\s]+(?=@)")
_NAMED_PASSWORD = re.compile(r"(?P<before>\b(?:password|passwd|pwd|secret|token|key)=)[^&;\s]+", re.IGNORECASE)
_LONGEST_SHOWN = 60
_CHOSEN: Mapping[str, str] = {
    "exchanges": "an exchange id is written in small letters, such as binance",
    "datasets": "a dataset's name is up to 64 small letters, digits, _ and -, the first a letter or digit",
}
"""What a name that the user chooses must be, by section."""


def mask(text: str) -> str:
    """Text with passwords inside addresses (`://user:…@`, `password=…`) replaced."""
    return _NAMED_PASSWORD.sub(r"\g<before>***", _URL_PASSWORD.sub(r"\g<before>***", text))


def merge(schema: Schema, layers: Sequence[Sequence[Entry]]) -> dict[KeyPath, Entry]:
    """What holds, by path: later layers win key by key, and another strategy drops the parameters below it.

    Raises SettingsError naming every unknown key of every layer, overruled or not.
    """
    problems: list[str] = []
    merged: dict[KeyPath, Entry] = {}
    for layer in layers:
        entries = [entry for found in layer for entry in _resolve(schema, found, problems)]
        strategy = next((entry.value for entry in entries if entry.path == _STRATEGY), None)
        if strategy is not None and strategy != _strategy_so_far(schema, merged):
            merged = {path: entry for path, entry in merged.items() if path[:2] != _PARAMETERS}
        merged.update({entry.path: entry for entry in entries})
    if problems:
        raise _refusal(problems)
    return merged


def validate(model: type[Model], schema: Schema, entries: Mapping[KeyPath, Entry]) -> Model:
    """The settings that the entries make. Raises SettingsError naming key, origin, value and what is allowed."""
    problems = [
        _wrong(schema, entry) for entry in entries.values() if _is_switch_for_number(schema.find(entry.path), entry.value)
    ]
    document: dict[str, object] = {}
    for entry in entries.values():
        place = document
        for part in entry.path[:-1]:
            inner = place.setdefault(part, {})
            assert isinstance(inner, dict)
            place = inner
        place[entry.path[-1]] = entry.value
    try:
        settings = model.model_validate(document)
    except ValidationError as refused:
        problems += [_explain(schema, entries, problem) for problem in refused.errors(include_url=False)]
        raise _refusal(list(dict.fromkeys(problems))) from None
    if problems:
        raise _refusal(problems)
    return settings


def _resolve(schema: Schema, entry: Entry, problems: list[str]) -> Iterator[Entry]:
    """The entry as its setting takes it (`none` as None, a mapping by its members), or a problem."""
    leaf = schema.find(entry.path)
    if leaf is None:
        if not schema.is_section(entry.path):
            problems.append(_unknown(schema, entry))
        elif entry.value is not None:
            problems.append(f"{_name(entry)}: it is a section; give the keys below it")
        return
    if leaf.is_mapping and len(entry.path) == len(leaf.path):
        yield from _members(entry, problems)
    elif leaf.optional and isinstance(entry.value, str) and entry.value.strip().lower() in _NONE_WORDS:
        yield Entry(entry.path, None, entry.origin)
    else:
        yield entry


def _members(entry: Entry, problems: list[str]) -> Iterator[Entry]:
    value: object = entry.value
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError:
            value = entry.value
    if value is None:
        return
    if not isinstance(value, Mapping):
        problems.append(f'{_name(entry)}: it must be names with values, such as {{"fast": 10}}')
        return
    for name, member in value.items():
        yield Entry((*entry.path, str(name)), member, entry.origin)


def _strategy_so_far(schema: Schema, merged: Mapping[KeyPath, Entry]) -> object:
    return merged[_STRATEGY].value if _STRATEGY in merged else schema.leaves[_STRATEGY].default


def _is_switch_for_number(leaf: Leaf | None, value: object) -> bool:
    """pydantic would take true as 1."""
    return isinstance(value, bool) and leaf is not None and bool not in leaf.kinds


def _unknown(schema: Schema, entry: Entry) -> str:
    for length in range(1, len(entry.path)):
        leaf = schema.find(entry.path[:length])
        if leaf is not None and not leaf.is_mapping:
            # Not the whole path: `api_key: {abc}` is a mapping whose key is the secret.
            return (
                f"{_name(Entry(entry.path[:length], None, entry.origin))}: it takes no keys below it; it must be {allowed(leaf)}"
            )
    meant = schema.nearest(entry.path)
    if meant is None:
        return f"{_name(entry)}: there is no such setting; `python -m candlewick.settings` lists them all"
    word = environment_name(meant) if entry.origin.startswith("environment ") else ".".join(meant)
    return f"{_name(entry)}: there is no such setting; did you mean {word}?"


def _explain(schema: Schema, entries: Mapping[KeyPath, Entry], problem: ErrorDetails) -> str:
    location = tuple(str(part) for part in problem["loc"])
    path = next((location[:length] for length in range(len(location), 0, -1) if location[:length] in entries), None)
    if location[-1] == "[key]":
        origins = ", ".join(sorted({entry.origin for known, entry in entries.items() if known[:2] == location[:2]}))
        return f"{'.'.join(location[:-1])} ({origins}): {_CHOSEN[location[0]]}"
    if problem["type"] == "missing":
        return _missing(schema, entries, location)
    entry = entries[path] if path is not None else Entry(location, None, "default")
    own = problem.get("ctx", {}).get("error")
    return f"{_name(entry)}: {own}" if isinstance(own, ValueError) else _wrong(schema, entry)


def _missing(schema: Schema, entries: Mapping[KeyPath, Entry], location: KeyPath) -> str:
    leaf = schema.find(location)
    assert leaf is not None
    beside = next(entry.origin for known, entry in entries.items() if known[:-1] == location[:-1])
    return f"{'.'.join(location)} ({beside}): it is missing; give {allowed(leaf)}"


def _wrong(schema: Schema, entry: Entry) -> str:
    leaf = schema.find(entry.path)
    assert leaf is not None
    what = "the value" if leaf.secret else "nothing" if entry.value is None else _shown(entry.value)
    return f"{_name(entry)}: {what} is not allowed; it must be {allowed(leaf)}"


def _shown(value: object) -> str:
    text = mask(repr(value) if isinstance(value, str) else str(value))
    return text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "…"


def _name(entry: Entry) -> str:
    return f"{'.'.join(entry.path)} ({entry.origin})"


def _refusal(problems: Sequence[str]) -> SettingsError:
    if len(problems) == 1:
        return SettingsError(problems[0])
    return SettingsError(f"{len(problems)} settings are refused:\n" + "\n".join(f"  {problem}" for problem in problems))
