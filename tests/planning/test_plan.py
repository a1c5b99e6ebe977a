from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_mlpipe.fingerprint import fingerprint
from airflow_mlpipe.planning.bind import components
from airflow_mlpipe.planning.explain import Reason
from airflow_mlpipe.planning.gate import Gate
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


def decide(tasks, store, read_inputs=lambda given: given, outside=()):
    explain = lambda given: (Reason("record", f"{given.step} is new"),)  # noqa: E731
    decisions = plan(tasks, read_inputs, store.look_up, explain, lambda path: f"x://{path}", outside)
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
    assert (decision.choice, [reason.component for reason in decision.reasons]) == ("run", ["regenerate_outputs"])


def test_regenerate_outputs_hides_no_other_reason():
    (decision,) = decide([Task(spec("a"), regenerate=True)], FakeStore()).values()
    assert [reason.component for reason in decision.reasons] == ["regenerate_outputs", "record"]


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


def evicted_chain(store, *last):
    """Give `a` and `b`, which takes its data, records without outputs; `c` takes the data of `b`."""
    store.has(spec("a"), "A", evicted=True)
    store.has(filled(spec("b", "a"), a="A"), "B", evicted=True)
    return [Task(spec("a")), Task(spec("b", "a")), *last]


def choices(decided):
    return {name: decision.choice for name, decision in decided.items()}


def test_rule_12_what_was_evicted_is_reused_where_all_that_need_it_are():
    store = FakeStore()
    tasks = evicted_chain(store, Task(spec("c", "b")))
    store.has(filled(spec("c", "b"), b="B"), "C")
    assert choices(decide(tasks, store)) == {"a": "reuse", "b": "reuse", "c": "reuse"}


def test_rule_12_what_was_evicted_is_made_again_with_all_it_needs_where_a_step_must_run():
    store = FakeStore()
    decided = decide(evicted_chain(store, Task(spec("c", "b"))), store)
    assert choices(decided) == {"a": "run", "b": "depends", "c": "depends"}
    assert decided["a"].reasons == (Reason("outputs", "its outputs were evicted, and b needs them"),)


def test_rule_12_the_last_step_is_reused_without_its_outputs_unless_somebody_outside_reads_them():
    store = FakeStore()
    tasks = evicted_chain(store)
    assert choices(decide(tasks, store)) == {"a": "reuse", "b": "reuse"}
    decided = decide(tasks, store, outside=["b"])
    assert choices(decided) == {"a": "run", "b": "depends"}
    store = FakeStore()
    store.has(spec("a"), "A", evicted=True)
    (alone,) = decide([Task(spec("a"))], store, outside=["a"]).values()
    assert alone.reasons == (Reason("outputs", "its outputs were evicted, and a task outside the pipeline needs them"),)


def test_rule_12_what_is_there_is_not_made_again_with_what_was_evicted():
    store = FakeStore()
    store.has(spec("a"), "A", evicted=True)
    store.has(spec("b"), "B")
    decided = decide([Task(spec("a")), Task(spec("b")), Task(spec("c", "a", "b"))], store)
    assert choices(decided) == {"a": "run", "b": "reuse", "c": "depends"}


def test_rule_12_what_comes_to_depend_on_an_evicted_step_finds_its_other_inputs_there():
    """`d` must run and needs `a` again; so `c` is decided in its turn, and may need `b`."""
    store = FakeStore()
    for name in ("a", "b"):
        store.has(spec(name), name.upper(), evicted=True)
    store.has(filled(spec("c", "a", "b"), a="A", b="B"), "C")
    tasks = [Task(spec("a")), Task(spec("b")), Task(spec("c", "a", "b")), Task(spec("d", "a"))]
    assert choices(decide(tasks, store)) == {"a": "run", "b": "run", "c": "depends", "d": "depends"}


def test_rule_12_an_order_alone_needs_no_outputs():
    store = FakeStore()
    store.has(spec("a"), "A", evicted=True)
    assert choices(decide([Task(spec("a")), Task(spec("b"), run_after=("a",))], store)) == {"a": "reuse", "b": "run"}


steps_of_a_graph = st.lists(
    st.tuples(st.sets(st.integers(0, 30), max_size=3), st.sampled_from(["there", "evicted", "none"])), max_size=12
)


