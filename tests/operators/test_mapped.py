from __future__ import annotations

import pytest
from airflow.sdk import task

from airflow_mlpipe.exceptions import DefinitionError, ParameterError
from airflow_mlpipe.operators import CommandOperator, DataTransferOperator, PythonScriptOperator
from airflow_mlpipe.operators.mapped import data_names
from tests.dagfiles import dag_in, parse, tasks

WRITES = "echo ${{ parameters.x }} > ${{ outputs.y }}"


@pytest.fixture
def dag(tmp_path):
    with dag_in(tmp_path, params={"text": "hello"}) as dag:
        yield dag


def given():
    """Return what an ordinary task of that name will have returned."""

    @task(task_id="given")
    def values():
        return []

    return values()


def leaves(airflow, value):
    airflow.xcoms["d", "r1", "given", -1] = {"return_value": value}


def wrong(make):
    with pytest.raises(DefinitionError) as error:
        make()
    return [problem.where for problem in error.value.problems]


@pytest.mark.usefixtures("dag")
def test_each_map_index_is_a_step_of_its_own(airflow):
    mapped = CommandOperator.partial(task_id="a", command=WRITES, outputs=["y"]).expand(
        parameters=[{"x": "one"}, {"x": "two"}]
    )
    first = [airflow.run(mapped, map_index=index) for index in (0, 1)]
    second = [airflow.run(mapped, "r2", map_index=index) for index in (0, 1)]
    assert [ended.outcome for ended in first + second] == ["ran", "ran", "reused", "reused"]
    assert [ended.task.made_by["step"] for ended in second] == ["a[0]", "a[1]"]
    assert first[0].result != first[1].result


def test_a_new_item_in_front_runs_alone(airflow, tmp_path):
    def run(number, *words):
        with dag_in(tmp_path):
            mapped = CommandOperator.partial(task_id="a", command=WRITES, outputs=["y"]).expand(
                parameters=[{"x": word} for word in words]
            )
        return [airflow.run(mapped, f"r{number}", map_index=index).outcome for index in range(len(words))]

    assert run(1, "one", "two") == ["ran", "ran"]
    assert run(2, "zero", "one", "two") == ["ran", "reused", "reused"]


@pytest.mark.usefixtures("dag")
def test_what_is_written_in_the_dag_is_rendered_for_each_step(airflow):
    mapped = CommandOperator.partial(task_id="a").expand(command=["echo {{ ds }}", ["echo", "${{ parameters.text }}"]])
    assert "2025-03-01" in airflow.run(mapped, map_index=0).said
    assert "hello" in airflow.run(mapped, map_index=1).said


@pytest.mark.usefixtures("dag")
@pytest.mark.parametrize("how", ["expand", "expand_kwargs"])
def test_what_other_tasks_give_is_data_that_nobody_renders(airflow, how):
    if how == "expand":
        mapped = CommandOperator.partial(task_id="a", command="echo ${{ parameters.x }} {{ ds }}").expand(
            parameters=given()
        )
    else:
        mapped = CommandOperator.partial(task_id="a", command="echo ${{ parameters.x }} {{ ds }}").expand_kwargs(
            given()
        )
    values = [{"x": "{{ ds }}"}, {"x": "${{ parameters.text }}"}]
    leaves(airflow, values if how == "expand" else [{"parameters": value} for value in values])
    assert "{{ ds }} 2025-03-01" in airflow.run(mapped, map_index=0).said
    with pytest.raises(ParameterError, match="a value given at run time holds an expression"):
        airflow.run(mapped, map_index=1)


@pytest.mark.usefixtures("dag")
def test_outputs_of_a_mapped_operator_may_each_be_an_input_of_another(airflow, tmp_path):
    operator = DataTransferOperator.partial(task_id="a", destination=f"{tmp_path}/copy").expand(source=given())
    (tmp_path / "raw").write_text("raw")
    made = airflow.run(
        CommandOperator(task_id="b", command="echo x > ${{ outputs.y }}", outputs=["y"], dag=operator.dag)
    ).result["y"]
    leaves(airflow, [f"{tmp_path}/raw", made])
    assert airflow.run(operator, map_index=0).task.inputs == {"data": f"file://{tmp_path}/raw"}
    assert airflow.run(operator, map_index=1).task.inputs == {"data": made["uri"]}


@pytest.mark.usefixtures("dag")
def test_inputs_as_a_whole_may_come_from_a_task(airflow, tmp_path):
    (tmp_path / "raw").write_text("raw words")
    mapped = CommandOperator.partial(task_id="a", command="cat ${{ inputs.x }}").expand(inputs=given())
    leaves(airflow, [{"x": "raw"}, {"x": {"path": f"{tmp_path}/raw"}}])
    assert "raw words" in airflow.run(mapped, map_index=0).said
    assert airflow.run(mapped, map_index=1).task.inputs == {"x": f"file://{tmp_path}/raw"}


