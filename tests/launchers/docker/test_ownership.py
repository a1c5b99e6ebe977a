from __future__ import annotations

import os

from airflow_mlpipe.launchers.docker import ownership
from airflow_mlpipe.runtime.layout import StepDirectory


def test_what_a_link_in_the_place_of_outputs_leads_to_keeps_its_owner(tmp_path, monkeypatch):
    (tmp_path / "others" / "data").mkdir(parents=True)
    directory = StepDirectory(tmp_path / "step")
    directory.checkpoint.mkdir(parents=True)
    (directory.checkpoint / "state").touch()
    directory.outputs.symlink_to(tmp_path / "others")
    changed = []
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "chown", lambda path, *_, **__: changed.append(str(path)))
    ownership.take(directory, (0, 0))
    assert changed == [str(path) for path in (directory.outputs, directory.checkpoint, directory.checkpoint / "state")]
