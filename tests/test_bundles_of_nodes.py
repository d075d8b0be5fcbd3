"""Bundles of simulated nodes of every kind: honest ones pass, and each attack has its own code.

An attack is tried by ever stronger attackers, each of whom gets past the checks before:

- `COURIER` carries the bundle and has no key;
- `HOLDER` has the session key, and signs the bundle again;
- `SCRIBE` writes the manifest anew, too;
- `GUEST` even asks the genuine machine for a quote over the new manifest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache

import pytest
from bundle.sealing import Parts
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from ccverify import State, TrustKind, TrustStore, Verdict, check, policy_from_document
from ccverify.bundle.cbor import encode
from ccverify.bundle.cose import KeySigner
from ccverify.bundle.items import parse_device
from ccverify.bundle.package import parse_bundle
from ccverify.bundle.verify_bundle import appraise_bundle
from ccverify.cli.sim_sources import machine_sources
from ccverify.cli.sim_trust import matching_policy, simulated_trust
from ccverify.collect.model import ItemType
from ccverify.collect.session import World, collect_bundle
from ccverify.fabric.observation import Absent, parse_observation
from ccverify.sim import MACHINES, SimMachine, sim_machine

NONCE = hashlib.sha256(b"the relying party's nonce").digest()
OTHER_NONCE = hashlib.sha256(b"the nonce of another session").digest()
KEYS = {nonce: ec.derive_private_key(number, ec.SECP384R1())
        for number, nonce in enumerate((NONCE, OTHER_NONCE), 11)}  # fmt: skip
SIGNER = KeySigner(KEYS[NONCE], deterministic=True)
STRANGER = KeySigner(ec.derive_private_key(99, ec.SECP384R1()), deterministic=True)

SMALL, BOARD = "b300-hgx-2", "h100-hgx-8"
EVERY_KIND = pytest.mark.parametrize("name", MACHINES)


machine = cache(sim_machine)


@cache
def bundle_of(name: str, nonce: bytes = NONCE) -> bytes:
    """A bundle as the collector makes it, at the time the machine is simulated for."""
    made = machine(name)
    world = World(new_key=lambda: KEYS[nonce], now=made.at.timestamp, deterministic=True)
    bundle = collect_bundle(nonce, machine_sources(made), world=world).bundle
    assert bundle is not None
    return bundle


def parts_of(name: str, nonce: bytes = NONCE) -> Parts:
    return Parts.of(bundle_of(name, nonce), KeySigner(KEYS[nonce], deterministic=True))


def judge(
    name: str | SimMachine,
    bundle: bytes,
    *,
    nonce: bytes | None = NONCE,
    policy: SimMachine | None = None,
    trust: TrustStore | None = None,
) -> Verdict:
    """Judge by the policy that fits the machine, or another one."""
    made = machine(name) if isinstance(name, str) else name
    given_trust = simulated_trust(made)
    return check(
        bundle,
        policy=policy_from_document(matching_policy(policy or made)),
        now=given_trust.at,
        nonce=nonce,
        collateral=given_trust.collateral.intel,
        nvidia=given_trust.collateral.nvidia,
        trust=trust or given_trust.store,
    )


def codes(verdict: Verdict) -> set[str]:
    """What keeps it from being trusted."""
    assert verdict.trusted is (not verdict.failures()) is (verdict.exit_code == 0)
    return {finding.code for finding in verdict.failures()}


# --- honest nodes --------------------------------------------------------------------------------


@EVERY_KIND
def test_a_node_of_every_kind_passes_a_matching_policy(name: str) -> None:
    verdict = judge(name, bundle_of(name))
    assert (codes(verdict), verdict.exit_code, verdict.simulated) == (set(), 0, True)
    made = machine(name)
    assert len(verdict.gpus) == len(made.node.gpus) == int(name.rpartition("-")[2])
    assert len(verdict.nvswitches) == len(made.node.switches) == (4 if name == BOARD else 0)
    bundle = parse_bundle(bundle_of(name))
    assert set(bundle.absences) == {"dstack-log"} | (set() if name == BOARD else {"nvswitch"})
    assert all(entry.source.startswith("SIMULATED ") for entry in bundle.manifest.items.values())


@EVERY_KIND
def test_no_simulated_bundle_passes_under_other_roots(name: str) -> None:
    bundle = bundle_of(name)
    verdict = judge(name, bundle, trust=TrustStore.production())
    assert (verdict.exit_code, verdict.simulated) == (3, False)
    assert {"TDX-PCK-CHAIN", "GPU-CHAIN"} <= codes(verdict)
    own = simulated_trust(machine(name)).store
    roots = (own.intel_root, own.nvidia_device_root, own.nvidia_rim_root)
    verdict = judge(name, bundle, trust=TrustStore(TrustKind.INSECURE, *roots))
    assert (verdict.exit_code, verdict.simulated) == (3, False)
    assert codes(verdict) == {"TRUST-ROOTS", "BIND-RELAYABLE"}


@EVERY_KIND
def test_another_machine_of_the_kind_does_not_pass(name: str) -> None:
    other = sim_machine(name, instance="2")
    found = codes(judge(name, bundle_of(name), policy=other))
    lists = {"NVSWITCH-DEVICE-LIST"} if name == BOARD else set()
    assert found == {"TDX-PLATFORM", "GPU-DEVICE-LIST", "BIND-RELAYABLE"} | lists


@EVERY_KIND
def test_what_nvml_says_agrees_with_what_devices_sign(name: str) -> None:
    bundle = parse_bundle(bundle_of(name))
    (data,) = bundle.of_type(ItemType.FABRIC_OBSERVATION).values()
    seen = parse_observation(data)
    made = machine(name)
    items = [parse_device(one) for one in bundle.of_type(ItemType.NVIDIA_GPU).values()]
    assert [gpu.uuid for gpu in seen.gpus] == [item.uuid for item in items]
    claims = judge(name, bundle_of(name)).gpus
    assert [gpu.pdi for gpu in seen.gpus] == [one.values["device_id"].lower() for one in claims]
    assert {gpu.vbios for gpu in seen.gpus} == {one.values["vbios"] for one in claims}
    assert {seen.driver} == {one.values["driver"] for one in claims}
    (mode,) = {one.values["mode"] for one in claims}
    assert seen.confidential_computing.multi_gpu_mode == {"SPT": 0, "PPCIE": 1, "MPT": 2}[mode]
    shared = name.startswith(("b200", "b300")) and len(seen.gpus) > 1
    assert mode == ("PPCIE" if name == BOARD else "MPT" if shared else "SPT")
    assert len(seen.peers) == len(seen.gpus) * (len(seen.gpus) - 1)
    for gpu in seen.gpus:
        if name.startswith("rtx"):
            assert isinstance(gpu.links, Absent)
            continue
        assert not isinstance(gpu.links, Absent)
        assert {link.state for link in gpu.links} == {int(len(seen.gpus) > 1)}
        assert gpu.encrypted == int(mode == "MPT")
        behind = {link.remote_bus_id for link in gpu.links}
        assert len(behind) == (len(made.node.switches) or 1)


# --- attacks -------------------------------------------------------------------------------------

COURIER, HOLDER, SCRIBE, GUEST = "courier", "holder", "scribe", "guest"


def sealed(original: Parts, edited: Parts, label: str | None, means: str, name: str) -> bytes:
    """Put edited parts together, as far as the attacker's means go.

    Args:
        original: of the genuine bundle.
        edited: what the attacker changed.
        label: the item that changed, which the manifest shall list; None: it was edited by hand.
        means: the attacker.
        name: of the machine.
    """
    if means in (SCRIBE, GUEST) and label is not None:
        entry = edited.manifest["items"].get(label)
        if label not in edited.records:
            edited = edited.with_entry(label, None)
        elif entry is None or "absent" in entry:
            model = next(v for v in edited.manifest["items"].values() if "sha384" in v)
            kind = edited.records[label][0]
            edited = edited.with_entry(label, {**model, "type": kind}).listing(label)
        else:
            edited = edited.listing(label)
    if means == GUEST:
        quote = machine(name).quote(report_data(edited))
        record = [ItemType.TDX_QUOTE.value, quote, 4]
        edited = edited.with_records(tdx_quote=record)
    if means == COURIER:
        return edited.bytes(signature=_signature(original))
    return edited.bytes()


def _signature(parts: Parts) -> bytes:
    protected = encode(parts.header)
    return parts.signer.sign(encode(["Signature1", protected, b"", parts.payload]))


def report_data(parts: Parts) -> bytes:
    """REPORTDATA, written out from docs/spec/bundle.md."""
    manifest = hashlib.sha384(encode(parts.manifest)).digest()
    start = b"ccverify/report-data/v1" + parts.manifest["nonce"] + parts.manifest["key"]
    return hashlib.sha512(start + manifest).digest()


def flipped(data: bytes, at: int) -> bytes:
    changed = bytearray(data)
    changed[at] ^= 1
    return bytes(changed)


def with_item(parts: Parts, label: str, data: bytes | None) -> Parts:
    """Replace the bytes of an item; None takes it out."""
    kind, _, indicator = parts.records[label]
    return parts.with_records(**{label: None if data is None else [kind, data, indicator]})


def inside(parts: Parts, label: str) -> int:
    """Where to change an item so that it still parses: in a measurement, in a log's events."""
    data = parts.records[label][1]
    if label.startswith(("gpu", "nvswitch")):
        return int(data.index(parse_device(data).report)) + 60
    return {"ccel": 200, "tdx-quote": 220, "ccel-table": 20}.get(label, len(data) - 3)