@pytest.mark.usefixtures("dag")
@pytest.mark.parametrize(
    ("make", "where"),
    [
        (lambda: CommandOperator.partial(task_id="a", outputs=["a b"]).expand(command=["true"]), ["outputs.a b"]),
        (
            lambda: CommandOperator.partial(task_id="a", command="true").expand(parameters=[{"x": 1}, {"x": None}]),
            ["parameters.x"],
        ),
        (
            lambda: CommandOperator.partial(task_id="a", command="true").expand(
                outputs=[["a b"], [], ["c d"]], parameters=[{"x": None}, {"y": []}]
            ),
            ["outputs.a b", "outputs.c d", "parameters.x", "parameters.y"],
        ),
        (
            lambda: CommandOperator.partial(task_id="a").expand_kwargs([{"command": "true"}, {"command": " "}]),
            ["command"],
        ),
        (lambda: CommandOperator.partial(task_id="a").expand(command=["${{ parameters.no }}"]), ["command"]),
        (lambda: CommandOperator.partial(task_id="a", outputs=[3]).expand(command=given()), ["outputs[0]"]),
        (lambda: CommandOperator.partial(task_id="a", compute=given()).expand(command=["true"]), ["compute"]),
        (
            lambda: PythonScriptOperator.partial(task_id="a", code="no", arguments=["${{ inputs.x }}"]).expand(
                script_name=given()
            ),
            ["code"],
        ),
    ],
)
def test_what_is_wrong_with_any_step_that_is_known_is_said_at_once(make, where):
    assert [found.partition(").")[2] for found in wrong(make)] == where


@pytest.mark.usefixtures("dag")
def test_one_fault_of_many_steps_is_said_once():
    assert len(wrong(lambda: CommandOperator.partial(task_id="a", outputs=[3]).expand(command=["true", "false"]))) == 1


@pytest.mark.usefixtures("dag")
@pytest.mark.parametrize(
    "make",
    [
        lambda: CommandOperator.partial(
            task_id="a", command="${{ inputs.x }} ${{ outputs.y }} ${{ parameters.z }}"
        ).expand(inputs=given(), outputs=given(), parameters=given()),
        lambda: CommandOperator.partial(task_id="a", command="${{ inputs.x }}").expand_kwargs(given()),
        lambda: CommandOperator.partial(task_id="a", command="true").expand(outputs=[]),
        lambda: DataTransferOperator.partial(task_id="a", destination="y").expand(source=given()),
        lambda: PythonScriptOperator.partial(task_id="a").expand(script_name=given(), arguments=given()),
    ],
)
def test_what_other_tasks_will_give_is_not_judged(dag, make):
    assert make() is dag.get_task("a")
    assert set(tasks(dag)) >= {"a"}


def test_files_of_each_step_are_looked_for_when_the_dag_is_parsed(tmp_path):
    (tmp_path / "a.py").touch()
    text = (
        "from airflow.sdk import DAG, task\nfrom airflow_mlpipe.operators import *\n"
        "@task\ndef names(): ...\nwith DAG('d'):\n"
        "    PythonScriptOperator.partial(task_id='s').expand(script_name=NAMES)\n"
    )
    assert parse(tmp_path / "good.py", text.replace("NAMES", "['a.py']")).errors == {}
    assert parse(tmp_path / "later.py", text.replace("NAMES", "names()")).errors == {}
    (error,) = parse(tmp_path / "bad.py", text.replace("NAMES", "['a.py', 'b.py', 'c.py']")).errors.values()
    assert "2 problems:" in error
    assert f"script_name: is not there: {tmp_path}/b.py" in error


def test_a_task_is_not_held_up_by_what_is_wrong_with_others(tmp_path, monkeypatch):
    monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", "d")
    with dag_in(tmp_path) as dag:
        CommandOperator.partial(task_id="a").expand(command=["true", " "])
    assert dag.task_ids == ["a"]


def test_defaults_of_the_dag_count_for_each_step(tmp_path):
    with dag_in(tmp_path, default_args={"outputs": ["y"]}) as dag:
        CommandOperator.partial(task_id="a").expand(command=["touch ${{ outputs.y }}"])
    assert dag.task_ids == ["a"]


@pytest.mark.usefixtures("dag")
def test_airflow_refuses_arguments_that_no_operator_has():
    with pytest.raises(TypeError, match="inptus"):
        CommandOperator.partial(task_id="a", inptus={})


@pytest.mark.usefixtures("dag")
@pytest.mark.filterwarnings("error")
def test_airflow_does_not_complain_that_nobody_expands_it():
    CommandOperator.partial(task_id="a", command="true").expand(parameters=[{"x": 1}])


def test_a_mapped_operator_keeps_everything_that_makes_a_version_of_the_dag(dag):
    CommandOperator.partial(task_id="a", command="true").expand(parameters=[{"x": 1}])
    kept = tasks(dag)["a"]
    assert kept["partial_kwargs"]["command"] == "true"
    assert "1" in str(kept["expand_input"])


@pytest.mark.usefixtures("dag")
def test_data_is_what_other_tasks_give():
    partial = {"task_id": "a", "command": "true"}
    assert data_names(CommandOperator.partial(**partial).expand(parameters=given(), outputs=[["x"]])) == {"parameters"}
    whole = CommandOperator.partial(**{**partial, "task_id": "b"}).expand_kwargs(given())
    assert {"inputs", "outputs", "parameters", "environment"} <= data_names(whole)
    assert "command" not in data_names(whole)
    written = CommandOperator.partial(**{**partial, "task_id": "c"}).expand_kwargs([{"parameters": {"x": 1}}])
    assert data_names(written) == set()
    assert data_names(CommandOperator(**{**partial, "task_id": "e"})) == set()
