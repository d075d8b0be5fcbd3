"""What a bundle's own checks find, what they cannot find, and what finds that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sealing import NONCE, OTHER, SIGNER, TIME, Parts, bundle, closed, quote
from vectors.judging import ANY_IMAGE, sim_pack, sim_trust

from ccverify import State, check, policy_from_document
from ccverify.bundle.manifest import Gathered
from ccverify.bundle.package import parse_bundle, seal
from ccverify.bundle.verify_bundle import BundleAppraisal, appraise_bundle
from ccverify.checks import CHECKS, Scope
from ccverify.collect.model import AbsenceReason, Item, ItemType
from ccverify.errors import UsageError
from ccverify.evidence import BindingProfile, EventLogFormat
from ccverify.findings import Assurance
from ccverify.sim import SimPlatform

CODES = [entry.code for entry in CHECKS if entry.scope is Scope.BUNDLE]
SIGNATURE, KEY, MANIFEST = "BUNDLE-SIGNATURE", "BUNDLE-KEY", "BUNDLE-MANIFEST"
BUNDLE = bundle()
PARTS = Parts.of(BUNDLE)
OTHER_NONCE = bytes(range(32))
OTHERS = Parts.of(bundle(OTHER_NONCE, OTHER), OTHER)
"""Another session: another request, another key."""


def failed(data: bytes, nonce: bytes | None = NONCE) -> set[str]:
    return {f.code for f in appraise_bundle(data, nonce).findings if f.state is State.FAIL}


def stale(parts: Parts) -> bytes:
    """Put together under the signature of the bundle as it was."""
    return parts.bytes(signature=BUNDLE[-96:])


# --- an honest bundle ---


def test_an_honest_bundle_passes_every_check() -> None:
    found = appraise_bundle(BUNDLE, NONCE)
    assert [f.code for f in found.findings] == CODES
    assert {f.state for f in found.findings} == {State.PASS}
    assert {f.assurance for f in found.findings} == {Assurance.ASSERTED}
    assert found.observation == b"{}"


def test_the_evidence_of_a_bundle() -> None:
    found = appraise_bundle(BUNDLE, NONCE)
    evidence, read = found.evidence, found.bundle
    assert evidence
    assert read
    made = closed()
    assert evidence.quote == b"quote" + made.report_data
    assert [device.source for device in evidence.gpus] == ["gpu-0", "gpu-1"]
    assert [device.source for device in evidence.switches] == ["nvswitch-0"]
    assert all(device.report[4:36] == made.session.device_nonce for device in evidence.gpus)
    assert evidence.gpus[0].claimed_architecture == "HOPPER"
    assert (evidence.event_log, evidence.event_log_format) == (b"a log", EventLogFormat.CCEL)
    binding = evidence.binding
    assert binding.profile is BindingProfile.CCVERIFY
    assert binding.request_nonce == NONCE
    assert binding.session_key_thumbprint == SIGNER.key.thumbprint
    assert binding.manifest_sha384 == made.manifest.sha384
    assert {a.name: a.value for a in evidence.asserted} == {
        "collector": "ccverify test",
        "created": "2026-06-15T12:00:09Z",
    }
    assert read.absences["dstack-log"].reason is AbsenceReason.NOT_PRESENT


def test_dstacks_log_goes_before_the_firmwares() -> None:
    log = Item("dstack-log", ItemType.DSTACK_LOG, b"[]", "dstack guest agent")
    ccel = Item("ccel", ItemType.CCEL, b"a log", "firmware")
    made = closed(parts=[Gathered(log, TIME), Gathered(ccel, TIME)])
    evidence = appraise_bundle(seal(made, quote(made.report_data), SIGNER), NONCE).evidence
    assert evidence
    assert (evidence.event_log, evidence.event_log_format) == (b"[]", EventLogFormat.DSTACK_JSON)


def test_the_nonce_is_given_waived_or_missing() -> None:
    def state(nonce: bytes | None, waived: bool = False) -> State:
        found = appraise_bundle(BUNDLE, nonce, freshness_waived=waived).findings
        return next(f.state for f in found if f.code == "BUNDLE-NONCE")

    assert state(NONCE) is State.PASS
    assert state(OTHER_NONCE) is State.FAIL
    assert state(OTHER_NONCE, waived=True) is State.FAIL
    assert state(None) is State.NOT_CHECKED
    assert state(None, waived=True) is State.NOT_APPLICABLE
    for length in (0, 16, 31, 33, 64):
        with pytest.raises(UsageError):
            appraise_bundle(BUNDLE, bytes(length))


def test_what_does_not_parse() -> None:
    for data in (b"", b"\xd2\x84", BUNDLE[:-1], BUNDLE + b"\0"):
        found = appraise_bundle(data, NONCE)
        assert [f.code for f in found.findings] == CODES
        assert [f.state for f in found.findings] == [State.FAIL] + [State.NOT_CHECKED] * 4
        assert (found.bundle, found.evidence) == (None, None)


# --- somebody on the way, without the session key ---


def _flipped(label: str) -> Parts:
    kind, data, indicator = PARTS.records[label]
    return PARTS.with_records(**{label: [kind, data[:-1] + bytes((data[-1] ^ 1,)), indicator]})


@pytest.mark.parametrize("label", [label for label in PARTS.records if label != "session-key"])
def test_every_single_item_tampered_with(label: str) -> None:
    wanted = {SIGNATURE} if label == "tdx-quote" else {SIGNATURE, MANIFEST}
    assert failed(stale(_flipped(label))) - {"BUNDLE-FORMAT"} == wanted
    assert failed(stale(_flipped(label).signed_by(OTHER))) >= wanted


@pytest.mark.parametrize("label", [label for label in PARTS.records if label != "session-key"])
def test_every_single_item_removed(label: str) -> None:
    without = PARTS.with_records(**{label: None})
    assert failed(stale(without)) == {SIGNATURE, MANIFEST}
    found = {f.code: f for f in appraise_bundle(without.bytes(), NONCE).findings}
    assert f"{label} is " in (found[MANIFEST].found or "")


ATTACKS: dict[str, tuple[Callable[[], bytes], set[str]]] = {
    "nothing": (lambda: BUNDLE, set()),
    "a signature of zeros": (lambda: PARTS.bytes(signature=bytes(96)), {SIGNATURE}),
    "signed by another key that nothing names": (
        lambda: PARTS.signed_by(OTHER).bytes(), {SIGNATURE}),
    "signed by another key, in its place": (
        lambda: _resigned(PARTS).bytes(), {KEY}),
    "signed by another key that only the record names": (
        lambda: PARTS.with_records(session_key=_key(OTHER)).signed_by(OTHER).bytes(), {KEY}),
    "another kid alone": (
        lambda: replace(PARTS, header={**PARTS.header, 4: OTHER.key.thumbprint}).bytes(), {KEY}),
    "another key in the manifest alone": (
        lambda: PARTS.with_manifest(key=OTHER.key.thumbprint).bytes(), {KEY}),
    "an item exchanged": (
        lambda: stale(PARTS.with_records(gpu_0=OTHERS.records["gpu-0"])), {SIGNATURE, MANIFEST}),
    "an item exchanged and listed": (
        lambda: stale(PARTS.with_records(gpu_0=OTHERS.records["gpu-0"]).listing("gpu-0")),
        {SIGNATURE}),
    "two items exchanged with each other": (
        lambda: stale(PARTS.with_records(gpu_0=PARTS.records["gpu-1"],
                                         gpu_1=PARTS.records["gpu-0"])), {SIGNATURE, MANIFEST}),
    "one item twice": (
        lambda: stale(PARTS.with_records(gpu_1=PARTS.records["gpu-0"])), {SIGNATURE, MANIFEST}),
    "an item under another type": (
        lambda: PARTS.with_records(gpu_0=[ItemType.NVIDIA_SWITCH.value,
                                          *PARTS.records["gpu-0"][1:]]).bytes(), {MANIFEST}),
    "an item shortened": (
        lambda: PARTS.with_records(ccel=[ItemType.CCEL.value, b"a lo", 4]).bytes(), {MANIFEST}),
    "an item added": (
        lambda: stale(PARTS.with_records(gpu_2=PARTS.records["gpu-0"])), {SIGNATURE, MANIFEST}),
    "an item added, signed by the session": (
        lambda: PARTS.with_records(gpu_2=PARTS.records["gpu-0"]).bytes(), {MANIFEST}),
    "an item in place of its absence": (
        lambda: PARTS.with_records(dstack_log=[ItemType.DSTACK_LOG.value, b"[]", 4]).bytes(),
        {MANIFEST}),
    "an item and its entry removed": (
        lambda: stale(PARTS.with_records(gpu_1=None).with_entry("gpu-1", None)), {SIGNATURE}),
    "an absence removed": (lambda: stale(PARTS.with_entry("dstack-log", None)), {SIGNATURE}),
    "an absence with another reason": (
        lambda: stale(PARTS.with_entry("dstack-log", {
            **PARTS.manifest["items"]["dstack-log"], "absent": "not-asked"})), {SIGNATURE}),
    "an item declared absent": (
        lambda: stale(PARTS.with_entry("gpu-1", PARTS.manifest["items"]["dstack-log"])),
        {SIGNATURE, MANIFEST}),
    "the quote of another session": (
        lambda: stale(PARTS.with_records(tdx_quote=OTHERS.records["tdx-quote"])), {SIGNATURE}),
    "no quote and no reason": (
        lambda: PARTS.with_records(tdx_quote=None).bytes(), {MANIFEST}),
    "a quote and its absence": (
        lambda: PARTS.with_entry("tdx-quote", PARTS.manifest["items"]["dstack-log"]).bytes(),
        {MANIFEST}),
    "the manifest of another session": (
        lambda: stale(replace(PARTS, manifest=OTHERS.manifest)),
        {SIGNATURE, KEY, MANIFEST, "BUNDLE-NONCE"}),
    "the key of another session": (
        lambda: stale(PARTS.with_records(session_key=_key(OTHER))), {SIGNATURE, KEY}),
    "another session as a whole": (lambda: OTHERS.bytes(), {"BUNDLE-NONCE"}),
    "another session with the nonce written over": (
        lambda: OTHERS.with_manifest(nonce=NONCE).signed_by(SIGNER).bytes(), {SIGNATURE}),
    "the digest in the manifest": (
        lambda: PARTS.with_entry("ccel", {
            **PARTS.manifest["items"]["ccel"], "sha384": bytes(48)}).bytes(), {MANIFEST}),
    "the size in the manifest": (
        lambda: PARTS.with_entry("ccel", {
            **PARTS.manifest["items"]["ccel"], "size": 6}).bytes(), {MANIFEST}),
    "a device that cannot be read": (
        lambda: PARTS.with_records(
            gpu_0=[ItemType.NVIDIA_GPU.value, b"\xa0", 4]).listing("gpu-0").bytes(),
        {"BUNDLE-FORMAT"}),
}  # fmt: skip


def _key(signer: Any) -> list[Any]:
    return ["application/cose-key", signer.key.encoded, 4]


def _resigned(parts: Parts) -> Parts:
    """What somebody does who has only a key of his own: the manifest stays as it was."""
    header = {**parts.header, 4: OTHER.key.thumbprint}
    return replace(parts.with_records(session_key=_key(OTHER)), header=header, signer=OTHER)


@pytest.mark.parametrize("name", ATTACKS)
def test_attacks(name: str) -> None:
    make, wanted = ATTACKS[name]
    assert failed(make()) == wanted


def test_replay_with_another_nonce() -> None:
    assert failed(BUNDLE, OTHER_NONCE) == {"BUNDLE-NONCE"}


def test_an_unreadable_device_is_named_and_never_judged_as_absent() -> None:
    found = appraise_bundle(ATTACKS["a device that cannot be read"][0](), NONCE)
    (bad,) = [f for f in found.findings if f.state is State.FAIL]
    assert "gpu-0" in (bad.found or "")
    assert found.evidence
    assert [device.source for device in found.evidence.gpus] == ["gpu-1"]


def test_long_lists_of_problems_are_cut() -> None:
    many = PARTS.with_records(**{f"gpu-{n}": PARTS.records["gpu-0"] for n in range(100, 200)})
    finding = next(f for f in appraise_bundle(many.bytes(), NONCE).findings if f.code == MANIFEST)
    assert finding.found
    assert finding.found.endswith("; and 92 more")
    assert len(finding.found) < 1000


@given(st.data())
def test_no_changed_byte_goes_unnoticed(data: st.DataObject) -> None:
    changed = bytearray(BUNDLE)
    at = data.draw(st.integers(0, len(changed) - 1))
    changed[at] ^= data.draw(st.integers(1, 255))
    assert failed(bytes(changed))


# --- somebody who makes a bundle of his own: only the quote stands against it ---

POLICY = policy_from_document(
    {
        "schema": "ccverify.policy/v1",
        "tdx": {k: v for k, v in ANY_IMAGE.items() if k != "report_data"},
        "gpus": "any",
        "nvswitches": "any",
        "binding": {"profiles": ["ccverify"], "relayable": "accept"},
    }
)


def _real(nonce: bytes = NONCE, signer: Any = SIGNER) -> Parts:
    """A bundle whose quote verifies under the simulated root."""
    made = closed(nonce, signer)
    own = SimPlatform().case(report_data=made.report_data).build().quote_bytes
    return Parts.of(seal(made, replace(quote(b""), data=own), signer), signer)


HONEST = _real()
HONEST_OTHER = _real(OTHER_NONCE, OTHER)
PLATFORM = SimPlatform().case().build()


def judged(data: bytes) -> tuple[BundleAppraisal, Any]:
    found = appraise_bundle(data, NONCE)
    assert found.evidence
    verdict = check(
        found.evidence,
        policy=POLICY,
        now=PLATFORM.at,
        nonce=NONCE,
        collateral=sim_pack(PLATFORM),
        trust=sim_trust(PLATFORM),
    )
    return found, next(f for f in verdict.findings if f.code == "TDX-REPORT-DATA")


def test_the_quote_ties_an_honest_bundle_to_the_machine() -> None:
    found, tie = judged(HONEST.bytes())
    assert {f.state for f in found.findings} == {State.PASS}
    assert tie.state is State.PASS
    assert tie.assurance is Assurance.HARDWARE


FORGERIES: dict[str, Callable[[], Parts]] = {
    "everything by another key": lambda: HONEST.with_key(OTHER),
    "the quote of another session": lambda: HONEST.with_records(
        tdx_quote=HONEST_OTHER.records["tdx-quote"]
    ),
    "another session's bundle under this nonce": lambda: HONEST_OTHER.with_manifest(nonce=NONCE),
    "an item exchanged, listed": lambda: HONEST.with_records(
        gpu_0=HONEST_OTHER.records["gpu-0"]
    ).listing("gpu-0"),
    "an item removed, with its entry": lambda: HONEST.with_records(gpu_1=None).with_entry(
        "gpu-1", None
    ),
    "an absence removed": lambda: HONEST.with_entry("dstack-log", None),
    "an absence added": lambda: HONEST.with_entry("gpu-9", HONEST.manifest["items"]["dstack-log"]),
    "a time changed": lambda: HONEST.with_manifest(created=TIME + 10),
}


HONEST_REPORT_DATA = {
    "": closed().report_data.hex(),
    "the quote of another session": closed(OTHER_NONCE, OTHER).report_data.hex(),
    "another session's bundle under this nonce": closed(OTHER_NONCE, OTHER).report_data.hex(),
}
"""What the quote of each forgery really holds: that of the session it was made in."""


@pytest.mark.parametrize("name", FORGERIES)
def test_what_only_the_quote_finds(name: str) -> None:
    """Made by whoever holds the key that signs: consistent, and not what the TD quoted."""
    found, tie = judged(FORGERIES[name]().bytes())
    assert {f.state for f in found.findings} == {State.PASS}
    assert tie.state is State.FAIL
    assert tie.found == HONEST_REPORT_DATA.get(name, HONEST_REPORT_DATA[""])


def test_parsing_keeps_the_exact_bytes_of_the_manifest() -> None:
    read = parse_bundle(HONEST.bytes())
    assert read.manifest.encoded in HONEST.bytes()
