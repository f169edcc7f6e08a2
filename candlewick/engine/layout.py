"""The engine's memory: flat records of 64-bit integers, so that state is small, exact and serialisable.

Money is counted in units of 10**-8 of the quote currency (CASH_DECIMALS), prices and quantities in units of the instrument's
own decimals (at least 8), rates and shares in units of 10**-8 (RATE). Times are milliseconds since 1970 UTC; NEVER (-1)
stands where there is none. A price of 0 in a bar means that the symbol has no bar at that time.
"""

from enum import IntEnum
from typing import NamedTuple

import numpy as np

CASH_DECIMALS = 8
RATE = 100_000_000
# What is turned over in years may be more than 64 bits hold, long before any balance is.
TURNOVER_WRAP = 2**62
NEVER = -1
# Bars of the average true range that stops and targets in ATR multiples are measured in.
ATR_PERIOD = 14


def _record(*fields: str) -> np.dtype[np.void]:
    return np.dtype([(field, np.int64) for field in fields])


ACCOUNT = _record(
    "cash",  # what is owned in quote currency, reserved margins included
    "margin",  # of all positions on margin together
    "equity",  # at the last close
    "peak_equity",
    "peak_at",  # close at which equity was last at its peak
    "day",  # UTC day of the last bar
    "day_start_equity",
    "loss_day",  # the day on which the daily loss limit was hit, NEVER otherwise
    "halted",  # 1 once the maximum drawdown was hit
    "opened_at",  # time whose open phase is already done (a forming bar's), NEVER otherwise
    "watermark",  # open time of the last bar that was processed to its close
    "sequence",  # number of events so far
    "terms_version",  # of the terms that act; a later one is taken on where it begins
    "trades",  # closed ones: from flat to flat
    "wins",
    "gains",  # sums of the closed trades' profits and losses after all costs
    "losses",
)
POSITION = _record(
    "side",  # 1 long, -1 short, 0 none
    "quantity",
    "entries",  # entries that make up the position
    "target_1_quantity",  # what is to leave at the first target; the rest leaves at the second
    "entry_price",  # average over the entries
    "notional",  # at the entry prices, of what is still held
    "cost",  # notional and entry fees of what is still held: paid for a long, received for a short
    "margin",  # reserved, 0 for spot
    "opened_at",
    "decided_at",  # decision of the newest entry: names the orders that protect the position
    "stop",
    "target_1",
    "target_2",
    "liquidation",  # price at which the margin is used up, 0 for none
    "best",  # best price since the entry, for the trailing stop
    "trail_form",  # Form.RATE, Form.DISTANCE or Form.NONE
    "trail",
    "break_even",  # price from which on the stop stands at the entry, 0 for none
    "time_stop_at",  # close from which on the position is left, NEVER otherwise
    "inside",  # 1 when an entry filled inside the bar that is being processed, 2 when in an earlier one of its finer bars
    "last_price",  # 0 where nothing is held
    "last_volume",  # of the last closed bar
    "used_volume",  # of what the participation cap allows in the bar that is being processed
    "stopped_at",  # open time of the bar of the last stop or liquidation
    "exit_leg",  # a Leg that waits for the next open, Leg.NONE otherwise
    "exit_decided_at",
    "exit_quantity",  # 0: all
    "pending",  # a Pending
    "pending_side",
    "pending_adds",  # 1 when it adds to a position, and ends with it
    "pending_filled",  # quantity so far, where the participation cap left some over
    "pending_decided_at",
    "pending_budget",
    "pending_share",  # of the equity at the open, where the capital is that
    "pending_price",
    "pending_expires_at",
    "pending_stop_form",
    "pending_stop",
    "pending_target_1_form",
    "pending_target_1",
    "pending_target_2_form",
    "pending_target_2",
    "pending_trail_form",
    "pending_trail",
    "pending_break_even",
    "pending_time_stop_bars",
    "trade_pnl",  # realised since the position was opened, after fees and funding
    "trade_notional",  # of its entries
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
    "on_margin",  # 1 for margin and perpetual
    "leverage_rate",  # notional over margin
    "maintenance_rate",
)
RULES = _record(
    "timeframe_ms",
    "symbols",
    "initial_cash",
    "capital",  # a Capital
    "slippage_rate",
    "half_spread_rate",
    "volume_rate",  # NEVER: no participation cap
    "max_open_positions",
    "max_position_share",
    "daily_loss_limit",  # NEVER: off
    "max_drawdown",  # NEVER: off
    "cooldown_bars",
    "target_1_share",
    "stop_to_entry",
    "long",  # 1: BUY opens
    "short",  # 1: SELL opens
    "reverse",
    "max_entries",
    "sizing",  # a Sizing
    "fixed_notional",
    "risk_rate",
    "kelly_multiple",
    "kelly_cap",
    "kelly_min_trades",
    "rebalance_share",
)
DECISION = _record(
    "row",  # of the bars it belongs to
    "symbol",
    "action",
    "weight",  # in RATE units, NEVER for none
    "entry_type",  # a Pending
    "entry_price",
    "expiry_bars",
    "stop_form",
    "stop",
    "target_1_form",
    "target_1",
    "target_2_form",
    "target_2",
    "trail_form",
    "trail",
    "break_even",  # in RATE units, 0 for none
    "time_stop_bars",  # 0 for none
)
FUNDING = _record(
    "row",
    "symbol",
    "inside",  # 1: due after the bar's open, and so paid by whom the open leaves with a position
    "rate",  # longs pay shorts this share of the notional
    "at",
)
# Events are many, and memory that is written for the first time costs more than the arithmetic: small numbers are kept small.
EVENT = np.dtype(
    [
        ("sequence", np.int64),
        ("kind", np.int8),
        ("leg", np.int8),
        ("phase", np.int8),
        ("side", np.int8),  # of the order: 1 buys, -1 sells
        ("position_side", np.int8),
        ("entry_type", np.int8),
        ("rule", np.int8),
        ("outcome", np.int8),
        ("symbol", np.int32),
        ("why", np.int32),
        *(
            (field, np.int64)
            for field in (
                "at",
                "decided_at",
                "price",
                "reference_price",
                "quantity",
                "left",  # of the order, to be filled yet
                "notional",
                "settled",  # what comes into the cash before the fee
                "fee",
                "realized",
                "budget",
                "expires_at",
                "rule_limit",
                "rule_value",
            )
        ),
    ]
)
EQUITY = _record("at", "equity", "cash", "position_value", "drawdown", "open_positions")
TALLY = np.dtype(
    [
        (field, np.int64)
        for field in (
            "bars",
            "bars_exposed",
            "drawdown_peak",  # the equities between which the deepest drawdown lies
            "drawdown_trough",
            "longest_drawdown_ms",
            "fees",
            "funding",  # received less paid
            "turnover",  # modulo TURNOVER_WRAP
            "turnover_wraps",
            "fills",
            "refusals",
            "liquidations",
        )
    ]
    + [("return_sum", np.float64)]
)


