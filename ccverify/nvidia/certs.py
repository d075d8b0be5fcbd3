"""Device certificate chains of NVIDIA GPUs and NVSwitches.

Below the pinned NVIDIA Device Identity CA stand four certificates, all P-384 with SHA-384,
numbered as evidence carries them:

    [0] attestation key, "GH100 A01 GSP FMC LF": signs reports, certifies the firmware (FWID)
    [1] device identity, "GH100 A01 GSP BROM": its serial number names the device for life
    [2] provisioner,     "NVIDIA GH100 Provisioner ICA 1"
    [3] identity CA,     "NVIDIA GH100 Identity"

The attestation key changes with the firmware, so a device is known by [1], never by [0].
NVIDIA publishes no profile.  Names, key usages and extensions are demanded as 148 genuine
chains (141 GH100, 5 LS_10, 1 GB100, 1 GB20X) carry them without exception; none has a path
length constraint.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from functools import lru_cache
from typing import NamedTuple, TypeVar

from ccverify.errors import EvidenceError
from ccverify.nvidia.identity import (
    COMPOSITE_DEVICE_ID_OID,
    DICE_TCB_INFO_OID,
    DeviceType,
    parse_certified_fwid,
    parse_device_id,
    parse_device_info,
)
from ccverify.trust.anchors import TrustAnchor
from ccverify.trust.path import CertificateRole, verify_path
from ccverify.trust.signatures import EcPublicKey, SignatureMemory
from ccverify.trust.x509 import Certificate, parse_pem_chain, validity_problem

__all__ = [
    "Architecture",
    "DeviceChain",
    "FwidOutcome",
    "FwidProblem",
    "architecture_claim_problem",
    "fwid_problem",
    "parse_device_chain",
    "validity_problems",
    "verify_device_chain",
    "verify_report_signature",
]

_SIGNATURE_BYTES = 96


class Architecture(str, Enum):
    """The chip families whose chains are known."""

    HOPPER = "HOPPER"
    BLACKWELL_GB100 = "BLACKWELL-GB100"
    BLACKWELL_GB20X = "BLACKWELL-GB20X"
    LS10 = "LS10"
    """The NVSwitch of Hopper systems."""


@dataclass(frozen=True, slots=True)
class _Family:
    """How the chains of one chip family look."""

    architecture: Architecture
    evidence_name: str  # what evidence formats call the architecture
    device_type: DeviceType
    chip: str
    engine: str
    provisioner: str  # with "#" for the numbers, or a letter X, that vary
    identity_ca: str
    fwid_oid: str


# LS10 and Hopper share the identity CA; the provisioner is what sets them apart.
_FAMILIES = {
    family.chip: family
    for family in (
        _Family(
            Architecture.HOPPER, "HOPPER", DeviceType.GPU, "GH100", "GSP",
            "NVIDIA GH100 Provisioner ICA #", "NVIDIA GH100 Identity", COMPOSITE_DEVICE_ID_OID,
        ),
        _Family(
            Architecture.BLACKWELL_GB100, "BLACKWELL", DeviceType.GPU, "GB100", "GSP",
            "NVIDIA GB100 Provisioner ICA #", "NVIDIA GB100 Identity", DICE_TCB_INFO_OID,
        ),
        _Family(
            Architecture.BLACKWELL_GB20X, "BLACKWELL", DeviceType.GPU, "GB20X", "GSP",
            "NVIDIA GB20# Provisioner ICA #", "NVIDIA GB20X Identity", DICE_TCB_INFO_OID,
        ),
        _Family(
            Architecture.LS10, "LS10", DeviceType.NVSWITCH, "LS_10", "FSP",
            "NVIDIA LS_10 Provisioner ICA #", "NVIDIA GH100 Identity", COMPOSITE_DEVICE_ID_OID,
        ),
    )
}  # fmt: skip
_BY_ARCHITECTURE = {family.architecture: family for family in _FAMILIES.values()}
_EVIDENCE_NAMES = sorted({family.evidence_name for family in _FAMILIES.values()})
_NOT_KNOWN = f"not of a device known here ({', '.join(_FAMILIES)})"

_LEAF_NAME = re.compile(r"([A-Z][A-Z0-9_]{1,15}) [A-Z][0-9]{2} [A-Z]{2,4} FMC LF")
_DEVICE_NAME = re.compile(r"(([A-Z][A-Z0-9_]{1,15}) [A-Z][0-9]{2} ([A-Z]{2,4})) BROM")

_UNREAD = "not read, because the chain is not that of a known NVIDIA device"


@dataclass(frozen=True, slots=True)
class DeviceChain:
    """A checked device certificate chain.

    Each ``…_problem`` is one step: None where it passed.  What the certificates say is None
    until the step that it rests on has passed, so nothing unsigned is ever shown as a claim.

    Attributes:
        certificates: the certificates below the root, as given.
        name_problem: the common names are not those of one known device family.
        path_problem: no valid path to the pinned root (signatures, CA flags, key usage, count).
        identity_problem: certificate [1] does not name a device, or not of the family's type.
        firmware_problem: certificate [0] does not certify a FWID in the family's form.
        device_info_problem: the DMTF device info of certificate [0] names another chip.
        chip: chip name of certificate [1], signed by NVIDIA's provisioner; also when unknown.
        architecture: the chip family.
        device_type: GPU or NVSwitch.
        device_id: the device's permanent identifier (PDI), 8 bytes, big endian.
        fwid: SHA-384 of the firmware that holds the attestation key, 48 bytes.
        leaf_key: the attestation key, which signs reports.
        device_info: "manufacturer:product:serial" (DSP0274, 1.3.6.1.4.1.412.274.1); None
            where the certificate does not carry it.  Its serial is not the PDI.
    """

    certificates: tuple[Certificate, ...]
    name_problem: str | None
    path_problem: str | None
    identity_problem: str | None = None
    firmware_problem: str | None = None
    device_info_problem: str | None = None
    chip: str | None = None
    architecture: Architecture | None = None
    device_type: DeviceType | None = None
    device_id: bytes | None = None
    fwid: bytes | None = None
    leaf_key: EcPublicKey | None = None
    device_info: str | None = None

    @property
    def problem(self) -> str | None:
        """The first problem, in the order of the steps; None where every step passed."""
        return (
            self.name_problem
            or self.path_problem
            or self.identity_problem
            or self.firmware_problem
            or self.device_info_problem
        )


def parse_device_chain(pem: bytes) -> tuple[Certificate, ...]:
    """Parse a device's PEM certificate chain.

    NVIDIA's driver fills a buffer of fixed size, and some collectors send it with the NUL
    bytes that follow the text; those are dropped.

    Raises:
        EvidenceError: not a chain of PEM certificates on P-256 or P-384.
    """
    return parse_pem_chain(bytes(pem).rstrip(b"\0"))


def verify_device_chain(
    chain: Sequence[Certificate], root: TrustAnchor, memory: SignatureMemory
) -> DeviceChain:
    """Check that a chain leads from a known device's attestation key to the pinned root.

    Validity periods and revocation are left to the caller (`validity_problems`).  Never raises.

    Args:
        chain: certificate [0] first; the root at the end may be left out.
        root: NVIDIA's device root, `TrustStore.nvidia_device_root`.
        memory: signature memory, `TrustStore.memory`.
    """
    certificates = tuple(chain)
    if certificates and certificates[-1].subject == certificates[-1].issuer:
        certificates = certificates[:-1]
    family, name_problem = _named_family(certificates)
    path_problem = _path_problem(chain, certificates, root, memory)
    chip = _chip(certificates) if path_problem is None else None
    if family is None or name_problem is not None or path_problem is not None:
        return DeviceChain(
            certificates, name_problem, path_problem, _UNREAD, _UNREAD, _UNREAD, chip=chip
        )
    said = _read_statements(certificates[0], certificates[1], family.chip)
    return DeviceChain(
        certificates,
        name_problem=None,
        path_problem=None,
        identity_problem=said.device_id[1],
        firmware_problem=said.fwid[1],
        device_info_problem=said.device_info[1],
        chip=chip,
        architecture=family.architecture,
        device_type=family.device_type if said.device_id[1] is None else None,
        device_id=said.device_id[0],
        fwid=said.fwid[0],
        leaf_key=certificates[0].public_key,
        device_info=said.device_info[0],
    )


def validity_problems(
    chain: DeviceChain, root: TrustAnchor, now: datetime
) -> tuple[str | None, ...]:
    """Say for each certificate, the root last, why it is not valid at `now` (aware datetime).

    NVIDIA's device certificates end on 9999-12-31; only their start can matter.
    """
    problems = [validity_problem(certificate, now) for certificate in chain.certificates]
    outside = not root.not_before <= now <= root.not_after
    return (*problems, f"{root.label} is not valid at that time" if outside else None)


def architecture_claim_problem(chain: DeviceChain, claimed: str) -> str | None:
    """Say why the architecture that evidence claims is not the chain's; None if it is.

    Args:
        chain: a checked chain.
        claimed: ``HOPPER``, ``BLACKWELL`` or ``LS10``, as NVIDIA's evidence formats write it.
    """
    if claimed not in _EVIDENCE_NAMES:
        known = ", ".join(_EVIDENCE_NAMES)
        return f"the evidence claims the architecture {claimed[:64]!a}; known are {known}"
    if chain.architecture is None:
        return f"the evidence claims {claimed}, the certificate chain proves no architecture"
    signed = _BY_ARCHITECTURE[chain.architecture].evidence_name
    if claimed != signed:
        return f"the evidence claims {claimed}, the certificate chain is of {signed} ({chain.chip})"
    return None


def verify_report_signature(
    signed_range: bytes, signature: bytes, leaf_key: EcPublicKey, memory: SignatureMemory
) -> str | None:
    """Say why a report was not signed by the attestation key; None if it was.

    Args:
        signed_range: SPDM request ‖ response without its signature.
        signature: r ‖ s, 96 bytes, big endian (ECDSA P-384, SHA-384).
        leaf_key: `DeviceChain.leaf_key`.
        memory: signature memory.
    """
    if leaf_key.curve != "P-384":
        return f"the attestation key is on {leaf_key.curve}, not on P-384"
    if len(signature) != _SIGNATURE_BYTES:
        return f"the signature has {len(signature)} bytes, not {_SIGNATURE_BYTES}"
    if not memory.verify_raw(leaf_key, signature, signed_range):
        return "the signature does not verify under the key of certificate [0]"
    return None


class FwidOutcome(str, Enum):
    """How a comparison of firmware ids can fail."""

    MISMATCH = "mismatch"
    """The report was made under other firmware than the chain certifies."""
    NOT_REPORTED = "not-reported"
    """The report states none: drivers 535 and 545, and every LS10.  Nothing was compared."""
    NOT_CERTIFIED = "not-certified"
    """The chain yields none to compare with."""


@dataclass(frozen=True, slots=True)
class FwidProblem:
    """Why report and chain were not found to have the same firmware id."""

    outcome: FwidOutcome
    text: str


def fwid_problem(chain_fwid: bytes | None, report_fwid: bytes | None) -> FwidProblem | None:
    """Compare the certified firmware id with the report's (opaque field 20); None if equal.

    A report that states none is an outcome of its own and never a pass: whether it is enough
    that the certified key signed the report is for a policy to say.
    """
    if chain_fwid is None:
        text = "the certificate chain certifies no FWID"
        return FwidProblem(FwidOutcome.NOT_CERTIFIED, text)
    if report_fwid is None:
        text = "the report states no FWID to compare with the certified one"
        return FwidProblem(FwidOutcome.NOT_REPORTED, text)
    if chain_fwid != report_fwid:
        shown = report_fwid[:48].hex()
        text = f"the chain certifies FWID {chain_fwid.hex()}, the report states {shown}"
        return FwidProblem(FwidOutcome.MISMATCH, text)
    return None


# --- names and path ------------------------------------------------------------------------------


def _named_family(certificates: Sequence[Certificate]) -> tuple[_Family | None, str | None]:
    """The family of certificate [1], and how the common names differ from that family's."""
    if not certificates:
        return None, "the chain holds no device certificate"
    names = [certificate.common_name or "" for certificate in certificates[:4]]
    names += [""] * (4 - len(names))
    device = _DEVICE_NAME.fullmatch(names[1])
    if device is None:
        if not _LEAF_NAME.fullmatch(names[0]):
            return None, f"certificate [0] is {_shown(certificates, 0)}, {_NOT_KNOWN}"
        shown = _shown(certificates, 1)
        return None, f'certificate [1] is {shown}, not a device identity ("… BROM")'
    prefix, chip, engine = device.groups()
    family = _FAMILIES.get(chip)
    if family is None or engine != family.engine:
        return None, f"certificate [1] is of {prefix}, {_NOT_KNOWN}"
    expected = {0: f"{prefix} FMC LF", 2: family.provisioner, 3: family.identity_ca}
    for at, name in expected.items():
        # Names are of letters, digits, spaces and "_", so they are patterns of themselves.
        if not re.fullmatch(name.replace("#", "[0-9X]{1,5}"), names[at]):
            shown = _shown(certificates, at)
            return family, f'certificate [{at}] is {shown}, not "{name}" as for {prefix}'
    return family, None


