"""What somebody asks the lake for, found in it, or refused with what is missing and the command that fetches it."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, date, datetime, time
from typing import Literal

from candlewick.candles import Series
from candlewick.errors import MissingData, UsageError
from candlewick.lake import Lake
from candlewick.market.files import FilesMarket
from candlewick.market_data.coverage import Coverage, Span
from candlewick.market_data.gold import MONTH, GoldSource, find_source, length_of, open_from, open_of
from candlewick.market_data.kinds import DataSeries
from candlewick.timeframes import format_duration, format_utc, parse_utc, utc

Time = str | date | datetime | int | None
"""ISO 8601 text, a date, a datetime (UTC where it names no zone), milliseconds since 1970, or None for an open end."""

Missing = Literal["raise", "allow"]


def find_candles(
    lake: Lake, market: str, symbol: str, timeframe: str, since: Time = None, until: Time = None, missing: Missing = "raise"
) -> GoldSource:
    """What candles with ``since <= opened_at < until`` are read from or made of; ``market`` as the user writes it.

    An open end is where the lake's own candles begin or end; a later ``until`` than now means now. Raises MissingData where
    something of the span is not in the lake (with ``missing="allow"`` only where there is nothing to make such candles of),
    UsageError, LakeError.
    """
    length_of(timeframe)
    asked = Series(market_key(market), symbol, timeframe)
    since_ms, until_ms = time_ms_of(since), time_ms_of(until)
    _refuse_backwards(since_ms, until_ms)
    if until_ms is not None:
        until_ms = min(open_from(until_ms, timeframe), open_of(_now_ms(), timeframe))
    source = find_source(lake, asked, since_ms, until_ms)
    if source is None:
        fetched = replace(asked, timeframe="1d") if timeframe == MONTH else asked
        raise missing_data(market, DataSeries.of_candles(fetched), ())
    if missing == "raise" and (source.missing or source.span is None):
        holes = source.missing
        if source.span is None and since_ms is not None:
            holes = (_up_to_now(open_of(since_ms, source.stored.timeframe)),)
        raise missing_data(market, DataSeries.of_candles(source.stored), holes)
    return source


def find_events(
    lake: Lake, market: str, series: DataSeries, since: Time = None, until: Time = None, missing: Missing = "raise"
) -> Span | None:
    """The span of rows of a kind that is no candles, with ``since <= time < until``; None where it is empty.

    Ends, missing data and errors as for candles; ``series`` names the lake's own market.
    """
    since_ms, until_ms = time_ms_of(since), time_ms_of(until)
    _refuse_backwards(since_ms, until_ms)
    coverage = _event_coverage(lake, series)
    if not coverage.spans:
        raise missing_data(market, series, ())
    first_ms = coverage.spans[0].since_ms if since_ms is None else since_ms
    end_ms = coverage.spans[-1].until_ms if until_ms is None else min(until_ms, _now_ms())
    span = Span(first_ms, end_ms) if first_ms < end_ms else None
    holes = (_up_to_now(first_ms),) if span is None else coverage.missing(span)
    if missing == "raise" and holes:
        raise missing_data(market, series, holes)
    return span


def missing_data(market: str, series: DataSeries, holes: Iterable[Span]) -> MissingData:
    """The error for what is not in the lake: all of the series where there is no hole. ``market`` as the user writes it."""
    spans = tuple(holes)
    command = f"python -m flows.market_data backfill --market {market} --symbols {series.symbol}"
    command += "" if series.kind == "ohlcv" else f" --kinds {series.kind}"
    command += f" --timeframes {series.timeframe}" if series.timeframe else ""
    if not spans:
        text = f"the lake has nothing of {series}" + (", and nothing finer to make it of" if series.kind == "ohlcv" else "")
        return MissingData(f"{text}: `{command} --since DATE` fetches it", series.market, series.symbol, series.part, ())
    length = format_duration(sum(span.length_ms for span in spans) // 60_000 * 60_000)
    told = f"{spans[0]}" if len(spans) == 1 else f"{spans[0]} and {len(spans) - 1} more spans, {length} in all,"
    ends = f"--since {utc(spans[0].since_ms):%Y-%m-%dT%H:%M} --until {utc(spans[-1].until_ms + 59_999):%Y-%m-%dT%H:%M}"
    return MissingData(
        f'{series}: {told} is not in the lake: `{command} {ends}` fetches it; missing="allow" (--allow-missing) does without',
        series.market,
        series.symbol,
        series.part,
        tuple((span.since_ms, span.until_ms) for span in spans),
    )


def market_key(market: str) -> str:
    """The lake's name of a market as the user writes it: `files:DIR` is known by its folder. Raises UsageError."""
    return FilesMarket.from_name(market, _now_ms()).series("", "").market if market.startswith("files:") else market


def time_ms_of(moment: Time) -> int | None:
    """Milliseconds UTC. Raises UsageError for a text that is no time."""
    if isinstance(moment, str):
        return parse_utc(moment)
    if isinstance(moment, date) and not isinstance(moment, datetime):
        moment = datetime.combine(moment, time(), UTC)
    if isinstance(moment, datetime):
        return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
    return moment


def _event_coverage(lake: Lake, series: DataSeries) -> Coverage:
    """What is known of a series that is no candles; of one without a word on it (a copied file): from first to last row."""
    told, ends = lake.coverage(series), lake.span(series)
    return told if told.spans or ends is None else Coverage((Span(ends[0], ends[1] + 1),))


def _refuse_backwards(since_ms: int | None, until_ms: int | None) -> None:
    if since_ms is not None and until_ms is not None and since_ms >= until_ms:
        raise UsageError(f"until {format_utc(until_ms)} is not after since {format_utc(since_ms)}: there is nothing between them")


def _up_to_now(since_ms: int) -> Span:
    return Span(since_ms, max(since_ms + 1, _now_ms()))


def _now_ms() -> int:
    return round(datetime.now(UTC).timestamp() * 1000)
