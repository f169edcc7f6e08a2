"""Repair, the pure part: which spans to ask a market for again, what its answer changes, and what becomes of each finding.

Nothing is interpolated, invented or removed. Bars that the market tells differently take the place of those in the lake, bars
that were missing are added, and a finding that the market confirms is explained by that.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import polars as pl

from candlewick.candles import CANDLE_SCHEMA, Series
from candlewick.market_data.coverage import Coverage, Span
from candlewick.market_data.rows import FindingState
from candlewick.timeframes import floor_to_bar, format_utc, timeframe_ms

ASKED_BARS = 5_000
"""How many bars are asked for at once."""
LONGEST_BARS = 200_000
"""A longer span is left to a backfill, which keeps checkpoints. A damaged month of minutes is 44,640 bars."""
JOINED_BARS = 50
"""Spans that are as near as this are one request: a page holds more."""

MISSING_KINDS = ("gap", "gap_not_downloaded", "gap_outage", "gap_no_trades", "stale", "refused", "not_listed", "delisted")
DAMAGED = "damaged_file"
REPLACING = "replacing "
"""How an explanation begins that was written before the bars were: after a crash in between it tells what they had been."""

_NUMBERS = tuple(name for name in CANDLE_SCHEMA if name != "opened_at")
_TIME = pl.col("opened_at").dt.epoch("ms")


@dataclass(frozen=True, slots=True)
class OpenFinding:
    """A finding that waits for repair; ``series`` and ``span`` as the quality table has them."""

    finding_id: str
    series: Series
    kind: str
    severity: str
    span: Span
    evidence: str
    explanation: str | None = None


@dataclass(frozen=True, slots=True)
class RepairRequest:
    """Which findings are meant; None: all. ``market`` and ``timeframe`` as the quality table has them."""

    market: str | None = None
    symbol: str | None = None
    timeframe: str | None = None
    kinds: tuple[str, ...] | None = None

    def wants(self, series: Series) -> bool:
        """Whether findings of the series are meant."""
        wanted = (self.market, series.market), (self.symbol, series.symbol), (self.timeframe, series.timeframe)
        return all(asked in (None, given) for asked, given in wanted)

    def chosen(self, findings: Iterable[OpenFinding]) -> tuple[OpenFinding, ...]:
        """The findings that are meant."""
        return tuple(one for one in findings if self.wants(one.series) and (self.kinds is None or one.kind in self.kinds))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a finding. ``open``: it could not be settled, and the explanation says why."""

    finding: OpenFinding
    state: FindingState
    explanation: str


@dataclass(frozen=True, slots=True)
class RepairPlan:
    """What to ask for again of one series: ``spans`` on the grid of its bars, disjoint, in order. ``too_long`` are left out."""

    series: Series
    findings: tuple[OpenFinding, ...]
    spans: tuple[Span, ...]
    too_long: tuple[OpenFinding, ...] = ()

    @property
    def is_damaged(self) -> bool:
        """Whether a file of the series has to be set aside first."""
        return any(finding.kind == DAMAGED for finding in self.findings)

    @property
    def bars(self) -> int:
        """How many bars the spans hold."""
        return sum(span.length_ms for span in self.spans) // timeframe_ms(self.series.timeframe)


@dataclass(frozen=True, slots=True, eq=False)
class Difference:
    """The lake's bars of a span against the market's answer, all in CANDLE_SCHEMA.

    ``added``: told now and not in the lake. ``changed``: as told now, ``before``: the same bars as the lake has them.
    ``untold``: in the lake and no longer told.
    """

    added: pl.DataFrame
    changed: pl.DataFrame
    before: pl.DataFrame
    untold: pl.DataFrame

    @property
    def to_write(self) -> pl.DataFrame:
        """What the lake is to be given."""
        return pl.concat([self.added, self.changed]).sort("opened_at")

    def within(self, span: Span) -> "Difference":
        """The part that lies within the span."""
        inside = (span.since_ms <= _TIME) & (span.until_ms > _TIME)
        return Difference(
            self.added.filter(inside), self.changed.filter(inside), self.before.filter(inside), self.untold.filter(inside)
        )


@dataclass(frozen=True, slots=True)
class WitnessAnswer:
    """What another timeframe says of a gap: whether the market ``traded`` there."""

    traded: bool
    text: str


@dataclass(frozen=True, slots=True)
class Acted:
    """An account that has decided on bars of a series, from the one at ``anchor_ms`` to the one at ``watermark_ms``."""

    account: str
    anchor_ms: int
    watermark_ms: int


def open_findings(rows: pl.DataFrame) -> tuple[OpenFinding, ...]:
    """Rows of the quality table that are open, by series and time."""
    found = [
        OpenFinding(
            row["finding_id"],
            Series(row["market"], row["symbol"], row["timeframe"]),
            row["kind"],
            row["severity"],
            _span(row["span_start"], row["span_end"]),
            row["evidence"],
            row.get("explanation"),
        )
        for row in rows.filter(pl.col("state") == "open").iter_rows(named=True)
    ]
    return tuple(sorted(found, key=lambda one: (one.series.market, one.series.symbol, one.series.timeframe, one.span.since_ms)))


