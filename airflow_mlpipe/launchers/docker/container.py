"""What a container is made from: a step and its compute target, as arguments of the provider's DockerOperator.

Nothing here asks an engine.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.definitions.amounts import memory_bytes
from airflow_mlpipe.exceptions import DataError, StepError
from airflow_mlpipe.launchers.docker.guard import CLAIM
from airflow_mlpipe.runtime import command
from airflow_mlpipe.runtime.distribution import command_line
from airflow_mlpipe.runtime.layout import StepDirectory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from airflow_mlpipe.definitions import DockerCompute
    from airflow_mlpipe.runtime.protocol import StepSpec

INSIDE = StepDirectory(Path("/mlpipe"))
"""The step directory as a container sees it."""

_ROOTLESS = "name=rootless"
_LOG_SIZE = "10m"
"""How much of what a command prints the engine keeps: none of it is read there."""


@dataclass(frozen=True)
class Container:
    """One container to be run. ``mounted`` says that it sees the step directory of the worker itself."""

    spec: StepSpec
    target: DockerCompute
    name: str
    claim: str
    user: str
    mounted: bool

    @property
    def image(self) -> str:
        """The image, pinned."""
        return str(self.spec.environment.image)

    def arguments(self, directory: StepDirectory, secrets: Mapping[str, str]) -> dict[str, Any]:
        """Return what the operator takes.

        The command takes the place of the image's entrypoint, as in a pod. What the operator cannot say is in `limits`.

        :raises CommandFailedError: if the step has no command.
        """
        argv = command_line(self.spec, INSIDE.places(self.spec))
        return {
            "image": self.image,
            "entrypoint": argv[:1],
            "command": argv[1:],
            "container_name": self.name,
            "environment": variables(self.spec),
            "private_environment": dict(secrets),
            "working_dir": str(INSIDE.code),
            "user": self.user,
            "mounts": [*self._own_mounts(directory), *self._extra_mounts()],
            "mount_tmp_dir": False,
            "network_mode": self.target.network,
            "mem_limit": _bytes(self.target.memory),
            "shm_size": _bytes(self.target.shm_size),
            "device_requests": self._devices(),
            "labels": {CLAIM: self.claim, "mlpipe.pipeline": self.spec.pipeline, "mlpipe.step": self.spec.step},
            "force_pull": self.pulls(),
            "auto_remove": "never",  # its state is looked at first
            "log_opts_max_size": _LOG_SIZE,
            "log_opts_max_file": "1",
            "do_xcom_push": False,
        }

    def pulls(self) -> bool:
        """Say whether the image is fetched although the engine may have it."""
        return self.target.pull == "always" and not is_engine_id(self.image)

    def may_be_mounted(self) -> bool:
        """Say whether what the container writes into a folder of the worker would be the worker's in the end.

        :raises StepError: if it would not, and has to be mounted.
        """
        if self.target.staging == "copy":
            return False
        given = numbers(self.user)
        mine = self.target.user is None or (given and (os.geteuid() == 0 or given == (os.getuid(), os.getgid())))
        if not mine and self.target.staging == "mount":
            message = (
                f"user {self.target.user!r} is not the worker's, so neither would be what it writes into a mounted folder; "
                "leave out user, or staging: mount"
            )
            raise StepError(message)
        return bool(mine)

    def limits(self) -> dict[str, Any]:
        """Return what a host configuration says beyond that: the operator's own ``cpus`` is only a weight."""
        limits: dict[str, Any] = {}
        if self.target.cpus is not None:
            limits["nano_cpus"] = round(self.target.cpus * 1e9)
        if self.target.memory is not None:
            limits["memswap_limit"] = _bytes(self.target.memory)  # or as much again is swapped out
        return limits

    def _own_mounts(self, directory: StepDirectory) -> list[dict[str, Any]]:
        if not self.mounted:  # a volume also takes files where the image's own are read-only
            return [{"target": str(INSIDE.root), "source": None, "type": "volume"}]
        inputs = {"target": str(INSIDE.inputs), "source": str(directory.inputs), "type": "bind", "read_only": True}
        root = {"target": str(INSIDE.root), "source": str(directory.root), "type": "bind"}
        return [root, inputs, *self._lent_mounts()]

    def _lent_mounts(self) -> list[dict[str, Any]]:
        places = dict.fromkeys(filter(None, map(_local_path, _direct(self.spec))))
        return [{"target": place, "source": place, "type": "bind", "read_only": True} for place in places]

    def _extra_mounts(self) -> list[dict[str, Any]]:
        return [
            {"target": mount.target, "source": mount.source, "type": mount.kind, "read_only": mount.read_only}
            for mount in self.target.mounts
        ]

    def _devices(self) -> list[dict[str, Any]] | None:
        match self.target.gpus:
            case None | 0:
                return None
            case "all":
                which: dict[str, Any] = {"count": -1}
            case int(count):
                which = {"count": count}
            case devices:
                which = {"device_ids": list(devices)}
        return [{**which, "capabilities": [["gpu"]]}]


def variables(spec: StepSpec) -> dict[str, str]:
    """Return the variables of a container's command beside those of its image, whose PATH is its own."""
    given = command.environment(spec, INSIDE, {})
    for name in ("PATH", "PYTHONUSERBASE"):  # of the worker
        if name not in spec.environment.variables:
            given.pop(name, None)
    return given


def beside(spec: StepSpec, given: Mapping[str, str], image: Iterable[str]) -> dict[str, str]:
    """Return variables with the image's own PYTHONPATH at the end of ours, unless the step declares another.

    :param image: its variables, as ``NAME=value``.
    """
    own = dict(variable.partition("=")[::2] for variable in image).get("PYTHONPATH")
    if not own or "PYTHONPATH" in spec.environment.variables:
        return dict(given)
    return {**given, "PYTHONPATH": f"{given['PYTHONPATH']}:{own}"}


def check_direct(spec: StepSpec) -> None:
    """Make sure that a container whose engine does not see the worker's files has no input that is one.

    :raises DataError: if it has.
    """
    for uri in _direct(spec):
        if path := _local_path(uri):
            message = f"the container does not see {path}, which is on the worker; use mode mount or download for it"
            raise DataError(message)


def is_engine_id(image: str) -> bool:
    """Say whether an image is known by the id that an engine gave it; no registry knows that."""
    return image.startswith("sha256:")


def user_of(target: DockerCompute, info: Callable[[], Mapping[str, Any]]) -> str:
    """Return whom a command runs as: the user of the target, or else this process's, so that its files are.

    :param info: asks the engine about itself; in one that runs without root, root in a container is its own user.
    """
    if target.user is not None:
        return target.user
    if os.geteuid() != 0 and any(_ROOTLESS in option for option in info().get("SecurityOptions") or ()):
        return "0:0"
    return f"{os.getuid()}:{os.getgid()}"


def numbers(user: str) -> tuple[int, int] | None:
    """Return the numbers of a user and its group; None if only the image knows them."""
    uid, _, gid = user.partition(":")
    if uid.isdecimal() and (gid.isdecimal() or not gid):
        return int(uid), int(gid or 0)
    return None


def _direct(spec: StepSpec) -> list[str]:
    return [bound.uri for bound in spec.inputs.values() if bound.mode == "direct" and bound.uri is not None]


def _local_path(uri: str) -> str | None:
    """Return the path of a URI as filesystems read it, who decode nothing; None for what is elsewhere."""
    scheme, separator, path = uri.partition("://")
    if not separator:
        return uri
    return path if scheme in {"file", "local"} else None


def _bytes(amount: str | None) -> int | None:
    return None if amount is None else memory_bytes(amount)
