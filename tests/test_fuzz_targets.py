"""Every fuzz target on its seeds, on mutations of them, and on what fuzzing once broke.

No atheris needed: mutations are drawn from `random.Random` with a fixed seed.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from random import Random

import pytest

import ccverify
from ccverify.policy.document import policy_problems
from ccverify.results.render.table import render_verdict
from ccverify.sim.eventlog import DSTACK_EVENT_TYPE
from fuzz.devices import devices
from fuzz.effort import grows_linearly, lines, peak
from fuzz.evidence import Sign, bases, build, edit_program, signed_originals
from fuzz.invariants import Violation, declared, holds, printable, strict_json_text
from fuzz.make_corpus import pieces
from fuzz.mutate import fix_quote_lengths, sign_again
from fuzz.mutate_devices import fix_report_lengths
from fuzz.shrink import shrink
from fuzz.targets import TARGETS, Target
from fuzz.tokens import DICTIONARIES, dictionary_text

MUTATIONS = 250
SLOW = {"check": 60, "check_signed": 60, "statement": 60, "check_statement": 40}


def _malformed_name(der: bytes, name: bytes) -> bytes:
    """Put 0xff, which is no UTF-8, into a common name (both names of a root)."""
    return der.replace(name, b"\xff" + name[1:])


def _log(*payloads: bytes) -> bytes:
    runtime = {"imr": 3, "event_type": DSTACK_EVENT_TYPE, "digest": ""}
    events = [{**runtime, "event": "gpu-attestation", "event_payload": p.hex()} for p in payloads]
    ready = {**runtime, "event": "system-ready", "event_payload": ""}
    return json.dumps([*events, ready]).encode()


def _lists(member: str, values: str) -> bytes:
    return f'{{"schema":"ccverify.policy/v1","tdx":{{"tcb":{{"{member}":[{values}]}}}}}}'.encode()


def _bad_pck_in_quote() -> bytes:
    at = bases()[0].parts["pck"].rfind(b"Intel SGX PCK Certificate")
    return edit_program(("pck", 0, at, b"\xb6"))


REGRESSIONS: tuple[tuple[str, str, bytes | Callable[[], bytes]], ...] = (
    (
        "collateral",
        "an artefact's type that is a list was looked up in a dict: TypeError",
        b'{"schema":"ccverify.collateral/v1","artefacts":[{"type":[]}]}',
    ),
    (
        "collateral",
        "the same with an object",
        b'{"schema":"ccverify.collateral/v1","artefacts":[{"type":{}}]}',
    ),
    ("policy", "PyYAML: AttributeError on a tagged time that is none", b"tdx: !!timestamp x"),
    ("policy", "PyYAML: IndexError on a tagged empty integer", b'tdx: !!int ""'),
    ("policy", "PyYAML: IndexError on a tagged empty float", b'tdx: !!float ""'),
    ("policy", "PyYAML: KeyError on a tagged boolean that is none", b"tdx: !!bool x"),
    ("policy", "a list tagged as a mapping: TypeError", b"tdx: !!map [a]"),
    ("policy", "PyYAML: OverflowError on an escape beyond Unicode", b'name: "\\Uffffffff"'),
    ("policy", "a lone surrogate went into an error that cannot be printed", b'"\\ud800": 1'),
    ("policy", "an unknown key went into the error whole", b'{"' + b"k" * 100_000 + b'":1}'),
    (
        "policy",
        "so did the path of a wrong value",
        b'{"schema":"ccverify.policy/v1","tdx":{"event_log":{"claims":{"%s":1}}}}' % (b"k" * 9_000),
    ),
    (
        "strict_json",
        "a key given twice went into the error whole",
        b'{"%s":1,"%s":1}' % (b"k" * 9_000, b"k" * 9_000),
    ),
    (
        "policy",
        "uniqueItems over mixed types took quadratic time: minutes for this",
        lambda: _lists("accepted_statuses", ",".join(map(str, range(40_000))) + ',""'),
    ),
    (
        "quote",
        "the base64 pattern took quadratic time over white space: minutes for this",
        b"A" + b" " * 250_000 + b"!",
    ),
    ("strict_json", "a number beyond a double was read as infinity", b"[1e400]"),
    ("strict_json", "the same, negative", b'{"a":-1e400}'),
    ("strict_json", "values nested deeper than what later handles them", b"[" * 900 + b"]" * 900),
    ("dstack_log", "a claim of infinity made a verdict that is not JSON", _log(b'{"a":1e400}')),
    (
        "event_log",
        "a claim nested as deep as the stack allows",
        _log(b'{"a":' + b"[" * 900 + b"]" * 900 + b"}"),
    ),
    (
        "certificate",
        "cryptography reads names late: ValueError long after parsing",
        lambda: _malformed_name(bases()[0].parts["pck"], b"Intel SGX PCK Certificate"),
    ),
    (
        "trust_anchor",
        "the same in a trust anchor",
        lambda: _malformed_name(bases()[0].parts["root"], b"Intel SGX Root CA"),
    ),
    ("check", "the same in the PCK chain of a quote: check raised", _bad_pck_in_quote),
    (
        "crl",
        "the same in a CRL's issuer",
        lambda: _malformed_name(bases()[0].parts["pck_crl"], b"Intel SGX PCK Platform CA"),
    ),
    (
        "crl",
        "a CRL number of more than 4300 digits cannot be written in a verdict: ValueError",
        lambda: bases()[0].case.pck_crl.with_number(1 << 15_000).der(),
    ),
)


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS.keys())
def test_seeds_hold(target: Target) -> None:
    accepted = [target.run(seed) for seed in target.seeds()]
    assert any(accepted), "no seed gets past the parser, so nothing behind it is tried"


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS.keys())
def test_mutations_hold(target: Target) -> None:
    random, seeds = Random(f"ccverify/{target.name}"), target.seeds()
    for _ in range(SLOW.get(target.name, MUTATIONS)):
        data = random.choice(seeds)
        for _ in range(random.randint(1, 3)):
            data = target.mutate(data, random)
        target.run(data[: target.max_len])


@pytest.mark.parametrize(
    ("name", "data"),
    [(name, data) for name, _, data in REGRESSIONS],
    ids=[f"{name}: {reason}" for name, reason, _ in REGRESSIONS],
)
def test_what_fuzzing_found_stays_fixed(name: str, data: bytes | Callable[[], bytes]) -> None:
    TARGETS[name].run(data if isinstance(data, bytes) else data())


def test_times_at_the_end_of_the_calendar_are_usage_errors() -> None:
    base, empty = bases()[0], ccverify.CollateralPack()
    policy = ccverify.load_policy(base.parts["policy"])
    quote = build(edit_program()).quote
    for now in (
        datetime.max.replace(tzinfo=timezone(timedelta(hours=-5))),
        datetime.min.replace(tzinfo=timezone(timedelta(hours=5))),
    ):
        with pytest.raises(ccverify.UsageError):
            ccverify.check(
                quote, policy=policy, now=now, nonce=None, collateral=empty, trust=base.trust
            )
    at_the_start = datetime.min.replace(tzinfo=UTC)
    verdict = ccverify.check(
        quote, policy=policy, now=at_the_start, nonce=None, collateral=empty, trust=base.trust
    )
    assert not verdict.trusted


@pytest.mark.parametrize("depth", [60, 900])
def test_nested_claims_can_be_shown(depth: int) -> None:
    """A claim nested 500 levels deep exhausted the stack of the text output."""
    base, nested = bases()[0], b'{"a":' + b"[" * depth + b"]" * depth + b"}"
    verdict = ccverify.check(
        ccverify.Evidence(build(edit_program()).quote, _log(nested)),
        policy=ccverify.load_policy(base.parts["policy"]),
        now=base.case.at,
        nonce=None,
        collateral=ccverify.CollateralPack(),
        trust=base.trust,
    )
    strict_json_text(verdict.dumps())
    printable(render_verdict(verdict, width=100, verbose=True))


def test_an_advisory_with_a_line_end_is_refused() -> None:
    """Python's ``$`` matches before a final line end: such a name rejected nothing at all."""
    assert ccverify.load_policy(_lists("rejected_advisories", '"INTEL-SA-00001"'))
    with pytest.raises(ccverify.PolicyError):
        ccverify.load_policy(_lists("rejected_advisories", '"INTEL-SA-00001\\n"'))


