"""Data: where it lies (`Datastore`), what a step reads (`DataReference`) and what it leaves (`PipelineData`)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, Literal, TypeAlias, TypeVar

from pydantic import BeforeValidator, PrivateAttr

from airflow_mlpipe.definitions.base import Definition, build
from airflow_mlpipe.definitions.expressions import VALUES, Ref, misplaced, parse, substitute
from airflow_mlpipe.definitions.faults import Fault, Refused, refuse, shown
from airflow_mlpipe.definitions.parameter import PipelineParameter, TakesParameters
from airflow_mlpipe.definitions.values import PortName, climbs, is_empty
from airflow_mlpipe.store.attempts import ELSEWHERE, without_password

Mode: TypeAlias = Literal["mount", "download", "direct"]
Compare: TypeAlias = Literal["content", "version", "path"]

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")

P = TypeVar("P", bound="Place")


class Datastore(Definition):
    """A named storage root: a URL, and the Airflow connection that opens it."""

    named_by: ClassVar[str | None] = "name"

    name: str | None = None
    """Given by the key in the workspace file."""
    url: str
    """Any fsspec URL (`s3://bucket/folder`), or a path; a relative one starts at the workspace file's folder."""
    connection: str | None = None
    """The id of the Airflow connection with the credentials."""
    description: str = ""

    @classmethod
    def normalised(cls, data: Any) -> Any:  # noqa: ANN401 -- whatever a user wrote
        """Allow a URL alone."""
        return {"url": data} if isinstance(data, str) else data

    def wrong(self) -> Iterable[Fault]:
        """Return what is wrong beyond the single fields."""
        return _credentials("url", self.url)


def _credentials(field: str, text: str) -> list[Fault]:
    """Refuse a password, or a signature in a query: it would be written into plans, records and logs."""
    try:
        plain = substitute(text, lambda _: "x")
    except Refused:  # which is said where expressions are checked
        plain = text
    if without_password(plain) == plain:
        return []
    remedy = ELSEWHERE[0].upper() + ELSEWHERE[1:]
    return [Fault((field,), "holds a password or a signature", remedy, shown(without_password(plain)))]


def _datastore_name(value: object) -> object:
    if isinstance(value, Datastore):
        if value.name is None:
            message = "this Datastore has no name"
            raise refuse(message, "Give the name that the workspace file gives it", value.url)
        return value.name
    return value


DatastoreName = Annotated[str, BeforeValidator(_datastore_name)]


class Place(TakesParameters):
    """Where data lies outside the store: ``datastore`` and ``path``, or ``url``, or ``path`` alone."""

    datastore: DatastoreName | None = None
    """The name of a datastore of the workspace."""
    path: str | None = None
    """Relative to the datastore; without one, to the folder of the definition. May hold `${{ parameters.x }}` and `${{ run.x }}`."""
    url: str | None = None
    """Any fsspec URL, in place of datastore and path. May hold `${{ parameters.x }}` and `${{ run.x }}`."""

    @classmethod
    def normalised(cls, data: Any) -> Any:  # noqa: ANN401 -- whatever a user wrote
        """Allow a URL or a path alone."""
        if isinstance(data, str):
            return {"url": data} if _URL.match(data) else {"path": data}
        return data

    def wrong(self) -> Iterable[Fault]:
        """Return what is wrong beyond the single fields."""
        secret = [fault for field, text in self.texts() for fault in _credentials(field, text)]
        return secret or [*self._which(), *self._path_faults()]

    def _which(self) -> list[Fault]:
        if self.url is not None and (self.path is not None or self.datastore is not None):
            return [Fault(("url",), "stands beside datastore or path", "Give a url alone, or datastore and path")]
        if self.url is None and self.path is None and self.datastore is None:
            remedy = "Give datastore and path, or url, or path"
            return [Fault((), "says nowhere where the data lies", remedy, of_all=True)]
        if self.url is not None and not _URL.match(self.url) and "${{" not in self.url:
            return [Fault(("url",), "is not a URL", "Write protocol://place, or give it as path", shown(self.url))]
        return []

    def _path_faults(self) -> list[Fault]:
        faults = []
        for name, text in self.texts():
            faults += misplaced(text, (name,), VALUES)
        if self.path is not None and self.datastore is not None and climbs(self.path):
            message = "leaves the datastore"
            faults.append(Fault(("path",), message, "Give a path below the datastore's root", shown(self.path)))
        return faults

    def texts(self) -> tuple[tuple[str, str], ...]:
        """Return the fields that may hold expressions, with their texts."""
        given = (("path", self.path), ("url", self.url))
        return tuple((name, text) for name, text in given if text is not None)


