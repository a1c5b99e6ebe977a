from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from airflow_mlpipe.fingerprint import fingerprint
from airflow_mlpipe.planning.bind import components
from airflow_mlpipe.planning.explain import Reason
from airflow_mlpipe.planning.plan import Found, Missing, Task, plan
from airflow_mlpipe.runtime.protocol import Content, InputSpec, OutputRef, OutputSpec, StepSpec


def spec(name: str, *producers: str, code: str = "sha256:c") -> StepSpec:
    inputs = {producer: InputSpec(producer=(producer, "out")) for producer in producers}
    return StepSpec("p", name, "command", (("run", name),), code, inputs, {"out": OutputSpec()})


def content(text: str) -> Content:
    return Content("file", f"sha256:{text}", 1, 1)


@dataclass
class FakeStore:
    """Records by fingerprint: the digests of a step's output."""

    records: dict[str, Found] = field(default_factory=dict)

    def has(self, known: StepSpec, digest: str, **options) -> str:
        key = fingerprint(components(known))
        self.records[key] = Found(1, {"out": OutputRef(f"outputs/{known.step}", content(digest))}, **options)
        return key

    def look_up(self, _spec, key):
        return self.records.get(key, Missing())


def filled(known: StepSpec, **digests: str) -> StepSpec:
    return known.with_inputs(
        {
            name: InputSpec(f"x://outputs/{name}", content(digest), producer=(name, "out"))
            for name, digest in digests.items()
        }
    )


def decide(tasks, store, read_inputs=lambda given: given):
    explain = lambda given: (Reason("record", f"{given.step} is new"),)  # noqa: E731
    decisions = plan(tasks, read_inputs, store.look_up, explain, lambda path: f"x://{path}")
    return {decision.step: decision for decision in decisions}


def test_a_chain_with_records_is_reused_as_a_whole():
    store = FakeStore()
    store.has(spec("a"), "A")
    store.has(filled(spec("b", "a"), a="A"), "B")
    decided = decide([Task(spec("a")), Task(spec("b", "a"))], store)
    assert [d.choice for d in decided.values()] == ["reuse", "reuse"]


def test_what_needs_a_step_that_runs_depends_on_it():
    decided = decide([Task(spec("a")), Task(spec("b", "a")), Task(spec("c", "b"))], FakeStore())
    assert decided["a"].choice == "run"
    assert (decided["b"].choice, decided["b"].depends_on) == ("depends", ("a",))
    assert (decided["c"].choice, decided["c"].depends_on) == ("depends", ("b",))


def test_a_sibling_of_a_step_that_runs_is_still_reused():
    store = FakeStore()
    store.has(spec("b"), "B")
    decided = decide([Task(spec("a")), Task(spec("b"))], store)
    assert (decided["a"].choice, decided["b"].choice) == ("run", "reuse")


def test_the_digest_of_the_record_decides_about_its_consumer():
    store = FakeStore()
    store.has(spec("a"), "A2")
    store.has(filled(spec("b", "a"), a="A1"), "B")
    assert decide([Task(spec("a")), Task(spec("b", "a"))], store)["b"].choice == "run"


def test_run_after_a_step_that_runs_is_decided_in_its_turn():
    store = FakeStore()
    store.has(spec("b"), "B")
    decided = decide([Task(spec("a")), Task(spec("b"), run_after=("a",))], store)
    assert (decided["b"].choice, decided["b"].depends_on) == ("depends", ("a",))


def test_what_follows_a_task_outside_the_pipeline_is_decided_in_its_turn():
    store = FakeStore()
    store.has(spec("a"), "A")
    decided = decide([Task(spec("a"), run_after=("users_download",))], store)
    assert (decided["a"].choice, decided["a"].depends_on) == ("depends", ("users_download",))


def test_rule_11_allow_reuse_false_never_looks():
    store = FakeStore()
    store.has(spec("a"), "A")
    (decision,) = decide([Task(spec("a"), allow_reuse=False)], store).values()
    assert (decision.choice, decision.reasons[0].component) == ("run", "allow_reuse")


def test_rule_11_regenerate_outputs_ignores_the_record():
    store = FakeStore()
    store.has(spec("a"), "A")
    (decision,) = decide([Task(spec("a"), regenerate=True)], store).values()
    assert (decision.choice, decision.reasons[0].component) == ("run", "regenerate_outputs")


def test_a_record_whose_destination_lost_the_copy_is_not_skipped():
    store = FakeStore()
    store.has(spec("a"), "A", undelivered=("out",))
    (decision,) = decide([Task(spec("a"))], store).values()
    assert (decision.choice, decision.reasons[0].component) == ("run", "destination")
    assert decision.found is not None


def test_external_inputs_of_a_dependent_step_are_not_read_ahead():
    def read(given):
        if given.step == "b":
            pytest.fail("b was read before its turn")
        return given

    decide([Task(spec("a")), Task(spec("b", "a"))], FakeStore(), read)


def test_a_step_name_is_not_in_the_fingerprint():
    renamed = StepSpec(**{**spec("a").__dict__, "step": "b", "pipeline": "q"})
    assert fingerprint(components(renamed)) == fingerprint(components(spec("a")))
