"""`step`, the engine's one step, and `fold`, which is nothing but steps and skipped quiet bars: for a year and for a bar."""

import numpy as np

from candlewick.compiled import njit, njit_inline
from candlewick.engine.closing import close_positions, drawdown_of, list_active, mark_to_market
from candlewick.engine.deciding import decide
from candlewick.engine.layout import NEVER
from candlewick.engine.matching import intrabar_phase, open_phase
from candlewick.engine.scanning import NO_TIME_STOP, may_skip, skip_quiet

# The most events that one symbol can cause in one bar without detail, with room to spare; and the account's.
EVENTS_PER_SYMBOL = 48
EVENTS_PER_ACCOUNT = 8


@njit_inline
def step(
    account,
    positions,
    active,
    instruments,
    rules,
    market,
    row,
    decisions,
    d,
    d_end,
    fundings,
    f,
    f_end,
    days,
    day,
    tally,
    events,
    count,
):
    """One bar of all symbols: open, inside, close, decisions. Returns the event count."""
    at = market.times[row]
    count = open_phase(
        account, positions, active, instruments, rules, market.prices, row, fundings, f, f_end, at, tally, events, count
    )
    count = intrabar_phase(account, positions, active, instruments, rules, market, row, tally, events, count)
    count = close_positions(account, positions, active, instruments, rules, market, row, events, count)
    count = mark_to_market(account, positions, active, instruments, rules, at, days, day, tally, events, count)
    count = decide(account, positions, instruments, rules, market.prices, row, decisions, d, d_end, at, tally, events, count)
    account.watermark = at
    list_active(positions, active)
    return count


@njit_inline
def _keep_point(point, account, positions, rules, at):
    """A point of the equity curve, at the close of the bar that has just been processed."""
    held = 0
    for symbol in range(positions.shape[0]):
        held += 1 if positions[symbol].quantity > 0 else 0
    point.at = at + rules.timeframe_ms
    point.equity = account.equity
    point.cash = account.cash
    point.position_value = account.equity - account.cash
    point.drawdown = drawdown_of(account)
    point.open_positions = held


@njit
def fold(
    account, positions, instruments, rules, market, decisions, fundings, day_ends, curve_rows, cursor, skips, active, scratch,
    days, tally, curve, events, count, keeps,
):  # fmt: skip
    """Process rows until they or the event buffer end; the state arrays are changed in place. Returns the event count.

    ``cursor`` int64 (5,): next row, decision, funding, day and curve row. ``day_ends`` int64: the row after each UTC day's last.
    ``curve_rows`` int64 ascending: at whose closes ``curve`` (EQUITY) is written. ``days`` int64: each day's last equity, or
    empty. ``active`` and ``scratch`` as `scratch_for` answers them. ``skips`` False steps through every bar. ``count``: events in
    the buffer already. ``keeps`` False forgets events as soon as a bar is over.
    """
    row, d, f, day, c = cursor[0], cursor[1], cursor[2], cursor[3], cursor[4]
    rows, room = market.times.shape[0], EVENTS_PER_SYMBOL * positions.shape[0] + EVENTS_PER_ACCOUNT
    if market.detail_spans.shape[0] > 0:
        room *= 4
    one, terms, sums = account[0], rules[0], tally[0]
    list_active(positions, active)
    if one.peak_at == NEVER and rows > 0:
        one.peak_at = market.times[0]
    while row < rows and count + room <= events.shape[0]:
        if skips:
            stop = day_ends[day]
            if d < decisions.shape[0]:
                stop = min(stop, decisions[d].row)
            if f < fundings.shape[0]:
                stop = min(stop, fundings[f].row)
            if c < curve_rows.shape[0]:
                stop = min(stop, curve_rows[c] + 1)
            free, acts_at = may_skip(positions, active)
            if free and acts_at != NO_TIME_STOP and stop > row and market.times[stop - 1] + terms.timeframe_ms >= acts_at:
                stop = row + np.searchsorted(market.times[row:stop], acts_at - terms.timeframe_ms)
            # After an open that was done while the bar was forming, the equity is not that of the last close any more.
            if free and stop > row and one.opened_at <= one.watermark:
                end = skip_quiet(one, positions, active, instruments, terms, market, row, stop, days, day, sums, scratch)
                if end > row:
                    row = end
                    if c < curve_rows.shape[0] and curve_rows[c] == row - 1:
                        _keep_point(curve[c], one, positions, terms, market.times[row - 1])
                        c += 1
                    day += 1 if row == day_ends[day] else 0
                    continue
        d_end, f_end = d, f
        while d_end < decisions.shape[0] and decisions[d_end].row == row:
            d_end += 1
        while f_end < fundings.shape[0] and fundings[f_end].row == row:
            f_end += 1
        if count + room + f_end - f > events.shape[0]:
            break
        count = step(
            one, positions, active, instruments, terms, market, row, decisions, d, d_end, fundings, f, f_end, days, day, sums,
            events, count,
        )  # fmt: skip
        if c < curve_rows.shape[0] and curve_rows[c] == row:
            _keep_point(curve[c], one, positions, terms, market.times[row])
            c += 1
        d, f = d_end, f_end
        count = count if keeps else 0
        row += 1
        day += 1 if row == day_ends[day] else 0
    cursor[0], cursor[1], cursor[2], cursor[3], cursor[4] = row, d, f, day, c
    return count


@njit
def fold_open(account, positions, active, instruments, rules, at, prices, fundings, tally, events, count):
    """Only the open phase of a bar that is still forming. Returns the event count."""
    list_active(positions, active)
    return open_phase(
        account[0],
        positions,
        active,
        instruments,
        rules[0],
        prices,
        0,
        fundings,
        0,
        fundings.shape[0],
        at,
        tally[0],
        events,
        count,
    )
