"""Steps that are made of other steps: the trials of a sweep, the mini-batches of a parallel step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_mlpipe.runtime.protocol import Scalar
    from airflow_mlpipe.store.digests import Content


@dataclass(frozen=True)
class SweepSpec:
    """The trials of a step: it is the best of many steps, which differ in their parameters only.

    ``trials`` holds the parameters of each, ``metric`` and ``goal`` (``maximize`` or ``minimize``) say which is the best.
    All of it counts for reuse. ``max_failed`` is how many trials may fail.
    """

    trials: tuple[Mapping[str, Scalar], ...]
    metric: str
    goal: str
    max_failed: int = 0


@dataclass(frozen=True)
class BatchSpec:
    """Some files of a folder, by relative path, and what a folder with only these is."""

    files: tuple[str, ...]
    content: Content


@dataclass(frozen=True)
class ParallelSpec:
    """The mini-batches of a step: it is many steps, each of which reads some files of the input ``over``.

    ``error_threshold`` is how many of them may fail. ``batches`` is filled in once the files are known; how they were
    dealt out does not count for reuse, but who had which the last time keeps it. ``dealt`` is what the input was then.
    """

    over: str
    mini_batch_size: int
    error_threshold: int = 0
    batches: tuple[BatchSpec, ...] = ()
    dealt: Content | None = None


def load_sweep(data: Mapping[str, Any] | None) -> SweepSpec | None:
    """Return the sweep that `dump` wrote."""
    return SweepSpec(**{**data, "trials": tuple(data["trials"])}) if data else None


def load_parallel(data: Mapping[str, Any] | None) -> ParallelSpec | None:
    """Return the mini-batches that `dump` wrote."""
    if not data:
        return None
    return ParallelSpec(
        **{**data, "batches": load_batches(data.get("batches", ())), "dealt": load_dealt(data.get("dealt"))}
    )


def load_dealt(data: Mapping[str, Any] | None) -> Content | None:
    """Return the content that `dump` wrote."""
    from airflow_mlpipe.store.digests import Content  # noqa: PLC0415 -- see `load_batches`

    return Content(**data) if data else None


def load_batches(data: Any) -> tuple[BatchSpec, ...]:  # noqa: ANN401 -- plain JSON
    """Return the batches that `dump` wrote."""
    from airflow_mlpipe.store.digests import Content  # noqa: PLC0415 -- the supervisor starts without what digests need

    return tuple(BatchSpec(tuple(batch["files"]), Content(**batch["content"])) for batch in data)
