from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from fsspec.core import url_to_fs

from airflow_mlpipe.exceptions import (
    CommandFailedError,
    DataChangedError,
    DataError,
    InputLostError,
    InputModifiedError,
    OutputMissingError,
    StepError,
)
from airflow_mlpipe.runtime.layout import StepDirectory
from airflow_mlpipe.runtime.protocol import EnvironmentSpec, InputSpec, OutputSpec
from tests.launchers.steps import FINGERPRINT
from tests.runtime.steps import alive, eventually, pids, pids_in

MODEL = {"model": OutputSpec()}
WRITES = "import os; open(os.environ['MLPIPE_OUTPUT_MODEL'], 'w').write('model')\n"
COPIES = "import os, shutil; shutil.copyfile(os.environ['MLPIPE_INPUT_DATA'], os.environ['MLPIPE_OUTPUT_MODEL'])\n"
LEAVES_CHILDREN = """
import os, subprocess, time
for new in (False, True):
    child = subprocess.Popen(["sh", "-c", "echo $$ >> pids; sleep 300"], start_new_session=new)
while not (os.path.exists("pids") and len(open("pids").readlines()) == 2): time.sleep(0.01)
"""


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("1,2\n")
    return path


def read(bench, ref) -> bytes:
    return bench.store.read(ref.path)


def test_a_successful_step_publishes_its_outputs_and_leaves_no_directory(bench):
    result = bench.launch(bench.spec(WRITES + "print('hello')", outputs=MODEL))
    assert (result.exit_code, result.error) == (0, None)
    assert read(bench, result.outputs["model"]) == b"model"
    assert result.outputs["model"].content.kind == "file"
    assert bench.logged == ["hello"]
    assert bench.work() == []


def test_an_output_may_be_a_folder(bench):
    script = "from mlpipe import Run\nfolder = Run.get_context().output('model')\n(folder / 'a').mkdir(parents=True)\n"
    script += "(folder / 'a' / 'b').write_text('x')"
    output = bench.launch(bench.spec(script, outputs=MODEL)).outputs["model"]
    assert (output.content.kind, output.content.files) == ("folder", 1)
    assert bench.store.read(f"{output.path}/a/b") == b"x"


def test_a_store_elsewhere_receives_the_outputs_and_gives_the_inputs(remote, data):
    bound = remote.stored(data)
    result = remote.launch(remote.spec(COPIES, inputs={"data": bound}, outputs=MODEL))
    assert read(remote, result.outputs["model"]) == b"1,2\n"
    assert not list(remote.root.glob("mlpipe-*"))


def test_lines_are_logged_while_the_command_runs(bench):
    lines, seen = [], bench.root / "seen"
    script = (
        f"import os, time\nprint('first')\nwhile not os.path.exists({str(seen)!r}): time.sleep(0.01)\nprint('second')"
    )

    def log(line):
        lines.append(line)
        seen.touch()

    bench.launcher().launch(bench.spec(script), FINGERPRINT, "claim", {}, log)
    assert lines == ["first", "second"]


def test_a_failed_step_leaves_no_output_and_says_how_it_ended(bench):
    with pytest.raises(CommandFailedError) as caught:
        bench.launch(bench.spec(WRITES + "raise ValueError('wrong')", outputs=MODEL))
    assert "exit code 1" in str(caught.value)
    assert "ValueError: wrong" in str(caught.value)
    assert bench.outputs() == {}


def test_what_a_failed_step_wrote_is_kept_and_the_error_says_where(bench):
    with pytest.raises(CommandFailedError) as caught:
        bench.launch(bench.spec(WRITES + "raise SystemExit(4)", outputs=MODEL))
    kept = Path(str(caught.value).rpartition(" in ")[2])
    assert (kept / "model").read_text() == "model"
    assert sorted(path.name for path in kept.parent.iterdir()) == [
        "metrics.jsonl",
        "outputs",
        "result.json",
        "spec.json",
    ]


def test_a_failed_step_that_wrote_nothing_leaves_nothing(bench):
    with pytest.raises(CommandFailedError, match="it printed nothing"):
        bench.launch(bench.spec("raise SystemExit(4)"))
    assert bench.work() == []


def test_a_step_that_writes_no_declared_output_fails_and_names_it(bench):
    with pytest.raises(OutputMissingError, match="output 'model' was not written"):
        bench.launch(bench.spec("print('done')", outputs=MODEL))
    assert bench.outputs() == {}


