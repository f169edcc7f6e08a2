"""Books: the accounts a desk trades through, each moved by the same step as any paper account.

A desk has a book a symbol, each with an account and cash of its own, so that no symbol waits for another or is harmed by its
data; or one book for all symbols, which share its cash. A book proposes in memory what its account does with the bars that are
new; nothing is decided before the session commits it.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import ROUND_DOWN, Decimal

import polars as pl

from candlewick.account import TermsVersion
from candlewick.advancing import advance_account, common_watermark
from candlewick.amounts import from_units
from candlewick.candles import FormingBar
from candlewick.cycle import Decided, Start, conclude, following
from candlewick.engine.bars import Beside
from candlewick.engine.layout import CASH_DECIMALS
from candlewick.engine.terms import quantity_decimals
from candlewick.errors import UsageError
from candlewick.funded import Funded
from candlewick.history import refuse_changed_history
from candlewick.instruments import Instrument
from candlewick.monitoring.exposure import Book as RiskBook
from candlewick.monitoring.exposure import ProposedEntry
from candlewick.monitoring.interventions import Intervention, Replacement, apply_interventions, by_symbol
from candlewick.strategies.contract import BUY
from candlewick.timeframes import timeframe_ms

Frames = Mapping[str, pl.DataFrame]
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9]+")
_CENT = Decimal("0.01")


def account_name(desk: str, symbol: str) -> str:
    """The account of one symbol of a desk: `desk.BTC-USDT`."""
    return f"{desk}.{_NOT_IN_NAMES.sub('-', symbol).strip('-')}"


def account_names(desk: str, symbols: Sequence[str]) -> dict[str, str]:
    """Accounts by symbol. Raises UsageError where two symbols would share one."""
    names = {symbol: account_name(desk, symbol) for symbol in symbols}
    for symbol, name in names.items():
        other = next((one for one, same in names.items() if same == name and one != symbol), None)
        if other is not None:
            raise UsageError(f"{symbol} and {other} would both be account {name}; watch them as two desks")
    return names


def cash_share(cash: Decimal, symbols: int) -> Decimal:
    """What each of so many accounts starts with: equal parts, rounded down to 0.01 of the quote currency."""
    return (cash / symbols).quantize(_CENT, ROUND_DOWN)


@dataclass(slots=True)
class Book:
    """An account as the session last committed it. ``changed_terms`` are new versions that its next commit brings along."""

    start: Start
    changed_terms: tuple[TermsVersion, ...] = ()
    recent: dict[str, list[Intervention]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The account's name."""
        return self.start.account.name

    @property
    def symbols(self) -> tuple[str, ...]:
        """The account's symbols, in its order."""
        return self.start.account.symbols

    @property
    def length_ms(self) -> int:
        """Length of a bar in ms."""
        return timeframe_ms(self.start.account.timeframe)

    @property
    def instruments(self) -> dict[str, Instrument]:
        """Trading rules by symbol."""
        return {instrument.symbol: instrument for instrument in self.start.account.current.instruments}

    @property
    def has_perpetuals(self) -> bool:
        """Whether funding has to be known before it moves."""
        return any(instrument.kind == "perpetual" for instrument in self.start.account.current.instruments)

    def committed(self, decided: Decided, interventions: Iterable[Intervention], history_bars: int) -> None:
        """``decided`` is in the ledger with its ``interventions``: go on from there. ``history_bars``: see ``remember``."""
        self.start = following(decided)
        self.changed_terms = ()
        self.remember(interventions, history_bars)

    def remember(self, interventions: Iterable[Intervention], history_bars: int) -> None:
        """Add to what rules look back on: those of bars that are processed, ``history_bars`` back, which bounds it."""
        watermark_ms = self.start.state.watermark_ms
        if watermark_ms is None:
            return
        known = [*(one for found in self.recent.values() for one in found), *interventions]
        since_ms = watermark_ms - history_bars * self.length_ms
        self.recent = dict(by_symbol(one for one in known if since_ms < one.opened_at_ms <= watermark_ms))

    def propose(
        self,
        candles: Frames,
        signals: Mapping[int, Frames],
        forming: Mapping[str, FormingBar | None],
        funded: Funded,
        interventions: Iterable[Intervention],
        until_ms: int | None = None,
    ) -> Decided:
        """What the account does with the bars that all its symbols have, up to ``until_ms``. Nothing is written.

        ``signals`` by version of the terms and symbol, as the strategy says them; ``interventions`` are applied to them. Raises
        HistoryChanged, EngineOverflow.
        """
        account = self.start.account
        refuse_changed_history(account, candles, funded.payments, self.start.state.watermark_ms, self.start.digests)
        ends = [end for end in (common_watermark(candles), funded.until_ms, until_ms) if end is not None]
        last_ms = min(ends) if common_watermark(candles) is not None else None
        replaced = by_symbol(interventions)
        heard = {
            version: {symbol: apply_interventions(frame, replaced.get(symbol, ())) for symbol, frame in said.items()}
            for version, said in signals.items()
        }
        beside = Beside(funding=funded.payments)
        advanced = advance_account(account, self.start.state, candles, heard, last_ms, forming, beside)
        return conclude(self.start, advanced, candles, funded.payments)


