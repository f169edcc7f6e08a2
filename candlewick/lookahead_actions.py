"""Does a strategy's quick `actions` decide as its `signals` do?"""

import polars as pl

from candlewick.check_report import Cell
from candlewick.errors import CandlewickError, StrategyFailed
from candlewick.signal_differences import Difference
from candlewick.strategies.contract import BUY, HOLD, MARKET, SELL, SIDES, SIGNAL_SCHEMA, Actions, Strategy

_ACTIONS = {side: action for action, side in SIDES.items()}
# What `actions` leaves out by its contract; the entry type is compared by itself.
_NOT_COMPARED = ("opened_at", "action", "entry", "reason", "entry_type")


def actions_difference(strategy: Strategy, candles: pl.DataFrame, signals: pl.DataFrame) -> Difference | None:
    """The first row in which `actions` say otherwise than completed ``signals`` of the same candles; None where they agree.

    Every action must be the same, and on every BUY and SELL all columns but `entry` and `reason`; `actions` can say nothing of
    limit and stop entries, so there must be none. Raises StrategyFailed when `actions` raises an error, or names no bar there is.
    """
    actions = _ask(strategy, candles)
    if actions is None:
        return None
    said = [HOLD] * candles.height
    for row, side in zip(actions.rows.tolist(), actions.sides.tolist(), strict=True):
        said[row] = _ACTIONS.get(side, f"side {side}")
    answer = pl.Series("action", said, dtype=pl.String)
    found = [_first("action", signals["action"], answer, signals["action"].ne_missing(answer))]
    opens = signals["action"].is_in([BUY, SELL])
    market = signals["entry_type"].fill_null(MARKET)
    found.append(_first("entry_type", market, pl.repeat(MARKET, market.len(), eager=True), opens & (market != MARKET)))
    for name in SIGNAL_SCHEMA:
        if name not in _NOT_COMPARED:
            values = signals[name].cast(pl.Float64)
            constant = pl.repeat(actions.constants.get(name), signals.height, dtype=pl.Float64, eager=True)
            found.append(_first(name, values, constant, opens & values.ne_missing(constant)))
    return min((one for one in found if one), key=lambda one: one.row, default=None)


def _ask(strategy: Strategy, candles: pl.DataFrame) -> Actions | None:
    who = f"{type(strategy).__name__}.actions"
    try:
        actions = strategy.actions(candles)
    except CandlewickError:
        raise
    except Exception as problem:
        raise StrategyFailed(f"{who} failed on {candles.height} candles: {type(problem).__name__}: {problem}") from problem
    if actions is not None:
        outside = [row for row in actions.rows.tolist() if not 0 <= row < candles.height]
        if outside or actions.rows.size != actions.sides.size:
            text = f"{who} answered {actions.rows.size} rows and {actions.sides.size} sides for {candles.height} candles"
            raise StrategyFailed(f"{text}; rows that are no candle: {outside[:5]}")
    return actions


def _first(column: str, full: pl.Series, other: pl.Series, wrong: pl.Series) -> Difference | None:
    row = wrong.arg_max() if wrong.any() else None
    if row is None:
        return None
    values: tuple[Cell, Cell] = (full[row], other[row])
    return Difference(row, column, *values, is_rounding=False)
