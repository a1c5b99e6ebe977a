from __future__ import annotations

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from airflow_mlpipe.exceptions import DataError
from airflow_mlpipe.resolving.references import content_of, has_changed, token_now
from airflow_mlpipe.store.digests import digest_path

LOCAL = fsspec.filesystem("file")


class Bucket(MemoryFileSystem):
    """A filesystem that is not local and says what each test wants of a file's version."""

    protocol = "bucket"
    store = {}  # noqa: RUF012 -- as in the class it fakes
    pseudo_dirs = [""]  # noqa: RUF012
    cachable = False
    versions = {}  # noqa: RUF012
    read = 0

    def info(self, path, **kwargs):
        return self._described(super().info(path, **kwargs))

    def find(self, path, maxdepth=None, withdirs=False, detail=False, **kwargs):
        found = super().find(path, maxdepth=maxdepth, withdirs=withdirs, detail=True, **kwargs)
        found = {name: self._described(entry) for name, entry in found.items()}
        return found if detail else list(found)

    def _described(self, info):
        plain = {key: value for key, value in info.items() if key != "created"}
        return {**plain, **self.versions.get(info["name"], {})} if info["type"] == "file" else plain

    def _open(self, path, mode="rb", **kwargs):
        type(self).read += "r" in mode
        return super()._open(path, mode, **kwargs)

    def cat_file(self, path, **kwargs):
        type(self).read += 1
        return super().cat_file(path, **kwargs)


@pytest.fixture
def bucket():
    fs = Bucket()
    fs.store.clear()
    fs.versions.clear()
    Bucket.read = 0
    return fs


def put(bucket, path, content, **version):
    bucket.pipe_file(path, content)
    bucket.versions[path] = version


def of(fs, path, compare=None):
    return content_of(f"bucket:/{path}", fs, path, compare)


def test_rule_5_a_local_file_counts_by_content(tmp_path):
    (tmp_path / "a.csv").write_text("1,2\n")
    content, token = content_of("file:///a.csv", LOCAL, str(tmp_path / "a.csv"), None)
    assert (content.kind, content.size, content.files, token) == ("file", 4, 1, None)
    assert content == digest_path(tmp_path / "a.csv")


