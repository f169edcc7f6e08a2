"""What a user asks of `validate`: two sources of one market, or a look at what the lake has; checked before anything is read."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from candlewick.errors import UsageError
from candlewick.quality.thresholds import Thresholds
from candlewick.settings import Settings, load_settings
from candlewick.timeframes import format_utc, parse_utc, timeframe_ms

SETTABLE = ("max_median_bps", "max_p99_bps", "max_missing_share")
"""Thresholds that an option sets."""
QUOTES = ("USD", "USDT", "USDC", "BUSD")
"""Quotes that are worth a dollar: where the other source lacks the pair, that of its base with one of these is compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationOptions:
    """Options as given; None where not given. ``limits`` are thresholds by name (thresholds.py)."""

    market: str | None = None
    against: str | None = None
    symbol: str | None = None
    against_symbol: str | None = None
    timeframe: str | None = None
    since: str | None = None
    until: str | None = None
    limits: Mapping[str, float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparing:
    """Two sources to compare. ``market`` and ``against`` are what the user wrote; ``against_symbol`` None: it is looked for."""

    settings: Settings
    market: str
    against: str
    symbol: str
    against_symbol: str | None
    timeframe: str
    since_ms: int | None
    until_ms: int | None
    limits: Thresholds


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspecting:
    """Series of the lake to look at: those that fit what is given, None: all. ``market`` as the user wrote it."""

    settings: Settings
    market: str | None
    symbol: str | None
    timeframe: str | None


def read_validation(options: ValidationOptions) -> Comparing | Inspecting:
    """What is asked for. Raises UsageError, SettingsError."""
    if options.timeframe is not None:
        timeframe_ms(options.timeframe)
    given = {name: value for name, value in options.limits.items() if value is not None}
    if options.against is None:
        beside = {"--against-symbol": options.against_symbol, "--since": options.since, "--until": options.until, **_named(given)}
        for option, value in beside.items():
            if value is not None:
                raise UsageError(f"{option} belongs to a comparison: name the other source with --against")
        return Inspecting(settings=load_settings(), market=options.market, symbol=options.symbol, timeframe=options.timeframe)
    if options.market is None or options.symbol is None or options.timeframe is None:
        wanted = {"--market": options.market, "--symbol": options.symbol, "--timeframe": options.timeframe}
        lacking = " and ".join(option for option, value in wanted.items() if value is None)
        raise UsageError(
            f"a comparison with {options.against} needs {lacking}, too: --market binance --symbol BTC/USDT --timeframe 1h"
        )
    since_ms, until_ms = (None if text is None else parse_utc(text) for text in (options.since, options.until))
    if since_ms is not None and until_ms is not None and until_ms - since_ms < timeframe_ms(options.timeframe):
        raise UsageError(
            f"--until {format_utc(until_ms)} is not a bar of {options.timeframe} after --since {format_utc(since_ms)}"
        )
    if (options.market, options.symbol) == (options.against, options.against_symbol or options.symbol):
        raise UsageError(f"{options.market} {options.symbol} is compared with itself: name another source with --against")
    return Comparing(
        settings=load_settings(),
        market=options.market,
        against=options.against,
        symbol=options.symbol,
        against_symbol=options.against_symbol,
        timeframe=options.timeframe,
        since_ms=since_ms,
        until_ms=until_ms,
        limits=_thresholds(given),
    )


def candidates(symbol: str) -> tuple[str, ...]:
    """Symbols of the other source to try: the same one, then its base with the other dollars. A perpetual has only itself.

    >>> candidates("BTC/USDT")
    ('BTC/USDT', 'BTC/USD', 'BTC/USDC', 'BTC/BUSD')
    >>> candidates("ETH/BTC")
    ('ETH/BTC',)
    """
    base, _, quote = symbol.partition("/")
    if quote not in QUOTES:
        return (symbol,)
    return (symbol, *(f"{base}/{other}" for other in QUOTES if other != quote))


def _named(given: Mapping[str, float]) -> dict[str, float]:
    return {f"--{name.replace('_', '-')}": value for name, value in given.items()}


def _thresholds(given: Mapping[str, float]) -> Thresholds:
    unknown = sorted(given.keys() - set(SETTABLE))
    assert not unknown, f"no option sets {unknown}"
    usual = Thresholds()
    return replace(
        usual,
        max_median_bps=given.get("max_median_bps", usual.max_median_bps),
        max_p99_bps=given.get("max_p99_bps", usual.max_p99_bps),
        max_missing_share=given.get("max_missing_share", usual.max_missing_share),
    )
