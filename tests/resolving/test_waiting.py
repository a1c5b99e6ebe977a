from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from airflow_mlpipe.exceptions import DataError
from airflow_mlpipe.resolving.predicate import Predicate
from airflow_mlpipe.resolving.waiting import Ending, Waiting, Wanted, moment_text
from airflow_mlpipe.store.entries import Log, Record
from airflow_mlpipe.store.journal import Use
from tests.journaled import moments

LATE = datetime(2025, 1, 31, tzinfo=timezone.utc)
WANTED = Wanted("digits", "train", after=LATE)
RECORD = Record(
    "f" * 64,
    2,
    "c",
    {"outputs": {"model": {}}, "made_by": {"pipeline": "digits", "run": "r0"}},
    "2025-02-01T10:02:00+00:00",
)


def ending(run="r1", moment="2025-01-31", outcome="reused", time="2025-02-01T10:02:00+00:00", **use):
    names = {"outputs": {"model": {}}, "metrics": {"accuracy": 0.8}, "parameters": {"c": 1.0}}
    found = Use("train", outcome) if outcome == "failed" else Use("train", outcome, "f" * 64, 2, **{**names, **use})
    return Ending(1, "digits", run, time, moments(moment) if moment else {}, found)


def there(_fingerprint, _number, _names):
    return RECORD, {"model": "the model"}


def lost(_fingerprint, _number, _names):
    return "its output model is lost: it is gone"


def seen(waiting, *endings, there=there):
    for each in endings:
        assert waiting.consider(each, there) is None
    return waiting.message()


@pytest.mark.parametrize("moment", ["2025-01-31", "2025-02-07", "2025-01-31T00:00:00"])
@pytest.mark.parametrize("outcome", ["ran", "reused", "waited"])
def test_a_run_that_is_late_enough_confirms_whether_it_made_or_reused_the_output(moment, outcome):
    found = Waiting(WANTED).consider(ending(moment=moment, outcome=outcome), there)
    assert (found.record, found.outputs) == (RECORD, {"model": "the model"})
    assert (found.by["run"], found.by["outcome"]) == ("r1", outcome)
    assert found.made_by == {"pipeline": "digits", "run": "r0"}
    assert found.to_json() == {"fingerprint": "f" * 64, "number": 2, "by": found.by}


def test_what_was_found_is_said_in_words():
    found = Waiting(WANTED).consider(ending(), there)
    assert str(found) == "run r1 of digits reused it at 2025-02-01 10:02 UTC"


def test_the_message_says_what_is_waited_for_and_what_was_seen_last():
    assert seen(Waiting(WANTED), ending("scheduled__2025-01-24", "2025-01-24")) == (
        "waits for train of digits by a run for 2025-01-31 or later; last seen: run scheduled__2025-01-24 reused it at "
        "2025-02-01 10:02 UTC, which is for 2025-01-24"
    )


def test_a_run_counts_by_its_logical_date_and_without_one_by_when_it_could_start():
    assert "which is for 2025-01-30 23:59:59 UTC" in seen(Waiting(WANTED), ending(moment="2025-01-30T23:59:59"))
    assert seen(Waiting(WANTED), ending(moment=None)).endswith("which is for no date")
    early = ending(moment=None)
    assert Waiting(Wanted("digits", "train")).consider(early, there)


def test_a_step_that_failed_confirms_nothing():
    assert seen(Waiting(WANTED), ending(outcome="failed")).endswith("run r1 failed in it at 2025-02-01 10:02 UTC")


def test_an_output_that_is_lost_confirms_nothing_and_the_message_says_so():
    assert seen(Waiting(WANTED), ending(), there=lost).endswith(", but its output model is lost: it is gone")


def test_a_record_that_the_worker_did_not_find_is_not_found_again():
    waiting = Waiting(WANTED, rejected=frozenset({f"{'f' * 64}/2"}))
    assert "see that triggerer and worker reach the same store" in seen(waiting, ending())


def test_what_was_seen_last_is_the_last_in_time_however_it_is_read():
    early, late = ending("r1", "2025-01-24"), ending("r2", "2025-01-25", time="2025-02-01T11:00:00+00:00")
    assert "last seen: run r2" in seen(Waiting(WANTED), early, late)
    assert "last seen: run r2" in seen(Waiting(WANTED), late, early)


def test_a_condition_is_asked_of_metrics_and_parameters():
    wanted = Wanted("digits", "train", where=Predicate.parse("metrics.accuracy >= 0.9 and parameters.c < 2"))
    assert seen(Waiting(wanted), ending()).endswith(", but metrics.accuracy is 0.8 and parameters.c is 1.0")
    assert Waiting(wanted).consider(ending(metrics={"accuracy": 0.9}), there)


