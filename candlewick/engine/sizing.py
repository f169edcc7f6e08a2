"""How much an entry is for, in cash or margin, and what refuses it at the decision."""

from candlewick.compiled import njit_inline, njit_inner
from candlewick.engine.arithmetic import fee_of, floor_product, notional_of, taker_price
from candlewick.engine.closing import drawdown_of
from candlewick.engine.layout import ATR_PERIOD, NEVER, RATE, Capital, Form, Leg, Pending, Rule, Sizing


@njit_inline
def wanted_budget(account, rules, instrument, decision, price, side):
    """The budget that the account's sizing gives an entry, capped by the maximum position size, and what forbids one.

    Returns (budget, share of the capital or NEVER, rule, limit, value); ``price`` is that of the decision. Kelly (1956): the
    share is p - q / b with p wins and q losses out of all trades, b mean gain over mean loss; p (1 - losses / gains) in sums.
    """
    capital = rules.initial_cash if rules.capital == Capital.INITIAL else max(account.equity, 0)
    cap = floor_product(capital, rules.max_position_share, RATE)
    share = RATE // rules.symbols if decision.weight == NEVER else decision.weight
    wanted = capital // rules.symbols if decision.weight == NEVER else floor_product(capital, decision.weight, RATE)
    if rules.sizing == Sizing.FIXED_NOTIONAL:
        leverage = instrument.leverage_rate if instrument.on_margin == 1 else RATE
        wanted, share = floor_product(rules.fixed_notional, RATE, leverage), NEVER
    elif rules.sizing == Sizing.RISK:
        distance = _stop_distance(decision, price, side)
        if distance <= 0:
            return 0, 0, Rule.STOP_MISSING, 1, max(distance, 0)
        leverage = instrument.leverage_rate if instrument.on_margin == 1 else RATE
        wanted, share = _risk_budget(floor_product(capital, rules.risk_rate, RATE), price, distance, leverage, cap), NEVER
    elif rules.sizing == Sizing.INVERSE_VOLATILITY and decision.weight == NEVER:
        return 0, 0, Rule.VOLATILITY_UNKNOWN, 1, 0
    elif rules.sizing == Sizing.TARGET_WEIGHT and decision.weight == NEVER:
        return 0, 0, Rule.WEIGHT_MISSING, 1, 0
    elif rules.sizing == Sizing.KELLY and account.trades >= rules.kelly_min_trades:
        share = _kelly_share(account, rules)
        if share <= 0:
            return 0, 0, Rule.KELLY_NOT_POSITIVE, 0, account.gains - account.losses
        wanted = floor_product(capital, share, RATE)
    return min(wanted, cap), min(share, rules.max_position_share), Rule.NONE, 0, 0


@njit_inner
def _risk_budget(risked, price, distance, leverage, cap):
    """What an entry is for that loses ``risked`` over the distance to its stop, or about that and no less than ``cap``.

    A stop next to the price asks for a notional that may leave 64 bits.
    """
    if float(risked) * float(price) > 2.0 * float(cap) * float(leverage) / RATE * float(distance):
        return cap
    return floor_product(floor_product(risked, price, distance), RATE, leverage)


@njit_inner
def _kelly_share(account, rules):
    """The capped multiple of Kelly's share of the account's own closed trades, 0 or less when they have lost."""
    if account.gains <= account.losses or account.trades == 0:
        return 0
    won = floor_product(RATE, account.wins, account.trades)
    share = floor_product(won, account.gains - account.losses, account.gains)
    return min(floor_product(share, rules.kelly_multiple, RATE), rules.kelly_cap)


@njit_inner
def _stop_distance(decision, close, side):
    """How far the entry's stop lies from the price of the decision; the trailing distance where it states no stop, 0 for none."""
    for form, level in ((decision.stop_form, decision.stop), (decision.trail_form, decision.trail)):
        if form == Form.PRICE:
            return side * (close - level)
        if form == Form.DISTANCE:
            return level
        if form == Form.RATE:
            return floor_product(close, level, RATE)
    return 0


@njit_inline
def risk_rule(account, positions, rules, position, at, adds):
    """The first risk rule that forbids an entry decided at the close of bar ``at``, with limit and value."""
    if account.halted == 1:
        return Rule.MAX_DRAWDOWN, rules.max_drawdown, drawdown_of(account)
    if account.loss_day == account.day:
        lost = max(account.day_start_equity - account.equity, 0)
        return Rule.DAILY_LOSS_LIMIT, rules.daily_loss_limit, floor_product(lost, RATE, max(account.day_start_equity, 1))
    if position.stopped_at != NEVER:
        bars_since_stop = (at - position.stopped_at) // rules.timeframe_ms
        if bars_since_stop < rules.cooldown_bars:
            return Rule.COOLDOWN, rules.cooldown_bars, bars_since_stop
    taken = 0
    for symbol in range(positions.shape[0]):
        if positions[symbol].quantity > 0 or positions[symbol].pending != Pending.NONE:
            taken += 1
    if not adds and position.quantity == 0 and taken >= rules.max_open_positions:
        return Rule.MAX_OPEN_POSITIONS, rules.max_open_positions, taken
    return Rule.NONE, 0, 0


@njit_inline
def unknown_level(decision):
    """An entry whose stop or target cannot be computed yet would be unprotected: refuse it, with the bars it needs and has."""
    levels = (
        (decision.stop_form, decision.stop),
        (decision.target_1_form, decision.target_1),
        (decision.target_2_form, decision.target_2),
        (decision.trail_form, decision.trail),
    )
    for form, level in levels:
        if form == Form.UNKNOWN:
            return Rule.ATR_UNKNOWN, ATR_PERIOD + 1, level
    return Rule.NONE, 0, 0


@njit_inline
def cash_rule(instrument, wanted, free):
    """Whether the budget or the free cash is below the smallest order, in cash or margin."""
    needed = max(instrument.min_notional, 1)
    if instrument.on_margin == 1:
        needed = max(floor_product(needed, RATE, instrument.leverage_rate), 1)
    if wanted < needed:
        return Rule.MIN_NOTIONAL, needed, wanted
    if free < needed:
        return Rule.INSUFFICIENT_CASH, needed, free
    return Rule.NONE, 0, 0


@njit_inline
def free_cash(account, positions, instruments, rules):
    """Cash that is no margin and that no waiting entry has been promised, with what waiting exits bring at the last close."""
    free = account.cash - account.margin
    for symbol in range(positions.shape[0]):
        position = positions[symbol]
        if position.pending != Pending.NONE:
            free -= position.pending_budget
        if position.exit_leg != Leg.NONE:
            free += _proceeds(position, instruments[symbol], rules)
    return max(free, 0)


@njit_inner
def _proceeds(position, instrument, rules):
    """What the exit that waits would bring at the last close, less slippage, half the spread and fee."""
    quantity = position.quantity if position.exit_quantity == 0 else min(position.exit_quantity, position.quantity)
    price = taker_price(position.last_price, -position.side, rules.slippage_rate + rules.half_spread_rate, instrument.tick)
    worth = notional_of(quantity, price, instrument.notional_divisor)
    fee = fee_of(worth, instrument.taker_rate, instrument.fee_quantum)
    if instrument.on_margin == 0:
        return worth - fee
    entered, margin = position.notional, position.margin
    if quantity != position.quantity:
        entered = floor_product(entered, quantity, position.quantity)
        margin = floor_product(margin, quantity, position.quantity)
    return margin + max(position.side * (worth - entered) - fee, -margin)
