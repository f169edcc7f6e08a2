"""The built-in strategies on real and on small candles; what the contract refuses."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from candlewick.candles import CANDLE_SCHEMA
from candlewick.errors import StrategyFailed, UnknownStrategy
from candlewick.strategies.bollinger_reversion import BollingerReversion
from candlewick.strategies.buy_and_hold import BuyAndHold
from candlewick.strategies.contract import SIGNAL_SCHEMA, Strategy, complete_signals
from candlewick.strategies.decisions import price_text
from candlewick.strategies.donchian_breakout import DonchianBreakout
from candlewick.strategies.fibonacci_golden_zone import FibonacciGoldenZone
from candlewick.strategies.macd_trend import MacdTrend
from candlewick.strategies.rsi_reversion import RsiReversion
from candlewick.strategies.sma_cross import SmaCross
from candlewick.strategies.supertrend import SuperTrend
from tests.shared_data import real_candles

BUILT_IN = [
    FibonacciGoldenZone(),
    FibonacciGoldenZone(lookback_bars=24, min_swing_bps=0, confirmation="none", one_entry_per_swing=False),
    FibonacciGoldenZone(confirmation="rejection", lookback_bars=90),
    SmaCross(),
    SmaCross(fast=1, slow=2),
    RsiReversion(),
    RsiReversion(period=2, oversold=10, overbought=90, stop_loss_atr=2, take_profit_1_atr=3),
    SmaCross(fast=3, slow=8, stop_loss_bps=150, take_profit_1_bps=300, trailing_stop_bps=200),
    DonchianBreakout(),
    DonchianBreakout(channel_bars=1, trailing_stop_atr=2, time_stop_bars=12),
    DonchianBreakout(channel_bars=48, entry_type="stop", expiry_bars=4, stop_loss_bps=250),
    MacdTrend(),
    MacdTrend(fast=1, slow=2, signal=2, take_profit_1_bps=80),
    BollingerReversion(),
    BollingerReversion(period=2, deviations=0.5, exit_at="middle", time_stop_bars=3),
    BollingerReversion(entry_type="limit", expiry_bars=2, exit_at="middle", stop_loss_bps=500),
    SuperTrend(),
    SuperTrend(period=1, multiple=1.5, trailing_stop_bps=400),
    BuyAndHold(),
    BuyAndHold(target_weight=0.25),
]
MARKETS = ["binance_BTCUSDT_1h", "binance_SOLUSDT_4h"]


def candles(closes: list[float], opens: list[float] | None = None, spread: float = 0.0) -> pl.DataFrame:
    """Hourly candles that open at the previous close unless told otherwise; high and low lie ``spread`` beyond open and close."""
    opens = opens or [closes[0], *closes[:-1]]
    return pl.DataFrame(
        {
            "opened_at": [datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=hour) for hour in range(len(closes))],
            "open": opens,
            "high": [max(pair) + spread for pair in zip(opens, closes, strict=True)],
            "low": [min(pair) - spread for pair in zip(opens, closes, strict=True)],
            "close": closes,
            "volume": [1.0] * len(closes),
        },
        schema=dict(CANDLE_SCHEMA),
    )


def acting(strategy: Strategy, frame: pl.DataFrame) -> list[tuple[int, str]]:
    """Bars that do not hold, with their action."""
    actions = complete_signals(strategy, frame)["action"].to_list()
    return [(bar, action) for bar, action in enumerate(actions) if action != "HOLD"]


@given(cut=st.integers(0, 3_000), strategy=st.sampled_from(BUILT_IN), market=st.sampled_from(MARKETS))
@settings(max_examples=150, deadline=None)
def test_no_decision_changes_when_later_candles_are_added(cut: int, strategy: Strategy, market: str) -> None:
    whole = real_candles(market).head(3_000)
    assert complete_signals(strategy, whole.head(cut)).equals(complete_signals(strategy, whole).head(cut))


@pytest.mark.parametrize("strategy", BUILT_IN, ids=repr)
def test_a_decision_is_the_same_at_the_last_closed_bar_and_in_the_whole_history(strategy: Strategy) -> None:
    whole = real_candles("binance_ETHUSDT_4h").head(1_500)
    signals = complete_signals(strategy, whole)
    decided = [bar for bar, action in enumerate(signals["action"]) if action != "HOLD"]
    assert decided
    for bar in decided:
        assert complete_signals(strategy, whole.head(bar + 1)).row(-1) == signals.row(bar)


@pytest.mark.parametrize("strategy", BUILT_IN, ids=repr)
def test_every_action_has_a_reason_and_only_a_buy_or_a_sell_has_prices(strategy: Strategy) -> None:
    signals = complete_signals(strategy, real_candles("binance_BTCUSDT_1h").head(5_000))
    acts, enters = pl.col("action") != "HOLD", pl.col("action").is_in(["BUY", "SELL"])
    said = pl.any_horizontal(pl.exclude("opened_at", "action", "reason").is_not_null())
    assert signals.schema == dict(SIGNAL_SCHEMA)
    assert signals.filter(acts != pl.col("reason").is_not_null()).is_empty()
    assert signals.filter((pl.col("action") == "BUY") & pl.col("entry").is_null()).is_empty()
    assert signals.filter(~enters & said).is_empty()
    assert signals.head(strategy.warmup).filter(acts).is_empty()


@pytest.mark.parametrize("strategy", BUILT_IN, ids=repr)
def test_a_short_is_protected_as_a_long_is(strategy: Strategy) -> None:
    signals = complete_signals(strategy, real_candles("binance_BTCUSDT_1h").head(5_000)).drop("opened_at", "reason", "entry")
    buys, sells = (signals.filter(pl.col("action") == action).drop("action") for action in ("BUY", "SELL"))
    if sells.is_empty():
        assert isinstance(strategy, FibonacciGoldenZone | BuyAndHold)
    else:
        assert buys.unique().equals(sells.unique())
        assert buys.unique().height == 1


@pytest.mark.parametrize("strategy", BUILT_IN, ids=repr)
@pytest.mark.parametrize("bars", [0, 1, 2])
def test_too_little_history_is_no_error(strategy: Strategy, bars: int) -> None:
    assert complete_signals(strategy, candles([100.0, 101.0]).head(bars)).height == bars


# --- fibonacci_golden_zone: a swing from 100 (bar 0) to 200 (bar 2); the zone is 138.2-150, the stop lies at 121.4

SWING = [100.0, 150.0, 200.0, 160.0, 137.0]
ZONE = FibonacciGoldenZone(lookback_bars=4, stop_buffer_bps=0, target_2_extension=1.272)


def with_settings(**changed: object) -> FibonacciGoldenZone:
    return FibonacciGoldenZone.model_validate({**ZONE.model_dump(), "lookback_bars": 6, **changed})


def test_a_confirmed_close_in_the_golden_zone_is_bought_with_stop_and_targets_from_the_swing() -> None:
    frame = candles([120.0, 100.0, 150.0, 200.0, 160.0, 137.0, 145.0])
    buy = complete_signals(with_settings(), frame).row(6, named=True)
    assert acting(with_settings(), frame) == [(6, "BUY")]
    assert buy["entry"] == 145.0
    assert buy["stop_loss"] == pytest.approx(200 - 78.6)
    assert buy["take_profit_1"] == 200.0
    assert buy["take_profit_2"] == pytest.approx(227.2)
    assert buy["target_weight"] is None
    assert buy["reason"] == (
        "close 145.00 inside golden zone 138.20-150.00 of swing 100.00→200.00, closing above its open and the previous close"
    )


@pytest.mark.parametrize(("close", "bought"), [(138.19, False), (138.21, True), (149.99, True), (150.0, True), (150.01, False)])
def test_the_zone_ends_at_its_two_retracements(close: float, bought: bool) -> None:
    frame = candles([120.0, 100.0, 150.0, 200.0, 160.0, 137.0, close])
    assert acting(with_settings(), frame) == ([(6, "BUY")] if bought else [])


def test_a_falling_close_in_the_zone_is_not_bought_unless_confirmation_is_switched_off() -> None:
    frame = candles([120.0, 100.0, 150.0, 200.0, 190.0, 160.0, 145.0])
    assert acting(with_settings(), frame) == []
    assert acting(with_settings(confirmation="none"), frame) == [(6, "BUY")]


def test_a_rejection_needs_a_low_below_the_zone_and_a_close_above_the_open() -> None:
    closes, opens = [120.0, 100.0, 150.0, 200.0, 160.0, 141.0, 145.0], [120.0, 120.0, 100.0, 150.0, 200.0, 160.0, 141.0]
    assert acting(with_settings(confirmation="rejection"), candles(closes, opens)) == []
    opens[6] = 137.0
    assert acting(with_settings(confirmation="rejection"), candles(closes, opens)) == [(6, "BUY")]


def test_a_swing_whose_high_came_before_its_low_is_not_bought() -> None:
    assert acting(with_settings(confirmation="none"), candles([150.0, 200.0, 160.0, 120.0, 100.0, 130.0, 145.0])) == []


def test_a_swing_that_is_not_tall_enough_is_not_bought() -> None:
    frame = candles([120.0, 100.0, 150.0, 200.0, 160.0, 137.0, 145.0])
    assert acting(with_settings(min_swing_bps=10_000), frame) == [(6, "BUY")]
    assert acting(with_settings(min_swing_bps=10_001), frame) == []


def test_one_swing_high_is_bought_once_unless_the_setting_says_each_time() -> None:
    frame = candles([120.0, 120.0, 120.0, 120.0, 100.0, 150.0, 200.0, 160.0, 137.0, 145.0, 137.0, 145.0])
    assert acting(with_settings(lookback_bars=9), frame) == [(9, "BUY")]
    assert acting(with_settings(lookback_bars=9, one_entry_per_swing=False), frame) == [(9, "BUY"), (11, "BUY")]


def test_the_stop_lies_its_buffer_below_the_stop_retracement() -> None:
    frame = candles([120.0, 100.0, 150.0, 200.0, 160.0, 137.0, 145.0])
    stop = complete_signals(with_settings(stop_buffer_bps=100), frame)["stop_loss"][6]
    assert stop == pytest.approx(121.4 * 0.99)


@pytest.mark.parametrize("market", MARKETS)
def test_stop_entry_and_targets_of_the_golden_zone_are_in_order_on_real_candles(market: str) -> None:
    buys = complete_signals(FibonacciGoldenZone(), real_candles(market)).filter(pl.col("action") == "BUY")
    assert buys.height > 50
    in_order = (
        (pl.col("stop_loss") > 0)
        & (pl.col("stop_loss") < pl.col("entry"))
        & (pl.col("entry") < pl.col("take_profit_1"))
        & (pl.col("take_profit_1") < pl.col("take_profit_2"))
    )
    assert buys.filter(~in_order).is_empty()


# --- the other built-ins


def test_averages_that_touch_and_part_on_the_same_side_have_not_crossed() -> None:
    strategy = SmaCross(fast=1, slow=2)
    assert acting(strategy, candles([10.0, 9.0, 9.0, 8.0])) == []
    assert acting(strategy, candles([10.0, 9.0, 9.0, 9.5])) == [(3, "BUY")]


def test_crosses_are_bought_and_sold_with_both_averages_in_the_reason() -> None:
    signals = complete_signals(SmaCross(fast=1, slow=2), candles([10.0, 9.0, 11.0, 8.0]))
    assert signals["action"].to_list() == ["HOLD", "HOLD", "BUY", "SELL"]
    assert signals["reason"][2] == "SMA(1) 11.0000 crossed above SMA(2) 10.0000"
    assert signals["reason"][3] == "SMA(1) 8.0000 crossed below SMA(2) 9.5000"


def test_the_strength_index_is_bought_once_as_it_falls_below_oversold() -> None:
    strategy = RsiReversion(period=2, oversold=30, overbought=70, stop_loss_atr=1.5)
    signals = complete_signals(strategy, candles([10.0, 11.0, 10.0, 9.0, 8.0, 9.0, 11.0]))
    assert signals["action"].to_list() == ["HOLD", "HOLD", "HOLD", "BUY", "HOLD", "HOLD", "SELL"]
    assert signals["stop_loss_atr"].to_list() == [None, None, None, 1.5, None, None, 1.5]
    assert signals["take_profit_1_atr"].null_count() == 7
    assert signals["reason"][3] == "RSI(2) 25.00 fell below 30"
    assert signals["reason"][6].endswith("rose above 70")


def test_a_breakout_is_a_close_beyond_the_extremes_of_the_bars_before() -> None:
    strategy = DonchianBreakout(channel_bars=2, trailing_stop_atr=2)
    frame = candles([10.0, 10.5, 10.2, 10.9, 11.5, 10.0, 9.8], spread=0.1)
    signals = complete_signals(strategy, frame)
    assert signals["action"].to_list() == ["HOLD", "HOLD", "HOLD", "BUY", "HOLD", "SELL", "HOLD"]
    assert signals["reason"][3] == "close 10.9000 above the highest high 10.6000 of 2 bars"
    assert signals["reason"][5] == "close 10.0000 below the lowest low 10.1000 of 2 bars"
    assert signals["entry"].to_list() == [None, None, None, 10.9, None, 10.0, None]
    assert signals["trailing_stop_atr"].to_list() == [None, None, None, 2.0, None, 2.0, None]
    assert signals["entry_type"].null_count() == 7


def test_what_is_outside_on_the_first_bar_that_is_known_has_not_broken_out() -> None:
    assert acting(DonchianBreakout(channel_bars=2), candles([10.0, 10.5, 12.0, 13.0])) == []
    assert acting(DonchianBreakout(channel_bars=2), candles([10.0, 10.5, 10.2, 12.0, 13.0])) == [(3, "BUY")]
    assert acting(BollingerReversion(period=3, deviations=1.2), candles([10.0, 10.0, 9.0, 5.0])) == []
    assert acting(BollingerReversion(period=3, deviations=1.2), candles([10.0, 9.0, 10.0, 5.0])) == [(3, "BUY")]


def test_a_breakouts_stop_entry_waits_at_the_end_of_the_bar_that_broke_out() -> None:
    strategy = DonchianBreakout(channel_bars=2, entry_type="stop", expiry_bars=3)
    signals = complete_signals(strategy, candles([10.0, 10.5, 10.2, 10.9, 11.5, 10.0, 9.8], spread=0.1))
    acting_rows = signals.filter(pl.col("action") != "HOLD").select("action", "entry", "entry_type", "expiry_bars").rows()
    assert acting_rows == [("BUY", 11.0, "stop", 3), ("SELL", 9.9, "stop", 3)]


def test_the_macd_is_bought_and_sold_where_its_histogram_changes_sign() -> None:
    strategy = MacdTrend(fast=1, slow=2, signal=2, stop_loss_bps=100)
    signals = complete_signals(strategy, candles([10.0, 9.0, 7.0, 8.0, 9.0, 8.0]))
    assert signals["action"].to_list() == ["HOLD", "HOLD", "HOLD", "BUY", "HOLD", "SELL"]
    assert signals["reason"][3] == "MACD(1, 2) crossed above its signal(2) by 0.240741"
    assert signals["stop_loss_bps"].to_list() == [None, None, None, 100.0, None, 100.0]


def test_bollinger_bands_are_bought_below_and_sold_above_and_left_at_the_middle_if_asked() -> None:
    closes = [10.0, 10.1, 10.0, 9.0, 9.9, 10.0, 10.05, 11.5]
    opposite = BollingerReversion(period=3, deviations=1.2)
    assert acting(opposite, candles(closes)) == [(3, "BUY"), (7, "SELL")]
    middle = BollingerReversion(period=3, deviations=1.2, exit_at="middle")
    signals = complete_signals(middle, candles(closes))
    assert acting(middle, candles(closes)) == [(3, "BUY"), (4, "EXIT"), (7, "SELL")]
    assert signals["reason"][3] == "close 9.0000 below the lower Bollinger(3, 1.2) band 9.1040"
    assert signals["reason"][4] == "close 9.9000 at the middle Bollinger(3, 1.2) band 9.6333"


def test_a_limit_entry_asks_for_the_deciding_close() -> None:
    strategy = BollingerReversion(period=3, deviations=1.2, entry_type="limit", expiry_bars=2)
    signals = complete_signals(strategy, candles([10.0, 10.1, 10.0, 9.0, 9.9, 10.0, 10.05, 11.5]))
    rows = signals.filter(pl.col("action") != "HOLD").select("action", "entry", "entry_type", "expiry_bars").rows()
    assert rows == [("BUY", 9.0, "limit", 2), ("SELL", 11.5, "limit", 2)]


def test_the_supertrend_is_followed_at_each_turn() -> None:
    strategy = SuperTrend(period=2, multiple=1)
    signals = complete_signals(strategy, candles([10.0, 9.0, 8.0, 10.0, 11.0, 8.0, 7.0]))
    assert signals["action"].to_list() == ["HOLD", "HOLD", "HOLD", "BUY", "HOLD", "SELL", "HOLD"]
    assert signals["reason"][3] == "SuperTrend(2, 1) turned up at close 10.0000; the line is now 7.5000"


@pytest.mark.parametrize("strategy", [SuperTrend(), MacdTrend(), SmaCross()], ids=repr)
def test_trend_followers_take_the_sides_in_turn(strategy: Strategy) -> None:
    actions = [action for _, action in acting(strategy, real_candles("binance_SOLUSDT_4h"))]
    assert len(actions) > 50
    assert all(one != other for one, other in pairwise(actions))


def test_buy_and_hold_buys_at_the_first_bar_only() -> None:
    signals = complete_signals(BuyAndHold(target_weight=0.5), candles([10.0, 11.0, 12.0]))
    assert signals["action"].to_list() == ["BUY", "HOLD", "HOLD"]
    assert signals["target_weight"].to_list() == [0.5, None, None]
    assert complete_signals(BuyAndHold(), candles([10.0]))["target_weight"].to_list() == [None]


@pytest.mark.parametrize(
    ("strategy", "parameters"),
    [
        (SmaCross, {"fast": 30, "slow": 30}),
        (RsiReversion, {"oversold": 70, "overbought": 30}),
        (FibonacciGoldenZone, {"zone_upper": 0.7}),
        (FibonacciGoldenZone, {"stop_retracement": 0.6}),
        (FibonacciGoldenZone, {"target_2_extension": 1.0}),
        (BuyAndHold, {"target_weight": float("inf")}),
        (MacdTrend, {"fast": 26}),
        (SmaCross, {"stop_loss_bps": 10_000}),
        (SmaCross, {"trailing_stop_bps": 0}),
        *(
            (strategy, {"trailing_stop_bps": 100, "trailing_stop_atr": 2})
            for strategy in (DonchianBreakout, MacdTrend, BollingerReversion, SuperTrend)
        ),
    ],
)
def test_parameters_that_contradict_each_other_or_leave_their_bounds_are_refused(
    strategy: type[Strategy], parameters: dict[str, float]
) -> None:
    with pytest.raises(ValidationError):
        strategy.model_validate(parameters)


def test_a_price_has_more_decimals_the_smaller_it_is() -> None:
    texts = [price_text(price) for price in (61200, 1.08345, 0.05, 0.00000812)]
    assert texts == ["61,200.00", "1.0835", "0.050000", "0.0000081200"]


# --- the contract


class Answering(Strategy):
    """Answers whatever columns it is told; scalars are repeated for every candle."""

    columns: dict[str, object]
    bars: int = 3
    warm: int = 0

    @property
    def warmup(self) -> int:
        return self.warm

    def signals(self, candles: pl.DataFrame) -> pl.DataFrame:
        rows = {name: value if isinstance(value, list) else [value] * self.bars for name, value in self.columns.items()}
        return pl.DataFrame(rows, strict=False)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({"action": "HOLD", "colour": "red"}, "unknown columns"),
        ({"reason": "because"}, "must answer `action`"),
        ({"action": ["HOLD"]}, "each of 3 candles"),
        (
            {"action": ["HOLD", "HODL", "HOLD"]},
            "action must be BUY, SELL, EXIT or HOLD; action is 'HODL' at 2026-01-01 01:00 UTC",
        ),
        ({"action": ["HOLD", None, "HOLD"]}, "action is None at 2026-01-01 01:00"),
        ({"action": "BUY", "entry": -1.0}, "entry must be a finite number above 0; entry is -1.0"),
        ({"action": "BUY", "entry": float("nan")}, "entry must be a finite number above 0; entry is nan"),
        ({"action": "BUY", "stop_loss": 0.0}, "stop_loss must be a finite number above 0"),
        ({"action": "HOLD", "stop_loss_bps": float("inf")}, "stop_loss_bps must be a finite number above 0"),
        ({"action": "BUY", "take_profit_2_atr": -2.0}, "take_profit_2_atr must be a finite number above 0"),
        ({"action": "BUY", "stop_loss": 9.0, "stop_loss_bps": 50.0}, "stop_loss must be given in one form"),
        ({"action": "BUY", "target_weight": 1.01}, "target_weight must be within -1 to 1; target_weight is 1.01"),
        ({"action": "BUY", "target_weight": float("nan")}, "target_weight must be within -1 to 1"),
        ({"action": "BUY", "entry": "high"}, "column of another type"),
        ({"action": "HOLD", "opened_at": datetime(2026, 1, 1, tzinfo=UTC)}, "order of the candles"),
    ],
    ids=str,
)
def test_the_contract_refuses_a_senseless_answer_and_says_what_and_where(answer: dict[str, object], message: str) -> None:
    with pytest.raises(UnknownStrategy, match=r"Answering\.signals.*") as refusal:
        complete_signals(Answering(columns=answer), candles([10.0, 11.0, 12.0]))
    assert message in str(refusal.value)


def test_warm_up_bars_hold_and_are_otherwise_empty_whatever_the_strategy_says() -> None:
    answer = Answering(columns={"action": "BUY", "entry": 10.0, "stop_loss": 9.0, "reason": "now"}, warm=2)
    signals = complete_signals(answer, candles([10.0, 11.0, 12.0]))
    assert signals["action"].to_list() == ["HOLD", "HOLD", "BUY"]
    assert signals.head(2).drop("opened_at", "action").null_count().row(0) == (2,) * (len(SIGNAL_SCHEMA) - 2)
    assert signals.row(2, named=True)["reason"] == "now"


def test_nan_on_a_bar_that_does_not_buy_means_none() -> None:
    answer = Answering(columns={"action": ["HOLD", "SELL", "BUY"], "stop_loss": [float("nan"), float("nan"), 9.0]})
    assert complete_signals(answer, candles([10.0, 11.0, 12.0]))["stop_loss"].to_list() == [None, None, 9.0]


def test_signals_carry_the_open_times_of_their_candles() -> None:
    frame = candles([10.0, 11.0, 12.0])
    assert complete_signals(Answering(columns={"action": "HOLD"}), frame)["opened_at"].equals(frame["opened_at"])


class Broken(Strategy):
    """Fails in its own code, or answers no frame at all."""

    answer: bool = False

    def signals(self, candles: pl.DataFrame) -> pl.DataFrame:
        return [] if self.answer else candles["volume"] / candles["nonsense"]


def test_an_error_in_the_strategys_own_code_is_named_with_its_cause() -> None:
    with pytest.raises(StrategyFailed, match=r"Broken\.signals failed on 1 candles: ColumnNotFoundError") as failure:
        complete_signals(Broken(), candles([10.0]))
    assert failure.value.__cause__ is not None
    with pytest.raises(UnknownStrategy, match="it answered list"):
        complete_signals(Broken(answer=True), candles([10.0]))


def test_a_strategy_without_signals_says_so() -> None:
    with pytest.raises(UnknownStrategy, match="has no signals"):
        complete_signals(Strategy(), candles([10.0]))
