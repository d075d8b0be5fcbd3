"""Checking a bundle against itself and the relying party's nonce, and taking out its evidence.

These checks show that one holder of one key put all of it together for one nonce.  Anybody can
make such a key.  What ties it to a machine is REPORTDATA in the quote, which covers nonce, key
and manifest: TDX-REPORT-DATA under the binding profile ``ccverify``, judged with the evidence.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha384

from ccverify.bundle.cose import sign1_problem
from ccverify.bundle.endorsement import parse_operator_signature
from ccverify.bundle.items import device_evidence, parse_device
from ccverify.bundle.manifest import OUTSIDE, QUOTE_LABEL
from ccverify.bundle.model import ItemType
from ccverify.bundle.package import NONCE_BYTES, Bundle, parse_bundle
from ccverify.bundle.tpm_item import parse_tpm_item
from ccverify.errors import EvidenceError, UsageError
from ccverify.evidence import (
    Assertion,
    BindingInputs,
    BindingProfile,
    DeviceEvidence,
    EventLogFormat,
    Evidence,
)
from ccverify.findings import Assurance, Finding, FindingList

__all__ = ["BundleAppraisal", "appraise_bundle", "verify_bundle"]

_SELF = Assurance.ASSERTED
"""What these checks rest on by themselves: a key that anybody can make."""

_MAX_NAMED = 8
"""Labels named in one finding; the rest is counted."""


@dataclass(frozen=True, slots=True)
class BundleAppraisal:
    """What a bundle's own checks found, and the evidence in it.

    Attributes:
        findings: one for each check of ``BUNDLE-``, in the order of the registry.
        bundle: the bundle; None if it does not parse.
        evidence: for `ccverify.check`; None if the bundle does not parse.  It is there whatever
            the findings say: a judge must see all of them.
    """

    findings: tuple[Finding, ...]
    bundle: Bundle | None = None
    evidence: Evidence | None = None

    @property
    def observation(self) -> bytes | None:
        """The fabric observation; None if there is none."""
        found = self.bundle.of_type(ItemType.FABRIC_OBSERVATION) if self.bundle else {}
        return next(iter(found.values()), None)


def appraise_bundle(
    data: bytes, nonce: bytes | None, *, freshness_waived: bool = False
) -> BundleAppraisal:
    """Parse and verify a bundle; bad bundles never raise.

    Args:
        data: the file.
        nonce: the relying party's own, 32 bytes; None if it has none at hand.
        freshness_waived: whether the policy does without a nonce of its own.

    Raises:
        UsageError: `nonce` has the wrong length.
    """
    _require_nonce(nonce)
    try:
        bundle = parse_bundle(data)
    except EvidenceError as problem:
        findings = FindingList()
        expected = problem.expected or "a bundle as docs/spec/bundle.md describes it"
        found = problem.summary
        findings.failed("BUNDLE-FORMAT", expected, found, problem.where)
        for code in ("BUNDLE-SIGNATURE", "BUNDLE-KEY", "BUNDLE-MANIFEST", "BUNDLE-NONCE"):
            findings.skipped(code, "the bundle does not parse")
        return BundleAppraisal(tuple(findings))
    return verify_bundle(bundle, nonce, freshness_waived=freshness_waived)


def verify_bundle(
    bundle: Bundle, nonce: bytes | None, *, freshness_waived: bool = False
) -> BundleAppraisal:
    """Verify a bundle: signature, key, manifest, items and nonce.

    Args:
        bundle: from `parse_bundle`.
        nonce: the relying party's own, 32 bytes; None if it has none at hand.
        freshness_waived: whether the policy does without a nonce of its own.

    Raises:
        UsageError: `nonce` has the wrong length.
    """
    _require_nonce(nonce)
    findings = FindingList()
    gpus, bad_gpus = _devices(bundle, ItemType.NVIDIA_GPU)
    switches, bad_switches = _devices(bundle, ItemType.NVIDIA_SWITCH)
    _judge(findings, "BUNDLE-FORMAT", [*bad_gpus, *bad_switches, *_bad_binders(bundle)],
           expected="items of the form their types say", found=_described(bundle))  # fmt: skip
    problem = sign1_problem(bundle.signed, bundle.session_key)
    _judge(findings, "BUNDLE-SIGNATURE", [problem] if problem else [],
           expected="a valid signature of the session key over the whole bundle",
           found=bundle.signed.algorithm.name)  # fmt: skip
    _judge(findings, "BUNDLE-KEY", list(_key_problems(bundle)),
           expected="one thumbprint in header, manifest and session key",
           found=bundle.manifest.key.hex())  # fmt: skip
    _judge(findings, "BUNDLE-MANIFEST", list(_item_problems(bundle)),
           expected="exactly the items that the manifest lists, byte for byte",
           found=f"SHA-384 {bundle.manifest.sha384.hex()}")  # fmt: skip
    _judge_nonce(findings, bundle, nonce, freshness_waived)
    return BundleAppraisal(
        tuple(findings),
        bundle,
        _evidence(bundle, gpus, switches),
    )


def _require_nonce(nonce: bytes | None) -> None:
    if nonce is not None and len(nonce) != NONCE_BYTES:
        raise UsageError("nonce of a bundle has the wrong length", found=f"{len(nonce)} bytes",
                         expected=f"{NONCE_BYTES} bytes")  # fmt: skip


def _described(bundle: Bundle) -> str:
    return f"version 1, {len(bundle.items)} items, {len(bundle.absences)} absences"


def _judge(
    findings: FindingList, code: str, problems: list[str], *, expected: str, found: str
) -> None:
    if not problems:
        findings.passed(code, found, assurance=_SELF)
        return
    shown = problems[:_MAX_NAMED]
    if len(problems) > len(shown):
        shown.append(f"and {len(problems) - len(shown)} more")
    findings.failed(code, expected, "; ".join(shown))


def _judge_nonce(findings: FindingList, bundle: Bundle, nonce: bytes | None, waived: bool) -> None:
    code, stated = "BUNDLE-NONCE", bundle.manifest.nonce
    if nonce is not None:
        if hmac.compare_digest(stated, nonce):
            findings.passed(code, stated.hex(), assurance=_SELF)
        else:
            findings.failed(code, nonce.hex(), stated.hex(), "manifest.nonce")
    elif waived:
        reason = f"the policy waives freshness: {stated.hex()} is the bundle's own nonce"
        findings.not_applicable(code, reason)
    else:
        findings.skipped(code, "no nonce of the relying party was given")


def _key_problems(bundle: Bundle) -> Iterator[str]:
    thumbprint = bundle.session_key.thumbprint
    for name, found in (("manifest", bundle.manifest.key), ("header", bundle.signed.kid or b"")):
        if not hmac.compare_digest(found, thumbprint):
            yield f"the {name} names the key {found.hex()}, the session key is {thumbprint.hex()}"


def _item_problems(bundle: Bundle) -> Iterator[str]:
    """Compare items with manifest entries, both ways."""
    listed, absent = bundle.manifest.items, bundle.absences
    for label, entry in listed.items():
        record = bundle.items.get(label)
        if record is None:
            yield f"{label} is listed and not there"
        elif record.type != entry.type.value:
            yield f"{label} is of type {record.type}, listed as {entry.type.value}"
        elif len(record.value) != entry.size:
            yield f"{label} has {len(record.value)} bytes, listed with {entry.size}"
        elif sha384(record.value).digest() != entry.sha384:
            yield f"{label} is not the item whose digest is listed"
    for label in bundle.items:
        if label in absent:
            yield f"{label} is there and listed as absent"
        elif label not in listed and label not in OUTSIDE:
            yield f"{label} is there and not listed"
    if QUOTE_LABEL not in bundle.items and QUOTE_LABEL not in absent:
        yield f"{QUOTE_LABEL} is not there, and the manifest does not say why"


# --- evidence -----------------------------------------------------------------------------------


def _devices(bundle: Bundle, kind: ItemType) -> tuple[tuple[DeviceEvidence, ...], list[str]]:
    """Return the devices of one kind, and why others cannot be read."""
    devices, problems = [], []
    for label, data in bundle.of_type(kind).items():
        try:
            devices.append(device_evidence(label, parse_device(data, what=label)))
        except EvidenceError as problem:
            problems.append(problem.message)
    return tuple(devices), problems


def _bad_binders(bundle: Bundle) -> Iterator[str]:
    """Say which items that bind the session key cannot be read; the quote is judged by itself."""
    readers: tuple[tuple[bytes | None, Callable[[bytes], object]], ...] = (
        (bundle.tpm_quote, parse_tpm_item),
        (bundle.operator_signature, parse_operator_signature),
    )
    for data, read in readers:
        try:
            _ = data is not None and read(data)
        except EvidenceError as problem:
            yield problem.summary


def _evidence(
    bundle: Bundle,
    gpus: tuple[DeviceEvidence, ...],
    switches: tuple[DeviceEvidence, ...],
) -> Evidence:
    manifest = bundle.manifest
    log, log_format = _event_log(bundle)
    return Evidence(
        quote=bundle.quote,
        event_log=log,
        gpus=gpus,
        switches=switches,
        binding=BindingInputs(
            BindingProfile.CCVERIFY,
            request_nonce=manifest.nonce,
            session_key_thumbprint=bundle.session_key.thumbprint,
            manifest_sha384=manifest.sha384,
        ),
        event_log_format=log_format,
        asserted=(
            Assertion("collector", manifest.collector, "manifest.collector"),
            Assertion("created", _utc(manifest.created), "manifest.created"),
        ),
    )


def _event_log(bundle: Bundle) -> tuple[bytes | None, EventLogFormat | None]:
    """Return the log to judge: dstack's, which names the application, before the firmware's."""
    for kind, stated in (
        (ItemType.DSTACK_LOG, EventLogFormat.DSTACK_JSON),
        (ItemType.CCEL, EventLogFormat.CCEL),
    ):
        for log in bundle.of_type(kind).values():
            return log, stated
    return None, None


def _utc(seconds: int) -> str:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    return moment.isoformat().replace("+00:00", "Z")
