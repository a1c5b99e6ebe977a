"""What the commands answer where nothing has to run."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from airflow_mlpipe.store import runs
from tests.cli.helpers import by_step, call, note, opened, planned

COMMAND = [sys.executable, "-c", "from airflow_mlpipe.cli import main; main()"]


@pytest.mark.parametrize("command", ["run", "plan", "explain", "outputs", "lock", "validate"])
def test_a_file_that_is_not_there_is_said_in_one_line(command, tmp_path):
    result = call(command, str(tmp_path / "none.yaml"), *(["--all"] if command == "explain" else []), code=2)
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert "none.yaml" in result.stderr


def test_a_broken_definition_is_told_line_by_line_without_a_traceback(project):
    project.edit("small.yaml", "name: small", "nam: small")
    project.edit("small.yaml", "script_name: second.py", "script_name: secnd.py")
    result = project.call("run", code=2)
    lines = result.stderr.splitlines()
    assert lines[0].startswith(f"{project.file}:1:1: ")
    assert "Did you mean name?" in lines[0]
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


def test_an_unknown_parameter_is_refused_with_the_nearest(project):
    assert "Did you mean factor?" in project.call("run", "-p", "facto=3", code=2).stderr
    assert "at least 0" in project.call("plan", "-p", "factor=-3", code=2).stderr
    assert "Did you mean first?" in project.call("run", "--regenerate", "firts", code=2).stderr


def test_bad_usage_has_code_2(project):
    project.call("run", "--jobs", "0", code=2)
    project.call("run", "--unknown", code=2)
    project.call("run", "--logical-date", "yesterday", code=2)
    project.call("explain", code=2)
    project.call("explain", "first", "--all", code=2)
    assert "Did you mean second?" in project.call("explain", "secnd", code=2).stderr
    call("unknown", code=2)
    call("up", "--port", "65536", code=2)


def test_data_that_is_not_there_is_named(project):
    (project.folder / "raw.txt").unlink()
    assert "raw.txt" in project.call("run", code=2).stderr


def test_a_plan_says_what_would_run_and_leaves_nothing(project):
    result = project.call("plan")
    assert [line.split() for line in result.stdout.splitlines()[:3]] == [
        ["step", "decision", "why"],
        ["first", "run", "it", "has", "not", "run", "before"],
        ["second", "depends", "on", "first"],
    ]
    assert by_step(project.json("plan"))["second"]["depends_on"] == ["first"]
    assert not (project.folder / ".mlpipe").exists()


def test_a_definition_without_problems_is_valid_and_problems_come_as_json(project):
    assert call("validate", str(project.file)).stderr == "1 definition, no problem\n"
    assert json.loads(call("validate", str(project.folder), "--json").stdout) == []
    project.edit("small.yaml", "name: small", "nam: small")
    problems = json.loads(call("validate", str(project.folder), "--json", code=2).stdout)
    assert {problem["line"] for problem in problems} == {1}
    assert {"file", "line", "column", "where", "message", "remedy"} <= set(problems[0])


def test_outputs_and_explanations_of_what_has_not_run_say_so(project):
    assert "has not run yet" in project.call("outputs", code=2).stderr
    assert "has not run yet" in project.call("explain", "first").stdout
    assert "has not run yet" in project.call("explain", "first", "--run", "nightly", code=2).stderr


def test_outputs_are_shown_and_copied(project, tmp_path):
    store = opened(project).site.store
    store.write("outputs/f/c/clean", b"21")
    runs.write_plan(store, "small", "nightly", planned(project, "nightly").to_json())
    runs.write_note(store, "small", "nightly", "first", note())
    assert project.call("outputs").stdout.splitlines() == ["first.clean  1.2 kB", f"  {store.root}/outputs/f/c/clean"]
    outputs = by_step(project.json("outputs", "first", "--run", "nightly"))["first"]["outputs"]
    assert outputs["clean"]["uri"] == store.uri("outputs/f/c/clean")
    project.call("outputs", "--copy-to", str(tmp_path / "copy"))
    assert (tmp_path / "copy" / "first" / "clean").read_text() == "21"
    assert "already" in project.call("outputs", "--copy-to", str(tmp_path / "copy"), code=2).stderr


def test_a_run_without_outputs_says_how_its_steps_ended(project):
    runs.write_plan(opened(project).site.store, "small", "nightly", planned(project, "nightly").to_json())
    result = project.call("outputs")
    assert (result.stdout, result.stderr) == ("", "no outputs: first not run, second not run\n")
    assert list(by_step(project.json("outputs"))) == ["first", "second"]


@pytest.mark.parametrize("kind", ["pipeline", "workspace", "module"])
def test_there_is_a_schema_of_each_kind_of_file(kind):
    assert json.loads(call("schema", kind).stdout)["title"].endswith(kind)


def test_there_is_no_schema_of_anything_else():
    assert "not of 'step'" in call("schema", "step", code=2).stderr


def test_a_pipeline_without_requirements_has_nothing_to_lock(project):
    assert project.call("lock").stdout == "small has no requirements to lock\n"
    assert project.json("lock") == []


def test_a_project_is_made_once(tmp_path):
    assert "mlpipe run" in call("init", str(tmp_path / "p")).stderr
    assert "already" in call("init", str(tmp_path / "p"), code=2).stderr


def test_up_starts_airflow_over_a_folder_of_dags_in_a_private_home(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr("airflow_mlpipe.up.up", lambda *arguments: asked.append(arguments) or 0)
    monkeypatch.chdir(tmp_path)
    for folder in ("dags", "examples"):
        (tmp_path / folder).mkdir()
    call("up")
    call("up", "examples", "--port", "8090")
    call("up", "--dags", "examples", "--home", "airflow")
    home = tmp_path / ".mlpipe" / "up"
    assert asked == [
        (Path("dags"), home, None),
        (Path("examples"), home, 8090),
        (Path("examples"), Path("airflow"), None),
    ]


def test_planning_imports_neither_airflow_nor_anything_heavy(project):
    code = (
        "import sys; from airflow_mlpipe.cli import main\n"
        f"sys.argv = ['mlpipe', 'plan', {str(project.file)!r}]\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'airflow', 'sqlalchemy', 'kubernetes', 'docker', 'numpy', 'pandas', 'httpx', 'jinja2', 'rich.live'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_what_is_piped_has_no_escape_codes(project):
    for arguments in (["plan", str(project.file)], ["run", "none.yaml"], ["--help"], ["run", "--help"]):
        done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False)
        assert "\x1b" not in done.stdout + done.stderr
        assert max(map(len, (done.stdout + done.stderr).splitlines())) <= 120


def test_up_refuses_a_folder_that_is_not_there_before_it_starts_anything(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = call("up", "nodir", code=2).stderr
    assert said == f"mlpipe: there is no folder {tmp_path / 'nodir'} to take DAGs from; make it, or name another\n"
    assert list(tmp_path.iterdir()) == []


def test_explain_says_where_a_default_takes_the_place_of_what_a_run_had(project):
    plan = replace(planned(project, "nightly"), parameters={"factor": 3.0})
    runs.write_plan(opened(project).site.store, "small", "nightly", plan.to_json())
    said = project.call("explain", "first").stdout
    assert "now, with the default of factor = 2.0, which was 3.0: " in said
    assert "default" not in project.call("explain", "first", "-p", "factor=2").stdout
