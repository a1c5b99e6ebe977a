from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from airflow_mlpipe.runtime.protocol import EnvironmentSpec, InputSpec, OutputSpec, Reference
from airflow_mlpipe.runtime.supervise import ending
from tests.runtime.steps import PYTHON, alive, eventually, fill, pids, run_script, spec_of, supervised

LEFT_BEHIND = """
import os, subprocess, sys, time
def note(pid):
    with open("pids", "a") as file: print(pid, file=file)
note(subprocess.Popen(["sleep", "300"]).pid)                              # a child
note(subprocess.Popen(["sleep", "300"], start_new_session=True).pid)      # one that left the session
if os.fork() == 0:                                                        # a double fork
    os.setsid()
    if os.fork() == 0:
        note(os.getpid())
        time.sleep(300)
    os._exit(0)
os.wait()
"""
DEAF = "import signal, os, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); open('pids','a').write(f'{os.getpid()}\\n'); time.sleep(300)"


def test_a_successful_command_leaves_a_result(tmp_path):
    result, output = run_script(tmp_path, "print('hello')")
    assert (result.exit_code, result.error, result.tail) == (0, None, ("hello",))
    assert output == b"hello\n"
    assert result.seconds > 0


def test_a_failing_command_gives_its_exit_code_and_last_lines(tmp_path):
    result, _ = run_script(tmp_path, "import sys; print('before'); sys.exit(3)")
    assert result.exit_code == 3
    assert result.error == "the command ended with exit code 3"
    assert result.tail == ("before",)


def test_a_command_that_dies_by_a_signal_gives_its_name(tmp_path):
    result, _ = run_script(tmp_path, "import os; os.kill(os.getpid(), 9)")
    assert result.exit_code == -9
    assert "SIGKILL" in str(result.error)


@pytest.mark.parametrize(
    ("code", "words"), [(None, None), (0, None), (7, "exit code 7"), (-15, "SIGTERM"), (-63, "signal 63")]
)
def test_an_exit_code_has_words(code, words):
    assert ending(code) is words or words in str(ending(code))


def test_descendants_that_outlive_their_parent_are_ended_before_the_result_is_written(tmp_path):
    directory = fill(tmp_path, spec_of(), LEFT_BEHIND)
    result, _ = supervised(directory)
    assert result.error is None
    processes = pids(directory.code / "pids", 3)
    assert not [process for process in processes if alive(process)]


def test_a_descendant_that_ignores_sigterm_is_killed(tmp_path):
    script = f"import subprocess, sys, os, time; subprocess.Popen([sys.executable, '-c', {DEAF!r}])\nwhile not os.path.exists('pids'): time.sleep(.01)"
    directory = fill(tmp_path, spec_of(), script)
    result, _ = supervised(directory)
    assert result.error is None
    assert not alive(pids(directory.code / "pids", 1)[0])


def test_a_stopped_descendant_is_ended(tmp_path):
    script = "import subprocess, os; p = subprocess.Popen(['sleep', '300']); os.kill(p.pid, 19); open('pids', 'w').write(str(p.pid))"
    directory = fill(tmp_path, spec_of(), script)
    supervised(directory)
    assert not alive(pids(directory.code / "pids", 1)[0])


def test_a_background_writer_does_not_hold_the_step(tmp_path):
    result, _ = supervised(fill(tmp_path, spec_of("sh", "-c", "(while true; do echo x; done) & echo done")))
    assert result.error is None


