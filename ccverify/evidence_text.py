"""Binary evidence that arrives as text: hex or base64 → bytes."""

from __future__ import annotations

import base64
import binascii
import re

from ccverify.errors import EvidenceError

__all__ = ["decode_evidence_text"]

_HEX = re.compile(rb"(?:0[xX])?([0-9a-fA-F]+)\Z")
_BASE64 = re.compile(rb"([A-Za-z0-9+/_-]+)={0,2}\Z")
_URL_SAFE = bytes.maketrans(b"-_", b"+/")


def decode_evidence_text(data: bytes, *, what: str, limit: int) -> bytes:
    """Return the bytes that `data` spells in hex (``0x`` allowed) or base64, or `data` itself.

    White space is ignored and base64 may be URL-safe and unpadded.  What is neither hex nor
    base64 is returned as it is, for the parser of `what` to refuse; so callers first sort out
    raw evidence by the bytes it starts with.

    Args:
        data: the text.
        what: name of the evidence, for errors.
        limit: largest size of the raw evidence; four times that is accepted as text.

    Raises:
        EvidenceError: the text is too large, cut short or damaged.
    """
    if len(data) > 4 * limit:
        raise EvidenceError(
            f"{what} is too large",
            expected=f"at most {limit} bytes",
            found=f"{len(data)} bytes of text",
        )
    # White space goes first: a pattern that allows it anywhere would backtrack over long runs.
    text = b"".join(data.split())
    try:
        if digits := _HEX.match(text):
            return binascii.unhexlify(digits[1])
        if digits := _BASE64.match(text):
            standard = digits[1].translate(_URL_SAFE)
            return base64.b64decode(standard + b"=" * (-len(standard) % 4))
    except ValueError:  # binascii.Error is one
        raise EvidenceError(
            f"hex or base64 text of the {what} is cut short or damaged",
            found=f"{len(text)} characters",
            hint="give the file exactly as the service returned it",
        ) from None
    return bytes(data)
