"""Which signals are let through: each rule, their order, and that bars judged together or one by one are judged alike."""

from dataclasses import fields, replace
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from candlewick.monitoring.calendars import TradingHours
from candlewick.monitoring.from_settings import signal_rules
from candlewick.monitoring.signal_rules import RULES, Candidate, Context, Pause, SignalRules, Verdict, history_bars, judge
from candlewick.settings_monitoring import RegimeSettings, SignalSettings
from candlewick.timeframes import DAY_MS, MINUTE_MS, parse_utc

# exchange_calendars 4.13 with pandas 3.1.
pytestmark = pytest.mark.filterwarnings("ignore:Series.values returning an ndarray that drops timezone:DeprecationWarning")
START_MS = parse_utc("2026-01-14T15:00")  # a Wednesday, 10:00 in New York
SYMBOL = "BTC/USDT"


def bar(
    number: int, action: str = "BUY", *, symbol: str = SYMBOL, opens: bool | None = None, length_ms: int = MINUTE_MS
) -> Candidate:
    """The signal of the ``number``-th bar; an EXIT opens nothing, others do if not said otherwise."""
    opened_at_ms = START_MS + number * length_ms
    opens = action != "EXIT" if opens is None else opens
    return Candidate(symbol=symbol, opened_at_ms=opened_at_ms, closed_at_ms=opened_at_ms + length_ms, action=action, opens=opens)


def context(**changes: object) -> Context:
    return replace(Context(now_ms=START_MS + DAY_MS), **changes)


def verdict(candidate: Candidate, rules: SignalRules, known: Context | None = None) -> Verdict:
    (found,) = judge([candidate], rules, known or context())
    return found


def rules_named(candidates: list[Candidate], rules: SignalRules, known: Context | None = None) -> list[str | None]:
    return [one.rule for one in judge(candidates, rules, known or context())]


def said(found: Verdict) -> tuple[str | None, str | None, str | None]:
    return found.rule, found.limit, found.value


def test_without_rules_every_signal_is_let_through() -> None:
    candidates = [bar(0), bar(0, symbol="ETH/USDT"), bar(1), bar(1, "SELL", symbol="ETH/USDT"), bar(2, "EXIT")]
    found = judge(candidates, SignalRules(), context())
    assert [one.candidate for one in found] == candidates
    assert all(one.is_accepted and said(one) == (None, None, None) and one.reason == "" for one in found)


def test_a_restricted_symbol_is_not_entered_and_its_neighbour_is() -> None:
    rules = SignalRules(restricted=("DOGE/USDT",))
    assert said(verdict(bar(0, symbol="DOGE/USDT"), rules)) == ("restricted", None, "DOGE/USDT")
    assert verdict(bar(0, symbol="DOGE/USDC"), rules).is_accepted


def test_an_entry_goes_out_while_the_market_is_open_and_not_at_its_last_bar() -> None:
    known = context(hours=TradingHours(("AAPL=XNYS",)))
    last = 6 * 60 - 1  # the minute that ends at 16:00 in New York
    assert verdict(bar(last - 1, symbol="AAPL"), SignalRules(), known).is_accepted
    refused = verdict(bar(last, symbol="AAPL"), SignalRules(), known)
    assert said(refused) == ("market_closed", "XNYS", "closed until 2026-01-15 14:30")
    assert refused.reason == "the market of AAPL is closed until 2026-01-15 14:30"
    assert verdict(bar(last), SignalRules(), known).is_accepted


def test_a_daily_bar_ends_while_its_exchange_is_closed_and_may_enter_at_the_next_session() -> None:
    known = context(hours=TradingHours(("AAPL=XNYS",)))
    midnight_ms = parse_utc("2026-01-14")
    daily = replace(bar(0, symbol="AAPL"), opened_at_ms=midnight_ms, closed_at_ms=midnight_ms + DAY_MS)
    assert verdict(daily, SignalRules(), known).is_accepted
    assert verdict(replace(daily, opened_at_ms=midnight_ms + 1), SignalRules(), known).rule == "market_closed"


