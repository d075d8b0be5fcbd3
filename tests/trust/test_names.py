"""Names as text: whatever a name holds, it can be shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccverify.sim import SimPlatform
from ccverify.trust.names import name_text
from ccverify.trust.x509 import parse_certificate

NAME = parse_certificate(SimPlatform().case().pck.der()).subject


def test_a_name_is_written_most_specific_last() -> None:
    text = name_text(NAME)
    assert text.startswith("C=US,ST=CA,L=Santa Clara,O=ccverify simulation\\, not Intel,")
    assert text.endswith("CN=Intel SGX PCK Certificate")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (bytes.fromhex("3000"), ""),
        (bytes.fromhex("300d310b3009060355040313024142"), "CN=AB"),
        (bytes.fromhex("300d310b300906035504030c02ff42"), "CN=#ff42"),  # not UTF-8
        (bytes.fromhex("300d310b3009060355040303024142"), "CN=#4142"),  # a BIT STRING
        (bytes.fromhex("300d310b3009060355046313024142"), "OID 550463=AB"),
        (b"", "name "),
        (b"\x30\x05\x31", "name 300531"),
    ],
)
def test_names_that_are_odd(name: bytes, text: str) -> None:
    assert name_text(name) == text


@given(st.binary(max_size=80))
def test_any_bytes_can_be_shown(name: bytes) -> None:
    assert isinstance(name_text(name), str)


@given(st.integers(0, len(NAME) - 1), st.integers(1, 255))
def test_a_damaged_name_can_be_shown(at: int, change: int) -> None:
    damaged = bytearray(NAME)
    damaged[at] ^= change
    assert isinstance(name_text(bytes(damaged)), str)
