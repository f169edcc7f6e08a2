"""The decisions at a bar's close: signals become orders for the next bar, exits first, then entries."""

from candlewick.compiled import njit_inline, njit_inner
from candlewick.engine.arithmetic import floor_product, notional_of
from candlewick.engine.layout import CLOSE, NEVER, RATE, Action, Kind, Leg, Outcome, Pending, Rule, Sizing, Why
from candlewick.engine.posting import cancel, drop_entry, order, record, refuse
from candlewick.engine.sizing import cash_rule, free_cash, risk_rule, unknown_level, wanted_budget


@njit_inline
def decide(account, positions, instruments, rules, prices, row, decisions, first, last, at, tally, events, count):
    """Turn ``decisions[first:last]`` of bar ``at`` into orders for the next bar: exits first, then entries, in their order.

    Returns the event count.
    """
    for number in range(first, last):
        if decisions[number].action != Action.HOLD:
            count = _leave(account, positions, instruments, rules, decisions[number], at, events, count)
    for number in range(first, last):
        decision = decisions[number]
        if decision.action == Action.BUY or decision.action == Action.SELL:
            count = _enter(account, positions, instruments, rules, prices, row, decision, at, tally, events, count)
    return count


@njit_inline
def _opens(rules, instrument, side):
    """Whether a signal of this side opens a position: what is owned outright cannot be sold short."""
    return rules.long == 1 if side > 0 else rules.short == 1 and instrument.on_margin == 1


@njit_inline
def _signal(account, events, count, symbol, closed_at, outcome):
    event = record(account, events, count, Kind.SIGNAL, symbol, closed_at, Leg.NONE, closed_at)
    event.outcome = outcome
    return count + 1


@njit_inline
def _leave(account, positions, instruments, rules, decision, at, events, count):
    """Orders that close: the other side of a BUY or SELL, everything at an EXIT. Entries that wait for another side are over."""
    symbol = decision.symbol
    position, instrument = positions[symbol], instruments[symbol]
    closed_at = at + rules.timeframe_ms
    side = 1 if decision.action == Action.BUY else -1
    opens = decision.action != Action.EXIT and _opens(rules, instrument, side)
    waiting = position.pending != Pending.NONE
    held = position.quantity > 0
    if waiting and (
        decision.action == Action.EXIT or position.pending_side != side or (opens and not (held and position.side == side))
    ):
        count = drop_entry(account, position, events, count, Kind.CANCEL, symbol, closed_at, Why.REPLACED)
    if held and (decision.action == Action.EXIT or position.side != side):
        reverses = opens and rules.reverse == 1
        outcome = Outcome.REVERSAL_ORDERED if reverses else Outcome.EXIT_ORDERED
        count = _signal(account, events, count, symbol, closed_at, outcome)
        if position.exit_leg == Leg.NONE or position.exit_quantity > 0:
            if position.exit_leg != Leg.NONE:
                leg, decided_at, side = position.exit_leg, position.exit_decided_at, position.side
                count = cancel(account, events, count, Kind.CANCEL, symbol, closed_at, leg, decided_at, side, Why.REPLACED)
            position.exit_leg, position.exit_decided_at, position.exit_quantity = Leg.EXIT, closed_at, 0
            return order(
                account, events, count, symbol, closed_at, Leg.EXIT, closed_at, -position.side, position.side, 0,
                position.quantity,
            )  # fmt: skip
        return count
    if not opens and not held:
        outcome = Outcome.EXIT_ORDERED if waiting else Outcome.NOTHING_TO_SELL
        return _signal(account, events, count, symbol, closed_at, outcome)
    if not opens:
        return _signal(account, events, count, symbol, closed_at, Outcome.ALREADY_IN_POSITION)
    return count


