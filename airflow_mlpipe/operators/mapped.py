"""Mapped operators: what is known of them when the DAG is parsed is checked then; what others give them is data."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, cast

from airflow.sdk import get_parsing_context
from airflow.sdk.definitions.mappedoperator import MappedOperator, OperatorPartial

from airflow_mlpipe.exceptions import DefinitionError
from airflow_mlpipe.operators.announce import others, outlets_of
from airflow_mlpipe.operators.inputs import is_given

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from collections.abc import Set as AbstractSet

    from airflow_mlpipe.definitions import Step
    from airflow_mlpipe.exceptions import Problem
    from airflow_mlpipe.operators.written import WrittenOperator


class CheckedPartial(OperatorPartial):
    """What `partial` of our operators returns: it checks every step that is known when the DAG is parsed."""

    @classmethod
    def of(cls, partial: OperatorPartial) -> CheckedPartial:
        """Return the same in place of Airflow's."""
        partial._expand_called = True  # noqa: SLF001 -- else Airflow's warns that nobody expands it
        return cls(operator_class=partial.operator_class, kwargs=partial.kwargs, params=partial.params)

    def _expand(self, expand_input: Any, *, strict: bool) -> MappedOperator:
        mapped = super()._expand(expand_input, strict=strict)
        if get_parsing_context().dag_id is None:  # a task needs to know of no other
            outputs = (output for step in self._steps(mapped, expand_input.value) for output in step.outputs.values())
            mapped.announces = outlets_of(mapped.dag_id if mapped.has_dag() else "", outputs)
            if mapped.announces:
                mapped.outlets = [*others(_several(mapped.outlets), mapped.announces), *mapped.announces]
        return mapped

    def _steps(self, mapped: MappedOperator, value: Any) -> Sequence[Step]:
        """Return the step of each map index, as far as it is known.

        :raises DefinitionError: with everything that is wrong with any of them.
        """
        steps: list[Step] = []
        problems: dict[str, Problem] = {}
        for given in self._known(value):
            step, wrong = _step(mapped, given)
            steps += [step] if step else []
            problems |= {str(problem): problem for problem in wrong}
        if problems:
            raise DefinitionError(list(problems.values()))
        return steps

    def _known(self, value: Any) -> Iterator[dict[str, Any]]:
        """Yield what is expanded for each step, with stand-ins for what other tasks give."""
        if not isinstance(value, Mapping):  # of `expand_kwargs`
            yield from () if is_given(value) else (dict(item) for item in value if not is_given(item))
            return
        written = {name: _items(items) for name, items in value.items() if not is_given(items)}
        first = {name: items[0] for name, items in written.items() if items}
        first |= self._stand_ins(value.keys() - first.keys(), first)
        yield first
        for name, items in written.items():
            yield from ({**first, name: item} for item in items[1:])

    def _stand_ins(self, names: AbstractSet[str], given: Mapping[str, Any]) -> dict[str, Any]:
        of_step = self.operator_class.step_class.__pydantic_fields__
        fields = {name: value for name, value in {**self.kwargs, **given}.items() if name in of_step}
        stand_ins = {name: self.operator_class.stand_in(name, fields) for name in names if name in of_step}
        return {name: value for name, value in stand_ins.items() if value is not None}


def _step(mapped: MappedOperator, given: Mapping[str, Any]) -> tuple[Step | None, Sequence[Problem]]:
    try:
        return cast("WrittenOperator", mapped.unmap(given)).step, ()
    except DefinitionError as error:
        return None, error.problems


def data_names(mapped: Any) -> frozenset[str]:
    """Return the arguments that other tasks give to each step of a mapped operator."""
    if not isinstance(mapped, MappedOperator):
        return frozenset()
    value = mapped.expand_input.value
    if isinstance(value, Mapping):
        return frozenset(name for name, items in value.items() if is_given(items))
    if not is_given(value) and not any(map(is_given, value)):
        return frozenset()
    own = inspect.signature(mapped.operator_class.__init__).parameters
    return frozenset(name for name in own if name not in mapped.partial_kwargs)


def _several(outlets: Any) -> list[Any]:
    """Return outlets as Airflow takes them: none, one, or a collection."""
    return list(outlets or ()) if not outlets or isinstance(outlets, Collection) else [outlets]


def _items(value: Any) -> list[Any]:
    return list(value.items() if isinstance(value, Mapping) else value)
