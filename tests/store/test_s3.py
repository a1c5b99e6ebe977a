from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import fsspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_mlpipe.exceptions import StoreUnreachableError
from airflow_mlpipe.store import attempts, journal, layout, log, outputs, runs, s3, snapshots
from airflow_mlpipe.store.digests import digest_path
from airflow_mlpipe.store.snapshots import Snapshot, SourceFile
from airflow_mlpipe.store.store import Store

FP = "53" * 32
ME = log.Owner.here("churn", "monday", "train", "churn/monday/train/-1", 1)
PATH = layout.output(FP, "c1", "model")


@pytest.fixture
def made(tmp_path):
    (tmp_path / "made" / "sub").mkdir(parents=True)
    for number in range(3):
        (tmp_path / "made" / "sub" / f"{number}").write_bytes(b"x" * number)
    return tmp_path / "made"


@pytest.fixture
def small_pages(monkeypatch):
    """Lists that come in many pages."""
    monkeypatch.setattr(s3, "_PAGE", 3)


@pytest.fixture
def _at_once(monkeypatch):
    monkeypatch.setattr(attempts, "PAUSES", (0, 0, 0))


@pytest.mark.s3
def test_what_suits_s3_gives_way_to_what_is_given():
    fs, path = s3.open_url("s3://b/p", {"key": "k"})
    assert (path, fs.key, fs.retries) == ("b/p", "k", 2)
    assert fs.config_kwargs["retries"] == {"mode": "standard", "total_max_attempts": 2}
    given = {"config_kwargs": {"retries": {"max_attempts": 9}}, "key": "k"}
    fs, _ = s3.open_url("s3://b/p", given)
    assert (fs.config_kwargs, fs.retries) == ({**s3._CONFIG, **given["config_kwargs"]}, 5)
    assert given == {"config_kwargs": {"retries": {"max_attempts": 9}}, "key": "k"}


def test_other_filesystems_are_opened_as_they_are():
    fs, path = s3.open_url("memory://a/b", {"config_kwargs": 1})
    assert (type(fs).__name__, path, fs.storage_options) == ("MemoryFileSystem", "/a/b", {"config_kwargs": 1})


def test_only_a_bucket_that_lists_names_in_order_is_taken_for_s3():
    class Fake:
        call_s3 = None

    assert s3.is_s3(Fake(), "bucket/a")
    assert not s3.is_s3(Fake(), "bucket--use1-az4--x-s3/a")
    assert not s3.is_s3(fsspec.filesystem("memory"), "bucket/a")


@pytest.mark.s3
def test_every_call_costs_as_few_requests_as_it_can(s3_store, network, tmp_path):
    store = s3_store
    source = tmp_path / "source"
    source.mkdir()
    (source / "a.py").write_bytes(b"1")
    snapshot = Snapshot({"a.py": SourceFile(snapshots.blob_digest(b"1"))})
    one = tmp_path / "one"
    one.write_bytes(b"content")
    store.create("x/1", b"1")  # the probe
    seen = {}

    def cost(name, action):
        with network.counting() as requests:
            result = action()
        seen[name] = dict(requests)
        return result

    cost("create", lambda: store.create("x/2", b"1"))
    cost("lose a race", lambda: store.create("x/2", b"2"))
    cost("an empty log", lambda: log.Log.read(store, FP))
    claim = cost("claim", lambda: log.claim(store, FP, ME))
    cost("watch", lambda: log.Watch(store, claim))
    content = cost("publish", lambda: outputs.publish(store, FP, "c1", "model", one))
    cost("commit", lambda: log.commit(store, claim, {"a": 1}))
    cost("log", lambda: log.Log.read(store, FP))
    cost("verify", lambda: outputs.verify(store, PATH, content))
    cost("fetch", lambda: outputs.fetch(store.fs, store.full(PATH), tmp_path / "got"))
    cost("write a note", lambda: runs.write_note(store, "p", "r", "s", {"a": 1}))
    cost("read a note", lambda: runs.read_note(store, "p", "r", "s"))
    cost("read no note", lambda: runs.read_note(store, "p", "r", "t"))
    cost("notes", lambda: runs.read_notes(store, "p", "r"))
    cost("latest", lambda: runs.read_latest(store, "p", ["a", "b"]))
    cost("runs", lambda: runs.runs(store, "p"))
    cost("journal", lambda: journal.append(store, "p", "r", {}, [journal.Use("s", "ran")]))
    cost("pack", lambda: snapshots.pack(store, source, snapshot))
    cost("exists", lambda: store.exists("x/2"))
    cost("exists not", lambda: store.exists("x/9"))
    cost("remove", lambda: store.remove("x/2"))
    cost("remove nothing", lambda: store.remove("x/9"))
    assert seen == {
        "create": {"PUT": 1},
        "lose a race": {"PUT": 1, "GET": 1},
        "an empty log": {"LIST": 1},
        "claim": {"LIST": 1, "PUT": 1},
        "watch": {"GET": 1},
        "publish": {"PUT": 1},
        "commit": {"LIST": 1, "GET": 1, "PUT": 1},
        "log": {"LIST": 1, "GET": 2},
        "verify": {"LIST": 1},
        "fetch": {"LIST": 1, "GET": 1},
        "write a note": {"PUT": 1},
        "read a note": {"GET": 1},
        "read no note": {"GET": 1},
        "notes": {"LIST": 1, "GET": 1},
        "latest": {"GET": 2},
        "runs": {"LIST": 1},
        "journal": {"PUT": 1},
        "pack": {"HEAD": 1, "PUT": 2},
        "exists": {"HEAD": 1},
        "exists not": {"HEAD": 1},
        "remove": {"LIST": 1, "DELETE": 1},
        "remove nothing": {"LIST": 1},
    }


