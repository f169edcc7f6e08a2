"""Amending an account: a new version of its terms, from the first bar that has not begun. What was traded stays as it was."""

from collections.abc import Mapping
from dataclasses import replace

from candlewick.account import Account, Scalar, TermsVersion
from candlewick.advancing import engine_terms
from candlewick.engine.state import EngineState
from candlewick.engine.terms import refuse_impossible
from candlewick.errors import UsageError
from candlewick.rules import Rules
from candlewick.strategies.catalog import load_strategy, strategy_document, strategy_name
from candlewick.timeframes import timeframe_ms

AMENDMENT = "amend-"
"""How the ``run_id`` of terms begins that a user asked for; others come with a cycle."""


def next_terms(account: Account, state: EngineState, amended: TermsVersion) -> TermsVersion:
    """``amended`` as the account's next version, acting from the first bar whose open is not decided yet."""
    reached = [time for time in (state.watermark_ms, state.opened_ms) if time is not None]
    effective_ms = max(reached) + timeframe_ms(account.timeframe) if reached else account.anchor_ms
    effective_ms = max(effective_ms, account.current.effective_from_ms)
    return replace(amended, version=account.current.version + 1, effective_from_ms=effective_ms)


def amend_terms(
    account: Account,
    state: EngineState,
    rules: Rules | None,
    strategy: str | None,
    parameters: Mapping[str, Scalar],
    *,
    lift_halt: bool,
) -> TermsVersion:
    """The next version of the terms. Parameters alone change those of the strategy the account has.

    Raises UsageError when nothing would change or an instrument does not allow the rules, UnknownStrategy.
    """
    current = account.current
    amended = replace(current, rules=rules or current.rules, lifts_halt=False)
    if strategy is not None or parameters:
        own: Mapping[str, Scalar | None] = current.parameters if strategy is None else {}
        chosen = load_strategy(strategy or current.strategy, {**own, **parameters})
        amended = replace(amended, strategy=strategy_name(chosen), parameters=strategy_document(chosen))
    if amended == replace(current, lifts_halt=False) and not lift_halt:
        raise UsageError(f"account {account.name} already has these terms; nothing was amended")
    refuse_impossible(engine_terms(account, amended))
    if lift_halt and not (int(state.account["halted"][0]) or state.account["loss_day"][0] == state.account["day"][0]):
        raise UsageError(f"account {account.name} is not halted; nothing was amended")
    return next_terms(account, state, replace(amended, lifts_halt=lift_halt))


def describe_amendment(before: TermsVersion, after: TermsVersion) -> tuple[str, ...]:
    """What differs, a line each."""
    lines = [] if before.strategy == after.strategy else [f"strategy {before.strategy} -> {after.strategy}"]
    names = sorted({*before.parameters, *after.parameters})
    lines += [
        f"parameter {name} {before.parameters.get(name)} -> {after.parameters.get(name)}"
        for name in names
        if before.parameters.get(name) != after.parameters.get(name)
    ]
    old, new = before.rules.to_document(), after.rules.to_document()
    lines += [f"rule {name} {old[name]} -> {new[name]}" for name in new if old[name] != new[name]]
    lines += [f"trading rules of {i.symbol}" for i, j in zip(after.instruments, before.instruments, strict=True) if i != j]
    return (*lines, *(["a halt that was hit is lifted: peak and day start anew"] if after.lifts_halt else []))
