from __future__ import annotations

import pytest
from airflow.sdk import Asset, AssetAlias

from airflow_mlpipe.definitions import PipelineData
from airflow_mlpipe.operators import CommandOperator
from airflow_mlpipe.operators.announce import alias_of, announce, is_ours
from tests.dagfiles import dag_in

WRITES = "echo ${{ parameters.text }} > ${{ outputs.model }}"
ANNOUNCED = {"model": {"asset": "mlpipe://model"}}


@pytest.fixture
def train(tmp_path):
    with dag_in(tmp_path, params={"text": "one"}):
        return CommandOperator(task_id="train", command=WRITES, outputs=ANNOUNCED)


def test_a_task_without_assets_has_no_outlet(tmp_path):
    assert alias_of("d", {"model": PipelineData("model")}) is None
    with dag_in(tmp_path):
        assert CommandOperator(task_id="a", command="true", outputs=["model"]).outlets == []


def test_the_outlet_is_named_after_the_dag(train):
    assert train.outlets == [AssetAlias("mlpipe:d")]
    assert alias_of("", {"model": PipelineData("model", asset="a")}) == AssetAlias("mlpipe")


@pytest.mark.parametrize(
    ("outlet", "ours"),
    [
        (AssetAlias("mlpipe:d"), True),
        (AssetAlias("mlpipe"), True),
        (AssetAlias("mlpipeline"), False),
        (AssetAlias("other:mlpipe"), False),
        (Asset("mlpipe:d"), False),
    ],
)
def test_other_outlets_are_the_users_own(outlet, ours):
    assert is_ours(outlet) is ours


def test_outlets_of_the_user_stay_and_their_list_is_left_alone(tmp_path):
    own = [Asset("mine")]
    with dag_in(tmp_path):
        task = CommandOperator(task_id="a", command="true", outputs=ANNOUNCED, outlets=own)
    assert task.outlets == [Asset("mine"), AssetAlias("mlpipe:d")]
    assert own == [Asset("mine")]


def test_a_first_output_is_announced_with_its_digest_and_where_it_comes_from(airflow, train):
    ended = airflow.run(train)
    ((asset, extra),) = ended.announced
    assert asset == "mlpipe://model"
    assert extra == {"step": "train", "output": "model", "digest": ended.result["model"]["digest"]}


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
    assert [extra["output"] for _, extra in airflow.run(task).announced] == ["model"]


def test_nothing_is_asked_where_nothing_is_to_be_announced(airflow, tmp_path, monkeypatch):
    with dag_in(tmp_path):
        task = CommandOperator(task_id="a", command="touch ${{ outputs.model }}", outputs=["model"])
    monkeypatch.setattr(airflow, "send", lambda message: pytest.fail(f"asked {message}"))
    assert airflow.run(task).announced == ()


def test_a_task_whose_outlet_was_taken_away_announces_nothing(airflow, train):
    context = airflow.context(train)
    announce(context, [Asset("mine")], None, {})
    assert list(context["outlet_events"]) == []
