"""What Binance counts of an address: the weight it used in this minute, and what becomes of one that uses too much."""

import time
from dataclasses import dataclass, field

_SPOT = {"/api/v3/exchangeInfo": 20, "/api/v3/klines": 2, "/api/v3/aggTrades": 4}
_FUTURES = {"/fapi/v1/aggTrades": 20}
_BEST_PRICES = {"/api/v3/ticker/bookTicker": (2, 4), "/fapi/v1/ticker/bookTicker": (2, 5)}  # of one symbol, of several
_FUTURES_KLINES = ((100, 1), (500, 2), (1001, 5))


def weight_of(path: str, limit: int, one_symbol: bool = True) -> int | None:
    """The weight of a request, as Binance's documentation has it; None for an address that is not Binance's."""
    if path in _BEST_PRICES:
        return _BEST_PRICES[path][0 if one_symbol else 1]
    if path == "/fapi/v1/klines":
        return next((weight for below, weight in _FUTURES_KLINES if limit < below), 10)
    if path.startswith(("/api/v3/brokerage", "/_control")) or not path.startswith(("/api/", "/fapi/", "/futures/")):
        return None
    return (_SPOT | _FUTURES).get(path, 1)


@dataclass(slots=True)
class Weights:
    """``limit`` a minute (None: any), counted from whole minute to whole minute as Binance does, of ``window_s`` seconds.

    A request beyond it is answered 429 with Retry-After up to the minute's end. Who asks ``patience`` times more before that is
    banned (418) for ``ban_s`` seconds.
    """

    limit: int | None = None
    window_s: float = 60.0
    ban_s: float = 120.0
    patience: int = 3
    refused: int = 0
    banned: int = 0
    _used: int = 0
    _window: int = -1
    _ignored: int = 0
    _banned_until_s: float = 0.0
    _most_used: int = field(default=0)

    @property
    def most_used(self) -> int:
        """The most that was used in one minute, refused requests left out."""
        return self._most_used

    def use(self, weight: int) -> tuple[int, int, float]:
        """Count a request: the weight used now, and status (200, 429, 418) and seconds to wait."""
        now_s = time.time()
        if now_s < self._banned_until_s:
            self.banned += 1
            return self._used, 418, self._banned_until_s - now_s
        window = int(now_s // self.window_s)
        if window != self._window:
            self._window, self._used, self._ignored = window, 0, 0
        if self.limit is None or self._used + weight <= self.limit:
            self._used += weight
            self._most_used = max(self._most_used, self._used)
            return self._used, 200, 0.0
        self._ignored += 1
        if self._ignored > self.patience:
            self._banned_until_s = now_s + self.ban_s
            self.banned += 1
            return self._used, 418, self.ban_s
        self.refused += 1
        return self._used, 429, (window + 1) * self.window_s - now_s
