"""An image with packages from PyPI, made without a network in any container: they are installed on this machine."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.engine import PYTHON, Engine

if TYPE_CHECKING:
    from collections.abc import Iterable

SKLEARN = "mlpipe-tests/sklearn:1"
_CONSTRAINTS = Path(__file__).resolve().parents[3] / "constraints.txt"
NOT_NEEDED = {"site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3"}
_WHERE = "opt/own"
"""On the PYTHONPATH of the image with Python."""
_SKIPPED = {"tests", "include", "bin"}


def make_sklearn(engine: Engine) -> str:
    """Make an image of the one with Python and of scikit-learn, unless it is there; return its name."""
    if not engine.has(SKLEARN):
        with tempfile.TemporaryDirectory(prefix="mlpipe-packages-") as folder:
            packages = Path(folder) / "packages"
            _install("scikit-learn", packages)
            _build(engine, packages, Path(folder) / "context.tar")
    return SKLEARN


def _install(requirement: str, folder: Path) -> None:
    """Install a package as constraints.txt says, for the Python of the image, which is this one."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    uv = [str(Path(sys.executable).with_name("uv")), "pip", "install", "--quiet", "--compile-bytecode"]
    python = ["--python", sys.executable, "--python-version", version]
    command = [*uv, *python, "-c", str(_CONSTRAINTS), "--target", str(folder), requirement]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def _build(engine: Engine, packages: Path, context: Path) -> None:
    files = [path for path in packages.rglob("*") if path.is_file() and not _SKIPPED & set(path.parts)]
    with tarfile.open(context, "w") as tar:
        for path in files:
            tar.add(path, f"image/{_WHERE}/{path.relative_to(packages)}")
        for path in _bytecode():
            tar.add(path, f"image{path}")
        for path in _libraries([path for path in files if ".so" in path.suffixes], packages):
            tar.add(path.resolve(), f"image{path}")
        dockerfile = context.with_name("Dockerfile")
        dockerfile.write_text(f"FROM {PYTHON}\nCOPY image /\n")
        tar.add(dockerfile, "Dockerfile")
    with engine.client() as client, context.open("rb") as stream:
        said = client.build(fileobj=stream, custom_context=True, tag=SKLEARN, network_mode="none", rm=True, decode=True)
        errors = [line["error"] for line in said if "error" in line]
    assert not errors, errors


def _bytecode() -> Iterable[Path]:
    """Return the bytecode of the standard library, as far as it is there: each container would compile it anew."""
    library = Path(sysconfig.get_path("stdlib"))
    return [path for path in library.rglob("__pycache__/*.pyc") if not NOT_NEEDED & set(path.parts)]


def _libraries(modules: Iterable[Path], packages: Path) -> set[Path]:
    """Return the libraries of the system that extension modules load."""
    told = subprocess.run(["ldd", *map(str, modules)], capture_output=True, text=True, check=False).stdout
    words = (Path(word) for word in told.split() if word.startswith("/") and not word.endswith(":"))
    return {path for path in words if not path.resolve().is_relative_to(packages.resolve())}
