"""The answers of an exchange as they came: whoever asks collects those to its own questions, of all that share the connection.

ccxt tells every answer in the task that asked for it, so a context variable keeps apart what is asked at the same time.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from urllib.parse import urlsplit

from candlewick.candles import RawPage

_COLLECTED: ContextVar[list[RawPage] | None] = ContextVar("collected_answers", default=None)
# What a signed request carries beside its question, by exchange: none of it is kept.
_SECRETS = frozenset(
    (
        "signature",
        "sign",
        "sig",
        "apikey",
        "api_key",
        "api-key",
        "accesskeyid",
        "key",
        "accesskey",
        "access_key",
        "token",
        "passphrase",
    )
)


@contextmanager
def collecting_answers() -> Iterator[list[RawPage]]:
    """Within it, every answer that reaches this task (and tasks it starts) is put into the list, in the order received."""
    pages: list[RawPage] = []
    token = _COLLECTED.set(pages)
    try:
        yield pages
    finally:
        _COLLECTED.reset(token)


def keep_answer(url: str, status: int, body: str) -> None:
    """Keep an answer where somebody collects them."""
    pages = _COLLECTED.get()
    if pages is not None:
        pages.append(RawPage(request_of(url), datetime.now(UTC), status, body))


def request_of(url: str) -> str:
    """Path and query of an address; no host, no key and no signature.

    >>> request_of("https://user:word@host:1/api/v3/klines?symbol=BTCUSDT&limit=5&signature=ab12")
    '/api/v3/klines?symbol=BTCUSDT&limit=5'
    """
    parts = urlsplit(url)
    kept = [one for one in parts.query.split("&") if one and one.partition("=")[0].lower() not in _SECRETS]
    return parts.path + ("?" + "&".join(kept) if kept else "")
