"""The ledger's schema as named, ordered migrations. Each runs in one transaction together with its record.

One name for one quantity in every table. Amounts are DECIMAL(38,18): prices, notionals, fees and cash in quote currency,
quantities in base currency. `*_at` columns are times in UTC. `run_id`, `posted_at`, `recorded_at` are bookkeeping: they
say when and by which run a row was written, and are the only columns in which two ledgers of equal inputs may differ.
"""

from dataclasses import dataclass

AMOUNT = "DECIMAL(38,18)"


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of the schema. ``version`` counts from 1 without holes; ``statements`` run in order."""

    version: int
    name: str
    statements: tuple[str, ...]


_FIRST = (
    f"""CREATE TABLE accounts (
        account VARCHAR PRIMARY KEY, market VARCHAR NOT NULL, timeframe VARCHAR NOT NULL, symbols JSON NOT NULL,
        quote VARCHAR NOT NULL, initial_cash {AMOUNT} NOT NULL, anchor_at TIMESTAMPTZ NOT NULL,
        recorded_at TIMESTAMPTZ NOT NULL)""",
    # What the account trades by, in versions: a version acts from the first bar that opens at or after `effective_from`.
    """CREATE TABLE terms (
        account VARCHAR NOT NULL, version INTEGER NOT NULL, effective_from TIMESTAMPTZ NOT NULL,
        strategy VARCHAR NOT NULL, parameters JSON NOT NULL, rules JSON NOT NULL, instruments JSON NOT NULL,
        lifts_halt BOOLEAN NOT NULL,
        run_id VARCHAR NOT NULL, recorded_at TIMESTAMPTZ NOT NULL, PRIMARY KEY (account, version))""",
    """CREATE TABLE runs (
        run_id VARCHAR PRIMARY KEY, account VARCHAR NOT NULL, flow_run_id VARCHAR, correlation_id VARCHAR NOT NULL,
        status VARCHAR NOT NULL, error VARCHAR, started_at TIMESTAMPTZ NOT NULL, completed_at TIMESTAMPTZ NOT NULL,
        watermark_before TIMESTAMPTZ, watermark_at TIMESTAMPTZ, bars BIGINT NOT NULL, code_version VARCHAR NOT NULL,
        candle_digests JSON NOT NULL, durations_s JSON NOT NULL, notices JSON NOT NULL)""",
    f"""CREATE TABLE signals (
        signal_id VARCHAR PRIMARY KEY, account VARCHAR NOT NULL, symbol VARCHAR NOT NULL, bar_opened_at TIMESTAMPTZ NOT NULL,
        decided_at TIMESTAMPTZ NOT NULL, action VARCHAR NOT NULL, entry {AMOUNT}, stop_loss {AMOUNT}, take_profit_1 {AMOUNT},
        take_profit_2 {AMOUNT}, target_weight {AMOUNT}, reason VARCHAR, outcome VARCHAR NOT NULL, run_id VARCHAR NOT NULL)""",
    f"""CREATE TABLE orders (
        client_order_id VARCHAR PRIMARY KEY, account VARCHAR NOT NULL, symbol VARCHAR NOT NULL, signal_id VARCHAR NOT NULL,
        sequence BIGINT NOT NULL, leg VARCHAR NOT NULL, side VARCHAR NOT NULL, kind VARCHAR NOT NULL,
        decided_at TIMESTAMPTZ NOT NULL,
        budget {AMOUNT}, quantity {AMOUNT}, price {AMOUNT}, status VARCHAR NOT NULL, closed_at TIMESTAMPTZ,
        rule VARCHAR, rule_limit {AMOUNT}, rule_value {AMOUNT}, reason VARCHAR, run_id VARCHAR NOT NULL)""",
    f"""CREATE TABLE fills (
        fill_id VARCHAR PRIMARY KEY, account VARCHAR NOT NULL, symbol VARCHAR NOT NULL, client_order_id VARCHAR NOT NULL,
        sequence BIGINT NOT NULL, leg VARCHAR NOT NULL, side VARCHAR NOT NULL, bar_opened_at TIMESTAMPTZ NOT NULL,
        phase VARCHAR NOT NULL,
        reference_price {AMOUNT} NOT NULL, price {AMOUNT} NOT NULL, quantity {AMOUNT} NOT NULL, notional {AMOUNT} NOT NULL,
        fee {AMOUNT} NOT NULL, realized_pnl {AMOUNT}, reason VARCHAR NOT NULL, run_id VARCHAR NOT NULL,
        posted_at TIMESTAMPTZ NOT NULL)""",
    f"""CREATE TABLE postings (
        posting_id VARCHAR PRIMARY KEY, account VARCHAR NOT NULL, transaction_id VARCHAR NOT NULL,
        ledger_account VARCHAR NOT NULL,
        asset VARCHAR NOT NULL, amount {AMOUNT} NOT NULL, market_at TIMESTAMPTZ NOT NULL, run_id VARCHAR NOT NULL,
        posted_at TIMESTAMPTZ NOT NULL)""",
    f"""CREATE TABLE positions (
        account VARCHAR NOT NULL, symbol VARCHAR NOT NULL, quantity {AMOUNT} NOT NULL, entry_price {AMOUNT} NOT NULL,
        cost {AMOUNT} NOT NULL, stop_loss {AMOUNT}, take_profit_1 {AMOUNT}, take_profit_2 {AMOUNT}, last_price {AMOUNT} NOT NULL,
        opened_at TIMESTAMPTZ NOT NULL, PRIMARY KEY (account, symbol))""",
    f"""CREATE TABLE equity (
        account VARCHAR NOT NULL, "at" TIMESTAMPTZ NOT NULL, equity {AMOUNT} NOT NULL, cash {AMOUNT} NOT NULL,
        position_value {AMOUNT} NOT NULL, drawdown_share {AMOUNT} NOT NULL, open_positions INTEGER NOT NULL,
        PRIMARY KEY (account, "at"))""",
    """CREATE TABLE events (
        account VARCHAR NOT NULL, sequence BIGINT NOT NULL, "at" TIMESTAMPTZ NOT NULL, kind VARCHAR NOT NULL, symbol VARCHAR,
        document JSON NOT NULL, run_id VARCHAR NOT NULL, recorded_at TIMESTAMPTZ NOT NULL, PRIMARY KEY (account, sequence))""",
    # The engine's state after the last committed cycle. `version` counts commits: a cycle that loaded another one is stale.
    """CREATE TABLE checkpoints (
        account VARCHAR PRIMARY KEY, version BIGINT NOT NULL, watermark_at TIMESTAMPTZ, seen JSON NOT NULL, state JSON NOT NULL,
        candle_digests JSON NOT NULL, run_id VARCHAR NOT NULL, recorded_at TIMESTAMPTZ NOT NULL)""",
    """CREATE TABLE quality (
        finding_id VARCHAR PRIMARY KEY, market VARCHAR NOT NULL, symbol VARCHAR NOT NULL, timeframe VARCHAR NOT NULL,
        kind VARCHAR NOT NULL,
        severity VARCHAR NOT NULL, span_start TIMESTAMPTZ NOT NULL, span_end TIMESTAMPTZ NOT NULL, evidence VARCHAR NOT NULL,
        state VARCHAR NOT NULL, recorded_at TIMESTAMPTZ NOT NULL)""",
)

# What the engine needs for partial fills, expiring orders, shorts on margin and trailing stops. Rows that were there before
# come from an engine that filled an order at once and was long only. Null in new rows where the engine does not say.
_FULL_ENGINE = (
    f"ALTER TABLE orders ADD COLUMN filled_quantity {AMOUNT}",
    "ALTER TABLE orders ADD COLUMN fills INTEGER",
    "ALTER TABLE orders ADD COLUMN expires_at TIMESTAMPTZ",
    """UPDATE orders SET filled_quantity = CASE WHEN status = 'filled' THEN quantity ELSE 0 END,
        fills = CASE WHEN status = 'filled' THEN 1 ELSE 0 END""",
    "ALTER TABLE fills ADD COLUMN position_side VARCHAR",
    "UPDATE fills SET position_side = 'long'",
    "ALTER TABLE positions ADD COLUMN side VARCHAR",
    f"ALTER TABLE positions ADD COLUMN margin {AMOUNT}",
    f"ALTER TABLE positions ADD COLUMN liquidation_price {AMOUNT}",
    f"ALTER TABLE positions ADD COLUMN trailing_stop {AMOUNT}",
    "UPDATE positions SET side = 'long'",
)

# Runs of the backtesting flows, beside the accounts. `process` is who computes the run (candlewick/store/processes.py).
_BACKTESTS = (
    f"""CREATE TABLE backtests (
        run_id VARCHAR PRIMARY KEY, kind VARCHAR NOT NULL, parent_run_id VARCHAR, flow_run_id VARCHAR,
        correlation_id VARCHAR NOT NULL, status VARCHAR NOT NULL, error VARCHAR,
        market VARCHAR NOT NULL, timeframe VARCHAR NOT NULL, detail_timeframe VARCHAR, symbols JSON NOT NULL,
        quote VARCHAR NOT NULL, strategy VARCHAR NOT NULL, parameters JSON NOT NULL, grid JSON, rules JSON NOT NULL,
        instruments JSON NOT NULL, initial_cash {AMOUNT} NOT NULL, since_at TIMESTAMPTZ, until_at TIMESTAMPTZ,
        objective VARCHAR, bars BIGINT, sets BIGINT, sets_done BIGINT NOT NULL,
        code_version VARCHAR NOT NULL, strategy_version VARCHAR, candle_digests JSON NOT NULL, funding_digests JSON NOT NULL,
        figures JSON NOT NULL, statistics JSON NOT NULL, check_verdict VARCHAR, notices JSON NOT NULL, durations_s JSON NOT NULL,
        report VARCHAR, process VARCHAR, started_at TIMESTAMPTZ NOT NULL, completed_at TIMESTAMPTZ)""",
    f"""CREATE TABLE backtest_trades (
        run_id VARCHAR NOT NULL, number BIGINT NOT NULL, symbol VARCHAR NOT NULL, side VARCHAR NOT NULL,
        opened_at TIMESTAMPTZ NOT NULL, closed_at TIMESTAMPTZ, quantity {AMOUNT} NOT NULL, open_quantity {AMOUNT} NOT NULL,
        entry_price {AMOUNT} NOT NULL, exit_price {AMOUNT}, cost {AMOUNT} NOT NULL, fees {AMOUNT} NOT NULL,
        funding {AMOUNT} NOT NULL, pnl {AMOUNT}, return_share {AMOUNT}, entry_order VARCHAR, entry_reason VARCHAR,
        exit_legs JSON, exit_reasons JSON, fill_ids JSON, PRIMARY KEY (run_id, number))""",
    f"""CREATE TABLE backtest_fills (
        run_id VARCHAR NOT NULL, sequence BIGINT NOT NULL, symbol VARCHAR NOT NULL, leg VARCHAR NOT NULL, side VARCHAR NOT NULL,
        bar_opened_at TIMESTAMPTZ NOT NULL, phase VARCHAR NOT NULL, reference_price {AMOUNT} NOT NULL, price {AMOUNT} NOT NULL,
        quantity {AMOUNT} NOT NULL, notional {AMOUNT} NOT NULL, fee {AMOUNT} NOT NULL, realized_pnl {AMOUNT}, reason VARCHAR,
        PRIMARY KEY (run_id, sequence))""",
    f"""CREATE TABLE backtest_equity (
        run_id VARCHAR NOT NULL, "at" TIMESTAMPTZ NOT NULL, equity {AMOUNT} NOT NULL, cash {AMOUNT} NOT NULL,
        position_value {AMOUNT} NOT NULL, drawdown_share {AMOUNT} NOT NULL, open_positions INTEGER NOT NULL,
        benchmark {AMOUNT}, PRIMARY KEY (run_id, "at"))""",
    """CREATE TABLE backtest_sets (
        run_id VARCHAR NOT NULL, number BIGINT NOT NULL, parameters JSON NOT NULL, objective DOUBLE, figures JSON NOT NULL,
        chunk INTEGER, PRIMARY KEY (run_id, number))""",
    """CREATE TABLE backtest_windows (
        run_id VARCHAR NOT NULL, number BIGINT NOT NULL, train_start TIMESTAMPTZ NOT NULL, train_end TIMESTAMPTZ NOT NULL,
        test_start TIMESTAMPTZ NOT NULL, test_end TIMESTAMPTZ NOT NULL, parameters JSON NOT NULL, in_sample JSON NOT NULL,
        out_of_sample JSON NOT NULL, PRIMARY KEY (run_id, number))""",
    # `strategy_version` is part of the key: a user's own strategy may change while Candlewick's code does not.
    """CREATE TABLE strategy_checks (
        strategy VARCHAR NOT NULL, parameters JSON NOT NULL, code_version VARCHAR NOT NULL, strategy_version VARCHAR NOT NULL,
        market VARCHAR NOT NULL, timeframe VARCHAR NOT NULL, verdict VARCHAR NOT NULL, document JSON NOT NULL,
        checked_at TIMESTAMPTZ NOT NULL, PRIMARY KEY (strategy, parameters, code_version, strategy_version))""",
)

# What is downloaded, by whom, and how good it is. What was told of a finding before gets one of three states: a bar in which
# nothing traded explains itself, what was repaired stays so, and all else waits for somebody to look at it.
_MARKET_DATA = (
    "ALTER TABLE quality ADD COLUMN explanation VARCHAR",
    "ALTER TABLE quality ADD COLUMN settled_at TIMESTAMPTZ",
    """UPDATE quality SET state = CASE WHEN state = 'repaired' THEN 'repaired' WHEN kind = 'zero_volume' THEN 'explained'
        ELSE 'open' END""",
    """CREATE TABLE data_chunks (
        market VARCHAR NOT NULL, symbol VARCHAR NOT NULL, timeframe VARCHAR NOT NULL, since_at TIMESTAMPTZ NOT NULL,
        until_at TIMESTAMPTZ NOT NULL, "rows" BIGINT NOT NULL, pages BIGINT NOT NULL, first_at TIMESTAMPTZ, last_at TIMESTAMPTZ,
        digest VARCHAR NOT NULL, bytes BIGINT NOT NULL, requested_s DOUBLE NOT NULL, waited_s DOUBLE NOT NULL,
        fetched_at TIMESTAMPTZ NOT NULL, run_id VARCHAR NOT NULL,
        PRIMARY KEY (market, symbol, timeframe, since_at, until_at))""",
    """CREATE TABLE data_runs (
        run_id VARCHAR PRIMARY KEY, kind VARCHAR NOT NULL, market VARCHAR, series BIGINT NOT NULL, since_at TIMESTAMPTZ,
        until_at TIMESTAMPTZ, rows_added BIGINT NOT NULL, findings BIGINT NOT NULL, status VARCHAR NOT NULL, error VARCHAR,
        flow_run_id VARCHAR, code_version VARCHAR NOT NULL, process VARCHAR, started_at TIMESTAMPTZ NOT NULL,
        completed_at TIMESTAMPTZ)""",
    """CREATE TABLE data_series (
        market VARCHAR NOT NULL, symbol VARCHAR NOT NULL, timeframe VARCHAR NOT NULL, last_synced_at TIMESTAMPTZ,
        last_validated_at TIMESTAMPTZ, verdict VARCHAR, PRIMARY KEY (market, symbol, timeframe))""",
)

# Sessions that watch many symbols: who runs, what was asked of them, what they told the outside, and what they did to signals.
# One id joins what follows from one bar (candlewick/monitoring/events.py, `bar_id`); rows that were there before get it, too.
_SESSIONS = (
    "ALTER TABLE signals ADD COLUMN correlation_id VARCHAR",
    "ALTER TABLE orders ADD COLUMN correlation_id VARCHAR",
    "ALTER TABLE fills ADD COLUMN correlation_id VARCHAR",
    """UPDATE signals SET correlation_id = market || ':' || symbol || ':' || timeframe || ':'
            || strftime(bar_opened_at, '%Y-%m-%dT%H:%MZ')
        FROM accounts WHERE accounts.account = signals.account""",
    "UPDATE orders SET correlation_id = signals.correlation_id FROM signals WHERE signals.signal_id = orders.signal_id",
    """UPDATE fills SET correlation_id = orders.correlation_id FROM orders
        WHERE orders.client_order_id = fills.client_order_id""",
    """CREATE TABLE sessions (
        session_id VARCHAR PRIMARY KEY, name VARCHAR NOT NULL, market VARCHAR NOT NULL, timeframe VARCHAR NOT NULL,
        state VARCHAR NOT NULL, process VARCHAR NOT NULL, flow_run_id VARCHAR, started_at TIMESTAMPTZ NOT NULL,
        ends_at TIMESTAMPTZ NOT NULL, heartbeat_at TIMESTAMPTZ NOT NULL, ended_at TIMESTAMPTZ, reason VARCHAR,
        document JSON NOT NULL)""",
    """CREATE TABLE transitions (
        session_id VARCHAR NOT NULL, sequence BIGINT NOT NULL, subject VARCHAR NOT NULL, symbol VARCHAR, stage VARCHAR,
        "before" VARCHAR NOT NULL, "after" VARCHAR NOT NULL, reason VARCHAR NOT NULL, actor VARCHAR NOT NULL,
        "at" TIMESTAMPTZ NOT NULL, PRIMARY KEY (session_id, sequence))""",
    """CREATE TABLE controls (
        control_id VARCHAR PRIMARY KEY, name VARCHAR NOT NULL, command VARCHAR NOT NULL, symbol VARCHAR, argument VARCHAR,
        reason VARCHAR, requested_by VARCHAR NOT NULL, requested_at TIMESTAMPTZ NOT NULL, session_id VARCHAR,
        applied_at TIMESTAMPTZ, outcome VARCHAR)""",
    """CREATE TABLE outbox (
        event_id VARCHAR PRIMARY KEY, name VARCHAR NOT NULL, sequence BIGINT NOT NULL, kind VARCHAR NOT NULL, account VARCHAR,
        symbol VARCHAR, "at" TIMESTAMPTZ NOT NULL, correlation_id VARCHAR NOT NULL, causation_id VARCHAR,
        session_id VARCHAR NOT NULL, document JSON NOT NULL, redis_at TIMESTAMPTZ, prefect_at TIMESTAMPTZ,
        UNIQUE (name, sequence))""",
    """CREATE TABLE alerts (
        alert_id VARCHAR PRIMARY KEY, name VARCHAR NOT NULL, session_id VARCHAR, severity VARCHAR NOT NULL,
        title VARCHAR NOT NULL, body VARCHAR NOT NULL, "key" VARCHAR NOT NULL, raised_at TIMESTAMPTZ NOT NULL,
        state VARCHAR NOT NULL, sent_at TIMESTAMPTZ, repeats BIGINT NOT NULL, error VARCHAR)""",
    """CREATE TABLE interventions (
        account VARCHAR NOT NULL, symbol VARCHAR NOT NULL, opened_at TIMESTAMPTZ NOT NULL, action VARCHAR NOT NULL,
        replacement VARCHAR NOT NULL, rule VARCHAR NOT NULL, rule_limit VARCHAR, rule_value VARCHAR, reason VARCHAR NOT NULL,
        session_id VARCHAR NOT NULL, correlation_id VARCHAR NOT NULL, run_id VARCHAR NOT NULL, recorded_at TIMESTAMPTZ NOT NULL,
        PRIMARY KEY (account, symbol, opened_at))""",
    """CREATE TABLE desk_risk (
        name VARCHAR PRIMARY KEY, document JSON NOT NULL, updated_at TIMESTAMPTZ NOT NULL)""",
    # Bars that accounts have acted on and the lake does not have yet.
    """CREATE TABLE pending_candles (
        market VARCHAR NOT NULL, symbol VARCHAR NOT NULL, timeframe VARCHAR NOT NULL, opened_at TIMESTAMPTZ NOT NULL,
        open DOUBLE NOT NULL, high DOUBLE NOT NULL, low DOUBLE NOT NULL, "close" DOUBLE NOT NULL, volume DOUBLE NOT NULL,
        PRIMARY KEY (market, symbol, timeframe, opened_at))""",
)

MIGRATIONS: tuple[Migration, ...] = (
    Migration(1, "first ledger", _FIRST),
    Migration(2, "partial fills, shorts and expiry", _FULL_ENGINE),
    Migration(3, "backtests", _BACKTESTS),
    Migration(4, "market data", _MARKET_DATA),
    Migration(5, "monitored sessions", _SESSIONS),
)
