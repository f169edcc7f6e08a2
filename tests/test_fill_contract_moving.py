"""The fill contract, a test a line: stops that move, time stops, and finer bars. docs/fill-contract.md names them."""

from tests.scenario import check

FOURTEEN_CALM_HOURS = "\n".join(f"{hour:02d} BTC 100 101 99 100" for hour in range(14))


def test_a_trailing_stop_follows_the_best_price_from_the_next_bar_on() -> None:
    check("""
    symbol BTC
    00 BTC 100 101 99 100 BUY trailing_stop_bps=500
    01 BTC 100 110 99 110
    02 BTC 110 111 105.46 106
    03 BTC 106 106 105.4 106
    =>
    orders
    01 BTC signal entry_ordered
    01 BTC entry ordered budget 1000
    01 BTC entry filled 100 x 10 at the open
    01 BTC stop ordered 95 x 10
    02 BTC stop moved 95 -> 104.5
    03 BTC stop moved 104.5 -> 105.45
    03 BTC stop filled 105.45 x 10 inside the bar
    """)


def test_a_trailing_distance_in_atr_is_that_of_the_decision() -> None:
    check(f"""
    symbol BTC
    {FOURTEEN_CALM_HOURS}
    14 BTC 100 101 99 100 BUY trailing_stop_atr=1.5
    15 BTC 100 130 99 130
    16 BTC 130 131 128 130
    =>
    15 BTC entry filled 100 x 10 at the open
    16 BTC stop moved 97 -> 127
    17 BTC stop moved 127 -> 128
    """)


def test_a_short_trails_from_above() -> None:
    check("""
    rules direction=short
    symbol BTC kind=margin tick=0.1
    00 BTC 100 101 99 100 SELL stop_loss=104 trailing_stop_bps=333
    01 BTC 100 101 90 90
    02 BTC 90 93 90 92
    =>
    orders
    01 BTC signal entry_ordered
    01 BTC entry ordered budget 1000
    01 BTC entry filled 100 x 10 at the open
    01 BTC stop ordered 104 x 10
    02 BTC stop moved 104 -> 93
    02 BTC stop filled 93 x 10 inside the bar
    """)  # 3.33 % above the low of 90 is 92.997, up to 93.0


def test_an_entry_inside_the_bar_trails_from_its_close() -> None:
    check("""
    symbol BTC
    00 BTC 100 101 99 100 BUY entry_type=limit entry=95 trailing_stop_bps=1000
    01 BTC 100 120 94 97
    02 BTC 97 98 96 97
    =>
    01 BTC entry filled 95 x 10.526 inside the bar
    02 BTC stop moved 85.5 -> 87.3
    03 BTC stop moved 87.3 -> 88.2
    """)


def test_from_a_profit_on_the_stop_stands_at_the_entry() -> None:
    check("""
    symbol BTC
    symbol ETH
    00 BTC 100 101 99 100 BUY stop_loss=90 break_even_bps=500
    00 ETH 100 101 99 100 BUY break_even_bps=500
    01 BTC 100 105 99 101
    01 ETH 100 104.99 99 101
    02 BTC 101 102 99 100
    02 ETH 101 105 99 100
    03 BTC 101 102 99 100
    03 ETH 101 105 99 100
    =>
    orders
    01 BTC signal entry_ordered
    01 BTC entry ordered budget 500
    01 ETH signal entry_ordered
    01 ETH entry ordered budget 500
    01 BTC entry filled 100 x 5 at the open
    01 BTC stop ordered 90 x 5
    01 ETH entry filled 100 x 5 at the open
    02 BTC stop moved 90 -> 100
    02 BTC stop filled 100 x 5 inside the bar
    03 ETH stop ordered 100 x 5
    03 ETH stop filled 100 x 5 inside the bar
    """)


def test_a_time_stop_leaves_at_the_open_after_its_bars() -> None:
    check("""
    symbol BTC
    00 BTC 100 101 99 100 BUY time_stop_bars=2
    01 BTC 100 101 99 100
    02 BTC 100 101 99 100
    03 BTC 102 103 99 100
    =>
    orders
    01 BTC signal entry_ordered
    01 BTC entry ordered budget 1000
    01 BTC entry filled 100 x 10 at the open
    03 BTC time_stop ordered x 10
    03 BTC time_stop filled 102 x 10 at the open
    """)


def test_a_stop_at_the_average_entry_lies_on_the_tick_away() -> None:
    check("""
    rules max_entries=2 capital=initial
    symbol BTC tick=1 step=0.5
    00 BTC 100 101 99 100 BUY target_weight=0.2 stop_loss=90
    01 BTC 101 101 99 100 BUY target_weight=0.3 take_profit_1=130 take_profit_2=150
    02 BTC 102 103 99 100
    03 BTC 110 131 99 100
    =>
    01 BTC entry filled 101 x 1.5 at the open
    02 BTC entry filled 102 x 2.5 at the open
    02 BTC stop cancelled
    03 BTC target_1 filled 130 x 2 inside the bar
    03 BTC stop moved 90 -> 101
    """)  # 1.5 at 101 and 2.5 at 102


def test_finer_bars_decide_what_comes_first_inside_a_bar() -> None:
    check("""
    symbol BTC
    00 BTC 100 101 99 100 BUY stop_loss=95 take_profit_1=105
    01 BTC 100 106 94 95
    finer 01 BTC 100 106 100 105
    finer 01:15 BTC 105 105 94 95
    =>
    01 BTC entry filled 100 x 10 at the open
    01 BTC target_1 filled 105 x 10 inside the bar
    01 BTC stop cancelled
    """)


def test_a_finer_bar_that_opens_beyond_fills_at_its_open() -> None:
    check("""
    symbol BTC
    symbol ETH
    00 BTC 100 101 99 100 BUY stop_loss=95
    00 ETH 100 101 99 100 BUY entry_type=stop entry=105
    01 BTC 100 101 90 95
    01 ETH 100 109 99 107
    finer 01 BTC 100 101 100 100
    finer 01:15 BTC 92 95 90 95
    finer 01 ETH 100 101 99 100
    finer 01:15 ETH 108 109 107 107
    =>
    01 BTC entry filled 100 x 5 at the open
    01 BTC stop filled 92 x 5 at the open
    01 ETH entry filled 108 x 4.629 at the open
    """)
