"""Notebooks of Azure ML as examples: what runs, what is reused, what a change runs again, and what comes out."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from airflow_mlpipe.definitions import load_pipeline
from airflow_mlpipe.store import runs
from airflow_mlpipe.store.store import Store
from tests.dags.conftest import MLPIPE, Examples, command, outcomes, run_pipeline
from tests.many import PYTHON, require
from tests.readme.markdown import spans, tables

SIDE_BY_SIDE = ["train_step", "compare_step", "extract_step"]
BY_DATA = ["train", "extract", "compare"]
MODULES = ["first_step", "middle_step", "end_step"]
TUNING = ["mnist", "hd_step01", "register_model_step01"]


@pytest.fixture
def folder(tmp_path):
    return Examples(tmp_path).dags / "from_azureml"


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A folder for tests that change nothing another one sees; they share what the first of them has run."""
    return Examples(tmp_path_factory.mktemp("azureml")).dags / "from_azureml"


def script(folder, name, *arguments):
    """Run an example in Python; return the lines it prints on standard output."""
    return command(sys.executable, name, *arguments, cwd=folder).stdout.splitlines()


def content(report, step, output):
    return Path(unquote(urlsplit(report["steps"][step]["outputs"][output]["uri"]).path)).read_text()


def edit(file, old, new):
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


class TestGettingStarted:
    def said(self, folder, *arguments):
        """Return the outcome of each step of both pipelines, and the metrics of the first."""
        rows = [line.split(maxsplit=3) for line in script(folder, "getting_started.py", *arguments)]
        found = {name: {row[1]: row[2] for row in rows if row[0] == name} for name, *_ in rows}
        metrics = {row[1]: json.loads(row[3].replace("'", '"')) for row in rows if row[0] == "getting_started"}
        return found["getting_started"], found["getting_started_in_sequence"], metrics

    def test_three_steps_run_and_the_chain_of_the_same_steps_reuses_them(self, folder):
        first, chain, metrics = self.said(folder)
        assert first == dict.fromkeys(SIDE_BY_SIDE, "ran")
        assert chain == dict.fromkeys(SIDE_BY_SIDE, "reused")
        assert metrics["train_step"] == {"people": 2201, "training_accuracy": pytest.approx(1713 / 2201)}
        assert metrics["compare_step"] == {"people": 2201, "accuracy": pytest.approx(1490 / 2201)}
        assert metrics["extract_step"] == {"rows": 20}

        assert self.said(folder)[0] == dict.fromkeys(SIDE_BY_SIDE, "reused")
        assert self.said(folder, "regenerate")[0] == dict.fromkeys(SIDE_BY_SIDE, "ran")

        edit(folder / "src" / "extract" / "extract.py", 'f"kept {kept} rows"', 'f"{kept} rows were kept"')
        assert self.said(folder)[0] == {**dict.fromkeys(SIDE_BY_SIDE, "reused"), "extract_step": "ran"}


class TestWithDataDependencySteps:
    def said(self, folder, *arguments):
        """Return the outcome of each step, and where its output is."""
        lines = script(folder, "with_data_dependency_steps.py", *arguments)
        steps = [line.split()[:2] for line in lines if not line.startswith(" ")]
        outputs = [line.split() for line in lines if line.startswith(" ")]
        places = {name.rstrip(":"): Path(unquote(urlsplit(uri).path)) for name, uri in outputs}
        return dict(steps), places

    def test_data_goes_from_step_to_step_and_only_what_a_change_reaches_runs_again(self, folder):
        titanic = folder / "workspaceblobstore" / "titanic" / "Titanic.csv"
        first, places = self.said(folder)
        assert first == dict.fromkeys(BY_DATA, "ran")
        with (places["processed_data2"] / "chances.csv").open() as file:
            groups = {(row["Class"], row["Sex"], row["Age"]): float(row["Chance"]) for row in csv.DictReader(file)}
        assert len(groups) == 12
        assert groups["1st", "Female", "Adult"] > 0.9
        assert groups["3rd", "Male", "Adult"] < 0.2
        assert json.loads((places["processed_data3"] / "comparison.json").read_text()) == {
            "people": 1316,
            "right": 1023,
        }
        fetched = (folder / "data" / "processed_data1" / "chances.csv").read_text()
        assert fetched == (places["processed_data1"] / "chances.csv").read_text()
        assert "Crew" in fetched

        assert self.said(folder)[0] == dict.fromkeys(BY_DATA, "reused")

        # Another path as the parameter: only the step that reads there runs.
        header, *rows = titanic.read_text().splitlines()
        women = [row for row in rows if "Female" in row]
        titanic.with_name("Women.csv").write_text("\n".join([header, *women, ""]))
        again, places = self.said(folder, "titanic/Women.csv")
        assert again == {"train": "reused", "extract": "reused", "compare": "ran"}
        assert json.loads((places["processed_data3"] / "comparison.json").read_text())["people"] == 447

        # The same bytes at another path are the same input.
        shutil.copy(titanic, titanic.with_name("Copy.csv"))
        assert self.said(folder, "titanic/Copy.csv")[0] == dict.fromkeys(BY_DATA, "reused")

        # Other bytes at the same path run what reads them, and what reads what has changed by that.
        edit(titanic, "1st,Male,Adult,No,118", "1st,Male,Adult,No,18")
        assert self.said(folder)[0] == dict.fromkeys(BY_DATA, "ran")


