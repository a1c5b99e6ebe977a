"""Asset events for outputs that declare an asset: one whenever the content differs from the last announced."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset, AssetAlias

from airflow_mlpipe.store import runs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.sdk import Context

    from airflow_mlpipe.operators.run_context import RunContext
    from airflow_mlpipe.resolving.site import Site
    from airflow_mlpipe.runtime.protocol import OutputRef, StepSpec

ALIAS = "mlpipe"


def alias_of(dag_id: str, outputs: Mapping[str, Any]) -> AssetAlias | None:
    """Return the outlet through which a task announces the assets of some outputs, or None if none has one."""
    if not any(output.asset for output in outputs.values()):
        return None
    return AssetAlias(f"{ALIAS}:{dag_id}" if dag_id else ALIAS)


def announce(context: Context, site: Site, run: RunContext, spec: StepSpec, outputs: Mapping[str, OutputRef]) -> None:
    """Emit an asset event for each output whose content is not what was announced last."""
    aliases = [outlet for outlet in context["outlets"] if isinstance(outlet, AssetAlias)]
    for name, output in spec.outputs.items():
        if output.asset is None or not aliases:
            continue
        key = f"asset {output.asset}"
        digest = outputs[name].content.digest
        last = runs.read_latest(site.store, run.pipeline, [key]).get(key, {})
        if last.get("digest") == digest and last.get("run") != run.run:
            continue  # a retry in the same run announces again: the first try's event came only if it succeeded
        extra = {"digest": digest, "step": spec.step, "output": name, "run": run.run}
        context["outlet_events"][aliases[-1]].add(Asset(output.asset), extra=extra)
        runs.write_latest(site.store, run.pipeline, key, {"digest": digest, "run": run.run})
