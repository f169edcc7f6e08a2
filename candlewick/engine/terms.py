"""Terms as the engine sees them: instruments and rules as records of integers, and the grids that belong to them."""

from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_HALF_EVEN, Decimal

import numpy as np

from candlewick.amounts import to_units
from candlewick.engine.layout import CASH_DECIMALS, INSTRUMENT, NEVER, RATE, RULES, Capital, Sizing
from candlewick.errors import UsageError
from candlewick.instruments import Instrument
from candlewick.rules import Rules
from candlewick.timeframes import timeframe_ms

_LARGEST_DECIMALS = 12
_BPS = Decimal(10_000)

Records = np.ndarray[tuple[int], np.dtype[np.void]]


@dataclass(frozen=True, slots=True)
class Terms:
    """What an account trades by. ``instruments`` in the account's order of symbols; ``initial_cash`` in quote currency."""

    timeframe: str
    initial_cash: Decimal
    instruments: tuple[Instrument, ...]
    rules: Rules

    @property
    def symbols(self) -> tuple[str, ...]:
        """Symbols in the account's order."""
        return tuple(instrument.symbol for instrument in self.instruments)


def price_decimals(instrument: Instrument) -> int:
    """Decimals of the instrument's price grid: 8, or the tick's where that is finer. Raises UsageError beyond 12."""
    return _grid_decimals(instrument.symbol, "price tick", instrument.price_tick)


def quantity_decimals(instrument: Instrument) -> int:
    """Decimals of the instrument's quantity grid: 8, or the step's where that is finer. Raises UsageError beyond 12."""
    return _grid_decimals(instrument.symbol, "quantity step", instrument.quantity_step)


def grid_of(instrument: Instrument) -> tuple[int, int]:
    """Decimals of the instrument's prices and quantities. A state is written in them, so an account cannot change its grid."""
    return price_decimals(instrument), quantity_decimals(instrument)


def _grid_decimals(symbol: str, what: str, smallest: Decimal) -> int:
    if smallest <= 0:
        raise UsageError(f"{symbol}: {what} is {smallest}; it must be above 0")
    exponent = smallest.normalize().as_tuple().exponent
    decimals = max(-int(exponent), CASH_DECIMALS)
    if decimals > _LARGEST_DECIMALS:
        raise UsageError(f"{symbol}: {what} {smallest} is finer than the engine's limit 1e-{_LARGEST_DECIMALS}")
    return decimals


def instrument_records(terms: Terms) -> Records:
    """INSTRUMENT records, shape (symbols,). Raises UsageError where the rules ask for what an instrument does not allow."""
    records = np.zeros(len(terms.instruments), dtype=INSTRUMENT)
    refuse_impossible(terms)
    for record, instrument in zip(records, terms.instruments, strict=True):
        price_grid, quantity_grid = price_decimals(instrument), quantity_decimals(instrument)
        record["tick"] = to_units(instrument.price_tick, price_grid, ROUND_HALF_EVEN)
        record["step"] = to_units(instrument.quantity_step, quantity_grid, ROUND_HALF_EVEN)
        record["min_quantity"] = to_units(instrument.min_quantity, quantity_grid, ROUND_CEILING)
        record["min_notional"] = to_units(instrument.min_notional, CASH_DECIMALS, ROUND_CEILING)
        record["maker_rate"] = _rate(instrument.maker_fee_bps / _BPS)
        record["taker_rate"] = _rate(instrument.taker_fee_bps / _BPS)
        record["fee_quantum"] = 10 ** max(CASH_DECIMALS - instrument.quote_decimals, 0)
        record["notional_divisor"] = 10 ** (price_grid + quantity_grid - CASH_DECIMALS)
        record["on_margin"] = int(instrument.kind != "spot")
        record["leverage_rate"] = _rate(terms.rules.leverage)
        record["maintenance_rate"] = _rate(instrument.maintenance_margin_share)
    return records


def refuse_impossible(terms: Terms) -> None:
    """Raises UsageError where the rules ask for what an instrument does not allow: shorts, or leverage."""
    for instrument in terms.instruments:
        _refuse_impossible(terms.rules, instrument)


def _refuse_impossible(rules: Rules, instrument: Instrument) -> None:
    if instrument.kind == "spot" and rules.direction != "long":
        raise UsageError(
            f"{instrument.symbol} is traded spot and cannot be sold short: rules.direction is {rules.direction}, it must be long "
            "(shorts need a margin or perpetual instrument)"
        )
    if instrument.kind == "spot" and rules.leverage != 1:
        raise UsageError(f"{instrument.symbol} is traded spot: rules.leverage is {rules.leverage}, it must be 1")
    if instrument.kind != "spot" and rules.leverage > instrument.max_leverage:
        raise UsageError(
            f"{instrument.symbol}: rules.leverage is {rules.leverage}; the exchange allows {instrument.max_leverage} at the most"
        )
    if instrument.kind != "spot" and rules.leverage * instrument.maintenance_margin_share >= 1:
        raise UsageError(
            f"{instrument.symbol}: at rules.leverage {rules.leverage} a position's margin is not above the maintenance margin, "
            f"{instrument.maintenance_margin_share} of its notional: it would be liquidated at its entry"
        )


def rules_record(terms: Terms) -> Records:
    """One RULES record, shape (1,)."""
    rules = terms.rules
    records = np.zeros(1, dtype=RULES)
    record = records[0]
    record["timeframe_ms"] = timeframe_ms(terms.timeframe)
    record["symbols"] = len(terms.instruments)
    record["initial_cash"] = to_units(terms.initial_cash, CASH_DECIMALS, ROUND_HALF_EVEN)
    record["capital"] = Capital[rules.capital.upper()]
    record["sizing"] = Sizing[rules.sizing.upper()]
    record["long"] = int(rules.direction != "short")
    record["short"] = int(rules.direction != "long")
    record["reverse"] = int(rules.reverse)
    record["stop_to_entry"] = int(rules.stop_to_entry_after_target_1)
    record["fixed_notional"] = to_units(rules.fixed_notional, CASH_DECIMALS, ROUND_HALF_EVEN)
    for name in ("max_open_positions", "cooldown_bars", "max_entries", "kelly_min_trades"):
        record[name] = getattr(rules, name)
    shares = {
        "slippage_rate": rules.slippage_bps / _BPS,
        "half_spread_rate": rules.spread_bps / _BPS / 2,
        "max_position_share": rules.max_position_share,
        "target_1_share": rules.target_1_share,
        "risk_rate": rules.risk_share,
        "kelly_multiple": rules.kelly_multiple,
        "kelly_cap": rules.kelly_cap_share,
        "rebalance_share": rules.rebalance_share,
    }
    limits = {
        "daily_loss_limit": rules.daily_loss_limit_share,
        "max_drawdown": rules.max_drawdown_share,
        "volume_rate": rules.max_volume_share,
    }
    for name, share in (*shares.items(), *limits.items()):
        record[name] = NEVER if share is None else _rate(share)
    return records


def _rate(share: Decimal) -> int:
    return int((share * RATE).to_integral_value(ROUND_HALF_EVEN))
