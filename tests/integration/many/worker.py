"""Launches a step in a process of its own: ``python -m tests.integration.many.worker STORE SPEC CLAIM``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from airflow_mlpipe.launchers.local import LocalLauncher
from airflow_mlpipe.runtime.protocol import load_spec
from airflow_mlpipe.store.store import Store
from tests.launchers.steps import FINGERPRINT, open_uri
from tests.many import PYTHON


def main() -> None:
    """Launch it, and print what it prints."""
    store, spec, claim = sys.argv[1:]
    launcher = LocalLauncher(Store.open(store), open_uri, lambda _: PYTHON)
    bound = load_spec(json.loads(Path(spec).read_text()))
    launcher.launch(bound, FINGERPRINT, claim, {}, lambda line: print(line, flush=True))


if __name__ == "__main__":
    main()
