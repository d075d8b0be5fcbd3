"""ccverify against dcap-qvl 0.7.0 (Phala, Rust): the same answer, or a listed difference.

Both are asked about every quote of the corpus with every collateral set, about every named
defect of the simulator, and about machines and TCB levels made up at random.  Where they
differ on purpose the tables below say so, with a reason; docs/differences.md is their prose.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from vectors.judging import (
    ABSENT,
    EVERY_STATUS,
    REFUSED,
    TDX_VECTORS,
    Answer,
    failed,
    judge_real,
    judge_sim,
    policy,
    real_pack,
    tcb_answer,
)

from ccverify import CollateralError
from ccverify.sim import (
    ModuleIdentity,
    SimCase,
    SimEvidence,
    SimPlatform,
    SvnLevel,
    TcbComponent,
    TcbLevel,
    sign_body,
)
from ccverify.sim.defects import DEFECTS
from ccverify.tdx.tcb import SEVERITY
from ccverify.tdx.tcb_info import TcbStatus

dcap_qvl = pytest.importorskip("dcap_qvl", reason="needs the independent verifier dcap-qvl")
if dcap_qvl.__version__ != "0.7.0":
    pytest.skip("records the answers of dcap-qvl 0.7.0", allow_module_level=True)

# dcap-qvl judges no TCB status and no PERFMON or TPA bit: neither does this policy.
LENIENT = policy(
    tcb={"accepted_statuses": list(EVERY_STATUS)},
    attributes={"perfmon": "allow", "tpa": "allow"},
)


def theirs(quote: bytes, collateral: str, at: datetime, root: bytes | None = None) -> Answer:
    try:
        bundle = dcap_qvl.QuoteCollateralV3.from_json(collateral)
        seconds = int(at.timestamp())
        report = (
            dcap_qvl.verify(quote, bundle, seconds)
            if root is None
            else dcap_qvl.verify_with_root_ca(quote, bundle, root, seconds)
        )
    except ValueError:
        return REFUSED
    return Answer(report.status, frozenset(report.advisory_ids))


def ours(evidence: SimEvidence, at: datetime | None = None) -> Answer:
    try:
        return tcb_answer(judge_sim(evidence, LENIENT, now=at))
    except CollateralError:
        return REFUSED


def theirs_sim(evidence: SimEvidence, at: datetime | None = None) -> Answer:
    text = evidence.collateral.to_json()
    return theirs(evidence.quote_bytes, text, at or evidence.at, evidence.root_der)


# --- real evidence ------------------------------------------------------------------------

QUOTES = sorted(
    path.relative_to(TDX_VECTORS).as_posix()
    for pattern in ("quotes/*.bin", "quotes/*/*.bin", "intel_sample/quote.dat")
    for path in TDX_VECTORS.glob(pattern)
)
SETS = sorted(
    path.relative_to(TDX_VECTORS).as_posix()
    for path in (*TDX_VECTORS.glob("collateral/*.json"), *TDX_VECTORS.glob("collateral/*/*.json"))
    if '"pck_crl_issuer_chain"' in path.read_text()
)


@dataclass(frozen=True)
class RealDifference:
    """Pairs that are answered differently on purpose."""

    reason: str
    applies: Callable[[str, str, Answer, Answer], bool]


def _is(answer: Answer) -> bool:
    return answer != REFUSED


REAL_DIFFERENCES = (
    RealDifference(
        "the outer certification data type must be 6, as in Intel's library; nobody signs it",
        lambda quote, _, mine, other: "v4_cert_type_5_outer" in quote and not _is(mine),
    ),
    RealDifference(
        "bytes after the quote must be zero; nobody signs them",
        lambda quote, _, mine, other: "v4_trailing_garbage" in quote and not _is(mine),
    ),
    RealDifference(
        "SGX quotes are refused by name, and SGX TCB info with them: ccverify judges TDX",
        lambda quote, pack, mine, _: "sgx" in quote and "sgx" in pack and not _is(mine),
    ),
    RealDifference(
        "a PCK chain in the collateral never replaces the chain in the quote",
        lambda _, pack, mine, other: pack.endswith("near_b0c06f_2026-08.json") and not _is(other),
    ),
)


def _middle(path: str) -> datetime:
    """A time at which every artefact of the set is current."""
    if "_sgx_" in path:
        return datetime(2025, 7, 1, tzinfo=UTC)
    artefacts = real_pack(path).artefacts
    start = max(artefact.issued for artefact in artefacts)
    end = min(artefact.next_update for artefact in artefacts if artefact.next_update)
    return (start + (end - start) / 2).replace(microsecond=0)


@pytest.mark.skipif(not SETS, reason=ABSENT)
@pytest.mark.parametrize("collateral", SETS)
def test_same_answer_for_every_real_quote(collateral: str) -> None:
    text, at = (TDX_VECTORS / collateral).read_text(), _middle(collateral)
    different = []
    for name in QUOTES:
        quote = (TDX_VECTORS / name).read_bytes()
        other = theirs(quote, text, at)
        try:
            mine = tcb_answer(judge_real(quote, collateral, at, LENIENT))
        except CollateralError:
            mine = REFUSED
        if mine != other and not any(
            difference.applies(name, collateral, mine, other) for difference in REAL_DIFFERENCES
        ):
            different.append((name, mine, other))
    assert different == []
    assert len(QUOTES) >= 50


@pytest.mark.skipif(not SETS, reason=ABSENT)
def test_real_pairs_are_not_all_refused() -> None:
    """Guards the test above against agreeing on nothing but refusals."""
    found = {
        theirs((TDX_VECTORS / name).read_bytes(), (TDX_VECTORS / path).read_text(), _middle(path))
        for path in ("collateral/phala_90c06f_2026-02.json", "collateral/phala_b0c06f_2025-06.json")
        for name in QUOTES
    }
    assert {answer.status for answer in found} == {None, "UpToDate", "TDRelaunchAdvised"}


@pytest.mark.skipif(not SETS, reason=ABSENT)
@pytest.mark.parametrize("collateral", [name for name in SETS if "_sgx_" not in name])
@pytest.mark.parametrize("days", [-400, 400])
def test_outside_the_windows_both_refuse(collateral: str, days: int) -> None:
    text, at = (TDX_VECTORS / collateral).read_text(), _middle(collateral) + timedelta(days=days)
    for name in ("quotes/phala_b0c06f_v4.bin", "quotes/google_90c06f_v5_td15.bin"):
        quote = (TDX_VECTORS / name).read_bytes()
        assert theirs(quote, text, at) == REFUSED
        assert tcb_answer(judge_real(quote, collateral, at, LENIENT)) == REFUSED


@pytest.mark.skipif(not SETS, reason=ABSENT)
@pytest.mark.parametrize("reason", [d.reason for d in REAL_DIFFERENCES])
def test_each_real_difference_exists(reason: str) -> None:
    (difference,) = (d for d in REAL_DIFFERENCES if d.reason == reason)
    quote, pack = {
        "the outer": ("quotes/derived/v4_cert_type_5_outer.bin", "phala_b0c06f_2025-06"),
        "bytes aft": ("quotes/derived/v4_trailing_garbage.bin", "phala_b0c06f_2025-06"),
        "SGX quote": ("quotes/sgx_v3_00a067.bin", "phala_sgx_00a067_2025-06"),
        "a PCK cha": ("quotes/captured/chutes_20260629_5787b99f.bin", "near_b0c06f_2026-08"),
    }[reason[:9]]
    collateral = f"collateral/{pack}.json"
    data, at = (TDX_VECTORS / quote).read_bytes(), _middle(collateral)
    other = theirs(data, (TDX_VECTORS / collateral).read_text(), at)
    try:
        mine = tcb_answer(judge_real(data, collateral, at, LENIENT))
    except CollateralError:
        mine = REFUSED
    assert mine != other
    assert difference.applies(quote, collateral, mine, other)


# --- defects of the simulator -------------------------------------------------------------

# Defects ccverify accepts, as dcap-qvl does.
ACCEPTED = {
    "root-path-length": "a root is a trust anchor: pinned as a whole by whoever named it, its own "
    "constraints are not applied (RFC 5280, 6.1); Intel's real root allows one CA below",
}
# Defects dcap-qvl accepts and ccverify refuses → the check that fails.
REFUSED_BY_US_ALONE = {
    "outer-type": "TDX-QUOTE-FORMAT",
    "pck-aki": "TDX-PCK-CHAIN",
    "pck-ca-cn": "TDX-PCK-CHAIN",
    "pck-ca-key-usage": "TDX-PCK-CHAIN",
    "pck-ca-no-key-usage": "TDX-PCK-CHAIN",
    "pck-cn": "TDX-PCK-CHAIN",
    "pck-crl-future": "TDX-PCK-CRL-FRESH",
    "pck-key-usage": "TDX-PCK-CHAIN",
    "quote-trailing-data": "TDX-QUOTE-FORMAT",
    "root-crl-future": "TDX-ROOT-CRL-FRESH",
    "sgx-15-svns": "TDX-PCK-EXTENSION",
    "sgx-17-svns": "TDX-PCK-EXTENSION",
    "sgx-cpusvn-contradicts": "TDX-TCB-LEVEL",
    "sgx-fmspc-twice": "TDX-PCK-EXTENSION",
    "sgx-ppid-short": "TDX-PCK-EXTENSION",
    "tcb-info-pce-id": "TDX-TCB-INFO-MATCH",
    "tcb-info-signed-by-pck": "TDX-TCB-INFO-SIGNATURE",
    "tcb-signing-cn": "TDX-TCB-INFO-SIGNATURE",
}
VERIFIED = [name for name, defect in DEFECTS.items() if defect.area != "log"]


@pytest.mark.parametrize("name", VERIFIED)
def test_defect_is_refused_by_both(name: str) -> None:
    evidence = DEFECTS[name].evidence()
    mine, other = ours(evidence), theirs_sim(evidence)
    if name in ACCEPTED:
        assert mine == other == Answer("UpToDate")
        return
    assert mine == REFUSED
    assert (other == REFUSED) == (name not in REFUSED_BY_US_ALONE)


@pytest.mark.parametrize(("name", "code"), REFUSED_BY_US_ALONE.items())
def test_stricter_than_dcap_qvl(name: str, code: str) -> None:
    assert code in failed(judge_sim(DEFECTS[name].evidence(), LENIENT))


def test_honest_evidence_is_accepted_by_both() -> None:
    evidence = SimPlatform().evidence()
    assert ours(evidence) == theirs_sim(evidence) == Answer("UpToDate")


# --- differences and agreements no named defect shows ---------------------------------------

CASE = SimPlatform().case()
UP_TO_DATE = Answer("UpToDate")
SECOND = timedelta(seconds=1)


def _older(status: str) -> bytes:
    return SimPlatform().with_status(status).tee_tcb_svn


def _tcb_text(change: Callable[[str], str], case: SimCase = CASE) -> SimEvidence:
    """Sign a TCB info whose text was changed."""
    evidence = case.build()
    text = change(evidence.collateral.tcb_info.text)
    body = sign_body("tcbInfo", text, case.tcb_signing.key)
    return replace(evidence, collateral=replace(evidence.collateral, tcb_info=body))


def _with_chain(case: SimCase, chain: str) -> SimEvidence:
    evidence = case.build()
    return replace(evidence, collateral=replace(evidence.collateral, pck_certificate_chain=chain))


def _modules(**changes: object) -> SimEvidence:
    identities = tuple(replace(m, **changes) for m in CASE.tcb_info.module_identities or ())  # type: ignore[arg-type]
    return replace(CASE, tcb_info=replace(CASE.tcb_info, module_identities=identities)).build()


def _levels_upside_down(which: str) -> SimEvidence:
    if which == "module":
        identities = tuple(
            replace(m, levels=m.levels[::-1]) for m in CASE.tcb_info.module_identities or ()
        )
        info = replace(CASE.tcb_info, module_identities=identities)
        return replace(CASE, tcb_info=info).build()
    if which == "platform":
        info = replace(CASE.tcb_info, levels=CASE.tcb_info.levels[::-1])
        return replace(CASE, tcb_info=info).build()
    identity = replace(CASE.qe_identity, levels=CASE.qe_identity.levels[::-1])
    return replace(CASE, qe_identity=identity).build()


def _long_lived(**ends: tuple[str, datetime]) -> SimEvidence:
    """Evidence valid for a long time, but for the given end of one window."""
    far, past = CASE.at + timedelta(days=300), CASE.at - timedelta(days=300)
    case = replace(
        CASE,
        tcb_info=replace(CASE.tcb_info, issue_date=past, next_update=far),
        qe_identity=replace(CASE.qe_identity, issue_date=past, next_update=far),
        pck_crl=replace(CASE.pck_crl, this_update=past, next_update=far),
        root_crl=replace(CASE.root_crl, this_update=past, next_update=far),
    )
    for which, (name, time) in ends.items():
        case = replace(case, **{which: replace(getattr(case, which), **{name: time})})
    return case.build()


def _qe_binding_tail() -> SimEvidence:
    bound = CASE.finished_quote().build().part("qe_report.report_data")
    return CASE.with_quote(qe_report_data=bound[:32] + b"\1" * 32).build()


def _qe_status(status: str) -> SimEvidence:
    levels = tuple(replace(level, status=status) for level in CASE.qe_identity.levels)
    return replace(CASE, qe_identity=replace(CASE.qe_identity, levels=levels)).build()


def _sgx_type(number: int) -> SimEvidence:
    platform = SimPlatform()
    sgx = replace(platform.sgx_extension(), sgx_type=number)
    return replace(CASE, pck=platform.pck(sgx)).build()


def _uptodate_with_advisory() -> SimEvidence:
    first, *rest = CASE.tcb_info.levels
    levels = (replace(first, advisory_ids=("INTEL-SA-99100",)), *rest)
    return replace(CASE, tcb_info=replace(CASE.tcb_info, levels=levels)).build()


@dataclass(frozen=True)
class Difference:
    """Simulated evidence on which the two differ on purpose."""

    make: Callable[[], SimEvidence]
    ours: Answer
    theirs: Answer
    reason: str


UNDOCUMENTED_BITS = set(range(18, 23))
"""TDATTRIBUTES bits dcap-qvl lets pass and no TDX document we know defines."""

DIFFERENCES: dict[str, Difference] = {
    **{
        f"attribute-bit-{bit}": Difference(
            lambda bit=bit: CASE.with_body(td_attributes=1 << 28 | 1 << bit).build(),
            REFUSED,
            UP_TO_DATE,
            "a bit nobody here knows may be a way for the host to reach into the TD",
        )
        for bit in sorted(UNDOCUMENTED_BITS)
    },
    "current-module-worse": Difference(
        lambda: (
            replace(SimPlatform(), tee_tcb_svn2=_older("OutOfDate"))
            .case(version=5, body_type=3)
            .build()
        ),
        Answer("OutOfDate", frozenset({"INTEL-SA-99005"})),
        UP_TO_DATE,
        "a TD whose module was downgraded under it runs on the worse one; Intel's library and "
        "dcap-qvl report the launch status alone",
    ),
    "module-levels-unsorted": Difference(
        lambda: _levels_upside_down("module"),
        UP_TO_DATE,
        Answer("OutOfDate", frozenset({"INTEL-SA-99001"})),
        "levels are walked from the highest down whatever order was served, as in Intel's library",
    ),
    "qe-levels-unsorted": Difference(
        lambda: _levels_upside_down("qe"),
        UP_TO_DATE,
        Answer("OutOfDate", frozenset({"INTEL-SA-99002"})),
        "levels are walked from the highest down whatever order was served, as in Intel's library",
    ),
    "qe-report-data-tail": Difference(
        _qe_binding_tail,
        REFUSED,
        UP_TO_DATE,
        "the 32 bytes after the key hash must be zero, as the quoting enclave writes them",
    ),
    "unknown-member": Difference(
        lambda: _tcb_text(lambda text: text.replace("{", '{"novel":1,', 1)),
        REFUSED,
        UP_TO_DATE,
        "a signed member that is not understood may be a restriction; a policy can allow it",
    ),
    "pck-chain-replaced": Difference(
        lambda: _with_chain(CASE, replace(SimPlatform(), label="neighbour").case().pck_chain()),
        UP_TO_DATE,
        REFUSED,
        "a PCK chain in the collateral never replaces the chain in the quote",
    ),
    "pck-leaf-only": Difference(
        lambda: SimPlatform().case(inner_type=4).build(),
        UP_TO_DATE,
        REFUSED,
        "certification data type 4 is completed with the CA chain of the PCK CRL",
    ),
    "tcb-type": Difference(
        lambda: replace(CASE, tcb_info=replace(CASE.tcb_info, tcb_type=1)).build(),
        REFUSED,
        UP_TO_DATE,
        "another tcbType means another way to compare SVNs, which nobody here knows",
    ),
    "qe-status": Difference(
        lambda: _qe_status("ConfigurationNeeded"),
        REFUSED,
        UP_TO_DATE,
        "Intel defines UpToDate, OutOfDate and Revoked for enclaves; dcap-qvl and Intel's "
        "library read others and then ignore them",
    ),
    "time-offset": Difference(
        lambda: _tcb_text(lambda t: t.replace("06-12T12:00:00Z", "06-12T14:00:00+02:00")),
        REFUSED,
        UP_TO_DATE,
        "times have the one form Intel's service uses, so that no two readers can disagree",
    ),
    "module-attributes-masked": Difference(
        lambda: _modules(attributes=b"\1" + bytes(7), attributes_mask=bytes(8)),
        REFUSED,
        UP_TO_DATE,
        "SEAMATTRIBUTES must equal the identity's and be zero, without a mask, as in Intel's "
        "library",
    ),
    "xfam-fixed": Difference(
        lambda: CASE.with_body(xfam=0).build(),
        REFUSED,
        UP_TO_DATE,
        "no TDX module makes a TD without x87 and SSE",
    ),
    "xfam-unknown": Difference(
        lambda: CASE.with_body(xfam=0x602E7 | 1 << 40).build(),
        REFUSED,
        UP_TO_DATE,
        "an unknown extended feature may let the host observe the TD",
    ),
    "init-service-td": Difference(
        lambda: (
            SimPlatform()
            .case(version=5, body_type=4, body={"init_servtd_hash": b"\1" * 48})
            .build()
        ),
        REFUSED,
        UP_TO_DATE,
        "the hashes of service TDs at first build and now are judged like MRSERVICETD",
    ),
    "current-service-td": Difference(
        lambda: (
            SimPlatform().case(version=5, body_type=4, body={"cur_servtd_hash": b"\1" * 48}).build()
        ),
        REFUSED,
        UP_TO_DATE,
        "the hashes of service TDs at first build and now are judged like MRSERVICETD",
    ),
    "cpusvn-below-components": Difference(
        lambda: replace(SimPlatform(), cpusvn=bytes(16)).evidence(),
        UP_TO_DATE,
        REFUSED,
        "Intel's rule compares the component SVNs .2.1 to .2.16; dcap-qvl the CPUSVN .2.18",
    ),
    "sgx-type": Difference(
        lambda: _sgx_type(3),
        REFUSED,
        UP_TO_DATE,
        "Intel's profile defines 0, 1 and 2",
    ),
    "auth-data-empty": Difference(
        lambda: CASE.with_quote(auth_data=b"").build(),
        UP_TO_DATE,
        REFUSED,
        "the format gives the length of the authentication data; it is hashed, whatever it is",
    ),
    "pck-crl-last-second": Difference(
        lambda: _long_lived(pck_crl=("next_update", CASE.at)),
        UP_TO_DATE,
        REFUSED,
        "every window includes both its ends; dcap-qvl leaves out a CRL's last second",
    ),
    "root-crl-last-second": Difference(
        lambda: _long_lived(root_crl=("next_update", CASE.at)),
        UP_TO_DATE,
        REFUSED,
        "every window includes both its ends; dcap-qvl leaves out a CRL's last second",
    ),
}


@pytest.mark.parametrize("name", DIFFERENCES)
def test_difference(name: str) -> None:
    row = DIFFERENCES[name]
    evidence = row.make()
    assert row.ours != row.theirs
    assert (ours(evidence), theirs_sim(evidence)) == (row.ours, row.theirs)


@pytest.mark.parametrize("bit", [62, 63])
def test_default_policy_forbids_what_dcap_qvl_ignores(bit: int) -> None:
    """TPA and PERFMON: the lenient policy of this module allows them, the default does not."""
    evidence = CASE.with_body(td_attributes=1 << 28 | 1 << bit).build()
    assert theirs_sim(evidence) == ours(evidence) == UP_TO_DATE
    assert not judge_sim(evidence).trusted


_OUT_OF_DATE_MODULE = Answer("OutOfDate", frozenset({"INTEL-SA-99001"}))
AGREEMENTS: dict[str, tuple[Callable[[], SimEvidence], Answer]] = {
    "platform-levels-unsorted": (lambda: _levels_upside_down("platform"), UP_TO_DATE),
    "module-id-lower-case": (
        lambda: _tcb_text(lambda t: t.replace('"TDX_01"', '"tdx_01"')),
        UP_TO_DATE,
    ),
    "duplicate-key": (
        lambda: _tcb_text(lambda t: t.replace('"version":3', '"version":3,"version":3')),
        REFUSED,
    ),
    "qe-identity-version-3": (
        lambda: replace(CASE, qe_identity=replace(CASE.qe_identity, version=3)).build(),
        UP_TO_DATE,
    ),
    "advisories-of-an-up-to-date-level": (
        _uptodate_with_advisory,
        Answer("UpToDate", frozenset({"INTEL-SA-99100"})),
    ),
    "module-major-0": (
        lambda: replace(SimPlatform(), tee_tcb_svn=bytes((5, 0, 9)) + bytes(13)).evidence(),
        UP_TO_DATE,
    ),
    "module-major-0-too-old": (
        lambda: replace(SimPlatform(), tee_tcb_svn=bytes((4, 0, 9)) + bytes(13)).evidence(),
        REFUSED,
    ),
    "module-major-3-ignores-bytes-0-and-1": (
        lambda: replace(SimPlatform(), tee_tcb_svn=bytes((4, 3, 9)) + bytes(13)).evidence(),
        _OUT_OF_DATE_MODULE,
    ),
    "current-module-revoked": (
        lambda: (
            replace(SimPlatform(), tee_tcb_svn2=_older("Revoked"))
            .case(version=5, body_type=3)
            .build()
        ),
        REFUSED,
    ),
    "current-module-unsupported": (
        lambda: (
            replace(SimPlatform(), tee_tcb_svn2=bytes((6, 1)) + bytes(14))
            .case(version=5, body_type=3)
            .build()
        ),
        REFUSED,
    ),
    "zero-padding": (lambda: CASE.with_quote(padding=bytes(100)).build(), UP_TO_DATE),
    "header-svns": (lambda: CASE.with_header(qe_svn=3, pce_svn=4).build(), UP_TO_DATE),
    "crl-without-number": (
        lambda: replace(
            CASE, pck_crl=replace(CASE.pck_crl, extensions=CASE.pck_crl.extensions[1:])
        ).build(),
        UP_TO_DATE,
    ),
    "outer-algorithm-differs": (
        lambda: replace(CASE, pck=replace(CASE.pck, stated_hash="sha384")).build(),
        REFUSED,
    ),
    "inner-algorithm-differs": (lambda: _inner_algorithm(), REFUSED),
    "sha384-with-p256": (
        lambda: replace(CASE, pck=replace(CASE.pck, hash_name="sha384")).build(),
        REFUSED,
    ),
    **{
        f"ppid-type-{kind}-with-chain": (
            lambda kind=kind: _with_chain(SimPlatform().case(inner_type=kind), CASE.pck_chain()),
            UP_TO_DATE,
        )
        for kind in (1, 2, 3)
    },
    **{
        f"attribute-bit-{bit}": (
            lambda bit=bit: CASE.with_body(td_attributes=1 << 28 | 1 << bit).build(),
            UP_TO_DATE if bit in (16, 27, 28, 30, 31, 62, 63) else REFUSED,
        )
        for bit in set(range(64)) - UNDOCUMENTED_BITS
    },
}


def _inner_algorithm() -> SimEvidence:
    """A certificate that says SHA-384 where it is signed and SHA-256 where it is not."""
    pck = replace(CASE.pck, hash_name="sha384", stated_hash="sha256")
    signature = CASE.pck_ca.key.sign_der(pck.tbs(), "sha256")
    return replace(CASE, pck=replace(pck, signature=signature)).build()


@pytest.mark.parametrize("name", AGREEMENTS)
def test_agreement(name: str) -> None:
    make, answer = AGREEMENTS[name]
    evidence = make()
    assert (ours(evidence), theirs_sim(evidence)) == (answer, answer)


_WINDOWS = (
    ("tcb_info", "issue_date", "next_update"),
    ("qe_identity", "issue_date", "next_update"),
    ("pck", "not_before", "not_after"),
    ("pck_ca", "not_before", "not_after"),
    ("tcb_signing", "not_before", "not_after"),
)


@pytest.mark.parametrize(("which", "start", "end"), _WINDOWS, ids=[w[0] for w in _WINDOWS])
def test_both_include_the_ends_of_a_window(which: str, start: str, end: str) -> None:
    for name, inside, outside in (
        (start, CASE.at, CASE.at + SECOND),
        (end, CASE.at, CASE.at - SECOND),
    ):
        within, beyond = (_long_lived(**{which: (name, time)}) for time in (inside, outside))
        assert ours(within) == theirs_sim(within) == UP_TO_DATE
        assert ours(beyond) == theirs_sim(beyond) == REFUSED


# --- machines and levels at random -----------------------------------------------------------

DATE = datetime(2025, 1, 1, tzinfo=UTC)
PLATFORM_STATUSES = (
    "UpToDate", "UpToDate", "SWHardeningNeeded", "ConfigurationNeeded",
    "ConfigurationAndSWHardeningNeeded", "OutOfDate", "OutOfDateConfigurationNeeded", "Revoked",
)  # fmt: skip
ENCLAVE_STATUSES = ("UpToDate",) * 6 + ("OutOfDate",) * 3 + ("Revoked",)


def _platform_levels(draw: random.Random) -> tuple[TcbLevel, ...]:
    keys = {tuple(draw.randrange(3) for _ in range(5)) for _ in range(draw.randrange(1, 7))}
    if draw.random() < 0.8:
        keys.add((0, 0, 0, 0, 0))
    return tuple(
        TcbLevel(
            sgx_components=tuple(TcbComponent(svn) for svn in (sgx,) + (0,) * 15),
            pcesvn=pcesvn,
            tdx_components=tuple(TcbComponent(svn) for svn in (minor, major, late) + (0,) * 13),
            tcb_date=DATE + timedelta(days=number),
            status=draw.choice(PLATFORM_STATUSES),
            advisory_ids=(f"INTEL-SA-{number:05}",),
        )
        for number, (sgx, pcesvn, minor, major, late) in enumerate(sorted(keys, reverse=True))
    )


def _svn_levels(draw: random.Random, advisory: str) -> tuple[SvnLevel, ...]:
    svns = {draw.randrange(4) for _ in range(3)} | ({0} if draw.random() < 0.9 else set())
    return tuple(
        SvnLevel(
            isvsvn=svn,
            tcb_date=DATE,
            status=draw.choice(ENCLAVE_STATUSES),
            advisory_ids=(f"{advisory}{svn}",),
        )
        for svn in sorted(svns, reverse=True)
    )


def _random_machine(draw: random.Random) -> SimEvidence:
    """A machine, levels and module identities of small numbers, so that all kinds of ties occur."""
    svn = (0, 1, 1, 2, 2, 3)
    tee = [bytes((draw.choice(svn), draw.choice((0, 1, 1, 3)), draw.choice(svn))) for _ in "lc"]
    if draw.random() < 0.4:
        tee[1] = tee[0][:1] + tee[0][1:2] + bytes((draw.choice(svn),))
    platform = SimPlatform(
        component_svns=(draw.choice(svn),) + (0,) * 15,
        pcesvn=draw.choice(svn),
        qe_isv_svn=draw.choice(svn),
        tee_tcb_svn=tee[0].ljust(16, b"\0"),
        tee_tcb_svn2=tee[1].ljust(16, b"\0"),
    )
    case = platform.case(version=5, body_type=draw.choice((2, 3, 3)))
    identities = tuple(
        ModuleIdentity(id=f"TDX_{n:02X}", levels=_svn_levels(draw, f"INTEL-SA-{n}000"))
        for n in (1, 3)
    )
    info = replace(case.tcb_info, levels=_platform_levels(draw), module_identities=identities)
    identity = replace(case.qe_identity, levels=_svn_levels(draw, "INTEL-SA-2000"))
    return replace(case, tcb_info=info, qe_identity=identity).build()


def test_random_machines_get_the_same_status() -> None:
    draw, seen, worse = random.Random(20), Counter[str | None](), 0
    for number in range(500):
        evidence = _random_machine(draw)
        mine, other = ours(evidence), theirs_sim(evidence)
        seen[mine.status] += 1
        if mine != other:
            # The one difference: the module that runs now is no better than that of the launch.
            assert evidence.quote.part("body_type") == b"\3\0", number
            assert mine.status is not None, number
            assert other.status is not None, number
            ranks = [SEVERITY[TcbStatus(answer.status)] for answer in (mine, other)]
            assert ranks[0] >= ranks[1], number
            assert mine.advisories >= other.advisories, number
            worse += ranks[0] > ranks[1]
    # Guards against agreeing on nothing but refusals.
    assert set(seen) == {None, *EVERY_STATUS}
    assert min(seen.values()) >= 3
    assert sum(seen.values()) - seen[None] >= 200
    assert worse >= 5


def test_every_difference_is_documented() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "differences.md").read_text()
    for name in (*DIFFERENCES, *REFUSED_BY_US_ALONE, *ACCEPTED):
        assert f"`{name}`" in text, name
