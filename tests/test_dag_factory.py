from __future__ import annotations

import gc
from datetime import datetime, timedelta, timezone

import pytest
from airflow.sdk import DAG, Asset, AssetAll, AssetAny
from airflow.sdk.definitions.param import process_params
from airflow.sdk.exceptions import ParamValidationError

from airflow_mlpipe.dag_factory import (
    BrokenPipeline,
    callback,
    definition_files,
    load_pipelines,
    make_dag,
    params_of,
    schedule_of,
)
from airflow_mlpipe.definitions import CommandStep, Pipeline, PythonScriptStep
from airflow_mlpipe.definitions.load import loads
from airflow_mlpipe.exceptions import DefinitionError
from airflow_mlpipe.operators import here
from tests.dagfiles import parse, serialized, tasks

LOADER = 'from airflow_mlpipe.dag_factory import load_pipelines\nload_pipelines(globals(), "pipelines")\n'
STEPS = "steps:\n  a: {kind: command, command: 'true', outputs: [x]}\n"
THREE = (
    STEPS
    + """\
  b: {kind: command, command: 'true', inputs: {x: "${{ steps.a.outputs.x }}"}}
  c: {kind: command, command: 'true', run_after: [b]}
"""
)


@pytest.fixture(autouse=True)
def nobody_elses_settings(monkeypatch):
    for name in ("MLPIPE_WORKSPACE", "AIRFLOW__MLPIPE__WORKSPACE", "_AIRFLOW_PARSING_CONTEXT_DAG_ID"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def pipelines(tmp_path):
    """Write a definition into the folder `pipelines`."""
    (tmp_path / "pipelines").mkdir()

    def write(name, text=None, file=None):
        path = tmp_path / "pipelines" / (file or f"{name}.yaml")
        path.write_text(f"name: {name}\n{STEPS}" if text is None else text)
        return path

    return write


def dag_of(text="", steps=STEPS, folder=None, **given):
    return make_dag(loads(f"name: p\n{text}\n{steps}", folder), **given)


def dags_of(folder):
    return parse(folder / "dag.py", LOADER)


# Loading


def test_each_definition_of_a_folder_is_a_dag(pipelines, tmp_path):
    for name in ("one", "two", "three.four"):
        pipelines(name)
    parsed = dags_of(tmp_path)
    assert parsed.serialized == ("one", "three.four", "two")
    assert parsed.errors == {}


def test_a_single_file_may_be_loaded(pipelines, tmp_path):
    pipelines("one")
    pipelines("two")
    assert parse(tmp_path / "dag.py", LOADER.replace('"pipelines"', '"pipelines/two.yaml"')).serialized == ("two",)


def test_files_are_yaml_and_the_workspace_is_none_of_them(pipelines, tmp_path):
    for file in ("b.yaml", "a.yml", "mlpipe.yaml", "notes.txt", "c.json"):
        pipelines("x", file=file)
    (tmp_path / "pipelines" / "folder").mkdir()
    assert [file.name for file in definition_files(tmp_path / "pipelines")] == ["a.yml", "b.yaml"]


def test_a_folder_that_is_not_there_is_an_import_error_that_says_what_to_do(tmp_path):
    (error,) = dags_of(tmp_path).errors.values()
    assert f"there is no folder {tmp_path}/pipelines: give load_pipelines the folder" in error


@pytest.mark.parametrize("where", ["pipelines/mlpipe.yaml", "team.yaml"])
def test_the_workspace_beside_the_definitions_counts_and_so_does_one_given(pipelines, tmp_path, where):
    pipelines("one", f"name: one\nenvironment: ml\n{STEPS}")
    assert "environment: is not in the workspace" in dags_of(tmp_path).errors["pipelines/one.yaml"]
    here._workspace.cache_clear()  # another process would not have read it before
    (tmp_path / where).write_text("environments: {ml: {variables: {WHO: team}}}\n")
    given = "" if where.startswith("pipelines/") else f', workspace="{tmp_path}/{where}"'
    assert parse(tmp_path / "dag.py", LOADER.replace('"pipelines"', f'"pipelines"{given}')).serialized == ("one",)


def test_only_the_dag_that_airflow_asks_for_is_built(pipelines, tmp_path, monkeypatch):
    pipelines("one")
    pipelines("two")
    pipelines("broken", "name: broken\nstep: 1\n")
    made = []
    monkeypatch.setattr(
        "airflow_mlpipe.dag_factory.make_dag",
        lambda pipeline, **_: made.append(pipeline.name) or DAG("x", schedule=None),
    )
    monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", "two")
    load_pipelines({"__file__": str(tmp_path / "dag.py")}, "pipelines")
    assert made == ["two"]


def test_a_dag_that_airflow_asks_for_is_found_whatever_its_file_is_called(pipelines, tmp_path, monkeypatch):
    pipelines("two", file="something.yaml")
    pipelines("one", f"name: one\ndescription: not two\n{STEPS}")
    monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", "two")
    parsed = dags_of(tmp_path)
    assert (parsed.serialized, parsed.errors) == (("two",), {})


def test_a_file_is_read_where_airflow_asks_for_a_dag_only_if_it_may_define_it(pipelines, tmp_path, monkeypatch):
    pipelines("one")
    file = pipelines("two")
    read = []
    monkeypatch.setattr(
        "airflow_mlpipe.dag_factory.load_pipeline", lambda file, _: read.append(file) or loads(file.read_text())
    )
    monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", "two")
    load_pipelines({"__file__": str(tmp_path / "dag.py")}, "pipelines")
    assert read == [file]


def test_definitions_are_found_beside_the_dag_file_from_wherever_it_is_loaded(pipelines, tmp_path, monkeypatch):
    pipelines("one")
    monkeypatch.chdir("/")
    namespace = {"__file__": str(tmp_path / "dag.py")}
    load_pipelines(namespace, "pipelines")
    assert [dag.dag_id for dag in namespace.values() if isinstance(dag, DAG)] == ["one"]
    assert namespace["mlpipe_dag_one"].dag_id == "one"


@pytest.mark.parametrize("enabled", [True, False])
def test_collecting_garbage_is_left_as_it_was(pipelines, tmp_path, enabled):
    pipelines("one")
    before = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        load_pipelines({"__file__": str(tmp_path / "dag.py")}, "pipelines")
        assert gc.isenabled() is enabled
        with pytest.raises(FileNotFoundError):
            load_pipelines({"__file__": str(tmp_path / "dag.py")}, "nowhere")
        assert gc.isenabled() is enabled
    finally:
        (gc.enable if before else gc.disable)()


# What is broken


def test_a_broken_file_is_an_import_error_of_its_own_and_hides_nothing_else(pipelines, tmp_path):
    pipelines("one")
    pipelines("broken", "name: broken\nsteps:\n  a:\n    kind: comand\n    command: ls\n    arguments: 3\n")
    pipelines("torn", "name: [torn\n")
    parsed = dags_of(tmp_path)
    assert parsed.serialized == ("one",)
    assert set(parsed.errors) == {"pipelines/broken.yaml", "pipelines/torn.yaml"}
    assert f"{tmp_path}/pipelines/broken.yaml:4:11" in parsed.errors["pipelines/broken.yaml"]
    assert "Did you mean command?" in parsed.errors["pipelines/broken.yaml"]


def test_no_broken_file_hides_another_whatever_they_are_called(pipelines, tmp_path):
    """Neither one whose name another pipeline has, nor two whose names no DAG can have."""
    pipelines("churn", "step: 1\n")
    pipelines("churn", file="healthy.yaml")
    pipelines("x", "step: 1\n", file="two words.yaml")
    pipelines("x", "step: 1\n", file="zwei Wörter.yaml")
    parsed = dags_of(tmp_path)
    assert parsed.serialized == ("churn",)
    assert set(parsed.errors) == {f"pipelines/{name}.yaml" for name in ("churn", "two words", "zwei Wörter")}


def test_two_files_with_one_name_are_told_so_and_the_first_stays(pipelines, tmp_path):
    first = pipelines("churn", file="a.yaml")
    pipelines("churn", file="b.yaml")
    parsed = dags_of(tmp_path)
    assert parsed.serialized == ("churn",)
    assert parsed.dags["churn"].get_task("plan").pipeline.source_file == first
    (error,) = parsed.errors.values()
    assert set(parsed.errors) == {"pipelines/b.yaml"}
    assert f"churn is the name of the pipeline in {first} too. Choose another name" in error


def test_two_folders_with_one_name_are_told_so_too(pipelines, tmp_path):
    pipelines("churn")
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "churn.yaml").write_text(f"name: churn\n{STEPS}")
    parsed = parse(tmp_path / "dag.py", f'{LOADER}load_pipelines(globals(), "more")\n')
    assert (parsed.serialized, set(parsed.errors)) == (("churn",), {"more/churn.yaml"})


