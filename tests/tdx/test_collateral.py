"""Collateral packs: formats, selection, merging; and what verification says of each artefact."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vectors.judging import failed, finding_of, judge_sim, policy, sim_pack

from ccverify.errors import CollateralError
from ccverify.findings import State
from ccverify.pack_format import MAX_ARTEFACTS
from ccverify.sim import SimCase, SimEvidence, SimPlatform
from ccverify.tdx.collateral import (
    MAX_PACK_BYTES,
    PACK_SCHEMA,
    CollateralPack,
    parse_collateral,
    serialize_collateral,
)

CASE = SimPlatform().case()
EVIDENCE = CASE.build()
PACK = sim_pack(EVIDENCE)
V3 = json.loads(EVIDENCE.collateral.to_json())
PACK_JSON = json.loads(serialize_collateral(PACK))
AT, DAY, SECOND = CASE.at, timedelta(days=1), timedelta(seconds=1)


def _pack(case: SimCase) -> CollateralPack:
    return sim_pack(case.build())


def _issued(days: float, edition: int = 20, life: int = 30) -> CollateralPack:
    """A pack issued some days before the case's time."""
    start = AT - timedelta(days=days)
    window = {"issue_date": start, "next_update": start + timedelta(days=life)}
    return _pack(
        replace(
            CASE,
            tcb_info=replace(CASE.tcb_info, tcb_evaluation_data_number=edition, **window),
            qe_identity=replace(CASE.qe_identity, tcb_evaluation_data_number=edition, **window),
            pck_crl=replace(
                CASE.pck_crl, this_update=start, next_update=start + timedelta(days=life)
            ).with_number(edition),
            root_crl=replace(
                CASE.root_crl, this_update=start, next_update=start + timedelta(days=life)
            ).with_number(edition),
        )
    )


# --- formats -------------------------------------------------------------------------------------


def test_quote_collateral_v3_is_read() -> None:
    assert len(PACK.artefacts) == 4
    (info,), (identity,) = PACK.tcb_infos, PACK.qe_identities
    assert info.body == V3["tcb_info"].encode()
    assert identity.body == V3["qe_identity"].encode()
    assert info.signature.hex() == V3["tcb_info_signature"]
    assert [len(a.issuer_chain) for a in PACK.artefacts] == [2, 2, 2, 0]
    assert info.edition == CASE.tcb_info.tcb_evaluation_data_number
    assert (info.issued, info.next_update) == (info.value.issue_date, info.value.next_update)


def test_a_pck_chain_in_v3_is_kept_apart() -> None:
    pack = parse_collateral(json.dumps({**V3, "pck_certificate_chain": CASE.pck_chain()}).encode())
    assert [len(chain) for chain in pack.pck_chains] == [3]
    none = parse_collateral(json.dumps({**V3, "pck_certificate_chain": ""}).encode())
    assert none == PACK


def test_our_own_format_round_trips() -> None:
    whole = PACK.merged(_issued(10, 19)).merged(
        parse_collateral(json.dumps({**V3, "pck_certificate_chain": CASE.pck_chain()}).encode())
    )
    text = serialize_collateral(whole)
    again = parse_collateral(text)
    assert serialize_collateral(again) == text
    assert again.digest == whole.digest
    assert set(again.artefacts) == set(whole.artefacts)
    assert again.pck_chains == whole.pck_chains


def test_an_empty_pack_round_trips() -> None:
    assert parse_collateral(serialize_collateral(CollateralPack())) == CollateralPack()


def test_real_collateral_round_trips(vectors: Path) -> None:
    for name in ("phala_90c06f_2026-02", "near_b0c06f_2026-08"):
        data = (vectors / "tdx" / "collateral" / f"{name}.json").read_bytes()
        pack = parse_collateral(data)
        assert parse_collateral(serialize_collateral(pack)) == pack


def test_order_of_artefacts_changes_neither_text_nor_digest() -> None:
    one, two = PACK.merged(_issued(10, 19)), _issued(10, 19).merged(PACK)
    assert one != two
    assert (one.digest, serialize_collateral(one)) == (two.digest, serialize_collateral(two))


