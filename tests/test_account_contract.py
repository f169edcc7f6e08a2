"""What an account promises beyond single fills: shared cash, sizing and risk rules, a test a line. See docs/fill-contract.md."""

from tests.scenario import check

# Several symbols


def test_at_one_time_exits_come_first_and_then_entries_in_the_accounts_order() -> None:
    check("""
    symbol BTC
    symbol ETH
    symbol SOL
    00 BTC 100 101 99 100
    00 ETH 100 101 99 100
    00 SOL 100 101 99 100 BUY target_weight=1
    01 BTC 100 101 99 100 BUY target_weight=0.5
    01 ETH 100 101 99 100 BUY target_weight=0.5
    01 SOL 100 101 99 100 SELL
    02 BTC 100 101 99 100
    02 ETH 100 101 99 100
    02 SOL 100 101 99 100
    =>
    01 SOL entry filled 100 x 10 at the open
    02 SOL exit filled 100 x 10 at the open
    02 BTC entry filled 100 x 5 at the open
    02 ETH entry filled 100 x 5 at the open
    """)


def test_cash_that_is_promised_to_an_entry_is_not_promised_again() -> None:
    check("""
    symbol BTC min_notional=5
    symbol ETH min_notional=5
    00 BTC 100 101 99 100 BUY target_weight=0.7
    00 ETH 100 101 99 100 BUY target_weight=0.7
    01 ETH 100 101 99 100
    02 BTC 100 101 99 100
    =>
    orders
    01 BTC signal entry_ordered
    01 BTC entry ordered budget 700
    01 ETH signal entry_ordered
    01 ETH entry ordered budget 300
    01 ETH entry filled 100 x 3 at the open
    02 BTC entry filled 100 x 7 at the open
    """)


def test_an_entry_is_refused_when_no_cash_is_free() -> None:
    check("""
    symbol BTC min_notional=5
    symbol ETH min_notional=5
    00 BTC 100 101 99 100 BUY target_weight=0.997
    00 ETH 100 101 99 100 BUY target_weight=0.7
    01 BTC 100 101 99 100
    =>
    01 ETH entry refused insufficient_cash limit 5 value 3
    01 BTC entry filled 100 x 9.97 at the open
    """)


def test_a_waiting_exits_proceeds_are_counted_at_the_last_close_less_slippage_and_fee() -> None:
    check("""
    rules slippage_bps=100
    symbol BTC tick=1 taker_fee_bps=100
    symbol ETH tick=1 taker_fee_bps=100
    00 BTC 99 100 99 100 BUY target_weight=1
    01 BTC 99 100 99 100 SELL
    01 ETH 99 100 99 100 BUY target_weight=1
    02 BTC 80 100 80 100
    02 ETH 99 100 80 100
    =>
    orders
    01 BTC signal entry_ordered
    01 BTC entry ordered budget 1000
    01 BTC entry filled 100 x 9.9 at the open fee 9.9
    02 BTC signal exit_ordered
    02 BTC exit ordered x 9.9
    02 ETH signal entry_ordered
    02 ETH entry ordered budget 970.399
    02 BTC exit filled 79 x 9.9 at the open fee 7.821
    02 ETH entry filled 100 x 7.667 at the open fee 7.667
    """)  # promised 0.1 + 9.9 x 99 x 0.99 = 970.399; at the open only 774.379 is there, and no more is spent


# Sizing


def test_without_a_weight_an_entry_takes_an_equal_share_of_the_equity() -> None:
    check("""
    symbol BTC
    symbol ETH
    symbol SOL
    00 BTC 100 101 99 100 BUY
    01 BTC 100 201 99 200
    01 ETH 100 101 99 100 BUY
    02 ETH 100 101 99 100
    =>
    01 BTC entry filled 100 x 3.333 at the open
    02 ETH entry filled 100 x 4.444 at the open
    """)  # 1000 / 3, then (666.7 + 666.6) / 3


def test_the_sign_of_a_target_weight_does_not_matter() -> None:
    check("""
    symbol BTC
    00 BTC 100 101 99 100 BUY target_weight=-0.25
    01 BTC 100 101 99 100
    =>
    01 BTC entry filled 100 x 2.5 at the open
    """)


def test_capital_may_be_the_initial_cash_instead_of_the_equity() -> None:
    for capital, quantity in (("initial", "5"), ("equity", "7.5")):
        check(f"""
        rules capital={capital}
        symbol BTC
        symbol ETH
        00 BTC 100 101 99 100 BUY
        01 BTC 100 201 99 200 SELL
        02 BTC 200 201 199 200
        02 ETH 100 101 99 100 BUY
        03 ETH 100 101 99 100
        =>
        01 BTC entry filled 100 x 5 at the open
        02 BTC exit filled 200 x 5 at the open
        03 ETH entry filled 100 x {quantity} at the open
        """)


