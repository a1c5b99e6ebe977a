"""What the README says of definitions, against the models that read them."""

from __future__ import annotations

from itertools import chain

import pytest
import typer

from airflow_mlpipe.cli.app import app
from airflow_mlpipe.definitions import LocalCompute, compute, kinds, load_pipeline, load_workspace, loads
from airflow_mlpipe.definitions.expressions import RUN_FIELDS, Ref, parse
from airflow_mlpipe.definitions.frameworks import FRAMEWORKS
from airflow_mlpipe.definitions.schedule import PRESETS
from airflow_mlpipe.definitions.schema import json_schema
from airflow_mlpipe.definitions.steps import StepBase
from airflow_mlpipe.launchers.docker.container import INSIDE
from airflow_mlpipe.runtime import command
from airflow_mlpipe.runtime.layout import StepDirectory
from airflow_mlpipe.runtime.protocol import EnvironmentSpec, InputSpec, OutputSpec, StepSpec
from tests.readme.markdown import README, files, section, spans, tables

PIPELINE = json_schema("pipeline")
WORKSPACE = json_schema("workspace")
MODULE = json_schema("module")

COMMON = set(StepBase.__pydantic_fields__) | {"kind"}


def only(schema, names):
    """Return a schema with some of its fields."""
    return {
        "properties": {name: field for name, field in schema["properties"].items() if name in names},
        "required": [name for name in schema.get("required", ()) if name in names],
    }


def of_kind(cls, *also):
    schema = PIPELINE["$defs"][cls]
    return only(schema, (schema["properties"].keys() - COMMON) | set(also))


STEP = {**only(PIPELINE["$defs"]["CommandStep"], COMMON), "required": PIPELINE["$defs"]["Step"]["required"]}

# Which table, counted from 0 in its section, describes what.
DESCRIBED = [
    ("Pipeline", 0, PIPELINE),
    ("Parameters", 0, PIPELINE["$defs"]["PipelineParameter"]),
    ("Schedule", 0, PIPELINE["$defs"]["Schedule"]),
    ("Fields of every step", 0, STEP),
    ("Fields of python_script", 0, of_kind("PythonScriptStep")),
    ("Fields of command", 0, of_kind("CommandStep")),
    ("Fields of estimator", 0, of_kind("EstimatorStep")),
    ("Fields of mpi", 0, of_kind("MpiStep")),
    ("Many processes", 0, PIPELINE["$defs"]["Distribution"]),
    ("Fields of data_transfer", 0, of_kind("DataTransferStep")),
    ("Fields of module", 0, of_kind("ModuleStep", "version")),
    ("Sweeps", 0, PIPELINE["$defs"]["Sweep"]),
    ("Sweeps", 1, PIPELINE["$defs"]["Range"]),
    ("Sweeps", 2, PIPELINE["$defs"]["Objective"]),
    ("Mini-batches", 0, PIPELINE["$defs"]["Parallel"]),
    ("Metrics, conditions, MLflow", 0, WORKSPACE["$defs"]["MlflowTracking"]),
    ("Inputs", 0, PIPELINE["$defs"]["DataReference"]),
    ("Inputs", 1, PIPELINE["$defs"]["StepOutput"]),
    ("Outputs", 0, PIPELINE["$defs"]["PipelineData"]),
    ("Outputs", 1, PIPELINE["$defs"]["Destination"]),
    ("Environments", 0, PIPELINE["$defs"]["Environment"]),
    ("Environments", 1, PIPELINE["$defs"]["ImageBuild"]),
    ("Frameworks", 1, WORKSPACE["$defs"]["Framework"]),
    ("Modules", 0, MODULE),
    ("Workspace", 0, WORKSPACE),
    ("Workspace", 1, WORKSPACE["$defs"]["Datastore"]),
    ("Workspace", 2, WORKSPACE["$defs"]["Defaults"]),
    ("Workspace", 4, WORKSPACE["$defs"]["ImageRegistry"]),
    ("Workspace", 5, WORKSPACE["$defs"]["DockerTls"]),
    ("Workspace", 6, WORKSPACE["$defs"]["DockerMount"]),
    ("Workspace", 7, WORKSPACE["$defs"]["KubernetesResources"]),
    ("Workspace", 8, WORKSPACE["$defs"]["KubernetesVolume"]),
    ("Workspace", 9, WORKSPACE["$defs"]["DatastoreVolume"]),
    ("Workspace", 10, WORKSPACE["$defs"]["WorkVolume"]),
    ("Workspace", 11, WORKSPACE["$defs"]["StagingToken"]),
]

