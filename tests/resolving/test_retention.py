from __future__ import annotations

import json
import uuid
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_mlpipe.exceptions import MlpipeError, RecordFormatError
from airflow_mlpipe.resolving import retention
from airflow_mlpipe.resolving.inventory import Inventory, Item
from airflow_mlpipe.resolving.leftovers import LEAST
from airflow_mlpipe.resolving.referring import Referring
from airflow_mlpipe.resolving.retention import Guard, Policy, Pruner, choose, worth
from airflow_mlpipe.runtime.protocol import Content, OutputRef, dump
from airflow_mlpipe.store import condemned, layout, pins, snapshots
from airflow_mlpipe.store.log import Log, Owner, Record, claim, commit_unclaimed, release, take_over
from airflow_mlpipe.store.pins import Pin
from airflow_mlpipe.store.store import Store
from tests.resolving.shelves import Shelves

NONE = timedelta(0)
DAY = timedelta(days=1)
NOW = datetime(2026, 1, 31, tzinfo=timezone.utc)
AT_ONCE = Guard(NONE, NONE, NONE)
LATER = Guard(timedelta(hours=1), NONE, NONE)
ALL = Policy(older_than=NONE)


@pytest.fixture
def shelves(tmp_path, monkeypatch):
    monkeypatch.delenv("MLPIPE_STORE", raising=False)
    return Shelves(tmp_path)


def item(days_old=0, *, step="train", size=10, seconds=1.0, number=1, evicted=False):
    made = (NOW - days_old * DAY).isoformat()
    body = {"made_by": {"pipeline": "p", "step": step}, "seconds": seconds}
    output = OutputRef("outputs/f/c/out", Content("file", "sha256:1", size, 1))
    return Item(Record(f"{number:064x}", number, "c", body, made, evicted), {"out": output})


def going(items, policy, refers=None):
    chosen = choose(items, policy, refers or Referring(), NOW)
    return [choice.item.record.number for choice in chosen if not choice.kept]


def let_pass(monkeypatch, **time):
    """Let everything that was condemned be so for some time, as the store would tell."""
    read = condemned.read
    later = timedelta(**time).total_seconds()
    monkeypatch.setattr(
        retention.condemned,
        "read",
        lambda store: [condemned.Condemned(c.name, c.kind, c.age + later, c.paths) for c in read(store)],
    )


def prune(shelves, policy=ALL, guard=LATER):
    return Pruner(shelves.store, policy, guard).prune()


def test_nothing_goes_by_no_policy():
    assert going([item(999)], Policy()) == []


def test_records_go_by_age():
    items = [item(1, number=1), item(10, number=2), item(40, number=3)]
    assert going(items, Policy(older_than=10 * DAY)) == [2, 3]


def test_records_go_by_last_use_and_by_both_where_both_are_given():
    items = [item(40, number=1), item(20, number=2)]
    used = Item(items[0].record, items[0].outputs, ())
    used.__dict__["last_used"] = (NOW - DAY).isoformat()
    assert going([used, items[1]], Policy(unused_for=10 * DAY)) == [2]
    assert going([used, items[1]], Policy(older_than=30 * DAY)) == [1]
    assert going([used, items[1]], Policy(older_than=30 * DAY, unused_for=10 * DAY)) == []


def test_the_last_records_of_each_step_stay():
    items = [item(n, number=n, step=step) for n, step in [(1, "a"), (2, "a"), (3, "b"), (4, "a"), (5, "b")]]
    assert going(items, Policy(keep_last=1)) == [2, 4, 5]
    assert going(items, Policy(keep_last=1, older_than=3 * DAY)) == [4, 5]
    assert going(items, Policy(keep_last=2, max_size=0)) == [4]


def test_of_a_store_that_is_too_large_goes_what_is_cheapest_to_make_again_for_its_room():
    dear = item(9, number=1, size=10, seconds=100)
    cheap = item(1, number=2, size=10, seconds=1)
    large = item(5, number=3, size=1000, seconds=50)
    assert going([cheap, large, dear], Policy(max_size=10)) == [3, 2]
    assert going([cheap, large, dear], Policy(max_size=25)) == [3]
    assert going([cheap, large, dear], Policy(max_size=2000)) == []


def test_of_what_is_worth_the_same_goes_what_was_used_longest_ago():
    assert going([item(1, number=1), item(9, number=2)], Policy(max_size=10)) == [2]


def test_what_is_kept_frees_no_room():
    cheap, dear = item(1, number=1, seconds=1), item(1, number=2, seconds=9)
    refers = Referring(fingerprints={cheap.fingerprint: "it is pinned"})
    assert going([cheap, dear], Policy(max_size=10), refers) == [2]


def test_what_has_no_outputs_cannot_be_evicted():
    items = [item(number=1, evicted=True), item(number=2, size=0), item(number=3)]
    assert going(items, Policy(older_than=NONE, evict=True)) == [3]
    assert going(items, Policy(older_than=NONE)) == [1, 2, 3]


def test_what_takes_no_room_does_not_go_for_room():
    items = [item(number=1, evicted=True), item(number=2, size=0), item(number=3)]
    assert going(items, Policy(max_size=0)) == [3]
    assert worth(items[1]) == float("inf")


