"""Each recorded answer of a live service gets the verdict it deserves, in one command.

Twice: by a strict policy, which shows what the service leaves unproven, and by the policy of a
tenant who knowingly accepts what cannot be had.  The table is docs/live-services.md.
"""

from __future__ import annotations

import json
import re
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
    case: Case, evidence: ForeignEvidence, pack: Path, nonce: bytes | None = None
) -> VerdictSet:
    asked = case.capture.nonce_bytes if case.asked else None
    return check_nodes(
        evidence.nodes,
        policy=policy_from_document(case.policy),
        now=moment(case),
        nonce=nonce or asked,
        collateral=parse_collateral(pack.read_bytes()),
        trust=TRUST,
        source_format=evidence.format,
        not_read=evidence.not_read,
    )


def moment(case: Case) -> datetime:
    return datetime.fromisoformat(case.now or case.capture.at).astimezone(UTC)


def against(verdict: Verdict, gpus: int = 8) -> Codes:
    """What is against a node; what is against one of its GPUs is against all of them."""
    listed = verdict.failures()
    counts = Counter(f.code for f in listed if (f.subject or "").startswith("gpu-"))
    assert set(counts.values()) <= {gpus}, counts
    # A failed finding comes first, and decides.
    return {f.code: f.state for f in reversed(listed)}


def outcome(verdict: Verdict) -> tuple[int, Codes]:
    return verdict.exit_code, against(verdict)


Packs = Callable[[tuple[str, ...]], Path]

# --- verdicts ------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_the_verdict_it_deserves(vectors: Path, pack_of: Packs, case: Case) -> None:
    pack = pack_of(case.intel or case.capture.intel)
    verdicts = judge(case, read(vectors, case.capture), pack)
    assert [outcome(each) for each in verdicts.verdicts] == list(case.nodes)
    for each in verdicts.verdicts:
        assert each.conclusion.value == CONCLUSIONS.get(each.exit_code, "untrusted")
    assert verdicts.exit_code == case.exit_code
    assert verdicts.conclusion.value == CONCLUSIONS.get(case.exit_code, "untrusted")
    assert {f.state for f in verdicts.findings} == {State.PASS}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_in_one_command(vectors: Path, pack_of: Packs, tmp_path: Path, case: Case) -> None:
    """The command gives the same verdict as the library, to the last digit."""
    pack = pack_of(case.intel or case.capture.intel)
    result = command(vectors, case, pack, tmp_path)
    assert (result.exit_code, result.stderr) == (case.exit_code, "")
    verdicts = judge(case, read(vectors, case.capture), pack)
    alone = verdicts.verdicts[0] if len(verdicts.verdicts) == 1 else verdicts
    expected = json.loads(alone.dumps())
    if alone is not verdicts and verdicts.inputs["not_read"]:
        expected["inputs"]["not_read"] = list(verdicts.inputs["not_read"])
    assert json.loads(result.stdout) == expected
    shown = command(vectors, case, pack, tmp_path, form="table")
    assert (shown.exit_code, shown.stderr) == (case.exit_code, "")
    assert f"exit code {case.exit_code}: " in shown.stdout


def command(
    vectors: Path, case: Case, pack: Path, folder: Path, *more: str, form: str = "json"
) -> Any:
    policy = folder / "policy.json"
    policy.write_text(json.dumps(case.policy))
    capture = case.capture
    words = ["check", str(response(vectors, capture)), "--policy", str(policy)]
    words += ["--collateral", str(pack), "--at", case.now or capture.at, "--format", form, *more]
    if capture.instances:
        words += ["--instances", str(_find(vectors, f"tdx/captures/{capture.instances}")[0])]
    if case.asked:
        words += ["--nonce", capture.nonce]
    return CliRunner().invoke(cli, words, catch_exceptions=False)


def test_the_nonce_file_of_the_client(vectors: Path) -> None:
    path = _find(vectors, "tdx/captures/nanogpt_20260325/*_nonce.txt")[0]
    assert path.read_text().strip() == NANOGPT.nonce


@pytest.mark.parametrize("capture", [CHUTES, PHALA, NEAR, TINFOIL], ids=lambda c: c.response[:9])
def test_the_nonce_in_the_url_of_the_request(vectors: Path, capture: Capture) -> None:
    url = json.loads(response(vectors, capture).with_suffix(".json").read_text())["url"]
    assert f"nonce={capture.nonce}" in url
    manifest = json.loads((response(vectors, capture).parent / "manifest.json").read_text())
    assert manifest["captured_at"].startswith(capture.at[:-1])


