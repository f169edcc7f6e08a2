"""The look-ahead check: does a decision at a bar change when later candles are added, removed or changed? (promise 5)

A strategy is a black box here. Its signals over the whole history are compared with its signals over many shorter ones, and over
some that go on differently; with a second answer to the same question; and with histories that start later. What has been
compared is stated (``SymbolCheck``): a strategy that passed did not peek at any of these cuts, on these candles.

A peek at the next few bars shows only where the history ends within them. So besides cuts over the span there is one after every
acting bar, up to a limit (``lookahead_cuts``): an action that was *made* by peeking is gone there. An action that was
*suppressed* by peeking leaves no acting bar; so after acting bars the history also goes on with a made-up crash and rally.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from candlewick.check_report import Cell, CheckFinding, CheckReport, Kind, SymbolCheck, bar_words, cell_words
from candlewick.errors import CandlewickError, InvalidCandles, StrategyFailed, UsageError
from candlewick.lookahead_actions import actions_difference
from candlewick.lookahead_cuts import FUTURES, CutPlan, continued, plan_cuts
from candlewick.lookahead_warmup import measure_warmup
from candlewick.reports.numbers import format_count
from candlewick.signal_differences import Difference, first_difference
from candlewick.strategies.catalog import strategy_document, strategy_name
from candlewick.strategies.contract import HOLD, Strategy, complete_signals

FEWEST_BARS = 20
"""Bars that a history must have beyond the declared warm-up."""

_MOST_FINDINGS = 20
_ACTIONS_CUTS = 5
# Once that many cuts have changed a decision only each tenth is tried, to find the earliest bar; made-up futures no more.
_ENOUGH = 50
_THINNED = 10


@dataclass(frozen=True, slots=True)
class _Whole:
    """One symbol with its answer over the whole history; ``raw`` as the strategy gave it, ``signals`` completed."""

    strategy: Strategy
    symbol: str
    candles: pl.DataFrame
    raw: pl.DataFrame
    signals: pl.DataFrame

    def finding(self, kind: Kind, difference: Difference, text: str, cut: int | None = None) -> CheckFinding:
        """A finding about a bar of this symbol; ``text`` continues `BTC/USDT 2026-01-31 16:00 UTC: `."""
        bar = self.candles["opened_at"][difference.row]
        last = self.candles["opened_at"][cut - 1] if cut else None
        words = f"{self.symbol} {bar_words(bar)}: {text}"
        return CheckFinding(kind, self.symbol, words, bar, difference.column, difference.full, difference.other, last)


@dataclass(slots=True)
class _Cuts:
    """What the cuts of one symbol have found so far: per kind and column the earliest bar, and what to ask again."""

    compared: int = 0
    changed: int = 0
    earliest: dict[tuple[Kind, str | None], CheckFinding] = field(default_factory=dict)
    suspect: pl.DataFrame | None = None
    suspect_answer: pl.DataFrame | None = None

    def add(self, finding: CheckFinding) -> None:
        self.changed += 1
        known = self.earliest.get((finding.kind, finding.column))
        if known is None or (known.bar is not None and finding.bar is not None and finding.bar < known.bar):
            self.earliest[finding.kind, finding.column] = finding


def check_strategy(strategy: Strategy, candles: Mapping[str, pl.DataFrame], *, cuts: int = 40, seed: int = 0) -> CheckReport:
    """Check a strategy on validated candles by symbol (CANDLE_SCHEMA, oldest first). The same seed cuts at the same bars.

    ``cuts`` is also the measure of all work: see ``plan_cuts``; several symbols share what one would get. Raises UsageError (no
    candles, too few, ``cuts`` below 1), InvalidCandles (times not ascending), and StrategyFailed or UnknownStrategy where the
    strategy has no valid answer over a whole history.
    """
    _refuse(strategy, candles, cuts)
    draw = np.random.default_rng(seed)
    checks: list[SymbolCheck] = []
    findings: list[CheckFinding] = []
    for symbol, frame in candles.items():
        check, found = _check_symbol(strategy, symbol, frame, cuts, len(candles), draw)
        checks.append(check)
        findings += found
    findings.sort(key=_order)
    return CheckReport(strategy_name(strategy), strategy_document(strategy), seed, tuple(checks), tuple(findings))


def _refuse(strategy: Strategy, candles: Mapping[str, pl.DataFrame], cuts: int) -> None:
    if not candles:
        raise UsageError("the look-ahead check needs the candles of at least one symbol")
    if cuts < 1:
        raise UsageError(f"the look-ahead check needs at least 1 cut; asked for were {cuts}")
    needed = strategy.warmup + FEWEST_BARS
    for symbol, frame in candles.items():
        if frame.height < needed:
            raise UsageError(
                f"{symbol}: {frame.height:,} candles are too few to check a strategy with a warm-up of {strategy.warmup:,} bars; "
                f"at least {needed:,} are needed: ask for a longer span"
            )
        times = frame["opened_at"]
        if not times.is_sorted() or times.n_unique() != times.len():
            raise InvalidCandles(f"{symbol}: the candles are not in the order of their times, or one is there twice")


def _check_symbol(
    strategy: Strategy, symbol: str, candles: pl.DataFrame, cuts: int, share: int, draw: np.random.Generator
) -> tuple[SymbolCheck, list[CheckFinding]]:
    """One symbol: steadiness first, because nothing else can be told of a strategy that answers differently each time."""
    whole, findings = _ask_repeatedly(strategy, symbol, candles)
    acting = (whole.signals["action"] != HOLD).arg_true().to_numpy().astype(np.int64)
    plan = CutPlan(np.array([], dtype=np.int64), np.array([], dtype=np.int64))
    seen, warmup = _Cuts(), measure_warmup(strategy, candles, whole.signals)
    if not any(finding.fails for finding in findings):
        plan = plan_cuts(acting, candles.height, strategy.warmup, cuts, share, draw)
        seen = _compare_cuts(whole, plan)
        findings += _unmask_state(whole, seen) or sorted(seen.earliest.values(), key=_order)[:_MOST_FINDINGS]
        findings += _compare_actions(whole, plan)
    check = SymbolCheck(
        symbol,
        candles.height,
        candles["opened_at"][0],
        candles["opened_at"][-1],
        seen.compared,
        seen.changed,
        acting.size,
        int(np.isin(acting + 1, plan.truncated).sum()),
        strategy.warmup,
        warmup.measured,
        warmup.within_bars,
    )
    return check, findings if any(finding.fails for finding in findings) else findings + _warnings(check)


def _order(finding: CheckFinding) -> tuple[bool, bool, float]:
    """Failures before warnings, then by bar; at one bar the columns stay in the order in which they were found."""
    return (not finding.fails, finding.bar is None, finding.bar.timestamp() if finding.bar else 0.0)


# --------------------------------------------------------------------------------------------- the same question again


def _ask_repeatedly(strategy: Strategy, symbol: str, candles: pl.DataFrame) -> tuple[_Whole, list[CheckFinding]]:
    """The answer over the whole history, and whether it depends on what was asked before, or changes what it is given.

    Half of the history comes first, before the strategy has seen the rest: kept results of the whole could hide a peek.
    """
    half = candles.height // 2
    before = _try(strategy, candles.head(half))
    given = candles.clone()
    signals = complete_signals(strategy, given)
    whole = _Whole(strategy, symbol, candles, _raw(strategy, candles.clone()), signals)
    if not given.equals(candles) or given.columns != candles.columns:
        columns = [name for name in given.columns if name not in candles.columns or not given[name].equals(candles[name])]
        text = f"{symbol}: the strategy changed the candles it was given ({', '.join(columns) or 'columns left out'})"
        return whole, [CheckFinding("mutates_input", symbol, text, column=columns[0] if columns else None)]
    again = first_difference(signals, complete_signals(strategy, candles.clone()))
    if again:
        text = f"{_change(again)} when asked again with the same candles: it draws random numbers, or keeps state between calls"
        return whole, [whole.finding("not_repeatable", again, text)]
    if before is None:
        return whole, []
    after = _try(strategy, candles.head(half))
    changed = first_difference(before, after) if after is not None else None
    if changed:
        text = f"{_change(changed)} after other candles were asked about in between: it keeps state between calls"
        return whole, [whole.finding("keeps_state", changed, text, half)]
    return whole, []


def _unmask_state(whole: _Whole, seen: _Cuts) -> list[CheckFinding]:
    """After many other questions the first must still have the same answer; so must the first history that made a difference."""
    again = first_difference(whole.signals, complete_signals(whole.strategy, whole.candles))
    if again is None and seen.suspect is not None and seen.suspect_answer is not None:
        other = _try(whole.strategy, seen.suspect)
        again = first_difference(seen.suspect_answer, other) if other is not None else None
    if again is None:
        return []
    text = f"{_change(again)} after other candles were asked about in between: it keeps state between calls"
    # The suspect may be longer than the candles: a made-up bar has no open time here.
    inside = again if again.row < whole.candles.height else Difference(whole.candles.height - 1, *_rest(again))
    return [whole.finding("keeps_state", inside, text)]


def _rest(difference: Difference) -> tuple[str, Cell, Cell, bool]:
    return difference.column, difference.full, difference.other, difference.is_rounding


def _change(difference: Difference) -> str:
    return f"{difference.column} was {cell_words(difference.full)} and is {cell_words(difference.other)}"


# ------------------------------------------------------------------------------------------ shorter and other histories


def _compare_cuts(whole: _Whole, plan: CutPlan) -> _Cuts:
    seen = _Cuts()
    for number, cut in enumerate(plan.truncated.tolist()):
        if seen.changed < _ENOUGH or number % _THINNED == 0:
            _compare(whole, seen, whole.candles.head(cut), cut, f"with the {format_count(cut, 'candle')} up to")
    for cut in plan.continued.tolist():
        for future in FUTURES if seen.changed < _ENOUGH else ():
            words = f"where made-up prices of {future.factor:g} times the last close follow"
            _compare(whole, seen, continued(whole.candles, cut, future), cut, words)
    return seen


def _compare(whole: _Whole, seen: _Cuts, history: pl.DataFrame, cut: int, words: str) -> None:
    """Compare the answer over ``history``, which shares its first ``cut`` bars with the candles, on these bars."""
    seen.compared += 1
    try:
        raw = _raw(whole.strategy, history)
        # As a rule the raw answers agree, and completing them, which costs more than most strategies, can be spared.
        if raw.height == history.height and raw.head(cut).equals(whole.raw.head(cut)):
            return
        other = complete_signals(whole.strategy, history)
    except CandlewickError as problem:
        seen.add(_error(whole, history, cut, problem))
        return
    difference = first_difference(whole.signals.head(cut), other.head(cut))
    if difference is None:
        return
    if seen.suspect is None:
        seen.suspect, seen.suspect_answer = history, other
    last = bar_words(whole.candles["opened_at"][cut - 1])
    full = f"{difference.column} is {cell_words(difference.full)} with all {whole.candles.height:,} candles"
    text = f"{full} and {cell_words(difference.other)} {words} {last}"
    seen.add(whole.finding("rounding" if difference.is_rounding else "look_ahead", difference, text, cut))


def _error(whole: _Whole, history: pl.DataFrame, cut: int, problem: CandlewickError) -> CheckFinding:
    last = whole.candles["opened_at"][cut - 1]
    kind: Kind = "short_history" if history.height <= whole.strategy.warmup else "error"
    return CheckFinding(
        kind, whole.symbol, f"{whole.symbol} with {format_count(history.height, 'candle')}: {problem}", last, cut=last
    )


def _raw(strategy: Strategy, candles: pl.DataFrame) -> pl.DataFrame:
    """The strategy's own answer, for a quick comparison; what it must look like is `complete_signals`' business."""
    try:
        answer = strategy.signals(candles)
    except CandlewickError:
        raise
    except Exception as problem:
        who = f"{type(strategy).__name__}.signals"
        raise StrategyFailed(f"{who} failed: {type(problem).__name__}: {problem}") from problem
    return answer if isinstance(answer, pl.DataFrame) else pl.DataFrame()


def _try(strategy: Strategy, candles: pl.DataFrame) -> pl.DataFrame | None:
    """Signals, or None where the strategy fails: the cuts tell of that."""
    try:
        return complete_signals(strategy, candles)
    except CandlewickError:
        return None


# ----------------------------------------------------------------------------------------------------------- the rest


def _compare_actions(whole: _Whole, plan: CutPlan) -> Sequence[CheckFinding]:
    """The fast path of a strategy, where it has one, must decide as its signals do: over the whole history and some cuts."""
    chosen = plan.truncated[np.linspace(0, plan.truncated.size - 1, _ACTIONS_CUTS).astype(np.int64)].tolist()
    for cut in (whole.candles.height, *chosen):
        difference = actions_difference(whole.strategy, whole.candles.head(cut), whole.signals.head(cut))
        if difference:
            text = f"signals say {difference.column} {cell_words(difference.full)}, actions say {cell_words(difference.other)}"
            return [whole.finding("actions_differ", difference, f"{text} ({cut:,} candles)", cut)]
    return []


def _warnings(check: SymbolCheck) -> list[CheckFinding]:
    findings = []
    measurable = check.warmup_within > check.warmup_declared
    if measurable and (check.warmup_measured is None or check.warmup_measured > check.warmup_declared):
        text = f"{check.symbol}: decisions depend on where the history starts for longer than the declared warm-up of "
        text += f"{check.warmup_declared:,} bars; measured: {check.warmup_text}"
        findings.append(CheckFinding("warmup", check.symbol, text))
    if not check.acting:
        text = f"{check.symbol}: the strategy never acts on these {check.bars:,} bars; try others"
        findings.append(CheckFinding("no_action", check.symbol, text))
    return findings
