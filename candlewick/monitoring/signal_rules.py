"""Which of a strategy's signals a session lets through. Pure: everything is told by the candidates and the context.

Only a candidate that could open or add to a position can be rejected; exits, stops and targets are never held back. The rules
are asked in the order of RULES, and the first that is against the candidate is named. A verdict depends on the candidate's own
bar and on earlier bars of its symbol, so bars judged one by one and bars judged together after a pause get the same verdicts.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from candlewick.monitoring.calendars import TradingHours
from candlewick.monitoring.events import Regime
from candlewick.timeframes import DAY_MS, format_utc


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalRules:
    """``max_age_s`` seconds, ``max_spread_bps`` basis points (None: the rule is off); bars of 0 switch their rule off.

    ``restricted`` are symbols that are not entered; ``regimes`` are those in which entries are allowed, empty: in all.
    """

    max_age_s: float | None = None
    duplicate_bars: int = 0
    cooldown_bars: int = 0
    max_spread_bps: Decimal | None = None
    restricted: tuple[str, ...] = ()
    regimes: tuple[Regime, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One bar of one symbol at whose close the strategy decided something. ``action`` is BUY, SELL or EXIT.

    ``opens``: whether it could open or add to a position, by the account's direction; one that could not is an exit signal.
    ``regime`` is the regime at the bar; ``spread_bps`` the bid-ask spread seen at its close, None where nobody saw it (a bar
    that is caught up on); ``missing_bars`` how many bars right before it did not come although the market was open.
    """

    symbol: str
    opened_at_ms: int
    closed_at_ms: int
    action: str
    opens: bool
    regime: Regime = "unknown"
    spread_bps: Decimal | None = None
    missing_bars: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """``rule`` is who is against the candidate, with its ``limit`` and the ``value`` beyond it as text; None: it is let through.

    ``reason`` is a sentence for people, "" where the candidate is let through.
    """

    candidate: Candidate
    rule: str | None = None
    limit: str | None = None
    value: str | None = None
    reason: str = ""

    @property
    def is_accepted(self) -> bool:
        """Whether no rule is against it."""
        return self.rule is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """``symbol`` (None: every one) is paused from ``since_ms`` until before ``until_ms`` (None: still); a bar's close counts."""

    symbol: str | None
    since_ms: int
    until_ms: int | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What is known when the candidates are judged. ``now_ms`` is the market's clock.

    ``is_live``: whether spreads can be asked for at all; where they can, an unknown one is too wide. ``recent`` are verdicts on
    earlier bars, in any order, at least of the last ``history_bars`` bars. An entry that was refused afterwards, by a risk limit
    for instance, must stand there with that rule, or it counts as an entry.
    """

    now_ms: int
    is_live: bool = False
    hours: TradingHours = field(default_factory=TradingHours)
    pauses: Sequence[Pause] = ()
    recent: Sequence[Verdict] = ()


@dataclass(frozen=True, slots=True)
class _Case:
    """What a rule looks at: ``past`` are the earlier verdicts on the candidate's symbol that still count."""

    candidate: Candidate
    rules: SignalRules
    context: Context
    past: Sequence[Verdict]


@dataclass(frozen=True, slots=True)
class _Objection:
    limit: str | None
    value: str | None
    reason: str


def history_bars(rules: SignalRules) -> int:
    """How many bars before a candidate its verdict can depend on."""
    return max(rules.duplicate_bars, rules.cooldown_bars)


def judge(candidates: Sequence[Candidate], rules: SignalRules, context: Context) -> list[Verdict]:
    """A verdict for each candidate, in their order; bars of a symbol are judged oldest first, in whatever order they come.

    Verdicts on the same or later bars in ``context.recent`` are not looked at, so judging a bar again gives the same verdict.
    """
    known: dict[str, list[Verdict]] = {}
    for verdict in context.recent:
        known.setdefault(verdict.candidate.symbol, []).append(verdict)
    verdicts: dict[int, Verdict] = {}
    for place in sorted(range(len(candidates)), key=lambda place: candidates[place].opened_at_ms):
        candidate = candidates[place]
        history = known.setdefault(candidate.symbol, [])
        reach_ms = history_bars(rules) * (candidate.closed_at_ms - candidate.opened_at_ms)
        past = [one for one in history if 0 < candidate.opened_at_ms - one.candidate.opened_at_ms <= reach_ms]
        verdicts[place] = _judge_one(_Case(candidate, rules, context, past))
        history.append(verdicts[place])
    return [verdicts[place] for place in range(len(candidates))]


def _judge_one(case: _Case) -> Verdict:
    if not case.candidate.opens:
        return Verdict(candidate=case.candidate)
    for rule, objects in RULES.items():
        found = objects(case)
        if found is not None:
            return Verdict(candidate=case.candidate, rule=rule, limit=found.limit, value=found.value, reason=found.reason)
    return Verdict(candidate=case.candidate)


