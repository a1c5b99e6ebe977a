"""`DockerCompute`: containers of a Docker engine."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, StrictBool, StrictInt

from airflow_mlpipe.definitions.amounts import Cpus, Memory
from airflow_mlpipe.definitions.base import Definition
from airflow_mlpipe.definitions.faults import Fault, refuse, shown
from airflow_mlpipe.definitions.imagebuild import image_remedy

if TYPE_CHECKING:
    from collections.abc import Iterable

STEP_FOLDER = "/mlpipe"
"""Where the step directory lies in a container."""

_ENGINE = re.compile(r"(unix:///|tcp://[^/]+|https?://[^/]+|ssh://[^/]+)")
_MOUNT_REMEDY = "Write source:target, source:target:rw, or a mapping with source and target"
_MODES = {"ro": True, "rw": False}


class DockerTls(Definition):
    """How an engine behind TLS is spoken to: files on the worker, or an Airflow connection that holds them."""

    ca: str | None = None
    """The certificate of the authority, a file; relative to the folder of the workspace."""
    cert: str | None = None
    """The client's certificate, a file; relative to the folder of the workspace."""
    key: str | None = None
    """The client's key, a file; relative to the folder of the workspace."""
    verify: StrictBool = True
    """Whether the engine must show a certificate of that authority."""
    connection: str | None = None
    """The id of an Airflow connection whose extra holds the texts `ca`, `cert` and `key`, instead of files."""

    def wrong(self) -> Iterable[Fault]:
        """Return what is wrong beyond the single fields."""
        files = [name for name in ("ca", "cert", "key") if getattr(self, name) is not None]
        if self.connection is not None and files:
            return [Fault((files[0],), "is given beside a connection, which holds it", "Keep one", at_key=True)]
        if (self.cert is None) != (self.key is None):
            lone, missing = ("cert", "key") if self.key is None else ("key", "cert")
            return [Fault((lone,), f"is given without {missing}", f"Give {missing}, too", at_key=True)]
        return []

    def placed(self, folder: Path) -> DockerTls:
        """Return the same with absolute paths."""
        files = {name: getattr(self, name) for name in ("ca", "cert", "key")}
        return self.model_copy(update={name: _absolute(file, folder) for name, file in files.items() if file})


class DockerMount(Definition):
    """Something of the engine's machine that a container sees beside its step directory."""

    source: str
    """A folder or file of the engine's machine, as an absolute path, or the name of a volume."""
    target: str
    """Where the container sees it, an absolute path."""
    read_only: StrictBool = True
    """Whether the container may not write there."""

    @classmethod
    def normalised(cls, data: Any) -> Any:  # noqa: ANN401 -- whatever a user wrote
        """Allow `source:target` and `source:target:rw`."""
        if not isinstance(data, str):
            return data
        source, _, rest = data.partition(":")
        target, _, mode = rest.partition(":")
        if not source or not target or mode not in {"", *_MODES}:
            message = "is no mount"
            raise refuse(message, _MOUNT_REMEDY, data)
        return {"source": source, "target": target, "read_only": _MODES.get(mode, True)}

    def wrong(self) -> Iterable[Fault]:
        """Return what is wrong beyond the single fields."""
        if "/" in self.source and not self.source.startswith("/"):
            remedy = "Give an absolute path, or the name of a volume"
            yield Fault(("source",), "is relative, to a machine that may be another", remedy, shown(self.source))
        yield from target_faults(self.target, ("target",))

    @property
    def kind(self) -> Literal["bind", "volume"]:
        """What the source is: a path of the engine's machine, or a volume."""
        return "bind" if self.source.startswith("/") else "volume"


def target_faults(path: str, at: tuple[str, ...]) -> Iterable[Fault]:
    """Yield what makes a path no place for a mount: relative, or in the step directory."""
    if not path.startswith("/"):
        yield Fault(at, "must be an absolute path", "Begin it with /", shown(path))
    elif PurePosixPath(path).is_relative_to(STEP_FOLDER) or PurePosixPath(path) == PurePosixPath("/"):
        yield Fault(at, "lies where the step directory is", f"Choose a path outside {STEP_FOLDER}", shown(path))


