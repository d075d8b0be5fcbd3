"""NVIDIA device chains: every genuine one, and everything that only looks like one."""

from __future__ import annotations

import base64
import itertools
import json
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccverify.errors import EvidenceError, TrustError
from ccverify.nvidia.certs import (
    Architecture,
    DeviceChain,
    FwidOutcome,
    architecture_claim_problem,
    fwid_problem,
    parse_device_chain,
    validity_problems,
    verify_device_chain,
    verify_report_signature,
)
from ccverify.nvidia.identity import (
    COMPOSITE_DEVICE_ID_OID,
    DICE_TCB_INFO_OID,
    DeviceType,
    parse_composite_device_id,
    parse_dice_fwids,
)
from ccverify.sim import CertificateSpec, SimKey, SimPlatform, der
from ccverify.sim.certs import Extension, Name, basic_constraints, key_usage, subject_key_id
from ccverify.trust.anchors import NVIDIA_DEVICE_IDENTITY_CA, TrustAnchor
from ccverify.trust.signatures import EcPublicKey, SignatureMemory
from ccverify.trust.x509 import Certificate, parse_certificate

ROOT = NVIDIA_DEVICE_IDENTITY_CA
MEMORY = SignatureMemory()


def _verify(chain: Sequence[Certificate], root: TrustAnchor = ROOT) -> DeviceChain:
    return verify_device_chain(chain, root, MEMORY)


# --- genuine devices -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Evidence:
    """One report with its chain, and where it comes from."""

    source: str
    claimed: str
    chain: tuple[Certificate, ...]
    report: bytes

    @property
    def _opaque(self) -> slice:
        """Where the opaque data lies, sliced by hand; the signature follows."""
        at = 37 + 8 + int.from_bytes(self.report[42:45], "little") + 32 + 2
        return slice(at, at + int.from_bytes(self.report[at - 2 : at], "little"))

    @property
    def signed_range(self) -> bytes:
        return self.report[: self._opaque.stop]

    @property
    def signature(self) -> bytes:
        end = self._opaque.stop + 96
        assert not self.report[end:].strip(b"\0")  # one sample has a byte of padding
        return self.report[self._opaque.stop : end]

    @property
    def fwid(self) -> bytes | None:
        """Opaque field 20."""
        data = self.report[self._opaque]
        while data:
            kind, length = (int.from_bytes(data[i : i + 2], "little") for i in (0, 2))
            if kind == 20:
                return data[4 : 4 + length]
            data = data[4 + length :]
        return None


# Folder, report, chain, architecture, device id, whether the report states a FWID.
FILES = [
    ("blackwell-gb100/attestation-sdk-sample", "blackwellAttestationReport.txt",
     "blackwellCertChain.txt", Architecture.BLACKWELL_GB100, "e6de55c3bdc14277", True),
    ("blackwell-gb202/trustee-pr1551", "blackwellAttestationReport.txt",
     "blackwell_cert_chain_case1.txt", Architecture.BLACKWELL_GB20X, "11bf087a2e3ddb5f", True),
    ("hopper/attestation-sdk-testdata", "hopperAttestationReport.txt",
     "hopperCertChain.txt", Architecture.HOPPER, "e23d711e1c4fbfac", True),
    ("hopper/go-nvtrust", "attestationReport.txt",
     "gpuAkCertChain.txt", Architecture.HOPPER, "ffeeb20009e0be49", False),
    ("hopper/nvtrust-history-2023", "attestationReport.txt",
     "gpuAkCertChain.txt", Architecture.HOPPER, "ffeeb20009e0be49", False),
    ("hopper/nvtrust-local-gpu-verifier", "hopperAttestationReport.txt",
     "hopperCertChain.txt", Architecture.HOPPER, "431d480fe5e87274", True),
    ("hopper/trustee", "hopper_coco_report1.txt",
     "hopper_coco_certs1.txt", Architecture.HOPPER, "d1a9a24f202cb2b5", True),
    ("ls10/attestation-sdk-sample", "switchAttestationReport.txt",
     "switchCertChain.txt", Architecture.LS10, "203eb31ad9ed0008", False),
    ("ls10/attestation-sdk-testdata", "switchAttestationReport.txt",
     "switchCertChain.txt", Architecture.LS10, "203eb31ad9ed0008", False),
]  # fmt: skip
CLAIMED = {
    Architecture.HOPPER: "HOPPER",
    Architecture.BLACKWELL_GB100: "BLACKWELL",
    Architecture.BLACKWELL_GB20X: "BLACKWELL",
    Architecture.LS10: "LS10",
}
CAPTURES = {
    "chutes_20260610": 56,
    "nanogpt_20260325": 24,
    "neardirect_20260610": 16,
    "phalacloud_20260610": 40,
}
"""Folder of captured provider answers → how many device reports are in them."""


def _pem(data: bytes) -> bytes:
    return data if b"-----BEGIN" in data[:64] else base64.b64decode(data)


def _file(nvidia: Path, row: tuple[str, str, str, Architecture, str, bool]) -> Evidence:
    folder, report, chain, architecture, _, _ = row
    return Evidence(
        f"{folder}/{report}",
        CLAIMED[architecture],
        parse_device_chain(_pem((nvidia / folder / chain).read_bytes())),
        bytes.fromhex((nvidia / folder / report).read_text().strip()),
    )


def _items(value: object) -> Iterator[dict[str, str]]:
    """NVIDIA evidence items at any depth, also in JSON inside of strings."""
    if isinstance(value, dict):
        if isinstance(value.get("certificate"), str) and "arch" in value:
            yield value
        value = list(value.values())
    elif isinstance(value, str) and value[:1] in ("{", "["):
        try:
            value = [json.loads(value)]
        except ValueError:
            return
    if isinstance(value, list):
        for inner in value:
            yield from _items(inner)


