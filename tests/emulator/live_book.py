"""Candles that never end: made-up 1m bars of many symbols, each a function of its symbol and minute alone.

A bar is there as soon as the exchange's clock closes it, and says the same whenever, and in whichever process, it is asked for:
so an account that traded it in pieces can be compared with one that traded it whole.
"""

import hashlib
from collections import OrderedDict

import numpy as np

from tests.emulator.candle_book import CandleBook, Columns

MINUTE_MS = 60_000
TICK = 0.01
_KNOWN = ("BTC", "ETH", "BNB", "SOL", "XRP", "ADA", "DOGE", "TRX", "LINK", "LTC", "AVAX", "DOT", "UNI", "ATOM", "XLM")
_BLOCK = 1440
_BLOCKS_KEPT = 1_000
# A walk without a memory: noise of ever longer waves, each as large as a random walk gets over its length, up to 2^13 minutes.
_WAVES = 14
_STEP_SHARE = 0.0008
_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB), np.uint64(0x9E3779B97F4A7C15))


def live_symbols(count: int) -> tuple[str, ...]:
    """Binance's names of ``count`` symbols: BTCUSDT, ETHUSDT and others that exist, then SYM015USDT and so on."""
    return tuple(f"{_KNOWN[n] if n < len(_KNOWN) else f'SYM{n:03d}'}USDT" for n in range(count))


def unified(symbol: str) -> str:
    """The name that ccxt and Candlewick have for one of ``live_symbols``."""
    return f"{symbol.removesuffix('USDT')}/USDT"


class LiveBook(CandleBook):
    """1m candles of ``symbols`` from 1970 on, computed a day at a time; other intervals are empty.

    ``origin_ms``: the walk's first minute; the same bars come at other times with another one. ``delay_ms``: how long after its
    close a bar is shown, as a slow exchange does; until then its successor is not shown either.
    """

    def __init__(self, symbols: tuple[str, ...], delay_ms: int = 0, origin_ms: int = 0) -> None:
        super().__init__()
        self.delay_ms = delay_ms
        self._origin = origin_ms // MINUTE_MS
        self._symbols = symbols
        self._blocks: OrderedDict[tuple[str, int], Columns] = OrderedDict()

    @property
    def symbols(self) -> tuple[str, ...]:
        """Binance symbols that have candles."""
        return self._symbols

    def window(
        self, symbol: str, interval: str, start_ms: int | None, end_ms: int | None, limit: int, now_ms: int
    ) -> tuple[Columns, int]:
        """The candles that a question is about and one before them, and the moment as of which they are told."""
        if interval != "1m" or symbol not in self._symbols:
            return (np.empty(0, np.int64), np.empty((0, 5))), now_ms
        seen_ms = now_ms
        if (now_ms - self.delay_ms) // MINUTE_MS != now_ms // MINUTE_MS:
            seen_ms = (now_ms - self.delay_ms) // MINUTE_MS * MINUTE_MS - 1
        last = seen_ms // MINUTE_MS if end_ms is None else min(seen_ms, end_ms) // MINUTE_MS
        first = last - limit + 1 if start_ms is None else -(-start_ms // MINUTE_MS)
        last = min(last, first + limit - 1)
        return self.rows(symbol, max(0, first - 1), max(last, first - 1)), seen_ms

    def rows(self, symbol: str, first: int, last: int) -> Columns:
        """Candles that open from minute ``first`` to minute ``last`` since 1970, both included."""
        blocks = [self._block(symbol, number) for number in range(first // _BLOCK, last // _BLOCK + 1)]
        begin = first - first // _BLOCK * _BLOCK
        if len(blocks) > 1:
            opened_at_ms, values = (np.concatenate([block[part] for block in blocks]) for part in (0, 1))
        else:
            opened_at_ms, values = blocks[0]
        return opened_at_ms[begin : begin + last - first + 1], values[begin : begin + last - first + 1]

    def _block(self, symbol: str, number: int) -> Columns:
        key = (symbol, number)
        if key not in self._blocks:
            self._blocks[key] = _candles(symbol, number * _BLOCK, self._origin, _BLOCK)
            if len(self._blocks) > max(_BLOCKS_KEPT, 3 * len(self._symbols)):
                self._blocks.popitem(last=False)
        self._blocks.move_to_end(key)
        return self._blocks[key]


def _candles(symbol: str, first: int, origin: int, rows: int) -> Columns:
    """Open times and values of the candles from minute ``first`` on, of a walk that begins at minute ``origin``."""
    seed = int.from_bytes(hashlib.sha256(symbol.encode()).digest()[:8], "big")
    minutes = np.arange(first - origin, first - origin + rows + 1, dtype=np.int64)
    level = 100.0 * 10.0 ** (2.5 * (seed % 1_000) / 1_000)  # 100 to 31,600
    price = level * np.exp(_STEP_SHARE * sum(2.0 ** (wave / 2) * _wave(seed, wave, minutes) for wave in range(_WAVES)))
    close = price[1:]
    open_ = price[:-1] * (1 + 0.0001 * _noise(seed, 101, minutes[:-1]))  # so that an open is not the close before it
    wick = 0.0005 * np.abs(_noise(seed, 102, minutes[:-1])), 0.0005 * np.abs(_noise(seed, 103, minutes[:-1]))
    high, low = np.maximum(open_, close) * (1 + wick[0]), np.minimum(open_, close) * (1 - wick[1])
    prices = np.round(np.stack([open_, high, low, close], axis=1) / TICK) * TICK
    volume = np.round(1_000 + 999 * _noise(seed, 104, minutes[:-1]), 3)
    return (minutes[:-1] + origin) * MINUTE_MS, np.column_stack([np.round(prices, 2), volume])


def _wave(seed: int, wave: int, minutes: np.ndarray) -> np.ndarray:
    """Noise in [-1, 1) at every 2**wave minutes, straight lines between."""
    length = 1 << wave
    at, share = minutes // length, (minutes % length) / length
    return _noise(seed, wave, at) * (1 - share) + _noise(seed, wave, at + 1) * share


def _noise(seed: int, stream: int, at: np.ndarray) -> np.ndarray:
    """A number in [-1, 1) for each of ``at``: splitmix64 of seed, stream and place."""
    with np.errstate(over="ignore"):
        mixed = np.uint64(seed ^ (stream << 52)) + at.astype(np.uint64) * _MIX[2]
        mixed = (mixed ^ (mixed >> np.uint64(30))) * _MIX[0]
        mixed = (mixed ^ (mixed >> np.uint64(27))) * _MIX[1]
    return ((mixed ^ (mixed >> np.uint64(31))) >> np.uint64(11)).astype(np.float64) / 2**52 - 1
