"""A simulated node and its collateral, for the tests that carry or fetch it."""

from __future__ import annotations

import base64
import hashlib
import json

from cryptography.x509 import ocsp
from pcs_server import Behaviour, Reply

from ccverify.collateral import CollateralFile, parse_collateral_file
from ccverify.interop.detect import parse_foreign_evidence
from ccverify.nvidia.collateral import NvidiaCollateral
from ccverify.nvidia.needs import DeviceNeeds, device_needs
from ccverify.sim.nvidia import SimNode
from ccverify.trust.anchors import INTEL_SGX_ROOT_CA, TrustAnchor
from ccverify.trust.store import TrustKind, TrustStore

SIM = SimNode.hopper_ppcie()
NODE = SIM.build()
CRLS = tuple(crl.der() for crl in SIM.all_crls())
TRUST = TrustStore(
    TrustKind.SIMULATED,
    INTEL_SGX_ROOT_CA,
    TrustAnchor.load(NODE.device_root_der),
    TrustAnchor.load(NODE.rim_root_der),
)
RIM_PATH, OCSP_PATH = "/v1/rim/", "/"


def everything() -> CollateralFile:
    """All that the node needs, with CRLs as well."""
    files = [parse_collateral_file(xml, name=name) for name, xml in NODE.rims]
    files += [parse_collateral_file(der) for der in (*NODE.ocsp, *CRLS)]
    return CollateralFile.union(files)


def needs() -> tuple[DeviceNeeds, ...]:
    """What the node's evidence asks for."""
    (node,) = parse_foreign_evidence(NODE.nvattest_json().encode()).nodes
    return device_needs(node.gpus, node.switches, TRUST.nvidia_device_root, TRUST.memory)


def rim_id(name: str) -> str:
    return name.removesuffix(".xml")


def rim_response(name: str, xml: bytes, **changes: object) -> bytes:
    """The RIM service's answer, with some members changed; None takes one away."""
    members = {
        "id": rim_id(name),
        "rim": base64.b64encode(xml).decode(),
        "sha256": hashlib.sha256(xml).hexdigest(),
        "last_updated": "2026-01-01T00:00:00.000000",
        "rim_format": "TCG",
        "request_id": "00000000-0000-0000-0000-000000000000",
        **changes,
    }
    return json.dumps({key: value for key, value in members.items() if value is not None}).encode()


def answer_ocsp(handler: object) -> None:
    """Answer as NVIDIA's responder does: about the serial asked, with the nonce asked."""
    request = ocsp.load_der_ocsp_request(handler.posted)  # type: ignore[attr-defined]
    nonces = [each.value.nonce for each in request.extensions]
    for spec in SIM.ocsp_responses():
        if spec.answers[0].certificate.serial == request.serial_number:
            body = spec.__class__(
                answers=spec.answers,
                responder=spec.responder,
                produced_at=spec.produced_at,
                nonce=nonces[0] if nonces else None,
            ).der()
            Reply(body)(handler)  # type: ignore[arg-type]
            return
    Reply(bytes.fromhex("30030a0106"))(handler)  # type: ignore[arg-type]  # unauthorized


def service() -> dict[str, Behaviour | list[Behaviour]]:
    """The routes of both of NVIDIA's services."""
    routes: dict[str, Behaviour | list[Behaviour]] = {
        RIM_PATH + rim_id(name): Reply(rim_response(name, xml)) for name, xml in NODE.rims
    }
    routes[OCSP_PATH] = answer_ocsp
    return routes


def serials(collateral: NvidiaCollateral) -> set[int]:
    """The serial numbers that are answered about."""
    return {r.responses[0].cert_id.serial for r in collateral.revocation.responses}
