"""What a strategy is: frozen, validated parameters, a warm-up in bars, and one function from candles to signals."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict

from candlewick.candles import CANDLE_SCHEMA
from candlewick.errors import CandlewickError, StrategyFailed, UnknownStrategy

BUY, SELL, EXIT, HOLD = "BUY", "SELL", "EXIT", "HOLD"
ACTIONS = (BUY, SELL, EXIT, HOLD)
LEGS = ("stop_loss", "take_profit_1", "take_profit_2")
UNITS = ("", "_bps", "_atr")
MARKET, LIMIT, STOP = "market", "limit", "stop"
ENTRY_TYPES = (MARKET, LIMIT, STOP)
DISTANCES = ("trailing_stop_bps", "trailing_stop_atr", "break_even_bps")
BAR_COUNTS = ("time_stop_bars", "expiry_bars")

# What every strategy answers, after `complete_signals` has filled in the columns it left out.
# A leg is an absolute price, or a distance from the fill price in basis points, or in multiples of ATR(14) at the decision.
# BUY and SELL open a side where the account's direction allows it and close the other; EXIT closes whatever is held.
# `entry` is the price of a limit or stop entry (`entry_type`), live for `expiry_bars` bars (none: 1); for a market entry it only
# says at what price the decision was made. `trailing_stop_*` trails the best price since the entry, `break_even_bps` is the
# profit from which on the stop stands at the entry, `time_stop_bars` the bars after which the position is closed.
SIGNAL_SCHEMA: Mapping[str, pl.DataType] = {
    "opened_at": CANDLE_SCHEMA["opened_at"],
    "action": pl.String(),
    "entry": pl.Float64(),
    **{f"{leg}{unit}": pl.Float64() for leg in LEGS for unit in UNITS},
    "target_weight": pl.Float64(),
    "reason": pl.String(),
    "entry_type": pl.String(),
    **dict.fromkeys(DISTANCES, pl.Float64()),
    **dict.fromkeys(BAR_COUNTS, pl.Int64()),
}
# An action's side in arrays; 0 holds.
SIDES: Mapping[str, int] = {BUY: 1, SELL: -1, EXIT: -2, HOLD: 0}
_NUMBERS = tuple(name for name, kind in SIGNAL_SCHEMA.items() if kind == pl.Float64())


Shared = Mapping[str, np.ndarray[tuple[int], np.dtype[np.int64]]]


@dataclass(frozen=True, slots=True)
class Actions:
    """Signals in short: only the bars that act, for strategies that enter at the market and protect each entry alike.

    ``rows`` int64 ascending, the bars after the warm-up whose action is not HOLD; ``sides`` int8 of the same length: 1 BUY,
    -1 SELL, -2 EXIT. ``constants`` holds the columns of SIGNAL_SCHEMA that have one value on every BUY and SELL (a column on one
    of the two sides only cannot be said so). `entry`, which a market entry does not act on, and `reason` are left out.
    """

    rows: np.ndarray[tuple[int], np.dtype[np.int64]]
    sides: np.ndarray[tuple[int], np.dtype[np.int8]]
    constants: Mapping[str, float] = field(default_factory=dict)


class Strategy(BaseModel):
    """Base of all strategies. Subclass it, declare parameters as fields with their bounds, and write `warmup` and `signals`.

    A decision at bar t may use bars 0..t only, and must not change when later bars are added (promise 5). The first line of the
    docstring is the strategy's summary in lists; parameters are numbers, text or true/false, so that the ledger can keep them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    name: ClassVar[str] = ""

    @property
    def warmup(self) -> int:
        """Number of leading bars on which the strategy cannot decide; their signals are HOLD."""
        return 0

    def signals(self, candles: pl.DataFrame) -> pl.DataFrame:
        """One row per candle, in the same order: at least `action`; any other column of SIGNAL_SCHEMA. No other columns."""
        raise UnknownStrategy(f"{type(self).__name__} has no signals(candles)")

    def actions(self, candles: pl.DataFrame, shared: Shared | None = None) -> Actions | None:
        """The same as `signals`, without a frame and without reasons; None where it can only be said in a frame.

        Optional: sweeps and backtests take it, where there is one, because a frame of text costs more than the decisions.
        ``shared`` is what `shared` answered for the same candles, or None.
        """
        return None

    @classmethod
    def shared(cls, candles: pl.DataFrame) -> Shared:
        """Columns that `actions` of every parameter set can use: a sweep computes them once."""
        return {}


