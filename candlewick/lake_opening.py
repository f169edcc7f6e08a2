"""Opening the lake that the settings name: a folder of this machine, or an object store."""

from candlewick.lake import Lake
from candlewick.settings import LakeSettings


def open_lake(settings: LakeSettings) -> Lake:
    """The lake at ``settings.url``. Nothing is touched before the first use. Raises SettingsError."""
    return Lake(settings.url)
