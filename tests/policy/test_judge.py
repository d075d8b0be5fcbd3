"""Every knob of a policy: satisfied, violated, waived."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from vectors.judging import ANY_IMAGE, failed, finding_of, judge_sim, policy, sim_pack

from ccverify import policy_from_document
from ccverify.findings import Assurance, State
from ccverify.sim import PckConfiguration, SimEvidence, SimPlatform
from ccverify.sim.platform import DEFAULT_REPORT_DATA
from ccverify.tdx.attributes import TD_ATTRIBUTES, XFAM_FEATURES, Rule
from ccverify.tdx.collateral import CollateralPack

PLATFORM = SimPlatform()
CASE = PLATFORM.case()
EVIDENCE = CASE.build()
BODY = EVIDENCE.quote
DAY = timedelta(days=1)
P, F, N, A = State.PASS, State.FAIL, State.NOT_CHECKED, State.NOT_APPLICABLE


def _platform(**changes: Any) -> SimEvidence:
    return replace(PLATFORM, **changes).evidence()


def _body(version: int = 4, kind: int = 2, **fields: Any) -> SimEvidence:
    return PLATFORM.case(version=version, body_type=kind, body=fields).build()  # type: ignore[arg-type]


OUT_OF_DATE = PLATFORM.with_status("OutOfDate").evidence()  # its level is of 2024-11-13
CURRENT_WORSE = replace(
    PLATFORM, tee_tcb_svn2=PLATFORM.with_status("OutOfDate").tee_tcb_svn
).evidence(version=5, body_type=3)
GRACE = (CASE.at.date() - CASE.at.date().replace(year=2024, month=11, day=13)).days
H = "00" * 48
MR_TD = BODY.part("body.mr_td").hex()


@dataclass(frozen=True)
class Knob:
    """One policy, one piece of evidence, the state of one finding."""

    code: str
    rules: dict[str, Any]
    state: State
    make: Callable[[], SimEvidence] = lambda: EVIDENCE


def _tcb(**rules: Any) -> dict[str, Any]:
    return {"tcb": rules}


KNOBS: dict[str, Knob] = {
    # --- TCB status and grace
    "status accepted": Knob("TDX-TCB-STATUS", {}, P),
    "status not accepted": Knob("TDX-TCB-STATUS", {}, F, lambda: OUT_OF_DATE),
    "status accepted by name": Knob(
        "TDX-TCB-STATUS", _tcb(accepted_statuses=["OutOfDate"]), P, lambda: OUT_OF_DATE
    ),
    "naming one status drops the default": Knob(
        "TDX-TCB-STATUS", _tcb(accepted_statuses=["OutOfDate"]), F
    ),
    "no status accepted": Knob("TDX-TCB-STATUS", _tcb(accepted_statuses=[]), F),
    "grace not over": Knob(
        "TDX-TCB-STATUS", _tcb(grace_days={"OutOfDate": GRACE + 1}), P, lambda: OUT_OF_DATE
    ),
    "grace over": Knob(
        "TDX-TCB-STATUS", _tcb(grace_days={"OutOfDate": GRACE}), F, lambda: OUT_OF_DATE
    ),
    "grace of another status": Knob(
        "TDX-TCB-STATUS", _tcb(grace_days={"SWHardeningNeeded": 3650}), F, lambda: OUT_OF_DATE
    ),
    "grace never helps a revoked platform": Knob(
        "TDX-TCB-STATUS",
        _tcb(grace_days=dict.fromkeys(("OutOfDate", "UpToDate"), 3650)),
        F,
        lambda: PLATFORM.with_status("Revoked").evidence(),
    ),
    "grace runs from the worse module's date": Knob(
        "TDX-TCB-STATUS", _tcb(grace_days={"OutOfDate": GRACE}), F, lambda: CURRENT_WORSE
    ),
    # --- advisories
    "no advisory rejected": Knob("TDX-TCB-ADVISORIES", {}, A),
    "rejected advisory does not apply": Knob(
        "TDX-TCB-ADVISORIES", _tcb(rejected_advisories=["INTEL-SA-99005"]), P
    ),
    "rejected advisory applies": Knob(
        "TDX-TCB-ADVISORIES",
        _tcb(rejected_advisories=["INTEL-SA-99005"]),
        F,
        lambda: OUT_OF_DATE,
    ),
    "advisories of an unsupported platform": Knob(
        "TDX-TCB-ADVISORIES",
        _tcb(rejected_advisories=["INTEL-SA-99005"]),
        N,
        lambda: _platform(component_svns=(0,) * 16),
    ),
    "rejected advisory of the module that runs now": Knob(
        "TDX-TCB-ADVISORIES",
        _tcb(rejected_advisories=["INTEL-SA-99005"]),
        F,
        lambda: CURRENT_WORSE,
    ),
    # --- evaluation numbers
    "no number asked": Knob("TDX-EVALUATION-NUMBER", {}, A),
    "TCB info number reached": Knob("TDX-EVALUATION-NUMBER", _tcb(min_evaluation_number=20), P),
    "TCB info number missed": Knob("TDX-EVALUATION-NUMBER", _tcb(min_evaluation_number=21), F),
    "QE number reached": Knob("TDX-EVALUATION-NUMBER", _tcb(min_qe_evaluation_number=20), P),
    "QE number missed": Knob("TDX-EVALUATION-NUMBER", _tcb(min_qe_evaluation_number=21), F),
    "one of two numbers missed": Knob(
        "TDX-EVALUATION-NUMBER",
        _tcb(min_evaluation_number=1, min_qe_evaluation_number=21),
        F,
    ),
    "number zero is asked too": Knob("TDX-EVALUATION-NUMBER", _tcb(min_evaluation_number=0), P),
    # --- age
    "no age asked": Knob("TDX-COLLATERAL-AGE", {}, A),
    "young enough": Knob("TDX-COLLATERAL-AGE", {"collateral": {"max_age_days": 3}}, P),
    "too old": Knob("TDX-COLLATERAL-AGE", {"collateral": {"max_age_days": 2}}, F),
    "age zero": Knob("TDX-COLLATERAL-AGE", {"collateral": {"max_age_days": 0}}, F),
    # --- TEE_TCB_SVN
    "no SVN asked": Knob("TDX-TEE-TCB-SVN", {}, A),
    "SVN reached": Knob(
        "TDX-TEE-TCB-SVN", _tcb(min_tee_tcb_svn=PLATFORM.tee_tcb_svn.hex()), P
    ),
    **{
        f"SVN byte {n} missed": Knob(
            "TDX-TEE-TCB-SVN",
            _tcb(min_tee_tcb_svn=(bytes(n) + b"\xff" + bytes(15 - n)).hex()),
            F,
        )
        for n in range(16)
    },
    # --- XFAM
    "feature required and on": Knob("TDX-XFAM", {"xfam": {"require": ["avx512", "amx"]}}, P),
    "feature required and off": Knob("TDX-XFAM", {"xfam": {"require": ["cet"]}}, F),
    "feature required and half on": Knob(
        "TDX-XFAM", {"xfam": {"require": ["cet"]}}, F, lambda: _body(xfam=0x3 | 1 << 11)
    ),
    "feature forbidden and off": Knob("TDX-XFAM", {"xfam": {"forbid": ["cet", "pt"]}}, P),
    "feature forbidden and on": Knob("TDX-XFAM", {"xfam": {"forbid": ["amx"]}}, F),
    "feature forbidden and half on": Knob(
        "TDX-XFAM", {"xfam": {"forbid": ["cet"]}}, F, lambda: _body(xfam=0x3 | 1 << 12)
    ),
    "SSE off": Knob("TDX-XFAM", {}, F, lambda: _body(xfam=0x1)),
    "unknown feature": Knob("TDX-XFAM", {}, F, lambda: _body(xfam=0x3 | 1 << 63)),
    "only what is fixed": Knob("TDX-XFAM", {}, P, lambda: _body(xfam=0x3)),
    # --- service TD
    "no field for a service TD": Knob("TDX-SERVICE-TD", {}, A),
    "no service TD": Knob("TDX-SERVICE-TD", {}, P, lambda: _body(5, 3)),
    "service TD": Knob("TDX-SERVICE-TD", {}, F, lambda: _body(5, 3, mr_service_td=b"\1" * 48)),
    "service TD listed": Knob(
        "TDX-SERVICE-TD",
        {"service_td": ["01" * 48]},
        P,
        lambda: _body(5, 3, mr_service_td=b"\1" * 48),
    ),
    "another service TD listed": Knob(
        "TDX-SERVICE-TD",
        {"service_td": ["02" * 48]},
        F,
        lambda: _body(5, 3, mr_service_td=b"\1" * 48),
    ),
    "no service TD though one is listed": Knob(
        "TDX-SERVICE-TD", {"service_td": ["02" * 48]}, P, lambda: _body(5, 3)
    ),
    **{
        f"{name} {word}": Knob(
            "TDX-SERVICE-TD", rules, state, lambda name=name: _body(5, 4, **{name: b"\1" * 48})
        )
        for name in ("init_servtd_hash", "cur_servtd_hash", "mr_service_td")
        for word, rules, state in (
            ("bound", {}, F),
            ("listed", {"service_td": ["01" * 48]}, P),
        )
    },
    # --- platform
    "no platform named": Knob("TDX-PLATFORM", {}, A),
    "FMSPC listed": Knob("TDX-PLATFORM", {"platform": {"fmspc": [PLATFORM.fmspc.hex()]}}, P),
    "FMSPC not listed": Knob("TDX-PLATFORM", {"platform": {"fmspc": ["00" * 6]}}, F),
    "PPID listed": Knob(
        "TDX-PLATFORM", {"platform": {"ppid": [PLATFORM.identifier("ppid").hex()]}}, P
    ),
    "PPID not listed": Knob("TDX-PLATFORM", {"platform": {"ppid": ["00" * 16]}}, F),
    "instance listed": Knob(
        "TDX-PLATFORM",
        {"platform": {"platform_instance_id": [PLATFORM.identifier("platform-instance").hex()]}},
        P,
    ),
    "instance not listed": Knob(
        "TDX-PLATFORM", {"platform": {"platform_instance_id": ["00" * 16]}}, F
    ),
    "instance absent": Knob(
        "TDX-PLATFORM",
        {"platform": {"platform_instance_id": ["00" * 16]}},
        F,
        lambda: _platform(ca="processor"),
    ),
    **{
        f"{key} {word}": Knob(
            "TDX-PLATFORM",
            {"platform": {key: rule}},
            state,
            lambda flag=flag, field=field: _platform(
                **({"ca": "processor"} if flag is None else
                   {"configuration": replace(PckConfiguration(), **{field: flag})})
            ),
        )
        for key, field in (
            ("smt", "smt_enabled"),
            ("dynamic_platform", "dynamic_platform"),
            ("cached_keys", "cached_keys"),
        )
        for word, rule, flag, state in (
            ("forbidden and on", "forbid", True, F),
            ("forbidden and off", "forbid", False, P),
            ("forbidden and not stated", "forbid", None, F),
            ("allowed and on", "allow", True, A),
        )
    },
    # --- measurements
    **{
        f"{name} {word}": Knob(
            f"TDX-{name.upper()}",
            {"measurements": {**ANY_IMAGE["measurements"], **rules}},  # type: ignore[dict-item]
            state,
        )
        for name, part in (
            ("mrtd", "mr_td"), ("rtmr0", "rtmr0"), ("rtmr1", "rtmr1"), ("rtmr2", "rtmr2"),
            ("rtmr3", "rtmr3"), ("mrseam", "mr_seam"), ("mrconfigid", "mr_config_id"),
            ("mrowner", "mr_owner"), ("mrownerconfig", "mr_owner_config"),
        )
        for word, rules, state in (
            ("listed", {name: ["ff" * 48, BODY.part(f"body.{part}").hex()]}, P),
            ("not listed", {name: ["ff" * 48]}, F),
            ("any", {name: "any"}, A),
        )
    },
    # --- report data
    "any report data": Knob("TDX-REPORT-DATA", {"report_data": "any"}, A),
    "nonce asked, none given": Knob("TDX-REPORT-DATA", {"report_data": "nonce"}, N),
    "report data listed": Knob(
        "TDX-REPORT-DATA", {"report_data": [DEFAULT_REPORT_DATA.hex()]}, P
    ),
    "report data not listed": Knob("TDX-REPORT-DATA", {"report_data": ["00" * 64]}, F),
}  # fmt: skip
_WAIVED = {N, A, P}


@pytest.mark.parametrize("name", KNOBS)
def test_knob(name: str) -> None:
    knob = KNOBS[name]
    verdict = judge_sim(knob.make(), policy(**knob.rules))
    finding = finding_of(verdict, knob.code)
    assert finding.state is knob.state, finding
    if finding.state is F:
        assert finding.expected
        assert finding.found
        assert knob.code in failed(verdict)
    if finding.state is P:
        assert finding.assurance is Assurance.HARDWARE


@pytest.mark.parametrize("rule", [None, *Rule])
@pytest.mark.parametrize("key", [attribute.key for attribute in TD_ATTRIBUTES])
@pytest.mark.parametrize("value", [0, 1])
def test_every_attribute_rule(key: str, rule: Rule | None, value: int) -> None:
    (attribute,) = (a for a in TD_ATTRIBUTES if a.key == key)
    effective = rule or attribute.default
    rules = {} if rule is None else {key: rule.value}
    evidence = CASE.with_body(td_attributes=value << attribute.bit).build()
    code = f"TDX-ATTR-{key.upper().replace('_', '-')}"
    finding = finding_of(judge_sim(evidence, policy(attributes=rules)), code)
    wrong = (effective is Rule.REQUIRE and not value) or (effective is Rule.FORBID and value)
    assert finding.state is (F if wrong else P)
    assert finding.found == str(value)
    if wrong:
        assert finding.expected == ("1" if effective is Rule.REQUIRE else "0")


def test_an_unknown_attribute_cannot_be_waived() -> None:
    everything = {attribute.key: "allow" for attribute in TD_ATTRIBUTES}
    evidence = CASE.with_body(td_attributes=1 << 28 | 1 << 40).build()
    assert failed(judge_sim(evidence, policy(attributes=everything))) == {"TDX-ATTR-RESERVED"}


@pytest.mark.parametrize("feature", [feature.key for feature in XFAM_FEATURES])
def test_every_feature_can_be_required_and_forbidden(feature: str) -> None:
    (mask,) = (f.mask for f in XFAM_FEATURES if f.key == feature)
    on, off = _body(xfam=0x3 | mask), _body(xfam=0x3 & ~mask)
    require, forbid = policy(xfam={"require": [feature]}), policy(xfam={"forbid": [feature]})
    assert "TDX-XFAM" not in failed(judge_sim(on, require))
    assert "TDX-XFAM" in failed(judge_sim(on, forbid))
    assert "TDX-XFAM" in failed(judge_sim(off, require))
    if feature not in ("x87", "sse"):
        assert "TDX-XFAM" not in failed(judge_sim(off, forbid))


# --- silence ---


@pytest.mark.parametrize("name", ["mrtd", "rtmr0", "rtmr1", "rtmr2", "rtmr3"])
def test_silence_on_a_register_that_must_be_stated_is_not_consent(name: str) -> None:
    stated = {key: "any" for key in ANY_IMAGE["measurements"] if key != name}
    verdict = judge_sim(EVIDENCE, policy(measurements=stated))
    assert finding_of(verdict, f"TDX-{name.upper()}").state is N
    assert (verdict.conclusion.value, verdict.exit_code) == ("incomplete", 6)


@pytest.mark.parametrize("name", ["mrseam", "mrconfigid", "mrowner", "mrownerconfig"])
def test_silence_on_the_others_is(name: str) -> None:
    verdict = judge_sim(EVIDENCE)
    assert finding_of(verdict, f"TDX-{name.upper()}").state is A
    assert verdict.trusted


def test_an_empty_policy_trusts_nothing() -> None:
    empty = policy_from_document({"schema": "ccverify.policy/v1", "tdx": {}})
    verdict = judge_sim(EVIDENCE, empty)
    assert not verdict.trusted
    assert {finding.code for finding in verdict.failures()} == {
        "TDX-MRTD", "TDX-RTMR0", "TDX-RTMR1", "TDX-RTMR2", "TDX-RTMR3", "TDX-REPORT-DATA",
    }  # fmt: skip


# --- nonce and report data ---

NONCE = b"0123456789abcdef"
BOUND = PLATFORM.evidence(report_data=NONCE.ljust(64, b"\0"))
LISTED = policy(report_data=[NONCE.ljust(64, b"\0").hex()])
BINDINGS: tuple[tuple[Any, dict[str, Any], State], ...] = (
    (policy(report_data="nonce"), {"nonce": NONCE}, P),
    (policy(report_data="nonce"), {"nonce": NONCE[:-1] + b"X"}, F),
    (policy(report_data="nonce"), {"nonce": NONCE + b"\0"}, P),  # zeros follow anyway
    (policy(report_data="nonce"), {"nonce": NONCE + b"\1"}, F),
    (policy(report_data="nonce"), {"report_data": NONCE.ljust(64, b"\0")}, P),
    (policy(report_data="nonce"), {"report_data": bytes(64)}, F),
    (policy(report_data="any"), {"nonce": NONCE}, P),
    (policy(report_data="any"), {"nonce": b"X" * 16}, F),
    (LISTED, {"nonce": NONCE}, P),
    (LISTED, {"nonce": b"X" * 16}, F),
    (LISTED, {}, P),
    (policy(report_data=["00" * 64]), {"nonce": NONCE}, F),
)


@pytest.mark.parametrize(("rules", "binding", "state"), BINDINGS)
def test_report_data(rules: Any, binding: dict[str, Any], state: State) -> None:
    verdict = judge_sim(BOUND, rules, **binding)
    assert finding_of(verdict, "TDX-REPORT-DATA").state is state
    assert verdict.trusted is (state is P)


# --- age and numbers without collateral ---


def test_age_and_numbers_of_missing_collateral_are_not_checked() -> None:
    rules = policy(collateral={"max_age_days": 30}, tcb={"min_evaluation_number": 1})
    for pack in (
        CollateralPack(),
        replace(sim_pack(EVIDENCE), tcb_infos=()),
    ):
        verdict = judge_sim(EVIDENCE, rules, collateral=pack)
        assert finding_of(verdict, "TDX-COLLATERAL-AGE").state is N
        assert finding_of(verdict, "TDX-EVALUATION-NUMBER").state is N


@pytest.mark.parametrize(("offset", "state"), [(timedelta(0), P), (timedelta(seconds=1), F)])
def test_age_is_exact_to_the_second(offset: timedelta, state: State) -> None:
    """The TCB info is the oldest: issued three days before the case's time."""
    rules = policy(collateral={"max_age_days": 3})
    verdict = judge_sim(EVIDENCE, rules, now=CASE.at + offset)
    assert finding_of(verdict, "TDX-COLLATERAL-AGE").state is state


