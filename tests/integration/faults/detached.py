"""A launcher whose steps go on without the worker: in processes of their own, which publish what they make themselves.

Airflow's components find it in their plugins folder, beside the program that it starts.
"""

# ruff: noqa: ARG002 -- called as every launcher is
from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import TaskDeferred
from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_mlpipe.exceptions import StepError
from airflow_mlpipe.runtime.results import read_result

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from airflow_mlpipe.runtime.protocol import StepResult
    from airflow_mlpipe.store.store import Store

WORK = str(Path(__file__).with_name("detached_work.py"))


class Until(BaseTrigger):
    """Fires when a file is there; leaves ``waits`` beside it when it begins, and ``killed`` when the task was ended."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return "detached.Until", {"path": self.path}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        await asyncio.to_thread(Path(self.path).with_name("waits").touch)
        while True:
            if await asyncio.to_thread(os.path.exists, self.path):
                yield TriggerEvent({"seen": self.path})
                return
            await asyncio.sleep(0.2)

    async def on_kill(self) -> None:
        await asyncio.to_thread(Path(self.path).with_name("killed").touch)


class Detached:
    """Begins a process a claim, which waits for the file ``go`` of a folder; its pid is appended to ``ran``."""

    def __init__(self, store: Store, folder: str) -> None:
        self.store = store
        self.folder = Path(folder)

    def launch(self, spec: Any, fingerprint: str, claim: str, secrets: Any, log: Any) -> StepResult:
        if not self.lives(spec, fingerprint, claim):
            command = [sys.executable, WORK, self.store.url, fingerprint, claim, str(self.folder)]
            with (self.folder / "log").open("ab") as output:
                subprocess.Popen(command, start_new_session=True, stdout=output, stderr=output)
        raise TaskDeferred(trigger=Until(str(self.folder / f"{claim}.done")), method_name="look")

    def resume(
        self, spec: Any, fingerprint: str, claim: str, secrets: Any, log: Any, method: str, event: Any
    ) -> StepResult:
        assert (method, event) == ("look", {"seen": str(self.folder / f"{claim}.done")})
        result = read_result(self.store, fingerprint, claim)
        if result is None:
            message = "it left no result"
            raise StepError(message)
        return result

    def kill(self) -> None: ...

    def lives(self, spec: Any, fingerprint: str, claim: str) -> bool:
        return (self.folder / f"{claim}.pid").exists() and not (self.folder / f"{claim}.done").exists()

    def end(self, spec: Any, fingerprint: str, claim: str) -> None:
        if self.lives(spec, fingerprint, claim):
            os.kill(int((self.folder / f"{claim}.pid").read_text()), signal.SIGKILL)
