"""python -m tests.emulator --port 8900 --data ../shared/data: an exchange on loopback until Ctrl-C."""

import argparse
import asyncio
import contextlib
from pathlib import Path

from tests.emulator.candle_book import CandleBook
from tests.emulator.server import Emulator


def main() -> None:
    """Print the address as the first line, then serve."""
    parser = argparse.ArgumentParser(prog="python -m tests.emulator", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    parser.add_argument("--data", type=Path, required=True, help="folder with candles/ and wire/")
    parser.add_argument("--now-ms", type=int, help="fix the exchange's clock")
    parser.add_argument("--clock-offset-ms", type=int, default=0)
    options = parser.parse_args()
    info = options.data / "wire" / "binance_exchangeInfo_subset.json"
    emulator = Emulator(CandleBook.from_folder(options.data / "candles"), info, options.port)
    emulator.now_ms, emulator.clock_offset_ms = options.now_ms, options.clock_offset_ms
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(emulator))


async def _serve(emulator: Emulator) -> None:
    serving = asyncio.create_task(emulator.serve())
    while not emulator.is_ready() and not serving.done():
        await asyncio.sleep(0.01)
    if emulator.is_ready():
        print(emulator.url, flush=True)
    await serving


if __name__ == "__main__":
    main()
