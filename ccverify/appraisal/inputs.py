"""What one verification works with beside evidence and policy."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from ccverify.nvidia.collateral import NvidiaCollateral
from ccverify.tdx.collateral import CollateralPack
from ccverify.trust.store import TrustStore

__all__ = ["Inputs"]


@dataclass(frozen=True, slots=True)
class Inputs:
    """The circumstances of one verification.

    Attributes:
        intel: what Intel published.
        nvidia: what NVIDIA published.
        trust: the trust store.
        now: evaluation time, whole seconds, UTC.
        what_if: other collateral of Intel's, for the question what it would say.
    """

    intel: CollateralPack
    nvidia: NvidiaCollateral
    trust: TrustStore
    now: datetime
    what_if: CollateralPack | None = None
