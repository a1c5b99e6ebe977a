from __future__ import annotations

import json
import re
from datetime import date
from pathlib import Path
from textwrap import dedent

import jsonschema
import pytest
import yaml

from airflow_mlpipe.definitions import Module, Workspace
from airflow_mlpipe.definitions.base import Definition
from airflow_mlpipe.definitions.reading import look
from airflow_mlpipe.definitions.schema import field_docs, json_schema
from airflow_mlpipe.definitions.steps import PythonScriptStep
from tests.definitions.examples import MODULES, PIPELINES, WORKSPACE

EXAMPLES = [
    *(("pipeline", text) for text in PIPELINES.values()),
    ("workspace", WORKSPACE),
    *(("module", text) for text in MODULES.values()),
]

DAGS = Path(__file__).parents[2] / "dags"
FILES = sorted(DAGS.rglob("*.yaml"))


def kind_of(file):
    return "workspace" if file.name == "mlpipe.yaml" else "module" if file.parent.name == "modules" else "pipeline"


def as_json(text):
    """What an editor's YAML server hands to the schema: dates are texts."""
    return json.loads(json.dumps(yaml.safe_load(dedent(text)), default=date.isoformat))


def complaints(kind, data):
    validator = jsonschema.Draft202012Validator(json_schema(kind))
    return [error.message for error in validator.iter_errors(data)]


@pytest.mark.parametrize("kind", ["pipeline", "workspace", "module"])
def test_a_schema_is_one_and_refers_to_nothing_missing(kind):
    schema = json_schema(kind)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert set(re.findall(r'"#/\$defs/(\w+)"', json.dumps(schema))) <= set(schema["$defs"])


@pytest.mark.parametrize(("kind", "text"), EXAMPLES)
def test_a_schema_accepts_what_the_loader_accepts(kind, text):
    assert complaints(kind, as_json(text)) == []


@pytest.mark.parametrize("file", FILES, ids=[str(file.relative_to(DAGS)) for file in FILES])
def test_the_examples_of_this_project_fit_their_schemas(file):
    assert complaints(kind_of(file), as_json(file.read_text())) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("nam",), "p"),
        (("steps",), {}),
        (("steps",), []),
        (("steps",), "a"),
        (("steps", "a", "kind"), "comand"),
        (("steps", "a", "kind"), None),
        (("steps", "a", "comand"), "true"),
        (("steps", "a", "command"), 3),
        (("steps", "a", "retries"), "2"),
        (("steps", "a", "retries"), "${{ parameters.n }}"),
        (("steps", "a", "retries"), -1),
        (("steps", "a", "allow_reuse"), "${{ parameters.flag }}"),
        (("steps", "a", "version"), 1.1),
        (("steps", "a", "inputs"), {"x": 3}),
        (("steps", "a", "inputs"), {"x": {"pth": "x"}}),
        (("steps", "a", "outputs"), {"x": {"kind": "fil"}}),
        (("parameters",), {"c": {"type": "numbr"}}),
        (("max_active_runs",), 0),
        (("schedule",), {"evry": "2 hours"}),
    ],
)
def test_a_schema_refuses_what_the_loader_refuses(path, value, tmp_path):
    from airflow_mlpipe.definitions import loads
    from airflow_mlpipe.exceptions import DefinitionError

    data = as_json(PIPELINES["short"])
    inner = data
    for part in path[:-1]:
        inner = inner[part]
    inner[path[-1]] = value
    assert complaints("pipeline", data)
    with pytest.raises(DefinitionError):
        loads(yaml.safe_dump(data), tmp_path, Workspace())


def test_a_list_needs_names_and_a_mapping_gives_them():
    unnamed = {"kind": "command", "command": "true"}
    assert complaints("pipeline", {"name": "p", "steps": {"a": unnamed}}) == []
    assert complaints("pipeline", {"name": "p", "steps": [unnamed]})
    assert complaints("pipeline", {"name": "p", "steps": [[{"name": "a", **unnamed}]]}) == []


def test_every_field_tells_what_it_is_for():
    untold = [
        f"{name}.{field}"
        for kind in ("pipeline", "workspace", "module")
        for name, schema in json_schema(kind)["$defs"].items()
        for field, shape in schema.get("properties", {}).items()
        if "description" not in shape
    ]
    self_evident = {"name", "kind", "description", "cpus", "network", "namespace", "step", "output", "mode", "from"}
    units = {"weeks", "days", "hours", "minutes", "seconds", "all", "any"}
    assert {field.rpartition(".")[2] for field in untold} <= self_evident | units | {
        "retries",
        "retry_delay",
        "timeout",
    }


def test_texts_under_fields_are_found_through_inheritance():
    docs = field_docs(PythonScriptStep)
    assert docs["script_name"] == "The script, relative to `source_directory`."
    assert docs["allow_reuse"].startswith("Whether earlier results may be taken")


@pytest.mark.parametrize("text", MODULES.values())
def test_the_example_modules_load(text):
    assert isinstance(look(Module, dedent(text), "m.yaml").sound(), Definition)


def test_the_example_workspace_loads():
    assert look(Workspace, dedent(WORKSPACE), "w.yaml").sound().defaults.retries == 1
