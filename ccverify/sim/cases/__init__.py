"""The corpus as tables: what `ccverify.sim.fixtures` writes out.

Every row says what must follow from its evidence, decided from the specification and the
attack, never copied from what a verifier answered.
"""

from __future__ import annotations

from ccverify.sim.cases.accepted import ACCEPTED_CASES
from ccverify.sim.cases.chain import CHAIN_CASES, CRL_CASES, EXTENSION_CASES, SIGNER_CASES
from ccverify.sim.cases.clock import CLOCK_CASES
from ccverify.sim.cases.collateral import AGE_CASES, JSON_CASES, MISSING_CASES, SIGNED_CASES
from ccverify.sim.cases.device_model import DeviceCase
from ccverify.sim.cases.devices_chain import DEVICE_CHAIN_CASES, IDENTITY_CASES, TAG_CASES
from ccverify.sim.cases.devices_fabric import DUPLICATE_CASES, PARTIAL_CASES, TOPOLOGY_CASES
from ccverify.sim.cases.devices_good import GOOD_DEVICE_CASES, WAIVED_CASES
from ccverify.sim.cases.devices_node import (
    BOUND_CASES,
    GOOD_NODE_CASES,
    NODE_PART_CASES,
    RELAY_CASES,
)
from ccverify.sim.cases.devices_policy import LIST_CASES, SILENCE_CASES
from ccverify.sim.cases.devices_report import (
    DOCUMENT_CASES,
    FIRMWARE_CASES,
    MODE_CASES,
    NONCE_CASES,
    REPORT_CASES,
)
from ccverify.sim.cases.devices_revocation import (
    DEVICE_CLOCK_CASES,
    DEVICE_CRL_CASES,
    OCSP_CASES,
)
from ccverify.sim.cases.devices_rim import (
    MANIFEST_CASES,
    MEASUREMENT_CASES,
    SIGNER_STATUS_CASES,
    XML_CASES,
)
from ccverify.sim.cases.good import GOOD_CASES
from ccverify.sim.cases.logs import CCEL_CASES, DSTACK_CASES, GOOD_LOG_CASES
from ccverify.sim.cases.model import Expected, FixtureCase
from ccverify.sim.cases.quote import BINDING_CASES, FORMAT_CASES, SIGNATURE_CASES
from ccverify.sim.cases.tcb import ENCLAVE_CASES, LEVEL_CASES, MODULE_CASES, STATUS_CASES
from ccverify.sim.cases.td import ATTRIBUTE_CASES, IMAGE_CASES, PLATFORM_CASES

__all__ = ["ATTACKS", "DEVICE_GROUPS", "GROUPS", "STEPS", "DeviceCase", "Expected", "FixtureCase"]

GROUPS: dict[str, tuple[FixtureCase, ...]] = {
    "Honest evidence": GOOD_CASES,
    "Accepted by policy": ACCEPTED_CASES,
    "Honest event logs": GOOD_LOG_CASES,
    "Quote format": FORMAT_CASES,
    "Signatures of the quote": SIGNATURE_CASES,
    "Nonce and report data": BINDING_CASES,
    "PCK chain": CHAIN_CASES,
    "PCK extension": EXTENSION_CASES,
    "Revocation": CRL_CASES,
    "TCB signer": SIGNER_CASES,
    "Signed collateral": SIGNED_CASES,
    "Missing collateral": MISSING_CASES,
    "Collateral as JSON": JSON_CASES,
    "Age of collateral": AGE_CASES,
    "Quoting enclave": ENCLAVE_CASES,
    "TDX module": MODULE_CASES,
    "TCB levels": LEVEL_CASES,
    "TCB status": STATUS_CASES,
    "TD attributes": ATTRIBUTE_CASES,
    "Image": IMAGE_CASES,
    "Platform": PLATFORM_CASES,
    "Clock": CLOCK_CASES,
    "CCEL": CCEL_CASES,
    "dstack log": DSTACK_CASES,
}
"""All cases of a quote alone by subject, in the order of the index."""