def complete_signals(strategy: Strategy, candles: pl.DataFrame) -> pl.DataFrame:
    """The strategy's signals in SIGNAL_SCHEMA, one row per candle, checked; warm-up rows are HOLD and otherwise empty.

    NaN means "none" on a row that does not buy. Raises UnknownStrategy naming the strategy, column, value and bar
    when the answer is not what the contract asks for, and StrategyFailed when the strategy's code itself raised an error.
    """
    who = f"{type(strategy).__name__}.signals"
    answer = _answer(who, strategy, candles)
    warm = pl.int_range(pl.len()) < strategy.warmup
    not_buying = pl.col("action").ne_missing(pl.lit(BUY))
    frame = answer.with_columns(
        pl.when(warm).then(pl.lit(HOLD)).otherwise(pl.col("action")).alias("action"),
        pl.when(~warm).then(pl.col("reason")).alias("reason"),
        *(pl.when(~warm & ~(not_buying & pl.col(name).is_nan())).then(pl.col(name)).alias(name) for name in _NUMBERS),
        *(pl.when(~warm).then(pl.col(name)).alias(name) for name in ("entry_type", *BAR_COUNTS)),
    )
    _refuse_senseless(who, frame)
    return frame


def _answer(who: str, strategy: Strategy, candles: pl.DataFrame) -> pl.DataFrame:
    """What the strategy answered, with the columns and types of SIGNAL_SCHEMA; refused if that cannot be."""
    try:
        answer = strategy.signals(candles)
    except CandlewickError:
        raise
    except Exception as problem:
        raise StrategyFailed(f"{who} failed on {candles.height} candles: {type(problem).__name__}: {problem}") from problem
    if not isinstance(answer, pl.DataFrame):
        raise UnknownStrategy(f"{who} must answer a polars DataFrame; it answered {type(answer).__name__}")
    unknown = [column for column in answer.columns if column not in SIGNAL_SCHEMA]
    if unknown:
        raise UnknownStrategy(f"{who} answered unknown columns {unknown}; allowed are {list(SIGNAL_SCHEMA)}")
    if "action" not in answer.columns or answer.height != candles.height:
        raise UnknownStrategy(f"{who} must answer `action` for each of {candles.height} candles; got {answer.shape}")
    opened_at = candles["opened_at"].cast(SIGNAL_SCHEMA["opened_at"])
    answered = set(answer.columns)
    missing = [pl.lit(None).alias(column) for column in SIGNAL_SCHEMA if column not in answered and column != "opened_at"]
    try:
        frame = answer.with_columns(missing if "opened_at" in answered else [opened_at, *missing])
        frame = frame.select(pl.col(column).cast(kind) for column, kind in SIGNAL_SCHEMA.items())
    except pl.exceptions.PolarsError as problem:
        raise UnknownStrategy(f"{who} answered a column of another type than {dict(SIGNAL_SCHEMA)}: {problem}") from problem
    if not frame["opened_at"].equals(opened_at):
        raise UnknownStrategy(f"{who} must answer its rows in the order of the candles; its `opened_at` differs from theirs")
    return frame


def _refuse_senseless(who: str, frame: pl.DataFrame) -> None:
    """All rules in one pass; the message of the first that is broken, with the first bar that breaks it."""
    rules = {"action must be BUY, SELL, EXIT or HOLD": ("action", ~pl.col("action").is_in(ACTIONS).fill_null(False))}
    rules["entry_type must be market, limit or stop"] = ("entry_type", ~pl.col("entry_type").is_in(ENTRY_TYPES))
    priced = pl.col("entry_type").is_in([LIMIT, STOP]).fill_null(False) & pl.col("action").is_in([BUY, SELL])
    rules["a limit or stop entry needs its price in entry"] = ("entry", priced & pl.col("entry").is_null())
    rules["a trailing stop must be given in one form, not in bps and ATR"] = (
        "trailing_stop_bps",
        pl.col("trailing_stop_bps").is_not_null() & pl.col("trailing_stop_atr").is_not_null(),
    )
    for name in BAR_COUNTS:
        rules[f"{name} must be 1 or more"] = (name, pl.col(name) < 1)
    for name in ("entry", *(f"{leg}{unit}" for leg in LEGS for unit in UNITS), *DISTANCES):
        rules[f"{name} must be a finite number above 0"] = (name, ~(pl.col(name).is_finite() & (pl.col(name) > 0)))
    rules["target_weight must be within -1 to 1"] = ("target_weight", ~pl.col("target_weight").is_between(-1, 1))
    for leg in LEGS:
        forms = [f"{leg}{unit}" for unit in UNITS]
        given = pl.sum_horizontal(pl.col(form).is_not_null() for form in forms)
        rules[f"{leg} must be given in one form, not in several of {forms}"] = (leg, given > 1)
    broken = frame.select(rule.any().alias(text) for text, (_, rule) in rules.items()).row(0, named=True)
    for text, (column, rule) in rules.items():
        if broken[text]:
            opened_at, value = frame.filter(rule).select("opened_at", column).row(0)
            raise UnknownStrategy(f"{who}: {text}; {column} is {value!r} at {opened_at:%Y-%m-%d %H:%M} UTC")
