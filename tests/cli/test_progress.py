from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from airflow_mlpipe.cli.progress import PlainScreen, Progress, screen
from airflow_mlpipe.planning.plan import Found
from airflow_mlpipe.store import runs
from airflow_mlpipe.store.store import Store
from tests.cli.helpers import failed_note, note, planned


@dataclass
class Paper:
    lines: list[str] = field(default_factory=list)
    last: str = ""

    def line(self, text: str) -> None:
        self.lines.append(text)

    def status(self, text: str) -> None:
        self.last = text


@pytest.fixture
def store(tmp_path):
    return Store.open(str(tmp_path / "store"))


def keep_plan(store, project, *reused):
    plan = planned(project, "r")
    found = Found(1, {}, {}, 2.0, {"run": "earlier"})
    decisions = {
        name: replace(decision, choice="reuse", found=found) if name in reused else decision
        for name, decision in plan.decisions.items()
    }
    runs.write_plan(store, "small", "r", replace(plan, decisions=decisions).to_json())


def test_each_finished_step_has_a_line_with_its_outcome_and_reason(store, project):
    paper = Paper()
    progress = Progress(paper, store, "small", "r")
    progress.passes()
    assert paper.last == "Airflow starts"
    progress.starts("plan")
    progress.passes()
    assert paper.last == "planning"
    keep_plan(store, project, "first")
    progress.ends("plan", "success")
    progress.starts("second")
    progress.passes()
    assert paper.last.split() == ["1", "of", "2", "done", "second", "0", "s"]
    runs.write_note(store, "small", "r", "second", note())
    progress.ends("second", "success")
    assert paper.lines == ["1 of 2 steps are reused", "second ran in 1.5 s: first.py changed"]


def test_a_failed_step_is_said_to_have_failed_with_or_without_a_note(store, project):
    paper = Paper()
    progress = Progress(paper, store, "small", "r")
    keep_plan(store, project)
    progress.ends("plan", "success")
    progress.ends("first", "failed")
    runs.write_note(store, "small", "r", "first", failed_note("no disk"))
    progress.ends("first", "failed")
    progress.passes()
    assert paper.lines == ["first failed", "first failed: no disk"]
    assert paper.last.startswith("0 of 2 done")


def test_of_the_tasks_that_a_step_has_beside_its_own_only_failures_are_told(store, project):
    paper = Paper()
    progress = Progress(paper, store, "small", "r")
    keep_plan(store, project)
    progress.ends("plan", "success")
    progress.ends("first.plan", "success")
    progress.ends("first.trial", "failed")
    progress.passes()
    assert paper.lines == ["first.trial failed"]
    assert paper.last.startswith("0 of 2 done")


def test_the_log_is_shown_as_it_is(store):
    paper = Paper()
    Progress(paper, store, "small", "r").log("[info] a line")
    assert paper.lines == ["[info] a line"]


def test_what_is_no_terminal_gets_lines_only(capsys):
    with screen() as shown:
        assert isinstance(shown, PlainScreen)
        shown.status("running")
        shown.line("done")
    assert capsys.readouterr().err == "done\n"