@pytest.mark.parametrize(
    "refused", ['schedule: "0 0 * * 5L"', f"tags: [{'x' * 101}]", "schedule: '@continuous'\nmax_active_runs: 2"]
)
def test_what_only_airflow_refuses_is_an_import_error_of_its_own_too(pipelines, tmp_path, refused):
    pipelines("one")
    pipelines("two", f"name: two\n{refused}\n{STEPS}")
    parsed = dags_of(tmp_path)
    assert parsed.serialized == ("one",)
    assert "two.yaml: Airflow can make no DAG of it: " in parsed.errors["pipelines/two.yaml"]


def test_a_broken_workspace_breaks_each_of_its_pipelines_and_is_named(pipelines, tmp_path):
    pipelines("one")
    (tmp_path / "pipelines" / "mlpipe.yaml").write_text("datastore: {}\n")
    parsed = dags_of(tmp_path)
    assert parsed.serialized == ()
    assert "mlpipe.yaml:1:1: datastore: there is no such field" in parsed.errors["pipelines/one.yaml"]


def test_the_error_of_a_file_outside_the_bundle_has_its_whole_path(pipelines, tmp_path):
    file = pipelines("broken", "step: 1\n")
    parsed = parse(tmp_path / "dags" / "dag.py", LOADER.replace('pipelines"', '../pipelines"'))
    assert set(parsed.errors) == {str(file)}


