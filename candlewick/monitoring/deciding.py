"""Execution: every book proposes its step, global risk looks at all of them, and what it refuses is stepped again without.

Nothing is written here. A book whose step fails is told of and left where it is; the others go on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal

import polars as pl

from candlewick.candles import FormingBar, opened_at_ms
from candlewick.cycle import Decided, following
from candlewick.funded import Funded
from candlewick.monitoring.books import Book, held_quantities, proposed_entries, stands_at
from candlewick.monitoring.events import bar_id
from candlewick.monitoring.exposure import Book as RiskBook
from candlewick.monitoring.exposure import ProposedEntry
from candlewick.monitoring.interventions import Intervention
from candlewick.monitoring.pipeline import replacement
from candlewick.monitoring.risk import Assessment, assess
from candlewick.monitoring.risk_state import Breach, RiskRules, RiskState
from candlewick.monitoring.watched import Watched, windows_of
from candlewick.strategies.contract import HOLD

_NO_FORMING: Mapping[str, FormingBar | None] = {}


@dataclass(slots=True)
class Proposal:
    """What one book would do. ``interventions`` are applied in ``decided``; all of them are written with it."""

    book: Book
    decided: Decided
    interventions: list[Intervention]
    funded: Funded


@dataclass(frozen=True, slots=True)
class Outcome:
    """``failed`` by the book's name. ``assessment`` holds the risk state that goes with the proposals."""

    proposals: tuple[Proposal, ...]
    failed: Mapping[str, Exception]
    assessment: Assessment


@dataclass(slots=True)
class Execution:
    """The execution stage of all books. ``books`` by account, ``watched`` by symbol, ``funded`` of books with perpetuals."""

    session_id: str
    books: Mapping[str, Book]
    watched: Mapping[str, Watched]
    risk_rules: RiskRules
    funded: dict[str, Funded] = field(default_factory=dict)

    def decide(self, ready: Sequence[Book], risk: RiskState, at_ms: int) -> Outcome:
        """Step the books that are ready, under the desk's limits as of ``at_ms``."""
        proposals, failed = list[Proposal](), dict[str, Exception]()
        for book in ready:
            try:
                proposals.append(self._propose(book))
            except Exception as error:  # noqa: BLE001  # an answer of its stage, and no other book's
                failed[book.name] = error
        assessment = self._assess(proposals, risk, at_ms)
        while assessment.refused:  # in a shared account a refused entry frees cash for another one, which nobody has assessed yet
            for name in self._refuse(proposals, assessment):
                self._again(proposals, name)
            assessment = self._assess(proposals, risk, at_ms)
        if assessment.flatten:
            for name in self._flatten(proposals, assessment.state):
                self._again(proposals, name)
        return Outcome(tuple(proposals), failed, assessment)

    def _assess(self, proposals: Sequence[Proposal], risk: RiskState, at_ms: int) -> Assessment:
        entries = [entry for one in proposals for entry in proposed_entries(one.decided)]
        return assess(risk, self.risk_rules, self._standing(proposals), entries, at_ms)

    def _again(self, proposals: Sequence[Proposal], name: str) -> None:
        """Step a book again from where it stands, with all of its interventions."""
        one = next(found for found in proposals if found.book.name == name)
        one.decided = self._step(one.book, one.interventions, one.funded)

    def standing(self) -> list[RiskBook]:
        """All books as they were last committed."""
        return [stands_at(book.start, self._prices(book, book.start.state.watermark_ms)) for book in self.books.values()]

    def _propose(self, book: Book) -> Proposal:
        rejections = [one for symbol in book.symbols for one in self.watched[symbol].rejections]
        funded = self.funded.get(book.name, Funded())
        return Proposal(book, self._step(book, rejections, funded), rejections, funded)

    def _step(self, book: Book, interventions: Sequence[Intervention], funded: Funded, *, early: bool = True) -> Decided:
        """``early``: fill at the open of the bar that is forming, where the market shows it."""
        windows = windows_of(book.symbols, self.watched)
        signals: dict[int, dict[str, pl.DataFrame]] = {
            terms.version: {symbol: self.watched[symbol].signals[terms.version] for symbol in book.symbols}
            for terms in book.start.account.acting_terms(book.start.state.watermark_ms)
        }
        forming = {symbol: self.watched[symbol].forming for symbol in book.symbols} if early else _NO_FORMING
        return book.propose(windows, signals, forming, funded, interventions)

    def _standing(self, proposals: Sequence[Proposal]) -> list[RiskBook]:
        """All books at their last closes. One that enters now is seen before its entry fills at the forming bar's open."""
        stands = {book.name: book for book in self.books.values()}
        found = []
        proposed = {one.book.name: one for one in proposals}
        for name, book in stands.items():
            one = proposed.get(name)
            if one is None:
                found.append(stands_at(book.start, self._prices(book, book.start.state.watermark_ms)))
                continue
            decided = one.decided
            if decided.advanced.opened is not None and proposed_entries(decided):
                decided = self._step(book, one.interventions, one.funded, early=False)
            found.append(stands_at(decided, self._prices(book, decided.advanced.state.watermark_ms)))
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
            one.interventions.append(
                replace(
                    self._intervention(one, entry.symbol, entry.opened_at_ms, action, refusal.rule, refusal.limit, refusal.value),
                    reason=refusal.reason,
                )
            )
            touched.add(one.book.name)
        return touched

    def _flatten(self, proposals: Sequence[Proposal], state: RiskState) -> set[str]:
        """Every position that a proposal would keep leaves at its last bar."""
        breach = next(one for one in state.broken if one.action == "flatten")
        touched = set[str]()
        for one in proposals:
            last_ms = one.decided.advanced.state.watermark_ms
            if last_ms is None or last_ms == one.book.start.state.watermark_ms:
                continue
            closed = self._step(one.book, one.interventions, one.funded, early=False)
            for symbol in held_quantities(following(closed)):
                self._leave(one, symbol, last_ms, breach)
                touched.add(one.book.name)
        return touched

    def _leave(self, one: Proposal, symbol: str, opened_ms: int, breach: Breach) -> None:
        """EXIT in place of whatever the strategy or another rule says at that bar."""
        one.interventions[:] = [found for found in one.interventions if (found.symbol, found.opened_at_ms) != (symbol, opened_ms)]
        action = self._action(one.book, symbol, opened_ms)
        found = self._intervention(one, symbol, opened_ms, action, breach.rule, breach.limit, breach.value)
        one.interventions.append(replace(found, replacement="EXIT"))

    def _intervention(
        self, one: Proposal, symbol: str, opened_ms: int, action: str, rule: str, limit: str, value: str
    ) -> Intervention:
        book = one.book
        return Intervention(
            account=book.name, symbol=symbol, opened_at_ms=opened_ms, action=action,
            replacement=replacement(book, symbol, action), rule=rule, limit=limit, value=value,
            reason=f"{value} against a limit of {limit}",
            session_id=self.session_id,
            correlation_id=bar_id(book.start.account.market, symbol, book.start.account.timeframe, opened_ms),
        )  # fmt: skip

    def _action(self, book: Book, symbol: str, opened_ms: int) -> str:
        """What the strategy decided at a bar."""
        version = [terms for terms in book.start.account.terms if terms.effective_from_ms <= opened_ms][-1].version
        said = self.watched[symbol].signals[version]
        row = int(opened_at_ms(said).searchsorted(opened_ms))
        return str(said["action"][row]) if row < said.height else HOLD
