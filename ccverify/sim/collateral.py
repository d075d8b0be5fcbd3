"""TCB info, QE identity and the collateral bundle, as Intel's provisioning service serves them.

Sources: Intel SGX and TDX Provisioning Certification Service API v4, "TCB Info V3" and
"Enclave Identity V2".  Signatures cover the exact text of the inner JSON object.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal
from urllib.parse import quote as percent_encode

from ccverify.sim.keys import SimKey

__all__ = [
    "Collateral",
    "ModuleIdentity",
    "PcsResponse",
    "QeIdentity",
    "SignedBody",
    "SvnLevel",
    "TcbComponent",
    "TcbInfo",
    "TcbLevel",
    "components",
    "pcs_time",
    "sign_body",
]

Json = dict[str, Any]

SGX_COMPONENT_KINDS: tuple[tuple[str | None, str | None], ...] = (
    ("BIOS", "Early Microcode Update"),
    ("OS/VMM", "SGX Late Microcode Update"),
    ("OS/VMM", "TXT SINIT"),
    ("BIOS", None),
    ("BIOS", None),
    ("BIOS", None),
    (None, None),
    ("OS/VMM", "SEAMLDR ACM"),
)
TDX_COMPONENT_KINDS: tuple[tuple[str | None, str | None], ...] = (
    ("OS/VMM", "TDX Module"),
    ("OS/VMM", "TDX Module"),
    ("OS/VMM", "TDX Late Microcode Update"),
)


def pcs_time(value: datetime) -> str:
    """Return a time as the service writes it: ``2026-06-15T12:00:00Z``."""
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def compact(value: Any) -> str:
    """Return JSON without white space, members in the order given, as Intel serves it."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class TcbComponent:
    """One of the 16 SVNs of a level; category and type are left out when None."""

    svn: int
    category: str | None = None
    type: str | None = None

    def members(self) -> Json:
        """Return the JSON object."""
        named = {"svn": self.svn, "category": self.category, "type": self.type}
        return {key: value for key, value in named.items() if value is not None}


def components(
    svns: tuple[int, ...], kinds: tuple[tuple[str | None, str | None], ...]
) -> tuple[TcbComponent, ...]:
    """Return one component per SVN, as many as `svns` has; `kinds` names the first ones."""
    padded = kinds + ((None, None),) * max(0, len(svns) - len(kinds))
    return tuple(TcbComponent(svn, *kind) for svn, kind in zip(svns, padded, strict=False))


def _judged(members: Json, date: datetime, status: str, advisories: tuple[str, ...]) -> Json:
    members |= {"tcbDate": pcs_time(date), "tcbStatus": status}
    # The service leaves the member out when there is nothing to list.
    return members | ({"advisoryIDs": list(advisories)} if advisories else {})


@dataclass(frozen=True, slots=True, kw_only=True)
class TcbLevel:
    """One platform level of a TCB info; honest levels have 16 components of each kind."""

    sgx_components: tuple[TcbComponent, ...]
    pcesvn: int
    tdx_components: tuple[TcbComponent, ...]
    tcb_date: datetime
    status: str
    advisory_ids: tuple[str, ...] = ()

    def members(self) -> Json:
        """Return the JSON object."""
        tcb = {
            "sgxtcbcomponents": [component.members() for component in self.sgx_components],
            "pcesvn": self.pcesvn,
            "tdxtcbcomponents": [component.members() for component in self.tdx_components],
        }
        return _judged({"tcb": tcb}, self.tcb_date, self.status, self.advisory_ids)


