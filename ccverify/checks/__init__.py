"""The registry of checks, as data.

`ccverify explain`, the documentation and every rendering read titles and advice from here, so
that a code means one thing everywhere.  A code, once released, keeps its meaning for ever.
"""

from __future__ import annotations

from ccverify.checks.bundle import BUNDLE_CHECKS
from ccverify.checks.fabric import FABRIC_CHECKS
from ccverify.checks.fabric_manager import MANAGER_CHECKS
from ccverify.checks.fabric_probe import PROBE_CHECKS
from ccverify.checks.fabric_routing import ROUTING_CHECKS
from ccverify.checks.model import Category, Check, Need, Scope
from ccverify.checks.node import BINDING_CHECKS, NODE_CHECKS, SET_CHECKS, TOPOLOGY_CHECKS
from ccverify.checks.nvidia import NVIDIA_CHECKS
from ccverify.checks.tdx import TDX_CHECKS

__all__ = ["CHECKS", "Category", "Check", "Need", "Scope", "find_check"]

CHECKS: tuple[Check, ...] = (
    *NODE_CHECKS,
    *TDX_CHECKS,
    *NVIDIA_CHECKS,
    *TOPOLOGY_CHECKS,
    *FABRIC_CHECKS,
    *PROBE_CHECKS,
    *MANAGER_CHECKS,
    *ROUTING_CHECKS,
    *BUNDLE_CHECKS,
    *BINDING_CHECKS,
    *SET_CHECKS,
)
"""All checks, in the order in which a verdict lists them."""

_BY_CODE = {check.code: check for check in CHECKS}


def find_check(code: str) -> Check | None:
    """Return the check with this code, upper or lower case; None if there is none."""
    return _BY_CODE.get(code.upper())
