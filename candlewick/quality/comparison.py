"""Two sources of one market, bar by bar: what each lacks, how far their prices are apart, and where they disagree.

Differences are those of our price from the other's, in basis points of the other's: ``(ours / other - 1) * 10,000``.
"""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import polars as pl

from candlewick.candles import PRICE_COLUMNS, Series, opened_at_ms
from candlewick.json_text import Json
from candlewick.json_text import plain as as_json
from candlewick.market_data.coverage import Span
from candlewick.quality.disagreements import BPS, LEVEL_BARS, OTHER, SAME_FEED_SHARE, Disagreement, find_disagreements
from candlewick.quality.lag import Lag, find_lag
from candlewick.quality.thresholds import Thresholds
from candlewick.timeframes import timeframe_ms

Floats = np.ndarray[tuple[int], np.dtype[np.float64]]
Bools = np.ndarray[tuple[int], np.dtype[np.bool_]]
Int64 = np.ndarray[tuple[int], np.dtype[np.int64]]

HISTOGRAM_EDGES_BPS = (0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0, float("inf"))
"""Edges of the printed distribution of absolute differences."""
_EQUAL_SHARE = 1e-9
# Volumes of two markets of one pair: a ratio beyond this is strange, and the price explains it where it brings it so much nearer.
_STRANGE_RATIO, _NEARER = 50.0, 10.0
# Nine bars of ten have a ratio within a factor of 10 to 150 in real pairs of exchanges.
_STEADY_FACTOR = 1_000.0


@dataclass(frozen=True, slots=True)
class Source:
    """One of the two: its series in the lake, and what a reader calls it (``binance``)."""

    series: Series
    name: str

    @property
    def label(self) -> str:
        """``binance BTC/USDT``."""
        return f"{self.name} {self.series.symbol}"


@dataclass(frozen=True, slots=True)
class BarRun:
    """``bars`` unbroken bars, from the open of the first to the close of the last, milliseconds UTC."""

    since_ms: int
    until_ms: int
    bars: int


@dataclass(frozen=True, slots=True)
class Difference:
    """How far the closes are apart, in bps. All but ``bias_bps`` (the median of the signed difference) are of absolute values.

    ``histogram`` has the number of bars in each part of HISTOGRAM_EDGES_BPS, its lower edge included.
    """

    median_bps: float
    mean_bps: float
    p95_bps: float
    p99_bps: float
    max_bps: float
    max_at_ms: int
    bias_bps: float
    histogram: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class VolumeRatio:
    """Volume of ours over the other's: median, 5 % and 95 % of bars in which both traded (None: there is none), shares of zero.

    ``quote_unit`` says whose volume looks as if it were in quote currency, where the ratio is near the price.
    """

    median: float | None
    p05: float | None
    p95: float | None
    ours_zero_share: float
    other_zero_share: float
    quote_unit: Literal["ours", "other"] | None


@dataclass(frozen=True, slots=True)
class Ranges:
    """Shares of common bars: our close inside of the other's high and low; and ranges that meet, as they are and after the
    level of the difference (a premium) is taken out."""

    close_inside_share: float
    overlap_share: float
    overlap_at_level_share: float


@dataclass(frozen=True, slots=True)
class SourceComparison:
    """Everything two sources were compared by. ``span`` is what both reach over (None: they do not meet).

    ``bars`` are the common bars: the candle columns, the other's with `_other`, `difference_bps` and `level_bps` of the close.
    """

    ours: Source
    other: Source
    ours_span: Span | None
    other_span: Span | None
    span: Span | None
    ours_bars: int
    other_bars: int
    common_bars: int
    identical_bars: int
    identical_price_bars: int
    only_ours: tuple[BarRun, ...]
    only_other: tuple[BarRun, ...]
    difference: Difference | None
    volume: VolumeRatio | None
    ranges: Ranges | None
    lag: Lag | None
    disagreements: tuple[Disagreement, ...]
    bars: pl.DataFrame = field(repr=False, compare=False)

    @property
    def only_ours_bars(self) -> int:
        """Bars of the span that the other source lacks."""
        return sum(run.bars for run in self.only_ours)

    @property
    def only_other_bars(self) -> int:
        """Bars of the span that ours lacks."""
        return sum(run.bars for run in self.only_other)

    @property
    def missing_share(self) -> float:
        """Bars that one of them lacks, as a share of those that any of them has."""
        either = self.common_bars + self.only_ours_bars + self.only_other_bars
        return (self.only_ours_bars + self.only_other_bars) / either if either else 0.0

    @property
    def disagreeing_bars(self) -> int:
        """Bars in disagreements about a price."""
        return sum(one.bars for one in self.disagreements if one.column != "volume")

    @property
    def is_same_feed(self) -> bool:
        """Whether both tell the same feed, so that every bar that differs counts."""
        return self.common_bars > 0 and self.identical_price_bars >= SAME_FEED_SHARE * self.common_bars

    def to_document(self) -> Json:
        """All but ``bars``, JSON-ready."""
        names = [name for name in self.__dataclass_fields__ if name != "bars"]
        return {name: as_json(getattr(self, name)) for name in names}


