"""Definitions as plain data, and as YAML that loads as the same definition."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, timedelta
from functools import cache
from typing import Any

import yaml

from airflow_mlpipe.definitions.base import Definition
from airflow_mlpipe.definitions.compute import DockerCompute, KubernetesCompute, LocalCompute
from airflow_mlpipe.definitions.data import DataReference, ModuleInput, StepOutput
from airflow_mlpipe.definitions.estimator import EstimatorStep
from airflow_mlpipe.definitions.expressions import Ref
from airflow_mlpipe.definitions.modulestep import ModuleStep
from airflow_mlpipe.definitions.mpi import MpiStep
from airflow_mlpipe.definitions.schedule import AssetAll, AssetAny, Schedule
from airflow_mlpipe.definitions.stepbase import StepBase
from airflow_mlpipe.definitions.steps import CommandStep, DataTransferStep, PythonScriptStep
from airflow_mlpipe.definitions.values import duration_text

_PLAIN_ASSET = re.compile(r"""[^\s()&|"']+\Z""")

_REQUIRED = object()

_OF_A_KIND = (
    PythonScriptStep,
    CommandStep,
    DataTransferStep,
    EstimatorStep,
    MpiStep,
    ModuleStep,
    LocalCompute,
    DockerCompute,
    KubernetesCompute,
)


def dump(definition: Definition) -> str:
    """Return a definition as YAML; loading it gives an equal one. What equals its default is left out."""
    return yaml.safe_dump(plain(definition), sort_keys=False, allow_unicode=True, width=120)


def plain(value: Any) -> Any:  # noqa: ANN401, PLR0911 -- one case a kind of field of a definition
    """Return a definition as mappings, lists and scalars, in the one form that is its normal form."""
    match value:
        case None | str() | bool() | int() | float():  # first, as most values are
            return value
        case StepOutput():
            return _binding(value)
        case AssetAll() | AssetAny():
            return {field: [_asset(item) for item in items] for field, items in value.__dict__.items()}
        case Definition():
            return _definition(value)
        case dict() | Mapping():  # the concrete type is much faster to tell
            return {key: _item(item) for key, item in value.items()}
        case list() | tuple():
            return _steps(value) if value and isinstance(value[0], StepBase) else [plain(item) for item in value]
        case timedelta():
            return duration_text(value)
        case date():
            return value.isoformat()
        case _:
            return value


def _definition(value: Definition) -> dict[str, Any]:
    data: dict[str, Any] = {"kind": value.kind} if isinstance(value, _OF_A_KIND) else {}
    for name, default in _defaults(type(value)).items():
        item = getattr(value, name)
        if default is _REQUIRED or item != default:
            data[name] = _asset(item) if isinstance(value, Schedule) and name == "assets" else plain(item)
    if isinstance(value, DataTransferStep) and isinstance(value.source, DataReference):
        data["source"].pop("name", None)  # always the same
    return data


@cache
def _defaults(cls: type[Definition]) -> Mapping[str, Any]:
    """Return the default of each field; pydantic looks at the signature of a factory whenever it is asked."""
    return {
        name: _REQUIRED if field.is_required() else field.get_default(call_default_factory=True)
        for name, field in cls.__pydantic_fields__.items()
    }


def _item(value: Any) -> Any:  # noqa: ANN401 -- an item of a mapping
    """Leave out the name, which the key gives."""
    data = plain(value)
    if isinstance(value, Definition) and value.named_by and isinstance(data, dict):
        data.pop(value.named_by, None)
    return data


def _steps(steps: Any) -> dict[str, Any]:  # noqa: ANN401 -- steps
    return {step.name: _item(step) for step in steps}


def _binding(value: StepOutput) -> Any:  # noqa: ANN401 -- a text or a mapping
    ref = Ref("inputs", value.output) if isinstance(value, ModuleInput) else value.ref
    return str(ref) if value.mode == "mount" else {"from": str(ref), "mode": value.mode}


def _asset(value: Any) -> Any:  # noqa: ANN401 -- a text or an expression
    if isinstance(value, str) and not _PLAIN_ASSET.match(value):
        return f"'{value}'" if '"' in value else f'"{value}"'
    return plain(value)