READY_MADE = {
    "chutes": (CHUTES, (5,) * 7, UNPROVEN.keys() - NOBODYS_GPUS.keys()),
    "redpill": (PHALA, (3,) * 5, ANOTHER_NONCE.keys()),
    "near": (NEAR, (5,), UNPROVEN.keys() - NOBODYS_GPUS.keys()),
}


@pytest.mark.parametrize("service", READY_MADE)
def test_the_ready_made_policy_of_a_service(
    vectors: Path, pack_of: Packs, tmp_path: Path, service: str
) -> None:
    capture, codes, common = READY_MADE[service]
    words = ["check", str(response(vectors, capture)), "--nonce", capture.nonce]
    words += ["--policy", str(POLICIES / f"provider-{service}.yaml"), "--format", "json"]
    words += ["--collateral", str(pack_of(capture.intel)), "--at", capture.at]
    if capture.instances:
        words += ["--instances", str(_find(vectors, f"tdx/captures/{capture.instances}")[0])]
    result = CliRunner().invoke(cli, words, catch_exceptions=False)
    document = json.loads(result.stdout)
    nodes = document.get("nodes", [document])
    assert tuple(node["exit_code"] for node in nodes) == codes
    for node in nodes:
        found = {f["code"] for f in node["findings"] if f["needed"] and f["state"] != "PASS"}
        assert common <= found


PAGE = Path(__file__).resolve().parents[2] / "docs" / "live-services.md"
ROWS = {
    "Chutes": ("chutes, strict", "chutes, tailored, both families"),
    "Phala Cloud": ("phala, strict", "phala, tailored"),
    "NEAR AI": ("near, strict", "near, tailored"),
    "NanoGPT": ("nanogpt, strict", "nanogpt, tailored, both families"),
    "Tinfoil's router": ("tinfoil, strict", "tinfoil, strict"),
}


@pytest.mark.parametrize("service", ROWS)
def test_the_page_says_the_same(service: str) -> None:
    lines = PAGE.read_text("utf-8").partition("## Verdicts")[2].splitlines()
    (row,) = (line for line in lines if line.startswith(f"| {service} |"))
    cells = row.split("|")
    for cell, name in zip(cells[2:4], ROWS[service], strict=True):
        case = CASES[name]
        counted = {int(code) for code in re.findall(r"\b(\d+)(?:,| for)", cell.partition(";")[0])}
        assert counted == {code for code, _ in case.nodes}
        overall = re.search(r"in all (\d+)", cell)
        assert int(overall[1] if overall else counted.pop()) == case.exit_code


# --- what is proven even so ----------------------------------------------------------------------


def test_what_a_trusted_node_has_proven(vectors: Path, pack_of: Packs) -> None:
    case = CASES["near, tailored"]
    verdicts = judge(case, read(vectors, NEAR), pack_of(NEAR.intel))
    claims = verdicts.verdicts[0].to_json()["claims"]
    assert claims["binding"]["fresh"]
    assert set(claims["binding"]["bound"]) >= {"signing_address", "tls_fingerprint"}
    assert {part["matches"] for part in claims["binding"]["report_data"]} == {True}
    assert {gpu["mode"] for gpu in claims["gpus"]} == {"PPCIE"}
    assert claims["tdx"]["tcb_status"] == "UpToDate"
    assert verdicts.inputs["not_read"] == ["compose_manager_attestation", "ohttp_attestation"]


def test_the_gpus_of_a_node_name_switches_that_never_answer(vectors: Path, pack_of: Packs) -> None:
    """All eight sign the same four NVSwitches; of none is there any evidence."""
    for name in ("chutes, tailored", "phala, tailored", "near, tailored", "nanogpt, tailored"):
        case = CASES[name]
        evidence = read(vectors, case.capture)
        seen: list[str] = []
        for verdict in judge(case, evidence, pack_of(case.capture.intel)).verdicts:
            assert not verdict.nvswitches
            boards = {tuple(sorted(set(gpu.values["nvswitch_pdis"]))) for gpu in verdict.gpus}
            if verdict.gpus:
                (board,) = boards
                assert len(board) == 4
                seen += board
        assert len(seen) == len(set(seen)) > 0


@pytest.mark.parametrize("right", [True, False])
def test_the_channel_is_compared(
    vectors: Path, pack_of: Packs, tmp_path: Path, right: bool
) -> None:
    """The key that the client saw was not recorded: here the response's own stands for it."""
    case = CASES["near, tailored"]
    fingerprint = read(vectors, NEAR).nodes[0].binding.tls_fingerprint
    assert fingerprint is not None
    seen = fingerprint.hex() if right else bytes(32).hex()
    channel = ("--channel", f"tls_fingerprint={seen}")
    result = command(vectors, case, pack_of(NEAR.intel), tmp_path, *channel)
    assert result.exit_code == (0 if right else 3)
    states = {f["code"]: f["state"] for f in json.loads(result.stdout)["findings"]}
    assert states["BIND-CHANNEL"] == ("PASS" if right else "FAIL")


