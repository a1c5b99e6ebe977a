"""What the tests of definitions share."""

from __future__ import annotations

from contextlib import contextmanager
from textwrap import dedent
from typing import TYPE_CHECKING

import pytest

from airflow_mlpipe.definitions import CommandStep, Pipeline, Workspace, loads
from airflow_mlpipe.definitions.faults import Refused, faults_of
from airflow_mlpipe.exceptions import DefinitionError

if TYPE_CHECKING:
    from pathlib import Path


def problems(made, *args, **kwargs) -> list[str]:
    """Return what is wrong with a definition, one line each, without file and place."""
    with pytest.raises(DefinitionError) as caught:
        made(*args, **kwargs)
    return [str(problem).partition(" ")[2] if problem.line else str(problem) for problem in caught.value.problems]


def located(made, *args, **kwargs) -> list[tuple[int, int, str]]:
    """Return where a definition is wrong: line, column, path."""
    with pytest.raises(DefinitionError) as caught:
        made(*args, **kwargs)
    return [(problem.line, problem.column, problem.where) for problem in caught.value.problems]


@contextmanager
def refused(*words: str):
    """Expect a validator to refuse something, in these words."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011 -- Refused, or pydantic's around it
        yield
    text = "; ".join(str(fault.problem()) for fault in faults_of(caught.value))
    for word in words:
        assert word in text, text


def read(text: str, folder: Path, workspace: Workspace | None = None) -> Pipeline:
    """Return a pipeline of indented YAML, in a folder."""
    return loads(dedent(text), folder, workspace or Workspace().located(folder))


def step(name: str, command: str = "true", **fields) -> CommandStep:
    """Return a step that says as little as can be."""
    return CommandStep(name=name, command=command, **fields)


__all__ = ["Refused", "located", "problems", "read", "refused", "step"]
