"""The pods of two nodes as real processes: the outputs of the first count when the other has ended well."""

from __future__ import annotations

import threading

import pytest

from airflow_mlpipe.runtime.pod.access import Told
from airflow_mlpipe.runtime.pod.nodes import Nodes
from airflow_mlpipe.runtime.protocol import OutputSpec
from airflow_mlpipe.store import layout
from airflow_mlpipe.store.store import Store
from tests.runtime.pod.pods import FINGERPRINT, Pod, until

MODEL = {"model": OutputSpec()}


@pytest.fixture
def nodes(tmp_path):
    """Two pods of the same Job, on a store that both see."""
    store = Store.open(str(tmp_path / "store"))
    made = []

    def begin(*scripts, attempt="job-1"):
        for node, script in enumerate(scripts):
            told = {"MLPIPE_NODE": str(node), "MLPIPE_NODES": str(len(scripts)), "MLPIPE_ATTEMPT": attempt}
            pod = Pod(tmp_path / f"{attempt}-{node}", store, told=told)
            pod.shell(script, outputs=MODEL)
            made.append(pod)
        return [pod.started() for pod in made[-len(scripts) :]]

    yield begin
    for pod in made:
        pod.end()


def write(text, more=""):
    return f'echo {text} > "$MLPIPE_OUTPUT_MODEL"; {more}'


def marks(pod):
    return [path for path in pod.store.sizes(layout.outputs(FINGERPRINT, "claim")) if path.startswith(".nodes")]


def test_the_outputs_are_those_of_node_0_and_nothing_else_is_left(nodes):
    first, second = nodes(write("first"), write("second"))
    assert (first.finish(), second.finish()) == (0, 0)
    assert first.store.read(first.result().outputs["model"].path) == b"first\n"
    assert marks(first) == []


def test_node_0_waits_for_the_other_before_it_publishes(nodes, tmp_path):
    gate = tmp_path / "gate"
    first, second = nodes(write("first"), write("second", f'while [ ! -e "{gate}" ]; do sleep 0.1; done'))
    until((first.root / ".exit").exists)
    with pytest.raises(AssertionError):
        until(lambda: first.result() is not None, 2)
    assert first.base.poll() is None
    gate.touch()
    assert (second.finish(), first.finish()) == (0, 0)
    assert first.result() is not None


def test_a_node_that_fails_keeps_node_0_from_publishing(nodes):
    first, second = nodes(write("first"), write("second", "exit 3"))
    assert second.finish() == 3
    until((first.root / ".exit").exists)
    first.delete()  # as the Job does then
    assert first.result() is None
    assert first.published() == {}
    assert first.base.returncode == 143


def test_what_the_nodes_of_an_earlier_attempt_said_does_not_count(nodes):
    first, second = nodes(write("first", "sleep 30"), write("second"))
    assert second.finish() == 0
    first.delete()
    assert len(marks(first)) == 1
    again, late = nodes(write("again"), write("late", "sleep 30"), attempt="job-2")
    until((again.root / ".exit").exists)
    with pytest.raises(AssertionError):
        until(lambda: again.result() is not None, 2)
    late.delete()
    again.delete()
    assert again.result() is None


def test_a_node_that_is_not_the_first_needs_no_outputs_and_shows_no_sign_of_life(nodes):
    first, second = nodes(write("first"), "true")
    assert (first.finish(), second.finish()) == (0, 0)
    assert first.result() is not None
    assert "published" not in second.said()


def test_a_sidecar_that_is_started_again_while_it_publishes_knows_still_that_the_others_have_ended(tmp_path):
    store = Store.open(str(tmp_path / "store"))

    def node(number):
        told = Told(store.url, FINGERPRINT, "claim", tmp_path, tmp_path, 30, node=number, nodes=2, attempt="job-1")
        return Nodes(store, told)

    node(1).say_ended()
    ended = threading.Event()
    assert node(0).others_ended(ended)
    threading.Timer(5, ended.set).start()
    assert node(0).others_ended(ended)
    node(0).forget()
    assert store.sizes(layout.nodes(FINGERPRINT, "claim")) == {}


def test_what_an_earlier_pod_of_a_node_of_the_same_job_has_said_does_not_count(nodes):
    """A queue for quota takes the pods of a Job away, and lets the same Job make others."""
    first, second = nodes(write("first", "sleep 30"), write("second"))
    assert second.finish() == 0
    first.delete()
    assert len(marks(first)) == 1
    third, fourth = (Pod(pod.home / "again", pod.store, told=pod.told) for pod in (first, second))
    third.shell(write("third"), outputs=MODEL)
    fourth.shell(write("fourth", "sleep 1; exit 3"), outputs=MODEL)
    try:
        fourth.started()
        until(lambda: not marks(first))
        third.started()
        assert fourth.finish() == 3
        until((third.root / ".exit").exists)
        third.delete()
        assert third.result() is None
    finally:
        third.end()
        fourth.end()


def test_what_a_node_has_said_stays_said_when_its_sidecar_is_started_again(nodes):
    first, second = nodes(write("first", "sleep 3"), write("second"))
    second.base.wait(30)
    second.sidecar.kill()
    second.sidecar.wait()
    second.start_sidecar()
    assert (first.finish(), second.finish()) == (0, 0)
    assert first.result() is not None
