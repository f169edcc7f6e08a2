"""What a look-ahead check means later: the verdict as it is kept, and the refusal of a strategy that failed.

A verdict belongs to a strategy with these parameters in this code (`strategy_code_version`). Rows of `strategy_checks` are
built and read by `candlewick.backtest_rows.check_row` and `read_check`.
"""

from datetime import datetime

from candlewick.backtest_rows import KeptCheck
from candlewick.check_report import CheckReport, bar_words
from candlewick.errors import StrategyPeeks
from candlewick.timeframes import format_utc


def kept_check(
    report: CheckReport, *, market: str, timeframe: str, code_version: str, strategy_version: str, checked_at: datetime
) -> KeptCheck:
    """The report as it is kept. ``market`` and ``timeframe`` are those of the candles it was made on."""
    return KeptCheck(
        strategy=report.strategy,
        parameters=dict(report.parameters),
        code_version=code_version,
        strategy_version=strategy_version,
        market=market,
        timeframe=timeframe,
        verdict=report.verdict,
        document=report.to_document(),
        checked_at=checked_at,
    )


def check_to_keep(before: KeptCheck | None, new: KeptCheck) -> KeptCheck:
    """Which of two checks of the same code to keep: the new one, except that a pass elsewhere does not clear a failure.

    A peek may need the right candles to show. So a failure is only replaced by another failure, or by a pass that saw all the
    candles it was found on: the same market and timeframe, and its symbols over at least their spans, with no fewer cuts.
    """
    if before is None or before.verdict != "failed" or new.verdict == "failed" or _covers(new, before):
        return new
    return before


def _covers(new: KeptCheck, before: KeptCheck) -> bool:
    if (new.market, new.timeframe) != (before.market, before.timeframe):
        return False
    spans = {one.symbol: one for one in CheckReport.from_document(new.document).symbols}
    for old in CheckReport.from_document(before.document).symbols:
        seen = spans.get(old.symbol)
        if seen is None or seen.first_at > old.first_at or seen.last_at < old.last_at or seen.cuts < old.cuts:
            return False
    return True


def refuse_failed(check: KeptCheck | None, *, allow: bool) -> str | None:
    """Refuse a strategy whose check failed: raises StrategyPeeks, naming the bar and the column.

    With ``allow`` it answers the notice that the report has to show instead. None where it passed, or was never checked.
    """
    if check is None or check.verdict != "failed":
        return None
    on = f"{format_utc(round(check.checked_at.timestamp() * 1000))} UTC"
    found = _first_failure(check)
    if allow:
        return f"this strategy failed its look-ahead check on {on}: results cannot be believed. {found}"
    raise StrategyPeeks(
        f"strategy {check.strategy} failed its look-ahead check of {on} ({check.market} {check.timeframe}). {found}. "
        "Correct the strategy and check it again, or say that it is to be used nevertheless"
    )


def _first_failure(check: KeptCheck) -> str:
    found = CheckReport.from_document(check.document).first_failure
    if found is None:
        return "What it found was not kept"
    place = [f"bar {bar_words(found.bar)}"] if found.bar else []
    place += [f"column {found.column}"] if found.column else []
    return f"{found.text}" + (f" ({', '.join(place)})" if place else "")
