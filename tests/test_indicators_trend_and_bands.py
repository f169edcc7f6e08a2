"""MACD, ADX, SuperTrend, Bollinger, Donchian, VWAP and volatility against TA-Lib, slow re-computations and known answers."""

import json
import math

import numpy as np
import pytest
import talib
from hypothesis import given, settings
from hypothesis import strategies as st

from candlewick import indicators, indicators_bands, indicators_trend
from tests.shared_data import SHARED, real_candles

MARKETS = ["binance_BTCUSDT_1h", "binance_SOLUSDT_4h", "bitstamp_BTCUSD_1d"]
Arrays = dict[str, np.ndarray]


def columns(market: str, bars: int | None = None) -> Arrays:
    frame = real_candles(market) if bars is None else real_candles(market).head(bars)
    return {name: np.array(frame[name], dtype=np.float64) for name in ("high", "low", "close", "volume")}


def assert_agrees(ours: np.ndarray, theirs: np.ndarray, warm_up: int) -> None:
    """Equal to 1e-9, relative and for what is near zero absolute, and known from the same bar on."""
    assert np.isnan(ours[:warm_up]).all()
    assert np.isfinite(ours[warm_up:]).all()
    np.testing.assert_array_equal(np.isnan(ours), np.isnan(theirs))
    assert ours.size > warm_up + 1_000
    np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("market", MARKETS)
@pytest.mark.parametrize(("fast", "slow", "signal"), [(12, 26, 9), (2, 3, 1), (50, 200, 30)])
def test_the_macd_agrees_with_ta_lib(market: str, fast: int, slow: int, signal: int) -> None:
    close = columns(market)["close"]
    ours, theirs = indicators_trend.macd(close, fast, slow, signal), talib.MACD(close, fast, slow, signal)
    for one, other in zip(ours, theirs, strict=True):
        assert_agrees(one, other, slow + signal - 2)


@pytest.mark.parametrize("market", MARKETS)
@pytest.mark.parametrize("period", [2, 14, 100])
def test_the_directional_index_agrees_with_ta_lib(market: str, period: int) -> None:
    bars = columns(market)
    prices = bars["high"], bars["low"], bars["close"]
    index, plus, minus = indicators_trend.adx(*prices, period)
    assert_agrees(index, talib.ADX(*prices, period), 2 * period - 1)
    assert_agrees(plus, talib.PLUS_DI(*prices, period), period)
    assert_agrees(minus, talib.MINUS_DI(*prices, period), period)


def test_a_market_that_does_not_move_has_no_direction() -> None:
    still = np.full(8, 5.0)
    index, plus, minus = indicators_trend.adx(still, still, still, 2)
    assert index[3:].tolist() == plus[3:].tolist() == minus[3:].tolist() == [0.0] * 5


@pytest.mark.parametrize("market", MARKETS)
@pytest.mark.parametrize(("period", "multiple"), [(2, 1.0), (20, 2.0), (300, 2.5)])
def test_bollinger_bands_agree_with_ta_lib(market: str, period: int, multiple: float) -> None:
    close = columns(market)["close"]
    ours = indicators_bands.bollinger(close, period, multiple)
    for one, other in zip(ours, talib.BBANDS(close, period, multiple, multiple), strict=True):
        assert_agrees(one, other, period - 1)


def test_bollinger_bands_of_equal_prices_lie_on_the_price_whatever_came_before() -> None:
    values = np.concatenate([np.full(7, 1e9), np.full(9, 0.1)])
    upper, middle, lower = indicators_bands.bollinger(values, 4, 2.0)
    assert upper[10:].tolist() == middle[10:].tolist() == lower[10:].tolist() == [0.1] * 6


@pytest.mark.parametrize("window", [1, 20, 333])
def test_the_donchian_channel_is_the_rolling_extreme_of_polars(window: int) -> None:
    frame = real_candles("binance_ETHUSDT_4h")
    bars = columns("binance_ETHUSDT_4h")
    upper, middle, lower = indicators_bands.donchian(bars["high"], bars["low"], window)
    high, low = frame["high"].rolling_max(window), frame["low"].rolling_min(window)
    assert_agrees(upper, high.fill_null(math.nan).to_numpy(), window - 1)
    assert_agrees(lower, low.fill_null(math.nan).to_numpy(), window - 1)
    assert_agrees(middle, ((high + low) / 2).fill_null(math.nan).to_numpy(), window - 1)


@pytest.mark.parametrize("market", MARKETS)
@pytest.mark.parametrize("window", [2, 30, 365])
def test_realised_volatility_is_the_rolling_deviation_of_log_returns_of_polars(market: str, window: int) -> None:
    close = real_candles(market)["close"]
    slow = (close / close.shift(1)).log().rolling_std(window).fill_null(math.nan).to_numpy()
    closes = columns(market)["close"]
    assert_agrees(indicators_bands.realised_volatility(closes, window, 1.0), slow, window)
    assert_agrees(indicators_bands.realised_volatility(closes, window, 8_766.0), slow * math.sqrt(8_766), window)


