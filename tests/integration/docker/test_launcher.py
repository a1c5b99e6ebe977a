"""Steps in containers of a real engine: what only containers can do, and what only they can do wrong."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest

from airflow_mlpipe.exceptions import CommandFailedError, DataError, OutputMissingError, StepError
from airflow_mlpipe.launchers.docker.guard import CLAIM
from airflow_mlpipe.runtime.protocol import EnvironmentSpec, OutputSpec, Reference, to_json
from airflow_mlpipe.store import log as fingerprint_log
from airflow_mlpipe.store.owner import Owner
from tests.engine import BUSYBOX, PYTHON, own_engine
from tests.launchers.steps import FINGERPRINT
from tests.runtime.steps import eventually

pytestmark = pytest.mark.docker

MODEL = {"model": OutputSpec()}
WRITES = "import os; open(os.environ['MLPIPE_OUTPUT_MODEL'], 'w').write('model')\n"
STUBBORN = "trap '' TERM; echo begun; while true; do sleep 1; done"
STAGINGS = ["mount", "copy"]


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("1,2\n")
    return path


@pytest.mark.parametrize("staging", STAGINGS)
def test_a_shell_script_in_a_busybox_image_is_a_step(bench, data, staging):
    script = (
        'cat "$MLPIPE_INPUT_DATA" > "$MLPIPE_OUTPUT_MODEL"; echo \'{"name": "auc", "value": 1}\' >> ../metrics.jsonl'
    )
    spec = bench.shell(script, inputs={"data": bench.stored(data)}, outputs=MODEL, target={"staging": staging})
    result = bench.launch(spec)
    assert bench.store.read(result.outputs["model"].path) == b"1,2\n"
    assert result.metrics == {"auc": 1.0}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can have files of others")
@pytest.mark.parametrize("staging", STAGINGS)
@pytest.mark.parametrize("place", ["outputs", "metrics.jsonl"])
def test_the_worker_neither_reads_nor_takes_what_a_link_leads_to(bench, tmp_path, staging, place):
    private = tmp_path / "private"
    private.mkdir()
    (private / "model").write_text('{"secret": "hush-hush"}\n')
    os.chown(private / "model", 1234, 55)
    leads_to = private if place == "outputs" else private / "model"
    script = f"cd /mlpipe; echo 1 > outputs/model; rm -rf {place}; ln -s {leads_to} {place}"
    with pytest.raises(StepError, match=r"put something else in|is a link") as caught:
        bench.launch(bench.shell(script, outputs=MODEL, target={"staging": staging, "user": "0:0"}))
    assert "hush" not in str(caught.value)
    assert (private / "model").stat().st_uid == 1234
    assert bench.outputs() == {}


@pytest.mark.parametrize("staging", STAGINGS)
def test_a_command_that_removes_its_folder_of_outputs_is_told_so(bench, staging):
    script = 'rmdir "$MLPIPE_STEP_DIRECTORY/outputs"'
    with pytest.raises(OutputMissingError, match="the command removed outputs/"):
        bench.launch(bench.shell(script, outputs=MODEL, target={"staging": staging}))


@pytest.mark.parametrize("staging", STAGINGS)
@pytest.mark.parametrize("user", [None, "1234:55"])
def test_each_try_goes_on_where_the_last_one_failed(bench, staging, user):
    script = """
        n=$(cat "$MLPIPE_CHECKPOINT/n" 2>/dev/null || echo 0)
        echo $((n + 1)) > "$MLPIPE_CHECKPOINT/n"
        echo $n > "$MLPIPE_OUTPUT_MODEL"
        [ $n -ge 2 ]
    """
    target = {"staging": staging, **({"user": user} if user else {})}
    spec = bench.shell(script, outputs=MODEL, target=target, checkpoint=True)
    for claim in ("first", "second"):
        with pytest.raises(CommandFailedError):
            bench.launch(spec, claim)
    assert bench.store.read(bench.launch(spec, "third").outputs["model"].path) == b"2\n"


@pytest.mark.parametrize("staging", STAGINGS)
def test_an_image_that_is_one_program_needs_nothing_of_ours(bench, data, staging):
    spec = bench.static("cp", outputs=MODEL, inputs={"data": bench.stored(data)}, target={"staging": staging})
    spec = replace(spec, command=(*spec.command, (Reference("input", "data"),), (Reference("output", "model"),)))
    assert bench.store.read(bench.launch(spec).outputs["model"].path) == b"1,2\n"


@pytest.mark.parametrize("staging", STAGINGS)
@pytest.mark.parametrize("user", ["1234:55", "1234", "0:0"])
def test_what_another_user_writes_comes_back_as_the_workers(bench, staging, user):
    script = (
        'umask 077; mkdir "$MLPIPE_OUTPUT_MODEL"; id -u > "$MLPIPE_OUTPUT_MODEL/who"; echo 1 > "$HOME/x"; echo 1 > y'
    )
    output = bench.launch(bench.shell(script, outputs=MODEL, target={"staging": staging, "user": user})).outputs[
        "model"
    ]
    assert bench.store.read(f"{output.path}/who").decode().strip() == user.partition(":")[0]
    for path in (bench.store.local_root / output.path).rglob("*"):
        assert (path.stat().st_uid, path.stat().st_gid) == (os.getuid(), os.getgid())
    assert bench.work() == []


def test_an_input_is_read_only_even_for_root(bench, data):
    bound = bench.stored(data)
    spec = bench.shell('chmod 666 "$MLPIPE_INPUT_DATA"; echo x >> "$MLPIPE_INPUT_DATA"', inputs={"data": bound})
    with pytest.raises(CommandFailedError, match=r"Read-only file system"):
        bench.launch(spec)
    assert bench.store.read(bench.store.path_of(bound.uri)) == b"1,2\n"


def test_a_direct_input_is_seen_at_its_own_place_and_read_only(bench, data):
    bound = replace(bench.external(data), mode="direct")
    spec = bench.shell(
        'cat "${MLPIPE_INPUT_DATA#file://}"; echo x >> "${MLPIPE_INPUT_DATA#file://}"', inputs={"data": bound}
    )
    with pytest.raises(CommandFailedError, match=r"Read-only file system"):
        bench.launch(spec)
    assert "1,2" in bench.logged  # standard output and error are two streams: their lines have no order
    copied = bench.shell("true", inputs={"data": bound}, target={"staging": "copy"})
    with pytest.raises(DataError, match=r"does not see .*, which is on the worker; use mode mount or download"):
        bench.launch(copied)


def test_the_images_own_path_and_entrypoint_are_left_alone(bench, engine):
    image = engine.build({"tool": b"#!/bin/sh\necho mine"}, changes=("ENV PATH=/opt/bin", 'ENTRYPOINT ["/no/such"]'))
    with pytest.raises(
        CommandFailedError, match=r"cannot start 'sh': there is no such program on the PATH of the image"
    ):
        bench.launch(bench.shell("", image=image))
    bench.launch(bench.spec("import os, sys; print(os.environ['PATH']); print('/opt/own' in sys.path)"))
    assert bench.logged == ["/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "True"]


def test_limits_are_limits(bench, engine):
    target = {"cpus": 0.5, "memory": "64Mi", "shm_size": "8Mi"}
    thread = threading.Thread(target=bench.launch, args=(bench.shell("echo begun; sleep 2", target=target),))
    thread.start()
    assert eventually(lambda: bench.logged)
    with engine.client() as client:
        (name,) = engine.containers()
        found = client.inspect_container(name)["HostConfig"]
    thread.join()
    assert (found["NanoCpus"], found["CpuShares"]) == (500_000_000, 0)
    assert (found["Memory"], found["MemorySwap"], found["ShmSize"]) == (64 << 20, 64 << 20, 8 << 20)


def test_a_command_that_runs_out_of_memory_is_told_so(bench):
    script = "dd if=/dev/zero of=/dev/null bs=64M count=1; exit $?"
    with pytest.raises(CommandFailedError, match=r"ran out of memory: it wanted more than the 16Mi it may use"):
        bench.launch(bench.shell(script, target={"memory": "16Mi"}))


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ({"gpus": 1}, "the engine has no such GPU for the container"),
        ({"gpus": ["7"]}, "the engine has no such GPU for the container"),
        ({"user": "bob"}, "the image knows no user 'bob'.* give user as numbers"),
        ({"network": "nowhere"}, "the engine has no such network: .*nowhere"),
        (
            {"mounts": [{"source": "/no/such/folder", "target": "/data"}]},
            "the engine's machine lacks what is to be mounted",
        ),
        ({"memory": "1Mi"}, "the memory cannot be given"),
        ({"cpus": 10_000}, "the processors cannot be given"),
        (
            {"host": "unix:///no/such.sock"},
            "no Docker engine can be reached at unix:///no/such.sock: there is no such socket",
        ),
        ({"host": "tcp://127.0.0.1:9"}, "no Docker engine can be reached at tcp://127.0.0.1:9: nobody listens there"),
    ],
)
def test_what_an_engine_does_not_have_is_named_in_few_lines(bench, target, said):
    with pytest.raises(StepError, match=said) as caught:
        bench.launch(bench.shell("true", target=target))
    assert len(str(caught.value).splitlines()) == 1


def test_an_image_that_is_gone_is_named_and_no_registry_is_asked_for_an_engines_id(bench):
    with pytest.raises(StepError, match=r"does not have the image sha256:0{64}; only an engine knew it by this id"):
        bench.launch(bench.shell("", image=f"sha256:{'0' * 64}"))
    image = f"127.0.0.1:9/x@sha256:{'0' * 64}"
    with pytest.raises(StepError, match=r"the target says pull: never"):
        bench.launch(bench.shell("", image=image, target={"pull": "never"}))
    with pytest.raises(StepError, match=r"cannot be fetched: the engine does not reach the registry: .*refused"):
        bench.launch(bench.shell("", image=image))


def test_a_silent_command_is_not_given_up(bench, monkeypatch):
    monkeypatch.setattr("airflow_mlpipe.launchers.docker.engine.TIMEOUT", 2)
    assert bench.launch(bench.shell("sleep 5; echo done")).tail == ("done",)


def worker(bench, spec, claim="claim"):
    """Launch a step in another process; return it when the command has begun."""
    path = bench.root / f"{claim}.json"
    path.write_bytes(to_json(spec))
    command = [sys.executable, "-m", "tests.integration.docker.worker", bench.store.url, str(path), claim]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True
    )
    assert process.stdout
    while "begun" not in (line := process.stdout.readline()):
        assert line, process.wait()
    return process


@pytest.mark.parametrize("script", ["echo begun; sleep 300", STUBBORN])
def test_a_worker_that_is_killed_leaves_no_container(bench, engine, script):
    process = worker(bench, bench.shell(script))
    assert len(engine.containers()) == 1
    process.kill()
    process.communicate()
    assert eventually(lambda: not engine.containers(), 20)
    assert bench.outputs() == {}


def test_a_worker_whose_whole_session_is_killed_leaves_no_container(bench, engine):
    process = worker(bench, bench.shell("echo begun; sleep 300"))
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert eventually(lambda: not engine.containers(), 20)


def held(bench, try_number):
    """Claim the fingerprint of the bench as a try of one task instance; return the claim's id."""
    owner = Owner.here("p", "run", "s", "dag/run/s/-1", try_number)
    claim = fingerprint_log.claim(bench.store, FINGERPRINT, owner)
    assert claim
    return claim.id


