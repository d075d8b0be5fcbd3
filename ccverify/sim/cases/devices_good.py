"""Good cases: every honest kind of GPU and NVSwitch, and what a policy may waive knowingly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from ccverify.sim.cases.device_model import (
    AUTHORITIES,
    DRIVER_RIM,
    HGX,
    HOPPER,
    ISSUER,
    SHARED_PACKS,
    VBIOS_RIM,
    DeviceCase,
    answers,
    b200,
    build_node,
    crl_entry,
    device_case,
    device_policy,
    gpu_rules,
    h100,
    hgx,
    hgx_policy,
    items,
    ocsp_entry,
    rim_entry,
    rtx,
    switch,
    switch_policy,
)
from ccverify.sim.cases.model import NONCE, Json, trusted
from ccverify.sim.nvidia import GH100, H100, NVSWITCH3, SimNode, sim_gpu, sim_switch

__all__ = ["GOOD_DEVICE_CASES", "WAIVED_CASES", "expired_signer", "mixed"]

_DAY = timedelta(days=1)
_P384_ORDER = int(
    "FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF"
    "C7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973",
    16,
)
_CERTIFICATES = (DRIVER_RIM, VBIOS_RIM)
_B200 = (AUTHORITIES, "rim-gb100", "ocsp-b200-1")
_RTX = (AUTHORITIES, "rim-gb20x", "ocsp-rtx-1")


def _good(
    name: str, description: str, node: Callable[[], SimNode], covers: str, **options: Any
) -> DeviceCase:
    claims = options.pop("claims", {})
    return device_case(
        f"good-{name}", description, node, trusted(**claims), covers=covers, **options
    )


def _rules(**changes: Any) -> Json:
    return device_policy(gpus=gpu_rules(**changes))


def _high_s() -> SimNode:
    """Replace s by n - s: the other valid form of the same ECDSA signature."""
    node = h100()
    gpu = node.gpus[0]
    signature = gpu.report.encode()[-96:]
    s = _P384_ORDER - int.from_bytes(signature[48:], "big")
    return node.with_gpu(0, gpu.with_report(signature=signature[:48] + s.to_bytes(48, "big")))


def _zeros_in_identities() -> SimNode:
    """Identities that are mostly zero: side by side, their text holds a whole zero identity."""
    gpu_pdis = (bytes.fromhex("a100000000000000"), bytes.fromhex("00000000000000a2"))
    switch_pdi = bytes.fromhex("0000000000000051")
    return build_node(
        (
            sim_gpu(ISSUER, H100, f"zeros/gpu-{number}", mode="PPCIE", nonce=NONCE,
                    switch_pdis=(switch_pdi,) * 18, pdi=pdi)
            for number, pdi in enumerate(gpu_pdis)
        ),
        (
            sim_switch(ISSUER, NVSWITCH3, "zeros/nvswitch-0", position=0, gpu_pdis=gpu_pdis,
                       nonce=NONCE, pdi=switch_pdi),
        ),
    )  # fmt: skip


def mixed(**newer: str) -> SimNode:
    """The second GPU has another driver or VBIOS, with manifests of its own."""
    node = hgx(2, 1)
    model = replace(H100, **newer)  # type: ignore[arg-type]
    links = node.gpus[1].report.opaque
    other = sim_gpu(
        ISSUER, model, "h100-1/gpu-1", mode="PPCIE", nonce=NONCE,
        switch_pdis=getattr(links, "switch_pdis", None),
    )  # fmt: skip
    return replace(node.with_gpu(1, other), rims=model.rims(ISSUER))


def _rims(node: SimNode) -> list[Json]:
    return [rim_entry(rim) for rim in node.rims]


def expired_signer(node: SimNode) -> list[Json]:
    """The driver's manifest, by a signer whose certificate ended some months ago."""
    window = (datetime(2023, 12, 1, tzinfo=UTC), datetime(2025, 12, 1, tzinfo=UTC))
    signer = ISSUER.rim_signer(GH100, window=window)
    chain = (signer, *ISSUER.rim_chain(GH100)[1:])
    return [rim_entry(replace(node.rims[0], chain=chain))]


def _inactive(node: SimNode) -> list[Json]:
    return [rim_entry(node.rims[0].with_golden(21, b"\x13" * 48, active=False))]


def _responders(node: SimNode) -> list[Json]:
    """Answers in other forms that RFC 6960 allows."""
    first, second, *rest = node.ocsp_responses()
    return [
        ocsp_entry(first.signed_by_issuer().with_answer(hash_name="sha384")),
        ocsp_entry(replace(second, by_key=True).with_answer(hash_name="sha256")),
        *map(ocsp_entry, rest),
    ]


def _no_window(node: SimNode) -> list[Json]:
    return [ocsp_entry(spec.with_answer(next_update=None)) for spec in node.ocsp_responses()]


