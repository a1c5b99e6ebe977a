from __future__ import annotations

import pytest

from airflow_mlpipe.cli.report import StepReport
from airflow_mlpipe.cli.results import copy
from airflow_mlpipe.exceptions import DataError
from airflow_mlpipe.runtime.protocol import Content, OutputRef
from tests.cli.helpers import opened


@pytest.fixture
def site(project):
    return opened(project).site


def step(*paths, token=None):
    content = Content("file", "sha256:1", 1, 1)
    return StepReport(
        "train", "ran", outputs={path.split("/")[-1]: OutputRef(path, content, None, token) for path in paths}
    )


def test_files_and_folders_are_copied_below_the_name_of_their_step(site, tmp_path):
    site.store.write("outputs/model", b"m")
    site.store.write("outputs/plots/a/1.txt", b"1")
    copy([step("outputs/model", "outputs/plots")], site, tmp_path / "to")
    assert (tmp_path / "to/train/model").read_text() == "m"
    assert (tmp_path / "to/train/plots/a/1.txt").read_text() == "1"


def test_a_copy_is_its_owners_and_shares_nothing_with_the_store(site, tmp_path):
    site.store.write("outputs/model", b"m")
    (path,) = copy([step("outputs/model")], site, tmp_path / "to")
    path.write_text("mine")
    assert site.store.read("outputs/model") == b"m"


def test_nothing_is_copied_over_anything(site, tmp_path):
    site.store.write("outputs/one", b"1")
    site.store.write("outputs/two", b"2")
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "two").write_text("mine")
    with pytest.raises(DataError, match="train/two"):
        copy([step("outputs/one", "outputs/two")], site, tmp_path)
    assert not (tmp_path / "train" / "one").exists()


def test_the_output_of_a_transfer_is_copied_from_where_it_went(site, tmp_path):
    (tmp_path / "landed.csv").write_text("1")
    copy([step(f"file://{tmp_path}/landed.csv", token="t")], site, tmp_path / "to")
    assert (tmp_path / "to/train/landed.csv").read_text() == "1"


def test_an_output_that_is_gone_is_named(site, tmp_path):
    with pytest.raises(DataError, match=r"train\.model is gone"):
        copy([step("outputs/model")], site, tmp_path / "to")
