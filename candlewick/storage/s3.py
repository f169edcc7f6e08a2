"""A lake in an S3-compatible object store (Amazon, MinIO, …), through obstore.

There is no lock. An operation on a folder remembers which version (e_tag) of each object it saw. It puts an object only in the
place of that version, or where it saw none; and reads only versions that its listing named. When another writer was faster, the
whole operation runs again on what is there then. So no row and no coverage is lost or doubled, whoever writes at once.

What a local lake promises beyond that: an operation that writes several objects (``Lake.replace``, an append over several months)
can be seen half done by readers meanwhile, some months as before and some as after. Each object is whole at any time, coverage is
put last, and what is covered is there.
"""

import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PermissionDeniedError, PreconditionError, UnauthenticatedError
from obstore.store import S3Store

from candlewick.errors import LakeError, LakeUnavailable, SettingsError
from candlewick.settings import LakeSettings
from candlewick.storage.contract import Held

if TYPE_CHECKING:
    from obstore import GetOptions, PutMode
    from obstore.store import S3Config

MOST_ATTEMPTS = 20
MOST_RETRIES = 4
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.02, 1.0
_READERS = 8

Result = TypeVar("Result")


class Overtaken(Exception):
    """Another writer changed an object after this operation saw it: the operation runs again."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """The version of an object that an operation knows of."""

    e_tag: str | None
    size: int


class S3Folder:
    """Implements ``Held`` on the objects directly below a key, during one attempt at an operation."""

    def __init__(self, store: S3Store, key: str, address: str) -> None:
        self._store = store
        self._key = key
        self._address = address
        self._seen: dict[str, _Seen | None] = {}
        self._listed = False

    @property
    def address(self) -> str:
        """`s3://bucket/prefix/folder`."""
        return self._address

    def names(self) -> list[str]:
        """The objects that were there when this was first asked, and since by this operation's doing; sorted."""
        if not self._listed:
            for found in obstore.list_with_delimiter(self._store, f"{self._key}/" if self._key else None)["objects"]:
                name = found["path"].rpartition("/")[2]
                self._seen.setdefault(name, _Seen(found["e_tag"], found["size"]))
            self._listed = True
        return sorted(name for name, seen in self._seen.items() if seen is not None)

    def size(self, name: str) -> int:
        """Bytes of an object that is there."""
        return self._known(name).size

    def read(self, name: str) -> bytes | None:
        """An object's content; None where there is none."""
        if name in self._seen or self._listed:
            return None if self._seen.get(name) is None else self._get(name)
        try:
            answer = obstore.get(self._store, self._path(name))
        except FileNotFoundError as error:
            if _lacks_bucket(error):
                raise
            self._seen[name] = None
            return None
        self._seen[name] = _Seen(answer.meta["e_tag"], answer.meta["size"])
        return bytes(answer.bytes())

    def ends(self, names: Sequence[str], length: int) -> list[bytes]:
        """The last bytes of objects that are there, fetched side by side."""
        return self._side_by_side(lambda name: self._end(name, length), names)

    def sources(self, names: Sequence[str]) -> list[Path] | list[bytes]:
        """The objects' contents, fetched side by side."""
        return self._side_by_side(self._get, names)

    def write(self, name: str, content: bytes | memoryview, durable: bool = True) -> None:
        """Put an object in the place of the version seen; of an object that was not looked at, in the place of any."""
        mode: PutMode = "overwrite"
        if name in self._seen or self._listed:
            seen = self._seen.get(name)
            mode = "create" if seen is None else {"e_tag": seen.e_tag}  # A version of None would be refused.
        try:
            answer = obstore.put(self._store, self._path(name), bytes(content), mode=mode, use_multipart=False)
        except (AlreadyExistsError, PreconditionError) as error:
            raise Overtaken(name) from error
        except FileNotFoundError as error:  # If-Match on an object that is gone
            if _lacks_bucket(error):
                raise
            raise Overtaken(name) from error
        self._seen[name] = _Seen(answer["e_tag"], len(content))

    def remove(self, name: str) -> None:
        """Take an object away; one that is not there is no error."""
        if name not in self._seen or self._seen[name] is not None:
            obstore.delete(self._store, self._path(name))
        self._seen[name] = None

    def rename(self, name: str, new_name: str) -> None:
        """Copy, then delete: after a kill in between both are there."""
        obstore.rename(self._store, self._path(name), self._path(new_name))
        self._seen[new_name], self._seen[name] = self._seen.get(name), None

    def _side_by_side(self, fetch: Callable[[str], bytes], names: Sequence[str]) -> list[bytes]:
        if len(names) < 2:
            return [fetch(name) for name in names]
        self.names()  # listed once, not by every thread
        with ThreadPoolExecutor(min(_READERS, len(names))) as readers:
            return list(readers.map(fetch, names))

    def _end(self, name: str, length: int) -> bytes:
        size = self._known(name).size
        return self._get(name, (max(0, size - length), size)) if size else b""

    def _known(self, name: str) -> _Seen:
        self.names()
        seen = self._seen.get(name)
        if seen is None:
            raise Overtaken(name)
        return seen

    def _get(self, name: str, span: tuple[int, int] | None = None) -> bytes:
        options: GetOptions = {"if_match": self._known(name).e_tag}
        if span is not None:
            options["range"] = span
        try:
            return bytes(obstore.get(self._store, self._path(name), options=options).bytes())
        except (PreconditionError, FileNotFoundError) as error:
            raise Overtaken(name) from error

    def _path(self, name: str) -> str:
        return f"{self._key}/{name}" if self._key else name