def test_a_pause_counts_from_the_bar_that_closes_in_it_until_before_its_end() -> None:
    pause = Pause(symbol=SYMBOL, since_ms=bar(3).closed_at_ms, until_ms=bar(5).closed_at_ms, reason="news at noon")
    found = judge([bar(number) for number in range(7)], SignalRules(), context(pauses=[pause]))
    assert [one.rule for one in found] == [None, None, None, "paused", "paused", None, None]
    assert said(found[3]) == ("paused", None, "since 2026-01-14 15:04")
    assert found[3].reason == "paused since 2026-01-14 15:04: news at noon"


def test_a_pause_is_of_one_symbol_or_of_all_and_lasts_until_it_is_ended() -> None:
    one = context(pauses=[Pause(symbol="ETH/USDT", since_ms=0, until_ms=None, reason="r")])
    every = context(pauses=[Pause(symbol=None, since_ms=0, until_ms=None, reason="r")])
    assert rules_named([bar(0), bar(0, symbol="ETH/USDT")], SignalRules(), one) == [None, "paused"]
    assert rules_named([bar(0), bar(0, symbol="ETH/USDT")], SignalRules(), every) == ["paused", "paused"]


def test_a_signal_is_stale_when_it_is_older_than_its_limit() -> None:
    rules, closed_ms = SignalRules(max_age_s=90.0), bar(0).closed_at_ms
    assert verdict(bar(0), rules, Context(now_ms=closed_ms + 90_000)).is_accepted
    assert said(verdict(bar(0), rules, Context(now_ms=closed_ms + 90_500))) == ("stale", "90 s", "90.5 s")
    assert verdict(bar(0), SignalRules(), Context(now_ms=closed_ms + 10**9)).is_accepted


def test_a_signal_after_missing_bars_is_stale_where_an_age_limit_is_set() -> None:
    gapped = replace(bar(0), missing_bars=2)
    now = Context(now_ms=gapped.closed_at_ms)
    assert said(verdict(gapped, SignalRules(max_age_s=60.0), now)) == ("stale", "60 s", "2 bars missing")
    assert verdict(replace(gapped, missing_bars=1), SignalRules(max_age_s=60.0), now).reason == "1 bar missing right before it"
    assert verdict(gapped, SignalRules(), now).is_accepted


def test_entries_are_bound_to_their_regimes() -> None:
    rules = SignalRules(regimes=("trend", "range"))
    assert verdict(replace(bar(0), regime="range"), rules).is_accepted
    refused = verdict(replace(bar(0), regime="high_volatility"), rules)
    assert said(refused) == ("regime", "trend, range", "high_volatility")
    assert refused.reason == "the regime is high_volatility, and entries are for trend or range"
    assert verdict(bar(0), rules).rule == "regime", "unknown is a regime like the others"
    assert verdict(bar(0), SignalRules(regimes=("unknown",))).is_accepted


def test_a_spread_is_too_wide_beyond_its_limit() -> None:
    rules = SignalRules(max_spread_bps=Decimal("10.0"))
    assert verdict(replace(bar(0), spread_bps=Decimal(10)), rules).is_accepted
    refused = verdict(replace(bar(0), spread_bps=Decimal("12.50")), rules)
    assert said(refused) == ("spread", "10 bps", "12.5 bps")
    assert verdict(replace(bar(0), spread_bps=Decimal(500)), SignalRules()).is_accepted


def test_an_unknown_spread_is_too_wide_only_where_spreads_can_be_asked_for() -> None:
    rules = SignalRules(max_spread_bps=Decimal(10))
    assert verdict(bar(0), rules).is_accepted
    assert said(verdict(bar(0), rules, context(is_live=True))) == ("spread", "10 bps", "unknown")
    assert verdict(bar(0), SignalRules(), context(is_live=True)).is_accepted


def test_a_second_entry_of_the_same_side_within_the_bars_is_a_duplicate() -> None:
    found = judge(
        [bar(0), bar(2), bar(2, "BUY", symbol="ETH/USDT"), bar(3), bar(6, "SELL")], SignalRules(duplicate_bars=2), context()
    )
    assert [one.rule for one in found] == [None, "duplicate", None, None, None]
    assert said(found[1]) == ("duplicate", "2 bars", "2 bars")
    assert found[1].reason == "a BUY was let through 2 bars before it, and 2 bars have to pass"