def test_an_undeclared_output_is_warned_about_and_not_published(bench):
    result = bench.launch(bench.spec("open('../outputs/model', 'w')"))
    assert result.outputs == {}
    assert bench.outputs() == {}
    assert [line for line in bench.logged if "outputs/model, which is not a declared output" in line]


def test_descendants_are_ended_before_anything_is_published(bench):
    late = "if os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        while True:\n"
    late += (
        "            open(os.environ['MLPIPE_OUTPUT_MODEL'], 'a').write('late'); time.sleep(0.001)\n    os._exit(0)\n"
    )
    result = bench.launch(bench.spec("import time\n" + WRITES + late + "time.sleep(0.05)", outputs=MODEL))
    published = read(bench, result.outputs["model"])
    assert len(published) == result.outputs["model"].content.size
    assert pids_in(bench.root) == []
    time.sleep(0.1)
    assert read(bench, result.outputs["model"]) == published


def test_a_step_that_leaves_children_running_ends_them(bench):
    bench.launch(bench.spec(WRITES + LEAVES_CHILDREN, outputs=MODEL))
    assert pids_in(bench.root) == []


@pytest.mark.parametrize("mode", ["mount", "download"])
def test_a_step_cannot_change_the_store_through_its_inputs(bench, data, mode):
    bound = replace(bench.stored(data), mode=mode)
    script = WRITES + "path = os.environ['MLPIPE_INPUT_DATA']; os.chmod(path, 0o644); open(path, 'a').write('more')"
    with pytest.raises(InputModifiedError, match="data was changed"):
        bench.launch(bench.spec(script, inputs={"data": bound}, outputs=MODEL))
    left = bench.store.read_all([bench.store.path_of(bound.uri)])
    assert list(left.values()) == [b"1,2\n"] or (mode == "mount" and not left)  # gone where it was a hard link


def test_a_file_added_to_an_input_folder_fails_the_step(bench, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a").touch()
    bound = bench.stored(tmp_path / "folder")
    script = "import os; f = os.environ['MLPIPE_INPUT_DATA']; os.chmod(f, 0o755); open(f + '/new', 'w')"
    with pytest.raises(InputModifiedError, match="data/new was added"):
        bench.launch(bench.spec(script, inputs={"data": bound}))
    assert list(bench.store.sizes(bench.store.path_of(bound.uri))) == ["a"]


def test_a_stored_file_that_was_written_into_through_a_hard_link_is_removed_so_that_it_is_made_anew(
    bench, data, monkeypatch
):
    bound = bench.stored(data)
    stored = bench.store.local_root / bench.store.path_of(bound.uri)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)  # only root never gets links
    script = "import os; path = os.environ['MLPIPE_INPUT_DATA']; os.chmod(path, 0o644); open(path, 'a').write('more')"
    with pytest.raises(InputModifiedError, match="data was changed"):
        bench.launch(bench.spec(script, inputs={"data": bound}))
    assert not stored.exists() or stored.read_text() == "1,2\n"  # a clone where the filesystem can


def test_a_users_own_read_only_file_is_never_changed_by_a_script(bench, data, monkeypatch):
    data.chmod(0o444)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    script = "import os; path = os.environ['MLPIPE_INPUT_DATA']; os.chmod(path, 0o644); open(path, 'a').write('more')"
    with pytest.raises(InputModifiedError, match="data was changed"):
        bench.launch(bench.spec(script, inputs={"data": bench.external(data)}))
    assert data.read_text() == "1,2\n"
    assert data.stat().st_mode & 0o777 == 0o444


def test_other_steps_may_share_a_stored_file_by_hard_links_meanwhile(bench, data, monkeypatch):
    bound = bench.stored(data)
    stored = bench.store.local_root / bench.store.path_of(bound.uri)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    script = COPIES + f"os.link({str(stored)!r}, 'mine'); os.unlink('mine')"
    assert bench.launch(bench.spec(script, inputs={"data": bound}, outputs=MODEL)).outputs