def test_a_policy_that_makes_no_sense_is_refused():
    with pytest.raises(MlpipeError, match="0 or more, given: -1"):
        Policy(keep_last=-1)


ages = st.integers(0, 60)
items_of_stores = st.lists(
    st.tuples(ages, st.sampled_from("abc"), st.integers(0, 100), st.integers(0, 50), st.booleans()), max_size=20
)
maybe = st.none() | st.integers(0, 60)


@given(items_of_stores, maybe, maybe, st.none() | st.integers(0, 500), st.none() | st.integers(0, 5), st.booleans())
def test_a_policy_takes_nothing_it_should_keep_and_keeps_nothing_it_should_take(made, older, unused, most, last, evict):
    items = [
        item(age, step=step, size=size, seconds=seconds, number=number)
        for number, (age, step, size, seconds, _) in enumerate(sorted(made), 1)
    ]
    referred = {items[n].fingerprint: "it is pinned" for n, row in enumerate(sorted(made)) if row[-1]}
    days = [None if number is None else number * DAY for number in (older, unused)]
    policy = Policy(*days, most, last, evict)
    gone = set(going(items, policy, Referring(fingerprints=referred)))
    stays = [each for each in items if each.record.number not in gone]
    spared = [each for step in "abc" for each in [e for e in items if e.step[1] == step][: last or 0]]

    assert not gone & {each.record.number for each in items if each.fingerprint in referred}
    assert not gone & {each.record.number for each in spared}
    if most is not None and sum(each.size for each in stays) > most:
        assert all(each in spared or each.fingerprint in referred or not each.size for each in stays)
    if older is None and unused is None and most is None and last is None:
        assert not gone


def test_looking_changes_nothing(shelves):
    record = shelves.made()
    before = shelves.store.sizes("")
    pruning = Pruner(shelves.store, ALL, AT_ONCE).look()
    assert [choice.item.fingerprint for choice in pruning.going] == [record.fingerprint]
    assert shelves.store.sizes("") == before


def test_rule_12_a_record_is_voided_first_and_its_outputs_go_a_grace_time_later(shelves, monkeypatch):
    record = shelves.made()
    first = prune(shelves)
    assert ([choice.item.record for choice in first.going], first.removed) == ([record], ())
    assert Log.read(shelves.store, record.fingerprint).records == ()
    assert shelves.holds(record)
    assert prune(shelves).removed == ()
    assert shelves.holds(record)
    let_pass(monkeypatch, hours=1)
    (removed,) = prune(shelves).removed
    assert removed.path == shelves.folder(record)
    assert not shelves.holds(record)
    prune(shelves)
    assert shelves.store.names(layout.CONDEMNED) == []


def test_rule_12_who_found_a_record_just_before_it_was_voided_keeps_its_outputs(shelves, monkeypatch):
    record = shelves.made()
    decision = shelves.reuses(record)
    prune(shelves)
    shelves.planned("r1", decision)
    shelves.used(record, "r1")
    guard = Guard(timedelta(hours=1), DAY, DAY)
    let_pass(monkeypatch, hours=2)
    assert prune(shelves, guard=guard).removed == ()
    assert shelves.holds(record)


def test_a_record_that_came_back_has_its_whole_grace_time_again(shelves, monkeypatch):
    """Its outputs were condemned before it was committed, as those of a step that takes no claim may be."""
    record = shelves.made()
    path = layout.log_entry(record.fingerprint, record.number)
    entry = shelves.store.read(path)
    shelves.store.remove(path)
    assert [leftover.kind for leftover in prune(shelves).condemned] == ["unknown"]
    shelves.store.write(path, entry)
    let_pass(monkeypatch, days=2)
    assert len(prune(shelves).going) == 1
    monkeypatch.undo()
    assert prune(shelves).removed == ()
    assert shelves.holds(record)


def test_without_a_grace_time_all_goes_at_once_after_everything_was_read_again(shelves):
    record = shelves.made()
    (removed,) = prune(shelves, guard=AT_ONCE).removed
    assert removed.path == shelves.folder(record)
    assert not shelves.holds(record)


def test_rule_12_evicted_outputs_go_and_the_record_stays(shelves):
    record = shelves.made()
    prune(shelves, Policy(older_than=NONE, evict=True), AT_ONCE)
    assert not shelves.holds(record)
    (left,) = Log.read(shelves.store, record.fingerprint).records
    assert (left.evicted, left.body) == (True, record.body)


def test_rule_12_what_is_pinned_stays_and_is_named(shelves):
    pinned, other = shelves.made(c=1), shelves.made(c=2)
    pins.add(shelves.store, Pin(fingerprint=pinned.fingerprint))
    pruning = prune(shelves, guard=AT_ONCE)
    assert [(choice.item.record, choice.kept) for choice in pruning.kept] == [(pinned, "it is pinned")]
    assert (shelves.holds(pinned), shelves.holds(other)) == (True, False)


