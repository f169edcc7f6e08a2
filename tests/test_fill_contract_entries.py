"""The fill contract, a test a line: limit and stop entries, additions and reversals. docs/fill-contract.md names them."""

from decimal import Decimal

from tests.scenario import check


def test_a_limit_entry_fills_inside_the_bar_at_its_price_as_a_maker_without_slippage() -> None:
    check("""
    rules slippage_bps=100
    symbol BTC taker_fee_bps=20 maker_fee_bps=10
    00 BTC 100 101 99 100 BUY entry_type=limit entry=95
    01 BTC 100 101 95 96
    =>
    01 BTC entry filled 95 x 10.515 inside the bar fee 0.998925
    """)


def test_a_limit_entry_that_the_open_has_passed_fills_at_the_open() -> None:
    check("""
    rules slippage_bps=100
    symbol BTC taker_fee_bps=20 maker_fee_bps=10
    00 BTC 100 101 99 100 BUY entry_type=limit entry=95
    01 BTC 94 101 93 96
    =>
    01 BTC entry filled 94 x 10.627 at the open fee 0.998938
    """)


def test_a_stop_entry_fills_at_its_price_with_slippage_as_a_taker() -> None:
    check("""
    rules slippage_bps=100
    symbol BTC taker_fee_bps=20 maker_fee_bps=10
    00 BTC 100 101 99 100 BUY entry_type=stop entry=105
    01 BTC 100 106 95 96
    =>
    01 BTC entry filled 106.05 x 9.41 inside the bar fee 1.995861
    """)


def test_a_stop_entry_that_the_open_has_passed_fills_at_the_open() -> None:
    check("""
    rules slippage_bps=100
    symbol BTC
    00 BTC 100 101 99 100 BUY entry_type=stop entry=105
    01 BTC 107 108 95 96
    =>
    01 BTC entry filled 108.07 x 9.253 at the open
    """)


def test_limit_and_stop_entries_lie_on_the_tick_away_from_the_market() -> None:
    check("""
    rules direction=both
    symbol BTC tick=0.5 kind=margin
    symbol ETH tick=0.5 kind=margin
    00 BTC 100 101 99 100 BUY entry_type=limit entry=95.7
    00 ETH 100 101 99 100 SELL entry_type=limit entry=104.2
    01 BTC 100 101 99 100 BUY entry_type=stop entry=104.2
    01 ETH 100 101 99 100 SELL entry_type=stop entry=95.7
    02 BTC 100 101 99 100
    02 ETH 100 101 99 100
    =>
    orders
    01 BTC signal entry_ordered
    01 BTC entry ordered limit 95.5 budget 500
    01 ETH signal entry_ordered
    01 ETH entry ordered limit 104.5 budget 500
    02 BTC entry expired
    02 ETH entry expired
    02 BTC signal entry_ordered
    02 BTC entry ordered stop 104.5 budget 500
    02 ETH signal entry_ordered
    02 ETH entry ordered stop 95.5 budget 500
    03 BTC entry expired
    03 ETH entry expired
    """)


def test_an_entry_that_no_price_comes_to_expires_after_its_bars_of_time() -> None:
    check("""
    symbol BTC
    symbol ETH
    00 BTC 100 101 99 100 BUY entry_type=limit entry=95 expiry_bars=2
    00 ETH 100 101 99 100 BUY entry_type=limit entry=95 expiry_bars=3
    01 BTC 100 101 96 96
    01 ETH 100 101 96 96
    02 BTC 100 101 96 96
    03 BTC 94 101 90 96
    05 ETH 94 101 90 96
    =>
    03 BTC entry expired
    05 ETH entry expired
    """)


def test_after_an_entry_inside_the_bar_only_its_stop_is_live_in_that_bar() -> None:
    check("""
    symbol BTC
    symbol ETH
    00 BTC 100 101 99 100 BUY entry_type=limit entry=95 take_profit_1=98 stop_loss=93
    00 ETH 100 101 99 100 BUY entry_type=limit entry=95 take_profit_1=98 stop_loss=93
    01 BTC 100 101 94 99
    01 ETH 100 101 92 99
    02 BTC 98.5 99 94 99
    02 ETH 98.5 99 94 99
    =>
    01 BTC entry filled 95 x 5.263 inside the bar
    01 ETH entry filled 95 x 5.263 inside the bar
    01 ETH stop filled 93 x 5.263 inside the bar
    01 ETH target_1 cancelled
    02 BTC target_1 filled 98.5 x 5.263 at the open
    02 BTC stop cancelled
    """)


