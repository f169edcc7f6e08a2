"""The engine's door: `advance` steps a state over bars and answers the new state, what happened, and the equity curve.

Compiled code is imported when the engine first steps, not before: numba takes as long to import as many a cycle takes to run.
"""

from dataclasses import dataclass

import numpy as np

from candlewick.engine.bars import EngineInput
from candlewick.engine.grids import Integers
from candlewick.engine.layout import EQUITY, EVENT, FUNDING, OPEN, TALLY
from candlewick.engine.state import EngineState
from candlewick.engine.terms import Records, Terms, instrument_records, rules_record
from candlewick.errors import EngineOverflow

_BUFFER_EVENTS = 4096
_EVENTS_PER_DECISION = 6


@dataclass(frozen=True, slots=True)
class Advance:
    """``events``: EVENT records in their order; ``equity``: EQUITY records, one for each curve row; ``tally``: one TALLY record.

    ``day_equity`` int64: the equity at the last close of each UTC day that has bars.
    """

    state: EngineState
    events: Records
    equity: Records
    tally: Records
    day_equity: Integers


def advance(
    state: EngineState,
    terms: Terms,
    bars: EngineInput,
    curve_rows: Integers | None = None,
    *,
    skips: bool = True,
    keeps_events: bool = True,
) -> Advance:
    """Step over every row of ``bars``, all after the state's watermark. The state given is not changed. Raises EngineOverflow.

    ``curve_rows`` are the rows at whose close a point of the equity curve is kept, ascending; None: all. ``skips`` False steps
    through quiet bars, too; the answer is the same. ``keeps_events`` False answers no events: a sweep wants only the sums.
    """
    from candlewick.engine.folding import fold
    from candlewick.engine.scanning import scratch_for

    if len(bars.times) and state.watermark_ms is not None and bars.times[0] <= state.watermark_ms:
        raise AssertionError(f"the bar at {bars.times[0]} was processed before: the watermark is {state.watermark_ms}")
    after = state.copy()
    instruments, rules = instrument_records(terms), rules_record(terms)
    rows = np.arange(len(bars.times)) if curve_rows is None else curve_rows
    equity, tally = np.zeros(len(rows), dtype=EQUITY), np.zeros(1, dtype=TALLY)
    days, cursor = np.zeros(len(bars.day_ends), dtype=np.int64), np.zeros(5, dtype=np.int64)
    active, scratch = scratch_for(len(terms.instruments))
    chunks = []
    while cursor[0] < len(bars.times):
        before, buffer = int(cursor[0]), _buffer(terms, bars, keeps_events)
        try:
            count = fold(
                after.account, after.positions, instruments, rules, bars.market, bars.decisions, bars.fundings, bars.day_ends,
                rows, cursor, skips, active, scratch, days, tally, equity, buffer, 0, keeps_events,
            )  # fmt: skip
        except OverflowError as overflow:
            raise EngineOverflow(f"after {state.watermark_ms}: {overflow}") from overflow
        assert cursor[0] > before, "the event buffer is too small for one bar"
        chunks.append(buffer[:count])
    events = np.concatenate(chunks) if len(chunks) > 1 else (chunks or [np.zeros(0, dtype=EVENT)])[0]
    return Advance(after, events, equity, tally, days)


def _buffer(terms: Terms, bars: EngineInput, keeps: bool) -> Records:
    """Room for what is likely to happen; what is not written to costs nothing."""
    from candlewick.engine.folding import EVENTS_PER_ACCOUNT, EVENTS_PER_SYMBOL

    room = EVENTS_PER_SYMBOL * len(terms.instruments) + EVENTS_PER_ACCOUNT
    likely = _BUFFER_EVENTS + _EVENTS_PER_DECISION * len(bars.decisions) if keeps else 0
    # Payments that are due in a gap come at once, at the next bar's open.
    payments = int(np.max(np.bincount(bars.fundings["row"]))) if len(bars.fundings) else 0
    return np.empty(likely + payments + room * (4 if bars.market.detail_spans.size else 1), dtype=EVENT)


def advance_open(state: EngineState, terms: Terms, opened_ms: int, opens: Integers) -> Advance:
    """Only the open phase of the bar that is forming since ``opened_ms``: what fills at its open. Nothing if done already.

    ``opens`` int64 (symbols,), 0 where a symbol has none. Raises EngineOverflow.
    """
    from candlewick.engine.folding import EVENTS_PER_ACCOUNT, EVENTS_PER_SYMBOL, fold_open
    from candlewick.engine.scanning import scratch_for

    after = state.copy()
    room = EVENTS_PER_SYMBOL * len(terms.instruments) + EVENTS_PER_ACCOUNT
    buffer, tally = np.zeros(room, dtype=EVENT), np.zeros(1, dtype=TALLY)
    prices = np.zeros((len(opens), 1, 4), dtype=np.int64)
    prices[:, 0, OPEN] = opens
    instruments, rules = instrument_records(terms), rules_record(terms)
    try:
        count = fold_open(
            after.account,
            after.positions,
            scratch_for(len(opens))[0],
            instruments,
            rules,
            opened_ms,
            prices,
            np.zeros(0, dtype=FUNDING),
            tally,
            buffer,
            0,
        )
    except OverflowError as overflow:
        raise EngineOverflow(f"at the open of {opened_ms}: {overflow}") from overflow
    return Advance(after, buffer[:count].copy(), np.zeros(0, dtype=EQUITY), tally, np.zeros(0, dtype=np.int64))
