"""Rules as a user writes them, `--rule leverage=3`: checked by the bounds of the settings, with the settings' words."""

from collections.abc import Mapping, Sequence
from dataclasses import fields

from candlewick.cli import parse_parameters
from candlewick.rules import Rules
from candlewick.settings import SCHEMA, Settings
from candlewick.settings_check import merge, validate
from candlewick.settings_layers import Entry

Scalar = str | int | float | bool
_RULES = "rules"


def parse_rules(texts: Sequence[str] | None, base: Rules) -> Rules:
    """``base`` with the rules that repeated `name=value` texts name. Raises UsageError, SettingsError."""
    return read_rules(named_rules(texts), base)


def named_rules(texts: Sequence[str] | None) -> dict[str, str]:
    """Values by the rule's name, from repeated `name=value` texts; not yet checked. Raises UsageError.

    >>> named_rules(["direction=both", "leverage=3"])
    {'direction': 'both', 'leverage': '3'}
    """
    return parse_parameters(texts, "--rule", "leverage=3")


def read_rules(named: Mapping[str, Scalar], base: Rules) -> Rules:
    """``base`` with the rules that are ``named``; `none` switches a limit off. Raises SettingsError, a line a problem.

    >>> read_rules({"leverage": "3"}, Rules()).leverage
    Decimal('3')
    """
    told = merge(SCHEMA, [[Entry((_RULES, name), value, "--rule") for name, value in named.items()]])
    settings = validate(Settings, SCHEMA, {**_entries(base), **told})
    return settings.rules.to_rules()


def _entries(base: Rules) -> dict[tuple[str, ...], Entry]:
    return {(_RULES, field.name): Entry((_RULES, field.name), getattr(base, field.name), "rule") for field in fields(Rules)}
