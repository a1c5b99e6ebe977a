"""Pipelines of many small steps that depend on each other by chance, and what is lost of what they made."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from airflow_mlpipe.definitions import CommandStep, Pipeline
from airflow_mlpipe.store import layout

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from airflow_mlpipe.store.store import Store
    from tests.reuse.engine import Ran

OUTPUTS = ("out", "folder")


def many_steps(folder: Path, count: int, seed: int = 0) -> Pipeline:
    """Return a pipeline whose steps each take up to two outputs of steps before."""
    chance, steps = Random(seed), []
    for number in range(count):
        before = chance.sample(range(number), min(number, chance.choice([1, 1, 2])))
        inputs = {f"in{at}": f"${{{{ steps.s{at}.outputs.{chance.choice(OUTPUTS)} }}}}" for at in before}
        steps.append(CommandStep(name=f"s{number}", command=f"make {number}", inputs=inputs, outputs=list(OUTPUTS)))
    pipeline = Pipeline(name="p", steps=steps)
    pipeline.folder = folder
    return pipeline


def lose(store: Store, ran: Ran, share: float, seed: int = 0) -> set[str]:
    """Delete a share of all objects that are outputs; return the steps that made them."""
    below = (f"{layout.OUTPUTS}/{path}" for path in store.sizes(layout.OUTPUTS))
    objects = sorted(path for path in below if layout.result_parts(path) is None)  # which nobody reads after the commit
    lost = Random(seed).sample(objects, round(len(objects) * share))
    for path in lost:
        store.remove(path)
    return makers(ran, (path.removeprefix(f"{layout.OUTPUTS}/") for path in lost))


def makers(ran: Ran, objects: Iterable[str]) -> set[str]:
    """Return the steps that made some objects, named by their paths below the outputs."""
    by_fingerprint = {ended.fingerprint: name for name, ended in ran.steps.items()}
    return {by_fingerprint[path.split("/")[0]] for path in objects}


def contents(store: Store, ran: Ran) -> dict[str, bytes]:
    """Return the bytes of all outputs of a run, wherever they lie, by step, output and path."""
    found = {}
    for step, ended in ran.steps.items():
        for name, output in ended.outputs.items():
            for relative in store.sizes(output.path):
                path = f"{output.path}/{relative}" if relative else output.path
                found[f"{step}/{name}/{relative}"] = store.read(path)
    return found
