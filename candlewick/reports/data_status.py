"""What the lake has, for people: rows that fit a terminal, a line of totals, and what to do next."""

from collections.abc import Sequence

from candlewick.json_text import Json, plain
from candlewick.market_data.status import SeriesStatus
from candlewick.reports.numbers import format_count
from candlewick.timeframes import MINUTE_MS, format_duration

STATUS_COLUMNS = {
    "series": "Series", "span": "From to", "rows": "Rows", "gaps": "Missing bars", "lacking": "Not downloaded",
    "age": "Freshness", "synced": "Last sync", "validated": "Last validation", "findings": "Open findings", "size": "Size",
}  # fmt: skip
_UNITS = ("B", "kB", "MB", "GB", "TB")


def status_row(one: SeriesStatus) -> dict[str, object]:
    """One series by the keys of STATUS_COLUMNS."""
    ends = (
        None if one.first_at is None or one.last_at is None else f"{one.first_at:%Y-%m-%d %H:%M} to {one.last_at:%Y-%m-%d %H:%M}"
    )
    explained = f" ({one.explained_bars:,} explained)" if one.missing_bars else ""
    verdict = "" if one.verdict is None else f": {one.verdict}"
    validated = "never" if one.last_validated_at is None else f"{one.last_validated_at:%Y-%m-%d %H:%M}{verdict}"
    return {
        "series": " ".join(filter(None, (one.market, one.symbol, one.timeframe, "" if one.kind == "ohlcv" else one.kind))),
        "span": one.problem or ends or ("no rows" if one.is_started else "not started"),
        "rows": one.rows,
        "gaps": f"{one.missing_bars:,}{explained}",
        "lacking": f"{length_text(one.hole_ms)} in {one.holes}" if one.holes else "–",
        "age": " ".join(filter(None, (one.freshness or "", "" if one.age_ms is None else length_text(one.age_ms)))) or "–",
        "synced": "never" if one.last_synced_at is None else f"{one.last_synced_at:%Y-%m-%d %H:%M}",
        "validated": validated,
        "findings": findings_text(one.open_errors, one.open_warnings, one.open_infos),
        "size": size_text(one.bytes + one.bronze_bytes),
    }


def totals_line(series: Sequence[SeriesStatus]) -> str:
    """All series in one line."""
    states = {name: sum(one.freshness == name for one in series) for name in ("fresh", "late", "stale")}
    states["not started"] = sum(not one.is_started for one in series)
    states["damaged"] = sum(one.problem is not None for one in series)
    counted = ", ".join(f"{count} {name}" for name, count in states.items() if count)
    missing, explained = (sum(getattr(one, name) for one in series) for name in ("missing_bars", "explained_bars"))
    errors, warnings, infos = (sum(getattr(one, f"open_{name}") for one in series) for name in ("errors", "warnings", "infos"))
    parts = [
        f"{len(series):,} series" + (f" ({counted})" if counted else ""),
        format_count(sum(one.rows for one in series), "row"),
        f"{missing:,} missing bars, {missing - explained:,} of them unexplained" if missing else "no missing bar",
        f"open findings: {findings_text(errors, warnings, infos)}",
        f"{size_text(sum(one.bytes for one in series))} silver, {size_text(sum(one.bronze_bytes for one in series))} bronze",
    ]
    return "; ".join(parts)


def next_steps(series: Sequence[SeriesStatus]) -> tuple[str, ...]:
    """What there is to do, as commands."""
    command = "python -m flows.market_data"
    behind = [one for one in series if one.datasets and (not one.is_started or one.freshness == "stale" or one.holes)]
    aged = [one for one in series if not one.datasets and one.freshness == "stale"]
    gaps = [one for one in series if one.open_errors or one.missing_bars > one.explained_bars or one.problem is not None]
    unchecked = [one for one in series if one.kind == "ohlcv" and one.rows and one.last_validated_at is None]
    steps = []
    if behind:
        steps.append(f"`{command} sync` fetches what {len(behind):,} declared series lack")
    if aged:
        steps.append(f"`{command} sync --known` brings {len(aged):,} series up to date that no dataset declares")
    if gaps:
        steps.append(f"`{command} repair` looks after gaps, errors and damaged files of {len(gaps):,} series")
    if unchecked:
        steps.append(f"`{command} validate` checks {len(unchecked):,} series for the first time")
    return tuple(steps)


def status_document(series: Sequence[SeriesStatus]) -> Json:
    """Everything as JSON."""
    return plain({"series": list(series), "totals": totals_line(series), "next": list(next_steps(series))})


def findings_text(errors: int, warnings: int, infos: int) -> str:
    """How many findings are open, the worst first.

    >>> findings_text(1, 0, 12)
    '1 error, 12 infos'
    """
    counts = ((errors, "error"), (warnings, "warning"), (infos, "info"))
    return ", ".join(format_count(count, noun) for count, noun in counts if count) or "none"


def length_text(length_ms: int) -> str:
    """A length of time in its two largest units: `3d 4h`, `5h 20m`, `7m`."""
    return " ".join(format_duration(length_ms // MINUTE_MS * MINUTE_MS).split(" ")[:2])


def size_text(size: int) -> str:
    """Bytes, three digits.

    >>> size_text(999), size_text(12_345_678)
    ('999 B', '12.3 MB')
    """
    amount, unit = float(size), 0
    while amount >= 999.5 and unit < len(_UNITS) - 1:
        amount, unit = amount / 1000, unit + 1
    return f"{amount:.3g} {_UNITS[unit]}"
