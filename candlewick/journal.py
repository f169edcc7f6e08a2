"""The journal: the engine's events become rows of the ledger, with the columns of candlewick/store/migrations.py.

Bookkeeping columns (`run_id`, `posted_at`, `recorded_at`) are not part of it: the store adds them as it writes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

import numpy as np
import polars as pl

from candlewick.amounts import amount_column, from_units
from candlewick.candles import opened_at_ms
from candlewick.engine.grids import price_units
from candlewick.engine.layout import CASH_DECIMALS, Form, Kind, Leg
from candlewick.engine.state import EngineState
from candlewick.engine.terms import Records, Terms, price_decimals, quantity_decimals
from candlewick.identity import funding_id, signal_id
from candlewick.journal_events import (
    KIND_NAMES,
    LEG_NAMES,
    OUTCOME_NAMES,
    PHASE_NAMES,
    POSITION_SIDE_NAMES,
    SIDE_NAMES,
    Event,
    EventReader,
)
from candlewick.journal_orders import OrderBook, entered_at
from candlewick.rows import POSITION_ROW, POSTING_ROW, SIGNAL_ROW, TEXT, TIME, Value, frame
from candlewick.timeframes import timeframe_ms

Integers = np.ndarray[tuple[int], np.dtype[np.int64]]
_FILL_LEGS = ["assets:position", "market", "assets:cash", "market", "expenses:fees"]
_SIGNAL_PRICES = ("entry", "stop_loss", "take_profit_1", "take_profit_2")


@dataclass(frozen=True, slots=True)
class Journal:
    """Rows by table, in the order of their sequence; without bookkeeping columns."""

    signals: pl.DataFrame
    orders: pl.DataFrame
    fills: pl.DataFrame
    postings: pl.DataFrame
    positions: pl.DataFrame
    equity: pl.DataFrame
    events: pl.DataFrame


@dataclass(frozen=True, slots=True)
class Segment:
    """What the engine did under one version of the terms; ``signals`` are the completed frames by symbol of that version."""

    strategy: str
    terms: Terms
    signals: Mapping[str, pl.DataFrame]
    events: Records
    equity: Records


@dataclass(slots=True)
class _Told:
    """What is said of one segment's events while they are read in their order; the amounts are taken by the column."""

    documents: list[str] = field(default_factory=list)
    fill_ids: list[str] = field(default_factory=list)
    fill_reasons: list[str] = field(default_factory=list)


def write_journal(
    account: str, segments: Sequence[Segment], state: EngineState, open_orders: pl.DataFrame, before: EngineState | None = None
) -> Journal:
    """Rows for what happened. ``segments`` in their order in time, ``state`` the state after the last.

    ``open_orders``: the ledger's order rows that were open before, which events may now close; ``before``: the state they belong
    to, None for an account's first.
    """
    book = OrderBook.of(open_orders, entered_at(segments[0].terms.symbols, before))
    rows = [_segment_rows(EventReader(account, one.strategy, one.terms, book.ids()), book, one) for one in segments]
    signals, fills, postings, events = (pl.concat(parts) for parts in zip(*rows, strict=True))
    return Journal(
        signals=signals,
        orders=book.frame(),
        fills=fills,
        postings=postings,
        positions=_position_rows(account, segments[-1].terms, state),
        equity=_equity_rows(account, np.concatenate([segment.equity for segment in segments])),
        events=events,
    )


def opening_postings(account: str, quote: str, cash: Decimal, anchor_ms: int) -> pl.DataFrame:
    """The deposit that an account starts with: one balanced transaction."""
    transaction = f"{account}-deposit"
    legs = (("assets:cash", cash), ("equity:deposits", -cash))
    rows: list[dict[str, Value]] = [
        {
            "posting_id": f"{transaction}-{number}",
            "account": account,
            "transaction_id": transaction,
            "ledger_account": name,
            "asset": quote,
            "amount": amount,
            "market_at": anchor_ms,
        }
        for number, (name, amount) in enumerate(legs, 1)
    ]
    return frame(rows, POSTING_ROW)


