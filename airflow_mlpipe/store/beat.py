"""The sign of life of whoever holds a claim, and how others watch it.

Clocks are never compared: whoever watches says by its own clock for how long the beat has not changed.
"""

from __future__ import annotations

import contextlib
import logging
import re
import secrets
import threading
import time
from typing import TYPE_CHECKING

from airflow_mlpipe.exceptions import StoreError
from airflow_mlpipe.store import layout

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from typing_extensions import Self

    from airflow_mlpipe.store.entries import Claim
    from airflow_mlpipe.store.store import Store

INTERVAL = 10.0
EXPIRY = 60.0

PATIENCE = 900.0
"""Seconds without a change that a holder may ask for, instead of the expiry, as what it began goes on without it.

Then triggerers may fail over, and tasks queue for a slot, and nobody takes the claim.
"""

_PATIENT = re.compile(rb"patient ([0-9]{1,4}) [0-9a-f]{16}\Z")

_logger = logging.getLogger(__name__)


class Beat:
    """Shows that the holder of a claim lives, from a thread of its own, while a ``with`` block runs.

    :param interval: seconds between two beats; it has to be well below the expiry that others watch with.
    :raises StoreUnreachableError: if the first beat cannot be written; later ones are tried again with the next.
    """

    def __init__(self, store: Store, claim: Claim, interval: float = INTERVAL) -> None:
        self._store = store
        self._claim = claim
        self._path = layout.beat(claim.fingerprint, claim.id)
        self._interval = interval
        self._left = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"beat of {claim.id}", daemon=True)

    def __enter__(self) -> Self:
        self._beat()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        if self._left:
            return
        try:
            self._store.remove(self._path)
        except StoreError as failure:
            _logger.warning("a sign of life stays behind: %s", failure)
        if self._store.local_root is not None:
            with contextlib.suppress(OSError):  # somebody else beats there; who comes just now makes it again
                (self._store.local_root / self._path).parent.rmdir()

    def leave(self) -> None:
        """End, and let the sign of life stay, with the request for patience: what the holder began goes on.

        :raises StoreUnreachableError: if that cannot be written.
        """
        self._ended.set()
        self._thread.join()
        give(self._store, self._claim, PATIENCE)
        self._left = True

    def _run(self) -> None:
        while not self._ended.wait(self._interval):
            try:
                self._beat()
            except StoreError as failure:  # noqa: PERF203 -- once in a while
                _logger.warning("no sign of life could be given, the next one is due soon: %s", failure)

    def _beat(self) -> None:
        give(self._store, self._claim)


def give(store: Store, claim: Claim, patience: float = 0.0) -> bytes:
    """Give one sign of life; return it.

    :param patience: seconds for which no other may come; none, if it is the usual expiry.
    :raises StoreUnreachableError: if it cannot be written.
    """
    beat = secrets.token_hex(8)
    content = (f"patient {patience:.0f} {beat}" if patience else beat).encode()
    store.write(layout.beat(claim.fingerprint, claim.id), content)
    return content


def patience_of(beat: bytes) -> float:
    """Return for how many seconds a beat asks to wait for the next; 0 where it does not ask."""
    match = _PATIENT.match(beat)
    return min(float(match[1]), PATIENCE) if match else 0.0


class Watch:
    """Watches the beat of a holder from outside.

    :param expiry: seconds without a change after which the holder counts as gone.
    :param clock: a clock of this process that never goes back, in seconds.
    """

    def __init__(
        self, store: Store, claim: Claim, expiry: float = EXPIRY, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.claim = claim
        self._store = store
        self._path = layout.beat(claim.fingerprint, claim.id)
        self._expiry = expiry
        self._clock = clock
        self._seen = self._read()
        self._since = clock()

    @property
    def beat(self) -> bytes:
        """The beat as it was seen last; empty where there is none."""
        return self._seen

    def expired(self) -> bool:
        """Look once more; return whether the beat has not changed for longer than the expiry.

        :raises StoreUnreachableError: if the store does not answer, which says nothing about the holder.
        """
        seen = self._read()
        if seen != self._seen:
            self._seen, self._since = seen, self._clock()
        return self._clock() - self._since > max(self._expiry, patience_of(self._seen))

    def _read(self) -> bytes:
        try:
            return self._store.read(self._path)
        except FileNotFoundError:
            return b""