class TestWithCommandStep:
    def test_the_command_runs_once_and_again_for_other_epochs(self, shared):
        file = shared / "with_commandstep.yaml"
        first = run_pipeline(file)
        assert first["steps"]["train-mnist"]["outcome"] == "ran"
        assert first["steps"]["train-mnist"]["metrics"]["accuracy"] > 0.9
        assert len(content(first, "train-mnist", "model").splitlines()) == 65
        assert outcomes(run_pipeline(file)) == {"mnist": "reused", "train-mnist": "reused"}
        more = run_pipeline(file, "-p", "epochs=2")
        assert outcomes(more) == {"mnist": "reused", "train-mnist": "ran"}
        assert content(more, "train-mnist", "model") != content(first, "train-mnist", "model")

    @pytest.mark.mpi
    @pytest.mark.timeout(600)
    def test_two_processes_train_what_one_trains(self, folder):
        require("mpi")
        edit(folder / "mlpipe.yaml", "  mpi: {", f"  mpi: {{python: {PYTHON}, ")
        file = folder / "with_commandstep_distributed.yaml"
        two = run_pipeline(file)
        assert outcomes(two) == {"mnist": "ran", "train-mnist": "ran"}
        assert two["steps"]["train-mnist"]["metrics"]["processes"] == 2
        assert two["steps"]["train-mnist"]["metrics"]["accuracy"] > 0.9
        assert outcomes(run_pipeline(file)) == {"mnist": "reused", "train-mnist": "reused"}

        one = run_pipeline(file, "-p", "processes=1")
        assert outcomes(one) == {"mnist": "reused", "train-mnist": "ran"}
        assert weights(one) == [pytest.approx(row, abs=1e-4) for row in weights(two)]

        # Another pipeline with the same first step does not run it again.
        assert outcomes(run_pipeline(folder / "with_commandstep.yaml"))["mnist"] == "reused"


def weights(report):
    rows = csv.reader(content(report, "train-mnist", "model").splitlines())
    return [[float(number) for number in row] for row in rows]


class TestParameterTuning:
    def trials(self, folder, report):
        """Return the metric of each trial that the run has noted, by number."""
        store = Store.open(str(folder / ".mlpipe" / "store"))
        notes = runs.read_notes(store, report["pipeline"], report["run_id"])
        return {
            name: note["metrics"]["validation_acc"] for name, note in notes.items() if name.startswith("hd_step01[")
        }

    @pytest.mark.timeout(600)
    def test_the_best_of_four_drawn_trials_is_registered_and_each_is_reused(self, folder):
        file = folder / "parameter_tuning_with_hyperdrive.yaml"
        tried = load_pipeline(file).step("hd_step01").sweep.trials
        first = run_pipeline(file)
        assert outcomes(first) == dict.fromkeys(TUNING, "ran")
        scores = self.trials(folder, first)
        assert sorted(scores) == [f"hd_step01[{number}]" for number in (1, 2, 3, 4)]
        best = first["steps"]["hd_step01"]["metrics"]["validation_acc"]
        assert best == max(scores.values()) > 0.9

        registered = folder / "data" / "models" / "dnn-mnist"
        card = json.loads((registered / "card.json").read_text())
        assert (registered / card["model"]).stat().st_size > 0
        winner = tried[max(range(4), key=lambda number: scores[f"hd_step01[{number + 1}]"])]
        assert card["layers"] == [winner["first_layer_neurons"], winner["second_layer_neurons"]]
        assert (card["batch_size"], card["learning_rate"]) == (winner["batch_size"], winner["learning_rate"])

        assert outcomes(run_pipeline(file)) == dict.fromkeys(TUNING, "reused")

        edit(file, "max_trials: 4", "max_trials: 5")
        more = run_pipeline(file)
        assert more["steps"]["mnist"]["outcome"] == "reused"
        (reason,) = more["steps"]["hd_step01"]["reasons"]
        assert reason["what"].startswith("1 trial is new (")
        better = self.trials(folder, more)["hd_step01[5]"] > best
        assert more["steps"]["register_model_step01"]["outcome"] == ("ran" if better else "reused")


