"""Whole pipelines by `mlpipe run`, their steps in containers."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.cli.helpers import PIPELINE, Project
from tests.engine import BUSYBOX, PYTHON
from tests.integration.docker import registry
from tests.runtime.steps import eventually

if TYPE_CHECKING:
    from tests.engine import Engine

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]

SHELL = """\
  third:
    kind: command
    command: cp ${{ inputs.model }}/model.txt ${{ outputs.copy }}
    environment: shell
    inputs: {model: "${{ steps.second.outputs.model }}"}
    outputs: {copy: {}}
"""


@dataclass(frozen=True)
class Containers:
    """The pipeline ``small`` with a workspace, and the commands called on it in processes of their own."""

    project: Project
    engine: Engine
    variables: dict[str, str]

    def workspace(self, text: str) -> None:
        self.project.write("mlpipe.yaml", text)

    def pipeline(self, raw: str, compute: str = "", more: str = "") -> None:
        """Write the pipeline, to be run on some data and a compute target."""
        head = f"compute: {compute}\nsteps:" if compute else "steps:"
        self.project.write("small.yaml", PIPELINE.replace("steps:", head, 1) + more)
        self.project.write("raw.txt", raw)

    def mlpipe(self, command: str, *, fails: bool = False) -> str:
        """Call a command on the pipeline; return what it prints, each outcome on one line."""
        environment = {**os.environ, "DOCKER_HOST": self.engine.host, "COLUMNS": "300", **self.variables}
        called = [sys.executable, "-c", "from airflow_mlpipe.cli import main; main()", command, "small.yaml"]
        done = subprocess.run(
            called, cwd=self.project.folder, env=environment, capture_output=True, text=True, timeout=200, check=False
        )
        assert bool(done.returncode) == fails, done.stdout + done.stderr
        return done.stdout + done.stderr


@pytest.fixture(scope="module")
def made(tmp_path_factory, engine):
    """One project for all: the database of its Airflow takes longer to make than its steps to run."""
    folder = tmp_path_factory.mktemp("containers")
    return Containers(Project.make(folder / "project"), engine, {"MLPIPE_CACHE": str(folder / "cache")})


@pytest.fixture
def small(made, engine):
    yield made
    assert eventually(lambda: not engine.containers())
    assert engine.volumes() == []


def test_a_pipeline_runs_in_containers_and_is_reused(small):
    small.workspace(
        f"compute:\n  box: {{kind: docker, image: '{PYTHON}', pull: never, memory: 256Mi, cpus: 1}}\n"
        f"environments:\n  shell: {{image: '{BUSYBOX}'}}\n"
    )
    small.pipeline("1", "box", SHELL)
    assert "small succeeded: 3 ran" in small.mlpipe("run")
    assert "small succeeded: 3 reused" in small.mlpipe("run")
    assert not list(small.project.folder.rglob("work/*"))
    for path in small.project.folder.rglob("outputs/**/*"):
        assert path.stat().st_uid == os.getuid()


def test_what_ran_here_is_reused_in_containers_where_the_environment_is_declared_and_only_there(small):
    small.workspace(
        f"compute:\n  box: {{kind: docker, image: '{PYTHON}', pull: never}}\n"
        "environments:\n  python: {compare: declared}\ndefaults: {environment: python}\n"
    )
    small.pipeline("2")
    assert "small succeeded: 2 ran" in small.mlpipe("run")
    small.pipeline("2", "box")
    assert "small succeeded: 2 reused" in small.mlpipe("run")
    small.pipeline("3", "box")
    assert "small succeeded: 2 ran" in small.mlpipe("run")
    small.pipeline("3")
    assert "small succeeded: 2 reused" in small.mlpipe("run")
    small.workspace("datastores: {}\n")
    assert "first   run" in small.mlpipe("plan")


def test_a_step_that_fails_in_its_container_says_why(small):
    small.workspace(f"compute:\n  box: {{kind: docker, image: '{PYTHON}', pull: never}}\n")
    small.pipeline("no number", "box")
    said = small.mlpipe("run", fails=True)
    assert "the command ended with exit code 1" in said
    assert "ValueError: could not convert string to float" in said


def test_a_tag_of_a_private_registry_that_moves_makes_the_steps_run_again_and_the_plan_names_the_image(small, tmp_path):
    with registry.serving(tmp_path / "registry", private=True) as private:
        image = f"{private.host}/team/train:1"
        login = {"username": registry.USER, "password": registry.PASSWORD}
        small.variables["AIRFLOW_CONN_OURS"] = (
            f'{{"conn_type": "docker", "host": "{private.host}", "login": "{registry.USER}", '
            f'"password": "{registry.PASSWORD}"}}'
        )
        small.workspace(f"compute:\n  box: {{kind: docker, image: '{image}', connection: ours}}\n")
        small.pipeline("4", "box")
        push(small.engine, PYTHON, image, login)
        assert "small succeeded: 2 ran" in small.mlpipe("run")
        assert "small succeeded: 2 reused" in small.mlpipe("run")
        push(small.engine, changed(small.engine), image, login)
        planned = small.mlpipe("plan")
        assert "image" in planned
        assert "first   run" in planned
        assert "small succeeded: 2 ran" in small.mlpipe("run")
        assert registry.PASSWORD not in "".join(
            path.read_text(errors="replace") for path in small.project.folder.rglob("*") if path.is_file()
        )


def push(engine, image, name, login):
    """Give an image a name of a registry, push it there, and forget it here."""
    engine.tag(image, name)
    with engine.client() as client:
        for news in client.push(name, auth_config=login, stream=True, decode=True):
            assert "error" not in news, news
        client.remove_image(name)


def changed(engine):
    """Return an image with the same files as that of Python, and another digest."""
    with engine.client() as client:
        made = client.create_container(PYTHON, ["true"])["Id"]
        client.commit(made, repository="mlpipe-tests/changed", tag="1", message="changed")
        client.remove_container(made)
    return "mlpipe-tests/changed:1"
