"""Bad cases: reference manifests that are missing, exchanged, forged or wrapped, and mismatches."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from ccverify.sim.cases.device_model import (
    AUTHORITIES,
    DRIVER_RIM,
    ISSUER,
    STRANGER,
    VBIOS_RIM,
    DeviceCase,
    Entries,
    answers,
    device_case,
    device_policy,
    gpu_rules,
    h100,
    hgx,
    hgx_policy,
    numbered,
    of,
    rim_entry,
    switch,
    switch_policy,
    without_rims,
)
from ccverify.sim.cases.devices_good import expired_signer
from ccverify.sim.cases.model import Expected, Json, incomplete, refused, untrusted
from ccverify.sim.nvidia import B200, GH100, H100, NVSWITCH3, RimSpec, SimDevice, SimNode
from ccverify.sim.nvidia.rim import GoldenValue

__all__ = ["MANIFEST_CASES", "MEASUREMENT_CASES", "SIGNER_STATUS_CASES", "XML_CASES"]

_OCSP = (AUTHORITIES, "ocsp-h100-1")
_BUT_DRIVER = (VBIOS_RIM, *_OCSP)
_BUT_VBIOS = (DRIVER_RIM, *_OCSP)


def _short(rim: RimSpec) -> RimSpec:
    """The manifest without its inactive entries, which say nothing, to keep the corpus small."""
    return replace(rim, resources=tuple(own for own in rim.resources if own.active))


_DRIVER, _VBIOS = _short(H100.driver_rim(ISSUER)), _short(H100.vbios_rim(ISSUER))
_BIOS = _short(NVSWITCH3.bios_rim(ISSUER))
_EVIL = b"\x66" * 48

_ABSENT = Expected(verdict="incomplete", exit_code=5, not_checked=without_rims())
_FORGED = untrusted(3, of("gpu-0", "RIM-SIGNATURE"), without_rims(less="RIM RIM-SIGNATURE"))
_MISMATCH = untrusted(4, of("gpu-0", "MEASUREMENTS"))


def _given(*rims: RimSpec) -> Entries:
    return lambda node: [rim_entry(_short(rim)) for rim in rims]


def _rim(
    name: str,
    description: str,
    expected: Expected,
    entries: Entries | None = None,
    *,
    shared: tuple[str, ...] = _BUT_DRIVER,
    covers: str = "A18",
    **options: Any,
) -> DeviceCase:
    return device_case(
        f"rim-{name}", description, options.pop("node", h100), expected, covers=covers,
        shared=shared, entries=entries, **options,
    )  # fmt: skip


def _xml(edit: Callable[[str], str], rim: RimSpec = _DRIVER) -> Entries:
    """A manifest whose text was changed after it was signed."""
    return lambda node: [rim_entry(rim, edit(rim.xml().decode("utf-8")))]


def _first_value(rim: RimSpec, index: int) -> str:
    return next(own for own in rim.resources if own.index == index).values[0].hex()


_OTHER_BOARD = replace(H100, project_sku="0210", chip_sku="886").vbios_rim(ISSUER)
_OTHER_VERSION = replace(H100, driver="590.13").driver_rim(ISSUER)

MANIFEST_CASES: tuple[DeviceCase, ...] = (
    _rim("none", "No manifest at all.", _ABSENT, shared=_OCSP),
    _rim("driver-missing", "The VBIOS's manifest is there, the driver's is not.", _ABSENT),
    _rim("other-version", "The manifest of another driver version.", _ABSENT,
         _given(_OTHER_VERSION)),
    _rim("other-version-renamed", "The same, filed under the name that is looked for.", _ABSENT,
         _given(replace(_OTHER_VERSION, file_name=_DRIVER.file_name))),
    _rim("other-chip", "The manifest of a Blackwell driver of that version.", _ABSENT,
         _given(replace(B200, driver=H100.driver).driver_rim(ISSUER))),
    _rim("other-sku", "The VBIOS manifest of another board, under its own id.", _ABSENT,
         _given(_OTHER_BOARD), shared=_BUT_VBIOS),
    _rim("other-sku-renamed", "Under the right id, its content gives it away.", _MISMATCH,
         _given(replace(_OTHER_BOARD, file_name=_VBIOS.file_name)), shared=_BUT_VBIOS),
    _rim("test-signed", "A manifest of a debug root, such as has leaked into the field.", _FORGED,
         _given(replace(_DRIVER, chain=ISSUER.rim_debug_chain(GH100)))),
    _rim("of-stranger", "A manifest by an NVIDIA of the attacker's own.", _FORGED,
         _given(H100.driver_rim(STRANGER))),
    _rim("device-signed", "A manifest signed by the chain of a GPU.", _FORGED,
         _given(replace(_DRIVER, chain=h100().gpus[0].chain)), covers="A16 A18"),
    _rim("signer-chain-cut", "The CA between signer and root is missing.", _FORGED,
         _given(replace(_DRIVER, chain=ISSUER.rim_chain(GH100)[:1])), covers="A16 A18"),
    _rim("other-signer", "Signed by another key than that of the certificate beside it.", _FORGED,
         _given(replace(_DRIVER, signer=STRANGER.key("rim")))),
    _rim("edited", "One golden value was changed after signing, to fit altered firmware.",
         _FORGED, _xml(lambda text: text.replace(_first_value(_DRIVER, 21), _EVIL.hex())),
         node=lambda: h100().with_gpu(0, h100().gpus[0].with_measurement(21, _EVIL))),
    _rim("version-edited", "The version in an older manifest was changed after signing.", _FORGED,
         _xml(lambda text: text.replace('"590.11"', '"590.12"'),
              _short(replace(H100, driver="590.11").driver_rim(ISSUER)))),
    _rim("editions-conflict", "Two genuine editions of one version state different values.",
         untrusted(5, of("gpu-0", "RIM"), without_rims(less="RIM")),
         _given(_DRIVER, _DRIVER.with_golden(21, _EVIL))),
    _rim("signer-expired", "The signer's certificate has expired, and nobody allowed that.",
         untrusted(5, of("gpu-0", "RIM-VALIDITY")), expired_signer, covers="A18 A29"),
    _rim("signer-not-yet-valid", "The signer's certificate begins next month.",
         untrusted(5, of("gpu-0", "RIM-VALIDITY")),
         _given(replace(_DRIVER, chain=(
             ISSUER.rim_signer(GH100, window=(datetime(2026, 7, 15, tzinfo=UTC),
                                              datetime(2028, 7, 15, tzinfo=UTC))),
             *ISSUER.rim_chain(GH100)[1:]))), covers="A18 A29"),
    _rim("driver-not-named", "The report names no driver, so that nobody knows which manifest.",
         _ABSENT, shared=(DRIVER_RIM, *_BUT_DRIVER),
         node=lambda: h100().with_gpu(0, h100().gpus[0].with_fields(driver_version=None))),
    _rim("switch-missing", "No manifest for the BIOS of a switch.",
         Expected(verdict="incomplete", exit_code=5, not_checked=without_rims("nvswitch-0")),
         node=switch, policy=switch_policy(), shared=_OCSP),
    _rim("switch-test-signed", "A switch's manifest of a debug root.",
         untrusted(3, of("nvswitch-0", "RIM-SIGNATURE"),
                   without_rims("nvswitch-0", less="RIM RIM-SIGNATURE")),
         _given(replace(_BIOS, chain=ISSUER.rim_debug_chain(GH100))),
         node=switch, policy=switch_policy(), shared=_OCSP),
    _rim("switch-signer-expired", "The signer of a switch's manifest has expired.",
         untrusted(5, of("nvswitch-0", "RIM-VALIDITY"),
                   ()),
         node=switch, policy=switch_policy(), shared=(AUTHORITIES, "ocsp-h100-1"),
         entries=lambda node: [rim_entry(replace(_BIOS, chain=(
             ISSUER.rim_signer(node.switches[0].chip,
                               window=(datetime(2023, 12, 1, tzinfo=UTC),
                                       datetime(2025, 12, 1, tzinfo=UTC))),
             *_BIOS.chain[1:])))]),
)  # fmt: skip


# --- what is measured ---


def _measured(
    name: str,
    description: str,
    edit: Callable[[SimDevice], SimDevice],
    indices: list[int],
    covers: str = "A18",
) -> DeviceCase:
    return device_case(
        f"measured-{name}", description,
        lambda: h100().with_gpu(0, edit(h100().gpus[0])),
        untrusted(4, of("gpu-0", "MEASUREMENTS"),
                  gpus=[{"measurements": {"mismatched": indices}}]),
        covers=covers,
    )  # fmt: skip


def _many(gpu: SimDevice) -> SimDevice:
    for index in (1, 9, 21, 40):
        gpu = gpu.with_measurement(index, _EVIL)
    return gpu


def _without_block(gpu: SimDevice) -> SimDevice:
    kept = tuple(block for block in gpu.report.blocks if block.index != 22)
    return gpu.with_report(blocks=kept)


def _swapped(gpu: SimDevice) -> SimDevice:
    """Two genuine values at each other's index."""
    values = {block.index - 1: block.value for block in gpu.report.blocks}
    return gpu.with_measurement(21, values[22]).with_measurement(22, values[21])


