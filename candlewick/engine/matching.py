"""The fill contract. Every rule of it stands here, where fills are computed; docs/fill-contract.md tells it in prose.

- A market order decided at the close of bar t fills at the open of the symbol's next bar, plus slippage and half the spread,
  rounded to the tick against the trader.
- At one time: funding, then liquidations, exits, stops and targets that the open has reached, then entries; symbols in the
  account's order.
- An entry's quantity is the largest number of steps whose notional (or margin) and fee its budget covers. It is refused below
  the exchange's minimums, and when the fill price is beyond its stop or a target.
- Inside a bar: open, then stop entries and limit entries, then liquidation or stop (whichever price reaches first), then targets.
  A bar that opens beyond the stop fills at its open, a target that the open has already passed fills at the open. Stops pay
  slippage, half the spread and the taker's fee; targets and limit entries pay the maker's fee and no slippage, but the price has
  to go beyond them by half the spread.
- A stop or target that is touched is filled; both are live from the entry bar on. After an entry inside the bar only the stop is
  live in that bar: the order of prices inside a bar is not known, so the worst case is taken.
- With two targets, a part fixed at the entry leaves at the nearer one and the rest at the other. After the first the stop may
  move to the entry: live at once when the first filled at the open, from the next bar on when it filled inside the bar.
- A participation cap lets a share of the previous bar's volume fill in a bar; what is left waits, a stop's for the next open.
  What an open has reached and could not fill there waits for the next open, too: inside the bar its price has gone.
- What the exchange's minimums forbid to sell is refused: an exit is over, a stop or target is gone, the position stays.
- With finer bars the rules for the inside of a bar hold for each of them in turn.
"""

from candlewick.compiled import njit_inline, njit_inner
from candlewick.engine.arithmetic import (
    ceil_product,
    floor_product,
    notional_of,
    taker_price,
)
from candlewick.engine.entering import enter_at, entry_level, protect_again
from candlewick.engine.layout import HIGH, LOW, NEVER, OPEN, RATE, Capital, Form, Kind, Leg, Pending, Phase, Why
from candlewick.engine.posting import cancel, clear_exit, close_out, drop_entry, pay_funding, record, reduce


@njit_inline
def open_phase(account, positions, active, instruments, rules, prices, row, fundings, first, last, at, tally, events, count):
    """Everything that happens at the open of bar ``at``. ``prices`` as of Market, its ``row``. Returns the event count.

    ``active`` as `list_active` leaves it; ``fundings[first:last]`` are due in this bar.

    Done once a bar, in the order of bars: a paper account may have done it when the bar was still forming.
    """
    if account.opened_at >= at:
        return count
    count = _funding(account, positions, instruments, rules, prices, row, fundings, first, last, 0, at, tally, events, count)
    for number in range(active[-1]):
        symbol = active[number]
        position = positions[symbol]
        if prices[symbol, row, OPEN] > 0 and position.quantity > 0 and not (_is_bare(position) and position.exit_leg == Leg.NONE):
            count = _leave_at_open(
                account,
                positions[symbol],
                instruments[symbol],
                rules,
                prices[symbol, row, OPEN],
                True,
                at,
                tally,
                events,
                count,
                symbol,
            )
    for number in range(active[-1]):
        symbol = active[number]
        if prices[symbol, row, OPEN] > 0 and positions[symbol].pending != Pending.NONE:
            count = _enter_at_open(account, positions, instruments, rules, prices, row, at, tally, events, count, symbol)
    count = _funding(account, positions, instruments, rules, prices, row, fundings, first, last, 1, at, tally, events, count)
    account.opened_at = at
    return count


@njit_inline
def _funding(account, positions, instruments, rules, prices, row, fundings, first, last, inside, at, tally, events, count):
    """Funding due at the bar's open (0) or after it (1), at the open's price, on what is held then.

    A payment that leaves too little margin liquidates the position at the open.
    """
    for number in range(first, last):
        due = fundings[number]
        position, instrument, opened = positions[due.symbol], instruments[due.symbol], prices[due.symbol, row, OPEN]
        if due.inside == inside and position.quantity > 0 and opened > 0:
            count = pay_funding(account, position, instrument, tally, events, count, due.symbol, opened, due)
            if _reached(-position.side, opened, position.liquidation):
                count = _liquidate(account, position, instrument, rules, opened, Phase.OPEN, at, tally, events, count, due.symbol)
    return count


