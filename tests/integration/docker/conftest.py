from __future__ import annotations

import pytest

from airflow_mlpipe.store.store import Store
from tests.engine import own_engine
from tests.launchers.docker.bench import DockerBench
from tests.runtime.steps import eventually


@pytest.fixture
def make_bench(tmp_path, monkeypatch):
    """Make a bench on an engine."""
    monkeypatch.setenv("MLPIPE_CACHE", str(tmp_path / "cache"))
    return lambda engine, **fields: DockerBench(
        tmp_path, Store.open(str(tmp_path / "store")), "", engine=engine, fields=fields
    )


@pytest.fixture
def bench(engine, make_bench):
    """A bench on the engine of the session, at which nothing is left afterwards."""
    yield make_bench(engine)
    assert eventually(lambda: not engine.containers())
    assert engine.volumes() == []


@pytest.fixture
def own():
    """An engine that a test may do anything to; without the image of Python."""
    with own_engine() as own:
        own.make_images(python=False)
        yield own
