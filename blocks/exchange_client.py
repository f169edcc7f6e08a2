"""One ccxt client: which exchange, at which address, and what its failures are called here. ccxt is imported on first use."""

import difflib
import logging
import re
import time
from collections.abc import Mapping
from typing import Any, NoReturn
from urllib.parse import urlsplit

import numpy as np
import polars as pl

from blocks.exchange_answers import keep_answer
from blocks.exchange_budget import SharesBudget
from candlewick.errors import CandlesNotKept, CandlewickError, MarketUnavailable, RateLimited, UnknownSymbol, UsageError
from candlewick.market.retry import parse_ban_s, parse_retry_after_s

_RATE_LIMIT_STATUSES = (418, 429)
_PLAIN_KLINES, _KLINE_CELLS = ("binance", "binanceus", "binanceusdm"), 12
_TEXT_LIMIT = 160
# Spot candles need no futures' markets, and nothing here the list of coins, which Binance wants a signed request for.
_OPTIONS: Mapping[str, Mapping[str, object]] = {
    "binance": {"fetchMarkets": {"types": ["spot"]}, "fetchCurrencies": False},
    "binanceusdm": {"fetchCurrencies": False},
    "binanceus": {"fetchMarkets": {"types": ["spot"]}, "fetchCurrencies": False},
}
# Three requests for a list of coins without their precision.
_NO_COINS = ("coinbase", "coinbaseadvanced")
_WIRE_LOG = logging.getLogger("candlewick.exchange.wire")


class RefusedAnswer(Exception):
    """An answer that is not used, as seen where it arrives: there the status and the headers are known, the symbol is not."""

    def __init__(self, text: str, *, limited: bool = False, retry_after_s: float | None = None) -> None:
        super().__init__(text)
        self.limited = limited
        self.retry_after_s = retry_after_s


class StrictAnswers:
    """Goes before a ccxt exchange class. ccxt takes HTML with status 200 for data, drops the headers of a 429 and sorts
    and filters candles; here what is no JSON is refused, Retry-After is kept and candles come as received. While the
    exchange's pause lasts nothing is sent at all, for whichever symbol: it counts addresses, and prolongs the ban of one
    that goes on asking."""

    id: str
    pause_ends_s: float = 0.0  # on time.monotonic()

    async def fetch(self, *request: Any, **named: Any) -> Any:
        """One request, as it leaves ccxt's own queue."""
        left_s = self.pause_ends_s - time.monotonic()
        if left_s > 0:
            text = f"asked for a pause, of which {left_s:.0f} s are left, and was not asked again"
            raise RefusedAnswer(text, limited=True, retry_after_s=left_s)
        return await super().fetch(*request, **named)  # type: ignore[misc]

    def handle_errors(self, code: int, reason: str, url: str, method: str, headers: dict[str, str], body: str, *rest: Any) -> Any:
        """ccxt calls this with every answer; ``rest`` is the parsed JSON (None if it is none), request headers and body."""
        keep_answer(url, code, body)
        try:
            refuse_answer(code, reason, headers, body, rest[0], round(time.time() * 1000))
        except RefusedAnswer as refused:
            self.pause_ends_s = max(self.pause_ends_s, time.monotonic() + (refused.retry_after_s or 0.0))
            raise
        return super().handle_errors(code, reason, url, method, headers, body, *rest)  # type: ignore[misc]

    def parse_ohlcvs(self, ohlcvs: Any, market: Any = None, *_ignored: Any, **__ignored: Any) -> Any:
        """Rows in the order received, unfiltered."""
        if not isinstance(ohlcvs, list):
            return ohlcvs
        if self.id in _PLAIN_KLINES and not (market or {}).get("inverse") and (rows := read_klines(ohlcvs)) is not None:
            return rows
        return [self.parse_ohlcv(row, market) for row in ohlcvs]  # type: ignore[attr-defined]


