"""Init container, command and sidecar as real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import pytest

from airflow_mlpipe.exceptions import (
    CommandFailedError,
    DataChangedError,
    DataError,
    InputLostError,
    InputModifiedError,
    OutputMissingError,
    StepError,
    StoreUnreachableError,
)
from airflow_mlpipe.runtime.pod import wrapper
from airflow_mlpipe.runtime.protocol import EnvironmentSpec, InputSpec, OutputSpec, Reference, StepSpec
from airflow_mlpipe.store import layout
from airflow_mlpipe.store.digests import digest_path
from airflow_mlpipe.store.outputs import publish, verify
from airflow_mlpipe.store.tokens import token_now
from tests.runtime.pod.pods import FINGERPRINT, PROGRAM, until

MODEL = {"model": OutputSpec()}
WRITE = 'echo trained >"$MLPIPE_OUTPUT_MODEL"'


def stored(pod, name="data", content="1,2\n", claim="earlier"):
    """Publish a file as an output of an earlier step; return it as an input."""
    source = pod.home / name
    source.write_text(content)
    published = publish(pod.store, FINGERPRINT, claim, name, source)
    return InputSpec(uri=pod.store.uri(layout.output(FINGERPRINT, claim, name)), content=published)


def test_a_step_runs_and_its_outputs_and_result_are_in_the_store(pod):
    code = pod.snapshot({"main.sh": 'echo "$1" >"$2"/a; cat "$3" >>"$2"/a; echo more >"$2"/b; sleep 0.2'})
    arguments = [("sh",), ("main.sh",), (Reference("parameter", "c"),), (Reference("output", "model"),)]
    spec = StepSpec(
        "p",
        "s",
        "command",
        command=(*arguments, (Reference("input", "data"),)),
        code=code,
        inputs={"data": stored(pod)},
        outputs={"model": OutputSpec("folder")},
        parameters={"c": 0.5},
        environment=EnvironmentSpec(variables={"A": "b"}),
    )
    pod.put(spec)
    assert pod.init().returncode == 0
    (pod.root / "outputs" / "model").mkdir()
    pod.start_sidecar()
    pod.start_command()
    assert pod.finish() == 0
    result = pod.result()
    assert (result.error, result.exit_code) == (None, 0)
    assert 0.1 < result.seconds < 20
    assert pod.published() == {"model/a": 8, "model/b": 5}
    output = result.outputs["model"]
    assert output.path == layout.output(FINGERPRINT, pod.claim, "model")
    assert verify(pod.store, output.path, output.content) is None
    assert (pod.root / "result.json").read_bytes() == pod.store.read(layout.result(FINGERPRINT, pod.claim))
    assert pod.failure() is None


def test_the_container_ends_only_when_all_is_published(pod):
    pod.shell(WRITE, outputs=MODEL)
    pod.started().base.wait(60)
    assert pod.result() is not None
    pod.finish()


def test_metrics_are_in_the_result(local_pod):
    pod = local_pod
    script = """for v in 1 2; do echo '{"name": "auc", "value": '$v'}' >>"$MLPIPE_STEP_DIRECTORY"/metrics.jsonl; done"""
    pod.shell(script)
    assert pod.started().finish() == 0
    assert pod.result().metrics == {"auc": 2.0}


def test_what_an_earlier_pod_of_the_same_claim_had_uploaded_is_not_in_the_outputs(pod):
    pod.store.write(layout.output(FINGERPRINT, "claim", "model") + "/part-1.bin", b"of the pod that was taken away")
    pod.shell('mkdir -p "$MLPIPE_OUTPUT_MODEL"; echo 2 > "$MLPIPE_OUTPUT_MODEL/part-2.bin"', outputs=MODEL)
    assert pod.started().finish() == 0
    output = pod.result().outputs["model"]
    assert verify(pod.store, output.path, output.content) is None


def test_a_command_that_fails_publishes_nothing(pod):
    pod.shell(f"{WRITE}; exit 7", outputs=MODEL)
    assert pod.started().finish() == 7
    assert pod.result() is None
    assert pod.published() == {}
    assert isinstance(pod.failure(), CommandFailedError)
    assert "exit code 7" in str(pod.failure())


def test_a_container_that_is_killed_publishes_nothing(pod):
    pod.shell(f"{WRITE}; touch ready; sleep 60", outputs=MODEL)
    pod.serving()
    until((pod.root / "code" / "ready").exists)
    pod.kill_command()
    pod.finish()
    assert pod.sidecar.returncode == 0
    assert pod.result() is None
    assert pod.published() == {}


def test_a_pod_that_is_deleted_while_the_command_runs_publishes_nothing(pod):
    script = f"{WRITE}; trap 'exit 0' TERM; touch ready; while :; do sleep 0.05; done"
    pod.shell(script, outputs=MODEL)
    pod.started()
    until((pod.root / "code" / "ready").exists)
    assert pod.delete() < 5
    assert pod.base.returncode == wrapper.STOPPED
    assert pod.result() is None
    assert pod.published() == {}


def test_a_command_that_ignores_being_stopped_ends_within_the_grace_period(local_pod):
    pod = local_pod
    pod.grace = 7
    pod.shell("trap '' TERM; touch ready; while :; do sleep 0.05; done")
    pod.started()
    until((pod.root / "code" / "ready").exists)
    assert pod.delete() < pod.grace
    assert pod.result() is None


@pytest.mark.s3
def test_an_upload_that_is_killed_leaves_no_result(s3_pod, network):
    pod = s3_pod
    pod.shell('for i in 1 2 3 4 5 6 7 8 9; do echo $i >"$MLPIPE_STEP_DIRECTORY/outputs/model$i"; done', outputs=many(9))
    pod.serving()
    until(lambda: wrapper.exit_code(pod.root) == 0)
    network.stall()
    pod.sidecar.kill()
    pod.sidecar.wait()
    pod.kill_command()
    network.heal()
    assert pod.result() is None


@pytest.mark.s3
def test_an_upload_that_does_not_end_is_given_up_within_the_grace_period(s3_pod, network):
    pod = s3_pod
    pod.grace = 5
    pod.shell(f"until [ -e go ]; do sleep 0.02; done; {WRITE}", outputs=MODEL)
    pod.serving()
    network.stall()
    (pod.root / "code" / "go").touch()
    until(lambda: wrapper.exit_code(pod.root) == 0)
    time.sleep(0.5)
    assert pod.delete() < pod.grace
    assert pod.sidecar.returncode == wrapper.STOPPED
    network.heal()
    assert pod.result() is None


@pytest.mark.s3
def test_an_upload_that_the_grace_period_allows_is_finished(s3_pod, network):
    pod = s3_pod
    pod.shell(f"until [ -e go ]; do sleep 0.02; done; {WRITE}", outputs=MODEL)
    pod.serving()
    network.slow_down(0.3)
    (pod.root / "code" / "go").touch()
    until(lambda: wrapper.exit_code(pod.root) == 0)
    pod.delete()
    assert pod.sidecar.returncode == 0
    assert pod.result() is not None


@pytest.mark.s3
def test_a_sidecar_that_was_killed_while_it_published_publishes_again(s3_pod, network):
    pod = s3_pod
    pod.shell(f"until [ -e go ]; do sleep 0.02; done; {WRITE}", outputs=MODEL)
    pod.serving()
    network.stall()
    (pod.root / "code" / "go").touch()
    until((pod.private / "publishing").exists)
    pod.sidecar.kill()
    pod.sidecar.wait()
    network.heal()
    pod.start_sidecar()
    assert pod.finish() == 0
    assert pod.result().outputs["model"].content.size == len("trained\n")


def test_files_that_were_moved_are_not_published_twice(local_pod):
    pod = local_pod
    pod.shell(WRITE, outputs=MODEL)
    assert pod.init().returncode == 0
    (pod.private / "publishing").write_bytes(b"+")
    pod.start_sidecar()
    pod.start_command()
    assert pod.finish() == wrapper.UNPUBLISHED
    assert "was killed while it published" in str(pod.failure())
    assert pod.result() is None


def test_an_output_that_was_not_written_is_named(pod):
    pod.shell("true", outputs=MODEL)
    assert pod.started().finish() == wrapper.UNPUBLISHED
    assert isinstance(pod.failure(), OutputMissingError)
    assert "'model' was not written" in str(pod.failure())
    assert pod.result() is None


def test_a_link_that_leaves_its_output_is_refused(pod):
    pod.shell('mkdir "$MLPIPE_OUTPUT_MODEL"; ln -s /etc/passwd "$MLPIPE_OUTPUT_MODEL"/link', outputs=MODEL)
    assert pod.started().finish() == wrapper.UNPUBLISHED
    assert isinstance(pod.failure(), DataError)
    assert "link that leaves" in str(pod.failure())
    assert pod.published() == {}


def test_private_files_are_published(pod):
    pod.shell(f"umask 077; {WRITE}; chmod 0600 $MLPIPE_OUTPUT_MODEL", outputs=MODEL)
    assert pod.started().finish() == 0
    assert pod.published() == {"model": 8}


def test_folders_that_the_command_made_read_only_are_published(pod):
    pod.shell(
        'mkdir "$MLPIPE_OUTPUT_MODEL"; echo 1 >"$MLPIPE_OUTPUT_MODEL"/a; chmod 555 "$MLPIPE_OUTPUT_MODEL"',
        outputs=MODEL,
    )
    assert pod.started().finish() == 0
    assert pod.published() == {"model/a": 2}


def test_a_command_that_writes_into_its_inputs_publishes_nothing(pod):
    script = f'{WRITE}; chmod 644 "$MLPIPE_INPUT_DATA"; echo more >>"$MLPIPE_INPUT_DATA"'
    pod.shell(script, inputs={"data": stored(pod)}, outputs=MODEL)
    assert pod.started().finish() == wrapper.UNPUBLISHED
    assert isinstance(pod.failure(), InputModifiedError)
    assert pod.published() == {}


def test_external_data_that_changes_meanwhile_makes_no_result(local_pod):
    pod = local_pod
    place = pod.home / "external.csv"
    place.write_text("old")
    bound = InputSpec(place.as_uri(), digest_path(place), datastore="landing")
    pod.shell(f"{WRITE}; echo new >{place}", inputs={"data": bound}, outputs=MODEL)
    assert pod.started().finish() == wrapper.UNPUBLISHED
    assert isinstance(pod.failure(), DataChangedError)
    assert pod.result() is None


@pytest.mark.s3
def test_external_data_is_opened_with_the_credentials_of_its_datastore(local_pod, s3):
    pod = local_pod
    from airflow_mlpipe.store.store import Store

    landing = Store.open(s3.fresh(), s3.options)
    landing.write("day.csv", b"1,2\n")
    token = token_now(landing.fs, landing.full("day.csv"))
    (pod.home / "same").write_bytes(b"1,2\n")
    bound = InputSpec(landing.uri("day.csv"), digest_path(pod.home / "same"), datastore="landing", token=token)
    options = {"store": {}, "datastores": {"landing": s3.options}}
    import json

    (pod.credentials / "options.json").write_text(json.dumps(options))
    pod.shell('cat "$MLPIPE_INPUT_DATA" >"$MLPIPE_OUTPUT_MODEL"', inputs={"data": bound}, outputs=MODEL)
    assert pod.started().finish() == 0
    assert pod.published() == {"model": 4}


def test_an_input_in_a_volume_is_checked_there_and_not_copied(local_pod):
    pod = local_pod
    volume = pod.home / "volume"
    volume.mkdir()
    (volume / "day.csv").write_text("1,2\n")
    bound = InputSpec("file:///mnt/landing/day.csv", digest_path(volume / "day.csv"), datastore="landing")
    pod.told["MLPIPE_MOUNTED"] = f'{{"data": "{volume}/day.csv"}}'
    pod.shell(f"{WRITE}; cat inputs 2>/dev/null; true", inputs={"data": bound}, outputs=MODEL)
    pod.started()
    assert (pod.root / "inputs" / "data").read_bytes() == b""  # what the volume is mounted on
    assert pod.finish() == 0
    (volume / "day.csv").write_text("1,3\n")
    done = pod.init()
    assert done.returncode == 1
    assert isinstance(pod.failure("init"), DataChangedError)


def test_an_input_that_is_gone_is_told_with_its_place(pod):
    bound = stored(pod)
    pod.store.remove(layout.output(FINGERPRINT, "earlier", "data"))
    pod.shell("true", inputs={"data": bound})
    assert pod.init().returncode == 1
    lost = pod.failure("init")
    assert isinstance(lost, InputLostError)
    assert (lost.path, lost.reason) == (layout.output(FINGERPRINT, "earlier", "data"), "it is gone")


def test_an_init_container_that_fails_leaves_nothing_in_a_volume_that_stays(pod):
    there, gone = stored(pod, "there"), stored(pod, "gone")
    pod.store.remove(layout.output(FINGERPRINT, "earlier", "gone"))
    pod.shell("true", inputs={"there": there, "gone": gone})
    assert pod.init().returncode == 1
    assert list(pod.root.iterdir()) == []


def test_a_pod_without_a_message_says_what_to_look_at(pod):
    done = pod.init()
    assert done.returncode == 1
    assert "opens the same store as the worker" in str(pod.failure("init"))


def test_a_store_that_cannot_be_reached_is_said(local_pod):
    pod = local_pod
    pod.told["MLPIPE_STORE"] = "s3://nowhere/store"
    pod.told["AWS_ENDPOINT_URL"] = "http://127.0.0.1:9"
    pod.told |= {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    done = pod.init()
    assert done.returncode == 1
    assert isinstance(pod.failure("init"), StoreUnreachableError)


def test_an_init_container_that_starts_again_starts_anew(local_pod):
    pod = local_pod
    pod.shell(WRITE, outputs=MODEL)
    assert pod.init().returncode == 0
    (pod.root / "outputs" / "model").write_text("of before")
    (pod.root / wrapper.ENDED).write_text("0\n")
    assert pod.init().returncode == 0
    assert not (pod.root / "outputs" / "model").exists()
    assert wrapper.exit_code(pod.root) is None


def test_the_holder_of_the_claim_shows_that_it_lives(local_pod):
    pod = local_pod
    beat = layout.beat(FINGERPRINT, pod.claim)
    pod.shell("until [ -e go ]; do sleep 0.02; done")
    pod.started()
    until(lambda: pod.store.exists(beat))
    (pod.root / "code" / "go").touch()
    assert pod.finish() == 0
    assert not pod.store.exists(beat)


def test_secrets_are_hidden_in_what_is_said(local_pod):
    pod = local_pod
    secrets = pod.home / "secrets"
    secrets.mkdir()
    (secrets / "API_KEY").write_text("hunter2-hunter2")
    pod.told["MLPIPE_SECRETS"] = str(secrets)
    pod.shell(
        f'{WRITE}; ln -s /etc/passwd "$MLPIPE_OUTPUT_OTHER-hunter2-hunter2"; echo 1 >"$MLPIPE_OUTPUT_OTHER"/x',
        outputs={"other": OutputSpec()},
    )
    assert pod.started().finish() != 0
    assert "hunter2" not in pod.said()
    assert "hunter2" not in str(pod.failure())


def test_a_command_may_not_write_what_is_no_metric(local_pod):
    pod = local_pod
    pod.shell('echo nonsense >>"$MLPIPE_STEP_DIRECTORY"/metrics.jsonl')
    assert pod.started().finish() == wrapper.UNPUBLISHED
    assert isinstance(pod.failure(), StepError)
    assert "metrics.jsonl, line 1" in str(pod.failure())


@pytest.mark.s3
def test_a_store_that_is_away_when_the_command_ends_fails_the_step(s3_pod, network):
    pod = s3_pod
    pod.shell(f"until [ -e go ]; do sleep 0.02; done; {WRITE}", outputs=MODEL)
    pod.serving()
    network.stop()
    (pod.root / "code" / "go").touch()
    assert pod.base.wait(120) == wrapper.UNPUBLISHED
    assert isinstance(pod.failure(), StoreUnreachableError)
    network.heal()
    pod.sidecar.send_signal(signal.SIGTERM)
    pod.sidecar.wait(30)
    assert pod.result() is None


def test_what_is_called_by_hand_says_so():
    done = subprocess.run(
        [*PROGRAM, "init"], env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "started by a pod" in done.stdout
    assert subprocess.run([*PROGRAM, "other"], capture_output=True, check=False).returncode == 2


def many(count):
    return {f"model{number}": OutputSpec() for number in range(1, count + 1)}


@pytest.mark.parametrize("place", ["metrics.jsonl", "outputs", "outputs/model"])
def test_a_command_cannot_have_the_sidecar_read_its_credentials(local_pod, place):
    pod = local_pod
    (pod.credentials / "model").write_text('{"secret": "hush-hush"}\n')
    leads_to = pod.credentials if place == "outputs" else pod.credentials / "model"
    pod.shell(f'cd "$MLPIPE_STEP_DIRECTORY" && rm -rf {place} && ln -s {leads_to} {place}', outputs=MODEL)
    assert pod.started().finish() == wrapper.UNPUBLISHED
    assert pod.result() is None
    assert pod.published() == {}
    assert "hush" not in f"{pod.failure()} {pod.said()}"


def test_a_sidecar_that_cannot_go_on_lets_the_pod_end_and_says_why(local_pod):
    pod = local_pod
    pod.shell("true", checkpoint=True)
    assert pod.init().returncode == 0
    (pod.private / "signatures.json").write_text("[]")
    pod.start_command()
    until(lambda: wrapper.exit_code(pod.root) == 0)
    pod.start_sidecar()
    assert pod.finish() == wrapper.UNPUBLISHED
    assert "the sidecar cannot go on: TypeError" in str(pod.failure())
