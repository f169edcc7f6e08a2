"""What an account has acted on, as digests: its candles, and the funding of its perpetuals, up to the watermark."""

from collections.abc import Mapping

import polars as pl

from candlewick.account import Account
from candlewick.candles import candle_digest, opened_at_ms
from candlewick.errors import HistoryChanged
from candlewick.funding import funding_digest, within
from candlewick.timeframes import format_utc, timeframe_ms

Frames = Mapping[str, pl.DataFrame]
FUNDING_OF = "{symbol} funding"
"""Key of a perpetual's payments among the digests; a symbol alone is the key of its candles."""


def digests_until(account: Account, candles: Frames, funding: Frames, until_ms: int | None) -> dict[str, str]:
    """Content digests up to and including the bar at ``until_ms``: of each symbol's candles, and of each perpetual's payments.

    ``candles`` from the anchor on; ``funding`` in FUNDING_SCHEMA, by symbol. A payment due at the first candle's open is left
    out: nobody holds a position then.
    """
    digests = {symbol: candle_digest(candles_until(frame, until_ms)) for symbol, frame in candles.items()}
    for symbol, payments in funding.items():
        first_ms = int(opened_at_ms(candles[symbol])[0]) if candles[symbol].height else account.anchor_ms
        end_ms = first_ms if until_ms is None else until_ms + timeframe_ms(account.timeframe)
        digests[FUNDING_OF.format(symbol=symbol)] = funding_digest(within(payments, first_ms + 1, end_ms))
    return digests


def refuse_changed_history(
    account: Account, candles: Frames, funding: Frames, watermark_ms: int | None, known: Mapping[str, str]
) -> None:
    """Raises HistoryChanged when candles or payments that the account has acted on are not what they were."""
    if watermark_ms is None:
        return
    found = digests_until(account, candles, funding, watermark_ms)
    changed = [symbol for symbol in account.symbols if symbol in known and known[symbol] != found[symbol]]
    keys = {symbol: FUNDING_OF.format(symbol=symbol) for symbol in funding}
    unpaid = [symbol for symbol, key in keys.items() if key in known and known[key] != found[key]]
    if changed or unpaid:
        named = [f"{what} of {', '.join(symbols)}" for what, symbols in (("candles", changed), ("funding", unpaid)) if symbols]
        raise HistoryChanged(
            f"account {account.name}: the {' and the '.join(named)} up to {format_utc(watermark_ms)} UTC are not those "
            "it has traded on. Nothing was written. Restore them, or open a new account; "
            f"`python -m flows.accounts audit {account.name}` names the differences"
        )


def candles_until(candles: pl.DataFrame, until_ms: int | None) -> pl.DataFrame:
    """The candles up to and including the bar at ``until_ms``; none where that is None."""
    return candles.clear() if until_ms is None else candles.filter(pl.col("opened_at").dt.epoch("ms") <= until_ms)
