"""Which launcher runs which step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_mlpipe.launchers.docker.launcher import DockerLauncher
from airflow_mlpipe.launchers.kubernetes.launcher import KubernetesLauncher
from airflow_mlpipe.launchers.local import LocalLauncher
from airflow_mlpipe.launchers.transfer import TransferLauncher
from airflow_mlpipe.resolving.environments import interpreter_for
from airflow_mlpipe.resolving.images import check_known

if TYPE_CHECKING:
    from airflow_mlpipe.launchers.base import Launcher
    from airflow_mlpipe.resolving.site import Site
    from airflow_mlpipe.runtime.protocol import StepSpec


def launcher_for(site: Site, spec: StepSpec) -> Launcher:
    """Return the launcher of a step's kind and compute target.

    :raises ImageUnknownError: if it runs in a container whose image is not known; it says why.
    """
    check_known(spec)
    if spec.kind == "data_transfer":
        return TransferLauncher(site)
    if spec.target.get("kind") == "docker":
        return DockerLauncher(site.store, site.open_uri)
    if spec.target.get("kind") == "kubernetes":
        return KubernetesLauncher(site)
    return LocalLauncher(site.store, site.open_uri, lambda given: interpreter_for(given.environment, site.store))
