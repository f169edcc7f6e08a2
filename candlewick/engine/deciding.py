"""The close of a bar: equity, risk limits, and what is ordered for the next open."""

from candlewick.compiled import njit_inner
from candlewick.engine.arithmetic import fee_of, floor_product, notional_of, sell_price, sum_amounts
from candlewick.engine.layout import ATR_PERIOD, NEVER, RATE, Action, Form, Kind, Leg, Outcome, Pending, Rule
from candlewick.engine.posting import record, refuse

_DAY_MS = 86_400_000


@njit_inner
def mark_to_market(account, positions, instruments, rules, closes, at, events, count, equity_row):
    """Value the account at the closes (a symbol without a bar keeps its last), and hit or lift the limits that depend on it.

    A bar belongs to the UTC day in which it opens. Returns the event count.
    """
    value = 0
    open_positions = 0
    for symbol in range(positions.shape[0]):
        position = positions[symbol]
        if closes[symbol] > 0:
            position.last_price = closes[symbol]
        if position.quantity > 0:
            worth = notional_of(position.quantity, position.last_price, instruments[symbol].notional_divisor)
            value = sum_amounts(value, worth)
            open_positions += 1
    day = at // _DAY_MS
    if day != account.day:
        account.day = day
        account.day_start_equity = account.equity
    account.equity = sum_amounts(account.cash, value)
    account.peak_equity = max(account.peak_equity, account.equity)
    closed_at = at + rules.timeframe_ms
    lost = max(account.day_start_equity - account.equity, 0)
    day_loss = floor_product(lost, RATE, max(account.day_start_equity, 1))
    if rules.daily_loss_limit != NEVER and day_loss >= rules.daily_loss_limit and account.loss_day != day:
        account.loss_day = day
        event = record(account, events, count, Kind.LOSS_LIMIT, NEVER, closed_at, Leg.NONE, closed_at)
        event.rule, event.rule_limit, event.rule_value = Rule.DAILY_LOSS_LIMIT, rules.daily_loss_limit, day_loss
        count += 1
    drawdown = floor_product(account.peak_equity - account.equity, RATE, max(account.peak_equity, 1))
    if rules.max_drawdown != NEVER and drawdown >= rules.max_drawdown and account.halted == 0:
        account.halted = 1
        event = record(account, events, count, Kind.HALT, NEVER, closed_at, Leg.NONE, closed_at)
        event.rule, event.rule_limit, event.rule_value = Rule.MAX_DRAWDOWN, rules.max_drawdown, drawdown
        count += 1
    equity_row.at = closed_at
    equity_row.equity = account.equity
    equity_row.cash = account.cash
    equity_row.position_value = value
    equity_row.drawdown = drawdown
    equity_row.open_positions = open_positions
    return count


@njit_inner
def decide(account, positions, instruments, rules, actions, weights, forms, levels, at, events, count):
    """Turn the signals of bar ``at`` into orders for the next open: exits first, then entries, in the account's order.

    ``actions`` int8 (symbols,); ``weights`` int64 (symbols,), shares in RATE units, NEVER for an equal share;
    ``forms`` int8 and ``levels`` int64 (symbols, 3) for stop, target 1, target 2. Returns the event count. A symbol that decides
    has this bar, and at its open whatever waited was filled or refused: a decision never meets an order that still waits.
    """
    closed_at = at + rules.timeframe_ms
    for symbol in range(positions.shape[0]):
        if actions[symbol] == Action.SELL:
            count = _decide_exit(account, positions[symbol], closed_at, events, count, symbol)
    for symbol in range(positions.shape[0]):
        if actions[symbol] == Action.BUY:
            count = _decide_entry(
                account, positions, instruments, rules, weights[symbol], forms[symbol], levels[symbol], at, events, count, symbol
            )
    return count


@njit_inner
def _signal(account, events, count, symbol, closed_at, outcome):
    event = record(account, events, count, Kind.SIGNAL, symbol, closed_at, Leg.NONE, closed_at)
    event.outcome = outcome
    return count + 1


@njit_inner
def _decide_exit(account, position, closed_at, events, count, symbol):
    if position.quantity == 0:
        return _signal(account, events, count, symbol, closed_at, Outcome.NOTHING_TO_SELL)
    count = _signal(account, events, count, symbol, closed_at, Outcome.EXIT_ORDERED)
    position.pending = Pending.EXIT
    position.pending_decided_at = closed_at
    event = record(account, events, count, Kind.ORDER, symbol, closed_at, Leg.EXIT, closed_at)
    event.quantity = position.quantity
    return count + 1


