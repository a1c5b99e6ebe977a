from __future__ import annotations

from dataclasses import replace

import pytest

from airflow_mlpipe.definitions import CommandStep, DataReference, Environment, Pipeline, PythonScriptStep, Workspace
from airflow_mlpipe.definitions.load import loads
from airflow_mlpipe.exceptions import DataChangedError, DataError, ImageUnknownError, ParameterError, PlanError
from airflow_mlpipe.launchers.choose import launcher_for
from airflow_mlpipe.operators.binding import NotRun, bind_from_plan, bind_here
from airflow_mlpipe.operators.run_context import RunContext
from airflow_mlpipe.planning.explain import Reason
from airflow_mlpipe.planning.plan import Found
from airflow_mlpipe.resolving import registry
from airflow_mlpipe.resolving.planner import make_plan
from airflow_mlpipe.resolving.site import Site
from airflow_mlpipe.runtime.protocol import OutputRef, dump
from airflow_mlpipe.store import layout, runs, snapshots
from airflow_mlpipe.store.digests import Content, digest_path
from tests.resolving.fakes import FakeRegistry, served

MOMENTS = {"run_after": "2025-03-01T00:00:00+00:00"}
CONTENT = Content("file", "sha256:" + "1" * 64, 4, 1)
XCOM = {"uri": "file:///store/x", "digest": CONTENT.digest, "size": 4, "files": 1, "kind": "file"}

DEFINITION = """
name: p
parameters: {c: 1.0}
steps:
  make: {kind: command, command: "echo ${{ parameters.c }} > ${{ outputs.x }}", outputs: [x]}
  use:
    kind: python_script
    source_directory: src
    script_name: use.py
    inputs: {x: "${{ steps.make.outputs.x }}", raw: raw.txt}
"""


@pytest.fixture
def site(tmp_path):
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "use.py").write_text("1")
    (tmp_path / "raw.txt").write_text("raw")
    return Site.open(Workspace(), default_store=tmp_path / "store")


def run_of(step, run="r1"):
    return RunContext("p", run, step, f"p/{run}/{step}/-1", 1, MOMENTS)


def here(site, step, folder, upstream=None, parameters=None, name="a"):
    return bind_here(site, run_of(name), step, folder, parameters or {}, upstream or {})


def reads(**inputs):
    return CommandStep(name="a", command="true", inputs=inputs)


LATER = {"x": "${{ steps.other.outputs.x }}"}


def test_the_output_of_another_operator_is_taken_at_its_word_and_not_read(site, tmp_path):
    spec = here(site, reads(**LATER), tmp_path, {"x": XCOM}).task.spec
    assert (spec.inputs["x"].uri, spec.inputs["x"].content) == ("file:///store/x", CONTENT)


def test_the_output_of_a_transfer_keeps_its_version_and_whose_credentials_open_it(site, tmp_path):
    given = {**XCOM, "datastore": "lake", "token": "v7"}
    found = here(site, reads(**LATER), tmp_path, {"x": given}).task.spec.inputs["x"]
    assert (found.datastore, found.token) == ("lake", "v7")


@pytest.mark.parametrize("value", ["raw.txt", "{folder}/raw.txt", "file://{folder}/raw.txt"])
def test_a_path_that_a_task_returned_begins_at_the_folder_and_is_read(site, tmp_path, value):
    value = value.replace("{folder}", str(tmp_path))
    found = here(site, reads(**LATER), tmp_path, {"x": value}).task.spec.inputs["x"]
    assert found.uri == f"file://{tmp_path}/raw.txt"
    assert found.content == digest_path(tmp_path / "raw.txt")


def test_an_input_that_nobody_left_says_what_to_do(site, tmp_path):
    with pytest.raises(DataError, match=r"input 'x': the task that gives it has left no value; run it first, or clear"):
        here(site, reads(**LATER), tmp_path, {"x": None})


@pytest.mark.parametrize("value", [3, "", {"uri": "file:///x"}, {"clean": XCOM}, [XCOM], {**XCOM, "size": "4"}])
def test_what_can_be_no_input_is_refused_and_shown(site, tmp_path, value):
    with pytest.raises(DataError, match=r"input 'x' must be the output of a step operator .* or a path or URL, not "):
        here(site, reads(**LATER), tmp_path, {"x": value})


