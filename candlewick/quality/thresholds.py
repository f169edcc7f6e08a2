"""What two sources of one market may differ by. The numbers were measured on real exchanges; docs/data.md says them, too."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from candlewick.errors import UsageError


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Limits of a comparison. ``REASONS`` says of each why it is what it is. Raises UsageError for one that makes no sense."""

    min_common_bars: int = 100
    unusable_median_bps: float = 1_000.0
    unusable_correlation: float = 0.5
    max_median_bps: float = 25.0
    max_p99_bps: float = 500.0
    max_missing_share: float = 0.01
    min_correlation: float = 0.86
    min_range_overlap: float = 0.95
    max_disagreeing_share: float = 0.02
    bar_bps: float = 500.0
    wick_bps: float = 300.0
    outlier_bps: float = 50.0
    outlier_z: float = 10.0

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            if not getattr(self, name) >= 0:
                raise UsageError(f"--{name.replace('_', '-')} {getattr(self, name)} is below 0, the least that is allowed")
        if self.min_common_bars < 2:
            raise UsageError(f"--min-common-bars {self.min_common_bars} is below 2: a comparison needs two bars")


REASONS: Mapping[str, str] = MappingProxyType(
    {
        "min_common_bars": "the 99th percentile of fewer bars is nothing but their largest value",
        "unusable_median_bps": "no market of one pair is 10 % off for half of the time: another pair, currency or unit",
        "unusable_correlation": "returns of one market move together; below this it is another market, or the times are wrong",
        "max_median_bps": "measured on hours of BTC: 4.2 between two dollar markets, 9.9 between a dollar and a Tether market; "
        "31 in the years when Tether's price was in doubt",
        "max_p99_bps": "measured: 23 between two dollar markets, 299 between a dollar and a Tether market, 537 in those years",
        "max_missing_share": "the outages of a large exchange: Binance missed 0.29 % of the hours from 2018 to 2021",
        "min_correlation": "measured on hours: 0.99 for one pair, 0.88 in the first years; 0.85 for Bitcoin against Ether",
        "min_range_overlap": "high and low of one source nearly always reach into the other's: in 96 to 99.9 % of real hours",
        "max_disagreeing_share": "measured: 0.2 % of real hours disagree, up to 2 % of the days of the wild years",
        "bar_bps": "a close 5 % away from the other market's is worth a row, whatever the level of the days around it",
        "wick_bps": "a high or low 3 % beyond the other's is a print that only one of the sources has",
        "outlier_bps": "below half a per cent a difference costs no more than fees and slippage do",
        "outlier_z": "robust z against the level of the bars around: 10 leaves some 20 places in four years of hours",
    }
)
"""Why each threshold is what it is, by name."""
