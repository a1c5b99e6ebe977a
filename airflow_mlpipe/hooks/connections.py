"""What Airflow keeps for the project: connections as storage options, and the values of secrets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import Connection, Variable
from airflow.sdk.exceptions import AirflowNotFoundException, AirflowRuntimeError
from airflow.sdk.log import mask_secret

from airflow_mlpipe.exceptions import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_S3 = {"login": "key", "password": "secret"}
_AZURE = {"login": "account_name", "password": "account_key"}
_FIELDS_BY_TYPE: Mapping[str, Mapping[str, str]] = {"aws": _S3, "s3": _S3, "wasb": _AZURE, "azure": _AZURE}
_PLAIN_FIELDS = ("host", "login", "password", "port", "schema", "uri")


def storage_options(connection_id: str) -> dict[str, Any]:
    """Return the fsspec storage options an Airflow connection stands for.

    The extra field ``storage_options`` is taken as it is; login and password are added under the names that the
    connection's type uses, and ``endpoint_url`` of an S3 connection where fsspec expects it.

    :raises DataError: if there is no such connection.
    """
    connection = _connection(connection_id)
    extra = connection.extra_dejson
    options: dict[str, Any] = {}
    for attribute, option in _FIELDS_BY_TYPE.get(connection.conn_type, {}).items():
        if value := getattr(connection, attribute):
            options[option] = value
    if connection.conn_type in {"aws", "s3"} and (endpoint := extra.get("endpoint_url")):
        options["client_kwargs"] = {"endpoint_url": endpoint}
    return {**options, **extra.get("storage_options", {})}


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
