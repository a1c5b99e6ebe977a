"""JSON schemas of the files, so that editors complete and check them while they are written."""

from __future__ import annotations

import ast
import inspect
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeAlias

from pydantic.json_schema import models_json_schema

from airflow_mlpipe.definitions import compute, kinds
from airflow_mlpipe.definitions.base import Definition
from airflow_mlpipe.definitions.module import Module
from airflow_mlpipe.definitions.pipeline import Pipeline
from airflow_mlpipe.definitions.workspace import Workspace

Schema: TypeAlias = "dict[str, Any]"
FileKind: TypeAlias = Literal["pipeline", "workspace", "module"]

_FILES: dict[str, type[Definition]] = {"pipeline": Pipeline, "workspace": Workspace, "module": Module}


def json_schema(kind: FileKind) -> Schema:
    """Return the JSON schema (draft 2020-12) of a kind of file."""
    steps = [(step, "validation") for step in kinds.KINDS.values()]
    _, whole = models_json_schema([(_FILES[kind], "validation"), *steps])  # type: ignore[list-item] # "validation" is literal
    definitions = {name: _cleaned(schema) for name, schema in whole["$defs"].items()}
    for name, schema in definitions.items():
        schema["properties"] |= _WRITTEN.get(name, {})
        _describe(schema, _classes()[name])
        _name_given_by_key(schema, _classes()[name])
    top = definitions.pop(_FILES[kind].__name__)
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": f"airflow-mlpipe {kind}"}
    return {**head, **top, "$defs": {**definitions, **_SHARED}}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}


def _either(*schemas: Schema) -> Schema:
    return {"anyOf": list(schemas)}


def _named(schema: Schema) -> Schema:
    return {"type": "object", "additionalProperties": schema}


def _by_kind(known: dict[str, Any]) -> Schema:
    """Choose by ``kind``, so that editors complain about one kind, not about all of them."""
    return {
        "type": "object",
        "required": ["kind"],
        "properties": {"kind": {"enum": list(known)}},
        "allOf": [
            {"if": {"properties": {"kind": {"const": kind}}}, "then": _ref(cls.__name__)} for kind, cls in known.items()
        ],
    }


_TEXT: Schema = {"type": "string"}
_NULL: Schema = {"type": "null"}
_SCALAR: Schema = {"type": ["string", "number", "boolean"]}
_NAMES: Schema = {"type": "array", "items": _TEXT}
_AMOUNT: Schema = {"type": "number", "minimum": 0}

_SHARED: Schema = {
    "Step": _by_kind(kinds.KINDS),
    "NamedStep": {"allOf": [_ref("Step"), {"required": ["name"]}]},
    "Group": {"type": "array", "items": _either(_ref("NamedStep"), _ref("Group"))},
    "Steps": _either(
        {**_named(_ref("Step")), "minProperties": 1},
        {**_ref("Group"), "minItems": 1},
    ),
    "Input": _either(_TEXT, _ref("StepOutput"), _ref("DataReference")),
    "Outputs": _either(_named(_either(_ref("PipelineData"), _NULL)), _NAMES),
}

_PORTS: Schema = {"inputs": _named(_ref("Input")), "outputs": _ref("Outputs")}
_PARAMETERS: Schema = {"parameters": _named(_either(_ref("PipelineParameter"), _SCALAR))}

_WRITTEN: dict[str, Schema] = {
    "Pipeline": {"steps": _ref("Steps"), **_PARAMETERS},
    "Module": {
        "step": _ref("Step"),
        "steps": _ref("Steps"),
        **_PARAMETERS,
        "inputs": _either(_named(_either(_ref("ModulePort"), _NULL)), _NAMES),
        "outputs": _either(_named(_either(_TEXT, _ref("StepOutput"), _NULL)), _NAMES),
    },
    "PythonScriptStep": _PORTS,
    "CommandStep": _PORTS,
    "EstimatorStep": _PORTS,
    "MpiStep": _PORTS,
    "ModuleStep": _PORTS,
    "DataTransferStep": {"source": _ref("Input"), "destination": _either(_TEXT, _ref("Destination"))},
    "Environment": {"requirements": _either(_NAMES, _TEXT)},
    "Framework": {"requirements": _either(_NAMES, _TEXT), "packages": _either(_NAMES, _TEXT)},
    "Schedule": {
        **dict.fromkeys(("weeks", "days", "hours", "minutes", "seconds"), _AMOUNT),
        **{
            key: {"type": "array", "items": _either(_TEXT, _ref("AssetAll"), _ref("AssetAny"))}
            for key in ("all", "any")
        },
    },
    "Workspace": {
        "datastores": _named(_either(_TEXT, _ref("Datastore"))),
        "compute": _named(_by_kind(compute.KINDS)),
        "environments": _named(_either(_ref("Environment"), _NULL)),
        "frameworks": _named(_either(_ref("Framework"), _NULL)),
    },
}
"""What YAML allows beside the form that the classes hold."""


def _cleaned(schema: Schema) -> Schema:
    """Leave out what pydantic adds and editors need not show."""
    properties = {
        name: {key: value for key, value in field.items() if key not in {"title", "default"}}
        for name, field in schema.get("properties", {}).items()
    }
    return {**{key: value for key, value in schema.items() if key != "title"}, "properties": properties}


def _describe(schema: Schema, cls: type[Definition]) -> None:
    for name, text in field_docs(cls).items():
        if name in schema["properties"]:
            schema["properties"][name] = {**schema["properties"][name], "description": text}


def _name_given_by_key(schema: Schema, cls: type[Definition]) -> None:
    if cls.__name__ == "StepOutput":
        schema["properties"] = {"from": _TEXT, "mode": schema["properties"]["mode"]}
        schema["required"] = ["from"]
    elif cls.named_by in schema.get("required", ()):
        schema["required"] = [name for name in schema["required"] if name != cls.named_by]


@cache
def _classes() -> dict[str, type[Definition]]:
    found: dict[str, type[Definition]] = {}
    waiting = list(Definition.__subclasses__())
    for cls in waiting:
        waiting += cls.__subclasses__()
        found[cls.__name__] = cls
    return found


def field_docs(cls: type[Definition]) -> dict[str, str]:
    """Return the texts under the fields of a class and of those it inherits from."""
    docs: dict[str, str] = {}
    for ancestor in reversed(cls.__mro__):
        if issubclass(ancestor, Definition):
            docs |= _docs_in(inspect.getsourcefile(ancestor) or "", ancestor.__name__)
    return docs


@cache
def _docs_in(file: str, name: str) -> dict[str, str]:
    docs: dict[str, str] = {}
    for node in ast.parse(Path(file).read_text(encoding="utf-8")).body:
        if not (isinstance(node, ast.ClassDef) and node.name == name):
            continue
        for field, text in zip(node.body, node.body[1:], strict=False):
            match field, text:
                case ast.AnnAssign(target=ast.Name(id=field_name)), ast.Expr(value=ast.Constant(value=str() as doc)):
                    docs[field_name] = inspect.cleandoc(doc)
    return docs
