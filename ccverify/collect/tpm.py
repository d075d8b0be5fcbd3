"""Binding a session key by a quote of this host's TPM 2.0.

The key that signs is a persistent one that the user names, as a host enrolled for attestation has
one, or a primary key made anew from a fixed template: the same TPM derives the same key each time,
so a policy can name it too.  PCRs are read before the quote; where something is measured between
the two, both are done again.
"""

from __future__ import annotations

import errno
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Final

from ccverify.bundle.endorsement import tpm_qualifying_data
from ccverify.bundle.manifest import TPM_QUOTE_LABEL
from ccverify.bundle.tpm_item import encode_tpm_item
from ccverify.collect.binders import BindAsk
from ccverify.collect.files import Trouble, absence_of
from ccverify.collect.model import Absence, AbsenceReason, Item, ItemType, Outcome
from ccverify.collect.tpm_channel import (
    DEFAULT_DEVICE,
    Channel,
    TpmAddress,
    open_channel,
    parse_address,
)
from ccverify.collect.tpm_commands import ResponseError, Tpm
from ccverify.errors import EvidenceError, UsageError
from ccverify.tpm.attest import PcrSelection
from ccverify.tpm.quote import PcrValues, parse_tpm_quote
from ccverify.tpm.verify import HIERARCHIES, verify_tpm_quote
from ccverify.tpm.wire import BANKS, bank_name
from ccverify.trust.pkix import parse_pkix_pem

__all__ = ["DEFAULT_PCRS", "TpmBinder", "parse_pcr_selection", "tpm_binder"]

DEFAULT_PCRS: Final = "sha256:0-14"
"""Firmware, boot loader, kernel and what they measure: all PCRs that only a reset clears, but
those of debugging and of the operating system's own use."""

_SOURCE: Final = "TPM"
_ATTEMPTS: Final = 5
_MAX_INDEX: Final = 23
_PROBE_S: Final = 2.0
_PERSISTENT: Final = range(0x81000000, 0x82000000)
_SELECTION: Final = re.compile(r"([a-z0-9]+):([0-9]+(?:-[0-9]+)?(?:,[0-9]+(?:-[0-9]+)?)*)")

Open = Callable[[TpmAddress, Callable[[], float]], Channel]

_NOT_ALLOWED: Final[Trouble] = (
    AbsenceReason.NO_PERMISSION,
    "the TPM may not be used",
    "run as root or as a member of the group `tss`; give the device to a container",
)
_NOT_THERE: Final[Trouble] = (
    AbsenceReason.NOT_PRESENT,
    "there is no such TPM",
    "see `ls /dev/tpm*`: switch the TPM on in the firmware's settings, load its driver "
    "(`modprobe tpm_tis`, `modprobe tpm_crb`), or name another with --tpm",
)
_NOBODY: Final[Trouble] = (
    AbsenceReason.NOT_PRESENT,
    "nothing answers there",
    "start the TPM's service, or name another host and port",
)
_TROUBLES: Final[dict[int, Trouble]] = {
    errno.ENOENT: _NOT_THERE,
    errno.ENODEV: _NOT_THERE,
    errno.ENXIO: _NOT_THERE,
    errno.EPERM: _NOT_ALLOWED,
    errno.EACCES: _NOT_ALLOWED,
    errno.ECONNREFUSED: _NOBODY,
    errno.EHOSTUNREACH: _NOBODY,
    errno.ENETUNREACH: _NOBODY,
    errno.EBUSY: (
        AbsenceReason.FAILED,
        "another program holds the TPM",
        "use the resource manager's device, /dev/tpmrm0, which many may use at once",
    ),
}
_TPM_TROUBLES: Final[dict[int, Trouble]] = {
    0x01E: (
        AbsenceReason.NOT_SUPPORTED,
        "a TPM 1.2 answers",
        "use a TPM 2.0; some firmware can switch the TPM over",
    ),
    0x085: (
        AbsenceReason.NOT_SUPPORTED,
        "the hierarchy is switched off, or holds no such key",
        "use another hierarchy, or name a persistent key",
    ),
    0x08B: (
        AbsenceReason.NOT_PRESENT,
        "the TPM has no key under this handle",
        "see `tpm2_getcap handles-persistent`, and name one that can sign",
    ),
    0x08E: (
        AbsenceReason.NO_PERMISSION,
        "the TPM wants a password for this key or hierarchy",
        "name a persistent attestation key that has none, or use the other hierarchy",
    ),
    0x0A2: (
        AbsenceReason.NO_PERMISSION,
        "the TPM wants a password for this key or hierarchy",
        "name a persistent attestation key that has none, or use the other hierarchy",
    ),
    0x100: (
        AbsenceReason.FAILED,
        "the TPM was not started",
        "the firmware has to start it (TPM2_Startup); an emulator does with `startup-clear`",
    ),
    0x902: (
        AbsenceReason.FAILED,
        "the TPM has no room for one more key",
        "use the resource manager's device, /dev/tpmrm0, or flush what was left in the TPM "
        "(`tpm2_flushcontext -t`)",
    ),
    0x921: (
        AbsenceReason.FAILED,
        "the TPM is in lockout after wrong passwords",
        "wait, or end the lockout (`tpm2_dictionarylockout`)",
    ),
}
"""TPM_RC → what it means here: BAD_TAG, HIERARCHY, HANDLE, AUTH_FAIL, BAD_AUTH, INITIALIZE,
OBJECT_MEMORY, LOCKOUT (TPM 2.0 Part 2 §6.6.3)."""


