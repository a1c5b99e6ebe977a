from __future__ import annotations

import pytest

from airflow_mlpipe.planning.explain import (
    Reason,
    differences,
    dump_reasons,
    load_reasons,
    sentence,
    summary,
)

BASE = {
    "kind": "python_script",
    "command": [[{"interpreter": ""}], ["train.py"], ["--data=", {"input": "data"}]],
    "code": "sha256:aaa",
    "environment": {"python": "3.11.7", "variables": {"MODE": "train"}},
    "inputs": {"data": "sha256:" + "1" * 64},
    "parameters": {"c": 1.0},
    "run": {},
    "outputs": {"model": None},
}
FILES = {
    "sha256:aaa": {"train.py": "sha256:" + "a" * 64, "train/utils.py": "sha256:" + "b" * 64},
    "sha256:bbb": {"train.py": "sha256:" + "a" * 64, "train/utils.py": "sha256:" + "c" * 64},
}


def changed(**components):
    return differences(BASE, {**BASE, **components}, FILES.get)


def test_equal_components_give_no_reason():
    assert changed() == ()


def test_a_changed_file_is_named():
    (reason,) = changed(code="sha256:bbb")
    assert reason.what == "train/utils.py"
    assert sentence(reason) == "train/utils.py changed"


def test_new_and_removed_files_are_named():
    files = {"sha256:aaa": {"old.py": "sha256:1"}, "sha256:bbb": {"new.py": "sha256:2"}}
    reasons = differences(BASE, {**BASE, "code": "sha256:bbb"}, files.get)
    assert [sentence(reason) for reason in reasons] == ["new.py is new", "old.py is gone"]


def test_a_file_that_became_executable_is_named():
    files = {"sha256:aaa": {"run.sh": "sha256:1"}, "sha256:bbb": {"run.sh": "sha256:1 executable"}}
    (reason,) = differences(BASE, {**BASE, "code": "sha256:bbb"}, files.get)
    assert (reason.what, reason.old, reason.new) == ("run.sh", "1", "1 executable")


def test_many_changed_files_are_counted():
    files = {"sha256:aaa": {}, "sha256:bbb": {f"f{i:03}.py": "sha256:1" for i in range(50)}}
    reasons = differences(BASE, {**BASE, "code": "sha256:bbb"}, files.get)
    assert sentence(reasons[-1]) == "and 30 more files"


def test_a_snapshot_that_is_gone_still_says_code():
    (reason,) = differences(BASE, {**BASE, "code": "sha256:zzz"}, FILES.get)
    assert reason.component == "code"


@pytest.mark.parametrize(
    ("component", "value", "expected"),
    [
        ("parameters", {"c": 0.5}, "parameter c: 1.0 -> 0.5"),
        ("parameters", {"c": 1}, "parameter c: 1.0 -> 1"),
        ("parameters", {"c": 1.0, "d": "x"}, "parameter d is new: x"),
        ("parameters", {}, "parameter c is gone (was 1.0)"),
        ("inputs", {"data": "sha256:" + "2" * 64}, "input data changed"),
        ("environment", {**BASE["environment"], "python": "3.12.1"}, "environment python: 3.11.7 -> 3.12.1"),
        (
            "environment",
            {"python": "3.11.7", "variables": {"MODE": "eval"}},
            "environment variables.MODE: train -> eval",
        ),
        (
            "command",
            [[{"interpreter": ""}], ["train.py"]],
            "command: <interpreter> train.py --data=<input data> -> <interpreter> train.py",
        ),
        ("kind", "command", "kind of step: python_script -> command"),
    ],
)
def test_each_component_is_said_in_words(component, value, expected):
    (reason,) = changed(**{component: value})
    assert reason.component == component
    assert sentence(reason) == expected


def test_code_comes_first():
    reasons = changed(code="sha256:bbb", parameters={"c": 2.0})
    assert [reason.component for reason in reasons] == ["code", "parameters"]


def test_true_and_one_differ():
    (reason,) = differences({**BASE, "parameters": {"c": 1}}, {**BASE, "parameters": {"c": True}}, FILES.get)
    assert (reason.old, reason.new) == ("1", "true")


def test_reasons_survive_json():
    reasons = changed(code="sha256:bbb", parameters={"c": 2.0})
    assert load_reasons(dump_reasons(reasons)) == reasons


def test_a_summary_names_the_first_and_counts_the_rest():
    reasons = [Reason("parameters", f"p{i}", "1", "2") for i in range(5)]
    assert summary(reasons) == "parameter p0: 1 -> 2; parameter p1: 1 -> 2; parameter p2: 1 -> 2; and 2 more"


LOCKS = {"sha256:l1": {"humanize": "4.17.0", "numpy": "2.1"}, "sha256:l2": {"humanize": "4.9.0", "numpy": "2.1"}}


def environment(**parts):
    return differences({**BASE, "environment": {"lock": "sha256:l1"}}, {**BASE, "environment": parts}, LOCKS.get)


def test_a_changed_lock_is_told_by_its_packages():
    (reason,) = environment(lock="sha256:l2")
    assert sentence(reason) == "humanize: 4.17.0 -> 4.9.0"


def test_what_else_of_the_environment_changed_is_told_beside_the_packages():
    reasons = environment(lock="sha256:l2", python="3.12")
    assert [sentence(reason) for reason in reasons] == ["environment python is new: 3.12", "humanize: 4.17.0 -> 4.9.0"]


@pytest.mark.parametrize("lock", ["sha256:l9", None])
def test_a_lock_that_is_gone_is_told_as_such(lock):
    reasons = environment(**({"lock": lock} if lock else {}))
    assert [(reason.component, reason.what) for reason in reasons] == [("environment", "lock")]


def sweep(*values, **fields):
    return {"trials": [{"c": value} for value in values], "metric": "auc", "goal": "maximize", **fields}


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        (sweep(1), sweep(1, 2), "1 trial is new (c=2)"),
        (sweep(1, 2, 3), sweep(1), "2 trials are gone (c=2; c=3)"),
        (sweep(1), sweep(*range(1, 7)), "5 trials are new (c=2; c=3; c=4; and 2 more)"),
        (sweep(1), sweep(1.0), "1 trial is new (c=1.0); 1 trial is gone (c=1)"),
        (sweep(1, 2), sweep(2, 1), "its trials are in another order"),
        (sweep(1), sweep(1, goal="minimize"), "sweep goal: maximize -> minimize"),
        (None, sweep(1), "1 trial is new (c=1); sweep goal is new: maximize; sweep metric is new: auc"),
    ],
)
def test_what_differs_in_a_sweep_is_said_trial_by_trial(before, now, said):
    assert summary(differences({**BASE, "sweep": before}, {**BASE, "sweep": now}, FILES.get)) == said
