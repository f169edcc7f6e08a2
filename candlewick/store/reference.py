"""The ledger's schema reference: what every table and column means, and the page docs/ledger.md made of it.

`python -m candlewick.store.reference > docs/ledger.md` writes the page; a test keeps both true to the migrations.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path

from candlewick.store.data_reference import DATA_DESCRIPTIONS
from candlewick.store.database import Database
from candlewick.store.session_reference import SESSION_DESCRIPTIONS
from candlewick.store.tables import TABLES

_ACCOUNT = "Name of the account."
_SYMBOL = "As ccxt writes it: `BTC/USDT`."
_RUN = "Run that wrote the row (bookkeeping)."
_BACKTEST = "The run of `backtests` it belongs to."
_RECORDED = "Real time of the writing (bookkeeping)."
_STORY = "Id of the bar whose close it follows from: `binance:BTC/USDT:1m:2026-01-31T12:30Z` (bookkeeping)."
_DIGESTS = "JSON object: SHA-256 of the candles decided on, by symbol; of a perpetual's payments by `SYMBOL funding`."
_SEQUENCE = "Number of the engine's event; increases through the account's life."
_LEVELS = {
    "stop_loss": "Price of the stop; null: none.",
    "take_profit_1": "Price of the first target; null: none.",
    "take_profit_2": "Price of the second target; null: none.",
}

# Table -> what a row is, and column -> what it holds.
DESCRIPTIONS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "accounts": (
        "One trading account, as it was opened.",
        {
            "account": _ACCOUNT,
            "market": "`sample`, `files:DIR`, or a ccxt exchange id.",
            "timeframe": "Length of a bar, `1m` to `1w`.",
            "symbols": "JSON list; the order in which symbols act at one timestamp.",
            "quote": "Currency of all cash, prices and fees.",
            "initial_cash": "The first deposit.",
            "anchor_at": "Open time of the first bar; indicators are computed from here on.",
            "recorded_at": _RECORDED,
        },
    ),
    "terms": (
        "What an account trades by, in versions.",
        {
            "account": _ACCOUNT,
            "version": "Counts from 1.",
            "effective_from": "Acts from the first bar that opens at or after this.",
            "strategy": "Name or import path.",
            "parameters": "JSON object: all parameters, defaults included.",
            "rules": "JSON object: sizing and risk (candlewick/rules.py); decimals as text.",
            "instruments": "JSON list: tick, step, minimums and fees by symbol (candlewick/instruments.py).",
            "lifts_halt": "Whether a drawdown halt or a day's loss limit that was hit before these terms no longer counts.",
            "run_id": _RUN,
            "recorded_at": _RECORDED,
        },
    ),
    "runs": (
        "One run of a cycle, whether it succeeded or not.",
        {
            "run_id": "Unique for every attempt.",
            "account": _ACCOUNT,
            "flow_run_id": "Prefect's id of the flow run; null outside Prefect.",
            "correlation_id": "Stands in every log line of the run.",
            "status": "`success`, `partial` or `failure`.",
            "error": "What went wrong; null on success.",
            "started_at": "Real time.",
            "completed_at": "Real time.",
            "watermark_before": "The account's watermark when the run began.",
            "watermark_at": "The account's watermark when it ended.",
            "bars": "Number of bar times processed.",
            "code_version": "Version of the code that decided.",
            "candle_digests": _DIGESTS,
            "durations_s": "JSON object: seconds by step.",
            "notices": "JSON list of texts.",
        },
    ),
    "signals": (
        "A decision of a strategy that was not HOLD, at a bar's close.",
        {
            "signal_id": "Function of account, symbol and `decided_at`.",
            "account": _ACCOUNT,
            "symbol": _SYMBOL,
            "bar_opened_at": "Open time of the bar at whose close it was decided.",
            "decided_at": "Close time of that bar.",
            "action": "`BUY` or `SELL`.",
            "entry": "Price the strategy had in mind, to 8 decimals; informative.",
            "stop_loss": "As the strategy gave it as a price; null where it gave a distance or none.",
            "take_profit_1": "As above.",
            "take_profit_2": "As above.",
            "target_weight": "Share of the capital, -1 to 1; null: an equal share.",
            "reason": "The strategy's words.",
            "outcome": "What became of it: `entry_ordered`, `exit_ordered`, `refused`, `already_in_position`, ...",
            "run_id": _RUN,
            "correlation_id": _STORY,
        },
    ),
    "orders": (
        "An order, from its decision to its end. While `open` it may be amended and closed; then never again.",
        {
            "client_order_id": "Function of account, strategy, symbol, `decided_at` and leg.",
            "account": _ACCOUNT,
            "symbol": _SYMBOL,
            "signal_id": "The signal it follows from: of a time stop, that of the entry.",
            "sequence": _SEQUENCE,
            "leg": "`entry`, `exit`, `stop`, `target_1`, `target_2`, `liquidation` or `time_stop`.",
            "side": "`buy` or `sell`.",
            "kind": "`market`, `stop`, `limit` or `liquidation`.",
            "decided_at": "Close time of the bar at which it was decided.",
            "budget": "What an entry may spend, fees included; null for others.",
            "quantity": "In base currency; of an entry known with its fill.",
            "price": "Of a stop or limit; null for market orders.",
            "status": "`open`, `filled`, `cancelled`, `expired` or `refused`.",
            "closed_at": "Market time of the end; null while open.",
            "rule": "The rule that refused it; null otherwise.",
            "rule_limit": "The rule's limit, in the rule's unit.",
            "rule_value": "The value that broke it.",
            "reason": "In words.",
            "run_id": "Run that decided it (bookkeeping).",
            "filled_quantity": "In base currency; what was filled so far.",
            "fills": "Number of fills so far.",
            "expires_at": "Market time from which on it no longer fills; null: never.",
            "correlation_id": _STORY,
        },
    ),
    "fills": (
        "One execution.",
        {
            "fill_id": "`client_order_id` and a number.",
            "account": _ACCOUNT,
            "symbol": _SYMBOL,
            "client_order_id": "The order it fills.",
            "sequence": _SEQUENCE,
            "leg": "As of the order.",
            "side": "As of the order.",
            "bar_opened_at": "Open time of the bar it happened in.",
            "phase": "`open`: at the bar's open; `intrabar`: at a stop's or target's price.",
            "reference_price": "Price before slippage: the open, the stop or the target.",
            "price": "Price paid or received.",
            "quantity": "In base currency.",
            "notional": "Price times quantity, in quote currency.",
            "fee": "In quote currency.",
            "realized_pnl": "Of what closes, after both fees; null for an entry.",
            "reason": "In words.",
            "run_id": _RUN,
            "posted_at": "Real time of the posting, beside its market time (bookkeeping).",
            "position_side": "`long` or `short`: the position it opens, adds to or closes.",
            "correlation_id": _STORY,
        },
    ),
    "postings": (
        "One leg of a movement. The legs of a transaction sum to zero per asset.",
        {
            "posting_id": "`transaction_id` and a number.",
            "account": _ACCOUNT,
            "transaction_id": "The fill's or the funding payment's id, or `<account>-deposit`.",
            "ledger_account": "`assets:cash`, `assets:position`, `market`, `expenses:fees` or `:funding`, `equity:deposits`.",
            "asset": "Currency of the amount.",
            "amount": "Signed.",
            "market_at": "Market time: the open time of the fill's bar.",
            "run_id": _RUN,
            "posted_at": "Real time of the posting (bookkeeping).",
        },
    ),
    "positions": (
        "An open position. The only rows that are replaced: they are the fold of fills up to the checkpoint.",
        {
            "account": _ACCOUNT,
            "symbol": _SYMBOL,
            "quantity": "In base currency.",
            "entry_price": "Price of the entry's fill; the mean of several, by quantity.",
            "cost": "Of what is still held: notional and entry fees of a long, notional less entry fees of a short.",
            **_LEVELS,
            "last_price": "Last close seen.",
            "opened_at": "Open time of the bar of the entry's fill.",
            "side": "`long` or `short`.",
            "margin": "Quote currency set aside for it; null: none.",
            "liquidation_price": "Price at which the exchange would close it; null: none.",
            "trailing_stop": "Price at which the trailing stop stands now; null: none.",
        },
    ),
    "equity": (
        "What the account was worth at each bar's close.",
        {
            "account": _ACCOUNT,
            "at": 'Close time of the bar. A keyword of DuckDB: quote it (`"at"`).',
            "equity": "Cash plus position value.",
            "cash": "Quote currency, the margin of positions on margin included.",
            "position_value": "Open positions at this close; of one on margin what it has won or lost since the entry.",
            "drawdown_share": "Loss since the highest equity so far, as a share of it (0 to 1).",
            "open_positions": "Number of open positions.",
        },
    ),
    "events": (
        "Everything the engine did, in its order.",
        {
            "account": _ACCOUNT,
            "sequence": _SEQUENCE,
            "at": "Market time. A keyword of DuckDB: quote it.",
            "kind": "`signal`, `order`, `refusal`, `fill`, `cancel`, `expiry`, `stop_moved`, `funding`, `halt`, `loss_limit`.",
            "symbol": "Null for events of the whole account.",
            "document": "JSON object with ids and amounts (decimals as text).",
            "run_id": _RUN,
            "recorded_at": _RECORDED,
        },
    ),
    "checkpoints": (
        "The engine's state after the last committed cycle; the next one continues from it bit for bit.",
        {
            "account": _ACCOUNT,
            "version": "Counts commits. A cycle that loaded another version is stale and writes nothing.",
            "watermark_at": "Open time of the last bar processed to its close; never moves back.",
            "seen": "JSON object by symbol: the last bar seen, and the open acted on while its bar is forming.",
            "state": "JSON object of integers (candlewick/engine/layout.py); an older version's is replayed once.",
            "candle_digests": _DIGESTS,
            "run_id": _RUN,
            "recorded_at": _RECORDED,
        },
    ),
    "backtests": (
        "One run of a backtesting flow. Written as it begins, changed as it ends; every chunk of sets counts up `sets_done`.",
        {
            "run_id": "Unique for every run; commands take its beginning where only one run has it.",
            "kind": "`run`, `sweep`, `optimize`, `walk-forward` or `check`.",
            "parent_run_id": "The run that this one is a part of; null for one that somebody asked for.",
            "flow_run_id": "Prefect's id of the flow run; null outside Prefect.",
            "correlation_id": "Stands in every log line of the run.",
            "status": "`running`, `success`, `failure` or `interrupted`, which a running one is whose process died.",
            "error": "What went wrong; null on success.",
            "market": "`sample`, `files:DIR`, or a ccxt exchange id.",
            "timeframe": "Length of a bar, `1m` to `1w`.",
            "detail_timeframe": "Length of the finer bars that decide what came first inside a bar; null: none.",
            "symbols": "JSON list; the order in which symbols act at one timestamp.",
            "quote": "Currency of all cash, prices and fees.",
            "strategy": "Name or import path.",
            "parameters": "JSON object: the parameters that are the same in every set.",
            "grid": "JSON object: the values of those that vary; null: none does.",
            "rules": "JSON object: sizing and risk (candlewick/rules.py); decimals as text.",
            "instruments": "JSON list: tick, step, minimums and fees by symbol (candlewick/instruments.py).",
            "initial_cash": "The deposit.",
            "since_at": "Open time of the first bar.",
            "until_at": "End of the span; the last bar opens before it.",
            "objective": "The figure that sets are judged by; null: they are not.",
            "bars": "Number of bars, over all symbols.",
            "sets": "Number of sets planned.",
            "sets_done": "Number of rows in `backtest_sets`.",
            "code_version": "Version of the code that decided.",
            "strategy_version": "Version of the strategy's own code.",
            "candle_digests": "JSON object: SHA-256 of the candles, by symbol.",
            "funding_digests": "JSON object: SHA-256 of the funding, by symbol.",
            "figures": "JSON object: name to `value` (text, null: undefined) and `reason`.",
            "statistics": "JSON object: deflated Sharpe ratio, probability of overfitting, bands and the like.",
            "check_verdict": "What the look-ahead check said of the strategy; null: it was not checked.",
            "notices": "JSON list of texts.",
            "durations_s": "JSON object: seconds by step.",
            "report": "Path of the HTML report.",
            "process": "Host, pid and start of the process that computes it; null once it ended.",
            "started_at": "Real time.",
            "completed_at": "Real time; null while it runs.",
        },
    ),
    "backtest_trades": (
        "A trade of a run, from the fill that opened a position to the one that closed the last of it.",
        {
            "run_id": _BACKTEST,
            "number": "Counts from 1, in the order of the entries.",
            "symbol": _SYMBOL,
            "side": "`long` or `short`.",
            "opened_at": "Open time of the bar of the first entry.",
            "closed_at": "Open time of the bar of the last exit; null: still open.",
            "quantity": "In base currency; all that was entered.",
            "open_quantity": "What of it is still held.",
            "entry_price": "Average over the quantity.",
            "exit_price": "Average over the quantity; null: nothing was left yet.",
            "cost": "Notional of the entries.",
            "fees": "Of all its fills.",
            "funding": "Received less paid over its life.",
            "pnl": "After fees and funding; null while open.",
            "return_share": "Of the cost; null while open.",
            "entry_order": "Id of the order that opened it.",
            "entry_reason": "The strategy's words.",
            "exit_legs": "JSON list: the legs it left by.",
            "exit_reasons": "JSON list, parallel to the legs.",
            "fill_ids": "JSON list of the fills it is made of.",
        },
    ),
    "backtest_fills": (
        "One execution of a run; columns as in `fills`.",
        {
            "run_id": _BACKTEST,
            "sequence": "Number of the engine's event; increases through the run.",
            "symbol": _SYMBOL,
            "leg": "As in `orders`.",
            "side": "`buy` or `sell`.",
            "bar_opened_at": "Open time of the bar it happened in.",
            "phase": "`open`: at the bar's open; `intrabar`: at a stop's or target's price.",
            "reference_price": "Price before slippage.",
            "price": "Price paid or received.",
            "quantity": "In base currency.",
            "notional": "Price times quantity, in quote currency.",
            "fee": "In quote currency.",
            "realized_pnl": "Of an exit, after both fees; null for an entry.",
            "reason": "In words.",
        },
    ),
    "backtest_equity": (
        "What a run's account was worth; at each bar's close, or at as many as the run keeps.",
        {
            "run_id": _BACKTEST,
            "at": "Close time of the bar. A keyword of DuckDB: quote it.",
            "equity": "Cash plus position value.",
            "cash": "Quote currency at hand.",
            "position_value": "Open positions at this close.",
            "drawdown_share": "Loss since the highest equity so far, as a share of it (0 to 1).",
            "open_positions": "Number of open positions.",
            "benchmark": "What buying and holding would have been worth; null: not computed.",
        },
    ),
    "backtest_sets": (
        "One parameter set of a sweep or a search, as its chunk was done.",
        {
            "run_id": _BACKTEST,
            "number": "Its place in the grid, or the number of the trial.",
            "parameters": "JSON object: the parameters that vary.",
            "objective": "Value of the run's objective; null: undefined.",
            "figures": "JSON object, as in `backtests`.",
            "chunk": "Number of the chunk that computed it.",
        },
    ),
    "backtest_windows": (
        "One window of a walk-forward: what training chose, and how it did on what it had not seen.",
        {
            "run_id": _BACKTEST,
            "number": "Counts in the order of time.",
            "train_start": "Open time of the first bar that chooses.",
            "train_end": "End of the choosing.",
            "test_start": "Open time of the first bar that counts.",
            "test_end": "End of the counting.",
            "parameters": "JSON object: the chosen ones.",
            "in_sample": "JSON object: figures of the choice over the train window.",
            "out_of_sample": "JSON object: figures of the choice over the test window.",
        },
    ),
    "strategy_checks": (
        "What the look-ahead check said of a strategy. Another check of the same replaces it.",
        {
            "strategy": "Name or import path.",
            "parameters": "JSON object: all parameters, by name.",
            "code_version": "Version of the code that was checked.",
            "strategy_version": "Version of the strategy's own code.",
            "market": "Market whose candles it was checked on.",
            "timeframe": "Length of their bars.",
            "verdict": "What it said.",
            "document": "JSON object: the findings.",
            "checked_at": "Real time.",
        },
    ),
    **SESSION_DESCRIPTIONS,
    **DATA_DESCRIPTIONS,
    "schema_migrations": (
        "Which migrations were applied (candlewick/store/migrations.py).",
        {"version": "Counts from 1.", "name": "Name of the migration.", "applied_at": "Real time."},
    ),
}

_HEAD = """# The ledger's schema

