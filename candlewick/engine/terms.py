"""Terms as the engine sees them: instruments and rules as records of integers, and the grids that belong to them."""

from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_HALF_EVEN, Decimal

import numpy as np

from candlewick.amounts import to_units
from candlewick.engine.layout import CASH_DECIMALS, INSTRUMENT, NEVER, RATE, RULES
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
    """INSTRUMENT records, shape (symbols,)."""
    records = np.zeros(len(terms.instruments), dtype=INSTRUMENT)
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
    return records


def rules_record(terms: Terms) -> Records:
    """One RULES record, shape (1,)."""
    rules = terms.rules
    records = np.zeros(1, dtype=RULES)
    record = records[0]
    record["timeframe_ms"] = timeframe_ms(terms.timeframe)
    record["symbols"] = len(terms.instruments)
    record["initial_cash"] = to_units(terms.initial_cash, CASH_DECIMALS, ROUND_HALF_EVEN)
    record["capital_initial"] = int(rules.capital == "initial")
    record["slippage_rate"] = _rate(rules.slippage_bps / _BPS)
    record["max_open_positions"] = rules.max_open_positions
    record["max_position_share"] = _rate(rules.max_position_share)
    record["daily_loss_limit"] = NEVER if rules.daily_loss_limit_share is None else _rate(rules.daily_loss_limit_share)
    record["max_drawdown"] = NEVER if rules.max_drawdown_share is None else _rate(rules.max_drawdown_share)
    record["cooldown_bars"] = rules.cooldown_bars
    record["target_1_share"] = _rate(rules.target_1_share)
    record["stop_to_entry"] = int(rules.stop_to_entry_after_target_1)
    return records


def _rate(share: Decimal) -> int:
    return int((share * RATE).to_integral_value(ROUND_HALF_EVEN))
