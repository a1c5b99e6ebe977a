from __future__ import annotations

from datetime import timedelta

import pytest
from airflow.sdk.exceptions import AirflowTaskTimeout
from airflow.sdk.execution_time.timeout import timeout

from airflow_mlpipe.operators import CommandOperator
from airflow_mlpipe.operators.timeout import saying_how_long
from tests.dagfiles import dag_in


def test_a_step_that_took_too_long_says_so_with_its_name_and_its_timeout(airflow, tmp_path):
    limit = timedelta(seconds=1)
    with dag_in(tmp_path) as dag:
        task = CommandOperator(task_id="sleepy", command="sleep 60", execution_timeout=limit, dag=dag)
    with (
        pytest.raises(
            AirflowTaskTimeout, match=r"^step sleepy was stopped: it ran for longer than its timeout of 0:00:01"
        ),
        timeout(1),
    ):
        airflow.run(task)


def test_a_timeout_of_others_stays_as_it_is():
    theirs = AirflowTaskTimeout("theirs")
    with pytest.raises(AirflowTaskTimeout, match="theirs"), saying_how_long("a", None):
        raise theirs
