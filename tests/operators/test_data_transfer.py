from __future__ import annotations

import pytest

from airflow_mlpipe.definitions import DataReference, DataTransferStep
from airflow_mlpipe.exceptions import DataError, DefinitionError
from airflow_mlpipe.operators import CommandOperator, DataTransferOperator
from tests.dagfiles import dag_in


@pytest.fixture
def raw(tmp_path):
    folder = tmp_path / "raw"
    folder.mkdir()
    (folder / "a.csv").write_text("a")
    (folder / "b.csv").write_text("b")
    return folder


@pytest.fixture
def land(tmp_path):
    """Make an operator that copies `raw` to `landed`."""

    def make(**fields):
        with dag_in(tmp_path, params={"place": "landed"}):
            return DataTransferOperator(**{"task_id": "land", "source": "raw", "destination": "landed", **fields})

    return make


def test_it_mirrors_a_folder_and_its_output_is_the_destination(airflow, land, raw, tmp_path):
    (tmp_path / "landed").mkdir()
    (tmp_path / "landed" / "old.csv").write_text("old")
    ended = airflow.run(land())
    assert {file.name for file in (tmp_path / "landed").iterdir()} == {file.name for file in raw.iterdir()}
    assert ended.result["data"]["uri"] == f"file://{tmp_path}/landed"
    assert (ended.result["data"]["files"], ended.result["data"]["kind"]) == (2, "folder")


@pytest.mark.usefixtures("raw")
def test_rule_13_it_is_reused_while_source_and_destination_are_as_they_were(airflow, land, tmp_path):
    assert airflow.run(land()).outcome == "ran"
    assert airflow.run(land(), "r2").outcome == "reused"
    (tmp_path / "raw" / "c.csv").write_text("c")
    assert airflow.run(land(), "r3").outcome == "ran"
    (tmp_path / "landed" / "c.csv").unlink()
    assert airflow.run(land(), "r4").outcome == "ran"
    assert (tmp_path / "landed" / "c.csv").read_text() == "c"


@pytest.mark.usefixtures("raw")
def test_without_reuse_it_always_looks(airflow, land):
    outcomes = [airflow.run(land(allow_reuse=False), run).outcome for run in ("r1", "r2")]
    assert outcomes == ["ran", "ran"]


@pytest.mark.usefixtures("raw")
@pytest.mark.parametrize(
    "destination", ["${{ parameters.place }}/x", "{{ params.place }}/x", {"path": "{{ params.place }}/x"}]
)
def test_places_may_hold_parameters_and_airflow_templates(airflow, land, tmp_path, destination):
    airflow.run(land(destination=destination), conf={"place": "there"})
    assert (tmp_path / "there" / "x" / "a.csv").read_text() == "a"


@pytest.mark.usefixtures("raw")
def test_run_values_may_stand_in_places(airflow, land, tmp_path):
    airflow.run(land(destination="landed/${{ run.run_after }}"))
    assert [folder.name for folder in (tmp_path / "landed").iterdir()] == ["2025-03-01T12:00:00+00:00"]


def test_a_source_may_be_an_output_or_what_a_task_returned(airflow, tmp_path):
    with dag_in(tmp_path):
        made = CommandOperator(task_id="made", command="echo x > ${{ outputs.table }}", outputs=["table"])
        operator = DataTransferOperator(task_id="land", source=made.output["table"], destination="landed.csv")
        behind = CommandOperator(task_id="behind", command="cat ${{ inputs.x }}", inputs={"x": operator.output["data"]})
    assert operator.upstream_task_ids == {"made"}
    for task in (made, operator):
        airflow.run(task)
    assert "x" in airflow.run(behind).said
    assert (tmp_path / "landed.csv").read_text() == "x\n"


def test_the_fields_make_the_step_of_a_definition(land):
    source = DataReference(path="raw", compare="version")
    assert land(source=source).step == DataTransferStep(name="land", source=source, destination="landed")


def test_all_that_is_wrong_comes_at_once(land):
    with pytest.raises(DefinitionError) as error:
        land(source={"pth": "x"}, destination="${{ inputs.x }}", allow_reuse="no")
    assert [problem.where for problem in error.value.problems] == [
        f"DataTransferOperator(task_id='land').{field}"
        for field in ("allow_reuse", "destination.path", "source", "source.pth")
    ]


def test_a_source_that_is_not_there_fails_by_its_name(airflow, land):
    with pytest.raises(DataError, match=r"there is no data at file://.*/raw"):
        airflow.run(land())


@pytest.mark.usefixtures("raw")
def test_it_never_overwrites_the_output_store(airflow, land):
    with pytest.raises(DataError, match="the output store"):
        airflow.run(land(destination="store/outputs"))
