"""What Airflow keeps for the project: connections as storage options, and the values of secrets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow.sdk import Connection, Variable
from airflow.sdk.exceptions import AirflowNotFoundException, AirflowRuntimeError
from airflow.sdk.log import mask_secret

from airflow_mlpipe.exceptions import DataError
from airflow_mlpipe.hooks.storage import Fields, options_of, secrets_in
from airflow_mlpipe.resolving.logins import Login

if TYPE_CHECKING:
    from collections.abc import Callable

_PLAIN_FIELDS = ("host", "login", "password", "port", "schema", "uri")


def storage_options(connection_id: str) -> dict[str, Any]:
    """Return the fsspec storage options an Airflow connection stands for.

    Those of ``aws``, ``google_cloud_platform`` and ``wasb`` are read as Airflow's providers read them; the extra field
    ``storage_options`` is taken as it is, and wins. What is secret in them is masked in all logs.

    :raises DataError: if there is no such connection, its ``storage_options`` are no mapping, or it names an identity
        that cannot be said in storage options.
    """
    connection = _connection(connection_id)
    extra = connection.extra_dejson
    given = extra.get("storage_options", {})
    if not isinstance(given, Mapping):
        message = (
            f"storage_options in the extra of connection {connection_id!r} must be a mapping of names to values, as in "
            f'{{"storage_options": {{"anon": false}}}}, not a {type(given).__name__}'
        )
        raise DataError(message)
    texts = {name: getattr(connection, name) or "" for name in ("host", "login", "password")}
    options = options_of(Fields(connection_id, connection.conn_type, **texts, extra=extra))
    options |= {name: _merged(options.get(name), value) for name, value in given.items()}
    for value in secrets_in(options):
        mask_secret(value)
    return options


def login(connection_id: str) -> Login:
    """Return the login that an Airflow connection of type ``docker`` holds, for a registry; its secrets are masked.

    :raises DataError: if there is no such connection.
    """
    connection = _connection(connection_id)
    host = f"{connection.host or ''}:{connection.port}" if connection.port else connection.host or ""
    extra = {name: value for name, value in connection.extra_dejson.items() if isinstance(value, str)}
    for value in (connection.password, extra.get("key")):
        if value:
            mask_secret(value)
    return Login(host, connection.login or "", connection.password or "", extra)


def _merged(ours: object, given: object) -> object:
    """Return what is given; of two mappings, what is given in both wins."""
    return {**ours, **given} if isinstance(ours, Mapping) and isinstance(given, Mapping) else given


def secret(reference: str) -> str:
    """Return the value of ``connection:<id>.<field>`` or ``variable:<key>``, and mask it in all logs.

    A field is ``host``, ``login``, ``password``, ``port``, ``schema``, ``uri`` or a key of the connection's extra.

    :raises DataError: if there is no such connection, field or variable.
    """
    kind, _, name = reference.partition(":")
    value = _variable(name) if kind == "variable" else _field(name)
    mask_secret(value)
    return value


def _connection(connection_id: str) -> Any:  # noqa: ANN401 -- the SDK's Connection
    return _existing(lambda: Connection.get(connection_id), f"Airflow has no connection {connection_id!r}: create it")


def _field(name: str) -> str:
    connection_id, _, field = name.rpartition(".")
    connection = _connection(connection_id)
    if field == "uri":
        return str(connection.get_uri())
    value = getattr(connection, field) if field in _PLAIN_FIELDS else connection.extra_dejson.get(field)
    if value is None:
        message = f"connection {connection_id!r} has no field {field!r}; set it, or name one that is set"
        raise DataError(message)
    return str(value)


def _variable(key: str) -> str:
    return str(_existing(lambda: Variable.get(key), f"Airflow has no variable {key!r}: create it"))


def _existing(get: Callable[[], Any], message: str) -> Any:  # noqa: ANN401 -- whatever Airflow keeps
    """Return what Airflow keeps; what it says of an unknown name differs between its processes."""
    try:
        return get()
    except (AirflowRuntimeError, AirflowNotFoundException, KeyError) as error:
        raise DataError(message) from error
