"""How an account moves: it waits for its slowest symbol, fills at a forming bar's open, and is none the worse for late cycles."""

from dataclasses import replace
from decimal import Decimal
from itertools import count
from random import Random

import polars as pl
import pytest
from hypothesis import example, given, settings

from candlewick.account import Account, TermsVersion
from candlewick.advancing import Advanced, Frames, advance_account, common_watermark
from candlewick.candles import FormingBar
from candlewick.engine.run import advance, advance_open
from candlewick.engine.state import EngineState, open_state
from candlewick.journal import write_journal
from candlewick.rows import ORDER_ROW, frame
from tests.engine_play import Market, play, stored
from tests.random_markets import SEEDS, random_market
from tests.scenario import HOUR_MS, START_MS, parse

TWO_SYMBOLS = """
symbol BTC
symbol ETH
00 BTC 100 101 99 100 BUY
00 ETH 10 11 9 10
01 BTC 102 103 101 102
01 ETH 10 11 9 10
"""


def account_of(market: Market, *later: TermsVersion) -> Account:
    terms = market.terms
    first = TermsVersion(1, START_MS, "first", {}, terms.rules, terms.instruments)
    return Account("demo", "sample", "1h", terms.symbols, "USDT", terms.initial_cash, START_MS, (first, *later))


def opened(market: Market) -> EngineState:
    return open_state(market.terms.initial_cash, len(market.terms.instruments))


def move(
    account: Account, state: EngineState, market: Market, last_hours: dict[str, int], forming: dict[str, FormingBar | None]
) -> Advanced:
    """One cycle that sees each symbol's candles up to, and without, an hour of its own."""
    candles, signals = ({s: known(one[s], last_hours[s]) for s in one} for one in (market.candles, market.signals))
    versions: dict[int, Frames] = {terms.version: signals for terms in account.terms}
    return advance_account(account, state, candles, versions, common_watermark(candles), forming)


def known(frame: pl.DataFrame, hours: int) -> pl.DataFrame:
    return frame.filter(pl.col("opened_at").dt.epoch("ms") < START_MS + hours * HOUR_MS)


def shown_bar(candles: pl.DataFrame, hour: int) -> FormingBar | None:
    """The bar of that hour while it is forming, if it will have traded."""
    opened_at_ms = START_MS + hour * HOUR_MS
    found = candles.filter(pl.col("opened_at").dt.epoch("ms") == opened_at_ms)
    return FormingBar(opened_at_ms, float(found["open"][0])) if found.height else None


def all_events(moved: Advanced) -> list[tuple[int, ...]]:
    return [event for segment in moved.segments for event in segment.events.tolist()]


def test_the_account_waits_for_its_slowest_symbol() -> None:
    market = parse(TWO_SYMBOLS)
    waiting = move(account_of(market), opened(market), market, {"BTC": 2, "ETH": 1}, {})
    assert waiting.state.watermark_ms == START_MS
    assert waiting.bars == 1
    assert common_watermark({"BTC": market.candles["BTC"], "ETH": known(market.candles["ETH"], 0)}) is None


def test_an_order_fills_at_the_open_of_the_bar_that_is_still_forming() -> None:
    market = parse(TWO_SYMBOLS)
    hours = {"BTC": 1, "ETH": 1}
    early = move(account_of(market), opened(market), market, hours, {"BTC": shown_bar(market.candles["BTC"], 1)})
    assert early.state.watermark_ms == START_MS
    assert early.state.opened_ms == START_MS + HOUR_MS
    assert early.state.positions["quantity"][0] > 0
    assert early.opened == (START_MS + HOUR_MS, {"BTC": 102.0})
    late = move(account_of(market), opened(market), market, hours, {"BTC": None})
    assert late.opened is None
    assert late.state.positions["quantity"][0] == 0


def test_the_forming_bars_open_is_left_alone_until_every_symbol_that_could_act_shows_one() -> None:
    text = TWO_SYMBOLS.replace("00 ETH 10 11 9 10", "00 ETH 10 11 9 10 BUY")
    market = parse(text)
    moved = move(
        account_of(market),
        opened(market),
        market,
        {"BTC": 1, "ETH": 1},
        {"BTC": shown_bar(market.candles["BTC"], 1), "ETH": None},
    )
    assert moved.opened is None
    assert moved.state.opened_ms == START_MS


