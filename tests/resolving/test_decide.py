from __future__ import annotations

import os
import sys
import uuid
from dataclasses import replace

import pytest

from airflow_mlpipe.definitions import Datastore, DataTransferStep, Workspace
from airflow_mlpipe.exceptions import DataError, RecordFormatError, StoreUnreachableError
from airflow_mlpipe.fingerprint import fingerprint
from airflow_mlpipe.launchers.transfer import TransferLauncher
from airflow_mlpipe.planning.bind import components
from airflow_mlpipe.planning.explain import Reason
from airflow_mlpipe.planning.plan import Found, Missing
from airflow_mlpipe.resolving import decide
from airflow_mlpipe.resolving.decide import History, StoreLookUp, files_in
from airflow_mlpipe.resolving.facts import read_inputs
from airflow_mlpipe.resolving.records import make_body, outputs_of
from airflow_mlpipe.resolving.sources import scan
from airflow_mlpipe.runtime.observe import current
from airflow_mlpipe.runtime.protocol import EnvironmentSpec, OutputSpec, StepSpec
from airflow_mlpipe.store import attempts, layout, runs, snapshots
from airflow_mlpipe.store.digests import digest_path
from airflow_mlpipe.store.log import Log, commit_unclaimed, evict
from tests.resolving.projects import Project
from tests.services import READS, WRITES, unreachable

SPEC = StepSpec("p", "train", "command", (("train",),), parameters={"c": 1.0}, outputs={"model": OutputSpec()})
KEY = fingerprint(components(SPEC))


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.delenv("MLPIPE_STORE", raising=False)
    monkeypatch.setattr(attempts, "PAUSES", (0,))
    return Project(tmp_path)


def looking(site, run="r9", **options):
    return StoreLookUp(site, "p", run, lambda _: sys.executable, **options)


def find(project, spec=SPEC, **options):
    return looking(project.site).find(spec, fingerprint(components(spec)), **options)


def place_of(project, record, output="model"):
    return project.root / "store" / record.body["outputs"][output]["path"]


def entries(project, spec=SPEC):
    return Log.read(project.site.store, fingerprint(components(spec))).entries


def test_what_was_never_made_is_missing_without_a_reason(project):
    assert find(project) == Missing()


def test_a_record_is_found_with_all_that_is_known_of_it(project):
    record = project.made(SPEC, "r1", metrics={"auc": 0.9}, seconds=2.5)
    found = find(project)
    assert (found.number, found.metrics, found.seconds) == (record.number, {"auc": 0.9}, 2.5)
    assert found.made_by == {"pipeline": "p", "run": "r1", "step": "train"}
    assert found.outputs["model"].content == digest_path(place_of(project, record))
    assert found.undelivered == ()


def test_the_newest_record_is_taken(project):
    project.made(SPEC, "r1")
    newest = project.made(SPEC, "r2")
    assert find(project).number == newest.number


def test_a_run_may_look_for_its_own_records_only(project):
    mine = project.made(SPEC, "r9")
    project.made(SPEC, "r1")
    assert find(project, only_this_run=True).number == mine.number
    assert looking(project.site, "r8").find(SPEC, KEY, only_this_run=True) == Missing()


def lose(path):
    path.unlink()


def cut(path):
    path.chmod(0o644)
    path.write_text("m")


def become_a_folder(path):
    path.unlink()
    path.mkdir()
    (path / "a").write_text("made\n")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lose, "it is gone"),
        (cut, "it is 1 bytes instead of 5"),
        (become_a_folder, "it is a folder instead of a file"),
    ],
)
def test_rule_7_a_record_whose_output_is_damaged_or_gone_is_no_hit_and_is_voided_with_that_reason(
    project, damage, words
):
    record = project.made(SPEC)
    damage(place_of(project, record))
    assert find(project) == Missing((Reason("outputs", f"output model of the earlier run: {words}"),))
    (*_, void) = entries(project)
    assert (void.kind, void.data["void"], void.data["reason"]) == (
        "void",
        record.number,
        f"output model of the earlier run: {words}",
    )
    assert find(project) == Missing((Reason("outputs", f"output model of the earlier run: {words}"),))


def test_a_record_made_after_a_void_is_found(project):
    lose(place_of(project, project.made(SPEC)))
    find(project)
    anew = project.made(SPEC)
    assert find(project).number == anew.number


