"""GPU and NVSwitch evidence through NVIDIA's nv-attestation-sdk, in a process of its own.

A second source, for who must use NVIDIA's own collection.  The SDK pins old packages, prints,
and writes logs where it stands, so it never shares this process: it runs in the interpreter of
its own environment (`ccverify.collect.nv_sdk_child`), and nothing it says is believed before it
is checked here.
"""

from __future__ import annotations

import base64
import binascii
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ccverify.bundle.items import DeviceItem
from ccverify.collect.child_process import MAX_LINE_BYTES, Finished, run_child, script_path
from ccverify.collect.device_answer import (
    MAX_CHAIN_BYTES,
    MAX_REPORT_BYTES,
    device_outcome,
)
from ccverify.collect.model import Absence, AbsenceReason, Ask, ItemType, Outcome, Stage
from ccverify.collect.nv_sdk_child import PROTOCOL
from ccverify.errors import EvidenceError
from ccverify.fabric.nvml_values import GPU_ARCHITECTURES
from ccverify.strict_json import parse_json

__all__ = ["NvSdkSource"]

_PARTS: Final = {"gpu": ItemType.NVIDIA_GPU, "nvswitch": ItemType.NVIDIA_SWITCH}
_MAX_DEVICES: Final = 128
_MAX_TEXT: Final = 128
_SHOWN: Final = 300

_MEMBERS: Final = {
    "hello": {"type", "protocol", "sdk", "verifier"},
    "device": {"type", "part", "index", "report", "chain", "architecture", "uuid", "driver"},
    "problem": {"type", "part", "reason", "text"},
    "done": {"type", "counts"},
}
_ENVIRONMENT: Final = (
    "make an environment for it: python3 -m venv DIR && DIR/bin/pip install nv-attestation-sdk, "
    "and name it: --nv-sdk-python DIR/bin/python"
)
_NO_REASON: Final = (AbsenceReason.FAILED, "the SDK gave no evidence and no reason")
_CHILD_REASONS: Final = {
    "failed": AbsenceReason.FAILED,
    "no-library": AbsenceReason.NO_LIBRARY,
    "no-driver": AbsenceReason.NO_DRIVER,
    "no-permission": AbsenceReason.NO_PERMISSION,
}
_REMEDIES: Final = {
    AbsenceReason.NO_LIBRARY: "install the NVIDIA driver's libraries in this guest",
    AbsenceReason.NO_DRIVER: "load the driver: modprobe nvidia",
    AbsenceReason.NO_PERMISSION: "run as root, or as a user who may open /dev/nvidia*",
}
_LOOK: Final = "run the SDK by itself, and see its log, for what it refuses"


class NvSdkSource:
    """Devices through nv-attestation-sdk.

    Args:
        python: the interpreter of the SDK's environment; this one if None.
        parts: what to ask for, of ``gpu`` and ``nvswitch``.
        no_gpu: the SDK's test mode, which serves a genuine report of another nonce.
        script: what the interpreter runs; the child of this package unless a test says so.
    """

    name = "nv-attestation-sdk"
    stage = Stage.DEVICES

    def __init__(
        self,
        python: str | None = None,
        *,
        parts: Sequence[str] = ("gpu",),
        no_gpu: bool = False,
        script: str | None = None,
    ) -> None:
        self.gives = tuple(parts)
        self._no_gpu = no_gpu
        self._python = python or sys.executable
        self._script = script or script_path("nv_sdk_child.py")

    def collect(self, ask: Ask) -> Sequence[Outcome]:
        """One item or absence per device; one absence per part that gives none."""
        return self._run(ask, self.gives)

    def diagnose(self) -> Sequence[Absence]:
        """Whether the SDK is installed in its environment; asks no device."""
        # No part is asked for, so the process says hello and is done.
        return [one for one in self._run(_brief_ask(), ()) if isinstance(one, Absence)]

    def _run(self, ask: Ask, parts: tuple[str, ...]) -> list[Outcome]:
        request = {
            "protocol": PROTOCOL,
            "nonce": ask.device_nonce.hex(),
            "parts": list(parts),
            "no_gpu": self._no_gpu,
        }
        # -I: neither the user's variables nor the current directory lead to other modules.
        command = [self._python, "-I", "-B", self._script]
        try:
            finished = run_child(command, json.dumps(request).encode("ascii") + b"\n", ask)
        except OSError as problem:
            text = f"{self._python} cannot be started: {problem.strerror or problem}"
            return self._everything(AbsenceReason.NO_LIBRARY, text, _ENVIRONMENT)
        return self._outcomes(finished, ask, parts)

    def _outcomes(self, finished: Finished, ask: Ask, parts: tuple[str, ...]) -> list[Outcome]:
        if finished.problem == "timeout":
            text = "the SDK did not answer in time and was ended"
            return self._everything(AbsenceReason.TIMEOUT, text, "give more time (--timeout)")
        try:
            said = _read(finished, parts)
        except EvidenceError as problem:
            text = f"the SDK's process answered what it may not: {problem.message}"
            if problem.found is not None:
                text += f", {problem.found}"
            return self._everything(AbsenceReason.FAILED, text + _last_words(finished), _LOOK)
        if said.sdk is None:
            text = f"nv-attestation-sdk is not installed for {self._python}"
            return self._everything(AbsenceReason.NO_LIBRARY, text, _ENVIRONMENT)
        source = f"nv-attestation-sdk {said.sdk}"
        outcomes: list[Outcome] = []
        for part in parts:
            outcomes += [
                device_outcome(
                    f"{part}-{index}", _PARTS[part], answer, nonce=ask.device_nonce, source=source
                )
                for index, answer in enumerate(said.devices.get(part, ()))
            ]
            if part in said.problems or not said.devices.get(part):
                reason, text = said.problems.get(part, _NO_REASON)
                if reason is AbsenceReason.FAILED:
                    text += _last_words(finished)
                outcomes.append(Absence(part, reason, text, _REMEDIES.get(reason, _LOOK), source))
        return outcomes

    def _everything(self, reason: AbsenceReason, text: str, remedy: str) -> list[Outcome]:
        return [Absence(part, reason, text, remedy, self.name) for part in self.gives]


