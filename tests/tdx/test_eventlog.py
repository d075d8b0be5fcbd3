"""Replay against real quotes, identity claims, appraisal and attacks on it."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from eventlog_builders import (
    BOOT,
    boot_events,
    ccel_logs,
    dstack,
    event2,
    firmware,
    quote_rtmrs,
    runtime,
    runtime_v2,
    sha384,
    spec_id,
)
from hypothesis import given
from hypothesis import strategies as st

from ccverify.errors import EvidenceError
from ccverify.findings import Assurance, Finding, State
from ccverify.tdx import eventlog
from ccverify.tdx.eventlog import (
    EventLog,
    appraise_event_log,
    identity_claims,
    parse_event_log,
    replay,
)

CODES = [f"TDX-EVENTLOG-RTMR{i}" for i in range(4)]
CODES += ["TDX-EVENTLOG-DIGESTS", "TDX-EVENTLOG-IDENTITY"]
ZERO = bytes(48)


def appraise(
    entries: Sequence[dict[str, Any]] | EventLog,
    rtmrs: Sequence[bytes] | None = None,
    rtmr3: str = "log",
) -> dict[str, Finding]:
    """Appraise a log, by default against a quote that its replay explains."""
    log = entries if isinstance(entries, EventLog) else parse_event_log(dstack(entries))
    findings = appraise_event_log(log, replay(log) if rtmrs is None else rtmrs, rtmr3=rtmr3)
    assert [finding.code for finding in findings] == CODES
    return {finding.code.removeprefix("TDX-EVENTLOG-"): finding for finding in findings}


def states(findings: dict[str, Finding]) -> dict[str, str]:
    return {name: finding.state.value for name, finding in findings.items()}


def genuine_rtmrs(entries: Sequence[dict[str, Any]] | None = None) -> tuple[bytes, ...]:
    """The registers of a guest to which exactly these events happened."""
    registers = [ZERO] * 4
    for entry in boot_events() if entries is None else entries:
        digest = bytes.fromhex(entry["digest"])
        registers[entry["imr"]] = sha384(registers[entry["imr"]] + digest)
    return tuple(registers)


# Real pairs ---------------------------------------------------------------------------------

# Log, quote, registers that match, how RTMR3 is treated.
PAIRS = [
    ("eventlogs/gcp_cos113_ccel_data.bin", "quotes/gcp_00806f_v4_cos113.bin", "0123", "zero"),
    ("eventlogs/goeventlog_cos113.bin", "quotes/gcp_00806f_v4_cos113.bin", "0123", "log"),
    (
        "eventlogs/goeventlog_cos113_dupe_separator_unpadded.bin",
        "quotes/gcp_00806f_v4_cos113.bin",
        "23",
        "log",
    ),
    ("eventlogs/lunal_ccel_live2.bin", "quotes/lunal_b0c06f_v4_live.bin", "012", "opaque"),
    ("eventlogs/lunal_ccel_live.bin", "quotes/lunal_b0c06f_v4_live.bin", "01", "opaque"),
    ("eventlogs/ccapi_ccel_data.bin", "quotes/ccapi_10806f_v4.bin", "01", "opaque"),
    # RTMR2 is zero on both sides: that TD measured nothing into it.
    ("eventlogs/dstack_ccel.bin", "quotes/phala_b0c06f_v4_tappd.bin", "02", "log"),
    ("dstack/quote-report.json", "dstack/quote-report.json", "0123", "log"),
    ("dstack/tdx-lite-getquote.json", "dstack/tdx-lite-getquote.json", "0123", "log"),
    ("dstack/near_tcb_info.json", "quotes/captured/near_quote.bin", "0123", "log"),
    # Logs of other guests explain nothing.
    ("dstack/near_tcb_info.json", "dstack/quote-report.json", "", "log"),
    ("dstack/quote-report.json", "dstack/tdx-lite-getquote.json", "", "log"),
]


def load_quote(path: Path) -> bytes:
    data = path.read_bytes()
    return bytes.fromhex(json.loads(data)["quote"]) if path.suffix == ".json" else data


@pytest.mark.parametrize(("log_name", "quote_name", "matching", "rtmr3"), PAIRS)
def test_real_pair(
    vectors: Path, log_name: str, quote_name: str, matching: str, rtmr3: str
) -> None:
    log = parse_event_log((vectors / "tdx" / log_name).read_bytes())
    rtmrs = quote_rtmrs(load_quote(vectors / "tdx" / quote_name))
    findings = appraise(log, rtmrs, rtmr3)
    for register in range(3 if rtmr3 == "opaque" else 4):
        finding = findings[f"RTMR{register}"]
        assert finding.state is (State.PASS if str(register) in matching else State.FAIL)
        assert finding.assurance is (
            Assurance.HARDWARE if finding.state is State.PASS else Assurance.NONE
        )
        assert rtmrs[register].hex() in f"{finding.expected} {finding.found}"
    dstack_log = log.kind == "dstack"
    assert findings["DIGESTS"].state is (State.PASS if dstack_log else State.NOT_APPLICABLE)
    wanted = State.NOT_APPLICABLE
    if dstack_log:
        wanted = State.PASS if "3" in matching else State.FAIL
    assert findings["IDENTITY"].state is wanted
    if rtmr3 == "opaque":
        assert findings["RTMR3"].state is State.NOT_CHECKED
        assert findings["RTMR3"].assurance is Assurance.NONE


def test_mrtd_events_are_read_but_never_replayed(vectors: Path) -> None:
    path = vectors / "tdx/eventlogs/trustee_CCEL_data_grub_gke"
    log = parse_event_log(path.read_bytes())
    rest = EventLog("ccel", tuple(e for e in log.events if e.register is not None))
    assert len(log.events) - len(rest.events) == 2
    assert replay(log) == replay(rest)
    assert replay(log)[3] == ZERO
    assert ZERO not in replay(log)[:3]


def captured_pairs(value: Any) -> Iterator[tuple[bytes, bytes]]:
    """Every (log, quote) that stands in one object of a recorded API answer."""
    if isinstance(value, list):
        for each in value:
            yield from captured_pairs(each)
    elif isinstance(value, dict):
        quote = value.get("intel_quote", value.get("quote"))
        if "event_log" in value and isinstance(quote, str):
            yield json.dumps({"event_log": value["event_log"]}).encode(), bytes.fromhex(quote)
        for each in value.values():
            yield from captured_pairs(each)


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("nanogpt_20260325/glm-4.7_attestation.json", 4),
        ("neardirect_20260610/0001_qwen35-122b.completions.near.ai_v1_attestation_report.body", 3),
    ],
)
def test_captured_pair(vectors: Path, name: str, number: int) -> None:
    capture = json.loads((vectors / "tdx/captures" / name).read_bytes())
    pairs = list(captured_pairs(capture))
    assert len(pairs) == number
    for text, quote in pairs:
        findings = appraise(parse_event_log(text), quote_rtmrs(quote))
        assert set(states(findings).values()) == {"PASS"}
        claims = identity_claims(parse_event_log(text))
        assert {"app_id", "compose_hash", "os_image_hash", "mr_kms"} <= set(claims.values)


@pytest.mark.parametrize("name", [pair[0] for pair in PAIRS])
def test_format_is_detected(vectors: Path, name: str) -> None:
    data = (vectors / "tdx" / name).read_bytes()
    assert parse_event_log(data).kind == ("dstack" if name.endswith("json") else "ccel")
    assert parse_event_log(data) == parse_event_log(b" \n" + data if b"{" in data[:1] else data)


def test_real_identity(vectors: Path) -> None:
    data = (vectors / "tdx/dstack/near_tcb_info.json").read_bytes()
    claims = identity_claims(parse_event_log(data))
    info = json.loads(data)
    assert claims.problems == ()
    assert claims.values["compose_hash"] == info["compose_hash"]
    assert claims.values["app_id"] == info["compose_hash"][:40]
    assert claims.values["instance_id"] == ""
    assert claims.values["storage_fs"] == "zfs"
    provider = claims.values["key_provider"]
    assert isinstance(provider, Mapping)
    assert provider["name"] == "local-sgx"
    assert claims.app_id_from_compose is True
    assert claims.unrecognised == ()
    assert [event.name for event in claims.application_events] == ["mpc-image-digest"]
    assert "mpc_image_digest" not in claims.values


# Replay -------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 3), st.binary(max_size=9)), max_size=20))
def test_replay_is_the_chain(measured: list[tuple[int, bytes]]) -> None:
    entries = [firmware(imr, payload) for imr, payload in measured]
    expected = genuine_rtmrs(entries)
    assert replay(parse_event_log(dstack(entries))) == expected
    binary = spec_id() + b"".join(event2(imr + 1, 4, payload) for imr, payload in measured)
    assert replay(parse_event_log(binary)) == expected


def test_no_action_is_not_extended() -> None:
    with_action = spec_id() + event2(1, 3, b"StartupLocality") + event2(1, 4, b"\0\0\0\0")
    without = spec_id() + event2(1, 4, b"\0\0\0\0")
    assert replay(parse_event_log(with_action)) == replay(parse_event_log(without))
    assert replay(parse_event_log(spec_id() + event2(1, 3, b""))) == (ZERO,) * 4


def test_no_action_hides_nothing_from_the_claims() -> None:
    entries = boot_events()
    informative = firmware(3, b"", event_type=3, event="system-ready")
    findings = appraise([informative, *entries, informative], genuine_rtmrs())
    assert set(states(findings).values()) == {"PASS"}
    hidden = at("system-ready", event_type=3)
    assert states(appraise(hidden, genuine_rtmrs()))["RTMR3"] == "FAIL"
    assert states(appraise(hidden))["IDENTITY"] == "FAIL"


def test_replay_hashes_once_for_each_event(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = Counter[str]()
    digest_of = hashlib.sha384

    def counting(data: bytes) -> object:
        calls["sha384"] += 1
        calls["bytes"] += len(data)
        return digest_of(data)

    monkeypatch.setattr(eventlog, "sha384", counting)
    for number in (100, 1000):
        entries = [runtime(f"e{i}", b"x" * 50) for i in range(number)]
        log = parse_event_log(dstack(entries))
        calls.clear()
        replay(log)
        assert calls == {"sha384": number, "bytes": 96 * number}
        calls.clear()
        appraise_event_log(log, [ZERO] * 4, rtmr3="log")
        assert calls["sha384"] == number


# Appraisal: a genuine guest, and what can be wrong with its log -----------------------------


def test_genuine_guest() -> None:
    entries = [*boot_events(), runtime("my-event", b"\1")]
    findings = appraise(entries, genuine_rtmrs(entries))
    assert set(states(findings).values()) == {"PASS"}
    assert {finding.assurance for finding in findings.values()} == {Assurance.HARDWARE}
    assert "9 events" in (findings["RTMR3"].found or "")
    assert "1 application events" in (findings["IDENTITY"].found or "")


def test_genuine_guest_with_version_2_events() -> None:
    entries = [runtime_v2(*event) for event in BOOT]
    assert states(appraise(entries, genuine_rtmrs(entries)))["IDENTITY"] == "PASS"
    lite = [entry | {"digest": ""} for entry in entries]
    assert set(states(appraise(lite, genuine_rtmrs(entries))).values()) == {"PASS"}


def at(name: str, **members: Any) -> list[dict[str, Any]]:
    """The genuine log with one event's members changed, its digest left as it was."""
    return [e | members if e["event"] == name else e for e in boot_events()]


