"""What `check` takes for evidence: parts of one node, responses with many, and what is neither."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cli_files import Run

import ccverify
from ccverify import NvidiaCollateral
from ccverify.collateral import CollateralFile, serialize_collateral_file
from ccverify.nvidia.revocation import parse_ocsp_response
from ccverify.policy.model import MUST_STATE
from ccverify.sim import SimPlatform
from ccverify.sim.defaults import dstack_events
from ccverify.sim.nvidia import SimNode

NONCE = hashlib.sha256(b"nonce of the relying party").digest()
OTHER_NONCE = hashlib.sha256(b"nonce of somebody else").digest()
ADDRESS = bytes(range(20))
KEY = "end-to-end+key/as=text"
CHUTES_DATA = hashlib.sha256(NONCE.hex().encode() + KEY.encode()).digest()
MISSING = "no such file"


@dataclass
class Machine:
    """A simulated machine on disk: quote, log, devices, collateral and policies."""

    folder: Path
    at: str
    trust: ccverify.TrustStore
    policy: dict[str, Any]
    devices: dict[str, list[dict[str, str]]] = field(default_factory=dict)

    def __getitem__(self, name: str) -> str:
        return str(self.folder / name)

    def options(self, policy: str = "policy.json", nonce: bytes | None = NONCE) -> list[str]:
        asked = ["--nonce", nonce.hex()] if nonce else []
        circumstances = ["--collateral", self["collateral.json"], "--at", self.at]
        return ["--policy", self[policy], *circumstances, *asked]

    def pairs(self, option: str, name: str, count: int) -> list[str]:
        listed = [[option, self[f"{name}-{i}.bin"], self[f"{name}-{i}.pem"]] for i in range(count)]
        return [word for words in listed for word in words]


def _write_devices(machine: Machine, name: str, node: SimNode) -> None:
    built = node.build()
    for kind, devices in (("gpu", built.gpus), ("switch", built.switches)):
        machine.devices[f"{name}-{kind}"] = [device.item() for device in devices]
        text = json.dumps(machine.devices[f"{name}-{kind}"])
        plural = {"gpu": "gpus", "switch": "switches"}[kind]
        (machine.folder / f"{name}-{plural}.json").write_text(text)
        for number, device in enumerate(devices):
            (machine.folder / f"{name}-{kind}-{number}.bin").write_bytes(device.report)
            (machine.folder / f"{name}-{kind}-{number}.pem").write_bytes(device.chain_pem)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    folder = tmp_path_factory.mktemp("evidence")
    platform = SimPlatform()
    case = platform.case(report_data=NONCE.ljust(64, b"\0"), runtime_events=dstack_events())
    evidence = case.build()
    node = SimNode.hopper_ppcie(2, 2, nonce=NONCE)
    built = node.build()
    issuer = node.issuer
    trust = ccverify.TrustStore(
        ccverify.TrustKind.SIMULATED,
        *map(
            ccverify.TrustAnchor.load,
            (evidence.root_der, built.device_root_der, built.rim_root_der),
        ),
    )
    collateral = CollateralFile(
        ccverify.parse_collateral(evidence.collateral.to_json().encode()),
        NvidiaCollateral.of(built.rims, map(parse_ocsp_response, built.ocsp)),
    )
    report = ccverify.parse_quote(evidence.quote_bytes).report

    def ids(kind: str) -> list[str]:
        return [issuer.identifier("pdi", f"node-1/{kind}-{i}", 8).hex() for i in range(2)]

    policy = {
        "schema": "ccverify.policy/v1",
        "tdx": {
            "measurements": {name: [getattr(report, name).hex()] for name in MUST_STATE},
            "platform": {"ppid": [platform.identifier("ppid").hex()]},
        },
        "gpus": {
            "count": 2, "architectures": ["HOPPER"], "modes": ["PPCIE"], "device_ids": ids("gpu"),
        },
        "nvswitches": {"count": 2, "device_ids": ids("nvswitch")},
        "topology": {"kind": "protected-pcie", "gpus": 2, "switches": 2},
    }  # fmt: skip
    made = Machine(folder, f"{evidence.at:%Y-%m-%dT%H:%M:%SZ}", trust, policy)
    _write_devices(made, "own", node)
    _write_devices(made, "late", node.with_nonce(OTHER_NONCE))
    _write_devices(made, "chutes", node.with_nonce(CHUTES_DATA))
    _write_devices(made, "other", SimNode.hopper_ppcie(2, 2, nonce=NONCE, label="node-2"))

    def quote(data: bytes, seed: bytes = b"node-1") -> bytes:
        body = {"mr_owner": hashlib.sha384(seed).digest()}
        built = platform.case(report_data=data, runtime_events=dstack_events(), body=body).build()
        return built.quote_bytes

    signing = ADDRESS.ljust(32, b"\0") + NONCE
    open_to_all = {
        **policy,
        "tdx": {**policy["tdx"], "report_data": "any"},
        "gpus": {**policy["gpus"], "rim": "any", "revocation": "if-given"},
        "topology": "any",
        "binding": {"profiles": ["redpill", "chutes"], "relayable": "accept"},
    }
    del open_to_all["gpus"]["device_ids"]
    del open_to_all["nvswitches"]
    contents: dict[str, bytes] = {
        "quote.bin": evidence.quote_bytes,
        "log.json": evidence.dstack_event_log().encode(),
        "chutes.bin": quote(CHUTES_DATA + bytes(32)),
        "redpill-0.bin": quote(signing),
        "redpill-1.bin": quote(signing, b"node-2"),
        "collateral.json": serialize_collateral_file(collateral),
        "policy.json": json.dumps(policy).encode(),
        "open.json": json.dumps(open_to_all).encode(),
        "empty": b"",
    }
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    return made


@pytest.fixture(autouse=True)
def _simulated(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ccverify.TrustStore, "production", lambda: machine.trust)


def failing(document: dict[str, Any]) -> set[tuple[str, str]]:
    """Code and state of what keeps the verdict from being trusted."""
    return {
        (f["code"], f["state"])
        for f in document["findings"]
        if f["needed"] and f["state"] != "PASS"
    }


def judge(run: Run, *words: str, stdin: bytes | None = None) -> tuple[int, dict[str, Any]]:
    result = run("check", *words, "--format", "json", stdin=stdin)
    assert result.stderr == ""
    document = json.loads(result.stdout)
    assert document["exit_code"] == result.exit_code
    return result.exit_code, document


# --- several files are one node ------------------------------------------------------------------


def test_three_files_in_any_order_are_one_node(machine: Machine, run: Run) -> None:
    files = [machine["quote.bin"], machine["own-gpus.json"], machine["own-switches.json"]]
    seen = []
    for order in (files, files[::-1], [files[1], files[0], files[2]]):
        code, document = judge(run, *order, *machine.options())
        assert (code, failing(document)) == (0, set())
        assert [len(document["claims"][name]) for name in ("gpus", "nvswitches")] == [2, 2]
        seen.append(document["findings"])
    assert seen[0] == seen[1] == seen[2]


def test_devices_as_report_and_chain(machine: Machine, run: Run) -> None:
    gpus = machine.pairs("--gpu", "own-gpu", 2)
    switches = machine.pairs("--nvswitch", "own-switch", 2)
    code, document = judge(run, machine["quote.bin"], *gpus, *switches, *machine.options())
    assert (code, failing(document)) == (0, set())
    listed = [machine[name] for name in ("quote.bin", "own-gpus.json", "own-switches.json")]
    assert document["claims"] == judge(run, *listed, *machine.options())[1]["claims"]
    assert document["inputs"]["gpus"][1]["source"] == machine["own-gpu-1.bin"]


def test_files_and_pairs_mix_and_the_log_joins_them(machine: Machine, run: Run) -> None:
    words = [machine["quote.bin"], machine["own-gpus.json"], "--event-log", machine["log.json"]]
    words += machine.pairs("--nvswitch", "own-switch", 2)
    code, document = judge(run, *words, *machine.options())
    assert (code, failing(document)) == (0, set())
    assert document["claims"]["tdx"]["event_log"]


def test_devices_alone_need_no_file(machine: Machine, run: Run) -> None:
    words = machine.pairs("--gpu", "own-gpu", 2) + machine.pairs("--nvswitch", "own-switch", 2)
    code, document = judge(run, *words, *machine.options())
    assert (code, failing(document)) == (4, {("NODE-CLASSES", "FAIL")})


@pytest.mark.parametrize(
    ("parts", "code"),
    [(("quote.bin", "own-gpus.json"), 3), (("own-gpus.json", "own-switches.json"), 4)],
)
def test_a_part_left_out_is_missed(
    machine: Machine, run: Run, parts: tuple[str, ...], code: int
) -> None:
    found, document = judge(run, *(machine[part] for part in parts), *machine.options())
    assert found == code
    assert ("NODE-CLASSES", "FAIL") in failing(document)


def test_chain_and_report_in_the_wrong_order(machine: Machine, run: Run) -> None:
    swapped = ["--gpu", machine["own-gpu-0.pem"], machine["own-gpu-0.bin"]]
    code, document = judge(run, machine["quote.bin"], *swapped, *machine.options())
    assert code == 2
    assert ("GPU-REPORT-FORMAT", "FAIL") in failing(document)


def test_the_chain_of_another_gpu(machine: Machine, run: Run) -> None:
    mixed = ["--gpu", machine["own-gpu-0.bin"], machine["own-gpu-1.pem"]]
    code, document = judge(run, machine["quote.bin"], *mixed, *machine.options())
    assert code == 3
    assert ("GPU-REPORT-SIGNATURE", "FAIL") in failing(document)


def test_a_device_of_another_node_among_the_pairs(machine: Machine, run: Run) -> None:
    words = [machine["quote.bin"], *machine.pairs("--gpu", "own-gpu", 1)]
    words += machine.pairs("--gpu", "other-gpu", 1)
    words += machine.pairs("--nvswitch", "own-switch", 2)
    code, document = judge(run, *words, *machine.options())
    assert code == 3
    assert {("TOPOLOGY-GPU-LIST", "FAIL"), ("GPU-DEVICE-LIST", "FAIL")} <= failing(document)


# --- standard input ------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["quote", "response", "report"])
def test_any_one_part_may_be_standard_input(machine: Machine, run: Run, place: str) -> None:
    quote, gpus, switches = (
        machine[name] for name in ("quote.bin", "own-gpus.json", "own-switches.json")
    )
    words = {
        "quote": ["-", gpus, switches],
        "response": [quote, "-", switches],
        "report": [quote, switches, "--gpu", "-", machine["own-gpu-0.pem"],
                   "--gpu", machine["own-gpu-1.bin"], machine["own-gpu-1.pem"]],
    }[place]  # fmt: skip
    name = {"quote": quote, "response": gpus, "report": machine["own-gpu-0.bin"]}[place]
    stdin = Path(name).read_bytes()
    code, document = judge(run, *words, *machine.options(), stdin=stdin)
    assert (code, failing(document)) == (0, set())


@pytest.mark.parametrize(
    "words",
    [["-", "-"], ["-", "--gpu", "-", "x"], ["-", "--event-log", "-"], ["-", "--instances", "-"]],
)
def test_standard_input_is_one_part_only(machine: Machine, run: Run, words: list[str]) -> None:
    result = run("check", *words, *machine.options(), stdin=b"x")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "standard input can be read only once" in result.stderr


# --- files that are not parts of one node --------------------------------------------------------

NOT_ONE_NODE = {
    "two quotes": (["quote.bin", "quote.bin"], [], "more than one quote"),
    "a log and another": (["dstack.json"], ["--event-log", "log.json"], "more than one event log"),
    "a response with many nodes": (["many.json", "own-gpus.json"], [], "several nodes"),
    "a log for many nodes": (["many.json"], ["--event-log", "log.json"], "several nodes"),
    "two services": (["redpill.json", "dstack.json"], [], "more than one"),
    "two nonces": (["own-gpus.json", "late-switches.json"], [], "more than one nonce"),
}


@pytest.mark.parametrize("case", NOT_ONE_NODE.values(), ids=NOT_ONE_NODE.keys())
def test_not_parts_of_one_node(
    machine: Machine, run: Run, tmp_path: Path, case: tuple[list[str], list[str], str]
) -> None:
    files, options, message = case
    log = Path(machine["log.json"]).read_text()
    quote = Path(machine["quote.bin"]).read_bytes().hex()
    (machine.folder / "dstack.json").write_text(json.dumps({"quote": quote, "event_log": log}))
    (machine.folder / "many.json").write_text(json.dumps(redpill_set(machine)))
    (machine.folder / "redpill.json").write_text(json.dumps(redpill_node(machine, 0)))
    named = [machine[name] for name in files]
    more = [word if word.startswith("-") else machine[word] for word in options]
    result = run("check", *named, *more, *machine.options())
    assert (result.exit_code, result.stdout) == (1, "")
    assert message in result.stderr


def test_files_that_cannot_be_read(machine: Machine, run: Run) -> None:
    quote = machine["quote.bin"]
    for words, code, message in (
        ([machine[MISSING]], 1, "the evidence file does not exist"),
        ([quote, "--gpu", machine[MISSING], quote], 1, "the device report file does not exist"),
        ([quote, "--gpu", quote, machine["empty"]], 2, "certificate chain is empty"),
        ([quote, "--gpu", machine["empty"], quote], 2, "device report is empty"),
        ([quote, "--instances", machine["empty"]], 2, "list of instances is empty"),
        ([str(machine.folder)], 1, "is a directory"),
        (["--event-log", machine["log.json"]], 1, "no evidence was given"),
    ):
        result = run("check", *words, *machine.options())
        assert (result.exit_code, result.stdout) == (code, ""), words
        assert message in result.stderr


def test_an_empty_file_is_nothing_to_check(machine: Machine, run: Run) -> None:
    assert run("check", machine["empty"], *machine.options()).exit_code == 10


# --- the text of a response ----------------------------------------------------------------------


def redpill_node(machine: Machine, number: int, devices: str = "") -> dict[str, Any]:
    quote = Path(machine[f"redpill-{number}.bin"]).read_bytes()
    items = machine.devices[f"{devices or ('own', 'other')[number]}-gpu"]
    return {
        "signing_address": ADDRESS.hex(),
        "signing_algo": "ecdsa",
        "request_nonce": NONCE.hex(),
        "intel_quote": quote.hex(),
        "nvidia_payload": json.dumps({"nonce": NONCE.hex(), "evidence_list": items}),
    }


def redpill_set(machine: Machine) -> dict[str, Any]:
    nodes = [redpill_node(machine, number) for number in range(2)]
    return {**nodes[0], "all_attestations": nodes}


WRITTEN = {
    "as it came": lambda text: text,
    "with a byte order mark": lambda text: b"\xef\xbb\xbf" + text,
    "with space before it": lambda text: b" \r\n" * 40 + text + b"\n",
}


@pytest.mark.parametrize("written", WRITTEN.values(), ids=WRITTEN.keys())
def test_a_response_survives_its_way_into_a_file(
    machine: Machine, run: Run, written: Callable[[bytes], bytes]
) -> None:
    text = written(json.dumps(redpill_set(machine)).encode())
    code, document = judge(run, "-", *machine.options("open.json"), stdin=text)
    assert (code, document["verdict"]) == (0, "trusted")
    assert [failing(node) for node in document["nodes"]] == [set(), set()]


BROKEN = {
    "cut": (lambda text: text[: len(text) // 2], "is not valid JSON"),
    "two of them": (lambda text: text * 2, "has text after its JSON value"),
    "two lines": (lambda text: text + b"\n" + text, "has text after its JSON value"),
    "UTF-16": (lambda text: text.decode().encode("utf-16"), "is not UTF-8"),
    "in a list": (lambda text: b"[" + text + b"]", "of no known format"),
    "too large": (lambda text: text + b" " * 2**23, "is too large"),
    "deep": (lambda text: b"[" * 2**20, "nested too deeply"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN.values(), ids=BROKEN.keys())
def test_a_response_that_is_none(
    machine: Machine, run: Run, case: tuple[Callable[[bytes], bytes], str]
) -> None:
    change, message = case
    text = change(json.dumps(redpill_set(machine)).encode())
    result = run("check", "-", *machine.options("open.json"), stdin=text)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr
    assert "standard input" in result.stderr


# --- many nodes ----------------------------------------------------------------------------------


def chutes_set(machine: Machine, labels: list[str]) -> dict[str, Any]:
    quote = base64.b64encode(Path(machine["chutes.bin"]).read_bytes()).decode()
    items = machine.devices["chutes-gpu"]
    one = {"quote": quote, "gpu_evidence": items}
    return {"evidence": [{**one, "instance_id": label} for label in labels]}


def test_a_gpu_moved_to_another_node_is_found_by_the_switches_it_names(
    machine: Machine, run: Run
) -> None:
    """Nonce and address are the same for both nodes, and no switch sends evidence."""
    document = redpill_set(machine)
    own, other = (machine.devices[f"{name}-gpu"] for name in ("own", "other"))
    for node, items in zip(
        document["all_attestations"], ([own[0], other[1]], [other[0], own[1]]), strict=True
    ):
        node["nvidia_payload"] = json.dumps({"nonce": NONCE.hex(), "evidence_list": items})
    document |= document["all_attestations"][0]
    text = json.dumps(document).encode()
    code, verdict = judge(run, "-", *machine.options("open.json"), stdin=text)
    assert (code, failing(verdict)) == (3, {("SET-DISTINCT", "FAIL")})
    assert "have one device" in verdict["findings"][-1]["found"]


def test_one_machine_under_many_names(machine: Machine, run: Run) -> None:
    text = json.dumps(chutes_set(machine, [f"i{number}" for number in range(256)])).encode()
    code, verdict = judge(run, "-", *machine.options("open.json"), stdin=text)
    assert (code, failing(verdict)) == (3, {("SET-DISTINCT", "FAIL")})
    found = verdict["findings"][-1]["found"]
    assert "i1 and i0 have one quote" in found
    assert re.search(r"; and \d+ more$", found)
    assert len(found) < 1000


def test_too_many_nodes(machine: Machine, run: Run) -> None:
    document = chutes_set(machine, [f"i{number}" for number in range(257)])
    for node in document["evidence"]:
        node["gpu_evidence"] = node["gpu_evidence"][:1]
    result = run("check", "-", *machine.options("open.json"), stdin=json.dumps(document).encode())
    assert (result.exit_code, result.stdout) == (2, "")
    assert "a list of 1 to 256" in result.stderr


def test_labels_never_steer_the_terminal(machine: Machine, run: Run) -> None:
    labels = ["\x1b[32mtrusted\x1b[0m\x07", "two\nlines\u202e", "\u2028\x9b2J"]
    text = json.dumps(chutes_set(machine, labels)).encode()
    for more in ([], ["-v"]):
        result = run("check", "-", *machine.options("open.json"), *more, stdin=text)
        assert result.exit_code == 3
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u202e]", result.stdout)
    _, document = judge(run, "-", *machine.options("open.json"), stdin=text)
    assert [node["node"] for node in document["nodes"]] == labels


# --- keys of instances, and the channel ----------------------------------------------------------


def instances(machine: Machine, keys: dict[str, str]) -> list[str]:
    listed = [{"instance_id": label, "e2e_pubkey": key} for label, key in keys.items()]
    (machine.folder / "instances.json").write_text(json.dumps({"instances": listed}))
    return ["--instances", machine["instances.json"]]


@pytest.mark.parametrize(
    ("keys", "code", "against"),
    [
        ({"one": KEY}, 0, set()),
        ({"one": KEY, "elsewhere": KEY}, 0, set()),
        ({"one": KEY + "x"}, 3, {("TDX-REPORT-DATA", "FAIL"), ("GPU-NONCE", "FAIL")}),
    ],
)
def test_the_key_of_an_instance(
    machine: Machine, run: Run, keys: dict[str, str], code: int, against: set[tuple[str, str]]
) -> None:
    text = json.dumps(chutes_set(machine, ["one"])).encode()
    words = ["-", *instances(machine, keys), *machine.options("open.json")]
    found, document = judge(run, *words, stdin=text)
    assert (found, failing(document)) == (code, against)


def test_an_instance_without_a_key_is_not_checked(machine: Machine, run: Run) -> None:
    text = json.dumps(chutes_set(machine, ["one"])).encode()
    code, document = judge(run, "-", *machine.options("open.json"), stdin=text)
    assert (code, failing(document)) == (6, {("GPU-NONCE", "NOT_CHECKED")})


def test_a_list_of_instances_that_is_of_something_else(machine: Machine, run: Run) -> None:
    for text, keys, message in (
        (chutes_set(machine, ["one"]), {"two": KEY}, "is not of this response"),
        (redpill_node(machine, 0), {"one": KEY}, "is not of this response"),
    ):
        words = ["-", *instances(machine, keys), *machine.options("open.json")]
        result = run("check", *words, stdin=json.dumps(text).encode())
        assert (result.exit_code, result.stdout) == (1, "")
        assert message in result.stderr
    result = run(
        "check", machine["chutes.bin"], "--instances", machine["own-gpus.json"],
        *machine.options("open.json"),
    )  # fmt: skip
    assert result.exit_code == 2
    assert "own-gpus.json" in result.stderr


@pytest.mark.parametrize(
    ("stated", "code"),
    [
        (f"e2e_public_key={KEY}", 0),
        (f"e2e_public_key={KEY}x", 3),
        ("tls_fingerprint=" + "00" * 32, 3),
    ],
)
def test_the_channel_must_be_the_bound_one(
    machine: Machine, run: Run, stated: str, code: int
) -> None:
    text = json.dumps(chutes_set(machine, ["one"])).encode()
    words = ["-", *instances(machine, {"one": KEY}), "--channel", stated]
    found, document = judge(run, *words, *machine.options("open.json"), stdin=text)
    assert (found, failing(document)) == (code, {("BIND-CHANNEL", "FAIL")} if code else set())


def test_a_channel_in_upper_case_is_the_same(machine: Machine, run: Run) -> None:
    text = json.dumps(redpill_node(machine, 0)).encode()
    for address, code in ((ADDRESS.hex().upper(), 0), (bytes(20).hex(), 3)):
        words = ["-", "--channel", f"signing_address={address}", *machine.options("open.json")]
        assert judge(run, *words, stdin=text)[0] == code


@pytest.mark.parametrize(
    "stated",
    [["tls_fingerprint"], ["tls_fingerprint="], ["=00"], ["nobody=00"],
     ["signing_address=00", "signing_address=11"]],
)  # fmt: skip
def test_a_channel_that_says_nothing(machine: Machine, run: Run, stated: list[str]) -> None:
    words = [word for each in stated for word in ("--channel", each)]
    text = json.dumps(redpill_node(machine, 0)).encode()
    result = run("check", "-", *words, *machine.options("open.json"), stdin=text)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "channel" in result.stderr or "no binding names this" in result.stderr
