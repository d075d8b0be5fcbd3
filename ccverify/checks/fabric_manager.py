"""Checks of what the manager of a fabric states (docs/fabric.md, docs/spec/fabric-statement.md)."""

from __future__ import annotations

from dataclasses import replace

from ccverify.checks.model import Category, Check, Need, Scope

__all__ = ["MANAGER_CHECKS"]

_E, _A, _P = Category.EVIDENCE, Category.AUTHENTICITY, Category.POLICY
_ALWAYS, _WAIVABLE, _ASKED = Need.ALWAYS, Need.UNLESS_WAIVED, Need.IF_ASKED
_JUDGED = "where a statement of the manager is judged"
_AGAIN = "Ask the operator for a new statement, made for your nonce on the manager's own host."
_OPERATOR = "Ask the operator to correct it on the manager's host, and for a new statement."

_MANAGER = (
    Check(
        "FABRIC-STATEMENT",
        "The manager's statement is there and readable",
        _E,
        _WAIVABLE,
        "Statement and files in it are of the forms they should be, and are those that its facts "
        "name. Who made it, other checks say.",
        "A host that keeps silent about how its fabric is set up.",
        "Ask the operator for `ccverify collect --role fabric-manager`; or set fabric.statement.",
        "unless the policy says `statement: any`, or `if-given` and none is given",
    ),
    Check(
        "FABRIC-STATEMENT-KEY",
        "The statement is whole, and what binds its key is genuine",
        _A,
        _ALWAYS,
        "The session key signed the statement with all its items; where a TDX quote, a TPM quote "
        "or an operator's signature binds that key, each of them is genuine.",
        "A statement that was changed on its way, or a quote put to another host's statement.",
        _AGAIN,
        _JUDGED,
    ),
    Check(
        "FABRIC-STATEMENT-FRESH",
        "The statement answers this request, or the epoch",
        _A,
        _WAIVABLE,
        "Its nonce is the relying party's own; or the epoch that was given, and it is not older "
        "than the policy allows.",
        "A statement from before the partition, the routes or the manager were changed.",
        "Give the nonce the statement was made for (--nonce, or --fabric-epoch); or get a new one.",
        f"{_JUDGED}, unless the policy waives freshness",
    ),
    Check(
        "FABRIC-MANAGER",
        "The manager is one of those that the policy names",
        _P,
        _ASKED,
        "TDX measurements, a TPM's key and PCRs, or an operator's key are on the policy's list. "
        "Only then is what it states more than anybody's word.",
        "A statement made by somebody else's machine, or by nobody known.",
        "Compare with fabric.managers; `ccverify inspect` shows who signed.",
        f"{_JUDGED}, if the policy names managers",
    ),
    Check(
        "FABRIC-SAME-HOST",
        "The statement is about the board that the tenant's GPUs are on",
        _A,
        _WAIVABLE,
        "The manager's TDX quote is of the same platform as the tenant's; or the GUIDs that the "
        "driver reads from the GPUs are those that the manager has at the same places.",
        "A genuine statement of another host: partition numbers and module ids are alike on all.",
        "Ask for a statement of the service VM on the same host, bound by its TDX quote; or set "
        "fabric.same_host to `any`.",
        f"{_JUDGED}, unless the policy says `same_host: any`",
    ),
    Check(
        "FABRIC-MANAGER-VERSION",
        "Manager and driver are of one version, and of an accepted one",
        _P,
        _ALWAYS,
        "Fabric Manager's version is that of the driver on its host and of the one that the "
        "GPUs signed; NVLSM is there where the board needs it.",
        "A manager that the driver refuses to work with, or an outdated one.",
        _OPERATOR,
        f"{_JUDGED} that names versions",
    ),
    Check(
        "FABRIC-MANAGER-PROGRAM",
        "The manager runs, from the file that is on disk",
        _P,
        _ALWAYS,
        "Fabric Manager and NVLSM run, and their running files are those on disk and, where the "
        "policy lists digests, accepted ones.",
        "A manager that was replaced while it ran, or tables of one that is gone.",
        _OPERATOR,
        _JUDGED,
    ),
    Check(
        "FABRIC-MANAGER-CONFIG",
        "The manager's settings are none that are known to be bad",
        _P,
        _ALWAYS,
        "The command interface is bound to the host itself, and settings that the policy names "
        "have accepted values.",
        "Anybody on the network who moves partitions: the interface asks for no authentication.",
        _OPERATOR,
        f"{_JUDGED} that holds the configuration",
    ),
    Check(
        "FABRIC-MANAGER-MODE",
        "The manager's mode fits the way the board is used",
        _P,
        _ALWAYS,
        "FABRIC_MODE is one in which partitions of several tenants exist, or the policy's.",
        "Tenants who share a board that is managed as if it had one owner.",
        _OPERATOR,
        f"{_JUDGED} that holds the configuration",
    ),
    Check(
        "FABRIC-RAIL-POLICY",
        "The rail policy is symmetric where encrypted NVLink needs it",
        _P,
        _ALWAYS,
        "PARTITION_RAIL_POLICY is `symmetric`, as multi-GPU confidential computing on Blackwell "
        "needs it.",
        "A partition that comes up and silently does without its GPUs' protection.",
        "Set PARTITION_RAIL_POLICY=symmetric on the manager's host, and restart it.",
        "GPUs that sign MPT, where a statement that holds the configuration is judged",
    ),
    Check(
        "FABRIC-MANAGER-LOG",
        "The manager's log shows no error",
        _P,
        _WAIVABLE,
        "No line of level error or worse since the manager started.",
        "A manager that reports success and failed on some device.",
        f"{_OPERATOR} Or set fabric.manager.log to `any`.",
        f"{_JUDGED}, unless the policy says `log: any`",
    ),
    Check(
        "FABRIC-PARTITION-TABLE",
        "The manager's partitions do not contradict each other",
        _P,
        _ALWAYS,
        "No GPU is in two active partitions, and the live table agrees with its definitions.",
        "Two tenants given one GPU, or a table that is not the one in force.",
        _OPERATOR,
        f"{_JUDGED} that holds a partition table",
    ),
    Check(
        "FABRIC-PARTITION-ACTIVE",
        "The tenant's partition is active",
        _P,
        _ALWAYS,
        "The manager's table marks the partition of the tenant's GPUs as active.",
        "A partition that is defined, and inactive since the manager was restarted: links train, "
        "and nothing gets through.",
        "Have the partition activated (`fmpm -a`).",
        f"{_JUDGED} that holds a partition table, and the driver names modules",
    ),
    Check(
        "FABRIC-MODULES",
        "The tenant's GPUs are exactly those of one partition",
        _A,
        _ALWAYS,
        "The module ids that the driver reads from the attested GPUs are those of one partition "
        "of the manager's table, no more and no fewer; and it is one that the policy accepts.",
        "A GPU of another tenant inside the partition, or a statement about another board.",
        _AGAIN,
        f"{_JUDGED} that holds a partition table, and the driver names modules",
    ),
    Check(
        "FABRIC-CONTINUITY",
        "The manager and what it set up stayed the same between two statements",
        _P,
        _ALWAYS,
        "No restart of host or manager, no other partition, route, key, setting or program in the "
        "later of two statements.",
        "A fabric that was changed while the tenant's evidence was gathered, or since.",
        "Gather the node's evidence again between two new statements.",
        "where two statements are judged, or the policy asks for two",
    ),
    Check(
        "FABRIC-ROUTING",
        "The forwarding tables are there and can be evaluated",
        _P,
        _WAIVABLE,
        "Tables, addresses, keys and link map are in the statement, agree, are of the running "
        "manager, and their digest is one that the policy accepts.",
        "Isolation that is claimed and cannot be recomputed; tables of an earlier run.",
        "Ask for a statement with the subnet manager's dumps; or set fabric.routing.",
        f"{_JUDGED}, unless the policy says `routing: any`, or `if-given` and there are none",
    ),
    Check(
        "FABRIC-APART",
        "The others whom the policy names are apart",
        _P,
        _ASKED,
        "None of the GPUs in fabric.apart_from is in the partition, nor reaches it or is reached "
        "from it by the forwarding tables.",
        "Two tenants that must not share a fabric, and do.",
        _OPERATOR,
        "if the policy names GPUs of others",
    ),
)
MANAGER_CHECKS = tuple(replace(check, scope=Scope.FABRIC) for check in _MANAGER)
