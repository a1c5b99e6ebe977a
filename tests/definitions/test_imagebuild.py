from __future__ import annotations

import pytest

from airflow_mlpipe.definitions import Environment, Workspace
from airflow_mlpipe.definitions.imagebuild import ImageBuild, image_remedy, repository_remedy
from airflow_mlpipe.definitions.workspace import ImageRegistry
from tests.definitions.helpers import problems


def test_a_build_may_be_its_base_alone():
    assert Environment(build="python:3.12").build == ImageBuild(base="python:3.12")


def test_a_version_of_python_may_look_like_a_number():
    assert ImageBuild(base="python", python=3.12).python == "3.12"


def test_images_may_be_pushed_to_a_prefix_alone():
    assert Workspace(registry="r.io/team").registry == ImageRegistry(prefix="r.io/team")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"base": "Python"}, "build.base: is no name of an image"),
        ({"base": "python", "apt": ["git && rm"]}, "build.apt[0]: is no name of a package"),
        ({"base": "python", "apt": ["-o"]}, "build.apt[0]: is no name of a package"),
        ({"base": "python", "python": "3"}, "build.python: is no version of Python"),
        ({"base": "python", "repository": "r.io:1/x"}, "build.repository: is no name of a repository"),
        ({"apt": ["git"]}, "build.base: is missing"),
    ],
)
def test_a_build_that_could_not_work_is_refused(fields, words):
    (problem,) = problems(Environment, build=fields)
    assert words in problem


@pytest.mark.parametrize("package", ["git", "libgl1-mesa-glx", "g++", "zlib1g:amd64", "git=1:2.39.2-1.1", "python3.11"])
def test_packages_are_named_as_apt_names_them(package):
    assert ImageBuild(base="debian", apt=[package]).apt == (package,)


@pytest.mark.parametrize(
    ("prefix", "words"), [("https://r.io/team", "Leave https:// out"), ("r.io/team:1", "without a tag")]
)
def test_a_place_for_images_has_neither_scheme_nor_tag(prefix, words):
    (problem,) = problems(Workspace, registry=prefix)
    assert words in problem
    assert repository_remedy("r.io:5000/team") == ""


@pytest.mark.parametrize("name", ["python", "r.io:5000/a/b:1", "a@sha256:" + "1" * 64, "sha256:" + "1" * 64])
def test_names_of_images_need_no_remedy(name):
    assert image_remedy(name) == ""
