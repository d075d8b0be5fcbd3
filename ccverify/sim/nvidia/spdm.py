"""Device reports: SPDM 1.1 GET_MEASUREMENTS request ‖ MEASUREMENTS response (DMTF DSP0274).

Every field can be chosen, lengths and counts included.  Integers are little endian.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace

from ccverify.sim.keys import SimKey
from ccverify.sim.nvidia.opaque import GpuFields, RawFields, SwitchFields, encode_fields

__all__ = ["MeasurementBlock", "ReportSpec", "measurement_blocks"]


@dataclass(frozen=True, slots=True)
class MeasurementBlock:
    """One measurement block: DSP0274 "Measurement block" around a DMTF measurement.

    Attributes:
        index: 1 to 255; a manifest's index is one less.
        value: 48 bytes in an honest report.
        specification: 1 is DMTF.
        value_type: 1 is the digest of mutable firmware.
        size, value_size: stated lengths; None for the true ones.
    """

    index: int
    value: bytes
    specification: int = 1
    value_type: int = 1
    size: int | None = None
    value_size: int | None = None

    def encode(self) -> bytes:
        """Return the block, 55 bytes in an honest report."""
        value_size = len(self.value) if self.value_size is None else self.value_size
        size = len(self.value) + 3 if self.size is None else self.size
        header = struct.pack(
            "<BBHBH", self.index, self.specification, size, self.value_type, value_size
        )
        return header + self.value


def measurement_blocks(values: tuple[bytes, ...]) -> tuple[MeasurementBlock, ...]:
    """Return the blocks of these values: RIM index = position, block index one more."""
    return tuple(MeasurementBlock(at + 1, value) for at, value in enumerate(values))


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportSpec:
    """A report to be made.

    Attributes:
        nonce: 32 bytes of the relying party, in the request.
        blocks: measurements, in order.
        opaque: typed fields, or (type, data) pairs in order.
        responder_nonce: 32 bytes of the device.
        signer: the attestation key.
        request_version … slot: the request.
        response_version … response_param2: the response header.
        block_count, record_bytes, opaque_bytes: stated lengths; None for the true ones.
        opaque_raw: opaque data as it is, whatever `opaque` says.
        signature: r‖s, 96 bytes, instead of a genuine one.
        trailing: bytes after the signature, which nobody signs.
    """

    nonce: bytes
    blocks: tuple[MeasurementBlock, ...]
    opaque: GpuFields | SwitchFields | RawFields
    responder_nonce: bytes
    signer: SimKey
    request_version: int = 0x11
    request_code: int = 0xE0
    request_param1: int = 0x01
    request_param2: int = 0xFF
    slot: int = 0
    response_version: int = 0x11
    response_code: int = 0x60
    response_param1: int = 0
    response_param2: int = 0
    block_count: int | None = None
    record_bytes: int | None = None
    opaque_bytes: int | None = None
    opaque_raw: bytes | None = None
    signature: bytes | None = None
    trailing: bytes = b""

    def opaque_data(self) -> bytes:
        """Return the opaque data."""
        if self.opaque_raw is not None:
            return self.opaque_raw
        fields = self.opaque if isinstance(self.opaque, tuple) else self.opaque.fields()
        return encode_fields(fields)

    def signed_range(self) -> bytes:
        """Return everything before the signature, which is what the device signs."""
        request = struct.pack(
            "<BBBB32sB",
            self.request_version,
            self.request_code,
            self.request_param1,
            self.request_param2,
            self.nonce,
            self.slot,
        )
        record = b"".join(block.encode() for block in self.blocks)
        opaque = self.opaque_data()
        size = len(record) if self.record_bytes is None else self.record_bytes
        response = struct.pack(
            "<BBBBB3s",
            self.response_version,
            self.response_code,
            self.response_param1,
            self.response_param2,
            len(self.blocks) if self.block_count is None else self.block_count,
            size.to_bytes(3, "little"),
        )
        stated = len(opaque) if self.opaque_bytes is None else self.opaque_bytes
        tail = self.responder_nonce + stated.to_bytes(2, "little") + opaque
        return request + response + record + tail

    def encode(self) -> bytes:
        """Return the signed report."""
        signed = self.signed_range()
        signature = self.signer.sign_raw(signed) if self.signature is None else self.signature
        return signed + signature + self.trailing

    def with_measurement(self, index: int, value: bytes) -> ReportSpec:
        """Return the report with another value at RIM index `index`; it is signed again."""
        blocks = tuple(
            replace(block, value=value) if block.index == index + 1 else block
            for block in self.blocks
        )
        return replace(self, blocks=blocks)
