"""What the tables and columns of monitored sessions mean; candlewick/store/reference.py makes the page of them."""

from collections.abc import Mapping

_DESK = "Name of the desk (`--account`); sessions of one name follow one another."
_SYMBOL = "As ccxt writes it: `BTC/USDT`."
_SESSION = "The session of `sessions` that wrote it."
_STORY = "Id of the bar whose close it follows from: `binance:BTC/USDT:1m:2026-01-31T12:30Z`."

# Table -> what a row is, and column -> what it holds.
SESSION_DESCRIPTIONS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "interventions": (
        "What a session did to a strategy's signal before the engine saw it. Written with the bar it belongs to; an audit, a "
        "replay and a backtest of the account apply it at the same bar.",
        {
            "account": "Name of the account.",
            "symbol": _SYMBOL,
            "opened_at": "Open time of the bar whose signal was replaced.",
            "action": "What the strategy had decided.",
            "replacement": "What counts: `HOLD` or `EXIT`.",
            "rule": "Who was against it: `cooldown`, `regime`, `paused`, `kill_switch`, ...",
            "rule_limit": "The rule's limit, in the rule's unit; null: it has none.",
            "rule_value": "The value that broke it; null: there is none.",
            "reason": "In words.",
            "session_id": _SESSION,
            "correlation_id": _STORY,
            "run_id": "Run of the cycle that it was written with (bookkeeping).",
            "recorded_at": "Real time of the writing (bookkeeping).",
        },
    ),
    "sessions": (
        "One run of `monitor`. Changed at every heartbeat and as it ends.",
        {
            "session_id": "Unique for every session.",
            "name": _DESK,
            "market": "The market whose bars it watches.",
            "timeframe": "Length of their bars.",
            "state": "`STARTING`, `RUNNING`, `PAUSED`, `STOPPING`, `STOPPED` or `ERROR`; of a dead process the last it wrote.",
            "process": "Host, pid and start of its process.",
            "flow_run_id": "Prefect's id of the flow run; null outside Prefect.",
            "started_at": "Real time.",
            "ends_at": "Real time at which it hands over.",
            "heartbeat_at": "Real time of the last sign of life.",
            "ended_at": "Real time of its end; null: it runs, or its process died.",
            "reason": "Why it ended; null while it runs.",
            "document": "JSON object: the status as of `heartbeat_at` (candlewick/monitoring/status.py).",
        },
    ),
    "transitions": (
        "One move of a state machine of a session, a symbol or a stage.",
        {
            "session_id": "The session it belongs to.",
            "sequence": "Counts from 1 in the session.",
            "subject": "`session`, `symbol` or `stage`.",
            "symbol": "Null for the session.",
            "stage": "`data`, `indicators`, `strategy` or `execution`; null for others.",
            "before": "State it left.",
            "after": "State it came to.",
            "reason": "In words.",
            "actor": "Who moved it: a person, a rule, the supervisor.",
            "at": "Real time. A keyword of DuckDB: quote it.",
        },
    ),
    "controls": (
        "A command to a desk's session, left by `pause`, `resume`, `stop`, `restart`, `kill` or `lift`. Taken once.",
        {
            "control_id": "Unique for every command.",
            "name": _DESK,
            "command": "What is asked.",
            "symbol": "Null: all symbols.",
            "argument": "The rule of a `lift`; null for others.",
            "reason": "Why, in words; null: not said.",
            "requested_by": "Who asked.",
            "requested_at": "Real time.",
            "session_id": "The session that took it; null: none has yet.",
            "applied_at": "Real time of the taking; null: not yet.",
            "outcome": "What the session did with it; null: not yet.",
        },
    ),
    "outbox": (
        "What the outside is told, written with what happened and sent afterwards, at least once. Old ones that were sent are "
        "deleted; the last one of a desk stays.",
        {
            "event_id": "Function of what happened: readers drop repeats by it.",
            "name": _DESK,
            "sequence": "Counts from 1 in the desk, without holes.",
            "kind": "`order.placed`, `order.changed`, `fill`, `position.opened`, `stop.hit`, `risk.breached`, ...",
            "account": "Null: of no one account.",
            "symbol": "Null: of no one symbol.",
            "at": "Market time. A keyword of DuckDB: quote it.",
            "correlation_id": _STORY,
            "causation_id": "The event that led to it; null: none.",
            "session_id": _SESSION,
            "document": "JSON object: the event.",
            "redis_at": "Real time at which Redis had it; null: not yet, or there is no Redis (bookkeeping).",
            "prefect_at": "Real time at which Prefect had it; null: not yet (bookkeeping).",
        },
    ),
    "alerts": (
        "An alert, and what became of it.",
        {
            "alert_id": "Unique for every alert.",
            "name": _DESK,
            "session_id": "Null: no session raised it.",
            "severity": "`info`, `warning` or `critical`.",
            "title": "One line.",
            "body": "The text.",
            "key": "What repeats are told by.",
            "raised_at": "Real time.",
            "state": "`waiting`, `sent`, `failed`, `repeated` or `quiet`. May change.",
            "sent_at": "Real time; null: it was not sent.",
            "repeats": "How many of the same key were held back since.",
            "error": "Why it could not be sent; null: nothing failed.",
        },
    ),
    "desk_risk": (
        "What the global risk of a desk has to remember from one session to the next. Replaced.",
        {
            "name": _DESK,
            "document": "JSON object (candlewick/monitoring/risk_state.py).",
            "updated_at": "Real time.",
        },
    ),
    "pending_candles": (
        "A bar that accounts have acted on and the lake does not have yet. Deleted once it has.",
        {
            "market": "The lake's name of the source.",
            "symbol": _SYMBOL,
            "timeframe": "Length of the bar.",
            "opened_at": "Open time of the bar.",
            "open": "In quote currency.",
            "high": "In quote currency.",
            "low": "In quote currency.",
            "close": "In quote currency.",
            "volume": "In base currency.",
        },
    ),
}