def _json(path: Path) -> list[Evidence]:
    return [
        Evidence(
            f"{path.parent.name}/{path.name}#{at}",
            item["arch"],
            parse_device_chain(_pem(item["certificate"].encode())),
            base64.b64decode(item["evidence"]),
        )
        for at, item in enumerate(_items(json.loads(path.read_text())))
    ]


@pytest.fixture(scope="session")
def nvidia(vectors: Path) -> Path:
    return vectors / "nvidia"


@pytest.fixture(scope="session")
def node(nvidia: Path) -> dict[str, list[Evidence]]:
    folder = nvidia / "ppcie-hgx-h100-8gpu-4switch/nvtrust-ppcie-verifier"
    return {kind: _json(folder / f"{kind}_evidence.json") for kind in ("gpu", "switch")}


@pytest.fixture(scope="session")
def genuine(vectors: Path, nvidia: Path, node: dict[str, list[Evidence]]) -> list[Evidence]:
    found = [_file(nvidia, row) for row in FILES] + node["gpu"] + node["switch"]
    for path in sorted((nvidia / "hopper").rglob("*evidence*.json")):
        found += _json(path)
    for folder, count in CAPTURES.items():
        captured = [
            item
            for path in sorted((vectors / "tdx/captures" / folder).iterdir())
            if "attestation" in path.name or "_evidence" in path.name
            for item in _json(path)
        ]
        assert len(captured) == count, folder
        found += captured
    return found


@pytest.mark.parametrize("row", FILES, ids=lambda row: row[0])
def test_a_genuine_chain(nvidia: Path, row: tuple[str, str, str, Architecture, str, bool]) -> None:
    evidence = _file(nvidia, row)
    chain = _verify(evidence.chain)
    assert chain.problem is None
    assert chain.architecture is row[3]
    assert chain.device_id is not None
    assert chain.device_id.hex() == row[4]
    assert chain.device_type is (
        DeviceType.NVSWITCH if row[3] is Architecture.LS10 else DeviceType.GPU
    )
    assert chain.leaf_key == evidence.chain[0].public_key
    assert chain.certificates == evidence.chain[:4]
    outcome = fwid_problem(chain.fwid, evidence.fwid)
    assert (evidence.fwid is not None) is row[5]
    assert (outcome and outcome.outcome) == (None if row[5] else FwidOutcome.NOT_REPORTED)


def test_every_genuine_device_verifies(genuine: list[Evidence]) -> None:
    architectures: Counter[str] = Counter()
    for evidence in genuine:
        chain = _verify(evidence.chain)
        assert chain.problem is None, evidence.source
        assert architecture_claim_problem(chain, evidence.claimed) is None, evidence.source
        assert chain.architecture is not None
        assert chain.leaf_key is not None
        assert chain.device_info is not None
        assert chain.device_info.startswith(f"NVIDIA:{chain.chip}:")
        assert chain.device_id != evidence.chain[0].serial.to_bytes(20, "big")[-8:]
        signed = (evidence.signed_range, evidence.signature)
        assert verify_report_signature(*signed, chain.leaf_key, MEMORY) is None, evidence.source
        outcome = fwid_problem(chain.fwid, evidence.fwid)
        if outcome is not None:
            assert outcome.outcome is FwidOutcome.NOT_REPORTED, evidence.source
        architectures[chain.architecture.name, outcome is None] += 1
    assert architectures == {
        ("HOPPER", True): 150,
        ("HOPPER", False): 2,
        ("BLACKWELL_GB100", True): 1,
        ("BLACKWELL_GB20X", True): 1,
        ("LS10", False): 6,
    }


def test_every_capture_of_one_node_shows_distinct_devices(node: dict[str, list[Evidence]]) -> None:
    ids = {_verify(evidence.chain).device_id for kind in node for evidence in node[kind]}
    assert len(ids) == 12


def test_the_root_may_be_absent(genuine: list[Evidence]) -> None:
    for evidence in genuine[:12]:
        assert _verify(evidence.chain[:-1]) == _verify(evidence.chain)


def test_genuine_certificates_have_begun_and_never_end(genuine: list[Evidence]) -> None:
    for evidence in genuine[:12]:
        chain = _verify(evidence.chain)
        for year in (2026, 2100, 9999):
            assert validity_problems(chain, ROOT, datetime(year, 1, 1, tzinfo=UTC)) == (None,) * 5


def test_before_a_certificate_begins(nvidia: Path) -> None:
    chain = _verify(_file(nvidia, FILES[2]).chain)
    problems = validity_problems(chain, ROOT, datetime(2021, 1, 1, tzinfo=UTC))
    assert [problem is None for problem in problems] == [True, True, False, False, False]
    assert "valid only from 2022-03-01" in str(problems[2])
    assert "NVIDIA Device Identity CA" in str(problems[4])
    at_its_start = datetime(2021, 11, 5, tzinfo=UTC)
    assert validity_problems(chain, ROOT, at_its_start)[4] is None
    assert validity_problems(chain, replace(ROOT, not_after=at_its_start), at_its_start)[4] is None
    last = datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)
    assert all("expired" in str(p) for p in validity_problems(chain, ROOT, last)[:4])


def test_trailing_nul_bytes_of_a_driver_buffer(nvidia: Path) -> None:
    pem = (nvidia / "hopper/trustee/hopper_coco_certs1.txt").read_bytes()
    assert parse_device_chain(pem + bytes(5)) == parse_device_chain(pem)
    with pytest.raises(EvidenceError, match="something else"):
        parse_device_chain(pem + b"\0x")
    with pytest.raises(EvidenceError, match="empty"):
        parse_device_chain(bytes(5))


# --- bad vectors ---------------------------------------------------------------------------------

