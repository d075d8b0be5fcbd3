"""Bundles to test with: a session of fixed keys, sealed step by step, and taken apart again.

`Parts` is a bundle in pieces that any test may exchange; `Parts.bytes` puts them together again
without asking whether they fit, signed by whichever key.  It shares no code with
`ccverify.bundle.package`, so that it can make what that would refuse to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256, sha384, sha512
from typing import Any

import cbor2
from cryptography.hazmat.primitives.asymmetric import ec

from ccverify.bundle.cbor import encode
from ccverify.bundle.cose import KeySigner
from ccverify.bundle.items import DeviceItem, encode_device
from ccverify.bundle.manifest import Gathered
from ccverify.bundle.package import Closed, Session, close_manifest, open_session, seal
from ccverify.collect.model import Absence, AbsenceReason, Item, ItemType

NONCE = sha256(b"ccverify bundle test nonce").digest()
TIME = 1_781_524_800
"""2026-06-15T12:00:00Z."""
COLLECTOR = "ccverify test"
ORDER = int(
    "ffffffffffffffffffffffffffffffffffffffffffffffff"
    "c7634d81f4372ddf581a0db248b0a77aecec196accc52973",
    16,
)
"""Of P-384 (FIPS 186-5)."""


def signer(label: str = "ccverify/bundle-test-vector/v1") -> KeySigner:
    """The key of docs/spec/bundle.md for its label, and others for others."""
    scalar = int.from_bytes(sha512(label.encode()).digest(), "big") % (ORDER - 1) + 1
    return KeySigner(ec.derive_private_key(scalar, ec.SECP384R1()), deterministic=True)


SIGNER = signer()
OTHER = signer("another session")


def gpu(label: str, device_nonce: bytes) -> Item:
    """A stand-in: the shape of a report, nothing genuine."""
    report = b"\x11\xe0\x01\xff" + device_nonce + label.encode()
    chain = b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"
    kind = ItemType.NVIDIA_SWITCH if label.startswith("nvswitch") else ItemType.NVIDIA_GPU
    device = DeviceItem(report, chain, "HOPPER", f"GPU-{label}", "590.48.01")
    return Item(label, kind, encode_device(device), "NVML 590.48.01")


def gathered(session: Session) -> list[Gathered]:
    items = [
        *(gpu(label, session.device_nonce) for label in ("gpu-0", "gpu-1", "nvswitch-0")),
        Item("ccel", ItemType.CCEL, b"a log", "/sys/firmware/acpi/tables/data/CCEL"),
        Item("fabric-observation", ItemType.FABRIC_OBSERVATION, b"{}", "NVML"),
    ]
    absence = Absence(
        "dstack-log",
        AbsenceReason.NOT_PRESENT,
        "no guest agent listens at /var/run/dstack.sock",
        "run inside a dstack guest, or do without",
        "dstack guest agent",
    )
    return [*(Gathered(item, TIME + n) for n, item in enumerate(items)), Gathered(absence, TIME)]


def closed(
    nonce: bytes = NONCE, signer: KeySigner = SIGNER, parts: list[Gathered] | None = None
) -> Closed:
    session = open_session(nonce, signer.key)
    collected = gathered(session) if parts is None else parts
    return close_manifest(session, collected, collector=COLLECTOR, created=TIME + 9)


def quote(report_data: bytes) -> Item:
    return Item("tdx-quote", ItemType.TDX_QUOTE, b"quote" + report_data, "configfs-tsm")


def bundle(nonce: bytes = NONCE, signer: KeySigner = SIGNER) -> bytes:
    made = closed(nonce, signer)
    return seal(made, quote(made.report_data), signer)


@dataclass(frozen=True)
class Parts:
    """A bundle in pieces.

    Attributes:
        header: protected header.
        manifest: as decoded.
        records: by label, without the manifest.
        type: of the collection.
        signer: who signs when it is put together.
    """

    header: Mapping[Any, Any]
    manifest: Any
    records: Mapping[Any, Any]
    type: Any = "tag:ccverify,2026:bundle#1"
    signer: KeySigner = field(default=SIGNER)

    @classmethod
    def of(cls, data: bytes, signer: KeySigner = SIGNER) -> Parts:
        protected, _, payload, _ = cbor2.loads(data).value
        collection = cbor2.loads(payload)
        kind = collection.pop("__cmwc_t")
        manifest = cbor2.loads(collection.pop("manifest")[1])
        return cls(cbor2.loads(protected), manifest, collection, kind, signer)

    def with_records(self, **changes: Any) -> Parts:
        """Replace records; None takes one out.  ``_`` stands for ``-``."""
        named = {label.replace("_", "-"): record for label, record in changes.items()}
        kept = {k: v for k, v in {**self.records, **named}.items() if v is not None}
        return replace(self, records=kept)

    def with_manifest(self, **changes: Any) -> Parts:
        return replace(self, manifest={**self.manifest, **changes})

    def with_entry(self, label: str, entry: Any) -> Parts:
        """Replace an entry of the manifest; None takes it out."""
        entries = {**self.manifest["items"], label: entry}
        return self.with_manifest(items={k: v for k, v in entries.items() if v is not None})

    def listing(self, label: str) -> Parts:
        """Let the manifest list an item as it is now."""
        entry, data = self.manifest["items"][label], self.records[label][1]
        return self.with_entry(label, {**entry, "sha384": sha384(data).digest(), "size": len(data)})

    def signed_by(self, signer: KeySigner) -> Parts:
        return replace(self, signer=signer)

    def with_key(self, signer: KeySigner) -> Parts:
        """Sign by another key, and name it wherever the bundle names its key."""
        record = ["application/cose-key", signer.key.encoded, 4]
        other = replace(self, signer=signer, header={**self.header, 4: signer.key.thumbprint})
        return other.with_records(session_key=record).with_manifest(key=signer.key.thumbprint)

    @property
    def payload(self) -> bytes:
        manifest = ["application/vnd.ccverify.manifest+cbor", encode(self.manifest), 4]
        return encode({"__cmwc_t": self.type, "manifest": manifest, **self.records})

    def bytes(self, payload: bytes | None = None, signature: bytes | None = None) -> bytes:
        body = self.payload if payload is None else payload
        protected = encode(self.header)
        made = self.signer.sign(encode(["Signature1", protected, b"", body]))
        return encode([protected, {}, body, signature or made], tags=(18,))
