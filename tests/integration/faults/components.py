"""An Airflow whose scheduler and triggerers are processes of their own, to be killed and started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_mlpipe import up
from airflow_mlpipe.airflow_home import process_environment
from airflow_mlpipe.up import COMPONENTS, LocalAirflow

if TYPE_CHECKING:
    from collections.abc import Iterator

LOOSE = ("scheduler", "triggerer")


class LooseAirflow(LocalAirflow):
    """Starts one scheduler and one triggerer beside the other components, which a keeper holds together."""

    def __init__(self, *given: object, **named: object) -> None:
        super().__init__(*given, **named)
        self.loose: dict[str, subprocess.Popen[bytes]] = {}

    def begin(self, component: str, name: str | None = None) -> subprocess.Popen[bytes]:
        """Start another component."""
        name = name or component
        with (self.home / "logs" / f"{name}.log").open("ab") as output:
            self.loose[name] = subprocess.Popen(
                [sys.executable, "-m", "airflow", *COMPONENTS[component]],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=process_environment(self.variables),
                cwd=self.home,
                start_new_session=True,
            )
        return self.loose[name]

    def kill(self, name: str, *, with_children: bool) -> None:
        """Kill a component as the system does that ran out of memory, or with all that it has started."""
        process = self.loose.pop(name)
        victims = list(_below(process.pid)) if with_children else []
        process.kill()
        process.wait()
        _kill(victims)

    def _launch(self) -> None:
        kept = {name: arguments for name, arguments in COMPONENTS.items() if name not in LOOSE}
        up.COMPONENTS = kept
        try:
            super()._launch()
        finally:
            up.COMPONENTS = COMPONENTS
        for component in LOOSE:
            self.begin(component)

    def stop(self) -> None:
        for process in self.loose.values():
            process.terminate()
        for name in list(self.loose):
            with suppress(subprocess.TimeoutExpired):
                self.loose[name].wait(3)
            self.kill(name, with_children=True)
        super().stop()
        _kill(self._rest())

    def _rest(self) -> Iterator[int]:
        """Yield the processes in this very home, which a component that was killed has left."""
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if (folder / "cwd").samefile(self.home):
                    yield int(folder.name)


def _below(process: int) -> Iterator[int]:
    """Yield the processes that a process has started, and those they have."""
    with suppress(OSError):
        for child in Path(f"/proc/{process}/task/{process}/children").read_text().split():
            yield from _below(int(child))
            yield int(child)


def _kill(processes: Iterator[int] | list[int]) -> None:
    for process in list(processes):
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