def test_rule_7_an_older_record_whose_outputs_are_there_takes_the_place_of_a_damaged_one(project):
    older = project.made(SPEC)
    lose(place_of(project, project.made(SPEC)))
    assert find(project).number == older.number
    assert find(project).number == older.number


def test_rule_7_a_record_that_lacks_an_output_of_the_step_is_no_hit(project):
    project.made(SPEC, outputs={})
    (reason,) = find(project).reasons
    assert reason == Reason("outputs", "output model of the earlier run: its record does not name it")


def test_a_dry_look_voids_nothing(project):
    lose(place_of(project, project.made(SPEC)))
    looked = looking(project.site, voiding=False)
    assert isinstance(looked.find(SPEC, KEY), Missing)
    assert [entry.kind for entry in entries(project)] == ["commit"]


def test_rule_10_a_record_that_cannot_be_read_is_no_hit_and_says_so(project):
    record = project.made(SPEC, outputs={"model": "x"})
    commit_unclaimed(project.site.store, KEY, "damaged", {**record.body, "outputs": {"model": {}}})
    assert find(project).number == record.number
    commit_unclaimed(project.site.store, KEY, "newer", {**record.body, "body": 2})
    lose(place_of(project, record))
    (reason,) = find(project).reasons
    assert (reason.component, "upgrade it" in reason.what) == ("record", True)


@pytest.mark.parametrize("content", [b"", b"{", b"\0" * 300])
def test_rule_10_a_commit_that_was_cut_off_is_no_hit(project, content):
    record = project.made(SPEC)
    project.site.store.write(layout.log_entry(KEY, record.number), content)
    assert find(project) == Missing(
        (Reason("record", "entry 1 of its log is damaged, which may have been its record"),)
    )


def test_rule_10_a_commit_in_which_a_digit_changed_is_no_hit_and_says_so(project):
    """It is as long as before, and its JSON can be read: a digest or a metric would be another one."""
    record = project.made(SPEC)
    path = layout.log_entry(KEY, record.number)
    content = project.site.store.read(path)
    digest = outputs_of(record)["model"].content.digest.removeprefix("sha256:")
    project.site.store.write(
        path, content.replace(digest.encode(), f"{digest[:-1]}{int(digest[-1], 16) ^ 1:x}".encode())
    )
    assert find(project) == Missing(
        (Reason("record", "entry 1 of its log is damaged, which may have been its record"),)
    )
    project.made(SPEC)
    assert isinstance(find(project), Found)


def test_rule_10_a_log_of_a_newer_version_is_refused_and_not_guessed(project):
    project.site.store.create(layout.log_entry(KEY, 1), b'{"format": 2, "kind": "lease"}')
    with pytest.raises(RecordFormatError, match="upgrade it"):
        find(project)


OBSERVED = current(sys.executable, ["fsspec", "pydantic"])
OBSERVING = replace(SPEC, environment=EnvironmentSpec(observe=True))


def test_rule_4_a_record_made_with_the_same_software_is_found(project):
    record = project.made(OBSERVING, observed=OBSERVED)
    assert find(project, OBSERVING).number == record.number


def test_rule_4_a_record_made_with_other_software_is_no_hit_and_says_what_differs(project):
    project.made(OBSERVING, observed={**OBSERVED, "fsspec": "1.0", "gone-for-good": "2.0"})
    assert find(project, OBSERVING).reasons == (
        Reason("software", "fsspec", "1.0", OBSERVED["fsspec"]),
        Reason("software", "gone-for-good", "2.0", None),
    )


def test_rule_4_an_older_record_is_found_when_its_software_is_back(project):
    older = project.made(OBSERVING, observed=OBSERVED)
    project.made(OBSERVING, observed={**OBSERVED, "fsspec": "1.0"})
    assert find(project, OBSERVING).number == older.number
    assert {entry.kind for entry in entries(project, OBSERVING)} == {"commit"}


def test_rule_4_what_was_observed_counts_only_where_the_environment_says_so(project):
    record = project.made(SPEC, observed={"fsspec": "1.0"})
    assert find(project).number == record.number


