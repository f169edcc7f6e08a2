"""`sample`: an endless synthetic market, the same for everybody and at every time, with no file and no network.

Every number is a function of (symbol, minute): any span can be asked for again, in any chunks, and is bit-identical.
Minute bars are the ground truth and every coarser timeframe is exactly their aggregation.

- The log2 price is a Brownian path by midpoint displacement (Lévy's construction): nodes every 2**17 minutes (91 days)
  are hashed around the symbol's base price, which keeps it plausible for ever, and each halving adds a hashed, roughly
  normal displacement. A multiplicative cascade of volatility makes quiet ranges and wild days; larger displacements
  at 3 to 45 days make trends that retrace. All symbols share a market path beside their own.
- Shocks jump between two minutes and fade over days. Outages (of one symbol, or of the whole exchange) leave out bars.
- A perpetual, `BTC/USDT:USDT`, is its spot symbol times 1 + premium, a slow path of its own within 0.2 %; its wicks,
  volumes and outages are its own. Its funding follows from the premium (``funding``).

Hashing is splitmix64 on unsigned integers; the path and the exponential use only IEEE additions and multiplications, no
libm, so neither the platform nor the numpy version changes a bit. A change of any number below is a new SAMPLE_VERSION.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal

import numpy as np
import numpy.typing as npt
import polars as pl

from candlewick.candles import CANDLE_SCHEMA, CandlePage, FormingBar, MarketClock, Series, empty_candles
from candlewick.errors import UnknownSymbol, UsageError
from candlewick.funding import FUNDING_SCHEMA, HOUR_MS
from candlewick.instruments import Instrument
from candlewick.market.perpetual_terms import split_symbol
from candlewick.timeframes import MINUTE_MS, floor_to_bar, timeframe_ms

SAMPLE_VERSION = 1
QUOTE = "USDT"

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]
Flags = npt.NDArray[np.bool_]

_MASK = 2**64 - 1
_GOLDEN = 0x9E3779B97F4A7C15
_TOP_LEVEL = 17
_CASCADE_FLOOR_LEVEL = 6
_ANCHOR_SPREAD = 0.30
_SIGMA = 0.00095  # log2 price per square root of a minute: about 2.5 % a day
_TREND_LEVELS = range(12, 17)
_TREND_BOOST = 1.4
_CHUNK_MINUTES = 1 << 18
# Minutes per cell, one chance in how many that a cell has one, and the shortest and longest in minutes.
_SYMBOL_OUTAGE = (1 << 13, 4, 3, 45)
_EXCHANGE_OUTAGE = (1 << 15, 2, 60, 840)
_SHOCK_CELL = 1 << 13
_SHOCK_ODDS = 5
_SHOCK_FADE = 1 << 12
_FUNDING_INTERVAL_H = 8
_FUNDING_MINUTES = 60 * _FUNDING_INTERVAL_H
_MOST_PREMIUM = 0.002
# Premiums and rates are whole numbers of 1e-8; interest is 0.01 % per 8 h and bends towards the premium by 0.05 % at the most.
_RATE_UNITS = 10**8
_INTEREST, _BEND = _RATE_UNITS // 10_000, 5 * _RATE_UNITS // 10_000
_LOG2_E = 1.4426950408889634
# 2**x on [-0.5, 0.5]: ln(2)**k / k!, written out so that nobody's libm takes part.
_EXP2 = (
    1.0,
    0.6931471805599453,
    0.24022650695910072,
    0.05550410866482158,
    0.009618129107628477,
    0.0013333558146428443,
    0.00015403530393381608,
    1.5252733804059841e-05,
    1.321548679014431e-06,
)


@dataclass(frozen=True, slots=True)
class _Listing:
    """``price`` is the base price in USDT, ``beta`` the share of the market's path, ``tick`` and ``step`` in decimals."""

    price: float
    tick_decimals: int
    step_decimals: int
    beta: float


CATALOGUE: Mapping[str, _Listing] = {
    "BTC": _Listing(48_000.0, 2, 5, 0.8),
    "ETH": _Listing(2_600.0, 2, 4, 1.0),
    "SOL": _Listing(120.0, 2, 3, 1.2),
    "BNB": _Listing(450.0, 2, 3, 0.9),
    "XRP": _Listing(0.80, 4, 1, 1.0),
    "ADA": _Listing(0.50, 4, 1, 1.1),
    "DOGE": _Listing(0.12, 5, 0, 1.2),
    "LTC": _Listing(90.0, 2, 3, 0.9),
}


