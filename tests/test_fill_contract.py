"""The fill contract, a test a line. docs/fill-contract.md names them; the scenario format is told in tests/scenario.py."""

from decimal import Decimal

from tests.scenario import check

FOURTEEN_CALM_HOURS = "\n".join(f"{hour:02d} BTC 100 101 99 100" for hour in range(14))

# Market orders


def test_a_market_order_fills_at_the_next_open_with_slippage_rounded_to_the_tick_against_the_trader() -> None:
    played = check("""
    rules slippage_bps=5
    symbol BTC tick=0.1
    00 BTC 100 101 99 100 BUY
    01 BTC 100 101 99 100
    02 BTC 110 111 99 100 SELL
    03 BTC 105 106 99 100
    =>
    01 BTC entry filled 100.1 x 9.99 at the open
    03 BTC exit filled 104.9 x 9.99 at the open
    """)  # 100.05 up to 100.1; 104.9475 down to 104.9
    assert played.cash == 1000 - Decimal("9.99") * (Decimal("100.1") - Decimal("104.9"))


def test_a_sale_never_goes_below_one_tick() -> None:
    check("""
    rules slippage_bps=9999
    symbol BTC tick=0.5
    00 BTC 1 1 1 1 BUY
    01 BTC 1 1 1 1 SELL
    02 BTC 1 1 1 1
    =>
    01 BTC entry filled 2 x 500 at the open
    02 BTC exit filled 0.5 x 500 at the open
    """)


def test_nothing_fills_inside_a_gap_and_orders_meet_the_next_real_bar() -> None:
    check("""
    symbol BTC
    symbol ETH
    00 BTC 100 101 99 100 BUY stop_loss=90
    00 ETH 10 10 10 10
    01 ETH 10 10 10 10
    02 ETH 10 10 10 10
    05 BTC 104 105 103 104
    09 BTC 80 81 70 75
    =>
    05 BTC entry filled 104 x 4.807 at the open
    09 BTC stop filled 80 x 4.807 at the open
    """)


def test_a_position_is_bought_once_and_nothing_is_sold_that_is_not_held() -> None:
    check("""
    symbol BTC
    00 BTC 100 101 99 100 SELL
    01 BTC 100 101 99 100 BUY
    02 BTC 100 101 99 100 BUY
    =>
    orders
    01 BTC signal nothing_to_sell
    02 BTC signal entry_ordered
    02 BTC entry ordered budget 1000
    02 BTC entry filled 100 x 10 at the open
    03 BTC signal already_in_position
    """)


# Budgets and quantities


def test_an_all_in_entry_pays_its_fee_out_of_its_budget_and_never_lacks_cash() -> None:
    played = check("""
    symbol BTC step=0.0001 taker_fee_bps=10
    00 BTC 100 101 99 100 BUY
    01 BTC 130 131 99 100
    =>
    01 BTC entry filled 130 x 7.6846 at the open fee 0.998998
    """)  # 1000 / (130 x 1.001) = 7.68462...
    assert played.cash == 1000 - Decimal("7.6846") * 130 - Decimal("0.998998")


def test_a_quantity_is_the_largest_number_of_steps_that_budget_and_rounded_fee_allow() -> None:
    played = check("""
    cash 100
    symbol SHIB tick=0.0001 step=0.00000001 taker_fee_bps=10 quote_decimals=0
    00 SHIB 0.0001 0.0001 0.0001 0.0001 BUY target_weight=1
    01 SHIB 0.0001 0.0001 0.0001 0.0001
    =>
    01 SHIB entry filled 0.0001 x 1000000.00005 at the open
    """)  # the fee of 0.1 rounds to 0; the notional of 100.000000005 rounds half-even to 100
    assert played.cash == 0


def test_a_budget_is_fixed_at_the_decision_and_the_price_only_changes_the_quantity() -> None:
    check("""
    symbol BTC
    symbol ETH
    00 BTC 100 101 99 100 BUY
    00 ETH 100 101 99 100 BUY
    01 BTC 50 101 49 100
    01 ETH 200 201 99 100
    =>
    orders
    01 BTC signal entry_ordered
    01 BTC entry ordered budget 500
    01 ETH signal entry_ordered
    01 ETH entry ordered budget 500
    01 BTC entry filled 50 x 10 at the open
    01 ETH entry filled 200 x 2.5 at the open
    """)


