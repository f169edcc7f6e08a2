"""The fill contract. Every rule of it stands here, where fills are computed; docs/fill-contract.md tells it in prose.

- A market order decided at the close of bar t fills at the open of the symbol's next bar, plus slippage, rounded to the tick
  against the trader.
- At one time: exits first, then entries, symbols in the account's order.
- An entry's quantity is the largest number of steps whose notional and fee its budget covers. It is refused below the exchange's
  minimums, and when the fill price is beyond its stop or a target.
- Inside a bar: open, then stop, then targets. A bar that opens beyond the stop fills at its open, a target that the open has
  already passed fills at the open. Stops pay slippage and the taker's fee, targets pay the maker's fee and no slippage.
- A stop or target that is touched is filled; both are live from the entry bar on.
- With two targets, a part fixed at the entry leaves at the nearer one and the rest at the other. After the first the stop may
  move to the entry: live at once when the first filled at the open, from the next bar on when it filled inside the bar.
- What the exchange's minimums forbid to sell is refused: an exit is over, a stop or target is gone, the position stays.
"""

from candlewick.compiled import njit_inner
from candlewick.engine.arithmetic import buy_price, fee_of, floor_product, notional_of, sell_price
from candlewick.engine.layout import RATE, Form, Kind, Leg, Pending, Phase, Rule
from candlewick.engine.posting import clear_pending, close_out, post_buy, record, refuse, sell


@njit_inner
def open_phase(account, positions, instruments, rules, opens, at, events, count):
    """Everything that happens at the open of bar ``at``. ``opens``: int64 (symbols,), 0 for no bar. Returns the event count.

    Done once a bar, in the order of bars: a paper account may have done it when the bar was still forming.
    """
    if account.opened_at >= at:
        return count
    for symbol in range(positions.shape[0]):
        if opens[symbol] > 0 and positions[symbol].quantity > 0:
            count = _exits_at_open(
                account, positions[symbol], instruments[symbol], rules, opens[symbol], at, events, count, symbol
            )
    for symbol in range(positions.shape[0]):
        if opens[symbol] > 0 and positions[symbol].pending == Pending.ENTRY:
            count = _enter(account, positions[symbol], instruments[symbol], rules, opens[symbol], at, events, count, symbol)
    account.opened_at = at
    return count


@njit_inner
def intrabar_phase(account, positions, instruments, rules, highs, lows, at, events, count):
    """Stops and targets between the open and the close of bar ``at``, the worst case first. Returns the event count."""
    for symbol in range(positions.shape[0]):
        position, instrument = positions[symbol], instruments[symbol]
        if highs[symbol] == 0 or position.quantity == 0:
            continue
        if position.stop > 0 and lows[symbol] <= position.stop:
            count = _stop_out(account, position, instrument, rules, position.stop, Phase.INTRABAR, at, events, count, symbol)
            continue
        count = _take_targets(account, position, instrument, rules, highs[symbol], Phase.INTRABAR, at, events, count, symbol)
    return count


@njit_inner
def _exits_at_open(account, position, instrument, rules, opened, at, events, count, symbol):
    if position.pending == Pending.EXIT:
        price = sell_price(opened, rules.slippage_rate, instrument.tick)
        decided_at = position.pending_decided_at
        clear_pending(position)
        filled, count = sell(
            account, position, instrument, events, count, symbol, at, Leg.EXIT, decided_at, Phase.OPEN,
            position.quantity, price, opened, instrument.taker_rate,
        )  # fmt: skip
        if filled:
            return close_out(account, position, events, count, symbol, at)
    if position.stop > 0 and opened <= position.stop:
        return _stop_out(account, position, instrument, rules, opened, Phase.OPEN, at, events, count, symbol)
    return _take_targets(account, position, instrument, rules, opened, Phase.OPEN, at, events, count, symbol)


@njit_inner
def _stop_out(account, position, instrument, rules, reference, phase, at, events, count, symbol):
    """All of the position leaves at the reference (the stop, or the open beyond it) less slippage."""
    price = sell_price(reference, rules.slippage_rate, instrument.tick)
    filled, count = sell(
        account, position, instrument, events, count, symbol, at, Leg.STOP, position.decided_at, phase,
        position.quantity, price, reference, instrument.taker_rate,
    )  # fmt: skip
    position.stop = 0  # done; or refused by the exchange's minimum, and then it would be refused at every bar
    if not filled:
        return count
    position.stopped_at = at
    return close_out(account, position, events, count, symbol, at)


