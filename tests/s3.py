"""An S3 server on loopback for tests, and a network between it and its clients that counts, slows down and breaks.

::

    with s3_server() as server, server.network() as network:
        store = Store.open(server.url("store"), network.options)
        with network.counting() as seen:
            store.read("a")
        assert seen == {"GET": 1}
        network.fail(share=0.05, seed=1)

The server is moto's, in a process of its own; it honours conditional writes.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import random
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qs, urlsplit

import pytest

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator, Mapping
    from concurrent.futures import Future

    from typing_extensions import Self

T = TypeVar("T")

KEY, SECRET, REGION = "loopback-access-key", "loopback-secret-key", "us-east-1"
_CODES = {500: "InternalError", 503: "SlowDown", 409: "ConditionalRequestConflict"}


_SERVE = """
import sys, threading
from moto.s3.responses import S3Response
from moto.server import main

put, alone = S3Response.put_object, threading.Lock()

def put_alone(self):
    with alone:
        return put(self)

S3Response.put_object = put_alone
main(sys.argv[1:])
"""
"""moto looks whether an object is there and then writes it, in threads: only one at a time is what S3 promises."""


@dataclass(frozen=True)
class Request:
    """One request that reached the network: ``kind`` is its method, or ``LIST``; ``key`` is empty for the bucket."""

    kind: str
    bucket: str
    key: str
    prefix: str = ""


@dataclass
class Server:
    """A running server with one bucket, and its address."""

    host: str
    port: int
    bucket: str

    @property
    def options(self) -> dict[str, Any]:
        """Storage options that lead to the server itself."""
        return _options(self.port, self.host)

    def url(self, path: str) -> str:
        """Return the URL of a path in the bucket."""
        return f"s3://{self.bucket}/{path}"

    def fresh(self) -> str:
        """Return the URL of a place that nobody has used."""
        return self.url(uuid.uuid4().hex)

    def network(self) -> Network:
        """Return a way to the server that can be watched and broken, to be used in a ``with`` block."""
        return Network(self.port, self.host)

    def connection(self, options: Mapping[str, Any] | None = None) -> str:
        """Return an Airflow connection as ``AIRFLOW_CONN_...`` holds it.

        :param options: of a network in between.
        """
        endpoint = (options or self.options)["endpoint_url"]
        extra = {"endpoint_url": endpoint, "region_name": REGION}
        return json.dumps({"conn_type": "aws", "login": KEY, "password": SECRET, "extra": extra})


@contextlib.contextmanager
def s3_server(bucket: str = "bucket") -> Iterator[Server]:
    """Start a server of its own, empty but for one bucket; it ends with the block.

    Skips the test where that is not installed, or fails it where ``MLPIPE_REQUIRE`` names s3. Pods reach it at
    ``MLPIPE_TEST_HOST_ADDRESS``, the address that this machine has for them.
    """
    _see_that_it_is_installed()
    port = _free_port()
    host = os.environ.get("MLPIPE_TEST_HOST_ADDRESS", "127.0.0.1")
    command = [sys.executable, "-c", _SERVE, "-H", _listens(host), "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            _wait_for(port, process)
            _make_bucket(port, bucket)
            yield Server(host, port, bucket)
        finally:
            process.kill()


def _see_that_it_is_installed() -> None:
    missing = [name for name in ("moto", "flask", "s3fs") if not find_spec(name)]
    if missing and "s3" in os.environ.get("MLPIPE_REQUIRE", "").split(","):
        pytest.fail(f"MLPIPE_REQUIRE names s3, but {', '.join(missing)} is not installed", pytrace=False)
    if missing:
        pytest.skip(f"s3: {', '.join(missing)} is not installed")


def _options(port: int, host: str = "127.0.0.1") -> dict[str, Any]:
    endpoint = f"http://{host}:{port}"
    return {"key": KEY, "secret": SECRET, "endpoint_url": endpoint, "client_kwargs": {"region_name": REGION}}


def _listens(host: str) -> str:
    return host if host == "127.0.0.1" else "0.0.0.0"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    message = f"no S3 server came up at port {port}; see what `python -m moto.server -p {port}` says"
    raise RuntimeError(message)


def _make_bucket(port: int, bucket: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("PUT", f"/{bucket}", headers={"Host": f"127.0.0.1:{port}", "Authorization": _SIGNED})
    assert connection.getresponse().status == 200
    connection.close()


_SIGNED = f"AWS4-HMAC-SHA256 Credential={KEY}/20250101/{REGION}/s3/aws4_request, SignedHeaders=host, Signature=0"


@dataclass
class _Faults:
    latency: float = 0.0
    share: float = 0.0
    statuses: tuple[int, ...] = (500, 503)
    kinds: frozenset[str] = frozenset()
    cut: float = 0.0
    conditions: bool = True
    lose: int = 0
    held: str = ""
    healed: asyncio.Event = field(default_factory=asyncio.Event)
    refuse_next: list[int] = field(default_factory=list)


class Network:
    """Carries requests to a server, and does what tests ask of it; used in a ``with`` block.

    Its faults hold until `heal`. What it decides by chance follows from the seed and the order of the requests.
    """

    def __init__(self, target: int, host: str = "127.0.0.1") -> None:
        self._target = target
        self._host = host
        self._faults = _Faults()
        self._chance = random.Random(0)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="network", daemon=True)
        self._open = asyncio.Event()
        self._listener: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self.port = 0
        self.requests: list[Request] = []
        """All requests so far, in the order in which they came."""

    def __enter__(self) -> Self:
        self._thread.start()
        self._open.set()
        self._do(self._listen())
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def options(self) -> dict[str, Any]:
        """Storage options that lead through the network."""
        return _options(self.port, self._host)

    @contextlib.contextmanager
    def counting(self) -> Iterator[Counter[str]]:
        """Count the requests of a block by kind; the counter is filled when it ends."""
        seen: Counter[str] = Counter()
        before = len(self.requests)
        yield seen
        seen.update(request.kind for request in self.requests[before:])

    def slow_down(self, latency: float) -> None:
        """Let every answer take so many seconds longer."""
        self._faults.latency = latency

    def fail(
        self, share: float, seed: int = 0, statuses: tuple[int, ...] = (500, 503), kinds: frozenset[str] = frozenset()
    ) -> None:
        """Answer a share of the requests with an error instead of passing them on.

        :param kinds: only those; all, if empty.
        """
        self._chance.seed(seed)
        self._faults.share, self._faults.statuses, self._faults.kinds = share, statuses, kinds

    def fail_next(self, *statuses: int) -> None:
        """Answer the next requests with these errors, one each."""
        self._faults.refuse_next.extend(statuses)

    def cut(self, share: float, seed: int = 0) -> None:
        """Break off a share of the bodies that are read half-way."""
        self._chance.seed(seed)
        self._faults.cut = share

    def lose_answers(self, count: int) -> None:
        """Pass the next requests that write on, and drop the connection instead of the answer."""
        self._faults.lose = count

    def ignore_conditions(self) -> None:
        """Be a server that accepts conditional writes and ignores the condition."""
        self._faults.conditions = False

    def hold(self, words: str) -> None:
        """Neither pass on nor answer what writes an object whose key holds some words, until `heal`."""
        self._faults.held = words

    def held(self) -> bool:
        """Say whether something has come that is held."""
        words = self._faults.held
        return bool(words) and any(request.kind == "PUT" and words in request.key for request in self.requests)

    def stall(self) -> None:
        """Answer nothing any more, and keep all connections open, until `heal`."""
        self._loop.call_soon_threadsafe(self._open.clear)

    def stop(self) -> None:
        """Drop all connections and refuse new ones, until `heal`."""
        self._do(self._close())

    def heal(self) -> None:
        """End all faults."""
        self._loop.call_soon_threadsafe(self._faults.healed.set)
        self._faults = _Faults()
        self._loop.call_soon_threadsafe(self._open.set)
        if self._listener is None:
            self._do(self._listen())

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        future: Future[T] = asyncio.run_coroutine_threadsafe(work, self._loop)
        return future.result(30)

    async def _listen(self) -> None:
        self._listener = await asyncio.start_server(
            self._accept, _listens(self._host), self.port, limit=1 << 20, backlog=512
        )
        self.port = self._listener.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        if self._listener:
            self._listener.close()
            self._listener = None
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        upstream = _Upstream(self._target)
        try:
            while await self._exchange(reader, writer, upstream):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._connections.discard(task)
            upstream.close()
            writer.transport.abort()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, upstream: _Upstream) -> bool:
        """Carry one request and its answer; return whether the connection goes on."""
        head = await _read_head(reader)
        if head is None:
            return False
        if head.header("expect"):
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = await _read_body(reader, head)
        request = _request_of(head)
        self.requests.append(request)
        faults = self._faults
        if faults.latency:
            await asyncio.sleep(faults.latency)
        await self._open.wait()
        if faults.held and faults.held in request.key and request.kind == "PUT":
            await faults.healed.wait()
        if status := self._refusal(request):
            writer.write(_error(status, with_body=request.kind != "HEAD"))
            await writer.drain()
            return True
        answer, content = await upstream.send(head.without("expect", *_conditions(faults)), body, request.kind)
        if faults.lose and request.kind in {"PUT", "POST", "DELETE"}:
            faults.lose -= 1
            return False
        cut = bool(request.kind == "GET" and faults.cut and content and self._chance.random() < faults.cut)
        writer.write(answer.encoded() + (content[: len(content) // 2] if cut else content))
        await writer.drain()
        return not cut

    def _refusal(self, request: Request) -> int | None:
        faults = self._faults
        if faults.refuse_next:
            return faults.refuse_next.pop(0)
        wanted = not faults.kinds or request.kind in faults.kinds
        if faults.share and wanted and self._chance.random() < faults.share:
            return self._chance.choice(faults.statuses)
        return None


def _conditions(faults: _Faults) -> tuple[str, ...]:
    return () if faults.conditions else ("if-none-match", "if-match")


@dataclass(frozen=True)
class _Head:
    first: str
    headers: tuple[tuple[str, str], ...]

    def header(self, name: str) -> str:
        return next((value for key, value in self.headers if key.lower() == name), "")

    def without(self, *names: str) -> _Head:
        return _Head(self.first, tuple((key, value) for key, value in self.headers if key.lower() not in names))

    def encoded(self) -> bytes:
        lines = [self.first, *(f"{key}: {value}" for key, value in self.headers)]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")


class _Upstream:
    """A connection to the server, made again whenever it has ended."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def send(self, head: _Head, body: bytes, kind: str) -> tuple[_Head, bytes]:
        for fresh in (False, True):
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                if fresh or self._streams is None:
                    self._streams = await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 20)
                return await self._send(*self._streams, head, body, kind)
        message = "the server itself does not answer"
        raise ConnectionError(message)

    async def _send(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: _Head, body: bytes, kind: str
    ) -> tuple[_Head, bytes]:
        plain = head.without("transfer-encoding", "content-length")
        sized = _Head(plain.first, (*plain.headers, ("Content-Length", str(len(body)))))
        writer.write(sized.encoded() + body)
        await writer.drain()
        answer = await _read_head(reader)
        if answer is None:
            raise ConnectionResetError
        empty = kind == "HEAD" or answer.first.split(" ")[1] in {"204", "304"}
        content = b"" if empty else await _read_body(reader, answer, to_end=True)
        if answer.header("connection").lower() == "close":
            self.close()
        if empty:
            return answer.without("connection"), b""
        plain = answer.without("transfer-encoding", "content-length", "connection")
        return _Head(plain.first, (*plain.headers, ("Content-Length", str(len(content))))), content

    def close(self) -> None:
        if self._streams:
            self._streams[1].close()
            self._streams = None