def test_a_stop_entry_inside_the_bar_comes_before_its_own_stop() -> None:
    check("""
    rules slippage_bps=100
    symbol BTC tick=1
    00 BTC 100 101 99 100 BUY entry_type=stop entry=105 stop_loss=106
    01 BTC 100 105 99 99
    02 BTC 104 104 104 104
    =>
    01 BTC entry filled 107 x 9.345 inside the bar
    01 BTC stop filled 103 x 9.345 inside the bar
    """)  # 106.05 up to 107, where a stop of 106 is passed at 105 already


def test_a_decision_takes_the_place_of_the_entry_that_waits() -> None:
    check("""
    symbol BTC
    00 BTC 100 101 99 100 BUY entry_type=limit entry=90 expiry_bars=9
    01 BTC 100 101 99 100 BUY entry_type=limit entry=95 expiry_bars=9
    02 BTC 100 101 99 100 EXIT
    03 BTC 100 101 80 100 BUY entry_type=limit entry=90 expiry_bars=9
    04 BTC 100 101 99 100 SELL
    05 BTC 100 101 80 100
    =>
    orders
    01 BTC signal entry_ordered
    01 BTC entry ordered limit 90 budget 1000
    02 BTC entry cancelled
    02 BTC signal entry_ordered
    02 BTC entry ordered limit 95 budget 1000
    03 BTC entry cancelled
    03 BTC signal exit_ordered
    04 BTC signal entry_ordered
    04 BTC entry ordered limit 90 budget 1000
    05 BTC entry cancelled
    05 BTC signal exit_ordered
    """)


def test_an_exit_signal_closes_whatever_is_held() -> None:
    check("""
    rules direction=both
    symbol BTC kind=margin
    symbol ETH kind=margin
    00 BTC 100 101 99 100 BUY
    00 ETH 100 101 99 100 SELL
    01 BTC 100 101 99 100 EXIT
    01 ETH 100 101 99 100 EXIT
    02 BTC 104 105 103 104
    02 ETH 104 105 103 104
    =>
    01 BTC entry filled 100 x 5 at the open
    01 ETH entry filled 100 x 5 at the open
    02 BTC exit filled 104 x 5 at the open
    02 ETH exit filled 104 x 5 at the open
    """)


def test_takers_pay_half_the_spread_and_limit_orders_wait_for_it() -> None:
    played = check("""
    rules spread_bps=100
    symbol BTC
    symbol ETH
    00 BTC 100 101 99 100 BUY take_profit_1=110
    00 ETH 100 101 99 100 BUY entry_type=limit entry=95
    01 BTC 100 110.54 99 100
    01 ETH 100 110.54 94.53 100
    02 BTC 100 110.56 99 100 SELL
    02 ETH 100 110.56 99 100 BUY entry_type=limit entry=95
    03 BTC 100 110.56 99 100
    03 ETH 100 110.56 94.52 100
    =>
    01 BTC entry filled 100.5 x 4.975 at the open
    02 ETH entry expired
    02 BTC target_1 filled 110 x 4.975 inside the bar
    03 ETH entry filled 95 x 5.511 inside the bar
    """)  # 110 / 0.995 = 110.55..., 95 / 1.005 = 94.527...
    assert played.cash == Decimal("523.7175")


def test_a_stop_that_the_open_of_a_new_position_has_passed_fills_at_that_open() -> None:
    check("""
    rules slippage_bps=100
    symbol BTC
    00 BTC 100 101 99 100 BUY stop_loss=100.5
    01 BTC 100 100.2 99.5 100
    =>
    01 BTC entry filled 101 x 9.9 at the open
    01 BTC stop filled 99 x 9.9 inside the bar
    """)


