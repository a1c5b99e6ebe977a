from __future__ import annotations

from airflow_mlpipe.store import condemned, layout


def test_what_is_written_down_is_read_with_its_age(store):
    condemned.write(store, "outputs", ["outputs/b", "outputs/a"])
    (listed,) = condemned.read(store)
    assert (listed.kind, listed.paths) == ("outputs", ("outputs/a", "outputs/b"))
    assert listed.age >= 0
    assert [again.age >= listed.age for again in condemned.read(store)] == [True]


def test_nothing_is_written_for_nothing(store):
    condemned.write(store, "outputs", [])
    assert store.names(layout.CONDEMNED) == []


def test_a_list_is_removed_by_its_name(store):
    condemned.write(store, "outputs", ["outputs/a"])
    condemned.write(store, "work", ["work/a"])
    for listed in condemned.read(store):
        if listed.kind == "work":
            condemned.remove(store, listed.name)
    assert [listed.kind for listed in condemned.read(store)] == ["outputs"]


def test_a_list_that_cannot_be_read_is_left_out(store):
    condemned.write(store, "outputs", ["outputs/a"])
    for name, content in [("outputs-1", b"{"), ("outputs-2", b"{}"), ("outputs-3", b'{"kind": "outputs"}')]:
        store.write(layout.condemned(name), content)
    assert [listed.paths for listed in condemned.read(store)] == [("outputs/a",)]


def test_ages_are_told_by_the_clock_of_the_store_and_leave_nothing_behind(store):
    store.write("first", b"1")
    store.write("second", b"2")
    ages = condemned.age_of(store, ["first", "second", "none"])
    assert ages.keys() == {"first", "second"}
    assert ages["first"] >= ages["second"] >= 0
    assert store.names(layout.CONDEMNED) == []
