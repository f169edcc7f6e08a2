"""Candles: the frame every market answers with, its checks and its digest.

A candle frame has the columns of ``CANDLE_SCHEMA``; ``opened_at`` is the candle's open time, the prices are in quote
currency and the volume in base currency. A validated frame is sorted, unique and finite.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Protocol

import numpy as np
import polars as pl

from candlewick.instruments import Instrument

CANDLE_SCHEMA: Mapping[str, pl.DataType] = {
    "opened_at": pl.Datetime("ms", "UTC"),
    "open": pl.Float64(),
    "high": pl.Float64(),
    "low": pl.Float64(),
    "close": pl.Float64(),
    "volume": pl.Float64(),
}
PRICE_COLUMNS = ("open", "high", "low", "close")


@dataclass(frozen=True, slots=True)
class Series:
    """One symbol of one market in one timeframe: what the lake keeps and a strategy is computed on.

    ``market`` is the lake's name of the source (``sample``, ``binance``, ``files-1f2e3d4c``), ``symbol`` as ccxt writes
    it (``BTC/USDT``).
    """

    market: str
    symbol: str
    timeframe: str


@dataclass(frozen=True, slots=True)
class FormingBar:
    """The bar that is not closed yet. Only its open is ever used, and only once it has traded."""

    opened_at_ms: int
    open: float


@dataclass(frozen=True, slots=True)
class MarketClock:
    """The market's own time. ``skew_ms`` is the market's clock minus this machine's; 0 where there is only one clock."""

    now_ms: int
    skew_ms: int = 0


@dataclass(frozen=True, slots=True)
class RawPage:
    """One answer of a market as it came. ``request`` is path and query, no host and no credentials; ``body`` the text."""

    request: str
    fetched_at: datetime
    status: int
    body: str

    @property
    def digest(self) -> str:
        """SHA-256 of the body, in hex."""
        return hashlib.sha256(self.body.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class CandlePage:
    """What a market answered for one series: rows as received (unvalidated, CANDLE_SCHEMA), and the forming bar if shown.

    Every row is closed by the market's clock: ``opened_at + timeframe <= now``.
    """

    candles: pl.DataFrame
    forming: FormingBar | None
    pages: tuple[RawPage, ...] = ()
    """The answers that the rows were read from, in the order received; none where nothing came over a wire."""


class Market(Protocol):
    """A source of candles and of the rules it trades by. Implemented by the sample, by files and by ccxt exchanges."""

    name: str
    """What the user wrote: ``sample``, ``files:DIR``, ``binance``."""

    async def clock(self) -> MarketClock:
        """The market's time now, and how far this machine is off it."""

    async def instruments(self, symbols: tuple[str, ...]) -> dict[str, Instrument]:
        """Trading rules by symbol. Raises UnknownSymbol."""

    def series(self, symbol: str, timeframe: str) -> Series:
        """The lake's key of this market's candles."""

    def fingerprint(self, symbol: str, timeframe: str) -> str | None:
        """What the whole source is now, where it can change as a whole (a file); None where it only ever grows."""

    async def fetch(self, symbol: str, timeframe: str, since_ms: int, now_ms: int) -> CandlePage:
        """Closed candles with ``since_ms <= opened_at`` and ``opened_at + timeframe <= now_ms``, and the forming bar.

        Raises MarketUnavailable (RateLimited) when there is no sensible answer, UnknownSymbol, AmbiguousCandles.
        """

    async def funding(self, symbol: str, since_ms: int, until_ms: int) -> pl.DataFrame:
        """A perpetual's funding with ``since_ms <= funding_at < until_ms`` in FUNDING_SCHEMA (funding.py), normalised.

        Raises MarketUnavailable (RateLimited), UnknownSymbol, UsageError for a symbol without funding, InvalidFunding.
        """

    def funding_fingerprint(self, symbol: str) -> str | None:
        """Like ``fingerprint``, of the symbol's funding."""

    async def spreads_bps(self, symbols: tuple[str, ...]) -> dict[str, Decimal]:
        """Bid-ask spreads now, in basis points (market/spread.py); a symbol that has none, or whose nobody knows, is left out.

        Raises MarketUnavailable (RateLimited), UnknownSymbol, UsageError where the exchange does not tell them.
        """

    async def close(self) -> None:
        """Let go of connections."""


def empty_candles() -> pl.DataFrame:
    """A candle frame with no rows."""
    return pl.DataFrame(schema=dict(CANDLE_SCHEMA))


def opened_at_ms(candles: pl.DataFrame) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Open times as int64 milliseconds, shape (rows,)."""
    times = candles["opened_at"]
    if times.dtype == CANDLE_SCHEMA["opened_at"]:  # milliseconds already: nothing is computed, nothing is copied
        return times.to_numpy().view(np.int64)
    return times.dt.epoch("ms").to_numpy()


def candle_digest(candles: pl.DataFrame) -> str:
    """SHA-256 over the content (times as int64, the five numbers as float64, little endian): equal candles, equal digest."""
    digest = hashlib.sha256(f"candles-1:{candles.height}:".encode())
    digest.update(opened_at_ms(candles).astype("<i8").tobytes())
    for column in (*PRICE_COLUMNS, "volume"):
        digest.update(candles[column].to_numpy().astype("<f8").tobytes())
    return digest.hexdigest()
