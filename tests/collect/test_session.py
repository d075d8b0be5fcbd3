"""One collection session: who is asked what and when, and what becomes of every answer."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Sequence
from hashlib import sha384
from pathlib import Path

import pytest
from collect_fakes import (
    KEY,
    NONCE,
    NOW,
    STILL,
    Extending,
    Fake,
    Hanging,
    absence,
    device,
    hasty,
    item,
    node,
    quotes,
)

import ccverify
from ccverify.bundle.package import parse_bundle
from ccverify.bundle.verify_bundle import appraise_bundle
from ccverify.collect.collected import Collected, Event
from ccverify.collect.merge import merge, part_of
from ccverify.collect.model import Absence, AbsenceReason, Ask, Item, ItemType, Stage
from ccverify.collect.session import collect_bundle, known_parts
from ccverify.errors import UsageError
from ccverify.findings import State
from ccverify.sim import SimPlatform

ROOT = Path(ccverify.__file__).resolve().parents[1]


def collected(sources: Sequence[Fake], **options: object) -> Collected:
    return collect_bundle(NONCE, sources, **{"world": STILL, **options})  # type: ignore[arg-type]


def reasons(result: Collected) -> dict[str, AbsenceReason]:
    return {one.label: one.reason for one in result.absences}


def labels(result: Collected) -> list[str]:
    return [one.label for one in result.items]


def manifest_of(result: Collected) -> tuple[set[str], dict[str, AbsenceReason]]:
    """What the sealed bundle itself lists, the quote aside."""
    assert result.bundle is not None
    bundle = parse_bundle(result.bundle)
    return set(bundle.manifest.items), {k: v.reason for k, v in bundle.absences.items()}


def bundle_findings(data: bytes, nonce: bytes = NONCE) -> dict[str, State]:
    return {finding.code: finding.state for finding in appraise_bundle(data, nonce).findings}


# --- the bundle ---


def test_everything_is_in_the_bundle_and_holds_together() -> None:
    result = collected(node())
    assert labels(result) == ["gpu-0", "gpu-1", "fabric", "ccel", "tdx-quote"]
    assert (result.absences, result.missing, result.notes) == ((), (), ())
    assert result.bundle is not None
    assert manifest_of(result) == ({"gpu-0", "gpu-1", "fabric", "ccel"}, {})
    bundle = parse_bundle(result.bundle)
    assert {label: record.value for label, record in bundle.items.items()} == {
        one.label: one.data for one in result.items
    }
    assert set(bundle_findings(result.bundle).values()) <= {State.PASS, State.NOT_APPLICABLE}
    assert State.FAIL in bundle_findings(result.bundle, bytes(32)).values()


def test_devices_get_the_device_nonce_and_the_quote_gets_report_data() -> None:
    sources = node()
    result = collected(sources)
    for source in sources[:3]:
        (ask,) = source.asked
        assert (ask.device_nonce, ask.report_data) == (result.device_nonce, None)
        assert ask.manifest_sha384 is None
    (ask,) = sources[3].asked
    assert result.bundle is not None
    manifest = parse_bundle(result.bundle).manifest
    assert ask.manifest_sha384 == manifest.sha384
    assert ask.report_data is not None
    assert result.items[-1].data == b"quote " + ask.report_data
    assert len(ask.report_data) == 64
    assert manifest.created == NOW


def test_the_same_world_gives_the_same_bytes() -> None:
    first, second = collected(node()), collected(node())
    assert first.bundle == second.bundle
    assert first.bundle is not None
    # The genuine world has a key of its own each time.
    other = collect_bundle(NONCE, node())
    assert other.device_nonce != first.device_nonce
    assert other.bundle is not None
    assert parse_bundle(other.bundle).session_key != parse_bundle(first.bundle).session_key


def test_the_private_key_is_in_nothing_that_comes_out() -> None:
    result = collected(node())
    assert result.bundle is not None
    assert KEY.private_numbers().private_value.to_bytes(48, "big") not in result.bundle
    assert "private" not in repr(result).lower()
    assert "private" not in repr(STILL).lower()


@pytest.mark.parametrize("length", [0, 16, 31, 33, 64])
def test_a_nonce_of_another_length_is_refused(length: int) -> None:
    sources = node()
    with pytest.raises(UsageError, match="nonce has the wrong length"):
        collect_bundle(bytes(length), sources)
    assert not any(source.asked for source in sources)


# --- at once ---


def test_devices_and_logs_are_asked_at_once() -> None:
    """Each source waits for all the others: asked one after the other, none would come back."""
    barrier = threading.Barrier(13)

    def meet(label: str) -> list[Item]:
        barrier.wait(timeout=30)
        return [item(label)]

    names = [f"gpu-{n}" for n in range(8)] + [f"nvswitch-{n}" for n in range(4)]
    sources = [
        Fake(name, [part_of(name)], lambda _, name=name: meet(name))  # type: ignore[misc]
        for name in names
    ]
    sources.append(Fake("log", ["ccel"], lambda _: meet("ccel"), stage=Stage.LOGS))
    result = collected([*sources, quotes()], world=None)
    assert result.absences == ()
    assert len(result.items) == 14
    assert result.bundle is not None


def test_the_quote_comes_when_all_others_are_done() -> None:
    done: list[str] = []

    def slow(_: Ask) -> list[Item]:
        done.append("gpu")
        return [item("gpu-0")]

    def last(ask: Ask) -> list[Item]:
        done.append("quote")
        return [item("tdx-quote")]

    source = Fake("quotes", ["tdx-quote"], last, stage=Stage.QUOTE)
    collected([source, Fake("gpus", ["gpu"], slow)])
    assert done == ["gpu", "quote"]


# --- sources that do not behave ---


def test_a_source_that_hangs_costs_itself_alone() -> None:
    hanging = Hanging("stuck", ["nvswitch", "fabric"])
    try:
        result = collected([hanging, *node()], timeout=0.05, world=hasty())
        # The fabric was had from somebody else.
        assert reasons(result) == {"nvswitch": AbsenceReason.TIMEOUT}
        assert "0.05 s" in result.absences[0].text
        assert [note.label for note in result.notes] == ["fabric"]
        assert manifest_of(result)[1] == {"nvswitch": AbsenceReason.TIMEOUT}
        assert result.runs[0].seconds >= 0.05
    finally:
        hanging.let_go.set()
    before = result.bundle
    assert hanging.gone.wait(30)
    assert (result.bundle, "nvswitch" in labels(result)) == (before, False)


def test_what_comes_late_but_within_the_grace_is_taken() -> None:
    """A source that keeps its deadline may need a moment to hand over what it got till then."""

    def until_deadline(ask: Ask) -> list[Item | Absence]:
        threading.Event().wait(ask.remaining + 0.02)
        return [item("gpu-0"), absence("gpu-1", AbsenceReason.TIMEOUT)]

    result = collected([Fake("gpus", ["gpu"], until_deadline)], timeout=0.03, world=hasty(30))
    assert labels(result) == ["gpu-0"]
    assert reasons(result)["gpu-1"] is AbsenceReason.TIMEOUT


_STUCK = """
import threading, sys
sys.path.insert(0, sys.argv[1])
from collect_fakes import NONCE, Hanging, hasty, node
from ccverify.collect.session import collect_bundle
from ccverify.collect.model import Stage
stuck = [Hanging("a", ["nvswitch"]), Hanging("b", ["tdx-quote"], Stage.QUOTE)]
result = collect_bundle(NONCE, [*node()[:3], *stuck], timeout=0.05, world=hasty())
print(*sorted(one.label for one in result.absences), flush=True)
"""


def test_a_source_that_hangs_does_not_hold_the_process() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", _STUCK, str(ROOT / "tests")],
        capture_output=True, timeout=60, check=True, text=True, cwd=ROOT,
    )  # fmt: skip
    assert (ended.stdout, ended.stderr) == ("nvswitch tdx-quote\n", "")


@pytest.mark.parametrize(
    "problem",
    [
        ValueError("bad\nthing"),
        OSError(5, "Input/output error"),
        SystemExit(3),
        KeyboardInterrupt(),
        MemoryError(),
        RecursionError(),
        AssertionError(),
        BaseException("base"),
        type("Odd", (Exception,), {"__str__": lambda self: "\x1b[31m" * 1000})(),
    ],
    ids=lambda problem: type(problem).__name__,
)
def test_whatever_a_source_raises_is_an_absence(problem: BaseException) -> None:
    def broken(_: Ask) -> list[Item]:
        raise problem

    result = collected([Fake("bad", ["nvswitch"], broken), *node()])
    assert reasons(result) == {"nvswitch": AbsenceReason.FAILED}
    (absent,) = result.absences
    assert type(problem).__name__ in absent.text
    assert "Traceback" not in absent.text
    assert len(absent.text) < 500
    assert "gpu-0" in labels(result)
    assert manifest_of(result)[1] == {"nvswitch": AbsenceReason.FAILED}


def test_a_source_that_breaks_while_it_is_read_is_an_absence() -> None:
    class Breaking(Fake):
        def collect(self, ask: Ask) -> Sequence[Item]:
            def generate() -> object:
                yield item("nvswitch-0")
                raise RuntimeError("half way")

            return generate()  # type: ignore[return-value]

    result = collected([Breaking("bad", ["nvswitch"]), *node()])
    assert reasons(result) == {"nvswitch": AbsenceReason.FAILED}


@pytest.mark.parametrize(
    ("given", "label"),
    [
        (None, "gpu"),
        ("gpu-0", "gpu"),
        (Item("GPU 0", ItemType.NVIDIA_GPU, b"x", "s"), "gpu"),
        (Item("", ItemType.NVIDIA_GPU, b"x", "s"), "gpu"),
        (Item("manifest", ItemType.CCEL, b"x", "s"), "gpu"),
        (Item("session-key", ItemType.CCEL, b"x", "s"), "gpu"),
        (Item("gpu-0", ItemType.NVIDIA_GPU, "text", "s"), "gpu"),  # type: ignore[arg-type]
        (Item("gpu-0", "gpu", b"x", "s"), "gpu"),  # type: ignore[arg-type]
        (Item(7, ItemType.NVIDIA_GPU, b"x", "s"), "gpu"),  # type: ignore[arg-type]
        (Item("gpu-0", ItemType.NVIDIA_GPU, b"x", None), "gpu"),  # type: ignore[arg-type]
        (Item("gpu-0", ItemType.TDX_QUOTE, b"x", "s"), "gpu-0"),
        (Item("gpu-0", ItemType.NVIDIA_GPU, bytes(8 * 1024 * 1024 + 1), "s"), "gpu-0"),
        (Absence("gpu-0", "gone", "t", "r", "s"), "gpu"),  # type: ignore[arg-type]
        (Absence("gpu-0", AbsenceReason.FAILED, b"t", "r", "s"), "gpu"),  # type: ignore[arg-type]
        (Item("tdx-quote", ItemType.TDX_QUOTE, b"x", "s"), "early-tdx-quote"),
    ],
    ids=range(15),
)
def test_what_no_bundle_can_hold_is_an_absence(given: object, label: str) -> None:
    result = collected([Fake("bad", ["gpu"], [given]), quotes()])
    assert reasons(result)[label] is AbsenceReason.FAILED
    assert labels(result) == ["tdx-quote"]
    assert result.bundle is not None


def test_what_no_manifest_can_say_is_cut_and_cleaned() -> None:
    hostile = "\x1b[2J\u202e" + "x" * 5000
    given = [Absence("gpu-0", AbsenceReason.FAILED, hostile, hostile, hostile), item("gpu-1")]
    result = collected([Fake("bad", ["gpu"], given), quotes()])
    assert result.bundle is not None
    entry = parse_bundle(result.bundle).absences["gpu-0"]
    assert entry.text.isprintable()
    assert entry.source.isprintable()


def test_silence_is_an_absence() -> None:
    result = collected([Fake("mute", ["gpu", "nvswitch"], [item("gpu-0")]), quotes()])
    assert reasons(result) == {"nvswitch": AbsenceReason.FAILED}
    assert "mute returned nothing" in result.absences[0].text


def test_too_much_for_one_bundle_is_said() -> None:
    many = [item(f"gpu-{n}") for n in range(300)]
    with pytest.raises(UsageError, match="bundle cannot be made"):
        collected([Fake("gpus", ["gpu"], many), quotes()])


# --- several sources of one part ---


def test_the_first_source_of_a_label_counts_and_the_other_is_a_note() -> None:
    first = Fake("a", ["gpu"], [item("gpu-0", device("a"), "A")])
    second = Fake("b", ["gpu"], [item("gpu-0", device("b"), "B"), item("gpu-1", source="B")])
    result = collected([first, second, quotes()])
    assert [(one.label, one.source) for one in result.items[:2]] == [("gpu-0", "A"), ("gpu-1", "B")]
    assert [(n.label, n.source, n.text) for n in result.notes] == [
        ("gpu-0", "B", "not used: A came first")
    ]
    # The order is that of the list, not of who is quicker.
    turned = collected([second, first, quotes()])
    assert turned.items[0].source == "B"


def test_the_order_of_sources_counts_not_that_of_answers() -> None:
    second_is_done = threading.Event()

    def patient(_: Ask) -> list[Item]:
        assert second_is_done.wait(30)
        return [item("gpu-0", source="slow")]

    def quick(_: Ask) -> list[Item]:
        second_is_done.set()
        return [item("gpu-0", source="quick")]

    sources = [Fake("slow", ["gpu"], patient), Fake("quick", ["gpu"], quick), quotes()]
    assert collected(sources, world=None).items[0].source == "slow"


def test_an_item_goes_before_an_absence_wherever_it_comes_from() -> None:
    first = Fake("a", ["gpu"], [absence("gpu", AbsenceReason.NO_LIBRARY, "A"), absence("gpu-1")])
    second = Fake("b", ["gpu"], [item("gpu-0"), item("gpu-1")])
    result = collected([first, second, quotes()])
    assert labels(result) == ["gpu-0", "gpu-1", "tdx-quote"]
    assert result.absences == ()
    assert sorted(note.label for note in result.notes) == ["gpu", "gpu-1"]
    assert result.notes[0].text.startswith(("no-library", "not-present"))


def test_of_two_absences_the_one_that_says_more_counts() -> None:
    none, failed = absence("gpu", source="A"), absence("gpu", AbsenceReason.FAILED, "B")
    for order in ([none, failed], [failed, none]):
        sources = [Fake(one.source, ["gpu"], [one]) for one in order]
        result = collected([*sources, quotes()])
        assert reasons(result) == {"gpu": AbsenceReason.FAILED}
        assert [note.source for note in result.notes] == ["A"]
    same = [Fake(name, ["gpu"], [absence("gpu", source=name)]) for name in "AB"]
    assert collected([*same, quotes()]).absences[0].source == "A"


def test_an_absence_of_all_gives_way_to_those_of_each() -> None:
    sources = [
        Fake("a", ["gpu"], [absence("gpu", AbsenceReason.NO_LIBRARY, "A")]),
        Fake("b", ["gpu"], [absence("gpu-0", AbsenceReason.CC_OFF, "B")]),
        quotes(),
    ]
    result = collected(sources)
    assert reasons(result) == {"gpu-0": AbsenceReason.CC_OFF}
    assert [note.label for note in result.notes] == ["gpu"]


def test_one_device_under_two_numbers_goes_in_once() -> None:
    by_chain = device("leaf")
    by_uuid = device("x", uuid="GPU-1"), device("y", uuid="GPU-1")
    sources = [
        Fake("a", ["gpu"], [item("gpu-0", by_chain, "A"), item("gpu-1", by_uuid[0], "A")]),
        Fake("b", ["gpu"], [item("gpu-2", by_chain, "B"), item("gpu-3", by_uuid[1], "B")]),
        quotes(),
    ]
    result = collected(sources)
    assert labels(result) == ["gpu-0", "gpu-1", "tdx-quote"]
    assert [(note.label, note.source) for note in result.notes] == [("gpu-2", "B"), ("gpu-3", "B")]
    assert "is in the bundle as gpu-1, from A" in result.notes[1].text


def test_one_source_that_gives_a_device_twice_is_not_corrected() -> None:
    """A host may show one GPU as two: the verifier has to see that."""
    twice = [item("gpu-0", device("leaf")), item("gpu-1", device("leaf"))]
    assert labels(collected([Fake("a", ["gpu"], twice), quotes()]))[:2] == ["gpu-0", "gpu-1"]


def test_there_is_one_log_of_a_kind() -> None:
    other = Item("ccel-2", ItemType.CCEL, b"other", "B")
    sources = [Fake("a", ["ccel"], [item("ccel", source="A"), other], stage=Stage.LOGS), quotes()]
    result = collected(sources)
    assert labels(result) == ["ccel", "tdx-quote"]
    assert [note.label for note in result.notes] == ["ccel-2"]


def test_nothing_that_is_given_disappears() -> None:
    """Every outcome is in the bundle or among the notes."""
    from ccverify.bundle.manifest import Gathered

    given = [
        [Gathered(one, NOW) for one in group]
        for group in (
            [item("gpu-0"), item("gpu-0"), absence("gpu"), absence("ccel")],
            [item("gpu-0"), absence("gpu-0"), item("gpu-7", device("gpu-0"))],
            [item("ccel"), absence("nvswitch"), absence("nvswitch-1"), absence("nvswitch-1")],
        )
    ]
    merged = merge(given)
    assert len(merged.gathered) + len(merged.notes) == sum(map(len, given))
    kept = [one.outcome.label for one in merged.gathered]
    assert sorted(kept) == ["ccel", "gpu-0", "nvswitch-1"]


# --- quotes ---


def test_sources_of_quotes_are_asked_until_one_gives_a_quote() -> None:
    nothing = Fake("none", ["tdx-quote"], [absence("tdx-quote")], stage=Stage.QUOTE)
    never = quotes()
    result = collected([nothing, quotes(), never])
    assert "tdx-quote" in labels(result)
    assert result.absences == ()
    assert not never.asked
    assert [note.label for note in result.notes] == ["tdx-quote"]


def test_without_a_quote_the_manifest_says_why() -> None:
    nothing = Fake("none", ["tdx-quote"], [absence("tdx-quote", AbsenceReason.NO_DRIVER)],
                   stage=Stage.QUOTE)  # fmt: skip
    result = collected([*node()[:3], nothing])
    assert manifest_of(result)[1] == {"tdx-quote": AbsenceReason.NO_DRIVER}
    assert result.bundle is not None
    assert parse_bundle(result.bundle).quote is None


@pytest.mark.parametrize("given", [[], [item("ccel")]], ids=["nothing", "something else"])
def test_a_quote_that_does_not_come_is_an_absence(given: list[Item]) -> None:
    result = collected([Fake("odd", ["tdx-quote"], given, stage=Stage.QUOTE)])
    assert reasons(result) == {"tdx-quote": AbsenceReason.FAILED}
    assert [note.label for note in result.notes] == [one.label for one in given]


def test_no_source_of_quotes_is_an_absence() -> None:
    assert reasons(collected([])) == {"tdx-quote": AbsenceReason.NOT_PRESENT}


def test_a_source_of_quotes_that_hangs_is_an_absence() -> None:
    hanging = Hanging("stuck", ["tdx-quote"], Stage.QUOTE)
    try:
        result = collected([*node()[:3], hanging], timeout=0.05, world=hasty())
        assert manifest_of(result)[1] == {"tdx-quote": AbsenceReason.TIMEOUT}
    finally:
        hanging.let_go.set()


# --- only and require ---


def test_only_asks_nobody_else_and_says_so() -> None:
    sources = node()
    result = collected(sources, only=["gpu", "tdx-quote"])
    assert [bool(source.asked) for source in sources] == [True, False, False, True]
    assert manifest_of(result)[1] == {
        "fabric": AbsenceReason.NOT_ASKED,
        "ccel": AbsenceReason.NOT_ASKED,
    }
    result = collected(node(), only=["gpu"])
    assert reasons(result)["tdx-quote"] is AbsenceReason.NOT_ASKED


def test_only_leaves_out_parts_of_a_source_that_gives_several() -> None:
    both = Fake("sdk", ["gpu", "nvswitch"], [item("gpu-0"), item("nvswitch-0")])
    result = collected([both, quotes()], only=["gpu"])
    assert labels(result) == ["gpu-0"]
    assert reasons(result) == {
        "nvswitch": AbsenceReason.NOT_ASKED,
        "tdx-quote": AbsenceReason.NOT_ASKED,
    }


@pytest.mark.parametrize(
    ("option", "names"),
    [
        ({"only": ["gpus"]}, "--only"),
        ({"only": ["gpu-0"]}, "--only"),
        ({"require": ["cpu"]}, "--require"),
        ({"require": ["rtmr3-extension"]}, "--require"),
        ({"only": ["gpu"], "require": ["ccel"]}, "--require"),
        ({"only": ["gpu"], "extend_rtmr3": True}, "--only"),
    ],
)
def test_parts_nobody_can_give_are_refused(option: dict[str, object], names: str) -> None:
    sources = node()
    with pytest.raises(UsageError) as caught:
        collected(sources, **option)
    assert caught.value.where == names
    assert not any(source.asked for source in sources)


def test_what_is_required_and_absent_leaves_no_bundle_and_asks_for_no_quote() -> None:
    sources = [Fake("gpus", ["gpu"], [item("gpu-0"), absence("gpu-1")]), quotes()]
    result = collected(sources, require=["gpu"])
    assert (result.bundle, result.missing) == (None, ("gpu",))
    assert not sources[1].asked
    assert reasons(result)["tdx-quote"] is AbsenceReason.NOT_ASKED
    assert collected(sources).bundle is not None


def test_what_is_required_and_there_changes_nothing() -> None:
    every = known_parts(node())
    assert every == ("gpu", "fabric", "ccel", "tdx-quote")
    assert collected(node(), require=every).bundle == collected(node()).bundle


def test_a_required_quote_that_does_not_come_leaves_no_bundle() -> None:
    result = collected(node()[:3], require=["tdx-quote", "gpu"])
    assert (result.bundle, result.missing) == (None, ("tdx-quote",))


# --- the extension of RTMR3 ---

VALUE = sha384(b"rtmr3").digest()


def real_quote(rtmr3: bytes) -> Fake:
    """A quote whose RTMR3 is what it is told to be."""

    def make(report_data: bytes) -> bytes:
        evidence = SimPlatform().case(report_data=report_data).build()
        start, end = evidence.quote.span("body.rtmr3")
        data = bytearray(evidence.quote_bytes)
        data[start:end] = rtmr3
        return bytes(data)

    return quotes(make)


def test_rtmr3_is_extended_by_the_manifest_before_the_quote() -> None:
    registers, source = Extending(VALUE), real_quote(VALUE)
    result = collected([registers, source], extend_rtmr3=True, require=["rtmr3-extension"])
    assert result.bundle is not None
    assert registers.extended == [parse_bundle(result.bundle).manifest.sha384]
    assert (result.rtmr3, result.notes, result.missing) == (VALUE, (), ())


def test_rtmr3_is_left_alone_unless_that_is_asked_for() -> None:
    registers = Extending(VALUE)
    assert collected([registers, quotes()]).rtmr3 is None
    assert registers.extended == []


@pytest.mark.parametrize(
    "failure", [absence("other", AbsenceReason.NO_PERMISSION), OSError("broken"), SystemExit()]
)
def test_an_extension_that_fails_is_an_absence(failure: Absence | BaseException) -> None:
    result = collected([Extending(failure), quotes()], extend_rtmr3=True)
    assert set(manifest_of(result)[1]) == {"rtmr3-extension"}
    assert result.rtmr3 is None
    assert result.bundle is not None
    report_data = result.items[-1].data.removeprefix(b"quote ")
    assert bundle_findings(result.bundle)["BUNDLE-MANIFEST"] is State.PASS
    assert len(report_data) == 64
    required = collected([Extending(failure), quotes()], extend_rtmr3=True,
                         require=["rtmr3-extension"])  # fmt: skip
    assert (required.bundle, required.missing) == (None, ("rtmr3-extension",))


def test_an_extension_nobody_can_make_is_an_absence() -> None:
    result = collected(node(), extend_rtmr3=True)
    assert reasons(result) == {"rtmr3-extension": AbsenceReason.NOT_SUPPORTED}


def test_a_quote_without_the_extension_is_noticed() -> None:
    for source in (real_quote(bytes(48)), quotes()):
        result = collected([Extending(VALUE), source], extend_rtmr3=True)
        assert result.rtmr3 is None
        assert [note.label for note in result.notes] == ["rtmr3-extension"]
    again = collected([Extending(VALUE), real_quote(bytes(48))], extend_rtmr3=True,
                      require=["rtmr3-extension"])  # fmt: skip
    assert again.missing == ("rtmr3-extension",)


def test_an_extension_that_no_quote_follows_is_noticed() -> None:
    result = collected([Extending(VALUE)], extend_rtmr3=True)
    assert [note.label for note in result.notes] == ["rtmr3-extension"]
    assert reasons(result) == {"tdx-quote": AbsenceReason.NOT_PRESENT}


def test_nothing_is_extended_for_a_bundle_that_will_not_be() -> None:
    registers = Extending(VALUE)
    gpus = Fake("gpus", ["gpu"], [absence("gpu")])
    collected([registers, gpus, quotes()], extend_rtmr3=True, require=["gpu"])
    assert registers.extended == []


# --- progress and the account ---


def test_progress_tells_every_source_once_and_again() -> None:
    events: list[Event] = []
    threads: set[int] = set()

    def tell(event: Event) -> None:
        events.append(event)
        threads.add(threading.get_ident())

    result = collected([*node(), Extending(VALUE)], extend_rtmr3=True, progress=tell)
    begun = [event.source for event in events if event.run is None]
    ended = [event for event in events if event.run is not None]
    assert begun == ["gpus", "fabric", "logs", "registers", "RTMR3", "quotes"]
    assert sorted(begun) == sorted(event.source for event in ended)
    assert [event.done for event in ended] == [1, 2, 3, 4, 5, 6]
    assert {event.total for event in ended} == {5, 6}
    assert ended[-1].done == ended[-1].total
    assert threads == {threading.get_ident()}
    assert [run.source for run in result.runs] == begun
    assert (result.runs[0].items, result.runs[0].absences) == (2, 0)


def test_who_prepares_gets_the_nonce_before_anybody_is_asked() -> None:
    sources, told = node(), list[bytes]()

    def prepare(nonce: bytes) -> None:
        assert not any(source.asked for source in sources)
        told.append(nonce)

    result = collected(sources, prepare=prepare)
    assert told == [result.device_nonce]