def test_a_later_try_removes_the_container_of_the_earlier_one_and_its_guard_leaves_the_new_one_alone(bench, engine):
    first = worker(bench, bench.shell("echo begun; sleep 300"), held(bench, 1))
    (name,) = engine.containers()
    thread = threading.Thread(
        target=bench.launch, args=(bench.shell("echo second; sleep 6; echo end"),), kwargs={"claim": held(bench, 2)}
    )
    thread.start()
    assert eventually(lambda: bench.logged, 20)
    assert engine.containers() == [name]
    first.kill()
    assert first.wait() != 0
    thread.join()
    assert bench.logged == ["second", "end"]


def test_a_foreign_container_of_the_same_name_is_not_touched(bench, engine):
    claim = held(bench, 1)
    process = worker(bench, bench.shell("echo begun; sleep 300"), claim)
    (name,) = engine.containers()
    process.kill()
    process.communicate()
    assert eventually(lambda: not engine.containers(), 20)
    with engine.client() as client:
        foreign = client.create_container(BUSYBOX, ["true"], name=name)["Id"]
        try:
            with pytest.raises(StepError, match=r"has a container .* that is not ours; remove it"):
                bench.launch(bench.shell("true"), claim=claim)
            assert client.inspect_container(foreign)
        finally:
            client.remove_container(foreign)


