"""What a script may ask and log about its step: ``from mlpipe import Run``.

Every step finds this file as the module `mlpipe`; nothing has to be installed for it::

    from mlpipe import Run

    run = Run.get_context()
    data = run.input("data")
    run.log("auc", 0.9)

Outside of a step the same script works too: metrics are printed, and inputs, outputs and parameters come from the
variables a step would set (``MLPIPE_INPUT_DATA`` and so on).
"""

from __future__ import annotations

import json
import math
import numbers
import os
import sys
import uuid
from pathlib import Path
from typing import Any

__all__ = ["Run"]

_DIRECTORY = "MLPIPE_STEP_DIRECTORY"
_RANKS = {
    "torchrun": ("RANK",),
    "mpi": ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK"),
    "tensorflow": ("MLPIPE_RANK",),
}
"""Where the processes of a distributed step find their number, by its kind."""


class Run:
    """The step this process belongs to. Make it with `Run.get_context`."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        self._spec: dict[str, Any] = {}
        if directory is not None:
            self._spec = json.loads((directory / "spec.json").read_text("utf-8"))
        self.id: str = directory.name if directory else f"OfflineRun_{uuid.uuid4()}"
        """Names this execution of the step; different each time it runs."""
        self.pipeline: str | None = self._spec.get("pipeline")
        self.step: str | None = self._spec.get("step")

    @classmethod
    def get_context(cls) -> Run:
        """Return the run of the step this process belongs to, or one that only prints outside of a step."""
        directory = os.environ.get(_DIRECTORY)
        return cls(Path(directory) if directory else None)

    @property
    def offline(self) -> bool:
        """Whether the script was started outside of a step."""
        return self._directory is None

    @property
    def rank(self) -> int:
        """The number of this process among those of a distributed step; 0 for the first, and for a step that is one."""
        kind = self._distribution.get("kind")
        found = [os.environ[name] for name in _RANKS.get(str(kind), ()) if os.environ.get(name, "").isdigit()]
        if found:
            return int(found[0])
        if kind == "tensorflow" and os.environ.get("TF_CONFIG"):
            return int(json.loads(os.environ["TF_CONFIG"])["task"]["index"])
        return 0

    @property
    def _distribution(self) -> dict[str, Any]:
        return self._spec.get("distribution") or {}

    def log(self, name: str, value: float, step: int | None = None) -> None:
        """Record a metric; the last value of a name is the one that counts, all of them are kept.

        Where a step is many processes, the metrics of the first count, and what the others log is left out; where each
        has outputs of its own, those of the others count too, rank 2's ``loss`` as ``loss_rank_2``.

        :param step: an epoch or iteration, for a curve.
        :raises TypeError: if the name is not a text or the value not a number.
        :raises ValueError: if the value is NaN or infinite, or the name empty.
        """
        metric = _metric(name, value, step)
        if self.rank > 0:
            if self._distribution.get("outputs") != "each":
                return
            metric["name"] = f"{name}_rank_{self.rank}"
        line = json.dumps(metric, ensure_ascii=False)
        if self._directory is None:
            print(f"metric {name}: {value}" + ("" if step is None else f" (step {step})"), file=sys.stderr)  # noqa: T201 -- the only place to say it
            return
        # one write to a file opened for appending is never mixed with those of other processes
        descriptor = os.open(self._directory / "metrics.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, (line + "\n").encode())
        finally:
            os.close(descriptor)

    def input(self, name: str) -> Path | str:
        """Return where an input lies: a path, or the URI for an input of mode ``direct``.

        :raises KeyError: if the step has no such input.
        """
        location = self._variable("input", name, self._spec.get("inputs", {}))
        return location if "://" in location else Path(location)

    def output(self, name: str) -> Path:
        """Return where to write an output: a file or a folder that the script makes.

        :raises KeyError: if the step has no such output.
        """
        return Path(self._variable("output", name, self._spec.get("outputs", {})))

    def parameter(self, name: str) -> Any:  # noqa: ANN401 -- a text, a number, a boolean or None
        """Return the typed value of a parameter; outside of a step the text of its variable.

        :raises KeyError: if the step does not use such a parameter.
        """
        parameters = self._spec.get("parameters", {})
        return parameters[name] if name in parameters else self._variable("parameter", name, parameters)

    def _variable(self, kind: str, name: str, declared: dict[str, Any]) -> str:
        variable = f"MLPIPE_{kind.upper()}_{name.upper()}"
        if (self.offline or name in declared) and variable in os.environ:
            return os.environ[variable]
        if self.offline:
            message = f"no {kind} {name!r} outside of a step: set {variable} to try the script by hand"
        else:
            known = ", ".join(sorted(declared)) or "none"
            message = f"the step has no {kind} {name!r} (it has: {known}); declare it in the pipeline"
        raise KeyError(message)


def _metric(name: str, value: float, step: int | None) -> dict[str, Any]:
    if not isinstance(name, str):
        message = f"the name of a metric must be a text, not {type(name).__name__}: {name!r}"
        raise TypeError(message)
    if not name:
        message = "the name of a metric must not be empty"
        raise ValueError(message)
    metric: dict[str, Any] = {"name": name, "value": _number(name, value)}
    if step is not None:
        metric["step"] = _step(name, step)
    return metric


def _number(name: str, value: Any) -> float:  # noqa: ANN401 -- numbers of any library
    plain = _plain(value)
    if isinstance(plain, bool) or not isinstance(plain, numbers.Real):
        message = f"metric {name!r} must be a number, not {type(value).__name__}: {value!r}"
        raise TypeError(message)
    try:
        number = float(plain)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        message = f"metric {name!r} must be a finite number, not {value!r}; leave it out where there is none"
        raise ValueError(message)
    return int(plain) if isinstance(plain, numbers.Integral) else number


def _step(name: str, step: Any) -> int:  # noqa: ANN401 -- integers of any library
    plain = _plain(step)
    if isinstance(plain, bool) or not isinstance(plain, numbers.Integral):
        message = f"the step of metric {name!r} must be an integer, not {type(step).__name__}: {step!r}"
        raise TypeError(message)
    return int(plain)


def _plain(value: Any) -> Any:  # noqa: ANN401 -- numbers of any library
    """Return the Python number in an array or tensor of one element."""
    if isinstance(value, numbers.Real) or not callable(getattr(value, "item", None)):
        return value
    try:
        return value.item()
    except (TypeError, ValueError, RuntimeError):  # it has more than one element
        return value