Written by `python -m candlewick.store.reference > docs/ledger.md`; do not edit by hand.

One DuckDB file (`store.url`, by default `data/ledger.duckdb`). One name for one quantity in every table. Amounts are
`DECIMAL(38,18)`: prices, notionals, fees and cash in quote currency, quantities in base currency. Times are in UTC.
Columns marked *bookkeeping* say when and by which run a row was written; they are the only ones in which two ledgers of
equal inputs may differ.

Rows of accounts are only ever added: the same id with the same content is a no-op, with other content it is refused.
Exceptions are stated at the tables. One cycle is one transaction; before it commits, these must hold for its account, or
nothing is written:

- The postings of every transaction sum to zero per asset.
- Cash posted = cash of the checkpoint = cash of the last equity row and the fills after it. It is never negative.
- Base currency posted = quantity of the positions.
- Equity = cash + position value in every equity row.
- No order without its signal, no fill without its order, no more filled than ordered.
- The watermark never moves back; sequence numbers are used once and increase.

A tick of a monitored session is one transaction as well: the cycles of all its accounts, what was done to their signals
(`interventions`), what the outside will be told (`outbox`), and the session's own rows. Beside the above it must hold that an
intervention is of a bar which its account's cycle processes, that the numbers of the outbox have no hole, and that a command
(`controls`) is taken once. A candle, its signal, the order and its fills share one `correlation_id`.