def test_a_container_that_somebody_removes_fails_the_step(bench, engine):
    def remove():
        assert eventually(lambda: bench.logged)
        with engine.client() as client:
            client.remove_container(engine.containers()[0], force=True)

    thread = threading.Thread(target=remove)
    thread.start()
    with pytest.raises(CommandFailedError, match=r"was removed while the step ran"):
        bench.launch(bench.spec(WRITES + "print('begun', flush=True); import time; time.sleep(300)", outputs=MODEL))
    thread.join()
    assert bench.outputs() == {}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_an_engine_that_restarts_fails_the_step_and_keeps_nothing(own, make_bench, number):
    bench = make_bench(own)
    script = 'echo x > "$MLPIPE_OUTPUT_MODEL"; echo begun; sleep 20'

    def restart():
        assert eventually(lambda: bench.logged)
        own.stop(number)
        time.sleep(1)
        own.start()

    thread = threading.Thread(target=restart)
    thread.start()
    with pytest.raises(CommandFailedError) as caught:
        bench.launch(bench.shell(script, outputs=MODEL))
    thread.join()
    assert "the Docker engine at" in str(caught.value), caught.value
    assert bench.outputs() == {}
    assert eventually(lambda: not own.containers(), 30)


def test_an_engine_whose_disk_is_full_says_so(make_bench, tmp_path):
    large = tmp_path / "large"
    large.write_bytes(os.urandom(1 << 20) * 80)
    with own_engine(data="64m") as small:
        small.make_images(python=False)
        bench = make_bench(small)
        with pytest.raises(StepError, match=r"the engine's disk is full: .*no space left"):
            bench.launch(bench.shell("true", inputs={"data": bench.stored(large)}, target={"staging": "copy"}))
        assert small.containers() == []


