"""What a defect is, and the two ways to make one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from ccverify.sim.defaults import DEFAULT_TIME, dstack_events
from ccverify.sim.platform import SimCase, SimEvidence, SimPlatform

__all__ = ["Area", "Defect", "changed", "damaged"]

Area = Literal["chain", "collateral", "quote", "log"]
Form = Literal["v4", "v5-td15", "v4-dstack"]

Make = Callable[[SimPlatform, datetime], SimEvidence]


@dataclass(frozen=True, slots=True)
class Defect:
    """One way to be wrong.

    Attributes:
        name: kebab case, unique.
        area: where the fault lies.
        summary: one clause, what is wrong.
        make: makes the evidence of a platform at a time.
    """

    name: str
    area: Area
    summary: str
    make: Make

    def evidence(
        self, platform: SimPlatform | None = None, at: datetime = DEFAULT_TIME
    ) -> SimEvidence:
        """Return the defective evidence; of the default platform unless told."""
        return self.make(platform or SimPlatform(), at)


def _case(platform: SimPlatform, at: datetime, form: Form) -> SimCase:
    if form == "v5-td15":
        return platform.case(at=at, version=5, body_type=3)
    return platform.case(at=at, runtime_events=dstack_events() if form == "v4-dstack" else ())


def changed(change: Callable[[SimCase], SimCase], form: Form = "v4") -> Make:
    """Return a maker that changes an ingredient and then signs honestly."""
    return lambda platform, at: change(_case(platform, at, form)).build()


def damaged(damage: Callable[[SimEvidence], SimEvidence], form: Form = "v4") -> Make:
    """Return a maker that signs honestly and then damages the result."""
    return lambda platform, at: damage(_case(platform, at, form).build())
