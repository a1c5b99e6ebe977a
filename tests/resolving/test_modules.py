from __future__ import annotations

import subprocess
import sys
import warnings

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_mlpipe.exceptions import SourceError
from airflow_mlpipe.resolving.modules import scan_imports


def lay(folder, files):
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(content)


def reached(folder, files, script="main.py"):
    lay(folder, files)
    return sorted(set(scan_imports(folder, script).files) - {script})


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("import one", ["one.py"]),
        ("import one, two", ["one.py", "two.py"]),
        ("import one as other", ["one.py"]),
        ("from one import name", ["one.py"]),
        ("import pack", ["pack/__init__.py"]),
        ("import pack.inner", ["pack/__init__.py", "pack/inner.py"]),
        ("import pack.deep.leaf", ["pack/__init__.py", "pack/deep/__init__.py", "pack/deep/leaf.py"]),
        ("from pack import inner", ["pack/__init__.py", "pack/inner.py"]),
        ("from pack import name", ["pack/__init__.py"]),
        ("from pack.inner import name", ["pack/__init__.py", "pack/inner.py"]),
        ("from pack import *", ["pack/__init__.py", "pack/deep/__init__.py", "pack/inner.py"]),
        ("import space.part", ["space/part.py"]),
        ("from space import part", ["space/part.py"]),
        ("def f():\n    import one", ["one.py"]),
        ("if x:\n    import one\nelse:\n    import two", ["one.py", "two.py"]),
        ("try:\n    import one\nexcept ImportError:\n    import two", ["one.py", "two.py"]),
        ("import importlib\nimportlib.import_module('one')", ["one.py"]),
        ("from importlib import import_module\nimport_module('pack.inner')", ["pack/__init__.py", "pack/inner.py"]),
        ("import_module('.inner', 'pack')", ["pack/__init__.py", "pack/inner.py"]),
        ("import_module('.inner', package='pack')", ["pack/__init__.py", "pack/inner.py"]),
        ("import_module('..two', 'pack.deep')", ["pack/__init__.py", "pack/two.py"]),
        ("__import__('one')", ["one.py"]),
        ("import fast", ["fast.cpython-311-x86_64-linux-gnu.so"]),
        ("import os, numpy.linalg", []),
        ("import one.missing", ["one.py"]),
        ("import_module(name)", []),
        ("import_module('../../etc/one')", []),
        ("from . import one", ["one.py"]),
        ("from ... import one", []),
        ("# import one\ntext = 'import two'", []),
    ],
)
def test_an_import_is_found(tmp_path, statement, expected):
    files = {
        "main.py": statement + "\n",
        "one.py": "",
        "two.py": "",
        "pack/__init__.py": "",
        "pack/inner.py": "",
        "pack/two.py" if "two'" in statement else "pack/deep/other.py": "",
        "pack/deep/__init__.py" if "'pack.deep'" not in statement else "pack/deep/x/__init__.py": "",
        "pack/deep/leaf.py": "",
        "space/part.py": "",
        "fast.cpython-311-x86_64-linux-gnu.so": "",
        "notes.txt": "",
    }
    assert reached(tmp_path, files) == expected


def test_what_modules_import_in_turn_is_found(tmp_path):
    files = {
        "main.py": "import a",
        "a.py": "import pack.b",
        "pack/__init__.py": "from .c import name",
        "pack/b.py": "from . import d\nfrom ..e import f",
        "pack/c.py": "import a  # a circle",
        "pack/d.py": "",
        "e.py": "",
        "unused.py": "",
    }
    assert reached(tmp_path, files) == ["a.py", "e.py", "pack/__init__.py", "pack/b.py", "pack/c.py", "pack/d.py"]


def test_modules_beside_the_script_and_in_the_directory_are_found(tmp_path):
    files = {"jobs/main.py": "import near, far", "jobs/near.py": "", "far.py": "", "near/__init__.py": ""}
    assert reached(tmp_path, files, "jobs/main.py") == ["far.py", "jobs/near.py", "near/__init__.py"]