def plan_repair(series: Series, findings: Iterable[OpenFinding]) -> RepairPlan:
    """The spans of a series' findings on the grid of its bars; near ones are joined, long ones left out."""
    mine = tuple(finding for finding in findings if finding.series == series)
    length_ms = timeframe_ms(series.timeframe)
    too_long = tuple(one for one in mine if one.span.length_ms > LONGEST_BARS * length_ms)
    asked = [on_grid(one.span, series.timeframe) for one in mine if one not in too_long]
    return RepairPlan(series, mine, joined(asked, JOINED_BARS * length_ms), too_long)


def joined(spans: Iterable[Span], near_ms: int) -> tuple[Span, ...]:
    """The spans in order, with those that are no farther than ``near_ms`` from each other as one."""
    whole: list[Span] = []
    for span in Coverage.of(spans).spans:
        if whole and span.since_ms - whole[-1].until_ms <= near_ms:
            whole[-1] = Span(whole[-1].since_ms, span.until_ms)
        else:
            whole.append(span)
    return tuple(whole)


def on_grid(span: Span, timeframe: str) -> Span:
    """The bars that the span touches, whole."""
    length_ms = timeframe_ms(timeframe)
    return Span(floor_to_bar(span.since_ms, timeframe), floor_to_bar(span.until_ms - 1, timeframe) + length_ms)


def pieces(span: Span, timeframe: str, bars: int = ASKED_BARS) -> tuple[Span, ...]:
    """The span cut into requests of at most so many bars."""
    step_ms = bars * timeframe_ms(timeframe)
    return tuple(Span(at, min(at + step_ms, span.until_ms)) for at in range(span.since_ms, span.until_ms, step_ms))


def compare_bars(kept: pl.DataFrame, offered: pl.DataFrame) -> Difference:
    """What the market tells of a span (``offered``) against what the lake has of it; both in CANDLE_SCHEMA, sorted."""
    new = offered.join(kept, on="opened_at", how="semi").sort("opened_at")
    old = kept.join(offered, on="opened_at", how="semi").sort("opened_at")
    differs = new.select(pl.any_horizontal([pl.col(name).ne_missing(old[name]) for name in _NUMBERS]).alias("differs"))["differs"]
    return Difference(
        added=offered.join(kept, on="opened_at", how="anti").sort("opened_at"),
        changed=new.filter(differs),
        before=old.filter(differs),
        untold=kept.join(offered, on="opened_at", how="anti").sort("opened_at"),
    )


def without_acted(
    difference: Difference, accounts: Iterable[Acted], restored: Iterable[Span] = ()
) -> tuple[Difference, Difference]:
    """The difference in two: bars that no account has decided on, and those that one has. ``untold`` stays with the first.

    Bars within ``restored`` were lost with a damaged file: they come back whoever decided on them.
    """
    decided = [_TIME.is_between(one.anchor_ms, one.watermark_ms) for one in accounts]
    lost = [_TIME.is_between(span.since_ms, span.until_ms - 1) for span in restored]
    held = pl.any_horizontal(pl.lit(value=False), *decided) & ~pl.any_horizontal(pl.lit(value=False), *lost)
    added, changed, before = difference.added, difference.changed, difference.before
    free = Difference(added.filter(~held), changed.filter(~held), before.filter(~held), difference.untold)
    return free, Difference(added.filter(held), changed.filter(held), before.filter(held), difference.untold.clear())


def acted_on(difference: Difference, accounts: Iterable[Acted]) -> tuple[str, ...]:
    """Accounts that have decided on a bar which changes or appears; they would refuse to go on (HistoryChanged)."""
    times = difference.to_write.select(_TIME)["opened_at"]
    return tuple(one.account for one in accounts if times.is_between(one.anchor_ms, one.watermark_ms).any())


def replacement_text(difference: Difference, shown: int = 3) -> str:
    """What is put in the place of what, bar by bar: the rows as they were are kept in these words."""
    parts = []
    if difference.changed.height:
        pairs = list(zip(difference.before.iter_rows(named=True), difference.changed.iter_rows(named=True), strict=True))
        parts += [f"bar {_moment(old['opened_at'])}: {_numbers(old)} became {_numbers(new)}" for old, new in pairs[:shown]]
        parts += [f"and {len(pairs) - shown} more bars"] if len(pairs) > shown else []
    if difference.added.height:
        first, last = difference.added["opened_at"][0], difference.added["opened_at"][-1]
        span = _moment(first) if difference.added.height == 1 else f"{_moment(first)} to {_moment(last)}"
        parts.append(f"{_count(difference.added.height, 'missing bar')} came: {span}")
    return "; ".join(parts)


