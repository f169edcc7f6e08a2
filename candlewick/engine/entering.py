"""Filling an entry: how much its budget buys, what refuses it, and what protects the position from then on."""

from candlewick.compiled import njit_inline, njit_inner
from candlewick.engine.arithmetic import ceil_product, fee_of, floor_product, notional_of, up_to_tick, worse_tick
from candlewick.engine.layout import NEVER, RATE, Form, Kind, Leg, Rule, Why
from candlewick.engine.posting import cancel, clear_pending, order, post_entry, record, refuse


@njit_inner
def enter_at(account, position, instrument, rules, price, reference, rate, phase, at, tally, events, count, symbol):
    """Fill the entry that waits at ``price``, or as much of it as the participation cap allows, or refuse it."""
    side, decided_at = position.pending_side, position.pending_decided_at
    stop, target_1, target_2 = _protection(position, instrument, price)
    budget = min(position.pending_budget, account.cash - account.margin)
    wanted = affordable(budget, price, instrument, rate)
    quantity = _capped(position, instrument, rules, wanted, price)
    if quantity == 0 and wanted > 0:
        return count
    notional = notional_of(quantity, price, instrument.notional_divisor)
    rule, limit, value = _entry_rule(instrument, side, price, quantity, notional, stop, target_1, target_2)
    if rule != Rule.NONE:
        more = position.pending_filled > 0
        clear_pending(position)
        if more:  # the rest of an entry that the budget no longer reaches: nothing was refused
            return cancel(account, events, count, Kind.CANCEL, symbol, at, Leg.ENTRY, decided_at, side, Why.BUDGET_SPENT)
        return refuse(account, tally, events, count, symbol, at, Leg.ENTRY, decided_at, side, rule, limit, value)
    fee = fee_of(notional, rate, instrument.fee_quantum)
    adds = position.quantity > 0
    settled = post_entry(account, position, instrument, tally, quantity, price, notional, fee, at)
    event = record(account, events, count, Kind.FILL, symbol, at, Leg.ENTRY, decided_at)
    event.phase = phase
    event.side = event.position_side = side
    event.price = price
    event.reference_price = reference
    event.quantity = quantity
    event.left = wanted - quantity
    event.entry_type = position.pending
    event.notional = notional
    event.settled = settled
    event.fee = fee
    count += 1
    position.used_volume += quantity if rules.volume_rate != NEVER else 0
    continues = position.pending_filled > 0
    if not continues:
        position.entries += 1
        count = _protect(account, position, instrument, rules, price, stop, target_1, target_2, adds, at, events, count, symbol)
    else:
        count = protect_again(account, position, instrument, rules, events, count, symbol, at)
    if quantity == wanted:
        clear_pending(position)
    else:
        position.pending_filled += quantity
        position.pending_budget -= _cost(quantity, price, instrument, rate)
    return count


@njit_inline
def _capped(position, instrument, rules, wanted, price):
    """What the participation cap lets fill now; 0 when that is too small for the exchange, and then the entry waits."""
    if rules.volume_rate == NEVER:
        return wanted
    room = floor_product(position.last_volume, rules.volume_rate, RATE) - position.used_volume
    if room >= wanted:
        return wanted
    quantity = max(room, 0) // instrument.step * instrument.step
    too_small = quantity < max(instrument.min_quantity, 1)
    if too_small or notional_of(quantity, price, instrument.notional_divisor) < max(instrument.min_notional, 1):
        return 0
    return quantity


