"""What a session did to a strategy's signals before the engine saw them: rejections, pauses, risk limits, the kill switch.

An intervention replaces the signal of one bar of one symbol. It is a row of the ledger, written in the same transaction as what
followed from it; an audit, a replay and a backtest of the account apply it at the same bar, and so come to the same fills.
A protective stop, a target and an exit are never taken away: only what opens a position is replaced by HOLD (or by EXIT, where
the signal would also have closed the other side), and a flatten puts EXIT where the strategy held.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import polars as pl

from candlewick.strategies.contract import SIGNAL_SCHEMA

Replacement = Literal["HOLD", "EXIT"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Intervention:
    """``action`` is what the strategy had decided at the bar that opened at ``opened_at_ms``, ``replacement`` what counts.

    ``rule`` names who was against it (`cooldown`, `regime`, `paused`, `kill_switch`, ...), ``limit`` and ``value`` in its units;
    ``reason`` is a sentence for people. ``correlation_id`` as in events.py.
    """

    account: str
    symbol: str
    opened_at_ms: int
    action: str
    replacement: Replacement
    rule: str
    limit: str | None
    value: str | None
    reason: str
    session_id: str
    correlation_id: str


def apply_interventions(signals: pl.DataFrame, interventions: Iterable[Intervention]) -> pl.DataFrame:
    """One symbol's signals (SIGNAL_SCHEMA) with the replacements in them; ``interventions`` are of that symbol."""
    replaced = {one.opened_at_ms: one for one in interventions}
    if not replaced:
        return signals
    ordered = [replaced[time] for time in sorted(replaced)]
    rows = pl.DataFrame(
        {
            "opened_at": pl.Series([one.opened_at_ms for one in ordered], dtype=pl.Int64).cast(SIGNAL_SCHEMA["opened_at"]),
            "replacement": [one.replacement for one in ordered],
            "why": [f"{one.rule}: {one.reason}" for one in ordered],
        }
    )
    joined = signals.join(rows, on="opened_at", how="left", maintain_order="left")
    touched = pl.col("replacement").is_not_null()
    kept = [name for name in SIGNAL_SCHEMA if name not in ("opened_at", "action", "reason")]
    return joined.with_columns(
        pl.coalesce("replacement", "action").alias("action"),
        pl.coalesce("why", "reason").alias("reason"),
        *(pl.when(~touched).then(pl.col(name)).alias(name) for name in kept),
    ).drop("replacement", "why")


def intervened(signals: Mapping[str, pl.DataFrame], interventions: Iterable[Intervention]) -> dict[str, pl.DataFrame]:
    """An account's signals by symbol with the replacements in them."""
    replaced = by_symbol(interventions)
    return {symbol: apply_interventions(frame, replaced.get(symbol, ())) for symbol, frame in signals.items()}


def by_symbol(interventions: Iterable[Intervention]) -> Mapping[str, list[Intervention]]:
    """The same, grouped by symbol."""
    grouped: dict[str, list[Intervention]] = {}
    for one in interventions:
        grouped.setdefault(one.symbol, []).append(one)
    return grouped
