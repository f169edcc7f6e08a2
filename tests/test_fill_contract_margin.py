"""The fill contract, a test a line: shorts, leverage, liquidation and funding. docs/fill-contract.md names them."""

from decimal import Decimal

import pytest

from candlewick.errors import UsageError
from tests.scenario import check


def test_a_short_wins_what_the_price_falls() -> None:
    played = check("""
    rules direction=both
    symbol BTC kind=margin taker_fee_bps=10
    00 BTC 100 101 99 100 SELL target_weight=0.5
    01 BTC 100 101 99 90 EXIT
    02 BTC 90 91 89 90
    =>
    01 BTC entry filled 100 x 4.995 at the open fee 0.4995
    02 BTC exit filled 90 x 4.995 at the open fee 0.44955
    """)
    assert played.cash == Decimal("1049.00095")


def test_a_short_is_sold_and_bought_back_with_slippage_and_half_the_spread_against_the_trader() -> None:
    played = check("""
    rules direction=short slippage_bps=100 spread_bps=100
    symbol BTC kind=margin
    00 BTC 100 101 99 100 SELL
    01 BTC 100 101 99 100 BUY
    02 BTC 100 101 99 100
    =>
    01 BTC entry filled 98.5 x 10.152 at the open
    02 BTC exit filled 101.5 x 10.152 at the open
    """)
    assert played.cash == Decimal("969.544")


def test_an_entry_on_margin_reserves_its_notional_over_the_leverage() -> None:
    played = check("""
    rules leverage=4
    symbol BTC kind=margin taker_fee_bps=10 max_leverage=5
    00 BTC 100 101 99 100 BUY target_weight=0.5
    01 BTC 100 101 99 110
    =>
    01 BTC entry filled 100 x 19.92 at the open fee 1.992
    """)  # a margin of 498 and a fee of 1.992 out of 500
    assert played.cash == Decimal("998.008")


def test_a_shorts_stop_lies_above_and_its_targets_below_on_the_tick_away() -> None:
    played = check("""
    rules direction=both
    symbol BTC tick=0.1 kind=margin
    00 BTC 100 101 99 100 SELL stop_loss_bps=333 take_profit_1_bps=123 take_profit_2_bps=1000
    01 BTC 200 201 199 200
    02 BTC 200 201 197.5 200
    03 BTC 199 201 198 200
    =>
    orders
    01 BTC signal entry_ordered
    01 BTC entry ordered budget 1000
    01 BTC entry filled 200 x 5 at the open
    01 BTC stop ordered 206.7 x 5
    01 BTC target_1 ordered 197.5 x 2.5
    01 BTC target_2 ordered 180 x 2.5
    02 BTC target_1 filled 197.5 x 2.5 inside the bar
    02 BTC stop moved 206.7 -> 200
    03 BTC stop filled 200 x 2.5 inside the bar
    03 BTC target_2 cancelled
    """)
    assert played.cash == Decimal("1006.25")


def test_where_only_shorts_are_traded_buy_closes() -> None:
    played = check("""
    rules direction=short
    symbol BTC kind=margin
    00 BTC 100 101 99 100 BUY
    01 BTC 100 101 99 100 SELL
    02 BTC 100 101 99 100 BUY
    03 BTC 100 101 99 100
    =>
    orders
    01 BTC signal nothing_to_sell
    02 BTC signal entry_ordered
    02 BTC entry ordered budget 1000
    02 BTC entry filled 100 x 10 at the open
    03 BTC signal exit_ordered
    03 BTC exit ordered x 10
    03 BTC exit filled 100 x 10 at the open
    """)
    assert played.cash == 1000


def test_the_exchange_liquidates_at_the_price_that_leaves_the_maintenance_margin() -> None:
    played = check("""
    rules leverage=10
    symbol BTC kind=margin max_leverage=10 maintenance_margin_share=0.01
    00 BTC 100 101 99 100 BUY
    01 BTC 100 101 91 100
    =>
    01 BTC entry filled 100 x 100 at the open
    01 BTC liquidation filled 91 x 100 inside the bar
    """)  # a margin of 10 a unit, of which 1 is kept: 100 - 9
    assert played.cash == 100


def test_a_short_is_liquidated_above_its_entry() -> None:
    played = check("""
    rules leverage=10 direction=short
    symbol BTC kind=margin max_leverage=10 maintenance_margin_share=0.01
    00 BTC 100 101 99 100 SELL
    01 BTC 100 109 91 100
    =>
    01 BTC entry filled 100 x 100 at the open
    01 BTC liquidation filled 109 x 100 inside the bar
    """)
    assert played.cash == 100


def test_a_stop_fills_before_the_liquidation_where_price_meets_it_first() -> None:
    played = check("""
    rules leverage=10
    symbol BTC kind=margin max_leverage=10 maintenance_margin_share=0.01
    symbol ETH kind=margin max_leverage=10 maintenance_margin_share=0.01
    00 BTC 100 101 99 100 BUY stop_loss=92 take_profit_1=120
    00 ETH 100 101 99 100 BUY stop_loss=90 take_profit_1=120
    01 BTC 100 101 80 100
    01 ETH 100 101 80 100
    =>
    01 BTC entry filled 100 x 50 at the open
    01 ETH entry filled 100 x 50 at the open
    01 BTC stop filled 92 x 50 inside the bar
    01 BTC target_1 cancelled
    01 ETH liquidation filled 91 x 50 inside the bar
    01 ETH stop cancelled
    01 ETH target_1 cancelled
    """)
    assert played.cash == 150


