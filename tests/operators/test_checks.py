from __future__ import annotations

import pytest

from airflow_mlpipe.definitions import CommandStep, PipelineData
from airflow_mlpipe.exceptions import DefinitionError
from airflow_mlpipe.operators import CommandOperator, DataTransferOperator, StepOperator
from airflow_mlpipe.operators.checks import check_ports, owner_of
from tests.dagfiles import dag_in, parse

HEAD = """
from airflow.sdk import DAG, Param, task
from airflow_mlpipe.operators import *

with DAG("d", params={"c": Param(1.0, type="number"), "day": "x"}) as dag:
"""


@pytest.fixture
def parsed(tmp_path):
    """Return what is wrong with a DAG file that makes these operators, each in a line of its own."""
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "train.py").touch()

    def errors(*lines, head=HEAD):
        found = parse(tmp_path / "dag.py", head + "\n".join(f"    {line}" for line in lines))
        if not found.errors:
            return []
        said = found.errors["dag.py"].partition("DefinitionError: ")[2].splitlines()
        return [line.strip() for line in said[1:]]

    return errors


def test_an_operator_whose_names_and_files_are_there_is_accepted(parsed):
    assert (
        parsed(
            'PythonScriptOperator(task_id="a", script_name="train.py", source_directory="src", arguments=["${{ parameters.c }}"])'
        )
        == []
    )


@pytest.mark.parametrize(
    ("operator", "said"),
    [
        (
            'CommandOperator(task_id="a", command="true", compute="gpu")',
            "CommandOperator(task_id='a').compute: is not in the workspace (given: gpu). {nowhere}, and define gpu there",
        ),
        (
            'CommandOperator(task_id="a", command="true", environment="ml")',
            "CommandOperator(task_id='a').environment: is not in the workspace (given: ml). {nowhere}, and define ml there",
        ),
        (
            'CommandOperator(task_id="a", command="true", inputs={"x": {"datastore": "lake", "path": "x"}})',
            "CommandOperator(task_id='a').inputs.x.datastore: is not in the workspace (given: lake). {nowhere}, and define lake there",
        ),
        (
            'CommandOperator(task_id="a", command="true", outputs={"x": {"datastore": "lake"}})',
            "CommandOperator(task_id='a').outputs.x.datastore: is not in the workspace (given: lake). {nowhere}, and define lake there",
        ),
        (
            'DataTransferOperator(task_id="a", source="x", destination={"datastore": "lake", "path": "x"})',
            (
                "DataTransferOperator(task_id='a').destination.datastore: is not in the workspace (given: lake). "
                "{nowhere}, and define lake there"
            ),
        ),
        (
            'PythonScriptOperator(task_id="a", script_name="trian.py", source_directory="src")',
            (
                "PythonScriptOperator(task_id='a').script_name: is not there: {folder}/src/trian.py (given: trian.py). "
                "Did you mean train.py?"
            ),
        ),
        (
            'PythonScriptOperator(task_id="a", script_name="train.py", source_directory="scr")',
            "PythonScriptOperator(task_id='a').source_directory: is not there: {folder}/scr (given: scr). Did you mean src?",
        ),
        (
            'CommandOperator(task_id="a", command="true", environment={"requirements_file": "requirements.txt"})',
            (
                "CommandOperator(task_id='a').environment.requirements_file: is not there: {folder}/requirements.txt "
                "(given: requirements.txt). There is no file like it"
            ),
        ),
        (
            'CommandOperator(task_id="a", command="echo ${{ parameters.cc }}")',
            (
                "CommandOperator(task_id='a').command: names a parameter that neither the DAG's params nor the operator's "
                "parameters have (given: ${{ parameters.cc }}). Did you mean parameters.c?"
            ),
        ),
        (
            'CommandOperator(task_id="a", command="true", parameters={"x": "${{ parameters.dya }}", "dya": 1})',
            (
                "CommandOperator(task_id='a').parameters.x: names a parameter that neither the DAG's params nor the operator's "
                "parameters have (given: ${{ parameters.dya }}). Did you mean parameters.day?"
            ),
        ),
        (
            'CommandOperator(task_id="a", command="echo ${{ parameters.c }} ${{ parameters.C }}", parameters={"C": 1})',
            (
                "CommandOperator(task_id='a').parameters.c: is the same name as C; upper and lower case are not told apart "
                "(given: c). Choose another name"
            ),
        ),
        (
            'CommandOperator(task_id="a", command="true", inputs={"x": "${{ steps.b.outputs.x }}"})',
            (
                "CommandOperator(task_id='a').inputs.x: names the output of a step, which only pipelines have (given: x). "
                "Give the output of another task, other.output['<name>']"
            ),
        ),
        (
            'DataTransferOperator(task_id="a", source="${{ steps.b.outputs.x }}", destination="y")',
            (
                "DataTransferOperator(task_id='a').source: names the output of a step, which only pipelines have (given: x). "
                "Give the output of another task, other.output['<name>']"
            ),
        ),
        (
            'CommandOperator(task_id="a", command="true", outputs=["return_value"])',
            "CommandOperator(task_id='a').outputs.return_value: is the name of all outputs together. Choose another name",
        ),
        (
            'CommandOperator(task_id="a", command="true", outputs={"x": {"asset": "airflow://x"}})',
            (
                "CommandOperator(task_id='a').outputs.x.asset: is no asset: Asset scheme 'airflow' is reserved "
                "(given: airflow://x). Choose another name or URI for the asset"
            ),
        ),
    ],
)
def test_what_is_not_there_is_an_import_error_that_says_what_to_do(parsed, tmp_path, operator, said):
    nowhere = f"There is no {tmp_path / 'mlpipe.yaml'}: write it"
    assert parsed(operator) == [said.replace("{folder}", str(tmp_path)).replace("{nowhere}", nowhere)]


