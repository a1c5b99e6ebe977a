from __future__ import annotations

import os
import socket

import pytest

from airflow_mlpipe.definitions import DockerCompute
from airflow_mlpipe.exceptions import CommandFailedError, StepError
from airflow_mlpipe.launchers.docker import failures
from airflow_mlpipe.launchers.docker.container import Container
from airflow_mlpipe.runtime.protocol import EnvironmentSpec, StepSpec

SPEC = StepSpec("p", "s", "command", environment=EnvironmentSpec(image="r/x@sha256:1"))
RUNC = "failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: "


def container(**fields):
    return Container(SPEC, DockerCompute(**fields), "name", "claim", "bob", mounted=True)


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("manifest for r/x@sha256:1 not found: manifest unknown", "the registry does not have it (any more)"),
        ("pull access denied for r/x, repository does not exist or may require docker login", "the registry refuses"),
        ('Get "https://r/v2/": unauthorized: authentication required', "the registry refuses"),
        ('Get "https://r/v2/": dial tcp: lookup r on 1.1.1.1:53: no such host', "does not reach the registry"),
        ('Get "https://r/v2/": x509: certificate signed by unknown authority', "does not reach the registry"),
        ("failed to register layer: write /x: no space left on device", "the engine's disk is full"),
        ("something nobody has foreseen", "something nobody has foreseen"),
    ],
)
def test_an_image_that_cannot_be_fetched(said, shown):
    message = str(failures.pull_failure(container(), said))
    assert message.startswith("the image r/x@sha256:1 cannot be fetched: ")
    assert shown in message


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (
            f'{RUNC}exec: "nope": executable file not found in $PATH: unknown',
            "cannot start 'nope': there is no such program",
        ),
        (f'{RUNC}exec: "./a b.sh": permission denied: unknown', "cannot start './a b.sh': it is not executable"),
        (
            f'{RUNC}exec: "/x": stat /x: no such file or directory: unknown',
            "cannot start '/x': there is no such program in",
        ),
        (f"{RUNC}exec /x: exec format error: unknown", "cannot start '/x': it is no program for this machine"),
    ],
)
def test_a_command_that_cannot_be_started_is_the_commands_fault(said, shown):
    error = failures.start_failure(container(), said)
    assert isinstance(error, CommandFailedError)
    assert shown in str(error)


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ('could not select device driver "" with capabilities: [[gpu]]', "has no such GPU"),
        (f"{RUNC}nvidia-container-cli: device error: 7: unknown device: unknown", "has no such GPU"),
        ("unable to find user bob: no matching entries in passwd file", "the image knows no user 'bob'"),
        ("network nowhere not found", "has no such network"),
        ('invalid mount config for type "bind": bind source path does not exist: /x', "lacks what is to be mounted"),
        ("Minimum memory limit allowed is 6MB", "the memory cannot be given"),
        ("Range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available", "the processors cannot be given"),
        ("mkdir /x: no space left on device", "the engine's disk is full"),
        (f"{RUNC}something new: unknown", "unable to start container process: something new"),
    ],
)
def test_a_container_that_an_engine_does_not_run(said, shown):
    error = failures.start_failure(container(), said)
    assert not isinstance(error, CommandFailedError)
    assert shown in str(error)
    assert "shim task" not in str(error)


@pytest.mark.parametrize(
    ("state", "shown"),
    [
        ({"Status": "exited", "ExitCode": 3}, "the command ended with exit code 3"),
        ({"Status": "exited", "ExitCode": 137, "OOMKilled": True}, "ran out of memory: it wanted more than the 1Gi"),
        (
            {"Status": "exited", "ExitCode": 137},
            r"exit code 137 (SIGKILL); perhaps the engine's machine ran out of memory",
        ),
        ({"Status": "exited", "ExitCode": 139}, "exit code 139 (SIGSEGV)"),
        ({"Status": "exited", "ExitCode": 255}, "exit code 255"),
        ({"Status": "created", "ExitCode": 0}, "did not run to its end: the engine says 'created'"),
        ({"Status": "running", "ExitCode": 0}, "did not run to its end"),
        ({}, "did not run to its end"),
    ],
)
def test_how_a_container_ended(state, shown):
    assert shown in str(failures.ending(state, container(memory="1Gi")))


def test_a_command_that_succeeded_ended_well_though_one_of_its_processes_ran_out_of_memory():
    assert failures.ending({"Status": "exited", "ExitCode": 0, "OOMKilled": True}, container()) is None


def test_only_the_step_directory_itself_counts_as_not_mounted():
    said = 'invalid mount config for type "bind": bind source path does not exist: '
    assert failures.is_not_mounted(f"{said}/store/work/c", "/store/work/c")
    assert failures.is_not_mounted(f"{said}/store/work/c/inputs", "/store/work/c")
    assert not failures.is_not_mounted(f"{said}/store/work/cc", "/store/work/c")
    assert not failures.is_not_mounted("no space left on device", "/store/work/c")


def test_an_engine_that_is_not_there_is_explained(tmp_path):
    assert "there is no such socket" in str(failures.unreachable(f"unix://{tmp_path}/no.sock", "?"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        host = f"tcp://127.0.0.1:{free.getsockname()[1]}"
        assert "nobody listens there" in str(failures.unreachable(host, "?"))


def test_a_socket_that_this_user_may_not_use_is_explained(tmp_path):
    path = tmp_path / "engine.sock"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        path.chmod(0)
        before = os.geteuid()
        if before == 0:
            for folder in (tmp_path, *tmp_path.parents[:2]):
                folder.chmod(0o755)
            os.seteuid(12345)
        try:
            error = failures.unreachable(f"unix://{path}", "?")
        finally:
            os.seteuid(before)
    assert isinstance(error, StepError)
    assert "this user may not use the socket; add it to the group docker" in str(error)


def test_somebody_who_is_no_engine_is_shown_as_it_spoke():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        host = f"tcp://127.0.0.1:{listening.getsockname()[1]}"
        said = str(failures.unreachable(host, "Client sent an HTTP request to an HTTPS server"))
    assert "does not answer as one: Client sent an HTTP request to an HTTPS server; check host and tls" in said
