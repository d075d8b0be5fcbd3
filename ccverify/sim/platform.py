"""The front door: a simulated machine, a case to be varied, and the evidence it yields.

`SimPlatform.case()` gives a `SimCase`: one honest attestation with every ingredient as a
field.  `dataclasses.replace` on it changes an ingredient and `SimCase.build()` signs what
follows from it, so a changed PCK certificate, say, ends up in the quote's chain.  What is to
be damaged *without* signing again is damaged in the finished `SimEvidence`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Literal

from ccverify.errors import UsageError
from ccverify.sim import defaults
from ccverify.sim.certs import CertificateSpec, CrlSpec, pem_chain
from ccverify.sim.collateral import Collateral, QeIdentity, TcbInfo, sign_body
from ccverify.sim.eventlog import (
    CcelEvent,
    DstackEvent,
    dstack_log_json,
    encode_ccel,
    replay_dstack,
)
from ccverify.sim.pki import PckCa, SimIssuer
from ccverify.sim.quote import BuiltQuote, QuoteSpec, pck_identifier
from ccverify.sim.reports import (
    TEE_SGX,
    TEE_TDX,
    QuoteHeader,
    SgxReport,
    TdReport10,
    TdReport15,
    TdReport15Ex,
)
from ccverify.sim.sgx_extension import PckConfiguration, SgxExtension

__all__ = ["DEFAULT_REPORT_DATA", "SimCase", "SimEvidence", "SimPlatform"]

QuoteVersion = Literal[3, 4, 5]

DEFAULT_REPORT_DATA = hashlib.sha512(b"ccverify simulation: report data").digest()
_CCEL_SIZE = 0x2000
_UPTODATE = defaults.rung("UpToDate").microcode
_ENCRYPTED_PPID_SIZES = {2: 256, 3: 384}
_TD_REPORTS: dict[int, type[TdReport10]] = {2: TdReport10, 3: TdReport15, 4: TdReport15Ex}


@dataclass(frozen=True, slots=True, kw_only=True)
class SimEvidence:
    """What a verifier is handed.

    Attributes:
        at: the time the evidence is meant to be judged at.
        quote: the quote, with the place of each field.
        collateral: TCB info, QE identity, revocation lists, chains.
        root_der: the simulated root certificate, DER.
        ccel: the CCEL bytes.
        boot_events, runtime_events: what the logs were made of.
    """

    at: datetime
    quote: BuiltQuote
    collateral: Collateral
    root_der: bytes
    ccel: bytes
    boot_events: tuple[CcelEvent, ...]
    runtime_events: tuple[DstackEvent, ...]

    @property
    def quote_bytes(self) -> bytes:
        """The quote as bytes."""
        return self.quote.data

    @property
    def now_secs(self) -> int:
        """`at` in seconds since 1970."""
        return int(self.at.timestamp())

    def dstack_event_log(self, *, lite: bool = False) -> str:
        """Return the dstack JSON log, full or lite."""
        return dstack_log_json(self.boot_events, self.runtime_events, lite=lite)


@dataclass(frozen=True, slots=True, kw_only=True)
class SimCase:
    """Every ingredient of one attestation; replace any, then `build`.

    Attributes:
        at: the time it is meant for; recorded only.
        root, pck_ca, pck, tcb_signing: certificates.  Each names its own signer, so
            replacing one does not re-sign its children (see `CertificateSpec.signed_by`).
        root_crl, pck_crl: revocation lists.
        tcb_info, qe_identity: signed by `tcb_signing.key`.
        quote: `qe_signer` and `certification_data` are filled from `pck` when None.
        boot_events, runtime_events: the logs.  The RTMRs in `quote.body` do not follow
            when these are replaced: that is the test for a log that does not replay.
    """

    at: datetime
    root: CertificateSpec
    pck_ca: CertificateSpec
    pck: CertificateSpec
    tcb_signing: CertificateSpec
    root_crl: CrlSpec
    pck_crl: CrlSpec
    tcb_info: TcbInfo
    qe_identity: QeIdentity
    quote: QuoteSpec
    boot_events: tuple[CcelEvent, ...]
    runtime_events: tuple[DstackEvent, ...]

    def pck_chain(self) -> str:
        """Return the PCK chain as PEM: leaf, CA, root."""
        return pem_chain(self.pck, self.pck_ca, self.root)

    def finished_quote(self) -> QuoteSpec:
        """Return the quote specification with the PCK key and chain filled in."""
        quote = self.quote
        if quote.qe_signer is None:
            quote = replace(quote, qe_signer=self.pck.key)
        if quote.certification_data is None:
            # Real quotes end the PEM text with one NUL byte.
            chain = self.pck_chain().encode("ascii") + b"\0"
            quote = replace(quote, certification_data=chain)
        return quote

    def collateral(self) -> Collateral:
        """Sign and assemble the collateral."""
        signer_chain = pem_chain(self.tcb_signing, self.root)
        key = self.tcb_signing.key
        return Collateral(
            pck_crl_issuer_chain=pem_chain(self.pck_ca, self.root),
            root_ca_crl=self.root_crl.der(),
            pck_crl=self.pck_crl.der(),
            tcb_info_issuer_chain=signer_chain,
            tcb_info=sign_body("tcbInfo", self.tcb_info.members(), key),
            qe_identity_issuer_chain=signer_chain,
            qe_identity=sign_body("enclaveIdentity", self.qe_identity.members(), key),
        )

    def with_quote(self, **changes: Any) -> SimCase:
        """Return the case with fields of the `QuoteSpec` replaced."""
        return replace(self, quote=replace(self.quote, **changes))

    def with_header(self, **changes: Any) -> SimCase:
        """Return the case with fields of the quote header replaced; the quote is re-signed."""
        return self.with_quote(header=replace(self.quote.header, **changes))

    def with_body(self, **changes: Any) -> SimCase:
        """Return the case with fields of the TD report replaced; the quote is re-signed."""
        return self.with_quote(body=replace(self.quote.body, **changes))

    def with_qe_report(self, **changes: Any) -> SimCase:
        """Return the case with fields of the QE report replaced; the PCK key signs them."""
        return self.with_quote(qe_report=replace(self.quote.qe_report, **changes))

    def build(self) -> SimEvidence:
        """Sign everything and return the evidence."""
        return SimEvidence(
            at=self.at,
            quote=self.finished_quote().build(),
            collateral=self.collateral(),
            root_der=self.root.der(),
            ccel=encode_ccel(self.boot_events, size=_CCEL_SIZE),
            boot_events=self.boot_events,
            runtime_events=self.runtime_events,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SimPlatform:
    """One fictitious machine; with defaults it is up to date.

    Attributes:
        issuer: the simulated Intel that certified it.
        label: its name; PPID, platform instance id and keys follow from it.
        ca: which PCK CA issued its certificate.
        fmspc: 6 bytes.  pce_id: 2 bytes.
        component_svns, pcesvn: its TCB in the PCK certificate.
        cpusvn: 16 bytes; None for the component SVNs as bytes, which is what TDX machines
            have.  Intel's rule compares the components, dcap-qvl 0.7.0 the CPUSVN.
        configuration: multi-package flags (Platform CA only).
        tee_tcb_svn: 16 bytes, at TD launch.  tee_tcb_svn2: 16 bytes, now; None for the same.
        mr_seam: 48 bytes.
        qe_isv_svn: SVN of its quoting enclave.
    """

    issuer: SimIssuer = field(default_factory=SimIssuer)
    label: str = "machine-1"
    ca: PckCa = "platform"
    fmspc: bytes = defaults.FMSPC
    pce_id: bytes = defaults.PCE_ID
    component_svns: tuple[int, ...] = defaults.component_svns(_UPTODATE)
    pcesvn: int = defaults.PCESVN
    cpusvn: bytes | None = None
    configuration: PckConfiguration = field(default_factory=PckConfiguration)
    tee_tcb_svn: bytes = defaults.tee_tcb_svn(_UPTODATE)
    tee_tcb_svn2: bytes | None = None
    mr_seam: bytes = defaults.MR_SEAM
    qe_isv_svn: int = defaults.QE_ISV_SVN

    @property
    def raw_cpusvn(self) -> bytes:
        """CPUSVN, 16 bytes."""
        if self.cpusvn is not None:
            return self.cpusvn
        return bytes(self.component_svns[:16]).ljust(16, b"\0")

    def with_status(self, status: str) -> SimPlatform:
        """Return the machine carrying exactly the TCB of that rung of the default ladder.

        Raises:
            UsageError: the ladder has no such rung.
        """
        microcode = defaults.rung(status).microcode
        return replace(
            self,
            component_svns=defaults.component_svns(microcode),
            tee_tcb_svn=defaults.tee_tcb_svn(microcode),
        )

    def with_relaunch_advised(self, launched: str = "OutOfDate") -> SimPlatform:
        """Return an updated machine whose TD was launched under an older TDX TCB.

        Only TD 1.5 reports (body types 3 and 4) show the difference.
        """
        older = defaults.tee_tcb_svn(defaults.rung(launched).microcode)
        return replace(self, tee_tcb_svn=older, tee_tcb_svn2=self.tee_tcb_svn)

    def identifier(self, purpose: str, size: int = 16) -> bytes:
        """Return `size` bytes that belong to this machine: ``ppid``, ``platform-instance``."""
        text = f"ccverify/sim/{purpose}/{self.label}".encode()
        return hashlib.shake_256(text + self.issuer.seed).digest(size)

    def sgx_extension(self) -> SgxExtension:
        """Return what its PCK certificate says."""
        multi_package = self.ca == "platform"
        return SgxExtension(
            ppid=self.identifier("ppid"),
            component_svns=self.component_svns,
            pcesvn=self.pcesvn,
            cpusvn=self.raw_cpusvn,
            pce_id=self.pce_id,
            fmspc=self.fmspc,
            sgx_type=1 if multi_package else 0,
            platform_instance_id=self.identifier("platform-instance") if multi_package else None,
            configuration=self.configuration if multi_package else None,
        )

    def pck(self, sgx: SgxExtension | None = None) -> CertificateSpec:
        """Return its PCK certificate, with its own or another SGX extension."""
        extension = self.sgx_extension() if sgx is None else sgx
        return self.issuer.pck(extension, label=f"pck/{self.label}", ca=self.ca)

    def certification_data(self, inner_type: int) -> bytes:
        """Return certification data of type 1 to 4 (5 is filled in by `SimCase`).

        The encrypted PPID of types 2 and 3 is a stand-in of the right length: real
        encryption (RSA-OAEP) is random by design.
        """
        if inner_type == 4:
            return self.pck().pem().encode("ascii")
        size = _ENCRYPTED_PPID_SIZES.get(inner_type)
        ppid = self.identifier("ppid") if size is None else self.identifier("ppid-rsa", size)
        return pck_identifier(ppid, self.raw_cpusvn, self.pcesvn, self.pce_id)

    def qe_report(self) -> SgxReport:
        """Return its quoting enclave's report; the quote fills in the report data."""
        return SgxReport(
            cpu_svn=self.raw_cpusvn,
            mr_enclave=defaults.QE_MR_ENCLAVE,
            mr_signer=defaults.QE_MR_SIGNER,
            isv_svn=self.qe_isv_svn,
        )

    def td_report(
        self,
        body_type: int = 2,
        *,
        boot_events: Sequence[CcelEvent] = defaults.DEFAULT_BOOT_EVENTS,
        runtime_events: Sequence[DstackEvent] = (),
        **fields: Any,
    ) -> TdReport10:
        """Return a TD report (body type 2, 3 or 4) whose RTMRs replay from the events.

        Raises:
            UsageError: no such TD report type.
        """
        if body_type not in _TD_REPORTS:
            raise UsageError(
                "no such TD report", expected="body type 2, 3 or 4", found=str(body_type)
            )
        rtmrs = replay_dstack(boot_events, runtime_events)
        values: dict[str, Any] = {f"rtmr{number}": value for number, value in enumerate(rtmrs)}
        values |= {
            "tee_tcb_svn": self.tee_tcb_svn,
            "mr_seam": self.mr_seam,
            "mr_td": defaults.MR_TD,
            "report_data": DEFAULT_REPORT_DATA,
        }
        if body_type != 2:
            values["tee_tcb_svn2"] = self.tee_tcb_svn2 or self.tee_tcb_svn
        return _TD_REPORTS[body_type](**(values | fields))

    def case(
        self,
        *,
        at: datetime = defaults.DEFAULT_TIME,
        version: QuoteVersion = 4,
        body_type: int | None = None,
        inner_type: int = 5,
        report_data: bytes = DEFAULT_REPORT_DATA,
        boot_events: Sequence[CcelEvent] = defaults.DEFAULT_BOOT_EVENTS,
        runtime_events: Sequence[DstackEvent] = (),
        body: Mapping[str, Any] | None = None,
    ) -> SimCase:
        """Return an honest attestation of this machine, meant to be judged at `at`.

        Args:
            at: UTC.  Collateral is issued some days before and lasts until weeks after;
                certificates are valid from 2025-05-06 to 2032-05-06.
            version: 4 or 5; 3 makes an SGX quote.
            body_type: 1 SGX, 2 TD 1.0, 3 TD 1.5, 4 TD 1.5 extended; None for 2 (1 in
                version 3).  Version 4 has no field for it, so only 1 and 2 are honest there.
            inner_type: certification data type, 1 to 5.
            report_data: 64 bytes.
            boot_events: the boot log; RTMR0 to RTMR2 follow from it.
            runtime_events: dstack runtime events; RTMR3 follows from them.
            body: further fields of the report.
        """
        kind = body_type or (1 if version == 3 else 2)
        fields = {"report_data": report_data, **(body or {})}
        if kind != 1:
            fields |= {"boot_events": boot_events, "runtime_events": runtime_events}
        report = SgxReport(**fields) if kind == 1 else self.td_report(kind, **fields)
        quote = self._quote(version, report, inner_type)
        return self._surround(quote, at, tuple(boot_events), tuple(runtime_events))

    def _quote(self, version: int, report: SgxReport | TdReport10, inner_type: int) -> QuoteSpec:
        """Return this machine's quote of a report."""
        return QuoteSpec(
            header=QuoteHeader(
                version=version,
                tee_type=TEE_SGX if isinstance(report, SgxReport) else TEE_TDX,
                user_data=self.identifier("qe-id") + bytes(4),
            ),
            body=report,
            attestation_key=self.issuer.key(f"attestation/{self.label}"),
            qe_report=self.qe_report(),
            inner_type=inner_type,
            certification_data=None if inner_type == 5 else self.certification_data(inner_type),
        )

    def _surround(
        self,
        quote: QuoteSpec,
        at: datetime,
        boot_events: tuple[CcelEvent, ...],
        runtime_events: tuple[DstackEvent, ...],
    ) -> SimCase:
        """Add the issuer's part to a quote.

        The four windows differ, so that a test can step over one end at a time.
        """
        issuer = self.issuer
        root_crl_from = at - timedelta(days=30)
        pck_crl_from = at - timedelta(days=2)
        return SimCase(
            at=at,
            root=issuer.root(),
            pck_ca=issuer.pck_ca(self.ca),
            pck=self.pck(),
            tcb_signing=issuer.tcb_signing(),
            root_crl=issuer.root_crl(root_crl_from, root_crl_from + timedelta(days=365)),
            pck_crl=issuer.pck_crl(pck_crl_from, pck_crl_from + timedelta(days=30), ca=self.ca),
            tcb_info=defaults.default_tcb_info(at, fmspc=self.fmspc, pce_id=self.pce_id),
            qe_identity=defaults.default_qe_identity(at),
            quote=quote,
            boot_events=boot_events,
            runtime_events=runtime_events,
        )

    def evidence(
        self,
        *,
        at: datetime = defaults.DEFAULT_TIME,
        version: QuoteVersion = 4,
        body_type: int | None = None,
        report_data: bytes = DEFAULT_REPORT_DATA,
    ) -> SimEvidence:
        """Return honest evidence in one call; see `case` for the arguments."""
        return self.case(
            at=at, version=version, body_type=body_type, report_data=report_data
        ).build()
