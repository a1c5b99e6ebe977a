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
COMPOSE = yaml.safe_load((DOCKER / "compose.yaml").read_text())
VALUES = yaml.safe_load((DOCKER / "kubernetes" / "values.yaml").read_text())
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


def test_what_is_sent_to_the_engine_is_what_images_are_made_of():
    """Without it an engine of the old kind is sent .venv and .git, and compiled files change an image."""
    lines = (DOCKER.parent / ".dockerignore").read_text().splitlines()
    sent = {line[1:] for line in lines if line.startswith("!")}
    texts = [path.read_text() for path in DOCKER.glob("*.Dockerfile")]
    copied = {
        word for text in texts for line in re.findall(r"^COPY (.*) \S+$", text, re.MULTILINE) for word in line.split()
    }
    assert "*" in lines
    assert sent == copied


def test_the_airflow_image_keeps_what_its_base_holds():
    """Drivers of object stores would change botocore, which breaks the Amazon provider of the base image."""
    text = (DOCKER / "airflow.Dockerfile").read_text()
    assert re.search(r"pip list --format=freeze > (\S+) .*pip install .*-c \1 .*pip check", text, re.DOTALL)


def test_every_image_of_the_compose_file_can_be_another():
    for service in COMPOSE["services"].values():
        assert re.fullmatch(r"\$\{[A-Z0-9_]+_IMAGE:-[a-z0-9./:-]+\}", service["image"])
    base = re.search(r"^ARG BASE_IMAGE=(\S+)$", (DOCKER / "airflow.Dockerfile").read_text(), re.MULTILINE)
    assert COMPOSE["x-airflow"]["build"]["args"]["BASE_IMAGE"] == f"${{AIRFLOW_IMAGE:-{base[1]}}}"
    assert (DOCKER / COMPOSE["x-airflow"]["build"]["context"] / COMPOSE["x-airflow"]["build"]["dockerfile"]).exists()


def test_airflow_waits_for_a_database_that_answers_and_a_bucket_that_is_there():
    """The image of Postgres makes its database with a server that only its own machine reaches."""
    assert COMPOSE["services"]["airflow"]["depends_on"] == {
        "postgres": {"condition": "service_healthy"},
        "bucket": {"condition": "service_completed_successfully"},
    }
    assert COMPOSE["services"]["postgres"]["healthcheck"]["test"][:4] == ["CMD", "pg_isready", "-h", "127.0.0.1"]


def test_the_compose_file_opens_nothing_to_other_machines():
    ports = [port for service in COMPOSE["services"].values() for port in service.get("ports", [])]
    assert ports
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []


def test_every_airflow_has_the_scheduler_that_does_not_sleep_a_second():
    compose = COMPOSE["x-airflow"]["environment"]["AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME"]
    chart = VALUES["config"]["scheduler"]["scheduler_idle_sleep_time"]
    image = re.search(
        r"AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME=(\S+)", (DOCKER / "airflow.Dockerfile").read_text()
    )
    assert (compose, chart, image[1]) == ("0.1", "0.1", "0.1")


def test_the_chart_runs_workers_and_triggerer_as_whom_the_rbac_lets_in():
    binding = next(manifest for manifest in MANIFESTS if manifest["kind"] == "RoleBinding")
    accounts = {VALUES[part]["serviceAccount"]["name"] for part in ("workers", "triggerer")}
    assert {(subject["kind"], subject["name"]) for subject in binding["subjects"]} == {
        ("ServiceAccount", account) for account in accounts
    }


def test_the_chart_logs_and_stores_with_one_connection_that_is_a_secret():
    """The chart hands the secret on as a variable; the log of a task pod would go with the pod."""
    given = {secret["envName"] for secret in VALUES["secret"]}
    logging = VALUES["config"]["logging"]
    assert logging["remote_logging"] == "True"
    assert f"AIRFLOW_CONN_{logging['remote_log_conn_id'].upper()}" in given


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
