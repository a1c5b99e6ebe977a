from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from airflow_mlpipe.definitions import (
    DataReference,
    Datastore,
    DataTransferStep,
    Destination,
    Environment,
    LocalCompute,
    Pipeline,
    PipelineData,
    Workspace,
)
from airflow_mlpipe.exceptions import DataError, DefinitionError
from tests.definitions.helpers import problems, step

WORKSPACE = Workspace(
    store="store",
    datastores={"landing": "./landing", "lake": {"url": "s3://lake/root/", "connection": "aws"}},
    compute={"gpu": {"kind": "kubernetes"}, "big": {"kind": "local"}},
    environments={"sklearn": {"requirements_file": "sklearn.txt"}, "boxed": {"image": "python:3.12"}},
    defaults={"retries": 1, "timeout": "1 hour"},
).located(Path("/site"))


def pipeline(*steps, **fields):
    made = Pipeline(name="p", steps=list(steps) or [step("a")], **fields)
    made.folder = Path("/project")
    return made


def test_the_embedded_default_runs_locally_and_stores_at_home():
    workspace = Workspace()
    assert workspace.compute == {"local": LocalCompute(name="local")}
    assert workspace.output_store is None
    assert workspace.compute_of(pipeline(), step("a")) == LocalCompute(name="local")
    assert workspace.environment_of(pipeline(), step("a")) == Environment()


def test_relative_urls_start_at_its_own_folder():
    assert WORKSPACE.output_store == Datastore(url="file:///site/store")
    assert WORKSPACE.datastore("landing") == Datastore(name="landing", url="file:///site/landing")
    assert WORKSPACE.datastore("lake").url == "s3://lake/root/"


def test_local_compute_is_always_there():
    assert sorted(WORKSPACE.compute) == ["big", "gpu", "local"]


@pytest.mark.parametrize(
    ("of_step", "of_pipeline", "of_workspace", "expected"),
    [
        ("big", "gpu", "gpu", "big"),
        (None, "big", "gpu", "big"),
        (None, None, "big", "big"),
        (None, None, None, "local"),
    ],
)
def test_the_nearest_word_on_compute_holds(of_step, of_pipeline, of_workspace, expected):
    workspace = WORKSPACE.model_copy(
        update={"defaults": WORKSPACE.defaults.model_copy(update={"compute": of_workspace})}
    )
    one = step("a", compute=of_step)
    assert workspace.compute_of(pipeline(one, compute=of_pipeline), one).name == expected


def test_the_nearest_word_on_retries_and_timeouts_holds():
    one = step("a", retries=3)
    settings = WORKSPACE.settings_of(pipeline(one, retry_delay=5, retries=2), one)
    assert (settings.retries, settings.retry_delay, settings.timeout) == (3, timedelta(seconds=5), timedelta(hours=1))


def test_no_retries_is_a_word_too():
    one = step("a", retries=0)
    assert WORKSPACE.settings_of(pipeline(one, retries=2), one).retries == 0


def test_an_environments_paths_start_where_it_is_written():
    named = step("a", environment="sklearn")
    assert WORKSPACE.environment_of(pipeline(named), named).requirements_file == "/site/sklearn.txt"
    written = step("a", environment=Environment(requirements_file="r.txt", python="bin/python"))
    found = WORKSPACE.environment_of(pipeline(written), written)
    assert (found.requirements_file, found.python) == ("/project/r.txt", "/project/bin/python")
    of_pipeline = pipeline(environment=Environment(python="python3"))
    assert WORKSPACE.environment_of(of_pipeline, of_pipeline.steps[0]) == Environment(python="python3")


def test_a_targets_environment_holds_before_the_defaults_and_after_the_pipelines_own():
    environments = {name: Environment(image=f"{name}:1") for name in ("step", "pipeline", "target", "default")}
    workspace = Workspace(
        compute={"box": {"kind": "docker", "environment": "target"}},
        environments=environments,
        defaults={"environment": "default"},
    )
    one, own = step("a", compute="box"), step("a", compute="box", environment="step")
    assert workspace.environment_of(pipeline(own, environment="pipeline"), own).image == "step:1"
    assert workspace.environment_of(pipeline(one, environment="pipeline"), one).image == "pipeline:1"
    assert workspace.environment_of(pipeline(one), one).image == "target:1"
    here = step("a", compute="local")
    assert workspace.environment_of(pipeline(here), here).image == "default:1"


