"""What takes long to load, loaded while something else is waited for: half a second of imports during Prefect's first answers."""

from importlib import import_module
from threading import Thread


def preload_engine() -> None:
    """Begin to load compiled code in a thread. Nothing depends on it: what is not there yet is loaded when it is used."""
    Thread(target=_load, name="candlewick-preload", daemon=True).start()


def _load() -> None:
    """Import what steps and draws, and play two flat bars: with its first call compiled code is read, and numba's own registries.

    Compiling, where that is due, is left to the step that says so.
    """
    from candlewick.compiled import is_compiled

    if not is_compiled("folding", "fold"):
        return
    from decimal import Decimal

    import polars as pl

    from candlewick.backtesting.simulation import backtest
    from candlewick.candles import CANDLE_SCHEMA
    from candlewick.engine.terms import Terms
    from candlewick.instruments import Instrument
    from candlewick.rules import Rules
    from candlewick.strategies.catalog import load_strategy

    flat = pl.DataFrame({"opened_at": [0, 60_000], **dict.fromkeys(("open", "high", "low", "close", "volume"), 1.0)})
    candles = flat.select(pl.col(name).cast(kind) for name, kind in CANDLE_SCHEMA.items())
    instrument = Instrument("A/B", "A", "B", Decimal("0.01"), Decimal("0.01"))
    terms = Terms("1m", Decimal(1000), (instrument,), Rules())
    backtest(terms, load_strategy("buy_and_hold", {}), {"A/B": candles})
    import_module("candlewick.reports.backtest")
    import_module("plotly.offline")
