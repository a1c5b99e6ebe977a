"""A step that goes on where its earlier try was ended."""

from __future__ import annotations

import signal

import pytest

from airflow_mlpipe.runtime.protocol import OutputSpec
from airflow_mlpipe.store import layout
from tests.runtime.pod.pods import FINGERPRINT, Pod, until

COUNT = """
n=$(cat "$MLPIPE_CHECKPOINT"/n 2>/dev/null || echo 0)
while [ $n -lt $1 ]; do n=$((n+1)); echo $n >"$MLPIPE_CHECKPOINT"/.n; mv "$MLPIPE_CHECKPOINT"/.n "$MLPIPE_CHECKPOINT"/n; done
touch ready
trap 'exit 0' TERM
until [ $n -ge 6 ]; do sleep 0.05; done
echo $n >"$MLPIPE_OUTPUT_MODEL"
"""


def counting(pod, to):
    script = f"set -- {to}\n{COUNT}"
    return pod.shell(script, outputs={"model": OutputSpec()}, checkpoint=True)


def again(pod, claim="second"):
    home = pod.home / claim
    home.mkdir()
    return Pod(home, pod.store, pod.options, claim=claim, told=dict(pod.told))


@pytest.mark.parametrize("how", ["deleted", "killed"])
def test_the_next_try_begins_with_what_was_saved(pod, how):
    counting(pod, 3)
    pod.serving()
    until((pod.root / "code" / "ready").exists)
    if how == "deleted":
        pod.delete()
    else:
        pod.kill_command()
        pod.sidecar.send_signal(signal.SIGTERM)
        pod.sidecar.wait(20)
    assert pod.result() is None
    second = again(pod)
    counting(second, 6)
    assert second.init().returncode == 0
    assert (second.root / "checkpoint" / "n").read_text() == "3\n"
    second.start_sidecar()
    second.start_command()
    assert second.finish() == 0
    assert second.published() == {"model": 2}
    second.end()


def test_a_pod_that_is_ended_before_its_sidecar_listens_saves_what_there_is(pod):
    counting(pod, 3)
    assert pod.init().returncode == 0
    pod.start_command()
    until((pod.root / "code" / "ready").exists)
    pod.base.send_signal(signal.SIGTERM)
    pod.base.wait(20)
    pod.start_sidecar()  # what it was sent meanwhile it did not hear
    assert pod.sidecar.wait(30) == 0
    second = again(pod)
    counting(second, 6)
    assert second.init().returncode == 0
    assert (second.root / "checkpoint" / "n").read_text() == "3\n"


def test_it_is_saved_every_so_often(pod):
    pod.told["MLPIPE_CHECKPOINT_SECONDS"] = "1"
    counting(pod, 3)
    pod.serving()
    latest = layout.latest_checkpoint(FINGERPRINT)
    until(lambda: pod.store.exists(latest))
    before = pod.store.read(latest)
    (pod.root / "checkpoint" / "n").write_text("4\n")
    until(lambda: pod.store.read(latest) != before)


def test_a_step_that_does_not_ask_for_it_saves_nothing(local_pod):
    pod = local_pod
    pod.told["MLPIPE_CHECKPOINT_SECONDS"] = "1"
    pod.shell("mkdir ../checkpoint; echo 1 >../checkpoint/n; exit 1")
    assert pod.started().finish() == 1
    assert pod.store.sizes(layout.CHECKPOINTS) == {}


def test_a_link_in_the_place_of_the_folder_is_not_followed_to_the_credentials(local_pod):
    script = f'rm -rf "$MLPIPE_CHECKPOINT"; ln -s {local_pod.credentials} "$MLPIPE_CHECKPOINT"; exit 1'
    local_pod.shell(script, checkpoint=True)
    assert local_pod.started().finish() == 1
    assert "the checkpoint could not be saved: " in local_pod.said()
    assert local_pod.store.names(layout.checkpoints(FINGERPRINT)) == []
