"""Trust anchors and stores: what is pinned, what may be pinned, what a store is called."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccverify.errors import TrustError
from ccverify.sim import SimIssuer, SimPlatform
from ccverify.trust.anchors import INTEL_SGX_ROOT_CA, TrustAnchor
from ccverify.trust.signatures import SignatureMemory
from ccverify.trust.store import TrustKind, TrustStore
from ccverify.trust.x509 import parse_certificate

CASE = SimPlatform().case()
SIM_ROOT = TrustAnchor.load(CASE.root.der())


def test_the_pinned_root_is_intels(vectors: Path) -> None:
    """Every value of the anchor is that of the certificate Intel publishes."""
    der = (vectors / "tdx" / "certs" / "intel_sgx_root_ca.der").read_bytes()
    pem = (vectors / "tdx" / "certs" / "intel_sgx_root_ca.pem").read_bytes()
    for data in (der, pem):
        anchor = TrustAnchor.load(data)
        assert replace(anchor, label=INTEL_SGX_ROOT_CA.label) == INTEL_SGX_ROOT_CA
    root = parse_certificate(der)
    assert root.public_key.verify_der(root.signature, root.tbs)


def test_the_pinned_digest_is_the_published_one() -> None:
    assert INTEL_SGX_ROOT_CA.certificate_sha256.hex() == (
        "44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3"
    )
    assert INTEL_SGX_ROOT_CA.public_key.handle is not None


def test_production_holds_only_the_pinned_root() -> None:
    store = TrustStore.production()
    assert (store.kind, store.intel_root) == (TrustKind.PRODUCTION, INTEL_SGX_ROOT_CA)
    with pytest.raises(TrustError, match="only the roots pinned"):
        TrustStore(TrustKind.PRODUCTION, SIM_ROOT)
    with pytest.raises(TrustError, match="only the roots pinned"):
        TrustStore(TrustKind.PRODUCTION, replace(INTEL_SGX_ROOT_CA, label="other"))


@pytest.mark.parametrize("kind", [TrustKind.SIMULATED, TrustKind.INSECURE])
def test_other_roots_need_another_kind(kind: TrustKind) -> None:
    assert TrustStore(kind, SIM_ROOT).intel_root is SIM_ROOT


def test_an_anchor_is_loaded_from_pem_or_der() -> None:
    assert TrustAnchor.load(CASE.root.pem().encode()) == SIM_ROOT
    assert SIM_ROOT.certificate_sha256 == hashlib.sha256(CASE.root.der()).digest()
    assert SIM_ROOT.subject == CASE.root.subject.der()
    assert SIM_ROOT.key_id == CASE.root.key.key_id


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff" * 40,
        CASE.pck.der(),
        CASE.pck_ca.der(),
        CASE.pck_ca.pem().encode(),
        CASE.tcb_signing.der(),
        CASE.pck_chain().encode(),
        (CASE.root.pem() * 2).encode(),
        b"-----BEGIN NONSENSE-----",
        replace(CASE.root, extensions=()).der(),
        CASE.root_crl.der(),
    ],
)
def test_what_is_no_root_cannot_be_pinned(data: bytes) -> None:
    with pytest.raises(TrustError):
        TrustAnchor.load(data)


@given(st.binary(max_size=200))
@settings(deadline=None, max_examples=100)
def test_garbage_cannot_be_pinned(data: bytes) -> None:
    for text in (data, b"-----BEGIN CERTIFICATE-----\n" + data):
        with pytest.raises(TrustError):
            TrustAnchor.load(text)


def test_the_digest_names_kind_and_anchor() -> None:
    simulated = TrustStore(TrustKind.SIMULATED, SIM_ROOT)
    assert simulated.digest == TrustStore(TrustKind.SIMULATED, SIM_ROOT).digest
    other = TrustAnchor.load(SimIssuer(seed=b"other").root().der())
    digests = {
        simulated.digest,
        TrustStore(TrustKind.INSECURE, SIM_ROOT).digest,
        TrustStore(TrustKind.SIMULATED, other).digest,
        TrustStore.production().digest,
    }
    assert len(digests) == 4
    assert all(len(bytes.fromhex(digest)) == 48 for digest in digests)


def test_the_memory_is_no_part_of_a_stores_identity() -> None:
    first, second = TrustStore.production(), TrustStore.production()
    assert first.memory is not second.memory
    assert first == second
    shared = SignatureMemory()
    assert TrustStore(TrustKind.SIMULATED, SIM_ROOT, memory=shared).memory is shared
