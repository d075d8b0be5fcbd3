"""Simulated TPMs and operators: the same bytes each time, and CBOR as a library reads it."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import given
from hypothesis import strategies as st

from ccverify.sim.cbor import encode
from ccverify.sim.operator import SimOperator
from ccverify.sim.tpm import SimTpm
from ccverify.sim.tpm_device import SimTpmDevice

DATA = sha256(b"request").digest()

VALUES = st.recursive(
    st.none() | st.integers(-(1 << 64), (1 << 64) - 1) | st.binary(max_size=300) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.integers(-400, 400) | st.text(max_size=30), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(VALUES)
def test_cbor_is_what_a_library_encodes(value: Any) -> None:
    encoded = encode(value)
    assert cbor2.loads(encoded) == value
    assert encode(cbor2.loads(encoded)) == encoded
    # cbor2 calls the older order, by length first, canonical: it is the same for short keys.
    if not isinstance(value, dict | list):
        assert cbor2.dumps(value) == encoded


@pytest.mark.parametrize("value", [True, 1.5, object(), {1: {None: object()}}])
def test_cbor_of_other_types_is_refused(value: object) -> None:
    with pytest.raises(TypeError):
        encode(value)
    with pytest.raises(ValueError, match="too large"):
        encode(1 << 64)


def test_everything_follows_from_labels() -> None:
    assert SimTpm().quote(DATA) == SimTpm().quote(DATA)
    assert SimTpm("another").name != SimTpm().name
    assert SimTpm(seed=b"another").name != SimTpm().name
    assert SimTpm("another").pcr(0) == SimTpm().pcr(0)
    assert SimOperator().sign(bytes(48)) == SimOperator().sign(bytes(48))
    assert SimOperator("another").sign(bytes(48)) != SimOperator().sign(bytes(48))


def test_the_signature_is_of_the_attestation_key() -> None:
    quote = SimTpm().quote(DATA)
    r, s = quote.signature[6:38], quote.signature[40:72]
    SimTpm().key.private_key.public_key().verify(
        encode_dss_signature(int.from_bytes(r), int.from_bytes(s)), quote.attest, ec.ECDSA(SHA256())
    )
    assert DATA in quote.attest
    digest = sha256(b"".join(quote.pcrs["sha256"].values())).digest()
    assert quote.attest.endswith(digest)


def test_pcrs_start_as_a_tpm_has_them() -> None:
    tpm = replace(SimTpm(), measured={0: b"firmware"})
    assert tpm.pcr(1) == bytes(32)
    assert tpm.pcr(17, "sha384") == b"\xff" * 48
    assert tpm.pcr(0) == sha256(bytes(32) + sha256(b"firmware").digest()).digest()


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (b"", 0x142),
        (bytes(10), 0x142),
        (b"\x00\xc1\0\0\0\x0a\0\0\0\x14", 0x1E),
        (b"\x80\x01\0\0\0\x0a\0\0\x01\x44", 0x143),
        (b"\x80\x01\0\0\0\x0e\0\0\x01\x73\x80\0\0\x07", 0x18B),
        (b"\x80\x01\0\0\0\x0e\0\0\x01\x65\x80\0\0\x07", 0x18B),
        (b"\x80\x02\0\0\0\x0e\0\0\x01\x31\x40\0\0\x07", 0x184),
        (b"\x80\x02\0\0\0\x0e\0\0\x01\x58\x80\0\0\x07", 0x18B),
    ],
)
def test_the_device_refuses_as_a_tpm_does(command: bytes, code: int) -> None:
    response = SimTpmDevice().transmit(command, lambda: 1.0)
    assert response == b"\x80\x01\0\0\0\x0a" + code.to_bytes(4)
