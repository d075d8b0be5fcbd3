"""The SGX extension of PCK certificates."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccverify.errors import EvidenceError
from ccverify.sim import PckConfiguration, SgxExtension, SimPlatform, der
from ccverify.sim.certs import Extension
from ccverify.sim.sgx_extension import encode_items
from ccverify.tdx.pck import SGX_EXTENSION_OID, PckPlatform, SgxType, parse_pck_platform
from ccverify.tdx.quote import parse_quote
from ccverify.trust.x509 import parse_certificate, parse_pem_chain

OID = SGX_EXTENSION_OID
PLATFORM = SimPlatform()
HONEST = PLATFORM.sgx_extension()
PCK = PLATFORM.pck()


def _read(value: bytes) -> PckPlatform:
    """Read an extension value as it would stand in a certificate."""
    spec = PCK.with_extension(Extension(OID, False, value))
    return parse_pck_platform(parse_certificate(spec.der()))


def _items(
    *, drop: str = "", put: tuple[tuple[str, bytes], ...] = (), of: SgxExtension = HONEST
) -> bytes:
    items = [item for item in of.items() if item[0] != f"{OID}.{drop}"]
    return encode_items((*items, *((f"{OID}.{arc}", value) for arc, value in put)))


def _tcb(*, drop: int | None = None, put: tuple[tuple[int, bytes], ...] = ()) -> bytes:
    items = [item for item in HONEST.tcb_items() if item[0] != f"{OID}.2.{drop}"]
    tcb = encode_items((*items, *((f"{OID}.2.{arc}", value) for arc, value in put)))
    return _items(drop="2", put=(("2", tcb),))


def test_every_field_is_read() -> None:
    extension = replace(
        HONEST,
        component_svns=tuple(range(240, 256)),
        pcesvn=0xABCD,
        cpusvn=bytes(range(16)),
        pce_id=b"\x01\x02",
        sgx_type=2,
        configuration=PckConfiguration(True, False, True),
    )
    assert _read(encode_items(extension.items())) == PckPlatform(
        ppid=HONEST.ppid,
        component_svns=tuple(range(240, 256)),
        pcesvn=0xABCD,
        cpusvn=bytes(range(16)),
        pceid=b"\x01\x02",
        fmspc=HONEST.fmspc,
        sgx_type=SgxType.SCALABLE_WITH_INTEGRITY,
        platform_instance_id=HONEST.platform_instance_id,
        dynamic_platform=True,
        cached_keys=False,
        smt_enabled=True,
    )


def test_a_processor_ca_certificate_states_less() -> None:
    platform = parse_pck_platform(parse_certificate(SimPlatform(ca="processor").pck().der()))
    assert platform.sgx_type is SgxType.STANDARD
    assert platform.platform_instance_id is None
    flags = (platform.dynamic_platform, platform.cached_keys, platform.smt_enabled)
    assert flags == (None, None, None)


def test_order_of_items_does_not_matter() -> None:
    assert _read(encode_items(HONEST.items()[::-1])) == _read(encode_items(HONEST.items()))


def test_real_certificates_are_read(vectors: Path) -> None:
    data = (vectors / "tdx" / "quotes" / "phala_b0c06f_v4.bin").read_bytes()
    leaf = parse_pem_chain(parse_quote(data).certification_data)[0]
    platform = parse_pck_platform(leaf)
    assert platform.fmspc.hex().upper() == "B0C06F000000"
    assert platform.pceid == bytes(2)
    assert platform.sgx_type is SgxType.SCALABLE
    assert len(platform.component_svns) == 16


def test_a_certificate_without_the_extension_is_refused() -> None:
    bare = parse_certificate(PCK.without_extension(OID).der())
    with pytest.raises(EvidenceError, match="no SGX extension"):
        parse_pck_platform(bare)


_LONG_CONFIGURATION = encode_items((*PckConfiguration().items(), (f"{OID}.7.4", der.boolean(True))))
REFUSALS: dict[str, bytes] = {
    "empty": b"",
    "no sequence": der.octet_string(b""),
    "empty sequence": der.sequence(),
    "tail": encode_items(HONEST.items()) + b"\0",
    "cut": encode_items(HONEST.items())[:-1],
    "item is no sequence": der.sequence(der.integer(1)),
    "item of one part": der.sequence(der.sequence(der.object_identifier(f"{OID}.1"))),
    "item of three parts": der.sequence(
        der.sequence(der.object_identifier(f"{OID}.1"), der.integer(1), der.integer(1))
    ),
    "item without OID": der.sequence(der.sequence(der.integer(1), der.integer(1))),
    "foreign OID": _items(put=(("1.1", der.integer(1)),)),
    "OID of the parent": encode_items((*HONEST.items(), (OID, der.integer(1)))),
    "OID with a large arc": _items(put=(("200", der.integer(1)),)),
    "unknown field": _items(put=(("8", der.integer(1)),)),
    "unknown TCB field": _tcb(put=((19, der.integer(1)),)),
    "unknown configuration": _items(
        drop="7",
        put=(
            ("7", encode_items((*PckConfiguration().items(), (f"{OID}.7.4", der.boolean(True))))),
        ),
    ),
    "PPID twice": _items(put=(("1", der.octet_string(bytes(16))),)),
    "SVN twice": _tcb(put=((3, der.integer(1)),)),
    "PPID short": _items(drop="1", put=(("1", der.octet_string(bytes(15))),)),
    "PPID long": _items(drop="1", put=(("1", der.octet_string(bytes(17))),)),
    "PPID of another type": _items(drop="1", put=(("1", der.integer(1)),)),
    "FMSPC short": _items(drop="4", put=(("4", der.octet_string(bytes(5))),)),
    "PCEID long": _items(drop="3", put=(("3", der.octet_string(bytes(3))),)),
    "instance id short": _items(drop="6", put=(("6", der.octet_string(bytes(15))),)),
    "CPUSVN short": _tcb(drop=18, put=((18, der.octet_string(bytes(15))),)),
    "SVN 256": _tcb(drop=1, put=((1, der.integer(256)),)),
    "SVN negative": _tcb(drop=1, put=((1, b"\x02\x01\xff"),)),
    "SVN not minimal": _tcb(drop=1, put=((1, b"\x02\x02\x00\x01"),)),
    "SVN empty": _tcb(drop=1, put=((1, b"\x02\x00"),)),
    "PCESVN 65536": _tcb(drop=17, put=((17, der.integer(65536)),)),
    "SGX type 3": _items(drop="5", put=(("5", der.enumerated(3)),)),
    "SGX type as integer": _items(drop="5", put=(("5", der.integer(1)),)),
    "boolean 1": _items(drop="7", put=(("7", encode_items(((f"{OID}.7.1", b"\x01\x01\x01"),))),)),
    "boolean empty": _items(drop="7", put=(("7", encode_items(((f"{OID}.7.1", b"\x01\x00"),))),)),
    "configuration is no sequence": _items(drop="7", put=(("7", der.integer(1)),)),
    **{f"without .{arc}": _items(drop=str(arc)) for arc in range(1, 6)},
    **{f"without .2.{arc}": _tcb(drop=arc) for arc in range(1, 19)},
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refused(name: str) -> None:
    with pytest.raises(EvidenceError):
        _read(REFUSALS[name])


def test_optional_fields_may_be_absent() -> None:
    assert _read(_items(drop="6")).platform_instance_id is None
    assert _read(_items(drop="7")).smt_enabled is None
    part = encode_items(((f"{OID}.7.3", der.boolean(False)),))
    platform = _read(_items(drop="7", put=(("7", part),)))
    assert (platform.dynamic_platform, platform.smt_enabled) == (None, False)


ENCODED = encode_items(HONEST.items())


def test_no_prefix_is_read() -> None:
    for size in range(len(ENCODED)):
        with pytest.raises(EvidenceError):
            _read(ENCODED[:size])


@given(st.integers(0, len(ENCODED) - 1), st.integers(0, 7))
@settings(deadline=None, max_examples=400)
def test_a_flipped_bit_is_refused_or_changes_one_value(position: int, bit: int) -> None:
    value = bytearray(ENCODED)
    value[position] ^= 1 << bit
    try:
        platform = _read(bytes(value))
    except EvidenceError:
        return
    assert platform != _read(ENCODED)


@given(st.binary(max_size=200))
@settings(deadline=None, max_examples=300)
def test_garbage_is_refused(value: bytes) -> None:
    for data in (value, der.sequence(value), der.sequence(der.sequence(value))):
        with pytest.raises(EvidenceError):
            _read(data)
