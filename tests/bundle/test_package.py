"""Sealing and reading bundles: the steps, the derivations, and every rule of the format."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256, sha384, sha512
from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from hypothesis import given
from hypothesis import strategies as st
from sealing import (
    COLLECTOR,
    NONCE,
    OTHER,
    SIGNER,
    TIME,
    Parts,
    bundle,
    closed,
    gathered,
    gpu,
    quote,
)

from ccverify.bundle.binding import derive, report_data_problem
from ccverify.bundle.cbor import encode
from ccverify.bundle.cose import CoseKey, KeySigner
from ccverify.bundle.manifest import (
    MAX_ENTRIES,
    MAX_ITEM_BYTES,
    MAX_TIME,
    Gathered,
    Manifest,
    make_manifest,
    parse_manifest,
)
from ccverify.bundle.package import (
    MAX_BUNDLE_BYTES,
    Closed,
    close_manifest,
    is_bundle,
    open_session,
    parse_bundle,
    seal,
)
from ccverify.collect.model import Absence, AbsenceReason, Item, ItemType
from ccverify.errors import EvidenceError, UsageError
from ccverify.evidence import BindingInputs, BindingProfile

BUNDLE = bundle()
PARTS = Parts.of(BUNDLE)


def absent(label: str = "gpu", **changes: Any) -> Absence:
    return replace(
        Absence(label, AbsenceReason.CC_OFF, "CC is off", "turn it on", "NVML"), **changes
    )


def ccel(label: str = "ccel", data: bytes = b"log") -> Item:
    return Item(label, ItemType.CCEL, data, "here")


def made(*outcomes: Item | Absence, **options: Any) -> Manifest:
    arguments: dict[str, Any] = {"collector": COLLECTOR, "created": TIME} | options
    return make_manifest(NONCE, bytes(32), [Gathered(o, TIME) for o in outcomes], **arguments)


# --- the steps ---


def test_the_derivations() -> None:
    """Written out once more, from hashlib alone."""
    made = closed()
    x, y = SIGNER.key.x, SIGNER.key.y
    thumbprint = sha256(b"\xa4\x01\x02\x20\x02\x21\x58\x30" + x + b"\x22\x58\x30" + y).digest()
    assert made.session.key.thumbprint == thumbprint
    asked = sha256(b"ccverify/device-nonce/v1" + NONCE + thumbprint).digest()
    assert made.session.device_nonce == asked
    digest = sha384(made.manifest.encoded).digest()
    expected = sha512(b"ccverify/report-data/v1" + NONCE + thumbprint + digest).digest()
    assert made.report_data == expected


def test_a_bundle_holds_what_was_put_in() -> None:
    made = closed()
    read = parse_bundle(seal(made, quote(made.report_data), SIGNER))
    assert read.session_key == SIGNER.key
    assert read.signed.kid == SIGNER.key.thumbprint
    assert read.quote == b"quote" + made.report_data
    assert read.manifest == made.manifest
    assert (read.manifest.nonce, read.manifest.created) == (NONCE, TIME + 9)
    assert {k: r.value for k, r in read.items.items() if k != "tdx-quote"} == {
        label: item.data for label, item in made.items.items()
    }
    for number, one in enumerate(gathered(made.session)[:-1]):
        entry = read.manifest.items[one.outcome.label]
        assert (entry.type, entry.source) == (one.outcome.type, one.outcome.source)  # type: ignore[union-attr]
        assert entry.time == TIME + number
    (label,) = read.absences
    assert label == "dstack-log"
    assert read.absences[label].reason is AbsenceReason.NOT_PRESENT
    assert read.absences[label].remedy.startswith("run inside")


def test_the_file_is_deterministic_but_for_the_signature() -> None:
    assert bundle() == BUNDLE
    assert is_bundle(BUNDLE)
    made = closed()
    fresh = seal(made, quote(made.report_data), KeySigner(SIGNER.private))
    assert fresh[:-96] == BUNDLE[:-96]
    assert fresh[-96:] != BUNDLE[-96:]


def test_the_order_of_gathering_has_no_meaning() -> None:
    made = closed()
    parts = gathered(made.session)
    assert closed(parts=parts[::-1]).manifest.encoded == made.manifest.encoded


def test_without_a_quote_the_manifest_says_why() -> None:
    made = closed()
    with pytest.raises(UsageError, match="absence"):
        seal(made, None, SIGNER)
    parts = [*gathered(made.session), Gathered(absent("tdx-quote"), TIME)]
    again = closed(parts=parts)
    assert again.report_data != made.report_data
    read = parse_bundle(seal(again, None, SIGNER))
    assert read.quote is None
    assert read.absences["tdx-quote"].reason is AbsenceReason.CC_OFF
    with pytest.raises(UsageError, match="not both"):
        seal(again, quote(again.report_data), SIGNER)


def test_a_session_needs_a_nonce_of_32_bytes_and_a_p384_key() -> None:
    for length in (0, 31, 33, 64):
        with pytest.raises(UsageError, match="nonce"):
            open_session(bytes(length), SIGNER.key)
    others = (ec.generate_private_key(ec.SECP256R1()), ed25519.Ed25519PrivateKey.generate())
    for other in others:
        with pytest.raises(UsageError, match="session key"):
            open_session(NONCE, CoseKey.of(other.public_key()))


def test_what_cannot_be_sealed() -> None:
    made = closed()
    with pytest.raises(UsageError, match="key of its session"):
        seal(made, quote(made.report_data), OTHER)
    for wrong in (ccel(), replace(quote(made.report_data), label="quote")):
        with pytest.raises(UsageError, match="not a quote"):
            seal(made, wrong, SIGNER)
    large = replace(quote(made.report_data), data=bytes(MAX_ITEM_BYTES + 1))
    with pytest.raises(UsageError, match="too large"):
        seal(made, large, SIGNER)


def _close(*outcomes: Item | Absence) -> Closed:
    session = open_session(NONCE, SIGNER.key)
    parts = [Gathered(outcome, TIME) for outcome in outcomes]
    return close_manifest(session, parts, collector=COLLECTOR, created=TIME)


CANNOT_CLOSE: dict[str, Callable[[], object]] = {
    "one label twice": lambda: _close(ccel(), absent("ccel")),
    "two logs of one kind": lambda: _close(ccel("a"), ccel("b")),
    "capitals": lambda: _close(ccel("CCEL")),
    "no label": lambda: _close(ccel("")),
    "a reserved label": lambda: _close(ccel("manifest")),
    "another": lambda: _close(absent("session-key")),
    "a quote": lambda: _close(Item("tdx-quote", ItemType.TDX_QUOTE, b"q", "tsm")),
    "a quote by another name": lambda: _close(Item("quote", ItemType.TDX_QUOTE, b"q", "tsm")),
    "something as the quote": lambda: _close(ccel("tdx-quote")),
    "an item too large": lambda: _close(ccel(data=bytes(MAX_ITEM_BYTES + 1))),
    "too many": lambda: _close(*(absent(f"gpu-{n}") for n in range(MAX_ENTRIES + 1))),
    "a time before 1970": lambda: made(created=-1),
    "a time after 9999": lambda: made(created=MAX_TIME + 1),
    "a short nonce": lambda: make_manifest(b"", bytes(32), [], collector="", created=0),
}


@pytest.mark.parametrize("name", CANNOT_CLOSE)
def test_what_cannot_be_closed(name: str) -> None:
    with pytest.raises(UsageError):
        CANNOT_CLOSE[name]()


def test_what_can_just_be_closed() -> None:
    full = _close(*(absent(f"gpu-{n}") for n in range(MAX_ENTRIES - 1)), ccel(data=b""))
    assert len(full.manifest.absences) == MAX_ENTRIES - 1
    assert full.manifest.items["ccel"].size == 0
    assert made(created=MAX_TIME).created == MAX_TIME


def test_texts_are_made_fit_to_print() -> None:
    said = made(
        absent(text="line\none\x1b[2J\u202e\ud800", remedy="r" * 5000, source="s" * 500),
        collector="c" * 500,
    )
    entry = said.absences["gpu"]
    assert entry.text == "line one [2J ?"
    assert (len(entry.remedy), len(entry.source), len(said.collector)) == (1024, 128, 128)
    assert entry.remedy.endswith("r…")


def test_a_full_bundle_is_read() -> None:
    """The most entries, with the longest labels and texts, stay within the limits of CBOR."""
    entries = [absent(f"{n:064}", text="t" * 1024, remedy="ü" * 1024) for n in range(100)]
    items = [replace(gpu("gpu", bytes(32)), label=f"{n:064}") for n in range(100, 256)]
    made = closed(parts=[Gathered(one, TIME) for one in (*entries, *items)])
    read = parse_bundle(seal(made, quote(made.report_data), SIGNER))
    assert (len(read.items), len(read.absences)) == (157, 100)


def test_devices_are_in_the_order_of_their_numbers() -> None:
    parts = [Gathered(gpu(f"gpu-{n}", bytes(32)), TIME) for n in (10, 9, 2, 0)]
    made = closed(parts=parts)
    read = parse_bundle(seal(made, quote(made.report_data), SIGNER))
    assert list(read.of_type(ItemType.NVIDIA_GPU)) == ["gpu-0", "gpu-2", "gpu-9", "gpu-10"]
    assert read.of_type(ItemType.NVIDIA_SWITCH) == {}


def test_report_data_is_that_of_the_binding_profile() -> None:
    made = closed()
    inputs = BindingInputs(
        BindingProfile.CCVERIFY,
        session_key_thumbprint=SIGNER.key.thumbprint,
        manifest_sha384=made.manifest.sha384,
    )
    derivation = derive(BindingProfile.CCVERIFY, NONCE, inputs)
    assert report_data_problem(derivation, made.report_data) == (None,)
    assert derivation.device_nonce == made.session.device_nonce


# --- the manifest ---


def test_manifests_survive() -> None:
    manifest = closed().manifest
    assert parse_manifest(manifest.encoded) == manifest
    assert manifest.sha384 == sha384(manifest.encoded).digest()


ITEM = PARTS.manifest["items"]["gpu-0"]
ABSENCE = PARTS.manifest["items"]["dstack-log"]


def _entry(label: Any = "gpu-0", **changes: Any) -> dict[str, Any]:
    return {"items": {label: {**ITEM, **changes}}}


def _absence(**changes: Any) -> dict[str, Any]:
    return {"items": {"dstack-log": {**ABSENCE, **changes}}}


BAD_MANIFESTS: dict[str, dict[str, Any]] = {
    "version 2": {"v": 2},
    "version true": {"v": True},
    "short nonce": {"nonce": bytes(31)},
    "long nonce": {"nonce": bytes(64)},
    "nonce as text": {"nonce": NONCE.hex()},
    "short key": {"key": bytes(31)},
    "collector a number": {"collector": 1},
    "collector with a line end": {"collector": "a\nb"},
    "collector with an escape": {"collector": "\x1b[2J"},
    "collector too long": {"collector": "c" * 129},
    "created as text": {"created": "2026"},
    "created negative": {"created": -1},
    "created after 9999": {"created": MAX_TIME + 1},
    "created true": {"created": True},
    "items an array": {"items": []},
    "one member more": {"more": 1},
    "too many entries": {"items": {f"gpu-{n}": ITEM for n in range(MAX_ENTRIES + 1)}},
    "label a number": _entry(0),
    "label in capitals": _entry("GPU-0"),
    "label reserved": _entry("manifest"),
    "label reserved too": _entry("session-key"),
    "quote listed": {"items": {"tdx-quote": {**ITEM, "type": ItemType.TDX_QUOTE.value}}},
    "quote listed as something else": _entry("tdx-quote"),
    "quote under another label": _entry("q", type=ItemType.TDX_QUOTE.value),
    "entry an array": {"items": {"gpu-0": []}},
    "entry empty": {"items": {"gpu-0": {}}},
    "entry both": {"items": {"gpu-0": {**ITEM, **ABSENCE}}},
    "unknown type": _entry(type="application/octet-stream"),
    "type a number": _entry(type=1),
    "type a list": _entry(type=[]),
    "short digest": _entry(sha384=bytes(47)),
    "digest as text": _entry(sha384="00"),
    "size negative": _entry(size=-1),
    "size too large": _entry(size=MAX_ITEM_BYTES + 1),
    "size null": _entry(size=None),
    "time too large": _entry(time=MAX_TIME + 1),
    "source a number": _entry(source=1),
    "source that turns text round": _entry(source="\u202e"),
    "two logs": {"items": {n: {**ITEM, "type": ItemType.CCEL.value} for n in ("a", "b")}},
    "unknown reason": _absence(absent="lost"),
    "reason a number": _absence(absent=1),
    "reason a list": _absence(absent=[1]),
    "text too long": _absence(text="t" * 1025),
    "text null": _absence(text=None),
    "remedy a number": _absence(remedy=0),
    "absence without a time": {
        "items": {"dstack-log": {k: v for k, v in ABSENCE.items() if k != "time"}}
    },
}


@pytest.mark.parametrize("name", BAD_MANIFESTS)
def test_bad_manifests(name: str) -> None:
    assert parse_manifest(encode(PARTS.manifest))
    with pytest.raises(EvidenceError) as caught:
        parse_manifest(encode({**PARTS.manifest, **BAD_MANIFESTS[name]}))
    assert caught.value.expected
    assert len(caught.value.diagnostics()) < 2000


@pytest.mark.parametrize("name", PARTS.manifest)
def test_no_member_of_a_manifest_may_be_missing(name: str) -> None:
    with pytest.raises(EvidenceError):
        parse_manifest(encode({k: v for k, v in PARTS.manifest.items() if k != name}))


@given(st.binary(max_size=100))
def test_any_bytes_as_manifest(data: bytes) -> None:
    with pytest.raises(EvidenceError):
        parse_manifest(data)


# --- the bundle ---

GPU = PARTS.records["gpu-0"]
BAD_BUNDLES: dict[str, Callable[[], Parts]] = {
    "no content type": lambda: replace(PARTS, header=_without(3)),
    "another content type": lambda: replace(PARTS, header={**PARTS.header, 3: "text/plain"}),
    "no typ": lambda: replace(PARTS, header=_without(16)),
    "another typ": lambda: replace(PARTS, header={**PARTS.header, 16: "application/cmw+cbor"}),
    "no kid": lambda: replace(PARTS, header=_without(4)),
    "a short kid": lambda: replace(PARTS, header={**PARTS.header, 4: b"me"}),
    "an unknown header": lambda: replace(PARTS, header={**PARTS.header, 99: 0}),
    "another collection": lambda: replace(PARTS, type="tag:ccverify,2026:verdict-bundle#1"),
    "a newer collection": lambda: replace(PARTS, type="tag:ccverify,2026:bundle#2"),
    "no session key": lambda: PARTS.with_records(session_key=None),
    "session key of another type": lambda: PARTS.with_records(
        session_key=["application/x", SIGNER.key.encoded, 4]
    ),
    "session key malformed": lambda: PARTS.with_records(
        session_key=["application/cose-key", b"", 4]
    ),
    "session key on another curve": lambda: PARTS.with_records(
        session_key=["application/cose-key", _p256().encoded, 4]
    ),
    "manifest malformed": lambda: replace(PARTS, manifest={}),
    "an item of unknown type": lambda: PARTS.with_records(
        gpu_0=["application/octet-stream", GPU[1], 4]
    ),
    "an item without an indicator": lambda: PARTS.with_records(gpu_0=GPU[:2]),
    "an item that is a result": lambda: PARTS.with_records(gpu_0=[*GPU[:2], 8]),
    "a quote under another label": lambda: PARTS.with_records(
        quote=[ItemType.TDX_QUOTE.value, b"q", 4]
    ),
    "something else as the quote": lambda: PARTS.with_records(tdx_quote=GPU),
    "a label in capitals": lambda: replace(PARTS, records={**PARTS.records, "GPU-7": GPU}),
    "an item too large": lambda: PARTS.with_records(gpu_0=[GPU[0], bytes(MAX_ITEM_BYTES + 1), 4]),
}


def _without(label: int) -> dict[int, Any]:
    return {k: v for k, v in PARTS.header.items() if k != label}


def _p256() -> CoseKey:
    return CoseKey.of(ec.derive_private_key(7, ec.SECP256R1()).public_key())


def test_taken_apart_and_put_together() -> None:
    assert PARTS.bytes() == BUNDLE


@pytest.mark.parametrize("name", BAD_BUNDLES)
def test_bad_bundles(name: str) -> None:
    with pytest.raises(EvidenceError) as caught:
        parse_bundle(BAD_BUNDLES[name]().bytes())
    assert len(caught.value.diagnostics()) < 2000


def test_no_manifest() -> None:
    payload = encode({"__cmwc_t": PARTS.type, **PARTS.records})
    with pytest.raises(EvidenceError, match="no manifest"):
        parse_bundle(PARTS.bytes(payload))


def test_signed_with_another_algorithm() -> None:
    p256 = KeySigner(ec.derive_private_key(7, ec.SECP256R1()), deterministic=True)
    other = replace(PARTS, header={**PARTS.header, 1: -9}, signer=p256)
    with pytest.raises(EvidenceError, match="another header"):
        parse_bundle(other.bytes())


@pytest.mark.parametrize(
    "make",
    [
        lambda payload: cbor2.dumps(cbor2.loads(payload), indefinite_containers=True),
        lambda payload: cbor2.dumps(dict(reversed(cbor2.loads(payload).items()))),
        lambda payload: payload + b"\0",
        lambda payload: payload[:-1],
        lambda payload: b"\xd9\x02\xfd" + payload,
        lambda payload: b"",
    ],
    ids=["indefinite", "unsorted", "longer", "shorter", "tagged", "empty"],
)
def test_the_payload_has_one_encoding(make: Callable[[bytes], bytes]) -> None:
    with pytest.raises(EvidenceError):
        parse_bundle(PARTS.bytes(make(PARTS.payload)))


def test_what_is_no_bundle() -> None:
    for data in (b"", b"\xd2", b"{}", b"\x04\0\x02\0", BUNDLE[1:], BUNDLE + b"\0", BUNDLE[:-1]):
        assert not is_bundle(data) or data[:2] == BUNDLE[:2]
        with pytest.raises(EvidenceError):
            parse_bundle(data)
    with pytest.raises(EvidenceError, match="too large"):
        parse_bundle(bytes(MAX_BUNDLE_BYTES + 1))


@given(st.data())
def test_a_changed_byte_is_refused_or_found(data: st.DataObject) -> None:
    changed = bytearray(BUNDLE)
    at = data.draw(st.integers(0, len(changed) - 1))
    changed[at] ^= data.draw(st.integers(1, 255))
    try:
        read = parse_bundle(bytes(changed))
    except EvidenceError:
        return
    assert read.signed != parse_bundle(BUNDLE).signed


TEXTS = st.text(max_size=60)
OUTCOMES = st.builds(
    Item, st.text("abc09-", min_size=1, max_size=9),
    st.sampled_from([ItemType.NVIDIA_GPU, ItemType.NVIDIA_SWITCH]), st.binary(max_size=30), TEXTS,
) | st.builds(
    Absence, st.text("abc09-", min_size=1, max_size=9), st.sampled_from(AbsenceReason),
    TEXTS, TEXTS, TEXTS,
)  # fmt: skip


@given(
    st.lists(OUTCOMES, max_size=8, unique_by=lambda outcome: outcome.label),
    st.integers(0, MAX_TIME),
    st.binary(min_size=32, max_size=32),
    TEXTS,
)
def test_whatever_was_gathered_is_sealed_and_read(
    outcomes: list[Item | Absence], time: int, nonce: bytes, collector: str
) -> None:
    session = open_session(nonce, SIGNER.key)
    made = close_manifest(
        session, [Gathered(o, time) for o in outcomes], collector=collector, created=time
    )
    read = parse_bundle(seal(made, quote(made.report_data), SIGNER))
    labels = {outcome.label for outcome in outcomes}
    assert set(read.manifest.items) | set(read.absences) == labels
    assert set(read.items) == set(read.manifest.items) | {"tdx-quote"}
