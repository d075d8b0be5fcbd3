"""The typed form of a policy: what a tenant expects of a machine.

Documents are read by `ccverify.policy.document`; every default here is the safe one, and
`None` means that the policy is silent.  Each section has a module of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

from ccverify.evidence import BindingProfile
from ccverify.policy.model_devices import (
    GPU_ARCHITECTURES,
    GPU_MODES,
    NVSWITCH_ARCHITECTURES,
    CountPolicy,
    DevicePolicy,
    RevocationRule,
    TopologyPolicy,
    VersionPolicy,
)
from ccverify.policy.model_fabric import (
    FABRIC_CLAIMS,
    FABRIC_MODES,
    FabricPolicy,
    GivenRule,
    HealthRule,
)
from ccverify.policy.model_tdx import (
    ANY,
    MEASUREMENTS,
    MUST_STATE,
    Accepted,
    Any,
    CollateralPolicy,
    EventLogPolicy,
    PlatformPolicy,
    TcbPolicy,
    TdxPolicy,
    XfamPolicy,
)

__all__ = [
    "ANY",
    "FABRIC_CLAIMS",
    "FABRIC_MODES",
    "GPU_ARCHITECTURES",
    "GPU_MODES",
    "MEASUREMENTS",
    "MUST_STATE",
    "NVSWITCH_ARCHITECTURES",
    "Accepted",
    "Any",
    "BindingPolicy",
    "CollateralPolicy",
    "CountPolicy",
    "DevicePolicy",
    "EventLogPolicy",
    "FabricPolicy",
    "GatewayPolicy",
    "GivenRule",
    "HealthRule",
    "PlatformPolicy",
    "Policy",
    "RevocationRule",
    "TcbPolicy",
    "TdxPolicy",
    "TopologyPolicy",
    "VersionPolicy",
    "XfamPolicy",
]


@dataclass(frozen=True, slots=True)
class BindingPolicy:
    """Section ``binding``.

    Attributes:
        profiles: accepted recipes that tie evidence to a request and a key.
        freshness_required: the caller must give the nonce.  False: the nonce that the response
            itself states is used, so that nothing proves the evidence to be new.
        relayable_accepted: accept that the evidence may come from another machine than the
            one that answers.
    """

    profiles: tuple[BindingProfile, ...] = (BindingProfile.RAW_NONCE, BindingProfile.CCVERIFY)
    freshness_required: bool = True
    relayable_accepted: bool = False


@dataclass(frozen=True, slots=True)
class GatewayPolicy:
    """Section ``gateway``: how nodes whose role is gateway are judged.

    Attributes:
        tdx: as in `Policy`.
        binding: as in `Policy`.
    """

    tdx: TdxPolicy | Any | None
    binding: BindingPolicy = BindingPolicy()


@dataclass(frozen=True, slots=True)
class Policy:
    """A whole policy.

    Attributes:
        tdx: expectations of the TDX virtual machine; None where the policy is silent, `ANY`
            where TDX evidence is knowingly not judged.
        name: for people.
        digest: SHA-384 (hex) of the document in RFC 8785 form: the policy's identity.
        gpus: expectations of every GPU; None and `ANY` as for `tdx`.
        nvswitches: expectations of every NVSwitch; None and `ANY` as for `tdx`.
        topology: how GPUs and switches must be wired; None and `ANY` as for `tdx`.
        fabric: expectations of the NVLink fabric; None and `ANY` as for `tdx`.
        binding: how the evidence must be tied to the request.
        gateway: None: gateways are judged like every other node.
    """

    tdx: TdxPolicy | Any | None
    name: str = ""
    digest: str = ""
    gpus: DevicePolicy | Any | None = None
    nvswitches: DevicePolicy | Any | None = None
    topology: TopologyPolicy | Any | None = None
    binding: BindingPolicy = BindingPolicy()
    gateway: GatewayPolicy | None = None
    fabric: FabricPolicy | Any | None = None