@pytest.mark.s3
def test_a_folder_is_published_and_verified_in_one_request_a_file_and_one_listing(s3_store, network, made, tmp_path):
    with network.counting() as published:
        content = outputs.publish(s3_store, FP, "c1", "model", made)
    with network.counting() as verified:
        assert outputs.verify(s3_store, PATH, content) is None
    with network.counting() as fetched:
        outputs.fetch(s3_store.fs, s3_store.full(PATH), tmp_path / "got")
    assert (published, verified, fetched) == ({"PUT": 3}, {"LIST": 1}, {"LIST": 1, "GET": 3})
    assert digest_path(tmp_path / "got") == content


@pytest.mark.s3
@pytest.mark.usefixtures("small_pages")
def test_names_beside_a_path_do_not_count_however_many_pages_they_fill(s3_store, network):
    beside = [f"out/model{end}" for end in ("", "-1", "-2", "-3", "-4", ".a", ".b", ".c", "0", "1", "x/y")]
    below = [f"out/model/{number}/f" for number in range(7)]
    for path in beside[1:] + below:
        s3_store.write(path, b"1")
    assert s3_store.sizes("out/model") == {f"{number}/f": 1 for number in range(7)}
    assert s3_store.names("out") == sorted({"model", *(path.split("/")[1] for path in beside[1:])})
    s3_store.remove("out/model")
    assert s3_store.sizes("out/model") == {}
    assert {f"out/{path}" for path in s3_store.sizes("out")} == set(beside[1:])
    s3_store.write("out/model", b"22")
    with network.counting() as seen:
        assert s3_store.sizes("out/model") == {"": 2}
    assert seen["LIST"] <= 2


@pytest.mark.s3
@pytest.mark.usefixtures("small_pages")
def test_a_listing_in_pages_is_whole(s3_store, network):
    paths = [f"a/{number:02}" for number in range(10)]
    for path in paths:
        s3_store.write(path, b"1")
    with network.counting() as seen:
        assert list(s3_store.sizes("a")) == [path[2:] for path in paths]
    assert seen == {"LIST": 4}
    assert s3_store.names("a") == [path[2:] for path in paths]
    with network.counting() as seen:
        s3_store.remove("a")
    assert seen == {"LIST": 4, "POST": 4}
    assert s3_store.names("a") == []


class Bucket:
    """Lists as S3 does, in pages, and counts the requests."""

    def __init__(self, keys):
        self.keys = sorted(keys)
        self.calls = 0

    def split_path(self, path):
        bucket, _, key = path.partition("/")
        return bucket, key, None

    def call_s3(self, method, Bucket, Prefix, MaxKeys, StartAfter="", ContinuationToken=""):  # noqa: N803
        assert (method, Bucket) == ("list_objects_v2", "bucket")
        self.calls += 1
        after = max(StartAfter, ContinuationToken)
        found = [key for key in self.keys if key.startswith(Prefix) and key > after]
        page = {"Contents": [{"Key": key, "Size": len(key)} for key in found[:MaxKeys]]}
        more = {"IsTruncated": True, "NextContinuationToken": found[MaxKeys - 1]} if found[MaxKeys:] else {}
        return page | more


