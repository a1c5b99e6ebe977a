"""The files in `docker/`: what can be told of them without an engine or a cluster."""

from __future__ import annotations

import re
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from airflow_mlpipe.runtime.pod.access import VARIABLES
from tests.launchers.kubernetes.pods import container, examples

DOCKER = Path(__file__).parents[1] / "docker"
MANIFESTS = list(yaml.safe_load_all((DOCKER / "kubernetes" / "rbac.yaml").read_text()))


def test_the_folder_is_no_package():
    """It would take the place of the Docker SDK."""
    assert not (DOCKER / "__init__.py").exists()


@pytest.mark.parametrize("name", ["step", "airflow"])
def test_the_base_image_can_be_chosen_and_the_user_is_not_root(name):
    text = (DOCKER / f"{name}.Dockerfile").read_text()
    assert re.search(r"^ARG BASE_IMAGE=\S+\nFROM \$\{BASE_IMAGE\}$", text, re.MULTILINE)
    assert re.findall(r"^USER (\S+)", text, re.MULTILINE)[-1] in {"1000:1000", "airflow"}


@pytest.mark.parametrize("name", ["step", "airflow"])
def test_what_is_copied_into_an_image_is_there(name):
    text = (DOCKER / f"{name}.Dockerfile").read_text()
    copied = [word for line in re.findall(r"^COPY (.*) \S+$", text, re.MULTILINE) for word in line.split()]
    assert copied
    assert [word for word in copied if not (DOCKER.parent / word).exists()] == []


def test_the_entrypoint_of_the_staging_image_is_what_pods_start():
    command = container(examples()["plain"], "mlpipe-stage")["command"]
    entrypoint = re.search(r"^ENTRYPOINT (.*)$", (DOCKER / "step.Dockerfile").read_text(), re.MULTILINE)
    assert yaml.safe_load(entrypoint[1]) == command[:-1]


@pytest.mark.parametrize("version", ["1.29", "1.36"])
@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda manifest: manifest["kind"])
def test_the_rbac_is_valid_for_kubernetes(manifest, version):
    kubernetes_validate.validate(manifest, version, strict=True)


def test_the_rbac_reads_no_secrets_and_reaches_one_namespace():
    roles = [manifest for manifest in MANIFESTS if manifest["kind"] == "Role"]
    assert not [manifest for manifest in MANIFESTS if manifest["kind"].startswith("Cluster")]
    verbs = {
        verb for role in roles for rule in role["rules"] if "secrets" in rule["resources"] for verb in rule["verbs"]
    }
    assert verbs.isdisjoint({"get", "list", "watch", "*"})


@pytest.mark.parametrize("name", ["compose.yaml", "kubernetes/values.yaml"])
def test_an_example_is_yaml(name):
    assert isinstance(yaml.safe_load((DOCKER / name).read_text()), dict)


@pytest.mark.parametrize("name", ["mlpipe-stage", "mlpipe-publish"])
def test_a_pod_tells_its_staging_containers_all_they_need(name):
    told = {variable["name"] for variable in container(examples()["plain"], name)["env"]}
    assert told >= set(VARIABLES)


def test_what_a_wheel_has_under_another_name_is_imported_by_nobody():
    """Hatchling moves such a file: it is not where it was."""
    text = (DOCKER.parent / "pyproject.toml").read_text()
    section = text.partition("[tool.hatch.build.targets.wheel.force-include]\n")[2].partition("\n\n")[0]
    moved = re.findall(r'^"([^"]+)" = ', section, re.MULTILINE)
    assert moved == ["airflow_mlpipe/runtime/by_hand.py"]
    package = (DOCKER.parent / "airflow_mlpipe").rglob("*.py")
    assert [path for path in package if "by_hand" in path.read_text() and path.stem != "by_hand"] == []
