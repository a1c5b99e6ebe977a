"""One container from its creation to its removal, run by the provider's DockerOperator."""

from __future__ import annotations

import io
import shutil
import tarfile
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.exceptions import MlpipeError, OutputMissingError, StepError
from airflow_mlpipe.launchers.docker import archive, failures, ownership
from airflow_mlpipe.launchers.docker.client import Client
from airflow_mlpipe.launchers.docker.container import INSIDE, numbers
from airflow_mlpipe.launchers.docker.guard import CLAIM
from airflow_mlpipe.runtime.collect import REPLACED
from airflow_mlpipe.runtime.metrics import read_metrics
from airflow_mlpipe.runtime.protocol import StepResult
from airflow_mlpipe.runtime.ranks import explained

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_mlpipe.launchers.docker.container import Container
    from airflow_mlpipe.launchers.docker.output import Output
    from airflow_mlpipe.runtime.stage import Staged

_GOING = ("removing", "dead")
_TASK = "container"
"""The operator's task id; no DAG has it."""


class NotMountedError(Exception):
    """The engine does not see the worker's files."""


@dataclass(frozen=True)
class Work:
    """What is to be run, whatever way its files take. ``check`` raises if the step was stopped."""

    staged: Staged
    secrets: Mapping[str, str]
    output: Output
    check: Callable[[], None]


