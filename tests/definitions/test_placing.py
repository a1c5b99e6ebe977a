from __future__ import annotations

import pytest

from airflow_mlpipe.definitions import Workspace
from tests.definitions.helpers import located, problems, read

TRAIN = "kind: estimator, entry_script: train.py, source_directory: src"
RANKS = "kind: mpi, script_name: train.py, source_directory: src"
N = '"${{ parameters.n }}"'


def pipeline(step: str) -> str:
    return f"name: p\nparameters: {{n: 2}}\nsteps:\n  a: {{{step}}}\n"


@pytest.fixture
def workspace(project):
    compute = {"box": {"kind": "docker", "image": "a:1"}, "pod": {"kind": "kubernetes", "image": "a:1"}}
    return Workspace(compute=compute, frameworks={"own": {"starter": "mpi"}}).located(project)


@pytest.mark.parametrize("target", ["local", "box"])
@pytest.mark.parametrize(
    ("step", "path"),
    [
        (f"{TRAIN}, distribution: {{kind: torchrun, nodes: 2}}", "steps.a.distribution.nodes"),
        (f"{RANKS}, node_count: 2", "steps.a.node_count"),
    ],
)
def test_more_nodes_than_one_machine_has_are_refused_where_they_are_written(project, workspace, target, step, path):
    text = pipeline(f"{step}, compute: {target}")
    kind = {"local": "local", "box": "docker"}[target]
    (problem,) = problems(read, text, project, workspace)
    assert f"{path}: is more than the {kind} target {target} has, which is one machine (given: 2)" in problem
    assert "Make it 1, or name a Kubernetes target as compute" in problem
    (place,) = located(read, text, project, workspace)
    assert (place[0], place[2], text.splitlines()[3][place[1] - 1]) == (4, path, "2")


@pytest.mark.parametrize(
    "step",
    [
        f"{TRAIN}, distribution: {{kind: torchrun, nodes: 2}}, compute: pod",
        f"{RANKS}, node_count: 2, compute: pod",
        f"{TRAIN}, distribution: {{kind: mpi, nodes: {N}}}",
        f"{RANKS}, node_count: {N}, process_count_per_node: 64",
        f"{TRAIN}, framework: pytorch, distribution: {{processes_per_node: 2}}",
        f"{TRAIN}, framework: own, distribution: {{}}",
    ],
)
def test_what_fits_or_is_known_only_in_the_run_is_no_fault(project, workspace, step):
    assert read(pipeline(step), project, workspace).step("a").distribution is not None


@pytest.mark.parametrize("framework", ["", ", framework: sklearn"])
def test_a_distribution_that_nothing_starts_is_refused(project, workspace, framework):
    text = pipeline(f"{TRAIN}{framework}, distribution: {{processes_per_node: 2}}")
    (problem,) = problems(read, text, project, workspace)
    assert "steps.a.distribution: does not say what starts the processes. Write kind: torchrun, mpi or " in problem


def test_a_hostfile_means_nothing_where_hosts_are_pods(project, workspace):
    (problem,) = problems(read, pipeline(f"{RANKS}, hostfile: hosts, compute: pod"), project, workspace)
    assert "steps.a.hostfile: means nothing to a Kubernetes target" in problem
    assert read(pipeline(f"{RANKS}, hostfile: hosts, compute: box"), project, workspace).step("a").hostfile == "hosts"