def stands_at(state_of: Start | Decided, prices: Mapping[str, Decimal]) -> RiskBook:
    """A book as global risk sees it: equity at its last close, signed quantities, and entries that wait to be filled.

    ``prices``: the last close of each symbol, in quote currency.
    """
    start = following(state_of) if isinstance(state_of, Decided) else state_of
    account = start.account
    quantities = held_quantities(start)
    waiting = start.open_orders.filter(pl.col("leg") == "entry")
    return RiskBook(
        account=account.name,
        equity=_equity(start),
        positions=quantities,
        prices=prices,
        waiting=tuple(_entry(start, row, quantities) for row in waiting.iter_rows(named=True)),
    )


def held_quantities(start: Start) -> dict[str, Decimal]:
    """What the account holds, by symbol, in base currency; below 0 where it is short, nothing where it holds nothing."""
    quantities = dict[str, Decimal]()
    for instrument, record in zip(start.account.current.instruments, start.state.positions, strict=True):
        if record["quantity"]:
            quantity = from_units(int(record["quantity"]), quantity_decimals(instrument))
            quantities[instrument.symbol] = quantity * int(record["side"])
    return quantities


def proposed_entries(decided: Decided) -> tuple[ProposedEntry, ...]:
    """Entries that were decided at the last bar's close and not refused; some may have filled at the next open already.

    None where no bar is new: what an open fills was decided, and assessed, before.
    """
    watermark_ms, account = decided.advanced.state.watermark_ms, decided.start.account
    if watermark_ms is None or not decided.advanced.bars:
        return ()
    closed_ms = watermark_ms + timeframe_ms(account.timeframe)
    orders = decided.journal.orders.filter(
        (pl.col("leg") == "entry") & (pl.col("decided_at").dt.epoch("ms") == closed_ms) & (pl.col("status") != "refused")
    )
    held = held_quantities(decided.start) if orders.height else {}
    return tuple(_entry(decided.start, row, held) for row in orders.iter_rows(named=True))


def entry_closes(decided: Decided) -> list[int]:
    """Closes (ms) of the bars at which the book decided entries that are not refused, ascending; only of bars that are new."""
    before_ms, length_ms = decided.start.state.watermark_ms, timeframe_ms(decided.start.account.timeframe)
    orders = decided.journal.orders.filter((pl.col("leg") == "entry") & (pl.col("status") != "refused"))
    closes = orders["decided_at"].dt.epoch("ms").unique().sort().to_list()
    return [close for close in closes if before_ms is None or close > before_ms + length_ms]


def equity_steps(decided: Decided) -> list[tuple[int, Decimal]]:
    """Equity at the close (ms) of each bar that is new, ascending."""
    rows = decided.journal.equity.select(pl.col("at").dt.epoch("ms"), "equity")
    return [(int(at), Decimal(equity)) for at, equity in rows.iter_rows()]


def waiting_entries(start: Start) -> list[str]:
    """Symbols with an entry order that waits for its price."""
    return start.open_orders.filter(pl.col("leg") == "entry")["symbol"].unique(maintain_order=True).to_list()


def replacement(closed: Start, symbol: str, action: str) -> Replacement:
    """What counts in place of an entry that is not let through at the bar's close that ``closed`` stands at.

    EXIT where the signal would also have closed the other side, or cancelled its waiting entry; HOLD where not.
    """
    side = 1 if action == BUY else -1
    held = held_quantities(closed).get(symbol)
    if held is not None:
        return "EXIT" if held * side < 0 else "HOLD"
    other = (pl.col("leg") == "entry") & (pl.col("symbol") == symbol) & (pl.col("side") == ("sell" if side > 0 else "buy"))
    return "HOLD" if closed.open_orders.filter(other).is_empty() else "EXIT"


def _entry(start: Start, row: Mapping[str, object], held: Mapping[str, Decimal]) -> ProposedEntry:
    """An order's row as global risk sees it. Notional: budget times leverage, what the exposure grows by, fees included.

    An order that is sized at the open that fills it has no budget yet: the most that it can become stands for it.
    """
    account, decided_at = start.account, row["decided_at"]
    rules, side, symbol = account.current.rules, 1 if row["side"] == "buy" else -1, str(row["symbol"])
    assert isinstance(decided_at, datetime)
    budget = Decimal(str(row["budget"])) if row["budget"] is not None else _equity(start) * rules.max_position_share
    return ProposedEntry(
        account=account.name,
        symbol=symbol,
        opened_at_ms=round(decided_at.timestamp() * 1000) - timeframe_ms(account.timeframe),
        side=side,
        notional=budget * rules.leverage,
        client_order_id=str(row["client_order_id"]),
        adds=held.get(symbol, Decimal(0)) * side > 0,
    )


def _equity(start: Start) -> Decimal:
    return from_units(int(start.state.account["equity"][0]), CASH_DECIMALS)


def with_terms(book: Book, changed: tuple[TermsVersion, ...]) -> Book:
    """The book with new versions of its terms, which its next commit writes."""
    account = replace(book.start.account, terms=(*book.start.account.terms, *changed))
    return Book(replace(book.start, account=account), changed, book.recent)
