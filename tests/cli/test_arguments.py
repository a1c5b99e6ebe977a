from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from airflow_mlpipe.cli.arguments import Moment, read_date, read_parameters, read_regenerate
from airflow_mlpipe.definitions import CommandStep, Pipeline
from airflow_mlpipe.exceptions import ParameterError

PIPELINE = Pipeline(
    name="p",
    parameters={"rate": {"type": "number", "default": 1.0, "minimum": 0}, "word": "a", "flag": False},
    steps=[CommandStep(name="one", command="true"), CommandStep(name="two", command="true")],
)


def test_texts_become_typed_values_and_the_rest_are_defaults():
    assert read_parameters(PIPELINE, ["rate=2", "flag=true"]) == {"rate": 2.0, "word": "a", "flag": True}


def test_a_value_may_hold_an_equals_sign_or_be_empty():
    assert read_parameters(PIPELINE, ["word=a=b"])["word"] == "a=b"
    assert read_parameters(PIPELINE, ["word="])["word"] == ""


def test_everything_that_is_wrong_with_parameters_comes_at_once():
    with pytest.raises(ParameterError) as raised:
        read_parameters(PIPELINE, ["rat=2", "rate=-1", "word", "flag=maybe"])
    message = str(raised.value)
    assert "no parameter rat. Did you mean rate?" in message
    assert "rate must be at least 0" in message
    assert "name=value, given: 'word'" in message
    assert "flag must be true or false" in message


def test_a_parameter_without_default_must_be_given():
    pipeline = Pipeline(name="p", parameters={"x": {"type": "integer"}}, steps=PIPELINE.steps)
    with pytest.raises(ParameterError, match="x has no default"):
        read_parameters(pipeline, [])


def test_steps_to_regenerate_come_in_the_order_of_the_definition():
    assert read_regenerate(PIPELINE, ["two", "one"]) == ("one", "two")
    assert read_regenerate(PIPELINE, ["one,two"]) == ("one", "two")
    assert read_regenerate(PIPELINE, ["all"]) == ("one", "two")
    assert read_regenerate(PIPELINE, ["none"]) == ()


def test_a_step_to_regenerate_that_is_not_there_is_refused_with_the_nearest():
    with pytest.raises(ParameterError, match=r"^--regenerate: 'twoo' is no step of p\. Did you mean two\?$"):
        read_regenerate(PIPELINE, ["twoo"])


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2025-01-31", datetime(2025, 1, 31, tzinfo=timezone.utc)),
        ("2025-01-31T06:30", datetime(2025, 1, 31, 6, 30, tzinfo=timezone.utc)),
        ("2025-01-31T06:30:00Z", datetime(2025, 1, 31, 6, 30, tzinfo=timezone.utc)),
        ("2025-01-31T06:30:00+02:00", datetime(2025, 1, 31, 4, 30, tzinfo=timezone.utc)),
    ],
)
def test_a_date_is_utc_unless_it_says_otherwise(text, moment):
    assert read_date(text) == moment
    assert read_date(text).utcoffset() == timedelta(0)


def test_a_date_that_is_none_is_refused():
    with pytest.raises(ParameterError, match="2025-01-31"):
        read_date("yesterday")


def test_a_run_is_called_as_airflow_calls_one_triggered_by_hand():
    moment = Moment.now()
    assert moment.run_id == f"manual__{moment.run_after.isoformat()}"
    assert moment.logical_date == moment.run_after


def test_a_run_has_its_logical_date_and_no_interval_of_its_own():
    date = read_date("2025-01-31")
    values = Moment.now(date).values({"rate": 1.0})
    assert values.parameters == {"rate": 1.0}
    assert values.run["logical_date"] == values.run["data_interval_start"] == "2025-01-31T00:00:00+00:00"
    assert values.run["run_after"] != values.run["logical_date"]
