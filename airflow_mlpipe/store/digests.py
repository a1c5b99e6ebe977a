"""What some data is: digests of files, folders and remote objects."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Content:
    """What some data is, wherever it lies: ``kind`` is ``file`` or ``folder``, ``digest`` is ``sha256:<hex>``.

    ``digest`` may also be ``version:<token>`` or ``path:<uri>``, for external data compared that way.
    ``size`` is in bytes, ``files`` the number of files.
    """

    kind: str
    digest: str
    size: int
    files: int
