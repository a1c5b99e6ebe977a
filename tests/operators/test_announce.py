from __future__ import annotations

import pytest
from airflow.sdk import Asset, AssetAlias

from airflow_mlpipe.definitions import PipelineData
from airflow_mlpipe.operators import CommandOperator
from airflow_mlpipe.operators.announce import outlets_of
from tests.dagfiles import dag_in

WRITES = "echo ${{ parameters.text }} > ${{ outputs.model }}"
ANNOUNCED = {"model": {"asset": "mlpipe://model"}}


@pytest.fixture
def train(tmp_path):
    with dag_in(tmp_path, params={"text": "one"}):
        return CommandOperator(task_id="train", command=WRITES, outputs=ANNOUNCED)


def outlets(*assets):
    return outlets_of("d", [PipelineData(f"x{number}", asset=asset) for number, asset in enumerate(assets)])


def test_a_task_without_assets_has_no_outlet(tmp_path):
    assert outlets(None, None) == []
    with dag_in(tmp_path):
        assert CommandOperator(task_id="a", command="true", outputs=["model"]).outlets == []


def test_each_asset_is_an_outlet_once(train):
    assert train.outlets == [Asset("mlpipe://model")]
    assert outlets("a", None, "b", "a") == [Asset("a"), Asset("b")]


def test_names_that_are_yet_to_be_rendered_come_by_one_alias_of_the_dag():
    assert outlets("a", "b://{{ ds }}", "c://{{ ds }}") == [Asset("a"), AssetAlias("mlpipe:d")]
    assert outlets_of("", [PipelineData("x", asset="{{ ds }}")]) == [AssetAlias("mlpipe")]


def test_airflow_knows_the_asset_of_mapped_tasks_before_any_of_them_makes_it(tmp_path):
    with dag_in(tmp_path):
        mapped = CommandOperator.partial(task_id="a", command=WRITES, outputs=ANNOUNCED, outlets=[Asset("mine")])
        expanded = mapped.expand(parameters=[{"text": "one"}, {"text": "two"}])
    assert expanded.outlets == [Asset("mine"), Asset("mlpipe://model")]


def test_an_outlet_of_the_user_stays_that_is_no_list(tmp_path):
    with dag_in(tmp_path):
        mapped = CommandOperator.partial(task_id="a", command=WRITES, outputs=ANNOUNCED, outlets=Asset("mine"))
        expanded = mapped.expand(parameters=[{"text": "one"}])
    assert expanded.outlets == [Asset("mine"), Asset("mlpipe://model")]


def test_each_map_index_announces_what_it_has_made(airflow, tmp_path):
    with dag_in(tmp_path):
        mapped = CommandOperator.partial(task_id="a", command=WRITES, outputs=ANNOUNCED).expand(
            parameters=[{"text": "one"}, {"text": "two"}]
        )
    told = [airflow.run(mapped, run, map_index=index).announced for run in ("r1", "r2") for index in (0, 1)]
    assert [[list(extra["outputs"]) for _, extra in each] for each in told] == [
        [["a[0].model"]],
        [["a[1].model"]],
        [],
        [],
    ]


def test_a_map_index_announces_no_asset_of_another(airflow, tmp_path):
    made = {"parameters": {"text": "one"}}
    with dag_in(tmp_path):
        mapped = CommandOperator.partial(task_id="a", command=WRITES, outlets=[Asset("mine")]).expand_kwargs(
            [{**made, "outputs": {"model": {"asset": name}}} for name in ("first", "second")]
        )
    assert mapped.outlets == [Asset("mine"), Asset("first"), Asset("second")]
    told = [airflow.run(mapped, run, map_index=index).announced for run in ("r1", "r2") for index in (0, 1)]
    assert [[asset for asset, _ in each] for each in told] == [
        ["mine", "first"],
        ["mine", "second"],
        ["mine"],
        ["mine"],
    ]


def test_an_asset_that_airflow_renders_the_name_of_is_announced_by_the_alias(airflow, tmp_path):
    with dag_in(tmp_path, params={"text": "one"}):
        task = CommandOperator(task_id="a", command=WRITES, outputs={"model": {"asset": "x://{{ ds }}"}})
    assert [[asset for asset, _ in airflow.run(task, run).announced] for run in ("r1", "r2")] == [
        ["x://2025-03-01"],
        [],
    ]


