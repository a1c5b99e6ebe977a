"""Azure-ML-style pipelines for Apache Airflow, with reuse that is right, explained and free."""

__version__ = "0.1.0"
