"""An account: what it was opened with, and the versions of the terms it has traded by."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

import polars as pl

from candlewick.errors import AccountMismatch, UsageError
from candlewick.instruments import Instrument
from candlewick.rows import ACCOUNT_ROW, TERMS_ROW, Value, frame
from candlewick.rules import Rules

Scalar = str | int | float | bool


@dataclass(frozen=True, slots=True)
class TermsVersion:
    """Terms that act from the first bar that opens at or after ``effective_from_ms``. ``instruments`` in the account's order.

    ``lifts_halt``: a drawdown halt, or a day's loss limit, that was hit before no longer counts.
    """

    version: int
    effective_from_ms: int
    strategy: str
    parameters: Mapping[str, Scalar | None]
    rules: Rules
    instruments: tuple[Instrument, ...]
    lifts_halt: bool = False


@dataclass(frozen=True, slots=True)
class Account:
    """One trading account. ``anchor_ms`` is the open time of its first bar; ``terms`` are in the order of their versions."""

    name: str
    market: str
    timeframe: str
    symbols: tuple[str, ...]
    quote: str
    initial_cash: Decimal
    anchor_ms: int
    terms: tuple[TermsVersion, ...]

    @property
    def current(self) -> TermsVersion:
        """The newest terms."""
        return self.terms[-1]

    def acting_terms(self, watermark_ms: int | None) -> tuple[TermsVersion, ...]:
        """The versions that act at some bar after the watermark."""
        ends = [following.effective_from_ms - 1 for following in self.terms[1:]]
        pairs = zip(self.terms, [*ends, None], strict=True)
        return tuple(terms for terms, end in pairs if end is None or end > (watermark_ms or 0))


@dataclass(frozen=True, slots=True)
class AccountRequest:
    """What a user asks of an account; None where the user did not say, and then the account's own word counts.

    ``parameters`` are all of the strategy's, defaults included, and ``rules`` all rules.
    """

    market: str | None = None
    symbols: tuple[str, ...] | None = None
    timeframe: str | None = None
    strategy: str | None = None
    parameters: Mapping[str, Scalar | None] | None = None
    cash: Decimal | None = None
    since_ms: int | None = None
    rules: Rules | None = None


def common_quote(instruments: Sequence[Instrument]) -> str:
    """The quote currency all instruments share. Raises UsageError: an account keeps its cash in one currency."""
    quotes = {instrument.quote: instrument.symbol for instrument in instruments}
    if len(quotes) > 1:
        raise UsageError(f"one account holds one quote currency, but {' and '.join(sorted(quotes.values()))} differ in theirs")
    return next(iter(quotes))


def refuse_mismatch(account: Account, request: AccountRequest) -> None:
    """Raises AccountMismatch when something was asked for that the account was not opened with."""
    current = account.current
    asked = (
        ("--market", request.market, account.market),
        ("--symbols", request.symbols, account.symbols),
        ("--timeframe", request.timeframe, account.timeframe),
        ("--strategy", request.strategy, current.strategy),
        ("--param", request.parameters, dict(current.parameters)),
        ("--cash", request.cash, account.initial_cash),
        ("--since", request.since_ms, account.anchor_ms),
        *_rules_asked(request.rules, current.rules),
    )
    different = [
        f"{name} {_text(value)} (it has {_text(own)})" for name, value, own in asked if value is not None and value != own
    ]
    if different:
        raise AccountMismatch(
            f"account {account.name} was opened with other terms: {'; '.join(different)}. "
            "Leave these out to continue it, or name a new account with --account"
        )


def _rules_asked(asked: Rules | None, own: Rules) -> list[tuple[str, object, object]]:
    """Each rule that was asked for otherwise than the account has it."""
    if asked is None:
        return []
    before = own.to_document()
    return [
        ("--rule", f"{name}={_none(value)}", f"{name}={_none(before[name])}")
        for name, value in asked.to_document().items()
        if value != before[name]
    ]


def _none(value: str | int | bool | None) -> str:
    return "none" if value is None else str(value)


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(str(part) for part in value)
    if isinstance(value, Mapping):
        return " ".join(f"{name}={part}" for name, part in value.items())
    return str(value)


def account_row(account: Account) -> pl.DataFrame:
    """The account as a row of `accounts`."""
    row: dict[str, Value] = {
        "account": account.name,
        "market": account.market,
        "timeframe": account.timeframe,
        "symbols": json.dumps(account.symbols),
        "quote": account.quote,
        "initial_cash": account.initial_cash,
        "anchor_at": account.anchor_ms,
    }
    return frame([row], ACCOUNT_ROW)


def terms_rows(account: Account, versions: Sequence[TermsVersion]) -> pl.DataFrame:
    """Versions of the terms as rows of `terms`."""
    rows: list[dict[str, Value]] = [
        {
            "account": account.name,
            "version": terms.version,
            "effective_from": terms.effective_from_ms,
            "strategy": terms.strategy,
            "parameters": json.dumps(dict(terms.parameters)),
            "rules": json.dumps(terms.rules.to_document()),
            "instruments": json.dumps([instrument.to_document() for instrument in terms.instruments]),
            "lifts_halt": terms.lifts_halt,
        }
        for terms in versions
    ]
    return frame(rows, TERMS_ROW)


def read_account(row: Mapping[str, object], terms: Sequence[Mapping[str, object]]) -> Account:
    """The inverse of ``account_row`` and ``terms_rows``, from rows as the ledger answers them."""
    versions = tuple(
        TermsVersion(
            version=int(str(found["version"])),
            effective_from_ms=_milliseconds(found["effective_from"]),
            strategy=str(found["strategy"]),
            parameters=json.loads(str(found["parameters"])),
            rules=Rules.from_document(json.loads(str(found["rules"]))),
            instruments=tuple(Instrument.from_document(item) for item in json.loads(str(found["instruments"]))),
            lifts_halt=bool(found["lifts_halt"]),
        )
        for found in terms
    )
    return Account(
        name=str(row["account"]),
        market=str(row["market"]),
        timeframe=str(row["timeframe"]),
        symbols=tuple(json.loads(str(row["symbols"]))),
        quote=str(row["quote"]),
        initial_cash=Decimal(str(row["initial_cash"])),
        anchor_ms=_milliseconds(row["anchor_at"]),
        terms=versions,
    )


def _milliseconds(value: object) -> int:
    return int(pl.Series([value]).dt.epoch("ms")[0])
