"""Signals on disk: whole or not there, and a disk that refuses them is named."""

import os
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from candlewick.candles import CANDLE_SCHEMA
from candlewick.errors import LakeError
from candlewick.signal_files import is_kept, load_signals, prune_signals, save_signals, signal_file
from candlewick.strategies.buy_and_hold import BuyAndHold
from candlewick.strategies.contract import complete_signals

DAY_S = 86_400


@pytest.fixture
def candles() -> pl.DataFrame:
    times = pl.datetime_range(datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 2, tzinfo=UTC), "1h", eager=True)
    numbers = {name: [100.0 + row for row in range(len(times))] for name in ("open", "high", "low", "close", "volume")}
    return pl.DataFrame({"opened_at": times, **numbers}, schema_overrides=dict(CANDLE_SCHEMA))


@pytest.fixture
def signals(candles: pl.DataFrame) -> pl.DataFrame:
    return complete_signals(BuyAndHold(), candles)


def test_signals_are_read_back_as_they_were(tmp_path: Path, candles: pl.DataFrame, signals: pl.DataFrame) -> None:
    path = signal_file(tmp_path / "signals", "key")
    assert not is_kept(path)
    save_signals(path, signals)
    assert is_kept(path)
    assert load_signals(path, candles).equals(signals)
    assert os.listdir(path.parent) == ["key.parquet"]


@pytest.mark.parametrize("kept_bytes", [0, 3, 200])
def test_a_file_that_was_cut_short_is_computed_again(tmp_path: Path, signals: pl.DataFrame, kept_bytes: int) -> None:
    path = signal_file(tmp_path, "key")
    save_signals(path, signals)
    os.truncate(path, kept_bytes)
    assert not is_kept(path)
    save_signals(path, signals)
    assert is_kept(path)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path, signals: pl.DataFrame) -> None:
    (tmp_path / "signals").write_text("not a folder")
    with pytest.raises(LakeError, match=r"signals.* cannot be written"):
        save_signals(signal_file(tmp_path / "signals", "key"), signals)


def test_files_unused_for_two_days_are_removed(tmp_path: Path, signals: pl.DataFrame) -> None:
    old, asked_for, fresh = (signal_file(tmp_path, name) for name in ("old", "asked-for", "fresh"))
    for path in (old, asked_for, fresh):
        save_signals(path, signals)
    for path in (old, asked_for):
        os.utime(path, (time.time() - 3 * DAY_S,) * 2)
    assert is_kept(asked_for)
    assert prune_signals(tmp_path) == 1
    assert sorted(os.listdir(tmp_path)) == ["asked-for.parquet", "fresh.parquet"]


def test_cycles_that_save_and_prune_at_once_do_not_trip_over_each_other(tmp_path: Path, signals: pl.DataFrame) -> None:
    stop = threading.Event()

    def save() -> None:
        for number in range(150):
            save_signals(signal_file(tmp_path, f"key-{number}"), signals)
        stop.set()

    saver = threading.Thread(target=save)
    saver.start()
    while not stop.is_set():
        prune_signals(tmp_path)
    saver.join()
    assert len(os.listdir(tmp_path)) == 150