GOOD_DEVICE_CASES: tuple[DeviceCase, ...] = (
    _good("hopper-spt", "One Hopper GPU, passed through on its own.", h100, "A2 A17 A18 A24",
          claims={"gpus": [{
              "subject": "gpu-0", "arch": "HOPPER", "chip": "GH100", "mode": "SPT",
              "driver": "590.12", "vbios": "96.00.F0.00.01",
              "device_id": h100().gpus[0].pdi.hex().upper(), "nonce": NONCE.hex(),
              "measurements": {"mismatched": [], "skipped": [35]},
          }]}),
    _good("hopper-mode-not-stated", "Firmware without FEATURE_FLAG; the policy knows it.",
          lambda: h100(mode=None), "A11", policy=_rules(modes=["NOT_STATED"]),
          claims={"gpus": [{"mode": "NOT_STATED"}]}),
    _good("hopper-spt-2", "Two Hopper GPUs, of which the policy wants one to eight.",
          lambda: h100(2), "A6 A7", policy=_rules(count={"min": 1, "max": 8})),
    _good("hopper-ppcie-8-4", "A whole Protected PCIe node of eight GPUs and four switches.",
          lambda: hgx(8, 4), "A7 A8", policy=hgx_policy(8, 4), shared=HGX,
          claims={"topology": {"kind": "protected-pcie", "closed": True}}),
    _good("hopper-ppcie-2-2", "A small Protected PCIe node: the policy says how large it is.",
          hgx, "A7 A8", policy=hgx_policy(), shared=HGX,
          claims={"gpus": [{"mode": "PPCIE"}] * 2, "nvswitches": [{"arch": "LS10"}] * 2}),
    _good("hopper-ppcie-any-order", "The order in which devices are listed means nothing.",
          hgx, "A8", policy=hgx_policy(), shared=HGX, evidence=items(lambda given: given[::-1])),
    _good("identities-mostly-zero", "Zeros in an identity, or across two, are no zero identity.",
          _zeros_in_identities, "A8", policy=hgx_policy(2, 1), shared=HGX[:3] + HGX[4:],
          entries=lambda node: answers(node, identities=True)),
    _good("blackwell-gb100-spt", "One Blackwell GPU of an HGX board.", b200, "A17 A18",
          policy=_rules(architectures=["BLACKWELL-GB100"]), shared=_B200,
          claims={"gpus": [{"arch": "BLACKWELL-GB100", "chip": "GB100", "mode": "SPT"}]}),
    _good("blackwell-gb20x-spt", "One Blackwell GPU of a PCIe card.", rtx, "A17 A18",
          policy=_rules(architectures=["BLACKWELL"]), shared=_RTX,
          claims={"gpus": [{"arch": "BLACKWELL-GB20X", "chip_info": "GB202", "mode": "SPT"}]}),
    *(
        _good(f"blackwell-mpt-{n}", f"Multi-GPU passthrough with {n} of a board's GPUs.",
              partial(b200, "MPT", n), "A7",
              policy=device_policy(
                  gpus=gpu_rules(count=n, architectures=["BLACKWELL"], modes=["MPT"]),
                  fabric="any",  # there is no observation of it
              ), shared=_B200,
              claims={"gpus": [{"mode": "MPT"}] * n})
        for n in (1, 2, 4, 8)
    ),
    _good("nvswitch-alone", "One NVSwitch, whose topology the policy leaves aside.", switch,
          "A18", policy=switch_policy(architectures=["LS10"]),
          shared=(AUTHORITIES, "rim-ls10", "ocsp-h100-1")),
    _good("crls", "Revocation lists of every CA instead of OCSP responses.", h100, "A24",
          shared=_CERTIFICATES,
          entries=lambda node: (crl_entry(crl.der()) for crl in node.all_crls())),
    _good("ocsp-forms", "The issuer answers itself; responder by key; CertID by other hashes.",
          h100, "A24", shared=_CERTIFICATES, entries=_responders),
    _good("ocsp-nonce-of-the-fetch", "Answers with the nonce of whoever fetched them.",
          lambda: replace(h100(), ocsp_nonce=b"\x11" * 32), "A24", shared=_CERTIFICATES,
          entries=answers),
    _good("ocsp-last-second", "At the very second of its nextUpdate, an answer is in force.",
          h100, "A24 A29", at=h100().at + 6 * _DAY),
    _good("every-manifest", "Manifests of every chip in one heap: each device finds its own.",
          h100, "A18", shared=tuple(SHARED_PACKS)),
    _good("two-editions", "Two editions of a manifest with the same values do not conflict.",
          h100, "A18", entries=expired_signer),
    _good("inactive-entry", "An inactive entry of a manifest says nothing, whatever it holds.",
          h100, "A18", shared=HOPPER[1:], entries=_inactive),
    _good("alternative-value", "Any alternative of a golden value will do.",
          lambda: h100().with_gpu(0, h100().gpus[0].with_measurement(
              36, H100.driver_golden()[36].values[0])), "A18"),
    _good("nvdec0-not-compared", "Index 35 means nothing while NVDEC0 is disabled.",
          lambda: h100().with_gpu(0, h100().gpus[0].with_measurement(35, b"\x66" * 48)), "A18"),
    _good("unknown-field", "A field of a type nobody knows is kept and shown.",
          lambda: h100().with_gpu(0, h100().gpus[0].with_fields(extra=((77, b"new"),))), "A21",
          claims={"gpus": [{"unknown_fields": [{"data": b"new".hex()}]}]}),
    _good("device-high-s", "s and n - s both verify: signatures are no identity of a report.",
          _high_s, "A20"),
    _good("other-versions-claimed", "Versions beside the report are nobody's word.", h100, "A28",
          evidence=items(lambda given: [one | {"driver_version": "999.99"} for one in given]),
          claims={"gpus": [{"driver": "590.12"}]}),
    _good("lower-case-tag", "The tag of the architecture may be in lower case.", h100, "A28",
          evidence=items(lambda given: [one | {"arch": "hopper"} for one in given])),
    _good("tag-left-out", "Without a tag, the chain alone says what the device is.", h100, "A28",
          evidence=items(lambda given: [
              {name: value for name, value in one.items() if name != "arch"} for one in given])),
    _good("root-left-out", "A chain may end below the root, which is pinned anyway.",
          lambda: h100().with_gpu(0, replace(h100().gpus[0], chain=h100().gpus[0].chain[:-1])),
          "A3"),
)  # fmt: skip


