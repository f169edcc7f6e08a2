"""Audit: replay an account from its stored inputs and compare everything the ledger says of it.

Inputs are the account's row, its terms, the interventions of sessions, the lake's candles and funding up to the watermark, and
the opens that the checkpoint remembers of a bar that is not closed. The replay starts from the empty state and steps over all
bars in one fold; a ledger that was written in any number of cycles has to be the same, bookkeeping aside (promises 1, 3 and 4).
"""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from candlewick.account import Account, TermsVersion, read_account
from candlewick.advancing import advance_account
from candlewick.amending import AMENDMENT
from candlewick.candles import FormingBar
from candlewick.code_version import code_version
from candlewick.comparing import FIRST, Comparison, Difference, Json, compare_rows, compare_values, flatten, value_text
from candlewick.cycle import Decided, conclude, new_start, opening_rows
from candlewick.engine.bars import Beside
from candlewick.engine.layout import NEVER
from candlewick.history import candles_until, digests_until
from candlewick.monitoring.interventions import Intervention, intervened
from candlewick.monitoring.row_frames import interventions_of
from candlewick.rebuilding import is_outdated
from candlewick.reports.numbers import format_count
from candlewick.seen import forming_opens
from candlewick.store.tables import TABLES
from candlewick.strategies.catalog import load_strategy
from candlewick.strategies.contract import complete_signals
from candlewick.timeframes import timeframe_ms

Frames = Mapping[str, pl.DataFrame]

_REPLAYED = ("signals", "orders", "fills", "postings", "positions", "equity", "events")
# Every run's digests would cost runs × candles; so many, evenly spread and the last among them, find the span of a change.
_RUNS_DIGESTED = 400


@dataclass(frozen=True, slots=True)
class AuditReport:
    """``comparisons`` by table, in the order in which a difference spreads; ``broken``: the invariant that is broken, if any."""

    account: str
    watermark_at: datetime | None
    bars: int
    comparisons: tuple[Comparison, ...]
    broken: str | None
    code_version: str
    notices: tuple[str, ...]

    @property
    def differences(self) -> int:
        """Cells and rows that differ, and the broken invariant."""
        return sum(comparison.differences for comparison in self.comparisons) + (self.broken is not None)

    @property
    def first(self) -> tuple[Difference, ...]:
        """The first differences, in the order of the comparisons."""
        return tuple(difference for comparison in self.comparisons for difference in comparison.first)[:FIRST]


@dataclass(frozen=True, slots=True)
class Stored:
    """The ledger's rows of one account, and what of them a replay starts from.

    ``interventions``: what sessions did to the strategy's signals, which the engine then saw as a replay has to.
    """

    account: Account
    rows: Frames
    watermark_ms: int | None
    opens: Mapping[str, FormingBar | None]
    interventions: tuple[Intervention, ...]


def stored_account(rows: Frames) -> Account:
    """The account that these rows (``queries.account_rows``) are of."""
    return read_account(rows["accounts"].to_dicts()[0], rows["terms"].to_dicts())


def stored_watermark_ms(rows: Frames) -> int | None:
    """Open time of the last bar that the account has processed."""
    watermarks = rows["checkpoints"]["watermark_at"].dt.epoch("ms")
    return None if watermarks.is_empty() or watermarks[0] is None else int(watermarks[0])