@pytest.mark.parametrize("window", [1, 24, 500])
def test_the_rolling_vwap_is_turnover_over_volume(window: int) -> None:
    bars = {name: values[:6_000] for name, values in columns("binance_BTCUSDT_1h").items()}
    ours = indicators_bands.rolling_vwap(bars["high"], bars["low"], bars["close"], bars["volume"], window)
    typical = (bars["high"] + bars["low"] + bars["close"]) / 3
    slow = np.full(ours.size, np.nan)
    for bar in range(window - 1, ours.size):
        span = slice(bar + 1 - window, bar + 1)
        if math.fsum(bars["volume"][span]) > 0:
            slow[bar] = math.fsum(typical[span] * bars["volume"][span]) / math.fsum(bars["volume"][span])
    np.testing.assert_array_equal(np.isnan(ours), np.isnan(slow))
    np.testing.assert_allclose(ours, slow, rtol=1e-12)


def test_a_vwap_without_any_volume_is_unknown() -> None:
    prices, volumes = np.array([1.0, 2.0, 3.0, 4.0, 5.0]), np.array([0.0, 1e12, 0.1, 0.0, 0.0])
    rolling = indicators_bands.rolling_vwap(prices, prices, prices, volumes, 2)
    assert np.isnan(rolling).tolist() == [True, False, False, False, True]
    assert rolling[3] == pytest.approx(3.0, rel=1e-15)
    anchored = indicators_bands.anchored_vwap(prices, prices, prices, volumes, 0)
    assert np.isnan(anchored).tolist() == [True, False, False, False, False]


def test_the_anchored_vwap_counts_from_its_anchor() -> None:
    bars = columns("binance_SOLUSDT_4h")
    prices = bars["high"], bars["low"], bars["close"]
    ours = indicators_bands.anchored_vwap(*prices, bars["volume"], 700)
    turnover = np.cumsum((sum(prices) / 3 * bars["volume"])[700:])
    assert_agrees(ours, np.concatenate([np.full(700, np.nan), turnover / np.cumsum(bars["volume"][700:])]), 700)


def slow_supertrend(bars: Arrays, period: int, multiple: float) -> list[tuple[float, int]]:
    """The textbook's words, one bar after the other, with TA-Lib's ATR."""
    ranges = talib.ATR(bars["high"], bars["low"], bars["close"], period)
    answer = [(math.nan, 0)] * period
    basic_upper = (bars["high"] + bars["low"]) / 2 + multiple * ranges
    basic_lower = (bars["high"] + bars["low"]) / 2 - multiple * ranges
    upper, lower, direction = basic_upper[period], basic_lower[period], -1
    answer.append((upper, -1))
    for bar in range(period + 1, bars["close"].size):
        before = bars["close"][bar - 1]
        if basic_upper[bar] < upper or before > upper:
            upper = basic_upper[bar]
        if basic_lower[bar] > lower or before < lower:
            lower = basic_lower[bar]
        close = bars["close"][bar]
        direction = (1 if close > upper else -1) if direction == -1 else (-1 if close < lower else 1)
        answer.append((lower if direction == 1 else upper, direction))
    return answer


