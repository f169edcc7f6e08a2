"""From an account's state to its next one: which bars all symbols have, what the terms then were, and what fills already.

This is the only way an account moves: a cycle calls it for the bars since the watermark, an audit for all of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from candlewick.account import Account, TermsVersion
from candlewick.candles import FormingBar, opened_at_ms
from candlewick.engine.bars import Beside, build_input, forming_opens
from candlewick.engine.grids import Integers
from candlewick.engine.run import advance, advance_open
from candlewick.engine.state import EngineState
from candlewick.engine.terms import Terms
from candlewick.journal import Segment
from candlewick.timeframes import timeframe_ms

Frames = Mapping[str, pl.DataFrame]


@dataclass(frozen=True, slots=True)
class Advanced:
    """``bars`` is the number of bar times processed; ``opened`` the forming bar whose open phase is done: (open time, opens)."""

    state: EngineState
    segments: tuple[Segment, ...]
    bars: int
    opened: tuple[int, dict[str, float]] | None


def engine_terms(account: Account, version: TermsVersion) -> Terms:
    """One version of an account's terms as the engine wants them."""
    return Terms(account.timeframe, account.initial_cash, version.instruments, version.rules)


def last_bars(candles: Frames) -> dict[str, int | None]:
    """Open time of each symbol's last candle, None where it has none."""
    return {symbol: int(opened_at_ms(frame)[-1]) if frame.height else None for symbol, frame in candles.items()}


def common_watermark(candles: Frames) -> int | None:
    """The last bar time up to which every symbol has been seen; None before all have a candle.

    The account waits for its slowest symbol: symbols share cash, so acting on some of them first would give another ledger
    than a punctual cycle. A bar that is missing before a symbol's last candle is a gap, a bar missing after it is not known yet.
    """
    last = list(last_bars(candles).values())
    return None if not last or None in last else min(time for time in last if time is not None)


def advance_account(
    account: Account,
    state: EngineState,
    candles: Frames,
    signals: Mapping[int, Frames],
    until_ms: int | None,
    forming: Mapping[str, FormingBar | None],
    beside: Beside | None = None,
) -> Advanced:
    """Step over every bar after the state's watermark up to ``until_ms``, each under its terms, then the forming bar's open.

    ``signals`` by version of the terms and symbol. ``forming`` may hold a bar that opens right after ``until_ms``. ``beside``:
    funding of perpetuals up to the close of the last bar.
    """
    segments: list[Segment] = []
    bars = 0
    for position, version in enumerate(account.terms):
        following = account.terms[position + 1 :]
        end_ms = following[0].effective_from_ms - 1 if following else until_ms
        if until_ms is None or end_ms is None or end_ms <= (state.watermark_ms or account.anchor_ms - 1):
            continue
        terms = engine_terms(account, version)
        state = state.under(version.version, lifts_halt=version.lifts_halt)
        rows = build_input(terms, candles, signals[version.version], state.watermark_ms, min(end_ms, until_ms), beside)
        moved = advance(state, terms, rows)
        state, bars = moved.state, bars + len(rows.times)
        segments.append(Segment(version.strategy, terms, signals[version.version], moved.events, moved.equity))
    opened = None
    if until_ms is not None:
        state, segment, opened = _open_forming(account, state, candles, signals, until_ms, forming)
        segments += [segment] if segment else []
    if not segments:
        terms = engine_terms(account, account.current)
        nothing = advance(
            state, terms, build_input(terms, candles, signals[account.current.version], until_ms, account.anchor_ms - 1)
        )
        segments.append(
            Segment(account.current.strategy, terms, signals[account.current.version], nothing.events, nothing.equity)
        )
    return Advanced(state, tuple(segments), bars, opened)


def _open_forming(
    account: Account,
    state: EngineState,
    candles: Frames,
    signals: Mapping[int, Frames],
    until_ms: int,
    forming: Mapping[str, FormingBar | None],
) -> tuple[EngineState, Segment | None, tuple[int, dict[str, float]] | None]:
    """Do the open phase of the bar after ``until_ms`` if every symbol that could act in it shows its open.

    Not when the account is further on: candles that end before its watermark show no open of its next bar. Not with perpetuals:
    funding that is due at an open is paid before anything fills there, and may be published later.
    """
    perpetual = any(instrument.kind == "perpetual" for instrument in account.current.instruments)
    if state.watermark_ms != until_ms or perpetual:
        return state, None, None
    opened_ms = until_ms + timeframe_ms(account.timeframe)
    version = [terms for terms in account.terms if terms.effective_from_ms <= opened_ms][-1]
    terms = engine_terms(account, version)
    shown = {symbol: _shown_open(candles[symbol], forming.get(symbol), opened_ms) for symbol in account.symbols}
    opens = forming_opens(terms, shown, opened_ms)
    active = np.array(state.active())
    if state.opened_ms == opened_ms or not active.any() or not _all_shown(opens, active):
        return state, None, None
    moved = advance_open(state.under(version.version, lifts_halt=version.lifts_halt), terms, opened_ms, opens)
    segment = Segment(version.strategy, terms, signals[version.version], moved.events, moved.equity)
    return moved.state, segment, (opened_ms, {symbol: bar.open for symbol, bar in shown.items() if bar})


def _all_shown(opens: Integers, active: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> bool:
    return bool((opens[active] > 0).all())


def _shown_open(candles: pl.DataFrame, forming: FormingBar | None, opened_ms: int) -> FormingBar | None:
    """The open of the bar at ``opened_ms``: of the forming bar, or of a closed one that other symbols do not have yet."""
    if forming is not None and forming.opened_at_ms == opened_ms:
        return forming
    times = opened_at_ms(candles)
    row = int(np.searchsorted(times, opened_ms))
    if row < len(times) and times[row] == opened_ms:
        return FormingBar(opened_ms, float(candles["open"][row]))
    return None