def test_an_interpreter_is_asked_once_for_each_distribution(project, monkeypatch):
    asked = []
    monkeypatch.setattr(decide, "current", lambda _, names: asked.append(sorted(names)) or dict.fromkeys(names, "1"))
    looked = looking(project.site)
    for c, observed in ((1.0, ("a", "b")), (2.0, ("b", "c")), (3.0, ("a", "c"))):
        spec = replace(OBSERVING, parameters={"c": c})
        project.made(spec, observed=dict.fromkeys(observed, "1"))
        assert isinstance(looked.find(spec, fingerprint(components(spec))), Found)
    assert asked == [["a", "b"], ["c"]]


def test_what_was_prefetched_is_not_read_again_until_it_is_refreshed(project, monkeypatch):
    looked, read = looking(project.site), Log.read
    reads = []
    monkeypatch.setattr(Log, "read", lambda store, key: reads.append(key) or read(store, key))
    looked.prefetch([KEY, KEY, "0" * 64])
    looked.prefetch([KEY])
    assert sorted(reads) == ["0" * 64, KEY]
    project.made(SPEC)
    reads.clear()
    assert looked.find(SPEC, KEY) == Missing()
    looked.refresh(KEY)
    assert isinstance(looked.find(SPEC, KEY), Found)
    assert reads == [KEY]


def test_a_copy_that_is_not_at_its_destination_is_still_to_be_delivered(project):
    spec = replace(SPEC, outputs={"model": OutputSpec(destination=f"file://{project.root}/there")})
    record = project.made(spec)
    assert find(project, spec).undelivered == ("model",)
    project.site.deliver(find(project, spec).outputs["model"], f"file://{project.root}/there", None)
    assert find(project, spec).undelivered == ()
    project.write("there", "edited\n")
    assert find(project, spec).undelivered == ("model",)
    assert find(project, spec).number == record.number


@pytest.fixture
def service(tmp_path, monkeypatch):
    """A site whose store and datastore lie on a service that can be out of reach."""
    monkeypatch.delenv("MLPIPE_STORE", raising=False)
    monkeypatch.setattr(attempts, "PAUSES", (0,))
    name = uuid.uuid4().hex
    workspace = Workspace(store=f"service://{name}/store", datastores={"out": Datastore(url=f"service://{name}/out")})
    return Project(tmp_path, workspace)


@pytest.mark.parametrize("calls", [READS, READS | WRITES], ids=["reads", "everything"])
def test_rule_10_a_store_that_does_not_answer_is_a_clear_failure_and_no_answer(service, calls):
    record = service.made(SPEC)
    looked = looking(service.site)
    with unreachable(calls), pytest.raises(StoreUnreachableError, match=r"no route to the service.*see that it is up"):
        looked.find(SPEC, KEY)
    with unreachable(calls), pytest.raises(StoreUnreachableError):
        looked.prefetch([KEY])
    assert looked.find(SPEC, KEY).number == record.number
    assert [entry.kind for entry in entries(service)] == ["commit"]


def test_rule_10_a_store_that_goes_while_outputs_are_looked_for_voids_nothing(service):
    record = service.made(SPEC)
    looked = looking(service.site)
    looked.prefetch([KEY])
    assert looked.find(SPEC, KEY).number == record.number
    with unreachable(READS), pytest.raises(StoreUnreachableError):
        looked.find(SPEC, KEY)  # what was prefetched is asked for once
    assert looking(service.site).find(SPEC, KEY).number == record.number


def test_rule_7_an_output_that_is_lost_when_records_are_prefetched_is_no_hit(service):
    service.made(SPEC)
    store = service.site.store
    store.remove("outputs")
    looked = looking(service.site)
    looked.prefetch([KEY])
    assert "it is gone" in looked.find(SPEC, KEY).reasons[0].what


def copied(project, destination, datastore=None, source="source"):
    """Copy a file as a transfer does, and leave its record; return its spec."""
    step = DataTransferStep(name="copy", source=source, destination={"path": destination, "datastore": datastore})
    pipeline = project.pipeline(step)
    spec = project.spec(pipeline, "copy")
    result = TransferLauncher(project.site).launch(spec, "unused", "unused", {}, lambda _: None)
    made_by = {"pipeline": "p", "run": "r0", "step": "copy"}
    commit_unclaimed(
        project.site.store, fingerprint(components(spec)), uuid.uuid4().hex, make_body(spec, result, made_by)
    )
    return spec


