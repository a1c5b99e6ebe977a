from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_mlpipe.launchers.docker import guard

ORDER = json.dumps(
    {
        "host": "unix:///no/such.sock",
        "tls": None,
        "name": "n",
        "claim": "c",
        "grace": 1,
        "path": [],
        "certificates": "/no/such/folder",
    }
)


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


def test_the_certificates_are_there_until_the_container_is_ended_and_then_no_more(tmp_path, monkeypatch):
    (tmp_path / "tls").mkdir()
    (tmp_path / "tls" / "key.pem").touch()
    order = json.loads(ORDER) | {"certificates": str(tmp_path / "tls")}
    there = []
    monkeypatch.setattr(guard.signal, "signal", lambda *_: None)
    monkeypatch.setattr(guard.os, "read", lambda *_: b"")
    monkeypatch.setattr(guard, "end", lambda given: there.extend(Path(given["certificates"]).iterdir()))
    monkeypatch.setattr(sys, "argv", ["guard", json.dumps(order)])
    guard.main()
    assert there == [tmp_path / "tls" / "key.pem"]
    assert not (tmp_path / "tls").exists()
