"""The simulation judged by an independent verifier: Phala's dcap-qvl, written in Rust."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from ccverify.sim import SimEvidence, SimIssuer, SimPlatform
from ccverify.sim.defects import DEFECTS

dcap_qvl = pytest.importorskip("dcap_qvl", reason="needs the independent verifier dcap-qvl")

# What dcap-qvl 0.7.0 does not look at.  Each is wrong all the same: names and key usage
# (Intel's profile), lengths and counts inside the SGX extension, the PCK component SVNs
# (it compares the CPUSVN), thisUpdate of CRLs, who may sign TCB info, PCEID, the outer
# certification type, trailing data.  A root is a trust anchor to it, without path length.
LENIENT = frozenset(
    {
        "outer-type",
        "pck-aki",
        "pck-ca-cn",
        "pck-ca-key-usage",
        "pck-ca-no-key-usage",
        "pck-cn",
        "pck-crl-future",
        "pck-key-usage",
        "quote-trailing-data",
        "root-crl-future",
        "root-path-length",
        "sgx-15-svns",
        "sgx-17-svns",
        "sgx-cpusvn-contradicts",
        "sgx-fmspc-twice",
        "sgx-ppid-short",
        "tcb-info-pce-id",
        "tcb-info-signed-by-pck",
        "tcb-signing-cn",
    }
)
# It reads no event logs.
JUDGED = [name for name, own in DEFECTS.items() if own.area != "log" and name not in LENIENT]


def judge(evidence: SimEvidence, now_secs: int | None = None) -> Any:
    collateral = dcap_qvl.QuoteCollateralV3.from_json(evidence.collateral.to_json())
    return dcap_qvl.verify_with_root_ca(
        evidence.quote_bytes,
        collateral,
        evidence.root_der,
        evidence.now_secs if now_secs is None else now_secs,
    )


@pytest.mark.parametrize(("version", "body_type"), [(4, 2), (5, 2), (5, 3), (5, 4)])
@pytest.mark.parametrize("ca", ["platform", "processor"])
def test_default_platform_is_up_to_date(version: Any, body_type: int, ca: Any) -> None:
    verdict = judge(SimPlatform(ca=ca).evidence(version=version, body_type=body_type))
    assert (verdict.status, verdict.advisory_ids) == ("UpToDate", [])


@pytest.mark.parametrize(
    ("status", "advisories"),
    [
        ("SWHardeningNeeded", ["INTEL-SA-99008"]),
        ("ConfigurationNeeded", ["INTEL-SA-99007"]),
        ("ConfigurationAndSWHardeningNeeded", ["INTEL-SA-99007", "INTEL-SA-99008"]),
        ("OutOfDate", ["INTEL-SA-99005"]),
        ("OutOfDateConfigurationNeeded", ["INTEL-SA-99005", "INTEL-SA-99007"]),
    ],
)
@pytest.mark.parametrize(("version", "body_type"), [(4, 2), (5, 3)])
def test_configured_status_comes_out(
    status: str, advisories: list[str], version: Any, body_type: int
) -> None:
    platform = SimPlatform().with_status(status)
    verdict = judge(platform.evidence(version=version, body_type=body_type))
    assert (verdict.status, verdict.advisory_ids) == (status, advisories)


def test_revoked_tcb_is_refused() -> None:
    with pytest.raises(ValueError, match="Revoked"):
        judge(SimPlatform().with_status("Revoked").evidence())


@pytest.mark.parametrize(
    ("launched", "status"),
    [
        ("OutOfDate", "TDRelaunchAdvised"),
        ("OutOfDateConfigurationNeeded", "TDRelaunchAdvisedConfigurationNeeded"),
    ],
)
@pytest.mark.parametrize("body_type", [3, 4])
def test_relaunch_is_advised_after_an_update(launched: str, status: str, body_type: int) -> None:
    platform = SimPlatform().with_relaunch_advised(launched)
    assert judge(platform.evidence(version=5, body_type=body_type)).status == status
    # The TD 1.0 report does not say what is loaded now.
    assert judge(platform.evidence(version=5, body_type=2)).status == launched


def test_old_module_and_old_quoting_enclave_are_out_of_date() -> None:
    module = replace(SimPlatform(), tee_tcb_svn=bytes((4, 1, 9)) + bytes(13))
    assert judge(module.evidence()).advisory_ids == ["INTEL-SA-99001"]
    enclave = replace(SimPlatform(), qe_isv_svn=4)
    assert judge(enclave.evidence()).advisory_ids == ["INTEL-SA-99002"]
    assert {judge(own.evidence()).status for own in (module, enclave)} == {"OutOfDate"}


@pytest.mark.parametrize("name", JUDGED)
def test_defect_is_refused(name: str) -> None:
    evidence = DEFECTS[name].evidence()
    with pytest.raises(ValueError, match="Verification failed"):
        judge(evidence)


@pytest.mark.skipif(
    getattr(dcap_qvl, "__version__", "") != "0.7.0", reason="records what dcap-qvl 0.7.0 accepts"
)
@pytest.mark.parametrize("name", sorted(LENIENT))
def test_lenient_list_is_not_longer_than_needed(name: str) -> None:
    assert judge(DEFECTS[name].evidence()).status == "UpToDate"


def test_at_least_fifteen_defects_are_judged() -> None:
    assert len(JUDGED) >= 15
    assert set(DEFECTS) >= LENIENT


def test_production_root_refuses_the_simulation() -> None:
    evidence = SimPlatform().evidence()
    collateral = dcap_qvl.QuoteCollateralV3.from_json(evidence.collateral.to_json())
    with pytest.raises(ValueError, match="Verification failed"):
        dcap_qvl.verify(evidence.quote_bytes, collateral, evidence.now_secs)


def test_another_seed_is_another_world() -> None:
    other = SimPlatform(issuer=SimIssuer(seed=b"other")).evidence()
    assert judge(other).status == "UpToDate"
    with pytest.raises(ValueError, match="Verification failed"):
        judge(replace(other, root_der=SimIssuer().root().der()))


def test_each_window_ends_on_its_own() -> None:
    """Stepping forward in time meets the four ends in the order of the windows."""
    evidence = SimPlatform().evidence()
    ends = {
        "TCBInfo expired": timedelta(days=27, seconds=1),
        "QE Identity expired": timedelta(days=27, hours=12, seconds=1),
        "CrlExpired": timedelta(days=28, seconds=1),
    }
    for message, delay in ends.items():
        later = SimPlatform().case()
        late = int((evidence.at + delay).timestamp())
        # Keep what ended earlier alive, so that only one window is over.
        if message != "TCBInfo expired":
            extended = replace(later.tcb_info, next_update=evidence.at + timedelta(days=60))
            later = replace(later, tcb_info=extended)
        if message == "CrlExpired":
            identity = replace(later.qe_identity, next_update=evidence.at + timedelta(days=60))
            later = replace(later, qe_identity=identity)
        built = later.build()
        assert judge(built, late - 2).status == "UpToDate"
        with pytest.raises(ValueError, match=message):
            judge(built, late)


def test_parser_reads_the_fields_we_wrote() -> None:
    platform = SimPlatform()
    evidence = platform.evidence(version=5, body_type=4)
    quote = dcap_qvl.parse_quote(evidence.quote_bytes)
    body = evidence.quote
    assert bytes(quote.report.mr_td) == body.part("body.mr_td")
    assert bytes(quote.report.rt_mr1) == body.part("body.rtmr1")
    assert bytes(quote.report.cur_service_td_hash) == body.part("body.cur_servtd_hash")
    assert quote.fmspc() == platform.fmspc.hex().upper()
    extension = quote.pck_extension()
    assert bytes(extension.ppid) == platform.identifier("ppid")
    assert bytes(extension.platform_instance_id) == platform.identifier("platform-instance")
    assert (extension.pce_svn, extension.sgx_type) == (platform.pcesvn, 1)


def test_sgx_quote_is_read_as_sgx_and_refused_with_tdx_collateral() -> None:
    evidence = SimPlatform().case(version=3).build()
    assert not dcap_qvl.parse_quote(evidence.quote_bytes).is_tdx()
    with pytest.raises(ValueError, match="QE Identity"):
        judge(evidence)
