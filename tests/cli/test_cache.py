"""What ``mlpipe cache`` answers over a store that was filled by hand."""

from __future__ import annotations

import json
import tempfile
from datetime import timedelta

import pytest

from airflow_mlpipe.cli.cached.savings import read_day
from airflow_mlpipe.exceptions import MlpipeError
from airflow_mlpipe.store.log import Log, evict
from airflow_mlpipe.store.owner import process_tag
from tests.cli.helpers import call
from tests.resolving.shelves import Shelves

RUN = "manual__2026-01-01T00:00:00+00:00"
AT_ONCE = ("--grace", "0", "--live", "0", "--recent", "0")


@pytest.fixture
def shelves(tmp_path):
    return Shelves(tmp_path)


@pytest.fixture
def cache(shelves):
    """Calls a command on the store; ``--json`` gives its data, else its text."""

    def run(*arguments, code=0):
        result = call("cache", *arguments, "--store", shelves.store.url, code=code)
        return json.loads(result.stdout) if "--json" in arguments else result.stdout + result.stderr

    return run


@pytest.fixture
def two(shelves):
    """A step that took two minutes and was reused, and one that was not."""
    first = shelves.made("prepare", text="x" * 2000, seconds=130.0)
    second = shelves.made("train", seconds=5.0, metrics={"auc": 0.9})
    shelves.noted(RUN, "prepare")
    shelves.used(first, RUN)
    return first, second


@pytest.mark.usefixtures("two")
def test_records_are_listed_by_step(cache):
    rows = cache("ls", "--json")
    assert [(row["pipeline"], row["step"], row["records"], row["size"]) for row in rows] == [
        ("p", "prepare", 1, 2000),
        ("p", "train", 1, 5),
    ]
    assert list(rows[0]) == ["pipeline", "step", "records", "evicted", "size", "last_used", "made_by", "seconds"]
    text = cache("ls")
    assert "p.prepare" in text
    assert "2 min 10 s" in text
    assert "2 records, 2.0 kB" in text


def test_the_records_of_a_pipeline_or_a_step_are_listed_one_by_one(cache, two):
    assert [row["step"] for row in cache("ls", "p", "--json")] == ["train", "prepare"]
    (row,) = cache("ls", "p.prepare", "--json")
    assert (row["fingerprint"], row["uses"]) == (two[0].fingerprint, 1)
    assert two[0].fingerprint[:12] in cache("ls", "p.prepare")


def test_all_that_is_known_of_a_record_is_shown(cache, two, shelves):
    data = cache("show", "p.train", "--json")
    assert data["outputs"]["out"]["uri"] == shelves.store.uri(f"{shelves.folder(two[1])}/out")
    assert (data["metrics"], data["components"]["parameters"], data["used_by"]) == ({"auc": 0.9}, {"c": 1.0}, [])
    shown = cache("show", two[0].fingerprint[:10])
    for part in (two[0].fingerprint, "made ", "in 2 min 10 s", "parameters: c=1.0", "2.0 kB, 1 file, sha256:", RUN):
        assert part in shown
    assert "metric auc: 0.9" in cache("show", "p.train")


def test_an_evicted_record_is_shown_as_such(cache, two, shelves):
    evict(shelves.store, two[0].fingerprint, two[0].number, "for the room")
    assert "evicted" in cache("show", "p.prepare")
    assert "1 (1 evicted)" in cache("ls")
    assert "evicted" in cache("ls", "p.prepare")


@pytest.mark.usefixtures("two")
def test_what_is_not_there_is_refused_in_one_line(cache):
    assert cache("show", "p.tran", code=2).count("\n") == 1
    assert "Did you mean p.train?" in cache("ls", "p.tran", code=2)


