"""What the numbers of NVML's fabric and confidential-computing fields mean.

The values are those of ``nvml.h`` as of NVML 13 (CUDA 13).  A number that is in no table is
not an error: newer drivers add values, and an observation keeps the number as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

__all__ = [
    "CC_ENVIRONMENTS",
    "CC_FEATURE",
    "CLIQUE_TYPES",
    "CPU_CAPABILITIES",
    "FABRIC_STATES",
    "GPU_ARCHITECTURES",
    "HEALTH_FIELDS",
    "HEALTH_SUMMARIES",
    "LINK_STATES",
    "MULTI_GPU_MODES",
    "NVLINK_VERSIONS",
    "P2P_STATUS",
    "REMOTE_DEVICE_TYPES",
    "TOPOLOGY_LEVELS",
    "HealthField",
    "HealthReading",
    "decode_health_mask",
    "named",
]

CC_ENVIRONMENTS: Final = {0: "unavailable", 1: "simulation", 2: "production"}
CC_FEATURE: Final = {0: "disabled", 1: "enabled"}
MULTI_GPU_MODES: Final = {0: "none", 1: "protected PCIe", 2: "NVLink encryption"}
CPU_CAPABILITIES: Final = {
    0: "none",
    1: "AMD SEV",
    2: "Intel TDX",
    3: "AMD SEV-SNP",
    4: "AMD SNP vTOM",
}
FABRIC_STATES: Final = {0: "not supported", 1: "not started", 2: "in progress", 3: "completed"}
HEALTH_SUMMARIES: Final = {0: "not supported", 1: "healthy", 2: "unhealthy", 3: "limited capacity"}
CLIQUE_TYPES: Final = {
    0: "unicast pointer",
    1: "multicast pointer",
    2: "unicast logical endpoint",
    3: "multicast logical endpoint",
}
LINK_STATES: Final = {0: "inactive", 1: "active", 2: "sleep", 3: "active, traffic disabled"}
NVLINK_VERSIONS: Final = {
    0: "invalid",
    1: "1.0",
    2: "2.0",
    3: "2.2",
    4: "3.0",
    5: "3.1",
    6: "4.0",
    7: "5.0",
    8: "6.0",
}
REMOTE_DEVICE_TYPES: Final = {0: "GPU", 1: "IBM NPU", 2: "NVSwitch", 255: "unknown"}
P2P_STATUS: Final = {
    0: "ok",
    1: "chipset not supported",
    2: "GPU not supported",
    3: "topology not supported",
    4: "disabled by registry key",
    5: "not supported",
    6: "unknown",
}
TOPOLOGY_LEVELS: Final = {
    0: "same board",
    10: "single PCIe switch",
    20: "several PCIe switches",
    30: "host bridge",
    40: "NUMA node",
    50: "system",
}
GPU_ARCHITECTURES: Final = {
    2: "KEPLER",
    3: "MAXWELL",
    4: "PASCAL",
    5: "VOLTA",
    6: "TURING",
    7: "AMPERE",
    8: "ADA",
    9: "HOPPER",
    10: "BLACKWELL",
    13: "RUBIN",
}


def named(names: Mapping[int, str], value: int) -> str:
    """The name of `value`, or the number as text."""
    return names.get(value, str(value))


class HealthField(NamedTuple):
    """One field of the fabric health mask.

    Attributes:
        name: stable name.
        shift: lowest bit.
        bits: how many bits.
        values: what each value means; 0 is always "not supported".
    """

    name: str
    shift: int
    bits: int
    values: Mapping[int, str]


_TRUE_FALSE: Final = {0: "not supported", 1: "true", 2: "false"}

HEALTH_FIELDS: Final = (
    HealthField("degraded-bandwidth", 0, 2, _TRUE_FALSE),
    HealthField("route-recovery", 2, 2, _TRUE_FALSE),
    HealthField("route-unhealthy", 4, 2, _TRUE_FALSE),
    HealthField("access-timeout-recovery", 6, 2, _TRUE_FALSE),
    HealthField(
        "incorrect-configuration",
        8,
        4,
        {
            0: "not supported",
            1: "none",
            2: "incorrect system GUID",
            3: "incorrect chassis serial number",
            4: "no partition",
            5: "insufficient NVLinks",
            6: "incompatible GPU firmware",
            7: "invalid location",
            8: "GPU state invalid",
        },
    ),
    HealthField("partition-assigned", 12, 2, _TRUE_FALSE),
    HealthField("fabric-manager", 14, 2, {0: "not supported", 1: "connected", 2: "disconnected"}),
)
"""``NVML_GPU_FABRIC_HEALTH_MASK_*``: where each field stands and what its values mean."""


class HealthReading(NamedTuple):
    """One field of a health mask: its name, the number, and what that means."""

    name: str
    value: int
    meaning: str


def decode_health_mask(mask: int) -> tuple[HealthReading, ...]:
    """Every known field of a fabric health mask, in the order of `HEALTH_FIELDS`."""
    readings = []
    for field in HEALTH_FIELDS:
        value = (mask >> field.shift) & ((1 << field.bits) - 1)
        readings.append(HealthReading(field.name, value, named(field.values, value)))
    return tuple(readings)