DEVICE_GROUPS: dict[str, tuple[DeviceCase, ...]] = {
    "Honest devices": GOOD_DEVICE_CASES,
    "Devices accepted by policy": WAIVED_CASES,
    "Honest nodes of a TD and devices": GOOD_NODE_CASES,
    "Evidence file": DOCUMENT_CASES,
    "Device report": REPORT_CASES,
    "Device nonce": NONCE_CASES,
    "Firmware id and attestation key": FIRMWARE_CASES,
    "GPU mode": MODE_CASES,
    "Device chain": DEVICE_CHAIN_CASES,
    "Device identity": IDENTITY_CASES,
    "The attester's tags": TAG_CASES,
    "Reference manifests": MANIFEST_CASES,
    "Measurements": MEASUREMENT_CASES,
    "XML of manifests": XML_CASES,
    "Revocation of manifest signers": SIGNER_STATUS_CASES,
    "OCSP": OCSP_CASES,
    "Revocation lists of devices": DEVICE_CRL_CASES,
    "Clock and devices": DEVICE_CLOCK_CASES,
    "Duplicate devices": DUPLICATE_CASES,
    "Partial nodes": PARTIAL_CASES,
    "Topology": TOPOLOGY_CASES,
    "Lists and versions": LIST_CASES,
    "Silent policies": SILENCE_CASES,
    "Relay": RELAY_CASES,
    "Binding": BOUND_CASES,
    "Parts of a node": NODE_PART_CASES,
}
"""All cases with devices by subject, in the order of the index."""

ATTACKS: dict[str, str] = {
    "A1": "Missing or empty signature accepted",
    "A2": "Wrong nonce taken for a warning",
    "A3": "Root CA of the attacker",
    "A4": "Replay of old evidence",
    "A5": "Relay: the quote of one machine, the devices of another, under one nonce",
    "A6": "One device that is counted several times, or as two classes",
    "A7": "Devices left out, hidden or slipped in",
    "A8": "Phantom topology: lists of the fabric that do not name the attested devices",
    "A11": "Debug or development state of TD, TDX module and QE; mode and lock of devices",
    "A12": "TD attributes, extended features, service TD, image",
    "A13": "TCB rollback, stale collateral, future issue date",
    "A14": "QE, module or collateral check skipped",
    "A15": "SVN lists cut short or compared only in part",
    "A16": "CA as leaf, leaf as CA, wrong certificate, chaining by name only",
    "A17": "Firmware id or attestation key exchanged: chain of one device, report of another",
    "A18": "Reference manifest exchanged, outdated, unsigned; measurements that do not match",
    "A19": "XML signature wrapping, entities, other XML than a manifest needs",
    "A20": "ECDSA edge values, lax DER",
    "A21": "Duplicate keys, NaN, depth, unknown members",
    "A22": "Work without bound before a signature is checked",
    "A23": "Event log: digests believed, other log, reordered, relabelled",
    "A24": "Revocation: answers absent, stale, forged, on hold",
    "A25": "Verdict laundering: a failure that ends as success",
    "A26": "Genuine keys in the wrong hands: lists of machines and devices",
    "A28": "The attester's word taken for the hardware's",
    "A29": "Clock skew and the ends of time",
}
"""Attack classes of the corpus."""

STEPS: dict[int, str] = {
    1: "Root pinned",
    2: "Collateral complete, issuer chains",
    3: "Signatures over the exact text served",
    4: "Every window holds at the evaluation time",
    5: "Evaluation data numbers reach the policy's minimum",
    6: "PCK chain, CRLs, nobody revoked",
    7: "SGX extension: platform, 16 SVNs",
    8: "TCB info is of this TEE, FMSPC and PCE",
    9: "PCK key signed the QE report",
    10: "QE report binds attestation key and authentication data",
    11: "QE identity: MISCSELECT, ATTRIBUTES, MRSIGNER, ISVPRODID, ISVSVN",
    12: "Attestation key signed header and TD report",
    13: "TDX module: identity by major version, signer, attributes",
    14: "First TCB level reached: 16 SGX components, PCESVN, TDX components",
    15: "TDX module level by minor SVN",
    16: "Statuses of platform, module and QE converge; earliest date, all advisories",
    17: "TD 1.5: launch and current module, relaunch advised",
    18: "All statuses",
    19: "Advisories fail nothing by themselves",
    20: "A verdict belongs to quote, collateral and time",
}
"""Steps of TDX verification."""
