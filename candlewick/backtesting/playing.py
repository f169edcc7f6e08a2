"""One backtest played to its end: the engine's answer as rows, trades and periods, and what chance could have made of it."""

from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import polars as pl

from candlewick.backtesting.inputs import Inputs
from candlewick.backtesting.simulation import Simulation, lay_out_span, simulate
from candlewick.engine.decisions import Said
from candlewick.engine.layout import Kind, Rule
from candlewick.engine.terms import Records
from candlewick.figures import UNIT_DECIMALS, Figures
from candlewick.journal import Journal, Segment, write_journal
from candlewick.metrics import DAYS_PER_YEAR
from candlewick.periods import benchmark_curve, monthly_returns, symbol_table
from candlewick.resampling import DEFAULT_DRAWS, EquityBands, OrderRisk, bootstrap_equity, shuffle_trades
from candlewick.rows import ORDER_ROW, TIME, frame
from candlewick.strategies.catalog import strategy_name
from candlewick.strategies.contract import SIDES, SIGNAL_SCHEMA, Actions, Strategy, complete_signals
from candlewick.timeframes import format_utc, timeframe_ms
from candlewick.trades import funding_payments, pair_trades

ACCOUNT = "backtest"
"""What the rows of a backtest call their account, so that equal runs have equal rows."""
REASONED_BARS = 200_000
"""Up to so many candles every strategy is asked for its frame, whose reasons then stand beside the trades. Above, a strategy that
can say its decisions without a frame does so: the frame of a million bars would take longer than all the rest."""
_UNTOLD = (Kind.SIGNAL.value, Kind.REFUSAL.value)
_SHUFFLED = 1_000_000
_FEWEST_DRAWS = 200
_REFUSED = {
    Rule.MAX_DRAWDOWN: "the drawdown halt (rule max_drawdown_share) stopped {count}, the first at {at} UTC",
    Rule.DAILY_LOSS_LIMIT: "the day's loss limit (rule daily_loss_limit_share) stopped {count}, the first at {at} UTC",
    Rule.INSUFFICIENT_CASH: "free cash was below the smallest order for {count}, the first at {at} UTC",
    Rule.MIN_NOTIONAL: "{count} were below the exchange's minimum notional, the first at {at} UTC",
    Rule.MIN_QUANTITY: "{count} were below the exchange's minimum quantity, the first at {at} UTC",
}
_ACTIONS = {side: action for action, side in SIDES.items()}


@dataclass(frozen=True, slots=True)
class Played:
    """A backtest's whole answer. ``equity``: the journal's rows (thinned for long spans) with ``benchmark``.

    ``trades`` in TRADE_SCHEMA; ``day_ends_at`` the close of each day's last bar, of which ``bands`` speak by their places.
    """

    simulation: Simulation
    figures: Figures
    journal: Journal
    trades: pl.DataFrame
    equity: pl.DataFrame
    months: pl.DataFrame
    symbols: pl.DataFrame
    day_ends_at: pl.Series
    bands: EquityBands
    order_risk: OrderRisk | None
    notices: tuple[str, ...]


def play(inputs: Inputs, strategy: Strategy, seed: int = 0) -> Played:
    """Play the strategy over the inputs. Raises StrategyFailed, UnknownStrategy, EngineOverflow, UsageError."""
    said, signals = ask(strategy, inputs)
    laid = lay_out_span(inputs.terms, inputs.candles, None, None, inputs.beside)
    simulation = simulate(laid, laid.with_decisions(said))
    # Signals and refusals become rows that no run keeps: where there are too many for their reasons they are not written at all.
    told = simulation.events if inputs.bars <= REASONED_BARS else simulation.events[~np.isin(simulation.events["kind"], _UNTOLD)]
    segment = Segment(strategy_name(strategy), inputs.terms, signals, told, simulation.equity)
    journal = write_journal(ACCOUNT, [segment], simulation.state, frame([], ORDER_ROW))
    length_ms, cash = timeframe_ms(inputs.terms.timeframe), inputs.terms.initial_cash
    trades = _with_reasons(pair_trades(journal.fills, funding_payments(journal.events)), journal)
    curve = journal.equity.drop("account")
    curve = curve.with_columns(benchmark_curve(inputs.candles, curve["at"], length_ms, cash))
    last_of_day = laid.market.times[laid.day_ends - 1]
    return Played(
        simulation=simulation,
        figures=simulation.figures(),
        journal=journal,
        trades=trades,
        equity=curve,
        months=monthly_returns(curve, cash, length_ms),
        symbols=symbol_table(trades, inputs.terms.symbols).drop("exposure"),
        day_ends_at=pl.Series("at", last_of_day, pl.Datetime("ms", "UTC")).cast(TIME) + timedelta(milliseconds=length_ms),
        bands=bootstrap_equity(_amounts(simulation.day_equity), periods_per_year=DAYS_PER_YEAR, seed=seed),
        order_risk=_order_risk(inputs, trades, seed),
        notices=refusal_notices(simulation.events),
    )