@njit_inline
def _enter(account, positions, instruments, rules, prices, row, decision, at, tally, events, count):
    """Orders that open, add, reverse, or bring a position to its target weight."""
    symbol = decision.symbol
    position, instrument = positions[symbol], instruments[symbol]
    closed_at = at + rules.timeframe_ms
    side = 1 if decision.action == Action.BUY else -1
    if not _opens(rules, instrument, side):
        return count
    held = position.quantity > 0
    reverses = held and position.side != side
    if reverses and rules.reverse == 0:
        return count
    adds = held and not reverses and position.exit_leg == Leg.NONE and position.pending == Pending.NONE
    if held and not reverses and not (adds and (rules.sizing == Sizing.TARGET_WEIGHT or position.entries < rules.max_entries)):
        return _signal(account, events, count, symbol, closed_at, Outcome.ALREADY_IN_POSITION)
    price = prices[symbol, row, CLOSE] if decision.entry_type == Pending.MARKET else decision.entry_price
    wanted, share, rule, limit, value = wanted_budget(account, rules, instrument, decision, price, side)
    if adds and rules.sizing == Sizing.TARGET_WEIGHT and rule == Rule.NONE:
        wanted, share = wanted - _committed(position, instrument), NEVER
        if abs(wanted) < max(floor_product(max(account.equity, 0), rules.rebalance_share, RATE), 1):
            return _signal(account, events, count, symbol, closed_at, Outcome.ALREADY_IN_POSITION)
        if wanted < 0:
            return _reduce_to_weight(account, position, instrument, -wanted, symbol, closed_at, events, count)
    free = free_cash(account, positions, instruments, rules)
    risk, risk_limit, risk_value = risk_rule(account, positions, rules, position, at, adds)
    if risk != Rule.NONE:
        rule, limit, value = risk, risk_limit, risk_value
    if rule == Rule.NONE:
        rule, limit, value = unknown_level(decision)
    if rule == Rule.NONE:
        rule, limit, value = cash_rule(instrument, wanted, free)
    if rule != Rule.NONE:
        if not reverses:
            count = _signal(account, events, count, symbol, closed_at, Outcome.REFUSED)
        return refuse(account, tally, events, count, symbol, closed_at, Leg.ENTRY, closed_at, side, rule, limit, value)
    if not reverses:
        count = _signal(account, events, count, symbol, closed_at, Outcome.ENTRY_ORDERED)
    return _place(account, position, rules, decision, min(wanted, free), share, side, adds, closed_at, events, count)


@njit_inner
def _committed(position, instrument):
    """What the position takes of the capital at the last close: its value, or that over its leverage."""
    worth = notional_of(position.quantity, position.last_price, instrument.notional_divisor)
    return floor_product(worth, RATE, instrument.leverage_rate) if instrument.on_margin == 1 else worth


@njit_inner
def _reduce_to_weight(account, position, instrument, surplus, symbol, closed_at, events, count):
    """An exit of the part that is beyond the target weight, in steps."""
    part = floor_product(position.quantity, surplus, max(_committed(position, instrument), 1))
    part = min(part, position.quantity) // instrument.step * instrument.step
    if part == 0:
        return _signal(account, events, count, symbol, closed_at, Outcome.ALREADY_IN_POSITION)
    count = _signal(account, events, count, symbol, closed_at, Outcome.REDUCTION_ORDERED)
    position.exit_leg, position.exit_decided_at, position.exit_quantity = Leg.EXIT, closed_at, part
    side = position.side
    return order(account, events, count, symbol, closed_at, Leg.EXIT, closed_at, -side, side, 0, part)


@njit_inline
def _place(account, position, rules, decision, budget, share, side, adds, closed_at, events, count):
    """The entry waits for the next bar; limit and stop entries for as many bars as they are live."""
    position.pending = decision.entry_type
    position.pending_side = side
    position.pending_adds = 1 if adds else 0
    position.pending_filled = 0
    position.pending_decided_at = closed_at
    position.pending_budget = budget
    position.pending_share = share
    position.pending_price = decision.entry_price
    position.pending_expires_at = NEVER
    if decision.entry_type != Pending.MARKET:
        position.pending_expires_at = closed_at + decision.expiry_bars * rules.timeframe_ms
    position.pending_stop_form, position.pending_stop = decision.stop_form, decision.stop
    position.pending_target_1_form, position.pending_target_1 = decision.target_1_form, decision.target_1
    position.pending_target_2_form, position.pending_target_2 = decision.target_2_form, decision.target_2
    position.pending_trail_form, position.pending_trail = decision.trail_form, decision.trail
    position.pending_break_even = decision.break_even
    position.pending_time_stop_bars = decision.time_stop_bars
    event = record(account, events, count, Kind.ORDER, decision.symbol, closed_at, Leg.ENTRY, closed_at)
    event.side = event.position_side = side
    event.budget = budget
    event.price = decision.entry_price if decision.entry_type != Pending.MARKET else 0
    event.entry_type = decision.entry_type
    event.expires_at = position.pending_expires_at
    return count + 1
