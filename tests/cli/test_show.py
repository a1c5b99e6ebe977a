from __future__ import annotations

from datetime import datetime, timezone

from airflow_mlpipe.cli.report import ERROR, RunReport, StepReport
from airflow_mlpipe.cli.show import closing_line, metrics, outputs, when, why, write_run
from airflow_mlpipe.planning.explain import Reason
from airflow_mlpipe.runtime.protocol import Content, OutputRef

CHANGED = Reason("code", "train.py", "a", "b")


def test_the_time_of_a_run_is_local_and_says_what_kind_of_run_it_was():
    assert when("nightly") == "nightly"
    assert when("manual__2025-01-02T03:04:05.678+00:00").endswith(":04:05")
    assert when("scheduled__2025-01-02T03:04:05+00:00").endswith("(scheduled)")


def test_each_outcome_has_its_reason():
    made_by = {"run": "nightly"}
    assert why(StepReport("s", "ran", (CHANGED,))) == "train.py changed"
    assert why(StepReport("s", "reused", made_by=made_by)) == "unchanged since nightly"
    evicted = StepReport("s", "reused", made_by=made_by, evicted=True)
    assert why(evicted) == "unchanged since nightly; its outputs were evicted"
    assert why(StepReport("s", "depends", depends_on=("a", "b"))) == "on a, b"
    assert (
        why(StepReport("s", "failed", (CHANGED, Reason(ERROR, "exit code 3; its last lines:\n  oh")))) == "exit code 3"
    )
    assert why(StepReport("s", "not_run", (Reason("upstream", "a has no result"),))) == "a has no result"


def test_outputs_are_named_with_their_size():
    file = OutputRef("p", Content("file", "d", 1234, 1))
    folder = OutputRef("p", Content("folder", "d", 5_600_000, 12))
    assert outputs({"model": file, "plots": folder}) == "model (1.2 kB), plots (12 files, 5.6 MB)"


def test_the_closing_line_counts_and_says_what_reuse_saved():
    steps = (StepReport("a", "reused", seconds=61.0), StepReport("b", "ran", seconds=2.0), StepReport("c", "not_run"))
    assert closing_line(RunReport("p", "r", "failed", steps)) == (
        "p failed: 1 reused, 1 ran, 1 not run; reuse saved 1 min 1 s"
    )
    assert closing_line(RunReport("p", "r", "success", ())) == "p succeeded: no steps"


def test_the_table_of_a_run_fits_80_columns(capsys):
    reasons = tuple(Reason("code", f"package/module_{n}.py", "a", "b") for n in range(9))
    output = {
        "a_model": OutputRef("p", Content("file", "d", 1234, 1)),
        "a_report": OutputRef("p", Content("file", "d", 1, 1)),
    }
    steps = (StepReport("evaluate_everything", "ran", reasons, 75.0, "f", output),)
    write_run(RunReport("p", "r", "success", steps))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].split() == ["step", "outcome", "why", "time", "outputs"]


def test_the_date_of_a_run_today_is_left_out():
    now = datetime.now(timezone.utc)
    assert when(f"manual__{now.isoformat()}") == now.astimezone().strftime("%H:%M:%S")


def test_metrics_are_rounded_and_whole_numbers_are_not():
    given = {"auc": 0.831234, "rows": 123456.0, "n": 3, "loss": -1.5e-07, "big": 2e12}
    assert metrics(given) == "auc 0.8312, rows 123456, n 3, loss -1.5e-07, big 2e+12"


def test_what_a_condition_kept_from_running_says_so_in_the_closing_table(capsys):
    reason = Reason("run_if", "steps.a.metrics.auc > 0.9 is false: auc is 0.83")
    steps = (StepReport("a", "reused", metrics={"auc": 0.83}), StepReport("b", "not_run", (reason,)))
    write_run(RunReport("p", "r1", "success", steps))
    table = capsys.readouterr().out
    assert "auc 0.83" in table.splitlines()[1]
    assert "not_run" in table
    assert table.endswith("p succeeded: 1 reused, 1 not run\n")