@njit_inline
def intrabar_phase(account, positions, active, instruments, rules, market, row, tally, events, count):
    """What happens between the open and the close of a bar, the worst case first. Returns the event count."""
    at = market.times[row]
    for place in range(active[-1]):
        symbol = active[place]
        position, instrument = positions[symbol], instruments[symbol]
        if market.prices[symbol, row, HIGH] == 0 or (_is_bare(position) and position.pending == Pending.NONE):
            continue
        begin, end = 0, 0
        if market.detail_spans.shape[0] > 0:
            begin, end = market.detail_spans[symbol, row, 0], market.detail_spans[symbol, row, 1]
        if begin == end:
            opened, low = market.prices[symbol, row, OPEN], market.prices[symbol, row, LOW]
            high = market.prices[symbol, row, HIGH]
            count = _inside(account, position, instrument, rules, opened, high, low, at, tally, events, count, symbol)
            continue
        for number in range(begin, end):
            position.inside = 2 if position.inside > 0 else 0
            opened, high, low = market.detail_opens[number], market.detail_highs[number], market.detail_lows[number]
            if number > begin or opened != market.prices[symbol, row, OPEN]:  # the first of them may be missing
                count = _finer_open(account, position, instrument, rules, opened, at, tally, events, count, symbol)
            count = _inside(account, position, instrument, rules, opened, high, low, at, tally, events, count, symbol)
    return count


@njit_inline
def _is_bare(position):
    """Whether no price could make the position leave: it has no stop, no target and no liquidation price."""
    return position.stop + position.target_1 + position.target_2 + position.liquidation == 0


@njit_inner
def _inside(account, position, instrument, rules, opened, high, low, at, tally, events, count, symbol):
    """Entry, then liquidation or stop, then targets. Where the stop of a new position is passed already, it fills at the open."""
    since = opened
    if position.pending == Pending.LIMIT or position.pending == Pending.STOP:
        level = position.pending_price
        count = _enter_inside(account, position, instrument, rules, opened, high, low, at, tally, events, count, symbol)
        since = level if position.inside == 1 else opened
    if position.quantity == 0:
        return count
    side = position.side
    worst, best = (low, high) if side > 0 else (high, low)
    falls = _reached(-side, worst, position.liquidation)
    if _reached(-side, worst, position.stop) and (_nearer_stop(position) or not falls):
        reference = position.stop if side * (since - position.stop) > 0 else since
        count = _stop_out(account, position, instrument, rules, reference, Phase.INTRABAR, at, tally, events, count, symbol)
        if position.quantity == 0 or not falls:
            return count
    if falls:
        reference = position.liquidation if side * (since - position.liquidation) > 0 else since
        return _liquidate(account, position, instrument, rules, reference, Phase.INTRABAR, at, tally, events, count, symbol)
    if position.inside == 1:
        return count
    return _take_targets(account, position, instrument, rules, best, opened, Phase.INTRABAR, at, tally, events, count, symbol)


@njit_inner
def _finer_open(account, position, instrument, rules, opened, at, tally, events, count, symbol):
    """At the open of a finer bar inside the bar: what protects the position, then a limit or stop entry that it has reached."""
    if position.quantity > 0:
        count = _leave_at_open(account, position, instrument, rules, opened, False, at, tally, events, count, symbol)
    if position.pending == Pending.LIMIT or position.pending == Pending.STOP:
        before = position.quantity
        count = _meet_open(account, position, instrument, rules, opened, at, tally, events, count, symbol)
        if position.quantity > before:
            position.inside = 2
    return count


@njit_inline
def _reached(direction, price, level):
    """Whether ``price`` has come to a level above (1) or below (-1) where it was; a level of 0 is none."""
    return level > 0 and direction * (price - level) >= 0


@njit_inner
def _nearer_stop(position):
    """Whether a falling price meets the stop before it meets the liquidation (a rising one, for a short)."""
    return position.stop > 0 and position.side * (position.stop - position.liquidation) >= 0


