"""A worker of its own that launches one step: ``python -m tests.integration.kubernetes.worker <order.json>``.

It says which process it is, what the step prints, and ``result <exit code>``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from airflow_mlpipe.definitions import Workspace
from airflow_mlpipe.launchers.kubernetes.launcher import KubernetesLauncher
from airflow_mlpipe.resolving.site import Site
from airflow_mlpipe.runtime.protocol import load_spec
from airflow_mlpipe.store.digests import StatIndex
from airflow_mlpipe.store.store import Store
from tests.launchers.steps import FINGERPRINT


def main() -> None:
    order = json.loads(Path(sys.argv[1]).read_bytes())
    store = Store.open(order["store"], order["options"])
    site = Site(Workspace(), store, StatIndex.open(), lambda _: order["options"], connection="store")
    result = KubernetesLauncher(site).launch(
        load_spec(order["spec"]), FINGERPRINT, order["claim"], {}, lambda line: print(line, flush=True)
    )
    print("result", result.exit_code, flush=True)


if __name__ == "__main__":
    main()
