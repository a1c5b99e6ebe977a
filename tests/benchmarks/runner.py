"""A trigger runner of Airflow with 1,000 triggers and nothing above it: what they cost, minute by minute.

``python -m tests.benchmarks.runner KIND FOLDER PIPELINES MINUTES`` prints JSON lines: CPU seconds, listings of the store,
files read from it and the longest time the event loop was late, a minute; at last how many seconds it took from one entry
in a journal to the last trigger that fired.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from airflow.executors.workloads import RunTrigger
from airflow.jobs.triggerer_job_runner import TriggerRunner
from airflow.models.trigger import Trigger
from airflow.providers.standard.triggers.file import FileTrigger

from airflow_mlpipe.definitions import Workspace
from airflow_mlpipe.resolving.site import Site
from airflow_mlpipe.resolving.waiting import Wanted
from airflow_mlpipe.store.store import Store
from airflow_mlpipe.triggers.step_output import StepOutputTrigger, place_of
from tests.journaled import Journaled

if TYPE_CHECKING:
    from collections.abc import Iterator

TRIGGERS = 1000
INTERVAL = 60.0
RUNS = 50
STEPS = 5
_TICK = 0.05

seen: Counter[str] = Counter()


class Runner(TriggerRunner):
    """Runs triggers as in a triggerer; what fires is counted, and reported to nobody."""

    fired = 0

    async def init_comms(self) -> None:
        self.comms_decoder: Any = SimpleNamespace(_reader_task=asyncio.create_task(asyncio.Event().wait()))

    async def sync_state_to_supervisor(self, finished_ids: list[int]) -> None:  # noqa: ARG002 -- nobody asks
        self.fired += len(self.events)
        self.events.clear()
        assert not self.failed_triggers

    async def all_at_once(self, triggers: Iterator[tuple[str, dict[str, Any]]]) -> asyncio.Task[None]:
        """Run triggers, and return once all have started."""
        for number, (classpath, kwargs) in enumerate(triggers):
            encrypted = Trigger.encrypt_kwargs(kwargs)
            self.to_create.append(RunTrigger(id=number, classpath=classpath, encrypted_kwargs=encrypted))
        running = asyncio.create_task(self.arun())
        while len(self.triggers) < TRIGGERS:  # noqa: ASYNC110 -- Airflow does not tell
            await asyncio.sleep(0.1)
        await asyncio.sleep(5)
        return running


def journals(folder: Path, pipelines: int) -> tuple[Site, list[Journaled]]:
    """Return a store in which some pipelines have run every hour, for a past date."""
    site = Site.open(Workspace(), default_store=folder / "store")
    worlds = [Journaled(site, folder, datetime.now(timezone.utc) - timedelta(hours=RUNS)) for _ in range(pipelines)]
    for number, world in enumerate(worlds):
        for step in range(STEPS):
            world.ran("r", "2025-01-24", f"s{step}", pipeline=f"p{number}")
        for run in range(RUNS // pipelines):
            world.time += timedelta(hours=1)
            for step in range(STEPS):
                world.reused(f"r{run}", "2025-01-24", f"s{step}", pipeline=f"p{number}")
        world.time = datetime.now(timezone.utc)
    return site, worlds


def ours(site: Site, pipelines: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield sensors' triggers, each for another date, spread over pipelines and their steps."""
    day = datetime(2025, 1, 25, tzinfo=timezone.utc)
    until = (datetime.now(timezone.utc) + timedelta(days=7)).isoformat()
    known = {"since": f"{datetime.now(timezone.utc) - timedelta(days=2):%Y-%m-%d}", "news": "", "checked": True}
    for number in range(TRIGGERS):
        step = number // pipelines % STEPS
        wanted = Wanted(f"p{number % pipelines}", f"s{step}", ("model",), day + timedelta(minutes=number))
        trigger = StepOutputTrigger(place_of(site), wanted.to_json(), {**known, "rejected": []}, INTERVAL, until)
        yield trigger.serialize()


def files(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield triggers of Airflow's own FileSensor, each for another file."""
    return (
        FileTrigger(str(folder / f"none-{number}"), poke_interval=INTERVAL).serialize() for number in range(TRIGGERS)
    )


async def minute() -> dict[str, float]:
    """Return what a minute costs."""
    before, cpu, late, end = seen.copy(), time.process_time(), 0.0, time.monotonic() + 60
    while (now := time.monotonic()) < end:
        await asyncio.sleep(_TICK)
        late = max(late, time.monotonic() - now - _TICK)
    told = {kind: seen[kind] - before[kind] for kind in ("listings", "reads")}
    return {"cpu": time.process_time() - cpu, "late": late, **told}


async def main(kind: str, folder: Path, pipelines: int, minutes: int) -> None:
    runner, worlds = Runner(), []
    if kind == "ours":
        site, worlds = journals(folder, pipelines)
        triggers = ours(site, pipelines)
    else:
        triggers = files(folder)
    running = await runner.all_at_once(triggers)
    for _ in range(minutes):
        print(json.dumps(await minute()), flush=True)
    start = time.monotonic()
    for number, world in enumerate(worlds):
        for step in range(STEPS):
            world.reused("last", "2025-03-01", f"s{step}", pipeline=f"p{number}")
    while worlds and runner.fired < TRIGGERS:  # noqa: ASYNC110 -- as above
        await asyncio.sleep(0.1)
    print(json.dumps({"noticed": time.monotonic() - start}), flush=True)
    runner.stop = True
    running.cancel()


def counted(name: str, what: str) -> None:
    actual = getattr(Store, name)

    def call(self: Store, given: Any) -> Any:
        seen[what] += 1 if isinstance(given, str) else len(given := list(given))
        return actual(self, given)

    setattr(Store, name, call)


if __name__ == "__main__":
    for method, kind_of_call in {
        "names": "listings",
        "sizes": "listings",
        "read": "reads",
        "read_all": "reads",
    }.items():
        counted(method, kind_of_call)
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])))
