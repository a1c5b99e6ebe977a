"""An API server that goes away for a while, a store that does, and pods that are taken away at the worst moment."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from airflow_mlpipe.exceptions import CommandFailedError, MlpipeError
from airflow_mlpipe.runtime.protocol import OutputSpec
from tests.integration.kubernetes.cluster import use
from tests.integration.kubernetes.gate import Gate
from tests.integration.kubernetes.running import (
    deferred,
    is_watched_over,
    launched,
    nothing_is_left,
    published,
    said,
)
from tests.runtime.steps import eventually

pytestmark = [pytest.mark.kubernetes, pytest.mark.s3]

MODEL = {"model": OutputSpec()}
COUNTS = 'echo x >> "$MLPIPE_OUTPUT_MODEL"; for i in 1 2 3 4 5 6 7 8 9 10; do echo "turn $i"; sleep 2; done'
TURNS = [f"turn {number}" for number in range(1, 11)]
WRITES = 'echo x > "$MLPIPE_OUTPUT_MODEL"'
WAITS = f"echo begun; sleep 30; {WRITES}; echo ended"
"""Longer than a sidecar takes to start where the machine is busy: until then nothing is watched over."""
GRACE = 8
SHORT = {"pod_template": {"spec": {"terminationGracePeriodSeconds": GRACE}}}
OUTAGE = 8
"""Seconds for which the API server is away while the step runs."""


@pytest.fixture
def gate(own_namespace, tmp_path, monkeypatch):
    """The only way to the API server, for everybody but the test itself."""
    server = own_namespace.api.api_client.configuration.host
    with Gate(server) as gate:
        use(monkeypatch, gate.kubeconfig(Path(os.environ["KUBECONFIG"]), tmp_path / "kubeconfig"))
        yield gate


def restart(gate):
    gate.close()
    time.sleep(OUTAGE)
    gate.open()


def turns(bench):
    return [line for line in bench.logged if line.startswith("turn")]


def test_an_api_server_that_restarts_is_waited_for_and_every_line_is_shown_once(bench, gate):
    thread, ended, _ = launched(bench, bench.shell(COUNTS, outputs=MODEL))
    said(bench, "turn 2")
    restart(gate)
    thread.join(timeout=120)
    assert bench.store.read(ended[0].outputs["model"].path) == b"x\n"
    assert turns(bench) == TURNS
    assert nothing_is_left(bench)


def test_an_api_server_that_restarts_is_waited_for_by_the_triggerer_too(bench, gate):
    def go_away():
        assert eventually(lambda: any(pod["status"]["phase"] == "Running" for pod in bench.namespace.pods()), 60)
        time.sleep(3)
        restart(gate)

    thread = threading.Thread(target=go_away)
    thread.start()
    result = deferred(bench, bench.shell(COUNTS, outputs=MODEL, target={"deferrable": True}))
    thread.join()
    assert bench.store.read(result.outputs["model"].path) == b"x\n"
    assert nothing_is_left(bench)


@pytest.mark.parametrize("how", ["killed", "deleted"])
def test_a_pod_that_is_ended_while_its_upload_hangs_is_gone_within_its_grace_period(bench, network, how):
    network.hold("/claim/model")
    thread, ended, launcher = launched(bench, bench.shell(WRITES, outputs=MODEL, target=SHORT), options=network.options)
    assert eventually(network.held, 60)
    began = time.monotonic()
    if how == "killed":
        launcher.kill()
    else:
        bench.namespace.delete_pods()
    assert nothing_is_left(bench)
    assert time.monotonic() - began < GRACE + 20
    thread.join(timeout=60)
    assert isinstance(ended[0], CommandFailedError)
    assert published(bench) == []


def test_a_store_that_is_away_when_the_command_ends_is_waited_for(bench, network):
    thread, ended, _ = launched(bench, bench.shell(WAITS, outputs=MODEL), options=network.options)
    said(bench, "begun")
    is_watched_over(bench)
    network.stop()
    said(bench, "ended")
    time.sleep(3)
    network.heal()
    thread.join(timeout=120)
    assert bench.store.read(ended[0].outputs["model"].path) == b"x\n"


def test_a_store_that_stays_away_is_named_and_nothing_is_published(bench, network):
    thread, ended, _ = launched(bench, bench.shell(WAITS, outputs=MODEL), options=network.options)
    said(bench, "begun")
    is_watched_over(bench)
    network.stop()
    thread.join(timeout=240)
    assert isinstance(ended[0], MlpipeError)
    assert bench.store.url in str(ended[0])
    assert nothing_is_left(bench)
    assert published(bench) == []
