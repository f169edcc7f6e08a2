"""What a desk holds and is about to hold, in quote currency: gross, net, by symbol and by group.

Gross exposure is the sum of what every position is worth, long or short; net exposure is long less short. The exposure in a
symbol, and in a group of symbols that move together, is gross: a short in one account does not undo a long in another.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Context, Decimal

# Wide enough for every sum and product of amounts in DECIMAL(38,18), so that no comparison with a limit is ever rounded. Even
# `abs` and unary minus round to the usual 28 digits: hence `copy_abs`.
EXACT = Context(prec=200, Emax=999_999, Emin=-999_999)
_NOTHING = Decimal(0)
Groups = Mapping[str, tuple[str, ...]]
"""Symbols by the group's name; a symbol is in one group at the most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposedEntry:
    """An entry that a book would order: what it may spend (``notional``, quote currency) on ``side`` (+1 long, -1 short).

    ``opened_at_ms`` is the open time of the bar whose close decided it; ``adds``: it adds to a position that is open.
    """

    account: str
    symbol: str
    opened_at_ms: int
    side: int
    notional: Decimal
    client_order_id: str
    adds: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Book:
    """An account of the desk at its last close: equity in quote currency, signed quantities, last closes by symbol.

    ``waiting`` are entries that are ordered and not filled yet: they count as if they were open.
    Raises ValueError for a position without a price.
    """

    account: str
    equity: Decimal
    positions: Mapping[str, Decimal]
    prices: Mapping[str, Decimal]
    waiting: tuple[ProposedEntry, ...] = ()

    def __post_init__(self) -> None:
        unpriced = sorted(symbol for symbol, quantity in self.positions.items() if quantity and symbol not in self.prices)
        if unpriced:
            raise ValueError(f"book {self.account} holds {', '.join(unpriced)} without a price")


@dataclass(slots=True)
class Exposure:
    """Running totals in quote currency; ``held``: signed value of what is open, by account and symbol."""

    groups: Groups
    gross: Decimal = _NOTHING
    net: Decimal = _NOTHING
    held: dict[tuple[str, str], Decimal] = field(default_factory=dict)
    by_symbol: dict[str, Decimal] = field(default_factory=dict)
    by_group: dict[str, Decimal] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.by_group = dict.fromkeys(self.groups, _NOTHING)

    @property
    def open_positions(self) -> int:
        """Positions that are open: a symbol that two accounts hold counts twice."""
        return len(self.held)

    def group_of(self, symbol: str) -> str | None:
        """The group that ``symbol`` is in."""
        return next((name for name, symbols in self.groups.items() if symbol in symbols), None)

    def value(self, account: str, symbol: str) -> Decimal:
        """Signed value of a position; 0 where there is none."""
        return self.held.get((account, symbol), _NOTHING)

    def value_after(self, entry: ProposedEntry) -> Decimal:
        """The position's signed value with the entry. One against an open position replaces it: exits fill before entries."""
        open_value, signed = self.value(entry.account, entry.symbol), EXACT.multiply(entry.notional, entry.side)
        return signed if open_value * entry.side < 0 else EXACT.add(open_value, signed)

    def put(self, account: str, symbol: str, value: Decimal) -> None:
        """Make ``value`` the position's signed value."""
        before = self.value(account, symbol)
        rise = EXACT.subtract(value.copy_abs(), before.copy_abs())
        self.gross = EXACT.add(self.gross, rise)
        self.net = EXACT.add(self.net, EXACT.subtract(value, before))
        self.by_symbol[symbol] = EXACT.add(self.by_symbol.get(symbol, _NOTHING), rise)
        group = self.group_of(symbol)
        if group is not None:
            self.by_group[group] = EXACT.add(self.by_group[group], rise)
        self.held[account, symbol] = value


def exposure_of(books: Sequence[Book], groups: Groups, deciding: Iterable[str] = ()) -> Exposure:
    """What the books hold at their last closes, and what waits to be filled, without the entries whose ids are ``deciding``."""
    found, undecided = Exposure(groups), frozenset(deciding)
    for book in books:
        for symbol, quantity in book.positions.items():
            if quantity:
                found.put(book.account, symbol, EXACT.multiply(quantity, book.prices[symbol]))
    for entry in (entry for book in books for entry in book.waiting if entry.client_order_id not in undecided):
        found.put(entry.account, entry.symbol, found.value_after(entry))
    return found


def equity_of(books: Sequence[Book]) -> Decimal:
    """The desk's equity in quote currency: that of its books together."""
    equity = _NOTHING
    for book in books:
        equity = EXACT.add(equity, book.equity)
    return equity
