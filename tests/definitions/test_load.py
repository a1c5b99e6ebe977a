from __future__ import annotations

import copy
import os
import random
import sys
from textwrap import dedent

import pytest
import yaml

from airflow_mlpipe.definitions import (
    LocalCompute,
    Pipeline,
    Workspace,
    dump,
    find_workspace,
    load_pipeline,
    load_workspace,
    loads,
)
from airflow_mlpipe.exceptions import DefinitionError
from tests.definitions.examples import MODULES, PIPELINES, WORKSPACE
from tests.definitions.helpers import located, problems, read


@pytest.fixture
def workspace(project):
    (project / "modules").mkdir()
    for name, text in MODULES.items():
        (project / "modules" / f"{name}.yaml").write_text(dedent(text))
    (project / "mlpipe.yaml").write_text(dedent(WORKSPACE))
    return load_workspace(project)


@pytest.mark.parametrize("name", PIPELINES)
def test_the_examples_load_and_load_again_from_their_dump(name, project, workspace):
    made = read(PIPELINES[name], project, workspace)
    assert loads(dump(made), project, workspace) == made


def test_a_pipeline_knows_its_file_and_its_folder(project):
    file = project / "p.yaml"
    file.write_text("name: p\nsteps: {a: {kind: command, command: 'true'}}\n")
    made = load_pipeline(file)
    assert (made.source_file, made.folder) == (file, project)
    assert load_pipeline(os.path.relpath(file)).folder == project


def test_a_module_is_found_beside_the_pipeline(project, workspace):
    made = read(
        PIPELINES["whole"],
        project,
        Workspace()
        .located(project)
        .model_copy(update={name: getattr(workspace, name) for name in ("datastores", "environments", "frameworks")}),
    )
    assert made.step("again").parameters == {"rate": "${{ parameters.c }}"}


PLACES = [
    ("name: p\nsteps: {a: {kind: command, command: 'true'}}\nschedul: '@weekly'\n", (3, 1, "schedul")),
    ("name: p\nsteps:\n  a:\n    kind: python_script\n    script_name: a.py\n", (5, 18, "steps.a.script_name")),
    ("name: p\nsteps:\n  a:\n    kind: command\n", (3, 3, "steps.a.command")),
    ("name: p\nsteps:\n  a: {kind: command, command: x, retries: x}\n", (3, 43, "steps.a.retries")),
    ("name: p\nsteps:\n- {name: a, kind: command, command: x, retries: x}\n", (3, 49, "steps.a.retries")),
    ("name: p\nname: q\nsteps: {a: {kind: command, command: x}}\n", (2, 1, "name")),
    ("name: p\nsteps: {}\n", (2, 8, "steps")),
    ("name: p\n", (1, 1, "steps")),
    ("name: p\nsteps:\n", (2, 7, "steps")),
    ("name: p\nsteps: {a: {kind: command, command: x, compute: gpu}}\n", (2, 49, "steps.a.compute")),
    ("name: a b\nsteps: {a: {kind: command, command: x}}\n", (1, 7, "name")),
    ("name: p\nsteps:\n  ä: {kind: command, command: x}\n", (3, 3, "steps.ä")),
    (
        f"name: p\nsteps:\n  {'x' * 300}: {{kind: command, command: x}}\n".replace(
            f"  {'x' * 300}:", f"  ? {'x' * 300}\n  :"
        ),
        (3, 5, f"steps.{'x' * 300}"),
    ),
    ("name: p\non: {a: 1}\nsteps: {a: {kind: command, command: x}}\n", (2, 1, "on")),
    ("name: p\nsteps: {a: {kind: spark}}\n", (2, 19, "steps.a.kind")),
    ("name: p\nsteps: {a: {kind: mpi}}\n", (2, 9, "steps.a.command")),
    ("name: p\nsteps: {a: {kind: mpi, command: x, node_count: 0}}\n", (2, 48, "steps.a.node_count")),
    ("name: p\nsteps: {a: {kind: mpi, command: x, node_count: 2}}\n", (2, 48, "steps.a.node_count")),
    ("name: p\nsteps: {a: {kind: estimator}}\n", (2, 9, "steps.a.entry_script")),
    ("name: p\nsteps:\n  a:\n    kind: estimator\n    entry_script: a.py\n", (5, 19, "steps.a.entry_script")),
    ("name: p\nsteps: {a: {kind: command, command: x, run_after: [a]}}\n", (2, 9, "steps.a")),
    ("name: p\nsteps: {plan: {kind: command, command: x}}\n", (2, 9, "steps.plan")),
]