class Destination(Place):
    """Where a copy of an output goes when its step succeeded."""

    def wrong(self) -> Iterable[Fault]:
        """Return what is wrong beyond the single fields."""
        faults = list(super().wrong())
        if not faults and self.url is None and (self.path is None or is_empty(self.path)):
            message = "is empty" if self.path is not None else "is missing"
            whole = "the whole datastore" if self.datastore else "the whole folder of the definition"
            remedy = f"Name a file or folder, as the copy would take the place of {whole}"
            faults.append(Fault(("path",), message, remedy))
        return faults


class DataReference(Place):
    """Existing data that a step reads: a file or a folder."""

    named_by: ClassVar[str | None] = "name"

    name: PortName | None = None
    """The name of the input it becomes; in YAML the key gives it."""
    mode: Mode = "mount"
    """How it reaches the step: mount (read-only, linked where possible), download (a copy), direct (the URI)."""
    compare: Compare | None = None
    """What makes it changed: its bytes (content), the version its storage tells, or only its place (path). Where it
    is not given: its bytes where they are cheap to read, else the version."""

    @classmethod
    def normalised(cls, data: Any) -> Any:  # noqa: ANN401 -- whatever a user wrote
        """Allow a parameter object as the path or URL."""
        data = super().normalised(data)
        if not isinstance(data, Mapping):
            return data
        places = {name: data.get(name) for name in ("path", "url")}
        found = {name: item.name for name, item in places.items() if isinstance(item, PipelineParameter) and item.name}
        return {**data, **{name: str(Ref("parameters", parameter)) for name, parameter in found.items()}}

    def as_mount(self) -> DataReference:
        """Return the same data, mounted."""
        return self.model_copy(update={"mode": "mount"})

    def as_download(self) -> DataReference:
        """Return the same data, copied before the start."""
        return self.model_copy(update={"mode": "download"})

    def as_direct(self) -> DataReference:
        """Return the same data, handed over as its URI."""
        return self.model_copy(update={"mode": "direct"})


def _destination(value: object) -> object:
    if isinstance(value, DataReference):
        given = {"datastore": value.datastore, "path": value.path, "url": value.url}
        return build(Destination, {field: said for field, said in given.items() if said is not None})
    return value


DestinationField = Annotated[Destination, BeforeValidator(_destination, json_schema_input_type=Destination | str)]


class PipelineData(Definition):
    """An output of a step, for other steps to read."""

    named_by: ClassVar[str | None] = "name"

    name: PortName
    """The name of the output; in YAML the key gives it."""
    kind: Literal["file", "folder"] | None = None
    """What the step must leave; either where it is not given."""
    datastore: DatastoreName | None = None
    """A datastore that receives a copy, under `<pipeline>/<step>/<name>` where `destination` says nothing else."""
    destination: DestinationField | None = None
    """Where a copy goes when the step succeeded."""
    asset: str | None = None
    """The name or URI of the Airflow asset that a new output updates."""
    description: str = ""

    def __init__(self, name: str = "", /, **data: Any) -> None:  # noqa: ANN401 -- pydantic checks the fields
        super().__init__(**{**({"name": name} if name else {}), **data})

    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    def wrong(self) -> Iterable[Fault]:
        """Return what is wrong beyond the single fields."""
        if self.datastore is not None and self.destination is not None:
            remedy = "Name the datastore inside destination"
            return [Fault(("datastore",), "stands beside destination", remedy, self.datastore)]
        place = self.destination and (self.destination.url or self.destination.path)
        if self.kind == "file" and place and place.endswith("/"):
            message = "names a folder, and the output is a file"
            return [Fault(("destination",), message, f"Name the file: {place}{self.name}", shown(place))]
        return []

    def as_input(self, name: str, mode: Mode = "mount") -> NamedData:
        """Return this data as an input with a name of its own."""
        return NamedData(name=name, data=self, mode=mode)

    def as_mount(self) -> NamedData:
        """Return this data as a mounted input."""
        return self.as_input(self.name)

    def as_download(self) -> NamedData:
        """Return this data as an input that is copied before the start."""
        return self.as_input(self.name, "download")

    def as_direct(self) -> NamedData:
        """Return this data as an input that is handed over as its URI."""
        return self.as_input(self.name, "direct")


