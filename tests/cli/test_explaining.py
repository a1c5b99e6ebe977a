from __future__ import annotations

from dataclasses import replace

from airflow_mlpipe.cli.explaining import Explanation, defaults, explanations, lines, to_json
from airflow_mlpipe.cli.report import RunReport, StepReport
from airflow_mlpipe.planning.explain import Reason
from airflow_mlpipe.store.store import Store

CHANGED = Reason("code", "train.py", "aaa", "bbb")
RATE = Reason("parameters", "rate", "1.0", "0.5")
RAN = StepReport("train", "ran", (CHANGED, RATE), 2.0, "f")
THEN = RunReport("p", "nightly", "success", (RAN,))
NOW = RunReport("p", None, "planned", (StepReport("train", "depends", depends_on=("clean",)),))


def test_every_reason_has_a_line_with_both_its_values():
    assert list(lines(THEN, Explanation("train", RAN, None))) == [
        "train",
        "  in the run of nightly: ran in 2.0 s, because",
        "    train.py changed (aaa -> bbb)",
        "    parameter rate: 1.0 -> 0.5",
    ]


def test_what_it_would_do_now_is_said_too():
    (explained,) = explanations(THEN, NOW, ["train"])
    assert list(lines(THEN, explained))[-1] == "  now: depends on clean"
    run = Explanation("train", None, StepReport("train", "run", (RATE,)))
    assert list(lines(None, run)) == [
        "train",
        "  has not run yet",
        "  now: it would run, because",
        "    parameter rate: 1.0 -> 0.5",
    ]


def test_a_default_that_another_value_had_taken_the_place_of_is_named():
    then = replace(THEN, parameters={"rate": 0.5, "rounds": 3, "seed": 1})
    now = replace(NOW, parameters={"rate": 1.0, "rounds": 4, "seed": 1, "new": 2})
    premise = defaults(then, now, {"rounds"})
    assert premise == "with the default of rate = 1.0, which was 0.5"
    (explained,) = explanations(then, now, ["train"])
    assert list(lines(then, explained, premise))[-1] == f"  now, {premise}: depends on clean"
    assert defaults(then, now, {"rate", "rounds"}) == defaults(None, now, ()) == defaults(then, None, ()) == ""


def test_a_reused_step_says_since_when_nothing_has_changed():
    reused = StepReport("train", "reused", made_by={"run": "monthly"})
    assert list(lines(THEN, Explanation("train", reused, None)))[1].endswith("reused, unchanged since monthly")


def test_as_json_a_step_has_what_it_did_and_what_it_would_do(tmp_path):
    data = to_json("p", THEN, explanations(THEN, NOW, ["train"]), Store.open(str(tmp_path)))
    assert (data["pipeline"], data["run_id"]) == ("p", "nightly")
    (step,) = data["steps"]
    assert step["outcome"] == "ran"
    assert step["reasons"][0] == {"component": "code", "what": "train.py", "old": "aaa", "new": "bbb"}
    assert (step["now"]["decision"], step["now"]["depends_on"]) == ("depends", ["clean"])
