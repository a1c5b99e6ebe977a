"""How a step ends, whatever ran it: its outputs published, or its failure in words, in which no secret stands."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_mlpipe.exceptions import (
    CommandFailedError,
    DataError,
    InputLostError,
    MetricsError,
    StepError,
    StoreError,
)
from airflow_mlpipe.runtime.protocol import OutputRef
from airflow_mlpipe.runtime.results import write_result
from airflow_mlpipe.store import layout
from airflow_mlpipe.store.outputs import publish

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from airflow_mlpipe.runtime.protocol import StepResult
    from airflow_mlpipe.runtime.stage import Staged
    from airflow_mlpipe.store.store import Store

_SHOWN_LINES = 20


def publish_outputs(store: Store, staged: Staged, fingerprint: str, claim: str) -> dict[str, OutputRef]:
    """Publish every declared output, or none of them."""
    published: dict[str, OutputRef] = {}
    try:
        for name in staged.spec.outputs:
            source = staged.directory.outputs / name
            content = publish(store, fingerprint, claim, name, source)
            published[name] = OutputRef(layout.output(fingerprint, claim, name), content)
    except BaseException:
        with contextlib.suppress(StoreError):  # retention finds them
            store.remove(layout.outputs(fingerprint, claim))
        raise
    return published


def publish_result(store: Store, staged: Staged, fingerprint: str, claim: str, result: StepResult) -> StepResult:
    """Publish every declared output, then the result, so that it can be recorded though this worker dies now."""
    published = replace(result, outputs=publish_outputs(store, staged, fingerprint, claim))
    write_result(store, fingerprint, claim, published)
    return published


@contextlib.contextmanager
def hidden(hide: Callable[[str], str]) -> Iterator[None]:
    """Take secrets out of what is said of the step: a script may have named its files after them."""
    try:
        yield
    except (StepError, DataError) as error:
        shown = hide(str(error))
        if shown == str(error) or isinstance(error, InputLostError):  # of what was there before the command
            raise
        raise type(error)(shown) from None


def failure(result: StepResult) -> StepError:
    """Return the error for a result that has one, with the last lines of the command."""
    message = with_lines(str(result.error), result.tail)
    return MetricsError(message) if result.exit_code == 0 else CommandFailedError(message)


def with_lines(message: str, tail: Sequence[str]) -> str:
    """Return a message with the last lines of a command below it."""
    lines = "".join(f"\n    {line}" for line in tail[-_SHOWN_LINES:])
    return f"{message}; its last lines:{lines}" if lines else f"{message}; it printed nothing"
