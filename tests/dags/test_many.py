"""The examples of many processes, run by real torchrun and mpirun in the Python of Debian's packages."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.dags.conftest import DAGS, Examples, command, outcomes, run_pipeline
from tests.many import PYTHON, TORCH_VARIABLES, require

WORKSPACE = f"""
  debian: {{python: {PYTHON}, variables: {{{", ".join(f'{name}: "{text}"' for name, text in TORCH_VARIABLES.items())}}}}}
defaults: {{environment: debian}}
"""


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory):
    """A copy of the examples with landed data, whose steps use Debian's Python."""
    folder = Examples(tmp_path_factory.mktemp("many")).dags / "pipelines"
    workspace = folder / "mlpipe.yaml"
    text = workspace.read_text()
    before, environments, after = text.partition("environments:\n")
    assert environments
    workspace.write_text(before + environments + WORKSPACE.split("defaults", maxsplit=1)[0].lstrip("\n") + after)
    with workspace.open("a") as file:
        file.write("\ndefaults" + WORKSPACE.split("defaults")[1])
    command(os.sys.executable, DAGS / "demo" / "land.py", folder / "data" / "landing" / "digits", "6", cwd=folder)
    return folder


def output(report, step, name):
    return Path(unquote(urlsplit(report["steps"][step]["outputs"][name]["uri"]).path))


@pytest.mark.torch
@pytest.mark.timeout(600)
def test_two_processes_train_one_network_and_a_second_run_reuses_it(pipelines):
    require("torch")
    first = run_pipeline(pipelines / "torch_digits.yaml")
    assert outcomes(first) == {"train": "ran"}
    assert first["steps"]["train"]["metrics"]["accuracy"] > 0.9
    assert output(first, "train", "model").stat().st_size > 10_000
    assert outcomes(run_pipeline(pipelines / "torch_digits.yaml")) == {"train": "reused"}


@pytest.mark.mpi
@pytest.mark.timeout(600)
def test_four_processes_find_the_same_clusters_as_one(pipelines):
    require("mpi")
    many = run_pipeline(pipelines / "mpi_clusters.yaml")
    one = run_pipeline(pipelines / "mpi_clusters.yaml", "-p", "processes=1")
    assert outcomes(many) == outcomes(one) == {"find": "ran"}
    with output(many, "find", "centres").open() as file:
        rows = list(csv.reader(file))
    assert (len(rows), len(rows[0])) == (10, 64)
    assert output(one, "find", "centres").read_text() == output(many, "find", "centres").read_text()
    metrics = many["steps"]["find"]["metrics"]
    assert metrics["iterations"] > 3
    assert outcomes(run_pipeline(pipelines / "mpi_clusters.yaml")) == {"find": "reused"}
