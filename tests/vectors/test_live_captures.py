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
    Evidence,
    EvidenceError,
    State,
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
from ccverify.interop.chutes import parse_instance_keys, with_instance_keys
from ccverify.interop.model import ForeignEvidence

POLICIES = Path(__file__).resolve().parents[2] / "policies"
SETS = "tdx/collateral/assembled"
TRUST = TrustStore.production()
"""One for all tests: it remembers which signatures were valid, and nothing else."""

# --- the captures --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Capture:
    """A recorded answer.

    Attributes:
        response: pattern of the file, under ``tdx/captures``.
        nonce: what the client sent: from the URL of its request, or its nonce file.
        at: when the answer was recorded.
        intel: patterns of what Intel answered at that time.
        instances: Chutes' list of keys.
    """

    response: str
    nonce: str
    at: str
    intel: tuple[str, ...]
    instances: str | None = None

    @property
    def nonce_bytes(self) -> bytes:
        return bytes.fromhex(self.nonce)


def _recorded(folder: str) -> tuple[str, ...]:
    names = ("*_api.trustedservices.intel.com_*", "*_certificates.trustedservices.*")
    return tuple(f"tdx/captures/{folder}/{name}" for name in names)


CHUTES = Capture(
    "chutes_20260610/0002_*_evidence.body",
    "3339ed515124334c8c85e73f5101de92da4112b23ecec719a72d767a278d3440",
    "2026-06-10T01:50:29Z",
    _recorded("chutes_20260610"),
    "chutes_20260610/0001_*_instances_*.body",
)
PHALA = Capture(
    "phalacloud_20260610/0001_*.body",
    "732f6f1c1b4445d4ab4ad892728343f7fcb0f595ce79f91ecfdeaae657bb7c7e",
    "2026-06-10T01:49:17Z",
    _recorded("phalacloud_20260610"),
)
NEAR = Capture(
    "neardirect_20260610/0001_*.body",
    "e1acc835c324635d087549f55702d334ba5e8dd7ef64e9c52a312eded2709223",
    "2026-06-10T01:53:59Z",
    _recorded("neardirect_20260610"),
)
NANOGPT = Capture(  # Intel's answers were not recorded: a set of another source, of that month
    "nanogpt_20260325/glm-4.7_attestation.json",
    "9d9c010acbfbca060d0fb93ed8095ece7c7d0309c27f556a02ef46b118946d3c",
    "2026-03-25T12:00:00Z",
    (f"{SETS}/lunal_90c06f_2026-03.json",),
)
TINFOIL = Capture(
    "tinfoil_cloud_snp_20260629/0001_*.body",
    "535641d4647956bb9a1e2fa364a5da7c6499458b6f7b6cb65c6dbd1e377a8756",
    "2026-06-29T02:07:40Z",
    (f"{SETS}/cap_nearcloud_20260629_b0c06f.json",),
)

# Intel's answers for both platform families of these machines, and a day on which all are in force.
BOTH = (f"{SETS}/cap_chutes_20260610_90c06f.json", f"{SETS}/cap_nearcloud_20260629_b0c06f.json")
LATER = "2026-06-30T00:00:00Z"


def _find(vectors: Path, pattern: str) -> list[Path]:
    found = sorted(vectors.glob(pattern))
    if not found:
        pytest.skip(f"{pattern} is not among the vectors")
    return found


def response(vectors: Path, capture: Capture) -> Path:
    return _find(vectors, f"tdx/captures/{capture.response}")[0]


@cache
def read(vectors: Path, capture: Capture) -> ForeignEvidence:
    evidence = parse_foreign_evidence(response(vectors, capture).read_bytes())
    if capture.instances:
        listed = _find(vectors, f"tdx/captures/{capture.instances}")[0].read_bytes()
        evidence = with_instance_keys(evidence, parse_instance_keys(listed))
    return evidence


@pytest.fixture(scope="module")
def pack_of(
    vectors: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[tuple[str, ...]], Path]:
    """Build a pack with `ccverify collateral pack`, as a client would from what it saved."""
    folder = tmp_path_factory.mktemp("packs")
    made: dict[tuple[str, ...], Path] = {}

    def build(patterns: tuple[str, ...]) -> Path:
        if patterns not in made:
            files = [str(path) for pattern in patterns for path in _find(vectors, pattern)]
            target = folder / f"{len(made)}.json"
            at = LATER if patterns == BOTH else {each.intel: each.at for each in ALL}[patterns]
            words = ["collateral", "pack", *files, "--at", at, "-o", str(target)]
            done = CliRunner().invoke(cli, words, catch_exceptions=False)
            assert done.exit_code == 0, done.stderr
            made[patterns] = target
        return made[patterns]

    return build


