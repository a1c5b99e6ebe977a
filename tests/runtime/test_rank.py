from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_mlpipe.runtime import rank


def run(tmp_path, script, *arguments, rank_of=1, where=None, **variables):
    tmp_path.mkdir(exist_ok=True)
    (tmp_path / "main.py").write_text(script)
    ((where or tmp_path) / "mlpipe_rank.py").write_text(Path(rank.__file__).read_text())
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "RANK": str(rank_of), **variables}
    command = [sys.executable, "-m", "mlpipe_rank", *(arguments or ("main.py",))]
    return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)


def test_a_script_runs_as_it_would_by_itself(tmp_path):
    script = (
        "import sys, pickle\nclass A: pass\nprint(__name__, sys.argv, __file__, type(pickle.loads(pickle.dumps(A()))))"
    )
    (tmp_path / "sub").mkdir()
    done = run(tmp_path, script, "main.py", "a b")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "__main__ ['main.py', 'a b'] main.py <class '__main__.A'>\n"


def test_a_script_of_a_subfolder_finds_the_modules_beside_it(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "beside.py").touch()
    (tmp_path / "sub" / "train.py").write_text("import beside, sys; print(sys.path[0])")
    assert run(tmp_path, "", "sub/train.py").stdout == f"{tmp_path}/sub\n"


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 knows no PYTHONSAFEPATH")
def test_python_can_be_told_to_leave_the_search_path_alone(tmp_path):
    script = "import os, sys; print(sys.path.count(os.environ['PYTHONPATH']))"
    given = {"PYTHONSAFEPATH": "1", "PYTHONPATH": str(tmp_path)}
    assert run(tmp_path / "sub", script, **given, where=tmp_path).stdout == "1\n"


def test_a_script_may_spawn_processes_that_import_it(tmp_path):
    script = """
import multiprocessing
def double(number):
    return 2 * number
if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        print(pool.map(double, [1, 2, 3]))
"""
    assert run(tmp_path, script).stdout == "[2, 4, 6]\n"


def test_a_module_runs_too(tmp_path):
    (tmp_path / "train.py").write_text("import sys; print(__name__, sys.argv[1:])")
    assert run(tmp_path, "", "-m", "train", "x").stdout == "__main__ ['x']\n"


def test_an_error_is_shown_without_our_own_frames_and_the_rank_is_named(tmp_path):
    done = run(tmp_path, "def f():\n    raise ValueError('no')\nf()\n")
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert [line for line in lines if "File" in line] == [
        '  File "main.py", line 3, in <module>',
        '  File "main.py", line 2, in f',
    ]
    assert lines[-2:] == ["ValueError: no", "mlpipe: rank 1 ended with exit code 1"]


def test_a_syntax_error_is_shown_as_one(tmp_path):
    done = run(tmp_path, "def f(:\n")
    assert "SyntaxError" in done.stderr
    assert "runpy" not in done.stderr


def test_a_script_that_is_not_there_is_named(tmp_path):
    done = run(tmp_path, "", "none.py")
    assert done.returncode == 1
    assert "none.py" in done.stderr


@pytest.mark.parametrize(
    ("ending", "code", "said"),
    [
        ("sys.exit(3)", 3, "mlpipe: rank 1 ended with exit code 3\n"),
        ("sys.exit('words')", 1, "words\nmlpipe: rank 1 ended with exit code 1\n"),
        ("sys.exit()", 0, ""),
        ("sys.exit(0)", 0, ""),
        ("sys.exit(-1)", 255, "mlpipe: rank 1 ended with exit code 255\n"),
        ("raise KeyboardInterrupt", 1, None),
    ],
)
def test_exit_codes_are_kept(tmp_path, ending, code, said):
    done = run(tmp_path, f"import sys\n{ending}")
    assert done.returncode == code
    assert said is None or done.stderr == said


def test_a_line_leaves_in_one_write_although_python_is_told_not_to_buffer(tmp_path):
    script = "import os, sys\nprint('a', 1, 'b', 2)\nsys.stdout.write('no end')\nos._exit(0)\n"
    assert run(tmp_path, script).stdout == "a 1 b 2\n"


def test_the_scripts_own_hook_is_asked(tmp_path):
    script = "import sys\nsys.excepthook = lambda kind, error, trace: print('mine', error)\nraise ValueError('no')"
    assert run(tmp_path, script).stdout == "mine no\n"


MPI4PY = """
import sys
class MPI:
    COMM_WORLD = None
    Get_size = staticmethod(lambda: 1)
    Is_initialized = staticmethod(lambda: True)
    Is_finalized = staticmethod(lambda: False)
    Get_library_version = staticmethod(lambda: "MPICH Version: 4.0, built")
MPI.COMM_WORLD = MPI
sys.modules["mpi4py.MPI"] = MPI
"""


def test_an_mpi4py_that_is_alone_among_many_is_an_error(tmp_path):
    done = run(tmp_path, MPI4PY, OMPI_COMM_WORLD_SIZE="4")
    assert done.returncode == 1
    assert "mlpipe: mpi4py sees 1 of 4 ranks: it uses MPICH Version: 4.0, and mpirun is of another MPI" in done.stderr
    assert run(tmp_path, MPI4PY, OMPI_COMM_WORLD_SIZE="1").returncode == 0
    assert run(tmp_path, MPI4PY).returncode == 0
