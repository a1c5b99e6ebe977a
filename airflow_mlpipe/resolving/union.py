"""The outputs of a step's mini-batches as one folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from airflow_mlpipe.exceptions import InputLostError, StepError
from airflow_mlpipe.runtime.protocol import OutputRef
from airflow_mlpipe.store import layout
from airflow_mlpipe.store import outputs as published
from airflow_mlpipe.store.digests import digest_object, digest_path

if TYPE_CHECKING:
    from airflow_mlpipe.planning.trials import Trial
    from airflow_mlpipe.resolving.launched import Launched
    from airflow_mlpipe.resolving.site import Site
    from airflow_mlpipe.resolving.trials import Tried


def unite(site: Site, launched: Launched, tried: Tried, name: str) -> OutputRef:
    """Publish an output of all mini-batches that are known as that of the step.

    :raises StepError: if one is no folder, or two hold a file of one name; it names them.
    :raises InputLostError: if one is damaged or gone.
    """
    store = site.store
    target = layout.output(launched.fingerprint, launched.work, name)
    store.remove(target)  # an earlier go may have left a part of it
    owners: dict[str, Trial] = {}
    for trial in (trial for trial in tried.trials if trial.number in tried.found):
        given = tried.found[trial.number].outputs[name]
        if given.content.kind != "folder":
            message = (
                f"output {name} of {trial} is a file: each mini-batch has to leave a folder, with names of its own"
            )
            raise StepError(message)
        for file in store.sizes(given.path):
            other = owners.setdefault(file, trial)
            if other is not trial:
                message = (
                    f"output {name}: {other} and {trial} both left {file}: name files after those they are made of"
                )
                raise StepError(message)
        lost = published.copy_into(store, given.path, target, given.content)
        if lost is None and store.local_root is not None:
            found = digest_path(store.local_root / given.path, site.index)
            lost = None if found == given.content else "its content is not what was recorded"
        if lost is not None:
            message = f"output {name} of {trial} was lost: {lost}"
            raise InputLostError(message, given.path, lost)
    local = store.local_root is not None
    full = store.full(target)
    return OutputRef(target, digest_path(Path(full), site.index) if local else digest_object(store.fs, full))
