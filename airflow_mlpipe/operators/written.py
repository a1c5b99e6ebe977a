"""Steps written as operators of a DAG: their fields are arguments, checked when the DAG is parsed, rendered by Airflow."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import XComArg

from airflow_mlpipe.exceptions import DefinitionError
from airflow_mlpipe.operators.inputs import as_defined, given_by_tasks, known
from airflow_mlpipe.operators.rendering import around_expressions, as_data
from airflow_mlpipe.operators.step import StepOperator

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_mlpipe.definitions import CommandStep, DataTransferStep, PythonScriptStep, Step


class WrittenOperator(StepOperator):
    """Base of the operators for hand-written DAGs; a subclass says which step its arguments make.

    :param fields: the fields of the step.
    :raises DefinitionError: if one of them is wrong; it names all that are.
    """

    step_class: ClassVar[type[PythonScriptStep | CommandStep | DataTransferStep]]
    rendered: ClassVar[Sequence[str]]
    """The fields that may hold Airflow templates and XComs; each is a template field of its own."""

    def __init__(self, *, task_id: str, fields: Mapping[str, Any], **kwargs: Any) -> None:
        upstream = given_by_tasks(self._inputs_in(fields))
        super().__init__(task_id=task_id, step=self._step(task_id, fields, upstream), **kwargs)
        self.from_tasks = tuple(upstream)
        self.fields = dict(fields)
        for name in self.rendered:
            setattr(self, name, fields[name])

    def render_template(self, content: Any, context: Any, jinja_env: Any = None, seen_oids: Any = None) -> Any:
        """Render what the author of the DAG wrote around its expressions; what other tasks gave is data."""
        by_author = id(content) not in (seen_oids or ())
        if isinstance(content, str) and by_author:
            return self._render_text(content, context, jinja_env or self.get_template_env(self.dag))
        rendered = super().render_template(content, context, jinja_env, seen_oids)
        return rendered if by_author and not callable(getattr(content, "resolve", None)) else as_data(rendered)

    def _render_text(self, text: str, context: Any, env: Any) -> Any:
        if not any(
            mark in text for mark in (env.variable_start_string, env.block_start_string, env.comment_start_string)
        ):
            return text
        return around_expressions(
            text, lambda masked: super(WrittenOperator, self).render_template(masked, context, env)
        )

    def _defined(self) -> tuple[Step, Mapping[str, Any]]:
        """Return the step with what Airflow rendered, and the values of the inputs that other tasks give."""
        fields = {**self.fields, **{name: getattr(self, name) for name in self.rendered}}
        inputs = self._inputs_in(fields)
        upstream = {name: inputs[name] for name in self.from_tasks}
        return self._step(self.step.name, fields, upstream), upstream

    def _step(self, task_id: str, fields: Mapping[str, Any], upstream: Mapping[str, Any]) -> Step:
        given = {name: known(value) for name, value in fields.items() if not self._is_left_open(name, value)}
        try:
            given |= self._with_inputs(as_defined(self._inputs_in(fields), upstream))
            return self.step_class(name=task_id, **given)
        except DefinitionError as error:
            here = f"{type(self).__name__}(task_id={task_id!r})"
            named = [replace(each, where=each.where.replace(self.step_class.__name__, here)) for each in error.problems]
            raise DefinitionError(named) from None

    def _is_left_open(self, name: str, value: Any) -> bool:
        """Say whether another task gives a whole field that need not be given."""
        return isinstance(value, XComArg) and not self.step_class.__pydantic_fields__[name].is_required()

    def _inputs_in(self, fields: Mapping[str, Any]) -> Any:
        return fields["inputs"]

    def _with_inputs(self, defined: Any) -> dict[str, Any]:
        return {"inputs": defined}
