"""Scripts that do what they should not: the step fails saying so, the store stays as it was, and nothing is recorded."""

from __future__ import annotations

import multiprocessing
import os
import resource
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from airflow_mlpipe.definitions import CommandStep, Pipeline, PythonScriptStep
from airflow_mlpipe.exceptions import (
    CommandFailedError,
    DataError,
    InputModifiedError,
    OutputMissingError,
    SourceError,
    StepError,
)
from airflow_mlpipe.runtime.output import MAX_LINE_BYTES
from airflow_mlpipe.store.log import Log
from airflow_mlpipe.store.store import Store
from tests.launchers.steps import Bench
from tests.reuse.engine import Engine, tree
from tests.runtime.steps import pids_in

if TYPE_CHECKING:
    from pathlib import Path

READS = "import os, sys, shutil\ndata, out = os.environ['MLPIPE_INPUT_DATA'], os.environ['MLPIPE_OUTPUT_OUT']\n"
WRITES = READS + "open(out, 'w').write('written')\n"
MAKES = "import os\nos.makedirs(os.environ['MLPIPE_OUTPUT_DATA'] + '/sub')\n" + "".join(
    f"open(os.environ['MLPIPE_OUTPUT_DATA'] + '/{name}', 'w').write('{name}')\n" for name in ("a", "sub/b")
)


@dataclass
class Two:
    """A pipeline in which one step makes data, and a second one with a script of the test's own takes it."""

    root: Path
    engine: Engine
    fields: dict[str, Any] = field(default_factory=dict)

    def pipeline(self, script: str, **fields: Any) -> Pipeline:
        for name, text in (("make", MAKES), ("take", script)):
            source = self.root / "project" / name / f"{name}.py"
            source.parent.mkdir(parents=True, exist_ok=True)
            source.write_text(text)
        make = PythonScriptStep(name="make", script_name="make.py", source_directory="make", outputs=["data"])
        given = {"data": "${{ steps.make.outputs.data }}"}
        take = {"script_name": "take.py", "source_directory": "take", "inputs": given, "outputs": ["out"], **fields}
        pipeline = Pipeline(name="p", steps=[make, PythonScriptStep(name="take", **take)])
        pipeline.folder = self.root / "project"
        return pipeline

    def stored(self) -> dict[str, bytes]:
        """Return all that is published."""
        return tree(self.engine.site.store.local_root / "outputs")

    def recorded(self) -> list[str]:
        """Return the steps of all records."""
        store = self.engine.site.store
        logs = [Log.read(store, key) for prefix in store.names("log") for key in store.names(f"log/{prefix}")]
        return [record.body["made_by"]["step"] for log in logs for record in log.records]


@pytest.fixture
def two(tmp_path, monkeypatch):
    monkeypatch.setenv("MLPIPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MLPIPE_STORE", raising=False)
    return Two(tmp_path, Engine(tmp_path))