BAD_FILES = {
    "hopper/go-nvtrust/invalidCertChain.txt": (
        "certificate [1] is C=US,O=NVIDIA Corporation,CN=NVIDIA GH100 Provisioner ICA 1, "
        'not a device identity ("… BROM")',
        "it has 3 certificates below the root, not 4",
    ),
    "blackwell-gb202/trustee-pr1551/blackwell_cert_chain_case2.txt": (
        "the chain holds no device certificate",
        "it has 0 certificates below the root, not 4",
    ),
    "blackwell-gb202/trustee-pr1551/blackwell_cert_chain_case3.txt": (
        "certificate [2] is O=NVIDIA Corporation,CN=NVIDIA GB20X Identity, "
        'not "NVIDIA GB20# Provisioner ICA #" as for GB20X A01 GSP',
        "it has 3 certificates below the root, not 4",
    ),
    "blackwell-gb202/trustee-pr1551/blackwell_signing_cert.pem": (
        'certificate [1] is missing, not a device identity ("… BROM")',
        "it has 1 certificates below the root, not 4",
    ),
    "hopper/trustee/hopper_signing_cert.pem": (
        'certificate [1] is missing, not a device identity ("… BROM")',
        "it has 1 certificates below the root, not 4",
    ),
    "roots/attestation-sdk/rim_root.crt": (
        "the chain holds no device certificate",
        "it ends in a root that is not pinned, SHA-256 12977b5115acb0381179279fffeb5a8c"
        "4d264971ebb32298023a465fa41df5d1",
    ),
    "roots/attestation-sdk/incorrect_rim_root.crt": (
        "certificate [0] is CN=HCC RIM L4 Signer,O=NVIDIA Corporation,L=Santa Clara,ST=CA,C=US, "
        "not of a device known here (GH100, GB100, GB20X, LS_10)",
        "it has 1 certificates below the root, not 4",
    ),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_chain_is_refused_for_its_reason(nvidia: Path, name: str) -> None:
    chain = _verify(parse_device_chain(_pem((nvidia / name).read_bytes())))
    assert (chain.name_problem, chain.path_problem) == BAD_FILES[name]
    assert chain.problem == chain.name_problem
    assert _says_nothing(chain)


def _says_nothing(chain: DeviceChain) -> bool:
    claims = (
        chain.chip, chain.architecture, chain.device_type, chain.device_id, chain.fwid,
        chain.leaf_key, chain.device_info,
    )  # fmt: skip
    later = (chain.identity_problem, chain.firmware_problem, chain.device_info_problem)
    return set(claims) == {None} and None not in later


@pytest.mark.parametrize("name", ["RIM_ROOT_CERT_from_certs.h.pem", "rim_root.crt"])
def test_another_root_of_nvidia_is_no_device_root(nvidia: Path, name: str) -> None:
    root = TrustAnchor.load((nvidia / "roots/attestation-sdk" / name).read_bytes())
    certificates = _file(nvidia, FILES[2]).chain
    whole, without = _verify(certificates, root), _verify(certificates[:-1], root)
    assert "it ends in a root that is not pinned" in str(whole.path_problem)
    assert "NVIDIA GH100 Identity: its issuer name is not" in str(without.path_problem)
    assert whole.problem == whole.path_problem
    assert _says_nothing(whole)
    assert _says_nothing(without)


def test_a_leaf_certificate_is_no_anchor(nvidia: Path) -> None:
    with pytest.raises(TrustError, match="self-issued"):
        TrustAnchor.load((nvidia / "roots/attestation-sdk/incorrect_rim_root.crt").read_bytes())


@pytest.mark.parametrize("folder", ["attestation-sdk", "nvtrust-local-gpu-verifier"])
def test_published_copies_of_the_device_root_are_the_pinned_one(nvidia: Path, folder: str) -> None:
    (path,) = [p for p in (nvidia / "roots" / folder).iterdir() if "device_root" in p.name.lower()]
    loaded = TrustAnchor.load(path.read_bytes())
    assert replace(loaded, label=ROOT.label) == ROOT


def _amd_vcek(vectors: Path) -> Certificate:
    folder = vectors / "tdx/captures/tinfoil_cloud_snp_20260629"
    (path,) = folder.glob("0003_kdsintf*.body")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # AMD's serial number is zero
        return parse_certificate(path.read_bytes())


def test_an_amd_certificate_is_refused_by_name(vectors: Path) -> None:
    chain = _verify([_amd_vcek(vectors)])
    assert str(chain.problem).startswith("certificate [0] is CN=SEV-VCEK,O=Advanced Micro Devices")
    assert str(chain.problem).endswith("not of a device known here (GH100, GB100, GB20X, LS_10)")
    assert _says_nothing(chain)


def test_an_intel_chain_is_refused_by_name() -> None:
    case = SimPlatform().case()
    chain = _verify([parse_certificate(c.der()) for c in (case.pck, case.pck_ca, case.root)])
    assert "CN=Intel SGX PCK Certificate" in str(chain.problem)
    assert "a root that is not pinned" in str(chain.path_problem)


def test_nothing_at_all() -> None:
    chain = _verify([])
    assert chain.problem == "the chain holds no device certificate"
    assert _says_nothing(chain)


# --- genuine certificates, wrongly put together --------------------------------------------------


@pytest.mark.parametrize("row", [FILES[0], FILES[2], FILES[7]], ids=lambda row: row[0])
def test_every_order_but_one_is_refused(
    nvidia: Path, row: tuple[str, str, str, Architecture, str, bool]
) -> None:
    certificates = _file(nvidia, row).chain
    for order in itertools.permutations(range(5)):
        chain = _verify([certificates[at] for at in order])
        assert (chain.problem is None) == (order == (0, 1, 2, 3, 4)), order


@pytest.mark.parametrize("at", range(5))
def test_dropped_and_doubled_certificates(nvidia: Path, at: int) -> None:
    certificates = _file(nvidia, FILES[2]).chain
    dropped = certificates[:at] + certificates[at + 1 :]
    doubled = certificates[: at + 1] + certificates[at:]
    if at < 4:  # the root may be left out
        assert _verify(dropped).path_problem == "it has 3 certificates below the root, not 4"
        assert _verify(dropped).name_problem is not None
    assert _verify(doubled).path_problem == "it has 5 certificates below the root, not 4"


def test_certificates_of_two_devices_do_not_mix(node: dict[str, list[Evidence]]) -> None:
    first, second = (evidence.chain for evidence in node["gpu"][:2])
    mixed = _verify([first[0], *second[1:]])
    assert mixed.name_problem is None
    assert "its issuer name is not the issuer's subject name" in str(mixed.path_problem)
    assert _says_nothing(mixed)


def test_a_switch_chain_offered_as_hopper(nvidia: Path) -> None:
    switch, gpu = (_file(nvidia, FILES[at]).chain for at in (7, 2))
    honest = _verify(switch)
    assert architecture_claim_problem(honest, "LS10") is None
    assert architecture_claim_problem(honest, "HOPPER") == (
        "the evidence claims HOPPER, the certificate chain is of LS10 (LS_10)"
    )
    # Both hang below "NVIDIA GH100 Identity", so only the provisioner tells them apart.
    spliced = _verify([*switch[:2], *gpu[2:]])
    assert 'not "NVIDIA LS_10 Provisioner ICA #" as for LS_10 A01 FSP' in str(spliced.name_problem)
    assert spliced.path_problem is not None


@pytest.mark.parametrize(("row", "other"), [(0, "HOPPER"), (1, "LS10"), (2, "BLACKWELL")])
def test_the_claimed_architecture_must_be_the_chains(nvidia: Path, row: int, other: str) -> None:
    chain = _verify(_file(nvidia, FILES[row]).chain)
    assert architecture_claim_problem(chain, CLAIMED[FILES[row][3]]) is None
    assert f"the evidence claims {other}, the certificate chain is of" in str(
        architecture_claim_problem(chain, other)
    )


@pytest.mark.parametrize("claimed", ["MI300X", "AMD", "", "hopper", "RUBIN", "\x1b[2J", "H" * 9999])
def test_unknown_architectures_are_refused_by_name(nvidia: Path, claimed: str) -> None:
    problem = architecture_claim_problem(_verify(_file(nvidia, FILES[2]).chain), claimed)
    assert f"{claimed[:64]!a}; known are BLACKWELL, HOPPER, LS10" in str(problem)
    assert len(str(problem)) < 200


def test_no_architecture_is_proved_by_a_chain_that_fails(nvidia: Path) -> None:
    problem = architecture_claim_problem(_verify(_file(nvidia, FILES[2]).chain[1:]), "HOPPER")
    assert problem == "the evidence claims HOPPER, the certificate chain proves no architecture"


# --- report signature and firmware ---------------------------------------------------------------


def test_the_report_of_another_gpu(nvidia: Path, node: dict[str, list[Evidence]]) -> None:
    one, other = _file(nvidia, FILES[6]), _file(nvidia, FILES[2])
    chain = _verify(one.chain)
    assert chain.leaf_key is not None
    problem = verify_report_signature(other.signed_range, other.signature, chain.leaf_key, MEMORY)
    assert problem == "the signature does not verify under the key of certificate [0]"
    mismatch = fwid_problem(chain.fwid, node["gpu"][0].fwid)
    assert mismatch is not None
    assert mismatch.outcome is FwidOutcome.MISMATCH
    # Two GPUs of one node run the same firmware: only the signature tells them apart.
    first, second = node["gpu"][:2]
    chain = _verify(first.chain)
    assert chain.leaf_key is not None
    assert fwid_problem(chain.fwid, second.fwid) is None
    assert verify_report_signature(second.signed_range, second.signature, chain.leaf_key, MEMORY)


def test_nvidias_sample_with_a_bad_signature(nvidia: Path) -> None:
    """A report of another switch, whose chain is not published."""
    folder = nvidia / "ls10/attestation-sdk-sample"
    report = bytes.fromhex((folder / "switchAttestationReportInvalidSignature.txt").read_text())
    chain = _verify(parse_device_chain((folder / "switchCertChain.txt").read_bytes()))
    assert chain.leaf_key is not None
    assert verify_report_signature(report[:-96], report[-96:], chain.leaf_key, MEMORY)


def test_what_a_signature_must_be() -> None:
    key = SimKey("ak", curve="P-384")
    public = EcPublicKey("P-384", key.public_xy)
    good = key.sign_raw(b"report")
    assert verify_report_signature(b"report", good, public, MEMORY) is None
    for bad in (b"", good[:-1], good + b"\0", bytes(64)):
        problem = verify_report_signature(b"report", bad, public, MEMORY)
        assert problem == f"the signature has {len(bad)} bytes, not 96"
    for message, bad in (
        (b"other", good),
        (b"report", bytes(96)),
        (b"report", good[48:] + good[:48]),
        (b"report", b"\xff" * 96),
        (b"report", key.sign_raw(b"report", "sha256")),
    ):
        assert "does not verify" in str(verify_report_signature(message, bad, public, MEMORY))
    small = SimKey("ak")
    problem = verify_report_signature(
        b"report", small.sign_raw(b"report"), EcPublicKey("P-256", small.public_xy), MEMORY
    )
    assert problem == "the attestation key is on P-256, not on P-384"


def test_every_outcome_of_comparing_firmware_ids() -> None:
    one, other = b"\1" * 48, b"\2" * 48
    assert fwid_problem(one, one) is None
    for chain, report, outcome, words in (
        (one, other, FwidOutcome.MISMATCH, "the report states 0202"),
        (one, one[:-1], FwidOutcome.MISMATCH, "the report states 0101"),
        (one, b"", FwidOutcome.MISMATCH, "the report states "),
        (one, None, FwidOutcome.NOT_REPORTED, "states no FWID"),
        (None, one, FwidOutcome.NOT_CERTIFIED, "certifies no FWID"),
        (None, None, FwidOutcome.NOT_CERTIFIED, "certifies no FWID"),
    ):
        problem = fwid_problem(chain, report)
        assert problem is not None
        assert problem.outcome is outcome
        assert words in problem.text


# --- made chains: everything signed as it should be, one thing wrong -----------------------------

SAN_OID = "2.5.29.17"
DMTF_OID = "1.3.6.1.4.1.412.274.1"
SHA384_OID = "2.16.840.1.101.3.4.2.2"
SHA256_OID = "2.16.840.1.101.3.4.2.1"
FWID = bytes(range(1, 49))
KEYS = {
    label: SimKey(f"nv-{label}", curve="P-384")
    for label in ("leaf", "device", "provisioner", "identity", "root", "other")
}
SERIAL = 0x41_0102030405060708


def _fwid_der(digest: bytes = FWID, algorithm: str = SHA384_OID) -> bytes:
    return der.sequence(der.object_identifier(algorithm), der.octet_string(digest))


def _composite(key: SimKey | None = None, fwid: bytes | None = None, version: int = 1) -> bytes:
    return der.sequence(der.integer(version), (key or KEYS["device"]).spki, fwid or _fwid_der())


def _tcb_info(*fwids: bytes) -> bytes:
    def field(number: int, value: bytes) -> bytes:
        return der.context(number, value, constructed=False)

    return der.sequence(
        field(0, b"NVIDIA"), field(1, b"GB100 A01 GSP"), field(2, b"01"), field(3, b"\1"),
        field(4, b"\0"), field(5, b"\0"), der.context(6, b"".join(fwids)),
        field(7, bytes.fromhex("0080000001")), field(8, b"\xc0"), field(9, b"\0"),
    )  # fmt: skip


def _other_name(text: bytes, oid: str = DMTF_OID) -> bytes:
    value = der.context(0, der.tlv(0x0C, text))
    return der.context(0, der.object_identifier(oid) + value)


def _san(*names: bytes) -> Extension:
    return Extension(SAN_OID, False, der.sequence(*names))


def _name(common_name: str, *more: tuple[str, str]) -> Name:
    return Name((*more, ("O", "NVIDIA Corporation"), ("CN", common_name)))


def _spec(name: Name, key: SimKey, signer: SimKey, serial: int, *ext: Extension) -> CertificateSpec:
    return CertificateSpec(
        subject=name,
        issuer=name,
        key=key,
        signer=signer,
        serial=serial,
        not_before=datetime(2022, 1, 1, tzinfo=UTC),
        not_after=datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC),
        extensions=(*ext, subject_key_id(key)),
    )