@pytest.mark.usefixtures("two")
def test_what_takes_room_is_told_with_what_nobody_refers_to(cache, shelves):
    shelves.store.write(f"outputs/{'c' * 64}/c1/out", b"123")
    data = cache("du", "--json")
    assert [(row["step"], row["size"]) for row in data["steps"]] == [("prepare", 2000), ("train", 5)]
    assert data["leftovers"] == [{"kind": "unknown", "count": 1, "size": 3}]
    history = sum(sum(shelves.store.sizes(folder).values()) for folder in ("runs", "journal"))
    assert data["runs"] == {"count": 1, "size": history}
    assert data["size"] == 2008 + history
    text = cache("du")
    assert "outputs that no log knows of" in text
    assert "plans, notes and journal of runs" in text
    assert "kB altogether" in text


def test_pruning_says_what_would_go_and_changes_nothing_without_yes(cache, two, shelves):
    text = cache("prune", "--older-than", "0", *AT_ONCE)
    assert "2 records would be voided, 2.0 kB" in text
    assert "nothing was changed: give --yes" in text
    assert shelves.holds(two[0])
    assert Log.read(shelves.store, two[0].fingerprint).records == (two[0],)


def test_pruning_with_yes_does_it_and_says_when_the_room_is_there(cache, two, shelves):
    text = cache("prune", "--older-than", "0", "--recent", "0", "--live", "0", "--yes")
    assert "2 records voided, 2.0 kB" in text
    assert "prune again in 1 h 0 min or later" in text
    assert shelves.holds(two[0])
    data = cache("prune", *AT_ONCE, "--yes", "--json")
    assert {row["path"] for row in data["removed"]} == {shelves.folder(record) for record in two}
    assert not shelves.holds(two[0])


def test_what_a_run_of_today_used_stays_and_the_table_says_so(cache, two, shelves):
    data = cache("prune", "--older-than", "0", "--grace", "0", "--yes", "--json")
    assert [(row["step"], row["kept"].startswith(f"run {RUN} of p")) for row in data["kept"]] == [("prepare", True)]
    assert (shelves.holds(two[0]), shelves.holds(two[1])) == (True, False)
    text = cache("prune", "--older-than", "0")
    assert "1 record stay" in text.replace("stays", "stay")
    assert RUN in text.replace("\n", "")


def test_evicting_keeps_the_records(cache, two, shelves):
    assert "2 records evicted" in cache("prune", "--older-than", "0", "--evict", *AT_ONCE, "--yes")
    assert [row["evicted"] for row in cache("ls", "p", "--json")] == [True, True]
    assert not shelves.holds(two[0])


@pytest.mark.usefixtures("two")
def test_the_store_is_brought_to_a_size(cache):
    data = cache("prune", "--max-size", "10 B", *AT_ONCE, "--json")
    assert [row["step"] for row in data["records"]] == ["prepare"]
    assert "too large" in data["records"][0]["why"]


@pytest.mark.usefixtures("two")
@pytest.mark.parametrize(
    "arguments",
    [("--older-than", "x"), ("--grace", "soon"), ("--max-size", "big"), ("--unused-for", "-1d"), ("--keep-last", "-1")],
)
def test_a_policy_that_cannot_be_read_is_refused(cache, arguments):
    assert arguments[0] in cache("prune", *arguments, code=2)


def test_a_record_and_a_run_are_pinned_listed_and_unpinned(cache, two, shelves):
    assert "nothing is pinned" in cache("pin")
    (pin,) = cache("pin", "p.train", "--note", "the paper's", "--json")
    assert (pin["fingerprint"], pin["note"]) == (two[1].fingerprint, "the paper's")
    assert len(cache("pin", "--run", RUN, "--json")) == 2
    assert "the paper's" in cache("pin")
    data = cache("prune", "--older-than", "0", *AT_ONCE, "--yes", "--json")
    assert {row["kept"] for row in data["kept"]} == {"it is pinned: the paper's"}
    assert shelves.holds(two[1])
    assert [pin["run"] for pin in cache("unpin", two[1].fingerprint[:8], "--json")] == [RUN]
    assert cache("unpin", "p", "--run", RUN, "--json") == []


