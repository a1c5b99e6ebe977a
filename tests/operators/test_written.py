from __future__ import annotations

import sys
from datetime import timedelta

import pytest
from airflow.sdk import DAG, Param, TaskGroup, task, task_group

from airflow_mlpipe.definitions import DataReference, Environment, PipelineData
from airflow_mlpipe.exceptions import DefinitionError, ParameterError
from airflow_mlpipe.operators import CommandOperator, DataTransferOperator, PythonScriptOperator
from tests.dagfiles import dag_in, serialized, tasks

ECHO = "echo ${{ parameters.text }} > ${{ outputs.said }}"


@pytest.fixture
def dag(tmp_path):
    with dag_in(tmp_path, params={"text": "hello", "n": Param(3, type="integer")}) as dag:
        yield dag


def refused(make):
    with pytest.raises(DefinitionError) as error:
        make()
    return [str(problem) for problem in error.value.problems]


def given(value):
    """Return what an ordinary task of that name will have returned."""
    return task(lambda: value, task_id="given")()


def leaves(airflow, value, task_id="given", run="r1"):
    airflow.xcoms["d", run, task_id, -1] = {"return_value": value}


@pytest.mark.usefixtures("dag")
def test_all_fields_that_are_wrong_come_at_once_and_name_the_operator():
    said = refused(
        lambda: CommandOperator(
            task_id="a",
            command=" ",
            inputs={"raw": {"pth": "x"}},
            outputs=["model", "model"],
            parameters={"c": None},
            environment={"variables": {"MLPIPE_X": 1}},
            allow_reuse="no",
        )
    )
    assert [line.partition(": ")[0] for line in said] == [
        f"CommandOperator(task_id='a').{field}"
        for field in (
            "allow_reuse",
            "environment.variables.MLPIPE_X",
            "inputs.raw",
            "inputs.raw.pth",
            "outputs[1]",
            "parameters.c",
        )
    ]
    assert "there is no such field (given: pth). Did you mean path?" in said[3]


@pytest.mark.usefixtures("dag")
@pytest.mark.parametrize("text", ["${{ inputs.raw }}", "${{ outputs.modle }}", "${{ nonsense }}", "${{ inputs.x"])
def test_an_expression_that_means_nothing_is_refused(text):
    (said,) = refused(lambda: CommandOperator(task_id="a", command=["echo", text], outputs=["model"]))
    assert said.startswith("CommandOperator(task_id='a').command[1]: ")


@pytest.mark.usefixtures("dag")
def test_an_argument_that_no_operator_has_is_refused_by_airflow():
    with pytest.raises(TypeError, match="inptus"):
        CommandOperator(task_id="a", command="true", inptus={})


@pytest.mark.usefixtures("dag")
def test_a_task_id_that_can_be_no_step_is_refused():
    assert refused(lambda: CommandOperator(task_id="été", command="true")) == [
        (
            "CommandOperator(task_id='été').name: a name consists of ASCII letters, digits, '_', '-' and '.', and begins "
            "with a letter, a digit or '_' (given: été)"
        )
    ]


@pytest.mark.usefixtures("dag")
@pytest.mark.parametrize("field", ["compute", "source_directory", "allow_reuse", "script_name", "code"])
def test_a_field_that_is_not_rendered_cannot_be_given_by_another_task(field):
    fields = {"script_name": "x.py", field: given("x")}
    assert refused(lambda: PythonScriptOperator(task_id="a", **fields)) == [
        (
            f"PythonScriptOperator(task_id='a').{field}: cannot be given by another task. Only these can, and hold Airflow "
            "templates: arguments, inputs, outputs, parameters, environment"
        )
    ]


@pytest.mark.usefixtures("dag")
def test_names_must_be_known_and_what_they_stand_for_need_not():
    said = refused(lambda: CommandOperator(task_id="a", command="true", inputs=given({}), outputs=given([])))
    assert [line.partition(".")[0] for line in said] == ["CommandOperator(task_id='a')"] * 2
    assert [line.partition(": ")[2].partition(".")[0] for line in said] == [
        "must be a mapping, so that its names are known"
    ] * 2


def test_an_output_of_another_operator_gives_data_and_order(dag, airflow):
    first = CommandOperator(task_id="first", command=ECHO, outputs=["said"])
    second = CommandOperator(
        task_id="second",
        command="cat ${{ inputs.words }} ${{ inputs.words }} > ${{ outputs.twice }}",
        inputs={"words": first.output["said"]},
        outputs=["twice"],
    )
    assert second.upstream_task_ids == {"first"}
    made = airflow.run(first)
    ended = airflow.run(second)
    assert ended.task.inputs == {"words": made.result["said"]["uri"]}
    assert ended.result["twice"]["size"] == len("hello\nhello\n")
    assert dag.get_task("second").inputs == {"words": first.output["said"]}


