"""Bad cases: devices that are revoked, or of which nobody says that they are not."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from ccverify.sim.cases.device_model import (
    AUTHORITIES,
    DRIVER_RIM,
    HOPPER,
    ISSUER,
    STRANGER,
    VBIOS_RIM,
    DeviceCase,
    answers,
    crl_entry,
    device_case,
    device_policy,
    gpu_rules,
    h100,
    ocsp_entry,
    of,
    switch,
    switch_policy,
    withdrawn,
    without_answers,
)
from ccverify.sim.cases.model import Expected, Json, refused, untrusted
from ccverify.sim.certs import CertificateSpec, CrlSpec
from ccverify.sim.nvidia import OcspSpec, SimNode

__all__ = ["DEVICE_CLOCK_CASES", "DEVICE_CRL_CASES", "OCSP_CASES"]

_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)
_RIMS = (DRIVER_RIM, VBIOS_RIM)
_BUT_IDENTITY = (*_RIMS, AUTHORITIES)
"""Everything but the answer about the device itself."""
_NODE = h100()
_IDENTITY, _PROVISIONER, _IDENTITY_CA = _NODE.gpus[0].chain[1:4]

_REVOKED = withdrawn()
# An answer that nobody may give, that does not know, or that is no longer in force.
_NO_WORD = untrusted(3, of("gpu-0", "REVOCATION"), of("gpu-0", "REVOCATION-FRESH").split())
_OPEN = Expected(
    verdict="incomplete", exit_code=5,
    not_checked=tuple(of("gpu-0", "REVOCATION REVOCATION-FRESH").split()),
)  # fmt: skip
_STALE = untrusted(5, of("gpu-0", "REVOCATION-FRESH"), of("gpu-0", "REVOCATION").split())


def _about(
    status: Any, certificate: CertificateSpec = _IDENTITY, **changes: Any
) -> Callable[[SimNode], OcspSpec]:
    """An answer about one certificate of the GPU's chain; good, unless it says otherwise."""

    def make(node: SimNode) -> OcspSpec:
        chain = node.gpus[0].chain
        above = chain[[one.serial for one in chain].index(certificate.serial) + 1]
        return node.answer(certificate, above, status=status, **changes)

    return make


def _ocsp(
    name: str,
    description: str,
    expected: Expected,
    *made: Callable[[SimNode], OcspSpec],
    covers: str = "A24",
    shared: tuple[str, ...] = _BUT_IDENTITY,
    **options: Any,
) -> DeviceCase:
    return device_case(
        f"ocsp-{name}", description, h100, expected, covers=covers, shared=shared,
        entries=options.pop("entries", lambda node: [ocsp_entry(one(node)) for one in made]),
        **options,
    )  # fmt: skip


def _without(certificate: CertificateSpec) -> Callable[[SimNode], Iterable[Json]]:
    return lambda node: answers(node.without_answer(certificate))


def _changed(**changes: Any) -> Callable[[SimNode], OcspSpec]:
    """The good answer about the device, changed as a response and signed again."""
    return lambda node: replace(_about("good")(node), **changes)


def _without_purpose(node: SimNode) -> OcspSpec:
    """A responder whose certificate is not for signing answers."""
    good = _about("good")(node)
    return replace(good, responder=good.responder.without_extension("2.5.29.37"))


def _neighbour(node: SimNode) -> OcspSpec:
    """A good answer about another GPU."""
    return node.answer(h100(2).gpus[1].chain[1], _PROVISIONER)


def _issuer_of_other_name(node: SimNode) -> OcspSpec:
    """A good answer about that serial number under another CA."""
    return node.answer(_IDENTITY, _IDENTITY_CA)


_IF_GIVEN = device_policy(gpus=gpu_rules(revocation="if-given"))

