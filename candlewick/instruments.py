"""Instruments: the rules an exchange trades a symbol by. Decimal at this edge; the engine sees integers."""

from dataclasses import asdict, dataclass
from decimal import Decimal


@dataclass(frozen=True, slots=True)
class Instrument:
    """Rules of one symbol. Prices and notionals are in quote currency, quantities in base currency, fees in basis points.

    ``quote_decimals`` is the quote currency's precision: fees are rounded to it, half-even.
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

    def to_document(self) -> dict[str, str | int]:
        """JSON-ready; decimals as plain strings, so that nothing is rounded on the way."""
        return {key: format(value, "f") if isinstance(value, Decimal) else value for key, value in asdict(self).items()}

    @staticmethod
    def from_document(document: dict[str, str | int]) -> "Instrument":
        """The inverse of ``to_document``."""
        names = {"symbol", "base", "quote", "quote_decimals"}
        text = {key: str(document[key]) for key in ("symbol", "base", "quote")}
        numbers = {key: Decimal(str(value)) for key, value in document.items() if key not in names}
        return Instrument(**text, **numbers, quote_decimals=int(document["quote_decimals"]))  # type: ignore[arg-type]
