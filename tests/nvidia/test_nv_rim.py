"""Reference manifests: what they say, who signed them, which one is meant, what they match."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccverify.errors import CollateralError, EvidenceError
from ccverify.nvidia.measurements import compare_measurements
from ccverify.nvidia.rim import (
    GoldenMeasurement,
    Rim,
    RimKind,
    RimVerification,
    parse_rim,
    verify_rim,
)
from ccverify.nvidia.rim_set import RimId, RimSet, gpu_rim_ids, switch_rim_id
from ccverify.sim import CertificateSpec, SimKey
from ccverify.sim.certs import Name, authority_key_id, basic_constraints, key_usage, subject_key_id
from ccverify.trust.anchors import NVIDIA_CORIM_SIGNING_ROOT_CA, TrustAnchor
from ccverify.trust.signatures import SignatureMemory

MEMORY = SignatureMemory()
IN_2024 = datetime(2024, 6, 1, tzinfo=UTC)
IN_2026 = datetime(2026, 11, 21, tzinfo=UTC)

# --- a manifest of our own -----------------------------------------------------------------------

SWID = "http://standards.iso.org/iso/19770/-2/2015/schema.xsd"
SHA384 = "http://www.w3.org/2001/04/xmlenc#sha384"
TCG = (
    "https://trustedcomputinggroup.org/resource/"
    "tcg-reference-integrity-manifest-rim-information-model/"
)
DS = "http://www.w3.org/2000/09/xmldsig#"
C14N = "http://www.w3.org/2006/12/xml-c14n11"

CommonNames = Sequence[str]
NAMES = (
    "HCC RIM L4 Signer",
    "NVIDIA Reference Value L3 GH100 001",
    "NVIDIA Reference Value GH100 CA",
    "Simulated CoRIM signing Root CA",
)


def _chain(names: CommonNames = NAMES, seed: bytes = b"rim tests") -> list[CertificateSpec]:
    """Signer first, root last; the signer is valid from 2023 to 2025, the others to 2030."""
    keys = [SimKey(f"rim-{depth}", seed, "P-384") for depth in range(len(names))]
    subjects = [Name((("CN", name), ("O", "Simulation"))) for name in names]
    chain = []
    for depth, (key, subject) in enumerate(zip(keys, subjects, strict=True)):
        parent = min(depth + 1, len(names) - 1)
        usage = ("key_cert_sign", "crl_sign") if depth else ("digital_signature",)
        chain.append(
            CertificateSpec(
                subject=subject,
                issuer=subjects[parent],
                key=key,
                signer=keys[parent],
                serial=1000 + depth,
                not_before=datetime(2023, 1, 1, tzinfo=UTC),
                not_after=datetime(2030 if depth else 2025, 6, 22, tzinfo=UTC),
                extensions=(
                    basic_constraints(bool(depth)),
                    key_usage(*usage),
                    subject_key_id(key),
                    authority_key_id(keys[parent]),
                ),
            )
        )
    return chain


CHAIN = _chain()
ROOT = TrustAnchor.load(CHAIN[-1].der())


def _b64(octets: bytes) -> str:
    return base64.b64encode(octets).decode("ascii")


def _resource(index: int, *values: bytes, active: bool = True) -> str:
    hashes = " ".join(f'ns2:Hash{i}="{value.hex()}"' for i, value in enumerate(values))
    return (
        f'<Resource active="{active}" alternatives="{len(values)}" index="{index}" '
        f'name="Measurement_{index}" size="48" type="Measurement" {hashes}></Resource>'
    )


def _value(number: int) -> bytes:
    return hashlib.sha384(bytes([number])).digest()


DRIVER = {7: (_value(7),), 21: (_value(21), _value(121)), 35: (_value(35),)}
VBIOS = {0: (_value(0),), 9: (_value(9),)}


def _content(version: str, golden: Mapping[int, Sequence[bytes]], model: str = "GH100") -> str:
    """The unsigned manifest in canonical form: nothing in these tests canonicalises."""
    edition = "SWITCH" if model == "LS10" else "GPU"
    resources = "".join(_resource(index, *values) for index, values in golden.items())
    return (
        f'<SoftwareIdentity xmlns="{SWID}" xmlns:ns2="{SHA384}" name="{model}" '
        f'tagId="{hashlib.sha384(version.encode()).hexdigest()}" version="1.0">\n'
        '<Entity name="NVIDIA Corporation" role="softwareCreator tagCreator"></Entity>\n'
        f'<Meta xmlns:ns1="{TCG}" PayloadType="direct" colloquialVersion="{version}" '
        f'edition="{edition}" product="{model}" ns1:BindingSpec="RIMIM" '
        'ns1:FirmwareManufacturerId="5703" ns1:PlatformManufacturerId="5703" '
        f'ns1:PlatformModel="{model}"></Meta>\n'
        f"<Payload>{resources}{_resource(63, bytes(48), active=False)}</Payload>\n"
        "</SoftwareIdentity>"
    )


def _sign(content: str, chain: Sequence[CertificateSpec] = CHAIN) -> bytes:
    """Sign with the first certificate's key; every certificate goes into KeyInfo."""
    in_scope = f'xmlns="{SWID}" xmlns:ds="{DS}" xmlns:ns2="{SHA384}"'
    signed_info = (
        f"<ds:SignedInfo {in_scope}>"
        f'<ds:CanonicalizationMethod Algorithm="{C14N}"></ds:CanonicalizationMethod>'
        "<ds:SignatureMethod "
        'Algorithm="http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384"></ds:SignatureMethod>'
        '<ds:Reference URI=""><ds:Transforms>'
        f'<ds:Transform Algorithm="{DS}enveloped-signature"></ds:Transform>'
        f'<ds:Transform Algorithm="{C14N}"></ds:Transform></ds:Transforms>'
        "<ds:DigestMethod "
        'Algorithm="http://www.w3.org/2001/04/xmldsig-more#sha384"></ds:DigestMethod>'
        f"<ds:DigestValue>{_b64(hashlib.sha384(content.encode()).digest())}</ds:DigestValue>"
        "</ds:Reference></ds:SignedInfo>"
    )
    value = _b64(chain[0].key.sign_raw(signed_info.encode(), "sha384"))
    x509 = "".join(f"<ds:X509Certificate>{_b64(c.der())}</ds:X509Certificate>" for c in chain)
    signature = (
        f'<ds:Signature xmlns:ds="{DS}">{signed_info.replace(" " + in_scope, "")}'
        f"<ds:SignatureValue>{value}</ds:SignatureValue>"
        f"<ds:KeyInfo><ds:X509Data>{x509}</ds:X509Data></ds:KeyInfo></ds:Signature>"
    )
    return content.replace("</SoftwareIdentity>", f"{signature}</SoftwareIdentity>").encode()