def test_an_input_that_is_not_there_is_refused_by_its_place(site, tmp_path):
    with pytest.raises(DataError, match=r"there is no data at file://.*/gone\.txt"):
        here(site, reads(x="gone.txt"), tmp_path)


def test_the_code_lies_in_the_store_once_it_is_bound(site, tmp_path):
    bound = here(site, PythonScriptStep(name="a", script_name="use.py", source_directory="src"), tmp_path)
    assert snapshots.exists(site.store, bound.task.spec.code)
    assert list(bound.scanned) == [bound.task.spec.code]


def test_places_are_named_after_the_very_task_instance(tmp_path):
    site = Site.open(Workspace(datastores={"lake": str(tmp_path / "lake")}), default_store=tmp_path / "store")
    step = CommandStep(name="train", command="true", outputs={"model": {"datastore": "lake"}})
    spec = here(site, step, tmp_path, name="group.train[3]").task.spec
    assert spec.step == "group.train[3]"
    assert spec.outputs["model"].destination == f"file://{tmp_path}/lake/p/group.train[3]/model"


@pytest.mark.parametrize("value", [["a"], {"a": 1}, ("a",)])
def test_a_param_that_is_no_single_value_is_refused_with_what_to_do(site, tmp_path, value):
    step = CommandStep(name="a", command="echo ${{ parameters.columns }}")
    with pytest.raises(ParameterError, match=r"the param 'columns' is .*; a step takes texts, numbers, true and false"):
        here(site, step, tmp_path, parameters={"columns": value})


@pytest.mark.parametrize("value", ["a", 1, 1.5, True, None])
def test_single_values_are_the_parameters_of_a_step(site, tmp_path, value):
    step = CommandStep(name="a", command="echo ${{ parameters.c }}")
    found = here(site, step, tmp_path, parameters={"c": value, "unused": ["a"]}).task.spec.parameters
    assert found == {"c": value}


def test_a_parameter_that_is_nowhere_is_named_with_those_there_are(site, tmp_path):
    with pytest.raises(ParameterError, match="there is no parameter 'cc' here; there are: c"):
        here(site, CommandStep(name="a", command="echo ${{ parameters.cc }}"), tmp_path, parameters={"c": 1})


def test_a_moment_that_the_run_has_not_is_named_with_those_it_has(site, tmp_path):
    step = CommandStep(name="a", command="echo ${{ run.logical_date }}")
    with pytest.raises(ParameterError, match=r"this run has no run\.logical_date; it has run\.run_after"):
        here(site, step, tmp_path)


class Edited:
    """A source directory that somebody edits just when it was read."""

    def __init__(self, monkeypatch, file, times):
        self.left = times
        pack = snapshots.pack

        def edit_first(*given):
            if self.left:
                self.left -= 1
                file.write_text(f"edited {self.left}, and longer than before{'!' * self.left}")
            return pack(*given)

        monkeypatch.setattr("airflow_mlpipe.resolving.facts.snapshots.pack", edit_first)


def test_a_file_edited_while_it_is_packed_is_read_again(site, tmp_path, monkeypatch):
    file = tmp_path / "src" / "use.py"
    Edited(monkeypatch, file, 2)
    bound = here(site, PythonScriptStep(name="a", script_name="use.py", source_directory="src"), tmp_path)
    assert list(bound.scanned) == [bound.task.spec.code]
    unpacked = tmp_path / "unpacked"
    snapshots.unpack(site.store, bound.task.spec.code, unpacked)
    assert (unpacked / "use.py").read_text() == file.read_text()


def test_a_file_that_never_rests_fails_the_step(site, tmp_path, monkeypatch):
    Edited(monkeypatch, tmp_path / "src" / "use.py", 99)
    with pytest.raises(DataChangedError):
        here(site, PythonScriptStep(name="a", script_name="use.py", source_directory="src"), tmp_path)


class Planned:
    """A run of the pipeline, planned."""

    def __init__(self, site, folder, run="r1", text=DEFINITION):
        self.site, self.folder, self.run = site, folder, run
        self.pipeline = loads(text, folder)
        self.said = []
        values = run_of("plan", run).values({"c": 1.0})
        self.plan = make_plan(site, self.pipeline, run, values)

    def bind(self, step, parameters=None, pipeline=None):
        pipeline = pipeline or self.pipeline
        run = run_of(step, self.run)
        return bind_from_plan(self.site, run, pipeline, pipeline.step(step), parameters or {"c": 1.0}, self.said.append)

    def note(self, step, content=CONTENT, **note):
        """Note that a step has left `x`, as it does when it ends."""
        output = OutputRef(layout.output("f" * 64, "c", "x"), content)
        note = {"outcome": "ran", "outputs": {"x": dump(output)}, "plan": self.plan.id, **note}
        runs.write_note(self.site.store, "p", self.run, step, note)


