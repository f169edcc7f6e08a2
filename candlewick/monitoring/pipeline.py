"""The stages between a symbol's candles and its orders, joined by events: indicators, strategy, and the rules for its signals.

data → NewCandle → indicators → IndicatorsUpdated, RegimeChanged → strategy → SignalGenerated → SignalValidated or SignalRejected
→ execution (deciding.py). A handler that raises leaves its symbol without what comes after it, and nobody else.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import polars as pl

from candlewick.candles import opened_at_ms
from candlewick.monitoring.books import Book
from candlewick.monitoring.bus import EventBus
from candlewick.monitoring.events import (
    Event,
    IndicatorsUpdated,
    NewCandle,
    Regime,
    RegimeChanged,
    SignalGenerated,
    SignalRejected,
    SignalValidated,
    bar_id,
    event_id,
)
from candlewick.monitoring.interventions import Intervention
from candlewick.monitoring.regimes import TAIL_BLOCK_BARS, RegimeRules, regime_tail
from candlewick.monitoring.signal_rules import Candidate, Context, SignalRules, Verdict, history_bars, judge
from candlewick.monitoring.watched import Watched
from candlewick.strategies.catalog import load_strategy
from candlewick.strategies.contract import BUY, HOLD, SELL, complete_signals
from candlewick.timeframes import utc


@dataclass(slots=True)
class Stages:
    """Subscribes its handlers to the bus. ``books`` by symbol; ``context`` is what the rules have to know at this moment.

    ``causes``: the event over which each symbol's newest signals were decided.
    """

    bus: EventBus
    session_id: str
    watched: Mapping[str, Watched]
    books: Mapping[str, Book]
    regime_rules: RegimeRules
    rules: SignalRules
    context: Callable[[], Context]
    causes: dict[str, Event] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.bus.subscribe(NewCandle, self.update_indicators, "indicators")
        self.bus.subscribe(IndicatorsUpdated, self.decide_signals, "strategy")

    def new_candle(self, one: Watched) -> NewCandle:
        """The event of a symbol's fresh bars."""
        last_ms = one.last_ms
        assert last_ms is not None, f"{one.symbol} has no bar"
        return NewCandle(
            event_id=event_id(NewCandle.kind, one.series.market, one.symbol, one.series.timeframe, last_ms),
            correlation_id=self.correlation(one, last_ms), causation_id=None, at=utc(last_ms + one.length_ms),
            session_id=self.session_id, symbol=one.symbol, opened_at=utc(last_ms), close=float(one.window["close"][-1]),
            bars=one.fresh,
        )  # fmt: skip

    def correlation(self, one: Watched, opened_ms: int) -> str:
        """The id that everything shares that follows from a bar."""
        return bar_id(self.books[one.symbol].start.account.market, one.symbol, one.series.timeframe, opened_ms)

    def update_indicators(self, event: NewCandle) -> None:
        """The session's own indicators at the fresh bars: the regime, and what it is told by."""
        one = self.watched[str(event.symbol)]
        told = regime_tail(one.window, self.regime_rules)
        last = told.row(-1, named=True)
        regime: Regime = last["regime"]
        before, one.regime = one.regime, regime
        one.regimes = told
        if before != regime:
            self._tell_regime(event, one, before)
        self.bus.publish(
            IndicatorsUpdated(
                event_id=event_id(IndicatorsUpdated.kind, event.event_id), correlation_id=event.correlation_id,
                causation_id=event.event_id, at=event.at, session_id=self.session_id, symbol=one.symbol,
                opened_at=event.opened_at, adx=last["adx"], volatility=last["volatility"], slope_bps=last["slope_bps"],
                regime=regime,
            )
        )  # fmt: skip

    def _tell_regime(self, event: NewCandle, one: Watched, before: Regime) -> None:
        self.bus.publish(
            RegimeChanged(
                event_id=event_id(RegimeChanged.kind, event.event_id), correlation_id=event.correlation_id,
                causation_id=event.event_id, at=event.at, session_id=self.session_id, symbol=one.symbol,
                opened_at=event.opened_at, before=before, after=one.regime,
            )
        )  # fmt: skip

    def decide_signals(self, event: IndicatorsUpdated) -> None:
        """The strategy's signals over the window, and what the rules say of those at fresh bars. Raises what strategies raise."""
        one = self.watched[str(event.symbol)]
        book = self.books[one.symbol]
        signals = dict[int, pl.DataFrame]()
        for terms in book.start.account.acting_terms(book.start.state.watermark_ms):
            signals[terms.version] = complete_signals(load_strategy(terms.strategy, terms.parameters), one.window)
        one.signals = signals
        self.causes[one.symbol] = event
        self.judge_again(one)
        one.ready = True

    def judge_again(self, one: Watched) -> None:
        """Ask the rules about all decided bars that are not processed: what became of those before them may be another now."""
        book = self.books[one.symbol]
        one.rejections, one.is_cut = [], False
        self._validate(one, book, _acting(one, book), self.causes[one.symbol])

    def _validate(self, one: Watched, book: Book, acting: pl.DataFrame, cause: Event) -> None:
        """Ask the rules about the acting bars that are fresh; what was decided before them is what they look back on."""
        times = opened_at_ms(acting).tolist()
        regimes = self._regimes(one, times[0]) if times and self.rules.regimes else {}
        opening = _opening(book)
        candidates = [
            Candidate(
                symbol=one.symbol, opened_at_ms=time, closed_at_ms=time + one.length_ms, action=action, opens=action in opening,
                regime=regimes.get(time, "unknown"), spread_bps=one.spread_bps if time == one.last_ms else None,
                missing_bars=self._missing_before(one, time),
            )
            for time, action in zip(times, acting["action"].to_list(), strict=True)
        ]  # fmt: skip
        if not candidates:
            return
        context = replace(self.context(), recent=self._recent(one, book, candidates[0].opened_at_ms))
        verdicts = judge(candidates, self.rules, context)
        for verdict, reason in zip(verdicts, acting["reason"].to_list(), strict=True):
            self._tell(one, book, verdict, reason, cause)

    def _regimes(self, one: Watched, since_ms: int) -> dict[int, Regime]:
        """Regime by bar, from ``since_ms`` on, each as it was told when that bar was the newest one."""
        block_ms = TAIL_BLOCK_BARS * one.length_ms
        time, last_ms = pl.col("opened_at").dt.epoch("ms"), one.last_ms or since_ms
        found = dict[int, Regime]()
        for block in range(since_ms // block_ms, last_ms // block_ms + 1):
            told = regime_tail(one.window.filter(time < (block + 1) * block_ms), self.regime_rules)
            found |= zip(opened_at_ms(told).tolist(), told["regime"].to_list(), strict=True)
        return found

    def _missing_before(self, one: Watched, time_ms: int) -> int:
        """Bars that did not come right before a bar, although the market was open."""
        times = opened_at_ms(one.window)
        row = int(times.searchsorted(time_ms))
        if self.rules.max_age_s is None or row == 0 or times[row - 1] == time_ms - one.length_ms:
            return 0
        since_ms = int(times[row - 1]) + one.length_ms
        return len(self.context().hours.expected_bars(one.symbol, one.series.timeframe, since_ms, time_ms))

    def _recent(self, one: Watched, book: Book, before_ms: int) -> list[Verdict]:
        """What became of the signals at the bars before, from the signals themselves and the interventions there were."""
        since_ms = before_ms - history_bars(self.rules) * one.length_ms
        time, opening = pl.col("opened_at").dt.epoch("ms"), _opening(book)
        said = one.signals[book.start.account.current.version]
        acting = said.filter((time >= since_ms) & (time < before_ms) & (pl.col("action") != HOLD))
        against = {found.opened_at_ms: found for found in book.recent.get(one.symbol, ())}
        return [
            Verdict(
                candidate=Candidate(
                    symbol=one.symbol, opened_at_ms=at, closed_at_ms=at + one.length_ms, action=action, opens=action in opening
                ),
                rule=against[at].rule if at in against else None,
            )
            for at, action in zip(opened_at_ms(acting).tolist(), acting["action"].to_list(), strict=True)
        ]  # fmt: skip

    def _tell(self, one: Watched, book: Book, verdict: Verdict, reason: str | None, cause: Event) -> None:
        """Publish what the strategy decided and what became of it, once; a rejection waits for execution as an intervention."""
        candidate = verdict.candidate
        if verdict.rule is not None:
            one.rejections.append(self._rejection(book, verdict))
        at_ms = candidate.opened_at_ms
        if at_ms in one.told and one.told[at_ms] == verdict.rule:
            return
        one.told[at_ms] = verdict.rule
        correlation = self.correlation(one, at_ms)
        generated = SignalGenerated(
            event_id=event_id(SignalGenerated.kind, book.name, one.symbol, candidate.opened_at_ms),
            correlation_id=correlation, causation_id=cause.event_id, at=utc(candidate.closed_at_ms),
            session_id=self.session_id, symbol=one.symbol, opened_at=utc(candidate.opened_at_ms), action=candidate.action,
            reason=reason,
        )  # fmt: skip
        self.bus.publish(generated)
        one.signal, one.signal_at, one.signal_verdict = candidate.action, utc(candidate.opened_at_ms), verdict.rule or "validated"
        if verdict.rule is None:
            self.bus.publish(
                SignalValidated(
                    event_id=event_id(SignalValidated.kind, generated.event_id), correlation_id=correlation,
                    causation_id=generated.event_id, at=generated.at, session_id=self.session_id, symbol=one.symbol,
                    opened_at=generated.opened_at, action=candidate.action,
                )
            )  # fmt: skip
            return
        self.bus.publish(
            SignalRejected(
                event_id=event_id(SignalRejected.kind, generated.event_id, verdict.rule), correlation_id=correlation,
                causation_id=generated.event_id, at=generated.at, session_id=self.session_id, symbol=one.symbol,
                opened_at=generated.opened_at, action=candidate.action, rule=verdict.rule, limit=verdict.limit,
                value=verdict.value,
            )
        )  # fmt: skip

    def _rejection(self, book: Book, verdict: Verdict) -> Intervention:
        """Execution says EXIT instead of HOLD where the entry would also have closed the other side."""
        candidate, account = verdict.candidate, book.start.account
        return Intervention(
            account=book.name, symbol=candidate.symbol, opened_at_ms=candidate.opened_at_ms, action=candidate.action,
            replacement="HOLD", rule=str(verdict.rule), limit=verdict.limit, value=verdict.value, reason=verdict.reason,
            session_id=self.session_id,
            correlation_id=bar_id(account.market, candidate.symbol, account.timeframe, candidate.opened_at_ms),
        )  # fmt: skip


def _opening(book: Book) -> tuple[str, ...]:
    """Actions that open or add to a position, by the account's direction."""
    return {"long": (BUY,), "short": (SELL,), "both": (BUY, SELL)}[book.start.account.current.rules.direction]


def _acting(one: Watched, book: Book) -> pl.DataFrame:
    """Signals that are not HOLD at bars that the account has not processed, each of the terms that act at its bar."""
    account, watermark_ms = book.start.account, book.start.state.watermark_ms
    time = pl.col("opened_at").dt.epoch("ms")
    after = time > (account.anchor_ms - 1 if watermark_ms is None else watermark_ms)
    parts = []
    for terms, following in zip(account.terms, [*account.terms[1:], None], strict=True):
        if terms.version in one.signals:
            until = pl.lit(True) if following is None else time < following.effective_from_ms
            said = one.signals[terms.version].filter(after & until & (time >= terms.effective_from_ms))
            parts.append(said.filter(pl.col("action") != HOLD).select("opened_at", "action", "reason"))
    return pl.concat(parts)
