"""Checks of the NVLink fabric as it is seen from inside the machine (docs/fabric.md)."""

from __future__ import annotations

from dataclasses import replace

from ccverify.checks.model import Category, Check, Need, Scope

__all__ = ["FABRIC_CHECKS"]

_A, _P = Category.AUTHENTICITY, Category.POLICY
_ALWAYS, _WAIVABLE, _ASKED = Need.ALWAYS, Need.UNLESS_WAIVED, Need.IF_ASKED
_OBSERVED = "where an observation is judged"
_SHARED = "where an observation is judged, of GPUs that do not all sign single-GPU mode"
_AGAIN = (
    "Collect again on the machine that has the GPUs; if it fails again, devices of another "
    "machine are mixed in, or the driver is not told the truth."
)
_OPERATOR = "Ask the operator to look after the Fabric Manager and the partition."

_FABRIC = (
    Check(
        "FABRIC-OBSERVATION",
        "The guest's observation of the fabric is there and readable",
        Category.EVIDENCE,
        _WAIVABLE,
        "The bundle holds an observation in its own format. Nothing in it is signed: "
        "only that the driver said so can be proven.",
        "A machine that keeps silent about its fabric.",
        "Collect with the extra `nvml` installed, as a bundle; or set fabric.observation.",
        "unless the policy says `observation: any`, or `if-given` and none is given",
    ),
    Check(
        "FABRIC-MODE",
        "Every GPU signed the mode that the policy expects of the fabric",
        _P,
        _ASKED,
        "The signed reports name the mode under whose rules the fabric is judged.",
        "A node that falls back to a mode without encrypted NVLink or attested switches.",
        "Set the mode on the host, or correct fabric.mode.",
        "if the policy names a mode",
    ),
    Check(
        "FABRIC-MODE-AGREES",
        "Driver and GPUs speak of one mode",
        _A,
        _ALWAYS,
        "What NVML says of the multi-GPU mode is what every GPU signed, and all signed the same.",
        "A driver that runs unprotected GPUs while reports of protected ones are shown.",
        _AGAIN,
        f"{_OBSERVED}, and the reports name a mode",
    ),
    Check(
        "FABRIC-IDENTITY",
        "The driver's GPUs have certified identities",
        _A,
        _ALWAYS,
        "The PDI that NVML gives of each GPU is that of the report with the same UUID, all in "
        "one byte order.",
        "Reports of other GPUs than the driver uses.",
        _AGAIN,
        _OBSERVED,
    ),
    Check(
        "FABRIC-UNATTESTED",
        "Every GPU that the driver sees has attested",
        _A,
        _ALWAYS,
        "The driver names no GPU whose PDI is not certified by a report of this evidence.",
        "A GPU nobody looked at beside those that attested, on the same fabric.",
        "Ask for evidence of every GPU of the machine.",
        _OBSERVED,
    ),
    Check(
        "FABRIC-UNSEEN",
        "Every GPU that attested is one the driver sees",
        _A,
        _ALWAYS,
        "The PDI of every report is among those that NVML names.",
        "A report fetched from a GPU of another machine (relay).",
        _AGAIN,
        _OBSERVED,
    ),
    Check(
        "FABRIC-DISTINCT",
        "The driver's GPUs are distinct",
        _A,
        _ALWAYS,
        "No two GPUs of the observation share a PDI, UUID or PCI address.",
        "An observation that counts one GPU twice.",
        _AGAIN,
        _OBSERVED,
    ),
    Check(
        "FABRIC-MODULE",
        "Every GPU has a module id of its own",
        _A,
        _ALWAYS,
        "No two GPUs of the observation claim the same place on the board.",
        "GPUs of two boards mixed into one, or a partition put together wrongly.",
        _AGAIN,
        f"{_SHARED}, and the driver names modules",
    ),
    Check(
        "FABRIC-VERSIONS",
        "The driver runs what the GPUs signed",
        _A,
        _ALWAYS,
        "Driver version, VBIOS version and architecture in the observation are those of the "
        "signed reports and chains.",
        "An observation of another machine, or of another time.",
        _AGAIN,
        f"{_OBSERVED}, and both sides name a version",
    ),
    Check(
        "FABRIC-CLIQUE",
        "All GPUs are in one cluster and one clique",
        _P,
        _ALWAYS,
        "The Fabric Manager gave every GPU the same cluster UUID and the same cliques. It says "
        "so unsigned: it does not prove who else is in them.",
        "GPUs of different partitions, which cannot reach each other over NVLink.",
        _OPERATOR,
        _SHARED,
    ),
    Check(
        "FABRIC-STATE",
        "Every GPU is registered with the fabric",
        _P,
        _WAIVABLE,
        "Registration is completed and its status is success, on each GPU, as the Fabric "
        "Manager says.",
        "A stale or inactive partition: links train and look active, and collectives fall back "
        "to PCIe or fail.",
        "Have the partition activated; or set fabric.state to `any`.",
        f"{_SHARED}, unless the policy says `state: any`",
    ),
    Check(
        "FABRIC-HEALTH",
        "The fabric is healthy",
        _P,
        _WAIVABLE,
        "No field of any GPU's health mask, and no summary, speaks of a fault or of a value "
        "that this version does not know.",
        "A fabric with degraded bandwidth, bad routes, no partition, or without its manager.",
        f"{_OPERATOR} Or set fabric.health to `any`.",
        "where an observation is judged, unless the policy says `health: any`, or `if-stated` "
        "and none is stated",
    ),
    Check(
        "FABRIC-LINKS",
        "The NVLinks are up, as many as the partition has",
        _P,
        _WAIVABLE,
        "Every GPU has the same number of NVLinks up, 18 on HGX boards, or the number the "
        "policy names. Links train by themselves: that they are up proves no partition.",
        "A GPU with links down, or of another board.",
        f"{_OPERATOR} Or set fabric.links to `any`.",
        f"{_SHARED}, or where the policy names a number; unless it says `links: any`",
    ),
    Check(
        "FABRIC-NVLE",
        "NVLink encryption is on",
        _P,
        _WAIVABLE,
        "The driver reports NVLink encryption for each GPU, as multi-GPU mode promises. No "
        "report signs it, and it does not say with which peers.",
        "Plain traffic through switches that nobody attested.",
        "Set up multi-GPU mode with a driver that encrypts; or set fabric.nvle to `any`.",
        "GPUs in multi-GPU mode (MPT), unless the policy says `nvle: any`",
    ),
    Check(
        "FABRIC-PARTITION",
        "The partition is the expected one",
        _P,
        _ASKED,
        "Number of GPUs, clique ids and cluster UUID are those of the policy, as the driver and "
        "the Fabric Manager say.",
        "Another partition than the one that was rented.",
        "Correct fabric.partition, or ask the operator for the partition.",
        "if the policy describes a partition",
    ),
    Check(
        "FABRIC-ASSURANCE",
        "Claims about the fabric are as well proven as the policy asks",
        _P,
        _ASKED,
        "Every claim with a floor in fabric.assurance rests on at least that.",
        "A claim nobody signed that is taken for a proven one.",
        "Get stronger evidence of the claim, or lower its floor; docs/fabric.md says what can "
        "be had.",
        "if the policy states floors",
    ),
)
FABRIC_CHECKS = tuple(replace(check, scope=Scope.FABRIC) for check in _FABRIC)
