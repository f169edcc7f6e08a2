"""What the lake needs of a storage: named files in named folders, and operations on one folder that do not disturb each other.

A folder's key is its path below the lake's root, with `/` between the parts: `silver/exchange=binance/…`; the root's is empty.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

Result = TypeVar("Result")


class Held(Protocol):
    """One folder during one operation. Names are of files directly in it. What is read is as it was written: whole."""

    @property
    def address(self) -> str:
        """Where the folder is, for people; no credentials."""

    def names(self) -> list[str]:
        """The files that are there, sorted; none where there is no folder."""

    def size(self, name: str) -> int:
        """Bytes of a file that is there."""

    def read(self, name: str) -> bytes | None:
        """A file's content; None where there is none."""

    def ends(self, names: Sequence[str], length: int) -> list[bytes]:
        """The last bytes of files that are there: ``length`` of each, or all."""

    def sources(self, names: Sequence[str]) -> list[Path] | list[bytes]:
        """Files that are there, as polars reads them."""

    def write(self, name: str, content: bytes | memoryview, durable: bool = True) -> None:
        """Put a whole file in the place of what was there. Not ``durable``: a power failure may leave it empty."""

    def remove(self, name: str) -> None:
        """Take a file away; one that is not there is no error."""

    def rename(self, name: str, new_name: str) -> None:
        """Give a file another name; what had that name is gone."""


class Storage(Protocol):
    """Where a lake is. Operations may run more than once, so they must come to the same when run again."""

    @property
    def url(self) -> str:
        """Where it is, for people and keys; no credentials."""

    def writing(self, folder: str, operation: Callable[[Held], Result]) -> Result:
        """Run an operation that writes; the folder is made where it is not there. Raises LakeError."""

    def reading(self, folder: str, operation: Callable[[Held], Result]) -> Result:
        """Run an operation that only reads; the folder need not exist. Raises LakeError."""

    def folders(self, below: str) -> list[str]:
        """Keys of the folders at any depth below one that directly hold Parquet files, sorted. Raises LakeError."""
