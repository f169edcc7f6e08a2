"""Indicators against TA-Lib and against their definitions; prefixes; the cache of compiled code."""

import os
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import talib
from hypothesis import example, given, settings
from hypothesis import strategies as st

from candlewick import compiled, indicators
from candlewick.sources import digest_sources, reached_sources
from tests.shared_data import SHARED, real_candles

MARKETS = ["binance_BTCUSDT_1h", "binance_SOLUSDT_4h", "coinbase_BTCUSD_1h"]
PERIODS = [2, 14, 200]


def columns(name: str, bars: int | None = None) -> list[np.ndarray]:
    frame = real_candles(name) if bars is None else real_candles(name).head(bars)
    return [np.array(frame[column]) for column in ("high", "low", "close")]


def assert_agrees(ours: np.ndarray, theirs: np.ndarray) -> None:
    np.testing.assert_array_equal(np.isnan(ours), np.isnan(theirs))
    assert np.isfinite(ours).sum() > 1_000
    np.testing.assert_allclose(ours, theirs, rtol=1e-9)


@pytest.mark.parametrize("market", MARKETS)
@pytest.mark.parametrize("period", PERIODS)
def test_indicators_agree_with_ta_lib_on_real_candles(market: str, period: int) -> None:
    high, low, close = columns(market)
    assert_agrees(indicators.sma(close, period), talib.SMA(close, period))
    assert_agrees(indicators.ema(close, period), talib.EMA(close, period))
    assert_agrees(indicators.wma(close, period), talib.WMA(close, period))
    assert_agrees(indicators.rsi(close, period), talib.RSI(close, period))
    assert_agrees(indicators.atr(high, low, close, period), talib.ATR(high, low, close, period))
    assert_agrees(indicators.highest(high, period)[0], talib.MAX(high, period))
    assert_agrees(indicators.lowest(low, period)[0], talib.MIN(low, period))


def test_extremes_name_the_newest_bar_that_holds_them() -> None:
    values = np.array([3.0, 5.0, 5.0, 1.0, 1.0, 4.0])
    high, high_bar = indicators.highest(values, 3)
    low, low_bar = indicators.lowest(values, 3)
    assert high_bar.tolist() == [-1, -1, 2, 2, 2, 5]
    assert low_bar.tolist() == [-1, -1, 0, 3, 4, 4]
    np.testing.assert_array_equal(high, [np.nan, np.nan, 5, 5, 5, 4])
    np.testing.assert_array_equal(low, [np.nan, np.nan, 3, 1, 1, 1])


def test_a_flat_market_is_neither_overbought_nor_oversold() -> None:
    assert indicators.rsi(np.full(5, 7.0), 2)[2:].tolist() == [50.0, 50.0, 50.0]


def test_a_swing_is_known_only_when_the_bars_after_it_have_closed() -> None:
    highs = np.array([1.0, 2.0, 5.0, 3.0, 2.0, 6.0, 6.0, 4.0, 3.0])
    assert indicators.swing_highs(highs, 2).tolist() == [-1, -1, -1, -1, 2, 2, 2, 5, 5]
    assert indicators.swing_lows(-highs, 2).tolist() == [-1, -1, -1, -1, 2, 2, 2, 5, 5]


@pytest.mark.parametrize("call", ["sma", "ema", "wma", "rsi", "highest", "lowest", "swing_highs", "swing_lows"])
def test_a_period_of_no_bars_is_refused(call: str) -> None:
    with pytest.raises(ValueError, match="at least 1 bar"):
        getattr(indicators, call)(np.ones(3), 0)


@pytest.mark.parametrize("bars", [0, 1, 3])
def test_too_little_history_gives_no_values(bars: int) -> None:
    values = np.linspace(1.0, 2.0, bars)
    for answer in (
        indicators.sma(values, 4),
        indicators.ema(values, 4),
        indicators.wma(values, 4),
        indicators.rsi(values, 4),
        indicators.highest(values, 4)[0],
    ):
        assert answer.size == bars
        assert np.isnan(answer).all()
    assert indicators.sma_cross_sign(values, 2, 4).tolist() == [0] * bars