class Attempt:
    """Runs one container; nothing of it is left at the engine if `is_removed` says so.

    :param hook: the provider's, connected.
    """

    def __init__(self, work: Work, engine: str, hook: Any, container: Container) -> None:  # noqa: ANN401 -- not typed
        self._work = work
        self._engine = engine
        self._hook = hook
        self._plain = hook.get_conn()
        self._container = container
        self._directory = work.staged.directory
        self._client = Client(self._plain, container, work.output, engine, self._before_start, work.check)
        self._began = 0.0

    def run(self) -> StepResult:
        """Run the command; return how it ended, with its outputs in the step directory.

        :raises NotMountedError: if the engine does not see the worker's files; nothing has run then.
        :raises StepError: if the engine, the image or the container cannot be had, or the engine goes away.
        """
        from docker.errors import APIError, DockerException, NotFound  # noqa: PLC0415 -- heavy, needed only to run
        from requests.exceptions import RequestException  # noqa: PLC0415 -- as above
        from urllib3.exceptions import HTTPError  # noqa: PLC0415 -- as above

        try:
            self._remove_earlier()
            self._operate()
            return self._result()
        except (MlpipeError, NotMountedError):
            raise
        except NotFound as error:
            if not self._client.started:
                raise self._refused(error) from error
            raise failures.removed(self._container.name) from error
        except APIError as error:
            raise self._refused(error) from error
        except (DockerException, RequestException, HTTPError, OSError) as error:
            raise failures.engine_lost(self._engine, error) from error

    def is_removed(self) -> bool:
        """Remove the container; return whether it is gone for certain."""
        if self._client.created is None:
            return not self._client.creating
        with suppress(Exception):  # the guard goes on
            return self._remove(self._client.created)
        return False

    def _remove(self, container: str) -> bool:
        from docker.errors import NotFound  # noqa: PLC0415 -- heavy, needed only to run

        with suppress(NotFound):
            self._plain.remove_container(container, v=True, force=True)
        return True

    def _remove_earlier(self) -> None:
        """Remove the container of an earlier try of the step, whose worker is gone or has lost its claim."""
        from docker.errors import NotFound  # noqa: PLC0415 -- heavy, needed only to run

        with suppress(NotFound):
            found = self._plain.inspect_container(self._container.name)
            if CLAIM not in (found["Config"]["Labels"] or {}):
                message = (
                    f"the engine at {self._engine} has a container {self._container.name} that is not ours; remove it"
                )
                raise StepError(message)
            self._remove(found["Id"])

    def _operate(self) -> None:
        """Have the operator do what it does; how the command ended is asked of the engine afterwards."""
        from airflow.providers.docker.exceptions import DockerContainerFailedException  # noqa: PLC0415 -- as above
        from airflow.providers.docker.operators.docker import DockerOperator  # noqa: PLC0415 -- as above
        from airflow.sdk.bases.operator import ExecutorSafeguard  # noqa: PLC0415 -- as above

        arguments = self._container.arguments(self._directory, self._work.secrets)
        operator = DockerOperator(task_id=_TASK, **arguments)
        operator.hook = self._hook
        self._hook.api_client = self._client
        inside_a_task = {f"{DockerOperator.__name__}__sentinel": ExecutorSafeguard.sentinel_value}
        try:
            operator.execute({}, **inside_a_task)
        except DockerContainerFailedException:
            pass  # the container says so itself, and why
        finally:
            self._hook.api_client = self._plain

    def _before_start(self, created: str) -> None:
        """Bring the step directory into the container, or make sure that the engine mounts the right one."""
        owner = numbers(self._container.user)
        if self._container.mounted:
            if not self._is_mounted(created):
                raise NotMountedError
            ownership.give(self._directory, owner)
        else:
            self._plain.put_archive(created, str(INSIDE.root), archive.pack(self._directory, owner))
        self._began = time.monotonic()

    def _is_mounted(self, created: str) -> bool:
        """Say whether the container sees this very step directory: on another machine its path may be another's."""
        from docker.errors import NotFound  # noqa: PLC0415 -- heavy, needed only to run

        try:
            return self._read(created, str(INSIDE.spec)) == self._directory.spec.read_bytes()
        except NotFound:
            return False

    def _read(self, created: str, path: str) -> bytes:
        chunks, _ = self._plain.get_archive(created, path)
        with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as tar:
            member = tar.getmembers()[0]
            file = tar.extractfile(member) if member.isreg() else None
            if file is None:
                message = (
                    f"the command put something else in the place of the file {path}; leave it the file that it was"
                )
                raise StepError(message)
            return file.read()

    def _result(self) -> StepResult:
        created = str(self._client.created)
        state = self._plain.inspect_container(created)["State"]
        if state["Status"] in _GOING:
            raise failures.removed(self._container.name)
        seconds = time.monotonic() - self._began
        self._take_back(created, failed=state["ExitCode"] != 0)
        given, tail = self._container.spec.distribution, self._work.output.tail.lines()
        error = explained(failures.ending(state, self._container), given, tail)
        metrics: dict[str, float] = {}
        if error is None:
            try:
                metrics = read_metrics(self._directory.metrics, self._work.output.mask.hide)
            except StepError as bad:
                error = str(bad)
        return StepResult(
            exit_code=int(state["ExitCode"]),
            error=error,
            tail=tail,
            seconds=seconds,
            metrics=metrics,
        )

    def _take_back(self, created: str, *, failed: bool) -> None:
        """Have outputs, metrics and what the next try shall find in the step directory, all of it this process's own."""
        from docker.errors import NotFound  # noqa: PLC0415 -- heavy, needed only to run

        if self._container.mounted:
            ownership.take(self._directory, numbers(self._container.user))
        else:
            try:
                chunks, _ = self._plain.get_archive(created, str(INSIDE.outputs))
            except NotFound as error:
                if failures.has_no_container(error):
                    raise
                raise OutputMissingError(REPLACED) from error
            archive.unpack(chunks, self._directory.outputs)
            with suppress(NotFound):
                self._directory.metrics.write_bytes(self._read(created, str(INSIDE.metrics)))
            if failed and self._container.spec.checkpoint:
                self._take_checkpoint(created)
        archive.turn_links(self._directory.outputs)

    def _take_checkpoint(self, created: str) -> None:
        from docker.errors import NotFound  # noqa: PLC0415 -- heavy, needed only to run

        folder = self._directory.checkpoint
        shutil.rmtree(folder)
        folder.mkdir()
        with suppress(NotFound, MlpipeError):  # it costs only what is computed again
            chunks, _ = self._plain.get_archive(created, str(INSIDE.checkpoint))
            archive.unpack(chunks, folder)
            return
        shutil.rmtree(folder)  # half of it is none
        folder.mkdir()

    def _refused(self, error: Any) -> StepError | NotMountedError:  # noqa: ANN401 -- docker's APIError is not typed
        """Return the error for what the engine refuses to do."""
        said = str(error.explanation or error)
        if self._container.mounted and failures.is_not_mounted(said, str(self._directory.root)):
            return NotMountedError()
        if self._client.pulling:
            return failures.pull_failure(self._container, said)
        return failures.start_failure(self._container, said)
