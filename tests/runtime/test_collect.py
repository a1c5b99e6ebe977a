from __future__ import annotations

import pytest

from airflow_mlpipe.exceptions import OutputMissingError
from airflow_mlpipe.runtime.collect import check_outputs
from airflow_mlpipe.runtime.layout import StepDirectory
from airflow_mlpipe.runtime.protocol import DistributionSpec, OutputSpec


@pytest.fixture
def directory(tmp_path):
    (tmp_path / "outputs").mkdir()
    return StepDirectory(tmp_path)


def test_a_file_and_a_folder_with_a_file_are_outputs(directory):
    (directory.outputs / "a").touch()
    (directory.outputs / "b" / "deep").mkdir(parents=True)
    (directory.outputs / "b" / "deep" / "file").touch()
    check_outputs(directory, {"a": OutputSpec(), "b": OutputSpec(kind="folder")}, pytest.fail)


def test_all_that_is_missing_is_named_with_what_is_there_instead(directory):
    (directory.outputs / "modell").touch()
    (directory.outputs / "empty" / "deep").mkdir(parents=True)
    declared = {"model": OutputSpec(), "empty": OutputSpec()}
    with pytest.raises(OutputMissingError) as caught:
        check_outputs(directory, declared, pytest.fail)
    message = str(caught.value)
    assert "output 'model' was not written" in message
    assert "output 'empty' is a folder with no file" in message
    assert "In outputs/ there is: empty, modell" in message


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_an_output_of_the_wrong_kind_is_refused(directory, kind):
    if kind == "folder":
        (directory.outputs / "x").touch()
    else:
        (directory.outputs / "x").mkdir()
        (directory.outputs / "x" / "file").touch()
    with pytest.raises(OutputMissingError, match=f"was declared as a {kind}"):
        check_outputs(directory, {"x": OutputSpec(kind=kind)}, pytest.fail)


def test_an_undeclared_output_is_only_warned_about(directory):
    (directory.outputs / "extra").touch()
    said = []
    check_outputs(directory, {}, said.append)
    assert len(said) == 1
    assert "outputs/extra" in said[0]


def test_a_folder_of_links_counts_as_written(directory):
    (directory.outputs / "x").mkdir()
    (directory.outputs / "x" / "link").symlink_to("/etc/hostname")
    check_outputs(directory, {"x": OutputSpec()}, pytest.fail)


def test_where_each_rank_has_outputs_of_its_own_the_rank_that_wrote_none_is_named(directory):
    each = DistributionSpec("mpi", processes=3, outputs="each")
    (directory.outputs / "x").mkdir()
    for rank in (0, 2):
        (directory.outputs / "x" / str(rank)).touch()
    with pytest.raises(OutputMissingError, match="but output 'x' of rank 1 was not written"):
        check_outputs(directory, {"x": OutputSpec(kind="file")}, pytest.fail, each)
    (directory.outputs / "x" / "1").touch()
    check_outputs(directory, {"x": OutputSpec(kind="file")}, pytest.fail, each)
    check_outputs(directory, {"x": OutputSpec(kind="folder")}, pytest.fail, DistributionSpec("mpi", processes=3))


@pytest.mark.parametrize("how", ["removed", "link", "file"])
def test_a_folder_of_outputs_that_was_replaced_is_refused(directory, tmp_path, how):
    directory.outputs.rmdir()
    if how == "link":
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "elsewhere" / "model").touch()
        directory.outputs.symlink_to(tmp_path / "elsewhere")
    elif how == "file":
        directory.outputs.touch()
    with pytest.raises(OutputMissingError, match="the command removed outputs/, or put something else in its place"):
        check_outputs(directory, {"model": OutputSpec()}, pytest.fail)