def test_an_entry_below_the_minimum_quantity_is_refused_with_rule_limit_and_value() -> None:
    check("""
    symbol BTC min_quantity=10
    00 BTC 100 101 99 100 BUY
    01 BTC 101 101 99 100
    =>
    01 BTC entry refused min_quantity limit 10 value 9.9
    """)


def test_an_entry_below_the_minimum_notional_is_refused_with_rule_limit_and_value() -> None:
    check("""
    cash 19
    symbol BTC step=0.1 min_notional=18.5
    00 BTC 100 101 99 100 BUY
    01 BTC 100 101 99 100 BUY target_weight=0.9
    02 BTC 100 101 99 100
    =>
    01 BTC entry refused min_notional limit 18.5 value 10
    02 BTC entry refused min_notional limit 18.5 value 17.1
    """)  # 19 buys one step of 0.1 for 10; 0.9 x 19 = 17.1 is refused at the decision already


# Stops and targets


def test_a_stop_is_live_on_its_entry_bar() -> None:
    check("""
    symbol BTC
    00 BTC 100 101 99 100 BUY stop_loss=95
    01 BTC 100 101 94 100
    =>
    01 BTC entry filled 100 x 10 at the open
    01 BTC stop filled 95 x 10 inside the bar
    """)


def test_a_stop_pays_slippage() -> None:
    check("""
    rules slippage_bps=100
    symbol BTC
    00 BTC 100 101 99 100 BUY stop_loss=95
    01 BTC 99 101 94 100
    =>
    01 BTC entry filled 99.99 x 10.001 at the open
    01 BTC stop filled 94.05 x 10.001 inside the bar
    """)


def test_a_bar_that_opens_beyond_the_stop_fills_at_its_open() -> None:
    check("""
    symbol BTC
    00 BTC 100 101 99 100 BUY stop_loss=95
    01 BTC 100 101 99 100
    02 BTC 90 101 89 100
    =>
    01 BTC entry filled 100 x 10 at the open
    02 BTC stop filled 90 x 10 at the open
    """)


def test_a_touched_stop_and_a_touched_target_fill() -> None:
    check("""
    symbol BTC
    symbol ETH
    00 BTC 100 101 99 100 BUY stop_loss=95 take_profit_1=105
    00 ETH 100 101 99 100 BUY stop_loss=95 take_profit_1=105
    01 BTC 100 104.99 95 100
    01 ETH 100 105 95.01 100
    =>
    01 BTC entry filled 100 x 5 at the open
    01 ETH entry filled 100 x 5 at the open
    01 BTC stop filled 95 x 5 inside the bar
    01 BTC target_1 cancelled
    01 ETH target_1 filled 105 x 5 inside the bar
    01 ETH stop cancelled
    """)


def test_inside_a_bar_the_stop_comes_before_the_targets() -> None:
    check("""
    symbol BTC
    00 BTC 100 101 99 100 BUY stop_loss=95 take_profit_1=105 take_profit_2=110
    01 BTC 100 120 94 119
    =>
    01 BTC entry filled 100 x 10 at the open
    01 BTC stop filled 95 x 10 inside the bar
    01 BTC target_1 cancelled
    01 BTC target_2 cancelled
    """)


def test_a_target_that_the_open_has_passed_fills_at_the_open_without_slippage() -> None:
    check("""
    rules slippage_bps=100
    symbol BTC
    00 BTC 100 101 99 100 BUY take_profit_1=105
    01 BTC 99 101 99 100
    02 BTC 107.005 108 94 100
    =>
    01 BTC entry filled 99.99 x 10.001 at the open
    02 BTC target_1 filled 107 x 10.001 at the open
    """)


def test_a_target_fills_at_its_price_inside_the_bar_without_slippage() -> None:
    check("""
    rules slippage_bps=100
    symbol BTC
    00 BTC 100 101 99 100 BUY take_profit_1=105
    01 BTC 99 106 99 100
    =>
    01 BTC entry filled 99.99 x 10.001 at the open
    01 BTC target_1 filled 105 x 10.001 inside the bar
    """)