@pytest.fixture
def planned(site, tmp_path):
    return Planned(site, tmp_path)


def test_a_step_follows_the_plan_of_its_run_though_its_code_was_edited_since(planned, tmp_path):
    (tmp_path / "src" / "use.py").write_text("edited since")
    planned.note("make")
    bound = planned.bind("use")
    assert bound.task.spec.code == planned.plan.tasks["use"].spec.code
    assert (bound.plan, planned.said) == (planned.plan.id, [])


def test_a_step_gets_what_others_have_left_since(planned):
    planned.note("make")
    found = planned.bind("use").task.spec.inputs
    assert found["x"].content == CONTENT
    assert found["x"].uri.endswith("/x")
    assert found["raw"].content.size == 3


def test_a_step_whose_upstream_left_nothing_is_not_run(planned):
    left = NotRun(Reason("upstream", "a step it takes data from was skipped and left no output"), planned.plan.id)
    assert planned.bind("use") == left
    planned.note("make", outputs={}, outcome="failed")
    assert planned.bind("use") == left


def test_external_data_is_read_when_the_step_has_its_turn(planned, tmp_path):
    planned.note("make")
    (tmp_path / "raw.txt").write_text("another")
    assert planned.bind("use").task.spec.inputs["raw"].content.size == len("another")


def test_what_was_noted_under_an_earlier_plan_counts_least(site, planned, tmp_path):
    newer = Content("file", "sha256:" + "2" * 64, 9, 1)
    planned.note("make")
    again = Planned(site, tmp_path)
    assert again.bind("use").task.spec.inputs["x"].content == CONTENT
    again.note("make", newer)
    assert again.bind("use").task.spec.inputs["x"].content == newer


def test_what_the_plan_reused_counts_before_what_was_noted_earlier_and_after_what_was_noted_since(planned):
    reused = Content("file", "sha256:" + "3" * 64, 9, 1)
    found = Found(1, {"x": OutputRef(layout.output("f" * 64, "c", "x"), reused)}, {}, 0.0, {})
    decisions = {
        **planned.plan.decisions,
        "make": replace(planned.plan.decisions["make"], choice="reuse", fingerprint="f" * 64, found=found),
    }
    runs.write_plan(planned.site.store, "p", "r1", replace(planned.plan, decisions=decisions).to_json())
    planned.note("make", plan="an earlier one")
    assert planned.bind("use").task.spec.inputs["x"].content == reused
    planned.note("make")
    assert planned.bind("use").task.spec.inputs["x"].content == CONTENT


def test_an_edited_definition_binds_the_step_again_and_says_so(planned, tmp_path):
    (tmp_path / "src" / "use.py").write_text("edited too")
    planned.note("make")
    edited = loads(DEFINITION.replace("raw: raw.txt", "raw: src"), tmp_path)
    bound = planned.bind("use", pipeline=edited)
    assert bound.task.spec.inputs["raw"].uri.endswith("/src")
    assert bound.task.spec.code != planned.plan.tasks["use"].spec.code
    assert "the step is bound again" in planned.said[0]


@pytest.mark.parametrize("lost", ["plan", "code"])
def test_where_plan_or_code_is_gone_the_step_is_bound_again(planned, lost):
    planned.note("make")
    code = planned.plan.tasks["use"].spec.code
    store = planned.site.store
    store.remove(layout.plan("p", "r1") if lost == "plan" else layout.snapshot(code))
    bound = planned.bind("use")
    assert bound.task.spec.code == code
    assert snapshots.exists(store, code)
    assert "the step is bound again" in planned.said[0]
    assert (bound.plan == planned.plan.id) is (lost == "code")


def test_what_is_bound_again_has_the_parameters_of_the_run_and_ignores_others(planned):
    planned.site.store.remove(layout.plan("p", "r1"))
    bound = planned.bind("make", {"c": 3, "mine": [1], "regenerate_outputs": []})
    assert bound.task.spec.parameters == {"c": 3.0}
    assert not bound.task.regenerate


