"""What many test modules share: where real evidence lies, policies, and one call to judge."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from ccverify import (
    CollateralPack,
    Finding,
    Policy,
    State,
    TrustAnchor,
    TrustKind,
    TrustStore,
    Verdict,
    check,
    parse_collateral,
    policy_from_document,
)
from ccverify.sim import SimEvidence

TDX_VECTORS = Path(__file__).resolve().parents[3] / "shared" / "vectors" / "tdx"
ABSENT = "../shared/vectors is absent: real-evidence tests need it"

ANY_IMAGE = {
    "measurements": dict.fromkeys(("mrtd", "rtmr0", "rtmr1", "rtmr2", "rtmr3"), "any"),
    "report_data": "any",
}
EVERY_STATUS = (
    "UpToDate",
    "SWHardeningNeeded",
    "ConfigurationNeeded",
    "ConfigurationAndSWHardeningNeeded",
    "TDRelaunchAdvised",
    "TDRelaunchAdvisedConfigurationNeeded",
    "OutOfDate",
    "OutOfDateConfigurationNeeded",
)


def policy(**tdx: Any) -> Policy:
    """Return a policy that any image and any REPORTDATA passes, with sections replaced."""
    return policy_from_document({"schema": "ccverify.policy/v1", "tdx": {**ANY_IMAGE, **tdx}})


DEFAULT = policy()


@cache
def real_pack(path: str | None) -> CollateralPack:
    """Return the collateral of the corpus under that path; an empty pack for None."""
    if path is None:
        return CollateralPack()
    return parse_collateral((TDX_VECTORS / path).read_bytes())


def sim_trust(evidence: SimEvidence) -> TrustStore:
    return TrustStore(TrustKind.SIMULATED, TrustAnchor.load(evidence.root_der))


def sim_pack(evidence: SimEvidence) -> CollateralPack:
    return parse_collateral(evidence.collateral.to_json().encode())


def judge_sim(
    evidence: SimEvidence, rules: Policy = DEFAULT, *, now: datetime | None = None, **more: Any
) -> Verdict:
    """Judge simulated evidence under its own root."""
    arguments: dict[str, Any] = {"nonce": None, "trust": sim_trust(evidence)} | more
    if "collateral" not in arguments:
        arguments["collateral"] = sim_pack(evidence)
    return check(evidence.quote_bytes, policy=rules, now=now or evidence.at, **arguments)


def judge_real(
    quote: bytes, collateral: str | None, now: datetime, rules: Policy = DEFAULT
) -> Verdict:
    """Judge real evidence under the pinned roots."""
    return check(
        quote,
        policy=rules,
        now=now,
        nonce=None,
        collateral=real_pack(collateral),
        trust=TrustStore.production(),
    )


def failed(verdict: Verdict) -> set[str]:
    """Codes of the needed checks that failed."""
    return {finding.code for finding in verdict.failures() if finding.state is State.FAIL}


def finding_of(verdict: Verdict, code: str) -> Finding:
    """The one finding with that code."""
    (found,) = (finding for finding in verdict.findings if finding.code == code)
    return found


@dataclass(frozen=True)
class Answer:
    """A verdict in the words of other verifiers: a TCB status with advisories, or a refusal."""

    status: str | None
    advisories: frozenset[str] = frozenset()


REFUSED = Answer(None)


def tcb_answer(verdict: Verdict) -> Answer:
    """TCB status and advisories of a trusted verdict; `REFUSED` for any other."""
    if not verdict.trusted or verdict.tdx is None:
        return REFUSED
    values = verdict.tdx.values
    return Answer(values["tcb_status"], frozenset(values["advisory_ids"]))
