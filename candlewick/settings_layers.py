"""The sources of settings, each read into entries: a path, a value, and where it was found.

Nothing is validated here; candlewick/settings_check.py does that, with all sources at hand.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import yaml

from candlewick.errors import SettingsError

PREFIX = "CANDLEWICK_"
SWITCHES = ("CANDLEWICK_CONFIG", "CANDLEWICK_DEBUG")
"""Environment variables that are no settings: which file to read, and whether a failure shows its traceback."""

KeyPath: TypeAlias = tuple[str, ...]
_PLAIN_TAGS = {f"tag:yaml.org,2002:{kind}" for kind in ("null", "bool", "int", "float", "str", "timestamp")}


@dataclass(frozen=True, slots=True)
class Entry:
    """One value that a source gives. ``origin`` is for people: `candlewick.yaml:12`, `environment CANDLEWICK_STORE__URL`."""

    path: KeyPath
    value: object
    origin: str


def environment_name(path: KeyPath) -> str:
    """The variable that sets a key: `CANDLEWICK_STORE__URL`."""
    return PREFIX + "__".join(path).upper()


def environment_layer(variables: Mapping[str, str]) -> list[Entry]:
    """Entries of all `CANDLEWICK_` variables; an empty one counts as not set."""
    found = sorted(name for name, text in variables.items() if name.startswith(PREFIX) and name not in SWITCHES and text.strip())
    return [Entry(tuple(name[len(PREFIX) :].lower().split("__")), variables[name], f"environment {name}") for name in found]


def command_line_layer(overrides: Mapping[str, object]) -> list[Entry]:
    """Entries of the options that were given (None: not given), by dotted key."""
    return [Entry(tuple(key.split(".")), value, "command line") for key, value in overrides.items() if value is not None]


def file_layer(named: str | None, directory: Path, default: str) -> list[Entry]:
    """Entries of the settings file: ``named`` by CANDLEWICK_CONFIG (must exist), or ``default`` in ``directory`` (may).

    Raises SettingsError, with file and line where there is one.
    """
    path = directory / (named or default)
    if not named and not path.exists():
        return []
    shown = named or default
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SettingsError(f"{shown} (environment CANDLEWICK_CONFIG): there is no such file") from None
    except UnicodeDecodeError as problem:
        raise SettingsError(f"{shown}: it is not UTF-8 text (byte {problem.start})") from None
    except OSError as problem:
        raise SettingsError(f"{shown}: it cannot be read ({problem.strerror})") from None
    return _parse_yaml(text, shown)


class _Loader(yaml.SafeLoader):
    """Composes without aliases: settings need none, and they can be made to grow without end."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(
                problem="a text that starts with * must be quoted (aliases are not supported)", problem_mark=mark
            )
        return super().compose_node(parent, index)


def _parse_yaml(text: str, shown: str) -> list[Entry]:
    try:
        loader = _Loader(text)
    except yaml.reader.ReaderError as problem:
        raise SettingsError(f"{shown}: character {problem.position} is not allowed in YAML") from None
    try:
        root = loader.get_single_node()
        if root is None or root.tag == "tag:yaml.org,2002:null":
            return []
        if not isinstance(root, yaml.MappingNode):
            raise SettingsError(f"{shown}:{root.start_mark.line + 1}: it must be sections of `key: value` lines")
        entries = list(_walk(loader, root, (), shown))
    except yaml.MarkedYAMLError as problem:
        # Only `problem`: the context and the snippet repeat the text, in which a secret may stand.
        mark = problem.problem_mark or problem.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise SettingsError(f"{shown}{line}: it is not YAML: {problem.problem or 'not understood'}") from None
    finally:
        loader.dispose()
    return entries


def _walk(loader: _Loader, node: yaml.MappingNode, path: KeyPath, shown: str) -> Iterator[Entry]:
    seen: set[str] = set()
    for key_node, value_node in node.value:
        origin = f"{shown}:{key_node.start_mark.line + 1}"
        if not isinstance(key_node, yaml.ScalarNode):
            raise SettingsError(f"{origin}: a key must be a plain word")
        key = str(key_node.value)
        here = (*path, key)
        if key in seen:
            raise SettingsError(f"{'.'.join(here)} ({origin}): the key stands here twice")
        seen.add(key)
        if isinstance(value_node, yaml.MappingNode):
            yield from _walk(loader, value_node, here, shown) if value_node.value else [Entry(here, None, origin)]
        elif isinstance(value_node, yaml.SequenceNode):
            yield Entry(here, [_scalar(loader, item, here, origin) for item in value_node.value], origin)
        else:
            yield Entry(here, _scalar(loader, value_node, here, origin), origin)


def _scalar(loader: _Loader, node: yaml.Node, path: KeyPath, origin: str) -> object:
    key = ".".join(path)
    if not isinstance(node, yaml.ScalarNode):
        raise SettingsError(f"{key} ({origin}): a list holds plain values only")
    if node.tag not in _PLAIN_TAGS:
        raise SettingsError(f"{key} ({origin}): tags are not supported; put a text that starts with ! in quotes")
    if node.tag.endswith(":timestamp"):
        return str(node.value)
    try:
        value: object = loader.construct_object(node)
    except (ValueError, KeyError):
        raise SettingsError(f"{key} ({origin}): the value does not fit its YAML tag") from None
    return value


def split_list(value: object) -> object:
    """A list from `a, b`, from a JSON list, or from a sequence whose texts may hold commas; anything else as it is."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except json.JSONDecodeError as problem:
            raise ValueError(f"it is not a JSON list ({problem.msg} at column {problem.colno})") from None
    parts: Sequence[object] = [value] if isinstance(value, str) else value if isinstance(value, list | tuple) else ()
    if not parts and not isinstance(value, list | tuple):
        return value
    return [piece for part in parts for piece in (_pieces(part) if isinstance(part, str) else [part])]


def _pieces(text: str) -> list[str]:
    return [piece.strip() for piece in text.split(",") if piece.strip()]