@njit_inner
def fillable(position, instrument, rules, quantity):
    """How much of ``quantity`` the participation cap lets fill in this bar, in steps; all of it without a cap."""
    if rules.volume_rate == NEVER:
        return quantity
    room = floor_product(position.last_volume, rules.volume_rate, RATE) - position.used_volume
    return quantity if room >= quantity else max(room, 0) // instrument.step * instrument.step


@njit_inner
def _tradable(instrument, quantity, price):
    """Whether the exchange takes an order of this size; what the cap leaves too small waits, it is not refused."""
    return quantity >= max(instrument.min_quantity, 1) and (
        notional_of(quantity, price, instrument.notional_divisor) >= instrument.min_notional
    )


@njit_inner
def _leave_at_open(account, position, instrument, rules, opened, is_bar, at, tally, events, count, symbol):
    """At an open: liquidation, the exit that waits (at a bar's open only), the stop, the targets."""
    if _reached(-position.side, opened, position.liquidation):
        return _liquidate(account, position, instrument, rules, opened, Phase.OPEN, at, tally, events, count, symbol)
    if is_bar and position.exit_leg != Leg.NONE:
        count = _exit(account, position, instrument, rules, opened, at, tally, events, count, symbol)
        if position.quantity == 0:
            return count
    if _reached(-position.side, opened, position.stop):
        return _stop_out(account, position, instrument, rules, opened, Phase.OPEN, at, tally, events, count, symbol)
    return _take_targets(account, position, instrument, rules, opened, 0, Phase.OPEN, at, tally, events, count, symbol)


@njit_inline
def _exit(account, position, instrument, rules, opened, at, tally, events, count, symbol):
    """The exit that waits, at the open; what the participation cap leaves waits on."""
    leg, decided_at = position.exit_leg, position.exit_decided_at
    wanted = position.quantity if position.exit_quantity == 0 else min(position.exit_quantity, position.quantity)
    price = taker_price(opened, -position.side, rules.slippage_rate + rules.half_spread_rate, instrument.tick)
    quantity = fillable(position, instrument, rules, wanted)
    if quantity < wanted and not _tradable(instrument, quantity, price):
        return count
    filled, count = reduce(
        account, position, instrument, tally, events, count, symbol, at, leg, decided_at, Phase.OPEN,
        quantity, wanted - quantity, price, opened, instrument.taker_rate,
    )  # fmt: skip
    if filled:
        position.used_volume += quantity if rules.volume_rate != NEVER else 0
    if not filled or quantity == wanted:
        clear_exit(position)
    elif position.exit_quantity > 0:
        position.exit_quantity -= quantity
    if position.quantity == 0:
        return close_out(account, position, tally, events, count, symbol, at)
    if filled:
        return protect_again(account, position, instrument, rules, events, count, symbol, at)
    return count


@njit_inner
def _liquidate(account, position, instrument, rules, reference, phase, at, tally, events, count, symbol):
    """The exchange closes the position at the liquidation price, or at an open beyond it; the loss is its margin at the most."""
    price = taker_price(reference, -position.side, rules.slippage_rate + rules.half_spread_rate, instrument.tick)
    _, count = reduce(
        account, position, instrument, tally, events, count, symbol, at, Leg.LIQUIDATION, position.decided_at, phase,
        position.quantity, 0, price, reference, instrument.taker_rate,
    )  # fmt: skip
    tally.liquidations += 1
    position.stopped_at = at
    return close_out(account, position, tally, events, count, symbol, at)


