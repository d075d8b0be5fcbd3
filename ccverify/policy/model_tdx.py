"""The typed form of a policy's section ``tdx``, and the word `any`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from ccverify.tdx.attributes import TD_ATTRIBUTES, Rule
from ccverify.tdx.tcb_info import TcbStatus

__all__ = [
    "ANY",
    "MEASUREMENTS",
    "MUST_STATE",
    "Accepted",
    "Any",
    "CollateralPolicy",
    "EventLogPolicy",
    "PlatformPolicy",
    "TcbPolicy",
    "TdxPolicy",
    "XfamPolicy",
]


class Any(Enum):
    """The word `any` in a policy: every value is accepted, knowingly."""

    ANY = "any"


ANY = Any.ANY

Accepted = frozenset[bytes] | Any | None
"""Accepted values, or `ANY`, or None where the policy is silent."""

MUST_STATE = ("mrtd", "rtmr0", "rtmr1", "rtmr2", "rtmr3")
"""Measurements on which a policy may not be silent: they say which software runs."""

MEASUREMENTS = (*MUST_STATE, "mrseam", "mrconfigid", "mrowner", "mrownerconfig")


@dataclass(frozen=True, slots=True)
class TcbPolicy:
    """Section ``tdx.tcb``."""

    accepted_statuses: frozenset[TcbStatus] = frozenset({TcbStatus.UP_TO_DATE})
    grace_days: Mapping[TcbStatus, int] = field(default_factory=dict)
    min_evaluation_number: int | None = None
    min_qe_evaluation_number: int | None = None
    rejected_advisories: frozenset[str] = frozenset()
    min_tee_tcb_svn: bytes | None = None


@dataclass(frozen=True, slots=True)
class CollateralPolicy:
    """Section ``tdx.collateral``."""

    max_age_days: int | None = None
    allow_unknown_fields: bool = False


@dataclass(frozen=True, slots=True)
class XfamPolicy:
    """Section ``tdx.xfam``: keys of `ccverify.tdx.attributes.XFAM_FEATURES`."""

    require: frozenset[str] = frozenset()
    forbid: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class PlatformPolicy:
    """Section ``tdx.platform``."""

    fmspc: frozenset[bytes] | None = None
    ppid: frozenset[bytes] | None = None
    platform_instance_id: frozenset[bytes] | None = None
    allow_smt: bool = True
    allow_dynamic_platform: bool = True
    allow_cached_keys: bool = True

    @property
    def silent(self) -> bool:
        """Whether the section asks for nothing."""
        return self == PlatformPolicy()


@dataclass(frozen=True, slots=True)
class EventLogPolicy:
    """Section ``tdx.event_log``.

    Attributes:
        required: whether a log must be given.
        replay: registers among RTMR0 to RTMR2 that the log must explain.
        rtmr3: ``log``, ``zero`` or ``opaque``; None: ``log`` for a dstack log, ``opaque`` for
            CCEL, to which no kernel adds what it extends into RTMR3.
        claims: accepted values by claim name; ``key_provider.name`` reaches into an object.
    """

    required: bool = True
    replay: frozenset[int] = frozenset({0, 1, 2})
    rtmr3: str | None = None
    claims: Mapping[str, frozenset[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TdxPolicy:
    """Section ``tdx``."""

    tcb: TcbPolicy = TcbPolicy()
    collateral: CollateralPolicy = CollateralPolicy()
    measurements: Mapping[str, Accepted] = field(default_factory=dict)
    attributes: Mapping[str, Rule] = field(default_factory=dict)
    xfam: XfamPolicy = XfamPolicy()
    service_td: frozenset[bytes] = frozenset()
    platform: PlatformPolicy = PlatformPolicy()
    report_data: Accepted = None
    event_log: EventLogPolicy | None = None

    def rule(self, key: str) -> Rule:
        """The rule for one TDATTRIBUTES bit: the policy's, or the table's default."""
        return self.attributes.get(key) or _DEFAULT_RULES[key]


_DEFAULT_RULES = {attribute.key: attribute.default for attribute in TD_ATTRIBUTES}
