from __future__ import annotations

import json
import threading

import pytest
from airflow.sdk import BaseOperator, Param
from airflow.sdk.exceptions import AirflowSkipException

from airflow_mlpipe.definitions import CommandStep, PythonScriptStep
from airflow_mlpipe.definitions.load import loads
from airflow_mlpipe.exceptions import CommandFailedError, DataError, ParameterError
from airflow_mlpipe.operators import CommandOperator, StepOperator
from airflow_mlpipe.operators.step import typed
from tests.dagfiles import dag_in, tasks

SAYS = "echo ${{ parameters.text }} > ${{ outputs.said }}"


@pytest.fixture
def dag(tmp_path):
    with dag_in(tmp_path, params={"text": "hello"}) as dag:
        yield dag


@pytest.fixture
def say(dag):
    return CommandOperator(task_id="say", command=SAYS, outputs=["said"], dag=dag)


def test_it_returns_each_output_and_leaves_it_under_its_name(airflow, say):
    result = airflow.run(say).result
    assert set(result) == {"said"}
    assert set(result["said"]) == {"uri", "digest", "size", "files", "kind"}
    assert airflow.xcoms["d", "r1", "say", -1] == {"return_value": result, "said": result["said"]}
    assert json.loads(json.dumps(result)) == result


def test_the_log_says_the_outcome_and_the_reason_in_one_line(airflow, say):
    assert airflow.run(say).said[-1] == "ran: it has not run before"
    assert airflow.run(say, "r2").said == ("reused: nothing it depends on has changed since run r1",)
    assert airflow.run(say, "r3", conf={"text": "bye"}).said[-1] == "ran: parameter text: hello -> bye"


def test_what_the_command_prints_is_in_the_log(airflow, dag):
    assert "good news" in airflow.run(CommandOperator(task_id="a", command="echo good news", dag=dag)).said


def test_rendered_templates_show_what_the_step_was_made_of_reused_or_not(airflow, say, dag):
    copy = CommandOperator(
        task_id="copy", command=["cp", "${{ inputs.x }}", "${{ outputs.y }}"], outputs=["y"],
        inputs={"x": say.output["said"]}, dag=dag,
    )  # fmt: skip
    for run in ("r1", "r2"):
        first, second = airflow.run(say, run).task, airflow.run(copy, run).task
        assert first.command == 'sh -c echo "${MLPIPE_PARAMETER_TEXT}" > "${MLPIPE_OUTPUT_SAID}"'
        assert second.command == "cp <input x> <output y>"
        assert second.inputs == {"x": first.outputs["said"]["uri"]}
        assert set(second.outputs) == {"y"}
        assert len(second.components["fingerprint"]) == 64
        assert first.components["parameters"] == {"text": "hello"}
    assert say.overwrite_rtif_after_execution


def test_values_are_shown_in_the_command_and_the_interpreter_by_its_name(airflow, dag, tmp_path):
    (tmp_path / "x.py").touch()
    step = PythonScriptStep(
        name="a", script_name="x.py", arguments=["--t=${{ parameters.text }}", "${{ run.run_after }}"]
    )
    operator = StepOperator(task_id="a", step=step, dag=dag)
    assert airflow.run(operator).task.command == "python x.py --t=hello 2025-03-01T12:00:00+00:00"


def test_the_definition_is_among_what_airflow_keeps_of_the_dag(dag, say):
    assert tasks(dag)["say"]["definition"] == say.definition
    assert {"definition", "command", "inputs", "outputs", "components"} <= set(say.template_fields)
    assert set(say.template_fields_renderers) <= set(say.template_fields)


def test_every_template_field_of_a_bare_step_is_there(dag):
    operator = StepOperator(task_id="a", step=CommandStep(name="a", command="true"), dag=dag)
    assert [name for name in StepOperator.template_fields if not hasattr(operator, name)] == []
    assert set(tasks(dag)) == {"a"}


def test_a_reused_step_knows_who_made_its_outputs(airflow, say):
    airflow.run(say)
    assert airflow.run(say, "r2").task.made_by == {"pipeline": "d", "run": "r1", "step": "say"}


def test_a_step_without_outputs_returns_an_empty_mapping(airflow, dag):
    assert airflow.run(CommandOperator(task_id="a", command="true", dag=dag)).result == {}


