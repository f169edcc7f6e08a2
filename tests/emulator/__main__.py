"""python -m tests.emulator --port 8900 --data ../shared/data: an exchange on loopback until Ctrl-C.

With --live 200 --factor 10 it has 200 symbols whose candles never end (live_book.py), and a clock ten times as fast as ours.
"""

import argparse
import asyncio
import contextlib
import time
from pathlib import Path

from tests.emulator.candle_book import CandleBook
from tests.emulator.live_book import LiveBook, live_symbols
from tests.emulator.server import Emulator


def main() -> None:
    """Print the address as the first line, then serve."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.emulator", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--data", type=Path, help="folder with candles/ and wire/")
    source.add_argument("--live", type=int, metavar="N", help="N made-up symbols whose 1m candles never end")
    parser.add_argument("--factor", type=float, default=1.0, help="how many times as fast as ours the clock of --live runs")
    parser.add_argument("--start-ms", type=int, help="what the clock of --live shows at the beginning; [now]")
    parser.add_argument("--delay-ms", type=int, default=0, help="how long after its close a bar of --live is shown")
    parser.add_argument("--now-ms", type=int, help="fix the exchange's clock")
    parser.add_argument("--clock-offset-ms", type=int, default=0)
    options = parser.parse_args()
    if options.live:
        emulator = Emulator(LiveBook(live_symbols(options.live), options.delay_ms), None, options.port)
        emulator.accelerate(options.factor, options.start_ms or round(time.time() * 1000))
    else:
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