def test_the_digest_covers_everything() -> None:
    info = PACK.tcb_infos[0]
    changes = {
        PACK.digest,
        replace(PACK, tcb_infos=()).digest,
        replace(PACK, tcb_infos=(replace(info, signature=bytes(64)),)).digest,
        replace(PACK, tcb_infos=(replace(info, issuer_chain=()),)).digest,
        replace(PACK, tcb_infos=(replace(info, body=info.body + b" "),)).digest,
        replace(PACK, pck_chains=(info.issuer_chain,)).digest,
        CollateralPack().digest,
    }
    assert len(changes) == 7


def test_merging_keeps_each_artefact_once() -> None:
    assert PACK.merged(PACK) == PACK
    assert len(PACK.merged(_issued(10)).artefacts) == 8
    assert CollateralPack().merged(PACK) == PACK


# --- refusals ------------------------------------------------------------------------------------


def _v3(**changes: Any) -> bytes:
    return json.dumps({**V3, **changes}).encode()


def _entry(kind: str, **changes: Any) -> bytes:
    entries = [
        {**entry, **changes} if entry["type"] == kind else entry for entry in PACK_JSON["artefacts"]
    ]
    return json.dumps({"schema": PACK_SCHEMA, "artefacts": entries}).encode()


def _v3_without(name: str) -> bytes:
    return json.dumps({key: value for key, value in V3.items() if key != name}).encode()


_CHAIN = base64.b64encode(b"\xff" * 30).decode()
REFUSALS: dict[str, bytes] = {
    "empty": b"",
    "no JSON": b"tcb_info",
    "a list": b"[]",
    "null": b"null",
    "another object": b'{"tcbInfo": {}}',
    "duplicate key": b'{"tcb_info": 1, "tcb_info": 2}',
    "another schema": b'{"schema": "ccverify.collateral/v2", "artefacts": []}',
    "too large": b" " * (MAX_PACK_BYTES + 1),
    "v3 unknown member": _v3(novel=""),
    "v3 text is an object": _v3(tcb_info={"id": "TDX"}),
    "v3 signature not hex": _v3(tcb_info_signature="zz" * 64),
    "v3 signature short": _v3(tcb_info_signature="00" * 63),
    "v3 signature long": _v3(qe_identity_signature="00" * 65),
    "v3 CRL not hex": _v3(pck_crl="zz"),
    "v3 CRL damaged": _v3(pck_crl=V3["pck_crl"][:-2]),
    "v3 root CRL empty": _v3(root_ca_crl=""),
    "v3 chain empty": _v3(tcb_info_issuer_chain=""),
    "v3 chain damaged": _v3(
        pck_crl_issuer_chain=f"-----BEGIN CERTIFICATE-----\n{_CHAIN}\n-----END CERTIFICATE-----\n"
    ),
    "v3 PCK chain damaged": _v3(pck_certificate_chain="x"),
    "v3 identity is TCB info": _v3(qe_identity=V3["tcb_info"]),
    **{f"v3 without {name}": _v3_without(name) for name in V3},
    "pack unknown member": json.dumps({**PACK_JSON, "novel": 1}).encode(),
    "pack artefacts no list": json.dumps({"schema": PACK_SCHEMA, "artefacts": {}}).encode(),
    "pack artefact no object": json.dumps({"schema": PACK_SCHEMA, "artefacts": [1]}).encode(),
    "pack unknown type": _entry("tcb-info", type="novel"),
    "pack type no text": _entry("tcb-info", type=None),
    "pack unknown entry member": _entry("tcb-info", der="AA=="),
    "pack body no text": _entry("qe-identity", body=None),
    "pack CRL not base64": _entry("pck-crl", der="*"),
    "pack CRL no text": _entry("root-ca-crl", der=1),
    "pack root CRL with chain": _entry("root-ca-crl", issuer_chain=CASE.pck_chain()),
    "pack PCK chain empty": json.dumps(
        {"schema": PACK_SCHEMA, "artefacts": [{"type": "pck-chain", "pem": ""}]}
    ).encode(),
    "pack signature missing": json.dumps(
        {"schema": PACK_SCHEMA, "artefacts": [{"type": "tcb-info", "body": V3["tcb_info"]}]}
    ).encode(),
    "pack too many": json.dumps(
        {"schema": PACK_SCHEMA, "artefacts": [{"type": "pck-chain"}] * (MAX_ARTEFACTS + 1)}
    ).encode(),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refused(name: str) -> None:
    with pytest.raises(CollateralError) as caught:
        parse_collateral(REFUSALS[name])
    assert caught.value.diagnostics()


def test_an_unhashable_type_is_refused() -> None:
    for kind in ([], {}):
        text = json.dumps({"schema": PACK_SCHEMA, "artefacts": [{"type": kind}]})
        with pytest.raises(CollateralError):
            parse_collateral(text.encode())


_TEXTS = (EVIDENCE.collateral.to_json().encode(), serialize_collateral(PACK))


@pytest.mark.parametrize("text", _TEXTS, ids=["v3", "pack"])
def test_no_prefix_is_read(text: bytes) -> None:
    for size in range(0, len(text.rstrip()), 101):
        with pytest.raises(CollateralError):
            parse_collateral(text[:size])


@given(st.sampled_from([0, 1]), st.integers(0, 1 << 30), st.integers(0, 7))
@settings(deadline=None, max_examples=400)
def test_a_flipped_bit_is_refused_or_not_trusted_or_changes_nothing(
    which: int, place: int, bit: int
) -> None:
    damaged = bytearray(_TEXTS[which])
    damaged[place % len(damaged)] ^= 1 << bit
    try:
        pack = parse_collateral(bytes(damaged))
    except CollateralError:
        return
    if judge_sim(EVIDENCE, collateral=pack).trusted:
        # Case of hex digits, kind of white space in PEM, a certificate above the signer that
        # the quote's own chain has already proven: what was judged is the same.
        assert _judged(pack) == _judged(PACK)


def _judged(pack: CollateralPack) -> list[Any]:
    return [(a.body, getattr(a, "signature", b""), a.issuer_chain[:1]) for a in pack.artefacts]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=30),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from([*V3, "schema", "artefacts", "type", "body", "der", "pem", "x"]),
                inner | st.sampled_from([*V3.values(), PACK_SCHEMA, "tcb-info", "pck-crl"]),
                max_size=6,
            )
        ),
        max_leaves=20,
    )
)
@settings(deadline=None, max_examples=300)
def test_any_json_ends_in_a_pack_or_the_declared_error(document: Any) -> None:
    try:
        parse_collateral(json.dumps(document).encode("utf-8", "replace"))
    except CollateralError:
        return


