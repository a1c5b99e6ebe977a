from __future__ import annotations

import pytest

from airflow_mlpipe.definitions import Environment, EstimatorStep, Pipeline, Workspace
from airflow_mlpipe.definitions.imagebuild import ImageBuild
from airflow_mlpipe.exceptions import DefinitionError
from tests.definitions.helpers import problems, read

SLIM = ImageBuild(base="python:3.12-slim", python="3.12")
WORKSPACE = {
    "compute": {
        "box": {"kind": "docker"},
        "full": {"kind": "docker", "image": "r.io/full:1"},
        "pod": {"kind": "kubernetes"},
    },
    "environments": {
        "pinned": {"requirements": ["scikit-learn>=1.5", "pandas"]},
        "pandas": {"requirements": ["pandas"]},
        "file": {"requirements_file": "requirements.txt"},
        "image": {"image": "r.io/own:1"},
        "told": {"image": "r.io/own:1", "compare": "declared"},
        "base": {"build": {"base": "r.io/base:1"}},
        "python": {"python": "python3.11"},
        "threads": {"variables": {"OMP_NUM_THREADS": 2, "TF_CPP_MIN_LOG_LEVEL": 3}},
        "secret": {"secrets": {"TF_CPP_MIN_LOG_LEVEL": "variable:level"}},
    },
    "frameworks": {
        "tagged": {"image": "r.io/tagged:{version}", "requirements": ["tagged=={version}"]},
        "bare": {},
    },
    "registry": "r.io/team",
}


def software(**fields) -> Environment:
    """Return the environment of an estimator in the workspace above."""
    step = EstimatorStep(entry_script="a.py", **fields)
    return Workspace(**WORKSPACE).environment_of(Pipeline(name="p", steps=[step]), step)


def requirements(**fields) -> tuple[str, ...]:
    return software(**fields).requirements


def test_without_a_version_the_python_of_the_worker_is_used_as_it_is():
    assert software(framework="sklearn") == Environment(name="sklearn")
    assert software() == Environment()


@pytest.mark.parametrize(
    ("fields", "lines"),
    [
        ({"framework": "sklearn", "framework_version": "1.7.2"}, ("scikit-learn==1.7.2",)),
        ({"framework": "sklearn", "requirements": ["pandas"]}, ("scikit-learn", "pandas")),
        ({"framework": "sklearn", "requirements": ["scikit-learn<2"]}, ("scikit-learn<2",)),
        ({"framework": "xgboost", "framework_version": "3.0"}, ("xgboost==3.0", "scikit-learn")),
        ({"requirements": ["pandas"]}, ("pandas",)),
        ({"framework": "bare", "framework_version": "1"}, ()),
    ],
)
def test_a_version_or_requirements_make_an_environment(fields, lines):
    assert requirements(**fields) == lines


@pytest.mark.parametrize(
    ("environment", "fields", "lines"),
    [
        ("pandas", {}, ("pandas", "scikit-learn")),
        ("pinned", {}, ("scikit-learn>=1.5", "pandas")),
        ("pinned", {"framework_version": "1.7.2"}, ("scikit-learn>=1.5", "pandas", "scikit-learn==1.7.2")),
        ("pinned", {"requirements": ["numpy"]}, ("scikit-learn>=1.5", "pandas", "numpy")),
        ("file", {}, ("scikit-learn",)),
        ("python", {}, ()),
        ("python", {"requirements": ["numpy"]}, ("scikit-learn", "numpy")),
        ("threads", {}, ()),
    ],
)
def test_a_given_environment_gets_what_framework_and_step_ask_for(environment, fields, lines):
    assert requirements(framework="sklearn", environment=environment, **fields) == lines


def test_the_interpreter_and_the_file_of_an_environment_stay():
    assert software(framework="sklearn", environment="python").python == "python3.11"
    assert software(framework="sklearn", environment="file").requirements_file.endswith("/requirements.txt")


def test_the_variables_of_a_framework_are_declared_and_those_of_the_environment_win():
    assert software(framework="tensorflow").variables == {"TF_CPP_MIN_LOG_LEVEL": "1"}
    own = software(framework="tensorflow", environment="threads").variables
    assert own == {"OMP_NUM_THREADS": "2", "TF_CPP_MIN_LOG_LEVEL": "3"}
    assert software(framework="tensorflow", environment="secret").variables == {}


