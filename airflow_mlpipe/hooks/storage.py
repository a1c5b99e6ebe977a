"""The fields of Airflow connections to object stores, as the storage options of fsspec.

The fields are those of Airflow's own providers, which need not be installed. What changes who asks, and cannot be said
in storage options, is refused: nobody shall read or write as somebody else.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_mlpipe.exceptions import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_NO = {"false", "0", "no", "off", "f", "n", ""}
_NOT_S3 = ("role_arn", "assume_role_method", "session_factory")
_NOT_GCS = ("key_secret_name", "impersonation_chain", "credential_config_file", "idp_issuer_url")
_NOT_AZURE = ("managed_identity_client_id", "workload_identity_tenant_id")
_SECRET = {
    "secret",
    "token",
    "account_key",
    "connection_string",
    "sas_token",
    "client_secret",
    "private_key",
    "password",
}


@dataclass(frozen=True)
class Fields:
    """A connection as its type fills it in. Texts are empty where there is nothing."""

    id: str
    kind: str
    host: str = ""
    login: str = ""
    password: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)

    def get(self, *names: str) -> Any:  # noqa: ANN401 -- whatever JSON holds
        """Return the first of some fields of the extra that is set; those of old forms have long names."""
        prefix = f"extra__{self.kind}__"
        found = (self.extra.get(name) or self.extra.get(prefix + name) for name in names)
        return next((value for value in found if value not in (None, "")), None)

    def says(self, name: str) -> bool:
        """Tell whether a field of the extra says yes; in a URI all of them are texts."""
        return str(self.get(name) or "").lower() not in _NO

    def refuse(self, names: tuple[str, ...]) -> None:
        """Refuse fields that name another identity than the storage options would.

        :raises DataError: if one is set, and the storage options are not given instead.
        """
        if "storage_options" in self.extra:
            return
        if given := [name for name in names if self.get(name)]:
            message = (
                f"connection {self.id!r} has {', '.join(given)}, which cannot be turned into storage options of fsspec; "
                'give these in its extra, as in {"storage_options": {...}}, or let the machine have that identity'
            )
            raise DataError(message)


def options_of(fields: Fields) -> dict[str, Any]:
    """Return the storage options a connection stands for; none for a type that is no object store's.

    :raises DataError: if it names an identity that cannot be said in storage options, or what it holds is no JSON.
    """
    make = _KINDS.get(fields.kind)
    return {name: value for name, value in make(fields).items() if value} if make else {}


def secrets_in(options: Mapping[str, Any]) -> list[str]:
    """Return the values of storage options that nobody may see."""
    found: list[str] = []
    for name, value in options.items():
        if isinstance(value, dict):
            found += secrets_in(value)
        elif isinstance(value, str) and name in _SECRET:
            found.append(value)
    return found


def _s3(fields: Fields) -> dict[str, Any]:
    fields.refuse(_NOT_S3)
    service = (fields.get("service_config") or {}).get("s3", {})
    client = {
        "endpoint_url": service.get("endpoint_url") or fields.get("endpoint_url"),
        "region_name": fields.get("region_name"),
        "verify": fields.extra.get("verify"),
    }
    config = dict(fields.get("config_kwargs") or {})
    unsigned = config.pop("signature_version", "") == "unsigned"
    return {
        "key": fields.login or fields.get("aws_access_key_id"),
        "secret": fields.password or fields.get("aws_secret_access_key"),
        "token": fields.get("aws_session_token"),
        "profile": fields.get("profile_name"),
        "anon": unsigned or fields.says("anon"),
        "client_kwargs": {name: value for name, value in client.items() if value is not None},
        "config_kwargs": config,
    }


def _gcs(fields: Fields) -> dict[str, Any]:
    fields.refuse(_NOT_GCS)
    key = fields.get("keyfile_dict")
    if isinstance(key, str):
        try:
            key = json.loads(key)
        except ValueError:  # which holds the text
            message = f"keyfile_dict of connection {fields.id!r} is no JSON; paste the content of the key file there"
            raise DataError(message) from None
    anonymous = "anon" if fields.says("is_anonymous") else None
    return {"token": anonymous or key or fields.get("key_path", "keyfile_path"), "project": fields.get("project")}


def _azure(fields: Fields) -> dict[str, Any]:
    fields.refuse(_NOT_AZURE)
    if connection_string := fields.get("connection_string"):
        return {"connection_string": connection_string}
    address = urlsplit(fields.host if "//" in fields.host else f"//{fields.host}").hostname or ""
    account, _, rest = address.partition(".")
    options = {"account_host": address if rest and not rest.endswith("core.windows.net") else None}
    if tenant := fields.get("tenant_id"):
        who = {"tenant_id": tenant, "client_id": fields.login, "client_secret": fields.password}
        return {**options, "account_name": account, **who}
    options["account_name"] = fields.login or account
    if sas := fields.get("sas_token"):
        return {**options, "sas_token": sas.rpartition("?")[2]}
    if fields.says("public_read") or fields.says("anon"):
        return {**options, "anon": True}
    return {**options, "account_key": fields.password or fields.get("shared_access_key")}


_KINDS: Mapping[str, Callable[[Fields], dict[str, Any]]] = {
    "aws": _s3,
    "s3": _s3,
    "google_cloud_platform": _gcs,
    "wasb": _azure,
    "azure": _azure,
    "adls": _azure,
}
