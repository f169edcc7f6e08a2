"""How alerts reach people: apprise's channels, each called in a thread with a time-out, and a sender that tries again."""

import logging
import queue
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

from pydantic import SecretStr

from candlewick.errors import AlertNotSent
from candlewick.monitoring.events import Severity
from candlewick.monitoring.rows import AlertRow

_LOG = logging.getLogger(__name__)
_TYPES: dict[Severity, str] = {"info": "info", "warning": "warning", "critical": "failure"}


def channels_of(urls: SecretStr | None) -> Mapping[int, SecretStr]:
    """The addresses of `alerts.urls`, which are separated by spaces, by their numbers from 1."""
    return {} if urls is None else {number: SecretStr(url) for number, url in enumerate(urls.get_secret_value().split(), 1)}


def send_alert(channels: Mapping[int, SecretStr], row: AlertRow, timeout_s: float) -> None:
    """Send an alert to every channel at once. Raises AlertNotSent for those that refused or took longer than ``timeout_s``.

    The error names a channel by its number and kind; an address is a secret.
    """
    refused: dict[int, str] = {}
    threads = {
        number: threading.Thread(target=_notify, args=(number, url, row, refused), name=f"alert-{number}", daemon=True)
        for number, url in channels.items()
    }
    until_s = time.monotonic() + timeout_s
    for thread in threads.values():
        thread.start()
    for number, thread in threads.items():
        thread.join(max(0.0, until_s - time.monotonic()))
        if thread.is_alive():
            refused[number] = f"no answer within {timeout_s:g} s"
    if refused:
        failed = dict(sorted(refused.items()))
        said = "; ".join(f"channel {number} ({_kind(channels[number])}): {why}" for number, why in failed.items())
        raise AlertNotSent(
            f"the alert {row.title!r} was not sent: {said}; see alerts.urls, and `apprise -v ADDRESS` for more", tuple(failed)
        )


def _notify(number: int, url: SecretStr, row: AlertRow, refused: dict[int, str]) -> None:
    """Send to one channel; in a thread of its own, because apprise waits as long as the channel does."""
    from apprise import Apprise

    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)  # it writes addresses into its log, and so the secrets in them
    channel = Apprise()
    if not channel.add(url.get_secret_value()):
        refused[number] = "this is no address that apprise knows"
        return
    try:
        taken = channel.notify(title=f"[{row.severity}] {row.title}", body=row.body, notify_type=_TYPES[row.severity])
    except Exception as error:  # noqa: BLE001  a channel's own code; its words may hold the address
        refused[number] = f"it failed with {type(error).__name__}"
        return
    if not taken:
        refused[number] = "it did not take the alert"


def _kind(url: SecretStr) -> str:
    kind = url.get_secret_value().partition("://")[0]
    return kind if kind.isalnum() and len(kind) <= 12 else "?"


class AlertSender:
    """Sends alerts in a thread of its own: nobody waits for a channel. A channel that took an alert in time gets it once."""

    def __init__(self, urls: SecretStr | None, timeout_s: float, *, tries: int = 3, pause_s: float = 5.0) -> None:
        """``pause_s``: before the second try; twice that before the third, and so on."""
        self._channels = channels_of(urls)
        self._timeout_s, self._tries, self._pause_s = timeout_s, tries, pause_s
        self._offered: queue.SimpleQueue[AlertRow | None] = queue.SimpleQueue()
        self._results: list[AlertRow] = []
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="alerts", daemon=True)
        self._thread.start()

    def offer(self, row: AlertRow) -> None:
        """An alert that is to go out (state `waiting`). Never waits. Where no channel is set, it is only kept (`quiet`)."""
        self._offered.put(row)

    def take_results(self) -> tuple[AlertRow, ...]:
        """The rows that have become `sent`, `failed` or `quiet` since this was last asked; keep them with the next commit."""
        with self._lock:
            taken, self._results = tuple(self._results), []
        return taken

    def close(self, timeout_s: float) -> None:
        """Send what waits, without pauses between tries, for ``timeout_s`` at the most."""
        self._closing.set()
        self._offered.put(None)
        self._thread.join(timeout_s)

    def _work(self) -> None:
        while (row := self._offered.get()) is not None:
            done = self._send(row)
            with self._lock:
                self._results.append(done)

    def _send(self, row: AlertRow) -> AlertRow:
        if not self._channels:
            return replace(row, state="quiet", error="no channel is set: alerts.urls")
        left, error = self._channels, ""
        for attempt in range(self._tries):
            if attempt:
                self._closing.wait(self._pause_s * 2.0 ** (attempt - 1))
            try:
                send_alert(left, row, self._timeout_s)
                return replace(row, state="sent", sent_at=datetime.now(UTC), error=None)
            except AlertNotSent as failure:
                left, error = {number: left[number] for number in failure.channels}, str(failure)
        _LOG.error("%s; it was tried %d times", error, self._tries)
        return replace(row, state="failed", error=error)
