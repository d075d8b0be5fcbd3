"""Revocation by OCSP and CRL: each outcome, its opposite, and everything that is no answer."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp as reference
from cryptography.x509.oid import CRLEntryExtensionOID, ExtendedKeyUsageOID
from hypothesis import given, settings
from hypothesis import strategies as st
from nv_pki import (
    DAY,
    END,
    NOW,
    START,
    Issued,
    Ocsp,
    Single,
    crl,
    crl_without_next_update,
    device_chain,
    extension,
    general_time,
    issue,
    responder,
    rim_chain,
    wrap,
)

from ccverify.errors import CollateralError
from ccverify.nvidia.ocsp import (
    MAX_OCSP_BYTES,
    MAX_OCSP_CERTIFICATES,
    MAX_SINGLE_RESPONSES,
    CertStatus,
    OcspResponse,
    cert_ids,
    parse_ocsp_response,
)
from ccverify.nvidia.revocation import (
    MAX_COLLATERAL,
    MAX_STATEMENTS,
    Outcome,
    RevocationSet,
    RevocationStatus,
    Statement,
    check_crl,
    check_ocsp,
)
from ccverify.sim import der
from ccverify.trust.anchors import NVIDIA_DEVICE_IDENTITY_CA, TrustAnchor
from ccverify.trust.signatures import SignatureMemory
from ccverify.trust.x509 import Certificate, Crl, parse_pem_chain

DEVICE = device_chain()
LEAF, BROM, ICA, IDENTITY, ROOT = DEVICE.issued
HOLD, COMPROMISE = x509.ReasonFlags.certificate_hold, x509.ReasonFlags.key_compromise
HOUR = timedelta(hours=1)
NONCE = bytes(range(32))


def single(**changes: Any) -> Single:
    return replace(Single(BROM, ICA), **changes)


def answer(signer: Issued = ICA, **changes: Any) -> Ocsp:
    """A response about the BROM certificate: of the ICA itself, or of a delegate, who is named."""
    base = Ocsp(signer, (single(),))
    return replace(base, **({} if signer is ICA else {"certificates": (signer,)}) | changes)


def parsed(response: Ocsp) -> OcspResponse:
    return parse_ocsp_response(response.der())


def ask(response: Ocsp, **changes: Any) -> RevocationStatus:
    arguments: dict[str, Any] = {
        "certificate": BROM.certificate,
        "issuer": ICA.certificate,
        "now": NOW,
        "memory": SignatureMemory(),
        "nonce": None,
        "max_age": None,
    }
    return check_ocsp(parsed(response), **(arguments | changes))


def look_up(collateral: Crl, **changes: Any) -> RevocationStatus:
    arguments: dict[str, Any] = {
        "certificate": BROM.certificate,
        "issuer": ICA.certificate,
        "now": NOW,
        "memory": SignatureMemory(),
        "nonce": None,
        "max_age": None,
    }
    return check_crl(collateral, **(arguments | changes))


def said(status: RevocationStatus) -> Statement:
    assert status.statement is not None
    return status.statement


SERIAL = BROM.certificate.serial

# --- parsing -------------------------------------------------------------------------------------

SHAPES: dict[str, Callable[[], Ocsp]] = {
    "by name": answer,
    "by key": lambda: answer(by_key=True),
    "delegated": lambda: answer(responder(ICA)),
    "delegated, by key": lambda: answer(responder(ICA), by_key=True),
    "SHA-256": lambda: answer(singles=(single(hash_name="sha256"),)),
    "SHA-384": lambda: answer(singles=(single(hash_name="sha384"),)),
    "no parameters": lambda: answer(singles=(single(null_parameters=False),)),
    "no next update": lambda: answer(singles=(single(next_update=None),)),
    "nonce": lambda: answer(nonce=NONCE),
    "revoked": lambda: answer(singles=(single(status="revoked"),)),
    "key compromise": lambda: answer(singles=(single(status="revoked", reason=1),)),
    "hold": lambda: answer(singles=(single(status="revoked", reason=6),)),
    "unknown": lambda: answer(singles=(single(status="unknown"),)),
    "two": lambda: answer(singles=(single(), Single(ICA, IDENTITY, "unknown"))),
}  # fmt: skip
HASH_NAMES = {"sha1": hashes.SHA1, "sha256": hashes.SHA256, "sha384": hashes.SHA384}


def assert_same(ours: OcspResponse, theirs: reference.OCSPResponse) -> None:
    """Every field that `cryptography` reads is what we read."""
    assert ours.tbs == theirs.tbs_response_bytes
    assert ours.signature == theirs.signature
    assert ours.produced_at == theirs.produced_at_utc
    assert ours.responder_key_hash == theirs.responder_key_hash
    name = theirs.responder_name
    assert ours.responder_name == (None if name is None else name.public_bytes())
    nonces = [e.value.nonce for e in theirs.extensions if isinstance(e.value, x509.OCSPNonce)]
    assert [ours.nonce] == (nonces or [None])
    assert [c.der for c in ours.certificates] == [
        c.public_bytes(Encoding.DER) for c in theirs.certificates
    ]
    assert len(ours.responses) == len(list(theirs.responses))
    for one, other in zip(ours.responses, theirs.responses, strict=True):
        assert isinstance(other.hash_algorithm, HASH_NAMES[one.cert_id.hash_name])
        assert one.cert_id.issuer_name_hash == other.issuer_name_hash
        assert one.cert_id.issuer_key_hash == other.issuer_key_hash
        assert one.cert_id.serial == other.serial_number
        assert one.status.name == other.certificate_status.name
        assert one.this_update == other.this_update_utc
        assert one.next_update == other.next_update_utc
        assert one.revoked_at == other.revocation_time_utc
        reason = other.revocation_reason
        assert one.reason == (None if reason is None else reason.value)


@pytest.mark.parametrize("shape", SHAPES)
def test_fields_are_those_that_cryptography_reads(shape: str) -> None:
    response = SHAPES[shape]()
    assert_same(parsed(response), reference.load_der_ocsp_response(response.der()))


@pytest.mark.parametrize("by", reference.OCSPResponderEncoding)
@pytest.mark.parametrize("reason", [None, *x509.ReasonFlags])
def test_responses_that_cryptography_built(
    by: reference.OCSPResponderEncoding, reason: x509.ReasonFlags | None
) -> None:
    delegate = responder(ICA, window=(START, END))
    built = (
        reference.OCSPResponseBuilder()
        .add_response(
            cert=BROM.x509,
            issuer=ICA.x509,
            algorithm=hashes.SHA256(),
            cert_status=reference.OCSPCertStatus.REVOKED,
            this_update=NOW - DAY,
            next_update=NOW + DAY,
            revocation_time=NOW - 9 * DAY,
            revocation_reason=reason,
        )
        .responder_id(by, delegate.x509)
        .certificates([delegate.x509])
        .add_extension(x509.OCSPNonce(NONCE), critical=False)
        .sign(delegate.key, hashes.SHA384())
    )
    ours = parse_ocsp_response(built.public_bytes(Encoding.DER))
    assert_same(ours, built)
    # `cryptography` stamps producedAt with the clock; only who signed what is judged here.
    status = check_ocsp(
        ours, certificate=BROM.certificate, issuer=ICA.certificate, now=ours.produced_at,
        memory=SignatureMemory(), nonce=NONCE, max_age=None,
    )  # fmt: skip
    assert said(status).reason == (None if reason is None else reason.value)


def test_the_signed_bytes_are_those_of_the_file() -> None:
    response = answer()
    assert parsed(response).tbs == response.tbs()
    assert response.tbs() in response.der()


def _basic(tbs: bytes, *more: bytes, algorithm: bytes | None = None) -> bytes:
    oid = der.sequence(der.object_identifier("1.2.840.10045.4.3.3"))
    return wrap(der.sequence(tbs, algorithm or oid, der.bit_string(b"\x30\x00"), *more))


def _data(
    *,
    before: bytes = b"",
    who: bytes | None = None,
    produced: bytes | None = None,
    singles: bytes | None = None,
    after: bytes = b"",
) -> bytes:
    """A ResponseData with one element changed."""
    return der.sequence(
        before,
        der.context(1, ICA.certificate.subject) if who is None else who,
        general_time(NOW) if produced is None else produced,
        der.sequence(single().der()) if singles is None else singles,
        after,
    )


def _single(
    *,
    cert_id: bytes | None = None,
    status: bytes = b"\x80\x00",
    after: bytes = b"",
    time: bytes | None = None,
) -> bytes:
    """A `responses` field with one single response, one element changed."""
    own = _cert_id() if cert_id is None else cert_id
    moment = general_time(NOW) if time is None else time
    return der.sequence(der.sequence(own, status, moment, after))


def _cert_id(
    *,
    algorithm: bytes | None = None,
    digests: tuple[bytes, bytes] = (bytes(20), bytes(20)),
    serial: bytes = b"\x02\x01\x07",
    after: bytes = b"",
) -> bytes:
    sha1 = der.sequence(der.object_identifier("1.3.14.3.2.26"))
    octets = [der.octet_string(digest) for digest in digests]
    return der.sequence(algorithm or sha1, *octets, serial, after)


def _hash(oid: str, *parameters: bytes) -> bytes:
    return der.sequence(der.object_identifier(oid), *parameters)


def _extensions(*items: bytes, number: int = 1) -> bytes:
    return der.context(number, der.sequence(*items))


NONCE_OID, OTHER_OID = "1.3.6.1.5.5.7.48.1.2", "1.3.6.1.4.1.55555.7"
OLD_FLAG = der.sequence(
    der.object_identifier(OTHER_OID), der.boolean(False), der.octet_string(b"\x05\x00")
)
ENTRY = extension(OTHER_OID, b"\x05\x00")


def _basic_content() -> bytes:
    return der.sequence(_data(), _hash("1.2.840.10045.4.3.3"), der.bit_string(b"\x30\x00"))


MALFORMED: dict[str, bytes] = {
    "nothing": b"",
    "no sequence": b"\x04\x00",
    "empty": b"\x30\x00",
    "text": b"<html>502 Bad Gateway</html>",
    "PEM": b"-----BEGIN OCSP RESPONSE-----",
    "trailing byte": answer().der() + b"\0",
    "something after the body": der.sequence(answer().der()[4:], b"\x05\x00"),
    "another type of response": wrap(_basic_content(), kind="1.3.6.1.5.5.7.48.1.4"),
    "no basic response": wrap(b"\x30\x00"),
    "status with a body": wrap(_basic_content(), status=3),
    "ResponseBytes with more": der.sequence(
        der.enumerated(0),
        der.context(
            0,
            der.sequence(
                der.object_identifier("1.3.6.1.5.5.7.48.1.1"),
                der.octet_string(_basic_content()),
                b"\x05\x00",
            ),
        ),
    ),
    "extension with more": _basic(
        _data(
            after=_extensions(
                der.sequence(
                    der.object_identifier(OTHER_OID), der.octet_string(b"\x05\x00"), b"\x05\x00"
                )
            )
        )
    ),
    "two signatures": answer(more=der.bit_string(b"\x30\x00")).der(),
    "signature of odd bits": wrap(
        der.sequence(_data(), _hash("1.2.840.10045.4.3.3"), der.bit_string(b"\x30\x00", 1))
    ),
    "signature without a byte": wrap(
        der.sequence(_data(), _hash("1.2.840.10045.4.3.3"), b"\x03\x00")
    ),
    "a version that DER leaves out": _basic(_data(before=der.context(0, der.integer(0)))),
    "version 2": _basic(_data(before=der.context(0, der.integer(1)))),
    "no responder": _basic(_data(who=b"")),
    "responder of a third kind": _basic(_data(who=der.context(3, b"\x04\x00"))),
    "responder that is no name": _basic(_data(who=der.context(1, der.octet_string(b"x")))),
    "two names": _basic(_data(who=der.context(1, ICA.certificate.subject * 2))),
    "key hash of 32 bytes": _basic(_data(who=der.context(2, der.octet_string(bytes(32))))),
    "UTCTime": _basic(_data(produced=der.tlv(0x17, b"260115120000Z"))),
    "time with fraction": _basic(_data(produced=der.tlv(0x18, b"20260115120000.5Z"))),
    "time with offset": _basic(_data(produced=der.tlv(0x18, b"20260115120000+0100"))),
    "time without zone": _basic(_data(produced=der.tlv(0x18, b"202601151200000"))),
    "time without seconds": _basic(_data(produced=der.tlv(0x18, b"202601151200Z"))),
    "time with a sign": _basic(_data(produced=der.tlv(0x18, b"2026+115120000Z"))),
    "no such day": _basic(_data(produced=der.tlv(0x18, b"20260230120000Z"))),
    "year 0": _basic(_data(produced=der.tlv(0x18, b"00000101000000Z"))),
    "leap second": _basic(_data(produced=der.tlv(0x18, b"20261231235960Z"))),
    "no single response": _basic(_data(singles=der.sequence())),
    "single response that is none": _basic(_data(singles=der.sequence(b"\x05\x00"))),
    "hash SHA-512": answer(singles=(single(hash_name="sha512"),)).der(),
    "hash parameters": _basic(
        _data(singles=_single(cert_id=_cert_id(algorithm=_hash("1.3.14.3.2.26", b"\x04\x00"))))
    ),
    "NULL with content": _basic(
        _data(singles=_single(cert_id=_cert_id(algorithm=_hash("1.3.14.3.2.26", b"\x05\x01a"))))
    ),
    "short name hash": _basic(
        _data(singles=_single(cert_id=_cert_id(digests=(bytes(19), bytes(20)))))
    ),
    "long key hash": _basic(
        _data(singles=_single(cert_id=_cert_id(digests=(bytes(20), bytes(32)))))
    ),
    "serial with a leading zero": _basic(
        _data(singles=_single(cert_id=_cert_id(serial=b"\x02\x02\x00\x07")))
    ),
    "serial of 33 bytes": _basic(
        _data(singles=_single(cert_id=_cert_id(serial=b"\x02\x21" + b"\x07" * 33)))
    ),
    "CertID with more": _basic(_data(singles=_single(cert_id=_cert_id(after=b"\x05\x00")))),
    "status good with content": _basic(_data(singles=_single(status=b"\x80\x01a"))),
    "status unknown with content": _basic(_data(singles=_single(status=b"\x82\x01a"))),
    "status of a fourth kind": _basic(_data(singles=_single(status=b"\x83\x00"))),
    "revoked without a time": _basic(_data(singles=_single(status=b"\xa1\x00"))),
    "reason 7": answer(singles=(single(status="revoked", reason=7),)).der(),
    "reason 11": answer(singles=(single(status="revoked", reason=11),)).der(),
    "reason twice": _basic(
        _data(
            singles=_single(
                status=der.context(
                    1, general_time(NOW) + der.context(0, der.enumerated(1)) * 2
                )
            )
        )
    ),
    "no this update": _basic(_data(singles=_single(time=b""))),
    "next update before this": answer(singles=(single(next_update=NOW - 2 * DAY),)).der(),
    "single response with more": _basic(_data(singles=_single(after=b"\x05\x00"))),
    "single extensions twice": _basic(_data(singles=_single(after=_extensions(ENTRY) * 2))),
    "single extension twice": _basic(_data(singles=_single(after=_extensions(ENTRY, ENTRY)))),
    "extensions of no sequence": _basic(_data(after=der.context(1, b"\x05\x00"))),
    "extension without a value": _basic(
        _data(after=_extensions(der.sequence(der.object_identifier(OTHER_OID))))
    ),
    "extension twice": answer(extensions=(ENTRY, ENTRY)).der(),
    "not critical, in full": answer(extensions=(OLD_FLAG,)).der(),
    "nonce twice": answer(
        nonce=NONCE, extensions=(extension(NONCE_OID, der.octet_string(NONCE)),)
    ).der(),
    "bare nonce": answer(extensions=(extension(NONCE_OID, NONCE),)).der(),
    "empty nonce": answer(nonce=b"").der(),
    "nonce of 129 bytes": answer(nonce=bytes(129)).der(),
    "nonce with more": answer(
        extensions=(extension(NONCE_OID, der.octet_string(NONCE) + b"\0"),)
    ).der(),
    "data with more": _basic(_data(after=b"\x05\x00")),
    "certificates of no sequence": _basic(_data(), der.context(0, b"\x05\x00")),
    "certificate that is none": _basic(_data(), der.context(0, der.sequence(der.sequence()))),
    "indefinite length": b"\x30\x80" + answer().der()[4:] + b"\0\0",
}  # fmt: skip


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_responses_are_refused(name: str) -> None:
    with pytest.raises(CollateralError) as caught:
        parse_ocsp_response(MALFORMED[name])
    assert caught.value.diagnostics()


def test_the_parts_that_malformed_responses_are_made_of_are_right() -> None:
    """Otherwise they would be refused for another reason than the one they are named for."""
    singles = (_single(), _single(after=_extensions(ENTRY)), _single(status=b"\x82\x00"))
    for whole in (
        _basic(_data()),
        wrap(_basic_content()),
        *(_basic(_data(singles=one)) for one in singles),
    ):
        assert parse_ocsp_response(whole).responses
    nonce = extension(NONCE_OID, der.octet_string(NONCE))
    assert parsed(answer(extensions=(nonce, ENTRY))).nonce == NONCE
    assert parsed(answer(nonce=bytes(128))).nonce == bytes(128)
    empty = parse_ocsp_response(_basic(_data(), der.context(0, der.sequence())))
    assert empty.certificates == ()


@pytest.mark.parametrize(
    ("code", "name"), [(1, "malformedRequest"), (3, "tryLater"), (6, "unauthorized"), (4, "4")]
)
def test_a_responder_that_gives_no_answer_is_named(code: int, name: str) -> None:
    with pytest.raises(CollateralError, match="no answer") as caught:
        parse_ocsp_response(der.sequence(der.enumerated(code)))
    assert caught.value.found == name


@pytest.mark.parametrize("shape", ["delegated", "two", "nonce", "key compromise"])
def test_truncation_at_every_byte_is_refused(shape: str) -> None:
    whole = SHAPES[shape]().der()
    assert parse_ocsp_response(whole)
    for size in range(len(whole)):
        with pytest.raises(CollateralError):
            parse_ocsp_response(whole[:size])


def test_sizes_are_bounded() -> None:
    many = tuple(single(serial=number) for number in range(1, MAX_SINGLE_RESPONSES))
    assert ask(answer(singles=(*many, single()))).outcome is Outcome.GOOD
    with pytest.raises(CollateralError, match="malformed"):
        parsed(answer(singles=(*many, single(), single(serial=99))))
    crowd = (responder(ICA),) * MAX_OCSP_CERTIFICATES
    assert len(parsed(answer(certificates=crowd)).certificates) == MAX_OCSP_CERTIFICATES
    with pytest.raises(CollateralError, match="malformed"):
        parsed(answer(certificates=(*crowd, responder(ICA))))
    for huge in (bytes(MAX_OCSP_BYTES + 1), answer(nonce=bytes(MAX_OCSP_BYTES)).der()):
        with pytest.raises(CollateralError, match="too large"):
            parse_ocsp_response(huge)


ORIGINAL = answer(responder(ICA), nonce=NONCE).der()
CUTS = st.integers(0, len(ORIGINAL) - 1)


@given(at=CUTS, flip=st.integers(1, 255))
@settings(max_examples=300, deadline=None)
def test_no_changed_byte_makes_another_good_answer(at: int, flip: int) -> None:
    changed = bytearray(ORIGINAL)
    changed[at] ^= flip
    try:
        response = parse_ocsp_response(bytes(changed))
    except CollateralError:
        return
    status = check_ocsp(
        response, certificate=BROM.certificate, issuer=ICA.certificate, now=NOW,
        memory=SignatureMemory(), nonce=NONCE, max_age=None,
    )  # fmt: skip
    if status.outcome is Outcome.INVALID:
        assert status.problem
        return
    # The delegate's certificate has a byte outside of what is signed that its parser lets be:
    # the number of unused bits of the signature.
    genuine = parse_ocsp_response(ORIGINAL)
    assert response.tbs == genuine.tbs
    assert [(c.tbs, c.signature) for c in response.certificates] == [
        (c.tbs, c.signature) for c in genuine.certificates
    ]


@given(at=CUTS, until=CUTS, insert=st.binary(max_size=40))
@settings(max_examples=300, deadline=None)
def test_spliced_bytes_parse_or_are_refused(at: int, until: int, insert: bytes) -> None:
    spliced = ORIGINAL[:at] + insert + ORIGINAL[until:]
    try:
        response = parse_ocsp_response(spliced)
    except CollateralError:
        return
    assert response.tbs in spliced


@given(st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_any_bytes_parse_or_are_refused(data: bytes) -> None:
    for whole in (data, _basic(der.sequence(data)), _basic(_data(singles=der.sequence(data)))):
        try:
            parse_ocsp_response(whole)
        except CollateralError:
            continue


# --- outcomes of one OCSP response ---------------------------------------------------------------


@pytest.mark.parametrize("hash_name", ["sha1", "sha256", "sha384"])
@pytest.mark.parametrize("by_key", [False, True])
@pytest.mark.parametrize("delegated", [False, True])
def test_good(hash_name: str, by_key: bool, delegated: bool) -> None:
    signer = responder(ICA) if delegated else ICA
    status = ask(answer(signer, by_key=by_key, singles=(single(hash_name=hash_name),)))
    assert (status.outcome, status.problem) == (Outcome.GOOD, None)
    assert said(status).responder == signer.certificate.subject_text
    assert said(status).responder_checked is (True if delegated else None)
    assert (said(status).this_update, said(status).next_update) == (NOW - DAY, NOW + DAY)
    assert (said(status).source, said(status).produced_at) == ("OCSP", NOW - DAY)


@pytest.mark.parametrize("reason", [None, 0, 1, 2, 3, 4, 5, 8, 9, 10])
def test_revoked(reason: int | None) -> None:
    status = ask(answer(singles=(single(status="revoked", reason=reason),)))
    assert status.outcome is said(status).stated is Outcome.REVOKED
    assert said(status).revoked_at == NOW - 2 * DAY
    assert (said(status).reason is None) == (reason is None)


def test_on_hold_is_not_revoked() -> None:
    status = ask(answer(singles=(single(status="revoked", reason=6),)))
    assert status.outcome is said(status).stated is Outcome.ON_HOLD
    assert (said(status).reason, said(status).revoked_at) == ("certificateHold", NOW - 2 * DAY)


def test_unknown() -> None:
    status = ask(answer(singles=(single(status="unknown"),)))
    assert status.outcome is said(status).stated is Outcome.UNKNOWN
    assert parsed(answer(singles=(single(status="unknown"),))).responses[0].status is (
        CertStatus.UNKNOWN
    )


@pytest.mark.parametrize("offset", [timedelta(), HOUR, 2 * DAY])
def test_the_ends_of_the_window_belong_to_it(offset: timedelta) -> None:
    assert ask(answer(), now=NOW - DAY + offset).outcome is Outcome.GOOD


@pytest.mark.parametrize(
    ("now", "text"),
    [
        (NOW + DAY + timedelta(seconds=1), "was valid until 2026-01-16T12:00:00Z"),
        (NOW - DAY - timedelta(seconds=1), "issued only on 2026-01-14T12:00:00Z"),
    ],
)
@pytest.mark.parametrize("changes", [{}, {"status": "revoked", "reason": 6}, {"status": "unknown"}])
def test_stale(now: datetime, text: str, changes: dict[str, Any]) -> None:
    status = ask(answer(singles=(single(**changes),)), now=now)
    assert status.outcome is Outcome.STALE
    assert status.fresh_problem is not None
    assert text in status.fresh_problem
    names = {None: Outcome.GOOD, "revoked": Outcome.ON_HOLD, "unknown": Outcome.UNKNOWN}
    assert said(status).stated is names[changes.get("status")]


def test_a_replayed_old_response_is_stale() -> None:
    old = answer(singles=(single(this_update=NOW - 9 * DAY, next_update=NOW - 2 * DAY),))
    assert ask(replace(old, produced_at=NOW - 9 * DAY), now=NOW - 3 * DAY).outcome is Outcome.GOOD
    assert ask(replace(old, produced_at=NOW - 9 * DAY)).outcome is Outcome.STALE


def test_signed_after_the_evaluation_time_is_stale() -> None:
    assert ask(answer(produced_at=NOW)).outcome is Outcome.GOOD
    assert ask(answer(produced_at=NOW + HOUR)).outcome is Outcome.STALE
    ahead = answer(singles=(single(this_update=NOW + HOUR),))
    assert ask(ahead).outcome is Outcome.STALE


@pytest.mark.parametrize(
    ("max_age", "outcome"),
    [(None, Outcome.GOOD), (DAY, Outcome.GOOD), (DAY - timedelta(seconds=1), Outcome.STALE)],
)
def test_a_maximum_age_narrows_the_window(max_age: timedelta | None, outcome: Outcome) -> None:
    assert ask(answer(), max_age=max_age).outcome is outcome


def test_no_next_update_is_an_outcome_of_its_own_unless_an_age_is_asked() -> None:
    endless = answer(singles=(single(next_update=None),))
    status = ask(endless)
    assert (status.outcome, said(status).stated) == (Outcome.NO_NEXT_UPDATE, Outcome.GOOD)
    assert ask(endless, now=NOW + 3650 * DAY).outcome is Outcome.NO_NEXT_UPDATE
    assert ask(endless, max_age=2 * DAY).outcome is Outcome.GOOD
    assert ask(endless, max_age=HOUR).outcome is Outcome.STALE
    held = answer(singles=(single(next_update=None, status="revoked", reason=6),))
    assert said(ask(held)).stated is Outcome.ON_HOLD


def test_revocation_does_not_lapse() -> None:
    revoked = answer(singles=(single(status="revoked", reason=1),))
    status = ask(revoked, now=NOW + 99 * DAY, nonce=NONCE)
    assert status.outcome is Outcome.REVOKED
    assert status.fresh_problem is not None
    assert status.nonce_problem is not None
    before = ask(revoked, now=NOW - 2 * DAY)
    assert (before.outcome, said(before).stated) == (Outcome.STALE, Outcome.REVOKED)


def test_nonce() -> None:
    fresh, other, none = (answer(nonce=nonce) for nonce in (NONCE, NONCE[::-1], None))
    assert ask(fresh, nonce=NONCE).outcome is Outcome.GOOD
    assert ask(fresh).outcome is Outcome.GOOD  # none was asked, and more is not less
    for wrong, text in ((other, NONCE[::-1].hex()), (none, "no nonce")):
        status = ask(wrong, nonce=NONCE)
        assert (status.outcome, said(status).stated) == (Outcome.INVALID, Outcome.GOOD)
        assert status.nonce_problem is not None
        assert text in status.nonce_problem
    prefix = ask(answer(nonce=NONCE[:31]), nonce=NONCE)
    assert prefix.outcome is Outcome.INVALID


# --- which certificate ---------------------------------------------------------------------------


def _refused(status: RevocationStatus, text: str) -> None:
    assert (status.outcome, status.statement) == (Outcome.INVALID, None)
    assert status.genuine_problem is not None
    assert text in status.genuine_problem, status.genuine_problem


def test_a_response_for_another_certificate() -> None:
    _refused(ask(answer(singles=(single(serial=SERIAL + 1),))), "0 responses for serial")
    _refused(ask(answer(singles=(single(serial=-SERIAL),))), "0 responses for serial")
    elsewhere = issue("NVIDIA GH100 Provisioner ICA 2", IDENTITY)
    _refused(ask(answer(singles=(single(issuer=elsewhere),))), "0 responses for serial")
    same_name = issue("NVIDIA GH100 Provisioner ICA 1", IDENTITY, label="another key")
    _refused(ask(answer(singles=(single(issuer=same_name),))), "0 responses for serial")
    same_key = issue("other name", IDENTITY, label="NVIDIA GH100 Provisioner ICA 1")
    _refused(ask(answer(singles=(single(issuer=same_key),))), "0 responses for serial")


def test_the_certificate_must_be_the_issuers() -> None:
    status = ask(answer(), certificate=LEAF.certificate)
    _refused(status, "was not issued by")


def test_exactly_one_response_for_the_certificate() -> None:
    neighbours = (single(serial=5), single(), single(serial=6, status="revoked"))
    assert ask(answer(singles=neighbours)).outcome is Outcome.GOOD
    for second in (single(status="revoked"), single(hash_name="sha256"), single()):
        _refused(ask(answer(singles=(single(), second))), "2 responses for serial")


def test_critical_extensions_that_are_not_understood() -> None:
    critical = extension(OTHER_OID, b"\x05\x00", critical=True)
    oid = "OID 2b"
    assert ask(answer(extensions=(ENTRY,))).outcome is Outcome.GOOD
    assert ask(answer(singles=(single(extensions=(ENTRY,)),))).outcome is Outcome.GOOD
    _refused(ask(answer(extensions=(critical,))), oid)
    _refused(ask(answer(singles=(single(extensions=(critical,)),))), oid)
    nonce = extension(NONCE_OID, der.octet_string(NONCE), critical=True)
    assert ask(answer(extensions=(nonce,)), nonce=NONCE).outcome is Outcome.GOOD
    # As an extension of one certificate's answer a nonce means nothing.
    _refused(ask(answer(singles=(single(extensions=(nonce,)),)), nonce=NONCE), oid)


# --- who may answer ------------------------------------------------------------------------------


def test_signature_by_another_key() -> None:
    stranger = issue("NVIDIA GH100 Provisioner ICA 1", None, label="stranger")
    _refused(ask(replace(answer(), signer=stranger)), "does not verify")
    genuine = parsed(answer())
    other = parsed(answer(nonce=NONCE))
    _refused(ask(answer(signature=other.signature)), "does not verify")
    assert ask(answer(signature=genuine.signature)).outcome is Outcome.GOOD
    # The issuer's own certificate in the response is not that of a delegate.
    enclosed = answer(signature=other.signature, certificates=(ICA,))
    _refused(ask(enclosed), "the issuer: the signature of the response does not verify")
    for garbage in (b"", b"\x30\x00", bytes(96), b"\x30\x06\x02\x01\x00\x02\x01\x00"):
        _refused(ask(answer(signature=garbage)), "does not verify")


def test_signature_algorithm_must_fit_the_key() -> None:
    for algorithm in (
        _hash("1.2.840.10045.4.3.2"),
        _hash("1.2.840.10045.4.3.3", b"\x05\x00"),
        _hash("1.2.840.113549.1.1.12", b"\x05\x00"),
    ):
        _refused(ask(answer(algorithm=algorithm)), "algorithm")


def test_a_delegate_on_p256() -> None:
    assert ask(answer(responder(ICA, curve="P-256"))).outcome is Outcome.GOOD


def test_the_responder_id_must_be_the_signers() -> None:
    for who in (
        der.context(1, IDENTITY.certificate.subject),
        der.context(2, der.octet_string(bytes(20))),
    ):
        for signer in (ICA, responder(ICA)):
            named = answer(signer, responder_id=who)
            _refused(ask(named), "brings no certificate of its responder")
    delegate = responder(ICA)
    _refused(ask(answer(delegate, certificates=())), "brings no certificate of its responder")
    stray = answer(delegate, certificates=(issue("stray", ICA), delegate, ROOT))
    assert ask(stray).outcome is Outcome.GOOD


DELEGATES: dict[str, tuple[Callable[[], Issued], str | None]] = {
    "as it should be": (lambda: responder(ICA), None),
    "purpose critical": (lambda: responder(ICA, critical_purposes=True), None),
    "several purposes": (
        lambda: responder(
            ICA, purposes=[ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.OCSP_SIGNING]
        ),
        None,
    ),
    "no key usage": (lambda: responder(ICA, usage=()), None),
    "expired": (lambda: responder(ICA, window=(NOW - 9 * DAY, NOW - DAY)), "expired on"),
    "not yet valid": (lambda: responder(ICA, window=(NOW + DAY, NOW + 9 * DAY)), "only from"),
    "no purpose": (lambda: responder(ICA, purposes=()), "lacks id-kp-OCSPSigning"),
    "another purpose": (
        lambda: responder(ICA, purposes=[ExtendedKeyUsageOID.CODE_SIGNING]),
        "lacks id-kp-OCSPSigning",
    ),
    "any purpose": (
        lambda: responder(ICA, purposes=[ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]),
        "lacks id-kp-OCSPSigning",
    ),
    "of the root": (lambda: responder(ROOT), "issuer name"),
    "of the grandparent": (lambda: responder(IDENTITY), "issuer name"),
    "of the certificate itself": (lambda: responder(BROM), "issuer name"),
    "of a namesake": (
        lambda: responder(issue("NVIDIA GH100 Provisioner ICA 1", None, label="stranger")),
        "authority key identifier",
    ),
    "self-signed": (lambda: responder(None), "issuer name"),  # type: ignore[arg-type]
    "CA": (lambda: responder(ICA, ca=True, usage=("digital_signature",)), "it is a CA"),
    "for encryption": (
        lambda: responder(ICA, usage=("key_encipherment",)), "lacks digitalSignature"
    ),
    "unknown critical extension": (
        lambda: responder(
            ICA,
            extra=[(x509.UnrecognizedExtension(x509.ObjectIdentifier(OTHER_OID), b"\5\0"), True)],
        ),
        "critical extension",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DELEGATES)
@pytest.mark.parametrize("by_key", [False, True])
def test_who_may_answer_for_the_issuer(name: str, by_key: bool) -> None:
    make, problem = DELEGATES[name]
    status = ask(answer(make(), by_key=by_key))
    if problem is None:
        assert status.outcome is Outcome.GOOD, status.problem
    elif name in ("expired", "not yet valid"):
        # A matter of time, not of who signed.
        assert (status.outcome, said(status).stated) == (Outcome.STALE, Outcome.GOOD)
        assert status.fresh_problem is not None
        assert problem in status.fresh_problem
    else:
        _refused(status, problem)


def test_a_forged_delegate_certificate() -> None:
    """Names, key identifiers and purposes as they should be; only the signature is not."""
    genuine, forger = responder(ICA), issue("NVIDIA GH100 Provisioner ICA 1", label="forger")
    ski = ICA.x509.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    builder = x509.CertificateBuilder(
        ICA.x509.subject,
        genuine.x509.subject,
        genuine.key.public_key(),
        99,
        NOW - DAY,
        NOW + DAY,
    )
    for value in (
        x509.ExtendedKeyUsage([ExtendedKeyUsageOID.OCSP_SIGNING]),
        x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ski),
    ):
        builder = builder.add_extension(value, critical=False)
    forged = Issued(builder.sign(forger.key, hashes.SHA384()), genuine.key)
    _refused(ask(answer(forged)), "signature does not verify under the issuer's key")
    # Beside a certificate that is genuine and has the same name, the forged one does no harm.
    assert ask(answer(genuine, certificates=(forged, genuine))).outcome is Outcome.GOOD


def test_a_delegate_without_nocheck_is_looked_up() -> None:
    delegate = responder(ICA, no_check=False)
    serial = delegate.certificate.serial
    unchecked = ask(answer(delegate))
    assert (unchecked.outcome, said(unchecked).responder_checked) == (Outcome.GOOD, False)
    checked = ask(answer(delegate), crl=crl(ICA))
    assert (checked.outcome, said(checked).responder_checked) == (Outcome.GOOD, True)
    fresh = ask(answer(delegate, nonce=NONCE), nonce=NONCE, crl=crl(ICA))
    assert said(fresh).responder_checked is True
    stale = crl(ICA, this_update=NOW - 9 * DAY, next_update=NOW - DAY)
    assert said(ask(answer(delegate), crl=stale)).responder_checked is False
    for reason in (None, HOLD, COMPROMISE):
        listed = crl(ICA, [(serial, reason)])
        _refused(ask(answer(delegate), crl=listed), "revoked by its issuer's CRL")
    # Neither does id-pkix-ocsp-nocheck help one that is known to be revoked.
    exempt = responder(ICA)
    listed = crl(ICA, [(exempt.certificate.serial, COMPROMISE)])
    _refused(ask(answer(exempt), crl=listed), "revoked by its issuer's CRL")
    forged = crl(ICA, [(serial, COMPROMISE)], signer=BROM)
    assert ask(answer(delegate), crl=forged).outcome is Outcome.GOOD


def test_the_root_answers_for_what_it_issued() -> None:
    response = Ocsp(ROOT, (Single(IDENTITY, ROOT),), by_key=True)
    status = ask(response, certificate=IDENTITY.certificate, issuer=DEVICE.root)
    assert (status.outcome, said(status).responder) == (Outcome.GOOD, DEVICE.root.label)
    stranger = issue("NVIDIA Device Identity CA", label="stranger").anchor
    other = ask(response, certificate=IDENTITY.certificate, issuer=stranger)
    assert other.outcome is Outcome.INVALID


def test_valid_signatures_are_remembered_and_nothing_else() -> None:
    memory = SignatureMemory()
    response = answer(responder(ICA))
    assert ask(response, memory=memory).outcome is Outcome.GOOD
    assert ask(response, memory=memory, now=NOW + 2 * DAY).outcome is Outcome.STALE
    assert ask(response, memory=memory, nonce=NONCE).outcome is Outcome.INVALID


# --- CRLs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("listed", "outcome", "reason"),
    [
        ([], Outcome.GOOD, None),
        ([(SERIAL + 1, COMPROMISE)], Outcome.GOOD, None),
        ([(SERIAL, None)], Outcome.REVOKED, None),
        ([(SERIAL, COMPROMISE)], Outcome.REVOKED, "keyCompromise"),
        ([(7, None), (SERIAL, HOLD)], Outcome.ON_HOLD, "certificateHold"),
        ([(SERIAL, HOLD), (SERIAL, COMPROMISE)], Outcome.REVOKED, "keyCompromise"),
        ([(SERIAL, COMPROMISE), (SERIAL, HOLD)], Outcome.REVOKED, "keyCompromise"),
    ],
)
def test_crl_outcomes(listed: Any, outcome: Outcome, reason: str | None) -> None:
    status = look_up(crl(ICA, listed))
    assert status.outcome is said(status).stated is outcome
    assert (said(status).reason, status.problem) == (reason, None)
    assert (said(status).source, said(status).responder_checked) == ("CRL", None)
    revoked_at = None if outcome is Outcome.GOOD else NOW - 2 * DAY
    assert said(status).revoked_at == revoked_at


def test_a_crl_is_judged_at_the_time_given() -> None:
    empty, listing = crl(ICA), crl(ICA, [(SERIAL, COMPROMISE)])
    for now in (NOW - DAY, NOW + DAY):
        assert look_up(empty, now=now).outcome is Outcome.GOOD
    for now in (NOW - DAY - HOUR, NOW + DAY + HOUR):
        assert look_up(empty, now=now).outcome is Outcome.STALE
    assert look_up(listing, now=NOW + 99 * DAY).outcome is Outcome.REVOKED
    assert look_up(listing, now=NOW - 2 * DAY).outcome is Outcome.STALE
    assert look_up(crl(ICA, [(SERIAL, HOLD)]), now=NOW + 2 * DAY).outcome is Outcome.STALE
    assert look_up(empty, max_age=HOUR).outcome is Outcome.STALE


def test_a_crl_without_next_update() -> None:
    endless = crl_without_next_update(ICA)
    assert look_up(endless).outcome is Outcome.NO_NEXT_UPDATE
    assert look_up(endless, max_age=2 * DAY).outcome is Outcome.GOOD
    assert look_up(endless, max_age=HOUR).outcome is Outcome.STALE


def test_a_crl_answers_no_nonce() -> None:
    status = look_up(crl(ICA), nonce=NONCE)
    assert (status.outcome, said(status).stated) == (Outcome.INVALID, Outcome.GOOD)
    assert look_up(crl(ICA, [(SERIAL, None)]), nonce=NONCE).outcome is Outcome.REVOKED


def test_whose_crl() -> None:
    _refused(look_up(crl(ICA, signer=BROM)), "does not verify")
    _refused(look_up(crl(IDENTITY)), "issuer name")
    _refused(look_up(crl(ICA), certificate=LEAF.certificate), "was not issued by")
    mute = issue("NVIDIA GH100 Provisioner ICA 1", IDENTITY, usage=("key_cert_sign",))
    assert mute.certificate.subject == ICA.certificate.subject
    _refused(look_up(crl(ICA), issuer=mute.certificate), "lacks cRLSign")
    top = look_up(crl(ROOT), certificate=IDENTITY.certificate, issuer=DEVICE.root)
    assert top.outcome is Outcome.GOOD


@pytest.mark.parametrize("critical", [True, False])
def test_only_complete_direct_crls(critical: bool) -> None:
    def point(**flags: bool) -> x509.IssuingDistributionPoint:
        names = [x509.UniformResourceIdentifier("http://crl.ccverify-test.invalid/1")]
        all_flags: dict[str, Any] = dict.fromkeys(
            ("only_contains_user_certs", "only_contains_ca_certs", "indirect_crl",
             "only_contains_attribute_certs"),
            False,
        )  # fmt: skip
        return x509.IssuingDistributionPoint(
            full_name=names, relative_name=None, only_some_reasons=None, **all_flags | flags
        )

    for value in (
        point(),
        point(only_contains_user_certs=True),
        point(indirect_crl=True),
        x509.DeltaCRLIndicator(1),
    ):
        text = "" if critical or isinstance(value, x509.DeltaCRLIndicator) else "only a part"
        _refused(look_up(crl(ICA, extra=[(value, critical)])), text)


def test_entries_that_are_not_understood() -> None:
    foreign = x509.CertificateIssuer([x509.DirectoryName(IDENTITY.x509.subject)])
    _refused(look_up(crl(ICA, [(5, None)], entry_extra=[(foreign, True)])), "critical extension")
    date = x509.InvalidityDate(NOW.replace(tzinfo=None))
    assert look_up(crl(ICA, [(5, None)], entry_extra=[(date, False)])).outcome is Outcome.GOOD
    odd = x509.UnrecognizedExtension(CRLEntryExtensionOID.CRL_REASON, b"\x0a\x01\x07")
    _refused(look_up(crl(ICA, [(5, None)], entry_extra=[(odd, False)])), "cannot be read")


# --- a set ---------------------------------------------------------------------------------------


def judge(*items: OcspResponse | Crl, **changes: Any) -> RevocationStatus:
    """What a set says about the BROM certificate."""
    arguments: dict[str, Any] = {"first": 1, "memory": SignatureMemory()}
    statuses = RevocationSet.of(items).status_of(
        DEVICE.certificates, DEVICE.root, changes.pop("now", NOW), **(arguments | changes)
    )
    assert [s.certificate for s in statuses] == list(DEVICE.certificates[1:4])
    assert {s.outcome for s in statuses[1:]} <= {Outcome.ABSENT, Outcome.GOOD}
    return statuses[0]


def at(days: int, until: int | None = 1, **changes: Any) -> OcspResponse:
    """A response of so many days ago, valid for so many days from now."""
    update = NOW - days * DAY
    end = None if until is None else NOW + until * DAY
    one = single(this_update=update, next_update=end, **changes)
    return parsed(answer(singles=(one,), produced_at=update))


REVOKED: dict[str, Any] = {"status": "revoked", "reason": 1}
HELD: dict[str, Any] = {"status": "revoked", "reason": 6}
UNKNOWN: dict[str, Any] = {"status": "unknown"}


def test_an_empty_set_knows_nothing() -> None:
    chain = DEVICE.certificates
    for first, judged in ((1, chain[1:4]), (0, chain[:4])):
        statuses = RevocationSet().status_of(
            chain, DEVICE.root, NOW, first=first, memory=SignatureMemory()
        )
        assert [s.certificate for s in statuses] == list(judged)
        assert {s.outcome for s in statuses} == {Outcome.ABSENT}
        assert {(s.statement, s.problem) for s in statuses} == {(None, None)}


def _everything(issued: Sequence[Issued]) -> RevocationSet:
    return RevocationSet.of(parsed(Ocsp(by, (Single(one, by),))) for one, by in pairwise(issued))


@pytest.mark.parametrize("with_root", [True, False])
def test_a_whole_device_chain(with_root: bool) -> None:
    chain = DEVICE.certificates if with_root else DEVICE.certificates[:-1]
    statuses = _everything(DEVICE.issued).status_of(
        chain, DEVICE.root, NOW, first=1, memory=SignatureMemory()
    )
    assert [s.certificate for s in statuses] == list(DEVICE.certificates[1:4])
    assert {s.outcome for s in statuses} == {Outcome.GOOD}


def test_a_whole_rim_chain() -> None:
    rim = rim_chain()
    arguments: dict[str, Any] = {"first": 0, "memory": SignatureMemory()}
    statuses = _everything(rim.issued).status_of(rim.certificates, rim.root, NOW, **arguments)
    assert [s.certificate for s in statuses] == list(rim.certificates[:3])
    assert {s.outcome for s in statuses} == {Outcome.GOOD}
    # Nothing that is said about one chain says anything about another.
    strange = _everything(DEVICE.issued).status_of(rim.certificates, rim.root, NOW, **arguments)
    assert {s.outcome for s in strange} == {Outcome.ABSENT}


@pytest.mark.parametrize("size", [0, 1, 2])
def test_short_chains(size: int) -> None:
    statuses = RevocationSet().status_of(
        DEVICE.certificates[:size], DEVICE.root, NOW, first=1, memory=SignatureMemory()
    )
    assert [s.outcome for s in statuses] == [Outcome.ABSENT] * max(0, size - 1)


def test_a_response_for_another_serial_is_absence() -> None:
    assert judge(at(1, serial=SERIAL + 1)).outcome is Outcome.ABSENT
    assert judge(parsed(answer())).outcome is Outcome.GOOD


CHOICES: dict[str, tuple[Callable[[], list[OcspResponse | Crl]], Outcome, int]] = {
    "the newest of two": (lambda: [at(3), at(1)], Outcome.GOOD, 1),
    "current before newer and stale": (lambda: [at(3), at(1, 0 - 1)], Outcome.GOOD, 3),
    "revoked later": (lambda: [at(3), at(1, **REVOKED)], Outcome.REVOKED, 1),
    "revoked later, and stale": (lambda: [at(3, 9), at(2, -1, **REVOKED)], Outcome.REVOKED, 2),
    "revoked before": (lambda: [at(3, **REVOKED), at(1)], Outcome.REVOKED, 3),
    "held later": (lambda: [at(3), at(1, **HELD)], Outcome.ON_HOLD, 1),
    "held later, and stale": (lambda: [at(3, 9), at(2, -1, **HELD)], Outcome.STALE, 2),
    "held before": (lambda: [at(3, **HELD), at(1)], Outcome.GOOD, 1),
    "held at the same time": (lambda: [at(2, **HELD), at(2)], Outcome.ON_HOLD, 2),
    "unknown later": (lambda: [at(3), at(1, **UNKNOWN)], Outcome.UNKNOWN, 1),
    "unknown before": (lambda: [at(3, **UNKNOWN), at(1)], Outcome.GOOD, 1),
    "revoked in the future": (lambda: [at(1), at(-1, 3, **REVOKED)], Outcome.GOOD, 1),
    "only the future": (lambda: [at(-1, 3)], Outcome.STALE, -1),
    "no end": (lambda: [at(1, None)], Outcome.NO_NEXT_UPDATE, 1),
    "no end, newer": (lambda: [at(3), at(1, None)], Outcome.GOOD, 3),
    "no end, held later": (lambda: [at(3, None), at(1, None, **HELD)], Outcome.NO_NEXT_UPDATE, 1),
    "no end, held later, and stale": (
        lambda: [at(3, None), at(2, -1, **HELD)], Outcome.STALE, 2
    ),
    "no end, newer and stale": (
        lambda: [at(3, None), at(2, -1)], Outcome.NO_NEXT_UPDATE, 3
    ),
    "only the future, and a forgery": (
        lambda: [at(-1, 3), crl(ICA, signer=BROM), parsed(answer(signature=b""))],
        Outcome.STALE,
        -1,
    ),
    "only stale": (lambda: [at(9, -5), at(5, -1)], Outcome.STALE, 5),
    "CRL": (lambda: [crl(ICA)], Outcome.GOOD, 1),
    "CRL revokes": (lambda: [at(1), crl(ICA, [(SERIAL, None)])], Outcome.REVOKED, 1),
    "CRL holds": (lambda: [at(3), crl(ICA, [(SERIAL, HOLD)])], Outcome.ON_HOLD, 1),
    "CRL held": (lambda: [at(0), crl(ICA, [(SERIAL, HOLD)])], Outcome.GOOD, 0),
    "OCSP revokes": (lambda: [at(3, **REVOKED), crl(ICA)], Outcome.REVOKED, 3),
    "CRL of another": (lambda: [at(1), crl(IDENTITY, [(SERIAL, None)])], Outcome.GOOD, 1),
    "forged CRL": (lambda: [at(1), crl(ICA, [(SERIAL, None)], signer=BROM)], Outcome.GOOD, 1),
}  # fmt: skip


@pytest.mark.parametrize("name", CHOICES)
@pytest.mark.parametrize("turned", [False, True])
def test_which_answer_counts(name: str, turned: bool) -> None:
    make, outcome, days = CHOICES[name]
    items = make()
    status = judge(*(reversed(items) if turned else items))
    assert status.outcome is outcome
    assert said(status).this_update == NOW - days * DAY


def test_a_stale_hold_is_told_from_stale_good() -> None:
    status = judge(at(3, 9), at(2, -1, **HELD))
    assert (status.outcome, said(status).stated) == (Outcome.STALE, Outcome.ON_HOLD)


def test_what_is_not_genuine_changes_nothing_that_is() -> None:
    stranger = issue("NVIDIA GH100 Provisioner ICA 1", None, label="stranger")
    forged = parsed(replace(answer(), signer=stranger, singles=(single(**REVOKED),)))
    assert judge(forged).outcome is Outcome.INVALID
    assert judge(forged, at(1)).outcome is judge(at(1), forged).outcome is Outcome.GOOD


def test_a_set_asks_for_the_nonce() -> None:
    fresh, old = parsed(answer(nonce=NONCE)), parsed(answer(nonce=NONCE[::-1]))
    assert judge(old, fresh, nonce=NONCE).outcome is Outcome.GOOD
    for items in ([old], [crl(ICA)], [old, crl(ICA)]):
        assert judge(*items, nonce=NONCE).outcome is Outcome.INVALID
    revoking = crl(ICA, [(SERIAL, COMPROMISE)])
    assert judge(fresh, revoking, nonce=NONCE).outcome is Outcome.REVOKED


def test_a_set_asks_for_the_age() -> None:
    assert judge(at(3), max_age=4 * DAY).outcome is Outcome.GOOD
    assert judge(at(3), max_age=2 * DAY).outcome is Outcome.STALE
    assert judge(at(3), at(1), max_age=2 * DAY).outcome is Outcome.GOOD


def test_a_set_looks_up_delegates_in_its_newest_crl() -> None:
    delegate = responder(ICA, no_check=False)
    response = parsed(answer(delegate, singles=(single(this_update=NOW - HOUR),)))
    serial = delegate.certificate.serial
    assert said(judge(response)).responder_checked is False
    assert said(judge(response, crl(ICA))).responder_checked is True
    status = judge(response, crl(ICA, [(serial, COMPROMISE)]))
    assert said(status).source == "CRL"  # the response is out, the CRL itself is an answer
    older = crl(ICA, this_update=NOW - 3 * DAY, next_update=NOW + 9 * DAY)
    assert said(judge(response, older, crl(ICA, [(serial, None)]))).source == "CRL"
    future = crl(ICA, [(serial, None)], this_update=NOW + DAY, next_update=NOW + 2 * DAY)
    assert said(judge(response, future)).source == "OCSP"
    # What is not valid yet, or forged, does not hide the CRL that counts.
    listing = crl(ICA, [(serial, None)])
    soon = crl(ICA, this_update=NOW + DAY, next_update=NOW + 2 * DAY)
    forged = crl(ICA, this_update=NOW, signer=BROM)
    for other in (soon, forged):
        assert said(judge(response, listing, other)).source == "CRL"


def test_the_same_item_counts_once() -> None:
    items = [at(1), at(1), crl(ICA), at(2)]
    one = RevocationSet.of([*items, items[2]])
    assert (len(one.responses), len(one.crls)) == (2, 1)


def test_sets_are_bounded() -> None:
    template = at(1)
    many = [replace(template, der=bytes((n >> 8, n & 255))) for n in range(MAX_COLLATERAL + 1)]
    assert len(RevocationSet.of(many[:-1]).responses) == MAX_COLLATERAL
    with pytest.raises(CollateralError, match="too much"):
        RevocationSet.of(many)
    endless = (replace(template, der=n.to_bytes(4, "big")) for n in range(10**9))
    with pytest.raises(CollateralError, match="too much"):
        RevocationSet.of(endless)
    assert judge(*many[:MAX_STATEMENTS]).outcome is Outcome.GOOD
    crowded = judge(*many[: MAX_STATEMENTS + 1])
    assert crowded.outcome is Outcome.INVALID
    assert "more than 64" in str(crowded.problem)


@given(
    st.lists(
        st.tuples(
            st.integers(-2, 9), st.integers(-1, 3), st.sampled_from(["good", "revoked", "held"])
        ),
        min_size=1,
        max_size=4,
    )
)
@settings(max_examples=40, deadline=None)
def test_no_answer_is_better_than_what_the_newest_says(
    facts: list[tuple[int, int, str]],
) -> None:
    changes: dict[str, dict[str, Any]] = {"good": {}, "revoked": REVOKED, "held": HELD}
    items = [at(days, max(until, 1 - days), **changes[word]) for days, until, word in facts]
    status = judge(*items)
    known = [fact for fact in facts if fact[0] >= 0]
    if any(word == "revoked" for _, _, word in known):
        assert status.outcome is Outcome.REVOKED
    elif status.outcome is Outcome.GOOD:
        newest_good = max(-days for days, _, word in known if word == "good")
        assert all(-days < newest_good for days, _, word in known if word == "held")


# --- real certificates, and another implementation -----------------------------------------------


def _real_chains(vectors: Path) -> list[tuple[Certificate, ...]]:
    evidence = vectors / "nvidia" / "ppcie-hgx-h100-8gpu-4switch" / "nvtrust-ppcie-verifier"
    gb100 = vectors / "nvidia" / "blackwell-gb100" / "attestation-sdk-sample"
    pems = [(gb100 / "blackwellCertChain.txt").read_bytes()]
    for name in ("gpu_evidence.json", "switch_evidence.json"):
        items = json.loads((evidence / name).read_text())
        pems += [base64.b64decode(item["certificate"]) for item in items[:2]]
    pems = [pem if pem.lstrip().startswith(b"-") else base64.b64decode(pem) for pem in pems]
    return [parse_pem_chain(pem) for pem in pems]


def test_cert_ids_of_real_certificates_are_those_that_cryptography_asks_for(vectors: Path) -> None:
    chains = _real_chains(vectors)
    assert len(chains) == 5
    for chain in chains:
        issuers: list[Certificate | TrustAnchor] = [*chain[1:-1], NVIDIA_DEVICE_IDENTITY_CA]
        for certificate, issuer, by in zip(chain[:-1], issuers, chain[1:], strict=True):
            child, parent = (x509.load_der_x509_certificate(c.der) for c in (certificate, by))
            for one in cert_ids(certificate.serial, issuer):
                request = (
                    reference.OCSPRequestBuilder()
                    .add_certificate(child, parent, HASH_NAMES[one.hash_name]())
                    .build()
                )
                assert one.issuer_name_hash == request.issuer_name_hash
                assert one.issuer_key_hash == request.issuer_key_hash
                assert one.serial == request.serial_number


def test_real_chains_have_three_certificates_to_look_up(vectors: Path) -> None:
    for chain in _real_chains(vectors):
        statuses = _everything(DEVICE.issued).status_of(
            chain, NVIDIA_DEVICE_IDENTITY_CA, NOW, first=1, memory=SignatureMemory()
        )
        assert [s.certificate for s in statuses] == list(chain[1:4])
        assert {s.outcome for s in statuses} == {Outcome.ABSENT}


@pytest.mark.parametrize(
    ("shape", "verifies"),
    [
        ("by name", True),
        ("by key", True),
        ("delegated", True),
        ("delegated, by key", True),
        ("SHA-256", True),
        ("SHA-384", True),
        ("key compromise", True),
        ("unknown", True),
        ("forged", False),
        ("no purpose", False),
        ("of the root", False),
    ],
)
def test_openssl_agrees(shape: str, verifies: bool, tmp_path: Path) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("there is no openssl command")
    if shape == "forged":
        response = answer(signature=parsed(answer(nonce=NONCE)).signature)
    elif shape in DELEGATES:
        response = answer(DELEGATES[shape][0]())
    else:
        response = SHAPES[shape]()
    files = {
        "r.der": response.der(),
        "cert.pem": BROM.pem,
        "issuer.pem": ICA.pem,
        "ca.pem": ROOT.pem + IDENTITY.pem + ICA.pem,
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    one = response.singles[0]
    command = [openssl, "ocsp", "-respin", "r.der", "-CAfile", "ca.pem", "-issuer", "issuer.pem",
               f"-{one.hash_name}", "-cert", "cert.pem", "-no_nonce",
               "-attime", str(int(NOW.timestamp()))]  # fmt: skip
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ("Response verify OK" in ran.stderr) is verifies, ran.stderr
    status = ask(response)
    assert (status.statement is not None) is verifies
    if verifies:
        # A warning by the machine's own clock may stand between the two.
        word = re.search(r"^(?:cert\.pem: )?(good|revoked|unknown)$", ran.stdout, re.MULTILINE)
        assert word is not None, ran.stdout
        assert Outcome(word[1]) is said(status).stated
