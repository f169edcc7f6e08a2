"""How figures are written: decimals without float noise, thousands separated, times in UTC."""

from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Context, Decimal

MISSING = "—"
_CURRENCIES = ("USD", "EUR", "GBP", "CHF", "AUD", "CAD", "JPY", "TRY", "BRL")
_STABLE_COINS = ("USDT", "USDC", "BUSD", "FDUSD", "TUSD", "DAI", "EURC")
_WIDE = Context(prec=60, rounding=ROUND_HALF_EVEN)
_MIN_PRICE_DECIMALS = 2
_PRICE_DIGITS = 8
_COUNTED = ("max_open_positions", "cooldown", "min_quantity", "atr_unknown", "volatility_unknown", "weight_missing")
_AMOUNTS = ("insufficient_cash", "min_notional", "kelly_not_positive")


def rounded(value: Decimal, decimals: int) -> Decimal:
    """Half-even to ``decimals`` places; a negative zero becomes zero."""
    result = value.quantize(Decimal(1).scaleb(-decimals), context=_WIDE)
    return result if result else abs(result)


def decimals_of(value: Decimal) -> int:
    """Decimal places that ``value`` needs, trailing zeros aside."""
    exponent = value.normalize(_WIDE).as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def money_decimals(quote: str) -> int:
    """Places to show of an amount in ``quote``: 2 for currencies and their stable coins, 6 for the likes of BTC."""
    return 2 if quote.upper() in _CURRENCIES + _STABLE_COINS else 6


def format_money(value: Decimal | None, quote: str, *, sign: bool = False) -> str:
    """``12,345.60``, with a plus sign before gains where asked for. The currency is named by the reader's column.

    >>> format_money(Decimal("12345.6"), "USDT")
    '12,345.60'
    """
    if value is None:
        return MISSING
    return format(rounded(value, money_decimals(quote)), "+,f" if sign else ",f")


def format_price(value: Decimal | None, decimals: int | None = None) -> str:
    """A price: ``decimals`` places, or as many as it needs (at least 2, at most 8 significant digits).

    >>> format_price(Decimal("75780.100000")), format_price(Decimal("0.00001234500"))
    ('75,780.10', '0.000012345')
    """
    if value is None:
        return MISSING
    if decimals is None:
        decimals = max(_MIN_PRICE_DECIMALS, min(decimals_of(value), _PRICE_DIGITS - 1 - value.adjusted()))
        decimals = max(_MIN_PRICE_DECIMALS, decimals_of(rounded(value, decimals)))
    return format(rounded(value, decimals), ",f")


def format_quantity(value: Decimal | None) -> str:
    """A quantity in base currency, trailing zeros stripped, at most 8 places.

    >>> format_quantity(Decimal("1200.50000000"))
    '1,200.5'
    """
    if value is None:
        return MISSING
    short = rounded(value, min(8, decimals_of(value)))
    return format(rounded(short, decimals_of(short)), ",f")


def format_share(share: Decimal | None, *, sign: bool = False) -> str:
    """A fraction of 1 as a percentage.

    >>> format_share(Decimal("0.04567"), sign=True)
    '+4.57%'
    """
    if share is None:
        return MISSING
    return format(rounded(share * 100, 2), "+,f" if sign else ",f") + "%"


def format_rule_value(rule: str | None, value: Decimal | None, quote: str) -> str:
    """What a risk rule compared, in the rule's own unit: a percentage, a number of things, an amount, or a price.

    >>> format_rule_value("max_drawdown", Decimal("0.25"), "USDT"), format_rule_value("max_open_positions", Decimal(3), "USDT")
    ('25.00%', '3')
    """
    if rule in ("max_drawdown", "daily_loss_limit"):
        return format_share(value)
    if rule in _COUNTED:
        return format_quantity(value)
    return format_money(value, quote) if rule in _AMOUNTS else format_price(value)


def format_ratio(value: Decimal | None) -> str:
    """A plain number with two places."""
    return MISSING if value is None else format(rounded(value, 2), ",f")


def format_time(at: datetime | None) -> str:
    """``2026-01-31 16:00``, seconds only where there are any. The reader's column or sentence says UTC."""
    if at is None:
        return MISSING
    at = at.astimezone(UTC)
    return at.strftime("%Y-%m-%d %H:%M:%S" if at.second else "%Y-%m-%d %H:%M")


def format_span(span: timedelta | None) -> str:
    """The two largest units of a duration.

    >>> format_span(timedelta(days=3, hours=4, minutes=5))
    '3d 4h'
    """
    if span is None:
        return MISSING
    minutes = int(span.total_seconds()) // 60
    days, hours, minutes = minutes // 1440, minutes // 60 % 24, minutes % 60
    parts = [f"{amount}{unit}" for amount, unit in ((days, "d"), (hours, "h"), (minutes, "m")) if amount]
    return " ".join(parts[:2]) or "0m"


def format_count(count: int, noun: str) -> str:
    """``1 bar``, ``1,200 bars``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
