"""What is to be collected: series by the names that a user writes, and what became of each."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from candlewick.errors import UsageError
from candlewick.market_data.chunking import ChunkSize, first_size
from candlewick.market_data.kinds import KINDS, TIMED_KINDS, Kind
from candlewick.timeframes import parse_utc, timeframe_ms

Outcome = Literal["complete", "resampled", "empty", "failed"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """One series that is to be complete from ``since_ms`` on. ``market`` is what the user wrote (`binance`, `files:DIR`).

    ``timeframe`` is empty for a kind without one. ``until_ms`` None: up to now. ``resample``: where the market lacks the
    timeframe, it is made of a finer one. ``candles``: timeframes that are made of trades.
    """

    market: str
    symbol: str
    kind: Kind
    timeframe: str
    since_ms: int
    until_ms: int | None = None
    resample: bool = False
    candles: tuple[str, ...] = ()

    def __str__(self) -> str:
        kind = () if self.kind == "ohlcv" else (self.kind,)
        return " ".join(filter(None, (self.market, self.symbol, *kind, self.timeframe)))


@dataclass(frozen=True, slots=True)
class Collected:
    """What became of one series. ``rows`` were added; ``first_at`` and ``last_at`` are the open times of what there is now."""

    series: str
    outcome: Outcome
    rows: int = 0
    chunks: int = 0
    requests: int = 0
    findings: int = 0
    first_at: datetime | None = None
    last_at: datetime | None = None
    error: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CollectOptions:
    """How is collected: chunk sizes, and how many series of a market side by side."""

    strategy: str = "adaptive"
    chunk_bars: int | None = None
    side_by_side: int = 4

    def __post_init__(self) -> None:
        self.first_size("1h")
        if not 1 <= self.side_by_side <= 64:
            raise UsageError(f"{self.side_by_side} series side by side is not possible: 1 to 64")

    def first_size(self, timeframe: str) -> ChunkSize:
        """The size a series of this timeframe begins with. Raises UsageError."""
        return first_size(self.strategy, timeframe, self.chunk_bars)


@dataclass(frozen=True, slots=True)
class CollectReport:
    """A run of backfill or sync at its end."""

    run_id: str
    kind: Literal["backfill", "sync"]
    series: tuple[Collected, ...]
    seconds: float
    notices: tuple[str, ...] = field(default=())

    @property
    def failed(self) -> tuple[Collected, ...]:
        """Series that are not complete."""
        return tuple(one for one in self.series if one.outcome == "failed")

    @property
    def rows(self) -> int:
        """Rows added in all."""
        return sum(one.rows for one in self.series)


def wanted_series(
    market: str,
    symbols: Iterable[str],
    timeframes: Iterable[str],
    kinds: Iterable[str],
    since: str,
    until: str | None = None,
    *,
    resample: bool = False,
) -> tuple[Wanted, ...]:
    """Symbols × kinds × timeframes, in that order. Candles are made of trades where no ohlcv is asked for.

    Raises UsageError for what makes no sense; nothing has been asked then.
    """
    since_ms, until_ms = parse_utc(since), None if until is None else parse_utc(until)
    if until_ms is not None and until_ms <= since_ms:
        raise UsageError(f"--until {until} is not after --since {since}: there is nothing between them")
    named, lengths, asked = (tuple(dict.fromkeys(texts)) for texts in (symbols, timeframes, kinds))
    if not named:
        raise UsageError("name at least one symbol, such as --symbols BTC/USDT")
    chosen: list[Kind] = [kind for kind in KINDS if kind in asked]
    unknown = [kind for kind in asked if kind not in KINDS]
    if unknown or not chosen:
        raise UsageError(f"kind {', '.join(unknown) or 'none'} is unknown: use {', '.join(KINDS)}")
    for timeframe in lengths:
        timeframe_ms(timeframe)
    untimed = [kind for kind in chosen if kind in TIMED_KINDS and not lengths]
    if untimed:
        raise UsageError(f"{untimed[0]} comes in timeframes: name at least one, such as --timeframes 1h")
    made = lengths if "ohlcv" not in chosen else ()
    return tuple(
        Wanted(market, symbol, kind, timeframe, since_ms, until_ms, resample, made if kind == "trades" else ())
        for symbol in named
        for kind in chosen
        for timeframe in (lengths if kind in TIMED_KINDS else ("",))
    )
