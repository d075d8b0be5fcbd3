"""One collection session: everybody asked at once, the quote last, one signed bundle.

1. A session key is made; it never leaves the memory of this process.  With the relying party's
   nonce it gives the nonce for all devices.
2. Devices and logs are asked, each source in a thread of its own.
3. The manifest is closed over what came, and what did not; it gives REPORTDATA.
4. If wished, RTMR3 is extended by the manifest's digest.
5. Sources of quotes are asked one after the other, until one gives a quote.
6. Binders, a TPM or an operator's key, are asked to cover the manifest as it is by now.
7. The session key signs everything, and is forgotten.

A source that hangs is left behind in its thread, which holds neither the others nor the end of
the process; what it says later is not heard.  A source that raises is an absence.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from ccverify._version import __version__
from ccverify.bundle.cose import KeySigner
from ccverify.bundle.manifest import OUTSIDE, QUOTE_LABEL, Gathered
from ccverify.bundle.package import Closed, Session, close_manifest, open_session, seal
from ccverify.collect.binders import Binder, BinderSource, check_binders
from ccverify.collect.collected import Collected, Event, Progress, SourceRun
from ccverify.collect.extension import Extend, Extender, Extension, no_extender
from ccverify.collect.merge import Note, checked, merge, part_of
from ccverify.collect.model import Absence, AbsenceReason, Ask, Item, Outcome, Source, Stage
from ccverify.collect.running import Reply, call_all, late_absence, raised_absence
from ccverify.collect.td_measurements import EXTENSION_LABEL
from ccverify.errors import EvidenceError, UsageError
from ccverify.tdx.quote import parse_quote

__all__ = [
    "COLLECTOR",
    "DEFAULT_TIMEOUT_S",
    "World",
    "collect_bundle",
    "known_parts",
]

COLLECTOR: Final = f"ccverify {__version__}"
DEFAULT_TIMEOUT_S: Final = 60.0

_SELF: Final = "ccverify"
_GRACE_S: Final = 2.0
"""Between the deadline a source is told and the moment it is left behind: it may have partial
results to hand over."""


def _new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP384R1())


@dataclass(frozen=True, slots=True)
class World:
    """What a session takes from outside, so that one can be played again.

    Attributes:
        new_key: makes the session key, P-384.
        clock: monotonic seconds.
        now: Unix seconds.
        deterministic: whether signatures take no randomness (RFC 6979).
        grace: seconds a source has after its deadline, to hand over what it got.
    """

    new_key: Callable[[], ec.EllipticCurvePrivateKey] = field(default=_new_key, repr=False)
    clock: Callable[[], float] = time.monotonic
    now: Callable[[], float] = time.time
    deterministic: bool = False
    grace: float = _GRACE_S


def known_parts(sources: Iterable[Source]) -> tuple[str, ...]:
    """Return the parts these sources can give, the quote last; what ``--only`` may name."""
    parts = {part: None for source in sources for part in source.gives if part != QUOTE_LABEL}
    return (*parts, QUOTE_LABEL)


def collect_bundle(
    nonce: bytes,
    sources: Sequence[Source],
    *,
    only: Collection[str] = (),
    require: Collection[str] = (),
    timeout: float = DEFAULT_TIMEOUT_S,
    extend_rtmr3: bool = False,
    binders: Sequence[Binder] = (),
    prepare: Callable[[bytes], None] | None = None,
    progress: Progress | None = None,
    world: World | None = None,
) -> Collected:
    """Hold one session.

    Args:
        nonce: the relying party's, exactly 32 bytes.
        sources: whom to ask.  Where two give the same part, the first counts.
        only: parts to ask for; empty: all.
        require: parts without which there shall be no bundle.  Of a part with several devices,
            all that were seen.
        timeout: seconds for each source.
        extend_rtmr3: whether to extend RTMR3 by the manifest's digest before the quote is made,
            through the first source that can (`Extender`).  There is no way back.
        binders: who binds the session key beside the quote, each under a label of its own.  One
            that fails is an absence in what is returned, and the bundle is without it: a manifest
            that it would have to cover cannot speak of it.
        prepare: is told the nonce for devices before any is asked, so that others can gather
            evidence with it that a source then takes; what it raises ends the session.
        progress: is told, in the calling thread, whenever a source was asked or is done with.
        world: clock, time and randomness; the real ones if None.

    Raises:
        UsageError: a nonce of another length, a part nobody here can give, two binders for one
            label, or more evidence than a bundle can hold.
    """
    parts = known_parts(sources)
    check_binders(binders)
    beside = [binder.label for binder in binders]
    _check_parts(parts, only, require, [*beside, *([EXTENSION_LABEL] if extend_rtmr3 else [])])
    if extend_rtmr3 and only and QUOTE_LABEL not in only:
        raise UsageError("RTMR3 is not extended without a quote to show it", where="--only",
                         expected=f"{QUOTE_LABEL} among the parts")  # fmt: skip
    work = _Work(nonce, sources, only or parts, timeout, progress, world or World())
    if prepare is not None:
        prepare(work.device_nonce)
    work.ask_devices()
    missing = work.missing(set(require) - {*OUTSIDE, EXTENSION_LABEL})
    if missing:
        # What cannot be undone, and what takes long, is not begun for nothing.
        work.without_quote(_not_asked(QUOTE_LABEL, "something else that is required is missing"))
        return work.result(missing)
    if extend_rtmr3:
        work.extend(next((s.extend for s in sources if isinstance(s, Extender)), no_extender))
    work.ask_for_quote()
    work.ask_binders(binders)
    return work.result(work.missing(set(require)))


def _check_parts(
    parts: Sequence[str], only: Collection[str], require: Collection[str], beside: Sequence[str]
) -> None:
    """See that options name parts there are; `beside` are those that --only says nothing of."""
    known = (*parts, *beside)
    for option, names, allowed in (
        ("--only", only, parts),
        ("--require", require, known),
        ("--require", set(require).difference(beside), only or known),
    ):
        for name in sorted(names):
            if name not in allowed:
                hint = "" if option == "--only" or name not in known else "; it is not in --only"
                raise UsageError(
                    f"{option} names a part that is not collected here",
                    expected=f"one of {', '.join(allowed)}",
                    found=f"{name[:80]!r}{hint}",
                    where=option,
                )


class _Work:
    """The state of one session."""

    def __init__(
        self,
        nonce: bytes,
        sources: Sequence[Source],
        wanted: Collection[str],
        timeout: float,
        progress: Progress | None,
        world: World,
    ) -> None:
        self._world = world
        self._started = world.clock()
        self._signer = KeySigner(world.new_key(), deterministic=world.deterministic)
        self._session: Session = open_session(nonce, self._signer.key)
        self._wanted = frozenset(wanted)
        self._timeout = timeout
        self._progress = progress
        self._left_out = [p for p in known_parts(sources) if p not in self._wanted]
        asked = [source for source in sources if self._wanted.intersection(source.gives)]
        self._devices = [source for source in asked if source.stage is not Stage.QUOTE]
        self._quotes = [source for source in asked if source.stage is Stage.QUOTE]
        self._total = len(asked)
        self._done = 0
        self._runs: list[SourceRun] = []
        self._gathered: list[Gathered] = []
        self._notes: list[Note] = []
        self._created = 0
        self._closed: Closed | None = None
        self._quote: Item | None = None
        self._bound: list[Item] = []
        self._rtmr3: bytes | None = None

    @property
    def device_nonce(self) -> bytes:
        """What devices are asked with."""
        return self._session.device_nonce

    def ask_devices(self) -> None:
        """Ask devices and logs, merge what they give and close the manifest."""
        replies = self._ask(self._devices, None)
        merged = merge([given for _, given in replies])
        self._gathered += merged.gathered
        self._notes += merged.notes
        self._gathered += self._unsaid()
        self._gathered += [
            self._stamped(_not_asked(part, "--only leaves it out"))
            for part in self._left_out
            if part != QUOTE_LABEL
        ]
        self._created = int(self._world.now())
        self._close()

    def extend(self, extend: Extend) -> None:
        """Extend RTMR3 by the digest of the manifest; if that fails, the manifest says so."""
        self._total += 1
        extension = Extension(extend, self._closed_manifest().manifest.sha384)
        ((_, given),) = self._ask([extension], None)
        if given:
            self._gathered += given[:1]
            self._close()
        else:
            self._rtmr3 = extension.value

    def ask_for_quote(self) -> None:
        """Ask one source after the other; without a quote, the manifest says so."""
        if QUOTE_LABEL not in self._wanted:
            return self.without_quote(_not_asked(QUOTE_LABEL, "--only leaves it out"))
        given: list[Gathered] = []
        for source in self._quotes:
            ((_, answers),) = self._ask([source], self._closed_manifest().report_data)
            given += (one for one in answers if one.outcome.label == QUOTE_LABEL)
            self._notes += (
                Note(one.outcome.label, one.outcome.source, "not used: the manifest was closed")
                for one in answers
                if one.outcome.label != QUOTE_LABEL
            )
            if any(isinstance(one.outcome, Item) for one in given):
                break
        merged = merge([given or [self._stamped(self._no_quote())]])
        self._notes += merged.notes
        (chosen,) = merged.gathered
        if isinstance(chosen.outcome, Absence):
            return self.without_quote(chosen.outcome)
        self._quote = chosen.outcome
        self._gathered.append(chosen)
        self._compare_rtmr3(chosen.outcome)
        return None

    def ask_binders(self, binders: Sequence[Binder]) -> None:
        """Let every binder cover the manifest, which stays as it is whatever they say."""
        session = self._session
        sources = [BinderSource(one, session.nonce, session.key.thumbprint) for one in binders]
        self._total += len(sources)
        for _, answers in self._ask(sources, None):
            self._gathered += answers
            self._bound += (one.outcome for one in answers if isinstance(one.outcome, Item))

    def _compare_rtmr3(self, quote: Item) -> None:
        """See that the quote has RTMR3 as it was extended; the manifest is closed by now."""
        if self._rtmr3 is None:
            return
        try:
            found = parse_quote(quote.data).report.rtmr3
        except EvidenceError as problem:
            text = f"the quote cannot be read: {problem.message}"
        else:
            if found == self._rtmr3:
                return
            text = f"the quote has another value: {self._rtmr3.hex()} became {found.hex()}"
        self._rtmr3 = None
        self._notes.append(Note(EXTENSION_LABEL, quote.source, f"RTMR3 was extended, but {text}"))

    def without_quote(self, absence: Absence) -> None:
        """Close the manifest anew, over the absence of the quote."""
        self._gathered.append(self._stamped(absence))
        if self._rtmr3 is not None:
            text = "RTMR3 was extended by the digest of a manifest that no quote followed"
            self._notes.append(Note(EXTENSION_LABEL, _SELF, text))
        self._close()

    def missing(self, required: Collection[str]) -> tuple[str, ...]:
        """Return those of the parts that are not there, or not completely."""
        gathered = [one.outcome for one in self._gathered]
        absent = {part_of(outcome.label) for outcome in gathered if isinstance(outcome, Absence)}
        there = {part_of(outcome.label) for outcome in gathered if isinstance(outcome, Item)}
        if self._rtmr3 is not None:
            there.add(EXTENSION_LABEL)
        return tuple(sorted(part for part in required if part in absent or part not in there))

    def result(self, missing: tuple[str, ...]) -> Collected:
        """Seal the bundle, unless something is missing."""
        sealed = None
        if not missing:
            closed = self._closed_manifest()
            sealed = seal(closed, self._quote, self._signer, binders=self._bound)
        return Collected(
            bundle=sealed,
            gathered=tuple(self._gathered),
            missing=missing,
            notes=tuple(self._notes),
            runs=tuple(self._runs),
            seconds=self._world.clock() - self._started,
            nonce=self._session.nonce,
            device_nonce=self._session.device_nonce,
            rtmr3=self._rtmr3,
        )

    # --- steps ---

    def _ask(
        self, sources: Sequence[Source], report_data: bytes | None
    ) -> list[tuple[Source, list[Gathered]]]:
        """Ask sources at once; return what each gave that is wanted, checked and stamped."""
        world, closed = self._world, self._closed
        ask = Ask(
            device_nonce=self._session.device_nonce,
            report_data=report_data,
            deadline=world.clock() + self._timeout,
            clock=world.clock,
            manifest_sha384=closed.manifest.sha384 if closed else None,
        )
        for source in sources:
            self._tell(source)
        answers: dict[int, tuple[SourceRun, list[Gathered]]] = {}

        def done(at: int, reply: Reply) -> None:
            answers[at] = self._answer(sources[at], reply)
            self._done += 1
            self._tell(sources[at], answers[at][0])

        call_all(
            [partial(source.collect, ask) for source in sources],
            seconds=self._timeout + world.grace,
            clock=world.clock,
            done=done,
        )
        self._runs += (answers[at][0] for at in range(len(sources)))
        return [(source, answers[at][1]) for at, source in enumerate(sources)]

    def _answer(self, source: Source, reply: Reply) -> tuple[SourceRun, list[Gathered]]:
        parts = [part for part in source.gives if part not in self._left_out]
        outcomes: list[Outcome] = []
        if reply.late:
            outcomes = [late_absence(part, source.name, self._timeout) for part in parts]
        elif reply.raised is not None:
            outcomes = [raised_absence(part, source.name, reply.raised) for part in parts]
        else:
            usable = [checked(outcome, parts[0], source.name) for outcome in reply.outcomes]
            outcomes = [one for one in usable if part_of(one.label) not in self._left_out]
        if source.stage is not Stage.QUOTE:
            outcomes = [_not_early(outcome, source.name) for outcome in outcomes]
        items = sum(isinstance(outcome, Item) for outcome in outcomes)
        absences = len(outcomes) - items
        run = SourceRun(source.name, source.stage, reply.seconds, items, absences)
        return run, [self._stamped(outcome) for outcome in outcomes]

    def _tell(self, source: Source, run: SourceRun | None = None) -> None:
        if self._progress is not None:
            self._progress(Event(source.name, source.stage, self._done, self._total, run))

    def _stamped(self, outcome: Outcome) -> Gathered:
        return Gathered(outcome, int(self._world.now()))

    def _close(self) -> None:
        self._closed = close_manifest(
            self._session,
            [one for one in self._gathered if one.outcome is not self._quote],
            collector=COLLECTOR,
            created=self._created,
        )

    def _closed_manifest(self) -> Closed:
        assert self._closed is not None  # noqa: S101  # devices were asked
        return self._closed

    def _unsaid(self) -> Iterator[Gathered]:
        """Absences of parts of which no source that was asked for them said a word."""
        said = {part_of(one.outcome.label) for one in self._gathered}
        for source in self._devices:
            for part in source.gives:
                if part in self._wanted and part not in said:
                    said.add(part)
                    text = f"{source.name} returned nothing about it"
                    remedy = "this is a bug in the source: report it, with what you ran"
                    yield self._stamped(
                        Absence(part, AbsenceReason.FAILED, text, remedy, source.name)
                    )

    def _no_quote(self) -> Absence:
        if self._quotes:
            names = ", ".join(source.name for source in self._quotes)
            text = f"no source of quotes said anything ({names})"
            return Absence(QUOTE_LABEL, AbsenceReason.FAILED, text, "report this", _SELF)
        text = "no source of quotes was asked"
        remedy = "run in an Intel TDX guest; `ccverify doctor` says what is missing"
        return Absence(QUOTE_LABEL, AbsenceReason.NOT_PRESENT, text, remedy, _SELF)


def _not_asked(part: str, why: str) -> Absence:
    remedy = "name it in --only too, or leave --only out" if "--only" in why else "see there"
    return Absence(part, AbsenceReason.NOT_ASKED, f"not asked for: {why}", remedy, _SELF)


def _not_early(outcome: Outcome, source: str) -> Outcome:
    """Keep what covers the manifest out of what it lists."""
    if outcome.label not in OUTSIDE:
        return outcome
    what = "a quote" if outcome.label == QUOTE_LABEL else outcome.label
    text = f"{source} gave {what} before there was anything for it to cover"
    remedy = "this is a bug in the source: report it, with what you ran"
    return Absence(f"early-{outcome.label}", AbsenceReason.FAILED, text, remedy, source)