def items(name: str) -> list[str]:
    return [label for label in parse_bundle(bundle_of(name)).items if label != "tdx-quote"]


PLACES = [(SMALL, label) for label in items(SMALL)] + [(BOARD, "gpu-7"), (BOARD, "nvswitch-2")]
EVERY_ITEM = pytest.mark.parametrize(("name", "label"), PLACES, ids=lambda part: part)
BUNDLE = {"BUNDLE-FORMAT", "BUNDLE-SIGNATURE", "BUNDLE-KEY", "BUNDLE-MANIFEST", "BUNDLE-NONCE"}
OWN = {"gpu": "GPU-", "nvswitch": "NVSWITCH-"}


def ladder(name: str, label: str, edit: Callable[[Parts], Parts]) -> Iterator[tuple[str, set[str]]]:
    """Let each attacker make one edit of one item; yield what keeps the result from passing."""
    original = parts_of(name)
    edited = edit(original)
    assert edited.records != original.records
    for means in (COURIER, HOLDER, SCRIBE, GUEST):
        made = sealed(original, edited, label, means, name)
        yield means, codes(judge(name, made))


def assert_ladder(found: dict[str, set[str]], last: set[str]) -> None:
    """Each attacker is stopped by a check of its own, and by none that is meant for a weaker."""
    assert {"BUNDLE-SIGNATURE", "BUNDLE-MANIFEST"} <= found[COURIER]
    assert found[HOLDER] & BUNDLE == {"BUNDLE-MANIFEST"}
    assert found[SCRIBE] & BUNDLE == set()
    assert "TDX-REPORT-DATA" in found[SCRIBE]
    assert found[GUEST] & (BUNDLE | {"TDX-REPORT-DATA"}) == set()
    assert last <= found[GUEST]
    assert last or not found[GUEST]


