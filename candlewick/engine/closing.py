"""The close of a bar: what trails and what has come to its time, the account's value, and the limits that depend on it."""

import numpy as np

from candlewick.compiled import njit_inline, njit_inner
from candlewick.engine.arithmetic import floor_product, notional_of, sum_amounts
from candlewick.engine.entering import entry_level, trailing_level
from candlewick.engine.layout import CLOSE, HIGH, LOW, NEVER, RATE, Form, Kind, Leg, Pending, Rule, Why
from candlewick.engine.matching import move_stop
from candlewick.engine.posting import drop_entry, order, record

DAY_MS = 86_400_000
_FLOAT_GUARD = 2.0**-50


@njit_inline
def list_active(positions, active):
    """Write the symbols to which anything can happen into ``active`` int64 (symbols + 1,), their number into its last place."""
    count = 0
    for symbol in range(positions.shape[0]):
        position = positions[symbol]
        if position.quantity > 0 or position.pending != Pending.NONE or position.exit_leg != Leg.NONE:
            active[count] = symbol
            count += 1
    active[-1] = count


@njit_inline
def close_positions(account, positions, active, instruments, rules, market, row, events, count):
    """At the close of a bar: stops trail or move to the entry, time stops and expiries act. Returns the event count."""
    at = market.times[row]
    closed_at = at + rules.timeframe_ms
    if market.volumes.shape[0] > 0:
        for symbol in range(positions.shape[0]):
            if market.prices[symbol, row, CLOSE] > 0:
                positions[symbol].last_volume = market.volumes[row, symbol]
                positions[symbol].used_volume = 0
    for number in range(active[-1]):
        symbol = active[number]
        position = positions[symbol]
        if market.prices[symbol, row, CLOSE] == 0:
            continue
        if position.quantity > 0:
            if position.trail_form != Form.NONE or position.break_even != 0:
                count = _trail(account, position, instruments[symbol], market, row, symbol, closed_at, events, count)
            if position.time_stop_at != NEVER and closed_at >= position.time_stop_at and position.exit_leg == Leg.NONE:
                position.exit_leg, position.exit_decided_at, position.exit_quantity = Leg.TIME_STOP, closed_at, 0
                position.time_stop_at = NEVER
                side = position.side
                if position.pending != Pending.NONE and position.pending_side == side:
                    count = drop_entry(account, position, events, count, Kind.CANCEL, symbol, closed_at, Why.REPLACED)
                count = order(
                    account, events, count, symbol, closed_at, Leg.TIME_STOP, closed_at, -side, side, 0, position.quantity
                )
        if position.pending != Pending.NONE and NEVER != position.pending_expires_at <= closed_at:
            count = drop_entry(account, position, events, count, Kind.EXPIRY, symbol, closed_at, Why.NONE)
        position.inside = 0
        if position.quantity > 0:
            position.last_price = market.prices[symbol, row, CLOSE]
    return count


@njit_inner
def _trail(account, position, instrument, market, row, symbol, closed_at, events, count):
    """Move the stop after the best price so far, or to the entry; live from the next bar on, because the bar is over."""
    side = position.side
    # An entry inside the bar: the bar's extreme may lie before it, its close does not.
    reached = market.prices[symbol, row, HIGH] if side > 0 else market.prices[symbol, row, LOW]
    if position.inside > 0:
        reached = market.prices[symbol, row, CLOSE]
    level, why = position.stop, Why.TRAILED
    if side * (reached - position.best) > 0:
        position.best = reached
        if position.trail_form != Form.NONE:
            level = trailing_level(position, instrument)
    if position.break_even > 0 and side * (reached - position.break_even) >= 0:
        position.break_even = 0
        entry = entry_level(position, instrument)
        if level == 0 or side * (entry - level) > 0:
            level, why = entry, Why.BREAK_EVEN
    if position.stop == 0 and level > 0 and position.exit_leg == Leg.NONE:
        position.stop = level
        return order(
            account, events, count, symbol, closed_at, Leg.STOP, position.decided_at, -side, side, level, position.quantity
        )
    if position.stop > 0 and side * (level - position.stop) > 0:
        return move_stop(account, position, level, closed_at, events, count, symbol, why)
    return count