def test_rule_10_nothing_goes_while_it_is_not_known_what_is_pinned(shelves):
    record = shelves.made()
    shelves.store.write(layout.record_pin("a" * 64), b"{")
    with pytest.raises(RecordFormatError):
        prune(shelves, guard=AT_ONCE)
    assert Log.read(shelves.store, record.fingerprint).records == (record,)


@pytest.mark.parametrize(("kind", "path"), [("unknown", layout.outputs("c" * 64, "c1")), ("work", layout.work("c1"))])
def test_what_may_be_that_of_a_step_without_a_claim_stays_longer_than_any_grace_time(shelves, monkeypatch, kind, path):
    shelves.store.write(f"{path}/out", b"1")
    assert [leftover.kind for leftover in prune(shelves, Policy(), AT_ONCE).condemned] == [kind]
    let_pass(monkeypatch, hours=23)
    assert prune(shelves, Policy(), AT_ONCE).removed == ()
    let_pass(monkeypatch, days=LEAST[kind].days)
    assert [leftover.path for leftover in prune(shelves, Policy(), AT_ONCE).removed] == [path]
    assert shelves.store.sizes(path) == {}


def test_code_nobody_needs_goes_its_list_of_files_first(shelves, tmp_path, monkeypatch):
    (tmp_path / "code.py").write_text("1")
    packed = snapshots.Snapshot({"code.py": snapshots.SourceFile(snapshots.blob_digest(b"1"))})
    snapshots.pack(shelves.store, tmp_path, packed)
    gone, remove = [], type(shelves.store).remove
    monkeypatch.setattr(type(shelves.store), "remove", lambda store, path: gone.append(path) or remove(store, path))
    prune(shelves, Policy(), AT_ONCE)
    ours = [path for path in gone if path.startswith("snapshots/")]
    assert ours[0] == layout.snapshot_manifest(packed.digest)
    assert shelves.store.sizes(layout.SNAPSHOTS) == {}


def test_what_was_committed_meanwhile_is_not_removed(shelves, monkeypatch):
    """A step that takes no claim commits after everything was read, and before anything is removed."""
    record = shelves.made()
    path = layout.log_entry(record.fingerprint, record.number)
    entry = shelves.store.read(path)
    shelves.store.remove(path)
    prune(shelves, Policy())
    let_pass(monkeypatch, days=2)
    survey = retention.Survey.read

    def late(*given):
        found = survey(*given)
        shelves.store.write(path, entry)
        return found

    monkeypatch.setattr(retention.Survey, "read", late)
    assert prune(shelves, Policy()).removed == ()
    assert shelves.holds(record)


def test_what_cannot_be_read_is_left_alone_and_told(shelves):
    newer, known = shelves.made(c=1), shelves.made(c=2)
    shelves.store.write(layout.log_entry(newer.fingerprint, 2), json.dumps({"format": 99}).encode())
    pruning = prune(shelves, guard=AT_ONCE)
    assert "upgrade" in pruning.unreadable[0]
    assert (shelves.holds(newer), shelves.holds(known)) == (True, False)
    assert [each.fingerprint for each in Inventory.read(shelves.store).items] == []


def test_a_store_that_is_no_disk_is_pruned_just_so():
    store = Store.open(f"memory://store-{uuid.uuid4().hex}")
    content = Content("file", "sha256:1", 3, 1)
    records = []
    for number in range(2):
        path = layout.output(f"{number}" * 64, "c1", "out")
        store.write(path, b"123")
        body = {"outputs": {"out": dump(OutputRef(path, content))}, "made_by": {"pipeline": "p", "step": "train"}}
        records.append(commit_unclaimed(store, f"{number}" * 64, "c1", body))
    pins.add(store, Pin(fingerprint=records[0].fingerprint))
    assert [choice.item.record for choice in Pruner(store, ALL, LATER).prune().going] == [records[1]]
    assert Pruner(store, ALL, LATER).prune().removed == ()
    (removed,) = Pruner(store, ALL, AT_ONCE).prune().removed
    assert (removed.path, removed.size) == (layout.outputs(records[1].fingerprint, "c1"), 3)
    assert set(store.sizes(layout.OUTPUTS)) == {f"{'0' * 64}/c1/out"}


def test_rule_12_a_result_that_somebody_may_record_since_it_was_condemned_stays(tmp_path):
    store = Shelves(tmp_path).store
    away = Owner("another host", "", "", "p", "r1", "train", None, 1)
    first = claim(store, "c" * 64, away)
    store.write(layout.output(first.fingerprint, first.id, "out"), b"12345")
    store.write(layout.result(first.fingerprint, first.id), b"{}")
    second = take_over(store, first.fingerprint, first, replace(away, run="r2"))
    release(store, second)
    pruner = Pruner(store, Policy(), Guard(grace=timedelta(0)))
    (leftover,) = (found for found in pruner.look().condemned if found.kind == "outputs")
    third = claim(store, first.fingerprint, replace(away, run="r3"))
    assert pruner._remove([leftover]) == ()
    assert store.exists(layout.output(first.fingerprint, first.id, "out"))
    release(store, third)
    assert pruner._remove([leftover]) == (leftover,)
    assert store.sizes(layout.OUTPUTS) == {}
