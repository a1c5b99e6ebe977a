from __future__ import annotations

import copy
import pickle
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from airflow_mlpipe.definitions import (
    CommandStep,
    DataReference,
    DataTransferStep,
    Environment,
    Pipeline,
    PipelineData,
    PipelineParameter,
    PythonScriptStep,
    Schedule,
    StepOutput,
    StepSequence,
)
from tests.definitions.helpers import problems, read, step

RAW = DataReference(name="raw", datastore="landing", path="digits.csv")


def test_python_and_yaml_give_equal_pipelines(project):
    clean = PipelineData("clean", kind="file")
    c = PipelineParameter("c", default_value=1.0, minimum=0)
    prepare = PythonScriptStep(
        script_name="prepare.py",
        source_directory="src",
        arguments=["--raw", RAW, "--clean", clean],
        inputs=[RAW],
        outputs=[clean],
    )
    train = PythonScriptStep(
        name="train",
        script_name="train.py",
        source_directory="src",
        arguments=["--data", clean, "--c", c, "--model", "${{ outputs.model }}"],
        inputs=[clean],
        outputs=["model"],
        retries=2,
        timeout=timedelta(hours=2),
    )
    in_python = Pipeline(name="digits", schedule="@weekly", steps=[prepare, train])
    in_yaml = read(
        """
        name: digits
        schedule: "@weekly"
        parameters:
          c: {type: number, default: 1, minimum: 0}
        steps:
          prepare:
            kind: python_script
            source_directory: src
            script_name: prepare.py
            arguments: [--raw, "${{ inputs.raw }}", --clean, "${{ outputs.clean }}"]
            inputs: {raw: {datastore: landing, path: digits.csv}}
            outputs: {clean: {kind: file}}
          train:
            kind: python_script
            source_directory: src
            script_name: train.py
            arguments: [--data, "${{ inputs.clean }}", --c, "${{ parameters.c }}", --model, "${{ outputs.model }}"]
            inputs: {clean: "${{ steps.prepare.outputs.clean }}"}
            outputs: {model: }
            retries: 2
            timeout: 2 hours
        """,
        project,
        workspace_with_landing(project),
    )
    assert in_python == in_yaml
    assert in_python.digest == in_yaml.digest


def workspace_with_landing(folder):
    from airflow_mlpipe.definitions import Workspace

    return Workspace(datastores={"landing": "landing"}).located(folder)


def test_a_list_in_yaml_is_a_sequence_in_python(tmp_path):
    in_python = Pipeline(name="p", steps=StepSequence([step("a"), [step("b"), step("c")], step("d")]))
    in_yaml = read(
        """
        name: p
        steps:
          - {name: a, kind: command, command: "true"}
          - - {name: b, kind: command, command: "true"}
            - {name: c, kind: command, command: "true"}
          - {name: d, kind: command, command: "true"}
        """,
        tmp_path,
    )
    assert in_python == in_yaml
    assert in_yaml.step("d").run_after == ("b", "c")


def test_all_fields_mean_the_same_in_both_forms(tmp_path):
    in_python = Pipeline(
        name="p",
        description="Everything",
        experiment="trials",
        owner="ml",
        tags=("a", "b"),
        schedule=Schedule(every=timedelta(hours=2)),
        start_date=datetime(2024, 1, 1, tzinfo=timezone.utc),
        end_date=datetime(2025, 1, 1, 8, tzinfo=timezone.utc),
        catchup=True,
        max_active_runs=1,
        compute="local",
        environment=Environment(requirements=["numpy"], variables={"N": "1"}),
        retries=1,
        retry_delay=90,
        timeout=timedelta(days=1),
        on_success="m.f",
        on_failure="m.g",
        parameters=[PipelineParameter("kind", choices=["a", "b"], default="a", description="Which")],
        steps=[
            DataTransferStep(name="fetch", source="s3://b/x", destination="s3://c/x", pool="net", priority=3),
            CommandStep(
                name="count",
                command="wc ${{ inputs.data }} > ${{ outputs.n }}",
                inputs={"data": StepOutput(step="fetch", output="data", mode="direct")},
                outputs={"n": PipelineData("n", asset="counts")},
                parameters={"kind": "${{ parameters.kind }}", "n": 3},
                allow_reuse=False,
                labels={"team": "x"},
                version="1.10",
                display_name="Count",
            ),
        ],
    )
    in_yaml = read(
        """
        name: p
        description: Everything
        experiment: trials
        owner: ml
        tags: [a, b]
        schedule: {hours: 2}
        start_date: 2024-01-01
        end_date: 2025-01-01T09:00:00+01:00
        catchup: true
        max_active_runs: 1
        compute: local
        environment: {requirements: [numpy], variables: {N: 1}}
        retries: 1
        retry_delay: 90 seconds
        timeout: P1D
        on_success: m.f
        on_failure: m.g
        parameters:
          kind: {choices: [a, b], default: a, description: Which}
        steps:
          fetch: {kind: data_transfer, source: s3://b/x, destination: {url: s3://c/x}, pool: net, priority: 3}
          count:
            kind: command
            command: wc ${{ inputs.data }} > ${{ outputs.n }}
            inputs: {data: {from: "${{ steps.fetch.outputs.data }}", mode: direct}}
            outputs: {n: {asset: counts}}
            parameters: {kind: "${{ parameters.kind }}", n: 3}
            allow_reuse: false
            labels: {team: x}
            version: "1.10"
            display_name: Count
        """,
        tmp_path,
    )
    assert in_python == in_yaml
    assert in_python.digest == in_yaml.digest


