"""The README does what it says: its files are written, its commands run in order, its messages are those one sees."""

from __future__ import annotations

import configparser
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from importlib.metadata import metadata
from pathlib import Path

import pytest
from typer.testing import CliRunner

from airflow_mlpipe.airflow_home import ensure_database, make_home, process_environment
from airflow_mlpipe.cli.app import app
from airflow_mlpipe.definitions import CommandStep, loads
from airflow_mlpipe.exceptions import MlpipeError
from airflow_mlpipe.launchers.local import LocalLauncher
from airflow_mlpipe.planning.bind import StepFacts, Values, bind
from airflow_mlpipe.planning.explain import Reason, sentence
from airflow_mlpipe.planning.plan import Task, forced_reason
from airflow_mlpipe.resolving.decide import History
from airflow_mlpipe.runtime.protocol import OutputSpec, StepSpec
from airflow_mlpipe.store.digests import Content
from airflow_mlpipe.store.outputs import verify
from airflow_mlpipe.store.store import Store
from tests.readme.markdown import README, blocks, files, spans, tables

ROOT = README.parent
BIN = Path(sys.executable).parent

TUTORIAL = "Five minutes: a pipeline in YAML"
IN_AIRFLOW = "The same file in Airflow"
OWN_TASKS = "Your own tasks around a pipeline's steps"
OPERATORS = "Operators in a DAG you already have"
WAITING = "Waiting for what another DAG makes"
IN_PYTHON = "In Python, as in Azure ML"
HELP = "What to do when"

_THEIRS = ("AIRFLOW", "MLPIPE_HOME", "MLPIPE_STORE", "MLPIPE_WORKSPACE", "MLPIPE_COMPUTE")


@pytest.fixture(autouse=True)
def nobody_elses_settings(monkeypatch):
    for name in list(os.environ):
        if name.startswith(_THEIRS):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PATH", f"{BIN}:{os.environ['PATH']}")


def write(folder, shown):
    for path, text in shown.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, "utf-8")
    return folder