def _one_of_two() -> SimNode:
    return h100(2).with_gpu(1, h100(2).gpus[1].with_measurement(21, _EVIL))


MEASUREMENT_CASES: tuple[DeviceCase, ...] = (
    _measured("one-wrong", "One measurement has none of its golden values.",
              lambda gpu: gpu.with_measurement(21, _EVIL), [21]),
    _measured("many-wrong", "Driver and VBIOS measure something that NVIDIA did not release.",
              _many, [1, 9, 21, 40]),
    _measured("block-missing", "A measurement that has a golden value was left out.",
              _without_block, [21], "A14 A18"),
    _measured("swapped", "Two genuine values, each at the index of the other.", _swapped,
              [21, 22]),
    _measured("zero", "A measurement of zero where a value is expected.",
              lambda gpu: gpu.with_measurement(21, bytes(48)), [21]),
    _measured("nvdec0-enabled", "The report says that NVDEC0 is on, so that index 35 counts.",
              lambda gpu: gpu.with_fields(nvdec0_enabled=True), [35], "A11 A18"),
    device_case("measured-second-gpu", "Of two GPUs the second runs something else.", _one_of_two,
                untrusted(4, of("gpu-1", "MEASUREMENTS")), covers="A18",
                policy=device_policy(gpus=gpu_rules(count=2))),
    device_case("measured-switch", "A switch runs firmware that NVIDIA did not release.",
                lambda: switch().with_switch(0, switch().switches[0].with_measurement(3, _EVIL)),
                untrusted(4, of("nvswitch-0", "MEASUREMENTS"),
                          nvswitches=[{"measurements": {"mismatched": [3]}}]),
                covers="A18", policy=switch_policy(), shared=("rim-ls10", *_OCSP)),
    _rim("both-state-an-index", "Driver and VBIOS manifest both claim index 21.", _MISMATCH,
         _given(H100.vbios_rim(ISSUER).with_golden(21, *H100.driver_golden()[21].values)),
         shared=_BUT_VBIOS),
    _rim("all-inactive", "Genuine manifests in which nothing is active prove nothing.", _MISMATCH,
         lambda node: [
             rim_entry(replace(rim, resources=tuple(
                 replace(own, active=False) for own in rim.resources)))
             for rim in (_DRIVER, _VBIOS)
         ], shared=_OCSP),
)  # fmt: skip


