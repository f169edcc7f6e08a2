"""Exchanges on loopback for tests (fixtures, offered by conftest.py), and the block that leads to them."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.emulator.candle_book import CandleBook
from tests.emulator.server import Emulator
from tests.shared_data import SHARED

if TYPE_CHECKING:
    from blocks.exchange import Exchange

HOUR_MS = 3_600_000
EXCHANGE_INFO = SHARED / "data" / "wire" / "binance_exchangeInfo_subset.json"


@pytest.fixture(scope="module")
def real_exchange_server() -> Iterator[Emulator]:
    """The real candles and trading rules; skips where they are absent. Shared by a module: use ``real_exchange``."""
    if not (SHARED / "data" / "candles").is_dir():
        pytest.skip("the real market data (../shared/data) is not here")
    with Emulator(CandleBook.from_folder(SHARED / "data" / "candles"), EXCHANGE_INFO) as emulator:
        yield emulator


@pytest.fixture
def real_exchange(real_exchange_server: Emulator) -> Emulator:
    """The real candles, on an exchange that behaves and tells the real time."""
    real_exchange_server.clear()
    return real_exchange_server


@pytest.fixture
def made_up_exchange() -> Iterator[Emulator]:
    """BTCUSDT and ETHUSDT, 2,500 made-up hourly candles from 2024-01-01 on; the clock stands half an hour into the last."""
    book = CandleBook()
    for symbol, price in (("BTCUSDT", 40_000.0), ("ETHUSDT", 2_000.0)):
        book.add(symbol, "1h", made_up_candles(price, 2_500))
    with Emulator(book) as emulator:
        emulator.now_ms = START_MS + 2_499 * HOUR_MS + HOUR_MS // 2
        yield emulator


START_MS = 1_704_067_200_000


def made_up_candles(price: float, rows: int) -> list[tuple[int, float, float, float, float, float]]:
    """Hourly candles from START_MS on, each different from every other."""
    return [(START_MS + i * HOUR_MS, price + i, price + i + 2, price + i - 1, price + i + 1, 10.0 + i) for i in range(rows)]


def exchange_block(emulator: Emulator, **settings: object) -> "Exchange":
    """The exchange block of this emulator: short time-out, no throttle."""
    from blocks.exchange import Exchange  # imports Prefect, which most tests do without

    fast: dict[str, object] = {"exchange_id": "binance", "api_url": emulator.url, "timeout_s": 5.0, "rate_limit": False}
    return Exchange(**(fast | settings))