def test_a_policy_of_many_mistakes_makes_few_errors() -> None:
    """Each error holds a kilobyte or more: 1.6 MB of wrong items took 2.9 GB."""
    assert 0 < len(policy_problems(_lists("accepted_statuses", "0," * 2_000 + "0"))) <= 500


# --- the tools themselves ---


def test_honest_evidence_is_trusted_in_every_form() -> None:
    assert len(bases()) >= 8
    for number in range(len(bases())):
        assert TARGETS["check"].run(edit_program(base=number))


def test_edited_evidence_is_trusted_only_when_signed_again() -> None:
    edit = ("signed_range", 0, 48 + 184, b"\1")  # MRCONFIGID, which the policy does not judge
    assert not TARGETS["check"].run(edit_program(edit))
    assert TARGETS["check_signed"].run(edit_program(edit, flags=Sign.QUOTE))


def test_a_wrong_verdict_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The invariants can fail: with another set of originals, honest evidence is a violation."""
    monkeypatch.setattr("fuzz.checking.signed_originals", frozenset)
    with pytest.raises(Violation, match="changed quote"):
        TARGETS["check"].run(edit_program())
    assert bases()[0].parts["qe_report"] in signed_originals()


@pytest.mark.parametrize(
    ("target", "originals"),
    [
        ("signed_xml", "fuzz.nvidia._signed_contents"),
        ("rim", "fuzz.nvidia._signed_contents"),
        ("device_chain", "fuzz.nvidia._signed_chains"),
        ("ocsp", "fuzz.nvidia._signed_responses"),
        ("jwt", "fuzz.foreign._signed_tokens"),
        ("eat", "fuzz.foreign._signed_tokens"),
        ("cose", "fuzz.bundles._signed"),
        ("bundle", "fuzz.bundles._signed"),
    ],
)
def test_a_wrong_signature_check_would_be_noticed(
    target: str, originals: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed = TARGETS[target].seeds()[0]
    assert TARGETS[target].run(seed)
    monkeypatch.setattr(originals, frozenset)
    with pytest.raises(Violation, match=r"nobody (signed|issued)|is believed"):
        TARGETS[target].run(seed)


def test_undeclared_errors_are_not_swallowed() -> None:
    def wrong_error() -> None:
        raise ccverify.PolicyError("no")

    def long_error() -> None:
        error = ccverify.EvidenceError("no")
        error.found = "x" * 10_000
        raise error

    with pytest.raises(ccverify.PolicyError):
        declared(ccverify.EvidenceError, wrong_error)
    with pytest.raises(Violation, match="characters"):
        declared(ccverify.EvidenceError, long_error)
    with pytest.raises(Violation):
        strict_json_text("[NaN]")
    with pytest.raises(Violation):
        printable("\x1b[2J")
    with pytest.raises(Violation):
        holds(0, "nothing")


def test_crashes_are_shrunk_to_what_causes_them() -> None:
    def run(data: bytes) -> None:
        if b"!!" in data:
            raise KeyError
        if b"x" in data:
            raise ValueError

    assert shrink(run, b"aaa x bbb !! ccc") == b"!!"
    assert shrink(run, b"harmless") == b"harmless"


def test_repaired_quotes_parse() -> None:
    quote = bases()[0].case.build().quote_bytes
    assert not TARGETS["quote"].run(quote[:-10])
    assert TARGETS["quote"].run(fix_quote_lengths(quote[:-10]))
    for base in bases():
        whole = base.case.build().quote_bytes
        assert fix_quote_lengths(whole) == whole


def test_repaired_reports_parse() -> None:
    for device in devices():
        whole = device.report
        assert fix_report_lengths(whole) == whole
        longer = whole[:-96] + b"\x2c\x01\0\0" + whole[-96:]
        assert not TARGETS["spdm_report"].run(longer)
        assert TARGETS["spdm_report"].run(fix_report_lengths(longer))


def test_effort_tells_linear_from_quadratic_work() -> None:
    def reading(power: int, keep: bool) -> Callable[[int], Callable[[], object]]:
        def run(size: int) -> Callable[[], object]:
            texts = range(size**power)
            one = b"[" + b"1," * 9 + b"1]"
            parse = ccverify.strict_json.parse_json
            return lambda: [
                parse(one, what="text", error=ccverify.EvidenceError) if keep else bool(one)
                for _ in texts
            ]

        return run

    assert grows_linearly(reading(1, True), 100)
    assert not grows_linearly(reading(2, True), 20)
    assert lines(reading(2, False)(20)) == 0
    assert peak(lambda: bytes(1 << 20)) >= 1 << 20


def test_signing_again_is_what_the_issuer_did() -> None:
    own = bases()[0].case
    assert sign_again(own.pck.der(), own.pck.signer.sign_der) == own.pck.der()
    assert sign_again(own.pck_crl.der(), own.pck_crl.signer.sign_der) == own.pck_crl.der()
    other = replace(own.pck, serial=7)
    assert sign_again(other.der(), own.pck.signer.sign_der) == other.der()
    assert sign_again(b"\x30\x00", own.pck.signer.sign_der) == b"\x30\x00"


def test_pieces_are_found_inside_json_hex_and_pem() -> None:
    inner = bases()[0].parts["pck"]
    for text in (inner.hex(), b64encode(inner).decode(), bases()[0].case.pck.pem()):
        assert inner in pieces(text.encode())
        assert inner in pieces(json.dumps([{"deep": {"er": text}}]).encode())


@pytest.mark.parametrize("name", DICTIONARIES)
def test_dictionaries_are_in_libfuzzers_format(name: str) -> None:
    lines = dictionary_text(name).splitlines()
    assert lines
    for line in lines:
        token = bytes.fromhex(line.strip('"').replace("\\x", ""))
        assert 0 < len(token) <= 64, token
