"""The init container: fills the step directory, and brings the shell that wraps the user's command."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from airflow_mlpipe.exceptions import DataError, StepError
from airflow_mlpipe.runtime.layout import StepDirectory
from airflow_mlpipe.runtime.pod.access import Access, Told
from airflow_mlpipe.runtime.pod.wrapper import TOOLS
from airflow_mlpipe.runtime.protocol import to_json
from airflow_mlpipe.runtime.stage import prepare
from airflow_mlpipe.runtime.untouched import Signature, signatures_at
from airflow_mlpipe.store import checkpoints
from airflow_mlpipe.store.tokens import token_now

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from airflow_mlpipe.runtime.protocol import StepSpec

_SIGNATURES = "signatures.json"


def fill(told: Told, say: Callable[[str], None]) -> None:
    """Fill the step directory of a pod.

    :raises MlpipeError: if an input is not what was bound, or cannot be brought here.
    """
    began = time.monotonic()
    access = Access(told)
    spec = access.spec(told)
    _check_direct(spec, access)
    empty(told.root)
    directory = StepDirectory(told.root.resolve())
    staged = prepare(access.store, _as_mounted(spec, told), directory.root, access.open_uri, token_now)
    _make_mount_points(spec, told, directory)
    directory.spec.write_bytes(to_json(spec))
    _bring_tools(directory.root / TOOLS)
    if spec.checkpoint:
        _restore(access, spec.saved_under(told.fingerprint), directory, say)
    told.private.mkdir(parents=True, exist_ok=True)
    seen = {name: signatures_at(folder) for name, folder in _watched(directory)}
    (told.private / _SIGNATURES).write_text(json.dumps(seen), "utf-8")
    copied = len(spec.inputs) - len(told.mounted)
    say(f"staged {copied} inputs in {time.monotonic() - began:.1f} s" + (" and the code" if staged.spec.code else ""))


def signatures_of(told: Told, name: Literal["inputs", "checkpoint"]) -> dict[str, Signature]:
    """Return what the inputs, or what was saved by an earlier try, were like before the command."""
    found = json.loads((told.private / _SIGNATURES).read_text("utf-8"))[name]
    return {path: tuple(signature) for path, signature in found.items()}


def _watched(directory: StepDirectory) -> list[tuple[str, Path]]:
    return [("inputs", directory.inputs), ("checkpoint", directory.checkpoint)]


def _check_direct(spec: StepSpec, access: Access) -> None:
    for name, bound in spec.inputs.items():
        if bound.mode == "direct" and access.store.local_root and bound.uri and access.store.path_of(bound.uri):
            message = (
                f"the container does not see the store's disk, where input {name!r} is; use mode mount or download"
            )
            raise DataError(message)


def _as_mounted(spec: StepSpec, told: Told) -> StepSpec:
    """Return a spec whose mounted inputs are looked at where they are."""
    mounted = {name: replace(bound, mode="direct") for name, bound in spec.inputs.items() if name in told.mounted}
    return spec.with_inputs(mounted)


def _make_mount_points(spec: StepSpec, told: Told, directory: StepDirectory) -> None:
    """Make what mounted inputs are mounted on: the container gets the folder around them read-only."""
    for name in told.mounted:
        content = spec.inputs[name].content
        if content is not None and content.kind == "file":
            (directory.inputs / name).touch()
        else:
            (directory.inputs / name).mkdir()


def empty(root: Path) -> None:
    """Remove what an init container has left that was started before, or has failed; it may lie in a claim that stays."""
    root.mkdir(parents=True, exist_ok=True)
    for path in root.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=path.name == "lost+found")
        else:
            path.unlink()


def _bring_tools(folder: Path) -> None:
    found = shutil.which("busybox")
    if found is None:
        message = "the staging image has no busybox; build it from docker/step.Dockerfile, or add busybox-static to it"
        raise StepError(message)
    folder.mkdir()
    shutil.copyfile(found, folder / "busybox")
    (folder / "busybox").chmod(0o755)
    (folder / "sh").symlink_to("busybox")


def _restore(access: Access, key: str, directory: StepDirectory, say: Callable[[str], None]) -> None:
    if checkpoints.restore(access.store, key, directory.checkpoint):
        say("goes on from the checkpoint that an earlier try saved")
    directory.checkpoint.mkdir(exist_ok=True)
