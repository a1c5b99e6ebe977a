from __future__ import annotations

import pytest

from airflow_mlpipe.definitions import CommandStep, Environment, Pipeline, PythonScriptStep
from airflow_mlpipe.definitions.files import file_faults


def faults(*steps, folder, **fields):
    pipeline = Pipeline(name="p", steps=list(steps), **fields)
    pipeline.folder = folder
    return [str(fault.problem()) for fault in file_faults(pipeline)]


def script(name="prepare.py", directory="src", **fields):
    return PythonScriptStep(name="a", script_name=name, source_directory=directory, **fields)


def test_nothing_is_wrong_where_all_files_are_there(project):
    assert faults(script(), CommandStep(name="b", command="true"), folder=project) == []


def test_a_missing_script_is_named_with_the_nearest(project):
    (fault,) = faults(script("preprae.py"), folder=project)
    assert fault.startswith("steps.a.script_name: is not there: ")
    assert fault.endswith("(given: preprae.py). Did you mean prepare.py?")


def test_a_script_in_another_folder_is_found(project):
    (fault,) = faults(script(directory="."), folder=project)
    assert fault.endswith("Did you mean src/prepare.py?")


def test_where_no_script_is_near_those_there_are_listed(project):
    (fault,) = faults(script("zebra.py"), folder=project)
    assert fault.endswith("There are: prepare.py, train.py")


def test_a_folder_is_no_script(project):
    (project / "src" / "x.py").mkdir()
    assert "is not there" in faults(script("x.py"), folder=project)[0]


@pytest.mark.parametrize(
    ("directory", "words"),
    [
        ("scr", "Did you mean src?"),
        ("src/prepare.py", "is no directory"),
        ("zebra/x", "Relative paths start at the folder"),
    ],
)
def test_a_missing_source_directory_is_named(project, directory, words):
    (fault,) = faults(script(directory=directory), folder=project)
    assert fault.startswith("steps.a.source_directory: ")
    assert words in fault


def test_a_missing_requirements_file_is_named(project):
    (project / "requirements.txt").write_text("")
    (fault,) = faults(script(), folder=project, environment=Environment(requirements_file="requirement.txt"))
    assert fault.startswith("environment.requirements_file: is not there")
    assert "Did you mean requirements.txt?" in fault
    environment = Environment(requirements_file="nowhere/x.txt")
    assert "steps.a.environment.requirements_file" in faults(script(environment=environment), folder=project)[0]
