"""One HTTP request over a unix socket, with one deadline and one limit for all of the answer."""

from __future__ import annotations

import errno
import http.client
import io
import json
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Final, cast

__all__ = ["MAX_ANSWER_BYTES", "HttpProblem", "post_json"]

MAX_ANSWER_BYTES: Final = 8 * 1024 * 1024
"""Of a whole answer, headers included."""
_PAUSE_S: Final = 0.02


class HttpProblem(Exception):
    """The answer is no good HTTP, or too long.  The text says how."""


class _Incoming(io.RawIOBase):
    """What arrives on a socket, until a deadline or a limit is met."""

    def __init__(self, connection: socket.socket, remaining: Callable[[], float], limit: int):
        self._connection = connection
        self._remaining = remaining
        self._left = limit
        self._limit = limit

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._connection.settimeout(_positive(self._remaining()))
        size = self._connection.recv_into(buffer)
        self._left -= size
        if self._left < 0:
            raise HttpProblem(f"the answer is longer than {self._limit} bytes")
        return size


class _Adapter:
    """As much of a socket as `http.client.HTTPResponse` wants."""

    def __init__(self, incoming: _Incoming) -> None:
        self._incoming = incoming

    def makefile(self, *_: object, **__: object) -> IO[bytes]:
        return io.BufferedReader(self._incoming)


def post_json(
    path: Path,
    target: str,
    body: object,
    remaining: Callable[[], float],
    *,
    limit: int = MAX_ANSWER_BYTES,
) -> tuple[int, bytes]:
    """POST a JSON value; return status and body of the answer.

    Args:
        path: of the socket.
        target: of the request: ``/GetQuote?json``.
        body: what is sent.
        remaining: seconds left.
        limit: bytes of the whole answer.

    Raises:
        TimeoutError: not all of it within the time.
        HttpProblem: not HTTP, cut short, or too long.
        OSError: no connection, or a broken one.
    """
    content = json.dumps(body, separators=(",", ":")).encode()
    head = (
        f"POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Accept: application/json\r\nContent-Length: {len(content)}\r\nConnection: close\r\n\r\n"
    )
    with _connect(path, remaining) as connection:
        connection.settimeout(_positive(remaining()))
        connection.sendall(head.encode("ascii") + content)
        adapter = _Adapter(_Incoming(connection, remaining, limit))
        response = http.client.HTTPResponse(cast(socket.socket, adapter), method="POST")
        try:
            response.begin()
            return response.status, response.read()
        except http.client.IncompleteRead as problem:
            raise HttpProblem(f"the answer is cut short: {problem}") from None
        except (http.client.HTTPException, ValueError) as problem:
            raise HttpProblem(f"no HTTP: {type(problem).__name__}: {problem}"[:300]) from None
        finally:
            response.close()


def _connect(path: Path, remaining: Callable[[], float]) -> socket.socket:
    while True:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(_positive(remaining()))
            connection.connect(str(path))
        except OSError as problem:
            connection.close()
            # The queue of a busy server is full: unix(7).
            if problem.errno != errno.EAGAIN:
                raise
            time.sleep(min(_PAUSE_S, _positive(remaining())))
            continue
        return connection


def _positive(seconds: float) -> float:
    """Return a time-out for a socket, to which 0 means something else."""
    if seconds <= 0:
        raise TimeoutError
    return seconds
