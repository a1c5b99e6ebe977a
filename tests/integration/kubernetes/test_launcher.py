"""Steps in pods of a real cluster."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from airflow_mlpipe.exceptions import CommandFailedError, DataError, MlpipeError, OutputMissingError, StepError
from airflow_mlpipe.runtime.protocol import EnvironmentSpec, OutputSpec, dump
from airflow_mlpipe.store import layout
from airflow_mlpipe.store.store import Store
from tests.integration.kubernetes.cluster import image, namespace
from tests.integration.kubernetes.running import launched, nothing_is_left, published, said
from tests.launchers.steps import FINGERPRINT
from tests.runtime.steps import eventually

pytestmark = [pytest.mark.kubernetes, pytest.mark.s3]

MODEL = {"model": OutputSpec()}
STUBBORN = "trap '' TERM; echo begun; while true; do sleep 1; done"
COUNTS = 'echo x >> "$MLPIPE_OUTPUT_MODEL"; echo begun; sleep {}; echo ended'


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("1,2\n")
    return path


def test_a_shell_script_in_a_busybox_image_is_a_step(bench, data):
    script = (
        'cat "$MLPIPE_INPUT_DATA" > "$MLPIPE_OUTPUT_MODEL"; echo \'{"name": "auc", "value": 1}\' >> ../metrics.jsonl\n'
        "echo hello; id -u"
    )
    result = bench.launch(bench.shell(script, inputs={"data": bench.stored(data)}, outputs=MODEL))
    assert bench.store.read(result.outputs["model"].path) == b"1,2\n"
    assert (result.exit_code, result.metrics) == (0, {"auc": 1.0})
    assert bench.logged[-2:] == ["hello", "1000"]
    assert nothing_is_left(bench)


def test_a_python_script_finds_its_inputs_and_writes_private_files(bench, data):
    script = "import os\nfrom mlpipe import Run\nrun = Run.get_context()\nfolder = run.output('model')\n"
    script += "folder.mkdir()\n(folder / 'a').write_text(open(run.input('data')).read())\n(folder / 'a').chmod(0o600)\n"
    script += "run.log('auc', 0.75)\nprint('é', os.getcwd())\n"
    result = bench.launch(bench.spec(script, inputs={"data": bench.stored(data)}, outputs=MODEL))
    assert bench.store.read(f"{result.outputs['model'].path}/a") == b"1,2\n"
    assert result.metrics == {"auc": 0.75}
    assert bench.logged[-1] == "é /mlpipe/code"


def test_a_script_that_fails_is_told_with_its_exit_code_and_last_lines_and_publishes_nothing(bench):
    script = 'echo x > "$MLPIPE_OUTPUT_MODEL"; for i in 1 2 3; do echo "line $i"; done; exit 7'
    with pytest.raises(CommandFailedError) as caught:
        bench.launch(bench.shell(script, outputs=MODEL))
    assert str(caught.value).splitlines() == [
        "the command ended with exit code 7; its last lines:",
        "    line 1",
        "    line 2",
        "    line 3",
    ]
    assert published(bench) == []
    assert nothing_is_left(bench)


def test_an_output_that_was_not_written_is_named(bench):
    with pytest.raises(OutputMissingError, match="output 'model' was not written"):
        bench.launch(bench.shell("true", outputs=MODEL))


def test_a_link_that_leaves_an_output_is_refused_by_name(bench):
    script = 'mkdir "$MLPIPE_OUTPUT_MODEL"; ln -s /etc/passwd "$MLPIPE_OUTPUT_MODEL/b"'
    with pytest.raises(DataError, match="model/b"):
        bench.launch(bench.shell(script, outputs=MODEL))


def test_a_command_that_runs_out_of_memory_is_told_so(bench):
    script = "x = bytearray(400 << 20)\nprint(len(x))"
    with pytest.raises(
        CommandFailedError, match=r"ran out of memory: it wanted more than the 48Mi it may use .*OOMKilled"
    ):
        bench.launch(bench.spec(script, target={"resources": {"limits": {"memory": "48Mi"}}}))
    assert nothing_is_left(bench)


def test_a_program_that_is_not_there_is_named(bench):
    spec = replace(bench.shell(""), command=(("no-such-program",),))
    with pytest.raises(
        CommandFailedError, match=r"exit code 127: there is no such program(.|\n)*no-such-program: not found"
    ):
        bench.launch(spec)


def test_an_image_that_does_not_exist_is_told_at_once(bench):
    repository = image("busybox").partition("@")[0]
    began = time.monotonic()
    with pytest.raises(StepError, match=r"the image .* cannot be pulled: ErrImagePull: .*not found; correct the image"):
        bench.launch(bench.shell("true", image=f"{repository}@sha256:{'0' * 64}"))
    assert time.monotonic() - began < 60
    assert nothing_is_left(bench)


def test_a_staging_image_that_does_not_exist_is_told_at_once(bench):
    repository = image("staging").partition("@")[0]
    missing = f"{repository}@sha256:{'1' * 64}"
    with pytest.raises(StepError, match=r"the image .* \(of mlpipe-stage\) cannot be pulled"):
        bench.launch(bench.shell("true", target={"staging_image": missing}))


def test_a_gpu_that_nobody_has_is_told_at_once_and_given_up_in_time(bench):
    began = time.monotonic()
    with pytest.raises(
        StepError, match=r"not started within 8 seconds \(pending_timeout\): .*Insufficient nvidia.com/gpu"
    ) as caught:
        bench.launch(bench.shell("true", target={"gpus": 64, "pending_timeout": 8}))
    assert time.monotonic() - began < 40
    assert len(str(caught.value).splitlines()) == 1
    assert any("FailedScheduling" in line and "Insufficient nvidia.com/gpu" in line for line in bench.logged)
    assert nothing_is_left(bench)


def test_a_gpu_that_some_node_has_is_given(bench):
    bench.launch(bench.shell("echo begun", target={"gpus": 1, "shm_size": "16Mi"}))
    assert bench.logged[-1] == "begun"


def test_a_secret_that_is_not_there_is_named(bench):
    with pytest.raises(StepError, match=r"nowhere.* not found"):
        bench.launch(bench.shell("true", target={"staging_secret": "nowhere", "pending_timeout": 10}))
    assert nothing_is_left(bench)


def test_a_namespace_that_is_not_there_is_named(bench):
    with pytest.raises(
        StepError, match=r'cannot create the pod .*namespaces "mlpipe-nowhere" not found; create the namespace'
    ):
        bench.launch(bench.shell("true", target={"namespace": "mlpipe-nowhere"}))


def test_a_quota_that_is_used_up_is_told_in_the_apis_words(bench):
    quota = {"metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}}
    bench.namespace.api.create_namespaced_resource_quota(bench.namespace.name, quota)
    try:
        with pytest.raises(StepError, match=r"cannot create the pod .*exceeded quota: none.*; ask for less") as caught:
            bench.launch(bench.shell("true"))
    finally:
        bench.namespace.api.delete_namespaced_resource_quota("none", bench.namespace.name)
    assert len(str(caught.value).splitlines()) == 1


def test_a_step_that_is_killed_leaves_no_pod_and_publishes_nothing(bench):
    thread, ended, launcher = launched(bench, bench.shell(COUNTS.format(300), outputs=MODEL))
    said(bench, "begun")
    launcher.kill()
    launcher.kill()
    thread.join(timeout=180)
    assert isinstance(ended[0], CommandFailedError)
    assert "was stopped" in str(ended[0])
    assert nothing_is_left(bench)
    assert published(bench) == []


def test_a_container_that_ignores_sigterm_is_ended_by_its_pod(bench):
    short = {"pod_template": {"spec": {"terminationGracePeriodSeconds": 8}}}
    thread, ended, launcher = launched(bench, bench.shell(STUBBORN, target=short))
    said(bench, "begun")
    began = time.monotonic()
    launcher.kill()
    assert nothing_is_left(bench)
    thread.join(timeout=180)
    assert time.monotonic() - began < 40
    assert isinstance(ended[0], CommandFailedError)


def test_a_pod_that_somebody_deletes_fails_the_step_and_keeps_nothing(bench):
    thread, ended, _ = launched(bench, bench.shell(COUNTS.format(300), outputs=MODEL))
    said(bench, "begun")
    bench.namespace.delete_pods()
    thread.join(timeout=180)
    assert isinstance(ended[0], CommandFailedError)
    assert "was deleted while the step ran" in str(ended[0])
    assert published(bench) == []


def worker(bench, spec, claim="claim"):
    """Launch a step in another process."""
    path = bench.root / f"{claim}-{time.monotonic_ns()}.json"
    order = {"store": bench.store.url, "options": bench.server.options, "spec": dump(spec), "claim": claim}
    path.write_text(json.dumps(order))
    command = [sys.executable, "-m", "tests.integration.kubernetes.worker", str(path)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def reads(process, words):
    """Read what a worker says until it says some words."""
    assert process.stdout
    while words not in (line := process.stdout.readline()):
        assert line, process.wait()


def test_a_worker_is_killed_and_another_goes_on_with_its_pod_whose_command_runs_once(bench):
    spec = bench.shell(COUNTS.format(60), outputs=MODEL)
    first = worker(bench, spec)
    reads(first, "begun")
    first.kill()
    first.communicate()
    (pod,) = bench.namespace.pods()
    result = bench.launch(spec)
    assert bench.store.read(result.outputs["model"].path) == b"x\n"
    assert bench.logged[0].startswith(f"goes on with the pod {pod['metadata']['name']}")
    assert bench.logged[-1] == "ended"
    assert nothing_is_left(bench)


def test_what_a_pod_has_published_is_taken_though_nobody_was_there(bench):
    spec = bench.shell(COUNTS.format(3), outputs=MODEL)
    first = worker(bench, spec)
    reads(first, "begun")
    first.kill()
    first.communicate()
    assert eventually(lambda: bench.store.exists(layout.result(FINGERPRINT, "claim")), 180)
    bench.namespace.delete_pods()
    result = bench.launch(spec)
    assert bench.store.read(result.outputs["model"].path) == b"x\n"
    assert bench.logged == []


def test_no_credentials_are_where_the_user_is_and_secrets_are_hidden(bench):
    script = 'env > "$MLPIPE_OUTPUT_MODEL"; echo "begun $TOKEN"; ls -R /mlpipe /var/run/secrets 2>&1; sleep 5'
    environment = EnvironmentSpec(secrets={"TOKEN": "variable:token"})
    spec = bench.shell(script, outputs=MODEL, environment=environment)
    thread, ended, _ = launched(bench, spec, secrets={"TOKEN": "s3cr3t-t0k3n"})
    said(bench, "begun ***")
    (pod,) = bench.namespace.pods()
    owned = bench.namespace.secrets()
    thread.join(timeout=180)
    options = bench.server.options
    credentials = [options["key"], options["secret"]]
    variables = bench.store.read(ended[0].outputs["model"].path).decode()
    for text in (json.dumps(pod), "\n".join(bench.logged)):
        assert not any(secret in text for secret in [*credentials, "s3cr3t-t0k3n"])
    assert "TOKEN=s3cr3t-t0k3n" in variables
    assert not any(secret in variables for secret in credentials)
    assert len(owned) == 2
    assert eventually(lambda: bench.namespace.secrets() == [], 60)
    records = {path: bench.store.read(path) for path in bench.store.sizes("") if not path.endswith("/model")}
    assert not [path for path, content in records.items() if b"s3cr3t" in content or credentials[1].encode() in content]


def test_a_namespace_with_the_restricted_policy_runs_the_pod_and_refuses_root_in_the_apis_words(bench, data):
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    with namespace(labels) as restricted:
        spec = bench.shell(
            'cat "$MLPIPE_INPUT_DATA" > "$MLPIPE_OUTPUT_MODEL"', inputs={"data": bench.stored(data)}, outputs=MODEL
        )
        placed = replace(spec, target={**spec.target, "namespace": restricted.name})
        assert bench.store.read(bench.launch(placed).outputs["model"].path) == b"1,2\n"
        root = replace(placed, target={**placed.target, "user": 0, "group": 0})
        with pytest.raises(
            StepError, match=r'violates PodSecurity "restricted:latest".*; the namespace does not admit such pods'
        ):
            bench.launch(root, claim="root")
        assert eventually(lambda: restricted.pods() == [], 60)


def test_a_read_only_root_file_system_is_enough(bench):
    base = {"name": "base", "securityContext": {"readOnlyRootFilesystem": True}}
    script = 'touch /x 2>/dev/null && exit 1; touch /tmp/x "$HOME/x" y; echo x > "$MLPIPE_OUTPUT_MODEL"'
    spec = bench.shell(script, outputs=MODEL, target={"pod_template": {"spec": {"containers": [base]}}})
    assert bench.store.read(bench.launch(spec).outputs["model"].path) == b"x\n"


def test_what_is_off_in_the_manifest_is_off_at_the_cluster(bench):
    thread, _, _ = launched(bench, bench.shell("ls /var/run/secrets/kubernetes.io 2>&1; echo begun; env; sleep 5"))
    said(bench, "begun")
    (pod,) = bench.namespace.pods()
    thread.join(timeout=180)
    assert (pod["spec"]["automountServiceAccountToken"], pod["spec"]["enableServiceLinks"]) == (False, False)
    assert not any("KUBERNETES_SERVICE" in line for line in bench.logged)


def test_a_store_that_pods_do_not_reach_is_named(bench):
    elsewhere = {**bench.server.options, "endpoint_url": "http://127.0.0.1:9"}
    with pytest.raises(MlpipeError, match=r"127\.0\.0\.1:9|s3://"):
        bench.launch(bench.shell("true"), claim="elsewhere", launcher=bench.launcher(elsewhere))
    assert nothing_is_left(bench)


def test_a_store_on_this_machine_is_refused(bench, tmp_path):
    bench.store = Store.open(str(tmp_path / "store"))
    with pytest.raises(
        StepError, match=r"lies on this machine, where no pod reaches it; give the workspace an output_store"
    ):
        bench.launch(bench.shell("true"))