@njit_inline
def _protect(account, position, instrument, rules, price, stop, target_1, target_2, adds, at, events, count, symbol):
    """Stop and targets after an entry's first fill. An addition keeps those that its own signal does not state."""
    side = position.side
    if adds:
        levels = ((Leg.STOP, position.stop), (Leg.TARGET_1, position.target_1), (Leg.TARGET_2, position.target_2))
        for leg, level in levels:
            if level > 0:
                count = cancel(account, events, count, Kind.CANCEL, symbol, at, leg, position.decided_at, side, Why.REPLACED)
    position.decided_at = position.pending_decided_at
    if not adds or stop > 0:
        position.stop = stop
    if not adds or target_1 > 0 or target_2 > 0:
        position.target_1, position.target_2 = target_1, target_2
    if not adds or position.pending_trail_form != Form.NONE:
        position.trail_form, position.trail, position.best = position.pending_trail_form, position.pending_trail, price
    if not adds or position.pending_break_even > 0:
        distance = floor_product(price, position.pending_break_even, RATE)
        position.break_even = price + side * distance if position.pending_break_even > 0 else 0
    if not adds or position.pending_time_stop_bars > 0:
        bars_ms = position.pending_time_stop_bars * rules.timeframe_ms
        position.time_stop_at = at + bars_ms if position.pending_time_stop_bars > 0 else NEVER
    if position.trail_form != Form.NONE and position.stop == 0:
        position.stop = trailing_level(position, instrument)
    if _leaves_at_the_first(position, instrument, rules):
        position.target_2 = 0
    return protect_again(account, position, instrument, rules, events, count, symbol, at)


@njit_inner
def protect_again(account, position, instrument, rules, events, count, symbol, at):
    """Say what protects the position as it is now: all of it at the stop, its parts at the targets. Returns the event count."""
    side, decided_at = position.side, position.decided_at
    if _leaves_at_the_first(position, instrument, rules):
        position.target_2 = 0
        count = cancel(account, events, count, Kind.CANCEL, symbol, at, Leg.TARGET_2, decided_at, side, Why.TOO_SMALL)
    part = _first_part(instrument, rules, position.quantity, position.target_1, position.target_2)
    position.target_1_quantity = part
    last_part = position.quantity - part if position.target_1 > 0 else position.quantity
    levels = (
        (Leg.STOP, position.stop, position.quantity),
        (Leg.TARGET_1, position.target_1, part),
        (Leg.TARGET_2, position.target_2, last_part),
    )
    for leg, level, share in levels:
        if level > 0:
            count = order(account, events, count, symbol, at, leg, decided_at, -side, side, level, share)
    return count


@njit_inner
def entry_level(position, instrument):
    """Where a stop at the entry stands: the entry price, for several entries their average on the tick away from the market."""
    return max(worse_tick(position.entry_price, -position.side, instrument.tick), instrument.tick)


@njit_inner
def trailing_level(position, instrument):
    """Where the trailing stop stands for the best price so far, on the tick away from it, one tick at the least."""
    distance = position.trail
    if position.trail_form == Form.RATE:
        distance = floor_product(position.best, position.trail, RATE)
    return max(worse_tick(position.best - position.side * distance, -position.side, instrument.tick), instrument.tick)


@njit_inner
def _leaves_at_the_first(position, instrument, rules):
    """Whether a second target has nothing to wait for: a part would be too small to trade."""
    if position.target_1 == 0 or position.target_2 == 0:
        return False
    return _first_part(instrument, rules, position.quantity, position.target_1, position.target_2) == position.quantity


@njit_inner
def _first_part(instrument, rules, quantity, target_1, target_2):
    """What leaves at the first target: its share, or all when there is no second target or a part is too small to trade there."""
    if target_1 == 0 or target_2 == 0:
        return quantity
    part = floor_product(quantity, rules.target_1_share, RATE) // instrument.step * instrument.step
    smaller = min(part, quantity - part)
    too_small = smaller < max(instrument.min_quantity, 1)
    if too_small or notional_of(smaller, target_1, instrument.notional_divisor) < instrument.min_notional:
        return quantity
    return part