# --- what is refused -----------------------------------------------------------------------------

Nodes = tuple[Evidence, ...]
OTHER_NONCE = bytes(31) + b"\1"

# Only nodes that are trusted are changed, so that every code stands for the change.
TRUSTED = {
    "chutes": (CASES["chutes, tailored, both families"], (0, 2, 4, 5, 6)),
    "phala": (CASES["phala, tailored"], (0, 1, 3, 4)),
    "near": (CASES["near, tailored"], (0,)),
    "nanogpt": (CASES["nanogpt, tailored"], (1, 2, 3)),
}


@dataclass(frozen=True)
class Trusted:
    """The nodes of a capture that its tailored policy trusts."""

    case: Case
    nodes: Nodes
    pack: Path

    def judge(self, nodes: Sequence[Evidence], nonce: bytes | None = None) -> VerdictSet:
        evidence = ForeignEvidence("", tuple(nodes))
        return judge(self.case, evidence, self.pack, nonce)


@pytest.fixture(params=TRUSTED)
def trusted(request: pytest.FixtureRequest, vectors: Path, pack_of: Packs) -> Trusted:
    return _trusted(request.param, vectors, pack_of)


def _trusted(name: str, vectors: Path, pack_of: Packs) -> Trusted:
    case, kept = TRUSTED[name]
    nodes = read(vectors, case.capture).nodes
    pack = pack_of(case.intel or case.capture.intel)
    return Trusted(case, tuple(nodes[number] for number in kept), pack)


def codes(verdict: Verdict) -> set[str]:
    return {finding.code for finding in verdict.failures()}


def set_codes(verdicts: VerdictSet) -> set[str]:
    return {f.code for f in verdicts.findings if f.state is State.FAIL}


def flip(data: bytes | None, at: int) -> bytes:
    assert data
    changed = bytearray(data)
    changed[at] ^= 1
    return bytes(changed)


def test_the_nodes_that_are_changed_below_are_trusted(trusted: Trusted) -> None:
    assert trusted.judge(trusted.nodes).exit_code == 0


def test_another_nonce(trusted: Trusted) -> None:
    verdicts = trusted.judge(trusted.nodes, OTHER_NONCE)
    stated = trusted.case.capture is not CHUTES  # whose answer repeats no nonce
    expected = {"TDX-REPORT-DATA", "GPU-NONCE"} | ({"BIND-CONSISTENT"} if stated else set())
    assert [(v.exit_code, codes(v)) for v in verdicts.verdicts] == [(3, expected)] * len(
        trusted.nodes
    )


def test_a_gpu_that_is_left_out(trusted: Trusted) -> None:
    node = trusted.nodes[0]
    verdicts = trusted.judge([replace(node, gpus=node.gpus[1:]), *trusted.nodes[1:]])
    assert [codes(v) for v in verdicts.verdicts] == [
        {"GPU-COUNT"},
        *[set()] * (len(trusted.nodes) - 1),
    ]
    assert verdicts.exit_code == 4


def test_a_gpu_that_is_shown_twice(trusted: Trusted) -> None:
    node = trusted.nodes[0]
    verdicts = trusted.judge([replace(node, gpus=(*node.gpus[:7], node.gpus[0]))])
    assert codes(verdicts.verdicts[0]) == {"GPU-COUNT", "DEVICES-DISTINCT"}
    assert verdicts.exit_code == 3


def test_a_node_that_is_shown_twice(trusted: Trusted) -> None:
    again = replace(trusted.nodes[0], label="again")
    verdicts = trusted.judge([*trusted.nodes, again])
    assert {v.exit_code for v in verdicts.verdicts} == {0}
    assert (verdicts.exit_code, set_codes(verdicts)) == (3, {"SET-DISTINCT"})


def test_the_quote_of_another_node(trusted: Trusted, vectors: Path) -> None:
    """Of another service where there is but one node."""
    other = (*trusted.nodes[1:], read(vectors, NANOGPT).nodes[1])[0]
    verdicts = trusted.judge([replace(trusted.nodes[0], quote=other.quote), *trusted.nodes[1:]])
    assert verdicts.exit_code == 3
    found = codes(verdicts.verdicts[0])
    if trusted.case.capture is NANOGPT:  # one address, one nonce: the log alone tells them apart
        assert found == {f"TDX-EVENTLOG-{part}" for part in ("RTMR3", "IDENTITY", "CLAIMS")}
    else:
        assert "TDX-REPORT-DATA" in found
    assert ("SET-DISTINCT" in set_codes(verdicts)) == (len(trusted.nodes) > 1)