COMPOSE = at("compose-hash", event_payload="ff" * 32)


@pytest.mark.parametrize(
    "entries",
    [
        COMPOSE,
        at("compose-hash", event="compose-hasx"),
        at("compose-hash", event="app-id"),
        at("key-provider", event_payload=b'{"name":"none","id":""}'.hex()),
    ],
)
def test_payload_mutated_under_a_genuine_digest(entries: list[dict[str, Any]]) -> None:
    findings = appraise(entries, genuine_rtmrs())
    assert states(findings)["DIGESTS"] == "FAIL"
    assert states(findings)["RTMR3"] == "FAIL"
    assert states(findings)["IDENTITY"] == "FAIL"
    assert identity_claims(parse_event_log(dstack(entries))).values == {}
    wrong = next(i for i, e in enumerate(entries) if e not in boot_events())
    assert f"event {wrong} ({entries[wrong]['event']!r})" in (findings["DIGESTS"].found or "")


def test_digest_mutated_over_a_genuine_payload() -> None:
    findings = appraise(at("compose-hash", digest="00" * 48), genuine_rtmrs())
    assert states(findings) == {
        "RTMR0": "PASS",
        "RTMR1": "PASS",
        "RTMR2": "PASS",
        "RTMR3": "PASS",
        "DIGESTS": "FAIL",
        "IDENTITY": "FAIL",
    }


