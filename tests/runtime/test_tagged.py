from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_mlpipe.runtime.protocol import DistributionSpec
from airflow_mlpipe.runtime.tagged import Tagged, Untagged, untangled
from tests.runtime.steps import spec_of

PIECES = b"[1,2]<stdout>:hello from[1,3]<stdout>:hello from[1,3]<stderr>: 3\n[1,2]<stdout>: 2\nmpirun speaks\n"
LINES = b"[3] hello from 3\n[2] hello from 2\nmpirun speaks\n"


def read(*chunks):
    tagged = Tagged("mpi")
    return b"".join(map(tagged.feed, chunks)) + tagged.rest()


def test_pieces_of_lines_become_lines_again():
    assert read(PIECES) == LINES


@given(st.lists(st.integers(min_value=1, max_value=len(PIECES) - 1), max_size=8))
def test_it_does_not_matter_in_which_chunks_they_arrive(cuts):
    places = [0, *sorted(cuts), len(PIECES)]
    assert read(*(PIECES[start:end] for start, end in pairwise(places))) == LINES


def test_a_line_that_was_cut_within_a_word_is_whole():
    assert read(b"[1,0]<stdout>:s3c", b"[1,0]<stdout>:r3t\n") == b"[0] s3cr3t\n"


@pytest.mark.parametrize("tag", [b"[1,7]<stdout>:", b"[prterun-node.1-4242@1,7]<stderr>:", b"[12345,7]<stddiag>:"])
def test_the_tags_of_open_mpi_4_and_5_are_known(tag):
    assert read(tag + b"  indented\n") == b"[7]   indented\n"


def test_text_that_only_looks_like_a_tag_is_left_alone():
    text = b"[1,2] is a list, and [3] too\n[1,2\n[epoch 3]<b>: x\nx["
    assert read(text) == text + b"\n"


def test_the_last_line_needs_no_end():
    assert read(b"[1,0]<stdout>:a[1,1]<stdout>:b") == b"[0] a\n[1] b\n"


def test_a_line_without_an_end_is_cut_before_it_fills_the_memory():
    shown = Tagged("mpi").feed(b"[1,0]<stdout>:" + b"x" * 70_000)
    assert len(shown) > 60_000


def test_torchrun_can_be_told_to_write_tags():
    tagged = Tagged("torchrun")
    text = b"[default1]:s3c[default0]:  first\n[default1]:r3t\nERROR: [epoch3]: x [default"
    assert tagged.feed(text) + tagged.rest() == b"[0]   first\n[1] s3cr3t\nERROR: [epoch3]: x [default\n"


def test_only_the_output_of_such_starters_is_touched():
    assert type(untangled(spec_of())) is Untagged
    assert type(untangled(spec_of(distribution=DistributionSpec("tensorflow")))) is Untagged
    assert type(untangled(spec_of(distribution=DistributionSpec("torchrun")))) is Tagged
    assert type(untangled(spec_of(distribution=DistributionSpec("mpi")))) is Tagged
    assert (Untagged().feed(PIECES), Untagged().rest()) == (PIECES, b"")


@pytest.mark.parametrize(
    ("kind", "tags"),
    [("torchrun", (b"[default0]:", b"[default1]:")), ("mpi", (b"[1,0]<stdout>:", b"[1,1]<stderr>:"))],
)
def test_the_node_that_stands_before_a_line_of_its_log_stays_there(kind, tags):
    tagged = Tagged(kind)
    text = b"[node 0] %sa\n[node 1] %sb\n[node 1] of the starter\n" % tags
    assert tagged.feed(text) + tagged.rest() == b"[node 0] [0] a\n[node 1] [1] b\n[node 1] of the starter\n"
