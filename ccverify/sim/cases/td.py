"""Bad cases: genuine TDs that are not the one the tenant asked for."""

from __future__ import annotations

from typing import Any

from ccverify.sim.cases.model import (
    FixtureCase,
    Json,
    case,
    honest,
    incomplete,
    policy,
    untrusted,
)
from ccverify.sim.platform import SimPlatform

__all__ = ["ATTRIBUTE_CASES", "IMAGE_CASES", "PLATFORM_CASES"]

_SEPT_VE_DISABLE = 1 << 28
_XFAM = 0x602E7
_FOREIGN = b"\x5e" * 48
_PROCESSOR = SimPlatform(ca="processor", label="single-package")


def _attributes(
    name: str,
    description: str,
    value: int,
    failed: str,
    rules: Json | None = None,
    covers: str = "",
) -> FixtureCase:
    return case(
        f"td-{name}",
        description,
        lambda: honest().with_body(td_attributes=value),
        untrusted(4, failed),
        covers=f"A12 {covers}",
        policy=policy(attributes=rules) if rules else None,
    )


def _bit(number: int) -> int:
    return _SEPT_VE_DISABLE | 1 << number


def _xfam(name: str, description: str, value: int, **rules: list[str]) -> FixtureCase:
    return case(
        f"td-xfam-{name}",
        description,
        lambda: honest().with_body(xfam=value),
        untrusted(4, "XFAM"),
        covers="A12",
        policy=policy(xfam=rules) if rules else None,
    )


def _service_td(name: str, description: str, **body: bytes) -> FixtureCase:
    extended = body.keys() - {"mr_service_td"}
    return case(
        f"td-service-td-{name}",
        description,
        lambda: honest(version=5, body_type=4 if extended else 3, body=body),
        untrusted(4, "SERVICE-TD"),
        covers="A12",
    )


ATTRIBUTE_CASES: tuple[FixtureCase, ...] = (
    _attributes("debug", "The host reads and writes the TD's memory.", _bit(0), "ATTR-DEBUG",
                None, "A11"),
    _attributes("perf-prof", "The host profiles the TD's performance.", _bit(5),
                "ATTR-PERF-PROF", None, "A11"),
    _attributes("sept-ve", "SEPT_VE_DISABLE is off, and the policy does not say that it may be.",
                0, "ATTR-SEPT-VE-DISABLE"),
    _attributes("migratable", "A migration TD may move the TD.", _bit(29), "ATTR-MIGRATABLE"),
    _attributes("perfmon", "The TD may use performance monitoring.", _bit(63), "ATTR-PERFMON"),
    _attributes("reserved-low", "Bit 1, of the group of debug bits, is reserved.", _bit(1),
                "ATTR-RESERVED"),
    _attributes("reserved-high", "Bit 40 is reserved.", _bit(40), "ATTR-RESERVED"),
    _attributes("pks-required", "The policy requires PKS, which is off.", _SEPT_VE_DISABLE,
                "ATTR-PKS", {"pks": "require"}),
    _xfam("x87-off", "x87 is off, which no TDX module allows.", _XFAM & ~1),
    _xfam("reserved", "Bit 3, of the retired MPX, is reserved.", _XFAM | 1 << 3),
    _xfam("forbidden", "The policy forbids AMX, which is on.", _XFAM, forbid=["amx"]),
    _service_td("bound", "A migration TD is bound.", mr_service_td=_FOREIGN),
    _service_td("at-first-build", "A service TD was bound when the TD was first built.",
                init_servtd_hash=_FOREIGN),
)  # fmt: skip


# --- what runs ---


def _register(name: str, field: str, listed: Json | None = None) -> FixtureCase:
    return case(
        f"{name}-not-listed",
        f"{name.upper()} is not on the policy's list.",
        lambda: honest().with_body(**{field: b"\x77" * 48}),
        untrusted(4, name.upper()),
        covers="A12",
        policy=policy(measurements=listed),
    )


IMAGE_CASES: tuple[FixtureCase, ...] = (
    _register("mrtd", "mr_td"),
    _register("rtmr2", "rtmr2"),
    _register("mrconfigid", "mr_config_id", {"mrconfigid": ["00" * 48]}),
    case(
        "policy-silent-on-mrtd",
        "The policy says nothing of MRTD: silence is no consent.",
        honest,
        incomplete(6, "MRTD"),
        covers="A14",
        policy=policy(measurements={"mrtd": None}),
    ),
    case(
        "policy-silent-on-image",
        "The policy says nothing of what runs.",
        honest,
        incomplete(6, "MRTD RTMR0 RTMR1 RTMR2 RTMR3"),
        covers="A14",
        policy=policy(measurements=dict.fromkeys(("mrtd", "rtmr0", "rtmr1", "rtmr2", "rtmr3"))),
    ),
)


# --- where it runs ---


def _platform(
    name: str, description: str, machine: SimPlatform | None = None, **section: Any
) -> FixtureCase:
    return case(
        f"platform-{name}",
        description,
        lambda: honest(machine),
        untrusted(4, "PLATFORM"),
        covers="7",
        policy=policy(platform=section),
    )


PLATFORM_CASES: tuple[FixtureCase, ...] = (
    _platform("other-ppid", "A genuine machine, and not one of the tenant's.", ppid=["00" * 16]),
    _platform(
        "smt-not-stated",
        "The policy forbids SMT, and the certificate does not say.",
        _PROCESSOR,
        smt="forbid",
    ),
)
