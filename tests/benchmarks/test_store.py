"""The store on S3, moto's on loopback, with and without 10 ms of latency: looking up, planning, and claiming at once.

moto answers one request at a time, and goes through all keys to list some: what counts here is the time beside that of
the bare requests, and what the latency adds.
"""

from __future__ import annotations

import json
import multiprocessing
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import quantiles
from typing import TYPE_CHECKING, Any

import pytest

from airflow_mlpipe.definitions import Workspace
from airflow_mlpipe.operators.life import Life
from airflow_mlpipe.planning.bind import Values
from airflow_mlpipe.planning.plan import Found, Task
from airflow_mlpipe.resolving.decide import History, StoreLookUp
from airflow_mlpipe.resolving.planner import make_plan
from airflow_mlpipe.resolving.records import make_body
from airflow_mlpipe.resolving.site import Site
from airflow_mlpipe.runtime.protocol import OutputRef, OutputSpec, StepResult, StepSpec
from airflow_mlpipe.store import layout
from airflow_mlpipe.store.digests import Content, StatIndex
from airflow_mlpipe.store.log import Owner
from airflow_mlpipe.store.outputs import publish
from airflow_mlpipe.store.store import Store
from tests.benchmarks.shapes import SHAPES
from tests.benchmarks.table import Row, Target, Times, side_by_side
from tests.benchmarks.test_plan import pipeline_of, run_without_running
from tests.s3 import Server, _free_port, _wait_for, s3_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.s3 import Network

pytestmark = pytest.mark.benchmark

LATENCIES = (0.0, 0.01)
RECORDS = 100_000
LOOK_UPS = 200
PROCESSES = 10
SPEC = StepSpec("p", "train", "command", (("train",),), outputs={"model": OutputSpec()})
"""What is claimed by many at once."""


@pytest.fixture
def server() -> Iterator[Server]:
    with s3_server() as server:
        yield server


@pytest.fixture
def network(server: Server, room: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Network]:
    monkeypatch.setenv("MLPIPE_CACHE", str(room / "cache"))
    with server.network() as network:
        yield network


def site(server: Server, network: Network) -> Site:
    store = Store.open(server.url("store"), network.options)
    return Site(Workspace(), store, StatIndex.open(), lambda _: network.options)


@pytest.mark.parametrize("latency", LATENCIES)
def test_plan_on_s3(latency: float, server: Server, network: Network, room: Path, show: Callable[..., None]) -> None:
    """All 1,000 steps are reused: the log of each, its entries, its output, and what it was made from the last time."""
    pipeline = pipeline_of(SHAPES[1], room)
    run_without_running(site(server, network), pipeline, room)
    network.slow_down(latency)
    with network.counting() as seen:
        decisions = make_plan(site(server, network), pipeline, "counted", Values()).decisions.values()
    assert {decision.choice for decision in decisions} == {"reuse"}
    requests = [request for request in network.requests[-sum(seen.values()) :] if request.kind != "PUT"]
    runs = iter(range(1000))

    def planned() -> float:
        start = time.perf_counter()
        make_plan(site(server, network), pipeline, f"run {next(runs)}", Values())
        return time.perf_counter() - start

    def bare() -> float:
        store = site(server, network).store
        start = time.perf_counter()
        with ThreadPoolExecutor(32) as pool:
            list(pool.map(lambda request: _again(store, request), requests))
        return time.perf_counter() - start

    times = side_by_side({"ours": planned, "bare": bare})
    what = f"plan of {len(decisions)} reused steps on S3, {latency * 1000:.0f} ms of latency"
    show(Row(what, times["ours"], f"its {len(requests)} requests alone", times["bare"], Target("under", 3)))


def _again(store: Store, request: Any) -> object:
    path = (request.key or request.prefix).removeprefix("store/")
    return (
        store.names(path.rstrip("/"))
        if request.kind == "LIST"
        else store.exists(path)
        if not path
        else store.read(path)
    )