def test_every_rendered_field_makes_the_dependency(dag):
    one = given("x")
    operators = [
        CommandOperator(task_id="a", command=one),
        CommandOperator(task_id="b", command=["echo", one]),
        CommandOperator(task_id="c", command="true", inputs={"x": one}),
        CommandOperator(task_id="e", command="true", inputs={"x": {"path": one}}),
        CommandOperator(task_id="f", command="true", parameters={"x": one}),
        CommandOperator(task_id="g", command="true", parameters=one),
        CommandOperator(task_id="h", command="true", environment={"variables": {"X": one}}),
        CommandOperator(task_id="i", command="true", environment=one),
        CommandOperator(task_id="j", command="true", outputs={"x": {"destination": one}}),
        PythonScriptOperator(task_id="k", script_name="x.py", arguments=one),
        DataTransferOperator(task_id="l", source=one, destination="x"),
        DataTransferOperator(task_id="m", source="x", destination={"path": one}),
    ]
    assert [operator.task_id for operator in operators if operator.upstream_task_ids != {"given"}] == []
    assert set(dag.task_dict) == {"given", *(operator.task_id for operator in operators)}


@pytest.mark.parametrize("value", ["raw.txt", "file://{folder}/raw.txt", "{folder}/raw.txt"])
def test_an_input_may_be_the_path_or_url_that_a_task_returned(dag, airflow, tmp_path, value):
    (tmp_path / "raw.txt").write_text("raw")
    operator = CommandOperator(
        task_id="a", command="cp ${{ inputs.x }} ${{ outputs.y }}", inputs={"x": given("")}, outputs=["y"]
    )
    leaves(airflow, value.replace("{folder}", str(tmp_path)))
    assert airflow.run(operator).task.inputs == {"x": f"file://{tmp_path}/raw.txt"}
    assert dag.get_task("a").upstream_task_ids == {"given"}


@pytest.mark.usefixtures("dag")
def test_what_tasks_return_may_stand_for_parameters_and_parts_of_the_command(airflow):
    values = given("")
    whole = CommandOperator(task_id="a", command=["sh", "-c", "echo $0", values], outputs=[])
    named = CommandOperator(task_id="b", command="echo ${{ parameters.x }} ${{ parameters.text }}", parameters=values)
    leaves(airflow, "word")
    assert airflow.run(whole).task.command == "sh -c echo $0 word"
    leaves(airflow, {"x": 1.5})
    assert "1.5 hello" in airflow.run(named).said


@pytest.mark.usefixtures("dag")
@pytest.mark.parametrize(
    "fields",
    [
        {"command": ["echo", "{{ ds }}", "${{ parameters.n }}", "{{ params.text }}"]},
        {"command": "echo {{ ds }} ${{ parameters.n }} {{ params.text }}"},
        {"command": "echo $X ${{ parameters.n }} ${{ parameters.y }}", "parameters": {"y": "{{ params.text }}"},
         "environment": {"variables": {"X": "{{ ds }}"}}},
        {"command": "echo $X ${{ parameters.n }} hello", "environment": Environment(variables={"X": "{{ ds }}"})},
    ],
)  # fmt: skip
def test_airflow_templates_are_rendered_around_our_expressions(airflow, fields):
    assert "2025-03-01 3 hello" in airflow.run(CommandOperator(task_id="a", **fields)).said


@pytest.mark.usefixtures("dag")
@pytest.mark.parametrize("reference", [{"path": "{{ ds }}.txt"}, "{{ ds }}.txt", DataReference(path="{{ ds }}.txt")])
@pytest.mark.parametrize(
    "data", [{"copy": {"destination": "{{ ds }}/x"}}, [PipelineData("copy", destination="{{ ds }}/x")]]
)
def test_templates_in_places_of_data_are_rendered_in_mappings_and_objects_alike(airflow, tmp_path, reference, data):
    (tmp_path / "2025-03-01.txt").write_text("that day")
    operator = CommandOperator(
        task_id="a", command="cp ${{ inputs.x }} ${{ outputs.copy }}", inputs={"x": reference}, outputs=data
    )
    airflow.run(operator)
    assert (tmp_path / "2025-03-01" / "x").read_text() == "that day"


