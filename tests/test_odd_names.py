"""Names with spaces, in any script, with quotes and line feeds, and as long as they get."""

from __future__ import annotations

import sys
import unicodedata
import uuid
from typing import TYPE_CHECKING

import pytest

from airflow_mlpipe.definitions import CommandStep, Datastore, DataTransferStep, Pipeline, PythonScriptStep, Workspace
from airflow_mlpipe.exceptions import DataError
from airflow_mlpipe.store import runs
from tests.reuse.engine import Engine, tree

if TYPE_CHECKING:
    from pathlib import Path

LONGEST = 255
"""Bytes a name may have on the filesystems people use."""

NAMES = {
    "spaces": "a b  c",
    "unicode": "größe-数据-😀",
    "decomposed": unicodedata.normalize("NFD", "é"),
    "quotes": 'it\'s "$HOME" `x` \\ ;&|<>',
    "a line feed": "a\nb",
    "percent and hash": "100%20#?=&[]{}*",
    "a dash in front": "-rf",
    "a dot in front": ".hidden",
    "Jinja": "{{ ds }}",
    "the longest": "x" * (LONGEST - 4),
    "the longest unicode": "ä" * ((LONGEST - 4) // 2),
}
"""Names of files and folders; each may have an ending of four letters."""


@pytest.fixture(autouse=True)
def _own_places(tmp_path, monkeypatch):
    monkeypatch.setenv("MLPIPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MLPIPE_STORE", raising=False)


def pipeline_of(folder: Path, *steps, **fields) -> Pipeline:
    pipeline = Pipeline(name="p", steps=list(steps), **fields)
    pipeline.folder = folder
    return pipeline


def nfc(files):
    return {unicodedata.normalize("NFC", name): content for name, content in files.items()}


COPIES = "import sys, shutil\nshutil.copytree(sys.argv[1], sys.argv[2])\n"


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_code_and_data_may_have_odd_names(tmp_path, name):
    folder = tmp_path / name
    for place in (name, f"data/{name}"):
        (folder / place).mkdir(parents=True)
    (folder / name / f"{name}.py").write_text(COPIES)
    (folder / "data" / name / f"{name}.csv").write_text("1,2\n")
    copies = {"source_directory": name, "script_name": f"{name}.py", "outputs": ["out"]}
    paths = ["${{ inputs.x }}", "${{ outputs.out }}"]
    pipeline = pipeline_of(
        folder,
        PythonScriptStep(name="first", **copies, inputs={"x": "data"}, arguments=paths),
        PythonScriptStep(
            name="second", **copies, inputs={"x": "${{ steps.first.outputs.out }}"}, arguments=[*paths, name]
        ),
    )
    engine = Engine(tmp_path)
    ran = engine.run(pipeline)
    assert ran.outcomes() == {"first": "ran", "second": "ran"}, [ended.error for ended in ran.steps.values()]
    assert engine.content(ran["second"].outputs["out"]) == nfc({f"{name}/{name}.csv": b"1,2\n"})
    assert engine.run(pipeline).outcomes() == {"first": "reused", "second": "reused"}


@pytest.mark.parametrize("remote", [False, True], ids=["here", "elsewhere"])
@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_transfer_of_odd_names_arrives_and_comes_back(tmp_path, name, remote):
    there = f"memory://{uuid.uuid4().hex}" if remote else str(tmp_path / "there")
    workspace = Workspace(datastores={"out": Datastore(url=there)})
    (tmp_path / name / name).mkdir(parents=True)
    (tmp_path / name / name / f"{name}.csv").write_text("1,2\n")
    place = {"datastore": "out", "path": name}
    pipeline = pipeline_of(
        tmp_path,
        DataTransferStep(name="there", source=name, destination=place),
        DataTransferStep(name="back", source="${{ steps.there.outputs.data }}", destination="back"),
    )
    engine = Engine(tmp_path, workspace)
    ran = engine.run(pipeline)
    assert ran.outcomes() == {"there": "ran", "back": "ran"}, [ended.error for ended in ran.steps.values()]
    assert tree(tmp_path / "back") == nfc({f"{name}/{name}.csv": b"1,2\n"})
    assert engine.run(pipeline).outcomes() == {"there": "reused", "back": "reused"}


@pytest.mark.parametrize("value", [*NAMES.values(), "x" * 10_000, ""], ids=[*NAMES, "10,000 characters", "empty"])
def test_a_value_reaches_the_command_as_it_is(tmp_path, value):
    show = "import os, sys\nopen(sys.argv[2], 'w').write(sys.argv[1] + os.environ['MLPIPE_PARAMETER_T'])\n"
    pipeline = pipeline_of(
        tmp_path,
        CommandStep(
            name="as_list",
            command=[sys.executable, "-c", show, "${{ parameters.t }}", "${{ outputs.out }}"],
            outputs=["out"],
        ),
        CommandStep(name="in_a_shell", command="printf %s ${{ parameters.t }} > ${{ outputs.out }}", outputs=["out"]),
        parameters={"t": "x"},
    )
    engine = Engine(tmp_path)
    ran = engine.run(pipeline, parameters={"t": value})
    assert engine.content(ran["as_list"].outputs["out"]) == {"": (value + value).encode()}
    assert engine.content(ran["in_a_shell"].outputs["out"]) == {"": value.encode()}


@pytest.mark.parametrize("name", ["manual__2026-01-01T00:00:00+00:00", *NAMES.values(), "x" * 300, "ä" * 300, "../x"])
def test_a_run_may_have_any_id(tmp_path, name):
    engine = Engine(tmp_path)
    pipeline = pipeline_of(tmp_path, CommandStep(name="a" * 200, command="echo > ${{ outputs.out }}", outputs=["out"]))
    assert engine.run(pipeline, name).outcomes() == {"a" * 200: "ran"}
    assert runs.runs(engine.site.store, "p") == [name]
    assert engine.run(pipeline, name + "2").outcomes() == {"a" * 200: "reused"}
    assert {path.name for path in tmp_path.iterdir()} - {"cache"} == {"store"}  # and nothing beside them


def test_a_place_whose_name_is_too_long_for_the_disk_is_named(tmp_path):
    pipeline = pipeline_of(tmp_path, CommandStep(name="a", command="true", inputs={"x": "x" * 300}))
    with pytest.raises(DataError, match=r"the data at file://.*x{300} cannot be .*File name too long"):
        Engine(tmp_path).plan(pipeline, "r1")


def test_a_destination_whose_name_is_too_long_for_the_disk_is_named(tmp_path):
    (tmp_path / "raw").write_text("1")
    pipeline = pipeline_of(tmp_path, DataTransferStep(name="a", source="raw", destination="x" * 300))
    failed = Engine(tmp_path).run(pipeline)["a"]
    assert isinstance(failed.error, DataError)
    assert "File name too long" in str(failed.error)
