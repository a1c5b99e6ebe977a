from __future__ import annotations

import pytest

from airflow_mlpipe.definitions import Workspace, dump
from airflow_mlpipe.definitions.frameworks import FRAMEWORKS, Framework, package_of
from airflow_mlpipe.definitions.imagebuild import ImageBuild
from tests.definitions.helpers import problems


def test_the_frameworks_that_are_always_there_are_these():
    assert list(FRAMEWORKS) == ["sklearn", "xgboost", "lightgbm", "pytorch", "tensorflow", "huggingface"]
    assert {name: entry.starter for name, entry in FRAMEWORKS.items() if entry.starter} == {
        "pytorch": "torchrun",
        "tensorflow": "tensorflow",
        "huggingface": "torchrun",
    }


@pytest.mark.parametrize("entry", FRAMEWORKS.values(), ids=list(FRAMEWORKS))
def test_each_says_what_to_install_for_a_version_and_what_containers_are_made_from(entry):
    pinned, open_ones = entry.required("1.2.3"), entry.required(None)
    assert pinned[0].endswith("==1.2.3")
    assert pinned[0] == f"{open_ones[0]}==1.2.3"
    assert not any("{" in line for line in pinned)
    assert not any("=" in line for line in open_ones)
    assert entry.build is not None or entry.image_of("1.2.3").endswith(":1.2.3")
    assert package_of(open_ones[0]) in entry.needed


@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"])
def test_how_many_threads_there_are_is_the_users_word(name):
    assert not [entry.name for entry in FRAMEWORKS.values() if name in entry.variables]


@pytest.mark.parametrize(
    ("line", "pinned", "left_open"),
    [
        ("a=={version}", "a==2", "a"),
        ("a[x] >= {version}", "a[x] >= 2", "a[x]"),
        ("a>=1,~={version}", "a>=1,~=2", "a>=1"),
        ("a=={version}; sys_platform == 'linux'", "a==2; sys_platform == 'linux'", "a; sys_platform == 'linux'"),
        ("b>=1", "b>=1", "b>=1"),
    ],
)
def test_without_a_version_a_requirement_leaves_it_open(line, pinned, left_open):
    made = Framework(requirements=line)
    assert (made.required("2"), made.required(None)) == ((pinned,), (left_open,))


@pytest.mark.parametrize(
    ("image", "with_version", "without"),
    [
        ("a/b:{version}", "a/b:2", "a/b"),
        ("r.io:5000/a:{version}-gpu", "r.io:5000/a:2-gpu", "r.io:5000/a"),
        ("a/b:latest", "a/b:latest", "a/b:latest"),
        (None, None, None),
    ],
)
def test_the_version_stands_in_the_tag_of_the_image(image, with_version, without):
    made = Framework(image=image)
    assert (made.image_of("2"), made.image_of(None)) == (with_version, without)


@pytest.mark.parametrize(
    ("line", "name"),
    [("scikit-learn==1", "scikit-learn"), ("Scikit_Learn [x] >= 2", "scikit-learn"), ("", "")],
)
def test_a_requirement_is_about_a_package(line, name):
    assert package_of(line) == name


def test_a_workspace_adds_frameworks_and_keeps_what_it_does_not_say_of_known_ones():
    workspace = Workspace(
        frameworks={
            "catboost": {"requirements": "catboost=={version}", "image": "r.io/catboost:{version}"},
            "sklearn": {"image": "r.io/sklearn:{version}"},
            "tensorflow": {"build": "python:3.11-slim", "variables": {}},
            "pytorch": None,
        }
    )
    found = workspace.frameworks
    assert found["catboost"].needed == ("catboost",)
    assert found["sklearn"].requirements == FRAMEWORKS["sklearn"].requirements
    assert (found["sklearn"].image, found["sklearn"].build) == ("r.io/sklearn:{version}", None)
    assert (found["tensorflow"].image, found["tensorflow"].build) == (None, ImageBuild(base="python:3.11-slim"))
    assert (found["tensorflow"].starter, found["tensorflow"].variables) == ("tensorflow", {})
    assert found["pytorch"] == FRAMEWORKS["pytorch"]


def test_a_workspace_with_frameworks_is_written_as_it_was_read(tmp_path):
    workspace = Workspace(frameworks={"sklearn": {"image": "r.io/sklearn:{version}"}, "own": {"packages": "own"}})
    (tmp_path / "mlpipe.yaml").write_text(dump(workspace))
    from airflow_mlpipe.definitions import load_workspace

    assert load_workspace(tmp_path / "mlpipe.yaml").frameworks == workspace.frameworks


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"image": "a:1", "build": "b:1"}, "image: is given beside build"),
        ({"image": "https://a"}, "image: is no name of an image"),
        ({"image": "r.io/own-{version}:1"}, "image: holds {version} outside its tag"),
        ({"image": "r.io/own{version}"}, "image: holds {version} outside its tag"),
        ({"requirements": ["-r x"]}, "requirements[0]: is not a requirement"),
        ({"variables": {"MLPIPE_X": "1"}}, "variables.MLPIPE_X: cannot be a variable"),
        ({"variables": {"X": "${{ inputs.x }}"}}, "variables.X: holds an expression that has no meaning there"),
        ({"starter": "torch"}, "starter: must be one of torchrun, mpi, tensorflow"),
        ({"version": "1"}, "version: there is no such field"),
    ],
)
def test_a_wrong_framework_of_a_workspace_is_said_by_its_field(fields, words):
    (problem,) = problems(Workspace, frameworks={"own": fields})
    assert problem.startswith(f"Workspace.frameworks.own.{words}")


def test_a_framework_that_is_no_mapping_is_refused():
    (problem,) = problems(Workspace, frameworks={"own": "x"})
    assert problem.startswith("Workspace.frameworks.own: must be a mapping of fields to values (given: x)")
