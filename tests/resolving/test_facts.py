from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from airflow_mlpipe.definitions import Datastore, DataTransferStep, Environment, MpiStep, Workspace
from airflow_mlpipe.exceptions import DataChangedError, DataError, EnvironmentBuildError, SourceError
from airflow_mlpipe.planning.bind import Values
from airflow_mlpipe.resolving import facts
from airflow_mlpipe.resolving.environments import to_lock
from airflow_mlpipe.resolving.facts import read_inputs, tasks_of
from airflow_mlpipe.resolving.locks import lock_environments
from airflow_mlpipe.runtime.protocol import Content, DistributionSpec, EnvironmentSpec, InputSpec, OutputSpec
from airflow_mlpipe.store import snapshots
from tests.resolving.projects import Project, command, estimator, script


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.delenv("MLPIPE_STORE", raising=False)
    project = Project(tmp_path / "project", Workspace(datastores={"landing": Datastore(url=str(tmp_path / "landing"))}))
    project.write("src/train.py", "import helper\n")
    project.write("src/helper.py")
    project.write("src/notes.txt")
    project.write("data/raw.csv", "1,2\n")
    return project


def task(project, step):
    return project.facts(project.pipeline(step)).task(step)


def counted(monkeypatch, name):
    """Count the calls of a function that facts are read with."""
    calls, read = [], getattr(facts, name)
    monkeypatch.setattr(facts, name, lambda *given: calls.append(given) or read(*given))
    return calls


def test_a_source_directory_is_read_once_for_all_steps_that_share_it(project, monkeypatch):
    calls = counted(monkeypatch, "scan")
    steps = [script("train"), script("again", script_name="helper.py"), command("list", source_directory="src")]
    found = [given.spec.code for given in tasks_of(project.facts(project.pipeline(*steps)))]
    assert len(calls) == 1
    assert len(set(found)) == 1


def code(project, *steps, file="p.yaml"):
    """Return the code of the first of some steps, whose folder holds the definition itself."""
    pipeline = project.pipeline(*steps)
    pipeline.source_file = project.root / file
    return project.facts(pipeline).task(pipeline.steps[0]).spec.code


def test_rule_2_a_definition_is_no_code_of_its_steps(project):
    step = script("train", source_directory=".", script_name="src/train.py")
    before = code(project, step)
    for name in ("p.yaml", "mlpipe.yaml", "mlpipe.lock"):
        project.write(name, "name: p\n")
        assert code(project, step) == before
    project.write("other.yaml")
    assert code(project, step) != before


def test_rule_2_the_stores_of_a_site_and_its_private_folder_are_no_code(project, monkeypatch):
    step = script("train", source_directory=".", script_name="src/train.py")
    monkeypatch.setenv("MLPIPE_HOME", str(project.root / "mine"))
    before = code(project, step)
    for path in ("store/half-made", "mine/experiments/x.yaml"):
        project.write(path)
        assert code(project, step) == before
    monkeypatch.delenv("MLPIPE_HOME")
    assert code(project, step) != before


def test_rule_2_what_the_pipeline_delivers_is_no_code_of_its_steps(project):
    step = script("train", source_directory=".", script_name="src/train.py")
    report = command("report", outputs={"page": {"destination": "results"}, "b": {"destination": "s3://b/x"}})
    copy = DataTransferStep(name="copy", source="s3://b/raw.csv", destination="landed/${{ run.logical_date }}")
    before = code(project, step, report, copy)
    project.write("results/page.html")
    assert code(project, step, report, copy) == before
    assert code(project, step) != before


def test_code_by_imports_is_another_snapshot_of_the_same_directory(project):
    pipeline = project.pipeline(script("train"), script("lean", script_name="train.py", code="imports"))
    read = project.facts(pipeline)
    whole, lean = (read.task(step).spec.code for step in pipeline.steps)
    assert set(read.scanned()[whole]) == {"train.py", "helper.py", "notes.txt"}
    assert set(read.scanned()[lean]) == {"train.py", "helper.py"}


def test_a_command_without_a_source_directory_has_no_code(project):
    assert task(project, command("list")).spec.code is None


@pytest.mark.parametrize("code", ["directory", "imports"])
def test_a_script_that_is_not_there_is_refused_by_name_with_its_folder(project, code):
    with pytest.raises(SourceError, match=r"fit\.py.*project/src"):
        task(project, script("fit", code=code))


def test_a_script_may_be_written_by_a_detour(project):
    assert task(project, script("train", script_name="./train.py")).spec.code


def test_an_environment_is_read_once_for_all_steps_that_share_it(project, monkeypatch):
    calls = counted(monkeypatch, "specification")
    shared = Environment(variables={"A": "1"})
    tasks_of(project.facts(project.pipeline(command("a", environment=shared), command("b", environment=shared))))
    assert len(calls) == 1


@pytest.mark.parametrize("code", ["directory", "imports"])
def test_the_code_of_an_estimator_is_that_of_a_script(project, code):
    assert task(project, estimator("train", code=code)).spec.code == task(project, script("train", code=code)).spec.code
    with pytest.raises(SourceError, match=r"fit\.py.*project/src"):
        task(project, estimator("fit", code=code))


