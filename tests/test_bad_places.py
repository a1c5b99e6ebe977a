"""Disks that are full, stores that are read-only, data that may not be read: a clear failure, and nothing half-written."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

import pytest

from airflow_mlpipe.definitions import CommandStep, DataTransferStep, Pipeline, PythonScriptStep
from airflow_mlpipe.exceptions import DataError, SourceError, StepError, StoreUnreachableError
from airflow_mlpipe.store import attempts
from airflow_mlpipe.store.log import Log
from airflow_mlpipe.store.outputs import publish
from tests.reuse.engine import Engine

FORK = multiprocessing.get_context("fork")
NOBODY = 65534
WRITES = "import os\nopen(os.environ['MLPIPE_OUTPUT_OUT'], 'wb').write(b'x' * {})\n"
FILLS = """
try:
    with open(os.environ['TMPDIR'] + '/junk', 'wb', buffering=0) as junk:
        while True: junk.write(b'x' * 4096)
except OSError: pass
"""


@pytest.fixture(autouse=True)
def _own_places(tmp_path, monkeypatch):
    monkeypatch.setenv("MLPIPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MLPIPE_STORE", raising=False)
    monkeypatch.setattr(attempts, "PAUSES", (0,))


@pytest.fixture
def disk(tmp_path):
    """A disk of its own with 2 MiB."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.fixture
def read_only(disk):
    """Return what makes the disk read-only."""
    return lambda: subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)


def fill(disk: Path, *, leave: int = 0) -> Path:
    """Fill a disk up to some bytes."""
    junk = disk / "junk"
    with junk.open("wb", buffering=0) as file:
        try:
            while file.write(b"x" * 4096):
                pass
        except OSError:
            file.truncate(max(file.tell() - leave, 0))
    return junk


def script(folder: Path, text: str, **fields) -> Pipeline:
    source = folder / "project" / "src" / "a.py"
    source.parent.mkdir(parents=True, exist_ok=True)
    source.write_text(text)
    step = PythonScriptStep(
        **{"name": "a", "script_name": "a.py", "source_directory": "src", "outputs": ["out"], **fields}
    )
    return pipeline_of(folder / "project", step)


def pipeline_of(folder: Path, *steps) -> Pipeline:
    pipeline = Pipeline(name="p", steps=list(steps))
    pipeline.folder = folder
    return pipeline


def in_a_process(action):
    """Return what an action raises, in a process that ends then, as that of a task does; None if it raises nothing."""
    answers = FORK.SimpleQueue()

    def act() -> None:
        try:
            action()
        except Exception as error:  # noqa: BLE001 -- told to the other process
            answers.put((type(error), str(error)))
        else:
            answers.put(None)

    process = FORK.Process(target=act)
    process.start()
    answer = answers.get()
    process.join()
    return answer


def raising(engine: Engine, pipeline: Pipeline):
    """Return an action that runs a pipeline and raises what its step failed with."""

    def act() -> None:
        if error := engine.run(pipeline, "full")["a"].error:
            raise error

    return act


def damaged(engine: Engine) -> list[str]:
    """Return the logs with entries that cannot be read."""
    store = engine.site.store
    logs = [name for prefix in store.names("log") for name in store.names(f"log/{prefix}")]
    return [name for name in logs if Log.read(store, name).damaged]


@pytest.mark.parametrize(
    "text", [WRITES.format(5_000_000), WRITES.format(1) + FILLS], ids=["by its output", "by what it leaves"]
)
def test_a_step_that_fills_the_disk_fails_saying_so_and_the_next_one_runs(tmp_path, disk, text):
    engine = Engine(tmp_path, store=str(disk / "store"))
    kind, message = in_a_process(raising(engine, script(tmp_path, text)))
    assert issubclass(kind, StepError | StoreUnreachableError)
    assert "No space left on device" in message
    assert engine.site.store.sizes("outputs") == {}
    assert not damaged(engine)
    shutil.rmtree(disk / "store" / "work", ignore_errors=True)
    after = engine.run(script(tmp_path, WRITES.format(3)))
    assert after.outcomes() == {"a": "ran"}
    assert engine.content(after["a"].outputs["out"]) == {"": b"xxx"}


def test_a_plan_on_a_full_disk_fails_saying_so_and_leaves_nothing_half_written(tmp_path, disk):
    engine = Engine(tmp_path, store=str(disk / "store"))
    pipeline = script(tmp_path, WRITES.format(3))
    junk = fill(disk)
    kind, message = in_a_process(lambda: engine.plan(pipeline, "r1"))
    assert kind is StoreUnreachableError
    assert "No space left on device; free space there, or choose another store" in message
    assert engine.site.store.sizes("") == {}
    junk.unlink()
    assert engine.run(pipeline).outcomes() == {"a": "ran"}


@pytest.mark.parametrize("leave", range(0, 80_000, 8192))
def test_a_disk_that_gets_full_at_any_point_leaves_a_whole_record_or_none(tmp_path, disk, leave):
    engine = Engine(tmp_path, store=str(disk / "store"))
    pipeline = script(tmp_path, WRITES.format(10_000))
    junk = fill(disk, leave=leave)
    failure = in_a_process(raising(engine, pipeline))
    assert failure is None or "No space left on device" in failure[1]
    assert not damaged(engine)
    junk.unlink()
    after = engine.run(pipeline)
    assert after.outcomes() == {"a": "ran" if failure else "reused"}
    assert engine.content(after["a"].outputs["out"]) == {"": b"x" * 10_000}
    assert engine.run(pipeline).outcomes() == {"a": "reused"}


