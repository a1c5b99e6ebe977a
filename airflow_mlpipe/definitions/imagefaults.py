"""What of an environment does not fit where its step runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_mlpipe.definitions.compute import DockerCompute, KubernetesCompute, LocalCompute
from airflow_mlpipe.definitions.faults import Fault, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_mlpipe.definitions.compute import AnyCompute
    from airflow_mlpipe.definitions.environment import Environment
    from airflow_mlpipe.definitions.faults import Path


def image_faults(environment: Environment, target: AnyCompute, at: Path, *, registry: bool) -> Iterator[Fault]:
    """Yield what of an environment does not fit a compute target.

    :param at: the path of the step's environment.
    :param registry: whether the workspace says where built images are pushed to.
    """
    if isinstance(target, LocalCompute):
        for fault in environment.local_faults():
            (field,) = fault.path
            message, remedy = f"has {field}, which {fault.message}", "Give requirements, or another compute target"
            yield Fault(at, message, remedy, shown(environment.name or str(field)))
        return
    for fault in environment.container_faults():
        yield Fault((*at, *fault.path), fault.message, fault.remedy, fault.value, at_key=fault.at_key)
    yield from _source_faults(environment, target, at, registry=registry)


def _source_faults(
    environment: Environment, target: DockerCompute | KubernetesCompute, at: Path, *, registry: bool
) -> Iterator[Fault]:
    if environment.build is None and environment.image is None and target.image is None:
        message = f"names no image, and neither does the compute target {target.name}"
        remedy = "Give the environment image or build, or the compute target image"
        yield Fault(at, message, remedy, shown(environment.name) if environment.name else "")
    if not isinstance(target, KubernetesCompute):
        return
    if environment.build is not None and not registry:
        message = "builds an image that no cluster can pull"
        yield Fault(at, message, "Give the workspace registry: <registry>/<team>", shown(environment.build.base))
    if environment.image is not None and environment.image.startswith("sha256:"):
        message = "is the id of an image in an engine, which a cluster cannot pull"
        yield Fault((*at, "image"), message, "Name it by its registry", shown(environment.image))
