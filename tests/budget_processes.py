"""A process that asks an exchange on loopback for its time through the real client, as often as its budget lets it.

python -m tests.budget_processes URL REQUESTS REQUESTS_PER_S      # says "ready", asks after a line, says how many were answered
python -m tests.budget_processes --hold NAME                      # locks a budget, says "held", and never lets go
"""

import asyncio
import os
import sys
import time

from blocks.exchange_client import RefusedAnswer, build_client
from candlewick.market.budget_file import SharedBudget


async def ask(url: str, requests: int, requests_per_s: float) -> str:
    """How many of that many requests were answered, or how the first was refused."""
    config = {"enableRateLimit": True, "timeout": 20_000}
    client = build_client("binance", config, sandbox=False, api_url=url, requests_per_s=requests_per_s)
    print("ready", flush=True)
    sys.stdin.readline()
    try:
        return str(len(await asyncio.gather(*(client.fetch_time() for _ in range(requests)))))
    except RefusedAnswer as refused:
        return str(refused)
    finally:
        await client.close()


def hold(name: str) -> None:
    """Take the lock of a budget and keep it until this process is killed."""
    with SharedBudget(name)._locked():
        print("held", flush=True)
        time.sleep(3600)


if __name__ == "__main__":
    if sys.argv[1] == "--hold":
        hold(sys.argv[2])
    print(asyncio.run(ask(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))), flush=True)
    os._exit(0)  # leaving a process that has imported this much takes seconds on a busy machine
