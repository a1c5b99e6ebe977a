"""Asks a registry which digest a tag has: the HTTP API v2 of registries, and the ways they ask for a login."""

from __future__ import annotations

import hashlib
import re
import ssl
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow_mlpipe.exceptions import ImageUnknownError
from airflow_mlpipe.resolving.imagenames import DOCKER_HUB, is_loopback, normal_host

if TYPE_CHECKING:
    import httpx

    from airflow_mlpipe.resolving.imagenames import ImageName
    from airflow_mlpipe.resolving.logins import Login

_MANIFESTS = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
_HUB_API = "registry-1.docker.io"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")
_FIELD = re.compile(r'(\w+)="([^"]*)"')
_PAUSES = (0.3, 1.0)
"""Seconds before a request that failed is made again."""
_CONNECT, _ANSWER = 10.0, 20.0
"""Seconds until a registry must have taken a connection, and given an answer."""
_LARGEST = 8 << 20
_BUSY = (429, 500, 502, 503, 504)
_HIDDEN = (401, 403)
_ABSENT = 404
_OK = 200
_NOT_BY_HEAD = (400, 405, 501)


def digest_of(image: ImageName, login: Login | None = None) -> str:
    """Return the digest that the tag of an image has now, ``sha256:...``.

    That of an image for several machines is the digest of its index.

    :param login: for that very registry; nobody is asked for one.
    :raises ImageUnknownError: if the registry does not answer, has no such image, or does not show it.
    """
    import httpx  # noqa: PLC0415 -- a quarter of a second, for those who have containers

    scheme = _scheme(image.registry, login)
    with httpx.Client(
        timeout=httpx.Timeout(_ANSWER, connect=_CONNECT),
        follow_redirects=True,
        trust_env=not is_loopback(image.registry),  # no proxy leads to this machine
        verify=_certificates() if scheme == "https" else True,
    ) as client:
        try:
            return _Asking(client, scheme, image, login).digest()
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            words = str(error) or type(error).__name__
            message = f"the registry {image.registry} cannot be reached for {image}: {words}"
            raise ImageUnknownError(message) from error


def _scheme(host: str, login: Login | None) -> str:
    """Return https; http for a registry on this machine, and where its connection says so."""
    if login and "://" in login.host and normal_host(login.host) == host:
        return "http" if login.host.lower().startswith("http://") else "https"
    return "http" if is_loopback(host) else "https"


def _certificates() -> ssl.SSLContext:
    """Trust what this machine trusts, companies' own authorities too, and what comes with Python's packages."""
    import certifi  # noqa: PLC0415 -- comes with httpx

    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context


@dataclass
class _Asking:
    client: httpx.Client
    scheme: str
    image: ImageName
    login: Login | None
    _headers: dict[str, str] = field(default_factory=lambda: {"Accept": ", ".join(_MANIFESTS)})
    _auth: httpx.BasicAuth | None = None

    def digest(self) -> str:
        answer = self._ask("HEAD")
        if answer.status_code == _OK and _DIGEST.match(told := answer.headers.get("Docker-Content-Digest", "")):
            return str(told)
        if answer.status_code == _OK or answer.status_code in _NOT_BY_HEAD:
            answer = self._ask("GET")
        self._check(answer)
        return self._digest_of_content(answer)

    def _digest_of_content(self, answer: httpx.Response) -> str:
        digest = "sha256:" + hashlib.sha256(answer.content).hexdigest()
        told = answer.headers.get("Docker-Content-Digest", digest)
        if told != digest or len(answer.content) > _LARGEST:
            message = f"the registry {self.image.registry} gives {self.image} another digest than it says: {told}"
            raise ImageUnknownError(message)
        return digest

    def _ask(self, method: str) -> httpx.Response:
        """Ask for the manifest; where the registry wants to know who asks, say so and ask again."""
        host = _HUB_API if self.image.registry == DOCKER_HUB else self.image.registry
        url = f"{self.scheme}://{host}/v2/{self.image.repository}/manifests/{self.image.tag or self.image.digest}"
        answer = self._send(method, url)
        if answer.status_code in _HIDDEN and self._authorise(answer):
            answer = self._send(method, url)
        return answer

    def _send(self, method: str, url: str, params: dict[str, str] | None = None) -> httpx.Response:
        import httpx  # noqa: PLC0415 -- see `digest_of`

        for pause in (*_PAUSES, None):
            try:
                answer = self.client.request(method, url, headers=self._headers, auth=self._auth, params=params)
                if answer.status_code not in _BUSY or pause is None:
                    return answer
            except httpx.TransportError as error:
                if pause is None or isinstance(error, httpx.TimeoutException):
                    raise
            time.sleep(pause)
        raise AssertionError

    def _authorise(self, answer: httpx.Response) -> bool:
        """Do what the registry asks for to know who asks; say whether there is something to be done."""
        import httpx  # noqa: PLC0415 -- see `digest_of`

        basic = httpx.BasicAuth(self.login.username, self.login.password) if self.login else None
        for challenge in answer.headers.get_list("WWW-Authenticate"):
            kind, _, rest = challenge.partition(" ")
            if kind.lower() == "bearer":
                return self._take_token(dict(_FIELD.findall(rest)), basic)
            if kind.lower() == "basic" and basic is not None:
                self._auth = basic
                return True
        return False

    def _take_token(self, asked: dict[str, str], basic: httpx.BasicAuth | None) -> bool:
        realm = asked.get("realm", "")
        if not realm.startswith("https://") and self.scheme == "https":
            message = f"the registry {self.image.registry} sends logins to {realm or 'nowhere'}, which is not safe"
            raise ImageUnknownError(message)
        scope = asked.get("scope") or f"repository:{self.image.repository}:pull"
        params = {"scope": scope, **({"service": asked["service"]} if "service" in asked else {})}
        self._auth = basic
        answer = self._send("GET", realm, params)
        self._auth = None
        if answer.status_code in _BUSY:
            self._check(answer)
        token = _token_in(answer) if answer.status_code == _OK else None
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        return bool(token)

    def _check(self, answer: httpx.Response) -> None:
        """Make sure that a registry gave the manifest.

        :raises ImageUnknownError: if it did not.
        """
        status, registry = answer.status_code, self.image.registry
        if status == _OK:
            return
        if status == _ABSENT:
            message = f"the registry {registry} has no image {self.image}: correct its name, or push it"
            raise ImageUnknownError(message, absent=True)
        if status in _HIDDEN:
            remedy = (
                "correct the login of the connection" if self.login else "name a connection with a login as registry"
            )
            message = (
                f"the registry {registry} does not show {self.image} (HTTP {status}): correct its name, or {remedy}"
            )
            raise ImageUnknownError(message, absent=True)
        message = f"the registry {registry} does not say which image {self.image} is: it answers HTTP {status}"
        raise ImageUnknownError(message)


def _token_in(answer: httpx.Response) -> str | None:
    try:
        data = answer.json()
    except ValueError:
        return None
    token = (data.get("token") or data.get("access_token")) if isinstance(data, dict) else None
    return token if isinstance(token, str) else None