def _all_levels_of(date: datetime) -> SimEvidence:
    """An out-of-date platform whose every level, of every part, has this tcbDate."""
    case = PLATFORM.with_status("OutOfDate").case()
    dated = tuple(replace(level, tcb_date=date) for level in case.tcb_info.levels)
    identities = tuple(
        replace(m, levels=tuple(replace(level, tcb_date=date) for level in m.levels))
        for m in case.tcb_info.module_identities or ()
    )
    info = replace(case.tcb_info, levels=dated, module_identities=identities)
    levels = tuple(replace(level, tcb_date=date) for level in case.qe_identity.levels)
    identity = replace(case.qe_identity, levels=levels)
    return replace(case, tcb_info=info, qe_identity=identity).build()


@pytest.mark.parametrize(("offset", "state"), [(timedelta(0), P), (timedelta(seconds=1), F)])
def test_grace_is_exact_to_the_second(offset: timedelta, state: State) -> None:
    rules = policy(tcb={"grace_days": {"OutOfDate": 10}})
    verdict = judge_sim(_all_levels_of(CASE.at - 10 * DAY), rules, now=CASE.at + offset)
    assert finding_of(verdict, "TDX-TCB-STATUS").state is state


def test_grace_of_a_far_date_does_not_overflow() -> None:
    """A tcbDate of the year 9999 is a date Intel's format allows."""
    rules = policy(tcb={"grace_days": {"OutOfDate": 3650}})
    verdict = judge_sim(_all_levels_of(CASE.at.replace(year=9999)), rules)
    assert finding_of(verdict, "TDX-TCB-STATUS").state in (P, F)


