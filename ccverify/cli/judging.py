"""One judgement, from what was read to a verdict: `check` makes it, `verify` makes it again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ccverify.cli.evidence_files import Loaded
from ccverify.collateral import CollateralFile
from ccverify.errors import UsageError
from ccverify.evidence import NodeRole
from ccverify.policy.model import Policy
from ccverify.results.verdict import Verdict
from ccverify.results.verdict_set import VerdictSet
from ccverify.tdx.collateral import CollateralPack
from ccverify.trust.store import TrustStore
from ccverify.verifier import check
from ccverify.verifier_set import check_nodes

__all__ = ["Circumstances", "judge"]


@dataclass(frozen=True, slots=True)
class Circumstances:
    """Everything but the evidence; the members are arguments of `ccverify.verifier.check`."""

    policy: Policy
    now: datetime
    nonce: bytes | None
    report_data: bytes | None
    channel: Mapping[str, str]
    collateral: CollateralFile
    trust: TrustStore
    what_if: CollateralPack | None = None
    epoch: bytes | None = None


def judge(loaded: Loaded, given: Circumstances) -> Verdict | VerdictSet:
    """Judge one node, or all nodes of a response.

    Raises:
        UsageError: an argument is impossible, or `what_if`, a statement of a fabric's manager
            or its epoch was given for several nodes.
    """
    arguments: dict[str, Any] = {
        "policy": given.policy,
        "now": given.now,
        "nonce": given.nonce,
        "report_data": given.report_data,
        "channel": given.channel,
        "collateral": given.collateral.intel,
        "nvidia": given.collateral.nvidia,
        "trust": given.trust,
        "not_read": loaded.not_read,
    }
    for_one: dict[str, Any] = {
        "what_if": given.what_if,
        "statements": loaded.statements,
        "epoch": given.epoch,
    }
    if loaded.bundle is not None:
        return check(loaded.bundle, **for_one, **arguments)
    # A gateway alone is not a node by itself: the set says that the workload is missing.
    if len(loaded.nodes) == 1 and loaded.nodes[0].role is NodeRole.WORKLOAD:
        return check(loaded.nodes[0], **for_one, **arguments)
    for option, value in (
        ("--what-if", given.what_if),
        ("--fabric-statement", loaded.statements or None),
        ("--fabric-epoch", given.epoch),
    ):
        if value is not None:
            raise UsageError(f"{option} is for one node", found=f"{len(loaded.nodes)} nodes",
                             expected="the evidence of one node",
                             hint="check each node by itself")  # fmt: skip
    return check_nodes(loaded.nodes, source_format=loaded.source_format, **arguments)