def test_a_data_object_is_linked_to_the_step_that_makes_it():
    first, second = PipelineData("x"), PipelineData("x")
    pipeline = Pipeline(
        name="p",
        steps=[
            step("late", inputs={"one": first, "two": second.as_direct()}),
            step("a", outputs=[first]),
            step("b", outputs=[second]),
        ],
    )
    assert pipeline.step("late").inputs == {
        "one": StepOutput(step="a", output="x"),
        "two": StepOutput(step="b", output="x", mode="direct"),
    }


def test_the_output_of_a_step_object_is_an_input():
    a = step("a", outputs=["x"])
    assert Pipeline(name="p", steps=[a, step("b", inputs={"x": a.output["x"]})]).step("b").inputs == {
        "x": StepOutput(step="a", output="x")
    }


def test_parameters_in_arguments_become_parameters_of_the_pipeline():
    c = PipelineParameter("c", default=1.0)
    pipeline = Pipeline(
        name="p", parameters={"d": 1}, steps=StepSequence([step("a", ["echo", c]), [step("b", ["echo", c])]])
    )
    assert list(pipeline.parameters) == ["d", "c"]
    other = PipelineParameter("c", default=2.0)
    (problem,) = problems(Pipeline, name="p", steps=[step("a", ["echo", c]), step("b", ["echo", other])])
    assert "Pipeline.parameters.c: is there twice, with different definitions" in problem


def test_where_it_was_read_does_not_make_a_pipeline_another(tmp_path):
    one, other = Pipeline(name="p", steps=[step("a")]), Pipeline(name="p", steps=[step("a")])
    assert one.folder == Path.cwd()
    assert one.source_file is None
    other.folder = tmp_path / "elsewhere"
    other.source_file = tmp_path / "p.yaml"
    assert one == other
    assert one.digest == other.digest
    assert (other.folder, other.source_file) == (tmp_path / "elsewhere", tmp_path / "p.yaml")


def test_any_edit_makes_another_digest():
    base = {"name": "p", "steps": [step("a")]}
    edits = [
        {"name": "q"},
        {"description": "x"},
        {"schedule": "@daily"},
        {"parameters": {"x": 1}},
        {"parameters": {"x": 1.0}},
        {"steps": [step("b")]},
        {"steps": [step("a", labels={"x": "y"})]},
        {"steps": [step("a", retries=0)]},
        {"retries": 0},
    ]
    digests = {Pipeline(**{**base, **edit}).digest for edit in [{}, *edits]}
    assert len(digests) == len(edits) + 1


def test_the_digest_of_a_copy_is_its_own():
    pipeline = Pipeline(name="p", steps=[step("a")])
    before = pipeline.digest
    changed = pipeline.model_copy(update={"steps": (step("b"),)})
    assert changed.digest != before
    assert changed.step("b").name == "b"


def test_a_pipeline_survives_copying_and_pickling():
    pipeline = Pipeline(name="p", steps=[step("a")])
    pipeline.folder = Path("/somewhere")
    for same in (copy.deepcopy(pipeline), pickle.loads(pickle.dumps(pipeline))):
        assert same == pipeline
        assert same.folder == pipeline.folder


def test_a_step_is_found_by_name_or_the_nearest_is_named():
    pipeline = Pipeline(name="p", steps=[step("prepare")])
    assert pipeline.step("prepare").name == "prepare"
    with pytest.raises(KeyError, match=r"Did you mean prepare\?"):
        pipeline.step("prepar")


def test_code_lies_in_a_folder_relative_to_the_definition():
    pipeline = Pipeline(name="p", steps=[PythonScriptStep(script_name="a.py", source_directory="src"), step("b")])
    pipeline.folder = Path("/project")
    assert pipeline.source_directory(pipeline.step("a")) == Path("/project/src")
    assert pipeline.source_directory(pipeline.step("b")) is None


@pytest.mark.parametrize("name", ["a b", "ä", "x" * 300, "../x", "", None, 3])
def test_a_pipeline_with_a_name_that_is_no_word_is_refused(name):
    assert problems(Pipeline, name=name, steps=[step("a")])[0].startswith("Pipeline.name: ")
