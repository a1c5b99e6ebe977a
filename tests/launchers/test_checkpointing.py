from __future__ import annotations

from dataclasses import replace

import pytest

from airflow_mlpipe.exceptions import CommandFailedError
from airflow_mlpipe.runtime.protocol import OutputSpec
from airflow_mlpipe.store import layout
from tests.launchers.steps import FINGERPRINT

COUNT = """
import os, pathlib, sys
place = pathlib.Path(os.environ["MLPIPE_CHECKPOINT"], "epoch")
epoch = int(place.read_text()) if place.exists() else 0
place.write_text(str(epoch + 1))
if epoch < 2:
    sys.exit(1)
pathlib.Path(os.environ["MLPIPE_OUTPUT_MODEL"]).write_text(str(epoch))
"""


def test_each_try_goes_on_where_the_last_one_failed(bench):
    spec = bench.spec(COUNT, outputs={"model": OutputSpec()}, checkpoint=True)
    for claim in ("first", "second"):
        with pytest.raises(CommandFailedError):
            bench.launch(spec, claim)
    result = bench.launch(spec, "third")
    assert bench.store.read(result.outputs["model"].path) == b"2"
    assert "goes on from the checkpoint that an earlier try saved" in bench.logged


def test_what_tries_of_others_saved_is_not_gone_on_from_where_only_their_own_counts(bench):
    spec = bench.spec(COUNT, outputs={"model": OutputSpec()}, checkpoint=True)
    for claim, tries in (("first", ""), ("second", "t" * 64), ("third", "t" * 64)):
        with pytest.raises(CommandFailedError):
            bench.launch(replace(spec, tries=tries), claim)
    assert bench.logged.count("goes on from the checkpoint that an earlier try saved") == 1


def test_a_step_that_does_not_ask_for_it_has_none(bench):
    spec = bench.spec("import os, sys; sys.exit('MLPIPE_CHECKPOINT' in os.environ)")
    bench.launch(spec)
    assert bench.store.sizes(layout.checkpoints(FINGERPRINT)) == {}
