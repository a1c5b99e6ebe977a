"""Source directories packed under their digests, and texts such as locks beside them.

A snapshot is two files: the tar, and the list of files, which is written last. Both are named by the digest of the list,
so whoever writes them writes the same.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_mlpipe.exceptions import DataChangedError, RecordFormatError
from airflow_mlpipe.fingerprint import encode
from airflow_mlpipe.store import layout

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_mlpipe.fingerprint import Value
    from airflow_mlpipe.store.store import Store

FORMAT = 1

_FILE_MODE = 0o644
_PROGRAM_MODE = 0o755


@dataclass(frozen=True)
class SourceFile:
    """One file of a source directory: its digest, and whether its owner may execute it."""

    digest: str
    executable: bool = False


@dataclass(frozen=True)
class Snapshot:
    """The files of a source directory by relative path, with ``/``."""

    files: Mapping[str, SourceFile]

    @cached_property
    def digest(self) -> str:
        """The digest of the list of files: ``sha256:<hex>``."""
        listed: list[Value] = [[path, source.digest, source.executable] for path, source in sorted(self.files.items())]
        return blob_digest(encode({"snapshot": listed}))


def pack(store: Store, directory: Path, snapshot: Snapshot) -> None:
    """Put a source directory into the store, unless it is there.

    :raises DataChangedError: if a file is no longer what the snapshot says: somebody edits it just now.
    """
    if exists(store, snapshot.digest):
        return
    with tempfile.TemporaryDirectory(prefix="mlpipe-") as folder:
        packed = Path(folder, "snapshot.tar")
        _write_tar(packed, directory, snapshot)
        store.upload(packed, layout.snapshot(snapshot.digest), move=True)
    listed = {path: [source.digest, source.executable] for path, source in sorted(snapshot.files.items())}
    content = json.dumps({"format": FORMAT, "files": listed}, ensure_ascii=False).encode()
    store.write(layout.snapshot_manifest(snapshot.digest), content)


def exists(store: Store, digest: str) -> bool:
    """Say whether a snapshot is whole in the store."""
    return store.exists(layout.snapshot_manifest(digest)) and store.exists(layout.snapshot(digest))


def read(store: Store, digest: str) -> Snapshot:
    """Return the list of files of a snapshot.

    :raises FileNotFoundError: if it is not in the store.
    :raises RecordFormatError: if a newer version wrote it, or it is damaged.
    """
    path = layout.snapshot_manifest(digest)
    try:
        data = store.read_json(path)
    except RecordFormatError as error:
        raise _damaged(store, digest, "its list of files is no JSON") from error
    if data.get("format") != FORMAT:
        message = f"{store.uri(path)} has format {data.get('format')!r}; this airflow-mlpipe reads {FORMAT}: upgrade it"
        raise RecordFormatError(message)
    snapshot = Snapshot({name: SourceFile(*source) for name, source in data["files"].items()})
    if snapshot.digest != digest:
        raise _damaged(store, digest, "its list of files is not what its name says")
    return snapshot


def unpack(store: Store, digest: str, target: Path) -> None:
    """Make a folder hold a snapshot: a copy, which appears whole.

    :param target: does not exist yet, or is empty.
    :raises FileNotFoundError: if the snapshot is not in the store.
    :raises RecordFormatError: if it is damaged; it is removed then, so that the next run packs it again.
    """
    snapshot = read(store, digest)
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        with store.reader(layout.snapshot(digest)) as stream, tarfile.open(fileobj=stream, mode="r|") as packed:
            _extract(packed, snapshot, aside)
        aside.chmod(_PROGRAM_MODE)
        aside.replace(target)
    except (tarfile.TarError, EOFError) as error:
        raise _damaged(store, digest, str(error)) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def blob_digest(content: bytes) -> str:
    """Return the digest under which a text is kept."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


def put_blob(store: Store, content: bytes) -> str:
    """Keep a text among the snapshots; return its digest."""
    digest = blob_digest(content)
    if not store.exists(layout.blob(digest)):
        store.write(layout.blob(digest), content)
    return digest


def get_blob(store: Store, digest: str) -> bytes:
    """Return a text kept among the snapshots.

    :raises FileNotFoundError: if it is not in the store.
    """
    content = store.read(layout.blob(digest))
    if blob_digest(content) != digest:
        message = f"{store.uri(layout.blob(digest))} is damaged; remove it, then run again"
        raise RecordFormatError(message)
    return content


def _write_tar(packed: Path, directory: Path, snapshot: Snapshot) -> None:
    """Pack files in order, without times and owners, so that equal files make equal bytes."""
    with tarfile.open(packed, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path, source in sorted(snapshot.files.items()):
            content = _content(directory / path, source, path)
            member = tarfile.TarInfo(path)
            member.size = len(content)
            member.mode = _PROGRAM_MODE if source.executable else _FILE_MODE
            tar.addfile(member, io.BytesIO(content))


def _content(path: Path, source: SourceFile, name: str) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        message = f"{name} in {path.parent} was changed while it was packed: {error.strerror}"
        raise DataChangedError(message) from error
    if blob_digest(content) != source.digest:
        message = f"{name} in {path.parent} was changed while it was packed"
        raise DataChangedError(message)
    return content


def _extract(packed: tarfile.TarFile, snapshot: Snapshot, folder: Path) -> None:
    """Write the listed files, each checked against its digest; anything else in the tar is left out."""
    missing = dict(snapshot.files)
    for member in packed:
        source = missing.pop(member.name, None)
        stream = packed.extractfile(member) if source else None
        if source is None or stream is None:
            continue
        content = stream.read()
        if blob_digest(content) != source.digest:
            message = f"{member.name} is not what its digest says"
            raise tarfile.TarError(message)
        target = folder / member.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        target.chmod(_PROGRAM_MODE if source.executable else _FILE_MODE)
    if missing:
        message = f"{', '.join(sorted(missing)[:3])} is missing"
        raise tarfile.TarError(message)


def _damaged(store: Store, digest: str, what: str) -> RecordFormatError:
    """Remove a damaged snapshot and return the error that says so."""
    store.remove(layout.snapshot_manifest(digest))
    store.remove(layout.snapshot(digest))
    message = (
        f"snapshot {digest} in {store.url} was damaged ({what}) and is removed; "
        "run the pipeline again, or clear its task 'plan', and it is packed again"
    )
    return RecordFormatError(message)
