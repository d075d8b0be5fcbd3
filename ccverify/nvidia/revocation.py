"""Revocation of NVIDIA's certificates by OCSP responses (RFC 6960) and CRLs (RFC 5280 §5).

Both are collateral: bytes that somebody fetched earlier.  Nothing here fetches anything, and
no URL of a certificate is ever read.  What nobody answered is ABSENT, never good; whether
that, a hold or a stale answer is acceptable is for a policy to say.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum
from functools import cached_property

from ccverify.clock_text import utc_text
from ccverify.errors import CollateralError
from ccverify.nvidia.crl_entries import read_crl_entries
from ccverify.nvidia.ocsp import (
    CertId,
    CertStatus,
    OcspResponse,
    cert_ids,
    parse_ocsp_response,
)
from ccverify.nvidia.ocsp_responder import issuer_key_id, verify_responder
from ccverify.trust.anchors import TrustAnchor
from ccverify.trust.signatures import SignatureMemory
from ccverify.trust.x509 import Certificate, Crl, issue_problem, validity_problem

__all__ = [
    "MAX_COLLATERAL",
    "MAX_STATEMENTS",
    "OcspResponse",
    "Outcome",
    "RevocationSet",
    "RevocationStatus",
    "Statement",
    "check_crl",
    "check_ocsp",
    "parse_ocsp_response",
]

MAX_COLLATERAL = 1024
"""OCSP responses and CRLs in one `RevocationSet`."""
MAX_STATEMENTS = 64
"""OCSP responses and CRLs in a set that may speak of one and the same certificate."""


class Outcome(str, Enum):
    """What collateral says about one certificate at one time."""

    GOOD = "good"
    """Genuine, current, and not revoked."""
    REVOKED = "revoked"
    """Genuine.  Revocation is for ever, so the answer may be old or answer another nonce."""
    ON_HOLD = "on-hold"
    """Genuine, current, and revoked for the reason certificateHold, which can be lifted."""
    UNKNOWN = "unknown"
    """Genuine, current, and the responder does not know the certificate."""
    ABSENT = "absent"
    """No collateral speaks of the certificate: not checked."""
    NO_NEXT_UPDATE = "no-next-update"
    """Genuine, but it does not say how long it is valid, and no maximum age was asked."""
    STALE = "stale"
    """Genuine, but not valid at that time, or older than was asked."""
    INVALID = "invalid"
    """Not genuine, about something else, or not the answer to the nonce that was asked."""


@dataclass(frozen=True, slots=True)
class Statement:
    """What genuine collateral says about a certificate.

    Attributes:
        source: ``OCSP`` or ``CRL``.
        stated: GOOD, REVOKED, ON_HOLD or UNKNOWN.
        this_update: since when that is known to be so.
        next_update: until when it can be relied on; None where not stated.
        produced_at: when an OCSP response was signed; None for a CRL.
        revoked_at: since when it is revoked or on hold.
        reason: name of the CRLReason (RFC 5280 §5.3.1); None where not stated.
        responder: who signed, for people.
        responder_checked: whether the certificate of a delegated OCSP responder is exempt from
            revocation (id-pkix-ocsp-nocheck) or good by a CRL; None if the issuer itself signed.
    """

    source: str
    stated: Outcome
    this_update: datetime
    next_update: datetime | None
    produced_at: datetime | None = None
    revoked_at: datetime | None = None
    reason: str | None = None
    responder: str = ""
    responder_checked: bool | None = None


@dataclass(frozen=True, slots=True)
class RevocationStatus:
    """The revocation status of one certificate.

    Whoever accepts NO_NEXT_UPDATE, STALE or a wrong nonce must look at `statement.stated` too.

    Attributes:
        certificate: whose status this is.
        outcome: the conclusion.
        statement: what it rests on; None unless something genuine is about the certificate.
        genuine_problem: signature, responder, or another certificate than the one asked about.
        nonce_problem: not the answer to the nonce asked.
        fresh_problem: outside its validity at the time asked, or too old.
    """

    certificate: Certificate
    outcome: Outcome
    statement: Statement | None = None
    genuine_problem: str | None = None
    nonce_problem: str | None = None
    fresh_problem: str | None = None

    @property
    def problem(self) -> str | None:
        """The first problem of any step; None if all passed, or nothing is known at all."""
        return self.genuine_problem or self.nonce_problem or self.fresh_problem


@dataclass(frozen=True, slots=True)
class _Question:
    """Whose status is asked, when, and on what terms: the arguments of `check_ocsp`."""

    certificate: Certificate
    issuer: Certificate | TrustAnchor
    now: datetime
    memory: SignatureMemory
    nonce: bytes | None
    max_age: timedelta | None

    @property
    def issuer_text(self) -> str:
        issuer = self.issuer
        return issuer.label if isinstance(issuer, TrustAnchor) else issuer.subject_text

    @property
    def issuer_problem(self) -> str | None:
        if self.certificate.issuer != self.issuer.subject:
            return f"the certificate was not issued by {self.issuer_text}"
        return None

    def not_genuine(self, problem: str) -> RevocationStatus:
        return RevocationStatus(self.certificate, Outcome.INVALID, genuine_problem=problem)

    def judge(
        self, said: Statement, nonce: bytes | None, signer_problem: str | None = None
    ) -> RevocationStatus:
        """Conclude from a genuine statement that carries this nonce.

        A signer outside the validity of its certificate (`signer_problem`) makes a statement
        outdated, not forged: a wrong clock must not read as an attack.
        """
        nonce_problem = None
        if self.nonce is not None and self.nonce != nonce:
            found = "no nonce" if nonce is None else f"nonce {nonce.hex()}"
            nonce_problem = f"it carries {found}; asked was {self.nonce.hex()}"
        fresh_problem = self._fresh_problem(said) or signer_problem
        if said.stated is Outcome.REVOKED and said.this_update <= self.now:
            outcome = Outcome.REVOKED
        elif nonce_problem:
            outcome = Outcome.INVALID
        elif fresh_problem:
            outcome = Outcome.STALE
        elif said.next_update is None and self.max_age is None:
            outcome = Outcome.NO_NEXT_UPDATE
        else:
            outcome = said.stated
        return RevocationStatus(self.certificate, outcome, said, None, nonce_problem, fresh_problem)

    def _fresh_problem(self, said: Statement) -> str | None:
        issued = max(said.this_update, said.produced_at or said.this_update)
        if issued > self.now:
            return f"it was issued only on {utc_text(issued)}"
        if said.next_update is not None and said.next_update < self.now:
            return f"it was valid until {utc_text(said.next_update)}"
        if self.max_age is not None and self.now - said.this_update > self.max_age:
            return f"it is of {utc_text(said.this_update)}, more than {self.max_age} ago"
        return None


# --- OCSP ----------------------------------------------------------------------------------------


def check_ocsp(
    response: OcspResponse,
    *,
    certificate: Certificate,
    issuer: Certificate | TrustAnchor,
    now: datetime,
    memory: SignatureMemory,
    nonce: bytes | None,
    max_age: timedelta | None,
    crl: Crl | None = None,
) -> RevocationStatus:
    """Judge what an OCSP response says about one certificate (RFC 6960 §3.2).

    Args:
        response: the response, parsed.
        certificate: the certificate asked about.
        issuer: who issued it, itself already verified; its validity period is not judged here.
        now: the evaluation time.
        memory: signature memory.
        nonce: the nonce of the request; None if none was asked.
        max_age: how old thisUpdate may be; None for as long as the response itself says.
        crl: the issuer's newest CRL, in which a delegated responder is looked up.
    """
    return _ask_ocsp(response, _Question(certificate, issuer, now, memory, nonce, max_age), crl)


def _ask_ocsp(response: OcspResponse, question: _Question, crl: Crl | None) -> RevocationStatus:
    certificate, issuer = question.certificate, question.issuer
    ids = cert_ids(certificate.serial, issuer)
    singles = [single for single in response.responses if single.cert_id in ids]
    problem = question.issuer_problem
    if problem is None and len(singles) != 1:
        problem = f"it has {len(singles)} responses for serial {certificate.serial:x}, not one"
    if problem is None and response.unknown_critical:
        oid = response.unknown_critical[0]
        problem = f"it has a critical extension that is not understood: OID {oid}"
    if problem is not None:
        return question.not_genuine(problem)
    responder = verify_responder(response, issuer, question.memory)
    if responder.problem is not None:
        return question.not_genuine(responder.problem)
    name, checked = question.issuer_text, None
    if responder.delegate is not None:
        name = responder.delegate.subject_text
        about = replace(question, certificate=responder.delegate, nonce=None, max_age=None)
        by_crl = _ask_crl(crl, about).outcome if crl is not None else Outcome.ABSENT
        if by_crl in (Outcome.REVOKED, Outcome.ON_HOLD):
            return question.not_genuine(f"{name}: it is revoked by its issuer's CRL")
        checked = responder.exempt or by_crl is Outcome.GOOD
    single = singles[0]
    said = Statement(
        source="OCSP",
        stated=_stated(single.status, single.reason),
        this_update=single.this_update,
        next_update=single.next_update,
        produced_at=response.produced_at,
        revoked_at=single.revoked_at,
        reason=single.reason,
        responder=name,
        responder_checked=checked,
    )
    outside = None
    if responder.delegate is not None:
        outside = validity_problem(responder.delegate, question.now)
    return question.judge(said, response.nonce, outside)


def _stated(status: CertStatus, reason: str | None) -> Outcome:
    if status is CertStatus.REVOKED and reason == "certificateHold":
        return Outcome.ON_HOLD
    return Outcome(status.value)


# --- CRLs ----------------------------------------------------------------------------------------


def check_crl(
    crl: Crl,
    *,
    certificate: Certificate,
    issuer: Certificate | TrustAnchor,
    now: datetime,
    memory: SignatureMemory,
    nonce: bytes | None,
    max_age: timedelta | None,
) -> RevocationStatus:
    """Judge what a complete CRL by the certificate's own issuer says about it (RFC 5280 §6.3).

    Indirect, partial and delta CRLs are INVALID.  Arguments as for `check_ocsp`; a CRL carries
    no nonce, so that where one is asked a CRL can do nothing but revoke.
    """
    return _ask_crl(crl, _Question(certificate, issuer, now, memory, nonce, max_age))


def _ask_crl(crl: Crl, question: _Question) -> RevocationStatus:
    issuer = question.issuer
    problem = question.issuer_problem
    if problem is None and isinstance(issuer, Certificate) and not issuer.signs_crls:
        problem = f"{issuer.subject_text}: its key usage lacks cRLSign"
    problem = problem or issue_problem(
        crl, issuer.subject, issuer.public_key, issuer_key_id(issuer), question.memory
    )
    if problem is not None:
        return question.not_genuine(problem)
    entries, problem = read_crl_entries(crl.der)
    if problem is not None:
        return question.not_genuine(problem)
    entry = entries.get(question.certificate.serial)
    said = Statement(
        source="CRL",
        stated=Outcome.GOOD if entry is None else _stated(CertStatus.REVOKED, entry.reason),
        this_update=crl.this_update,
        next_update=crl.next_update,
        revoked_at=entry.revoked_at if entry else None,
        reason=entry.reason if entry else None,
        responder=question.issuer_text,
    )
    return question.judge(said, None)


# --- a set of collateral -------------------------------------------------------------------------


@dataclass(frozen=True)
class RevocationSet:
    """OCSP responses and CRLs, in no order: pure data, nothing in it is believed yet."""

    responses: tuple[OcspResponse, ...] = ()
    crls: tuple[Crl, ...] = ()

    @classmethod
    def of(cls, items: Iterable[OcspResponse | Crl]) -> RevocationSet:
        """Collect items, each once.

        Raises:
            CollateralError: more than `MAX_COLLATERAL` different ones.
        """
        known: dict[bytes, OcspResponse | Crl] = {}
        for item in items:
            known.setdefault(item.der, item)
            if len(known) > MAX_COLLATERAL:
                raise CollateralError(
                    "too much revocation collateral", expected=f"at most {MAX_COLLATERAL}"
                )
        values = known.values()
        return cls(
            tuple(item for item in values if isinstance(item, OcspResponse)),
            tuple(item for item in values if isinstance(item, Crl)),
        )

    @cached_property
    def _by_cert_id(self) -> Mapping[CertId, Sequence[OcspResponse]]:
        index: dict[CertId, list[OcspResponse]] = {}
        for response in self.responses:
            for cert_id in {single.cert_id for single in response.responses}:
                index.setdefault(cert_id, []).append(response)
        return index

    @cached_property
    def _by_issuer(self) -> Mapping[bytes, Sequence[Crl]]:
        index: dict[bytes, list[Crl]] = {}
        for crl in self.crls:
            index.setdefault(crl.issuer, []).append(crl)
        return index

    def status_of(
        self,
        chain: Sequence[Certificate],
        root: TrustAnchor,
        now: datetime,
        *,
        first: int,
        memory: SignatureMemory,
        nonce: bytes | None = None,
        max_age: timedelta | None = None,
    ) -> tuple[RevocationStatus, ...]:
        """Return one status per certificate, from index `first` up to just below the root.

        Args:
            chain: a chain that has been verified, end entity first, with or without its root.
            root: the trust anchor that issued its last certificate.
            now: the evaluation time.
            first: 1 for a device chain, whose leaf has no revocation service; 0 for the chain
                of a RIM's signer.
            memory: signature memory.
            nonce: as for `check_ocsp`.
            max_age: as for `check_ocsp`.
        """
        below = [c for c in chain if c.sha256 != root.certificate_sha256]
        issuers: list[Certificate | TrustAnchor] = [*below[1:], root]
        return tuple(
            self._status(_Question(certificate, issuer, now, memory, nonce, max_age))
            for certificate, issuer in list(zip(below, issuers, strict=False))[first:]
        )

    def _status(self, question: _Question) -> RevocationStatus:
        certificate, issuer = question.certificate, question.issuer
        found: dict[bytes, OcspResponse] = {}
        if self.responses:  # ten digests, for nothing where there is none
            for cert_id in cert_ids(certificate.serial, issuer):
                found.update((r.der, r) for r in self._by_cert_id.get(cert_id, ()))
        crls = self._by_issuer.get(issuer.subject, ())
        count = len(found) + len(crls)
        if count > MAX_STATEMENTS:
            return question.not_genuine(f"there are {count} answers, more than {MAX_STATEMENTS}")
        by_crl = [(_ask_crl(crl, question), crl) for crl in crls]
        genuine = [c for s, c in by_crl if s.statement and c.this_update <= question.now]
        newest = max(genuine, key=lambda crl: crl.this_update, default=None)
        statuses = [_ask_ocsp(response, question, newest) for response in found.values()]
        statuses += [status for status, _ in by_crl]
        chosen = _weighed(statuses, question.now) if statuses else None
        return chosen or RevocationStatus(certificate, Outcome.ABSENT)


def _weighed(statuses: Sequence[RevocationStatus], now: datetime) -> RevocationStatus | None:
    """Choose the status that counts; None if there is none.

    Revocation is for ever, so one genuine REVOKED beats everything.  Otherwise the newest
    current answer counts, unless something newer that is genuine says hold or unknown, even if
    that is no longer current: a good answer of before cannot be put in its place.
    """
    heard = [(s.statement, s) for s in statuses if s.statement and s.statement.this_update <= now]
    adverse = [pair for pair in heard if pair[0].stated is not Outcome.GOOD]
    for outcomes, rivals in (
        ({Outcome.REVOKED}, []),
        ({Outcome.GOOD, Outcome.ON_HOLD, Outcome.UNKNOWN}, adverse),
        ({Outcome.NO_NEXT_UPDATE}, adverse),
        (set(Outcome), []),
    ):
        chosen = [pair for pair in heard if pair[1].outcome in outcomes]
        if chosen:
            return max(chosen + rivals, key=_newness)[1]
    return next((s for s in statuses if s.statement), next(iter(statuses), None))


def _newness(pair: tuple[Statement, RevocationStatus]) -> tuple[datetime, bool]:
    """Of two of the same time, the one that is not good is the newer."""
    return pair[0].this_update, pair[0].stated is not Outcome.GOOD
