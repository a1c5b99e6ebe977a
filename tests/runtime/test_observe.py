from __future__ import annotations

import json
import subprocess
import sys
import venv
import zipfile
from textwrap import dedent
from typing import TYPE_CHECKING

import pytest

from airflow_mlpipe.exceptions import EnvironmentBuildError
from airflow_mlpipe.runtime.observe import CHANGED, current, observed
from airflow_mlpipe.runtime.protocol import EnvironmentSpec
from airflow_mlpipe.store.digests import digest_files
from tests.runtime.steps import OBSERVING, fill, spec_of, supervised

if TYPE_CHECKING:
    from pathlib import Path


class Site:
    """A virtual environment whose packages are written by hand."""

    def __init__(self, root: Path) -> None:
        venv.create(root, symlinks=True, with_pip=False)
        self.python = str(root / "bin" / "python")
        (self.folder,) = root.glob("lib/python*/site-packages")

    def install(self, name, version, files, direct_url=None):
        for path, content in files.items():
            target = self.folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(content)
        info = self.folder / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Name: {name}\nVersion: {version}\n")
        if direct_url:
            (info / "direct_url.json").write_text(json.dumps(direct_url))
        lines = [f"{path},sha256={hash(content)},{len(content)}" for path, content in files.items()]
        (info / "RECORD").write_text("\n".join([*lines, f"{info.name}/RECORD,,", ""]))
        return info


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.setenv("MLPIPE_CACHE", str(tmp_path / "cache"))
    return Site(tmp_path / "venv")


@pytest.fixture
def observe(site, tmp_path):
    """Run a script as a step of the environment; return its observation."""

    def run(script, **files):
        root = tmp_path / f"step{len(list(tmp_path.glob('step*')))}"
        spec = spec_of(environment=EnvironmentSpec(observe=True, interpreter=site.python))
        directory = fill(root, spec, dedent(script), **files)
        result, output = supervised(directory)
        assert result.error is None, output.decode()
        return observed(site.python, directory.imports, directory.spec.stat().st_ctime_ns)

    return run


def test_an_imported_distribution_counts_by_version(site, observe):
    site.install("scikit-learnt", "1.7.1", {"sklearnt/__init__.py": "", "sklearnt/deep.py": ""})
    site.install("unused", "1.0", {"unused.py": ""})
    assert observe("import json, sklearnt.deep") == {"scikit-learnt": "1.7.1"}


def test_a_new_version_is_seen_and_a_removed_one_is_empty(site, observe):
    info = site.install("lib", "1.0", {"lib.py": ""})
    names = observe("import lib")
    assert names == {"lib": "1.0"}
    info.rename(info.with_name("lib-1.1.dist-info"))
    assert current(site.python, names) == {"lib": "1.1"}
    info.with_name("lib-1.1.dist-info").rename(info.with_name("gone"))
    assert current(site.python, names) == {"lib": ""}


def test_own_code_and_the_standard_library_do_not_count(observe):
    assert observe("import helper, sqlite3, xml.dom, mlpipe", helper="import decimal") == {}


def test_exits_and_forks_and_kills_lose_no_import(site, observe):
    for name in ("one", "two", "three", "four"):
        site.install(name, "1", {f"{name}.py": ""})
    script = """
        import os, subprocess, sys
        import one
        if os.fork() == 0:
            import two
            os.kill(os.getpid(), 9)
        os.wait()
        subprocess.run([sys.executable, "-c", "import three; import os; os._exit(1)"])
        import four
        os._exit(0)
    """
    assert observe(script) == dict.fromkeys(["one", "two", "three", "four"], "1")


def test_a_python_started_by_a_shell_is_observed(site, tmp_path):
    site.install("lib", "1", {"lib.py": ""})
    environment = EnvironmentSpec(observe=True, interpreter=site.python)
    spec = spec_of("sh", "-c", "exec python3 -c 'import lib'", environment=environment)
    directory = fill(tmp_path / "step", spec)
    assert supervised(directory)[0].error is None
    assert observed(site.python, directory.imports) == {"lib": "1"}


def test_parts_of_a_namespace_count_by_themselves(site, observe):
    site.install("cloud-storage", "1", {"cloud/storage/__init__.py": ""})
    site.install("cloud-queue", "2", {"cloud/queue/__init__.py": ""})
    assert observe("import cloud.storage") == {"cloud-storage": "1"}


