"""Where the outputs of a pipeline go, and what must not lie there: another output, what a step reads, code."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow_mlpipe.definitions.data import Destination, StepOutput
from airflow_mlpipe.definitions.expressions import parse
from airflow_mlpipe.definitions.faults import Fault, Path, shown
from airflow_mlpipe.definitions.steps import DataTransferStep

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from airflow_mlpipe.definitions.data import Place
    from airflow_mlpipe.definitions.pipeline import Pipeline
    from airflow_mlpipe.definitions.steps import Step

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


def destination_of(pipeline: str, step: Step, output: str) -> Destination | None:
    """Return where a copy of an output goes, or None where it goes nowhere."""
    data = step.outputs[output]
    if data.destination is not None or data.datastore is None:
        return data.destination
    return Destination(datastore=data.datastore, path=f"{pipeline}/{step.name}/{output}")


@dataclass(frozen=True)
class Spot:
    """A place as far as it is known before a run: ``parts`` of a path, which may hold expressions, below a root."""

    root: str
    parts: tuple[str, ...]

    @classmethod
    def at(cls, root: str, path: str) -> Spot | None:
        """Return the place of a path, without detours; None if only the run tells where they lead."""
        parts: list[str] = []
        for part in path.split("/"):
            if part == ".." and parts and parts[-1] != "..":
                if "{{" in parts.pop():
                    return None
            elif part == ".." and root:
                continue  # nothing is above a root
            elif part not in ("", "."):
                parts.append(part)
        return cls(root, tuple(parts))

    @classmethod
    def of_url(cls, url: str) -> Spot | None:
        """Return the place of a URL."""
        scheme = _URL.match(url)
        return cls.at(scheme[0], url[scheme.end() :]) if scheme else None

    @classmethod
    def of(cls, place: Place) -> Spot | None:
        """Return a place where neither the folder of the definition is known nor where datastores lie."""
        text = canonical(place)
        if place.datastore is not None:
            return cls.at(f"datastore {place.datastore}", text)
        if text.startswith(("/", "~")):
            return cls.at("file://", os.path.expanduser(text))  # noqa: PTH111 -- which fails for unknown users
        return cls.of_url(text) or cls.at("", text)


def canonical(place: Place) -> str:
    """Return the path or URL of a place, with expressions always written alike."""
    return "".join(map(str, parse(place.url or place.path or "")))


def _is_sure(parts: tuple[str, ...]) -> bool:
    """Say whether a place stays inside another one whatever the values in the rest of its path are."""
    return ".." not in parts and not any("{{" in part.replace("${{ run.", "") for part in parts)


@dataclass(frozen=True)
class _Made:
    """An output with a destination."""

    step: str
    output: str
    path: Path
    given: str

    def __str__(self) -> str:
        return f"steps.{self.step}.outputs.{self.output}"


@dataclass(frozen=True)
class _Destinations:
    """The destinations seen so far, by place, and by every folder around it."""

    there: dict[Spot, _Made] = field(default_factory=dict)
    below: dict[Spot, _Made] = field(default_factory=dict)

    def add(self, spot: Spot, made: _Made) -> None:
        self.there.setdefault(spot, made)
        for count in range(len(spot.parts)):
            if _is_sure(spot.parts[count:]):
                self.below.setdefault(Spot(spot.root, spot.parts[:count]), made)

    def at(self, spot: Spot) -> _Made | None:
        """Return what goes to a place itself."""
        return self.there.get(spot)

    def around(self, spot: Spot) -> _Made | None:
        """Return what goes to a folder in which a place lies."""
        folders = (Spot(spot.root, spot.parts[:n]) for n in range(len(spot.parts)) if _is_sure(spot.parts[n:]))
        return next((self.there[folder] for folder in folders if folder in self.there), None)

    def within(self, spot: Spot) -> _Made | None:
        """Return what goes to somewhere inside a place."""
        return self.below.get(spot)


def place_faults(
    pipeline: Pipeline,
    locate: Callable[[Place], Spot | None] = Spot.of,
    code: Iterable[tuple[str, Spot | None]] = (),
) -> Iterator[Fault]:
    """Yield the destinations that would destroy one another, or what a step reads, or code.

    Only what is certain before a run is refused.

    :param code: folders that no output may take the place of, each with what it is.
    """
    found = _Destinations()
    for step in pipeline.steps:
        for output in step.outputs:
            place = destination_of(pipeline.name, step, output)
            spot = locate(place) if place else None
            if place and spot:
                given = shown(place.url or place.path or place.datastore)
                made = _Made(step.name, output, _path(step, output), given)
                yield from _met_by_another(found, spot, made)
                found.add(spot, made)
    if found.there:
        yield from _read_by_path(pipeline, found, locate)
        yield from _around_code(found, code)


def clash(written: Iterable[tuple[str, str, str]], read: Iterable[tuple[str, str, str]]) -> str | None:
    """Return what is wrong with the places of a run, whose values are known; None if nothing is.

    :param written: step, output and URL of each destination.
    :param read: step, input and URL of each external input.
    """
    found = _Destinations()
    for step, output, url in written:
        if spot := Spot.of_url(url):
            made = _Made(step, output, (), url)
            for fault in _met_by_another(found, spot, made):
                return f"the destination {url} of {made} {fault.message}; give each output its own destination"
            found.add(spot, made)
    for step, name, url in read:
        spot = Spot.of_url(url)
        met = spot and (found.at(spot) or found.around(spot) or found.within(spot))
        if met:
            return f"input {name} of {step}, {url}, meets {met.given}, where {met} goes. {_instead(step, met)}"
    return None


def _path(step: Step, output: str) -> Path:
    """Return where the destination of an output is written."""
    if isinstance(step, DataTransferStep):
        return ("steps", step.name, "destination")
    field_name = "datastore" if step.outputs[output].destination is None else "destination"
    return ("steps", step.name, "outputs", output, field_name)


def _met_by_another(found: _Destinations, spot: Spot, made: _Made) -> Iterator[Fault]:
    remedy = "Give each output its own destination"
    if other := found.at(spot):
        yield Fault(made.path, f"is also where {other} goes", remedy, made.given)
    elif other := found.around(spot):
        yield Fault(made.path, f"lies in {other.given}, where {other} goes", remedy, made.given)
    elif other := found.within(spot):
        yield Fault(made.path, f"holds {other.given}, where {other} goes", remedy, made.given)


def _read_by_path(pipeline: Pipeline, found: _Destinations, locate: Callable[[Place], Spot | None]) -> Iterator[Fault]:
    for step in pipeline.steps:
        for name, bound in step.inputs.items():
            if isinstance(bound, StepOutput) or (spot := locate(bound)) is None:
                continue
            path = ("source",) if isinstance(step, DataTransferStep) else ("inputs", name)
            given = shown(bound.url or bound.path or bound.datastore)
            ways = {"is": found.at(spot), "lies in {},": found.around(spot), "holds {},": found.within(spot)}
            met = next(((way, made) for way, made in ways.items() if made), None)
            if met:
                way, made = met
                what = "the output of the step itself" if made.step == step.name else str(made)
                message = f"{way.format(made.given)} where {what} goes"
                yield Fault(("steps", step.name, *path), message, _instead(step.name, made), given)


def _instead(step: str, made: _Made) -> str:
    if made.step == step:
        return "Choose another destination: a step that changes what it reads could never be reused"
    return f"Write ${{{{ {made} }}}}, so that the step waits for it"


def _around_code(found: _Destinations, code: Iterable[tuple[str, Spot | None]]) -> Iterator[Fault]:
    seen = set()
    for what, spot in code:
        made = None if spot is None else found.at(spot) or found.around(spot)
        if made and made not in seen:
            seen.add(made)
            message = f"would take the place of {what}"
            yield Fault(made.path, message, "Name a file or folder of its own for it", made.given)