def test_the_script_of_an_mpi_step_must_be_there(project):
    ranks = {"name": "ranks", "source_directory": "src"}
    assert task(project, MpiStep(script_name="train.py", **ranks)).spec.code == task(project, script("train")).spec.code
    assert task(project, MpiStep(command="true", **ranks)).spec.code == task(project, script("train")).spec.code
    with pytest.raises(SourceError, match=r"fit\.py.*project/src"):
        task(project, MpiStep(script_name="fit.py", **ranks))


def test_the_framework_of_an_estimator_says_what_starts_its_processes(project):
    step = estimator("train", framework="pytorch", distribution={"processes_per_node": 2})
    assert task(project, step).spec.distribution == DistributionSpec("torchrun", processes=2)


def test_rule_4_an_estimator_without_a_version_is_observed(project):
    spec = task(project, estimator("train", framework="tensorflow")).spec
    assert spec.environment == replace(
        task(project, script("train")).spec.environment, variables={"TF_CPP_MIN_LOG_LEVEL": "1"}
    )
    assert spec.environment.observe


def test_rule_4_an_estimator_with_a_version_has_a_lock(project):
    project.workspace = Workspace(frameworks={"six": {"requirements": "six=={version}"}})
    step = estimator("train", framework="six", framework_version="1.16.0")
    with pytest.raises(EnvironmentBuildError, match=r"requirements six==1\.16\.0 has no lock.*run `mlpipe lock FILE`"):
        task(project, step)
    environment = project.workspace.environment_of(project.pipeline(step), step)
    lock_environments(project.root, [to_lock(environment, project.root)])
    facts = project.facts(project.pipeline(step))
    spec = facts.task(step).spec
    assert spec.environment.lock == "sha256:" + hashlib.sha256(b"six==1.16.0\n").hexdigest()
    facts.pack(spec)  # what it needs is not installed here; its environment will have it


def test_a_framework_that_is_missing_is_said_before_anything_is_launched(project):
    project.workspace = Workspace(frameworks={"own": {"packages": ["no-such-package", "nor-this"]}})
    step = estimator("train", framework="own")
    facts = project.facts(project.pipeline(step))
    spec = facts.task(step).spec
    with pytest.raises(EnvironmentBuildError, match="the framework own needs the package no-such-package or nor-this"):
        facts.pack(spec)
    assert not snapshots.exists(project.site.store, spec.code)


def test_a_transfer_has_no_environment(project):
    pipeline = project.pipeline(
        DataTransferStep(name="copy", source="data/raw.csv", destination="out"), environment=Environment(python="gone")
    )
    assert project.facts(pipeline).task(pipeline.step("copy")).spec.environment == EnvironmentSpec()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("data/raw.csv", InputSpec("file://{root}/data/raw.csv")),
        ("/etc/hostname", InputSpec("file:///etc/hostname")),
        ("s3://bucket/x", InputSpec("s3://bucket/x")),
        ({"datastore": "landing", "path": "a"}, InputSpec("file://{landing}/a", datastore="landing")),
        ({"path": "data/${{ parameters.month }}.csv"}, InputSpec("file://{root}/data/05.csv")),
        ({"path": "data", "mode": "download", "compare": "version"}, InputSpec("file://{root}/data", mode="download")),
    ],
)
def test_data_is_placed(project, given, expected):
    step = command("a", inputs={"x": given})
    pipeline = project.pipeline(step, parameters={"month": "01"})
    found = project.facts(pipeline, Values({"month": "05"})).task(step).spec.inputs["x"]
    uri = expected.uri.format(root=project.root, landing=project.root.parent / "landing")
    assert (found.uri, found.mode, found.datastore) == (uri, expected.mode, expected.datastore)
    assert (found.content, found.token, found.producer) == (None, None, None)


def test_data_is_compared_as_its_filesystem_suits_unless_the_definition_says_how(project):
    step = command("a", inputs={"x": "data/raw.csv", "y": {"path": "data/raw.csv", "compare": "content"}})
    found = task(project, step).spec.inputs
    assert (found["x"].compare, found["y"].compare) == (None, "content")


def test_the_output_of_a_step_is_named_until_it_is_there(project):
    step = command("b", inputs={"x": {"from": "${{ steps.a.outputs.x }}", "mode": "direct"}})
    pipeline = project.pipeline(command("a", outputs=["x"]), step)
    assert project.facts(pipeline).task(step).spec.inputs == {"x": InputSpec(mode="direct", producer=("a", "x"))}


def test_outputs_are_placed(project):
    outputs = {"x": {"kind": "file", "destination": {"datastore": "landing", "path": "x"}, "asset": "xs"}, "y": {}}
    found = task(project, command("a", outputs=outputs)).spec.outputs
    assert found == {
        "x": OutputSpec("file", f"file://{project.root.parent}/landing/x", "landing", "xs"),
        "y": OutputSpec(),
    }