@EVERY_ITEM
def test_an_edited_item(name: str, label: str) -> None:
    """What only measured software says, such software may say otherwise; devices sign theirs."""

    def edit(parts: Parts) -> Parts:
        return with_item(parts, label, flipped(parts.records[label][1], inside(parts, label)))

    last = {
        "gpu": {"GPU-REPORT-SIGNATURE"},
        "nvswitch": {"NVSWITCH-REPORT-SIGNATURE"},
        "ccel": {"TDX-EVENTLOG-RTMR0"},
        "fabric": {"FABRIC-OBSERVATION"},
    }
    found = dict(ladder(name, label, edit))
    assert_ladder(found, last.get(label.rstrip("0123456789").rstrip("-"), set()))


@pytest.mark.parametrize(
    ("name", "label"), [p for p in PLACES if p[1][-1].isdigit()], ids=lambda part: part
)
def test_an_item_of_another_session(name: str, label: str) -> None:
    """A genuine report of the same device that answered another nonce."""
    other = parts_of(name, OTHER_NONCE)
    found = dict(ladder(name, label, lambda p: with_item(p, label, other.records[label][1])))
    code = "GPU-NONCE" if label.startswith("gpu") else "NVSWITCH-NONCE"
    assert_ladder(found, {code})


@EVERY_ITEM
def test_an_item_taken_out(name: str, label: str) -> None:
    last = {
        "gpu": {"GPU-COUNT"},
        "nvswitch": {"NVSWITCH-COUNT", "TOPOLOGY-COUNT"},
        "ccel": {"TDX-EVENTLOG-FORMAT"},
        "fabric": {"FABRIC-OBSERVATION"},
    }
    found = dict(ladder(name, label, lambda parts: with_item(parts, label, None)))
    assert_ladder(found, last.get(label.rstrip("0123456789").rstrip("-"), set()))


