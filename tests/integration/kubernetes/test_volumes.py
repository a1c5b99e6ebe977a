"""Claims that hold the step directory, or data that is mounted instead of copied."""

from __future__ import annotations

from dataclasses import replace

import pytest

from airflow_mlpipe.definitions import Workspace
from airflow_mlpipe.exceptions import CommandFailedError, DataChangedError
from airflow_mlpipe.runtime.protocol import OutputSpec
from tests.integration.kubernetes.claims import claim
from tests.integration.kubernetes.running import nothing_is_left, published
from tests.runtime.steps import eventually

pytestmark = [pytest.mark.kubernetes, pytest.mark.s3]

MODEL = {"model": OutputSpec()}


@pytest.fixture
def claimed(own_namespace):
    with claim(own_namespace) as made:
        yield made


def test_a_step_works_in_a_folder_of_a_claim_and_removes_it_whether_it_fails_or_not(bench, claimed):
    work = {"work_volume": {"pvc": claimed.name}}
    spec = bench.shell('ls -A /mlpipe > "$MLPIPE_OUTPUT_MODEL"; exit 0', outputs=MODEL, target=work)
    result = bench.launch(spec)
    assert {"code", "inputs", "outputs"} < set(bench.store.read(result.outputs["model"].path).decode().split())
    with pytest.raises(CommandFailedError, match="exit code 3"):
        bench.launch(bench.shell('echo x > "$MLPIPE_OUTPUT_MODEL"; exit 3', outputs=MODEL, target=work), claim="fails")
    assert nothing_is_left(bench)
    assert claimed.do("ls -A") == ""


@pytest.fixture
def lake(bench, claimed, tmp_path):
    """A datastore whose folder this machine has at one place and pods as a volume, with the same file in both."""
    (tmp_path / "lake" / "days").mkdir(parents=True)
    (tmp_path / "lake" / "days" / "monday.csv").write_text("1,2\n")
    claimed.do("mkdir -p root/days; printf '1,2\\n' > root/days/monday.csv; chmod -R 777 root")
    bench.workspace = Workspace(datastores={"lake": {"url": (tmp_path / "lake").as_uri()}})
    bench.fields = {
        "volumes": {"shelf": {"pvc": claimed.name}},
        "datastores": {"lake": {"volume": "shelf", "sub_path": "root"}},
    }
    return tmp_path / "lake"


READS = """\
cat "$MLPIPE_INPUT_DATA/monday.csv" > "$MLPIPE_OUTPUT_MODEL"
echo x > "$MLPIPE_INPUT_DATA/monday.csv" && exit 9
grep -c " $MLPIPE_INPUT_DATA " /proc/mounts
"""


def test_data_of_a_volume_is_mounted_where_the_step_finds_it_and_nobody_can_write_there(bench, lake, claimed):
    bound = replace(bench.external(lake / "days"), datastore="lake")
    result = bench.launch(bench.shell(f"{READS}exit 0\n", inputs={"data": bound}, outputs=MODEL))
    assert bench.store.read(result.outputs["model"].path) == b"1,2\n"
    assert bench.logged[-1] == "1"
    assert not any(line.startswith("brought") for line in bench.logged)
    assert claimed.do("cat root/days/monday.csv") == "1,2\n"


def test_data_of_a_volume_that_is_not_what_was_bound_is_refused(bench, lake, claimed):
    bound = replace(bench.external(lake / "days"), datastore="lake")
    claimed.do("echo 3,4 > root/days/monday.csv")
    with pytest.raises(DataChangedError, match="input 'data' changed after the step was planned"):
        bench.launch(bench.shell(READS, inputs={"data": bound}, outputs=MODEL))
    assert published(bench) == []


def test_data_that_only_this_machine_has_is_brought_through_the_store_which_keeps_nothing_of_it(bench, tmp_path):
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "monday.csv").write_text("1,2\n")
    bound = bench.external(tmp_path / "here")
    result = bench.launch(bench.shell(f"{READS}exit 0\n", inputs={"data": bound}, outputs=MODEL))
    assert bench.store.read(result.outputs["model"].path) == b"1,2\n"
    assert any(line.startswith("brought the input data (1 files, 4 bytes)") for line in bench.logged)
    assert not [path for path in bench.store.sizes("") if "/.inputs/" in path]
    assert eventually(lambda: (tmp_path / "here" / "monday.csv").read_text() == "1,2\n")
