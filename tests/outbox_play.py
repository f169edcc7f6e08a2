"""Markets played into `Decided`, in one piece or in many, and what the outside is told of each."""

from collections.abc import Sequence

from candlewick.account import Account, TermsVersion
from candlewick.advancing import Advanced
from candlewick.cycle import Decided, Start
from candlewick.engine.run import Advance
from candlewick.engine.state import EngineState
from candlewick.journal import Segment, write_journal
from candlewick.monitoring.events import bar_id
from candlewick.monitoring.outbox import outbox_events
from candlewick.monitoring.rows import OutboxEvent
from candlewick.rows import ORDER_ROW, frame
from tests.engine_play import Market
from tests.scenario import START_MS

ACCOUNT = "desk.BTC-USDT"


def decided_pieces(market: Market, pieces: Sequence[Advance]) -> list[Decided]:
    """The pieces as cycles of one account, each beginning where the one before ended."""
    terms = market.terms
    first = TermsVersion(1, START_MS, "drawn", {}, terms.rules, terms.instruments)
    account = Account(ACCOUNT, "sample", "1h", terms.symbols, "USDT", terms.initial_cash, START_MS, (first,))
    state: EngineState = market.opened()
    orders = frame([], ORDER_ROW)
    found = []
    for piece in pieces:
        start = Start(account, state, None, {}, {}, orders, created=False)
        segment = Segment("drawn", terms, market.signals, piece.events, piece.equity)
        journal = write_journal(ACCOUNT, [segment], piece.state, orders, state)
        found.append(Decided(start, Advanced(piece.state, (segment,), len(piece.equity), None), journal, {}, {}))
        known = {row["client_order_id"]: row for row in orders.iter_rows(named=True)}
        known |= {row["client_order_id"]: row for row in journal.orders.iter_rows(named=True)}
        orders = frame([row for row in known.values() if row["status"] == "open"], ORDER_ROW)
        state = piece.state
    return found


def correlation(symbol: str, opened_at_ms: int) -> str:
    """As a session on the sample market tells a bar."""
    return bar_id("sample", symbol, "1h", opened_at_ms)


def told_of(market: Market, pieces: Sequence[Advance], session_id: str = "session-1") -> list[OutboxEvent]:
    """The external events of all pieces, numbered from 1."""
    told: list[OutboxEvent] = []
    for decided in decided_pieces(market, pieces):
        told += outbox_events("desk", session_id, decided, correlation, len(told) + 1)
    return told