@pytest.mark.parametrize("market", MARKETS)
@pytest.mark.parametrize(("period", "multiple"), [(10, 3.0), (2, 1.5), (50, 5.0)])
def test_the_supertrend_follows_its_definition_bar_by_bar(market: str, period: int, multiple: float) -> None:
    bars = columns(market, 8_000)
    line, direction = indicators_trend.supertrend(bars["high"], bars["low"], bars["close"], period, multiple)
    slow = slow_supertrend(bars, period, multiple)
    assert direction.tolist() == [side for _, side in slow]
    assert set(direction.tolist()) == {-1, 0, 1}
    assert_agrees(line, np.array([level for level, _ in slow]), period)
    known = direction != 0
    assert ((bars["close"][known] >= line[known]) == (direction[known] > 0)).mean() > 0.999


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: indicators_trend.macd(x, 3, 3, 2), "fast below slow"),
        (lambda x: indicators_trend.macd(x, 2, 3, 0), "at least 1 bar"),
        (lambda x: indicators_trend.adx(x, x, x, 1), "at least 2 bars"),
        (lambda x: indicators_trend.supertrend(x, x, x, 2, 0.0), "above 0"),
        (lambda x: indicators_trend.supertrend(x, x, x, 0, 1.0), "at least 1 bar"),
        (lambda x: indicators_bands.bollinger(x, 0, 2.0), "at least 1 bar"),
        (lambda x: indicators_bands.donchian(x, x, 0), "at least 1 bar"),
        (lambda x: indicators_bands.realised_volatility(x, 1, 1.0), "at least 2 bars"),
        (lambda x: indicators_bands.rolling_vwap(x, x, x, x, 0), "at least 1 bar"),
    ],
)
def test_windows_that_make_no_sense_are_refused(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(np.ones(3))  # type: ignore[operator]


def every_indicator(bars: Arrays, period: int) -> Arrays:
    high, low, close, volume = bars["high"], bars["low"], bars["close"], bars["volume"]
    families = {
        "macd": indicators_trend.macd(close, period, 2 * period, period),
        "adx": indicators_trend.adx(high, low, close, period + 1),
        "supertrend": indicators_trend.supertrend(high, low, close, period, 2.5),
        "bollinger": indicators_bands.bollinger(close, period, 2.0),
        "donchian": indicators_bands.donchian(high, low, period),
        "volatility": (indicators_bands.realised_volatility(close, period + 1, 365.0),),
        "anchored_vwap": (indicators_bands.anchored_vwap(high, low, close, volume, period),),
        "rolling_vwap": (indicators_bands.rolling_vwap(high, low, close, volume, period),),
        "wma": (indicators.wma(close, period),),
    }
    return {f"{name} {part}": values for name, family in families.items() for part, values in enumerate(family)}


@given(cut=st.integers(0, 1_500), period=st.integers(1, 60), market=st.sampled_from(MARKETS))
@settings(max_examples=60, deadline=None)
def test_an_indicator_of_a_prefix_is_the_prefix_of_the_indicator_bit_for_bit(cut: int, period: int, market: str) -> None:
    whole = columns(market, 1_500)
    prefix = every_indicator({name: values[:cut].copy() for name, values in whole.items()}, period)
    for name, values in every_indicator(whole, period).items():
        assert values.size == 1_500, name
        assert prefix[name].tobytes() == values[:cut].tobytes(), name


# --- what jesse's own tests expect, at the digits they give


def jesse_case(name: str) -> tuple[Arrays, object, int]:
    path = SHARED / "data" / "known_answers" / "jesse_indicator_values.json"
    if not path.is_file():
        pytest.skip("the known answers are not beside this checkout")
    known = json.loads(path.read_text(encoding="utf-8"))
    case = next(case for case in known["cases"] if case["ind"] == name)
    if "closes" in case["input"]:
        return {"close": np.array(case["input"]["closes"], dtype=np.float64)}, case["last"], case["round"]
    rows = np.array(known["candles"][case["input"]["candles"]], dtype=np.float64)
    return dict(zip(known["candle_columns"], np.ascontiguousarray(rows.T), strict=True)), case["last"], case["round"]


def price_columns(bars: Arrays) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return bars["high"], bars["low"], bars["close"]


SINGLE = {
    "SMA(10) of close": lambda bars: indicators.sma(bars["close"], 10),
    "EMA(8) of close": lambda bars: indicators.ema(bars["close"], 8),
    "RSI(14)": lambda bars: indicators.rsi(bars["close"], 14),
    "ATR(14)": lambda bars: indicators.atr(*price_columns(bars), 14),
    "ADX(14)": lambda bars: indicators_trend.adx(*price_columns(bars), 14)[0],
    "SuperTrend(10,3)": lambda bars: indicators_trend.supertrend(*price_columns(bars), 10, 3.0)[0],
    "VWAP (session)": lambda bars: indicators_bands.anchored_vwap(
        *price_columns(bars), bars["volume"], int(np.searchsorted(bars["ts_ms"], bars["ts_ms"][-1] // 86_400_000 * 86_400_000))
    ),
}
SEVERAL = {
    "MACD(12,26,9)": (("macd", "signal", "hist"), lambda bars: indicators_trend.macd(bars["close"], 12, 26, 9)),
    "Bollinger(20,2,2)": (("upper", "middle", "lower"), lambda bars: indicators_bands.bollinger(bars["close"], 20, 2.0)),
    "Donchian(20)": (("upper", "middle", "lower"), lambda bars: indicators_bands.donchian(bars["high"], bars["low"], 20)),
}


@pytest.mark.parametrize("name", SINGLE)
def test_the_last_value_is_the_known_one(name: str) -> None:
    bars, expected, digits = jesse_case(name)
    assert round(float(SINGLE[name](bars)[-1]), digits) == expected


@pytest.mark.parametrize("name", SEVERAL)
def test_the_last_values_are_the_known_ones(name: str) -> None:
    bars, expected, digits = jesse_case(name)
    parts, compute = SEVERAL[name]
    assert {part: round(float(line[-1]), digits) for part, line in zip(parts, compute(bars), strict=True)} == expected


def test_every_known_answer_is_looked_at() -> None:
    path = SHARED / "data" / "known_answers" / "jesse_indicator_values.json"
    if not path.is_file():
        pytest.skip("the known answers are not beside this checkout")
    assert {case["ind"] for case in json.loads(path.read_text(encoding="utf-8"))["cases"]} == SINGLE.keys() | SEVERAL.keys()