DRIVER_TEXT = _content("545.00", DRIVER)
DRIVER_BYTES = _sign(DRIVER_TEXT)
VBIOS_BYTES = _sign(_content("96.00.5E.00.01", VBIOS))
DRIVER_RIM = parse_rim(DRIVER_BYTES)
VBIOS_RIM = parse_rim(VBIOS_BYTES)


def _verify(data: bytes, now: datetime = IN_2024, root: TrustAnchor = ROOT) -> RimVerification:
    return verify_rim(parse_rim(data), root, MEMORY, now)


# --- reading -------------------------------------------------------------------------------------


def test_what_a_rim_says() -> None:
    rim = DRIVER_RIM
    assert (rim.kind, rim.version, rim.model) == (RimKind.DRIVER, "545.00", "GH100")
    assert rim.tag_id == hashlib.sha384(b"545.00").hexdigest()
    assert rim.title == "driver RIM GH100 545.00"
    assert rim.measurements[21] == GoldenMeasurement(21, "Measurement_21", True, DRIVER[21])
    assert rim.measurements[63] == GoldenMeasurement(63, "Measurement_63", False, (bytes(48),))
    assert rim.golden == {index: frozenset(values) for index, values in DRIVER.items()}
    assert VBIOS_RIM.kind is RimKind.VBIOS
    switch = parse_rim(_sign(_content("96.10.55.00.01", VBIOS, "LS10")))
    assert switch.title == "switch-bios RIM LS10 96.10.55.00.01"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (f'xmlns="{SWID}"', f'xmlns="{TCG}"'),
        ("<Entity ", '<Meta colloquialVersion="545.01"></Meta><Entity '),
        ("<Entity ", "<Payload></Payload><Entity "),
        ("<Entity ", "<Evidence></Evidence><Entity "),
        ("<Entity ", _resource(1, _value(1)) + "<Entity "),
        ("<Entity ", "text<Entity "),
        ("<Payload>", "<Payload>text"),
        ("<Payload>", "<Payload><Directory></Directory>"),
        ("<Payload>", f"<Payload><Directory>{_resource(1, _value(1))}</Directory>"),
        ("<Payload>", f"<Payload>{_resource(7, _value(7))}"),
        ("<Payload>", f"<Payload>{_resource(63, _value(7), active=False)}"),
        ('edition="GPU"', 'edition="CPU"'),
        ('edition="GPU"', 'edition="SWITCH"'),
        ('colloquialVersion="545.00" ', ""),
        ('colloquialVersion="545.00"', 'colloquialVersion="545"'),
        ('colloquialVersion="545.00"', 'colloquialVersion="545.00 "'),
        ('colloquialVersion="545.00"', 'colloquialVersion="../545.00"'),
        ('colloquialVersion="545.00"', 'colloquialVersion="\u0665\u0664\u0665.00"'),
        ('colloquialVersion="545.00"', 'ns1:colloquialVersion="545.00"'),
        ('PayloadType="direct"', 'PayloadType="indirect"'),
        ('BindingSpec="RIMIM"', 'BindingSpec="PC Client RIM"'),
        ('FirmwareManufacturerId="5703"', 'FirmwareManufacturerId="343"'),
        (' ns1:PlatformManufacturerId="5703"', ""),
        ('ns1:PlatformModel="GH100"', 'PlatformModel="GH100"'),
        ('ns1:PlatformModel="GH100"', 'ns1:PlatformModel="gh100/"'),
        ('tagId="', 'tagId="0'),
        ('index="7"', 'index="07"'),
        ('index="7"', 'index="254"'),
        ('index="7"', 'index="-1"'),
        ('index="7"', 'index="\u0667"'),
        ('index="7"', 'index=""'),
        ('index="7"', 'index="7.0"'),
        (' index="7"', ""),
        ('name="Measurement_7"', 'name=""'),
        ('active="True" alternatives="1" index="7"', 'active="true" alternatives="1" index="7"'),
        ('active="True" alternatives="1" index="7"', 'alternatives="1" index="7"'),
        ('alternatives="1" index="7"', 'alternatives="0" index="7"'),
        ('alternatives="1" index="7"', 'alternatives="2" index="7"'),
        ('alternatives="1" index="7"', 'alternatives="999" index="7"'),
        ('alternatives="2"', 'alternatives="1"'),
        (' index="21"', ' extra="1" index="21"'),
        ("ns2:Hash1=", "ns2:Hash2="),
        ("ns2:Hash1=", "ns2:Hash01="),
        ("ns2:Hash1=", "Hash1="),
        ("ns2:Hash1=", "ns2:hash1="),
        ('size="48" type="Measurement" ns2:Hash0="' + _value(7).hex(), 'size="48" type="Measurement'
         '" ns2:Hash0="' + _value(7).hex()[:-2]),
        (_value(7).hex(), _value(7).hex() + "00"),
        (_value(7).hex(), " " + _value(7).hex()[1:]),
        (_value(7).hex(), "g" + _value(7).hex()[1:]),
        ('size="48" type="Measurement" ns2:Hash0="' + _value(7).hex(),
         'size="32" type="Measurement" ns2:Hash0="' + _value(7).hex()),
        ('type="Measurement" ns2:Hash0="' + _value(7).hex(),
         'type="File" ns2:Hash0="' + _value(7).hex()),
    ],
)  # fmt: skip
def test_a_malformed_rim_is_refused_even_if_signed(old: str, new: str) -> None:
    assert old in DRIVER_TEXT
    with pytest.raises(CollateralError, match=r"^RIM"):
        parse_rim(_sign(DRIVER_TEXT.replace(old, new, 1)))