def test_a_package_that_distributions_share_counts_for_all_of_them(site, observe):
    extend = "__path__ = __import__('pkgutil').extend_path(__path__, __name__)"
    site.install("core", "1", {"big/__init__.py": extend, "big/core.py": ""})
    site.install("core-plugin", "2", {"big/plugin.py": ""})
    assert observe("import big.plugin") == {"core": "1", "core-plugin": "2"}


def test_a_module_on_a_path_file_counts_by_content(site, observe, tmp_path):
    project = tmp_path / "project"
    (project / "mine" / "__pycache__").mkdir(parents=True)
    (project / "mine" / "__init__.py").write_text("x = 1")
    (project / "other").mkdir()
    (site.folder / "mine.pth").write_text(f"# a comment\n{project}\n")
    before = observe("import mine")
    assert before.keys() == {"module:mine"}
    (project / "other" / "new.py").write_text("")
    (project / "mine" / "__pycache__" / "x.pyc").write_text("")
    assert current(site.python, before) == before
    (project / "mine" / "deep.py").write_text("")
    assert current(site.python, before) != before


def test_an_editable_distribution_counts_by_the_content_of_what_is_imported(site, observe, tmp_path):
    project = tmp_path / "project"
    project.mkdir()
    (project / "mine.py").write_text("x = 1")
    finder = f"import sys\nMAPPING = {{'mine': {str(project / 'mine')!r}}}\n" + dedent(
        """
        from importlib.util import spec_from_file_location
        class Finder:
            @classmethod
            def find_spec(cls, name, path=None, target=None):
                if name in MAPPING:
                    return spec_from_file_location(name, MAPPING[name] + ".py")
        sys.meta_path.append(Finder)
        """
    )
    files = {"__editable___mine_finder.py": finder, "__editable__.mine.pth": "import __editable___mine_finder"}
    site.install("mine", "1.0", files, {"url": project.as_uri(), "dir_info": {"editable": True}})
    before = observe("import mine")
    assert before.keys() == {"module:mine"}
    (project / "mine.py").write_text("x = 2")
    after = current(site.python, before)
    assert after != before
    assert after["module:mine"].startswith("sha256:")


def test_a_local_distribution_counts_by_its_installed_files(site, observe):
    direct = {"url": "file:///projects/mine", "dir_info": {}}
    info = site.install("mine", "1.0", {"mine.py": "x = 1"}, direct)
    before = observe("import mine")
    assert before["mine"].startswith("1.0+sha256:")
    record = info / "RECORD"
    record.write_text(record.read_text() + f"{info.name}/INSTALLER,sha256=1,2\n../../../bin/mine,sha256=1,2\n")
    assert current(site.python, before) == before
    record.write_text(record.read_text().replace("mine.py,sha256=", "mine.py,sha256=0"))
    assert current(site.python, before) != before


def test_a_version_from_the_index_and_an_editable_one_differ(site):
    direct = {"url": "file:///projects/mine", "dir_info": {"editable": True}}
    site.install("mine", "1.0", {"mine.py": ""}, direct)
    assert current(site.python, ["mine"]) == {"mine": "1.0+editable"}


def test_what_the_script_looked_for_in_vain_counts_once_it_is_there(site, observe):
    before = observe("try:\n  import lightgbmx\nexcept ImportError: pass")
    assert before == {"module:lightgbmx": ""}
    site.install("lightgbmx", "4.0", {"lightgbmx.py": ""})
    assert current(site.python, before) == {"module:lightgbmx": "lightgbmx 4.0"}


def test_software_that_changes_while_the_step_runs_makes_its_result_unfit_for_reuse(site, observe, tmp_path):
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "mine.py").write_text("x = 1")
    (site.folder / "mine.pth").write_text(str(tmp_path / "project"))
    info = site.install("lib", "1", {"lib.py": ""})
    script = f"""
        import pathlib, time, mine, lib
        time.sleep(0.02)
        pathlib.Path({str(tmp_path / "project" / "mine.py")!r}).write_text("x = 2")
        pathlib.Path({str(info)!r}).rename({str(info.with_name("lib-2.dist-info"))!r})
        try: import late
        except ImportError: pathlib.Path({str(site.folder / "late.py")!r}).write_text("")
    """
    assert observe(script) == {"module:mine": CHANGED, "lib": CHANGED, "module:late": CHANGED}