@pytest.mark.usefixtures("two")
def test_what_cannot_be_pinned_is_refused(cache):
    assert "no run 'tonight'" in cache("pin", "--run", "tonight", code=2)
    assert "Did you mean p.train?" in cache("pin", "p.tran", code=2)
    assert "0 pins are meant" in cache("unpin", "p.train", code=2)
    assert "say what" in cache("unpin", code=2)


def test_damage_is_reported_and_voided_when_asked_for(cache, two, shelves):
    assert "2 records looked at, 0 damaged" in cache("verify")
    shelves.store.remove(f"{shelves.folder(two[0])}/out")
    text = cache("verify", "--digests", code=1)
    assert "output out: it is gone" in text
    assert "2 records looked at, 1 of them by digest, 1 damaged" in text
    assert cache("verify", "p.train", "--sample", "1", "--json")["digests"] == 1
    data = cache("verify", "--void", "--json")
    assert [(row["step"], row["voided"]) for row in data["damaged"]] == [("prepare", True)]
    assert cache("verify", "--json") == {"records": 1, "digests": 0, "elsewhere": 0, "damaged": []}


@pytest.mark.usefixtures("two")
def test_savings_are_added_up(cache):
    assert cache("savings", "--json") == [{"name": "p", "reused": 1, "seconds": 130.0, "ran": 0}]
    assert [line["name"] for line in cache("savings", "--by", "step", "--json")] == ["p.prepare"]
    assert cache("savings", "--since", "9999-01-01", "--json") == []
    assert "1 step reused; that saved 2 min 10 s" in cache("savings", "--by", "run")
    assert "--since must be a day" in cache("savings", "--since", "yesterday", code=2)


def test_a_store_that_is_not_there_is_refused(tmp_path, monkeypatch):
    assert "there is no store" in call("cache", "ls", "--store", str(tmp_path / "none"), code=2).stderr
    monkeypatch.chdir(tmp_path)
    assert str(tmp_path / ".mlpipe/store") in call("cache", "ls", code=2).stderr


def test_the_store_of_the_workspace_here_is_used(tmp_path, monkeypatch):
    made = Shelves(tmp_path / "elsewhere").made()
    (tmp_path / "mlpipe.yaml").write_text("store: elsewhere/store\n")
    monkeypatch.chdir(tmp_path)
    assert json.loads(call("cache", "show", "p.train", "--json").stdout)["fingerprint"] == made.fingerprint
    monkeypatch.chdir("/")
    (found,) = json.loads(call("cache", "ls", "--workspace", str(tmp_path / "mlpipe.yaml"), "--json").stdout)
    assert found["step"] == "train"


def test_what_is_no_day_is_refused():
    assert read_day("") == ""
    assert read_day("2026-01-31") == "2026-01-31"
    with pytest.raises(MlpipeError, match="--since must be a day"):
        read_day("tomorrow")


def test_pruning_takes_the_step_directories_of_killed_processes_with_it(cache, shelves, tmp_path, monkeypatch):
    shelves.made()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    process, start, place = process_tag().split("-")
    left = tmp_path / f"mlpipe-step-{process}-{int(start) + 1}-{place}.x"
    (left / "code").mkdir(parents=True)
    assert f"{left} would be removed" in cache("prune")
    assert cache("prune", "--json")["directories"] == [str(left)]
    assert left.exists()
    assert f"{left} removed" in cache("prune", "--yes")
    assert not left.exists()


def test_pruning_says_by_kind_what_old_runs_left(cache, shelves):
    shelves.pin("old", ago=timedelta(days=90))
    shelves.pin("new")
    text = cache("prune", "--runs-older-than", "30d")
    assert "1 x plans and notes of old runs" in text
    assert "old runs" not in cache("prune")
    (left,) = cache("prune", "--runs-older-than", "30d", "--json")["leftovers"]
    assert (left["kind"], left["path"]) == ("runs", "runs/p/old")
