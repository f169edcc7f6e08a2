"""Trades of either side against arithmetic done by hand, and against another engine's list of trades."""

from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from candlewick.trades import closed_trades, pair_trades
from tests.deals import START, Deal, deals, payments

X = "X/USDT:USDT"
SHORT: tuple[Deal, Deal] = ((X, "sell", "entry", "2", "100", "0.2", 0), (X, "buy", "exit", "2", "90", "0.18", 9))


def test_a_short_earns_what_it_sold_for_less_what_it_bought_back_for_less_fees() -> None:
    trade = closed_trades(deals(*SHORT)).row(0, named=True)
    assert (trade["side"], trade["cost"], trade["fees"]) == ("short", Decimal(200), Decimal("0.38"))
    assert trade["pnl"] == Decimal("19.62")
    assert trade["return_share"] == Decimal("0.0981")
    assert (trade["entry_price"], trade["exit_price"]) == (Decimal(100), Decimal(90))


def test_a_short_that_rises_loses() -> None:
    trade = closed_trades(deals(SHORT[0], (X, "buy", "stop", "2", "110", "0.22", 1))).row(0, named=True)
    assert trade["pnl"] == Decimal("-20.42")


def test_entries_that_add_up_and_exits_in_parts_are_one_trade_at_average_prices() -> None:
    fills = deals(
        (X, "buy", "entry", "1", "100", "0.1", 0),
        (X, "buy", "entry", "3", "120", "0.36", 1),
        (X, "sell", "target_1", "2", "130", "0.26", 2),
        (X, "buy", "entry", "1", "125", "0.125", 3),
        (X, "sell", "time_stop", "3", "110", "0.33", 4),
    )
    trades = closed_trades(fills)
    trade = trades.row(0, named=True)
    assert trades.height == 1
    assert (trade["quantity"], trade["open_quantity"], trade["cost"]) == (Decimal(5), Decimal(0), Decimal(585))
    assert (trade["entry_price"], trade["exit_price"]) == (Decimal(117), Decimal(118))
    assert trade["pnl"] == Decimal("3.825")  # 590 - 585 - 1.175
    assert trade["entry_order"] == "o0"
    assert trade["exit_legs"] == ["target_1", "time_stop"]


def test_a_reversal_is_the_end_of_one_trade_and_the_beginning_of_another_at_the_same_time() -> None:
    fills = deals(
        (X, "buy", "entry", "1", "100", "0", 0),
        (X, "sell", "exit", "1", "105", "0", 5),
        (X, "sell", "entry", "2", "105", "0", 5),
        (X, "buy", "exit", "2", "101", "0", 8),
    )
    trades = pair_trades(fills)
    assert trades["side"].to_list() == ["long", "short"]
    assert trades["pnl"].to_list() == [Decimal(5), Decimal(8)]
    assert trades["closed_at"][0] == trades["opened_at"][1] == START + timedelta(hours=5)


def test_a_liquidation_closes_the_trade_and_costs_the_margin_at_the_most() -> None:
    """Bought for 200 on a margin of 20, liquidated at 170 in a gap: the exchange bears the loss beyond the margin."""
    fills = deals((X, "buy", "entry", "2", "100", "0.2", 0), (X, "sell", "liquidation", "2", "85", "0.17", 3), realized=["-20.2"])
    trade = closed_trades(fills, payments((X, "-0.3", 2))).row(0, named=True)
    assert trade["pnl"] == Decimal("-20.5")
    assert trade["exit_legs"] == ["liquidation"]


def test_funding_belongs_to_the_trade_that_was_open_when_it_was_due() -> None:
    fills = deals(
        *SHORT,
        (X, "buy", "entry", "1", "90", "0", 16),
        ("Y/USDT:USDT", "buy", "entry", "1", "10", "0", 2),
    )
    paid = payments((X, "0.02", 8), (X, "-0.05", 24), (X, "0.01", 1), ("Y/USDT:USDT", "-0.3", 8))
    trades = pair_trades(fills, paid)
    assert trades["funding"].to_list() == [Decimal("0.03"), Decimal("-0.05"), Decimal("-0.3")]
    assert trades["pnl"].to_list() == [Decimal("19.65"), None, None]
    assert trades["return_share"][0] == Decimal("0.09825")


