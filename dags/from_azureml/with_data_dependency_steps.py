"""Azure ML's notebook `aml-pipelines-with-data-dependency-steps`: data makes the order, train -> extract -> compare.

Run it with `python with_data_dependency_steps.py [PATH]`, where PATH lies in the datastore and takes the place of the
parameter's default; in Airflow the pipeline is a DAG, and the path a field of its trigger form.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from airflow_mlpipe.dag_factory import make_dag
from airflow_mlpipe.definitions import DataReference, Pipeline, PipelineData, PipelineParameter, PythonScriptStep
from airflow_mlpipe.experiment import Experiment

FOLDER = Path(__file__).parent

blob_input_data = DataReference(name="test_data", datastore="workspaceblobstore", path="titanic/Titanic.csv")
processed_data1 = PipelineData("processed_data1", kind="folder")
processed_data2 = PipelineData("processed_data2", kind="folder")
processed_data3 = PipelineData("processed_data3", kind="folder")

train_step = PythonScriptStep(
    script_name="train.py",
    arguments=["--input_data", blob_input_data, "--output_train", processed_data1],
    inputs=[blob_input_data],
    outputs=[processed_data1],
    compute="cpu-cluster",
    source_directory="src/train",
)
extract_step = PythonScriptStep(
    script_name="extract.py",
    arguments=["--input_extract", processed_data1, "--output_extract", processed_data2],
    inputs=[processed_data1],
    outputs=[processed_data2],
    compute="cpu-cluster",
    source_directory="src/extract",
)

# A path that may differ from run to run, as a DataPath does in Azure ML: a parameter as the path of an input.
datapath_param = PipelineParameter("compare_data", default_value="titanic/Titanic.csv", description="In the datastore.")
data_parameter1 = DataReference(name="data1", datastore="workspaceblobstore", path=datapath_param)

compare_step = PythonScriptStep(
    script_name="compare.py",
    arguments=[
        *("--compare_data1", data_parameter1),
        *("--compare_data2", processed_data2),
        *("--output_compare", processed_data3),
    ],
    inputs=[data_parameter1, processed_data2],
    outputs=[processed_data3],
    compute="cpu-cluster",
    source_directory="src/compare",
)

pipeline = Pipeline(
    name="with_data_dependency_steps",
    tags=["example"],
    steps=[train_step, extract_step, compare_step],
)
pipeline.folder = FOLDER  # where relative paths start; else where Python was started

in_airflow = make_dag(pipeline)


def main() -> None:
    """Run it, say where the outputs of each step are, and fetch those of one."""
    given = {"compare_data": sys.argv[1]} if len(sys.argv) > 1 else {}
    run = Experiment("Data_dependency_sample").submit(pipeline, pipeline_parameters=given)
    run.wait_for_completion(show_output=True)

    for step in run.steps:
        print(step.name, step.outcome, step.metrics)  # noqa: T201 -- a command for people
        for name, output in step.outputs.items():
            print(f"  {name}: {output.uri}")  # noqa: T201

    found = run.find_step("train").outputs["processed_data1"].path
    shutil.copytree(found, FOLDER / "data" / "processed_data1", dirs_exist_ok=True)


if __name__ == "__main__":
    main()