@pytest.mark.parametrize(("text", "place"), PLACES)
def test_what_is_wrong_is_named_with_line_column_and_path(text, place, tmp_path):
    file = tmp_path / "p.yaml"
    file.write_text(text)
    assert located(load_pipeline, file) == [place]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: 1.10\n", 'YAML reads it as a number: write it in quotes, "1.10"'),
        ("name: on\n", "YAML reads on, off, yes, no, true and false as booleans: write it in quotes"),
        ("name: 2024-01-01\n", "YAML reads it as a date: write it in quotes"),
        ("name:\n", "Give a text, or leave the key out"),
        ("name: [p]\n", "Give one text"),
        ("name: p\non: x\n", "there is no such field (given: on)"),
        ("name: p\n1: x\n", "there is no such field (given: 1)"),
        ("name: p\ntags: a\n", "must be a list"),
        ("name: p\ntags: [1.10]\n", '"1.10"'),
        ("name: p\ncatchup: 'no'\n", "must be true or false"),
        ("name: p\nparameters: [c]\n", "must be a mapping of names to values"),
        ("name: p\nparameters: {c: }\n", "must be a mapping of fields to values"),
        ("name: p\nstart_date: yesterday\n", "must be a date or a time"),
        ("name: p\nmax_active_runs: 0\n", "must be at least 1"),
        ("name: p\nmax_active_runs: 1.5\n", "must be a whole number"),
        ("name: p\n\tdescription: x\n", "replace the tabs"),
    ],
)
def test_the_traps_of_yaml_are_explained(text, words, tmp_path):
    found = problems(loads, text if "\t" in text else text + "steps: {a: {kind: command, command: 'true'}}\n", tmp_path)
    assert len(found) == 1
    assert words in found[0]


def test_no_message_is_pydantics(tmp_path):
    junk = [None, True, 3, 1.5, "x", [], {}, [[]], {"x": []}, "${{ x }}"]
    for field in Pipeline.model_fields:
        for value in junk:
            data = {"name": "p", "steps": {"a": {"kind": "command", "command": "true"}}, field: value}
            _, found = outcome(yaml.safe_dump(data), tmp_path, Workspace())
            assert not any("nput should" in str(problem) or "pydantic" in str(problem) for problem in found)


def leaves(data, path=()):
    yield path
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in items:
        yield from leaves(value, (*path, key))


def mutated(data, path, value):
    data = copy.deepcopy(data)
    inner = data
    for part in path[:-1]:
        inner = inner[part]
    if value is KeyError:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return data


JUNK = [
    KeyError,
    None,
    True,
    -1,
    1.5,
    float("nan"),
    "",
    "x",
    "a b",
    "../x",
    "${{ x }}",
    "${{ inputs.zz }}",
    "${{ steps.a.outputs.b }}",
    [],
    {},
    ["x"],
    {"x": 1},
    [[["x"]]],
    {1: 2},
]


@pytest.mark.parametrize("name", ["whole", "list", "assets"])
def test_whatever_is_written_either_loads_or_is_refused_with_its_place(name, project, workspace):
    data = yaml.safe_load(dedent(PIPELINES[name]))
    cases = [(path, value) for path in leaves(data) if path for value in JUNK]
    for path, value in random.Random(0).sample(cases, min(len(cases), 250)):
        text = yaml.safe_dump(mutated(data, path, value), sort_keys=False)
        made, found = outcome(text, project, workspace)
        assert made is None or loads(dump(made), project, workspace) == made
        assert made is not None or found
        assert all(problem.line >= 1 and problem.column >= 1 for problem in found)
        assert not any("nput should" in str(problem) for problem in found)


def outcome(text, folder, workspace):
    try:
        return loads(text, folder, workspace), ()
    except DefinitionError as error:
        return None, error.problems


def test_a_file_that_cannot_be_read_is_refused_by_name(tmp_path):
    with pytest.raises(DefinitionError, match=r"missing\.yaml: cannot be read: No such file"):
        load_pipeline(tmp_path / "missing.yaml")
    with pytest.raises(DefinitionError, match="cannot be read: Is a directory"):
        load_pipeline(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"name: caf\xe9\n")
    with pytest.raises(DefinitionError, match="is not UTF-8 text"):
        load_pipeline(tmp_path / "latin.yaml")


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path):
    (tmp_path / "p.yaml").write_bytes(b"\xef\xbb\xbfname: p\nsteps: {a: {kind: command, command: 'true'}}\n")
    assert load_pipeline(tmp_path / "p.yaml").name == "p"


def named(folder, text):
    folder.mkdir()
    (folder / "mlpipe.yaml").write_text(text)
    return folder / "mlpipe.yaml"