def _shown(certificates: Sequence[Certificate], at: int) -> str:
    return certificates[at].subject_text if at < len(certificates) else "missing"


def _chip(certificates: Sequence[Certificate]) -> str | None:
    device = _DEVICE_NAME.fullmatch(certificates[1].common_name or "")
    return device[2] if device else None


def _path_problem(
    chain: Sequence[Certificate],
    certificates: Sequence[Certificate],
    root: TrustAnchor,
    memory: SignatureMemory,
) -> str | None:
    # The names are matched as patterns in `_named_family`; here each stands for itself.
    own = [certificate.common_name or "one ASCII name" for certificate in certificates]
    own += ["missing"] * (4 - len(own))
    roles = [CertificateRole((own[at],), is_ca=at > 0, curve="P-384") for at in range(4)]
    problem = verify_path(chain, roles, root, memory).problem
    if problem is not None:
        return problem
    for at, certificate in enumerate(certificates):
        if certificate.signs_data != (at == 0) or certificate.signs_certificates != (at > 0):
            use = "certificates and revocation lists" if at else "data"
            return f"{certificate.subject_text}: its key is not for signing {use} alone"
    return None


# --- what the certificates say -------------------------------------------------------------------

_Value = TypeVar("_Value")


class _Statements(NamedTuple):
    """Of each what it says, and why it cannot be read."""

    device_id: tuple[bytes | None, str | None]
    fwid: tuple[bytes | None, str | None]
    device_info: tuple[str | None, str | None]


# A pure function of two certificates, which a device shows with each report: remembering it
# remembers no decision.
@lru_cache(maxsize=256)
def _read_statements(leaf: Certificate, identity: Certificate, chip: str) -> _Statements:
    family = _FAMILIES[chip]
    return _Statements(
        _attempt(lambda: parse_device_id(identity, family.device_type)),
        _attempt(lambda: parse_certified_fwid(leaf, family.fwid_oid, identity.public_key)),
        _attempt(lambda: parse_device_info(leaf, family.chip)),
    )


def _attempt(read: Callable[[], _Value]) -> tuple[_Value | None, str | None]:
    """What `read` returns, or the text of the EvidenceError it raises."""
    try:
        return read(), None
    except EvidenceError as problem:
        details = (("expected", problem.expected), ("found", problem.found))
        text = "".join(f", {label} {value}" for label, value in details if value is not None)
        return None, f"{problem.message}{text}"
