"""What a backtest is computed from: terms, candles, what is beside them, and their digests; refused where it makes no sense."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from candlewick.candles import Series, candle_digest, opened_at_ms
from candlewick.detail_bars import align_detail
from candlewick.engine.bars import Beside
from candlewick.engine.terms import Terms
from candlewick.errors import UsageError
from candlewick.funding import funding_digest
from candlewick.reports.numbers import format_count
from candlewick.strategies.contract import Strategy
from candlewick.timeframes import format_utc, timeframe_ms

Frames = Mapping[str, pl.DataFrame]
FEWEST_BARS = 2
"""Bars beyond the warm-up: one that decides, and one at whose open that is filled."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """Everything a backtest is a function of, besides the strategy.

    ``candles`` by symbol in the account's order, validated, those with ``since_ms <= opened_at < until_ms``. ``digests`` are of
    the candles by symbol, and of detail bars by symbol and timeframe (`BTC/USDT 1m`); ``funding_digests`` by symbol.
    ``notices`` say what is odd about them.
    """

    terms: Terms
    series: Mapping[str, Series]
    candles: Frames
    beside: Beside
    since_ms: int
    until_ms: int
    digests: Mapping[str, str]
    funding_digests: Mapping[str, str]
    notices: tuple[str, ...]

    @property
    def bars(self) -> int:
        """Candles of all symbols."""
        return sum(frame.height for frame in self.candles.values())


def build_inputs(
    terms: Terms,
    series: Mapping[str, Series],
    candles: Frames,
    beside: Beside,
    span: tuple[int, int],
    detail_timeframe: str | None = None,
) -> Inputs:
    """Inputs from what the lake has in the span (open times in ms, the end not included), cut where the first symbol ends.

    Raises UsageError where a symbol has no candle in the span, and where no bar time lies within all symbols' candles.
    """
    since_ms, until_ms = span
    end_ms = _common_end(terms, candles, span)
    cut = {symbol: frame.filter(pl.col("opened_at").dt.epoch("ms") < end_ms) for symbol, frame in candles.items()}
    finer = {
        symbol: frame.filter(pl.col("opened_at").dt.epoch("ms") < end_ms) if end_ms < until_ms else frame
        for symbol, frame in beside.detail.items()
    }
    digests = {symbol: candle_digest(frame) for symbol, frame in cut.items()}
    digests |= {f"{symbol} {detail_timeframe}": candle_digest(frame) for symbol, frame in finer.items()}
    notices = [*_ends_notices(candles, end_ms, terms.timeframe), *_gap_notices(cut, terms.timeframe)]
    if detail_timeframe is not None:
        notices += _detail_notices(cut, finer, terms.timeframe, detail_timeframe)
    return Inputs(
        terms=terms,
        series=series,
        candles=cut,
        beside=Beside(beside.funding, finer),
        since_ms=since_ms,
        until_ms=end_ms,
        digests=digests,
        funding_digests={symbol: funding_digest(frame) for symbol, frame in beside.funding.items()},
        notices=tuple(notices),
    )


def refuse_short(inputs: Inputs, strategy: Strategy) -> None:
    """Raises UsageError where a symbol's candles are fewer than the strategy's warm-up and the two bars of a trade."""
    needed = strategy.warmup + FEWEST_BARS
    for symbol, frame in inputs.candles.items():
        if frame.height < needed:
            raise UsageError(
                f"{symbol}: {format_count(frame.height, 'candle')} of {inputs.terms.timeframe} from "
                f"{format_utc(inputs.since_ms)} to {format_utc(inputs.until_ms)} UTC are too few for a strategy whose warm-up is "
                f"{format_count(strategy.warmup, 'bar')}; at least {needed:,} are needed: ask for a longer span"
            )


def _common_end(terms: Terms, candles: Frames, span: tuple[int, int]) -> int:
    """The end of the last bar up to which all symbols have been seen."""
    asked = f"from {format_utc(span[0])} to {format_utc(span[1])} UTC"
    empty = [symbol for symbol, frame in candles.items() if frame.is_empty()]
    if empty:
        raise UsageError(f"there is no candle of {', '.join(empty)} {asked}: ask for another span")
    first = {symbol: int(opened_at_ms(frame)[0]) for symbol, frame in candles.items()}
    last = {symbol: int(opened_at_ms(frame)[-1]) for symbol, frame in candles.items()}
    latest, earliest = max(first, key=first.__getitem__), min(last, key=last.__getitem__)
    if first[latest] > last[earliest]:
        raise UsageError(
            f"{earliest} and {latest} have no common span {asked}: {earliest} ends at {format_utc(last[earliest])} UTC, before "
            f"{latest} begins at {format_utc(first[latest])} UTC"
        )
    return last[earliest] + timeframe_ms(terms.timeframe)


def _ends_notices(candles: Frames, end_ms: int, timeframe: str) -> list[str]:
    """Symbols that begin later than others, and the one that ends first."""
    length_ms = timeframe_ms(timeframe)
    first = {symbol: int(opened_at_ms(frame)[0]) for symbol, frame in candles.items()}
    last = {symbol: int(opened_at_ms(frame)[-1]) + length_ms for symbol, frame in candles.items()}
    start_ms = min(first.values())
    late = [f"{symbol} {format_utc(time)} UTC" for symbol, time in first.items() if time > start_ms]
    notices = [f"these begin later than others: {', '.join(late)}"] if late else []
    ending = [symbol for symbol, time in last.items() if time == end_ms]
    if max(last.values()) > end_ms:
        notices.append(f"the backtest ends at {format_utc(end_ms)} UTC, where the candles of {', '.join(ending)} end")
    return notices


def _gap_notices(candles: Frames, timeframe: str) -> list[str]:
    length_ms = timeframe_ms(timeframe)
    notices = []
    for symbol, frame in candles.items():
        steps = np.diff(opened_at_ms(frame))
        gaps = steps[steps > length_ms]
        if len(gaps):
            missing = int((gaps // length_ms - 1).sum())
            notices.append(
                f"{symbol} lacks {format_count(missing, 'bar')} in {format_count(len(gaps), 'gap')}; nothing fills there"
            )
    return notices


def _detail_notices(candles: Frames, detail: Frames, timeframe: str, detail_timeframe: str) -> list[str]:
    """Bars that are not made of their detail bars, and bars without any: there the worst case is assumed."""
    notices = []
    for symbol, frame in candles.items():
        aligned = align_detail(frame, detail[symbol], timeframe, detail_timeframe)
        bare = int((np.diff(aligned.offsets) == 0).sum())
        disagreeing = sum(finding.kind == "detail_disagrees" for finding in aligned.findings)
        if bare:
            notices.append(
                f"{symbol}: {format_count(bare, 'bar')} of {frame.height:,} have no {detail_timeframe} bars; "
                "inside of them the worst case is assumed"
            )
        if disagreeing:
            notices.append(f"{symbol}: {format_count(disagreeing, 'bar')} are not what their {detail_timeframe} bars add up to")
    return notices