def test_an_output_that_only_earlier_runs_had_is_waited_for():
    waiting = Waiting(Wanted("digits", "train", ("report",)))
    message = seen(
        waiting, ending(), ending("r0", outputs={"report": {}}, time="2025-01-01T00:00:00+00:00"), there=lost
    )
    waiting.check_names()
    assert message.endswith("10:02 UTC, without output report")


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (Wanted("digits", "train", ("modle",)), "no run of train so far has output modle; there are output model"),
        (
            Wanted("digits", "train", where=Predicate.parse("metrics.acuracy > 0")),
            "has metrics.acuracy; there are metrics.accuracy",
        ),
        (
            Wanted("digits", "train", where=Predicate.parse("parameters.d > 0")),
            "has parameters.d; there are parameters.c",
        ),
    ],
)
def test_what_no_run_has_is_not_waited_for_and_the_names_there_are_are_told(wanted, said):
    waiting = Waiting(wanted)
    waiting.check_names()  # nothing is known yet
    waiting.consider(ending(), there)
    with pytest.raises(DataError) as error:
        waiting.check_names()
    assert str(error.value).startswith(f"waits in vain for {wanted}: ")
    assert str(error.value).endswith(said)


def test_metrics_of_a_step_that_has_none_are_not_waited_for():
    waiting = Waiting(Wanted("digits", "train", where=Predicate.parse("metrics.auc > 0")))
    waiting.consider(ending(metrics={}), there)
    with pytest.raises(DataError, match="there are no metrics at all"):
        waiting.check_names()


def test_names_are_checked_once_they_were_seen():
    waiting = Waiting(Wanted("digits", "train", ("model",), after=LATE))
    seen(waiting, ending(moment="2025-01-24"))
    assert waiting.checked
    later = Waiting(waiting.wanted, checked=waiting.checked)
    seen(later, ending(outputs={"other": {}}))
    later.check_names()


def test_where_nothing_was_seen_the_message_names_the_steps_there_are():
    waiting = Waiting(Wanted("digits", "trian"))
    assert waiting.message() == "waits for trian of digits; no run of digits has ended a step yet"
    waiting.note_steps(["train", "clean"])
    assert waiting.message().endswith("no run of digits has ended a step trian yet. Did you mean train?")


def test_trouble_is_part_of_the_message():
    waiting = Waiting(WANTED, news="last seen: nothing", trouble="the last look failed: no route")
    assert waiting.message().endswith("; last seen: nothing; the last look failed: no route")


class Records(Log):
    """A log with just these records."""

    records = (RECORD,)


def test_a_record_of_a_fingerprint_is_what_is_waited_for():
    waiting = Waiting(Wanted(fingerprint="f" * 64))
    assert waiting.consider_records(Log("f" * 64, ()), there) is None
    assert waiting.message() == "waits for a record of fingerprint ffffffffffff...; there is none yet"
    assert waiting.consider_records(Records("f" * 64, ()), lost) is None
    assert waiting.message().endswith("; there is one, but its output model is lost: it is gone")
    found = waiting.consider_records(Records("f" * 64, ()), there)
    assert found.by == {"pipeline": "digits", "run": "r0", "outcome": "ran", "time": RECORD.time, "moments": {}}


def test_an_output_that_no_record_of_a_fingerprint_has_is_not_waited_for():
    waiting = Waiting(Wanted(fingerprint="f" * 64, outputs=("modle",)))
    with pytest.raises(DataError, match="no record of this fingerprint has output modle; there are output model"):
        waiting.consider_records(Records("f" * 64, ()), lost)


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (Wanted("digits", "train"), "train of digits"),
        (
            Wanted("digits", "train", ("model",), LATE),
            "output model of train of digits by a run for 2025-01-31 or later",
        ),
        (
            Wanted("digits", "train", ("a", "b"), LATE, Predicate.parse("metrics.x > 1")),
            "output a and b of train of digits by a run for 2025-01-31 or later with metrics.x > 1",
        ),
        (Wanted(fingerprint="a" * 64, outputs=("m",)), "output m of a record of fingerprint aaaaaaaaaaaa..."),
    ],
)
def test_what_is_wanted_is_said_in_words_and_survives_json(wanted, said):
    assert str(wanted) == said
    assert Wanted.from_json(wanted.to_json()) == wanted


def test_moments_are_shown_as_people_write_them():
    assert moment_text(LATE) == "2025-01-31"
    assert moment_text(LATE + timedelta(hours=10, minutes=2)) == "2025-01-31 10:02 UTC"
    assert moment_text(LATE.replace(second=5, microsecond=7)) == "2025-01-31 00:00:05 UTC"
    assert moment_text(LATE.astimezone(timezone(timedelta(hours=2)))) == "2025-01-31"
