"""Answers of NVIDIA's RIM service: the JSON around one reference manifest.

Source: NVIDIA RIM service API v1, ``GET /v1/rim/{id}``.  The manifest is in base64 under
``rim`` and its SHA-256 in hex under ``sha256``.  Nothing here touches the network
(`ccverify.nvidia.collect` does); what proves a manifest is its own signature.
"""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Any, Final

from ccverify.errors import CollateralError
from ccverify.strict_json import parse_json
from ccverify.trust.xmldsig import MAX_XML_BYTES

__all__ = ["MAX_RESPONSE_BYTES", "is_rim_response", "parse_rim_response", "read_rim_response"]

MAX_RESPONSE_BYTES: Final = 2 * MAX_XML_BYTES
"""Base64 and the members around it; real answers have about 35 KB."""

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")


def is_rim_response(document: object) -> bool:
    """Whether a JSON value is meant to be an answer of the RIM service."""
    return isinstance(document, dict) and "rim" in document and "id" in document


def parse_rim_response(body: bytes) -> tuple[str, bytes]:
    """Return the id and the XML of an answer as it was served.

    Raises:
        CollateralError: over `MAX_RESPONSE_BYTES`, not strict JSON, a member is missing or
            malformed, the manifest is not SWID XML, or its SHA-256 is not the one stated.
    """
    what = "RIM service response"
    return read_rim_response(
        parse_json(body, what=what, error=CollateralError, limit=MAX_RESPONSE_BYTES)
    )


def read_rim_response(document: Any) -> tuple[str, bytes]:
    """Return the id and the XML of an answer that is a JSON value; raises as the above."""
    if not is_rim_response(document):
        raise _bad("members", "id, rim and sha256", type(document).__name__)
    rim_id, encoded, digest = (document.get(name) for name in ("id", "rim", "sha256"))
    if not isinstance(rim_id, str) or not _ID.fullmatch(rim_id):
        raise _bad("id", "letters, digits, _ . -", repr(rim_id))
    form = document.get("rim_format", "TCG")
    if form == "CORIM":
        raise _bad("rim_format", "TCG (SWID XML)", "CORIM, which this version does not read")
    if not isinstance(encoded, str) or len(encoded) > MAX_RESPONSE_BYTES:
        raise _bad("rim", "base64 text", type(encoded).__name__)
    try:
        xml = base64.b64decode(encoded, validate=True)
    except ValueError:
        raise _bad("rim", "base64", repr(encoded[:40])) from None
    if not isinstance(digest, str) or not re.fullmatch(r"[0-9a-fA-F]{64}", digest):
        raise _bad("sha256", "64 hex digits", repr(digest))
    found = hashlib.sha256(xml).hexdigest()
    if found != digest.lower():
        raise _bad("SHA-256 of the manifest", digest.lower(), found)
    return rim_id, xml


def _bad(what: str, expected: str, found: str) -> CollateralError:
    return CollateralError(
        f"RIM service response: {what}", expected=expected, found=found[:160], where="response"
    )