def test_part_leaves_at_the_first_target_and_the_rest_at_the_second() -> None:
    check("""
    rules target_1_share=0.3 stop_to_entry_after_target_1=no
    symbol BTC step=1
    00 BTC 100 101 99 100 BUY stop_loss=90 take_profit_1=105 take_profit_2=110
    01 BTC 100 106 99 100
    02 BTC 100 110 99 100
    =>
    orders
    01 BTC signal entry_ordered
    01 BTC entry ordered budget 1000
    01 BTC entry filled 100 x 10 at the open
    01 BTC stop ordered 90 x 10
    01 BTC target_1 ordered 105 x 3
    01 BTC target_2 ordered 110 x 7
    01 BTC target_1 filled 105 x 3 inside the bar
    02 BTC target_2 filled 110 x 7 inside the bar
    02 BTC stop cancelled
    """)


def test_both_targets_may_fill_in_one_bar() -> None:
    check("""
    symbol BTC step=1
    symbol ETH step=1
    00 BTC 100 101 99 100 BUY take_profit_1=105 take_profit_2=110
    00 ETH 100 101 99 100 BUY take_profit_1=105 take_profit_2=110
    01 BTC 100 120 99 100
    01 ETH 100 101 99 100
    02 BTC 100 120 99 100
    02 ETH 112 120 99 100
    =>
    01 BTC entry filled 100 x 5 at the open
    01 ETH entry filled 100 x 5 at the open
    01 BTC target_1 filled 105 x 2 inside the bar
    01 BTC target_2 filled 110 x 3 inside the bar
    02 ETH target_1 filled 112 x 2 at the open
    02 ETH target_2 filled 112 x 3 at the open
    """)


def test_after_the_first_target_inside_a_bar_the_stop_moves_to_entry_for_the_next_bar() -> None:
    check("""
    symbol BTC
    00 BTC 100 101 99 100 BUY stop_loss=90 take_profit_1=105 take_profit_2=110
    01 BTC 100 106 95 101
    02 BTC 101 102 99 99
    =>
    01 BTC entry filled 100 x 10 at the open
    01 BTC target_1 filled 105 x 5 inside the bar
    01 BTC stop moved 90 -> 100
    02 BTC stop filled 100 x 5 inside the bar
    02 BTC target_2 cancelled
    """)


def test_after_the_first_target_at_the_open_the_stop_at_entry_is_live_in_the_same_bar() -> None:
    check("""
    symbol BTC
    00 BTC 100 101 99 100 BUY stop_loss=90 take_profit_1=105 take_profit_2=110
    01 BTC 100 101 99 100
    02 BTC 106 107 99 101
    =>
    01 BTC entry filled 100 x 10 at the open
    02 BTC target_1 filled 106 x 5 at the open
    02 BTC stop moved 90 -> 100
    02 BTC stop filled 100 x 5 inside the bar
    02 BTC target_2 cancelled
    """)


def test_the_stop_stays_where_it_is_when_the_setting_says_so_or_when_there_is_none() -> None:
    check("""
    rules stop_to_entry_after_target_1=no
    symbol BTC
    00 BTC 100 101 99 100 BUY stop_loss=90 take_profit_1=105 take_profit_2=110
    01 BTC 100 106 95 101
    02 BTC 101 102 91 99
    =>
    01 BTC entry filled 100 x 10 at the open
    01 BTC target_1 filled 105 x 5 inside the bar
    """)
    check("""
    symbol BTC
    00 BTC 100 101 99 100 BUY take_profit_1=105 take_profit_2=110
    01 BTC 100 106 95 101
    02 BTC 101 102 91 99
    =>
    01 BTC entry filled 100 x 10 at the open
    01 BTC target_1 filled 105 x 5 inside the bar
    """)