def run(*command, cwd, env=None):
    """Run a command as a reader would; return what it prints on standard output."""
    done = subprocess.run(
        command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def typed(title):
    """Return the commands that a section types, each with the comment behind it."""
    (block,) = [block for block in blocks(title, "console") if block.text.startswith("$ ")]
    pairs = [line.removeprefix("$ ").partition("#") for line in block.text.splitlines()]
    return [(shlex.split(command), comment.strip()) for command, _, comment in pairs]


def outcomes(table):
    rows = [line.split() for line in table.splitlines()]
    return {row[0]: row[1] for row in rows if len(row) > 1 and row[1] in {"ran", "reused"}}


def plain(table):
    """Return a table without what differs from run to run: times, and the width of columns."""
    text = re.sub(r"(\d{4}-\d\d-\d\d )?\d\d:\d\d:\d\d", "<when>", table)
    return [line.split() for line in re.sub(r"\d+\.\d s", "<time>", text).strip().splitlines()]


def shape(data):
    """Return the keys of JSON data, all the way down."""
    match data:
        case dict():
            return {key: shape(item) for key, item in data.items()}
        case list():
            return [shape(item) for item in data[:1]]
        case _:
            return None


def test_the_tutorial_does_what_its_comments_say(tmp_path):
    write(tmp_path, files(TUTORIAL))
    logs = tmp_path / "pipelines" / ".mlpipe" / "logs" / "churn"
    first, second, third, explain, where = typed(TUTORIAL)

    assert first[1] == "prepare and train run"
    assert outcomes(run(*first[0], cwd=tmp_path)) == {"prepare": "ran", "train": "ran"}

    assert second[1] == "both are reused; Airflow is not even started"
    assert outcomes(run(*second[0], cwd=tmp_path)) == {"prepare": "reused", "train": "reused"}
    assert len(list(logs.iterdir())) == 1

    step, _, why = third[1].partition(" runs: ")
    ended = run(*third[0], cwd=tmp_path)
    assert outcomes(ended) == {"prepare": "reused", step: "ran"}
    assert plain(ended) == plain(blocks(TUTORIAL, "text")[-1].text)
    assert why in ended
    assert why in run(*explain[0], cwd=tmp_path)

    model = Path(run(*where[0], cwd=tmp_path).split()[-1])
    assert json.loads(model.read_text()) == {"weight": 0.5 * 3}

    (shown,) = blocks("Command line", "json")
    report = json.loads(run(*third[0], "--json", cwd=tmp_path))
    expected = shape(json.loads(shown.text))
    del expected["steps"][0]["reasons"]
    told = shape({**report, "steps": [report["steps"][1]]})
    assert told["steps"][0].pop("reasons") == []  # it is reused by now
    assert told == expected


def test_every_command_that_is_shown_exists():
    lines = [line for block in blocks(language="console") for line in block.text.splitlines()]
    for line in lines:
        match shlex.split(line, comments=True):
            case ["make", target]:
                run("make", "-n", target, cwd=ROOT)
            case ["$", "mlpipe", name, *_]:
                assert CliRunner().invoke(app, [name, "--help"]).exit_code == 0
            case ["mlpipe", "--help"]:
                assert CliRunner().invoke(app, ["--help"]).exit_code == 0
            case ["pip", "install", "-c", constraints, here]:
                assert (ROOT / constraints).is_file()
                assert re.fullmatch(r"\.\[(\w+)\]", here)[1] in metadata("airflow-mlpipe").get_all("Provides-Extra")
            case [".", ".venv/bin/activate"]:
                assert "VENV := .venv\n" in (ROOT / "Makefile").read_text()
            case [".ci/run"]:
                assert os.access(ROOT / ".ci/run", os.X_OK)
            case unknown:
                pytest.fail(f"nothing here knows how to check {unknown}")


@pytest.fixture(scope="module")
def airflow(tmp_path_factory):
    """A home of Airflow with the DAG files of the README; those that define one DAG in two ways lie in two folders."""
    folder = tmp_path_factory.mktemp("airflow")
    pipelines = {f"dags/{path}": text for path, text in files(TUTORIAL).items()}
    write(folder, {**pipelines, **files(IN_AIRFLOW, OPERATORS, WAITING)})
    write(folder / "other", {**pipelines, **files(OWN_TASKS)})
    return folder


def in_airflow(folder, *command):
    """Run a Python command as a process of an Airflow with the DAGs of a folder."""
    variables = make_home(folder / "home", folder / "dags")
    ensure_database(folder / "home")
    env = {name: text for name, text in process_environment(variables).items() if not name.startswith(_THEIRS)}
    return run(sys.executable, *command, cwd=folder, env=env | variables)


LIST = """
import json, sys
from airflow.dag_processing.dagbag import DagBag
for folder in sys.argv[1:]:
    bag = DagBag(folder)
    print(json.dumps([{dag_id: sorted(dag.task_ids) for dag_id, dag in bag.dags.items()}, bag.import_errors]))
"""


def test_airflow_reads_the_dags_without_an_error(airflow):
    said = in_airflow(airflow, "-c", LIST, "dags", "other/dags").splitlines()
    assert [json.loads(line) for line in said if line.startswith("[")] == [
        [
            {
                "churn": ["plan", "prepare", "train"],
                "daily": ["publish", "trained"],
                "nightly": ["count", "report"],
            },
            {},
        ],
        [{"churn": ["plan", "prepare", "tell", "train"]}, {}],
    ]


def test_operators_pass_data_and_reuse(airflow):
    in_airflow(airflow, "-m", "airflow", "dags", "test", "nightly")
    (report,) = (airflow / "home" / "mlpipe" / "outputs").glob("*/*/report")
    assert int(report.read_text()) == len(Path("/etc/passwd").read_text().splitlines())


def test_a_sensor_passes_on_what_another_dag_made(airflow):
    in_airflow(airflow, "-m", "airflow", "dags", "test", "churn")
    in_airflow(airflow, "-m", "airflow", "dags", "test", "daily")
    (published,) = (airflow / "home" / "mlpipe" / "outputs").glob("*/*/published")
    assert "weight" in json.loads(published.read_text())


def test_a_task_of_ones_own_reads_what_a_step_left(airflow):
    said = in_airflow(airflow / "other", "-m", "airflow", "dags", "test", "churn")
    assert "The model is at file:///" in said


def test_the_example_of_azure_ml_runs(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "20news.csv").write_text("sci.space\n")
    (tmp_path / "train").mkdir()
    shutil.copy(Path(__file__).parent / "readme" / "train.py", tmp_path / "train" / "train.py")
    program = "\n".join(block.text for block in blocks(IN_PYTHON, "python"))
    told, _, dumped = run(sys.executable, "-c", program, cwd=tmp_path).partition("\n")
    outcome, path, metrics = told.split(maxsplit=2)
    assert (outcome, metrics) == ("ran", "{'rows': 1.0}")
    assert Path(path).read_text() == "SCI.SPACE\n"
    assert [step.name for step in loads(dumped, tmp_path).steps] == ["train_step"]


KNOWN = """
import json, sys
from airflow.configuration import conf
known = conf.configuration_description
for section, option in json.loads(sys.argv[1]):
    print(option in known.get(section, {}).get("options", {}), conf.get(section, option))
"""


def test_the_settings_exist_and_are_read_as_they_are_shown(tmp_path):
    (block,) = blocks("Settings of Airflow", "ini")
    parser = configparser.RawConfigParser()
    parser.read_string(block.text)
    settings = [(section, option, text) for section in parser.sections() for option, text in parser.items(section)]
    (tmp_path / "airflow.cfg").write_text(block.text)
    asked = json.dumps([(section, option) for section, option, _ in settings])
    said = run(sys.executable, "-c", KNOWN, asked, cwd=tmp_path, env={**os.environ, "AIRFLOW_HOME": str(tmp_path)})
    assert said.splitlines()[-len(settings) :] == [f"True {text}" for _, _, text in settings]


def messages():
    """Return the messages that the last section of help shows, as patterns: ``...`` stands for anything."""
    return [
        re.compile(r"\s+".join(re.escape(word).replace(r"\.\.\.", ".*") for word in text.split()), re.DOTALL)
        for text in (block.text for block in blocks(HELP, "text"))
    ]


def test_a_missing_lock_is_said_as_shown(tmp_path):
    write(tmp_path, files(TUTORIAL))
    definition = tmp_path / "pipelines" / "churn.yaml"
    definition.write_text(definition.read_text() + "environment: {requirements: [scikit-learn]}\n")
    ended = CliRunner().invoke(app, ["plan", str(definition)])
    assert ended.exit_code == 2
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    shown = messages()[0].pattern.replace(re.escape("3.11"), re.escape(version))
    shown = shown.replace(re.escape("linux-x86_64"), r"linux-\w+")
    assert re.fullmatch(shown, ended.stderr.strip(), re.DOTALL)


def test_a_broken_definition_is_refused_as_shown(tmp_path, monkeypatch):
    write(tmp_path, files(TUTORIAL))
    definition = tmp_path / "pipelines" / "churn.yaml"
    broken = definition.read_text().replace("default: 1.0", "default: much").replace("script_name", "script_nam", 1)
    definition.write_text(broken)
    monkeypatch.chdir(tmp_path)
    ended = CliRunner().invoke(app, ["validate", "pipelines"])
    assert ended.exit_code == 2
    assert messages()[1].fullmatch(ended.stderr.strip())


def test_a_store_that_cannot_be_written_says_so_as_shown():
    with pytest.raises(MlpipeError) as error:
        Store.open("/sys/mlpipe").write("runs/r/pin.json", b"")  # nobody can write there, not even root
    shown = messages()[2].pattern.partition(re.escape("planned:") + r"\s+")[2]
    shown = shown.replace(r"30\]\s+Read\-only\s+file\s+system", r"\d+\] [\w -]+")  # each system has its word for it
    assert re.fullmatch(shown, str(error.value), re.DOTALL)


def test_a_step_that_fails_says_so_as_shown(tmp_path):
    launcher = LocalLauncher(Store.open(str(tmp_path)), lambda *_: None, lambda _: sys.executable)
    exits = StepSpec("churn", "train", "command", (("sh",), ("-c",), ("echo no; exit 3",)))
    writes_nothing = StepSpec("churn", "train", "command", (("true",),), outputs={"model": OutputSpec()})
    said = []
    for number, spec in enumerate((exits, writes_nothing)):
        with pytest.raises(MlpipeError) as error:
            launcher.launch(spec, "f" * 64, str(number), {}, said.append)
        shown = blocks(HELP, "text")[3].text.splitlines()[number]
        assert f"train failed: {error.value}".startswith(shown)


def test_the_reasons_are_said_as_shown(tmp_path):
    never = History(None, "churn", {}, {})
    spec = bind("churn", CommandStep(name="train", command="true"), Values(), StepFacts())
    gone = verify(Store.open(str(tmp_path)), "outputs/f/c/model", Content("file", "sha256:0", 1, 1))
    said = [
        *never.explain(spec),
        Reason("code", "notes.txt", "a", "b"),
        Reason("inputs", "data", "a", "b"),
        Reason("run", "logical_date", "2025-01-01", "2025-01-02"),
        Reason("environment", "python", "3.11.1", "3.12.1"),
        Reason("software", "scikit-learn", "1.7.1", "1.7.2"),
        Reason("outputs", f"output model of the earlier run: {gone}"),
        forced_reason(Task(spec, allow_reuse=False)),
    ]
    shown = [spans(row[0])[0] for row in tables(HELP)[0]]
    assert len(shown) == len(said)
    for text, reason in zip(shown, said, strict=True):
        assert re.fullmatch(re.escape(text).replace(r"\.\.\.", r"\S+"), sentence(reason))
