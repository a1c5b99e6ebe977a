from __future__ import annotations

import io

from airflow_mlpipe.cli.live import LiveScreen
from airflow_mlpipe.cli.progress import screen


def test_a_terminal_gets_a_living_last_line_that_goes(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with screen() as shown:
        assert isinstance(shown, LiveScreen)
        shown.status("training [12 s]")
        shown.line("clean [ran]")
    assert "clean [ran]" in terminal.getvalue()
    assert terminal.getvalue().endswith("\x1b[?25h\r\x1b[1A\x1b[2K")