def test_a_broken_pipeline_is_broken_in_a_task_too_and_leaves_the_others(pipelines, tmp_path, monkeypatch):
    pipelines("one")
    pipelines("broken", "name: broken\nstep: 1\n")
    monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", "broken")
    assert dags_of(tmp_path).serialized == ()
    monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", "one")
    assert dags_of(tmp_path).serialized == ("one",)


def test_a_broken_pipeline_says_what_is_wrong_only_when_it_is_serialized(tmp_path):
    broken = BrokenPipeline(tmp_path / "x.yaml", "the reason")
    assert broken.validate() is None
    with pytest.raises(Exception, match="the reason"):
        serialized(broken)


# The DAG


def test_a_pipeline_made_in_python_is_a_dag_too():
    pipeline = Pipeline(name="p", steps=[CommandStep(name="a", command="true")])
    assert set(make_dag(pipeline).task_dict) == {"plan", "a"}


def test_what_the_workspace_lacks_is_refused_all_at_once():
    pipeline = Pipeline(name="p", compute="gpu", steps=[CommandStep(name="a", command="true", environment="ml")])
    with pytest.raises(DefinitionError, match="2 problems"):
        make_dag(pipeline)


def test_it_begins_with_plan_and_follows_the_data_and_what_was_asked_for():
    dag = dag_of(steps=THREE)
    assert {task.task_id: task.upstream_task_ids for task in dag.tasks} == {
        "plan": set(),
        "a": {"plan"},
        "b": {"a"},
        "c": {"b"},
    }


def test_what_the_definition_says_of_the_pipeline_is_what_airflow_shows():
    dag = dag_of("description: Predicts churn.\nowner: me\ntags: [ml, weekly]\nmax_active_runs: 2")
    assert (dag.dag_id, dag.description, dag.doc_md) == ("p", "Predicts churn.", "Predicts churn.")
    assert (dag.tags, dag.max_active_runs, dag.owner) == ({"ml", "weekly"}, 2, "me")
    assert dag_of().owner == "airflow"