def test_a_loss_on_margin_is_its_margin_at_the_most() -> None:
    played = check("""
    rules leverage=10
    symbol BTC kind=margin max_leverage=10 taker_fee_bps=10
    00 BTC 100 101 99 100 BUY target_weight=0.5
    01 BTC 100 101 99 100
    02 BTC 50 51 49 50
    =>
    01 BTC entry filled 100 x 49.504 at the open fee 4.9504
    02 BTC liquidation filled 50 x 49.504 at the open fee 2.4752
    """)  # 49.504 x 50 was lost; the margin was 495.04
    assert played.cash == Decimal("500.0096")


def test_what_a_capped_stop_leaves_is_liquidated_when_price_falls_further() -> None:
    played = check("""
    rules leverage=10 max_volume_share=0.1
    symbol BTC kind=margin max_leverage=10 maintenance_margin_share=0.01
    00 BTC 100 101 99 100 BUY stop_loss=95 volume=10000
    01 BTC 100 101 99 100 volume=100
    02 BTC 100 101 91 100 volume=1000
    =>
    01 BTC entry filled 100 x 100 at the open
    02 BTC stop filled 95 x 10 of 100 inside the bar
    02 BTC liquidation filled 91 x 90 inside the bar
    02 BTC stop cancelled
    """)
    assert played.cash == 140


def test_longs_pay_shorts_the_rate_of_the_notional_at_the_open_and_a_negative_rate_the_other_way() -> None:
    played = check("""
    rules direction=both
    symbol BTC kind=perpetual
    symbol ETH kind=perpetual
    00 BTC 100 101 99 100 BUY
    00 ETH 100 101 99 100 SELL
    01 BTC 100 101 99 100
    01 ETH 100 101 99 100
    02 BTC 110 111 109 100
    02 ETH 110 111 109 100
    03 BTC 110 111 109 100
    03 ETH 110 111 109 100
    funding 02 BTC 0.001
    funding 02 ETH 0.001
    funding 03 BTC -0.002
    =>
    01 BTC entry filled 100 x 5 at the open
    01 ETH entry filled 100 x 5 at the open
    02 BTC funding paid 0.55
    02 ETH funding received 0.55
    03 BTC funding received 1.1
    """)
    assert played.cash == Decimal("1001.1")


def test_funding_due_at_an_open_is_paid_before_anything_fills_there_and_later_funding_after() -> None:
    played = check("""
    symbol BTC kind=perpetual
    00 BTC 100 101 99 100 BUY
    01 BTC 100 101 99 100 SELL
    02 BTC 100 101 99 100
    funding 01 BTC 0.01
    funding 01:30 BTC 0.001
    funding 02 BTC 0.001
    funding 02:30 BTC 0.001
    =>
    01 BTC entry filled 100 x 10 at the open
    01 BTC funding paid 1
    02 BTC funding paid 1
    02 BTC exit filled 100 x 10 at the open
    """)
    assert played.cash == 998


def test_funding_due_in_a_gap_is_paid_at_the_next_open() -> None:
    played = check("""
    symbol BTC kind=perpetual
    00 BTC 100 101 99 100 BUY
    01 BTC 100 101 99 100
    05 BTC 120 121 119 120
    funding 03 BTC 0.001
    funding 04 BTC 0.002
    =>
    01 BTC entry filled 100 x 10 at the open
    03 BTC funding paid 1.2
    04 BTC funding paid 2.4
    """)
    assert played.cash == Decimal("996.4")


def test_funding_that_free_cash_cannot_pay_comes_out_of_the_margin() -> None:
    played = check("""
    rules leverage=10
    symbol BTC kind=perpetual max_leverage=10 maintenance_margin_share=0.01
    00 BTC 100 101 99 100 BUY
    01 BTC 100 101 99 100
    02 BTC 100 101 96 100
    funding 01:30 BTC 0.05
    =>
    01 BTC entry filled 100 x 100 at the open
    01 BTC funding paid 500
    02 BTC liquidation filled 96 x 100 inside the bar
    """)  # 1000 - 500 of margin, 100 kept: liquidated 4 below the entry
    assert played.cash == 100


def test_funding_that_leaves_too_little_margin_liquidates_at_the_open() -> None:
    played = check("""
    rules leverage=10
    symbol BTC kind=perpetual max_leverage=10 maintenance_margin_share=0.01
    00 BTC 100 101 99 100 BUY
    01 BTC 100 101 99 100
    funding 01:30 BTC 0.095
    =>
    01 BTC entry filled 100 x 100 at the open
    01 BTC funding paid 950
    01 BTC liquidation filled 100 x 100 at the open
    """)
    assert played.cash == 50


@pytest.mark.parametrize(
    ("symbol", "rules", "text"),
    [
        ("kind=spot", "direction=both", "cannot be sold short"),
        ("kind=spot", "leverage=2", "must be 1"),
        ("kind=margin max_leverage=5", "leverage=10", "the exchange allows 5"),
        ("kind=margin max_leverage=50 maintenance_margin_share=0.02", "leverage=50", "liquidated at its entry"),
    ],
)
def test_rules_that_an_instrument_does_not_allow_are_refused(symbol: str, rules: str, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        check(f"""
        rules {rules}
        symbol BTC {symbol}
        00 BTC 100 101 99 100
        =>
        """)