class _Missing(Exception):
    """There will be no quote; `absence` says why."""

    def __init__(self, absence: Absence) -> None:
        super().__init__(absence.text)
        self.absence = absence


class TpmBinder:
    """Quotes by a TPM 2.0.

    Args:
        address: of the TPM.
        selection: which PCRs, each bank once.
        handle: of a persistent signing key; None: a primary key is made.
        hierarchy: of the key that is made: ``endorsement`` or ``owner``.
        chain: PEM certificates for the key, its own first; None if there are none.
        opened: opens a way to the TPM.
    """

    name = _SOURCE
    label = TPM_QUOTE_LABEL

    def __init__(
        self,
        address: TpmAddress,
        selection: Sequence[PcrSelection],
        *,
        handle: int | None = None,
        hierarchy: str = "endorsement",
        chain: bytes | None = None,
        opened: Open = open_channel,
    ) -> None:
        self._address = address
        self._selection = tuple(selection)
        self._handle = handle
        self._hierarchy = hierarchy
        self._chain = chain
        self._open = opened

    def bind(self, ask: BindAsk) -> Outcome:
        """Quote the PCRs over nonce, session key and manifest."""
        data = tpm_qualifying_data(ask.nonce, ask.thumbprint, ask.manifest_sha384)
        doing = "opening it"
        try:
            with self._channel(lambda: ask.remaining) as tpm:
                doing = "asking it"
                return self._item(tpm, data)
        except _Missing as missing:
            return missing.absence
        except ResponseError as refused:
            return self._refused(refused)
        except TimeoutError:
            text = f"{self._place} did not answer in time while {doing}"
            remedy = "give more time (--timeout); a TPM that tests itself needs some seconds"
            return self._absent(AbsenceReason.TIMEOUT, text, remedy)
        except EvidenceError as problem:
            text = f"{self._place} gave what is no TPM 2.0 response: {problem.summary}"
            remedy = "see that a TPM 2.0 answers there, not a TPM 1.2 or something else"
            return self._absent(AbsenceReason.FAILED, text, remedy)
        except OSError as problem:
            return self._trouble(problem, doing)

    def diagnose(self) -> Sequence[Absence]:
        """See that the TPM can be opened and has the PCRs; nothing is signed."""
        end = time.monotonic() + _PROBE_S
        try:
            with self._channel(lambda: max(0.0, end - time.monotonic())) as tpm:
                self._pcrs(tpm)
                if self._handle is not None:
                    tpm.read_public(self._handle)
        except _Missing as missing:
            return (missing.absence,)
        except ResponseError as refused:
            return (self._refused(refused),)
        except EvidenceError as problem:
            text = f"{self._place} gave what is no TPM 2.0 response: {problem.summary}"
            return (self._absent(AbsenceReason.FAILED, text, "see what answers there"),)
        except OSError as problem:  # TimeoutError is one
            return (self._trouble(problem, "opening it"),)
        return ()

    # --- steps ---

    @contextmanager
    def _channel(self, remaining: Callable[[], float]) -> Iterator[Tpm]:
        channel = self._open(self._address, remaining)
        try:
            yield Tpm(channel, remaining)
        finally:
            channel.close()

    @contextmanager
    def _key(self, tpm: Tpm) -> Iterator[tuple[int, bytes]]:
        """Yield handle and public area of the key; one that was made is given up again."""
        if self._handle is not None:
            yield self._handle, tpm.read_public(self._handle)
            return
        made, public = tpm.create_attestation_key(self._hierarchy)
        try:
            yield made, public
        finally:
            # The resource manager gives it up when the device is closed, at the latest.
            with suppress(OSError, ResponseError, EvidenceError):
                tpm.flush(made)

    def _item(self, tpm: Tpm, data: bytes) -> Item:
        with self._key(tpm) as (handle, public):
            for _ in range(_ATTEMPTS):
                pcrs = self._pcrs(tpm)
                quoted = tpm.quote(handle, data, self._selection)
                read = parse_tpm_quote(quoted.attest, quoted.signature, public, self._chain, pcrs)
                result = verify_tpm_quote(read, data)
                if not any(problem.startswith("PCRs:") for problem in result.problems):
                    break
        problems = list(result.problems)
        if read.certificates and read.certificates[0].public_key != read.public.public_key:
            problems.append("certificate: the first one given is for another key")
        if problems:
            self._missing(
                AbsenceReason.FAILED,
                f"the quote of {self._place} would prove nothing: {'; '.join(problems)}",
                "let nothing extend these PCRs meanwhile, or quote others"
                if problems[0].startswith("PCRs:")
                else "name a restricted signing key made in this TPM, and its own certificate",
            )
        item = encode_tpm_item(quoted.attest, quoted.signature, public, self._chain, pcrs)
        return Item(self.label, ItemType.TPM_QUOTE, item, f"{_SOURCE} {self._place}"[:128])

    def _pcrs(self, tpm: Tpm) -> PcrValues:
        found = tpm.read_pcrs(self._selection)
        for one in self._selection:
            lacking = [str(index) for index in one.indices if index not in found[one.alg]]
            if lacking:
                self._missing(
                    AbsenceReason.NOT_SUPPORTED,
                    f"{self._place} has no PCR {', '.join(lacking)} in its bank "
                    f"{bank_name(one.alg)}",
                    "see `tpm2_getcap pcrs`; name other PCRs (--tpm-pcrs), or switch the bank on "
                    "in the firmware's settings",
                )
        return MappingProxyType({bank_name(alg): values for alg, values in found.items()})

    # --- absences ---

    @property
    def _place(self) -> str:
        address = self._address
        return str(address) if isinstance(address, Path) else f"{address[0]}:{address[1]}"

    def _missing(self, reason: AbsenceReason, text: str, remedy: str) -> None:
        raise _Missing(self._absent(reason, text, remedy))

    def _absent(self, reason: AbsenceReason, text: str, remedy: str) -> Absence:
        return Absence(self.label, reason, text, remedy, _SOURCE)

    def _refused(self, refused: ResponseError) -> Absence:
        known = _TPM_TROUBLES.get(refused.code)
        if known is None:
            remedy = "look the code up with `tpm2_rc_decode`"
            return self._absent(AbsenceReason.FAILED, f"{self._place}: {refused}", remedy)
        reason, words, remedy = known
        return self._absent(reason, f"{words}: {refused} at {self._place}", remedy)

    def _trouble(self, problem: OSError, doing: str) -> Absence:
        return absence_of(problem, _TROUBLES, label=self.label, source=_SOURCE,
                          doing=f"{doing} ({self._place})", otherwise=_other_trouble)  # fmt: skip


