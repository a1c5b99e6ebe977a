"""A terminal whose last line lives."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

if TYPE_CHECKING:
    from typing_extensions import Self


class LiveScreen:
    """Writes lines above a spinner with a status; the spinner goes when it is closed."""

    def __init__(self) -> None:
        self._spinner = Spinner("dots")
        self._live = Live(self._spinner, console=Console(stderr=True), transient=True, refresh_per_second=10)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def line(self, text: str) -> None:
        """Write a line that stays."""
        self._live.console.print(Text(text), soft_wrap=True)

    def status(self, text: str) -> None:
        """Show a text at the bottom."""
        self._spinner.update(text=Text(text, no_wrap=True, overflow="ellipsis"))
