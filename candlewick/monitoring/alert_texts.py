"""The alerts there are: what happened, in the words of the desk, and what to do next. docs/monitoring.md has them as a table."""

from candlewick.json_text import iso_utc
from candlewick.monitoring.alerts import Alert
from candlewick.monitoring.events import DataStale, RiskLimitBreached, Stage
from candlewick.monitoring.rows import SessionRow, Sink
from candlewick.timeframes import format_duration

_CONSEQUENCES = {
    "pause": "The session is paused: entries are rejected, stops and exits go on.",
    "flatten": "Every position is being left at the next bar, and entries are rejected.",
    "block_entries": "Entries are rejected; positions, stops and exits go on.",
}
_SINKS: dict[Sink, tuple[str, str]] = {
    "redis": ("Redis", "see whether it runs and whether events.redis_url is right"),
    "prefect": ("Prefect", "see whether its server runs and whether PREFECT_API_URL is right"),
}


def quarantined(desk: str, symbol: str, restarts: int, error: str) -> Alert:
    """A symbol was given up: stages and symbol were restarted ``restarts`` times, and failed again."""
    return Alert(
        severity="critical",
        title=f"{desk}: {symbol} is in quarantine",
        body=f"{symbol} failed again after {restarts} restarts, and is not processed any more: {error}\n"
        "Its position stays, but its stops and targets are not watched meanwhile; other symbols go on. Find the cause with "
        f"`{_command('status', desk)}`, put it right, then `{_command('restart', desk)} --symbol {symbol}`: the bars it "
        "missed are then processed in their order.",
        key=f"quarantine:{symbol}",
    )


def stage_given_up(desk: str, symbol: str, stage: Stage, failures: int, error: str) -> Alert:
    """A stage used up its restarts; its symbol is restarted as a whole."""
    return Alert(
        severity="warning",
        title=f"{desk}: the stage {stage} of {symbol} keeps failing",
        body=f"The stage {stage} of {symbol} failed {failures} times in a row, last with: {error}\n"
        f"The symbol as a whole is restarted now. If that does not help, it goes into quarantine: look at "
        f"`{_command('status', desk)}`.",
        key=f"stage:{symbol}:{stage}",
    )


def risk_breached(desk: str, event: RiskLimitBreached) -> Alert:
    """A limit over all symbols is broken."""
    about = f" ({event.symbol})" if event.symbol else ""
    return Alert(
        severity="critical",
        title=f"{desk}: the limit {event.rule} is broken{about}",
        body=f"{event.rule} is {event.value}; its limit is {event.limit}. {_CONSEQUENCES.get(event.action, event.action)}\n"
        f"See `{_command('status', desk)}`. It is lifted as the settings say (section desk_risk), or by hand with "
        f"`{_command(f'lift {event.rule}', desk)}`.",
        key=f"risk:{event.rule}{f':{event.symbol}' if event.symbol else ''}",
    )


def stale_data(desk: str, event: DataStale) -> Alert:
    """A symbol's candles do not come while its market is open."""
    return Alert(
        severity="warning",
        title=f"{desk}: no new candle of {event.symbol}",
        body=f"The last candle of {event.symbol} is {_span(event.age_s)} old; the limit is {_span(event.limit_s)}. The symbol is "
        "paused, and goes on by itself when candles come; what it missed is then processed in order.\n"
        f"See the exchange's status page, and `{_command('status', desk)}` for the last error.",
        key=f"stale:{event.symbol}",
    )


def session_crashed(desk: str, row: SessionRow) -> Alert:
    """The session before this one ended without saying so."""
    return Alert(
        severity="warning",
        title=f"{desk}: a session crashed",
        body=f"Session {row.session_id} (process {row.process}) gave its last sign of life at {iso_utc(row.heartbeat_at)} and "
        "never said that it ended. This session went on from the last commit: nothing is lost or doubled, and the bars between "
        "are processed in order.\nIf it happens again, look at the log of that process and at the machine's memory.",
        key=f"crash:{row.session_id}",
    )


def session_late(desk: str, row: SessionRow, late_s: float) -> Alert:
    """There was no session for a while: this one began ``late_s`` seconds after the one before had ended."""
    return Alert(
        severity="warning",
        title=f"{desk}: nobody watched for {_span(late_s)}",
        body=f"Session {row.session_id} ended, and this one began {_span(late_s)} later. The bars between are processed now, in "
        "order, with the fills they would have had.\nSee whether the worker runs (`make serve`), and whether runs of the "
        "deployment wait in Prefect.",
        key=f"late:{row.session_id}",
    )


def sink_down(desk: str, sink: Sink, down_s: float, waiting: int, error: str) -> Alert:
    """Redis or Prefect has not taken events for long."""
    name, advice = _SINKS[sink]
    return Alert(
        severity="warning",
        title=f"{desk}: {name} takes no events",
        body=f"{name} has not answered for {_span(down_s)}; {waiting} events wait in the outbox. Last error: {error}\n"
        f"Trading goes on, and nothing is lost: the events are sent when it is back. To do: {advice}.",
        key=f"bus:{sink}",
    )


def store_refused(desk: str, error: str) -> Alert:
    """A commit failed: nothing that was decided since the last one is in the ledger."""
    return Alert(
        severity="critical",
        title=f"{desk}: the store refuses to write",
        body=f"The last commit failed: {error}\n"
        "The ledger stands where it stood before; what was decided since is decided again from there. See whether the disk is "
        "full, the database is reachable, and no other program holds it; the session tries again by itself.",
        key="store",
    )


def _command(words: str, desk: str) -> str:
    return f"python -m flows.monitoring {words} --account {desk}"


def _span(seconds: float) -> str:
    return format_duration(round(seconds) * 1000)
