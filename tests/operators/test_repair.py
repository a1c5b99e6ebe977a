"""Lost outputs, made again when somebody needs them: real commands, real losses."""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from airflow_mlpipe.exceptions import DataError
from airflow_mlpipe.launchers.local import LocalLauncher
from airflow_mlpipe.operators import repair
from airflow_mlpipe.planning.bind import input_from
from airflow_mlpipe.planning.plan import Task
from airflow_mlpipe.runtime.protocol import InputSpec, OutputSpec, Reference, StepSpec
from airflow_mlpipe.store import journal, runs
from airflow_mlpipe.store import log as fingerprint_log
from airflow_mlpipe.store.entries import sealed
from tests.resolving.shelves import unsealed

OUT, DATA = Reference("output", "out"), Reference("input", "data")


@pytest.fixture
def lives(world):
    """Return a function that lives a task of a run, with a real launcher."""

    def launch(spec, fingerprint, claim):
        world.launched.append(spec.step)
        site = world.site()
        launcher = LocalLauncher(site.store, site.open_uri, lambda _: sys.executable)
        return launcher.launch(spec, fingerprint, claim, {}, world.said.append)

    def live(task, run="r1"):
        return world.life(run, launch=launch, step=task.spec.step).live(task)

    return live


def first(text="1", pipeline="p"):
    """Return a task that writes three files."""
    shell = 'mkdir "$0"; for f in a b c; do echo $1 $f > "$0/$f"; done'
    command = (("/bin/sh",), ("-c",), (shell,), (OUT,), (text,))
    return Task(StepSpec(pipeline, "first", "command", command, outputs={"out": OutputSpec()}))


def after(outcome, world, step="second", text="2", mode="mount"):
    """Return a task that reads the output of another."""
    taken = input_from(outcome.outputs["out"], InputSpec(mode=mode), world.site().store.uri)
    shell = 'cat "$1" "$1"/* > "$0" 2> /dev/null; echo $2 >> "$0"'
    command = (("/bin/sh",), ("-c",), (shell,), (OUT,), (DATA,), (text,))
    return Task(StepSpec("p", step, "command", command, inputs={"data": taken}, outputs={"out": OutputSpec()}))


def place(outcome, world):
    return Path(world.site().store.full(outcome.outputs["out"].path))


def lose(path):
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def test_rule_7_a_lost_input_is_made_again_by_its_producer_alone(world, lives):
    made = lives(first())
    lose(place(made, world))
    outcome = lives(after(made, world))
    assert world.launched == ["first", "second", "first", "second"]
    assert place(outcome, world).read_text() == "1 a\n1 b\n1 c\n2\n"
    assert any("output out of p / r1 / first was lost: it is gone; it is made again" in line for line in world.said)


def test_rule_7_one_lost_file_of_a_folder_is_a_loss(world, lives):
    made = lives(first())
    (place(made, world) / "b").unlink()
    assert place(lives(after(made, world)), world).read_text() == "1 a\n1 b\n1 c\n2\n"


def test_rule_7_damage_that_keeps_the_size_is_mended_too(world, lives, monkeypatch):
    monkeypatch.setattr("airflow_mlpipe.store.staging.Stager._clone", lambda *_: False)
    made = lives(first())
    (place(made, world) / "b").chmod(0o644)
    (place(made, world) / "b").write_text("9 b\n")
    assert place(lives(after(made, world, mode="download")), world).read_text() == "1 a\n1 b\n1 c\n2\n"
    log = fingerprint_log.Log.read(world.site().store, made.fingerprint)
    reasons = [entry.data["reason"] for entry in log.entries if entry.kind == "void"]
    assert reasons == ["output out: its content is not what was recorded"]


def test_rule_7_the_damaged_record_is_voided_with_the_reason(world, lives):
    made = lives(first())
    lose(place(made, world))
    lives(after(made, world))
    log = fingerprint_log.Log.read(world.site().store, made.fingerprint)
    assert [entry.data["reason"] for entry in log.entries if entry.kind == "void"] == ["output out: it is gone"]
    assert log.records[0].number > made.number


def test_rule_7_a_whole_chain_of_losses_is_mended(world, lives):
    outcomes = [lives(first())]
    for number in range(4):
        outcomes.append(lives(after(outcomes[-1], world, step=f"step{number}")))
    for outcome in outcomes:
        lose(place(outcome, world))
    last = lives(after(outcomes[-1], world, step="last"))
    assert place(last, world).read_text() == "1 a\n1 b\n1 c\n" + "2\n" * 5


