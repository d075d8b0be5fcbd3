"""Collateral: the shape of what Intel serves, and signatures over the exact text."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from ccverify.sim import ModuleIdentity, SignedBody, SimPlatform, TcbInfo, sign_body
from ccverify.sim.collateral import SGX_COMPONENT_KINDS, components, pcs_time
from ccverify.sim.defaults import DEFAULT_TIME, LADDER, default_qe_identity, default_tcb_info

_COLLATERAL = SimPlatform().evidence().collateral


def check(body: SignedBody, pem: str) -> None:
    signer = x509.load_pem_x509_certificates(pem.encode())[0].public_key()
    assert isinstance(signer, ec.EllipticCurvePublicKey)
    r, s = (int.from_bytes(body.signature[own : own + 32], "big") for own in (0, 32))
    signer.verify(encode_dss_signature(r, s), body.text.encode(), ec.ECDSA(hashes.SHA256()))


def shape(value: Any) -> Any:
    """Member names in order and types of values; lists by their first member."""
    if isinstance(value, dict):
        return [(key, shape(own)) for key, own in value.items()]
    if isinstance(value, list):
        return ["list", shape(value[0])]
    return type(value).__name__


def test_bodies_are_signed_as_served() -> None:
    for body, chain in (
        (_COLLATERAL.tcb_info, _COLLATERAL.tcb_info_issuer_chain),
        (_COLLATERAL.qe_identity, _COLLATERAL.qe_identity_issuer_chain),
    ):
        check(body, chain)
        served = json.loads(body.body())
        assert list(served) == [body.name, "signature"]
        assert bytes.fromhex(served["signature"]) == body.signature
        assert body.text in body.body()
        with pytest.raises(InvalidSignature):
            check(replace(body, text=body.text + " "), chain)


def test_edited_keeps_the_signature() -> None:
    body = _COLLATERAL.tcb_info.edited('"tcbType":0', '"tcbType":1')
    assert body.signature == _COLLATERAL.tcb_info.signature
    assert body.text != _COLLATERAL.tcb_info.text


def test_shape_is_that_of_the_real_bodies(vectors: Path) -> None:
    real = json.loads((vectors / "tdx/collateral/phala_b0c06f_2025-06.json").read_text("utf-8"))
    for name in ("tcb_info", "qe_identity"):
        own = json.loads(getattr(_COLLATERAL, name).text)
        assert shape(own) == shape(json.loads(real[name])), name
    assert list(_COLLATERAL.quote_collateral_v3()) == list(real)
    components_of = [
        [
            {key: own for key, own in member.items() if key != "svn"}
            for member in text["tcbLevels"][0]["tcb"]["sgxtcbcomponents"]
        ]
        for text in (json.loads(_COLLATERAL.tcb_info.text), json.loads(real["tcb_info"]))
    ]
    assert components_of[0] == components_of[1]


def test_real_text_is_ours_when_its_values_are(vectors: Path) -> None:
    """A real QE identity, read and written by our dataclass, gives the same text."""
    text = json.loads((vectors / "tdx/collateral/phala_b0c06f_2025-06.json").read_text("utf-8"))[
        "qe_identity"
    ]
    real = json.loads(text)
    own = default_qe_identity(DEFAULT_TIME)
    level = replace(own.levels[0], isvsvn=4, tcb_date=DEFAULT_TIME.replace(2024, 3, 13, 0))
    own = replace(
        own,
        issue_date=DEFAULT_TIME.replace(2025, 6, 19, 10, 32, 27),
        next_update=DEFAULT_TIME.replace(2025, 7, 19, 10, 32, 27),
        tcb_evaluation_data_number=17,
        mrsigner=bytes.fromhex(real["mrsigner"]),
        levels=(level,),
    )
    assert sign_body("enclaveIdentity", own.members(), SimPlatform().pck().key).text == text


def test_levels_run_down_the_ladder() -> None:
    levels = default_tcb_info(DEFAULT_TIME).levels
    assert [level.status for level in levels] == [own.status for own in LADDER]
    microcodes = [level.sgx_components[0].svn for level in levels]
    assert microcodes == sorted(microcodes, reverse=True)
    assert all(len(own.sgx_components) == len(own.tdx_components) == 16 for own in levels)


def test_optional_members_are_left_out() -> None:
    info = default_tcb_info(DEFAULT_TIME)
    bare = replace(info, module=None, module_identities=None).members()
    assert not {"tdxModule", "tdxModuleIdentities"} & set(bare)
    assert "advisoryIDs" not in info.levels[0].members()
    assert ModuleIdentity().members().keys() == {"mrsigner", "attributes", "attributesMask"}
    named = components((1,) * 17, SGX_COMPONENT_KINDS)
    assert len(named) == 17
    assert named[0].members() == {"svn": 1, "category": "BIOS", "type": "Early Microcode Update"}
    assert named[16].members() == {"svn": 1}
    assert len(components((1,) * 3, SGX_COMPONENT_KINDS)) == 3


def test_members_are_new_each_time() -> None:
    info: TcbInfo = default_tcb_info(DEFAULT_TIME)
    info.members()["tcbLevels"][0]["tcb"].clear()
    assert info.members()["tcbLevels"][0]["tcb"]["pcesvn"] == 13


def test_windows_differ_and_hold_the_time() -> None:
    case = SimPlatform().case()
    windows = [
        (case.tcb_info.issue_date, case.tcb_info.next_update),
        (case.qe_identity.issue_date, case.qe_identity.next_update),
        (case.pck_crl.this_update, case.pck_crl.next_update),
        (case.root_crl.this_update, case.root_crl.next_update),
    ]
    assert len({end for _, end in windows}) == len({start for start, _ in windows}) == 4
    for start, end in windows:
        assert end is not None
        assert start < case.at < end
    assert pcs_time(case.at) == "2026-06-15T12:00:00Z"


def test_service_answers(vectors: Path) -> None:
    answers = _COLLATERAL.pcs_responses()
    headers = {name: dict(own.headers) for name, own in answers.items()}
    folder = vectors / "tdx/captures/chutes_20260610"
    captured = json.loads(next(folder.glob("0003_*.json")).read_text("utf-8"))["headers"]
    own_chain = headers["tcb_info"]["TCB-Info-Issuer-Chain"]
    real_chain = captured["Tcb-Info-Issuer-Chain"][0]
    assert unquote(own_chain) == _COLLATERAL.tcb_info_issuer_chain
    # Same escapes: exactly those of percent-encoded PEM.
    assert own_chain.startswith("-----BEGIN%20CERTIFICATE-----%0A")
    assert own_chain.endswith(real_chain[-32:])
    assert not set("+/= \n") & set(own_chain)
    assert json.loads(answers["qe_identity"].body)["enclaveIdentity"]["id"] == "TD_QE"
    assert x509.load_der_x509_crl(answers["pck_crl"].body).issuer is not None
    assert answers["root_ca_crl"].body == _COLLATERAL.root_ca_crl


def test_served_pck_chain_is_optional() -> None:
    assert "pck_certificate_chain" not in _COLLATERAL.quote_collateral_v3()
    served = replace(_COLLATERAL, pck_certificate_chain="PEM")
    assert json.loads(served.to_json())["pck_certificate_chain"] == "PEM"