def ask(strategy: Strategy, inputs: Inputs) -> tuple[dict[str, Said], dict[str, pl.DataFrame]]:
    """What the engine acts on, and the frames whose rows become the journal's signals, by symbol. See REASONED_BARS."""
    said: dict[str, Said] = {}
    frames: dict[str, pl.DataFrame] = {}
    for symbol, candles in inputs.candles.items():
        actions = strategy.actions(candles) if inputs.bars > REASONED_BARS else None
        if actions is None:
            frames[symbol] = complete_signals(strategy, candles)
            said[symbol] = frames[symbol]
        else:
            frames[symbol] = _acting_rows(actions, candles)
            said[symbol] = actions
    return said, frames


def _acting_rows(actions: Actions, candles: pl.DataFrame) -> pl.DataFrame:
    """Actions as signals of the bars that act, without what a frame alone can say."""
    sides = pl.Series("action", actions.sides).replace_strict(_ACTIONS, return_dtype=pl.String)
    rows = candles[actions.rows].select("opened_at").with_columns(sides)
    opening = pl.col("action").is_in(["BUY", "SELL"])
    known = {name: pl.when(opening).then(pl.lit(value)) for name, value in actions.constants.items()}
    columns = {name: known.get(name, pl.lit(None)) for name in SIGNAL_SCHEMA if name not in ("opened_at", "action")}
    return rows.with_columns(**columns).select(pl.col(name).cast(kind) for name, kind in SIGNAL_SCHEMA.items())


def _with_reasons(trades: pl.DataFrame, journal: Journal) -> pl.DataFrame:
    """Before how an entry was filled, why the strategy wanted it, where the strategy says so."""
    if journal.signals["reason"].null_count() == journal.signals.height:
        return trades
    why = journal.signals.select("signal_id", pl.col("reason").alias("why"))
    asked = journal.orders.select(pl.col("client_order_id").alias("entry_order"), "signal_id")
    told = trades.join(asked.join(why, on="signal_id"), on="entry_order", how="left", maintain_order="left")
    reason = pl.concat_str(["why", "entry_reason"], separator="; ", ignore_nulls=True).alias("entry_reason")
    return told.with_columns(reason).select(trades.columns)


def refusal_notices(events: Records) -> tuple[str, ...]:
    """What the rules kept the strategy from, in words: a halt that stopped years of it is not to be overlooked."""
    refused = events[events["kind"] == Kind.REFUSAL]
    notices = []
    for rule, text in _REFUSED.items():
        own = refused[refused["rule"] == rule]
        if len(own):
            count = "1 entry" if len(own) == 1 else f"{len(own):,} entries"
            notices.append(text.format(count=count, at=format_utc(int(own["at"][0]))))
    return tuple(notices)


def _order_risk(inputs: Inputs, trades: pl.DataFrame, seed: int) -> OrderRisk | None:
    """The trades in other orders; None where none was closed."""
    closed = trades.filter(pl.col("pnl").is_not_null()).sort("closed_at", maintain_order=True)
    if closed.is_empty():
        return None
    rules = inputs.terms.rules
    compounding = rules.capital != "initial" and rules.sizing != "fixed_notional"
    pnl = closed["pnl"].cast(pl.Float64).to_numpy()
    draws = min(DEFAULT_DRAWS, max(_FEWEST_DRAWS, _SHUFFLED // len(pnl)))
    return shuffle_trades(pnl, float(inputs.terms.initial_cash), seed=seed, draws=draws, compounding=compounding)


def _amounts(units: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return units.astype(np.float64).reshape(-1) / 10.0**UNIT_DECIMALS
