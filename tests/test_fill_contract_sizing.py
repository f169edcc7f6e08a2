"""The fill contract, a test a line: how much an entry is for. docs/fill-contract.md names them."""

from tests.scenario import check


def test_a_fixed_notional_is_what_an_entry_is_for() -> None:
    check("""
    rules sizing=fixed_notional fixed_notional=300
    symbol BTC
    00 BTC 100 101 99 100 BUY
    01 BTC 100 101 99 100
    =>
    orders
    01 BTC signal entry_ordered
    01 BTC entry ordered budget 300
    01 BTC entry filled 100 x 3 at the open
    """)


def test_a_fixed_notional_on_margin_reserves_its_margin() -> None:
    check("""
    rules sizing=fixed_notional fixed_notional=3000 leverage=5
    symbol BTC kind=margin max_leverage=5
    00 BTC 100 101 99 100 BUY
    01 BTC 100 101 99 100
    =>
    orders
    01 BTC signal entry_ordered
    01 BTC entry ordered budget 600
    01 BTC entry filled 100 x 30 at the open
    """)


def test_sizing_by_risk_loses_its_share_at_the_stop_and_needs_one() -> None:
    check("""
    rules sizing=risk risk_share=0.02
    symbol BTC
    00 BTC 100 101 99 100 BUY stop_loss=95
    01 BTC 100 101 94 100 BUY
    02 BTC 100 101 99 100 BUY stop_loss=100.5
    03 BTC 100 101 99 100 BUY entry_type=limit entry=50 stop_loss=45
    04 BTC 100 101 99 100
    =>
    orders
    01 BTC signal entry_ordered
    01 BTC entry ordered budget 400
    01 BTC entry filled 100 x 4 at the open
    01 BTC stop ordered 95 x 4
    01 BTC stop filled 95 x 4 inside the bar
    02 BTC signal refused
    02 BTC entry refused stop_missing limit 0.00000001 value 0
    03 BTC signal refused
    03 BTC entry refused stop_missing limit 0.00000001 value 0
    04 BTC signal entry_ordered
    04 BTC entry ordered limit 50 budget 196
    05 BTC entry expired
    """)


def test_sizing_by_risk_is_capped_at_the_maximum_share() -> None:
    check("""
    rules sizing=risk risk_share=0.02 max_position_share=0.5
    symbol BTC
    00 BTC 100 101 99 100 BUY stop_loss=99.99999999
    01 BTC 100 101 99 100
    =>
    orders
    01 BTC signal entry_ordered
    01 BTC entry ordered budget 500
    01 BTC entry filled 100 x 5 at the open
    01 BTC stop ordered 99.99 x 5
    01 BTC stop filled 99.99 x 5 inside the bar
    """)


def test_sizing_by_inverse_volatility_gives_the_calmer_symbol_more_once_it_is_known() -> None:
    check("""
    rules sizing=inverse_volatility volatility_bars=2 capital=initial
    symbol BTC
    symbol ETH
    00 BTC 100 101 99 100
    00 ETH 100 101 99 100
    01 BTC 110 111 109 110 BUY
    01 ETH 121 122 120 121
    02 BTC 100 101 99 100 BUY
    02 ETH 100 101 99 100 BUY
    =>
    orders
    02 BTC signal refused
    02 BTC entry refused volatility_unknown limit 1 value 0
    03 BTC signal entry_ordered
    03 BTC entry ordered budget 666.66667
    03 ETH signal entry_ordered
    03 ETH entry ordered budget 333.33333
    """)  # ETH's log returns are twice BTC's


def test_kellys_share_comes_from_the_accounts_own_closed_trades_once_there_are_enough() -> None:
    check("""
    rules sizing=kelly kelly_min_trades=2 kelly_multiple=0.5 kelly_cap_share=0.4 capital=initial
    symbol BTC step=1
    00 BTC 100 101 99 100 BUY
    01 BTC 100 101 99 100 SELL
    02 BTC 110 111 99 100 BUY target_weight=0.5
    03 BTC 100 101 99 100 SELL
    04 BTC 95 96 94 95 BUY
    05 BTC 95 96 94 95 SELL
    06 BTC 50 50 50 50 BUY
    07 BTC 50 50 50 50
    =>
    orders
    01 BTC signal entry_ordered
    01 BTC entry ordered budget 1000
    01 BTC entry filled 100 x 10 at the open
    02 BTC signal exit_ordered
    02 BTC exit ordered x 10
    02 BTC exit filled 110 x 10 at the open
    03 BTC signal entry_ordered
    03 BTC entry ordered budget 500
    03 BTC entry filled 100 x 5 at the open
    04 BTC signal exit_ordered
    04 BTC exit ordered x 5
    04 BTC exit filled 95 x 5 at the open
    05 BTC signal entry_ordered
    05 BTC entry ordered budget 187.5
    05 BTC entry filled 95 x 1 at the open
    06 BTC signal exit_ordered
    06 BTC exit ordered x 1
    06 BTC exit filled 50 x 1 at the open
    07 BTC signal entry_ordered
    07 BTC entry ordered budget 49.99999
    07 BTC entry refused min_quantity limit 1 value 0
    """)  # won 100, lost 25, one of two: half of 0.5 - 0.5 / 4


def test_a_target_weight_is_bought_up_to_sold_down_to_and_left_alone_when_near() -> None:
    check("""
    rules sizing=target_weight rebalance_share=0.05
    symbol BTC step=0.1
    00 BTC 100 101 99 100 BUY target_weight=0.5
    01 BTC 100 101 99 100 BUY target_weight=0.8
    02 BTC 100 101 99 100 BUY target_weight=0.79
    03 BTC 100 101 99 100 BUY target_weight=0.3
    04 BTC 100 101 99 100 BUY
    05 BTC 100 101 99 100
    =>
    orders
    01 BTC signal entry_ordered
    01 BTC entry ordered budget 500
    01 BTC entry filled 100 x 5 at the open
    02 BTC signal entry_ordered
    02 BTC entry ordered budget 300
    02 BTC entry filled 100 x 3 at the open
    03 BTC signal already_in_position
    04 BTC signal reduction_ordered
    04 BTC exit ordered x 5
    04 BTC exit filled 100 x 5 at the open
    05 BTC signal refused
    05 BTC entry refused weight_missing limit 1 value 0
    """)


def test_capital_may_be_the_equity_at_the_open_that_fills() -> None:
    check("""
    rules capital=equity_at_open
    symbol BTC
    symbol ETH
    00 BTC 100 101 99 100 BUY target_weight=0.5
    00 ETH 100 101 99 100
    01 BTC 100 101 99 100
    01 ETH 100 101 99 100 BUY target_weight=0.5
    02 BTC 80 101 79 100
    02 ETH 100 101 99 100
    =>
    01 BTC entry filled 100 x 5 at the open
    02 ETH entry filled 100 x 4.5 at the open
    """)  # half of 500 + 5 x 80