# --- selection -----------------------------------------------------------------------------------

FMSPC, ISSUER = CASE.tcb_info.fmspc, CASE.pck_ca.subject.der()


def _editions(pack: CollateralPack, now: datetime = AT) -> set[int]:
    return {artefact.edition for artefact in pack.select(FMSPC, ISSUER, now).artefacts}


def test_the_newest_current_edition_is_chosen() -> None:
    both = _issued(20, 18).merged(_issued(10, 19))
    assert _editions(both) == {19}
    assert _editions(_issued(10, 19).merged(_issued(20, 18))) == {19}


def test_a_current_edition_is_preferred_to_a_newer_expired_or_future_one() -> None:
    expired, future, current = _issued(40, 21), _issued(-5, 22), _issued(10, 19)
    assert _editions(expired.merged(future).merged(current)) == {19}
    # With none current, the newest of all is taken, so that the finding says what is wrong.
    assert _editions(expired.merged(future)) == {22}
    assert _editions(expired) == {21}


def test_of_equal_editions_the_later_issue_is_chosen() -> None:
    chosen = _issued(20).merged(_issued(10)).select(FMSPC, ISSUER, AT)
    assert chosen.tcb_info is not None
    assert chosen.tcb_info.issued == AT - 10 * DAY


def test_selection_is_by_platform_and_issuer() -> None:
    other = replace(SimPlatform(), fmspc=b"OTHER\0", ca="processor").case()
    pack = PACK.merged(_pack(other))
    chosen = pack.select(b"OTHER\0", other.pck_ca.subject.der(), AT)
    assert chosen.tcb_info is not None
    assert chosen.pck_crl is not None
    assert chosen.tcb_info.value.fmspc == b"OTHER\0"
    assert chosen.pck_crl.crl.issuer == other.pck_ca.subject.der()
    assert pack.select(b"\1" * 6, b"", AT).tcb_info is None
    assert pack.select(b"\1" * 6, b"", AT).pck_crl is None
    assert CollateralPack().select(FMSPC, ISSUER, AT).artefacts == ()


