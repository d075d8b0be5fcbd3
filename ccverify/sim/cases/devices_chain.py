"""Bad cases: device chains that prove nothing, and devices that are not what they are called."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

from ccverify.sim.cases.device_model import (
    AUTHORITIES,
    HGX,
    ISSUER,
    STRANGER,
    DeviceCase,
    device_case,
    device_policy,
    forged,
    gpu_rules,
    h100,
    hgx,
    hgx_policy,
    items,
    of,
    switch,
    switch_policy,
    unchained,
    unproven,
    unreadable,
    without_rims,
)
from ccverify.sim.cases.model import Expected, Json, untrusted
from ccverify.sim.certs import CertificateSpec, Extension, basic_constraints, key_usage, to_pem
from ccverify.sim.nvidia import GB100, GH100, H100, LS10, NVSWITCH3, SimDevice, SimNode
from ccverify.sim.nvidia.pki import composite_device_id, dice_tcb_info

__all__ = ["DEVICE_CHAIN_CASES", "IDENTITY_CASES", "TAG_CASES"]

Chain = tuple[CertificateSpec, ...]
_GARBAGE = base64.b64encode(to_pem(b"no certificate", "CERTIFICATE").encode()).decode()
_SWITCH = (AUTHORITIES, "rim-ls10", "ocsp-h100-1")
_NO_CHAIN = forged("CHAIN", unchained())
_NO_FIRMWARE = forged("CHAIN", unproven("gpu-0", "IDENTITY"))
"""Path and names are right, but certificate [0] certifies no firmware."""
_UNREADABLE = forged("CHAIN", (*unchained(), *of("gpu-0", "CHAIN-VALIDITY").split()))


def _edited(edit: Callable[[Chain], Chain], node: Callable[[], SimNode] = h100) -> SimNode:
    """Put another chain beside the report, which is not signed again."""
    whole = node()
    gpu = whole.gpus[0]
    return whole.with_gpu(0, replace(gpu, chain=edit(gpu.chain)))


def _at(
    number: int, edit: Callable[[CertificateSpec], CertificateSpec]
) -> Callable[[Chain], Chain]:
    return lambda chain: (*chain[:number], edit(chain[number]), *chain[number + 1 :])


def _chain(
    name: str,
    description: str,
    edit: Callable[[Chain], Chain],
    expected: Expected = _NO_CHAIN,
    *,
    covers: str = "A16",
    **options: Any,
) -> DeviceCase:
    return device_case(
        f"device-chain-{name}", description, lambda: _edited(edit), expected, covers=covers,
        **options,
    )  # fmt: skip


def _named(certificate: CertificateSpec, name: str) -> CertificateSpec:
    return replace(certificate, subject=certificate.subject.with_attribute("CN", name))


def _extended(*extensions: Extension) -> Callable[[CertificateSpec], CertificateSpec]:
    def edit(certificate: CertificateSpec) -> CertificateSpec:
        for extension in extensions:
            certificate = certificate.with_extension(extension)
        return certificate

    return edit


def _identity_signs() -> SimNode:
    """The identity key, a CA's, signs the report itself."""
    gpu = h100().gpus[0]
    return h100().with_gpu(0, gpu.with_chain(gpu.chain[1:]))


def _below_leaf() -> SimNode:
    """The attestation key certifies one more key, as if it were a CA."""
    gpu = h100().gpus[0]
    key = STRANGER.key("sold on")
    more = replace(gpu.chain[0], key=key).signed_by(gpu.chain[0])
    return h100().with_gpu(0, gpu.with_chain((more, *gpu.chain)))


def _other_form(chain: Chain) -> Chain:
    """Blackwell's form of the FWID in a Hopper certificate."""
    leaf = chain[0].without_extension("2.23.133.5.4.1")
    return (leaf.with_extension(dice_tcb_info(H100.fwid, model="GH100")), *chain[1:])