@njit_inline
def _entry_rule(instrument, side, price, quantity, notional, stop, target_1, target_2):
    """The rule that refuses an entry at this price, with limit and value; Rule.NONE when nothing does.

    A stop on the wrong side of the fill, or a target, means that the reason for the trade is gone: entering would only buy costs.
    """
    if stop > 0 and side * (price - stop) <= 0:
        return Rule.STOP_BEYOND_ENTRY, stop, price
    nearest = target_1 if target_1 > 0 else target_2  # the first target is the nearer one
    if nearest > 0 and side * (nearest - price) <= 0:
        return Rule.TARGET_BEYOND_ENTRY, nearest, price
    if quantity < max(instrument.min_quantity, 1):
        return Rule.MIN_QUANTITY, max(instrument.min_quantity, instrument.step), quantity
    if notional < max(instrument.min_notional, 1):
        return Rule.MIN_NOTIONAL, max(instrument.min_notional, 1), notional
    return Rule.NONE, 0, 0


@njit_inner
def affordable(budget, price, instrument, rate):
    """The largest quantity, in steps, whose notional (on margin: margin) and fee the budget covers.

    What the budget buys at an unrounded fee is right or a step too low nearly always. Where it is not, because a fee that is
    rounded to a coarse precision may be worth millions of steps, the quantity is found by halving.
    """
    if budget <= 0:
        return 0
    leverage = instrument.leverage_rate if instrument.on_margin == 1 else RATE
    reach = budget + 1 if leverage == RATE else floor_product(budget + 1, leverage, RATE) + leverage // RATE
    step = instrument.step
    too_many = floor_product(reach, instrument.notional_divisor, price) // step + 1  # even without a fee
    paid = RATE + (rate if leverage == RATE else floor_product(rate, leverage, RATE))
    near = min(floor_product(too_many, RATE, paid), too_many - 1)
    affordable = 0
    if near > 0 and _cost(near * step, price, instrument, rate) <= budget:
        affordable = near
        if near + 1 < too_many and _cost((near + 1) * step, price, instrument, rate) > budget:
            return affordable * step
    elif near > 1 and _cost((near - 1) * step, price, instrument, rate) <= budget:
        return (near - 1) * step
    elif near > 1:
        too_many = near - 1
    while too_many - affordable > 1:
        middle = affordable + (too_many - affordable) // 2
        if _cost(middle * step, price, instrument, rate) <= budget:
            affordable = middle
        else:
            too_many = middle
    return affordable * step


@njit_inner
def _cost(quantity, price, instrument, rate):
    notional = notional_of(quantity, price, instrument.notional_divisor)
    fee = fee_of(notional, rate, instrument.fee_quantum)
    if instrument.on_margin == 1:
        return ceil_product(notional, RATE, instrument.leverage_rate) + fee
    return notional + fee


@njit_inline
def _protection(position, instrument, price):
    """Stop and targets of an entry filled at ``price``, on the tick away from it, the nearer target first; 0 for none."""
    tick, side = instrument.tick, position.pending_side
    stop = worse_tick(_level(position.pending_stop_form, position.pending_stop, price, -side), -side, tick)
    target_1 = _away(_level(position.pending_target_1_form, position.pending_target_1, price, side), side, tick)
    target_2 = _away(_level(position.pending_target_2_form, position.pending_target_2, price, side), side, tick)
    if position.pending_stop_form != Form.NONE:
        stop = max(stop, tick)
    if target_1 > 0 and target_2 > 0 and side * (target_1 - target_2) > 0:
        return stop, target_2, target_1
    return stop, target_1, target_2


@njit_inner
def _away(level, side, tick):
    """A target on the tick: up for a long, down for a short, one tick at the least; 0 stays none."""
    if level == 0:
        return 0
    return up_to_tick(level, tick) if side > 0 else max(level // tick * tick, tick)


@njit_inner
def _level(form, value, price, direction):
    """A price level from the form in which the signal stated it, 0 for none."""
    if form == Form.PRICE:
        return value
    if form == Form.DISTANCE:
        return max(price + direction * value, 1)
    if form == Form.RATE:
        return max(price + direction * floor_product(price, value, RATE), 1)
    return 0
