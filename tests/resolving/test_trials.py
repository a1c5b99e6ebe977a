from __future__ import annotations

from dataclasses import replace

import pytest

from airflow_mlpipe.planning.explain import Reason
from airflow_mlpipe.planning.plan import Decision
from airflow_mlpipe.planning.trials import trials_of
from airflow_mlpipe.resolving.decide import StoreLookUp
from airflow_mlpipe.resolving.trials import look_up_trials, with_trials
from airflow_mlpipe.runtime.composite import SweepSpec
from airflow_mlpipe.store import log as fingerprint_log
from tests.resolving.shelves import Shelves


@pytest.fixture
def shelves(tmp_path):
    return Shelves(tmp_path)


def swept(shelves, *values):
    spec = replace(shelves.spec("tune"), parameters={})
    return replace(spec, sweep=SweepSpec(tuple({"c": value} for value in values), "auc", "maximize"))


def made(shelves, spec, number, run="r0", **body):
    return shelves.made(spec_=trials_of(spec)[number - 1].spec, run=run, **body)


def look_up(shelves, run="r1"):
    return StoreLookUp(shelves.project.site, "p", run, lambda _: "python")


def test_what_others_have_run_is_known_and_the_rest_is_missing(shelves):
    spec = swept(shelves, 1.0, 2.0, 3.0)
    made(shelves, spec, 2, metrics={"auc": 0.5})
    tried = look_up_trials(look_up(shelves), spec)
    assert [trial.number for trial in tried.missing] == [1, 3]
    assert tried.line() == "1 of 3 trials are known"
    assert tried.best is not None
    assert tried.best[0].number == 2


def test_nothing_is_the_best_where_nothing_is_known(shelves):
    assert look_up_trials(look_up(shelves), swept(shelves, 1.0)).best is None


def test_only_what_this_run_has_made_counts_where_that_is_asked(shelves):
    spec = swept(shelves, 1.0, 2.0)
    made(shelves, spec, 1, run="r0")
    made(shelves, spec, 2, run="r1")
    assert set(look_up_trials(look_up(shelves), spec, only_this_run=True).found) == {2}


def test_a_trial_that_was_recorded_since_it_was_looked_up_is_found(shelves):
    spec = swept(shelves, 1.0)
    known = look_up(shelves)
    assert look_up_trials(known, spec).found == {}
    made(shelves, spec, 1)
    assert set(look_up_trials(known, spec).found) == {1}


def test_a_trial_whose_outputs_are_gone_is_missing_and_one_that_was_evicted_is_known(shelves):
    spec = swept(shelves, 1.0, 2.0)
    lost, evicted = made(shelves, spec, 1), made(shelves, spec, 2)
    fingerprint_log.evict(shelves.store, evicted.fingerprint, evicted.number, "room")
    shelves.store.remove(f"outputs/{lost.fingerprint}")
    tried = look_up_trials(look_up(shelves), spec)
    assert [trial.number for trial in tried.missing] == [1]
    assert tried.found[2].evicted


def test_a_decision_to_run_a_sweep_says_how_many_trials_are_known(shelves):
    spec = swept(shelves, 1.0, 2.0)
    made(shelves, spec, 1)
    why = (Reason("record", "it has not run before"),)
    told, unknown, plain = with_trials(
        look_up(shelves),
        [
            Decision("run", spec, "f" * 64, reasons=why),
            Decision("depends", spec, depends_on=("prepare",)),
            Decision("run", shelves.spec("train"), "f" * 64, reasons=why),
        ],
    )
    assert [reason.what for reason in told.reasons] == ["1 of 2 trials are known", "it has not run before"]
    assert unknown.reasons == ()
    assert plain.reasons == why


def test_where_every_trial_runs_anew_none_is_said_to_be_known(shelves):
    spec = swept(shelves, 1.0)
    made(shelves, spec, 1)
    for component in ("allow_reuse", "regenerate_outputs"):
        given = Decision("run", spec, "f" * 64, reasons=(Reason(component, "anew"),))
        assert with_trials(look_up(shelves), [given]) == [given]
