from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_mlpipe.definitions import Pipeline
from airflow_mlpipe.definitions.graph import cycle_of, downstream_of, edges, order, order_of
from tests.definitions.helpers import step


def test_edges_are_the_data_a_step_reads_then_what_it_runs_after_each_once():
    pipeline = Pipeline(
        name="p",
        steps=[
            step("a", outputs=["x", "y"]),
            step("b", outputs=["x"]),
            step(
                "c",
                inputs={
                    "p": "${{ steps.b.outputs.x }}",
                    "q": "${{ steps.a.outputs.x }}",
                    "r": "${{ steps.a.outputs.y }}",
                    "s": "file.csv",
                },
                run_after=["a", "d"],
            ),
            step("d"),
        ],
    )
    assert edges(pipeline) == {"a": (), "b": (), "c": ("b", "a", "d"), "d": ()}
    assert order(pipeline) == ("a", "b", "d", "c")
    assert downstream_of(edges(pipeline)) == {"a": ("c",), "b": ("c",), "c": (), "d": ("c",)}


graphs = st.integers(1, 12).flatmap(
    lambda size: st.fixed_dictionaries(
        {
            str(node): st.lists(st.sampled_from([str(other) for other in range(size)]), unique=True, max_size=3).map(
                tuple
            )
            for node in range(size)
        }
    )
)


@given(graphs)
def test_either_there_is_an_order_or_a_cycle_is_named(needed):
    cycle = cycle_of(needed)
    if cycle:
        assert cycle[0] == cycle[-1]
        assert all(before in needed[after] for before, after in itertools.pairwise(cycle))
        with pytest.raises(ValueError, match="in a circle"):
            order_of(needed)
    else:
        done = order_of(needed)
        assert sorted(done) == sorted(needed)
        assert all(done.index(up) < done.index(node) for node, ups in needed.items() for up in ups)


def test_a_long_chain_needs_no_recursion():
    needed = {str(node): (str(node - 1),) if node else () for node in range(5000)}
    assert order_of(needed)[-1] == "4999"
    assert cycle_of(needed) == ()
    assert len(cycle_of({**needed, "0": ("4999",)})) == 5001


def test_a_cycle_is_named_in_the_order_data_flows():
    assert cycle_of({"a": ("c",), "b": ("a",), "c": ("b",)}) == ("a", "b", "c", "a")
    assert cycle_of({"a": ("a",)}) == ("a", "a")