def test_a_position_is_capped_at_the_maximum_share_of_the_capital() -> None:
    check("""
    rules max_position_share=0.25
    symbol BTC
    00 BTC 100 101 99 100 BUY target_weight=0.9
    01 BTC 100 101 99 100
    =>
    01 BTC entry filled 100 x 2.5 at the open
    """)


# Risk rules


def test_an_entry_beyond_the_maximum_of_open_positions_is_refused() -> None:
    check("""
    rules max_open_positions=2
    symbol BTC
    symbol ETH
    symbol SOL
    00 BTC 100 101 99 100 BUY
    01 BTC 100 101 99 100 SELL
    01 ETH 100 101 99 100 BUY
    01 SOL 100 101 99 100 BUY
    02 BTC 100 101 99 100
    02 ETH 100 101 99 100
    02 SOL 100 101 99 100 BUY
    03 SOL 100 101 99 100
    =>
    01 BTC entry filled 100 x 3.333 at the open
    02 SOL entry refused max_open_positions limit 2 value 2
    02 BTC exit filled 100 x 3.333 at the open
    02 ETH entry filled 100 x 3.333 at the open
    03 SOL entry filled 100 x 3.333 at the open
    """)  # a position whose exit still waits counts: the exit is not certain to fill


def test_the_daily_loss_limit_stops_entries_until_the_next_utc_day() -> None:
    check("""
    rules daily_loss_limit_share=0.05
    symbol BTC
    symbol ETH
    20 BTC 100 101 99 100 BUY
    21 BTC 100 101 89 90 SELL
    22 BTC 90 91 89 90 BUY
    23 BTC 90 91 89 90 BUY
    24 BTC 90 91 89 90 BUY
    25 BTC 90 91 89 90
    =>
    21 BTC entry filled 100 x 5 at the open
    22 account loss_limit daily_loss_limit limit 0.05 value 0.05
    22 BTC exit filled 90 x 5 at the open
    23 BTC entry refused daily_loss_limit limit 0.05 value 0.05
    24 BTC entry refused daily_loss_limit limit 0.05 value 0.05
    25 BTC entry filled 90 x 5.277 at the open
    """)  # the bar of 23:00 closes at midnight and still belongs to its day


def test_a_days_loss_is_counted_from_the_last_close_of_the_day_before() -> None:
    check("""
    rules daily_loss_limit_share=0.05
    symbol BTC
    20 BTC 100 101 99 100 BUY
    23 BTC 100 101 99 96
    24 BTC 96 97 91 92
    25 BTC 92 93 91 91
    =>
    23 BTC entry filled 100 x 10 at the open
    26 account loss_limit daily_loss_limit limit 0.05 value 0.05208333
    """)


def test_the_maximum_drawdown_halts_entries_for_good_and_leaves_exits_alone() -> None:
    check("""
    rules max_drawdown_share=0.25
    symbol BTC
    00 BTC 100 101 99 100 BUY
    01 BTC 100 201 99 200
    02 BTC 150 151 149 150 SELL
    03 BTC 160 161 149 160 BUY
    40 BTC 300 301 299 300 BUY
    =>
    01 BTC entry filled 100 x 10 at the open
    03 account halt max_drawdown limit 0.25 value 0.25
    03 BTC exit filled 160 x 10 at the open
    04 BTC entry refused max_drawdown limit 0.25 value 0.2
    41 BTC entry refused max_drawdown limit 0.25 value 0.2
    """)


def test_after_a_stop_the_symbol_cools_down_for_a_number_of_bars_of_time() -> None:
    check("""
    rules cooldown_bars=3
    symbol BTC
    symbol ETH
    00 BTC 100 101 99 100 BUY stop_loss=95
    01 BTC 100 101 90 100 BUY
    01 ETH 100 101 99 100 BUY
    03 BTC 100 101 90 100 BUY
    04 BTC 100 101 90 100 BUY
    05 BTC 100 101 90 100
    =>
    01 BTC entry filled 100 x 5 at the open
    01 BTC stop filled 95 x 5 inside the bar
    02 BTC entry refused cooldown limit 3 value 0
    04 BTC entry refused cooldown limit 3 value 2
    05 BTC entry filled 100 x 4.875 at the open
    """)


def test_limits_are_judged_at_the_decision_and_do_not_cancel_what_was_ordered() -> None:
    check("""
    rules max_drawdown_share=0.1
    symbol BTC
    symbol ETH
    00 BTC 100 101 99 100 BUY target_weight=0.5
    00 ETH 100 101 99 100 BUY target_weight=0.5
    01 BTC 100 101 49 50
    05 ETH 100 101 99 100
    =>
    01 BTC entry filled 100 x 5 at the open
    02 account halt max_drawdown limit 0.1 value 0.25
    05 ETH entry filled 100 x 5 at the open
    """)
