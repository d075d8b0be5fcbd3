"""Checks of NVIDIA GPUs and NVSwitches: the same for both, but for what only GPUs have."""

from __future__ import annotations

from typing import NamedTuple

from ccverify.checks.model import Category, Check, Need, Scope

__all__ = ["NVIDIA_CHECKS"]

_E, _A, _P, _C = Category.EVIDENCE, Category.AUTHENTICITY, Category.POLICY, Category.COLLATERAL
_ALWAYS, _WAIVABLE, _ASKED = Need.ALWAYS, Need.UNLESS_WAIVED, Need.IF_ASKED
_GENUINE = "Ask for a new report and certificate chain; if it fails again, treat them as forged."
_FETCH = "Fetch it with `ccverify collateral fetch`, or check the --at time."
_RIM_WAIVED = "unless the policy says `rim: any`"
_REVOCATION_WAIVED = "unless the policy says `revocation: any`, or `if-given` and none is given"


class _Class(NamedTuple):
    """One class of devices."""

    prefix: str
    name: str
    plural: str
    section: str
    scope: Scope
    firmware: str
    manifests: str


_GPU = _Class("GPU", "GPU", "GPUs", "gpus", Scope.GPU, "VBIOS", "driver and VBIOS RIM")
_NVSWITCH = _Class(
    "NVSWITCH", "NVSwitch", "NVSwitches", "nvswitches", Scope.NVSWITCH, "BIOS", "BIOS RIM"
)


def _device_checks(of: _Class) -> tuple[Check, ...]:
    section, firmware = of.section, of.firmware

    def check(
        name: str, title: str, category: Category, need: Need,
        proves: str, stops: str, fix: str, applies: str = "",
    ) -> Check:  # fmt: skip
        code = f"{of.prefix}-{name}"
        return Check(code, title, category, need, proves, stops, fix, applies, of.scope)

    return (
        check(
            "REPORT-FORMAT",
            f"{of.name} report is well-formed",
            _E,
            _ALWAYS,
            "The bytes are one SPDM measurement request and response with exact lengths, and "
            "opaque data of this class of device.",
            "Truncated, padded or type-confused reports that two parsers read differently.",
            "Give the report exactly as the driver returned it: raw, hex or base64.",
        ),
        check(
            "CHAIN",
            f"{of.name} certificate chain leads to the NVIDIA Device Identity CA",
            _A,
            _ALWAYS,
            f"NVIDIA certified the attestation key of a known {of.name}: names, key usage and "
            "signatures of all levels.",
            "A self-made root, a CA used as a leaf, a chain by name only, an unknown device.",
            _GENUINE,
        ),
        check(
            "CHAIN-VALIDITY",
            f"{of.name} certificates are valid at the evaluation time",
            _C,
            _ALWAYS,
            "Every certificate of the chain is inside its validity period.",
            "Use before a certificate's time, or a wrong clock.",
            "Check the --at time.",
        ),
        check(
            "IDENTITY",
            f"{of.name} has a certified identity",
            _A,
            _ALWAYS,
            "The serial number of certificate [1] names the device for life (its PDI), and its "
            "type byte is that of this class.",
            "A device of another class in this one's place; a device without identity.",
            _GENUINE,
        ),
        check(
            "REPORT-SIGNATURE",
            f"{of.name} report is signed by the certified key",
            _A,
            _ALWAYS,
            "The attestation key of certificate [0] signed request and response.",
            "A report with changed measurements, nonce or mode.",
            _GENUINE,
        ),
        check(
            "ARCHITECTURE-CLAIM",
            "Certificate chain and evidence name one architecture",
            _A,
            _ALWAYS,
            "What the evidence claims, what the report states and what the chain certifies agree.",
            "The attester's word taken for the hardware's; a chain of another chip.",
            "Pass the evidence on unchanged; if it fails again, treat it as forged.",
        ),
        check(
            "FWID",
            "Report and certificate name the same firmware",
            _A,
            _WAIVABLE,
            "The FWID that the report states is the one for which the key is certified.",
            "The chain of one device with the report of another; a key of older firmware.",
            f"Install a driver that reports the FWID, or set {section}.fwid to "
            "`if-reported`, knowingly.",
            "unless no FWID is reported and the policy says `if-reported`",
        ),
        check(
            "REVOCATION",
            f"No certificate of the {of.name} is revoked",
            _A,
            _WAIVABLE,
            "A genuine OCSP response or CRL calls each certificate from [1] on good.",
            "A device whose keys NVIDIA has withdrawn, or put on hold.",
            "Refuse the device; an answer that is missing can be fetched with `ccverify "
            "collateral fetch`.",
            _REVOCATION_WAIVED,
        ),
        check(
            "REVOCATION-FRESH",
            f"Revocation status of the {of.name} is known and current",
            _C,
            _WAIVABLE,
            "There is a genuine answer for each certificate, valid at the evaluation time.",
            "An answer left out, or replayed from before the revocation.",
            _FETCH,
            _REVOCATION_WAIVED,
        ),
        check(
            "NONCE",
            f"{of.name} report answers this request",
            _A,
            _WAIVABLE,
            "The nonce in the signed request is the one that follows from the relying party's.",
            "Replay of an old report, or a report made for somebody else.",
            "Give --nonce, and the binding profile of the service in binding.profiles.",
            "unless the policy waives freshness and the evidence states no nonce",
        ),
        check(
            "ARCHITECTURE",
            f"{of.name} architecture is on the policy's list",
            _P,
            _WAIVABLE if of is _GPU else _ASKED,
            "The chip family that NVIDIA certified is one the tenant expects.",
            "An older or weaker chip than the one that was rented.",
            f"List the architecture in {section}.architectures, or refuse the machine.",
            "unless the policy says `any`" if of is _GPU else "if the policy lists architectures",
        ),
        check(
            "RIM",
            f"Reference manifests of the {of.name} are there",
            _C,
            _WAIVABLE,
            f"The {of.manifests} for exactly the versions in the report was found.",
            "Firmware of which nobody knows what it should measure.",
            _FETCH,
            _RIM_WAIVED,
        ),
        check(
            "RIM-SIGNATURE",
            f"Reference manifests of the {of.name} are genuine",
            _A,
            _WAIVABLE,
            "NVIDIA's RIM signer signed the manifests that were used, chain to the pinned root.",
            "Golden values made up to fit the firmware.",
            "Fetch the manifests from NVIDIA again; a test manifest is never genuine.",
            _RIM_WAIVED,
        ),
        check(
            "RIM-VALIDITY",
            f"Signers of the {of.name}'s manifests are valid at the evaluation time",
            _C,
            _WAIVABLE,
            "Every certificate of the RIM signer's chain is inside its validity period.",
            "A manifest that NVIDIA no longer stands behind.",
            f"Fetch a newer edition, or set {section}.rim_expired_signer to `allow`, knowingly.",
            "unless the policy says `rim: any` or allows expired signers",
        ),
        check(
            "RIM-REVOCATION",
            f"No signer of the {of.name}'s manifests is revoked",
            _A,
            _WAIVABLE,
            "A genuine, current answer calls each certificate of the RIM signer's chain good.",
            "A manifest signed with a key that NVIDIA has withdrawn.",
            "Fetch a newer edition of the manifest and the answer for its signer.",
            "unless the policy says `rim: any` or `revocation: any`, or `if-given` and none is "
            "given",
        ),
        check(
            "MEASUREMENTS",
            f"{of.name} measures what its manifests say it should",
            _P,
            _WAIVABLE,
            "Every measurement with a golden value has one of its golden values.",
            "Firmware, fuses or settings that NVIDIA did not release.",
            "Compare the versions with the manifests; if they are right, refuse the device.",
            _RIM_WAIVED,
        ),
        *(
            (
                check(
                    "MODE",
                    "GPU mode is on the policy's list",
                    _P,
                    _WAIVABLE,
                    "The signed fields state a mode the tenant expects, without contradiction.",
                    "A GPU handed out in a mode in which NVLink is not protected.",
                    "List the mode in gpus.modes (NOT_STATED if the report says none).",
                    "unless the policy says `any`",
                ),
                check(
                    "DRIVER",
                    "Driver version is as the policy asks",
                    _P,
                    _ASKED,
                    "The driver version in the signed report meets the policy's minimum and lists.",
                    "A driver with known holes.",
                    "Update the driver, or change gpus.driver knowingly.",
                    "if the policy names driver versions",
                ),
            )
            if of is _GPU
            else ()
        ),
        check(
            firmware,
            f"{firmware} version is as the policy asks",
            _P,
            _ASKED,
            f"The {firmware} version in the signed report meets the policy's minimum and lists.",
            "Firmware with known holes.",
            f"Update the firmware, or change {section}.{firmware.lower()} knowingly.",
            f"if the policy names {firmware} versions",
        ),
        check(
            "FIRMWARE-LIST",
            f"Firmware id of the {of.name} is on the policy's list",
            _P,
            _ASKED,
            "The certified FWID is one the tenant lists.",
            "Genuine firmware that the tenant has not approved.",
            f"List the FWID in {section}.firmware_ids, or refuse the device.",
            "if the policy lists firmware ids",
        ),
        check(
            "DEVICE-LIST",
            f"{of.name} is on the policy's list",
            _P,
            _ASKED,
            "The device's permanent identifier (PDI) is one the tenant lists.",
            "Relay to a genuine device in the wrong hands.",
            f"List the identifier in {section}.device_ids, or refuse the device.",
            "if the policy lists devices",
        ),
    )


