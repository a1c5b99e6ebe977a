"""Which launcher runs which step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_mlpipe.launchers.local import LocalLauncher
from airflow_mlpipe.launchers.transfer import TransferLauncher
from airflow_mlpipe.resolving.environments import interpreter_for

if TYPE_CHECKING:
    from airflow_mlpipe.launchers.base import Launcher
    from airflow_mlpipe.resolving.site import Site
    from airflow_mlpipe.runtime.protocol import StepSpec


def launcher_for(site: Site, spec: StepSpec) -> Launcher:
    """Return the launcher of a step's kind and compute target."""
    if spec.kind == "data_transfer":
        return TransferLauncher(site)
    return LocalLauncher(site.store, site.open_uri, lambda given: interpreter_for(given.environment, site.store))
