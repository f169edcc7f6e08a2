"""What a user asks of paper trading, from options and settings: checked before anything is read or written."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal

from candlewick.account import Account, AccountRequest, Scalar, TermsVersion, common_quote, refuse_mismatch
from candlewick.advancing import engine_terms
from candlewick.engine.terms import refuse_impossible
from candlewick.errors import UsageError
from candlewick.instruments import Instrument
from candlewick.rule_texts import read_rules
from candlewick.settings import LoadedSettings, Settings, load_settings_with_origins
from candlewick.strategies.catalog import load_strategy, strategy_document, strategy_name
from candlewick.strategies.contract import Strategy
from candlewick.timeframes import DAY_MS, floor_to_bar, format_utc, parse_utc, timeframe_ms


@dataclass(frozen=True, slots=True)
class PaperOptions:
    """Options as given on the command line or to the flow; None where not given."""

    account: str | None = None
    market: str | None = None
    symbols: tuple[str, ...] | None = None
    timeframe: str | None = None
    strategy: str | None = None
    parameters: Mapping[str, Scalar] | None = None
    cash: Decimal | None = None
    since: str | None = None
    until: str | None = None
    dry_run: bool = False
    rules: Mapping[str, Scalar] | None = None
    allow_peeking: bool = False


@dataclass(frozen=True, slots=True)
class PaperRequest:
    """Options and settings together. ``until_ms`` is None for now."""

    options: PaperOptions
    settings: Settings
    origins: Mapping[str, str]
    until_ms: int | None

    @property
    def account(self) -> str:
        """Name of the account."""
        return self.settings.paper.account


def read_request(options: PaperOptions) -> PaperRequest:
    """Options over settings. Raises SettingsError, UsageError, UnknownStrategy; nothing has been written then."""
    overrides = {
        "paper.account": options.account,
        "paper.market": options.market,
        "paper.symbols": options.symbols,
        "paper.timeframe": options.timeframe,
        "paper.strategy": options.strategy,
        "paper.cash": None if options.cash is None else str(options.cash),
        "paper.since": options.since,
        **{f"rules.{name}": value for name, value in (options.rules or {}).items()},
    }
    loaded: LoadedSettings = load_settings_with_origins({key: value for key, value in overrides.items() if value is not None})
    until_ms = None if options.until is None else parse_utc(options.until)
    request = PaperRequest(options, loaded.settings, loaded.origins, until_ms)
    requested_strategy(request)
    if until_ms is not None and loaded.settings.paper.since is not None and until_ms <= parse_utc(loaded.settings.paper.since):
        raise UsageError(
            f"--until {options.until} is not after --since {loaded.settings.paper.since}: there is no bar between them"
        )
    return request


def requested_strategy(request: PaperRequest) -> Strategy:
    """The strategy for a new account: parameters of the settings belong to the settings' strategy only."""
    paper = request.settings.paper
    own: Mapping[str, Scalar] = {} if request.options.strategy is not None else paper.parameters
    return load_strategy(paper.strategy, {**own, **(request.options.parameters or {})})


def anchor_of(request: PaperRequest, now_ms: int) -> int:
    """Open time of a new account's first bar: ``since``, or `history_days` before now, on the next bar's open."""
    paper = request.settings.paper
    since_ms = parse_utc(paper.since) if paper.since is not None else now_ms - paper.history_days * DAY_MS
    anchor_ms = floor_to_bar(since_ms + timeframe_ms(paper.timeframe) - 1, paper.timeframe)
    if paper.since is not None and anchor_ms >= now_ms:
        raise UsageError(f"--since {paper.since} is not before the market's now, {format_utc(now_ms)} UTC")
    return anchor_ms


def open_account(request: PaperRequest, instruments: Mapping[str, Instrument], now_ms: int) -> Account:
    """A new account with the terms asked for. Raises UsageError, also for rules that an instrument does not allow."""
    paper = request.settings.paper
    strategy = requested_strategy(request)
    ordered = tuple(instruments[symbol] for symbol in paper.symbols)
    anchor_ms = anchor_of(request, now_ms)
    terms = TermsVersion(
        1, anchor_ms, strategy_name(strategy), strategy_document(strategy), request.settings.rules.to_rules(), ordered
    )
    account = Account(
        paper.account, paper.market, paper.timeframe, paper.symbols, common_quote(ordered), paper.cash, anchor_ms, (terms,)
    )
    refuse_impossible(engine_terms(account, terms))
    return account


def check_options(request: PaperRequest, account: Account) -> None:
    """Raises AccountMismatch when an option contradicts what the account was opened with."""
    options = request.options
    parameters: Mapping[str, Scalar | None] | None = None
    name: str | None = None
    if options.strategy is not None or options.parameters:
        own = dict(account.current.parameters) if options.strategy is None else {}
        asked = load_strategy(options.strategy or account.current.strategy, {**own, **(options.parameters or {})})
        name, parameters = strategy_name(asked), strategy_document(asked)
        # An account from before a parameter existed has its default.
        if asked == load_strategy(account.current.strategy, account.current.parameters):
            parameters = account.current.parameters
    since_ms = None
    if options.since is not None:
        since_ms = floor_to_bar(parse_utc(options.since) + timeframe_ms(account.timeframe) - 1, account.timeframe)
    rules = read_rules(options.rules, account.current.rules) if options.rules else None
    request_of_account = AccountRequest(
        options.market, options.symbols, options.timeframe, name, parameters, options.cash, since_ms, rules
    )
    refuse_mismatch(account, request_of_account)


def kept_terms(request: PaperRequest, account: Account) -> tuple[str, ...]:
    """Notices for settings (not options) that say otherwise than the account, which keeps what it was opened with."""
    paper, rules, current = request.settings.paper, request.settings.rules.to_rules(), account.current
    differing = [
        (key, value, own)
        for key, value, own in (
            ("paper.market", paper.market, account.market),
            ("paper.symbols", ",".join(paper.symbols), ",".join(account.symbols)),
            ("paper.timeframe", paper.timeframe, account.timeframe),
            ("paper.strategy", paper.strategy, current.strategy),
            ("paper.cash", paper.cash, account.initial_cash),
            *((f"rules.{name}", value, current.rules.to_document()[name]) for name, value in rules.to_document().items()),
        )
        if value != own and any(origin == key or origin.startswith(f"{key}.") for origin in request.origins)
    ]
    return tuple(
        f"{key} is now {value} ({request.origins[key]}); account {account.name} keeps {own}, which it was opened with"
        for key, value, own in differing
    )


def apply_fees(instruments: Mapping[str, Instrument], settings: Settings) -> dict[str, Instrument]:
    """Instruments with the fees of the settings where those are set."""
    fees = settings.fees
    return {
        symbol: replace(
            instrument,
            maker_fee_bps=instrument.maker_fee_bps if fees.maker_bps is None else fees.maker_bps,
            taker_fee_bps=instrument.taker_fee_bps if fees.taker_bps is None else fees.taker_bps,
        )
        for symbol, instrument in instruments.items()
    }
