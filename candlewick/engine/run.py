"""The engine's door: `advance` steps a state over bars and answers the new state, what happened, and the equity curve.

Compiled code is imported when the engine first steps, not before: numba takes as long to import as many a cycle takes to run.
"""

from dataclasses import dataclass

import numpy as np

from candlewick.engine.bars import EngineInput, Integers
from candlewick.engine.layout import EQUITY, EVENT
from candlewick.engine.state import EngineState
from candlewick.engine.terms import Records, Terms, instrument_records, rules_record
from candlewick.errors import EngineOverflow

_BUFFER_EVENTS = 4096


@dataclass(frozen=True, slots=True)
class Advance:
    """``events``: EVENT records in their order; ``equity``: EQUITY records, one a bar time."""

    state: EngineState
    events: Records
    equity: Records


def advance(state: EngineState, terms: Terms, bars: EngineInput) -> Advance:
    """Step over every row of ``bars``, all after the state's watermark. The state given is not changed. Raises EngineOverflow."""
    from candlewick.engine.folding import EVENTS_PER_ACCOUNT, EVENTS_PER_SYMBOL, fold

    if len(bars.times) and state.watermark_ms is not None and bars.times[0] <= state.watermark_ms:
        raise AssertionError(f"the bar at {bars.times[0]} was processed before: the watermark is {state.watermark_ms}")
    after = state.copy()
    instruments, rules = instrument_records(terms), rules_record(terms)
    equity = np.zeros(len(bars.times), dtype=EQUITY)
    room = EVENTS_PER_SYMBOL * len(terms.instruments) + EVENTS_PER_ACCOUNT
    buffer = np.zeros(_BUFFER_EVENTS + room, dtype=EVENT)
    chunks = []
    row = 0
    while row < len(bars.times):
        try:
            row, count = fold(
                after.account, after.positions, instruments, rules, bars.times, bars.prices,
                bars.actions, bars.weights, bars.forms, bars.levels, row, buffer, 0, equity,
            )  # fmt: skip
        except OverflowError as overflow:
            raise EngineOverflow(f"after {state.watermark_ms}: {overflow}") from overflow
        chunks.append(buffer[:count].copy())
    events = np.concatenate(chunks) if chunks else buffer[:0]
    return Advance(after, events, equity)


def advance_open(state: EngineState, terms: Terms, opened_ms: int, opens: Integers) -> Advance:
    """Only the open phase of the bar that is forming since ``opened_ms``: what fills at its open. Nothing if done already.

    ``opens`` int64 (symbols,), 0 where a symbol has none. Raises EngineOverflow.
    """
    from candlewick.engine.folding import EVENTS_PER_ACCOUNT, EVENTS_PER_SYMBOL, fold_open

    after = state.copy()
    room = EVENTS_PER_SYMBOL * len(terms.instruments) + EVENTS_PER_ACCOUNT
    buffer = np.zeros(room, dtype=EVENT)
    instruments, rules = instrument_records(terms), rules_record(terms)
    try:
        count = fold_open(after.account, after.positions, instruments, rules, opened_ms, opens, buffer, 0)
    except OverflowError as overflow:
        raise EngineOverflow(f"at the open of {opened_ms}: {overflow}") from overflow
    return Advance(after, buffer[:count].copy(), np.zeros(0, dtype=EQUITY))
