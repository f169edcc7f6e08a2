"""Every error a user can meet, by name. A message says what, the value and the limit, and what to do next."""


class CandlewickError(Exception):
    """Base of all expected failures; anything else that escapes is a bug. ``exit_code`` is what a command ends with."""

    exit_code = 1


class UsageError(CandlewickError):
    """The request itself is wrong: unknown name, wrong type, impossible combination. Nothing was written."""

    exit_code = 2


class SettingsError(UsageError):
    """A setting is unknown, of the wrong type, out of range or contradicts another one."""


class UnknownStrategy(UsageError):
    """No strategy has that name or import path, or its parameters are refused."""


class GridTooLarge(UsageError):
    """A parameter grid holds more sets than are computed without being asked twice."""


class StrategyFailed(CandlewickError):
    """A strategy's own code raised an error while it computed its signals."""


class UnknownSymbol(UsageError):
    """The market does not trade that symbol."""


class CandlesNotKept(UsageError):
    """The exchange keeps only its newest candles, and older ones were asked for. ``first_ms`` is the oldest one's open time."""

    def __init__(self, message: str, first_ms: int) -> None:
        super().__init__(message)
        self.first_ms = first_ms


class AmbiguousCandles(UsageError):
    """Several files answer one request for candles."""


class AmbiguousImport(UsageError):
    """A file of the user's can be read in two ways: its rows are shown, and nothing was written."""


class AccountMismatch(UsageError):
    """The account exists and was opened with other terms than those asked for."""


class UnknownAccount(UsageError):
    """The ledger has no account of that name."""


class MarketUnavailable(CandlewickError):
    """The market did not answer, or not sensibly, after all retries."""


class RateLimited(MarketUnavailable):
    """The exchange asked for a pause (429 or 418). ``retry_after_s`` is what it asked for, None if it did not say."""

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ClockSkew(CandlewickError):
    """This machine's clock and the exchange's differ by more than the limit; the cycle refuses to trade."""


class InvalidCandles(CandlewickError):
    """Candles that cannot be trusted (not finite, not positive, high below low, conflicting duplicates)."""


class InvalidFunding(CandlewickError):
    """Funding rates that cannot be trusted (no number, a share of 1 and more, two rates for one payment)."""


class FundingMissing(CandlewickError):
    """Payments of a perpetual's funding that are due and not known. Their absence is not a rate of zero.

    The hole reaches from ``since_ms`` to ``until_ms`` (payments that are known, or the ends of what was asked for);
    ``payments`` are due inside of it.
    """

    def __init__(self, message: str, symbol: str, since_ms: int, until_ms: int, payments: int) -> None:
        super().__init__(message)
        self.symbol = symbol
        self.since_ms = since_ms
        self.until_ms = until_ms
        self.payments = payments


class HistoryChanged(CandlewickError):
    """Candles that an account has already acted on are no longer what they were."""


class DirtyWindow(CandlewickError):
    """Something is known to be wrong with candles that a run would decide on, and the settings say to refuse it then."""


class LakeError(CandlewickError):
    """The candle lake cannot be read or written."""


class LakeDamaged(LakeError):
    """A file of the lake cannot be read or is no lake file. ``Lake.set_aside`` takes it out of the way."""


class LakeTooNew(LakeError):
    """The lake was written by a newer version of Candlewick; nothing was read or written."""


class LakeUnavailable(LakeError):
    """The object store that the lake is on did not answer, or refused to serve, after all retries."""


class MissingData(CandlewickError):
    """Something that was asked for is not in the lake. ``holes`` are spans [since, until) in milliseconds UTC, in order of time;
    none where the lake has nothing of the series. ``part`` is the timeframe of candles, or the kind (market_data/kinds.py)."""

    def __init__(self, message: str, market: str, symbol: str, part: str, holes: tuple[tuple[int, int], ...]) -> None:
        super().__init__(message)
        self.market = market
        self.symbol = symbol
        self.part = part
        self.holes = holes


class LedgerError(CandlewickError):
    """Base of what can go wrong with the ledger's file."""


class AccountBusy(CandlewickError):
    """Another cycle or session is moving the account."""


class LedgerBusy(LedgerError):
    """Another program holds the ledger and did not let go within the time-out."""


class LedgerTooNew(LedgerError):
    """The ledger was written by a newer version of Candlewick."""


class LedgerUnreadable(LedgerError):
    """The ledger's file is truncated, corrupt, or not a DuckDB database."""


class StateOutdated(LedgerError):
    """An older version wrote the account's state, and a replay of its inputs does not end where the ledger stands."""


class LedgerUnwritable(LedgerError):
    """No space left, or the folder may not be written."""


class InvariantViolated(LedgerError):
    """A transaction would have broken an invariant of the ledger; it was rolled back."""


class StaleCycle(LedgerError):
    """Another cycle of the account committed first; nothing was written. Load the account again."""


class EngineOverflow(CandlewickError):
    """An amount left the range of the engine's 64-bit grid."""


class UnknownRun(UsageError):
    """The run store has no run of that id."""


class AmbiguousRun(UsageError):
    """The beginning of an id that several runs share."""


class RunActive(UsageError):
    """The run is still being computed by a living process."""


class StrategyPeeks(UsageError):
    """The strategy failed its look-ahead check, and the user did not say to use it nevertheless."""


class EventBusUnavailable(CandlewickError):
    """Redis or Prefect did not take events. They stay in the outbox and are sent again; trading does not wait for it."""


class AlertNotSent(CandlewickError):
    """One or more channels did not take an alert. ``channels`` are their numbers in the list of addresses, from 1."""

    def __init__(self, message: str, channels: tuple[int, ...]) -> None:
        super().__init__(message)
        self.channels = channels


class SearchInterrupted(CandlewickError):
    """A search was stopped before its end; what is done is kept, and the same command goes on from there."""

    exit_code = 130


class NoSession(UsageError):
    """No session of the desk is alive, so that nobody would read a command. Nothing was written."""


class StatusUnreadable(CandlewickError):
    """The status that a session left in the store is of another version's form."""


class PortInUse(CandlewickError):
    """Another program listens on the port that metrics are to be served on."""


class IllegalTransition(CandlewickError):
    """A session, a symbol or a stage was to go to a state that none leads to from where it is (monitoring/states.py)."""


class UnknownRule(UsageError):
    """A desk has no global limit of that name."""