def _forged_identity(chain: Chain) -> Chain:
    """An identity of the attacker's: names chain, signatures do not."""
    key = STRANGER.key("identity")
    identity = replace(chain[1], key=key, signer=STRANGER.key("provisioner"))
    return (chain[0].signed_by(identity), identity, *chain[2:])


def _renamed_chip(chain: Chain) -> Chain:
    identity = _named(chain[1], "GH200 A01 GSP BROM")
    leaf = _named(chain[0].signed_by(identity), "GH200 A01 GSP FMC LF")
    return (leaf, identity, *chain[2:])


def _switch_chain(edit: Callable[[Chain], Chain]) -> SimNode:
    whole = switch()
    one = whole.switches[0]
    return whole.with_switch(0, replace(one, chain=edit(one.chain)))


DEVICE_CHAIN_CASES: tuple[DeviceCase, ...] = (
    device_case("device-chain-of-stranger", "Everything by a root of the attacker's own.",
                lambda: h100(issuer=STRANGER), _NO_CHAIN, covers="A3"),
    _chain("root-exchanged", "The right chain under another root of the same name.",
           lambda chain: (*chain[:4], STRANGER.device_root()), covers="A3"),
    _chain("ca-of-stranger", "The attacker's identity CA under the genuine root.",
           lambda chain: (*STRANGER.device_chain(GH100, "h100-1/gpu-0", H100.fwid)[:4], chain[4]),
           covers="A3 A16"),
    device_case("device-chain-ca-as-leaf", "The identity key, a CA's, signs the report.",
                _identity_signs, _NO_CHAIN, covers="A16"),
    device_case("device-chain-leaf-as-ca", "The attestation key certifies a key of its own.",
                _below_leaf, _NO_CHAIN, covers="A16"),
    _chain("reversed", "Root first, where the attestation key should be.",
           lambda chain: chain[::-1]),
    _chain("swapped", "Identity and provisioner change places.",
           lambda chain: (chain[0], chain[2], chain[1], *chain[3:])),
    _chain("cut", "The provisioner is missing.", lambda chain: (*chain[:2], *chain[3:])),
    _chain("leaf-alone", "Only the attestation key's certificate.", lambda chain: chain[:1]),
    _chain("doubled", "One certificate stands twice.", lambda chain: (chain[0], *chain)),
    _chain("name-only", "Names that chain, signatures that do not.", _forged_identity),
    _chain("signature-edited", "The PDI in a genuine certificate was changed.",
           _at(1, lambda own: replace(own, serial=own.serial ^ 1, signature=own.signer.sign_der(
               own.tbs())))),
    _chain("unknown-chip", "NVIDIA certified it, and no such chip is known: refused by name.",
           _renamed_chip, covers="A16 A28"),
    _chain("other-provisioner", "The provisioner of NVSwitches certified a GPU.",
           lambda chain: (
               chain[0], chain[1].signed_by(ISSUER.provisioner(LS10)), ISSUER.provisioner(LS10),
               *chain[3:])),
    _chain("identity-not-ca", "The identity certificate says that it is no CA.",
           _at(1, _extended(basic_constraints(False)))),
    _chain("identity-key-usage", "The identity key may sign data, and no certificates.",
           _at(1, _extended(key_usage("digital_signature")))),
    _chain("leaf-key-usage", "The attestation key may sign certificates too.",
           _at(0, _extended(key_usage("digital_signature", "key_cert_sign")))),
    _chain("path-length", "The identity CA allows no CA below it, and there are two.",
           _at(3, _extended(basic_constraints(True, 0)))),
    _chain("unknown-critical", "A critical extension that nobody here understands.",
           _at(2, _extended(Extension("1.3.6.1.4.1.99999.1", True, b"\x05\x00")))),
    _chain("fwid-form", "A Hopper certificate with the FWID extension of Blackwell.",
           _other_form, _NO_FIRMWARE),
    _chain("fwid-missing", "No extension certifies the firmware.",
           _at(0, lambda own: own.without_extension("2.23.133.5.4.1")), _NO_FIRMWARE,
           covers="A16 A17"),
    _chain("fwid-of-other-device", "The FWID is bound to the identity key of another GPU.",
           _at(0, _extended(composite_device_id(h100(2).gpus[1].chain[1].key, H100.fwid))),
           _NO_FIRMWARE, covers="A16 A17"),
    _chain("not-yet-valid", "The identity certificate begins tomorrow.",
           _at(1, lambda own: replace(own, not_before=h100().at + timedelta(days=1))),
           untrusted(5, of("gpu-0", "CHAIN-VALIDITY")), covers="A29"),
    device_case("device-chain-garbage", "PEM text around something that is no certificate.", h100,
                _UNREADABLE, covers="A1 A22",
                evidence=items(lambda given: [one | {"certificate": _GARBAGE} for one in given])),
    device_case("switch-chain-of-stranger", "A switch under a root of the attacker's own.",
                lambda: _switch_chain(
                    lambda chain: STRANGER.device_chain(LS10, "h100-1/nvswitch-0", NVSWITCH3.fwid)),
                forged("CHAIN", unchained("nvswitch-0"), "nvswitch-0"), covers="A3",
                shared=_SWITCH, policy=switch_policy()),
    device_case("switch-chain-not-yet-valid", "The switch's identity begins tomorrow.",
                lambda: _switch_chain(_at(
                    1, lambda own: replace(own, not_before=h100().at + timedelta(days=1)))),
                untrusted(5, of("nvswitch-0", "CHAIN-VALIDITY")), covers="A29",
                shared=_SWITCH, policy=switch_policy()),
)  # fmt: skip


