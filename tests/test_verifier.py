"""`check`: arguments, the order of things, and that it depends on nothing but its arguments."""

from __future__ import annotations

import builtins
import os
import random
import socket
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any

import pytest
from vectors.judging import DEFAULT, finding_of, judge_sim, sim_pack, sim_trust

from ccverify import (
    CollateralPack,
    Evidence,
    State,
    TrustAnchor,
    TrustKind,
    TrustStore,
    UsageError,
    check,
)
from ccverify.checks import CHECKS, Category
from ccverify.findings import Assurance
from ccverify.sim import SimPlatform

EVIDENCE = SimPlatform().evidence()
ARGUMENTS: dict[str, Any] = {
    "policy": DEFAULT,
    "now": EVIDENCE.at,
    "nonce": None,
    "collateral": sim_pack(EVIDENCE),
    "trust": sim_trust(EVIDENCE),
}


def _check(evidence: Any = EVIDENCE.quote_bytes, **changes: Any) -> Any:
    return check(evidence, **(ARGUMENTS | changes))


class _Nowhere(tzinfo):
    """A time zone that does not know its offset: such a time is as good as naive."""

    def utcoffset(self, moment: datetime | None) -> None:
        return None


WRONG_ARGUMENTS: dict[str, dict[str, Any]] = {
    "naive time": {"now": datetime(2026, 6, 15)},  # noqa: DTZ001
    "time zone without offset": {"now": datetime(2026, 6, 15, tzinfo=_Nowhere())},
    "time before the first": {"now": datetime.min.replace(tzinfo=timezone(timedelta(hours=14)))},
    "time after the last": {"now": datetime.max.replace(tzinfo=timezone(timedelta(hours=-12)))},
    "empty nonce": {"nonce": b""},
    "short nonce": {"nonce": b"x" * 15},
    "long nonce": {"nonce": b"x" * 65},
    "short report data": {"report_data": b"x" * 63},
    "long report data": {"report_data": b"x" * 65},
    "empty report data": {"report_data": b""},
    "nonce and report data": {"nonce": b"x" * 16, "report_data": bytes(64)},
}


