"""Whole pipelines by pods, on a real scheduler with its triggerer."""

from __future__ import annotations

import json
import os
import signal

import pytest

from airflow_mlpipe.store.entries import Log
from airflow_mlpipe.store.store import Store
from airflow_mlpipe.up import LocalAirflow
from tests.integration.harness import FAST, Harness
from tests.integration.kubernetes.cluster import image
from tests.s3 import KEY, SECRET

pytestmark = [pytest.mark.kubernetes, pytest.mark.s3, pytest.mark.scheduler, pytest.mark.timeout(600)]

WORKSPACE = """\
store: {{url: "{root}/store", connection: lake}}
datastores:
  landing: {{url: "{root}/landing", connection: lake}}
environments:
  python: {{image: "{python}", python: python3}}
  shell: {{image: "{busybox}"}}
compute:
  k8s:
    kind: kubernetes
    namespace: {namespace}
    staging_image: "{staging}"
    resources: {{requests: {{cpu: 10m, memory: 16Mi}}}}
    staging_resources: {{requests: {{cpu: 10m, memory: 64Mi}}}}
    pending_timeout: 60
    {more}
defaults: {{compute: k8s, environment: python}}
"""

PIPELINE = """\
name: {name}
parameters:
  seconds: {{type: integer, default: 1}}
  word: {{type: string, default: "{word}"}}
steps:
  prepare:
    kind: python_script
    source_directory: src
    script_name: prepare.py
    arguments: ["${{{{ inputs.raw }}}}", "${{{{ outputs.clean }}}}", "${{{{ parameters.word }}}}"]
    inputs: {{raw: {{datastore: landing, path: raw.txt}}}}
    outputs: {{clean: {{}}}}
  train:
    kind: python_script
    source_directory: src
    script_name: train.py
    arguments: ["${{{{ inputs.clean }}}}", "${{{{ outputs.model }}}}", "${{{{ parameters.seconds }}}}"]
    inputs: {{clean: "${{{{ steps.prepare.outputs.clean }}}}"}}
    outputs: {{model: {{}}}}
    retries: {retries}
    retry_delay: 1
  report:
    kind: command
    command: cp ${{{{ inputs.model }}}}/model.txt ${{{{ outputs.report }}}}
    environment: shell
    inputs: {{model: "${{{{ steps.train.outputs.model }}}}"}}
    outputs: {{report: {{}}}}
"""

PREPARE = """\
import sys
open(sys.argv[2], "w").write(open(sys.argv[1]).read().strip() + " " + sys.argv[3])
"""

TRAIN = """\
import os, sys, time
from mlpipe import Run
text = open(sys.argv[1]).read()
print("training begins", flush=True)
for second in range(int(sys.argv[3])):
    time.sleep(1)
    print("second", second, flush=True)
if "fail" in text:
    raise SystemExit("there is nothing to learn")
os.mkdir(sys.argv[2])
open(sys.argv[2] + "/model.txt", "w").write("model of " + text)
Run.get_context().log("words", len(text.split()))
"""

LOADER = """
from airflow_mlpipe.dag_factory import load_pipelines

load_pipelines(globals(), "{name}_project")  # one DAG for each definition
"""

ALL_RAN = {"plan": "success", "prepare": "success", "train": "success", "report": "success"}
ALL_REUSED = {"plan": "success", "prepare": "skipped", "train": "skipped", "report": "skipped"}


@pytest.fixture(scope="module")
def pods(tmp_path_factory, s3, _namespace):
    """A real Airflow whose tasks know the cluster and the store."""
    folder = tmp_path_factory.mktemp("airflow")
    (folder / "dags").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_CONN_LAKE", s3.connection())
        with LocalAirflow(folder / "home", folder / "dags", settings=FAST) as local:
            yield Harness(local)


class Pipeline:
    """The pipeline prepare -> train -> report."""

    def __init__(self, harness, server, namespace, name, word="a", retries=0, more="description: pods"):
        self.harness, self.name, self.root = harness, name, server.fresh()
        self.server, self.namespace = server, namespace
        self.write(
            "mlpipe.yaml",
            WORKSPACE.format(
                root=self.root,
                namespace=namespace.name,
                staging=image("staging"),
                python=image("python"),
                busybox=image("busybox"),
                more=more,
            ),
        )
        self.write("src/prepare.py", PREPARE)
        self.write("src/train.py", TRAIN)
        self.write(f"{name}.yaml", PIPELINE.format(name=name, word=word, retries=retries))
        self.fs.pipe_file(f"{self.root}/landing/raw.txt", b"words\n")
        harness.write_dag(name, LOADER.format(name=name), timeout=90)

    @property
    def fs(self):
        import fsspec

        return fsspec.filesystem("s3", **self.server.options, use_listings_cache=False, skip_instance_cache=True)

    def write(self, path, text):
        self.harness.write(f"{self.name}_project/{path}", text)

    def run(self, conf=None, timeout=300):
        run_id, state = self.harness.run(self.name, conf, timeout)
        return run_id, state, self.harness.task_states(self.name, run_id)

    def log(self, run_id, task, try_number=1):
        if self.state(run_id, task) in {None, "scheduled", "queued"}:
            return ""
        return self.harness.log(self.name, run_id, task, try_number)

    def state(self, run_id, task):
        return self.harness.task_states(self.name, run_id).get(task)

    def worker_of(self, pod):
        """Return the process that holds the claim a pod was begun under."""
        store = Store.open(f"{self.root}/store", self.server.options)
        claim = Log.read(store, pod["metadata"]["annotations"]["mlpipe/fingerprint"]).holder
        return int(claim.owner.process.partition("/")[0])

    def until(self, run_id, task, state, timeout=240):
        self.harness.until(
            lambda: self.state(run_id, task) == state,
            timeout,
            lambda: f"{self.state(run_id, task)}: {self.log(run_id, task)}",
        )

    def stored(self):
        return {path: self.fs.cat_file(path) for path in self.fs.find(f"{self.root}/store".removeprefix("s3://"))}


