"""`step`, the engine's one step, and `fold`, which is nothing but steps: the same compiled code for a year and for a bar."""

from candlewick.compiled import njit, njit_inner
from candlewick.engine.deciding import decide, mark_to_market
from candlewick.engine.matching import intrabar_phase, open_phase

# The most events that one symbol can cause in one bar: exit and three cancels, entry with three orders, stop with cancels, a
# moved stop, signal, order, refusal; and two of the account's. With room to spare.
EVENTS_PER_SYMBOL = 24
EVENTS_PER_ACCOUNT = 8


@njit_inner
def step(
    account,
    positions,
    instruments,
    rules,
    at,
    opens,
    highs,
    lows,
    closes,
    actions,
    weights,
    forms,
    levels,
    events,
    count,
    equity_row,
):
    """One bar of all symbols, open time ``at``: open, inside, close, decisions. Prices int64 (symbols,), 0 for no bar."""
    count = open_phase(account, positions, instruments, rules, opens, at, events, count)
    count = intrabar_phase(account, positions, instruments, rules, highs, lows, at, events, count)
    count = mark_to_market(account, positions, instruments, rules, closes, at, events, count, equity_row)
    count = decide(account, positions, instruments, rules, actions, weights, forms, levels, at, events, count)
    account.watermark = at
    return count


@njit
def fold(account, positions, instruments, rules, times, prices, actions, weights, forms, levels, first, events, count, equity):
    """Steps from row ``first`` until the rows or the event buffer end.

    ``prices`` int64 (4, rows, symbols): open, high, low, close. ``count``: events in the buffer already. The state arrays are
    changed in place. Returns (next row, event count).
    """
    room = EVENTS_PER_SYMBOL * positions.shape[0] + EVENTS_PER_ACCOUNT
    row = first
    while row < times.shape[0] and count + room <= events.shape[0]:
        count = step(
            account[0], positions, instruments, rules[0], times[row],
            prices[0, row], prices[1, row], prices[2, row], prices[3, row],
            actions[row], weights[row], forms[row], levels[row], events, count, equity[row],
        )  # fmt: skip
        row += 1
    return row, count


@njit
def fold_open(account, positions, instruments, rules, at, opens, events, count):
    """Only the open phase of a bar that is still forming. Returns the event count."""
    return open_phase(account[0], positions, instruments, rules[0], opens, at, events, count)
