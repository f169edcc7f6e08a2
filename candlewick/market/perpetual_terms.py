"""Linear perpetuals: how their symbols are written, and what is taken where a market does not state a contract's terms.

`BTC/USDT:USDT` is ccxt's way to write the perpetual of BTC/USDT that is settled in USDT. Linear means settled in the quote
currency: quantities are base currency, profits and funding are quote currency.
"""

from decimal import Decimal

from candlewick.errors import UsageError

# Modest on purpose: nearly every perpetual of the large exchanges may be held so, and one that may not says it itself.
DEFAULT_MAX_LEVERAGE = Decimal(20)
DEFAULT_MAINTENANCE_SHARE = Decimal("0.01")
# The longest that is common; shorter ones declare themselves by their payments (funding.funding_holes).
DEFAULT_FUNDING_INTERVAL_H = 8


def split_symbol(symbol: str) -> tuple[str, str, str | None]:
    """Base, quote and settlement currency of `BASE/QUOTE` (None) or `BASE/QUOTE:SETTLE`."""
    base, _, rest = symbol.partition("/")
    quote, colon, settle = rest.partition(":")
    return base, quote, settle if colon else None


def refuse_other_contracts(symbol: str) -> None:
    """Raise UsageError for a contract that is no linear perpetual: inverse, quanto, dated."""
    _, quote, settle = split_symbol(symbol)
    if settle is None or settle == quote:
        return
    currency, dated, _ = settle.partition("-")
    if dated:
        raise UsageError(f"{symbol} is a dated contract: candlewick trades spot, margin and linear perpetual symbols")
    raise UsageError(
        f"{symbol} is settled in {currency or 'nothing'} and quoted in {quote}: candlewick trades linear perpetuals, "
        f"which are settled in their quote currency, such as BTC/USDT:USDT"
    )