def test_external_data_is_read_once_for_all_steps(project, monkeypatch):
    calls = counted(monkeypatch, "content_of")
    step = command("a", inputs={"x": "data/raw.csv", "y": "data/raw.csv", "z": "data"})
    read = project.facts(project.pipeline(step))
    spec = read.read_inputs(read.task(step).spec)
    read.read_inputs(read.task(step).spec)
    assert len(calls) == 2
    assert spec.inputs["x"].content == spec.inputs["y"].content
    assert {name: given.content.files for name, given in spec.inputs.items()} == {"x": 1, "y": 1, "z": 1}


def test_one_place_compared_in_two_ways_is_read_twice(project):
    step = command("a", inputs={"x": "data/raw.csv", "y": {"path": "data/raw.csv", "compare": "path"}})
    found = project.spec(project.pipeline(step), "a").inputs
    assert found["x"].content.digest.startswith("sha256:")
    assert found["y"].content.digest.startswith("path:file://")


def test_missing_data_is_named_by_its_uri(project):
    with pytest.raises(DataError, match=r"there is no data at file:///.*/data/gone\.csv: correct the path"):
        project.spec(project.pipeline(command("a", inputs={"x": "data/gone.csv"})), "a")


def test_what_a_step_makes_is_not_looked_for_outside(project):
    draft = InputSpec(producer=("a", "x"))
    spec = replace(task(project, command("b")).spec, inputs={"x": draft})
    assert read_inputs(project.site, spec) == spec


def test_data_that_another_task_bound_is_taken_as_it_is(project):
    bound = InputSpec("file:///gone", Content("file", "sha256:1", 1, 1), producer=("a", "x"))
    spec = replace(task(project, command("b")).spec, inputs={"x": bound})
    assert read_inputs(project.site, spec).inputs == {"x": bound}


def test_a_step_without_data_is_the_same_after_reading(project):
    spec = task(project, command("a")).spec
    assert read_inputs(project.site, spec) is spec


def test_rule_13_destinations_that_the_values_of_a_run_make_one_are_refused(project):
    places = {name: {"x": {"destination": f"out/${{{{ parameters.{name} }}}}"}} for name in "ab"}
    pipeline = project.pipeline(
        *(command(name, outputs=outputs) for name, outputs in places.items()), parameters={"a": "1", "b": "2"}
    )
    assert len(tasks_of(project.facts(pipeline, Values({"a": "1", "b": "2"})))) == 2
    with pytest.raises(DataError, match=r"out/1 of steps.b.outputs.x is also where steps.a.outputs.x goes; give each"):
        tasks_of(project.facts(pipeline, Values({"a": "1", "b": "1"})))


def test_a_step_does_not_read_by_path_what_the_values_of_a_run_make_a_destination(project):
    pipeline = project.pipeline(
        command("a", outputs={"x": {"destination": "out"}}),
        command("b", inputs={"y": "${{ parameters.from }}"}),
        parameters={"from": "elsewhere"},
    )
    with pytest.raises(DataError, match=r"input y of b, .*out/1.csv, meets .*Write \$\{\{ steps.a.outputs.x \}\}"):
        tasks_of(project.facts(pipeline, Values({"from": "out/1.csv"})))


def test_tasks_come_in_the_order_of_their_data_with_all_they_wait_for(project):
    pipeline = project.pipeline(
        command("c", inputs={"x": "${{ steps.b.outputs.x }}"}, run_after=["a"]),
        command("b", outputs=["x"]),
        command("a", allow_reuse=False),
    )
    tasks = tasks_of(project.facts(pipeline), regenerate=["b"], waits={"b": ("users_download",)})
    assert [given.spec.step for given in tasks] == ["b", "a", "c"]
    assert {given.spec.step: given.run_after for given in tasks} == {"a": (), "b": ("users_download",), "c": ("b", "a")}
    assert [given.spec.step for given in tasks if given.regenerate] == ["b"]
    assert [given.spec.step for given in tasks if not given.allow_reuse] == ["a"]


def test_what_a_step_is_launched_with_is_put_into_the_store(project):
    environment = Environment(requirements=["six==1.16.0"])
    lock_environments(project.root, [to_lock(environment, project.root)])
    step = script("train", environment=environment)
    read = project.facts(project.pipeline(step))
    spec = read.task(step).spec
    assert not snapshots.exists(project.site.store, spec.code)
    read.pack(spec)
    assert set(snapshots.read(project.site.store, spec.code).files) == {"train.py", "helper.py", "notes.txt"}
    assert snapshots.get_blob(project.site.store, spec.environment.lock) == b"six==1.16.0\n"


def test_a_file_edited_after_it_was_read_is_not_packed_until_it_is_read_again(project):
    step = script("train")
    read = project.facts(project.pipeline(step))
    first = read.task(step).spec
    project.write("src/helper.py", "2\n")
    with pytest.raises(DataChangedError, match=r"helper\.py .* was changed while it was packed"):
        read.pack(first)
    assert read.task(step).spec == first
    read.forget_code()
    second = read.task(step).spec
    read.pack(second)
    assert second.code != first.code
    assert snapshots.exists(project.site.store, second.code)
    assert not snapshots.exists(project.site.store, first.code)
