"""Quiet bars: runs of bars in which nothing can happen are valued without being stepped through, to the same last digit.

A bar is quiet when no order waits, no decision and no funding belongs to it, and its high and low stay within the levels at which
a position's stop, targets, liquidation, trailing stop or break-even act. Then a step would only mark to market. While one
position is held, equity rises and falls with its price, so peak and trough are found by comparing prices, and only new extremes
are valued. tests/test_quiet_bars.py holds this against plain steps.
"""

import numpy as np

from candlewick.compiled import njit_inline, njit_inner
from candlewick.engine.arithmetic import ceil_product, floor_product, notional_of, sum_amounts
from candlewick.engine.closing import DAY_MS, deepen, tally_equity
from candlewick.engine.layout import CLOSE, HIGH, LOW, NEVER, RATE, Form, Leg, Pending
from candlewick.engine.matching import beyond

Integers = np.ndarray[tuple[int, ...], np.dtype[np.int64]]
_FAR = 2**62
NO_TIME_STOP = _FAR


@njit_inline
def may_skip(positions, active):
    """Whether no order waits for the next bar, and when the first time stop acts (a close, _FAR for none)."""
    acts_at = _FAR
    for number in range(active[-1]):
        position = positions[active[number]]
        if position.pending != Pending.NONE or position.exit_leg != Leg.NONE:
            return False, acts_at
        if position.quantity > 0 and position.time_stop_at != NEVER:
            acts_at = min(acts_at, position.time_stop_at)
    return True, acts_at


@njit_inner
def watched_levels(position, rules):
    """The low at or below which, and the high at or above which, a bar has to be stepped through."""
    low, high = 0, _FAR
    side = position.side
    target_1, target_2 = beyond(position.target_1, side, rules), beyond(position.target_2, side, rules)
    trails = position.trail_form != Form.NONE
    if side > 0:
        low = max(position.stop, position.liquidation)
        for level in (target_1, target_2, position.break_even):
            high = min(high, level if level > 0 else _FAR)
        return low, min(high, position.best + 1) if trails else high
    for level in (position.stop, position.liquidation):
        high = min(high, level if level > 0 else _FAR)
    for level in (target_1, target_2, position.break_even):
        low = max(low, level)
    return max(low, position.best - 1) if trails else low, high


@njit_inline
def skip_quiet(account, positions, active, instruments, rules, market, row, stop, days, day, tally, scratch):
    """Value the quiet bars from ``row`` on, all of one UTC day, ``stop`` at the most. Returns the first row not processed."""
    held = active[-1]  # nothing waits, so what is active is held
    today = market.times[row] // DAY_MS
    day_before, start_before = account.day, account.day_start_equity
    if today != account.day:
        account.day = today
        account.day_start_equity = account.equity
    if held == 0:
        if account.equity >= account.peak_equity:
            account.peak_at = market.times[stop - 1] + rules.timeframe_ms
        end = stop
    elif held == 1:
        symbol = active[0]
        end = _skip_with_one(account, positions[symbol], instruments[symbol], rules, market, row, stop, tally, symbol)
    else:
        end = _skip_with_many(account, positions, active, instruments, rules, market, row, stop, tally, scratch, held)
    if end == row:
        account.day, account.day_start_equity = day_before, start_before
        return row
    tally.bars += end - row
    tally.bars_exposed += end - row if held > 0 else 0
    if days.shape[0] > 0:
        days[day] = account.equity
    account.opened_at = account.watermark = market.times[end - 1]
    _catch_up(positions, active, market, row, end)
    return end


@njit_inline
def _catch_up(positions, active, market, row, end):
    """The last price of what is held and every symbol's last volume, as of the last row before ``end`` in which it has a bar."""
    for number in range(active[-1]):
        symbol = active[number]
        last = _last_bar(market, symbol, row, end)
        if last >= row:
            positions[symbol].last_price = market.prices[symbol, last, CLOSE]
    if market.volumes.shape[0] > 0:
        for symbol in range(positions.shape[0]):
            last = _last_bar(market, symbol, row, end)
            if last >= row:
                positions[symbol].last_volume = market.volumes[last, symbol]


@njit_inner
def _last_bar(market, symbol, row, end):
    """The last row before ``end`` in which the symbol has a bar, or one before ``row``."""
    last = end - 1
    while last >= row and market.prices[symbol, last, CLOSE] == 0:
        last -= 1
    return last


@njit_inner
def _equity_at(account, position, instrument, price):
    worth = notional_of(position.quantity, price, instrument.notional_divisor)
    if instrument.on_margin == 1:
        return account.cash + position.side * (worth - position.notional)
    return sum_amounts(account.cash, worth)


@njit_inner
def _price_of(account, position, instrument, equity):
    """About the price at which the account has this equity, as a float."""
    wanted = equity - account.cash
    if instrument.on_margin == 1:
        wanted = position.notional + position.side * wanted
    return float(wanted) * float(instrument.notional_divisor) / float(position.quantity)


@njit_inner
def _limit_equity(account, rules):
    """The equity at or below which a limit is hit; -1 when none can be."""
    limit = -1
    if rules.max_drawdown != NEVER and account.halted == 0:
        limit = account.peak_equity - ceil_product(account.peak_equity, rules.max_drawdown, RATE)
    if rules.daily_loss_limit != NEVER and account.loss_day != account.day:
        start = max(account.day_start_equity, 0)
        limit = max(limit, start - ceil_product(start, rules.daily_loss_limit, RATE))
    return limit