def test_a_container_without_software_gets_the_image_of_the_framework():
    assert software(framework="tagged", framework_version="2.4", compute="box").image == "r.io/tagged:2.4"
    assert software(framework="tagged", compute="box").image == "r.io/tagged"


def test_an_image_with_more_requirements_is_built_on_that_of_the_framework():
    made = software(framework="tagged", framework_version="2.4", requirements=["pandas"], compute="box")
    assert (made.image, made.build, made.requirements) == (None, ImageBuild(base="r.io/tagged:2.4"), ("pandas",))


def test_a_framework_without_an_image_of_its_own_is_built_with_its_requirements():
    made = software(framework="sklearn", framework_version="1.7.2", compute="box")
    assert (made.name, made.image, made.build) == ("sklearn", None, SLIM)
    assert made.requirements == ("scikit-learn==1.7.2",)
    assert software(framework="sklearn", compute="pod").requirements == ("scikit-learn",)


@pytest.mark.parametrize("fields", [{"environment": "image", "compute": "box"}, {"compute": "full"}])
def test_an_image_that_is_named_is_taken_as_it_is(fields):
    made = software(framework="tagged", **fields)
    assert (made.image, made.build, made.requirements) in {("r.io/own:1", None, ()), (None, None, ())}


@pytest.mark.parametrize(
    ("fields", "lines"), [({}, ()), ({"framework_version": "1.7.2"}, ("scikit-learn==1.7.2",))], ids=["not", "asked"]
)
def test_an_image_that_is_built_gets_only_what_is_asked_for(fields, lines):
    made = software(framework="sklearn", environment="base", compute="box", **fields)
    assert (made.build, made.requirements) == (ImageBuild(base="r.io/base:1"), lines)


def test_an_unknown_framework_has_no_software():
    with pytest.raises(DefinitionError, match=r"is no framework of the workspace .*Did you mean sklearn"):
        software(framework="sklern")


PIPELINE = """
    name: p
    steps:
      train:
        kind: estimator
        entry_script: train.py
        source_directory: src
"""


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (
            ["framework: sklearn", "framework_version: 1.7.2", "environment: image", "compute: box"],
            "steps.train.framework_version: means nothing to the image r.io/own:1",
        ),
        (
            ["requirements: [pandas]", "compute: full"],
            "steps.train.requirements: means nothing to the image r.io/full:1, which is taken as it is",
        ),
        (
            ["framework: tagged", "framework_version: 1.7.*", "compute: box"],
            "steps.train.framework_version: makes no name of an image for tagged: r.io/tagged:1.7.* (given: 1.7.*)",
        ),
        (
            ["compute: box"],
            "steps.train.environment: names no image, and neither does the compute target box",
        ),
        (["environment: image"], "steps.train.environment: has image, which means nothing to a local target"),
    ],
)
def test_what_a_target_cannot_give_is_said_when_the_pipeline_is_read(project, lines, words):
    text = PIPELINE + "".join(f"        {line}\n" for line in lines)
    (problem,) = problems(read, text, project, Workspace(**WORKSPACE).located(project))
    assert words in problem


@pytest.mark.parametrize(
    "lines",
    [
        ["framework: sklearn", "framework_version: 1.7.2"],
        ["framework: sklearn", "framework_version: 1.7.2", "environment: told", "compute: box"],
        ["framework: sklearn", "compute: pod"],
        ["framework: tensorflow", "compute: pod"],
    ],
)
def test_what_a_target_can_give_is_no_fault(project, lines):
    text = PIPELINE + "".join(f"        {line}\n" for line in lines)
    assert read(text, project, Workspace(**WORKSPACE).located(project)).step("train").kind == "estimator"


def test_a_build_for_a_cluster_needs_a_registry(project):
    workspace = Workspace(**{**WORKSPACE, "registry": None}).located(project)
    text = PIPELINE + "        framework: sklearn\n        compute: pod\n"
    (problem,) = problems(read, text, project, workspace)
    assert "builds an image that no cluster can pull" in problem
