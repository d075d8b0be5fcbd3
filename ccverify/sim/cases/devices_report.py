"""Bad cases: reports that are malformed, unsigned, not fresh, or of other firmware."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ccverify.sim.cases.device_model import (
    AUTHORITIES,
    DeviceCase,
    b200,
    device_case,
    device_policy,
    forged,
    gpu_rules,
    h100,
    items,
    of,
    switch,
    switch_policy,
    unproven,
    unreadable,
)
from ccverify.sim.cases.model import NONCE, Expected, Json, incomplete, refused, untrusted
from ccverify.sim.nvidia import H100, SimDevice, SimNode
from ccverify.sim.nvidia.spdm import MeasurementBlock

__all__ = ["DOCUMENT_CASES", "FIRMWARE_CASES", "MODE_CASES", "NONCE_CASES", "REPORT_CASES"]

_P384_ORDER = bytes.fromhex("ff" * 24 + "c7634d81f4372ddf581a0db248b0a77aecec196accc52973")
_OTHER_NONCE = bytes(range(0x20, 0x40))
_SWITCH = (AUTHORITIES, "rim-ls10", "ocsp-h100-1")
_MALFORMED = forged("REPORT-FORMAT", unreadable(), exit_code=2)
_UNSIGNED = forged("REPORT-SIGNATURE", unproven())


def _gpu(edit: Callable[[SimDevice], SimDevice], node: SimNode | None = None) -> SimNode:
    whole = node or h100()
    return whole.with_gpu(0, edit(whole.gpus[0]))


def _reports(edit: Callable[[bytearray], bytes | bytearray]) -> Callable[[SimNode], str]:
    """Change bytes of each report after it was signed."""

    def change(all_items: list[Json]) -> list[Json]:
        return [
            item | {"evidence": base64.b64encode(
                edit(bytearray(base64.b64decode(item["evidence"])))).decode("ascii")}
            for item in all_items
        ]  # fmt: skip

    return items(change)


def _flip(at: int, mask: int = 1) -> Callable[[bytearray], bytearray]:
    def edit(report: bytearray) -> bytearray:
        report[at] ^= mask
        return report

    return edit


# --- the evidence file ---


def _stub() -> list[Json]:
    """One item that is well-formed, with next to nothing in it."""
    chain = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    evidence = {"evidence": "EeA=", "certificate": base64.b64encode(chain.encode()).decode()}
    return [{"arch": "HOPPER", **evidence, "nonce": NONCE.hex(), "version": "1.0"}]


def _document(
    name: str, description: str, edit: Callable[[list[Json]], Any], covers: str
) -> DeviceCase:
    return device_case(
        f"file-{name}", description, h100, refused("EVIDENCE-FORMAT", 2), covers=covers,
        evidence=lambda node: json.dumps(edit(_stub()), indent=2) + "\n",
    )  # fmt: skip


def _text(name: str, description: str, old: str, new: str, covers: str) -> DeviceCase:
    return device_case(
        f"file-{name}", description, h100, refused("EVIDENCE-FORMAT", 2), covers=covers,
        evidence=lambda node: json.dumps(_stub(), indent=2).replace(old, new, 1) + "\n",
    )  # fmt: skip


DOCUMENT_CASES: tuple[DeviceCase, ...] = (
    _document("empty-list", "No device at all is no evidence.", lambda given: [], "A1 A25"),
    _document("no-evidences", "The service says that all is well, and shows nothing.",
              lambda given: {"evidences": [], "result_code": 0, "result_message": "Ok"}, "A1 A25"),
    _document("report-empty", "An item whose report is empty.",
              lambda given: [given[0] | {"evidence": ""}], "A1"),
    _document("chain-empty", "An item whose certificate chain is empty.",
              lambda given: [given[0] | {"certificate": ""}], "A1"),
    _document("report-missing", "An item without a report.",
              lambda given: [{k: v for k, v in given[0].items() if k != "evidence"}], "A1"),
    _document("base64-stray-bits", "Base64 that two decoders may read differently.",
              lambda given: [given[0] | {"evidence": "EeB="}], "A21"),
    _document("129-devices", "More devices than a rack has.",
              lambda given: given * 129,
              "A22"),
    _text("duplicate-member", "Two architectures in one item: one reader takes the first.",
          '"arch"', '"arch": "BLACKWELL",\n    "arch"', "A21"),
    _text("nan", "NaN is no JSON.", '"version": "1.0"', '"version": NaN', "A21"),
    _text("deep-nesting", "A thousand lists in one another.", '"version": "1.0"',
          '"version": ' + "[" * 1000 + "]" * 1000, "A21 A22"),
    _text("cut", "The file ends in the middle of its last item.", '"version": "1.0"\n  }\n]', "",
          "A1"),
)  # fmt: skip


# --- the report ---


def _report(
    name: str,
    description: str,
    expected: Expected,
    *,
    edit: Callable[[SimDevice], SimDevice] = lambda gpu: gpu,
    covers: str = "A1",
    **options: Any,
) -> DeviceCase:
    return device_case(
        f"report-{name}", description, lambda: _gpu(edit), expected, covers=covers, **options
    )


def _switch_report(
    name: str,
    description: str,
    expected: Expected,
    *,
    edit: Callable[[SimDevice], SimDevice] = lambda one: one,
    covers: str = "A1",
    policy: Json | None = None,
    **options: Any,
) -> DeviceCase:
    def node() -> SimNode:
        whole = switch()
        return whole.with_switch(0, edit(whole.switches[0]))

    return device_case(
        f"switch-{name}", description, node, expected, covers=covers, shared=_SWITCH,
        policy=policy or switch_policy(), **options,
    )  # fmt: skip


def _repeated_block(gpu: SimDevice) -> SimDevice:
    blocks = gpu.report.blocks
    return gpu.with_report(blocks=(*blocks[:-1], replace(blocks[0], value=b"\x01" * 48)))


def _wide_block(gpu: SimDevice) -> SimDevice:
    first, *rest = gpu.report.blocks
    return gpu.with_report(blocks=(MeasurementBlock(first.index, first.value[:32]), *rest))


REPORT_CASES: tuple[DeviceCase, ...] = (
    _report("cut-before-signature", "The report ends where its signature should begin.",
            _MALFORMED, evidence=_reports(lambda report: report[:-96])),
    _report("cut-last-byte", "The last byte of the signature is missing.", _MALFORMED,
            evidence=_reports(lambda report: report[:-1])),
    _report("cut-in-header", "Only the request is there.", _MALFORMED,
            evidence=_reports(lambda report: report[:37])),
    _report("trailing-data", "Bytes after the signature, which nobody signed.", _MALFORMED,
            edit=lambda gpu: gpu.with_report(trailing=b"\x01tail")),
    _report("block-count", "One more block is announced than there is.", _MALFORMED,
            edit=lambda gpu: gpu.with_report(block_count=65)),
    _report("block-twice", "One index is measured twice, with different values.", _MALFORMED,
            edit=_repeated_block, covers="A21 A22"),
    _report("block-short", "A measurement of 32 bytes, where SHA-384 has 48.", _MALFORMED,
            edit=_wide_block, covers="A15"),
    _report("other-request", "The request is not GET_MEASUREMENTS.", _MALFORMED,
            edit=lambda gpu: gpu.with_report(request_code=0xE1)),
    _report("field-twice", "The driver version stands twice in the opaque data.", _MALFORMED,
            edit=lambda gpu: gpu.with_fields(extra=((3, b"999.99\0"),)), covers="A21"),
    _report("flag-unknown", "FEATURE_FLAG has a value that no firmware defines.", _MALFORMED,
            edit=lambda gpu: gpu.with_fields(feature_flag=7), covers="A11"),
    _report("signature-zero", "The signature is all zero.", _UNSIGNED,
            edit=lambda gpu: gpu.with_report(signature=bytes(96)), covers="A1 A20"),
    _report("signature-r-is-order", "r is the order of the group, which no signature has.",
            _UNSIGNED, covers="A20",
            edit=lambda gpu: gpu.with_report(signature=_P384_ORDER + bytes(47) + b"\x01")),
    _report("measurement-flipped", "One bit of a measurement was changed after signing.",
            _UNSIGNED, evidence=_reports(_flip(37 + 8 + 55 * 21 + 20))),
    _report("mode-flipped", "The host turns FEATURE_FLAG after the GPU signed it.", _UNSIGNED,
            evidence=_reports(_flip(-96 - 2)), covers="A1 A11"),
    _report("signed-by-stranger", "A key that nobody certified signed the report.", _UNSIGNED,
            edit=lambda gpu: gpu.with_report(signer=h100(2).gpus[1].report.signer),
            covers="A1 A17"),
    _report("says-ok", "The service calls a forged report good, result code 0.", _UNSIGNED,
            edit=lambda gpu: gpu.with_report(signature=b"\x01" * 96), covers="A25 A28",
            evidence=items(lambda given: {"evidences": given, "result_code": 0,
                                        "result_message": "Ok"})),
    _switch_report("report-cut", "A switch's report ends inside its opaque data.",
                   forged("REPORT-FORMAT", unreadable("nvswitch-0"), "nvswitch-0", exit_code=2),
                   evidence=_reports(lambda report: report[:-200])),
    _switch_report("report-flipped", "The host turns the position of a switch after it signed.",
                   forged("REPORT-SIGNATURE", unproven("nvswitch-0"), "nvswitch-0"),
                   evidence=_reports(_flip(-96 - 8)), covers="A1 A8"),
)  # fmt: skip


# --- the nonce ---

_CONTRADICTED = untrusted(3, f"{of('gpu-0', 'NONCE')} BIND-CONSISTENT")


def _nonce(
    name: str,
    description: str,
    expected: Expected,
    node: Callable[[], SimNode] = h100,
    covers: str = "A2",
    **options: Any,
) -> DeviceCase:
    return device_case(
        f"device-nonce-{name}", description, node, expected, covers=covers, **options
    )


def _last_bit() -> SimNode:
    node = h100(2)
    return node.with_gpu(1, node.gpus[1].with_report(nonce=NONCE[:-1] + bytes((NONCE[-1] ^ 1,))))


def _two_requests() -> SimNode:
    node = h100(2)
    return node.with_gpu(1, node.gpus[1].with_report(nonce=_OTHER_NONCE))


def _without_nonce(all_items: list[Json]) -> list[Json]:
    return [{name: value for name, value in item.items() if name != "nonce"} for item in all_items]


NONCE_CASES: tuple[DeviceCase, ...] = (
    _nonce("of-another-request", "Genuine evidence of another day, which says so itself.",
           _CONTRADICTED, lambda: h100(nonce=_OTHER_NONCE), "A2 A4"),
    _nonce("relabelled", "An old report beside which somebody wrote the new nonce.",
           untrusted(3, of("gpu-0", "NONCE")),
           lambda: _gpu(lambda gpu: replace(gpu, claimed_nonce=NONCE), h100(nonce=_OTHER_NONCE)),
           "A2 A4 A28"),
    _nonce("left-out", "An old report, and no nonce beside it.",
           untrusted(3, of("gpu-0", "NONCE")), lambda: h100(nonce=_OTHER_NONCE), "A2 A4",
           evidence=items(_without_nonce)),
    _nonce("last-bit", "The second of two GPUs answers a nonce that differs in its last bit.",
           untrusted(3, of("gpu-1", "NONCE")), _last_bit,
           policy=device_policy(gpus=gpu_rules(count=2))),
    _nonce("swapped-in", "The host writes the new nonce into an old report.",
           forged("REPORT-SIGNATURE", unproven()), lambda: h100(nonce=_OTHER_NONCE), "A2 A4",
           evidence=lambda node: _reports(
               lambda report: report[:4] + NONCE + report[36:])(
                   _gpu(lambda gpu: replace(gpu, claimed_nonce=NONCE), node))),
    _nonce("not-given", "The relying party sent no nonce: nothing proves the report to be new.",
           incomplete(6, f"{of('gpu-0', 'NONCE')} BIND-FRESH"), covers="A2 A4", nonce=None),
    _nonce("of-16-bytes", "A nonce of 16 bytes, from which no device nonce follows.",
           incomplete(6, of("gpu-0", "NONCE")), nonce=NONCE[:16], evidence=items(_without_nonce)),
    _nonce("claim-contradicts", "The report answers, and the evidence says another nonce.",
           untrusted(3, "BIND-CONSISTENT"),
           lambda: _gpu(lambda gpu: replace(gpu, claimed_nonce=_OTHER_NONCE)), "A2 A28"),
    _nonce("of-two-requests", "Of two GPUs one answers, the other is of another day.",
           untrusted(3, of("gpu-1", "NONCE")), _two_requests, "A4 A6",
           policy=device_policy(gpus=gpu_rules(count=2))),
    _nonce("of-two-requests-waived", "Freshness is waived; that all is of one request is not.",
           untrusted(3, "BIND-DEVICES"), _two_requests, "A4 A6", nonce=None,
           policy=device_policy(gpus=gpu_rules(count=2), binding={"freshness": "waived"})),
    _nonce("claim-wrong-waived", "Freshness is waived: the stated nonce must be the signed one.",
           untrusted(3, of("gpu-0", "NONCE")),
           lambda: _gpu(lambda gpu: replace(gpu, claimed_nonce=_OTHER_NONCE)), "A2 A28",
           nonce=None, policy=device_policy(binding={"freshness": "waived"})),
    _switch_report("nonce", "A switch's report is of another day.",
                   untrusted(3, f"{of('nvswitch-0', 'NONCE')}"), covers="A2 A4",
                   edit=lambda one: replace(one.with_report(nonce=_OTHER_NONCE),
                                            claimed_nonce=NONCE)),
)  # fmt: skip


# --- firmware id and attestation key ---


def _firmware(
    name: str, description: str, node: Callable[[], SimNode], expected: Expected, **options: Any
) -> DeviceCase:
    return device_case(
        f"fwid-{name}", description, node, expected, covers=options.pop("covers", "A17"), **options
    )


def _certified(fwid: bytes) -> Callable[[SimDevice], SimDevice]:
    """Certify the same key of the same device for another firmware."""

    def edit(gpu: SimDevice) -> SimDevice:
        other = gpu.chain[0].with_extension(
            h100().issuer.device_chain(gpu.chip, gpu.label, fwid)[0].extensions[-1]
        )
        return replace(gpu, chain=(other, *gpu.chain[1:]))

    return edit


def _chain_of(number: int) -> Callable[[SimDevice], SimDevice]:
    return lambda gpu: replace(gpu, chain=h100(2).gpus[number].chain)


def _older_key(gpu: SimDevice) -> SimDevice:
    older = replace(H100, vbios="96.00.F0.00.00").fwid
    return replace(gpu, chain=h100().issuer.device_chain(gpu.chip, gpu.label, older))


def _older_key_signs(gpu: SimDevice) -> SimDevice:
    return gpu.with_chain(_older_key(gpu).chain)


_MISMATCH = untrusted(3, of("gpu-0", "FWID"))

FIRMWARE_CASES: tuple[DeviceCase, ...] = (
    _firmware("of-report", "The report states another FWID than the chain certifies.",
              lambda: _gpu(lambda gpu: gpu.with_fields(fwid=b"\x5a" * 48)), _MISMATCH),
    _firmware("of-certificate", "The chain certifies another FWID than the report states.",
              lambda: _gpu(_certified(b"\x5a" * 48)), _MISMATCH),
    _firmware("of-older-key", "The device's key of older firmware signs what the newer states.",
              lambda: _gpu(_older_key_signs), _MISMATCH),
    _firmware("chain-of-other-gpu", "The report of one GPU with the chain of another.",
              lambda: _gpu(_chain_of(1), h100(1)), _UNSIGNED, covers="A5 A17"),
    _firmware("chain-of-older-key", "The chain of the device's older firmware.",
              lambda: _gpu(_older_key), _UNSIGNED),
    _firmware("second-of-list", "Blackwell certifies two FWIDs; the report names the second.",
              lambda: _gpu(lambda gpu: gpu.with_fields(fwid=bytes(48)), b200()), _MISMATCH,
              policy=device_policy(gpus=gpu_rules(architectures=["BLACKWELL"])),
              shared=(AUTHORITIES, "rim-gb100", "ocsp-b200-1")),
    _firmware("not-reported", "An old driver reports no FWID: nothing can be compared.",
              lambda: _gpu(lambda gpu: gpu.with_fields(fwid=None)),
              incomplete(6, of("gpu-0", "FWID"))),
    _firmware("wrong-if-reported", "`if-reported` waives silence, and no wrong answer.",
              lambda: _gpu(lambda gpu: gpu.with_fields(fwid=b"\x5a" * 48)), _MISMATCH,
              policy=device_policy(gpus=gpu_rules(fwid="if-reported"))),
    _switch_report("fwid-required", "No LS10 report names its firmware, and the policy wants it.",
                   incomplete(6, of("nvswitch-0", "FWID")), covers="A17",
                   policy=switch_policy(fwid="required")),
)  # fmt: skip


# --- the mode ---


def _mode(
    name: str, description: str, edit: Callable[[SimDevice], SimDevice], **options: Any
) -> DeviceCase:
    return device_case(
        f"mode-{name}", description, lambda: _gpu(edit), untrusted(4, of("gpu-0", "MODE")),
        covers="A11", **options,
    )  # fmt: skip


MODE_CASES: tuple[DeviceCase, ...] = (
    _mode("not-listed", "A GPU in multi-GPU passthrough where a single one is asked for.",
          lambda gpu: gpu.in_mode("MPT"), policy=device_policy(fabric="any")),
    _mode("not-stated", "Old firmware that names no mode, under a policy that asks for one.",
          lambda gpu: gpu.in_mode(None)),
    _mode("contradiction", "FEATURE_FLAG says single GPU, the older field Protected PCIe.",
          lambda gpu: gpu.with_fields(protected_pcie=True),
          policy=device_policy(topology="any")),
    _mode("without-version", "FEATURE_FLAG without the version that defines it.",
          lambda gpu: gpu.with_fields(opaque_data_version=None)),
    _mode("without-flag", "Opaque data version 1 without the flag it calls for.",
          lambda gpu: gpu.with_fields(feature_flag=None),
          policy=device_policy(gpus=gpu_rules(modes=["SPT", "NOT_STATED"]))),
)  # fmt: skip
