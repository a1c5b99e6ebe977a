"""What a user says about one run: parameters, steps to regenerate, its moment."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from airflow_mlpipe.definitions import parameter_values
from airflow_mlpipe.definitions.faults import did_you_mean
from airflow_mlpipe.exceptions import ParameterError
from airflow_mlpipe.planning.bind import Values

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from airflow_mlpipe.definitions import Pipeline
    from airflow_mlpipe.runtime.protocol import Scalar


@dataclass(frozen=True)
class Moment:
    """When a run takes place, and so how it is called: just as Airflow calls a run triggered by hand."""

    run_after: datetime
    logical_date: datetime

    @classmethod
    def now(cls, logical_date: datetime | None = None) -> Moment:
        """Return the present; it is the logical date too, unless another is given."""
        now = datetime.now(timezone.utc)
        return cls(now, logical_date or now)

    @property
    def run_id(self) -> str:
        """The id of the run."""
        return f"manual__{self.run_after.isoformat()}"

    def values(self, parameters: Mapping[str, Scalar]) -> Values:
        """Return what expressions may name; a run by hand covers no interval, so it begins and ends at its date."""
        date = self.logical_date.isoformat()
        dates = dict.fromkeys(("logical_date", "data_interval_start", "data_interval_end"), date)
        return Values(parameters, {**dates, "run_after": self.run_after.isoformat()})


def read_date(text: str) -> datetime:
    """Return the moment that an ISO 8601 text stands for, in UTC, which is also what is meant without a zone.

    :raises ParameterError: if it stands for none.
    """
    try:
        moment = datetime.fromisoformat(text.strip().replace("Z", "+00:00"))
    except ValueError:
        message = f"--logical-date must be a date such as 2025-01-31 or 2025-01-31T06:00, given: {text!r}"
        raise ParameterError(message) from None
    return moment.astimezone(timezone.utc) if moment.tzinfo else moment.replace(tzinfo=timezone.utc)


def read_parameters(pipeline: Pipeline, texts: Iterable[str]) -> Mapping[str, Scalar]:
    """Return the typed value of every parameter, from texts ``name=value`` and the defaults.

    :raises ParameterError: naming every text that cannot be used.
    """
    given: dict[str, Scalar] = {}
    faults = []
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            faults.append(f"a parameter is given as name=value, given: {text!r}")
            continue
        try:
            given[name] = pipeline.parameters[name].from_text(value)
        except KeyError:
            faults.append(f"{pipeline.name} has no parameter {name}. {did_you_mean(name, pipeline.parameters)}")
        except ParameterError as error:
            faults.append(str(error))
    if faults:
        raise ParameterError("; ".join(faults))
    return parameter_values(pipeline, given)


def read_regenerate(pipeline: Pipeline, names: Iterable[str]) -> tuple[str, ...]:
    """Return the steps that must not be reused, in the order of the definition; ``all`` stands for every step.

    :raises ParameterError: if a name is no step.
    """
    wanted = [name for text in names for name in text.split(",") if name not in {"", "none"}]
    known = [step.name for step in pipeline.steps]
    if unknown := [name for name in wanted if name not in {"all", *known}]:
        faults = (f"{name!r} is no step of {pipeline.name}. {did_you_mean(name, ['all', *known])}" for name in unknown)
        raise ParameterError("--regenerate: " + "; ".join(faults))
    return tuple(name for name in known if name in wanted or "all" in wanted)