OCSP_CASES: tuple[DeviceCase, ...] = (
    device_case("ocsp-none", "Nobody answered: that is never good.", h100,
                Expected(verdict="incomplete", exit_code=5, not_checked=without_answers()),
                covers="A24", shared=_RIMS),
    _ocsp("device-missing", "Every answer but the one about the device.", _OPEN, entries=None),
    _ocsp("ca-missing", "Every answer but the one about the identity CA.", _OPEN, shared=_RIMS,
          entries=_without(_IDENTITY_CA)),
    _ocsp("revoked", "NVIDIA has withdrawn the device.", _REVOKED, _about("revoked")),
    _ocsp("provisioner-revoked", "NVIDIA has withdrawn the CA that provisioned the device.",
          _REVOKED, _about("revoked", _PROVISIONER), shared=HOPPER),
    _ocsp("identity-ca-revoked", "NVIDIA has withdrawn the CA of a whole chip family.", _REVOKED,
          _about("revoked", _IDENTITY_CA), shared=HOPPER),
    _ocsp("hold", "The device is on hold, and nobody allowed that.", _REVOKED, _about("hold")),
    _ocsp("unknown", "The responder does not know the device.", _NO_WORD, _about("unknown")),
    _ocsp("good-after-revoked", "A newer good answer takes no revocation back.", _REVOKED,
          _about("revoked", this_update=_NODE.at - 3 * _DAY), _about("good")),
    _ocsp("good-before-hold", "An older good answer, still in force, beside the newer hold.",
          _REVOKED, _about("good", this_update=_NODE.at - 3 * _DAY), _about("hold")),
    _ocsp("revoked-if-given", "`if-given` waives silence, and no revocation.", _REVOKED,
          _about("revoked"), policy=_IF_GIVEN),
    _ocsp("revoked-any", "Even who gives revocation up is told that the device is revoked.",
          _REVOKED, _about("revoked"), policy=device_policy(gpus=gpu_rules(revocation="any"))),
    _ocsp("stale-revoked", "Revocation is for ever, however old the answer.", _NO_WORD,
          _about("revoked", this_update=_NODE.at - 90 * _DAY, next_update=_NODE.at - 83 * _DAY)),
    _ocsp("stale", "A good answer that has run out an hour ago.", _STALE,
          _about("good", next_update=_NODE.at - _HOUR)),
    _ocsp("one-second-late", "One second after the nextUpdate of all answers.",
          untrusted(5, of("gpu-0", "REVOCATION-FRESH"),
                    of("gpu-0", "REVOCATION RIM-REVOCATION").split()),
          shared=HOPPER, at=_NODE.at + 6 * _DAY + timedelta(seconds=1), covers="A24 A29"),
    _ocsp("future", "A good answer that will be given only tomorrow.", _STALE,
          _about("good", this_update=_NODE.at + _DAY, next_update=_NODE.at + 8 * _DAY),
          covers="A24 A29"),
    _ocsp("older-than-policy", "Answers in force, and older than the policy allows.",
          untrusted(5, of("gpu-0", "REVOCATION-FRESH"),
                    of("gpu-0", "REVOCATION RIM-REVOCATION").split()),
          shared=HOPPER, at=_NODE.at + _HOUR,
          policy=device_policy(gpus=gpu_rules(revocation_max_age_days=1))),
    _ocsp("no-next-update", "An answer that does not say how long it holds.", _STALE,
          _about("good", next_update=None)),
    _ocsp("of-neighbour", "A good answer about another GPU.", _OPEN, _neighbour),
    _ocsp("of-other-issuer", "A good answer about that serial number of another CA.", _OPEN,
          _issuer_of_other_name),
    _ocsp("wrong-responder", "A responder of the RIM CA answers for devices.", _NO_WORD,
          lambda node: replace(_about("good")(node), responder=ISSUER.ocsp_responder(
              ISSUER.rim_root()))),
    _ocsp("responder-without-purpose", "The responder's certificate is not for OCSP.", _NO_WORD,
          _without_purpose),
    _ocsp("responder-of-stranger", "The responder of an attacker's own NVIDIA.", _NO_WORD,
          lambda node: replace(_about("good")(node), responder=STRANGER.ocsp_responder(
              STRANGER.provisioner(node.gpus[0].chip)))),
    _ocsp("responder-left-out", "Nothing shows who signed the answer.", _NO_WORD,
          _changed(brings_responder=False)),
    _ocsp("signature-forged", "Another key than the responder's signed the answer.", _NO_WORD,
          _changed(signer=STRANGER.key("ocsp"))),
    _ocsp("forged-if-given", "`if-given` waives silence, and no forged answer.",
          untrusted(3, of("gpu-0", "REVOCATION")), _changed(signer=STRANGER.key("ocsp")),
          policy=_IF_GIVEN),
    _ocsp("try-later", "The responder gave no answer at all, and that was saved.", refused(),
          _changed(response_status=3)),
    device_case("ocsp-switch-revoked", "NVIDIA has withdrawn an NVSwitch.", switch,
                withdrawn("nvswitch-0"), covers="A24",
                policy=switch_policy(), shared=("rim-ls10", AUTHORITIES),
                entries=lambda node: [ocsp_entry(node.answer(
                    *node.switches[0].chain[1:3], status="revoked"))]),
    device_case("ocsp-switch-stale", "The answer about a switch has run out.", switch,
                untrusted(5, of("nvswitch-0", "REVOCATION-FRESH"),
                          of("nvswitch-0", "REVOCATION").split()), covers="A24",
                policy=switch_policy(), shared=("rim-ls10", AUTHORITIES),
                entries=lambda node: [ocsp_entry(node.answer(
                    *node.switches[0].chain[1:3], next_update=node.at - _HOUR))]),
)  # fmt: skip


