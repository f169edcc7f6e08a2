"""What a paper cycle costs. Each measurement is a fresh process : `python -m tests.bench.paper NAME` prints one JSON object."""

import asyncio
import json
import os
import resource
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

RUNS = 5
SYMBOLS_100 = tuple(f"S{number:03d}/USDT" for number in range(100))
SYMBOLS_10 = SYMBOLS_100[:10]


def cycle_of_100() -> dict[str, float]:
    """One new 1h bar for each of 100 symbols, candles at hand, against a running Prefect server; and the same without Prefect.

    Account `first` brings the candles into the lake, account `second` is measured, `plain` is the same cycle with every task
    called as a plain function: what is outside Prefect.
    """
    from flows.paper_trading import paper_trading
    from tests.paper_accounts import PaperAccount, run_cycle

    plain = PaperAccount(Path.cwd() / "plain", "plain", symbols=SYMBOLS_100, timeframe="1h", since="2026-08-01")

    def cycle(account: str, until: str) -> tuple[float, dict[str, float]]:
        """Seconds from the flow's start to the committed ledger, and by step."""
        call = paper_trading(
            account=account, symbols=list(SYMBOLS_100), timeframe="1h", strategy="sma_cross", since="2026-08-01", until=until,
            return_state=True,
        )  # fmt: skip
        result = asyncio.run(_result(call))
        steps = result.metadata.durations_s
        until_commit = sum(seconds for step, seconds in steps.items() if step not in ("report", "publish"))
        return until_commit + _before_first_step(result), dict(steps)

    times, outside, alone = [], [], []
    cycle("first", "2026-09-20"), cycle("second", "2026-09-20"), run_cycle(plain, "2026-09-20")
    for hour in range(1, RUNS + 1):
        until = f"2026-09-20T{hour:02d}:01"
        alone.append(cycle("first", until)[0])
        times.append(cycle("second", until)[0])
        run_cycle(replace(plain, name="filler"), until)
        started = time.perf_counter()
        run_cycle(plain, until)
        outside.append(time.perf_counter() - started)
    return {
        "cycle_s": statistics.median(times),
        "outside_prefect_s": statistics.median(outside),
        "with_fetch_s": statistics.median(alone),
        "peak_mb": _peak_mb(),
    }


def catch_up() -> dict[str, float]:
    """A year of 1h bars for 10 symbols: the engine and the ledger's transaction, compiled code at hand."""
    import polars as pl

    from candlewick.advancing import advance_account, common_watermark
    from candlewick.cycle import RunRecord, conclude, new_start
    from candlewick.market.sample import SampleMarket
    from candlewick.paper_request import open_account
    from candlewick.strategies.catalog import load_strategy
    from candlewick.strategies.contract import complete_signals
    from candlewick.timeframes import parse_utc, utc
    from tasks.ledger import commit_cycle
    from tests.paper_accounts import PaperAccount

    now_ms = parse_utc("2026-10-01")
    market = SampleMarket(now_ms)
    instruments = asyncio.run(market.instruments(SYMBOLS_10))
    times, parts = [], []
    for number in range(RUNS + 1):
        paper = PaperAccount(Path.cwd() / f"catch-up-{number}", "year", symbols=SYMBOLS_10, timeframe="1h", since="2025-10-01")
        account = open_account(paper.request("2026-10-01"), instruments, now_ms)
        candles = {s: asyncio.run(market.fetch(s, "1h", account.anchor_ms, now_ms)).candles for s in SYMBOLS_10}
        strategy = load_strategy("sma_cross", {})
        signals = {1: {symbol: complete_signals(strategy, frame) for symbol, frame in candles.items()}}
        start = new_start(account)
        began = time.perf_counter()
        advanced = advance_account(account, start.state, candles, signals, common_watermark(candles), {})
        engine = time.perf_counter()
        decided = conclude(start, advanced, candles)
        rows = time.perf_counter()
        record = RunRecord(f"run-{number}", None, "bench", utc(now_ms), utc(now_ms), "success", None, (), {})
        commit_cycle.fn(paper.ledger, decided, record, pl.DataFrame(), pl.DataFrame())
        ended = time.perf_counter()
        times.append(ended - began)
        parts.append((engine - began, rows - engine, ended - rows, decided.journal.fills.height))
    middle = statistics.median(times[1:])
    engine_s, rows_s, commit_s = (statistics.median(part[column] for part in parts[1:]) for column in range(3))
    return {
        "engine_and_ledger_s": middle, "engine_s": engine_s, "rows_s": rows_s, "commit_s": commit_s, "fills": parts[1][3],
        "peak_mb": _peak_mb(),
    }  # fmt: skip


def task_runs() -> dict[str, float]:
    """Task runs of a cycle of one bar and of a cycle of two thousand, three symbols; and the peak memory of both."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

    from flows.paper_trading import paper_trading

    async def count(until: str) -> int:
        call = paper_trading(
            account="runs", timeframe="1h", strategy="sma_cross", since="2026-07-01", until=until, return_state=True
        )
        result = await _result(call)
        await asyncio.sleep(3)  # the server records task runs a little later
        async with get_client() as client:
            runs = await client.read_task_runs(
                flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[result.metadata.flow_run_id]))
            )
        return len(runs)

    many = asyncio.run(count("2026-09-23"))
    one = asyncio.run(count("2026-09-23T01:00"))
    return {"task_runs_2000_bars": many, "task_runs_1_bar": one, "peak_mb": _peak_mb()}


async def _result(call):  # type: ignore[no-untyped-def]
    state = await call
    result = await state.aresult(raise_on_failure=False)
    if isinstance(result, BaseException):
        raise result
    return result


def _before_first_step(result) -> float:  # type: ignore[no-untyped-def]
    """Seconds in which Prefect started the flow run, before the first step began: from its run's start to the cycle's."""
    return 0.0 if result.metadata.flow_run_id is None else _flow_start_lag_s(result)


def _flow_start_lag_s(result) -> float:  # type: ignore[no-untyped-def]
    from prefect.client.orchestration import get_client

    async def lag() -> float:
        async with get_client() as client:
            run = await client.read_flow_run(result.metadata.flow_run_id)
        return max((result.metadata.started_at - run.start_time).total_seconds(), 0.0)

    return asyncio.run(lag())


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    measurements = {"cycle_of_100": cycle_of_100, "catch_up": catch_up, "task_runs": task_runs}
    with tempfile.TemporaryDirectory(prefix="candlewick-bench-") as folder:
        os.chdir(folder)
        print(json.dumps(measurements[sys.argv[1]]()))
        sys.stdout.flush()
        os.chdir("/")
    os._exit(0)
