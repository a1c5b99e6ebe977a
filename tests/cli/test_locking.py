from __future__ import annotations

import json

from airflow_mlpipe.cli.locking import lines, to_json
from airflow_mlpipe.resolving.locks import Locked
from tests.cli.helpers import opened

FIRST = Locked(("a>=1",), "3.11", "linux-x86_64", None, ("a==1.0", "b==2.0"))
AGAIN = Locked(("a>=1",), "3.11", "linux-x86_64", ("a==1.0", "b==2.0"), ("a==1.1", "b==2.0"))
SAME = Locked(("a>=1",), "3.11", "linux-x86_64", ("a==1.0",), ("a==1.0",))
ALONE = Locked(("a",), "3.11", "linux-x86_64", None, ("a==1.0",))


def test_what_was_locked_is_told_with_what_changed(project):
    text = "\n".join(lines(opened(project), [FIRST, ALONE, AGAIN, SAME]))
    assert str(project.folder / "mlpipe.lock") in text
    assert "a>=1 for Python 3.11 on linux-x86_64: 2 distributions\n" in text
    assert "a for Python 3.11 on linux-x86_64: 1 distribution\n" in text
    assert "1 changed\n    a: 1.0 -> 1.1" in text
    assert text.endswith("nothing has changed")


def test_as_json_each_lock_has_its_lines_and_its_changes():
    data = to_json([AGAIN])[0]
    assert data["lock"] == ["a==1.1", "b==2.0"]
    assert data["changed"] == {"a": {"old": "1.0", "new": "1.1"}}


def test_environments_are_locked_where_the_definition_lies(project):
    project.edit("small.yaml", "name: small\n", "name: small\nenvironment: {requirements: [./local]}\n")
    assert "./local: is a local path" in project.call("lock", code=2).stderr
    assert not (project.folder / "mlpipe.lock").exists()


ESTIMATOR = """\
kind: estimator
    framework: six
    framework_version: 1.16.0
    requirements: [idna==3.7]
    source_directory: src/second
    entry_script:"""


def test_what_an_estimator_asks_for_is_locked_with_its_framework(project):
    project.write("mlpipe.yaml", "frameworks: {six: {requirements: 'six=={version}'}}\n")
    project.edit("small.yaml", "kind: python_script\n    source_directory: src/second\n    script_name:", ESTIMATOR)
    (locked,) = json.loads(project.call("lock", "--json").stdout)
    assert (locked["requirements"], locked["lock"]) == (["idna==3.7", "six==1.16.0"],) * 2
