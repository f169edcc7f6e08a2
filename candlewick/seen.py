"""What an account has seen of each symbol, as its checkpoint's `seen` keeps it: the last bar, and the open it acted on early."""

from collections.abc import Mapping

SeenDocument = Mapping[str, Mapping[str, int | float | None]]


def seen_document(last_bars: Mapping[str, int | None], opens: Mapping[str, float]) -> SeenDocument:
    """JSON-ready, by symbol. ``last_bars``: open times in ms; ``opens`` of a bar that is not closed, where one was acted on."""
    return {symbol: {"last_bar_ms": last, "forming_open": opens.get(symbol)} for symbol, last in last_bars.items()}


def forming_opens(seen: SeenDocument) -> dict[str, float]:
    """The opens in ``seen_document``, by symbol."""
    opens = {symbol: found.get("forming_open") for symbol, found in seen.items()}
    return {symbol: price for symbol, price in opens.items() if price is not None}