def judge_finding(
    finding: OpenFinding, difference: Difference, still_missing: int, witness: WitnessAnswer | None, asked_at: datetime
) -> Outcome:
    """What became of a finding after the market was asked again and the lake was given the answer.

    ``difference`` is the part of its span, as it was before the lake was given it; ``still_missing`` is how many bars of it the
    market does not tell. ``witness``: what another timeframe says of these; None where none could tell.
    """
    on = f"{format_utc(round(asked_at.timestamp() * 1000))} UTC"
    done = replacement_text(difference)
    if done:
        rest = f"; {_count(still_missing, 'bar')} still missing" if still_missing and finding.kind in MISSING_KINDS else ""
        return Outcome(finding, "open" if rest else "repaired", f"asked again on {on}: {done}{rest}")
    if finding.explanation is not None and finding.explanation.startswith(REPLACING):
        return Outcome(finding, "repaired", f"asked again before {on}: {finding.explanation.removeprefix(REPLACING)}")
    if difference.untold.height and finding.kind not in MISSING_KINDS:
        text = f"the market no longer tells {_count(difference.untold.height, 'bar')} of it; the lake keeps what it was told"
        return Outcome(finding, "open", f"asked again on {on}: {text}")
    if finding.kind not in MISSING_KINDS:
        return Outcome(finding, "explained", f"the market says the same again on {on}")
    if finding.kind == "refused":
        return Outcome(finding, "repaired", f"the market answers sensibly on {on}")
    if not still_missing:
        return Outcome(finding, "repaired", f"every bar of it is there on {on}")
    lacking = f"asked again on {on}: the market has no bar there ({_count(still_missing, 'bar')})"
    if witness is None:
        return Outcome(finding, "explained", lacking)
    return Outcome(finding, "open" if witness.traded else "explained", f"{lacking}; {witness.text}")


def held_back(finding: OpenFinding, held: Difference, accounts: Sequence[Acted]) -> Outcome:
    """What is said of a finding whose bars an account has decided on."""
    text = f"the market tells otherwise ({replacement_text(held)}), but {accounts_text(acted_on(held, accounts))}"
    return Outcome(finding, "open", f"{text}: left as it is. With --force it is replaced, and then that refuses to go on")


def accounts_text(accounts: Sequence[str]) -> str:
    """Which accounts have decided on a bar."""
    return f"account{'' if len(accounts) == 1 else 's'} {', '.join(accounts)} decided on it"


def too_long(finding: OpenFinding, missing: int) -> Outcome:
    """What is said of a finding that spans more than is asked for again here."""
    if finding.kind in MISSING_KINDS and not missing:
        return Outcome(finding, "repaired", "every bar of it is there now")
    series, since = finding.series, format_utc(finding.span.since_ms).replace(" ", "T")
    names = f"--market {series.market} --symbols {series.symbol} --timeframes {series.timeframe} --since {since}"
    return Outcome(
        finding,
        "open",
        f"it spans {finding.span}, more than {LONGEST_BARS:,} bars: `python -m flows.market_data backfill {names}` fetches them",
    )


def witness_timeframe(timeframe: str, offered: Sequence[str], span: Span) -> str | None:
    """The timeframe that can tell whether the market itself stood still in a span; None: there is none.

    The nearest finer one that divides this one and is no longer than a request; else the nearest coarser one of which a whole
    bar lies within the span.
    """
    length_ms = timeframe_ms(timeframe)
    by_length = sorted(offered, key=timeframe_ms)
    finer = [one for one in by_length if length_ms % timeframe_ms(one) == 0 and timeframe_ms(one) < length_ms]
    finer = [one for one in finer if span.length_ms <= ASKED_BARS * timeframe_ms(one)]
    coarser = [one for one in by_length if timeframe_ms(one) > length_ms and whole_bars(span, one) is not None]
    return finer[-1] if finer else coarser[0] if coarser else None


def whole_bars(span: Span, timeframe: str) -> Span | None:
    """The bars of the timeframe that lie within the span as a whole; None where there is none."""
    length_ms = timeframe_ms(timeframe)
    first_ms = floor_to_bar(span.since_ms + length_ms - 1, timeframe)
    end_ms = floor_to_bar(span.until_ms, timeframe)
    return Span(first_ms, end_ms) if first_ms < end_ms else None


def witness_answer(timeframe: str, candles: pl.DataFrame) -> WitnessAnswer:
    """What the market's bars of another timeframe say of a span in which this one has none."""
    traded = candles.filter(pl.col("volume") > 0).height
    if not traded:
        return WitnessAnswer(False, f"{timeframe} has no bar there that traded, either: an outage, or nothing traded")
    return WitnessAnswer(True, f"yet {timeframe} has {_count(traded, 'bar')} there that traded")


def outcome_counts(outcomes: Iterable[Outcome]) -> Mapping[Literal["open", "explained", "repaired"], int]:
    """How many findings ended in which state."""
    states = [outcome.state for outcome in outcomes]
    return {state: states.count(state) for state in ("repaired", "explained", "open")}


def _span(start: datetime, end: datetime) -> Span:
    since_ms = round(start.timestamp() * 1000)
    return Span(since_ms, max(since_ms + 1, round(end.timestamp() * 1000)))


def _numbers(row: Mapping[str, object]) -> str:
    return "/".join(f"{row[name]:.12g}" for name in _NUMBERS)


def _moment(time: datetime) -> str:
    return format_utc(round(time.timestamp() * 1000))


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
