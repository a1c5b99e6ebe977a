"""What a step in a pod costs beside its pod: against a bare KubernetesPodOperator, same image, same command.

The cluster and its images are those of ``tests/integration/kubernetes/cluster.py``. The bare operator looks after its pod
every second, as ours does, where it would look every five by default.
"""

from __future__ import annotations

import itertools
import os
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.sdk.bases.operator import ExecutorSafeguard

from airflow_mlpipe.runtime.protocol import StepSpec
from airflow_mlpipe.store.store import Store
from tests.benchmarks.table import Row, Target, side_by_side, timed
from tests.integration.kubernetes.bench import PodBench
from tests.integration.kubernetes.cluster import VARIABLES, image, namespace
from tests.s3 import s3_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = [pytest.mark.benchmark, pytest.mark.kubernetes, pytest.mark.s3]

STAGING_SECONDS = 2.0
CONTEXT = {
    "ti": SimpleNamespace(
        dag_id="dag", task_id="operator", map_index=-1, try_number=1, start_date=None, xcom_push=lambda **_: None
    ),
    "run_id": "run",
    "dag": None,
}
"""All that the operator asks of a running task."""


@pytest.fixture
def bench(room: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PodBench]:
    if missing := [name for name in ("KUBECONFIG", *VARIABLES) if not os.environ.get(name)]:
        pytest.skip(f"kubernetes: {', '.join(missing)} not set; see tests/integration/kubernetes/cluster.py")
    monkeypatch.setenv("MLPIPE_CACHE", str(room / "cache"))
    with s3_server() as server, namespace() as own:
        yield PodBench(room, Store.open(server.fresh(), server.options), "", namespace=own, server=server)


def test_a_step_in_a_pod(bench: PodBench, show: Callable[..., None]) -> None:
    claims = map(str, itertools.count())

    def step(*command: str) -> None:
        spec = StepSpec("p", "s", "command", tuple((word,) for word in command))
        bench.launch(bench.placed(spec, "busybox"), claim=f"claim{next(claims)}")

    step("true")
    bare(bench, "true")
    for seconds in ("0", "5"):
        found = side_by_side(
            {
                "ours": timed(lambda: step("sleep", seconds)),  # noqa: B023 -- called before the next round
                "bare": timed(lambda: bare(bench, "sleep", seconds)),  # noqa: B023 -- as above
            }
        )
        within = Target("under", round(1.25 * found["bare"].median + STAGING_SECONDS, 2))
        show(
            Row(f"a step of {seconds} s in a pod", found["ours"], "a bare KubernetesPodOperator", found["bare"], within)
        )


def bare(bench: PodBench, *command: str) -> None:
    """Run a command in a pod by the provider's operator, with the resources that a step's container has."""
    target: dict[str, Any] = bench.target()
    operator = KubernetesPodOperator(
        task_id="operator",
        name="bare",
        namespace=target["namespace"],
        image=image("busybox"),
        cmds=list(command),
        container_resources={"requests": target["resources"]["requests"]},
        automount_service_account_token=False,
        startup_check_interval_seconds=1,
        reattach_on_restart=False,
        durable=False,
    )
    operator.execute(CONTEXT, KubernetesPodOperator__sentinel=ExecutorSafeguard.sentinel_value)
