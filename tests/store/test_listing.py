from __future__ import annotations

import uuid

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from airflow_mlpipe.exceptions import DataError
from airflow_mlpipe.store.digests import digest_object
from airflow_mlpipe.store.listing import listing
from airflow_mlpipe.store.outputs import fetch


class GoogleLike(MemoryFileSystem):
    """Lists as gcsfs does, which shows a file by listing it, and counts what it is asked."""

    protocol = ("gs", "gcs")
    cachable = False

    def __init__(self):
        super().__init__()
        self.asked = []

    def find(self, path, **options):
        self.asked.append("find")
        return super().find(path, **options)

    def info(self, path, **options):
        self.asked.append("info")
        return super().info(path, **options)


class AzureLike(GoogleLike):
    """Lists as adlfs does, which answers with a list of names where it finds a file."""

    protocol = ("abfs", "az", "abfss")

    def find(self, path, **options):
        found = super().find(path, **options)
        return list(found) if set(found) == {path} else found


def sizes(fs, path):
    return {name: entry["size"] for name, entry in listing(fs, path).items()}


@pytest.fixture(params=[MemoryFileSystem, GoogleLike, AzureLike])
def place(request):
    fs, root = request.param(), f"/{uuid.uuid4().hex}"
    for name in ("data/a", "data/sub/b", "data-1", "data.csv"):
        fs.pipe_file(f"{root}/{name}", name.encode())
    return fs, root


def test_a_folder_is_listed_whole_and_alone(place):
    fs, root = place
    assert sizes(fs, f"{root}/data") == {"a": 6, "sub/b": 10}
    assert sizes(fs, f"{root}/data/") == {"a": 6, "sub/b": 10}


def test_a_file_is_listed_under_the_empty_path(place):
    fs, root = place
    assert sizes(fs, f"{root}/data.csv") == {"": 8}


def test_nothing_is_said_to_be_missing(place):
    fs, root = place
    with pytest.raises(FileNotFoundError):
        listing(fs, f"{root}/dat")


def test_an_object_store_is_asked_once_for_a_folder():
    fs = GoogleLike()
    fs.pipe_file("/bucket/data/a", b"1")
    fs.asked.clear()
    assert sizes(fs, "/bucket/data") == {"a": 1}
    assert fs.asked[0] == "find"
    assert fs.asked.count("find") == 1


def test_what_is_out_of_reach_is_not_missing():
    class Down(MemoryFileSystem):
        protocol = "down"

        def info(self, path, **_):
            raise ConnectionError(path)

    with pytest.raises(ConnectionError):
        listing(Down(), "/a")


@pytest.mark.s3
@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "./a", "a//b", "/b"])
def test_an_object_whose_name_would_lead_out_of_a_folder_is_refused_by_name(s3, tmp_path, name):
    fs = fsspec.filesystem("s3", **s3.options)
    root = s3.fresh().removeprefix("s3://")
    bucket, _, key = root.partition("/")
    fs.call_s3("put_object", Bucket=bucket, Key=f"{key}/data/{name}", Body=b"evil")
    fs.pipe_file(f"{root}/data/good", b"good")
    for action in (
        lambda: listing(fs, f"{root}/data"),
        lambda: digest_object(fs, f"{root}/data"),
        lambda: fetch(fs, f"{root}/data", tmp_path / "step" / "got"),
    ):
        with pytest.raises(DataError, match=f"holds {name!r}, which no folder on a disk can hold; rename or remove it"):
            action()
    assert not (tmp_path / "step" / "evil").exists()
    assert not (tmp_path / "evil").exists()


@pytest.mark.s3
def test_external_data_on_s3_is_listed_anew_each_time(s3):
    fs = fsspec.filesystem("s3", **s3.options)
    root = s3.fresh().removeprefix("s3://")
    fs.pipe_file(f"{root}/a", b"1")
    fs.ls(root)
    assert sizes(fs, root) == {"a": 1}
    other = fsspec.filesystem("s3", **s3.options, skip_instance_cache=True)
    other.pipe_file(f"{root}/b", b"22")
    assert sizes(fs, root) == {"a": 1, "b": 2}
