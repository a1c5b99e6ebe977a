"""Triggers of a provider, as far as a wait needs them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Never(BaseTrigger):
    """Tells nothing, and keeps what is done to it."""

    done: list[str] = []  # noqa: RUF012 -- of all that are made

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return f"{__name__}.{type(self).__name__}", {}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        await asyncio.Event().wait()
        yield TriggerEvent(None)

    async def on_kill(self) -> None:
        self.done.append("killed")

    async def cleanup(self) -> None:
        self.done.append("cleaned up")


class Soon(Never):
    """Tells what it was given."""

    def __init__(self, told: Any) -> None:
        super().__init__()
        self.told = told

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return f"{__name__}.{type(self).__name__}", {"told": self.told}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        await asyncio.sleep(0.05)
        yield TriggerEvent(self.told)


class Broken(Never):
    """Fails."""

    async def run(self) -> AsyncIterator[TriggerEvent]:
        message = "no such cluster"
        raise RuntimeError(message)
        yield TriggerEvent(None)
