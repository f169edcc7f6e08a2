"""How exchanges page, as data: by ccxt's id what their candles' pages are like, where ccxt's own ``features`` do not say it.

Sources: Binance, "Kline/Candlestick data" and "Aggregate trades" of the spot and USD-M documentation; Kraken, "Get OHLC Data"
("up to 720 of the most recent entries"; the last entry is the frame not yet committed); Coinbase, "Get product candles" of
Exchange and Advanced Trade (300 a request; buckets without trades are left out); ccxt's classes, for what they make of ``since``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from candlewick.market.paging import Answers, PageManners
from candlewick.market.trades_paging import TradeWalk


@dataclass(frozen=True, slots=True)
class ExchangeManners:
    """``candle_limit``: rows a page, None: as ccxt says. ``candle_limits``: of single timeframes, where they differ.

    ``names_end``: whether a question for candles names its end, too. ``empty_page``: what an answer without candles contains.
    ``funding_limit``, ``open_interest_limit``, ``trade_limit``: rows a page. ``open_interest_reach_ms``: how far back it is kept.
    ``funding_is_onwards``: whether payments come from a time on, and not the newest ones first. ``trades``: asked for by number
    or by a time in nanoseconds, None where past ones cannot be asked for; ``trade_window_ms``: by the longest span allowed.
    ``best_prices``: whether bids and asks of many symbols come with one question; else each symbol's order book is asked for.
    """

    answers: Answers = "unknown"
    newest_first: bool = False
    candle_limit: int | None = None
    candle_limits: Mapping[str, int] | None = None
    names_end: bool = False
    empty_page: str = ""
    funding_limit: int = 100
    funding_is_onwards: bool = False
    open_interest_answers: Answers = "unknown"
    open_interest_limit: int = 100
    open_interest_reach_ms: int | None = None
    trades: Literal["numbered", "nanoseconds"] | None = None
    trade_limit: int = 100
    trade_window_ms: int | None = None
    best_prices: Literal["together", "by_book"] = "by_book"


_UNKNOWN = ExchangeManners()
# ccxt caps USD-M pages at 1,000, the exchange at 1,500; ccxt's features say 500, the page with the best weight.
_BINANCE = ExchangeManners(
    answers="onwards",
    candle_limit=1000,
    empty_page="[]",
    funding_limit=1000,
    funding_is_onwards=True,
    open_interest_answers="window",
    open_interest_limit=500,
    open_interest_reach_ms=30 * 86_400_000,
    trades="numbered",
    trade_limit=1000,
    trade_window_ms=3_600_000,
    best_prices="together",
)
_COINBASE = ExchangeManners(answers="window", newest_first=True, candle_limit=300, names_end=True, empty_page='"candles"')

MANNERS: Mapping[str, ExchangeManners] = {
    "binance": _BINANCE,
    "binanceusdm": _BINANCE,
    "binanceus": _BINANCE,
    "kraken": ExchangeManners(answers="latest", candle_limit=720, empty_page='"last"', trades="nanoseconds", trade_limit=1000),
    "coinbase": _COINBASE,
    "coinbaseadvanced": _COINBASE,
    "coinbaseexchange": replace(_COINBASE, empty_page="[]"),
}

# Where neither this table nor ccxt knows an exchange's page size: small enough for all.
_UNKNOWN_PAGE_LIMIT = 100


def manners_of(exchange_id: str) -> ExchangeManners:
    """The exchange's manners; of one that is not in the table, none are taken for granted."""
    return MANNERS.get(exchange_id, _UNKNOWN)


def page_manners(client: Any, symbol: str, timeframe: str) -> PageManners:
    """How a ccxt client's exchange pages the candles of a symbol that it knows."""
    manners = manners_of(client.id)
    known = (manners.candle_limits or {}).get(timeframe) or manners.candle_limit
    limit = known or client.feature_value(symbol, "fetchOHLCV", "limit") or _UNKNOWN_PAGE_LIMIT
    return PageManners(limit, manners.answers, manners.newest_first)


def reach_of(exchange_id: str) -> int | None:
    """How many newest candles of any timeframe the exchange keeps, with the forming one; None where it keeps all."""
    manners = manners_of(exchange_id)
    return manners.candle_limit if manners.answers == "latest" else None


def collecting_trades() -> tuple[str, ...]:
    """Exchanges whose past trades can be asked for."""
    return tuple(name for name, manners in MANNERS.items() if manners.trades is not None)


def trade_question(walk: TradeWalk, manners: ExchangeManners) -> tuple[int | None, int, dict[str, int | str]]:
    """``since``, ``limit`` and the other parameters of ccxt's ``fetch_trades`` for a walk's next page.

    A number and a span of time in one question is an error at Binance. Kraken's ``since`` is exclusive and in nanoseconds;
    ccxt's own, in whole seconds, would ask for the trades of a busy second again and again.
    """
    if walk.from_id is not None:
        return None, walk.page_limit, {"fromId": walk.from_id}
    if manners.trades == "nanoseconds":
        return walk.cursor_ms, walk.page_limit, {"since": str(walk.cursor_ms * 1_000_000 - 1)}
    return walk.cursor_ms, walk.page_limit, {} if walk.ask_until_ms is None else {"until": walk.ask_until_ms}
