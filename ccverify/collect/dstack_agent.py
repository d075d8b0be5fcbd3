"""Quote, event log and description of the application from the guest agent of dstack.

Source: dstack/guest-agent of the dstack project (rpc/proto/agent_rpc.proto, src/server.rs,
src/rpc_service.rs) and its Python SDK.  JSON is POSTed over a unix socket, byte strings are
hex, and an error is ``{"error": text}`` with status 400:

    dstack.sock    /GetQuote, /Info              REPORTDATA as given, filled up with zeros
    tappd.sock     /prpc/Tappd.TdxQuote, .Info   REPORTDATA as given only if hash_algorithm is
                                                 ``raw``; else a hash, and in the first versions
                                                 always a hash

The log has to be in the manifest, which the quote covers.  So it is taken from ``Info``, whose
``tcb_info`` has it, and not from the answer that brings the quote.
"""

from __future__ import annotations

import errno
import json
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ccverify.collect.files import Trouble, absence_of
from ccverify.collect.model import Absence, AbsenceReason, Ask, Item, ItemType, Outcome, Stage
from ccverify.collect.quotes import MAX_QUOTE_BYTES, QUOTE_LABEL, asked, checked_quote
from ccverify.collect.unix_http import MAX_ANSWER_BYTES, HttpProblem, post_json
from ccverify.errors import EvidenceError
from ccverify.strict_json import parse_json

__all__ = ["SOCKETS", "Agent", "DstackLogs", "DstackQuote", "find_agent"]

SOCKETS: Final = tuple(
    f"{folder}/{name}"
    for name in ("dstack.sock", "tappd.sock")
    for folder in ("var/run", "run", "var/run/dstack", "run/dstack")
)
"""Where the agent listens, without the leading slash, the newer interface first."""

_SOURCE: Final = "dstack guest agent"
_LOG, _INFO = "dstack-log", "dstack-info"
_TAPPD: Final = "tappd"

_AGENT: Final = "look at the agent: `systemctl status dstack-guest-agent`, or `tappd`"
_NOT_FOUND: Final[Trouble] = (
    AbsenceReason.NOT_PRESENT,
    "no dstack guest agent is there",
    "in a dstack application, mount its socket: `volumes: [/var/run/dstack.sock:"
    "/var/run/dstack.sock]`",
)
_NOT_ALLOWED: Final[Trouble] = (
    AbsenceReason.NO_PERMISSION,
    "the agent's socket may not be used",
    "run as root, or as a user whom the socket's mode lets in",
)
_TROUBLES: Final[dict[int, Trouble]] = {
    errno.ENOENT: _NOT_FOUND,
    errno.ENOTDIR: _NOT_FOUND,
    errno.EACCES: _NOT_ALLOWED,
    errno.EPERM: _NOT_ALLOWED,
    errno.ECONNREFUSED: (
        AbsenceReason.FAILED,
        "the socket is there and nobody listens on it",
        _AGENT,
    ),
}


@dataclass(frozen=True, slots=True)
class Agent:
    """A socket and the interface spoken on it.

    Attributes:
        path: of the socket.
        is_tappd: whether it is the older interface.
    """

    path: Path
    is_tappd: bool

    @property
    def source(self) -> str:
        """What an item from here says of its source."""
        return f"{_SOURCE} ({self.path.name})"

    def target(self, method: str) -> str:
        """Return the request target of a method.

        The query makes the first versions speak JSON; later ones see it in Content-Type too.
        """
        return f"/prpc/Tappd.{method}?json" if self.is_tappd else f"/{method}?json"


def find_agent(root: Path = Path("/"), named: Path | None = None) -> Agent | None:
    """Return the agent to ask; None if there is no socket.

    Args:
        root: what `SOCKETS` are looked for below.
        named: the socket to use, whether it is there or not.  One whose name has ``tappd`` in it
            speaks the older interface.
    """
    if named is not None:
        return Agent(named, _TAPPD in named.name)
    for place in SOCKETS:
        path = root / place
        try:
            if stat.S_ISSOCK(path.stat().st_mode):
                return Agent(path, _TAPPD in path.name)
        except PermissionError:
            # It may be there: connecting will say what is wrong.
            return Agent(path, _TAPPD in path.name)
        except OSError:
            continue
    return None


