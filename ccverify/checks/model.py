"""What a check of the registry is."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum

__all__ = ["Category", "Check", "Need", "Scope"]


class Category(IntEnum):
    """What kind of failure a failed check is; the value is the process exit code."""

    EVIDENCE = 2
    """The evidence is malformed."""
    AUTHENTICITY = 3
    """A signature, chain, revocation or binding failed."""
    POLICY = 4
    """The evidence is genuine, and not what the policy asks for."""
    COLLATERAL = 5
    """Collateral is missing, expired or rolled back."""


class Scope(Enum):
    """What a check is about: once for each of these that a verdict covers."""

    NODE = "node"
    """The inputs and the machine as a whole."""
    TDX = "tdx"
    """The Intel TDX virtual machine."""
    GPU = "gpu"
    """Each GPU by itself."""
    NVSWITCH = "nvswitch"
    """Each NVSwitch by itself."""
    GPUS = "gpus"
    """All GPUs together."""
    NVSWITCHES = "nvswitches"
    """All NVSwitches together."""
    DEVICES = "devices"
    """GPUs and NVSwitches together."""
    TOPOLOGY = "topology"
    """How GPUs and NVSwitches are connected."""
    FABRIC = "fabric"
    """The NVLink fabric, as it is seen from inside the machine."""
    BUNDLE = "bundle"
    """The signed bundle that evidence came in, where it came in one."""
    BINDING = "binding"
    """What ties CPU and devices to the request and to each other."""
    SET = "set"
    """Several nodes of one response."""


class Need(Enum):
    """Whether a verdict depends on the check."""

    ALWAYS = "always"
    """No policy can waive it."""
    UNLESS_WAIVED = "unless waived"
    """Needed until the policy says, in so many words, that any value will do."""
    IF_ASKED = "if asked"
    """Needed when the policy states an expectation."""
    ADVICE = "advice"
    """Told to the reader; another check decides."""


@dataclass(frozen=True, slots=True)
class Check:
    """One entry of the registry.

    Attributes:
        code: stable name.
        title: one line, what is checked.
        category: how a failure is classed.
        need: whether a verdict depends on it.
        proves: what a PASS proves.
        stops: the attack or mishap it stops.
        fix: what to do when it fails; a check that was not made says why in its finding.
        applies: when the check has a meaning; empty: always.
        scope: what the check is about.
    """

    code: str
    title: str
    category: Category
    need: Need
    proves: str
    stops: str
    fix: str
    applies: str = ""
    scope: Scope = Scope.NODE
