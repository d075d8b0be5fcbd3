"""The choice among ways to a quote, and all sources over one simulated machine."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import pytest
from dstack_server import reply, serve
from kernel_tsm import KernelTsm, quote_over
from tdx_asks import NONCE, REPORT_DATA, ask, proc_of, template, the_absence, the_item
from tdx_module import TdxGuest, serve_qgs

from ccverify.collect.dstack_agent import DstackQuote
from ccverify.collect.model import Absence, AbsenceReason, Ask, Item, ItemType, Outcome, Stage
from ccverify.collect.qgs import Qgs
from ccverify.collect.tdx import TdxQuote, tdx_sources
from ccverify.collect.tsm import TsmReport
from ccverify.errors import UsageError
from ccverify.sim.eventlog import ccel_acpi_table
from ccverify.tdx.quote import parse_quote

RTMR3_AT = 48 + 472
MANIFEST = b"\x4d" * 48


class Way:
    """A source of quotes that gives what it is told."""

    stage = Stage.QUOTE
    gives: tuple[str, ...] = ("tdx-quote",)

    def __init__(self, name: str, reason: AbsenceReason | None = None, rtmr3: bytes = b"") -> None:
        self.name = name
        self.reason = reason
        self.rtmr3 = rtmr3
        self.asks: list[Ask] = []

    def absence(self) -> Absence:
        assert self.reason is not None
        return Absence(
            "tdx-quote", self.reason, f"{self.name} said no", f"fix {self.name}", self.name
        )

    def collect(self, ask: Ask) -> Sequence[Outcome]:
        self.asks.append(ask)
        if self.reason is not None:
            return (self.absence(),)
        assert ask.report_data is not None
        quote = bytearray(quote_over(template(), ask.report_data))
        if self.rtmr3:
            quote[RTMR3_AT : RTMR3_AT + 48] = self.rtmr3
        return (Item("tdx-quote", ItemType.TDX_QUOTE, bytes(quote), self.name),)

    def diagnose(self) -> Sequence[Absence]:
        return () if self.reason is None else (self.absence(),)


def never(_: bytes) -> bytes | Absence:
    raise AssertionError("nothing was to be extended")


def test_the_first_way_that_works_is_the_only_one_used() -> None:
    ways = [Way("a", AbsenceReason.NOT_PRESENT), Way("b"), Way("c")]
    source = TdxQuote(ways, never)
    assert the_item(source.collect(ask())).source == "b"
    assert [len(way.asks) for way in ways] == [1, 1, 0]
    assert source.diagnose() == ()


def test_when_all_fail_each_attempt_is_told() -> None:
    ways = [
        Way("a", AbsenceReason.NOT_PRESENT),
        Way("b", AbsenceReason.NO_PERMISSION),
        Way("c", AbsenceReason.FAILED),
    ]
    source = TdxQuote(ways, never)
    absence = the_absence(source.collect(ask()))
    # That of what came closest, with its remedy.
    assert absence.reason is AbsenceReason.NO_PERMISSION
    assert absence.remedy == "fix b"
    assert [f"{name} said no" in absence.text for name in "abc"] == [True] * 3
    assert [one.source for one in source.diagnose()] == ["a", "b", "c"]


def test_when_nothing_is_there_the_reason_is_that() -> None:
    ways = [Way(name, AbsenceReason.NOT_PRESENT) for name in "ab"]
    assert the_absence(TdxQuote(ways, never).collect(ask())).reason is AbsenceReason.NOT_PRESENT


def test_every_way_gets_some_of_the_time() -> None:
    ways = [Way(name, AbsenceReason.TIMEOUT) for name in "abc"]
    whole = Ask(NONCE, REPORT_DATA, 100.0, lambda: 0.0)
    TdxQuote(ways, never).collect(whole)
    deadlines = [way.asks[0].deadline for way in ways]
    assert deadlines == [60.0, 60.0, 100.0]  # a clock that stands still
    for way in ways:
        assert (way.asks[0].device_nonce, way.asks[0].report_data) == (NONCE, REPORT_DATA)


def test_a_quote_needs_report_data() -> None:
    with pytest.raises(UsageError):
        TdxQuote([Way("a")], never).collect(ask(None))


# --- extending RTMR3 -----------------------------------------------------------------------------


def test_rtmr3_is_extended_before_the_quote_is_taken() -> None:
    order: list[str] = []
    value = b"\x99" * 48
    way = Way("a", rtmr3=value)

    def extend(digest: bytes) -> bytes:
        assert way.asks == []
        order.append(digest.hex())
        return value

    (item,) = TdxQuote([way], extend).collect(ask(extend=True, manifest=MANIFEST))
    assert isinstance(item, Item)
    assert order == [MANIFEST.hex()]


def test_a_failed_extension_is_told_beside_the_quote() -> None:
    failed = Absence("rtmr3-extension", AbsenceReason.NOT_SUPPORTED, "old", "update", "sysfs")
    found = TdxQuote([Way("a")], lambda _: failed).collect(ask(extend=True, manifest=MANIFEST))
    assert found[0] == failed
    assert isinstance(found[1], Item)


def test_an_extension_the_quote_does_not_show_is_told() -> None:
    found = TdxQuote([Way("a")], lambda _: b"\x99" * 48).collect(
        ask(extend=True, manifest=MANIFEST)
    )
    assert isinstance(found[0], Absence)
    assert found[0].label == "rtmr3-extension"
    assert (b"\x99" * 48).hex() in found[0].text
    assert isinstance(found[1], Item)


@pytest.mark.parametrize("manifest", [None, b"", bytes(32)])
def test_an_extension_needs_the_digest(manifest: bytes | None) -> None:
    with pytest.raises(UsageError):
        TdxQuote([Way("a")], never).collect(ask(extend=True, manifest=manifest))


# --- the real sources ----------------------------------------------------------------------------


def test_real_ways_in_order(tmp_path: Path) -> None:
    """configfs, then dstack, then QGS: each is used when those before it are spoilt."""
    kernel = KernelTsm(tmp_path / "kernel", template())
    guest = TdxGuest()
    device = tmp_path / "tdx_guest"
    device.touch()
    with serve(tmp_path / "run/dstack.sock") as agent, serve_qgs(tmp_path / "qgs.sock") as qgs:
        source = TdxQuote(
            [
                TsmReport(kernel.root, files=kernel),
                DstackQuote(tmp_path),
                Qgs(tmp_path / "none", device, connect=qgs.connect, ioctl=guest.ioctl),
            ],
            never,
        )
        assert the_item(source.collect(ask())).source == "configfs-tsm"
        assert (agent.requests, qgs.requests) == ([], [])
        kernel.empty = True
        assert the_item(source.collect(ask())).source.startswith("dstack")
        assert qgs.requests == []
        agent.only_hashes = True
        item = the_item(source.collect(ask()))
        assert item.source == "QGS"
        assert parse_quote(item.data).report.report_data == REPORT_DATA
        guest.change = lambda report: bytes(1024)
        agent.misbehaviour = reply(b"{}", 503)
        absence = the_absence(source.collect(ask()))
        assert absence.reason is AbsenceReason.FAILED
        for one in (
            "configfs-tsm: the kernel gave an empty quote",
            "dstack guest agent: ",
            "QGS: ",
        ):
            assert one in absence.text


def test_a_machine_without_tdx(tmp_path: Path) -> None:
    """Every part is there as an absence with a reason: none is dropped, none raises."""
    proc = proc_of(tmp_path, td=False)
    labels = []
    for source in tdx_sources(tmp_path, td_report=True, proc=proc):
        assert source.diagnose() != ()
        for one in source.collect(ask()):
            assert isinstance(one, Absence)
            assert one.reason is AbsenceReason.NOT_PRESENT
            assert one.remedy
            labels.append(one.label)
    assert labels == [
        "tdx-quote", "ccel-table", "ccel", "td-measurements", "dstack-log", "dstack-info",
        "tdreport",
    ]  # fmt: skip


def test_this_machine_whatever_it_is() -> None:
    for source in tdx_sources(td_report=True):
        for one in source.collect(ask(seconds=2)):
            assert one.label.startswith(source.gives)
        source.diagnose()


def test_sources_below_another_root(tmp_path: Path) -> None:
    log = bytes(4096)
    acpi = tmp_path / "sys/firmware/acpi/tables"
    (acpi / "data").mkdir(parents=True)
    (acpi / "CCEL").write_bytes(ccel_acpi_table(len(log)))
    (acpi / "data/CCEL").write_bytes(log)
    registers = tmp_path / "sys/devices/virtual/misc/tdx_guest/measurements"
    registers.mkdir(parents=True)
    (registers / "rtmr3:sha384").write_bytes(hashlib.sha384().digest())
    with serve(tmp_path / "run/dstack.sock"):
        found = [
            one
            for source in tdx_sources(tmp_path, proc=proc_of(tmp_path, td=True))
            for one in source.collect(ask())
        ]
    assert [one.label for one in found if isinstance(one, Item)] == [
        "tdx-quote", "ccel-table", "ccel", "td-measurements", "dstack-log", "dstack-info",
    ]  # fmt: skip
    with serve(tmp_path / "elsewhere.sock") as agent:
        sources = tdx_sources(tmp_path, agent.path, proc=tmp_path / "proc")
        assert isinstance(sources[0].collect(ask())[0], Item)
        assert len(agent.requests) == 1
