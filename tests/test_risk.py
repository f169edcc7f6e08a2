"""Global risk: what a desk as a whole may lose, hold and order; what breaks a limit, what follows, and what lifts it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from hypothesis import given, settings

from candlewick.errors import LedgerUnreadable, UsageError
from candlewick.monitoring.exposure import Book, ProposedEntry, exposure_of
from candlewick.monitoring.risk import Assessment, assess, status
from candlewick.monitoring.risk_settings import read_groups, risk_rules
from candlewick.monitoring.risk_state import Consequence, RiskRules, RiskState, day_pnl, drawdown_share, kill, lift
from candlewick.settings_monitoring import DeskRiskSettings
from candlewick.timeframes import MINUTE_MS, parse_utc
from tests.random_desks import AT_MS, Desk, desks, with_entries

NOON = parse_utc("2026-01-31T12:00")
AT = datetime(2026, 1, 31, 12, tzinfo=UTC)


def book(
    equity: str | int = 1000,
    positions: Mapping[str, str | int] | None = None,
    account: str = "desk",
    waiting: tuple[ProposedEntry, ...] = (),
) -> Book:
    """A book whose symbols all close at 100."""
    held = {symbol: Decimal(quantity) for symbol, quantity in (positions or {}).items()}
    prices = dict.fromkeys(held, Decimal(100))
    return Book(account=account, equity=Decimal(equity), positions=held, prices=prices, waiting=waiting)


def entry(symbol: str, notional: str | int = 100, side: int = 1, account: str = "desk", adds: bool = False) -> ProposedEntry:
    return ProposedEntry(
        account=account,
        symbol=symbol,
        opened_at_ms=NOON - MINUTE_MS,
        side=side,
        notional=Decimal(notional),
        client_order_id=f"{account}-{symbol}-entry",
        adds=adds,
    )


def assessed(rules: RiskRules, books: Sequence[Book], *proposals: ProposedEntry, state: RiskState | None = None) -> Assessment:
    return assess(state or RiskState(), rules, books, proposals, NOON)


def over_time(rules: RiskRules, *equities: tuple[str, str | int], state: RiskState | None = None) -> list[Assessment]:
    """The desk assessed at each time with each equity, one state after another."""
    found, state = [], state or RiskState()
    for time, equity in equities:
        found.append(assess(state, rules, [book(equity)], [], parse_utc(time)))
        state = found[-1].state
    return found


def symbols_of(entries: Sequence[ProposedEntry]) -> list[str]:
    return [one.symbol for one in entries]


# Entries against limits of size and number


def test_without_limits_every_entry_is_approved() -> None:
    found = assessed(RiskRules(), [book()], entry("A/USDT", 10**9), entry("B/USDT"))
    assert symbols_of(found.approved) == ["A/USDT", "B/USDT"]
    assert found.refused == ()
    assert (found.blocks_entries, found.flatten, found.pauses) == (False, False, False)


def test_entries_beyond_the_most_positions_are_refused_in_their_order() -> None:
    found = assessed(
        RiskRules(max_positions=2), [book(positions={"A/USDT": 1})], entry("B/USDT"), entry("C/USDT"), entry("D/USDT")
    )
    assert symbols_of(found.approved) == ["B/USDT"]
    assert [(one.entry.symbol, one.rule, one.limit, one.value) for one in found.refused] == [
        ("C/USDT", "max_positions", "2 open positions", "3 open positions"),
        ("D/USDT", "max_positions", "2 open positions", "3 open positions"),
    ]
    assert found.refused[0].reason == "3 open positions are above the limit 2"


def test_an_entry_that_adds_to_a_position_is_no_new_position() -> None:
    held = book(positions={"A/USDT": 1})
    assert assessed(RiskRules(max_positions=1), [held], entry("A/USDT", adds=True)).refused == ()
    assert [one.rule for one in assessed(RiskRules(max_positions=1), [held], entry("B/USDT")).refused] == ["max_positions"]


def test_a_reversal_takes_the_place_of_the_position_it_closes() -> None:
    rules = RiskRules(max_positions=1, max_gross_share=Decimal("0.5"))
    found = assessed(rules, [book(positions={"A/USDT": -5})], entry("A/USDT", 500))
    assert found.refused == ()
    over = assessed(rules, [book(positions={"A/USDT": -5})], entry("A/USDT", 501))
    assert [one.reason for one in over.refused] == ["gross exposure 0.501 of equity is above the limit 0.50"]


def test_gross_exposure_adds_up_longs_and_shorts_of_all_books() -> None:
    books = [book(500, {"A/USDT": 5}, "one"), book(500, {"B/USDT": "-4.5"}, "two")]
    rules = RiskRules(max_gross_share=Decimal(1))
    assert assessed(rules, books, entry("C/USDT", 50, -1, "one")).refused == ()
    refused = assessed(rules, books, entry("C/USDT", "50.0000000001", -1, "one")).refused
    assert [(one.rule, one.limit, one.value) for one in refused] == [("max_gross_share", "1.00 of equity", "1.0001 of equity")]


def test_net_exposure_lets_a_short_undo_a_long() -> None:
    rules = RiskRules(max_net_share=Decimal("0.5"))
    found = assessed(
        rules, [book(positions={"A/USDT": 8})], entry("B/USDT", 1), entry("C/USDT", 1000, -1), entry("D/USDT", 600, -1)
    )
    assert symbols_of(found.approved) == ["C/USDT"]
    assert [one.reason for one in found.refused] == [
        "net long exposure 0.801 of equity is above the limit 0.50",
        "net short exposure 0.80 of equity is above the limit 0.50",
    ]


def test_the_exposure_in_a_symbol_counts_in_every_account() -> None:
    books = [book(500, {"A/USDT": 2}, "one"), book(500, {}, "two")]
    found = assessed(
        RiskRules(max_symbol_share=Decimal("0.3")), books, entry("A/USDT", 101, -1, "two"), entry("B/USDT", 300, 1, "two")
    )
    assert symbols_of(found.approved) == ["B/USDT"]
    assert [one.reason for one in found.refused] == ["exposure in A/USDT 0.301 of equity is above the limit 0.30"]


def test_a_group_is_limited_as_one_and_other_symbols_are_not() -> None:
    rules = RiskRules(groups={"majors": ("A/USDT", "B/USDT")}, max_group_share=Decimal("0.4"))
    found = assessed(rules, [book(positions={"A/USDT": 2})], entry("B/USDT", 201), entry("C/USDT", 900), entry("B/USDT", 200))
    assert symbols_of(found.approved) == ["C/USDT", "B/USDT"]
    assert [(one.rule, one.reason) for one in found.refused] == [
        ("max_group_share", "exposure in group majors 0.401 of equity is above the limit 0.40")
    ]


def test_entries_that_wait_to_be_filled_count_as_open() -> None:
    waiting = book(waiting=(entry("A/USDT", 600),))
    rules = RiskRules(max_positions=2, max_gross_share=Decimal(1))
    found = assessed(rules, [waiting], entry("B/USDT", 401), entry("C/USDT", 400), entry("D/USDT", 1))
    assert symbols_of(found.approved) == ["C/USDT"]
    assert [one.rule for one in found.refused] == ["max_gross_share", "max_positions"]


def test_an_entry_that_is_decided_now_does_not_count_as_waiting_too() -> None:
    proposed = entry("A/USDT", 600)
    found = assessed(RiskRules(max_positions=1, max_gross_share=Decimal("0.6")), [book(waiting=(proposed,))], proposed)
    assert found.approved == (proposed,)


def test_a_desk_without_equity_enters_nothing() -> None:
    for equity in (0, "-3.5"):
        found = assessed(RiskRules(), [book(equity)], entry("A/USDT"))
        assert [(one.rule, one.limit, one.value) for one in found.refused] == [("equity", "above 0", str(equity))]
    assert assessed(RiskRules(), [], entry("A/USDT")).refused[0].rule == "equity"


def test_a_position_without_a_price_is_no_book() -> None:
    with pytest.raises(ValueError, match="book desk holds A/USDT without a price"):
        Book(account="desk", equity=Decimal(1), positions={"A/USDT": Decimal(1)}, prices={})


def test_entry_orders_within_a_minute_are_counted_over_assessments() -> None:
    rules = RiskRules(max_orders_per_minute=2)
    first = assess(RiskState(), rules, [book()], [entry("A/USDT")], NOON)
    second = assess(first.state, rules, [book()], [entry("B/USDT"), entry("C/USDT")], NOON + MINUTE_MS - 1)
    third = assess(second.state, rules, [book()], [entry("D/USDT"), entry("E/USDT")], NOON + MINUTE_MS)
    assert [symbols_of(one.approved) for one in (first, second, third)] == [["A/USDT"], ["B/USDT"], ["D/USDT"]]
    assert second.refused[0].reason == "3 entry orders within a minute are above the limit 2"
    assert set(third.state.recent_orders) == {"desk-B/USDT-entry", "desk-D/USDT-entry"}


def test_an_order_that_was_counted_is_not_counted_again() -> None:
    rules = RiskRules(max_orders_per_minute=1)
    first = assessed(rules, [book()], entry("A/USDT"))
    again = assessed(rules, [book()], entry("A/USDT"), state=first.state)
    assert again.approved == first.approved
    assert again.state == first.state


def test_a_limit_is_compared_exactly() -> None:
    """Thirty digits behind the point: the default context of the decimal module would round them away."""
    rules = RiskRules(max_gross_share=Decimal("1.5"))
    held = Book(account="desk", equity=Decimal(10) ** 15, positions={"A/USDT": Decimal(10)}, prices={"A/USDT": Decimal(10) ** 14})
    assert assessed(rules, [held], entry("B/USDT", "5e14")).refused == ()
    found = assessed(rules, [held], entry("B/USDT", "500000000000000.000000000000000001"))
    assert [one.reason for one in found.refused] == ["gross exposure 1.5001 of equity is above the limit 1.50"]
    tiny = replace(held, prices={"A/USDT": Decimal("100000000000000.000000000000000001")})
    for side in (1, -1):
        assert assessed(rules, [tiny], entry("B/USDT", "5e14", side)).approved == ()


def test_an_entry_whose_size_is_not_known_yet_is_a_position() -> None:
    found = assessed(RiskRules(max_positions=1), [book()], entry("A/USDT", 0), entry("B/USDT"))
    assert symbols_of(found.approved) == ["A/USDT"]
    again = replace(entry("A/USDT"), client_order_id="another")
    assert assessed(RiskRules(max_positions=1), [book(waiting=(entry("A/USDT", 0),))], again).approved == (again,)


# Losses


def test_a_days_loss_blocks_entries_until_the_next_day() -> None:
    rules = RiskRules(daily_loss_share=Decimal("0.05"))
    found = over_time(
        rules,
        ("2026-01-31T10:00", 1000),
        ("2026-01-31T11:00", "950.01"),
        ("2026-01-31T12:00", 950),
        ("2026-01-31T13:00", 1000),
        ("2026-02-01T00:00", 990),
        ("2026-02-01T00:01", 980),
    )
    assert [one.blocks_entries for one in found] == [False, False, True, True, True, False]
    (breach,) = found[2].breached
    assert (breach.rule, breach.limit, breach.value) == (
        "daily_loss_share",
        "0.05 of the day's first equity",
        "0.05 of the day's first equity",
    )
    assert (breach.action, breach.lift, breach.breached_at) == ("block_entries", "next_day", AT)
    assert [len(one.breached) for one in found] == [0, 0, 1, 0, 0, 0]
    assert found[5].lifted == (breach,)
    assert found[5].state.day_start_equity == 990
    blocked = assess(found[3].state, rules, [book()], [entry("A/USDT")], parse_utc("2026-01-31T14:00"))
    assert [(one.rule, one.reason) for one in blocked.refused] == [
        (
            "daily_loss_share",
            "daily loss 0.05 of the day's first equity reached the limit 0.05 at 2026-01-31 12:00 UTC",
        )
    ]


def test_a_close_at_midnight_is_the_last_of_its_day_and_the_first_equity_of_the_next() -> None:
    found = over_time(RiskRules(), ("2026-01-31T23:00", 1000), ("2026-02-01", 900), ("2026-02-01T00:01", 800))
    assert [(one.state.day, one.state.day_start_equity) for one in found] == [
        (date(2026, 1, 31), Decimal(1000)),
        (date(2026, 1, 31), Decimal(1000)),
        (date(2026, 2, 1), Decimal(900)),
    ]
    assert day_pnl(found[-1].state, Decimal(800)) == -100


@pytest.mark.parametrize(
    ("zone", "last", "first", "day"),
    [
        ("Europe/London", "2026-03-29T23:00", "2026-03-29T23:01", date(2026, 3, 30)),  # summer time began that night
        ("Europe/London", "2026-10-26T00:00", "2026-10-26T00:01", date(2026, 10, 26)),  # and ended
        ("America/New_York", "2026-11-02T05:00", "2026-11-02T05:01", date(2026, 11, 2)),
        ("America/Santiago", "2026-09-06T04:00", "2026-09-06T04:01", date(2026, 9, 6)),  # has no midnight: 24:00 is 01:00
        ("Asia/Kolkata", "2026-01-31T18:30", "2026-01-31T18:31", date(2026, 2, 1)),
    ],
)
def test_a_day_begins_at_midnight_of_the_desks_time_zone(zone: str, last: str, first: str, day: date) -> None:
    before, after = over_time(RiskRules(time_zone=zone), (last, 1000), (first, 900))
    assert before.state.day != day
    assert (after.state.day, after.state.day_start_equity) == (day, Decimal(1000))


def test_a_day_that_is_over_does_not_come_back_with_a_late_bar() -> None:
    found = over_time(RiskRules(), ("2026-01-31T12:00", 1000), ("2026-02-01T00:05", 900), ("2026-01-31T23:59", 800))
    assert [one.state.day for one in found[1:]] == [date(2026, 2, 1)] * 2
    assert found[-1].state.day_start_equity == 1000


def test_a_loss_of_one_day_breaks_the_limit_again_on_a_new_day_that_begins_with_a_loss() -> None:
    rules = RiskRules(daily_loss_share=Decimal("0.1"))
    found = over_time(rules, ("2026-01-30T12:00", 1000), ("2026-01-30T13:00", 900), ("2026-01-31T12:00", 800))
    assert [len(one.breached) for one in found] == [0, 1, 1]
    assert [len(one.lifted) for one in found] == [0, 0, 1]
    assert found[2].breached[0].value == "0.1111 of the day's first equity"


def test_a_drawdown_flattens_until_it_is_lifted_by_hand_and_counts_from_there_on() -> None:
    rules = RiskRules(max_drawdown_share=Decimal("0.2"))
    found = over_time(rules, ("2026-01-01", 900), ("2026-01-10", 1000), ("2026-01-20", 790), ("2026-01-31", 2000))
    assert [one.flatten for one in found] == [False, False, True, True]
    assert found[2].breached[0].value == "0.21 of the highest equity"
    assert found[3].breached == ()
    fallen = found[2].state
    assert drawdown_share(fallen, Decimal(790)) == Decimal("0.21")
    lifted = lift(fallen, "max_drawdown_share")
    after = over_time(rules, ("2026-01-21", 780), ("2026-01-22", 632), state=lifted)
    assert [one.flatten for one in after] == [False, True]
    assert after[0].state.peak_equity == 790


def test_a_days_loss_that_was_lifted_by_hand_counts_from_the_equity_of_then() -> None:
    rules = RiskRules(daily_loss_share=Decimal("0.1"), daily_loss_lift="manual")
    broken = over_time(rules, ("2026-01-30T12:00", 1000), ("2026-01-30T13:00", 900), ("2026-01-31T12:00", 880))[-1]
    assert broken.blocks_entries
    lifted = lift(broken.state, "daily_loss_share")
    after = over_time(rules, ("2026-01-31T13:00", 793), ("2026-01-31T14:00", 792), state=lifted)
    assert [one.blocks_entries for one in after] == [False, True]


def test_a_breach_is_lifted_when_the_value_is_below_the_limit_again() -> None:
    rules = RiskRules(max_drawdown_share=Decimal("0.2"), drawdown_action="pause", drawdown_lift="when_below")
    found = over_time(rules, ("2026-01-01", 1000), ("2026-01-02", 800), ("2026-01-03", 800), ("2026-01-04", 801))
    assert [one.pauses for one in found] == [False, True, True, False]
    assert [one.rule for one in found[3].lifted] == ["max_drawdown_share"]
    assert found[3].state.peak_equity == 801


def test_a_breach_keeps_the_action_and_the_lift_that_were_set_when_it_came() -> None:
    broken = over_time(RiskRules(max_drawdown_share=Decimal("0.2")), ("2026-01-01", 1000), ("2026-01-02", 800))[-1]
    other = RiskRules(max_drawdown_share=Decimal("0.2"), drawdown_action="pause", drawdown_lift="when_below")
    after = assess(broken.state, other, [book(999)], [], NOON)
    assert (after.flatten, after.pauses) == (True, False)


def test_without_a_book_nothing_is_broken_and_nothing_forgotten() -> None:
    rules = RiskRules(max_drawdown_share=Decimal("0.2"))
    state = over_time(rules, ("2026-01-01", 1000))[-1].state
    assert assess(state, rules, [], [], NOON).state == state


# The kill switch


@pytest.mark.parametrize("action", ["pause", "flatten", "block_entries"])
def test_the_kill_switch_does_what_its_setting_says_until_it_is_lifted(action: Consequence) -> None:
    rules = RiskRules(kill_switch_action=action)
    killed = kill(RiskState(), rules, "the exchange acts up", AT)
    found = assessed(rules, [book()], entry("A/USDT"), state=killed)
    assert (found.pauses, found.flatten, found.blocks_entries) == (action == "pause", action == "flatten", True)
    assert [(one.rule, one.reason) for one in found.refused] == [
        ("kill_switch", "the kill switch is on: the exchange acts up, since 2026-01-31 12:00 UTC")
    ]
    lifted = assessed(rules, [book()], entry("A/USDT"), state=lift(found.state, "kill_switch"))
    assert (lifted.pauses, lifted.flatten, lifted.blocks_entries) == (False, False, False)
    assert lifted.refused == ()


def test_a_kill_switch_that_is_on_keeps_its_first_reason() -> None:
    once = kill(RiskState(), RiskRules(), "first", AT)
    assert kill(once, RiskRules(), "second", AT) == once
    assert once.killed is not None
    assert once.killed.value == "on: first"


def test_the_kill_switch_goes_before_a_loss_and_no_new_day_lifts_it() -> None:
    rules = RiskRules(daily_loss_share=Decimal("0.1"))
    broken = over_time(rules, ("2026-01-30T12:00", 1000), ("2026-01-30T13:00", 900))[-1].state
    both = assess(kill(broken, rules, "enough", AT), rules, [book(900)], [entry("A/USDT")], parse_utc("2026-01-30T14:00"))
    assert both.refused[0].rule == "kill_switch"
    later = over_time(rules, ("2026-02-05", 900), state=both.state)[-1]
    assert [one.rule for one in later.lifted] == ["daily_loss_share"]
    assert later.flatten


def test_a_rule_that_is_not_broken_cannot_be_lifted() -> None:
    killed = kill(RiskState(), RiskRules(), "enough", AT)
    with pytest.raises(UsageError, match=r"'max_drawdown_share' is not broken.*broken now: kill_switch"):
        lift(killed, "max_drawdown_share")


# Kept and shown


def test_the_state_comes_back_from_its_document_as_it_was() -> None:
    rules = RiskRules(daily_loss_share=Decimal("0.1"), max_orders_per_minute=5)
    broken = over_time(rules, ("2026-01-30T12:00", "1000.000000000000000001"), ("2026-01-30T13:00", 900))[-1].state
    state = replace(kill(broken, rules, "enough", AT), recent_orders={"desk-A-entry": NOON})
    kept = json.dumps(state.to_document(), sort_keys=True)
    assert RiskState.from_document(json.loads(kept)) == state
    assert '"day_start_equity": "1000.000000000000000001"' in kept
    assert RiskState.from_document(json.loads(json.dumps(RiskState().to_document()))) == RiskState()


def test_a_document_of_something_else_is_refused() -> None:
    with pytest.raises(LedgerUnreadable, match="day_start_equity"):
        RiskState.from_document({"day_start_equity": "much"})


def test_the_status_tells_every_limit_that_is_set_with_its_value_and_the_kill_switch() -> None:
    rules = RiskRules(
        daily_loss_share=Decimal("0.05"),
        max_drawdown_share=Decimal("0.2"),
        max_positions=3,
        max_gross_share=Decimal("1.5"),
        max_net_share=Decimal(1),
        max_symbol_share=Decimal("0.5"),
        groups={"majors": ("A/USDT", "B/USDT"), "others": ("C/USDT",)},
        max_group_share=Decimal("0.8"),
        max_orders_per_minute=10,
    )
    state = over_time(rules, ("2026-01-31T10:00", 1000))[-1].state
    books = [book(940, {"A/USDT": 3, "B/USDT": -4})]
    state = assess(state, rules, books, [entry("C/USDT")], NOON).state
    found = [(row.rule, row.limit, row.value, row.breached_at, row.action, row.lift) for row in status(state, rules, books)]
    refuse = (None, "refuse", "when_below")
    assert found == [
        ("daily_loss_share", "0.05 of the day's first equity", "0.06 of the day's first equity", AT, "block_entries", "next_day"),
        ("max_drawdown_share", "0.20 of the highest equity", "0.06 of the highest equity", None, "flatten", "manual"),
        ("max_positions", "3 open positions", "2 open positions", *refuse),
        ("max_gross_share", "1.50 of equity", "0.7447 of equity", *refuse),
        ("max_net_share", "1.00 of equity", "0.1064 of equity", *refuse),
        ("max_symbol_share", "0.50 of equity", "0.4256 of equity (B/USDT)", *refuse),
        ("max_group_share", "0.80 of equity", "0.7447 of equity (majors)", *refuse),
        ("max_orders_per_minute", "10 entry orders within a minute", "0 entry orders within a minute", *refuse),
        ("kill_switch", "off", "off", None, "flatten", "manual"),
    ]


def test_the_status_of_a_desk_without_limits_is_the_kill_switch() -> None:
    killed = kill(RiskState(), RiskRules(), "enough", AT)
    (row,) = status(killed, RiskRules(), [book(0)])
    assert (row.rule, row.value, row.breached_at) == ("kill_switch", "on: enough", AT)


def test_the_status_tells_a_breach_whose_limit_is_no_longer_set() -> None:
    broken = over_time(RiskRules(max_drawdown_share=Decimal("0.2")), ("2026-01-01", 1000), ("2026-01-02", 800))[-1].state
    rows = {row.rule: row for row in status(broken, RiskRules(), [book(-1)])}
    assert (rows["max_drawdown_share"].limit, rows["max_drawdown_share"].value) == (None, "1.001 of the highest equity")


# The settings


def test_the_settings_become_the_rules_of_a_desk() -> None:
    said = DeskRiskSettings(max_gross_share=Decimal(2), groups=("majors=A/USDT+B/USDT",), drawdown_action="pause")
    assert risk_rules(said, ["A/USDT", "B/USDT"]) == RiskRules(
        max_gross_share=Decimal(2), groups={"majors": ("A/USDT", "B/USDT")}, drawdown_action="pause"
    )
    assert risk_rules(DeskRiskSettings(), []) == RiskRules()


@pytest.mark.parametrize(
    ("texts", "problem"),
    [
        (["majors=A/USDT+X/USDT"], "the desk does not trade 'X/USDT'"),
        (["majors=A/USDT+"], "the desk does not trade ''"),
        (["majors=A/USDT+A/USDT"], "A/USDT is in majors and again in majors"),
        (["majors=A/USDT", "others=B/USDT+A/USDT"], "A/USDT is in majors and again in others"),
        (["majors=A/USDT", "majors=B/USDT"], "'majors' is named more than once"),
    ],
)
def test_groups_that_cannot_be_meant_are_refused(texts: list[str], problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        read_groups(texts, ["A/USDT", "B/USDT"])


def test_a_limit_on_groups_needs_a_group() -> None:
    with pytest.raises(UsageError, match=r"max_group_share is 0\.5, and there is no group"):
        risk_rules(DeskRiskSettings(max_group_share=Decimal("0.5")), ["A/USDT"])


# Of any desk


@given(desks())
@settings(deadline=None, max_examples=120)
def test_what_is_approved_is_approved_again_as_a_whole_once_the_refused_are_gone(desk: Desk) -> None:
    first = assess(desk.state, desk.rules, desk.books, desk.proposals, AT_MS)
    gone = {one.entry.client_order_id for one in first.refused}
    second = assess(desk.state, desk.rules, desk.books, first.approved, AT_MS)
    assert second == replace(first, refused=())
    assert gone.isdisjoint(second.state.recent_orders)


@given(desks())
@settings(deadline=None, max_examples=80)
def test_approved_and_refused_are_the_proposals_each_in_their_order(desk: Desk) -> None:
    found = assess(desk.state, desk.rules, desk.books, desk.proposals, AT_MS)
    refused = [one.entry for one in found.refused]
    assert [one for one in desk.proposals if one in found.approved] == list(found.approved)
    assert [one for one in desk.proposals if one in refused] == refused
    assert len(found.approved) + len(refused) == len(desk.proposals)


@given(desks())
@settings(deadline=None, max_examples=80)
def test_the_same_close_assessed_twice_changes_nothing_more(desk: Desk) -> None:
    """A session that committed and died before it said so asks again, with the state of then."""
    first = assess(desk.state, desk.rules, desk.books, desk.proposals, AT_MS)
    again = assess(first.state, desk.rules, desk.books, first.approved, AT_MS)
    assert again.state == first.state
    assert (again.breached, again.lifted, again.refused) == ((), (), ())


@given(desks())
@settings(deadline=None, max_examples=80)
def test_the_state_survives_its_document_and_decides_the_same(desk: Desk) -> None:
    stored = RiskState.from_document(json.loads(json.dumps(desk.state.to_document(), sort_keys=True)))
    assert assess(stored, desk.rules, desk.books, desk.proposals, AT_MS) == assess(
        desk.state, desk.rules, desk.books, desk.proposals, AT_MS
    )


@given(desks())
@settings(deadline=None, max_examples=80)
def test_a_desk_within_its_limits_stays_within_them(desk: Desk) -> None:
    found = assess(desk.state, desk.rules, desk.books, desk.proposals, AT_MS)
    if found.blocks_entries:
        assert found.approved == ()
        return
    equity = sum((one.equity for one in desk.books), Decimal(0))
    before, after = (exposure_of(books, desk.rules.groups) for books in (desk.books, with_entries(desk.books, found.approved)))
    pairs = [
        (desk.rules.max_gross_share, before.gross, after.gross),
        (desk.rules.max_net_share, abs(before.net), abs(after.net)),
        *(
            (desk.rules.max_symbol_share, before.by_symbol.get(name, Decimal(0)), after.by_symbol[name])
            for name in after.by_symbol
        ),
        *((desk.rules.max_group_share, before.by_group[name], after.by_group[name]) for name in after.by_group),
    ]
    assert [(limit, old, new) for limit, old, new in pairs if limit is not None and new > max(old, limit * equity)] == []