@njit_inner
def _hits_a_limit(account, rules, equity):
    """Whether the close of a bar at this equity would halt the account or end its day."""
    if rules.max_drawdown != NEVER and account.halted == 0 and equity < account.peak_equity:
        drawdown = floor_product(account.peak_equity - equity, RATE, max(account.peak_equity, 1))
        if drawdown >= rules.max_drawdown:
            return True
    if rules.daily_loss_limit != NEVER and account.loss_day != account.day and equity < account.day_start_equity:
        lost = floor_product(account.day_start_equity - equity, RATE, max(account.day_start_equity, 1))
        return lost >= rules.daily_loss_limit
    return False


@njit_inner
def _clip(price):
    """A float price as an integer within the range that comparisons can take."""
    return int(min(max(price, -4.0e18), 4.0e18))


@njit_inline
def _skip_with_one(account, position, instrument, rules, market, row, stop, tally, symbol):
    """Rows in which the one position held is left alone. Prices are compared times the side, so that more is always better.

    ``peak_from`` and ``limit_to`` are bounds on the safe side: what lies beyond is valued exactly before anything is concluded.
    """
    side = position.side
    low_level, high_level = watched_levels(position, rules)
    # So much must a price change before a position of this size is worth another unit of cash.
    blur = instrument.notional_divisor // position.quantity + 2
    margin = 4.0 + 1e-11 * float(position.last_price) + float(blur)
    peak_from = _clip(side * _price_of(account, position, instrument, account.peak_equity) - margin)
    limit = _limit_equity(account, rules)
    limit_to = _clip(side * _price_of(account, position, instrument, limit) + margin) if limit >= 0 else -_FAR
    below = account.equity < account.peak_equity
    trough = _FAR
    last_price = position.last_price
    end = row
    while end < stop:
        high = market.prices[symbol, end, HIGH]
        if high == 0:
            if not below:
                account.peak_at = market.times[end] + rules.timeframe_ms
            end += 1
            continue
        if market.prices[symbol, end, LOW] <= low_level or high >= high_level:
            break
        close = market.prices[symbol, end, CLOSE]
        gain = side * close
        if gain <= limit_to:
            if _hits_a_limit(account, rules, _equity_at(account, position, instrument, close)):
                break
            limit_to = gain - 1
        if gain >= peak_from:
            equity = _equity_at(account, position, instrument, close)
            if equity >= account.peak_equity:
                closed_at = market.times[end] + rules.timeframe_ms
                if below:
                    tally.longest_drawdown_ms = max(tally.longest_drawdown_ms, closed_at - account.peak_at)
                if trough != _FAR:
                    deepen(tally, account.peak_equity, _equity_at(account, position, instrument, side * trough))
                account.peak_equity, account.peak_at = equity, closed_at
                peak_from = gain - blur
                below, trough = False, _FAR
                if limit >= 0:
                    limit = _limit_equity(account, rules)
                    limit_to = _clip(side * _price_of(account, position, instrument, limit) + margin)
            else:
                peak_from = max(peak_from, gain + 1)
                below, trough = True, min(trough, gain)
        else:
            below = True
            trough = min(trough, gain)
        last_price = close
        end += 1
    if trough != _FAR:
        deepen(tally, account.peak_equity, _equity_at(account, position, instrument, side * trough))
    if end > row:
        account.equity = _equity_at(account, position, instrument, last_price)
    return end


@njit_inline
def _skip_with_many(account, positions, active, instruments, rules, market, row, stop, tally, scratch, held):
    """Rows in which none of several positions can act; each row is valued."""
    for number in range(held):
        position = positions[active[number]]
        scratch[number, 0], scratch[number, 1] = watched_levels(position, rules)
        scratch[number, 2] = notional_of(position.quantity, position.last_price, instruments[active[number]].notional_divisor)
    end = row
    while end < stop:
        touched = False
        for number in range(held):
            symbol = active[number]
            high = market.prices[symbol, end, HIGH]
            if high > 0 and (market.prices[symbol, end, LOW] <= scratch[number, 0] or high >= scratch[number, 1]):
                touched = True
                break
        if touched:
            break
        equity = account.cash
        for number in range(held):
            symbol = active[number]
            position = positions[symbol]
            close = market.prices[symbol, end, CLOSE]
            worth = scratch[number, 2]
            if close > 0:
                worth = notional_of(position.quantity, close, instruments[symbol].notional_divisor)
            scratch[number, 3] = worth
            equity += position.side * (worth - position.notional) if instruments[symbol].on_margin == 1 else worth
        if _hits_a_limit(account, rules, equity):
            break
        before = account.equity
        account.equity = equity
        tally_equity(account, tally, before, market.times[end] + rules.timeframe_ms)
        for number in range(held):
            scratch[number, 2] = scratch[number, 3]
        end += 1
    return end


def scratch_for(symbols: int) -> tuple[Integers, Integers]:
    """Working memory of `fold` for so many symbols: a list of the active ones, and four numbers for each of them."""
    return np.zeros(symbols + 1, dtype=np.int64), np.zeros((symbols, 4), dtype=np.int64)