@given(
    ticks=st.lists(st.integers(1, 400), min_size=1, max_size=60) | st.lists(st.integers(1, 7), min_size=8, max_size=60),
    decimals=st.integers(0, 8),
    fast=st.integers(1, 8),
    slow=st.integers(1, 8),
)
@example(ticks=[1, 3, 2], decimals=1, fast=1, slow=3)
@example(ticks=[3, 1, 2], decimals=2, fast=1, slow=3)
@settings(deadline=None)
def test_the_sign_between_two_averages_is_exact(ticks: list[int], decimals: int, fast: int, slow: int) -> None:
    values = np.array([tick / 10**decimals for tick in ticks])
    signs = indicators.sma_cross_sign(values, fast, slow)
    for bar in range(len(ticks)):
        if bar < max(fast, slow) - 1:
            assert signs[bar] == 0
            continue
        difference = Fraction(sum(ticks[bar + 1 - fast : bar + 1]), fast) - Fraction(sum(ticks[bar + 1 - slow : bar + 1]), slow)
        assert signs[bar] == (difference > 0) - (difference < 0)


def test_the_sign_stays_right_when_the_price_leaves_the_grid() -> None:
    values = np.array([1e-8] * 4 + [1e7] * 4 + [1.0] * 4)
    assert indicators.sma_cross_sign(values, 1, 2).tolist() == [0, 0, 0, 0, 1, 0, 0, 0, -1, 0, 0, 0]


def every_indicator(high: np.ndarray, low: np.ndarray, close: np.ndarray, period: int) -> dict[str, np.ndarray]:
    return {
        "sma": indicators.sma(close, period),
        "ema": indicators.ema(close, period),
        "wma": indicators.wma(close, period),
        "rsi": indicators.rsi(close, period),
        "atr": indicators.atr(high, low, close, period),
        "sma_cross_sign": indicators.sma_cross_sign(close, period, 2 * period),
        "highest": indicators.highest(high, period)[0],
        "highest_bar": indicators.highest(high, period)[1],
        "lowest": indicators.lowest(low, period)[0],
        "lowest_bar": indicators.lowest(low, period)[1],
        "swing_highs": indicators.swing_highs(high, period),
        "swing_lows": indicators.swing_lows(low, period),
    }


@given(cut=st.integers(0, 2_000), period=st.integers(1, 60), market=st.sampled_from(MARKETS))
@settings(max_examples=60, deadline=None)
def test_an_indicator_of_a_prefix_is_the_prefix_of_the_indicator_bit_for_bit(cut: int, period: int, market: str) -> None:
    whole = columns(market, 2_000)
    prefix = every_indicator(*(column[:cut].copy() for column in whole), period)
    for name, values in every_indicator(*whole, period).items():
        assert prefix[name].tobytes() == values[:cut].tobytes(), name


def test_crosses_of_sma_10_and_20_are_the_entries_of_the_known_93_trades() -> None:
    folder = SHARED / "data" / "known_answers"
    if not folder.is_dir():
        pytest.skip("the known answers are not beside this checkout")
    closes = np.array(pl.read_csv(folder / "backtesting.py_GOOG.csv")["Close"], dtype=np.float64)
    trades = pl.read_csv(next(folder.glob("backtesting.py-*_GOOG_SMA10-20*.csv")))
    signs = indicators.sma_cross_sign(closes, 10, 20)
    crosses = np.flatnonzero((signs[1:] != signs[:-1]) & (signs[:-1] != 0)) + 1
    assert trades.height == 93
    last_reversal = trades["ExitBar"].max()  # closes the last listed trade and opens one that the list leaves out
    assert sorted({*trades["EntryBar"].to_list(), last_reversal}) == (crosses + 1).tolist()


