"""Rules: how an account sizes, what it may risk and what trading costs. Part of the terms an account is opened with."""

from dataclasses import asdict, dataclass, fields
from decimal import Decimal
from typing import Literal

Capital = Literal["equity", "initial", "equity_at_open"]
Direction = Literal["long", "short", "both"]
Sizing = Literal["equal_share", "fixed_notional", "risk", "inverse_volatility", "kelly", "target_weight"]


@dataclass(frozen=True, slots=True)
class Rules:
    """Shares are fractions of 1; None switches a limit off. The fill contract (docs/fill-contract.md) says how each acts.

    ``capital`` is what an entry's share is taken of: the account's equity at the decision, its initial cash, or (as some other
    engines do) its equity at the open that fills. ``direction`` says which sides are traded: in "long" SELL only closes, in
    "short" BUY only closes, in "both" each opens its side and, with ``reverse``, closes the other in the same open.
    ``max_entries`` entries add up to one position. ``fixed_notional`` is in quote currency; ``leverage`` is notional over margin.
    """

    slippage_bps: Decimal = Decimal(2)
    capital: Capital = "equity"
    max_open_positions: int = 10
    max_position_share: Decimal = Decimal(1)
    daily_loss_limit_share: Decimal | None = Decimal("0.05")
    max_drawdown_share: Decimal | None = Decimal("0.25")
    cooldown_bars: int = 1
    target_1_share: Decimal = Decimal("0.5")
    stop_to_entry_after_target_1: bool = True
    spread_bps: Decimal = Decimal(0)
    max_volume_share: Decimal | None = None
    direction: Direction = "long"
    reverse: bool = True
    max_entries: int = 1
    leverage: Decimal = Decimal(1)
    sizing: Sizing = "equal_share"
    fixed_notional: Decimal = Decimal(1000)
    risk_share: Decimal = Decimal("0.01")
    volatility_bars: int = 30
    kelly_multiple: Decimal = Decimal("0.5")
    kelly_cap_share: Decimal = Decimal("0.25")
    kelly_min_trades: int = 20
    rebalance_share: Decimal = Decimal("0.01")

    def to_document(self) -> dict[str, str | int | bool | None]:
        """JSON-ready; decimals as plain strings."""
        return {key: format(value, "f") if isinstance(value, Decimal) else value for key, value in asdict(self).items()}

    @staticmethod
    def from_document(document: dict[str, str | int | bool | None]) -> "Rules":
        """The inverse of ``to_document``; a document from before a rule existed has its default."""
        plain = {field.name for field in fields(Rules) if "Decimal" not in str(field.type)}
        return Rules(**{k: v if k in plain or v is None else Decimal(str(v)) for k, v in document.items()})  # type: ignore[arg-type]
