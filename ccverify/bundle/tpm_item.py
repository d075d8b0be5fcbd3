"""The item of a bundle that holds a TPM's quote: CBOR around the structures the TPM made."""

from __future__ import annotations

from typing import Final

from ccverify.bundle.cbor import decode, encode
from ccverify.errors import EvidenceError, UsageError
from ccverify.tpm.quote import (
    MAX_CHAIN_BYTES,
    MAX_STRUCTURE_BYTES,
    PcrValues,
    TpmQuote,
    parse_tpm_quote,
)

__all__ = ["MAX_TPM_ITEM_BYTES", "encode_tpm_item", "parse_tpm_item"]

MAX_TPM_ITEM_BYTES: Final = MAX_CHAIN_BYTES + 3 * MAX_STRUCTURE_BYTES + 32 * 1024
"""Largest item of this type; 32 KiB are for PCR values."""

_MEMBERS: Final = ("attest", "chain", "pcrs", "public", "signature")
_WHAT: Final = "TPM quote"


def encode_tpm_item(
    attest: bytes, signature: bytes, public: bytes, chain: bytes | None, pcrs: PcrValues
) -> bytes:
    """Encode in deterministic CBOR.

    Args:
        attest: TPMS_ATTEST.
        signature: TPMT_SIGNATURE.
        public: TPMT_PUBLIC of the attestation key.
        chain: PEM certificates for that key, its own first, at most 5; None if there are none.
        pcrs: the values that were quoted, by bank and index.

    Raises:
        UsageError: what a reader would refuse.
    """
    data = encode(
        {
            "attest": attest,
            "chain": chain,
            "pcrs": {bank: dict(values) for bank, values in pcrs.items()},
            "public": public,
            "signature": signature,
        }
    )
    try:
        parse_tpm_item(data)
    except EvidenceError as problem:
        raise UsageError(f"TPM quote cannot be encoded: {problem.message}",
                         expected=problem.expected, found=problem.found,
                         where=problem.where, hint=problem.hint) from None  # fmt: skip
    return data


def parse_tpm_item(data: bytes) -> TpmQuote:
    """Parse the item, and the structures in it.

    Raises:
        EvidenceError: malformed anywhere; a member missing, of a wrong type or size, or one too
            many.
    """
    members = decode(data, what=_WHAT, error=EvidenceError, limit=MAX_TPM_ITEM_BYTES)
    if not isinstance(members, dict) or set(members) != set(_MEMBERS):
        raise EvidenceError(f"{_WHAT} is malformed", expected="a map with " + ", ".join(_MEMBERS))
    for name in ("attest", "public", "signature", "chain"):
        if not isinstance(members[name], bytes) and (name != "chain" or members[name] is not None):
            raise EvidenceError(f"{_WHAT} has an unusable member", where=name,
                                expected="a byte string")  # fmt: skip
    return parse_tpm_quote(**members)
