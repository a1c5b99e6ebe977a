from __future__ import annotations

import subprocess
import sys

from airflow_mlpipe import definitions


def test_what_is_public_is_listed_and_there():
    assert definitions.__all__ == sorted(definitions.__all__)
    assert all(hasattr(definitions, name) for name in definitions.__all__)
    assert {"Pipeline", "PythonScriptStep", "load_pipeline", "Workspace", "parameter_values"} <= set(
        definitions.__all__
    )


def test_importing_definitions_loads_nothing_heavy():
    code = (
        "import sys, airflow_mlpipe.definitions; "
        "print(sorted({name.partition('.')[0] for name in sys.modules} & {'airflow', 'fsspec', 'jinja2', 'pandas', 'numpy', 'uv'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
