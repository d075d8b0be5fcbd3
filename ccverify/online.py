"""Many answers fetched at once: what the collectors of all vendors share.

Only `collect` modules import this; `ccverify.http_get` says what one request may do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from ccverify.errors import CollateralError, UsageError

if TYPE_CHECKING:
    import httpx

__all__ = ["Headers", "Item", "Progress", "Session", "raise_first", "require_online"]

Headers = list[tuple[str, str]]
Progress = Callable[[int, int, str], None]
"""Called with the number of answers so far, of all of them, and the name of the last one."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Item(Generic[_T]):
    """One thing to fetch.

    Attributes:
        label: its name, for people.
        url: where it is.
        limit: how large its body may be, in bytes.
        parse: how to read body and headers; raises CollateralError.
        post: media type and body to POST, instead of a GET.
    """

    label: str
    url: str
    limit: int
    parse: Callable[[bytes, Headers], _T]
    post: tuple[str, bytes] | None = None


def require_online(caller: str, hint: str, *, timeout: float, retries: int) -> None:
    """Refuse to start where fetching cannot work.

    Raises:
        CollateralError: the packages of the extra ``online`` are missing.
        UsageError: impossible arguments, or this thread runs an event loop already.
    """
    try:
        import httpx  # noqa: F401
        import tenacity  # noqa: F401
    except ImportError as problem:
        raise CollateralError(
            "fetching collateral needs packages that are not installed",
            expected="httpx and tenacity",
            found=f"no {problem.name}",
            hint=f'pip install "ccverify[online]", or {hint}',
        ) from None
    if not timeout > 0 or retries < 0:
        raise UsageError("timeout and retries must be positive", found=f"{timeout}, {retries}")
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise UsageError(
        f"{caller} was called inside an event loop",
        hint=f"await asyncio.to_thread({caller}, ...)",
    )


@dataclass(slots=True)
class Session:
    """The settings of one collection; use as an asynchronous context manager.

    Attributes:
        client: makes the connections, and stays open; None for one made and closed here.
        proxy: URL of a proxy, for a client made here.
        timeout: seconds for each attempt.
        retries: attempts after the first.
        progress: called after each answer.
        hints: status → what to do about it.
        at_once: requests under way at one time.
    """

    client: httpx.AsyncClient | None
    proxy: str | None
    timeout: float
    retries: int
    progress: Progress | None
    hints: Mapping[int, str]
    at_once: int
    _own: httpx.AsyncClient | None = None

    async def __aenter__(self) -> Session:
        from ccverify.http_get import open_client

        if self.client is None:
            self._own = open_client(self.proxy)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._own is not None:
            await self._own.aclose()

    async def fetch(self, items: Sequence[Item[_T]]) -> list[_T | BaseException]:
        """Return for each item what was parsed, or what went wrong, in the order given.

        All of them are waited for: what is reported then never depends on who was faster.
        """
        from ccverify.http_get import Getter

        client = self.client or self._own
        assert client is not None  # noqa: S101 - entered
        gate = asyncio.Semaphore(self.at_once)  # so that no attempt's time runs while it queues
        getter = Getter(client, self.timeout, self.retries, self.hints)
        done = 0

        async def one(item: Item[_T]) -> _T:
            nonlocal done
            async with gate:
                body, headers = await getter.get(item.url, item.limit, item.post)
            value = _parsed(item, body, headers)
            done += 1
            if self.progress is not None:
                self.progress(done, len(items), item.label)
            return value

        return await asyncio.gather(*map(one, items), return_exceptions=True)


def raise_first(results: Sequence[_T | BaseException]) -> list[_T]:
    """Return the results, or raise the first error among them."""
    values: list[_T] = []
    for result in results:
        if isinstance(result, BaseException):
            raise result
        values.append(result)
    return values


def _parsed(item: Item[_T], body: bytes, headers: Headers) -> _T:
    try:
        return item.parse(body, headers)
    except CollateralError as problem:
        place = f"{item.url}: {problem.where}" if problem.where else item.url
        raise CollateralError(
            f"{item.label}: {problem.message}",
            expected=problem.expected,
            found=problem.found,
            where=place,
            hint=problem.hint,
        ) from None
