"""NVIDIA's collateral as one value, in a pack, and reported on."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nv_collateral import CRLS, NODE, SIM, TRUST, everything, rim_response

from ccverify.errors import CollateralError
from ccverify.nvidia.collateral import (
    MAX_NAME,
    MAX_RIMS,
    NVIDIA_ENTRIES,
    NvidiaCollateral,
    nvidia_entries,
    parse_nvidia_entries,
)
from ccverify.nvidia.collateral_report import appraise_nvidia, compare_nvidia, describe_nvidia
from ccverify.nvidia.ocsp import parse_ocsp_response
from ccverify.nvidia.rim import parse_rim
from ccverify.nvidia.rim_service import parse_rim_response
from ccverify.nvidia.rim_set import RimSet, StoredRim
from ccverify.pack_format import MAX_ARTEFACTS, PACK_SCHEMA, pack_entries
from ccverify.trust.store import TrustStore
from ccverify.trust.x509 import parse_crl

ALL = everything().nvidia
ENTRIES = nvidia_entries(ALL)
RIMS = [entry for entry in ENTRIES if entry["type"] == "rim"]


def read(*entries: dict[str, Any]) -> NvidiaCollateral:
    document = {"schema": PACK_SCHEMA, "artefacts": list(entries)}
    return parse_nvidia_entries(pack_entries(document, NVIDIA_ENTRIES))


# One value -----------------------------------------------------------------------------


def test_entries_hold_everything() -> None:
    assert read(*ENTRIES) == ALL
    assert ALL.count == len(ENTRIES) == 3 + 21 + len(CRLS)
    assert [stored.xml for stored in ALL.rims.rims] == [xml for _, xml in sorted(NODE.rims)]
    assert read() == NvidiaCollateral()
    assert NvidiaCollateral().is_empty
    assert not ALL.is_empty


def test_digest_depends_on_contents_alone() -> None:
    assert read(*reversed(ENTRIES)).digest == ALL.digest
    assert ALL.merged(ALL) == ALL
    halves = read(*ENTRIES[::2]), read(*ENTRIES[1::2])
    assert halves[0].merged(halves[1]) == halves[1].merged(halves[0]) == ALL
    digests = {read(*ENTRIES[:at], *ENTRIES[at + 1 :]).digest for at in range(len(ENTRIES))}
    assert len(digests | {ALL.digest, NvidiaCollateral().digest}) == len(ENTRIES) + 2
    # The name counts, because it decides for which boards a manifest is taken.
    assert read({**RIMS[0], "name": "other"}).digest != read(RIMS[0]).digest


def test_a_manifest_that_does_not_parse_is_listed() -> None:
    found = NvidiaCollateral.of([("good", NODE.rims[0][1]), ("bad", b"<a/>")])
    assert [each.name for each in found.rims.rims] == ["good"]
    assert list(found.rims.unreadable) == ["bad"]
    good = NvidiaCollateral.of([("good", NODE.rims[0][1])])
    assert found.digest == good.digest
    assert good.merged(found).rims.unreadable == found.rims.unreadable
    assert len(nvidia_entries(found)) == 1
    assert NvidiaCollateral.of([("bad", b"")]).is_empty


def test_limits() -> None:
    xml = NODE.rims[0][1]
    rim = parse_rim(xml)
    many = tuple(StoredRim(f"{number}", rim, xml) for number in range(MAX_RIMS))
    assert NvidiaCollateral(RimSet(many, {})).merged(NvidiaCollateral()).count == MAX_RIMS
    one = NvidiaCollateral(RimSet((StoredRim("one more", rim, xml),), {}))
    with pytest.raises(CollateralError, match="too many reference manifests"):
        NvidiaCollateral(RimSet(many, {})).merged(one)
    document = {"schema": PACK_SCHEMA, "artefacts": [RIMS[0]] * (MAX_ARTEFACTS + 1)}
    with pytest.raises(CollateralError, match="too many artefacts"):
        pack_entries(document, NVIDIA_ENTRIES)


@pytest.mark.parametrize("name", ["", "x" * (MAX_NAME + 1), "a\nb", "\x1b[2J", "\u202e"])
def test_names_that_no_pack_may_hold(name: str) -> None:
    with pytest.raises(CollateralError, match="not usable") as caught:
        read({**RIMS[0], "name": name})
    assert caught.value.where == "artefacts[0].name"
    with pytest.raises(CollateralError, match="not usable"):
        nvidia_entries(NvidiaCollateral.of([(name, NODE.rims[0][1])]))


OCSP = base64.b64encode(NODE.ocsp[0]).decode()
CRL = base64.b64encode(CRLS[0]).decode()
MALFORMED: dict[str, Any] = {
    "unknown type": {"type": "corim", "der": OCSP},
    "no type": {"der": OCSP},
    "no object": 1,
    "rim without name": {"type": "rim", "xml": RIMS[0]["xml"]},
    "rim with more": {**RIMS[0], "der": ""},
    "rim that is none": {**RIMS[0], "xml": "<a/>"},
    "rim cut short": {**RIMS[0], "xml": RIMS[0]["xml"][:-9]},
    "xml no text": {**RIMS[0], "xml": 1},
    "name no text": {**RIMS[0], "name": 1},
    "ocsp no base64": {"type": "ocsp-response", "der": "*"},
    "ocsp not ASCII": {"type": "ocsp-response", "der": "é"},
    "ocsp empty": {"type": "ocsp-response", "der": ""},
    "ocsp that is a CRL": {"type": "ocsp-response", "der": CRL},
    "crl that is an OCSP response": {"type": "nvidia-crl", "der": OCSP},
    "crl with a chain": {"type": "nvidia-crl", "der": CRL, "issuer_chain": ""},
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_entries(case: str) -> None:
    with pytest.raises(CollateralError) as caught:
        read(ENTRIES[0], MALFORMED[case])
    assert (caught.value.where or "").startswith("artefacts[1]")


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20)
    | st.sampled_from([OCSP, CRL, RIMS[0]["xml"], "rim", "ocsp-response", "nvidia-crl"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["type", "name", "xml", "der"]), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(st.lists(_JSON, max_size=4))
@settings(deadline=None)
def test_any_entries_parse_or_are_refused(entries: list[Any]) -> None:
    try:
        found = read(*entries)
    except CollateralError:
        return
    assert read(*nvidia_entries(found)) == found


# The RIM service's JSON ----------------------------------------------------------------


def test_rim_service_response() -> None:
    name, xml = NODE.rims[0]
    assert parse_rim_response(rim_response(name, xml)) == (name.removesuffix(".xml"), xml)
    upper = rim_response(name, xml).replace(b'"TCG"', b'"SWID"')
    assert parse_rim_response(upper)[1] == xml


@given(
    st.binary(max_size=200)
    | st.dictionaries(
        st.sampled_from(["id", "rim", "sha256", "rim_format"]), st.text(max_size=10) | st.none()
    ).map(lambda members: json.dumps(members).encode())
)
@settings(deadline=None)
def test_any_response_parses_or_is_refused(body: bytes) -> None:
    try:
        parse_rim_response(body)
    except CollateralError:
        return


# The report ----------------------------------------------------------------------------


def test_honest_collateral_has_no_problems() -> None:
    assert appraise_nvidia(ALL, TRUST, NODE.at) == ()
    report = describe_nvidia(ALL, TRUST, NODE.at)
    json.dumps(report)
    assert [(r["kind"], r["chip"], r["genuine"]) for r in report["rims"]] == [
        ("driver", "GH100", True),
        ("switch-bios", "LS10", True),
        ("vbios", "GH100", True),
    ]
    # The signers' issuers are in the manifests; those of devices come with the devices.
    signers = [each for each in report["ocsp_responses"] if each["genuine"]]
    assert len(signers) == 6
    assert all(each["genuine"] is not False for each in report["ocsp_responses"])
    assert {each["answers"][0]["status"] for each in report["ocsp_responses"]} == {"good"}
    assert {each["genuine"] for each in report["crls"]} == {True, None}


def test_everything_is_judged_under_the_right_root() -> None:
    problems = appraise_nvidia(ALL, TrustStore.production(), NODE.at)
    assert len(problems) == 3
    assert all("not pinned" in problem for problem in problems)


def test_problems_are_told() -> None:
    late = NODE.at + timedelta(days=3650)
    titles = {stored.rim.title for stored in ALL.rims.rims}
    problems = appraise_nvidia(ALL, TRUST, late)
    assert sum(p.split(": ")[0] in titles and "expired on" in p for p in problems) == 3
    assert sum("OCSP response for" in p and "it is valid from" in p for p in problems) == 21
    assert sum("CRL of" in p and "it is valid from" in p for p in problems) == len(CRLS)
    before = appraise_nvidia(ALL, TRUST, NODE.at - timedelta(days=30))
    assert sum("it is valid from" in problem for problem in before) >= 21


def test_revocation_is_told() -> None:
    signer = SIM.rims[0].chain[0]
    for status in ("revoked", "hold", "unknown"):
        node = SIM.with_status(signer, status).build()  # type: ignore[arg-type]
        found = NvidiaCollateral.of(NODE.rims, map(parse_ocsp_response, node.ocsp))
        (problem,) = appraise_nvidia(found, TRUST, NODE.at)
        assert "RIM L4 Signer" in problem
        assert {"revoked": "revoked", "hold": "certificateHold", "unknown": "unknown"}[
            status
        ] in problem


def test_forged_answers_are_told() -> None:
    specs = SIM.ocsp_responses()
    forged = replace(specs[-1], signature=parse_ocsp_response(NODE.ocsp[0]).signature)
    found = NvidiaCollateral.of(NODE.rims, [parse_ocsp_response(forged.der())])
    (problem,) = appraise_nvidia(found, TRUST, NODE.at)
    assert "does not verify" in problem
    damaged = bytearray(CRLS[-1])
    damaged[-1] ^= 1
    genuine = {
        each["genuine"]
        for each in describe_nvidia(
            NvidiaCollateral.of(NODE.rims, [parse_crl(bytes(damaged), CollateralError)]),
            TRUST,
            NODE.at,
        )["crls"]
    }
    assert genuine == {False}


def test_comparison() -> None:
    assert compare_nvidia(ALL, ALL) == {
        "sha384": [ALL.digest] * 2,
        "rims": {},
        "ocsp_responses": {},
        "crls": {},
    }
    less = read(*[e for e in ENTRIES if e != RIMS[0] and e["type"] != "nvidia-crl"])
    change = compare_nvidia(less, ALL)
    assert len(change["rims"]["added"]) == 1
    assert len(change["crls"]["added"]) == len(CRLS)
    assert change["ocsp_responses"] == {}
    assert "removed" in compare_nvidia(ALL, less)["rims"]


def test_real_manifests(vectors: Path) -> None:
    files = sorted((vectors / "nvidia" / "rim").rglob("*.*"))
    found = NvidiaCollateral.of((path.name, path.read_bytes()) for path in files)
    assert found.count + len(found.rims.unreadable) >= 35
    report = describe_nvidia(found, TrustStore.production(), NODE.at)
    genuine = {each["name"] for each in report["rims"] if each["genuine"]}
    assert "switchVBIOSRim_NV_SWITCH_BIOS_5612_0002_890_9610550001.xml" in genuine
    assert "incorrect_cert_chain_driver_rim.xml" not in genuine
    assert read(*nvidia_entries(found)).digest == found.digest