def test_a_changed_report_of_a_gpu(trusted: Trusted) -> None:
    node = trusted.nodes[0]
    for at in (10, -1):  # in the nonce, in the signature
        gpu = replace(node.gpus[3], report=flip(node.gpus[3].report.rstrip(b"\0"), at))
        verdict = trusted.judge([replace(node, gpus=(*node.gpus[:3], gpu, *node.gpus[4:]))])
        found = {f.code: f.subject for f in verdict.verdicts[0].failures()}
        assert verdict.exit_code == 3
        assert found["GPU-REPORT-SIGNATURE"] == "gpu-3"


def test_a_changed_quote(trusted: Trusted) -> None:
    node = trusted.nodes[0]
    for at in (48 + 520, 48 + 583):  # the first and last byte of REPORTDATA
        verdict = trusted.judge([replace(node, quote=flip(node.quote, at))]).verdicts[0]
        assert verdict.exit_code == 3
        assert "TDX-QUOTE-SIGNATURE" in codes(verdict)


INPUTS = {
    "chutes": ("e2e_public_key", "tls_certificate"),
    "phala": ("e2e_public_key",),
    "near": ("signing_address", "tls_fingerprint"),
    "nanogpt": ("signing_address",),
}

RSA_KEY = bytes.fromhex("2a864886f70d010101")
"""The object identifier before the key of an RSA certificate, DER."""


@pytest.mark.parametrize(
    ("service", "name"), [(service, name) for service in INPUTS for name in INPUTS[service]]
)
def test_a_changed_input_of_the_binding(
    vectors: Path, pack_of: Packs, service: str, name: str
) -> None:
    trusted = _trusted(service, vectors, pack_of)
    node = trusted.nodes[0]
    value = getattr(node.binding, name)
    if isinstance(value, str):
        changed: object = ("A" if value[0] != "A" else "B") + value[1:]
    else:
        # Of a certificate a byte of the key, which is what REPORTDATA binds.
        changed = flip(value, 0 if name != "tls_certificate" else value.index(RSA_KEY) + 60)
    binding = replace(node.binding, **{name: changed})
    verdict = trusted.judge([replace(node, binding=binding)]).verdicts[0]
    assert verdict.exit_code == 3
    expected = {"TDX-REPORT-DATA"}
    if name == "e2e_public_key":
        expected.add("GPU-NONCE")
    assert codes(verdict) - {"BIND-CONSISTENT"} == expected


@pytest.mark.parametrize("service", ["chutes", "phala", "near"])
def test_gpus_of_another_node(vectors: Path, pack_of: Packs, service: str) -> None:
    """Each node's nonce is made from its own key, or asked by another client."""
    trusted = _trusted(service, vectors, pack_of)
    own = trusted.nodes[0]
    other = (*trusted.nodes[1:], read(vectors, NANOGPT).nodes[1])[0]
    verdict = trusted.judge([replace(own, gpus=other.gpus)]).verdicts[0]
    assert (verdict.exit_code, against(verdict)) == (3, {"GPU-NONCE": FAIL})


def test_no_policy_trusts_an_sev_snp_machine(vectors: Path, pack_of: Packs) -> None:
    """Its report is not verified, and nothing else in the answer is evidence."""
    document = strict("tinfoil-v3", {})
    for sections in ({"tdx": "any"}, {"tdx": CHUTES_TD, "gpus": "any"}):
        case = replace(CASES["tinfoil, strict"], policy=document | sections)
        verdicts = judge(case, read(vectors, TINFOIL), pack_of(TINFOIL.intel))
        assert outcome(verdicts.verdicts[0]) == (4, NO_TD)
        states = {f.subject: f.state for f in verdicts.verdicts[0].failures()}
        assert states["other-cpu"] is UNCHECKED


def test_a_gateway_alone_is_no_service(vectors: Path, pack_of: Packs, tmp_path: Path) -> None:
    case = CASES["nanogpt, tailored, both families"]
    evidence = read(vectors, NANOGPT)
    verdicts = judge(case, replace(evidence, nodes=evidence.nodes[:1]), pack_of(BOTH))
    assert set_codes(verdicts) == {"SET-WORKLOAD"}
    assert verdicts.exit_code == 4
    document = json.loads(response(vectors, NANOGPT).read_bytes())
    for changes in ({"model_attestations": []}, {"model_attestations": None}):
        with pytest.raises(EvidenceError, match="model_attestations"):
            parse_foreign_evidence(json.dumps(document | changes).encode())


