from __future__ import annotations

import pytest

from airflow_mlpipe.definitions import load_module
from airflow_mlpipe.definitions.modules import ModuleFolders
from airflow_mlpipe.exceptions import DefinitionError
from tests.definitions.helpers import refused


@pytest.fixture
def folders(tmp_path):
    for name, version in (("train", "1.0"), ("train", "1.1"), ("trainer", "7")):
        (tmp_path / f"{name}-{version}.yaml").write_text(
            f'name: {name}\nversion: "{version}"\nstep: {{kind: command, command: "true"}}\n'
        )
    (tmp_path / "notes.txt").write_text("not a module")
    return ModuleFolders([tmp_path, tmp_path / "missing"])


def test_a_module_is_found_by_name_and_version(folders):
    assert folders.find("train").version == "1.1"
    assert folders.find("train", "1.0").version == "1.0"
    assert folders.find("trainer").version == "7"


def test_a_module_knows_its_folder(folders, tmp_path):
    assert folders.find("train").folder == tmp_path
    assert load_module(tmp_path / "train-1.0.yaml").folder == tmp_path


def test_a_module_or_version_that_is_not_there_is_refused(folders):
    with refused("version: is no version of the module train (given: 2.0). Known: 1.0, 1.1"):
        folders.find("train", "2.0")
    with refused("module: is no module in", "Did you mean trainer"):
        folders.find("traner")


def test_a_broken_module_names_its_own_file(folders, tmp_path):
    (tmp_path / "eval.yaml").write_text("name: eval\nversion: 1.0\n")
    with pytest.raises(DefinitionError, match=r"eval\.yaml:2:10: version"):
        folders.find("eval")
    assert folders.find("train").version == "1.1"