def compare_sources(
    ours: pl.DataFrame, other: pl.DataFrame, source: Source, other_source: Source, thresholds: Thresholds | None = None
) -> SourceComparison:
    """Compare validated candles (CANDLE_SCHEMA) of one timeframe over the span that both reach over."""
    timeframe = source.series.timeframe
    assert timeframe == other_source.series.timeframe, f"{source} and {other_source} have different timeframes"
    limits, length_ms = thresholds or Thresholds(), timeframe_ms(timeframe)
    ours_span, other_span = _span(ours, length_ms), _span(other, length_ms)
    span = _meeting(ours_span, other_span)
    if span is not None:
        ours, other = _within(ours, span), _within(other, span)
    bars = _common_bars(ours, other) if span is not None else _common_bars(ours.clear(), other.clear())
    times, other_times = opened_at_ms(ours), opened_at_ms(other)
    prices_equal = _equal(bars, PRICE_COLUMNS)
    identical = prices_equal & _equal(bars, ("volume",))
    some, meet = bars.height > 0, span is not None
    return SourceComparison(
        ours=source,
        other=other_source,
        ours_span=ours_span,
        other_span=other_span,
        span=span,
        ours_bars=ours.height if meet else 0,
        other_bars=other.height if meet else 0,
        common_bars=bars.height,
        identical_bars=int(identical.sum()),
        identical_price_bars=int(prices_equal.sum()),
        only_ours=_runs(np.setdiff1d(times, other_times, assume_unique=True), length_ms) if meet else (),
        only_other=_runs(np.setdiff1d(other_times, times, assume_unique=True), length_ms) if meet else (),
        difference=_difference(bars) if some else None,
        volume=_volume(bars) if some else None,
        ranges=_ranges(bars) if some else None,
        lag=find_lag(times, ours["close"].to_numpy(), other_times, other["close"].to_numpy(), length_ms) if meet else None,
        disagreements=find_disagreements(bars, prices_equal, identical, length_ms, limits) if some else (),
        bars=bars,
    )


def volume_notes(comparison: SourceComparison) -> tuple[str, ...]:
    """What looks wrong about the volumes. It is no part of the verdict: every exchange has a volume of its own."""
    volume = comparison.volume
    if volume is None or volume.median is None or volume.p05 is None or volume.p95 is None:
        return ()
    notes = []
    if volume.quote_unit is not None:
        owner = comparison.ours if volume.quote_unit == "ours" else comparison.other
        notes.append(f"the volumes are apart by the price: that of {owner.label} seems to be in quote currency")
    if volume.p95 / volume.p05 >= _STEADY_FACTOR:
        notes.append(
            f"the ratio of volumes goes from {volume.p05:.3g} to {volume.p95:.3g} (5 % and 95 % of bars): one of the sources "
            "seems to have base and quote volume swapped in a part of its bars"
        )
    return tuple(notes)


# ------------------------------------------------------------------------------------------------- bars in common


def _span(candles: pl.DataFrame, length_ms: int) -> Span | None:
    times = opened_at_ms(candles)
    return Span(int(times[0]), int(times[-1]) + length_ms) if len(times) else None


def _meeting(one: Span | None, other: Span | None) -> Span | None:
    if one is None or other is None:
        return None
    since_ms, until_ms = max(one.since_ms, other.since_ms), min(one.until_ms, other.until_ms)
    return Span(since_ms, until_ms) if since_ms < until_ms else None


def _within(candles: pl.DataFrame, span: Span) -> pl.DataFrame:
    first, last = np.searchsorted(opened_at_ms(candles), (span.since_ms, span.until_ms))
    return candles[int(first) : int(last)]