def test_a_targets_environment_must_be_one_of_the_workspace():
    with pytest.raises(DefinitionError, match=r"compute\.box\.environment: is not among .*Did you mean sklearn"):
        Workspace(compute={"box": {"kind": "docker", "environment": "sklern"}}, environments={"sklearn": {}})


def test_a_targets_environment_is_checked_against_what_its_steps_need():
    workspace = Workspace(compute={"box": {"kind": "docker", "environment": "bare"}}, environments={"bare": {}})
    (problem,) = workspace.check(pipeline(step("a", compute="box")))
    assert "names no image" in problem.message


def test_another_target_holds_for_steps_and_pipelines_that_name_none():
    chosen = WORKSPACE.computing_on("big")
    one, own = step("a"), step("a", compute="gpu")
    assert chosen.compute_of(pipeline(one), one).name == "big"
    assert chosen.compute_of(pipeline(own), own).name == "gpu"
    assert chosen.folder == WORKSPACE.folder
    assert WORKSPACE.compute_of(pipeline(one), one).name == "local"
    with pytest.raises(DefinitionError, match=r"is no compute target of the workspace .*Did you mean big"):
        WORKSPACE.computing_on("bigg")


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        (DataReference(path="x/y.csv"), ("file:///project/x/y.csv", None)),
        (DataReference(path="/abs/x"), ("file:///abs/x", None)),
        (DataReference(url="s3://b/x"), ("s3://b/x", None)),
        (DataReference(datastore="landing", path="x"), ("file:///site/landing/x", "landing")),
        (DataReference(datastore="lake", path="/x/"), ("s3://lake/root/x", "lake")),
        (DataReference(datastore="lake"), ("s3://lake/root/", "lake")),
        (Destination(datastore="lake", path="a/${{ parameters.x }}"), ("s3://lake/root/a/VALUE", "lake")),
        (DataReference(path="${{ parameters.url }}"), ("s3://given/url", None)),
    ],
)
def test_a_place_is_a_uri_and_the_datastore_that_opens_it(place, expected):
    def substitute(text):
        return text.replace("${{ parameters.x }}", "VALUE").replace("${{ parameters.url }}", "s3://given/url")

    assert WORKSPACE.locate(place, Path("/project"), substitute) == expected


def test_a_value_cannot_lead_out_of_the_datastore():
    place = DataReference(datastore="lake", path="a/${{ parameters.x }}")
    with pytest.raises(DataError, match="leaves the datastore lake"):
        WORKSPACE.locate(place, Path("/project"), lambda _: "a/../../secret")


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        ({"datastore": "lake", "path": "${{ parameters.x }}"}, "", "would be the folder around it"),
        ({"datastore": "lake", "path": "a/${{ parameters.x }}/"}, "", "is ''"),
        ({"datastore": "lake", "path": "a/${{ parameters.x }}"}, ".", "is '.'"),
        ({"path": "${{ parameters.x }}"}, "", "would be the folder around it"),
        ({"url": "s3://b/${{ parameters.x }}"}, "/", "would be the folder around it"),
        (
            {"datastore": "lake", "path": "a/${{ parameters.x }}"},
            "b/../..",
            "take the place of the whole datastore lake",
        ),
        ({"path": "${{ parameters.x }}"}, "../", "would be the folder around it"),
        ({"path": "${{ parameters.x }}"}, "/project", "would take the place of the folder of the definition"),
        ({"path": "${{ parameters.x }}"}, "file:///", "would take the place of the folder of the definition"),
    ],
)
def test_a_value_that_is_empty_makes_no_destination_of_the_folder_around_it(place, value, words):
    def substitute(text):
        return text.replace("${{ parameters.x }}", value)

    with pytest.raises(DataError, match=words):
        WORKSPACE.locate(Destination(**place), Path("/project"), substitute)
    WORKSPACE.locate(DataReference(**place), Path("/project"), substitute)