def test_everything_that_is_wrong_comes_at_once(parsed):
    said = parsed(
        'b = CommandOperator(task_id="b", command="true", outputs=["clean"])',
        'PythonScriptOperator(task_id="a", script_name="no.py", arguments=["${{ parameters.no }}"], compute="no",'
        ' inputs={"x": b.output["claen"], "y": "${{ steps.no.outputs.x }}"}, outputs=["return_value"])',
    )
    assert [line.partition(":")[0] for line in said] == [
        f"PythonScriptOperator(task_id='a').{field}"
        for field in ("arguments[0]", "compute", "inputs.x", "inputs.y", "outputs.return_value", "script_name")
    ]


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ('output["claen"]', "names an output that b does not have (given: claen). Did you mean clean?"),
        ("output", "is all outputs of b together. Name one of them: output['clean'], output['dirty']"),
    ],
)
def test_an_output_that_another_operator_does_not_have_is_refused(parsed, key, said):
    b = 'b = CommandOperator(task_id="b", command="true", outputs=["clean", "dirty"])'
    for operator, field in (
        ('CommandOperator(task_id="a", command="true", inputs={"x": b.KEY})', "inputs.x"),
        ('DataTransferOperator(task_id="a", source=b.KEY, destination="y")', "source"),
    ):
        (line,) = parsed(b, operator.replace("KEY", key))
        assert line.endswith(f"(task_id='a').{field}: {said}")


def test_what_an_ordinary_task_returns_may_have_any_key(parsed):
    assert (
        parsed(
            "@task",
            "def b(): return {'x': '/x'}",
            'CommandOperator(task_id="a", command="true", inputs={"x": b()["x"], "y": b()})',
        )
        == []
    )


@pytest.mark.parametrize(
    "field",
    [
        'environment="{{ params.day }}"',
        'inputs={"x": {"datastore": "{{ params.day }}", "path": "x"}}',
        'inputs={"x": {"datastore": lake(), "path": "x"}}',
        'outputs={"x": {"asset": "airflow://{{ params.day }}"}}',
        'environment={"requirements_file": "{{ params.day }}.txt"}',
    ],
)
def test_a_name_that_is_not_known_before_the_task_runs_is_not_judged(parsed, field):
    assert parsed("@task", "def lake(): ...", f'CommandOperator(task_id="a", command="true", {field})') == []


def test_params_of_the_task_itself_are_known_too(parsed):
    assert parsed('CommandOperator(task_id="a", command="echo ${{ parameters.own }}", params={"own": 1})') == []


def test_the_folder_and_the_workspace_that_an_operator_names_count(parsed, tmp_path):
    (tmp_path / "team").mkdir()
    (tmp_path / "team" / "mlpipe.yaml").write_text("environments: {ml: {requirements: [numpy]}}\n")
    (tmp_path / "team" / "src").mkdir()
    given = 'CommandOperator(task_id="a", command="true", source_directory="src", environment="ml", '
    assert parsed(given + 'folder="team")') == []
    (tmp_path / "src" / "train.py").unlink()
    (tmp_path / "src").rmdir()
    assert len(parsed(given + f'workspace="{tmp_path}/team/mlpipe.yaml")')) == 1


def test_a_dag_that_a_helper_module_makes_gets_its_place_afterwards(tmp_path, monkeypatch):
    """Names and files are not judged where the folder is not known yet; all else is."""
    (tmp_path / "lib").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path / "lib"))
    (tmp_path / "lib" / "helper_of_checks.py").write_text(
        "from airflow.sdk import DAG\nfrom airflow_mlpipe.operators import CommandOperator\n\n"
        "def made(name):\n    with DAG(name) as dag:\n"
        "        CommandOperator(task_id='a', command='true', source_directory='src')\n    return dag\n\n"
        "at_import = made('at_import')\n"
    )
    (tmp_path / "dags" / "src").mkdir(parents=True)
    found = parse(tmp_path / "dags" / "dag.py", "from helper_of_checks import at_import, made\nlater = made('later')\n")
    assert found.errors == {}
    assert found.serialized == ("at_import", "later")
    assert found.dags["at_import"].get_task("a")._folder() == tmp_path / "dags"


def test_outside_any_dag_only_the_ports_are_checked():
    with pytest.raises(DefinitionError, match="is the name of all outputs together"):
        CommandOperator(task_id="a", command="true", outputs=["return_value"])
    assert CommandOperator(task_id="a", command="true ${{ parameters.no }}", compute="no").task_id == "a"


def test_a_step_given_as_a_definition_is_checked_in_the_same_way(tmp_path):
    with dag_in(tmp_path), pytest.raises(DefinitionError, match=r"StepOperator\(task_id='a'\)\.command: names a param"):
        StepOperator(task_id="a", step=CommandStep(name="a", command="echo ${{ parameters.no }}"))
    with dag_in(tmp_path) as dag:
        other = DataTransferOperator(task_id="b", source="x", destination="y")
        step = CommandStep(name="a", command="true", inputs={"x": "${{ steps.b.outputs.data }}"})
        StepOperator(task_id="a", step=step, upstream={"x": other.output["data"]})
    assert dag.get_task("a").upstream_task_ids == {"b"}


def test_ports_are_checked_in_pipelines_too():
    step = CommandStep(name="a", command="true", outputs=[PipelineData("x", asset=""), PipelineData("return_value")])
    with pytest.raises(DefinitionError) as error:
        check_ports(owner_of(StepOperator, "a"), step)
    assert [problem.where for problem in error.value.problems] == [
        "StepOperator(task_id='a').outputs.return_value",
        "StepOperator(task_id='a').outputs.x.asset",
    ]