Specs = list[CertificateSpec]
LEAF, DEVICE, PROVISIONER, IDENTITY, ROOT_AT = range(5)
CA = (basic_constraints(True), key_usage("key_cert_sign", "crl_sign"))


def _chain(chip: str = "GH100", engine: str = "GSP", serial: int = SERIAL) -> Specs:
    """The honest chain of a made device, laid out as the genuine ones."""
    blackwell = chip.startswith("GB")
    identity = "NVIDIA GH100 Identity" if chip == "LS_10" else f"NVIDIA {chip} Identity"
    root = _spec(_name("NVIDIA Device Identity CA"), KEYS["root"], KEYS["root"], 1, *CA)
    ica = _name(f"NVIDIA {chip} Provisioner ICA 1")
    device = _name(f"{chip} A01 {engine} BROM", ("serialNumber", f"{serial:018X}"))
    extension = (
        Extension(DICE_TCB_INFO_OID, False, _tcb_info(_fwid_der(), _fwid_der(bytes(48))))
        if blackwell
        else Extension(COMPOSITE_DEVICE_ID_OID, False, _composite())
    )
    leaf = (
        key_usage("digital_signature"),
        _san(_other_name(f"NVIDIA:{chip}:48B02D0102030405".encode())),
        extension,
    )
    return [
        _spec(_name(f"{chip} A01 {engine} FMC LF"), KEYS["leaf"], KEYS["device"], 5, *leaf),
        _spec(device, KEYS["device"], KEYS["device"], serial, CA[0], key_usage("key_cert_sign")),
        _spec(ica, KEYS["provisioner"], KEYS["root"], 3, *CA),
        _spec(_name(identity), KEYS["identity"], KEYS["root"], 2, *CA),
        root,
    ]


