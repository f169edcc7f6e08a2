"""Global risk against a reference in plain fractions that starts from nothing at every entry and remembers every close."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from candlewick.monitoring.exposure import Book, ProposedEntry
from candlewick.monitoring.risk import assess
from candlewick.monitoring.risk_state import Lift, RiskRules, RiskState
from candlewick.timeframes import MINUTE_MS, parse_utc
from tests.random_desks import AT_MS, Desk, desks

# Entries


def refused_by(desk: Desk) -> dict[str, str]:
    """The rule that refuses an entry, by client_order_id, where no loss is broken."""
    ordered: list[ProposedEntry] = []
    found = {}
    for entry in desk.proposals:
        rule = next(broken(desk, ordered, entry), None)
        if rule is None:
            ordered.append(entry)
        else:
            found[entry.client_order_id] = rule
    return found


def values(desk: Desk, ordered: Sequence[ProposedEntry]) -> dict[tuple[str, str], Fraction]:
    """What each position is worth, by account and symbol, signed, after all entries that were ordered."""
    found: dict[tuple[str, str], Fraction] = {}
    for book in desk.books:
        for symbol, quantity in book.positions.items():
            if quantity:
                found[book.account, symbol] = Fraction(quantity) * Fraction(book.prices[symbol])
    for entry in [*(one for book in desk.books for one in book.waiting), *ordered]:
        before = found.get((entry.account, entry.symbol), Fraction(0))
        against = before > 0 > entry.side or before < 0 < entry.side
        found[entry.account, entry.symbol] = (Fraction(0) if against else before) + entry.side * Fraction(entry.notional)
    return found


def broken(desk: Desk, ordered: Sequence[ProposedEntry], entry: ProposedEntry) -> Iterator[str]:
    """The rules that are against an entry, in the order in which they are asked."""
    rules, equity = desk.rules, sum((Fraction(book.equity) for book in desk.books), Fraction(0))
    if equity <= 0:
        yield "equity"
    before, after = values(desk, ordered), values(desk, [*ordered, entry])
    new = not entry.adds and (entry.account, entry.symbol) not in before
    if rules.max_positions is not None and new and len(after) > rules.max_positions:
        yield "max_positions"
    group = [symbols for symbols in rules.groups.values() if entry.symbol in symbols]
    compared = [
        ("max_gross_share", rules.max_gross_share, gross(before), gross(after)),
        ("max_net_share", rules.max_net_share, abs(total(before)), abs(total(after))),
        ("max_symbol_share", rules.max_symbol_share, gross(before, (entry.symbol,)), gross(after, (entry.symbol,))),
        *(("max_group_share", rules.max_group_share, gross(before, one), gross(after, one)) for one in group),
    ]
    for rule, limit, old, size in compared:
        if limit is not None and equity > 0 and size / equity > Fraction(limit) and size > old:
            yield rule
    minute = [time for time in desk.state.recent_orders.values() if AT_MS - MINUTE_MS < time <= AT_MS]
    if rules.max_orders_per_minute is not None and len(minute) + len(ordered) + 1 > rules.max_orders_per_minute:
        yield "max_orders_per_minute"


def total(held: dict[tuple[str, str], Fraction]) -> Fraction:
    return sum(held.values(), Fraction(0))


def gross(held: dict[tuple[str, str], Fraction], symbols: Sequence[str] | None = None) -> Fraction:
    return sum((abs(value) for (_, symbol), value in held.items() if symbols is None or symbol in symbols), Fraction(0))


@given(desks())
@settings(deadline=None, max_examples=300)
def test_entries_are_refused_by_the_rules_that_the_reference_names(desk: Desk) -> None:
    found = assess(desk.state, desk.rules, desk.books, desk.proposals, AT_MS)
    if found.blocks_entries:
        assert {one.rule for one in found.refused} <= {"daily_loss_share", "max_drawdown_share"}
        assert found.approved == ()
    else:
        assert {one.entry.client_order_id: one.rule for one in found.refused} == refused_by(desk)


@given(desks())
@settings(deadline=None, max_examples=100)
def test_what_is_shown_is_on_the_side_of_the_limit_that_it_is_on(desk: Desk) -> None:
    for one in assess(desk.state, desk.rules, desk.books, desk.proposals, AT_MS).refused:
        value, limit = (Fraction(text.split()[0]) if text[:1] in "-0123456789" else None for text in (one.value, one.limit))
        if one.rule in ("daily_loss_share", "max_drawdown_share"):
            assert value is not None
            assert limit is not None
            assert value >= limit
        elif one.rule != "equity":
            assert value is not None
            assert limit is not None
            assert value > limit


# Losses

LIFTS: tuple[Lift, ...] = ("manual", "next_day", "when_below")
NEW_YORK = ZoneInfo("America/New_York")
Closes = list[tuple[int, Decimal]]


@st.composite
def closes(draw: st.DrawFn) -> Closes:
    """Closes within days of the night on which New York's clocks go back, some of them at its midnight."""
    found, time_ms = [], parse_utc("2026-10-31T02:00")
    for _ in range(draw(st.integers(1, 20))):
        time_ms += draw(st.sampled_from((MINUTE_MS, 60 * MINUTE_MS, 120 * MINUTE_MS, 1440 * MINUTE_MS, 1500 * MINUTE_MS)))
        found.append((time_ms, draw(st.decimals("700", "1200", places=0))))
    return found


def broken_at(series: Closes, limit: Decimal, lift: Lift, daily: bool) -> list[bool]:
    """Whether a loss is broken after each close. The reference looks back over all closes each time."""
    marks: list[bool] = []
    since = -1  # the close at which the breach came, where there is one
    restart = 0  # what is measured is measured from this close on
    for now, (time_ms, amount) in enumerate(series):
        equity, today = Fraction(amount), day(time_ms)
        first_today = next(index for index in range(now + 1) if day(series[index][0]) == today)
        overnight = max(first_today - 1, 0)
        if since >= 0 and lift == "next_day" and day(series[since][0]) != today:
            since, restart = -1, overnight if daily else now
        start = max(overnight, restart)
        reference = Fraction(series[start][1]) if daily else max(Fraction(one) for _, one in series[restart : now + 1])
        reached = 1 - equity / reference >= Fraction(limit)
        if since >= 0 and lift == "when_below" and not reached:
            since, restart = -1, now
        elif since < 0 and reached:
            since = now
        marks.append(since >= 0)
    return marks


def day(time_ms: int) -> str:
    """New York's date just before a close."""
    before = datetime.fromtimestamp(time_ms // 1000, UTC) - timedelta(seconds=1)
    return before.astimezone(NEW_YORK).date().isoformat()


@given(closes(), st.decimals("0.02", "0.3", places=2), st.sampled_from(LIFTS), st.booleans())
@settings(deadline=None, max_examples=200)
def test_losses_are_broken_and_lifted_where_the_reference_says(series: Closes, limit: Decimal, lift: Lift, daily: bool) -> None:
    zone = NEW_YORK.key
    rules = (
        RiskRules(time_zone=zone, daily_loss_share=limit, daily_loss_lift=lift)
        if daily
        else RiskRules(time_zone=zone, max_drawdown_share=limit, drawdown_lift=lift)
    )
    state, marks = RiskState(), []
    for time_ms, equity in series:
        found = assess(state, rules, [Book(account="desk", equity=equity, positions={}, prices={})], [], time_ms)
        state = RiskState.from_document(found.state.to_document())
        marks.append(found.blocks_entries)
    assert marks == broken_at(series, limit, lift, daily)