def test_rule_2_a_file_that_is_not_imported_changes_nothing(tmp_path):
    lay(tmp_path, {"main.py": "import one", "one.py": "", "other.py": ""})
    before = scan_imports(tmp_path, "main.py").digest
    lay(tmp_path, {"other.py": "changed", "new.py": ""})
    assert scan_imports(tmp_path, "main.py").digest == before
    lay(tmp_path, {"one.py": "changed = 1"})
    assert scan_imports(tmp_path, "main.py").digest != before


def test_a_module_that_appears_in_place_of_a_missing_one_counts(tmp_path):
    lay(tmp_path, {"main.py": "import one"})
    before = scan_imports(tmp_path, "main.py").digest
    lay(tmp_path, {"one.py": ""})
    assert scan_imports(tmp_path, "main.py").digest != before


def test_an_ignored_module_is_not_staged(tmp_path):
    files = {"main.py": "import one, pack.inner", "one.py": "", "pack/inner.py": "", ".gitignore": "one.py\npack/\n"}
    assert reached(tmp_path, files) == []


@pytest.mark.parametrize("content", ["def broken(:\n", "x = 1\n\0", "(" * 5000, "print 'two'\nimport one"])
def test_a_script_that_cannot_be_parsed_is_taken_as_it_is(tmp_path, content):
    assert reached(tmp_path, {"main.py": content, "one.py": ""}) == []


def test_a_file_in_another_encoding_is_read_as_python_reads_it(tmp_path):
    (tmp_path / "main.py").write_bytes(b"# -*- coding: latin-1 -*-\nname = '\xe9'\nimport one\n")
    assert reached(tmp_path, {"one.py": ""}) == ["one.py"]


def test_warnings_of_the_users_code_are_not_shown(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert reached(tmp_path, {"main.py": "x = '\\d'\nimport one\n", "one.py": ""}) == ["one.py"]


@pytest.mark.parametrize("script", ["gone.py", "../main.py", "/etc/hostname", "pack", "ignored.py"])
def test_a_script_that_is_not_in_the_directory_is_refused(tmp_path, script):
    folder = tmp_path / "source"
    lay(folder, {"../main.py": "", "pack/__init__.py": "", "ignored.py": "", ".gitignore": "ignored.py"})
    with pytest.raises(SourceError, match=r"is not among the files of the source directory .* correct script_name"):
        scan_imports(folder, script)


def test_a_module_that_is_a_link_leaving_the_directory_is_refused(tmp_path):
    lay(tmp_path, {"outside.py": "", "source/main.py": "import one"})
    (tmp_path / "source" / "one.py").symlink_to("../outside.py")
    with pytest.raises(SourceError, match=r"one\.py in the source directory .* leaves"):
        scan_imports(tmp_path / "source", "main.py")


MODULES = ["a", "b", "pack", "pack.c", "pack.sub", "pack.sub.d"]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from(MODULES), st.sampled_from(MODULES)), max_size=8))
def test_every_module_that_python_loads_was_found(tmp_path_factory, imports):
    """Whatever modules import each other, those found contain those that Python loads from the directory."""
    folder = tmp_path_factory.mktemp("source")
    paths = {
        name: name.replace(".", "/") + ("/__init__.py" if name in {"pack", "pack.sub"} else ".py") for name in MODULES
    }
    lay(folder, dict.fromkeys(paths.values(), ""))
    for importer, imported in imports:
        with (folder / paths[importer]).open("a") as file:
            file.write(f"import {imported}\n")
    report = "import sys\nfor m in list(sys.modules.values()): print(getattr(m, '__file__', None))\n"
    lay(folder, {"main.py": "import a\n" + report})
    loaded = subprocess.run([sys.executable, "-S", "main.py"], cwd=folder, capture_output=True, text=True, check=True)
    own = {path.removeprefix(f"{folder}/") for path in loaded.stdout.split("\n") if path.startswith(str(folder))}
    assert own <= set(scan_imports(folder, "main.py").files)
