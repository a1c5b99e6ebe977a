from __future__ import annotations

import pytest

from airflow_mlpipe.definitions import CommandStep, DockerCompute, Environment, Pipeline, Workspace
from airflow_mlpipe.definitions.compute import target_from
from airflow_mlpipe.exceptions import DefinitionError
from airflow_mlpipe.resolving.targets import target_data

WORKSPACE = Workspace(
    compute={
        "box": {"kind": "docker", "memory": "4Gi", "image": "python", "description": "ours", "connection": "hub"},
        "pod": {"kind": "kubernetes", "namespace": "ml", "queue": "gpus"},
    },
    registry={"prefix": "r.io/team", "connection": "ours"},
)


def data(compute, environment=None, workspace=WORKSPACE, **resources):
    step = CommandStep(name="a", command="true", compute=compute, resources=resources, environment=environment)
    return target_data(workspace, Pipeline(name="p", steps=[step]), step)


def test_a_step_on_the_worker_has_no_target():
    assert data("local") == {}


def test_a_target_is_plain_data_with_the_step_s_resources_and_without_what_says_nothing_of_where():
    assert data("box", memory="8Gi", gpus=1) == {
        "kind": "docker",
        "name": "box",
        "connection": "hub",
        "memory": "8Gi",
        "gpus": 1,
    }
    assert data("pod", limits={"cpu": 2}) == {
        "kind": "kubernetes",
        "name": "pod",
        "namespace": "ml",
        "queue": "gpus",
        "resources": {"limits": {"cpu": "2"}},
    }


def test_a_target_can_be_made_of_its_data():
    assert target_from(data("box", gpus=["0"])) == DockerCompute(name="box", memory="4Gi", gpus=["0"], connection="hub")


@pytest.mark.parametrize(
    ("environment", "connection"),
    [
        (None, "hub"),
        (Environment(image="r.io/a"), "hub"),
        (Environment(image="r.io/a", registry="mine"), "mine"),
        (Environment(build="python", registry="mine"), "ours"),
    ],
)
def test_the_connection_of_a_docker_target_is_the_one_for_the_very_image(environment, connection):
    assert data("box", environment)["connection"] == connection


def test_a_built_image_that_is_pushed_nowhere_needs_no_other_connection():
    workspace = WORKSPACE.model_copy(update={"registry": None})
    assert data("box", Environment(build="python", registry="mine"), workspace)["connection"] == "hub"


def test_what_the_target_does_not_provide_is_an_error_that_names_the_step():
    with pytest.raises(DefinitionError, match=r"steps\.a\.resources\.gpu: is nothing that a docker target provides"):
        data("box", gpu=1)


def test_certificates_of_an_engine_have_absolute_paths(tmp_path):
    workspace = Workspace(compute={"box": {"kind": "docker", "tls": {"ca": "ca.pem"}}}).located(tmp_path)
    assert data("box", workspace=workspace)["tls"] == {"ca": str(tmp_path / "ca.pem")}