class SampleMarket:
    """The market `sample`. ``now_ms`` is its clock, given by the edge; symbols are ``CATALOGUE`` and any other ``NAME/USDT``
    (2 to 12 capital letters and digits), whose base price between 0.50 and 500 USDT is hashed from the name; and the
    perpetual of each, ``NAME/USDT:USDT``.

    Minimum notional 5 USDT, fees 10 bps; of perpetuals 2 bps (maker) and 5 bps (taker), leverage up to 20, maintenance
    margin 1 %, funding every 8 hours from 00:00 UTC on.
    """

    name = "sample"

    def __init__(self, now_ms: int) -> None:
        self._now_ms = now_ms

    async def clock(self) -> MarketClock:
        """The time it was given; there is only one clock."""
        return MarketClock(self._now_ms)

    async def instruments(self, symbols: tuple[str, ...]) -> dict[str, Instrument]:
        """Trading rules by symbol. Raises UnknownSymbol."""
        return {symbol: _instrument(symbol) for symbol in symbols}

    def series(self, symbol: str, timeframe: str) -> Series:
        """The lake's key. A later SAMPLE_VERSION has to change the name, or old candles would contradict new ones."""
        return Series("sample" if SAMPLE_VERSION == 1 else f"sample-{SAMPLE_VERSION}", symbol, timeframe)

    def fingerprint(self, symbol: str, timeframe: str) -> str | None:
        """None: its candles never change."""
        return None

    async def fetch(self, symbol: str, timeframe: str, since_ms: int, now_ms: int) -> CandlePage:
        """Closed candles from ``since_ms`` on, and the forming bar once it has traded. Raises UnknownSymbol, UsageError."""
        length_ms = timeframe_ms(timeframe)
        _listing(symbol)
        first_ms = floor_to_bar(since_ms + length_ms - 1, timeframe)
        forming_ms = floor_to_bar(now_ms, timeframe)
        return CandlePage(_bars(symbol, first_ms, forming_ms, length_ms), _forming(symbol, forming_ms, now_ms))

    async def funding(self, symbol: str, since_ms: int, until_ms: int) -> pl.DataFrame:
        """Payments with ``since_ms <= funding_at < until_ms`` in FUNDING_SCHEMA. Raises UnknownSymbol, UsageError (spot).

        Binance's formula: the premium's mean over the 8 hours, plus the interest of 0.01 % less that mean, but at most
        0.05 % to either side (https://www.binance.com/en/support/faq/360033525031).
        """
        _listing(symbol)
        if not _is_perpetual(symbol):
            raise UsageError(f"sample: {symbol} is a spot symbol and has no funding; its perpetual is {symbol}:{QUOTE}")
        interval_ms = _FUNDING_INTERVAL_H * HOUR_MS
        due_ms = np.arange(-(-since_ms // interval_ms), -(-until_ms // interval_ms), dtype=np.int64) * interval_ms
        step = _CHUNK_MINUTES // _FUNDING_MINUTES
        premiums = [_mean_premium(symbol, due_ms[done : done + step]) for done in range(0, due_ms.size, step)]
        premium = np.concatenate(premiums) if premiums else np.empty(0, np.int64)
        rate = (premium + np.clip(_INTEREST - premium, -_BEND, _BEND)) / _RATE_UNITS
        frame = pl.DataFrame({"funding_at": due_ms * 1000, "rate": rate, "noted_at": due_ms})
        return frame.cast(dict(FUNDING_SCHEMA))  # type: ignore[arg-type]

    def funding_fingerprint(self, symbol: str) -> str | None:
        """None: its funding never changes."""
        return None

    async def spreads_bps(self, symbols: tuple[str, ...]) -> dict[str, Decimal]:
        """None is known: its bars are made of trades, not of an order book."""
        return {}

    async def close(self) -> None:
        """Nothing to let go of."""


def _listing(symbol: str) -> _Listing:
    base, quote, settle = split_symbol(symbol)
    if quote != QUOTE or settle not in (None, QUOTE) or not re.fullmatch(r"[A-Z0-9]{2,12}", base):
        raise UnknownSymbol(
            f"sample does not trade {symbol!r}: it has {', '.join(f'{name}/{QUOTE}' for name in CATALOGUE)} "
            f"and any other NAME/{QUOTE} of 2 to 12 capital letters and digits; the perpetual of each is NAME/{QUOTE}:{QUOTE}"
        )
    known = CATALOGUE.get(base)
    if known is not None:
        return known
    symbol = _spot(symbol)
    octaves = _seed(symbol, "listing") % 1000 / 100.0
    price = round(0.5 * float(_exp2(np.array([octaves]))[0]), 4)
    tick_decimals = 2 if price >= 50 else 3 if price >= 5 else 4
    return _Listing(price, tick_decimals, 3 if price >= 50 else 2 if price >= 5 else 1, 0.6 + _seed(symbol, "beta") % 8 / 10.0)


def _spot(symbol: str) -> str:
    return symbol.partition(":")[0]


def _is_perpetual(symbol: str) -> bool:
    return ":" in symbol


def _instrument(symbol: str) -> Instrument:
    listing = _listing(symbol)
    step = Decimal(1).scaleb(-listing.step_decimals)
    spot = Instrument(
        symbol=symbol,
        base=symbol.partition("/")[0],
        quote=QUOTE,
        price_tick=Decimal(1).scaleb(-listing.tick_decimals),
        quantity_step=step,
        min_quantity=step,
        min_notional=Decimal(5),
    )
    if not _is_perpetual(symbol):
        return spot
    return replace(
        spot,
        maker_fee_bps=Decimal(2),
        taker_fee_bps=Decimal(5),
        kind="perpetual",
        max_leverage=Decimal(20),
        maintenance_margin_share=Decimal("0.01"),
        funding_interval_h=_FUNDING_INTERVAL_H,
    )


def _bars(symbol: str, first_ms: int, end_ms: int, length_ms: int) -> pl.DataFrame:
    """Bars that open in [first_ms, end_ms), both on the grid; in chunks, so that memory does not grow with the span."""
    per_bar = length_ms // MINUTE_MS
    total = max(0, end_ms - first_ms) // length_ms
    step = max(1, _CHUNK_MINUTES // per_bar)
    frames = [
        _aggregate(symbol, first_ms // MINUTE_MS + done * per_bar, min(step, total - done), per_bar)
        for done in range(0, total, step)
    ]
    return pl.concat(frames) if frames else empty_candles()


def _aggregate(symbol: str, first_minute: int, bars: int, per_bar: int) -> pl.DataFrame:
    """``bars`` bars of ``per_bar`` minutes from ``first_minute`` on, without those in which nothing traded."""
    minutes = _minutes(symbol, first_minute, bars * per_bar)
    shape = (bars, per_bar)
    traded = minutes.traded.reshape(shape)
    row = np.arange(bars)
    first = traded.argmax(axis=1)
    last = per_bar - 1 - traded[:, ::-1].argmax(axis=1)
    listing = _listing(symbol)
    ticks, steps = 10.0**listing.tick_decimals, 10.0**listing.step_decimals
    # Whole ticks over a power of ten are the double nearest to the decimal: what parsing "123.45" gives.
    columns = {
        "opened_at": (first_minute + row * per_bar) * MINUTE_MS,
        "open": minutes.open.reshape(shape)[row, first] / ticks,
        "high": np.where(traded, minutes.high.reshape(shape), 0).max(axis=1) / ticks,
        "low": np.where(traded, minutes.low.reshape(shape), np.iinfo(np.int64).max).min(axis=1) / ticks,
        "close": minutes.close.reshape(shape)[row, last] / ticks,
        "volume": np.where(traded, minutes.volume.reshape(shape), 0).sum(axis=1) / steps,
    }
    return pl.DataFrame(columns, schema=dict(CANDLE_SCHEMA)).filter(pl.Series(traded.any(axis=1)))


def _forming(symbol: str, opened_ms: int, now_ms: int) -> FormingBar | None:
    """The bar that ``now_ms`` is in, if a minute of it has begun to trade before ``now_ms``."""
    begun = -(-(now_ms - opened_ms) // MINUTE_MS)
    if begun <= 0:
        return None
    minutes = _minutes(symbol, opened_ms // MINUTE_MS, begun)
    if not minutes.traded.any():
        return None
    price = minutes.open[minutes.traded.argmax()] / 10.0 ** _listing(symbol).tick_decimals
    return FormingBar(opened_ms, float(price))


@dataclass(frozen=True, slots=True)
class _Minutes:
    """Minute bars in whole ticks and steps, arrays of one shape (minutes,). Where not ``traded`` there is no bar."""

    open: Integers
    high: Integers
    low: Integers
    close: Integers
    volume: Integers
    traded: Flags


def _minutes(symbol: str, first: int, count: int) -> _Minutes:
    listing = _listing(symbol)
    market, market_wildness = _path(_seed("", "market"), first, count)
    own, own_wildness = _path(_seed(_spot(symbol), "own"), first, count)
    level = listing.beta * market + 0.6 * own
    if _is_perpetual(symbol):
        level = level + _LOG2_E * (_premium(symbol, first, count) / _RATE_UNITS)
    wildness = 0.5 * (market_wildness + own_wildness)
    minute = np.arange(first, first + count, dtype=np.int64)
    shock_open, shock_close = _shocks(_spot(symbol), minute)
    scale = listing.price * 10.0**listing.tick_decimals
    open_price = scale * _exp2(level[:-1] + shock_open)
    close_price = scale * _exp2(level[1:] + shock_close)
    draw = _words(_seed(symbol, "wick"), minute)
    up, down = _unit(draw >> np.uint64(32)), _unit(draw & np.uint64(0xFFFFFFFF))
    reach = 1.2 * _SIGMA * wildness
    opened = _whole(open_price)
    closed = _whole(close_price)
    high = _whole(np.maximum(open_price, close_price) * (1.0 + reach * up * up))
    low = _whole(np.minimum(open_price, close_price) * (1.0 - reach * down * down))
    pace = _unit(_words(_seed(symbol, "volume"), minute) >> np.uint64(32))
    busy = 1.0 + 400.0 * np.abs(level[1:] - level[:-1]) + 20.0 * np.abs(shock_open)
    turnover = 60_000.0 / listing.price * 10.0**listing.step_decimals
    volume = _whole(turnover * wildness * busy * (0.1 + pace * pace))
    traded = ~(
        _outages(_seed("", "outage"), minute, _EXCHANGE_OUTAGE) | _outages(_seed(symbol, "outage"), minute, _SYMBOL_OUTAGE)
    )
    return _Minutes(opened, high, low, closed, volume, traded)


def _premium(symbol: str, first: int, count: int) -> Integers:
    """The perpetual's price over the spot price, less one, in 1e-8: at the minutes first..first+count, shape (count + 1,)."""
    path, _ = _path(_seed(symbol, "premium"), first, count)
    bent = 2.0 * path
    return np.rint(_MOST_PREMIUM * _RATE_UNITS * (bent / (1.0 + np.abs(bent)))).astype(np.int64)


def _mean_premium(symbol: str, due_ms: Integers) -> Integers:
    """The premium's mean over the interval that ends at each payment, in 1e-8 rounded down; neighbours in a row, shape (n,)."""
    first = int(due_ms[0]) // MINUTE_MS - _FUNDING_MINUTES
    premium = _premium(symbol, first, due_ms.size * _FUNDING_MINUTES)[:-1]
    mean: Integers = premium.reshape(due_ms.size, _FUNDING_MINUTES).sum(axis=1) // _FUNDING_MINUTES
    return mean


def _path(seed: int, first: int, count: int) -> tuple[Floats, Floats]:
    """Log2 displacement at the minutes first..first+count (count + 1 nodes) and the wildness of the count cells between.

    Starts from the hashed nodes of the coarsest lattice and halves; at every level only what covers the span is kept.
    """
    last = first + count
    start, end = first >> _TOP_LEVEL, -(-last >> _TOP_LEVEL)
    nodes = np.arange(start, end + 1, dtype=np.int64)
    value = _ANCHOR_SPREAD * _normal(_words(seed, nodes))
    wild = np.ones(nodes.size - 1)
    for level in range(_TOP_LEVEL - 1, -1, -1):
        middles = np.arange(start, start + wild.size, dtype=np.int64)
        boost = _TREND_BOOST if level in _TREND_LEVELS else 1.0
        amplitude = boost * _SIGMA * _SQRT_CELL[level + 1] / 2.0
        bend = amplitude * wild * _normal(_words(_mix(seed + level + 1), middles))
        finer = np.empty(2 * wild.size + 1)
        finer[::2] = value
        finer[1::2] = 0.5 * (value[:-1] + value[1:]) + bend
        wild = np.repeat(wild, 2)
        if level >= _CASCADE_FLOOR_LEVEL:
            cells = np.arange(2 * start, 2 * start + wild.size, dtype=np.int64)
            wild = wild * (0.7 + 0.6 * _unit(_words(_mix(seed - level - 1), cells) >> np.uint64(32)))
        low, high = first >> level, -(-last >> level)
        cut = slice(low - 2 * start, high - 2 * start)
        value, wild, start = finer[cut.start : cut.stop + 1], wild[cut], low
    return value, wild


# sqrt(2**level) without libm: a power of two, times sqrt(2) for odd levels.
_SQRT_CELL = tuple(float(1 << level // 2) * (1.4142135623730951 if level % 2 else 1.0) for level in range(_TOP_LEVEL + 1))


def _shocks(symbol: str, minute: Integers) -> tuple[Floats, Floats]:
    """Log2 displacement by shocks at each minute's open and close. A shock strikes between a close and the next open."""
    at_open, at_close = np.zeros(minute.size), np.zeros(minute.size)
    for seed, share in ((_seed("", "shock"), 1.0), (_seed(symbol, "shock"), 0.8)):
        for back in (0, 1):
            cell = minute // _SHOCK_CELL - back
            draw = _words(seed, cell)
            strikes = draw % np.uint64(_SHOCK_ODDS) == 0
            struck = cell * _SHOCK_CELL + (draw >> np.uint64(40)).astype(np.int64) % _SHOCK_CELL
            size = share * (0.03 + 0.09 * _unit(draw >> np.uint64(8) & np.uint64(0xFFFFFFFF)))
            size = np.where(draw >> np.uint64(60) & np.uint64(1), size, -size)
            age = minute - struck
            live = strikes & (age >= 0)
            at_open += np.where(live & (age < _SHOCK_FADE), size * (1.0 - age / _SHOCK_FADE), 0.0)
            at_close += np.where(live & (age + 1 < _SHOCK_FADE), size * (1.0 - (age + 1) / _SHOCK_FADE), 0.0)
    return at_open, at_close


def _outages(seed: int, minute: Integers, plan: tuple[int, int, int, int]) -> Flags:
    """Where nothing could trade. An outage stays within its cell, so that one look-up per minute is enough."""
    cell_minutes, odds, shortest, longest = plan
    cell = minute // cell_minutes
    draw = _words(seed, cell)
    length = shortest + ((draw >> np.uint64(16)) % np.uint64(longest - shortest + 1)).astype(np.int64)
    start = ((draw >> np.uint64(40)).astype(np.int64)) % (cell_minutes - longest)
    within = minute - cell * cell_minutes - start
    out: Flags = (draw % np.uint64(odds) == 0) & (within >= 0) & (within < length)
    return out


def _seed(symbol: str, purpose: str) -> int:
    """64 bits from the names; stable, unlike hash()."""
    return int.from_bytes(
        hashlib.sha256(f"candlewick-sample-{SAMPLE_VERSION}:{purpose}:{symbol}".encode()).digest()[:8], "little"
    )


def _mix(word: int) -> int:
    """splitmix64 of one Python integer."""
    word = (word + _GOLDEN) & _MASK
    word = ((word ^ word >> 30) * 0xBF58476D1CE4E5B9) & _MASK
    word = ((word ^ word >> 27) * 0x94D049BB133111EB) & _MASK
    return word ^ word >> 31


def _words(seed: int, index: Integers) -> Words:
    """splitmix64's word number ``index`` of the stream ``seed`` (Steele, Lea, Flood 2014), for any signed index."""
    word = index.view(np.uint64) * np.uint64(_GOLDEN) + np.uint64(seed & _MASK)
    word = (word ^ word >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ word >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return word ^ word >> np.uint64(31)


def _unit(words: Words) -> Floats:
    """32-bit words as numbers in [0, 1)."""
    numbers: Floats = words.astype(np.float64) * 2.0**-32
    return numbers


def _normal(words: Words) -> Floats:
    """Roughly standard normal, within 3.5: the sum of four 16-bit uniforms, exact in integers."""
    part = np.uint64(0xFFFF)
    total = (words & part) + (words >> np.uint64(16) & part) + (words >> np.uint64(32) & part) + (words >> np.uint64(48))
    numbers: Floats = (total.astype(np.float64) - 131070.0) * (1.7320508075688772 / 65536.0)
    return numbers


def _exp2(x: Floats) -> Floats:
    """2**x for shape (n,), by a polynomial and an exact power of two; relative error below 1e-9, far under a tick."""
    whole = np.rint(x)
    rest = x - whole
    result = np.full(x.shape, _EXP2[-1])
    for coefficient in reversed(_EXP2[:-1]):
        result = result * rest + coefficient
    scaled: Floats = np.ldexp(result, whole.astype(np.int32))
    return scaled


def _whole(x: Floats) -> Integers:
    """Nearest whole number of ticks or steps, at least one: a price or a volume is never zero."""
    return np.maximum(np.rint(x), 1.0).astype(np.int64)
