"""Where a series is in the lake, and back: folder names, and how the rows of each kind are kept.

    <layer>/exchange=binance/symbol=BTC-USDT/timeframe=1h              candles
    <layer>/exchange=binance/symbol=BTC-USDT/kind=open_interest-1h     any other kind

In folder names a symbol's `/` is written `-`, and any other character than letters, digits, `.`, `_` and `~` as `%XX`.
"""

from typing import Literal
from urllib.parse import quote, unquote

from candlewick.candles import CANDLE_SCHEMA, Series
from candlewick.errors import UsageError
from candlewick.funding import FUNDING_SCHEMA
from candlewick.market_data.kinds import DataSeries
from candlewick.market_data.schemas import OPEN_INTEREST_SCHEMA, TRADES_SCHEMA
from candlewick.partitions import Period, Table
from candlewick.timeframes import DAY_MS, timeframe_ms

Layer = Literal["bronze", "silver"]
AnySeries = Series | DataSeries


def folder_key(series: AnySeries, layer: Layer = "silver") -> str:
    """The series' folder below the lake's root."""
    data = as_data_series(series)
    last = f"timeframe={data.timeframe}" if data.kind == "ohlcv" else f"kind={data.part}"
    return f"{layer}/exchange={quote(data.market, safe='')}/symbol={_symbol_folder(data.symbol)}/{last}"


def series_of(folder: str) -> DataSeries | None:
    """The series whose folder that is; None where it is no series' folder."""
    parts = folder.split("/")
    if len(parts) != 4:
        return None
    (_, market), (_, symbol), (what, part) = (_named(text) for text in parts[1:])
    if not market or not symbol or not part or what not in ("timeframe", "kind"):
        return None
    try:
        return DataSeries.from_part(unquote(market), "/".join(unquote(piece) for piece in symbol.split("-")), part)
    except UsageError:  # `timeframe=whatever`: somebody else's folder
        return None


def as_data_series(series: AnySeries) -> DataSeries:
    """The series as one of all kinds."""
    return DataSeries.of_candles(series) if isinstance(series, Series) else series


def table_of(series: AnySeries) -> Table:
    """How the series' rows are kept."""
    data = as_data_series(series)
    period: Period = "year" if data.timeframe and timeframe_ms(data.timeframe) >= DAY_MS else "month"
    match data.kind:
        case "ohlcv":
            return Table("candles", CANDLE_SCHEMA, "opened_at", ("opened_at",), tuple(CANDLE_SCHEMA)[1:], period)
        case "open_interest":
            columns = tuple(OPEN_INTEREST_SCHEMA)[1:]
            return Table("open interest", OPEN_INTEREST_SCHEMA, "opened_at", ("opened_at",), columns, period)
        case "trades":
            return Table("trades", TRADES_SCHEMA, "traded_at", ("traded_at", "trade_id"), ("price", "amount", "side"), "day")
        case "funding_rate":
            return Table("funding", FUNDING_SCHEMA, "funding_at", ("funding_at",), ("rate",), "year")


def _symbol_folder(symbol: str) -> str:
    return "-".join(quote(part, safe="").replace("-", "%2D") for part in symbol.split("/"))


def _named(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name, value
