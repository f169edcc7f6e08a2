"""Strategies that break promise 5, each in another way, and honest ones that look as if they did."""

import numpy as np
import polars as pl

from candlewick.strategies.contract import Strategy

SEEN: list[int] = []


def buys(condition: pl.Expr, *more: pl.Expr) -> list[pl.Expr]:
    """The action column of a strategy that buys where the condition holds, and any other columns."""
    return [pl.when(condition.fill_null(False)).then(pl.lit("BUY")).otherwise(pl.lit("HOLD")).alias("action"), *more]


CLOSE = pl.col("close")
DIP = CLOSE.rolling_mean(20) > CLOSE
"""Honest: below the average of the last 20 closes."""
ENTERS_DIP = DIP & ~DIP.shift(1)


class Shifted(Strategy):
    """Knows the next close."""

    bars: int = 1

    def signals(self, candles: pl.DataFrame) -> pl.DataFrame:
        return candles.select(buys(CLOSE.shift(-self.bars) > CLOSE * 1.002))


class Centred(Strategy):
    """Smooths with the bars on both sides."""

    def signals(self, candles: pl.DataFrame) -> pl.DataFrame:
        return candles.select(buys(0.998 * CLOSE.rolling_mean(9, center=True) > CLOSE))


class NormalisedByMaximum(Strategy):
    """Divides by the highest close of the whole history."""

    share: float

    def signals(self, candles: pl.DataFrame) -> pl.DataFrame:
        return candles.select(buys(CLOSE / CLOSE.max() > self.share))


class NormalisedByMean(Strategy):
    """Standardises with mean and deviation of the whole history."""

    def signals(self, candles: pl.DataFrame) -> pl.DataFrame:
        return candles.select(buys((CLOSE - CLOSE.mean()) / CLOSE.std() > 1))


class FilledBackward(Strategy):
    """Gives each bar the next swing's price."""

    def signals(self, candles: pl.DataFrame) -> pl.DataFrame:
        low = pl.when((CLOSE.shift(1) > CLOSE) & (CLOSE.shift(1) < CLOSE.shift(2))).then(CLOSE)
        return candles.select(buys(ENTERS_DIP, low.backward_fill().alias("stop_loss")))


class Interpolated(Strategy):
    """Draws a line between every fifth close, the later one included."""

    def signals(self, candles: pl.DataFrame) -> pl.DataFrame:
        every_fifth = pl.when(pl.int_range(pl.len()) % 5 == 0).then(CLOSE)
        return candles.select(buys(0.998 * every_fifth.interpolate() > CLOSE))


class Ranked(Strategy):
    """Buys the lowest tenth of all closes: sorts past and future."""

    def signals(self, candles: pl.DataFrame) -> pl.DataFrame:
        return candles.select(buys(CLOSE.rank() < pl.len() / 10))


class Newest(Strategy):
    """Buys at the newest bar, whichever that is: what a bot does that only ever looks at its last row."""

    def signals(self, candles: pl.DataFrame) -> pl.DataFrame:
        return candles.select(buys(DIP & (pl.int_range(pl.len()) >= pl.len() - 20)))


class TrailingByTheFuture(Strategy):
    """Decides honestly, but knows how far to trail."""

    def signals(self, candles: pl.DataFrame) -> pl.DataFrame:
        depth = (1 - pl.col("low").shift(-1) / CLOSE).clip(0.001, 0.5) * 10_000
        return candles.select(buys(ENTERS_DIP, depth.alias("trailing_stop_bps")))


class ReasonKnowsTheEnd(Strategy):
    """Decides honestly; its reason names the last bar."""

    def signals(self, candles: pl.DataFrame) -> pl.DataFrame:
        return candles.select(buys(ENTERS_DIP, (pl.lit("of ") + pl.len().cast(pl.String)).alias("reason")))


class OneAdded(Strategy):
    """Decides honestly, and once more: on the one bar before the largest rise of the history known to the test."""

    rise: float

    def signals(self, candles: pl.DataFrame) -> pl.DataFrame:
        return candles.select(buys(ENTERS_DIP | (CLOSE.shift(-1) / CLOSE > self.rise)))


class OneSuppressed(Strategy):
    """Decides honestly, but not where the next bar crashes, which in the history known to the test happens once."""

    fall: float

    def signals(self, candles: pl.DataFrame) -> pl.DataFrame:
        crashes = (CLOSE.shift(-1) / CLOSE < self.fall).fill_null(False)
        return candles.select(buys(ENTERS_DIP & ~crashes))


class Rounding(Strategy):
    """Decides honestly, but its stop is computed over the whole history, so that its last digits follow the length."""

    def signals(self, candles: pl.DataFrame) -> pl.DataFrame:
        stop = 0.9 * CLOSE * (1 + 1e-13 * pl.len())
        return candles.select(buys(ENTERS_DIP, stop.alias("stop_loss")))


class Random(Strategy):
    """Throws dice."""

    def signals(self, candles: pl.DataFrame) -> pl.DataFrame:
        return candles.select(buys(pl.lit(pl.Series(np.random.default_rng().random(candles.height) < 0.1))))


class Counting(Strategy):
    """Decides by how often it was asked."""

    def signals(self, candles: pl.DataFrame) -> pl.DataFrame:
        SEEN.append(candles.height)
        return candles.select(buys(pl.int_range(pl.len()) % 7 == len(SEEN) % 7))


class Remembering(Strategy):
    """Has seen the longest history it was asked about; the same question twice gives the same answer."""

    def signals(self, candles: pl.DataFrame) -> pl.DataFrame:
        SEEN.append(candles.height)
        return candles.select(buys(pl.int_range(pl.len()) % 50 == max(SEEN) % 50))


class Mutating(Strategy):
    """Writes its indicator into the candles it was given."""

    def signals(self, candles: pl.DataFrame) -> pl.DataFrame:
        candles.insert_column(candles.width, candles["close"].rolling_mean(20).alias("mean"))
        return candles.select(buys(pl.col("mean") > CLOSE))


class Replacing(Strategy):
    """Sets the first close to what suits it."""

    def signals(self, candles: pl.DataFrame) -> pl.DataFrame:
        candles[0, "close"] = 1.0
        return candles.select(buys(ENTERS_DIP))


class Honest(Strategy):
    """Buys dips, with every kind of column; asks an average that never forgets for its stop."""

    span: int = 10
    warm: int = 20

    @property
    def warmup(self) -> int:
        return self.warm

    def signals(self, candles: pl.DataFrame) -> pl.DataFrame:
        average = CLOSE.ewm_mean(span=self.span, adjust=False)
        columns = [(0.9 * average).alias("stop_loss"), pl.lit(24).alias("time_stop_bars"), pl.lit("a dip").alias("reason")]
        return candles.select(buys(ENTERS_DIP, *columns))


class NeedsBars(Strategy):
    """Fails on a history of fewer than ``needed`` candles."""

    needed: int
    warm: int = 0

    @property
    def warmup(self) -> int:
        return self.warm

    def signals(self, candles: pl.DataFrame) -> pl.DataFrame:
        if candles.height < self.needed:
            raise ValueError(f"needs {self.needed}")
        return candles.select(buys(ENTERS_DIP))


class Idle(Strategy):
    """Never acts."""

    def signals(self, candles: pl.DataFrame) -> pl.DataFrame:
        return candles.select(buys(CLOSE < 0))
