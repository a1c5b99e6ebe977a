"""The module `mlpipe` of a script that is started by hand: what is installed has this file under that name only."""

from airflow_mlpipe.runtime.run import Run

__all__ = ["Run"]
