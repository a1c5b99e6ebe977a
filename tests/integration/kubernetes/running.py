"""Steps that run while a test looks on."""

from __future__ import annotations

import asyncio
import json
import threading
from importlib import import_module

from airflow_mlpipe.exceptions import MlpipeError
from airflow_mlpipe.store import layout
from tests.launchers.steps import FINGERPRINT
from tests.runtime.steps import eventually


def launched(bench, spec, claim="claim", secrets=None, options=None):
    """Launch in a thread; return it, what becomes of it, and the launcher.

    :param options: with which the pod opens the store, if not as here.
    """
    ended: list[object] = []
    launcher = bench.launcher(options)

    def launch():
        try:
            ended.append(bench.launch(spec, claim, secrets, launcher))
        except MlpipeError as error:
            ended.append(error)

    thread = threading.Thread(target=launch)
    thread.start()
    return thread, ended, launcher


def said(bench, words, seconds=120):
    """Wait until the step's log has some words."""
    assert eventually(lambda: any(words in line for line in bench.logged), seconds), bench.logged


def is_watched_over(bench, claim="claim"):
    """Wait until the sidecar of a pod gives signs of life: it takes longer to start than a shell."""
    assert eventually(lambda: bench.store.exists(layout.beat(FINGERPRINT, claim)), 120)


def nothing_is_left(bench):
    return eventually(lambda: bench.namespace.pods() == [], 120)


def published(bench):
    """Return what is published under the claim, besides the message into the step."""
    return [path for path in bench.store.sizes(layout.outputs(FINGERPRINT, "claim")) if path != ".spec.json"]


def deferred(bench, spec, claim="claim", secrets=None):
    """Launch a step that is waited for as the triggerer does it, each time by another launcher; return its result."""
    from airflow.sdk.exceptions import TaskDeferred

    launcher, told = bench.launcher(), None
    while True:
        try:
            if told is None:
                return launcher.launch(spec, FINGERPRINT, claim, secrets or {}, bench.logged.append)
            return launcher.resume(spec, FINGERPRINT, claim, secrets or {}, bench.logged.append, *told)
        except TaskDeferred as left:  # noqa: PERF203 -- a few times
            told = left.method_name, asyncio.run(_event(*left.trigger.serialize()))
            launcher = bench.launcher()


async def _event(path, arguments):
    module, _, name = path.rpartition(".")
    trigger = getattr(import_module(module), name)(**arguments)
    trigger.task_instance = None
    async for event in trigger.run():
        return json.loads(json.dumps(event.payload))
    raise AssertionError