def _other_trouble(problem: OSError) -> Trouble:
    if isinstance(problem, TimeoutError):
        return AbsenceReason.TIMEOUT, "it did not answer in time", "see what answers there"
    return (AbsenceReason.FAILED, "the way to the TPM is broken",
            "look at the kernel's log (`dmesg`), or at the service that answers")  # fmt: skip


# --- options ------------------------------------------------------------------------------------


def tpm_binder(
    address: str = str(DEFAULT_DEVICE),
    *,
    handle: str | None = None,
    hierarchy: str = "endorsement",
    chain: bytes | None = None,
    pcrs: str = DEFAULT_PCRS,
) -> TpmBinder:
    """Return a binder for what a user says.

    Args:
        address: a device, a unix socket (both by absolute path), or ``host:port``.
        handle: of a persistent signing key: ``0x81010001``; None: a primary key is made.
        hierarchy: of the key that is made: ``endorsement`` or ``owner``.
        chain: PEM certificates for the key, its own first.
        pcrs: as `parse_pcr_selection` has it.

    Raises:
        UsageError: one of them is nothing that can be used.
    """
    found = parse_address(address)
    if found is None:
        raise UsageError("TPM is named wrongly", found=repr(address)[:100],
                         expected="/dev/tpmrm0, the path of a socket, or host:port")  # fmt: skip
    if hierarchy not in HIERARCHIES:
        raise UsageError("hierarchy is not known", found=repr(hierarchy)[:40],
                         expected=", ".join(HIERARCHIES))  # fmt: skip
    if chain is not None:
        parse_pkix_pem(chain, UsageError)
    return TpmBinder(
        found,
        parse_pcr_selection(pcrs),
        handle=None if handle is None else _handle(handle),
        hierarchy=hierarchy,
        chain=chain,
    )