@pytest.mark.parametrize("latency", LATENCIES)
def test_look_up(latency: float, room: Path, show: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Among 100,000 records: one listing, one read, and one more listing for the output."""
    monkeypatch.setenv("MLPIPE_CACHE", str(room / "cache"))
    with seeded_server() as server, server.network() as network:
        place = site(server, network)
        network.slow_down(latency)

        def ours(number: int) -> object:
            found = StoreLookUp(place, "p", "r", lambda _: "python").find(SPEC, key_of(number))
            assert isinstance(found, Found)
            return found

        def bare(number: int) -> object:
            folder = layout.log_folder(key_of(number))
            output = layout.output(key_of(number), "c", "model")
            return place.store.names(folder), place.store.read(f"{folder}/000001.json"), place.store.names(output)

        numbers = range(0, RECORDS, RECORDS // LOOK_UPS)
        seconds = {"ours": [], "bare": []}
        for number in numbers:
            for name, action in (("ours", ours), ("bare", bare)):
                start = time.perf_counter()
                action(number)
                seconds[name].append(time.perf_counter() - start)
        for percent in (50, 99):
            at = {name: Times((quantiles(each, n=100)[percent - 1],)) for name, each in seconds.items()}
            what = f"look-up among {RECORDS:,} records on S3, {latency * 1000:.0f} ms of latency, p{percent}"
            show(Row(what, at["ours"], "its 3 requests alone", at["bare"]))


def key_of(number: int) -> str:
    return f"{number:064x}"


SEED = """
import json, sys
from moto.s3.models import s3_backends
from moto.server import main
port, bucket, count, entry = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
backend = s3_backends["123456789012"]["aws"]
backend.create_bucket(bucket, "us-east-1")
for number in range(count):
    key = f"{number:064x}"
    backend.put_object(bucket, f"store/log/{key[:2]}/{key}/000001.json", entry.replace("FP", key).encode())
    backend.put_object(bucket, f"store/outputs/{key}/c/model", b"model")
main(["-H", "127.0.0.1", "-p", port])
"""


@contextmanager
def seeded_server() -> Iterator[Server]:
    """Start a server that has the records from the beginning: putting them there one by one would take minutes."""
    output = OutputRef(layout.output("FP", "c", "model"), Content("file", "sha256:" + "0" * 64, 5, 1))
    body = make_body(SPEC, StepResult(0, outputs={"model": output}), {"pipeline": "p", "run": "r", "step": "train"})
    time_made = "2025-01-01T00:00:00.000+00:00"
    entry = {
        "format": 1,
        "number": 1,
        "time": time_made,
        "kind": "commit",
        "claim": "c",
        "unclaimed": True,
        "body": body,
    }
    port = _free_port()
    command = [sys.executable, "-c", SEED, str(port), "bucket", str(RECORDS), json.dumps(entry)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            _wait_for(port, process)
            yield Server("127.0.0.1", port, "bucket")
        finally:
            process.kill()


@pytest.mark.parametrize("claimants", [50, 200])
def test_claimants(claimants: int, server: Server, network: Network, show: Callable[..., None]) -> None:
    """As many runs need one step at once: it runs once, for some seconds, and all others take its result."""
    context = multiprocessing.get_context("spawn")
    told = context.Queue()
    arguments = (server.url(f"claims-{claimants}"), network.options, claimants // PROCESSES, told)
    processes = [context.Process(target=claim_many, args=(number, *arguments)) for number in range(PROCESSES)]
    for process in processes:
        process.start()
    ended = [told.get(timeout=600) for _ in range(claimants)]
    for process in processes:
        process.join()
    ran = [when for outcome, when in ended if outcome == "ran"]
    assert len(ran) == 1
    waited = Times(tuple(max(when - ran[0], 0.0) for outcome, when in ended if outcome != "ran"))
    show(Row(f"{claimants} claimants of one step on S3: {len(ran)} ran it; until the others had its result", waited))


def claim_many(number: int, url: str, options: Any, count: int, told: Any) -> None:
    """Be some of the claimants, a thread each; tell how each ended, and when."""

    def live(index: int) -> None:
        place = Site(Workspace(), Store.open(url, options), StatIndex.open(), lambda _: options)
        run = f"run {number} {index}"
        life = Life(
            place,
            StoreLookUp(place, "p", run, lambda _: "python"),
            History.read(place, "p", ["train"], {}),
            Owner.here("p", run, "train"),
            partial(launch_slowly, place),
            lambda _: None,
        )
        outcome = life.live(Task(SPEC))
        told.put((outcome.result, time.time()))

    with ThreadPoolExecutor(count) as pool:
        list(pool.map(live, range(count)))


def launch_slowly(place: Site, spec: StepSpec, fingerprint: str, claim: str) -> StepResult:
    """Take five seconds for a model."""
    time.sleep(5)
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "model"
        made.write_text(spec.step)
        content = publish(place.store, fingerprint, claim, "model", made)
    return StepResult(0, outputs={"model": OutputRef(layout.output(fingerprint, claim, "model"), content)})
