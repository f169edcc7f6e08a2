"""The lake in one call, for notebooks and programs of one's own.

    from candlewick.reading import candles

    frame = candles("binance", "BTC/USDT", "1h", since="2024-01-01")              # a polars frame
    frame = candles("binance", "BTC/USDT", "1d", as_="pandas")                    # open times are the index

A timeframe that the lake does not have is made of a finer one that it has (candlewick/market_data/gold.py), months (`1M`) too.
Nothing is left out silently: what was asked for and is not in the lake raises MissingData with the command that fetches it,
unless ``missing="allow"`` is said. A bar in which nothing traded is no such hole: the market has none either.

The lake is that of candlewick.yaml and the environment; ``lake=`` names another. Times are UTC.
"""

from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal, overload

import polars as pl

from candlewick.errors import UsageError
from candlewick.lake import Lake
from candlewick.lake_keys import table_of
from candlewick.lake_opening import open_lake
from candlewick.market_data.asking import Missing, Time, find_candles, find_events, market_key
from candlewick.market_data.gold import read_source
from candlewick.market_data.kinds import DataSeries
from candlewick.settings import load_settings
from candlewick.timeframes import timeframe_ms, utc

if TYPE_CHECKING:
    import pandas as pd  # type: ignore[import-untyped]

Library = Literal["polars", "pandas"]


@overload
def candles(
    market: str, symbol: str, timeframe: str, since: Time = None, until: Time = None, *,
    as_: Literal["polars"] = "polars", missing: Missing = "raise", lake: str | None = None,
) -> pl.DataFrame: ...  # fmt: skip
@overload
def candles(
    market: str, symbol: str, timeframe: str, since: Time = None, until: Time = None, *,
    as_: Literal["pandas"], missing: Missing = "raise", lake: str | None = None,
) -> "pd.DataFrame": ...  # fmt: skip
def candles(
    market: str,
    symbol: str,
    timeframe: str,
    since: Time = None,
    until: Time = None,
    *,
    as_: Library = "polars",
    missing: Missing = "raise",
    lake: str | None = None,
) -> "pl.DataFrame | pd.DataFrame":
    """Candles with ``since <= opened_at < until``: `opened_at`, `open`, `high`, `low`, `close` (quote), `volume` (base).

    An open end is where the lake's own candles begin or end; a later ``until`` than now means now. Raises MissingData,
    UsageError, LakeError.
    """
    opened = _opened(lake)
    return _shaped(read_source(opened, find_candles(opened, market, symbol, timeframe, since, until, missing)), as_)


@overload
def funding(
    market: str, symbol: str, since: Time = None, until: Time = None, *,
    as_: Literal["polars"] = "polars", missing: Missing = "raise", lake: str | None = None,
) -> pl.DataFrame: ...  # fmt: skip
@overload
def funding(
    market: str, symbol: str, since: Time = None, until: Time = None, *,
    as_: Literal["pandas"], missing: Missing = "raise", lake: str | None = None,
) -> "pd.DataFrame": ...  # fmt: skip
def funding(
    market: str,
    symbol: str,
    since: Time = None,
    until: Time = None,
    *,
    as_: Library = "polars",
    missing: Missing = "raise",
    lake: str | None = None,
) -> "pl.DataFrame | pd.DataFrame":
    """A perpetual's funding: `funding_at` (when it is due), `rate` (a share of the notional), `noted_at` (as the exchange said).

    Raises as ``candles`` does.
    """
    asked = DataSeries(market_key(market), symbol, "funding_rate")
    return _shaped(_rows(lake, market, asked, since, until, missing), as_)