class _Failed(Exception):
    """The agent gave nothing of use; reason, words and remedy say why."""

    def __init__(self, reason: AbsenceReason, text: str, remedy: str = _AGENT) -> None:
        super().__init__(text)
        self.reason, self.text, self.remedy = reason, text, remedy


class _Agents:
    """What both sources share: where the agent is, and how it is asked."""

    name: str = _SOURCE

    def __init__(self, root: Path = Path("/"), socket: Path | None = None) -> None:
        self._root = root
        self._named = socket

    def _find(self) -> Agent:
        agent = find_agent(self._root, self._named)
        if agent is None:
            reason, words, remedy = _NOT_FOUND
            places = ", ".join(f"/{place}" for place in SOCKETS)
            raise _Failed(reason, f"{words}: none of {places}", remedy)
        return agent

    def diagnose(self) -> Sequence[Absence]:
        """Look for a socket; nothing is asked of the agent."""
        label = QUOTE_LABEL if isinstance(self, DstackQuote) else _LOG
        try:
            agent = self._find()
            agent.path.stat()
        except _Failed as problem:
            return (Absence(label, problem.reason, problem.text, problem.remedy, _SOURCE),)
        except OSError as problem:
            return (_trouble(problem, label, self._named or self._root),)
        return ()


class DstackQuote(_Agents):
    """A quote from the guest agent.

    Args:
        root: what the usual sockets are looked for below.
        socket: the socket to use instead.
    """

    stage = Stage.QUOTE
    gives: tuple[str, ...] = (QUOTE_LABEL,)

    def collect(self, ask: Ask) -> Sequence[Outcome]:
        """Take one quote, and see that it covers REPORTDATA unchanged.

        Raises:
            UsageError: `ask` has no REPORTDATA.
        """
        report_data = asked(ask)
        try:
            agent = self._find()
            answer, _ = _call(agent, *_quote_request(agent, report_data), ask)
            quote = _hex_member(answer, "quote")
        except _Failed as problem:
            return (_absent(QUOTE_LABEL, problem),)
        except OSError as problem:
            return (_trouble(problem, QUOTE_LABEL, self._named or self._root),)
        return (checked_quote(quote, report_data, agent.source),)


class DstackLogs(_Agents):
    """Event log and description of the application, both from one ``Info``.

    The description is the agent's answer as it came: names, compose file and certificate of the
    application are in it, and whoever gets the bundle reads them.

    Args:
        root: what the usual sockets are looked for below.
        socket: the socket to use instead.
    """

    stage = Stage.LOGS
    gives: tuple[str, ...] = (_LOG, _INFO)

    def collect(self, ask: Ask) -> Sequence[Outcome]:
        """Ask once."""
        try:
            agent = self._find()
            answer, body = _call(agent, "Info", {}, ask)
        except _Failed as problem:
            return (_absent(_LOG, problem), _absent(_INFO, problem))
        except OSError as problem:
            where = self._named or self._root
            return (_trouble(problem, _LOG, where), _trouble(problem, _INFO, where))
        info = Item(_INFO, ItemType.DSTACK_INFO, body, agent.source)
        try:
            log = _event_log(answer)
        except _Failed as problem:
            return (_absent(_LOG, problem), info)
        return (Item(_LOG, ItemType.DSTACK_LOG, log, agent.source), info)


def _quote_request(agent: Agent, report_data: bytes) -> tuple[str, dict[str, str]]:
    if agent.is_tappd:
        return "TdxQuote", {"report_data": report_data.hex(), "hash_algorithm": "raw"}
    return "GetQuote", {"report_data": report_data.hex()}


