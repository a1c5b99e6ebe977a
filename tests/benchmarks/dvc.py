"""DVC, to compare with: quiet, without analytics, with its state where we can remove it."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Dvc:
    """One DVC repository, in ``repository``; what DVC remembers of it lies in ``memory``."""

    program: Path
    repository: Path
    memory: Path

    def start_anew(self) -> None:
        """Forget everything DVC knows, and make the repository again around the data in it."""
        for folder in (self.memory, self.repository / ".dvc"):
            shutil.rmtree(folder, ignore_errors=True)
        for file in (*self.repository.glob("*.dvc"), self.repository / "dvc.lock"):
            file.unlink(missing_ok=True)
        self.run("init", "--no-scm")
        self.run("config", "core.analytics", "false")
        self.run("config", "core.check_update", "false")

    def run(self, *arguments: str) -> float:
        """Run a command of DVC; return the seconds it took.

        :raises RuntimeError: if it fails.
        """
        start = time.perf_counter()
        done = subprocess.run(
            [self.program, *arguments],
            cwd=self.repository,
            env={**os.environ, "DVC_SITE_CACHE_DIR": str(self.memory), "DVC_NO_ANALYTICS": "true"},
            capture_output=True,
            text=True,
            check=False,
        )
        seconds = time.perf_counter() - start
        if done.returncode:
            message = f"dvc {' '.join(arguments)} failed: {done.stderr}"
            raise RuntimeError(message)
        return seconds