@njit_inner
def _decide_entry(account, positions, instruments, rules, weight, form, level, at, events, count, symbol):
    position = positions[symbol]
    closed_at = at + rules.timeframe_ms
    if position.quantity > 0:
        return _signal(account, events, count, symbol, closed_at, Outcome.ALREADY_IN_POSITION)
    wanted = _wanted_budget(account, rules, weight)
    free = _free_cash(account, positions, instruments, rules)
    rule, limit, value = _risk_rule(account, positions, rules, position, at)
    if rule == Rule.NONE:
        rule, limit, value = _unknown_level(form, level)
    if rule == Rule.NONE:
        rule, limit, value = _cash_rule(instruments[symbol], wanted, free)
    if rule != Rule.NONE:
        count = _signal(account, events, count, symbol, closed_at, Outcome.REFUSED)
        return refuse(account, events, count, symbol, closed_at, Leg.ENTRY, closed_at, rule, limit, value)
    count = _signal(account, events, count, symbol, closed_at, Outcome.ENTRY_ORDERED)
    position.pending = Pending.ENTRY
    position.pending_decided_at = closed_at
    position.pending_budget = min(wanted, free)
    position.pending_stop_form, position.pending_stop = form[0], level[0]
    position.pending_target_1_form, position.pending_target_1 = form[1], level[1]
    position.pending_target_2_form, position.pending_target_2 = form[2], level[2]
    event = record(account, events, count, Kind.ORDER, symbol, closed_at, Leg.ENTRY, closed_at)
    event.budget = position.pending_budget
    return count + 1


@njit_inner
def _risk_rule(account, positions, rules, position, at):
    """The first risk rule that forbids an entry decided at the close of bar ``at``, with limit and value."""
    if account.halted == 1:
        lost = account.peak_equity - account.equity
        return Rule.MAX_DRAWDOWN, rules.max_drawdown, floor_product(lost, RATE, max(account.peak_equity, 1))
    if account.loss_day == account.day:
        lost = max(account.day_start_equity - account.equity, 0)
        return Rule.DAILY_LOSS_LIMIT, rules.daily_loss_limit, floor_product(lost, RATE, max(account.day_start_equity, 1))
    if position.stopped_at != NEVER:
        bars_since_stop = (at - position.stopped_at) // rules.timeframe_ms
        if bars_since_stop < rules.cooldown_bars:
            return Rule.COOLDOWN, rules.cooldown_bars, bars_since_stop
    taken = 0
    for symbol in range(positions.shape[0]):
        if positions[symbol].quantity > 0 or positions[symbol].pending == Pending.ENTRY:
            taken += 1
    if taken >= rules.max_open_positions:
        return Rule.MAX_OPEN_POSITIONS, rules.max_open_positions, taken
    return Rule.NONE, 0, 0


@njit_inner
def _unknown_level(form, level):
    """An entry whose stop or target cannot be computed yet would be unprotected: refuse it, with the bars it needs and has."""
    for leg in range(form.shape[0]):
        if form[leg] == Form.UNKNOWN:
            return Rule.ATR_UNKNOWN, ATR_PERIOD + 1, level[leg]
    return Rule.NONE, 0, 0


@njit_inner
def _cash_rule(instrument, wanted, free):
    needed = max(instrument.min_notional, 1)
    if wanted < needed:
        return Rule.MIN_NOTIONAL, needed, wanted
    if free < needed:
        return Rule.INSUFFICIENT_CASH, needed, free
    return Rule.NONE, 0, 0


@njit_inner
def _wanted_budget(account, rules, weight):
    """Capital times |target weight| (an equal share without one), capped by the maximum position size."""
    capital = rules.initial_cash if rules.capital_initial == 1 else max(account.equity, 0)
    cap = floor_product(capital, rules.max_position_share, RATE)
    wanted = capital // rules.symbols if weight == NEVER else floor_product(capital, weight, RATE)
    return min(wanted, cap)


@njit_inner
def _free_cash(account, positions, instruments, rules):
    """Cash that no pending entry has been promised, with what pending exits would bring at the last close."""
    free = account.cash
    for symbol in range(positions.shape[0]):
        position = positions[symbol]
        instrument = instruments[symbol]
        if position.pending == Pending.ENTRY:
            free -= position.pending_budget
        elif position.pending == Pending.EXIT:
            price = sell_price(position.last_price, rules.slippage_rate, instrument.tick)
            proceeds = notional_of(position.quantity, price, instrument.notional_divisor)
            free += proceeds - fee_of(proceeds, instrument.taker_rate, instrument.fee_quantum)
    return max(free, 0)
