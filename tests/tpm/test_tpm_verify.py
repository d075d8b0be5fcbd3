"""Verifying quotes: the honest one, and everything that can be wrong with one."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256, sha384
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256, SHA384

from ccverify.errors import EvidenceError
from ccverify.sim import DEFAULT_TIME, SimKey
from ccverify.sim.certs import basic_constraints, pem_chain
from ccverify.sim.operator import SimOperator, extended_key_usage
from ccverify.sim.tpm import SimTpm, SimTpmQuote
from ccverify.tpm.quote import TpmQuote, parse_tpm_quote
from ccverify.tpm.verify import HIERARCHIES, TpmResult, verify_tpm_quote
from ccverify.trust.pkix import parse_pkix_certificate

TPM = SimTpm()
OTHER = SimTpm("host-1")
DATA = sha256(b"this request").digest()
ROOTS = (parse_pkix_certificate(TPM.root().der()),)


def parsed(quote: SimTpmQuote, chain: str | None = None, **changes: Any) -> TpmQuote:
    parts = {
        "attest": quote.attest,
        "signature": quote.signature,
        "public": quote.public,
        "chain": None if chain is None else chain.encode(),
        "pcrs": quote.pcrs,
        **changes,
    }
    return parse_tpm_quote(**parts)


def verify(
    tpm: SimTpm = TPM, chain: str | None = None, data: bytes = DATA, **changes: Any
) -> TpmResult:
    read = parsed(tpm.quote(DATA), chain, **changes)
    return verify_tpm_quote(read, data, roots=ROOTS, now=DEFAULT_TIME)


def the_problem(result: TpmResult) -> str:
    (problem,) = result.problems
    assert result.pcrs == {}
    return problem


# --- honest ---


def test_an_honest_quote_has_no_problem() -> None:
    result = verify(chain=TPM.chain())
    assert result.problems == ()
    assert result.name == TPM.name.hex()
    assert result.hierarchy == "endorsement"
    assert result.pcrs == {"sha256": {index: TPM.pcr(index) for index in range(15)}}
    assert (result.clock.reset_count, result.clock.clock) == (3, 86_400_000)
    assert result.firmware_version == TPM.firmware_version
    certificate = result.certificate
    assert certificate is not None
    assert certificate.problem is None
    assert certificate.subject == "O=ccverify simulation\\, no TPM vendor,CN=Simulated TPM host-0"
    assert certificate.root == "O=ccverify simulation\\, no TPM vendor,CN=Simulated TPM " \
        "Attestation Root CA"  # fmt: skip
    assert certificate.key_sha256 == sha256(TPM.key.spki).hexdigest()
    assert certificate.certificate_sha256 == sha256(TPM.certificate().der()).hexdigest()
    assert certificate.root_sha256 == sha256(TPM.root().der()).hexdigest()


@pytest.mark.parametrize("hierarchy", HIERARCHIES)
@pytest.mark.parametrize(
    ("curve", "scheme"), [("P-256", "sha256"), ("P-384", "sha384"), ("P-384", "sha256")]
)
def test_both_curves_in_every_hierarchy(hierarchy: Any, curve: Any, scheme: Any) -> None:
    tpm = replace(TPM, curve=curve, scheme=scheme, hierarchy=hierarchy)
    result = verify(tpm)
    assert (result.problems, result.hierarchy) == ((), hierarchy)
    assert result.certificate is None


def test_a_key_below_another_is_in_no_hierarchy() -> None:
    quote = TPM.quote(DATA)
    at = quote.attest.index(DATA) - 4
    attest = quote.attest[:at] + bytes(2) + quote.attest[at + 2 :]
    read = parsed(quote, attest=attest, signature=TPM.sign(attest))
    result = verify_tpm_quote(read, DATA)
    assert (result.problems, result.hierarchy) == ((), None)


def test_several_banks_are_hashed_in_their_order() -> None:
    for selection in ({"sha384": (0, 9), "sha256": (1,)}, {"sha256": (1,), "sha384": (0, 9)}):
        read = parsed(TPM.quote(DATA, selection))  # type: ignore[arg-type]
        result = verify_tpm_quote(read, DATA)
        assert result.problems == ()
        assert result.pcrs == {
            "sha256": {1: TPM.pcr(1)},
            "sha384": {0: TPM.pcr(0, "sha384"), 9: TPM.pcr(9, "sha384")},
        }
    orders = [TPM.quote(DATA, s).attest for s in ({"sha384": (0,), "sha256": (1,)},
                                                   {"sha256": (1,), "sha384": (0,)})]  # fmt: skip
    assert orders[0] != orders[1]


KEY = rsa.generate_private_key(65537, 2048)
RSA_SCHEMES = {
    "RSASSA": (0x14, padding.PKCS1v15()),
    "RSAPSS": (0x16, padding.PSS(padding.MGF1(SHA256()), 32)),
    "RSAPSS with the longest salt": (
        0x16,
        padding.PSS(padding.MGF1(SHA256()), padding.PSS.MAX_LENGTH),
    ),
}


def rsa_quote(scheme: int, pad: Any, stated: int | None = None) -> TpmQuote:
    modulus = KEY.public_key().public_numbers().n.to_bytes(256)
    public = struct.pack(">HHIHHHHHIH", 1, 0x0B, 0x00050472, 0, 0x10, stated or scheme, 0x0B,
                         2048, 0, 256) + modulus  # fmt: skip
    quote = TPM.quote(DATA)
    signature = KEY.sign(quote.attest, pad, SHA256())
    encoded = struct.pack(">HHH", scheme, 0x0B, len(signature)) + signature
    return parsed(quote, public=public, signature=encoded)


@pytest.mark.parametrize("name", RSA_SCHEMES)
def test_rsa_keys_sign_too(name: str) -> None:
    scheme, pad = RSA_SCHEMES[name]
    assert verify_tpm_quote(rsa_quote(scheme, pad), DATA).problems == ()
    other = 0x14 if scheme == 0x16 else 0x16
    problem = the_problem(verify_tpm_quote(rsa_quote(scheme, pad, stated=other), DATA))
    assert "signature: it is by" in problem
    mixed = RSA_SCHEMES["RSASSA" if scheme == 0x16 else "RSAPSS"][1]
    assert "does not verify" in the_problem(verify_tpm_quote(rsa_quote(scheme, mixed), DATA))


# --- dishonest ---


def test_another_request_is_another_quote() -> None:
    assert "extraData" in the_problem(verify(data=sha256(b"another request").digest()))
    assert "extraData" in the_problem(verify(data=DATA + b"\0"))
    assert "extraData" in the_problem(verify(data=b""))


def test_another_key_did_not_sign_it() -> None:
    assert "signature" in the_problem(verify(public=OTHER.public))
    assert "signature" in the_problem(verify(signature=OTHER.quote(DATA).signature))


def test_no_byte_of_the_signed_structure_can_be_changed() -> None:
    quote = TPM.quote(DATA)
    for at in range(len(quote.attest)):
        for bit in (0x01, 0x80):
            flipped = _flipped(quote.attest, at, bit)
            try:
                result = verify(attest=flipped)
            except EvidenceError:
                continue
            assert "signature: it does not verify under the key" in result.problems, at
            assert (result.pcrs, result.hierarchy) == ({}, None)


def test_no_byte_of_the_signature_can_be_changed() -> None:
    quote = TPM.quote(DATA)
    for at in range(len(quote.signature)):
        for bit in (0x01, 0x80):
            try:
                result = verify(signature=_flipped(quote.signature, at, bit))
            except EvidenceError:
                continue
            assert "signature" in the_problem(result), at


def test_a_byte_of_the_public_area_makes_another_key_or_another_name() -> None:
    """What the signature does not cover, the Name does: a policy lists that."""
    quote = TPM.quote(DATA)
    renamed = 0
    for at in range(len(quote.public)):
        for bit in (0x01, 0x80):
            try:
                result = verify(public=_flipped(quote.public, at, bit))
            except EvidenceError:
                continue
            assert result.name != TPM.name.hex(), at
            assert result.hierarchy is None
            renamed += not result.problems
    # userWithAuth and such: signed by the key, and under another Name.
    assert 0 < renamed < 20


def _flipped(data: bytes, at: int, bit: int) -> bytes:
    return data[:at] + bytes((data[at] ^ bit,)) + data[at + 1 :]


PCRS: dict[str, Mapping[str, Mapping[int, bytes]]] = {
    "a value changed": {"sha256": {**TPM.quote(DATA).pcrs["sha256"], 4: bytes(32)}},
    "one left out": {"sha256": {n: TPM.pcr(n) for n in range(14)}},
    "one more": {"sha256": {n: TPM.pcr(n) for n in range(16)}},
    "two exchanged": {"sha256": {**TPM.quote(DATA).pcrs["sha256"], 1: TPM.pcr(2), 2: TPM.pcr(1)}},
    "another index": {"sha256": {n: TPM.pcr(n) for n in (*range(14), 16)}},
    "another bank": {"sha384": {n: TPM.pcr(n, "sha384") for n in range(15)}},
    "one more bank": {**TPM.quote(DATA).pcrs, "sha384": {0: TPM.pcr(0, "sha384")}},
    "none": {},
}


@pytest.mark.parametrize("name", PCRS)
def test_pcrs_must_be_those_that_were_signed(name: str) -> None:
    assert "PCRs: " in the_problem(verify(pcrs=PCRS[name]))


def test_a_digest_by_another_hash_than_the_signature_is_no_digest() -> None:
    quote = TPM.quote(DATA)
    values = b"".join(quote.pcrs["sha256"].values())
    digest = sha256(values).digest()
    other = sha384(values).digest()[:32]
    attest = quote.attest.replace(digest, other)
    assert attest != quote.attest
    problem = the_problem(verify(attest=attest, signature=TPM.sign(attest)))
    assert "signed digest" in problem


def test_sha1_alone_and_nothing_at_all_are_not_enough() -> None:
    for selection, words in (({"sha1": (0, 1)}, "only a SHA-1 bank"), ({}, "none quoted"),
                             ({"sha256": ()}, "none quoted")):  # fmt: skip
        quote = TPM.quote(DATA, selection)  # type: ignore[arg-type]
        read = parsed(quote, pcrs={bank: v for bank, v in quote.pcrs.items() if v})
        assert words in the_problem(verify_tpm_quote(read, DATA))
    both = parsed(TPM.quote(DATA, {"sha1": (0,), "sha256": (0,)}))
    result = verify_tpm_quote(both, DATA)
    assert (result.problems, list(result.pcrs)) == ((), ["sha256"])


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        (0x00040472, "lacks RESTRICTED"),
        (0x00050470, "lacks FIXED_TPM"),
        (0x00050462, "lacks FIXED_PARENT"),
        (0x00050452, "lacks SENSITIVE_DATA_ORIGIN"),
        (0x00010472, "lacks SIGN"),
        (0x00070472, "decrypts too"),
    ],
)
def test_a_key_that_is_no_attestation_key_proves_nothing(attributes: int, words: str) -> None:
    """An unrestricted key signs whatever it is given, structures that look like quotes too."""
    assert words in the_problem(verify(replace(TPM, attributes=attributes)))


def test_a_key_without_a_scheme_is_no_restricted_key() -> None:
    assert "no scheme" in the_problem(verify(replace(TPM, scheme=None)))


def test_a_signature_of_another_kind_than_the_key_is_said_so() -> None:
    ecdsa = TPM.quote(DATA)
    modulus = KEY.public_key().public_numbers().n.to_bytes(256)
    unrestricted = struct.pack(">HHIHHHHIH", 1, 0x0B, 0x00050472, 0, 0x10, 0x10, 2048, 0, 256)
    found = verify_tpm_quote(parsed(ecdsa, public=unrestricted + modulus), DATA).problems
    assert "signature: it is by ECDSA, and the key is RSA" in found
    signature = KEY.sign(ecdsa.attest, padding.PKCS1v15(), SHA384())
    encoded = struct.pack(">HHH", 0x14, 0x0C, 256) + signature
    free = replace(TPM, scheme=None).public
    found = verify_tpm_quote(parsed(ecdsa, public=free, signature=encoded), DATA).problems
    assert "signature: it is by RSASSA, and the key is on secp256r1" in found


# --- certificates ---


def certificate_problem(chain: str, **options: Any) -> str | None:
    read = parsed(TPM.quote(DATA), chain)
    result = verify_tpm_quote(read, DATA, **{"roots": ROOTS, "now": DEFAULT_TIME, **options})
    # The quote is as good as it was: the policy may know the key by its Name.
    assert result.problems == ()
    assert result.certificate is not None
    assert (result.certificate.root is None) == (result.certificate.problem is not None)
    return result.certificate.problem


def test_a_chain_for_another_key_proves_nothing() -> None:
    assert "another key" in str(certificate_problem(OTHER.chain()))
    assert "another key" in str(certificate_problem(SimOperator().certificate().pem()))
    ed25519 = replace(TPM.certificate(), key=SimKey("tpm host-0", curve="P-384")).pem()
    assert "another key" in str(certificate_problem(ed25519))


def test_a_chain_must_lead_to_a_named_root_now() -> None:
    chain = TPM.chain()
    assert certificate_problem(chain) is None
    assert certificate_problem(TPM.certificate().pem()) is None
    assert "no root is named" in str(certificate_problem(chain, roots=()))
    assert "no time" in str(certificate_problem(chain, now=None))
    elsewhere = (parse_pkix_certificate(SimOperator().root().der()),)
    assert "not among the roots" in str(certificate_problem(chain, roots=elsewhere))
    late = DEFAULT_TIME + timedelta(days=365 * 30)
    assert "is valid from" in str(certificate_problem(chain, now=late))


def test_a_certificate_for_something_else_proves_nothing() -> None:
    leaf = TPM.certificate()
    tls = leaf.with_extension(extended_key_usage("1.3.6.1.5.5.7.3.1"))
    assert "not for this purpose" in str(certificate_problem(tls.pem()))
    plain = leaf.without_extension("2.5.29.37")
    assert certificate_problem(plain.pem()) is None
    forged = replace(leaf, signer=SimKey("somebody else", curve="P-384"))
    assert "does not verify" in str(certificate_problem(forged.pem()))
    root = TPM.root().with_extension(basic_constraints(False))
    assert "not a CA" in str(
        certificate_problem(pem_chain(leaf, root), roots=(parse_pkix_certificate(root.der()),))
    )