@pytest.mark.usefixtures("dag")
def test_objects_may_stand_among_the_arguments(airflow, tmp_path):
    (tmp_path / "2025-03-01.txt").write_text("that day")
    (tmp_path / "copy.py").write_text("import shutil, sys; shutil.copy(*sys.argv[1:])")
    raw, copied = DataReference(name="raw", path="{{ ds }}.txt"), PipelineData("copied")
    operator = PythonScriptOperator(
        task_id="a", script_name="copy.py", arguments=[raw, copied], inputs=[raw], outputs=[copied]
    )
    assert airflow.run(operator).result["copied"]["size"] == len("that day")


@pytest.mark.usefixtures("dag")
def test_what_is_rendered_is_checked_again_and_names_the_operator(airflow):
    operator = CommandOperator(task_id="a", command="true", parameters={"x": given(None)})
    leaves(airflow, [1, 2])
    with pytest.raises(DefinitionError, match=r"CommandOperator\(task_id='a'\)\.parameters\.x: must be a text"):
        airflow.run(operator)


@pytest.mark.usefixtures("dag")
@pytest.mark.parametrize("template", ["{{ params.text }}", "a {{ params.text }} b"])
def test_a_template_that_yields_an_expression_is_refused(airflow, template):
    operator = CommandOperator(task_id="a", command=["echo", template])
    with pytest.raises(ParameterError, match="a value given at run time holds an expression"):
        airflow.run(operator, conf={"text": "${{ parameters.n }}"})


@pytest.mark.usefixtures("dag")
@pytest.mark.parametrize("value", ["${{ parameters.n }}", ["${{ parameters.n }}"], {"x": "${{ parameters.n }}"}])
def test_an_expression_that_a_task_returns_is_refused(airflow, value):
    operator = CommandOperator(task_id="a", command="true", parameters={"x": given(None)})
    leaves(airflow, value)
    with pytest.raises(ParameterError, match="a value given at run time holds an expression"):
        airflow.run(operator)


@pytest.mark.usefixtures("dag")
def test_a_template_that_a_task_returns_is_not_rendered(airflow):
    operator = CommandOperator(task_id="a", command=["echo", given(None)])
    leaves(airflow, "{{ ds }}")
    assert "{{ ds }}" in airflow.run(operator).said


@pytest.mark.usefixtures("dag")
@pytest.mark.parametrize(
    "fields",
    [
        {"command": "login {{ conn.warehouse.password }}"},
        {"command": "true", "parameters": {"password": "{{ conn.warehouse.password }}"}},
        {"command": "true", "environment": {"variables": {"PASSWORD": "{{ conn.warehouse.password }}"}}},
    ],
)
def test_a_secret_in_a_template_is_refused_and_not_told(airflow, monkeypatch, fields):
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", "postgres://me:not-for-records@db/x")
    with pytest.raises(ParameterError, match=r"what Airflow keeps secret.*environment=\{'secrets'") as error:
        airflow.run(CommandOperator(task_id="a", **fields))
    assert "not-for-records" not in str(error.value)


@pytest.mark.usefixtures("dag")
def test_a_param_by_the_form_is_a_parameter_by_its_type(airflow):
    operator = CommandOperator(task_id="a", command="echo ${{ parameters.n }} > ${{ outputs.x }}", outputs=["x"])
    assert airflow.run(operator).outcome == "ran"
    assert airflow.run(operator, "r2", conf={"n": 3.0}).outcome == "reused"
    assert airflow.run(operator, "r3", conf={"n": 4}).outcome == "ran"


def test_executing_leaves_the_operator_of_the_dag_as_it_was(dag, airflow):
    operator = CommandOperator(task_id="a", command="echo {{ ds }} > ${{ outputs.x }}", outputs=["x"])
    before = tasks(dag)["a"]
    airflow.run(operator)
    assert tasks(dag)["a"] == before
    assert airflow.run(operator, "r2").outcome == "reused"


def test_every_template_field_is_there_and_airflow_serializes_the_dag(dag):
    operators = [
        CommandOperator(task_id="a", command="true", outputs=[PipelineData("x")], environment=Environment()),
        PythonScriptOperator(task_id="b", script_name="x.py", inputs={"x": DataReference(path="x")}),
        DataTransferOperator(task_id="c", source=given("x"), destination="x"),
    ]
    for operator in operators:
        assert [name for name in operator.template_fields if not hasattr(operator, name)] == []
        assert set(operator.rendered) <= set(operator.template_fields)
    assert set(tasks(dag)) == {"a", "b", "c", "given"}
    assert serialized(dag) == serialized(dag)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("command", "false"),
        ("source_directory", "other"),
        ("inputs", {"x": "other"}),
        ("outputs", ["other"]),
        ("parameters", {"x": 1}),
        ("environment", {"variables": {"X": "other"}}),
        ("compute", "other"),
        ("allow_reuse", False),
    ],
)
def test_an_edit_of_any_field_makes_another_definition(tmp_path, field, value):
    def definition(**fields):
        with dag_in(tmp_path) as dag:
            CommandOperator(**{"task_id": "a", "command": "true", **fields})
        return tasks(dag)["a"]["definition"]

    assert definition() == definition()
    assert definition() != definition(**{field: value})