# --- identity ---


def _serial(serial: bytes) -> Callable[[SimDevice], SimDevice]:
    """Certify the device under another serial number, in the subject too."""

    def edit(device: SimDevice) -> SimDevice:
        name = device.chain[1].subject.with_attribute("serialNumber", serial.hex().upper())
        identity = replace(device.chain[1], subject=name, serial=int.from_bytes(serial, "big"))
        leaf = device.chain[0].signed_by(identity)
        return replace(device, chain=(leaf, identity, *device.chain[2:]))

    return edit


def _identity(
    name: str, description: str, edit: Callable[[SimDevice], SimDevice], covers: str
) -> DeviceCase:
    def node() -> SimNode:
        return h100().with_gpu(0, edit(h100().gpus[0]))

    return device_case(
        f"identity-{name}", description, node, forged("IDENTITY", unproven()), covers=covers
    )


def _subject_only(device: SimDevice) -> SimDevice:
    """The subject names another device than the serial number does."""
    other = b"\x41" + h100(2).gpus[1].pdi
    name = device.chain[1].subject.with_attribute("serialNumber", other.hex().upper())
    identity = replace(device.chain[1], subject=name)
    return replace(device, chain=(device.chain[0].signed_by(identity), identity, *device.chain[2:]))


def _posing_as_switch() -> SimNode:
    """A GPU's key signs a report in the form of an NVSwitch's."""
    gpu, one = h100().gpus[0], switch().switches[0]
    poser = replace(one, chain=gpu.chain).with_report(signer=gpu.report.signer)
    return replace(switch(), switches=(poser,))


def _info(name: str, description: str, expected: Expected, **fields: Any) -> DeviceCase:
    """The GPU's own report names another chip than its certificates do."""
    return device_case(
        f"identity-{name}", description,
        lambda: h100().with_gpu(0, h100().gpus[0].with_fields(**fields)), expected,
        covers="A17 A28",
    )  # fmt: skip


_OTHER_CHIP = of("gpu-0", "ARCHITECTURE-CLAIM")

