"""Runs a step in a container of a Docker engine, by the provider's DockerOperator.

The step directory is filled on the worker, as for a local step, and mounted at ``/mlpipe``: inputs read-only, so that
not even root in the container can change what they share with the store. Where the engine does not see the worker's
files (another machine, a worker that is a container itself) the directory is copied into a volume of the container, and
the outputs back. Nothing of ours is needed in the image, neither Python nor a shell.
"""

from __future__ import annotations

import shutil
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.definitions.compute import target_from
from airflow_mlpipe.definitions.docker import DockerCompute
from airflow_mlpipe.exceptions import StepError, StepStoppedError
from airflow_mlpipe.launchers.checkpointing import checkpointed
from airflow_mlpipe.launchers.directory import fill, step_directory
from airflow_mlpipe.launchers.docker import failures
from airflow_mlpipe.launchers.docker.attempt import Attempt, NotMountedError, Work
from airflow_mlpipe.launchers.docker.container import Container, check_direct, user_of
from airflow_mlpipe.launchers.docker.engine import connect
from airflow_mlpipe.launchers.docker.keeping import Guard
from airflow_mlpipe.launchers.docker.output import Output
from airflow_mlpipe.launchers.ending import failure, hidden, publish_result, with_lines
from airflow_mlpipe.naming import object_name
from airflow_mlpipe.resolving.addresses import Address
from airflow_mlpipe.runtime.collect import check_outputs
from airflow_mlpipe.runtime.tagged import untangled
from airflow_mlpipe.store.log import Log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from airflow_mlpipe.runtime.external import OpenUri
    from airflow_mlpipe.runtime.protocol import StepResult, StepSpec
    from airflow_mlpipe.runtime.stage import Staged
    from airflow_mlpipe.store.store import Store

INTERPRETER = "python"
"""The Python of an image, where the environment does not name another."""


class DockerLauncher:
    """Runs one step at a time in a container, and publishes its outputs when it succeeds."""

    def __init__(self, store: Store, open_uri: OpenUri) -> None:
        self._store = store
        self._open_uri = open_uri
        self._guard: Guard | None = None
        self._killed = False

    def launch(
        self, spec: StepSpec, fingerprint: str, claim: str, secrets: Mapping[str, str], log: Callable[[str], None]
    ) -> StepResult:
        """Run a step to its end and publish its outputs; see `airflow_mlpipe.launchers.base.Launcher`.

        :raises StepError: also if the engine, the image or the registry cannot be had; it says what to do.
        """
        target = _target_of(spec)
        python = spec.environment.interpreter or INTERPRETER
        spec = replace(spec, environment=replace(spec.environment, interpreter=python))
        output = Output(secrets.values(), log, lambda: untangled(spec))
        hide = output.mask.hide
        with step_directory(self._store, claim) as root, hidden(hide):
            staged = fill(self._store, spec, root, self._open_uri)
            name = object_name(f"{spec.pipeline}-{spec.step}", *self._identity(fingerprint, claim))
            container = Container(spec, target, name, claim, user="", mounted=True)
            with checkpointed(self._store, staged, fingerprint, log):
                result = self._run(Work(staged, secrets, output, self._check), container)
            staged.check_inputs()
            check_outputs(staged.directory, spec.outputs, lambda line: log(hide(line)), spec.distribution)
            return self._published(staged, fingerprint, claim, result)

    def kill(self) -> None:
        """End the container; may be called at any time, more than once, by a signal handler.

        The guard does it: the client that such a handler interrupts could not be used by it.
        """
        self._killed = True
        if self._guard is not None:
            self._guard.kill()

    def _identity(self, fingerprint: str, claim: str) -> tuple[str, ...]:
        """Return what is the same for all tries of a step: of two of them only the later one goes on."""
        held = Log.read(self._store, fingerprint).claim_of(claim)
        if held is None:  # of a step that is never reused: it takes no claim, and nobody else's container is its own
            return self._store.uri(""), claim
        owner = held.owner
        return self._store.uri(""), owner.task_instance or "", owner.pipeline, owner.run, owner.step

    def _run(self, work: Work, container: Container) -> StepResult:
        """Run the command to its success; however it ends, the store keeps nothing that it changed."""
        try:
            result = self._connected(work, container)
        except BaseException:
            work.staged.discard_damaged()
            raise
        if result.error is not None:
            work.staged.discard_damaged()
            raise failure(result)
        return result

    def _connected(self, work: Work, container: Container) -> StepResult:
        """Connect to the engine, then run the command with the step directory mounted, or else copied."""
        from airflow_mlpipe.hooks.connections import login  # noqa: PLC0415 -- needed only to run

        self._check()
        with self._certificates() as folder, ExitStack() as opened:
            address = Address.of(container.target, folder, login)
            hook = connect(address, container.target.connection)
            opened.callback(hook.get_conn().close)
            container = replace(container, user=user_of(container.target, hook.get_conn().info))
            if container.may_be_mounted():
                try:
                    return self._guarded(work, address, hook, container, folder)
                except NotMountedError:
                    if container.target.staging == "mount":
                        raise failures.not_mounted(address.host, work.staged.directory.root) from None
            check_direct(container.spec)
            return self._guarded(work, address, hook, replace(container, mounted=False), folder)

    @contextmanager
    def _certificates(self) -> Iterator[Path]:
        """Make a folder for those of a connection; a guard that goes on needs them still, and removes them."""
        folder = Path(tempfile.mkdtemp(prefix="mlpipe-tls-"))
        try:
            yield folder
        finally:
            if self._guard is None or self._guard.is_dismissed:
                shutil.rmtree(folder, ignore_errors=True)

    def _guarded(
        self,
        work: Work,
        address: Address,
        hook: Any,  # noqa: ANN401 -- the provider's hook is not typed
        container: Container,
        certificates: Path,
    ) -> StepResult:
        attempt = Attempt(work, address.host, hook, container)
        with Guard(address, container, certificates) as self._guard:
            try:
                self._check()
                result = attempt.run()
            except StepError:
                self._check_killed(work)
                raise
            finally:
                if attempt.is_removed():
                    self._guard.dismiss()
        self._check_killed(work)
        return result

    def _check(self) -> None:
        if self._killed:
            message = "the step was stopped before its command began"
            raise StepStoppedError(message)

    def _check_killed(self, work: Work) -> None:
        if self._killed:
            raise StepStoppedError(with_lines("the step was stopped", work.output.tail.lines()))

    def _published(self, staged: Staged, fingerprint: str, claim: str, result: StepResult) -> StepResult:
        try:
            return publish_result(self._store, staged, fingerprint, claim, result)
        except PermissionError as error:
            message = f"what the container wrote cannot be taken: {error}; let it write as the worker's user"
            raise StepError(message) from error


def _target_of(spec: StepSpec) -> DockerCompute:
    target = target_from(spec.target)
    if not isinstance(target, DockerCompute):
        message = f"step {spec.step!r} runs on a {target.kind} target, not in a Docker container"
        raise StepError(message)
    if not spec.environment.image:
        reason = f": {spec.environment.unknown}" if spec.environment.unknown else "; give its environment an image"
        message = f"step {spec.step!r} has no image to run{reason}"
        raise StepError(message)
    return target