@pytest.mark.parametrize("label", ["gpu-2", "gpu-77", "nvswitch-0", "dstack-info", "notes"])
def test_an_item_put_in(label: str) -> None:
    foreign = {
        "gpu-2": [ItemType.NVIDIA_GPU.value, parts_of("b300-hgx-4").records["gpu-2"][1], 4],
        "gpu-77": [ItemType.NVIDIA_GPU.value, parts_of(SMALL).records["gpu-1"][1], 4],
        "nvswitch-0": [ItemType.NVIDIA_SWITCH.value, parts_of(BOARD).records["nvswitch-0"][1], 4],
        "dstack-info": [ItemType.DSTACK_INFO.value, b"{}", 4],
        "notes": [ItemType.TD_MEASUREMENTS.value, b"{}", 4],
    }[label]
    last = {
        "gpu-2": {"GPU-COUNT", "GPU-DEVICE-LIST"},
        "gpu-77": {"GPU-COUNT", "DEVICES-DISTINCT"},
        "nvswitch-0": {"NODE-CLASSES"},
    }
    found = {}
    original = parts_of(SMALL)
    edited = original.with_records(**{label: foreign})
    for means in (COURIER, HOLDER, SCRIBE, GUEST):
        if label == "notes" and means in (SCRIBE, GUEST):
            continue  # a second item of its type: the bundle does not parse
        made = sealed(original, edited, label, means, SMALL)
        found[means] = codes(judge(SMALL, made))
    if label == "notes":
        found |= {SCRIBE: {"TDX-REPORT-DATA"}, GUEST: set()}
    assert_ladder(found, last.get(label, set()))


@EVERY_KIND
def test_any_item_of_any_kind_edited_on_the_way(name: str) -> None:
    bundle = bundle_of(name)
    for label, record in parse_bundle(bundle).items.items():
        at = bundle.index(record.value) + len(record.value) - 1
        appraisal = appraise_bundle(flipped(bundle, at), NONCE)
        failed = {f.code for f in appraisal.findings if f.state is State.FAIL}
        expected = {"BUNDLE-SIGNATURE"} | (set() if label == "tdx-quote" else {"BUNDLE-MANIFEST"})
        assert failed - {"BUNDLE-FORMAT"} == expected, label


# --- absences ------------------------------------------------------------------------------------


ABSENCES: dict[str, Callable[[Parts], Parts]] = {
    "removed": lambda p: p.with_entry("nvswitch", None),
    "reworded": lambda p: p.with_entry(
        "nvswitch", {**p.manifest["items"]["nvswitch"], "text": "it was never asked for"}
    ),
    "of another reason": lambda p: p.with_entry(
        "nvswitch", {**p.manifest["items"]["nvswitch"], "absent": "timeout"}
    ),
    "added": lambda p: p.with_entry("gpu-2", p.manifest["items"]["nvswitch"]),
}


@pytest.mark.parametrize("edit", ABSENCES.values(), ids=ABSENCES)
def test_an_absence_is_as_fixed_as_an_item(edit: Callable[[Parts], Parts]) -> None:
    original = parts_of(SMALL)
    edited = edit(original)
    assert edited.manifest != original.manifest
    found = codes(judge(SMALL, sealed(original, edited, None, COURIER, SMALL)))
    assert found == {"BUNDLE-SIGNATURE", "TDX-REPORT-DATA"}
    found = codes(judge(SMALL, sealed(original, edited, None, HOLDER, SMALL)))
    assert found == {"TDX-REPORT-DATA"}


def test_an_item_that_is_listed_as_absent() -> None:
    parts = parts_of(SMALL)
    absence = parts.manifest["items"]["nvswitch"]
    edited = parts.with_entry("fabric", absence)
    found = codes(judge(SMALL, sealed(parts, edited, None, HOLDER, SMALL)))
    assert {"BUNDLE-MANIFEST", "TDX-REPORT-DATA"} <= found


def test_a_quote_cannot_be_explained_away() -> None:
    """Who signs an absence of the quote, and takes it out, is left with no machine at all."""
    parts = with_item(parts_of(SMALL), "tdx-quote", None)
    found = codes(judge(SMALL, parts.bytes()))
    assert {"BUNDLE-MANIFEST", "NODE-CLASSES"} <= found
    absence = parts.manifest["items"]["nvswitch"]
    found = codes(judge(SMALL, parts.with_entry("tdx-quote", absence).bytes()))
    assert "NODE-CLASSES" in found
    assert not found & BUNDLE


# --- nonce, key and quote ------------------------------------------------------------------------


