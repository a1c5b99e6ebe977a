from __future__ import annotations

import pytest

from airflow_mlpipe.exceptions import EnvironmentBuildError
from airflow_mlpipe.resolving.uv_command import run_uv, without_credentials


def test_it_returns_the_standard_output():
    assert run_uv(["--version"], "ask").startswith("uv ")


def test_a_failure_shows_the_last_lines_of_uv():
    with pytest.raises(EnvironmentBuildError, match=r"cannot do this; uv says:\n(.|\n)*--nonsense"):
        run_uv(["--nonsense"], "do this")


def test_credentials_of_urls_are_hidden():
    assert without_credentials("from https://me:secret@host/x") == "from https://***@host/x"


def test_the_settings_of_a_project_do_not_decide(tmp_path, monkeypatch):
    (tmp_path / "uv.toml").write_text("this is not toml")
    monkeypatch.chdir(tmp_path)
    assert run_uv(["pip", "compile", "--quiet", "--no-header", "-"], "resolve nothing") == ""
