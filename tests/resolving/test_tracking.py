"""What happens where an MLflow server is down, refuses, or answers nonsense: a warning, and nothing else."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from airflow_mlpipe.airflow_home import free_port
from airflow_mlpipe.definitions import Workspace
from airflow_mlpipe.exceptions import DataError
from airflow_mlpipe.resolving.logins import Login
from airflow_mlpipe.resolving.site import Site
from airflow_mlpipe.resolving.tracking import Ended, Tracking
from airflow_mlpipe.runtime.protocol import EnvironmentSpec, StepSpec

SPEC = StepSpec("p", "train", "command", (("true",),), parameters={"c": 1.0})
RUN = {"info": {"run_id": "1", "experiment_id": "7", "start_time": 5, "status": "RUNNING"}, "data": {}}
ANSWERS = {
    "experiments/get-by-name": {"experiment": {"experiment_id": "7", "lifecycle_stage": "active"}},
    "runs/search": {"runs": [RUN]},
    "runs/create": {"run": RUN},
    "runs/get": {"run": RUN},
}


class Server:
    """Answers as it is told, and keeps what it was asked."""

    def __init__(self):
        self.asked, self.answers, self.status, self.raw = [], dict(ANSWERS), 200, None
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self.answer()

            def do_POST(self):
                self.answer()

            def answer(self):
                path = self.path.partition("/mlflow/")[2].partition("?")[0]
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                outer.asked.append((path, dict(self.headers), json.loads(body or "{}")))
                self.send_response(outer.status)
                self.end_headers()
                self.wfile.write(
                    outer.raw if outer.raw is not None else json.dumps(outer.answers.get(path, {})).encode()
                )

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.address = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def server():
    served = Server()
    yield served
    served.server.shutdown()
    served.server.server_close()


class Told:
    """A tracking, and what it has said."""

    def __init__(self, folder, mlflow, login_of=None):
        self.said = []
        given = {"login_of": login_of} if login_of else {}
        site = Site.open(Workspace(mlflow=mlflow), default_store=folder / "store", **given)
        self.tracking = Tracking.of(site, "p", "r1", self.said.append)

    def all(self):
        spec = self.tracking.launched(SPEC)
        self.tracking.ended(Ended(SPEC, "ran", "sha256:1", {"auc": 0.9}))
        self.tracking.failed(SPEC)
        return spec


def test_without_a_server_nothing_is_done(tmp_path):
    told = Told(tmp_path, None)
    assert (told.all(), told.said) == (SPEC, [])


def test_a_server_that_is_down_is_one_warning_and_the_step_goes_on(tmp_path):
    address = f"http://127.0.0.1:{free_port()}"
    told = Told(tmp_path, address)
    assert told.all() == SPEC
    (said,) = told.said
    assert said.startswith(f"MLflow is not told of this run: {address}: it does not answer as an MLflow server does: ")


@pytest.mark.parametrize(
    ("status", "raw", "words"),
    [
        (500, b"oh", "it does not answer as an MLflow server does"),
        (200, b"<html>", "it does not answer as an MLflow server does"),
        (200, b"[]", "refuses experiments/get-by-name with status 200"),
        (200, b"{}", "experiment"),
        (200, b'{"experiment": 3}', "MLflow is not told"),
        (
            403,
            b'{"error_code": "PERMISSION_DENIED", "message": "no"}',
            "refuses experiments/get-by-name with status 403: no",
        ),
        (401, b'"who?"', "refuses experiments/get-by-name with status 401"),
    ],
)
def test_a_server_that_refuses_or_answers_nonsense_is_one_warning(tmp_path, server, status, raw, words):
    server.status, server.raw = status, raw
    told = Told(tmp_path, server.address)
    assert told.all() == SPEC
    (said,) = told.said
    assert words in said


def test_an_experiment_that_was_deleted_is_said(tmp_path, server):
    server.answers["experiments/get-by-name"] = {"experiment": {"experiment_id": "7", "lifecycle_stage": "deleted"}}
    told = Told(tmp_path, server.address)
    told.all()
    assert "its experiment 'p' was deleted: restore it" in told.said[0]


def test_a_script_is_told_which_run_is_its_own_and_nothing_of_it_counts(tmp_path, server):
    from airflow_mlpipe.planning.bind import components

    told = Told(tmp_path, server.address)
    spec = told.tracking.launched(SPEC)
    assert spec.late == {
        "MLFLOW_TRACKING_URI": server.address,
        "MLFLOW_RUN_ID": "1",
        "MLFLOW_EXPERIMENT_NAME": "p",
    }
    assert components(spec) == components(SPEC)


@pytest.mark.parametrize(
    ("login", "header", "secrets"),
    [
        (Login(password="tok3n"), "Bearer tok3n", {"MLFLOW_TRACKING_TOKEN": "connection:ml.password"}),
        (
            Login(username="me", password="tok3n"),
            "Basic bWU6dG9rM24=",
            {
                "MLFLOW_TRACKING_USERNAME": "connection:ml.login",
                "MLFLOW_TRACKING_PASSWORD": "connection:ml.password",
            },
        ),
    ],
)
def test_the_login_comes_from_a_connection_and_the_script_gets_it_as_a_secret(tmp_path, server, login, header, secrets):
    told = Told(tmp_path, {"tracking_uri": server.address, "connection": "ml"}, lambda _: login)
    spec = told.tracking.launched(SPEC)
    assert {headers["Authorization"] for _, headers, _ in server.asked} == {header}
    assert spec.environment.secrets == secrets
    assert "tok3n" not in str(spec)


def declaring(variables=None, secrets=None):
    return replace(SPEC, environment=EnvironmentSpec(variables=variables or {}, secrets=secrets or {}))


@pytest.mark.parametrize(
    "spec",
    [
        declaring({"MLFLOW_TRACKING_URI": "http://mine:5000"}),
        declaring(secrets={"MLFLOW_TRACKING_URI": "connection:mine.host"}),
    ],
)
def test_a_declared_server_wins_and_is_given_neither_run_nor_login_of_another(tmp_path, server, spec):
    given = {"tracking_uri": server.address, "connection": "ml"}
    told = Told(tmp_path, given, lambda _: Login(username="me", password="tok3n"))
    assert told.tracking.launched(spec) == spec


def test_a_script_that_declares_the_very_server_finds_its_run_there(tmp_path, server):
    told = Told(tmp_path, server.address)
    spec = told.tracking.launched(declaring({"MLFLOW_TRACKING_URI": f"{server.address}/"}))
    assert spec.late == {"MLFLOW_RUN_ID": "1", "MLFLOW_EXPERIMENT_NAME": "p"}


@pytest.mark.parametrize("name", ["MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID"])
def test_a_declared_run_or_experiment_wins(tmp_path, server, name):
    told = Told(tmp_path, server.address)
    assert told.tracking.launched(declaring({name: "mine"})).late == {"MLFLOW_TRACKING_URI": server.address}


def test_a_declared_login_wins(tmp_path, server):
    given = {"tracking_uri": server.address, "connection": "ml"}
    told = Told(tmp_path, given, lambda _: Login(username="me", password="tok3n"))
    spec = told.tracking.launched(declaring({"MLFLOW_TRACKING_USERNAME": "you"}))
    assert spec.environment.secrets == {}


def test_a_connection_that_is_not_there_is_one_warning(tmp_path, server):
    def login_of(name):
        raise DataError(f"Airflow has no connection {name!r}: create it")  # noqa: EM102, TRY003 -- as it is said

    told = Told(tmp_path, {"tracking_uri": server.address, "connection": "ml"}, login_of)
    assert told.all() == SPEC
    assert "Airflow has no connection 'ml'" in told.said[0]


def test_what_the_script_has_logged_is_not_logged_again(tmp_path, server):
    data = {"metrics": [{"key": "auc", "value": 0.9}], "params": [{"key": "c", "value": "2"}]}
    server.answers["runs/get"] = {"run": {**RUN, "data": data}}
    told = Told(tmp_path, server.address)
    told.tracking.ended(Ended(SPEC, "ran", "sha256:1", {"auc": 0.9, "a=b": 1.0}))
    (batch,) = [body for path, _, body in server.asked if path == "runs/log-batch"]
    assert [item["key"] for item in batch["metrics"]] == ["a_b"]
    assert batch["params"] == []
    assert {item["key"]: item["value"] for item in batch["tags"]} == {
        "mlpipe.fingerprint": "sha256:1",
        "mlpipe.outcome": "ran",
    }
