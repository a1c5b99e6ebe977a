"""What every launcher does; each of these runs a real process or a real container."""

from __future__ import annotations

import sys
import threading
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from airflow_mlpipe.exceptions import (
    CommandFailedError,
    DataError,
    MlpipeError,
    OutputMissingError,
    StepError,
    StepStoppedError,
)
from airflow_mlpipe.runtime.protocol import EnvironmentSpec, OutputSpec
from airflow_mlpipe.store.store import Store
from tests.launchers.docker.bench import DockerBench
from tests.launchers.steps import FINGERPRINT, Bench
from tests.runtime.steps import eventually

MODEL = {"model": OutputSpec()}
WRITES = "import os; open(os.environ['MLPIPE_OUTPUT_MODEL'], 'w').write('model')\n"
WAITS = "import time; print('begun', flush=True); time.sleep(300)"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + WAITS
DOCKER = pytest.mark.docker
KINDS = ["local", pytest.param("mounted", marks=DOCKER), pytest.param("copied", marks=DOCKER)]
STAGING = {"mounted": "mount", "copied": "copy"}


@pytest.fixture(params=KINDS)
def bench(request, tmp_path, monkeypatch):
    monkeypatch.setenv("MLPIPE_CACHE", str(tmp_path / "cache"))
    store = Store.open(str(tmp_path / "store"))
    if request.param == "local":
        yield Bench(tmp_path, store, sys.executable)
        return
    engine = request.getfixturevalue("engine")
    yield DockerBench(tmp_path, store, "", engine=engine, fields={"staging": STAGING[request.param]})
    assert eventually(lambda: not engine.containers())
    assert engine.volumes() == []


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("1,2\n")
    return path


def started(bench, spec, launcher):
    """Launch in a thread; return it and what becomes of it, once the command has printed something."""
    ended: list[BaseException | object] = []

    def launch():
        try:
            ended.append(launcher.launch(spec, FINGERPRINT, "claim", {}, bench.logged.append))
        except MlpipeError as error:
            ended.append(error)

    thread = threading.Thread(target=launch)
    thread.start()
    assert eventually(lambda: bench.logged or ended)
    assert bench.logged
    return thread, ended


def test_outputs_are_published_and_the_step_directory_is_gone(bench):
    result = bench.launch(bench.spec(WRITES + "print('hello')", outputs=MODEL))
    assert (result.exit_code, result.error) == (0, None)
    assert bench.store.read(result.outputs["model"].path) == b"model"
    assert bench.logged == ["hello"]
    assert bench.work() == []


def test_an_output_may_be_a_folder_with_links_between_its_files(bench):
    script = "from mlpipe import Run\nfolder = Run.get_context().output('model')\n(folder / 'a').mkdir(parents=True)\n"
    script += "(folder / 'a' / 'b').write_text('x')\n(folder / 'here').symlink_to('a/b')\n"
    script += (
        "(folder / 'there').symlink_to(folder / 'a' / 'b')\nimport os; os.link(folder / 'a' / 'b', folder / 'hard')"
    )
    output = bench.launch(bench.spec(script, outputs=MODEL)).outputs["model"]
    assert (output.content.kind, output.content.files) == ("folder", 4)
    assert {bench.store.read(f"{output.path}/{name}") for name in ("a/b", "here", "there", "hard")} == {b"x"}


@pytest.mark.parametrize(
    "act", ["os.symlink('/etc/passwd', model)", "os.symlink('../../etc', model)", "os.symlink('/', model)"]
)
def test_an_output_that_is_a_link_to_elsewhere_is_refused(bench, act):
    with pytest.raises(DataError, match="is a link"):
        bench.launch(bench.spec(f"import os; model = os.environ['MLPIPE_OUTPUT_MODEL']; {act}", outputs=MODEL))
    assert bench.outputs() == {}


