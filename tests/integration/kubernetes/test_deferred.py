"""Pods that are waited for without a worker."""

from __future__ import annotations

import threading
import time

import pytest

from airflow_mlpipe.exceptions import CommandFailedError, StepError
from airflow_mlpipe.runtime.protocol import EnvironmentSpec, OutputSpec
from tests.integration.kubernetes.running import deferred, nothing_is_left, published
from tests.integration.kubernetes.test_disruptions import evict
from tests.runtime.steps import eventually

pytestmark = [pytest.mark.kubernetes, pytest.mark.s3]

MODEL = {"model": OutputSpec()}
DEFERRED = {"deferrable": True}


def test_a_step_goes_on_without_its_worker_and_what_it_printed_last_is_shown_by_who_comes_back(bench):
    spec = bench.shell(
        'echo first; sleep 2; echo x > "$MLPIPE_OUTPUT_MODEL"; echo last', outputs=MODEL, target=DEFERRED
    )
    result = deferred(bench, spec)
    assert bench.store.read(result.outputs["model"].path) == b"x\n"
    assert bench.logged[-1] == "last"
    assert nothing_is_left(bench)


def test_a_script_that_fails_meanwhile_is_told_with_its_last_lines(bench):
    with pytest.raises(CommandFailedError, match=r"exit code 3; its last lines:\n    oh \*\*\*$"):
        deferred(
            bench,
            bench.shell(
                'echo "oh $TOKEN"; exit 3',
                target=DEFERRED,
                environment=EnvironmentSpec(secrets={"TOKEN": "variable:t"}),
            ),
            secrets={"TOKEN": "s3cr3t-t0k3n"},
        )
    assert published(bench) == []
    assert nothing_is_left(bench)


def test_a_pod_that_nobody_can_start_is_given_up_in_time(bench):
    with pytest.raises(
        StepError, match=r"not started within 6 seconds \(pending_timeout\): .*Insufficient nvidia.com/gpu"
    ):
        deferred(bench, bench.shell("true", target={**DEFERRED, "gpus": 64, "pending_timeout": 6}))
    assert nothing_is_left(bench)


def test_a_pod_that_is_drained_meanwhile_is_begun_anew(bench):
    script = 'if [ -e ../checkpoint/begun ]; then echo x > "$MLPIPE_OUTPUT_MODEL"; exit 0; fi\n'
    spec = bench.shell(
        f"{script}sleep 6; touch ../checkpoint/begun; sleep 300", outputs=MODEL, target=DEFERRED, checkpoint=True
    )

    def drain():
        assert eventually(lambda: any(pod["status"]["phase"] == "Running" for pod in bench.namespace.pods()), 60)
        time.sleep(9)
        evict(bench.namespace)

    thread = threading.Thread(target=drain)
    thread.start()
    result = deferred(bench, spec)
    thread.join()
    assert bench.store.read(result.outputs["model"].path) == b"x\n"
    assert any("the pod was taken away: EvictionByEvictionAPI" in line for line in bench.logged)