Runs of the backtesting flows are whole as well: a run's end and all its rows are one transaction, and so is each chunk of sets.
They may be deleted; nothing of an account refers to them. So may all of `data_chunks`, `data_runs` and `data_series`: the lake
knows itself what of it was asked for.

When a process dies inside a transaction, nothing of it is there. When it dies after COMMIT, all of it is: DuckDB's
write-ahead log (`ledger.duckdb.wal`) is replayed by the next open. Beside the ledger stand `ledger.duckdb.lock`,
`ledger.duckdb.lock.queue/` (the queue before the file) and `ledger.duckdb.locks/` (one cycle per account). The kernel frees
the locks of dead processes; these files may stay, and may be deleted while nothing runs.
"""


def ledger_reference() -> str:
    """The page: every table with its columns, types and keys as the migrations create them, and their descriptions."""
    with tempfile.TemporaryDirectory() as folder:
        parts = [_HEAD]
        with Database(str(Path(folder) / "ledger.duckdb")).write() as connection:
            for table, (meaning, columns) in DESCRIPTIONS.items():
                order = (
                    f" Read in the order of {', '.join(f'`{name}`' for name in TABLES[table].order)}." if table in TABLES else ""
                )
                parts.append(f"\n## {table}\n\n{meaning}{order}\n\n| column | type | |\n|---|---|---|\n")
                for name, kind, nullable, key, *_ in connection.execute(f"DESCRIBE {table}").fetchall():
                    marks = f"{kind}{', key' if key == 'PRI' else ''}{', may be null' if nullable == 'YES' else ''}"
                    parts.append(f"| `{name}` | {_shown(marks)} | {columns[name]} |\n")
    return "".join(parts)


def _shown(marks: str) -> str:
    return marks.replace("TIMESTAMP WITH TIME ZONE", "TIMESTAMPTZ")


if __name__ == "__main__":
    print(ledger_reference(), end="")
