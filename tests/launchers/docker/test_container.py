from __future__ import annotations

import os

import pytest

from airflow_mlpipe.definitions import DockerCompute
from airflow_mlpipe.exceptions import CommandFailedError, DataError, StepError
from airflow_mlpipe.launchers.docker.container import Container, beside, check_direct, numbers, user_of, variables
from airflow_mlpipe.runtime.layout import StepDirectory
from airflow_mlpipe.runtime.protocol import EnvironmentSpec, InputSpec, OutputSpec, Reference, StepSpec

IMAGE = f"registry.example.com/team/train@sha256:{'a' * 64}"
SPEC = StepSpec(
    "churn",
    "train",
    "command",
    command=((Reference("interpreter"),), ("main.py",), ("--data=", Reference("input", "data"))),
    inputs={"data": InputSpec("file:///data.csv")},
    outputs={"model": OutputSpec()},
    parameters={"c": 0.5},
    environment=EnvironmentSpec(interpreter="python", image=IMAGE, variables={"MINE": "1"}),
)


def container(spec=SPEC, *, user="1000:1000", mounted=True, **fields):
    return Container(spec, DockerCompute(**fields), "mlpipe-churn-train-ab", "claim", user, mounted)


@pytest.fixture
def directory(tmp_path):
    return StepDirectory(tmp_path)


def test_the_arguments_of_the_operator_are_just_these(directory):
    fields = {"cpus": 1.5, "memory": "1Gi", "shm_size": "64Mi", "gpus": 2, "network": "lab", "mounts": ["/srv:/srv:rw"]}
    made = container(**fields)
    assert made.arguments(directory, {"TOKEN": "s3cr3t"}) == {
        "image": IMAGE,
        "entrypoint": ["python"],
        "command": ["main.py", "--data=/mlpipe/inputs/data"],
        "container_name": "mlpipe-churn-train-ab",
        "environment": {
            "LANG": "C.UTF-8",
            "TZ": "UTC",
            "PYTHONHASHSEED": "0",
            "PYTHONUNBUFFERED": "1",
            "HOME": "/mlpipe/private/home",
            "TMPDIR": "/mlpipe/private/tmp",
            "MINE": "1",
            "PYTHONPATH": "/mlpipe/private/python",
            "MLPIPE_STEP_DIRECTORY": "/mlpipe",
            "MLPIPE_INPUT_DATA": "/mlpipe/inputs/data",
            "AZUREML_DATAREFERENCE_data": "/mlpipe/inputs/data",
            "MLPIPE_OUTPUT_MODEL": "/mlpipe/outputs/model",
            "AZUREML_DATAREFERENCE_model": "/mlpipe/outputs/model",
            "MLPIPE_PARAMETER_C": "0.5",
            "AML_PARAMETER_c": "0.5",
        },
        "private_environment": {"TOKEN": "s3cr3t"},
        "working_dir": "/mlpipe/code",
        "user": "1000:1000",
        "mounts": [
            {"target": "/mlpipe", "source": str(directory.root), "type": "bind"},
            {"target": "/mlpipe/inputs", "source": str(directory.inputs), "type": "bind", "read_only": True},
            {"target": "/srv", "source": "/srv", "type": "bind", "read_only": False},
        ],
        "mount_tmp_dir": False,
        "network_mode": "lab",
        "mem_limit": 1 << 30,
        "shm_size": 64 << 20,
        "device_requests": [{"count": 2, "capabilities": [["gpu"]]}],
        "labels": {"mlpipe.claim": "claim", "mlpipe.pipeline": "churn", "mlpipe.step": "train"},
        "force_pull": False,
        "auto_remove": "never",
        "log_opts_max_size": "10m",
        "log_opts_max_file": "1",
        "do_xcom_push": False,
    }
    assert made.limits() == {"nano_cpus": 1_500_000_000, "memswap_limit": 1 << 30}


def test_what_a_target_does_not_limit_is_not_limited(directory):
    given = container().arguments(directory, {})
    assert container().limits() == {}
    assert {given[name] for name in ("mem_limit", "shm_size", "network_mode")} == {None}
    assert given["device_requests"] is None


@pytest.mark.parametrize(
    ("gpus", "request_"),
    [("all", {"count": -1}), (1, {"count": 1}), (["0", "GPU-1"], {"device_ids": ["0", "GPU-1"]})],
)
def test_gpus_are_a_number_all_or_devices(directory, gpus, request_):
    given = container(gpus=gpus).arguments(directory, {})["device_requests"]
    assert given == [{**request_, "capabilities": [["gpu"]]}]