class NamedData(Definition):
    """A `PipelineData` as the input of a step, with the name and mode it has there."""

    name: PortName
    data: PipelineData
    mode: Mode = "mount"


class StepOutput(Definition):
    """The output of another step, as an input."""

    step: str
    output: PortName
    mode: Mode = "mount"

    @property
    def ref(self) -> Ref:
        """The expression that names it."""
        return Ref("steps", self.output, self.step)


class DataLink(StepOutput):
    """A `PipelineData` object given as an input; the pipeline finds the step that makes it."""

    step: str = ""
    _data: PipelineData | None = PrivateAttr(None)

    @classmethod
    def to(cls, data: PipelineData, mode: Mode = "mount") -> DataLink:
        """Return a link to this very object."""
        link = cls(output=data.name, mode=mode)
        link._data = data
        return link

    @property
    def data(self) -> PipelineData | None:
        """The object."""
        return self._data


class ModuleInput(StepOutput):
    """``${{ inputs.x }}`` as the input of a step inside a module: whatever the module's input is bound to."""

    step: str = ""


InputBinding: TypeAlias = StepOutput | DataReference


def binding(value: object, name: str) -> InputBinding:  # noqa: PLR0911 -- one case a way to write it
    """Return what an input is bound to, from everything a user may write.

    :raises Refused: (a ValueError) if it is nothing that an input can be bound to.
    """
    match value:
        case StepOutput():
            return value
        case DataReference():
            return value if value.name == name else value.model_copy(update={"name": name})
        case PipelineData():
            return DataLink.to(value)
        case NamedData():
            return DataLink.to(value.data, value.mode)
        case str() if (bound := _bound_text(value)) is not None:
            return bound
        case str():
            return build(DataReference, value).model_copy(update={"name": name})
        case Mapping() if "from" in value:
            return _bound_mapping(value)
        case Mapping():
            return _data_reference(value, name)
        case _:
            message = "is nothing that an input can be"
            raise refuse(
                message, "Write ${{ steps.<step>.outputs.<name> }}, a URL, a path, or datastore and path", value
            )


def _data_reference(value: Mapping[str, Any], name: str) -> DataReference:
    if value.get("name", name) != name:
        message = "differs from the key, which names the input"
        raise refuse(message, "Leave name out", value["name"], ("name",))
    return build(DataReference, {**value, "name": name})


def _bound_text(text: str, mode: Mode = "mount") -> StepOutput | None:
    match parse(text):
        case (Ref(kind="steps") as ref,):
            return StepOutput(step=ref.step, output=ref.name, mode=mode)
        case (Ref(kind="inputs") as ref,):
            return ModuleInput(output=ref.name, mode=mode)
        case parts:
            if any(isinstance(part, Ref) and part.kind == "steps" for part in parts):
                message = "has text around the output of a step"
                raise refuse(message, "An input is one output as a whole: leave the text out", text)
            return None


def _bound_mapping(value: Mapping[str, Any]) -> StepOutput:
    given = value["from"]
    if isinstance(given, str):
        bound = _bound_text(given)
        if bound is not None:
            fields = {key: item for key, item in value.items() if key != "from"}
            return build(type(bound), {"step": bound.step, "output": bound.output, **fields})
    message = "must be the output of a step"
    raise refuse(message, "Write from: ${{ steps.<step>.outputs.<name> }}", given, ("from",))