def test_a_value_that_is_empty_may_be_a_part_of_a_name():
    place = Destination(path="a/x${{ parameters.x }}.csv")
    assert WORKSPACE.locate(place, Path("/project"), lambda _: "a/x.csv") == ("file:///project/a/x.csv", None)


def test_a_value_with_credentials_is_refused_without_showing_it():
    place = DataReference(path="${{ parameters.url }}")
    with pytest.raises(DataError, match="Airflow connection") as caught:
        WORKSPACE.locate(place, Path("/project"), lambda _: "https://me:hunter2@host/x")
    assert "hunter2" not in str(caught.value)


def test_an_output_goes_where_it_says_or_under_its_own_name():
    one = step(
        "a", outputs=[PipelineData("x", datastore="lake"), PipelineData("y", destination="s3://b"), PipelineData("z")]
    )
    found = {name: WORKSPACE.destination_of(pipeline(one), one, name) for name in "xyz"}
    assert found == {"x": Destination(datastore="lake", path="p/a/x"), "y": Destination(url="s3://b"), "z": None}


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (step("a", compute="bigg"), "steps.a.compute: is not in the workspace (given: bigg). Did you mean big?"),
        (
            step("a", environment="sklern"),
            "steps.a.environment: is not in the workspace (given: sklern). Did you mean sklearn?",
        ),
        (
            step("a", inputs={"x": {"datastore": "lak", "path": "x"}}),
            "steps.a.inputs.x.datastore: is not in the workspace",
        ),
        (step("a", outputs={"x": {"datastore": "lak"}}), "steps.a.outputs.x.datastore: is not in the workspace"),
        (
            step("a", outputs={"x": {"destination": {"datastore": "lak", "path": "x"}}}),
            "steps.a.outputs.x.destination.datastore: is not in the workspace",
        ),
        (
            DataTransferStep(name="a", source={"datastore": "lak", "path": "x"}, destination="s3://b"),
            "steps.a.source.datastore: is not in the workspace",
        ),
        (
            DataTransferStep(name="a", source="s3://b", destination={"datastore": "lak", "path": "x"}),
            "steps.a.destination.datastore: is not in the workspace",
        ),
        (
            step("a", compute="gpu"),
            "steps.a.environment: names no image, and neither does the compute target gpu. Give the environment image",
        ),
        (step("a", resources={"cpu": 1}), "steps.a.resources: mean nothing to a local target (given: cpu)"),
        (step("a", environment="boxed"), "has image, which means nothing to a local target"),
    ],
)
def test_a_step_that_the_workspace_cannot_serve_is_refused(one, words):
    (problem,) = WORKSPACE.check(pipeline(one))
    assert words in str(problem)


def test_what_a_pipeline_says_for_its_steps_is_checked_too():
    found = [str(problem) for problem in WORKSPACE.check(pipeline(compute="bigg", environment="sklern"))]
    assert [text.partition(":")[0] for text in found] == ["compute", "environment"]
    lost = Workspace(defaults={"compute": "nowhere"})
    assert "steps.a.compute: is not in the workspace (given: nowhere)" in str(lost.check(pipeline())[0])


def test_nothing_is_wrong_with_a_pipeline_that_fits():
    assert WORKSPACE.check(pipeline(step("a", environment="sklearn", inputs={"x": {"datastore": "lake"}}))) == []


def test_what_is_not_there_is_refused_when_asked_for():
    with pytest.raises(DefinitionError, match=r"Did you mean lake\?"):
        WORKSPACE.datastore("lakes")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"compute": {"x": {"kind": "dockr"}}}, "Workspace.compute.x.kind: is no kind of compute target"),
        ({"datastores": {"x": {"ur": "s3://b"}}}, "Did you mean url?"),
        ({"datastores": {"a b": "s3://b"}}, "a name consists of"),
        ({"store": 3}, "Workspace.store"),
        ({"defaults": {"retry": 3}}, "Did you mean retries?"),
        ({"environments": {"e": {"compare": "x"}}}, "must be one of strict, declared, ignore"),
        ({"datastore": {}}, "Did you mean datastores?"),
    ],
)
def test_a_workspace_that_could_not_work_is_refused(fields, words):
    assert any(words in problem for problem in problems(Workspace, **fields))