@pytest.mark.parametrize(
    "airflows_own",
    [
        {"task_id": "renamed"},
        {"retries": 3, "retry_delay": timedelta(seconds=5)},
        {"execution_timeout": timedelta(hours=1)},
        {"pool": "small", "pool_slots": 2, "priority_weight": 9, "queue": "gpu"},
        {"trigger_rule": "all_done"},
        {"doc_md": "Trains.", "task_display_name": "Training", "owner": "me"},
        {"max_active_tis_per_dag": 1, "executor_config": {"x": 1}},
        {"on_success_callback": print, "on_failure_callback": print},
        {"do_xcom_push": False},
    ],
)
def test_rule_3_nothing_of_airflows_own_changes_the_fingerprint(airflow, tmp_path, airflows_own):
    def fingerprint(run, **given):
        with dag_in(tmp_path, params={"text": "hello"}):
            operator = CommandOperator(**{"task_id": "a", "command": ECHO, "outputs": ["said"], **given})
        return airflow.run(operator, run)

    before, after = fingerprint("r1"), fingerprint("r2", **airflows_own)
    assert (before.outcome, after.outcome) == ("ran", "reused")
    assert before.task.components == after.task.components


def test_rule_3_where_the_dag_lies_and_what_it_is_called_do_not_count(airflow, tmp_path):
    outcomes = []
    for number, name in enumerate(["one", "two"]):
        folder = tmp_path / name
        (folder / "src").mkdir(parents=True)
        (folder / "src" / "x.py").write_text("import sys; open(sys.argv[1], 'w').write('x')")
        with dag_in(folder, name, tags=[name]), TaskGroup(f"group{number}"):
            operator = PythonScriptOperator(
                task_id=name, script_name="x.py", source_directory="src", arguments=["${{ outputs.x }}"], outputs=["x"]
            )
        outcomes.append(airflow.run(operator).outcome)
    assert outcomes == ["ran", "reused"]


def test_in_a_task_group_the_step_is_named_after_the_whole_task(airflow, tmp_path):
    with dag_in(tmp_path, params={"text": "hello"}), TaskGroup("group"):
        outputs = {"said": {"asset": "said"}}
        operator = CommandOperator(task_id="a", command=ECHO, outputs=outputs)
    ((_, extra),) = airflow.run(operator).announced
    assert (operator.task_id, list(extra["outputs"])) == ("group.a", ["group.a.said"])


def test_defaults_of_the_dag_reach_our_own_fields_too(airflow, tmp_path):
    with dag_in(tmp_path, default_args={"environment": {"variables": {"WHO": "team"}}, "retries": 2}):
        operator = CommandOperator(task_id="a", command="echo $WHO")
    assert operator.retries == 2
    assert "team" in airflow.run(operator).said


@pytest.mark.usefixtures("dag")
def test_a_mapped_task_group_gives_each_of_its_tasks_a_value(airflow):
    @task_group
    def group(text):
        first = CommandOperator(
            task_id="first", command="echo ${{ parameters.x }} > ${{ outputs.said }}", parameters={"x": text},
            outputs=["said"],
        )  # fmt: skip
        CommandOperator(task_id="second", command="cat ${{ inputs.x }}", inputs={"x": first.output["said"]})

    group.expand(text=["zero", "one"])
    first = airflow_task("group.first")
    said = [airflow.run(first, map_index=index).task.parameters for index in (0, 1)]
    assert said == [{"x": "zero"}, {"x": "one"}]


def airflow_task(task_id):
    from airflow.sdk.definitions._internal.contextmanager import DagContext

    return DagContext.get_current().get_task(task_id)


@pytest.mark.parametrize(
    ("operator", "fields"),
    [
        (PythonScriptOperator, ["script_name"]),
        (CommandOperator, ["command"]),
        (DataTransferOperator, ["destination", "source"]),
    ],
)
def test_a_missing_argument_is_named_with_the_task_and_the_line_of_the_dag_file(operator, fields):
    line = sys._getframe().f_lineno + 2
    with DAG("d", schedule=None), pytest.raises(DefinitionError) as caught:
        operator(task_id="a")
    owner = f"{operator.__name__}(task_id='a')"
    assert [str(problem) for problem in caught.value.problems] == [
        f"{__file__}:{line}:1: {owner}.{field}: is missing. Give {field}" for field in fields
    ]
