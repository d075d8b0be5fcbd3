"""Do the devices of a node belong to one session and one board?  By what they sign alone.

Neither question needs the relying party's nonce or evidence of NVSwitches, so that a policy
which gives up freshness or topology does not give up these.
"""

from __future__ import annotations

from collections.abc import Sequence

from ccverify.evidence import BindingProfile
from ccverify.findings import Assurance, Finding, State
from ccverify.nvidia.device import DeviceVerification
from ccverify.nvidia.opaque import GpuMode, GpuOpaqueData

__all__ = ["judge_one_board", "judge_one_session"]

_DEVICE_NONCE_IN_REPORT_DATA = {
    BindingProfile.CHUTES: slice(0, 32),
    BindingProfile.NEAR: slice(32, 64),
    BindingProfile.REDPILL: slice(32, 64),
}
"""Profiles that put the very nonce of the devices into REPORTDATA, and where."""


def judge_one_session(
    devices: Sequence[DeviceVerification],
    profile: BindingProfile,
    report_data: bytes | None,
    assurance: Assurance,
) -> Finding:
    """Judge whether every device was asked with one nonce, and the quote with the same.

    Args:
        devices: GPUs and NVSwitches, those without a genuine report included.
        profile: the binding profile in use.
        report_data: the quote's REPORTDATA; None where there is no quote.
        assurance: the weakest of the devices'.
    """
    code = "BIND-DEVICES"
    nonces: dict[bytes, str] = {}
    for device in devices:
        if device.report is not None:
            nonces.setdefault(device.report.nonce, device.subject)
    if not nonces:
        return Finding(code, State.NOT_CHECKED, found="no device report is readable")
    if len(nonces) > 1:
        shown = [f"{subject} {nonce.hex()}" for nonce, subject in nonces.items()]
        rest = f" and {len(shown) - 4} more" if len(shown) > 4 else ""
        found = "; ".join(shown[:4]) + rest
        return Finding(code, State.FAIL, "one nonce in all device reports", found, None, assurance)
    nonce = next(iter(nonces))
    part = _DEVICE_NONCE_IN_REPORT_DATA.get(profile)
    if part is None or report_data is None:
        found = f"one nonce in {len(devices)} device reports"
        return Finding(code, State.PASS, None, found, None, assurance)
    where = f"REPORTDATA[{part.start}:{part.stop}]"
    if report_data[part] != nonce:
        expected = f"the quote's {where}, {report_data[part].hex()}"
        return Finding(code, State.FAIL, expected, nonce.hex(), "report[4:36]", assurance)
    found = f"one nonce in {len(devices)} device reports and in {where}"
    return Finding(code, State.PASS, None, found, None, assurance)


def judge_one_board(gpus: Sequence[DeviceVerification]) -> tuple[Finding, ...]:
    """Judge whether all GPUs in Protected PCIe mode sign the same NVSwitches.

    Empty where fewer than two such GPUs are genuine: then nothing can differ.
    """
    lists: dict[frozenset[bytes], list[str]] = {}
    for device in gpus:
        opaque = device.opaque
        if not device.genuine or not isinstance(opaque, GpuOpaqueData):
            continue
        if opaque.mode is GpuMode.PROTECTED_PCIE:
            switches = frozenset(pdi for pdi in opaque.switch_pdis or () if any(pdi))
            lists.setdefault(switches, []).append(device.subject)
    count = sum(map(len, lists.values()))
    if count < 2:
        return ()
    code = "GPU-BOARD"
    if len(lists) == 1:
        names = ", ".join(sorted(pdi.hex().upper() for pdi in next(iter(lists)))) or "none"
        found = f"{count} GPUs name the NVSwitches {names}"
        return (Finding(code, State.PASS, None, found, assurance=Assurance.HARDWARE),)
    found = "; ".join(
        f"{', '.join(subjects)}: {', '.join(sorted(p.hex().upper() for p in pdis)) or 'none'}"
        for pdis, subjects in lists.items()
    )
    expected = "the same NVSwitches behind all GPUs in Protected PCIe mode"
    return (Finding(code, State.FAIL, expected, found, assurance=Assurance.HARDWARE),)
