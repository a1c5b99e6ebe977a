from __future__ import annotations

import pytest

from airflow_mlpipe.definitions import DockerCompute, Environment, KubernetesCompute, LocalCompute, Pipeline, Workspace
from airflow_mlpipe.definitions.imagefaults import image_faults
from tests.definitions.helpers import read, step

BOX = DockerCompute(name="box")
FULL = DockerCompute(name="box", image="python:3.12")
POD = KubernetesCompute(name="pod")


def faults(environment, target, *, registry=False):
    found = image_faults(environment, target, ("environment",), registry=registry)
    return [str(fault.problem()) for fault in found]


@pytest.mark.parametrize(
    ("fields", "target", "words"),
    [
        ({"image": "python"}, LocalCompute(), "has image, which means nothing to a local target"),
        ({"build": "python"}, LocalCompute(), "has build, which means nothing to a local target"),
        (
            {"build": {"base": "python", "apt": ["git"]}, "requirements": ["six"]},
            LocalCompute(),
            "has build, which means nothing to a local target",
        ),
        ({}, BOX, "names no image, and neither does the compute target box"),
        ({"python": "venv/bin/python"}, FULL, "environment.python: is a path of this machine"),
        ({"requirements": ["six"]}, FULL, "environment.requirements: are not installed into an image"),
        ({"requirements_file": "r.txt"}, FULL, "environment.requirements_file: are not installed into an image"),
        ({"build": "python"}, POD, "builds an image that no cluster can pull"),
        ({"image": "sha256:" + "a" * 64}, POD, "environment.image: is the id of an image in an engine"),
    ],
)
def test_an_environment_that_does_not_fit_its_target_is_refused(fields, target, words):
    (problem,) = faults(Environment(**fields), target)
    assert words in problem


@pytest.mark.parametrize(
    ("fields", "target", "registry"),
    [
        ({}, LocalCompute(), False),
        ({"build": "python", "requirements": ["six"]}, LocalCompute(), False),
        ({"build": "python", "requirements": ["six"]}, BOX, False),
        ({"build": "python", "requirements": ["six"]}, POD, True),
        ({"requirements": ["six"], "compare": "declared"}, FULL, False),
        ({"image": "python"}, BOX, False),
        ({"image": "python", "python": "/opt/conda/bin/python"}, POD, False),
        ({}, FULL, False),
    ],
)
def test_an_environment_that_fits_its_target_is_taken(fields, target, registry):
    assert faults(Environment(**fields), target, registry=registry) == []


def test_image_and_build_exclude_each_other():
    with pytest.raises(Exception, match="image: is given beside build"):
        Environment(image="python", build="python")


@pytest.fixture
def workspace():
    return Workspace(compute={"box": {"kind": "docker"}, "pod": {"kind": "kubernetes", "image": "python"}})


def test_a_pipeline_whose_step_has_no_image_is_refused_where_the_step_stands(workspace, tmp_path):
    text = """
        name: p
        compute: box
        steps:
          a: {kind: command, command: "true"}
          b: {kind: command, command: "true", compute: pod}
          c: {kind: data_transfer, source: s3://a/b, destination: s3://c/d}
        """
    with pytest.raises(Exception, match="1 problem") as caught:
        read(text, tmp_path, workspace)
    assert "steps.a.environment: names no image, and neither does the compute target box" in str(caught.value)


@pytest.mark.parametrize(
    ("compute", "resources", "words"),
    [
        (
            "box",
            {"gpu": 1},
            "steps.a.resources.gpu: is nothing that a docker target provides (given: gpu). Did you mean",
        ),
        ("box", {"limits": {"cpu": 1}}, "steps.a.resources.limits: is nothing that a docker target provides"),
        ("pod", {"memory": "4gb"}, 'steps.a.resources.memory: is no amount of memory (given: 4gb). Did you mean "4G"?'),
        ("pod", {"limits": {"gpu": 1}}, "steps.a.resources.limits.gpu: is no resource of a pod"),
    ],
)
def test_what_a_step_asks_of_a_target_must_be_something_it_provides(workspace, compute, resources, words):
    one = step("a", compute=compute, resources=resources, environment=Environment(image="python"))
    (problem,) = workspace.check(Pipeline(name="p", steps=[one]))
    assert words in str(problem)
