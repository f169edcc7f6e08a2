"""Where money and quantities move, and where every movement is written down as an event."""

from candlewick.compiled import njit_inner
from candlewick.engine.arithmetic import fee_of, floor_product, notional_of, sum_amounts
from candlewick.engine.layout import NEVER, Kind, Leg, Outcome, Pending, Phase, Rule


@njit_inner
def record(account, events, count, kind, symbol, at, leg, decided_at):
    """Append an event and return it for its details; ``count`` is the number of events so far in this buffer."""
    account.sequence += 1
    event = events[count]
    event.sequence = account.sequence
    event.kind = kind
    event.symbol = symbol
    event.at = at
    event.leg = leg
    event.decided_at = decided_at
    event.phase = Phase.NONE
    event.price = 0
    event.reference_price = 0
    event.quantity = 0
    event.notional = 0
    event.fee = 0
    event.realized = 0
    event.budget = 0
    event.rule = Rule.NONE
    event.rule_limit = 0
    event.rule_value = 0
    event.outcome = Outcome.NONE
    return event


@njit_inner
def refuse(account, events, count, symbol, at, leg, decided_at, rule, limit, value):
    """Write down a refused order. Returns the new event count."""
    event = record(account, events, count, Kind.REFUSAL, symbol, at, leg, decided_at)
    event.rule = rule
    event.rule_limit = limit
    event.rule_value = value
    return count + 1


@njit_inner
def clear_pending(position):
    """Nothing waits for the next open any more."""
    position.pending = Pending.NONE
    position.pending_decided_at = NEVER
    position.pending_budget = 0
    position.pending_stop_form = 0
    position.pending_stop = 0
    position.pending_target_1_form = 0
    position.pending_target_1 = 0
    position.pending_target_2_form = 0
    position.pending_target_2 = 0


@njit_inner
def post_buy(account, position, quantity, price, notional, fee, at):
    """Cash for a new position; its cost includes the entry fee."""
    account.cash -= notional + fee
    position.quantity = quantity
    position.entry_price = price
    position.cost = notional + fee
    position.opened_at = at
    position.decided_at = position.pending_decided_at
    position.last_price = price


@njit_inner
def close_out(account, position, events, count, symbol, at):
    """The position is gone: cancel the orders that protected it. Returns the new event count."""
    legs = ((Leg.STOP, position.stop), (Leg.TARGET_1, position.target_1), (Leg.TARGET_2, position.target_2))
    for leg, price in legs:
        if price > 0:
            record(account, events, count, Kind.CANCEL, symbol, at, leg, position.decided_at)
            count += 1
    position.target_1_quantity = 0
    position.entry_price = 0
    position.opened_at = NEVER
    position.decided_at = NEVER
    position.stop = 0
    position.target_1 = 0
    position.target_2 = 0
    return count


@njit_inner
def sell(account, position, instrument, events, count, symbol, at, leg, decided_at, phase, quantity, price, reference, rate):
    """Sell part of a position or all of it, unless the exchange's minimum forbids. Returns (filled, new event count).

    Order of events: the fill, then the cancelling of what protected a position that is gone.
    """
    notional = notional_of(quantity, price, instrument.notional_divisor)
    if quantity < instrument.min_quantity:
        return False, refuse(
            account, events, count, symbol, at, leg, decided_at, Rule.MIN_QUANTITY, instrument.min_quantity, quantity
        )
    if notional < instrument.min_notional:
        return False, refuse(
            account, events, count, symbol, at, leg, decided_at, Rule.MIN_NOTIONAL, instrument.min_notional, notional
        )
    fee = fee_of(notional, rate, instrument.fee_quantum)
    cost = position.cost if quantity == position.quantity else floor_product(position.cost, quantity, position.quantity)
    event = record(account, events, count, Kind.FILL, symbol, at, leg, decided_at)
    event.phase = phase
    event.price = price
    event.reference_price = reference
    event.quantity = quantity
    event.notional = notional
    event.fee = fee
    event.realized = notional - fee - cost
    count += 1
    account.cash = sum_amounts(account.cash, notional) - fee
    position.quantity -= quantity
    position.cost -= cost
    return True, count