def logs(count):
    """Return keys as the logs of many fingerprints have them."""
    folders = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(count)]
    return folders, [f"log/{folder[:2]}/{folder}/{entry:06}.json" for folder in folders for entry in (1, 2)]


def test_the_logs_of_a_thousand_steps_are_listed_in_a_few_requests():
    folders, keys = logs(1000)
    bucket = Bucket(keys)
    found = s3.listings(bucket, [f"bucket/log/{folder[:2]}/{folder}" for folder in folders])
    assert {len(files) for files in found.values()} == {2}
    assert bucket.calls == 8


def test_folders_among_many_others_are_listed_one_by_one():
    folders, keys = logs(20_000)
    bucket = Bucket(keys)
    wanted = [f"bucket/log/{folder[:2]}/{folder}" for folder in folders[:50]]
    found = s3.listings(bucket, wanted)
    assert {folder: sorted(files) for folder, files in found.items()} == {
        folder: ["000001.json", "000002.json"] for folder in wanted
    }
    assert bucket.calls <= 52


segments = st.text("ab-/0", min_size=1, max_size=4).map(lambda text: text.strip("/")).filter(bool)


@given(
    keys=st.sets(st.lists(segments, min_size=1, max_size=3).map("/".join), max_size=40),
    folders=st.sets(st.text("ab-0", min_size=1, max_size=3), max_size=8),
    page=st.integers(1, 5),
    sizes=st.tuples(st.integers(1, 4), st.integers(0, 3)),
)
@settings(max_examples=300)
def test_many_folders_listed_at_once_are_as_each_listed_alone(keys, folders, page, sizes):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(s3, "_PAGE", page)
        patch.setattr(s3, "_SWEEP", sizes[0])
        patch.setattr(s3, "_GAP", sizes[1])
        found = s3.listings(Bucket(keys), [f"bucket/{folder}" for folder in folders])
        assert {folder: set(files) for folder, files in found.items()} == {
            f"bucket/{folder}": {key[len(folder) + 1 :] for key in keys if key.startswith(f"{folder}/")}
            for folder in folders
        }