BAD = {
    "fails": (WRITES + "sys.exit(3)", CommandFailedError, "ended with exit code 3"),
    "raises": (WRITES + "raise ValueError('too bad')", CommandFailedError, "ValueError: too bad"),
    "is no Python": (WRITES + "if if", CommandFailedError, "SyntaxError"),
    "is killed": (WRITES + "os.kill(os.getpid(), 9)", CommandFailedError, "was ended by SIGKILL"),
    "kills its supervisor": (WRITES + "os.kill(os.getppid(), 9)", CommandFailedError, "supervisor ended with code -9"),
    "takes too much memory": (
        WRITES + "import resource\nresource.setrlimit(resource.RLIMIT_AS, (1 << 30,) * 2)\nx = b'x' * (1 << 31)",
        CommandFailedError,
        "MemoryError",
    ),
    "writes nothing": (READS, OutputMissingError, "output 'out' was not written"),
    "writes an empty folder": (READS + "os.mkdir(out)", OutputMissingError, "a folder with no file in it"),
    "writes under another name": (
        READS + "open(out + '.csv', 'w')",
        OutputMissingError,
        "In outputs/ there is: out.csv",
    ),
    "links its output to a file outside": (READS + "os.symlink('/etc/hostname', out)", DataError, "is a link"),
    "links out of its output": (
        READS + "os.mkdir(out); os.symlink('/etc/hostname', out + '/x')",
        DataError,
        "is a link that leaves",
    ),
    "leaves a pipe": (READS + "os.mkfifo(out)", DataError, "is a named pipe"),
    "changes its input": (
        WRITES + "os.chmod(data + '/a', 0o644); open(data + '/a', 'a').write('more')",
        InputModifiedError,
        "wrote into its inputs: data/a was changed",
    ),
    "replaces its input": (
        WRITES + "os.chmod(data, 0o755); os.unlink(data + '/a'); open(data + '/a', 'w').write('A')",
        InputModifiedError,
        "data/a was changed",
    ),
    "adds to its input": (
        WRITES + "os.chmod(data, 0o755); open(data + '/new', 'w')",
        InputModifiedError,
        "data/new was added",
    ),
    "takes from its input": (
        WRITES + "os.chmod(data + '/sub', 0o755); os.unlink(data + '/sub/b')",
        InputModifiedError,
        "data/sub/b was removed",
    ),
    "removes its input": (
        WRITES + "shutil.rmtree(data, onerror=lambda f, p, e: (os.chmod(os.path.dirname(p), 0o755), f(p)))",
        InputModifiedError,
        "data was removed",
    ),
    "moves its input into its output": (READS + "os.rename(data, out)", InputModifiedError, "data was removed"),
    "logs no metric": (
        WRITES + "open('../metrics.jsonl', 'w').write('accuracy 0.9')",
        StepError,
        "metrics.jsonl, line 1",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_script_that_does_wrong_fails_its_step_and_leaves_the_store_as_it_was(two, name):
    script, error, words = BAD[name]
    pipeline = two.pipeline(script)
    plan = two.engine.plan(pipeline, "r1")
    two.engine.follow(pipeline, plan, only=["make"])
    before = two.stored()
    ran = two.engine.follow(pipeline, plan)
    assert isinstance(ran["take"].error, error)
    assert words in str(ran["take"].error)
    assert two.stored() == before
    assert two.engine.site.store.sizes("beat") == {}
    assert pids_in(two.root) == []
    assert two.recorded() == ["make"]
    mended = two.engine.run(two.pipeline(WRITES))
    assert mended.outcomes() == {"make": "reused", "take": "ran"}


@pytest.mark.parametrize(
    ("then", "error"),
    [
        ("", InputModifiedError),
        ("; os.chmod(data, 0o755); os.unlink(data + '/a')", InputModifiedError),
        ("; sys.exit(3)", CommandFailedError),
        ("; os.kill(0, 9)", CommandFailedError),
        ("; os.kill(os.getppid(), 9)", CommandFailedError),
    ],
    ids=["and succeeds", "and hides it", "and fails", "and is killed", "and kills its supervisor"],
)
def test_data_that_a_script_changed_through_a_hard_link_is_made_again(two, monkeypatch, then, error):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)  # root, who writes everywhere, never gets links
    same_size = WRITES + "os.chmod(data + '/a', 0o644); open(data + '/a', 'w').write('X')"
    failed = two.engine.run(two.pipeline(same_size + then))["take"]
    assert isinstance(failed.error, error)
    mended = two.engine.run(two.pipeline(WRITES))
    assert mended["take"].outcome == "ran"
    assert two.engine.content(mended["make"].outputs["data"]) == {"a": b"a", "sub/b": b"sub/b"}


def test_a_script_that_is_missing_is_refused_before_anything_runs(two):
    pipeline = two.pipeline(WRITES, script_name="tke.py")
    with pytest.raises(SourceError, match=r"tke\.py"):
        two.engine.run(pipeline)
    assert two.engine.taken() == []
    assert not (two.root / "store").exists()


def test_a_program_that_is_missing_fails_its_step_by_name(two):
    pipeline = Pipeline(name="p", steps=[CommandStep(name="a", command=["tarin", "--fast"], outputs=["x"])])
    failed = two.engine.run(pipeline)["a"]
    assert isinstance(failed.error, CommandFailedError)
    assert "cannot start 'tarin': there is no such program" in str(failed.error)


def test_what_a_failed_step_wrote_is_kept_aside(two):
    ran = two.engine.run(two.pipeline(BAD["fails"][0]))
    kept = str(ran["take"].error).rpartition(" in ")[2]
    assert kept.startswith(str(two.root / "store" / "work"))
    assert tree(two.root / kept) == {"out": b"written"}


def test_what_a_script_writes_outside_of_its_outputs_is_not_kept(two):
    script = WRITES + (
        "for place in ('mine', '../beside', '../inputs/new', os.environ['HOME'] + '/x', os.environ['TMPDIR'] + '/x'):\n"
        "    open(place, 'w').write('outside')\n"
    )
    ran = two.engine.run(two.pipeline(script.replace("'../inputs/new', ", "")))
    assert two.engine.content(ran["take"].outputs["out"]) == {"": b"written"}
    assert not any(content == b"outside" for content in tree(two.root / "store").values())
    assert sorted(path.name for path in (two.root / "project" / "take").iterdir()) == ["take.py"]
    into_inputs = two.engine.run(two.pipeline(script))["take"]
    assert isinstance(into_inputs.error, InputModifiedError)
    assert "new was added" in str(into_inputs.error)


def test_an_output_beside_the_declared_ones_is_told_and_not_kept(two):
    ran = two.engine.run(two.pipeline(WRITES + "open(out + '2', 'w')"))
    assert set(ran["take"].outputs) == {"out"}
    assert [line for line in two.engine.said if "outputs/out2, which is not a declared output; it is not kept" in line]
    assert not [path for path in two.stored() if path.endswith("out2")]


def test_a_script_that_damages_the_store_behind_our_back_is_found_out_by_the_next_run(two):
    """It runs as the same user, so nothing keeps it from doing so; but what is damaged is not reused."""
    script = WRITES + (
        "for folder, _, files in os.walk('../../../outputs'):\n"
        "    for name in files:\n"
        "        os.chmod(os.path.join(folder, name), 0o644)\n"
        "        open(os.path.join(folder, name), 'w').write('damaged')\n"
    )
    two.engine.run(two.pipeline(script))
    after = two.engine.run(two.pipeline(WRITES))
    assert after["make"].outcome == "ran"
    assert "output data of the earlier run: it is" in after["make"].line
    assert two.engine.content(after["make"].outputs["data"]) == {"a": b"a", "sub/b": b"sub/b"}


LEAVES_CHILDREN = """
import subprocess, time
for new in (False, True):
    subprocess.Popen(["sh", "-c", "echo $$ >> pids; trap '' TERM; while true; do echo late >> $MLPIPE_OUTPUT_OUT; done"],
                     start_new_session=new)
while not (os.path.exists("pids") and len(open("pids").readlines()) == 2): time.sleep(0.01)
"""


def test_children_that_a_script_leaves_running_write_nothing_after_it(two):
    ran = two.engine.run(two.pipeline(WRITES + LEAVES_CHILDREN))
    assert ran["take"].outcome == "ran"
    assert pids_in(two.root) == []
    content = ran["take"].outputs["out"].content
    assert two.engine.place(ran["take"].outputs["out"]).stat().st_size == content.size
    assert two.engine.run(two.pipeline(WRITES + LEAVES_CHILDREN)).outcomes() == {"make": "reused", "take": "reused"}


PRINTED = 100_000_000


def printed(folder: Path, line: int):
    """Launch a script that prints lines of a length; return its tail, what was logged, and the memory it took here."""
    bench = Bench(folder, Store.open(str(folder / "store")), sys.executable)
    script = (
        f"import sys\ntext = 'x' * {line} + '\\n'\nfor _ in range({PRINTED} // len(text)): sys.stdout.write(text)\n"
    )
    logged = [0, 0]

    def log(text: str) -> None:
        logged[0] += len(text)
        logged[1] = max(logged[1], len(text))

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = bench.launcher().launch(bench.spec(script + "print('the end')"), "ab" * 32, "claim", {}, log)
    return result.tail, *logged, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before


@pytest.mark.parametrize("line", [99, PRINTED - 1], ids=["in lines", "in one line"])
def test_a_script_that_prints_100_mb_is_logged_whole_in_little_memory(tmp_path, monkeypatch, line):
    monkeypatch.setenv("MLPIPE_CACHE", str(tmp_path / "cache"))
    with multiprocessing.get_context("fork").Pool(1) as pool:  # a process of its own has a peak of its own
        tail, characters, longest, kilobytes = pool.apply(printed, (tmp_path, line))
    assert characters == PRINTED // (line + 1) * line + len("the end")
    assert longest == min(line, MAX_LINE_BYTES)
    assert tail[-1] == "the end"
    assert sum(map(len, tail)) < 100_000
    assert kilobytes < 50_000