def _gpus(value: object) -> object:
    """Take a number, `all`, or a list of the devices' ids."""
    match value:
        case "all" | None:
            return value
        case bool():
            pass
        case int() if value >= 0:
            return int(value)
        case list() | tuple() if value and all(isinstance(item, str | int) for item in value):
            return tuple(str(getattr(item, "text", item)) for item in value)
    message = "must be a number of GPUs, all, or a list of the ids of devices"
    raise refuse(message, 'Write gpus: 1, gpus: all or gpus: ["0", "1"]', value)


Gpus = Annotated[
    StrictInt | Literal["all"] | tuple[str, ...] | None,
    BeforeValidator(_gpus, json_schema_input_type=int | Literal["all"] | list[str | int] | None),
]


def _mounts(value: object) -> object:
    """Leave it to `DockerMount` to read what a user wrote; editors must know that it may be a text."""
    return value


class DockerCompute(Definition):
    """A container of a Docker engine."""

    named_by: ClassVar[str | None] = "name"

    name: str | None = None
    """Given by the key in the workspace file."""
    kind: Literal["docker"] = "docker"
    environment: str | None = None
    """The name of the environment of steps that run here, where neither step nor pipeline names one."""
    connection: str | None = None
    """The id of the Airflow connection (of type docker) with the login of the registry, for images whose environment names no `registry`."""
    host: str | None = None
    """The engine, for example `tcp://build:2376`; the worker's own where it is not given."""
    tls: DockerTls | None = None
    """How an engine behind TLS is spoken to."""
    image: str | None = None
    """For steps whose environment names none."""
    pull: Literal["always", "missing", "never"] = "missing"
    """When the image is fetched: each time, where the engine does not have it, or never."""
    staging: Literal["auto", "mount", "copy"] = "auto"
    """How the step directory reaches the container: mounted where engine and worker share their files (auto finds out), or copied through the engine."""
    network: str | None = None
    """The network of the container: its name, `host` or `none`; the engine's default where it is not given."""
    cpus: Cpus | None = None
    """The most processors it may use, for example `1.5`."""
    memory: Memory | None = None
    """The most memory it may use, for example `4Gi`; it is killed beyond."""
    shm_size: Memory | None = None
    """The size of `/dev/shm`, which data loaders of several processes need; 64Mi where it is not given."""
    gpus: Gpus = None
    """How many GPUs the container gets, `all`, or a list of the ids of devices."""
    user: str | None = None
    """Whom the command runs as, `uid` or `uid:gid`; the worker's own where it is not given, so that its files are the worker's."""
    mounts: Annotated[
        tuple[DockerMount, ...], BeforeValidator(_mounts, json_schema_input_type=list[DockerMount | str])
    ] = ()
    """What else the container sees of the engine's machine: `source:target`, read-only unless it says `:rw`."""
    description: str = ""

    @classmethod
    def normalised(cls, data: Any) -> Any:  # noqa: ANN401 -- whatever a user wrote
        """Allow a number as the user."""
        if isinstance(data, dict) and isinstance(data.get("user"), int) and not isinstance(data["user"], bool):
            return {**data, "user": str(data["user"])}
        return data

    def wrong(self) -> Iterable[Fault]:
        """Return what is wrong beyond the single fields."""
        if self.host is not None and not _ENGINE.match(self.host):
            remedy = "Write unix:///var/run/docker.sock, tcp://<host>:2376 or ssh://<user>@<host>"
            yield Fault(("host",), "is no address of an engine", remedy, shown(self.host))
        if self.image is not None and (remedy := image_remedy(self.image)):
            yield Fault(("image",), "is no name of an image", remedy, shown(self.image))
        if self.user is not None and not re.fullmatch(r"[\w.-]+(:[\w.-]+)?", self.user):
            yield Fault(("user",), "names no user", "Write uid or uid:gid, for example 1000:1000", shown(self.user))
        seen: set[str] = set()
        for index, mount in enumerate(self.mounts):
            if mount.target in seen:
                path = ("mounts", index, "target")
                yield Fault(path, "is the target of another mount, too", "Give each its own", shown(mount.target))
            seen.add(mount.target)

    def placed(self, folder: Path) -> DockerCompute:
        """Return the same with absolute paths, given the folder of the workspace."""
        return self if self.tls is None else self.model_copy(update={"tls": self.tls.placed(folder)})


def _absolute(file: str, folder: Path) -> str:
    return str((folder / Path(file).expanduser()).absolute())