def test_a_link_in_an_output_that_leaves_it_is_refused_by_name(bench):
    script = "import os; model = os.environ['MLPIPE_OUTPUT_MODEL']; os.mkdir(model); open(model + '/a', 'w')\n"
    script += "os.symlink('/etc/passwd', model + '/b')"
    with pytest.raises(DataError, match=r"model/b"):
        bench.launch(bench.spec(script, outputs=MODEL))
    assert bench.outputs() == {}


def test_what_is_no_data_is_refused_by_name(bench):
    script = "import os; model = os.environ['MLPIPE_OUTPUT_MODEL']; os.mkdir(model); os.mkfifo(model + '/pipe')\n"
    with pytest.raises(DataError, match=r"model/pipe"):
        bench.launch(bench.spec(script + "open(model + '/a', 'w')", outputs=MODEL))
    assert bench.outputs() == {}


def test_files_that_nobody_else_may_read_are_published_too(bench):
    script = WRITES + "os.chmod(os.environ['MLPIPE_OUTPUT_MODEL'], 0o600)"
    output = bench.launch(bench.spec(script, outputs=MODEL)).outputs["model"]
    assert (bench.store.local_root / output.path).stat().st_mode & 0o777 == 0o444


def test_lines_are_logged_while_the_command_runs(bench):
    times = []
    script = "import time\nprint('first', flush=True); time.sleep(1); print('second')"
    bench.launcher().launch(bench.spec(script), FINGERPRINT, "claim", {}, lambda _: times.append(time.monotonic()))
    assert times[1] - times[0] > 0.8


def test_a_failed_step_leaves_no_output_says_how_it_ended_and_where_what_it_wrote_is_kept(bench):
    with pytest.raises(CommandFailedError) as caught:
        bench.launch(bench.spec(WRITES + "raise ValueError('wrong')", outputs=MODEL))
    assert "exit code 1" in str(caught.value)
    assert "ValueError: wrong" in str(caught.value)
    assert bench.outputs() == {}
    kept = Path(str(caught.value).rpartition(" in ")[2])
    assert (kept / "model").read_text() == "model"


def test_a_step_that_writes_no_declared_output_fails_and_names_it(bench):
    with pytest.raises(OutputMissingError, match="output 'model' was not written"):
        bench.launch(bench.spec("print('done')", outputs=MODEL))


def test_an_undeclared_output_is_warned_about_and_not_published(bench):
    result = bench.launch(bench.spec("open('../outputs/model', 'w')"))
    assert (result.outputs, bench.outputs()) == ({}, {})
    assert [line for line in bench.logged if "outputs/model, which is not a declared output" in line]


def test_inputs_are_there_and_a_command_cannot_change_the_store_through_them(bench, data):
    bound = bench.stored(data)
    script = "import os, shutil; path = os.environ['MLPIPE_INPUT_DATA']\n" + WRITES
    script += "open(os.environ['MLPIPE_OUTPUT_MODEL'], 'w').write(open(path).read())\n"
    output = bench.launch(bench.spec(script, inputs={"data": bound}, outputs=MODEL), claim="reads").outputs["model"]
    assert bench.store.read(output.path) == b"1,2\n"
    vandal = script + "os.chmod(path, 0o644); open(path, 'a').write('x')"
    with suppress(StepError):
        bench.launch(bench.spec(vandal, inputs={"data": bound}), claim="writes")
    assert bench.store.read(bench.store.path_of(bound.uri)) == b"1,2\n"


def test_metrics_are_what_the_script_logged(bench):
    script = "from mlpipe import Run\nrun = Run.get_context()\nrun.log('auc', 0.5)\nrun.log('auc', 0.75)\nassert not run.offline"
    assert bench.launch(bench.spec(script)).metrics == {"auc": 0.75}


def test_a_line_that_is_no_metric_fails_the_step(bench):
    with pytest.raises(StepError, match=r"metrics.jsonl, line 1"):
        bench.launch(bench.spec("open('../metrics.jsonl', 'a').write('no metric')"))


