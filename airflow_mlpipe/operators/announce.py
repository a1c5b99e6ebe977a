"""Asset events for outputs that declare an asset: one whenever the content differs from the last announced."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from airflow.sdk import Asset, AssetAlias
from airflow.sdk.execution_time.context import InletEventsAccessor

from airflow_mlpipe.operators.inputs import is_open

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from airflow.sdk import Context

    from airflow_mlpipe.definitions import PipelineData
    from airflow_mlpipe.runtime.protocol import OutputRef, StepSpec

    Made: TypeAlias = tuple[StepSpec, Mapping[str, OutputRef]]
    """A step, and the outputs it has left."""

ALIAS = "mlpipe"
_LOOKED_AT = 100
"""The events among which the last one of an output is looked for: several steps may update one asset."""


def outlets_of(dag_id: str, outputs: Iterable[PipelineData]) -> list[Asset | AssetAlias]:
    """Return the outlets through which a task announces the assets of some outputs.

    An asset is one of its own, so that Airflow knows it before the task runs; where an alias makes it when the first
    task succeeds, two mapped tasks that do so at once break the uniqueness of its name, and Airflow fails one of them.
    Only names that Airflow has yet to render come by an alias.
    """
    names = dict.fromkeys(output.asset for output in outputs if output.asset is not None)
    outlets: list[Asset | AssetAlias] = [Asset(name) for name in names if not is_open(name)]
    if len(outlets) < len(names):
        outlets.append(AssetAlias(f"{ALIAS}:{dag_id}" if dag_id else ALIAS))
    return outlets


def announce(context: Context, task: Any, made: Iterable[Made]) -> None:
    """Emit an event for each asset that has an output whose content is not what was announced last.

    Airflow emits one for every outlet of a task that succeeds, so those without news are taken away.

    :param task: whose ``announces`` are the outlets that `outlets_of` returned.
    """
    news = {name: digests for name, told in _told(made).items() if (digests := _new(context, Asset(name), told))}
    for name, digests in news.items():
        asset, extra = Asset(name), {"outputs": digests}
        if asset in task.announces:
            context["outlet_events"][asset].extra = extra
        else:
            alias = next(outlet for outlet in task.announces if isinstance(outlet, AssetAlias))
            context["outlet_events"][alias].add(asset, extra=extra)
    silent = [outlet for outlet in task.announces if isinstance(outlet, Asset) and outlet.name not in news]
    task.outlets = [outlet for outlet in task.outlets if outlet not in silent]


def _told(made: Iterable[Made]) -> dict[str, dict[str, str]]:
    """Return by asset what there is to announce: the digest of each output, which is named ``step.output``."""
    told: dict[str, dict[str, str]] = {}
    for spec, outputs in made:
        for name, output in spec.outputs.items():
            if output.asset is not None:
                told.setdefault(output.asset, {})[f"{spec.step}.{name}"] = outputs[name].content.digest
    return told


def _new(context: Context, asset: Asset, told: Mapping[str, str]) -> dict[str, str]:
    """Return the digests that were not announced last, by what Airflow knows: that counts only tasks that succeeded."""
    accessor = InletEventsAccessor(asset_name=asset.name, asset_uri=asset.uri)
    last: dict[str, str] = {}
    for event in accessor.ascending(ascending=False).limit(_LOOKED_AT):
        if event.source_dag_id == context["ti"].dag_id:
            last = {**_outputs(event.extra), **last}
    return {output: digest for output, digest in told.items() if last.get(output) != digest}


def _outputs(extra: Mapping[str, Any] | None) -> dict[str, str]:
    outputs = (extra or {}).get("outputs")
    return outputs if isinstance(outputs, dict) else {}


def others(outlets: Iterable[Any], announces: Sequence[Any]) -> list[Any]:
    """Return the outlets that the author of the DAG gave a task."""
    return [outlet for outlet in outlets if outlet not in announces]