def test_another_root_element_is_refused() -> None:
    with pytest.raises(CollateralError, match=r"^RIM is not a SWID tag"):
        parse_rim(DRIVER_BYTES.replace(b"SoftwareIdentity", b"Identity"))


@pytest.mark.parametrize("parent", ["Entity", "Meta", "Resource"])
def test_a_resource_may_not_hide(parent: str) -> None:
    """Elements that NVIDIA's verifier would find with ``//Resource``."""
    for hidden in (_resource(1, _value(1)), f"<Extra>{_resource(1, _value(1))}</Extra>"):
        with pytest.raises(CollateralError, match=r"^RIM"):
            parse_rim(_sign(DRIVER_TEXT.replace(f"</{parent}>", f"{hidden}</{parent}>", 1)))
        unsigned = f"<ds:Object>{hidden}</ds:Object></ds:Signature>".encode()
        with pytest.raises(CollateralError, match=r"^XML signature"):
            parse_rim(DRIVER_BYTES.replace(b"</ds:Signature>", unsigned))


# --- verifying -----------------------------------------------------------------------------------


def test_an_honest_rim() -> None:
    verification = _verify(DRIVER_BYTES)
    assert verification.rim == DRIVER_RIM
    assert verification.problem is None
    assert verification.valid_until == datetime(2025, 6, 22, tzinfo=UTC)


def test_the_root_may_be_left_out_of_the_chain() -> None:
    assert _verify(_sign(DRIVER_TEXT, CHAIN[:3])).rim == DRIVER_RIM


@pytest.mark.parametrize("names", [
    ("RIM L4 Signer", "NVIDIA Reference Value L3 GB100-CC 001",
     "NVIDIA Reference Value GB1XX CA 001", "root"),
    ("NVIDIA Reference Value L4 LS10", "NVIDIA Reference Value L3 LS10 001",
     "NVIDIA Reference Value LS10 CA", "root"),
])  # fmt: skip
def test_names_of_other_chips(names: CommonNames) -> None:
    chain = _chain(names)
    root = TrustAnchor.load(chain[-1].der())
    assert _verify(_sign(DRIVER_TEXT, chain), root=root).problem is None


@pytest.mark.parametrize(
    ("now", "problem"),
    [
        (datetime(2022, 12, 31, tzinfo=UTC), "valid from 2023-01-01"),
        (datetime(2023, 1, 1, tzinfo=UTC), None),
        (datetime(2025, 6, 22, tzinfo=UTC), None),
        (datetime(2025, 6, 22, 0, 0, 1, tzinfo=UTC), "CN=HCC RIM L4 Signer expired on 2025-06-22"),
        (datetime(2031, 1, 1, tzinfo=UTC), "valid from 2023-01-01"),
    ],
)
def test_expiry_is_a_problem_of_its_own(now: datetime, problem: str | None) -> None:
    verification = _verify(DRIVER_BYTES, now)
    assert verification.rim == DRIVER_RIM
    assert (verification.signature_problem, verification.chain_problem) == (None, None)
    if problem is None:
        assert verification.validity_problem is None
    else:
        assert verification.validity_problem is not None
        assert verification.problem == verification.validity_problem
        assert problem in verification.validity_problem


def test_a_changed_value_breaks_the_signature_alone() -> None:
    verification = _verify(DRIVER_BYTES.replace(_value(7).hex().encode(), b"00" * 48))
    assert verification.rim is None
    assert verification.signature_problem is not None
    assert "SHA-384 digest" in verification.signature_problem
    assert verification.chain_problem is None


