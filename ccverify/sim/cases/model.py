"""What a fixture case is: ingredients, circumstances, and the verdict that must follow."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

from ccverify.sim import defaults
from ccverify.sim.collateral import Collateral, SignedBody
from ccverify.sim.defects import DEFECTS
from ccverify.sim.eventlog import replay
from ccverify.sim.platform import DEFAULT_REPORT_DATA, SimCase, SimEvidence, SimPlatform

__all__ = [
    "NONCE",
    "Expected",
    "FixtureCase",
    "Json",
    "Make",
    "case",
    "chain_entry",
    "defect",
    "full_pack",
    "honest",
    "incomplete",
    "no_collateral",
    "pack",
    "pack_entries",
    "policy",
    "refused",
    "trusted",
    "untrusted",
    "v3",
    "with_collateral",
]

Json = dict[str, Any]
Make = Callable[[], SimCase | SimEvidence]
Outcome = Literal["trusted", "untrusted", "incomplete", "refused"]

NONCE = bytes(range(0xA0, 0xC0))
"""The relying party's nonce, 32 bytes, of the cases that use one."""


# --- what must follow ---


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """The verdict that the specification demands.

    Attributes:
        verdict: ``refused`` when the collateral or the request itself is malformed, so that
            there is nothing to judge by.
        exit_code: 0 trusted, 1 impossible request, 2 malformed evidence, 3 not authentic,
            4 policy not met, 5 collateral, 6 incomplete, 10 nothing to check.
        failed: codes of the checks that fail.
        not_checked: codes of the needed checks that cannot be made.
        error: code of the declared error, for ``refused``.
        claims: claims of the verdict that the case is about.
    """

    verdict: Outcome
    exit_code: int
    failed: tuple[str, ...] = ()
    not_checked: tuple[str, ...] = ()
    error: str | None = None
    claims: Json = field(default_factory=dict)


_OTHER = ("BIND", "DEVICES", "GPU", "NODE", "NVSWITCH", "SET", "TOPOLOGY", "TRUST")


def _codes(names: Iterable[str]) -> tuple[str, ...]:
    """Full codes; a name that starts like no other group of checks is one of the TD."""
    return tuple(
        name if name.partition("-")[0] in _OTHER else f"TDX-{name.removeprefix('TDX-')}"
        for name in names
    )


def trusted(**claims: Any) -> Expected:
    """Return the expectation that everything needed passes."""
    return Expected(verdict="trusted", exit_code=0, claims=claims)


def untrusted(
    exit_code: int, failed: str, not_checked: Iterable[str] = (), **claims: Any
) -> Expected:
    """Return the expectation that the named checks (without ``TDX-``) fail, and no other."""
    return Expected(
        verdict="untrusted",
        exit_code=exit_code,
        failed=_codes(failed.split()),
        not_checked=_codes(not_checked),
        claims=claims,
    )


def incomplete(exit_code: int, not_checked: Iterable[str] | str) -> Expected:
    """Return the expectation that nothing fails and the named checks cannot be made."""
    names = not_checked.split() if isinstance(not_checked, str) else not_checked
    return Expected(verdict="incomplete", exit_code=exit_code, not_checked=_codes(names))


def refused(error: str = "COLLATERAL-FORMAT", exit_code: int = 5) -> Expected:
    """Return the expectation that collateral (or the request) is refused before judging."""
    return Expected(verdict="refused", exit_code=exit_code, error=error)


# --- a case ---


@dataclass(frozen=True, slots=True, kw_only=True)
class FixtureCase:
    """One directory of the corpus.

    Attributes:
        name: kebab case, unique: the directory.
        description: one line, why the verdict is what it is.
        attacks: attack classes (A1, A2, ...) the case belongs to.
        steps: steps of TDX verification (1 to 20) the case exercises.
        expected: the verdict that must follow.
        make: makes quote, collateral and logs.
        collateral: collateral file from the evidence; None: no file.
        event_log: log file from the evidence; None: no file.
        policy: the tenant's policy document.
        at: evaluation time.
        nonce, report_data: what the relying party expects in REPORTDATA; at most one.
    """

    name: str
    description: str
    attacks: tuple[str, ...]
    steps: tuple[int, ...]
    expected: Expected
    make: Make
    collateral: Callable[[SimEvidence], str | None]
    event_log: Callable[[SimEvidence], bytes] | None
    policy: Json
    at: datetime
    nonce: bytes | None
    report_data: bytes | None

    def evidence(self) -> SimEvidence:
        """Make the evidence."""
        made = self.make()
        return made.build() if isinstance(made, SimCase) else made


