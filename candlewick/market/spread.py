"""The bid-ask spread in basis points, exactly enough to be compared with a limit and kept in the ledger."""

from decimal import ROUND_UP, Decimal

_BPS = 10_000
_PLACES = Decimal("0.0001")


def spread_bps(bid: Decimal | None, ask: Decimal | None) -> Decimal | None:
    """(ask - bid) / mid, in basis points with four decimals, rounded up: what is above a limit never looks as if it were at it.

    None where there is no such price: a side without an order, or a bid above the ask.

    >>> spread_bps(Decimal("99.99"), Decimal("100.01"))
    Decimal('2.0000')
    """
    if bid is None or ask is None or not 0 < bid <= ask:
        return None
    return ((ask - bid) * 2 * _BPS / (ask + bid)).quantize(_PLACES, ROUND_UP)
