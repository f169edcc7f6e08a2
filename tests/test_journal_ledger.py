"""Random markets of every kind, written into a real ledger in pieces: its invariants hold, and it holds what one journal says."""

import json
from itertools import cycle
from pathlib import Path
from random import Random

import polars as pl
import pytest

from candlewick.account import Account, TermsVersion
from candlewick.cycle import opening_rows
from candlewick.engine.run import Advance
from candlewick.engine.state import EngineState
from candlewick.journal import Journal, Segment, write_journal
from candlewick.rows import CHECKPOINT_ROW, ORDER_ROW, RUN_ROW, frame
from candlewick.store.database import Database
from candlewick.store.ledger import CycleWrite, Ledger
from tests.engine_play import Market, play, play_in_pieces
from tests.ledger_rows import NOW
from tests.random_markets import any_market
from tests.scenario import START_MS

ACCOUNT = "demo"


def journal_of(market: Market, moved: Advance, open_orders: pl.DataFrame, before: EngineState | None) -> Journal:
    segment = Segment("drawn", market.terms, market.signals, moved.events, moved.equity)
    return write_journal(ACCOUNT, [segment], moved.state, open_orders, before)


def cycle_of(market: Market, journal: Journal, moved: Advance, version: int) -> CycleWrite:
    """The commit of one piece, as a cycle's."""
    terms = market.terms
    first = TermsVersion(1, START_MS, "drawn", {}, terms.rules, terms.instruments)
    account = Account(ACCOUNT, "sample", "1h", terms.symbols, "USDT", terms.initial_cash, START_MS, (first,))
    account_row, terms_row, deposit = opening_rows(account)
    run = f"{ACCOUNT}-{version}"
    watermark = moved.state.watermark_ms
    known = {"account": ACCOUNT, "watermark_at": watermark, "candle_digests": "{}"}
    checkpoint = {**known, "version": version, "seen": "{}", "state": json.dumps(moved.state.to_document())}
    ran = {**known, "run_id": run, "correlation_id": run, "status": "success", "started_at": START_MS, "completed_at": START_MS}
    ran |= {"bars": len(moved.equity), "code_version": "test", "durations_s": "{}", "notices": "[]"}
    opening = {"account_row": account_row, "terms": terms_row} if version == 1 else {}
    return CycleWrite(
        account=ACCOUNT,
        expected_version=None if version == 1 else version - 1,
        run_id=run,
        recorded_at=NOW,
        checkpoint=frame([checkpoint], CHECKPOINT_ROW),
        positions=journal.positions,
        runs=frame([ran], RUN_ROW),
        signals=journal.signals,
        orders=journal.orders,
        fills=journal.fills,
        postings=pl.concat([deposit, journal.postings]) if version == 1 else journal.postings,
        equity=journal.equity,
        events=journal.events,
        **opening,
    )


# 338: funding that was due inside the last bar of a cycle.
@pytest.mark.parametrize("seed", [*range(100, 115), 338])
def test_any_market_in_pieces_leaves_a_ledger_whose_invariants_hold(seed: int, tmp_path: Path) -> None:
    market, draw = any_market(seed), Random(seed)
    ledger = Ledger(Database(str(tmp_path / "ledger.duckdb")))
    before: EngineState | None = None
    open_orders = frame([], ORDER_ROW)
    lengths, early = [draw.randint(5, 40) for _ in range(4)], [draw.random() < 0.5 for _ in range(3)]
    for version, piece in enumerate(play_in_pieces(market, cycle(lengths), cycle(early)), 1):
        ledger.commit_cycle(cycle_of(market, journal_of(market, piece, open_orders, before), piece, version))
        loaded = ledger.load_account(ACCOUNT)
        assert loaded is not None
        before, open_orders = piece.state, loaded.open_orders
    ledger.check(ACCOUNT)
    whole = journal_of(market, play(market), frame([], ORDER_ROW), None)
    rows = ledger.export_rows(ACCOUNT)
    for table in ("signals", "orders", "fills", "postings", "positions"):
        told: pl.DataFrame = getattr(whole, table)
        columns = told.columns
        kept = rows[table].select(columns).sort(columns)
        if table == "postings":
            kept = kept.filter(pl.col("transaction_id") != f"{ACCOUNT}-deposit")
        assert kept.equals(told.sort(columns)), table
