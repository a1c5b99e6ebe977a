"""What an Airflow connection says of a registry or an engine; whoever can ask Airflow hands over a function."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from airflow_mlpipe.exceptions import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass(frozen=True)
class Login:
    """The host of a registry, and who asks there. ``extra`` holds further texts, such as certificates of an engine.

    What is secret is shown nowhere.
    """

    host: str = ""
    username: str = ""
    password: str = field(default="", repr=False)
    extra: Mapping[str, str] = field(default_factory=dict, repr=False)


LoginOf: TypeAlias = "Callable[[str], Login]"
"""Gives what the Airflow connection with an id says."""


def no_logins(connection: str) -> Login:
    """Refuse a connection, outside Airflow.

    :raises DataError: always; whoever can ask Airflow gives another function.
    """
    message = f"connection {connection!r} is kept by Airflow, which this command does not ask"
    raise DataError(message)