def test_with_one_target_the_whole_position_leaves_there() -> None:
    for target in ("take_profit_1=105", "take_profit_2=105"):
        check(f"""
        symbol BTC
        00 BTC 100 101 99 100 BUY stop_loss=90 {target}
        01 BTC 100 106 95 101
        =>
        01 BTC entry filled 100 x 10 at the open
        01 BTC target_{target[12]} filled 105 x 10 inside the bar
        01 BTC stop cancelled
        """)


def test_when_a_part_would_be_too_small_to_trade_everything_leaves_at_the_first_target() -> None:
    check("""
    symbol BTC min_notional=600
    00 BTC 100 101 99 100 BUY take_profit_1=105 take_profit_2=110
    01 BTC 100 101 95 101
    02 BTC 100 200 99 101
    =>
    orders
    01 BTC signal entry_ordered
    01 BTC entry ordered budget 1000
    01 BTC entry filled 100 x 10 at the open
    01 BTC target_1 ordered 105 x 10
    02 BTC target_1 filled 105 x 10 inside the bar
    """)


def test_the_nearer_of_two_targets_is_the_first() -> None:
    check("""
    symbol BTC
    00 BTC 100 101 99 100 BUY take_profit_1=110 take_profit_2=105
    01 BTC 100 106 95 101
    =>
    orders
    01 BTC signal entry_ordered
    01 BTC entry ordered budget 1000
    01 BTC entry filled 100 x 10 at the open
    01 BTC target_1 ordered 105 x 5
    01 BTC target_2 ordered 110 x 5
    01 BTC target_1 filled 105 x 5 inside the bar
    """)


def test_distances_in_basis_points_hang_on_the_fill_price_and_are_rounded_to_the_tick() -> None:
    check("""
    symbol BTC tick=0.1
    00 BTC 100 101 99 100 BUY stop_loss_bps=333 take_profit_1_bps=123 take_profit_2_bps=1000
    01 BTC 200 201 199 200
    =>
    orders
    01 BTC signal entry_ordered
    01 BTC entry ordered budget 1000
    01 BTC entry filled 200 x 5 at the open
    01 BTC stop ordered 193.3 x 5
    01 BTC target_1 ordered 202.5 x 2.5
    01 BTC target_2 ordered 220 x 2.5
    """)  # 200 - 6.66 down, 200 + 2.46 up


def test_distances_in_atr_multiples_use_the_atr_at_the_decision() -> None:
    check(f"""
    symbol BTC tick=0.1
    {FOURTEEN_CALM_HOURS}
    14 BTC 100 101 99 100 BUY stop_loss_atr=1.5 take_profit_1_atr=0.52
    15 BTC 150 151 149 150
    =>
    orders
    15 BTC signal entry_ordered
    15 BTC entry ordered budget 1000
    15 BTC entry filled 150 x 6.666 at the open
    15 BTC stop ordered 147 x 6.666
    15 BTC target_1 ordered 151.1 x 6.666
    """)  # the ATR is 2: 150 - 3, and 150 + 1.04 up


def test_an_entry_is_refused_while_the_atr_of_its_stop_is_not_known() -> None:
    check(f"""
    symbol BTC
    {FOURTEEN_CALM_HOURS} BUY stop_loss_atr=1
    14 BTC 100 101 99 100 BUY stop_loss_atr=1
    15 BTC 100 101 99 100
    =>
    14 BTC entry refused atr_unknown limit 15 value 14
    15 BTC entry filled 100 x 10 at the open
    """)


def test_a_stop_below_the_first_tick_lies_on_the_first_tick() -> None:
    check("""
    symbol BTC tick=0.1
    00 BTC 100 101 99 100 BUY stop_loss_bps=20000
    01 BTC 100 101 0.1 100
    =>
    01 BTC entry filled 100 x 10 at the open
    01 BTC stop filled 0.1 x 10 inside the bar
    """)


def test_an_entry_is_refused_when_the_open_is_at_or_below_its_stop() -> None:
    check("""
    symbol BTC
    00 BTC 100 101 99 100 BUY stop_loss=95
    01 BTC 95 101 94 100
    =>
    01 BTC entry refused stop_beyond_entry limit 95 value 95
    """)


