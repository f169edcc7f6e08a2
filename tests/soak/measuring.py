"""What a soak has measured: latencies bar by bar from the ledger, holes, memory, task runs; and whether the bounds hold."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from tests.emulator.live_book import MINUTE_MS
from tests.emulator.server import Pace
from tests.monitor_play import Desk, holes
from tests.soak.watching import Observer


@dataclass(frozen=True, slots=True)
class Line:
    """One measured figure; ``bound`` in words, and whether it holds; None where a figure has none."""

    what: str
    value: str
    bound: str = ""
    holds: bool | None = None


@dataclass(frozen=True, slots=True)
class Latencies:
    """From a bar's close on the exchange's clock to the write of the ledger that has it, in seconds of ours, sorted.

    ``decided``: to the moment before that write, when all was decided.
    """

    seconds: tuple[float, ...]
    decided: tuple[float, ...]

    def at(self, share: float) -> float:
        """A quantile: the smallest value that at least that share of all does not exceed."""
        return _quantile(self.seconds, share)


def _quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[max(0, -(-int(share * 10_000) * len(ordered) // 10_000) - 1)]


def latencies(desk: Desk, pace: Pace, observer: Observer, from_ms: int, until_ms: int) -> Latencies:
    """Of every bar that opened from ``from_ms`` to ``until_ms``: runs say which bars they brought, the file when that was."""
    found, decided = list[float](), list[float]()
    with desk.ledger.database.read() as connection:
        told = connection.sql("SELECT watermark_before, watermark_at, completed_at FROM runs WHERE bars > 0").to_arrow_table()
    runs = pl.DataFrame(told).with_columns(pl.all().dt.epoch("us"))
    for before, last, done in runs.iter_rows():
        first_ms = from_ms if before is None else max(from_ms, before // 1000 + MINUTE_MS)
        opened = range(first_ms, min(until_ms, last // 1000) + 1, MINUTE_MS)
        if not opened:
            continue
        written_s = observer.first_write_after(done / 1e6)
        assert written_s is not None, "a run that no write of the ledger followed"
        found += [written_s - pace.at_s(one + MINUTE_MS) for one in opened]
        decided += [done / 1e6 - pace.at_s(one + MINUTE_MS) for one in opened]
    return Latencies(tuple(sorted(found)), tuple(sorted(decided)))


def bars_line(desk: Desk, until_ms: int) -> list[Line]:
    """Bars that are missed, and bars that are there twice."""
    wrong = holes(desk, until_ms)
    each = (until_ms - desk.since_ms) // MINUTE_MS + 1
    total = each * len(desk.symbols)
    lines = [Line("bars in the ledger", f"{total:,} wanted ({len(desk.symbols)} symbols, {each} each)")]
    return [
        *lines,
        Line("accounts with a bar missed or doubled", str(len(wrong)), "0", not wrong),
        *(Line("", one) for one in wrong[:5]),
    ]


def latency_lines(found: Latencies, bound: str, holds: bool, told: Sequence[tuple[str, float | None]]) -> list[Line]:
    """Quantiles as measured here, and what the session says of itself (``told``).

    It tells the market's time, which its clock follows at our speed between two answers of the exchange: where the exchange's
    clock is a faster one, that is neither the market's nor ours.
    """
    lines = [
        Line("bar close to committed bar, s", f"{_quantiles(found.seconds)} · largest {found.seconds[-1]:.3f}", bound, holds),
        Line("of that until it was decided, s", _quantiles(found.decided)),
        Line("bars measured", f"{len(found.seconds):,}"),
    ]
    own = " · ".join(f"{name} {value:.3f}" for name, value in told if value is not None)
    return [*lines, Line("the session's own figures, s of the market", own)] if own else lines


def _quantiles(ordered: Sequence[float]) -> str:
    named = (("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999))
    return " · ".join(f"{name} {_quantile(ordered, share):.3f}" for name, share in named)


def process_lines(observer: Observer, pace: Pace, from_ms: int, until_ms: int) -> list[Line]:
    """Memory at a sixth of the span (minute 10 of an hour) and at its end; computing time and processes."""
    sixth = from_ms + (until_ms - from_ms) / 6
    width = max((until_ms - from_ms) / 24, MINUTE_MS / 2)
    early = observer.memory_mb(pace.at_s(sixth - width), pace.at_s(sixth + width))
    late = observer.memory_mb(pace.at_s(until_ms - 2 * width), pace.at_s(until_ms))
    if early is None or late is None:
        return [Line("memory", "not measured", "< 5 % growth", False)]
    growth = late / early - 1
    from_s, until_s = pace.at_s(from_ms), pace.at_s(until_ms)
    each_s = observer.computed_s(from_s, until_s) / ((until_ms - from_ms) / MINUTE_MS)
    busy = sum(os.getloadavg()) / 3
    counts = [one.processes for one in observer.samples]
    threads = [one.threads for one in observer.samples]
    return [
        Line("memory, MB", f"{early:.1f} at a sixth · {late:.1f} at the end ({growth:+.1%})", "< 5 % growth", growth < 0.05),
        Line("computing a bar of all symbols, s", f"{each_s:.2f} of the session's process · load of the machine {busy:.1f}"),
        Line("processes of the session", f"{min(counts)} to {max(counts)}", "one", max(counts) == 1),
        Line("its threads", f"{min(threads)} to {max(threads)}"),
    ]


def task_lines(task_runs: int, flow_runs: int, bars: int, symbols: int) -> list[Line]:
    """Prefect's task runs: a constant number a bar, whatever the number of symbols."""
    each = task_runs / bars
    return [
        Line("Prefect task runs", f"{task_runs:,} in {flow_runs} flow run(s)"),
        Line("task runs a bar of all symbols", f"{each:.2f}", f"below {min(10, symbols)}", each < min(10, symbols)),
    ]