def test_a_rim_object_with_other_values_is_read_again() -> None:
    """Only the document counts: values put into the object do not survive verification."""
    forged = replace(DRIVER_RIM, version="999.00", measurements={})
    assert verify_rim(forged, ROOT, MEMORY, IN_2024).rim == DRIVER_RIM


LEAF, L3, CA, TOP = CHAIN
STRANGER = _chain(seed=b"another world")
ROGUE = replace(LEAF, key=SimKey("rogue", b"rim tests", "P-384"))
BAD_CHAINS = {
    "another root": (STRANGER, "not pinned"),
    "another root left out": (STRANGER[:3], "signature does not verify|key identifier"),
    "self-signed signer": (_chain(NAMES[:1]), "not pinned"),
    "signer alone": (CHAIN[:1], "1 certificates below the root"),
    "no L3": ([LEAF, CA, TOP], "2 certificates below the root"),
    "one too many": ([LEAF, L3, CA, CA, TOP], "4 certificates below the root"),
    "a signer that issues signers": (
        [ROGUE.signed_by(LEAF), LEAF, L3, CA, TOP], "4 certificates below the root"
    ),
    "a signer in the place of L3": (
        [ROGUE.signed_by(LEAF), LEAF, CA, TOP], "common name|issuer name"
    ),
    "L3 signs": ([L3, CA, TOP], "2 certificates below the root"),
    "other order": ([LEAF, CA, L3, TOP], "issuer name|common name"),
    "a CA signs": (_chain((NAMES[0], *NAMES[2:], NAMES[3])), "common name|root"),
    "signer of something else": (
        [replace(LEAF, subject=Name((("CN", "GH100 A01 GSP FMC LF"),))), L3, CA, TOP],
        "common name",
    ),
    "L3 of something else": (_chain((NAMES[0], "NVIDIA GH100 Identity", *NAMES[2:])),
                             "common name"),
    "signer may not sign": (
        [LEAF.with_extension(key_usage("key_cert_sign")), L3, CA, TOP], "digitalSignature"
    ),
    "signer is a CA": ([LEAF.with_extension(basic_constraints(True)), L3, CA, TOP], "CA"),
    "L3 is no CA": ([LEAF, L3.with_extension(basic_constraints(False)), CA, TOP], "not a CA"),
    "broken signature": ([replace(LEAF, signature=LEAF.key.sign_der(b"x")), L3, CA, TOP],
                         "signature does not verify"),
}  # fmt: skip


@pytest.mark.parametrize(("chain", "problem"), BAD_CHAINS.values(), ids=BAD_CHAINS)
def test_chains_that_lead_elsewhere(chain: Sequence[CertificateSpec], problem: str) -> None:
    verification = _verify(_sign(DRIVER_TEXT, chain))
    assert verification.rim is None
    assert verification.signature_problem is None
    assert verification.chain_problem is not None
    assert any(part in verification.chain_problem for part in problem.split("|"))


def test_the_signing_key_is_that_of_the_first_certificate() -> None:
    """An honest chain after a stranger's signature, and the stranger's certificate put last."""
    forged = _sign(DRIVER_TEXT, STRANGER)
    for their, own in zip(STRANGER, CHAIN, strict=True):
        forged = forged.replace(_b64(their.der()).encode(), _b64(own.der()).encode())
    verification = _verify(forged)
    assert verification.chain_problem is None
    assert verification.signature_problem is not None
    assert verification.rim is None


@given(st.data())
@settings(max_examples=300)
def test_mutated_rims_are_refused_or_unchanged(data: st.DataObject) -> None:
    mutated = bytearray(DRIVER_BYTES)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(mutated) - 1))
        removed = data.draw(st.integers(0, 4))
        mutated[at : at + removed] = data.draw(
            st.binary(max_size=3) | st.sampled_from([b"True", b"False", b'"', b"<", b'index="8"'])
        )
    try:
        rim = parse_rim(bytes(mutated))
    except CollateralError:
        return
    verification = verify_rim(rim, ROOT, MEMORY, IN_2024)
    assert verification.rim in (None, DRIVER_RIM)
    passed = (verification.signature_problem, verification.chain_problem) == (None, None)
    assert passed == (verification.rim is not None)


@given(st.binary(max_size=100))
def test_noise_is_refused(data: bytes) -> None:
    with pytest.raises(CollateralError):
        parse_rim(data)


# --- ids -----------------------------------------------------------------------------------------

BOARD = {
    "driver_version": "550.90.07",
    "vbios_version": "96.00.9f.00.01",
    "project": "g520",
    "project_sku": "0200",
    "chip_sku": "885",
}


def test_ids_of_a_hopper_gpu() -> None:
    driver, vbios = gpu_rim_ids(architecture="HOPPER", **BOARD)
    assert driver == RimId("NV_GPU_DRIVER_GH100_550.90.07", RimKind.DRIVER, "GH100", "550.90.07")
    assert vbios == RimId(
        "NV_GPU_VBIOS_G520_0200_885_96009F0001", RimKind.VBIOS, "GH100", "96.00.9F.00.01"
    )


@pytest.mark.parametrize(("chip_info", "chip"), [("GB202", "GB202"), (None, "GB100")])
def test_ids_of_a_blackwell_gpu(chip_info: str | None, chip: str) -> None:
    driver, vbios = gpu_rim_ids(architecture="BLACKWELL", chip_info=chip_info, **BOARD)
    assert driver.text == f"NV_GPU_CC_DRIVER_{chip}_550.90.07"
    assert vbios.text == "NV_GPU_VBIOS_G520_0200_885_96009F0001"
    assert (driver.model, vbios.model) == (chip, chip)