def test_wrong_preimage() -> None:
    entries = [runtime_v2(*event) for event in BOOT]
    entries[2] = entries[2] | {"preimage": entries[1]["preimage"]}
    assert states(appraise(entries))["DIGESTS"] == "FAIL"
    assert states(appraise(entries))["IDENTITY"] == "FAIL"


@pytest.mark.parametrize("imr", range(4))
def test_event_left_out_or_reordered(imr: int) -> None:
    entries = [*boot_events(), *(firmware(i, b"\1") for i in range(3))]
    rtmrs = genuine_rtmrs(entries)
    assert set(states(appraise(entries, rtmrs)).values()) == {"PASS"}
    mine = [i for i, entry in enumerate(entries) if entry["imr"] == imr]
    swapped = list(entries)
    swapped[mine[0]], swapped[mine[1]] = entries[mine[1]], entries[mine[0]]
    for changed in ([e for i, e in enumerate(entries) if i != mine[0]], swapped):
        got = {n: state for n, state in states(appraise(changed, rtmrs)).items() if n[0] == "R"}
        assert got == {f"RTMR{i}": "FAIL" if i == imr else "PASS" for i in range(4)}


def test_order_across_registers_does_not_matter() -> None:
    entries = boot_events()
    assert replay(parse_event_log(dstack(entries[3:] + entries[:3]))) == genuine_rtmrs()