@EVERY_KIND
def test_a_replay_to_another_nonce(name: str) -> None:
    found = codes(judge(name, bundle_of(name), nonce=OTHER_NONCE))
    assert {"BUNDLE-NONCE", "TDX-REPORT-DATA", "GPU-NONCE"} <= found
    assert found & BUNDLE == {"BUNDLE-NONCE"}
    parts = parts_of(name).with_manifest(nonce=OTHER_NONCE)
    found = codes(judge(name, parts.bytes(), nonce=OTHER_NONCE))
    assert {"TDX-REPORT-DATA", "GPU-NONCE"} <= found
    assert not found & BUNDLE
    found = codes(judge(name, sealed(parts, parts, None, GUEST, name), nonce=OTHER_NONCE))
    assert not found & (BUNDLE | {"TDX-REPORT-DATA"})
    assert "GPU-NONCE" in found


@EVERY_KIND
def test_a_bundle_without_a_request_is_not_trusted(name: str) -> None:
    found = codes(judge(name, bundle_of(name), nonce=None))
    assert {"BUNDLE-NONCE", "BIND-FRESH"} <= found


@EVERY_KIND
def test_signed_again_by_another_key(name: str) -> None:
    parts = parts_of(name)
    found = codes(judge(name, parts.signed_by(STRANGER).bytes()))
    assert found == {"BUNDLE-SIGNATURE"}
    header = {**parts.header, 4: STRANGER.key.thumbprint}
    record = ["application/cose-key", STRANGER.key.encoded, 4]
    named = replace(parts, header=header).with_records(session_key=record).signed_by(STRANGER)
    found = codes(judge(name, named.bytes()))
    assert found & BUNDLE == {"BUNDLE-KEY"}
    found = codes(judge(name, parts.with_key(STRANGER).bytes()))
    assert not found & BUNDLE
    assert {"TDX-REPORT-DATA", "GPU-NONCE"} <= found
    # Even with a quote over all of it, devices that answered for the old key do not answer.
    anew = parts.with_key(STRANGER)
    found = codes(judge(name, sealed(anew, anew, None, GUEST, name)))
    assert not found & (BUNDLE | {"TDX-REPORT-DATA"})
    assert "GPU-NONCE" in found


def test_a_header_that_names_another_key() -> None:
    parts = parts_of(SMALL)
    other = replace(parts, header={**parts.header, 4: STRANGER.key.thumbprint})
    assert codes(judge(SMALL, other.bytes())) == {"BUNDLE-KEY"}


@EVERY_KIND
def test_the_quote_of_another_session(name: str) -> None:
    other = parts_of(name, OTHER_NONCE).records["tdx-quote"][1]
    parts = with_item(parts_of(name), "tdx-quote", other)
    found = codes(judge(name, sealed(parts_of(name), parts, None, COURIER, name)))
    assert found == {"BUNDLE-SIGNATURE", "TDX-REPORT-DATA"}
    assert codes(judge(name, parts.bytes())) == {"TDX-REPORT-DATA"}


def test_an_edited_quote() -> None:
    parts = parts_of(SMALL)
    for at, code in ((220, "TDX-QUOTE-SIGNATURE"), (20, "TDX-QUOTE-SIGNATURE")):
        edited = with_item(parts, "tdx-quote", flipped(parts.records["tdx-quote"][1], at))
        found = codes(judge(SMALL, edited.bytes()))
        assert code in found
        assert not found & BUNDLE


def test_a_quote_of_another_machine_over_the_same_report_data() -> None:
    other = sim_machine(SMALL, instance="2")
    parts = parts_of(SMALL)
    relayed = with_item(parts, "tdx-quote", other.quote(report_data(parts)))
    found = codes(judge(SMALL, relayed.bytes()))
    assert found == {"TDX-PLATFORM", "BIND-RELAYABLE"}


_ONE = "rtx-pro-6000-1"


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_bit_of_a_bundle_can_be_changed(data: st.DataObject) -> None:
    bundle = bundle_of(_ONE)
    at = data.draw(st.integers(0, len(bundle) - 1))
    bit = data.draw(st.integers(0, 7))
    changed = bytearray(bundle)
    changed[at] ^= 1 << bit
    assert not judge(_ONE, bytes(changed)).trusted


@settings(max_examples=30, deadline=None)
@given(cut=st.integers(0, 100_000), more=st.binary(max_size=3))
def test_no_bundle_can_be_cut_or_lengthened(cut: int, more: bytes) -> None:
    bundle = bundle_of(_ONE)
    for changed in (bundle[: cut % len(bundle)], bundle + more + b"\0"):
        assert not judge(_ONE, changed).trusted