async def _read_head(reader: asyncio.StreamReader) -> _Head | None:
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = raw.decode("latin-1").rstrip("\r\n").split("\r\n")
    return _Head(first, tuple((key, value.strip()) for key, _, value in (line.partition(":") for line in lines)))


async def _read_body(reader: asyncio.StreamReader, head: _Head, *, to_end: bool = False) -> bytes:
    if "chunked" in head.header("transfer-encoding"):
        chunks = []
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            chunks.append(await reader.readexactly(size))
            await reader.readexactly(2)
        await reader.readuntil(b"\r\n")
        return b"".join(chunks)
    length = head.header("content-length")
    if not length and to_end:
        return await reader.read()
    return await reader.readexactly(int(length or 0))


def _request_of(head: _Head) -> Request:
    method, target, _ = head.first.split(" ")
    split = urlsplit(target)
    query = parse_qs(split.query, keep_blank_values=True)
    bucket, _, key = split.path.lstrip("/").partition("/")
    kind = "LIST" if method == "GET" and not key else method
    return Request(kind, bucket, key, query.get("prefix", [""])[0])


def _error(status: int, *, with_body: bool) -> bytes:
    code = _CODES.get(status, "Error")
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>as the test wants it</Message></Error>".encode()
    head = _Head(f"HTTP/1.1 {status} {code}", (("Content-Type", "application/xml"), ("Content-Length", str(len(body)))))
    return head.encoded() + (body if with_body else b"")
