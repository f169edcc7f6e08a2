"""The exchange block: which exchange, where, how patiently, and as whom."""

from typing import Any, ClassVar

from prefect.blocks.core import Block
from pydantic import Field, SecretStr

from blocks.exchange_client import build_client
from blocks.exchange_market import ExchangeMarket


class Exchange(Block):
    """A ccxt exchange and how to talk to it. Public candles need no credentials.

    Retries are made by the tasks: up to ``max_attempts`` with delays between ``retry_base_s`` and ``retry_max_s``,
    or as long as the exchange asks for.
    """

    _block_type_name: ClassVar[str | None] = "Candlewick Exchange"
    _block_type_slug: ClassVar[str | None] = "candlewick-exchange"
    _description: ClassVar[str | None] = "A ccxt exchange: its address, time-outs, rate limit, retries and credentials."

    exchange_id: str = Field(default="binance", description="ccxt's id of the exchange: binance, kraken, coinbase, ...")
    api_url: str | None = Field(
        default=None,
        description="Another host for all requests (proxy, testnet, emulator): http(s)://host[:port][/path]. Paths are kept.",
    )
    sandbox: bool = Field(default=False, description="Use the exchange's own test network; its candles are kept apart.")
    timeout_s: float = Field(default=10.0, gt=0, description="Longest wait for one answer, in seconds.")
    rate_limit: bool = Field(default=True, description="Space requests by the exchange's published limits.")
    requests_per_s: float | None = Field(
        default=None, gt=0, description="A stricter limit of requests per second, of all processes of this machine together."
    )
    max_attempts: int = Field(default=5, ge=1, description="Attempts to fetch one symbol before it is given up for this cycle.")
    retry_base_s: float = Field(default=1.0, gt=0, description="Delay before the first retry, doubled each time, in seconds.")
    retry_max_s: float = Field(default=60.0, gt=0, description="Longest delay, unless the exchange asks for more, in seconds.")
    max_clock_skew_s: float = Field(
        default=5.0, ge=0, description="Largest difference of the clocks, in seconds; beyond it the cycle refuses to trade."
    )
    api_key: SecretStr | None = Field(default=None, description="API key, for exchanges that want one even for candles.")
    api_secret: SecretStr | None = Field(default=None, description="API secret.")
    api_password: SecretStr | None = Field(default=None, description="API passphrase, where the exchange has one.")


def open_exchange(block: Exchange) -> ExchangeMarket:
    """A market on the block's exchange; it connects at its first request and must be closed.

    Raises UsageError: unknown exchange (near matches named), no sandbox, a bad ``api_url``.
    """
    config: dict[str, Any] = {"timeout": round(block.timeout_s * 1000), "enableRateLimit": block.rate_limit}
    secrets = {"apiKey": block.api_key, "secret": block.api_secret, "password": block.api_password}
    config |= {name: secret.get_secret_value() for name, secret in secrets.items() if secret is not None}
    client = build_client(
        block.exchange_id, config, sandbox=block.sandbox, api_url=block.api_url, requests_per_s=block.requests_per_s
    )
    market = f"{block.exchange_id}-sandbox" if block.sandbox else block.exchange_id
    return ExchangeMarket(client, market, block.timeout_s)