def test_what_a_library_looks_for_in_vain_does_not_count(site, observe):
    site.install("lib", "1", {"lib.py": "try:\n  import lightgbmx\nexcept ImportError: pass"})
    assert observe("import copy, lib, importlib.util; importlib.util.find_spec('mine')") == {
        "lib": "1",
        "module:mine": "",
    }


def test_rule_4_what_a_library_of_the_author_looks_for_in_vain_counts_wherever_it_may_come(site, observe, tmp_path):
    own = tmp_path / "own"
    own.mkdir()
    (own / "lib.py").write_text("try:\n  import optlib\nexcept ImportError: pass")
    before = observe(f"import sys; sys.path.insert(0, {str(own)!r}); import lib")
    absent = {"module:optlib": "", f"module:optlib@{own}/": ""}
    assert before.items() >= absent.items()
    (own / "optlib.py").write_text("x = 1")
    assert current(site.python, absent)[f"module:optlib@{own}/"].startswith("sha256:")
    (own / "optlib.py").unlink()
    site.install("optlib", "1", {"optlib/__init__.py": ""})
    assert current(site.python, absent) == {"module:optlib": "optlib 1", f"module:optlib@{own}/": ""}


def test_rule_4_what_is_put_where_the_script_looked_in_vain_while_it_runs_makes_its_result_unfit(observe, tmp_path):
    script = f"""
        import pathlib, sys
        sys.path.insert(0, {str(tmp_path)!r})
        try: import optlib
        except ImportError: pathlib.Path({str(tmp_path / "optlib.py")!r}).touch()
    """
    assert observe(script) == {"module:optlib": "", f"module:optlib@{tmp_path}/": CHANGED}


@pytest.fixture
def removing(tmp_path):
    """A script that imports a module of a folder in the home of somebody, and removes the folder."""
    folder = tmp_path / "home" / "made"
    folder.mkdir(parents=True)
    (folder / "made.py").write_text("x = 1")
    (tmp_path / "home" / "huge").write_text("never to be read")
    return f"import sys, shutil; sys.path.insert(0, {str(folder)!r}); import made; shutil.rmtree({str(folder)!r})"


def test_rule_4_of_a_module_that_is_gone_nothing_above_it_counts(site, observe, removing, tmp_path):
    (name,) = observe(removing)
    assert name == f"module:made@{tmp_path}/home/made/made.py"
    assert current(site.python, [name]) == {name: ""}


def test_rule_4_a_module_that_went_away_while_the_step_ran_makes_its_result_unfit(observe, removing):
    assert list(observe(removing).values()) == [CHANGED]


def test_rule_4_a_module_in_an_archive_counts_by_the_archive(site, observe, tmp_path):
    archive = tmp_path / "lib.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("packed.py", "x = 1")
    before = observe(f"import sys; sys.path.insert(0, {str(archive)!r}); import packed")
    assert before == {f"module:packed@{archive}/packed.py": digest_files([archive])[0]}
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr("other.py", "")
    assert current(site.python, before) != before


def test_a_module_that_only_its_loader_knows_does_not_count(observe):
    script = """
        import sys
        from importlib.util import spec_from_file_location
        class Maker:
            @staticmethod
            def find_spec(name, path, target=None):
                return spec_from_file_location(name, "/tmp/no/such/made.py", loader=Maker) if name == "made" else None
            @staticmethod
            def create_module(spec): return None
            @staticmethod
            def exec_module(module): module.x = 1
        sys.meta_path.append(Maker)
        import made
        assert made.x == 1
    """
    assert observe(script) == {}


def test_a_module_outside_the_search_path_counts_by_content(site, observe, tmp_path):
    (tmp_path / "opt").mkdir()
    module = tmp_path / "opt" / "far.py"
    module.write_text("x = 1")
    before = observe(f"import sys; sys.path.insert(0, {str(module.parent)!r}); import far")
    assert before.keys() == {f"module:far@{module}"}
    module.write_text("x = 2")
    after = current(site.python, before)
    assert after != before
    module.unlink()
    assert current(site.python, before) != after


def test_a_declared_search_path_counts_by_content(site, tmp_path):
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "far.py").touch()
    variables = {"PYTHONPATH": str(tmp_path / "lib")}
    spec = spec_of(environment=EnvironmentSpec(observe=True, interpreter=site.python, variables=variables))
    directory = fill(tmp_path / "step", spec, "import far")
    assert supervised(directory)[0].error is None
    assert list(observed(site.python, directory.imports)) == [f"module:far@{tmp_path}/lib/far.py"]