# --- words ---


def test_a_status_that_is_not_accepted_names_shortfalls_and_advisories() -> None:
    finding = finding_of(judge_sim(OUT_OF_DATE), "TDX-TCB-STATUS")
    assert finding.expected == "UpToDate"
    for word in ("OutOfDate", "SGX TCB component 1", "short of 9", "INTEL-SA-99005"):
        assert word in str(finding.found)


def test_places_point_into_the_quote() -> None:
    """`where` of a finding about a field is exactly where its bytes are."""
    for version, kind in ((4, 2), (5, 3), (5, 4)):
        evidence = _body(version, kind)
        listed = policy(measurements={**ANY_IMAGE["measurements"], "mrtd": [MR_TD]})  # type: ignore[dict-item]
        where = str(finding_of(judge_sim(evidence, listed), "TDX-MRTD").where)
        start, end = map(int, where.removeprefix("quote[").removesuffix("]").split(":"))
        assert evidence.quote_bytes[start:end] == evidence.quote.part("body.mr_td")


def test_lists_of_many_values_are_cut_short_in_words() -> None:
    many = [f"{number:096x}" for number in range(1, 40)]
    rules = policy(measurements={**ANY_IMAGE["measurements"], "mrtd": many})  # type: ignore[dict-item]
    finding = finding_of(judge_sim(EVIDENCE, rules), "TDX-MRTD")
    assert finding.state is F
    assert "35 more" in str(finding.expected)
    assert len(str(finding.expected)) < 600