ALL = (CHUTES, PHALA, NEAR, NANOGPT, TINFOIL)

# --- policies ------------------------------------------------------------------------------------

# All machines of Chutes but one ran this image on 2026-06-10, whichever service was asked.
CHUTES_IMAGE: dict[str, Any] = {
    "mrtd": ["ddc6efcdd2309e10837f8a7f64b71272b7ef003b129460410fe715bdfffec38c"
             "7c0c1686dddb2a23d4fd623d145e8455"],
    "rtmr0": ["2864b11878e8129095d62a5dd7c3e3aae178d3a077606a825617324768f189ad"
              "05aed08376947df92d6c75865d915cbf"],
    "rtmr1": ["f858ed2aecba4ecd29084352c6b5c6e403c0bec89b8c852f90fa5a8cee796ffa"
              "095518c5cd8b92c25c1856e932a95877"],
    "rtmr2": ["7719f4fde518994a5dd6767a8b8b87a38168cc0f3480e7498d4ace99e49319be"
              "6a7fed26c21ad43310d2d488fc68ab1c"],
    "rtmr3": ["bfac8bbe97148d00c0bc5dea273ccd926e2415511f08f5dedaa96d3c19e824d2"
              "bf01fae86e8987ff509fd3ad31374a60"],
}  # fmt: skip
# dstack-nvidia 0.5.5: the same in NEAR's machines in March and in June.  RTMR3 is each machine's
# own, and its event log says why.
DSTACK_IMAGE: dict[str, Any] = {
    "mrtd": ["b24d3b24e9e3c16012376b52362ca09856c4adecb709d5fac33addf1c47e193d"
             "a075b125b6c364115771390a5461e217"],
    "rtmr0": ["bc122d143ab768565ba5c3774ff5f03a63c89a4df7c1f5ea38d3bd173409d14f"
              "8cbdcc36d40e703cccb996a9d9687590"],
    "rtmr1": ["c0445b704e4c48139496ae337423ddb1dcee3a673fd5fb60a53d562f127d235f"
              "11de471a7b4ee12c9027c829786757dc"],
    "rtmr2": ["564622c7ddc55a53272cc9f0956d29b3f7e0dd18ede432720b71fd89e5b5d76c"
              "b0b99be7b7ff2a6a92b89b6b01643135"],
    "rtmr3": "any",
}  # fmt: skip
GATEWAY_IMAGE: dict[str, Any] = {
    "mrtd": ["f06dfda6dce1cf904d4e2bab1dc370634cf95cefa2ceb2de2eee127c9382698090d7a4a13e14c536"
             "ec6c9c3c8fa87077"],
    "rtmr0": ["fb14dc139f33d6fcf474bc8332cac001259fb31cfbcb6b34d4ceeb552a2c4466884a0cbde45ad98a"
              "05c5c060c23ad65a"],
    "rtmr1": ["a7b523278d4f914ee8df0ec80cd1c3d498cbf1152b0c5eaf65bad9425072874a3fcf891e8b01713d"
              "3d9937e3e0d26c15"],
    "rtmr2": ["24847f5c5a2360d030bc4f7b8577ce32e87c4d051452c937e91220cab69542daef83433947c492b9"
              "c201182fc9769bbe"],
    "rtmr3": "any",
}  # fmt: skip
NEAR_APP = "4676ec04ecaff0303142bd3b76205ffc7bc218adaa91b92c10863d4fa6463a3f"
MODEL_APPS = (
    "242a62724303cc32f364da0fc92738706b0078e7587821b7ba3e75488223797b",
    "cff03e995702c46d4d5bbee1789fd33f90e27ee7701c84a58e72a70a67044c82",
)
GATEWAY_APP = "0e10d840d58e7f7d73d94e2b997f72cb394136e362d88eb13237eae9a4a2e613"


def dstack_td(image: dict[str, Any], *apps: str) -> dict[str, Any]:
    log = {"rtmr3": "log", "claims": {"compose_hash": list(apps)}}
    return {"measurements": image, "event_log": log}


