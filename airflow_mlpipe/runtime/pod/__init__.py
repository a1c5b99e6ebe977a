"""Runs beside the user's container in a pod: fills the step directory before, and publishes the outputs after.

Two containers of the staging image run it, ``python -m airflow_mlpipe.runtime.pod init`` and ``... sidecar``; the
user's container holds nothing of it but a shell that says how the command ended (`wrapper`).
"""
