"""Lays a pod over the template that a user gives for anything else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_KEYS = {
    "containers": "name",
    "initContainers": "name",
    "volumes": "name",
    "env": "name",
    "imagePullSecrets": "name",
    "volumeMounts": "mountPath",
    "volumeDevices": "devicePath",
    "topologySpreadConstraints": "topologyKey",
}
"""Lists whose items are known by one of their fields."""

_LAID_OVER = {"containers", "initContainers"}

_JOINED = {"tolerations", "envFrom", "hostAliases", "readinessGates", "schedulingGates"}


def overlay(beneath: Mapping[str, Any], ours: Mapping[str, Any]) -> dict[str, Any]:
    """Return a mapping with everything of ours, and of the other what ours does not say.

    Containers are laid over those of the same name, other named items take their place; further ones come before ours.
    """
    merged: dict[str, Any] = {name: value for name, value in beneath.items() if name not in ours}
    return merged | {name: _over(name, beneath.get(name), value) for name, value in ours.items()}


def _over(name: str, beneath: Any, ours: Any) -> Any:  # noqa: ANN401 -- whatever stands in a pod
    if isinstance(beneath, Mapping) and isinstance(ours, Mapping):
        return overlay(beneath, ours)
    if isinstance(beneath, list | tuple) and isinstance(ours, list):
        if key := _KEYS.get(name):
            return _by_key(name, beneath, ours, key)
        if name in _JOINED:
            return [*(item for item in beneath if item not in ours), *ours]
    return ours


def _by_key(name: str, beneath: list[Any] | tuple[Any, ...], ours: list[Any], key: str) -> list[Any]:
    given = {item[key]: item for item in beneath}
    own = {item[key] for item in ours}
    further = [item for item in beneath if item[key] not in own]
    if name not in _LAID_OVER:  # one of two sources of a volume, or values of a variable
        return further + ours
    return further + [overlay(given.get(item[key], {}), item) for item in ours]
