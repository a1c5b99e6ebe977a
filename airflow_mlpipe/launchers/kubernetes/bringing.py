"""Inputs that lie on the worker's own disk, where no pod reaches them: they go through the store, beside the spec."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_mlpipe.exceptions import DataError
from airflow_mlpipe.runtime.external import External
from airflow_mlpipe.store import layout
from airflow_mlpipe.store.outputs import verify
from airflow_mlpipe.store.tokens import token_now
from airflow_mlpipe.store.tree import files_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from airflow_mlpipe.launchers.kubernetes.identity import PodIdentity
    from airflow_mlpipe.resolving.site import Site
    from airflow_mlpipe.runtime.protocol import InputSpec, StepSpec
    from airflow_mlpipe.store.store import Store

_THREADS = 8


def within_reach(
    site: Site, spec: StepSpec, identity: PodIdentity, mounted: Collection[str], say: Callable[[str], None]
) -> StepSpec:
    """Put the inputs that lie on this machine into the store, under the claim; return the step that takes them there.

    What was brought already is not brought again.

    :param mounted: the names of the inputs that the pod finds in a volume.
    :raises DataChangedError: if one is no longer what was bound.
    :raises DataError: if one is to be used where it is, or cannot be read.
    """
    local = {name: bound for name, bound in spec.inputs.items() if name not in mounted and _is_here(site.store, bound)}
    return spec.with_inputs({name: _bring(site, identity, name, bound, say) for name, bound in local.items()})


def forget(store: Store, spec: StepSpec, identity: PodIdentity) -> None:
    """Remove what was brought for a pod that needs it no more."""
    if any(_is_here(store, bound) for bound in spec.inputs.values()):
        store.remove(layout.brought_inputs(identity.fingerprint, identity.claim))


def _is_here(store: Store, bound: InputSpec) -> bool:
    ours = bound.datastore is None and bound.uri is not None and store.path_of(bound.uri) is not None
    return bool(bound.uri and bound.uri.startswith("file:")) and not ours


def _bring(site: Site, identity: PodIdentity, name: str, bound: InputSpec, say: Callable[[str], None]) -> InputSpec:
    if bound.content is None or bound.uri is None or bound.mode == "direct":
        message = (
            f"input {name!r} is {bound.uri}, which lies on this machine, where no pod reaches it; "
            "use mode mount or download, with which it is brought there"
        )
        raise DataError(message)
    target = layout.brought_input(identity.fingerprint, identity.claim, name)
    if verify(site.store, target, bound.content) is not None:
        external = External(name, bound, *site.open_uri(bound.uri, bound.datastore), token_now)
        site.store.remove(target)
        if bound.files:  # some of a folder, whose bytes are looked at where they arrive
            _upload(site.store, external.path, target, bound.files)
        else:
            external.check(site.index)
            _upload(site.store, external.path, target)
            external.check(site.index)  # unchanged from before to after, so what was brought is it
        say(
            f"brought the input {name} ({bound.content.files} files, {bound.content.size} bytes) from here to the store"
        )
    return replace(bound, uri=site.store.uri(target), datastore=None, token=None)


def _upload(store: Store, path: str, target: str, only: Collection[str] = ()) -> None:
    files = {name: file for name, file in files_of(path).items() if not only or name in only}
    with ThreadPoolExecutor(_THREADS) as pool:
        places = ((Path(file.path), f"{target}/{name}" if name else target) for name, file in files.items())
        for done in [pool.submit(store.upload, *place) for place in places]:
            done.result()