def test_id_of_a_switch() -> None:
    wanted = switch_rim_id("96.10.55.00.01")
    assert wanted.text == "NV_SWITCH_BIOS_5612_0002_890_9610550001"
    assert (wanted.kind, wanted.model) == (RimKind.SWITCH_BIOS, "LS10")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("architecture", "LS10"),
        ("architecture", "hopper"),
        ("driver_version", ""),
        ("driver_version", "550.90.07/../x"),
        ("driver_version", "550.90.07\n"),
        ("driver_version", "\u0665\u0665\u0660.90.07"),
        ("vbios_version", "96009F0001"),
        ("vbios_version", "96.00.9G.00.01"),
        ("project", ""),
        ("project", "../1010"),
        ("project", "1010?x=1"),
        ("project", "\u00df"),
        ("project_sku", "02 00"),
        ("chip_sku", "882\0"),
        ("chip_info", "GB100"),
        ("chip_info", "GH200"),
        ("chip_info", ""),
    ],
)
def test_no_id_from_odd_parts(field: str, value: str) -> None:
    parts: dict[str, str] = {"architecture": "HOPPER", **BOARD, field: value}
    with pytest.raises(EvidenceError, match="no RIM id"):
        gpu_rim_ids(**parts)


def test_no_blackwell_id_for_a_hopper_chip() -> None:
    with pytest.raises(EvidenceError, match="chip of BLACKWELL"):
        gpu_rim_ids(architecture="BLACKWELL", chip_info="GH100", **BOARD)
    with pytest.raises(EvidenceError, match="switch BIOS"):
        switch_rim_id("96.10.55.00")


@given(st.text(max_size=12))
def test_ids_hold_nothing_but_words(text: str) -> None:
    try:
        driver, vbios = gpu_rim_ids(architecture="BLACKWELL", **{**BOARD, "project": text})
    except EvidenceError:
        return
    assert set(driver.text + vbios.text) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.")


# --- sets ----------------------------------------------------------------------------------------

HOPPER_545, HOPPER_VBIOS = gpu_rim_ids(
    architecture="HOPPER",
    driver_version="545.00",
    vbios_version="96.00.5e.00.01",
    project="1010",
    project_sku="0200",
    chip_sku="882",
)


def test_a_set_finds_by_content_not_by_name() -> None:
    rims = RimSet.of([
        ("NV_GPU_DRIVER_GH100_545.00.xml", _sign(_content("550.90.07", DRIVER))),
        ("anything", DRIVER_BYTES),
        ("vbios", VBIOS_BYTES),
        ("broken", b"<"),
        ("gb100", _sign(_content("545.00", DRIVER, "GB100"))),
    ])  # fmt: skip
    assert [stored.name for stored in rims.find(HOPPER_545)] == ["anything"]
    assert [stored.name for stored in rims.find(HOPPER_VBIOS)] == ["vbios"]
    assert list(rims.unreadable) == ["broken"]
    choice = rims.choose(HOPPER_545, ROOT, MEMORY, IN_2024)
    assert (choice.name, choice.problem) == ("anything", None)
    assert choice.verification is not None
    assert choice.verification.rim == DRIVER_RIM


def test_an_id_says_which_rim_it_is_not() -> None:
    assert HOPPER_545.problem_with(DRIVER_RIM) is None
    problem = HOPPER_545.problem_with(parse_rim(_sign(_content("545.00", DRIVER, "GB100"))))
    assert problem == "it is the driver RIM GB100 545.00, not the driver RIM GH100 545.00"
    assert HOPPER_545.problem_with(VBIOS_RIM) is not None
    assert HOPPER_545.problem_with(parse_rim(_sign(_content("545.01", DRIVER)))) is not None


def test_a_rim_filed_under_another_boards_id_is_not_taken() -> None:
    own, other = "NV_GPU_VBIOS_1010_0200_882_96005E0001", "NV_GPU_VBIOS_G520_0200_885_96005E0001"
    second = _sign(_content("96.00.5E.00.01", {**VBIOS, 9: (_value(99),)}))
    rims = RimSet.of([(f"store/{other}.xml", second), (f"store/{own.lower()}.xml", VBIOS_BYTES)])
    choice = rims.choose(HOPPER_VBIOS, ROOT, MEMORY, IN_2024)
    assert choice.name == f"store/{own.lower()}.xml"


def test_two_signed_rims_that_disagree_are_a_conflict() -> None:
    second = _sign(_content("545.00", {**DRIVER, 7: (_value(77),)}))
    rims = RimSet.of([("a", DRIVER_BYTES), ("b", second)])
    choice = rims.choose(HOPPER_545, ROOT, MEMORY, IN_2024)
    assert choice.verification is None
    assert choice.problem == (
        "NV_GPU_DRIVER_GH100_545.00: a and b are both signed and state different golden values"
    )