def _issue(specs: Specs) -> Specs:
    """Let every certificate be issued by the next, as it now is."""
    issued = [specs[-1]]
    for spec in reversed(specs[:-1]):
        issued.insert(0, spec.signed_by(issued[0]))
    return issued


def _parsed(specs: Specs) -> list[Certificate]:
    return [parse_certificate(spec.der()) for spec in specs]


SIM_ROOT = TrustAnchor.load(_chain()[ROOT_AT].der())


def _verify_made(specs: Specs) -> DeviceChain:
    return _verify(_parsed(specs), SIM_ROOT)


@pytest.mark.parametrize(
    ("chip", "engine", "prefix", "architecture"),
    [
        ("GH100", "GSP", 0x41, Architecture.HOPPER),
        ("GB100", "GSP", 0x41, Architecture.BLACKWELL_GB100),
        ("GB20X", "GSP", 0x41, Architecture.BLACKWELL_GB20X),
        ("LS_10", "FSP", 0x50, Architecture.LS10),
    ],
)
def test_honest_made_chains(
    chip: str, engine: str, prefix: int, architecture: Architecture
) -> None:
    chain = _verify_made(_issue(_chain(chip, engine, prefix << 64 | 0x0102030405060708)))
    assert chain.problem is None
    assert chain.architecture is architecture
    assert (chain.chip, chain.device_id, chain.fwid) == (chip, bytes(range(1, 9)), FWID)
    assert chain.device_info == f"NVIDIA:{chip}:48B02D0102030405"
    assert chain.leaf_key == EcPublicKey("P-384", KEYS["leaf"].public_xy)


