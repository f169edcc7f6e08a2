"""Which column of a file is which: by the many ways to spell one thing, or as the user said.

Times: every column that may hold the time is looked at. One of numbers outranks those of text, which are held against it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from candlewick.candles import PRICE_COLUMNS
from candlewick.errors import AmbiguousImport, InvalidCandles
from candlewick.market.candle_files import QUOTE_VOLUME_NAMES, TIME_NAMES
from candlewick.market_data.importing_schema import ImportRequest
from candlewick.market_data.importing_tables import Layout

_TIMES = (
    *TIME_NAMES, "start", "start_time", "time_period_start", "opentime", "t", "epoch", "unix_time", "unix_timestamp", "day",
    "date_utc", "time_utc", "datetime_utc", "timestamp_utc", "date_time", "gmt_time", "local_time", "traded_at",
)  # fmt: skip
_SPELLINGS: Mapping[str, tuple[str, ...]] = {
    "open": ("open", "o", "first", "open_price", "price_open"),
    "high": ("high", "h", "max", "high_price", "price_high"),
    "low": ("low", "l", "min", "low_price", "price_low"),
    "close": ("close", "c", "last", "close_price", "price_close"),
    "volume": ("volume", "vol", "v", "volume_traded"),
    "quote_volume": (*QUOTE_VOLUME_NAMES, "volume_quote", "turnover"),
    "symbol": ("symbol", "pair", "ticker", "instrument"),
    "trade_id": ("trade_id", "id", "tid", "agg_trade_id", "tradeid"),
    "price": ("price", "rate", "p"),
    "amount": ("amount", "qty", "quantity", "size", "base_qty", "volume", "q"),
    "side": ("side", "taker_side", "is_buyer_maker", "isbuyermaker"),
}
_BASE_VOLUMES = ("base_volume", "volume_base", "base_asset_volume")
# The dumps of Binance and of Kraken come without a header: https://github.com/binance/binance-public-data
_BINANCE_KLINES = ("open_time", *PRICE_COLUMNS, "volume", "close_time", "quote_volume")
_BINANCE_TRADES = ("trade_id", "price", "amount", "quote_amount", "time", "is_buyer_maker")
_KRAKEN_TRADES = ("time", "price", "amount")


@dataclass(frozen=True, slots=True)
class Roles:
    """``columns``: the file's column of each thing. ``times``: columns that may hold the time, best first. ``clock``: a column
    with the time of day that belongs to the date in ``times``."""

    columns: Mapping[str, str]
    times: tuple[str, ...]
    clock: str | None = None

    @property
    def needed(self) -> tuple[str, ...]:
        """All of the file's columns that are read."""
        return (*self.times, *([self.clock] if self.clock else []), *self.columns.values())


def assign_roles(file: str, layout: Layout, request: ImportRequest) -> Roles:
    """Raises InvalidCandles where a column is not there, AmbiguousImport where several could be meant."""
    said = dict(request.schema.columns)
    absent = [column for column in said.values() if column not in layout.columns]
    if absent:
        raise InvalidCandles(f"{file} has no columns {absent} that the schema names; it has {list(layout.columns)}")
    plain = {column: plain_name(column) for column in layout.columns}
    if not layout.header and not said:
        plain = _without_header(file, layout, request.kind)
    found: dict[str, str] = {str(name): column for name, column in said.items() if name not in ("opened_at", "traded_at")}
    for name in _wanted(request.kind):
        if name not in found:
            found |= _recognised(file, name, plain, request.symbol, set(found.values()))
    times, clock = _times(file, plain, said.get("opened_at") or said.get("traded_at"), set(found.values()))
    required = ("price", "amount") if request.kind == "trades" else (*PRICE_COLUMNS, "volume")
    missing = [*([] if times else ["opened_at"]), *(name for name in required if name not in found)]
    if missing:
        raise InvalidCandles(
            f"{file} has no column for {', '.join(missing)} of {request.symbol}; it has {list(layout.columns)}: name them under "
            "`columns` in the schema"
        )
    return Roles(found, times, clock)


def plain_name(column: str) -> str:
    """A name without case, brackets and blanks.

    >>> plain_name(" <Volume BTC> "), plain_name("Open Time")
    ('volume_btc', 'open_time')
    """
    return re.sub(r"[^a-z0-9]+", "_", column.lower()).strip("_")


def _wanted(kind: str) -> tuple[str, ...]:
    if kind == "trades":
        return ("price", "amount", "side", "trade_id", "symbol")
    return (*PRICE_COLUMNS, "volume", "quote_volume", "symbol")


def _recognised(file: str, name: str, plain: Mapping[str, str], symbol: str, taken: set[str]) -> dict[str, str]:
    """The column of that name, where one is there; of several volumes the one that says its currency tells what the other is."""
    base, quote = (part.lower() for part in symbol.partition(":")[0].split("/"))
    spelled = {
        "volume": (*_BASE_VOLUMES, f"volume_{base}", f"{base}_volume", f"vol_{base}"),
        "quote_volume": (f"volume_{quote}", f"{quote}_volume", f"vol_{quote}", *_SPELLINGS["quote_volume"]),
    }.get(name, ())
    free = {column: word for column, word in plain.items() if column not in taken}
    fits = [column for column, word in free.items() if word in spelled]
    if not fits:
        fits = [column for column, word in free.items() if word in _SPELLINGS[name]]
    if name == "quote_volume" and not fits:  # `volume` beside `volume_btc`
        fits = [column for column, word in free.items() if word in _SPELLINGS["volume"]]
    if len(fits) > 1 and name in ("symbol", "quote_volume", "trade_id", "side"):
        return {name: fits[0]}
    if len(fits) > 1:
        raise AmbiguousImport(f"{file} has the columns {fits} for {name}: choose one under `columns` in the schema")
    return {name: fits[0]} if fits else {}


def _times(file: str, plain: Mapping[str, str], said: str | None, taken: set[str]) -> tuple[tuple[str, ...], str | None]:
    words = {word: column for column, word in plain.items() if column not in taken}
    # `<DATE>` and `<TIME>` of one row belong together where no other column has both.
    split = {"date", "time"} <= words.keys() and not (words.keys() & (set(_TIMES) - {"date", "time"}))
    if said is not None:
        clock = words["time"] if split and said == words["date"] else None
        return (said,), clock
    if split:
        return (words["date"],), words["time"]
    found = tuple(column for column, word in plain.items() if word in _TIMES and column not in taken)
    return found or (("",) if "" in plain else ()), None  # An index that was written without a name.


def _without_header(file: str, layout: Layout, kind: str) -> dict[str, str]:
    """Layouts that are known by their number of columns. Whether they fit is seen in the values."""
    count = len(layout.columns)
    known: tuple[str, ...] = ()
    if kind == "trades" and count in (3, 6, 7):
        known = _KRAKEN_TRADES if count == 3 else _BINANCE_TRADES
    elif kind == "ohlcv" and count == 12:
        known = _BINANCE_KLINES
    elif kind == "ohlcv" and count in (6, 7):  # time, open, high, low, close, volume; Kraken adds the number of trades
        known = ("time", *PRICE_COLUMNS, "volume")
    if not known:
        raise AmbiguousImport(
            f"{file} has no header and {count} columns, called {layout.columns[0]} to {layout.columns[-1]} here: say under "
            "`columns` in the schema which is which"
        )
    return dict(zip(layout.columns, known, strict=False))