def audit(rows: Frames, candles: Frames, broken: str | None, funding: Frames | None = None) -> AuditReport:
    """Replay and compare. ``rows`` as `queries.account_rows` reads them; ``candles`` by symbol, validated, from the anchor on;
    ``funding`` of perpetuals, FUNDING_SCHEMA, by symbol.

    Candles after the watermark are not looked at. ``broken``: what the check of the invariants found. Raises what the
    strategies and the engine raise where the account cannot be replayed at all.
    """
    stored = read_stored(rows)
    until_ms = stored.watermark_ms
    seen = {symbol: candles_until(candles[symbol], until_ms) for symbol in stored.account.symbols}
    replayed = replay(stored, seen, funding or {})
    comparisons = [_compare_candles(stored, replayed)]
    comparisons += [compare_rows(TABLES[name], rows[name], _replayed_rows(replayed, name)) for name in _REPLAYED]
    comparisons += [_compare_checkpoint(stored, replayed), _compare_runs(stored, replayed, seen, funding or {})]
    watermark_at = None if until_ms is None else rows["checkpoints"]["watermark_at"][0]
    notices = _code_notices(stored, any(one.differences for one in comparisons))
    return AuditReport(
        stored.account.name, watermark_at, replayed.advanced.bars, tuple(comparisons), broken, code_version(), notices
    )


def read_stored(rows: Frames) -> Stored:
    """The account, its watermark, and the opens it has acted on, from its rows (``queries.account_rows``)."""
    account, watermark_ms = stored_account(rows), stored_watermark_ms(rows)
    opens: dict[str, FormingBar | None] = {}
    if watermark_ms is not None:
        opened_ms = watermark_ms + timeframe_ms(account.timeframe)
        checkpoint = rows["checkpoints"].to_dicts()[0]
        prices = forming_opens(json.loads(checkpoint["seen"]))
        if json.loads(checkpoint["state"]).get("account", {}).get("opened_at", NEVER) > watermark_ms:
            opens = {symbol: FormingBar(opened_ms, price) for symbol, price in prices.items()}
    return Stored(account, rows, watermark_ms, opens, interventions_of(rows["interventions"]))


def replay(stored: Stored, candles: Frames, funding: Frames) -> Decided:
    """The whole life of the account in one fold. ``candles`` and ``funding`` up to the watermark, by symbol."""
    account = stored.account
    signals = {terms.version: intervened(strategy_signals(terms, candles), stored.interventions) for terms in account.terms}
    start = new_start(account)
    beside = Beside(funding=funding)
    advanced = advance_account(account, start.state, candles, signals, stored.watermark_ms, stored.opens, beside)
    return conclude(start, advanced, candles, funding)


def strategy_signals(terms: TermsVersion, candles: Frames) -> dict[str, pl.DataFrame]:
    """What the strategy decides at every bar, by symbol."""
    strategy = load_strategy(terms.strategy, terms.parameters)
    return {symbol: complete_signals(strategy, frame) for symbol, frame in candles.items()}


def _replayed_rows(replayed: Decided, table: str) -> pl.DataFrame:
    journal = replayed.journal
    if table == "postings":
        return pl.concat([opening_rows(replayed.start.account)[2], journal.postings])
    frames: dict[str, pl.DataFrame] = {
        "signals": journal.signals,
        "orders": journal.orders,
        "fills": journal.fills,
        "positions": journal.positions,
        "equity": journal.equity,
        "events": journal.events,
    }
    return frames[table]


def _compare_candles(stored: Stored, replayed: Decided) -> Comparison:
    """The lake's candles and funding are those that the last cycle saw: one row a symbol, and one for a perpetual's payments."""
    checkpoints = stored.rows["checkpoints"]["candle_digests"]
    digests = json.loads(checkpoints[0]) if checkpoints.len() else {}
    found = [
        difference
        for symbol, digest in replayed.digests.items()
        for difference in compare_values("candles", symbol, {"digest": digests.get(symbol)}, {"digest": digest})
    ]
    return Comparison("candles", len(digests), len(replayed.digests), len(found), tuple(found[:FIRST]))