def test_rule_11_what_is_bound_again_is_regenerated_if_the_run_says_so(planned):
    planned.site.store.remove(layout.plan("p", "r1"))
    assert planned.bind("make", {"regenerate_outputs": ["make"]}).task.regenerate
    assert not planned.bind("make", {"regenerate_outputs": ["use"]}).task.regenerate


def test_a_plan_of_a_newer_version_is_refused_by_name(planned):
    data = {**planned.plan.to_json(), "format": 99}
    runs.write_plan(planned.site.store, "p", "r1", data)
    with pytest.raises(PlanError, match="has format 99"):
        planned.bind("make")


def test_a_reference_keeps_how_it_is_compared_and_delivered(site, tmp_path):
    reference = DataReference(path="raw.txt", mode="download", compare="path")
    found = here(site, reads(x=reference), tmp_path).task.spec.inputs["x"]
    assert (found.mode, found.compare, found.uri) == ("download", "path", f"file://{tmp_path}/raw.txt")


class TestImages:
    """Steps in containers, whose images a registry may not tell when the run is planned."""

    @pytest.fixture
    def shop(self, monkeypatch):
        monkeypatch.setattr(registry, "_PAUSES", (0,))
        fake = FakeRegistry()
        with served(fake):
            fake.push("train:1")
            yield fake

    @pytest.fixture
    def boxed(self, shop, tmp_path):
        workspace = Workspace(compute={"pod": {"kind": "kubernetes", "image": f"{shop.host}/train:1"}})
        return Site.open(workspace, default_store=tmp_path / "store")

    def planned(self, boxed, tmp_path, compare="strict"):
        fields = {"compute": "pod", "environment": Environment(compare=compare, variables={"C": "${{ parameters.c }}"})}
        planned = Planned.__new__(Planned)
        planned.site, planned.folder, planned.run, planned.said = boxed, tmp_path, "r1", []
        planned.pipeline = Pipeline(
            name="p", steps=[CommandStep(name="a", command="true", **fields)], parameters={"c": 1.0}
        )
        planned.pipeline.folder = tmp_path
        planned.plan = make_plan(boxed, planned.pipeline, "r1", run_of("plan").values({"c": 1.0}))
        return planned

    def test_a_step_runs_the_image_it_was_planned_with_though_its_tag_moved(self, boxed, shop, tmp_path):
        planned = self.planned(boxed, tmp_path)
        shop.push("train:1", b"moved")
        spec = planned.bind("a").task.spec
        assert spec.environment == planned.plan.tasks["a"].spec.environment
        assert planned.said == []

    def test_rule_4_an_image_that_was_unknown_is_asked_for_again_in_the_step_s_turn(self, boxed, shop, tmp_path):
        shop.failures = [503] * 2
        planned = self.planned(boxed, tmp_path)
        spec = planned.bind("a").task.spec
        assert spec.environment.image.startswith(f"{shop.host}/train@sha256:")
        assert spec.environment.variables == {"C": "1.0"}
        assert spec.environment.unknown is None
        assert "HTTP 503; it is asked for again" in planned.said[0]

    def test_rule_4_an_image_that_stays_unknown_fails_the_step_and_says_why(self, boxed, shop, tmp_path):
        shop.failures = [503] * 9
        planned = self.planned(boxed, tmp_path)
        with pytest.raises(ImageUnknownError, match=r"image of step a is not known: the registry .* HTTP 503"):
            planned.bind("a")

    def test_rule_4_where_the_digest_does_not_count_a_step_may_be_reused_and_is_not_launched(
        self, boxed, shop, tmp_path
    ):
        shop.failures = [503] * 9
        planned = self.planned(boxed, tmp_path, "declared")
        spec = planned.bind("a").task.spec
        with pytest.raises(ImageUnknownError, match="image of step a is not known"):
            launcher_for(boxed, spec)

    def test_rule_4_a_step_of_a_hand_written_dag_with_an_unknown_image_fails_and_says_why(self, boxed, shop, tmp_path):
        shop.failures = [503] * 9
        with pytest.raises(ImageUnknownError, match="image of step a is not known"):
            here(boxed, CommandStep(name="a", command="true", compute="pod"), tmp_path)
