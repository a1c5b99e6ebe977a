"""No stale result, no needless run: random pipelines, edited at random, against running everything anew."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import defaultdict
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, event, given, note, settings
from hypothesis import strategies as st

from airflow_mlpipe.definitions import Workspace
from airflow_mlpipe.fingerprint import fingerprint
from airflow_mlpipe.planning.bind import components
from tests.reuse.engine import Engine, Ran, context, tree
from tests.reuse.pure import Launches
from tests.reuse.worlds import World

CASES = int(os.environ.get("MLPIPE_CASES", "300"))
"""How many random histories are tried; more by this variable."""

ROUNDS = 3
MEMORY = Path("/dev/shm")


class History:
    """One world, the store its runs share, and what of it is known to be there."""

    def __init__(self, root: Path, random: Random) -> None:
        self.world = World(root / "world", random)
        self.launches = Launches()
        self.engine = Engine(root / "shared", self._workspace("world/landing", root), self.launches)
        self.root = root
        self.live: dict[str, set[str]] = defaultdict(set)
        self.copied: dict[str, dict[str, bytes]] = {}

    @staticmethod
    def _workspace(landing: str, root: Path) -> Workspace:
        return Workspace(datastores={"landing": {"url": str(root / landing)}})

    def run(self) -> Ran:
        """Run as a user would, and check both claims."""
        pipeline, regenerate = self.world.pipeline(), self.world.regenerate
        names = {step.name for step in pipeline.steps}
        before = self._destinations()
        ran = self.engine.run(pipeline, regenerate=regenerate & names)
        self._check_transfers(ran, before)
        self._check_needless(ran, regenerate)
        self._check_stale(ran)
        self.world.regenerate = set()
        self.world.past.append(self.world.state.copy())
        return ran

    def lose_an_output(self) -> None:
        """Remove one output of one earlier launch from the store."""
        prefixes = sorted(prefix for prefixes in self.live.values() for prefix in prefixes)
        if prefixes:
            lost = self.world.random.choice(prefixes)
            shutil.rmtree(self.root / "shared" / "store" / lost)
            for known in self.live.values():
                known.discard(lost)

    def _check_needless(self, ran: Ran, regenerate: set[str]) -> None:
        """A step runs only if nothing it may see has been seen before, with outputs that are still there."""
        for launch in self.launches.taken():
            node = next(node for node in self.world.state.nodes if node.name == launch.step)
            assert launch.code == self.world.code_of(node)
            if node.allow_reuse and node.name not in regenerate:
                assert not self.live[launch.seen], f"{launch.step} ran needlessly: {ran[launch.step].line}"
            if ran[launch.step].outcome == "ran":
                self.live[launch.seen].add(launch.prefix)

    def _check_transfers(self, ran: Ran, before: dict[str, dict[str, bytes]]) -> None:
        """A transfer runs only if its destination is not what the same transfer left there."""
        for node in self.world.state.nodes:
            if node.kind != "data_transfer" or ran[node.name].outcome in {"failed", "not_run"}:
                continue
            place = self.world.landing_of(node)
            wanted = self.engine.content(ran[node.name].outputs["data"])
            if ran[node.name].outcome == "ran" and node.allow_reuse and node.name not in self.world.regenerate:
                assert not before.get(place) == wanted == self.copied.get(place), f"{node.name} copied needlessly"
            self.copied[place] = wanted

    def _destinations(self) -> dict[str, dict[str, bytes]]:
        landing = self.world.root / "landing"
        return {place.name: tree(place) for place in landing.iterdir()} if landing.is_dir() else {}

    def _check_stale(self, ran: Ran) -> None:
        """Every output is what running everything in a fresh store makes."""
        contents = self.engine.contents(ran)
        root = Path(tempfile.mkdtemp(dir=self.root))
        fresh = Engine(root, self._workspace("landing", root), Launches())
        anew = fresh.run(self.world.pipeline(), always=True)
        shown = {"reused": "ran", "waited": "ran"}
        assert {name: shown.get(end, end) for name, end in ran.outcomes().items()} == anew.outcomes()
        assert contents == fresh.contents(anew)

    def check_by_hand(self, ran: Ran) -> None:
        """A hand-written DAG binds each step to the same fingerprint as the plan."""
        pipeline = self.world.pipeline()
        values = {name: parameter.default for name, parameter in pipeline.parameters.items()}
        for step in pipeline.steps:
            if ran[step.name].fingerprint:
                bound = self.engine.bind_by_hand(pipeline, step, "hand", values, ran.steps)
                assert fingerprint(components(bound.task.spec)) == ran[step.name].fingerprint
                assert context(pipeline, "hand", step.name).step == bound.task.spec.step


@pytest.fixture(scope="module")
def folder():
    """Return a folder in memory where there is one: stores are synced to the disk, many times."""
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as name:
        yield Path(name)


@settings(
    max_examples=CASES,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)
@given(seed=st.integers(0, 2**32 - 1), steps=st.integers(2, 7), rounds=st.integers(1, ROUNDS))
def test_no_stale_result_and_no_needless_run(folder, seed, steps, rounds):
    root, random = Path(tempfile.mkdtemp(dir=folder)), Random(seed)
    history = History(root, random)
    history.world.begin(steps)
    ran = history.run()
    for _ in range(rounds):
        for _ in range(random.randint(1, 4)):
            if random.randint(0, 11) == 0:
                history.lose_an_output()
                note("lose_an_output")
            else:
                note(history.world.edit())
        ran = history.run()
        note(ran.outcomes())
        for outcome in set(ran.outcomes().values()):
            event(outcome)
    history.check_by_hand(ran)
