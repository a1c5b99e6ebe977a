from __future__ import annotations

import threading

import pytest

from airflow_mlpipe.exceptions import CommandFailedError
from airflow_mlpipe.runtime.protocol import DistributionSpec, EnvironmentSpec
from airflow_mlpipe.store.store import Store
from tests.launchers.steps import Bench
from tests.many import PYTHON, TORCH_VARIABLES, path_of


class ManyBench(Bench):
    """Launches scripts as steps of many processes, in the Python that has what they need."""

    def many(self, script: str, kind: str, processes: int, *, options=(), each=False, **fields):
        outputs = "each" if each else "first"
        given = DistributionSpec(kind, processes=processes, options=tuple(options), outputs=outputs)
        return self.spec(script, distribution=given, **fields)

    def failing(self, spec, launcher) -> threading.Thread:
        """Begin to launch a step that will fail; join what is returned."""

        def launch():
            with pytest.raises(CommandFailedError):
                self.launch(spec, launcher=launcher)

        thread = threading.Thread(target=launch)
        thread.start()
        return thread

    def mpi(self, script: str, mpi: str, processes: int = 4, **fields):
        """Return a step of ranks that one of the MPIs starts."""
        variables = {"PATH": path_of(mpi, self.root / mpi)}
        return self.many(script, "mpi", processes, environment=EnvironmentSpec(variables=variables), **fields)

    def torch(self, script: str, processes: int = 2, **fields):
        """Return a step of ranks that torchrun starts."""
        environment = EnvironmentSpec(variables=TORCH_VARIABLES)
        return self.many(script, "torchrun", processes, environment=environment, **fields)


@pytest.fixture
def bench(tmp_path, monkeypatch):
    monkeypatch.setenv("MLPIPE_CACHE", str(tmp_path / "cache"))
    return ManyBench(tmp_path, Store.open(str(tmp_path / "store")), PYTHON)