def test_no_gpu_is_asked_for_by_zero(directory):
    assert container(gpus=0).arguments(directory, {})["device_requests"] is None


def test_a_directory_that_is_copied_has_a_volume(directory):
    mounts = container(mounted=False).arguments(directory, {})["mounts"]
    assert mounts == [{"target": "/mlpipe", "source": None, "type": "volume"}]


def test_an_image_is_fetched_each_time_only_from_a_registry(directory):
    engine = StepSpec("p", "s", "command", (("x",),), environment=EnvironmentSpec(image="sha256:" + "b" * 64))
    assert container(pull="always").arguments(directory, {})["force_pull"]
    assert not container(engine, pull="always").arguments(directory, {})["force_pull"]


def test_a_step_without_a_command_is_refused(directory):
    with pytest.raises(CommandFailedError, match="has no command"):
        container(StepSpec("p", "s", "command")).arguments(directory, {})


def test_a_declared_path_wins_over_the_images_own():
    spec = StepSpec("p", "s", "command", environment=EnvironmentSpec(interpreter="python", variables={"PATH": "/opt"}))
    assert variables(spec)["PATH"] == "/opt"
    assert "PATH" not in variables(SPEC)


def test_the_images_own_modules_are_found_after_ours_unless_others_are_declared():
    image = ["PATH=/bin", "PYTHONPATH=/app:/lib"]
    assert beside(SPEC, variables(SPEC), image)["PYTHONPATH"] == "/mlpipe/private/python:/app:/lib"
    environment = EnvironmentSpec(interpreter="python", variables={"PYTHONPATH": "/mine"})
    declared = StepSpec("p", "s", "command", environment=environment)
    assert beside(declared, variables(declared), image)["PYTHONPATH"] == "/mlpipe/private/python:/mine"


@pytest.mark.parametrize("uri", ["file:///data/a b.csv", "/data/a b.csv", "local:///data/a b.csv"])
def test_a_direct_input_of_the_worker_is_mounted_where_it_is(directory, uri):
    spec = StepSpec("p", "s", "command", (("x",),), inputs={"data": InputSpec(uri, mode="direct")})
    mounts = container(spec).arguments(directory, {})["mounts"]
    assert mounts[2] == {"target": "/data/a b.csv", "source": "/data/a b.csv", "type": "bind", "read_only": True}
    with pytest.raises(DataError, match=r"does not see /data/a b.csv"):
        check_direct(spec)


def test_a_direct_input_elsewhere_is_the_scripts_own_business(directory):
    spec = StepSpec("p", "s", "command", (("x",),), inputs={"data": InputSpec("s3://b/x", mode="direct")})
    check_direct(spec)
    assert len(container(spec).arguments(directory, {})["mounts"]) == 2


@pytest.mark.parametrize(
    ("user", "found"), [("1:2", (1, 2)), ("1", (1, 0)), ("ann", None), ("1:staff", None), ("ann:1", None)]
)
def test_users_are_numbers_or_known_to_the_image_alone(user, found):
    assert numbers(user) == found


def test_the_user_is_the_workers_unless_the_target_names_another(monkeypatch):
    assert user_of(DockerCompute(), dict) == f"{os.getuid()}:{os.getgid()}"
    assert user_of(DockerCompute(user="5:6"), dict) == "5:6"
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert user_of(DockerCompute(), lambda: {"SecurityOptions": ["name=seccomp", "name=rootless"]}) == "0:0"
    assert user_of(DockerCompute(), lambda: {"SecurityOptions": None}) == f"{os.getuid()}:{os.getgid()}"


@pytest.mark.parametrize(
    ("worker", "user", "mounts"),
    [
        (0, "0:0", True),
        (0, "1234:5", True),
        (0, "ann", False),
        (1000, "1000:1000", True),
        (1000, "1001:1000", False),
        (1000, "0:0", False),
    ],
)
def test_a_directory_is_mounted_only_if_its_files_are_the_workers_in_the_end(monkeypatch, worker, user, mounts):
    for name in ("getuid", "geteuid", "getgid"):
        monkeypatch.setattr(os, name, lambda: worker)
    assert given(user).may_be_mounted() == mounts
    assert not given(user, staging="copy").may_be_mounted()
    if not mounts:
        with pytest.raises(StepError, match=r"is not the worker's.*leave out user, or staging: mount"):
            given(user, staging="mount").may_be_mounted()


def given(user, **fields):
    """Return a container whose target names the user."""
    return Container(SPEC, DockerCompute(user=user, **fields), "name", "claim", user, mounted=True)


def test_root_in_an_engine_without_root_is_the_worker(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert container(user="0:0").may_be_mounted()
