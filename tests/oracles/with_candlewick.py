"""Candlewick's engine under the settings that the other engines are compared at: no slippage, no limits, the finest grid."""

from collections.abc import Mapping
from decimal import Decimal

import numpy as np
import polars as pl

from candlewick.engine.bars import build_input
from candlewick.engine.layout import CASH_DECIMALS, RATE, Kind, Leg
from candlewick.engine.run import Advance, advance
from candlewick.engine.state import open_state
from candlewick.engine.terms import Records, Terms, price_decimals, quantity_decimals
from candlewick.instruments import Instrument
from candlewick.rules import Rules
from candlewick.strategies.contract import BUY, EXIT, HOLD, SELL, Strategy, complete_signals
from tests.oracles import goog
from tests.oracles.play import Outcome, Play, Trade

SYMBOL = "ANY/USDT"
_FOREVER = 10**15
_FREE = {
    "slippage_bps": Decimal(0), "max_position_share": Decimal(1), "daily_loss_limit_share": None, "max_drawdown_share": None,
    "cooldown_bars": 0, "target_1_share": Decimal(1),
}  # fmt: skip


class Given(Strategy):
    """Says what it was given, in place of deciding: actions by bar, and distances from the fill in bps for all entries."""

    actions_by_bar: tuple[str, ...]
    distances_bps: Mapping[str, float] = {}

    def signals(self, candles: pl.DataFrame) -> pl.DataFrame:
        columns = {name: pl.lit(distance) for name, distance in self.distances_bps.items()}
        return pl.DataFrame({"action": self.actions_by_bar}).with_columns(**columns)


def run(play: Play) -> Outcome:
    """Long only and all-in, as `Play` says."""
    fee_bps = Decimal(str(play.fee)) * 10_000
    instrument = Instrument(
        SYMBOL, "ANY", "USDT", Decimal("1e-8"), Decimal("1e-11"), maker_fee_bps=fee_bps, taker_fee_bps=fee_bps
    )
    distances = {"stop_loss_bps": play.stop, "take_profit_1_bps": play.target}
    strategy = Given(
        actions_by_bar=tuple(np.select([play.signals.entries, play.signals.exits], [BUY, EXIT], HOLD).tolist()),
        distances_bps={name: share * 10_000 for name, share in distances.items() if share is not None},
    )
    terms = Terms("1h", Decimal(str(play.cash)), (instrument,), Rules(**_FREE))
    return _outcome(terms, play.candles, _advance(terms, play.candles, strategy))


def run_goog(candles: pl.DataFrame) -> tuple[Outcome, float, float]:
    """The known answer's rules (tests/oracles/goog.py): the outcome, commissions of closed trades, largest drawdown (share)."""
    fee_bps = Decimal(str(goog.FEE)) * 10_000
    instrument = Instrument(
        SYMBOL, "ANY", "USDT", Decimal("0.01"), Decimal(1), maker_fee_bps=fee_bps, taker_fee_bps=fee_bps, kind="margin"
    )
    decided = goog.crosses(candles["close"].to_numpy())
    strategy = Given(actions_by_bar=tuple(np.select([decided > 0, decided < 0], [BUY, SELL], HOLD).tolist()))
    rules = Rules(**_FREE, direction="both", capital="equity_at_open")
    terms = Terms("1d", Decimal(str(goog.CASH)), (instrument,), rules)
    advanced = _advance(terms, candles, strategy)
    outcome, fills = _outcome(terms, candles, advanced), _fills(advanced)
    commissions = fills["fee"][: 2 * len(outcome.trades)].sum() / 10**CASH_DECIMALS
    return outcome, float(commissions), float(advanced.equity["drawdown"].max() / RATE)


def _advance(terms: Terms, candles: pl.DataFrame, strategy: Strategy) -> Advance:
    signals = {SYMBOL: complete_signals(strategy, candles)}
    bars = build_input(terms, {SYMBOL: candles}, signals, None, _FOREVER)
    return advance(open_state(terms.initial_cash, 1), terms, bars)


def _fills(advanced: Advance) -> Records:
    return advanced.events[advanced.events["kind"] == Kind.FILL]


def _outcome(terms: Terms, candles: pl.DataFrame, advanced: Advance) -> Outcome:
    """Every position is left in one piece, so the fills are entries and exits in turn."""
    fills = _fills(advanced)
    entries, exits = fills[0::2], fills[1::2]
    assert (entries["leg"] == Leg.ENTRY).all()
    assert (exits["leg"] != Leg.ENTRY).all()
    bars = {opened_at: bar for bar, opened_at in enumerate(candles["opened_at"].dt.epoch("ms").to_list())}
    price, quantity = 10 ** price_decimals(terms.instruments[0]), 10 ** quantity_decimals(terms.instruments[0])
    trades = (
        Trade(
            bars[int(entry["at"])],
            float(entry["price"]) / price,
            bars[int(leave["at"])],
            float(leave["price"]) / price,
            float(entry["side"]) * float(entry["quantity"]) / quantity,
            float(leave["realized"]) / 10**CASH_DECIMALS,
        )
        for entry, leave in zip(entries, exits, strict=False)
    )
    return Outcome(tuple(trades), float(advanced.equity["equity"][-1]) / 10**CASH_DECIMALS)