def test_catchup_is_off_unless_it_is_asked_for(monkeypatch):
    monkeypatch.setenv("AIRFLOW__SCHEDULER__CATCHUP_BY_DEFAULT", "True")
    assert dag_of("schedule: '@daily'").catchup is False
    assert dag_of("schedule: '@daily'\ncatchup: true").catchup is True


def test_a_scheduled_pipeline_has_a_beginning_even_if_it_gives_none():
    assert dag_of("schedule: '@daily'").start_date == datetime(2024, 1, 1, tzinfo=timezone.utc)
    given = dag_of("schedule: '@daily'\nstart_date: 2025-02-01\nend_date: 2025-03-01")
    assert (given.start_date.day, given.start_date.month, given.end_date.month) == (1, 2, 3)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("", None),
        ("schedule: '@weekly'", "@weekly"),
        ("schedule: '30 6 * * 1'", "30 6 * * 1"),
        ("schedule: {every: 2 hours}", timedelta(hours=2)),
        ("schedule: {hours: 1, minutes: 30}", timedelta(minutes=90)),
        ("schedule: {assets: 's3://x/a'}", Asset("s3://x/a")),
        ("schedule: {assets: 'a & b'}", AssetAll(Asset("a"), Asset("b"))),
        ("schedule: [a, b]", AssetAll(Asset("a"), Asset("b"))),
        ("schedule: {assets: 'a | b'}", AssetAny(Asset("a"), Asset("b"))),
        ("schedule: {assets: 'a & (b | c)'}", AssetAll(Asset("a"), AssetAny(Asset("b"), Asset("c")))),
    ],
)
def test_every_form_of_a_schedule_is_one_of_airflows(schedule, expected):
    assert plain(schedule_of(loads(f"name: p\n{schedule}\n{STEPS}"))) == plain(expected)
    dag = dag_of(schedule)
    assert serialized(dag)["timetable"]["__type"]


def plain(schedule):
    """Return a schedule as something that can be compared."""
    if isinstance(schedule, AssetAll | AssetAny):
        return type(schedule), [plain(part) for part in schedule.objects]
    return schedule


@pytest.mark.parametrize(
    "preset",
    ["@once", "@continuous", "@hourly", "@daily", "@weekly", "@monthly", "@quarterly", "@yearly"],
)
def test_every_preset_makes_a_dag(preset):
    dag = dag_of(f"schedule: '{preset}'")
    dag.validate()
    assert serialized(dag)["dag_id"] == "p"


def test_a_pipeline_that_runs_all_the_time_runs_once_at_a_time():
    assert dag_of("schedule: '@continuous'").max_active_runs == 1


def test_the_digest_of_the_definition_is_in_the_serialized_dag_and_an_edit_changes_it():
    def definitions(text=""):
        return {task["definition"] for task in tasks(dag_of(text, THREE)).values()}

    assert definitions() == definitions()
    assert len(definitions()) == 1
    for edit in ("description: Another", "parameters: {c: 1}", "retries: 1", "on_failure: a.b"):
        assert definitions(edit) != definitions()


def test_one_definition_makes_one_serialized_dag(tmp_path):
    text = "schedule: {assets: 'a | b'}\nparameters: {c: {type: number, default: 1.0, minimum: 0}}\ntags: [x, y, z]"
    assert serialized(dag_of(text, THREE, tmp_path)) == serialized(dag_of(text, THREE, tmp_path))


def test_parsing_leaves_the_folders_as_they_were(pipelines, tmp_path):
    pipelines("one")
    dags_of(tmp_path)
    left = {path.name for path in tmp_path.rglob("*") if "__pycache__" not in path.parts}  # Python's own
    assert left == {"dag.py", "pipelines", "one.yaml"}


# The steps


def test_steps_go_on_after_skipped_ones_and_not_after_failed_ones():
    dag = dag_of(steps=THREE)
    assert {dag.get_task(name).trigger_rule for name in "abc"} == {"none_failed"}
    assert dag.get_task("plan").trigger_rule == "all_success"


