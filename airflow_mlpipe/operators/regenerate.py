"""The switch of the trigger form that makes steps run though nothing has changed."""

from __future__ import annotations

from typing import Any

from airflow_mlpipe.exceptions import ParameterError

REGENERATE = "regenerate_outputs"
"""Its name; the value is ``none``, ``all``, or a list of steps."""


def chosen_steps(chosen: Any, names: set[str]) -> frozenset[str]:
    """Return the steps that ``regenerate_outputs`` names: ``none``, ``all``, or a list of steps.

    A list may hold ``all`` too: the trigger form offers it among the steps.

    :raises ParameterError: if it names a step that does not exist, or is nothing of these.
    """
    wanted = list(chosen) if isinstance(chosen, list | tuple) else [chosen or "none"]
    if wanted in ([], ["none"]):
        return frozenset()
    if "all" in wanted:
        return frozenset(names)
    if unknown := [name for name in wanted if not isinstance(name, str) or name not in names]:
        message = (
            f"{REGENERATE} names no step of this pipeline: {', '.join(map(repr, unknown))}. "
            f"Give none, all, or a list of: {', '.join(sorted(names))}"
        )
        raise ParameterError(message)
    return frozenset(wanted)
