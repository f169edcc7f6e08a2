"""Trading rules that no exchange tells: from the `instruments` of a mapping (files_mapping.py), and defaults for the rest."""

from dataclasses import replace
from decimal import Decimal

from candlewick.errors import SettingsError
from candlewick.instruments import Instrument, Kind
from candlewick.market.file_names import symbol_key
from candlewick.market.files_mapping import FilesMapping, InstrumentEntry
from candlewick.market.perpetual_terms import (
    DEFAULT_FUNDING_INTERVAL_H,
    DEFAULT_MAINTENANCE_SHARE,
    DEFAULT_MAX_LEVERAGE,
    split_symbol,
)


def declared_entry(mapping: FilesMapping, symbol: str) -> InstrumentEntry:
    """What the mapping says of a symbol, however it is written there; the defaults where it says nothing."""
    entries = {symbol_key(name): entry for name, entry in mapping.instruments.items()}
    return entries.get(symbol_key(symbol), InstrumentEntry())


def declared_kind(mapping: FilesMapping, symbol: str) -> Kind:
    """A symbol with a settlement currency is a perpetual; of others the mapping decides. Raises SettingsError."""
    declared, settle = declared_entry(mapping, symbol).kind, split_symbol(symbol)[2]
    if settle is not None and declared not in (None, "perpetual"):
        raise SettingsError(f"mapping: {symbol} is written as a perpetual and declared as {declared}: write it without :{settle}")
    return "perpetual" if settle is not None else declared or "spot"


def declared_instrument(symbol: str, kind: Kind, given: InstrumentEntry, tick: Decimal) -> Instrument:
    """The rules as given. Raises SettingsError for a spot symbol with leverage."""
    base, quote, _ = split_symbol(symbol)
    spot = Instrument(
        symbol=symbol,
        base=base,
        quote=quote,
        price_tick=tick,
        quantity_step=given.quantity_step,
        min_quantity=given.min_quantity,
        min_notional=given.min_notional,
        maker_fee_bps=given.maker_fee_bps,
        taker_fee_bps=given.taker_fee_bps,
    )
    if kind == "spot":
        if (given.max_leverage or 1) > 1:
            raise SettingsError(
                f"mapping: {spot.symbol} is spot and has max_leverage {given.max_leverage}: set kind to margin or perpetual"
            )
        return spot
    leverage = DEFAULT_MAX_LEVERAGE if kind == "perpetual" else Decimal(1)
    share = given.maintenance_margin_share
    return replace(
        spot,
        kind=kind,
        max_leverage=leverage if given.max_leverage is None else given.max_leverage,
        maintenance_margin_share=DEFAULT_MAINTENANCE_SHARE if share is None else share,
        funding_interval_h=given.funding_interval_h or DEFAULT_FUNDING_INTERVAL_H,
    )
