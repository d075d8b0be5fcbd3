"""GPUs and NVSwitches, held against a policy.

`ccverify.nvidia.device` establishes facts; here each is weighed by what the tenant says of it.
A finding carries the assurance of the value it judges, which is that of its device.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from ccverify.clock_text import utc_text
from ccverify.findings import Assurance, Finding, FindingList, State
from ccverify.nvidia.certs import FwidOutcome
from ccverify.nvidia.device import DeviceVerification, ManifestLookup
from ccverify.nvidia.gpu import mode_name
from ccverify.nvidia.opaque import GpuOpaqueData
from ccverify.nvidia.revocation import Outcome, RevocationStatus
from ccverify.nvidia.rim import RimVerification
from ccverify.policy.model import Any, CountPolicy, DevicePolicy, RevocationRule, VersionPolicy
from ccverify.policy.versions import driver_accepted, firmware_accepted

__all__ = ["ExpectedNonce", "device_level", "judge_count", "judge_device", "judge_distinct"]

_BAD = frozenset({Outcome.REVOKED, Outcome.ON_HOLD, Outcome.UNKNOWN})
_ANSWERS = frozenset({Outcome.GOOD, Outcome.REVOKED, Outcome.ON_HOLD})
_OUTDATED = frozenset({Outcome.STALE, Outcome.NO_NEXT_UPDATE})


@dataclass(frozen=True, slots=True)
class ExpectedNonce:
    """What the nonce of every device report must be.

    Attributes:
        value: 32 bytes; None where it cannot be derived.
        reason: why it cannot.
        waived: whether the policy gives up the nonce where it cannot be derived.
    """

    value: bytes | None
    reason: str = ""
    waived: bool = False


def judge_device(
    policy: DevicePolicy, device: DeviceVerification, nonce: ExpectedNonce, now: datetime
) -> tuple[FindingList, Assurance]:
    """Judge one device; return its findings and what its values rest on.

    Args:
        policy: the section of its class.
        device: what verification established.
        nonce: what the report must carry.
        now: evaluation time.
    """
    judge = _Judge(policy, device, now)
    if device.genuine:
        judge.authenticity()
    level = device_level([*device.findings, *judge.findings])
    judge.level = level
    judge.nonce(nonce)
    if device.genuine:
        judge.facts()
        judge.manifests()
    return judge.findings, level


def device_level(findings: Iterable[Finding]) -> Assurance:
    """What the values of a device rest on.

    `hardware` when no check that says who signed them has failed or could not be made; what
    the policy waives knowingly does not count.
    """
    decisive = ("CHAIN", "IDENTITY", "REPORT-SIGNATURE", "ARCHITECTURE-CLAIM", "FWID", "REVOCATION")
    ended = {f.code.partition("-")[2]: f.state for f in findings}
    good = (State.PASS, State.NOT_APPLICABLE)
    genuine = all(ended.get(name) in good for name in decisive)
    return Assurance.HARDWARE if genuine else Assurance.NONE


class _Judge:
    """The judgement of one device."""

    def __init__(self, policy: DevicePolicy, device: DeviceVerification, now: datetime) -> None:
        self.policy = policy
        self.device = device
        self.now = now
        self.level = Assurance.NONE
        self.findings = FindingList(device.subject)

    def _code(self, name: str) -> str:
        return f"{self.device.kind.prefix}-{name}"

    def _ended(
        self, name: str, problem: str | None, expected: str, found: str, where: str | None = None
    ) -> None:
        if problem is None:
            self.findings.passed(self._code(name), found, where, self.level)
        else:
            self.findings.failed(self._code(name), expected, problem, where, self.level)

    def _waived(self, name: str, reason: str) -> None:
        self.findings.not_applicable(self._code(name), reason)

    def _skipped(self, name: str, reason: str) -> None:
        self.findings.skipped(self._code(name), reason)

    # --- who signed ---

    def authenticity(self) -> None:
        """FWID and revocation: the steps of authenticity that a policy may waive."""
        self.level = Assurance.HARDWARE
        self._fwid()
        self._revocation()

    def _fwid(self) -> None:
        problem = self.device.fwid
        if problem is None:
            fwid = self.device.chain.fwid if self.device.chain else None
            self._ended("FWID", None, "", fwid.hex() if fwid else "", "certificate [0]")
        elif problem.outcome is not FwidOutcome.NOT_REPORTED:
            self._ended("FWID", problem.text, "the FWID of certificate [0]", "")
        elif self.policy.fwid_required:
            self._skipped("FWID", problem.text)
        else:
            self._waived("FWID", f"{problem.text}, which the policy allows")

    def _revocation(self) -> None:
        statuses, rule = self.device.revocation, self.policy.revocation
        bad = self._bad(statuses)
        current = [status for status in statuses if self._good(status)]
        expected = "good, by a genuine answer for each certificate from [1] on"
        open_ones = [status for status in statuses if status not in current]
        missing = "; ".join(map(_told, open_ones))
        if bad:
            self._ended("REVOCATION", "; ".join(map(_told, bad)), expected, "")
        elif statuses and not missing:
            self._ended("REVOCATION", None, expected, f"{len(current)} certificates are good")
        elif rule is RevocationRule.REQUIRED:
            self._skipped("REVOCATION", missing or "no certificate could be asked about")
        else:
            self._waived("REVOCATION", f"the policy asks `{rule.value}`: {missing}")
        outdated = [s for s in open_ones if s.outcome in _OUTDATED]
        expected = f"an answer for each certificate that is valid at {utc_text(self.now)}"
        # A bad answer is an answer.
        answered = [s for s in statuses if s.outcome in _ANSWERS and s.fresh_problem is None]
        if statuses and len(answered) == len(statuses):
            found = f"{len(answered)} current answers"
            self._ended("REVOCATION-FRESH", None, expected, found)
        elif rule is not RevocationRule.REQUIRED:
            self._waived("REVOCATION-FRESH", f"the policy asks `{rule.value}`")
        elif outdated:
            found = "; ".join(map(_told, outdated))
            self._ended("REVOCATION-FRESH", found, expected, "")
        else:
            self._skipped("REVOCATION-FRESH", missing or "no certificate could be asked about")

    def _good(self, status: RevocationStatus) -> bool:
        hold = status.outcome is Outcome.ON_HOLD and self.policy.allow_hold
        return status.outcome is Outcome.GOOD or hold

    def _bad(self, statuses: Iterable[RevocationStatus]) -> list[RevocationStatus]:
        """Those that fail under every rule, whatever the policy asks."""
        bad = []
        for status in statuses:
            # What an outdated answer says still counts when it is bad.
            said = {status.outcome, status.statement.stated if status.statement else status.outcome}
            worst = said & _BAD - ({Outcome.ON_HOLD} if self.policy.allow_hold else set())
            if worst or status.outcome is Outcome.INVALID:
                bad.append(status)
        return bad

    # --- what it says ---

    def nonce(self, expected: ExpectedNonce) -> None:
        """The nonce of the signed request."""
        report = self.device.report
        where = "report[4:36]"
        if expected.value is None and expected.waived:
            self._waived("NONCE", expected.reason)
        elif report is None:
            self._skipped("NONCE", "the report is not readable")
        elif expected.value is None:
            self._skipped("NONCE", expected.reason)
        else:
            same = hmac.compare_digest(expected.value, report.nonce)
            found = report.nonce.hex()
            self._ended("NONCE", None if same else found, expected.value.hex(), found, where)

    def facts(self) -> None:
        """Architecture, mode, versions and lists."""
        device, policy = self.device, self.policy
        chain, opaque = device.chain, device.opaque
        if chain is None or chain.architecture is None or opaque is None:
            return
        architecture = chain.architecture.value
        is_gpu = isinstance(opaque, GpuOpaqueData)
        accepted = policy.architectures
        self._listed("ARCHITECTURE", accepted, architecture, must_state=is_gpu, what="architecture")
        if isinstance(opaque, GpuOpaqueData):
            reading = opaque.mode_reading
            if reading.problem and not isinstance(policy.modes, Any):
                self._ended("MODE", reading.problem, _one_of(policy.modes or ()), "")
            else:
                found = mode_name(opaque)
                self._listed("MODE", policy.modes, found, must_state=True, what="mode")
            self._version("DRIVER", policy.driver, opaque.driver_version, driver_accepted)
        firmware = "VBIOS" if is_gpu else "BIOS"
        self._version(firmware, policy.vbios, opaque.vbios_version, firmware_accepted)
        self._identifier("FIRMWARE-LIST", policy.firmware_ids, chain.fwid, "firmware id")
        self._identifier("DEVICE-LIST", policy.device_ids, chain.device_id, "device")

    def _listed(
        self, name: str, accepted: frozenset[str] | Any | None, found: str, *,
        must_state: bool, what: str,
    ) -> None:  # fmt: skip
        if isinstance(accepted, Any):
            self._waived(name, f"the policy accepts any {what}")
        elif accepted is not None:
            problem = None if found in accepted else found
            self._ended(name, problem, _one_of(accepted), found)
        elif must_state:
            self._skipped(name, f"the policy says nothing of the {what}, which is {found}")
        else:
            self._waived(name, f"the policy names no {what}")

    def _version(
        self, name: str, rule: VersionPolicy, found: str | None,
        accepted: Callable[[VersionPolicy, str], bool],
    ) -> None:  # fmt: skip
        if rule.silent:
            self._waived(name, f"the policy names no {name.lower()} version")
            return
        wanted = []
        if rule.minimum is not None:
            wanted.append(f"at least {rule.minimum}")
        if rule.accepted is not None:
            wanted.append(_one_of(rule.accepted))
        if rule.rejected:
            wanted.append(f"not {_one_of(rule.rejected)}")
        problem = None
        if found is None:
            problem = "the report states none"
        elif not accepted(rule, found):
            problem = found
        self._ended(name, problem, ", ".join(wanted), found or "")

    def _identifier(
        self, name: str, accepted: frozenset[bytes] | None, found: bytes | None, what: str
    ) -> None:
        if accepted is None:
            self._waived(name, f"the policy lists no {what}s")
        elif found is None:
            self._skipped(name, f"the certificate chain names no {what}")
        else:
            shown = found.hex().upper()
            expected = _one_of(each.hex().upper() for each in accepted)
            self._ended(name, None if found in accepted else shown, expected, shown)

    # --- what it measured ---

    def manifests(self) -> None:
        """Reference manifests, and the measurements compared with them."""
        names = ("RIM", "RIM-SIGNATURE", "RIM-VALIDITY", "RIM-REVOCATION", "MEASUREMENTS")
        if not self.policy.rim_required:
            for name in names:
                self._waived(name, "the policy says `rim: any`")
            return
        device = self.device
        if device.manifest_problem is not None:
            for name in names:
                self._skipped(name, device.manifest_problem)
            return
        lookups = device.manifests
        self._manifests_found(lookups)
        self._manifest_signatures(lookups)
        missing = [each for each in lookups if each.choice.verification is None]
        if missing:
            reason = "; ".join(each.choice.problem or each.wanted.text for each in missing)
            for name in names[2:]:
                self._skipped(name, reason)
            return
        self._manifest_signers(lookups)
        self._measurements()

    def _manifests_found(self, lookups: Sequence[ManifestLookup]) -> None:
        conflicts, absent = [], []
        for each in lookups:
            choice = each.choice
            if choice.verification is None and not choice.refused:
                absent.append(f"{each.wanted.text}: {_reason(choice.problem, each.wanted.text)}")
            if choice.verification is None and choice.conflict:
                conflicts.append(choice.problem or each.wanted.text)
        expected = " and ".join(each.wanted.text for each in lookups)
        if conflicts:
            self._ended("RIM", "; ".join(conflicts), f"one edition of {expected}", "")
        elif absent:
            self._skipped("RIM", "; ".join(absent))
        else:
            self._ended("RIM", None, expected, expected)

    def _manifest_signatures(self, lookups: Sequence[ManifestLookup]) -> None:
        refused = [
            f"{name}: {why}" for each in lookups for name, why in each.choice.refused.items()
            if each.choice.verification is None
        ]  # fmt: skip
        absent = [each.wanted.text for each in lookups if each.choice.verification is None]
        if refused:
            expected = "a signature of NVIDIA's RIM signer, chain to the pinned root"
            self._ended("RIM-SIGNATURE", "; ".join(refused), expected, "")
        elif absent:
            self._skipped("RIM-SIGNATURE", f"there is no {' and no '.join(absent)}")
        else:
            names = " and ".join(each.choice.name or "" for each in lookups)
            self._ended("RIM-SIGNATURE", None, "", names)

    def _manifest_signers(self, lookups: Sequence[ManifestLookup]) -> None:
        verified = [(e.wanted.text, e.choice.verification) for e in lookups]
        expired = "; ".join(
            f"{text}: {v.validity_problem}" for text, v in verified if v and v.validity_problem
        )
        over = all(_is_over(v, self.now) for _, v in verified if v and v.validity_problem)
        if expired and over and self.policy.allow_expired_rim_signer:
            self._waived("RIM-VALIDITY", f"the policy allows expired signers: {expired}")
        else:
            ends = min(v.valid_until for _, v in verified if v)
            expected = f"signers that are valid at {utc_text(self.now)}"
            self._ended("RIM-VALIDITY", expired or None, expected, f"until {utc_text(ends)}")
        rule = self.policy.revocation
        statuses = [status for each in lookups for status in each.revocation]
        bad = self._bad(statuses)
        open_ones = [status for status in statuses if not self._good(status)]
        missing = "; ".join(dict.fromkeys(map(_told, open_ones)))
        name, expected = "RIM-REVOCATION", "good, by a genuine answer for each signer"
        if bad:
            self._ended(name, "; ".join(dict.fromkeys(map(_told, bad))), expected, "")
        elif statuses and not missing:
            self._ended(name, None, expected, f"{len(statuses)} certificates are good")
        elif rule is RevocationRule.REQUIRED:
            self._skipped(name, missing or "no certificate could be asked about")
        else:
            self._waived(name, f"the policy asks `{rule.value}`: {missing}")

    def _measurements(self) -> None:
        comparison = self.device.comparison
        if comparison is None:
            self._skipped("MEASUREMENTS", "there is nothing to compare with")
            return
        indices = ", ".join(str(each.index) for each in comparison.mismatched)
        self._ended(
            "MEASUREMENTS",
            comparison.problem,
            f"all {comparison.total} measurements have a golden value",
            f"{comparison.matched} of {comparison.total} match",
            f"measurements {indices}" if indices else None,
        )


# --- all of one class ---


def judge_count(
    count: CountPolicy | Any | None, devices: Sequence[DeviceVerification], prefix: str
) -> Finding:
    """Judge how many distinct genuine devices of one class there are."""
    code = f"{prefix}-COUNT"
    have = len({each.device_id for each in devices} - {None})
    presented = f"{have} genuine and distinct of {len(devices)} presented"
    if isinstance(count, Any):
        reason = f"the policy accepts any number: {presented}"
        return Finding(code, State.NOT_APPLICABLE, None, reason)
    if count is None:
        reason = f"the policy says nothing of their number: {presented}"
        return Finding(code, State.NOT_CHECKED, None, reason)
    least, most = count.least, count.most
    expected = f"{least}" if least == most else f"{least} to {most}"
    right = least <= have <= most and have == len(devices)
    state = State.PASS if right else State.FAIL
    wanted = None if right else f"{expected} genuine and distinct, and no other"
    return Finding(code, state, wanted, presented, assurance=Assurance.HARDWARE)


def judge_distinct(devices: Sequence[DeviceVerification]) -> Finding:
    """Judge whether identities, attestation keys and reports of all devices are distinct."""
    seen: dict[tuple[str, bytes], str] = {}
    problems = []
    for device in devices:
        marks: list[tuple[str, bytes | None]] = [("identity", device.device_id)]
        if device.chain is not None and device.chain.leaf_key is not None:
            marks.append(("attestation key", device.chain.leaf_key.point))
        if device.report is not None:
            marks.append(("report", device.report.signed_range))
        for what, value in marks:
            if value is None:
                continue
            first = seen.setdefault((what, value), device.subject)
            if first != device.subject:
                problems.append(f"{device.subject} has the {what} of {first}")
                break
    found = f"{len(devices)} devices" if not problems else "; ".join(problems)
    state = State.FAIL if problems else State.PASS
    expected = "identity, key and report of its own for each device" if problems else None
    return Finding("DEVICES-DISTINCT", state, expected, found, assurance=Assurance.HARDWARE)


# --- words and numbers ---


def _told(status: RevocationStatus) -> str:
    name = status.certificate.subject_text
    said = status.statement
    text = f"{name}: {status.outcome.value}"
    if status.problem:
        text += f" ({status.problem})"
    elif said is not None and said.reason:
        text += f" ({said.reason})"
    return text


def _reason(problem: str | None, prefix: str) -> str:
    return (problem or "no such RIM").removeprefix(f"{prefix}: ")


def _is_over(manifest: RimVerification, now: datetime) -> bool:
    """Whether the time of its signer's certificates is over; one that has yet to come is not."""
    begun = manifest.rim is not None and all(
        each.not_before <= now for each in manifest.rim.document.certificates
    )
    return begun and manifest.valid_until < now


def _one_of(values: Iterable[str]) -> str:
    shown = sorted(values)
    rest = f" or one of {len(shown) - 4} more" if len(shown) > 4 else ""
    return " or ".join(shown[:4]) + rest
