"""Amounts of memory, of processors and of devices, as Kubernetes writes them."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, TypeAlias

from pydantic import AfterValidator, BeforeValidator

from airflow_mlpipe.definitions.faults import nearest, refuse

_AMOUNT = re.compile(r"(?P<number>\d{1,18}(?:\.\d{1,9})?)(?P<unit>[A-Za-z]*)\Z")
_BYTES: dict[str, int] = {
    "": 1,
    **{unit: 1000**power for power, unit in enumerate("kMGTPE", start=1)},
    **{f"{unit}i": 1024**power for power, unit in enumerate("KMGTPE", start=1)},
}
_FRACTIONS = {"n": Decimal(10) ** -9, "u": Decimal(10) ** -6, "m": Decimal(10) ** -3}
_BYTES_REMEDY = 'Write a number and a unit: "512Mi", "4Gi" or "4G"'
_CPUS_REMEDY = 'Write a number such as 2 or 0.5, or thousandths such as "500m"'


def memory_bytes(amount: str) -> int:
    """Return how many bytes an amount such as ``4Gi`` is.

    :raises Refused: (a ValueError) if it is none, or not more than 0.
    """
    found = _AMOUNT.match(amount)
    if found is None or found["unit"] not in _BYTES:
        message = "is no amount of memory"
        raise refuse(message, _meant(amount, found) or _BYTES_REMEDY, amount)
    size = int(Decimal(found["number"]) * _BYTES[found["unit"]])
    if size <= 0:
        message = "must be more than 0"
        raise refuse(message, _BYTES_REMEDY, amount)
    return size


def _meant(amount: str, found: re.Match[str] | None) -> str:
    """Say which unit was meant; ``512m`` would be half a byte, and Docker's own way to write 512 MiB."""
    unit = {"m": "Mi", "kb": "k", "mb": "M", "gb": "G", "tb": "T", "kib": "Ki", "mib": "Mi", "gib": "Gi", "tib": "Ti"}
    unit |= {"g": "Gi", "t": "Ti", "K": "Ki", "KB": "k"}
    if found is None:
        return ""
    near = unit.get(found["unit"]) or unit.get(found["unit"].lower()) or nearest(found["unit"], list(_BYTES)[1:])
    return f'Did you mean "{found["number"]}{near}"?' if near else f"Give the amount as {amount.strip()}Mi or Gi"


def cpu_count(amount: str | float) -> float:
    """Return how many processors ``2``, ``0.5`` or ``500m`` are.

    :raises Refused: (a ValueError) if it is none of these, or not more than 0.
    """
    found = _AMOUNT.match(str(amount))
    if isinstance(amount, bool) or found is None or found["unit"] not in {"", "m"}:
        message = "is no number of processors"
        raise refuse(message, _CPUS_REMEDY, amount)
    count = float(Decimal(found["number"]) * _FRACTIONS.get(found["unit"], 1))
    if count <= 0:
        message = "must be more than 0"
        raise refuse(message, _CPUS_REMEDY, amount)
    return count


def amount_of(quantity: str) -> Decimal:
    """Return a Kubernetes quantity as a number.

    :raises Refused: (a ValueError) if it is none.
    """
    found = _AMOUNT.match(quantity)
    units: dict[str, int | Decimal] = {**_BYTES, **_FRACTIONS}
    if found is None or found["unit"] not in units:
        message = "is no quantity"
        raise refuse(message, _meant(quantity, found) or 'Write it as Kubernetes does: 2, "500m", "4Gi"', quantity)
    return Decimal(found["number"]) * units[found["unit"]]


def _as_written(value: object) -> object:
    """Take a number as it is written."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    return str(getattr(value, "text", value))


def _memory(value: str) -> str:
    memory_bytes(value)
    return value


def _quantity(value: str) -> str:
    amount_of(value)
    return value


def _cpus(value: object) -> object:
    return cpu_count(value) if isinstance(value, str | int | float) else value


Memory: TypeAlias = Annotated[
    str, BeforeValidator(_as_written, json_schema_input_type=str | int), AfterValidator(_memory)
]
"""An amount of memory, such as `4Gi`."""
Cpus: TypeAlias = Annotated[float, BeforeValidator(_cpus, json_schema_input_type=float | str)]
"""A number of processors: `2`, `0.5`, `500m`."""
Quantity: TypeAlias = Annotated[
    str, BeforeValidator(_as_written, json_schema_input_type=str | int | float), AfterValidator(_quantity)
]
"""A Kubernetes quantity: `2`, `500m`, `4Gi`."""
