from __future__ import annotations

import json

import pytest

from airflow_mlpipe.planning.bind import components
from airflow_mlpipe.runtime import command
from airflow_mlpipe.runtime.layout import StepDirectory
from airflow_mlpipe.runtime.protocol import EnvironmentSpec, StepSpec, dump, load_spec, to_json

IMAGE = "r.io/train@sha256:" + "a" * 64
TARGET = {"kind": "docker", "memory": "4Gi", "mounts": [{"source": "/a", "target": "/b"}], "tls": {"verify": False}}


def test_what_a_step_on_the_worker_has_not_is_not_written_down():
    data = dump(StepSpec("p", "s", "command"))
    assert not {"target", "image", "unknown"} & {*data, *data["environment"]}


@pytest.mark.parametrize(
    "environment",
    [
        EnvironmentSpec("python3", facts={"image": "registry:sha256:1"}, image=IMAGE),
        EnvironmentSpec("python3", compare="declared", unknown="the registry does not answer"),
    ],
)
def test_image_and_target_survive_the_way_into_a_container(environment):
    spec = StepSpec("p", "s", "command", environment=environment, target=TARGET)
    assert load_spec(json.loads(to_json(spec))) == spec


def test_rule_3_the_target_is_no_component():
    plain = StepSpec("p", "s", "command", environment=EnvironmentSpec(image=IMAGE, unknown="x"))
    placed = StepSpec("p", "s", "command", environment=EnvironmentSpec(image=IMAGE), target=TARGET)
    assert components(plain) == components(placed)
    assert IMAGE not in json.dumps(components(placed))


def test_variables_of_one_launch_reach_the_command_and_secrets_come_after_them(tmp_path):
    spec = StepSpec("p", "train", "command", late={"MLFLOW_RUN_ID": "1", "TOKEN": "late"})
    assert load_spec(dump(spec)) == spec
    given = command.environment(spec, StepDirectory(tmp_path), {"TOKEN": "secret"})
    assert (given["MLFLOW_RUN_ID"], given["TOKEN"]) == ("1", "secret")