def test_what_a_step_says_for_airflow_reaches_its_task():
    step = (
        "steps:\n  a: {kind: command, command: 'true', description: Trains., display_name: Training, pool: gpus, "
        "priority: 7, retries: 3, retry_delay: 10 seconds, timeout: 1 hour}\n"
    )
    task = dag_of(steps=step).get_task("a")
    assert (task.task_display_name, task.pool, task.priority_weight) == ("Training", "gpus", 7)
    assert task.doc_md.startswith("Trains.\n\n*Skipped* means reused")
    assert (task.retries, task.retry_delay, task.execution_timeout) == (3, timedelta(seconds=10), timedelta(hours=1))


def test_a_step_that_says_nothing_has_airflows_defaults():
    task, plain = dag_of().get_task("a"), CommandStep(name="a", command="true")
    assert (task.pool, task.priority_weight, task.execution_timeout) == ("default_pool", 1, None)
    assert task.task_display_name == plain.name
    assert task.doc_md.startswith("*Skipped* means reused")
    assert task.retries == 0


def test_retries_and_timeouts_come_from_step_else_pipeline_else_workspace(tmp_path):
    workspace = tmp_path / "mlpipe.yaml"
    workspace.write_text("defaults: {retries: 1, retry_delay: 1 minute, timeout: 1 hour}\n")
    steps = THREE.replace("command: 'true', outputs", "command: 'true', retries: 3, outputs")
    of_workspace = dag_of(steps=steps, workspace=workspace)
    of_pipeline = dag_of("retries: 2\ntimeout: 2 hours", steps, workspace=workspace)
    assert [of_workspace.get_task(name).retries for name in ("plan", "a", "b")] == [1, 3, 1]
    assert [of_pipeline.get_task(name).retries for name in ("plan", "a", "b")] == [2, 3, 2]
    assert {task.retry_delay for task in of_pipeline.tasks} == {timedelta(minutes=1)}
    assert of_workspace.get_task("b").execution_timeout == timedelta(hours=1)
    assert of_pipeline.get_task("b").execution_timeout == timedelta(hours=2)


def test_airflow_knows_the_assets_of_steps_as_outlets_of_their_tasks_and_of_the_plan():
    dag = dag_of(steps=STEPS.replace("[x]", "{x: {asset: 's3://x/a'}}"))
    assert dag.get_task("plan").outlets == dag.get_task("a").outlets == [Asset("s3://x/a")]


# Callbacks

CALLED = []


def remember(context):
    CALLED.append(context)


def test_a_callback_is_imported_when_airflow_calls_it():
    function = callback("callbacks_that_come_later.done")
    assert function.__name__ == "done"
    with pytest.raises(ModuleNotFoundError):
        function({})
    CALLED.clear()
    callback(f"{__name__}.remember")({"ti": 1})
    assert CALLED == [{"ti": 1}]
    assert callback(None) is None


def test_callbacks_of_pipeline_and_steps_are_airflows():
    step = (
        "steps:\n  a: {kind: command, command: 'true', on_success: m.one, on_failure: m.two, on_retry: m.three}\n"
        "  b: {kind: command, command: 'true'}\n"
    )
    dag = dag_of("on_success: m.four\non_failure: m.five", step)
    a, b = dag.get_task("a"), dag.get_task("b")
    given = (*a.on_success_callback, *a.on_failure_callback, *a.on_retry_callback)
    assert [function.__name__ for function in given] == ["one", "two", "three"]
    assert [function.__name__ for function in (dag.on_success_callback, dag.on_failure_callback)] == ["four", "five"]
    assert not b.on_success_callback
    assert serialized(dag)["has_on_failure_callback"]


# The trigger form

PARAMETERS = """
parameters:
  name: {type: string, default: x, description: Who it is}
  n: {type: integer, default: 3, minimum: 1, maximum: 10}
  c: {type: number, default: 1.0, minimum: 0}
  fast: {type: boolean, default: false}
  solver: {choices: [lbfgs, saga], default: saga}
  mixed: {type: enum, choices: [1, auto], default: auto}
  day: {type: string}
"""


