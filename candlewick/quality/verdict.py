"""What a comparison of two sources comes to: agree, differ or unusable, each criterion with its value and its limit."""

from dataclasses import dataclass
from typing import Literal

from candlewick.quality.comparison import SourceComparison
from candlewick.quality.disagreements import disagreement_text
from candlewick.quality.thresholds import Thresholds
from candlewick.validation import Finding

Verdict = Literal["agree", "differ", "unusable"]

MAX_FINDINGS = 500
"""Rows that one comparison adds to the quality table; beyond, those with the largest differences."""


@dataclass(frozen=True, slots=True)
class Criterion:
    """One thing that was judged. ``verdict`` is what the comparison comes to where it is not met."""

    name: str
    value: str
    limit: str
    is_met: bool
    verdict: Verdict
    reason: str
    """What it means that it is not met; empty where it is."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict, and all criteria that led to it."""

    verdict: Verdict
    criteria: tuple[Criterion, ...]

    @property
    def reasons(self) -> tuple[str, ...]:
        """What speaks against agreement; of an unusable comparison only what makes it so."""
        return tuple(one.reason for one in self.criteria if not one.is_met and one.verdict == self.verdict)


def judge(comparison: SourceComparison, limits: Thresholds) -> Judgement:
    """Unusable where one criterion says so, else differ where one does, else agree."""
    criteria = (*_usability(comparison, limits), *_agreement(comparison, limits))
    failed = {one.verdict for one in criteria if not one.is_met}
    verdict: Verdict = "unusable" if "unusable" in failed else "differ" if "differ" in failed else "agree"
    return Judgement(verdict, criteria)


def disagreement_findings(comparison: SourceComparison, judgement: Judgement) -> tuple[Finding, ...]:
    """What the quality table keeps about our series: a row a disagreement, at most MAX_FINDINGS, in order of time.

    Of sources that are not one market, or shifted, no bar says anything: one row about the whole span says why. Too few bars
    in common are no finding about the candles.
    """
    if judgement.verdict == "unusable":
        span, enough = comparison.span, judgement.criteria[0].is_met
        if span is None or not enough:
            return ()
        text = f"cannot be compared with {comparison.other.label}: {'; '.join(judgement.reasons)}"
        return (Finding("disagreement", "error", span.since_ms, span.until_ms, text),)
    worst = sorted(comparison.disagreements, key=lambda one: -abs(one.difference_bps))[:MAX_FINDINGS]
    return tuple(
        Finding(
            "disagreement",
            "info" if one.column == "volume" else "warning",
            one.since_ms,
            one.until_ms,
            disagreement_text(one, comparison.other.label),
        )
        for one in sorted(worst, key=lambda one: one.since_ms)
    )


def _usability(found: SourceComparison, limits: Thresholds) -> list[Criterion]:
    names = f"{found.ours.label} and {found.other.label}"
    enough = found.common_bars >= limits.min_common_bars
    few = f"{names} have {found.common_bars:,} bars in common, {limits.min_common_bars:,} are needed to judge them"
    criteria = [_criterion("common bars", f"{found.common_bars:,}", f"at least {limits.min_common_bars:,}", enough, few, True)]
    difference, lag = found.difference, found.lag
    if difference is not None:
        is_same = difference.median_bps <= limits.unusable_median_bps
        apart = f"{names} are {difference.median_bps:,.0f} bps apart half of the time: another pair, currency or unit"
        limit = f"at most {limits.unusable_median_bps:,g} bps"
        criteria.append(_criterion("one market: median", f"{difference.median_bps:,.1f} bps", limit, is_same, apart, True))
    if lag is not None:
        moves = lag.best >= limits.unusable_correlation
        strange = f"the returns of {names} do not move together (correlation {lag.best:.2f} at best): another market"
        limit = f"at least {limits.unusable_correlation:g}"
        criteria.append(_criterion("one market: correlation", f"{lag.best:.3f}", limit, moves, strange, True))
        late = "late" if lag.best_bars > 0 else "early"
        bars = f"{abs(lag.best_bars)} bar{'' if abs(lag.best_bars) == 1 else 's'}"
        shifted = (
            f"{found.other.name} is {bars} {late} against {found.ours.name}: returns fit at {lag.best:.3f} when it is shifted "
            f"and at {lag.unshifted:.3f} when not; a time zone, or close times taken for open times"
        )
        value = "none" if lag.best_bars == 0 else f"{bars} {late}"
        criteria.append(_criterion("shift in time", value, "none", lag.best_bars == 0 or not moves, shifted, True))
    return criteria


def _agreement(found: SourceComparison, limits: Thresholds) -> list[Criterion]:
    share, most = found.missing_share, limits.max_missing_share
    lacking = f"{found.only_other_bars:,} bars are missing at {found.ours.name}, {found.only_ours_bars:,} at {found.other.name}"
    criteria = [
        _criterion("bars that one lacks", f"{share:.2%}", f"at most {most:.2%}", share <= most, f"{lacking}: {share:.2%}")
    ]
    difference, lag, ranges = found.difference, found.lag, found.ranges
    if difference is not None:
        for name, value, most_bps in (
            ("median difference", difference.median_bps, limits.max_median_bps),
            ("99th percentile", difference.p99_bps, limits.max_p99_bps),
        ):
            text = f"closes are {value:,.1f} bps apart ({name}), at most {most_bps:,g} are allowed"
            criteria.append(_criterion(name, f"{value:,.1f} bps", f"at most {most_bps:,g} bps", value <= most_bps, text))
        share, most = found.disagreeing_bars / found.common_bars, limits.max_disagreeing_share
        text = f"the sources disagree about a price in {found.disagreeing_bars:,} of {found.common_bars:,} bars"
        criteria.append(_criterion("bars that disagree", f"{share:.2%}", f"at most {most:.2%}", share <= most, text))
    if lag is not None:
        least, value = limits.min_correlation, lag.unshifted
        text = f"returns correlate with {value:.3f}, at least {least:g} is expected of one market"
        criteria.append(_criterion("correlation of returns", f"{value:.3f}", f"at least {least:g}", value >= least, text))
    if ranges is not None:
        least, value = limits.min_range_overlap, ranges.overlap_at_level_share
        text = f"only {value:.1%} of the bars' ranges meet after the level of the difference is taken out"
        criteria.append(_criterion("ranges that meet", f"{value:.1%}", f"at least {least:.1%}", value >= least, text))
    return criteria


def _criterion(name: str, value: str, limit: str, is_met: bool, reason: str, is_vital: bool = False) -> Criterion:
    return Criterion(name, value, limit, is_met, "unusable" if is_vital else "differ", "" if is_met else reason)
