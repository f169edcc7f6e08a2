"""Where money and quantities move, and where every movement is written down as an event."""

from candlewick.compiled import njit_inner
from candlewick.engine.arithmetic import ceil_product, fee_of, floor_product, notional_of, round_product, sum_amounts
from candlewick.engine.layout import NEVER, RATE, TURNOVER_WRAP, Form, Kind, Leg, Outcome, Pending, Phase, Rule, Why


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
    event.side = 0
    event.position_side = 0
    event.price = 0
    event.reference_price = 0
    event.quantity = 0
    event.left = 0
    event.notional = 0
    event.settled = 0
    event.fee = 0
    event.realized = 0
    event.budget = 0
    event.entry_type = Pending.NONE
    event.expires_at = NEVER
    event.rule = Rule.NONE
    event.rule_limit = 0
    event.rule_value = 0
    event.outcome = Outcome.NONE
    event.why = Why.NONE
    return event


@njit_inner
def order(account, events, count, symbol, at, leg, decided_at, side, position_side, price, quantity):
    """Write down an order, or what has changed of one. Returns the new event count."""
    event = record(account, events, count, Kind.ORDER, symbol, at, leg, decided_at)
    event.side = side
    event.position_side = position_side
    event.price = price
    event.quantity = quantity
    return count + 1


@njit_inner
def refuse(account, tally, events, count, symbol, at, leg, decided_at, side, rule, limit, value):
    """Write down a refused order of one who wanted to buy (1) or sell (-1). Returns the new event count."""
    event = record(account, events, count, Kind.REFUSAL, symbol, at, leg, decided_at)
    event.side = side
    event.position_side = side if leg == Leg.ENTRY else -side
    event.rule = rule
    event.rule_limit = limit
    event.rule_value = value
    tally.refusals += 1
    return count + 1


@njit_inner
def cancel(account, events, count, kind, symbol, at, leg, decided_at, position_side, why):
    """Write down that an order is over unfilled, or not filled any further. Returns the new event count."""
    event = record(account, events, count, kind, symbol, at, leg, decided_at)
    event.position_side = position_side
    event.side = position_side if leg == Leg.ENTRY else -position_side
    event.why = why
    return count + 1


@njit_inner
def clear_pending(position):
    """No entry waits any more."""
    position.pending = Pending.NONE
    position.pending_side = 0
    position.pending_adds = 0
    position.pending_filled = 0
    position.pending_decided_at = NEVER
    position.pending_budget = 0
    position.pending_share = 0
    position.pending_price = 0
    position.pending_expires_at = NEVER
    position.pending_stop_form = Form.NONE
    position.pending_stop = 0
    position.pending_target_1_form = Form.NONE
    position.pending_target_1 = 0
    position.pending_target_2_form = Form.NONE
    position.pending_target_2 = 0
    position.pending_trail_form = Form.NONE
    position.pending_trail = 0
    position.pending_break_even = 0
    position.pending_time_stop_bars = 0


@njit_inner
def drop_entry(account, position, events, count, kind, symbol, at, why):
    """The entry that waits is over: cancelled, or expired. Returns the new event count."""
    side, decided_at = position.pending_side, position.pending_decided_at
    clear_pending(position)
    return cancel(account, events, count, kind, symbol, at, Leg.ENTRY, decided_at, side, why)


@njit_inner
def add_turnover(tally, notional):
    """Count a fill and its notional."""
    tally.fills += 1
    tally.turnover += notional
    if tally.turnover >= TURNOVER_WRAP:
        tally.turnover -= TURNOVER_WRAP
        tally.turnover_wraps += 1


@njit_inner
def post_entry(account, position, instrument, tally, quantity, price, notional, fee, at):
    """Cash or margin for a new position, or for more of one. Returns what comes into the cash before the fee."""
    side = position.pending_side
    settled = 0
    if instrument.on_margin == 1:
        margin = ceil_product(notional, RATE, instrument.leverage_rate)
        account.margin += margin
        position.margin += margin
    else:
        settled = -notional
    account.cash += settled - fee
    tally.fees += fee
    add_turnover(tally, notional)
    if position.quantity == 0:
        position.side = side
        position.entry_price = price
        position.opened_at = at
        position.trade_pnl = 0
        position.trade_notional = 0
        position.best = price
        position.last_price = price
    position.notional += notional
    position.cost += notional + side * fee
    position.quantity += quantity
    position.trade_notional = sum_amounts(position.trade_notional, notional)
    if position.notional != notional:
        position.entry_price = round_product(position.notional, instrument.notional_divisor, position.quantity)
    set_liquidation(position, instrument)
    return settled


@njit_inner
def set_liquidation(position, instrument):
    """The price at which the margin has fallen to the maintenance margin; 0 where there is none above 0."""
    position.liquidation = 0
    if instrument.on_margin == 1:
        kept = floor_product(position.notional, instrument.maintenance_rate, RATE)
        distance = floor_product(position.entry_price, max(position.margin - kept, 0), max(position.notional, 1))
        position.liquidation = max(position.entry_price - position.side * distance, 0)


