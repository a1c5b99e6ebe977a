from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow_mlpipe.cli.follow import Tail, follow, last_lines

if TYPE_CHECKING:
    from pathlib import Path


@dataclass
class Script:
    """Stands for a run: each time somebody asks whether it has ended, it does one more thing."""

    log: Path
    events: Path
    acts: list[str]

    def ended(self) -> bool:
        if not self.acts:
            return True
        with self.events.open("a") as file:
            file.write(self.acts.pop(0))
        return False


@dataclass
class Ear:
    heard: list[str] = field(default_factory=list)

    def starts(self, task: str) -> None:
        self.heard.append(f"{task} starts")

    def ends(self, task: str, state: str) -> None:
        self.heard.append(f"{task} {state}")

    def log(self, line: str) -> None:
        self.heard.append(f"log: {line}")

    def passes(self) -> None:
        pass


def event(**fields: str) -> str:
    return json.dumps(fields) + "\n"


def script(tmp_path: Path, *acts: str) -> Script:
    return Script(tmp_path / "log", tmp_path / "events", list(acts))


def test_everything_that_happens_is_heard_in_order_and_the_state_is_kept(tmp_path):
    ear = Ear()
    followed = follow(
        script(
            tmp_path,
            event(task="plan", state="running") + event(task="plan", state="success"),
            event(task="train", state="running"),
            event(task="train", state="failed", error="exit code 3"),
            event(run="r", state="failed"),
        ),
        ear,
        verbose=False,
    )
    assert ear.heard == ["plan starts", "plan success", "train starts", "train failed"]
    assert followed.state == "failed"
    assert followed.errors == {"train": "exit code 3"}


def test_an_error_is_forgotten_when_the_task_is_tried_again(tmp_path):
    acts = (
        event(task="t", state="failed", error="no"),
        event(task="t", state="running"),
        event(run="r", state="success"),
    )
    assert follow(script(tmp_path, *acts), Ear(), verbose=False).errors == {}


def test_a_run_that_ends_without_a_word_has_no_state(tmp_path):
    assert follow(script(tmp_path), Ear(), verbose=False).state is None


def test_half_a_line_waits_for_its_end(tmp_path):
    whole = event(task="t", state="running")
    ear = Ear()
    follow(script(tmp_path, whole[:5], whole[5:]), ear, verbose=False)
    assert ear.heard == ["t starts"]


def test_the_log_is_told_only_to_who_asks(tmp_path):
    (tmp_path / "log").write_text("one\ntwo\n")
    quiet, verbose = Ear(), Ear()
    follow(script(tmp_path), quiet, verbose=False)
    follow(script(tmp_path), verbose, verbose=True)
    assert (quiet.heard, verbose.heard) == ([], ["log: one", "log: two"])


def test_a_tail_gives_each_line_once(tmp_path):
    tail = Tail(tmp_path / "file")
    assert tail.lines() == []
    (tmp_path / "file").write_bytes(b"one\n\xff\xfetwo\nthr")
    assert tail.lines() == ["one", "��two"]
    with (tmp_path / "file").open("a") as file:
        file.write("ee\n")
    assert tail.lines() == ["three"]


def test_the_last_lines_of_a_file_that_is_not_there_are_none(tmp_path):
    assert last_lines(tmp_path / "none", 3) == []
    (tmp_path / "file").write_text("1\n2\n3\n4\n")
    assert last_lines(tmp_path / "file", 2) == ["3", "4"]
