from __future__ import annotations

from airflow_mlpipe.cli.checking import files_of, problems_of


def test_a_sound_definition_has_no_problem(project):
    assert problems_of(project.file, None) == ()


def test_every_problem_of_a_file_is_told_with_its_place(project):
    project.edit("small.yaml", "factor: {type: number, default: 2.0, minimum: 0}", "factor: {type: numbr}")
    project.edit("small.yaml", "script_name: second.py", "script_name: secnd.py")
    problems = problems_of(project.file, None)
    assert [problem.line for problem in problems] == [3, 15]
    assert all(problem.column for problem in problems)


def test_a_folder_stands_for_its_definitions_and_its_workspace(project):
    project.write("mlpipe.yaml", "name: here\n")
    project.write("notes.txt", "nothing")
    files, problems = files_of([project.folder, project.file])
    assert [file.name for file in files] == ["mlpipe.yaml", "small.yaml"]
    assert problems == []


def test_a_folder_without_definitions_is_a_problem(tmp_path):
    files, problems = files_of([tmp_path])
    assert files == []
    assert "holds no definition" in str(problems[0])


def test_a_workspace_and_a_module_are_checked_as_what_they_are(project):
    workspace = project.write("mlpipe.yaml", "datastors: {}\n")
    module = project.write("modules/one-1.0.yaml", "name: one\nversion: '1.0'\nstep: {kind: command, comand: 'true'}\n")
    assert "datastores" in str(problems_of(workspace, None)[0])
    workspace.unlink()
    assert "command" in str(problems_of(module, None)[0])


def test_a_file_that_is_not_there_is_a_problem(tmp_path):
    assert "cannot be read" in str(problems_of(tmp_path / "none.yaml", None)[0])


def test_a_callback_that_cannot_be_found_is_a_problem_with_its_place(project):
    project.edit("small.yaml", "name: small", "name: small\non_failure: nomod.fn")
    (problem,) = problems_of(project.file, None)
    assert (problem.line, problem.where) == (2, "on_failure")
    assert project.call("plan", "--json", code=0).stdout  # whoever plans on a laptop need not have it