def test_a_secret_reaches_the_command_and_nothing_else(bench):
    script = "import os; print('the secret is', os.environ['TOKEN'], flush=True); raise SystemExit(os.environ['TOKEN'])"
    with pytest.raises(CommandFailedError) as caught:
        bench.launch(bench.spec(script), secrets={"TOKEN": "s3cr3t-t0k3n"})
    assert sorted(bench.logged) == ["***", "the secret is ***"]  # engines do not order the two streams
    assert "s3cr3t" not in str(caught.value)
    assert not [path for path in bench.root.rglob("*") if path.is_file() and b"s3cr3t" in path.read_bytes()]


def test_the_command_sees_declared_variables_and_a_fixed_list(bench):
    script = "import os; print(*(os.environ[n] for n in ('LANG', 'TZ', 'PYTHONHASHSEED', 'MINE', 'MLPIPE_PARAMETER_C', "
    script += "'AML_PARAMETER_c'))); print(sorted(os.listdir(os.environ['HOME'])), os.path.isdir(os.environ['TMPDIR']))"
    script += "\nprint('AIRFLOW_HOME' in os.environ)"
    environment = EnvironmentSpec(variables={"MINE": "1"})
    bench.launch(bench.spec(script, parameters={"c": 0.5}, environment=environment))
    assert bench.logged == ["C.UTF-8 UTC 0 1 0.5 0.5", "[] True", "False"]


def test_a_program_that_is_not_there_is_named(bench):
    with pytest.raises(CommandFailedError, match="cannot start 'no-such-program': there is no such program"):
        bench.launch(_with(bench.spec(""), "no-such-program"))


def test_a_file_that_is_not_executable_is_named(bench):
    with pytest.raises(CommandFailedError, match=r"cannot start '\./main.py': it is not executable"):
        bench.launch(_with(bench.spec("print()"), "./main.py"))


def _with(spec, *command):
    return replace(spec, command=tuple((word,) for word in command))


@pytest.mark.parametrize("script", [WAITS, STUBBORN])
def test_a_step_that_is_killed_ends_with_all_it_started_and_publishes_nothing(bench, script):
    launcher = bench.launcher()
    thread, ended = started(bench, bench.spec(WRITES + script, outputs=MODEL), launcher)
    began = time.monotonic()
    launcher.kill()
    launcher.kill()
    thread.join(timeout=30)
    assert isinstance(ended[0], StepStoppedError)
    assert time.monotonic() - began < 15
    assert bench.outputs() == {}


def test_a_step_that_is_killed_may_finish_what_it_does(bench):
    script = "import signal, sys\ndef end(*_): print('saved', flush=True); sys.exit(0)\n"
    launcher = bench.launcher()
    thread, ended = started(bench, bench.spec(f"{script}signal.signal(signal.SIGTERM, end)\n{WAITS}"), launcher)
    launcher.kill()
    thread.join(timeout=30)
    assert "saved" in bench.logged
    assert isinstance(ended[0], StepStoppedError)


def test_a_step_that_is_killed_before_it_begins_never_runs(bench):
    launcher = bench.launcher()
    launcher.kill()
    with pytest.raises(StepStoppedError, match="was stopped before its command began"):
        bench.launch(bench.spec("print('ran')"), launcher=launcher)
    assert bench.logged == []


def test_what_a_command_leaves_running_is_ended_before_its_outputs_are_published(bench):
    late = "if os.fork() == 0:\n    os.setsid()\n    while True: open(os.environ['MLPIPE_OUTPUT_MODEL'], 'a').write('late')\n"
    output = bench.launch(bench.spec(WRITES + late + "import time; time.sleep(0.2)", outputs=MODEL)).outputs["model"]
    published = bench.store.read(output.path)
    time.sleep(0.2)
    assert bench.store.read(output.path) == published
    assert len(published) == output.content.size
