from __future__ import annotations

import pytest
from urllib3.exceptions import ProtocolError

from airflow_mlpipe.launchers.kubernetes.following import Follower
from airflow_mlpipe.launchers.kubernetes.printed import Printed
from tests.launchers.kubernetes.states import container, ended, pod

RUNS = pod(container("base", running={}), phase="Running")
OVER = pod(ended("base", 0), phase="Succeeded")


def stamped(second, text):
    return f"2026-01-01T00:00:{second:09.6f}Z {text}\n".encode()


class FakeCluster:
    """Answers with one pod and one stretch of log after the other; a stretch may end in an error."""

    def __init__(self, *turns):
        self.turns = list(turns)
        self.asked = []

    def read(self, _):
        return self.turns[0][0]

    def lines(self, _, since, *, follow):
        self.asked.append((since is None, follow))
        for line in self.turns.pop(0)[1:]:
            if isinstance(line, Exception):
                raise line
            yield line


@pytest.fixture
def logged():
    return []


def follow(logged, *turns, since=None, secrets=()):
    cluster = FakeCluster(*turns)
    end = Follower(cluster, "x", Printed(secrets, logged.append), since).to_the_end()
    return end, cluster


def test_each_line_is_handed_on_once_though_the_connection_breaks(logged):
    end, cluster = follow(
        logged,
        (RUNS, stamped(1, "a"), stamped(2, "b"), ProtocolError("broken")),
        (RUNS, stamped(2, "b"), stamped(2.5, "c")),
        (OVER, stamped(2.5, "c"), stamped(3, "d")),
    )
    assert logged == ["a", "b", "c", "d"]
    assert end == OVER
    assert cluster.asked == [(True, True), (False, True), (False, False)]


def test_lines_of_one_moment_are_all_handed_on(logged):
    lines = [b"2026-01-01T00:00:01.5Z a\n", b"2026-01-01T00:00:01.5Z b\n", b"2026-01-01T00:00:01.51Z c\n"]
    follow(logged, (RUNS, *lines), (OVER, *lines, b"2026-01-01T00:00:02Z d\n"))
    assert logged == ["a", "b", "c", "d"]


def test_what_the_kubelet_says_of_a_log_is_not_the_commands(logged):
    follow(logged, (OVER, b"unable to retrieve container logs for containerd://x", stamped(1, ""), b""))
    assert logged == [""]


def test_what_the_triggerer_has_shown_is_not_shown_again(logged):
    begun = 1767225602.5  # 2026-01-01T00:00:02.5Z, in the second it left out
    follow(logged, (OVER, stamped(1, "a"), stamped(2.1, "b"), stamped(3, "c")), since=begun)
    assert logged == ["b", "c"]


def test_a_pod_that_is_gone_has_no_log(logged):
    assert follow(logged, (None,))[0] is None
    assert logged == []


def test_secrets_are_hidden_and_the_last_lines_kept(logged):
    output = Printed(["s3cr3t-t0k3n"], logged.append)
    output.take(b"the s3cr3t-t0k3n\n")
    output.take(b"\xff")
    output.say("our s3cr3t-t0k3n")
    assert logged == ["the ***", "\ufffd", "our ***"]
    assert output.tail.lines() == ("the ***", "\ufffd")
