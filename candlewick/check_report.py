"""What the look-ahead check of a strategy found: findings, figures by symbol, and the verdict, as values and as a document."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from candlewick.errors import UsageError
from candlewick.json_text import Json, plain
from candlewick.timeframes import format_utc

Verdict = Literal["passed", "failed"]
Kind = Literal[
    "look_ahead",
    "rounding",
    "not_repeatable",
    "keeps_state",
    "mutates_input",
    "error",
    "actions_differ",
    "warmup",
    "short_history",
    "no_action",
]
Cell = bool | int | float | str | None
"""A signal's value in a finding."""

KINDS: Mapping[Kind, str] = {
    "look_ahead": "A decision changes when later candles are added, removed or changed.",
    "rounding": "A number changes in its last digits (relative 1e-9 or less) with the length of the history.",
    "not_repeatable": "Two calls on the same candles answer differently: randomness, or state kept between calls.",
    "keeps_state": "The answer depends on what the strategy was asked before.",
    "mutates_input": "The strategy changes the candles it is given.",
    "error": "The strategy raises an error on a shorter history.",
    "actions_differ": "`actions` and `signals` decide differently.",
    "warmup": "The decisions depend on where the history starts for longer than the declared warm-up.",
    "short_history": "The strategy raises an error on a history within its own warm-up, with which an account begins.",
    "no_action": "The strategy never acts on these candles, so there was little to compare.",
}
WARNINGS: tuple[Kind, ...] = ("warmup", "short_history", "no_action")
"""Kinds that do not fail a strategy."""


@dataclass(frozen=True, slots=True)
class CheckFinding:
    """One thing found. ``bar`` is the open time of the first bar concerned, ``cut`` that of the shorter history's last bar.

    ``full`` is the value with the full history, ``truncated`` the one with the history up to the cut (or of the other call).
    """

    kind: Kind
    symbol: str
    text: str
    bar: datetime | None = None
    column: str | None = None
    full: Cell = None
    truncated: Cell = None
    cut: datetime | None = None

    @property
    def fails(self) -> bool:
        """Whether this finding makes the verdict `failed`."""
        return self.kind not in WARNINGS


@dataclass(frozen=True, slots=True)
class SymbolCheck:
    """What was compared for one symbol. ``first_at`` and ``last_at`` are open times of its first and last bar.

    ``cuts`` is the number of shorter or continued histories, ``changed_cuts`` those that changed a decision. Of ``acting`` bars
    (action other than HOLD) ``acting_checked`` were decided again on the history that ends with them. ``warmup_measured`` is the
    number of bars after which another start of the history no longer mattered; None: not within ``warmup_within`` bars.
    """

    symbol: str
    bars: int
    first_at: datetime
    last_at: datetime
    cuts: int
    changed_cuts: int
    acting: int
    acting_checked: int
    warmup_declared: int
    warmup_measured: int | None
    warmup_within: int

    @property
    def warmup_text(self) -> str:
        """The measured warm-up in words."""
        if self.warmup_measured is not None:
            return str(self.warmup_measured)
        if self.warmup_within <= self.warmup_declared:
            return "not measured: too few bars"
        return f"not within {self.warmup_within:,} bars"


@dataclass(frozen=True, slots=True)
class CheckReport:
    """The look-ahead check of one strategy with these parameters; findings in the order failures, warnings, each by bar."""

    strategy: str
    parameters: Mapping[str, str | int | float | bool | None]
    seed: int
    symbols: tuple[SymbolCheck, ...]
    findings: tuple[CheckFinding, ...]

    @property
    def verdict(self) -> Verdict:
        """`failed` where any finding is more than a warning."""
        return "failed" if self.first_failure else "passed"

    @property
    def first_failure(self) -> CheckFinding | None:
        """The failure to name first; None where it passed."""
        return next((finding for finding in self.findings if finding.fails), None)

    @property
    def bars(self) -> int:
        """Bars of all symbols."""
        return sum(one.bars for one in self.symbols)

    @property
    def cuts(self) -> int:
        """Shorter or continued histories of all symbols."""
        return sum(one.cuts for one in self.symbols)

    def to_document(self) -> dict[str, Json]:
        """JSON-ready, with the verdict; times in ISO 8601, UTC."""
        fields = {"strategy": self.strategy, "parameters": self.parameters, "seed": self.seed}
        return {
            "verdict": self.verdict,
            **{name: plain(value) for name, value in fields.items()},
            "bars": self.bars,
            "cuts": self.cuts,
            "symbols": plain(self.symbols),
            "findings": plain(self.findings),
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Json]) -> "CheckReport":
        """The inverse of ``to_document``. Raises UsageError for anything else."""
        try:
            return _ADAPTER.validate_python(dict(document))
        except ValidationError as refusal:
            raise UsageError(f"this is not the document of a look-ahead check: {refusal}") from None


_ADAPTER = TypeAdapter(CheckReport)


def cell_words(value: Cell) -> str:
    """A value in a sentence; `none` for nothing."""
    return "none" if value is None else str(value)


def bar_words(bar: datetime | None) -> str:
    """`2026-01-31 16:00 UTC`."""
    return "no bar" if bar is None else f"{format_utc(round(bar.timestamp() * 1000))} UTC"