IDENTITY_CASES: tuple[DeviceCase, ...] = (
    _info("gpu-info-other", "A Hopper chain, and a report whose GPU_INFO is of Blackwell.",
          untrusted(3, _OTHER_CHIP), gpu_info=GB100.gpu_info),
    _info("chip-info-other", "A Hopper chain, and a report that names a Blackwell chip.",
          untrusted(3, _OTHER_CHIP, without_rims()), chip_info="GB202"),
    _identity("type-byte", "The serial number of a GPU says that it is a switch.",
              _serial(b"\x50" + h100().gpus[0].pdi), "A6 A16"),
    _identity("zero", "A PDI of zero names nobody.", _serial(b"\x41" + bytes(8)), "A8"),
    _identity("other-in-subject", "Subject and serial number name two devices.", _subject_only,
              "A16"),
    device_case(
        "identity-gpu-poses-as-switch", "A genuine GPU key signs the report of a switch.",
        _posing_as_switch,
        untrusted(3, f"{of('nvswitch-0', 'IDENTITY ARCHITECTURE-CLAIM')} NVSWITCH-COUNT",
                  unproven("nvswitch-0")),
        covers="A6 A16 A28", shared=_SWITCH, policy=switch_policy(),
    ),
)  # fmt: skip


# --- the attester's tags ---


def _tagged(tag: str | None, *numbers: int) -> Callable[[SimNode], str]:
    """Call the items of these numbers something else; None leaves the tag out."""

    def edit(all_items: list[Json]) -> list[Json]:
        changed = [
            item | {"arch": tag} if at in numbers else item for at, item in enumerate(all_items)
        ]
        return [{name: value for name, value in one.items() if value is not None}
                for one in changed]  # fmt: skip

    return items(edit)


def _tag(name: str, description: str, tag: str | None, expected: Expected) -> DeviceCase:
    return device_case(
        f"tag-{name}", description, h100, expected, covers="A28", evidence=_tagged(tag, 0)
    )


_CLAIM = untrusted(3, of("gpu-0", "ARCHITECTURE-CLAIM"))
_NOT_A_SWITCH = of("nvswitch-0", "REPORT-FORMAT IDENTITY")
_AS_SWITCH = unproven("nvswitch-0", "REPORT-SIGNATURE ARCHITECTURE-CLAIM NONCE")


def _switch_as_gpu() -> Expected:
    failed = f"{of('gpu-1', 'REPORT-FORMAT IDENTITY')} GPU-COUNT NVSWITCH-COUNT"
    return untrusted(2, f"{failed} TOPOLOGY-COUNT TOPOLOGY-SWITCH-LIST", unreadable("gpu-1"))


TAG_CASES: tuple[DeviceCase, ...] = (
    _tag("newer", "A Hopper GPU that calls itself Blackwell; only the tag was changed.",
         "BLACKWELL", _CLAIM),
    _tag("unknown", "A tag that no device has.", "gcp-tdx", _CLAIM),
    _tag("amd", "A device of another vendor is refused by name.", "AMD-MI300X", _CLAIM),
    _tag("switch-without-policy", "The only GPU is called a switch, of which the policy is silent.",
         "LS10", untrusted(4, "NODE-CLASSES@gpus", ("NODE-CLASSES@nvswitches",
                                                   "NODE-CLASSES@topology"))),
    device_case("tag-gpu-as-switch", "One of two GPUs is called a switch.", lambda: hgx(2, 1),
                untrusted(2, f"{_NOT_A_SWITCH} GPU-COUNT NVSWITCH-COUNT TOPOLOGY-COUNT "
                             "TOPOLOGY-GPU-LIST", _AS_SWITCH),
                covers="A6 A28", evidence=_tagged("LS10", 0), policy=hgx_policy(2, 1), shared=HGX),
    device_case("tag-switch-as-gpu", "One of two switches is called a GPU.", lambda: hgx(1, 2),
                _switch_as_gpu(), covers="A6 A28", evidence=_tagged("HOPPER", 1),
                policy=hgx_policy(1, 2), shared=HGX),
    device_case("tag-other-architecture-listed", "What counts is the chain's, never the tag's.",
                h100, untrusted(3, of("gpu-0", "ARCHITECTURE-CLAIM ARCHITECTURE")), covers="A28",
                evidence=_tagged("BLACKWELL", 0),
                policy=device_policy(gpus=gpu_rules(architectures=["BLACKWELL"]))),
)  # fmt: skip