def test_rule_7_repair_is_bounded_in_depth(world, lives, monkeypatch):
    monkeypatch.setattr(repair, "MAX_DEPTH", 2)
    outcomes = [lives(first())]
    for number in range(4):
        outcomes.append(lives(after(outcomes[-1], world, step=f"step{number}")))
    for outcome in outcomes:
        lose(place(outcome, world))
    with pytest.raises(DataError, match=r"clear the task that makes it.*more than 2 outputs"):
        lives(after(outcomes[-1], world, step="last"))


def test_rule_7_a_second_consumer_takes_what_was_made_for_the_first(world, lives):
    made = lives(first())
    lose(place(made, world))
    lives(after(made, world))
    lives(after(made, world, step="third", text="3"))
    assert world.launched.count("first") == 2


def test_rule_7_a_producer_that_makes_other_bytes_makes_another_input(world, lives):
    shell = 'cat /proc/sys/kernel/random/uuid > "$0"'
    random = StepSpec(
        "p", "random", "command", (("/bin/sh",), ("-c",), (shell,), (OUT,)), outputs={"out": OutputSpec()}
    )
    made = lives(Task(random))
    lose(place(made, world))
    outcome = lives(after(made, world))
    assert outcome.spec.inputs["data"].content != made.outputs["out"].content
    record = fingerprint_log.Log.read(world.site().store, outcome.fingerprint).records[0]
    digest = record.body["components"]["inputs"]["data"]
    assert digest == outcome.spec.inputs["data"].content.digest


def test_rule_7_a_direct_input_that_is_lost_is_made_again_too(world, lives):
    made = lives(first())
    lose(place(made, world))
    outcome = lives(after(made, world, mode="direct"))
    assert outcome.result == "ran"
    assert Path(world.site().store.full(outcome.spec.inputs["data"].uri.partition("store/")[2])).is_dir()


def test_what_was_made_again_is_noted_in_the_run_and_in_the_journal(world, lives):
    made = lives(first())
    lose(place(made, world))
    lives(after(made, world), run="r2")
    store = world.site().store
    assert runs.read_note(store, "p", "r2", "first")["outcome"] == "ran"
    noted = [(use.step, use.outcome) for entry in journal.newest_first(store, "p") for use in entry.uses]
    assert noted[:2] == [("second", "ran"), ("first", "ran")]


def test_rule_7_a_producer_that_fails_now_fails_the_consumer_and_names_the_task_to_clear(world, lives, tmp_path):
    flag = tmp_path / "flag"
    flag.touch()
    shell = f'test -e {flag} && echo 1 > "$0"'
    fragile = StepSpec(
        "p", "fragile", "command", (("/bin/sh",), ("-c",), (shell,), (OUT,)), outputs={"out": OutputSpec()}
    )
    made = lives(Task(fragile))
    lose(place(made, world))
    flag.unlink()
    with pytest.raises(
        DataError, match=r"it is gone; clear the task that makes it; it could not be made again: .*exit code 1"
    ):
        lives(after(made, world))
    assert fingerprint_log.Log.read(world.site().store, made.fingerprint).holder is None


def test_rule_7_a_loss_whose_record_is_gone_names_the_task_to_clear(world, lives):
    made = lives(first())
    shutil.rmtree(world.root / "store" / "log")
    lose(place(made, world))
    with pytest.raises(DataError, match="clear the task that makes it"):
        lives(after(made, world))


def test_no_claim_of_the_consumer_is_held_while_its_input_is_made_again(world, lives):
    made = lives(first())
    consumer = after(made, world)
    lose(place(made, world))
    seen = []

    def launch(spec, fingerprint, claim):
        if spec.step == "first":
            folder = world.root / "store" / "log"
            logs = [fingerprint_log.Log.read(world.site().store, path.name) for path in folder.glob("*/*")]
            seen.extend(log.holder.owner.step for log in logs if log.holder)
        site = world.site()
        return LocalLauncher(site.store, site.open_uri, lambda _: sys.executable).launch(
            spec, fingerprint, claim, {}, world.said.append
        )

    world.life("r2", launch=launch, step="second").live(consumer)
    assert seen == ["first"]


def test_a_record_of_a_newer_version_is_refused_by_name(world, lives):
    made = lives(first())
    (path,) = (world.root / "store" / "log").glob(f"*/{made.fingerprint}/000002.json")
    data = unsealed(path.read_bytes())
    data["body"]["spec"]["version"] = 99
    path.chmod(0o644)
    path.write_bytes(sealed(data))
    lose(place(made, world))
    with pytest.raises(Exception, match="upgrade"):
        lives(after(made, world))


def test_the_owner_of_a_repair_is_no_try_of_the_consumer(world):
    owner = replace(world.life("r1", step="second", task_instance="d/r1/second/-1", try_number=2).owner)
    producer = repair._owner(owner, first().spec)
    assert (producer.pipeline, producer.step) == ("p", "first")
    assert not owner.is_superseded_by(producer)
    assert not producer.is_superseded_by(owner)
