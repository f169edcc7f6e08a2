"""How long to wait before asking an exchange again. Pure: the caller brings the attempt, the clock and the dice."""

import re
from datetime import UTC
from email.utils import parsedate_to_datetime

# 2**63 times any base is past every cap; beyond it a float would overflow.
_MAX_DOUBLINGS = 63
_BANNED_UNTIL = re.compile(r"banned until (\d{13})\b")


def retry_delay_s(attempt: int, retry_after_s: float | None, base_s: float, max_s: float, jitter: float) -> float:
    """Seconds to wait before retry number ``attempt`` (1 is the first), with ``jitter`` drawn from [0, 1).

    Exponential with equal jitter: between half of and the whole ``min(max_s, base_s * 2**(attempt - 1))``
    (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/). Never shorter than ``retry_after_s``,
    even past ``max_s``: an exchange that is asked earlier prolongs its ban. The jitter is kept on top of it,
    so that many symbols told the same moment do not all return in it.
    """
    if attempt < 1:
        raise ValueError(f"attempt {attempt} is below 1: the first retry is number 1")
    longest_s = min(max_s, base_s * 2.0 ** min(attempt - 1, _MAX_DOUBLINGS))
    delay_s = longest_s * (0.5 + 0.5 * jitter)
    if retry_after_s is None:
        return delay_s
    return max(delay_s, retry_after_s + min(base_s, max_s) * jitter)


def parse_retry_after_s(header: str | None, now_ms: int) -> float | None:
    """Seconds from a ``Retry-After`` header: a number of seconds or an HTTP date (RFC 9110, 10.2.3). None if unreadable."""
    text = (header or "").strip()
    if re.fullmatch(r"\d{1,9}(\.\d+)?", text):
        return float(text)
    try:
        until = parsedate_to_datetime(text)
    except ValueError:
        return None
    if until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    return max(0.0, until.timestamp() - now_ms / 1000)


def parse_ban_s(body: str, now_ms: int) -> float | None:
    """Seconds from Binance's "IP banned until <unix milliseconds>" text (error -1003), None where it is not there."""
    found = _BANNED_UNTIL.search(body)
    return max(0.0, (int(found.group(1)) - now_ms) / 1000) if found else None