def write_package(folder: Path, constant: int) -> Path:
    package = folder / "pkg"
    package.mkdir(exist_ok=True)
    for name, text in {
        "__init__": "",
        "compiled": "",
        "limits": f"CONSTANT = {constant}\n",
        "leaf": "from .limits import CONSTANT\n",
        "fold": "from pkg.compiled import njit\n\ndef outer():\n    from pkg import leaf\n",
        "unrelated": f"VALUE = {constant}\n",
    }.items():
        (package / f"{name}.py").write_text(text)
    return package


def test_the_digest_of_compiled_code_changes_with_a_constant_that_a_callee_imports(tmp_path: Path) -> None:
    before = compiled.source_digest(write_package(tmp_path, 1))
    assert compiled.source_digest(write_package(tmp_path, 1)) == before
    assert compiled.source_digest(write_package(tmp_path, 2)) != before


def test_the_digest_of_compiled_code_ignores_what_compiled_code_cannot_reach(tmp_path: Path) -> None:
    package = write_package(tmp_path, 1)
    before = compiled.source_digest(package)
    (package / "unrelated.py").write_text("VALUE = 3\n")
    assert compiled.source_digest(package) == before


def test_sources_are_followed_through_packages_relative_imports_and_neighbours(tmp_path: Path) -> None:
    package = write_package(tmp_path, 1)
    (tmp_path / "alone.py").write_text("import beside, json\nfrom pkg import leaf\n")
    (tmp_path / "beside.py").write_text("")
    reached = reached_sources([tmp_path / "alone.py"], tmp_path)
    assert {path.name for path in reached} == {"alone.py", "beside.py"}
    assert {path.name for path in reached_sources([package / "leaf.py"], tmp_path)} == {"__init__.py", "leaf.py", "limits.py"}
    assert digest_sources(reached, tmp_path) != digest_sources({}, tmp_path)


def test_only_cache_folders_of_other_digests_unused_for_a_week_are_removed(tmp_path: Path) -> None:
    for name, age_days in {"numba-now": 30, "numba-old": 8, "numba-recent": 1, "other": 30}.items():
        (tmp_path / name).mkdir()
        used_at = time.time() - age_days * 86_400
        os.utime(tmp_path / name, (used_at, used_at))
    compiled.prune(tmp_path, keep="numba-now")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["numba-now", "numba-recent", "other"]


CACHE_PROBE = """
import numba, numpy as np
from candlewick import compiled, indicators
indicators.sma(np.ones(3), 2)
print(compiled.cache_folder())
print(numba.config.CACHE_DIR)
print(sum(indicators.sma.stats.cache_hits.values()))
"""


def test_compiled_code_is_kept_below_the_users_numba_folder_and_found_again(tmp_path: Path) -> None:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", CACHE_PROBE]
    runs = [subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split() for _ in range(2)]
    assert Path(runs[0][0]).parent == tmp_path
    assert list(Path(runs[0][0]).rglob("*.nbc"))
    assert [run[1] for run in runs] == [str(tmp_path)] * 2
    assert [run[2] for run in runs] == ["0", "1"]


def test_a_folder_that_cannot_be_written_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("a file, where a folder is asked for")
    monkeypatch.setattr(compiled, "_parents", lambda: iter([blocked, tmp_path / "next"]))
    assert compiled.cache_folder.__wrapped__().parent == tmp_path / "next"
    monkeypatch.setattr(compiled, "_parents", lambda: iter([blocked]))
    assert compiled.cache_folder.__wrapped__() is None


def test_functions_outside_the_package_are_compiled_afresh_because_the_cache_key_does_not_cover_them() -> None:
    @compiled.njit
    def double(value: float) -> float:
        return 2 * value

    assert double(2.0) == 4.0
    assert double.stats.cache_path is None
    assert indicators.sma.stats.cache_path is not None
