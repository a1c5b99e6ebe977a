"""Makes one DAG of each definition in `from_azureml/`; what is written in Python there says itself what it makes."""

from airflow_mlpipe.dag_factory import load_pipelines

load_pipelines(globals(), "from_azureml")