def test_an_entry_of_the_other_side_and_an_exit_are_no_duplicates() -> None:
    assert rules_named([bar(0), bar(1, "SELL"), bar(2, "EXIT")], SignalRules(duplicate_bars=5)) == [None] * 3
    assert rules_named([bar(0, opens=False), bar(1)], SignalRules(duplicate_bars=5)) == [None] * 2, "the first closed a short"


def test_after_an_entry_or_an_exit_signal_there_is_a_cooldown() -> None:
    rules = SignalRules(cooldown_bars=3)
    assert rules_named([bar(0), bar(3, "SELL"), bar(4, "SELL")], rules) == [None, "cooldown", None]
    found = judge([bar(0, "EXIT"), bar(1), bar(4)], rules, context())
    assert [one.rule for one in found] == [None, "cooldown", None]
    assert said(found[1]) == ("cooldown", "3 bars", "1 bar")


def test_a_rejected_entry_begins_no_cooldown_or_a_strategy_that_repeats_itself_would_never_enter() -> None:
    rules = SignalRules(cooldown_bars=2)
    assert rules_named([bar(number) for number in range(7)], rules) == [None, "cooldown", "cooldown"] * 2 + [None]


def test_bars_are_counted_by_time_so_that_a_gap_is_as_long_as_its_bars() -> None:
    hourly = [bar(0, length_ms=60 * MINUTE_MS), bar(3, length_ms=60 * MINUTE_MS)]
    assert rules_named(hourly, SignalRules(cooldown_bars=2)) == [None, None]
    assert rules_named(hourly, SignalRules(cooldown_bars=3)) == [None, "cooldown"]


def test_exits_are_never_held_back() -> None:
    everything_against = SignalRules(
        max_age_s=1.0, duplicate_bars=9, cooldown_bars=9, max_spread_bps=Decimal(1), restricted=("AAPL",), regimes=("trend",)
    )
    closed = Context(
        now_ms=START_MS + 2 * DAY_MS,
        is_live=True,
        hours=TradingHours(("AAPL=XNYS",)),
        pauses=[Pause(symbol=None, since_ms=0, until_ms=None, reason="r")],
    )
    night = 12 * 60
    exits = [bar(night, symbol="AAPL", action="EXIT"), bar(night + 1, symbol="AAPL", action="SELL", opens=False)]
    assert rules_named([*exits, bar(night + 2, symbol="AAPL")], everything_against, closed) == [None, None, "restricted"]


def test_of_several_rules_the_first_in_their_order_is_named() -> None:
    order = ["restricted", "market_closed", "paused", "stale", "regime", "spread", "duplicate", "cooldown"]
    assert list(RULES) == order
    candidate = bar(12 * 60, symbol="AAPL")
    rules = SignalRules(
        max_age_s=1.0, duplicate_bars=9, cooldown_bars=9, max_spread_bps=Decimal(1), restricted=("AAPL",), regimes=("trend",)
    )
    known = context(
        is_live=True,
        hours=TradingHours(("AAPL=XNYS",)),
        pauses=[Pause(symbol=None, since_ms=0, until_ms=None, reason="r")],
        recent=[Verdict(candidate=bar(12 * 60 - 1, symbol="AAPL"))],
    )
    for expected in order:
        assert verdict(candidate, rules, known).rule == expected
        off = {"restricted": {"restricted": ()}, "stale": {"max_age_s": None}, "regime": {"regimes": ()}}
        off |= {"spread": {"max_spread_bps": None}, "duplicate": {"duplicate_bars": 0}, "cooldown": {"cooldown_bars": 0}}
        rules = replace(rules, **off.get(expected, {}))
        known = replace(known, **{"market_closed": {"hours": TradingHours()}, "paused": {"pauses": ()}}.get(expected, {}))
    assert verdict(candidate, rules, known).is_accepted


def test_an_entry_that_a_risk_limit_refused_afterwards_is_no_entry() -> None:
    rules, entered = SignalRules(duplicate_bars=5, cooldown_bars=5), Verdict(candidate=bar(0))
    assert verdict(bar(1), rules, context(recent=[entered])).rule == "duplicate"
    assert verdict(bar(1), rules, context(recent=[replace(entered, rule="max_positions")])).is_accepted


def test_a_bar_that_is_judged_again_after_a_crash_gets_the_same_verdict() -> None:
    rules, candidates = SignalRules(duplicate_bars=2, cooldown_bars=3), [bar(number) for number in range(6)]
    first = judge(candidates, rules, context())
    assert judge(candidates[3:], rules, context(recent=first)) == first[3:]