# --- verification of artefacts -------------------------------------------------------------------


def _judge(pack: CollateralPack, now: datetime = AT, evidence: SimEvidence = EVIDENCE) -> Any:
    return judge_sim(evidence, now=now, collateral=pack)


WINDOWS = (
    ("TDX-TCB-INFO-FRESH", "tcb_infos"),
    ("TDX-QE-IDENTITY-FRESH", "qe_identities"),
    ("TDX-PCK-CRL-FRESH", "pck_crls"),
    ("TDX-ROOT-CRL-FRESH", "root_ca_crls"),
)


@pytest.mark.parametrize(("code", "attribute"), WINDOWS, ids=[w[0] for w in WINDOWS])
def test_windows_include_exactly_their_ends(code: str, attribute: str) -> None:
    (artefact,) = getattr(PACK, attribute)
    for moment, state in (
        (artefact.issued, State.PASS),
        (artefact.issued - SECOND, State.FAIL),
        (artefact.next_update, State.PASS),
        (artefact.next_update + SECOND, State.FAIL),
    ):
        assert finding_of(_judge(PACK, moment), code).state is state
        assert artefact.current(moment) is (state is State.PASS)


def test_fractions_of_a_second_are_dropped() -> None:
    """A verdict records whole seconds, so that the recorded time gives the same verdict."""
    moment = PACK.tcb_infos[0].value.next_update
    late = moment + timedelta(microseconds=999_999)
    assert not PACK.tcb_infos[0].current(late)
    assert _judge(PACK, late).dumps() == _judge(PACK, moment).dumps()


def test_an_artefact_without_next_update_is_never_current() -> None:
    (crl,) = PACK.root_ca_crls
    endless = replace(crl, next_update=None)
    assert not endless.current(AT)
    assert failed(_judge(replace(PACK, root_ca_crls=(endless,)))) == {"TDX-ROOT-CRL-FRESH"}


MISSING = {
    "tcb_infos": {
        "TDX-TCB-INFO-SIGNATURE", "TDX-TCB-INFO-FRESH", "TDX-TCB-INFO-MATCH",
        "TDX-MODULE-IDENTITY", "TDX-TCB-LEVEL", "TDX-MODULE-TCB", "TDX-QE-TCB", "TDX-TCB-STATUS",
    },
    "qe_identities": {
        "TDX-QE-IDENTITY-SIGNATURE", "TDX-QE-IDENTITY-FRESH", "TDX-QE-IDENTITY-MATCH",
        "TDX-TCB-LEVEL", "TDX-MODULE-TCB", "TDX-QE-TCB", "TDX-TCB-STATUS",
    },
    "pck_crls": {"TDX-PCK-CRL-SIGNATURE", "TDX-PCK-CRL-FRESH", "TDX-PCK-REVOCATION"},
    "root_ca_crls": {"TDX-ROOT-CRL-SIGNATURE", "TDX-ROOT-CRL-FRESH", "TDX-CA-REVOCATION"},
}  # fmt: skip


@pytest.mark.parametrize("attribute", MISSING)
def test_what_is_missing_is_not_checked_and_the_verdict_incomplete(attribute: str) -> None:
    verdict = _judge(replace(PACK, **{attribute: ()}))
    assert {finding.code for finding in verdict.failures()} == MISSING[attribute]
    assert {finding.state for finding in verdict.failures()} == {State.NOT_CHECKED}
    assert (verdict.conclusion.value, verdict.exit_code) == ("incomplete", 5)