class TestHowToUseModuleStep:
    def test_each_step_has_the_version_it_chooses(self, folder):
        file = folder / "how_to_use_modulestep.yaml"
        first = run_pipeline(file)
        assert outcomes(first) == dict.fromkeys(MODULES, "ran")
        assert self.numbers(first) == [(19, 34), (19 + 34, 19 * 34), (53 + 646, 53 * 646)]
        assert outcomes(run_pipeline(file)) == dict.fromkeys(MODULES, "reused")

        other = run_pipeline(file, "-p", "initialNum=12")
        assert outcomes(other) == dict.fromkeys(MODULES, "ran")
        assert self.numbers(other)[0] == (14, 24)

    def test_a_new_version_runs_where_it_is_chosen_by_being_the_default_or_the_highest(self, folder):
        file, modules = folder / "how_to_use_modulestep.yaml", folder / "modules"
        first = run_pipeline(file)

        # Version 10 is there, and 2 is the default still: nothing runs.
        joined = "cat ${{ inputs.in1 }} ${{ inputs.in2 }} > ${{ outputs.out_sum }}; echo 0 > ${{ outputs.out_prod }}"
        (modules / "AddAndMultiply-10.yaml").write_text(
            'name: AddAndMultiply\nversion: "10"\ninputs: [in1, in2]\noutputs: [out_sum, out_prod]\n'
            "step:\n  kind: command\n"
            f"  command: {joined}\n"
            '  inputs: {in1: "${{ inputs.in1 }}", in2: "${{ inputs.in2 }}"}\n'
            "  outputs: [out_sum, out_prod]\n"
        )
        assert outcomes(run_pipeline(file)) == dict.fromkeys(MODULES, "reused")

        # Where none is the default, the highest is taken by the step that asks for none; the others go on as they were.
        edit(modules / "AddAndMultiply-2.yaml", "default: true\n", "")
        highest = run_pipeline(file)
        assert outcomes(highest) == {"first_step": "reused", "middle_step": "ran", "end_step": "ran"}
        assert self.numbers(first)[0] == self.numbers(highest)[0] == (19, 34)
        assert self.numbers(highest)[1:] == [(1934, 0), (1934, 0)]

    def numbers(self, report):
        return [(int(content(report, step, "out_sum")), int(content(report, step, "out_prod"))) for step in MODULES]


def test_the_examples_are_sound(shared):
    command(MLPIPE, "validate", shared, cwd=shared)


def test_readme_names_every_example_and_no_other(shared):
    files = {path.name for suffix in ("yaml", "py") for path in shared.glob(f"*.{suffix}")} - {"mlpipe.yaml"}
    named = [spans(row[1])[0] for row in tables("From Azure ML notebooks")[0]]
    assert sorted(named) == sorted(files)


UPSTREAM = """
import json
from airflow.dag_processing.dagbag import DagBag
dags = DagBag("FILE").dags.values()
print(json.dumps({dag.dag_id: {task.task_id: sorted(task.upstream_task_ids) for task in dag.tasks} for dag in dags}))
"""


def test_steps_without_data_between_them_run_side_by_side_and_a_sequence_in_a_row(examples):
    program = UPSTREAM.replace("FILE", str(examples.dags / "from_azureml" / "getting_started.py"))
    upstream = json.loads(examples.python("-c", program).stdout.splitlines()[-1])
    assert upstream == {
        "getting_started": {"plan": [], **{step: ["plan"] for step in SIDE_BY_SIDE}},
        "getting_started_in_sequence": {
            "plan": [],
            "train_step": ["plan"],
            "compare_step": ["train_step"],
            "extract_step": ["compare_step"],
        },
    }
