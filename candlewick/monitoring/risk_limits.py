"""The limits that an entry meets before it is ordered: proposals in, approved and refused-with-reason out (as barter-rs does).

Every entry is held against what is open, what waits to be filled, and what was approved before it. So what is left when the
refused ones are taken away is approved as a whole, and an entry that makes nothing larger is never refused for its size.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import NamedTuple

from candlewick.amounts import plain
from candlewick.monitoring.exposure import EXACT, Book, Exposure, ProposedEntry, equity_of, exposure_of
from candlewick.monitoring.risk_state import DAILY_LOSS, KILL_SWITCH, Breach, RiskRules, RiskState, lost

EQUITY = "equity"
MAX_POSITIONS = "max_positions"
MAX_GROSS = "max_gross_share"
MAX_NET = "max_net_share"
MAX_SYMBOL = "max_symbol_share"
MAX_GROUP = "max_group_share"
MAX_ORDERS = "max_orders_per_minute"
_PLACES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """An entry that may not be ordered: the rule, its limit and the value that is beyond it (with units), and a sentence."""

    entry: ProposedEntry
    rule: str
    limit: str
    value: str
    reason: str


class _Size(NamedTuple):
    """An exposure before and after an entry, in quote currency, against its limit, a share of equity."""

    rule: str
    limit: Decimal | None
    before: Decimal
    after: Decimal
    name: str


@dataclass(frozen=True, slots=True)
class Partition:
    """Both in the order of the proposals. ``recent_orders`` as in RiskState, with those that were approved."""

    approved: tuple[ProposedEntry, ...]
    refused: tuple[Refusal, ...]
    recent_orders: Mapping[str, int]


def partition(
    state: RiskState, rules: RiskRules, books: Sequence[Book], proposals: Sequence[ProposedEntry], at_ms: int
) -> Partition:
    """Which of the entries may be ordered at ``at_ms`` (market time), each against all that comes before it."""
    equity = equity_of(books)
    exposure = exposure_of(books, rules.groups, deciding=(entry.client_order_id for entry in proposals))
    approved: list[ProposedEntry] = []
    refused: list[Refusal] = []
    recent = dict(state.recent_orders)
    for entry in proposals:
        refusal = (
            _blocked(entry, state, equity)
            or _crowded(entry, rules, exposure)
            or _too_large(entry, rules, exposure, equity)
            or _too_many_orders(entry, rules, recent, at_ms)
        )
        if refusal is not None:
            refused.append(refusal)
            continue
        approved.append(entry)
        exposure.put(entry.account, entry.symbol, exposure.value_after(entry))
        if rules.max_orders_per_minute is not None:
            recent.setdefault(entry.client_order_id, at_ms)
    return Partition(tuple(approved), tuple(refused), recent)


def _sizes(exposure: Exposure, rules: RiskRules, symbol: str, before: Decimal, after: Decimal) -> Iterator[_Size]:
    """What changes when a position in ``symbol`` goes from one signed value to another."""
    rise = EXACT.subtract(after.copy_abs(), before.copy_abs())
    net = EXACT.add(exposure.net, EXACT.subtract(after, before))
    in_symbol, group = exposure.by_symbol.get(symbol, Decimal(0)), exposure.group_of(symbol)
    side = "long" if net > 0 else "short"
    yield _Size(MAX_GROSS, rules.max_gross_share, exposure.gross, EXACT.add(exposure.gross, rise), "gross exposure")
    yield _Size(MAX_NET, rules.max_net_share, exposure.net.copy_abs(), net.copy_abs(), f"net {side} exposure")
    yield _Size(MAX_SYMBOL, rules.max_symbol_share, in_symbol, EXACT.add(in_symbol, rise), f"exposure in {symbol}")
    if group is not None:
        in_group = exposure.by_group[group]
        yield _Size(MAX_GROUP, rules.max_group_share, in_group, EXACT.add(in_group, rise), f"exposure in group {group}")


def _blocked(entry: ProposedEntry, state: RiskState, equity: Decimal) -> Refusal | None:
    if state.broken:
        breach = state.broken[0]
        return Refusal(entry=entry, rule=breach.rule, limit=breach.limit, value=breach.value, reason=breach_text(breach))
    if equity > 0:
        return None
    reason = f"the desk's equity {plain(equity)} is not above 0"
    return Refusal(entry=entry, rule=EQUITY, limit="above 0", value=plain(equity), reason=reason)


def _crowded(entry: ProposedEntry, rules: RiskRules, exposure: Exposure) -> Refusal | None:
    limit, positions = rules.max_positions, exposure.open_positions + 1
    if limit is None or entry.adds or (entry.account, entry.symbol) in exposure.held or positions <= limit:
        return None
    return _counted(entry, MAX_POSITIONS, limit, positions, "open positions")


def _too_large(entry: ProposedEntry, rules: RiskRules, exposure: Exposure, equity: Decimal) -> Refusal | None:
    before, after = exposure.value(entry.account, entry.symbol), exposure.value_after(entry)
    for size in _sizes(exposure, rules, entry.symbol, before, after):
        if size.limit is None or size.after <= size.before or size.after <= EXACT.multiply(size.limit, equity):
            continue
        limit, value = limit_text(size.limit), share_text(size.after, equity, size.limit, ROUND_CEILING)
        reason = f"{size.name} {value} of equity is above the limit {limit}"
        return Refusal(entry=entry, rule=size.rule, limit=f"{limit} of equity", value=f"{value} of equity", reason=reason)
    return None


def _too_many_orders(entry: ProposedEntry, rules: RiskRules, recent: Mapping[str, int], at_ms: int) -> Refusal | None:
    limit = rules.max_orders_per_minute
    if limit is None or entry.client_order_id in recent:  # an order that was counted before the session died is not another one
        return None
    orders = 1 + sum(time <= at_ms for time in recent.values())  # older ones than a minute are forgotten already
    return None if orders <= limit else _counted(entry, MAX_ORDERS, limit, orders, "entry orders within a minute")


def _counted(entry: ProposedEntry, rule: str, limit: int, value: int, name: str) -> Refusal:
    return Refusal(entry=entry, rule=rule, limit=f"{limit} {name}", value=f"{value} {name}", reason=_above(value, limit, name))


def _above(value: int, limit: int, name: str) -> str:
    return f"{value} {name} are above the limit {limit}"


# Losses


def loss_breach(state: RiskState, rules: RiskRules, rule: str, equity: Decimal) -> tuple[str, str] | None:
    """Limit and value, with units, where a loss has reached its limit; None below it, and where no limit is set."""
    limit = loss_limit(rules, rule)
    loss, reference = lost(state, rule, equity)
    if limit is None or reference <= 0 or loss < EXACT.multiply(limit, reference):
        return None
    return loss_limit_text(rule, limit), loss_text(state, rule, equity, limit)


def loss_limit(rules: RiskRules, rule: str) -> Decimal | None:
    """The limit of DAILY_LOSS or DRAWDOWN."""
    return rules.daily_loss_share if rule == DAILY_LOSS else rules.max_drawdown_share


def loss_limit_text(rule: str, limit: Decimal) -> str:
    """The limit of DAILY_LOSS or DRAWDOWN, with units."""
    return f"{limit_text(limit)} of {_of(rule)}"


def loss_text(state: RiskState, rule: str, equity: Decimal, limit: Decimal | None) -> str:
    """What the loss is now, with units."""
    loss, reference = lost(state, rule, equity)
    return f"{share_text(loss, reference, limit, ROUND_FLOOR)} of {_of(rule)}"


def breach_text(breach: Breach) -> str:
    """A sentence on why entries are refused."""
    since = f"{breach.breached_at:%Y-%m-%d %H:%M} UTC"
    if breach.rule == KILL_SWITCH:
        return f"the kill switch is {breach.value}, since {since}"
    name, limit = "daily loss" if breach.rule == DAILY_LOSS else "drawdown", breach.limit.removesuffix(f" of {_of(breach.rule)}")
    return f"{name} {breach.value} reached the limit {limit} at {since}"


def _of(rule: str) -> str:
    return "the day's first equity" if rule == DAILY_LOSS else "the highest equity"


# Shares as text


def share_text(amount: Decimal, of: Decimal, limit: Decimal | None, rounding: str) -> str:
    """A share as text: four decimals, or the limit's where they are more, so that rounding never moves it across the limit."""
    if of <= 0:
        return "more than all" if amount > 0 else "0.00"
    places = _PLACES if limit is None else max(_PLACES, -int(limit.as_tuple().exponent))
    return limit_text(EXACT.divide(amount, of).quantize(Decimal(1).scaleb(-places), rounding, EXACT))


def limit_text(share: Decimal) -> str:
    """A share with two decimals at the least.

    >>> limit_text(Decimal(1)), limit_text(Decimal("0.0510"))
    ('1.00', '0.051')
    """
    whole, _, decimals = plain(share).partition(".")
    return f"{whole}.{decimals:0<2}"
