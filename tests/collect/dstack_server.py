"""A dstack guest agent on a real unix socket: both interfaces, as rpc_service.rs has them.

GetQuote fills REPORTDATA up with zeros; TdxQuote hashes it unless ``hash_algorithm`` is ``raw``;
errors are ``{"error": …}`` with status 400.
"""

from __future__ import annotations

import hashlib
import json
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from kernel_tsm import quote_over
from tdx_asks import template

LOG = [
    {
        "imr": 3,
        "event_type": 134217729,
        "digest": "00" * 48,
        "event": "app-id",
        "event_payload": "ab",
    }
]
Misbehaviour = Callable[["Handler"], None]


def app_data(report_data: bytes) -> bytes:
    """What every version of tappd does if it is not told ``raw``."""
    return hashlib.sha512(b"app-data:" + report_data).digest()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        agent = self.server.agent
        agent.requests.append((self.path, request))
        if agent.misbehaviour is not None:
            agent.misbehaviour(self)
            return
        method = urlsplit(self.path).path
        answers = agent.tappd if agent.is_tappd else agent.dstack
        if method not in answers:
            self.answer(404, b"<!DOCTYPE html>", "text/html")
            return
        try:
            body = answers[method](request)
        except ValueError as problem:
            self.answer(400, json.dumps({"error": str(problem)}).encode())
            return
        self.answer(200, json.dumps(body).encode())

    def answer(self, status: int, body: bytes, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "unix"

    def log_message(self, *_: Any) -> None:
        pass


class Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    block_on_close = False
    agent: Agent

    def handle_error(self, *_: Any) -> None:
        """A client that went away."""


class Agent:
    """What is running: set `misbehaviour`, `only_hashes`; read `requests`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.is_tappd = "tappd" in path.name
        self.only_hashes = False
        self.tcb_info: Any = json.dumps({"mrtd": "00" * 48, "event_log": LOG}, indent=2)
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.misbehaviour: Misbehaviour | None = None
        self.stop = threading.Event()
        self.dstack = {"/GetQuote": self.get_quote, "/Info": self.info}
        self.tappd = {"/prpc/Tappd.TdxQuote": self.tdx_quote, "/prpc/Tappd.Info": self.info}

    def get_quote(self, request: dict[str, Any]) -> dict[str, Any]:
        report_data = bytes.fromhex(request["report_data"])
        if len(report_data) > 64:
            raise ValueError("Report data is too long")
        report_data = report_data.ljust(64, b"\0")
        if self.only_hashes:
            report_data = app_data(report_data)
        return {
            "quote": quote_over(template(), report_data).hex(),
            "event_log": json.dumps(LOG),
            "report_data": report_data.hex(),
            "vm_config": "{}",
        }

    def tdx_quote(self, request: dict[str, Any]) -> dict[str, Any]:
        report_data = bytes.fromhex(request["report_data"])
        raw = request.get("hash_algorithm") == "raw" and not self.only_hashes
        if raw and len(report_data) != 64:
            raise ValueError("invalid data length")
        return {
            "quote": quote_over(template(), report_data if raw else app_data(report_data)).hex(),
            "event_log": json.dumps(LOG),
            "hash_algorithm": "raw" if raw else "sha512",
            "prefix": "" if raw else "app-data",
        }

    def info(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"app_id": "ab" * 20, "app_name": "äpp", "tcb_info": self.tcb_info}


@contextmanager
def serve(path: Path) -> Iterator[Agent]:
    path.parent.mkdir(parents=True, exist_ok=True)
    server = Server(str(path), Handler)
    server.agent = Agent(path)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.agent
    finally:
        server.agent.stop.set()
        server.shutdown()
        thread.join()
        server.server_close()


# --- misbehaviour --------------------------------------------------------------------------------


def hang(handler: Handler) -> None:
    handler.server.agent.stop.wait(20)


def drip(handler: Handler) -> None:
    """Send a byte now and then; each comes soon enough, the whole never."""
    handler.send_response(200)
    handler.send_header("Content-Length", "100000")
    handler.end_headers()
    while not handler.server.agent.stop.wait(0.01):
        handler.wfile.write(b" ")
        handler.wfile.flush()


def drip_headers(handler: Handler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    while not handler.server.agent.stop.wait(0.01):
        handler.wfile.write(b"X: 1\r\n")
        handler.wfile.flush()


def flood(handler: Handler) -> None:
    handler.send_response(200)
    handler.end_headers()
    while not handler.server.agent.stop.is_set():
        handler.wfile.write(b"[" * 65536)


def truncate(handler: Handler) -> None:
    body = json.dumps(handler.server.agent.info({})).encode()
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(body) + 1))
    handler.end_headers()
    handler.wfile.write(body)
    handler.close_connection = True


def hang_up(handler: Handler) -> None:
    handler.close_connection = True


def reply(body: bytes, status: int = 200) -> Misbehaviour:
    return lambda handler: handler.answer(status, body)


def raw(data: bytes) -> Misbehaviour:
    def send(handler: Handler) -> None:
        handler.wfile.write(data)
        handler.close_connection = True

    return send
