"""Runs a data transfer on the worker: its output is its destination (rule 13)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from airflow_mlpipe.exceptions import DataChangedError, DataError
from airflow_mlpipe.resolving.references import token_now
from airflow_mlpipe.runtime.protocol import OutputRef, StepResult
from airflow_mlpipe.store.attempts import without_password
from airflow_mlpipe.store.transfer import mirror

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_mlpipe.resolving.site import Site
    from airflow_mlpipe.runtime.protocol import StepSpec

DATA = "data"


class TransferLauncher:
    """Copies the input ``data`` to the destination of the output ``data``."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self._killed = False

    def launch(
        self,
        spec: StepSpec,
        fingerprint: str,  # noqa: ARG002 -- nothing is published below the store's root
        claim: str,  # noqa: ARG002 -- as above
        secrets: Mapping[str, str],  # noqa: ARG002 -- credentials come with the datastores
        log: Callable[[str], None],
    ) -> StepResult:
        """Copy, and return the destination as the output; see `airflow_mlpipe.launchers.base.Launcher`."""
        source, target = spec.inputs[DATA], spec.outputs[DATA]
        if source.uri is None or target.destination is None:
            message = f"step {spec.step} does not say what to copy where"
            raise DataError(message)
        started = time.monotonic()
        source_fs, source_path = self.site.open_uri(source.uri, source.datastore)
        target_fs, target_path = self.site.open_destination(target.destination, target.datastore)
        log(without_password(f"copies {source.uri} to {target.destination}"))
        done = mirror(
            source_fs,
            source_path,
            target_fs,
            target_path,
            source.content,
            index=self.site.index,
            say=log,
            stopped=lambda: self._killed,
        )
        if source.token is not None and token_now(source_fs, source_path) != source.token:
            message = f"{source.uri} has changed since the step was bound; run the step again"
            raise DataChangedError(message)
        token = token_now(target_fs, target_path)
        log(f"sent {done.sent_files} files, {done.sent_bytes} bytes")
        output = OutputRef(target.destination, done.content, target.datastore, token)
        return StepResult(exit_code=0, seconds=time.monotonic() - started, outputs={DATA: output})

    def kill(self) -> None:
        """End the transfer before its next block; what has arrived whole is not sent again by the next try."""
        self._killed = True
