from __future__ import annotations

import subprocess
import sys

import pytest

from airflow_mlpipe.launchers.docker import guard

ORDER = '{"host": "unix:///no/such.sock", "tls": null, "name": "n", "claim": "c", "grace": 1, "path": []}'


def test_a_guard_that_is_dismissed_ends_at_once_without_asking_an_engine():
    command = [sys.executable, "-I", "-S", guard.__file__, ORDER]  # nothing but the standard library is there
    done = subprocess.run(command, input=guard.DONE, capture_output=True, timeout=20, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_guard_whose_launcher_has_ended_keeps_asking_an_engine_that_does_not_answer():
    command = [sys.executable, "-I", "-S", guard.__file__, ORDER]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        assert process.stdin
        process.stdin.close()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=2)
        process.kill()


@pytest.fixture
def answers(monkeypatch):
    """What the engine says, one after the other: a container that was removed, none, or an error."""
    monkeypatch.setattr(guard, "_PAUSE", 0.01)
    monkeypatch.setattr(guard, "_APPEARS", 0.1)
    asked = []

    def given(*answers):
        left = list(answers)

        def removed(order):
            asked.append(order)
            answer = left.pop(0) if len(left) > 1 else left[0]
            if isinstance(answer, Exception):
                raise answer
            return answer

        monkeypatch.setattr(guard, "_removed", removed)
        return asked

    return given


def test_an_engine_that_restarts_is_asked_again(answers):
    asked = answers(ConnectionError("refused"), OSError("reset"), True)
    guard.end({})
    assert len(asked) == 3


def test_a_container_that_was_just_being_created_is_waited_for_but_not_for_ever(answers):
    asked = answers(False)
    guard.end({})
    assert len(asked) > 1


def test_an_engine_that_never_answers_is_given_up_in_the_end(answers, monkeypatch):
    monkeypatch.setattr(guard, "PATIENCE", 0.2)
    asked = answers(ConnectionError("refused"))
    guard.end({})
    assert len(asked) > 1