@njit_inner
def _take_targets(account, position, instrument, rules, reached, phase, at, events, count, symbol):
    """Sell at the targets up to the price ``reached``: at the open, if that has reached them, or at their own price."""
    opened = reached if phase == Phase.OPEN else 0
    if 0 < position.target_1 <= reached:
        price = max(opened // instrument.tick * instrument.tick, position.target_1)
        filled, count = sell(
            account, position, instrument, events, count, symbol, at, Leg.TARGET_1, position.decided_at, phase,
            position.target_1_quantity, price, max(opened, position.target_1), instrument.maker_rate,
        )  # fmt: skip
        position.target_1 = 0
        if filled and position.quantity == 0:
            return close_out(account, position, events, count, symbol, at)
        if filled and rules.stop_to_entry == 1 and position.stop < position.entry_price:
            count = _move_stop_to_entry(account, position, at, events, count, symbol)
    if 0 < position.target_2 <= reached:
        price = max(opened // instrument.tick * instrument.tick, position.target_2)
        filled, count = sell(
            account, position, instrument, events, count, symbol, at, Leg.TARGET_2, position.decided_at, phase,
            position.quantity, price, max(opened, position.target_2), instrument.maker_rate,
        )  # fmt: skip
        position.target_2 = 0
        if filled:
            return close_out(account, position, events, count, symbol, at)
    return count


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


@njit_inner
def _move_stop_to_entry(account, position, at, events, count, symbol):
    if position.stop == 0:
        return count
    event = record(account, events, count, Kind.STOP_MOVED, symbol, at, Leg.STOP, position.decided_at)
    event.reference_price = position.stop
    event.price = position.entry_price
    position.stop = position.entry_price
    return count + 1


@njit_inner
def _enter(account, position, instrument, rules, opened, at, events, count, symbol):
    """Fill a pending entry at the open, or refuse it; its stop and targets are live from this bar on."""
    price = buy_price(opened, rules.slippage_rate, instrument.tick)
    stop, target_1, target_2 = _protection(position, instrument, price)
    budget = min(position.pending_budget, account.cash)
    quantity = _affordable(budget, price, instrument)
    notional = notional_of(quantity, price, instrument.notional_divisor)
    decided_at = position.pending_decided_at
    rule, limit, value = _entry_rule(instrument, price, quantity, notional, stop, target_1, target_2)
    if rule != Rule.NONE:
        clear_pending(position)
        return refuse(account, events, count, symbol, at, Leg.ENTRY, decided_at, rule, limit, value)
    fee = fee_of(notional, instrument.taker_rate, instrument.fee_quantum)
    event = record(account, events, count, Kind.FILL, symbol, at, Leg.ENTRY, decided_at)
    event.phase = Phase.OPEN
    event.price = price
    event.reference_price = opened
    event.quantity = quantity
    event.notional = notional
    event.fee = fee
    count += 1
    post_buy(account, position, quantity, price, notional, fee, at)
    clear_pending(position)
    part = _first_part(instrument, rules, quantity, target_1, target_2)
    if target_1 > 0 and part == quantity:
        target_2 = 0
    position.stop, position.target_1, position.target_2, position.target_1_quantity = stop, target_1, target_2, part
    last_part = quantity - part if target_1 > 0 else quantity
    protection = ((Leg.STOP, stop, quantity), (Leg.TARGET_1, target_1, part), (Leg.TARGET_2, target_2, last_part))
    for leg, level, share in protection:
        if level > 0:
            order = record(account, events, count, Kind.ORDER, symbol, at, leg, decided_at)
            order.price = level
            order.quantity = share
            count += 1
    return count


@njit_inner
def _entry_rule(instrument, price, quantity, notional, stop, target_1, target_2):
    """The rule that refuses an entry at this price, with limit and value; Rule.NONE when nothing does.

    A stop above the fill, or a target below it, means that the reason for the trade is gone: entering would only buy costs.
    """
    if stop > 0 and stop >= price:
        return Rule.STOP_BEYOND_ENTRY, stop, price
    nearest = target_1 if target_1 > 0 else target_2  # the first target is the nearer one
    if nearest > 0 and nearest <= price:
        return Rule.TARGET_BEYOND_ENTRY, nearest, price
    if quantity < max(instrument.min_quantity, 1):
        return Rule.MIN_QUANTITY, max(instrument.min_quantity, instrument.step), quantity
    if notional < max(instrument.min_notional, 1):
        return Rule.MIN_NOTIONAL, max(instrument.min_notional, 1), notional
    return Rule.NONE, 0, 0


@njit_inner
def _affordable(budget, price, instrument):
    """The largest quantity, in steps, whose notional and fee the budget covers.

    Found by halving, because a fee that is rounded to a coarse precision may be worth millions of steps.
    """
    if budget <= 0:
        return 0
    affordable = 0
    too_many = floor_product(budget + 1, instrument.notional_divisor, price) // instrument.step + 1  # even without a fee
    while too_many - affordable > 1:
        middle = affordable + (too_many - affordable) // 2
        if _cost(middle * instrument.step, price, instrument) <= budget:
            affordable = middle
        else:
            too_many = middle
    return affordable * instrument.step


@njit_inner
def _cost(quantity, price, instrument):
    notional = notional_of(quantity, price, instrument.notional_divisor)
    return notional + fee_of(notional, instrument.taker_rate, instrument.fee_quantum)


@njit_inner
def _protection(position, instrument, price):
    """Stop and targets of an entry filled at ``price``, on the tick: the stop rounded down, targets rounded up, nearer first."""
    tick = instrument.tick
    stop = _level(position.pending_stop_form, position.pending_stop, price, -1) // tick * tick
    target_1 = -(-_level(position.pending_target_1_form, position.pending_target_1, price, 1) // tick) * tick
    target_2 = -(-_level(position.pending_target_2_form, position.pending_target_2, price, 1) // tick) * tick
    if position.pending_stop_form != Form.NONE:
        stop = max(stop, tick)
    if 0 < target_2 < target_1:
        return stop, target_2, target_1
    return stop, target_1, target_2


@njit_inner
def _level(form, value, price, direction):
    """A price level from the form in which the signal stated it, 0 for none."""
    if form == Form.PRICE:
        return value
    if form == Form.DISTANCE:
        return price + direction * value
    if form == Form.RATE:
        return price + direction * floor_product(price, value, RATE)
    return 0
