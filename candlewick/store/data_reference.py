"""What the tables and columns about market data mean; candlewick/store/reference.py makes the page of them."""

from collections.abc import Mapping

_SERIES = {
    "market": "The lake's name of the source.",
    "symbol": "As ccxt writes it: `BTC/USDT`.",
    "timeframe": "Length of a bar; of other data than candles its kind: `funding_rate`, `open_interest-1h`, `trades`.",
}

# Table -> what a row is, and column -> what it holds.
DATA_DESCRIPTIONS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "quality": (
        "A finding about market data: a gap, a bar that cannot be, a disagreement. States and what may become of them: "
        "[Market data](data.md).",
        {
            "finding_id": "Function of series, kind, span and evidence: the same finding is one row for ever.",
            **_SERIES,
            "kind": "What was found, such as `gap` or `duplicate`.",
            "severity": "`info`, `warning` or `error`.",
            "span_start": "First moment concerned.",
            "span_end": "End of the span: the close of the last bar concerned.",
            "evidence": "The values that show it.",
            "state": "`open`, `explained` or `repaired`. May change.",
            "recorded_at": "Real time of the writing (bookkeeping).",
            "explanation": "How it was settled, or why it is open again; null: nothing was said.",
            "settled_at": "Real time at which it was settled; null: it is open, or was recorded as it is (bookkeeping).",
        },
    ),
    "data_chunks": (
        "A finished chunk of a download, written when its rows were in the lake. Fetched again, it replaces its row.",
        {
            **_SERIES,
            "since_at": "First moment that was asked for.",
            "until_at": "End of what was asked for.",
            "rows": "Number of rows that came; 0: there was nothing, and that is known now.",
            "pages": "Number of answers.",
            "first_at": "Time of the first row; null: none came.",
            "last_at": "Time of the last row; null: none came.",
            "digest": "SHA-256 of the rows.",
            "bytes": "Size of the answers as received.",
            "requested_s": "Seconds spent waiting for answers.",
            "waited_s": "Seconds spent waiting for the right to ask.",
            "fetched_at": "Real time.",
            "run_id": "The run of `data_runs` that fetched it (bookkeeping).",
        },
    ),
    "data_runs": (
        "One run of a flow of market data. Written as it begins, changed as it ends.",
        {
            "run_id": "Unique for every run.",
            "kind": "`backfill`, `sync`, `validate`, `repair` or `import`.",
            "market": "The lake's name of the source; null: several.",
            "series": "Number of series it worked on.",
            "since_at": "First moment that was asked for; null: as each series needed.",
            "until_at": "End of what was asked for; null: as each series needed.",
            "rows_added": "Number of rows that are in the lake since.",
            "findings": "Number of findings recorded or settled.",
            "status": "`running`, `success`, `partial`, `failure` or `interrupted`, which a running one is whose process died.",
            "error": "What went wrong; null on success.",
            "flow_run_id": "Prefect's id of the flow run; null outside Prefect.",
            "code_version": "Version of the code.",
            "process": "Host, pid and start of the process that does it; null once it ended.",
            "started_at": "Real time.",
            "completed_at": "Real time; null while it runs.",
        },
    ),
    "data_series": (
        "What is known of a series as a whole.",
        {
            **_SERIES,
            "last_synced_at": "Real time at which it was last complete up to the newest closed bar; null: never.",
            "last_validated_at": "Real time of the last validation; null: never.",
            "verdict": "What the last validation said; null: there was none.",
        },
    ),
}
