"""What the report of a validation draws and says: a comparison, its verdict, and what is to be known beside it."""

from dataclasses import dataclass

from candlewick.json_text import Json
from candlewick.json_text import plain as as_json
from candlewick.quality.comparison import SourceComparison, volume_notes
from candlewick.quality.verdict import Judgement


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationView:
    """``notices`` say what was chosen or left out; ``command`` does it again."""

    comparison: SourceComparison
    judgement: Judgement
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
            "command": self.command,
        }


def _apart(found: SourceComparison) -> str:
    difference = found.difference
    assert difference is not None, "no common bar"
    if found.identical_price_bars == found.common_bars:
        return f"have identical prices, {found.common_bars - found.identical_bars:,} of them another volume"
    return f"are {difference.median_bps:,.1f} bps apart half of the time, {difference.p99_bps:,.0f} at the 99th percentile"