def test_verdicts_come_in_the_order_of_the_candidates_whatever_their_time() -> None:
    candidates = [bar(2), bar(0, symbol="ETH/USDT"), bar(0), bar(1)]
    found = judge(candidates, SignalRules(cooldown_bars=1), context())
    assert [one.candidate for one in found] == candidates
    assert [one.rule for one in found] == [None, None, None, "cooldown"]


CANDIDATES = st.builds(
    lambda number, symbol, action, opens, regime, spread, missing: replace(
        bar(number, action, symbol=symbol, opens=opens and action != "EXIT"),
        regime=regime,
        spread_bps=spread,
        missing_bars=missing,
    ),
    st.integers(0, 30),
    st.sampled_from(["BTC/USDT", "ETH/USDT", "AAPL"]),
    st.sampled_from(["BUY", "SELL", "EXIT"]),
    st.booleans(),
    st.sampled_from(["trend", "range", "unknown"]),
    st.sampled_from([None, Decimal(5), Decimal(50)]),
    st.sampled_from([0, 0, 0, 1]),
)
SIGNAL_RULES = st.builds(
    SignalRules,
    max_age_s=st.sampled_from([None, 600.0, 1800.0]),
    duplicate_bars=st.integers(0, 6),
    cooldown_bars=st.integers(0, 6),
    max_spread_bps=st.sampled_from([None, Decimal(10)]),
    restricted=st.sampled_from([(), ("ETH/USDT",)]),
    regimes=st.sampled_from([(), ("trend", "range")]),
)


@settings(max_examples=200, deadline=None)
@given(
    candidates=st.lists(CANDIDATES, max_size=40, unique_by=lambda one: (one.symbol, one.opened_at_ms)),
    rules=SIGNAL_RULES,
    cuts=st.sets(st.integers(0, 40)),
    is_live=st.booleans(),
)
def test_a_history_in_any_pieces_gets_the_same_verdicts(
    candidates: list[Candidate], rules: SignalRules, cuts: set[int], is_live: bool
) -> None:
    candidates.sort(key=lambda one: one.opened_at_ms)
    pause = Pause(symbol="BTC/USDT", since_ms=START_MS + 600_000, until_ms=START_MS + 900_000, reason="r")
    known = Context(now_ms=START_MS + 30 * MINUTE_MS, is_live=is_live, pauses=[pause], hours=TradingHours(("AAPL=XNYS",)))
    whole = judge(candidates, rules, known)
    ends = sorted({0, len(candidates), *(cut for cut in cuts if cut < len(candidates))})
    pieces: list[Verdict] = []
    for since, until in pairwise(ends):
        newest_ms = candidates[since].opened_at_ms
        recent = [one for one in pieces if newest_ms - one.candidate.opened_at_ms <= history_bars(rules) * MINUTE_MS]
        pieces += judge(candidates[since:until], rules, replace(known, recent=recent))
    assert pieces == whole


def test_every_setting_of_the_signals_is_a_rule() -> None:
    chosen = SignalSettings(
        max_age_s=90, duplicate_bars=3, cooldown_bars=4, max_spread_bps=Decimal("7.5"), restricted=("DOGE/USDT",)
    )
    assert signal_rules(chosen, RegimeSettings(entries=("trend",))) == SignalRules(
        max_age_s=90.0,
        duplicate_bars=3,
        cooldown_bars=4,
        max_spread_bps=Decimal("7.5"),
        restricted=("DOGE/USDT",),
        regimes=("trend",),
    )
    assert {one.name for one in fields(SignalRules)} == set(SignalSettings.model_fields) - {"calendars"} | {"regimes"}
    assert signal_rules(SignalSettings(), RegimeSettings()) == SignalRules(), "as delivered no rule is on"


@pytest.mark.parametrize(("duplicate_bars", "cooldown_bars", "bars"), [(0, 0, 0), (5, 2, 5), (2, 5, 5)])
def test_a_verdict_looks_back_as_far_as_its_longest_rule(duplicate_bars: int, cooldown_bars: int, bars: int) -> None:
    assert history_bars(SignalRules(duplicate_bars=duplicate_bars, cooldown_bars=cooldown_bars)) == bars
