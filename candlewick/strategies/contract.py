"""What a strategy is: frozen, validated parameters, a warm-up in bars, and one function from candles to signals."""

from collections.abc import Mapping
from typing import ClassVar

import polars as pl
from pydantic import BaseModel, ConfigDict

from candlewick.candles import CANDLE_SCHEMA
from candlewick.errors import UnknownStrategy

BUY, SELL, HOLD = "BUY", "SELL", "HOLD"
LEGS = ("stop_loss", "take_profit_1", "take_profit_2")

# What every strategy answers, after `complete_signals` has filled in the columns it left out.
# A leg is an absolute price, or a distance from the fill price in basis points, or in multiples of ATR(14) at the decision.
SIGNAL_SCHEMA: Mapping[str, pl.DataType] = {
    "opened_at": CANDLE_SCHEMA["opened_at"],
    "action": pl.String(),
    "entry": pl.Float64(),
    **{f"{leg}{unit}": pl.Float64() for leg in LEGS for unit in ("", "_bps", "_atr")},
    "target_weight": pl.Float64(),
    "reason": pl.String(),
}


class Strategy(BaseModel):
    """Base of all strategies. Subclass it, declare parameters as fields with their bounds, and write `warmup` and `signals`.

    A decision at bar t may use bars 0..t only, and must not change when later bars are added (promise 5).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: ClassVar[str] = ""

    @property
    def warmup(self) -> int:
        """Number of leading bars on which the strategy cannot decide; their signals are HOLD."""
        return 0

    def signals(self, candles: pl.DataFrame) -> pl.DataFrame:
        """One row per candle, in the same order: at least `action`; any other column of SIGNAL_SCHEMA. No other columns."""
        raise UnknownStrategy(f"{type(self).__name__} has no signals(candles)")


def complete_signals(strategy: Strategy, candles: pl.DataFrame) -> pl.DataFrame:
    """The strategy's signals in SIGNAL_SCHEMA, checked. Raises UnknownStrategy naming the strategy and what is wrong."""
    who = type(strategy).__name__
    frame = strategy.signals(candles)
    unknown = [column for column in frame.columns if column not in SIGNAL_SCHEMA]
    if unknown:
        raise UnknownStrategy(f"{who}.signals answered unknown columns {unknown}; allowed are {list(SIGNAL_SCHEMA)}")
    if "action" not in frame.columns or frame.height != candles.height:
        raise UnknownStrategy(f"{who}.signals must answer `action` for each of {candles.height} candles; got {frame.shape}")
    frame = frame.with_columns(candles["opened_at"]).with_columns(
        pl.lit(None, dtype=kind).alias(column) for column, kind in SIGNAL_SCHEMA.items() if column not in frame.columns
    )
    warm = pl.int_range(pl.len()) >= strategy.warmup
    frame = frame.select(
        [
            pl.when(warm).then(pl.col("action")).otherwise(pl.lit(HOLD)).cast(kind).alias(column)
            if column == "action"
            else pl.col(column).cast(kind)
            for column, kind in SIGNAL_SCHEMA.items()
        ]
    )
    strange = frame.filter(~pl.col("action").is_in([BUY, SELL, HOLD]) | pl.col("action").is_null())
    if strange.height:
        raise UnknownStrategy(f"{who}.signals: action {strange['action'][0]!r} at {strange['opened_at'][0]} is none of BUY, SELL, HOLD")
    _refuse_senseless_legs(who, frame)
    return frame


def _refuse_senseless_legs(who: str, frame: pl.DataFrame) -> None:
    for leg in LEGS:
        forms = [leg, f"{leg}_bps", f"{leg}_atr"]
        both = frame.filter(pl.sum_horizontal([pl.col(form).is_not_null() for form in forms]) > 1)
        if both.height:
            raise UnknownStrategy(f"{who}.signals gives {leg} in more than one form at {both['opened_at'][0]}: choose one of {forms}")
        for form in forms:
            bad = frame.filter(pl.col(form).is_not_null() & ~(pl.col(form).is_finite() & (pl.col(form) > 0)))
            if bad.height:
                raise UnknownStrategy(f"{who}.signals: {form} is {bad[form][0]} at {bad['opened_at'][0]}; it must be above 0")
    bad = frame.filter(pl.col("target_weight").is_not_null() & ~(pl.col("target_weight").is_between(-1, 1)))
    if bad.height:
        raise UnknownStrategy(f"{who}.signals: target_weight {bad['target_weight'][0]} at {bad['opened_at'][0]} is outside -1..1")
