"""CBOR, COSE and bundles: targets, seeds and a mutation that keeps CBOR in shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from hashlib import sha256
from random import Random
from typing import Any

import cbor2

from ccverify.bundle.cbor import decode, encode
from ccverify.bundle.cose import (
    COSE_SIGN1_TAG,
    KeySigner,
    parse_cose_key,
    parse_sign1,
    sign1,
    sign1_problem,
)
from ccverify.bundle.items import DeviceItem, encode_device, parse_device
from ccverify.bundle.manifest import Gathered, parse_manifest
from ccverify.bundle.package import close_manifest, open_session, parse_bundle, seal
from ccverify.bundle.verify_bundle import appraise_bundle, verify_bundle
from ccverify.collect.model import Absence, AbsenceReason, Item, ItemType
from ccverify.errors import EvidenceError
from ccverify.findings import State
from ccverify.sim import SimKey
from fuzz.invariants import declared, holds
from fuzz.mutate import mutate_bytes

__all__ = [
    "bundle",
    "bundle_seeds",
    "cbor",
    "cbor_seeds",
    "cose",
    "cose_seeds",
    "mutate_cbor",
]

_NONCE = sha256(b"fuzz nonce").digest()
_KEY = SimKey("fuzz-session", curve="P-384")
_SIGNER = KeySigner(_KEY.private_key, deterministic=True)
_LIMIT = 256 * 1024
_TIME = 1_781_524_800


# --- targets ------------------------------------------------------------------------------------


def cbor(data: bytes) -> bool:
    found = declared(
        EvidenceError, lambda: (decode(data, what="it", error=EvidenceError, limit=_LIMIT),)
    )
    tagged = declared(
        EvidenceError,
        lambda: (decode(data, what="it", error=EvidenceError, limit=_LIMIT, tags=(18,)),),
    )
    holds(not (found and tagged), "one encoding is read with its tag and without")
    for read, tags in ((found, ()), (tagged, (18,))):
        if read:
            holds(encode(read[0], tags=tags) == data, "a value has another encoding too")
            holds(_untagged(cbor2.loads(data)) == read[0], "cbor2 reads another value")
    return bool(found or tagged)


def _untagged(value: Any) -> Any:
    """Undo what cbor2 does to the content of a tag: tuples and frozen mappings."""
    if isinstance(value, cbor2.CBORTag):
        return _untagged(value.value)
    if isinstance(value, Mapping):
        return {key: _untagged(item) for key, item in value.items()}
    return [_untagged(item) for item in value] if isinstance(value, list | tuple) else value


def cose(data: bytes) -> bool:
    key = declared(EvidenceError, lambda: parse_cose_key(data))
    if key is not None:
        holds(key.encoded == data, "a key has another encoding too")
        holds(key.thumbprint == sha256(data).digest(), "the thumbprint is not that of the key")
    signed = declared(
        EvidenceError,
        lambda: parse_sign1(data, what="it", error=EvidenceError, limit=_LIMIT),
    )
    if signed is not None and sign1_problem(signed, _SIGNER.key) is None:
        holds((signed.protected, signed.payload) in _signed(), "nobody signed this")
    return key is not None or signed is not None


def bundle(data: bytes) -> bool:
    _part(data)
    found = declared(EvidenceError, lambda: parse_bundle(data))
    appraised = appraise_bundle(data, _NONCE)
    states = {finding.state for finding in appraised.findings}
    holds(len(appraised.findings) == 5, "a check is missing")
    holds((appraised.bundle is None) == (found is None), "it parses once and not again")
    for finding in appraised.findings:
        "".join(text or "" for text in finding[2:5]).encode("utf-8")
    if found is None:
        return False
    holds(parse_manifest(found.manifest.encoded) == found.manifest, "a manifest changes")
    without = verify_bundle(found, None, freshness_waived=True)
    holds(without.evidence == appraised.evidence, "the nonce changes the evidence")
    if states == {State.PASS}:
        signed = (found.signed.protected, found.signed.payload)
        holds(signed in _signed(), "a bundle that nobody signed is believed")
    return True


def _part(data: bytes) -> None:
    """Offer the bytes to the readers of single parts too."""
    device = declared(EvidenceError, lambda: parse_device(data))
    if device is not None:
        holds(encode_device(device) == data, "a device has another encoding too")
    manifest = declared(EvidenceError, lambda: parse_manifest(data))
    if manifest is not None:
        holds(manifest.encoded == data, "a manifest is not its bytes")


# --- seeds --------------------------------------------------------------------------------------


@cache
def _bundles() -> Sequence[bytes]:
    session = open_session(_NONCE, _SIGNER.key)
    report = b"\x11\xe0\x01\xff" + session.device_nonce
    device = DeviceItem(report, b"-----BEGIN CERTIFICATE-----\n", "HOPPER", "GPU-0", "590.48")
    switch = replace(device, architecture=None, uuid=None, driver=None)
    items = (
        Item("gpu-0", ItemType.NVIDIA_GPU, encode_device(device), "NVML"),
        Item("nvswitch-0", ItemType.NVIDIA_SWITCH, encode_device(switch), "NSCQ"),
        Item("ccel", ItemType.CCEL, b"log", "sysfs"),
        Item("fabric-observation", ItemType.FABRIC_OBSERVATION, b"{}", "NVML"),
    )
    absent = Absence("tdx-quote", AbsenceReason.NOT_PRESENT, "no TDX", "use a TD", "configfs-tsm")
    log = replace(absent, label="dstack-log")
    made = []
    for parts in ((*items, log), (absent,), (items[0],)):
        closed = close_manifest(
            session, [Gathered(part, _TIME) for part in parts], collector="fuzz", created=_TIME
        )
        quote = Item("tdx-quote", ItemType.TDX_QUOTE, b"quote" + closed.report_data, "tsm")
        made.append(seal(closed, None if absent in parts else quote, _SIGNER))
    return made


@cache
def _messages() -> Sequence[bytes]:
    plain = {"content_type": "text/plain", "typ": "text/plain"}
    return [
        sign1(b"payload", _SIGNER, **plain, kid=b"k"),
        sign1(b"", _SIGNER, **plain),
        sign1(b"payload", KeySigner(SimKey("fuzz-p256").private_key, deterministic=True), **plain),
    ]


@cache
def _signed() -> frozenset[tuple[bytes, bytes]]:
    """Header and payload of everything that the session key signed."""
    tagged = [cbor2.loads(one).value for one in (*_bundles(), *_messages()[:2])]
    return frozenset((parts[0], parts[2]) for parts in tagged)


def bundle_seeds() -> Sequence[bytes]:
    manifest = parse_bundle(_bundles()[0]).manifest.encoded
    device = parse_bundle(_bundles()[0]).items["gpu-0"].value
    return [*_bundles(), manifest, device]


def cose_seeds() -> Sequence[bytes]:
    keys = [_SIGNER.key.encoded, encode({1: 1, -1: 6, -2: bytes(32)})]
    return [*_messages(), *keys]


def cbor_seeds() -> Sequence[bytes]:
    values: tuple[object, ...] = (
        {1: 2, -1: [True, False, None], "a": b"b", "aa": {"x": -300, "y": 1 << 40}},
        [[[[[[[[1]]]]]]]],
        list(range(40)),
        "text",
    )
    return [*map(encode, values), *_bundles()[1:], b"\xa2\x01\x00\x01\x00", b"\x9f\x00\xff"]


# --- mutation -----------------------------------------------------------------------------------

_SPECIAL = (0, -1, 23, 24, 255, 1 << 32, (1 << 64) - 1, True, None, "", b"", "\x1b[2J", [], {})


def mutate_cbor(data: bytes, random: Random) -> bytes:
    """Change one value somewhere inside, or the bytes; byte strings that hold CBOR are entered."""
    if not random.randrange(3):
        return mutate_bytes(data, random)
    try:
        value = cbor2.loads(data)
        if cbor2.dumps(value) != data:
            return mutate_bytes(data, random)
        tags = (COSE_SIGN1_TAG,) if isinstance(value, cbor2.CBORTag) else ()
        return _again(_changed(_untagged(value), random), tags)
    except (cbor2.CBORError, ValueError, TypeError, OverflowError, RecursionError):
        return mutate_bytes(data, random)


def _again(value: object, tags: tuple[int, ...]) -> bytes:
    body: bytes = cbor2.dumps(value, canonical=True)
    return b"\xd2" + body if tags else body


def _changed(value: Any, random: Random) -> Any:
    if isinstance(value, dict) and value and random.randrange(8):
        key = random.choice(list(value))
        match random.randrange(6):
            case 0:
                return {k: v for k, v in value.items() if k != key}
            case 1:
                return {**value, random.choice((99, -4, "x", "ccel", 2)): value[key]}
            case 2:
                return {**value, key: value[random.choice(list(value))]}
        return {**value, key: _changed(value[key], random)}
    if isinstance(value, list) and value and random.randrange(8):
        at = random.randrange(len(value))
        return [*value[:at], _changed(value[at], random), *value[at + 1 :]]
    if isinstance(value, bytes) and value:
        inner = mutate_cbor(value, random) if value[0] >> 5 >= 4 else mutate_bytes(value, random)
        return inner if random.randrange(8) else random.choice(_SPECIAL)
    if isinstance(value, int) and random.randrange(2):
        return value + random.choice((-1, 1, 256))
    if isinstance(value, str) and random.randrange(2):
        return value + random.choice(("0", "\n", "A", "é", value))
    return random.choice(_SPECIAL)
