"""A registry and a Docker engine that speak real HTTP on loopback, with what a test puts into them."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import ssl
import tarfile
import threading
import urllib.parse
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TOKEN = "the-token"
USER, PASSWORD = "ann", "s3cret"
BASIC = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
CHUNKED = {"Transfer-Encoding": "chunked"}
INDEX = "application/vnd.oci.image.index.v1+json"


def digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


@dataclass
class Request:
    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes = b""


@dataclass
class FakeRegistry:
    """Manifests by ``repository:tag``.

    ``wants`` is how it wants to know who asks: ``basic``, ``token``, or not at all; everybody gets a token, and only
    USER's is good for something unless ``anonymous``. ``failures`` are statuses that it answers first.
    """

    manifests: dict[str, bytes] = field(default_factory=dict)
    wants: str = ""
    anonymous: bool = False
    failures: list[int] = field(default_factory=list)
    headless: bool = False
    lying: bool = False
    realm: str = ""
    requests: list[Request] = field(default_factory=list)
    host: str = ""

    def push(self, name: str, content: bytes = b'{"schemaVersion": 2}') -> str:
        self.manifests[name] = content
        return digest(content)

    def answer(self, request: Request) -> tuple[int, dict[str, str], bytes]:
        self.requests.append(request)
        if self.failures:
            return self.failures.pop(0), {}, b""
        if request.path == "/token":
            known = request.headers.get("authorization") == BASIC
            return 200, {}, json.dumps({"token": TOKEN if known or self.anonymous else "for-nothing"}).encode()
        challenge = self._challenge(request.headers.get("authorization", ""))
        if challenge:
            return 401, {"WWW-Authenticate": challenge}, b""
        name = request.path.removeprefix("/v2/").replace("/manifests/", ":")
        if name not in self.manifests:
            return 404, {}, b'{"errors": [{"code": "MANIFEST_UNKNOWN"}]}'
        content = self.manifests[name]
        told = digest(b"something else" if self.lying else content)
        hidden = self.headless and request.method == "HEAD"
        return 200, {"Content-Type": INDEX, **({} if hidden else {"Docker-Content-Digest": told})}, content

    def _challenge(self, given: str) -> str:
        if self.wants == "basic" and given != BASIC:
            return 'Basic realm="here"'
        if self.wants == "token" and given != f"Bearer {TOKEN}":
            realm = self.realm or f"http://{self.host}/token"
            return f'Bearer realm="{realm}",service="the-registry",scope="repository:team/train:pull"'
        return ""


@dataclass
class FakeEngine:
    """Images by name; what it was told to build it has, under the name that was asked for."""

    images: dict[str, str] = field(default_factory=dict)
    registry: FakeRegistry | None = None
    breaks: str = ""
    cuts: bool = False
    contexts: list[dict[str, str]] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    host: str = ""

    def answer(self, request: Request) -> tuple[int, dict[str, str], bytes]:
        self.requests.append(request)
        path = urllib.parse.unquote(request.path)
        if path == "/version":
            return 200, {}, b'{"ApiVersion": "1.45", "MinAPIVersion": "1.24"}'
        if path.endswith("/_ping"):
            return 200, {}, b"OK"
        path = "/" + path.split("/", 2)[2]
        if request.method == "POST" and path == "/build":
            return self._build(request)
        if request.method == "POST" and path.endswith("/push"):
            return self._push(path.removeprefix("/images/").removesuffix("/push"), request)
        name = path.removeprefix("/images/").removesuffix("/json")
        if name in self.images:
            return 200, {}, json.dumps({"Id": self.images[name], "RepoTags": [name]}).encode()
        return 404, {}, b'{"message": "no such image"}'

    def _build(self, request: Request) -> tuple[int, dict[str, str], bytes]:
        with tarfile.open(fileobj=io.BytesIO(request.body)) as tar:
            files = {member.name: tar.extractfile(member).read().decode() for member in tar}
        self.contexts.append(files)
        if self.breaks:
            return (
                200,
                CHUNKED,
                _stream({"stream": "Step 1\n"}, {"stream": "E: no such package\n"}, {"error": self.breaks}),
            )
        if self.cuts:
            return 200, {**CHUNKED, "X-Cut": "yes"}, _stream({"stream": "Step 1\n"})
        self.images[request.query["t"][0]] = digest(request.body)
        return 200, CHUNKED, _stream({"stream": "Step 1\n"}, {"stream": "Successfully built\n"})

    def _push(self, repository: str, request: Request) -> tuple[int, dict[str, str], bytes]:
        name = f"{repository}:{request.query['tag'][0]}"
        self.registry.push(name.partition("/")[2], self.images[name].encode())
        return 200, CHUNKED, _stream({"status": "Pushed"})


def _stream(*answers: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(answer).encode() + b"\r\n" for answer in answers)


@contextmanager
def served(fake: FakeRegistry | FakeEngine, tls: ssl.SSLContext | None = None) -> Iterator[None]:
    """Let a fake answer on a free port of loopback; its ``host`` says where."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one(self) -> None:
            path, _, query = self.path.partition("?")
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Request(self.command, path, urllib.parse.parse_qs(query), headers, self._body(headers))
            status, answered, body = fake.answer(request)
            self.send_response(status)
            for name, value in answered.items():
                self.send_header(name, value)
            if "Transfer-Encoding" in answered:
                body = b"".join(b"%x\r\n%b\r\n" % (len(line), line) for line in [*body.splitlines(keepends=True), b""])
            else:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body.removesuffix(b"0\r\n\r\n") if "X-Cut" in answered else body)
            self.close_connection = self.close_connection or "X-Cut" in answered

        def _body(self, headers: dict[str, str]) -> bytes:
            if headers.get("transfer-encoding") != "chunked":
                return self.rfile.read(int(headers.get("content-length", 0)))
            chunks = []
            while size := int(self.rfile.readline(), 16):
                chunks.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(chunks)

        do_GET = do_HEAD = do_POST = handle_one  # noqa: N815 -- http.server calls them so

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    fake.host = f"127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def authority(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """Return what a server on loopback needs to speak TLS, and the certificate that whoever trusts it has."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "an authority of our own")])
    now = datetime.now(timezone.utc)
    loopback = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(loopback, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate, secret = folder / "ca.pem", folder / "key.pem"
    certificate.write_bytes(made.public_bytes(Encoding.PEM))
    secret.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, secret)
    return context, certificate
