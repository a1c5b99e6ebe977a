"""Processes that take one step through its life, to be killed, paused or held at a chosen moment."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
import tempfile
import time
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.definitions import CommandStep, Pipeline
from airflow_mlpipe.operators import claims
from airflow_mlpipe.operators.claims import Turn
from airflow_mlpipe.resolving.inventory import Inventory
from airflow_mlpipe.resolving.leftovers import HISTORY
from airflow_mlpipe.resolving.retention import Guard, Policy, Pruner, Survey
from airflow_mlpipe.resolving.verifying import verify_outputs
from airflow_mlpipe.store import attempts, layout, log, runs
from airflow_mlpipe.store.exclusive import client_of
from airflow_mlpipe.store.log import Log
from airflow_mlpipe.store.store import Store
from tests.reuse.engine import Engine, context, tree

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

AT_ONCE = Guard(timedelta(0), timedelta(0), timedelta(0))
SECONDS = 60.0
STEP = "slow"

COMMAND = """
echo $$ >> {root}/ran
while [ ! -e {root}/go ]; do sleep 0.05; done
mkdir ${{{{ outputs.folder }}}}
echo a > ${{{{ outputs.folder }}}}/a
echo b > ${{{{ outputs.folder }}}}/b
echo made > ${{{{ outputs.out }}}}
"""
MADE = {"out": {"": b"made\n"}, "folder": {"a": b"a\n", "b": b"b\n"}}

STAGES: Mapping[str, tuple[Any, str, str]] = {
    "claimed": (log, "claim", "after"),
    "published": (log, "commit", "before"),
    "committed": (log, "commit", "after"),
    "noting": (runs, "write_note", "before"),
}
"""Where a child stops besides ``running``, where its command does: a function, and before or after it."""


@dataclass(frozen=True)
class Order:
    """What a child does.

    :param stop_at: the stage at which it waits for the file of that name with ``.on``.
    :param expiry: how long it lets a holder be silent.
    :param host: where it says that it runs: elsewhere nobody can see whether its process lives.
    :param skew: by how many seconds its clocks that tell the time are ahead.
    :param hasty: whether it tries at once what failed, and only once more.
    """

    root: str
    store: str
    options: Mapping[str, Any]
    run: str
    try_number: int = 1
    stop_at: str = ""
    expiry: float = 60.0
    beat: float = 0.1
    host: str = ""
    skew: float = 0.0
    hasty: bool = False

    @property
    def name(self) -> str:
        return f"{self.run}-{self.try_number}"

    def file(self, end: str) -> Path:
        return Path(self.root, f"{self.name}.{end}")


def live(order: Order) -> None:
    """Do what a child does, and leave its result in a file."""
    log.Watch = partial(log.Watch, expiry=order.expiry)
    log.Beat = partial(log.Beat, interval=order.beat)
    claims._LONGEST_PAUSE = 0.1
    tempfile.tempdir = order.root  # where the directory of a step whose store is not local stays, if it is killed
    Turn._begin = _telling(Turn._begin, order.file("waits"))
    if order.hasty:
        attempts.PAUSES = (0.0,)
    if order.host:
        socket.gethostname = lambda: order.host
    if order.skew:
        _skew(order.skew)
    if order.stop_at in STAGES:
        module, name, when = STAGES[order.stop_at]
        setattr(module, name, _stopping(getattr(module, name), when, order))
    engine, pipeline = engine_for(order.root, order.store, order.options), pipeline_for(order.root)
    if order.try_number == 1:
        engine.plan(pipeline, order.run)
    ended = engine.step(pipeline, context(pipeline, order.run, STEP, try_number=order.try_number))
    result = {
        "outcome": ended.outcome,
        "error": type(ended.error).__name__ if ended.error else None,
        "message": str(ended.error or ""),
        "launched": engine.launched,
        "said": engine.said,
    }
    order.file("tmp").write_text(json.dumps(result))
    order.file("tmp").rename(order.file("result"))


def _telling(begin: Callable[..., None], file: Path) -> Callable[..., None]:
    def told(self: Turn, *given: Any) -> None:
        begin(self, *given)
        file.touch()

    return told


def _stopping(function: Callable[..., Any], when: str, order: Order) -> Callable[..., Any]:
    def stop() -> None:
        order.file("stopped").touch()
        while not order.file("on").exists():
            time.sleep(0.02)

    def stopping(*given: Any, **named: Any) -> Any:
        if when == "before":
            stop()
        result = function(*given, **named)
        if when == "after":
            stop()
        return result

    return stopping


def _skew(seconds: float) -> None:
    """Put the clocks that tell the time ahead; those that only go on are left alone."""
    right = time.time
    time.time = lambda: right() + seconds

    class Ahead(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime.now(tz) + timedelta(seconds=seconds)

    from airflow_mlpipe.resolving import planner, referring, retention
    from airflow_mlpipe.store import condemned, journal

    for module in (log, journal, condemned, planner, referring, retention):
        module.datetime = Ahead


def pipeline_for(root: str) -> Pipeline:
    step = CommandStep(name=STEP, command=COMMAND.format(root=root), outputs=["out", "folder"])
    pipeline = Pipeline(name="p", steps=[step])
    pipeline.folder = Path(root)
    return pipeline


def engine_for(root: str, store: str, options: Mapping[str, Any], **given: Any) -> Engine:
    engine = Engine(Path(root), store=store, **given)
    if options:
        engine.site = replace(engine.site, store=Store.open(store, options))
    return engine


@dataclass
class Child:
    """A running child."""

    order: Order
    process: Any

    def reach(self, stage: str) -> None:
        """Wait until it stands at a stage: ``stopped`` at the one ordered, ``waits`` for a holder."""
        until(self.order.file(stage).exists, f"{self.order.name} has not reached {stage!r}", self)

    def go_on(self) -> None:
        self.order.file("on").touch()

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self.process.join(SECONDS)
        assert self.process.exitcode == -signal.SIGKILL

    def signal(self, number: int) -> None:
        os.kill(self.process.pid, number)

    def end(self) -> dict[str, Any]:
        """Wait until it has ended by itself, and return what it said."""
        self.process.join(3 * SECONDS)
        assert self.process.exitcode == 0
        told: dict[str, Any] = json.loads(self.order.file("result").read_text())
        return told


@dataclass
class World:
    """A store, and the children that use it.

    :param method: how children are started; what has talked to S3 cannot be forked.
    """

    root: Path
    store: str
    options: Mapping[str, Any] = field(default_factory=dict)
    method: str = "fork"
    children: list[Child] = field(default_factory=list)

    def trust(self) -> None:
        """Say that the store was probed: moto's server looks and then writes, which a probe under load finds out."""
        store = self.engine().site.store
        store.write(layout.probed(client_of(store.fs)), b"")

    def start(self, run: str, **how: Any) -> Child:
        order = Order(str(self.root), self.store, self.options, run, **how)
        process = multiprocessing.get_context(self.method).Process(target=live, args=(order,))
        process.start()
        self.children.append(Child(order, process))
        return self.children[-1]

    def running(self, times: int) -> None:
        """Wait until the command has begun so often."""
        until(lambda: self.runs() >= times, f"the command has not begun {times} times")

    def runs(self) -> int:
        return len(self.commands())

    def commands(self) -> list[int]:
        """Return the processes that ran the command."""
        file = self.root / "ran"
        return [int(line) for line in file.read_text().split()] if file.exists() else []

    def let_the_command_end(self) -> None:
        (self.root / "go").touch()

    def close(self) -> None:
        """End what a failed test has left."""
        for child in self.children:
            if child.process.is_alive():
                child.process.kill()
                child.process.join()

    def engine(self, **given: Any) -> Engine:
        return engine_for(str(self.root), self.store, self.options, **given)

    def fingerprint(self) -> str:
        (found,) = {path.split("/")[1] for path in self.engine().site.store.sizes(layout.LOG)}
        return found

    def log(self) -> Log:
        return Log.read(self.engine().site.store, self.fingerprint())

    def made_by(self) -> str:
        """Return the run that made the record."""
        return str(self.log().records[0].body["made_by"]["run"])

    def leftovers(self) -> list[str]:
        """Return what lies in the store and belongs to nobody."""
        return [leftover.path for leftover in Survey.read(self.engine().site.store, AT_ONCE).leftovers]

    def check(self) -> None:
        """See that one record counts, that it is whole, that nobody holds anything, and that retention knows the rest."""
        engine = self.engine()
        store, found = engine.site.store, self.log()
        (record,) = found.records
        assert found.holder is None
        verified = verify_outputs(store, Inventory.read(store).items, digests=True)
        assert (verified.records, verified.damaged) == (1, ())
        folder = layout.outputs(record.fingerprint, record.published)
        assert {name: _content(store, f"{folder}/{name}") for name in MADE} == MADE
        survey = Survey.read(store, AT_ONCE)
        doomed = [leftover.path for leftover in survey.leftovers]
        known = tuple(f"{path}/" for path in [folder, *doomed, *HISTORY])
        assert [path for path in survey.listing.files if path not in doomed and not path.startswith(known)] == []
        assert folder not in doomed
        Pruner(store, Policy(keep_last=1), AT_ONCE).prune()
        assert {path.split("/")[1] for path in store.sizes(layout.OUTPUTS)} == {record.published}
        assert store.sizes(layout.BEATS) == {}
        assert engine.run(pipeline_for(str(self.root)), "after").outcomes() == {STEP: "reused"}


def _content(store: Store, path: str) -> dict[str, bytes]:
    if store.local_root is not None:
        return tree(store.local_root / path)
    return {name: store.read(f"{path}/{name}" if name else path) for name in store.sizes(path)}


def until(true: Callable[[], object], otherwise: str, child: Child | None = None) -> None:
    end = time.monotonic() + SECONDS
    while not true():
        assert child is None or child.process.is_alive(), f"{otherwise}, and has ended"
        assert time.monotonic() < end, otherwise
        time.sleep(0.02)


def gone(process: int) -> bool:
    """Say whether a process has ended."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True
