from __future__ import annotations

import multiprocessing
import subprocess
import sys
import time
from pathlib import Path

import pytest

from airflow_mlpipe.exceptions import EnvironmentBuildError
from airflow_mlpipe.resolving import venvs
from airflow_mlpipe.resolving.venvs import build

LOCK = "six==1.16.0\n"


def say(python, code):
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def built_at(marker):
    return (marker.stat().st_mtime_ns, marker.stat().st_ino)


def marker_of(python):
    return python.parent.parent / "mlpipe-complete.txt"


def build_into(queue):
    python = build(LOCK, sys.executable)
    queue.put((str(python), built_at(marker_of(python))))


def test_it_holds_what_the_lock_says_and_nothing_else():
    python = build(LOCK, sys.executable)
    names = say(python, "from importlib.metadata import distributions as d; print(*[(x.name, x.version) for x in d()])")
    assert names == "('six', '1.16.0')"


def test_it_is_made_from_the_interpreter():
    assert say(build(LOCK, sys.executable), "import sys; print(sys.version)") == sys.version


def test_its_modules_are_compiled():
    assert Path(say(build(LOCK, sys.executable), "import six; print(six.__cached__)")).exists()


def test_it_is_built_once(private_cache):
    python = build(LOCK, sys.executable)
    before = built_at(marker_of(python))
    assert build(LOCK, sys.executable) == python
    assert built_at(marker_of(python)) == before
    assert python.is_relative_to(private_cache)


def test_another_lock_is_another_environment():
    assert build("", sys.executable) != build(LOCK, sys.executable)


def test_processes_that_build_together_build_once():
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    processes = [context.Process(target=build_into, args=(queue,)) for _ in range(3)]
    for process in processes:
        process.start()
    answers = {queue.get(timeout=60) for _ in processes}
    for process in processes:
        process.join()
    assert len(answers) == 1


def test_a_half_built_one_is_built_again():
    python = build(LOCK, sys.executable)
    marker_of(python).unlink()
    (python.parent.parent / "leftover").touch()
    assert build(LOCK, sys.executable) == python
    assert not (python.parent.parent / "leftover").exists()


def test_one_whose_python_is_gone_is_built_again():
    python = build(LOCK, sys.executable)
    python.unlink()
    assert say(build(LOCK, sys.executable), "import six") == ""


def test_one_that_was_killed_while_building_is_built_again():
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=build, args=(LOCK, sys.executable))
    process.start()
    place = venvs.cache_folder() / "envs" / venvs.environment_name(LOCK, sys.executable)
    deadline = time.monotonic() + 30
    while not place.exists() and time.monotonic() < deadline:
        time.sleep(0.001)
    process.kill()
    process.join()
    assert say(build(LOCK, sys.executable), "import six") == ""


def test_a_failure_shows_what_uv_says_and_leaves_nothing(private_cache):
    with pytest.raises(EnvironmentBuildError, match=r"uv says:(.|\n)*six==99\.99"):
        build("six==99.99\n", sys.executable)
    assert [path.suffix for path in (private_cache / "envs").iterdir()] == [".lock"]


def test_an_interpreter_that_is_not_there_is_refused():
    with pytest.raises(EnvironmentBuildError, match="'/nonexistent/python' cannot be used"):
        build(LOCK, "/nonexistent/python")