def _segment_rows(
    reader: EventReader, book: OrderBook, segment: Segment
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Signals, fills, postings and events of one segment; its orders go into the book."""
    told = _read(reader, book, segment.events)
    filled = segment.events[segment.events["kind"] == Kind.FILL]
    return (
        _signal_rows(reader, segment),
        _fill_rows(reader, filled, told),
        _posting_rows(reader, segment.events, told),
        _event_rows(reader, segment.events, told),
    )


def _read(reader: EventReader, book: OrderBook, events: Records) -> _Told:
    told = _Told()
    for values in events.tolist():
        event = Event._make(values)
        filled = book.apply(reader, event)
        if filled is not None:
            told.fill_ids.append(filled[0])
            told.fill_reasons.append(filled[1])
        told.documents.append(reader.document(event))
    return told


def _event_rows(reader: EventReader, events: Records, told: _Told) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "account": _same(reader.account, len(events)),
            "sequence": events["sequence"],
            "at": _times(events["at"]),
            "kind": _named(events["kind"], KIND_NAMES),
            "symbol": _named(events["symbol"], dict(enumerate(reader.terms.symbols))),
            "document": pl.Series(told.documents, dtype=TEXT),
        }
    )


def _fill_rows(reader: EventReader, filled: Records, told: _Told) -> pl.DataFrame:
    prices, quantities = _decimals(reader.price_decimals, filled), _decimals(reader.quantity_decimals, filled)
    entering = filled["leg"] == Leg.ENTRY
    return pl.DataFrame(
        {
            "fill_id": pl.Series(told.fill_ids, dtype=TEXT),
            "account": _same(reader.account, len(filled)),
            "symbol": _named(filled["symbol"], dict(enumerate(reader.terms.symbols))),
            "client_order_id": pl.Series([fill_id.rpartition(".")[0] for fill_id in told.fill_ids], dtype=TEXT),
            "sequence": filled["sequence"],
            "leg": _named(filled["leg"], LEG_NAMES),
            "side": _named(filled["side"], SIDE_NAMES),
            "bar_opened_at": _times(filled["at"]),
            "phase": _named(filled["phase"], PHASE_NAMES),
            "reference_price": amount_column(filled["reference_price"], prices),
            "price": amount_column(filled["price"], prices),
            "quantity": amount_column(filled["quantity"], quantities),
            "notional": amount_column(filled["notional"], CASH_DECIMALS),
            "fee": amount_column(filled["fee"], CASH_DECIMALS),
            "realized_pnl": amount_column(filled["realized"], CASH_DECIMALS, ~entering),
            "reason": pl.Series(told.fill_reasons, dtype=TEXT),
            "position_side": _named(filled["position_side"], POSITION_SIDE_NAMES),
        }
    )


def _posting_rows(reader: EventReader, events: Records, told: _Told) -> pl.DataFrame:
    """The postings of fills and funding payments, in the order in which they happened."""
    fills, payments = events[events["kind"] == Kind.FILL], events[events["kind"] == Kind.FUNDING]
    if not len(payments):
        return _fill_postings(reader, fills, told)
    sequence = pl.concat([pl.Series("sequence", np.repeat(fills["sequence"], 5)), pl.Series(np.repeat(payments["sequence"], 2))])
    rows = pl.concat([_fill_postings(reader, fills, told), _funding_postings(reader, payments)])
    return rows.with_columns(sequence.alias("sequence")).sort("sequence", maintain_order=True).drop("sequence")


def _fill_postings(reader: EventReader, filled: Records, told: _Told) -> pl.DataFrame:
    """Five postings a fill: the position against the market, and what comes into the cash against the market and the fees.

    A fill on margin settles only what was won or lost with it; the margin stays in the cash, reserved.
    """
    quantity, settled, fee = filled["side"] * filled["quantity"], filled["settled"], filled["fee"]
    amounts = np.stack([quantity, -quantity, settled - fee, -settled, fee], axis=1)
    cash = np.full(len(filled), CASH_DECIMALS)
    quantities = _decimals(reader.quantity_decimals, filled)
    decimals = np.stack([quantities, quantities, cash, cash, cash], axis=1)
    bases = [reader.terms.instruments[symbol].base for symbol in filled["symbol"].tolist()]
    return _postings(
        reader,
        [fill_id for fill_id in told.fill_ids for _ in range(5)],
        _FILL_LEGS * len(filled),
        [asset for base in bases for asset in (base, base, *[reader.quote] * 3)],
        amount_column(amounts.ravel(), decimals.ravel()),
        np.repeat(filled["at"], 5),
    )


def _funding_postings(reader: EventReader, payments: Records) -> pl.DataFrame:
    """Two postings a payment: what comes into the cash, and the same as funding paid or received."""
    symbols = [reader.terms.symbols[symbol] for symbol in payments["symbol"].tolist()]
    ids = [funding_id(reader.account, symbol, at) for symbol, at in zip(symbols, payments["at"].tolist(), strict=True)]
    amounts: Integers = np.stack([payments["settled"], -payments["settled"]], axis=1).ravel()
    return _postings(
        reader,
        [one for one in ids for _ in range(2)],
        ["assets:cash", "expenses:funding"] * len(ids),
        [reader.quote] * (2 * len(ids)),
        amount_column(amounts, CASH_DECIMALS),
        np.repeat(payments["at"], 2),
    )


def _postings(
    reader: EventReader, transactions: list[str], accounts: list[str], assets: list[str], amounts: pl.Series, at: Integers
) -> pl.DataFrame:
    """Rows of POSTING_ROW; those of one transaction lie together and are numbered from 1."""
    number = 0
    ids = []
    for before, transaction in zip(["", *transactions], transactions, strict=False):
        number = number + 1 if before == transaction else 1
        ids.append(f"{transaction}-{number}")
    return pl.DataFrame(
        {
            "posting_id": pl.Series(ids, dtype=TEXT),
            "account": _same(reader.account, len(ids)),
            "transaction_id": pl.Series(transactions, dtype=TEXT),
            "ledger_account": pl.Series(accounts, dtype=TEXT),
            "asset": pl.Series(assets, dtype=TEXT),
            "amount": amounts,
            "market_at": _times(at),
        }
    )


def _signal_rows(reader: EventReader, segment: Segment) -> pl.DataFrame:
    """The strategy's own rows of those bars whose signal the engine acted on, in the order in which it did."""
    acted = segment.events[segment.events["kind"] == Kind.SIGNAL]
    if not len(acted):
        return frame([], SIGNAL_ROW)
    rows = [
        _signals_of(reader, segment, acted[acted["symbol"] == number], number) for number in np.unique(acted["symbol"]).tolist()
    ]
    return pl.concat(rows).sort("sequence").drop("sequence")


def _signals_of(reader: EventReader, segment: Segment, acted: Records, number: int) -> pl.DataFrame:
    symbol, signals = reader.terms.symbols[number], segment.signals[reader.terms.symbols[number]]
    opened_at = acted["at"] - timeframe_ms(segment.terms.timeframe)
    said = signals[np.searchsorted(opened_at_ms(signals), opened_at)]
    prices = {name: _said_amounts(said[name], reader.price_decimals[number], symbol) for name in _SIGNAL_PRICES}
    return pl.DataFrame(
        {
            "signal_id": pl.Series([signal_id(reader.account, symbol, at) for at in acted["at"].tolist()], dtype=TEXT),
            "account": _same(reader.account, len(acted)),
            "symbol": _same(symbol, len(acted)),
            "bar_opened_at": _times(opened_at),
            "decided_at": _times(acted["at"]),
            "action": said["action"],
            **prices,
            "target_weight": _said_amounts(said["target_weight"], CASH_DECIMALS, symbol),
            "reason": said["reason"],
            "outcome": _named(acted["outcome"], OUTCOME_NAMES),
            "sequence": acted["sequence"],
        }
    )


def _said_amounts(numbers: pl.Series, decimals: int, symbol: str) -> pl.Series:
    """A strategy's floats as the engine reads them, null where it said nothing."""
    known = numbers.is_not_null()
    return amount_column(price_units(numbers.fill_null(0.0).to_numpy(), decimals, symbol), decimals, known.to_numpy())


def _position_rows(account: str, terms: Terms, state: EngineState) -> pl.DataFrame:
    rows: list[dict[str, Value]] = []
    for instrument, position in zip(terms.instruments, state.positions, strict=True):
        if position["quantity"] == 0:
            continue
        prices, quantities = price_decimals(instrument), quantity_decimals(instrument)
        names = ("entry_price", "last_price", "stop", "target_1", "target_2", "liquidation")
        level = {name: from_units(int(position[name]), prices) for name in names}
        rows.append(
            {
                "account": account,
                "symbol": instrument.symbol,
                "quantity": from_units(int(position["quantity"]), quantities),
                "entry_price": level["entry_price"],
                "cost": from_units(int(position["cost"]), CASH_DECIMALS),
                "stop_loss": level["stop"] or None,
                "take_profit_1": level["target_1"] or None,
                "take_profit_2": level["target_2"] or None,
                "last_price": level["last_price"],
                "opened_at": int(position["opened_at"]),
                "side": POSITION_SIDE_NAMES[int(position["side"])],
                "margin": from_units(int(position["margin"]), CASH_DECIMALS) if instrument.kind != "spot" else None,
                "liquidation_price": level["liquidation"] or None,
                "trailing_stop": level["stop"] if position["trail_form"] != Form.NONE else None,
            }
        )
    return frame(rows, POSITION_ROW)


def _equity_rows(account: str, equity: Records) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "account": _same(account, len(equity)),
            "at": _times(equity["at"]),
            **{name: amount_column(equity[name], CASH_DECIMALS) for name in ("equity", "cash", "position_value")},
            "drawdown_share": amount_column(equity["drawdown"], CASH_DECIMALS),
            "open_positions": equity["open_positions"].astype(np.int32),
        }
    )


def _decimals(by_symbol: tuple[int, ...], events: Records) -> Integers:
    """The grid of each event's symbol, int64 (events,)."""
    return np.array(by_symbol, dtype=np.int64).take(events["symbol"])


def _same(text: str, rows: int) -> pl.Series:
    return pl.Series([text], dtype=TEXT).new_from_index(0, rows)


def _named(codes: Integers, names: Mapping[int, str]) -> pl.Series:
    """The name of each code, null where it has none (events of the account as a whole have no symbol)."""
    return pl.Series([names.get(code) for code in codes.tolist()], dtype=TEXT)


def _times(times_ms: Integers) -> pl.Series:
    return pl.Series(times_ms, dtype=pl.Int64).cast(pl.Datetime("ms", "UTC")).cast(TIME)