# --- what is no manifest at all: a pack is refused as a whole ---


def _refused(name: str, description: str, entries: Entries, covers: str = "A19") -> DeviceCase:
    return _rim(name, description, refused(), entries, covers=covers)


def _inserted(before: str, text: str) -> Callable[[str], str]:
    return lambda xml: xml.replace(before, text + before, 1)


def _bomb(xml: str) -> str:
    """Nine levels of entities, each ten of the one before."""
    levels = "".join(f'<!ENTITY e{at} "{f"&e{at - 1};" * 10 if at else "lol"}">' for at in range(9))
    return f"<!DOCTYPE SoftwareIdentity [{levels}]>{xml}".replace('name="GH100"', 'name="&e8;"', 1)


def _wrapped(xml: str) -> str:
    """The signed manifest inside a root of the attacker's, with the signature where it was."""
    root, rest = xml.split("\n", 1)
    return f"{root}\n{root}\n{rest.strip()}\n</SoftwareIdentity>\n"


def _signature(xml: str) -> str:
    return xml[xml.index("<ds:Signature") : xml.index("</ds:Signature>") + 15]


def _two_payloads(xml: str) -> str:
    payload = xml[xml.index("<ns0:Payload") : xml.index("</ns0:Payload>") + 14]
    evil = payload.replace(_first_value(_DRIVER, 21), _EVIL.hex())
    return xml.replace(payload, evil + payload, 1)