@njit_inner
def _stop_out(account, position, instrument, rules, reference, phase, at, tally, events, count, symbol):
    """The position leaves at the reference (the stop, or the open beyond it) less slippage; a capped rest at the next open."""
    price = taker_price(reference, -position.side, rules.slippage_rate + rules.half_spread_rate, instrument.tick)
    quantity = fillable(position, instrument, rules, position.quantity)
    filled = False
    if quantity == position.quantity or _tradable(instrument, quantity, price):
        filled, count = reduce(
            account, position, instrument, tally, events, count, symbol, at, Leg.STOP, position.decided_at, phase,
            quantity, position.quantity - quantity, price, reference, instrument.taker_rate,
        )  # fmt: skip
        if not filled:  # refused by the exchange's minimum, as it would be at every bar
            _end_stop(position)
            return count
        position.used_volume += quantity if rules.volume_rate != NEVER else 0
    _end_stop(position)
    position.stopped_at = at
    if position.quantity == 0:
        return close_out(account, position, tally, events, count, symbol, at)
    if filled:
        count = protect_again(account, position, instrument, rules, events, count, symbol, at)
    if position.pending != Pending.NONE and position.pending_side == position.side:
        count = drop_entry(account, position, events, count, Kind.CANCEL, symbol, at, Why.REPLACED)
    if position.exit_leg != Leg.NONE:
        leg, decided_at = position.exit_leg, position.exit_decided_at
        count = cancel(account, events, count, Kind.CANCEL, symbol, at, leg, decided_at, position.side, Why.REPLACED)
    position.exit_leg, position.exit_decided_at, position.exit_quantity = Leg.STOP, position.decided_at, 0
    return count


@njit_inner
def _end_stop(position):
    """The stop has done its part, and nothing makes another of the same order."""
    position.stop = 0
    position.trail_form = Form.NONE
    position.trail = 0
    position.break_even = 0


@njit_inner
def _take_targets(account, position, instrument, rules, reached, opened, phase, at, tally, events, count, symbol):
    """Leave at the targets up to the price ``reached``: at the open, if that has reached them, or at their own price."""
    if position.target_1 > 0:
        filled, count = _take(
            account, position, instrument, rules, reached, opened, phase, Leg.TARGET_1, position.target_1,
            position.target_1_quantity, at, tally, events, count, symbol,
        )  # fmt: skip
        if filled and position.quantity == 0:
            return close_out(account, position, tally, events, count, symbol, at)
        entry = entry_level(position, instrument)
        if filled and rules.stop_to_entry == 1 and position.side * (entry - position.stop) > 0:
            count = move_stop(account, position, entry, at, events, count, symbol, Why.TARGET_1)
    if position.target_2 > 0:
        filled, count = _take(
            account, position, instrument, rules, reached, opened, phase, Leg.TARGET_2, position.target_2,
            position.quantity, at, tally, events, count, symbol,
        )  # fmt: skip
        if filled and position.quantity == 0:
            return close_out(account, position, tally, events, count, symbol, at)
    return count


@njit_inner
def _take(account, position, instrument, rules, reached, opened, phase, leg, target, wanted, at, tally, events, count, symbol):
    """Fill one target if price has come to it. Returns (all of it filled, new event count).

    ``opened`` (0 at an open itself): a target that it has reached, and that could not fill there, waits for the next open.
    """
    side = position.side
    resting = beyond(target, side, rules)
    if not _reached(side, reached, resting) or (opened > 0 and _reached(side, opened, resting)):
        return False, count
    reference = target
    if phase == Phase.OPEN:
        quoted = taker_price(reached, -side, rules.half_spread_rate, instrument.tick)
        reference = reached if side * (reached - target) > 0 else target
        price = quoted if side * (quoted - target) > 0 else target
    else:
        price = target
    quantity = fillable(position, instrument, rules, wanted)
    if quantity < wanted and not _tradable(instrument, quantity, price):
        return False, count
    filled, count = reduce(
        account, position, instrument, tally, events, count, symbol, at, leg, position.decided_at, phase,
        quantity, wanted - quantity, price, reference, instrument.maker_rate,
    )  # fmt: skip
    if filled:
        position.used_volume += quantity if rules.volume_rate != NEVER else 0
    if filled and quantity < wanted:
        position.target_1_quantity -= quantity if leg == Leg.TARGET_1 else 0
        return False, count
    if leg == Leg.TARGET_1:
        position.target_1 = 0
    else:
        position.target_2 = 0
    return filled, count


@njit_inner
def beyond(level, direction, rules):
    """What has to trade for a limit order at ``level`` to fill: half the spread beyond it, above (1) or below (-1)."""
    if rules.half_spread_rate == 0 or level == 0:
        return level
    if direction > 0:
        return ceil_product(level, RATE, RATE - rules.half_spread_rate)
    return floor_product(level, RATE, RATE + rules.half_spread_rate)