def test_an_entry_is_refused_when_the_open_is_at_or_above_a_target() -> None:
    for targets in ("take_profit_1=105", "take_profit_2=105", "take_profit_1=120 take_profit_2=105"):
        check(f"""
        symbol BTC
        00 BTC 100 101 99 100 BUY {targets}
        01 BTC 105 106 94 100
        =>
        01 BTC entry refused target_beyond_entry limit 105 value 105
        """)


# Fees and values


def test_takers_and_makers_pay_their_own_fee() -> None:
    check("""
    symbol BTC step=1 taker_fee_bps=20 maker_fee_bps=10
    00 BTC 100 101 99 100 BUY stop_loss=95 take_profit_1=105 take_profit_2=110
    01 BTC 100 106 99 106 SELL
    02 BTC 103 104 99 100
    =>
    01 BTC entry filled 100 x 9 at the open fee 1.8
    01 BTC target_1 filled 105 x 4 inside the bar fee 0.42
    01 BTC stop moved 95 -> 100
    02 BTC exit filled 103 x 5 at the open fee 1.03
    02 BTC stop cancelled
    02 BTC target_2 cancelled
    """)


def test_fees_are_rounded_half_even_to_the_quote_currencys_precision() -> None:
    check("""
    symbol BTC step=1 taker_fee_bps=1 quote_decimals=2
    symbol ETH step=1 taker_fee_bps=1 quote_decimals=2
    00 BTC 100 101 99 100 BUY target_weight=0.46
    00 ETH 100 101 99 100 BUY target_weight=0.52
    01 BTC 150 151 149 150
    01 ETH 250 251 249 250
    =>
    01 BTC entry filled 150 x 3 at the open fee 0.04
    01 ETH entry filled 250 x 2 at the open fee 0.05
    """)  # 0.045 goes to 0.04


def test_a_notional_is_rounded_half_even_to_eight_decimals() -> None:
    played = check("""
    symbol BTC tick=0.0001 step=0.00001
    00 BTC 1 1 1 1 BUY target_weight=0.00020002
    01 BTC 1.0005 1.0005 1.0005 1.0005
    =>
    01 BTC entry filled 1.0005 x 0.19992 at the open
    """)
    assert played.cash == 1000 - Decimal("0.20001996")


def test_a_position_is_valued_at_the_last_close_even_through_a_gap() -> None:
    played = check("""
    symbol BTC
    symbol ETH
    00 BTC 100 101 99 100 BUY
    00 ETH 10 10 10 10
    01 BTC 100 121 99 120
    03 ETH 10 10 10 10
    =>
    01 BTC entry filled 100 x 5 at the open
    """)
    assert played.equity == 500 + 5 * 120


# Dust


def test_a_sale_below_the_exchanges_minimum_is_refused_and_the_position_stays() -> None:
    played = check("""
    symbol BTC min_notional=900
    00 BTC 100 101 99 100 BUY take_profit_1=150
    01 BTC 100 101 80 85 SELL
    02 BTC 80 101 80 85
    03 BTC 100 101 100 101 SELL
    04 BTC 100 101 99 100
    =>
    01 BTC entry filled 100 x 10 at the open
    02 BTC exit refused min_notional limit 900 value 800
    04 BTC exit filled 100 x 10 at the open
    04 BTC target_1 cancelled
    """)
    assert played.cash == 1000


def test_a_stop_that_the_exchange_would_refuse_is_refused_once_and_is_gone() -> None:
    check("""
    symbol BTC min_notional=900
    00 BTC 100 101 99 100 BUY stop_loss=89.99
    01 BTC 100 101 80 85
    02 BTC 80 101 80 85
    =>
    01 BTC entry filled 100 x 10 at the open
    01 BTC stop refused min_notional limit 900 value 899.9
    """)


def test_when_an_exit_is_refused_the_stop_still_meets_the_open_and_never_a_price_above_the_bar() -> None:
    check("""
    symbol BTC min_notional=900
    00 BTC 100 101 99 100 BUY stop_loss=95
    01 BTC 100 101 96 97 SELL
    02 BTC 80 85 79 85
    =>
    01 BTC entry filled 100 x 10 at the open
    02 BTC exit refused min_notional limit 900 value 800
    02 BTC stop refused min_notional limit 900 value 800
    """)
