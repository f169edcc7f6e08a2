"""What a finding is the moment it is made: settled by itself, or waiting for somebody.

| state | kinds |
|---|---|
| ``explained`` | ``zero_volume``, ``gap_outage``, ``gap_no_trades``, ``not_listed``, ``delisted``: so it was in the market |
| ``repaired`` | ``out_of_order``, ``duplicate``, ``unclosed``, ``future``: dropped or sorted on receipt |
| ``repaired`` | ``mixed_units``, ``swapped_volume``, ``resolved_duplicate``: read as they were meant by an import |
| ``open`` | all others |
"""

from typing import TYPE_CHECKING

from candlewick.market_data.rows import FindingState

if TYPE_CHECKING:
    from candlewick.validation import Finding

EXPLAINED_KINDS = frozenset({"zero_volume", "gap_outage", "gap_no_trades", "not_listed", "delisted"})
REPAIRED_KINDS = frozenset(
    {"out_of_order", "duplicate", "unclosed", "future", "mixed_units", "swapped_volume", "resolved_duplicate"}
)


def state_of(finding: "Finding") -> FindingState:
    """The state that the finding is recorded with."""
    if finding.kind in REPAIRED_KINDS:
        return "repaired"
    return "explained" if finding.kind in EXPLAINED_KINDS else "open"
