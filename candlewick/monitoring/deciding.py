"""Execution: every book proposes its step, global risk looks at all of them, and what it refuses is stepped again without.

Nothing is written here. A book whose step fails is told of and left where it is; the others go on. Bars that come together are
decided as if each had come alone: where global risk may have something to say at an earlier bar than the last, execution stops
there, and goes on with the next call.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal

import polars as pl

from candlewick.advancing import common_watermark
from candlewick.candles import FormingBar, opened_at_ms
from candlewick.cycle import Decided, Start, following
from candlewick.funded import Funded
from candlewick.history import candles_until
from candlewick.monitoring.books import (
    Book,
    entry_closes,
    equity_steps,
    held_quantities,
    proposed_entries,
    replacement,
    stands_at,
    waiting_entries,
)
from candlewick.monitoring.events import bar_id
from candlewick.monitoring.exposure import Book as RiskBook
from candlewick.monitoring.exposure import ProposedEntry
from candlewick.monitoring.interventions import Intervention
from candlewick.monitoring.risk import Assessment, assess
from candlewick.monitoring.risk_state import Breach, RiskRules, RiskState
from candlewick.monitoring.watched import Watched, windows_of
from candlewick.strategies.contract import HOLD

_NO_FORMING: Mapping[str, FormingBar | None] = {}


@dataclass(slots=True)
class Proposal:
    """What one book would do. ``interventions`` are applied in ``decided``; all of them are written with it.

    ``until_ms``: the last bar that it may process; None: as many as there are.
    """

    book: Book
    decided: Decided
    interventions: list[Intervention]
    funded: Funded
    until_ms: int | None

    @property
    def closed_ms(self) -> int | None:
        """Close of the last bar that is processed, in ms."""
        watermark_ms = self.decided.advanced.state.watermark_ms
        return None if watermark_ms is None else watermark_ms + self.book.length_ms


@dataclass(frozen=True, slots=True)
class Outcome:
    """``failed`` by the book's name. ``assessment`` holds the risk state that goes with the proposals.

    ``is_cut``: execution stopped before the last bars, because an earlier one has to be assessed first.
    """

    proposals: tuple[Proposal, ...]
    failed: Mapping[str, Exception]
    assessment: Assessment
    is_cut: bool


@dataclass(slots=True)
class Execution:
    """The execution stage of all books. ``books`` by account, ``watched`` by symbol, ``funded`` of books with perpetuals."""

    session_id: str
    books: Mapping[str, Book]
    watched: Mapping[str, Watched]
    risk_rules: RiskRules
    funded: dict[str, Funded] = field(default_factory=dict)

    def decide(self, ready: Sequence[Book], risk: RiskState, clock_ms: int) -> Outcome:
        """Step the books that are ready, under the desk's limits; ``clock_ms`` is the market's time.

        The limits are asked as of the close of the last bar that is new, or as of now where none is.
        """
        failed = dict[str, Exception]()
        proposals = self._propose_all(ready, None, failed)
        before, cut_ms = self._followed(proposals, risk)
        if cut_ms is not None:
            proposals = self._propose_all([one.book for one in proposals], cut_ms, failed)
            before, _ = self._followed(proposals, risk)
        moved = [one.closed_ms for one in proposals if one.decided.advanced.bars and one.closed_ms is not None]
        at_ms = max(moved, default=clock_ms)
        assessment = self._assess(proposals, before, at_ms)
        while assessment.refused:  # in a shared account a refused entry frees cash for another one, which nobody has assessed yet
            for name in self._refuse(proposals, assessment):
                self._again(proposals, name)
            assessment = self._assess(proposals, before, at_ms)
        if assessment.flatten:
            for name in self._flatten(proposals, assessment.state):
                self._again(proposals, name)
        return Outcome(tuple(proposals), failed, assessment, cut_ms is not None)

    # -- bars that come together

    def _followed(self, proposals: Sequence[Proposal], risk: RiskState) -> tuple[RiskState, int | None]:
        """The risk state after every close before the last one; or the bar (its open time) to stop at, since risk acts there.

        It acts where a limit of losses is broken or lifted, where something is to be flattened, and, while there are limits for
        entries, where one is entered. The history that a new account begins with is not the desk's: nobody watched it then, and
        the limits begin with its last bar.
        """
        proposals = [one for one in proposals if not one.book.start.created]
        steps = [(at, one.book.name, equity) for one in proposals for at, equity in equity_steps(one.decided)]
        closes = {at for at, _, _ in steps}
        if len(closes) <= 1:
            return risk, None
        first_ms, last_ms = min(closes), max(closes)
        if risk.acts("flatten") and any(held_quantities(one.book.start) or waiting_entries(one.book.start) for one in proposals):
            return risk, first_ms - proposals[0].book.length_ms
        equities = {book.account: book.equity for book in self.standing()}
        entered = set[int]()
        if self._limits_entries(risk):
            entered = {close for one in proposals for close in entry_closes(one.decided)}
        for at, changed in _by_time(steps):
            if at >= last_ms:
                break
            equities |= changed
            books = [
                RiskBook(account=name, equity=equity, positions={}, prices={}, waiting=()) for name, equity in equities.items()
            ]
            told = assess(risk, self.risk_rules, books, (), at)
            if told.breached or told.lifted or at in entered:
                return risk, at - proposals[0].book.length_ms
            risk = told.state
        return risk, None

    def _limits_entries(self, risk: RiskState) -> bool:
        rules = self.risk_rules
        limits = (rules.max_positions, rules.max_gross_share, rules.max_net_share, rules.max_symbol_share, rules.max_group_share)
        return bool(risk.breaches) or rules.max_orders_per_minute is not None or any(one is not None for one in limits)

    # -- proposals

    def _propose_all(self, books: Sequence[Book], until_ms: int | None, failed: dict[str, Exception]) -> list[Proposal]:
        proposals = list[Proposal]()
        for book in books:
            try:
                proposals.append(self._propose(book, until_ms))
            except Exception as error:  # noqa: BLE001  # an answer of its stage, and no other book's
                failed[book.name] = error
        return proposals

    def _propose(self, book: Book, until_ms: int | None) -> Proposal:
        rejections = [one for symbol in book.symbols for one in self.watched[symbol].rejections]
        funded = self.funded.get(book.name, Funded())
        if book.start.account.current.rules.direction == "both":
            rejections = self._settled(book, rejections, funded)
        return Proposal(book, self._step(book, rejections, funded, until_ms), rejections, funded, until_ms)

    def _settled(self, book: Book, rejections: Sequence[Intervention], funded: Funded) -> list[Intervention]:
        """Rejections with what counts instead, which depends on what is held at their bars' closes, oldest first."""
        settled = list[Intervention]()
        for one in sorted(rejections, key=lambda found: found.opened_at_ms):
            closed = self._closed(book, [*settled, one], funded, one.opened_at_ms)
            settled.append(replace(one, replacement=replacement(closed, one.symbol, one.action)))
        return settled

    def _step(
        self,
        book: Book,
        interventions: Sequence[Intervention],
        funded: Funded,
        until_ms: int | None,
        windows: Mapping[str, pl.DataFrame] | None = None,
    ) -> Decided:
        """The book's step; with ``windows`` of its own, nothing is filled at the open of a bar that is not among them."""
        signals: dict[int, dict[str, pl.DataFrame]] = {
            terms.version: {symbol: self.watched[symbol].signals[terms.version] for symbol in book.symbols}
            for terms in book.start.account.acting_terms(book.start.state.watermark_ms)
        }
        if windows is not None:
            return book.propose(windows, signals, _NO_FORMING, funded, interventions, until_ms)
        forming = {symbol: self.watched[symbol].forming for symbol in book.symbols}
        return book.propose(windows_of(book.symbols, self.watched), signals, forming, funded, interventions, until_ms)

    def _closed(self, book: Book, interventions: Sequence[Intervention], funded: Funded, until_ms: int | None) -> Start:
        """The book as it stands at the close of its last bar up to ``until_ms``: before anything fills at the next open."""
        windows = windows_of(book.symbols, self.watched)
        ends = [end for end in (common_watermark(windows), until_ms) if end is not None]
        closed = {symbol: candles_until(window, min(ends)) for symbol, window in windows.items()}
        return following(self._step(book, interventions, funded, until_ms, closed))

    def _again(self, proposals: Sequence[Proposal], name: str) -> None:
        """Step a book again from where it stands, with all of its interventions."""
        one = next(found for found in proposals if found.book.name == name)
        one.decided = self._step(one.book, one.interventions, one.funded, one.until_ms)

    # -- global risk

    def standing(self) -> list[RiskBook]:
        """All books as they were last committed."""
        return [stands_at(book.start, self._prices(book, book.start.state.watermark_ms)) for book in self.books.values()]

    def _assess(self, proposals: Sequence[Proposal], risk: RiskState, at_ms: int) -> Assessment:
        entries = [entry for one in proposals for entry in proposed_entries(one.decided)]
        return assess(risk, self.risk_rules, self._standing(proposals), entries, at_ms)

    def _standing(self, proposals: Sequence[Proposal]) -> list[RiskBook]:
        """All books at their last closes. One that enters now is seen before its entry fills at the forming bar's open."""
        found = []
        proposed = {one.book.name: one for one in proposals}
        for name, book in self.books.items():
            one = proposed.get(name)
            if one is None:
                found.append(stands_at(book.start, self._prices(book, book.start.state.watermark_ms)))
                continue
            stands: Start | Decided = one.decided
            if one.decided.advanced.opened is not None and proposed_entries(one.decided):
                stands = self._closed(book, one.interventions, one.funded, one.until_ms)
            found.append(stands_at(stands, self._prices(book, one.decided.advanced.state.watermark_ms)))
        return found

    def _prices(self, book: Book, watermark_ms: int | None) -> dict[str, Decimal]:
        """Each symbol's last close up to the watermark."""
        prices = dict[str, Decimal]()
        for symbol in book.symbols:
            window = self.watched[symbol].window
            rows = int(opened_at_ms(window).searchsorted(-1 if watermark_ms is None else watermark_ms, side="right"))
            if rows:
                prices[symbol] = Decimal(repr(float(window["close"][rows - 1])))
        return prices

    def _refuse(self, proposals: Sequence[Proposal], assessment: Assessment) -> set[str]:
        """Refused entries become interventions; the names of the books that have to be stepped again."""
        by_name, touched = {one.book.name: one for one in proposals}, set[str]()
        for refusal in assessment.refused:
            entry: ProposedEntry = refusal.entry
            one = by_name[entry.account]
            action = self._action(one.book, entry.symbol, entry.opened_at_ms)
            refused = self._intervention(
                one, entry.symbol, entry.opened_at_ms, action, refusal.rule, refusal.limit, refusal.value, refusal.reason
            )
            if one.book.start.account.current.rules.direction == "both":
                closed = self._closed(one.book, [*one.interventions, refused], one.funded, one.until_ms)
                refused = replace(refused, replacement=replacement(closed, entry.symbol, action))
            one.interventions.append(refused)
            touched.add(one.book.name)
        return touched

    def _flatten(self, proposals: Sequence[Proposal], state: RiskState) -> set[str]:
        """Every position that a proposal would keep leaves at its last bar, and no entry waits for its price any more."""
        breach = next(one for one in state.broken if one.action == "flatten")
        touched = set[str]()
        for one in proposals:
            last_ms = one.decided.advanced.state.watermark_ms
            if last_ms is None or not one.decided.advanced.bars:
                continue
            closed = self._closed(one.book, one.interventions, one.funded, one.until_ms)
            for symbol in dict.fromkeys((*held_quantities(closed), *waiting_entries(closed))):
                self._leave(one, symbol, last_ms, breach)
                touched.add(one.book.name)
        return touched

    def _leave(self, one: Proposal, symbol: str, opened_ms: int, breach: Breach) -> None:
        """EXIT in place of whatever the strategy or another rule says at that bar."""
        one.interventions[:] = [found for found in one.interventions if (found.symbol, found.opened_at_ms) != (symbol, opened_ms)]
        action = self._action(one.book, symbol, opened_ms)
        reason = f"{breach.value} against a limit of {breach.limit}"
        found = self._intervention(one, symbol, opened_ms, action, breach.rule, breach.limit, breach.value, reason)
        one.interventions.append(replace(found, replacement="EXIT"))

    def _intervention(
        self, one: Proposal, symbol: str, opened_ms: int, action: str, rule: str, limit: str, value: str, reason: str
    ) -> Intervention:
        account = one.book.start.account
        return Intervention(
            account=account.name, symbol=symbol, opened_at_ms=opened_ms, action=action, replacement="HOLD", rule=rule,
            limit=limit, value=value, reason=reason, session_id=self.session_id,
            correlation_id=bar_id(account.market, symbol, account.timeframe, opened_ms),
        )  # fmt: skip

    def _action(self, book: Book, symbol: str, opened_ms: int) -> str:
        """What the strategy decided at a bar."""
        version = [terms for terms in book.start.account.terms if terms.effective_from_ms <= opened_ms][-1].version
        said = self.watched[symbol].signals[version]
        row = int(opened_at_ms(said).searchsorted(opened_ms))
        return str(said["action"][row]) if row < said.height else HOLD


def _by_time(steps: Sequence[tuple[int, str, Decimal]]) -> Iterator[tuple[int, dict[str, Decimal]]]:
    """What changes at each time, by account, in their order."""
    changes = dict[int, dict[str, Decimal]]()
    for at, name, equity in steps:
        changes.setdefault(at, {})[name] = equity
    for at in sorted(changes):
        yield at, changes[at]
