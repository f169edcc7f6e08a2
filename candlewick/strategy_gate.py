"""Whether a strategy may trade, by what its kept look-ahead check says."""

from candlewick.account import TermsVersion
from candlewick.code_version import code_version
from candlewick.errors import StrategyPeeks
from candlewick.store.backtests import Backtests
from candlewick.store.database import Database
from candlewick.strategies.catalog import load_strategy, strategy_code_version, strategy_document, strategy_name
from candlewick.strategy_checks import refuse_failed


def refuse_peeking(database: Database, terms: TermsVersion, *, allow: bool) -> str | None:
    """A strategy whose kept check failed does not trade; with ``allow`` (`--allow-peeking`) the notice that says so.

    Raises StrategyPeeks. A strategy that was never checked trades: a paper account sees no later candles.
    """
    strategy = load_strategy(terms.strategy, terms.parameters)
    kept = Backtests(database).find_check(
        strategy_name(strategy), strategy_document(strategy), code_version(), strategy_code_version(strategy)
    )
    try:
        return refuse_failed(kept, allow=allow)
    except StrategyPeeks as peeks:
        raise StrategyPeeks(f"{peeks} with --allow-peeking") from None
