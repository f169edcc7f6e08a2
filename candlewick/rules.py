"""Rules: how an account sizes, what it may risk and what trading costs. Part of the terms an account is opened with."""

from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Literal

Capital = Literal["equity", "initial"]


@dataclass(frozen=True, slots=True)
class Rules:
    """Shares are fractions of 1; None switches a limit off. The fill contract (docs/fill-contract.md) says how each acts.

    ``capital`` is what an entry's share is taken of: the account's equity at the decision, or its initial cash.
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

    def to_document(self) -> dict[str, str | int | bool | None]:
        """JSON-ready; decimals as plain strings."""
        return {key: format(value, "f") if isinstance(value, Decimal) else value for key, value in asdict(self).items()}

    @staticmethod
    def from_document(document: dict[str, str | int | bool | None]) -> "Rules":
        """The inverse of ``to_document``."""
        decimals = {"slippage_bps", "max_position_share", "daily_loss_limit_share", "max_drawdown_share", "target_1_share"}
        return Rules(**{k: Decimal(str(v)) if k in decimals and v is not None else v for k, v in document.items()})  # type: ignore[arg-type]