VANDAL = """
import os, sys
place = os.environ["MLPIPE_INPUT_DATA"].removeprefix("file://")
file = place if os.path.isfile(place) else place + "/a"
before = os.stat(file)
def write(): os.chmod(file, 0o644); open(file, "r+").write("EVIL")
def hide(): write(); os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns)); os.chmod(file, before.st_mode & 0o777)
def remove(): os.unlink(file)
def add(): open(place + "/new", "w")
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "folder").mkdir()
    for name in ("a", "b"):
        (tmp_path / "folder" / name).write_text("good")
    return tmp_path / "folder"


@pytest.mark.parametrize(
    ("act", "said", "left"),
    [
        ("write", "data/a was changed", {"b": 4}),
        ("hide", "data/a was changed", {"b": 4}),
        ("remove", "data/a was removed", {"b": 4}),
        ("add", "data/new was added", {"a": 4, "b": 4}),
    ],
)
def test_rule_7_a_command_that_writes_into_a_direct_input_fails_and_the_store_keeps_nothing_of_it(
    bench, folder, act, said, left
):
    bound = replace(bench.stored(folder), mode="direct")
    with pytest.raises(InputModifiedError, match=said):
        bench.launch(bench.spec(f"{VANDAL}{act}()", inputs={"data": bound}))
    assert bench.store.sizes(bench.store.path_of(bound.uri)) == left


@pytest.mark.parametrize("act", ["write", "hide", "remove"])
def test_rule_7_a_single_file_that_is_written_into_directly_is_removed_from_the_store(bench, folder, act):
    bound = replace(bench.stored(folder / "a"), mode="direct")
    with pytest.raises(InputModifiedError, match="data was "):
        bench.launch(bench.spec(f"{VANDAL}{act}()", inputs={"data": bound}))
    assert bench.store.sizes(bench.store.path_of(bound.uri)) == {}


def test_rule_7_a_command_that_fails_leaves_no_direct_input_damaged_either(bench, folder):
    bound = replace(bench.stored(folder), mode="direct")
    with pytest.raises(CommandFailedError):
        bench.launch(bench.spec(f"{VANDAL}write(); sys.exit(1)", inputs={"data": bound}))
    assert bench.store.sizes(bench.store.path_of(bound.uri)) == {"b": 4}


def test_other_steps_may_link_to_a_direct_input_meanwhile(bench, folder):
    bound = replace(bench.stored(folder), mode="direct")
    script = f"{VANDAL}os.link(file, 'mine'); os.unlink('mine'); {WRITES}"
    assert bench.launch(bench.spec(script, inputs={"data": bound}, outputs=MODEL)).outputs
    assert bench.store.sizes(bench.store.path_of(bound.uri)) == {"a": 4, "b": 4}


@pytest.mark.parametrize("place", ["bench", "remote"])
def test_rule_7_a_stored_input_that_was_damaged_is_lost_even_if_it_keeps_its_size(request, data, monkeypatch, place):
    monkeypatch.setattr("airflow_mlpipe.store.staging.Stager._clone", lambda *_: False)
    bench = request.getfixturevalue(place)
    bound = replace(bench.stored(data), mode="download")
    assert bench.launch(bench.spec(COPIES, inputs={"data": bound}, outputs=MODEL)).outputs
    bench.store.write(bench.store.path_of(bound.uri), b"1,3\n")
    with pytest.raises(InputLostError, match="its content is not what was recorded; clear the task") as caught:
        bench.launch(bench.spec(COPIES, inputs={"data": bound}, outputs=MODEL), "second")
    assert caught.value.path == bench.store.path_of(bound.uri)


@pytest.mark.parametrize("mode", ["mount", "download", "direct"])
def test_an_external_file_replaced_during_the_step_makes_no_record(bench, data, mode):
    script = WRITES + f"open({str(data)!r}, 'w').write('3,4\\n')"
    spec = bench.spec(script, inputs={"data": bench.external(data, mode=mode)}, outputs=MODEL)
    with pytest.raises(DataChangedError, match="input 'data' changed after the step was planned"):
        bench.launch(spec)
    assert bench.outputs() == {}
    assert bench.work() == []


def test_an_external_file_replaced_before_the_step_is_refused(bench, data):
    spec = bench.spec(WRITES, inputs={"data": bench.external(data)}, outputs=MODEL)
    data.write_text("3,4\n")
    with pytest.raises(DataChangedError):
        bench.launch(spec)
    assert bench.logged == []


def test_an_external_file_that_is_gone_is_refused(bench, data):
    spec = bench.spec(WRITES, inputs={"data": bench.external(data)})
    data.unlink()
    with pytest.raises(DataError, match="data"):
        bench.launch(spec)


@pytest.mark.parametrize("compare", ["content", "version"])
def test_data_of_another_filesystem_is_staged_and_checked(bench, compare):
    fs, path = url_to_fs(f"memory://external/{compare}")
    fs.pipe_file(path, b"far")
    bound = bench.external(f"memory://external/{compare}", compare=compare)
    result = bench.launch(bench.spec(COPIES, inputs={"data": bound}, outputs=MODEL))
    assert read(bench, result.outputs["model"]) == b"far"
    time.sleep(0.01)
    fs.pipe_file(path, b"new")
    with pytest.raises(DataChangedError):
        bench.launch(bench.spec(COPIES, inputs={"data": bound}, outputs=MODEL), "second")


def test_data_compared_by_path_may_change(bench, data):
    bound = bench.external(data, compare="path")
    data.write_text("new")
    result = bench.launch(bench.spec(COPIES, inputs={"data": bound}, outputs=MODEL))
    assert read(bench, result.outputs["model"]) == b"new"


def test_a_direct_input_is_its_uri(bench, data):
    bound = bench.external(data, mode="direct")
    bench.launch(bench.spec("import os; print(os.environ['MLPIPE_INPUT_DATA'])", inputs={"data": bound}))
    assert bench.logged == [data.as_uri()]


def test_an_input_that_is_not_bound_is_an_error(bench):
    with pytest.raises(DataError, match="input 'data' is not bound yet"):
        bench.launch(bench.spec(WRITES, inputs={"data": InputSpec(producer=("prepare", "clean"))}))


def test_secrets_reach_the_script_and_no_file_or_log(bench):
    script = (
        WRITES + "print(os.environ['TOKEN']); raise SystemExit(0 if os.environ['TOKEN'] == 'hunter2-secret' else 1)"
    )
    environment = EnvironmentSpec(secrets={"TOKEN": "variable:token"})
    bench.launch(bench.spec(script, environment=environment, outputs=MODEL), secrets={"TOKEN": "hunter2-secret"})
    assert bench.logged == ["***"]
    failing = bench.spec(WRITES + "raise SystemExit(os.environ['TOKEN'])", environment=environment, outputs=MODEL)
    with pytest.raises(CommandFailedError) as caught:
        bench.launch(failing, "second", secrets={"TOKEN": "hunter2-secret"})
    assert "hunter2" not in str(caught.value)
    kept = [path for path in (bench.root / "store" / "work").rglob("*") if path.is_file()]
    assert {path.name for path in kept} >= {"spec.json", "result.json"}
    assert not [path for path in kept if b"hunter2" in path.read_bytes()]


def test_a_secret_in_the_name_of_a_file_is_hidden_in_what_is_said_of_it(bench):
    script = WRITES + "token = os.environ['TOKEN']; open('../outputs/' + token, 'w')\n"
    environment = EnvironmentSpec(secrets={"TOKEN": "variable:token"})
    bench.launch(bench.spec(script, environment=environment, outputs=MODEL), secrets={"TOKEN": "hunter2-secret"})
    assert [line for line in bench.logged if "wrote outputs/***, which is not a declared output" in line]
    script = "import os; path = os.environ['MLPIPE_OUTPUT_MODEL']; os.mkdir(path); open(path + '/a', 'w')\n"
    script += "os.symlink('/nowhere/' + os.environ['TOKEN'], path + '/link')"
    with pytest.raises(DataError, match=r"leaves .*/nowhere/\*\*\*") as caught:
        bench.launch(
            bench.spec(script, environment=environment, outputs=MODEL), "second", secrets={"TOKEN": "hunter2-secret"}
        )
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


def test_what_the_script_imports_is_observed(bench):
    environment = EnvironmentSpec(observe=True)
    result = bench.launch(bench.spec("import yaml, os; os._exit(0)", environment=environment))
    assert result.observed["pyyaml"] == yaml.__version__


def test_metrics_and_times_are_part_of_the_result(bench):
    result = bench.launch(bench.spec("from mlpipe import Run; Run.get_context().log('auc', 0.9)"))
    assert result.metrics == {"auc": 0.9}
    assert result.seconds > 0


def test_a_bad_metric_fails_the_step(bench):
    with pytest.raises(StepError, match="line 1"):
        bench.launch(bench.spec("open('../metrics.jsonl', 'w').write('accuracy 0.9')"))


def test_an_output_that_links_out_of_its_folder_is_refused_and_nothing_is_published(bench):
    script = (
        WRITES
        + "os.makedirs(os.environ['MLPIPE_OUTPUT_LINKS']); os.symlink('/etc/passwd', os.environ['MLPIPE_OUTPUT_LINKS'] + '/x')"
    )
    with pytest.raises(Exception, match="x"):
        bench.launch(bench.spec(script, outputs={**MODEL, "links": OutputSpec()}))
    assert bench.outputs() == {}


def test_kill_ends_the_whole_tree_and_publishes_nothing(bench):
    launcher, errors = bench.launcher(), []

    def run():
        try:
            bench.launch(bench.spec(WRITES + LEAVES_CHILDREN + "time.sleep(300)", outputs=MODEL), launcher=launcher)
        except CommandFailedError as error:
            errors.append(str(error))

    thread = threading.Thread(target=run)
    thread.start()
    processes = pids(bench.root / "store" / "work" / "claim" / "code" / "pids", 2)
    launcher.kill()
    launcher.kill()
    thread.join(20)
    assert not thread.is_alive()
    assert "stopped by SIGTERM" in errors[0]
    assert not [process for process in processes if alive(process)]
    assert bench.outputs() == {}


def test_kill_before_the_command_begins_stops_the_step(bench):
    launcher = bench.launcher()
    launcher.kill()
    with pytest.raises(CommandFailedError, match="stopped before its command began"):
        bench.launch(bench.spec(WRITES), launcher=launcher)


def test_an_exception_in_a_signal_handler_leaves_no_process(bench):
    class StopError(Exception):
        pass

    def handler(*_):
        raise StopError

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    try:
        with pytest.raises(StopError):
            bench.launch(bench.spec("import time; time.sleep(300)"))
    finally:
        signal.signal(signal.SIGALRM, before)
    assert pids_in(bench.root) == []
    assert bench.work() == []


def test_a_killed_supervisor_fails_the_step(bench):
    script = "import os, time; os.kill(os.getppid(), 9); time.sleep(300)"
    with pytest.raises(CommandFailedError, match="the supervisor ended with code -9"):
        bench.launch(bench.spec(script))
    assert eventually(lambda: pids_in(bench.root) == [])
    temporary = StepDirectory(bench.root / "store" / "work" / "claim").short_temporary
    assert not os.path.lexists(temporary)


KILLED = """
import sys
from pathlib import Path
from airflow_mlpipe.store.store import Store
from airflow_mlpipe.runtime.layout import StepDirectory
from airflow_mlpipe.runtime.protocol import OutputSpec
from tests.launchers.steps import Bench
root = Path(sys.argv[1])
bench = Bench(root, Store.open(str(root / "store")), sys.executable)
bench.launch(bench.spec(sys.argv[2], outputs={"model": OutputSpec()}))
"""


def test_sigkill_of_the_launcher_leaves_no_process_and_no_output(bench):
    script = WRITES + LEAVES_CHILDREN + "time.sleep(300)"
    command = [sys.executable, "-c", KILLED, str(bench.root), script]
    with subprocess.Popen(command, cwd=Path(__file__).parents[2]) as process:
        processes = pids(bench.root / "store" / "work" / "claim" / "code" / "pids", 2)
        assert len(pids_in(bench.root)) >= 3
        process.kill()
    assert eventually(lambda: not [one for one in processes if alive(one)] and pids_in(bench.root) == [])
    assert bench.outputs() == {}
    assert eventually(lambda: bench.work() == [])


def test_a_supervisor_that_cannot_write_the_result_says_why(bench):
    with pytest.raises(CommandFailedError, match=r"ended with code 1 before.*\n    mlpipe: .*Is a directory"):
        bench.launch(bench.spec("import os; os.mkdir('../.result.json')"))


def test_a_step_directory_that_cannot_be_filled_fails_the_step(bench, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("airflow_mlpipe.store.snapshots.unpack", full)
    with pytest.raises(StepError, match=r"cannot be filled: .*No space left"):
        bench.launch(bench.spec("print()"))


def test_a_second_try_of_a_claim_begins_anew(bench):
    (bench.root / "store" / "work" / "claim" / "outputs" / "model").mkdir(parents=True)
    assert bench.launch(bench.spec(WRITES, outputs=MODEL)).outputs


def test_a_step_may_make_its_folders_read_only(bench):
    script = "import os; os.makedirs('a/b'); open('a/b/c', 'w'); os.chmod('a/b', 0o500); os.chmod('a', 0o500)"
    bench.launch(bench.spec(script))
    assert bench.work() == []
