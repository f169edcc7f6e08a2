"""The fill contract, a test a line: what a participation cap lets fill. docs/fill-contract.md names them."""

from tests.scenario import check


def test_a_cap_lets_a_share_of_the_volume_of_the_bar_before_fill_and_the_rest_waits() -> None:
    check("""
    rules max_volume_share=0.1
    symbol BTC
    00 BTC 100 101 99 100 BUY stop_loss=90 volume=60
    01 BTC 100 101 99 100 volume=20
    02 BTC 100 101 99 100 volume=5
    03 BTC 100 101 99 100
    04 BTC 100 101 99 100
    =>
    orders
    01 BTC signal entry_ordered
    01 BTC entry ordered budget 1000
    01 BTC entry filled 100 x 6 of 10 at the open
    01 BTC stop ordered 90 x 6
    02 BTC entry filled 100 x 2 of 4 at the open
    02 BTC stop ordered 90 x 8
    03 BTC entry filled 100 x 0.5 of 2 at the open
    03 BTC stop ordered 90 x 8.5
    04 BTC entry filled 100 x 1.5 at the open
    04 BTC stop ordered 90 x 10
    """)


def test_a_capped_exit_leaves_the_rest_for_the_next_open() -> None:
    check("""
    rules max_volume_share=0.1
    symbol BTC
    00 BTC 100 101 99 100 BUY volume=1000
    01 BTC 100 101 99 100 SELL volume=60
    02 BTC 101 101 99 100 volume=1000
    03 BTC 102 103 99 100
    =>
    01 BTC entry filled 100 x 10 at the open
    02 BTC exit filled 101 x 6 of 10 at the open
    03 BTC exit filled 102 x 4 at the open
    """)


def test_the_rest_of_a_capped_stop_leaves_at_the_next_open_whatever_its_price() -> None:
    check("""
    rules max_volume_share=0.1
    symbol BTC
    00 BTC 100 101 99 100 BUY stop_loss=95 take_profit_1=120 volume=1000
    01 BTC 100 101 99 100 volume=60
    02 BTC 100 101 94 100 volume=1000
    03 BTC 105 106 104 105
    =>
    01 BTC entry filled 100 x 10 at the open
    02 BTC stop filled 95 x 6 of 10 inside the bar
    03 BTC stop filled 105 x 4 at the open
    03 BTC target_1 cancelled
    """)


def test_what_the_cap_leaves_too_small_waits_and_is_not_refused() -> None:
    check("""
    rules max_volume_share=0.1
    symbol BTC min_quantity=5
    00 BTC 100 101 99 100 BUY volume=49
    01 BTC 100 101 99 100 volume=50
    02 BTC 100 101 99 100 volume=10
    03 BTC 100 101 99 100
    =>
    02 BTC entry filled 100 x 5 of 10 at the open
    """)


def test_what_is_left_of_an_entry_ends_with_its_position() -> None:
    check("""
    rules max_volume_share=0.1
    symbol BTC
    00 BTC 100 101 99 100 BUY stop_loss=95 volume=60
    01 BTC 100 101 94 99 volume=1000
    02 BTC 100 101 99 100
    =>
    01 BTC entry filled 100 x 6 of 10 at the open
    01 BTC entry cancelled
    02 BTC stop filled 100 x 6 at the open
    """)


def test_what_an_open_has_reached_and_the_cap_does_not_let_fill_waits_for_the_next_open() -> None:
    check("""
    rules max_volume_share=0.1
    symbol BTC min_quantity=1
    00 BTC 100 101 99 100 BUY entry_type=limit entry=95 expiry_bars=5 volume=5
    01 BTC 90 101 90 100 volume=1000
    02 BTC 94 95 94 95
    =>
    02 BTC entry filled 94 x 10.638 at the open
    """)
