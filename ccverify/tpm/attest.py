"""TPMS_ATTEST of a quote: what a TPM signs (TPM 2.0 Part 2 §10.12.12)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ccverify.tpm.wire import DIGEST_BYTES, Reader, bank_name

__all__ = ["ATTEST_QUOTE", "GENERATED", "Attest", "ClockInfo", "PcrSelection", "parse_attest"]

GENERATED: Final = 0xFF544347
"""TPM_GENERATED_VALUE.  A restricted key signs nothing from outside that begins so: structures
with it were made inside the TPM."""
ATTEST_QUOTE: Final = 0x8018
"""TPM_ST_ATTEST_QUOTE."""

_WHAT: Final = "TPMS_ATTEST"
_MAX_NAME: Final = 2 + 64
_MAX_EXTRA: Final = 2 + 64  # TPM2B_DATA holds a TPMT_HA at most
_MAX_BANKS: Final = 16
_MAX_SELECT_BYTES: Final = 4


@dataclass(frozen=True, slots=True)
class ClockInfo:
    """TPMS_CLOCK_INFO.

    For a key that is not in the endorsement or platform hierarchy the TPM adds a constant of that
    key to both counts and to the firmware's version, so only differences between quotes of one
    key have a meaning.

    Attributes:
        clock: milliseconds the TPM has been powered.
        reset_count: TPM resets since the TPM was last cleared: boots of the host.
        restart_count: TPM restarts and resumes since the last reset.
        safe: whether no greater `clock` was ever reported.
    """

    clock: int
    reset_count: int
    restart_count: int
    safe: bool


@dataclass(frozen=True, slots=True)
class PcrSelection:
    """TPMS_PCR_SELECTION: PCRs of one bank.

    Attributes:
        alg: TPM_ALG_ID of the bank.
        indices: ascending.
    """

    alg: int
    indices: tuple[int, ...]

    def __str__(self) -> str:
        return f"{bank_name(self.alg)}:{','.join(map(str, self.indices))}"


@dataclass(frozen=True, slots=True)
class Attest:
    """A TPMS_ATTEST of type quote, nothing in it verified.

    Attributes:
        qualified_signer: qualified Name of the key that signed: TPM_ALG_ID and digest, or empty.
        extra_data: what the caller of TPM2_Quote had put in: qualifying data.
        clock: of the TPM, at the moment of the quote.
        firmware_version: of the TPM, in its vendor's own form.
        selection: which PCRs, in the order in which they are hashed.
        pcr_digest: over their values, by the hash of the signature.
        encoded: the exact bytes that are signed.
    """

    qualified_signer: bytes
    extra_data: bytes
    clock: ClockInfo
    firmware_version: int
    selection: tuple[PcrSelection, ...]
    pcr_digest: bytes
    encoded: bytes


def parse_attest(data: bytes) -> Attest:
    """Parse a TPMS_ATTEST.

    Raises:
        EvidenceError: another magic number or type, a size or selection that no TPM makes, a bank
            selected twice or of an unknown hash, bytes missing or left over.
    """
    reader = Reader(data, _WHAT)
    for name, length, expected in (("magic", 4, GENERATED), ("type", 2, ATTEST_QUOTE)):
        found = reader.number(length, name)
        if found != expected:
            raise reader.error("is no quote of a TPM", name, hex(expected), hex(found))
    signer = reader.sized("qualifiedSigner", _MAX_NAME)
    extra = reader.sized("extraData", _MAX_EXTRA)
    clock = _clock(reader)
    firmware = reader.number(8, "firmwareVersion")
    selection = _selection(reader)
    pcr_digest = reader.sized("pcrDigest", 64)
    reader.end()
    return Attest(signer, extra, clock, firmware, selection, pcr_digest, bytes(data))


def _clock(reader: Reader) -> ClockInfo:
    clock = reader.number(8, "clock")
    reset_count = reader.number(4, "resetCount")
    restart_count = reader.number(4, "restartCount")
    safe = reader.number(1, "safe")
    if safe > 1:
        raise reader.error("has a wrong value", "safe", "0 or 1", str(safe))
    return ClockInfo(clock, reset_count, restart_count, bool(safe))


def _selection(reader: Reader) -> tuple[PcrSelection, ...]:
    count = reader.number(4, "pcrSelect")
    if count > _MAX_BANKS:
        raise reader.error("selects too many banks", "pcrSelect", f"at most {_MAX_BANKS}",
                           str(count))  # fmt: skip
    found: dict[int, PcrSelection] = {}
    for _ in range(count):
        alg = reader.number(2, "hash of pcrSelect")
        if alg not in DIGEST_BYTES or alg in found:
            twice = "a bank once" if alg in found else "SHA-1, SHA-256, SHA-384 or SHA-512"
            raise reader.error("selects a bank that is not accepted", "hash of pcrSelect", twice,
                               bank_name(alg))  # fmt: skip
        size = reader.number(1, "sizeofSelect")
        if not 0 < size <= _MAX_SELECT_BYTES:
            raise reader.error("has a wrong selection", "sizeofSelect",
                               f"1 to {_MAX_SELECT_BYTES}", str(size))  # fmt: skip
        bits = reader.octets(size, "pcrSelect")
        indices = (index for index in range(8 * size) if bits[index // 8] >> index % 8 & 1)
        found[alg] = PcrSelection(alg, tuple(indices))
    return tuple(found.values())
