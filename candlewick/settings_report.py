"""`python -m candlewick.settings`: the effective settings with their origin, the reference, and a default file."""

from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated

import yaml
from cyclopts import Parameter
from pydantic import SecretStr

from candlewick.cli import SUCCESS, JsonFlag, command_app, run_command
from candlewick.errors import CandlewickError, UsageError
from candlewick.settings import DEFAULT_FILE, SCHEMA, LoadedSettings, Settings, load_settings_with_origins
from candlewick.settings_check import mask
from candlewick.settings_layers import environment_name
from candlewick.settings_schema import ANY, Leaf, allowed
from candlewick.tables import cell_text, print_rows

_ORDER = """A setting is looked up in this order; the first that says something wins:

1. the command line (an option of the command),
2. the environment: `CANDLEWICK_` and the key in capitals, `__` for each dot (`CANDLEWICK_STORE__URL`),
3. `candlewick.yaml` in the working directory, or the file that `CANDLEWICK_CONFIG` names,
4. the default."""

_NOTES = (
    """Keys are merged one by one. The one exception: parameters belong to their strategy, so a source that names another strategy
drops the parameters of the sources below it. `none` (in the file also `null`) switches a limit off. An environment variable
that is set to nothing counts as not set. A list is `a,b,c` or a JSON list, several parameters a JSON object or one variable
each (`CANDLEWICK_PAPER__PARAMETERS__FAST=10`).""",
    """Unknown keys, unknown `CANDLEWICK_` variables, wrong types and combinations that cannot be are refused before anything is
written, with exit code 2 and one line for each problem.""",
    f"""`python -m candlewick.settings` shows the settings in effect and where each comes from, secrets masked (`--json` for
programs). `--write-defaults [PATH]` writes a commented `{DEFAULT_FILE}`. Relative paths start at the working directory.""",
    """Two variables are no settings: `CANDLEWICK_CONFIG` names the file to read, and `CANDLEWICK_DEBUG=1` makes an unexpected
error show its traceback, as `--debug` does.""",
)

_CHOSEN: Mapping[str, tuple[str, str, str]] = {
    "exchanges": ("ID", "binance", "the exchange's id as ccxt writes it"),
    "datasets": ("NAME", "majors", "the dataset's name, which you choose"),
}
"""Sections whose members the user names: the word for such a name, an example, and what it is."""

app = command_app("python -m candlewick.settings", "Show the effective settings and where each comes from. Secrets are masked.")


@app.default
def show(
    path: Path | None = None,
    /,
    *,
    json: JsonFlag = False,
    markdown: Annotated[
        bool, Parameter(show_default=False, help="Print the reference of all settings (docs/settings.md).")
    ] = False,
    write_defaults: Annotated[
        bool, Parameter(show_default=False, help=f"Write a commented file with all defaults to PATH ({DEFAULT_FILE}).")
    ] = False,
    force: Annotated[bool, Parameter(show_default=False, help="With --write-defaults: replace an existing file.")] = False,
    assignments: Annotated[
        tuple[str, ...], Parameter(name="--set", show_default=False, help="KEY=VALUE as an option would set it; may be repeated.")
    ] = (),
) -> int:
    """Show the effective settings and where each comes from. Secrets are masked."""
    if sum((json or bool(assignments), markdown, write_defaults)) > 1:
        raise UsageError("--markdown and --write-defaults stand alone: they do not go with each other, --json or --set")
    if not write_defaults and (path is not None or force):
        raise UsageError("PATH and --force belong to --write-defaults")
    if write_defaults:
        target = path or Path(DEFAULT_FILE)
        write_default_file(target, force)
        print(f"Wrote {target}: all settings at their defaults, with comments.")
    elif markdown:
        print(settings_markdown(), end="")
    else:
        rows = setting_rows(load_settings_with_origins(_overrides(assignments)))
        titles = {"key": "Setting", "value": "Value", "origin": "From"}
        print_rows(rows if json else [{**row, "value": _words(row["value"])} for row in rows], titles, json)
    return SUCCESS


def main(arguments: list[str] | None = None) -> int:
    """The command's exit code."""
    return run_command(app, arguments)


def setting_rows(loaded: LoadedSettings) -> list[dict[str, object]]:
    """One row a setting: ``key``, ``value`` (secrets masked) and ``origin``, in the reference's order."""
    document = loaded.settings.model_dump(by_alias=True)
    rows: list[dict[str, object]] = []
    for leaf in _in_use(loaded.settings):
        value: object = document
        for part in leaf:
            assert isinstance(value, Mapping)
            value = value[part]
        key = ".".join(leaf)
        rows.append({"key": key, "value": _masked(value), "origin": loaded.origins.get(key, "default")})
    return rows


