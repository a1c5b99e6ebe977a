"""Mirrors a file or a folder from one filesystem to another: streamed, in parallel, restartable, verified by digest.

Nothing is synced to the disk: after a loss of power, what had not reached it is short or missing, and is sent again.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_mlpipe.exceptions import DataChangedError, DataError, MlpipeError
from airflow_mlpipe.store.attempts import retried
from airflow_mlpipe.store.digests import content_of
from airflow_mlpipe.store.sides import Side, refuse_overlap
from airflow_mlpipe.store.streaming import Stream

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fsspec import AbstractFileSystem

    from airflow_mlpipe.store.digests import Content, StatIndex

_THREADS = 8


@dataclass(frozen=True)
class Mirrored:
    """What a transfer left: the content of the destination, and how much of it had to be sent (files, bytes)."""

    content: Content
    sent_files: int
    sent_bytes: int


def mirror(  # noqa: PLR0913 -- two places, and what is known of the first
    source_fs: AbstractFileSystem,
    source: str,
    target_fs: AbstractFileSystem,
    target: str,
    expected: Content | None = None,
    *,
    index: StatIndex | None = None,
    say: Callable[[str], None] = lambda _: None,
    stopped: Callable[[], bool] = lambda: False,
) -> Mirrored:
    """Make a destination hold what a source holds, and nothing else.

    Files that are there already and equal are not sent again, so a transfer that was broken off goes on where it was.
    Each file appears whole or not at all. Links inside the destination are removed, never followed.

    :param expected: what the source was bound as; a source that is something else by now is refused.
    :param stopped: asked between two blocks; where it says so, the transfer ends with an error.
    :raises DataChangedError: if the source is not what was expected, or changes meanwhile.
    :raises DataError: if the source is missing, either side cannot be read or written, one lies inside the other, or
        a file arrived different from what was sent.
    """
    here, there = Side(source_fs, source), Side(target_fs, target)
    try:
        refuse_overlap(here, there, f"the source {here}", str(there))
        with ThreadPoolExecutor(_THREADS) as pool:
            mirrored = _mirror(here, there, index, pool, say, stopped)
    except DataChangedError:
        raise
    except Exception as error:  # each filesystem has errors of its own
        reason = str(error) if isinstance(error, MlpipeError) else f"{type(error).__name__}: {error}"
        message = f"cannot copy {here} to {there}: {reason}"
        raise DataError(message) from error
    if expected and expected.digest.startswith("sha256:") and mirrored.content.digest != expected.digest:
        message = f"{here} has changed since the step was bound; run the step again"
        raise DataChangedError(message)
    return mirrored


def _mirror(  # noqa: PLR0913 -- see above
    source: Side,
    target: Side,
    index: StatIndex | None,
    pool: ThreadPoolExecutor,
    say: Callable[[str], None],
    stopped: Callable[[], bool],
) -> Mirrored:
    files, present = source.files(), target.present()
    list(pool.map(target.remove, sorted(present.keys() - files.keys())))
    same = _same(source, target, index, pool, {path for path, size in files.items() if present.get(path) == size})
    missing = [path for path in files if path not in same]
    say(f"{len(same)} of {len(files)} files are there already")
    stream = Stream(source, target, stopped)
    sent = pool.map(lambda path: retried(lambda: stream.send(path, files[path])), missing)
    digests = {**same, **dict(zip(missing, stream.or_end(sent), strict=True))}
    if not files:
        target.make_folder()
    return Mirrored(content_of(digests, sum(files.values())), len(missing), sum(files[path] for path in missing))


def _same(
    source: Side, target: Side, index: StatIndex | None, pool: ThreadPoolExecutor, paths: set[str]
) -> Mapping[str, str]:
    """Return the files, of some that have the same size at both ends, that are equal, with their digests."""
    ordered = sorted(paths)
    ours = source.digests([source.found_at(path) for path in ordered], index, pool)
    theirs = target.digests([target.at(path) for path in ordered], index, pool)
    return {path: mine for path, mine, other in zip(ordered, ours, theirs, strict=True) if mine == other}
