"""One symbol's chart: the newest candles of the lake and the store, with the account's fills and what protects its position."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl

from candlewick.candles import PRICE_COLUMNS, Series, empty_candles, opened_at_ms
from candlewick.errors import CandlewickError
from candlewick.json_text import Json, plain
from candlewick.lake import Lake
from candlewick.monitoring.status import SessionStatus, SymbolStatus
from candlewick.store.database import Database
from candlewick.store.desk_view import SymbolDeals, look_at_symbol
from candlewick.timeframes import timeframe_ms, utc

MOST_BARS = 300
_FILL_COLUMNS = ("leg", "side", "price", "quantity", "realized_pnl", "reason", "position_side")
_POSITION_COLUMNS = ("side", "entry_price", "stop_loss", "take_profit_1", "take_profit_2", "opened_at")


@dataclass(frozen=True, slots=True)
class CandleReader:
    """Reads the chart of one symbol of a session."""

    database: Database
    lake: Lake

    def read(self, status: SessionStatus, symbol: SymbolStatus) -> Mapping[str, Json]:
        """The chart's document; ``message`` says what is missing, None where nothing is."""
        length_ms = timeframe_ms(status.timeframe)
        last = symbol.last_bar_at or status.clock_at or datetime.now(UTC)
        since_ms = round(last.timestamp() * 1000) - MOST_BARS * length_ms
        told: dict[str, Json] = {"symbol": symbol.symbol, "account": symbol.account, "timeframe": status.timeframe}
        told |= {"timeframe_ms": length_ms, "message": None, "fills": [], "position": None}
        try:
            series = Series(_market_of(status.market), symbol.symbol, status.timeframe)
            deals = look_at_symbol(self.database, series, symbol.account, utc(since_ms))
            kept = self.lake.read(series, since_ms)
        except CandlewickError as error:
            return {
                **told,
                "bars": _bars(empty_candles()),
                "message": f"Waiting for the candles: {error}",
            }
        candles = pl.concat([kept, deals.pending]).unique("opened_at", keep="first").sort("opened_at").tail(MOST_BARS)
        return {**told, **_deals(candles, deals), "bars": _bars(candles)}


def _market_of(market: str) -> str:
    """The lake's name of a market: its own, but of `files:DIR` one that tells the folder."""
    if not market.startswith("files:"):
        return market
    from candlewick.market.files import FilesMarket

    return FilesMarket.from_name(market, round(datetime.now(UTC).timestamp() * 1000)).series("-", "1m").market


def _bars(candles: pl.DataFrame) -> Json:
    return {"at": list(opened_at_ms(candles).tolist()), **{name: candles[name].to_list() for name in PRICE_COLUMNS}}


def _deals(candles: pl.DataFrame, deals: SymbolDeals) -> dict[str, Json]:
    """Fills on the drawn bars, and the open position."""
    first = candles["opened_at"].min() if candles.height else None
    shown = deals.fills.filter(pl.col("bar_opened_at") >= first) if first is not None else deals.fills
    fills: list[Json] = [
        {"at": plain(row["bar_opened_at"]), **{name: plain(row[name]) for name in _FILL_COLUMNS}}
        for row in shown.iter_rows(named=True)
    ]
    rows = deals.position.to_dicts()
    return {"fills": fills, "position": {name: plain(rows[0][name]) for name in _POSITION_COLUMNS} if rows else None}