Entries = list[dict[str, Any]]
BAD_IDENTITY: dict[str, tuple[Callable[[Entries], Entries], str]] = {
    "compose-hash twice": (lambda e: [*e[:5], e[5], *e[5:]], "2 times"),
    "marker twice": (lambda e: [e[0], e[3], *e[1:]], "2 times"),
    "unknown event twice": (lambda e: [runtime("x", b""), runtime("x", b"\1"), *e], "2 times"),
    "no system-ready": (lambda e: e[:-1], "no system-ready"),
    "no runtime event": (lambda e: e[:3], "no system-ready"),
    "two system-ready": (lambda e: [*e, runtime("app", b""), e[-1]], "second system-ready"),
    "name with a colon": (lambda e: [runtime("a:b", b""), *e], "ambiguous"),
    "bad key-provider": (lambda e: [*e[:-1], runtime("gpu-attestation", b"[]"), e[-1]], "payload"),
    "cut JSON": (lambda e: [*e[:-1], runtime("gpu-attestation", b'{"a"'), e[-1]], "bad payload"),
    "text not UTF-8": (lambda e: [e[-2] | runtime("storage-fs", b"\xff"), e[-1]], "bad payload"),
    "unprintable text": (lambda e: [runtime("storage-fs", b"a\x1b[2J"), e[-1]], "bad payload"),
    "firmware event of RTMR3": (lambda e: [firmware(3), *e], "does not prove"),
}


@pytest.mark.parametrize("case", BAD_IDENTITY)
def test_identity_that_proves_nothing(case: str) -> None:
    change, message = BAD_IDENTITY[case]
    entries = change(boot_events())
    findings = appraise(entries, genuine_rtmrs(entries))
    assert states(findings)["RTMR3"] == "PASS"
    assert states(findings)["IDENTITY"] == "FAIL"
    assert message in (findings["IDENTITY"].found or "")
    claims = identity_claims(parse_event_log(dstack(entries)))
    assert claims.values == {}
    assert claims.problems


def test_compose_hash_after_system_ready_is_an_application_event() -> None:
    boot = boot_events()
    entries = [*boot, runtime("compose-hash", b"\xff" * 32)]
    claims = identity_claims(parse_event_log(dstack(entries)))
    assert claims.values["compose_hash"] == bytes(range(32)).hex()
    assert [event.name for event in claims.application_events] == ["compose-hash"]
    without = [entry for entry in entries[:-1] if entry["event"] != "compose-hash"]
    late = identity_claims(parse_event_log(dstack([*without, entries[-1]])))
    assert late.problems == ()
    assert "compose_hash" not in late.values


def test_hidden_system_ready() -> None:
    """An application extends a second boot; the log's author hides the genuine one.

    The genuine events are shown under another type with nothing but their digests, which
    replay as they should.
    """
    genuine = [
        *boot_events(),
        runtime("compose-hash", b"\xff" * 32),
        runtime("system-ready", b""),
    ]
    forged = [
        entry | {"event_type": 6, "event_payload": "", "event": ""}
        if entry["imr"] == 3 and index < len(boot_events())
        else entry
        for index, entry in enumerate(genuine)
    ]
    findings = appraise(forged, genuine_rtmrs(genuine))
    assert states(findings)["RTMR3"] == "PASS"
    assert states(findings)["IDENTITY"] == "FAIL"
    assert identity_claims(parse_event_log(dstack(forged))).values == {}


