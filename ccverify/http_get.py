"""One GET or POST under the rules of collection, for hosts that are not trusted.

What is fetched is signed and is judged where it is used.  The rules that hold for every host:

- A redirect is followed only to the same host, port and scheme, or from http to https of the
  same host, and at most `MAX_REDIRECTS` times; a POST follows none.
- Bodies are limited while they arrive, and are never decompressed.
- Every attempt has one deadline for all of it; only status 429, 5xx and timeouts are tried
  again, after the pause the service asks for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urljoin, urlsplit

import httpx
import tenacity

from ccverify import __version__
from ccverify.errors import CollateralError, UsageError

__all__ = ["MAX_REDIRECTS", "MAX_RETRY_AFTER_S", "Getter", "Headers", "open_client"]

MAX_REDIRECTS = 3
MAX_RETRY_AFTER_S = 60.0
"""A service that asks for a longer pause than this is not waited for."""
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 10.0
_pause = asyncio.sleep

Headers = list[tuple[str, str]]


class _TryAgain(Exception):
    """One attempt failed in a way that may pass; `pause` is what the service asked for."""

    def __init__(self, problem: str, pause: float | None = None) -> None:
        super().__init__(problem)
        self.pause = pause


def open_client(proxy: str | None) -> httpx.AsyncClient:
    """Make a client that verifies TLS certificates and honours the proxy variables.

    Args:
        proxy: URL of a proxy, instead of HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY.

    Raises:
        UsageError: proxy or TLS settings, given here or in the environment, are unusable.
    """
    try:
        return httpx.AsyncClient(proxy=proxy, headers={"User-Agent": f"ccverify/{__version__}"})
    except (ValueError, ImportError, httpx.InvalidURL, OSError) as problem:
        # An unknown scheme, a SOCKS proxy without the package for it, an unreadable CA file.
        raise UsageError(
            "proxy or TLS settings cannot be used",
            found=str(problem)[:200],
            hint="look at --proxy, HTTPS_PROXY, ALL_PROXY, SSL_CERT_FILE and SSL_CERT_DIR",
        ) from None


@dataclass(frozen=True, slots=True)
class Getter:
    """Fetches URLs under the rules at the top of this module.

    Attributes:
        client: makes the connections.
        timeout: seconds for one attempt, from connecting to the last byte.
        retries: attempts after the first.
        hints: status → what to do about it, for what only the service's own module knows.
    """

    client: httpx.AsyncClient
    timeout: float
    retries: int
    hints: Mapping[int, str] = field(default_factory=dict)

    async def get(
        self, url: str, limit: int, post: tuple[str, bytes] | None = None
    ) -> tuple[bytes, Headers]:
        """Return body and headers of a 200 answer.

        Args:
            url: http or https.
            limit: the largest accepted body, in bytes.
            post: media type and body to POST, instead of a GET.

        Raises:
            CollateralError: no connection, another status, a redirect elsewhere, a body that
                is too large, truncated or compressed, or too many failed attempts.
        """
        retrying = tenacity.AsyncRetrying(
            stop=tenacity.stop_after_attempt(self.retries + 1),
            retry=tenacity.retry_if_exception_type(_TryAgain),
            wait=_pause_before_next,
            sleep=lambda seconds: _pause(seconds),
            reraise=True,
        )
        try:
            return await retrying(self._attempt, url, limit, post)
        except _TryAgain as problem:
            raise CollateralError(
                f"service cannot be had: {problem}",
                found=f"{self.retries + 1} attempts failed",
                where=url,
                hint="try again later, or allow more time with --timeout",
            ) from None

    async def _attempt(
        self, url: str, limit: int, post: tuple[str, bytes] | None
    ) -> tuple[bytes, Headers]:
        try:
            async with asyncio.timeout(self.timeout):
                for _ in range(MAX_REDIRECTS + 1):
                    answer = await self._once(url, limit, post)
                    if not isinstance(answer, str):
                        return answer
                    url = answer
        except (TimeoutError, httpx.TimeoutException):
            raise _TryAgain(f"no complete answer within {self.timeout:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, UnicodeError) as problem:
            raise CollateralError(
                "service cannot be reached, or broke the connection",
                found=f"{type(problem).__name__}: {problem}"[:240],
                where=url,
                hint="check the address and the proxy (--proxy, HTTPS_PROXY); for a PCCS with a "
                "certificate of its own, name its CA in SSL_CERT_FILE",
            ) from None
        raise CollateralError("service redirects in circles", where=url)

    async def _once(
        self, url: str, limit: int, post: tuple[str, bytes] | None
    ) -> tuple[bytes, Headers] | str:
        """Make one request; return the answer, or the URL it redirects to."""
        headers = {"Accept-Encoding": "identity", "Accept": "*/*"}
        method, content = ("GET", None) if post is None else ("POST", post[1])
        if post is not None:
            headers["Content-Type"] = post[0]
        request = self.client.build_request(
            method, url, headers=headers, content=content, timeout=self.timeout
        )
        response = await self.client.send(request, stream=True, follow_redirects=False)
        try:
            if response.has_redirect_location and post is None:
                return _redirected(url, response.headers["Location"])
            _require_success(response, url, self.hints)
            return await _read_body(response, limit, url), response.headers.multi_items()
        finally:
            await response.aclose()


async def _read_body(response: httpx.Response, limit: int, url: str) -> bytes:
    encoding = response.headers.get("Content-Encoding", "identity")
    if encoding.lower() != "identity":
        raise CollateralError(
            "answer is compressed although that was not asked for",
            expected="no Content-Encoding",
            found=repr(encoding)[:40],
            where=url,
        )
    body = bytearray()
    async for piece in response.aiter_raw():
        body += piece
        if len(body) > limit:
            raise CollateralError("answer is too large", expected=f"at most {limit} B", where=url)
    return bytes(body)


def _redirected(url: str, location: str) -> str:
    """Return where a redirect leads, if it may be followed."""
    try:
        target = urljoin(url, location)
        old, new = urlsplit(url), urlsplit(target)
        upgraded = (old.scheme, new.scheme) == ("http", "https")
        same_origin = (old.scheme, old.netloc.lower()) == (new.scheme, new.netloc.lower())
        allowed = same_origin or (upgraded and old.hostname == new.hostname and "@" not in target)
    except ValueError:
        target, allowed = location, False
    if not allowed:
        raise CollateralError(
            "service redirects to another place",
            expected="the same host, port and scheme, or https instead of http",
            found=repr(target)[:160],
            where=url,
            hint="if that place is right, give it as the base URL",
        )
    return target


_STATUS_HINTS = {
    401: "this service wants credentials; a program can pass its own client",
    403: "this service wants credentials, or a proxy refuses the host",
    407: "the proxy wants credentials: --proxy http://user:password@host:port",
}


def _require_success(response: httpx.Response, url: str, hints: Mapping[int, str]) -> None:
    status = response.status_code
    if status == 200:
        return
    problem = f"status {status} {response.reason_phrase}".rstrip()[:80]
    if status == 429 or 500 <= status <= 599:
        pause = _retry_after(response.headers.get("Retry-After"))
        if pause is None or pause <= MAX_RETRY_AFTER_S:
            raise _TryAgain(problem, pause)
        problem += f", and asks to wait {pause:.0f} s"
    raise CollateralError(
        "service refuses the request",
        expected="status 200",
        found=problem,
        where=url,
        hint=hints.get(status)
        or _STATUS_HINTS.get(status, "try again later" if status >= 429 else None),
    )


def _retry_after(value: str | None) -> float | None:
    """Seconds to wait, from delay seconds or an HTTP date (RFC 9110 §10.2.3)."""
    if value is None:
        return None
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


def _pause_before_next(state: tenacity.RetryCallState) -> float:
    """What the service asked for, or twice the pause before; never none at all."""
    problem = state.outcome.exception() if state.outcome is not None else None
    asked = problem.pause if isinstance(problem, _TryAgain) else None
    own = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** min(state.attempt_number - 1, 10))
    return own if asked is None else max(asked, 0.1)
