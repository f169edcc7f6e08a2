"""What a validation says: a comparison with its verdict and what is to be known beside it, or series that were looked over."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from candlewick.json_text import Json
from candlewick.json_text import plain as as_json
from candlewick.market_data.kinds import DataSeries
from candlewick.quality.comparison import SourceComparison, volume_notes
from candlewick.quality.states import state_of
from candlewick.quality.verdict import Judgement
from candlewick.validation import Finding, Severity


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationView:
    """``findings`` are what the quality table keeps; ``notices`` say what was chosen or left out; ``command`` does it again."""

    comparison: SourceComparison
    judgement: Judgement
    findings: tuple[Finding, ...] = ()
    notices: tuple[str, ...] = ()
    command: str = ""

    @property
    def title(self) -> str:
        """``binance BTC/USDT against bitstamp BTC/USD, 1h``."""
        found = self.comparison
        return f"{found.ours.label} against {found.other.label}, {found.ours.series.timeframe}"

    @property
    def sentence(self) -> str:
        """The verdict with what speaks for or against it."""
        found, reasons = self.comparison, self.judgement.reasons
        if self.judgement.verdict == "agree" and found.difference is not None:
            what = "are identical" if found.identical_bars == found.common_bars else _apart(found)
            return f"The sources agree: {found.common_bars:,} common bars {what}."
        lead = "The sources differ" if self.judgement.verdict == "differ" else "The comparison is unusable"
        return f"{lead}: {'; '.join(reasons)}."

    @property
    def found_text(self) -> str:
        """``disagreement 31, gap outage 24``; empty where nothing was found."""
        counts = Counter(finding.kind for finding in self.findings)
        return ", ".join(f"{kind.replace('_', ' ')} {count:,}" for kind, count in counts.items())

    @property
    def all_notices(self) -> tuple[str, ...]:
        """The notices, and what the volumes look like."""
        return (*self.notices, *volume_notes(self.comparison))

    def to_document(self) -> dict[str, Json]:
        """Verdict, criteria, the whole comparison and the notices, JSON-ready."""
        return {
            "verdict": self.judgement.verdict,
            "sentence": self.sentence,
            "criteria": as_json(self.judgement.criteria),
            "notices": list(self.all_notices),
            "comparison": self.comparison.to_document(),
            "found": as_json(self.findings),
            "command": self.command,
        }


@dataclass(frozen=True, slots=True)
class FoundKind:
    """The findings of one kind, severity and state: how many, and the span from the first to the last, milliseconds UTC."""

    kind: str
    severity: Severity
    state: str
    count: int
    since_ms: int
    until_ms: int


@dataclass(frozen=True, slots=True)
class InspectedSeries:
    """A series that was looked over; kinds in the order of their first finding.

    ``verdict`` counts what is open: an error, else a warning, else it is clean.
    """

    series: DataSeries
    verdict: Literal["clean", "warnings", "errors"]
    kinds: tuple[FoundKind, ...]

    @property
    def count(self) -> int:
        """All findings."""
        return sum(kind.count for kind in self.kinds)

    @staticmethod
    def of(series: DataSeries, findings: Iterable[Finding]) -> "InspectedSeries":
        """What was found, by kind."""
        grouped: dict[tuple[str, Severity, str], list[Finding]] = {}
        for finding in findings:
            grouped.setdefault((finding.kind, finding.severity, state_of(finding)), []).append(finding)
        kinds = tuple(
            FoundKind(*key, len(own), min(one.span_start_ms for one in own), max(one.span_end_ms for one in own))
            for key, own in grouped.items()
        )
        open_ones = {kind.severity for kind in kinds if kind.state == "open"}
        return InspectedSeries(
            series, "errors" if "error" in open_ones else "warnings" if "warning" in open_ones else "clean", kinds
        )

    def to_document(self) -> Json:
        """JSON-ready."""
        return {"series": str(self.series), "verdict": self.verdict, "kinds": as_json(self.kinds)}


def _apart(found: SourceComparison) -> str:
    difference = found.difference
    assert difference is not None, "no common bar"
    if found.identical_price_bars == found.common_bars:
        return f"have identical prices, {found.common_bars - found.identical_bars:,} of them another volume"
    return f"are {difference.median_bps:,.1f} bps apart half of the time, {difference.p99_bps:,.0f} at the 99th percentile"