def _common_bars(ours: pl.DataFrame, other: pl.DataFrame) -> pl.DataFrame:
    """The bars of both, with the close's difference and its level around each bar, both in bps."""
    times, other_times = opened_at_ms(ours), opened_at_ms(other)
    places = np.searchsorted(other_times, times)  # both are sorted: half the memory of a join
    both = np.append(other_times, -1)[places] == times
    bars = ours.filter(pl.Series(both)).hstack(_renamed(other[places[both]]))
    ratio = (pl.col("close") / pl.col(f"close{OTHER}")).log()
    level = ratio.rolling_median(LEVEL_BARS, center=True, min_samples=1)
    difference = (pl.col("close") / pl.col(f"close{OTHER}") - 1) * BPS
    return bars.with_columns(difference.alias("difference_bps"), (level * BPS).alias("level_bps"))


def _renamed(other: pl.DataFrame) -> pl.DataFrame:
    return other.drop("opened_at").rename(lambda name: f"{name}{OTHER}")


def _equal(bars: pl.DataFrame, columns: tuple[str, ...]) -> Bools:
    """Bars equal in the columns; a float that went through another text form may differ in its last digits."""
    same = [
        (pl.col(name) - pl.col(f"{name}{OTHER}")).abs() <= _EQUAL_SHARE * pl.max_horizontal(name, f"{name}{OTHER}")
        for name in columns
    ]
    return bars.select(pl.all_horizontal(same)).to_series().to_numpy()


def _runs(times: Int64, length_ms: int) -> tuple[BarRun, ...]:
    """Unbroken runs of sorted open times."""
    if not len(times):
        return ()
    starts = np.flatnonzero(np.diff(times, prepend=times[0] - 2 * length_ms) != length_ms)
    ends = np.append(starts[1:], len(times))
    return tuple(
        BarRun(int(times[first]), int(times[end - 1]) + length_ms, int(end - first))
        for first, end in zip(starts, ends, strict=True)
    )


# ------------------------------------------------------------------------------------------------- figures


def _difference(bars: pl.DataFrame) -> Difference:
    signed = bars["difference_bps"].to_numpy()
    size = np.abs(signed)
    median, p95, p99 = (float(value) for value in np.percentile(size, (50, 95, 99)))
    largest = int(size.argmax())
    counts, _ = np.histogram(size, bins=np.array(HISTOGRAM_EDGES_BPS))
    return Difference(
        median_bps=median,
        mean_bps=float(size.mean()),
        p95_bps=p95,
        p99_bps=p99,
        max_bps=float(size[largest]),
        max_at_ms=int(opened_at_ms(bars)[largest]),
        bias_bps=float(np.median(signed)),
        histogram=tuple(counts.tolist()),
    )


def _volume(bars: pl.DataFrame) -> VolumeRatio:
    ours, other = bars["volume"].to_numpy(), bars[f"volume{OTHER}"].to_numpy()
    traded = (ours > 0) & (other > 0)
    zeros = float((ours == 0).mean()), float((other == 0).mean())
    if not traded.any():
        return VolumeRatio(None, None, None, *zeros, None)
    low, median, high = (float(value) for value in np.percentile(ours[traded] / other[traded], (5, 50, 95)))
    return VolumeRatio(median, low, high, *zeros, _quote_unit(bars, median))


def _quote_unit(bars: pl.DataFrame, ratio: float) -> Literal["ours", "other"] | None:
    """Whose volume is in quote currency: a ratio that is far from 1, and much nearer after one side is divided by the price."""
    price = float(np.median(bars["close"].to_numpy()))
    if abs(np.log(ratio)) < np.log(_STRANGE_RATIO):
        return None
    far, other, ours = (abs(float(np.log(value))) for value in (ratio, ratio * price, ratio / price))
    if far - min(other, ours) < np.log(_NEARER):
        return None
    return "other" if other < ours else "ours"


def _ranges(bars: pl.DataFrame) -> Ranges:
    low, high, factor = pl.col(f"low{OTHER}"), pl.col(f"high{OTHER}"), (pl.col("level_bps") / BPS).exp()
    inside, meeting, level = bars.select(
        pl.col("close").is_between(low, high).mean().alias("inside"),
        ((pl.col("high") >= low) & (pl.col("low") <= high)).mean().alias("meeting"),
        ((pl.col("high") >= low * factor) & (pl.col("low") <= high * factor)).mean().alias("level"),
    ).row(0)
    return Ranges(inside, meeting, level)
