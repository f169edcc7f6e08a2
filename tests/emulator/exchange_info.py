"""The exchangeInfo body: the real subset where it is at hand, made-up entries for symbols that it lacks."""

import json
from pathlib import Path
from typing import Any

_QUOTES = ("USDT", "USDC", "BTC", "ETH")


def load_exchange_info(path: Path | None) -> dict[str, Any]:
    """The file's document or, without a file, an exchange with no symbols."""
    info: dict[str, Any] = {"timezone": "UTC", "serverTime": 0, "rateLimits": [], "exchangeFilters": [], "symbols": []}
    if path is not None and path.exists():
        info = json.loads(path.read_text(encoding="utf-8"))
    return info


def complete_exchange_info(info: dict[str, Any], symbols: tuple[str, ...]) -> dict[str, Any]:
    """The document with made-up entries for the symbols that it lacks."""
    known = {entry["symbol"] for entry in info["symbols"]}
    made_up = [symbol_entry(symbol) for symbol in symbols if symbol not in known]
    return info | {"symbols": info["symbols"] + made_up}


def symbol_entry(
    symbol: str, tick: str = "0.01000000", step: str = "0.00001000", min_notional: str = "5.00000000"
) -> dict[str, Any]:
    """One symbol as Binance describes it, with the filters that ccxt reads."""
    quote = next(quote for quote in _QUOTES if symbol.endswith(quote))
    return {
        "symbol": symbol,
        "status": "TRADING",
        "baseAsset": symbol.removesuffix(quote),
        "baseAssetPrecision": 8,
        "quoteAsset": quote,
        "quotePrecision": 8,
        "quoteAssetPrecision": 8,
        "baseCommissionPrecision": 8,
        "quoteCommissionPrecision": 8,
        "orderTypes": ["LIMIT", "LIMIT_MAKER", "MARKET"],
        "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": False,
        "filters": [
            {"filterType": "PRICE_FILTER", "minPrice": tick, "maxPrice": "1000000.00000000", "tickSize": tick},
            {"filterType": "LOT_SIZE", "minQty": step, "maxQty": "9000.00000000", "stepSize": step},
            {"filterType": "NOTIONAL", "minNotional": min_notional, "applyMinToMarket": True, "maxNotional": "9000000.00000000"},
        ],
        "permissions": [],
        "permissionSets": [["SPOT"]],
    }
