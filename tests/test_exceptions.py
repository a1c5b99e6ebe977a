from __future__ import annotations

import inspect
import pickle

import pytest

from airflow_mlpipe import exceptions
from airflow_mlpipe.exceptions import DefinitionError, MlpipeError, Problem

CLASSES = [
    item
    for _, item in inspect.getmembers(exceptions, inspect.isclass)
    if issubclass(item, BaseException) and item.__module__ == exceptions.__name__
]
FIRST = Problem("a.yaml", 2, 5, "steps.train", "unknown key 'scrip'", "Did you mean 'script_name'?", "train.py")
SECOND = Problem("a.yaml", 10, 1, "", "a cycle: a -> b -> a")


def drawn():
    """Return the tree in the docstring as {name: parent}."""
    tree, above = {}, {}
    for line in (exceptions.__doc__ or "").splitlines():
        name = line.strip(" |+-").partition(" ")[0]
        if not name.endswith("Error"):
            continue
        depth = line.index(name)
        above = {place: other for place, other in above.items() if place < depth}
        tree[name] = above[max(above)] if above else None
        above[depth] = name
    return tree


def test_the_tree_in_the_docstring_is_the_tree():
    assert drawn() == {item.__name__: None if item is MlpipeError else item.__bases__[0].__name__ for item in CLASSES}


def test_every_error_is_one_of_ours():
    assert all(issubclass(item, MlpipeError) for item in CLASSES)


def test_a_problem_is_one_line_in_the_form_compilers_use():
    assert str(FIRST) == ("a.yaml:2:5: steps.train: unknown key 'scrip' (given: train.py). Did you mean 'script_name'?")
    assert str(Problem("", 0, 0, "Pipeline", "it has no steps")) == "Pipeline: it has no steps"
    assert str(Problem("a.yaml", 0, 0, "", "it is empty")) == "a.yaml: it is empty"


def test_all_problems_come_at_once_in_the_order_of_the_file():
    error = DefinitionError([SECOND, FIRST])
    assert error.problems == (FIRST, SECOND)
    assert str(error).splitlines() == ["2 problems:", f"  {FIRST}", f"  {SECOND}"]
    assert str(DefinitionError([FIRST])).startswith("1 problem:\n")


@pytest.mark.parametrize("error", [DefinitionError([FIRST, SECOND]), exceptions.ClaimLostError("it was taken over")])
def test_an_error_survives_the_way_between_processes(error):
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert getattr(copy, "problems", None) == getattr(error, "problems", None)
