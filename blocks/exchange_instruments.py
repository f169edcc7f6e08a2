"""From ccxt's market structures to instruments: exact decimals, whatever precision mode the exchange uses."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

from candlewick.errors import MarketUnavailable, UsageError
from candlewick.instruments import Instrument
from candlewick.market.perpetual_terms import DEFAULT_FUNDING_INTERVAL_H, DEFAULT_MAINTENANCE_SHARE, DEFAULT_MAX_LEVERAGE

# ccxt.base.decimal_to_precision: how the numbers under "precision" are meant.
DECIMAL_PLACES, SIGNIFICANT_DIGITS, TICK_SIZE = 2, 3, 4
_BPS = 10_000
_DEFAULT_QUOTE_DECIMALS = 8
_DEFAULT_FEE_BPS = Decimal(10)


def instrument_of(
    market: Mapping[str, Any], currencies: Mapping[str, Any], precision_mode: int, tiers: Sequence[Mapping[str, Any]] = ()
) -> Instrument:
    """Trading rules from one ccxt market structure. A limit the exchange does not name is 0, a fee 10 bps.

    A linear swap is a perpetual. Its leverage and maintenance margin are those of the first of ccxt's leverage ``tiers``, that of
    small positions; without tiers the defaults of perpetual_terms.py, and no more leverage than the market's limit.
    Raises UsageError for a market whose price tick or quantity step is not fixed, for inverse, quanto and dated contracts,
    and for contracts of other than one unit.
    """
    symbol = market["symbol"]
    _refuse_contract(market)
    precision, limits = market["precision"], market.get("limits") or {}
    if precision_mode == SIGNIFICANT_DIGITS:
        raise UsageError(f"{symbol}: this exchange quotes in significant digits and has no fixed price tick")
    quote = market["quote"]
    spot = Instrument(
        symbol=symbol,
        base=market["base"],
        quote=quote,
        price_tick=_step(precision.get("price"), precision_mode, symbol, "price tick"),
        quantity_step=_step(precision.get("amount"), precision_mode, symbol, "quantity step"),
        min_quantity=_limit(limits, "amount"),
        min_notional=_limit(limits, "cost"),
        maker_fee_bps=_fee_bps(market.get("maker")),
        taker_fee_bps=_fee_bps(market.get("taker")),
        quote_decimals=_decimals(precision.get("quote") or (currencies.get(quote) or {}).get("precision"), precision_mode),
    )
    return _perpetual(spot, limits, tiers) if market.get("swap") else spot


def _refuse_contract(market: Mapping[str, Any]) -> None:
    symbol = market["symbol"]
    if market.get("future") or market.get("option"):
        raise UsageError(f"{symbol} is a dated contract: candlewick trades spot symbols and linear perpetuals")
    if market.get("inverse") or (market.get("swap") and not market.get("linear")):
        raise UsageError(
            f"{symbol} is an inverse or quanto contract, settled in {market.get('settle')} and quoted in {market.get('quote')}: "
            f"candlewick trades spot symbols and linear perpetuals, which are settled in their quote currency"
        )
    if market.get("contractSize") not in (None, 1, 1.0):
        raise UsageError(
            f"{symbol} is a contract of {exact(market['contractSize'])} {market['base']}: candlewick trades spot symbols, "
            f"and perpetuals whose contract is one unit of the base currency"
        )


def _perpetual(spot: Instrument, limits: Mapping[str, Any], tiers: Sequence[Mapping[str, Any]]) -> Instrument:
    limit = (limits.get("leverage") or {}).get("max")
    leverage, share = (
        DEFAULT_MAX_LEVERAGE if limit is None else min(DEFAULT_MAX_LEVERAGE, exact(limit)),
        DEFAULT_MAINTENANCE_SHARE,
    )
    if tiers:
        first = min(tiers, key=lambda tier: tier.get("minNotional") or 0)
        most, least = first.get("maxLeverage"), first.get("maintenanceMarginRate")
        if most is None or least is None:
            raise MarketUnavailable(f"{spot.symbol}: the exchange's leverage tiers lack a number: {dict(first)}")
        leverage, share = exact(most), exact(least)
    if leverage < 1 or not 0 <= share < 1:
        raise MarketUnavailable(f"{spot.symbol}: the exchange allows leverage {leverage} with a maintenance margin of {share}")
    return replace(
        spot,
        kind="perpetual",
        max_leverage=leverage,
        maintenance_margin_share=share,
        funding_interval_h=DEFAULT_FUNDING_INTERVAL_H,
    )


def exact(number: float | int | str | Decimal) -> Decimal:
    """The decimal that was meant: the shortest one that reads back as the same float, whole numbers without an exponent.

    >>> exact(0.1), exact(1e-05), exact(1e5)
    (Decimal('0.1'), Decimal('0.00001'), Decimal('100000'))
    """
    value = Decimal(str(number)).normalize()
    return value.quantize(Decimal(1)) if value == value.to_integral_value() else value


def _step(precision: float | None, mode: int, symbol: str, name: str) -> Decimal:
    if precision is None:
        raise UsageError(f"{symbol}: the exchange publishes no {name}")
    step = Decimal(1).scaleb(-int(precision)) if mode == DECIMAL_PLACES else exact(precision)
    if step <= 0:
        raise UsageError(f"{symbol}: the exchange's {name} is {precision}, it must be positive")
    return exact(step)


def _limit(limits: Mapping[str, Any], name: str) -> Decimal:
    least = (limits.get(name) or {}).get("min")
    return Decimal(0) if least is None else exact(least)


def _fee_bps(fee: float | None) -> Decimal:
    return _DEFAULT_FEE_BPS if fee is None else exact(exact(fee) * _BPS)


def _decimals(precision: float | None, mode: int) -> int:
    if precision is None:
        return _DEFAULT_QUOTE_DECIMALS
    if mode == DECIMAL_PLACES:
        return int(precision)
    return max(0, -int(exact(precision).as_tuple().exponent))
