"""What Airflow's provider manager asks: who we are, and which settings we have."""

from __future__ import annotations

from typing import Any

from airflow_mlpipe import __version__


def get_provider_info() -> dict[str, Any]:
    """Return the provider's description, as Airflow's schema wants it."""
    return {
        "package-name": "airflow-mlpipe",
        "name": "MLPipe",
        "description": "Azure-ML-style pipelines with reuse that is right, explained and free.",
        "versions": [__version__],
        "config": {
            "mlpipe": {
                "description": "Settings of airflow-mlpipe.",
                "options": {
                    "workspace": {
                        "description": (
                            "The workspace file (mlpipe.yaml) that names datastores, compute targets, environments "
                            "and defaults. The environment variable MLPIPE_WORKSPACE wins over it."
                        ),
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "/opt/airflow/mlpipe.yaml",
                        "default": None,
                    }
                },
            }
        },
    }