def _handle(text: str) -> int:
    if re.fullmatch(r"0x[0-9a-fA-F]{8}", text) and int(text, 16) in _PERSISTENT:
        return int(text, 16)
    raise UsageError("handle of a persistent key is wrong", found=repr(text)[:40],
                     expected="0x81000000 to 0x81ffffff")  # fmt: skip


def parse_pcr_selection(text: str) -> tuple[PcrSelection, ...]:
    """Parse ``sha256:0-7,14+sha384:0``: banks, and indices from 0 to 23 or ranges of them.

    Raises:
        UsageError: another form, an unknown bank or one twice, no bank but SHA-1, or an index
            that no TPM of a PC has.
    """
    found: dict[int, PcrSelection] = {}
    for part in text.split("+"):
        match = _SELECTION.fullmatch(part)
        alg = BANKS.get(match[1]) if match else None
        if match is None or alg is None or alg in found or len(part) > 200:
            raise UsageError("PCRs are named wrongly", found=repr(part)[:100],
                             expected=f"BANK:INDEX,FIRST-LAST with each of {', '.join(BANKS)} "
                             "once, and + between banks")  # fmt: skip
        found[alg] = PcrSelection(alg, _indices(match[2]))
    if set(found) == {BANKS["sha1"]}:
        raise UsageError("PCRs of SHA-1 alone prove nothing", expected="another bank too")
    return tuple(found.values())


def _indices(text: str) -> tuple[int, ...]:
    indices: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        if len(first) > 2 or len(last) > 2 or not int(first) <= int(last or first) <= _MAX_INDEX:
            raise UsageError("PCR index is wrong", found=part[:40],
                             expected=f"0 to {_MAX_INDEX}, a range from less to more")  # fmt: skip
        indices.update(range(int(first), int(last or first) + 1))
    return tuple(sorted(indices))