@pytest.fixture
def form():
    return dag_of(PARAMETERS).params


@pytest.mark.parametrize(
    ("name", "schema"),
    [
        ("name", {"type": "string", "title": "name"}),
        ("n", {"type": "integer", "title": "n", "minimum": 1, "maximum": 10}),
        ("c", {"type": "number", "title": "c", "minimum": 0.0}),
        ("fast", {"type": "boolean", "title": "fast"}),
        ("solver", {"type": "string", "title": "solver", "enum": ["lbfgs", "saga"]}),
        ("mixed", {"type": ["integer", "string"], "title": "mixed", "enum": [1, "auto"]}),
        ("day", {"type": "string", "title": "day"}),
    ],
)
def test_the_form_shows_types_bounds_and_choices(form, name, schema):
    assert form.get_param(name).schema == schema


def test_the_form_shows_defaults_and_descriptions(form):
    shown = {name: form.get_param(name).value for name in form if name not in {"day", "regenerate_outputs"}}
    assert shown == {"name": "x", "n": 3, "c": 1.0, "fast": False, "solver": "saga", "mixed": "auto"}
    assert form.get_param("name").description == "Who it is"
    assert form.get_param("c").description == "(at least 0)"


def test_the_form_offers_steps_to_regenerate():
    param = params_of(loads(f"name: p\n{THREE}"))["regenerate_outputs"]
    assert param.value == []
    assert param.schema["items"] == {"type": "string", "enum": ["all", "a", "b", "c"]}
    assert param.description.startswith("Steps that must run even if nothing has changed")


@pytest.mark.parametrize(
    ("conf", "wrong"),
    [
        ({"n": 0}, "n"),
        ({"n": 11}, "n"),
        ({"n": 1.5}, "n"),
        ({"n": "3"}, "n"),
        ({"c": -0.5}, "c"),
        ({"c": "1"}, "c"),
        ({"fast": "yes"}, "fast"),
        ({"name": 3}, "name"),
        ({"solver": "sgd"}, "solver"),
        ({"mixed": 2}, "mixed"),
        ({"regenerate_outputs": ["no"]}, "regenerate_outputs"),
        ({"regenerate_outputs": "all"}, "regenerate_outputs"),
    ],
)
def test_a_value_that_a_parameter_refuses_is_refused_by_airflow(conf, wrong):
    dag = dag_of(PARAMETERS)
    with pytest.raises(ParamValidationError, match=wrong):
        process_params(dag, dag.get_task("plan"), {"day": "x", **conf}, suppress_exception=False)


def test_a_parameter_without_default_must_be_given():
    dag = dag_of(PARAMETERS)
    with pytest.raises(ParamValidationError, match="No value passed and Param has no default value"):
        process_params(dag, dag.get_task("plan"), {}, suppress_exception=False)


@pytest.mark.parametrize("conf", [{"n": 10}, {"c": 1}, {"fast": True}, {"mixed": 1}, {"regenerate_outputs": ["all"]}])
def test_values_that_fit_are_taken(conf):
    dag = dag_of(PARAMETERS)
    found = process_params(dag, dag.get_task("plan"), {"day": "x", **conf}, suppress_exception=False)
    assert found == found | conf


def test_every_task_sees_the_params_though_none_keeps_them_itself():
    dag = dag_of(PARAMETERS, THREE)
    for task in dag.tasks:
        assert process_params(dag, task, {"day": "x"}, suppress_exception=False)["solver"] == "saga"
    assert len(serialized(dag)["params"]) == 8


def test_a_task_knows_its_step_its_pipeline_and_where_paths_begin(tmp_path):
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "x.py").touch()
    pipeline = Pipeline(name="p", steps=[PythonScriptStep(name="a", script_name="x.py", source_directory="src")])
    pipeline.folder = tmp_path
    task = make_dag(pipeline).get_task("a")
    assert (task.folder, task.step, task.pipeline) == (tmp_path, pipeline.step("a"), pipeline)