def _restricted(case: _Case) -> _Objection | None:
    symbol = case.candidate.symbol
    return _Objection(None, symbol, f"{symbol} is on the restricted list") if symbol in case.rules.restricted else None


def _market_closed(case: _Case) -> _Objection | None:
    """Asked at the bar's close, when its order would go out: an entry at a session's last bar has no market to go to.

    A bar of a day or more ends while its exchange is closed, always; its order is for the next session, and is not asked about.
    """
    candidate, hours = case.candidate, case.context.hours
    is_daily = candidate.closed_at_ms - candidate.opened_at_ms >= DAY_MS
    if is_daily or hours.is_open(candidate.symbol, candidate.closed_at_ms):
        return None
    opens_ms = hours.next_open_ms(candidate.symbol, candidate.closed_at_ms)
    value = "closed" if opens_ms is None else f"closed until {format_utc(opens_ms)}"
    return _Objection(hours.calendar(candidate.symbol), value, f"the market of {candidate.symbol} is {value}")


def _paused(case: _Case) -> _Objection | None:
    closed_ms = case.candidate.closed_at_ms
    for pause in case.context.pauses:
        is_of_it = pause.symbol in (None, case.candidate.symbol)
        if is_of_it and pause.since_ms <= closed_ms and (pause.until_ms is None or closed_ms < pause.until_ms):
            since = f"since {format_utc(pause.since_ms)}"
            return _Objection(None, since, f"paused {since}: {pause.reason}")
    return None


def _stale(case: _Case) -> _Objection | None:
    """Too old, or decided on bars that lack the newest ones; both only where an age limit is set."""
    limit_s = case.rules.max_age_s
    if limit_s is None:
        return None
    limit, missing = f"{limit_s:g} s", case.candidate.missing_bars
    if missing > 0:
        return _Objection(limit, f"{_counted(missing)} missing", f"{_counted(missing)} missing right before it")
    age_s = (case.context.now_ms - case.candidate.closed_at_ms) / 1000
    return _Objection(limit, f"{age_s:g} s", f"{age_s:g} s old, older than {limit}") if age_s > limit_s else None


def _regime(case: _Case) -> _Objection | None:
    allowed, regime = case.rules.regimes, case.candidate.regime
    if not allowed or regime in allowed:
        return None
    return _Objection(", ".join(allowed), regime, f"the regime is {regime}, and entries are for {' or '.join(allowed)}")


def _spread(case: _Case) -> _Objection | None:
    limit_bps, spread_bps = case.rules.max_spread_bps, case.candidate.spread_bps
    if limit_bps is None or (spread_bps is None and not case.context.is_live):
        return None
    limit = f"{limit_bps.normalize():f} bps"
    if spread_bps is None:
        return _Objection(limit, "unknown", f"the spread at its close is not known, and may be {limit} at the most")
    value = f"{spread_bps.normalize():f} bps"
    return _Objection(limit, value, f"the spread is {value}, wider than {limit}") if spread_bps > limit_bps else None


def _duplicate(case: _Case) -> _Objection | None:
    action = case.candidate.action
    bars = _bars_since(case, lambda one: one.candidate.opens and one.is_accepted and one.candidate.action == action)
    return _too_soon(bars, case.rules.duplicate_bars, f"a {action} was let through")


def _cooldown(case: _Case) -> _Objection | None:
    """A rejected entry counts for nothing: a strategy that says BUY at every bar would never get in otherwise."""
    return _too_soon(_bars_since(case, lambda one: one.is_accepted), case.rules.cooldown_bars, "an entry or exit signal came")


def _bars_since(case: _Case, counts: Callable[[Verdict], bool]) -> int | None:
    """Bars since the newest verdict that counts, by time, so that a gap in the candles is as long as its bars; None: none."""
    length_ms = case.candidate.closed_at_ms - case.candidate.opened_at_ms
    since_ms = max((one.candidate.opened_at_ms for one in case.past if counts(one)), default=None)
    return None if since_ms is None else (case.candidate.opened_at_ms - since_ms) // length_ms


def _too_soon(bars: int | None, limit_bars: int, what: str) -> _Objection | None:
    if bars is None or bars > limit_bars:
        return None
    reason = f"{what} {_counted(bars)} before it, and {_counted(limit_bars)} have to pass"
    return _Objection(_counted(limit_bars), _counted(bars), reason)


def _counted(bars: int) -> str:
    return f"{bars} bar{'' if bars == 1 else 's'}"


# In the order in which they are asked.
RULES: dict[str, Callable[[_Case], _Objection | None]] = {
    "restricted": _restricted,
    "market_closed": _market_closed,
    "paused": _paused,
    "stale": _stale,
    "regime": _regime,
    "spread": _spread,
    "duplicate": _duplicate,
    "cooldown": _cooldown,
}