@pytest.mark.parametrize("name", WRONG_ARGUMENTS)
def test_impossible_arguments_are_refused(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        _check(**WRONG_ARGUMENTS[name])
    assert caught.value.exit_code == 1


@pytest.mark.parametrize("size", [16, 64])
def test_nonces_of_the_shortest_and_longest_length(size: int) -> None:
    nonce = b"n" * size
    evidence = SimPlatform().evidence(report_data=nonce.ljust(64, b"\0"))
    assert judge_sim(evidence, nonce=nonce).trusted


def test_impossible_arguments_are_refused_before_anything_is_read() -> None:
    with pytest.raises(UsageError):
        _check(b"garbage", nonce=b"x")


@pytest.mark.parametrize("form", [bytes, bytearray, memoryview, Evidence])
def test_forms_of_evidence(form: Any) -> None:
    assert _check(form(EVIDENCE.quote_bytes)).dumps() == _check().dumps()


def test_text_forms_of_a_quote_are_the_same_quote() -> None:
    verdict = _check(EVIDENCE.quote_bytes.hex().encode())
    assert verdict.trusted
    assert verdict.inputs["quote"] == _check().inputs["quote"]
    assert verdict.inputs["evidence"] != _check().inputs["evidence"]


def test_nothing_to_check() -> None:
    verdict = _check(b"")
    assert (verdict.conclusion.value, verdict.exit_code) == ("incomplete", 10)
    assert verdict.tdx is None
    assert verdict.dumps()
    assert _check(Evidence(b"", b"log")).exit_code == 10


def test_what_does_not_parse_ends_at_once() -> None:
    verdict = _check(b"\4\0garbage")
    assert (verdict.conclusion.value, verdict.exit_code, verdict.tdx) == ("untrusted", 2, None)
    (failure,) = (f for f in verdict.failures() if f.state is State.FAIL)
    assert failure.code == "TDX-QUOTE-FORMAT"
    assert "quote" not in verdict.inputs


def test_padding_is_told() -> None:
    verdict = _check(EVIDENCE.quote_bytes + bytes(7))
    assert verdict.trusted
    assert "7 bytes of zero padding" in str(finding_of(verdict, "TDX-QUOTE-FORMAT").found)


# --- trust ---


def test_a_simulated_verdict_says_so() -> None:
    verdict = _check()
    assert verdict.trusted
    assert verdict.simulated
    assert finding_of(verdict, "TRUST-ROOTS").assurance is Assurance.ASSERTED


def test_an_insecure_root_is_never_trusted_and_nothing_rests_on_it() -> None:
    trust = TrustStore(TrustKind.INSECURE, TrustAnchor.load(EVIDENCE.root_der))
    verdict = _check(trust=trust)
    assert (verdict.conclusion.value, verdict.exit_code) == ("untrusted", 3)
    assert [f.code for f in verdict.failures()] == ["TRUST-ROOTS"]
    assert not verdict.simulated
    assert verdict.tdx is not None
    assert set(verdict.tdx.assurance.values()) == {Assurance.NONE}
    assert {f.assurance for f in verdict.findings} == {Assurance.NONE}


def test_a_production_store_refuses_the_simulation() -> None:
    verdict = _check(trust=TrustStore.production())
    assert (verdict.trusted, verdict.simulated, verdict.exit_code) == (False, False, 3)


# --- assurance ---


def test_no_finding_is_stronger_than_the_quote() -> None:
    forged = replace(EVIDENCE, quote=EVIDENCE.quote.flip("signature"))
    verdict = judge_sim(forged)
    judged = {e.code for e in CHECKS if e.category is Category.POLICY}
    for finding in verdict.findings:
        if finding.code in judged and not finding.code.startswith(
            ("TDX-TCB-", "TDX-MODULE-", "TDX-QE-")
        ):
            assert finding.assurance is Assurance.NONE, finding


def test_without_collateral_nothing_is_vouched_for() -> None:
    verdict = _check(collateral=CollateralPack())
    assert finding_of(verdict, "TDX-ATTR-DEBUG").assurance is Assurance.NONE
    assert finding_of(verdict, "TDX-ATTR-DEBUG").state is State.PASS


# --- purity ---


def test_nothing_is_read_from_the_world(monkeypatch: pytest.MonkeyPatch) -> None:
    """No clock, file, network, randomness or environment: all of them raise."""
    expected = _check().dumps()

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("check() looked at the world")

    class NoClock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return refuse()

    for owner, name in (
        (builtins, "open"), (os, "getenv"), (os, "urandom"), (socket, "socket"), (time, "time"),
        (time, "time_ns"), (random, "random"), (os, "open"),
    ):  # fmt: skip
        monkeypatch.setattr(owner, name, refuse)
    monkeypatch.setattr("ccverify.verifier.datetime", NoClock)
    got = _check().dumps()
    monkeypatch.undo()
    assert got == expected


def test_arguments_are_left_as_they_were() -> None:
    data = bytearray(EVIDENCE.quote_bytes)
    before = (bytes(data), ARGUMENTS["collateral"].digest, DEFAULT.digest)
    _check(data)
    assert (bytes(data), ARGUMENTS["collateral"].digest, DEFAULT.digest) == before


def test_threads_sharing_a_store_get_the_same_verdicts() -> None:
    others = [replace(SimPlatform(), label=f"machine-{n}").evidence() for n in range(4)]
    expected = [judge_sim(evidence, trust=ARGUMENTS["trust"]).dumps() for evidence in others]
    ARGUMENTS["trust"].memory.clear()
    wrong: list[int] = []

    def work(number: int) -> None:
        for turn in range(20):
            index = (number + turn) % 4
            if judge_sim(others[index], trust=ARGUMENTS["trust"]).dumps() != expected[index]:
                wrong.append(index)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_time_decides_anew_with_a_warm_memory() -> None:
    """What is remembered is that signatures are valid, never that something is in force."""
    trust = sim_trust(EVIDENCE)
    assert _check(trust=trust).trusted
    assert not _check(trust=trust, now=EVIDENCE.at + timedelta(days=60)).trusted
    assert not _check(trust=trust, now=datetime(2020, 1, 1, tzinfo=UTC)).trusted
    assert _check(trust=trust).trusted


def test_revocation_decides_anew_with_a_warm_memory() -> None:
    trust, case = sim_trust(EVIDENCE), SimPlatform().case()
    assert _check(trust=trust).trusted
    crl = case.pck_crl.with_revoked(case.pck.serial).with_number(2)
    revoked = sim_pack(replace(case, pck_crl=crl).build())
    assert not _check(trust=trust, collateral=revoked).trusted
    assert not _check(trust=trust, collateral=ARGUMENTS["collateral"].merged(revoked)).trusted
