"""Global risk: what a desk as a whole may lose, hold and order, over all its symbols and accounts.

`assess` is called with what the books propose at a bar's close. It is a function of its arguments alone, so a session that died
before its commit asks again and is told the same; and what it approved it approves again once the refused entries are gone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, Decimal

from candlewick.monitoring.exposure import Book, ProposedEntry, equity_of, exposure_of
from candlewick.monitoring.risk_limits import (
    MAX_GROSS,
    MAX_GROUP,
    MAX_NET,
    MAX_ORDERS,
    MAX_POSITIONS,
    MAX_SYMBOL,
    Refusal,
    limit_text,
    loss_breach,
    loss_limit,
    loss_limit_text,
    loss_text,
    partition,
    share_text,
)
from candlewick.monitoring.risk_state import (
    DAILY_LOSS,
    DRAWDOWN,
    KILL_SWITCH,
    Breach,
    Consequence,
    Lift,
    RiskRules,
    RiskState,
    day_of,
    followed,
    without,
)
from candlewick.monitoring.status import RiskStatus
from candlewick.timeframes import utc

_LOSSES = (DAILY_LOSS, DRAWDOWN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Assessment:
    """What global risk says at a close. ``breached`` and ``lifted`` are those of this close, not what holds from before.

    ``approved`` and ``refused`` together are the proposals, each in their order. ``blocks_entries`` (any breach), ``pauses``
    (every symbol is to be paused) and ``flatten`` (EXIT for every position that is held) hold as long as a breach does.
    """

    state: RiskState
    approved: tuple[ProposedEntry, ...]
    refused: tuple[Refusal, ...]
    breached: tuple[Breach, ...]
    lifted: tuple[Breach, ...]
    flatten: bool
    blocks_entries: bool
    pauses: bool


def assess(
    state: RiskState, rules: RiskRules, books: Sequence[Book], proposals: Sequence[ProposedEntry], at_ms: int
) -> Assessment:
    """Global risk at ``at_ms``, the market's time (the close of the bar that was decided at), for all books of the desk.

    First the day and the peak, then what is lifted by its setting, then what is newly broken, then entry by entry. Without any
    book the equity is not known: nothing is broken or lifted, and every entry is refused.
    """
    after, lifted, breached = state, tuple[Breach, ...](), tuple[Breach, ...]()
    if books:
        equity = equity_of(books)
        after, lifted = _lifted(followed(state, equity, rules.time_zone, at_ms), rules, equity)
        after, breached = _breached(after, rules, equity, at_ms)
    parts = partition(after, rules, books, proposals, at_ms)
    after = replace(after, recent_orders=parts.recent_orders)
    return Assessment(
        state=after,
        approved=parts.approved,
        refused=parts.refused,
        breached=breached,
        lifted=lifted,
        flatten=after.acts("flatten"),
        blocks_entries=bool(after.breaches),
        pauses=after.acts("pause"),
    )


def _lifted(state: RiskState, rules: RiskRules, equity: Decimal) -> tuple[RiskState, tuple[Breach, ...]]:
    over = tuple(breach for breach in state.broken if _is_over(breach, state, rules, equity))
    for breach in over:
        # A new day has its first equity already: what was lost overnight is a loss of that day.
        begins_anew = breach.rule == DAILY_LOSS and breach.lift == "next_day"
        state = without(state, breach.rule, state.day_start_equity if begins_anew else equity)
    return state, over


def _is_over(breach: Breach, state: RiskState, rules: RiskRules, equity: Decimal) -> bool:
    if breach.lift == "next_day":
        return state.day is not None and day_of(breach.breached_at, rules.time_zone) < state.day
    return breach.lift == "when_below" and loss_breach(state, rules, breach.rule, equity) is None


def _breached(state: RiskState, rules: RiskRules, equity: Decimal, at_ms: int) -> tuple[RiskState, tuple[Breach, ...]]:
    new = []
    for rule in _LOSSES:
        found = None if rule in state.breaches else loss_breach(state, rules, rule, equity)
        if found is not None:
            action, lift = _consequence(rules, rule)
            new.append(Breach(rule=rule, limit=found[0], value=found[1], action=action, lift=lift, breached_at=utc(at_ms)))
    return replace(state, breaches={**state.breaches, **{breach.rule: breach for breach in new}}), tuple(new)


def _consequence(rules: RiskRules, rule: str) -> tuple[Consequence, Lift]:
    if rule == DAILY_LOSS:
        return rules.daily_loss_action, rules.daily_loss_lift
    return (rules.drawdown_action, rules.drawdown_lift) if rule == DRAWDOWN else (rules.kill_switch_action, "manual")


# What is seen


def status(state: RiskState, rules: RiskRules, books: Sequence[Book]) -> tuple[RiskStatus, ...]:
    """Every limit that is set, or broken, with its value now; the kill switch last.

    An entry beyond a limit of size or number is refused (`refuse`), until one fits again (`when_below`). The orders of a minute
    are those before the last assessment.
    """
    equity, exposure = equity_of(books), exposure_of(books, rules.groups)
    rows = (
        *(_loss_status(state, rules, rule, equity) for rule in _LOSSES),
        _count_status(MAX_POSITIONS, rules.max_positions, exposure.open_positions, "open positions"),
        _share_status(MAX_GROSS, rules.max_gross_share, equity, exposure.gross),
        _share_status(MAX_NET, rules.max_net_share, equity, exposure.net.copy_abs()),
        _share_status(MAX_SYMBOL, rules.max_symbol_share, equity, *_largest(exposure.by_symbol)),
        _share_status(MAX_GROUP, rules.max_group_share, equity, *_largest(exposure.by_group)),
        _count_status(MAX_ORDERS, rules.max_orders_per_minute, len(state.recent_orders), "entry orders within a minute"),
        _kill_status(state, rules),
    )
    return tuple(row for row in rows if row is not None)


def _loss_status(state: RiskState, rules: RiskRules, rule: str, equity: Decimal) -> RiskStatus | None:
    limit, breach = loss_limit(rules, rule), state.breaches.get(rule)
    if limit is None and breach is None:
        return None
    action, lift = _consequence(rules, rule) if breach is None else (breach.action, breach.lift)
    return RiskStatus(
        rule=rule,
        limit=None if limit is None else loss_limit_text(rule, limit),
        value=loss_text(state, rule, equity, limit),
        breached_at=None if breach is None else breach.breached_at,
        action=action,
        lift=lift,
    )


def _kill_status(state: RiskState, rules: RiskRules) -> RiskStatus:
    breach = state.killed
    return RiskStatus(
        rule=KILL_SWITCH,
        limit="off",
        value="off" if breach is None else breach.value,
        breached_at=None if breach is None else breach.breached_at,
        action=rules.kill_switch_action if breach is None else breach.action,
        lift="manual",
    )


def _count_status(rule: str, limit: int | None, value: int, unit: str) -> RiskStatus | None:
    return None if limit is None else _refusing(rule, f"{limit} {unit}", f"{value} {unit}")


def _share_status(rule: str, limit: Decimal | None, equity: Decimal, amount: Decimal, of: str = "") -> RiskStatus | None:
    if limit is None:
        return None
    value = f"{share_text(amount, equity, limit, ROUND_CEILING)} of equity"
    return _refusing(rule, f"{limit_text(limit)} of equity", f"{value} ({of})" if of else value)


def _largest(amounts: Mapping[str, Decimal]) -> tuple[Decimal, str]:
    """The largest amount and whose it is, the first by name of several; 0 and nothing where there is none."""
    found = max(sorted(amounts), key=amounts.__getitem__, default="")
    return (amounts[found], found) if found else (Decimal(0), found)


def _refusing(rule: str, limit: str, value: str) -> RiskStatus:
    return RiskStatus(rule=rule, limit=limit, value=value, breached_at=None, action="refuse", lift="when_below")
