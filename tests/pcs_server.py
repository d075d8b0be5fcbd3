"""A provisioning certification service on 127.0.0.1 that behaves, or misbehaves, as told.

It also plays a forward proxy: a request with an absolute URL is recorded as it came and is
answered by the path in it.
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from ccverify.sim import Collateral

TCB = "/tdx/certification/v4/tcb"
QE = "/tdx/certification/v4/qe/identity"
PCK_CRL = "/sgx/certification/v4/pckcrl"
ROOT_CRL = "/sgx/certification/v4/rootcacrl"
PATHS = {"tcb_info": TCB, "qe_identity": QE, "pck_crl": PCK_CRL, "root_ca_crl": ROOT_CRL}


@dataclass(frozen=True)
class Reply:
    """An answer; Content-Length is added unless `headers` has its own."""

    body: bytes = b""
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()

    def __call__(self, handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(self.status)
        for name, value in self.headers:
            handler.send_header(name, value)
        if not any(name.lower() == "content-length" for name, _ in self.headers):
            handler.send_header("Content-Length", str(len(self.body)))
        handler.end_headers()
        handler.wfile.write(self.body)


Behaviour = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class Pcs:
    """The running service: set `routes`, read `requests`."""

    url: str
    routes: dict[str, Behaviour | list[Behaviour]]
    stop: threading.Event
    requests: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    """What was POSTed."""

    @property
    def paths(self) -> list[str]:
        """The paths asked for, without queries, in no order that means anything."""
        return [urlsplit(request).path for request in self.requests]

    def count(self, path: str) -> int:
        return self.paths.count(path)


def replies(collateral: Collateral) -> dict[str, Behaviour | list[Behaviour]]:
    """Return the routes that serve simulated collateral as the real service does."""
    return {
        PATHS[name]: Reply(response.body, headers=response.headers)
        for name, response in collateral.pcs_responses().items()
    }


def sequence(*behaviours: Behaviour) -> list[Behaviour]:
    """Answer the first request by the first one, and so on; the last one stays."""
    return list(behaviours)


def hang(handler: BaseHTTPRequestHandler) -> None:
    """Send nothing at all until the test is over."""
    _stop(handler).wait(20)


def drip(handler: BaseHTTPRequestHandler) -> None:
    """Send a body one byte at a time, for ever; each byte comes soon enough."""
    handler.send_response(200)
    handler.send_header("Content-Length", "100000")
    handler.end_headers()
    while not _stop(handler).wait(0.02):
        handler.wfile.write(b" ")
        handler.wfile.flush()


def drip_headers(handler: BaseHTTPRequestHandler) -> None:
    """Send one header line after the other, for ever."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    while not _stop(handler).wait(0.02):
        handler.wfile.write(b"X-Filler: 1\r\n")
        handler.wfile.flush()


def flood(handler: BaseHTTPRequestHandler) -> None:
    """Send a body without end and without a length."""
    handler.send_response(200)
    handler.end_headers()
    block = b"[" * 65536
    while not _stop(handler).is_set():
        handler.wfile.write(block)


def hang_up(handler: BaseHTTPRequestHandler) -> None:
    """Close the connection without an answer."""
    handler.close_connection = True


def truncated(body: bytes, headers: Iterable[tuple[str, str]] = ()) -> Behaviour:
    """Promise more than is sent, then close the connection."""
    return Reply(body, headers=(*headers, ("Content-Length", str(len(body) + 100))))


def _stop(handler: BaseHTTPRequestHandler) -> threading.Event:
    return handler.server.pcs.stop  # type: ignore[attr-defined, no-any-return]


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        pcs: Pcs = self.server.pcs  # type: ignore[attr-defined]
        pcs.requests.append(self.path)
        pcs.headers.append({name.lower(): value for name, value in self.headers.items()})
        self.close_connection = True
        behaviour = pcs.routes.get(urlsplit(self.path).path, Reply(b"no such path", 404))
        if isinstance(behaviour, list):
            behaviour = behaviour.pop(0) if len(behaviour) > 1 else behaviour[0]
        behaviour(self)

    def do_POST(self) -> None:
        pcs: Pcs = self.server.pcs  # type: ignore[attr-defined]
        self.posted = self.rfile.read(int(self.headers["Content-Length"]))
        pcs.bodies.append(self.posted)
        self.do_GET()

    def do_CONNECT(self) -> None:
        pcs: Pcs = self.server.pcs  # type: ignore[attr-defined]
        pcs.requests.append(f"CONNECT {self.path}")
        Reply(b"no tunnels", 403)(self)

    def log_message(self, *_: Any) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    pcs: Pcs

    def handle_error(self, *_: Any) -> None:
        """A client that went away, which is what many tests make it do."""


@contextmanager
def serve(
    routes: dict[str, Behaviour | list[Behaviour]] | None = None,
    tls: ssl.SSLContext | None = None,
) -> Iterator[Pcs]:
    """Run a service on a free port of 127.0.0.1."""
    server = _Server(("127.0.0.1", 0), _Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    scheme = "http" if tls is None else "https"
    url = f"{scheme}://127.0.0.1:{server.server_address[1]}"
    server.pcs = Pcs(url, dict(routes or {}), threading.Event())
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.pcs
    finally:
        server.pcs.stop.set()
        server.shutdown()
        thread.join()
        server.server_close()
