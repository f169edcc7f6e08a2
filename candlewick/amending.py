"""Amending an account: a new version of its terms, from the first bar that has not begun. What was traded stays as it was."""

from collections.abc import Mapping
from dataclasses import replace

from candlewick.account import Account, Scalar, TermsVersion
from candlewick.advancing import engine_terms
from candlewick.engine.state import EngineState
from candlewick.engine.terms import grid_of, refuse_impossible
from candlewick.errors import UsageError
from candlewick.instruments import Instrument
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


def exchange_changes(
    account: Account, state: EngineState, instruments: Mapping[str, Instrument]
) -> tuple[tuple[TermsVersion, ...], tuple[str, ...]]:
    """A new version of the terms when the exchange's trading rules have changed, from the first bar not yet begun; and notices.

    ``instruments`` as the exchange has them now. Rules that the account cannot take on are told of, and the old ones stay.
    """
    current, notices = account.current, list[str]()
    offered = [(instruments[old.symbol], old) for old in current.instruments]
    finer = [new.symbol for new, old in offered if grid_of(new) != grid_of(old)]
    if finer:
        notices.append(f"{', '.join(finer)}: the exchange's new tick needs another grid; the account keeps the old rules")
    ordered = tuple(old if new.symbol in finer else new for new, old in offered)
    if ordered == current.instruments:
        return (), tuple(notices)
    try:
        refuse_impossible(engine_terms(account, replace(current, instruments=ordered)))
    except UsageError as refused:
        notices.append(f"{refused}; the exchange has changed that, and the account keeps the trading rules it has")
        return (), tuple(notices)
    changed = [new.symbol for new, old in zip(ordered, current.instruments, strict=True) if new != old]
    notices.append(f"the trading rules of {', '.join(changed)} have changed; the new ones act from the next bar on")
    return (next_terms(account, state, replace(current, instruments=ordered, lifts_halt=False)),), tuple(notices)


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