@dataclass(frozen=True, slots=True, kw_only=True)
class SvnLevel:
    """One level of a TDX module identity or of a QE identity: a single ISVSVN."""

    isvsvn: int
    tcb_date: datetime
    status: str
    advisory_ids: tuple[str, ...] = ()

    def members(self) -> Json:
        """Return the JSON object."""
        tcb = {"tcb": {"isvsvn": self.isvsvn}}
        return _judged(tcb, self.tcb_date, self.status, self.advisory_ids)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleIdentity:
    """A TDX module identity; `id` is ``TDX_01``, or None for the plain ``tdxModule``."""

    id: str | None = None
    mrsigner: bytes = bytes(48)
    attributes: bytes = bytes(8)
    attributes_mask: bytes = b"\xff" * 8
    levels: tuple[SvnLevel, ...] = ()

    def members(self) -> Json:
        """Return the JSON object; `tdxModule` has neither id nor levels."""
        body: Json = {
            "mrsigner": self.mrsigner.hex().upper(),
            "attributes": self.attributes.hex().upper(),
            "attributesMask": self.attributes_mask.hex().upper(),
        }
        if self.id is None:
            return body
        return {"id": self.id} | body | {"tcbLevels": [level.members() for level in self.levels]}


@dataclass(frozen=True, slots=True, kw_only=True)
class TcbInfo:
    """A TCB info, version 3.

    Attributes:
        fmspc: 6 bytes.  pce_id: 2 bytes.
        issue_date, next_update: UTC.
        levels: best first, as Intel orders them.
        module: ``tdxModule``, for TEE_TCB_SVN[1] == 0; None leaves it out (id SGX).
        module_identities: ``tdxModuleIdentities``; None leaves it out.
    """

    fmspc: bytes
    pce_id: bytes
    issue_date: datetime
    next_update: datetime
    levels: tuple[TcbLevel, ...]
    module: ModuleIdentity | None
    module_identities: tuple[ModuleIdentity, ...] | None
    tcb_evaluation_data_number: int
    id: str = "TDX"
    version: int = 3
    tcb_type: int = 0

    def members(self) -> Json:
        """Return the JSON object, a new one each time, members in Intel's order."""
        body: Json = {
            "id": self.id,
            "version": self.version,
            "issueDate": pcs_time(self.issue_date),
            "nextUpdate": pcs_time(self.next_update),
            "fmspc": self.fmspc.hex().upper(),
            "pceId": self.pce_id.hex().upper(),
            "tcbType": self.tcb_type,
            "tcbEvaluationDataNumber": self.tcb_evaluation_data_number,
        }
        if self.module is not None:
            body["tdxModule"] = self.module.members()
        if self.module_identities is not None:
            body["tdxModuleIdentities"] = [own.members() for own in self.module_identities]
        body["tcbLevels"] = [level.members() for level in self.levels]
        return body


@dataclass(frozen=True, slots=True, kw_only=True)
class QeIdentity:
    """A QE identity, version 2.

    Attributes:
        miscselect, miscselect_mask: 4 bytes as written, most significant first.
        attributes, attributes_mask: 16 bytes.  mrsigner: 32 bytes.
    """

    issue_date: datetime
    next_update: datetime
    mrsigner: bytes
    levels: tuple[SvnLevel, ...]
    tcb_evaluation_data_number: int
    id: str = "TD_QE"
    version: int = 2
    miscselect: bytes = bytes(4)
    miscselect_mask: bytes = b"\xff" * 4
    attributes: bytes = b"\x11" + bytes(15)
    attributes_mask: bytes = b"\xfb" + b"\xff" * 7 + bytes(8)
    isvprodid: int = 2

    def members(self) -> Json:
        """Return the JSON object, a new one each time, members in Intel's order."""
        return {
            "id": self.id,
            "version": self.version,
            "issueDate": pcs_time(self.issue_date),
            "nextUpdate": pcs_time(self.next_update),
            "tcbEvaluationDataNumber": self.tcb_evaluation_data_number,
            "miscselect": self.miscselect.hex().upper(),
            "miscselectMask": self.miscselect_mask.hex().upper(),
            "attributes": self.attributes.hex().upper(),
            "attributesMask": self.attributes_mask.hex().upper(),
            "mrsigner": self.mrsigner.hex().upper(),
            "isvprodid": self.isvprodid,
            "tcbLevels": [level.members() for level in self.levels],
        }


BodyName = Literal["tcbInfo", "enclaveIdentity"]