OPEN, HIGH, LOW, CLOSE = range(4)


class Market(NamedTuple):
    """Bars of all symbols on one time grid, int64; a price of 0 where a symbol has no bar.

    ``times`` (rows,); ``prices`` (symbols, rows, 4): OPEN, HIGH, LOW and CLOSE side by side, because the engine jumps from bar to
    bar, and each line of memory it comes to is waited for. ``volumes`` (rows, symbols) in quantity units, (0, symbols) for none.
    ``detail_spans`` (symbols, rows, 2): first and last + 1 of a bar's finer bars in the detail prices; (0, 0, 2) without any.
    """

    times: np.ndarray[tuple[int, ...], np.dtype[np.int64]]
    prices: np.ndarray[tuple[int, ...], np.dtype[np.int64]]
    volumes: np.ndarray[tuple[int, ...], np.dtype[np.int64]]
    detail_spans: np.ndarray[tuple[int, ...], np.dtype[np.int64]]
    detail_opens: np.ndarray[tuple[int, ...], np.dtype[np.int64]]
    detail_highs: np.ndarray[tuple[int, ...], np.dtype[np.int64]]
    detail_lows: np.ndarray[tuple[int, ...], np.dtype[np.int64]]


class Pending(IntEnum):
    """The entry that waits for a symbol's next bar."""

    NONE = 0
    MARKET = 1
    LIMIT = 2
    STOP = 3


class Capital(IntEnum):
    """What an entry's share is taken of."""

    EQUITY = 0
    INITIAL = 1
    EQUITY_AT_OPEN = 2


class Sizing(IntEnum):
    """How much an entry is for."""

    EQUAL_SHARE = 0
    FIXED_NOTIONAL = 1
    RISK = 2
    INVERSE_VOLATILITY = 3
    KELLY = 4
    TARGET_WEIGHT = 5


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
    FUNDING = 9
    EXPIRY = 10


class Leg(IntEnum):
    """Which of a position's orders; its lower-case name is part of the client order id."""

    NONE = 0
    ENTRY = 1
    EXIT = 2
    STOP = 3
    TARGET_1 = 4
    TARGET_2 = 5
    LIQUIDATION = 6
    TIME_STOP = 7


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
    STOP_MISSING = 11
    VOLATILITY_UNKNOWN = 12
    KELLY_NOT_POSITIVE = 13
    WEIGHT_MISSING = 14


class Outcome(IntEnum):
    """What became of a signal."""

    NONE = 0
    ENTRY_ORDERED = 1
    EXIT_ORDERED = 2
    REFUSED = 3
    ALREADY_IN_POSITION = 4
    NOTHING_TO_SELL = 5
    REVERSAL_ORDERED = 6
    REDUCTION_ORDERED = 7


class Why(IntEnum):
    """Why an order was cancelled or a stop moved."""

    NONE = 0
    POSITION_CLOSED = 1
    REPLACED = 2
    BUDGET_SPENT = 3
    TARGET_1 = 4
    TRAILED = 5
    BREAK_EVEN = 6
    TOO_SMALL = 7
    NOT_REVERSED = 8


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
    EXIT = -2