def strict(profile: str, tdx: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Nothing is given up that a default does not; the topology is, for want of any evidence."""
    return {
        "schema": "ccverify.policy/v1",
        "name": "strict",
        "tdx": tdx,
        "gpus": {"count": 8, "architectures": ["HOPPER"], "modes": ["PPCIE"]},
        "topology": "any",
        "binding": {"profiles": [profile]},
        **more,
    }


def tailored(profile: str, tdx: dict[str, Any], *, waived: bool = False, **more: Any) -> Any:
    """What none of these services sends is accepted; what they do send is required."""
    document = strict(profile, tdx, **more)
    versions = {"driver": {"min": "570.172.08"}, "vbios": {"min": "96.00.CF.00.02"}}
    document["gpus"] |= {"rim": "any", "revocation": "if-given", **versions}
    document["binding"] |= {"relayable": "accept"}
    if waived:
        document["binding"]["freshness"] = "waived"
    return {**document, "name": "tailored"}


def gateway(*, waived: bool) -> dict[str, Any]:
    binding: dict[str, Any] = {"profiles": ["redpill"]}
    if waived:
        binding["freshness"] = "waived"
    return {"tdx": dstack_td(GATEWAY_IMAGE, GATEWAY_APP), "binding": binding}


CHUTES_TD = {"measurements": CHUTES_IMAGE}
NEAR_TD = dstack_td(DSTACK_IMAGE, NEAR_APP)
MODEL_TD = dstack_td(DSTACK_IMAGE, *MODEL_APPS)
# No answer of Phala holds the certificates that half of REPORTDATA is the hash of.
PHALA_TD = {**CHUTES_TD, "report_data": "any"}

# --- what is expected ----------------------------------------------------------------------------

Codes = dict[str, State]
"""What keeps a node from being trusted."""


def _all(state: State, *codes: str) -> Codes:
    return dict.fromkeys(codes, state)


FAIL, UNCHECKED = State.FAIL, State.NOT_CHECKED
NOTHING: Codes = {}
NO_RIM = _all(
    UNCHECKED, "GPU-RIM", "GPU-RIM-SIGNATURE", "GPU-RIM-VALIDITY", "GPU-RIM-REVOCATION",
    "GPU-MEASUREMENTS",
)  # fmt: skip
NO_REVOCATION = _all(UNCHECKED, "GPU-REVOCATION", "GPU-REVOCATION-FRESH")
NOBODYS_GPUS = _all(UNCHECKED, "BIND-RELAYABLE")
UNPROVEN = NO_RIM | NO_REVOCATION | NOBODYS_GPUS
NO_KEY = _all(UNCHECKED, "TDX-REPORT-DATA", "GPU-NONCE")
NO_TCB_INFO = _all(
    UNCHECKED, "TDX-TCB-INFO-SIGNATURE", "TDX-TCB-INFO-FRESH", "TDX-TCB-INFO-MATCH",
    "TDX-MODULE-IDENTITY", "TDX-TCB-LEVEL", "TDX-MODULE-TCB", "TDX-QE-TCB", "TDX-TCB-STATUS",
)  # fmt: skip
ANOTHER_NONCE = _all(FAIL, "TDX-REPORT-DATA", "GPU-NONCE", "BIND-CONSISTENT")
GATEWAY_NONCE = _all(FAIL, "TDX-REPORT-DATA", "BIND-CONSISTENT")
ANOTHER_IMAGE = _all(FAIL, "TDX-RTMR0", "TDX-RTMR2", "TDX-RTMR3")
NO_TD = {"NODE-CLASSES": FAIL}
OUT_OF_DATE = _all(FAIL, "TDX-TCB-STATUS")


@dataclass(frozen=True)
class Case:
    """One command and its outcome.

    Attributes:
        exit_code: of all nodes together.
        nodes: exit code of each node, and what is against it.
        asked: whether the client's nonce is given.
        now: when it is judged, if not when it was recorded.
        intel: collateral, if not the capture's own.
    """

    capture: Capture
    policy: dict[str, Any]
    exit_code: int
    nodes: tuple[tuple[int, Codes], ...]
    asked: bool = True
    now: str | None = None
    intel: tuple[str, ...] | None = None


GOOD = (0, NOTHING)
CASES = {
    # Two instances are not on the list of keys; the sixth is of a platform family for which this
    # client did not ask Intel.
    "chutes, strict": Case(
        CHUTES, strict("chutes", CHUTES_TD), 5,
        ((5, UNPROVEN), (5, UNPROVEN | NO_KEY), (5, UNPROVEN), (5, UNPROVEN | NO_KEY),
         (5, UNPROVEN), (5, UNPROVEN | NO_TCB_INFO), (5, UNPROVEN)),
    ),
    "chutes, tailored": Case(
        CHUTES, tailored("chutes", CHUTES_TD), 5,
        (GOOD, (6, NO_KEY), GOOD, (6, NO_KEY), GOOD, (5, NO_TCB_INFO), GOOD),
    ),
    "chutes, tailored, both families": Case(
        CHUTES, tailored("chutes", CHUTES_TD), 6,
        (GOOD, (6, NO_KEY), GOOD, (6, NO_KEY), GOOD, GOOD, GOOD), now=LATER, intel=BOTH,
    ),
    "phala, strict": Case(
        PHALA, strict("chutes", CHUTES_TD), 3,
        tuple((3, UNPROVEN | ANOTHER_NONCE | (ANOTHER_IMAGE if odd else NOTHING))
              for odd in (False, False, True, False, False)),
    ),
    # Half of REPORTDATA cannot be derived; a policy that does not say `any` leaves it open.
    "phala, freshness waived": Case(
        PHALA, tailored("chutes", CHUTES_TD, waived=True), 4,
        tuple((4, ANOTHER_IMAGE | _all(UNCHECKED, "TDX-REPORT-DATA")) if odd
              else (6, _all(UNCHECKED, "TDX-REPORT-DATA"))
              for odd in (False, False, True, False, False)), asked=False,
    ),
    "phala, tailored": Case(
        PHALA, tailored("chutes", PHALA_TD, waived=True), 4,
        (GOOD, GOOD, (4, ANOTHER_IMAGE), GOOD, GOOD), asked=False,
    ),
    "near, strict": Case(NEAR, strict("near", NEAR_TD), 5, ((5, UNPROVEN),)),
    "near, tailored": Case(NEAR, tailored("near", NEAR_TD), 0, (GOOD,)),
    "nanogpt, strict": Case(
        NANOGPT, strict("redpill", MODEL_TD, gateway=gateway(waived=False)), 3,
        ((3, GATEWAY_NONCE | NO_TCB_INFO), *[(3, UNPROVEN | ANOTHER_NONCE)] * 3),
    ),
    "nanogpt, no section for the gateway": Case(
        NANOGPT, tailored("redpill", MODEL_TD), 3,
        ((3, GATEWAY_NONCE | NO_TCB_INFO | NO_TD | _all(
            FAIL, "TDX-MRTD", "TDX-RTMR0", "TDX-RTMR1", "TDX-RTMR2", "TDX-EVENTLOG-CLAIMS")),
         *[(3, ANOTHER_NONCE)] * 3),
    ),
    # No set of March 2026 for the gateway's platform family is known.
    "nanogpt, tailored": Case(
        NANOGPT, tailored("redpill", MODEL_TD, waived=True, gateway=gateway(waived=True)), 5,
        ((5, NO_TCB_INFO), GOOD, GOOD, GOOD), asked=False,
    ),
    # By June's, its gateway has been out of date since 2024.
    "nanogpt, tailored, both families": Case(
        NANOGPT, tailored("redpill", MODEL_TD, waived=True, gateway=gateway(waived=True)), 4,
        ((4, OUT_OF_DATE), GOOD, GOOD, GOOD), asked=False, now=LATER, intel=BOTH,
    ),
    "tinfoil, strict": Case(TINFOIL, strict("tinfoil-v3", CHUTES_TD), 4, ((4, NO_TD),)),
}  # fmt: skip
CONCLUSIONS = {0: "trusted", 5: "incomplete", 6: "incomplete"}


def judge(
    case: Case, nodes: Sequence[Evidence], pack: Path, *, nonce: bytes | None = None
) -> VerdictSet:
    asked = case.capture.nonce_bytes if case.asked else None
    return check_nodes(
        nodes,
        policy=policy_from_document(case.policy),
        now=datetime.fromisoformat(case.now or case.capture.at).astimezone(UTC),
        nonce=asked if nonce is None else nonce,
        collateral=parse_collateral(pack.read_bytes()),
        trust=TRUST,
        source_format=read.__wrapped__.__name__ and "",
    )
