"""The five TPM 2.0 commands a quote takes, marshalled here (TPM 2.0 Part 3).

A TPM that is asked by these few commands needs no library beside the kernel's driver.  Responses
are read as strictly as evidence: what does not have the form of Part 3 is an EvidenceError.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from struct import pack
from typing import Final

from ccverify.collect.tpm_channel import Channel
from ccverify.errors import EvidenceError
from ccverify.tpm.attest import PcrSelection
from ccverify.tpm.public import ATTESTATION_KEY, Attributes
from ccverify.tpm.quote import MAX_STRUCTURE_BYTES
from ccverify.tpm.verify import HIERARCHIES
from ccverify.tpm.wire import DIGEST_BYTES, Alg, Reader

__all__ = ["ATTESTATION_TEMPLATE", "Quoted", "ResponseError", "Tpm", "encode_selection"]

_NO_SESSIONS: Final = 0x8001
_SESSIONS: Final = 0x8002
_CREATE_PRIMARY: Final = 0x131
_QUOTE: Final = 0x158
_FLUSH_CONTEXT: Final = 0x165
_READ_PUBLIC: Final = 0x173
_PCR_READ: Final = 0x17E

_PASSWORD: Final = pack(">IIHBH", 9, 0x40000009, 0, 0, 0)
"""An authorization area with one session: TPM_RS_PW and the empty password."""

_ATTRIBUTES: Final = (
    ATTESTATION_KEY | Attributes.USER_WITH_AUTH | Attributes.NO_DA  # no password, so no lockout
)
_P256: Final = 0x0003
_NOTHING: Final = 0
"""Size of something that is empty."""

ATTESTATION_TEMPLATE: Final = pack(
    ">HHI8H",
    Alg.ECC,
    Alg.SHA256,
    _ATTRIBUTES,
    _NOTHING,  # authPolicy
    Alg.NULL,  # symmetric
    Alg.ECDSA,
    Alg.SHA256,
    _P256,
    Alg.NULL,  # kdf
    _NOTHING,  # x
    _NOTHING,  # y
)
"""TPMT_PUBLIC of the key that is made where none is given.  From one template a TPM derives one
key, until its hierarchy gets a new seed: the Name stays the same from boot to boot."""

_PASSING: Final = frozenset({0x908, 0x90A, 0x922})
"""TPM_RC_YIELDED, TPM_RC_TESTING, TPM_RC_RETRY: ask again."""
_PAUSE_S: Final = 0.02
_SELECT_BYTES: Final = 3


class ResponseError(Exception):
    """The TPM refused a command.

    Attributes:
        command: its name.
        code: TPM_RC, without the number of the handle, session or parameter at fault.
    """

    def __init__(self, command: str, code: int) -> None:
        # Format one (Part 1 §39): bit 7 set, bits 6 and 8 to 11 say where.  Higher bits are
        # those of software before the TPM.
        self.code = code & 0xBF if code & 0x80 and code < 0x1000 else code
        self.command = command
        super().__init__(f"{command} gave TPM_RC 0x{code:03x}")


@dataclass(frozen=True, slots=True)
class Quoted:
    """What TPM2_Quote gives.

    Attributes:
        attest: TPMS_ATTEST.
        signature: TPMT_SIGNATURE.
    """

    attest: bytes
    signature: bytes


class Tpm:
    """Commands over a channel.

    Args:
        channel: to the TPM.
        remaining: seconds left for everything.
    """

    def __init__(self, channel: Channel, remaining: Callable[[], float]) -> None:
        self._channel = channel
        self._remaining = remaining

    def create_attestation_key(self, hierarchy: str) -> tuple[int, bytes]:
        """Make a restricted P-256 key as a primary key (TPM2_CreatePrimary).

        Args:
            hierarchy: of `HIERARCHIES`.

        Returns:
            A transient handle, which has to be flushed, and the key's TPMT_PUBLIC.
        """
        sensitive = pack(">HHH", 4, 0, 0)  # no password, no data
        template = _sized(ATTESTATION_TEMPLATE)
        outside, no_pcrs = _sized(b""), pack(">I", 0)
        handle = pack(">I", HIERARCHIES[hierarchy])
        reader = self._run("TPM2_CreatePrimary", _SESSIONS, _CREATE_PRIMARY, handle + _PASSWORD
                           + sensitive + template + outside + no_pcrs)  # fmt: skip
        made = reader.number(4, "objectHandle")
        reader.number(4, "parameterSize")
        # Creation data, ticket and session follow; nothing here needs them.
        return made, reader.sized("outPublic", MAX_STRUCTURE_BYTES)

    def read_public(self, handle: int) -> bytes:
        """Return the TPMT_PUBLIC of a key (TPM2_ReadPublic)."""
        reader = self._run("TPM2_ReadPublic", _NO_SESSIONS, _READ_PUBLIC, pack(">I", handle))
        return reader.sized("outPublic", MAX_STRUCTURE_BYTES)

    def read_pcrs(self, selection: Sequence[PcrSelection]) -> dict[int, dict[int, bytes]]:
        """Read PCRs (TPM2_PCR_Read), as often as it takes.

        Returns:
            Bank → index → value, without those that the TPM does not have.
        """
        wanted = {one.alg: set(one.indices) for one in selection}
        found: dict[int, dict[int, bytes]] = {one.alg: {} for one in selection}
        while any(wanted.values()):
            asked = [PcrSelection(alg, tuple(sorted(left))) for alg, left in wanted.items() if left]
            given = self._read_some(asked)
            if not given:
                break
            for alg, index, value in given:
                if index not in wanted.get(alg, ()) or len(value) != DIGEST_BYTES[alg]:
                    raise EvidenceError("TPM2_PCR_Read gave a PCR that was not asked for",
                                        found=f"{alg:#x}:{index}")  # fmt: skip
                wanted[alg].remove(index)
                found[alg][index] = value
        return found

    def _read_some(self, asked: Sequence[PcrSelection]) -> list[tuple[int, int, bytes]]:
        """Return as many PCRs as one response holds, eight at most."""
        reader = self._run("TPM2_PCR_Read", _NO_SESSIONS, _PCR_READ, encode_selection(asked))
        reader.number(4, "pcrUpdateCounter")
        given = [
            (alg, index)
            for alg, bits in _selections(reader)
            for index in range(8 * len(bits))
            if bits[index // 8] >> index % 8 & 1
        ]
        count = reader.number(4, "pcrValues")
        if count != len(given) or count > 8:
            raise reader.error("has another number of values than of PCRs", "pcrValues",
                               str(len(given)), str(count))  # fmt: skip
        return [(alg, index, reader.sized("digest", 64)) for alg, index in given]

    def quote(
        self, handle: int, qualifying_data: bytes, selection: Sequence[PcrSelection]
    ) -> Quoted:
        """Let a key sign PCRs, by its own scheme (TPM2_Quote)."""
        reader = self._run("TPM2_Quote", _SESSIONS, _QUOTE, pack(">I", handle) + _PASSWORD
                           + _sized(qualifying_data) + pack(">H", Alg.NULL)
                           + encode_selection(selection))  # fmt: skip
        size = reader.number(4, "parameterSize")
        attest = reader.sized("quoted", MAX_STRUCTURE_BYTES)
        if size < len(attest) + 2:
            raise reader.error(
                "states a wrong size", "parameterSize", "that of its parts", str(size)
            )
        return Quoted(attest, reader.octets(size - len(attest) - 2, "signature"))

    def flush(self, handle: int) -> None:
        """Give up a transient key (TPM2_FlushContext)."""
        self._run("TPM2_FlushContext", _NO_SESSIONS, _FLUSH_CONTEXT, pack(">I", handle))

    def _run(self, name: str, tag: int, code: int, body: bytes) -> Reader:
        command = pack(">HII", tag, 10 + len(body), code) + body
        while True:
            response = self._channel.transmit(command, self._remaining)
            reader = Reader(response, f"response to {name}")
            reader.number(2, "tag")
            size = reader.number(4, "responseSize")
            if size != len(response):
                raise reader.error("states a wrong size", "responseSize", f"{len(response)}",
                                   f"{size}")  # fmt: skip
            problem = reader.number(4, "responseCode")
            if problem == 0:
                return reader
            if problem not in _PASSING:
                raise ResponseError(name, problem)
            if self._remaining() <= _PAUSE_S:
                raise TimeoutError
            time.sleep(_PAUSE_S)


def _sized(data: bytes) -> bytes:
    return pack(">H", len(data)) + data


def encode_selection(selection: Sequence[PcrSelection]) -> bytes:
    """Return a TPML_PCR_SELECTION, with three bytes of bits for each bank."""
    parts = [pack(">I", len(selection))]
    for one in selection:
        bits = sum(1 << index for index in one.indices)
        parts.append(pack(">HB", one.alg, _SELECT_BYTES) + bits.to_bytes(_SELECT_BYTES, "little"))
    return b"".join(parts)


def _selections(reader: Reader) -> list[tuple[int, bytes]]:
    count = reader.number(4, "pcrSelectionOut")
    if count > 16:
        raise reader.error("lists too many banks", "pcrSelectionOut", "at most 16", str(count))
    found = []
    for _ in range(count):
        alg = reader.number(2, "hash")
        bits = reader.octets(reader.number(1, "sizeofSelect"), "pcrSelect")
        if alg not in DIGEST_BYTES and any(bits):
            raise reader.error("lists a bank that was not asked for", "hash", "known", hex(alg))
        found.append((alg, bits))
    return found
