"""What people want kept, whatever the policy of retention says: the records of a fingerprint, or all a run used."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from airflow_mlpipe.exceptions import RecordFormatError
from airflow_mlpipe.store import layout

if TYPE_CHECKING:
    from airflow_mlpipe.store.store import Store


@dataclass(frozen=True)
class Pin:
    """What is pinned: a ``fingerprint``, or the ``run`` of a ``pipeline``. ``time`` is ISO 8601 in UTC."""

    fingerprint: str = ""
    pipeline: str = ""
    run: str = ""
    note: str = ""
    time: str = ""

    @property
    def path(self) -> str:
        """Where it is kept."""
        return layout.record_pin(self.fingerprint) if self.fingerprint else layout.run_pin(self.pipeline, self.run)


def add(store: Store, pin: Pin) -> None:
    """Pin something; an earlier pin of the same is replaced."""
    time = pin.time or datetime.now(timezone.utc).isoformat(timespec="seconds")
    store.write(pin.path, json.dumps({**asdict(pin), "time": time}, ensure_ascii=False, sort_keys=True).encode())


def remove(store: Store, pin: Pin) -> bool:
    """Take a pin away; return whether there was one."""
    there = store.exists(pin.path)
    store.remove(pin.path)
    return there


def read(store: Store) -> list[Pin]:
    """Return all pins.

    :raises RecordFormatError: if one is damaged: what it kept is not known then, and nothing may be removed.
    """
    paths = [f"{layout.PINS}/{path}" for path in store.sizes(layout.PINS) if path.endswith(".json")]
    return [_load(store, path, content) for path, content in sorted(store.read_all(paths).items())]


def _load(store: Store, path: str, content: bytes) -> Pin:
    try:
        pin = Pin(**json.loads(content))
        if pin.path != path:
            raise ValueError("it is another's")  # noqa: EM101, TRY003, TRY301 -- told below
    except (ValueError, TypeError, AttributeError) as error:
        message = f"the pin {store.uri(path)} is damaged ({error}); remove that file, and pin again what it kept"
        raise RecordFormatError(message) from error
    return pin
