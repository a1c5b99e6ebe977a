"""The native sidecar: waits for the command's end, checks what it left, publishes it, and lets the pod end.

Kubernetes ends it with SIGTERM when the user's container has ended. If that comes before the command has told its exit
code, nothing is published; if it comes while outputs are uploaded, that goes on only as long as the grace period lets it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import threading
import time
from typing import TYPE_CHECKING

from airflow_mlpipe.exceptions import CommandFailedError, MlpipeError, StepError, StoreError
from airflow_mlpipe.runtime.collect import check_outputs
from airflow_mlpipe.runtime.layout import StepDirectory
from airflow_mlpipe.runtime.metrics import read_metrics
from airflow_mlpipe.runtime.output import Mask
from airflow_mlpipe.runtime.pod import failure, wrapper
from airflow_mlpipe.runtime.pod.access import Access
from airflow_mlpipe.runtime.pod.fill import signatures_of
from airflow_mlpipe.runtime.pod.nodes import Nodes
from airflow_mlpipe.runtime.pod.saving import Saving
from airflow_mlpipe.runtime.protocol import OutputRef, StepResult, to_json
from airflow_mlpipe.runtime.results import write_result
from airflow_mlpipe.runtime.stage import resume
from airflow_mlpipe.store import layout
from airflow_mlpipe.store.beat import Beat
from airflow_mlpipe.store.entries import Claim
from airflow_mlpipe.store.outputs import publish
from airflow_mlpipe.store.owner import Owner
from airflow_mlpipe.store.tokens import token_now

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from airflow_mlpipe.runtime.pod.access import Told

LOOK_SECONDS = 0.1
"""How often it looks whether the command has ended."""

RESERVE = 3
"""Seconds of the grace period that are left to whoever reads the last words of the pod."""

_TRIES = "publishing"
_MOST_TRIES = 3


class Sidecar:
    """Serves one pod from the start of its command to its end."""

    def __init__(self, told: Told, say: Callable[[str], None], stopped: threading.Event) -> None:
        self._told = told
        self._hide = Mask(told.values_to_hide()).hide
        self._print = say
        self._access = Access(told)
        self._spec = self._access.spec(told)
        self._directory = StepDirectory(told.root.resolve())
        self._nodes = Nodes(self._access.store, told)
        self._stopped = stopped

    def run(self) -> None:
        """Wait for the command, publish what it left, and stay until Kubernetes says that the pod ends.

        :raises StoreUnreachableError: if the store cannot be reached while the command runs; Kubernetes starts the
            container again, later and later.
        """
        signal.signal(signal.SIGTERM, lambda *_: self._stop())
        if self._stopped.is_set():
            self._stop()
        with self._beat():
            self._serve()
            while not self._stopped.wait(60):
                pass
        if self._told.remove is not None:
            shutil.rmtree(self._told.remove, ignore_errors=True)

    def _beat(self) -> AbstractContextManager[object]:
        """Show that the claim is held; where there are many nodes, the first one does."""
        if self._told.node != 0:
            return contextlib.nullcontext()
        owner = Owner.here(self._spec.pipeline, "", self._spec.step)
        return Beat(self._access.store, Claim(self._told.fingerprint, self._told.claim, 0, owner))

    def _serve(self) -> None:
        if wrapper.is_done(self._told.root):  # by this container, before it was started again
            return
        self._nodes.begin()
        saving = self._saving()
        code = self._wait()
        if saving is not None:
            saving.end(save=code != 0)
        if code is None:
            return
        if code != 0:
            self._fail(CommandFailedError(f"the command ended with exit code {code}"))
            return
        try:
            if self._is_due():
                self._publish()
                wrapper.say_done(self._told.root, 0)
                self._nodes.forget()
        except Exception as error:  # noqa: BLE001 -- whatever it is, the user's container waits to be told
            self._fail(error)

    def _is_due(self) -> bool:
        """Say whether this node publishes, which is for the first one when all others have ended well.

        :raises StoreError: if the store cannot be reached.
        """
        if self._told.node == 0:
            return self._nodes.others_ended(self._stopped)
        self._nodes.say_ended()
        wrapper.say_done(self._told.root, 0)
        return False

    def _say(self, line: str) -> None:
        self._print(self._hide(line))

    def _saving(self) -> Saving | None:
        told = self._told
        if not self._spec.checkpoint or told.node != 0:
            return None
        folder = self._directory.checkpoint
        key = self._spec.saved_under(told.fingerprint)
        saving = Saving(self._access.store, key, folder, told.checkpoint, self._say)
        saving.start(signatures_of(told, "checkpoint"))
        return saving

    def _wait(self) -> int | None:
        """Return the command's exit code, or None if the user's container has ended without one."""
        while (code := wrapper.exit_code(self._told.root)) is None:
            if wrapper.is_cut(self._told.root):
                self._stop()
            if self._stopped.wait(LOOK_SECONDS):
                return wrapper.exit_code(self._told.root)
        return code

    def _publish(self) -> None:
        """Check what the command left, put it into the store, and the result after it.

        :raises MlpipeError: if something is wrong with it; nothing of it stays in the store then.
        """
        self._count_tries()
        staged = resume(
            self._access.store,
            self._spec,
            self._told.root,
            self._access.open_uri,
            token_now,
            signatures_of(self._told, "inputs"),
        )
        staged.check_inputs()
        check_outputs(self._directory, self._spec.outputs, self._say, self._spec.distribution)
        metrics = read_metrics(self._directory.metrics, self._hide)
        began = time.monotonic()
        outputs = self._upload()
        result = StepResult(exit_code=0, seconds=wrapper.seconds(self._told.root), metrics=metrics, outputs=outputs)
        self._directory.result.write_bytes(to_json(result))
        write_result(self._access.store, self._told.fingerprint, self._told.claim, result)
        size = sum(output.content.size for output in outputs.values())
        self._say(f"published {len(outputs)} outputs, {size} bytes, in {time.monotonic() - began:.1f} s")

    def _count_tries(self) -> None:
        """Remember that publishing has begun, in case that this container is killed meanwhile and started again.

        :raises StepError: if that has happened too often, or files were moved into the store.
        """
        mark = self._told.private / _TRIES
        tries = len(mark.read_bytes()) if mark.exists() else 0
        if tries >= (1 if self._access.store.local_root is not None else _MOST_TRIES):
            message = f"the sidecar was killed while it published the outputs ({tries} times); give it more memory"
            raise StepError(message)
        mark.write_bytes(b"+" * (tries + 1))

    def _upload(self) -> dict[str, OutputRef]:
        told, store = self._told, self._access.store
        for name in self._spec.outputs:  # what a pod that was taken away had uploaded under the same claim
            store.remove(layout.output(told.fingerprint, told.claim, name))
        try:
            return {name: self._published(name) for name in self._spec.outputs}
        except BaseException:
            with contextlib.suppress(StoreError):  # retention finds them
                store.remove(layout.outputs(told.fingerprint, told.claim))
            raise

    def _published(self, name: str) -> OutputRef:
        told = self._told
        content = publish(self._access.store, told.fingerprint, told.claim, name, self._directory.outputs / name)
        return OutputRef(layout.output(told.fingerprint, told.claim, name), content)

    def _fail(self, error: Exception) -> None:
        """Say what is wrong to whoever looks at the pod, then let the user's container end."""
        shown = error
        if isinstance(error, MlpipeError) and (text := self._hide(str(error))) != str(error):
            shown = StepError(text)
        elif not isinstance(error, MlpipeError):
            shown = StepError(self._hide(f"the outputs could not be published: {type(error).__name__}: {error}"))
        self._say(f"failed: {shown}")
        failure.write(self._told.message, shown)
        wrapper.say_done(self._told.root, wrapper.UNPUBLISHED)

    def _stop(self) -> None:
        """Note that the pod ends, and end with it before Kubernetes kills what is left."""
        self._stopped.set()
        limit = threading.Timer(max(1, self._told.grace - RESERVE), os._exit, (wrapper.STOPPED,))
        limit.daemon = True
        limit.start()
