"""The trust store: whom one verification believes, and what it remembers."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property

from ccverify.errors import TrustError
from ccverify.trust.anchors import (
    INTEL_SGX_ROOT_CA,
    NVIDIA_CORIM_SIGNING_ROOT_CA,
    NVIDIA_DEVICE_IDENTITY_CA,
    TrustAnchor,
)
from ccverify.trust.signatures import SignatureMemory

__all__ = ["TrustKind", "TrustStore"]


class TrustKind(str, Enum):
    """What kind of roots a store holds; a verdict always says which."""

    PRODUCTION = "production"
    """Exactly the vendors' roots pinned in this package."""
    SIMULATED = "simulated"
    """Roots of `ccverify.sim`: a verdict under them says nothing about any real machine."""
    INSECURE = "insecure"
    """Roots named by the user; no verdict under them is ever trusted."""


@dataclass(frozen=True)
class TrustStore:
    """The trust anchors of one verification, and its memory of valid signatures."""

    kind: TrustKind
    intel_root: TrustAnchor
    nvidia_device_root: TrustAnchor = NVIDIA_DEVICE_IDENTITY_CA
    nvidia_rim_root: TrustAnchor = NVIDIA_CORIM_SIGNING_ROOT_CA
    memory: SignatureMemory = field(default_factory=SignatureMemory, compare=False, repr=False)

    @classmethod
    def production(cls) -> TrustStore:
        """The vendors' roots pinned in this package."""
        return cls(TrustKind.PRODUCTION, INTEL_SGX_ROOT_CA)

    def __post_init__(self) -> None:
        if self.kind is not TrustKind.PRODUCTION:
            return
        for anchor, pinned in (
            (self.intel_root, INTEL_SGX_ROOT_CA),
            (self.nvidia_device_root, NVIDIA_DEVICE_IDENTITY_CA),
            (self.nvidia_rim_root, NVIDIA_CORIM_SIGNING_ROOT_CA),
        ):
            if anchor != pinned:
                raise TrustError(
                    "a production trust store holds only the roots pinned in ccverify",
                    expected=pinned.label,
                    found=anchor.label,
                    hint="use TrustKind.SIMULATED or TrustKind.INSECURE for other roots",
                )

    @cached_property
    def digest(self) -> str:
        """SHA-384 (hex) over kind and anchors: names the store in a verdict."""
        lines = ["ccverify/trust-store/v1", self.kind.value]
        for use, anchor in (
            ("intel", self.intel_root),
            ("nvidia-device", self.nvidia_device_root),
            ("nvidia-rim", self.nvidia_rim_root),
        ):
            point = anchor.public_key.point.hex()
            lines.append(f"{use} {anchor.certificate_sha256.hex()} {point}")
        return hashlib.sha384("\n".join(lines).encode()).hexdigest()
