"""The emulator's trades: numbered without holes by symbol, in order of time."""

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BookedTrade:
    """One trade. ``is_buyer_maker``: the taker sold."""

    number: int
    time_ms: int
    price: str
    amount: str
    is_buyer_maker: bool


class TradeBook:
    """Trades by the exchange's own symbol."""

    def __init__(self) -> None:
        self._trades: dict[str, list[BookedTrade]] = {}

    def add(self, symbol: str, rows: Iterable[tuple[int, str, str, bool]], first_number: int = 1) -> None:
        """Serve these (time in ms, price, amount, is_buyer_maker), sorted by time, in the place of those that were there."""
        self._trades[symbol] = [BookedTrade(first_number + n, *row) for n, row in enumerate(rows)]

    @property
    def symbols(self) -> tuple[str, ...]:
        """Symbols that have trades."""
        return tuple(sorted(self._trades))

    def after_number(self, symbol: str, number: int, limit: int, now_ms: int) -> list[BookedTrade]:
        """From a number on."""
        trades = self._trades.get(symbol, [])
        first = bisect_left(trades, number, key=lambda trade: trade.number)
        return [trade for trade in trades[first : first + limit] if trade.time_ms <= now_ms]

    def within(self, symbol: str, start_ms: int | None, end_ms: int, limit: int) -> list[BookedTrade]:
        """Of [start, end]: the first ones after a start, the last ones without."""
        trades = self._trades.get(symbol, [])
        last = bisect_left(trades, end_ms + 1, key=lambda trade: trade.time_ms)
        if start_ms is None:
            return trades[max(0, last - limit) : last]
        first = bisect_left(trades, start_ms, key=lambda trade: trade.time_ms)
        return trades[first : min(last, first + limit)]