@njit_inner
def move_stop(account, position, price, at, events, count, symbol, why):
    """The stop moves to ``price``, where there is one. Returns the new event count."""
    if position.stop == 0:
        return count
    event = record(account, events, count, Kind.STOP_MOVED, symbol, at, Leg.STOP, position.decided_at)
    event.side, event.position_side = -position.side, position.side
    event.reference_price = position.stop
    event.price = price
    event.why = why
    position.stop = price
    return count + 1


@njit_inline
def _enter_at_open(account, positions, instruments, rules, prices, row, at, tally, events, count, symbol):
    """A market entry fills at the open; a limit or stop entry that the open has reached fills at the open, too."""
    position, instrument, opened = positions[symbol], instruments[symbol], prices[symbol, row, OPEN]
    if position.pending_expires_at != NEVER and at >= position.pending_expires_at:
        return drop_entry(account, position, events, count, Kind.EXPIRY, symbol, at, Why.NONE)
    if rules.capital == Capital.EQUITY_AT_OPEN and position.pending_share != NEVER and position.pending_filled == 0:
        position.pending_budget = _budget_at_open(account, positions, instruments, prices, row, symbol)
    return _meet_open(account, position, instrument, rules, opened, at, tally, events, count, symbol)


@njit_inner
def _meet_open(account, position, instrument, rules, opened, at, tally, events, count, symbol):
    """The entry that waits fills at an open if that is where it fills. One that reverses waits until the position is gone."""
    side = position.pending_side
    if position.quantity > 0 and position.side != side:
        if position.exit_leg != Leg.NONE:
            return count
        return drop_entry(account, position, events, count, Kind.CANCEL, symbol, at, Why.NOT_REVERSED)
    if position.pending == Pending.LIMIT:
        if not _reached(-side, opened, beyond(position.pending_price, -side, rules)):
            return count
        quoted = taker_price(opened, side, rules.half_spread_rate, instrument.tick)
        price = min(quoted, position.pending_price) if side > 0 else max(quoted, position.pending_price)
        reference = opened if price == quoted else position.pending_price
        rate = instrument.maker_rate
    else:
        if position.pending == Pending.STOP and not _reached(side, opened, position.pending_price):
            return count
        price = taker_price(opened, side, rules.slippage_rate + rules.half_spread_rate, instrument.tick)
        reference, rate = opened, instrument.taker_rate
    return enter_at(account, position, instrument, rules, price, reference, rate, Phase.OPEN, at, tally, events, count, symbol)


@njit_inner
def _budget_at_open(account, positions, instruments, prices, row, symbol):
    """The entry's share of the equity at the open, in cash or margin."""
    equity = account.cash
    for other in range(positions.shape[0]):
        held = positions[other]
        if held.quantity > 0:
            price = prices[other, row, OPEN] if prices[other, row, OPEN] > 0 else held.last_price
            worth = notional_of(held.quantity, price, instruments[other].notional_divisor)
            equity += held.side * (worth - held.notional) if instruments[other].on_margin == 1 else worth
    return floor_product(max(equity, 0), positions[symbol].pending_share, RATE)


@njit_inner
def _enter_inside(account, position, instrument, rules, opened, high, low, at, tally, events, count, symbol):
    """A limit or stop entry that price reaches inside the bar fills at its own price.

    One that the open has reached, and that could not fill there, waits for the next open.
    """
    side, level = position.pending_side, position.pending_price
    if position.quantity > 0 and position.side != side:
        return count
    if position.pending == Pending.LIMIT:
        reached = low if side > 0 else high
        resting = beyond(level, -side, rules)
        if not _reached(-side, reached, resting) or _reached(-side, opened, resting):
            return count
        price, rate = level, instrument.maker_rate
    else:
        reached = high if side > 0 else low
        if not _reached(side, reached, level) or _reached(side, opened, level):
            return count
        price = taker_price(level, side, rules.slippage_rate + rules.half_spread_rate, instrument.tick)
        rate = instrument.taker_rate
    before = position.quantity
    count = enter_at(account, position, instrument, rules, price, level, rate, Phase.INTRABAR, at, tally, events, count, symbol)
    if position.quantity > before:
        position.inside = 1
    return count