def test_rule_5_a_local_folder_counts_by_content(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.csv").write_text("1")
    content, _ = content_of("file:///data", LOCAL, str(tmp_path / "data"), None)
    assert (content.kind, content.files) == ("folder", 1)
    assert content.digest.startswith("sha256:")


def test_rule_5_a_remote_file_counts_by_its_version(bucket):
    put(bucket, "/a.csv", b"1,2\n", ETag='"abc"')
    content, token = of(bucket, "/a.csv")
    assert token == "etag:abc"
    assert (content.kind, content.digest, content.size, content.files) == ("file", "version:etag:abc", 4, 1)


def test_comparing_by_version_reads_nothing(bucket):
    put(bucket, "/in/a", b"1", etag="a")
    of(bucket, "/in/a")
    of(bucket, "/in")
    assert Bucket.read == 0
    of(bucket, "/in/a", "content")
    assert Bucket.read == 1


def test_rule_5_a_remote_file_without_a_version_counts_by_content(bucket, tmp_path):
    put(bucket, "/a.csv", b"1,2\n")
    (tmp_path / "a.csv").write_bytes(b"1,2\n")
    assert of(bucket, "/a.csv") == (digest_path(tmp_path / "a.csv"), None)


def test_content_is_the_same_wherever_it_lies(bucket, tmp_path):
    for name in ("x", "sub/y"):
        put(bucket, f"/in/{name}", name.encode(), etag=name)
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    assert of(bucket, "/in", "content")[0] == digest_path(tmp_path)


def test_content_of_a_remote_file_comes_with_the_token_it_was_read_at(bucket):
    put(bucket, "/a.csv", b"1,2\n", etag="abc")
    content, token = of(bucket, "/a.csv", "content")
    assert content.digest.startswith("sha256:")
    assert token == "etag:abc"


def test_memory_counts_by_content():
    fs = fsspec.filesystem("memory")
    fs.pipe_file("/references/a", b"1")
    assert content_of("memory://references/a", fs, "/references/a", None)[0].digest.startswith("sha256:")


@pytest.mark.parametrize(
    ("version", "token"),
    [
        ({"ETag": '"e"', "VersionId": "v", "LastModified": 1}, "etag:e"),
        ({"md5Hash": "m", "generation": "7"}, "md5hash:m"),
        ({"content_settings": {}, "content_md5": bytearray(b"\x01\xff")}, "content_md5:01ff"),
        ({"generation": 7, "updated": "yesterday"}, "generation:7"),
        ({"VersionId": "v"}, "versionid:v"),
        ({"VersionId": "null", "LastModified": "today"}, "time:today size:1"),
        ({"etag": None, "mtime": 12.5}, "time:12.5 size:1"),
    ],
)
def test_the_best_token_the_filesystem_has_is_taken(bucket, version, token):
    put(bucket, "/a", b"1", **version)
    assert of(bucket, "/a", "version")[1] == token


def test_a_folder_has_one_token_for_all_its_files(bucket):
    put(bucket, "/in/a", b"1", etag="a")
    put(bucket, "/in/sub/b", b"22", etag="b")
    content, token = of(bucket, "/in")
    assert (content.kind, content.size, content.files) == ("folder", 3, 2)
    assert content.digest == f"version:{token}"
    put(bucket, "/other/a", b"1", etag="a")
    put(bucket, "/other/sub/b", b"22", etag="b")
    assert of(bucket, "/other")[1] == token


@pytest.mark.parametrize("change", ["new version", "new file", "removed", "renamed"])
def test_the_token_of_a_folder_changes_with_its_files(bucket, change):
    put(bucket, "/in/a", b"1", etag="a")
    put(bucket, "/in/b", b"1", etag="b")
    before = token_now(bucket, "/in")
    match change:
        case "new version":
            put(bucket, "/in/a", b"1", etag="aa")
        case "new file":
            put(bucket, "/in/c", b"1", etag="c")
        case "removed":
            bucket.rm("/in/a")
        case "renamed":
            bucket.rm("/in/a")
            put(bucket, "/in/c", b"1", etag="a")
    assert token_now(bucket, "/in") != before


def test_by_path_only_the_uri_counts(bucket):
    put(bucket, "/a", b"1", etag="a")
    before = of(bucket, "/a", "path")
    put(bucket, "/a", b"2", etag="b")
    assert of(bucket, "/a", "path") == before
    assert (before[0].digest, before[1]) == ("path:bucket://a", None)


def test_a_version_that_is_not_there_is_refused_when_asked_for(bucket):
    put(bucket, "/a", b"1")
    with pytest.raises(DataError, match=r"bucket://a .*tells no version: write compare: content"):
        of(bucket, "/a", "version")


def test_a_comparison_that_does_not_exist_is_refused(bucket):
    put(bucket, "/a", b"1")
    with pytest.raises(DataError, match="cannot be compared by 'size': write compare"):
        of(bucket, "/a", "size")


@pytest.mark.parametrize("compare", [None, "content", "version", "path"])
def test_missing_data_is_refused_by_its_uri(bucket, tmp_path, compare):
    with pytest.raises(DataError, match="there is no data at bucket://gone"):
        of(bucket, "/gone", compare)
    with pytest.raises(DataError, match="there is no data at file:///gone"):
        content_of("file:///gone", LOCAL, str(tmp_path / "gone"), compare)


@pytest.mark.parametrize("error", [PermissionError("no"), TimeoutError("slow"), RuntimeError("odd")])
def test_data_that_cannot_be_read_is_refused_by_its_uri(bucket, monkeypatch, error):
    def fail(*_args, **_options):
        raise error

    monkeypatch.setattr(Bucket, "info", fail)
    with pytest.raises(DataError, match=f"the data at bucket://a cannot be read: {type(error).__name__}"):
        of(bucket, "/a")


def test_a_local_link_that_leaves_the_data_is_refused_by_its_uri(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "out").symlink_to("/etc/hostname")
    with pytest.raises(DataError, match="the data at file:///data cannot be used"):
        content_of("file:///data", LOCAL, str(tmp_path / "data"), None)


def test_a_cached_listing_is_not_believed(bucket, monkeypatch):
    asked = []
    monkeypatch.setattr(Bucket, "invalidate_cache", lambda _self, path=None: asked.append(path))
    put(bucket, "/a", b"1", etag="a")
    token_now(bucket, "/a")
    assert asked == ["/a"]


@pytest.mark.parametrize("compare", ["content", "version"])
def test_a_change_shows_afterwards(bucket, compare):
    put(bucket, "/a", b"1", etag="a")
    bound = of(bucket, "/a", compare)
    assert not has_changed("bucket://a", bucket, "/a", bound)
    put(bucket, "/a", b"2", etag="b")
    assert has_changed("bucket://a", bucket, "/a", bound)


def test_a_change_of_local_data_shows_afterwards(tmp_path):
    path = tmp_path / "a"
    path.write_text("1")
    bound = content_of("file:///a", LOCAL, str(path), None)
    path.touch()
    assert not has_changed("file:///a", LOCAL, str(path), bound)
    path.write_text("2")
    assert has_changed("file:///a", LOCAL, str(path), bound)


def test_data_that_went_afterwards_is_missing(tmp_path):
    path = tmp_path / "a"
    path.write_text("1")
    bound = content_of("file:///a", LOCAL, str(path), None)
    path.unlink()
    with pytest.raises(DataError, match="there is no data at file:///a"):
        has_changed("file:///a", LOCAL, str(path), bound)


def test_by_path_nothing_changes(bucket):
    put(bucket, "/a", b"1", etag="a")
    bound = of(bucket, "/a", "path")
    bucket.rm("/a")
    assert not has_changed("bucket://a", bucket, "/a", bound)


def test_a_local_file_has_a_token_of_time_and_size(tmp_path):
    path = tmp_path / "a"
    path.write_text("1")
    before = token_now(LOCAL, str(path))
    assert token_now(LOCAL, str(path)) == before
    path.write_text("22")
    assert token_now(LOCAL, str(path)) != before


def test_without_a_token_the_content_stands_for_it(bucket):
    put(bucket, "/a", b"1")
    assert token_now(bucket, "/a").startswith("sha256:")
