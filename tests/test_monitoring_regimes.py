"""Regimes: what a bar says, how long it has to say so, and that later candles never change it."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import talib
from hypothesis import given, settings
from hypothesis import strategies as st

from candlewick.candles import CANDLE_SCHEMA, empty_candles
from candlewick.monitoring.from_settings import regime_rules
from candlewick.monitoring.regime_fold import fold_regimes, rolling_median
from candlewick.monitoring.regimes import REGIME_SCHEMA, REGIMES, RegimeRules, regime_frame, regime_tail, regime_warmup
from candlewick.settings_monitoring import RegimeSettings
from tests.shared_data import real_candles

DEFAULTS = regime_rules(RegimeSettings(), "1h")
# Short enough for markets of a hundred bars.
QUICK = replace(
    DEFAULTS, timeframe_ms=60_000, adx_bars=5, slope_bars=6, slope_bps=0.5, volatility_bars=8, volatility_base_bars=20
)
HIGH, TREND, RANGE = REGIMES.index("high_volatility"), REGIMES.index("trend"), REGIMES.index("range")


def market(closes: np.ndarray, wick: float = 0.0002) -> pl.DataFrame:
    """Minutes with these closes; each opens at the close before, and its wicks are ``wick`` of the price long."""
    opens = np.concatenate([closes[:1], closes[:-1]])
    columns = {
        "opened_at": np.arange(closes.size) * 60_000,
        "open": opens,
        "high": np.maximum(opens, closes) * (1 + wick),
        "low": np.minimum(opens, closes) * (1 - wick),
        "close": closes,
        "volume": np.ones(closes.size),
    }
    return pl.DataFrame(columns).select(pl.col(name).cast(kind) for name, kind in CANDLE_SCHEMA.items())


def walk(seed: int, bars: int) -> np.ndarray:
    """A random walk whose volatility and drift change now and then."""
    chance = np.random.default_rng(seed)
    blocks = -(-bars // 40)
    sizes = np.repeat(chance.choice([0.0, 0.0005, 0.002, 0.01], blocks), 40)[:bars]
    drifts = np.repeat(chance.choice([-0.002, 0.0, 0.002], blocks), 40)[:bars]
    return 100.0 * np.exp(np.cumsum(drifts + sizes * chance.normal(size=bars)))


def slow_regimes(frame: pl.DataFrame, rules: RegimeRules) -> list[str]:
    """The rules of regimes.py in plain words, on the measures of the frame."""
    told, says, high, direction = [], [], False, False
    volatility = frame["volatility"].to_list()
    for bar, row in enumerate(frame.iter_rows(named=True)):
        if bar < regime_warmup(rules):
            told.append("unknown")
            continue
        usual = float(np.median(volatility[bar + 1 - rules.volatility_base_bars : bar + 1]))
        if volatility[bar] == 0 or volatility[bar] < rules.volatility_leave * usual:
            high = False
        elif volatility[bar] >= rules.volatility_enter * usual:
            high = True
        if row["adx"] < rules.range_adx:
            direction = False
        elif row["adx"] >= rules.trend_adx:
            direction = True
        trend = direction and abs(row["slope_bps"]) >= rules.slope_bps
        says.append("high_volatility" if high else "trend" if trend else "range")
        agreed = len(says) >= rules.confirm_bars and len(set(says[-rules.confirm_bars :])) == 1
        told.append(says[-1] if agreed or len(says) == 1 else told[-1])
    return told


def fold(
    strength: list[float], volatility: list[float], steepness: list[float] | None = None, confirm_bars: int = 1
) -> list[str]:
    """Regimes by the default thresholds, of measures that are all known and a usual volatility of 1."""
    slopes = np.array(steepness or [10.0] * len(strength))
    codes = fold_regimes(
        np.array(strength), np.array(volatility), np.ones(len(strength)), slopes, 0, 25.0, 20.0, 1.0, 2.0, 1.5, confirm_bars
    )
    return [REGIMES[code] for code in codes]


def test_a_steady_climb_is_a_trend_a_swing_to_and_fro_a_range_and_a_storm_high_volatility() -> None:
    climb = 100 * 1.001 ** np.arange(100) * (1 + 0.0002 * np.cos(np.arange(100)))
    swing = climb[-1] * (1 + 0.001 * np.sin(np.arange(100) * 2 * np.pi / 3))
    storm = swing[-1] * (1 + 0.03 * np.where(np.arange(40) % 2, 1, -1))
    regimes = regime_frame(market(np.concatenate([climb, swing, storm])), QUICK)["regime"]
    assert regimes[regime_warmup(QUICK) : 95].unique().to_list() == ["trend"]
    assert regimes[130:195].unique().to_list() == ["range"]
    assert regimes[205:215].unique().to_list() == ["high_volatility"]


@pytest.mark.parametrize("name", ["binance_BTCUSDT_1h", "binance_SOLUSDT_4h"])
def test_regimes_of_real_markets_are_those_of_a_slow_recomputation(name: str) -> None:
    frame = regime_frame(real_candles(name).tail(4_000), DEFAULTS)
    assert frame["regime"].to_list() == slow_regimes(frame, DEFAULTS)
    assert set(frame["regime"]) == set(REGIMES)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), confirm_bars=st.integers(1, 5), base_bars=st.integers(10, 41))
def test_regimes_of_any_market_are_those_of_a_slow_recomputation(seed: int, confirm_bars: int, base_bars: int) -> None:
    rules = replace(QUICK, confirm_bars=confirm_bars, volatility_base_bars=base_bars)
    frame = regime_frame(market(walk(seed, 300)), rules)
    assert frame["regime"].to_list() == slow_regimes(frame, rules)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), bars=st.integers(0, 300), other=st.integers(0, 10_000))
def test_a_row_never_changes_whatever_candles_come_later(seed: int, bars: int, other: int) -> None:
    past = walk(seed, 300)[:bars]
    future = (past[-1] if bars else 1.0) * walk(other, 80) / 100
    short, long = market(past), market(np.concatenate([past, future]))
    assert regime_frame(long, QUICK).head(bars).equals(regime_frame(short, QUICK), null_equal=True)


def test_a_row_of_a_real_market_never_changes_when_candles_are_added() -> None:
    candles = real_candles("binance_BTCUSDT_1h").tail(3_000)
    whole = regime_frame(candles, DEFAULTS)
    for bars in (1, 548, 549, 550, 1_111, 2_222, 2_999):
        assert regime_frame(candles.head(bars), DEFAULTS).equals(whole.head(bars), null_equal=True), bars


@pytest.mark.parametrize(
    "changes",
    [{}, {"adx_bars": 40}, {"slope_bars": 90}, {"volatility_bars": 30, "volatility_base_bars": 10}],
    ids=["volatility", "adx", "slope", "short base"],
)
def test_a_regime_is_unknown_for_exactly_the_warm_up(changes: dict[str, int]) -> None:
    rules = replace(QUICK, **changes)
    frame = regime_frame(market(walk(5, 200)), rules)
    is_unknown = (frame["regime"] == "unknown").to_numpy()
    assert np.flatnonzero(is_unknown).tolist() == list(range(regime_warmup(rules)))
    known = frame.slice(regime_warmup(rules))
    assert sum(known.null_count().row(0)) == 0


def test_the_warm_up_of_the_defaults_is_that_of_the_usual_volatility() -> None:
    assert regime_warmup(DEFAULTS) == 50 + 500 - 1


@pytest.mark.parametrize("bars", [0, 1, 2])
def test_a_market_that_has_just_begun_has_rows_and_no_regime(bars: int) -> None:
    frame = regime_frame(market(np.full(bars, 10.0)) if bars else empty_candles(), QUICK)
    assert frame.schema == pl.Schema(REGIME_SCHEMA)
    assert frame["regime"].to_list() == ["unknown"] * bars
    assert regime_tail(market(np.full(bars, 10.0)) if bars else empty_candles(), QUICK).equals(frame, null_equal=True)


def test_the_measures_are_those_of_ta_lib_and_of_numpy() -> None:
    candles = market(walk(3, 400))
    frame = regime_frame(candles, QUICK)
    high, low, close = (candles[name].to_numpy() for name in ("high", "low", "close"))
    np.testing.assert_allclose(frame["adx"].to_numpy(), talib.ADX(high, low, close, QUICK.adx_bars), rtol=1e-9, atol=1e-9)
    returns = np.diff(np.log(close))
    deviation = np.std(returns[-QUICK.volatility_bars :], ddof=1)
    assert frame["volatility"][-1] == pytest.approx(deviation * np.sqrt(365 * 24 * 60), rel=1e-9)
    average = talib.SMA(close, QUICK.slope_bars)
    assert frame["slope_bps"][-1] == pytest.approx((average[-1] / average[-2] - 1) * 10_000, rel=1e-6)
    assert frame["slope_bps"].null_count() == QUICK.slope_bars
    assert frame["volatility"].null_count() == QUICK.volatility_bars


def test_no_regime_depends_on_the_length_of_a_bar() -> None:
    candles = market(walk(11, 300))
    minutes, days = (regime_frame(candles, replace(QUICK, timeframe_ms=ms)) for ms in (60_000, 86_400_000))
    assert minutes["regime"].equals(days["regime"])
    assert minutes["volatility"][-1] == pytest.approx(days["volatility"][-1] * np.sqrt(1440))


def test_a_market_that_stands_still_is_a_range_and_its_first_movement_is_high_volatility() -> None:
    closes = np.full(200, 50.0)
    closes[150:] = 50.5
    frame = regime_frame(market(closes, wick=0.0), replace(QUICK, volatility_base_bars=60))
    assert frame["regime"][regime_warmup(QUICK) + 40 : 150].unique().to_list() == ["range"]
    assert frame["regime"][152] == "high_volatility"


def test_a_trend_goes_on_at_its_start_and_off_only_below_its_end() -> None:
    strength = [15.0, 24.9, 25.0, 24.0, 20.0, 25.0, 19.9, 24.9, 20.0, 25.0]
    calm = [1.0] * len(strength)
    trend = [2, 3, 4, 5, 9]
    assert [bar for bar, regime in enumerate(fold(strength, calm)) if regime == "trend"] == trend


def test_high_volatility_goes_on_at_its_start_off_only_below_its_end_and_before_a_trend() -> None:
    volatility = [1.9, 2.0, 1.6, 1.5, 1.4, 1.9, 3.0]
    assert fold([30.0] * 7, volatility) == ["trend", *["high_volatility"] * 3, "trend", "trend", "high_volatility"]


def test_a_trend_has_a_slope_as_long_as_it_lasts() -> None:
    strength, steepness = [30.0, 30.0, 22.0, 22.0, 19.0, 22.0], [0.9, 1.0, 0.9, 1.0, 5.0, 5.0]
    assert fold(strength, [1.0] * 6, steepness) == ["range", "trend", "range", "trend", "range", "range"]


def test_a_regime_changes_only_after_enough_bars_in_a_row() -> None:
    strength = [30.0, 10.0, 10.0, 30.0, 10.0, 10.0, 10.0, 30.0, 10.0]
    assert fold(strength, [1.0] * 9, confirm_bars=3) == ["trend"] * 6 + ["range"] * 3


def test_bars_that_say_different_things_do_not_add_up_to_a_change() -> None:
    strength, volatility = [30.0, 10.0, 10.0, 10.0, 10.0, 10.0], [1.0, 1.0, 2.0, 1.0, 2.0, 2.0]
    assert fold(strength, volatility, confirm_bars=2) == [*["trend"] * 5, "high_volatility"]


def test_the_switches_make_fewer_changes_than_thresholds_without_a_band_and_without_patience() -> None:
    candles = real_candles("binance_BTCUSDT_1h").tail(8_000)
    hasty = replace(DEFAULTS, range_adx=25.0, volatility_leave=2.0, confirm_bars=1)
    changes = [
        int((frame["regime"] != frame["regime"].shift()).sum()) for frame in (regime_frame(candles, r) for r in (DEFAULTS, hasty))
    ]
    assert changes[0] < changes[1] / 1.5


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.sampled_from([0.0, 0.1, 0.2, 0.3, 1.5, 7.0]) | st.floats(0, 10), max_size=80), window=st.integers(1, 30)
)
def test_the_rolling_median_is_numpys_median_of_each_window(values: list[float], window: int) -> None:
    found = rolling_median(np.array(values, dtype=np.float64), window)
    expected = [np.median(values[bar + 1 - window : bar + 1]) if bar >= window - 1 else np.nan for bar in range(len(values))]
    np.testing.assert_allclose(found, np.array(expected), rtol=1e-15)


def test_the_tail_of_a_long_history_tells_the_regimes_of_the_whole() -> None:
    candles = real_candles("binance_BTCUSDT_1h")
    whole = regime_frame(candles, DEFAULTS)
    for bars in (6_000, 9_999, 20_000, candles.height):
        tail = regime_tail(candles.head(bars), DEFAULTS)
        assert regime_warmup(DEFAULTS) * 3 < tail.height <= regime_warmup(DEFAULTS) * 3 + 2_000
        settled = tail.slice(2 * regime_warmup(DEFAULTS))
        same = whole.slice(bars - settled.height, settled.height)
        assert settled["regime"].equals(same["regime"])
        for measure in ("adx", "volatility", "slope_bps"):
            np.testing.assert_allclose(settled[measure].to_numpy(), same[measure].to_numpy(), rtol=1e-6, atol=1e-9)


def test_the_tail_says_the_same_to_the_last_bit_wherever_the_candles_began() -> None:
    candles = real_candles("binance_BTCUSDT_1h").head(12_345)
    tails = [regime_tail(candles.slice(start), DEFAULTS) for start in (0, 1, 777, 5_000)]
    assert [tail.equals(tails[0], null_equal=True) for tail in tails] == [True] * 4


def test_the_tail_begins_anew_only_at_a_border_so_that_rows_stay_what_they_were() -> None:
    candles = real_candles("binance_BTCUSDT_1h").head(9_000)
    before, after = regime_tail(candles.head(8_999), DEFAULTS), regime_tail(candles, DEFAULTS)
    assert after.head(before.height).equals(before, null_equal=True)


def test_the_tail_of_a_market_with_gaps_has_its_warm_up_in_bars_not_in_time() -> None:
    candles = market(walk(8, 4_000)).gather_every(7)
    tail = regime_tail(candles, QUICK, block_bars=700)
    assert tail["regime"][-1] == regime_frame(candles, QUICK)["regime"][-1] != "unknown"
    assert tail.height >= 3 * regime_warmup(QUICK)


def test_every_setting_of_a_regime_is_a_rule() -> None:
    chosen = {
        "adx_bars": 7, "trend_adx": 31.0, "range_adx": 17.0, "slope_bars": 21, "slope_bps": 3.5, "volatility_bars": 33,
        "volatility_base_bars": 99, "volatility_enter": 3.0, "volatility_leave": 1.25, "confirm_bars": 4,
    }  # fmt: skip
    assert set(chosen) == set(RegimeSettings.model_fields) - {"entries"}
    rules = regime_rules(RegimeSettings.model_validate(chosen), "15m")
    assert {name: getattr(rules, name) for name in chosen} == chosen
    assert rules.timeframe_ms == 900_000


def test_regimes_are_numbered_as_compiled_code_has_them() -> None:
    assert (REGIMES[0], RANGE, TREND, HIGH) == ("unknown", 1, 2, 3)
