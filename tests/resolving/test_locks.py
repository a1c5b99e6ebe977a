from __future__ import annotations

import json
import multiprocessing
import sys
from pathlib import Path

import pytest

from airflow_mlpipe.exceptions import EnvironmentBuildError
from airflow_mlpipe.resolving.locks import (
    LOCK_FILE,
    Locked,
    checked_requirements,
    find_lock,
    lock_environments,
    missing_lock,
    naming,
)

SIX = ("six==1.16.0",)


def lock(folder, requirements=SIX):
    return lock_environments(folder, [(requirements, sys.executable)])


def test_what_is_locked_is_found(tmp_path):
    lock(tmp_path)
    assert find_lock(tmp_path, SIX, sys.executable) == "six==1.16.0\n"


def test_a_range_is_locked_to_one_version(tmp_path):
    lock(tmp_path, ["six<1.17,>=1.15"])
    assert find_lock(tmp_path, ["six<1.17,>=1.15"], sys.executable) == "six==1.16.0\n"


def test_order_comments_and_repetition_of_requirements_do_not_matter(tmp_path):
    lock(tmp_path, ["idna==3.7", "six==1.16.0"])
    assert find_lock(tmp_path, ["# ours", "six==1.16.0  # pinned", "", "idna==3.7", "idna==3.7"], sys.executable)


def test_other_requirements_are_not_locked(tmp_path):
    lock(tmp_path)
    assert find_lock(tmp_path, ["six==1.15.0"], sys.executable) is None


def test_without_a_lock_file_nothing_is_locked(tmp_path):
    assert find_lock(tmp_path, SIX, sys.executable) is None


def test_the_file_reads_and_diffs_well(tmp_path):
    lock_environments(tmp_path, [(["six==1.16.0", "idna==3.7"], sys.executable), (["idna==3.7"], sys.executable)])
    data = json.loads((tmp_path / LOCK_FILE).read_text())
    assert data["format"] == 1
    assert [entry["lock"] for entry in data["environments"].values()] == [["idna==3.7"], ["idna==3.7", "six==1.16.0"]]
    assert '      "lock": [\n        "idna==3.7"\n      ]\n' in (tmp_path / LOCK_FILE).read_text()


def test_the_file_holds_no_path_and_no_index(tmp_path, monkeypatch):
    monkeypatch.setenv("UV_FIND_LINKS", str(tmp_path))
    lock(tmp_path)
    text = (tmp_path / LOCK_FILE).read_text()
    assert "/" not in text
    assert "find-links" not in text


def test_locking_again_reports_and_writes_nothing_new(tmp_path):
    (first,) = lock(tmp_path)
    before = (tmp_path / LOCK_FILE).stat()
    (second,) = lock(tmp_path)
    assert (first.old, first.new) == (None, SIX)
    assert (second.old, second.new, second.differences) == (SIX, SIX, {})
    assert (tmp_path / LOCK_FILE).stat().st_mtime_ns == before.st_mtime_ns


def test_locking_again_takes_what_is_resolved_now(tmp_path):
    lock(tmp_path, ["six<1.17"])
    file = tmp_path / LOCK_FILE
    file.write_text(file.read_text().replace("six==1.16.0", "six==1.15.0"))
    (change,) = lock(tmp_path, ["six<1.17"])
    assert change.differences == {"six": ("1.15.0", "1.16.0")}
    assert find_lock(tmp_path, ["six<1.17"], sys.executable) == "six==1.16.0\n"


def test_differences_name_what_came_and_went():
    change = Locked((), "3.11", "linux-x86_64", ("a==1", "b==1"), ("b==1", "c @ git+https://host/c@1f"))
    assert change.differences == {"a": ("1", None), "c": (None, "git+https://host/c@1f")}


def test_other_environments_in_the_file_stay(tmp_path):
    lock(tmp_path)
    lock(tmp_path, ["idna==3.7"])
    assert find_lock(tmp_path, SIX, sys.executable)


def test_two_that_lock_at_once_both_write(tmp_path):
    wanted = [["six==1.16.0"], ["six==1.15.0"], ["idna==3.7"], ["idna==3.6"]]
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=lock, args=(tmp_path, requirements)) for requirements in wanted]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert all(find_lock(tmp_path, requirements, sys.executable) for requirements in wanted)
    assert [path.name for path in tmp_path.iterdir()] == [LOCK_FILE]


