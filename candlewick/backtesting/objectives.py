"""What a search compares its sets by: one of the figures, and which way is better."""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

from candlewick.errors import UsageError
from candlewick.figures import FIGURES


@dataclass(frozen=True, slots=True)
class Objective:
    """A figure of candlewick/figures.py by its name, and whether the lower value is the better one."""

    name: str
    lower_is_better: bool

    @property
    def title(self) -> str:
        """What readers call it."""
        return FIGURES[self.name].title

    @property
    def direction(self) -> Literal["minimize", "maximize"]:
        """`minimize` or `maximize`, as optuna says it."""
        return "minimize" if self.lower_is_better else "maximize"

    def best(self, scores: Sequence[float | None]) -> int | None:
        """Place of the best score, the first of equal ones. An undefined score (None) never wins; None where all are."""
        known = [place for place, score in enumerate(scores) if score is not None]
        sign = -1.0 if self.lower_is_better else 1.0
        return max(known, key=lambda place: (sign * (scores[place] or 0.0), -place), default=None)

    def ranked(self, scores: Sequence[float | None]) -> list[int]:
        """Places from the best score to the worst, equal ones in their order, without undefined ones."""
        known = [place for place, score in enumerate(scores) if score is not None]
        sign = 1.0 if self.lower_is_better else -1.0
        return sorted(known, key=lambda place: (sign * (scores[place] or 0.0), place))


def objective_names() -> tuple[str, ...]:
    """Figures that a search can go by: those of which more, or less, is better."""
    return tuple(name for name, meaning in FIGURES.items() if meaning.better != "neither")


def read_objective(name: str) -> Objective:
    """The objective called ``name``. Raises UsageError with the list of those there are, and the nearest."""
    known = objective_names()
    if name in known:
        return Objective(name, FIGURES[name].better == "lower")
    if name in FIGURES:
        raise UsageError(f"--objective {name}: neither more nor less of it is better; choose one of {', '.join(known)}")
    near = get_close_matches(name.lower(), known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}? " if near else ""
    raise UsageError(f"--objective {name!r} is not known; {hint}choose one of {', '.join(known)}")