@settings(deadline=None, max_examples=80)
@given(SEEDS)
@example(35165)  # candles that end before the watermark once opened an old bar again
def test_late_lagging_and_early_cycles_end_where_one_long_cycle_does(seed: int) -> None:
    draw, market = Random(seed), random_market(seed)
    account, state = account_of(market), opened(market)
    events: list[tuple[int, ...]] = []
    for hour in count(1, draw.choice([1, 1, 2, 7])):
        lagging = {symbol: hour - draw.choice([0, 0, 0, 1, 2]) for symbol in market.candles}
        forming = {symbol: shown_bar(candles, hour) for symbol, candles in market.candles.items() if draw.random() < 0.7}
        moved = move(account, state, market, lagging, forming)
        state, events = stored(moved.state), events + all_events(moved)
        if hour > 100:
            break
    whole = move(account, opened(market), market, dict.fromkeys(market.candles, 200), {})
    last = move(account, state, market, dict.fromkeys(market.candles, 200), {})
    assert events + all_events(last) == all_events(whole)
    assert last.state.to_document() == whole.state.to_document()


def test_a_cycle_that_sees_less_than_an_earlier_one_changes_nothing() -> None:
    market = parse(TWO_SYMBOLS)
    account = account_of(market)
    before = move(account, opened(market), market, {"BTC": 2, "ETH": 2}, {})
    after = move(account, before.state, market, {"BTC": 1, "ETH": 1}, {"BTC": shown_bar(market.candles["BTC"], 1)})
    assert all_events(after) == []
    assert after.state.to_document() == before.state.to_document()


def test_a_bar_is_never_processed_twice() -> None:
    market = parse(TWO_SYMBOLS)
    done = play(market)
    with pytest.raises(AssertionError, match="processed before"):
        advance(done.state, market.terms, market.input())
    assert len(advance_open(done.state, market.terms, START_MS, market.input().market.prices[:, 0, 0]).events) == 0


def test_new_terms_act_from_the_first_bar_that_opens_when_they_say() -> None:
    market = parse("""
    symbol BTC
    00 BTC 100 101 99 100 BUY
    01 BTC 100 101 99 100
    02 BTC 100 101 99 100 SELL
    03 BTC 100 101 99 100
    """)
    rules = replace(market.terms.rules, slippage_bps=Decimal(100))
    later = TermsVersion(2, START_MS + 3 * HOUR_MS, "second", {}, rules, market.terms.instruments)
    whole = move(account_of(market, later), opened(market), market, {"BTC": 9}, {})
    prices = [int(price) / 1e8 for segment in whole.segments for price in segment.events["price"][segment.events["phase"] > 0]]
    assert prices == [100.0, 99.0]
    assert [len(segment.equity) for segment in whole.segments] == [3, 1]


def test_an_order_keeps_its_id_when_the_strategy_changes_before_it_fills() -> None:
    market = parse("""
    symbol BTC
    00 BTC 100 101 99 100 BUY stop_loss=90 take_profit_1=120
    01 BTC 100 101 99 100
    02 BTC 100 101 89 100
    """)
    later = TermsVersion(2, START_MS + 2 * HOUR_MS, "second", {}, market.terms.rules, market.terms.instruments)
    account = account_of(market, later)
    whole = move(account, opened(market), market, {"BTC": 9}, {})
    journal = write_journal("demo", whole.segments, whole.state, frame([], ORDER_ROW))
    assert journal.orders["status"].to_list() == ["filled", "filled", "cancelled"]
    first = move(account, opened(market), market, {"BTC": 2}, {})
    before = write_journal("demo", first.segments, first.state, frame([], ORDER_ROW))
    second = move(account, first.state, market, {"BTC": 9}, {})
    after = write_journal("demo", second.segments, second.state, before.orders.filter(pl.col("status") == "open"))
    assert after.orders.rows() == journal.orders.rows()[1:]


def test_an_account_without_news_has_one_empty_segment() -> None:
    market = parse(TWO_SYMBOLS)
    account = account_of(market)
    whole = move(account, opened(market), market, {"BTC": 9, "ETH": 9}, {})
    again = move(account, whole.state, market, {"BTC": 9, "ETH": 9}, {})
    assert again.bars == 0
    assert again.state.to_document() == whole.state.to_document()
    journal = write_journal("demo", again.segments, again.state, frame([], ORDER_ROW))
    assert journal.events.height == journal.equity.height == 0
    assert journal.positions.height == 1


def test_the_engine_changes_nothing_in_the_state_it_is_given() -> None:
    market = parse(TWO_SYMBOLS)
    state = opened(market)
    before = state.to_document()
    advance(state, market.terms, market.input())
    assert state.to_document() == before
