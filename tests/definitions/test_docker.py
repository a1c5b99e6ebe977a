from __future__ import annotations

from pathlib import Path

import pytest

from airflow_mlpipe.definitions import DockerCompute
from airflow_mlpipe.definitions.docker import DockerMount, DockerTls
from tests.definitions.helpers import problems


def test_amounts_may_be_numbers_and_texts():
    target = DockerCompute(cpus="500m", memory="4Gi", shm_size=1000, user=1000)
    assert (target.cpus, target.memory, target.shm_size, target.user) == (0.5, "4Gi", "1000", "1000")


@pytest.mark.parametrize(
    ("given", "kept"),
    [(None, None), (0, 0), (2, 2), ("all", "all"), (["0", 1], ("0", "1")), (["GPU-1a"], ("GPU-1a",))],
)
def test_gpus_are_a_number_all_or_devices(given, kept):
    assert DockerCompute(gpus=given).gpus == kept


@pytest.mark.parametrize("given", [-1, True, "some", [], 1.5, [None]])
def test_what_is_no_number_of_gpus_is_refused(given):
    (problem,) = problems(DockerCompute, gpus=given)
    assert "gpus: must be a number of GPUs, all, or a list" in problem


@pytest.mark.parametrize(
    ("given", "mount"),
    [
        ("/data:/data", DockerMount(source="/data", target="/data")),
        ("/data:/data:ro", DockerMount(source="/data", target="/data")),
        ("cache:/root/.cache:rw", DockerMount(source="cache", target="/root/.cache", read_only=False)),
        ({"source": "/a", "target": "/b"}, DockerMount(source="/a", target="/b")),
    ],
)
def test_a_mount_may_be_one_text_and_is_read_only_unless_it_says_otherwise(given, mount):
    assert DockerCompute(mounts=[given]).mounts == (mount,)


def test_a_mount_is_of_a_folder_or_of_a_volume():
    assert [DockerMount(source=source, target="/x").kind for source in ("/a", "a")] == ["bind", "volume"]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"host": "build:2376"}, "host: is no address of an engine"),
        ({"user": "me you"}, "Write uid or uid:gid"),
        ({"image": "Python:3"}, "image: is no name of an image"),
        ({"image": "https://r.io/a"}, "Leave https:// out"),
        ({"memory": "4g"}, 'Did you mean "4Gi"?'),
        ({"cpus": "half"}, "cpus: is no number of processors"),
        ({"pull": "sometimes"}, "pull: must be one of always, missing, never"),
        ({"mounts": ["data:/x:rx"]}, "mounts[0]: is no mount"),
        ({"mounts": ["./data:/x"]}, "mounts[0].source: is relative"),
        ({"mounts": ["/data:x"]}, "mounts[0].target: must be an absolute path"),
        ({"mounts": ["/data:/mlpipe/inputs"]}, "lies where the step directory is"),
        ({"mounts": ["/data:/x", "/more:/x"]}, "mounts[1].target: is the target of another mount"),
        ({"tls": {"cert": "c.pem"}}, "tls.cert: is given without key"),
        ({"tls": {"connection": "engine", "ca": "ca.pem"}}, "is given beside a connection"),
        ({"tls": {"caa": "ca.pem"}}, "Did you mean ca?"),
    ],
)
def test_a_target_that_could_not_work_is_refused(fields, words):
    (problem,) = problems(DockerCompute, **fields)
    assert words in problem


def test_files_of_tls_start_at_the_folder_of_the_workspace():
    target = DockerCompute(tls=DockerTls(ca="ca.pem", cert="/c.pem", key="k.pem")).placed(Path("/w"))
    assert target.tls == DockerTls(ca="/w/ca.pem", cert="/c.pem", key="/w/k.pem")
    assert DockerCompute().placed(Path("/w")) == DockerCompute()
