"""The kinds of data that the lake keeps, and the name of one series of any kind."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from candlewick.errors import UsageError
from candlewick.timeframes import timeframe_ms

if TYPE_CHECKING:
    from candlewick.candles import Series

Kind = Literal["ohlcv", "funding_rate", "open_interest", "trades"]
KINDS: tuple[Kind, ...] = get_args(Kind)
TIMED_KINDS: tuple[Kind, ...] = ("ohlcv", "open_interest")
"""Kinds that come in timeframes; the others are events at times of their own."""


@dataclass(frozen=True, slots=True)
class DataSeries:
    """One symbol of one market in one kind. ``timeframe`` is empty for a kind without one (TIMED_KINDS says which have)."""

    market: str
    symbol: str
    kind: Kind = "ohlcv"
    timeframe: str = ""

    def __post_init__(self) -> None:
        if (self.kind in TIMED_KINDS) != bool(self.timeframe):
            raise UsageError(f"{self.kind} of {self.symbol} needs {'a' if self.kind in TIMED_KINDS else 'no'} timeframe")
        if self.timeframe:
            timeframe_ms(self.timeframe)

    @property
    def part(self) -> str:
        """What tells a symbol's series apart: `1h`, `funding_rate`, `open_interest-1h`, `trades`. In the column `timeframe`
        of the tables `quality`, `data_chunks` and `data_series`."""
        return self.timeframe if self.kind == "ohlcv" else "-".join(filter(None, (self.kind, self.timeframe)))

    @property
    def candles(self) -> "Series":
        """The lake's key of the candles. Only of kind ``ohlcv``."""
        from candlewick.candles import Series  # the settings name the kinds, and polars takes a moment to import

        assert self.kind == "ohlcv", f"{self} holds no candles"
        return Series(self.market, self.symbol, self.timeframe)

    @staticmethod
    def of_candles(series: "Series") -> "DataSeries":
        """The same series as one of all kinds."""
        return DataSeries(series.market, series.symbol, "ohlcv", series.timeframe)

    @staticmethod
    def from_part(market: str, symbol: str, part: str) -> "DataSeries":
        """The series whose ``part`` is that."""
        for kind in KINDS[1:]:
            if part == kind or part.startswith(f"{kind}-"):
                return DataSeries(market, symbol, kind, part.removeprefix(kind).removeprefix("-"))
        return DataSeries(market, symbol, "ohlcv", part)

    def __str__(self) -> str:
        return f"{self.market} {self.symbol} {self.part}"
