"""The engine's memory: flat records of 64-bit integers, so that state is small, exact and serialisable.

Money is counted in units of 10**-8 of the quote currency (CASH_DECIMALS), prices and quantities in units of the instrument's
own decimals (at least 8), rates and shares in units of 10**-8 (RATE). Times are milliseconds since 1970 UTC; NEVER (-1)
stands where there is none. A price of 0 in a bar means that the symbol has no bar at that time.
"""

from enum import IntEnum

import numpy as np

CASH_DECIMALS = 8
RATE = 100_000_000
NEVER = -1
# Bars of the average true range that stops and targets in ATR multiples are measured in.
ATR_PERIOD = 14


def _record(*fields: str) -> np.dtype[np.void]:
    return np.dtype([(field, np.int64) for field in fields])


ACCOUNT = _record(
    "cash",
    "equity",  # at the last close
    "peak_equity",
    "day",  # UTC day of the last bar
    "day_start_equity",
    "loss_day",  # the day on which the daily loss limit was hit, NEVER otherwise
    "halted",  # 1 once the maximum drawdown was hit
    "opened_at",  # time whose open phase is already done (a forming bar's), NEVER otherwise
    "watermark",  # open time of the last bar that was processed to its close
    "sequence",  # number of events so far
    "terms_version",  # of the terms that act; a later one is taken on where it begins
)
POSITION = _record(
    "quantity",
    "target_1_quantity",  # what leaves at the first target, fixed at the entry; the rest leaves at the second
    "entry_price",
    "cost",  # notional and entry fee of what is still held
    "opened_at",
    "decided_at",  # decision of the entry: names the position's orders
    "stop",
    "target_1",
    "target_2",
    "last_price",
    "stopped_at",  # open time of the bar of the last stop fill
    "pending",  # a Pending
    "pending_decided_at",
    "pending_budget",
    "pending_stop_form",
    "pending_stop",
    "pending_target_1_form",
    "pending_target_1",
    "pending_target_2_form",
    "pending_target_2",
)
INSTRUMENT = _record(
    "tick",
    "step",
    "min_quantity",
    "min_notional",
    "maker_rate",
    "taker_rate",
    "fee_quantum",  # cash units of the quote currency's smallest amount
    "notional_divisor",  # 10**(price decimals + quantity decimals - CASH_DECIMALS)
)
RULES = _record(
    "timeframe_ms",
    "symbols",
    "initial_cash",
    "capital_initial",  # 1: shares are taken of the initial cash, 0: of the equity
    "slippage_rate",
    "max_open_positions",
    "max_position_share",
    "daily_loss_limit",  # NEVER: off
    "max_drawdown",  # NEVER: off
    "cooldown_bars",
    "target_1_share",
    "stop_to_entry",
)
EVENT = _record(
    "sequence",
    "kind",
    "at",
    "symbol",
    "leg",
    "decided_at",
    "phase",
    "price",
    "reference_price",
    "quantity",
    "notional",
    "fee",
    "realized",
    "budget",
    "rule",
    "rule_limit",
    "rule_value",
    "outcome",
)
EQUITY = _record("at", "equity", "cash", "position_value", "drawdown", "open_positions")


class Pending(IntEnum):
    """What waits for a symbol's next open."""

    NONE = 0
    ENTRY = 1
    EXIT = 2


class Kind(IntEnum):
    """What happened."""

    SIGNAL = 1
    ORDER = 2
    REFUSAL = 3
    FILL = 4
    CANCEL = 5
    STOP_MOVED = 6
    HALT = 7
    LOSS_LIMIT = 8


class Leg(IntEnum):
    """Which of a position's orders; its lower-case name is part of the client order id."""

    NONE = 0
    ENTRY = 1
    EXIT = 2
    STOP = 3
    TARGET_1 = 4
    TARGET_2 = 5


class Phase(IntEnum):
    """When inside a bar: at its open, between open and close (at a stop's or a target's price), at its close."""

    NONE = 0
    OPEN = 1
    INTRABAR = 2
    CLOSE = 3


class Rule(IntEnum):
    """Why an order was refused; its lower-case name stands in the ledger."""

    NONE = 0
    MAX_DRAWDOWN = 1
    DAILY_LOSS_LIMIT = 2
    COOLDOWN = 3
    MAX_OPEN_POSITIONS = 4
    INSUFFICIENT_CASH = 5
    MIN_NOTIONAL = 6
    MIN_QUANTITY = 7
    STOP_BEYOND_ENTRY = 8
    TARGET_BEYOND_ENTRY = 9
    ATR_UNKNOWN = 10


class Outcome(IntEnum):
    """What became of a signal."""

    NONE = 0
    ENTRY_ORDERED = 1
    EXIT_ORDERED = 2
    REFUSED = 3
    ALREADY_IN_POSITION = 4
    NOTHING_TO_SELL = 5


class Form(IntEnum):
    """How a signal states a stop or a target."""

    NONE = 0
    PRICE = 1
    DISTANCE = 2
    RATE = 3
    UNKNOWN = 4  # ATR multiples before the ATR is known; the level counts the bars there are


class Action(IntEnum):
    """A decision at a bar's close."""

    HOLD = 0
    BUY = 1
    SELL = -1