each_table = pytest.mark.parametrize(
    ("rows", "schema"),
    [(tables(title)[index], schema) for title, index, schema in DESCRIBED],
    ids=[f"{title}-{index}" for title, index, _ in DESCRIBED],
)


def words_of(field):
    """Return the words that a field allows, where it allows only some."""
    if isinstance(field, dict):
        own = [word for word in field.get("enum", ()) if isinstance(word, str)]
        return {
            *own,
            *chain.from_iterable(words_of(part) for key, part in field.items() if key != "additionalProperties"),
        }
    return set(chain.from_iterable(words_of(part) for part in field)) if isinstance(field, list) else set()


@each_table
def test_a_table_names_every_field_there_is_and_no_other(rows, schema):
    named = [name for row in rows for name in spans(row[0])]
    assert sorted(named) == sorted(schema["properties"])


@each_table
def test_a_table_says_which_fields_are_required(rows, schema):
    said = {name for row in rows for name in spans(row[0]) if "required" in row[1].replace("required for", "")}
    assert said == set(schema.get("required", ()))


@each_table
def test_a_table_names_every_word_that_a_field_allows(rows, schema):
    for row in rows:
        for name in spans(row[0]):
            assert words_of(schema["properties"][name]) <= set(spans(row[1])), name


def test_every_class_of_definitions_has_a_table():
    described = {id(schema) for _, _, schema in DESCRIBED}
    elsewhere = {
        "Step", "NamedStep", "Group", "Steps", "Input", "Outputs",  # ways to write what has a table
        "PythonScriptStep", "CommandStep", "EstimatorStep", "MpiStep", "DataTransferStep", "ModuleStep",  # in parts, above
        "AssetAll", "AssetAny", "ModulePort", *(cls.__name__ for cls in compute.KINDS.values()),  # below
    }  # fmt: skip
    defs = {**WORKSPACE["$defs"], **MODULE["$defs"], **PIPELINE["$defs"]}
    assert {name for name, schema in defs.items() if id(schema) not in described} - {"PipelineParameter"} <= elsewhere


def test_the_kinds_of_steps_are_these():
    rows = tables("Steps")[0]
    assert {spans(row[0])[0]: spans(row[1])[0] for row in rows} == {k: c.__name__ for k, c in kinds.KINDS.items()}


def test_the_frameworks_that_are_always_there_are_these():
    said = section("Frameworks").partition("|")[0]
    assert spans(said)[1:] == list(FRAMEWORKS)


def test_the_kinds_of_compute_targets_and_their_fields_are_these():
    said = {}
    for row in tables("Workspace")[3]:
        said.setdefault(spans(row[0])[0], set()).update(spans(row[1]))
    everywhere = set(LocalCompute.__pydantic_fields__)
    assert said == {kind: set(cls.__pydantic_fields__) - everywhere for kind, cls in compute.KINDS.items()}


def test_the_presets_of_schedules_are_these():
    assert {span.strip('"') for span in spans(section("Schedule")) if span.startswith('"@')} == set(PRESETS)


def test_each_expression_means_something_and_all_kinds_are_named():
    written = [spans(row[0])[0].replace("<", "").replace(">", "") for row in tables("Expressions")[0]]
    refs = [ref for text in written for ref in parse(text) if isinstance(ref, Ref)]
    assert {ref.kind for ref in refs} == {"parameters", "inputs", "outputs", "steps", "run"}
    assert {ref.name for ref in refs if ref.kind == "run"} == set(RUN_FIELDS)


def test_a_script_sees_just_these_variables(tmp_path, monkeypatch):
    monkeypatch.delenv("PYTHONUSERBASE", raising=False)
    spec = StepSpec(
        "p", "s", "command",
        inputs={"Name": InputSpec()}, outputs={"Name": OutputSpec()}, parameters={"Name": 1}, run={"name": "2025"},
        environment=EnvironmentSpec(variables={"DECLARED": "1"}),
    )  # fmt: skip
    seen = command.environment(spec, StepDirectory(tmp_path), {"SECRET": "x"})
    rows = tables("Variables a script sees")[0]
    said = {name.replace("<NAME>", "NAME").replace("<name>", "Name") for row in rows for name in spans(row[0])}
    assert seen.keys() == said | {"DECLARED", "SECRET"}
    for row in rows[-1:]:
        assert [seen[name] for name in spans(row[0])] == spans(row[1])