class S3Storage:
    """Implements ``Storage`` on the bucket and prefix of ``settings.url``. Raises SettingsError for an url that has neither."""

    def __init__(self, settings: LakeSettings) -> None:
        self._place, bucket, prefix = _parse(settings.url)
        self._endpoint = (settings.endpoint or "").rstrip("/")
        self._timeout_s = settings.timeout_s
        self._store = _open_store(settings, bucket, prefix)

    @property
    def url(self) -> str:
        """`s3://bucket/prefix`, and the endpoint where it is not Amazon's."""
        return f"{self._place} at {self._endpoint}" if self._endpoint else self._place

    def writing(self, folder: str, operation: Callable[[Held], Result]) -> Result:
        """Run it until no other writer was faster. Raises LakeError, LakeUnavailable."""
        return self._run(folder, operation, "written")

    def reading(self, folder: str, operation: Callable[[Held], Result]) -> Result:
        """Run it until every object that was read is the one that was listed. Raises LakeError, LakeUnavailable."""
        return self._run(folder, operation, "read")

    def folders(self, below: str) -> list[str]:
        """Keys of the folders at any depth below one that directly hold Parquet files, from a listing of all objects."""
        try:
            batches = obstore.list(self._store, f"{below}/" if below else None)
            paths = [found["path"] for batch in batches for found in batch]
        except (BaseError, OSError) as error:
            raise self._named(error, f"{self._place}/{below}", "listed") from error
        return sorted({path.rpartition("/")[0] for path in paths if path.endswith(".parquet")})

    def _run(self, folder: str, operation: Callable[[Held], Result], deed: str) -> Result:
        address = f"{self._place}/{folder}" if folder else self._place
        pause_s = _FIRST_PAUSE_S
        for _ in range(MOST_ATTEMPTS):
            try:
                return operation(S3Folder(self._store, folder, address))
            except Overtaken:
                time.sleep(random.uniform(0, pause_s))
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            except (BaseError, OSError) as error:
                raise self._named(error, address, deed) from error
        raise LakeError(f"{address} cannot be {deed}: others wrote there first, {MOST_ATTEMPTS} times in a row; run again")

    def _named(self, error: Exception, address: str, deed: str) -> LakeError:
        where = f"{address} cannot be {deed}: the object store at {self._endpoint or 'its default endpoint'}"
        if _lacks_bucket(error):
            return LakeError(f"{where} has no bucket {urlsplit(self._place).netloc!r}: make it, or correct lake.url")
        if isinstance(error, PermissionDeniedError | UnauthenticatedError) or _says(error, "AccessDenied", "403 Forbidden"):
            return LakeError(f"{where} denies access: check lake.access_key_id and its rights to the bucket")
        if _says(error, "169.254.169.254", "No credentials", "no credentials"):
            return LakeError(f"{where} wants credentials: set lake.access_key_id and lake.secret_access_key")
        return LakeUnavailable(
            f"{where} did not serve it in {1 + MOST_RETRIES} attempts of at most {self._timeout_s:g} s ({_reason(error)}); "
            "nothing is lost, run again when it is back"
        )


def _open_store(settings: LakeSettings, bucket: str, prefix: str) -> S3Store:
    """What the settings leave open obstore takes from the AWS_ variables; a setting of None it would refuse."""
    key, secret = settings.access_key_id, settings.secret_access_key
    config: S3Config = {"region": settings.region} if settings.region else {}
    if settings.endpoint is not None:
        config["endpoint"] = settings.endpoint
    if key is not None and secret is not None:
        config["access_key_id"], config["secret_access_key"] = key.get_secret_value(), secret.get_secret_value()
    return S3Store(
        bucket,
        prefix=prefix or None,
        config=config,
        client_options={
            "allow_http": True,
            "timeout": timedelta(seconds=settings.timeout_s),
            "connect_timeout": timedelta(seconds=min(5.0, settings.timeout_s)),
        },
        retry_config={
            "max_retries": MOST_RETRIES,
            "retry_timeout": timedelta(seconds=(1 + MOST_RETRIES) * settings.timeout_s),
            "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=5), "base": 2},
        },
    )


def _parse(url: str) -> tuple[str, str, str]:
    """`s3://bucket/prefix`, bucket and prefix."""
    parts = urlsplit(url)
    prefix = parts.path.strip("/")
    if parts.scheme != "s3" or not parts.netloc or "@" in parts.netloc or parts.query or parts.fragment:
        raise SettingsError(
            "lake.url is no address of a bucket: write s3://bucket/prefix; credentials have settings of their own"
        )
    return f"s3://{parts.netloc}/{prefix}".rstrip("/"), parts.netloc, prefix


def _lacks_bucket(error: Exception) -> bool:
    return _says(error, "NoSuchBucket")


def _says(error: Exception, *words: str) -> bool:
    text = str(error)
    return any(word in text for word in words)


def _reason(error: Exception) -> str:
    """What went wrong, in a few words: the last cause that the error's first line names."""
    return str(error).splitlines()[0].rpartition(" - ")[2][:200]
