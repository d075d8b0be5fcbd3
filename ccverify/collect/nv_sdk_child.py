"""Runs nv-attestation-sdk in an interpreter of its own and reports what it gives, line by line.

Started by `ccverify.collect.nv_sdk` as a script, in an environment that need not hold ccverify:
it imports the standard library and the SDK alone.  The SDK prints to standard output and writes
logs into the current directory, so standard output is turned to standard error before the SDK is
imported, and the directory is the parent's temporary one.

Protocol 1: one JSON object from the parent, ``{"protocol", "nonce", "parts", "no_gpu"}``; then
one JSON object a line to the parent: ``hello``, any number of ``device`` and ``problem``,
``done``.
"""

from __future__ import annotations

import base64
import json
import os
import sys
from collections.abc import Iterable
from ctypes.util import find_library
from importlib import import_module, metadata
from typing import Any

__all__ = ["PROTOCOL", "main"]

PROTOCOL = 1
_MAX_REQUEST = 4096
_MAX_TEXT = 500
_NVML_REASONS = {
    "NVMLError_LibraryNotFound": "no-library",
    "NVMLError_DriverNotLoaded": "no-driver",
    "NVMLError_LibRmVersionMismatch": "no-driver",
    "NVMLError_NoPermission": "no-permission",
}


class _Replies:
    """The pipe to the parent: one JSON object a line."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def send(self, message: dict[str, Any]) -> None:
        line = json.dumps(message, ensure_ascii=True, separators=(",", ":")).encode("ascii")
        rest = memoryview(line + b"\n")
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _chain(certificates: Iterable[Any]) -> bytes:
    # Here, because only the SDK's environment is sure to hold these packages.
    from cryptography.hazmat.primitives.serialization import Encoding

    pem: bytes = b"".join(
        certificate.to_cryptography().public_bytes(Encoding.PEM) for certificate in certificates
    )
    return pem


def _device(part: str, evidence: Any) -> dict[str, Any]:
    """The message for one of the SDK's evidence objects."""
    if part == "gpu":
        report, chain = evidence.get_attestation_report(), evidence.get_attestation_cert_chain()
        architecture, uuid = evidence.get_gpu_architecture(), evidence.get_uuid()
        driver = evidence.get_driver_version()
    else:
        report, chain = evidence.attestation_report, evidence.attestation_cert_chain
        architecture, uuid, driver = None, evidence.uuid, None
    return {
        "report": base64.b64encode(bytes(report)).decode("ascii"),
        "chain": base64.b64encode(_chain(chain)).decode("ascii"),
        "architecture": architecture,
        "uuid": uuid,
        "driver": driver,
    }


def _evidence(part: str, nonce: str, no_gpu: bool) -> list[Any]:
    sdk = import_module("nv_attestation_sdk.attestation")
    client = sdk.Attestation
    client.reset()
    client.set_name("ccverify")
    client.set_nonce(nonce)
    device = sdk.Devices.GPU if part == "gpu" else sdk.Devices.SWITCH
    client.add_verifier(device, sdk.Environment.LOCAL, "", "")
    # "ppcie_mode" makes the SDK refuse Protected PCIe, so it is off.
    given = client.get_evidence({"ppcie_mode": False, "no_gpu_mode": no_gpu})
    return list(given) if isinstance(given, list) else []


def _obstacle(part: str) -> tuple[str, str] | None:
    """What is missing on this machine, asked first: the SDK waits half a minute to say so."""
    if part == "gpu":
        pynvml = import_module("pynvml")
        try:
            pynvml.nvmlInit()
            pynvml.nvmlShutdown()
        except pynvml.NVMLError as problem:
            return _NVML_REASONS.get(type(problem).__name__, "failed"), f"NVML: {problem}"
    elif find_library("nvidia-nscq") is None:
        return "no-library", "libnvidia-nscq is not installed"
    return None


def _collect(part: str, request: dict[str, Any], replies: _Replies) -> int:
    """Send every device of one part; returns how many there were."""
    sent = 0
    try:
        missing = None if request["no_gpu"] and part == "gpu" else _obstacle(part)
        if missing is not None:
            reason, text = missing
            replies.send({"type": "problem", "part": part, "reason": reason, "text": text})
            return 0
        for evidence in _evidence(part, request["nonce"], request["no_gpu"]):
            message = _device(part, evidence)
            replies.send({"type": "device", "part": part, "index": sent, **message})
            sent += 1
    except (Exception, SystemExit) as problem:  # the SDK calls sys.exit() on some refusals
        text = f"{type(problem).__name__}: {problem}"[:_MAX_TEXT]
        replies.send({"type": "problem", "part": part, "reason": "failed", "text": text})
    return sent


def main() -> int:
    """Answer one request from standard input."""
    replies = _Replies(os.dup(1))
    os.dup2(2, 1)
    request = json.loads(sys.stdin.buffer.readline(_MAX_REQUEST))
    if request["protocol"] != PROTOCOL:
        return 2
    hello = {"sdk": _version("nv-attestation-sdk"), "verifier": _version("nv-local-gpu-verifier")}
    replies.send({"type": "hello", "protocol": PROTOCOL, **hello})
    counts = {part: _collect(part, request, replies) for part in request["parts"]}
    replies.send({"type": "done", "counts": counts})
    return 0


if __name__ == "__main__":
    sys.exit(main())