def v3(evidence: SimEvidence) -> str | None:
    """Return the collateral as ``QuoteCollateralV3``."""
    return evidence.collateral.to_json()


def no_collateral(_evidence: SimEvidence) -> str | None:
    """Return no collateral at all."""
    return None


def case(
    name: str,
    description: str,
    make: Make,
    expected: Expected,
    *,
    covers: str,
    policy: Json | None = None,
    collateral: Callable[[SimEvidence], str | None] = v3,
    log: Callable[[SimEvidence], bytes] | None = None,
    at: datetime = defaults.DEFAULT_TIME,
    nonce: bytes | None = None,
    report_data: bytes | None = DEFAULT_REPORT_DATA,
) -> FixtureCase:
    """Return one row of the table; `covers` lists attacks (``A12``) and steps (``17``)."""
    marks = dict.fromkeys(covers.split())
    return FixtureCase(
        name=name,
        description=description,
        attacks=tuple(mark for mark in marks if mark.startswith("A")),
        steps=tuple(int(mark) for mark in marks if mark.isdigit()),
        expected=expected,
        make=make,
        collateral=collateral,
        event_log=log,
        policy=_policy() if policy is None else policy,
        at=at,
        nonce=nonce,
        report_data=None if nonce is not None else report_data,
    )


def honest(platform: SimPlatform | None = None, **arguments: Any) -> SimCase:
    """Return an honest attestation; arguments are those of `SimPlatform.case`."""
    return (platform or SimPlatform()).case(**arguments)


def defect(name: str, platform: SimPlatform | None = None) -> Make:
    """Return the maker of a named defect of `ccverify.sim.defects`."""
    return lambda: DEFECTS[name].evidence(platform)


# --- policies ---


def _boot_registers() -> tuple[str, ...]:
    extends = [(own.mr_index - 1, own.extended) for own in defaults.DEFAULT_BOOT_EVENTS]
    return tuple(register.hex() for register in replay(extends))


_MEASUREMENTS: Json = {
    "mrtd": [defaults.MR_TD.hex()],
    **{f"rtmr{number}": [value] for number, value in enumerate(_boot_registers())},
}


def policy(*, measurements: Json | None = None, **sections: Any) -> Json:
    """Return the usual policy, which lists the honest image, with sections of ``tdx`` added.

    A measurement of None is left out of the list, so that the policy is silent on it.
    """
    listed = {k: v for k, v in (_MEASUREMENTS | (measurements or {})).items() if v is not None}
    tdx = {**sections, "measurements": listed} if listed else sections
    return {"schema": "ccverify.policy/v1", "name": "simulated TD", "tdx": tdx}


_policy = policy


# --- collateral packs ---


def _signed_entry(kind: str, body: SignedBody, chain: str) -> Json:
    return {
        "type": kind,
        "body": body.text,
        "signature": body.signature.hex(),
        "issuer_chain": chain,
    }


def pack_entries(own: Collateral) -> dict[str, Json]:
    """Return the entries of a collateral pack, by type."""

    def text(der: bytes) -> str:
        return base64.b64encode(der).decode("ascii")

    return {
        "tcb-info": _signed_entry("tcb-info", own.tcb_info, own.tcb_info_issuer_chain),
        "qe-identity": _signed_entry("qe-identity", own.qe_identity, own.qe_identity_issuer_chain),
        "pck-crl": {
            "type": "pck-crl",
            "der": text(own.pck_crl),
            "issuer_chain": own.pck_crl_issuer_chain,
        },
        "root-ca-crl": {"type": "root-ca-crl", "der": text(own.root_ca_crl)},
    }


def chain_entry(pem: str) -> Json:
    """Return the entry of a PCK chain."""
    return {"type": "pck-chain", "pem": pem}


def pack(entries: Iterable[Json]) -> str:
    """Return a collateral pack of these entries, in this order."""
    document = {"schema": "ccverify.collateral/v1", "artefacts": list(entries)}
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def full_pack(*more: Json, without: str | None = None) -> Callable[[SimEvidence], str | None]:
    """Return a maker of the evidence's collateral as a pack, less one type, plus more."""

    def make(evidence: SimEvidence) -> str | None:
        own = pack_entries(evidence.collateral)
        kept = [entry for kind, entry in own.items() if kind != without]
        return pack([*kept, *more])

    return make


def with_collateral(evidence: SimEvidence, **changes: Any) -> SimEvidence:
    """Return the evidence with members of its collateral replaced."""
    return replace(evidence, collateral=replace(evidence.collateral, **changes))
