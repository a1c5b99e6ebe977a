"""An engine on another machine, or as good as that: spoken to over TLS, without the worker's files."""

from __future__ import annotations

import os
import signal
import socket
from contextlib import contextmanager
from dataclasses import replace

import pytest

from airflow_mlpipe.exceptions import StepError
from airflow_mlpipe.runtime.protocol import OutputSpec
from tests.engine import own_engine
from tests.integration.docker import certificates
from tests.integration.docker.test_launcher import worker
from tests.runtime.steps import eventually

pytestmark = pytest.mark.docker


@contextmanager
def tls_engine(folder):
    """Yield an engine that also answers over TLS, and the address at which it does."""
    certificates.make(folder)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    flags = (
        f"--host={address}",
        "--tlsverify",
        f"--tlscacert={folder}/ca.pem",
        f"--tlscert={folder}/server.pem",
        f"--tlskey={folder}/server-key.pem",
    )
    with own_engine(flags=flags) as engine:
        engine.make_images(python=False)
        yield engine, address


def test_a_step_runs_on_an_engine_behind_tls_and_a_killed_worker_leaves_nothing_there(make_bench, tmp_path):
    folder = tmp_path / "certificates"
    with tls_engine(folder) as (engine, address):
        tls = {"ca": f"{folder}/ca.pem", "cert": f"{folder}/client.pem", "key": f"{folder}/client-key.pem"}
        bench = make_bench(engine, host=address, tls=tls, staging="copy")
        spec = bench.shell('echo 1 > "$MLPIPE_OUTPUT_MODEL"', outputs={"model": OutputSpec()})
        assert bench.store.read(bench.launch(spec).outputs["model"].path) == b"1\n"
        killed = worker(bench, bench.shell("echo begun; sleep 300"), "killed")
        assert len(engine.containers()) == 1
        os.killpg(killed.pid, signal.SIGKILL)
        killed.communicate()
        assert eventually(lambda: not engine.containers(), 20)
        with pytest.raises(StepError, match=r"no Docker engine can be reached at tcp://.*check host and tls"):
            bench.launch(replace(spec, target={**spec.target, "tls": None}))
        with pytest.raises(StepError, match=r"no Docker engine can be reached at tcp://.*check host and tls"):
            bench.launch(replace(spec, target={**spec.target, "tls": {"ca": tls["ca"]}}))
        assert (engine.containers(), engine.volumes()) == ([], [])