def test_an_output_beside_one_that_has_not_changed_is_told_alone(airflow, tmp_path):
    outputs = {"model": {"asset": "both"}, "word": {"asset": "both"}}
    with dag_in(tmp_path, params={"text": "one"}):
        task = CommandOperator(task_id="a", command=f"echo same > ${{{{ outputs.word }}}}; {WRITES}", outputs=outputs)
    told = [airflow.run(task, run, conf={"text": run}).announced for run in ("r1", "r2")]
    assert [[list(extra["outputs"]) for _, extra in each] for each in told] == [[["a.model", "a.word"]], [["a.model"]]]


def test_outlets_of_the_user_stay_and_their_list_is_left_alone(tmp_path):
    own = [Asset("mine")]
    with dag_in(tmp_path):
        task = CommandOperator(task_id="a", command="true", outputs=ANNOUNCED, outlets=own)
    assert task.outlets == [Asset("mine"), Asset("mlpipe://model")]
    assert own == [Asset("mine")]


def test_a_first_output_is_announced_with_its_digest_and_where_it_comes_from(airflow, train):
    ended = airflow.run(train)
    ((asset, extra),) = ended.announced
    assert asset == "mlpipe://model"
    assert extra == {"outputs": {"train.model": ended.result["model"]["digest"]}}


def test_the_same_content_is_announced_once(airflow, train):
    airflow.run(train)
    assert airflow.run(train, "r2").announced == ()


def test_what_ran_again_and_made_the_same_is_not_announced(airflow, train, tmp_path):
    airflow.run(train)
    with dag_in(tmp_path, params={"text": "one"}):
        other = CommandOperator(task_id="train", command=f"true; {WRITES}", outputs=ANNOUNCED)
    again = airflow.run(other, "r2")
    assert (again.outcome, again.announced) == ("ran", ())


def test_going_back_to_an_earlier_content_is_announced_though_nothing_ran(airflow, train):
    airflow.run(train)
    airflow.run(train, "r2", conf={"text": "two"})
    back = airflow.run(train, "r3")
    assert back.outcome == "reused"
    assert len(back.announced) == 1


def test_an_event_counts_only_where_its_task_succeeded(airflow, train):
    airflow.run(train)
    airflow.events.clear()  # Airflow keeps none of a task that failed after it
    assert len(airflow.run(train, "r2").announced) == 1


def test_what_another_dag_announced_does_not_count(airflow, train, tmp_path):
    with dag_in(tmp_path, "other", params={"text": "one"}):
        twin = CommandOperator(task_id="train", command=WRITES, outputs=ANNOUNCED)
    airflow.run(train)
    ended = airflow.run(twin)
    assert (ended.outcome, len(ended.announced)) == ("reused", 1)


def test_steps_that_share_an_asset_do_not_hide_each_other(airflow, tmp_path):
    with dag_in(tmp_path, params={"text": "one"}):
        first, second = (CommandOperator(task_id=name, command=WRITES, outputs=ANNOUNCED) for name in ("a", "b"))
    assert [len(airflow.run(task).announced) for task in (first, second)] == [1, 1]
    assert [len(airflow.run(task, "r2").announced) for task in (first, second)] == [0, 0]


def test_an_output_without_an_asset_is_not_announced(airflow, tmp_path):
    outputs = {**ANNOUNCED, "report": {}}
    with dag_in(tmp_path):
        task = CommandOperator(task_id="a", command="touch ${{ outputs.model }} ${{ outputs.report }}", outputs=outputs)
    assert [list(extra["outputs"]) for _, extra in airflow.run(task).announced] == [["a.model"]]


def test_nothing_is_asked_where_nothing_is_to_be_announced(airflow, tmp_path, monkeypatch):
    with dag_in(tmp_path):
        task = CommandOperator(task_id="a", command="touch ${{ outputs.model }}", outputs=["model"])
    monkeypatch.setattr(airflow, "send", lambda message: pytest.fail(f"asked {message}"))
    assert airflow.run(task).announced == ()


def test_a_task_whose_outlet_was_taken_away_announces_nothing(airflow, train):
    train.outlets.clear()
    assert airflow.run(train).announced == ()
