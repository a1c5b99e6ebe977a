"""Makes one DAG of each definition in `pipelines/`. This is all that Airflow needs to find them."""

from airflow_mlpipe.dag_factory import load_pipelines

load_pipelines(globals(), "pipelines")