def test_with_max_entries_an_entry_adds_to_the_position_at_its_average_price() -> None:
    check("""
    rules max_entries=2 capital=initial
    symbol BTC
    00 BTC 100 101 99 100 BUY target_weight=0.2 stop_loss=90 take_profit_1=150
    01 BTC 100 101 99 100 BUY target_weight=0.2 stop_loss=95
    02 BTC 110 111 109 110 BUY target_weight=0.2
    03 BTC 110 111 95 96
    =>
    orders
    01 BTC signal entry_ordered
    01 BTC entry ordered budget 200
    01 BTC entry filled 100 x 2 at the open
    01 BTC stop ordered 90 x 2
    01 BTC target_1 ordered 150 x 2
    02 BTC signal entry_ordered
    02 BTC entry ordered budget 200
    02 BTC entry filled 110 x 1.818 at the open
    02 BTC stop cancelled
    02 BTC target_1 cancelled
    02 BTC stop ordered 95 x 3.818
    02 BTC target_1 ordered 150 x 3.818
    03 BTC signal already_in_position
    03 BTC stop filled 95 x 3.818 inside the bar
    03 BTC target_1 cancelled
    """)


def test_an_addition_that_waits_ends_with_its_position() -> None:
    check("""
    rules max_entries=2
    symbol BTC
    00 BTC 100 101 99 100 BUY target_weight=0.2 stop_loss=90
    01 BTC 100 101 99 100 BUY entry_type=limit entry=95 expiry_bars=5
    02 BTC 89 90 88 89
    03 BTC 89 90 88 89
    =>
    01 BTC entry filled 100 x 2 at the open
    02 BTC stop filled 89 x 2 at the open
    02 BTC entry cancelled
    """)


def test_a_reversal_closes_and_opens_at_the_same_open() -> None:
    check("""
    rules direction=both
    symbol BTC kind=margin
    00 BTC 100 101 99 100 BUY stop_loss=90
    01 BTC 100 101 99 100 SELL stop_loss=120
    02 BTC 110 111 109 110 BUY
    03 BTC 110 111 95 96
    =>
    orders
    01 BTC signal entry_ordered
    01 BTC entry ordered budget 1000
    01 BTC entry filled 100 x 10 at the open
    01 BTC stop ordered 90 x 10
    02 BTC signal reversal_ordered
    02 BTC exit ordered x 10
    02 BTC entry ordered budget 1000
    02 BTC exit filled 110 x 10 at the open
    02 BTC stop cancelled
    02 BTC entry filled 110 x 9.09 at the open
    02 BTC stop ordered 120 x 9.09
    03 BTC signal reversal_ordered
    03 BTC exit ordered x 9.09
    03 BTC entry ordered budget 1100
    03 BTC exit filled 110 x 9.09 at the open
    03 BTC stop cancelled
    03 BTC entry filled 110 x 10 at the open
    """)


def test_without_reverse_the_other_side_only_closes() -> None:
    check("""
    rules direction=both reverse=no
    symbol BTC kind=margin
    00 BTC 100 101 99 100 BUY
    01 BTC 100 101 99 100 SELL
    02 BTC 110 111 109 110 SELL
    03 BTC 110 111 95 96
    =>
    01 BTC entry filled 100 x 10 at the open
    02 BTC exit filled 110 x 10 at the open
    03 BTC entry filled 110 x 10 at the open
    """)


def test_an_entry_that_reverses_ends_when_the_position_cannot_be_closed() -> None:
    check("""
    cash 3000
    rules direction=both
    symbol BTC kind=margin min_notional=900
    00 BTC 100 101 99 100 BUY target_weight=0.34
    01 BTC 100 101 80 81 SELL
    02 BTC 80 81 80 80
    =>
    orders
    01 BTC signal entry_ordered
    01 BTC entry ordered budget 1020
    01 BTC entry filled 100 x 10.2 at the open
    02 BTC signal reversal_ordered
    02 BTC exit ordered x 10.2
    02 BTC entry ordered budget 2806.2
    02 BTC exit refused min_notional limit 900 value 816
    02 BTC entry cancelled
    """)


def test_an_entry_that_reverses_waits_until_a_capped_exit_is_done() -> None:
    check("""
    rules direction=both capital=initial max_volume_share=0.5
    symbol BTC kind=margin
    00 BTC 100 101 99 100 BUY volume=1000
    01 BTC 100 101 99 100 SELL volume=10
    02 BTC 100 101 99 100 volume=40
    03 BTC 100 101 99 100 volume=1000
    =>
    01 BTC entry filled 100 x 10 at the open
    02 BTC exit filled 100 x 5 of 10 at the open
    03 BTC exit filled 100 x 5 at the open
    03 BTC entry filled 100 x 10 at the open
    """)