@given(
    keys=st.sets(st.lists(segments, min_size=1, max_size=3).map("/".join), max_size=30),
    path=st.text("ab-0", min_size=1, max_size=3),
    page=st.integers(1, 4),
)
@settings(max_examples=200)
def test_a_listing_is_what_lies_at_and_below_a_path_whatever_the_pages(keys, path, page):
    below = {key[len(path) + 1 :] for key in keys if key.startswith(f"{path}/")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(s3, "_PAGE", page)
        found = s3.listing(Bucket(keys), f"bucket/{path}")
    assert (found and set(found)) == ({""} if path in keys else below or None)


@pytest.mark.s3
def test_a_store_may_be_a_whole_bucket(network):
    store = Store.open("s3://of-its-own", network.options)
    store.fs.call_s3("create_bucket", Bucket="of-its-own")
    store.write("a/b", b"1")
    assert store.sizes("") == {"a/b": 1}
    assert store.names("") == ["a"]
    assert store.path_of(store.uri("a/b")) == "a/b"
    store.remove("")
    assert store.sizes("") == {}


@pytest.mark.s3
def test_a_missing_bucket_is_no_empty_store_and_is_not_made(network):
    store = Store.open("s3://nosuch-bucket/store", network.options)
    for action in (
        lambda: store.read("a"),
        lambda: store.read_all(["a"]),
        lambda: store.names("a"),
        lambda: store.sizes("a"),
        lambda: store.write("a", b""),
        lambda: store.create("a", b""),
        lambda: store.remove("a"),
        lambda: store.make_folder("a"),
        lambda: log.Log.read(store, FP),
    ):
        with pytest.raises(
            StoreUnreachableError, match=r"s3://nosuch-bucket/store failed: .*no bucket .*create it, or"
        ):
            action()


@pytest.mark.s3
def test_what_may_not_be_removed_is_said(s3_store, monkeypatch):
    call = s3_store.fs.call_s3

    def refusing(method, **options):
        if method == "delete_objects":
            return {"Errors": [{"Key": "a/1", "Code": "AccessDenied", "Message": "not yours"}]}
        return call(method, **options)

    s3_store.write("a/1", b"1")
    s3_store.write("a/2", b"2")
    monkeypatch.setattr(s3_store.fs, "call_s3", refusing)
    with pytest.raises(
        StoreUnreachableError, match=r"cannot remove a: .*a/1 was not removed: not yours; let this user"
    ):
        s3_store.remove("a")


@pytest.mark.s3
@pytest.mark.usefixtures("_at_once")
@pytest.mark.parametrize("statuses", [(500, 503), (500,), (503,)])
def test_errors_of_the_server_that_pass_are_not_seen(s3_store, network, made, statuses):
    content = outputs.publish(s3_store, FP, "c1", "model", made)
    network.fail(share=0.1, seed=3, statuses=statuses)
    for number in range(15):
        path = f"a/{number}"
        s3_store.write(path, b"1")
        assert s3_store.read(path) == b"1"
        assert s3_store.create(f"b/{number}", str(number).encode())
        assert outputs.verify(s3_store, PATH, content) is None
    network.heal()
    assert len(s3_store.names("b")) == 15


@pytest.mark.s3
@pytest.mark.usefixtures("_at_once")
def test_bodies_that_are_cut_are_read_again(s3_store, network, made, tmp_path):
    content = outputs.publish(s3_store, FP, "c1", "model", made)
    s3_store.write("a", b"0123456789")
    network.cut(share=0.5, seed=4)
    assert [s3_store.read("a") for _ in range(20)] == [b"0123456789"] * 20
    outputs.fetch(s3_store.fs, s3_store.full(PATH), tmp_path / "got")
    assert digest_path(tmp_path / "got") == content


@pytest.mark.s3
@pytest.mark.usefixtures("_at_once")
def test_a_server_that_is_gone_is_a_clear_failure_and_no_empty_log(s3_store, network):
    s3_store.create(layout.log_entry(FP, 1), b"{}")
    network.stop()
    for action in (
        lambda: log.Log.read(s3_store, FP),
        lambda: s3_store.exists("a"),
        lambda: outputs.verify(s3_store, PATH, None),
    ):
        with pytest.raises(StoreUnreachableError, match="see that it is up and its credentials are right"):
            action()
    network.heal()
    assert log.Log.read(s3_store, FP).last == 1


@pytest.mark.s3
def test_a_server_that_answers_nothing_holds_nobody_for_ever_and_goes_on_where_it_was(s3, network, monkeypatch):
    store = Store.open(s3.fresh(), {**network.options, "config_kwargs": {"read_timeout": 0.2}})
    store.write("a", b"1")
    monkeypatch.setattr(attempts, "PATIENCE", 0)
    network.stall()
    with pytest.raises(StoreUnreachableError, match=r"cannot read a: .*see that it is up"):
        store.read("a")
    network.heal()
    assert store.read("a") == b"1"


RACE = """
import sys
from airflow_mlpipe.store.log import Owner, claim
from airflow_mlpipe.store.store import Store
url, endpoint, racer = sys.argv[1:]
options = {"key": "testing", "secret": "testing", "endpoint_url": endpoint, "client_kwargs": {"region_name": "us-east-1"}}
store = Store.open(url, options)
store.exists("warm")
print("ready", flush=True)
sys.stdin.readline()
owner = Owner.here("churn", f"run {racer}", "train")
print(*[turn for turn in range(20) if claim(store, f"{turn:064x}", owner)], flush=True)
sys.stdin.readline()  # a winner that has ended would be superseded
"""


@pytest.mark.s3
def test_rule_8_of_processes_that_claim_on_s3_one_wins(s3):
    url, endpoint = s3.fresh(), s3.options["endpoint_url"]
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACE, url, endpoint, str(racer)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for racer in range(4)
    ]
    for racer in racers:
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        racer.stdin.write("go\n")
        racer.stdin.flush()
    won = [racer.stdout.readline().split() for racer in racers]
    for racer in racers:
        racer.communicate("end\n", timeout=60)
    assert sorted(int(turn) for turns in won for turn in turns) == list(range(20))


@pytest.mark.s3
def test_a_large_file_goes_up_and_down_in_parts(s3_store, tmp_path):
    large = Path(tmp_path, "large")
    with large.open("wb") as file:
        for number in range(110):
            file.write(bytes([number]) * (1 << 20))
    content = outputs.publish(s3_store, FP, "c1", "model", large)
    assert outputs.verify(s3_store, PATH, content) is None
    outputs.fetch(s3_store.fs, s3_store.full(PATH), tmp_path / "got")
    assert digest_path(tmp_path / "got") == content