@njit_inline
def account_value(positions, active, instruments):
    """What the positions add to the cash, and how many there are: a spot position its value, one on margin its profit."""
    value = 0
    open_positions = 0
    for number in range(active[-1]):
        symbol = active[number]
        position = positions[symbol]
        if position.quantity > 0:
            worth = notional_of(position.quantity, position.last_price, instruments[symbol].notional_divisor)
            if instruments[symbol].on_margin == 1:
                worth = position.side * (worth - position.notional)
            value = sum_amounts(value, worth)
            open_positions += 1
    return value, open_positions


@njit_inline
def mark_to_market(account, positions, active, instruments, rules, at, days, day, tally, events, count):
    """Value the account at the last closes, and hit or lift the limits that depend on it. Returns the event count.

    A bar belongs to the UTC day in which it opens; ``days[day]`` is that day's last equity, where days are kept.
    """
    value, open_positions = account_value(positions, active, instruments)
    today = at // DAY_MS
    if today != account.day:
        account.day = today
        account.day_start_equity = account.equity
    before = account.equity
    account.equity = sum_amounts(account.cash, value)
    closed_at = at + rules.timeframe_ms
    tally_equity(account, tally, before, closed_at)
    tally.bars += 1
    tally.bars_exposed += 1 if open_positions > 0 else 0
    if days.shape[0] > 0:
        days[day] = account.equity
    lost = max(account.day_start_equity - account.equity, 0)
    if rules.daily_loss_limit != NEVER and account.loss_day != today:
        day_loss = floor_product(lost, RATE, max(account.day_start_equity, 1))
        if day_loss >= rules.daily_loss_limit:
            account.loss_day = today
            event = record(account, events, count, Kind.LOSS_LIMIT, NEVER, closed_at, Leg.NONE, closed_at)
            event.rule, event.rule_limit, event.rule_value = Rule.DAILY_LOSS_LIMIT, rules.daily_loss_limit, day_loss
            count += 1
    if rules.max_drawdown != NEVER and account.halted == 0:
        drawdown = drawdown_of(account)
        if drawdown >= rules.max_drawdown:
            account.halted = 1
            event = record(account, events, count, Kind.HALT, NEVER, closed_at, Leg.NONE, closed_at)
            event.rule, event.rule_limit, event.rule_value = Rule.MAX_DRAWDOWN, rules.max_drawdown, drawdown
            count += 1
    return count


@njit_inner
def drawdown_of(account):
    """How far the equity lies below its peak, a share in RATE units, rounded down."""
    return floor_product(max(account.peak_equity - account.equity, 0), RATE, max(account.peak_equity, 1))


@njit_inline
def tally_equity(account, tally, before, closed_at):
    """The peak, the deepest drawdown and the longest, after the equity of a close; ``before`` is that of the close before."""
    if account.equity >= account.peak_equity:
        if before < account.peak_equity:
            tally.longest_drawdown_ms = max(tally.longest_drawdown_ms, closed_at - account.peak_at)
        account.peak_equity = account.equity
        account.peak_at = closed_at
    else:
        deepen(tally, account.peak_equity, account.equity)


@njit_inner
def deepen(tally, peak, trough):
    """Keep the pair of equities if it is the deepest drawdown so far.

    Shares are compared crosswise. Where floats cannot tell the products apart their difference fits in 64 bits, and is exact in
    unsigned integers, which wrap.
    """
    depth, deepest = peak - trough, tally.drawdown_peak - tally.drawdown_trough
    left, right = float(depth) * float(tally.drawdown_peak), float(deepest) * float(peak)
    certain = right * _FLOAT_GUARD
    more = left > right + certain
    if not more and left >= right - certain:
        difference = np.uint64(depth) * np.uint64(tally.drawdown_peak) - np.uint64(deepest) * np.uint64(peak)
        more = bool(np.int64(difference) > 0)
    if more or (deepest == 0 and depth > 0):
        tally.drawdown_peak, tally.drawdown_trough = peak, trough
