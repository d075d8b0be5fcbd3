"""Versions of drivers and firmware, compared with what a policy asks of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from ccverify.policy.model import VersionPolicy

__all__ = ["driver_accepted", "firmware_accepted"]

_Numbers = tuple[int, ...]
_Reading = Callable[[str], _Numbers]

_DECIMAL = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})*")
_HEXADECIMAL = re.compile(r"[0-9A-Fa-f]{1,8}(?:\.[0-9A-Fa-f]{1,8})*")


def driver_accepted(rule: VersionPolicy, version: str) -> bool:
    """Whether a policy accepts a driver version, decimal as in ``550.90.07``."""
    return _listed(rule, version, _decimal) and _reaches(rule, _decimal(version), _decimal)


def firmware_accepted(rule: VersionPolicy, version: str) -> bool:
    """Whether a policy accepts a VBIOS or BIOS version, hexadecimal as in ``96.00.9F.00.01``.

    The first number names the chip's family; a minimum says nothing of another family, and so
    accepts none of its versions.
    """
    numbers = _hexadecimal(version)
    same_family = rule.minimum is None or numbers[:1] == _hexadecimal(rule.minimum)[:1]
    return (
        _listed(rule, version, _hexadecimal)
        and same_family
        and _reaches(rule, numbers, _hexadecimal)
    )


def _listed(rule: VersionPolicy, version: str, read: _Reading) -> bool:
    accepted = rule.accepted is None or _among(version, rule.accepted, read)
    return accepted and not _among(version, rule.rejected, read)


def _among(version: str, versions: Iterable[str], read: _Reading) -> bool:
    """Whether it is one of these, or another way to write one of them."""
    numbers = read(version)
    return any(version == each or (numbers and numbers == read(each)) for each in versions)


def _reaches(rule: VersionPolicy, numbers: _Numbers, read: _Reading) -> bool:
    if rule.minimum is None:
        return True
    least = read(rule.minimum)
    return bool(least) and numbers >= least


def _decimal(version: str) -> _Numbers:
    """Its numbers; none where it has another form, which reaches no minimum."""
    return tuple(map(int, version.split("."))) if _DECIMAL.fullmatch(version) else ()


def _hexadecimal(version: str) -> _Numbers:
    if not _HEXADECIMAL.fullmatch(version):
        return ()
    return tuple(int(part, 16) for part in version.split("."))
