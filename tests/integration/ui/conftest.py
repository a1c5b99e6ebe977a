from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.integration.ui.browser import Browser, executable


@pytest.fixture(scope="session")
def screenshots(tmp_path_factory):
    """Where pictures go: the folder that MLPIPE_SCREENSHOTS names, or a temporary one."""
    named = os.environ.get("MLPIPE_SCREENSHOTS")
    folder = Path(named).absolute() if named else tmp_path_factory.mktemp("screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def browser(tmp_path, screenshots):
    """A fresh browser, in which nobody is logged in."""
    profile = tmp_path / "profile"
    profile.mkdir()
    with Browser(executable(), profile, screenshots) as browser:
        yield browser
