"""Simulated manifests: the XML of real ones, canonical by two opinions, and defects."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, reject
from hypothesis import strategies as st
from lxml import etree  # type: ignore[import-untyped]

from ccverify.errors import CollateralError
from ccverify.nvidia.measurements import compare_measurements
from ccverify.nvidia.rim import RimKind, RimVerification, parse_rim, verify_rim
from ccverify.sim.nvidia import (
    B200,
    GH100,
    H100,
    NVSWITCH3,
    RTX_PRO_6000,
    GoldenValue,
    RimSpec,
    SimNvidiaIssuer,
)
from ccverify.sim.nvidia.xml import XmlNode
from ccverify.trust.anchors import NVIDIA_CORIM_SIGNING_ROOT_CA, TrustAnchor
from ccverify.trust.signatures import SignatureMemory

ISSUER = SimNvidiaIssuer()
STRANGER = SimNvidiaIssuer(seed=b"somebody else")
MEMORY = SignatureMemory()
AT = datetime(2026, 6, 15, 12, tzinfo=UTC)
DRIVER, VBIOS = H100.rims(ISSUER)
BIOS = NVSWITCH3.bios_rim(ISSUER)
EVERY = (DRIVER, VBIOS, BIOS, *B200.rims(ISSUER), *RTX_PRO_6000.rims(ISSUER))


@cache
def root() -> TrustAnchor:
    return TrustAnchor.load(ISSUER.rim_root().der())


def verify(spec: RimSpec, at: datetime = AT) -> RimVerification:
    return verify_rim(parse_rim(spec.xml()), root(), MEMORY, at)


@pytest.mark.parametrize("spec", EVERY, ids=lambda spec: spec.file_name)
def test_every_manifest_verifies_and_reads_back(spec: RimSpec) -> None:
    judged = verify(spec)
    assert judged.problem is None
    assert judged.rim is not None
    assert (judged.rim.version, judged.rim.model) == (spec.version, spec.model)
    assert {
        one.index: (one.active, one.alternatives) for one in judged.rim.measurements.values()
    } == {one.index: (one.active, one.values) for one in spec.resources}
    assert len(judged.rim.measurements) == 64
    refused = verify_rim(parse_rim(spec.xml()), NVIDIA_CORIM_SIGNING_ROOT_CA, MEMORY, AT)
    assert refused.rim is None
    assert "root that is not pinned" in (refused.chain_problem or "")


def test_kinds() -> None:
    kinds = [parse_rim(spec.xml()).kind for spec in EVERY]
    pair = [RimKind.DRIVER, RimKind.VBIOS]
    assert kinds == [*pair, RimKind.SWITCH_BIOS, *pair, *pair]


# --- as real ones --------------------------------------------------------------------------------


def _skeleton(data: bytes) -> str:
    """A file without what differs between any two: values of attributes, hashes, base64."""
    text = data.decode("utf-8").rstrip()
    text = re.sub(r' ns2:Hash\d+="[^"]*"', "", text)
    text = re.sub(r"(?<=>)[A-Za-z0-9+/=\n]{40,}(?=<)", "…", text)
    kept = r"(?:xmlns(?::\w+)?|Algorithm|URI|type|index|size|role|edition|PayloadType|ns1:\w+Id)"
    return re.sub(rf' (?!{kept}=)([\w:]+)="[^"]*"', r" \1", text)


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        (DRIVER, "attestation-sdk-testdata/NV_GPU_DRIVER_GH100_550.144.03.xml"),
        (VBIOS, "nvtrust-local-gpu-verifier-samples/1010_0200_882_96005E0001_PROD.swidtag"),
        (
            BIOS,
            "attestation-sdk-testdata/switchVBIOSRim_NV_SWITCH_BIOS_5612_0002_890_9610550001.xml",
        ),
    ],
    ids=["driver", "vbios", "bios"],
)
def test_files_are_written_like_real_ones(spec: RimSpec, name: str, vectors: Path) -> None:
    real = (vectors / "nvidia/rim" / name).read_bytes()
    assert _skeleton(spec.xml()) == _skeleton(real)
    actives = {
        index: (one.active, len(one.alternatives))
        for index, one in parse_rim(real).measurements.items()
    }
    assert {one.index: (one.active, len(one.values)) for one in spec.resources} == actives


def test_files_are_valid_in_the_schema_that_nvidia_ships(vectors: Path) -> None:
    folder = vectors / "nvidia/rim/schema"
    schema = etree.XMLSchema(etree.parse(str(folder / "swidSchema2015.xsd")))
    for spec in EVERY:
        schema.assertValid(etree.fromstring(spec.xml()))
    role = b' role="softwareCreator tagCreator"'
    assert not schema.validate(etree.fromstring(DRIVER.xml().replace(role, b"")))


@pytest.mark.filterwarnings("ignore")
def test_signatures_are_good_for_signxml_too() -> None:
    signxml = pytest.importorskip("signxml")
    config = signxml.SignatureConfiguration(
        signature_methods=frozenset({signxml.SignatureMethod.ECDSA_SHA384}),
        digest_algorithms=frozenset({signxml.DigestAlgorithm.SHA384}),
        verification_time=AT,
    )
    for spec in (DRIVER, BIOS):
        verifier, pem = signxml.XMLVerifier(), spec.chain[0].pem()
        found = verifier.verify(spec.xml(), x509_cert=pem, expect_config=config)
        assert found.signed_data == spec._root().canonical()
        forged = replace(spec, signature=b"\x01" * 96).xml()
        with pytest.raises(signxml.exceptions.InvalidSignature):
            verifier.verify(forged, x509_cert=pem, expect_config=config)


@pytest.mark.parametrize("spec", EVERY, ids=lambda spec: spec.file_name)
def test_canonical_form_by_a_second_opinion(spec: RimSpec) -> None:
    """What the builder digested and signed is what libxml2 makes of the file."""
    tree = etree.fromstring(spec.xml())
    (signature,) = [node for node in tree if node.tag.endswith("}Signature")]
    scope = {prefix or "": uri for prefix, uri in signature[0].nsmap.items()}
    unsigned = spec._root()
    info = spec._signed_info(hashlib.sha384(unsigned.canonical()).digest())
    assert info.canonical(scope) == etree.tostring(signature[0], method="c14n")
    before = signature.getprevious()
    before.tail += signature.tail or ""
    tree.remove(signature)
    assert unsigned.canonical() == etree.tostring(tree, method="c14n")


_NAMES = st.sampled_from(["a", "b", "n:a", "n:b", "m:c"])
_TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF), max_size=8) | st.sampled_from(
    ["\t", "\n", "&<>\"'", "a\rb"]
)
_ATTRIBUTES = st.dictionaries(_NAMES, _TEXT, max_size=4).map(lambda own: tuple(own.items()))
_DECLARED = st.sampled_from(["urn:1", "urn:2"])
_SPACES = st.dictionaries(st.sampled_from(["", "n", "m", "z"]), _DECLARED, max_size=3).map(
    lambda own: tuple(own.items())
)
_LEAF = st.builds(XmlNode, _NAMES, _ATTRIBUTES, _SPACES)
_TREE = st.recursive(
    _LEAF,
    lambda inner: st.builds(
        XmlNode, _NAMES, _ATTRIBUTES, _SPACES, st.lists(inner | _TEXT, max_size=3).map(tuple)
    ),
    max_leaves=6,
)


@given(_TREE)
def test_any_tree_is_canonicalised_as_libxml2_does(tree: XmlNode) -> None:
    top = XmlNode("top", (), (("", "urn:0"), ("n", "urn:n"), ("m", "urn:m")), (tree,))
    try:
        parsed = etree.fromstring(top.text().encode("utf-8"))
    except etree.XMLSyntaxError:  # two prefixes of one URI made two attributes of one name
        reject()
    assert top.canonical() == etree.tostring(parsed, method="c14n")
    # As an apex it repeats what is in scope.  libxml2 is asked about a document of its own:
    # of an element inside one it undeclares the default namespace further down.
    outer = dict(top.namespaces)
    alone = replace(tree, namespaces=tuple((outer | dict(tree.namespaces)).items()))
    parsed = etree.fromstring(alone.text().encode("utf-8"))
    assert tree.canonical(outer) == etree.tostring(parsed, method="c14n")


# --- defects -------------------------------------------------------------------------------------


def test_a_changed_value_breaks_the_digest() -> None:
    golden = H100.driver_golden()[21].values[0].hex().encode()
    data = DRIVER.xml()
    assert data.count(golden) == 1
    forged = parse_rim(data.replace(golden, b"66" * 48))
    judged = verify_rim(forged, root(), MEMORY, AT)
    assert "SHA-384 digest" in (judged.signature_problem or "")
    assert judged.rim is None


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (replace(DRIVER, digest=bytes(48)), "SHA-384 digest"),
        (replace(DRIVER, signature=b"\x01" * 96), "does not verify"),
        (replace(DRIVER, signer=ISSUER.key("other")), "does not verify"),
    ],
    ids=["digest", "signature", "signer"],
)
def test_bad_signatures(spec: RimSpec, reason: str) -> None:
    judged = verify(spec)
    assert reason in (judged.signature_problem or "")
    assert judged.chain_problem is None
    assert judged.rim is None


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (H100.driver_rim(STRANGER), "root that is not pinned"),
        (
            replace(DRIVER, chain=STRANGER.rim_chain(GH100)[:3]),
            "authority key identifier",
        ),
        (replace(DRIVER, chain=ISSUER.rim_debug_chain(GH100)), "root that is not pinned"),
        (replace(DRIVER, chain=(DRIVER.chain[0], *DRIVER.chain[2:])), "not 3"),
        (
            replace(DRIVER, chain=ISSUER.device_chain(GH100, "device", H100.fwid)[1:]),
            "root that is not pinned",
        ),
    ],
    ids=["another world", "another world without root", "test-signed", "L3 missing", "device"],
)
def test_bad_signers(spec: RimSpec, reason: str) -> None:
    judged = verify(spec)
    assert judged.signature_problem is None
    assert reason in (judged.chain_problem or "")
    assert judged.rim is None


def test_an_expired_signer_is_a_finding_of_its_own() -> None:
    window = (datetime(2023, 6, 1, tzinfo=UTC), datetime(2025, 6, 1, tzinfo=UTC))
    signer = ISSUER.rim_signer(GH100, window=window)
    judged = verify(replace(DRIVER, chain=(signer, *DRIVER.chain[1:])))
    assert judged.rim is not None
    assert "expired on 2025-06-01" in (judged.validity_problem or "")
    assert judged.valid_until == window[1]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (replace(DRIVER, meta=(("ns1:FirmwareManufacturerId", "1"),)), "FirmwareManufacturerId"),
        (replace(DRIVER, meta=(("PayloadType", "indirect"),)), "PayloadType"),
        (replace(DRIVER, edition="SWITCH"), "edition and colloquialVersion"),
        (replace(DRIVER, model="gh100"), "PlatformModel"),
        (replace(DRIVER, tag_id="1"), "tagId"),
        (replace(DRIVER, resources=DRIVER.resources + DRIVER.resources[:1]), "RIM: measurement"),
        (DRIVER.with_golden(3, bytes(47)), "Hash of a Resource"),
        (replace(DRIVER, resources=(GoldenValue(0, name="a b"),)), "name of a Resource"),
        (replace(DRIVER, chain=()), "certificates in KeyInfo"),
    ],
    ids=["maker", "payload", "edition", "model", "tag", "twice", "short", "name", "no signer"],
)
def test_bad_content(spec: RimSpec, message: str) -> None:
    if not spec.chain:
        spec = replace(spec, signer=ISSUER.key("other"))
    with pytest.raises(CollateralError, match=message):
        parse_rim(spec.xml())


def test_golden_values_are_as_chosen() -> None:
    values = (b"\x01" * 48, b"\x02" * 48)
    changed = verify(VBIOS.with_golden(2, *values)).rim
    driver = verify(DRIVER).rim
    assert changed is not None
    assert changed.golden[2] == set(values)
    runtime = {at + 1: value for at, value in enumerate(H100.measurements())}
    comparison = compare_measurements(runtime, driver, changed, nvdec0_disabled=True)
    assert [one.index for one in comparison.mismatched] == [2]
    silent = verify(VBIOS.with_golden(2, active=False)).rim
    assert silent is not None
    assert 2 not in silent.golden
    both = verify(VBIOS.with_golden(21, bytes(48))).rim
    assert both is not None
    assert compare_measurements(runtime, driver, both, nvdec0_disabled=True).conflicts == (21,)