def test_a_gateway_among_the_models_has_no_gpus(vectors: Path, pack_of: Packs) -> None:
    document = json.loads(response(vectors, NANOGPT).read_bytes())
    document["model_attestations"] = [document["gateway_attestation"]]
    evidence = parse_foreign_evidence(json.dumps(document).encode())
    verdicts = judge(CASES["nanogpt, tailored, both families"], evidence, pack_of(BOTH))
    assert "NODE-CLASSES" in codes(verdicts.verdicts[1])
    assert set_codes(verdicts) == {"SET-DISTINCT"}
    assert verdicts.exit_code == 3


# --- three machines with one address and one nonce -----------------------------------------------


def _moved(nodes: Nodes, whole: bool) -> Nodes:
    """The GPUs of two nodes exchanged, all or one."""
    one, two, *rest = nodes
    count = 8 if whole else 1
    return (
        replace(one, gpus=(*two.gpus[:count], *one.gpus[count:])),
        replace(two, gpus=(*one.gpus[:count], *two.gpus[count:])),
        *rest,
    )


def test_whole_sets_of_gpus_exchange_places_unseen(vectors: Path, pack_of: Packs) -> None:
    """No signature of NanoGPT's answer says which GPUs are whose: that is BIND-RELAYABLE."""
    trusted = _trusted("nanogpt", vectors, pack_of)
    assert trusted.judge(_moved(trusted.nodes, whole=True)).exit_code == 0
    refusing = replace(trusted.case, policy=_refusing(trusted.case.policy))
    for nodes in (trusted.nodes, _moved(trusted.nodes, whole=True)):
        verdicts = judge(refusing, ForeignEvidence("", nodes), trusted.pack)
        assert [outcome(v) for v in verdicts.verdicts] == [(6, NOBODYS_GPUS)] * 3


def test_one_gpu_among_those_of_another_node_is_seen(vectors: Path, pack_of: Packs) -> None:
    """It signed that it is connected to the other board's switches."""
    trusted = _trusted("nanogpt", vectors, pack_of)
    verdicts = trusted.judge(_moved(trusted.nodes, whole=False))
    assert {v.exit_code for v in verdicts.verdicts} == {0, 3}
    codes = {f.code for v in verdicts.verdicts for f in v.failures()}
    assert codes == {"GPU-BOARD"}
    assert (verdicts.exit_code, set_codes(verdicts)) == (3, {"SET-DISTINCT"})


def test_lists_of_one_machine_and_its_gpus_tell(vectors: Path, pack_of: Packs) -> None:
    """A policy for each machine; one list for all machines does not say which GPU is whose."""
    trusted = _trusted("nanogpt", vectors, pack_of)
    claims = [v.to_json()["claims"] for v in trusted.judge(trusted.nodes).verdicts]
    moved = _moved(trusted.nodes, whole=True)
    for node, exchanged, known in zip(trusted.nodes, moved, claims, strict=True):
        own = _refusing(trusted.case.policy, known)
        assert _alone(trusted, own, node) == (0, NOTHING)
        if exchanged is not node:
            expected = {"GPU-DEVICE-LIST": FAIL, "BIND-RELAYABLE": UNCHECKED}
            assert _alone(trusted, own, exchanged) == (4, expected)
    together = replace(trusted.case, policy=_refusing(trusted.case.policy, *claims))
    assert judge(together, ForeignEvidence("", moved), trusted.pack).exit_code == 0


def _refusing(policy: dict[str, Any], *known: dict[str, Any]) -> dict[str, Any]:
    """The policy without consent to relays, and with lists of known machines and GPUs."""
    changed: dict[str, Any] = json.loads(json.dumps(policy))
    changed["binding"]["relayable"] = "refuse"
    if known:
        changed["tdx"]["platform"] = {"ppid": [claims["tdx"]["ppid"] for claims in known]}
        changed["gpus"]["device_ids"] = [
            gpu["device_id"] for claims in known for gpu in claims["gpus"]
        ]
    return changed


def _alone(trusted: Trusted, policy: dict[str, Any], node: Evidence) -> tuple[int, Codes]:
    verdict = check(
        node,
        policy=policy_from_document(policy),
        now=moment(trusted.case),
        nonce=None,
        collateral=parse_collateral(trusted.pack.read_bytes()),
        trust=TRUST,
    )
    return outcome(verdict)
