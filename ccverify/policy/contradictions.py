"""What keeps a well-formed policy from ever being met, or from saying anything."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ccverify.errors import PolicyError
from ccverify.policy.model import (
    ANY,
    CountPolicy,
    DevicePolicy,
    FabricPolicy,
    GivenRule,
    Policy,
    TopologyPolicy,
    VersionPolicy,
)
from ccverify.policy.model_fabric import ManagersPolicy

__all__ = ["contradictions"]


def contradictions(policy: Policy) -> Iterator[PolicyError]:
    """Yield what keeps a well-formed policy from ever being met, or from saying anything."""
    judged = [part for part in (policy.tdx, policy.gpus, policy.nvswitches) if part is not None]
    if all(part is ANY for part in judged):
        yield PolicyError(
            "the policy judges nothing",
            expected="expectations in at least one of tdx, gpus and nvswitches",
            found="only the word any",
            where="policy",
        )
    for name, devices, bios in (
        ("gpus", policy.gpus, "vbios"),
        ("nvswitches", policy.nvswitches, "bios"),
    ):
        if isinstance(devices, DevicePolicy):
            yield from _in_devices(f"policy.{name}", devices, bios)
    if isinstance(policy.topology, TopologyPolicy):
        yield from _in_topology(policy, policy.topology)
    yield from _in_fabric(policy)


def _in_devices(where: str, devices: DevicePolicy, bios: str) -> Iterator[PolicyError]:
    count, ids = devices.count, devices.device_ids
    if isinstance(count, CountPolicy):
        if count.least > count.most:
            yield PolicyError(
                "no number is in this range",
                expected="min not above max",
                found=f"min {count.least}, max {count.most}",
                where=f"{where}.count",
            )
        if ids is not None and len(ids) < count.least:
            yield PolicyError(
                "the list names fewer devices than there must be",
                expected=f"at least {count.least} device ids",
                found=f"{len(ids)}",
                where=f"{where}.device_ids",
                hint="devices must be distinct: list each one a node may have",
            )
    yield from _in_versions(f"{where}.driver", devices.driver, _decimal)
    yield from _in_versions(f"{where}.{bios}", devices.vbios, _hexadecimal)


def _decimal(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def _hexadecimal(version: str) -> tuple[int, ...]:
    return tuple(int(part, 16) for part in version.split("."))


def _in_versions(
    where: str, versions: VersionPolicy, order: Callable[[str], tuple[int, ...]]
) -> Iterator[PolicyError]:
    rejected = set(map(order, versions.rejected))
    for version in sorted(versions.accepted or ()):
        if order(version) in rejected:
            problem, expected = "is accepted and rejected", "each version on one of the lists"
        elif versions.minimum is not None and order(version) < order(versions.minimum):
            problem = "is accepted but below the minimum"
            expected = f"versions from {versions.minimum} on"
        else:
            continue
        yield PolicyError(f"version {problem}", expected=expected, found=version, where=where)


def _in_topology(policy: Policy, topology: TopologyPolicy) -> Iterator[PolicyError]:
    where = "policy.topology"
    for name, devices, key, number in (
        ("gpus", policy.gpus, "gpus", topology.gpus),
        ("nvswitches", policy.nvswitches, "switches", topology.switches),
    ):
        if not isinstance(devices, DevicePolicy):
            yield PolicyError(
                "a topology rests on devices that are judged",
                expected=f"a section {name} with expectations",
                found="any" if devices is ANY else "none",
                where=where,
                hint=f"state {name}, or say topology: any",
            )
        elif isinstance(devices.count, CountPolicy) and not (
            devices.count.least <= number <= devices.count.most
        ):
            yield PolicyError(
                f"topology.{key} is not a number that {name}.count accepts",
                expected=f"{devices.count.least} to {devices.count.most}",
                found=str(number),
                where=f"{where}.{key}",
            )
    gpus = policy.gpus
    if not isinstance(gpus, DevicePolicy):
        return
    # Protected PCIe exists on Hopper systems only: later ones leave the switches untrusted.
    for name, words, needed in (
        ("modes", gpus.modes, "PPCIE"),
        ("architectures", gpus.architectures, "HOPPER"),
    ):
        if isinstance(words, frozenset) and needed not in words:
            yield PolicyError(
                f"topology.kind protected-pcie needs {needed} among gpus.{name}",
                expected=needed,
                found=", ".join(sorted(words)),
                where=f"policy.gpus.{name}",
            )


def _in_fabric(policy: Policy) -> Iterator[PolicyError]:
    fabric, where = policy.fabric, "policy.fabric"
    if not isinstance(fabric, FabricPolicy):
        return
    gpus = policy.gpus
    if not isinstance(gpus, DevicePolicy):
        yield PolicyError(
            "a fabric rests on GPUs that are judged",
            expected="a section gpus with expectations",
            found="any" if gpus is ANY else "none",
            where=where,
            hint="state gpus, or say fabric: any",
        )
        return
    if fabric.mode and isinstance(gpus.modes, frozenset) and fabric.mode not in gpus.modes:
        yield PolicyError(
            "fabric.mode is not a mode that gpus.modes accepts",
            expected=", ".join(sorted(gpus.modes)),
            found=fabric.mode,
            where=f"{where}.mode",
        )
    count = gpus.count
    if (
        fabric.size is not None
        and isinstance(count, CountPolicy)
        and not count.least <= fabric.size <= count.most
    ):
        yield PolicyError(
            "fabric.partition.size is not a number that gpus.count accepts",
            expected=f"{count.least} to {count.most}",
            found=str(fabric.size),
            where=f"{where}.partition.size",
            hint="GPUs of the partition outside this machine are not seen from inside it",
        )
    if fabric.observation is GivenRule.ANY and fabric.names_partition:
        yield PolicyError(
            "a partition is known from the observation alone",
            expected="observation: required",
            found="observation: any",
            where=f"{where}.partition",
        )
    yield from _in_statement(fabric, where)
    if fabric.observation is GivenRule.ANY:
        yield from _without_observation(fabric, where)
    if fabric.manager.versions is not None:
        yield from _in_versions(f"{where}.manager.versions", fabric.manager.versions, _decimal)
    if fabric.managers is not None:
        yield from _in_managers(fabric.managers, f"{where}.managers")
    both = fabric.apart_from.device_ids & (gpus.device_ids or frozenset())
    if both:
        yield PolicyError(
            "a GPU is to be one's own and kept apart",
            expected="each GPU on one of the lists gpus.device_ids and fabric.apart_from",
            found=", ".join(sorted(each.hex().upper() for each in both)),
            where=f"{where}.apart_from.device_ids",
        )


def _in_statement(fabric: FabricPolicy, where: str) -> Iterator[PolicyError]:
    """What only a statement can answer needs one that is judged."""
    if fabric.routing is GivenRule.ANY and fabric.routing_digests is not None:
        yield PolicyError(
            "digests of routing that is not judged",
            expected="routing: required, or if-given",
            found="routing: any",
            where=f"{where}.routing_digests",
        )
    if fabric.statement is not GivenRule.ANY:
        return
    for key, asked in (
        ("managers", fabric.managers is not None),
        ("continuity", fabric.continuity is GivenRule.REQUIRED),
        ("routing", fabric.routing is GivenRule.REQUIRED),
        ("routing_digests", fabric.routing_digests is not None),
        ("partition.ids", fabric.partition_ids is not None),
        ("apart_from.modules", bool(fabric.apart_from.modules)),
    ):
        if asked:
            yield PolicyError(
                "it is known from a statement of the manager alone",
                expected="statement: required, or if-given",
                found="statement: any",
                where=f"{where}.{key}",
            )


def _without_observation(fabric: FabricPolicy, where: str) -> Iterator[PolicyError]:
    """Whose partition a statement speaks of is known from the guest's module ids alone."""
    for key, asked in (
        ("statement", fabric.statement is GivenRule.REQUIRED),
        ("partition.ids", fabric.partition_ids is not None),
        ("apart_from.modules", bool(fabric.apart_from.modules)),
    ):
        if asked:
            yield PolicyError(
                "the tenant's place in the manager's table is known from the observation alone",
                expected="observation: required, or if-given",
                found="observation: any",
                where=f"{where}.{key}",
            )


_DIGEST_BYTES = {"sha256": 32, "sha384": 48, "sha512": 64}


def _in_managers(managers: ManagersPolicy, where: str) -> Iterator[PolicyError]:
    for number, machine in enumerate(managers.tdx):
        if machine.report_data is not None:
            yield PolicyError(
                "a manager's quote always covers its own statement",
                expected="no report_data",
                found="any" if machine.report_data is ANY else "a list",
                where=f"{where}.tdx[{number}].report_data",
            )
    for number, rule in enumerate(managers.tpm):
        for bank, pcrs in sorted(rule.pcrs.items()):
            size = _DIGEST_BYTES[bank]
            for pcr, values in sorted(pcrs.items()):
                for value in sorted(one for one in values if len(one) != size):
                    yield PolicyError(
                        "a PCR never has this value: it is not as long as the bank's digests",
                        expected=f"{size} bytes",
                        found=f"{len(value)} bytes",
                        where=f"{where}.tpm[{number}].pcrs.{bank}.{pcr}",
                    )