def _compare_checkpoint(stored: Stored, replayed: Decided) -> Comparison:
    """The engine's state, field by field, and how many cycles and amendments made it."""
    checkpoints = stored.rows["checkpoints"].to_dicts()
    name, state = stored.account.name, flatten(json.loads(json.dumps(replayed.advanced.state.to_document())))
    if not checkpoints:
        missing = Difference("checkpoints", name, "", None, f"a state after {replayed.advanced.bars} bars")
        return Comparison("checkpoints", 0, 1, 1, (missing,))
    ours = flatten(json.loads(checkpoints[0]["state"])) | {"version": checkpoints[0]["version"]}
    if is_outdated(json.loads(checkpoints[0]["state"])):
        state = {name: value for name, value in state.items() if name in ours and _is_kept(name)}
        ours = {name: value for name, value in ours.items() if name in state or name == "version"}
    amendments = stored.rows["terms"].filter(pl.col("run_id").str.starts_with(AMENDMENT)).height
    theirs = state | {"version": _committed(stored.rows["runs"]).height + amendments}
    found = compare_values("checkpoints", name, ours, theirs)
    return Comparison("checkpoints", 1, 1, len(found), tuple(found[:FIRST]))


def _is_kept(name: str) -> bool:
    """Whether a field of the state that an older engine wrote has to be the same in a replay: cash, events, quantities."""
    return name in ("account.cash", "account.sequence", "account.watermark") or name.endswith(".quantity")


def _committed(runs: pl.DataFrame) -> pl.DataFrame:
    """Runs that committed a cycle, in their order, whatever the clock did."""
    return runs.filter(pl.col("status") != "failure").sort("watermark_at", "watermark_before", "started_at", "run_id")


def _compare_runs(stored: Stored, replayed: Decided, candles: Frames, funding: Frames) -> Comparison:
    """Each run began where the one before ended, processed the bars between, and saw the candles that the lake has."""
    runs = _committed(stored.rows["runs"]).to_dicts()
    length = timedelta(milliseconds=timeframe_ms(stored.account.timeframe))
    opened_at = replayed.journal.equity["at"] - length  # an equity row is of a bar's close
    step = max(1, -(-len(runs) // _RUNS_DIGESTED))
    found: list[Difference] = []
    before: datetime | None = None
    for number, run in enumerate(runs, 1):
        after: datetime | None = run["watermark_at"]
        ours: dict[str, Json] = {"watermark_before": value_text(run["watermark_before"]), "bars": run["bars"]}
        theirs: dict[str, Json] = {"watermark_before": value_text(before), "bars": _bars_between(opened_at, before, after)}
        if number % step == 0 or number == len(runs):
            until_ms = None if after is None else round(after.timestamp() * 1000)
            digests = digests_until(stored.account, candles, funding, until_ms)
            ours |= flatten({"candle_digests": json.loads(run["candle_digests"])})
            theirs |= flatten({"candle_digests": dict(digests)})
        found += compare_values("runs", run["run_id"], ours, theirs)
        before = after
    return Comparison("runs", len(runs), len(runs), len(found), tuple(found[:FIRST]))


def _bars_between(opened_at: pl.Series, before: datetime | None, after: datetime | None) -> int:
    if after is None:
        return 0
    return int(((opened_at <= after) & (opened_at > before if before else opened_at.is_not_null())).sum())


def _code_notices(stored: Stored, differs: bool) -> tuple[str, ...]:
    """Whether other code than this wrote the ledger: a difference may then be the code's."""
    versions = Counter(_committed(stored.rows["runs"])["code_version"].to_list())
    others = [f"{version} ({format_count(count, 'run')})" for version, count in versions.items() if version != code_version()]
    notices = []
    if others:
        verdict = "a difference may come from what has changed in between" if differs else "it decides the same"
        notices.append(f"code {', '.join(others)} wrote this account, code {code_version()} replays it; {verdict}")
    checkpoints = stored.rows["checkpoints"]["state"]
    if checkpoints.len() and is_outdated(json.loads(checkpoints[0])):
        notices.append("an older version wrote the state: cash, quantities and events are compared; the next cycle rebuilds it")
    own = sorted({terms.strategy for terms in stored.account.terms if ":" in terms.strategy})
    if own and differs:
        notices.append(f"{', '.join(own)}: the ledger keeps no version of code outside Candlewick; it may have changed")
    return tuple(notices)
