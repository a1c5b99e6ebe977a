from __future__ import annotations

import pytest

from airflow_mlpipe.definitions import Module, ModuleStep, PipelineParameter
from tests.definitions.helpers import problems

MODULE = Module(name="m", version="1", step={"kind": "command", "command": "true"})


def test_a_module_object_gives_name_and_version():
    made = ModuleStep(module=MODULE)
    assert (made.name, made.module, made.version, made.definition) == ("m", "m", "1", MODULE)


def test_parameter_objects_become_expressions():
    c = PipelineParameter("c", default=1.0)
    made = ModuleStep(name="a", module="m", parameters={"rate": c})
    assert made.parameters == {"rate": "${{ parameters.c }}"}
    assert made.given_parameters == (c,)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"parameters": {"x": "${{ inputs.y }}"}}, "It may hold"),
        ({"module": 3}, "module: must be a text"),
        ({"arguments": ["x"]}, "there is no such field"),
    ],
)
def test_a_use_of_a_module_that_could_not_work_is_refused(fields, words):
    assert any(words in problem for problem in problems(ModuleStep, **{"name": "a", "module": "m", **fields}))