def test_an_output_that_does_not_fit_into_the_store_is_not_published(tmp_path, disk):
    store = Engine(tmp_path, store=str(disk / "store")).site.store
    made = tmp_path / "made"
    made.write_bytes(b"x" * 5_000_000)
    with pytest.raises(
        StoreUnreachableError, match=r"cannot write outputs/.*No space left on device.*; free space there"
    ):
        publish(store, "ab" * 32, "claim", "out", made)
    assert store.sizes("outputs") == {}


def test_a_transfer_that_does_not_fit_leaves_no_partial_file(tmp_path, disk):
    (tmp_path / "big").write_bytes(b"x" * 5_000_000)
    pipeline = pipeline_of(tmp_path, DataTransferStep(name="a", source="big", destination=str(disk / "there" / "big")))
    failed = Engine(tmp_path).run(pipeline)["a"]
    assert isinstance(failed.error, DataError)
    assert "No space left on device" in str(failed.error)
    assert not [path for path in (disk / "there").rglob("*") if path.is_file()]


@pytest.fixture
def used(tmp_path, disk):
    """An engine with a store in which one step has run."""
    engine = Engine(tmp_path, store=str(disk / "store"))
    assert engine.run(script(tmp_path, WRITES.format(3))).outcomes() == {"a": "ran"}
    return engine


def test_a_read_only_store_can_be_asked_what_would_run(tmp_path, used, read_only):
    read_only()
    same = used.plan(script(tmp_path, WRITES.format(3)), "dry", dry=True)
    edited = used.plan(script(tmp_path, WRITES.format(4)), "dry", dry=True)
    assert (same.decisions["a"].choice, edited.decisions["a"].choice) == ("reuse", "run")


def test_a_plan_in_a_read_only_store_fails_saying_what_to_do(tmp_path, used, read_only):
    read_only()
    with pytest.raises(
        StoreUnreachableError, match=r"Read-only file system.*let this user read and write it, or choose"
    ):
        used.plan(script(tmp_path, WRITES.format(3)), "r2")


def test_a_step_in_a_store_that_became_read_only_fails_saying_what_to_do(tmp_path, used, read_only):
    pipeline = script(tmp_path, WRITES.format(4))
    plan = used.plan(pipeline, "r2")
    read_only()
    failed = used.follow(pipeline, plan)["a"]
    assert isinstance(failed.error, StoreUnreachableError)
    assert "let this user read and write it" in str(failed.error)


def as_nobody(action):
    """Do something as somebody who may not read what others keep to themselves."""
    if os.geteuid() != 0:
        return in_a_process(action)

    def act() -> None:
        os.setuid(NOBODY)
        action()

    return in_a_process(act)


@pytest.fixture
def open_folder(monkeypatch):
    """A folder where everybody may write; pytest's own is its user's alone."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        monkeypatch.setenv("MLPIPE_CACHE", f"{name}/cache")
        yield Path(name)


def locked(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("secret\n")
    path.chmod(0)
    return path


@pytest.mark.parametrize("place", ["raw.csv", "months/05.csv"])
def test_data_that_may_not_be_read_is_named(open_folder, place):
    file = locked(open_folder / "data" / place)
    given = "data/raw.csv" if place == "raw.csv" else "data/months"
    pipeline = pipeline_of(open_folder, CommandStep(name="a", command="true", inputs={"x": given}))
    kind, message = as_nobody(lambda: Engine(open_folder).plan(pipeline, "r1"))
    assert kind is DataError
    assert f"the data at file://{open_folder}/{given} cannot be used: {str(file)!r} cannot be read" in message


def test_a_folder_that_may_not_be_listed_is_named(open_folder):
    locked(open_folder / "data" / "months" / "05.csv").parent.chmod(0)
    pipeline = pipeline_of(open_folder, CommandStep(name="a", command="true", inputs={"x": "data"}))
    kind, message = as_nobody(lambda: Engine(open_folder).plan(pipeline, "r1"))
    assert kind is DataError
    assert "data/months" in message


def test_code_that_may_not_be_read_is_named(open_folder):
    locked(open_folder / "src" / "key.pem")
    pipeline = pipeline_of(open_folder, CommandStep(name="a", command="true", source_directory="src"))
    kind, message = as_nobody(lambda: Engine(open_folder).plan(pipeline, "r1"))
    assert kind is SourceError
    assert "key.pem" in message


def device(path: Path) -> None:
    """Make a device that reads as nothing."""
    path.parent.mkdir(parents=True)
    try:
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("devices cannot be made here")


def test_a_device_among_code_or_data_is_refused_by_name(tmp_path):
    device(tmp_path / "src" / "null")
    device(tmp_path / "data" / "null")
    for fields, error in (({"source_directory": "src"}, SourceError), ({"inputs": {"x": "data"}}, DataError)):
        pipeline = pipeline_of(tmp_path, CommandStep(name="a", command="true", **fields))
        with pytest.raises(error, match=r"null.* is a device"):
            Engine(tmp_path).plan(pipeline, "r1")


def test_a_store_of_somebody_else_is_refused_with_what_to_do(open_folder):
    (open_folder / "store").mkdir(mode=0o755)
    if os.geteuid() != 0:
        (open_folder / "store").chmod(0o500)
    pipeline = pipeline_of(open_folder, CommandStep(name="a", command="true"))
    kind, message = as_nobody(lambda: Engine(open_folder).plan(pipeline, "r1"))
    assert kind is StoreUnreachableError
    assert "Permission denied" in message
    assert "let this user read and write it" in message