XML_CASES: tuple[DeviceCase, ...] = (
    _refused("unsigned", "The signature was cut out.",
             _xml(lambda xml: xml.replace(_signature(xml), "")), "A1 A18"),
    _refused("index-twice", "One index twice, with different values, signed all the same.",
             _given(replace(_DRIVER, resources=(*_DRIVER.resources, GoldenValue(21, (_EVIL,))))),
             "A18 A21"),
    _refused("wrapped-root", "The signed manifest inside another that is not signed.",
             _xml(_wrapped)),
    _refused("wrapped-payload", "A second payload of the attacker's before the signed one.",
             _xml(_two_payloads)),
    _refused("signature-moved", "The signature was moved into the payload.",
             _xml(lambda xml: xml.replace(_signature(xml), "").replace(
                 "</ns0:Payload>", f"{_signature(xml)}</ns0:Payload>"))),
    _refused("signature-twice", "Two signatures, of which each reader takes another.",
             _xml(lambda xml: xml.replace(_signature(xml), _signature(xml) * 2))),
    _refused("reference-by-id", "The reference points to a part, not to the whole document.",
             _xml(lambda xml: xml.replace('URI=""', 'URI="#tag"'))),
    _refused("entity-bomb", "Entities that would grow to a thousand million words.", _xml(_bomb),
             "A19 A22"),
    _refused("external-entity", "An entity that would read a file of the verifier's machine.",
             _xml(lambda xml: '<!DOCTYPE S [<!ENTITY x SYSTEM "file:///etc/hostname">]>' + xml)),
    _refused("stylesheet", "A processing instruction.",
             _xml(_inserted("<SoftwareIdentity", '<?xml-stylesheet href="x.xsl"?>'))),
    _refused("comment", "A comment, which some canonical forms drop.",
             _xml(_inserted("</ns0:Payload>", "<!-- 21 -->"))),
    _refused("deep", "A thousand elements in one another.",
             _xml(_inserted("</ns0:Payload>", "<a>" * 1000 + "</a>" * 1000)), "A19 A22"),
)  # fmt: skip


# --- is the signer revoked? ---


def _signer(
    name: str,
    description: str,
    expected: Expected,
    edit: Callable[[SimNode], SimNode],
    **options: Any,
) -> DeviceCase:
    def entries(node: SimNode) -> Iterable[Json]:
        return answers(edit(node))

    return _rim(
        f"signer-{name}", description, expected, entries,
        shared=options.pop("shared", (DRIVER_RIM, VBIOS_RIM)), covers="A18 A24", **options,
    )  # fmt: skip


_SIGNER, _SIGNER_CA = ISSUER.rim_chain(GH100)[0], ISSUER.rim_chain(GH100)[1]
_REVOKED = untrusted(3, of("gpu-0", "RIM-REVOCATION"))

SIGNER_STATUS_CASES: tuple[DeviceCase, ...] = (
    _signer("revoked", "NVIDIA has withdrawn the key that signed the manifests.", _REVOKED,
            lambda node: node.with_status(_SIGNER, "revoked")),
    _signer("ca-revoked", "NVIDIA has withdrawn the CA of the signer.", _REVOKED,
            lambda node: node.with_status(_SIGNER_CA, "revoked")),
    _signer("on-hold", "The signer is on hold, and nobody allowed that.", _REVOKED,
            lambda node: node.with_status(_SIGNER, "hold")),
    _signer("unknown", "The responder does not know the signer.", _REVOKED,
            lambda node: node.with_status(_SIGNER, "unknown")),
    _signer("without-answer", "Nothing says whether the signer is revoked.",
            incomplete(6, of("gpu-0", "RIM-REVOCATION")),
            lambda node: node.without_answer(_SIGNER)),
    _signer("stale", "The answer about the signer has run out.",
            incomplete(6, of("gpu-0", "RIM-REVOCATION")),
            lambda node: node.with_status(
                _SIGNER, "good", next_update=node.at - timedelta(hours=1))),
    _signer("revoked-if-given", "`if-given` waives silence, and no revocation.", _REVOKED,
            lambda node: node.with_status(_SIGNER, "revoked"),
            policy=device_policy(gpus=gpu_rules(revocation="if-given"))),
    device_case("rim-signer-of-switch-revoked", "NVIDIA has withdrawn the signer of switch BIOS.",
                hgx,
                untrusted(3, numbered("nvswitch", 2, "RIM-REVOCATION")), covers="A18 A24",
                policy=hgx_policy(), shared=(DRIVER_RIM, VBIOS_RIM, "rim-ls10"),
                entries=lambda node: answers(node.with_status(_BIOS.chain[0], "revoked"))),
)  # fmt: skip