def test_a_contradiction_shows_what_uv_says_and_writes_nothing(tmp_path):
    with pytest.raises(EnvironmentBuildError, match=r"six==1\.15\.0 and six==1\.16\.0"):
        lock(tmp_path, ["six==1.16.0", "six==1.15.0"])
    assert not (tmp_path / LOCK_FILE).exists()


def test_a_package_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(EnvironmentBuildError, match=r"uv says:(.|\n)*six"):
        lock(tmp_path, ["six==99.99.99"])


@pytest.mark.parametrize(
    ("requirement", "complaint"),
    [
        ("./mine", "local path"),
        (".", "local path"),
        ("../mine", "local path"),
        ("/opt/mine", "local path"),
        ("~/mine", "local path"),
        ("file:///opt/mine", "local path"),
        ("mine @ file:///opt/mine", "local path"),
        ("mine @ ./mine", "local path"),
        ("dist/mine-1.0-py3-none-any.whl", "local path"),
        ("mine-1.0.tar.gz", "local path"),
        ("-e .", "option"),
        ("-r other.txt", "option"),
        ("--index-url https://host/simple", "option"),
        ("six==1.16.0 --hash=sha256:00", "option"),
        ("mine @ https://me:secret@host/mine.whl", "credentials"),
        ("--index-url https://token@host/simple", "credentials"),
    ],
)
def test_what_no_other_machine_can_resolve_is_refused(requirement, complaint):
    with pytest.raises(EnvironmentBuildError, match=complaint) as caught:
        checked_requirements([requirement])
    assert "secret" not in str(caught.value)
    assert "token" not in str(caught.value)


@pytest.mark.parametrize(
    "requirement",
    [
        "six",
        "scikit-learn[alldeps]>=1.5,<2",
        "ruamel.yaml==0.18.6",
        'tomli>=2 ; python_version < "3.11"',
        "mine @ git+https://host/mine@v1",
        "mine @ git+ssh://git@host/mine@v1",
        "mine @ https://host/mine-1.0-py3-none-any.whl",
    ],
)
def test_what_an_index_or_a_repository_gives_is_accepted(requirement):
    assert checked_requirements([requirement]) == (requirement,)


def test_all_faults_come_at_once():
    with pytest.raises(EnvironmentBuildError, match=r"(?s)\./one.*\./two"):
        checked_requirements(["./two", "./one", "six"])


def test_a_missing_lock_says_which_command_makes_it(tmp_path):
    missing = missing_lock(tmp_path, SIX, sys.executable)
    assert "run `mlpipe lock FILE` with the file of the pipeline; it writes" in str(missing)
    with pytest.raises(EnvironmentBuildError, match=r"run `mlpipe lock p\.yaml`; it writes"), naming(Path("p.yaml")):
        raise missing
    with pytest.raises(EnvironmentBuildError, match="mlpipe lock FILE"), naming(None):
        raise missing


def test_a_lock_for_another_python_is_mentioned(tmp_path):
    lock(tmp_path)
    file = tmp_path / LOCK_FILE
    data = json.loads(file.read_text())
    (entry,) = data["environments"].values()
    file.write_text(json.dumps({**data, "environments": {"other": {**entry, "python": "3.99"}}}))
    assert "is locked for Python 3.99 on" in str(missing_lock(tmp_path, SIX, sys.executable))


@pytest.mark.parametrize(
    "content", ["<<<<<<< ours", "[]", '{"format": 1}', '{"format": 1, "environments": {"k": {"lock": "x"}}}', "\x00"]
)
def test_a_damaged_lock_file_is_refused_by_name(tmp_path, content):
    (tmp_path / LOCK_FILE).write_text(content)
    with pytest.raises(EnvironmentBuildError, match=r"mlpipe\.lock' cannot be read"):
        find_lock(tmp_path, SIX, sys.executable)


def test_a_newer_lock_file_is_refused(tmp_path):
    (tmp_path / LOCK_FILE).write_text('{"format": 2, "environments": {}}')
    with pytest.raises(EnvironmentBuildError, match="format 2 is newer than 1"):
        find_lock(tmp_path, SIX, sys.executable)