def test_a_script_may_print_100_mb(tmp_path):
    script = "import sys\nfor _ in range(1600): sys.stdout.write('x' * 65535 + '\\n')\nprint('end')"
    directory = fill(tmp_path, spec_of(), script)
    command = [sys.executable, "-m", "airflow_mlpipe.runtime", str(directory.root)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    size = peak = 0
    while chunk := process.stdout.read1(1 << 20):
        size += len(chunk)
        peak = max(peak, _peak_memory(process.pid))
    assert process.wait() == 0
    assert size == 1600 * 65536 + 4
    assert peak < 100 * 1024
    assert json.loads(directory.result.read_bytes())["tail"][-1] == "end"


def _peak_memory(process: int) -> int:
    try:
        with Path(f"/proc/{process}/status").open() as file:
            return next((int(line.split()[1]) for line in file if line.startswith("VmHWM")), 0)
    except OSError:
        return 0


def test_binary_garbage_and_endless_lines_survive(tmp_path):
    script = "import sys; w = sys.stdout.buffer.write; w(bytes(range(256)) * 1000); w(b'\\n'); w(b'y' * 3_000_000)"
    result, output = run_script(tmp_path, script)
    assert result.error is None
    assert output == bytes(range(256)) * 1000 + b"\n" + b"y" * 3_000_000
    assert len(result.tail[-1]) < 3000


def test_a_command_that_is_not_there_says_what_to_do(tmp_path):
    result, _ = supervised(fill(tmp_path, spec_of("no-such-program")))
    assert result.exit_code is None
    assert "there is no such program" in str(result.error)
    assert "PATH" in str(result.error)


def test_a_file_that_is_not_executable_says_what_to_do(tmp_path):
    result, _ = supervised(fill(tmp_path, spec_of("./main.py"), "print()"))
    assert "chmod +x" in str(result.error)


@pytest.mark.parametrize(("line", "words"), [("#!/no/such/interpreter\n", "first line"), ("print()", "#!/bin/sh")])
def test_an_executable_that_cannot_start_says_why(tmp_path, line, words):
    directory = fill(tmp_path, spec_of("./main.py"), line)
    (directory.code / "main.py").chmod(0o755)
    assert words in str(supervised(directory)[0].error)


def test_only_the_fixed_and_declared_variables_reach_the_script(tmp_path, monkeypatch):
    monkeypatch.setenv("UNDECLARED", "1")
    spec = spec_of(
        parameters={"rate": 0.5, "on": True},
        inputs={"data": InputSpec()},
        outputs={"model": OutputSpec()},
        run={"logical_date": "2026-01-01"},
        environment=EnvironmentSpec(variables={"DECLARED": "yes", "LANG": "de_DE.UTF-8", "PYTHONPATH": "lib"}),
    )
    directory = fill(tmp_path / ("long" * 20), spec, "import json, os; json.dump(dict(os.environ), open('env', 'w'))")
    result, _ = supervised(directory)
    assert result.error is None
    seen = json.loads((directory.code / "env").read_text())
    root = str(directory.root)
    temporary = seen.pop("TMPDIR")
    assert len(temporary) < 60  # sockets in it have a path of at most 107 bytes
    assert not os.path.lexists(temporary)
    seen.pop("LC_CTYPE", None)
    assert seen == {
        "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
        "LANG": "de_DE.UTF-8",
        "TZ": "UTC",
        "PYTHONHASHSEED": "0",
        "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": f"{root}/private/python:lib",
        "HOME": f"{root}/private/home",
        "DECLARED": "yes",
        "MLPIPE_STEP_DIRECTORY": root,
        "MLPIPE_INPUT_DATA": f"{root}/inputs/data",
        "AZUREML_DATAREFERENCE_data": f"{root}/inputs/data",
        "MLPIPE_OUTPUT_MODEL": f"{root}/outputs/model",
        "AZUREML_DATAREFERENCE_model": f"{root}/outputs/model",
        "MLPIPE_PARAMETER_RATE": "0.5",
        "AML_PARAMETER_rate": "0.5",
        "MLPIPE_PARAMETER_ON": "true",
        "AML_PARAMETER_on": "true",
        "MLPIPE_RUN_LOGICAL_DATE": "2026-01-01",
    }


def test_a_declared_folder_for_temporary_files_is_used(tmp_path):
    spec = spec_of("sh", "-c", "echo $TMPDIR", environment=EnvironmentSpec(variables={"TMPDIR": "/var/tmp"}))
    assert supervised(fill(tmp_path / ("long" * 20), spec))[0].tail == ("/var/tmp",)


def test_every_reference_becomes_text(tmp_path):
    spec = spec_of(
        parameters={"c": 1.0},
        inputs={"raw": InputSpec(), "far": InputSpec(uri="s3://bucket/x", mode="direct")},
        outputs={"out": OutputSpec()},
        run={"date": "today"},
    )
    parts = [("--raw=", Reference("input", "raw")), (Reference("input", "far"),), (Reference("output", "out"),)]
    parts += [("c", Reference("parameter", "c"), "/", Reference("run", "date"))]
    spec = spec_of(**{**vars(spec), "command": (PYTHON, ("main.py",), *parts)})
    directory = fill(tmp_path, spec, "import sys; print(*sys.argv[1:], sep='\\n')")
    root = directory.root
    expected = (f"--raw={root}/inputs/raw", "s3://bucket/x", f"{root}/outputs/out", "c1.0/today")
    assert supervised(directory)[0].tail == expected


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_supervisor_ends_everything(tmp_path, number):
    directory = fill(tmp_path, spec_of(), LEFT_BEHIND + "time.sleep(300)")
    process = subprocess.Popen([sys.executable, "-m", "airflow_mlpipe.runtime", str(tmp_path)])
    processes = pids(directory.code / "pids", 3)
    process.send_signal(number)
    assert process.wait(20) != 0
    assert not [one for one in processes if alive(one)]
    assert "it was stopped by" in json.loads(directory.result.read_bytes())["error"]


def test_a_stopped_supervisor_ends_everything_though_nobody_reads_its_output(tmp_path):
    directory = fill(tmp_path, spec_of(), LEFT_BEHIND + "while True: print('x' * 1000)")
    command = [sys.executable, "-m", "airflow_mlpipe.runtime", str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    processes = pids(directory.code / "pids", 3)
    time.sleep(0.3)
    process.terminate()
    assert eventually(lambda: process.poll() is not None, 15)
    assert not [one for one in processes if alive(one)]


def test_secrets_reach_the_script_and_nothing_of_ours(tmp_path):
    secrets = {"TOKEN": "hunter2-is-secret", "KEY": "line one\nline two"}
    script = "import os, sys\nprint(os.environ['TOKEN'], os.environ['KEY'])\nprint(len(os.environ['TOKEN']))\n"
    script += "for c in os.environ['TOKEN']: sys.stdout.write(c); sys.stdout.flush()"
    directory = fill(tmp_path, spec_of(), script)
    reader, writer = os.pipe()
    command = [sys.executable, "-m", "airflow_mlpipe.runtime", str(tmp_path), "--control", str(reader)]
    process = subprocess.Popen(command, pass_fds=(reader,), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    os.write(writer, json.dumps(secrets).encode() + b"\n")
    output, _ = process.communicate(timeout=30)
    os.close(writer)
    os.close(reader)
    assert output == b"*** ***\n17\n***"
    for path in (directory.result, directory.spec):
        assert not any(secret.encode() in path.read_bytes() for secret in ("hunter2", "line two"))


def test_everything_ends_when_the_launcher_closes_its_end(tmp_path):
    directory = fill(tmp_path, spec_of(), LEFT_BEHIND + "time.sleep(300)")
    reader, writer = os.pipe()
    command = [sys.executable, "-m", "airflow_mlpipe.runtime", str(tmp_path), "--control", str(reader)]
    process = subprocess.Popen(command, pass_fds=(reader,))
    os.close(reader)
    os.write(writer, b"{}\n")
    processes = pids(directory.code / "pids", 3)
    os.close(writer)
    assert process.wait(20) != 0
    assert not [one for one in processes if alive(one)]
    assert not tmp_path.exists()


def test_the_command_dies_with_a_killed_supervisor(tmp_path):
    directory = fill(tmp_path, spec_of(), "import os, time; open('pids', 'w').write(str(os.getpid())); time.sleep(300)")
    process = subprocess.Popen([sys.executable, "-m", "airflow_mlpipe.runtime", str(tmp_path)])
    (child,) = pids(directory.code / "pids", 1)
    process.kill()
    process.wait()
    assert eventually(lambda: not alive(child))


def test_the_input_of_a_command_is_empty(tmp_path):
    result, _ = run_script(tmp_path, "import sys; print(repr(sys.stdin.read()))")
    assert result.tail == ("''",)


def test_a_bad_line_of_metrics_fails_the_step_naming_it(tmp_path):
    script = 'open(\'../metrics.jsonl\', \'w\').write(\'{"name": "a", "value": 1}\\n{"name": "b", "value": NaN}\\n\')'
    result, _ = run_script(tmp_path, script)
    assert result.exit_code == 0
    assert "metrics.jsonl, line 2" in str(result.error)


def test_metrics_are_part_of_the_result(tmp_path):
    script = "from mlpipe import Run; r = Run.get_context(); r.log('auc', 0.5, step=1); r.log('auc', 0.75, step=2)"
    result, _ = run_script(tmp_path, script)
    assert result.metrics == {"auc": 0.75}


def result_with_secret(root, script, secret):
    """Run a script that finds a secret in TOKEN; return its result as it is written."""
    directory = fill(root, spec_of(), script)
    reader, writer = os.pipe()
    os.write(writer, json.dumps({"TOKEN": secret}).encode() + b"\n")
    command = [sys.executable, "-m", "airflow_mlpipe.runtime", str(root), "--control", str(reader)]
    subprocess.run(command, pass_fds=(reader,), timeout=30, check=False)
    os.close(reader)
    os.close(writer)
    return directory.result.read_text()


@pytest.mark.parametrize("secret", ["hunter2", "hunter2" * 50], ids=["short", "longer than what is shown"])
def test_a_secret_in_a_bad_metric_is_hidden(tmp_path, secret):
    script = "import os; open('../metrics.jsonl', 'w').write(os.environ['TOKEN'])"
    assert "given: ***)" in result_with_secret(tmp_path, script, secret)


def test_a_secret_in_the_name_of_a_metric_is_hidden(tmp_path):
    script = "import os; from mlpipe import Run; Run.get_context().log('of ' + os.environ['TOKEN'], 1)"
    assert json.loads(result_with_secret(tmp_path, script, "hunter2"))["metrics"] == {"of ***": 1.0}


def test_a_script_may_signal_its_own_group(tmp_path):
    script = "import os, signal; signal.signal(15, signal.SIG_IGN); os.killpg(0, 15); print('done')"
    result, _ = run_script(tmp_path, script)
    assert (result.error, result.tail) == (None, ("done",))


def test_an_argument_that_refers_to_nothing_is_named(tmp_path):
    spec = replace(spec_of(), command=((Reference("parameter", "rate"),),))
    assert "'rate', which the step does not have" in str(supervised(fill(tmp_path, spec))[0].error)


def test_wrong_usage_exits_with_2():
    ended = subprocess.run([sys.executable, "-m", "airflow_mlpipe.runtime"], capture_output=True, check=False)
    assert ended.returncode == 2


def test_a_damaged_spec_is_an_error_and_no_traceback(tmp_path):
    directory = fill(tmp_path, spec_of())
    directory.spec.write_text('{"version": 99}')
    command = [sys.executable, "-m", "airflow_mlpipe.runtime", str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, check=False, text=True)
    assert ended.returncode == 1
    assert "newer airflow-mlpipe" in ended.stderr
    assert "Traceback" not in ended.stderr


SLOW_TO_IMPORT = {"airflow", "asyncio", "email", "fsspec", "hashlib", "http", "logging", "pydantic", "random", "shutil"}
SLOW_TO_IMPORT |= {"socket", "sqlite3", "ssl", "subprocess", "tempfile", "typing_extensions", "urllib.request"}
MODULES = 110
"""82 with Python 3.11; other versions cut the same files differently."""


def test_the_supervisor_starts_with_few_modules_and_none_that_takes_long(tmp_path):
    directory = fill(tmp_path, spec_of("true"))
    code = (
        "import sys; bare = set(sys.modules); sys.path.append(sys.argv.pop(1));"
        "from airflow_mlpipe.runtime.__main__ import main; main(sys.argv[1:]);"
        "print(*set(sys.modules) - bare, sep='\\n')"
    )
    command = [sys.executable, "-I", "-S", "-c", code, _package_root(), str(directory.root)]
    imported = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert "airflow_mlpipe.runtime.supervise" in imported
    assert SLOW_TO_IMPORT.isdisjoint(imported)
    assert len(imported) < MODULES, sorted(imported)


def _package_root() -> str:
    import airflow_mlpipe

    return str(Path(airflow_mlpipe.__file__).parents[1])
