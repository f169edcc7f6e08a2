"""The rules of regimes and signals as the settings have them: pure modules take these, and know no settings."""

from candlewick.monitoring.calendars import TradingHours
from candlewick.monitoring.regimes import RegimeRules
from candlewick.monitoring.signal_rules import SignalRules
from candlewick.settings_monitoring import RegimeSettings, SignalSettings
from candlewick.timeframes import timeframe_ms


def regime_rules(settings: RegimeSettings, timeframe: str) -> RegimeRules:
    """How regimes are told of candles of ``timeframe``. Raises UsageError for a timeframe that is none."""
    return RegimeRules(
        timeframe_ms=timeframe_ms(timeframe),
        adx_bars=settings.adx_bars,
        trend_adx=settings.trend_adx,
        range_adx=settings.range_adx,
        slope_bars=settings.slope_bars,
        slope_bps=settings.slope_bps,
        volatility_bars=settings.volatility_bars,
        volatility_base_bars=settings.volatility_base_bars,
        volatility_enter=settings.volatility_enter,
        volatility_leave=settings.volatility_leave,
        confirm_bars=settings.confirm_bars,
    )


def signal_rules(settings: SignalSettings, regimes: RegimeSettings) -> SignalRules:
    """Which entries are let through; in which regimes is a setting of the section `regimes`."""
    return SignalRules(
        max_age_s=settings.max_age_s,
        duplicate_bars=settings.duplicate_bars,
        cooldown_bars=settings.cooldown_bars,
        max_spread_bps=settings.max_spread_bps,
        restricted=settings.restricted,
        regimes=regimes.entries,
    )


def trading_hours(settings: SignalSettings) -> TradingHours:
    """The trading hours of the symbols that have any. Raises UsageError for a calendar that does not exist."""
    return TradingHours(settings.calendars)