def test_the_device_id_outlives_the_attestation_key() -> None:
    """New firmware brings a new certificate [0]; the device stays the same."""
    specs = _chain()
    before = _verify_made(_issue(specs))
    value = Extension(COMPOSITE_DEVICE_ID_OID, False, _composite(fwid=_fwid_der(FWID[::-1])))
    updated = replace(specs[LEAF], key=KEYS["other"], serial=6).with_extension(value)
    after = _verify_made(_issue([updated, *specs[1:]]))
    assert before.problem is after.problem is None
    assert before.device_id == after.device_id
    assert before.leaf_key != after.leaf_key
    assert before.fwid != after.fwid


def test_the_device_info_may_be_absent() -> None:
    specs = _chain()
    for leaf in (
        specs[LEAF].without_extension(SAN_OID),
        specs[LEAF].with_extension(_san(der.context(2, b"gpu.example", constructed=False))),
        specs[LEAF].with_extension(_san(_other_name(b"x", "1.2.3.4"))),
    ):
        chain = _verify_made(_issue([leaf, *specs[1:]]))
        assert (chain.problem, chain.device_info) == (None, None)


def test_an_attackers_root_is_not_the_pinned_one() -> None:
    chain = _verify(_parsed(_issue(_chain())))
    assert "it ends in a root that is not pinned" in str(chain.path_problem)
    assert _says_nothing(chain)


def _change(at: int, **changes: object) -> Specs:
    specs = _chain()
    specs[at] = replace(specs[at], **changes)  # type: ignore[arg-type]
    return _issue(specs)


def _extend(at: int, *extensions: Extension, without: str = "") -> Specs:
    specs = _chain()
    specs[at] = specs[at].without_extension(without)
    for extension in extensions:
        specs[at] = specs[at].with_extension(extension)
    return _issue(specs)


def _fwid_extension(value: bytes, oid: str = COMPOSITE_DEVICE_ID_OID) -> Specs:
    return _extend(LEAF, Extension(oid, False, value), without=COMPOSITE_DEVICE_ID_OID)


def _device_names(*attributes: tuple[str, str]) -> Specs:
    return _change(DEVICE, subject=_name("GH100 A01 GSP BROM", *attributes))


def _after(change: Specs, at: int, **changes: object) -> Specs:
    """Change a certificate once all are issued."""
    change[at] = replace(change[at], **changes)  # type: ignore[arg-type]
    return change


def _leaf_as_ca() -> Specs:
    """The attestation key issues one of its own."""
    specs = _chain()
    forged = replace(specs[LEAF], key=KEYS["other"])
    return [forged.signed_by(specs[LEAF]), *_issue(specs)[:1], *_issue(specs)[2:]]


