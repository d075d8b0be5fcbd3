"""Several nodes together: what is shared is found, whatever the nodes are called."""

from __future__ import annotations

from typing import Any

import pytest

from ccverify import CollateralPack, Evidence, TrustAnchor, TrustKind, TrustStore, VerdictSet
from ccverify.evidence import DeviceEvidence, NodeRole
from ccverify.findings import State
from ccverify.policy.document import policy_from_document
from ccverify.sim import SimPlatform
from ccverify.sim.nvidia import H100, BuiltDevice, SimNode, SimNvidiaIssuer, sim_gpu
from ccverify.verifier_set import check_nodes

PLATFORM = SimPlatform()
MACHINE = PLATFORM.case().build()
ISSUER = SimNvidiaIssuer()
POLICY = policy_from_document(
    {
        "schema": "ccverify.policy/v1",
        "tdx": {"measurements": dict.fromkeys(("mrtd", "rtmr0", "rtmr1", "rtmr2", "rtmr3"), "any")},
        "gpus": {"count": "any", "architectures": "any", "modes": "any"},
        "topology": "any",
    }
)


def quote(number: int) -> bytes:
    return PLATFORM.case(report_data=bytes([number]) * 64).build().quote_bytes


def judge(*nodes: Evidence) -> VerdictSet:
    built = SimNode.hopper_ppcie(1, 1).build()
    roots = (MACHINE.root_der, built.device_root_der, built.rim_root_der)
    return check_nodes(
        nodes,
        policy=POLICY,
        now=MACHINE.at,
        nonce=None,
        collateral=CollateralPack(),
        trust=TrustStore(TrustKind.SIMULATED, *map(TrustAnchor.load, roots)),
    )


def problem(verdicts: VerdictSet) -> str | None:
    (finding,) = (f for f in verdicts.findings if f.code == "SET-DISTINCT")
    return finding.found if finding.state is State.FAIL else None


def evidence(*devices: BuiltDevice, **more: Any) -> Evidence:
    gpus = [DeviceEvidence(d.report, d.chain_pem, None, None, source=d.label) for d in devices]
    return Evidence(None, gpus=tuple(gpus), **more)


def gpu(label: str, mode: str, *switches: bytes) -> BuiltDevice:
    links = tuple(sorted(switches[link % len(switches)] for link in range(18)))
    return sim_gpu(ISSUER, H100, label, mode=mode, switch_pdis=links).build()


@pytest.mark.parametrize("labels", [("", ""), ("one", "one"), ("one", "two"), ("", "two")])
def test_one_quote_under_any_labels(labels: tuple[str, str]) -> None:
    first, second = (Evidence(quote(1), label=label) for label in labels)
    found = problem(judge(first, second))
    assert found is not None
    assert "have one quote" in found
    assert problem(judge(first, Evidence(quote(2), label=labels[1]))) is None


def test_nodes_without_labels_are_told_by_number() -> None:
    found = problem(judge(Evidence(quote(1)), Evidence(quote(2)), Evidence(quote(1))))
    assert found is not None
    assert found.startswith("node 3 and node 1 have one quote: ")


def test_padding_and_text_make_no_other_quote() -> None:
    for other in (quote(1) + bytes(9), quote(1).hex().encode()):
        assert problem(judge(Evidence(quote(1)), Evidence(other)))


def test_one_gpu_in_two_nodes_though_its_report_is_another() -> None:
    devices = [sim_gpu(ISSUER, H100, "x", nonce=bytes([number]) * 32) for number in (1, 2)]
    found = problem(judge(*(evidence(device.build()) for device in devices)))
    assert found is not None
    assert "have one device: " in found
    assert "report" not in found


A, B, ZERO = b"switch A", b"switch B", bytes(8)


def test_gpus_of_one_board_in_two_nodes() -> None:
    boards = {name: gpu(name, "PPCIE", A) for name in "ab"} | {"c": gpu("c", "PPCIE", B)}
    found = problem(judge(evidence(boards["a"]), evidence(boards["b"])))
    assert found == f"node 2 and node 1 have one device: {A.hex().upper()}"
    assert problem(judge(evidence(boards["a"]), evidence(boards["c"]))) is None
    assert problem(judge(evidence(boards["a"], boards["b"]), evidence(boards["c"]))) is None


def test_a_board_belongs_to_one_machine_only_in_protected_pcie_mode() -> None:
    assert problem(judge(*(evidence(gpu(name, "SPT", A)) for name in "ab"))) is None


def test_a_link_to_nothing_is_no_switch() -> None:
    nodes = [evidence(gpu(name, "PPCIE", own, ZERO)) for name, own in (("a", A), ("b", B))]
    assert problem(judge(*nodes)) is None


def test_what_a_forged_report_says_of_switches_is_not_held_against_others() -> None:
    forged = gpu("b", "PPCIE", A)
    changed = bytearray(forged.report)
    changed[-1] ^= 1
    false = DeviceEvidence(bytes(changed), forged.chain_pem, None, None, source="forged")
    verdicts = judge(evidence(gpu("a", "PPCIE", A)), Evidence(None, gpus=(false,)))
    assert problem(verdicts) is None
    assert verdicts.exit_code == 3


def test_a_long_list_is_counted() -> None:
    found = problem(judge(*(Evidence(quote(1)) for _ in range(20))))
    assert found is not None
    assert found.endswith("; and 11 more")
    assert found.count("have one quote") == 8


def test_gateways_alone_run_nothing() -> None:
    nodes = [Evidence(quote(number), role=NodeRole.GATEWAY) for number in (1, 2)]
    states = {f.code: f.state for f in judge(*nodes).findings}
    assert states == {"SET-WORKLOAD": State.FAIL, "SET-DISTINCT": State.PASS}


def test_no_nodes_are_nothing_to_check() -> None:
    assert judge().exit_code == 10
