from __future__ import annotations

import pytest

from airflow_mlpipe.cli.beginning import PIPELINE, make_project
from airflow_mlpipe.definitions import load_pipeline
from airflow_mlpipe.exceptions import MlpipeError


def test_the_project_is_complete_and_its_pipeline_is_sound(tmp_path):
    files = {str(path.relative_to(tmp_path)) for path in make_project(tmp_path)}
    assert {".gitignore", "README.md", "data/measurements.csv", str(PIPELINE)} < files
    assert [step.name for step in load_pipeline(tmp_path / PIPELINE).steps] == ["clean", "fit", "evaluate"]


def test_nothing_of_the_template_itself_shows(tmp_path):
    assert not [path for path in make_project(tmp_path) if path.suffix == ".in" or path.name.startswith("dot-")]


def test_its_scripts_need_nothing_but_python_and_what_is_staged(tmp_path):
    imported = {
        line.split()[1]
        for path in make_project(tmp_path)
        if path.suffix == ".py"
        for line in path.read_text().splitlines()
        if line.startswith(("import ", "from "))
    }
    assert imported == {"argparse", "csv", "json", "mlpipe"}


def test_what_is_there_already_is_not_overwritten(tmp_path):
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(MlpipeError, match=r"README\.md"):
        make_project(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]
    assert (tmp_path / "README.md").read_text() == "mine"


def test_a_folder_that_is_not_there_is_made(tmp_path):
    make_project(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b" / PIPELINE).is_file()
