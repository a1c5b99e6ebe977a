from __future__ import annotations

import os
import subprocess
import sys

from airflow_mlpipe.runtime.processes import descendants, name_of


def test_descendants_are_found_below_their_parents():
    script = "import subprocess, sys; p = subprocess.Popen(['cat'], stdin=subprocess.PIPE); print(p.pid, flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        grandchild = int(process.stdout.readline())
        assert list(descendants(process.pid)) == [grandchild]
        found = list(descendants(os.getpid()))
        assert found.index(process.pid) < found.index(grandchild)
        assert name_of(grandchild) == f"{grandchild} (cat)"


def test_a_process_that_has_ended_has_no_name():
    process = subprocess.Popen(["true"])
    process.wait()
    assert name_of(process.pid) == str(process.pid)
