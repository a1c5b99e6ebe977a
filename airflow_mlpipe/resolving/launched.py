"""What somebody began who has left it: complete results that were not recorded, and work that goes on without a worker."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_mlpipe.exceptions import RecordFormatError
from airflow_mlpipe.runtime.protocol import StepSpec, dump, load_spec
from airflow_mlpipe.runtime.results import read_result
from airflow_mlpipe.store import layout
from airflow_mlpipe.store.entries import Log
from airflow_mlpipe.store.outputs import verify_all

if TYPE_CHECKING:
    from airflow_mlpipe.runtime.protocol import OutputRef, StepResult
    from airflow_mlpipe.store.owner import Owner
    from airflow_mlpipe.store.store import Store


@dataclass(frozen=True)
class Launched:
    """What a step of a run has launched on a target where it goes on without the worker.

    ``claim`` is the claim that is held meanwhile, empty where none is; ``work`` the one under which it was begun, which
    is another one's where this step took over what that one had begun.
    """

    fingerprint: str
    claim: str
    work: str
    spec: StepSpec
    plan: str = ""
    regenerate: bool = False
    allow_reuse: bool = True

    def write(self, store: Store, owner: Owner) -> None:
        """Keep it for whoever comes back to it."""
        data = {**vars(self), "spec": dump(self.spec)}
        store.write(_path(owner), json.dumps(data, ensure_ascii=False, allow_nan=False, sort_keys=True).encode())

    @classmethod
    def read(cls, store: Store, owner: Owner) -> Launched | None:
        """Return what a step has launched last; None where nothing is known.

        :raises RecordFormatError: if that is damaged, or a newer version wrote it.
        """
        try:
            data = store.read_json(_path(owner))
        except FileNotFoundError:
            return None
        try:
            return cls(**{**data, "spec": load_spec(data["spec"])})
        except (TypeError, KeyError, AttributeError) as error:
            message = f"{store.uri(_path(owner))} is damaged ({error!r}); remove it, then run again"
            raise RecordFormatError(message) from error


def _path(owner: Owner) -> str:
    return layout.launched(owner.pipeline, owner.run, owner.step)


def complete_result(store: Store, spec: StepSpec, fingerprint: str, claim: str) -> StepResult | None:
    """Return the result that was published under a claim, if the step succeeded and all its outputs are there.

    As for every reuse, one listing tells that: files and bytes; digests are in the result.
    """
    if spec.kind == "data_transfer":  # what it made lies at its destination
        return None
    result = read_result(store, fingerprint, claim)
    if result is None or result.error is not None or result.exit_code != 0:
        return None
    outputs = result.outputs
    if outputs.keys() != spec.outputs.keys() or not all(
        _is_own(output, layout.output(fingerprint, claim, name))
        and spec.outputs[name].kind in (None, output.content.kind)
        for name, output in outputs.items()
    ):
        return None
    damage = verify_all(store, {output.path: output.content for output in outputs.values()})
    return None if any(damage.values()) else result


def discard(store: Store, fingerprint: str, claim: str) -> None:
    """Remove what was published under a claim that was lost, unless somebody has recorded it or may do so just now.

    The result goes first: whoever claims the fingerprint from then on finds nothing to record.
    """
    if Log.read(store, fingerprint).holder is not None:  # it may have found the result; retention looks later
        return
    store.remove(layout.result(fingerprint, claim))
    log = Log.read(store, fingerprint)
    if log.holder is None and log.record_of(claim) is None:
        store.remove(layout.outputs(fingerprint, claim))


def _is_own(output: OutputRef, path: str) -> bool:
    return output.path == path and output.token is None