# --- revocation lists ---


def _crl(
    name: str,
    description: str,
    expected: Expected,
    edit: Callable[[CrlSpec], CrlSpec],
    *,
    shared: tuple[str, ...] = _BUT_IDENTITY,
) -> DeviceCase:
    """A list of the provisioner, which issued the device's identity."""
    return device_case(
        f"device-crl-{name}", description, h100, expected, covers="A24", shared=shared,
        entries=lambda node: [crl_entry(edit(ISSUER.crl(_PROVISIONER, node.at)).der())],
    )  # fmt: skip


DEVICE_CRL_CASES: tuple[DeviceCase, ...] = (
    _crl("revoked", "The device stands on its CA's revocation list.", _REVOKED,
         lambda crl: crl.with_revoked(_IDENTITY.serial)),
    _crl("against-ocsp", "OCSP calls the device good, the list revoked.", _REVOKED,
         lambda crl: crl.with_revoked(_IDENTITY.serial), shared=HOPPER),
    _crl("hold", "The list says that the device is on hold.", _REVOKED,
         lambda crl: crl.with_revoked(_IDENTITY.serial, reason="certificate_hold")),
    _crl("stale", "An empty list that has run out.", _STALE,
         lambda crl: replace(crl, next_update=_NODE.at - _HOUR)),
    _crl("forged", "An empty list that the CA did not sign.", _NO_WORD,
         lambda crl: replace(crl, signer=STRANGER.key("crl"))),
    _crl("of-other-ca", "An empty list of the CA above.", _OPEN,
         lambda crl: ISSUER.crl(_IDENTITY_CA, _NODE.at)),
)  # fmt: skip


# --- the clock ---

_LATE = untrusted(
    5,
    of("gpu-0", "RIM-VALIDITY REVOCATION-FRESH"),
    of("gpu-0", "REVOCATION RIM-REVOCATION").split(),
)
_EARLY = untrusted(
    5, of("gpu-0", "CHAIN-VALIDITY RIM-VALIDITY REVOCATION-FRESH"),
    of("gpu-0", "REVOCATION RIM-REVOCATION").split(),
)  # fmt: skip

DEVICE_CLOCK_CASES: tuple[DeviceCase, ...] = (
    device_case("device-clock-1970", "A clock that was never set.", h100, _EARLY, covers="A29",
                at=datetime(1970, 1, 1, tzinfo=UTC)),
    device_case("device-clock-2038", "Device chains end in 9999; all that speaks of them is old.",
                h100, _LATE, covers="A29", at=datetime(2038, 1, 19, 3, 14, 8, tzinfo=UTC)),
)  # fmt: skip
