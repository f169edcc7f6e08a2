"""Ids are functions of the inputs, so the same decision has the same id in every run and on every machine."""

import hashlib

_HEX_DIGITS = 24


def client_order_id(account: str, strategy: str, symbol: str, decided_at_ms: int, leg: str) -> str:
    """Id of an order: 36 characters of [a-z0-9_-] at the most, which is what Binance and most other exchanges allow.

    >>> client_order_id("demo", "sma_cross", "BTC/USDT", 1767312000000, "entry")
    'cw-entry-8eb7f9c3ae2c43a2bbe0d8bb'
    """
    return f"cw-{leg}-{_digest(account, strategy, symbol, str(decided_at_ms), leg)}"


def signal_id(account: str, symbol: str, decided_at_ms: int) -> str:
    """Id of the signal at a bar's close."""
    return f"signal-{_digest(account, symbol, str(decided_at_ms))}"


def funding_id(account: str, symbol: str, due_at_ms: int) -> str:
    """Id of a funding payment: the transaction of its postings."""
    return f"funding-{_digest(account, symbol, str(due_at_ms))}"


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:_HEX_DIGITS]