def test_a_forgery_is_no_conflict() -> None:
    forged = _sign(_content("545.00", {**DRIVER, 7: (_value(77),)}), STRANGER)
    rims = RimSet.of([("forged", forged), ("a", DRIVER_BYTES)])
    choice = rims.choose(HOPPER_545, ROOT, MEMORY, IN_2024)
    assert (choice.name, choice.problem, list(choice.refused)) == ("a", None, ["forged"])
    alone = RimSet.of([("forged", forged)]).choose(HOPPER_545, ROOT, MEMORY, IN_2024)
    assert alone.problem == "NV_GPU_DRIVER_GH100_545.00: all 1 candidates are refused"
    assert "not pinned" in alone.refused["forged"]


def test_a_rim_signed_anew_replaces_the_expired_one() -> None:
    newer = [replace(LEAF, not_after=datetime(2028, 1, 1, tzinfo=UTC)), *CHAIN[1:]]
    renewed = _sign(DRIVER_TEXT, newer)
    for order in ([DRIVER_BYTES, renewed], [renewed, DRIVER_BYTES]):
        rims = RimSet.of((str(len(data)), data) for data in order)
        choice = rims.choose(HOPPER_545, ROOT, MEMORY, IN_2026)
        assert choice.verification is not None
        assert choice.verification.problem is None
        assert choice.verification.valid_until.year == 2028


def test_an_expired_rim_is_chosen_if_there_is_no_other() -> None:
    choice = RimSet.of([("a", DRIVER_BYTES)]).choose(HOPPER_545, ROOT, MEMORY, IN_2026)
    assert choice.verification is not None
    assert choice.verification.validity_problem is not None
    nothing = RimSet.of([]).choose(HOPPER_545, ROOT, MEMORY, IN_2026)
    assert nothing.problem == "NV_GPU_DRIVER_GH100_545.00: no such RIM"


# --- comparing -----------------------------------------------------------------------------------

RUNTIME = {index + 1: values[-1] for index, values in {**DRIVER, **VBIOS}.items()} | {60: bytes(48)}


def test_all_measurements_match() -> None:
    result = compare_measurements(RUNTIME, DRIVER_RIM, VBIOS_RIM, nvdec0_disabled=False)
    assert result.problem is None
    assert (result.matched, result.total) == (5, 5)
    assert result.without_golden == (59,)
    assert result.skipped == ()


def test_a_mismatch_says_all_there_is_to_say() -> None:
    runtime = RUNTIME | {22: bytes(48)}
    result = compare_measurements(runtime, DRIVER_RIM, VBIOS_RIM, nvdec0_disabled=False)
    assert (result.matched, result.total) == (4, 5)
    (mismatch,) = result.mismatched
    assert (mismatch.index, mismatch.found, mismatch.golden) == (21, bytes(48), DRIVER[21])
    assert mismatch.rim == "driver RIM GH100 545.00"
    assert result.problem == (
        f"measurement 21 (Measurement_21) is {'00' * 48}, not {DRIVER[21][0].hex()} or "
        f"{DRIVER[21][1].hex()} of the driver RIM GH100 545.00"
    )


@pytest.mark.parametrize("wrong", [None, b"", _value(9)[:-1], _value(9) + b"\0", _value(7)])
def test_a_missing_short_long_or_misplaced_value_is_a_mismatch(wrong: bytes | None) -> None:
    runtime = {block: value for block, value in RUNTIME.items() if block != 10}
    if wrong is not None:
        runtime[10] = wrong
    result = compare_measurements(runtime, DRIVER_RIM, VBIOS_RIM, nvdec0_disabled=False)
    (mismatch,) = result.mismatched
    assert (mismatch.index, mismatch.found) == (9, wrong)
    assert mismatch.rim == "vbios RIM GH100 96.00.5E.00.01"
    if wrong is None:
        assert "is missing" in str(mismatch)


def test_blocks_count_from_one() -> None:
    shifted = {block - 1: value for block, value in RUNTIME.items()}
    result = compare_measurements(shifted, DRIVER_RIM, VBIOS_RIM, nvdec0_disabled=False)
    assert result.matched == 0


@pytest.mark.parametrize("reported", [bytes(48), None])
def test_nvdec0_is_skipped_only_if_disabled(reported: bytes | None) -> None:
    runtime = {block: value for block, value in RUNTIME.items() if block != 36}
    if reported is not None:
        runtime[36] = reported
    off = compare_measurements(runtime, DRIVER_RIM, VBIOS_RIM, nvdec0_disabled=True)
    assert (off.problem, off.skipped, off.total) == (None, (35,), 4)
    on = compare_measurements(runtime, DRIVER_RIM, VBIOS_RIM, nvdec0_disabled=False)
    assert [mismatch.index for mismatch in on.mismatched] == [35]


def test_a_measurement_active_in_both_rims_is_a_conflict_even_if_it_matches() -> None:
    vbios = parse_rim(_sign(_content("96.00.5E.00.01", {**VBIOS, 7: DRIVER[7]})))
    result = compare_measurements(RUNTIME, DRIVER_RIM, vbios, nvdec0_disabled=False)
    assert (result.conflicts, result.matched, result.total) == ((7,), 4, 4)
    assert result.problem == "driver and VBIOS RIM both state golden values of measurement 7"


