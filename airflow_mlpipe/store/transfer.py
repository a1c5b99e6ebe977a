"""Mirrors a file or a folder from one filesystem to another: streamed, in parallel, restartable, verified by digest.

Nothing is synced to the disk: after a loss of power, what had not reached it is short or missing, and is sent again.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow_mlpipe.exceptions import DataChangedError, DataError, MlpipeError
from airflow_mlpipe.store.attempts import retried, without_password
from airflow_mlpipe.store.digests import content_of
from airflow_mlpipe.store.sides import Side, refuse_overlap
from airflow_mlpipe.store.streaming import Stream, is_part

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fsspec import AbstractFileSystem

    from airflow_mlpipe.store.digests import Content, StatIndex

_THREADS = 8


@dataclass(frozen=True)
class Mirrored:
    """What a transfer left: the content of the destination, and how much of it had to be sent (files, bytes).

    ``files`` holds the digest of each file by relative path.
    """

    content: Content
    sent_files: int
    sent_bytes: int
    files: Mapping[str, str] = field(default_factory=dict, repr=False)


def mirror(  # noqa: PLR0913 -- two places, and what is known of the first
    source_fs: AbstractFileSystem,
    source: str,
    target_fs: AbstractFileSystem,
    target: str,
    expected: Content | None = None,
    *,
    ours: Mapping[str, str] | None = None,
    index: StatIndex | None = None,
    say: Callable[[str], None] = lambda _: None,
    stopped: Callable[[], bool] = lambda: False,
) -> Mirrored:
    """Make a destination hold what a source holds, and nothing else.

    Files that are there already and equal are not sent again, so a transfer that was broken off goes on where it was.
    Each file appears whole or not at all. Links inside the destination are removed, never followed. A file never takes
    the place of a folder that holds anything.

    :param expected: what the source was bound as; a source that is something else by now is refused.
    :param ours: the digests of the files at the destination that may be removed, by relative path; where something
        else would have to be removed, the destination is refused. Without it everything may be.
    :param stopped: asked between two blocks; where it says so, the transfer ends with an error.
    :raises DataChangedError: if the source is not what was expected, or changes meanwhile.
    :raises DataError: if the source is missing, either side cannot be read or written, one lies inside the other, what
        the destination holds must stay, or a file arrived different from what was sent.
    """
    here, there = Side(source_fs, source), Side(target_fs, target)
    try:
        refuse_overlap(here, there, f"the source {here}", str(there))
        with ThreadPoolExecutor(_THREADS) as pool:
            mirrored = _mirror(here, there, ours, index, pool, say, stopped)
    except DataChangedError:
        raise
    except Exception as error:  # each filesystem has errors of its own
        reason = str(error) if isinstance(error, MlpipeError) else f"{type(error).__name__}: {error}"
        message = without_password(f"cannot copy {here} to {there}: {reason}")
        raise DataError(message) from error
    if expected and expected.digest.startswith("sha256:") and mirrored.content.digest != expected.digest:
        message = f"{here} has changed since the step was bound; run the step again"
        raise DataChangedError(message)
    return mirrored


def _mirror(  # noqa: PLR0913 -- see above
    source: Side,
    target: Side,
    ours: Mapping[str, str] | None,
    index: StatIndex | None,
    pool: ThreadPoolExecutor,
    say: Callable[[str], None],
    stopped: Callable[[], bool],
) -> Mirrored:
    files, present = source.files(), target.present()
    others = sorted(present.keys() - files.keys())
    _refuse_folder(source, target, files, others)
    if ours is not None:
        _refuse_foreign(target, {path: present[path] for path in others}, ours, index, pool)
    list(pool.map(target.remove, others))
    same = _same(source, target, index, pool, {path for path, size in files.items() if present.get(path) == size})
    missing = [path for path in files if path not in same]
    say(f"{len(same)} of {len(files)} files are there already")
    stream = Stream(source, target, stopped)
    sent = pool.map(lambda path: retried(lambda: stream.send(path, files[path])), missing)
    digests = {**same, **dict(zip(missing, stream.or_end(sent), strict=True))}
    if not files:
        target.make_folder()
    sent_bytes = sum(files[path] for path in missing)
    return Mirrored(content_of(digests, sum(files.values())), len(missing), sent_bytes, digests)


def _refuse_folder(source: Side, target: Side, files: Mapping[str, int], others: list[str]) -> None:
    """Refuse that a single file takes the place of a folder that holds something: its name was left out."""
    held = next((path for path in others if not is_part(path)), None)
    if files.keys() == {""} and held is not None:
        message = f"the destination is a folder, which holds {held!r}; name the file: {target}/{source.name}"
        raise DataError(message)


def _refuse_foreign(
    target: Side, others: Mapping[str, int], ours: Mapping[str, str], index: StatIndex | None, pool: ThreadPoolExecutor
) -> None:
    """Refuse that files are removed that are not as they were put there."""
    known = [path for path, size in others.items() if path in ours and size >= 0]
    digests = dict(zip(known, target.digests([target.at(path) for path in known], index, pool), strict=True))
    foreign = [path for path in others if not is_part(path) and digests.get(path) != ours.get(path, "")]
    if foreign:
        what = repr(foreign[0]) if foreign[0] else "a file"
        more = f" and {len(foreign) - 1} more" if len(foreign) > 1 else ""
        message = f"the destination holds {what}{more}, which no earlier copy of this output left there: "
        message += "move that away, or choose another destination"
        raise DataError(message)


def _same(
    source: Side, target: Side, index: StatIndex | None, pool: ThreadPoolExecutor, paths: set[str]
) -> Mapping[str, str]:
    """Return the files, of some that have the same size at both ends, that are equal, with their digests."""
    ordered = sorted(paths)
    ours = source.digests([source.found_at(path) for path in ordered], index, pool)
    theirs = target.digests([target.at(path) for path in ordered], index, pool)
    return {path: mine for path, mine, other in zip(ordered, ours, theirs, strict=True) if mine == other}
