from __future__ import annotations

from dataclasses import replace

import pytest

from airflow_mlpipe.exceptions import RecordFormatError
from airflow_mlpipe.resolving.launched import Launched, complete_result, discard
from airflow_mlpipe.runtime.protocol import OutputRef, OutputSpec, StepResult, StepSpec
from airflow_mlpipe.runtime.results import read_result, write_result
from airflow_mlpipe.store import layout, log
from airflow_mlpipe.store.log import Owner
from airflow_mlpipe.store.outputs import publish
from airflow_mlpipe.store.store import Store

FP = "ab" * 32
SPEC = StepSpec("p", "train", "command", (("train",),), outputs={"model": OutputSpec()}, target={"kind": "docker"})
OWNER = Owner.here("p", "r1", "train", "p/r1/train/-1")


@pytest.fixture
def store(tmp_path):
    return Store.open(str(tmp_path / "store"))


@pytest.fixture
def published(store, tmp_path):
    (tmp_path / "model").write_text("model")
    content = publish(store, FP, "c1", "model", tmp_path / "model")
    result = StepResult(
        exit_code=0, seconds=2.5, outputs={"model": OutputRef(layout.output(FP, "c1", "model"), content)}
    )
    write_result(store, FP, "c1", result)
    return result


def test_what_was_launched_comes_back(store):
    launched = Launched(FP, "c1", "c0", SPEC, "plan", regenerate=True)
    assert Launched.read(store, OWNER) is None
    launched.write(store, OWNER)
    assert Launched.read(store, OWNER) == launched


def test_a_damaged_note_of_what_was_launched_is_named(store):
    store.write(layout.launched("p", "r1", "train"), b'{"fingerprint": 1}')
    with pytest.raises(RecordFormatError, match="launched/train"):
        Launched.read(store, OWNER)


def test_a_complete_result_is_found_without_what_was_printed(store, published):
    write_result(store, FP, "c1", replace(published, tail=("secret line",)))
    assert complete_result(store, SPEC, FP, "c1") == published


@pytest.mark.parametrize(
    "change",
    [{"error": "exit code 1"}, {"exit_code": 1}, {"exit_code": None}, {"outputs": {}}],
    ids=["error", "exit code", "no exit code", "no outputs"],
)
def test_a_result_that_is_not_complete_is_none(store, published, change):
    write_result(store, FP, "c1", replace(published, **change))
    assert complete_result(store, SPEC, FP, "c1") is None


def test_a_result_whose_outputs_lie_elsewhere_is_none(store, published):
    write_result(store, FP, "c2", published)
    assert complete_result(store, SPEC, FP, "c2") is None


@pytest.mark.usefixtures("published")
def test_a_result_whose_outputs_are_not_what_the_step_declares_is_none(store):
    folder = replace(SPEC, outputs={"model": OutputSpec(kind="folder")})
    more = replace(SPEC, outputs={"model": OutputSpec(), "report": OutputSpec()})
    assert [complete_result(store, spec, FP, "c1") for spec in (folder, more)] == [None, None]


@pytest.mark.usefixtures("published")
def test_a_result_whose_outputs_are_damaged_is_none(store):
    store.write(layout.output(FP, "c1", "model"), b"mod")
    assert complete_result(store, SPEC, FP, "c1") is None


@pytest.mark.parametrize("content", [b"", b"[]", b'{"version": 99}', b'{"version": 1, "outputs": 3}'])
def test_a_result_that_cannot_be_read_is_none(store, content):
    store.write(layout.result(FP, "c1"), content)
    assert read_result(store, FP, "c1") is None


def test_what_was_published_goes_if_nobody_has_recorded_it_or_may_do_so(store, published):
    first = replace(log.claim(store, FP, OWNER), id="c1")
    second = log.claim(store, FP, replace(OWNER, try_number=2))
    discard(store, FP, first.id)
    assert complete_result(store, SPEC, FP, "c1") == published
    log.release(store, second)
    discard(store, FP, first.id)
    assert store.sizes(layout.OUTPUTS) == {}


@pytest.mark.usefixtures("published")
def test_what_others_have_recorded_is_not_discarded(store):
    log.claim(store, FP, OWNER)
    second = log.claim(store, FP, replace(OWNER, try_number=2))
    log.commit(store, second, {"by": "second"}, adopted="c1")
    discard(store, FP, "c1")
    assert store.exists(layout.output(FP, "c1", "model"))
