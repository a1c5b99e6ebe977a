"""Azure ML's notebook `aml-pipelines-getting-started`: three steps side by side, then the same three in a row.

Run it with `python getting_started.py [regenerate]`; in Airflow both pipelines are DAGs. Each step has a source
directory of its own, so that an edit of one script runs one step.
"""

from __future__ import annotations

import sys
from pathlib import Path

from airflow_mlpipe.dag_factory import make_dag
from airflow_mlpipe.definitions import DataReference, Pipeline, PythonScriptStep, StepSequence
from airflow_mlpipe.experiment import Experiment

titanic = DataReference(name="titanic", datastore="workspaceblobstore", path="titanic/Titanic.csv")

step1 = PythonScriptStep(
    name="train_step",
    script_name="train.py",
    arguments=["--input_data", titanic],
    inputs=[titanic],
    compute="cpu-cluster",
    source_directory="src/train",
    allow_reuse=True,
)
step2 = PythonScriptStep(
    name="compare_step",
    script_name="compare.py",
    arguments=["--compare_data1", titanic],
    inputs=[titanic],
    compute="cpu-cluster",
    source_directory="src/compare",
)
step3 = PythonScriptStep(
    name="extract_step",
    script_name="extract.py",
    arguments=["--input_extract", titanic],
    inputs=[titanic],
    compute="cpu-cluster",
    source_directory="src/extract",
)

# No data goes from one to the other, so they run side by side: in Airflow, and with `submit(..., jobs=3)`.
pipeline1 = Pipeline(name="getting_started", tags=["example"], steps=[step1, step2, step3])

# Here each runs after the one before. Their order is no part of what they do: what one pipeline has run, the other reuses.
pipeline2 = Pipeline(name="getting_started_in_sequence", tags=["example"], steps=StepSequence([step1, step2, step3]))

for pipeline in (pipeline1, pipeline2):
    pipeline.folder = Path(__file__).parent  # where relative paths start; else where Python was started

parallel, in_sequence = make_dag(pipeline1), make_dag(pipeline2)


def main() -> None:
    """Run both, and say what became of each step."""
    for experiment, submitted in (("Hello_World1", pipeline1), ("Hello_World2", pipeline2)):
        regenerate = submitted is pipeline1 and "regenerate" in sys.argv
        run = Experiment(experiment).submit(submitted, regenerate_outputs=regenerate)
        run.wait_for_completion()
        for step in run.steps:
            print(submitted.name, step.name, step.outcome, step.metrics)  # noqa: T201 -- a command for people


if __name__ == "__main__":
    main()
