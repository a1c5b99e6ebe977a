"""Steps written as operators of a DAG: their fields are arguments, checked when the DAG is parsed, rendered by Airflow."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_mlpipe.definitions.base import Definition
from airflow_mlpipe.definitions.faults import MISSING
from airflow_mlpipe.exceptions import DefinitionError, Problem
from airflow_mlpipe.operators.announce import others
from airflow_mlpipe.operators.checks import owner_of, written_at
from airflow_mlpipe.operators.inputs import LATER, NAMES, as_defined, given_by_tasks, is_given, known, names_used
from airflow_mlpipe.operators.mapped import CheckedPartial, data_names
from airflow_mlpipe.operators.rendering import around_expressions, as_data
from airflow_mlpipe.operators.step import StepOperator

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from airflow.sdk import DAG

    from airflow_mlpipe.definitions import (
        CommandStep,
        DataTransferStep,
        EstimatorStep,
        MpiStep,
        PythonScriptStep,
        Step,
    )


class WrittenOperator(StepOperator):
    """Base of the operators for hand-written DAGs; a subclass says which step its arguments make.

    :param fields: the fields of the step.
    :raises DefinitionError: if one of them is wrong; it names all that are.
    """

    step_class: ClassVar[type[PythonScriptStep | CommandStep | DataTransferStep | EstimatorStep | MpiStep]]
    rendered: ClassVar[Sequence[str]]
    """The fields that may hold Airflow templates and XComs; each is a template field of its own."""

    def __init__(self, *, task_id: str, fields: Mapping[str, Any], **kwargs: Any) -> None:
        mapped = self._mapped(task_id, kwargs.get("dag"))
        if of_others := getattr(mapped, "announces", ()):
            kwargs["outlets"] = others(kwargs["outlets"], of_others)
        data = data_names(mapped)
        fields = {name: as_data(value) if name in data else value for name, value in fields.items()}
        upstream = given_by_tasks(self._inputs_in(fields))
        super().__init__(task_id=task_id, step=self.define(task_id, fields, upstream), upstream=upstream, **kwargs)
        self.upstream = {}  # it is among the fields, which Airflow renders
        self.from_tasks = tuple(upstream)
        self.fields = fields
        self.data = tuple(fields[name] for name in data if name in fields)
        for name in self.rendered:
            setattr(self, name, fields[name])

    @classmethod
    def partial(cls, **kwargs: Any) -> CheckedPartial:
        """Return what `expand` makes a mapped operator of; that checks all that is known when the DAG is parsed."""
        return CheckedPartial.of(super().partial(**kwargs))

    @classmethod
    def define(cls, task_id: str, fields: Mapping[str, Any], upstream: Collection[str]) -> Step:
        """Return the step that fields make, with a stand-in for what is not known yet.

        :param upstream: the inputs that other tasks give.
        :raises DefinitionError: if a field is wrong; it names all that are.
        """
        owner = owner_of(cls, task_id)
        problems = list(cls._given_too_early(owner, fields))
        fields = {name: cls.stand_in(name, fields) if is_given(value) else value for name, value in fields.items()}
        inputs = cls._with_inputs(as_defined(cls._inputs_in(fields), upstream))
        given = {name: known(value) for name, value in fields.items() if value is not None} | inputs
        try:
            step = cls.step_class(name=task_id, **given)
        except DefinitionError as error:
            named = [
                replace(each, where=each.where.replace(cls.step_class.__name__, owner, 1)) for each in error.problems
            ]
            problems += [written_at(each) if each.message == MISSING else each for each in named]
        if problems:
            raise DefinitionError(problems)
        return step

    @classmethod
    def stand_in(cls, name: str, fields: Mapping[str, Any]) -> Any:
        """Return what stands for a field that is not known when the DAG is parsed; None where nothing need."""
        if name in NAMES:
            used = names_used(name, [value for field, value in fields.items() if field != name])
            return list(used) if name == "outputs" else used
        return LATER if cls.step_class.__pydantic_fields__[name].is_required() else None

    def render_template(self, content: Any, context: Any, jinja_env: Any = None, seen_oids: Any = None) -> Any:
        """Render what the author of the DAG wrote around its expressions; what other tasks gave is data."""
        if id(content) in (seen_oids or ()) or any(content is given for given in self.data):
            return as_data(content)
        if isinstance(content, str):
            return self._render_text(content, context, jinja_env or self.get_template_env(self.dag))
        if isinstance(content, Definition):
            written = {name: getattr(content, name) for name in content.model_fields_set}
            return type(content)(**self.render_template(written, context, jinja_env, seen_oids))
        rendered = super().render_template(content, context, jinja_env, seen_oids)
        return as_data(rendered) if is_given(content) else rendered

    def _render_text(self, text: str, context: Any, env: Any) -> Any:
        if not any(
            mark in text for mark in (env.variable_start_string, env.block_start_string, env.comment_start_string)
        ):
            return text
        return around_expressions(
            text, lambda masked: super(WrittenOperator, self).render_template(masked, context, env)
        )

    def _mapped(self, task_id: str, dag: DAG | None) -> Any:
        """Return the mapped operator that makes this one; None where none does."""
        from_mapped = self._BaseOperator__from_mapped  # Airflow sets it before a constructor begins
        return dag.task_dict.get(task_id) if from_mapped and dag else None

    def _defined(self) -> tuple[Step, Mapping[str, Any]]:
        """Return the step with what Airflow rendered, and the values of the inputs that other tasks give."""
        fields = {**self.fields, **{name: getattr(self, name) for name in self.rendered}}
        inputs = self._inputs_in(fields)
        upstream = {name: inputs[name] for name in self.from_tasks}
        return self.define(self.step.name, fields, upstream), upstream

    @classmethod
    def _given_too_early(cls, owner: str, fields: Mapping[str, Any]) -> Iterator[Problem]:
        """Yield what is wrong with fields that another task gives as a whole."""
        for name, value in fields.items():
            if not is_given(value):
                continue
            if name not in cls.rendered:
                message = "cannot be given by another task"
                remedy = f"Only these can, and hold Airflow templates: {', '.join(cls.rendered)}"
                yield Problem("", 0, 0, f"{owner}.{name}", message, remedy)
            elif name in {"inputs", "outputs"}:
                message = "must be a mapping, so that its names are known"
                remedy = f"Write {name}={{'<name>': ...}}, where another task may give what a name stands for"
                yield Problem("", 0, 0, f"{owner}.{name}", message, remedy)

    @classmethod
    def _inputs_in(cls, fields: Mapping[str, Any]) -> Any:
        return fields["inputs"]

    @classmethod
    def _with_inputs(cls, defined: Any) -> dict[str, Any]:
        return {"inputs": defined}
