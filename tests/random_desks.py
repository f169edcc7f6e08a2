"""Desks at random: rules, books and proposed entries, drawn so that every limit binds now and then."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal

from hypothesis import strategies as st

from candlewick.monitoring.exposure import Book, ProposedEntry
from candlewick.monitoring.risk_state import RiskRules, RiskState
from candlewick.timeframes import MINUTE_MS, parse_utc

SYMBOLS = ("A/USDT", "B/USDT", "C/USDT", "D/USDT")
ACCOUNTS = ("one", "two")
AT_MS = parse_utc("2026-01-31T12:00")
_SHARES = st.none() | st.decimals("0.05", "3", places=2)


@dataclass(frozen=True)
class Desk:
    state: RiskState
    rules: RiskRules
    books: tuple[Book, ...]
    proposals: tuple[ProposedEntry, ...]


@st.composite
def _rules(draw: st.DrawFn) -> RiskRules:
    split = draw(st.integers(0, len(SYMBOLS)))
    groups = {name: symbols for name, symbols in (("low", SYMBOLS[:split]), ("high", SYMBOLS[split:-1])) if symbols}
    losses = st.none() | st.decimals("0.01", "0.9", places=2)
    return RiskRules(
        daily_loss_share=draw(losses),
        max_drawdown_share=draw(losses),
        max_positions=draw(st.none() | st.integers(1, 6)),
        max_gross_share=draw(_SHARES),
        max_net_share=draw(_SHARES),
        max_symbol_share=draw(_SHARES),
        groups=groups,
        max_group_share=draw(_SHARES),
        max_orders_per_minute=draw(st.none() | st.integers(1, 6)),
    )


@st.composite
def _entries(draw: st.DrawFn, kind: str, most: int) -> tuple[ProposedEntry, ...]:
    sized = st.tuples(
        st.sampled_from(ACCOUNTS),
        st.sampled_from(SYMBOLS),
        st.sampled_from((1, -1)),
        st.decimals("0", "900", places=2),
        st.booleans(),
    )
    return tuple(
        ProposedEntry(
            account=account, symbol=symbol, opened_at_ms=AT_MS - MINUTE_MS, side=side, notional=notional,
            client_order_id=f"{kind}-{number}", adds=adds,
        )
        for number, (account, symbol, side, notional, adds) in enumerate(draw(st.lists(sized, max_size=most)))
    )  # fmt: skip


@st.composite
def _books(draw: st.DrawFn) -> tuple[Book, ...]:
    prices = {symbol: draw(st.decimals("0.0001", "300", places=4)) for symbol in SYMBOLS}
    quantities = st.dictionaries(st.sampled_from(SYMBOLS), st.decimals("-5", "5", places=3), max_size=4)
    waiting = draw(_entries("waiting", 3))
    return tuple(
        Book(
            account=account,
            equity=draw(st.decimals("-50", "1500", places=2)),
            positions=draw(quantities),
            prices=prices,
            waiting=tuple(one for one in waiting if one.account == account),
        )
        for account in ACCOUNTS
    )


@st.composite
def desks(draw: st.DrawFn) -> Desk:
    """A desk that was assessed before: its peak, its day's first equity and its orders of the last two minutes are known."""
    books = draw(_books())
    ages = draw(st.lists(st.integers(-MINUTE_MS, 2 * MINUTE_MS), max_size=6))
    equity = sum((book.equity for book in books), Decimal(0))
    start = equity * draw(st.decimals("0.9", "1.2", places=2))
    state = RiskState(
        day=draw(st.sampled_from((None, date(2026, 1, 30), date(2026, 1, 31)))),
        day_start_equity=start,
        peak_equity=max(start, equity * draw(st.decimals("1", "1.5", places=2))),
        last_equity=start,
        recent_orders={f"recent-{number}": AT_MS - age for number, age in enumerate(ages)},
    )
    return Desk(state, draw(_rules()), books, draw(_entries("new", 8)))


def with_entries(books: Sequence[Book], entries: Sequence[ProposedEntry]) -> list[Book]:
    """The books with those entries ordered."""
    return [replace(one, waiting=(*one.waiting, *(entry for entry in entries if entry.account == one.account))) for one in books]
