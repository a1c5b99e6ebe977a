from __future__ import annotations

import tempfile
from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from airflow_mlpipe.exceptions import StepError
from airflow_mlpipe.launchers.docker import launcher as module
from airflow_mlpipe.launchers.docker.launcher import DockerLauncher
from airflow_mlpipe.runtime.protocol import EnvironmentSpec
from airflow_mlpipe.store.store import Store
from tests.launchers.steps import Bench, open_uri

IMAGE = EnvironmentSpec(image="sha256:" + "ab" * 32)


class FakeGuard(nullcontext):
    """A guard that keeps the folder that it was given."""

    made: FakeGuard

    def __init__(self, _address, _container, certificates):
        super().__init__(self)
        self.certificates = certificates
        self.is_dismissed = False
        FakeGuard.made = self

    def dismiss(self):
        self.is_dismissed = True


@pytest.fixture
def bench(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(
        module, "connect", lambda *_: SimpleNamespace(get_conn=lambda: SimpleNamespace(info=dict, close=lambda: None))
    )
    monkeypatch.setattr(module, "Guard", FakeGuard)
    return Bench(tmp_path, Store.open(str(tmp_path / "store")), "")


@pytest.mark.parametrize("removed", [True, False])
def test_certificates_stay_for_the_guard_of_a_container_that_could_not_be_removed_and_for_no_other(
    bench, monkeypatch, removed
):
    class Attempt:
        def __init__(self, *_):
            pass

        def run(self):
            message = "the engine went away"
            raise StepError(message)

        def is_removed(self):
            return removed

    monkeypatch.setattr(module, "Attempt", Attempt)
    spec = bench.spec("", environment=IMAGE, target={"kind": "docker"})
    with pytest.raises(StepError, match="the engine went away"):
        bench.launch(spec, launcher=DockerLauncher(bench.store, open_uri))
    assert FakeGuard.made.certificates.exists() is not removed