@overload
def open_interest(
    market: str, symbol: str, timeframe: str, since: Time = None, until: Time = None, *,
    as_: Literal["polars"] = "polars", missing: Missing = "raise", lake: str | None = None,
) -> pl.DataFrame: ...  # fmt: skip
@overload
def open_interest(
    market: str, symbol: str, timeframe: str, since: Time = None, until: Time = None, *,
    as_: Literal["pandas"], missing: Missing = "raise", lake: str | None = None,
) -> "pd.DataFrame": ...  # fmt: skip
def open_interest(
    market: str,
    symbol: str,
    timeframe: str,
    since: Time = None,
    until: Time = None,
    *,
    as_: Library = "polars",
    missing: Missing = "raise",
    lake: str | None = None,
) -> "pl.DataFrame | pd.DataFrame":
    """Open interest: `opened_at`, `open_interest` (base or contracts), `open_interest_value` (quote; may be null).

    Raises as ``candles`` does.
    """
    asked = DataSeries(market_key(market), symbol, "open_interest", timeframe)
    return _shaped(_rows(lake, market, asked, since, until, missing), as_)


@overload
def trades(
    market: str, symbol: str, since: Time = None, until: Time = None, *,
    as_: Literal["polars"] = "polars", missing: Missing = "raise", lake: str | None = None,
) -> pl.DataFrame: ...  # fmt: skip
@overload
def trades(
    market: str, symbol: str, since: Time = None, until: Time = None, *,
    as_: Literal["pandas"], missing: Missing = "raise", lake: str | None = None,
) -> "pd.DataFrame": ...  # fmt: skip
def trades(
    market: str,
    symbol: str,
    since: Time = None,
    until: Time = None,
    *,
    as_: Library = "polars",
    missing: Missing = "raise",
    lake: str | None = None,
) -> "pl.DataFrame | pd.DataFrame":
    """Single trades: `traded_at`, `trade_id`, `price` (quote), `amount` (base), `side` of the taker (may be null).

    Raises as ``candles`` does.
    """
    asked = DataSeries(market_key(market), symbol, "trades")
    return _shaped(_rows(lake, market, asked, since, until, missing), as_)


def series(market: str | None = None, symbol: str | None = None, *, lake: str | None = None) -> pl.DataFrame:
    """What the lake has, one row a series, sorted: `market`, `symbol`, `kind`, `timeframe`, `rows`, `first_at`, `last_at`."""
    opened = _opened(lake)
    rows = []
    for one in sorted(opened.all_data_series(), key=lambda one: (one.market, one.symbol, one.kind, _length(one))):
        if market not in (None, one.market) or symbol not in (None, one.symbol):
            continue
        there = opened.overview(one)
        ends = (None if time_ms is None else utc(time_ms) for time_ms in (there.first_ms, there.last_ms))
        rows.append((one.market, one.symbol, one.kind, one.timeframe, there.rows, *ends))
    text, moment = pl.String(), pl.Datetime("ms", "UTC")
    names = {**dict.fromkeys(("market", "symbol", "kind", "timeframe"), text), "rows": pl.Int64()}
    return pl.DataFrame(rows, schema={**names, "first_at": moment, "last_at": moment}, orient="row")


def _opened(url: str | None) -> Lake:
    settings = load_settings().lake
    return open_lake(settings if url is None else settings.model_copy(update={"url": url}))


def _rows(url: str | None, market: str, asked: DataSeries, since: Time, until: Time, missing: Missing) -> pl.DataFrame:
    lake = _opened(url)
    span = find_events(lake, market, asked, since, until, missing)
    return (
        pl.DataFrame(schema=dict(table_of(asked).schema)) if span is None else lake.read_rows(asked, span.since_ms, span.until_ms)
    )


def _length(series: DataSeries) -> int:
    return timeframe_ms(series.timeframe) if series.timeframe else 0


def _shaped(frame: pl.DataFrame, library: Library) -> "pl.DataFrame | pd.DataFrame":
    """The frame as asked for. Its first column is the time, which pandas has for an index."""
    if library == "polars":
        return frame
    if library != "pandas":
        raise UsageError(f'as_={library!r} is not known: use "polars" or "pandas"')
    if find_spec("pandas") is None:
        raise UsageError('as_="pandas" needs pandas, which is not installed: `pip install pandas`, then again')
    return frame.to_pandas().set_index(frame.columns[0])
