"""A simulated TPM 2.0 that answers commands, so that what collects from a TPM can ask it.

The five commands that a quote takes, unmarshalled here after TCG TPM 2.0 Part 3; everything else
is refused as a TPM refuses it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from ccverify.sim.tpm import BankName, SimTpm

__all__ = ["SimTpmDevice"]

_BANKS: Final[dict[int, BankName]] = {0x04: "sha1", 0x0B: "sha256", 0x0C: "sha384", 0x0D: "sha512"}
_ALGS: Final = {name: alg for alg, name in _BANKS.items()}
_HIERARCHIES: Final[dict[int, Literal["owner", "endorsement", "platform"]]] = {
    0x40000001: "owner",
    0x4000000B: "endorsement",
    0x4000000C: "platform",
}
_TRANSIENT: Final = 0x80000000
_BAD_TAG, _COMMAND_SIZE, _COMMAND_CODE = 0x1E, 0x142, 0x143
_HANDLE, _VALUE = 0x18B, 0x184
_AUTH_BYTES: Final = 4 + 9  # one session, without a password
_PER_RESPONSE: Final = 8

_Answer = tuple[int, bytes, bytes]
"""Response code, handle, parameters."""


@dataclass(slots=True)
class SimTpmDevice:
    """A TPM behind a device file.

    Attributes:
        tpm: what it is.
        persistent: handles under which its attestation key can be used.
        banks: that are switched on.
        fails: command code → response code that it gives instead of an answer.
        commands: codes of the commands that came, in order.
        loaded: transient handles in use.
    """

    tpm: SimTpm = field(default_factory=SimTpm)
    persistent: Sequence[int] = (0x81010001,)
    banks: Sequence[BankName] = ("sha1", "sha256", "sha384")
    fails: dict[int, int] = field(default_factory=dict)
    commands: list[int] = field(default_factory=list)
    loaded: set[int] = field(default_factory=set)

    def transmit(self, command: bytes, remaining: Callable[[], float]) -> bytes:
        """Answer a command; `remaining` is not asked, as no time passes here."""
        if len(command) < 10 or int.from_bytes(command[2:6]) != len(command):
            return _response(0x8001, (_COMMAND_SIZE, b"", b""))
        tag, _, code = struct.unpack(">HII", command[:10])
        self.commands.append(code)
        if tag not in (0x8001, 0x8002):
            return _response(0x8001, (_BAD_TAG, b"", b""))
        if code in self.fails:
            return _response(tag, (self.fails[code], b"", b""))
        answer = {
            0x131: self._create_primary,
            0x158: self._quote,
            0x165: self._flush,
            0x173: self._read_public,
            0x17E: self._read_pcrs,
        }.get(code)
        if answer is None:
            return _response(tag, (_COMMAND_CODE, b"", b""))
        return _response(tag, answer(command[10:]))

    def close(self) -> None:
        """Give it up: keys that were left are gone, as behind a resource manager."""
        self.loaded.clear()

    def _create_primary(self, body: bytes) -> _Answer:
        hierarchy = _HIERARCHIES.get(int.from_bytes(body[:4]))
        if hierarchy is None:
            return _VALUE, b"", b""
        self.tpm = replace(self.tpm, hierarchy=hierarchy)
        handle = _TRANSIENT + len(self.loaded)
        self.loaded.add(handle)
        return 0, struct.pack(">I", handle), _sized(self.tpm.public)

    def _read_public(self, body: bytes) -> _Answer:
        if not self._has(int.from_bytes(body[:4])):
            return _HANDLE, b"", b""
        return 0, b"", _sized(self.tpm.public) + _sized(self.tpm.name) + _sized(b"")

    def _read_pcrs(self, body: bytes) -> _Answer:
        asked = [(bank, index) for bank, some in self._selection(body) for index in some]
        given = asked[:_PER_RESPONSE]
        banks = dict.fromkeys(bank for bank, _ in given)
        listed = struct.pack(">I", len(banks)) + b"".join(
            _selected(bank, [index for one, index in given if one == bank]) for bank in banks
        )
        values = b"".join(_sized(self.tpm.pcr(index, bank)) for bank, index in given)
        return 0, b"", struct.pack(">I", 7) + listed + struct.pack(">I", len(given)) + values

    def _quote(self, body: bytes) -> _Answer:
        if not self._has(int.from_bytes(body[:4])):
            return _HANDLE, b"", b""
        rest = body[4 + _AUTH_BYTES :]
        size = int.from_bytes(rest[:2])
        data, rest = rest[2 : 2 + size], rest[2 + size + 2 :]
        made = self.tpm.quote(data, dict(self._selection(rest)))
        return 0, b"", _sized(made.attest) + made.signature

    def _flush(self, body: bytes) -> _Answer:
        handle = int.from_bytes(body[:4])
        if handle not in self.loaded:
            return _HANDLE, b"", b""
        self.loaded.remove(handle)
        return 0, b"", b""

    def _has(self, handle: int) -> bool:
        return handle in self.loaded or handle in self.persistent

    def _selection(self, data: bytes) -> list[tuple[BankName, list[int]]]:
        """Read a TPML_PCR_SELECTION, without the banks that are switched off."""
        found, at = [], 4
        for _ in range(int.from_bytes(data[:4])):
            alg, size = struct.unpack(">HB", data[at : at + 3])
            bits = int.from_bytes(data[at + 3 : at + 3 + size], "little")
            at += 3 + size
            bank = _BANKS.get(alg)
            if bank in self.banks and bank is not None:
                found.append((bank, [n for n in range(8 * size) if bits >> n & 1]))
        return found


def _selected(bank: BankName, indices: Sequence[int]) -> bytes:
    bits = sum(1 << index for index in indices)
    return struct.pack(">HB", _ALGS[bank], 3) + bits.to_bytes(3, "little")


def _response(tag: int, answer: _Answer) -> bytes:
    code, handle, parameters = answer
    if code:
        return struct.pack(">HII", 0x8001, 10, code)
    body = handle + parameters
    if tag == 0x8002:  # the size of the parameters, and after them the session again
        body = handle + struct.pack(">I", len(parameters)) + parameters + b"\0\0\x01\0\0"
    return struct.pack(">HII", tag, 10 + len(body), 0) + body


def _sized(data: bytes) -> bytes:
    return len(data).to_bytes(2, "big") + data
