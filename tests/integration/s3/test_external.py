"""External data on S3 is compared by its version, in one listing, and never read."""

from __future__ import annotations

import fsspec
import pytest

from airflow_mlpipe.exceptions import DataError
from airflow_mlpipe.resolving.references import content_of, has_changed

pytestmark = pytest.mark.s3


@pytest.fixture
def fs(network):
    return fsspec.filesystem("s3", **network.options)


@pytest.fixture
def root(s3):
    return s3.fresh()


def put(fs, root, files):
    for path, content in files.items():
        fs.pipe_file(f"{root}/{path}", content)


@pytest.mark.parametrize("path", ["data", "data/", "data.csv"])
def test_one_listing_tells_what_external_data_is_and_whether_it_has_changed(fs, root, network, path):
    put(fs, root, {f"data/{number}": b"1" for number in range(5)} | {"data.csv": b"a,b", "data-1": b"x"})
    with network.counting() as seen:
        bound = content_of("uri", fs, f"{root}/{path}", None)
    assert seen == {"LIST": 1}
    assert bound[0].digest.startswith("version:")
    with network.counting() as seen:
        assert not has_changed("uri", fs, f"{root}/{path}", bound)
    assert seen == {"LIST": 1}
    put(fs, root, {"data/3": b"2", "data.csv": b"a,c"})
    assert has_changed("uri", fs, f"{root}/{path}", bound)


@pytest.mark.parametrize(
    "change", [lambda fs, root: fs.rm_file(f"{root}/data/1"), lambda fs, root: put(fs, root, {"data/9": b""})]
)
def test_a_file_that_comes_or_goes_is_a_change(fs, root, change):
    put(fs, root, {f"data/{number}": b"1" for number in range(5)})
    bound = content_of("uri", fs, f"{root}/data", None)
    change(fs, root)
    assert has_changed("uri", fs, f"{root}/data", bound)


def test_what_lies_beside_does_not_count(fs, root):
    put(fs, root, {"data/1": b"1"})
    bound = content_of("uri", fs, f"{root}/data", None)
    put(fs, root, {"data-1": b"x", "data2/1": b"x", "data.csv": b"x"})
    assert not has_changed("uri", fs, f"{root}/data", bound)


def test_the_same_bytes_written_again_are_the_same_version(fs, root):
    put(fs, root, {"data/1": b"1"})
    bound = content_of("uri", fs, f"{root}/data", None)
    put(fs, root, {"data/1": b"1"})
    assert not has_changed("uri", fs, f"{root}/data", bound)


def test_what_is_missing_is_named(fs, root):
    with pytest.raises(DataError, match="there is no data at uri"):
        content_of("uri", fs, f"{root}/nothing", None)
    with pytest.raises(DataError, match=r"the data at uri cannot be read: .*there is no bucket 'nosuch-bucket'"):
        content_of("uri", fs, "s3://nosuch-bucket/a", None)
