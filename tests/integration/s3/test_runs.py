"""`mlpipe run` with its store and its data on S3, by an Airflow connection."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import fsspec
import pytest

from tests.s3 import KEY, SECRET

pytestmark = pytest.mark.s3

COMMAND = [sys.executable, "-c", "from airflow_mlpipe.cli import main; main()"]

WORKSPACE = """\
store: {{url: "{root}/store", connection: lake}}
datastores:
  landing: {{url: "{root}/landing", connection: lake}}
  results: {{url: "{root}/results", connection: lake}}
  local: {{url: here}}
"""

PIPELINE = """\
name: scores
steps:
  fetch:
    kind: data_transfer
    source: {datastore: landing, path: raw}
    destination: {datastore: local, path: raw}
  count:
    kind: python_script
    source_directory: src
    script_name: count.py
    arguments: ["${{ inputs.raw }}", "${{ outputs.counts }}"]
    inputs: {raw: {datastore: landing, path: raw}}
    outputs: {counts: {}}
  sum:
    kind: command
    command: cat ${{ inputs.counts }}/* | sort > ${{ outputs.total }}
    inputs: {counts: "${{ steps.count.outputs.counts }}"}
    outputs: {total: {kind: file, destination: {datastore: results, path: total.txt}}}
  publish:
    kind: data_transfer
    source: "${{ steps.count.outputs.counts }}"
    destination: {datastore: results, path: counts}
"""

COUNT = """\
import os, sys
os.mkdir(sys.argv[2])
for name in sorted(os.listdir(sys.argv[1])):
    words = open(os.path.join(sys.argv[1], name)).read().split()
    open(os.path.join(sys.argv[2], name), "w").write(f"{name} {len(words)}\\n")
"""


class Project:
    """A folder with a pipeline whose data and store lie on S3."""

    def __init__(self, folder, server, network):
        self.folder, self.network, self.root = folder, network, server.fresh()
        self.fs = fsspec.filesystem("s3", **server.options, use_listings_cache=False)
        for path, text in {"mlpipe.yaml": WORKSPACE.format(root=self.root), "scores.yaml": PIPELINE}.items():
            (folder / path).write_text(text)
        (folder / "src").mkdir()
        (folder / "src" / "count.py").write_text(COUNT)
        self.land({"one.txt": "a b c", "sub.txt": "d e"})
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "MLPIPE_", "AWS_"))
        }
        self.environment = {**kept, "AIRFLOW_CONN_LAKE": server.connection(network.options)}

    def land(self, files):
        for name, text in files.items():
            self.fs.pipe_file(f"{self.root}/landing/raw/{name}", text.encode())

    def stored(self, path):
        root = f"{self.root}/{path}".removeprefix("s3://")
        return {name[len(root) :].lstrip("/"): self.fs.cat_file(name) for name in self.fs.find(root)}

    def mlpipe(self, *arguments, code=0):
        done = subprocess.run(
            [*COMMAND, *arguments], cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False
        )
        self.said = done.stdout + done.stderr
        assert done.returncode == code, self.said
        return done.stdout

    def run(self, code=0):
        report = json.loads(self.mlpipe("run", "scores.yaml", "--json", code=code))
        return {step["step"]: step["outcome"] for step in report["steps"]}


@pytest.fixture
def project(tmp_path, s3, network):
    return Project(tmp_path, s3, network)


def everything_written(folder):
    return b"\n".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_a_second_run_reuses_everything_and_reads_no_data(project):
    assert project.run() == dict.fromkeys(["fetch", "count", "sum", "publish"], "ran")
    assert project.stored("results") == {
        "total.txt": b"one.txt 3\nsub.txt 2\n",
        "counts/one.txt": b"one.txt 3\n",
        "counts/sub.txt": b"sub.txt 2\n",
    }
    assert (project.folder / "here" / "raw" / "one.txt").read_text() == "a b c"
    before = len(project.network.requests)
    assert project.run() == dict.fromkeys(["fetch", "count", "sum", "publish"], "reused")
    read = [request.key for request in project.network.requests[before:] if request.kind == "GET"]
    assert read
    assert not [key for key in read if "/landing/" in key or "/outputs/" in key]


def test_new_data_on_s3_runs_what_reads_it(project):
    project.run()
    project.land({"two.txt": "f"})
    assert project.run() == dict.fromkeys(["fetch", "count", "sum", "publish"], "ran")
    assert project.stored("results")["total.txt"] == b"one.txt 3\nsub.txt 2\ntwo.txt 1\n"
    project.fs.pipe_file(f"{project.root}/results/total.txt", b"vandal")
    assert project.run()["sum"] != "ran"
    assert project.stored("results")["total.txt"] == b"one.txt 3\nsub.txt 2\ntwo.txt 1\n"


def test_what_the_connection_keeps_is_written_nowhere(project):
    project.run()
    said = project.said
    project.network.stop()
    project.mlpipe("run", "scores.yaml", code=2)
    written = everything_written(project.folder) + b"".join(project.stored("store").values())
    for secret in (KEY, SECRET):
        assert secret not in said + project.said
        assert secret.encode() not in written


def test_a_server_that_ignores_conditions_is_refused_before_anything_runs(project):
    project.network.ignore_conditions()
    project.mlpipe("run", "scores.yaml", code=1)
    logs = everything_written(project.folder).decode(errors="replace")
    assert "choose an object store with conditional writes" in project.said + logs
    assert project.stored("results") == {}