DEFECTS: dict[str, tuple[str, Specs, str]] = {
    # names
    "leaf of another chip": (
        "name", _change(LEAF, subject=_name("GB100 A01 GSP FMC LF")),
        'certificate [0] is CN=GB100 A01 GSP FMC LF,O=NVIDIA Corporation, not "GH100 A01 GSP FMC',
    ),
    "leaf of another stepping": (
        "name", _change(LEAF, subject=_name("GH100 A02 GSP FMC LF")), "certificate [0]",
    ),
    "provisioner of another chip": (
        "name", _change(PROVISIONER, subject=_name("NVIDIA LS_10 Provisioner ICA 1")),
        'not "NVIDIA GH100 Provisioner ICA #" as for GH100 A01 GSP',
    ),
    "provisioner with a tail": (
        "name", _change(PROVISIONER, subject=_name("NVIDIA GH100 Provisioner ICA 1 test")),
        "certificate [2]",
    ),
    "identity CA of another chip": (
        "name", _change(IDENTITY, subject=_name("NVIDIA GB100 Identity")), "certificate [3]",
    ),
    "device with another engine": (
        "name", _issue(_chain(engine="FSP")), "is of GH100 A01 FSP, not of a device known here",
    ),
    "device without a common name": (
        "name", _change(DEVICE, subject=Name((("O", "NVIDIA"),))), "not a device identity",
    ),
    "device with two common names": (
        "name", _device_names(("CN", "LS_10 A01 FSP BROM")), "not a device identity",
    ),
    # path
    "leaf that is a CA": (
        "path", _extend(LEAF, basic_constraints(True)), "it is a CA, not an end entity",
    ),
    "leaf with keyCertSign": (
        "path", _extend(LEAF, key_usage("digital_signature", "key_cert_sign")),
        "its key is not for signing data alone",
    ),
    "leaf without digitalSignature": (
        "path", _extend(LEAF, key_usage("crl_sign")), "lacks digitalSignature",
    ),
    "leaf without key usage": (
        "path", _extend(LEAF, without="2.5.29.15"), "lacks digitalSignature",
    ),
    "leaf used as a CA": ("path", _leaf_as_ca(), "GH100 A01 GSP FMC LF"),
    "device that is no CA": ("path", _extend(DEVICE, basic_constraints(False)), "it is not a CA"),
    "device without constraints": (
        "path", _extend(DEVICE, without="2.5.29.19"), "it is not a CA",
    ),
    "device that signs data": (
        "path", _extend(DEVICE, key_usage("digital_signature", "key_cert_sign")),
        "its key is not for signing certificates",
    ),
    "provisioner without keyCertSign": (
        "path", _extend(PROVISIONER, key_usage("crl_sign")), "lacks keyCertSign",
    ),
    "provisioner with path length 0": (
        "path", _extend(PROVISIONER, basic_constraints(True, 0)), "path length constraint",
    ),
    "identity CA with path length 1": (
        "path", _extend(IDENTITY, basic_constraints(True, 1)), "path length constraint",
    ),
    "leaf key on P-256": (
        "path", _change(LEAF, key=SimKey("small")), "its key is not on P-384",
    ),
    "signature with SHA-256": (
        "path", _after(_issue(_chain()), LEAF, hash_name="sha256"), "does not fit P-384",
    ),
    "unknown critical extension": (
        "path", _extend(LEAF, Extension("1.2.3.4", True, b"\5\0")), "not understood: 1.2.3.4",
    ),
    "leaf signed by another key": (
        "path", _after(_issue(_chain()), LEAF, signer=KEYS["other"]), "does not verify",
    ),
    "identity CA signed by another key": (
        "path", _after(_issue(_chain()), IDENTITY, signer=KEYS["other"]), "does not verify",
    ),
    # identity
    "switch type byte on a GPU": (
        "identity", _issue(_chain(serial=0x50 << 64 | 7)), "expected gpu, found 0x50 (nvswitch)",
    ),
    "unknown type byte": ("identity", _issue(_chain(serial=0x42 << 64 | 7)), "found 0x42"),
    "zero identifier": ("identity", _issue(_chain(serial=0x41 << 64)), "all-zero"),
    "serial number of another device": (
        "identity", _change(DEVICE, serial=SERIAL + 1),
        "expected 410102030405060708, found 410102030405060709",
    ),
    "no serialNumber": ("identity", _device_names(), "found 0 serialNumber(s)"),
    "two serialNumbers": (
        "identity", _device_names(*[("serialNumber", f"{SERIAL:X}")] * 2), "found 2 serialNumber",
    ),
    "short serialNumber": (
        "identity", _device_names(("serialNumber", "4101")), "18 upper-case hexadecimal",
    ),
    "lower-case serialNumber": (
        "identity", _device_names(("serialNumber", "41ABCDEF0102030405".lower())), "18 upper-case",
    ),
    "blanks in the serialNumber": (
        "identity", _device_names(("serialNumber", "41 1020304050607 8")), "18 upper-case",
    ),
    # firmware
    "no FWID": ("firmware", _extend(LEAF, without=COMPOSITE_DEVICE_ID_OID), "found none"),
    "FWID in Blackwell's form": (
        "firmware", _fwid_extension(_tcb_info(_fwid_der()), DICE_TCB_INFO_OID),
        "expected extension 2.23.133.5.4.1, found 2.23.133.5.4.1.1",
    ),
    "FWID in both forms": (
        "firmware", _extend(LEAF, Extension(DICE_TCB_INFO_OID, False, _tcb_info(_fwid_der()))),
        "found 2.23.133.5.4.1 and 2.23.133.5.4.1.1",
    ),
    "FWID bound to the leaf's key": (
        "firmware", _fwid_extension(_composite(KEYS["leaf"])), "a key that is not the device's",
    ),
    "FWID bound to another device": (
        "firmware", _fwid_extension(_composite(KEYS["other"])), "a key that is not the device's",
    ),
    "FWID bound to a P-256 key": (
        "firmware", _fwid_extension(_composite(SimKey("small"))), "uncompressed P-384 key",
    ),
    "composite of version 2": (
        "firmware", _fwid_extension(_composite(version=2)), "not version 1",
    ),
    "FWID of SHA-256": (
        "firmware", _fwid_extension(_composite(fwid=_fwid_der(FWID[:32], SHA256_OID))),
        "not a SHA-384 digest",
    ),
    "FWID said to be SHA-256": (
        "firmware", _fwid_extension(_composite(fwid=_fwid_der(algorithm=SHA256_OID))),
        "not a SHA-384 digest",
    ),
    "short FWID": (
        "firmware", _fwid_extension(_composite(fwid=_fwid_der(FWID[:47]))), "found 47 bytes",
    ),
    "zero FWID": (
        "firmware", _fwid_extension(_composite(fwid=_fwid_der(bytes(48)))), "all-zero FWID",
    ),
    "FWID after the composite": (
        "firmware", _fwid_extension(_composite() + FWID), "not one SEQUENCE",
    ),
    "48 bytes and nothing else": ("firmware", _fwid_extension(FWID), "DER"),
    # device info
    "device info of another chip": (
        "device_info", _extend(LEAF, _san(_other_name(b"NVIDIA:GB100:01"))),
        "expected NVIDIA:GH100:…, found 'NVIDIA:GB100:01'",
    ),
    "device info of another maker": (
        "device_info", _extend(LEAF, _san(_other_name(b"ACME:GH100:01"))), "'ACME:GH100:01'",
    ),
    "device info twice": (
        "device_info", _extend(LEAF, _san(*[_other_name(b"NVIDIA:GH100:01")] * 2)), " and ",
    ),
    "device info with an escape": (
        "device_info", _extend(LEAF, _san(_other_name(b"NVIDIA:GH100:\x1b[2J"))), "x1b",
    ),
    "device info without a serial": (
        "device_info", _extend(LEAF, _san(_other_name(b"NVIDIA:GH100"))), "'NVIDIA:GH100'",
    ),
    "device info that is not text": (
        "device_info", _extend(LEAF, _san(_other_name(b"NVIDIA:GH100:\xff"))), "ufffd",
    ),
}  # fmt: skip


