"""Binders in a session: asked last, covering the manifest as it is, and free to fail."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from collect_fakes import KEY, NONCE, STILL, Fake, absence, hasty, item, node, quotes

from ccverify.bundle.cose import CoseKey
from ccverify.bundle.endorsement import operator_payload, tpm_qualifying_data
from ccverify.bundle.package import parse_bundle
from ccverify.bundle.verify_bundle import appraise_bundle
from ccverify.collect.binders import BindAsk
from ccverify.collect.collected import Collected, Event
from ccverify.collect.model import Absence, AbsenceReason, Item, ItemType, Stage
from ccverify.collect.session import collect_bundle
from ccverify.errors import UsageError
from ccverify.findings import State
from ccverify.sim.operator import SimOperator
from ccverify.sim.tpm import SimTpm

TPM, OPERATOR = SimTpm(), SimOperator()


class FakeBinder:
    """Gives what its function makes of what it is asked."""

    def __init__(self, label: str, result: Callable[[BindAsk], Any], name: str = "") -> None:
        self.label = label
        self.name = name or f"fake {label}"
        self._result = result
        self.asked: list[BindAsk] = []

    def bind(self, ask: BindAsk) -> Any:
        self.asked.append(ask)
        return self._result(ask)

    def diagnose(self) -> tuple[Absence, ...]:
        return ()


def tpm() -> FakeBinder:
    def quote(ask: BindAsk) -> Item:
        data = tpm_qualifying_data(ask.nonce, ask.thumbprint, ask.manifest_sha384)
        return Item("tpm-quote", ItemType.TPM_QUOTE, TPM.quote(data).item(), "TPM")

    return FakeBinder("tpm-quote", quote)


def operator() -> FakeBinder:
    def sign(ask: BindAsk) -> Item:
        payload = operator_payload(ask.nonce, ask.thumbprint, ask.manifest_sha384)
        kind = ItemType.OPERATOR_SIGNATURE
        return Item("operator-signature", kind, OPERATOR.sign(payload), "operator")

    return FakeBinder("operator-signature", sign)


def failing(reason: AbsenceReason = AbsenceReason.NO_PERMISSION) -> FakeBinder:
    return FakeBinder("tpm-quote", lambda _: absence("tpm-quote", reason, "TPM"))


def host() -> list[Fake]:
    """A machine without TDX."""
    return [Fake("fabric", ["fabric"], [item("fabric", b"{}")])]


def collected(*binders: FakeBinder, sources: list[Fake] | None = None, **options: Any) -> Collected:
    return collect_bundle(
        NONCE,
        host() if sources is None else sources,
        **{"world": STILL, "binders": binders, **options},
    )


def outside(result: Collected) -> set[str]:
    assert result.bundle is not None
    bundle = parse_bundle(result.bundle)
    findings = appraise_bundle(result.bundle, NONCE).findings
    assert {finding.state for finding in findings} == {State.PASS}
    return set(bundle.items) - set(bundle.manifest.items)


def test_binders_cover_the_manifest_that_is_in_the_bundle() -> None:
    binders = tpm(), operator()
    result = collected(*binders)
    assert outside(result) == {"tpm-quote", "operator-signature"}
    assert result.bundle is not None
    bundle = parse_bundle(result.bundle)
    for binder in binders:
        (ask,) = binder.asked
        assert (ask.nonce, ask.manifest_sha384) == (NONCE, bundle.manifest.sha384)
        assert ask.thumbprint == CoseKey.of(KEY.public_key()).thumbprint
        assert ask.remaining == ask.deadline == 60.0
    # The quote is absent, and the manifest that was covered says so.
    assert set(bundle.absences) == {"tdx-quote"}
    assert [one.label for one in result.items] == ["fabric", "tpm-quote", "operator-signature"]
    assert collected(*binders).bundle == result.bundle


def test_binders_may_stand_beside_a_quote() -> None:
    result = collected(tpm(), sources=node())
    assert outside(result) == {"tdx-quote", "tpm-quote"}
    with_nothing = collected(sources=node())
    assert with_nothing.bundle == collect_bundle(NONCE, node(), world=STILL).bundle


def test_binders_are_asked_after_the_quote_and_at_once() -> None:
    order: list[str] = []
    both = threading.Barrier(2, timeout=20)

    def meet(inner: FakeBinder) -> FakeBinder:
        def bind(ask: BindAsk) -> Any:
            both.wait()
            order.append(inner.label)
            return inner.bind(ask)

        return FakeBinder(inner.label, bind)

    def quoted(report_data: bytes) -> bytes:
        order.append("tdx-quote")
        return b"quote " + report_data

    result = collected(meet(tpm()), meet(operator()), sources=[*host(), quotes(quoted)])
    assert order[0] == "tdx-quote"
    assert sorted(order[1:]) == ["operator-signature", "tpm-quote"]
    assert len(outside(result)) == 3


def test_progress_and_account_tell_of_binders() -> None:
    events: list[Event] = []
    result = collected(tpm(), failing_operator(), progress=events.append)
    assert [(run.source, run.stage, run.items, run.absences) for run in result.runs[1:]] == [
        ("fake tpm-quote", Stage.QUOTE, 1, 0),
        ("fake operator-signature", Stage.QUOTE, 0, 1),
    ]
    assert (events[-1].done, events[-1].total) == (3, 3)


def failing_operator() -> FakeBinder:
    return FakeBinder("operator-signature", lambda _: absence("operator-signature"))


def test_a_binder_that_fails_is_told_and_costs_nothing_else() -> None:
    result = collected(failing(), operator())
    assert outside(result) == {"operator-signature"}
    assert [(one.label, one.reason, one.remedy) for one in result.absences] == [
        ("tdx-quote", AbsenceReason.NOT_PRESENT, result.absences[0].remedy),
        ("tpm-quote", AbsenceReason.NO_PERMISSION, "get tpm-quote"),
    ]
    assert result.missing == ()
    # It is in no manifest: the operator's key has covered that by then.
    assert result.bundle is not None
    assert set(parse_bundle(result.bundle).absences) == {"tdx-quote"}


def test_a_required_binder_that_fails_means_no_bundle() -> None:
    result = collected(failing(), operator(), require=["tpm-quote"])
    assert (result.bundle, result.missing) == (None, ("tpm-quote",))
    assert collected(tpm(), require=["tpm-quote"]).bundle is not None
    several = collected(failing(), require=["tpm-quote", "tdx-quote"], sources=[*host(), *none()])
    assert several.missing == ("tdx-quote", "tpm-quote")


def none() -> list[Fake]:
    return [Fake("quotes", ["tdx-quote"], [absence("tdx-quote")], stage=Stage.QUOTE)]


def test_nothing_is_bound_where_something_else_that_is_required_is_missing() -> None:
    binder = tpm()
    missing = Fake("gpus", ["gpu"], [absence("gpu")])
    result = collected(binder, sources=[missing], require=["gpu", "tpm-quote"])
    assert (result.bundle, result.missing) == (None, ("gpu",))
    assert binder.asked == []


def test_a_binder_that_hangs_is_left_behind() -> None:
    let_go = threading.Event()

    def hang(ask: BindAsk) -> Any:
        let_go.wait()
        return tpm().bind(ask)

    result = collected(FakeBinder("tpm-quote", hang), operator(), world=hasty(), timeout=0.05)
    let_go.set()
    assert outside(result) == {"operator-signature"}
    assert result.absences[-1].reason is AbsenceReason.TIMEOUT


def _raise(problem: BaseException) -> Any:
    raise problem


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (lambda _: _raise(RuntimeError("broken")), "raised RuntimeError: broken"),
        (lambda _: _raise(SystemExit(3)), "raised SystemExit"),
        (lambda _: None, "gave a NoneType"),
        (lambda _: b"bytes", "gave a bytes"),
        (lambda _: item("ccel"), "gave ccel, and was asked for tpm-quote"),
        (lambda _: Item("tpm-quote", ItemType.FABRIC_DUMP, b"", "x"), "under the name tpm-quote"),
        (lambda _: Item("tpm-quote", ItemType.TDX_QUOTE, b"", "x"), "under the name tpm-quote"),
        (lambda _: Item("tpm-quote", ItemType.TPM_QUOTE, bytes(9 << 20), "x"), "can hold"),
        (lambda _: Item("tpm-quote", ItemType.TPM_QUOTE, "text", "x"), "data is a str"),  # type: ignore[arg-type]
    ],
)
def test_a_binder_that_misbehaves_is_an_absence(
    result: Callable[[BindAsk], Any], words: str
) -> None:
    found = collected(FakeBinder("tpm-quote", result), operator())
    assert outside(found) == {"operator-signature"}
    assert found.absences[-1].label == "tpm-quote"
    assert words in found.absences[-1].text


def test_an_absence_under_another_name_is_the_binders_own() -> None:
    found = collected(FakeBinder("tpm-quote", lambda _: absence("gpu")))
    assert found.absences[-1].label == "tpm-quote"


@pytest.mark.parametrize(
    "binders",
    [
        [tpm(), tpm()],
        [FakeBinder("tdx-quote", lambda _: None)],
        [FakeBinder("manifest", lambda _: None)],
        [FakeBinder("gpu", lambda _: None)],
    ],
)
def test_binders_give_what_binders_can_and_each_something_else(binders: list[FakeBinder]) -> None:
    with pytest.raises(UsageError, match="cannot be bound so"):
        collected(*binders)


def test_only_says_nothing_of_binders_and_require_knows_them() -> None:
    sources = [*host(), Fake("logs", ["ccel"], [item("ccel")], stage=Stage.LOGS)]
    result = collected(tpm(), sources=sources, only=["ccel"], require=["ccel", "tpm-quote"])
    assert outside(result) == {"tpm-quote"}
    for wrong in ({"require": ["tpm-quote"]}, {"only": ["tpm-quote"]}):
        with pytest.raises(UsageError, match="not collected here"):
            collected(**wrong)
    with pytest.raises(UsageError, match="not collected here"):
        collected(tpm(), only=["tpm-quote"])


def test_no_source_gives_what_a_binder_gives() -> None:
    early = Fake("early", ["tpm-quote"], lambda _: [tpm().bind(ASK)])
    result = collected(sources=[*host(), early])
    assert outside(result) == set()
    assert "early-tpm-quote" in {one.label for one in result.absences}
    late = Fake("late", ["tdx-quote"], lambda _: [tpm().bind(ASK)], stage=Stage.QUOTE)
    result = collected(sources=[*host(), late])
    assert outside(result) == set()
    assert "the manifest was closed" in result.notes[0].text


ASK = BindAsk(NONCE, bytes(32), bytes(48), 1.0, lambda: 0.0)


def test_many_dumps_of_several_sources_are_all_kept() -> None:
    def dumps(*names: str) -> list[Item]:
        return [Item(name, ItemType.FABRIC_DUMP, name.encode(), "x") for name in names]

    sources = [
        Fake("one", ["fm-config", "fm-state"], dumps("fm-config", "fm-state")),
        Fake("two", ["nvlsm-lfts", "fm-config"], dumps("nvlsm-lfts", "fm-config")),
    ]
    result = collected(sources=sources)
    assert [one.label for one in result.items] == ["fm-config", "fm-state", "nvlsm-lfts"]
    assert "came first" in result.notes[0].text
