"""Instruments: the rules an exchange trades a symbol by. Decimal at this edge; the engine sees integers."""

from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Literal

Kind = Literal["spot", "margin", "perpetual"]
"""What a symbol is traded as: owned outright, on margin without funding (shares, CFDs), or as a linear perpetual with funding."""


@dataclass(frozen=True, slots=True)
class Instrument:
    """Rules of one symbol. Prices and notionals are in quote currency, quantities in base currency, fees in basis points.

    ``quote_decimals`` is the quote currency's precision: fees are rounded to it, half-even. Only ``margin`` and ``perpetual``
    may be sold short or held with leverage, up to ``max_leverage``; such a position is liquidated when its margin has fallen to
    ``maintenance_margin_share`` of its entry notional. A perpetual's funding is due every ``funding_interval_h`` hours.
    """

    symbol: str
    base: str
    quote: str
    price_tick: Decimal
    quantity_step: Decimal
    min_quantity: Decimal = Decimal(0)
    min_notional: Decimal = Decimal(0)
    maker_fee_bps: Decimal = Decimal(10)
    taker_fee_bps: Decimal = Decimal(10)
    quote_decimals: int = 8
    kind: Kind = "spot"
    max_leverage: Decimal = Decimal(1)
    maintenance_margin_share: Decimal = Decimal("0.005")
    funding_interval_h: int = 8

    def to_document(self) -> dict[str, str | int]:
        """JSON-ready; decimals as plain strings, so that nothing is rounded on the way."""
        return {key: format(value, "f") if isinstance(value, Decimal) else value for key, value in asdict(self).items()}

    @staticmethod
    def from_document(document: dict[str, str | int]) -> "Instrument":
        """The inverse of ``to_document``; a document from before a field existed has its default."""
        texts = {key: str(document[key]) for key in ("symbol", "base", "quote", "kind") if key in document}
        counts = {key: int(document[key]) for key in ("quote_decimals", "funding_interval_h") if key in document}
        numbers = {key: Decimal(str(value)) for key, value in document.items() if key not in texts and key not in counts}
        return Instrument(**texts, **numbers, **counts)  # type: ignore[arg-type]