@pytest.mark.parametrize("decoy", [False, True])
def test_an_engine_that_does_not_see_the_workers_files_gets_copies(make_bench, tmp_path, decoy, data):
    store = tmp_path / "store"
    store.mkdir()
    with own_engine("unshare", "--mount", "--propagation", "private") as other:
        other.make_images(python=False)
        if decoy:
            (store / "work" / "claim" / "inputs").mkdir(parents=True)
            (store / "work" / "claim" / "spec.json").write_text("of another machine")
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(store)], check=True)
        try:
            bench = make_bench(other)
            script = 'cat "$MLPIPE_INPUT_DATA" > "$MLPIPE_OUTPUT_MODEL"; echo 1'
            spec = bench.shell(script, inputs={"data": bench.stored(data)}, outputs=MODEL)
            output = bench.launch(spec).outputs["model"]
            assert bench.store.read(output.path) == b"1,2\n"
            with pytest.raises(StepError, match=r"does not see the worker's folder .*staging: mount"):
                bench.launch(replace(spec, target={**spec.target, "staging": "mount"}))
            assert (other.containers(), other.volumes()) == ([], [])
        finally:
            subprocess.run(["umount", str(store)], check=True)


def test_secrets_are_no_labels_and_leave_with_the_container(bench, engine):
    spec = bench.shell("echo begun $TOKEN; sleep 2", environment=EnvironmentSpec())
    thread = threading.Thread(target=bench.launch, args=(spec,), kwargs={"secrets": {"TOKEN": "s3cr3t-t0k3n"}})
    thread.start()
    assert eventually(lambda: bench.logged)
    with engine.client() as client:
        found = client.inspect_container(engine.containers()[0])
    thread.join()
    assert bench.logged == ["begun ***"]
    assert "s3cr3t" not in str({**found["Config"], "Env": None, **found["HostConfig"]})
    assert found["Config"]["Labels"][CLAIM] == "claim"
    assert found["Image"] == engine.id_of(BUSYBOX)
    assert engine.has(PYTHON)