def _brief_ask() -> Ask:
    return Ask(bytes(32), None, time.monotonic() + 30.0, time.monotonic)


def _last_words(finished: Finished) -> str:
    """The end of what the SDK logged, for a person."""
    lines = [line.strip() for line in finished.errors.splitlines() if line.strip()]
    return f" (it logged: {lines[-1][:_SHOWN]!r})" if lines else ""


# --- the protocol --------------------------------------------------------------------------------


@dataclass(slots=True)
class _Said:
    """What the process said."""

    sdk: str | None = None
    devices: dict[str, list[DeviceItem]] = field(default_factory=dict)
    problems: dict[str, tuple[AbsenceReason, str]] = field(default_factory=dict)


def _refused(what: str, found: object = None) -> EvidenceError:
    return EvidenceError(what, found=None if found is None else repr(found)[:_SHOWN])


def _read(finished: Finished, parts: tuple[str, ...]) -> _Said:
    """Read a whole conversation.

    Raises:
        EvidenceError: a line that is not of the protocol, in the wrong place or too long, or
            the process ended badly.
    """
    if finished.problem is not None or finished.status != 0:
        raise _refused("it ended before it was done", finished.problem or finished.status)
    messages = list(_messages(finished.lines))
    if len(messages) < 2 or messages[0]["type"] != "hello" or messages[-1]["type"] != "done":
        raise _refused("no hello first and done last")
    if messages[0]["protocol"] != PROTOCOL:
        raise _refused("another protocol", messages[0]["protocol"])
    said = _Said(sdk=_text_or_none(messages[0]["sdk"]))
    for message in messages[1:-1]:
        _take(message, parts, said)
    counts = {part: len(said.devices.get(part, ())) for part in parts}
    if messages[-1]["counts"] != counts:
        raise _refused("a count that does not fit", messages[-1]["counts"])
    return said


def _messages(lines: Sequence[bytes]) -> Iterator[dict[str, Any]]:
    if len(lines) > _MAX_DEVICES + 8:
        raise _refused("too many lines", len(lines))
    for line in lines:
        message = parse_json(line, what="line", error=EvidenceError, limit=MAX_LINE_BYTES)
        kind = message.get("type") if isinstance(message, dict) else None
        if not isinstance(kind, str) or message.keys() != _MEMBERS.get(kind):
            raise _refused("an unknown message", message)
        yield message


def _take(message: dict[str, Any], parts: tuple[str, ...], said: _Said) -> None:
    part = message.get("part")
    if part not in parts:
        raise _refused("a message about nothing that was asked", part)
    if message["type"] == "problem":
        said_reason = message["reason"]
        reason = _CHILD_REASONS.get(said_reason) if isinstance(said_reason, str) else None
        if reason is None:
            raise _refused("an unknown reason", message["reason"])
        said.problems[part] = (reason, _text(message["text"], 600))
        return
    if message["type"] != "device":
        raise _refused("a message out of place", message["type"])
    devices = said.devices.setdefault(part, [])
    if type(message["index"]) is not int or message["index"] != len(devices):
        raise _refused("devices out of order", message["index"])
    architecture = message["architecture"]
    if architecture is not None and type(architecture) is not int:
        raise _refused("an architecture that is no number", architecture)
    devices.append(
        DeviceItem(
            report=_octets(message["report"], MAX_REPORT_BYTES),
            chain=_octets(message["chain"], MAX_CHAIN_BYTES),
            architecture=None if architecture is None else GPU_ARCHITECTURES.get(architecture),
            uuid=_text_or_none(message["uuid"]),
            driver=_text_or_none(message["driver"]),
        )
    )


def _text(value: object, most: int = _MAX_TEXT) -> str:
    if not isinstance(value, str) or len(value) > most:
        raise _refused("a text that is none or too long", value)
    return "".join(c if c.isprintable() else " " for c in value)


def _text_or_none(value: object) -> str | None:
    return None if value is None else _text(value)


def _octets(value: object, most: int) -> bytes:
    if not isinstance(value, str) or len(value) > 4 * (most // 3 + 1):
        raise _refused("base64 that is none or too long")
    try:
        return base64.b64decode(value.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise _refused("base64 that is damaged", value) from None