WAIVED_CASES: tuple[DeviceCase, ...] = (
    _good("revocation-waived", "The policy gives up revocation.", h100, "A24",
          policy=_rules(revocation="any"), shared=_CERTIFICATES),
    _good("revocation-if-given", "Nothing is given, and the policy asks only if it is.", h100,
          "A24", policy=_rules(revocation="if-given"), shared=_CERTIFICATES),
    _good("revocation-if-given-stale", "A stale good answer, which counts as none.", h100, "A24",
          policy=_rules(revocation="if-given"), at=h100().at + 7 * _DAY),
    _good("hold-allowed", "The device's certificate is on hold, which the policy allows.",
          lambda: h100().with_status(h100().gpus[0].chain[1], "hold"), "A24",
          policy=_rules(certificate_hold="allow"), shared=_CERTIFICATES, entries=answers),
    _good("ocsp-age-limited", "Answers without nextUpdate count for as long as the policy says.",
          h100, "A24", policy=_rules(revocation_max_age_days=1), shared=_CERTIFICATES,
          entries=_no_window),
    _good("rim-waived", "The policy gives up measurements.", h100, "A18",
          policy=_rules(rim="any"), shared=(AUTHORITIES, "ocsp-h100-1")),
    _good("expired-signer-allowed", "The manifest's signer has expired, as the policy allows.",
          h100, "A18", policy=_rules(rim_expired_signer="allow"), shared=HOPPER[1:],
          entries=expired_signer),
    _good("fwid-if-reported", "An old driver reports no FWID, and the policy knows it.",
          lambda: h100().with_gpu(0, h100().gpus[0].with_fields(fwid=None)), "A17",
          policy=_rules(fwid="if-reported")),
    _good("everything-any", "Count, architecture and mode are left open in so many words.",
          lambda: h100(2), "A7", policy=_rules(count="any", architectures="any", modes="any")),
    _good("device-minimums-equal", "Versions and lists that name exactly this GPU.", h100,
          "A5 A18 A26",
          policy=_rules(
              driver={"min": "590.12", "rejected": ["590.11"]},
              vbios={"min": "96.00.f0.00.01", "accepted": ["96.00.F0.00.01"]},
              firmware_ids=[H100.fwid.hex()], device_ids=[h100().gpus[0].pdi.hex()],
          )),
    _good("mixed-driver-allowed", "One GPU has a newer driver, which the policy allows.",
          lambda: mixed(driver="590.13"), "A8", policy=hgx_policy(2, 1, mixed_driver="allow"),
          shared=HGX, entries=lambda node: _rims(node)[:1]),
    _good("mixed-firmware-allowed", "One GPU has a newer VBIOS, which the policy allows.",
          lambda: mixed(vbios="96.00.F0.00.02"), "A8",
          policy=hgx_policy(2, 1, mixed_firmware="allow"), shared=HGX,
          entries=lambda node: _rims(node)[1:]),
    _good("topology-any", "The policy leaves the wiring aside, knowingly.", hgx, "A8",
          policy=hgx_policy() | {"topology": "any"}, shared=HGX),
    _good("switches-any", "The policy leaves the switches aside, knowingly.", hgx, "A7",
          policy=device_policy(gpus=gpu_rules(count=2, modes=["PPCIE"]), nvswitches="any",
                               topology="any"), shared=HOPPER),
    _good("freshness-waived", "The nonce that the evidence states is used; nothing is fresh.",
          h100, "A2 A4", policy=device_policy(binding={"freshness": "waived"}), nonce=None,
          claims={"binding": {"fresh": False, "nonce": NONCE.hex()}}),
)  # fmt: skip
"""Accepted only because the policy says so."""
