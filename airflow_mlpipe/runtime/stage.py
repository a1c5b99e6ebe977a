"""Fills a step directory before the command, and checks it afterwards.

What a script writes outside of its step directory is not seen, not kept and not undone.
"""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow_mlpipe.exceptions import DataChangedError, DataError, InputLostError, InputModifiedError
from airflow_mlpipe.runtime import rank, recorder, run, workers
from airflow_mlpipe.runtime.distribution import RANK_MODULE, WORKERS_MODULE
from airflow_mlpipe.runtime.external import External, OpenUri, TokenNow
from airflow_mlpipe.runtime.layout import StepDirectory
from airflow_mlpipe.runtime.lent import Lent
from airflow_mlpipe.runtime.protocol import to_json
from airflow_mlpipe.runtime.untouched import Signature, changes, is_shared, signature, signatures, signatures_at
from airflow_mlpipe.store import snapshots
from airflow_mlpipe.store.digests import StatIndex, digest_path
from airflow_mlpipe.store.outputs import check, damage, fetch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from airflow_mlpipe.runtime.protocol import InputSpec, StepSpec
    from airflow_mlpipe.store.store import Store


@dataclass(frozen=True)
class Staged:
    """A filled step directory, and what is needed to check it after the command."""

    spec: StepSpec
    directory: StepDirectory
    store: Store
    externals: tuple[External, ...]
    index: StatIndex | None
    before: dict[str, Signature] = field(repr=False)
    lent: tuple[Lent, ...] = field(default=(), repr=False)

    def check_inputs(self) -> None:
        """Make sure that the command left its inputs alone, and that nobody else changed external ones.

        :raises InputModifiedError: if the command wrote into its inputs.
        :raises DataChangedError: if external data is no longer what was bound.
        """
        found = changes(self.before, signatures(self.directory.inputs))
        found += [change for lent in self.lent for change in lent.changes()]
        if found:
            self.discard_damaged()
            raise InputModifiedError(_describe(found))
        for external in self.externals:
            external.check(self.index, thoroughly=external.bound.mode == "direct")

    def discard_damaged(self) -> None:
        """Remove from the store what the command changed in place or through a hard link, so that it is made again.

        However the command ended: what it changed may have the size that it had, and would be taken for whole.
        """
        for lent in self.lent:
            lent.discard_damaged()
        for path, before in self.before.items():
            name, _, rest = path.partition("/")
            stored = _stored(self.store, self.spec.inputs[name])
            if stored is None or self.store.local_root is None or not is_shared(before):
                continue
            place = f"{stored}/{rest}" if rest else stored
            if changes({path: before}, signature(path, self.store.local_root / place)):
                self.store.remove(place)


def prepare(store: Store, spec: StepSpec, root: Path, open_uri: OpenUri, token_now: TokenNow) -> Staged:
    """Fill an empty folder with everything a step needs, and write its ``spec.json`` last.

    :param open_uri: opens external data with the credentials of its datastore.
    :param token_now: returns the version of external data.
    :raises DataChangedError: if external data is no longer what was bound.
    :raises InputLostError: if the output of an earlier step is damaged or gone.
    :raises DataError: if an input is not bound, or cannot be read.
    """
    directory = StepDirectory(root.resolve())
    _make_folders(spec, directory)
    if spec.code is not None:
        snapshots.unpack(store, spec.code, directory.code)
    directory.code.mkdir(exist_ok=True)
    index = StatIndex.open()
    externals = tuple(_stage_inputs(store, spec, directory, open_uri, token_now, index))
    directory.spec.write_bytes(to_json(spec))
    return Staged(
        spec, directory, store, externals, index, signatures(directory.inputs), tuple(_lent(store, spec, index))
    )


def resume(  # noqa: PLR0913 -- as `prepare`, and what was seen then
    store: Store, spec: StepSpec, root: Path, open_uri: OpenUri, token_now: TokenNow, before: dict[str, Signature]
) -> Staged:
    """Return what `prepare` returned to another process, to check the step directory after the command.

    :param before: the signatures of the inputs as they were staged.
    """
    index = StatIndex.open()
    externals = tuple(
        External(name, bound, *open_uri(bound.uri, bound.datastore), token_now)
        for name, bound in spec.inputs.items()
        if bound.uri is not None and _stored(store, bound) is None and not bound.files
    )
    return Staged(spec, StepDirectory(root.resolve()), store, externals, index, before)