def read_klines(rows: list[Any]) -> list[list[float]] | None:
    """Binance's rows [open time, "open", "high", "low", "close", "volume", ...] as ccxt reads them one by one, at once.

    None where any is of another form: then ccxt's own reading says of each what it is.
    """
    if not all(isinstance(row, list) and len(row) == _KLINE_CELLS for row in rows):
        return None
    try:
        times = pl.Series([row[0] for row in rows], dtype=pl.Int64, strict=True)
        numbers = pl.Series([cell for row in rows for cell in row[1:6]], dtype=pl.String, strict=True).cast(pl.Float64)
    except (TypeError, pl.exceptions.PolarsError):
        return None
    if times.null_count() or numbers.null_count():
        return None
    table: list[list[float]] = np.column_stack((times.to_numpy(), numbers.to_numpy().reshape(-1, 5))).tolist()
    return table


def refuse_answer(code: int, reason: str, headers: Mapping[str, str], body: str, parsed: object, now_ms: int) -> None:
    """Raise RefusedAnswer for a rate limit and for everything that is not JSON."""
    if code in _RATE_LIMIT_STATUSES:
        header = next((value for name, value in headers.items() if name.lower() == "retry-after"), None)
        pause_s = parse_retry_after_s(header, now_ms)
        pause_s = parse_ban_s(body, now_ms) if pause_s is None else pause_s
        wait = "without saying how long" if pause_s is None else f"for {pause_s:.0f} s"
        raise RefusedAnswer(f"asked for a pause {wait} (HTTP {code})", limited=True, retry_after_s=pause_s)
    if parsed is None:
        raise RefusedAnswer(f"answered HTTP {code} {reason or ''}".rstrip() + f" with {describe_body(body)}, not JSON")


def describe_body(body: str) -> str:
    """A few words for a body that is no JSON; never the body itself."""
    if not body.strip():
        return "an empty body"
    if re.search(r"<(!doctype|html|head|body)\b", body[:2000], re.IGNORECASE):
        title = re.search(r"<title[^>]*>(.*?)</title>", body, re.IGNORECASE | re.DOTALL)
        return f"an HTML page ({shorten(title.group(1))})" if title else "an HTML page"
    if body.lstrip()[0] in "[{":
        return f"broken JSON ({len(body)} characters, cut short or garbled)"
    return f"text ({shorten(body)})"


def shorten(text: str) -> str:
    """One line of at most 160 characters."""
    line = " ".join(text.split())
    return line if len(line) <= _TEXT_LIMIT else line[: _TEXT_LIMIT - 1] + "…"