@dataclass(frozen=True, slots=True)
class SignedBody:
    """A signed JSON object: member name, exact signed text, 64-byte r||s."""

    name: BodyName
    text: str
    signature: bytes

    def body(self) -> str:
        """Return the whole response: ``{"tcbInfo":{...},"signature":"<hex>"}``."""
        return f'{{"{self.name}":{self.text},"signature":"{self.signature.hex()}"}}'

    def edited(self, old: str, new: str) -> SignedBody:
        """Return the body with its text changed and the signature left as it is."""
        return replace(self, text=self.text.replace(old, new))


def sign_body(name: BodyName, content: Json | str, signer: SimKey) -> SignedBody:
    """Serialise `content` (a str is taken as it stands) and sign the exact text."""
    text = content if isinstance(content, str) else compact(content)
    return SignedBody(name, text, signer.sign_raw(text.encode("utf-8"), "sha256"))


@dataclass(frozen=True, slots=True)
class PcsResponse:
    """One answer of the provisioning service: headers and body."""

    headers: tuple[tuple[str, str], ...]
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Collateral:
    """Everything a verifier needs besides the quote and the root.

    Attributes:
        pck_crl_issuer_chain: PEM, PCK CA then root.
        root_ca_crl, pck_crl: DER.
        tcb_info_issuer_chain, qe_identity_issuer_chain: PEM, TCB signer then root.
        tcb_info, qe_identity: signed bodies.
        pck_certificate_chain: PEM of a PCK chain served beside the quote, or None.
    """

    pck_crl_issuer_chain: str
    root_ca_crl: bytes
    pck_crl: bytes
    tcb_info_issuer_chain: str
    tcb_info: SignedBody
    qe_identity_issuer_chain: str
    qe_identity: SignedBody
    pck_certificate_chain: str | None = None

    def quote_collateral_v3(self) -> dict[str, str]:
        """Return the members of dcap-qvl's ``QuoteCollateralV3``."""
        members = {
            "pck_crl_issuer_chain": self.pck_crl_issuer_chain,
            "root_ca_crl": self.root_ca_crl.hex(),
            "pck_crl": self.pck_crl.hex(),
            "tcb_info_issuer_chain": self.tcb_info_issuer_chain,
            "tcb_info": self.tcb_info.text,
            "tcb_info_signature": self.tcb_info.signature.hex(),
            "qe_identity_issuer_chain": self.qe_identity_issuer_chain,
            "qe_identity": self.qe_identity.text,
            "qe_identity_signature": self.qe_identity.signature.hex(),
        }
        if self.pck_certificate_chain is not None:
            members["pck_certificate_chain"] = self.pck_certificate_chain
        return members

    def to_json(self) -> str:
        """Return `quote_collateral_v3` as JSON text."""
        return compact(self.quote_collateral_v3())

    def pcs_responses(self) -> dict[str, PcsResponse]:
        """Return the answers of the four endpoints, under the names of what they serve.

        Issuer chains are percent-encoded PEM headers, as the real service sends them.
        """
        return {
            "tcb_info": _json_response(
                "TCB-Info-Issuer-Chain", self.tcb_info_issuer_chain, self.tcb_info
            ),
            "qe_identity": _json_response(
                "SGX-Enclave-Identity-Issuer-Chain", self.qe_identity_issuer_chain, self.qe_identity
            ),
            "pck_crl": PcsResponse(
                (
                    ("Content-Type", "application/pkix-crl"),
                    ("SGX-PCK-CRL-Issuer-Chain", percent_encode(self.pck_crl_issuer_chain, "")),
                ),
                self.pck_crl,
            ),
            "root_ca_crl": PcsResponse(
                (("Content-Type", "application/pkix-crl"),), self.root_ca_crl
            ),
        }


def _json_response(header: str, chain: str, content: SignedBody) -> PcsResponse:
    headers = (("Content-Type", "application/json"), (header, percent_encode(chain, "")))
    return PcsResponse(headers, content.body().encode("utf-8"))
