"""Asset events for outputs that declare an asset: one whenever the content differs from the last announced."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset, AssetAlias
from airflow.sdk.execution_time.context import InletEventsAccessor

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from airflow.sdk import Context

    from airflow_mlpipe.runtime.protocol import OutputRef, StepSpec

ALIAS = "mlpipe"
_LOOKED_AT = 100
"""The events among which the last one of an output is looked for: several steps may update one asset."""


def alias_of(dag_id: str, outputs: Mapping[str, Any]) -> AssetAlias | None:
    """Return the outlet through which a task announces the assets of some outputs, or None if none has one."""
    if not any(output.asset for output in outputs.values()):
        return None
    return AssetAlias(f"{ALIAS}:{dag_id}" if dag_id else ALIAS)


def is_ours(outlet: Any) -> bool:
    """Say whether an outlet is what `alias_of` returned."""
    return isinstance(outlet, AssetAlias) and outlet.name.partition(":")[0] == ALIAS


def announce(context: Context, outlets: Iterable[Any], spec: StepSpec, outputs: Mapping[str, OutputRef]) -> None:
    """Emit an asset event for each output whose content is not what was announced last."""
    alias = next(filter(is_ours, outlets), None)
    if alias is None:
        return
    for name, output in spec.outputs.items():
        if output.asset is not None:
            asset, source = Asset(output.asset), {"step": spec.step, "output": name}
            digest = outputs[name].content.digest
            if _announced(asset, context["ti"].dag_id, source) != digest:
                context["outlet_events"][alias].add(asset, extra={**source, "digest": digest})


def _announced(asset: Asset, dag_id: str, source: Mapping[str, str]) -> str | None:
    """Return the digest announced last, by what Airflow knows: an event counts only where its task succeeded."""
    accessor = InletEventsAccessor(asset_name=asset.name, asset_uri=asset.uri)
    for event in accessor.ascending(ascending=False).limit(_LOOKED_AT):
        extra: dict[str, Any] = event.extra or {}
        if event.source_dag_id == dag_id and source.items() <= extra.items():
            return str(extra.get("digest"))
    return None
