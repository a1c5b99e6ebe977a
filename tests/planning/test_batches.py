from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from airflow_mlpipe.planning.batches import deal


def files(*names, **changed):
    return {name: (f"sha256:{changed.get(name, name)}", 1) for name in names}


def names(batches):
    return [batch.files for batch in batches]


def test_files_are_dealt_out_in_the_order_of_their_names():
    assert names(deal(files("c", "a", "b"), 2)) == [("a", "b"), ("c",)]


def test_new_files_make_batches_of_their_own():
    first = deal(files("a", "b", "c", "d"), 2)
    assert names(deal(files("a", "aa", "b", "c", "d", "e", "f"), 2, first)) == [
        ("a", "b"),
        ("c", "d"),
        ("aa", "e"),
        ("f",),
    ]


def test_a_changed_or_missing_file_breaks_up_its_own_batch_alone():
    first = deal(files("a", "b", "c", "d"), 2)
    assert names(deal(files("a", "b", "c", "d", b="other"), 2, first)) == [("c", "d"), ("a", "b")]
    assert names(deal(files("a", "c", "d"), 2, first)) == [("c", "d"), ("a",)]


def test_a_batch_that_is_too_large_by_now_is_broken_up():
    first = deal(files("a", "b", "c"), 2)
    assert names(deal(files("a", "b", "c"), 1, first)) == [("c",), ("a",), ("b",)]


def test_a_batch_is_what_a_folder_with_only_its_files_is(tmp_path):
    from airflow_mlpipe.store.digests import digest_files, digest_path

    for name in ("a", "sub/b"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    found = {name: (digest_files([tmp_path / name])[0], len(name)) for name in ("a", "sub/b")}
    (batch,) = deal(found, 5)
    assert batch.content == digest_path(tmp_path)


@given(st.sets(st.integers(0, 60)), st.sets(st.integers(0, 60)), st.integers(1, 9))
def test_every_file_is_in_one_batch_and_none_is_too_large(before, now, size):
    first = deal(files(*map(str, before)), size)
    second = deal(files(*map(str, now)), size, first)
    dealt = [name for batch in second for name in batch.files]
    assert sorted(dealt) == sorted(map(str, now))
    assert all(1 <= len(batch.files) <= size for batch in second)
    whole = [batch for batch in first if {*map(int, batch.files)} <= now]
    assert [batch for batch in second if batch in first] == whole