def _call(
    agent: Agent, method: str, request: dict[str, str], ask: Ask
) -> tuple[dict[str, Any], bytes]:
    """Ask the agent; return the object it answers, and the bytes that was.

    Raises:
        _Failed: no whole answer in time, or not the JSON object of a success.
        OSError: no connection.
    """
    try:
        status, body = post_json(agent.path, agent.target(method), request, lambda: ask.remaining)
    except TimeoutError:
        raise _Failed(
            AbsenceReason.TIMEOUT,
            f"the agent gave no whole answer to {method} in the time allowed",
            f"{_AGENT}; or allow more time with --timeout",
        ) from None
    except HttpProblem as problem:
        raise _Failed(AbsenceReason.FAILED, f"the agent's answer to {method}: {problem}") from None
    try:
        answer = parse_json(
            body, what=f"answer to {method}", error=EvidenceError, limit=MAX_ANSWER_BYTES
        )
    except EvidenceError as problem:
        answer = None
        unreadable = problem.message
    else:
        unreadable = "no JSON object"
    error = answer.get("error") if isinstance(answer, dict) else None
    if status == 404:
        raise _Failed(
            AbsenceReason.NOT_SUPPORTED,
            f"the agent at {agent.path} knows no {method}: status 404",
            "use the other socket (dstack.sock, or tappd.sock of older versions), or update dstack",
        )
    if status != 200 or error is not None:
        said = str(error if error is not None else body[:200])[:400]
        raise _Failed(
            AbsenceReason.FAILED, f"the agent refused {method}: status {status}, {said!r}"
        )
    if not isinstance(answer, dict):
        raise _Failed(AbsenceReason.FAILED, f"the agent's answer to {method}: {unreadable}")
    return answer, body


def _hex_member(answer: dict[str, Any], name: str) -> bytes:
    text = answer.get(name)
    if not isinstance(text, str) or not text:
        raise _Failed(
            AbsenceReason.FAILED,
            f"the agent's answer has no {name}: it may not run in a TD, or QGS on the host failed",
        )
    digits = text.removeprefix("0x")
    # bytes.fromhex allows white space between the digits.
    if len(digits) > 2 * MAX_QUOTE_BYTES or not set(digits) <= set("0123456789abcdefABCDEF"):
        raise _Failed(
            AbsenceReason.FAILED,
            f"the agent's {name} is not hex of at most {MAX_QUOTE_BYTES} bytes: "
            f"{len(text)} characters, beginning {text[:20]!r}",
        )
    try:
        return bytes.fromhex(digits)
    except ValueError:
        raise _Failed(AbsenceReason.FAILED, f"the agent's {name} has half a byte") from None


def _event_log(answer: dict[str, Any]) -> bytes:
    """Return ``tcb_info.event_log`` as JSON; no digest is over the text of the log."""
    tcb_info = answer.get("tcb_info")
    if isinstance(tcb_info, str) and tcb_info:
        try:
            tcb_info = parse_json(
                tcb_info, what="tcb_info", error=EvidenceError, limit=MAX_ANSWER_BYTES
            )
        except EvidenceError as problem:
            raise _Failed(AbsenceReason.FAILED, f"the agent's {problem.message}") from None
    log = tcb_info.get("event_log") if isinstance(tcb_info, dict) else None
    if isinstance(log, str):
        try:
            log = parse_json(log, what="event_log", error=EvidenceError, limit=MAX_ANSWER_BYTES)
        except EvidenceError as problem:
            raise _Failed(AbsenceReason.FAILED, f"the agent's {problem.message}") from None
    if not isinstance(log, list) or not log:
        raise _Failed(
            AbsenceReason.NOT_SUPPORTED,
            "the agent's Info has no tcb_info.event_log",
            "update dstack: versions from 0.3 on tell the log there",
        )
    return json.dumps(log, separators=(",", ":"), ensure_ascii=False).encode()


def _absent(label: str, problem: _Failed) -> Absence:
    return Absence(label, problem.reason, problem.text, problem.remedy, _SOURCE)


def _trouble(problem: OSError, label: str, where: Path) -> Absence:
    return absence_of(
        problem,
        _TROUBLES,
        label=label,
        source=_SOURCE,
        doing=f"talking to the agent at {where}",
        otherwise=lambda _: (AbsenceReason.FAILED, "the agent cannot be talked to", _AGENT),
    )
