from __future__ import annotations

import pytest

from airflow_mlpipe.definitions import Distribution, MpiStep, Pipeline, PipelineParameter, dump
from tests.definitions.helpers import located, problems, read

N = "${{ parameters.n }}"


def test_a_script_is_started_from_its_own_folder():
    made = MpiStep(script_name="ring.py")
    assert (made.name, made.source_directory, made.script) == ("ring", ".", "ring.py")
    assert MpiStep(name="ring", command="hostname").source_directory is None


def test_what_starts_the_processes_is_mpirun_with_the_hostfile_before_the_options():
    made = MpiStep(
        script_name="ring.py",
        node_count=2,
        process_count_per_node=N,
        hostfile="hosts",
        options=["--oversubscribe"],
        outputs_of="each",
    )
    options = ["--hostfile", "hosts", "--oversubscribe"]
    assert made.distribution == Distribution(
        kind="mpi", nodes=2, processes_per_node=N, options=options, outputs_of="each"
    )


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "command: is missing, and so is script_name. Give one of them"),
        ({"script_name": "a.py", "command": "b"}, "command: is given beside script_name. Keep one of them"),
        ({"command": "b", "arguments": ["c"]}, "arguments: are those of a script, and there is a command"),
        ({"command": []}, "command: must not be empty"),
        ({"command": "  "}, "command: must not be empty"),
        ({"command": "b", "hostfile": "hosts"}, "hostfile: lies in no source_directory"),
        ({"script_name": "../a.py"}, "script_name: "),
        ({"script_name": "a.py", "hostfile": "/etc/hosts"}, "hostfile: "),
        ({"command": "b", "node_count": 0}, "node_count: must be a whole number of at least 1 (given: 0)"),
        ({"command": "b", "node_count": "2"}, "node_count: must be a whole number of at least 1 (given: 2)"),
        ({"command": "b", "process_count_per_node": -3}, "process_count_per_node: must be a whole number"),
        ({"command": "b", "options": ["${{ inputs.x }}"]}, "options[0]: holds an expression that has no meaning"),
        ({"command": "b", "outputs_of": "all"}, "outputs_of: must be one of first, each"),
        ({"command": ["echo", "${{ inputs.x }}"]}, "command[1]: names an input that the step does not declare"),
    ],
)
def test_what_is_wrong_is_said_by_its_field(fields, words):
    (problem,) = problems(MpiStep, name="a", **fields)
    assert problem.startswith(f"MpiStep.{words}")


def test_counts_may_be_parameter_objects_as_in_azure():
    n = PipelineParameter(name="n", type="integer", default=2)
    step = MpiStep(script_name="a.py", node_count=n, process_count_per_node=n)
    assert (step.node_count, step.process_count_per_node) == (N, N)
    assert Pipeline(name="p", steps=[step]).parameters == {"n": n}


def test_a_step_is_written_as_it_was_read(project):
    text = """
        name: p
        parameters: {n: 4}
        steps:
          ranks:
            kind: mpi
            script_name: train.py
            source_directory: src
            process_count_per_node: "${{ parameters.n }}"
            hostfile: hosts
            options: [--oversubscribe]
            outputs: [sums]
          host: {kind: mpi, command: [hostname], process_count_per_node: 2}
          text: {kind: mpi, command: hostname, outputs_of: each, outputs: [a]}
        """
    made = read(text, project)
    assert read(dump(made), project) == made


def test_a_hostfile_that_is_not_there_is_named_with_its_place(project):
    text = """
        name: p
        steps:
          ranks: {kind: mpi, script_name: train.py, source_directory: src, hostfile: host}
        """
    assert located(read, text, project) == [(4, 78, "steps.ranks.hostfile")]
    assert "Did you mean hosts?" in problems(read, text, project)[0]
