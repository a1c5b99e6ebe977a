from __future__ import annotations

import pytest

from airflow_mlpipe.exceptions import ParameterError
from airflow_mlpipe.operators.regenerate import chosen_steps

STEPS = {"prepare", "train", "report"}


@pytest.mark.parametrize("nothing", [None, "", "none", [], (), ["none"]])
def test_none_chooses_no_step(nothing):
    assert chosen_steps(nothing, STEPS) == frozenset()


@pytest.mark.parametrize("everything", ["all", ["all"], ("all",), ["train", "all"]])
def test_all_chooses_every_step_also_among_others(everything):
    assert chosen_steps(everything, STEPS) == STEPS


@pytest.mark.parametrize("one", ["train", ["train"], ("train",), ["train", "train"]])
def test_a_step_is_chosen_by_its_name_alone_or_in_a_list(one):
    assert chosen_steps(one, STEPS) == {"train"}


@pytest.mark.parametrize("wrong", [["trian"], "trian", 3, True, {"train": True}, ["train", "none"]])
def test_what_is_no_step_is_refused_and_what_may_be_given_is_said(wrong):
    with pytest.raises(ParameterError, match="Give none, all, or a list of: prepare, report, train"):
        chosen_steps(wrong, STEPS)


def test_every_unknown_name_comes_at_once():
    with pytest.raises(ParameterError, match=r"names no step of this pipeline: 'trian', 5\."):
        chosen_steps(["trian", "prepare", 5], STEPS)