def test_the_workspace_is_the_first_that_is_named(tmp_path, monkeypatch):
    explicit = named(tmp_path / "explicit", "name: explicit")
    variable = named(tmp_path / "variable", "name: variable")
    setting = named(tmp_path / "setting", "name: setting")
    beside = named(tmp_path / "beside", "name: beside").parent
    bare = tmp_path / "bare"
    assert find_workspace(None, bare, None) == Workspace()
    assert find_workspace(None, bare, None).folder == bare
    assert find_workspace(None, beside, None).name == "beside"
    assert find_workspace(None, beside, str(setting)).name == "setting"
    monkeypatch.setenv("MLPIPE_WORKSPACE", str(variable.parent))
    assert find_workspace(None, beside, str(setting)).name == "variable"
    assert find_workspace(explicit, beside, str(setting)).name == "explicit"


def test_a_workspace_that_is_named_must_be_there(tmp_path):
    with pytest.raises(DefinitionError, match=r"nowhere\.yaml: cannot be read"):
        find_workspace(tmp_path / "nowhere.yaml", tmp_path, None)


def test_the_environment_names_another_default_compute_target(tmp_path, monkeypatch):
    (tmp_path / "mlpipe.yaml").write_text("compute: {box: {kind: docker}}\ndefaults: {retries: 2}\n")
    monkeypatch.setenv("MLPIPE_COMPUTE", "box")
    found = find_workspace(None, tmp_path, None)
    assert (found.defaults.compute, found.defaults.retries, found.folder) == ("box", 2, tmp_path)
    with pytest.raises(DefinitionError, match="is no compute target of the workspace"):
        find_workspace(None, tmp_path / "bare", None)


def test_a_broken_workspace_names_its_own_place(tmp_path):
    (tmp_path / "mlpipe.yaml").write_text("datastores:\n  a: {ur: s3://b}\ncompute: {x: {kind: lokal}}\n")
    assert located(load_workspace, tmp_path) == [(2, 7, "datastores.a.ur"), (3, 21, "compute.x.kind")]


def test_a_workspace_starts_at_its_own_folder(tmp_path):
    file = named(tmp_path / "w", "store: ./store\n")
    assert load_workspace(file).output_store.url == f"file://{tmp_path}/w/store"
    assert load_workspace(file.parent).compute == {"local": LocalCompute(name="local")}


def test_loading_takes_work_in_proportion_to_the_steps(project):
    step = "  s{0}: {{kind: python_script, source_directory: src, script_name: train.py, arguments: [--x, '${{{{ outputs.o }}}}'], outputs: {{o: {{}}}}}}\n"
    workspace = Workspace().located(project)

    def calls(steps):
        text = "name: p\nsteps:\n" + "".join(step.format(index) for index in range(steps))
        return calls_of(lambda: loads(text, project, workspace))

    calls(1)  # whatever is imported and compiled once
    one, ten, twenty = calls(1), calls(10), calls(20)
    assert twenty - ten < 1.3 * 10 * (ten - one) / 9
    assert (twenty - ten) / 10 < CALLS_A_STEP


CALLS_A_STEP = 1000


def calls_of(action):
    """Return how many functions an action calls: what it does, however fast this machine does it just now."""
    calls = 0

    def count(_frame, event, _argument):
        nonlocal calls
        calls += event in {"call", "c_call"}

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        action()
    finally:
        sys.setprofile(before)
    return calls


def test_a_step_that_is_there_twice_makes_no_circle_of_what_is_none(tmp_path):
    text = """
name: p
steps:
  a: {kind: command, command: x, outputs: [o]}
  b: {kind: command, command: x, inputs: {i: "${{ steps.a.outputs.o }}"}, outputs: [o]}
  a: {kind: command, command: x, inputs: {i: "${{ steps.b.outputs.o }}"}, outputs: [o]}
"""
    with pytest.raises(DefinitionError) as caught:
        loads(text, tmp_path)
    assert [problem.message for problem in caught.value.problems] == ["is there twice"]
    with pytest.raises(DefinitionError, match="need each other in a circle"):
        loads(text.replace("  a: {kind: command, command: x, outputs: [o]}\n", ""), tmp_path)


def test_what_the_workspace_lacks_names_its_file_or_that_there_is_none(tmp_path):
    text = "name: p\nsteps:\n  a: {kind: command, command: x, inputs: {i: {datastore: lake, path: x}}}\n"
    with pytest.raises(DefinitionError) as caught:
        loads(text, tmp_path)
    file = tmp_path / "mlpipe.yaml"
    assert f"There is no {file}: write it, and define lake there" in str(caught.value)
    file.write_text("datastores: {landing: ./landing}\n")
    with pytest.raises(DefinitionError) as caught:
        loads(text, tmp_path)
    assert f"(given: lake). Define it in {file}. Known: landing" in str(caught.value)
    with pytest.raises(DefinitionError) as caught:
        loads(text.replace("lake", "landin"), tmp_path)
    assert "Did you mean landing?" in str(caught.value)
