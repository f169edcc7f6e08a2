"""Opening the lake that the settings name: a folder of this machine, or an object store."""

from pathlib import Path

from candlewick.lake import Lake
from candlewick.settings import LakeSettings


def open_lake(settings: LakeSettings) -> Lake:
    """The lake at ``settings.url``. Nothing is touched before the first use. Raises SettingsError."""
    if not settings.url.startswith("s3://"):
        return Lake(settings.url)
    from candlewick.storage.s3 import S3Storage  # obstore is loaded by those who need it

    return Lake(S3Storage(settings), Path(settings.scratch))