def build_client(
    exchange_id: str,
    config: Mapping[str, object],
    *,
    sandbox: bool,
    api_url: str | None,
    requests_per_s: float | None = None,
) -> Any:
    """A ccxt async client that is not connected yet; it shares the request budget of its exchange and address.

    Raises UsageError (unknown exchange, no sandbox, bad address).
    """
    import ccxt.async_support as ccxt_async  # a second of imports, so only where an exchange is used

    if exchange_id not in ccxt_async.exchanges:
        near = difflib.get_close_matches(exchange_id.lower(), ccxt_async.exchanges, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else "it is no exchange that ccxt knows"
        raise UsageError(f"exchange {exchange_id!r} is unknown: {hint}")
    base = getattr(ccxt_async, exchange_id)
    client = type(exchange_id, (SharesBudget, StrictAnswers, base), {})(
        {**config, "options": dict(_OPTIONS.get(exchange_id, {}))}
    )
    # ccxt writes whole requests, key header included, to its debug log.
    _WIRE_LOG.setLevel(logging.WARNING)
    client.logger = _WIRE_LOG
    client.has = {**client.has, "fetchCurrencies": client.has.get("fetchCurrencies") and exchange_id not in _NO_COINS}
    if not client.has.get("fetchOHLCV"):
        raise UsageError(f"exchange {exchange_id!r} offers no candles")
    if sandbox:
        _enter_sandbox(client, exchange_id)
    if api_url is not None:
        address = check_api_url(api_url)
        client.urls = {**client.urls, "api": replace_host(client.urls["api"], address)}
    if api_url is not None and api_url.startswith("http://"):
        client.timeout_on_exit = 0  # ccxt waits 250 ms for TLS to shut down
    client.join_budget(exchange_id, api_url, sandbox, requests_per_s)
    return client


def _enter_sandbox(client: Any, exchange_id: str) -> None:
    if not client.urls.get("test"):
        raise UsageError(f"exchange {exchange_id!r} has no sandbox: set sandbox to false or name a testnet in api_url")
    client.set_sandbox_mode(True)


def check_api_url(api_url: str) -> str:
    """The address without a trailing slash. Raises UsageError unless it is http(s)://host[:port][/path]."""
    try:
        parts = urlsplit(api_url)
        sensible = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        sensible = False
    if not sensible or re.search(r"\s", api_url):
        raise UsageError(f"api_url {api_url!r} is no address: use http(s)://host[:port][/path]")
    if parts.query or parts.fragment or parts.username is not None:
        raise UsageError("api_url must hold no query, no fragment and no user name: use http(s)://host[:port][/path]")
    return api_url.rstrip("/")


def replace_host(urls: object, address: str) -> object:
    """ccxt's tree of URLs with scheme and host replaced and the paths kept; addresses that are not http(s) stay."""
    if isinstance(urls, Mapping):
        return {name: replace_host(url, address) for name, url in urls.items()}
    if isinstance(urls, str) and urls.startswith(("http://", "https://")):
        return address + re.sub(r"^https?://[^/]*", "", urls)
    return urls


def raise_named(error: Exception, subject: str, timeout_s: float) -> NoReturn:
    """Raise what ccxt or the network reported under this project's names. ``subject`` is exchange and symbol.

    The cause is cut off (``from None``): ccxt's texts hold whole URLs and bodies.
    """
    raise _named(error, subject, timeout_s) from None


def _named(error: Exception, subject: str, timeout_s: float) -> CandlewickError:
    from ccxt.base import errors as ccxt_errors

    if isinstance(error, RefusedAnswer):
        text = f"{subject}: {error}"
        return RateLimited(text, error.retry_after_s) if error.limited else MarketUnavailable(text)
    if isinstance(error, CandlesNotKept):
        return CandlesNotKept(f"{subject}: {error}", error.first_ms)
    if isinstance(error, UsageError | MarketUnavailable):
        return type(error)(f"{subject}: {error}")
    if isinstance(error, ccxt_errors.BadSymbol):
        return UnknownSymbol(f"{subject}: the exchange does not trade this symbol")
    if isinstance(error, ccxt_errors.NotSupported):
        return UsageError(f"{subject}: the exchange does not offer this ({shorten(str(error))})")
    if isinstance(error, ccxt_errors.RequestTimeout):
        return MarketUnavailable(f"{subject}: no answer within {timeout_s:g} s")
    if isinstance(error, ccxt_errors.RateLimitExceeded | ccxt_errors.DDoSProtection):
        return RateLimited(f"{subject}: asked for a pause without saying how long")
    if isinstance(error, ccxt_errors.AuthenticationError):
        return UsageError(f"{subject}: the exchange refused the credentials ({type(error).__name__})")
    if isinstance(error, ccxt_errors.BaseError):
        return MarketUnavailable(f"{subject}: {_network_text(error) or _exchange_text(error)}")
    return MarketUnavailable(f"{subject}: the answer is not understood ({type(error).__name__}: {shorten(str(error))})")


def _network_text(error: Exception) -> str | None:
    import aiohttp

    cause = error.__cause__
    if isinstance(cause, aiohttp.ServerDisconnectedError | aiohttp.ClientPayloadError | aiohttp.ClientOSError) and not isinstance(
        cause, aiohttp.ClientConnectorError
    ):
        return "the connection was dropped before the answer was complete"
    if isinstance(cause, aiohttp.ClientError | OSError):
        return f"the exchange cannot be reached ({type(cause).__name__})"
    return None


def _exchange_text(error: Exception) -> str:
    # ccxt's texts are "binance GET https://... 503 reason body" or "binance {body}".
    text = re.sub(r"https?://\S+", "", str(error))
    return f"the exchange answered with an error ({type(error).__name__}: {shorten(text)})"