def bound(project, spec):
    """Return the same transfer, with its source as it is now."""
    return read_inputs(project.site, replace(spec, inputs={"data": replace(spec.inputs["data"], content=None)}))


def again(project, spec):
    return find(project, bound(project, spec))


def test_rule_13_a_transfer_is_reused_while_source_and_destination_are_as_they_were(project):
    project.write("source", "one\n")
    spec = copied(project, "there")
    found = again(project, spec)
    assert found.outputs["data"].path == f"file://{project.root}/there"
    assert found.undelivered == ()


def test_rule_13_a_touched_source_or_destination_is_as_it_was(project):
    project.write("source", "one\n")
    spec = copied(project, "there")
    for path in ("source", "there"):
        os.utime(project.root / path, (1, 1))
    found = again(project, spec)
    assert isinstance(found, Found)
    assert (
        found.outputs["data"].token
        == project.spec(  # what comes next is staged by the version that is there now
            project.pipeline(
                DataTransferStep(name="b", source={"path": "there", "compare": "version"}, destination="x")
            ),
            "b",
        )
        .inputs["data"]
        .token
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda place: place.write_text("two\n"),
        lambda place: place.unlink(),
        lambda place: (place.unlink(), place.mkdir(), (place / "a").write_text("one\n")),
    ],
    ids=["edited", "removed", "a folder"],
)
def test_rule_13_a_destination_that_changed_is_copied_to_again(project, change):
    project.write("source", "one\n")
    spec = copied(project, "there")
    before = (project.root / "there").stat()
    change(project.root / "there")
    if (project.root / "there").is_file():
        os.utime(project.root / "there", ns=(before.st_atime_ns, before.st_mtime_ns))
    (reason,) = again(project, spec).reasons
    assert reason.component == "outputs"
    (void,) = [entry for entry in entries(project, bound(project, spec)) if entry.kind == "void"]
    assert void.data["reason"] == reason.what


def test_rule_13_a_source_that_changed_is_copied_again(project):
    project.write("source", "one\n")
    spec = copied(project, "there")
    project.write("source", "two\n")
    assert again(project, spec) == Missing()


def test_rule_13_a_destination_elsewhere_counts_by_its_version(service):
    service.write("source", "one\n")
    spec = copied(service, "x", "out")
    assert isinstance(again(service, spec), Found)
    fs, path = service.site.open_uri(spec.outputs["data"].destination, "out")
    fs.pipe_file(path, b"two\n")
    (reason,) = again(service, spec).reasons
    assert "is no longer what was copied there" in reason.what


def test_rule_10_a_destination_that_does_not_answer_is_a_clear_failure_and_voids_nothing(project):
    out = Datastore(url=f"service://{uuid.uuid4().hex}")
    project.workspace = Workspace(datastores={"out": out})
    project.write("source", "one\n")
    spec = copied(project, "x", "out")
    with unreachable(), pytest.raises(DataError, match=r"/x cannot be read: ConnectionError"):
        again(project, spec)
    assert isinstance(again(project, spec), Found)


def test_rule_3_a_datastore_that_got_another_name_is_the_same_place(project):
    out = Datastore(url=f"service://{uuid.uuid4().hex}")
    project.workspace = Workspace(datastores={"out": out})
    project.write("source", "one\n")
    spec = copied(project, "x", "out")
    project.workspace = Workspace(datastores={"landing": out})
    renamed = replace(spec, outputs={"data": replace(spec.outputs["data"], datastore="landing")})
    assert again(project, renamed).outputs["data"].datastore == "landing"


def history(project, scanned=None):
    return History.read(project.site, "p", ["train"], scanned or {})


def noted(project, **changes):
    """Keep what a step was made from, and return its history as the next run reads it."""
    spec = replace(SPEC, **changes)
    history(project).note(spec, fingerprint(components(spec)), "r1")
    return history(project)


def test_a_step_that_has_no_history_has_not_run_before(project):
    assert history(project).explain(SPEC) == (Reason("record", "it has not run before"),)
    assert history(project).fingerprints() == []


def test_a_changed_component_is_named_with_both_values(project):
    assert noted(project).explain(replace(SPEC, parameters={"c": 0.5})) == (Reason("parameters", "c", "1.0", "0.5"),)


def test_what_did_not_change_and_has_no_record_was_removed(project):
    assert noted(project).explain(SPEC) == (Reason("record", "its record has been removed"),)