def test_the_files_of_the_reference_are_sound_and_use_what_they_name(tmp_path):
    shown = files("Environments", "Modules", "Workspace")
    for path, text in shown.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text, "utf-8")
    assert [step.name for step in load_pipeline(tmp_path / "pipelines/scores.yaml").steps] == ["fetch", "score"]
    assert [step.name for step in load_pipeline(tmp_path / "pipelines/counted.yaml").steps] == ["names", "count"]
    assert set(shown) == {
        "pipelines/scores.yaml",
        "pipelines/modules/count-1.0.yaml",
        "pipelines/counted.yaml",
        "pipelines/mlpipe.yaml",
    }


def test_the_targets_that_are_shown_run_steps_that_name_nothing(tmp_path):
    for path, text in files("Where steps run").items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text, "utf-8")
    workspace = load_workspace(tmp_path / "team")
    assert list(workspace.compute) == ["local", "docker", "gpu", "build"]
    for target in workspace.compute:
        loads("name: p\nsteps: {a: {kind: command, command: 'true'}}\n", tmp_path, workspace.computing_on(target))


def test_what_a_container_sees_is_where_the_reference_says():
    rows = tables("Docker")[0]
    said = {name for row in rows[:2] for name in spans(row[0])}
    assert said == {str(path) for path in (INSIDE.code, INSIDE.inputs, INSIDE.outputs)}


COMMANDS = dict(typer.main.get_command(app).commands)
CACHE = dict(COMMANDS.pop("cache").commands)
EVERYWHERE = {"--json", "--workspace", "--help"}
POLICY = {
    "--older-than",
    "--runs-older-than",
    "--unused-for",
    "--keep-last",
    "--max-size",
    "--grace",
    "--live",
    "--recent",
}

each_group = pytest.mark.parametrize(
    ("title", "commands", "prefix"),
    [("Command line", COMMANDS, ["mlpipe"]), ("mlpipe cache", CACHE, ["mlpipe", "cache"])],
)


def options_of(command):
    """Return the visible options of a command, each with all its names."""
    return [
        {*option.opts, *option.secondary_opts}
        for option in command.params
        if option.param_type_name == "option" and not getattr(option, "hidden", False)
    ]


@each_group
def test_the_commands_and_their_options_are_these(title, commands, prefix):
    rows = {tuple(spans(row[0])[0].split()): set(spans(row[1])) for row in tables(title)[0]}
    assert {words[: len(prefix)] for words in rows} == {tuple(prefix)}
    said = {words[len(prefix)]: names for words, names in rows.items()}
    assert said.keys() == commands.keys()
    for name, names in said.items():
        known = EVERYWHERE | ({"--store"} | POLICY if commands is CACHE else set())
        options = [option for option in options_of(commands[name]) if not option & known]
        assert len(options) == len(names), name
        assert all(option & names for option in options), name


@each_group
def test_every_option_is_described(title, commands, prefix):
    said = {word for row in tables(title)[1] for span in spans(row[0]) for word in span.split() if word[0] == "-"}
    real = set(chain.from_iterable(option for command in commands.values() for option in options_of(command)))
    of_all = {"--json", "--workspace"} if prefix[1:] else set()
    assert said == real - {"--help", "-h"} - of_all


def test_all_commands_of_the_cache_find_the_store_in_the_same_way():
    for name, of_cache in CACHE.items():
        assert {"--store", "--workspace", "--json"} <= set(chain.from_iterable(options_of(of_cache))), name


def test_commands_without_the_options_of_all_others_are_known():
    """``--workspace`` and ``--json`` are said once for all commands that read definitions or print a table."""
    names = {name: set(chain.from_iterable(options_of(command))) for name, command in COMMANDS.items()}
    assert {name for name, options in names.items() if "--workspace" not in options} == {"schema", "init", "up"}
    assert {name for name, options in names.items() if "--json" not in options} == {"schema", "init", "up"}


def test_no_line_is_too_long():
    lines = README.read_text("utf-8").splitlines()
    assert [(number, line) for number, line in enumerate(lines, 1) if len(line) > 120] == []
