"""Each recorded answer of a live service gets the verdict it deserves, in one command.

Twice: by a strict policy, which shows what the service leaves unproven, and by the policy of a
tenant who knowingly accepts what cannot be had.  The table is docs/live-services.md.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from ccverify import (
    CollateralPack,
    Evidence,
    Policy,
    TrustStore,
    Verdict,
    VerdictSet,
    check,
    check_nodes,
    parse_collateral,
    parse_foreign_evidence,
    policy_from_document,
)
from ccverify.cli.app import cli
from ccverify.findings import State
from ccverify.interop.chutes import parse_instance_keys, with_instance_keys
from ccverify.interop.model import ForeignEvidence

CAPTURES = "tdx/captures"
SETS = "tdx/collateral/assembled"
TRUST = TrustStore.production()
"""One for all tests: it remembers which signatures were valid, and only that."""

# A day on which Intel's answers for both platform families of these machines are in force.
LATER = "2026-06-30T00:00:00Z"
BOTH_FAMILIES = (f"{SETS}/cap_chutes_20260610_90c06f.json", f"{SETS}/cap_nearcloud_20260629_b0c06f.json")

# --- what a tenant pins --------------------------------------------------------------------------

# One image in all machines of Chutes but one, on 2026-06-10, whichever service asked.
CHUTES_IMAGE = {
    "mrtd": ["@chutes.mrtd"],
}