def test_the_fingerprints_of_the_last_run_are_known(project):
    assert noted(project).fingerprints() == [KEY]


def test_a_note_is_written_only_where_something_else_was_made(project, monkeypatch):
    known = noted(project)
    written = []
    monkeypatch.setattr(runs, "write_latest", lambda *given: written.append(given))
    known.note(SPEC, KEY, "r2")
    assert written == []
    known.note(replace(SPEC, parameters={}), "f" * 64, "r2")
    known.note(replace(SPEC, parameters={}), "f" * 64, "r3")
    assert [body["run"] for *_, body in written] == ["r2"]


def packed(project, text):
    """Put code into the store; return its snapshot."""
    folder = project.write("src/main.py", text).parent
    snapshot = scan(folder)
    snapshots.pack(project.site.store, folder, snapshot)
    return snapshot


def test_a_changed_file_is_named_by_the_snapshots_of_then_and_now(project):
    old = packed(project, "1\n")
    new = scan(project.write("src/main.py", "2\n").parent)
    noted(project, code=old.digest)
    known = history(project, {new.digest: files_in(new)})
    (reason,) = known.explain(replace(SPEC, code=new.digest))
    assert (reason.component, reason.what) == ("code", "main.py")


def test_a_file_that_became_executable_differs(project):
    old = packed(project, "1\n")
    (project.root / "src/main.py").chmod(0o755)
    new = scan(project.root / "src")
    assert files_in(new) == {"main.py": f"{files_in(old)['main.py']} executable"}


@pytest.mark.parametrize("loss", ["removed", b"", b"{", b'{"format": 2}', b'{"format": 1, "files": {}}'], ids=str)
def test_rule_10_a_snapshot_that_is_gone_or_damaged_costs_only_the_names_of_the_files(project, loss):
    old = packed(project, "1\n")
    known = noted(project, code=old.digest)
    if loss == "removed":
        project.site.store.remove(layout.snapshot_manifest(old.digest))
    else:
        project.site.store.write(layout.snapshot_manifest(old.digest), loss)
    (reason,) = known.explain(replace(SPEC, code="sha256:" + "0" * 64))
    assert (reason.component, reason.what) == ("code", "source directory")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\0\0"], ids=str)
def test_rule_10_a_history_that_is_damaged_costs_only_the_explanation(project, content):
    noted(project)
    project.site.store.write(layout.latest("p", "train"), content)
    assert history(project).explain(SPEC) == (Reason("record", "it has not run before"),)
    history(project).note(SPEC, KEY, "r2")
    assert history(project).fingerprints() == [KEY]


def give_up(project, record):
    evict(project.site.store, record.fingerprint, record.number, "for the room")
    project.site.store.remove(layout.outputs(record.fingerprint, record.claim))


def test_rule_12_a_record_without_its_outputs_is_no_hit_and_is_not_voided(project):
    record = project.made(SPEC)
    give_up(project, record)
    assert find(project) == Missing((Reason("outputs", "its outputs were evicted"),))
    assert [entry.kind for entry in entries(project)] == ["commit", "evict"]


def test_rule_12_who_needs_no_outputs_finds_a_record_without_them(project):
    record = project.made(SPEC, "r1")
    give_up(project, record)
    found = looking(project.site).find_or_evicted(SPEC, KEY)
    assert (found.evicted, found.number, found.outputs["model"].content.digest) == (
        True,
        record.number,
        record.body["outputs"]["model"]["content"]["digest"],
    )
    assert looking(project.site).find_or_evicted(replace(SPEC, parameters={"c": 2.0}), "0" * 64) == Missing()


def test_rule_12_a_record_with_its_outputs_goes_before_a_newer_one_without(project):
    whole = project.made(SPEC, "r1")
    give_up(project, project.made(SPEC, "r2"))
    found = looking(project.site).find_or_evicted(SPEC, KEY)
    assert (found.evicted, found.number) == (False, whole.number)


def test_rule_12_a_record_without_outputs_cannot_deliver_them(project):
    spec = replace(SPEC, outputs={"model": OutputSpec(destination=f"{project.root}/copy")})
    give_up(project, project.made(spec))
    assert isinstance(looking(project.site).find_or_evicted(spec, fingerprint(components(spec))), Missing)