def test_without_collateral_the_quote_itself_is_still_checked() -> None:
    verdict = _judge(CollateralPack())
    assert (verdict.conclusion.value, verdict.exit_code) == ("incomplete", 5)
    for code in ("TDX-PCK-CHAIN", "TDX-QE-REPORT-SIGNATURE", "TDX-QUOTE-SIGNATURE"):
        assert finding_of(verdict, code).state is State.PASS


# --- rollback ------------------------------------------------------------------------------------


def test_one_current_edition_is_no_rollback() -> None:
    assert _judge(PACK).trusted
    assert _judge(_issued(20, 18).merged(PACK)).trusted


@pytest.mark.parametrize("attribute", MISSING)
def test_a_later_edition_that_has_ended_shows_a_rollback(attribute: str) -> None:
    """The only current edition is older than one that was published before and has ended."""
    ended = _issued(40, 25, life=35)
    pack = replace(PACK, **{attribute: (*getattr(PACK, attribute), *getattr(ended, attribute))})
    assert failed(_judge(pack)) == {"TDX-COLLATERAL-ROLLBACK"}


def test_a_later_edition_of_the_future_is_no_rollback() -> None:
    """What is dated after the evaluation time was not known then."""
    assert _judge(PACK.merged(_issued(-5, 25))).trusted


def test_a_forged_later_edition_is_no_rollback() -> None:
    ended = _issued(40, 25, life=35)
    forged = tuple(replace(info, signature=bytes(64)) for info in ended.tcb_infos)
    assert _judge(replace(PACK, tcb_infos=(*PACK.tcb_infos, *forged))).trusted
    chainless = tuple(replace(info, issuer_chain=()) for info in ended.tcb_infos)
    assert _judge(replace(PACK, tcb_infos=(*PACK.tcb_infos, *chainless))).trusted
    unsigned = replace(CASE, root_crl=replace(CASE.root_crl, signer=CASE.pck.key).with_number(99))
    crls = (*PACK.root_ca_crls, *_pack(_dated_root(unsigned)).root_ca_crls)
    assert _judge(replace(PACK, root_ca_crls=crls)).trusted


def _dated_root(case: SimCase) -> SimCase:
    root = replace(case.root_crl, this_update=AT - 40 * DAY, next_update=AT - 5 * DAY)
    return replace(case, root_crl=root)


def test_a_later_edition_of_another_platform_is_no_rollback() -> None:
    other = replace(SimPlatform(), fmspc=b"OTHER\0", ca="processor").case()
    start = AT - 40 * DAY
    info = replace(
        other.tcb_info,
        issue_date=start,
        next_update=start + 35 * DAY,
        tcb_evaluation_data_number=99,
    )
    crl = replace(other.pck_crl, this_update=start, next_update=start + 35 * DAY).with_number(99)
    foreign = _pack(replace(other, tcb_info=info, pck_crl=crl))
    pack = replace(
        PACK,
        tcb_infos=(*PACK.tcb_infos, *foreign.tcb_infos),
        pck_crls=(*PACK.pck_crls, *foreign.pck_crls),
    )
    assert _judge(pack).trusted


# --- unknown members -----------------------------------------------------------------------------


def test_unknown_members_count_until_the_policy_allows_them() -> None:
    from ccverify.sim import sign_body

    body = sign_body("tcbInfo", {**CASE.tcb_info.members(), "novel": True}, CASE.tcb_signing.key)
    evidence = replace(EVIDENCE, collateral=replace(EVIDENCE.collateral, tcb_info=body))
    verdict = judge_sim(evidence)
    assert failed(verdict) == {"TDX-COLLATERAL-FIELDS"}
    assert "tcbInfo.novel" in str(finding_of(verdict, "TDX-COLLATERAL-FIELDS").found)
    allowed = judge_sim(evidence, policy(collateral={"allow_unknown_fields": True}))
    assert allowed.trusted
    waived = finding_of(allowed, "TDX-COLLATERAL-FIELDS")
    assert waived.state is State.NOT_APPLICABLE
    assert "tcbInfo.novel" in str(waived.found)
