"""Seeds of the targets in `fuzz.nvidia`, made by `fuzz.devices`."""

from __future__ import annotations

import base64
from collections.abc import Sequence

from ccverify.trust.x509 import parse_certificate
from fuzz.devices import (
    GOOD,
    HOLD,
    REVOKED,
    UNKNOWN,
    composite_device_id,
    crl,
    devices,
    ocsp,
    opaque_data,
    pem,
    report,
    rim,
    tcb_info,
)

__all__ = [
    "chain_seeds",
    "crl_seeds",
    "extension_seeds",
    "gpu_opaque_seeds",
    "ocsp_seeds",
    "rim_seeds",
    "spdm_seeds",
    "switch_opaque_seeds",
]


def spdm_seeds() -> Sequence[bytes]:
    whole = [device.report for device in devices()]
    small = report((1, 2, 255), opaque_data([(300, b"data")]))
    return [*whole, small, small + b"\0", small.hex().encode(), base64.b64encode(small)]


def gpu_opaque_seeds() -> Sequence[bytes]:
    own = [device.opaque for device in devices() if not device.is_switch]
    modes = [opaque_data([(34, b"\1\0"), (36, bytes((n, 0)))]) for n in range(4)]
    return [*own, *modes, opaque_data([(21, b"\x55"), (300, b"")]), devices()[2].opaque]


def switch_opaque_seeds() -> Sequence[bytes]:
    older = opaque_data([(4, bytes(128)), (25, b"\0\0")])
    return [devices()[2].opaque, older, devices()[0].opaque]


def chain_seeds() -> Sequence[bytes]:
    chains = [device.chain for device in devices()]
    mixed = (chains[0][0], *chains[1][1:])
    return [
        *(pem(chain) for chain in chains),
        pem(chains[0][:-1]) + bytes(40),
        pem(mixed),
        pem(chains[0][1:]),
    ]


def extension_seeds() -> Sequence[bytes]:
    device, leaf = devices()[0].chain[1], devices()[0].chain[0]
    return [
        composite_device_id("GH100-device"),
        tcb_info(),
        parse_certificate(device.der()).subject,
        parse_certificate(leaf.der()).tbs,
    ]


def rim_seeds() -> Sequence[bytes]:
    values = [bytes((number,)) * 48 for number in range(4)]
    honest = [
        rim("545.00", {7: values[:1], 21: values[1:3], 35: values[3:]}),
        rim("96.00.5E.00.01", {0: values[:1], 9: values[1:]}),
        rim("96.10.55.00.01", {1: values[:1]}, "LS10"),
        rim("545.00", {}),
    ]
    spaced = honest[3].replace(b"></Entity>", b" />").replace(b"\n", b"\r\n")
    return [*honest, b'<?xml version="1.0" encoding="UTF-8"?>\n' + spaced]


def ocsp_seeds() -> Sequence[bytes]:
    return [
        ocsp(GOOD),
        ocsp(REVOKED, GOOD, hash_name="sha1"),
        ocsp(HOLD, hash_name="sha384", by_key=True),
        ocsp(UNKNOWN, nonce=b"n" * 32),
        ocsp(GOOD, delegated=True),
    ]


def crl_seeds() -> Sequence[bytes]:
    serial = devices()[0].chain[1].serial
    listed = [
        crl().with_revoked(serial, reason=reason)
        for reason in ("key_compromise", "certificate_hold", "remove_from_crl", None)
    ]
    twice = crl().with_revoked(serial, reason="certificate_hold").with_revoked(serial)
    others = crl().with_revoked(*range(1, 30))
    return [spec.der() for spec in (crl(), *listed, twice, others)]
