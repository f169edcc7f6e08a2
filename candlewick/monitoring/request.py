"""What a user asks of a session, from options and settings: checked before anything is read or written."""

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

import polars as pl

from candlewick.account import Scalar
from candlewick.errors import UsageError
from candlewick.monitoring.books import account_name, account_names, cash_share
from candlewick.monitoring.calendars import TradingHours
from candlewick.monitoring.risk_settings import risk_rules
from candlewick.paper_request import PaperOptions, PaperRequest, read_request
from candlewick.settings import load_settings
from candlewick.timeframes import parse_duration, timeframe_ms


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """Options as given on the command line or to the flow; None where not given. ``account`` is the desk's name."""

    account: str | None = None
    market: str | None = None
    symbols: tuple[str, ...] | None = None
    timeframe: str | None = None
    strategy: str | None = None
    parameters: Mapping[str, Scalar] | None = None
    cash: Decimal | None = None
    since: str | None = None
    duration: str | None = None
    rules: Mapping[str, Scalar] | None = None
    allow_peeking: bool = False


@dataclass(frozen=True, slots=True)
class SessionRequest:
    """Options and settings together. ``paper`` is what an account of the desk's own name would be asked for."""

    paper: PaperRequest
    desk: str
    duration_ms: int

    @property
    def symbols(self) -> tuple[str, ...]:
        """What is watched, in the order given."""
        return self.paper.settings.paper.symbols


def read_session_request(options: SessionOptions) -> SessionRequest:
    """Options over settings. Raises SettingsError, UsageError, UnknownStrategy; nothing has been written then."""
    given = {"monitoring.account": options.account, "monitoring.duration": options.duration}
    monitoring = load_settings({key: value for key, value in given.items() if value is not None}).monitoring
    paper = read_request(
        PaperOptions(
            account=monitoring.account, market=options.market, symbols=options.symbols,
            timeframe=options.timeframe or monitoring.timeframe, strategy=options.strategy, parameters=options.parameters,
            cash=options.cash, since=options.since, rules=options.rules, allow_peeking=options.allow_peeking,
        )
    )  # fmt: skip
    settings = paper.settings.model_copy(
        update={
            "monitoring": monitoring,
            "paper": paper.settings.paper.model_copy(update={"history_days": monitoring.history_days}),
        }
    )
    duration_ms = parse_duration(monitoring.duration)
    if duration_ms < timeframe_ms(settings.paper.timeframe):
        raise UsageError(
            f"--duration {monitoring.duration} is shorter than one bar of {settings.paper.timeframe}: no bar would close in it"
        )
    TradingHours(settings.signals.calendars)
    risk_rules(settings.desk_risk, settings.paper.symbols)
    given_options = replace(paper.options, timeframe=options.timeframe)
    return SessionRequest(replace(paper, options=given_options, settings=settings), monitoring.account, duration_ms)


def as_desk_is(request: SessionRequest, accounts: pl.DataFrame) -> SessionRequest:
    """What no option says is as the desk's own accounts have it: market, timeframe, and the symbols that no setting names.

    ``accounts``: columns account, market, timeframe, symbols (JSON). Raises UsageError where they differ among themselves.
    """
    rows = [(name, market, timeframe, json.loads(symbols)) for name, market, timeframe, symbols in _columns(accounts)]
    own = [row for row in rows if row[0] == request.desk] or [
        row for row in rows if len(row[3]) == 1 and row[0] == account_name(request.desk, row[3][0])
    ]
    if not own:
        return request
    options, update = request.paper.options, dict[str, str | tuple[str, ...]]()
    for place, key, given in ((1, "market", options.market), (2, "timeframe", options.timeframe)):
        found = sorted({str(row[place]) for row in own})
        if given is None and len(found) > 1:
            raise UsageError(f"the accounts of desk {request.desk} have several of --{key}: {', '.join(found)}; say which one")
        if given is None:
            update[key] = found[0]
    if options.symbols is None and "paper.symbols" not in request.paper.origins:
        update["symbols"] = tuple(dict.fromkeys(symbol for row in own for symbol in row[3]))
    settings = request.paper.settings.model_copy(update={"paper": request.paper.settings.paper.model_copy(update=update)})
    return replace(request, paper=replace(request.paper, settings=settings))


def _columns(accounts: pl.DataFrame) -> list[tuple[str, str, str, str]]:
    return [] if accounts.is_empty() else accounts.select("account", "market", "timeframe", "symbols").rows()


def book_requests(request: SessionRequest, existing: frozenset[str]) -> dict[str, PaperRequest]:
    """What is asked of each account of the desk, by the account's name.

    One account a symbol, with an equal part of the cash; or one for all where the settings say so, or where an account of the
    desk's own name is there already (``existing``): it is monitored as it is. Raises UsageError.
    """
    paper = request.paper
    if paper.settings.monitoring.accounts == "shared" or request.desk in existing:
        return {request.desk: paper}
    share = cash_share(paper.settings.paper.cash, len(request.symbols))
    if share <= 0:
        raise UsageError(f"--cash {paper.settings.paper.cash} leaves nothing for each of {len(request.symbols)} symbols")
    return {
        name: _of_one_symbol(paper, name, symbol, share, name in existing)
        for symbol, name in account_names(request.desk, request.symbols).items()
    }


def _of_one_symbol(paper: PaperRequest, name: str, symbol: str, share: Decimal, exists: bool) -> PaperRequest:
    """An account that is there keeps the cash it was opened with, however many symbols the desk has now."""
    section = paper.settings.paper.model_copy(update={"account": name, "symbols": (symbol,), "cash": share})
    options = replace(
        paper.options, account=name, symbols=(symbol,), cash=None if exists or paper.options.cash is None else share
    )
    return replace(paper, options=options, settings=paper.settings.model_copy(update={"paper": section}))


def new_session_id(desk: str, at: datetime) -> str:
    """`desk-20260131T123000-1f2e3d4c`."""
    return f"{desk}-{at:%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"
