"""What a run of repair did, as rows and lines for people."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from candlewick.market_data.repairing import Outcome, outcome_counts
from candlewick.timeframes import utc


@dataclass(frozen=True, slots=True)
class RepairReport:
    """A run of repair at its end; of a ``dry_run`` what it would ask for. ``added`` and ``replaced`` count bars."""

    run_id: str
    dry_run: bool
    outcomes: tuple[Outcome, ...]
    added: int = 0
    replaced: int = 0
    failures: tuple[str, ...] = field(default=())
    """What could not be asked, by series: the market was away, or cannot be asked again."""


SHOWN_ID = 8
"""So much of a finding's id is shown; `settle` takes the beginning of one."""
COLUMNS: Mapping[str, str] = {
    "id": "id",
    "series": "series",
    "kind": "finding",
    "span_start": "from",
    "span_end": "until",
    "state": "state",
    "explanation": "what was done",
}


def outcome_rows(report: RepairReport) -> list[dict[str, object]]:
    """One row a finding: COLUMNS, and what identifies it."""
    return [
        {
            "id": one.finding.finding_id[:SHOWN_ID],
            "finding_id": one.finding.finding_id,
            "series": f"{one.finding.series.market} {one.finding.series.symbol} {one.finding.series.timeframe}",
            "kind": one.finding.kind,
            "severity": one.finding.severity,
            "span_start": utc(one.finding.span.since_ms),
            "span_end": utc(one.finding.span.until_ms),
            "evidence": one.finding.evidence,
            "state": one.state,
            "explanation": one.explanation,
        }
        for one in report.outcomes
    ]


def repair_sentence(report: RepairReport) -> str:
    """What came of it, in one sentence."""
    if not report.outcomes:
        return "No finding is open: there is nothing to repair."
    number = f"{len(report.outcomes)} finding{'' if len(report.outcomes) == 1 else 's'}"
    if report.dry_run:
        return f"{number} open. Nothing was asked or written."
    counts = outcome_counts(report.outcomes)
    states = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    return f"{number}: {states}; {report.added:,} bars added, {report.replaced:,} replaced."