@given(steps_of_a_graph, st.sets(st.integers(0, 12)))
def test_rule_12_whatever_may_run_finds_what_it_takes_data_from(graph, read_outside):
    store, tasks, takes = FakeStore(), [], {}
    for number, (befores, state) in enumerate(graph):
        name = f"s{number}"
        takes[name] = sorted({f"s{before % number}" for before in befores} if number else ())
        bare = spec(name, *takes[name], code=f"sha256:{name}")
        tasks.append(Task(bare))
        if state != "none":
            store.has(filled(bare, **{before: before for before in takes[name]}), name, evicted=state == "evicted")
    outside = {f"s{number}" for number in read_outside}
    decided = decide(tasks, store, outside=outside)
    gone = {name for name, each in decided.items() if each.choice == "reuse" and each.found.evicted}
    assert not gone & outside
    assert not gone & {before for name, each in decided.items() if each.choice != "reuse" for before in takes[name]}


def gated(name: str, text: str, *producers: str, run_after=(), **parameters) -> Task:
    gate = Gate("${{ " + text + " }}", parameters)
    return Task(spec(name, *producers), (*run_after, *gate.steps), gate=gate)


def evaluated(auc: float = 0.83) -> FakeStore:
    store = FakeStore()
    store.has(spec("evaluate"), "E", metrics={"auc": auc})
    return store


LEAST = "steps.evaluate.metrics.auc > 0.9"


def test_a_condition_on_reused_steps_is_decided_in_the_plan():
    decided = decide([Task(spec("evaluate")), gated("train", LEAST)], evaluated())
    assert (decided["train"].choice, decided["train"].reasons) == (
        "not_run",
        (Reason("run_if", f"{LEAST} is false: auc is 0.83"),),
    )


def test_a_step_whose_condition_holds_is_decided_as_usual():
    store = evaluated(0.95)
    tasks = [Task(spec("evaluate")), gated("train", LEAST)]
    assert decide(tasks, store)["train"].choice == "run"
    store.has(spec("train"), "T")
    assert decide(tasks, store)["train"].choice == "reuse"


def test_rule_3_a_condition_does_not_count_for_the_fingerprint():
    store = evaluated(0.95)
    store.has(spec("train"), "T")
    tasks = [Task(spec("evaluate")), gated("train", "steps.evaluate.metrics.auc > 0.1"), Task(spec("train2"))]
    with_one, other = decide(tasks, store)["train"], decide([Task(spec("train"))], store)["train"]
    assert with_one.fingerprint == other.fingerprint


def test_a_condition_on_a_step_that_runs_is_decided_in_its_turn_also_where_the_step_must_run():
    forced = gated("train", LEAST)
    tasks = [Task(spec("evaluate")), forced, replace(forced, spec=spec("anew"), allow_reuse=False)]
    decided = decide(tasks, FakeStore())
    for name in ("train", "anew"):
        assert (decided[name].choice, decided[name].depends_on) == ("depends", ("evaluate",))


def test_a_condition_on_parameters_alone_is_decided_whatever_comes_before():
    decided = decide([Task(spec("make")), gated("train", "parameters.go", "make", go=False)], FakeStore())
    assert decided["train"].choice == "not_run"


def test_what_needs_the_data_of_a_step_that_is_not_run_is_not_run_and_what_only_follows_it_is():
    store = evaluated()
    store.has(spec("after"), "A")
    tasks = [
        Task(spec("evaluate")),
        gated("train", LEAST),
        Task(spec("deploy", "train")),
        Task(spec("tell", "deploy", "evaluate")),
        Task(spec("after"), run_after=("train",)),
        Task(spec("report"), run_after=("train",)),
    ]
    decided = decide(tasks, store)
    assert {name: each.choice for name, each in decided.items()} == {
        "evaluate": "reuse",
        "train": "not_run",
        "deploy": "not_run",
        "tell": "not_run",
        "after": "reuse",
        "report": "run",
    }
    assert decided["deploy"].reasons == (Reason("upstream", "train was not run"),)


def test_a_condition_on_a_step_that_is_not_run_does_not_hold():
    tasks = [Task(spec("evaluate")), gated("train", LEAST), gated("deploy", "steps.train.metrics.loss < 1")]
    reason = Reason("upstream", "train, whose metrics its condition names, was not run")
    assert decide(tasks, evaluated())["deploy"].reasons == (reason,)


def test_a_condition_that_cannot_be_worked_out_fails_in_its_turn():
    decided = decide([Task(spec("evaluate")), gated("train", "steps.evaluate.metrics.acu > 1")], evaluated())
    assert (decided["train"].choice, decided["train"].depends_on) == ("depends", ("evaluate",))
    assert "evaluate logged no metric 'acu'" in decided["train"].reasons[0].what


def test_rule_12_a_step_that_is_not_run_needs_no_evicted_outputs():
    store = FakeStore()
    store.has(spec("evaluate"), "E", metrics={"auc": 0.1}, evicted=True)
    decided = decide([Task(spec("evaluate")), gated("train", LEAST, "evaluate")], store)
    assert {name: each.choice for name, each in decided.items()} == {"evaluate": "reuse", "train": "not_run"}
