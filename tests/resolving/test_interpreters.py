from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from airflow_mlpipe.exceptions import EnvironmentBuildError
from airflow_mlpipe.resolving.interpreters import identify, locate


@pytest.fixture
def other(tmp_path):
    """This Python, under another path."""
    path = tmp_path / "python"
    path.symlink_to(sys.executable)
    return str(path)


def test_this_python_is_known_without_starting_it(monkeypatch):
    monkeypatch.setattr(subprocess, "run", None)
    assert identify(sys.executable).version == platform.python_version()


def test_another_python_is_asked(other):
    python = identify(other)
    assert (python.version, python.system, python.machine) == (
        platform.python_version(),
        platform.system(),
        platform.machine(),
    )


def test_another_python_is_asked_once(other, monkeypatch):
    first = identify(other)
    monkeypatch.setattr(subprocess, "run", None)
    assert identify(other) is first


def test_one_python_under_two_paths_is_the_same_build(other):
    assert identify(other) == identify(sys.executable)


def test_minor_version_and_platform_are_short_names():
    python = identify(sys.executable)
    assert python.minor == f"{sys.version_info.major}.{sys.version_info.minor}"
    assert python.platform == f"{platform.system()}-{platform.machine()}".lower()


@pytest.mark.parametrize("content", [None, "#!/bin/sh\nexit 3\n", "#!/bin/sh\necho '{}'\n", "#!/bin/sh\necho no\n"])
def test_what_is_no_python_is_refused_by_name(tmp_path, content):
    path = tmp_path / "tool"
    if content:
        path.write_text(content)
        path.chmod(0o755)
    with pytest.raises(EnvironmentBuildError, match=rf"'{path}' cannot be used"):
        identify(str(path))


def test_no_name_stands_for_this_python():
    assert locate(None) == sys.executable


def test_a_path_is_taken_as_it_is():
    assert locate("/opt/python") == "/opt/python"


def test_a_name_or_a_version_is_looked_up_on_the_path(tmp_path, monkeypatch):
    for name in ("python9", "python9.1"):
        (tmp_path / name).touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert locate("python9") == str(tmp_path / "python9")
    assert locate("9.1") == str(tmp_path / "python9.1")


def test_a_name_that_is_not_on_the_path_is_refused():
    with pytest.raises(EnvironmentBuildError, match=r"no interpreter 'python9\.9' on the PATH: install it"):
        locate("python9.9")