def _count(of: _Class, scope: Scope) -> Check:
    return Check(
        f"{of.prefix}-COUNT",
        f"The number of {of.plural} is the policy's",
        _P,
        _WAIVABLE,
        f"As many distinct genuine {of.plural} attested as the policy asks for.",
        f"A machine with fewer {of.plural} than were rented, or with one more that listens.",
        f"State {of.section}.count, or refuse the machine.",
        "unless the policy says `any`",
        scope,
    )


NVIDIA_CHECKS = (
    *_device_checks(_GPU),
    _count(_GPU, Scope.GPUS),
    Check(
        "GPU-BOARD",
        "GPUs in Protected PCIe mode name the same NVSwitches",
        _A,
        _ASKED,
        "Every GPU in that mode signed the same list of switches behind its links.",
        "GPUs of two boards passed off as one node; needs no evidence of the switches.",
        "Ask for fresh evidence of every GPU of the node; devices of another are mixed in.",
        "two GPUs or more in Protected PCIe mode",
        Scope.GPUS,
    ),
    *_device_checks(_NVSWITCH),
    _count(_NVSWITCH, Scope.NVSWITCHES),
    Check(
        "DEVICES-DISTINCT",
        "No device is presented twice",
        _A,
        _ALWAYS,
        "Identities, attestation keys and reports of all GPUs and NVSwitches are distinct.",
        "One genuine device that is counted many times, or as two classes.",
        "Ask for the evidence of each device; if it fails again, treat the machine as forged.",
        "",
        Scope.DEVICES,
    ),
)
"""Checks of GPUs and NVSwitches, in the order in which they are made."""