def test_rims_that_do_not_belong_together() -> None:
    def problem(driver: Rim | None, vbios: Rim) -> str:
        result = compare_measurements(RUNTIME, driver, vbios, nvdec0_disabled=False)
        assert result.problem == result.rim_problem
        return result.problem or ""

    assert "given: vbios" in problem(None, VBIOS_RIM)
    assert "given: driver" in problem(None, DRIVER_RIM)
    assert "given: vbios and vbios" in problem(VBIOS_RIM, VBIOS_RIM)
    other = parse_rim(_sign(_content("545.00", DRIVER, "GB100")))
    assert "different chips" in problem(other, VBIOS_RIM)


def test_rims_without_golden_values_match_nothing() -> None:
    empty = parse_rim(_sign(_content("96.10.55.00.01", {}, "LS10")))
    result = compare_measurements(RUNTIME, None, empty, nvdec0_disabled=False)
    assert (result.total, result.problem) == (0, "the RIMs state no golden value")


# --- NVIDIA's own manifests ----------------------------------------------------------------------

SAMPLES = 35
UNKNOWN_ROOT = "8049928881e5d18947358cb643aff3fc6eba3b8b7c94baa68d6320877352cd2b"
# Name → why it is not authentic.  The mismatch of 96005E0001 is genuine: signed for that test.
NOT_AUTHENTIC = {
    "NV_GPU_DRIVER_GH100_535.86.09_measurement_mismatch.xml": "SHA-384 digest",
    "NV_GPU_DRIVER_GH100_570.124.03_expired.xml": "SHA-384 digest",
    "NV_SWITCH_BIOS_5612_0002_890_9610550001_invalid_signature.xml": "SHA-384 digest",
    "NV_SWITCH_BIOS_5612_0002_890_9610550001_measurement_mismatch.xml": "SHA-384 digest",
    "incorrect_signature_driver_rim.xml": "does not verify",
    "incorrect_cert_chain_driver_rim.xml": UNKNOWN_ROOT,
}
# Name → problem at 2024-06-01, problem at 2026-11-21.  All others had expired by 2026.
TIMES = {
    "NV_GPU_DRIVER_GH100_535.86.09_measurement_mismatch.xml": ("from 2025-05-24", None),
    "NV_GPU_DRIVER_GH100_550.144.03.xml": ("from 2024-12-30", None),
    "NV_GPU_DRIVER_GH100_570.124.03_expired.xml": ("from 2025-01-01", "expired on 2025-01-02"),
    "incorrect_cert_chain_driver_rim.xml": ("from 2025-02-01", None),
    "incorrect_signature_driver_rim.xml": ("from 2024-12-30", None),
    "switchVBIOSRim_NV_SWITCH_BIOS_5612_0002_890_9610550001.xml": ("from 2026-05-20", None),
}


@pytest.fixture(scope="module")
def nvidia(vectors: Path) -> Path:
    folder = vectors / "nvidia"
    if not folder.is_dir():
        pytest.skip("../shared/vectors holds no NVIDIA evidence")
    return folder


@pytest.fixture(scope="module")
def rims(nvidia: Path) -> RimSet:
    paths = sorted(p for p in (nvidia / "rim").rglob("*") if p.suffix in (".xml", ".swidtag"))
    return RimSet.of((path.name, path.read_bytes()) for path in paths)


def _real(rim: Rim, now: datetime) -> RimVerification:
    return verify_rim(rim, NVIDIA_CORIM_SIGNING_ROOT_CA, MEMORY, now)


def test_every_real_rim_gets_the_right_answer(rims: RimSet) -> None:
    assert (len(rims.rims), dict(rims.unreadable)) == (SAMPLES, {})
    for stored in rims.rims:
        results = [_real(stored.rim, now) for now in (IN_2024, IN_2026)]
        for result, expected in zip(
            results, TIMES.get(stored.name, (None, "expired on 202")), strict=True
        ):
            assert (result.validity_problem is None) == (expected is None), stored.name
            assert expected is None or expected in (result.validity_problem or "")
            why = NOT_AUTHENTIC.get(stored.name)
            assert (result.rim is None) == (why is not None), stored.name
            if why is None:
                assert (result.signature_problem, result.chain_problem) == (None, None)
                assert result.rim == stored.rim
            elif why == UNKNOWN_ROOT:
                assert result.signature_problem is None
                assert why in (result.chain_problem or "")
            else:
                assert why in (result.signature_problem or "")
                assert result.chain_problem is None


def test_real_rims_read_as_their_names_say(rims: RimSet) -> None:
    active = {"driver": range(21, 41), "vbios": range(7), "switch-bios": range(31)}
    for stored in rims.rims:
        rim = stored.rim
        assert set(active[rim.kind.value]) <= rim.golden.keys(), stored.name
        assert set(rim.measurements) == set(range(64))
        stem = stored.name.removesuffix("_PROD.swidtag")
        if stem != stored.name:
            assert stem[-10:] == rim.version.replace(".", "")
            assert (rim.kind, rim.model) == (RimKind.VBIOS, "GH100")


def test_a_byte_anywhere_in_a_real_rim(rims: RimSet, nvidia: Path) -> None:
    path = nvidia / "rim/attestation-sdk-testdata/NV_GPU_DRIVER_GH100_550.144.03.xml"
    data = path.read_bytes()
    honest = parse_rim(data)
    outcomes = {"refused": 0, "not authentic": 0, "same": 0}
    for at in range(0, len(data), 67):
        changed = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        try:
            rim = parse_rim(changed)
        except CollateralError:
            outcomes["refused"] += 1
            continue
        authentic = _real(rim, IN_2026).rim
        assert authentic in (None, honest), at
        outcomes["not authentic" if authentic is None else "same"] += 1
    assert outcomes["refused"] > 0
    assert outcomes["not authentic"] > 0


