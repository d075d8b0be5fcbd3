"""How fast the routing of a fabric is read and evaluated, and what a statement costs a verdict.

    python benchmarks/fabric.py [--rounds N] [--json]

The fabrics are simulated: an HGX B300 with two tenants, and NVLink domains of two levels with 72
to 576 GPUs, 18 rails, leaves of 36 GPUs and nine spines a rail, tenants of 72 GPUs.  *Read* is the
parsing of five dumps (links, unicast and multicast tables, addresses, keys) into the normal form;
*evaluate* proves or refutes every tenant's partition; the result must be no finding.

Growth is measured in one run, because only ratios of one run mean something on a busy machine:
every size is timed once in each round, in turn, and medians are compared.  *Growth* of a size is
its time per table entry over that of the size before: 1 is linear, 2 for double the size would be
quadratic.  Processor time is counted.

The statement is that of an HGX B300's manager, with two tenants of four GPUs.  *Read* is every file
of it, *judge* its rules, the tenant's partition and the evaluation of the tables.  `check` judges
the tenant's whole evidence, a TDX quote and four GPUs, once without and once with that statement,
in turn; the collateral is parsed and its signatures are remembered, as in a process that judges
many nodes.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from typing import Any

import ccverify
from ccverify.bundle.package import parse_bundle
from ccverify.bundle.statement_items import statement_items
from ccverify.cli.sim_sources import machine_sources
from ccverify.cli.sim_statement import matching_managers, sim_statement
from ccverify.cli.sim_trust import matching_policy, simulated_trust
from ccverify.collect.session import collect_bundle
from ccverify.fabric.linkmap import LinkMap
from ccverify.fabric.linkmap_dump import parse_subnet_list, rename_nodes
from ccverify.fabric.routing import NO_PORT, RoutingState, routing_digest
from ccverify.fabric.routing_dumps import (
    parse_addresses,
    parse_key_tables,
    parse_multicast_routes,
    parse_unicast_routes,
)
from ccverify.fabric.routing_evaluate import appraise_routing
from ccverify.fabric.routing_findings import FabricPartition
from ccverify.fabric.statement import FabricStatement, evaluate_statement, read_statement
from ccverify.fabric.statement_join import join_partition
from ccverify.fabric.statement_rules import Circumstances, appraise_statement
from ccverify.sim.board import sim_board
from ccverify.sim.fabric import SimFabric, SimTenant
from ccverify.sim.fabric_dumps import (
    address_dump,
    key_dump,
    multicast_dump,
    subnet_list,
    unicast_dump,
)
from ccverify.sim.manager import SimManager

HGX, DOMAINS = "HGX B300, 8 GPUs", (72, 144, 288, 576)
AIMS_MS = {HGX: 5.0, "domain of 576 GPUs": 2000.0}


@dataclass(frozen=True)
class Dumps:
    links: bytes
    unicast: bytes
    multicast: bytes
    addresses: bytes
    keys: bytes
    names: dict[str, str]
    partitions: list[FabricPartition]

    def read(self) -> tuple[LinkMap, RoutingState]:
        links = rename_nodes(parse_subnet_list(self.links).links, self.names)
        state = RoutingState(
            parse_unicast_routes(self.unicast),
            parse_multicast_routes(self.multicast),
            parse_addresses(self.addresses),
            parse_key_tables(self.keys),
        )
        return links, state


def dumps(fabric: SimFabric) -> Dumps:
    return Dumps(
        subnet_list(fabric),
        unicast_dump(fabric),
        multicast_dump(fabric),
        address_dump(fabric),
        key_dump(fabric),
        fabric.names(),
        [
            FabricPartition(t.name, frozenset(t.gpus), fabric.keys_of[t.name])
            for t in fabric.tenants
        ],
    )


def fabrics() -> dict[str, Dumps]:
    halves = [SimTenant("a", (1, 2, 3, 4)), SimTenant("b", (5, 6, 7, 8))]
    made = {HGX: dumps(SimFabric.hgx("B300", halves))}
    for gpus in DOMAINS:
        tenants = [
            SimTenant(f"t{first}", tuple(range(first, first + 72)))
            for first in range(1, gpus + 1, 72)
        ]
        domain = SimFabric.two_level(tenants, gpus=gpus, rails=18, down=36, spines=9, width=4)
        made[f"domain of {gpus} GPUs"] = dumps(domain)
    return made


def evaluate(links: LinkMap, state: RoutingState, given: Dumps) -> None:
    found = appraise_routing(links, state, given.partitions)
    if found.findings:
        raise SystemExit(f"a clean fabric has findings: {found.findings[0]}")


def seconds(run: Any, *arguments: Any) -> tuple[float, Any]:
    gc.collect()
    start = time.process_time()
    result = run(*arguments)
    return time.process_time() - start, result


def entries(state: RoutingState) -> int:
    return sum(len(t.ports) - t.ports.count(NO_PORT) for t in state.unicast)


def measure(rounds: int) -> list[dict[str, Any]]:
    made = fabrics()
    times: dict[str, dict[str, list[float]]] = {
        name: {"read": [], "evaluate": [], "digest": []} for name in made
    }
    sizes: dict[str, int] = {}
    for _ in range(rounds):
        for name, given in made.items():
            spent, (links, state) = seconds(given.read)
            times[name]["read"].append(spent)
            times[name]["evaluate"].append(seconds(evaluate, links, state, given)[0])
            times[name]["digest"].append(seconds(routing_digest, state)[0])
            sizes[name] = entries(state)
    results: list[dict[str, Any]] = []
    for name, kinds in times.items():
        medians = {kind: statistics.median(values) * 1e3 for kind, values in kinds.items()}
        per_entry = medians["evaluate"] / sizes[name]
        before = results[-1] if results and results[-1]["fabric"] != HGX else None
        results.append(
            {
                "fabric": name,
                "entries": sizes[name],
                "median_ms": medians,
                "us_per_entry": per_entry * 1e3,
                "growth": before and per_entry * 1e3 / before["us_per_entry"],
                "aim_ms": AIMS_MS.get(name),
            }
        )
    return results


# --- statements ----------------------------------------------------------------------------------


def statement_parts() -> dict[str, Callable[[], Any]]:
    """What is timed: each a call that must come out as expected."""
    manager = SimManager(sim_board("B300", [2, 3]))
    machine, nonce = manager.board.machine("a"), sha256(b"ccverify benchmark").digest()
    statement = sim_statement(manager, nonce)
    files = statement_items(parse_bundle(statement))
    node = collect_bundle(nonce, machine_sources(machine)).bundle
    if files is None or node is None:
        raise SystemExit("nothing was collected")
    read = read_statement(files)
    modules = frozenset(manager.board.modules("a"))
    trust = simulated_trust(machine)
    policies = {}
    for name in ("without", "with"):
        document = matching_policy(machine)
        if name == "with":
            document["fabric"] |= {
                "statement": "required",
                "routing": "required",
                "managers": matching_managers(manager),
            }
        policies[name] = ccverify.policy_from_document(document)

    def judge(given: FabricStatement) -> None:
        found = (
            *appraise_statement(given, Circumstances(modules=modules, multi_gpu=True)),
            *join_partition(given, modules).judged,
        )
        evaluation = evaluate_statement(given)
        if found or evaluation is None or evaluation.findings:
            raise SystemExit(f"a clean statement has findings: {found or evaluation}")

    def check(name: str) -> None:
        verdict = ccverify.check(
            node,
            policy=policies[name],
            now=trust.at + timedelta(seconds=30),
            nonce=nonce,
            collateral=trust.collateral.intel,
            nvidia=trust.collateral.nvidia,
            trust=trust.store,
            statements=[statement] if name == "with" else [],
        )
        if not verdict.trusted:
            raise SystemExit(f"an honest node is not trusted: {verdict.failures()[0]}")

    return {
        "read a statement": lambda: read_statement(files),
        "judge a statement": lambda: judge(read),
        "check without a statement": lambda: check("without"),
        "check with a statement": lambda: check("with"),
    }


def measure_statements(rounds: int) -> dict[str, Any]:
    """Medians in ms; every part is timed once in each round, so that ratios mean something."""
    parts = statement_parts()
    for run in parts.values():
        run()  # what is remembered of collateral is remembered
    times: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(rounds):
        for name, run in parts.items():
            times[name].append(seconds(run)[0])
    medians = {name: statistics.median(values) * 1e3 for name, values in times.items()}
    ratios = [
        each / other
        for each, other in zip(
            times["check with a statement"], times["check without a statement"], strict=True
        )
    ]
    return {"median_ms": medians, "ratio": statistics.median(ratios)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true", help="print numbers for machines")
    arguments = parser.parse_args()
    found, stated = measure(arguments.rounds), measure_statements(5 * arguments.rounds)
    if arguments.json:
        print(json.dumps({"routing": found, "statement": stated}, indent=2))
        return
    for one in found:
        ms = one["median_ms"]
        print(
            f"{one['fabric']}: {one['entries']} table entries; {arguments.rounds} rounds, medians"
        )
        aim = f"  aim {one['aim_ms']:.0f} ms" if one["aim_ms"] else ""
        print(f"  evaluate {ms['evaluate']:9.2f} ms{aim}")
        print(f"  read     {ms['read']:9.2f} ms")
        print(f"  digest   {ms['digest']:9.2f} ms")
        growth = f", growth {one['growth']:.2f}" if one["growth"] else ""
        print(f"  {one['us_per_entry']:.2f} us for each entry{growth}")
    print(f"statement of an HGX B300's manager; {5 * arguments.rounds} rounds, medians")
    for name, ms in stated["median_ms"].items():
        print(f"  {name:26} {ms:8.2f} ms")
    print(f"  a statement makes a check {stated['ratio']:.2f} times as long")


if __name__ == "__main__":
    main()
