"""The limits of a desk as its settings say them: the groups read, and held against the symbols that the desk trades."""

from collections.abc import Collection, Sequence

from candlewick.errors import UsageError
from candlewick.monitoring.exposure import Groups
from candlewick.monitoring.risk_state import RiskRules
from candlewick.settings_monitoring import DeskRiskSettings


def risk_rules(settings: DeskRiskSettings, symbols: Collection[str]) -> RiskRules:
    """The rules for a desk of those symbols.

    Raises UsageError for a group that names a symbol the desk does not trade, a symbol that is named twice, a group's name that
    is, and a limit on groups where there are none.
    """
    if settings.max_group_share is not None and not settings.groups:
        raise UsageError(
            f"desk_risk.max_group_share is {settings.max_group_share}, and there is no group it could limit: "
            "name some in desk_risk.groups, such as majors=BTC/USDT+ETH/USDT, or leave it out"
        )
    named = settings.model_dump()
    return RiskRules(**{**named, "groups": read_groups(settings.groups, symbols)})


def read_groups(texts: Sequence[str], symbols: Collection[str]) -> Groups:
    """Groups from texts `name=SYMBOL+SYMBOL`. Raises UsageError, as ``risk_rules``.

    >>> read_groups(["majors=BTC/USDT+ETH/USDT"], ["BTC/USDT", "ETH/USDT", "SOL/USDT"])
    {'majors': ('BTC/USDT', 'ETH/USDT')}
    """
    groups: dict[str, tuple[str, ...]] = {}
    group_of: dict[str, str] = {}
    for text in texts:
        name, _, members = text.partition("=")
        if name in groups:
            raise UsageError(f"desk_risk.groups: {name!r} is named more than once; write one group with all its symbols")
        for symbol in members.split("+"):
            if symbol not in symbols:
                raise UsageError(f"desk_risk.groups: {name}: the desk does not trade {symbol!r}; name symbols of the desk only")
            if symbol in group_of:
                raise UsageError(f"desk_risk.groups: {symbol} is in {group_of[symbol]} and again in {name}; name it once")
            group_of[symbol] = name
        groups[name] = tuple(members.split("+"))
    return groups
