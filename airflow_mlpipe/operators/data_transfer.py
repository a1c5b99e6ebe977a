"""`DataTransferOperator`: copies a file or a folder from any storage to any other, as a task of any DAG."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_mlpipe.definitions import DataTransferStep
from airflow_mlpipe.definitions.steps import DATA
from airflow_mlpipe.operators.step import StepOperator
from airflow_mlpipe.operators.written import WrittenOperator

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_mlpipe.definitions import DataReference


class DataTransferOperator(WrittenOperator):
    """Mirror a file or a folder, streamed, in parallel, verified by digest; what is there and equal is not sent again.

    Its output is named ``data``: the destination.

    :param source: the output of another task, a URL, a path, or ``{"datastore": ..., "path": ...}``.
    :param destination: a URL, a path, or ``{"datastore": ..., "path": ...}``; it will hold what the source holds and
        nothing else: whatever else lies there is removed.
    :param allow_reuse: whether to trust that source and destination are as an earlier run left them.

    Source and destination may hold ``${{ parameters.x }}`` and ``${{ run.x }}``, and Airflow templates.
    """

    step_class = DataTransferStep
    rendered = ("source", "destination")
    template_fields: Sequence[str] = (*StepOperator.template_fields, *rendered)

    def __init__(
        self,
        *,
        task_id: str,
        source: Any = None,
        destination: str | Mapping[str, Any] | DataReference | None = None,
        allow_reuse: bool = True,
        **kwargs: Any,
    ) -> None:
        fields = {"source": source, "destination": destination, "allow_reuse": allow_reuse}
        super().__init__(task_id=task_id, fields=fields, **kwargs)

    @classmethod
    def _inputs_in(cls, fields: Mapping[str, Any]) -> Any:
        return {DATA: fields["source"]}

    @classmethod
    def _with_inputs(cls, defined: Any) -> dict[str, Any]:
        return {} if defined[DATA] is None else {"source": defined[DATA]}