def test_the_environments_own_sitecustomize_still_runs(site, observe):
    (site.folder / "sitecustomize.py").write_text("import early, builtins; builtins.marked = True")
    site.install("early", "1", {"early.py": ""})
    names = observe("import sitecustomize; assert marked; assert 'site-packages' in sitecustomize.__file__")
    assert names.pop("early") == "1"
    assert list(names) == ["module:sitecustomize"]


def test_a_broken_sitecustomize_breaks_nothing(site, observe):
    (site.folder / "sitecustomize.py").write_text("raise RuntimeError('broken')")
    assert list(observe("print()")) == ["module:sitecustomize"]


def test_a_script_may_name_its_own_modules_like_ours(observe):
    files = dict.fromkeys(("run", "recorder", "protocol", "mlpipe", "sitecustomize"), "mine = True")
    script = "".join(f"import {name}; assert {name}.mine\n" for name in files if name != "sitecustomize")
    assert observe(script, **files) == {}


def test_old_import_hooks_and_odd_finders_go_on_working(site, observe):
    site.install("lib", "1", {"lib.py": ""})
    script = """
        import sys
        from importlib.machinery import ModuleSpec
        class Maker:
            @staticmethod
            def find_spec(name, path, target=None):
                return ModuleSpec(name, Maker) if name.startswith("made") else None
            @staticmethod
            def create_module(spec): return None
            @staticmethod
            def exec_module(module): module.x = 1
        sys.meta_path.insert(0, Maker)
        sys.meta_path.append(Maker)
        import made, lib
        assert made.x == 1
    """
    assert observe(script) == {"lib": "1"}


def test_this_interpreter_is_asked_without_a_process(monkeypatch):
    monkeypatch.setattr(subprocess, "run", pytest.fail)
    assert current(sys.executable, ["pytest", "no-such-thing"]) == {"pytest": pytest.__version__, "no-such-thing": ""}


def test_an_interpreter_that_does_not_answer_is_an_error(tmp_path):
    with pytest.raises(EnvironmentBuildError, match="does not say where its packages are"):
        current(str(tmp_path / "python"), ["x"])


def test_a_step_that_is_not_observed_has_no_recorder(tmp_path):
    directory = fill(tmp_path, spec_of(), "import sys; assert 'sitecustomize' not in sys.modules; import yaml")
    assert supervised(directory)[0].error is None
    assert observed(sys.executable, directory.imports) == {}


CALLS = """
import sys
calls = 0
def count(frame, event, argument):
    global calls
    calls += event in ("call", "c_call")
sys.setprofile(count)
for name in {names}: __import__(name)
sys.setprofile(None)
print(calls)
"""


def test_recording_a_module_takes_few_calls_beside_those_of_its_import(tmp_path):
    names = [f"mod{number}" for number in range(300)]
    (tmp_path / "lib").mkdir()
    for name in names:
        (tmp_path / "lib" / f"{name}.py").touch()
    calls = []
    for number, environment in enumerate((EnvironmentSpec(), EnvironmentSpec(), OBSERVING)):  # the first compiles them
        spec = spec_of(
            environment=EnvironmentSpec(observe=environment.observe, variables={"PYTHONPATH": str(tmp_path / "lib")})
        )
        result, _ = supervised(fill(tmp_path / str(number), spec, CALLS.format(names=names)))
        calls.append(int(result.tail[-1]))
    assert 0 < (calls[2] - calls[1]) / len(names) < 50


@pytest.mark.parametrize(
    "script",
    [
        """
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        try:
            import lib
        except Exception:
            pass
        """,
        """
        import resource, subprocess, sys
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        subprocess.run([sys.executable, "-c", "import lib"], check=True)
        """,
    ],
    ids=["the script", "a process it starts"],
)
def test_a_step_of_which_an_import_cannot_be_written_down_fails(site, tmp_path, script):
    site.install("lib", "1.0", {"lib.py": ""})
    spec = spec_of(environment=EnvironmentSpec(observe=True, interpreter=site.python))
    result, output = supervised(fill(tmp_path / "step", spec, dedent(script)))
    assert result.exit_code != 0
    assert b"cannot be written down: File too large" in output