def test_name_cut_at_another_colon() -> None:
    """``key-provider`` with a JSON payload has the version 1 digest of another name too."""
    payload = b'{"name":"kms","id":"00"}'
    head, tail = payload.split(b":", 1)
    other = at("key-provider", event="key-provider:" + head.decode(), event_payload=tail.hex())
    findings = appraise(other, genuine_rtmrs())
    assert states(findings)["RTMR3"] == states(findings)["DIGESTS"] == "PASS"
    assert states(findings)["IDENTITY"] == "FAIL"


def test_every_identity_event() -> None:
    text = {"gpu-attestation": b'{"evidence_sha256":"00"}', "key-provider": b'{"name":"kms"}'}
    names = [name for name in eventlog.IDENTITY_EVENTS if name != "init-script-hash"]
    events = [runtime(name, text.get(name, b"zfs")) for name in names]
    scripts = [runtime("init-script-hash", bytes([i]) * 32) for i in (2, 1)]
    new = runtime("future-hash", b"\1")
    claims = identity_claims(
        parse_event_log(dstack([*events, *scripts, new, runtime("system-ready", b"")]))
    )
    assert claims.problems == ()
    assert set(claims.values) == {each.claim for each in eventlog.IDENTITY_EVENTS.values()}
    assert claims.values["init_script_hash"] == ("02" * 32, "01" * 32)
    assert claims.values["app_id"] == b"zfs".hex()
    assert claims.values["storage_fs"] == "zfs"
    assert claims.values["gpu_attestation"] == {"evidence_sha256": "00"}
    assert claims.unrecognised == ("future-hash",)
    findings = appraise([new, runtime("system-ready", b"")])
    assert "unrecognised: 'future-hash'" in (findings["IDENTITY"].found or "")
    assert claims.app_id_from_compose is True


def test_app_id_of_its_own_is_information() -> None:
    entries = [
        runtime("app-id", b"\1" * 20),
        runtime("compose-hash", b"\2" * 32),
        runtime("system-ready", b""),
    ]
    findings = appraise(entries)
    assert findings["IDENTITY"].state is State.PASS
    assert "app_id is not derived" in (findings["IDENTITY"].found or "")
    alone = identity_claims(parse_event_log(dstack([entries[0], entries[2]])))
    assert alone.app_id_from_compose is None


# RTMR3 treatments ---------------------------------------------------------------------------


def test_rtmr3_zero() -> None:
    log = parse_event_log(spec_id() + event2(1, 4, b"\0\0\0\0"))
    rtmrs = replay(log)
    assert appraise(log, rtmrs, "zero")["RTMR3"].state is State.PASS
    assert appraise(log, (*rtmrs[:3], b"\1" * 48), "zero")["RTMR3"].state is State.FAIL
    both = parse_event_log(spec_id() + event2(4, 4, b"\0\0\0\0"))
    assert appraise(both, (ZERO,) * 4, "zero")["RTMR3"].state is State.FAIL


def test_rtmr3_opaque_proves_no_claim() -> None:
    for treatment, register3 in (("opaque", "NOT_CHECKED"), ("zero", "FAIL")):
        findings = appraise(boot_events(), rtmr3=treatment)
        assert states(findings)["RTMR3"] == register3
        assert states(findings)["IDENTITY"] == "NOT_CHECKED"
        assert findings["DIGESTS"].assurance is Assurance.NONE
        assert findings["IDENTITY"].assurance is Assurance.NONE


def test_identity_needs_the_quote() -> None:
    findings = appraise(boot_events(), (*genuine_rtmrs()[:3], b"\1" * 48))
    assert states(findings)["RTMR3"] == "FAIL"
    assert states(findings)["DIGESTS"] == "PASS"
    assert findings["DIGESTS"].assurance is Assurance.NONE
    assert states(findings)["IDENTITY"] == "FAIL"