@pytest.mark.parametrize("defect", DEFECTS)
def test_every_defect_is_found_in_its_step(defect: str) -> None:
    step, specs, words = DEFECTS[defect]
    chain = _verify_made(specs)
    steps = {
        "name": chain.name_problem,
        "path": chain.path_problem,
        "identity": chain.identity_problem,
        "firmware": chain.firmware_problem,
        "device_info": chain.device_info_problem,
    }
    assert words in str(steps[step])
    if step in ("name", "path"):
        assert chain.architecture is None
        assert chain.leaf_key is None
        assert chain.device_id is None
    else:
        assert [name for name, problem in steps.items() if problem is not None] == [step]
        assert chain.problem == steps[step]
        claim = {"identity": chain.device_id, "firmware": chain.fwid}.get(step, chain.device_info)
        assert claim is None


def test_a_device_nobody_here_knows_is_named() -> None:
    chain = _verify_made(_issue(_chain("GR100")))
    assert chain.problem == (
        "certificate [1] is of GR100 A01 GSP, not of a device known here "
        "(GH100, GB100, GB20X, LS_10)"
    )
    assert chain.path_problem is None
    assert (chain.chip, chain.architecture, chain.leaf_key) == ("GR100", None, None)


def test_a_chip_name_that_nobody_signed_is_not_shown() -> None:
    assert _verify(_parsed(_issue(_chain("GR100")))).chip is None


# --- the two forms of the firmware id ------------------------------------------------------------


def test_the_forms_as_genuine_devices_carry_them(nvidia: Path) -> None:
    for row, oid in ((2, COMPOSITE_DEVICE_ID_OID), (7, COMPOSITE_DEVICE_ID_OID)):
        certificates = _file(nvidia, FILES[row]).chain
        value = certificates[0].private_extensions[oid]
        key, fwid = parse_composite_device_id(value)
        assert key == certificates[1].public_key
        assert key != certificates[0].public_key
        assert value.endswith(fwid)
    for row in (0, 1):
        evidence = _file(nvidia, FILES[row])
        value = evidence.chain[0].private_extensions[DICE_TCB_INFO_OID]
        assert parse_dice_fwids(value) == (evidence.fwid, bytes(48))


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\x30\x00",
        _tcb_info(),
        _tcb_info(der.sequence()),
        _tcb_info(_fwid_der(FWID[:20])),
        _tcb_info(_fwid_der(), _fwid_der(FWID[:32], SHA256_OID)),
        _tcb_info(_fwid_der()) + b"\0",
        der.sequence(der.context(0, b"NVIDIA", constructed=False)),
        der.sequence(der.context(6, _fwid_der()), der.context(6, _fwid_der())),
        der.sequence(der.context(6, _fwid_der()), der.context(0, b"x", constructed=False)),
        der.sequence(der.context(6, _fwid_der()), der.context(12, b"x", constructed=False)),
        der.sequence(der.context(6, _fwid_der(), constructed=False)),
        der.sequence(der.integer(1), der.context(6, _fwid_der())),
        der.sequence(der.context(6, _fwid_der() + b"\5")),
        der.sequence(der.context(6, der.octet_string(FWID))),
        der.sequence(der.context(6, der.sequence(der.object_identifier(SHA384_OID)))),
    ],
)
def test_malformed_tcb_info(value: bytes) -> None:
    with pytest.raises(EvidenceError):
        parse_dice_fwids(value)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\x30\x00",
        _composite() + b"\0",
        _composite(SimKey("small")),
        _composite(version=0),
        der.sequence(der.integer(1), KEYS["device"].spki),
        der.sequence(der.integer(1), der.sequence(KEYS["device"].spki[2:], b"\5\0"), _fwid_der()),
        der.sequence(der.integer(1), der.sequence(KEYS["device"].spki[2:-1]), _fwid_der()),
        der.sequence(der.integer(1), KEYS["device"].spki, _fwid_der(), _fwid_der()),
        der.sequence(KEYS["device"].spki, der.integer(1), _fwid_der()),
        der.sequence(der.integer(1), _fwid_der(), KEYS["device"].spki),
        _composite().replace(b"\x03\x62\x00\x04", b"\x03\x62\x00\x02"),
        _composite().replace(b"\x03\x62\x00\x04", b"\x03\x62\x01\x04"),
    ],
)
def test_malformed_composite_device_ids(value: bytes) -> None:
    with pytest.raises(EvidenceError):
        parse_composite_device_id(value)


GOOD_FORMS = {"composite": _composite(), "tcb info": _tcb_info(_fwid_der(), _fwid_der(bytes(48)))}


@given(st.sampled_from(sorted(GOOD_FORMS)), st.data())
@settings(max_examples=300, deadline=None)
def test_the_parsers_accept_or_refuse_and_never_break(form: str, data: st.DataObject) -> None:
    """Over changed, shortened, lengthened and arbitrary bytes."""
    good = bytearray(GOOD_FORMS[form])
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(good) - 1))
        good[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
    for value in (bytes(good), data.draw(st.binary(max_size=64))):
        with suppress(EvidenceError):
            key, fwid = parse_composite_device_id(value)
            spki = KEYS["device"].spki[:-96] + key.point
            assert value == der.sequence(der.integer(1), spki, _fwid_der(fwid))
        with suppress(EvidenceError):
            assert {len(one) for one in parse_dice_fwids(value)} == {48}


HONEST = [spec.der() for spec in _issue(_chain())]


@given(st.integers(0, 4), st.data())
@settings(max_examples=150, deadline=None)
def test_any_changed_byte_of_a_chain_is_found(which: int, data: st.DataObject) -> None:
    changed = bytearray(HONEST[which])
    at = data.draw(st.integers(0, len(changed) - 1))
    changed[at] ^= data.draw(st.integers(1, 255))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # serial numbers that RFC 5280 does not allow
            bad = parse_certificate(bytes(changed))
    except EvidenceError:
        return
    chain = [parse_certificate(one) for one in HONEST]
    chain[which] = bad
    result = _verify(chain, SIM_ROOT)
    assert result.problem is not None
    assert result.path_problem is not None
