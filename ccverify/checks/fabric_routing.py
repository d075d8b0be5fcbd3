"""Checks of what the forwarding tables of a fabric do (docs/fabric-routing.md).

Each is one code of `ccverify.fabric.routing_findings.RouteCode`.
"""

from __future__ import annotations

from ccverify.checks.model import Category, Check, Need, Scope

__all__ = ["ROUTING_CHECKS"]

_KEYS = "Have the manager set the partition keys again, and ask for a new statement."
_AGAIN = "Have the manager route again, and ask for a new statement."

_TABLE = (
    (
        "LEAK",
        "No packet crosses the border of the partition",
        "With any address and any key that a port outside holds, nothing it sends is accepted "
        "inside, nor the other way round.",
        "Another tenant who writes to, or is written to by, the tenant's GPUs.",
        "Take the key away from the port outside; until then treat both as one tenant.",
    ),
    (
        "EXPOSED",
        "No packet from outside gets as far as a port of the partition",
        "Switches turn everything from outside away; none is left to a GPU's own keys.",
        "Isolation that rests on the GPUs' own tables alone.",
        _KEYS,
    ),
    (
        "MULTICAST",
        "Multicast groups are closed",
        "Every group reaches members of one partition, all of them, and nobody else.",
        "Copies of a collective's data that are delivered to another tenant.",
        "Have the manager build its groups again, and ask for a new statement.",
    ),
    (
        "PKEY",
        "Partition keys are with the members and nobody else",
        "Every member holds the partition's key and can use it; no stranger holds it.",
        "A GPU that cannot talk to its partition, or one that could.",
        _KEYS,
    ),
    (
        "LOOP",
        "No packet goes round in circles",
        "Every address ends somewhere, from every switch.",
        "A fabric that everybody on it can bring to a halt.",
        _AGAIN,
    ),
    (
        "BLACKHOLE",
        "No packet for a member is lost on its way",
        "No switch sends one out at a port that leads nowhere.",
        "Collectives that hang.",
        _AGAIN,
    ),
    (
        "UNREACHABLE",
        "Every member has an address that is reached",
        "Every port that should be reached has an address, and every switch on the way an entry.",
        "A partition that is defined and not routed.",
        "Have the partition activated, and ask for a new statement.",
    ),
    (
        "MISDELIVERED",
        "Packets for a member end at that member",
        "No address of one GPU leads to another.",
        "Data for one GPU that is delivered to another one.",
        _AGAIN,
    ),
    (
        "RAIL",
        "Packets take their rail to the right link, and no rail is missing",
        "Each link of a member reaches its counterparts over the switch both are cabled to.",
        "A partition with a fraction of its bandwidth, or one routed asymmetrically.",
        "Set PARTITION_RAIL_POLICY=symmetric on the manager's host, and route again.",
    ),
    (
        "LINK",
        "Cables are where the published map of the board has them",
        "Every link that the manager discovered is one that NVIDIA publishes for the board.",
        "A board that is cabled otherwise than anybody looked at, or a made-up map.",
        "Find out which board it is; compare with docs/fabric-routing.md.",
    ),
    (
        "UNKNOWN-PORT",
        "Tables name no device that is not on the map",
        "Every switch, address, key and member of the tables is on the link map.",
        "Dumps of several times, or a port that is hidden from the map.",
        "Have all dumps taken at one time, and ask for a new statement.",
    ),
    (
        "OVERLAP",
        "No GPU is in two partitions",
        "Partitions in use have no GPU in common.",
        "Two tenants given one GPU.",
        "Have one of the partitions deactivated.",
    ),
)

ROUTING_CHECKS = tuple(
    Check(
        f"ROUTE-{name}",
        title,
        Category.POLICY,
        Need.ALWAYS,
        proves,
        stops,
        fix,
        "where forwarding tables of a statement are evaluated",
        Scope.FABRIC,
    )
    for name, title, proves, stops, fix in _TABLE
)
