from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_mlpipe.runtime import workers
from airflow_mlpipe.runtime.protocol import DistributionSpec, OutputSpec
from tests.runtime.steps import alive, eventually, pids, run_script

# What TensorFlow does with TF_CONFIG, in small: the first worker listens at its address, the others talk to it.
TALKS = """
import json, os, socket, time
config = json.loads(os.environ["TF_CONFIG"])
workers, index = config["cluster"]["worker"], config["task"]["index"]
assert config["task"]["type"] == "worker" and str(index) == os.environ["MLPIPE_RANK"]
host, port = workers[0].rsplit(":", 1)
if index == 0:
    total = 0
    with socket.create_server((host, int(port))) as server:
        for _ in workers[1:]:
            with server.accept()[0] as other:
                total += int(other.recv(100))
    print("total", total)
    open(os.environ["MLPIPE_OUTPUT_MODEL"], "w").write(str(total))
else:
    for _ in range(500):
        try:
            with socket.create_connection((host, int(port))) as first:
                first.sendall(str(index).encode())
            break
        except ConnectionRefusedError:
            time.sleep(0.01)
"""


def started(*command, count=3):
    argv = [sys.executable, workers.__file__, str(count), "--", *command]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)


def many(root, script, **fields):
    spec = {"distribution": DistributionSpec("tensorflow", processes=3, **fields), "outputs": {"model": OutputSpec()}}
    return run_script(root, script, **spec)


@pytest.fixture
def staged(monkeypatch):
    """Step directories filled by hand have the module of the workers, too."""
    from tests.runtime import steps

    plain = steps.fill

    def fill(root, spec, script="", **files):
        directory = plain(root, spec, script, **files)
        (directory.python / "mlpipe_workers.py").write_text(Path(workers.__file__).read_text())
        return directory

    monkeypatch.setattr(steps, "fill", fill)


@pytest.mark.usefixtures("staged")
def test_workers_find_each_other_by_tf_config(tmp_path):
    result, _ = many(tmp_path / "step", TALKS)
    assert (result.error, result.tail) == (None, ("[0] total 3",))
    assert (tmp_path / "step" / "outputs" / "model").read_text() == "3"


@pytest.mark.usefixtures("staged")
def test_a_worker_that_fails_ends_the_others_and_is_named(tmp_path):
    script = "import os, sys, time\nif os.environ['MLPIPE_RANK'] == '1': sys.exit(4)\ntime.sleep(300)"
    result, _ = many(tmp_path / "step", script)
    assert result.exit_code == 4
    assert result.error == "the command ended with exit code 4: rank 1 of 3 exited with code 4 (the others were ended)"


@pytest.mark.usefixtures("staged")
def test_the_metrics_of_the_first_worker_count_and_of_each_where_each_has_outputs(tmp_path):
    script = "import os\nfrom mlpipe import Run\nrun = Run.get_context()\nrun.log('loss', run.rank)\n"
    first, _ = many(tmp_path / "first", script)
    each, _ = many(tmp_path / "each", script, outputs="each")
    assert first.metrics == {"loss": 0}
    assert each.metrics == {"loss": 0, "loss_rank_1": 1, "loss_rank_2": 2}


def test_lines_are_whole_and_name_their_worker():
    script = "import sys, time\nfor n in range(50):\n    print('a', end='', flush=True)\n    print('b')\nprint('end', end='')"
    done = started(sys.executable, "-c", script)
    assert sorted(set(done.stdout.splitlines())) == [f"[{rank}] {text}" for rank in range(3) for text in ("ab", "end")]
    assert len(done.stdout.splitlines()) == 3 * 51


def test_a_worker_that_is_killed_is_named_with_the_signal():
    done = started("sh", "-c", '[ "$MLPIPE_RANK" != 2 ] || kill -9 $$; sleep 300')
    assert (done.returncode, done.stderr) == (137, "mlpipe: rank 2 was ended by SIGKILL\n")


def test_a_command_that_is_not_there_is_named():
    done = started("./no-such-program")
    assert (done.returncode, done.stderr) == (
        1,
        "mlpipe: cannot start './no-such-program': No such file or directory\n",
    )


@pytest.mark.parametrize("arguments", [[], ["3"], ["x", "--", "true"], ["3", "--option", "--", "true"]])
def test_wrong_arguments_are_explained(arguments, capsys):
    assert workers.main(arguments) == 2
    assert "usage: python -m mlpipe_workers <number of workers> -- <command>" in capsys.readouterr().err


def test_stopping_it_stops_its_workers(tmp_path):
    command = ["sh", "-c", f"echo $$ >> {tmp_path}/pids; exec sleep 300"]
    process = subprocess.Popen([sys.executable, workers.__file__, "3", "--", *command], stdout=subprocess.DEVNULL)
    found = pids(tmp_path / "pids", 3)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 143
    assert eventually(lambda: not [each for each in found if alive(each)])


def test_ports_are_free_and_different():
    ports = workers.free_ports(20)
    assert len(set(ports)) == 20
    assert json.loads(workers.configuration(["a:1", "b:2"], 1)) == {
        "cluster": {"worker": ["a:1", "b:2"]},
        "task": {"type": "worker", "index": 1},
    }