@pytest.fixture
def make(pods, s3, own_namespace):
    return lambda name, **options: Pipeline(pods, s3, own_namespace, name, **options)


def test_a_pipeline_runs_in_pods_without_worker_slots_and_its_second_run_reuses_all(make, pods, own_namespace):
    pipeline = make("plain")
    first = pods.trigger("plain", {"seconds": 40})
    pipeline.until(first, "train", "deferred")
    pods.until(lambda: "second 3" in pipeline.log(first, "train"), 240, lambda: pipeline.log(first, "train"))
    assert pipeline.state(first, "train") == "deferred"  # its log comes meanwhile
    assert pods.wait("plain", first, 300) == "success", pipeline.log(first, "train")
    assert pods.task_states("plain", first) == ALL_RAN
    report = pods.xcom("plain", first, "report", "report")
    assert pipeline.fs.cat_file(report["uri"]) == b"model of words a"
    _, state, states = pipeline.run({"seconds": 40})
    assert (state, states) == ("success", ALL_REUSED)
    log = pipeline.log(first, "train")
    assert log.count("second 39") == 1
    pods.until(lambda: own_namespace.pods() == [], 120, "pods are left")
    pods.until(lambda: own_namespace.secrets() == [], 120, "secrets are left")


def test_a_script_that_fails_is_told_in_few_lines_and_nothing_secret_is_written_anywhere(make, pods):
    pipeline = make("fails", word="fail")
    run_id, state, states = pipeline.run()
    assert (state, states["train"]) == ("failed", "failed")
    log = pipeline.log(run_id, "train")
    assert "the command ended with exit code 1" in log
    assert "there is nothing to learn" in log
    assert "remote_pod" not in log
    home = pods.airflow.home
    written = b"".join(path.read_bytes() for path in home.rglob("*.log"))
    written += b"".join(pipeline.stored().values())
    written += json.dumps(
        [
            pods.xcom(pipeline.name, run_id, task, key)
            for task, keys in pods.xcoms(pipeline.name, run_id).items()
            for key in keys
        ]
    ).encode()
    assert not [secret for secret in (KEY, SECRET) if secret.encode() in written]


def test_a_worker_that_is_killed_is_retried_and_its_pod_adopted_so_that_the_command_ran_once(make, pods, own_namespace):
    pipeline = make("adopted", retries=1, more="deferrable: false")
    run_id = pods.trigger("adopted", {"seconds": 45})
    pods.until(lambda: "second 1" in pipeline.log(run_id, "train"), 240, lambda: pipeline.log(run_id, "train"))
    (pod,) = [pod for pod in own_namespace.pods() if "train" in pod["metadata"]["name"]]
    os.kill(pipeline.worker_of(pod), signal.SIGKILL)
    assert pods.wait("adopted", run_id, 300) == "success", pipeline.log(run_id, "train", 2)
    log = pipeline.log(run_id, "train", 2)
    assert f"goes on with the pod {pod['metadata']['name']}" in log
    assert "second 44" in log
    task = next(task for task in pods.tasks("adopted", run_id) if task["task_id"] == "train")
    assert task["try_number"] == 2
    model = pods.xcom("adopted", run_id, "train", "model")
    assert f"/{pod['metadata']['annotations']['mlpipe/claim']}/model" in model["uri"]
    pods.until(lambda: not own_namespace.pods(), 120, "pods are left")


def test_a_task_that_somebody_ends_while_it_is_deferred_ends_its_pod(make, pods, own_namespace):
    pipeline = make("ended")
    run_id = pods.trigger("ended", {"seconds": 300})
    pods.until(lambda: "second 1" in pipeline.log(run_id, "train"), 240, lambda: pipeline.log(run_id, "train"))
    assert pipeline.state(run_id, "train") == "deferred"
    pods.set_state("ended", run_id, "train", "failed")
    pods.until(lambda: not own_namespace.pods(), 120, "its pod is left")