@njit_inner
def close_out(account, position, tally, events, count, symbol, at):
    """The position is gone: book the trade, cancel what protected or would have added to it. Returns the new event count."""
    account.trades += 1
    if position.trade_pnl > 0:
        account.wins += 1
        account.gains = sum_amounts(account.gains, position.trade_pnl)
    else:
        account.losses = sum_amounts(account.losses, -position.trade_pnl)
    tally.return_sum += position.trade_pnl / max(position.trade_notional, 1)
    side = position.side
    legs = ((Leg.STOP, position.stop), (Leg.TARGET_1, position.target_1), (Leg.TARGET_2, position.target_2))
    for leg, price in legs:
        if price > 0:
            count = cancel(account, events, count, Kind.CANCEL, symbol, at, leg, position.decided_at, side, Why.POSITION_CLOSED)
    if position.exit_leg != Leg.NONE:
        leg, decided_at = position.exit_leg, position.exit_decided_at
        count = cancel(account, events, count, Kind.CANCEL, symbol, at, leg, decided_at, side, Why.POSITION_CLOSED)
        clear_exit(position)
    if position.pending_adds == 1 or position.pending_filled > 0:
        count = drop_entry(account, position, events, count, Kind.CANCEL, symbol, at, Why.POSITION_CLOSED)
    position.side = 0
    position.entries = 0
    position.target_1_quantity = 0
    position.entry_price = 0
    position.opened_at = NEVER
    position.decided_at = NEVER
    position.stop = 0
    position.target_1 = 0
    position.target_2 = 0
    position.liquidation = 0
    position.best = 0
    position.last_price = 0
    position.trail_form = Form.NONE
    position.trail = 0
    position.break_even = 0
    position.time_stop_at = NEVER
    position.inside = 0
    position.trade_pnl = 0
    position.trade_notional = 0
    return count


@njit_inner
def clear_exit(position):
    """No exit waits any more."""
    position.exit_leg = Leg.NONE
    position.exit_decided_at = NEVER
    position.exit_quantity = 0


@njit_inner
def reduce(
    account, position, instrument, tally, events, count, symbol, at, leg, decided_at, phase, quantity, left, price,
    reference, rate,
):  # fmt: skip
    """Close part of a position or all of it, unless the exchange's minimum forbids. Returns (filled, new event count).

    On margin the loss, fee included, is the margin of the part at the most: what is beyond is the exchange's. Writes the fill
    only; the caller cancels what protected a position that is gone.
    """
    notional = notional_of(quantity, price, instrument.notional_divisor)
    if leg != Leg.LIQUIDATION and quantity < instrument.min_quantity:
        limit = instrument.min_quantity
        return False, refuse(
            account, tally, events, count, symbol, at, leg, decided_at, -position.side, Rule.MIN_QUANTITY, limit, quantity
        )
    if leg != Leg.LIQUIDATION and notional < instrument.min_notional:
        limit = instrument.min_notional
        return False, refuse(
            account, tally, events, count, symbol, at, leg, decided_at, -position.side, Rule.MIN_NOTIONAL, limit, notional
        )
    side = position.side
    fee = fee_of(notional, rate, instrument.fee_quantum)
    entered, cost, margin = position.notional, position.cost, position.margin
    if quantity != position.quantity:
        entered = floor_product(entered, quantity, position.quantity)
        cost = floor_product(cost, quantity, position.quantity)
        margin = floor_product(margin, quantity, position.quantity)
    settled = notional
    if instrument.on_margin == 1:
        settled = max(side * (notional - entered), fee - margin)
    gained = settled if instrument.on_margin == 1 else settled - entered
    event = record(account, events, count, Kind.FILL, symbol, at, leg, decided_at)
    event.phase = phase
    event.side = -side
    event.position_side = side
    event.price = price
    event.reference_price = reference
    event.quantity = quantity
    event.left = left
    event.notional = notional
    event.settled = settled
    event.fee = fee
    event.realized = gained - fee - side * (cost - entered)
    account.cash = sum_amounts(account.cash, settled) - fee
    account.margin -= margin
    position.margin -= margin
    position.quantity -= quantity
    position.notional -= entered
    position.cost -= cost
    position.trade_pnl += event.realized
    tally.fees += fee
    add_turnover(tally, notional)
    return True, count + 1


@njit_inner
def pay_funding(account, position, instrument, tally, events, count, symbol, price, due):
    """Longs pay shorts ``rate`` of the notional, half-even; what the free cash lacks comes out of the position's margin."""
    notional = notional_of(position.quantity, price, instrument.notional_divisor)
    amount = round_product(notional, abs(due.rate), RATE)
    received = -amount if (due.rate > 0) == (position.side > 0) else amount
    free = account.cash - account.margin
    lacking = min(max(-received - free, 0), position.margin)
    received = max(received, -(max(free, 0) + position.margin))
    account.cash += received
    if lacking > 0:
        account.margin -= lacking
        position.margin -= lacking
        set_liquidation(position, instrument)
    event = record(account, events, count, Kind.FUNDING, symbol, due.at, Leg.NONE, due.at)
    event.position_side = position.side
    event.price = price
    event.quantity = position.quantity
    event.notional = notional
    event.settled = received
    event.rule_value = due.rate
    position.trade_pnl += received
    tally.funding += received
    return count + 1