# --- NVIDIA's own reports against them -----------------------------------------------------------


def _blocks(report: bytes) -> dict[int, bytes]:
    """Cut the measurement blocks out by hand: 37-byte request, 8-byte header, 55 bytes each."""
    response = report[37:]
    record = response[8 : 8 + int.from_bytes(response[5:8], "little")]
    assert len(record) == 55 * response[4]
    blocks = {}
    for at in range(0, len(record), 55):
        assert record[at + 1 : at + 7] == bytes([1, 51, 0, 1, 48, 0])
        blocks[record[at]] = record[at + 7 : at + 55]
    return blocks


def _report(path: Path) -> dict[int, bytes]:
    return _blocks(bytes.fromhex(path.read_text("ascii").strip()))


def _named(rims: RimSet, name: str) -> Rim:
    (rim,) = (stored.rim for stored in rims.rims if stored.name == name)
    return rim


@pytest.mark.parametrize("folder", ["go-nvtrust", "nvtrust-history-2023"])
def test_hopper_545_matches_in_full(nvidia: Path, rims: RimSet, folder: str) -> None:
    runtime = _report(nvidia / "hopper" / folder / "attestationReport.txt")
    vbios = _named(rims, "1010_0200_882_96005E0001_test_no_gpu.swidtag")
    choice = rims.choose(HOPPER_545, NVIDIA_CORIM_SIGNING_ROOT_CA, MEMORY, IN_2024)
    assert choice.name == "Driver_RIM_test_no_gpu.swidtag"
    assert choice.verification is not None
    for driver in (choice.verification.rim, _named(rims, "Driver_RIM_test_no_gpu.swidtag")):
        result = compare_measurements(runtime, driver, vbios, nvdec0_disabled=True)
        assert (result.problem, result.matched, result.total) == (None, 32, 32)
        assert result.skipped == (35,)
        assert len(result.without_golden) == 64 - 33


def test_hopper_545_against_the_other_vbios_rims_of_its_version(nvidia: Path, rims: RimSet) -> None:
    """NVIDIA signed three manifests of one VBIOS version, so the set alone cannot choose."""
    runtime = _report(nvidia / "hopper/go-nvtrust/attestationReport.txt")
    driver = _named(rims, "Driver_RIM_test_no_gpu.swidtag")
    for name in (
        "1010_0200_882_96005E0001_PROD.swidtag",
        "NV_GPU_VBIOS_1010_0200_882_96005E0001_measurement_mismatch.xml",
    ):
        result = compare_measurements(runtime, driver, _named(rims, name), nvdec0_disabled=True)
        assert [mismatch.index for mismatch in result.mismatched] == [1, 2, 3, 9], name
    choice = rims.choose(HOPPER_VBIOS, NVIDIA_CORIM_SIGNING_ROOT_CA, MEMORY, IN_2024)
    assert choice.verification is None
    assert "different golden values" in (choice.problem or "")


@pytest.mark.parametrize(
    ("report", "name"),
    [
        ("trustee/hopper_coco_report1.txt", "1010_0200_882_960074001A_PROD.swidtag"),
        (
            "attestation-sdk-testdata/hopperAttestationReport.txt",
            "1010_0205_862_9600740020_PROD.swidtag",
        ),
    ],
)
def test_hopper_580_mismatches_at_9_alone(
    nvidia: Path, rims: RimSet, report: str, name: str
) -> None:
    runtime = _report(nvidia / "hopper" / report)
    vbios = _named(rims, name)
    result = compare_measurements(runtime, None, vbios, nvdec0_disabled=True)
    (mismatch,) = result.mismatched
    assert (mismatch.index, result.matched, result.total) == (9, 11, 12)
    assert mismatch.golden == vbios.measurements[9].alternatives
    assert mismatch.found == runtime[10]
    assert mismatch.rim == vbios.title
    assert "a GPU needs a driver" in (result.rim_problem or "")


@pytest.mark.parametrize("folder", ["attestation-sdk-sample", "attestation-sdk-testdata"])
def test_ls10_matches_in_full(nvidia: Path, rims: RimSet, folder: str) -> None:
    runtime = _report(nvidia / "ls10" / folder / "switchAttestationReport.txt")
    wanted = switch_rim_id("96.10.55.00.01")
    choice = rims.choose(wanted, NVIDIA_CORIM_SIGNING_ROOT_CA, MEMORY, IN_2026)
    assert choice.name == "switchVBIOSRim_NV_SWITCH_BIOS_5612_0002_890_9610550001.xml"
    assert list(choice.refused) == ["NV_SWITCH_BIOS_5612_0002_890_9610550001_invalid_signature.xml"]
    assert choice.verification is not None
    assert choice.verification.problem is None
    assert choice.verification.rim is not None
    result = compare_measurements(runtime, None, choice.verification.rim, nvdec0_disabled=False)
    assert (result.problem, result.matched, result.total) == (None, 31, 31)
    assert result.without_golden == ()
    (forged,) = (s.rim for s in rims.rims if s.name in choice.refused)
    result = compare_measurements(runtime, None, forged, nvdec0_disabled=False)
    assert [mismatch.index for mismatch in result.mismatched] == [0, 1]
