"""`DataTransferOperator`: copies a file or a folder from any storage to any other, as a task of any DAG."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_mlpipe.definitions import DataTransferStep
from airflow_mlpipe.operators.inputs import split_inputs
from airflow_mlpipe.operators.step import StepOperator

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_mlpipe.definitions import DataReference


class DataTransferOperator(StepOperator):
    """Mirror a file or a folder, streamed, in parallel, verified by digest; what is there and equal is not sent again.

    Its output is named ``data``: the destination.

    :param source: the output of another task, a URL, a path, or ``{"datastore": ..., "path": ...}``.
    :param destination: a URL, a path, or ``{"datastore": ..., "path": ...}``; it will hold what the source holds and
        nothing else.
    :param allow_reuse: whether to trust that source and destination are as an earlier run left them.
    """

    def __init__(
        self,
        *,
        source: Any,
        destination: str | Mapping[str, Any] | DataReference,
        allow_reuse: bool = True,
        **kwargs: Any,
    ) -> None:
        declared, upstream = split_inputs({"data": source})
        step = DataTransferStep(
            name=kwargs["task_id"], source=declared["data"], destination=destination, allow_reuse=allow_reuse
        )
        super().__init__(step=step, upstream=upstream, **kwargs)
