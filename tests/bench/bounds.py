"""Figures of `make bench` and what they may be at the most."""

from collections.abc import Sequence
from dataclasses import dataclass

Measurements = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Bound:
    """One figure and what it may be at the most."""

    measurement: str
    figure: str
    text: str
    limit: float | None
    unit: str


def held_against(bounds: Sequence[Bound], measured: Measurements) -> tuple[list[str], list[str]]:
    """The lines of a table, and the texts of the bounds that are exceeded."""
    rows, exceeded = [], []
    for bound in bounds:
        value = measured[bound.measurement][bound.figure]
        limit = "" if bound.limit is None else f"{bound.limit:g} {bound.unit}"
        verdict = "" if bound.limit is None else "kept" if value <= bound.limit else "EXCEEDED"
        rows.append((bound.text, f"{value:.3g} {bound.unit}".strip() if bound.unit else f"{value:.0f}", limit, verdict))
        exceeded += [bound.text] if verdict == "EXCEEDED" else []
    return ["| what | measured | bound | |", "|---|--:|--:|---|", *(f"| {' | '.join(row)} |" for row in rows)], exceeded