def write_default_file(path: Path, force: bool) -> None:
    """Write the default file. Raises UsageError where one exists and ``force`` is off, CandlewickError where it cannot."""
    try:
        with path.open("w" if force else "x", encoding="utf-8") as file:
            file.write(default_yaml())
    except FileExistsError:
        raise UsageError(f"{path} exists and was left as it is; add --force to replace it") from None
    except OSError as problem:
        raise CandlewickError(f"{path} cannot be written ({problem.strerror})") from None


def default_yaml() -> str:
    """A commented settings file that says nothing but the defaults; exchanges, which have no default, as comments."""
    order = "\n".join(f"# {line}".rstrip() for line in _ORDER.replace("`", "").splitlines())
    lines = [f"# Candlewick's settings. All of them are in docs/settings.md.\n#\n{order}"]
    for section, leaves in _sections():
        commented = "# " if leaves[0].path[1:2] == (ANY,) else ""
        lines.append(f"\n# {_about(section)}\n{commented}{section}:".replace("`", ""))
        if commented:
            lines.append(f"{commented}  {_CHOSEN[section][1]}:")
        for leaf in leaves:
            indent = commented + "  " * (len(leaf.path) - 1)
            lines.append(f"{indent}# {_description(leaf)} Allowed: {allowed(leaf)}.".replace("`", ""))
            lines.append(f"{indent}{leaf.path[-1]}: {_yaml_text(leaf.example if commented else leaf.default)}")
    return "\n".join(lines) + "\n"


def settings_markdown() -> str:
    """The settings reference, which is committed as docs/settings.md."""
    parts = [
        "# Settings",
        "<!-- Generated by `python -m candlewick.settings --markdown`; a test compares. -->",
        _ORDER,
        *_NOTES,
    ]
    for section, leaves in _sections():
        rows = "\n".join(
            f"| `{_shown_key(leaf)}` | {_shown_default(leaf)} | {allowed(leaf)} | {_description(leaf)} |" for leaf in leaves
        )
        parts.append(
            f"## {section}\n\n{_about(section)}\n\n| Key | Default | Allowed | Meaning |\n| --- | --- | --- | --- |\n{rows}"
        )
        if leaves[0].path[1:2] == (ANY,):
            word, name, meaning = _CHOSEN[section]
            example = (section, name, leaves[0].path[-1])
            parts.append(f"{word} is {meaning}: `{'.'.join(example)}`, `{environment_name(example)}`.")
    return "\n\n".join(parts) + "\n"


def _overrides(texts: tuple[str, ...]) -> dict[str, object]:
    pairs = [text.partition("=") for text in texts]
    strange = [text for text, (_, equals, _) in zip(texts, pairs, strict=True) if not equals]
    if strange:
        raise UsageError(f"--set {strange[0]}: write --set KEY=VALUE, such as --set paper.cash=5000")
    return {key.strip(): value for key, _, value in pairs}


def _in_use(settings: Settings) -> Iterator[tuple[str, ...]]:
    """Paths of all settings, with the exchanges and parameters that are there."""
    for leaf in SCHEMA.leaves.values():
        if leaf.path[1:2] != (ANY,):
            members = settings.paper.parameters if leaf.is_mapping else {}
            yield from [(*leaf.path, name) for name in members] or [leaf.path]
    for section, names in (("exchanges", settings.exchanges), ("datasets", settings.datasets)):
        for name in names:
            yield from [(section, name, *leaf.path[2:]) for leaf in SCHEMA.leaves.values() if leaf.path[:2] == (section, ANY)]


def _masked(value: object) -> object:
    if isinstance(value, SecretStr):
        return str(value)
    return mask(value) if isinstance(value, str) else value


def _words(value: object) -> object:
    """As one would write it in a source of settings."""
    if isinstance(value, bool):
        return str(value).lower()
    return "none" if value is None or value == {} else cell_text(value)


def _sections() -> list[tuple[str, list[Leaf]]]:
    sections: dict[str, list[Leaf]] = {}
    for leaf in SCHEMA.leaves.values():
        sections.setdefault(leaf.path[0], []).append(leaf)
    return list(sections.items())


def _about(section: str) -> str:
    model = SCHEMA.sections[section]
    return " ".join((model.__doc__ or "").split())


def _description(leaf: Leaf) -> str:
    return leaf.field.description or ""


def _shown_key(leaf: Leaf) -> str:
    return leaf.key.replace(ANY, _CHOSEN[leaf.path[0]][0]) if ANY in leaf.path else leaf.key


def _shown_default(leaf: Leaf) -> str:
    if leaf.required:
        return "required"
    words = _words(leaf.default)
    return f"`{words}`" if words not in ("none", "") else "none"


def _yaml_text(value: object) -> str:
    if isinstance(value, Decimal):
        return format(value, "f")
    plain = list(value) if isinstance(value, tuple) else value
    return yaml.safe_dump(plain, default_flow_style=True, width=1000).removesuffix("\n").removesuffix("\n...")