def test_funding_due_at_a_bars_open_meets_the_position_before_that_opens_fills() -> None:
    fills = deals(SHORT[0], (X, "buy", "exit", "2", "90", "0.18", 8), (X, "buy", "entry", "1", "90", "0", 8))
    assert pair_trades(fills, payments((X, "0.02", 8)))["funding"].to_list() == [Decimal("0.02"), Decimal(0)]


def test_funding_due_inside_a_bar_belongs_to_a_trade_that_ended_later_in_that_bar() -> None:
    fills = deals(SHORT[0], (X, "buy", "stop", "2", "110", "0.22", 6), (X, "buy", "entry", "1", "90", "0", 12), phase="intrabar")
    assert pair_trades(fills, payments((X, "0.02", 8)))["funding"].to_list() == [Decimal("0.02"), Decimal(0)]


def test_the_accounts_own_order_of_events_decides_whose_funding_it_was() -> None:
    """A stop and a new entry inside the same long bar: times alone cannot tell which trade was open at hour 8."""
    fills = deals(SHORT[0], (X, "buy", "stop", "2", "110", "0.22", 6), (X, "buy", "entry", "1", "90", "0", 6), phase="intrabar")
    numbered = fills.with_columns(sequence=fills["sequence"] * 10)
    paid = payments((X, "0.02", 8))
    assert pair_trades(numbered, paid.with_columns(sequence=5))["funding"].to_list() == [Decimal("0.02"), Decimal(0)]
    assert pair_trades(numbered, paid.with_columns(sequence=25))["funding"].to_list() == [Decimal(0), Decimal("0.02")]


@pytest.mark.parametrize("hour", [-1, 10])
def test_a_payment_without_a_position_is_an_error_in_the_rows(hour: int) -> None:
    with pytest.raises(ValueError, match=r"funding of 1.* for X/USDT:USDT at .*: no position was open"):
        pair_trades(deals(*SHORT), payments((X, "1", hour)))


@pytest.mark.parametrize(
    ("fill", "text"),
    [
        ((X, "buy", "exit", "3", "90", "0", 1), "buys 3.* 2.* are short"),
        ((X, "sell", "exit", "1", "90", "0", 1), "sells 1.* 2.* are short"),
        ((X, "buy", "entry", "1", "90", "0", 1), "enters X/USDT:USDT by a buy while 2.* are short"),
    ],
)
def test_fills_that_contradict_the_position_are_refused(fill: Deal, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        pair_trades(deals(SHORT[0], fill))


def test_an_exit_without_a_position_is_refused() -> None:
    with pytest.raises(ValueError, match=r"o0: sells 1.*, 0 are held"):
        pair_trades(deals((X, "sell", "exit", "1", "90", "0", 0)))


def test_no_fills_and_no_payments_are_no_trades() -> None:
    assert pair_trades(deals(), payments()).is_empty()


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.booleans(), st.integers(1, 9), st.integers(1, 200), st.integers(0, 5), st.booleans()), max_size=40),
)
def test_all_closed_trades_together_gained_what_came_into_the_cash(steps: list[tuple[bool, int, int, int, bool]]) -> None:
    """Random entries, additions, partial exits and reversals; at last everything is closed at 50."""
    rows: list[Deal] = []
    held, cash = 0, Decimal(0)
    for hour, (buys, quantity, price, fee, reduces) in enumerate([*steps, (True, 0, 50, 1, True)]):
        size = quantity or abs(held)
        if reduces and held:
            size, buys = min(size, abs(held)), held < 0
        elif held and buys != (held > 0):
            continue
        if size:
            leg = "exit" if reduces and held else "entry"
            rows.append((X, "buy" if buys else "sell", leg, str(size), str(price), str(fee), hour))
            held += size if buys else -size
            cash -= (size if buys else -size) * price + fee
    trades = pair_trades(deals(*rows))
    assert sum(trades["pnl"].to_list(), Decimal(0)) == cash
    assert trades["closed_at"].null_count() == 0