def test_a_failed_step_fails_its_task_with_what_it_said_last(airflow, dag):
    operator = CommandOperator(task_id="a", command="echo no disk; exit 7", dag=dag)
    with pytest.raises(CommandFailedError, match=r"exit code 7[\s\S]*no disk"):
        airflow.run(operator)


def test_the_retry_of_a_failed_step_runs_it_again(airflow, dag, tmp_path):
    operator = CommandOperator(
        task_id="a",
        command=f"test -e {tmp_path}/there && touch ${{{{ outputs.x }}}}",
        outputs=["x"],
        retries=1,
        dag=dag,
    )
    with pytest.raises(CommandFailedError):
        airflow.run(operator, try_number=1)
    (tmp_path / "there").touch()
    assert airflow.run(operator, try_number=2).outcome == "ran"


def test_secrets_reach_the_command_alone(airflow, dag, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", "postgres://me:secret-of-steps@db/x")
    operator = CommandOperator(
        task_id="a",
        command="echo $PASSWORD | wc -c > ${{ outputs.length }}; echo it is $PASSWORD",
        environment={"secrets": {"PASSWORD": "connection:warehouse.password"}},
        outputs=["length"],
        dag=dag,
    )
    ended = airflow.run(operator)
    assert ended.result["length"]["size"] == len("16\n")
    shown = str([ended.said, ended.task.components, ended.task.command, airflow.xcoms])
    assert "secret-of-steps" not in shown
    assert "PASSWORD" in str(ended.task.components)


def test_a_new_value_of_a_secret_does_not_run_the_step_again(airflow, dag, monkeypatch):
    operator = CommandOperator(
        task_id="a", command="true", environment={"secrets": {"KEY": "variable:licence"}}, dag=dag
    )
    outcomes = []
    for run in ("r1", "r2"):
        monkeypatch.setenv("AIRFLOW_VAR_LICENCE", f"licence-of-{run}")
        outcomes.append(airflow.run(operator, run).outcome)
    assert outcomes == ["ran", "reused"]


def test_a_secret_that_airflow_has_not_fails_before_anything_runs(airflow, dag, tmp_path):
    operator = CommandOperator(
        task_id="a", command=f"touch {tmp_path}/began", environment={"secrets": {"KEY": "variable:none"}}, dag=dag
    )
    with pytest.raises(DataError, match="Airflow has no variable 'none': create it"):
        airflow.run(operator)
    assert not (tmp_path / "began").exists()


def test_a_reused_step_asks_for_no_secret(airflow, dag, monkeypatch):
    operator = CommandOperator(task_id="a", command="true", environment={"secrets": {"KEY": "variable:gone"}}, dag=dag)
    monkeypatch.setenv("AIRFLOW_VAR_GONE", "soon-to-be-gone")
    airflow.run(operator)
    monkeypatch.delenv("AIRFLOW_VAR_GONE")
    assert airflow.run(operator, "r2").outcome == "reused"


def test_a_kill_ends_the_command_that_runs(airflow, dag, tmp_path):
    operator = CommandOperator(task_id="a", command=f"touch {tmp_path}/began; sleep 60", dag=dag)
    context, errors = airflow.context(operator), []
    executed = airflow.rendered(operator, context)

    def execute():
        try:
            executed.execute(context)
        except CommandFailedError as error:
            errors.append(error)

    thread = threading.Thread(target=execute)
    thread.start()
    waited = threading.Event()
    while not (tmp_path / "began").exists():
        assert thread.is_alive()
        waited.wait(0.02)
    executed.on_kill()
    thread.join(20)
    assert len(errors) == 1


def test_what_was_killed_before_it_started_does_not_begin(airflow, dag, tmp_path):
    operator = CommandOperator(task_id="a", command=f"touch {tmp_path}/began", dag=dag)
    context = airflow.context(operator)
    executed = airflow.rendered(operator, context)
    executed.on_kill()
    with pytest.raises(CommandFailedError, match="stopped before its command began"):
        executed.execute(context)
    assert not (tmp_path / "began").exists()


@pytest.mark.parametrize(
    ("value", "declared", "expected"),
    [
        (1, "number", 1.0),
        (1, ["null", "number"], 1.0),
        (1.5, "number", 1.5),
        (3.0, "integer", 3),
        (3.0, ["integer", "null"], 3),
        (3, "integer", 3),
        (3.5, "integer", 3.5),
        (float("inf"), "integer", float("inf")),
        (1, None, 1),
        (1, "string", 1),
        (True, "number", True),
        (True, "integer", True),
        ("1", "number", "1"),
        (None, ["null", "number"], None),
    ],
)
def test_rule_2_one_number_is_one_value_of_the_type_its_param_declares(value, declared, expected):
    found = typed(value, declared)
    assert (found, type(found)) == (expected, type(expected))


def test_rule_2_the_form_sends_1_for_a_number_that_is_1_0(airflow, tmp_path):
    with dag_in(tmp_path, params={"c": Param(1.0, type="number"), "n": Param(None, type=["null", "integer"])}):
        operator = CommandOperator(task_id="a", command="echo ${{ parameters.c }} ${{ parameters.n }}")
    sent = [{}, {"c": 1}, {"c": 1, "n": 2}, {"n": 2.0}]
    outcomes = [airflow.run(operator, f"r{number}", conf=conf).outcome for number, conf in enumerate(sent)]
    assert outcomes == ["ran", "reused", "ran", "reused"]


def test_a_param_that_is_no_single_value_is_refused_only_where_it_is_used(airflow, tmp_path):
    with dag_in(tmp_path, params={"columns": ["a", "b"], "text": "x"}):
        uses = CommandOperator(task_id="uses", command="echo ${{ parameters.columns }}")
        not_uses = CommandOperator(task_id="not_uses", command="echo ${{ parameters.text }}")
    assert airflow.run(not_uses).outcome == "ran"
    with pytest.raises(ParameterError, match=r"the param 'columns' is \['a', 'b'\]; a step takes texts, numbers"):
        airflow.run(uses)


def test_own_parameters_win_over_params_of_the_dag(airflow, tmp_path):
    with dag_in(tmp_path, params={"text": "of the dag"}):
        operator = CommandOperator(
            task_id="a", command="echo ${{ parameters.text }}", parameters={"text": "of the operator"}
        )
    assert "of the operator" in airflow.run(operator).said


def test_params_of_the_task_win_over_those_of_the_dag(airflow, tmp_path):
    with dag_in(tmp_path, params={"text": "of the dag"}):
        operator = CommandOperator(task_id="a", command="echo ${{ parameters.text }}", params={"text": "of the task"})
    assert "of the task" in airflow.run(operator).said


def test_it_keeps_airflows_defaults_and_skips_nobody_by_itself(say):
    assert say.trigger_rule == BaseOperator(task_id="plain").trigger_rule
    assert not say.inherits_from_skipmixin


def test_a_planned_step_whose_upstream_was_skipped_without_output_skips_itself(airflow, tmp_path):
    pipeline = loads(
        "name: p\nsteps:\n  a: {kind: command, command: 'true', outputs: [x]}\n"
        "  b: {kind: command, command: 'true', inputs: {x: '${{ steps.a.outputs.x }}'}}\n",
        tmp_path,
    )
    with dag_in(tmp_path, "p"):
        operator = StepOperator(task_id="b", step=pipeline.step("b"), pipeline=pipeline, folder=tmp_path)
    with pytest.raises(AirflowSkipException, match="not run: a step it takes data from was skipped"):
        airflow.run(operator)


def test_the_folder_of_the_operator_begins_at_that_of_the_dag(airflow, tmp_path):
    (tmp_path / "team").mkdir()
    (tmp_path / "team" / "raw.txt").write_text("of the team")
    with dag_in(tmp_path):
        operator = CommandOperator(task_id="a", command="cat ${{ inputs.x }}", inputs={"x": "raw.txt"}, folder="team")
    assert "of the team" in airflow.run(operator).said


def test_the_workspace_of_the_operator_gives_its_environment(airflow, tmp_path):
    (tmp_path / "team").mkdir()
    (tmp_path / "team" / "mlpipe.yaml").write_text("environments: {ml: {variables: {WHO: team}}}\n")
    with dag_in(tmp_path):
        operator = CommandOperator(
            task_id="a", command="echo $WHO", environment="ml", workspace=tmp_path / "team" / "mlpipe.yaml"
        )
    assert "team" in airflow.run(operator).said