@pytest.mark.parametrize("rtmrs", [(), (ZERO,) * 3, (b"",) * 4, (b"\0",) * 4])
def test_missing_registers_fail(rtmrs: tuple[bytes, ...]) -> None:
    findings = appraise(boot_events(), rtmrs)
    assert {states(findings)[f"RTMR{i}"] for i in range(4)} == {"FAIL"}
    empty = appraise([], rtmrs[:0])
    assert {states(empty)[f"RTMR{i}"] for i in range(4)} == {"FAIL"}


@pytest.mark.parametrize("register", range(4))
@pytest.mark.parametrize("offset", [0, 23, 47])
def test_every_byte_of_a_register_counts(register: int, offset: int) -> None:
    rtmrs = [bytearray(each) for each in genuine_rtmrs()]
    rtmrs[register][offset] ^= 1
    findings = appraise(boot_events(), [bytes(each) for each in rtmrs])
    failed = {n for n, state in states(findings).items() if n[0] == "R" and state != "PASS"}
    assert failed == {f"RTMR{register}"}


def test_unknown_treatment_fails() -> None:
    findings = appraise(boot_events(), rtmr3="ignore")
    assert states(findings)["RTMR3"] == states(findings)["IDENTITY"] == "FAIL"


# Arbitrary input ----------------------------------------------------------------------------


def check_total(data: bytes) -> None:
    try:
        log = parse_event_log(data)
    except EvidenceError:
        return
    for treatment in (*eventlog.RTMR3_TREATMENTS, ""):
        findings = appraise(log, rtmr3=treatment)
        claims = identity_claims(log)
        assert not (claims.values and claims.problems)
        assert all(len(finding.found or "") < 3000 for finding in findings.values())


@given(st.binary(max_size=200))
def test_arbitrary_bytes(data: bytes) -> None:
    check_total(data)
    check_total(spec_id() + data)
    check_total(b"[" + data)


NAMES = st.sampled_from([*eventlog.IDENTITY_EVENTS, "system-ready", "boot-mr-done", "x", "a:b"])
RUNTIME_EVENTS = st.builds(
    runtime, NAMES, st.sampled_from([b"", b"zfs", b"{}", b"\xff", b'{"name":"kms"}'])
)
FIRMWARE_EVENTS = st.builds(firmware, st.integers(0, 3), st.binary(max_size=3))


@given(st.lists(st.one_of(RUNTIME_EVENTS, FIRMWARE_EVENTS), max_size=12))
def test_arbitrary_events(entries: list[dict[str, Any]]) -> None:
    check_total(dstack(entries))
    before, ready, after = [], 0, 0
    for entry in entries:
        if entry["imr"] == 3:
            if entry["event"] == "system-ready":
                ready += 1
            elif not ready:
                before.append(entry["event"])
            else:
                after += 1
    claims = identity_claims(parse_event_log(dstack(entries)))
    if not claims.problems:
        assert ready == 1
        assert len(claims.application_events) == after
        known = [name for name in before if name in eventlog.IDENTITY_EVENTS]
        assert {eventlog.IDENTITY_EVENTS[name].claim for name in known} == set(claims.values)


MUTABLE = dstack(boot_events())


@given(st.integers(0, len(MUTABLE) - 1), st.integers(0, 255))
def test_no_mutation_changes_a_claim(offset: int, value: int) -> None:
    data = bytearray(MUTABLE)
    data[offset] = value
    try:
        log = parse_event_log(bytes(data))
    except EvidenceError:
        return
    findings = appraise_event_log(log, genuine_rtmrs(), rtmr3="log")
    if all(finding.state is State.PASS for finding in findings):
        genuine = parse_event_log(MUTABLE)
        assert identity_claims(log).values == identity_claims(genuine).values


def test_many_problems_are_summed_up() -> None:
    entries = [runtime(f"x{i}", b"", digest="00" * 48) for i in range(100)]
    findings = appraise(entries)
    assert "and 95 more" in (findings["DIGESTS"].found or "")
    assert "more" in (findings["IDENTITY"].found or "")


def test_every_real_ccel_log_is_appraised(vectors: Path) -> None:
    for path in ccel_logs(vectors):
        log = parse_event_log(path.read_bytes())
        findings = appraise(log)
        assert {states(findings)[f"RTMR{i}"] for i in range(4)} == {"PASS"}
        wrong = appraise(log, [sha384(register) for register in replay(log)])
        assert {states(wrong)[f"RTMR{i}"] for i in range(4)} == {"FAIL"}
        assert findings["IDENTITY"].state is State.NOT_APPLICABLE