def _make_folders(spec: StepSpec, directory: StepDirectory) -> None:
    for folder in (directory.inputs, directory.outputs, directory.home, directory.temporary, directory.python):
        folder.mkdir(parents=True)
    if spec.checkpoint:
        directory.checkpoint.mkdir()
    directory.metrics.touch()
    shutil.copyfile(str(run.__file__), directory.python / "mlpipe.py")
    if spec.distribution is not None:
        for module, name in ((rank, RANK_MODULE), (workers, WORKERS_MODULE)):
            shutil.copyfile(str(module.__file__), directory.python / f"{name}.py")
    if spec.environment.observe:
        shutil.copyfile(str(recorder.__file__), directory.python / "sitecustomize.py")


def _stage_inputs(  # noqa: PLR0913 -- the collaborators of one loop
    store: Store, spec: StepSpec, directory: StepDirectory, open_uri: OpenUri, token_now: TokenNow, index: StatIndex
) -> Iterator[External]:
    for name, bound in spec.inputs.items():
        if bound.uri is None or bound.content is None:
            message = f"input {name!r} is not bound yet: the step {bound.producer} that makes it has to run first"
            raise DataError(message)
        target = directory.inputs / name
        stored = _stored(store, bound)
        with _named(name, bound):
            if bound.files:
                _stage_files(store, name, bound, target, open_uri)
                continue
            if stored is None:
                fs, path = open_uri(bound.uri, bound.datastore)
                external = External(name, bound, fs, path, token_now)
                if bound.mode == "direct":
                    external.check(index)
                else:
                    external.stage(target, index)
                yield external
                continue
            sizes = store.sizes(stored)
            if lost := damage(sizes, bound.content):
                raise _lost(name, bound, stored, lost)
            if bound.mode == "direct":
                continue
            link, full = bound.mode == "mount", store.full(stored)
            copied = fetch(store.fs, full, target, link=link, content=bound.content, sizes=sizes)
            if copied and (lost := check(store, stored, bound.content, target, index)):
                raise _lost(name, bound, stored, lost)


def _stage_files(store: Store, name: str, bound: InputSpec, target: Path, open_uri: OpenUri) -> None:
    """Bring some files of a folder, and see by their bytes that they are what was bound, whatever else lies there."""
    stored = _stored(store, bound)
    fs, path = open_uri(str(bound.uri), bound.datastore) if stored is None else (store.fs, store.full(stored))
    try:
        fetch(fs, path, target, link=bound.mode == "mount", ours=stored is not None, only=bound.files)
        reason = "" if digest_path(target) == bound.content else "the content of its files is not what was recorded"
    except FileNotFoundError as error:
        reason = f"{error.filename or bound.uri} is gone"
    if reason and stored is not None:
        raise _lost(name, bound, stored, reason)
    if reason:
        message = f"input {name!r} changed after the step was planned: {reason} ({bound.uri}); run the pipeline again"
        raise DataChangedError(message)


def _lent(store: Store, spec: StepSpec, index: StatIndex) -> Iterator[Lent]:
    for name, bound in spec.inputs.items():
        if bound.mode == "direct" and store.local_root and bound.content and (stored := _stored(store, bound)):
            place = store.local_root / stored
            yield Lent(name, store, stored, place, bound.content, index, signatures_at(place))


def _lost(name: str, bound: InputSpec, stored: str, reason: str) -> InputLostError:
    message = f"input {name!r} cannot be taken from {bound.uri}: {reason}; clear the task that makes it"
    return InputLostError(message, stored, reason)


def _stored(store: Store, bound: InputSpec) -> str | None:
    """Return where an input lies in the store; None for external data."""
    return store.path_of(bound.uri) if bound.datastore is None and bound.uri is not None else None


@contextmanager
def _named(name: str, bound: InputSpec) -> Iterator[None]:
    try:
        yield
    except (DataChangedError, InputLostError):
        raise
    except (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError) as error:
        message = f"input {name!r} cannot be read from {bound.uri}: {error}; check that it exists and may be read"
        raise DataError(message) from error


def _describe(found: list[str]) -> str:
    shown = ", ".join(found[:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else "")  # noqa: PLR2004
    return f"the command wrote into its inputs: {shown}; copy what you want to change into an output first"
